/*
 * sensors_meter - one counter of joules, or one reading of watts, on its way to mean watts.
 *
 * What a meter does not say is NAN, never zero: a counter that stands still has not counted yet, one that begins anew tells nothing of that second.
 *
 * Threads: none of its own; the caller locks. Memory: plain values. Time: nanoseconds of clock_awake_and_asleep_ns.
 */
#ifndef HERON_APPLIANCE_SENSORS_METER_H
#define HERON_APPLIANCE_SENSORS_METER_H

#include <stdbool.h>
#include <stdint.h>

struct sensors_meter {
    bool has_last;
    double last_j;
    int64_t last_ns;        /* of the reading before */
    double joules, seconds; /* since they were taken */
    double watts;           /* newest mean */
    int64_t said_ns;        /* when; 0: never */
};

/* It said nothing this time. */
void sensors_meter_miss(struct sensors_meter *m);

/* The counter's joules. range_j: where it begins again; 0: not known. */
void sensors_meter_note_energy(struct sensors_meter *m, int64_t now_ns, double joules, double range_j);

/* Watts that stand for the time since the reading before, at most for two periods. */
void sensors_meter_note_power(struct sensors_meter *m, int64_t now_ns, double watts, int64_t period_ns);

/* Mean watts since the last call; the newest ones when there was no reading since, as long as they are not older than fresh_ns; or NAN. */
double sensors_meter_take(struct sensors_meter *m, int64_t now_ns, int64_t fresh_ns);

#endif
