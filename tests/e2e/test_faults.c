/*
 * What is not there, and what breaks: a truthful status, nothing crashes, nothing is silently replaced.
 */
#include "tests/support/test.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/box.h"

#define WATCH "watch: { every: 500ms, max_pixels: 65536, max_tokens: 96 }"
#define YARD  "  yard: { source: 'synth:yard?seed=1&size=320x180&fps=5', " WATCH " }\n"

/* Cameras of every kind that are not there, beside one that is. */
static void test_cameras_that_are_not_there(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    box_rig_start(r,
                  "cameras:\n" YARD "  lost: { source: 'file:/nonexistent/clip.mp4', " WATCH " }\n"
                  "  far: { source: 'rtsp://viewer:hunter2@127.0.0.1:1/stream', " WATCH " }\n"
                  "  cable: { source: 'v4l2:/dev/video99', " WATCH " }\n"
                  "  odd: { source: 'gst:filesrc location=/nonexistent/odd.bin ! decodebin', " WATCH " }\n",
                  NULL);
    subscriber_await(s, 0, "heron/yard/status/analysis", "online"); /* the others do not disturb it */
    subscriber_await(s, 0, "heron/lost/status/capture", "offline");
    subscriber_await(s, 0, "heron/far/status/capture", "offline");
    subscriber_await(s, 0, "heron/cable/status/capture", "offline");
    subscriber_await(s, 0, "heron/odd/status/capture", "offline");
    box_await_words(s, "heron/status", "camera lost: ");
    box_await_words(s, "heron/status", "/nonexistent/clip.mp4");
    box_await_words(s, "heron/status", "camera far: ");
    box_await_words(s, "heron/status", "camera cable: ");
    box_await_words(s, "heron/status", "odd.bin");
    box_await_words(s, "heron/lost/health", "/nonexistent/clip.mp4");
    assert_string_equal(box_value(s, "heron/status", "/state"), "\"degraded\"");
    char *log = box_log(&r->box);
    assert_false(test_contains(log, "hunter2"));
    free(log);
    assert_int_equal(box_stop(&r->box), 0);
    for (size_t i = 0; i < s->n; i++)
        assert_false(test_contains(s->messages[i]->payload, "hunter2"));
    box_judge(s, (const char *const[]){"status", "lost/health", NULL});
}

/* The model comes later, on a disk that is mounted late: the box says what is wrong, and then works. */
static void test_model_comes_later(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    char engine[1500], model[400];
    box_rig_open(r);
    snprintf(model, sizeof model, "%s/later.gguf", r->box.folder);
    snprintf(engine, sizeof engine, "engine: { model: '%s', vision: '%s', device: cpu, threads: 2 }\n", model, box_vision());
    box_configure(&r->box, &r->broker, engine, "cameras:\n" YARD);
    box_start(&r->box, NULL);
    box_await_words(s, "heron/status", "later.gguf");
    assert_string_equal(box_value(s, "heron/status", "/state"), "\"degraded\"");
    assert_string_equal(box_value(s, "heron/status", "/engine/ready"), "false");
    subscriber_await(s, 0, "heron/yard/status/capture", "online");
    assert_string_equal(subscriber_last(s, "heron/yard/status/analysis")->payload, "offline");
    assert_int_equal(symlink(box_model(), model), 0);
    subscriber_await(s, 0, "heron/yard/scene", NULL);
    subscriber_await(s, 0, "heron/yard/status/analysis", "online");
    box_await_words(s, "heron/status", "\"state\":\"running\"");
    assert_int_equal(box_stop(&r->box), 0);
    box_judge(s, (const char *const[]){"status", NULL});
}

/* A damaged model: the daemon says so and stays; nothing takes its place. */
static void test_damaged_model(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    char engine[1500], model[400];
    box_rig_open(r);
    snprintf(model, sizeof model, "%s/half.gguf", r->box.folder);
    FILE *in = fopen(box_model(), "rbe"), *out = fopen(model, "wbe");
    assert_true(in && out);
    for (int i = 0, c; i < 200000 && (c = getc(in)) != EOF; i++)
        putc(c, out);
    fclose(in);
    fclose(out);
    snprintf(engine, sizeof engine, "engine: { model: '%s', vision: '%s', device: cpu, threads: 2 }\n", model, box_vision());
    box_configure(&r->box, &r->broker, engine, "cameras:\n" YARD);
    box_start(&r->box, NULL);
    box_await_words(s, "heron/status", "half.gguf");
    assert_string_equal(box_value(s, "heron/status", "/state"), "\"degraded\"");
    assert_int_equal(subscriber_count(s, 0, "heron/yard/scene"), 0);
    assert_int_equal(box_stop(&r->box), 0);
}

/* A device that this machine does not have is never replaced by another. */
static void test_device_that_is_not_there(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    char engine[1500];
    box_rig_open(r);
    snprintf(engine, sizeof engine, "engine: { model: '%s', vision: '%s', device: 'cuda:63' }\n", box_model(), box_vision());
    box_configure(&r->box, &r->broker, engine, "cameras:\n" YARD);
    box_start(&r->box, NULL);
    box_await_words(s, "heron/status", "engine: ");
    box_await_words(s, "heron/status", "no CUDA device 63");
    assert_string_equal(box_value(s, "heron/status", "/engine/ready"), "false");
    assert_int_equal(box_stop(&r->box), 0);
    assert_int_equal(subscriber_count(s, 0, "heron/yard/scene"), 0);
}

static void expect_refusal(const char *config, const char *const *words)
{
    struct box box;
    box_init(&box);
    FILE *f = fopen(box.config, "we");
    assert_non_null(f);
    fputs(config, f);
    fclose(f);
    box_start(&box, NULL);
    assert_int_equal(program_await(&box.daemon, BOX_PATIENCE_MS), 78);
    char *log = box_log(&box);
    for (; *words; words++)
        if (!test_contains(log, *words))
            fail_msg("\"%s\" is not in:\n%s", *words, log);
    free(log);
    box_release(&box);
}

static void test_impossible_configurations(void **state)
{
    expect_refusal("cameras:\n  yard:\n    sorce: synth:yard\n",
                   (const char *const[]){"heron.yaml:3:5: unknown key \"sorce\": did you mean \"source\"?",
                                         "    sorce: synth:yard\n", "\n        ^~~~~", NULL});
    expect_refusal("", (const char *const[]){"heron.yaml:1:1: no camera", NULL});
    expect_refusal("cameras: {yard: {source: 'synth:yard'}}\nengine: {batch: many}\nmqtt: {port: 70000}\n",
                   (const char *const[]){":2:17: engine.batch", ":3:14: mqtt.port", NULL}); /* all at once */
    char config[2000];
    snprintf(config, sizeof config,
             "cameras: {yard: {source: 'synth:yard'}}\nengine:\n  model: %s\n  vision: %s\n  memory: 1MB\n", box_model(),
             box_vision());
    expect_refusal(config, (const char *const[]){"heron.yaml:5:", "engine.memory allows 0.0010 GB", NULL});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cameras_that_are_not_there, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_model_comes_later, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_model, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_device_that_is_not_there, box_set_up, box_tear_down),
        cmocka_unit_test(test_impossible_configurations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
