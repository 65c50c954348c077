/*
 * observer - what one temperature sensor tells about its box: which part of the reading follows the watts at once, which comes slowly, and how many watts
 * would end at the limit.
 *
 * The fast part is what the hot spot stands above its sink (resistance x filtered watts); the rest, z, is sink, room, fan and vents, tracked together with
 * the watts that leave it. Because the watts of the past are measured, the law is an integral controller without an accumulator: nothing winds up while there is
 * no work. Resistance, time constant, delay and capacity are fitted to the step of power that every start is. The formulas stand in observer.c.
 *
 * The margin under the limit grows where the estimate comes too near and shrinks where it stays away; it is smaller for a fine and quiet sensor than for a
 * coarse one.
 *
 * Threads: one owner. Memory: plain values; nothing is allocated. Time: seconds since the last call, from the caller.
 */
#ifndef HERON_APPLIANCE_OBSERVER_H
#define HERON_APPLIANCE_OBSERVER_H

#include <stdbool.h>

#define OBSERVER_TAUS   4
#define OBSERVER_DELAYS 3
#define OBSERVER_PAST   4 /* seconds of watts that are kept for the delay */

/* What is learned of a sensor's place; kept per machine. r_k_w 0: nothing yet. */
struct observer_body {
    double r_k_w;    /* K over the sink per watt */
    double tau_s;    /* how fast that comes */
    double delay_s;  /* of the sensor */
    double sink_j_k; /* capacity that slow changes go through */
};

/* Sums of a least-squares fit of reading = a + r x fast + integral / capacity, for one pair of tau and delay. */
struct observer_fit {
    double fast_w;
    double a[3][3], b[3], yy;
};

struct observer {
    double limit_c;
    struct observer_body body; /* in use: learned, or careful guesses */
    bool is_known;             /* not a guess: from before, or learned now */
    bool is_learned;           /* in this run */
    bool is_deaf;              /* it does not answer to our watts: something else warms this place */
    double answer_k_w;         /* what a watt did to it at once, as fitted; 0: not known */
    /* estimate */
    bool is_started;
    double past_w[OBSERVER_PAST]; /* [0] the newest */
    double fast_w, slow_c, leaving_w;
    double silent_s;                           /* since the last reading */
    double margin_k, start_margin_k, calm_k_s; /* now; at the start; how fast it shrinks */
    double raised_k;                           /* by which the least margin was raised after trips */
    /* the sensor, as seen */
    double last_c, step_k, noise_k, smooth_k;
    /* learning */
    struct observer_fit fits[OBSERVER_TAUS][OBSERVER_DELAYS];
    double quiet_s, quiet_w, quiet_c;                    /* while nothing of ours ran */
    double fit_s, first_w, first_c, integral_j, moved_j; /* fit_s 0: no step to learn from yet */
    int n_deaf;                                          /* steps in a row that it did not answer to */
};

/* What our own work does meanwhile. */
enum observer_work {
    OBSERVER_REST,   /* nothing of ours runs */
    OBSERVER_WORK,   /* something does: its first step is what is learned from */
    OBSERVER_UNCLEAR /* the device holds itself back, or the watts are not measured: nothing can be learned */
};

/* known: of this machine from before, or NULL. start_margin_k: larger where not all watts are measured; calm_k_s: K that it may shrink a second. */
void observer_init(struct observer *o, double limit_c, const struct observer_body *known, double start_margin_k,
                   double calm_k_s);

/* Forget the estimate and keep what was learned: after a suspend. */
void observer_restart(struct observer *o);

/* dt_s passed, with `watts` in the mean; c: the reading, NAN where there is none. */
void observer_note(struct observer *o, double dt_s, double watts, double c, enum observer_work work);

/* Watts appeared at once that nobody announced: keep room for the next time. */
void observer_surge(struct observer *o, double watts);

/* Watts that may be drawn from now on: they end at the limit less the margin. INFINITY before the first reading. */
double observer_allowed_w(const struct observer *o);

/* Degrees by the model: goes on without readings, for half a minute; what is behind that nobody knows, and it stays. And how they drift at these watts, K a second. */
double observer_now_c(const struct observer *o);
double observer_drift_k_s(const struct observer *o);

#endif
