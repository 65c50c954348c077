/*
 * thermal - the thread that keeps the box under its temperature limit: once a second it reads the sensors, asks the governor, and lays out a permit; the engine takes it for every step.
 *
 * A permit expires three seconds after it was laid out: when this thread stops, so does the engine. Nothing of the box waits for this thread, and it waits for nobody.
 *
 * Life cycle: thermal_open (sensors are found, the thread starts) -> thermal_get_permit and thermal_note_load from the engine's thread, thermal_get from any -> thermal_stop -> thermal_take_memory -> thermal_close.
 * Threads: one inside, and those of sensors and ring. Memory: one struct, and what was learned as text, about once an hour and at the end.
 */
#ifndef HERON_APPLIANCE_THERMAL_H
#define HERON_APPLIANCE_THERMAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "appliance/config.h"
#include "appliance/governor.h"
#include "appliance/sensors.h"
#include "base/err.h"

struct thermal;

struct thermal_options {
    struct sensors_options sensors; /* texts are borrowed for the call */
    bool has_sensors;               /* false: the operator wrote down that there are none */
    enum workload_policy policy;
    bool pauses_blind;
    double resume_c; /* where work goes on after a stop far above a limit of the part that computes; 0: the governor's */
    int batch_max;
    const char *memory; /* what thermal_take_memory gave once, JSON; NULL: nothing is known of this machine */
    const char *model;  /* what the engine runs: a text that differs for another one; NULL: "" */
    const char *ring;   /* path of the file of seconds; NULL: none */
    int64_t period_ns;  /* of the governor; 0: a second of the box */
};

/* What is known at this second. Names are borrowed, as long as thermal lives. */
struct thermal_stats {
    struct governor_grant grant;
    int64_t since_wall_ns; /* of the level */
    const char *hottest;   /* name of grant.hottest; NULL: no sensor governs */
    const char *blind;     /* name of a sensor that cannot be believed; NULL: none */
    const char *foreign;   /* name of a sensor that something else warms over its limit; NULL: none */
    double watts;          /* measured; NAN: no meter */
    bool is_unguarded;     /* the operator wants it without limits */
    bool has_sensors;      /* some sensor governs */
    uint64_t trips;
    bool is_ring_losing; /* in the last ten minutes */
    bool has_come;       /* a sensor that was missing at the start is there: only another start takes it in */
};

/* The options of a configuration, for an engine on this device ("cpu", "cuda:0"); texts are the configuration's. Batch, memory, ring and period are left to the caller. */
void thermal_plan(const struct config *config, const char *device, struct thermal_options *ret_options);

/* Errors: those of sensors_open and ring_open; ERR_IO (thread). A memory that cannot be read is ignored, and said in the log. */
int thermal_open(const struct thermal_options *options, struct thermal **ret_thermal, struct err *err);

/* The end of governing, from whoever opened it, once or more: no permit is laid out any longer, and what is known by then can be taken. */
void thermal_stop(struct thermal *thermal);  /* takes NULL */
void thermal_close(struct thermal *thermal); /* takes NULL; stops it */

/* When the thread last went round. Any thread. */
int64_t thermal_heartbeat_ns(struct thermal *thermal);

/* Any thread. Batch 0: nothing may run now. */
void thermal_get_permit(struct thermal *thermal, struct en_permit *ret_permit);
void thermal_get(struct thermal *thermal, struct thermal_stats *ret_stats);

/*
 * What the engine has done so far (its totals, which only grow, or begin anew), how many jobs it has, and how many of them the step that
 * begins now works on (0: none begins): a long step counts while it runs. Any thread.
 */
void thermal_note_load(struct thermal *thermal, const struct en_progress *progress, int32_t pending, int32_t running);

/* The sensors that were found, for the log and for `heron check`: "gpu0 (limit 68 C), ...; watts from NVML". */
void thermal_describe(const struct thermal *thermal, char *out, size_t cap);

/* What was learned of this machine, to be kept, as JSON; malloc'ed. NULL: nothing new since the last call. Any thread. */
char *thermal_take_memory(struct thermal *thermal);

#endif
