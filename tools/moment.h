/*
 * moment - when a yard is looked at: tools/lessons.c trains and tools/eval_model.c judges on moments of the same kind.
 *
 * Pure functions; any thread.
 */
#ifndef HERON_TOOLS_MOMENT_H
#define HERON_TOOLS_MOMENT_H

#include <stdint.h>

#include "base/rng.h"

struct moment {
    double t_s;       /* of the scene's day */
    uint64_t i_frame; /* what the camera's noise depends on */
};

/* Any time of the day. */
static inline struct moment moment_any(struct rng *r)
{
    struct moment m;
    m.t_s = rng_unit(r) * 86400;
    m.i_frame = rng_next(r) >> 32;
    return m;
}

/* Seconds to some minutes before: half of them within a quarter of a minute. */
static inline struct moment moment_before(struct moment m, struct rng *r)
{
    double ago_s = 300;
    for (int i = 0; i < 3; i++)
        ago_s *= rng_unit(r);
    return (struct moment){m.t_s - 2 - ago_s, m.i_frame / 2};
}

#endif
