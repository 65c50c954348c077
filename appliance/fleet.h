/*
 * fleet - the cameras of the running configuration: opened, switched, compared with the next one, closed when nobody looks at them any more.
 *
 * A new configuration is applied in two parts, so that the main thread never waits for a step of the engine: fleet_apply opens what is
 * new and hands the worker its watches; fleet_step, called at every tick, closes what left once the worker has taken them over. A
 * camera whose source changed is opened when the old one is closed: many devices serve one reader only.
 *
 * Life cycle: fleet_open -> fleet_apply -> fleet_step at every tick -> fleet_close (after the worker is done).
 * Threads: the main thread. Memory: a table of CONFIG_CAMERAS_MAX.
 */
#ifndef HERON_APPLIANCE_FLEET_H
#define HERON_APPLIANCE_FLEET_H

#include <stdbool.h>

#include "appliance/boot.h"
#include "appliance/config.h"
#include "appliance/worker.h"
#include "base/err.h"
#include "pipeline/pipeline.h"

struct fleet_camera {
    const struct config_camera *config; /* of the configuration applied last */
    struct pl_camera *camera;           /* NULL: it could not be opened, or waits for the one before it to close */
    bool is_enabled;                    /* by the configuration and the switch */
    bool wants_analysis, is_analysing;  /* the switch; the same where it is enabled */
    int64_t next_open_ns;
    char error[256]; /* why camera is NULL; "" */
};

struct fleet;

/* worker, boot (where the switches are kept): borrowed. Errors: ERR_NOMEM. */
int fleet_open(struct worker *worker, struct boot *boot, struct fleet **ret_fleet, struct err *err);

/*
 * Make the cameras of `config` the running ones. The config before is referred to until fleet_is_settled.
 * Errors: ERR_AGAIN (the change before is not settled; nothing was done).
 */
int fleet_apply(struct fleet *fleet, const struct config *config, struct err *err);

/* Go on with what is under way: closes one camera at a time, opens those that wait. */
void fleet_step(struct fleet *fleet);

/* Nothing refers to an earlier configuration any more. */
bool fleet_is_settled(const struct fleet *fleet);

int fleet_count(const struct fleet *fleet);
const struct fleet_camera *fleet_get(const struct fleet *fleet, int i);

/*
 * The switches of P/<cam>/enabled and P/<cam>/analysis: name is "enabled" or "analysis". They hold for the id, over reloads and restarts.
 * Errors: ERR_NOT_FOUND (no such camera); ERR_IO, ERR_NOMEM (it is switched, and was not remembered).
 */
int fleet_switch(struct fleet *fleet, const char *id, const char *name, bool is_on, struct err *err);

/* What a camera is and does; for one that is not open only last_error is set, and last_frame_age_ns is -1. */
void fleet_get_stats(const struct fleet *fleet, int i, struct pl_camera_stats *ret_stats);

/* The oldest heartbeat of all supervisors, monotonic; INT64_MAX: no camera is open. */
int64_t fleet_heartbeat_ns(const struct fleet *fleet);

/* Close all cameras. The worker must be done or gone. Takes NULL. */
void fleet_close(struct fleet *fleet);

#endif
