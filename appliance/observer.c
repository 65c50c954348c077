/*
 * The law, for steps of a second:
 *
 *     fast     follows the watts (delay seconds ago) with tau
 *     z        reading - r fast; predicted by z += dt (watts - leaving) / C, then corrected by alpha x innovation
 *     leaving  corrected by -beta C x innovation: what drifts without a change of watts is heat that leaves slower or faster
 *     allowed  u = (limit - margin - z + H leaving / C) / (r + H / C): the constant watts that stand at the limit less the margin H seconds ahead
 *
 * alpha and beta follow from how noisy and coarse the sensor is, as the gains of a tracking filter do (P. R. Kalata, The tracking index, 1984: both grow with the
 * root of manoeuvre over noise); twice as large while the innovation keeps its sign.
 */
#include "appliance/observer.h"

#include <math.h>
#include <string.h>

#include "base/clamp.h"

/* Before anything is learned: careful. A large resistance makes the law gentle. */
static const struct observer_body UNKNOWN = {.r_k_w = 0.22, .tau_s = 4, .delay_s = 1, .sink_j_k = 400};

#define R_DEAF       0.01 /* K/W, at once or within DEAF_S */
#define R_ANSWERS    0.05
#define DEAF_S       60.0
#define R_MIN        0.08
#define R_MAX        0.35
#define R_CARE       1.15 /* of the fitted resistance: too large costs little, too small oscillates */
#define SINK_MIN     150.0
#define SINK_MAX     800.0
#define KNOWN_TIMES  2.0 /* by which a start may differ from what is known */
#define KNOWN_NEW    0.3
#define LEARN_S      60.0
#define LEARN_MOST_S 300.0
#define QUIET_S      10.0
#define DEAF_TIMES   2
#define LEARN_J      320.0 /* away from rest: less says nothing */

#define ALPHA            0.32 /* at SD_USUAL */
#define BETA             0.01
#define ALPHA_MAX        0.5
#define BETA_MAX         0.1
#define SD_USUAL_K       0.35
#define KEEPS_SIGN_K     0.5
#define OVER_K           0.4
#define OVER_SHARE       2.5 /* of a reading that far over the limit */
#define WARMER_SHARE     1.3 /* of what looks warmer than thought: the dangerous side is believed sooner */
#define INNOVATION_MAX_K 4.0
#define DRIFT_MIN_K_S    -0.3
#define DRIFT_MAX_K_S    0.6
#define AHEAD_WARMING_S  20.0
#define SILENT_S         30.0 /* without a reading: what leaves by then is no longer known */
#define SETTLES_S        20.0
#define AHEAD_COOLING_S  12.0

#define MARGIN_MAX_K   4.0
#define MARGIN_LEAST_K 0.2 /* of a perfect sensor, and this much more for each K of its standard deviation */
#define MARGIN_PER_SD  1.0
/* Seconds until it is seen, by J/K as a minute shows them: under a light sink a vent that is blocked is hot before that. */
#define LIGHT_LEAST    0.004
#define MARGIN_LIGHT_K 140.0
#define NEAR_K         0.1 /* under the limit: the margin grows from here on */
#define GROWS_K_S      0.1
#define SURGE_SHARE    4.0 /* of a second's rise under a surge: it comes between two looks, and again larger */
#define SURGE_FREE_K   0.5
#define SURGE_MAX_K    3.0

static const double TAUS[OBSERVER_TAUS] = {1.5, 3, 5, 8}, DELAYS[OBSERVER_DELAYS] = {0, 1, 2};

void observer_init(struct observer *o, double limit_c, const struct observer_body *known, double start_margin_k,
                   double calm_k_s)
{
    memset(o, 0, sizeof *o);
    o->limit_c = limit_c;
    o->is_known = known && known->r_k_w > 0;
    o->body = o->is_known ? *known : UNKNOWN;
    o->answer_k_w = o->is_known && known->r_k_w > R_MIN ? known->r_k_w : 0;
    o->margin_k = o->start_margin_k = start_margin_k;
    o->calm_k_s = calm_k_s;
    o->step_k = 1;
}

void observer_restart(struct observer *o)
{
    o->is_started = false;
    o->margin_k = fmax(o->margin_k, o->start_margin_k);
    o->fit_s = o->silent_s = 0;
}

/* Mean watts `delay` seconds ago. */
static double delayed(const struct observer *o, double delay)
{
    const int i = (int)delay;
    const double part = delay - i;
    return (1 - part) * o->past_w[i] + part * o->past_w[i + 1 < OBSERVER_PAST ? i + 1 : i];
}

/* ---- learning ------------------------------------------------------------------------------------------------------------ */

/* a x = b by Gauss and Jordan, and what the fit leaves over. false: nothing can be said. */
static bool solve(const struct observer_fit *f, double ret_x[3], double *ret_rest)
{
    double m[3][4];
    for (int i = 0; i < 3; i++) {
        memcpy(m[i], f->a[i], sizeof f->a[i]);
        m[i][3] = f->b[i];
    }
    for (int i = 0; i < 3; i++) {
        int pivot = i;
        for (int j = i + 1; j < 3; j++)
            if (fabs(m[j][i]) > fabs(m[pivot][i]))
                pivot = j;
        if (fabs(m[pivot][i]) < 1e-9)
            return false;
        for (int k = 0; k < 4; k++) {
            const double swap = m[i][k];
            m[i][k] = m[pivot][k];
            m[pivot][k] = swap;
        }
        for (int j = 0; j < 3; j++) {
            const double share = j == i ? 0 : m[j][i] / m[i][i];
            for (int k = i; k < 4; k++)
                m[j][k] -= share * m[i][k];
        }
    }
    *ret_rest = f->yy;
    for (int i = 0; i < 3; i++) {
        ret_x[i] = m[i][3] / m[i][i];
        *ret_rest -= ret_x[i] * f->b[i];
    }
    return true;
}

/* The best of the fits. false: nothing fits. */
static bool find_body(const struct observer *o, struct observer_body *ret, double *ret_fast_w, double *ret_answer,
                      bool *ret_deaf)
{
    double least = INFINITY;
    for (int i = 0; i < OBSERVER_TAUS; i++)
        for (int j = 0; j < OBSERVER_DELAYS; j++) {
            double x[3], rest;
            if (!solve(&o->fits[i][j], x, &rest) || !(rest < least))
                continue;
            least = rest;
            *ret_answer = R_CARE * x[1];
            *ret_deaf = x[1] < R_DEAF && x[2] * DEAF_S < R_DEAF;
            *ret = (struct observer_body){.r_k_w = clamp(R_CARE * x[1], R_MIN, R_MAX),
                                          .tau_s = TAUS[i],
                                          .delay_s = DELAYS[j],
                                          .sink_j_k = x[2] > 0 ? clamp(1 / x[2], SINK_MIN, SINK_MAX) : SINK_MAX};
            *ret_fast_w = o->fits[i][j].fast_w + o->first_w;
        }
    return least < INFINITY;
}

/* The body that this step shows; where one was known, it is moved towards it, or replaced if it cannot be the same box. The same reading is split anew. */
static void take_fit(struct observer *o)
{
    const double now = observer_now_c(o);
    struct observer_body found;
    double fast_w = o->fast_w;
    bool is_deaf = false;
    o->fit_s = 0;
    if (!find_body(o, &found, &fast_w, &o->answer_k_w, &is_deaf))
        return;
    if (is_deaf && ++o->n_deaf >= DEAF_TIMES)
        o->is_deaf = true;
    else if (o->answer_k_w >= R_ANSWERS) { /* between the two it stays what it was thought to be */
        o->n_deaf = 0;
        o->is_deaf = false;
    }
    if (is_deaf)
        return;
    const double ratio = found.r_k_w / o->body.r_k_w;
    if (o->is_known && ratio > 1 / KNOWN_TIMES && ratio < KNOWN_TIMES) {
        o->body.r_k_w += KNOWN_NEW * (found.r_k_w - o->body.r_k_w);
        o->body.tau_s += KNOWN_NEW * (found.tau_s - o->body.tau_s);
        o->body.delay_s += KNOWN_NEW * (found.delay_s - o->body.delay_s);
        o->body.sink_j_k *= pow(found.sink_j_k / o->body.sink_j_k, KNOWN_NEW);
    } else {
        o->body = found;
        o->fast_w = fast_w;
    }
    o->is_known = o->is_learned = true;
    o->slow_c = now - o->body.r_k_w * o->fast_w;
}

/* Our work has begun, from rest: a step of power. */
static void open_window(struct observer *o)
{
    memset(o->fits, 0, sizeof o->fits);
    for (int i = 0; i < OBSERVER_TAUS; i++) /* the seconds of rest before it are points of the fit, too */
        for (int j = 0; j < OBSERVER_DELAYS; j++)
            o->fits[i][j].a[0][0] = o->quiet_s;
    o->integral_j = o->moved_j = 0;
    o->first_w = o->quiet_w;
    o->first_c = o->quiet_c;
}

static void learn(struct observer *o, double dt, double c)
{
    o->fit_s += dt;
    o->integral_j += dt * (o->past_w[0] - o->first_w);
    o->moved_j += dt * fabs(o->past_w[0] - o->first_w);
    for (int i = 0; i < OBSERVER_TAUS; i++)
        for (int j = 0; j < OBSERVER_DELAYS; j++) {
            struct observer_fit *f = &o->fits[i][j];
            f->fast_w += (delayed(o, DELAYS[j]) - o->first_w - f->fast_w) * (1 - exp(-dt / TAUS[i]));
            const double x[3] = {1, f->fast_w, o->integral_j}, y = c - o->first_c;
            for (int k = 0; k < 3; k++) {
                for (int l = 0; l < 3; l++)
                    f->a[k][l] += x[k] * x[l];
                f->b[k] += x[k] * y;
            }
            f->yy += y * y;
        }
    if (o->fit_s >= LEARN_S && o->moved_j >= LEARN_J)
        take_fit(o);
    else if (o->fit_s > LEARN_MOST_S) /* hardly anything happened */
        o->fit_s = 0;
}

/* Learn from the next step, until one was learned. */
static void watch_step(struct observer *o, double dt, double c, enum observer_work work)
{
    if (work == OBSERVER_UNCLEAR)
        o->fit_s = 0;
    else if (work == OBSERVER_REST && o->fit_s == 0) {
        o->quiet_s = fmin(o->quiet_s + dt, QUIET_S);
        o->quiet_w += fmin(dt / o->quiet_s, 1) * (o->past_w[0] - o->quiet_w);
        o->quiet_c += fmin(dt / o->quiet_s, 1) * (c - o->quiet_c);
    } else if (!o->is_learned) {
        if (o->fit_s == 0)
            open_window(o);
        learn(o, dt, c);
    }
}

/* ---- the estimate ---------------------------------------------------------------------------------------------------------- */

static void start(struct observer *o, double watts, double c)
{
    o->is_started = true;
    for (int i = 0; i < OBSERVER_PAST; i++)
        o->past_w[i] = watts;
    o->fast_w = o->leaving_w = o->quiet_w = watts;
    o->slow_c = c - o->body.r_k_w * watts;
    o->quiet_c = o->last_c = c;
    o->smooth_k = o->noise_k = 0;
}

/* Nothing is left of the estimate after so long a silence but the watts, which were measured all the time. */
static void come_back(struct observer *o, double now_w, double c)
{
    o->leaving_w = now_w;
    o->slow_c = c - o->body.r_k_w * o->fast_w;
    o->last_c = c;
    o->smooth_k = 0;
    o->margin_k = fmax(o->margin_k, o->start_margin_k);
    o->fit_s = 0;
}

/* Resolution: the smallest step ever seen. */
static void note_step(struct observer *o, double c)
{
    const double step = fabs(c - o->last_c);
    if (step > 0.05 && step < o->step_k)
        o->step_k = step;
    o->last_c = c;
}

static double sensor_sd(const struct observer *o)
{
    return sqrt(o->step_k * o->step_k / 12 + 1.5 * o->noise_k * o->noise_k);
}

static void correct(struct observer *o, double dt, double now_w, double c)
{
    double e = clamp(c - observer_now_c(o), -INNOVATION_MAX_K, INNOVATION_MAX_K);
    if (e > 0)
        e *= c > o->limit_c + OVER_K ? OVER_SHARE : WARMER_SHARE;
    o->smooth_k += 0.3 * (e - o->smooth_k);
    o->noise_k += 0.02 * (fabs(e - o->smooth_k) - o->noise_k);
    const double fine = SD_USUAL_K / sensor_sd(o), boost = fabs(o->smooth_k) > KEEPS_SIGN_K + o->noise_k ? 2 : 1;
    o->slow_c += fmin(ALPHA * sqrt(fine) * boost, ALPHA_MAX) * e;
    o->leaving_w -= fmin(BETA * fine * boost * boost, BETA_MAX) * e * o->body.sink_j_k;
    o->leaving_w = now_w - clamp(now_w - o->leaving_w, DRIFT_MIN_K_S * o->body.sink_j_k, DRIFT_MAX_K_S * o->body.sink_j_k);

    const double above = observer_now_c(o) - (o->limit_c - NEAR_K);
    o->margin_k += dt * (above >= 0 ? GROWS_K_S * fmin(1, 2 * above) : -o->calm_k_s);
    const double light = fmax((1 + o->body.delay_s) / o->body.sink_j_k - LIGHT_LEAST, 0);
    o->margin_k =
        clamp(o->margin_k, MARGIN_LEAST_K + MARGIN_PER_SD * sensor_sd(o) + MARGIN_LIGHT_K * light + o->raised_k, MARGIN_MAX_K);
}

void observer_note(struct observer *o, double dt, double watts, double c, enum observer_work work)
{
    if (!o->is_started) {
        if (isnan(c))
            return;
        start(o, watts, c);
    }
    memmove(&o->past_w[1], &o->past_w[0], (OBSERVER_PAST - 1) * sizeof o->past_w[0]);
    o->past_w[0] = watts;
    const double now_w = delayed(o, o->body.delay_s);
    o->fast_w += (now_w - o->fast_w) * (1 - exp(-dt / o->body.tau_s));
    o->slow_c += dt * (now_w - o->leaving_w) / o->body.sink_j_k;
    if (isnan(c)) {
        o->silent_s += dt;
        if (o->silent_s > SILENT_S) /* as if in balance: else it would run away, in hours by hundreds of kelvins */
            o->leaving_w += (now_w - o->leaving_w) * (1 - exp(-dt / SETTLES_S));
        return;
    }
    if (o->silent_s > SILENT_S)
        come_back(o, now_w, c);
    o->silent_s = 0;
    note_step(o, c);
    correct(o, dt, now_w, c);
    watch_step(o, dt, c, work);
}

void observer_surge(struct observer *o, double watts)
{
    const double rise = o->body.r_k_w / R_CARE * watts * (1 - exp(-1 / o->body.tau_s));
    o->margin_k = fmax(o->margin_k, fmin(SURGE_SHARE * rise - SURGE_FREE_K, SURGE_MAX_K));
}

double observer_allowed_w(const struct observer *o)
{
    if (!o->is_started)
        return INFINITY;
    const double h = (o->past_w[0] > o->leaving_w ? AHEAD_WARMING_S : AHEAD_COOLING_S) / o->body.sink_j_k;
    return (o->limit_c - o->margin_k - o->slow_c + h * o->leaving_w) / (o->body.r_k_w + h);
}

double observer_now_c(const struct observer *o)
{
    return o->slow_c + o->body.r_k_w * o->fast_w;
}

double observer_drift_k_s(const struct observer *o)
{
    return (o->past_w[0] - o->leaving_w) / o->body.sink_j_k;
}
