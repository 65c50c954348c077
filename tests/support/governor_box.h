/*
 * governor_box - a box in a few lines for the governor's tests: a sink that warms slowly, a junction over it, and invented seconds.
 *
 * Threads: one. Memory: plain values.
 */
#ifndef HERON_TESTS_SUPPORT_GOVERNOR_BOX_H
#define HERON_TESTS_SUPPORT_GOVERNOR_BOX_H

#include <math.h>
#include <string.h>

#include "appliance/governor.h"
#include "tests/support/test.h"

#define S INT64_C(1000000000)

struct box {
    struct governor governor;
    struct governor_grant grant;
    int64_t now_ns;
    double sink_c, last_w;
};

static inline void box_open(struct box *b, const struct governor_options *options)
{
    memset(b, 0, sizeof *b);
    governor_init(&b->governor, options, NULL);
    b->sink_c = 45;
    b->last_w = 20;
}

static inline struct governor_options one_sensor(void)
{
    return (struct governor_options){.n_sensors = 1, .limits_c = {68}, .batch_max = 8, .meter = GOVERNOR_METER_TOTAL};
}

static inline void box_open_one(struct box *b)
{
    const struct governor_options options = one_sensor();
    box_open(b, &options);
}

/* Without any watt meter: its seconds are to be looked at by box_look_unmetered. */
static inline void box_open_unmetered(struct box *b)
{
    struct governor_options options = one_sensor();
    options.meter = GOVERNOR_METER_NONE;
    box_open(b, &options);
}

static inline struct governor_options two_sensors(double second_limit_c)
{
    struct governor_options options = one_sensor();
    options.n_sensors = 2;
    options.limits_c[1] = second_limit_c;
    return options;
}

/* What the governor sees a second later; c: what the sensor says, or INFINITY for the truth. */
static inline struct governor_sight box_look(struct box *b, double c)
{
    b->now_ns += S;
    const double truth = b->sink_c + 0.15 * b->last_w;
    return (struct governor_sight){.now_ns = b->now_ns,
                                   .c = {isinf(c) ? floor(truth + 0.5) : c},
                                   .watts = b->last_w,
                                   .batch = b->grant.permit.batch,
                                   .duty = b->grant.duty,
                                   .speed = NAN,
                                   .device_margin_k = NAN};
}

static inline struct governor_sight box_look_unmetered(struct box *b)
{
    struct governor_sight s = box_look(b, INFINITY);
    s.watts = NAN;
    return s;
}

/* The governor's second, and that of a box `times` as large: it works as it may, or rests. Returns what is drawn of our own, as if it were of the usual size. */
static inline double box_live_sized(struct box *b, const struct governor_sight *s, bool is_resting, double times)
{
    governor_tick(&b->governor, s, &b->grant);
    const double own_w = !is_resting && b->grant.permit.batch > 0 ? b->grant.duty * (60 + 4 * b->grant.permit.batch) : 0;
    b->sink_c += (20 + own_w - (b->sink_c - 25) / 0.4) / 400;
    b->last_w = times * (20 + own_w);
    return own_w;
}

static inline void box_live(struct box *b, const struct governor_sight *s, bool is_resting)
{
    box_live_sized(b, s, is_resting, 1);
}

static inline void box_tick(struct box *b, double c)
{
    const struct governor_sight s = box_look(b, c);
    box_live(b, &s, false);
}

/* The same with a second sensor. */
static inline void box_tick_two(struct box *b, double c, double second_c)
{
    struct governor_sight s = box_look(b, c);
    s.c[1] = second_c;
    box_live(b, &s, false);
}

static inline void box_run(struct box *b, int seconds)
{
    for (int i = 0; i < seconds; i++)
        box_tick(b, INFINITY);
}

/* The same of a box `times` as large. */
static inline struct governor_sight box_look_sized(struct box *b, double times)
{
    b->last_w /= times;
    struct governor_sight s = box_look(b, INFINITY);
    s.watts = b->last_w *= times;
    return s;
}

/* With one sensor, which has stopped everything because it is far above its limit. */
static inline void box_open_far_above(struct box *b)
{
    box_open_one(b);
    box_run(b, 600);
    b->sink_c += 14;
    box_run(b, 4);
    assert_true(b->grant.is_hard_trip);
}

#endif
