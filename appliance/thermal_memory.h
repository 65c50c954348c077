/*
 * thermal_memory - what was learned of a machine's heat, as JSON: {"machine": id, "sustainable_w": 81.2, "factor": 1.04, "limits": {"gpu0": 68}, "places": {"gpu0": {"r": 0.14, "tau": 3, "delay": 1, "sink": 420}}}.
 *
 * "rungs": [[batch, watts, tokens a second, seconds], ...] are of one model: with another they, sustainable_w and factor are left out. "meter" tells what the watts were measured by:
 * with another nothing counts. "sensors": what thermal.sensors named and the machine had.
 *
 * Pure functions; any thread. Places are told apart by name: one that is new, or gone, costs nothing of the others.
 */
#ifndef HERON_APPLIANCE_THERMAL_MEMORY_H
#define HERON_APPLIANCE_THERMAL_MEMORY_H

#include "appliance/governor.h"
#include "appliance/sensors.h"
#include "base/err.h"

/* What the figures are of. */
struct thermal_memory_key {
    const char *machine;       /* an id of it */
    const char *model;         /* any text that differs for another model or device */
    const char *meter;         /* sensors_meter_name */
    const char *const *wanted; /* thermal.sensors, which this machine had all of */
    int n_wanted;
};

/* names: [n] of the sensors that govern, NULL: one to leave out; what `before`, an earlier memory that could be read (or NULL), has of others stays. Malloc'ed; NULL: out of memory. */
char *thermal_memory_write(const struct governor_memory *memory, const char *const *names, int n,
                           const struct thermal_memory_key *key, const char *before);

/*
 * Untouched on failure. Errors: ERR_FORMAT (not what is written here, or figures that cannot be), ERR_STATE (of another machine), ERR_UNSUPPORTED
 * (measured by another meter).
 */
int thermal_memory_read(const char *json, const char *const *names, int n, const struct thermal_memory_key *key,
                        struct governor_memory *ret, struct err *err);

/* Whether this machine had all of these once, as far as it is written there; what cannot be read says no. */
bool thermal_memory_had(const char *json, const char *machine, const char *const *wanted, int n_wanted);

/* Names of places of this machine that governed once, as far as it is written there. Returns how many. */
int thermal_memory_governed(const char *json, const char *machine, char ret_names[SENSORS_MAX][SENSORS_NAME_MAX]);

#endif
