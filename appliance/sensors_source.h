/*
 * sensors_source - one place where a machine tells about its heat (sysfs, NVML), read every period by a thread of its own.
 *
 * Calls into drivers can hang. Therefore nobody but the thread makes them: it leaves what it has read in the struct, under a lock that is never held while something is read, and
 * whoever asks takes the newest figures, if they are fresh. A thread that hangs is left behind, and frees the struct when it comes back.
 *
 * Life cycle: sensors_source_open -> sensors_source_await, after which the places stand -> figures under the lock -> sensors_source_stop -> sensors_source_close.
 * Threads: the owner, and the source's own. Memory: one struct; what the thread opens is its own.
 */
#ifndef HERON_APPLIANCE_SENSORS_SOURCE_H
#define HERON_APPLIANCE_SENSORS_SOURCE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "appliance/sensors.h"
#include "appliance/sensors_meter.h"
#include "appliance/sensors_nvml.h"
#include "appliance/sensors_sysfs.h"
#include "base/err.h"

#define SENSORS_SOURCE_PLACES (SENSORS_SYSFS_PLACES > 2 * SENSORS_NVML_GPUS ? SENSORS_SYSFS_PLACES : 2 * SENSORS_NVML_GPUS)
#define SENSORS_SOURCE_METERS (SENSORS_SYSFS_RAILS > SENSORS_NVML_GPUS ? SENSORS_SYSFS_RAILS : SENSORS_NVML_GPUS)
#define SENSORS_SOURCE_TEXT   512

/* What does not govern has a thread of its own: a drive or a modem that hangs must blind nobody. */
enum sensors_source_kind { SENSORS_OF_SYSFS, SENSORS_OF_NVML, SENSORS_OF_OTHERS, SENSORS_SOURCES };
extern const char *const sensors_source_names[SENSORS_SOURCES]; /* for the log */

extern const char *const sensors_part_names[]; /* by enum sensors_part, as in thermal.sensors */

/* A place as its source found it. */
struct sensors_found {
    char name[SENSORS_NAME_MAX];
    enum sensors_part part;
    double trip_c, critical_c; /* as in struct sensors_sysfs_place; NAN: none */
    bool is_believed;          /* it said something that can be a temperature */
    bool is_awaited;           /* it has not been seen yet */
    bool is_others;            /* a GPU that does other people's work */
};

/* One thread, and what it found and read. Freed by whoever leaves last: the owner, or a thread that was left behind. */
struct sensors_source {
    /* immutable while the thread runs */
    enum sensors_source_kind kind;
    char path[SENSORS_SOURCE_TEXT]; /* root of sysfs, or the library */
    bool is_needed;                 /* the engine computes on what it tells about: it is waited for */
    int gpu;                        /* of NVML's number */
    int64_t period_ns, timeout_ns;
    pthread_t thread;

    /* the thread's */
    struct sensors_sysfs *sysfs;
    struct sensors_nvml *nvml;
    int n_gpus, ours;                                              /* the one that the engine computes on; -1: not known */
    bool is_late;                                                  /* nothing was known of it at the start */
    int n_rounds;                                                  /* of looking for what is missing */
    int place_of[SENSORS_NVML_GPUS], memory_of[SENSORS_NVML_GPUS]; /* of a GPU and of its memory; -1: none */

    pthread_mutex_t lock; /* of all below; never held while something is read */
    pthread_cond_t changed;
    bool is_closing, has_begun, has_ended, is_left;
    char why[SENSORS_SOURCE_TEXT]; /* there is nothing to read; "": it is simply not there */
    int n_places;
    struct sensors_found places[SENSORS_SOURCE_PLACES]; /* fixed once it has begun */
    double c[SENSORS_SOURCE_PLACES];
    int64_t c_ns[SENSORS_SOURCE_PLACES]; /* when it was read */
    bool is_gone[SENSORS_SOURCE_PLACES]; /* what it is the temperature of */
    enum sensors_sysfs_scope scope;
    char meter_name[SENSORS_NAME_MAX * 2];
    int n_meters;
    struct sensors_meter meters[SENSORS_SOURCE_METERS];
    double margin_k;
    int64_t margin_ns;
    bool is_throttled, is_limited; /* since they were taken */
    int n_missing;                 /* looked for, once it is given */
    char missing[SENSORS_MAX][SENSORS_NAME_MAX];
    bool has_come; /* one of them */
};

/* Starts the thread. path: root of sysfs, or NVML's library. Errors: ERR_NOMEM, ERR_IO. */
int sensors_source_open(enum sensors_source_kind kind, const char *path, const struct sensors_options *options,
                        int64_t period_ns, int64_t timeout_ns, struct sensors_source **ret_source, struct err *err);

/* Wait until it has found its places. false: not until then. */
bool sensors_source_await(struct sensors_source *source, int64_t until_ns);

void sensors_source_stop(struct sensors_source *source);

/* After sensors_source_stop: waits until until_ns for the thread. One that hangs is left behind, and said in the log. */
void sensors_source_close(struct sensors_source *source, int64_t until_ns);

/* Whether a name that thermal.sensors has means this place. */
bool sensors_is_called(const char *wanted, const char *name, enum sensors_part part);

#endif
