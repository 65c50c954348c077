/*
 * breath - the moments between the layers of a pass: a long one can rest there, or be given up, without waiting for its end.
 *
 * A pass over a long prompt or a large picture takes seconds on a slow machine: too long to stay under a temperature limit, or to obey a stop. Whoever runs it
 * is asked between layers; the time that it takes to answer is rest and no work. Where layers are only queued, as on a GPU, it is asked while they are being queued: passes are
 * short there.
 *
 * Steps may be shorter than a millisecond, and no sleep is: what a step leaves of its rest is owed on, until it is worth a sleep, and so is what was slept too long.
 *
 * Life cycle: breath_begin -> breath_take between layers -> breath_end, again and again; all zeros before the first. Threads: the engine thread. Memory: plain values.
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
    struct breath_span
        owed;       /* of passes before: work that has not had all its rest yet; or no work, and rest that was too long */
    int64_t end_ns; /* of the last pass; 0: there was none */
};

/* A pass begins, with idle_permille of its time to be rest: what earlier ones are owed is settled where they had it, up to a little rest that is too much. */
void breath_begin(struct breath *breath, int32_t idle_permille);

/* Returns false where the pass is to be given up. NULL, or no pass at work: go on. */
bool breath_take(struct breath *breath);

/* The pass so far. */
struct breath_span breath_all(const struct breath *breath);

/* What is left of the rest, where idle_permille of all time shall be rest (0 or less: none): of this pass since the last EN_RESTED and of those before, or between passes of all up to now. */
int64_t breath_rest_ns(const struct breath *breath, int32_t idle_permille);

void breath_end(struct breath *breath);

#endif
