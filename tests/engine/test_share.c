/*
 * A model on two devices: the same logits as on one but for the order of sums, the same promises about pieces, companies and forks to the bit, and plain words for what cannot be shared.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "engine/share.h"
#include "engine/synthetic.h"
#include "tests/support/test.h"

/* The device of these tests, and two of it. */
#define ONE test_device()
static const char *two_of_it(void)
{
    static char name[64];
    snprintf(name, sizeof name, "%s+%s", test_device(), test_device());
    return name;
}
#define TWO two_of_it()

/* Tied and dense; experts apart and merged, with a head of their own; three groups of value heads for each key head. */
static const struct {
    const char *shape;
    int32_t kv_heads, v_heads;
    bool merges;
    enum kn_dtype dtype;
    double most; /* of the logits' spread */
} models[] = {
    {"tiny-dense", 0, 0, false, KN_F32, 1e-4},
    {"tiny-moe", 2, 0, false, KN_F32, 1e-4},
    {"tiny-moe", 2, 0, true, KN_F32, 1e-4},
    {"tiny-wide", 0, 0, false, KN_Q8_0, 2e-2}, /* eight-bit activations: a last bit of a sum may make another one */
    {"tiny-wide-moe", 0, 0, false, KN_BF16, 2e-3},
};
#define N_MODELS ((int)(sizeof models / sizeof *models))

static char paths[N_MODELS][512], vision_path[512], odd_path[512];

static int write_model(int i, const char *path, int32_t kv_heads)
{
    struct synthetic s;
    struct err err = {0};
    const struct synthetic_file file = {.seed = 3, .dtype = models[i].dtype, .merge_experts = models[i].merges};
    if (synthetic_parse(models[i].shape, &s, &err) != 0)
        return -1;
    if (kv_heads)
        s.shape.n_head_kv = kv_heads;
    const int rc = synthetic_write_model(path, &s.shape, &file, &err);
    if (rc == 0 && i == 0 && synthetic_write_vision(vision_path, &s.vision, &file, &err) != 0)
        return -1;
    synthetic_release(&s);
    if (rc != 0)
        print_message("%s\n", err.text);
    return rc;
}

static int write_models(void **state)
{
    const char *dir = test_temp_dir();
    int rc = 0;
    snprintf(vision_path, sizeof vision_path, "%s/mmproj.gguf", dir);
    snprintf(odd_path, sizeof odd_path, "%s/odd.gguf", dir);
    for (int i = 0; i < N_MODELS && rc == 0; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/%d.gguf", dir, i);
        rc = write_model(i, paths[i], models[i].kv_heads);
    }
    return rc ? rc : write_model(1, odd_path, 1);
}

static struct en_options options_of(int model, const char *device)
{
    return (struct en_options){.model_path = paths[model],
                               .vision_path = model == 0 ? vision_path : NULL,
                               .device = device,
                               .threads = 1,
                               .kv = EN_KV_F32,
                               .context_tokens = 512,
                               .sessions = 4,
                               .step_rows = 64,
                               .validate = true};
}

static struct en_engine *open_engine(int model, const char *device)
{
    const struct en_options o = options_of(model, device);
    struct en_engine *e = NULL;
    struct err err = {0};
    assert_ok(en_open(&o, &e, &err), &err);
    return e;
}

/* ---- logits ---------------------------------------------------------------------------------------------------------------------- */

#define ROWS_MAX 200

struct rows {
    int32_t n_vocab, n;
    float *values; /* [n, n_vocab] */
};

static void keep_row(void *ctx, struct en_session *session, int32_t index, bool is_image, const int32_t pos[3],
                     const float *logits)
{
    struct rows *r = ctx;
    assert_true(r->n < ROWS_MAX);
    memcpy(r->values + (size_t)r->n++ * (size_t)r->n_vocab, logits, (size_t)r->n_vocab * sizeof *logits);
}

static struct rows rows_open(const struct en_engine *e)
{
    struct en_info info;
    en_get_info(e, &info);
    return (struct rows){.n_vocab = info.n_vocab,
                         .values = test_malloc((size_t)ROWS_MAX * (size_t)info.n_vocab * sizeof(float))};
}

static void fill_ids(int32_t *ids, int32_t n, uint64_t seed)
{
    for (int32_t i = 0; i < n; i++)
        ids[i] = (int32_t)(rng_at(seed, (uint64_t)i) % 500);
}

static void run_ids(struct en_engine *e, struct en_session *s, const int32_t *ids, int32_t n, int32_t piece, enum en_want want,
                    struct rows *rows)
{
    struct err err = {0};
    const struct en_chunk chunk = {.ids = ids, .n_ids = n};
    const struct en_feed feed = {.session = s, .chunks = &chunk, .n_chunks = 1, .want = want, .piece = piece};
    assert_ok(en_run(e, &feed, 1, keep_row, rows, &err), &err);
}

/* The logits of some tokens in a session of their own. */
static struct rows logits_of(struct en_engine *e, const int32_t *ids, int32_t n, int32_t piece)
{
    struct rows rows = rows_open(e);
    struct en_session *s = NULL;
    struct err err = {0};
    assert_ok(en_session_open(e, &s, &err), &err);
    run_ids(e, s, ids, n, piece, EN_WANT_ALL, &rows);
    en_session_close(s);
    return rows;
}

/* Those of a picture between two texts: each member has the whole tower and looks for itself. */
static struct rows logits_of_picture(struct en_engine *e)
{
    static uint8_t rgb[64 * 96 * 3];
    struct rows rows = rows_open(e);
    struct en_session *s = NULL;
    struct en_image *image = NULL;
    struct err err = {0};
    int32_t ids[20];
    fill_ids(ids, 20, 9);
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)rng_at(8, i);
    const struct image_view view = {
        .format = IMAGE_RGB24, .width_px = 96, .height_px = 64, .plane = {rgb}, .stride_bytes = {(size_t)96 * 3}};
    assert_ok(en_image_encode(e, &view, 0, &image, &err), &err);
    const struct en_chunk chunks[3] = {{.ids = ids, .n_ids = 6}, {.image = image}, {.ids = ids + 6, .n_ids = 14}};
    assert_ok(en_session_open(e, &s, &err), &err);
    const struct en_feed feed = {.session = s, .chunks = chunks, .n_chunks = 3, .want = EN_WANT_ALL};
    assert_ok(en_run(e, &feed, 1, keep_row, &rows, &err), &err);
    en_session_close(s);
    en_image_unref(image);
    return rows;
}

/* Largest difference over the spread (the largest value's size) of what is wanted. */
static double distance(const struct rows *got, const struct rows *want)
{
    double most = 0, spread = 0;
    assert_int_equal(got->n, want->n);
    for (size_t i = 0; i < (size_t)want->n * (size_t)want->n_vocab; i++) {
        most = fmax(most, fabs((double)got->values[i] - (double)want->values[i]));
        spread = fmax(spread, fabs((double)want->values[i]));
    }
    assert_true(spread > 1);
    return most / spread;
}

static void assert_same(const struct rows *got, const struct rows *want, const char *what)
{
    if (got->n != want->n || memcmp(got->values, want->values, (size_t)want->n * (size_t)want->n_vocab * sizeof(float)) != 0)
        fail_msg("%s: logits differ (%d rows, %d rows)", what, got->n, want->n);
}

/* A GPU in these tests may be a simulated one, which takes a second for a row of the wider models. */
static int32_t n_rows(int model)
{
    return strncmp(test_device(), "cuda", 4) != 0 ? 130 : strncmp(models[model].shape, "tiny-wide", 9) == 0 ? 5 : 70;
}

static void two_see_what_one_does(void **state)
{
    struct en_engine *one = open_engine(0, ONE), *two = open_engine(0, TWO);
    struct rows want = logits_of_picture(one), got = logits_of_picture(two);
    assert_true(want.n > 50);
    assert_true(distance(&got, &want) < models[0].most);
    test_free(want.values);
    test_free(got.values);
    en_close(one);
    en_close(two);
}

static void two_compute_what_one_does(void **state)
{
    int32_t ids[130];
    fill_ids(ids, 130, 5);
    for (int i = 0; i < N_MODELS; i++) {
        const int32_t n = n_rows(i);
        struct en_engine *one = open_engine(i, ONE), *two = open_engine(i, TWO);
        struct rows want = logits_of(one, ids, n, 0), got = logits_of(two, ids, n, 0);
        const double d = distance(&got, &want);
        print_message("%s, %s: %.2g\n", models[i].shape, kn_dtype_name(models[i].dtype), d);
        if (d > models[i].most)
            fail_msg("%s: two devices' logits differ by %g of their spread", models[i].shape, d);
        test_free(want.values);
        test_free(got.values);
        en_close(one);
        en_close(two);
    }
}

/* Noise models are filled on the device: each member's share of the same noise. */
static void noise_is_shared_alike(void **state)
{
    static const char *const shapes[] = {"tiny-wide:mxfp4", "tiny-wide-moe:q8_0"};
    int32_t ids[4];
    fill_ids(ids, 4, 6);
    for (int i = 0; i < 2; i++) {
        struct rows rows[2];
        for (int two = 0; two < 2; two++) {
            const struct en_options o = {
                .synthetic = shapes[i], .device = two ? TWO : ONE, .threads = 1, .kv = EN_KV_F32, .context_tokens = 64};
            struct en_engine *e = NULL;
            struct err err = {0};
            assert_ok(en_open(&o, &e, &err), &err);
            rows[two] = logits_of(e, ids, 4, 0);
            en_close(e);
        }
        assert_true(distance(&rows[1], &rows[0]) < 2e-2);
        test_free(rows[0].values);
        test_free(rows[1].values);
    }
}

/* ---- promises ----------------------------------------------------------------------------------------------------------------------- */

static void pieces_and_company_do_not_matter(void **state)
{
    static const int32_t pieces[] = {1, 7, 64};
    int32_t ids[3][90];
    for (int model = 0; model < 2; model++) {
        struct en_engine *e = open_engine(model, TWO);
        struct err err = {0};
        struct rows alone[3];
        struct en_session *s[3];
        struct en_chunk chunks[3];
        struct en_feed feeds[3];
        for (int i = 0; i < 3; i++) {
            fill_ids(ids[i], 90, (uint64_t)i + 20);
            alone[i] = logits_of(e, ids[i], 30 * (i + 1), 0);
        }
        for (size_t k = 0; k < sizeof pieces / sizeof *pieces; k++) {
            struct rows cut = logits_of(e, ids[2], 90, pieces[k]);
            assert_same(&cut, &alone[2], "pieces");
            test_free(cut.values);
        }
        /* one step after the other for all three; rows come session by session within a step, so ask for the last ones */
        struct rows last = rows_open(e);
        for (int i = 0; i < 3; i++) {
            assert_ok(en_session_open(e, &s[i], &err), &err);
            chunks[i] = (struct en_chunk){.ids = ids[i], .n_ids = 30 * (i + 1)};
            feeds[i] = (struct en_feed){.session = s[i], .chunks = &chunks[i], .n_chunks = 1, .want = EN_WANT_LAST};
        }
        assert_ok(en_run(e, feeds, 3, keep_row, &last, &err), &err);
        assert_int_equal(last.n, 3);
        for (int i = 0; i < 3; i++) {
            bool is_there = false;
            for (int k = 0; k < 3; k++)
                is_there |= memcmp(last.values + k * last.n_vocab, alone[i].values + (int64_t)(alone[i].n - 1) * last.n_vocab,
                                   (size_t)last.n_vocab * sizeof(float)) == 0;
            assert_true(is_there);
            en_session_close(s[i]);
            test_free(alone[i].values);
        }
        test_free(last.values);
        en_close(e);
    }
}

static void forks_go_on_alike(void **state)
{
    struct en_engine *e = open_engine(1, TWO);
    struct err err = {0};
    int32_t ids[130];
    fill_ids(ids, 130, 77);
    struct rows whole = logits_of(e, ids, 130, 0), got = rows_open(e), elsewhere = rows_open(e);
    struct en_session *s, *fork;
    assert_ok(en_session_open(e, &s, &err), &err);
    run_ids(e, s, ids, 70, 0, EN_WANT_ALL, &got);
    assert_ok(en_session_fork(s, &fork, &err), &err);
    run_ids(e, s, ids + 90, 40, 0, EN_WANT_NONE, &elsewhere);
    run_ids(e, fork, ids + 70, 60, 9, EN_WANT_ALL, &got);
    assert_same(&got, &whole, "fork");
    en_session_close(s);
    en_session_close(fork);
    test_free(whole.values);
    test_free(got.values);
    test_free(elsewhere.values);
    en_close(e);
}

/* A look: picture and question, answered under a schema. The tower is whole on both, so the pictures' rows are, too. */
static char *answer_on(const char *device)
{
    static const char schema_text[] =
        "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":50},"
        "\"hazard\":{\"enum\":[\"none\",\"fire\",\"smoke\"]}},\"required\":[\"n\",\"hazard\"]}";
    static uint8_t rgb[64 * 96 * 3];
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)rng_at(8, i);
    const struct image_view view = {
        .format = IMAGE_RGB24, .width_px = 96, .height_px = 64, .plane = {rgb}, .stride_bytes = {(size_t)96 * 3}};
    const struct en_part parts[2] = {{.view = &view}, {.text = "What is there?"}};
    const struct en_message message = {EN_USER, parts, 2};
    struct en_engine *e = open_engine(0, device);
    struct en_schema *schema = NULL;
    struct err err = {0};
    assert_ok(en_schema_compile(schema_text, sizeof schema_text - 1, &schema, &err), &err);
    const struct en_job job = {
        .messages = &message, .n_messages = 1, .schema = schema, .sampling = {.top_p = 1}, .max_tokens = 48};
    uint64_t id = 0;
    bool is_busy = true;
    assert_ok(en_submit(e, &job, &id, &err), &err);
    while (is_busy) {
        const struct en_permit permit = {.batch = 4, .expires_ns = clock_now_ns() + 60 * CLOCK_S};
        assert_ok(en_step(e, &permit, &is_busy, &err), &err);
    }
    struct en_result *r = en_take_result(e);
    assert_non_null(r);
    assert_int_equal(r->finish, EN_FINISH_STOP);
    char *text = strdup(r->text);
    en_result_free(r);
    en_schema_unref(schema);
    en_close(e);
    return text;
}

static void two_answer_as_one(void **state)
{
    char *one = answer_on(ONE), *two = answer_on(TWO);
    assert_string_equal(two, one);
    free(one);
    free(two);
}

/* ---- figures ------------------------------------------------------------------------------------------------------------------------ */

struct totals {
    const struct model_shape *shape;
    int64_t values, shared, share; /* of the whole; of these in tensors that are cut; of one member */
};

static int add_tensor(void *ctx, const struct tensor_spec *spec)
{
    struct totals *t = ctx;
    const struct kn_cut cut = share_cut(t->shape, 2, spec), none = share_cut(t->shape, 1, spec);
    int32_t rows, cols;
    share_size(&cut, spec, &rows, &cols);
    assert_int_equal(none.way, KN_CUT_NONE);
    int64_t n = 0;
    for (int i = 0; i < KN_CUT_SPANS; i++)
        n += (int64_t)cut.span[i].len * cut.span[i].times;
    if (cut.way != KN_CUT_NONE) /* vectors' rows are told by what they are for: the convolution's are its channels */
        assert_int_equal(n, cut.way == KN_CUT_COLS      ? spec->cols
                            : spec->role == TENSOR_CONV ? spec->cols / spec->ne[0]
                            : tensor_is_vector(spec)    ? spec->cols
                                                        : spec->rows);
    t->values += spec->rows * spec->cols * spec->slices;
    if (cut.way != KN_CUT_NONE)
        t->shared += spec->rows * spec->cols * spec->slices;
    if (!tensor_is_vector(spec))
        t->share += (int64_t)rows * cols * spec->slices;
    return 0;
}

/* Of the published shapes that are too large for one machine nearly all is shared, and each can be. */
static void large_models_halve(void **state)
{
    static const char *const shapes[] = {"qwen3.5-0.8b", "qwen3.5-27b", "qwen3.5-35b-a3b", "qwen3.5-122b-a10b",
                                         "qwen3.5-397b-a17b"};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct synthetic s;
        struct model_shape share;
        struct err err = {0};
        assert_ok(synthetic_parse(shapes[i], &s, &err), &err);
        assert_ok(share_shape(&s.shape, 2, &share, &err), &err);
        assert_int_equal(share.n_head, s.shape.n_head / 2);
        struct totals t = {.shape = &s.shape};
        assert_int_equal(tensor_list_text(&s.shape, NULL, add_tensor, &t), 0);
        const double part = (double)t.share / (double)t.values;
        print_message("%s: %.3f of it each\n", shapes[i], part);
        assert_true(part > 0.5 && part < (i < 1 ? 0.68 : 0.54)); /* the embedding is whole: much of a small model */
        synthetic_release(&s);
    }
}

static void estimates_know_two(void **state)
{
    for (int i = 0; i < 2; i++) {
        const struct en_options one = options_of(i, ONE), two = options_of(i, TWO);
        struct en_forecast f[2];
        struct en_info info;
        struct err err = {0};
        assert_ok(en_estimate(&one, NULL, 0, NULL, &f[0], &err), &err);
        assert_ok(en_estimate(&two, NULL, 0, NULL, &f[1], &err), &err);
        struct en_engine *e = open_engine(i, TWO);
        en_get_info(e, &info);
        assert_int_equal(f[1].n_params, f[0].n_params);
        assert_int_equal(f[1].n_params, info.n_params);
        assert_int_equal(f[1].weights_bytes, info.weights_bytes);
        assert_int_equal(f[1].bytes_per_token, info.bytes_per_token);
        struct en_plan plans[2]; /* of each of the two, whose memory must do: less than one takes alone */
        assert_ok(en_plan_memory(&one, &plans[0], &err), &err);
        assert_ok(en_plan_memory(&two, &plans[1], &err), &err);
        assert_true(plans[1].weights_bytes < plans[0].weights_bytes && plans[1].kv_bytes * 2 == plans[0].kv_bytes &&
                    plans[1].state_bytes * 2 == plans[0].state_bytes);
        assert_true(strstr(f[1].device, "two of") != NULL);
        en_close(e);
    }
}

/* ---- refusals ----------------------------------------------------------------------------------------------------------------------- */

static void what_two_cannot_do_is_said(void **state)
{
    struct en_engine *e = NULL;
    struct err err = {0};
    struct en_options o = options_of(1, TWO);
    o.model_path = odd_path;
    assert_err(en_open(&o, &e, &err), ERR_UNSUPPORTED, &err, "cannot be shared by two devices: it has 1 key-value heads");
    o = options_of(0, "cpu+ref");
    assert_err(en_open(&o, &e, &err), ERR_UNSUPPORTED, &err, "two devices that compute alike are needed");
    /* halves of 48 columns are no whole blocks of 32 */
    struct en_options noise = {.synthetic = "tiny-dense:q8_0", .device = TWO, .context_tokens = 64};
    assert_err(en_open(&noise, &e, &err), ERR_UNSUPPORTED, &err, "cannot be shared by two: halves are whole blocks of 32");
    e = open_engine(0, TWO);
    struct en_session *s = NULL;
    void *bytes = NULL;
    size_t n = 0;
    assert_ok(en_session_open(e, &s, &err), &err);
    assert_err(en_session_save(s, &bytes, &n, &err), ERR_UNSUPPORTED, &err, "sessions on two devices (");
    assert_err(en_session_load(s, "x", 1, &err), ERR_UNSUPPORTED, &err, "cannot be saved");
    en_session_close(s);
    en_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_compute_what_one_does),  cmocka_unit_test(two_see_what_one_does),
        cmocka_unit_test(noise_is_shared_alike),      cmocka_unit_test(pieces_and_company_do_not_matter),
        cmocka_unit_test(forks_go_on_alike),          cmocka_unit_test(two_answer_as_one),
        cmocka_unit_test(large_models_halve),         cmocka_unit_test(estimates_know_two),
        cmocka_unit_test(what_two_cannot_do_is_said),
    };
    return cmocka_run_group_tests(tests, write_models, NULL);
}
