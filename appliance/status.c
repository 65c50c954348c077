/*
 * status: the tree is walked with paths that may lead nowhere; absent numbers are NAN, absent texts NULL, and both are drawn as "-".
 */
#include "appliance/status.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/utf8.h"

#define LABEL_COLUMNS 10 /* of the block at the top, with its indent */
#define SHA_COLUMNS   12 /* enough of a digest to tell two apart */
#define ID_COLUMNS    6  /* of the cameras' table, at least */

enum colour { PLAIN, BOLD, DIM, RED, GREEN, YELLOW };

struct screen {
    FILE *out;
    struct status_style style;
    json_t *root;
};

/* ---- the tree ------------------------------------------------------------------------------------------------------------- */

/* "status.engine.model"; NULL: not there. */
static json_t *dig(json_t *from, const char *path)
{
    while (from && *path) {
        const size_t n = strcspn(path, ".");
        from = json_object_getn(from, path, n);
        path += n + (path[n] == '.');
    }
    return from;
}

static double number_at(json_t *from, const char *path)
{
    json_t *value = dig(from, path);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* NULL: null, absent, or no text. */
static const char *text_at(json_t *from, const char *path)
{
    return json_string_value(dig(from, path));
}

static bool is_text(const char *text, const char *word)
{
    return text && strcmp(text, word) == 0;
}

/* ---- words ---------------------------------------------------------------------------------------------------------------- */

static bool is_harmless(uint32_t cp)
{
    const bool is_control = cp < 0x20 || (cp >= 0x7F && cp < 0xA0);
    const bool is_direction = cp == 0x200E || cp == 0x200F || (cp >= 0x202A && cp <= 0x202E) || (cp >= 0x2066 && cp <= 0x2069);
    const bool is_separator = cp == 0x2028 || cp == 0x2029;
    return !is_control && !is_direction && !is_separator;
}

/* At most `columns` characters, the last an ellipsis where more would follow; 0: all. */
static void put_text(struct screen *s, const char *text, int columns)
{
    const size_t n = strlen(text);
    int column = 0;
    for (size_t at = 0; at < n;) {
        uint32_t cp = 0;
        char bytes[4] = {0};
        const size_t used = utf8_decode(text + at, n - at, &cp);
        if (columns > 0 && column == columns - 1 && at + used < n) {
            fputs("…", s->out);
            return;
        }
        if (cp == '\n' || cp == '\t' || cp == '\r')
            fputc(' ', s->out);
        else if (!is_harmless(cp))
            fputc('?', s->out);
        else
            fwrite(bytes, 1, utf8_encode(cp, bytes), s->out);
        at += used;
        column++;
    }
}

static void paint(struct screen *s, enum colour colour)
{
    static const char *const codes[] = {"\033[0m", "\033[1m", "\033[2m", "\033[31m", "\033[32m", "\033[33m"};
    if (s->style.has_colour)
        fputs(codes[colour], s->out);
}

static void put_word(struct screen *s, enum colour colour, const char *word)
{
    if (colour != PLAIN)
        paint(s, colour);
    put_text(s, word ? word : "-", 0);
    if (colour != PLAIN)
        paint(s, PLAIN);
}

/* What is left of a line that has used `used` columns; 0: no limit. */
static int columns_left(const struct screen *s, int used)
{
    if (s->style.columns <= 0)
        return 0;
    return s->style.columns - used > 20 ? s->style.columns - used : 20;
}

/* "4.8 s", "95 s", "12 min", "5.5 h", "3 d"; "-" for what is not known. */
static const char *duration(double s, char text[24])
{
    if (!(s >= 0))
        snprintf(text, 24, "-");
    else if (s < 9.95)
        snprintf(text, 24, "%.1f s", s);
    else if (s < 119.5)
        snprintf(text, 24, "%.0f s", s);
    else if (s < 119.5 * 60)
        snprintf(text, 24, "%.0f min", s / 60);
    else if (s < 48.0 * 3600)
        snprintf(text, 24, "%.1f h", s / 3600);
    else
        snprintf(text, 24, "%.0f d", s < 1e12 ? s / 86400 : 1e12 / 86400);
    return text;
}

/* A count, or "-". */
static const char *count(double n, char text[24])
{
    if (n >= 0 && n < 1e18)
        snprintf(text, 24, "%.0f", n);
    else
        snprintf(text, 24, "-");
    return text;
}

/* Local time of UNIX seconds. */
static const char *instant(double unix_s, char text[32])
{
    struct tm tm;
    const time_t t = unix_s > 0 && unix_s < 2e11 ? (time_t)unix_s : 0;
    if (t == 0 || !localtime_r(&t, &tm) || strftime(text, 32, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        snprintf(text, 32, "-");
    return text;
}

static void put_label(struct screen *s, const char *label)
{
    fprintf(s->out, "  %-*s", LABEL_COLUMNS - 2, label);
}

/* ---- the appliance -------------------------------------------------------------------------------------------------------- */

static void draw_state(struct screen *s)
{
    json_t *status = dig(s->root, "status"), *reason = NULL;
    const char *state = text_at(status, "state");
    const enum colour colour = is_text(state, "running") ? GREEN : is_text(state, "stopping") ? RED : YELLOW;
    char since[32], up[24];
    size_t i = 0;

    fputs("heron is ", s->out);
    put_word(s, colour, state);
    fprintf(s->out, " since %s, up for %s", instant(number_at(status, "since"), since),
            duration(number_at(s->root, "stats.uptime_s"), up));
    const char *version = text_at(status, "version");
    if (version) {
        fputs(", version ", s->out);
        put_text(s, version, 0);
    }
    const double boot = number_at(status, "boot");
    if (boot > 0)
        fprintf(s->out, ", boot %.0f", boot);
    fputc('\n', s->out);
    json_array_foreach(dig(status, "reasons"), i, reason)
    {
        if (!json_is_string(reason))
            continue;
        paint(s, colour == GREEN ? DIM : colour);
        fputs("  - ", s->out);
        put_text(s, json_string_value(reason), 0); /* never cut: this is what to act on */
        paint(s, PLAIN);
        fputc('\n', s->out);
    }
    fputc('\n', s->out);
}

static void draw_engine(struct screen *s)
{
    json_t *engine = dig(s->root, "status.engine");
    const char *model = text_at(engine, "model"), *device = text_at(engine, "device");

    put_label(s, "engine");
    put_word(s, PLAIN, model ? model : "(no model yet)");
    if (device) {
        fputs(" on ", s->out);
        put_text(s, device, 0);
    }
    fputs(", ", s->out);
    if (json_is_true(dig(engine, "ready")))
        put_word(s, GREEN, "ready");
    else
        put_word(s, YELLOW, "not ready");
    if (json_is_true(dig(engine, "untrained"))) {
        fputs(", ", s->out);
        put_word(s, YELLOW, "untrained: random weights, what it says means nothing");
    }
    fputc('\n', s->out);
}

static void draw_mqtt(struct screen *s)
{
    json_t *mqtt = dig(s->root, "stats.mqtt");
    const char *broker = text_at(mqtt, "broker"), *why = text_at(mqtt, "last_error");
    const bool is_connected = json_is_true(dig(mqtt, "connected"));
    char text[24];

    put_label(s, "mqtt");
    put_word(s, is_connected ? GREEN : RED, is_connected ? "connected" : "not connected");
    fputs(" to ", s->out);
    put_word(s, PLAIN, broker);
    const double age_s = number_at(mqtt, "state_age_s");
    if (age_s >= 0)
        fprintf(s->out, " for %s", duration(age_s, text));
    if (is_connected) {
        fprintf(s->out, ", %s published", count(number_at(mqtt, "published"), text));
        const double dropped = number_at(mqtt, "dropped"), refused = number_at(mqtt, "refused");
        if (dropped > 0)
            fprintf(s->out, ", %s dropped", count(dropped, text));
        if (refused > 0)
            fprintf(s->out, ", %s refused by the broker", count(refused, text));
    } else if (why) {
        fputs(": ", s->out);
        put_text(s, why, 0);
    }
    fputc('\n', s->out);
}

static void draw_heat(struct screen *s)
{
    json_t *heat = dig(s->root, "stats.thermal");
    const char *level = text_at(heat, "level"), *sensor = text_at(heat, "sensor");
    const double temp_c = number_at(heat, "temp_c"), limit_c = number_at(heat, "limit_c"), watts = number_at(heat, "watts"),
                 batch = number_at(heat, "batch"), idle = number_at(heat, "idle_pct");

    if (!level) /* a daemon of before */
        return;
    put_label(s, "heat");
    const bool is_calm = is_text(level, "nominal") || is_text(level, "warm");
    put_word(s, is_calm ? GREEN : is_text(level, "throttled") ? YELLOW : RED, level);
    if (json_is_true(dig(heat, "unguarded")))
        fputs(", without a limit", s->out);
    if (sensor && isfinite(temp_c) && isfinite(limit_c)) {
        fputs(": ", s->out);
        put_text(s, sensor, 0);
        fprintf(s->out, " %.1f of %.0f C", temp_c, limit_c);
    }
    if (watts >= 0)
        fprintf(s->out, ", %.0f W", watts);
    if (batch >= 0)
        fprintf(s->out, "; batch %.0f", batch);
    if (idle > 0)
        fprintf(s->out, ", idle %.0f %%", idle);
    fputc('\n', s->out);
}

static void draw_config(struct screen *s)
{
    json_t *config = dig(s->root, "config"), *error = dig(config, "pending_error"), *key = NULL;
    const char *sha = text_at(config, "sha");
    char loaded[32], short_sha[SHA_COLUMNS + 1];
    size_t i = 0;

    snprintf(short_sha, sizeof short_sha, "%s", sha ? sha : "-");
    put_label(s, "config");
    put_word(s, PLAIN, text_at(config, "source"));
    fputc(' ', s->out);
    put_text(s, short_sha, 0);
    fprintf(s->out, " loaded %s\n", instant(number_at(config, "loaded_at"), loaded));
    if (json_is_object(error)) {
        const double line = number_at(error, "line"), col = number_at(error, "col");
        fprintf(s->out, "%*s", LABEL_COLUMNS, "");
        paint(s, RED);
        fputs("the file as it is now was refused: ", s->out);
        put_text(s, text_at(error, "file") ? text_at(error, "file") : "-", 0);
        if (line > 0)
            fprintf(s->out, ":%.0f:%.0f", line, col > 0 ? col : 0);
        fputs(": ", s->out);
        put_text(s, text_at(error, "msg") ? text_at(error, "msg") : "-", 0);
        paint(s, PLAIN);
        fputc('\n', s->out);
    }
    if (json_array_size(dig(config, "restart_keys")) > 0) {
        fprintf(s->out, "%*s", LABEL_COLUMNS, "");
        paint(s, YELLOW);
        fputs("waits for a restart:", s->out);
        json_array_foreach(dig(config, "restart_keys"), i, key)
        {
            fputs(i ? ", " : " ", s->out);
            put_text(s, json_is_string(key) ? json_string_value(key) : "-", 0);
        }
        paint(s, PLAIN);
        fputc('\n', s->out);
    }
}

static void draw_work(struct screen *s)
{
    json_t *stats = dig(s->root, "stats");
    const double busy = number_at(stats, "busy"), rss_bytes = number_at(stats, "rss_bytes"),
                 leaked = number_at(stats, "leaked_pipelines");
    char a[24], b[24], c[24], d[24];

    put_label(s, "work");
    fprintf(s->out, "%s observations, %s shed, %s skipped, %s failed", count(number_at(stats, "observations"), a),
            count(number_at(stats, "shed"), b), count(number_at(stats, "skipped"), c), count(number_at(stats, "failed"), d));
    if (number_at(stats, "p95_ms") >= 0)
        fprintf(s->out, "; 95 %% within %s", duration(number_at(stats, "p95_ms") / 1e3, a));
    if (busy >= 0)
        fprintf(s->out, "; engine busy %.0f %%", busy * 100);
    if (rss_bytes > 0)
        fprintf(s->out, "; %.0f MiB", rss_bytes / 1048576);
    fputc('\n', s->out);
    if (leaked > 0) {
        fprintf(s->out, "%*s", LABEL_COLUMNS, "");
        paint(s, YELLOW);
        fprintf(s->out, "%s capture pipelines would not stop: restart heron when it suits", count(leaked, a));
        paint(s, PLAIN);
        fputc('\n', s->out);
    }
}

/* ---- cameras -------------------------------------------------------------------------------------------------------------- */

static enum colour colour_of(const char *word)
{
    return is_text(word, "online") ? GREEN : is_text(word, "disabled") ? DIM : RED;
}

/* A cell of `columns`, and two blanks. */
static void put_cell(struct screen *s, enum colour colour, const char *text, int columns)
{
    put_word(s, colour, text);
    fprintf(s->out, "%*s", columns + 2 > (int)strlen(text) ? columns + 2 - (int)strlen(text) : 2, "");
}

static void put_right(struct screen *s, const char *text, int columns)
{
    fprintf(s->out, "%*s  ", columns, text);
}

/* The rest of the answer's plain values: "people 2, hazard none 97 %". false: there are none. */
static bool draw_values(struct screen *s, json_t *scene, bool is_dry)
{
    const char *key = NULL;
    json_t *value = NULL;
    bool has_any = false;
    json_object_foreach(dig(scene, "result"), key, value)
    {
        char path[128];
        if (strcmp(key, "summary") == 0 || json_is_object(value) || json_is_array(value))
            continue;
        if (is_dry)
            return true;
        if (has_any)
            fputs(", ", s->out);
        has_any = true;
        put_text(s, key, 48);
        fputc(' ', s->out);
        if (json_is_string(value))
            put_text(s, json_string_value(value), 60);
        else if (json_is_number(value))
            fprintf(s->out, "%.6g", json_number_value(value));
        else
            fputs(json_is_true(value) ? "true" : json_is_false(value) ? "false" : "-", s->out);
        snprintf(path, sizeof path, "/%s", key);
        json_t *choices = json_object_get(dig(scene, "scores"), path);
        const char *chosen = json_is_string(value) ? json_string_value(value) : json_is_true(value) ? "true" : "false";
        json_t *p = json_object_get(choices, chosen);
        if (json_is_number(p))
            fprintf(s->out, " (%.0f %%)", json_number_value(p) * 100);
    }
    return has_any;
}

/* What was seen last, and what is wrong, below the camera's row. */
static void draw_notes(struct screen *s, json_t *camera)
{
    const char *capture = text_at(camera, "capture"), *analysis = text_at(camera, "analysis");
    const char *state = text_at(camera, "health.state"), *why = text_at(camera, "health.last_error");
    const char *summary = text_at(camera, "scene.result.summary");
    json_t *scene = dig(camera, "scene");

    if (summary) {
        fputs("    ", s->out);
        put_text(s, summary, columns_left(s, 4));
        fputc('\n', s->out);
    }
    if (draw_values(s, scene, true)) {
        fputs("    ", s->out);
        paint(s, DIM);
        draw_values(s, scene, false);
        paint(s, PLAIN);
        fputc('\n', s->out);
    }
    if (json_is_true(dig(camera, "health.frozen"))) {
        fputs("    ", s->out);
        put_word(s, RED, "frozen: the source repeats one picture");
        fputc('\n', s->out);
    }
    /* a fault of the past stays in the health; it is told while something is away */
    if (is_text(capture, "offline") || is_text(analysis, "offline")) {
        const bool is_odd = state && !is_text(state, "running") && !is_text(state, "disabled");
        if (!is_odd && !why)
            return;
        fputs("    ", s->out);
        paint(s, RED);
        if (is_odd)
            put_text(s, state, 0);
        if (why) {
            fputs(is_odd ? ": " : "", s->out);
            put_text(s, why, 0);
        }
        paint(s, PLAIN);
        fputc('\n', s->out);
    }
}

static void draw_cameras(struct screen *s)
{
    json_t *cameras = dig(s->root, "cameras"), *camera = NULL;
    int id_columns = ID_COLUMNS;
    size_t i = 0;

    fputc('\n', s->out);
    if (json_array_size(cameras) == 0) {
        fputs("no cameras\n", s->out);
        return;
    }
    json_array_foreach(cameras, i, camera)
    {
        const size_t n = text_at(camera, "id") ? strlen(text_at(camera, "id")) : 1;
        if (n <= 48 && (int)n > id_columns)
            id_columns = (int)n;
    }
    paint(s, BOLD);
    fprintf(s->out, "%-*s  capture   analysis  %5s  %7s  %12s  %8s  %6s  %6s", id_columns, "camera", "fps", "frame",
            "observation", "observed", "shed/h", "p95");
    paint(s, PLAIN);
    fputc('\n', s->out);
    json_array_foreach(cameras, i, camera)
    {
        const char *id = text_at(camera, "id"), *capture = text_at(camera, "capture"), *analysis = text_at(camera, "analysis");
        const double fps = number_at(camera, "health.fps"), observed_s = number_at(camera, "health.last_observation_age_s"),
                     frame_s = number_at(camera, "health.last_frame_age_s"), p95_ms = number_at(camera, "health.p95_ms");
        char text[24], ago[32];
        put_cell(s, PLAIN, id ? id : "-", id_columns);
        put_cell(s, colour_of(capture), capture ? capture : "-", 8);
        put_cell(s, colour_of(analysis), analysis ? analysis : "-", 8);
        if (fps >= 0 && fps < 1e6)
            snprintf(text, sizeof text, "%.1f", fps);
        else
            snprintf(text, sizeof text, "-");
        put_right(s, text, 5);
        put_right(s, duration(frame_s, text), 7);
        snprintf(ago, sizeof ago, "%s%s", duration(observed_s, text), observed_s >= 0 ? " ago" : "");
        put_right(s, ago, 12);
        put_right(s, count(number_at(camera, "counters.observations"), text), 8);
        put_right(s, count(number_at(camera, "health.shed_1h"), text), 6);
        fprintf(s->out, "%6s\n", duration(p95_ms / 1e3, text));
        draw_notes(s, camera);
    }
}

int status_draw(FILE *out, const char *overview, const struct status_style *style, struct err *err)
{
    json_error_t why;
    /* a model may write integers of any length: they are only shown */
    struct screen s = {.out = out, .style = *style};
    s.root = json_loads(overview, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &why);
    if (!s.root)
        return err_set(err, ERR_FORMAT, "the daemon's overview is no JSON: column %d: %s", why.column, why.text);
    if (!json_is_object(s.root)) {
        json_decref(s.root);
        return err_set(err, ERR_FORMAT, "the daemon's overview is JSON but no object");
    }
    draw_state(&s);
    draw_engine(&s);
    draw_heat(&s);
    draw_mqtt(&s);
    draw_config(&s);
    draw_work(&s);
    draw_cameras(&s);
    json_decref(s.root);
    return 0;
}
