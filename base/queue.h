/*
 * queue - a thread's bounded inbox: items of one fixed size, copied in and out.
 *
 * Life cycle: queue_init -> push from any thread, pop from the owner (poll queue_fd or block in queue_pop) ->
 * queue_close from anywhere (pushes fail from now on, what is queued can still be popped) -> queue_release when no
 * thread uses it any more.
 *
 * What happens when it is full is chosen at init: refuse the new item, or drop the oldest (a queue of length one that drops
 * the oldest is a "latest only" slot). Drops are counted, and a dropped item is handed to a callback that can
 * unref what it holds; the callback runs outside the lock, on the pushing thread.
 *
 * Threads: every function may be called from any thread; one mutex inside, never held while calling out.
 * Memory: the ring is allocated at init; push and pop allocate nothing.
 */
#ifndef HERON_BASE_QUEUE_H
#define HERON_BASE_QUEUE_H

#include <pthread.h>
#include <stdint.h>

#include "base/err.h"

#define QUEUE_ITEM_MAX 512 /* bytes of one item; larger things travel by pointer */

enum queue_policy {
    QUEUE_REFUSE,      /* push returns ERR_FULL; the item stays with the caller */
    QUEUE_DROP_OLDEST, /* push always succeeds; the oldest item goes to the drop callback */
};

struct queue {
    /* immutable after init */
    size_t item_bytes;
    size_t capacity;
    enum queue_policy policy;
    void (*drop)(void *ctx, void *item);
    void *drop_ctx;
    int event_fd;
    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned char *ring;
    unsigned char *spare; /* one item, for handing a dropped item out of the lock */
    size_t head, count;
    uint64_t dropped;
    bool closed;
};

/* `drop` may be NULL. Errors: ERR_NOMEM, ERR_IO (eventfd). On failure the queue is releasable. */
int queue_init(struct queue *q, size_t item_bytes, size_t capacity, enum queue_policy policy,
               void (*drop)(void *ctx, void *item), void *drop_ctx, struct err *err);

/* Free the ring; items still queued go to the drop callback first. */
void queue_release(struct queue *q);

/* Copy *item in. 0, ERR_FULL (QUEUE_REFUSE), or ERR_STATE after close (the item stays with the caller). */
int queue_push(struct queue *q, const void *item);

/*
 * Copy the oldest item to *ret_item. timeout_ns: 0 does not wait, negative waits for ever.
 * 0, ERR_AGAIN (nothing there, not waiting), ERR_TIMEOUT, or ERR_STATE (closed and empty).
 */
int queue_pop(struct queue *q, void *ret_item, int64_t timeout_ns);

/* Wake every waiter and refuse further pushes. */
void queue_close(struct queue *q);

/* An eventfd that is readable while the queue is not empty (or closed): for poll(). Do not read it; pop does. */
int queue_fd(const struct queue *q);

/* How many items were dropped since init, and how many are queued now. */
uint64_t queue_dropped(struct queue *q);
size_t queue_count(struct queue *q);

#endif
