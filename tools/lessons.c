/*
 * lessons - what the shipped model is trained on: rendered pictures at the size that the model sees, with their truth and its words, as a stream.
 *
 *   lessons [options]    (--help lists them)
 *
 * Lesson i is a function of (seed, i) alone, so a training that stops goes on where it was. A block of BLOCK lessons shares a scene: opening
 * one costs as much as drawing ten frames. Each lesson on standard output is, little-endian:
 *
 *   u32 n_pictures, u32 width_px, u32 height_px, u32 n_text; n_pictures times RGB24 [height, width, 3]; n_text bytes of JSON:
 *   {"truth":{...},"before":{...},"summary":"...","observation":"...","change":"...","questions":[{"topic","ask","answer","kind"}]}
 *
 * "before" and "change" are there where there are two pictures: the first is the earlier one. --size: of the pictures handed out (512x288: what the model makes of every
 * 16:9 camera). They are drawn 16:9 as high as that or higher, as cameras are, and resized by the engine's own resizer.
 */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "appliance/cli.h"
#include "base/rng.h"
#include "engine/image.h"
#include "pipeline/scene.h"
#include "pipeline/scene_words.h"

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

struct lessons {
    uint64_t seed, start, count;
    int pairs_permille, width_px, height_px;
    struct image_resizer *resizer;
    uint8_t *drawn, *picture[2];
    double keep[TOPICS_MAX][2]; /* [topic][is_so]: how many of such questions are asked */
    double upto[TOPICS_MAX];    /* [topic]: how often topics 0 .. topic are drawn, of upto[the last] times */
};

static const struct cli_command self = {
    .name = "lessons", .usage = "[options]", .help = "rendered pictures with their truth and words, as a stream"};

static int parse(int argc, char **argv, struct lessons *l)
{
    int64_t seed = 1, start = 0, count = INT64_MAX, pairs = 0;
    const char *size = "512x288";
    const struct cli_option options[] = {
        {"seed", NULL, CLI_INT, &seed, 0, INT64_MAX, "N", "of all lessons; 1"},
        {"start", NULL, CLI_INT, &start, 0, INT64_MAX, "N", "the first lesson; 0"},
        {"count", NULL, CLI_INT, &count, 0, INT64_MAX, "N", "how many; without end"},
        {"pairs", NULL, CLI_INT, &pairs, 0, 1000, "PERMILLE", "how many of 1000 lessons have two pictures; 0"},
        {"size", NULL, CLI_TEXT, &size, 0, 0, "WxH", "of the pictures handed out; 512x288"},
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
    return 0;
}

/* Draw a frame and bring it to the size that the model sees. */
static int take(struct lessons *l, struct scene *scene, int width_px, int height_px, uint64_t i_frame, double t_s, uint8_t *out,
                struct scene_truth *ret_truth, struct err *err)
{
    scene_draw(scene, i_frame, t_s, l->drawn, (size_t)width_px * 3, ret_truth);
    const struct image_view view = {.format = IMAGE_RGB24,
                                    .width_px = width_px,
                                    .height_px = height_px,
                                    .plane = {l->drawn},
                                    .stride_bytes = {(size_t)width_px * 3}};
    return image_resizer_run(l->resizer, &view, l->width_px, l->height_px, out, err);
}

static json_t *truth_json(const struct scene_truth *truth)
{
    char text[TEXT_MAX];
    scene_truth_print(truth, text, sizeof text);
    return json_loads(text, 0, NULL);
}

/*
 * Fire is rare, parked cars are not: what is seldom so, or seldom not, is asked about more often where it is, so that either answer is the right one
 * in at least about one of four questions of a topic; and a topic whose questions are seldom accepted for that is drawn the more often, so that what
 * matters most is not asked least. Measured on frames that depend on nothing else.
 */
static int survey(struct lessons *l, struct err *err)
{
    int n[TOPICS_MAX][2] = {{0}};
    bool is_word[TOPICS_MAX] = {false};
    const int n_topics = scene_words_topics();
    assert(n_topics <= TOPICS_MAX);
    for (int i = 0; i < SURVEY_SCENES; i++) {
        struct rng r = {rng_at(SURVEY_SEED, (uint64_t)i), 0};
        struct scene *scene;
        struct scene_truth truth;
        struct scene_question q;
        const int rc = scene_open("yard", rng_next(&r) >> 16, SURVEY_WIDTH_PX, SURVEY_HEIGHT_PX, &scene, err);
        if (rc != 0)
            return rc;
        for (int k = 0; k < SURVEY_FRAMES; k++) {
            const double t_s = rng_unit(&r) * 86400;
            scene_draw(scene, rng_next(&r) >> 32, t_s, l->drawn, SURVEY_WIDTH_PX * 3, &truth);
            for (int t = 0; t < n_topics; t++)
                if (scene_words_question(&truth, t, rng_next(&r), &q)) {
                    is_word[t] = q.kind == SCENE_ANSWER_WORD;
                    n[t][q.is_so]++;
                }
        }
        scene_close(scene);
    }
    double sum = 0;
    for (int t = 0; t < n_topics; t++) {
        double accepted = 0;
        for (int so = 0; so < 2; so++) {
            l->keep[t][so] = is_word[t] ? 1 : fmin(1, 3.0 * (n[t][!so] + 1) / (n[t][so] + 1));
            accepted += l->keep[t][so] * n[t][so] / (SURVEY_SCENES * SURVEY_FRAMES);
        }
        sum += 1 / fmax(accepted, RAREST);
        l->upto[t] = sum;
    }
    return 0;
}

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

/* Where the reader has gone, SIGPIPE ends the program here. */
static int write_lesson(struct lessons *l, const struct scene_truth *before, const struct scene_truth *truth, struct rng *r,
                        struct err *err)
{
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
    bool ok = fwrite(head, sizeof head, 1, stdout) == 1;
    if (before)
        ok = ok && fwrite(l->picture[0], n_bytes, 1, stdout) == 1;
    ok = ok && fwrite(l->picture[1], n_bytes, 1, stdout) == 1 && fwrite(text, strlen(text), 1, stdout) == 1;
    const int rc = ok ? 0 : err_set_errno(err, ERR_IO, "cannot write a lesson");
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

static int run(struct lessons *l, struct err *err)
{
    struct scene *scene = NULL;
    int rc = image_resizer_create(&l->resizer, err), w = 0, h = 0;
    if (rc == 0)
        rc = survey(l, err);
    uint64_t block = UINT64_MAX;
    for (uint64_t n = 0; rc == 0 && n < l->count; n++) {
        const uint64_t i = l->start + n;
        struct rng r = {rng_at(l->seed, 2 * i), 0};
        struct scene_truth truth, before;
        if (i / BLOCK != block) {
            block = i / BLOCK;
            struct rng b = {rng_at(l->seed, 2 * block + 1), 0};
            int pick = (int)rng_below(&b, 1000);
            size_t k = 0;
            while (pick >= cameras[k].permille)
                pick -= cameras[k++].permille;
            camera_size(l, k, &w, &h);
            scene_close(scene);
            scene = NULL;
            if ((rc = scene_open("yard", rng_next(&b) >> 16, w, h, &scene, err)) != 0)
                break;
        }
        const double t_s = rng_unit(&r) * 86400;
        const uint64_t i_frame = rng_next(&r) >> 32;
        const bool is_pair = rng_below(&r, 1000) < (uint64_t)l->pairs_permille;
        if (is_pair) /* seconds to some minutes apart: half of the pairs within a quarter of a minute */
            rc = take(l, scene, w, h, i_frame / 2, t_s - 2 - 300 * rng_unit(&r) * rng_unit(&r) * rng_unit(&r), l->picture[0],
                      &before, err);
        if (rc == 0)
            rc = take(l, scene, w, h, i_frame, t_s, l->picture[1], &truth, err);
        if (rc == 0)
            rc = write_lesson(l, is_pair ? &before : NULL, &truth, &r, err);
    }
    scene_close(scene);
    if (rc == 0 && fflush(stdout) != 0)
        rc = err_set_errno(err, ERR_IO, "cannot write the last lessons");
    return rc;
}

int main(int argc, char **argv)
{
    struct lessons l = {0};
    const int status = parse(argc, argv, &l);
    if (status != 0)
        return status;
    struct err err = {0};
    int rc = -1, w, h;
    camera_size(&l, N_CAMERAS - 1, &w, &h);
    const size_t n_drawn = (size_t)w * (size_t)h, n_survey = (size_t)SURVEY_WIDTH_PX * SURVEY_HEIGHT_PX;
    l.drawn = malloc((n_drawn > n_survey ? n_drawn : n_survey) * 3);
    for (int i = 0; i < 2; i++)
        l.picture[i] = malloc((size_t)l.width_px * (size_t)l.height_px * 3);
    if (l.drawn && l.picture[0] && l.picture[1])
        rc = run(&l, &err);
    else
        rc = err_set(&err, ERR_NOMEM, "out of memory for pictures");
    image_resizer_free(l.resizer);
    free(l.drawn);
    free(l.picture[0]);
    free(l.picture[1]);
    return rc < 0 ? cli_error(&self, &err) : 0;
}
