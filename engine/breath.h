/*
 * breath - the moments between the layers of a pass: a long one can rest there, or be given up, without waiting for its end.
 *
 * A pass over a long prompt or a large picture takes seconds on a slow machine: too long to stay under a temperature limit, or to obey a stop. Whoever runs it
 * is asked between layers; the time that it takes to answer is rest and no work. Where layers are only queued, as on a GPU, it is asked while they are being queued: passes are
 * short there.
 *
 * Life cycle: breath_begin -> breath_take between layers -> breath_end. Threads: the engine thread. Memory: plain values.
 */
#ifndef HERON_ENGINE_BREATH_H
#define HERON_ENGINE_BREATH_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"

/* Work, and the rest that it had. */
struct breath_span {
    int64_t busy_ns, rest_ns;
};

struct breath {
    enum en_breath (*ask)(void *ctx); /* NULL: nobody is asked */
    void *ctx;
    bool is_on; /* a pass of jobs is at work; a session by hand has nobody to say that it was given up */
    int64_t since_ns, rested_ns, asked_ns; /* of the pass; asked_ns: since when somebody thinks about it, 0: nobody does */
    struct breath_span settled;            /* of the pass, up to the last EN_RESTED */
};

void breath_begin(struct breath *breath);

/* Returns false where the pass is to be given up. NULL, or no pass at work: go on. */
bool breath_take(struct breath *breath);

/* The pass so far: all of it, and what came after the last EN_RESTED. */
struct breath_span breath_all(const struct breath *breath);
struct breath_span breath_unsettled(const struct breath *breath);

void breath_end(struct breath *breath);

#endif
