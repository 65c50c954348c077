/*
 * lateness - how late a watt meter is: counters are read by a thread of their own, and drivers say means of the past second or older ones.
 *
 * What our own work draws is known at once, what the meter says of it comes later; where its changes agree best with those of a while ago, that is how late
 * it is. Work in bursts of seconds, as looks of cameras are, is taken for heat at the wrong time otherwise.
 *
 * Threads: one owner. Memory: plain values; nothing is allocated.
 */
#ifndef HERON_APPLIANCE_LATENESS_H
#define HERON_APPLIANCE_LATENESS_H

#include <stdbool.h>

#define LATENESS_GUESSES 7 /* half a second apart */
#define LATENESS_PAST    6 /* seconds of work that are kept */

struct lateness {
    double past[LATENESS_PAST]; /* of our own work, [0] the newest; in any unit that watts are proportional to */
    double said_w;              /* by the meter a second ago; NAN: nothing */
    double cross[LATENESS_GUESSES], square[LATENESS_GUESSES]; /* of changes, with what the meter said and with themselves */
    int n_moves;                                              /* how often work began or ended */
    int guess;
};

void lateness_init(struct lateness *lateness);

/* A second passed in which our work should have drawn `own`. */
void lateness_push(struct lateness *lateness, double own);

/* What the meter said of all: learn from it. NAN: nothing to learn from. After lateness_push. */
void lateness_learn(struct lateness *lateness, double said_w);

/* The part of our own work that is in the meter's newest figure. */
double lateness_seen(const struct lateness *lateness);

/* Seconds that it is late. */
double lateness_s(const struct lateness *lateness);

/* By how much it would be another part, were the meter a little earlier or later. */
double lateness_doubt(const struct lateness *lateness);

/* Nothing of our own work is in it, however late it is. */
bool lateness_is_clear(const struct lateness *lateness);

#endif
