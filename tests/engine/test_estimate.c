/* estimate: what is counted is what an engine will do; times follow from one measurement, so they can be compared with each other. */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/engine.h"
#include "engine/speed.h"

/* A picture and a question, as a look is. */
struct look {
    struct image_view view;
    struct en_part system, user[2];
    struct en_message messages[2];
    struct en_job job;
    uint8_t *pixels;
};

static void look_init(struct look *l, const char *system, int width_px, int height_px, int64_t max_pixels)
{
    *l = (struct look){.view = {.format = IMAGE_RGB24, .width_px = width_px, .height_px = height_px}};
    l->system = (struct en_part){.text = system};
    l->user[0] = (struct en_part){.view = &l->view};
    l->user[1] = (struct en_part){.text = "What is there?"};
    l->messages[0] = (struct en_message){EN_SYSTEM, &l->system, 1};
    l->messages[1] = (struct en_message){EN_USER, l->user, 2};
    l->job = (struct en_job){
        .messages = l->messages, .n_messages = 2, .sampling = {.top_p = 1}, .max_tokens = 4, .max_pixels = max_pixels};
}

static struct en_options options_of(const char *shape)
{
    return (struct en_options){
        .synthetic = shape, .device = "cpu", .threads = 1, .sessions = 4, .batch = 4, .max_pixels = 262144};
}

/* The engine itself counts the same tokens, parameters and bytes. */
static void counts_as_the_engine_does(void **state)
{
    static const char *const shapes[] = {"tiny-dense:f32", "tiny-moe:q8_0"};
    static const int sizes[][3] = {{640, 360, 65536}, {64, 64, 0}, {1920, 1080, 100000}, {300, 900, 40000}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct en_options options = options_of(shapes[s]);
        struct en_engine *engine = NULL;
        struct en_info info;
        struct err err = {0};
        assert_ok(en_open(&options, &engine, &err), &err);
        en_get_info(engine, &info);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct look l;
            struct en_estimate e;
            struct en_forecast f;
            struct en_result *r = NULL;
            bool busy = true;
            look_init(&l, "You watch a dock.", sizes[i][0], sizes[i][1], sizes[i][2]);
            l.job.thinking = i % 2;
            assert_ok(en_estimate(&options, &l.job, 1, &e, &f, &err), &err);
            uint8_t *pixels = calloc((size_t)sizes[i][0] * (size_t)sizes[i][1], 3);
            assert_non_null(pixels);
            l.view.plane[0] = pixels;
            l.view.stride_bytes[0] = (size_t)sizes[i][0] * 3;
            assert_ok(en_submit(engine, &l.job, NULL, &err), &err);
            while (busy) {
                const struct en_permit permit = {.batch = 4, .expires_ns = clock_now_ns() + 60 * CLOCK_S};
                assert_ok(en_step(engine, &permit, &busy, &err), &err);
            }
            assert_non_null(r = en_take_result(engine));
            assert_int_equal(e.prompt_tokens, r->timing.prompt_tokens);
            assert_int_equal(e.image_tokens, r->timing.image_tokens);
            assert_int_equal(f.n_params, info.n_params);
            assert_int_equal(f.weights_bytes, info.weights_bytes);
            assert_int_equal(f.bytes_per_token, info.bytes_per_token);
            assert_int_equal(f.n_experts_used, info.n_experts_used);
            assert_string_equal(f.name, info.name);
            assert_string_equal(f.device, info.device);
            assert_true(f.is_untrained && f.has_vision);
            en_result_free(r);
            free(pixels);
        }
        en_close(engine);
    }
}

/* More work takes longer; what is the same takes the same. All are of one measurement. */
static void more_work_takes_longer(void **state)
{
    static const char *const shapes[] = {"tiny-dense:f32", "tiny-moe:q8_0", "tiny-wide:q4_k", "qwen3.5-35b-a3b/4:q4_k_m"};
    static char words[4001];
    for (size_t i = 0; i < sizeof words - 1; i++)
        words[i] = i % 5 == 4 ? ' ' : 'a';
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const struct en_options options = options_of(shapes[s]);
        struct look looks[4];
        struct en_job jobs[4];
        struct en_estimate e[4];
        struct en_forecast f;
        struct err err = {0};
        look_init(&looks[0], "You watch a dock.", 640, 640, 65536);
        look_init(&looks[1], "You watch a dock.", 640, 640, 65536);
        look_init(&looks[2], "You watch a dock.", 640, 640, 262144);
        look_init(&looks[3], words, 640, 640, 65536);
        for (int i = 0; i < 4; i++)
            jobs[i] = looks[i].job;
        assert_ok(en_estimate(&options, jobs, 4, e, &f, &err), &err);
        for (int i = 0; i < 4; i++)
            assert_true(e[i].vision_ns > 0 && e[i].prefill_ns > 0 && e[i].token_ns > 0 && e[i].shared_token_ns > 0);
        assert_memory_equal(&e[0], &e[1], sizeof e[0]);
        assert_int_equal(e[0].image_tokens, 64);
        assert_int_equal(e[2].image_tokens, 256);
        /* the weights are read once for all rows, so four times the rows are less than four times the time only by that */
        assert_true(e[2].vision_ns > 2 * e[0].vision_ns);
        assert_true(e[2].prefill_ns > e[0].prefill_ns);
        assert_int_equal(e[3].vision_ns, e[0].vision_ns);
        assert_true(e[3].prompt_tokens > e[0].prompt_tokens && e[3].prefill_ns > e[0].prefill_ns);
        assert_true(e[3].token_ns >= e[0].token_ns); /* a longer context is attended to */
        assert_true(f.multiply_adds_per_s > 0 && f.read_bytes_per_s > 0 && f.measure_ns > 0);
    }
}

static void refuses(void **state)
{
    struct en_options options = options_of("tiny-dense:f32");
    struct look l;
    struct en_estimate e = {.prompt_tokens = -7};
    struct en_forecast f = {.n_layers = -7};
    struct err err = {0};
    look_init(&l, "You watch a dock.", 640, 360, 0);
    options.device = "abacus";
    assert_err(en_estimate(&options, &l.job, 1, &e, &f, &err), ERR_NOT_FOUND, &err, "abacus");
    err = (struct err){0};
    options = options_of("no-such-shape:f32");
    assert_err(en_estimate(&options, &l.job, 1, &e, &f, &err), ERR_INVAL, &err, "no-such-shape");
    err = (struct err){0};
    options = options_of(NULL);
    options.model_path = "/nonexistent/model.gguf";
    assert_err(en_estimate(&options, &l.job, 1, &e, &f, &err), ERR_NOT_FOUND, &err, "/nonexistent/model.gguf");
    err = (struct err){0};
    options = options_of("tiny-dense:f32");
    l.view.height_px = 0;
    assert_err(en_estimate(&options, &l.job, 1, &e, &f, &err), ERR_INVAL, &err, "");
    assert_int_equal(e.prompt_tokens, -7);
    assert_int_equal(f.n_layers, -7);
    err = (struct err){0};
    assert_ok(en_estimate(&options, NULL, 0, NULL, &f, &err), &err); /* the model and the machine alone */
    assert_int_equal(f.n_layers, 4);
}

/* Every device that there is can be measured, in every type. */
static void measures_devices_and_types(void **state)
{
    static const char *const names[] = {"ref", "cpu"};
    static const enum kn_dtype types[] = {KN_F32, KN_BF16, KN_Q4_K, KN_Q6_K, KN_MXFP4};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct kn_device *device = NULL;
        struct err err = {0};
        assert_ok(kn_device_open(names[i], &(struct kn_device_options){.threads = 1, .validate = true}, &device, &err), &err);
        for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
            struct speed speed = {.n_types = 1, .types = {{.dtype = types[t], .cols = 512, .rows = 33}}};
            assert_ok(speed_measure(device, 16, &speed, &err), &err);
            assert_true(speed.types[0].pass_s[0] > 0 && speed.types[0].pass_s[SPEED_POINTS - 1] > 0 && speed.attend_s > 0 &&
                        speed.op_s > 0);
            assert_true(speed.read_bytes_per_s >= 0);
        }
        kn_device_close(device);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_as_the_engine_does),
        cmocka_unit_test(more_work_takes_longer),
        cmocka_unit_test(refuses),
        cmocka_unit_test(measures_devices_and_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
