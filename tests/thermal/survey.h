/*
 * survey - many trials and their figures together.
 *
 * Threads: survey_run starts threads of its own and joins them. Memory: a survey's figures are the caller's to free with survey_free.
 */
#ifndef HERON_TESTS_THERMAL_SURVEY_H
#define HERON_TESTS_THERMAL_SURVEY_H

#include "tests/thermal/trial.h"

struct survey {
    struct figures *all; /* [n], in the order of seeds */
    int n;
    double over_p50_k, over_p99_k, over_max_k, within_share, above_s_per_h; /* within: at most half a kelvin over */
    double share_mean, share_p5;                                            /* of the oracle's tokens */
    double changes_per_h, reversals_per_h, probe_reversals_per_h, trips;
    double back_p50_s, back_p95_s; /* NAN: no faults */
};

/* Worlds of seeds from..from + n - 1; best: [n], filled by survey_oracle. twins: faults are also run without them, for back_s. */
void survey_oracle(enum world_set set, uint64_t from, int n, int threads, double *ret_best);
void survey_run(const struct control *control, enum world_set set, uint64_t from, int n, const double *best, int threads,
                struct survey *ret);
void survey_free(struct survey *survey);

/* Order of figures: the largest overshoot first. */
int survey_worse(const void *a, const void *b);

#endif
