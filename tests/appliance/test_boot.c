/* boot: what survives a restart, and a power cut. */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "appliance/boot.h"
#include "base/clock.h"
#include "base/log.h"

/* FOLDER/NAME; the newest sixteen texts stay good. */
static char *path_in(const char *folder, const char *name)
{
    static char *paths[16];
    static int at;
    char **p = &paths[at++ % 16];
    free(*p);
    assert_true(asprintf(p, "%s/%s", folder, name) > 0);
    return *p;
}

static char *read_text(const char *path)
{
    static char *text;
    free(text);
    return text = test_read_file(path, NULL);
}

static struct boot *open_in(const char *folder)
{
    struct boot *b = NULL;
    struct err err = {0};
    assert_ok(boot_open(folder, &b, &err), &err);
    return b;
}

static void test_counts_every_start(void **state)
{
    char *folder = path_in(test_temp_dir(), "deeper/state");
    for (uint64_t i = 1; i <= 3; i++) {
        struct boot *b = open_in(folder);
        assert_int_equal(boot_count(b), i);
        assert_string_equal(boot_path(b), folder);
        assert_string_equal(boot_why(b), "");
        boot_close(b);
    }
    assert_string_equal(read_text(path_in(folder, "boot")), "3\n");
}

/* It may never go back: after a lost file it goes on from the clock. */
static void test_damaged_count_goes_on_from_the_clock(void **state)
{
    static const char *const bad[] = {"", "x\n", "-4\n", " 4\n", "4 5\n", "99999999999999999999999\n", "4"};
    const char *folder = test_temp_dir();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        test_write_text(path_in(folder, "boot"), bad[i]);
        struct boot *b = open_in(folder);
        if (strcmp(bad[i], "4") == 0) { /* only the newline is missing */
            assert_int_equal(boot_count(b), 5);
        } else {
            assert_true(boot_count(b) > (uint64_t)(clock_wall_ns() / CLOCK_S) - 1000);
            assert_string_equal(read_text(path_in(folder, "boot.damaged")), bad[i]);
        }
        boot_close(b);
    }
}

static void test_switches_survive(void **state)
{
    const char *folder = test_temp_dir();
    struct err err = {0};
    struct boot *b = open_in(folder);
    assert_true(boot_switch_get(b, "dock", "enabled", true));
    assert_false(boot_switch_get(b, "dock", "enabled", false));
    assert_ok(boot_switch_set(b, "dock", "enabled", false, &err), &err);
    assert_ok(boot_switch_set(b, "yard", "analysis", true, &err), &err);
    boot_close(b);
    b = open_in(folder);
    assert_false(boot_switch_get(b, "dock", "enabled", true));
    assert_true(boot_switch_get(b, "yard", "analysis", false));
    assert_true(boot_switch_get(b, "dock", "analysis", true)); /* never touched */
    assert_ok(boot_switch_set(b, "dock", "enabled", true, &err), &err);
    boot_close(b);
    b = open_in(folder);
    assert_true(boot_switch_get(b, "dock", "enabled", false));
    boot_close(b);
}

static void test_damaged_switches_are_set_aside(void **state)
{
    static const char *const bad[] = {"", "{", "[]", "{\"a\": 1}", "{\"a\": {\"enabled\": 1}}", "{\"a\": {}, \"a\": {}}"};
    const char *folder = test_temp_dir();
    struct err err = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        test_write_text(path_in(folder, "switches.json"), bad[i]);
        struct boot *b = open_in(folder);
        assert_true(boot_switch_get(b, "a", "enabled", true));
        assert_string_equal(read_text(path_in(folder, "switches.json.damaged")), bad[i]);
        assert_ok(boot_switch_set(b, "a", "enabled", false, &err), &err);
        boot_close(b);
    }
}

static void test_cameras_survive(void **state)
{
    const char *folder = test_temp_dir();
    struct err err = {0};
    struct boot *b = open_in(folder);
    assert_null(boot_camera(b, 0));
    assert_ok(boot_cameras_set(b, (const char *const[]){"dock", "yard"}, 2, &err), &err);
    boot_close(b);
    b = open_in(folder);
    assert_string_equal(boot_camera(b, 0), "dock");
    assert_string_equal(boot_camera(b, 1), "yard");
    assert_null(boot_camera(b, 2));
    assert_int_equal(unlink(path_in(folder, "cameras.json")), 0);
    assert_ok(boot_cameras_set(b, (const char *const[]){"dock", "yard"}, 2, &err), &err); /* equal: not written again */
    assert_int_not_equal(access(path_in(folder, "cameras.json"), F_OK), 0);
    assert_ok(boot_cameras_set(b, (const char *const[]){"yard"}, 1, &err), &err);
    boot_close(b);
    test_write_text(path_in(folder, "cameras.json"), "[\"a\", 4]");
    b = open_in(folder);
    assert_null(boot_camera(b, 0));
    assert_int_equal(access(path_in(folder, "cameras.json.damaged"), F_OK), 0);
    boot_close(b);
}

/* A power cut between writing beside and renaming: the old file counts, and what lies beside does not disturb. */
static void test_half_written_file_beside(void **state)
{
    const char *folder = test_temp_dir();
    boot_close(open_in(folder));
    test_write_text(path_in(folder, "boot.new"), "77");
    struct boot *b = open_in(folder);
    assert_int_equal(boot_count(b), 2);
    boot_close(b);
}

static void test_nowhere_to_write(void **state)
{
    struct boot *b = NULL;
    struct err err = {0};
    assert_ok(boot_open("/proc/heron", &b, &err), &err);
    assert_int_equal(boot_count(b), 0);
    assert_true(test_contains(boot_why(b), "/proc/heron"));
    assert_err(boot_switch_set(b, "a", "enabled", false, &err), ERR_IO, &err, "until the next restart only");
    assert_false(boot_switch_get(b, "a", "enabled", true));
    boot_close(b);
}

/* A disk that was full: the same switch again is written down when there is room, and not told to be kept before. */
static void test_what_was_not_kept_is_tried_again(void **state)
{
    char *folder = path_in(test_temp_dir(), "state"), *away = path_in(test_temp_dir(), "away");
    struct err err = {0};
    struct boot *b = open_in(folder);
    assert_int_equal(rename(folder, away), 0);
    assert_int_equal(boot_switch_set(b, "dock", "enabled", false, &err), ERR_IO);
    assert_int_equal(boot_switch_set(b, "dock", "enabled", false, &err), ERR_IO);
    assert_int_equal(rename(away, folder), 0);
    assert_ok(boot_switch_set(b, "dock", "enabled", false, &err), &err);
    boot_close(b);
    b = open_in(folder);
    assert_false(boot_switch_get(b, "dock", "enabled", true));
    boot_close(b);
}

static void test_systemds_folder_comes_first(void **state)
{
    char *folder = path_in(test_temp_dir(), "lib");
    char *both = NULL;
    assert_true(asprintf(&both, "%s:/nonexistent", folder) > 0);
    setenv("STATE_DIRECTORY", both, 1);
    free(both);
    struct boot *b = open_in(NULL);
    assert_string_equal(boot_path(b), folder);
    boot_close(b);
    unsetenv("STATE_DIRECTORY");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_every_start),
        cmocka_unit_test(test_damaged_count_goes_on_from_the_clock),
        cmocka_unit_test(test_switches_survive),
        cmocka_unit_test(test_damaged_switches_are_set_aside),
        cmocka_unit_test(test_cameras_survive),
        cmocka_unit_test(test_half_written_file_beside),
        cmocka_unit_test(test_nowhere_to_write),
        cmocka_unit_test(test_what_was_not_kept_is_tried_again),
        cmocka_unit_test(test_systemds_folder_comes_first),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
