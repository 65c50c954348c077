#include "base/arena.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int arena_init(struct arena *a, size_t capacity_bytes, struct err *err)
{
    *a = (struct arena){0};
    const size_t size = arena_round(capacity_bytes ? capacity_bytes : 1);
    void *p = NULL;
    if (size < capacity_bytes || posix_memalign(&p, ARENA_ALIGN, size) != 0)
        return err_set(err, ERR_NOMEM, "out of memory: an arena of %zu bytes", capacity_bytes);
    memset(p, 0, size);
    a->base = p;
    a->capacity_bytes = size;
    return 0;
}

void arena_release(struct arena *a)
{
    free(a->base);
    *a = (struct arena){0};
}

void *arena_alloc(struct arena *a, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || arena_round(bytes) < bytes)
        return NULL;
    bytes = arena_round(bytes);
    if (bytes > a->capacity_bytes - a->used_bytes)
        return NULL;
    void *p = a->base + a->used_bytes;
    a->used_bytes += bytes;
    if (a->used_bytes > a->high_water_bytes)
        a->high_water_bytes = a->used_bytes;
    return p;
}

void arena_reset(struct arena *a, size_t mark)
{
    assert(mark <= a->used_bytes);
    a->used_bytes = mark;
}
