/*
 * workload - what a batch draws and gives: watts and tokens a second of each batch size, learned while it works, and the choice that follows from them.
 *
 * Measured watts are split into what others draw and what this work draws, by a Kalman filter of two states: a sudden rise is taken for somebody else's
 * at once, which is the careful guess, and the truth comes out as the work changes. Batch sizes that were never tried are thought of a little better than the table says, so
 * that the promising ones are tried, one at a time and not often.
 *
 * Threads: one owner. Memory: plain values; nothing is allocated.
 */
#ifndef HERON_APPLIANCE_WORKLOAD_H
#define HERON_APPLIANCE_WORKLOAD_H

#include <stdbool.h>

#include "appliance/lateness.h"

#define WORKLOAD_RUNGS 16 /* batch sizes that are considered: 1 2 3 4 5 6 7 8, then fewer: 12 16 24 32 ... */

enum workload_policy {
    WORKLOAD_THROUGHPUT, /* the pair of batch and idle time that gives most for the watts */
    WORKLOAD_LADDER      /* the largest batch that fits, idle time only below a batch of one: for latency */
};

struct workload_rung {
    int batch;
    double watts, speed; /* relative to the factors below, which all rungs share */
    double seen_s;       /* seconds that its watts were seen for */
    double speed_s;      /* and seconds of work that its speed is the mean of; fades while others are in use */
};

struct workload {
    struct workload_rung rungs[WORKLOAD_RUNGS], table[WORKLOAD_RUNGS]; /* as learned; as told at the start */
    int n_rungs;
    double other_w, factor;              /* what others draw; this work's watts over the table's */
    double var_other, covar, var_factor; /* of the two */
    double ripple_w;                     /* mean deviation of the watts that is usual here */
    double speed_factor,
        speed_factor_s; /* this work's tokens a second over the table's, and seconds of work that it is the mean of */
    double hope_speed, hope_watts;      /* by which a rung that was never tried is thought better than the table says */
    int rung;                           /* chosen; -1: none yet */
    bool is_held;                       /* set by the owner: the choice stays for now */
    double since_s, settle_s, budget_w; /* since the choice; left of learning the new one; slow mean of what may be drawn */
    struct lateness lateness;           /* of the meter; its past in watts by the table */
};

/* What is kept of a model on a machine: its rungs, in watts and tokens a second, as far as they were tried. */
struct workload_memory {
    struct workload_rung rungs[WORKLOAD_RUNGS];
    int n_rungs;
};

/* watts, speed: [batch_max + 1] for each batch, as far as known before (tokens a second in any unit), or NULL: the usual shape of decoding. */
void workload_init(struct workload *w, int batch_max, const double *watts, const double *speed);

/*
 * dt_s passed with this batch working for the share `duty` of it; batch 0: nothing ran. watts: what the meter says, NAN: nothing. Returns the mean watts of that time, as far as can be
 * told from a meter that may be late; NAN where it says nothing.
 */
double workload_note(struct workload *w, double dt_s, double watts, int batch, double duty);

/* What there is to learn from the same of the watts. Returns those that appeared out of nothing, or 0. */
double workload_learn(struct workload *w, double dt_s, double watts, int batch, double duty);

/* And of the speed: tokens a second over that time (NAN: not counted), which stand for span_s of work. */
void workload_learn_speed(struct workload *w, int batch, double duty, double speed, double span_s);

/* Take over what was learned before of the same batches, and what there is to keep. */
void workload_recall(struct workload *w, const struct workload_memory *memory);
void workload_remember(const struct workload *w, struct workload_memory *ret);

#define WORKLOAD_USUAL_W 80.0 /* of the largest batch, where nothing is told */

/* Watts in all that are expected of a batch at a duty, and of the largest at full duty. */
double workload_watts(const struct workload *w, int batch, double duty);
double workload_most_w(const struct workload *w);

/* Watts of our own of a batch at a duty by the table, before anything was learned. */
double workload_table_watts(const struct workload *w, int batch, double duty);

/*
 * The batch and the duty for at most budget_w in all. demand: sequences that there are to run (0: as many as may be): fewer draw less,
 * and so they may work more of the time.
 */
void workload_choose(struct workload *w, enum workload_policy policy, double dt_s, double budget_w, int demand, int *ret_batch,
                     double *ret_duty);

#endif
