/*
 * lessons - what the shipped model is trained on: rendered pictures at the size that the model sees, with their truth and its words, as a stream.
 *
 *   lessons [--seed N] [--start N] [--count N] [--pairs PERMILLE] [--size WxH]
 *
 * Lesson i is a function of (seed, i) alone, so a training that stops goes on where it was. A block of BLOCK lessons shares a scene: opening
 * one costs as much as drawing ten frames. Each lesson on standard output is, little-endian:
 *
 *   u32 n_pictures, u32 width_px, u32 height_px, u32 n_text; n_pictures times RGB24 [height, width, 3]; n_text bytes of JSON:
 *   {"truth":{...},"before":{...},"summary":"...","observation":"...","change":"...","questions":[{"topic","ask","answer","kind"}]}
 *
 * "before" and "change" are there where there are two pictures: the first is the earlier one. --size: of the pictures handed out (320x192: what 16:9
 * cameras become under the model's limit of 65,536 pixels). Pictures are drawn at the sizes that cameras have and resized by the engine's own resizer.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/rng.h"
#include "engine/image.h"
#include "pipeline/scene.h"
#include "pipeline/scene_words.h"

#define BLOCK      16
#define QUESTIONS  6
#define TEXT_MAX   16384
#define SURVEYED   400 /* frames that tell how often what a topic is about is so */
#define TOPICS_MAX 64

struct lessons {
    uint64_t seed, start, count;
    int pairs_permille, width_px, height_px;
    struct image_resizer *resizer;
    uint8_t *drawn, *picture[2];
    double keep[TOPICS_MAX][2]; /* [topic][is_so]: how many of such questions are asked */
};

static int number(const char *text, uint64_t *ret_value)
{
    char *end;
    errno = 0;
    *ret_value = strtoull(text, &end, 10);
    return errno || end == text || *end ? -1 : 0;
}

static int parse(int argc, char **argv, struct lessons *l)
{
    for (int i = 1; i < argc; i += 2) {
        uint64_t v = 0;
        if (i + 1 == argc)
            return -1;
        if (strcmp(argv[i], "--size") == 0) {
            if (sscanf(argv[i + 1], "%dx%d", &l->width_px, &l->height_px) != 2 || l->width_px < 32 || l->height_px < 32)
                return -1;
        } else if (number(argv[i + 1], &v) != 0) {
            return -1;
        } else if (strcmp(argv[i], "--seed") == 0) {
            l->seed = v;
        } else if (strcmp(argv[i], "--start") == 0) {
            l->start = v;
        } else if (strcmp(argv[i], "--count") == 0) {
            l->count = v;
        } else if (strcmp(argv[i], "--pairs") == 0 && v <= 1000) {
            l->pairs_permille = (int)v;
        } else {
            return -1;
        }
    }
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
 * in at least about one of four questions of a topic. Measured on frames that depend on nothing else.
 */
static int survey(struct lessons *l, struct err *err)
{
    int n[TOPICS_MAX][2] = {{0}};
    struct scene *scene = NULL;
    int rc = 0;
    for (int i = 0; rc == 0 && i < SURVEYED; i++) {
        struct rng r = {rng_hash(&i, sizeof i), 0};
        struct scene_truth truth;
        struct scene_question q;
        if (i % BLOCK == 0) {
            scene_close(scene);
            scene = NULL;
            if ((rc = scene_open("yard", rng_next(&r) >> 16, 341, 192, &scene, err)) != 0)
                break;
        }
        scene_draw(scene, (uint64_t)i, rng_unit(&r) * 86400, l->drawn, 341 * 3, &truth);
        for (int t = 0; t < scene_words_topics() && t < TOPICS_MAX; t++)
            if (scene_words_question(&truth, t, rng_next(&r), &q))
                n[t][q.is_so]++;
    }
    scene_close(scene);
    for (int t = 0; t < TOPICS_MAX; t++)
        for (int so = 0; so < 2; so++)
            l->keep[t][so] = fmin(1, fmax(0.04, 3.0 * (n[t][!so] + 1) / (n[t][so] + 1)));
    return rc;
}

static json_t *questions_json(const struct lessons *l, const struct scene_truth *truth, struct rng *r)
{
    json_t *list = json_array();
    for (int tries = 0; tries < 24 * QUESTIONS && (int)json_array_size(list) < QUESTIONS; tries++) {
        struct scene_question q;
        const int topic = (int)rng_below(r, (uint64_t)scene_words_topics());
        if (scene_words_question(truth, topic, rng_next(r), &q) &&
            (q.kind != SCENE_ANSWER_YES_NO || rng_unit(r) < l->keep[topic][q.is_so]))
            json_array_append_new(list,
                                  json_pack("{s:s,s:s,s:s,s:s}", "topic", scene_words_topic_name(topic), "ask", q.ask, "answer",
                                            q.answer, "kind", q.kind == SCENE_ANSWER_YES_NO ? "yes_no" : "word"));
    }
    return list;
}

static int write_lesson(struct lessons *l, const struct scene_truth *before, const struct scene_truth *truth, struct rng *r)
{
    char summary[SCENE_SUMMARY_MAX + 1], change[SCENE_SUMMARY_MAX + 1], observation[512];
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
        return -1;
    const uint32_t head[4] = {before ? 2 : 1, (uint32_t)l->width_px, (uint32_t)l->height_px, (uint32_t)strlen(text)};
    const size_t n_bytes = (size_t)l->width_px * (size_t)l->height_px * 3;
    bool ok = fwrite(head, sizeof head, 1, stdout) == 1;
    if (before)
        ok = ok && fwrite(l->picture[0], n_bytes, 1, stdout) == 1;
    ok = ok && fwrite(l->picture[1], n_bytes, 1, stdout) == 1 && fwrite(text, strlen(text), 1, stdout) == 1;
    free(text);
    return ok ? 0 : -1;
}

/* The sizes that cameras have in this training; the first is what a synthetic camera draws for a watch of 65,536 pixels. */
static const struct {
    int width_px, height_px, permille;
} sizes[] = {{341, 192, 700}, {640, 360, 200}, {480, 270, 100}};

static int run(struct lessons *l, struct err *err)
{
    struct scene *scene = NULL;
    int rc = image_resizer_create(&l->resizer, err), w = 0, h = 0;
    if (rc == 0)
        rc = survey(l, err);
    uint64_t block = UINT64_MAX;
    for (uint64_t i = l->start; rc == 0 && i < l->start + l->count; i++) {
        struct rng r = {rng_at(l->seed, 2 * i), 0};
        struct scene_truth truth, before;
        if (i / BLOCK != block) {
            block = i / BLOCK;
            struct rng b = {rng_at(l->seed, 2 * block + 1), 0};
            int pick = (int)rng_below(&b, 1000), k = 0;
            while (pick >= sizes[k].permille)
                pick -= sizes[k++].permille;
            w = sizes[k].width_px;
            h = sizes[k].height_px;
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
        if (rc == 0 && write_lesson(l, is_pair ? &before : NULL, &truth, &r) != 0) {
            rc = errno == EPIPE ? 1 : err_set(err, ERR_IO, "cannot write a lesson: %s", strerror(errno));
            break;
        }
    }
    scene_close(scene);
    return rc;
}

int main(int argc, char **argv)
{
    struct lessons l = {.seed = 1, .count = UINT64_MAX / 2, .width_px = 320, .height_px = 192};
    if (parse(argc, argv, &l) != 0) {
        fprintf(stderr, "usage: lessons [--seed N] [--start N] [--count N] [--pairs PERMILLE] [--size WxH]\n");
        return 64;
    }
    struct err err = {0};
    int rc = -1;
    l.drawn = malloc((size_t)640 * 360 * 3);
    for (int i = 0; i < 2; i++)
        l.picture[i] = malloc((size_t)l.width_px * (size_t)l.height_px * 3);
    if (l.drawn && l.picture[0] && l.picture[1])
        rc = run(&l, &err);
    if (rc < 0)
        fprintf(stderr, "lessons: %s\n", err.text[0] ? err.text : "out of memory");
    image_resizer_free(l.resizer);
    free(l.drawn);
    free(l.picture[0]);
    free(l.picture[1]);
    return rc < 0 ? 70 : 0;
}
