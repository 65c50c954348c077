/*
 * payload: trees of jansson, built in the order of config/topics.md and dumped compact. A number is rounded to its decimals first;
 * 15 significant digits then print exactly those.
 */
#include "appliance/payload.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"

#define DUMP_FLAGS     (JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(15))
#define TIME_DECIMALS  3
#define MS_DECIMALS    1
#define SCORE_DECIMALS 4

/* An object under construction; once something could not be allocated it stays bad. */
struct maker {
    json_t *object;
    bool is_bad;
};

static struct maker maker_start(void)
{
    struct maker m = {.object = json_object()};
    m.is_bad = !m.object;
    return m;
}

static struct maker maker_start_v1(void)
{
    struct maker m = maker_start();
    if (!m.is_bad)
        m.is_bad = json_object_set_new_nocheck(m.object, "v", json_integer(1)) != 0;
    return m;
}

/* Takes `value`; NULL is an allocation that failed. */
static void put(struct maker *m, const char *key, json_t *value)
{
    if (m->is_bad || !value) {
        json_decref(value);
        m->is_bad = true;
    } else if (json_object_set_new_nocheck(m->object, key, value) != 0) {
        m->is_bad = true;
    }
}

/* The object; NULL when any part is missing. */
static json_t *maker_take(struct maker *m)
{
    if (m->is_bad) {
        json_decref(m->object);
        m->object = NULL;
    }
    return m->object;
}

/* malloc'ed repaired copy with its length; NULL: out of memory. */
static char *repaired(const char *text, size_t *ret_n)
{
    const size_t n_in = strlen(text), n = utf8_repair(text, n_in, NULL, 0);
    char *copy = malloc(n + 1);
    if (!copy)
        return NULL;
    utf8_repair(text, n_in, copy, n);
    copy[n] = '\0';
    *ret_n = n;
    return copy;
}

/* NULL becomes null. */
static json_t *text_value(const char *text)
{
    if (!text)
        return json_null();
    size_t n = 0;
    char *copy = repaired(text, &n);
    json_t *value = copy ? json_stringn_nocheck(copy, n) : NULL;
    free(copy);
    return value;
}

/* "" becomes null as well. */
static json_t *word_value(const char *text)
{
    return text_value(text && *text ? text : NULL);
}

static json_t *count_value(uint64_t n)
{
    return json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n);
}

/* What is no number becomes null. */
static json_t *number_value(double x, int decimals)
{
    static const double power[] = {1, 1e1, 1e2, 1e3, 1e4};
    if (!isfinite(x))
        return json_null();
    if (fabs(x) < 1e11)
        x = round(x * power[decimals]) / power[decimals] + 0.0; /* + 0.0: no minus zero */
    return json_real(x);
}

static json_t *seconds_value(int64_t ns)
{
    return number_value((double)(ns / CLOCK_MS) / 1e3 + (double)(ns % CLOCK_MS) / 1e9, TIME_DECIMALS);
}

/* Since an instant; null where there was none (0), never below zero. */
static json_t *age_value(int64_t then_ns, int64_t now_ns)
{
    if (then_ns <= 0)
        return json_null();
    return seconds_value(now_ns > then_ns ? now_ns - then_ns : 0);
}

static json_t *ms_value(int64_t ns)
{
    return number_value((double)(ns > 0 ? ns : 0) / 1e6, MS_DECIMALS);
}

/* A quantile: 0 is none. */
static json_t *quantile_value(double ms)
{
    return ms > 0 ? number_value(ms, MS_DECIMALS) : json_null();
}

static char *dump(json_t *value)
{
    char *text = value ? json_dumps(value, DUMP_FLAGS) : NULL;
    json_decref(value);
    return text;
}

const char *payload_state_name(enum payload_state state)
{
    static const char *const names[] = {"starting", "running", "degraded", "paused", "stopping"};
    return names[state];
}

/* ---- P/status ----------------------------------------------------------------------------------------------------------- */

static json_t *status_value(const struct payload_status *s)
{
    struct maker engine = maker_start(), m = maker_start_v1();
    json_t *reasons = json_array();

    for (int i = 0; reasons && i < s->n_reasons && i < PAYLOAD_REASONS_MAX; i++) {
        if (json_array_append_new(reasons, text_value(s->reasons[i])) != 0)
            m.is_bad = true;
    }
    put(&engine, "model", text_value(s->engine_model));
    put(&engine, "build", text_value(s->engine_build));
    put(&engine, "device", text_value(s->engine_device));
    put(&engine, "ready", json_boolean(s->engine_is_ready));
    put(&engine, "untrained", json_boolean(s->engine_is_untrained));

    put(&m, "state", text_value(payload_state_name(s->state)));
    put(&m, "reasons", reasons);
    put(&m, "since", seconds_value(s->since_wall_ns));
    put(&m, "boot", count_value(s->boot));
    put(&m, "version", text_value(s->version));
    put(&m, "config_sha", text_value(s->config_sha));
    put(&m, "engine", maker_take(&engine));
    return maker_take(&m);
}

char *payload_status(const struct payload_status *status)
{
    return dump(status_value(status));
}

/* ---- P/<cam>/health ----------------------------------------------------------------------------------------------------- */

/* The last faults of both halves, each by its name. */
static json_t *errors_value(const char *capture, const char *analysis)
{
    char text[600];
    if (!*capture && !*analysis)
        return json_null();
    snprintf(text, sizeof text, "%s%s%s%s%s", *capture ? "capture: " : "", capture, *capture && *analysis ? "; " : "",
             *analysis ? "analysis: " : "", analysis);
    return text_value(text);
}

static json_t *health_value(const struct pl_camera_stats *c, const struct payload_watch *w, int64_t now_ns)
{
    struct maker m = maker_start_v1();

    put(&m, "last_frame_age_s", c->last_frame_age_ns < 0 ? json_null() : seconds_value(c->last_frame_age_ns));
    put(&m, "fps", number_value(c->fps, 2));
    put(&m, "frozen", json_boolean(c->is_frozen));
    put(&m, "decode_errors", count_value(c->decode_errors));
    put(&m, "reconnects_1h", count_value(c->restarts_1h));
    put(&m, "last_observation_age_s", age_value(w->last_observation_ns, now_ns));
    put(&m, "shed_1h", count_value(w->shed_1h));
    put(&m, "skipped_1h", count_value(w->skipped_1h));
    put(&m, "last_error", errors_value(c->last_error, w->last_error));
    put(&m, "state", text_value(pl_camera_state_name(c->state)));
    put(&m, "width_px", count_value(c->width_px > 0 ? (uint64_t)c->width_px : 0));
    put(&m, "height_px", count_value(c->height_px > 0 ? (uint64_t)c->height_px : 0));
    put(&m, "codec", word_value(c->codec));
    put(&m, "decoder", word_value(c->decoder));
    put(&m, "p50_ms", quantile_value(w->p50_ms));
    put(&m, "p95_ms", quantile_value(w->p95_ms));
    return maker_take(&m);
}

char *payload_health(const struct pl_camera_stats *camera, const struct payload_watch *watch, int64_t now_ns)
{
    return dump(health_value(camera, watch, now_ns));
}

/* ---- P/<cam>/scene ------------------------------------------------------------------------------------------------------ */

static json_t *scores_value(const struct en_score *scores, int n_scores)
{
    struct maker m = maker_start();
    for (int i = 0; i < n_scores; i++) {
        struct maker one = maker_start();
        size_t n = 0;
        for (int32_t j = 0; j < scores[i].n; j++) {
            char *name = repaired(scores[i].names[j], &n);
            put(&one, name ? name : "", name ? number_value(scores[i].p[j], SCORE_DECIMALS) : NULL);
            free(name);
        }
        char *path = repaired(scores[i].path, &n);
        put(&m, path ? path : "", maker_take(&one));
        m.is_bad = m.is_bad || !path;
        free(path);
    }
    return maker_take(&m);
}

static json_t *scene_head(const struct payload_scene *s)
{
    struct maker m = maker_start_v1(), latency = maker_start();
    const struct en_timing *t = s->timing;
    const int64_t total_ns = s->publish_ns - s->capture_ns;
    char frame[24];

    snprintf(frame, sizeof frame, "f%llu", (unsigned long long)s->frame_seq);
    put(&latency, "queue", ms_value(total_ns - t->vision_ns - t->prefill_ns - t->decode_ns));
    put(&latency, "vision", ms_value(t->vision_ns));
    put(&latency, "prefill", ms_value(t->prefill_ns));
    put(&latency, "decode", ms_value(t->decode_ns));
    put(&latency, "total", ms_value(total_ns));
    put(&m, "camera", text_value(s->camera));
    put(&m, "frame", text_value(frame));
    put(&m, "frame_time", seconds_value(s->frame_wall_ns));
    put(&m, "latency_ms", maker_take(&latency));
    return maker_take(&m);
}

/* What a consumer compares an answer with; NULL where the text does not say all of it. Its numbers and words go in as they are. */
static json_t *truth_value(const char *text)
{
    static const struct {
        const char *key;
        json_type type;
    } words[] = {{"frame", JSON_INTEGER}, {"people", JSON_INTEGER}, {"vehicles", JSON_INTEGER}, {"animals", JSON_INTEGER},
                 {"hazard", JSON_STRING}, {"light", JSON_STRING},   {"weather", JSON_STRING},   {"summary", JSON_STRING}};
    json_t *truth = text && *text ? json_loads(text, 0, NULL) : NULL;
    struct maker m = maker_start();
    bool is_whole = truth != NULL;
    for (size_t i = 0; i < sizeof words / sizeof *words && is_whole; i++) {
        json_t *word = json_object_get(truth, words[i].key);
        is_whole = word && json_typeof(word) == words[i].type;
        if (is_whole)
            put(&m, words[i].key, json_incref(word));
    }
    m.is_bad = m.is_bad || !is_whole;
    json_decref(truth);
    return maker_take(&m);
}

static json_t *scene_tail(const struct payload_scene *s)
{
    struct maker m = maker_start(), tokens = maker_start();
    const struct en_timing *t = s->timing;

    put(&m, "scores", scores_value(s->scores, s->n_scores));
    put(&tokens, "prompt", json_integer(t->prompt_tokens));
    put(&tokens, "image", json_integer(t->image_tokens));
    put(&tokens, "output", json_integer(t->output_tokens));
    put(&m, "tokens", maker_take(&tokens));
    if (s->is_untrained)
        put(&m, "untrained", json_true());
    json_t *truth = truth_value(s->truth);
    if (truth)
        put(&m, "truth", truth);
    return maker_take(&m);
}

/* Whether jansson reads it as an object. Numbers of any size are the schema's business, not the wire's. */
static bool is_json_object(const char *text, size_t n)
{
    json_t *value = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    const bool is_object = json_is_object(value);
    json_decref(value);
    return is_object;
}

char *payload_scene(const struct payload_scene *scene)
{
    /* the answer goes in as it was written: no number of it is printed anew */
    size_t n_result = 0;
    char *result = repaired(scene->result_text ? scene->result_text : "", &n_result);
    char *head = dump(scene_head(scene)), *tail = dump(scene_tail(scene)), *text = NULL;

    if (result && head && tail) {
        const char *middle = is_json_object(result, n_result) ? result : "null";
        /* in JSON these stand only between tokens, and a payload is one line */
        for (char *c = result; *c; c++) {
            if (*c == '\n' || *c == '\r' || *c == '\t')
                *c = ' ';
        }
        /* {...} and {...} become {..., "result": ..., ...} */
        const size_t cap = strlen(head) + strlen(middle) + strlen(tail) + sizeof ",\"result\":,";
        text = malloc(cap);
        if (text)
            snprintf(text, cap, "%.*s,\"result\":%s,%s", (int)strlen(head) - 1, head, middle, tail + 1);
    }
    free(result);
    free(head);
    free(tail);
    return text;
}

/* ---- P/config/state ----------------------------------------------------------------------------------------------------- */

/* "a, b" becomes ["a","b"]. */
static json_t *list_value(const char *joined)
{
    json_t *list = json_array();
    for (const char *p = joined ? joined : ""; list && *p;) {
        const size_t n = strcspn(p, ",");
        char *word = n ? strndup(p, n) : NULL;
        if (n && (!word || json_array_append_new(list, text_value(word)) != 0)) {
            json_decref(list);
            list = NULL;
        }
        free(word);
        p += n;
        p += strspn(p, ", ");
    }
    return list;
}

static json_t *config_value(const struct payload_config *c)
{
    struct maker m = maker_start_v1();
    json_t *error = NULL;

    if (c->error_file) {
        struct maker e = maker_start();
        put(&e, "file", text_value(c->error_file));
        put(&e, "line", json_integer(c->error_line));
        put(&e, "col", json_integer(c->error_col));
        put(&e, "key", word_value(c->error_key));
        put(&e, "msg", text_value(c->error_message ? c->error_message : ""));
        error = maker_take(&e);
    } else {
        error = json_null();
    }
    put(&m, "sha", text_value(c->sha));
    put(&m, "loaded_at", seconds_value(c->loaded_wall_ns));
    put(&m, "source", text_value(c->source));
    put(&m, "pending_error", error);
    put(&m, "restart_keys", list_value(c->restart_keys));
    return maker_take(&m);
}

char *payload_config(const struct payload_config *config)
{
    return dump(config_value(config));
}

/* ---- P/stats ------------------------------------------------------------------------------------------------------------ */

static json_t *mqtt_value(const struct mqtt_stats *s, int64_t now_ns)
{
    struct maker m = maker_start();
    put(&m, "connected", json_boolean(s->is_connected));
    put(&m, "state_age_s", age_value(s->since_ns, now_ns));
    put(&m, "connects", count_value(s->connects));
    put(&m, "published", count_value(s->published));
    put(&m, "dropped", count_value(s->dropped));
    put(&m, "refused", count_value(s->refused));
    put(&m, "ignored", count_value(s->ignored));
    put(&m, "broker", word_value(s->broker));
    put(&m, "last_error", word_value(s->last_error));
    return maker_take(&m);
}

static json_t *counters_value(const struct payload_camera *c)
{
    const struct payload_watch *w = &c->watch;
    struct maker m = maker_start();
    put(&m, "frames", count_value(c->camera.frames));
    put(&m, "replaced", count_value(c->camera.replaced));
    put(&m, "starved", count_value(c->camera.starved));
    put(&m, "restarts", count_value(c->camera.restarts));
    put(&m, "observations", count_value(w->observations));
    put(&m, "shed", count_value(w->shed));
    put(&m, "skipped", count_value(w->skipped));
    put(&m, "failed", count_value(w->failed));
    put(&m, "prompt_tokens", count_value(w->prompt_tokens));
    put(&m, "output_tokens", count_value(w->output_tokens));
    return maker_take(&m);
}

static void put_thermal(struct maker *m, const struct payload_thermal *t)
{
    put(m, "level", text_value(t->level));
    put(m, "temp_c", number_value(t->temp_c, 1));
    put(m, "limit_c", number_value(t->limit_c, 1));
    put(m, "batch", count_value((uint64_t)t->batch));
    put(m, "idle_pct", number_value(100 * t->idle_share, 1));
    put(m, "headroom", number_value(t->headroom_k, 1));
    put(m, "since", seconds_value(t->since_wall_ns));
    put(m, "sensor", text_value(t->sensor));
    put(m, "seconds_to_limit", number_value(t->seconds_to_limit, 0));
    put(m, "watts", number_value(t->watts, 1));
    put(m, "budget_w", number_value(t->budget_w, 1));
    put(m, "unguarded", json_boolean(t->is_unguarded));
    put(m, "service", json_boolean(t->needs_service));
    put(m, "trips", count_value(t->trips));
}

char *payload_thermal(const struct payload_thermal *thermal)
{
    struct maker m = maker_start_v1();
    put_thermal(&m, thermal);
    return dump(maker_take(&m));
}

static json_t *thermal_value(const struct payload_thermal *t)
{
    struct maker m = maker_start();
    put_thermal(&m, t);
    return maker_take(&m);
}

static json_t *stats_value(const struct payload_stats *s)
{
    struct maker m = maker_start_v1(), cameras = maker_start();

    for (int i = 0; i < s->n_cameras; i++)
        put(&cameras, s->cameras[i].id, counters_value(&s->cameras[i]));
    put(&m, "uptime_s", seconds_value(s->uptime_ns));
    put(&m, "rss_bytes", count_value(s->rss_bytes));
    put(&m, "frames", count_value(s->frames));
    put(&m, "observations", count_value(s->observations));
    put(&m, "shed", count_value(s->shed));
    put(&m, "skipped", count_value(s->skipped));
    put(&m, "failed", count_value(s->failed));
    put(&m, "prompt_tokens", count_value(s->prompt_tokens));
    put(&m, "output_tokens", count_value(s->output_tokens));
    /* a step that began before the last publish counts whole in this one */
    put(&m, "busy", number_value(s->busy > 1 ? 1 : s->busy, 3));
    put(&m, "p95_ms", quantile_value(s->p95_ms));
    put(&m, "leaked_pipelines", count_value(s->leaked_pipelines));
    put(&m, "thermal", thermal_value(&s->thermal));
    put(&m, "mqtt", mqtt_value(&s->mqtt, s->now_ns));
    put(&m, "cameras", maker_take(&cameras));
    return maker_take(&m);
}

char *payload_stats(const struct payload_stats *stats)
{
    return dump(stats_value(stats));
}

/* ---- what `heron status` asks for --------------------------------------------------------------------------------------- */

/* All of a camera but its scene. */
static json_t *camera_value(const struct payload_camera *c, int64_t now_ns)
{
    struct maker m = maker_start();
    put(&m, "id", text_value(c->id));
    put(&m, "capture", text_value(c->capture));
    put(&m, "analysis", text_value(c->analysis));
    put(&m, "health", health_value(&c->camera, &c->watch, now_ns));
    put(&m, "counters", counters_value(c));
    return maker_take(&m);
}

/* All of the overview but its cameras. */
static json_t *overview_head(const struct payload_status *status, const struct payload_config *config,
                             const struct payload_stats *stats)
{
    struct maker m = maker_start_v1();
    put(&m, "status", status_value(status));
    put(&m, "config", config_value(config));
    put(&m, "stats", stats_value(stats));
    return maker_take(&m);
}

/* `object` without its closing brace; frees it. false: there is none. */
static bool write_open(FILE *out, char *object)
{
    if (!object)
        return false;
    fwrite(object, 1, strlen(object) - 1, out);
    free(object);
    return true;
}

char *payload_overview(const struct payload_status *status, const struct payload_config *config,
                       const struct payload_stats *stats)
{
    char *text = NULL;
    size_t n_text = 0;
    FILE *out = open_memstream(&text, &n_text);
    if (!out)
        return NULL;
    /* a scene goes in as it was published: read and printed anew, the answer's numbers could become others */
    bool is_good = write_open(out, dump(overview_head(status, config, stats)));
    fputs(",\"cameras\":[", out);
    for (int i = 0; i < stats->n_cameras && is_good; i++) {
        const char *scene = stats->cameras[i].scene;
        fputs(i ? "," : "", out);
        is_good = write_open(out, dump(camera_value(&stats->cameras[i], stats->now_ns)));
        fprintf(out, ",\"scene\":%s}", scene ? scene : "null");
    }
    fputs("]}", out);
    if (fclose(out) != 0 || !is_good) {
        free(text);
        return NULL;
    }
    return text;
}

char *payload_reply(const char *why)
{
    struct maker m = maker_start();
    put(&m, "ok", json_boolean(!why));
    if (why)
        put(&m, "error", text_value(why));
    return dump(maker_take(&m));
}
