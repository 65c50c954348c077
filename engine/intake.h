/*
 * intake - the bytes of tensors, taken in the order in which they lie in their files, while the next ones are being read.
 *
 * Reading and packing a model must not take turns: reader threads fill a ring of pieces ahead of the one thread that takes them. Files are read past the page cache
 * (O_DIRECT): weights are kept once, in the device's layout, and the cache keeps what it held before. Where a file system refuses that, the pieces are read in the ordinary way and
 * dropped from the cache behind us; nobody needs to know. Stretches of a file that hold no wanted tensor are not read.
 *
 * Life cycle: intake_open -> intake_take until every tensor is taken -> intake_finish -> intake_close; close at any time gives up what is left.
 *
 * Threads: one owner makes all calls. Readers are the intake's own and end with it; close waits for reads that are under way (a piece each).
 * Memory: INTAKE_RING_BYTES, and a row of INTAKE_UNIT_BYTES at most beside it; of small models less is touched. The gguf and its tensors are borrowed until close. A gguf in memory is
 * handed out in place, without threads.
 */
#ifndef HERON_ENGINE_INTAKE_H
#define HERON_ENGINE_INTAKE_H

#include "engine/gguf.h"

#define INTAKE_PIECE_BYTES ((size_t)1 << 20)
#define INTAKE_RING_BYTES  (8 * INTAKE_PIECE_BYTES)
#define INTAKE_UNIT_BYTES  (4 * INTAKE_PIECE_BYTES) /* longest unit that can be taken */

struct intake;

/*
 * Begin to read. tensors [n]: sorted by gguf_compare_places, none twice, each of a known type; the list is copied.
 * Errors: ERR_NOMEM, ERR_IO (a thread cannot be started).
 */
int intake_open(const struct gguf *g, const struct gguf_tensor *const *tensors, size_t n, struct intake **ret_intake,
                struct err *err);

/*
 * The next bytes of the tensor at hand: whole units, as many as have arrived and at most INTAKE_UNIT_BYTES, at least one; or what is left of the tensor, where that is less than a
 * unit. The first take of a tensor follows the last one of the tensor before it. Blocks until there is a unit.
 *
 * unit       bytes that belong together (a row, or some), 1 .. INTAKE_UNIT_BYTES
 * ret_bytes  borrowed until the next call; unaligned
 *
 * Errors: ERR_IO, ERR_FORMAT (the file became shorter), both with tensor, file and offset; the intake is of no more use then.
 */
int intake_take(struct intake *in, size_t unit, const void **ret_bytes, size_t *ret_n, struct err *err);

/* Everything was taken: are the files still those whose headers were read? ERR_FORMAT: one was written to meanwhile. */
int intake_finish(struct intake *in, struct err *err);

/* Takes NULL. Of the files, the system's cache keeps nothing. */
void intake_close(struct intake *in);

/* Read a file's tensors and keep nothing, `most_bytes` of them at most: what the disk gives. *ret_bytes: how many they were. Errors: all of the above. */
int intake_drain(const struct gguf *g, uint64_t most_bytes, uint64_t *ret_bytes, struct err *err);

#endif
