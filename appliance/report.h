/*
 * report - what Heron says about itself: the retained states, health and statistics that config/topics.md promises, and the overview behind
 * `heron status`. It asks everybody else at every tick, and publishes what changed.
 *
 *   at once       P/status, P/<cam>/status/capture and analysis, the switches' states, P/config/state
 *   health        on change, at most every 10 s; at least every 60 s for its ages
 *   heat          P/thermal: a new level or batch at once, other figures at most every 10 s
 *   statistics    every 60 s
 *
 * Life cycle: report_open -> report_set_* and report_tick -> report_stopping -> report_close.
 * Threads: the main thread, but report_scene, which the engine thread calls. Memory: a table of CONFIG_CAMERAS_MAX.
 */
#ifndef HERON_APPLIANCE_REPORT_H
#define HERON_APPLIANCE_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "appliance/boot.h"
#include "appliance/complaint.h"
#include "appliance/config.h"
#include "appliance/fleet.h"
#include "appliance/mqtt.h"
#include "appliance/payload.h"
#include "appliance/thermal.h"
#include "appliance/worker.h"
#include "base/err.h"

struct report;

struct report_options {
    struct mqtt *mqtt; /* all five borrowed */
    struct worker *worker;
    struct fleet *fleet;
    struct boot *boot;
    struct thermal *thermal; /* NULL: nothing is governed */
};

/* Errors: ERR_NOMEM. */
int report_open(const struct report_options *options, struct report **ret_report, struct err *err);
void report_close(struct report *report);

/* The configuration that runs now; clears the pending error. Borrowed until the next call. */
void report_set_config(struct report *report, const struct config *config, const char *restart_keys);

/* A reload that changed nothing, and why. */
void report_set_config_error(struct report *report, const struct complaint *complaint);

/* Look at everything and publish what is due. */
void report_tick(struct report *report, int64_t now_ns);

/* Heron ends: says so, and that nothing is captured or analysed any more. */
void report_stopping(struct report *report);

/* An observation. Any thread. */
void report_scene(struct report *report, const char *camera, const char *json, size_t n_bytes);

/* One sentence for systemd and people: "running: 3 cameras, 1,204 observations". */
void report_sentence(struct report *report, char *out, size_t cap);

/* The state at the last tick. */
enum payload_state report_state(const struct report *report);

/* Everything as one JSON object; malloc'ed, NULL: out of memory. */
char *report_overview(struct report *report);

#endif
