/*
 * eval_model - how often the shipped model is right: rendered scenes that it was never trained on, asked through the engine as the daemon and its rules ask.
 *
 *   eval_model -m MODEL -v VISION [--scenes N] [--seed N] [--questions N] [--threads N] [--batch N] [--codec h264] [--json FILE]
 *
 * Each scene is one frame of 640x360 of a yard of its own seed at a time of its own; seeds of training and evaluation come from streams that share
 * nothing. Asked are the default schema's observation with the daemon's own words, and N yes/no questions (schema {"enum":["yes","no"]}); the score of a
 * question is the probability of "yes", the area under the curve is that of all questions together.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "appliance/config.h"
#include "appliance/worker.h"
#include "base/clock.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "pipeline/scene.h"
#include "pipeline/scene_words.h"

#define WIDTH_PX      640
#define HEIGHT_PX     360
#define SCENE_SEED    UINT64_C(0x5ca1ab1e0ddba11) /* of the stream that evaluation's scenes come from */
#define MAX_QUESTIONS 16
#define MAX_BATCH     64

enum row { ROW_ALL, ROW_DAY, ROW_DUSK, ROW_NIGHT, ROW_CLEAR, ROW_RAIN, ROW_FOG, N_ROWS };
enum column { COL_PEOPLE, COL_VEHICLES, COL_ANIMALS, COL_HAZARD, COL_SUMMARY, N_COLUMNS };

static const char *const row_names[N_ROWS] = {"all", "day", "dusk", "night", "clear", "rain", "fog"};
static const char *const column_names[N_COLUMNS] = {"people", "vehicles", "animals", "hazard", "summary"};

struct verdict {
    double p;
    bool is_yes;
    uint8_t rows; /* bit per row */
    int topic;
};

struct asked {
    uint64_t id;
    int scene;
    int question; /* -1: the observation */
    struct scene_question words;
    struct scene_truth truth;
    bool is_free;
};

struct eval {
    struct en_options options;
    struct en_engine *engine;
    struct en_schema *observation, *yes_no;
    char *system;
    int n_scenes, n_questions;
    uint64_t seed;
    FILE *json;
    struct asked asked[MAX_BATCH];
    int n_right[N_ROWS][N_COLUMNS], n[N_ROWS];
    int n_q[N_ROWS], n_q_right[N_ROWS];
    int *topic_n, *topic_right;
    struct verdict *verdicts;
    int n_verdicts;
    int64_t observation_ns;
};

static uint8_t rows_of(const struct scene_truth *t)
{
    return (uint8_t)(1 << ROW_ALL | 1 << (ROW_DAY + (int)t->light) | 1 << (ROW_CLEAR + (int)t->weather));
}

static bool is_number(const json_t *answer, const char *key, int expected)
{
    const json_t *v = json_object_get(answer, key);
    return json_is_integer(v) && json_integer_value(v) == expected;
}

static bool is_text(const json_t *answer, const char *key, const char *expected)
{
    const char *v = json_string_value(json_object_get(answer, key));
    return v && strcmp(v, expected) == 0;
}

static void judge_observation(struct eval *e, const struct asked *a, const struct en_result *r)
{
    char summary[SCENE_SUMMARY_MAX + 1];
    const struct scene_truth *t = &a->truth;
    scene_words_summary(t, summary);
    json_t *answer = json_loads(r->text, 0, NULL);
    const bool right[N_COLUMNS] = {is_number(answer, "people", t->people), is_number(answer, "vehicles", t->vehicles),
                                   is_number(answer, "animals", t->animals),
                                   is_text(answer, "hazard", scene_hazard_name(t->hazard)),
                                   is_text(answer, "summary", summary)};
    for (int row = 0; row < N_ROWS; row++) {
        if (!(rows_of(t) >> row & 1))
            continue;
        e->n[row]++;
        for (int c = 0; c < N_COLUMNS; c++)
            e->n_right[row][c] += right[c];
    }
    e->observation_ns += r->timing.vision_ns + r->timing.prefill_ns + r->timing.decode_ns;
    if (e->json) {
        json_t *line =
            json_pack("{s:i,s:I,s:f,s:O,s:s,s:[i,i,i],s:s,s:s,s:s}", "scene", a->scene, "seed",
                      (json_int_t)(rng_at(e->seed, 2 * (uint64_t)a->scene) >> 16), "t_s", t->t_s, "answer", answer, "truth",
                      summary, "counts", t->people, t->vehicles, t->animals, "hazard", scene_hazard_name(t->hazard), "light",
                      scene_light_name(t->light), "weather", scene_weather_name(t->weather));
        json_dumpf(line, e->json, JSON_COMPACT);
        fputc('\n', e->json);
        json_decref(line);
    }
    json_decref(answer);
}

static void judge_question(struct eval *e, const struct asked *a, const struct en_result *r)
{
    struct verdict *v = &e->verdicts[e->n_verdicts++];
    *v = (struct verdict){.is_yes = strcmp(a->words.answer, "yes") == 0, .rows = rows_of(&a->truth), .topic = a->words.topic};
    for (int32_t i = 0; i < r->n_scores && i < 1; i++)
        for (int32_t k = 0; k < r->scores[i].n; k++)
            if (strcmp(r->scores[i].names[k], "yes") == 0)
                v->p = r->scores[i].p[k];
    const bool is_right = (v->p > 0.5) == v->is_yes;
    e->topic_n[v->topic]++;
    e->topic_right[v->topic] += is_right;
    for (int row = 0; row < N_ROWS; row++)
        if (v->rows >> row & 1) {
            e->n_q[row]++;
            e->n_q_right[row] += is_right;
        }
    if (e->json && !is_right) {
        json_t *line =
            json_pack("{s:i,s:s,s:s,s:f}", "scene", a->scene, "ask", a->words.ask, "truth", a->words.answer, "p_yes", v->p);
        json_dumpf(line, e->json, JSON_COMPACT);
        fputc('\n', e->json);
        json_decref(line);
    }
}

/* Step until a result is there, and judge it. */
static int collect(struct eval *e, struct err *err)
{
    const struct en_permit permit = {.batch = e->options.batch, .expires_ns = INT64_MAX};
    struct en_result *r;
    while (!(r = en_take_result(e->engine))) {
        bool busy = true;
        const int rc = en_step(e->engine, &permit, &busy, err);
        if (rc != 0)
            return rc;
    }
    int rc = 0;
    if (r->finish != EN_FINISH_STOP) {
        rc = err_set(err, ERR_STATE, "a job did not finish: %s", r->error.text);
    } else {
        struct asked *a = &e->asked[r->tag];
        if (a->question < 0)
            judge_observation(e, a, r);
        else
            judge_question(e, a, r);
        a->is_free = true;
    }
    en_result_free(r);
    return rc;
}

static int ask(struct eval *e, const struct image_view *view, int i_scene, int question, const struct scene_question *words,
               const struct scene_truth *truth, struct err *err)
{
    struct asked *a = NULL;
    for (;;) {
        for (int i = 0; i < e->options.batch && !a; i++)
            if (e->asked[i].is_free)
                a = &e->asked[i];
        if (a)
            break;
        const int rc = collect(e, err);
        if (rc != 0)
            return rc;
    }
    *a = (struct asked){.scene = i_scene, .question = question, .truth = *truth};
    if (words)
        a->words = *words;
    const struct en_part system = {.text = e->system};
    const struct en_part user[] = {{.view = view}, {.text = words ? words->ask : WORKER_ASK}};
    const struct en_message messages[] = {{EN_SYSTEM, &system, 1}, {EN_USER, user, 2}};
    const struct en_job job = {
        .messages = words ? messages + 1 : messages,
        .n_messages = words ? 1 : 2,
        .schema = words ? e->yes_no : e->observation,
        .sampling = {.top_p = 1},
        .max_tokens = words ? 16 : 200,
        .tag = (uint64_t)(a - e->asked),
    };
    return en_submit(e->engine, &job, &a->id, err);
}

static int ask_scene(struct eval *e, int i, struct err *err)
{
    static uint8_t rgb[WIDTH_PX * HEIGHT_PX * 3];
    const struct image_view view = {
        .format = IMAGE_RGB24, .width_px = WIDTH_PX, .height_px = HEIGHT_PX, .plane = {rgb}, .stride_bytes = {WIDTH_PX * 3}};
    struct rng r = {rng_at(e->seed, 2 * (uint64_t)i + 1), 0};
    struct scene *scene = NULL;
    struct scene_truth truth;
    int rc = scene_open("yard", rng_at(e->seed, 2 * (uint64_t)i) >> 16, WIDTH_PX, HEIGHT_PX, &scene, err);
    if (rc != 0)
        return rc;
    const double t_s = rng_unit(&r) * 86400;
    scene_draw(scene, rng_next(&r) >> 32, t_s, rgb, WIDTH_PX * 3, &truth);
    scene_close(scene);
    rc = ask(e, &view, i, -1, NULL, &truth, err);
    for (int q = 0, tries = 0; rc == 0 && q < e->n_questions && tries < 64; tries++) {
        struct scene_question words;
        if (!scene_words_question(&truth, (int)rng_below(&r, (uint64_t)scene_words_topics()), rng_next(&r), &words) ||
            words.kind != SCENE_ANSWER_YES_NO)
            continue;
        rc = ask(e, &view, i, q++, &words, &truth, err);
    }
    return rc;
}

static int by_p(const void *a, const void *b)
{
    const double x = ((const struct verdict *)a)->p, y = ((const struct verdict *)b)->p;
    return (x > y) - (x < y);
}

/* Area under the ROC curve of a row's verdicts, which are sorted by p: the share of (yes, no) pairs that are in order, ties counting half. */
static double area(const struct eval *e, int row)
{
    double yes = 0, no = 0, below = 0;
    for (int i = 0; i < e->n_verdicts;) {
        double y = 0, n = 0;
        const double p = e->verdicts[i].p;
        for (; i < e->n_verdicts && e->verdicts[i].p == p; i++)
            if (e->verdicts[i].rows >> row & 1)
                *(e->verdicts[i].is_yes ? &y : &n) += 1;
        below += y * (no + n / 2);
        yes += y;
        no += n;
    }
    return yes > 0 && no > 0 ? below / (yes * no) : 0.0;
}

static void print_table(struct eval *e)
{
    qsort(e->verdicts, (size_t)e->n_verdicts, sizeof *e->verdicts, by_p);
    printf("| scenes | n |");
    for (int c = 0; c < N_COLUMNS; c++)
        printf(" %s |", column_names[c]);
    printf(" yes/no | AUC |\n|---|---|---|---|---|---|---|---|---|\n");
    for (int row = 0; row < N_ROWS; row++) {
        if (e->n[row] == 0)
            continue;
        printf("| %s | %d |", row_names[row], e->n[row]);
        for (int c = 0; c < N_COLUMNS; c++)
            printf(" %.1f %% |", 100.0 * e->n_right[row][c] / e->n[row]);
        printf(" %.1f %% | %.4f |\n", e->n_q[row] ? 100.0 * e->n_q_right[row] / e->n_q[row] : 0.0, area(e, row));
    }
    printf("\n%d questions; by topic:", e->n_verdicts);
    for (int t = 0; t < scene_words_topics(); t++)
        if (e->topic_n[t])
            printf(" %s %.1f,", scene_words_topic_name(t), 100.0 * e->topic_right[t] / e->topic_n[t]);
    printf("\nan observation takes %.0f ms of the engine\n", (double)e->observation_ns / 1e6 / e->n[ROW_ALL]);
}

static int run(struct eval *e, struct err *err)
{
    static const char yes_no[] = "{\"enum\":[\"yes\",\"no\"]}";
    const struct config_camera camera = {.prompt = (char *)"Describe what this camera sees.",
                                         .schema_text = (char *)config_default_schema};
    int rc = en_schema_compile(config_default_schema, strlen(config_default_schema), &e->observation, err);
    if (rc == 0)
        rc = en_schema_compile(yes_no, strlen(yes_no), &e->yes_no, err);
    if (rc == 0)
        rc = en_open(&e->options, &e->engine, err);
    if (rc != 0)
        return rc;
    e->system = worker_system_text(&camera);
    e->verdicts = calloc((size_t)e->n_scenes * (size_t)(e->n_questions + 1), sizeof *e->verdicts);
    e->topic_n = calloc((size_t)scene_words_topics(), sizeof *e->topic_n);
    e->topic_right = calloc((size_t)scene_words_topics(), sizeof *e->topic_right);
    if (!e->system || !e->verdicts || !e->topic_n || !e->topic_right)
        return err_set(err, ERR_NOMEM, "out of memory");
    for (int i = 0; i < MAX_BATCH; i++)
        e->asked[i].is_free = true;
    for (int i = 0; rc == 0 && i < e->n_scenes; i++) {
        rc = ask_scene(e, i, err);
        if (rc == 0 && i % 100 == 99)
            fprintf(stderr, "%d of %d scenes\n", i + 1, e->n_scenes);
    }
    while (rc == 0 && en_pending(e->engine) > 0)
        rc = collect(e, err);
    if (rc == 0)
        print_table(e);
    return rc;
}

static int parse(int argc, char **argv, struct eval *e, const char **ret_json)
{
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!value)
            return -1;
        const long n = strtol(value, NULL, 10);
        if (strcmp(name, "-m") == 0)
            e->options.model_path = value;
        else if (strcmp(name, "-v") == 0)
            e->options.vision_path = value;
        else if (strcmp(name, "--json") == 0)
            *ret_json = value;
        else if (strcmp(name, "--scenes") == 0 && n > 0)
            e->n_scenes = (int)n;
        else if (strcmp(name, "--questions") == 0 && n >= 0 && n <= MAX_QUESTIONS)
            e->n_questions = (int)n;
        else if (strcmp(name, "--seed") == 0)
            e->seed = rng_at(SCENE_SEED, (uint64_t)n);
        else if (strcmp(name, "--threads") == 0)
            e->options.threads = (int)n;
        else if (strcmp(name, "--batch") == 0 && n > 0 && n <= MAX_BATCH)
            e->options.batch = e->options.sessions = (int)n;
        else
            return -1;
    }
    return e->options.model_path && e->options.vision_path ? 0 : -1;
}

int main(int argc, char **argv)
{
    static struct eval e = {.n_scenes = 2000,
                            .n_questions = 4,
                            .options = {.context_tokens = 1024, .sessions = 8, .batch = 8, .kv = EN_KV_F16, .device = "auto"}};
    const char *json = NULL;
    struct err err = {0};
    e.seed = SCENE_SEED;
    if (parse(argc, argv, &e, &json) != 0) {
        fprintf(stderr, "usage: eval_model -m MODEL -v VISION [--scenes N] [--seed N] [--questions N] [--threads N] [--batch "
                        "N] [--json FILE]\n");
        return 64;
    }
    if (json && !(e.json = fopen(json, "we"))) {
        perror(json);
        return 73;
    }
    const int rc = run(&e, &err);
    if (rc != 0)
        fprintf(stderr, "eval_model: %s\n", err.text);
    en_schema_unref(e.observation);
    en_schema_unref(e.yes_no);
    en_close(e.engine);
    free(e.system);
    free(e.verdicts);
    free(e.topic_n);
    free(e.topic_right);
    if (e.json)
        fclose(e.json);
    return rc != 0 ? 70 : 0;
}
