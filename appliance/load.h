/*
 * load - what the engine did in a second: how many sequences were under way, for which share of the time, and how many tokens a second that gave.
 *
 * The engine tells totals, which only grow, when a pass begins and ends; of a pass that is at work the part that is over counts. Passes may be longer than a second, and a
 * picture or a prompt gives no token at all: what comes out counts for all the work since the tokens before it, as long as that was of one batch.
 *
 * Threads: one owner. Memory: plain values; nothing is allocated.
 */
#ifndef HERON_APPLIANCE_LOAD_H
#define HERON_APPLIANCE_LOAD_H

#include <stdint.h>

#include "engine/engine.h"

/* Last told. */
struct load_told {
    struct en_progress progress;
    int32_t pending, running; /* jobs in all; sequences of the pass that is at work */
    int64_t since_ns;         /* when it was told */
};

struct load {
    struct en_progress last;
    int64_t last_ns;
    double unpaid_s;  /* work since the last tokens */
    int unpaid_batch; /* -1: of several batches */
};

struct load_second {
    int batch;          /* 0: nothing ran */
    double duty, speed; /* share of the time; tokens a second over the whole time, NAN: cannot be told now */
    double span_s;      /* seconds of work that the speed stands for */
};

/* From the call before up to now_ns; all zeros before the first. */
void load_take(struct load *load, const struct load_told *told, int64_t now_ns, struct load_second *ret);

#endif
