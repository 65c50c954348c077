/*
 * heron check: whether a configuration is right, and what it would cost on this machine.
 */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "appliance/commands.h"
#include "appliance/config.h"
#include "appliance/plan.h"
#include "appliance/thermal.h"
#include "appliance/worker.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/terminal.h"

const struct cli_command cmd_check_command = {"check", "[-c FILE] [--json]",
                                              "is the configuration right, and what will it cost here?", cmd_check};

/* Tokens of an answer under the default schema: about 25 that the schema fixes, and a sentence of summary. */
#define ANSWER_TOKENS 60
/* The picture that is reckoned with; larger ones are scaled down to watch.max_pixels. */
#define PICTURE_WIDTH  1920
#define PICTURE_HEIGHT 1080
/* Looks of different cameras meet by chance and wait for each other: beyond this share of the time deadlines are missed now and then. */
#define LOAD_MOST 0.8
#define NOTES_MAX 64

/* One camera's share of the plan. */
struct row {
    const struct config_camera *camera;
    char *source; /* without user info */
    struct en_estimate estimate;
    int32_t answer_tokens;
    int64_t expected_ns, longest_ns; /* of a look that has the machine to itself: a usual answer, the longest */
};

/* What a checked configuration comes to. */
struct check {
    struct config *config;
    struct plan plan;
    struct thermal_options heat;
    struct sensors *sensors; /* NULL: the operator wants none */
    struct en_forecast forecast;
    struct row *rows; /* [n] */
    int n, n_on;
    double load; /* share of the machine's time that the cameras ask for, if each look ran alone */
    int fit_by_time, fit_by_memory;
    char *notes[NOTES_MAX];
    int n_notes;
};

static void note(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void note(struct check *c, const char *fmt, ...)
{
    va_list ap;
    if (c->n_notes == NOTES_MAX)
        return;
    va_start(ap, fmt);
    if (vasprintf(&c->notes[c->n_notes], fmt, ap) >= 0)
        c->n_notes++;
    va_end(ap);
}

static void check_release(struct check *c)
{
    for (int i = 0; i < c->n; i++)
        free(c->rows[i].source);
    for (int i = 0; i < c->n_notes; i++)
        free(c->notes[i]);
    free(c->rows);
    sensors_close(c->sensors);
    config_free(c->config);
}

/* ---- words for figures ----------------------------------------------------------------------------------------------------- */

static const char *size_text(uint64_t bytes, char out[32])
{
    if (bytes >= 1000000000)
        snprintf(out, 32, "%.2f GB", (double)bytes / 1e9);
    else if (bytes >= 1000000)
        snprintf(out, 32, "%.1f MB", (double)bytes / 1e6);
    else if (bytes >= 1000)
        snprintf(out, 32, "%.1f kB", (double)bytes / 1e3);
    else
        snprintf(out, 32, "%" PRIu64 " bytes", bytes);
    return out;
}

/* "4.21 G", "518 k" */
static const char *count_text(uint64_t n, char out[32])
{
    if (n >= 1000000000)
        snprintf(out, 32, "%.2f G", (double)n / 1e9);
    else if (n >= 1000000)
        snprintf(out, 32, "%.1f M", (double)n / 1e6);
    else
        snprintf(out, 32, "%.0f k", (double)n / 1e3);
    return out;
}

/* A measured time, two digits or so. */
static const char *time_text(int64_t ns, char out[32])
{
    const double s = (double)ns / 1e9;
    if (s < 0.9995)
        snprintf(out, 32, s < 0.01 ? "%.1f ms" : "%.0f ms", s * 1e3);
    else if (s < 600)
        snprintf(out, 32, s < 10 ? "%.1f s" : "%.0f s", s);
    else
        snprintf(out, 32, "%.0f min", s / 60);
    return out;
}

/* A duration as it was configured. */
static const char *span_text(int64_t ns, char out[32])
{
    if (ns % (60 * CLOCK_S) == 0)
        snprintf(out, 32, "%" PRId64 " min", ns / (60 * CLOCK_S));
    else if (ns % CLOCK_S == 0)
        snprintf(out, 32, "%" PRId64 " s", ns / CLOCK_S);
    else
        snprintf(out, 32, "%" PRId64 " ms", ns / CLOCK_MS);
    return out;
}

/* ---- reckoning ------------------------------------------------------------------------------------------------------------- */

/* The time of one token when n answers are written together. */
static double token_ns(const struct check *c, const struct en_estimate *e, int n)
{
    const int batch = (int)c->config->engine.batch, together = n < batch ? n : batch;
    if (together <= 1)
        return (double)e->token_ns;
    /* a step costs a fixed part and a part for each answer */
    const double alone = (double)e->token_ns, full = (double)e->shared_token_ns * batch;
    return (alone + (full - alone) * (together - 1) / (batch - 1)) / together;
}

/* Share of the machine's time that one look every `every` takes, when n cameras keep it busy. */
static double row_load(const struct check *c, const struct row *r, int n)
{
    const double took =
        (double)r->estimate.vision_ns + (double)r->estimate.prefill_ns + token_ns(c, &r->estimate, n) * r->answer_tokens;
    return took / (double)r->camera->every_ns;
}

/* The same for n cameras like those that are on. */
static double load_of(const struct check *c, int n)
{
    double sum = 0;
    for (int i = 0; i < c->n; i++)
        if (c->rows[i].camera->is_enabled)
            sum += row_load(c, &c->rows[i], n);
    return c->n_on ? sum / c->n_on * n : 0;
}

/* How many sessions there is memory for; beyond engine.batch cameras take turns, and memory does not grow. */
static int fit_by_memory(const struct check *c)
{
    struct en_options o = c->plan.options;
    struct en_plan one, two;
    o.sessions = o.batch = 1;
    if (en_plan_memory(&o, &one, NULL) != 0)
        return 0;
    o.sessions = o.batch = 2;
    if (!c->plan.budget_bytes || en_plan_memory(&o, &two, NULL) != 0 || two.total_bytes <= one.total_bytes)
        return CONFIG_CAMERAS_MAX;
    const uint64_t each = two.total_bytes - one.total_bytes;
    const uint64_t n = c->plan.budget_bytes < one.total_bytes ? 0 : (c->plan.budget_bytes - one.total_bytes) / each + 1;
    return n >= (uint64_t)c->config->engine.batch || n > CONFIG_CAMERAS_MAX ? CONFIG_CAMERAS_MAX : (int)n;
}

static void reckon(struct check *c)
{
    for (int i = 0; i < c->n; i++) {
        struct row *r = &c->rows[i];
        const struct en_estimate *e = &r->estimate;
        r->expected_ns = e->vision_ns + e->prefill_ns + e->token_ns * r->answer_tokens;
        r->longest_ns = e->vision_ns + e->prefill_ns + e->token_ns * r->camera->max_tokens;
        if (r->camera->is_enabled)
            c->load += row_load(c, r, 1);
    }
    while (c->n_on && c->fit_by_time < CONFIG_CAMERAS_MAX && load_of(c, c->fit_by_time + 1) <= LOAD_MOST)
        c->fit_by_time++;
    c->fit_by_memory = fit_by_memory(c);
}

/* What the reader should know before the first look. */
static void make_notes(struct check *c)
{
    char a[32], b[32];
    for (int i = 0; i < c->n; i++) {
        const struct row *r = &c->rows[i];
        const struct config_camera *camera = r->camera;
        if (!camera->is_enabled)
            continue;
        if (r->expected_ns > camera->deadline_ns)
            note(c, "%s: a look takes about %s, longer than its deadline of %s: its answers will be dropped", camera->id,
                 time_text(r->expected_ns, a), span_text(camera->deadline_ns, b));
        else if (r->longest_ns > camera->deadline_ns)
            note(c, "%s: an answer of %" PRId64 " tokens (watch.max_tokens) would be later than the deadline, at %s",
                 camera->id, camera->max_tokens, time_text(r->longest_ns, a));
        if (r->expected_ns > camera->every_ns)
            note(c, "%s: a look takes about %s, longer than watch.every of %s: looks in between are left out", camera->id,
                 time_text(r->expected_ns, a), span_text(camera->every_ns, b));
    }
    const double shared = load_of(c, c->n_on);
    if (c->n_on > 1 && shared > 1)
        note(c, "the cameras ask for %.0f %% of the machine's time: looks will be left out", 100 * shared);
    if (c->forecast.device_free_bytes && c->plan.memory.total_bytes > c->forecast.device_free_bytes)
        note(c, "only %s of memory are free now", size_text(c->forecast.device_free_bytes, a));
    if (c->forecast.is_untrained)
        note(c, "the model is untrained: its answers mean nothing");
    double busy = 0;
    if (getloadavg(&busy, 1) == 1 && busy > 0.5 * (double)sysconf(_SC_NPROCESSORS_ONLN))
        note(c, "the machine was busy while it was measured (load %.1f): the estimates may be off by as much", busy);
    for (int i = 0; i < c->config->n_later; i++)
        note(c, "%s: accepted, not yet active", c->config->later[i]);
}

/* The estimates of all cameras. What is wrong with model or device goes to `complaints`. */
static int estimate(struct check *c, struct complaints *complaints, struct err *err)
{
    struct en_options options = c->plan.options;
    const struct image_view view = {.format = IMAGE_RGB24, .width_px = PICTURE_WIDTH, .height_px = PICTURE_HEIGHT};
    const int n = c->config->n_cameras;
    struct en_job *jobs = calloc((size_t)n + 1, sizeof *jobs);
    struct en_message(*messages)[2] = calloc((size_t)n + 1, sizeof *messages);
    struct en_part(*parts)[3] = calloc((size_t)n + 1, sizeof *parts);
    struct en_estimate *estimates = calloc((size_t)n + 1, sizeof *estimates);
    char **texts = calloc((size_t)n + 1, sizeof *texts);
    int rc = 0;
    c->rows = calloc((size_t)n + 1, sizeof *c->rows);
    if (!jobs || !messages || !parts || !estimates || !texts || !c->rows)
        rc = err_set(err, ERR_NOMEM, "out of memory: estimates of %d cameras", n);
    for (int i = 0; rc == 0 && i < n; i++) {
        const struct config_camera *camera = c->config->cameras[i];
        struct row *r = &c->rows[c->n++];
        r->camera = camera;
        r->source = strdup(camera->source);
        texts[i] = worker_system_text(camera);
        if (!r->source || !texts[i]) {
            rc = err_set(err, ERR_NOMEM, "out of memory: the prompt of camera %s", camera->id);
            break;
        }
        log_redact(r->source);
        r->answer_tokens = (int32_t)camera->max_tokens;
        if (!camera->is_thinking && r->answer_tokens > ANSWER_TOKENS)
            r->answer_tokens = ANSWER_TOKENS;
        c->n_on += camera->is_enabled;
        parts[i][0].text = texts[i];
        parts[i][1].view = &view;
        parts[i][2].text = WORKER_ASK;
        messages[i][0] = (struct en_message){EN_SYSTEM, &parts[i][0], 1};
        messages[i][1] = (struct en_message){EN_USER, &parts[i][1], 2};
        jobs[i] = (struct en_job){
            .messages = messages[i], .n_messages = 2, .thinking = camera->is_thinking, .max_pixels = camera->max_pixels};
    }
    if (rc == 0) {
        struct err cause = {0};
        options.sessions = options.batch = (int32_t)c->config->engine.batch;
        rc = en_estimate(&options, jobs, n, estimates, &c->forecast, &cause);
        if (rc != 0 && rc != ERR_NOMEM)
            plan_complain(c->config, &options, &cause, complaints);
        if (rc != 0)
            err_set(err, rc, "%s", cause.text);
    }
    for (int i = 0; rc == 0 && i < n; i++) {
        const struct config_camera *camera = c->rows[i].camera;
        c->rows[i].estimate = estimates[i];
        if (estimates[i].prompt_tokens + camera->max_tokens > options.context_tokens) {
            const struct place *context = &c->config->places.of[CONFIG_engine_context];
            complaint_add(complaints, context->file ? context : &camera->place, "engine.context",
                          "camera %s: a prompt of %d tokens and an answer of up to %" PRId64 " do not fit into a context of %d",
                          camera->id, estimates[i].prompt_tokens, camera->max_tokens, options.context_tokens);
        }
    }
    if (rc == 0 && complaints->n_errors)
        rc = err_set(err, ERR_INVAL, "a look does not fit into the context");
    for (int i = 0; texts && i < n; i++)
        free(texts[i]);
    free(jobs);
    free(messages);
    free(parts);
    free(estimates);
    free(texts);
    return rc;
}

/* ---- for people ------------------------------------------------------------------------------------------------------------ */

static bool is_colourful; /* standard output is a terminal; set once */

static void print_heading(const char *words)
{
    printf(is_colourful ? "\n\033[1m%s\033[0m\n" : "\n%s\n", words);
}

static void print_memory_row(const char *what, uint64_t bytes, const char *words)
{
    char size[32];
    printf("  %-16s %10s%s%s\n", what, size_text(bytes, size), *words ? "   " : "", words);
}

static void print_model(const struct check *c)
{
    const struct en_forecast *f = &c->forecast;
    char experts[64] = "", count[32];
    if (f->n_experts)
        snprintf(experts, sizeof experts, ", %d of %d experts", f->n_experts_used, f->n_experts);
    print_heading("model");
    printf("  %s: %s parameters, mostly %s, %d layers (%d of full attention) of width %d%s%s\n", f->name,
           count_text(f->n_params, count), f->weight_type, f->n_layers, f->n_full_layers, f->n_embd, experts,
           f->has_vision ? ", with vision" : "");
    printf("  on %s\n", f->device);
    if (f->read_bytes_per_s > 0)
        printf("  measured now: %.1f GB/s read, %.0f G multiply-adds/s\n", f->read_bytes_per_s / 1e9,
               f->multiply_adds_per_s / 1e9);
}

static void print_memory(const struct check *c)
{
    const struct en_plan *m = &c->plan.memory;
    const struct en_options *o = &c->plan.options;
    char words[128], size[32];
    print_heading("memory");
    print_memory_row("weights", m->weights_bytes, "");
    snprintf(words, sizeof words, "%d session%s x %d tokens x %s", o->sessions, o->sessions == 1 ? "" : "s", o->context_tokens,
             size_text(m->kv_bytes_per_token, size));
    print_memory_row("KV cache", m->kv_bytes, words);
    print_memory_row("recurrent state", m->state_bytes, "");
    print_memory_row("scratch", m->scratch_bytes, "");
    print_memory_row("total", m->total_bytes, "");
    if (c->plan.budget_bytes)
        print_memory_row("allowed", c->plan.budget_bytes,
                         c->config->engine.memory_bytes > 0 ? "engine.memory" : "seven eighths of this machine's");
}

static void print_heat(const struct check *c)
{
    print_heading("heat");
    if (!c->sensors) {
        printf("  thermal.sensors: none: works without a temperature limit\n");
        return;
    }
    for (int i = 0; i < sensors_count(c->sensors); i++) {
        const struct sensors_place *p = sensors_place(c->sensors, i);
        printf(p->governs ? "  %-28s limit %.0f C\n" : "  %-28s is shown, and governs nothing\n", p->name, p->limit_c);
    }
    if (sensors_governing(c->sensors) == 0)
        printf("  no sensor: at most a third of the power is used; thermal.sensors: none, if the box needs no limit\n");
    printf("  %-28s %s\n", "watts", sensors_meter_name(c->sensors));
}

static void print_cameras(const struct check *c)
{
    char every[32], deadline[32], expected[32], longest[32], vision[32], prompt[32], answer[32];
    int width = 8;
    for (int i = 0; i < c->n; i++)
        width = (int)strlen(c->rows[i].camera->id) > width ? (int)strlen(c->rows[i].camera->id) : width;
    print_heading("cameras (estimates of one look that has the machine to itself)");
    printf("  %-*s %8s %9s  %-30s %8s %8s\n", width, "", "every", "deadline", "tokens", "expected", "longest");
    for (int i = 0; i < c->n; i++) {
        const struct row *r = &c->rows[i];
        const struct en_estimate *e = &r->estimate;
        char tokens[64];
        snprintf(tokens, sizeof tokens, "%d picture %d prompt %d answer", e->image_tokens, e->prompt_tokens - e->image_tokens,
                 r->answer_tokens);
        const bool is_late = r->expected_ns > r->camera->deadline_ns;
        printf("  %-*s %8s %9s  %-30s %8s %8s  %s%s%s\n", width, r->camera->id, span_text(r->camera->every_ns, every),
               span_text(r->camera->deadline_ns, deadline), tokens, time_text(r->expected_ns, expected),
               time_text(r->longest_ns, longest), is_colourful ? is_late ? "\033[31m" : "\033[32m" : "",
               !r->camera->is_enabled ? "off"
               : is_late              ? "MISSES ITS DEADLINE"
                                      : "in time",
               is_colourful ? "\033[0m" : "");
        printf("  %-*s %s; vision %s, prompt %s, answer %s\n", width, "", r->source, time_text(e->vision_ns, vision),
               time_text(e->prefill_ns, prompt), time_text(e->token_ns * r->answer_tokens, answer));
    }
    printf("  expected: a usual answer, taken as %d tokens (with thinking: the longest); longest: watch.max_tokens\n",
           ANSWER_TOKENS);
}

/* A configuration ends at CONFIG_CAMERAS_MAX. */
static const char *fit_text(int n, char out[32])
{
    snprintf(out, 32, n < CONFIG_CAMERAS_MAX ? "%d" : "%d or more", n);
    return out;
}

static void print_load(const struct check *c)
{
    print_heading("load");
    if (!c->n_on) {
        printf("  no camera is on\n");
        return;
    }
    printf("  %d camera%s keep%s the machine busy for %.*f %% of the time\n", c->n_on, c->n_on == 1 ? "" : "s",
           c->n_on == 1 ? "s" : "", c->load < 0.1 ? 1 : 0, 100 * c->load);
    char by_time[32], by_memory[32];
    printf("  cameras like %s that fit: %s by time (busy for %.0f %%, writing answers together), %s by memory\n",
           c->n_on == 1 ? "this" : "these", fit_text(c->fit_by_time, by_time), 100 * LOAD_MOST,
           fit_text(c->fit_by_memory, by_memory));
}

static void print_plan(const struct check *c)
{
    printf("%s is right: %d camera%s\n", c->config->path, c->n, c->n == 1 ? "" : "s");
    print_model(c);
    print_memory(c);
    print_heat(c);
    print_cameras(c);
    print_load(c);
    if (c->n_notes)
        print_heading("mind");
    for (int i = 0; i < c->n_notes; i++)
        printf("  %s\n", c->notes[i]);
}

/* ---- for programs ---------------------------------------------------------------------------------------------------------- */

static double to_ms(int64_t ns)
{
    return (double)ns / 1e6;
}

static json_t *json_cameras(const struct check *c)
{
    json_t *list = json_array();
    for (int i = 0; i < c->n; i++) {
        const struct row *r = &c->rows[i];
        const struct en_estimate *e = &r->estimate;
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:b, s:f, s:f, s:i, s:i, s:i, s:I, s:{s:f, s:f, s:f, s:f}, s:f, s:b}", "id",
                                        r->camera->id, "source", r->source, "enabled", r->camera->is_enabled, "every_ms",
                                        to_ms(r->camera->every_ns), "deadline_ms", to_ms(r->camera->deadline_ns),
                                        "picture_tokens", e->image_tokens, "prompt_tokens", e->prompt_tokens - e->image_tokens,
                                        "answer_tokens", r->answer_tokens, "max_tokens", (json_int_t)r->camera->max_tokens,
                                        "expected_ms", "vision", to_ms(e->vision_ns), "prompt", to_ms(e->prefill_ns), "answer",
                                        to_ms(e->token_ns * r->answer_tokens), "total", to_ms(r->expected_ns), "longest_ms",
                                        to_ms(r->longest_ns), "makes_deadline", r->expected_ns <= r->camera->deadline_ns));
    }
    return list;
}

static json_t *json_heat(const struct check *c)
{
    json_t *list = json_array();
    for (int i = 0; c->sensors && i < sensors_count(c->sensors); i++) {
        const struct sensors_place *p = sensors_place(c->sensors, i);
        json_t *limit = isnan(p->limit_c) ? json_null() : json_real(p->limit_c);
        json_array_append_new(list, json_pack("{s:s, s:b, s:o}", "name", p->name, "governs", p->governs, "limit_c", limit));
    }
    return json_pack("{s:b, s:o, s:s}", "unguarded", !c->sensors, "sensors", list, "watts",
                     c->sensors ? sensors_meter_name(c->sensors) : "none");
}

static json_t *json_plan(const struct check *c)
{
    const struct en_plan *m = &c->plan.memory;
    const struct en_options *o = &c->plan.options;
    const struct en_forecast *f = &c->forecast;
    json_t *notes = json_array();
    for (int i = 0; i < c->n_notes; i++)
        json_array_append_new(notes, json_string(c->notes[i]));
    json_t *root = json_pack("{s:s, s:s}", "config", c->config->path, "sha256", c->config->sha);
    json_object_set_new(root, "model",
                        json_pack("{s:s, s:s, s:s, s:I, s:i, s:i, s:i, s:i, s:i, s:I, s:b, s:b}", "name", f->name,
                                  "architecture", f->architecture, "weight_type", f->weight_type, "parameters",
                                  (json_int_t)f->n_params, "layers", f->n_layers, "full_attention_layers", f->n_full_layers,
                                  "width", f->n_embd, "experts", f->n_experts, "experts_used", f->n_experts_used,
                                  "bytes_per_token", (json_int_t)f->bytes_per_token, "vision", f->has_vision, "untrained",
                                  f->is_untrained));
    json_object_set_new(root, "device",
                        json_pack("{s:s, s:f, s:f}", "name", f->device, "read_bytes_per_s", f->read_bytes_per_s,
                                  "multiply_adds_per_s", f->multiply_adds_per_s));
    json_object_set_new(root, "memory",
                        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i}", "weights_bytes", (json_int_t)m->weights_bytes,
                                  "kv_bytes", (json_int_t)m->kv_bytes, "state_bytes", (json_int_t)m->state_bytes,
                                  "scratch_bytes", (json_int_t)m->scratch_bytes, "total_bytes", (json_int_t)m->total_bytes,
                                  "budget_bytes", (json_int_t)c->plan.budget_bytes, "sessions", o->sessions, "context_tokens",
                                  o->context_tokens));
    json_object_set_new(root, "heat", json_heat(c));
    json_object_set_new(root, "cameras", json_cameras(c));
    json_object_set_new(root, "load",
                        json_pack("{s:f, s:f, s:i, s:i}", "share", c->load, "most", LOAD_MOST, "cameras_by_time",
                                  c->fit_by_time, "cameras_by_memory", c->fit_by_memory));
    json_object_set_new(root, "warnings", notes);
    return root;
}

static int print_json(const struct check *c)
{
    json_t *root = json_plan(c);
    const int rc = root ? json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) : -1;
    putchar('\n');
    json_decref(root);
    return rc == 0 ? 0 : cli_fail(&cmd_check_command, EX_OSERR, "the plan could not be written as JSON");
}

/* Which sensors there are only the machine knows: names that it does not have are errors here, and at the start. */
static int find_sensors(struct check *c, struct complaints *complaints, struct err *err)
{
    thermal_plan(c->config, c->plan.options.device, &c->heat);
    const int rc = c->heat.has_sensors ? sensors_open(&c->heat.sensors, &c->sensors, err) : 0;
    if (rc == ERR_INVAL)
        complaint_add(complaints, &c->config->places.of[CONFIG_thermal_sensors], "thermal.sensors", "%s", err->text);
    return rc;
}

/* ---- the command ----------------------------------------------------------------------------------------------------------- */

int cmd_check(int argc, char **argv)
{
    const char *path = CONFIG_DEFAULT_PATH;
    bool as_json = false;
    const struct cli_option table[] = {
        {"c", "config", CLI_TEXT, &path, 0, 0, "FILE", "the configuration; " CONFIG_DEFAULT_PATH " without it"},
        {"json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "print the plan as JSON"},
    };
    struct cli_list words = {0};
    int status = cli_parse(&cmd_check_command, argc, argv, table, sizeof table / sizeof *table, &words);
    if (status != 0)
        return status;
    if (words.n > 0)
        return cli_fail(&cmd_check_command, EX_USAGE, "what is \"%s\"? A configuration is named with -c", words.items[0]);
    struct check c = {0};
    struct complaints complaints = {0};
    struct err err = {0};
    int rc = config_load(path, &complaints, &c.config, &err);
    if (rc == 0)
        rc = plan_make(c.config, &complaints, &c.plan, &err);
    if (rc == 0)
        rc = find_sensors(&c, &complaints, &err);
    if (rc == 0)
        rc = estimate(&c, &complaints, &err);
    complaint_print(&complaints, stderr, terminal_is_colourful(STDERR_FILENO));
    if (rc != 0) {
        status = complaints.n_errors ? EX_CONFIG : cli_error(&cmd_check_command, &err);
    } else {
        is_colourful = terminal_is_colourful(STDOUT_FILENO);
        reckon(&c);
        make_notes(&c);
        if (as_json)
            status = print_json(&c);
        else
            print_plan(&c);
    }
    complaint_release(&complaints);
    check_release(&c);
    return status;
}
