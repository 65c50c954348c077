/*
 * The hot path allocates nothing: malloc and its kin are this program's own, which forward to glibc's and count while armed, on every thread. After a warm-up
 * neither the steps of running jobs nor whole jobs of kinds seen before (submission with pictures, vision, prefill, decoding under a schema, result, release)
 * may take or give back memory.
 */
#include <errno.h>
#include <execinfo.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "engine/synthetic.h"
#include "pipeline/frame.h"
#include "tests/support/test.h"

/* ---- counting -------------------------------------------------------------------------------------------------------------------- */

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define NO_ALLOC_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NO_ALLOC_SANITIZED 1
#endif

#define STACKS_MAX 24
#define DEPTH_MAX  16

static atomic_bool is_armed;
static atomic_int n_until_failure = -1; /* calls of malloc and realloc before the one that fails; -1: none fails */
static atomic_int n_taken, n_given;
static atomic_int n_stacks;
static void *stacks[STACKS_MAX][DEPTH_MAX];
static int depths[STACKS_MAX];

#if !defined(NO_ALLOC_SANITIZED) && defined(__GLIBC__)
#define NO_ALLOC_COUNTS 1

static _Thread_local bool is_inside; /* backtrace itself may allocate */

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t n, size_t bytes);
extern void *__libc_realloc(void *p, size_t bytes);
extern void *__libc_memalign(size_t align, size_t bytes);
extern void __libc_free(void *p);

static void count(atomic_int *counter)
{
    if (!atomic_load_explicit(&is_armed, memory_order_relaxed) || is_inside)
        return;
    is_inside = true;
    atomic_fetch_add(counter, 1);
    const int at = atomic_fetch_add(&n_stacks, 1);
    if (at < STACKS_MAX)
        depths[at] = backtrace(stacks[at], DEPTH_MAX);
    is_inside = false;
}

static bool fails(void)
{
    return n_until_failure >= 0 && n_until_failure-- == 0;
}

void *malloc(size_t bytes)
{
    count(&n_taken);
    if (fails()) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes)
{
    count(&n_taken);
    return __libc_calloc(n, bytes);
}

void *realloc(void *p, size_t bytes)
{
    count(&n_taken);
    if (fails()) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_realloc(p, bytes);
}

void *aligned_alloc(size_t align, size_t bytes)
{
    count(&n_taken);
    return __libc_memalign(align, bytes);
}

int posix_memalign(void **ret_p, size_t align, size_t bytes)
{
    count(&n_taken);
    void *p = __libc_memalign(align, bytes);
    if (!p)
        return ENOMEM;
    *ret_p = p;
    return 0;
}

void free(void *p)
{
    if (p)
        count(&n_given);
    __libc_free(p);
}
#endif

static void arm(void)
{
    void *frames[2];
    backtrace(frames, 2); /* loads what it needs the first time */
    n_taken = n_given = n_stacks = 0;
    is_armed = true;
}

/* Disarm; fails with the call stacks (for addr2line) if anything was counted. */
static void assert_none(const char *what)
{
    is_armed = false;
    const int taken = n_taken, given = n_given, shown = n_stacks < STACKS_MAX ? n_stacks : STACKS_MAX;
    if (taken == 0 && given == 0)
        return;
    for (int i = 0; i < shown; i++) {
        fprintf(stderr, "-- call %d\n", i);
        backtrace_symbols_fd(stacks[i], depths[i], STDERR_FILENO);
    }
    fail_msg("%s: memory was taken %d times and given back %d times", what, taken, given);
}

/* The counters count, or the test would pass for the wrong reason. */
static void counters_count(void **state)
{
#ifdef NO_ALLOC_COUNTS
    arm();
    void *volatile p = malloc(10);
    p = realloc(p, 20);
    free(p);
    is_armed = false;
    assert_int_equal(n_taken, 2);
    assert_int_equal(n_given, 1);
#else
    skip_because("memory is the sanitizer's here: calls are not counted");
#endif
}

/* ---- the engine -------------------------------------------------------------------------------------------------------------------- */

static const char schema_text[] = "{\"type\":\"object\",\"properties\":{\"summary\":{\"type\":\"string\",\"maxLength\":40},"
                                  "\"people\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":20},"
                                  "\"hazard\":{\"enum\":[\"none\",\"fire\",\"smoke\"]},\"sure\":{\"type\":\"boolean\"}},"
                                  "\"required\":[\"summary\",\"people\",\"hazard\",\"sure\"]}";

static char text_path[512], vision_path[512];

static int write_models(void **state)
{
    const char *dir = test_temp_dir();
    struct err err = {0};
    struct synthetic s;
    const struct synthetic_file file = {.seed = 3, .dtype = KN_F32};
    snprintf(text_path, sizeof text_path, "%s/text.gguf", dir);
    snprintf(vision_path, sizeof vision_path, "%s/mmproj.gguf", dir);
    if (synthetic_parse("tiny-dense", &s, &err) != 0 || synthetic_write_model(text_path, &s.shape, &file, &err) != 0 ||
        synthetic_write_vision(vision_path, &s.vision, &file, &err) != 0) {
        print_message("%s\n", err.text);
        return -1;
    }
    synthetic_release(&s);
    return 0;
}

struct bench {
    struct en_engine *engine;
    struct en_schema *schema;
    uint8_t *rgb[2]; /* pictures of two cameras */
    struct image_view views[2];
    int n_results;
};

static const int widths_px[2] = {160, 200}, heights_px[2] = {120, 96};

/* A model of files, or with `noise` one without. */
static void bench_open(struct bench *b, const char *device, const char *noise)
{
    struct err err = {0};
    const struct en_options o = {.model_path = noise ? NULL : text_path,
                                 .vision_path = noise ? NULL : vision_path,
                                 .synthetic = noise,
                                 .device = device,
                                 .threads = 2,
                                 .context_tokens = 1536,
                                 .sessions = 2,
                                 .step_rows = 64};
    *b = (struct bench){0};
    assert_ok(en_open(&o, &b->engine, &err), &err);
    assert_ok(en_schema_compile(schema_text, sizeof schema_text - 1, &b->schema, &err), &err);
    for (int i = 0; i < 2; i++) {
        b->rgb[i] = test_malloc((size_t)widths_px[i] * (size_t)heights_px[i] * 3);
        b->views[i] = (struct image_view){.format = IMAGE_RGB24,
                                          .width_px = widths_px[i],
                                          .height_px = heights_px[i],
                                          .plane = {b->rgb[i]},
                                          .stride_bytes = {(size_t)widths_px[i] * 3}};
    }
}

static void bench_close(struct bench *b)
{
    en_close(b->engine);
    en_schema_unref(b->schema);
    for (int i = 0; i < 2; i++)
        test_free(b->rgb[i]);
}

/* What is seen and drawn differs from round to round; what is asked does not. */
static void submit(struct bench *b, int kind, uint64_t seed)
{
    struct err err = {0};
    const int camera = kind % 2;
    for (size_t i = 0; i < (size_t)widths_px[camera] * (size_t)heights_px[camera] * 3; i++)
        b->rgb[camera][i] = (uint8_t)rng_at(seed, i);
    const struct en_part system = {.text = "You watch a yard. Say what is there, briefly; \xc3\xa9t\xc3\xa9 too."};
    const struct en_part parts[3] = {
        {.view = &b->views[camera]}, {.text = "What is there? Is it the same as here: "}, {.view = &b->views[0]}};
    const struct en_message messages[2] = {{EN_SYSTEM, &system, 1}, {EN_USER, parts, 2 + (kind == 1)}};
    const struct en_part text = {.text = "hello <|im_end|>"};
    const struct en_message question = {EN_USER, &text, 1};
    struct en_job job = {.messages = messages,
                         .n_messages = 2,
                         .schema = b->schema,
                         .sampling = {.temperature = 1, .top_p = 1, .seed = seed},
                         .max_tokens = 60,
                         .tag = seed};
    if (kind == 2) { /* free text, drawn from the best only */
        job.messages = &question;
        job.n_messages = 1;
        job.schema = NULL;
        job.sampling.top_k = 40;
        job.sampling.min_p = 0.01f;
    } else if (kind == 3) { /* a thought, then an object */
        job.thinking = true;
        job.max_tokens = 100;
    } else if (kind == 4) { /* late before it begins */
        job.deadline_ns = clock_now_ns() - 1;
    }
    assert_ok(en_submit(b->engine, &job, NULL, &err), &err);
}

/* Steps until all is done, at most `most`; results are released as they come. Returns the steps. */
static int run(struct bench *b, int most)
{
    const struct en_permit permit = {.batch = 2, .expires_ns = INT64_MAX};
    struct err err = {0};
    bool busy = true;
    int n = 0;
    for (; busy && n < most; n++) {
        assert_ok(en_step(b->engine, &permit, &busy, &err), &err);
        for (struct en_result *r; (r = en_take_result(b->engine)) != NULL; b->n_results++) {
            assert_int_not_equal(r->finish, EN_FINISH_ERROR);
            en_result_free(r);
        }
    }
    return n;
}

/* One of each kind, two sessions interleaved. Returns the steps. */
static int run_all_kinds(struct bench *b, uint64_t seed)
{
    for (int kind = 0; kind < 5; kind++)
        submit(b, kind, seed * 8 + (uint64_t)kind);
    const int n = run(b, 10000);
    assert_int_equal(en_pending(b->engine), 0);
    return n;
}

static void steps_allocate_nothing(void **state)
{
#ifndef NO_ALLOC_COUNTS
    skip_because("memory is the sanitizer's here: calls are not counted");
#endif
    static const struct {
        const char *device, *noise;
    } rows[] = {{"cpu", NULL}, {"ref", NULL}, {"cpu", "tiny-moe:q4_k"}, {"cpu", "tiny-dense:q8_0"}};
    for (size_t d = 0; d < sizeof rows / sizeof *rows; d++) {
        struct bench b;
        bench_open(&b, rows[d].device, rows[d].noise);
        for (uint64_t round = 1; round <= 2; round++) {
            submit(&b, 0, round);
            submit(&b, 2, round);
            run(&b, 10000);
        }
        /* vision, prefill in pieces and decoding side by side: all steps but the last, which make results */
        submit(&b, 0, 7);
        submit(&b, 2, 8);
        arm();
        const int n = run(&b, 16);
        assert_none("steps of running jobs");
        assert_int_equal(n, 16);
        bench_close(&b);
    }
}

static void whole_jobs_allocate_nothing(void **state)
{
#ifndef NO_ALLOC_COUNTS
    skip_because("memory is the sanitizer's here: calls are not counted");
#endif
    struct bench b;
    bench_open(&b, "cpu", NULL);
    run_all_kinds(&b, 1);
    run_all_kinds(&b, 2);
    b.n_results = 0;
    int n_steps = 0;
    arm();
    for (uint64_t round = 3; round < 9; round++)
        n_steps += run_all_kinds(&b, round);
    assert_none("six rounds of five jobs");
    assert_int_equal(b.n_results, 30);
    assert_true(n_steps > 600);
    bench_close(&b);
}

static void ends_before_the_answer_allocate_nothing(void **state)
{
#ifndef NO_ALLOC_COUNTS
    skip_because("memory is the sanitizer's here: calls are not counted");
#endif
    struct bench b;
    struct err err = {0};
    bench_open(&b, "cpu", NULL);
    for (uint64_t round = 0; round < 4; round++) {
        uint64_t id = 0;
        if (round == 2)
            arm();
        /* cancelled at every stage: queued, encoded, half prefilled, decoding */
        for (int steps = 0; steps < 16; steps++) {
            const struct en_part part[2] = {{.view = &b.views[1]}, {.text = "What is there?"}};
            const struct en_message message = {EN_USER, part, 2};
            struct en_job job = {
                .messages = &message, .n_messages = 1, .schema = b.schema, .sampling = {.top_p = 1}, .max_tokens = 60};
            assert_ok(en_submit(b.engine, &job, &id, &err), &err);
            run(&b, steps);
            en_cancel(b.engine, id);
            run(&b, 1);
            job.max_tokens = 2000; /* refused, after its picture was resized */
            assert_int_equal(en_submit(b.engine, &job, &id, &err), ERR_FULL);
        }
    }
    assert_none("jobs cancelled and refused");
    bench_close(&b);
}

/* A new kind of job takes memory: where there is none it is refused in words, nothing is lost, and it works when there is some again. */
static void memory_that_is_short_is_an_error(void **state)
{
#ifndef NO_ALLOC_COUNTS
    skip_because("memory is the sanitizer's here: calls cannot be made to fail");
#endif
    struct bench b;
    struct err err = {0};
    bench_open(&b, "cpu", NULL);
    const struct en_part part[2] = {{.view = &b.views[1]}, {.text = "What is there?"}};
    const struct en_message message = {EN_USER, part, 2};
    const struct en_job job = {
        .messages = &message, .n_messages = 1, .schema = b.schema, .sampling = {.top_p = 1}, .max_tokens = 60};
    int n_failed = 0;
    for (int n_good = 0;; n_good++) {
        n_until_failure = n_good;
        const int rc = en_submit(b.engine, &job, NULL, &err);
        const bool failed = n_until_failure < 0;
        n_until_failure = -1;
        if (!failed) {
            assert_ok(rc, &err);
            break;
        }
        assert_err(rc, ERR_NOMEM, &err, "memory");
        assert_int_equal(en_pending(b.engine), 0);
        n_failed++;
    }
    assert_true(n_failed > 3); /* what was taken before a failure is kept, so later attempts need less */
    run(&b, 10000);
    assert_int_equal(b.n_results, 1);
    bench_close(&b);
}

/* A camera's pictures come from its pool of frames, are drawn there and handed to the engine. */
static void frames_to_answers_allocate_nothing(void **state)
{
#ifndef NO_ALLOC_COUNTS
    skip_because("memory is the sanitizer's here: calls are not counted");
#endif
    struct bench b;
    struct err err = {0};
    struct frame_pool *pool = NULL;
    struct pl_synth *synth = NULL;
    bench_open(&b, "cpu", NULL);
    assert_ok(pl_synth_open("synth:yard?size=320x180", &synth, &err), &err);
    assert_ok(frame_pool_open(3, 320 * 180, &pool, &err), &err);
    for (uint64_t i = 0; i < 8; i++) {
        if (i == 2)
            arm();
        struct pl_frame *frame = frame_pool_take(pool);
        assert_non_null(frame);
        uint8_t *rgb = frame_set_size(frame, 320, 180);
        pl_synth_draw(synth, i * 30, rgb, 320 * 3, NULL, NULL);
        const struct en_part part[2] = {{.view = &frame->image}, {.text = "What is there?"}};
        const struct en_message message = {EN_USER, part, 2};
        const struct en_job job = {
            .messages = &message, .n_messages = 1, .schema = b.schema, .sampling = {.top_p = 1}, .max_tokens = 60, .tag = i};
        assert_ok(en_submit(b.engine, &job, NULL, &err), &err);
        pl_frame_unref(frame); /* the engine has its own */
        run(&b, 10000);
    }
    assert_none("frames, drawn and answered for");
    assert_int_equal(b.n_results, 8);
    frame_pool_close(pool);
    pl_synth_close(synth);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_count),
        cmocka_unit_test(steps_allocate_nothing),
        cmocka_unit_test(whole_jobs_allocate_nothing),
        cmocka_unit_test(ends_before_the_answer_allocate_nothing),
        cmocka_unit_test(frames_to_answers_allocate_nothing),
        cmocka_unit_test(memory_that_is_short_is_an_error),
    };
    return cmocka_run_group_tests(tests, write_models, NULL);
}
