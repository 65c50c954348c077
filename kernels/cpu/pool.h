/*
 * pool - worker threads of the CPU device: run a function over many small items.
 *
 * An op cuts its work into items (much more of them than threads, since the machine also decodes video and a thread may lose
 * its core at any moment) and calls pool_run. Each thread walks through a run of neighbours, which memory likes; who is done takes half of what another has left, so that a slow thread
 * delays only the item it holds. Nobody waits for a worker that did not take part.
 *
 * Waiting is a short bounded spin (ops of one step follow each other within microseconds), then a sleep in the kernel: an idle
 * pool burns nothing.
 *
 * Life cycle: pool_open -> pool_run ... -> pool_close.
 * Threads: pool_run from one thread at a time is the fast case; a second caller meanwhile runs its items alone, in its own
 * thread (results do not depend on it). Memory: allocated at open.
 */
#ifndef HERON_KERNELS_CPU_POOL_H
#define HERON_KERNELS_CPU_POOL_H

#include <stdint.h>

#include "base/err.h"

struct pool;

/* One item: `item` in 0 .. n - 1; `thread` in 0 .. threads - 1 is not shared with any other item in flight of this run. */
typedef void (*pool_fn)(void *ctx, int32_t item, int thread);

/*
 * threads  number of threads including the caller, 1 .. 1024; 0: one per core this process may use.
 * Errors: ERR_NOMEM, ERR_IO (a thread cannot be created).
 */
int pool_open(int threads, struct pool **ret_pool, struct err *err);

/* No pool_run may be in flight. Takes NULL. */
void pool_close(struct pool *pool);

int pool_threads(const struct pool *pool);

/* Run fn over all items and return when all are done; their writes are then visible to the caller. */
void pool_run(struct pool *pool, int32_t n_items, pool_fn fn, void *ctx);

#endif
