/* heron check: what it says of configurations that are right and of those that are not; its exit statuses; its JSON. */
#include "tests/support/test.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "tests/support/program.h"

#define LIMIT_MS 120000

static const char *folder;
static char model[256], vision[256], config[256];

static void write_file(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    test_write_text(path, text);
}

/* A configuration with these lines under `engine:` (each with its indent and line end) and this text below. */
static void write_config(const char *engine, const char *rest)
{
    char text[4096];
    snprintf(text, sizeof text, "engine:\n  device: cpu\n  model: %s\n  vision: %s\n%s%s", model, vision, engine, rest);
    write_file("heron.yaml", text);
}

#define CAMERAS                                                                                                                \
    "cameras:\n"                                                                                                               \
    "  dock:\n"                                                                                                                \
    "    source: rtsp://viewer:sesame@10.0.0.7/stream1\n"                                                                      \
    "    watch: { every: 7s, deadline: 9s, prompt: You watch a dock. }\n"                                                      \
    "  yard: { source: 'synth:yard?seed=7' }\n"

/* The built program that writes small random models. */
static int make_models(void **state)
{
    char tool[4096];
    struct program p = {0};
    folder = test_temp_dir();
    snprintf(model, sizeof model, "%s/tiny.gguf", folder);
    snprintf(vision, sizeof vision, "%s/mmproj-tiny.gguf", folder);
    snprintf(config, sizeof config, "%s/heron.yaml", folder);
    const char *heron = program_heron(), *slash = strrchr(heron, '/');
    snprintf(tool, sizeof tool, "%.*s/tools/make_model", (int)(slash - heron), heron);
    program_start(&p, tool, PROGRAM_ARGS("--vision", vision, "tiny-dense", model), NULL, NULL);
    const int status = program_await(&p, LIMIT_MS);
    program_release(&p);
    return status;
}

/* Check the configuration: the status must be `want`, and nothing may show the password. */
static struct program_result check(int want, bool as_json)
{
    struct program_result r;
    program_run(as_json ? PROGRAM_ARGS("check", "-c", config, "--json") : PROGRAM_ARGS("check", "-c", config), NULL, LIMIT_MS,
                &r);
    if (r.status != want)
        fail_msg("status %d, expected %d; said: %s%s", r.status, want, r.out, r.err);
    assert_false(test_contains(r.out, "sesame") || test_contains(r.err, "sesame"));
    return r;
}

static void has(const char *text, const char *words)
{
    if (!test_contains(text, words))
        fail_msg("expected \"%s\" in: %s", words, text);
}

/* The configuration is refused: nothing on standard output, and all of these on standard error, up to a NULL. */
static void refused(const char *const *words)
{
    struct program_result r = check(EX_CONFIG, false);
    assert_int_equal(r.n_out, 0);
    for (; *words; words++)
        has(r.err, *words);
    program_result_free(&r);
}

#define REFUSED(...) refused((const char *const[]){__VA_ARGS__, NULL})

/* "FILE:line:col: " of the main file. */
static const char *at(int line, int col)
{
    static char text[4][320];
    static int i;
    char *t = text[i++ % 4];
    snprintf(t, sizeof text[0], "%s:%d:%d: ", config, line, col);
    return t;
}

/* ---- right ones ------------------------------------------------------------------------------------------------------------ */

static void shows_the_plan(void **state)
{
    write_config("", CAMERAS "  gate: { source: 'synth:yard', enabled: off }\n");
    struct program_result r = check(0, false);
    assert_string_equal(r.err, "");
    const char *const words[] = {"tiny-dense",
                                 "weights",
                                 "KV cache",
                                 "3 sessions x",
                                 "recurrent state",
                                 "scratch",
                                 "total",
                                 "dock",
                                 "7 s",
                                 "9 s",
                                 "rtsp://***@10.0.0.7/stream1",
                                 "synth:yard?seed=7",
                                 "picture",
                                 "60 answer",
                                 "off",
                                 "estimates",
                                 "2 cameras",
                                 "untrained"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        has(r.out, words[i]);
    program_result_free(&r);
}

static json_t *check_json(void)
{
    struct program_result r = check(0, true);
    json_error_t error;
    json_t *root = json_loads(r.out, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        fail_msg("line %d: %s in: %s", error.line, error.text, r.out);
    program_result_free(&r);
    return root;
}

static double number(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    if (!json_is_number(v))
        fail_msg("no number \"%s\"", key);
    return json_number_value(v);
}

static void adds_up_in_json(void **state)
{
    write_config("  context: 1024\n", CAMERAS);
    json_t *root = check_json(), *memory = json_object_get(root, "memory"), *cameras = json_object_get(root, "cameras");
    assert_true(number(memory, "weights_bytes") + number(memory, "kv_bytes") + number(memory, "state_bytes") +
                    number(memory, "scratch_bytes") ==
                number(memory, "total_bytes"));
    assert_true(number(memory, "total_bytes") < number(memory, "budget_bytes"));
    assert_int_equal(number(memory, "sessions"), 2);
    assert_int_equal(number(memory, "context_tokens"), 1024);
    assert_int_equal(json_array_size(cameras), 2);
    double load = 0;
    size_t i;
    json_t *c;
    json_array_foreach(cameras, i, c)
    {
        const json_t *ms = json_object_get(c, "expected_ms");
        const double sum = number(ms, "vision") + number(ms, "prompt") + number(ms, "answer"), total = number(ms, "total");
        /* figures are printed with six digits */
        assert_true(number(ms, "vision") > 0 && number(ms, "prompt") > 0 && number(ms, "answer") > 0);
        assert_true(sum > total * 0.9999 && sum < total * 1.0001);
        assert_true(number(c, "longest_ms") > total);
        assert_true(json_is_true(json_object_get(c, "makes_deadline")) == (total <= number(c, "deadline_ms")));
        assert_int_equal(number(c, "answer_tokens"), 60);
        /* 1920 x 1080 within 262,144 pixels, in tiles of 32: 21 x 12 */
        assert_int_equal(number(c, "picture_tokens"), 252);
        load += total / number(c, "every_ms");
    }
    const double said = number(json_object_get(root, "load"), "share");
    assert_true(said > load * 0.9999 && said < load * 1.0001);
    c = json_array_get(cameras, 0);
    assert_string_equal(json_string_value(json_object_get(c, "id")), "dock");
    assert_string_equal(json_string_value(json_object_get(c, "source")), "rtsp://***@10.0.0.7/stream1");
    assert_int_equal(number(c, "every_ms"), 7000);
    assert_int_equal(number(c, "deadline_ms"), 9000);
    json_decref(root);
}

static void fewer_tokens_where_there_are_less(void **state)
{
    write_config("", "cameras:\n  a: { source: 'synth:yard', watch: { max_tokens: 40, max_pixels: 65536 } }\n"
                     "  b: { source: 'synth:yard', watch: { thinking: on, max_tokens: 300 } }\n");
    json_t *root = check_json(), *cameras = json_object_get(root, "cameras");
    const json_t *a = json_array_get(cameras, 0), *b = json_array_get(cameras, 1);
    assert_int_equal(number(a, "answer_tokens"), 40);
    assert_int_equal(number(b, "answer_tokens"), 300); /* how long it thinks nobody knows */
    assert_true(number(a, "picture_tokens") <= 64);
    assert_true(number(json_object_get(a, "expected_ms"), "vision") < number(json_object_get(b, "expected_ms"), "vision"));
    json_decref(root);
}

/* The smallest deadline is 100 ms; on the reference device, slow by design, no machine makes it with such a picture. */
static void tells_of_deadlines_and_later_keys(void **state)
{
    char text[2048];
    snprintf(text, sizeof text,
             "engine: { device: ref, model: %s, vision: %s }\n"
             "mqtt: { discovery: { enabled: on } }\n"
             "thermal: { sensors: 'simulated:spark?limit=64' }\n"
             "cameras:\n  dock:\n    source: synth:yard\n    watch:\n      every: 100ms\n      deadline: 100ms\n"
             "      max_pixels: 1048576\n      max_tokens: 2048\n      thinking: on\n"
             "      rules: { no_vest: Is a person without a vest there? }\n",
             model, vision);
    write_file("heron.yaml", text);
    struct program_result r = check(0, false);
    has(r.out, "MISSES ITS DEADLINE");
    has(r.out, "longer than its deadline of 100 ms");
    has(r.out, "longer than watch.every of 100 ms");
    has(r.out, "mqtt.discovery.enabled: accepted, not yet active");
    has(r.out, "gpu                          limit 64 C");
    has(r.out, "board                        limit 80 C");
    has(r.out, "cameras.dock.watch.rules");
    program_result_free(&r);
    json_t *root = check_json();
    assert_true(json_is_false(json_object_get(json_array_get(json_object_get(root, "cameras"), 0), "makes_deadline")));
    assert_int_equal(number(json_object_get(root, "load"), "cameras_by_time"), 0);
    assert_true(json_array_size(json_object_get(root, "warnings")) >= 4);
    json_decref(root);
}

static void reads_conf_d(void **state)
{
    char path[512];
    snprintf(path, sizeof path, "%s/conf.d", folder);
    assert_int_equal(mkdir(path, 0755), 0);
    write_config("", CAMERAS);
    write_file("conf.d/20-porch.yaml", "cameras:\n  porch: { source: 'synth:yard' }\n  dock: { watch: { every: 11s } }\n");
    json_t *root = check_json(), *cameras = json_object_get(root, "cameras");
    assert_int_equal(json_array_size(cameras), 3);
    assert_int_equal(number(json_array_get(cameras, 0), "every_ms"), 11000);
    json_decref(root);
    write_file("conf.d/20-porch.yaml", "cameras:\n  porch: { sauce: 'synth:yard' }\n");
    snprintf(path, sizeof path, "%s/conf.d/20-porch.yaml:2:", folder);
    REFUSED(path, "sauce", "source");
    snprintf(path, sizeof path, "%s/conf.d/20-porch.yaml", folder);
    assert_int_equal(unlink(path), 0);
}

/* ---- wrong ones ------------------------------------------------------------------------------------------------------------ */

static void refuses_bad_yaml(void **state)
{
    write_file("heron.yaml", "cameras:\n  dock: [\n");
    REFUSED(config);
    write_config("  modle: x\n", "cameras:\n  dock: { source: 7 }\n  yard: { surce: 'synth:yard' }\n");
    REFUSED(at(5, 3), "modle", at(7, 19), at(8, 11), "surce", "^~");
}

static void refuses_a_missing_model(void **state)
{
    char text[1024];
    snprintf(text, sizeof text, "engine:\n  model: %s/none.gguf\n  vision: %s\n" CAMERAS, folder, vision);
    write_file("heron.yaml", text);
    REFUSED(at(2, 10), "none.gguf", strerror(ENOENT));
    snprintf(text, sizeof text, "engine:\n  model: %s\n  vision: %s/none.gguf\n" CAMERAS, model, folder);
    write_file("heron.yaml", text);
    REFUSED(at(3, 11), "none.gguf", strerror(ENOENT));
    /* the two in each other's place */
    snprintf(text, sizeof text, "engine:\n  model: %s\n  vision: %s\n" CAMERAS, vision, model);
    write_file("heron.yaml", text);
    REFUSED(at(2, 10), "mmproj");
}

static void refuses_a_truncated_model(void **state)
{
    char path[512], text[1024];
    size_t n;
    snprintf(path, sizeof path, "%s/cut.gguf", folder);
    char *bytes = test_read_file(model, &n);
    static const int cuts[] = {0, 3, 100, 20000};
    for (size_t i = 0; i <= sizeof cuts / sizeof *cuts; i++) {
        test_write_file(path, bytes, i < sizeof cuts / sizeof *cuts ? (size_t)cuts[i] : n - 1);
        snprintf(text, sizeof text, "engine:\n  model: %s\n  vision: %s\n" CAMERAS, path, vision);
        write_file("heron.yaml", text);
        REFUSED(at(2, 10), "cut.gguf");
    }
    free(bytes);
}

static void refuses_what_does_not_fit(void **state)
{
    write_config("  memory: 1MB\n", CAMERAS);
    REFUSED(at(5, 11), "engine.memory allows", "2 sessions");
    write_config("  context: 600\n", CAMERAS); /* enough for a picture and an answer, not for the prompt */
    REFUSED(at(5, 12), "context");
    write_config("  context: 1000000\n", CAMERAS);
    REFUSED("trained for");
}

static void refuses_a_device_that_is_not_there(void **state)
{
    char text[1024];
    snprintf(text, sizeof text, "engine:\n  device: cuda:97\n  model: %s\n  vision: %s\n" CAMERAS, model, vision);
    write_file("heron.yaml", text);
    REFUSED(at(2, 11), "97");
}

static void refuses_unreadable_files(void **state)
{
    assert_int_equal(unlink(config), 0);
    REFUSED(config, strerror(ENOENT));
    assert_int_equal(mkdir(config, 0755), 0);
    REFUSED(config);
    assert_int_equal(rmdir(config), 0);
    if (geteuid() == 0)
        return; /* root reads everything */
    write_config("", CAMERAS);
    assert_int_equal(chmod(config, 0), 0);
    REFUSED(config, strerror(EACCES));
    assert_int_equal(unlink(config), 0);
}

static void knows_its_options(void **state)
{
    struct program_result r;
    assert_int_equal(program_run(PROGRAM_ARGS("check", "heron.yaml"), NULL, LIMIT_MS, &r), EX_USAGE);
    has(r.err, "-c");
    program_result_free(&r);
    assert_int_equal(program_run(PROGRAM_ARGS("check", "--jsn"), NULL, LIMIT_MS, &r), EX_USAGE);
    has(r.err, "json");
    program_result_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_the_plan),
        cmocka_unit_test(adds_up_in_json),
        cmocka_unit_test(fewer_tokens_where_there_are_less),
        cmocka_unit_test(tells_of_deadlines_and_later_keys),
        cmocka_unit_test(reads_conf_d),
        cmocka_unit_test(refuses_bad_yaml),
        cmocka_unit_test(refuses_a_missing_model),
        cmocka_unit_test(refuses_a_truncated_model),
        cmocka_unit_test(refuses_what_does_not_fit),
        cmocka_unit_test(refuses_a_device_that_is_not_there),
        cmocka_unit_test(refuses_unreadable_files),
        cmocka_unit_test(knows_its_options),
    };
    return cmocka_run_group_tests(tests, make_models, NULL);
}
