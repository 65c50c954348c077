/*
 * late_meter - a watt meter that says means of a second, some time ago: what drivers do, for simulated boxes and for tests.
 *
 * Threads: one owner. Memory: plain values.
 */
#ifndef HERON_TESTS_SUPPORT_LATE_METER_H
#define HERON_TESTS_SUPPORT_LATE_METER_H

#define LATE_METER_PER_S 10 /* steps a second */
#define LATE_METER_STEPS 64 /* that are kept: a meter may be five seconds late */

struct late_meter {
    double past_w[LATE_METER_STEPS];
    int n; /* steps so far */
};

/* What it has seen before its first step. */
static inline void late_meter_init(struct late_meter *m, double watts)
{
    m->n = 0;
    for (int i = 0; i < LATE_METER_STEPS; i++)
        m->past_w[i] = watts;
}

/* Another step. */
static inline void late_meter_push(struct late_meter *m, double watts)
{
    m->past_w[m->n++ % LATE_METER_STEPS] = watts;
}

/* Mean of the second that ended late_s before the newest step. */
static inline double late_meter_read(const struct late_meter *m, double late_s)
{
    const int late = (int)(late_s * LATE_METER_PER_S);
    double sum = 0;
    for (int i = 1; i <= LATE_METER_PER_S; i++)
        sum += m->past_w[(m->n - late - i + LATE_METER_STEPS) % LATE_METER_STEPS];
    return sum / LATE_METER_PER_S;
}

#endif
