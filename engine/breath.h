/*
 * breath - the moments between the layers of a pass: a long one can rest there, or be given up, without waiting for its end.
 *
 * A pass over a long prompt or a large picture takes seconds on a slow machine: too long to stay under a temperature limit, or to obey a stop. Whoever runs it
 * is asked between layers; the time that it takes to answer is rest and no work.
 *
 * Threads: the engine thread. Memory: plain values.
 */
#ifndef HERON_ENGINE_BREATH_H
#define HERON_ENGINE_BREATH_H

#include <stdbool.h>
#include <stdint.h>

struct breath {
    bool (*ask)(void *ctx); /* false: give the pass up. NULL: nobody is asked */
    void *ctx;
    bool is_on;        /* only the passes of jobs breathe: a session by hand has nobody to say that it was given up */
    int64_t rested_ns; /* since it was set to 0 */
    int64_t asked_ns;  /* since when somebody is thinking about it; 0: nobody is */
};

/* Returns false where the pass is to be given up. NULL: go on. */
bool breath_take(struct breath *breath);

/* Of the time since since_ns, when rested_ns was 0: what was work, and what was rest. */
int64_t breath_busy_ns(const struct breath *breath, int64_t since_ns);
int64_t breath_rest_ns(const struct breath *breath);

#endif
