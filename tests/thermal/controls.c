#include "tests/thermal/controls.h"

#include <math.h>
#include <string.h>

#include "appliance/governor.h"

/* ---- ours -------------------------------------------------------------------------------------------------------------------------- */

static void begin_governor(void *state, const struct world *world, enum workload_policy policy, bool is_told,
                           const struct governor_memory *known)
{
    const bool has_table = is_told && world->set != WORLD_SIZES;
    struct governor_options options = {.n_sensors = world->plant.n_spots,
                                       .batch_max = WORLD_BATCHES,
                                       .policy = policy,
                                       .meter = world->set == WORLD_HALF ? GOVERNOR_METER_DEVICE : GOVERNOR_METER_TOTAL,
                                       .watts = has_table ? world->work.told_watts : NULL,
                                       .speed = has_table ? world->work.told_speed : NULL};
    for (int i = 0; i < options.n_sensors; i++)
        options.limits_c[i] = world->plant.spots[i].limit_c;
    governor_init(state, &options, known);
}

static void begin_ours(void *state, const struct world *world)
{
    begin_governor(state, world, WORKLOAD_THROUGHPUT, true, NULL);
}

static void begin_new(void *state, const struct world *world)
{
    begin_governor(state, world, WORKLOAD_THROUGHPUT, false, NULL);
}

static void begin_again(void *state, const struct world *world, const void *before)
{
    struct governor_memory memory;
    governor_get_memory(before, &memory);
    begin_governor(state, world, WORKLOAD_THROUGHPUT, false, &memory);
}

static void begin_ladder(void *state, const struct world *world)
{
    begin_governor(state, world, WORKLOAD_LADDER, true, NULL);
}

static void tick_governor(void *state, const struct sight *sight, struct act *act)
{
    struct governor_sight now = {.now_ns = (int64_t)(sight->t_s * 1e9 + 0.5) + 1,
                                 .watts = sight->watts,
                                 .batch = sight->duty > 0 ? sight->batch : 0,
                                 .duty = sight->duty,
                                 .speed = sight->speed,
                                 .device_margin_k = NAN};
    for (int i = 0; i < sight->n_sensors; i++)
        now.c[i] = sight->has[i] ? sight->c[i] : NAN;
    struct governor_grant grant;
    governor_tick(state, &now, &grant);
    *act = (struct act){.batch = grant.permit.batch > 0 ? grant.permit.batch : act->batch,
                        .duty = grant.permit.batch > 0 ? 1 - grant.permit.idle_permille / 1000.0 : 0,
                        .is_probe = grant.is_probe,
                        .is_trip = grant.is_trip,
                        .is_blind = grant.level == GOVERNOR_BLIND};
}

/* ---- what others have to act with --------------------------------------------------------------------------------------------------- */

#define STATES 12 /* batches 8 to 1, then three quarters, a half, a quarter and nothing of one */

static void set_state(int state, struct act *act)
{
    act->batch = state < WORLD_BATCHES ? WORLD_BATCHES - state : 1;
    act->duty = state < WORLD_BATCHES ? 1 : 0.25 * (STATES - 1 - state);
}

/* The hottest sensor over its limit, as they would read it; the last one where there is none. */
struct simple {
    double limits_c[PLANT_SPOTS], over_k, last_over_k, offset_k, until_s;
    int state;
    bool is_off;
    double sustainable_w, integral_w, watts[WORLD_BATCHES + 1], speed[WORLD_BATCHES + 1];
};

static void begin_simple(void *state, const struct world *world)
{
    struct simple *s = state;
    for (int i = 0; i < world->plant.n_spots; i++)
        s->limits_c[i] = world->plant.spots[i].limit_c;
    s->over_k = s->last_over_k = -20;
    s->sustainable_w = fmax((s->limits_c[0] - 28) / 0.45 - 25, 10);
    memcpy(s->watts, world->work.told_watts, sizeof s->watts);
    memcpy(s->speed, world->work.told_speed, sizeof s->speed);
}

static void begin_early(void *state, const struct world *world)
{
    begin_simple(state, world);
    ((struct simple *)state)->offset_k = 3;
}

static void read_over(struct simple *s, const struct sight *sight)
{
    double over = -INFINITY;
    for (int i = 0; i < sight->n_sensors; i++)
        if (sight->has[i])
            over = fmax(over, sight->c[i] - s->limits_c[i]);
    s->last_over_k = s->over_k;
    if (isfinite(over))
        s->over_k = over + s->offset_k;
}

static void tick_bang_bang(void *state, const struct sight *sight, struct act *act)
{
    struct simple *s = state;
    read_over(s, sight);
    s->is_off = s->over_k >= 0 || (s->is_off && s->over_k > -5);
    set_state(s->is_off ? STATES - 1 : 0, act);
}

static void tick_pause(void *state, const struct sight *sight, struct act *act)
{
    struct simple *s = state;
    read_over(s, sight);
    if (s->over_k >= 0 && !s->is_off) {
        s->is_off = true;
        s->until_s = sight->t_s + 30;
    } else if (s->over_k <= -15 && sight->t_s >= s->until_s)
        s->is_off = false;
    set_state(s->is_off ? STATES - 1 : 0, act);
}

static void tick_step_wise(void *state, const struct sight *sight, struct act *act)
{
    struct simple *s = state;
    if (fmod(sight->t_s, 2) >= 1)
        return;
    read_over(s, sight);
    if (s->over_k >= 0 && s->over_k > s->last_over_k)
        s->state = s->state < STATES - 1 ? s->state + 1 : s->state;
    else if (s->over_k < 0 && s->over_k < s->last_over_k)
        s->state = s->state > 0 ? s->state - 1 : 0;
    set_state(s->state, act);
}

/* ---- power_allocator ------------------------------------------------------------------------------------------------------------------ */

#define RANGE_K 10.0 /* between its two trip points */

/* Watts of the work that it allows. cutoff_k: errors below are added up. */
static double allocate(struct simple *s, double cutoff_k)
{
    const double error = -s->over_k, most = s->watts[WORLD_BATCHES];
    if (error > RANGE_K) { /* below the point where it is switched on */
        s->integral_w = 0;
        return most;
    }
    const double over = s->sustainable_w / RANGE_K, under = 2 * over, slow = under / 10;
    if (error < cutoff_k) {
        const double next = s->integral_w + slow * error;
        if (fabs(next) < most)
            s->integral_w = next;
    }
    return fmin(fmax(s->sustainable_w + (error < 0 ? over : under) * error + s->integral_w, 0), most);
}

static void tick_allocator(void *state, const struct sight *sight, struct act *act)
{
    struct simple *s = state;
    read_over(s, sight);
    const double watts = allocate(s, 0);
    int next = 0;
    for (; next < STATES - 1; next++) {
        set_state(next, act);
        if (act->duty * s->watts[act->batch] <= watts)
            break;
    }
    set_state(next, act);
}

static void begin_strong(void *state, const struct world *world)
{
    struct simple *s = state;
    begin_simple(state, world);
    s->offset_k = 1.5;
    memcpy(s->watts, world->work.watts, sizeof s->watts);
    memcpy(s->speed, world->work.speed, sizeof s->speed);
    const struct plant_air calm = {.ambient_c = world->ambient_c, .vent = 1};
    double lo = 0, hi = 400;
    for (int i = 0; i < 40; i++) {
        const double mid = 0.5 * (lo + hi);
        *(plant_steady_c(&world->plant, &calm, mid) < s->limits_c[0] ? &lo : &hi) = mid;
    }
    s->sustainable_w = fmax(lo - world->plant.idle_w, 1);
}

static void tick_strong(void *state, const struct sight *sight, struct act *act)
{
    struct simple *s = state;
    read_over(s, sight);
    const double watts = allocate(s, 5);
    double best = -1;
    int batch = act->batch;
    for (int b = 1; b <= WORLD_BATCHES; b++) {
        const double speed = s->speed[b] * fmin(1, watts / s->watts[b]) * (b == act->batch ? 1.03 : 1);
        if (speed > best) {
            best = speed;
            batch = b;
        }
    }
    if (batch != act->batch && (sight->t_s >= s->until_s || act->duty <= 0)) {
        act->batch = batch;
        s->until_s = sight->t_s + 60;
    }
    act->duty = fmin(1, watts / s->watts[act->batch]);
}

#define GOVERNOR .n_bytes = sizeof(struct governor), .tick = tick_governor
#define SIMPLE   .n_bytes = sizeof(struct simple)

const struct control controls[CONTROLS] = {
    [CONTROL_OURS] = {.name = "heron", GOVERNOR, .begin = begin_ours},
    [CONTROL_NEW] = {.name = "heron, first start", GOVERNOR, .begin = begin_new},
    [CONTROL_AGAIN] = {.name = "heron, second start", GOVERNOR, .before = &controls[CONTROL_NEW], .begin_again = begin_again},
    [CONTROL_LADDER] = {.name = "heron, ladder", GOVERNOR, .begin = begin_ladder},
    [CONTROL_BANG_BANG] = {.name = "bang-bang, 5 K", SIMPLE, .begin = begin_simple, .tick = tick_bang_bang},
    [CONTROL_BANG_BANG_3] = {.name = "bang-bang, 3 K early", SIMPLE, .begin = begin_early, .tick = tick_bang_bang},
    [CONTROL_PAUSE] = {.name = "pause and resume", SIMPLE, .begin = begin_simple, .tick = tick_pause},
    [CONTROL_STEP_WISE] = {.name = "step_wise", SIMPLE, .begin = begin_simple, .tick = tick_step_wise},
    [CONTROL_STEP_WISE_3] = {.name = "step_wise, 3 K early", SIMPLE, .begin = begin_early, .tick = tick_step_wise},
    [CONTROL_ALLOCATOR] = {.name = "power_allocator", SIMPLE, .begin = begin_simple, .tick = tick_allocator},
    [CONTROL_STRONG] = {.name = "power_allocator, strong", SIMPLE, .begin = begin_strong, .tick = tick_strong},
};
