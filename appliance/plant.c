#include "appliance/plant.h"

#include <math.h>
#include <string.h>

/* 0.3 l of water: capacity, contact with the lid, evaporation and convection */
#define CUP_J_K    1250.0
#define CUP_LID_R  0.7
#define CUP_AIR_R  3.3
#define FAN_SLOW_C 45.0
#define FAN_FAST_C 75.0
#define LEAKAGE_C  60.0

const struct plant_params plant_spark = {
    .idle_w = 25,
    .leakage_per_k = 0.002,
    .spots = {{.r_k_w = 0.12, .tau_s = 3, .limit_c = 68, .delay_s = 1, .step_k = 1},
              {.r_k_w = 0.2, .tau_s = 12, .limit_c = 80, .delay_s = 1.5, .step_k = 0.1, .noise_k = 0.1}},
    .n_spots = 2,
    .sink_r = 0.36,
    .sink_j_k = 420,
    .fan_slow = 1.25,
    .fan_lag_s = 8,
    .case_r = 0.6,
    .case_j_k = 700,
    .case_air_r = 2.5,
    .throttle_c = 94,
};

static double fan_wanted(const struct plant_params *p, double c)
{
    const double share = fmin(fmax((FAN_FAST_C - c) / (FAN_FAST_C - FAN_SLOW_C), 0), 1);
    return 1 + (p->fan_slow - 1) * share;
}

/* Air to the sink over one watt: over the sink's fins, and over the case beside them. */
static double sink_to_air(const struct plant_params *p, const struct plant_air *air, double fan)
{
    const double cup = air->has_cup ? 1 / (CUP_LID_R + CUP_AIR_R) : 0;
    const double case_r = p->case_r + 1 / (1 / p->case_air_r + cup);
    return 1 / (1 / (p->sink_r * fan * air->vent) + 1 / case_r);
}

double plant_steady_c(const struct plant_params *p, const struct plant_air *air, double watts)
{
    double junction = air->ambient_c;
    for (int i = 0; i < 60; i++) /* the fan and the junction wait for each other; half steps, so that they meet */
        junction +=
            0.5 * (air->ambient_c + watts * (sink_to_air(p, air, fan_wanted(p, junction)) + p->spots[0].r_k_w) - junction);
    return junction;
}

void plant_init(struct plant *plant, const struct plant_params *params, const struct plant_air *air)
{
    memset(plant, 0, sizeof *plant);
    plant->params = *params;
    const double watts = params->idle_w + air->background_w, junction = plant_steady_c(params, air, watts);
    plant->sink_c = junction - watts * params->spots[0].r_k_w;
    plant->fan = fan_wanted(params, junction);
    const double cup = air->has_cup ? 1 / (CUP_LID_R + CUP_AIR_R) : 0, case_air_r = 1 / (1 / params->case_air_r + cup);
    plant->case_c = air->ambient_c + (plant->sink_c - air->ambient_c) * case_air_r / (params->case_r + case_air_r);
    plant->cup_c = air->ambient_c + (plant->case_c - air->ambient_c) * CUP_AIR_R / (CUP_LID_R + CUP_AIR_R);
    plant->had_cup = air->has_cup;
    plant->total_w = watts;
    for (int i = 0; i < params->n_spots; i++) {
        plant->spot_c[i] = plant->sink_c + watts * params->spots[i].r_k_w;
        for (int k = 0; k < PLANT_HISTORY; k++)
            plant->past_c[i][k] = (float)plant->spot_c[i];
    }
}

double plant_step(struct plant *plant, const struct plant_air *air, double dynamic_w)
{
    const struct plant_params *p = &plant->params;
    const double dt = PLANT_STEP_S, rj = p->spots[0].r_k_w, tj = plant->spot_c[0], th = plant->sink_c, tc = plant->case_c;
    plant->is_throttled = tj >= p->throttle_c;
    const double done = plant->is_throttled ? 0.5 : 1;
    plant->dynamic_w = done * dynamic_w * (1 + p->leakage_per_k * (tj - LEAKAGE_C));
    plant->total_w = p->idle_w + air->background_w + plant->dynamic_w;

    if (air->has_cup && !plant->had_cup)
        plant->cup_c = air->ambient_c; /* filled from the tap of this room */
    plant->had_cup = air->has_cup;
    const double into_sink = (tj - th) / rj, into_case = (th - tc) / p->case_r,
                 into_cup = air->has_cup ? (tc - plant->cup_c) / CUP_LID_R : 0;
    plant->spot_c[0] += dt * (plant->total_w - into_sink) * rj / p->spots[0].tau_s;
    plant->sink_c += dt * (into_sink - (th - air->ambient_c) / (p->sink_r * plant->fan * air->vent) - into_case) / p->sink_j_k;
    plant->case_c += dt * (into_case - (tc - air->ambient_c) / p->case_air_r - into_cup) / p->case_j_k;
    plant->cup_c += dt * (into_cup - (plant->cup_c - air->ambient_c) / CUP_AIR_R) / CUP_J_K;
    plant->fan += dt * (fan_wanted(p, tj) - plant->fan) / p->fan_lag_s;
    for (int i = 1; i < p->n_spots; i++)
        plant->spot_c[i] += dt * (th + plant->total_w * p->spots[i].r_k_w - plant->spot_c[i]) / p->spots[i].tau_s;
    plant->n_steps++;
    for (int i = 0; i < p->n_spots; i++)
        plant->past_c[i][plant->n_steps % PLANT_HISTORY] = (float)plant->spot_c[i];
    return done;
}

/* Box and Muller's. */
static double normal(struct rng *rng)
{
    const double u = rng_unit(rng), v = rng_unit(rng);
    return sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v);
}

double plant_read(const struct plant *plant, int spot, struct rng *rng)
{
    const struct plant_spot *s = &plant->params.spots[spot];
    const uint64_t late = (uint64_t)(s->delay_s / PLANT_STEP_S + 0.5) % PLANT_HISTORY;
    const double c = plant->past_c[spot][(plant->n_steps - (late < plant->n_steps ? late : plant->n_steps)) % PLANT_HISTORY];
    const double said = c + (s->noise_k > 0 ? s->noise_k * normal(rng) : 0);
    return s->step_k > 0 ? floor(said / s->step_k + 0.5) * s->step_k : said;
}

double plant_allowed_w(const struct plant *plant)
{
    const struct plant_params *p = &plant->params;
    double least = INFINITY;
    for (int i = 0; i < p->n_spots; i++) {
        const struct plant_spot *s = &p->spots[i];
        const double now = plant->spot_c[i];
        least = fmin(least, (s->limit_c - now) / s->r_k_w * s->tau_s / PLANT_STEP_S + (now - plant->sink_c) / s->r_k_w);
    }
    return least;
}

double plant_excess_k(const struct plant *plant)
{
    double most = -INFINITY;
    for (int i = 0; i < plant->params.n_spots; i++)
        most = fmax(most, plant->spot_c[i] - plant->params.spots[i].limit_c);
    return most;
}
