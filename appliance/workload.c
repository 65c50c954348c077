#include "appliance/workload.h"

#include <math.h>
#include <string.h>

#include "base/clamp.h"

/* Before anything was measured: decoding reads the same weights for every batch. */
#define USUAL_SHARE  0.75 /* of the watts that a batch of one draws */
#define USUAL_SHARED 0.6  /* of the time that a batch of two takes longer than one */

#define OTHER_START_VAR  4.0 /* W^2 */
#define FACTOR_START_VAR 0.0225
#define FACTOR_BLIND_VAR 0.25 /* where no table is known */
#define OTHER_WALK_W     0.5  /* a second */
#define FACTOR_WALK      0.002
#define METER_NOISE      0.02
#define RIPPLE_NEW       0.05
#define RIPPLE_VAR       1.5
#define SURGE_SDS        2.0
#define SURGE_FACTOR     0.03
#define FACTOR_MIN       0.2
#define FACTOR_MAX       5.0

#define DWELL_S          60.0 /* between two changes of the batch */
#define GAIN_LEAST       0.01 /* for which it is changed */
#define HOPE_SPEED       0.03 /* of a rung that was never tried */
#define HOPE_WATTS       0.05
#define HOPE_SPEED_BLIND 0.12 /* without a table */
#define HOPE_WATTS_BLIND 0.12
#define SEEN_KEPT_S      120.0
#define KNOWN_S          20.0
#define CARE             0.12 /* more watts expected of a rung in its first second */
#define SETTLE_S         15.0
#define BUDGET_NEW       0.03
#define EDGE_SHARE       0.5 /* of what our work changed by, while the meter may be a little earlier or later than thought */
#define CALM_EDGE        0.1
#define DUTY_LEAST       0.1   /* below, little is learned */
#define SPEED_LATE_S     1.5   /* of a second in which the batch changed, a part belongs to the one before */
#define SPEED_PRIOR_S    5.0   /* for which the table counts */
#define SPEED_KNOWN_S    120.0 /* work comes in pictures, prompts and answers: less is luck */
#define SPEED_FADES_S    7200.0
#define SPEED_TIMES      5.0 /* at most, over or below what was thought */
#define FACTOR_NEW_S     60.0
#define FREE_GAIN        0.05 /* for which the largest batch is left where nothing holds it back */

/* How little is known, from seconds that tell of it. */
static double hope(double known_s)
{
    return 1 / (1 + known_s / KNOWN_S);
}

void workload_init(struct workload *w, int batch_max, const double *watts, const double *speed)
{
    memset(w, 0, sizeof *w);
    for (int b = 1; w->n_rungs < WORKLOAD_RUNGS; b += b < 8 ? 1 : b < 16 ? 4 : b < 32 ? 8 : b / 2) {
        const bool is_last = b >= batch_max || w->n_rungs == WORKLOAD_RUNGS - 1;
        struct workload_rung *r = &w->rungs[w->n_rungs++];
        r->batch = is_last ? batch_max : b;
        const double share = batch_max > 1 ? (r->batch - 1.0) / (batch_max - 1) : 1;
        r->watts = watts ? watts[r->batch] : WORKLOAD_USUAL_W * (USUAL_SHARE + (1 - USUAL_SHARE) * share);
        r->speed = speed ? speed[r->batch] : r->batch / (1 + USUAL_SHARED * (r->batch - 1));
        if (is_last)
            break;
    }
    memcpy(w->table, w->rungs, sizeof w->table);
    lateness_init(&w->lateness);
    w->factor = w->speed_factor = 1;
    w->hope_speed = speed ? HOPE_SPEED : HOPE_SPEED_BLIND;
    w->hope_watts = watts ? HOPE_WATTS : HOPE_WATTS_BLIND;
    w->var_other = OTHER_START_VAR;
    w->var_factor = watts ? FACTOR_START_VAR : FACTOR_BLIND_VAR;
    w->rung = -1;
}

/* The largest rung that is not above the batch. */
static int find(const struct workload *w, int batch)
{
    int found = 0;
    while (found + 1 < w->n_rungs && w->rungs[found + 1].batch <= batch)
        found++;
    return found;
}

enum figure { WATTS, SPEED };

static double *figure_of(struct workload_rung *r, enum figure f)
{
    return f == WATTS ? &r->watts : &r->speed;
}

static bool is_known(const struct workload_rung *r, enum figure f)
{
    return (f == WATTS ? r->seen_s : r->speed_s) > 0;
}

/* What is between two rungs that were tried, or beyond them, differs from the table as they do. */
static void spread(struct workload *w, enum figure f)
{
    int below = -1;
    for (int k = 0; k < w->n_rungs; k++) {
        if (is_known(&w->rungs[k], f)) {
            below = k;
            continue;
        }
        int above = k;
        while (above < w->n_rungs && !is_known(&w->rungs[above], f))
            above++;
        if (below < 0 && above == w->n_rungs)
            return;
        const int lo = below >= 0 ? below : above, hi = above < w->n_rungs ? above : below;
        const double part = hi > lo ? (double)(k - lo) / (hi - lo) : 0;
        const double at_lo = *figure_of(&w->rungs[lo], f) / *figure_of(&w->table[lo], f),
                     at_hi = *figure_of(&w->rungs[hi], f) / *figure_of(&w->table[hi], f);
        *figure_of(&w->rungs[k], f) = *figure_of(&w->table[k], f) * pow(at_lo, 1 - part) * pow(at_hi, part);
    }
}

void workload_recall(struct workload *w, const struct workload_memory *memory)
{
    for (int i = 0; i < memory->n_rungs; i++) {
        struct workload_rung *r = &w->rungs[find(w, memory->rungs[i].batch)];
        if (r->batch == memory->rungs[i].batch) {
            *r = memory->rungs[i];
            w->var_factor = FACTOR_START_VAR;
        }
    }
    spread(w, WATTS);
    spread(w, SPEED);
}

void workload_remember(const struct workload *w, struct workload_memory *ret)
{
    ret->n_rungs = 0;
    for (int i = 0; i < w->n_rungs; i++)
        if (w->rungs[i].seen_s >= KNOWN_S ||
            w->rungs[i].speed_s >= SPEED_KNOWN_S / 4) { /* of what is recalled a half is left */
            struct workload_rung *r = &ret->rungs[ret->n_rungs++];
            *r = w->rungs[i];
            r->watts *= w->factor;
            r->speed *= w->speed_factor;
            r->seen_s =
                fmin(r->seen_s, SEEN_KEPT_S); /* it may have changed by the next start: learned anew, but not from nothing */
            r->speed_s = fmin(r->speed_s, SPEED_KNOWN_S / 2);
        }
}

/* The rung is new: what differs from the table is its own. h: what it should have drawn by the table. */
static void learn_rung_watts(const struct workload *w, struct workload_rung *r, double watts, double h)
{
    const double share = fmax(1 / (1 + r->seen_s), 0.05); /* less, the longer it is known */
    r->watts *= 1 + share * (clamp((watts - w->other_w) / (h * w->factor), 0.7, 1.4) - 1);
}

/* A step of the Kalman filter over what others draw and the factor; h: watts of this work by the table. */
static void learn_split(struct workload *w, double e, double h, double noise_var, bool is_surge)
{
    if (is_surge) {
        w->var_other += e * e;
        w->var_factor += SURGE_FACTOR * SURGE_FACTOR;
    }
    const double row_o = w->var_other + h * w->covar, row_f = w->covar + h * w->var_factor, var = row_o + h * row_f + noise_var;
    const double gain_o = row_o / var, gain_f = row_f / var;
    w->other_w = fmax(w->other_w + gain_o * e, 0);
    w->factor = clamp(w->factor + gain_f * e, FACTOR_MIN, FACTOR_MAX);
    w->var_other -= gain_o * row_o;
    w->covar -= gain_o * row_f;
    w->var_factor -= gain_f * row_f;
}

static bool is_working(const struct workload *w, int batch, double duty)
{
    return batch > 0 && duty > 0 && w->rung >= 0;
}

double workload_note(struct workload *w, double dt, double watts, int batch, double duty)
{
    const double own = is_working(w, batch, duty) ? duty * w->rungs[find(w, batch)].watts : 0;
    w->since_s += dt;
    lateness_push(&w->lateness, own);
    return isnan(watts) ? NAN : fmax(watts + w->factor * (own - lateness_seen(&w->lateness)), 0);
}

double workload_learn(struct workload *w, double dt, double watts, int batch, double duty)
{
    lateness_learn(&w->lateness, watts);
    if (isnan(watts))
        return 0;
    if (lateness_is_clear(&w->lateness)) { /* nothing of ours: all is others' */
        w->other_w += (w->other_w > 0 ? 0.5 : 1) * (watts - w->other_w);
        return 0;
    }
    const double h = lateness_seen(&w->lateness), e = watts - w->other_w - h * w->factor;
    const double noise = METER_NOISE * watts, edge = EDGE_SHARE * w->factor * lateness_doubt(&w->lateness);
    const double var = noise * noise + RIPPLE_VAR * w->ripple_w * w->ripple_w + 0.01 + edge * edge, sd = sqrt(var);
    const bool is_surge = e > SURGE_SDS * sd, is_working_now = is_working(w, batch, duty);
    struct workload_rung *r = &w->rungs[find(w, batch)];
    w->ripple_w += RIPPLE_NEW * (fmin(fabs(e), 3 * sd) - w->ripple_w);
    w->var_other += OTHER_WALK_W * OTHER_WALK_W * dt;
    w->var_factor += FACTOR_WALK * FACTOR_WALK * dt;
    const bool is_settling = w->settle_s > 0;
    /* what the meter says is of this rung */
    const bool is_alone = is_working_now && edge < CALM_EDGE * h && w->since_s > lateness_s(&w->lateness);
    if (!is_settling)
        learn_split(w, e, h, var, is_surge);
    else if (is_alone && duty >= DUTY_LEAST) {
        learn_rung_watts(w, r, watts, h);
        spread(w, WATTS);
    }
    if (is_settling && is_working_now) /* work in short bursts shows no rung alone: it does not wait for that for ever */
        w->settle_s -= dt;
    if ((is_settling ? is_alone : is_working_now) && duty >= DUTY_LEAST)
        r->seen_s += dt;
    return is_surge ? e : 0;
}

/* The first batch that anything is known of is as the table says, in its own unit. What differs of the others is theirs, until it is known; from then on it is of all of them. */
void workload_learn_speed(struct workload *w, int batch, double duty, double speed, double span_s)
{
    struct workload_rung *r = &w->rungs[find(w, batch)];
    for (int i = 0; i < w->n_rungs && duty > 0; i++)
        if (&w->rungs[i] != r)
            w->rungs[i].speed_s *= exp(-span_s / SPEED_FADES_S);
    if (!is_working(w, batch, duty) || duty < DUTY_LEAST || isnan(speed) || w->since_s < SPEED_LATE_S)
        return;
    const double now = speed / duty;
    if (w->speed_factor_s <= 0)
        r->speed_s = fmax(r->speed_s, SPEED_KNOWN_S);
    if (r->speed_s >= SPEED_KNOWN_S) {
        w->speed_factor_s += span_s;
        w->speed_factor += fmin(span_s / fmin(w->speed_factor_s, FACTOR_NEW_S), 1) * (now / r->speed - w->speed_factor);
    } else {
        const double relative = clamp(now / w->speed_factor, r->speed / SPEED_TIMES, r->speed * SPEED_TIMES);
        r->speed += span_s / (SPEED_PRIOR_S + r->speed_s + span_s) * (relative - r->speed);
        r->speed_s += span_s;
        spread(w, SPEED);
    }
}

double workload_watts(const struct workload *w, int batch, double duty)
{
    return w->other_w + (batch > 0 ? duty * w->factor * w->rungs[find(w, batch)].watts : 0);
}

double workload_table_watts(const struct workload *w, int batch, double duty)
{
    return batch > 0 ? duty * w->table[find(w, batch)].watts : 0;
}

double workload_most_w(const struct workload *w)
{
    return workload_watts(w, w->rungs[w->n_rungs - 1].batch, 1);
}

/* Tokens a second that are hoped for with these watts of our own. */
static double promise(const struct workload *w, const struct workload_rung *r, double own_w)
{
    const double watts = w->factor * r->watts, fast = r->speed * (1 + w->hope_speed * hope(r->speed_s));
    const bool is_free = r == &w->rungs[w->n_rungs - 1] && own_w >= watts;
    return fast * (is_free ? 1 + FREE_GAIN : 1) * fmin(1, own_w / (watts * (1 - w->hope_watts * hope(r->seen_s))));
}

static int best_rung(const struct workload *w, enum workload_policy policy, double own_w)
{
    int best = 0;
    for (int i = 1; i < w->n_rungs; i++) {
        const struct workload_rung *r = &w->rungs[i];
        if (policy == WORKLOAD_LADDER ? w->factor * r->watts <= own_w
                                      : promise(w, r, own_w) > promise(w, &w->rungs[best], own_w))
            best = i;
    }
    return best;
}

void workload_choose(struct workload *w, enum workload_policy policy, double dt, double budget_w, int demand, int *ret_batch,
                     double *ret_duty)
{
    const double own = fmax(budget_w - w->other_w, 0);
    if (w->rung < 0) {
        w->rung = best_rung(w, policy, INFINITY);
        w->budget_w = own;
        w->since_s = INFINITY;
    }
    w->budget_w += fmin(BUDGET_NEW * dt, 1) * (own - w->budget_w);
    if (w->since_s > DWELL_S && !w->is_held) {
        const int best = best_rung(w, policy, w->budget_w);
        const double now = promise(w, &w->rungs[w->rung], w->budget_w), then = promise(w, &w->rungs[best], w->budget_w);
        if (best != w->rung && (policy == WORKLOAD_LADDER || then > now * (1 + GAIN_LEAST))) {
            w->rung = best;
            w->since_s = 0;
            w->settle_s = SETTLE_S;
        }
    }
    *ret_batch = w->rungs[w->rung].batch;
    const struct workload_rung *r = &w->rungs[demand > 0 && demand < *ret_batch ? find(w, demand) : w->rung];
    *ret_duty = fmin(1, own / (w->factor * r->watts * (1 + CARE / (1 + r->seen_s))));
}
