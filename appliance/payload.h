/*
 * payload - every JSON payload that Heron publishes, made from plain structs. Topics: config/topics.md; the JSON Schemas in
 * config/schemas/ describe the same and are tested against every publish.
 *
 * Every payload carries "v":1; times are UNIX seconds; objects keep the order of config/topics.md. Text that is not UTF-8 is repaired
 * with U+FFFD.
 *
 * Threads: pure functions, any thread. Memory: each returns malloc'ed, NUL-terminated compact JSON, the caller's; NULL: out of
 * memory.
 */
#ifndef HERON_APPLIANCE_PAYLOAD_H
#define HERON_APPLIANCE_PAYLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "appliance/mqtt.h"
#include "engine/engine.h"
#include "pipeline/pipeline.h"

enum payload_state {
    PAYLOAD_STARTING,
    PAYLOAD_RUNNING,
    PAYLOAD_DEGRADED,
    PAYLOAD_PAUSED,
    PAYLOAD_STOPPING,
};

/* The word that is published for a state. */
const char *payload_state_name(enum payload_state state);

#define PAYLOAD_REASONS_MAX 16
#define PAYLOAD_REASON_MAX  320

/* P/status. Also what `heron status` shows first. */
struct payload_status {
    enum payload_state state;
    int n_reasons;
    char reasons[PAYLOAD_REASONS_MAX][PAYLOAD_REASON_MAX]; /* why it is not running, or what is to be known: "engine: ..." */
    int64_t since_wall_ns;
    uint64_t boot; /* 0: there is no state directory to count in */
    const char *version;
    const char *config_sha;
    const char *engine_model, *engine_build, *engine_device; /* NULL: not known yet */
    bool engine_is_ready, engine_is_untrained;
};
char *payload_status(const struct payload_status *status);

/* What a camera's watch has done since the start; the worker's counters. Times monotonic. */
struct payload_watch {
    uint64_t observations;
    uint64_t shed;    /* looks that were due and not answered: too late, or the one before was still at work */
    uint64_t skipped; /* looks that the gate spared */
    uint64_t failed;  /* jobs that ended with an error */
    uint64_t prompt_tokens, output_tokens;
    uint32_t shed_1h, skipped_1h;
    int64_t last_observation_ns; /* 0: none yet */
    double p50_ms, p95_ms;       /* capture to publish, over the last 128 observations; 0: none */
    char last_error[256];
};

/* P/<cam>/health. now_ns: monotonic, for the ages; ages are null before the first. */
char *payload_health(const struct pl_camera_stats *camera, const struct payload_watch *watch, int64_t now_ns);

/* P/<cam>/scene. */
struct payload_scene {
    const char *camera;
    uint64_t frame_seq;    /* "f" and this number */
    int64_t frame_wall_ns; /* capture, UNIX */
    int64_t capture_ns;    /* the same, monotonic: total latency counts from here */
    int64_t publish_ns;    /* monotonic now */
    const struct en_timing *timing;
    const char *result_text; /* the answer, JSON of the watch's schema */
    const struct en_score *scores;
    int n_scores;
    bool is_untrained;
    const char *truth; /* pl_frame.truth of the frame; NULL, "", or what is no truth of a scene: left out */
};
/* {v, camera, frame, frame_time, latency_ms: {queue, vision, prefill, decode, total}, result, scores: {"/hazard": {"none": 0.9, ...}},
 * tokens: {prompt, image, output}, untrained: true (only then), truth: {frame, people, vehicles, animals, hazard, light, weather, summary} (only of a
 * rendered camera)}. queue is all of total that is no work: waiting before and between. */
char *payload_scene(const struct payload_scene *scene);

/* P/config/state. error_file NULL: no pending error. */
struct payload_config {
    const char *sha;
    int64_t loaded_wall_ns;
    const char *source; /* path of the main file */
    const char *error_file, *error_key, *error_message;
    int error_line, error_col;
    const char *restart_keys; /* keys that changed and wait for a restart, ", " between; NULL or "": none */
};
char *payload_config(const struct payload_config *config);

/* P/thermal, and a part of P/stats. NAN: not known. */
struct payload_thermal {
    const char *level;  /* nominal warm throttled paused blind */
    const char *sensor; /* the one nearest to its limit; NULL: none */
    double temp_c, limit_c, headroom_k, seconds_to_limit;
    int batch;
    double idle_share; /* 0..1 */
    double watts, budget_w;
    int64_t since_wall_ns;
    bool is_unguarded, needs_service;
    uint64_t trips;
};
/* {v, level, temp_c, limit_c, batch, idle_pct, headroom, since, sensor, seconds_to_limit, watts, budget_w, unguarded, service, trips}. */
char *payload_thermal(const struct payload_thermal *thermal);

/* P/stats, and with the cameras' details what `heron status --json` prints. */
struct payload_camera {
    const char *id;
    const char *capture, *analysis; /* online, offline, disabled */
    struct pl_camera_stats camera;
    struct payload_watch watch;
    const char *scene; /* last scene as JSON text; NULL: none. Only in payload_overview */
};
struct payload_stats {
    int64_t uptime_ns, now_ns;
    uint64_t rss_bytes;
    uint64_t frames, observations, shed, skipped, failed, prompt_tokens, output_tokens;
    double busy;   /* share of time that the engine worked since the last publish, 0..1 */
    double p95_ms; /* capture to publish over all cameras */
    struct mqtt_stats mqtt;
    uint32_t leaked_pipelines;
    struct payload_thermal thermal;
    const struct payload_camera *cameras;
    int n_cameras;
};
char *payload_stats(const struct payload_stats *stats);

/* One object of all of the above: {v, status, config, stats, cameras: [...]}. */
char *payload_overview(const struct payload_status *status, const struct payload_config *config,
                       const struct payload_stats *stats);

/* What the control socket answers to a command: {"ok":true}, or {"ok":false,"error":why} for a `why`. */
char *payload_reply(const char *why);

#endif
