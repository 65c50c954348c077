/*
 * sensors_simulated - a box that is not there: the plant (appliance/plant.h) warmed by the engine's own load, for demonstrations, tests and trying a configuration.
 *
 *     simulated:spark?ambient=23&limit=68&speed=1&warm=600-4200:8&vent=900-1500:1.6&seed=1
 *
 * The name is a box (spark: a DGX Spark as estimated; small: a mini PC whose processor does the work). ambient: degrees of the room. warm=FROM-TO:K: the room is warmer by K
 * between these seconds. vent=FROM-TO:FACTOR: the vents are blocked. speed: simulated seconds in a second, at most: the box waits for who looks at it late, as a busy machine does,
 * and no more than two of its seconds pass between two looks. The load of the engine's threads stands for the box's.
 *
 * Threads: one owner. Memory: plain values.
 */
#ifndef HERON_APPLIANCE_SENSORS_SIMULATED_H
#define HERON_APPLIANCE_SENSORS_SIMULATED_H

#include <stdbool.h>
#include <stdint.h>

#include "appliance/plant.h"
#include "base/err.h"

struct sensors_simulated {
    int model;
    struct plant plant;
    struct plant_air air;
    struct rng rng;
    double ambient_c, speed;
    double warm_from_s, warm_to_s, warm_k, vent_from_s, vent_to_s, vent;
    int batch;
    double duty, owed_s, time_s; /* simulated time that is not yet stepped; done */
    int64_t last_ns;
    double c[PLANT_SPOTS], watts; /* newest readings; mean since the step before */
};

/* spec: what follows "simulated:". Errors: ERR_INVAL, with what is wrong in it. */
int sensors_simulated_init(struct sensors_simulated *box, const char *spec, struct err *err);

/* Names and limits of its places, the junction first. */
int sensors_simulated_places(const struct sensors_simulated *box);
const char *sensors_simulated_name(const struct sensors_simulated *box, int i);
double sensors_simulated_limit(const struct sensors_simulated *box, int i);

/* Go on towards now_ns; since the last call this batch worked for the share `duty` of the time. */
void sensors_simulated_step(struct sensors_simulated *box, int64_t now_ns, int batch, double duty);

/* How long it has lived so far. */
int64_t sensors_simulated_age_ns(const struct sensors_simulated *box);

#endif
