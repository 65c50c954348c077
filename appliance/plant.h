/*
 * plant - a box that warms up: junction, heat sink, case, fan, what stands on it, and the sensors that look at it; simulated.
 *
 * The model of the governor's world (a cascade of thermal resistances and capacities, as in the usual compact models of chips:
 * Skadron et al., HotSpot, 2003). It is driven by what work there is and gives temperatures and readings: it stands behind the
 * sensor `simulated:` of demonstrations, and by the ten thousand behind the tests of the governor.
 *
 *     watts      P  = idle + background + dynamic (1 + leakage (Tj - 60))
 *     junction   Cj dTj/dt = P - (Tj - Th) / Rj                        Cj = tau_j / Rj
 *     heat sink  Ch dTh/dt = (Tj - Th) / Rj - (Th - Ta) / Rha - (Th - Tc) / Rc     Rha = sink_r x fan x vent
 *     case       Cc dTc/dt = (Th - Tc) / Rc - (Tc - Ta) / Rca - (Tc - Tw) / Rcup
 *     cup        Cw dTw/dt = (Tc - Tw) / Rcup - (Tw - Ta) / Rwa
 *     board      Tb follows Th + Rb P with tau_b                       any number of such spots; the first spot is the junction
 *
 * Threads: one owner. Memory: plain values, copy them as you like; nothing is allocated.
 */
#ifndef HERON_APPLIANCE_PLANT_H
#define HERON_APPLIANCE_PLANT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"

#define PLANT_SPOTS   4  /* most places with a sensor */
#define PLANT_HISTORY 64 /* steps that a reading may be late */
#define PLANT_STEP_S  0.1

/* A place that warms up with the watts, and its sensor. */
struct plant_spot {
    double r_k_w, tau_s; /* over the heat sink */
    double limit_c;
    double delay_s, step_k, noise_k; /* of the sensor: dead time, resolution, standard deviation */
};

struct plant_params {
    double idle_w;
    double leakage_per_k;
    struct plant_spot spots[PLANT_SPOTS]; /* [0] is the junction: its heat goes into the sink */
    int n_spots;
    double sink_r, sink_j_k;             /* to the air with the fan at its fastest, K/W; capacity */
    double fan_slow, fan_lag_s;          /* factor of sink_r where the junction is at 45 C or less, 1 from 75 C on */
    double case_r, case_j_k, case_air_r; /* sink to case, case, case to air */
    double throttle_c;                   /* the device halves its own power and speed from here on; INFINITY: never */
};

/*
 * A DGX Spark as it is estimated: junction under 68 C, a zone on the board under 80 C. It reproduces what was seen of one: 66 C after hours of
 * a batch of one in a room of 23 C.
 */
extern const struct plant_params plant_spark;

/* What is around it; changes as it likes. */
struct plant_air {
    double ambient_c;
    double vent;         /* factor of sink_r: 1 open, 1.8 largely blocked */
    double background_w; /* that nobody measures as ours */
    bool has_cup;        /* 0.3 l of water on the lid */
};

struct plant {
    struct plant_params params;
    double spot_c[PLANT_SPOTS], sink_c, case_c, cup_c, fan;
    bool had_cup;
    double total_w, dynamic_w; /* of the last step; after the device's own throttle */
    bool is_throttled;
    float past_c[PLANT_SPOTS][PLANT_HISTORY];
    uint64_t n_steps;
};

/* Stands at rest in this air: idle for ever before. */
void plant_init(struct plant *plant, const struct plant_params *params, const struct plant_air *air);

/* PLANT_STEP_S of time; dynamic_w: what the work would draw at 60 C. Returns the share of the work that was done: less than 1 where the device throttles itself. */
double plant_step(struct plant *plant, const struct plant_air *air, double dynamic_w);

/* What sensor `spot` says now: late, noisy, in steps. */
double plant_read(const struct plant *plant, int spot, struct rng *rng);

/* Degrees of the junction at which `watts` in all, and for ever, leave it; only the ambient, the vent and the cup of `air` count. */
double plant_steady_c(const struct plant_params *params, const struct plant_air *air, double watts);

/* Watts in all with which no spot is above its limit after the next step. */
double plant_allowed_w(const struct plant *plant);

/* Most that any spot is above its limit, K; negative below. */
double plant_excess_k(const struct plant *plant);

#endif
