/*
 * ring - a text file of the last day, a line a second, that is there after a power cut: what the box was doing when it died.
 *
 * Lines have a fixed length and a growing number in front; line number i stands at place i - 1 modulo their count, so the file never grows and `sort FILE` puts it in order. Each
 * line is synced by a thread of its own: a disk that is slow or broken holds nobody up, and lines that it cannot take are counted.
 *
 * Life cycle: ring_open -> ring_push from any thread -> ring_close. Threads: one writer inside. Memory: a queue of RING_QUEUE lines.
 */
#ifndef HERON_APPLIANCE_RING_H
#define HERON_APPLIANCE_RING_H

#include <stdint.h>

#include "base/err.h"

#define RING_LINE  256   /* bytes, the number in front and the newline included */
#define RING_LINES 86400 /* a day */
#define RING_QUEUE 60

struct ring;

/* n_lines 0: RING_LINES. The file is opened by the writer; one that cannot be opened is tried again every minute. Errors: ERR_NOMEM, ERR_IO (thread). */
int ring_open(const char *path, uint64_t n_lines, struct ring **ret_ring, struct err *err);

/* Never waits. Text that is too long is cut; a full queue loses its oldest line. */
void ring_push(struct ring *ring, const char *text);

/* Lines that were lost, and why the last one was ("": none; cap 0: not asked for). Any thread. */
uint64_t ring_lost(struct ring *ring, char *ret_why, size_t cap);

/* Writes what is queued, for a second at most, then ends; a writer that hangs in the disk is left behind with its memory. Takes NULL. */
void ring_close(struct ring *ring);

#endif
