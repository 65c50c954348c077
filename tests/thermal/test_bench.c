/* What `bench-thermal --require` is worth: a box that keeps its targets ends well, and one that does not is named with what was missed. */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/program.h"

/* Its exit status; what it wrote is malloc'ed. */
static int bench(const char *const *args, bool is_stderr, char **ret_text)
{
    char path[4200];
    struct program p = {0};
    snprintf(path, sizeof path, "%s", program_heron());
    *strrchr(path, '/') = 0;
    strcat(path, "/tests/thermal/bench");
    program_start(&p, path, args, NULL, NULL);
    const int status = program_await(&p, 300000);
    *ret_text = program_text(&p, is_stderr);
    program_release(&p);
    return status;
}

static void test_what_keeps_its_targets_passes(void **state)
{
    char *out;
    assert_int_equal(bench(PROGRAM_ARGS("--set", "slow", "--seed", "20", "--plants", "2", "--quick", "--require"), false, &out),
                     0);
    assert_true(test_contains(out, "heron") && test_contains(out, "100.00 %"));
    assert_null(strstr(out, "not reached"));
    free(out);
}

/* What waits until it is too hot misses whatever it is asked for. */
static void test_what_misses_one_is_named(void **state)
{
    for (int is_required = 0; is_required < 2; is_required++) {
        char *out;
        assert_int_equal(bench(PROGRAM_ARGS("--set", "slow", "--seed", "20", "--plants", "2", "--quick", "--judge",
                                            "bang-bang, 5 K", is_required ? "--require" : "--threads=1"),
                               false, &out),
                         is_required);
        assert_true(test_contains(out, "not reached: overshoot at most") && test_contains(out, "wanted at most 1\n"));
        assert_true(test_contains(out, "not reached: batch changes an hour"));
        assert_null(strstr(out, "  heron "));
        free(out);
    }
}

/* Beside the others, at least so much better; the file holds a line for each. */
static void test_others_are_held_against_it(void **state)
{
    char csv[300], *out;
    snprintf(csv, sizeof csv, "%s/figures.csv", test_temp_dir());
    assert_int_equal(bench(PROGRAM_ARGS("--set", "slow", "--seed", "20", "--plants", "1", "--csv", csv), false, &out), 0);
    assert_true(test_contains(out, "power_allocator, strong") && test_contains(out, "bang-bang"));
    char *lines = test_read_file(csv, NULL);
    int n = 0;
    for (const char *at = lines; (at = strchr(at, '\n')) != NULL; at++)
        n++;
    assert_int_equal(n, 1 + 11);
    free(lines);
    free(out);
}

static void test_what_there_is_not_is_refused(void **state)
{
    char *said;
    assert_int_equal(bench(PROGRAM_ARGS("--set", "steep"), true, &said), 64);
    assert_true(test_contains(said, "there is no set \"steep\""));
    free(said);
    assert_int_equal(bench(PROGRAM_ARGS("--judge", "a fan"), true, &said), 64);
    assert_true(test_contains(said, "there is no control \"a fan\""));
    free(said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_keeps_its_targets_passes),
        cmocka_unit_test(test_what_misses_one_is_named),
        cmocka_unit_test(test_others_are_held_against_it),
        cmocka_unit_test(test_what_there_is_not_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
