#include "tests/thermal/world.h"

#include <math.h>
#include <string.h>

#define END_S        (WORLD_HOURS * 3600.0)
#define BURST_MOST_W 25

const char *const world_set_names[WORLD_SETS] = {"slow", "ripple", "fast", "half", "fault", "board", "looks", "sizes"};
const char *const world_fault_names[FAULTS] = {"none", "missing", "frozen", "zero", "spikes", "flapping"};

static double between(struct rng *rng, double lo, double hi)
{
    return lo + (hi - lo) * rng_unit(rng);
}

static void draw_work(struct rng *rng, struct world_work *work)
{
    const double p8 = between(rng, 50, 130), share = between(rng, 0.4, 0.95), shape = between(rng, 0.6, 1),
                 k = between(rng, 0.35, 0.95);
    const double watts_off = between(rng, 0.85, 1.15), speed_off = between(rng, 0.9, 1.1);
    memset(work, 0, sizeof *work);
    for (int b = 1; b <= WORLD_BATCHES; b++) {
        work->watts[b] = p8 * (share + (1 - share) * pow((b - 1) / 7.0, shape));
        work->speed[b] = b / (1 + k * (b - 1));
        work->told_watts[b] = work->watts[b] * watts_off * between(rng, 0.95, 1.05);
        work->told_speed[b] = work->speed[b] * speed_off * between(rng, 0.97, 1.03);
    }
}

static void draw_plant(struct rng *rng, struct plant_params *p, double limit_c)
{
    *p = (struct plant_params){.idle_w = between(rng, 15, 35),
                               .leakage_per_k = between(rng, 0, 0.004),
                               .n_spots = 1,
                               .sink_r = between(rng, 0.2, 0.55),
                               .sink_j_k = between(rng, 150, 700),
                               .fan_slow = between(rng, 1, 1.4),
                               .fan_lag_s = between(rng, 3, 12),
                               .case_r = between(rng, 0.3, 1.2),
                               .case_j_k = between(rng, 300, 1500),
                               .case_air_r = between(rng, 1.5, 4),
                               .throttle_c = between(rng, 86, 95)};
    p->spots[0] = (struct plant_spot){.r_k_w = between(rng, 0.08, 0.25),
                                      .tau_s = between(rng, 1.5, 8),
                                      .limit_c = limit_c,
                                      .delay_s = between(rng, 0.2, 2.5),
                                      .step_k = rng_unit(rng) < 0.7 ? 1 : 0.1,
                                      .noise_k = between(rng, 0, 0.4)};
}

static void draw_air(struct rng *rng, struct world *w)
{
    w->warm.from_s = between(rng, 600, END_S - 3600);
    w->warm.to_s = w->warm.from_s + between(rng, 20, 50) * 60;
    w->warm.size = between(rng, 2, 8);
    w->vent.from_s = between(rng, 600, END_S - 1800);
    w->vent.to_s = w->vent.from_s + between(rng, 10, 30) * 60;
    w->vent.size = between(rng, 1.2, 1.8);
    w->cup.from_s = between(rng, 600, END_S - 4200);
    w->cup.to_s = rng_unit(rng) < 0.3 ? w->cup.from_s + between(rng, 20, 67) * 60 : 0;
    w->sine_k = 0.8;
    w->sine_s = between(rng, 900, 3600);
    w->sine_at = between(rng, 0, 6.283185307179586);
}

static void draw_loads(struct rng *rng, struct world *w)
{
    for (double t = between(rng, 300, 1500); t < END_S && w->n_loads < WORLD_BURSTS;) {
        const double end = t + between(rng, 300, 1500);
        w->loads[w->n_loads++] = (struct world_span){t, end, between(rng, 0.8, 1.25)};
        t = end;
    }
}

static void draw_bursts(struct rng *rng, struct world *w)
{
    for (double t = between(rng, 420, 1980); t < END_S && w->n_bursts < WORLD_BURSTS; t += between(rng, 420, 1980)) {
        w->bursts[w->n_bursts++] = (struct world_span){t, t + between(rng, 20, 120), between(rng, 8, BURST_MOST_W)};
    }
}

/* Nothing at first, then looks every few seconds, seldom or often, and now and then more than can be done. */
static void draw_looks(struct rng *rng, struct world *w)
{
    for (double t = between(rng, 0, 1800); t < END_S && w->n_rhythms < WORLD_BURSTS; t += between(rng, 300, 1800)) {
        const bool is_all = rng_unit(rng) < 0.3;
        w->rhythms[w->n_rhythms++] = (struct world_rhythm){t, between(rng, 2, 40), is_all ? 1 : between(rng, 0.15, 0.95)};
    }
    w->meter_late_s = between(rng, 0, 2);
}

/* A zone on the board beside the chip: slower or quicker than the junction, often hotter, with a limit that binds in some boxes and not in others. */
static void draw_board(struct rng *rng, struct plant_params *p)
{
    p->n_spots = 2;
    p->spots[1] = (struct plant_spot){.r_k_w = between(rng, 0.1, 0.45),
                                      .tau_s = between(rng, 2, 30),
                                      .limit_c = p->spots[0].limit_c + between(rng, 4, 16),
                                      .delay_s = between(rng, 0.2, 2.5),
                                      .step_k = rng_unit(rng) < 0.7 ? 1 : 0.1,
                                      .noise_k = between(rng, 0, 0.4)};
}

/* The same box in another unit of power: as warm as it was by so many times the watts. */
static void resize(struct world *w, double times)
{
    struct plant_params *p = &w->plant;
    p->idle_w *= times;
    p->sink_r /= times;
    p->sink_j_k *= times;
    p->case_r /= times;
    p->case_j_k *= times;
    p->case_air_r /= times;
    for (int i = 0; i < p->n_spots; i++)
        p->spots[i].r_k_w /= times;
    for (int b = 1; b <= WORLD_BATCHES; b++) {
        w->work.watts[b] *= times;
        w->work.told_watts[b] *= times;
    }
}

/* How far each spot is above its limit after standing for ever, most of them. */
static double steady_excess(const struct plant_params *p, const struct plant_air *air, double watts)
{
    const double sink = plant_steady_c(p, air, watts) - watts * p->spots[0].r_k_w;
    double most = -INFINITY;
    for (int i = 0; i < p->n_spots; i++)
        most = fmax(most, sink + watts * p->spots[i].r_k_w - p->spots[i].limit_c);
    return most;
}

static bool has_bursts(enum world_set set)
{
    return set == WORLD_FAST || set == WORLD_HALF || set == WORLD_LOOKS;
}

/* Worth governing: too hot at full work, cool enough doing nothing, the worst hour of the room and of other programs included. */
static bool is_worth(const struct world *w)
{
    const struct plant_air calm = {.ambient_c = w->ambient_c, .vent = 1},
                           worst = {.ambient_c = w->ambient_c + w->warm.size + w->sine_k, .vent = w->vent.size};
    const double surge = has_bursts(w->set) ? BURST_MOST_W : 0;
    const double full = steady_excess(&w->plant, &calm, w->plant.idle_w + w->work.watts[WORLD_BATCHES]);
    return full >= 3 && full <= 70 && steady_excess(&w->plant, &calm, w->plant.idle_w) <= -10 &&
           steady_excess(&w->plant, &worst, w->plant.idle_w + surge) <= -2;
}

void world_draw(struct world *w, uint64_t seed, enum world_set set)
{
    struct rng rng = {.seed = seed};
    do {
        memset(w, 0, sizeof *w);
        w->seed = seed;
        w->set = set;
        w->ambient_c = between(&rng, 15, 35);
        draw_plant(&rng, &w->plant, between(&rng, 60, 80));
        draw_work(&rng, &w->work);
        draw_air(&rng, w);
        if (set == WORLD_BOARD)
            draw_board(&rng, &w->plant);
    } while (!is_worth(w));
    w->ripple = set == WORLD_SLOW || set == WORLD_BOARD || set == WORLD_SIZES ? 0 : between(&rng, 0, 0.15);
    w->ripple_s = between(&rng, 2, 8);
    if (set == WORLD_FAST || set == WORLD_HALF)
        draw_loads(&rng, w);
    if (set == WORLD_LOOKS)
        draw_looks(&rng, w);
    if (has_bursts(set))
        draw_bursts(&rng, w);
    if (set == WORLD_SIZES)
        resize(w, exp(between(&rng, log(0.05), log(8))));
    if (set == WORLD_FAULT) {
        w->fault = 1 + (enum world_fault)rng_below(&rng, FAULTS - 1);
        w->fault_at.from_s = between(&rng, 600, END_S - 1800);
        w->fault_at.to_s = w->fault_at.from_s + between(&rng, 1, 15) * 60;
    }
}

void world_seed_box(struct world *w, bool has_cup)
{
    static const double watts[] = {0, 70, 74, 77, 80, 83, 86, 88, 90},
                        speed[] = {0, 18.8, 23.0, 25.1, 26.5, 27.6, 28.5, 29.2, 29.9};
    memset(w, 0, sizeof *w);
    w->set = WORLD_SLOW;
    w->ambient_c = 23;
    w->plant = plant_spark;
    w->plant.n_spots = 1; /* of its board nothing was told */
    memcpy(w->work.watts, watts, sizeof watts);
    memcpy(w->work.told_watts, watts, sizeof watts);
    memcpy(w->work.speed, speed, sizeof speed);
    memcpy(w->work.told_speed, speed, sizeof speed);
    w->vent.size = 1;
    w->sine_s = 3600;
    w->ripple_s = 2;
    if (has_cup)
        w->cup = (struct world_span){.from_s = -1, .to_s = END_S + 1};
}

static bool is_in(const struct world_span *span, double t_s)
{
    return t_s >= span->from_s && t_s < span->to_s;
}

static bool has_work(const struct world *w, double t_s)
{
    const struct world_rhythm *now = NULL;
    for (int i = 0; i < w->n_rhythms && w->rhythms[i].from_s <= t_s; i++)
        now = &w->rhythms[i];
    return w->n_rhythms == 0 || (now && fmod(t_s - now->from_s, now->period_s) < now->share * now->period_s);
}

void world_at(const struct world *w, double t_s, struct plant_air *ret_air, double *ret_load)
{
    const double ramp = 300;
    const double warm = fmin(fmin(t_s - w->warm.from_s, w->warm.to_s + ramp - t_s) / ramp, 1);
    *ret_air =
        (struct plant_air){.ambient_c = w->ambient_c + w->sine_k * sin(t_s * 6.283185307179586 / w->sine_s + w->sine_at) +
                                        fmax(warm, 0) * w->warm.size,
                           .vent = is_in(&w->vent, t_s) ? w->vent.size : 1,
                           .has_cup = is_in(&w->cup, t_s)};
    double load = has_work(w, t_s) ? 1 : 0;
    for (int i = 0; i < w->n_loads; i++)
        if (is_in(&w->loads[i], t_s))
            load *= w->loads[i].size;
    if (w->ripple > 0)
        load *= fmod(t_s, w->ripple_s) < 0.5 * w->ripple_s ? 1 + w->ripple : 1 - w->ripple;
    for (int i = 0; i < w->n_bursts; i++)
        if (is_in(&w->bursts[i], t_s))
            ret_air->background_w += w->bursts[i].size;
    *ret_load = load;
}

bool world_read(const struct world *w, const struct plant *plant, int spot, double t_s, struct rng *rng, double *held_c,
                double *ret_c)
{
    const double c = plant_read(plant, spot, rng);
    *ret_c = c;
    if (spot != 0 || w->fault == FAULT_NONE || !is_in(&w->fault_at, t_s)) {
        *held_c = c;
        return true;
    }
    const double since = t_s - w->fault_at.from_s;
    switch (w->fault) {
    case FAULT_MISSING: return false;
    case FAULT_FROZEN: *ret_c = *held_c; return true;
    case FAULT_ZERO: *ret_c = 0; return true;
    case FAULT_SPIKES:
        if (fmod(since, 17) < 1)
            *ret_c = 255;
        return true;
    case FAULT_FLAPPING: return fmod(since, 40) >= 20;
    default: return true;
    }
}
