#include "base/queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

int queue_init(struct queue *q, size_t item_bytes, size_t capacity, enum queue_policy policy,
               void (*drop)(void *ctx, void *item), void *drop_ctx, struct err *err)
{
    *q = (struct queue){
        .item_bytes = item_bytes, .capacity = capacity, .policy = policy, .drop = drop, .drop_ctx = drop_ctx, .event_fd = -1};
    assert(item_bytes > 0 && item_bytes <= QUEUE_ITEM_MAX && capacity > 0);
    pthread_mutex_init(&q->lock, NULL);
    clock_cond_init(&q->changed);
    q->ring = calloc(capacity, item_bytes);
    q->spare = calloc(1, item_bytes);
    if (!q->ring || !q->spare)
        return err_set(err, ERR_NOMEM, "out of memory: a queue of %zu items", capacity);
    q->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->event_fd < 0)
        return err_set_errno(err, ERR_IO, "eventfd");
    return 0;
}

void queue_release(struct queue *q)
{
    if (!q->item_bytes)
        return;
    while (q->drop && q->ring && q->spare && queue_pop(q, q->spare, 0) == 0)
        q->drop(q->drop_ctx, q->spare);
    if (q->event_fd >= 0)
        close(q->event_fd);
    pthread_cond_destroy(&q->changed);
    pthread_mutex_destroy(&q->lock);
    free(q->ring);
    free(q->spare);
    *q = (struct queue){.event_fd = -1};
}

/* under lock: make the eventfd agree with "there is something to see" */
static void event_raise(struct queue *q)
{
    const uint64_t one = 1;
    if (q->event_fd >= 0 && write(q->event_fd, &one, sizeof one) < 0)
        assert(errno == EAGAIN); /* the counter is full, hence readable */
}

static void event_lower(struct queue *q)
{
    uint64_t n;
    if (q->event_fd >= 0 && read(q->event_fd, &n, sizeof n) < 0)
        assert(errno == EAGAIN);
}

int queue_push(struct queue *q, const void *item)
{
    unsigned char dropped[QUEUE_ITEM_MAX]; /* two pushers may drop at once: each has its own copy */
    bool has_dropped = false;
    pthread_mutex_lock(&q->lock);
    if (q->closed) {
        pthread_mutex_unlock(&q->lock);
        return ERR_STATE;
    }
    if (q->count == q->capacity) {
        if (q->policy == QUEUE_REFUSE) {
            pthread_mutex_unlock(&q->lock);
            return ERR_FULL;
        }
        if (q->drop) {
            memcpy(dropped, q->ring + q->head * q->item_bytes, q->item_bytes);
            has_dropped = true;
        }
        q->head = (q->head + 1) % q->capacity;
        q->count--;
        q->dropped++;
    }
    memcpy(q->ring + (q->head + q->count) % q->capacity * q->item_bytes, item, q->item_bytes);
    if (q->count++ == 0)
        event_raise(q);
    pthread_cond_signal(&q->changed);
    pthread_mutex_unlock(&q->lock);
    if (has_dropped)
        q->drop(q->drop_ctx, dropped);
    return 0;
}

int queue_pop(struct queue *q, void *ret_item, int64_t timeout_ns)
{
    const int64_t until_ns = timeout_ns > 0 ? clock_system_ns() + timeout_ns : 0;
    int rc = 0;
    pthread_mutex_lock(&q->lock);
    while (q->count == 0 && !q->closed && rc == 0) {
        if (timeout_ns == 0)
            rc = ERR_AGAIN;
        else if (timeout_ns < 0)
            pthread_cond_wait(&q->changed, &q->lock);
        else if (!clock_cond_wait_until(&q->changed, &q->lock, until_ns))
            rc = q->count || q->closed ? 0 : ERR_TIMEOUT;
    }
    if (rc == 0 && q->count == 0)
        rc = ERR_STATE;
    if (rc == 0) {
        memcpy(ret_item, q->ring + q->head * q->item_bytes, q->item_bytes);
        q->head = (q->head + 1) % q->capacity;
        if (--q->count == 0 && !q->closed)
            event_lower(q);
    }
    pthread_mutex_unlock(&q->lock);
    return rc;
}

void queue_close(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    event_raise(q);
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
}

int queue_fd(const struct queue *q)
{
    return q->event_fd;
}

uint64_t queue_dropped(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    const uint64_t n = q->dropped;
    pthread_mutex_unlock(&q->lock);
    return n;
}

size_t queue_count(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    const size_t n = q->count;
    pthread_mutex_unlock(&q->lock);
    return n;
}
