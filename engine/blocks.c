#include "engine/blocks.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BLOCKS_KEEP false
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define BLOCKS_KEEP false
#endif
#ifndef BLOCKS_KEEP
#define BLOCKS_KEEP true
#endif

#define CLASSES 128 /* the largest is 7 * 2^35 bytes */

/* In front of each piece. */
struct head {
    _Alignas(16) struct blocks *pool;
    union {
        struct head *next; /* kept: the next of its class */
        size_t size_class; /* in use */
    };
};

struct blocks {
    pthread_mutex_t mutex; /* guards all below */
    struct head *kept[CLASSES];
    size_t n_out;
    bool is_closed;
};

_Static_assert(sizeof(struct head) == 16, "pieces are aligned as malloc's are");

static size_t class_bytes(size_t size_class)
{
    return (4 + size_class % 4) << (size_class / 4 + 4);
}

/* The smallest class of that size; CLASSES: there is none. */
static size_t class_of(size_t bytes)
{
    size_t size_class = 0;
    while (size_class < CLASSES && class_bytes(size_class) < bytes)
        size_class++;
    return size_class;
}

int blocks_open(struct blocks **ret_blocks, struct err *err)
{
    struct blocks *b = calloc(1, sizeof *b);
    if (!b || pthread_mutex_init(&b->mutex, NULL) != 0) {
        free(b);
        return err_set(err, ERR_NOMEM, "out of memory: the pool of jobs");
    }
    *ret_blocks = b;
    return 0;
}

static void destroy(struct blocks *b)
{
    pthread_mutex_destroy(&b->mutex);
    free(b);
}

void blocks_close(struct blocks *b)
{
    if (!b)
        return;
    pthread_mutex_lock(&b->mutex);
    for (size_t c = 0; c < CLASSES; c++)
        for (struct head *h; (h = b->kept[c]) != NULL;) {
            b->kept[c] = h->next;
            free(h);
        }
    b->is_closed = true;
    const bool is_last = b->n_out == 0;
    pthread_mutex_unlock(&b->mutex);
    if (is_last)
        destroy(b);
}

void *blocks_take(struct blocks *b, size_t bytes)
{
    const size_t size_class = class_of(bytes);
    if (size_class == CLASSES)
        return NULL;
    pthread_mutex_lock(&b->mutex);
    struct head *h = b->kept[size_class];
    if (h)
        b->kept[size_class] = h->next;
    b->n_out++;
    pthread_mutex_unlock(&b->mutex);
    if (!h && !(h = malloc(sizeof *h + class_bytes(size_class)))) {
        pthread_mutex_lock(&b->mutex);
        b->n_out--;
        pthread_mutex_unlock(&b->mutex);
        return NULL;
    }
    h->pool = b;
    h->size_class = size_class;
    return h + 1;
}

void *blocks_take_zeroed(struct blocks *b, size_t bytes)
{
    void *p = blocks_take(b, bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

void blocks_put(void *piece)
{
    if (!piece)
        return;
    struct head *h = (struct head *)piece - 1;
    struct blocks *b = h->pool;
    pthread_mutex_lock(&b->mutex);
    const bool keep = BLOCKS_KEEP && !b->is_closed;
    if (keep) {
        const size_t size_class = h->size_class;
        h->next = b->kept[size_class];
        b->kept[size_class] = h;
    }
    b->n_out--;
    const bool is_last = b->is_closed && b->n_out == 0;
    pthread_mutex_unlock(&b->mutex);
    if (!keep)
        free(h);
    if (is_last)
        destroy(b);
}
