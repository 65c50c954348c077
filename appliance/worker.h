/*
 * worker - the engine thread: it opens the engine, takes the newest frame of every camera whose watch is due, asks the engine, and hands
 * observations out.
 *
 * An engine that cannot be opened, or that dies, is opened again for ever, after 5 s at first and 60 s at last; what is wrong stands in
 * worker_get_stats. Nothing else of the appliance waits for it. Where its device failed and does not open again either, only another process may be able to: a GPU's driver keeps such an
 * error for as long as the process lives. Then needs_restart says so.
 *
 * Life cycle: worker_open (the thread starts, the engine opens) -> worker_set_watches as often as the configuration changes ->
 * worker_stop -> worker_is_done -> worker_close.
 * Threads: worker_* from one thread, the owner, but worker_get_* from any. on_scene is called on the engine thread and must not block.
 * Memory: the watches' prompts; frames are referenced only while they are resized.
 *
 * Invariants: at most one job a watch. An observation that is later than its deadline is never handed out: it is counted as shed.
 */
#ifndef HERON_APPLIANCE_WORKER_H
#define HERON_APPLIANCE_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "appliance/config.h"
#include "appliance/payload.h"
#include "base/err.h"
#include "engine/engine.h"
#include "pipeline/pipeline.h"

struct worker;
struct thermal;

struct worker_options {
    struct en_options engine; /* texts are copied; progress is the worker's own */
    /* An observation, as the payload of P/<camera>/scene; borrowed for the call. */
    void (*on_scene)(void *ctx, const char *camera, const char *json, size_t n_bytes);
    void *ctx;
    struct thermal *thermal;            /* gives the permits; borrowed. NULL: as much as the engine can */
    int64_t retry_min_ns, retry_max_ns; /* for opening the engine; 0: 5 s and 60 s */
};

/* What is to be watched. All pointers are borrowed until the next set was taken over (worker_is_settled) or the worker is done. */
struct worker_watch {
    const struct config_camera *config;
    struct pl_camera *camera;
    bool is_on; /* off: the counters stay, nothing is looked at */
};

enum worker_state { WORKER_OPENING, WORKER_READY, WORKER_FAILED };

struct worker_stats {
    enum worker_state state;
    char error[512];                               /* why it failed, also while it is tried again; "" once it is ready */
    int64_t retry_ns;                              /* WORKER_FAILED: when the next attempt is made, monotonic */
    uint64_t done_bytes, all_bytes;                /* WORKER_OPENING */
    char model[128], device[320], fingerprint[20]; /* "" before the engine was ever open */
    bool is_untrained;
    bool needs_restart;   /* the device that the engine ran on is lost to this process */
    int64_t heartbeat_ns; /* when the thread last went round, the loading got on, or a pass came to its next layer */
    int64_t busy_ns;      /* time that the engine worked since the start; idle time for the sake of heat is not counted */
};

/* What stands behind the picture; all that stays the same from look to look stands before it, in the system message. */
#define WORKER_ASK "Describe this picture."

/* The system message: the watch's own words, and what form the answer has. Malloc'ed; NULL: out of memory. Pure. */
char *worker_system_text(const struct config_camera *camera);

/* Errors: ERR_NOMEM, ERR_IO (descriptors, thread). */
int worker_open(const struct worker_options *options, struct worker **ret_worker, struct err *err);

/* To be given to cameras as event_fd. */
int worker_frames_fd(const struct worker *worker);

/*
 * Watch these cameras from now on. Cameras are told apart by their config's id: counters of those that stay are kept; a running job
 * is taken back when its camera went, was switched off, or is asked something else. Errors: ERR_AGAIN (the set before was
 * not taken over yet), ERR_NOMEM.
 */
int worker_set_watches(struct worker *worker, const struct worker_watch *watches, int n_watches, struct err *err);

/* Whether the last set is in use, so that what only an earlier one refers to can be closed. */
bool worker_is_settled(struct worker *worker);

void worker_get_stats(struct worker *worker, struct worker_stats *ret_stats);

/* The counters of a camera; zeros for one that is not watched. */
void worker_get_watch(struct worker *worker, const char *camera, struct payload_watch *ret_stats);

/* Begin no more looks; finish what runs within drain_ns, then end. Returns at once. */
void worker_stop(struct worker *worker, int64_t drain_ns);
bool worker_is_done(struct worker *worker);

/*
 * Give the thread up where it does not come back from loading or from a step: on_scene is not called again. The process must end with
 * _exit; worker_close would wait for ever, and nothing that the watches refer to may be closed.
 */
void worker_abandon(struct worker *worker);

/* Join and free; to be called when worker_is_done, otherwise it waits for it. Takes NULL. */
void worker_close(struct worker *worker);

#endif
