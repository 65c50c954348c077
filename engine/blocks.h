/*
 * blocks - memory that comes and goes with jobs: pieces of the heap that are kept for the next job when one is done with them.
 *
 * A job's tables, resized pictures, answer and result differ in size from job to job, but an appliance asks the same questions for years. So a piece that is
 * given back is not freed but kept in the list of its size class (four classes to each doubling), and once every kind of job has been seen nothing is asked of
 * the heap any more. What is kept is at most what was ever in use at the same time, class by class, plus a quarter.
 *
 * Life cycle: blocks_open -> blocks_take and blocks_put -> blocks_close, which may come before the last piece is back: that piece then takes the pool along.
 * Threads: any; one mutex. Memory: from malloc. Under AddressSanitizer nothing is kept, so that it sees uses of what was given back.
 */
#ifndef HERON_ENGINE_BLOCKS_H
#define HERON_ENGINE_BLOCKS_H

#include <stddef.h>

#include "base/err.h"

struct blocks;

/* Errors: ERR_NOMEM. */
int blocks_open(struct blocks **ret_blocks, struct err *err);

/* Takes NULL. */
void blocks_close(struct blocks *blocks);

/* A piece of at least `bytes`, aligned to 16; its content is undefined. NULL: out of memory. */
void *blocks_take(struct blocks *blocks, size_t bytes);

/* The same, all zero. */
void *blocks_take_zeroed(struct blocks *blocks, size_t bytes);

/* Back to the pool that it came from. Takes NULL. */
void blocks_put(void *piece);

#endif
