/*
 * heron demo: broker, daemon and camera of its own; ends by itself or when it is told, and leaves nothing behind.
 */
#include "tests/support/test.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "pipeline/pipeline.h"
#include "tests/support/box.h"

static char folder[300], tmpdir[320];

static int make_folder(void **state)
{
    snprintf(folder, sizeof folder, "%s", test_temp_dir());
    snprintf(tmpdir, sizeof tmpdir, "TMPDIR=%s", test_temp_dir());
    return 0;
}

/* What it made is gone. */
static void assert_tidy(void)
{
    DIR *dir = opendir(strchr(tmpdir, '=') + 1);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.')
            fail_msg("%s is left behind", e->d_name);
    closedir(dir);
}

static char *out_of(struct program *p)
{
    return program_text(p, false);
}

static void start_with(struct program *p, const char *path, const char *const *args, const char *env)
{
    if (!broker_is_there())
        skip_because("mosquitto is not installed");
    *p = (struct program){0};
    program_start(p, path, args, NULL, (const char *const[]){env, NULL});
}

static void start_demo(struct program *p, const char *const *args)
{
    start_with(p, program_heron(), args, tmpdir);
}

static void test_ends_by_itself(void **state)
{
    struct program p;
    char back[4200];
    assert_non_null(getcwd(back, sizeof back));
    const char *model = box_model(), *vision = box_vision(), *name = strrchr(model, '/');
    char from[400];
    snprintf(from, sizeof from, "%.*s", (int)(name - model), model);
    assert_int_equal(chdir(from), 0); /* files are named as they lie from here */
    start_demo(&p, PROGRAM_ARGS("demo", "--seconds", "3", "--every", "500", "-m", name + 1, "-v", strrchr(vision, '/') + 1));
    assert_int_equal(chdir(back), 0);
    const int status = program_await(&p, 2 * BOX_PATIENCE_MS);
    char *out = out_of(&p), *err = program_text(&p, true);
    if (status != 0)
        fail_msg("status %d: %s%s", status, out, err);
    assert_true(test_contains(out, "synth:yard"));
    assert_true(test_contains(out, "untrained")); /* wherever it speaks */
    assert_true(test_contains(out, "hazard"));
    assert_true(test_contains(out, "observations arrived; capture to publish: median"));
    free(out);
    free(err);
    program_release(&p);
    assert_tidy();
}

/* How often `words` stand in a text. */
static int count(const char *text, const char *words)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, words)); at += strlen(words))
        n++;
    return n;
}

/* A row of the table at the end: "  people   47 of    48". */
static void assert_share(const char *table, const char *name, int n, int of)
{
    char row[64];
    const char *at;
    snprintf(row, sizeof row, "\n  %-16s %5d of %5d ", name, n, of);
    at = strstr(table, row);
    if (!at)
        fail_msg("not \"%s\": %s", row + 1, table);
}

/* Line by line: each answer beside the truth, and the table counts those lines. */
static void test_tally(void **state)
{
    static const char *const fields[] = {"people", "vehicles", "animals", "hazard"};
    struct program p;
    start_demo(&p, PROGRAM_ARGS("demo", "--seconds", "6", "--every", "300", "-m", box_model(), "-v", box_vision()));
    assert_int_equal(program_await(&p, 2 * BOX_PATIENCE_MS), 0);
    char *out = out_of(&p), *table = strstr(out, " observations arrived");
    assert_non_null(table);
    assert_null(strchr(out, '\033')); /* no terminal: plain text */
    int n_lines = 0, n_right = 0, n_ok[4] = {0};
    char *save = NULL, *lines = strndup(out, (size_t)(table - out));
    assert_non_null(lines);
    const int n_said = atoi(strrchr(lines, '\n') + 1);
    for (char *line = strtok_r(lines, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (!strstr(line, ", hazard "))
            continue;
        n_lines++;
        int n = 0;
        const char *quote = strrchr(line, '"'), *fields_at = strstr(quote ? quote : line, "  people "); /* behind the summary */
        assert_non_null(fields_at);
        for (size_t f = 0; f < 4; f++) {
            const char *at = strstr(fields_at, fields[f]), *end = strstr(at, f < 3 ? ", " : "  (queue");
            char said[128], answer[32], mark[64], truth[32];
            assert_non_null(end);
            snprintf(said, sizeof said, "%.*s", (int)(end - at), at);
            assert_int_equal(sscanf(said + strlen(fields[f]), " %31s %63[^\n]", answer, mark), 2);
            const bool is_ok = strcmp(mark, "ok") == 0;
            if (!is_ok && (sscanf(mark, "(truth %31[^)])", truth) != 1 || strcmp(truth, answer) == 0))
                fail_msg("%s", line);
            n_ok[f] += is_ok;
            n += is_ok;
        }
        n_right += n == 4;
        assert_non_null(strstr(line, n == 4 ? " s  right  " : " s  wrong  "));
    }
    free(lines);
    assert_true(n_lines >= 1 && n_lines == count(out, "  (queue "));
    assert_int_equal(n_lines, n_said);
    for (size_t f = 0; f < 4; f++)
        assert_share(table, fields[f], n_ok[f], n_lines);
    assert_share(table, "all four", n_right, n_lines);
    free(out);
    program_release(&p);
    assert_tidy();
}

/* The seed is that of the camera: the frame that an observation names, drawn here, is what its truth says. */
static void test_seed(void **state)
{
    struct program p;
    struct broker broker = {0};
    struct subscriber s = {0};
    struct pl_synth *synth;
    struct err err = {0};
    char port[16];
    static uint8_t rgb[640 * 360 * 3];
    if (!broker_is_there())
        skip_because("mosquitto is not installed");
    broker.port = broker_free_port();
    snprintf(port, sizeof port, "%d", broker.port);
    start_demo(&p,
               PROGRAM_ARGS("demo", "--seed", "4711", "--every", "500", "--port", port, "-m", box_model(), "-v", box_vision()));
    assert_true(program_await_text(&p, false, "seed=4711", BOX_PATIENCE_MS));
    subscriber_start(&s, &broker, "heron/#");
    const struct subscriber_message *m = subscriber_await(&s, 0, "heron/yard/scene", NULL);
    json_t *scene = json_loads(m->payload, 0, NULL), *said = json_object_get(scene, "truth");
    assert_true(json_is_integer(json_object_get(said, "frame")));
    const char *text = NULL, *key;
    assert_ok(pl_synth_open("synth:yard?seed=4711&size=640x360&fps=5", &synth, &err), &err);
    assert_int_equal(
        pl_synth_draw(synth, (uint64_t)json_integer_value(json_object_get(said, "frame")), rgb, 640 * 3, &text, NULL), 0);
    json_t *truth = json_loads(text, 0, NULL), *value;
    json_object_foreach(said, key, value) if (strcmp(key, "frame") != 0)
        assert_true(json_equal(value, json_object_get(truth, key)));
    json_decref(truth);
    json_decref(scene);
    pl_synth_close(synth);
    subscriber_release(&s);
    assert_true(program_await_text(&p, false, "hazard", BOX_PATIENCE_MS));
    program_signal(&p, SIGINT);
    assert_int_equal(program_await(&p, BOX_PATIENCE_MS), 0);
    program_release(&p);
    assert_tidy();

    start_demo(&p, PROGRAM_ARGS("demo", "--seed", "5", "--camera", "synth:yard", "-m", box_model(), "-v", box_vision()));
    assert_int_equal(program_await(&p, BOX_PATIENCE_MS), 64);
    program_release(&p);
    assert_tidy();
}

static void test_interrupted(void **state)
{
    struct program p;
    start_demo(&p, PROGRAM_ARGS("demo", "--every", "500", "-m", box_model(), "-v", box_vision()));
    assert_true(program_await_text(&p, false, "hazard", BOX_PATIENCE_MS));
    program_signal(&p, SIGINT);
    assert_int_equal(program_await(&p, BOX_PATIENCE_MS), 0);
    program_release(&p);
    assert_tidy();
}

/* Before the daemon has begun: nobody waits for its last words. */
static void test_interrupted_at_once(void **state)
{
    struct program p;
    start_demo(&p, PROGRAM_ARGS("demo", "--every", "500", "-m", box_model(), "-v", box_vision()));
    assert_true(program_await_text(&p, false, "Ctrl-C", BOX_PATIENCE_MS));
    program_signal(&p, SIGINT);
    assert_int_equal(program_await(&p, BOX_PATIENCE_MS), 69); /* nothing was observed */
    program_release(&p);
    assert_tidy();
}

/* The terminal closes. */
static void test_hung_up(void **state)
{
    struct program p;
    start_demo(&p, PROGRAM_ARGS("demo", "--every", "500", "-m", box_model(), "-v", box_vision()));
    assert_true(program_await_text(&p, false, "hazard", BOX_PATIENCE_MS));
    program_signal(&p, SIGHUP);
    assert_int_equal(program_await(&p, BOX_PATIENCE_MS), 0);
    program_release(&p);
    assert_tidy();
}

/* Somebody else's broker on the port: it is not talked to. */
static void test_port_is_taken(void **state)
{
    struct program p;
    struct broker broker = {0};
    struct subscriber s = {0};
    char port[16];
    if (!broker_is_there())
        skip_because("mosquitto is not installed");
    broker_start(&broker, NULL);
    subscriber_start(&s, &broker, "#");
    snprintf(port, sizeof port, "%d", broker.port);
    start_demo(&p, PROGRAM_ARGS("demo", "--seconds", "3", "--port", port, "-m", box_model(), "-v", box_vision()));
    assert_int_equal(program_await(&p, BOX_PATIENCE_MS), 69);
    char *err = program_text(&p, true);
    if (!test_contains(err, port) || !test_contains(err, "in use"))
        fail_msg("%s", err);
    free(err);
    program_release(&p);
    assert_int_equal(subscriber_mark(&s), 0);
    subscriber_release(&s);
    broker_release(&broker);
    assert_tidy();
}

/* Nothing arrives: it fails, and says why. */
static void test_nothing_to_observe(void **state)
{
    struct program p;
    char none[400];
    snprintf(none, sizeof none, "%s/none.gguf", folder);
    start_demo(&p, PROGRAM_ARGS("demo", "--seconds", "3", "-m", none, "-v", box_vision()));
    assert_true(program_await(&p, BOX_PATIENCE_MS) > 0);
    char *err = program_text(&p, true);
    assert_true(test_contains(err, "none.gguf"));
    free(err);
    program_release(&p);
    start_demo(&p, PROGRAM_ARGS("demo", "--seconds", "5", "-m", box_model(), "-v", box_vision(), "--camera",
                                "file:/nonexistent/clip.mp4"));
    assert_int_equal(program_await(&p, BOX_PATIENCE_MS), 69);
    err = program_text(&p, true);
    if (!test_contains(err, "nothing was observed: camera yard: ") || !test_contains(err, "/nonexistent/clip.mp4"))
        fail_msg("%s", err);
    free(err);
    program_release(&p);
    assert_tidy();
}

/* Nobody reads its lines any more: it ends by itself. */
static void test_nobody_reads(void **state)
{
    struct program p;
    char command[2000];
    snprintf(command, sizeof command, "'%s' demo --every 300 -m '%s' -v '%s' | head -n 1", program_heron(), box_model(),
             box_vision());
    start_with(&p, "/bin/sh", PROGRAM_ARGS("-c", command), tmpdir);
    assert_int_equal(program_await(&p, 2 * BOX_PATIENCE_MS), 0);
    program_release(&p);
    assert_tidy();
}

/* A folder for temporary files with a name as long as some systems have it. */
static void test_a_long_tmpdir(void **state)
{
    struct program p;
    char set[500], none[400];
    const int n = snprintf(set, sizeof set, "TMPDIR=%s/", test_temp_dir());
    memset(set + n, 'a', 80);
    set[n + 80] = 0;
    assert_int_equal(mkdir(strchr(set, '=') + 1, 0700), 0);
    snprintf(none, sizeof none, "%s/none.gguf", folder);
    start_with(&p, program_heron(), PROGRAM_ARGS("demo", "--seconds", "3", "-m", none, "-v", box_vision()), set);
    assert_true(program_await(&p, BOX_PATIENCE_MS) > 0);
    char *err = program_text(&p, true);
    if (!test_contains(err, "none.gguf") || test_contains(err, "folder"))
        fail_msg("%s", err);
    free(err);
    program_release(&p);
}

/* What would be ignored is refused. */
static void test_options_that_mean_nothing(void **state)
{
    static const char *const cases[][2] = {{"-v", "x.gguf"}, {"--isa", "avx2"}};
    for (size_t i = 0; i < 2; i++) {
        struct program p;
        start_demo(&p, PROGRAM_ARGS("demo", "--seconds", "3", cases[i][0], cases[i][1]));
        assert_int_equal(program_await(&p, BOX_PATIENCE_MS), 64);
        char *err = program_text(&p, true);
        assert_true(test_contains(err, cases[i][0]));
        free(err);
        program_release(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_reads),
        cmocka_unit_test(test_a_long_tmpdir),
        cmocka_unit_test(test_options_that_mean_nothing),
        cmocka_unit_test(test_ends_by_itself),
        cmocka_unit_test(test_tally),
        cmocka_unit_test(test_seed),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_interrupted_at_once),
        cmocka_unit_test(test_hung_up),
        cmocka_unit_test(test_port_is_taken),
        cmocka_unit_test(test_nothing_to_observe),
    };
    return cmocka_run_group_tests(tests, make_folder, NULL);
}
