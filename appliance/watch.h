/*
 * watch - when a camera is to be looked at, and what came of it: the timer and the counters of one watch. Pure: it is told the time.
 *
 * Looks are due on a grid of `every`. A look that is due while the one before is still at work, or that passed unnoticed because
 * the engine was busy, is shed and counted: there is no backlog. A look that finds no new frame waits for one, and the grid starts
 * again there: a camera that is away sheds nothing.
 *
 * Life cycle: watch_init -> watch_due, then watch_look or watch_wait; watch_done, watch_shed, watch_fail as results come ->
 * nothing to release. Threads: one owner. Memory: none but the struct.
 */
#ifndef HERON_APPLIANCE_WATCH_H
#define HERON_APPLIANCE_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "appliance/payload.h"

#define WATCH_LATENCIES 128
#define WATCH_MINUTES   60

/* Events of the last hour, by minutes: the oldest minute is forgotten as a new one begins. */
struct watch_hour {
    uint32_t minute[WATCH_MINUTES];
    int64_t newest; /* number of the minute that was last counted in */
    bool has_any;
};

void watch_hour_add(struct watch_hour *hour, int64_t now_ns, uint32_t n);
uint32_t watch_hour_sum(const struct watch_hour *hour, int64_t now_ns);

struct watch {
    int64_t every_ns, deadline_ns;
    int64_t next_ns;    /* when the next look is due */
    bool is_waiting;    /* due, and no new frame was there */
    bool is_at_work;    /* a look is being answered */
    int64_t started_ns; /* when watching began, or began again */
    uint64_t observations, shed, skipped, failed, prompt_tokens, output_tokens;
    struct watch_hour shed_hour, skipped_hour;
    int64_t last_observation_ns;
    float latency_ms[WATCH_LATENCIES]; /* ring, capture to publish */
    uint32_t n_latencies;              /* ever noted */
    char last_error[256];
};

/* Start watching. The first look is due at now + phase_ns, by which cameras are spread over the interval. */
void watch_init(struct watch *watch, int64_t every_ns, int64_t deadline_ns, int64_t now_ns, int64_t phase_ns);

/* Another interval or deadline: counters stay, the next look is due at once at the earliest. */
void watch_retime(struct watch *watch, int64_t every_ns, int64_t deadline_ns, int64_t now_ns);

/*
 * Whether a look is due now. Grid points that passed since the last call, and those that come while a look is at work, are counted
 * as shed here.
 */
bool watch_due(struct watch *watch, int64_t now_ns);

/* A due look begins: the grid moves on. */
void watch_look(struct watch *watch, int64_t now_ns);

/* A due look finds no new frame: it stays due. */
void watch_wait(struct watch *watch);

/* How a look ended. capture_ns: of its frame. */
void watch_done(struct watch *watch, int64_t capture_ns, int64_t now_ns, int32_t prompt_tokens, int32_t output_tokens);
void watch_shed(struct watch *watch, int64_t now_ns);
void watch_fail(struct watch *watch, const char *why);
/* The look was taken back: not counted. */
void watch_cancel(struct watch *watch);

/* How long after the last observation, or after the start, watching counts as online. */
int64_t watch_window_ns(int64_t every_ns, int64_t deadline_ns);

/* The counters as they are published. */
void watch_get(const struct watch *watch, int64_t now_ns, struct payload_watch *ret_stats);

/* Latency in milliseconds that `share` (0..1) of the n values do not exceed; 0 for none. Sorts `values`. */
double watch_quantile(float *values, int n, double share);

#endif
