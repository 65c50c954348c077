/*
 * plausible - whether a temperature reading can be believed: not a number, impossible, jumped, fallen, or frozen.
 *
 * Upwards is dangerous and believed soon: a jump counts with what is plausible of it at once and in full when it is confirmed. Downwards is a relief and believed late.
 * A reading that stands still although the watts changed by enough to move it is frozen, until it moves. Watts that are taken back just as the box warms up move nothing: that is what a governor does.
 *
 * Threads: one owner. Memory: plain values; nothing is allocated.
 */
#ifndef HERON_APPLIANCE_PLAUSIBLE_H
#define HERON_APPLIANCE_PLAUSIBLE_H

#include <stdbool.h>

struct plausible {
    bool has_any, has_said, is_frozen;
    double good_c, said_c;     /* last believed; last said */
    double age_s;              /* since the last believed one */
    double still_s;            /* for how long the sensor has said the same */
    double longest_s;          /* that it did so while it was alive, lately */
    double fast_w[2];          /* of the filtered watts meanwhile, least and most */
    double due_k[2];           /* of what the reading should have done meanwhile */
    double drift_k, leaving_w; /* the slow part of that; what left when it began */
    double fallen_s;           /* for how long it has been far below what was believed */
    int jumps;                 /* in a row */
};

void plausible_init(struct plausible *p);

/* Behind a time that nobody knows anything of: nothing counts any more but that it was frozen, until it moves. */
void plausible_restart(struct plausible *p);

/* What is known of the place that a sensor looks at. */
struct plausible_place {
    double fast_w;                     /* filtered watts (struct observer) */
    double r_k_w;                      /* what a watt of them does to it at once; 0: not known, and stillness proves nothing */
    double step_k;                     /* the sensor's resolution */
    double doubt_k;                    /* what noise of the watt meter may pretend */
    double now_w, leaving_w, sink_j_k; /* drawn, leaving, and the capacity between them: how it drifts */
};

/* dt_s passed; said_c: the reading, NAN for none. Returns the degrees to work with, NAN for none. */
double plausible_note(struct plausible *p, double dt_s, double said_c, const struct plausible_place *place);

/* It has been still for much longer than is usual for it: worth a proof of life. */
bool plausible_is_suspect(const struct plausible *p);

#endif
