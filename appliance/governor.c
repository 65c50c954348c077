#include "appliance/governor.h"

#include <math.h>
#include <string.h>

#include "base/clamp.h"

#define GOVERNOR_BATCHES 257

const char *const governor_level_names[] = {"nominal", "warm", "throttled", "paused", "blind"};

/* Start and change */
#define REST_S       3.0   /* nothing runs: what others draw is measured */
#define START_SHARE  0.4   /* of the largest batch: a step to learn from, and gentle */
#define DUTY_LEAST   0.01  /* less is nothing */
#define REST_MOST_S  15.0  /* for a meter that takes longer to answer */
#define REST_AGAIN_S 25.0  /* more, after a first look: what that warmed would seem to be the rest */
#define START_AGAIN  1.4   /* of the watts of that look, at most */
#define RISE_SHARE_S 0.009 /* of everything, a second */
#define RISE_LEAST_W 0.5
#define LATE_S       3.0  /* the box slept */
#define FORWARD_S    0.05 /* ticks nearer than this are one */

/* Margins: watts that are not measured come as a surprise */
#define MARGIN_TOTAL_K  1.0
#define MARGIN_DEVICE_K 2.0
#define CALM_TOTAL_K_S  0.0005
#define CALM_DEVICE_K_S 0.0001
#define MARGIN_NONE_K   1.0 /* more, without any meter */

/* Blind */
#define HOLD_S       2.5 /* and a second more, for which the newest reading counts as fresh */
#define LOST_S       30.0
#define HOLD_SHARE   0.55
#define LOST_SHARE   0.33
#define LOST_LONG_S  600.0
#define FALL_SHARE_S 0.4
#define DOUBTFUL     2    /* good readings after a suspend until a sensor is believed */
#define ANSWER_LEAST 0.04 /* K/W: what answers less may stand still by itself */
#define METER_DOUBT  0.02

/* Proof of life */
#define PROBE_STILL_S 240.0
#define PROBE_S       25.0
#define PROBE_EVERY_S 120.0
#define PROBE_MOST_S  600.0 /* after some that have shown nothing */
#define PROBE_STEPS   2.5

/* Trips */
#define TRIP_K         2.5
#define RESUME_K       2.0
#define TRIP_S         5.0
#define TRIP_SHARE     0.8
#define TRIPS_S        600.0
#define TRIP_RAISE_K   1.0
#define HARD_K         8.0
#define DEVICE_LEAST_K 2.0 /* limits are lowered to stay 5 K below what the device acts at */
#define HARD_RESUME_K  10.0
#define DRAWN_FADES_S  30.0
#define CUT_SHARE      0.8
#define CUT_AGAIN_S    10.0 /* it still does */
#define GONE_S         600.0
#define FOREIGN_S      120.0
#define FOREIGN_SHARE  0.5 /* of what our rest would cool a place by */
#define FOREIGN_COOL_K 1.0
#define CUT_S          300.0

/* The box's size */
#define UNIT_SAME   2.0 /* times as large or small: it is within what all constants are for */
#define UNIT_LEAST  0.01
#define UNIT_MOST   50.0
#define UNIT_S      16.0
#define UNIT_WORK_W 8.0 /* of the table: less says little */
#define UNIT_AGREES 1.5
#define UNIT_CARE_S 120.0 /* of work, within which it is found or not */

/* Long memory */
#define SUSTAINED_S  120.0
#define USUAL_S      86400.0
#define POOR_SHARE   0.75
#define POOR_S       600.0
#define POOR_FADES   2.0
#define SAME_LIMIT_K 0.5

/* Levels; the second of each pair leaves it */
#define WARM_K          3.0
#define WARM_LEAVE_K    4.0
#define HELD_BACK       0.99 /* of the watts that the work there is would draw */
#define HELD_BACK_LEAVE 1.08
#define WANTED_FADES_S  60.0

/* The supply */
#define BUSY_DUTY     0.9
#define LIMITED_SHARE 0.6
#define LIMITED_S     60.0
#define COOL_K        5.0 /* under every limit: what is nearer may be slow because of heat */
#define FACTOR_S      3600.0
#define FACTOR_NEW_S  20.0

/* Under other limits the box sustains another power. */
static bool has_same_limits(const struct governor_options *options, const struct governor_memory *known)
{
    for (int i = 0; i < options->n_sensors; i++)
        if (fabs(known->limits_c[i] - options->limits_c[i]) > SAME_LIMIT_K)
            return false;
    return true;
}

/* What is known in watts, in another unit; from real watts to the box's, or back with 1 / unit. */
static void convert(struct governor_memory *m, double unit)
{
    for (int i = 0; i < GOVERNOR_SENSORS; i++) {
        m->bodies[i].r_k_w *= unit;
        m->bodies[i].sink_j_k /= unit;
    }
    m->sustainable_w /= unit;
    for (int i = 0; i < m->workload.n_rungs; i++)
        m->workload.rungs[i].watts /= unit;
}

static double unit_of(double times_usual)
{
    return times_usual > 0 && (times_usual < 1 / UNIT_SAME || times_usual > UNIT_SAME)
               ? clamp(times_usual, UNIT_LEAST, UNIT_MOST)
               : 1;
}

/* All in the box's unit. */
static void begin(struct governor *g, const struct governor_options *options, const struct governor_memory *known, double unit)
{
    memset(g, 0, sizeof *g);
    g->unit = unit;
    g->options = *options;
    g->options.watts = g->options.speed = NULL;
    const bool is_total = options->meter == GOVERNOR_METER_TOTAL;
    const double margin =
        (is_total ? MARGIN_TOTAL_K : MARGIN_DEVICE_K) + (options->meter == GOVERNOR_METER_NONE ? MARGIN_NONE_K : 0);
    for (int i = 0; i < options->n_sensors; i++) {
        observer_init(&g->observers[i], options->limits_c[i], known ? &known->bodies[i] : NULL, margin,
                      is_total ? CALM_TOTAL_K_S : CALM_DEVICE_K_S);
        plausible_init(&g->readings[i]);
    }
    workload_init(&g->workload, options->batch_max, options->watts, options->speed);
    if (known)
        workload_recall(&g->workload, &known->workload);
    g->sustainable_w = g->usual_w = known && has_same_limits(options, known) ? known->sustainable_w : 0;
    g->usual_s = g->usual_w > 0 ? USUAL_S : 0;
    g->usual_factor = known ? known->factor : 0;
    g->capped_w = g->rest_w = INFINITY;
    g->wanted = options->batch_max;
    g->probe_every_s = PROBE_EVERY_S;
    for (int i = 0; i < 3; i++)
        g->trips_s[i] = -INFINITY;
}

void governor_init(struct governor *g, const struct governor_options *options, const struct governor_memory *known)
{
    double unit = 1, watts[GOVERNOR_BATCHES];
    struct governor_memory mine;
    struct governor_options told = *options;
    const bool is_told = options->watts && options->batch_max < GOVERNOR_BATCHES;
    if (known && known->unit > 0)
        unit = known->unit;
    else if (is_told)
        unit = unit_of(options->watts[options->batch_max] / WORKLOAD_USUAL_W);
    if (known) {
        mine = *known;
        convert(&mine, unit);
    }
    for (int b = 0; is_told && b <= options->batch_max; b++)
        watts[b] = options->watts[b] / unit;
    if (is_told)
        told.watts = watts;
    begin(g, &told, known ? &mine : NULL, unit);
    g->is_unit_found = options->watts || (known && known->unit > 0);
    g->is_unit_known = g->is_unit_found || options->meter == GOVERNOR_METER_NONE;
}

/* ---- what is seen ------------------------------------------------------------------------------------------------------------ */

static bool is_measured(const struct governor_sight *s)
{
    return isfinite(s->watts) && s->watts >= 0;
}

/* What the meter's own noise may pretend about a hot spot. */
static double doubt_k(const struct governor *g, int i)
{
    return METER_DOUBT * g->observers[i].body.r_k_w * g->now_w;
}

/* How much work there is; it comes and goes from second to second. */
static void note_demand(struct governor *g, const struct governor_sight *s, double dt)
{
    if (s->demand > 0)
        g->wanted = fmax(s->demand, g->wanted + fmin(dt / WANTED_FADES_S, 1) * (s->demand - g->wanted));
}

static void look(struct governor *g, const struct governor_sight *s, double dt)
{
    const bool is_clean = is_measured(s) && !s->is_throttled && !s->is_limited && !g->is_tripped;
    const double watts = workload_note(&g->workload, dt, is_measured(s) ? s->watts : NAN, s->batch, s->duty);
    g->now_w = isnan(watts) ? workload_watts(&g->workload, s->batch, s->duty) : watts;
    g->drawn_w = fmax(g->now_w - workload_watts(&g->workload, 0, 0), g->drawn_w * (1 - fmin(dt / DRAWN_FADES_S, 1)));
    const enum observer_work work = !is_clean ? OBSERVER_UNCLEAR : s->batch > 0 && s->duty > 0 ? OBSERVER_WORK : OBSERVER_REST;
    for (int i = 0; i < g->options.n_sensors; i++) {
        struct observer *o = &g->observers[i];
        /* what answers at once, and is known to, cannot stand still while the watts move */
        const bool answers = o->is_started && !o->is_deaf && o->answer_k_w >= ANSWER_LEAST;
        const struct plausible_place place = {.fast_w = o->is_started ? o->fast_w : g->now_w,
                                              .r_k_w = answers ? o->answer_k_w : 0,
                                              .step_k = o->step_k,
                                              .doubt_k = doubt_k(g, i),
                                              .now_w = g->now_w,
                                              .leaving_w = o->is_started ? o->leaving_w : g->now_w,
                                              .sink_j_k = o->body.sink_j_k};
        observer_note(o, dt, g->now_w, plausible_note(&g->readings[i], dt, s->c[i], &place), work);
        if (!is_measured(s) && g->options.meter != GOVERNOR_METER_NONE) /* the meter is gone: as careful as without one */
            o->margin_k = fmax(o->margin_k, MARGIN_DEVICE_K + MARGIN_NONE_K);
    }
    const bool may_learn = is_clean || (is_measured(s) && lateness_is_clear(&g->workload.lateness)); /* others', at any time */
    const double speed = isfinite(s->speed) && s->speed >= 0 ? s->speed : NAN;
    const double surge = workload_learn(&g->workload, dt, may_learn ? s->watts : NAN, s->batch, s->duty);
    if (!s->is_throttled && !s->is_limited)
        workload_learn_speed(&g->workload, s->batch, s->duty, speed, s->span_s > 0 ? s->span_s : dt * s->duty);
    for (int i = 0; surge > 0 && i < g->options.n_sensors; i++)
        observer_surge(&g->observers[i], surge);
    if (is_measured(s) && lateness_is_clear(&g->workload.lateness)) /* a start is busy with itself */
        g->rest_w = fmin(g->rest_w, workload_watts(&g->workload, 0, 0));
    note_demand(g, s, dt);
}

/* After a suspend or a stopped clock nothing of the past counts. */
static void restart(struct governor *g)
{
    for (int i = 0; i < g->options.n_sensors; i++) {
        observer_restart(&g->observers[i]);
        plausible_restart(&g->readings[i]);
        g->doubtful[i] = DOUBTFUL;
    }
    g->probe_s = 0;
    lateness_learn(&g->workload.lateness, NAN);
}

/* ---- how many watts ------------------------------------------------------------------------------------------------------------ */

/* A share of what our own work may draw when all is known, over what others draw. */
static double floor_w(const struct governor *g, double share)
{
    const double most = workload_most_w(&g->workload), other = workload_watts(&g->workload, 0, 0);
    const double full = g->sustainable_w > 0 ? fmin(g->sustainable_w, most) : most;
    return other + share * fmax(full - other, 0);
}

/* No sensor answers to our watts: there is nothing to see by. */
static bool is_senseless(const struct governor *g)
{
    int n_deaf = 0;
    for (int i = 0; i < g->options.n_sensors; i++)
        n_deaf += g->observers[i].is_deaf;
    return n_deaf == g->options.n_sensors;
}

/* The share of the sustainable watts that a sensor leaves when it cannot be believed; 1: it can. */
static double trust(const struct governor *g, int i)
{
    const struct plausible *p = &g->readings[i];
    if (p->is_frozen || p->age_s > LOST_S || is_senseless(g))
        return LOST_SHARE;
    return p->age_s > HOLD_S || g->doubtful[i] > 0 ? HOLD_SHARE : 1;
}

/* More rest of ours would not cool it. */
static bool is_of_others(const struct governor *g, int i)
{
    return g->observers[i].is_deaf || g->is_foreign[i];
}

static void note_lost(struct governor *g, double dt)
{
    for (int i = 0; i < g->options.n_sensors; i++)
        g->lost_s[i] = trust(g, i) == LOST_SHARE ? g->lost_s[i] + dt : 0;
}

/* The least that any sensor allows. careful: that is a floor, and says nothing of what the box sustains. */
static double allowed(const struct governor *g, int *ret_blind, bool *ret_careful)
{
    double least = INFINITY, least_share = 1;
    *ret_blind = -1;
    *ret_careful = g->options.n_sensors == 0;
    for (int i = 0; i < g->options.n_sensors; i++) {
        double w = observer_allowed_w(&g->observers[i]);
        const double share = trust(g, i);
        if (is_of_others(g, i) ||
            g->readings[i].age_s > LOST_S) /* never less than the floor for its sake, nor for what it was long ago */
            w = fmax(w, floor_w(g, LOST_SHARE));
        if (share < 1) {
            if (share < least_share) {
                least_share = share;
                *ret_blind = i;
            }
            const double least_w = floor_w(g, share);
            w = fmin(w, fmax(least_w, g->budget_w - FALL_SHARE_S * fmax(g->budget_w - least_w, 0)));
            /* never more while blind; where it is lost for good what came meanwhile must not hold for years: up to the floor */
            w = fmin(w, g->lost_s[i] > LOST_LONG_S ? fmax(g->budget_w, least_w) : g->budget_w);
        }
        if (w < least)
            *ret_careful = is_of_others(g, i);
        least = fmin(least, w);
    }
    if (g->options.n_sensors == 0 && !g->options.is_unguarded)
        least = floor_w(g, LOST_SHARE);
    return least;
}

/* ---- trips ------------------------------------------------------------------------------------------------------------------------ */

static void trip(struct governor *g)
{
    g->is_tripped = true;
    memset(g->is_judged, 0, sizeof g->is_judged);
    g->probe_s = 0;
    g->tripped_s = 0;
    g->before_trip_w = g->budget_w;
    g->before_trip_own_w = g->drawn_w;
    for (int i = 0; i < g->options.n_sensors; i++)
        g->trip_c[i] = g->readings[i].good_c;
    g->trips_s[g->n_trips++ % 3] = g->clock_s;
    if (g->clock_s - g->trips_s[g->n_trips % 3] > TRIPS_S) /* the one before the last one */
        return;
    for (int i = 0; i < g->options.n_sensors; i++) /* three in ten minutes: the limit was approached too boldly */
        g->observers[i].raised_k = fmin(g->observers[i].raised_k + TRIP_RAISE_K, 3);
    for (int i = 0; i < 3; i++)
        g->trips_s[i] = -INFINITY;
}

/* A fresh reading, so far below the limit that a stop may end. */
static bool is_below(const struct governor *g, int i)
{
    const struct plausible *p = &g->readings[i];
    const double resume_k = g->is_hard ? (g->options.resume_k[i] > 0 ? g->options.resume_k[i] : HARD_RESUME_K) : RESUME_K;
    return p->has_any && p->age_s == 0 && p->good_c <= g->options.limits_c[i] - resume_k;
}

/* A sensor that stopped everything lets go by a fresh and cool reading of its own. A stop far above the limit ends by nothing else. */
static bool is_cool(struct governor *g)
{
    bool is_any = g->is_margin_over;
    for (int i = 0; i < g->options.n_sensors; i++) {
        if (!g->is_over[i])
            continue;
        const bool is_gone = g->readings[i].age_s > GONE_S && g->tripped_s > GONE_S;
        if (is_below(g, i) || (!g->is_hard && (is_gone || is_of_others(g, i))))
            g->is_over[i] = false; /* gone for good, or warmed by others: from here on the careful floor */
        is_any = is_any || g->is_over[i];
    }
    return !is_any;
}

/* The device's own margin stopped everything until it is large again; where it is not told any more, until all that tell something are cool. */
static void watch_margin(struct governor *g, double margin_k)
{
    bool is_over = margin_k < DEVICE_LEAST_K + HARD_RESUME_K, is_told = !isnan(margin_k);
    for (int i = 0; isnan(margin_k) && i < g->options.n_sensors; i++) {
        if (!g->readings[i].has_any || g->readings[i].age_s > GONE_S)
            continue;
        is_told = true;
        is_over = is_over || !is_below(g, i);
    }
    is_over = is_over || !is_told;
    g->is_margin_over = margin_k < DEVICE_LEAST_K || (g->is_margin_over && is_over);
}

/* Everything stands still and a place stays as warm as it was: somebody else warms it, and our rest helps nobody. */
static void find_foreign_heat(struct governor *g)
{
    for (int i = 0; i < g->options.n_sensors && g->tripped_s >= FOREIGN_S; i++) {
        if (g->is_judged[i] || g->readings[i].age_s > 0) /* once, by its first reading */
            continue;
        g->is_judged[i] = true;
        const double ours_k = g->observers[i].body.r_k_w * g->before_trip_own_w,
                     fallen_k = g->trip_c[i] - g->readings[i].good_c;
        if (g->is_over[i] && fallen_k < fmax(FOREIGN_SHARE * ours_k, FOREIGN_COOL_K))
            g->is_foreign[i] = true;
    }
}

static void watch_limits(struct governor *g, const struct governor_sight *s, double dt)
{
    watch_margin(g, s->device_margin_k);
    bool is_hard = s->device_margin_k < DEVICE_LEAST_K, is_soft = is_hard;
    for (int i = 0; i < g->options.n_sensors; i++) {
        const struct plausible *p = &g->readings[i];
        const double over = p->has_any && p->age_s == 0 ? p->good_c - g->options.limits_c[i] : -INFINITY;
        if (p->age_s == 0 && over <= -RESUME_K)
            g->is_foreign[i] = false;
        /* what does not answer to us our rest would not cool, however hot it is; what others warm, a hot room among them, may become too hot all the same */
        const bool trips = !g->observers[i].is_deaf && over >= (is_of_others(g, i) ? HARD_K : TRIP_K);
        g->is_over[i] = g->is_over[i] || trips;
        is_soft = is_soft || trips;
        is_hard = is_hard || (trips && over >= HARD_K);
    }
    g->tripped_s += dt;
    if (is_soft && !g->is_tripped)
        trip(g);
    g->is_hard = g->is_tripped && (g->is_hard || is_hard);
    if (g->is_tripped && !is_hard)
        find_foreign_heat(g);
    if (g->is_tripped && !is_soft && g->tripped_s >= TRIP_S && is_cool(g)) {
        const double other = workload_watts(&g->workload, 0, 0);
        g->is_tripped = g->is_hard = false;
        g->budget_w = other + TRIP_SHARE * fmax(g->before_trip_w - other, 0);
    }
    g->cap_s -= dt;
    if (s->is_throttled && g->cap_s <= CUT_S - CUT_AGAIN_S) { /* of what is drawn: a budget that nobody uses is no brake */
        const double drawn_w = workload_watts(&g->workload, 0, 0) + g->drawn_w;
        g->cap_s = CUT_S;
        g->capped_w = fmax(CUT_SHARE * fmin(g->budget_w, drawn_w), floor_w(g, LOST_SHARE));
    }
    if (g->cap_s <= 0)
        g->capped_w = INFINITY;
}

/* ---- proof of life -------------------------------------------------------------------------------------------------------------- */

/* Nothing has moved for long: quiet, or dead? Less power for a while shows it, if no other sensor has moved meanwhile. */
static bool probe(struct governor *g, double dt)
{
    g->probe_wait_s -= dt;
    if (g->probe_s > 0) {
        g->probe_s -= dt;
        for (int i = 0; i < g->options.n_sensors && g->probe_s > 0; i++)
            if (g->readings[i].still_s < PROBE_S - g->probe_s) { /* it moved: it lives */
                g->probe_s = 0;
                g->budget_w = g->before_probe_w;
                g->probe_every_s = PROBE_EVERY_S;
            }
        return g->probe_s > 0;
    }
    bool is_suspect = g->options.n_sensors > 0;
    double cut = 0;
    for (int i = 0; i < g->options.n_sensors; i++) {
        const struct observer *o = &g->observers[i];
        is_suspect = is_suspect && (plausible_is_suspect(&g->readings[i]) || g->readings[i].still_s > PROBE_STILL_S);
        cut = fmax(cut, (PROBE_STEPS * o->step_k + doubt_k(g, i)) / o->body.r_k_w);
    }
    const double own_w = g->now_w - workload_watts(&g->workload, 0, 0);
    if (!is_suspect || g->probe_wait_s > 0 || g->options.meter == GOVERNOR_METER_NONE ||
        own_w < cut) /* little work: no danger, and no proof */
        return false;
    g->probe_s = PROBE_S;
    g->probe_wait_s = g->probe_every_s;
    g->probe_every_s = fmin(2 * g->probe_every_s, PROBE_MOST_S); /* a place that hardly answers can prove nothing */
    g->before_probe_w = g->budget_w;
    g->probe_w = fmax(g->now_w - cut, 0);
    return true;
}

/* ---- the grant -------------------------------------------------------------------------------------------------------------------- */

/* What this box sustains: learned while the temperature, and nothing else, is what holds it back. */
static void remember(struct governor *g, double dt)
{
    if (g->sustainable_w <= 0)
        g->sustainable_w = g->budget_w;
    g->sustainable_w += fmin(dt / SUSTAINED_S, 1) * (g->budget_w - g->sustainable_w);
    g->usual_s = fmin(g->usual_s + dt, USUAL_S);
    const bool is_poor = g->sustainable_w < 0.9 * g->usual_w; /* what is unusual becomes usual slowly */
    g->usual_w += dt / (is_poor ? USUAL_S : g->usual_s) * (g->sustainable_w - g->usual_w);
    g->poor_s = g->sustainable_w < POOR_SHARE * g->usual_w ? fmin(g->poor_s + dt, POOR_S) : 0;
}

/* The sensor nearest to its limit, or over it. */
static void find_hottest(const struct governor *g, struct governor_grant *ret)
{
    ret->hottest = -1;
    ret->headroom_k = ret->seconds_to_limit = INFINITY;
    for (int i = 0; i < g->options.n_sensors; i++) {
        const struct observer *o = &g->observers[i];
        if (!o->is_started || g->readings[i].age_s > LOST_S)
            continue;
        const double c = observer_now_c(o), drift = observer_drift_k_s(o), room = o->limit_c - c;
        if (drift > 0 && room / drift < ret->seconds_to_limit)
            ret->seconds_to_limit = fmax(room / drift, 0);
        if (room < ret->headroom_k) {
            ret->hottest = i;
            ret->c = c;
            ret->limit_c = o->limit_c;
            ret->headroom_k = room;
        }
    }
}

/* Slow states that no flag tells of: the brick gives less, the firmware holds the clock. They look like work that draws little. */
static void watch_supply(struct governor *g, const struct governor_sight *s, double dt)
{
    g->workload.is_held = false;
    if (g->options.meter == GOVERNOR_METER_NONE || !is_measured(s) || s->duty < BUSY_DUTY || g->is_tripped || s->is_throttled ||
        !isfinite(g->rest_w)) {
        if (!s->is_limited) /* nothing says that it still is */
            g->limited_s = fmax(g->limited_s - dt, 0);
        return;
    }
    /* over what the box drew at rest: which part of it is ours and which others' cannot be told from work that never changes */
    const double now = fmax(g->now_w - g->rest_w, 0) /
                       fmax(workload_watts(&g->workload, s->batch, s->duty) - g->workload.other_w, 1) * g->workload.factor;
    g->factor = g->factor > 0 ? g->factor + fmin(dt / FACTOR_NEW_S, 1) * (now - g->factor) : now;
    const bool is_less = g->usual_factor > 0 && g->factor < LIMITED_SHARE * g->usual_factor;
    struct governor_grant now_hottest;
    find_hottest(g, &now_hottest);
    const bool is_little = s->is_limited || (is_less && now_hottest.hottest >= 0 && now_hottest.headroom_k >= COOL_K);
    g->limited_s = is_little ? fmin(g->limited_s + dt, LIMITED_S) : 0;
    g->workload.is_held = is_little; /* more sequences would not make up for it */
    if (g->usual_factor <= 0 && g->clock_s > SUSTAINED_S)
        g->usual_factor = g->factor;
    if (g->usual_factor > 0 && !s->is_limited) /* work that has become another one becomes usual, in a day */
        g->usual_factor += fmin(dt / (is_less ? USUAL_S : FACTOR_S), 1) * (g->factor - g->usual_factor);
}

/* Words for what is going on; they do not flicker at the border between two. may: watts that all sensors allow. */
static void describe(struct governor *g, double may, struct governor_grant *ret)
{
    const int batch = (int)fmin(ceil(g->wanted), g->options.batch_max);
    const double wanted_w = workload_watts(&g->workload, batch, 1);
    find_hottest(g, ret);
    g->is_held_back = g->is_running ? may < (g->is_held_back ? HELD_BACK_LEAVE : HELD_BACK) * wanted_w : g->start_w > 0;
    g->is_warm = ret->headroom_k < (g->is_warm ? WARM_LEAVE_K : WARM_K);
    ret->level = g->is_tripped || ret->is_gone ? GOVERNOR_PAUSED
                 : ret->blind >= 0             ? GOVERNOR_BLIND
                 : g->is_held_back             ? GOVERNOR_THROTTLED
                 : g->is_warm                  ? GOVERNOR_WARM
                                               : GOVERNOR_NOMINAL;
    ret->budget_w = g->budget_w;
    ret->sustainable_w = g->sustainable_w;
    ret->is_trip = g->is_tripped;
    ret->is_hard_trip = g->is_hard;
    ret->needs_service = g->poor_s >= POOR_S;
    ret->is_limited = g->limited_s >= LIMITED_S;
    ret->foreign = -1;
    for (int i = g->options.n_sensors - 1; i >= 0; i--) {
        ret->raised_k = fmax(ret->raised_k, g->observers[i].raised_k);
        if (g->is_foreign[i])
            ret->foreign = i;
    }
}

/* Watts a second that the budget may rise by: less while the box is not known. */
static double rise_w(const struct governor *g)
{
    for (int i = 0; i < g->options.n_sensors; i++)
        if (!g->observers[i].is_known && g->observers[i].n_deaf == 0)
            return RISE_LEAST_W;
    return fmax(RISE_LEAST_W, RISE_SHARE_S * workload_most_w(&g->workload));
}

static void choose(struct governor *g, const struct governor_sight *s, double dt, struct governor_grant *ret)
{
    workload_choose(&g->workload, g->options.policy, dt, g->budget_w, s->demand, &ret->permit.batch, &ret->duty);
    const double next = g->now_w + dt * rise_w(g);
    if (ret->permit.batch != g->batch && g->batch > 0 && s->batch > 0 &&
        next < g->budget_w) { /* what the new one draws is a guess: not all at once */
        g->budget_w = fmax(next, 0);
        workload_choose(&g->workload, g->options.policy, 0, g->budget_w, s->demand, &ret->permit.batch, &ret->duty);
    }
    g->batch = ret->permit.batch;
}

/* The meter has answered only now that we work: what the box draws without us is to be seen first. */
static bool is_rest_wanted(const struct governor *g, const struct governor_sight *s)
{
    return !g->is_unit_known && is_measured(s) && !isfinite(g->rest_w);
}

/* Watts of the first step. */
static double first_w(const struct governor *g)
{
    const double other = workload_watts(&g->workload, 0, 0);
    return other + fmin(START_SHARE * (workload_most_w(&g->workload) - other), g->start_w > 0 ? g->start_w : INFINITY);
}

/* The budget of this second, and what is done with it. may: watts that all sensors allow. */
static void spend(struct governor *g, const struct governor_sight *s, double dt, double may, struct governor_grant *ret)
{
    const double most = workload_most_w(&g->workload);
    const bool is_blind = ret->blind >= 0;
    if (!g->is_unit_known) /* what is learned from the first step would only seem to leave room for more */
        may = fmin(may, first_w(g));
    if (is_blind) /* found out */
        g->probe_s = 0;
    ret->is_probe = !is_blind && probe(g, dt);
    g->budget_w = clamp(fmin(may, g->budget_w + dt * rise_w(g)), 0, most);
    if (ret->is_probe)
        g->budget_w = fmin(g->budget_w, g->probe_w);
    choose(g, s, dt, ret);
    if (!is_blind && !ret->is_probe && !g->is_careful && g->cap_s <= 0 && g->is_unit_known) {
        if (g->budget_w >= may && ret->duty < 1)
            remember(g, dt);
        else if (may >= most || ret->duty >= 1) /* nothing is held back: whatever was wrong is not any more */
            g->poor_s = fmax(g->poor_s - POOR_FADES * dt, 0);
    }
    if ((is_blind && g->options.pauses_blind && trust(g, ret->blind) == LOST_SHARE) || is_rest_wanted(g, s))
        ret->duty = 0;
}

/*
 * What our first work draws, in the unit so far, shows how large the box is. One that is much smaller or larger begins anew in its own unit: nothing else is known of it yet.
 */
static void find_unit(struct governor *g, const struct governor_sight *s, double dt)
{
    const double table_w = workload_table_watts(&g->workload, s->batch, s->duty);
    if (g->is_unit_known || !g->is_running || g->is_tripped)
        return;
    g->unit_work_s += dt * (is_rest_wanted(g, s) ? 1 : fmin(table_w / UNIT_WORK_W, 1));
    g->is_unit_known = g->unit_work_s >= UNIT_CARE_S; /* it cannot be told */
    if (!is_measured(s) || table_w < UNIT_WORK_W || !isfinite(g->rest_w))
        return;
    const int half = g->unit_s < UNIT_S / 2 ? 0 : 1;
    g->unit_s += dt;
    g->unit_w[half] += dt * fmax(s->watts - g->rest_w, 0);
    g->unit_table_w[half] += dt * table_w;
    if (g->unit_s < UNIT_S || g->unit_table_w[1] <= 0)
        return;
    const double first = g->unit_w[0] / g->unit_table_w[0], second = g->unit_w[1] / g->unit_table_w[1];
    const double mean_w = (g->unit_w[0] + g->unit_w[1]) / g->unit_s;
    const double unit = unit_of((g->unit_w[0] + g->unit_w[1]) / (g->unit_table_w[0] + g->unit_table_w[1]));
    memset(g->unit_w, 0, sizeof g->unit_w);
    memset(g->unit_table_w, 0, sizeof g->unit_table_w);
    g->unit_s = 0;
    if (!(first < UNIT_AGREES * second && second < UNIT_AGREES * first)) /* others come and go meanwhile: look again */
        return;
    g->next_unit = unit != 1 ? unit : 0;
    g->start_w = START_AGAIN * mean_w / unit;
    g->is_unit_known = g->is_unit_found = true;
}

/* Seconds since the last tick. After a suspend, or when the clock went back, nothing of the past counts. */
static double advance(struct governor *g, int64_t now_ns)
{
    double dt = g->has_begun ? (double)(now_ns - g->last_ns) / 1e9 : 1;
    if (g->has_begun && (dt < 0 || dt > LATE_S)) {
        restart(g);
        dt = 1;
    }
    dt = fmax(dt, FORWARD_S);
    g->has_begun = true;
    g->last_ns = now_ns;
    g->clock_s += dt;
    return dt;
}

/* In the box's unit. Returns the seconds. */
static double tick(struct governor *g, const struct governor_sight *s, struct governor_grant *ret)
{
    memset(ret, 0, sizeof *ret);
    const double dt = advance(g, s->now_ns);
    look(g, s, dt);
    watch_limits(g, s, dt);
    watch_supply(g, s, dt);

    note_lost(g, dt);
    const double most = workload_most_w(&g->workload);
    const double may = fmin(allowed(g, &ret->blind, &g->is_careful), g->capped_w);
    for (int i = 0; i < g->options.n_sensors; i++)
        g->doubtful[i] -= g->doubtful[i] > 0 && g->readings[i].age_s == 0;
    const bool has_rest = isfinite(g->rest_w) || g->options.meter == GOVERNOR_METER_NONE || g->clock_s > REST_MOST_S;
    if (!g->is_running && g->clock_s > REST_S && has_rest) {
        g->is_running = true;
        g->budget_w = first_w(g);
        if (ret->blind >= 0)
            g->budget_w = fmin(g->budget_w, floor_w(g, LOST_SHARE));
    }
    const bool is_free = g->options.n_sensors == 0 && g->options.is_unguarded;
    if (is_free) {
        g->budget_w = most;
        ret->permit.batch = g->options.batch_max;
        ret->duty = 1;
    } else if (g->is_running && !g->is_tripped)
        spend(g, s, dt, may, ret);
    ret->is_gone = s->is_gone;
    if (ret->is_gone)
        ret->duty = 0;
    if (ret->duty < DUTY_LEAST)
        ret->permit.batch = 0;
    ret->permit.idle_permille = (int32_t)(1000 * (1 - ret->duty) + 0.5);
    ret->permit.expires_ns = s->now_ns + GOVERNOR_PERMIT_NS;
    describe(g, is_free ? INFINITY : may, ret);
    return dt;
}

/* In the unit that was found: nothing stays but what the device itself has said. */
static void begin_again(struct governor *g)
{
    const struct governor before = *g;
    begin(g, &before.options, NULL, before.next_unit);
    g->is_unit_known = g->is_unit_found = true;
    g->start_w = before.start_w;
    g->cap_s = before.cap_s;
    g->capped_w = before.capped_w * before.unit / g->unit;
    g->clock_s = -REST_AGAIN_S;
}

void governor_tick(struct governor *g, const struct governor_sight *sight, struct governor_grant *ret)
{
    struct governor_sight s = *sight;
    if (g->next_unit > 0 && s.duty <= 0 && !g->is_tripped)
        begin_again(g);
    s.watts /= g->unit;
    const double dt = tick(g, &s, ret);
    find_unit(g, &s, dt);
    ret->budget_w *= g->unit;
    ret->sustainable_w *= g->unit;
    if (g->next_unit > 0) { /* it begins at rest */
        ret->duty = 0;
        ret->permit.batch = 0;
        ret->permit.idle_permille = 1000;
    }
}

int governor_get_memory(const struct governor *g, struct governor_memory *ret)
{
    int n_learned = 0;
    memset(ret, 0, sizeof *ret);
    for (int i = 0; i < g->options.n_sensors; i++) {
        const struct observer *o = &g->observers[i];
        n_learned += o->is_learned;
        ret->limits_c[i] = g->options.limits_c[i];
        if (o->is_known)
            ret->bodies[i] = o->body;
    }
    ret->sustainable_w = g->usual_w;
    workload_remember(&g->workload, &ret->workload);
    ret->factor =
        g->usual_factor / (ret->workload.n_rungs > 0 ? g->workload.factor : 1); /* rungs are kept as they were measured */
    convert(ret, 1 / g->unit);
    ret->unit = g->is_unit_found && g->next_unit <= 0 ? g->unit : 0;
    return n_learned;
}
