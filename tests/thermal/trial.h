/*
 * trial - one controller for three hours in one world, and what came of it.
 *
 * Threads: a trial is one thread's; many may run beside each other. Memory: the controller's state is a block on the heap.
 */
#ifndef HERON_TESTS_THERMAL_TRIAL_H
#define HERON_TESTS_THERMAL_TRIAL_H

#include <stddef.h>

#include "tests/thermal/world.h"

/* What a controller sees, once a second. */
struct sight {
    double t_s;
    int n_sensors;
    bool has[PLANT_SPOTS];
    double c[PLANT_SPOTS];
    double watts;  /* mean of a second, the last one or as late as the meter is; NAN: no meter */
    bool is_total; /* with what others draw */
    int batch;     /* what was granted for the last second, what was done of it (duty), and how fast it went */
    double duty, speed;
};

struct act {
    int batch;
    double duty;
    bool is_probe, is_trip, is_blind;
};

struct control {
    const char *name;
    size_t n_bytes;
    void (*begin)(void *state, const struct world *world);
    void (*tick)(void *state, const struct sight *sight, struct act *act);
    /* Runs for as long in the same box before, and leaves its state to begin_again, which stands for begin; or NULL. */
    const struct control *before;
    void (*begin_again)(void *state, const struct world *world, const void *before);
};

struct figures {
    uint64_t seed;
    double over_k, above_s;                /* most above a limit; time above one */
    double speed, best;                    /* mean tokens a second; the oracle's */
    double changes_per_h, reversals_per_h; /* of the batch; of the power, after ten minutes */
    double probe_reversals_per_h;          /* while it was looked whether a sensor lives, and in the minute after */
    double trips;
    double
        back_s; /* from the end of a fault until the power is 95 % of what it would be without; INFINITY: never; NAN: no fault */
    double below_k; /* mean distance to the limit while there is work to hold back */
};

#define TRIAL_SECONDS (WORLD_HOURS * 3600)

struct trial {
    const struct control *control;
    const struct world *world;
    double best;         /* what trial_oracle said of this world */
    const float *twin_w; /* [TRIAL_SECONDS] granted watts of the same trial without its fault; NULL: back_s is not looked for */
    float *ret_w;        /* [TRIAL_SECONDS] granted watts, smoothed over ten seconds; or NULL */
    /* called every simulated second, or NULL */
    void (*watch)(void *ctx, double t_s, const struct plant *plant, const struct act *act, const struct sight *sight);
    void *ctx;
};

/* The oracle knows all and has no delay: it takes the watts that keep the hottest spot at its limit, in the best mixture of batches. Mean tokens a second. */
double trial_oracle(const struct world *world);

void trial_run(const struct trial *trial, struct figures *ret);

#endif
