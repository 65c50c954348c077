/*
 * arena - memory with one lifetime: bump allocation, freed in one call.
 *
 * Life cycle: arena_init with a capacity (one allocation, 64-byte aligned, zeroed) -> arena_alloc as often as wanted
 * -> optionally arena_mark / arena_reset to a mark for step scratch -> arena_release. An arena never grows: capacity
 * is worked out beforehand, and running out is an error with figures. high_water tells how much was really used.
 *
 * Threads: one owner at a time. Memory: what arena_alloc returns belongs to the arena and dies with it.
 */
#ifndef HERON_BASE_ARENA_H
#define HERON_BASE_ARENA_H

#include "base/err.h"

#define ARENA_ALIGN 64 /* every allocation starts on a cache line, as vector kernels want */

struct arena {
    unsigned char *base;
    size_t capacity_bytes;
    size_t used_bytes;
    size_t high_water_bytes;
};

/* Round a size up to the arena's alignment; sum these to get a capacity. */
static inline size_t arena_round(size_t bytes)
{
    return (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

/* Take `capacity_bytes` of zeroed memory. Errors: ERR_NOMEM (the arena is then empty and releasable). */
int arena_init(struct arena *a, size_t capacity_bytes, struct err *err);

/* Give all memory back. Takes a zeroed struct too. */
void arena_release(struct arena *a);

/*
 * `n` items of `size` bytes, aligned to ARENA_ALIGN. The content is zero the first time and whatever was left there
 * after an arena_reset. Returns NULL when there is no room or n * size overflows.
 */
void *arena_alloc(struct arena *a, size_t n, size_t size);

/* Where the arena stands now; arena_reset to it drops everything allocated since. */
static inline size_t arena_mark(const struct arena *a)
{
    return a->used_bytes;
}
void arena_reset(struct arena *a, size_t mark);

#endif
