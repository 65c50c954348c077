/*
 * Logits of small random models against the official implementation (transformers, float32): text, pictures, positions, on every
 * device, in one piece and in several. Fixtures and their generator: tests/golden/.
 */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/synthetic.h"
#include "tests/support/golden.h"

#define NMSE_MAX   1e-10 /* the reference's own noise against float64 is up to 2e-11 and stored beside it */
#define SURE_GAP   1e-3F /* where the two largest logits are further apart the first must be the same */
#define CHUNKS_MAX 8

/* What came out of en_run, held against one case. */
struct seen {
    const struct golden *golden;
    const struct golden_case *want;
    float *logits; /* [n_rows, V] of the stored rows */
    int32_t n_seen, n_wrong_top, n_wrong_pos, n_unsure;
};

static void on_logits(void *ctx, struct en_session *session, int32_t index, bool is_image, const int32_t pos[3],
                      const float *logits)
{
    struct seen *s = ctx;
    const struct golden_case *c = s->want;
    const int32_t V = s->golden->text.n_vocab;

    assert_in_range(index, 0, c->n_tokens - 1);
    assert_int_equal(is_image, c->ids[index] < 0);
    s->n_seen++;
    for (int axis = 0; axis < 3; axis++)
        s->n_wrong_pos += pos[axis] != c->pos[axis * c->n_tokens + index];
    int32_t top = 0;
    for (int32_t v = 1; v < V; v++)
        top = logits[v] > logits[top] ? v : top;
    if (c->gap[index] > SURE_GAP)
        s->n_wrong_top += top != c->top[index];
    else
        s->n_unsure++;
    for (int32_t r = 0; r < c->n_rows; r++)
        if (c->rows[r] == index)
            memcpy(s->logits + (size_t)r * (size_t)V, logits, (size_t)V * sizeof(float));
}

struct rig {
    struct golden golden;
    struct en_engine *engine;
    struct en_image *images[GOLDEN_PICTURES_MAX];
};

static void rig_open(struct rig *r, const char *model, const char *device)
{
    struct err err = {0};
    char text_path[300], vision_path[300];
    golden_load(model, &r->golden);
    const struct golden *g = &r->golden;
    const struct synthetic_file file = {.seed = g->seed, .dtype = KN_F32};
    const char *dir = test_temp_dir();
    snprintf(text_path, sizeof text_path, "%s/text.gguf", dir);
    snprintf(vision_path, sizeof vision_path, "%s/mmproj.gguf", dir);
    assert_ok(synthetic_write_model(text_path, &g->text, &file, &err), &err);
    assert_ok(synthetic_write_vision(vision_path, &g->vision, &file, &err), &err);
    const struct en_options options = {.model_path = text_path,
                                       .vision_path = vision_path,
                                       .device = device,
                                       .threads = 2,
                                       .kv = EN_KV_F32,
                                       .context_tokens = 1024,
                                       .sessions = 2,
                                       .batch = 2,
                                       .step_rows = 160,
                                       .max_pixels = 320 * 416,
                                       .validate = true};
    r->engine = NULL;
    assert_ok(en_open(&options, &r->engine, &err), &err);

    for (int32_t i = 0; i < g->n_pictures; i++) {
        const struct golden_picture *p = &g->pictures[i];
        uint8_t *rgb = malloc((size_t)p->width_px * (size_t)p->height_px * 3);
        golden_paint(p->width_px, p->height_px, p->seed, rgb);
        const struct image_view view = {.format = IMAGE_RGB24,
                                        .width_px = p->width_px,
                                        .height_px = p->height_px,
                                        .plane = {rgb},
                                        .stride_bytes = {(size_t)p->width_px * 3}};
        r->images[i] = NULL;
        assert_ok(en_image_encode(r->engine, &view, 0, &r->images[i], &err), &err);
        assert_int_equal(en_image_tokens(r->images[i]), p->n_tokens);
        free(rgb);
    }
}

static void rig_close(struct rig *r)
{
    for (int32_t i = 0; i < r->golden.n_pictures; i++)
        en_image_unref(r->images[i]);
    en_close(r->engine);
    golden_free(&r->golden);
}

/* The case's ids as chunks: runs of text, and pictures. */
static int32_t chunks_of(const struct rig *r, const struct golden_case *c, struct en_chunk chunks[CHUNKS_MAX])
{
    int32_t n = 0;
    for (int32_t i = 0; i < c->n_tokens;) {
        assert_true(n < CHUNKS_MAX);
        if (c->ids[i] < 0) {
            const int32_t k = -1 - c->ids[i];
            assert_in_range(k, 0, r->golden.n_pictures - 1);
            chunks[n++] = (struct en_chunk){.image = r->images[k]};
            i += r->golden.pictures[k].n_tokens;
        } else {
            const int32_t first = i;
            while (i < c->n_tokens && c->ids[i] >= 0)
                i++;
            chunks[n++] = (struct en_chunk){.ids = c->ids + first, .n_ids = i - first};
        }
    }
    return n;
}

/* Run one case with at most `piece` rows a step and hold it against the fixture. Returns the stored rows' logits, malloc'ed. */
static float *check_case(struct rig *r, const struct golden_case *c, const char *device, int32_t piece)
{
    struct err err = {0};
    struct en_chunk chunks[CHUNKS_MAX];
    const size_t n_logits = (size_t)c->n_rows * (size_t)r->golden.text.n_vocab;
    struct seen seen = {.golden = &r->golden, .want = c, .logits = calloc(n_logits, sizeof(float))};
    struct en_session *session = NULL;
    int32_t next = 0;

    assert_ok(en_session_open(r->engine, &session, &err), &err);
    const struct en_feed feed = {
        .session = session, .chunks = chunks, .n_chunks = chunks_of(r, c, chunks), .want = EN_WANT_ALL, .piece = piece};
    assert_ok(en_run(r->engine, &feed, 1, on_logits, &seen, &err), &err);
    for (int32_t i = 0; i < 3 * c->n_tokens; i++)
        next = c->pos[i] >= next ? c->pos[i] + 1 : next;
    assert_int_equal(en_session_tokens(session), c->n_tokens);
    assert_int_equal(en_session_position(session), next);
    en_session_close(session);

    const double nmse = test_nmse(seen.logits, c->logits, n_logits);
    print_message("%-14s %-4s %-8s %3d tokens: nmse %.1e (the reference's own %.1e), %d rows too close to call\n",
                  r->golden.text.name, device, c->name, c->n_tokens, nmse, c->nmse, seen.n_unsure);
    assert_int_equal(seen.n_seen, c->n_tokens);
    assert_int_equal(seen.n_wrong_pos, 0);
    assert_int_equal(seen.n_wrong_top, 0);
    assert_true(seen.n_unsure <= c->n_tokens / 50 + 1);
    assert_true(nmse <= NMSE_MAX);
    return seen.logits;
}

static void logits_on(const char *device)
{
    for (int m = 0; golden_models[m]; m++) {
        struct rig r;
        rig_open(&r, golden_models[m], device);
        for (int32_t i = 0; i < r.golden.n_cases; i++)
            free(check_case(&r, &r.golden.cases[i], device, 0));
        rig_close(&r);
    }
}

static void logits_are_the_official_ones_on_cpu(void **state)
{
    logits_on(test_device());
}

static void logits_are_the_official_ones_on_ref(void **state)
{
    logits_on("ref");
}

/* The long case in pieces of 37 rows: across the borders of pages, chunks and steps, equal to one piece to the bit. */
static void pieces_are_the_whole(void **state)
{
    static const char *const models[] = {"dense3", "moe4"};
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        struct rig r;
        rig_open(&r, models[m], test_device());
        const struct golden_case *c = &r.golden.cases[r.golden.n_cases - 1];
        float *whole = check_case(&r, c, test_device(), 0), *pieces = check_case(&r, c, test_device(), 37);
        assert_memory_equal(whole, pieces, (size_t)c->n_rows * (size_t)r.golden.text.n_vocab * sizeof(float));
        free(whole);
        free(pieces);
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_the_official_ones_on_cpu),
        cmocka_unit_test(logits_are_the_official_ones_on_ref),
        cmocka_unit_test(pieces_are_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
