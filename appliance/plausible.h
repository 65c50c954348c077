/*
 * plausible - whether a temperature reading can be believed: not a number, impossible, jumped, fallen, or frozen.
 *
 * Upwards is dangerous and believed soon: a jump counts with what is plausible of it at once and in full when it is confirmed. Downwards is a relief and believed late.
 * A reading that stands still although the watts changed by enough to move it is frozen, until it moves.
 *
 * Threads: one owner. Memory: plain values; nothing is allocated.
 */
#ifndef HERON_APPLIANCE_PLAUSIBLE_H
#define HERON_APPLIANCE_PLAUSIBLE_H

#include <stdbool.h>

struct plausible {
    bool has_any, is_frozen;
    double good_c, said_c; /* last believed; last said */
    double age_s;          /* since the last believed one */
    double still_s;        /* for how long the sensor has said the same */
    double longest_s;      /* that it did so while it was alive, lately */
    double low_k, high_k;  /* what the watts alone should have done to it meanwhile */
    double fallen_s;       /* for how long it has been far below what was believed */
    int jumps;             /* in a row */
};

void plausible_init(struct plausible *p);

/*
 * dt_s passed; said_c: the reading, NAN for none. fast_k: what the watts alone make it stand above its slow part (observer_fast_k); step_k: the sensor's resolution;
 * doubt_k: what noise of the watt meter may pretend. Returns the degrees to work with, NAN for none.
 */
double plausible_note(struct plausible *p, double dt_s, double said_c, double fast_k, double step_k, double doubt_k);

/* It has been still for much longer than is usual for it: worth a proof of life. */
bool plausible_is_suspect(const struct plausible *p);

#endif
