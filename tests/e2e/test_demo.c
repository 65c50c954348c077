/*
 * heron demo: broker, daemon and camera of its own; ends by itself or when it is told, and leaves nothing behind.
 */
#include "tests/support/test.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static void start_demo(struct program *p, const char *const *args)
{
    if (!broker_is_there())
        skip_because("mosquitto is not installed");
    *p = (struct program){0};
    program_start(p, program_heron(), args, NULL, (const char *const[]){tmpdir, NULL});
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends_by_itself), cmocka_unit_test(test_interrupted),   cmocka_unit_test(test_interrupted_at_once),
        cmocka_unit_test(test_hung_up),        cmocka_unit_test(test_port_is_taken), cmocka_unit_test(test_nothing_to_observe),
    };
    return cmocka_run_group_tests(tests, make_folder, NULL);
}
