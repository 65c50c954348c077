/*
 * world - a box, a room and a workload drawn from a seed: what a governor of temperature has to live with for three hours.
 *
 * From boxes that hardly reach their limit to those that would run 70 K above it; rooms that warm up, vents that are blocked within a moment, cups
 * of water that come and go, work that changes, bursts of other programs, sensors that lie. Only boxes that can hold their limit are drawn: standing idle in
 * their worst hour they stay 2 K below it, for others no governor can do anything. A world is a pure function of (seed, set).
 *
 * Threads: one owner. Memory: plain values.
 */
#ifndef HERON_TESTS_THERMAL_WORLD_H
#define HERON_TESTS_THERMAL_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "appliance/plant.h"

#define WORLD_BATCHES 8
#define WORLD_HOURS   3
#define WORLD_BURSTS  32

enum world_set {
    WORLD_SLOW,   /* ambient, vent, cup */
    WORLD_RIPPLE, /* and prefill against decode, every few seconds */
    WORLD_FAST,   /* and workload and bursts, all watts measured */
    WORLD_HALF,   /* the same, and only the accelerator's watts measured */
    WORLD_FAULT,  /* slow and ripple, and a sensor that fails for a while */
    WORLD_BOARD,  /* slow, and a second, hidden zone with a sensor and a limit of its own */
    WORLD_LOOKS,  /* fast, but the work comes in bursts after a rest, as looks of cameras do; and the meter is late */
    WORLD_SIZES,  /* slow, in boxes from a twentieth of a Spark to eight of them; nothing is told of what their work draws */
    WORLD_SETS
};
extern const char *const world_set_names[WORLD_SETS];

enum world_fault { FAULT_NONE, FAULT_MISSING, FAULT_FROZEN, FAULT_ZERO, FAULT_SPIKES, FAULT_FLAPPING, FAULTS };
extern const char *const world_fault_names[FAULTS];

/* What a batch of 1..8 draws and gives; what is known of it before anything was measured. */
struct world_work {
    double watts[WORLD_BATCHES + 1], speed[WORLD_BATCHES + 1];           /* [0] is 0 */
    double told_watts[WORLD_BATCHES + 1], told_speed[WORLD_BATCHES + 1]; /* with errors */
};

struct world_span {
    double from_s, to_s, size;
};

/* From from_s on there is work for a share of every period; 1: always. */
struct world_rhythm {
    double from_s, period_s, share;
};

struct world {
    uint64_t seed;
    enum world_set set;
    struct plant_params plant;
    struct world_work work;
    double ambient_c, sine_k, sine_s, sine_at;
    struct world_span warm, vent, cup; /* size: kelvins in the end; factor; nothing */
    double ripple, ripple_s;
    struct world_span loads[WORLD_BURSTS], bursts[WORLD_BURSTS]; /* factor of the watts; watts */
    struct world_rhythm rhythms[WORLD_BURSTS];
    int n_loads, n_bursts, n_rhythms; /* no rhythms: there is always work */
    double meter_late_s;
    enum world_fault fault;
    struct world_span fault_at;
};

void world_draw(struct world *world, uint64_t seed, enum world_set set);

/* A box as described, not drawn: a DGX Spark with a mixture of experts that was seen at 18.77 tokens/s under 68 C, with or without its cup. */
void world_seed_box(struct world *world, bool has_cup);

/* The air at t_s, and the factor of the work's watts; 0: there is no work. */
void world_at(const struct world *world, double t_s, struct plant_air *ret_air, double *ret_load);

/* What sensor `spot` says at t_s, with the fault. false: nothing. */
bool world_read(const struct world *world, const struct plant *plant, int spot, double t_s, struct rng *rng, double *held_c,
                double *ret_c);

#endif
