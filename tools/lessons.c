/*
 * lessons - what the shipped model is trained on: rendered pictures at the size that the model sees, with their truth and its words, as a stream.
 *
 *   lessons [options]    (--help lists them)
 *
 * Lesson i is a function of seed, i, size and pairs alone, so a training that stops goes on where it was. A block of BLOCK lessons shares a scene: opening
 * one costs as much as drawing ten frames. Blocks are painted by as many threads as asked for and written in their order. Each lesson on standard output is,
 * little-endian:
 *
 *   u32 n_pictures, u32 width_px, u32 height_px, u32 n_text; n_pictures times RGB24 [height, width, 3]; n_text bytes of JSON:
 *   {"truth":{...},"before":{...},"summary":"...","observation":"...","change":"...","questions":[{"topic","ask","answer","kind"}]}
 *
 * "before" and "change" are there where there are two pictures: the first is the earlier one. --size: of the pictures handed out (512x288: what the model makes of every
 * 16:9 camera). They are drawn 16:9 as high as that or higher, as cameras are, and resized by the engine's own resizer.
 */
#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "appliance/cli.h"
#include "base/rng.h"
#include "engine/image.h"
#include "pipeline/scene.h"
#include "pipeline/scene_words.h"
#include "tools/moment.h"

#define BLOCK            16
#define QUESTIONS        6
#define TEXT_MAX         16384
#define SURVEY_SCENES    400 /* whose frames tell how often what a topic is about is so; those of one scene are much alike */
#define SURVEY_FRAMES    4   /* of each */
#define SURVEY_WIDTH_PX  341
#define SURVEY_HEIGHT_PX 192
#define SURVEY_SEED      UINT64_C(0x5eed5a1e)
#define RAREST           0.08 /* a topic that is accepted less often than this is not drawn more often still */
#define TOPICS_MAX       64
#define THREADS_MAX      256

struct lessons {
    uint64_t seed, start, count;
    int pairs_permille, width_px, height_px, n_threads;
    double keep[TOPICS_MAX][2]; /* [topic][is_so]: how many of such questions are asked; written before lessons are painted */
    double upto[TOPICS_MAX];    /* [topic]: how often topics 0 .. topic are drawn, of upto[the last] times; likewise */
    pthread_mutex_t lock;
    pthread_cond_t is_next;
    uint64_t i_scene;          /* under lock: of the survey, the next to be looked at */
    uint64_t i_block, written; /* under lock: the next to be painted; those before `written` are */
    int rc;                    /* under lock: the first that went wrong, and what it was; everybody stops */
    struct err err;
};

/* One thread's own. */
struct painter {
    struct lessons *lessons;
    pthread_t thread;
    struct image_resizer *resizer;
    uint8_t *drawn, *picture[2];
    int n[TOPICS_MAX][2]; /* of the survey: questions of a topic that are not so, and that are */
    bool is_word[TOPICS_MAX];
};

static const struct cli_command self = {
    .name = "lessons", .usage = "[options]", .help = "rendered pictures with their truth and words, as a stream"};

static int parse(int argc, char **argv, struct lessons *l)
{
    int64_t seed = 1, start = 0, count = INT64_MAX / 2, pairs = 0, threads = 1;
    const char *size = "512x288";
    const struct cli_option options[] = {
        {"seed", NULL, CLI_INT, &seed, 0, INT64_MAX, "N", "of all lessons; 1"},
        {"start", NULL, CLI_INT, &start, 0, INT64_MAX / 2, "N", "the first lesson; 0"},
        {"count", NULL, CLI_INT, &count, 0, INT64_MAX / 2, "N", "how many; without end"},
        {"pairs", NULL, CLI_INT, &pairs, 0, 1000, "PERMILLE", "how many of 1000 lessons have two pictures; 0"},
        {"size", NULL, CLI_TEXT, &size, 0, 0, "WxH", "of the pictures handed out; 512x288"},
        {"threads", NULL, CLI_INT, &threads, 1, THREADS_MAX, "N", "that paint; 1"},
    };
    struct cli_list words;
    const int status = cli_parse(&self, argc, argv, options, sizeof options / sizeof *options, &words);
    if (status != 0)
        return status;
    if (words.n > 0)
        return cli_fail(&self, EX_USAGE, "\"%s\" is no option", words.items[0]);
    int n_read = 0;
    if (sscanf(size, "%5dx%5d%n", &l->width_px, &l->height_px, &n_read) != 2 || size[n_read] || l->width_px < 32 ||
        l->height_px < 32 || l->width_px > 4096 || l->height_px > 2160)
        return cli_fail(&self, EX_USAGE, "--size is WxH from 32x32 to 4096x2160, not \"%s\"", size);
    l->seed = (uint64_t)seed;
    l->start = (uint64_t)start;
    l->count = (uint64_t)count;
    l->pairs_permille = (int)pairs;
    l->n_threads = (int)threads;
    return 0;
}

/* Draw a frame and bring it to the size that the model sees. */
static int take(struct painter *p, struct scene *scene, int width_px, int height_px, struct moment when, uint8_t *out,
                struct scene_truth *ret_truth, struct err *err)
{
    scene_draw(scene, when.i_frame, when.t_s, p->drawn, (size_t)width_px * 3, ret_truth);
    const struct image_view view = {.format = IMAGE_RGB24,
                                    .width_px = width_px,
                                    .height_px = height_px,
                                    .plane = {p->drawn},
                                    .stride_bytes = {(size_t)width_px * 3}};
    return image_resizer_run(p->resizer, &view, p->lessons->width_px, p->lessons->height_px, out, err);
}

static json_t *colours_json(unsigned colours)
{
    json_t *list = json_array();
    for (int c = 0; c < SCENE_N_COLOURS; c++)
        if (colours >> c & 1)
            json_array_append_new(list, json_string(scene_colour_name((enum scene_colour)c)));
    return list;
}

/* As printed, and which colours can be asked for that nobody wears and that no vehicle has. */
static json_t *truth_json(const struct scene_truth *truth)
{
    char text[TEXT_MAX];
    scene_truth_print(truth, text, sizeof text);
    json_t *root = json_loads(text, 0, NULL);
    json_object_set_new(root, "not_worn", colours_json(scene_words_absent_colours(truth, SCENE_CLASS_PEOPLE)));
    json_object_set_new(root, "not_painted", colours_json(scene_words_absent_colours(truth, SCENE_CLASS_VEHICLES)));
    return root;
}

/* ---- the survey --------------------------------------------------------------------------------------------------------- */

/* The first error is kept, and ends everything. */
static void fail(struct lessons *l, int rc, const struct err *err)
{
    pthread_mutex_lock(&l->lock);
    if (l->rc == 0) {
        l->rc = rc;
        l->err = *err;
    }
    pthread_cond_broadcast(&l->is_next);
    pthread_mutex_unlock(&l->lock);
}

/* The next number of a row of things to do that ends before `end`; false: all are done, or something went wrong. */
static bool take_next(struct lessons *l, uint64_t *next, uint64_t end, uint64_t *ret_i)
{
    pthread_mutex_lock(&l->lock);
    const bool is = l->rc == 0 && *next < end;
    if (is)
        *ret_i = (*next)++;
    pthread_mutex_unlock(&l->lock);
    return is;
}

static void *survey(void *arg)
{
    struct painter *p = arg;
    struct lessons *l = p->lessons;
    struct err err = {0};
    uint64_t i;
    while (take_next(l, &l->i_scene, SURVEY_SCENES, &i)) {
        struct rng r = {rng_at(SURVEY_SEED, i), 0};
        struct scene *scene;
        struct scene_truth truth;
        struct scene_question q;
        const int rc = scene_open("yard", rng_next(&r) >> 16, SURVEY_WIDTH_PX, SURVEY_HEIGHT_PX, &scene, &err);
        if (rc != 0) {
            fail(l, rc, &err);
            break;
        }
        for (int k = 0; k < SURVEY_FRAMES; k++) {
            const struct moment now = moment_any(&r);
            scene_draw(scene, now.i_frame, now.t_s, p->drawn, SURVEY_WIDTH_PX * 3, &truth);
            for (int t = 0; t < scene_words_topics(); t++)
                if (scene_words_question(&truth, t, rng_next(&r), &q)) {
                    p->is_word[t] = q.kind == SCENE_ANSWER_WORD;
                    p->n[t][q.is_so]++;
                }
        }
        scene_close(scene);
    }
    return NULL;
}

/*
 * Fire is rare, parked cars are not: what is seldom so, or seldom not, is asked about more often where it is, so that either answer is the right one
 * in about half of the questions of a topic: whoever is unsure then leans to neither. And a topic whose questions are seldom accepted for that is drawn the more often, so that what
 * matters most is not asked least. Measured on frames that depend on nothing else.
 */
static void balance(struct lessons *l, const struct painter *painters)
{
    double sum = 0;
    for (int t = 0; t < scene_words_topics(); t++) {
        int n[2] = {0};
        bool is_word = false;
        for (int i = 0; i < l->n_threads; i++) {
            n[0] += painters[i].n[t][0];
            n[1] += painters[i].n[t][1];
            is_word |= painters[i].is_word[t];
        }
        double accepted = 0;
        for (int so = 0; so < 2; so++) {
            l->keep[t][so] = is_word ? 1 : fmin(1, (n[!so] + 1.0) / (n[so] + 1.0));
            accepted += l->keep[t][so] * n[so] / (SURVEY_SCENES * SURVEY_FRAMES);
        }
        sum += 1 / fmax(accepted, RAREST);
        l->upto[t] = sum;
    }
}

/* ---- a lesson ----------------------------------------------------------------------------------------------------------- */

static bool is_asked(const json_t *questions, const char *ask)
{
    size_t i;
    const json_t *q;
    json_array_foreach(questions, i, q)
    {
        if (strcmp(json_string_value(json_object_get(q, "ask")), ask) == 0)
            return true;
    }
    return false;
}

static json_t *questions_json(const struct lessons *l, const struct scene_truth *truth, struct rng *r)
{
    json_t *list = json_array();
    const int last = scene_words_topics() - 1;
    for (int tries = 0; tries < 24 * QUESTIONS && (int)json_array_size(list) < QUESTIONS; tries++) {
        struct scene_question q;
        const double place = rng_unit(r) * l->upto[last];
        int topic = 0;
        while (topic < last && l->upto[topic] <= place)
            topic++;
        if (scene_words_question(truth, topic, rng_next(r), &q) && rng_unit(r) < l->keep[topic][q.is_so] &&
            !is_asked(list, q.ask))
            json_array_append_new(list,
                                  json_pack("{s:s,s:s,s:s,s:s}", "topic", scene_words_topic_name(topic), "ask", q.ask, "answer",
                                            q.answer, "kind", q.kind == SCENE_ANSWER_YES_NO ? "yes_no" : "word"));
    }
    return list;
}

static int write_lesson(const struct painter *p, const struct scene_truth *before, const struct scene_truth *truth,
                        struct rng *r, FILE *out, struct err *err)
{
    const struct lessons *l = p->lessons;
    char summary[SCENE_SUMMARY_MAX + 1], change[SCENE_SUMMARY_MAX + 1], observation[SCENE_OBSERVATION_MAX + 1];
    scene_words_summary(truth, summary);
    scene_words_observation(truth, observation, sizeof observation);
    json_t *root = json_pack("{s:o,s:s,s:s,s:o}", "truth", truth_json(truth), "summary", summary, "observation", observation,
                             "questions", questions_json(l, truth, r));
    if (root && before) {
        scene_words_change(before, truth, change);
        json_object_set_new(root, "before", truth_json(before));
        json_object_set_new(root, "change", json_string(change));
    }
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text)
        return err_set(err, ERR_NOMEM, "out of memory for the words of a lesson");
    const uint32_t head[4] = {before ? 2 : 1, (uint32_t)l->width_px, (uint32_t)l->height_px, (uint32_t)strlen(text)};
    const size_t n_bytes = (size_t)l->width_px * (size_t)l->height_px * 3;
    bool ok = fwrite(head, sizeof head, 1, out) == 1;
    if (before)
        ok = ok && fwrite(p->picture[0], n_bytes, 1, out) == 1;
    ok = ok && fwrite(p->picture[1], n_bytes, 1, out) == 1 && fwrite(text, strlen(text), 1, out) == 1;
    const int rc = ok ? 0 : err_set(err, ERR_NOMEM, "out of memory for a block of lessons");
    free(text);
    return rc;
}

/* How much higher than the pictures handed out those of this training's cameras are. */
static const struct {
    double times;
    int permille;
} cameras[] = {{1, 600}, {1.25, 250}, {1.875, 150}};

#define N_CAMERAS (sizeof cameras / sizeof *cameras)

/* The size of a camera's pictures. */
static void camera_size(const struct lessons *l, size_t camera, int *ret_width_px, int *ret_height_px)
{
    *ret_height_px = (int)lround(l->height_px * cameras[camera].times);
    *ret_width_px = (int)lround(*ret_height_px * 16.0 / 9);
}

/* Those lessons of a block that are asked for. */
static int paint_block(struct painter *p, uint64_t block, FILE *out, struct err *err)
{
    struct lessons *l = p->lessons;
    const uint64_t first = block * BLOCK > l->start ? block * BLOCK : l->start, asked = l->start + l->count;
    const uint64_t end = asked < (block + 1) * BLOCK ? asked : (block + 1) * BLOCK;
    struct rng b = {rng_at(l->seed, 2 * block + 1), 0};
    struct scene *scene = NULL;
    int pick = (int)rng_below(&b, 1000), w, h;
    size_t k = 0;
    while (pick >= cameras[k].permille)
        pick -= cameras[k++].permille;
    camera_size(l, k, &w, &h);
    int rc = scene_open("yard", rng_next(&b) >> 16, w, h, &scene, err);
    for (uint64_t i = first; rc == 0 && i < end; i++) {
        struct rng r = {rng_at(l->seed, 2 * i), 0};
        struct scene_truth truth, before;
        const struct moment now = moment_any(&r);
        const bool is_pair = rng_below(&r, 1000) < (uint64_t)l->pairs_permille;
        if (is_pair)
            rc = take(p, scene, w, h, moment_before(now, &r), p->picture[0], &before, err);
        if (rc == 0)
            rc = take(p, scene, w, h, now, p->picture[1], &truth, err);
        if (rc == 0)
            rc = write_lesson(p, is_pair ? &before : NULL, &truth, &r, out, err);
    }
    scene_close(scene);
    return rc;
}

/* ---- all of them -------------------------------------------------------------------------------------------------------- */

/* A block's bytes to standard output when it is its turn. Where the reader has gone, SIGPIPE ends the program here. */
static void hand_out(struct lessons *l, uint64_t block, const char *bytes, size_t n_bytes)
{
    struct err err = {0};
    pthread_mutex_lock(&l->lock);
    while (l->rc == 0 && l->written != block)
        pthread_cond_wait(&l->is_next, &l->lock);
    const bool is_over = l->rc != 0;
    pthread_mutex_unlock(&l->lock);
    if (is_over)
        return;
    if (n_bytes > 0 && (fwrite(bytes, n_bytes, 1, stdout) != 1 || fflush(stdout) != 0))
        fail(l, err_set_errno(&err, ERR_IO, "cannot write lessons"), &err);
    pthread_mutex_lock(&l->lock);
    l->written = block + 1;
    pthread_cond_broadcast(&l->is_next);
    pthread_mutex_unlock(&l->lock);
}

static void *paint(void *arg)
{
    struct painter *p = arg;
    struct lessons *l = p->lessons;
    uint64_t block;
    while (take_next(l, &l->i_block, (l->start + l->count + BLOCK - 1) / BLOCK, &block)) {
        struct err err = {0};
        char *bytes = NULL;
        size_t n_bytes = 0;
        FILE *out = open_memstream(&bytes, &n_bytes);
        int rc = out ? paint_block(p, block, out, &err) : err_set(&err, ERR_NOMEM, "out of memory for a block of lessons");
        if (out && fclose(out) != 0 && rc == 0)
            rc = err_set(&err, ERR_NOMEM, "out of memory for a block of lessons");
        if (rc == 0)
            hand_out(l, block, bytes, n_bytes);
        else
            fail(l, rc, &err);
        free(bytes);
    }
    return NULL;
}

/* `work` on every painter, the first one on this thread. */
static void run(struct lessons *l, struct painter *painters, void *(*work)(void *))
{
    int n = 1;
    struct err err = {0};
    for (; n < l->n_threads; n++)
        if (pthread_create(&painters[n].thread, NULL, work, &painters[n]) != 0) {
            fail(l, err_set(&err, ERR_NOMEM, "cannot start %d threads", l->n_threads), &err);
            break;
        }
    work(&painters[0]);
    while (--n > 0)
        pthread_join(painters[n].thread, NULL);
}

static int painter_open(struct painter *p, struct lessons *l, struct err *err)
{
    int w, h;
    camera_size(l, N_CAMERAS - 1, &w, &h);
    const size_t n_drawn = (size_t)w * (size_t)h, n_survey = (size_t)SURVEY_WIDTH_PX * SURVEY_HEIGHT_PX;
    p->lessons = l;
    p->drawn = malloc((n_drawn > n_survey ? n_drawn : n_survey) * 3);
    for (int i = 0; i < 2; i++)
        p->picture[i] = malloc((size_t)l->width_px * (size_t)l->height_px * 3);
    if (!p->drawn || !p->picture[0] || !p->picture[1])
        return err_set(err, ERR_NOMEM, "out of memory for pictures");
    return image_resizer_create(&p->resizer, err);
}

static void painter_close(struct painter *p)
{
    image_resizer_free(p->resizer);
    free(p->drawn);
    free(p->picture[0]);
    free(p->picture[1]);
}

int main(int argc, char **argv)
{
    static struct lessons l = {.lock = PTHREAD_MUTEX_INITIALIZER, .is_next = PTHREAD_COND_INITIALIZER};
    static struct painter painters[THREADS_MAX];
    const int status = parse(argc, argv, &l);
    if (status != 0)
        return status;
    assert(scene_words_topics() <= TOPICS_MAX);
    l.i_block = l.written = l.start / BLOCK;
    for (int i = 0; i < l.n_threads && l.rc == 0; i++)
        l.rc = painter_open(&painters[i], &l, &l.err);
    if (l.rc == 0)
        run(&l, painters, survey);
    if (l.rc == 0) {
        balance(&l, painters);
        run(&l, painters, paint);
    }
    for (int i = 0; i < l.n_threads; i++)
        painter_close(&painters[i]);
    return l.rc != 0 ? cli_error(&self, &l.err) : 0;
}
