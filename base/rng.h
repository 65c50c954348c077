/*
 * rng - seeded pseudo-random numbers that are the same on every machine and in every language.
 *
 * A counter-based splitmix64: value i of a stream is a pure function of (seed, i), so that a stream can be entered anywhere
 * and resumed from its counter. Used by the sampler, the synthetic camera, jitter, and the tests' weight
 * generator (tests/golden says it in Python too). Not for secrets. Threads: a stream has one owner. Memory: the caller's.
 */
#ifndef HERON_BASE_RNG_H
#define HERON_BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t seed;
    uint64_t counter; /* values taken so far */
};

/* Value number `i` (from 0) of the stream `seed`. */
static inline uint64_t rng_at(uint64_t seed, uint64_t i)
{
    uint64_t z = seed + (i + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static inline uint64_t rng_next(struct rng *r)
{
    return rng_at(r->seed, r->counter++);
}

/* Uniform in [0, 1), 53 bits. */
static inline double rng_unit(struct rng *r)
{
    return (double)(rng_next(r) >> 11) * 0x1p-53;
}

/* Uniform in [0, n), n > 0; the bias is below n / 2^64. */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)rng_next(r) * n) >> 64);
}

/* 64-bit FNV-1a of a byte string: turns names into seeds. */
static inline uint64_t rng_hash(const void *data, uint64_t n_bytes)
{
    const unsigned char *p = data;
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    for (uint64_t i = 0; i < n_bytes; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001B3);
    return h;
}

#endif
