/* The thermal thread and what stands around it: a simulated box, the file of seconds, what is kept of a machine. */
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "appliance/ring.h"
#include "appliance/sensors_simulated.h"
#include "appliance/thermal.h"
#include "appliance/thermal_memory.h"
#include "base/clock.h"

#define PATIENCE_NS (20 * CLOCK_S)

/* ---- the simulated box ------------------------------------------------------------------------------------------------------------- */

static void test_a_box_warms_up_and_cools(void **state)
{
    struct sensors_simulated box;
    struct err err = {0};
    assert_ok(sensors_simulated_init(&box, "spark?ambient=23&seed=3", &err), &err);
    assert_int_equal(sensors_simulated_places(&box), 2);
    assert_string_equal(sensors_simulated_name(&box, 0), "gpu");
    assert_true(sensors_simulated_limit(&box, 0) == 68);
    const double cold = box.c[0];
    assert_true(cold > 30 && cold < 45 && fabs(box.watts - 25) < 1);
    int64_t now = CLOCK_S;
    for (int i = 0; i < 3600; i++)
        sensors_simulated_step(&box, now += CLOCK_S, 8, 1);
    assert_true(box.c[0] > 71 && box.c[0] < 77 && box.watts > 110 && box.watts < 120);
    for (int i = 0; i < 3600; i++)
        sensors_simulated_step(&box, now += CLOCK_S, 0, 0);
    assert_true(fabs(box.c[0] - cold) < 3);
}

static void test_a_box_has_weather(void **state)
{
    struct sensors_simulated box, calm;
    struct err err = {0};
    assert_ok(sensors_simulated_init(&box, "spark?warm=300-1e9:8&vent=600-900:1.6", &err), &err);
    assert_ok(sensors_simulated_init(&calm, "spark", &err), &err);
    int64_t now = CLOCK_S;
    double apart[1500];
    for (int i = 0; i < 1500; i++) {
        now += CLOCK_S;
        sensors_simulated_step(&box, now, 4, 0.8);
        sensors_simulated_step(&calm, now, 4, 0.8);
        apart[i] = box.plant.sink_c - calm.plant.sink_c;
    }
    assert_true(fabs(apart[295]) < 0.5);
    assert_true(apart[590] > 3 && apart[895] > apart[590] + 8 && apart[1490] < apart[895] - 5);
}

/* Time flies: the same box, a hundred times as fast; who comes late finds that it has waited. */
static void test_a_box_may_be_quicker(void **state)
{
    struct sensors_simulated box;
    struct err err = {0};
    assert_ok(sensors_simulated_init(&box, "small?speed=100", &err), &err);
    for (int i = 0; i <= 100; i++)
        sensors_simulated_step(&box, CLOCK_S + i * (CLOCK_S / 100), 1, 1);
    assert_true(fabs(box.time_s - 100) < 0.2);
    sensors_simulated_step(&box, 100000 * CLOCK_S, 1, 1);
    assert_true(fabs(box.time_s - 102) < 0.2);
    assert_true(llabs(sensors_simulated_age_ns(&box) - 102 * CLOCK_S) < CLOCK_S / 10);
}

static void test_a_box_that_cannot_be_read(void **state)
{
    static const char *const bad[][2] = {
        {"", "there is no \"\""},
        {"toaster", "there are spark and small"},
        {"spark?ambient", "has no value"},
        {"spark?ambient=warm", "ambient is degrees"},
        {"spark?ambient=99", "not between -20 and 60"},
        {"spark?limit=20", "not between 30 and 110"},
        {"spark?speed=0", "not between"},
        {"spark?colour=3", "there is no \"colour\""},
        {"spark?vent=1-2", "FROM-TO:FACTOR"},
        {"spark?vent=1-2:nan", "FROM-TO:FACTOR"},
        {"spark?warm=1:2:3", "FROM-TO:KELVINS"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct sensors_simulated box;
        struct err err = {0};
        assert_err(sensors_simulated_init(&box, bad[i][0], &err), ERR_INVAL, &err, bad[i][1]);
    }
    char longer[400];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    struct sensors_simulated box;
    struct err err = {0};
    assert_err(sensors_simulated_init(&box, longer, &err), ERR_INVAL, &err, "longer than");
}

/* ---- what is kept of a machine -------------------------------------------------------------------------------------------------------- */

static const struct thermal_memory_key key = {.machine = "abc", .model = "a.gguf", .meter = "NVML (GPU)"};

static void test_memory_there_and_back(void **state)
{
    static const char *const names[] = {"gpu0", "acpitz/3", "coretemp/Package id 0"};
    const struct governor_memory memory = {.bodies = {{0.14, 3, 1, 420}, {0}, {0.2, 1.5, 0, 150}},
                                           .limits_c = {68, 80, 84.5},
                                           .sustainable_w = 81.25,
                                           .factor = 1.25,
                                           .unit = 1,
                                           .workload = {.rungs = {{1, 70, 18.5, 120, 60}, {4, 82.5, 26, 60, 7}}, .n_rungs = 2}};
    struct governor_memory back = {0};
    struct err err = {0};
    char *text = thermal_memory_write(&memory, names, 3, &key, NULL);
    assert_non_null(text);
    assert_ok(thermal_memory_read(text, names, 3, &key, &back, &err), &err);
    assert_memory_equal(&back, &memory, sizeof memory);
    /* another order of sensors, one gone, one new */
    static const char *const later[] = {"acpitz/3", "coretemp/Package id 0", "gpu1"};
    assert_ok(thermal_memory_read(text, later, 3, &key, &back, &err), &err);
    assert_true(back.bodies[0].r_k_w == 0 && back.bodies[1].tau_s == 1.5 && back.bodies[2].r_k_w == 0);
    assert_true(back.limits_c[0] == 80 && back.limits_c[1] == 84.5 && back.limits_c[2] == 0);
    /* another model: the places stay, the work is learned anew; another machine or meter: nothing counts */
    const struct thermal_memory_key model = {.machine = "abc", .model = "other.gguf", .meter = "NVML (GPU)"},
                                    machine = {.machine = "xyz", .model = "a.gguf", .meter = "NVML (GPU)"},
                                    meter = {.machine = "abc", .model = "a.gguf", .meter = "RAPL package"};
    assert_ok(thermal_memory_read(text, names, 3, &model, &back, &err), &err);
    assert_true(back.bodies[0].r_k_w == 0.14 && back.workload.n_rungs == 0 && back.sustainable_w == 0 && back.factor == 0);
    assert_err(thermal_memory_read(text, names, 3, &machine, &back, &err), ERR_STATE, &err, "another machine");
    assert_err(thermal_memory_read(text, names, 3, &meter, &back, &err), ERR_UNSUPPORTED, &err, "another meter");
    /* a start without some of the sensors: what was known of them stays, the rest is new */
    struct governor_memory less = memory;
    less.bodies[0] = (struct observer_body){0.2, 5, 2, 300};
    less.limits_c[0] = 79;
    char *after = thermal_memory_write(&less, later, 1, &key, text);
    assert_ok(thermal_memory_read(after, names, 3, &key, &back, &err), &err);
    assert_true(back.bodies[0].r_k_w == 0.14 && back.bodies[1].r_k_w == 0.2 && back.bodies[2].r_k_w == 0.2);
    assert_true(back.limits_c[0] == 68 && back.limits_c[1] == 79 && back.limits_c[2] == 84.5);
    free(after);
    free(text);
}

/* A name that this machine had once is no misspelt one. */
static void test_memory_of_what_was_there(void **state)
{
    static const char *const wanted[] = {"acpitz/3", "gpu"}, *const other[] = {"acpitz/3", "cpu"};
    const struct thermal_memory_key had = {
        .machine = "abc", .model = "a.gguf", .meter = "none", .wanted = wanted, .n_wanted = 2};
    const struct governor_memory memory = {.unit = 1};
    char *text = thermal_memory_write(&memory, wanted, 1, &had, NULL);
    assert_non_null(text);
    assert_true(thermal_memory_had(text, "abc", wanted, 2));
    assert_false(thermal_memory_had(text, "abc", wanted, 1));
    assert_false(thermal_memory_had(text, "abc", other, 2));
    assert_false(thermal_memory_had(text, "xyz", wanted, 2));
    free(text);
    text = thermal_memory_write(&memory, wanted, 1, &key, NULL);
    assert_false(thermal_memory_had(text, "abc", wanted, 2));
    assert_false(thermal_memory_had(text, "abc", NULL, 0));
    assert_false(thermal_memory_had("[]", "abc", wanted, 2));
    char governed[SENSORS_MAX][SENSORS_NAME_MAX];
    assert_int_equal(
        thermal_memory_governed("{\"machine\": \"abc\", \"limits\": {\"gpu0\": 68, \"acpitz/1\": 80}}", "abc", governed), 2);
    assert_string_equal(governed[1], "acpitz/1");
    assert_int_equal(thermal_memory_governed("{\"machine\": \"abc\", \"limits\": {\"gpu0\": 68}}", "xyz", governed), 0);
    assert_int_equal(thermal_memory_governed("[]", "abc", governed), 0);
    assert_false(thermal_memory_had("{\"machine\": \"abc\", \"sensors\": [3, 4]}", "abc", wanted, 2));
    free(text);
}

static void test_memory_that_is_none(void **state)
{
    static const char *const names[] = {"gpu0"};
    static const struct thermal_memory_key of_m = {.machine = "m", .model = "", .meter = "none"};
    static const char *const bad[] = {
        "",
        "[]",
        "null",
        "{\"machine\": \"m\"}",
        "{\"machine\": \"m\", \"meter\": \"none\", \"sustainable_w\": 1, \"rungs\": [[0, 1, 1, 1]]}",
        "{\"machine\": 3, \"sustainable_w\": 1}",
        "{\"machine\": \"m\", \"sustainable_w\": -1}",
        "{\"machine\": \"m\", \"meter\": \"none\", \"sustainable_w\": 1, \"places\": {\"gpu0\": 3}}",
        "{\"machine\": \"m\", \"meter\": \"none\", \"sustainable_w\": 1, \"places\": {\"gpu0\": {\"r\": 0.1, \"tau\": 3, "
        "\"delay\": 1}}}",
        "{\"machine\": \"m\", \"meter\": \"none\", \"sustainable_w\": 1, \"places\": {\"gpu0\": {\"r\": 1e9, \"tau\": 3, "
        "\"delay\": 1, \"sink\": "
        "400}}}",
        "{\"machine\": \"m\", \"meter\": \"none\", \"sustainable_w\": 1, \"places\": {\"gpu0\": {\"r\": 0.1, \"tau\": 3, "
        "\"delay\": 99, \"sink\": "
        "400}}}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct governor_memory memory = {.sustainable_w = 7};
        struct err err = {0};
        assert_int_equal(thermal_memory_read(bad[i], names, 1, &of_m, &memory, &err), ERR_FORMAT);
        assert_true(err.text[0] && memory.sustainable_w == 7);
    }
}

/* ---- the file of seconds ----------------------------------------------------------------------------------------------------------------- */

static char *ring_text(const char *path, int *ret_lines)
{
    size_t n;
    char *text = test_read_file(path, &n);
    if (n % RING_LINE)
        fail_msg("%zu bytes: %.200s", n, text);
    *ret_lines = (int)(n / RING_LINE);
    for (int i = 0; i < *ret_lines; i++)
        assert_int_equal(text[(i + 1) * RING_LINE - 1], '\n');
    return text;
}

static void test_ring_goes_round_and_goes_on(void **state)
{
    char path[300];
    struct err err = {0};
    struct ring *ring;
    snprintf(path, sizeof path, "%s/thermal.log", test_temp_dir());
    for (int start = 0; start < 3; start++) { /* each start goes on where the one before was */
        assert_ok(ring_open(path, 10, &ring, &err), &err);
        for (int i = 0; i < 6; i++) {
            char line[40];
            snprintf(line, sizeof line, "start %d line %d", start, i);
            ring_push(ring, line);
        }
        ring_close(ring);
    }
    int n;
    char *text = ring_text(path, &n);
    assert_int_equal(n, 10);
    assert_non_null(strstr(text, "000000000018 start 2 line 5 "));
    assert_non_null(strstr(text, "000000000009 start 1 line 2 "));
    assert_null(strstr(text, "start 0"));
    free(text);
}

/* A power cut leaves a torn file: what is whole counts. */
static void test_ring_after_a_power_cut(void **state)
{
    char path[300];
    struct err err = {0};
    struct ring *ring;
    snprintf(path, sizeof path, "%s/thermal.log", test_temp_dir());
    char torn[2 * RING_LINE + 50];
    memset(torn, 0, sizeof torn);
    memset(torn, ' ', RING_LINE);
    memcpy(torn, "000000000004 before", 19);
    torn[RING_LINE - 1] = '\n';
    test_write_file(path, torn, sizeof torn);
    assert_ok(ring_open(path, 10, &ring, &err), &err);
    ring_push(ring, "after\nit");
    ring_close(ring);
    size_t n;
    char *text = test_read_file(path, &n);
    assert_int_equal(n, 5 * RING_LINE);
    assert_memory_equal(text + 4 * RING_LINE, "000000000005 after it ", 22);
    free(text);
}

static void test_ring_that_cannot_be_written(void **state)
{
    char path[300], why[200];
    struct err err = {0};
    struct ring *ring;
    snprintf(path, sizeof path, "%s/no/such/folder", test_temp_dir());
    assert_ok(ring_open(path, 10, &ring, &err), &err);
    ring_push(ring, "lost");
    const int64_t until = clock_now_ns() + PATIENCE_NS;
    while (ring_lost(ring, why, sizeof why) == 0 && clock_now_ns() < until)
        clock_sleep_until_ns(clock_now_ns() + CLOCK_MS);
    assert_int_equal(ring_lost(ring, why, sizeof why), 1);
    assert_true(test_contains(why, "cannot be opened"));
    ring_close(ring);
}

/* ---- the thread --------------------------------------------------------------------------------------------------------------------------- */

/* What an engine would do: work as the permit allows, and say so. */
struct engine {
    struct en_progress progress;
    int64_t last_ns;
};

static void engine_work(struct engine *e, struct thermal *t)
{
    struct en_permit permit;
    const int64_t now = clock_now_ns();
    thermal_get_permit(t, &permit);
    if (e->last_ns && permit.batch > 0 && permit.expires_ns > now) {
        const int64_t busy = (now - e->last_ns) * (1000 - permit.idle_permille) / 1000;
        e->progress.busy_ns += busy;
        e->progress.sequence_ns += busy * permit.batch;
        e->progress.output_tokens += (uint64_t)permit.batch;
    }
    e->last_ns = now;
    thermal_note_load(t, &e->progress, 8, 0);
}

static void test_the_thread_governs_a_simulated_box(void **state)
{
    static const char *const wanted[] = {"simulated:spark?speed=50&limit=60&seed=2"};
    char ring[300];
    snprintf(ring, sizeof ring, "%s/thermal.log", test_temp_dir());
    const struct thermal_options options = {
        .sensors = {.wanted = wanted, .n_wanted = 1}, .has_sensors = true, .batch_max = 8, .ring = ring};
    struct thermal *t;
    struct thermal_stats s = {0};
    struct err err = {0};
    struct engine engine = {0};
    char words[300];
    assert_ok(thermal_open(&options, &t, &err), &err);
    thermal_describe(t, words, sizeof words);
    assert_true(test_contains(words, "gpu (limit 60 C), board (limit 80 C)"));
    const int64_t until = clock_now_ns() + PATIENCE_NS;
    do {
        engine_work(&engine, t);
        clock_sleep_until_ns(clock_now_ns() + 5 * CLOCK_MS);
        thermal_get(t, &s);
    } while (!(s.hottest && s.grant.c > 57 && s.grant.level == GOVERNOR_THROTTLED) && clock_now_ns() < until);
    assert_string_equal(s.hottest, "gpu");
    assert_int_equal(s.grant.level, GOVERNOR_THROTTLED);
    assert_true(s.grant.c > 57 && s.grant.c < 64);
    assert_true(s.watts > 30 && s.watts < 130);
    assert_true(s.has_sensors && !s.is_unguarded && s.since_wall_ns > 0);
    assert_true(clock_now_ns() - thermal_heartbeat_ns(t) < 5 * CLOCK_S);
    thermal_close(t);
    int n;
    char *text = ring_text(ring, &n);
    assert_true(n > 5);
    assert_non_null(strstr(text, " throttled batch="));
    assert_non_null(strstr(text, " gpu="));
    free(text);
}

/* A busy machine wakes the thread late, and the box lives fast: that is neither a sleep, nor a sensor that lies. */
static void test_late_ticks_of_a_quick_box(void **state)
{
    static const char *const wanted[] = {"simulated:spark?speed=100&limit=60&seed=2"};
    const struct thermal_options options = {.sensors = {.wanted = wanted, .n_wanted = 1},
                                            .has_sensors = true,
                                            .batch_max = 8,
                                            .period_ns = 50 * CLOCK_MS}; /* five seconds of the box */
    struct thermal *t;
    struct thermal_stats s = {0};
    struct err err = {0};
    struct engine engine = {0};
    assert_ok(thermal_open(&options, &t, &err), &err);
    const int64_t until = clock_now_ns() + PATIENCE_NS;
    do {
        engine_work(&engine, t);
        clock_sleep_until_ns(clock_now_ns() + 5 * CLOCK_MS);
        thermal_get(t, &s);
        assert_int_not_equal(s.grant.level, GOVERNOR_BLIND);
    } while (!(s.hottest && s.grant.c > 55) && clock_now_ns() < until);
    thermal_close(t);
    assert_true(s.grant.c > 55);
}

/* Work that never rested shows no sensor's answer; what it gave and drew is known all the same, and an orderly end keeps it. */
static void test_the_end_keeps_what_is_known(void **state)
{
    static const char *const wanted[] = {"simulated:spark?speed=100&limit=60&seed=3"};
    const struct thermal_options options = {.sensors = {.wanted = wanted, .n_wanted = 1}, .has_sensors = true, .batch_max = 8};
    struct thermal *t;
    struct err err = {0};
    struct engine engine = {0};
    assert_ok(thermal_open(&options, &t, &err), &err);
    for (const int64_t until = clock_now_ns() + 4 * CLOCK_S; clock_now_ns() < until;) {
        engine_work(&engine, t);
        clock_sleep_until_ns(clock_now_ns() + 2 * CLOCK_MS);
    }
    free(thermal_take_memory(t)); /* where it did rest for a moment */
    thermal_stop(t);
    char *memory = thermal_take_memory(t);
    assert_non_null(memory);
    assert_true(test_contains(memory, "\"rungs\": [\n    ["));
    thermal_stop(t);
    assert_null(thermal_take_memory(t)); /* once */
    thermal_close(t);
    assert_ok(thermal_open(&options, &t, &err), &err); /* and what has seen nothing keeps nothing */
    thermal_stop(t);
    assert_null(thermal_take_memory(t));
    thermal_close(t);
    /* a sensor that this machine had at an earlier start, by what was kept, and lacks now */
    static const char *const board[] = {"acpitz/0"};
    struct thermal_options missing = {.sensors = {.wanted = board,
                                                  .n_wanted = 1,
                                                  .sysfs = test_temp_dir(),
                                                  .nvml = "/nonexistent",
                                                  .period_ns = 10 * CLOCK_MS,
                                                  .timeout_ns = 10 * CLOCK_MS},
                                      .has_sensors = true,
                                      .batch_max = 8};
    assert_err(thermal_open(&missing, &t, &err), ERR_INVAL, &err, "\"acpitz/0\"");
    const char *machine = strstr(memory, "\"machine\": ");
    char had[100];
    assert_non_null(machine);
    snprintf(had, sizeof had, "{%.29s, \"sensors\": [\"acpitz/0\"]}", machine);
    missing.memory = had;
    assert_ok(thermal_open(&missing, &t, &err), &err);
    struct thermal_stats stats;
    thermal_get(t, &stats);
    assert_true(stats.has_sensors);
    thermal_close(t);
    free(memory);
}

static void test_without_a_limit(void **state)
{
    char ring[300];
    snprintf(ring, sizeof ring, "%s/thermal.log", test_temp_dir());
    const struct thermal_options options = {.has_sensors = false, .batch_max = 4, .ring = ring};
    struct thermal *t;
    struct thermal_stats s = {0};
    struct en_permit permit = {0};
    struct err err = {0};
    assert_ok(thermal_open(&options, &t, &err), &err);
    const int64_t until = clock_now_ns() + PATIENCE_NS;
    while (permit.batch == 0 && clock_now_ns() < until)
        thermal_get_permit(t, &permit);
    assert_int_equal(permit.batch, 4); /* at once */
    assert_int_equal(permit.idle_permille, 0);
    thermal_get(t, &s);
    assert_true(s.is_unguarded && !s.hottest);
    assert_null(thermal_take_memory(t));
    thermal_close(t);
    int n;
    char *text = ring_text(ring, &n);
    assert_non_null(strstr(text, " nominal batch=4 idle=0%"));
    free(text);
}

static void test_a_wrong_sensor(void **state)
{
    static const char *const wanted[] = {"simulated:spark?fan=3"};
    const struct thermal_options options = {.sensors = {.wanted = wanted, .n_wanted = 1}, .has_sensors = true, .batch_max = 8};
    struct thermal *t = NULL;
    struct err err = {0};
    assert_err(thermal_open(&options, &t, &err), ERR_INVAL, &err, "there is no \"fan\"");
    assert_null(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_box_warms_up_and_cools),
        cmocka_unit_test(test_a_box_has_weather),
        cmocka_unit_test(test_a_box_may_be_quicker),
        cmocka_unit_test(test_a_box_that_cannot_be_read),
        cmocka_unit_test(test_memory_there_and_back),
        cmocka_unit_test(test_memory_of_what_was_there),
        cmocka_unit_test(test_memory_that_is_none),
        cmocka_unit_test(test_ring_goes_round_and_goes_on),
        cmocka_unit_test(test_ring_after_a_power_cut),
        cmocka_unit_test(test_ring_that_cannot_be_written),
        cmocka_unit_test(test_the_thread_governs_a_simulated_box),
        cmocka_unit_test(test_late_ticks_of_a_quick_box),
        cmocka_unit_test(test_the_end_keeps_what_is_known),
        cmocka_unit_test(test_without_a_limit),
        cmocka_unit_test(test_a_wrong_sensor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
