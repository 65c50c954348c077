#include "appliance/report.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "appliance/version.h"
#include "appliance/watch.h"
#include "base/clock.h"
#include "base/log.h"

#define HEALTH_MIN_NS  (10 * CLOCK_S)
#define HEALTH_MAX_NS  (60 * CLOCK_S)
#define STATS_NS       (60 * CLOCK_S)
#define THERMAL_MIN_NS (10 * CLOCK_S)
#define SETTLED_NS     (30 * CLOCK_S) /* connected for so long, all that was to be cleared is */

/* What was said about one camera. */
struct entry {
    char id[CONFIG_ID_MAX + 1];
    bool is_seen;       /* in this tick's fleet */
    bool is_known;      /* its states are at the broker */
    int64_t since_ns;   /* it is part of the configuration */
    int64_t watched_ns; /* since when an observation can be expected; 0: not now */
    const char *capture, *analysis;
    struct pl_camera_stats camera;
    struct payload_watch watch;
    struct payload_watch said_watch; /* as last published in health */
    struct pl_camera_stats said_camera;
    int64_t health_ns;
    char *scene; /* under lock */
};

struct report {
    struct report_options options;
    const struct config *config;
    int64_t config_wall_ns;
    char restart_keys[1250];
    struct complaint error; /* of the reload that changed nothing; its texts are ours */
    bool has_error;
    bool is_stopping;
    bool has_looked;    /* at the cameras, once */
    bool has_new_names; /* since they were last written down */
    enum payload_state state;
    int64_t start_ns, since_wall_ns, ready_ns, stats_ns, stats_busy_ns;
    double busy;
    struct payload_watch left; /* of cameras that left: totals never go back */
    uint64_t frames_left;
    struct payload_status status;
    struct worker_stats engine;
    struct thermal_stats thermal;
    struct payload_thermal said_thermal;
    int64_t thermal_ns;
    struct entry entries[CONFIG_CAMERAS_MAX];
    int n;
    pthread_mutex_t lock; /* entries' ids and scenes: the engine thread writes scenes */
};

int report_open(const struct report_options *options, struct report **ret_report, struct err *err)
{
    struct report *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, ERR_NOMEM, "out of memory: the report");
    r->options = *options;
    r->start_ns = r->stats_ns = clock_now_ns();
    r->since_wall_ns = clock_wall_ns();
    pthread_mutex_init(&r->lock, NULL);
    *ret_report = r;
    return 0;
}

static void forget_error(struct report *r)
{
    free(r->error.file);
    free(r->error.message);
    free(r->error.key);
    r->error = (struct complaint){0};
    r->has_error = false;
}

void report_close(struct report *r)
{
    if (!r)
        return;
    forget_error(r);
    for (int i = 0; i < r->n; i++)
        free(r->entries[i].scene);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* ---- publishing ------------------------------------------------------------------------------------------------------------ */

static void publish_text(struct report *r, const char *suffix, const char *text, int qos)
{
    struct err err = {0};
    if (text && mqtt_set_state(r->options.mqtt, suffix, text, strlen(text), qos, &err) != 0)
        log_warning("ignoring a state that cannot be published topic=%s: %s", suffix, err.text);
}

/* Publish and free a payload. */
static void publish(struct report *r, const char *suffix, char *json, int qos)
{
    publish_text(r, suffix, json, qos);
    free(json);
}

static const char *camera_topic(char out[MQTT_TOPIC_MAX], const char *id, const char *rest)
{
    snprintf(out, MQTT_TOPIC_MAX, "%s/%s", id, rest);
    return out;
}

static struct payload_config config_state(const struct report *r)
{
    return (struct payload_config){
        .sha = r->config->sha,
        .loaded_wall_ns = r->config_wall_ns,
        .source = r->config->path,
        .error_file = r->has_error ? r->error.file : NULL,
        .error_key = r->error.key,
        .error_message = r->error.message,
        .error_line = r->error.line,
        .error_col = r->error.col,
        .restart_keys = r->restart_keys,
    };
}

static void publish_config(struct report *r)
{
    const struct payload_config config = config_state(r);
    publish(r, "config/state", payload_config(&config), 1);
}

void report_set_config(struct report *r, const struct config *config, const char *restart_keys)
{
    forget_error(r);
    r->config = config;
    r->config_wall_ns = clock_wall_ns();
    snprintf(r->restart_keys, sizeof r->restart_keys, "%s", restart_keys ? restart_keys : "");
    publish_config(r);
}

void report_set_config_error(struct report *r, const struct complaint *complaint)
{
    forget_error(r);
    r->error = *complaint;
    r->error.file = strdup(complaint->file ? complaint->file : r->config->path);
    r->error.message = strdup(complaint->message ? complaint->message : "");
    r->error.key = strdup(complaint->key ? complaint->key : "");
    r->error.line_text = NULL;
    r->has_error = r->error.file && r->error.message && r->error.key;
    publish_config(r);
}

void report_scene(struct report *r, const char *camera, const char *json, size_t n_bytes)
{
    char topic[MQTT_TOPIC_MAX];
    struct err err = {0};
    if (mqtt_set_state(r->options.mqtt, camera_topic(topic, camera, "scene"), json, n_bytes, 1, &err) != 0)
        log_warning("observation not published camera=%s: %s", camera, err.text);
    char *copy = strndup(json, n_bytes);
    pthread_mutex_lock(&r->lock);
    for (int i = 0; copy && i < r->n; i++)
        if (strcmp(r->entries[i].id, camera) == 0) {
            char *before = r->entries[i].scene;
            r->entries[i].scene = copy;
            copy = before;
            break;
        }
    pthread_mutex_unlock(&r->lock);
    free(copy);
}

/* ---- cameras ----------------------------------------------------------------------------------------------------------------- */

static const char *const camera_states[] = {"status/capture", "status/analysis", "enabled/state",
                                            "analysis/state", "health",          "scene"};

static void add_counters(struct payload_watch *sum, const struct payload_watch *w)
{
    sum->observations += w->observations;
    sum->shed += w->shed;
    sum->skipped += w->skipped;
    sum->failed += w->failed;
    sum->prompt_tokens += w->prompt_tokens;
    sum->output_tokens += w->output_tokens;
}

static void clear_states(struct report *r, const char *id)
{
    char topic[MQTT_TOPIC_MAX];
    for (size_t s = 0; s < sizeof camera_states / sizeof *camera_states; s++)
        mqtt_clear_state(r->options.mqtt, camera_topic(topic, id, camera_states[s]));
}

static struct entry *find_entry(struct report *r, const char *id)
{
    for (int i = 0; i < r->n; i++)
        if (strcmp(r->entries[i].id, id) == 0)
            return &r->entries[i];
    return NULL;
}

/*
 * Write down whose topics the broker may hold, for a start with another configuration: the cameras of now, and those that left unless they are
 * surely cleared.
 */
static void remember_names(struct report *r, bool is_cleared)
{
    const char *ids[4 * CONFIG_CAMERAS_MAX], *id;
    struct err err = {0};
    size_t n = 0;
    for (int i = 0; i < r->n; i++)
        ids[n++] = r->entries[i].id;
    for (size_t i = 0; !is_cleared && (id = boot_camera(r->options.boot, i)) && n < 4 * CONFIG_CAMERAS_MAX; i++)
        if (!find_entry(r, id))
            ids[n++] = id;
    if (boot_cameras_set(r->options.boot, ids, n, &err) != 0)
        log_warning("ignoring that the names of cameras cannot be kept: %s", err.text);
    r->has_new_names = false;
}

/* Cameras of an earlier run that are not in this one: the broker may still hold what was said of them. */
static void forget_earlier(struct report *r)
{
    const char *id;
    for (size_t i = 0; (id = boot_camera(r->options.boot, i)); i++)
        if (!find_entry(r, id))
            clear_states(r, id);
    r->has_looked = true;
}

static void forget_camera(struct report *r, int i)
{
    struct entry *e = &r->entries[i];
    clear_states(r, e->id);
    r->frames_left += e->camera.frames;
    add_counters(&r->left, &e->watch);
    pthread_mutex_lock(&r->lock);
    free(e->scene);
    r->entries[i] = r->entries[--r->n];
    r->entries[r->n] = (struct entry){0};
    pthread_mutex_unlock(&r->lock);
}

static struct entry *need_entry(struct report *r, const char *id)
{
    struct entry *known = find_entry(r, id);
    if (known)
        return known;
    if (r->n == CONFIG_CAMERAS_MAX) /* a full set was replaced by a full set: the old ones make room first */
        return NULL;
    pthread_mutex_lock(&r->lock);
    struct entry *e = &r->entries[r->n++];
    *e = (struct entry){.since_ns = clock_now_ns()};
    snprintf(e->id, sizeof e->id, "%s", id);
    pthread_mutex_unlock(&r->lock);
    r->has_new_names = true;
    return e;
}

/* The two words of a camera. `r->ready_ns`: since when the engine could answer; 0: it cannot. */
static void judge(const struct report *r, struct entry *e, const struct fleet_camera *c, int64_t now)
{
    const int64_t window = watch_window_ns(c->config->every_ns, c->config->deadline_ns);
    const bool is_online = e->camera.is_online && !r->is_stopping; /* the last word, whoever asks meanwhile */
    e->capture = !c->is_enabled ? "disabled" : is_online ? "online" : "offline";
    if (!c->is_analysing) {
        e->analysis = "disabled";
        e->watched_ns = 0;
        return;
    }
    /* an engine that is gone gives no next one: nobody has to wait for the window's end to hear it */
    const bool is_recent =
        r->ready_ns && !r->is_stopping && e->watch.last_observation_ns && now - e->watch.last_observation_ns <= window;
    e->analysis = is_recent ? "online" : "offline";
    if (!r->ready_ns || !e->camera.is_online)
        e->watched_ns = 0;
    else if (!e->watched_ns)
        e->watched_ns = now;
}

/* What health tells, ages apart. */
static bool health_differs(const struct entry *e)
{
    const struct pl_camera_stats *a = &e->camera, *b = &e->said_camera;
    const double slack = 0.1 * (a->fps > 1 ? a->fps : 1);
    return a->is_frozen != b->is_frozen || a->decode_errors != b->decode_errors || a->restarts_1h != b->restarts_1h ||
           a->is_online != b->is_online || strcmp(a->last_error, b->last_error) != 0 || a->fps > b->fps + slack ||
           a->fps < b->fps - slack || e->watch.shed_1h != e->said_watch.shed_1h ||
           e->watch.skipped_1h != e->said_watch.skipped_1h || strcmp(e->watch.last_error, e->said_watch.last_error) != 0;
}

static void publish_camera(struct report *r, struct entry *e, const struct fleet_camera *c, int64_t now)
{
    char topic[MQTT_TOPIC_MAX];
    publish_text(r, camera_topic(topic, e->id, "status/capture"), e->capture, 1);
    publish_text(r, camera_topic(topic, e->id, "status/analysis"), e->analysis, 1);
    publish_text(r, camera_topic(topic, e->id, "enabled/state"), c->is_enabled ? "ON" : "OFF", 1);
    publish_text(r, camera_topic(topic, e->id, "analysis/state"), c->wants_analysis ? "ON" : "OFF", 1);
    const int64_t age = e->health_ns ? now - e->health_ns : INT64_MAX;
    if (age >= HEALTH_MAX_NS || (age >= HEALTH_MIN_NS && health_differs(e))) {
        publish(r, camera_topic(topic, e->id, "health"), payload_health(&e->camera, &e->watch, now), 0);
        e->health_ns = now;
        e->said_camera = e->camera;
        e->said_watch = e->watch;
    }
}

static bool has_fewer(const struct payload_watch *now, const struct payload_watch *before)
{
    return now->observations < before->observations || now->shed < before->shed || now->failed < before->failed;
}

static void look_at_cameras(struct report *r, int64_t now)
{
    for (int i = 0; i < r->n; i++)
        r->entries[i].is_seen = false;
    for (int pass = 0; pass < 2; pass++) { /* twice: cameras that left make room for others */
        for (int i = 0; i < fleet_count(r->options.fleet); i++) {
            const struct fleet_camera *c = fleet_get(r->options.fleet, i);
            struct entry *e = need_entry(r, c->config->id);
            if (!e || e->is_seen)
                continue;
            e->is_seen = true;
            const uint64_t frames = e->camera.frames;
            const struct payload_watch before = e->watch;
            fleet_get_stats(r->options.fleet, i, &e->camera);
            if (e->camera.frames < frames) /* opened anew */
                r->frames_left += frames;
            worker_get_watch(r->options.worker, e->id, &e->watch);
            if (has_fewer(&e->watch, &before)) /* watched anew, with another source */
                add_counters(&r->left, &before);
            judge(r, e, c, now);
            publish_camera(r, e, c, now);
        }
        /* until the engine has taken the change over an observation of a camera that left may still come */
        for (int i = r->n - 1; i >= 0 && fleet_is_settled(r->options.fleet); i--)
            if (!r->entries[i].is_seen)
                forget_camera(r, i);
    }
    if (!r->has_looked)
        forget_earlier(r);
    if (r->has_new_names)
        remember_names(r, false);
}

/* ---- the whole ----------------------------------------------------------------------------------------------------------------- */

static void add_reason(struct payload_status *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add_reason(struct payload_status *s, const char *fmt, ...)
{
    if (s->n_reasons == PAYLOAD_REASONS_MAX)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->reasons[s->n_reasons++], PAYLOAD_REASON_MAX, fmt, ap);
    va_end(ap);
}

static void reasons_of_cameras(struct report *r, struct payload_status *s, int64_t now)
{
    for (int i = 0; i < fleet_count(r->options.fleet); i++) {
        const struct fleet_camera *c = fleet_get(r->options.fleet, i);
        const struct entry *e = find_entry(r, c->config->id);
        if (!e || !e->capture)
            continue;
        const int64_t window = watch_window_ns(c->config->every_ns, c->config->deadline_ns);
        if (strcmp(e->capture, "offline") == 0 && !e->camera.is_online && now - e->since_ns > 3 * CLOCK_S)
            add_reason(s, "camera %s: %s", e->id,
                       e->camera.is_frozen       ? "the picture is frozen"
                       : e->camera.last_error[0] ? e->camera.last_error
                                                 : "no picture yet");
        else if (!r->is_stopping && e->watched_ns && now - e->watched_ns > window && strcmp(e->analysis, "offline") == 0)
            add_reason(s, "camera %s: no observation in time%s%s", e->id, e->watch.last_error[0] ? ": " : "",
                       e->watch.last_error);
    }
}

/* ---- heat ----------------------------------------------------------------------------------------------------------------- */

static struct payload_thermal thermal_payload(const struct report *r)
{
    const struct thermal_stats *t = &r->thermal;
    const struct governor_grant *g = &t->grant;
    return (struct payload_thermal){
        .level = governor_level_names[g->level],
        .sensor = t->hottest,
        .temp_c = t->hottest ? g->c : NAN,
        .limit_c = t->hottest ? g->limit_c : NAN,
        .headroom_k = g->headroom_k,
        .seconds_to_limit = g->seconds_to_limit,
        .batch = g->permit.batch,
        .idle_share = g->permit.idle_permille / 1000.0,
        .watts = t->watts,
        .budget_w = g->budget_w,
        .since_wall_ns = t->since_wall_ns,
        .is_unguarded = t->is_unguarded,
        .needs_service = g->needs_service,
        .trips = t->trips,
    };
}

/* Without a governor: as if there were neither limit nor sensor. */
static void look_at_heat(struct report *r, int64_t now)
{
    if (r->options.thermal)
        thermal_get(r->options.thermal, &r->thermal);
    else
        r->thermal = (struct thermal_stats){.grant = {.headroom_k = INFINITY, .seconds_to_limit = INFINITY, .budget_w = NAN},
                                            .watts = NAN,
                                            .is_unguarded = true,
                                            .since_wall_ns = r->since_wall_ns};
    if (r->thermal.since_wall_ns == 0) /* before its first second */
        return;
    const struct payload_thermal next = thermal_payload(r), *said = &r->said_thermal;
    const bool is_news = !said->level || strcmp(next.level, said->level) != 0 || next.batch != said->batch ||
                         next.needs_service != said->needs_service;
    if (!is_news && now - r->thermal_ns < THERMAL_MIN_NS)
        return;
    r->said_thermal = next;
    r->thermal_ns = now;
    publish(r, "thermal", payload_thermal(&next), 1);
}

static void reason_of_heat(const struct report *r, struct payload_status *s)
{
    const struct thermal_stats *t = &r->thermal;
    const struct governor_grant *g = &t->grant;
    if (g->is_gone)
        add_reason(s, "thermal: the GPU is gone: nothing runs until it is back");
    else if (g->level == GOVERNOR_PAUSED) /* without figures that change each second: each would be a message */
        add_reason(s, "thermal: %s is too hot: nothing runs until it has cooled", t->hottest ? t->hottest : "the device");
    else if (g->level == GOVERNOR_BLIND)
        add_reason(s, "thermal: %s cannot be believed: going on slowly", t->blind ? t->blind : "a sensor");
    if (g->is_limited)
        add_reason(s, "thermal: the box draws far less than usual though it is busy and cool: look at its power supply");
    if (g->needs_service)
        add_reason(s, "thermal: the box sustains a quarter less power than usual: are vents blocked, or is the room hot?");
}

/* What is to be known, and is no fault. */
static void note_of_heat(const struct report *r, struct payload_status *s)
{
    if (!r->options.thermal)
        return;
    if (r->thermal.is_unguarded)
        add_reason(s, "thermal.sensors: none: the box works without a temperature limit");
    else if (!r->thermal.has_sensors)
        add_reason(s, "thermal: no sensor was found: at most a third of the power is used (thermal.sensors: none, if the box "
                      "needs no limit)");
    if (r->thermal.foreign)
        add_reason(s, "thermal: something else warms sensor %s over its limit", r->thermal.foreign);
    if (r->thermal.is_ring_losing)
        add_reason(s, "thermal: seconds were lost that could not be written to thermal.log");
}

/* The state, and why. Reasons that make it degraded come first. */
static void judge_all(struct report *r, int64_t now)
{
    worker_get_stats(r->options.worker, &r->engine);
    const struct worker_stats *engine = &r->engine;
    struct payload_status *s = &r->status; /* borrows from r->engine */
    const enum payload_state before = r->state;
    *s = (struct payload_status){.boot = boot_count(r->options.boot), .version = heron_version, .config_sha = r->config->sha};
    if (engine->state == WORKER_READY && !r->ready_ns)
        r->ready_ns = now;
    else if (engine->state != WORKER_READY)
        r->ready_ns = 0;
    if (engine->state != WORKER_READY && engine->error[0]) /* also while it is tried again */
        add_reason(s, "engine: %s", engine->error);
    if (r->has_error)
        add_reason(s, "config: %s:%d:%d: %s", r->error.file, r->error.line, r->error.col, r->error.message);
    if (pl_leaked_pipelines() > 0)
        add_reason(s, "%u camera pipelines would not stop: a restart is due", pl_leaked_pipelines());
    reason_of_heat(r, s);
    reasons_of_cameras(r, s, now);
    const bool is_degraded = s->n_reasons > 0;
    if (engine->state == WORKER_OPENING && engine->all_bytes > 0)
        add_reason(s, "loading the model: %d %%",
                   10 * (int)(10.0 * (double)engine->done_bytes / (double)engine->all_bytes)); /* by tens: each is a message */
    if (engine->is_untrained)
        add_reason(s, "the model is untrained: its answers mean nothing");
    note_of_heat(r, s);
    for (int i = 0; i < r->config->n_later; i++)
        add_reason(s, "%s is not yet active", r->config->later[i]);
    if (!boot_count(r->options.boot))
        add_reason(s, "starts are not counted: %s", boot_why(r->options.boot));
    r->state = r->is_stopping                              ? PAYLOAD_STOPPING
               : r->thermal.grant.level == GOVERNOR_PAUSED ? PAYLOAD_PAUSED
               : is_degraded                               ? PAYLOAD_DEGRADED
               : engine->state == WORKER_OPENING           ? PAYLOAD_STARTING
                                                           : PAYLOAD_RUNNING;
    if (r->state != before) {
        r->since_wall_ns = clock_wall_ns();
        log_notice("state=%s%s%s", payload_state_name(r->state), s->n_reasons ? ": " : "", s->n_reasons ? s->reasons[0] : "");
    }
    s->state = r->state;
    s->since_wall_ns = r->since_wall_ns;
    s->engine_model = engine->model[0] ? engine->model : NULL;
    s->engine_build = heron_version;
    s->engine_device = engine->device[0] ? engine->device : NULL;
    s->engine_is_ready = engine->state == WORKER_READY;
    s->engine_is_untrained = engine->is_untrained;
    publish(r, "status", payload_status(s), 1);
}

/* ---- statistics -------------------------------------------------------------------------------------------------------------- */

/* Resident memory of this process; 0: unknown. */
static uint64_t rss_bytes(void)
{
    unsigned long long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    const int n = fscanf(f, "%llu %llu", &size, &resident);
    fclose(f);
    return n == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

/* Share of the time that the engine worked since the statistics were last published: a pass counts when it ends, and may have begun before. */
static double busy_share(const struct report *r, int64_t now)
{
    return now > r->stats_ns ? fmin((double)(r->engine.busy_ns - r->stats_busy_ns) / (double)(now - r->stats_ns), 1) : 0;
}

/* cameras: [CONFIG_CAMERAS_MAX], filled here. Scenes are borrowed: the lock is held by whoever wants them. */
static struct payload_stats gather(struct report *r, struct payload_camera *cameras, int64_t now)
{
    struct payload_watch sum = r->left;
    struct payload_stats s = {
        .uptime_ns = now - r->start_ns,
        .now_ns = now,
        .rss_bytes = rss_bytes(),
        .frames = r->frames_left,
        .busy = r->stats_ns > r->start_ns ? r->busy : busy_share(r, now), /* the last whole minute, or the first so far */
        .leaked_pipelines = pl_leaked_pipelines(),
        .thermal = thermal_payload(r),
        .cameras = cameras,
    };
    for (int i = 0; i < r->n; i++) {
        struct entry *e = &r->entries[i];
        if (!e->capture)
            continue;
        cameras[s.n_cameras++] = (struct payload_camera){e->id, e->capture, e->analysis, e->camera, e->watch, e->scene};
        s.frames += e->camera.frames;
        add_counters(&sum, &e->watch);
        if (e->watch.p95_ms > s.p95_ms) /* the slowest camera's: what nobody exceeds */
            s.p95_ms = e->watch.p95_ms;
    }
    s.observations = sum.observations;
    s.shed = sum.shed;
    s.skipped = sum.skipped;
    s.failed = sum.failed;
    s.prompt_tokens = sum.prompt_tokens;
    s.output_tokens = sum.output_tokens;
    mqtt_get_stats(r->options.mqtt, &s.mqtt);
    return s;
}

static void publish_stats(struct report *r, int64_t now)
{
    if (now - r->stats_ns < STATS_NS)
        return;
    r->busy = busy_share(r, now);
    r->stats_busy_ns = r->engine.busy_ns;
    r->stats_ns = now;
    struct payload_camera *cameras = calloc(CONFIG_CAMERAS_MAX, sizeof *cameras);
    if (!cameras)
        return;
    const struct payload_stats stats = gather(r, cameras, now);
    if (stats.mqtt.is_connected && now - stats.mqtt.since_ns > SETTLED_NS)
        remember_names(r, true);
    char *json = payload_stats(&stats);
    if (json)
        mqtt_send(r->options.mqtt, "stats", json, strlen(json));
    free(json);
    free(cameras);
}

void report_tick(struct report *r, int64_t now_ns)
{
    look_at_cameras(r, now_ns);
    look_at_heat(r, now_ns);
    judge_all(r, now_ns);
    publish_stats(r, now_ns);
}

void report_stopping(struct report *r)
{
    r->is_stopping = true;
    report_tick(r, clock_now_ns());
}

void report_sentence(struct report *r, char *out, size_t cap)
{
    uint64_t observations = r->left.observations;
    for (int i = 0; i < r->n; i++)
        observations += r->entries[i].watch.observations;
    snprintf(out, cap, "%s: %d cameras, %llu observations%s%s", payload_state_name(r->state), fleet_count(r->options.fleet),
             (unsigned long long)observations, r->status.n_reasons ? "; " : "",
             r->status.n_reasons ? r->status.reasons[0] : "");
}

enum payload_state report_state(const struct report *r)
{
    return r->state;
}

char *report_overview(struct report *r)
{
    struct payload_camera *cameras = calloc(CONFIG_CAMERAS_MAX, sizeof *cameras);
    if (!cameras)
        return NULL;
    report_tick(r, clock_now_ns());
    const struct payload_config config = config_state(r);
    pthread_mutex_lock(&r->lock);
    const struct payload_stats stats = gather(r, cameras, clock_now_ns());
    char *json = payload_overview(&r->status, &config, &stats);
    pthread_mutex_unlock(&r->lock);
    free(cameras);
    return json;
}
