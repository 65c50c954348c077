/*
 * eval_model - how often the shipped model is right: rendered scenes that it was never trained on, asked through the engine as the daemon and its rules ask.
 *
 *   eval_model -m MODEL -v VISION [options]    (--help lists them)
 *
 * Each scene is one frame of 640x360 of a yard of its own seed at a time of its own; seeds of training and evaluation come from streams that share nothing. With --yard all are of one
 * yard, as the demo looks at it: every two seconds of its frames, from the first on.
 * Asked are the default schema's observation with the daemon's own words, `questions` yes/no questions (schema {"enum":["yes","no"]}) and `words` questions for a
 * word a scene, and of the first `pairs` scenes what changed since a frame some time before, both as free text. Right is what equals the truth's own words.
 *
 * Of the yes/no questions that a scene allows those are asked that were asked least so far: every topic about alike often, and as often where it is so as where it is
 * not, as far as the scenes have both. Otherwise one would be right most of the time without looking: there is no fire. The score of a question is the
 * probability of "yes"; the area under the curve is that of all questions together. What one who only knows the wordings would reach stands below the table.
 *
 * --codec: every picture goes through an encoder, as the second of two frames half a second apart. --json: what was seen of each scene, and every wrong answer, a line
 * each. --require: status 1 where all scenes together are below what a shipped model must reach (`limits`).
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "appliance/cli.h"
#include "appliance/config.h"
#include "appliance/model_args.h"
#include "appliance/worker.h"
#include "base/clock.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "pipeline/codec.h"
#include "pipeline/scene.h"
#include "pipeline/scene_words.h"
#include "tools/moment.h"
#include "tools/tally.h"

#define WIDTH_PX      640
#define HEIGHT_PX     360
#define SCENE_SEED    UINT64_C(0x5ca1ab1e0ddba11) /* of the stream that evaluation's scenes come from */
#define MAX_QUESTIONS 16
#define LOOK_S        2 /* from one look of the demo to the next */
#define LOOK_FPS      5
#define MAX_BATCH     64
#define MAX_TOPICS    64
#define ASK_CHANGE    "What changed?"
#define CODEC_STEP_S  0.5

enum row { ROW_ALL, ROW_DAY, ROW_DUSK, ROW_NIGHT, ROW_CLEAR, ROW_RAIN, ROW_FOG, N_ROWS };

static const char *const row_names[N_ROWS] = {"all", "day", "dusk", "night", "clear", "rain", "fog"};
static const char *const column_names[TALLY_COLUMNS] = {"people", "vehicles", "animals", "hazard", "summary"};

/* Parts of one: what --require asks of all scenes together, and of those by day, by night and in rain. */
static const struct {
    double observation[TALLY_COLUMNS], yes_no, area;
} limits = {{0.95, 0.95, 0.93, 0.98, 0}, 0.97, 0.99};

enum kind { KIND_OBSERVATION, KIND_YES_NO, KIND_WORD, KIND_CHANGE };

struct asked {
    enum kind kind;
    int scene;
    struct scene_question words; /* KIND_YES_NO, KIND_WORD; of KIND_CHANGE the words alone */
    char change[SCENE_SUMMARY_MAX + 1];
    struct scene_truth truth; /* of the later picture */
    bool is_free;
};

struct eval {
    struct en_options options;
    struct en_engine *engine;
    struct en_schema *observation, *yes_no;
    struct codec_loop *codec;
    char *system;
    int n_scenes, n_questions, n_words, n_pairs, quality;
    bool has_codec, is_required;
    uint64_t seed;
    int64_t yard; /* -1: scenes of all yards */
    FILE *json;
    struct asked asked[MAX_BATCH];
    int n_asked[MAX_TOPICS][2];                                    /* [topic][is_so]: yes/no questions so far */
    int n[N_ROWS], n_right[N_ROWS][TALLY_COLUMNS], n_fields_right; /* people, vehicles, animals and hazard together */
    int n_word[N_ROWS], n_word_right[N_ROWS], topic_word[MAX_TOPICS], topic_word_right[MAX_TOPICS];
    int n_change[N_ROWS], n_change_right[N_ROWS], n_moves_right, n_nothing;
    struct tally_verdict *verdicts, *blind;
    int n_verdicts, n_at_odds;
    int64_t steps_ns;
    int n_jobs;
};

/* Of the yard that scene i is of. */
static uint64_t yard_of(const struct eval *e, int i)
{
    return e->yard >= 0 ? (uint64_t)e->yard : rng_at(e->seed, 2 * (uint64_t)i) >> 16;
}

static uint8_t rows_of(const struct scene_truth *t)
{
    return (uint8_t)(1 << ROW_ALL | 1 << (ROW_DAY + (int)t->light) | 1 << (ROW_CLEAR + (int)t->weather));
}

/* One more in every row of the table that the frame belongs to. */
static void count(const struct scene_truth *t, bool is_right, int n[N_ROWS], int n_right[N_ROWS])
{
    for (int row = 0; row < N_ROWS; row++)
        if (rows_of(t) >> row & 1) {
            n[row]++;
            n_right[row] += is_right;
        }
}

static void write_line(struct eval *e, json_t *line)
{
    json_dumpf(line, e->json, JSON_COMPACT);
    fputc('\n', e->json);
    json_decref(line);
}

static void judge_observation(struct eval *e, const struct asked *a, const struct en_result *r)
{
    const struct scene_truth *t = &a->truth;
    bool right[TALLY_COLUMNS];
    json_t *answer = json_loads(r->text, 0, NULL);
    tally_observation(answer, t, right);
    e->n_fields_right += right[TALLY_PEOPLE] && right[TALLY_VEHICLES] && right[TALLY_ANIMALS] && right[TALLY_HAZARD];
    for (int row = 0; row < N_ROWS; row++) {
        if (!(rows_of(t) >> row & 1))
            continue;
        e->n[row]++;
        for (int c = 0; c < TALLY_COLUMNS; c++)
            e->n_right[row][c] += right[c];
    }
    if (e->json) {
        char summary[SCENE_SUMMARY_MAX + 1];
        scene_words_summary(t, summary);
        write_line(e, json_pack("{s:i,s:I,s:f,s:O?,s:s,s:[i,i,i],s:s,s:s,s:s}", "scene", a->scene, "seed",
                                (json_int_t)yard_of(e, a->scene), "t_s", t->t_s, "answer", answer, "truth", summary, "counts",
                                t->people, t->vehicles, t->animals, "hazard", scene_hazard_name(t->hazard), "light",
                                scene_light_name(t->light), "weather", scene_weather_name(t->weather)));
    }
    json_decref(answer);
}

/* Errors: ERR_STATE, the answer or its score is not there: that is no wrong answer, but a fault of the engine. */
static int judge_yes_no(struct eval *e, const struct asked *a, const struct en_result *r, struct err *err)
{
    const int said = tally_said(r->text);
    int yes = -1;
    for (int32_t k = 0; r->n_scores == 1 && k < r->scores[0].n; k++)
        if (strcmp(r->scores[0].names[k], "yes") == 0)
            yes = k;
    if (said < 0 || yes < 0)
        return err_set(err, ERR_STATE, "\"%s\" was answered by %s with %d scores: expected \"yes\" or \"no\" and one score",
                       a->words.ask, r->text, (int)r->n_scores);
    struct tally_verdict *v = &e->verdicts[e->n_verdicts++];
    *v = (struct tally_verdict){.p = r->scores[0].p[yes],
                                .is_yes = strcmp(a->words.answer, "yes") == 0,
                                .said_yes = said,
                                .rows = rows_of(&a->truth),
                                .topic = a->words.topic,
                                .scene = a->scene,
                                .wording = rng_hash(a->words.ask, strlen(a->words.ask))};
    e->n_at_odds += (v->p > 0.5) != v->said_yes;
    if (e->json && v->is_yes != v->said_yes)
        write_line(
            e, json_pack("{s:i,s:s,s:s,s:f}", "scene", a->scene, "ask", a->words.ask, "truth", a->words.answer, "p_yes", v->p));
    return 0;
}

static void judge_free(struct eval *e, const struct asked *a, const struct en_result *r)
{
    const char *expected = a->kind == KIND_WORD ? a->words.answer : a->change;
    const bool is_right = strcmp(r->text, expected) == 0;
    if (a->kind == KIND_WORD) {
        count(&a->truth, is_right, e->n_word, e->n_word_right);
        e->topic_word[a->words.topic]++;
        e->topic_word_right[a->words.topic] += is_right;
    } else {
        const struct tally_moves said = tally_moves(r->text), is = tally_moves(a->change);
        count(&a->truth, is_right, e->n_change, e->n_change_right);
        e->n_moves_right += memcmp(&said, &is, sizeof is) == 0;
        e->n_nothing += strcmp(a->change, "Nothing has changed.") == 0;
    }
    if (e->json && !is_right)
        write_line(e,
                   json_pack("{s:i,s:s,s:s,s:s}", "scene", a->scene, "ask", a->words.ask, "truth", expected, "said", r->text));
}

/* Step until a result is there, and judge it. */
static int collect(struct eval *e, struct err *err)
{
    const struct en_permit permit = {.batch = e->options.batch, .expires_ns = INT64_MAX};
    struct en_result *r;
    while (!(r = en_take_result(e->engine))) {
        bool busy = true;
        const int64_t from_ns = clock_now_ns();
        const int rc = en_step(e->engine, &permit, &busy, err);
        e->steps_ns += clock_now_ns() - from_ns;
        if (rc != 0)
            return rc;
    }
    int rc = 0;
    struct asked *a = &e->asked[r->tag];
    const bool is_text = a->kind == KIND_WORD || a->kind == KIND_CHANGE; /* which may be too long: a wrong answer */
    if (r->finish != EN_FINISH_STOP && !(is_text && r->finish == EN_FINISH_LENGTH))
        rc = err_set(err, ERR_STATE, "a job did not finish: %s", r->error.text);
    else if (is_text)
        judge_free(e, a, r);
    else if (a->kind == KIND_YES_NO)
        rc = judge_yes_no(e, a, r, err);
    else
        judge_observation(e, a, r);
    a->is_free = true;
    e->n_jobs++;
    en_result_free(r);
    return rc;
}

/* Ask about one picture, or two (KIND_CHANGE). `what` is copied. */
static int ask(struct eval *e, const struct image_view views[2], const struct asked *what, struct err *err)
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
    *a = *what;
    a->is_free = false;
    const bool is_watch = a->kind == KIND_OBSERVATION, is_pair = a->kind == KIND_CHANGE;
    const struct en_part system = {.text = e->system};
    const struct en_part user[] = {{.view = &views[0]}, {.view = &views[1]}, {.text = is_watch ? WORKER_ASK : a->words.ask}};
    const struct en_message messages[] = {{EN_SYSTEM, &system, 1}, {EN_USER, is_pair ? user : user + 1, is_pair ? 3 : 2}};
    const struct en_job job = {
        .messages = is_watch ? messages : messages + 1,
        .n_messages = is_watch ? 2 : 1,
        .schema = is_watch                 ? e->observation
                  : a->kind == KIND_YES_NO ? e->yes_no
                                           : NULL,
        .sampling = {.top_p = 1},
        .max_tokens = is_watch || is_pair ? 200 : 16,
        .tag = (uint64_t)(a - e->asked),
    };
    uint64_t id;
    return en_submit(e->engine, &job, &id, err);
}

/* A frame as a camera gives it. */
static int draw(struct eval *e, struct scene *scene, struct moment when, uint8_t *rgb, struct scene_truth *ret_truth,
                struct err *err)
{
    int rc = 0;
    if (e->codec) {
        scene_draw(scene, when.i_frame - 1, when.t_s - CODEC_STEP_S, rgb, WIDTH_PX * 3, NULL);
        rc = codec_loop_run(e->codec, true, rgb, WIDTH_PX * 3, err);
    }
    scene_draw(scene, when.i_frame, when.t_s, rgb, WIDTH_PX * 3, ret_truth);
    if (rc == 0 && e->codec)
        rc = codec_loop_run(e->codec, false, rgb, WIDTH_PX * 3, err);
    return rc;
}

/* Those questions of the kind that were asked least so far; words are taken as they come. */
static int ask_questions(struct eval *e, const struct image_view views[2], struct asked what, int n, struct rng *r,
                         struct err *err)
{
    struct scene_question can[MAX_TOPICS];
    const bool is_yes_no = what.kind == KIND_YES_NO;
    int n_can = 0, rc = 0;
    for (int t = 0; t < scene_words_topics(); t++) {
        const uint64_t seed = rng_next(r), place = rng_below(r, (uint64_t)n_can + 1);
        struct scene_question q;
        if (scene_words_question(&what.truth, t, seed, &q) && (q.kind == SCENE_ANSWER_YES_NO) == is_yes_no) {
            can[n_can++] = can[place]; /* shuffled */
            can[place] = q;
        }
    }
    for (int i = 0; rc == 0 && i < n && i < n_can; i++) {
        int least = i;
        for (int k = i + 1; is_yes_no && k < n_can; k++)
            if (e->n_asked[can[k].topic][can[k].is_so] < e->n_asked[can[least].topic][can[least].is_so])
                least = k;
        what.words = can[least];
        can[least] = can[i];
        e->n_asked[what.words.topic][what.words.is_so]++;
        rc = ask(e, views, &what, err);
    }
    return rc;
}

static int ask_scene(struct eval *e, int i, struct err *err)
{
    static uint8_t rgb[2][WIDTH_PX * HEIGHT_PX * 3]; /* the earlier picture, and the one that is asked about */
    struct image_view views[2];
    for (int k = 0; k < 2; k++)
        views[k] = (struct image_view){.format = IMAGE_RGB24,
                                       .width_px = WIDTH_PX,
                                       .height_px = HEIGHT_PX,
                                       .plane = {rgb[k]},
                                       .stride_bytes = {WIDTH_PX * 3}};
    struct rng r = {rng_at(e->seed, 2 * (uint64_t)i + 1), 0};
    struct scene *scene = NULL;
    struct scene_truth before;
    struct asked what = {.scene = i};
    int rc = scene_open("yard", yard_of(e, i), WIDTH_PX, HEIGHT_PX, &scene, err);
    if (rc != 0)
        return rc;
    const struct moment now =
        e->yard >= 0 ? (struct moment){LOOK_S * (double)i, (uint64_t)(LOOK_S * LOOK_FPS * i)} : moment_any(&r);
    rc = draw(e, scene, now, rgb[1], &what.truth, err);
    if (rc == 0)
        rc = ask(e, views, &what, err);
    what.kind = KIND_YES_NO;
    if (rc == 0)
        rc = ask_questions(e, views, what, e->n_questions, &r, err);
    what.kind = KIND_WORD;
    if (rc == 0)
        rc = ask_questions(e, views, what, e->n_words, &r, err);
    if (rc == 0 && i < e->n_pairs) {
        rc = draw(e, scene, moment_before(now, &r), rgb[0], &before, err);
        what.kind = KIND_CHANGE;
        snprintf(what.words.ask, sizeof what.words.ask, "%s", ASK_CHANGE);
        if (rc == 0) {
            scene_words_change(&before, &what.truth, what.change);
            rc = ask(e, views, &what, err);
        }
    }
    scene_close(scene);
    return rc;
}

/* ---- what comes out ----------------------------------------------------------------------------------------------------- */

static void print_share(int n_right, int n)
{
    if (n > 0)
        printf(" %.1f %% |", 100.0 * n_right / n);
    else
        printf(" - |");
}

static void print_area(double area)
{
    if (area >= 0)
        printf(" %.4f |", area);
    else
        printf(" - |");
}

/* Right of all verdicts of a row. */
static int count_right(const struct tally_verdict *v, int n, int row, int *ret_n)
{
    int right[2];
    *ret_n = tally_count(v, n, row, TALLY_ANY, false, &right[0]) + tally_count(v, n, row, TALLY_ANY, true, &right[1]);
    return right[0] + right[1];
}

static void print_table(const struct eval *e)
{
    printf("| scenes | n |");
    for (int c = 0; c < TALLY_COLUMNS; c++)
        printf(" %s |", column_names[c]);
    printf(" yes/no | AUC | words | changes |\n|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (int row = 0; row < N_ROWS; row++) {
        int n;
        if (e->n[row] == 0)
            continue;
        printf("| %s | %d |", row_names[row], e->n[row]);
        for (int c = 0; c < TALLY_COLUMNS; c++)
            print_share(e->n_right[row][c], e->n[row]);
        const int n_right = count_right(e->verdicts, e->n_verdicts, row, &n);
        print_share(n_right, n);
        print_area(tally_area(e->verdicts, e->n_verdicts, row, TALLY_ANY));
        print_share(e->n_word_right[row], e->n_word[row]);
        print_share(e->n_change_right[row], e->n_change[row]);
        printf("\n");
    }
}

static void print_topics(const struct eval *e)
{
    double sum = 0;
    int n_areas = 0;
    printf("\n| question | n | yes | right | right where yes | right where no | AUC |\n|---|---|---|---|---|---|---|\n");
    for (int t = 0; t < scene_words_topics(); t++) {
        int right[2];
        const int no = tally_count(e->verdicts, e->n_verdicts, TALLY_ANY, t, false, &right[0]);
        const int yes = tally_count(e->verdicts, e->n_verdicts, TALLY_ANY, t, true, &right[1]);
        const double area = tally_area(e->verdicts, e->n_verdicts, TALLY_ANY, t);
        if (no + yes > 0) {
            printf("| %s | %d |", scene_words_topic_name(t), no + yes);
            print_share(yes, no + yes);
            print_share(right[0] + right[1], no + yes);
            print_share(right[1], yes);
            print_share(right[0], no);
            print_area(area);
            printf("\n");
        } else if (e->topic_word[t] > 0) {
            printf("| %s | %d | - |", scene_words_topic_name(t), e->topic_word[t]);
            print_share(e->topic_word_right[t], e->topic_word[t]);
            printf(" - | - | - |\n");
        }
        if (area >= 0) {
            sum += area;
            n_areas++;
        }
    }
    if (n_areas > 0)
        printf("\nAUC of a topic: %.4f in the mean of %d topics\n", sum / n_areas, n_areas);
}

static void print_rest(const struct eval *e)
{
    printf("\npeople, vehicles, animals and hazard all right: %.1f %% of %d\n", 100.0 * e->n_fields_right / e->n[ROW_ALL],
           e->n[ROW_ALL]);
    if (e->n_verdicts > 0) {
        int n;
        const int n_right = count_right(e->blind, e->n_verdicts, TALLY_ANY, &n);
        const double area = tally_area(e->blind, e->n_verdicts, TALLY_ANY, TALLY_ANY);
        printf("without looking, from the wording alone: %.1f %%, AUC %.4f\n", 100.0 * n_right / n, area >= 0 ? area : 0.5);
        printf("answer and score are at odds in %d of %d\n", e->n_at_odds, n);
    }
    if (e->n_change[ROW_ALL] > 0)
        printf("%d pairs: who came and left, by class and number, is right in %.1f %%; without looking (\"Nothing has "
               "changed.\"): %.1f %%\n",
               e->n_change[ROW_ALL], 100.0 * e->n_moves_right / e->n_change[ROW_ALL],
               100.0 * e->n_nothing / e->n_change[ROW_ALL]);
    printf("%d jobs, %d at a time, %.0f ms of the engine a job: observations, questions and pairs alike\n", e->n_jobs,
           e->options.batch, (double)e->steps_ns / 1e6 / e->n_jobs);
}

/* What of a row falls short of the limits; true: nothing does. */
static bool is_row_enough(const struct eval *e, enum row row)
{
    bool is = true;
    int n;
    const int n_right = count_right(e->verdicts, e->n_verdicts, row, &n);
    const double area = tally_area(e->verdicts, e->n_verdicts, row, TALLY_ANY);
    for (int c = 0; c < TALLY_COLUMNS; c++)
        if (e->n_right[row][c] < limits.observation[c] * e->n[row]) {
            printf("required: %s %.1f %% (%s)\n", column_names[c], 100 * limits.observation[c], row_names[row]);
            is = false;
        }
    if (n == 0 || n_right < limits.yes_no * n) {
        printf("required: yes/no %.1f %% (%s)\n", 100 * limits.yes_no, row_names[row]);
        is = false;
    }
    if (area < limits.area) {
        printf("required: AUC %.4f (%s)\n", limits.area, row_names[row]);
        is = false;
    }
    return is;
}

static bool is_enough(const struct eval *e)
{
    static const enum row rows[] = {ROW_ALL, ROW_DAY, ROW_NIGHT, ROW_RAIN};
    bool is = true;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (e->n[rows[i]] > 0 || rows[i] == ROW_ALL)
            is = is_row_enough(e, rows[i]) && is;
    return is;
}

/* ---- the run ------------------------------------------------------------------------------------------------------------ */

static int run(struct eval *e, struct err *err)
{
    static const char yes_no[] = "{\"enum\":[\"yes\",\"no\"]}";
    const struct config_camera camera = {.prompt = (char *)"Describe what this camera sees.",
                                         .schema_text = (char *)config_default_schema};
    int rc = en_schema_compile(config_default_schema, strlen(config_default_schema), &e->observation, err);
    if (rc == 0)
        rc = en_schema_compile(yes_no, strlen(yes_no), &e->yes_no, err);
    if (rc == 0 && e->has_codec)
        rc = codec_loop_open(WIDTH_PX, HEIGHT_PX, 1 / CODEC_STEP_S, e->quality, &e->codec, err);
    if (rc == 0)
        rc = en_open(&e->options, &e->engine, err);
    if (rc != 0)
        return rc;
    assert(scene_words_topics() <= MAX_TOPICS);
    const size_t most = (size_t)e->n_scenes * (size_t)e->n_questions + 1;
    e->system = worker_system_text(&camera);
    e->verdicts = calloc(most, sizeof *e->verdicts);
    e->blind = calloc(most, sizeof *e->blind);
    if (!e->system || !e->verdicts || !e->blind)
        return err_set(err, ERR_NOMEM, "out of memory");
    for (int i = 0; i < MAX_BATCH; i++)
        e->asked[i].is_free = true;
    for (int i = 0; rc == 0 && i < e->n_scenes; i++) {
        rc = ask_scene(e, i, err);
        if (rc == 0 && i % 100 == 99)
            fprintf(stderr, "%d of %d scenes\n", i + 1, e->n_scenes);
    }
    for (int i = 0; rc == 0 && i < e->options.batch;) { /* not while en_pending: the last results may lie there already */
        if (e->asked[i].is_free)
            i++;
        else
            rc = collect(e, err);
    }
    if (rc != 0)
        return rc;
    tally_sort(e->verdicts, e->n_verdicts);
    tally_blind(e->verdicts, e->n_verdicts, e->blind);
    tally_sort(e->blind, e->n_verdicts);
    print_table(e);
    print_topics(e);
    print_rest(e);
    return 0;
}

static const struct cli_command self = {
    .name = "eval_model", .usage = "-m MODEL -v VISION [options]", .help = "how often a model is right about rendered scenes"};

/* The daemon's own defaults stand, as far as they touch what is answered. */
static int parse(int argc, char **argv, struct eval *e, const char **ret_json)
{
    struct model_args model = {.device = "auto", .kv = "q8_0"};
    const char *codec = NULL;
    int64_t n_scenes = 2000, n_questions = 4, n_words = 1, n_pairs = -1, seed = -1, batch = 8, quality = -1;
    e->yard = -1;
    const struct cli_option options[] = {
        MODEL_ARGS_OPTIONS(&model),
        {"scenes", NULL, CLI_INT, &n_scenes, 1, 1000000, "N", "how many; 2000"},
        {"seed", NULL, CLI_INT, &seed, 0, INT64_MAX, "N", "other scenes than those without it"},
        {"yard", NULL, CLI_INT, &e->yard, 0, INT64_MAX, "N", "the yard of this seed, a look every two seconds"},
        {"questions", NULL, CLI_INT, &n_questions, 0, MAX_QUESTIONS, "N", "for yes or no, of a scene; 4"},
        {"words", NULL, CLI_INT, &n_words, 0, MAX_QUESTIONS, "N", "questions for a word, of a scene; 1"},
        {"pairs", NULL, CLI_INT, &n_pairs, 0, 1000000, "N", "of how many scenes it is asked what changed; a quarter of them"},
        {"codec", NULL, CLI_TEXT, &codec, 0, 0, "h264", "pictures go through this encoder"},
        {"quality", NULL, CLI_INT, &quality, CODEC_QUALITY_MIN, CODEC_QUALITY_MAX, "N", "of --codec"},
        {"batch", NULL, CLI_INT, &batch, 1, MAX_BATCH, "N", "questions at a time; 8"},
        {"json", NULL, CLI_TEXT, ret_json, 0, 0, "FILE", "what was seen of each scene, and every wrong answer, a line each"},
        {"require", NULL, CLI_FLAG, &e->is_required, 0, 0, NULL, "status 1 where a shipped model's limits are not reached"},
    };
    struct cli_list words;
    int status = cli_parse(&self, argc, argv, options, sizeof options / sizeof *options, &words);
    if (status != 0)
        return status;
    if (words.n > 0)
        return cli_fail(&self, EX_USAGE, "\"%s\" is no option", words.items[0]);
    if (!model.model || !model.vision)
        return cli_fail(&self, EX_USAGE, "-m MODEL and -v VISION are needed");
    if (codec && strcmp(codec, "h264") != 0)
        return cli_fail(&self, EX_USAGE, "--codec is h264, not \"%s\"", codec);
    if (quality >= 0 && !codec)
        return cli_fail(&self, EX_USAGE, "--quality goes with --codec");
    if ((status = model_args_apply(&self, &model, &e->options)) != 0)
        return status;
    e->n_scenes = (int)n_scenes;
    e->n_questions = (int)n_questions;
    e->n_words = (int)n_words;
    e->n_pairs = n_pairs < 0 ? e->n_scenes / 4 : (int)n_pairs;
    e->seed = seed < 0 ? SCENE_SEED : rng_at(SCENE_SEED, (uint64_t)seed);
    e->has_codec = codec != NULL;
    e->quality = quality < 0 ? CODEC_QUALITY_DEFAULT : (int)quality;
    e->options.batch = e->options.sessions = (int)batch;
    return 0;
}

int main(int argc, char **argv)
{
    static struct eval e = {.options = {.context_tokens = 1024}};
    const char *json = NULL;
    struct err err = {0};
    int status = parse(argc, argv, &e, &json);
    if (status != 0)
        return status;
    if (json && !(e.json = fopen(json, "we"))) {
        perror(json);
        return EX_CANTCREAT;
    }
    if (run(&e, &err) != 0)
        status = cli_error(&self, &err);
    else if (e.is_required && !is_enough(&e))
        status = 1;
    if (e.json) {
        const bool is_cut = ferror(e.json);
        if (fclose(e.json) != 0 || is_cut) {
            fprintf(stderr, "eval_model: %s was not written to its end\n", json);
            status = EX_IOERR;
        }
    }
    en_schema_unref(e.observation);
    en_schema_unref(e.yes_no);
    en_close(e.engine);
    codec_loop_close(e.codec);
    free(e.system);
    free(e.verdicts);
    free(e.blind);
    return status;
}
