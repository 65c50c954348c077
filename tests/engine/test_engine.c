/*
 * Sessions and jobs on a tiny random model: pieces = whole, batched = alone, fork and save = recomputed, all to the bit; jobs answer under a schema, are
 * shed, cancelled and refused; a step allocates nothing it should not; bad files are refused.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "engine/synthetic.h"
#include "tests/support/test.h"

static char text_path[2][512], vision_path[512];

static int write_models(void **state)
{
    static const char *const shapes[] = {"tiny-dense", "tiny-moe"};
    const char *dir = test_temp_dir();
    struct err err = {0};
    snprintf(vision_path, sizeof vision_path, "%s/mmproj.gguf", dir);
    for (int i = 0; i < 2; i++) {
        struct synthetic s;
        const struct synthetic_file file = {.seed = 3, .dtype = KN_F32};
        snprintf(text_path[i], sizeof text_path[i], "%s/%s.gguf", dir, shapes[i]);
        if (synthetic_parse(shapes[i], &s, &err) != 0 || synthetic_write_model(text_path[i], &s.shape, &file, &err) != 0 ||
            (i == 0 && synthetic_write_vision(vision_path, &s.vision, &file, &err) != 0)) {
            print_message("%s\n", err.text);
            return -1;
        }
        synthetic_release(&s);
    }
    return 0;
}

static struct en_engine *open_engine(int model, const char *device, int32_t sessions, int32_t step_rows, bool with_vision)
{
    struct en_engine *e = NULL;
    struct err err = {0};
    const struct en_options o = {.model_path = text_path[model],
                                 .vision_path = with_vision ? vision_path : NULL,
                                 .device = device,
                                 .kv = EN_KV_F32,
                                 .context_tokens = 512,
                                 .sessions = sessions,
                                 .step_rows = step_rows,
                                 .validate = true};
    assert_ok(en_open(&o, &e, &err), &err);
    return e;
}

/* ---- sessions ------------------------------------------------------------------------------------------------------------------- */

#define ROWS_MAX 400

struct seen {
    struct en_session *session;
    int32_t n_vocab, n;
    float *rows; /* [n, V] */
};

static void keep_row(void *ctx, struct en_session *session, int32_t index, bool is_image, const int32_t pos[3],
                     const float *logits)
{
    struct seen *s = ctx;
    if (s->session && s->session != session)
        return;
    assert_true(s->n < ROWS_MAX);
    memcpy(s->rows + (size_t)s->n++ * (size_t)s->n_vocab, logits, (size_t)s->n_vocab * sizeof *logits);
}

static struct seen seen_open(struct en_engine *e, struct en_session *session)
{
    struct en_info info;
    en_get_info(e, &info);
    return (struct seen){.session = session,
                         .n_vocab = info.n_vocab,
                         .rows = test_malloc((size_t)ROWS_MAX * (size_t)info.n_vocab * sizeof(float))};
}

static void assert_same(const struct seen *a, const struct seen *b, const char *what)
{
    if (a->n != b->n || memcmp(a->rows, b->rows, (size_t)a->n * (size_t)a->n_vocab * sizeof(float)) != 0)
        fail_msg("%s: logits differ (%d rows, %d rows)", what, a->n, b->n);
}

static void fill_ids(int32_t *ids, int32_t n, uint64_t seed)
{
    for (int32_t i = 0; i < n; i++)
        ids[i] = (int32_t)(rng_at(seed, (uint64_t)i) % 500);
}

static void run_one(struct en_engine *e, struct en_session *s, const int32_t *ids, int32_t n, int32_t piece, enum en_want want,
                    struct seen *seen)
{
    struct err err = {0};
    const struct en_chunk chunk = {.ids = ids, .n_ids = n};
    const struct en_feed feed = {.session = s, .chunks = &chunk, .n_chunks = 1, .want = want, .piece = piece};
    assert_ok(en_run(e, &feed, 1, keep_row, seen, &err), &err);
}

/* text, picture, text */
static int32_t picture_prompt(struct en_engine *e, struct en_image **ret_image, struct en_chunk chunks[3], int32_t ids[40])
{
    static uint8_t rgb[64 * 96 * 3];
    struct err err = {0};
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)rng_at(8, i);
    const struct image_view view = {
        .format = IMAGE_RGB24, .width_px = 96, .height_px = 64, .plane = {rgb}, .stride_bytes = {96 * 3}};
    assert_ok(en_image_encode(e, &view, 0, ret_image, &err), &err);
    fill_ids(ids, 40, 4);
    chunks[0] = (struct en_chunk){.ids = ids, .n_ids = 7};
    chunks[1] = (struct en_chunk){.image = *ret_image};
    chunks[2] = (struct en_chunk){.ids = ids + 7, .n_ids = 33};
    return 40 + en_image_tokens(*ret_image);
}

static void pieces_are_the_whole(void **state)
{
    const char *const devices[] = {"ref", test_device()};
    static const int32_t pieces[] = {1, 3, 64, 65};
    for (int d = 0; d < 2; d++) {
        struct en_engine *e = open_engine(0, devices[d], 2, 128, true);
        struct err err = {0};
        struct en_image *image;
        struct en_chunk chunks[3];
        int32_t ids[40], tokens = picture_prompt(e, &image, chunks, ids);
        struct seen whole = seen_open(e, NULL), cut = seen_open(e, NULL);
        struct en_session *s = NULL;
        assert_ok(en_session_open(e, &s, &err), &err);
        struct en_feed feed = {.session = s, .chunks = chunks, .n_chunks = 3, .want = EN_WANT_ALL};
        assert_ok(en_run(e, &feed, 1, keep_row, &whole, &err), &err);
        assert_int_equal(whole.n, tokens);
        assert_int_equal(en_session_tokens(s), tokens);
        /* a picture moves the position by the longer of its sides: 10 across for 320 x 224 pixels */
        assert_true(en_session_position(s) > 40 && en_session_position(s) < tokens);
        en_session_close(s);
        for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
            assert_ok(en_session_open(e, &s, &err), &err);
            cut.n = 0;
            feed.session = s;
            feed.piece = pieces[p];
            assert_ok(en_run(e, &feed, 1, keep_row, &cut, &err), &err);
            assert_same(&cut, &whole, "pieces");
            en_session_close(s);
        }
        en_image_unref(image);
        test_free(whole.rows);
        test_free(cut.rows);
        en_close(e);
    }
}

static void batched_is_alone(void **state)
{
    for (int model = 0; model < 2; model++) {
        struct en_engine *e = open_engine(model, test_device(), 4, 40, false);
        struct err err = {0};
        int32_t ids[4][150];
        static const int32_t lengths[4] = {150, 1, 70, 90};
        struct en_session *s[4];
        struct en_chunk chunks[4];
        struct en_feed feeds[4];
        struct seen alone[4];
        for (int i = 0; i < 4; i++) {
            fill_ids(ids[i], lengths[i], (uint64_t)i);
            chunks[i] = (struct en_chunk){.ids = ids[i], .n_ids = lengths[i]};
            assert_ok(en_session_open(e, &s[i], &err), &err);
            alone[i] = seen_open(e, s[i]);
            run_one(e, s[i], ids[i], lengths[i], 0, EN_WANT_ALL, &alone[i]);
            en_session_close(s[i]);
        }
        for (int i = 0; i < 4; i++) {
            assert_ok(en_session_open(e, &s[i], &err), &err);
            feeds[i] = (struct en_feed){
                .session = s[i], .chunks = &chunks[i], .n_chunks = 1, .want = EN_WANT_ALL, .piece = i == 3 ? 9 : 0};
        }
        for (int i = 0; i < 4; i++) { /* the same run, seen by each */
            struct seen together = seen_open(e, s[i]);
            assert_ok(en_run(e, feeds, 4, keep_row, &together, &err), &err);
            assert_same(&together, &alone[i], "batched");
            test_free(together.rows);
            for (int k = 0; k < 4; k++) {
                en_session_close(s[k]);
                assert_ok(en_session_open(e, &s[k], &err), &err);
                feeds[k].session = s[k];
            }
        }
        for (int i = 0; i < 4; i++)
            test_free(alone[i].rows);
        en_close(e);
    }
}

static void forks_and_saves_go_on_alike(void **state)
{
    struct en_engine *e = open_engine(1, test_device(), 4, 64, false);
    struct err err = {0};
    int32_t ids[260];
    fill_ids(ids, 260, 77);
    /* at a page border, behind one, in the middle of a chunk of the delta rule */
    static const int32_t cuts[] = {64, 65, 100, 128};
    for (size_t k = 0; k < sizeof cuts / sizeof *cuts; k++) {
        const int32_t cut = cuts[k];
        struct en_session *whole, *s, *fork, *loaded;
        struct seen want = seen_open(e, NULL), got = seen_open(e, NULL);
        assert_ok(en_session_open(e, &whole, &err), &err);
        run_one(e, whole, ids, cut, 0, EN_WANT_NONE, &want);
        run_one(e, whole, ids + cut, 60, 0, EN_WANT_ALL, &want);
        en_session_close(whole);
        assert_ok(en_session_open(e, &s, &err), &err);
        run_one(e, s, ids, cut, 0, EN_WANT_NONE, &got);
        void *bytes = NULL;
        size_t n_bytes = 0;
        assert_ok(en_session_save(s, &bytes, &n_bytes, &err), &err);
        assert_ok(en_session_fork(s, &fork, &err), &err);
        /* the original goes elsewhere first: the fork must not see it */
        run_one(e, s, ids + 200, 60, 0, EN_WANT_NONE, &got);
        run_one(e, fork, ids + cut, 60, 7, EN_WANT_ALL, &got);
        assert_same(&got, &want, "fork");
        got.n = 0;
        assert_ok(en_session_open(e, &loaded, &err), &err);
        run_one(e, loaded, ids + 30, 90, 0, EN_WANT_NONE, &got);
        assert_ok(en_session_load(loaded, bytes, n_bytes, &err), &err);
        assert_int_equal(en_session_tokens(loaded), cut);
        run_one(e, loaded, ids + cut, 60, 0, EN_WANT_ALL, &got);
        assert_same(&got, &want, "save and load");
        assert_err(en_session_load(loaded, bytes, n_bytes - 1, &err), ERR_FORMAT, &err, "saved session");
        assert_err(en_session_load(loaded, "junk", 4, &err), ERR_FORMAT, &err, "saved session");
        free(bytes);
        en_session_close(s);
        en_session_close(fork);
        en_session_close(loaded);
        test_free(want.rows);
        test_free(got.rows);
    }
    en_close(e);
}

static void feeds_are_checked_before_anything_runs(void **state)
{
    struct en_engine *e = open_engine(0, test_device(), 2, 32, false);
    struct err err = {0};
    struct en_session *s, *other, *third;
    assert_ok(en_session_open(e, &s, &err), &err);
    assert_ok(en_session_open(e, &other, &err), &err);
    assert_err(en_session_open(e, &third, &err), ERR_FULL, &err, "all 2 sessions are in use");
    int32_t ids[600];
    fill_ids(ids, 600, 1);
    struct en_chunk chunk = {.ids = ids, .n_ids = 513};
    struct en_feed feeds[2] = {{.session = s, .chunks = &chunk, .n_chunks = 1},
                               {.session = s, .chunks = &chunk, .n_chunks = 1}};
    assert_err(en_run(e, feeds, 1, NULL, NULL, &err), ERR_FULL, &err, "513 more do not fit into 512");
    chunk.n_ids = 10;
    assert_err(en_run(e, feeds, 2, NULL, NULL, &err), ERR_INVAL, &err, "the same session");
    ids[3] = 1 << 20;
    assert_err(en_run(e, feeds, 1, NULL, NULL, &err), ERR_INVAL, &err, "token id 1048576");
    assert_int_equal(en_session_tokens(s), 0);
    const struct image_view view = {.format = IMAGE_RGB24, .width_px = 8, .height_px = 8};
    struct en_image *image = NULL;
    assert_err(en_image_encode(e, &view, 0, &image, &err), ERR_UNSUPPORTED, &err, "no vision file");
    en_close(e);
}

/* ---- jobs -------------------------------------------------------------------------------------------------------------------------------- */

static const char schema_text[] =
    "{\"type\":\"object\",\"properties\":{\"summary\":{\"type\":\"string\",\"maxLength\":40},"
    "\"people\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":20},"
    "\"hazard\":{\"enum\":[\"none\",\"fire\",\"smoke\"]}},\"required\":[\"summary\",\"people\",\"hazard\"]}";

static uint8_t job_rgb[120 * 160 * 3];

static struct en_job make_job(struct en_part parts[2], struct en_message *message, struct image_view *view,
                              struct en_schema *schema, uint64_t tag)
{
    for (size_t i = 0; i < sizeof job_rgb; i++)
        job_rgb[i] = (uint8_t)rng_at(tag, i);
    *view = (struct image_view){
        .format = IMAGE_RGB24, .width_px = 160, .height_px = 120, .plane = {job_rgb}, .stride_bytes = {160 * 3}};
    parts[0] = (struct en_part){.view = view};
    parts[1] = (struct en_part){.text = "What is there?"};
    *message = (struct en_message){EN_USER, parts, 2};
    return (struct en_job){.messages = message,
                           .n_messages = 1,
                           .schema = schema,
                           .sampling = {.temperature = 1, .top_p = 1, .seed = tag},
                           .max_tokens = 40,
                           .tag = tag};
}

static int run_jobs(struct en_engine *e, int32_t batch, struct en_result **results, int n_max)
{
    struct err err = {0};
    int n = 0;
    for (int guard = 0; guard < 10000; guard++) {
        const struct en_permit permit = {.batch = batch, .expires_ns = INT64_MAX};
        bool busy = false;
        assert_ok(en_step(e, &permit, &busy, &err), &err);
        for (struct en_result *r; (r = en_take_result(e)) != NULL; n++) {
            assert_true(n < n_max && r->tag < (uint64_t)n_max);
            results[r->tag] = r;
        }
        if (!busy)
            return n;
    }
    fail_msg("jobs do not come to an end");
    return n;
}

#define N_JOBS 5

static void jobs_answer_under_a_schema_and_alike_in_any_company(void **state)
{
    struct err err = {0};
    struct en_schema *schema = NULL;
    assert_ok(en_schema_compile(schema_text, sizeof schema_text - 1, &schema, &err), &err);
    struct en_result *first[N_JOBS] = {0};
    for (int round = 0; round < 3; round++) {
        struct en_engine *e = open_engine(0, test_device(), 3, round == 2 ? 16 : 128, true);
        struct en_result *results[N_JOBS] = {0};
        for (int i = 0; i < N_JOBS; i++) {
            struct en_part parts[2];
            struct en_message message;
            struct image_view view;
            const struct en_job job = make_job(parts, &message, &view, schema, (uint64_t)i);
            uint64_t id = 0;
            assert_ok(en_submit(e, &job, &id, &err), &err);
            assert_true(id != 0);
            if (round == 0) /* one at a time */
                assert_int_equal(run_jobs(e, 1, results, N_JOBS), 1);
        }
        if (round > 0)
            assert_int_equal(run_jobs(e, 3, results, N_JOBS), N_JOBS);
        for (int i = 0; i < N_JOBS; i++) {
            struct en_result *r = results[i];
            assert_non_null(r);
            assert_int_equal(r->finish, EN_FINISH_STOP);
            assert_ok(en_schema_validate(schema, r->text, strlen(r->text), &err), &err);
            assert_int_equal(r->n_scores, 1);
            assert_string_equal(r->scores[0].path, "/hazard");
            assert_int_equal(r->scores[0].n, 3);
            double sum = 0;
            for (int a = 0; a < 3; a++)
                sum += r->scores[0].p[a];
            assert_true(sum > 1 - 1e-9 && sum < 1 + 1e-9);
            assert_non_null(strstr(r->text, r->scores[0].names[r->scores[0].chosen]));
            const struct en_timing *t = &r->timing;
            assert_int_equal(t->queue_ns + t->vision_ns + t->prefill_ns + t->decode_ns, t->finished_ns - t->submitted_ns);
            assert_true(t->queue_ns >= 0 && t->vision_ns > 0 && t->image_tokens > 0 && t->output_tokens <= 40);
            if (round == 0)
                first[i] = r;
            else {
                assert_string_equal(r->text, first[i]->text);
                en_result_free(r);
            }
        }
        en_close(e);
    }
    for (int i = 0; i < N_JOBS; i++)
        en_result_free(first[i]);
    en_schema_unref(schema);
}

static void jobs_are_shed_cancelled_and_refused(void **state)
{
    struct err err = {0};
    struct en_engine *e = open_engine(0, test_device(), 1, 128, true);
    struct en_schema *schema = NULL;
    assert_ok(en_schema_compile(schema_text, sizeof schema_text - 1, &schema, &err), &err);
    struct en_part parts[2];
    struct en_message message;
    struct image_view view;
    struct en_job job = make_job(parts, &message, &view, schema, 0);
    struct en_result *results[4] = {0};
    uint64_t id = 0;

    job.max_tokens = 4;
    assert_err(en_submit(e, &job, &id, &err), ERR_INVAL, &err, "the schema's shortest takes");
    job.max_tokens = 500;
    assert_err(en_submit(e, &job, &id, &err), ERR_FULL, &err, "do not fit into a context of 512");
    job.max_tokens = 40;
    job.sampling.top_p = 0;
    assert_err(en_submit(e, &job, &id, &err), ERR_INVAL, &err, "top_p");
    job.sampling.top_p = 1;
    assert_int_equal(en_pending(e), 0);

    /* no permit: nothing is done, but what is late is shed */
    job.deadline_ns = clock_now_ns() - 1;
    assert_ok(en_submit(e, &job, &id, &err), &err);
    assert_err(en_step(e, NULL, NULL, &err), ERR_STATE, &err, "no permit");
    struct en_result *r = en_take_result(e);
    assert_non_null(r);
    assert_int_equal(r->finish, EN_FINISH_DEADLINE);
    assert_null(r->text);
    en_result_free(r);
    job.deadline_ns = 0;
    const struct en_permit expired = {.batch = 1, .expires_ns = clock_now_ns() - 1},
                           none = {.batch = 0, .expires_ns = INT64_MAX};
    assert_err(en_step(e, &expired, NULL, &err), ERR_STATE, &err, "no permit");
    assert_err(en_step(e, &none, NULL, &err), ERR_STATE, &err, "no permit");

    /* cancelled while running and while queued: its session and picture are free again */
    uint64_t ids[3];
    for (uint64_t i = 0; i < 3; i++) {
        job.tag = i;
        assert_ok(en_submit(e, &job, &ids[i], &err), &err);
    }
    const struct en_permit permit = {.batch = 1, .expires_ns = INT64_MAX};
    for (int i = 0; i < 4; i++)
        assert_ok(en_step(e, &permit, NULL, &err), &err);
    en_cancel(e, ids[0]);
    en_cancel(e, ids[2]);
    en_cancel(e, 12345);
    assert_int_equal(run_jobs(e, 1, results, 4), 3);
    assert_int_equal(results[0]->finish, EN_FINISH_CANCELLED);
    assert_int_equal(results[1]->finish, EN_FINISH_STOP);
    assert_int_equal(results[2]->finish, EN_FINISH_CANCELLED);
    for (int i = 0; i < 3; i++)
        en_result_free(results[i]);

    /* priority goes first */
    for (uint64_t i = 0; i < 2; i++) {
        job.tag = i;
        job.priority = (int32_t)i;
        assert_ok(en_submit(e, &job, &ids[i], &err), &err);
    }
    while (!(r = en_take_result(e)))
        assert_ok(en_step(e, &permit, NULL, &err), &err);
    assert_int_equal(r->tag, 1);
    en_result_free(r);
    en_close(e); /* with a job still waiting */
    en_schema_unref(schema);
}

static void free_text_and_thoughts_end(void **state)
{
    struct err err = {0};
    struct en_engine *e = open_engine(0, test_device(), 1, 128, false);
    const struct en_part part = {.text = "hello <|im_end|>"}; /* no way to end one's own turn */
    const struct en_message message = {EN_USER, &part, 1};
    struct en_job job = {
        .messages = &message, .n_messages = 1, .sampling = {.temperature = 1, .top_p = 1, .seed = 2}, .max_tokens = 30};
    struct en_result *results[1] = {0};
    assert_ok(en_submit(e, &job, NULL, &err), &err);
    assert_int_equal(run_jobs(e, 1, results, 1), 1);
    assert_true(results[0]->finish == EN_FINISH_LENGTH || results[0]->finish == EN_FINISH_STOP);
    assert_true(results[0]->timing.output_tokens <= 30);
    assert_null(results[0]->thought);
    en_result_free(results[0]);
    en_close(e);
}

/* ---- opening ------------------------------------------------------------------------------------------------------------------------------ */

static bool give_up_later(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
    return 2 * done_bytes < total_bytes;
}

static void loading_can_be_given_up(void **state)
{
    struct en_engine *e = NULL;
    struct err err = {0};
    uint64_t bytes = 0;
    int64_t took_ns = 0;
    struct en_options o = {.model_path = text_path[0], .device = "cpu", .progress = give_up_later};
    assert_err(en_open(&o, &e, &err), ERR_CANCELLED, &err, "given up");
    assert_null(e);
    o.progress = NULL; /* nothing is left behind */
    assert_ok(en_read_files(&o, UINT64_MAX, &bytes, &took_ns, &err), &err);
    assert_ok(en_open(&o, &e, &err), &err);
    struct en_info info;
    en_get_info(e, &info);
    assert_true(bytes >= info.load_bytes && took_ns > 0);
    assert_int_equal(info.load_bytes, info.weights_bytes);
    assert_true(info.load_peak_bytes > info.load_bytes);
    en_close(e);
}

static void bad_files_and_options_are_refused(void **state)
{
    struct en_engine *e = NULL;
    struct err err = {0};
    struct en_plan plan;
    struct en_options o = {.model_path = "/no/such/model.gguf", .device = "cpu"};
    assert_err(en_open(&o, &e, &err), ERR_NOT_FOUND, &err, "/no/such/model.gguf");
    o.model_path = text_path[0];
    o.vision_path = "/no/such/mmproj.gguf";
    assert_err(en_open(&o, &e, &err), ERR_NOT_FOUND, &err, "/no/such/mmproj.gguf");
    o.vision_path = text_path[0];
    assert_int_not_equal(en_open(&o, &e, &err), 0);
    o.vision_path = NULL;
    o.device = "cuda:0";
    assert_int_not_equal(en_open(&o, &e, &err), 0);
    assert_non_null(strstr(err.text, "CUDA"));
    o.device = "cpu";
    o.context_tokens = 1 << 30;
    assert_err(en_open(&o, &e, &err), ERR_INVAL, &err, "a context of 1073741824 tokens");
    o.context_tokens = 64;
    o.sessions = 2;
    o.batch = 3;
    assert_err(en_plan_memory(&o, &plan, &err), ERR_INVAL, &err, "a batch of 3 sequences");
    o.batch = 2;
    assert_ok(en_plan_memory(&o, &plan, &err), &err);
    assert_int_equal(plan.total_bytes, plan.weights_bytes + plan.kv_bytes + plan.state_bytes + plan.scratch_bytes);
    /* more pages than there are numbers for */
    char long_path[600];
    struct synthetic long_model;
    const struct synthetic_file file = {.seed = 3, .dtype = KN_F32};
    snprintf(long_path, sizeof long_path, "%s.long", text_path[0]);
    assert_ok(synthetic_parse("tiny-dense", &long_model, &err), &err);
    long_model.shape.trained_context = 1 << 28;
    assert_ok(synthetic_write_model(long_path, &long_model.shape, &file, &err), &err);
    synthetic_release(&long_model);
    const struct en_options many = {
        .model_path = long_path, .device = "cpu", .context_tokens = 1 << 28, .sessions = 4096, .step_rows = 4096};
    assert_err(en_plan_memory(&many, &plan, &err), ERR_INVAL, &err, "4096 sessions of 268435456 tokens");
    /* a file that ends in the middle of its weights */
    char cut_path[600], command[1400];
    snprintf(cut_path, sizeof cut_path, "%s.cut", text_path[0]);
    snprintf(command, sizeof command, "head -c 600000 '%s' > '%s'", text_path[0], cut_path);
    assert_int_equal(system(command), 0);
    o.model_path = cut_path;
    assert_err(en_open(&o, &e, &err), ERR_FORMAT, &err, cut_path);
    assert_null(e);
}

static void noise_models_open(void **state)
{
    struct en_engine *e = NULL;
    struct err err = {0};
    const struct en_options o = {.synthetic = "tiny-moe:q8_0", .device = "cpu", .context_tokens = 64};
    assert_ok(en_open(&o, &e, &err), &err);
    struct en_info info;
    en_get_info(e, &info);
    assert_true(info.is_untrained);
    en_close(e);
    const struct en_options bad = {.synthetic = "qwen3.5-1b:q4_k", .device = "cpu"};
    assert_err(en_open(&bad, &e, &err), ERR_INVAL, &err, "qwen3.5-0.8b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_the_whole),
        cmocka_unit_test(batched_is_alone),
        cmocka_unit_test(forks_and_saves_go_on_alike),
        cmocka_unit_test(feeds_are_checked_before_anything_runs),
        cmocka_unit_test(jobs_answer_under_a_schema_and_alike_in_any_company),
        cmocka_unit_test(jobs_are_shed_cancelled_and_refused),
        cmocka_unit_test(free_text_and_thoughts_end),
        cmocka_unit_test(loading_can_be_given_up),
        cmocka_unit_test(bad_files_and_options_are_refused),
        cmocka_unit_test(noise_models_open),
    };
    return cmocka_run_group_tests(tests, write_models, NULL);
}
