/* sensors: NVML, with a library that stands for it: what it lacks, loses, and hangs in. */
#include "tests/support/heat_rig.h"

#include <math.h>
#include <string.h>

#include "base/log.h"

static void test_no_library(void **state)
{
    static const struct sensors_options gpu = {.is_gpu = true}, other = {.nvml = "libm.so.6", .is_gpu = true};
    const struct sensors_options with = {.nvml = heat_library, .is_gpu = true}, *options[] = {&gpu, &other, &with, &with};
    static const char *const says[] = {"", "", "fail nvmlInit_v2 9\n", "fail nvmlDeviceGetTemperature 3\n"};
    for (size_t i = 0; i < 4; i++) { /* no library; another one; no driver; a GPU that does not tell */
        struct sensors_reading r;
        heat_say(says[i]);
        struct sensors *s = heat_open(*options[i]);
        assert_string_equal(heat_names(s), "gpu0!"); /* it computes, and cannot be seen */
        assert_true(heat_is(heat_limit(s, "gpu0"), 68));
        sensors_read(s, clock_awake_and_asleep_ns(), &r);
        assert_true(isnan(r.c[0]) && isnan(r.watts));
        sensors_close(s);
    }
    heat_say("fail nvmlInit_v2 9\n"); /* somebody else's */
    struct sensors *s = heat_open((struct sensors_options){.nvml = heat_library});
    assert_int_equal(sensors_count(s), 0);
    sensors_close(s);
}

/* The driver is loaded later than Heron: the GPU comes to the place that was kept for it, with its watts. */
static void test_the_driver_comes_late(void **state)
{
    struct sensors_reading r;
    heat_say("fail nvmlInit_v2 9\n");
    struct sensors *s = heat_open_nvml();
    assert_string_equal(heat_names(s), "gpu0!");
    assert_int_equal(sensors_meter(s), GOVERNOR_METER_DEVICE);
    heat_say("c 57\npower 90000\n");
    HEAT_WAIT(s, r, heat_is(r.c[0], 57) && heat_is(r.watts, 90));
    sensors_close(s);
}

static void test_only_temperature(void **state)
{
    struct sensors_reading r;
    heat_say("c 61\n");
    const unsigned before = heat_calls("nvmlDeviceGetPowerUsage");
    struct sensors *s = heat_open_nvml();
    assert_string_equal(heat_names(s), "gpu0!");
    assert_int_equal(sensors_meter(s), GOVERNOR_METER_NONE);
    for (int c = 62; c < 66; c++) {
        char text[16];
        snprintf(text, sizeof text, "c %d\n", c);
        heat_say(text);
        HEAT_WAIT(s, r, heat_is(r.c[0], c));
        assert_true(isnan(r.watts) && isnan(r.device_margin_k) && !r.is_throttled && !r.is_limited);
    }
    assert_int_equal(heat_calls("nvmlDeviceGetPowerUsage") - before, 1); /* once, and not again */
    sensors_close(s);
    heat_say("c 61\nnew 1\nfail nvmlDeviceGetTemperature 13\n"); /* only the newer call */
    s = heat_open_nvml();
    HEAT_WAIT(s, r, heat_is(r.c[0], 61));
    sensors_close(s);
}

static void test_margin_and_thresholds(void **state)
{
    static const struct {
        int c, margin;
        bool is_sane;
    } margins[] = {{50, 45, true}, {94, 1, true},   {96, -2, true},  {50, 111, false},
                   {45, 0, false}, {45, -1, false}, {60, -30, false}};
    struct sensors_reading r;
    heat_say("c 50\nmargin 40\n");
    struct sensors *s = heat_open_nvml();
    for (size_t i = 0; i < sizeof margins / sizeof *margins; i++) {
        char text[64];
        snprintf(text, sizeof text, "c %d\nmargin %d\n", margins[i].c, margins[i].margin);
        heat_say(text);
        HEAT_WAIT(s, r, margins[i].is_sane ? heat_is(r.device_margin_k, margins[i].margin) : isnan(r.device_margin_k));
    }
    sensors_close(s);
    heat_say("c 50\nmargin 21\n"); /* it throttles at 71 */
    s = heat_open_nvml();
    assert_true(heat_is(heat_limit(s, "gpu0"), 66));
    sensors_close(s);
    heat_say("c 50\nslowdown 93\n");
    s = heat_open((struct sensors_options){.nvml = heat_library, .is_gpu = true, .limit_c = 90});
    assert_true(heat_is(heat_limit(s, "gpu0"), 88));
    sensors_close(s);
}

static void test_throttled(void **state)
{
    struct sensors_reading r;
    heat_say("reasons 0x0\nviolation 5\nbrake 7\nsw_thermal 8\nhw_thermal 9\n");
    struct sensors *s = heat_open_nvml();
    HEAT_WAIT(s, r, !isnan(r.c[0]));
    assert_false(r.is_throttled || r.is_limited);
    static const struct {
        const char *lines;
        bool is_throttled, is_limited;
    } cases[] = {
        {"reasons 0x20\nviolation 5\nbrake 7\nsw_thermal 8\nhw_thermal 9\n", true, false},
        {"reasons 0x48\nviolation 5\nbrake 7\nsw_thermal 8\nhw_thermal 9\n", true, false},
        {"reasons 0x80\nviolation 5\nbrake 7\nsw_thermal 8\nhw_thermal 9\n", false, true},
        {"reasons 0x8\nviolation 5\nbrake 7\nsw_thermal 8\nhw_thermal 9\n", false, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        heat_say(cases[i].lines);
        HEAT_WAIT(s, r, r.is_throttled == cases[i].is_throttled && r.is_limited == cases[i].is_limited);
        heat_say("reasons 0x5\nviolation 5\nbrake 7\nsw_thermal 8\nhw_thermal 9\n"); /* idle, and a set power limit: neither */
        HEAT_WAIT(s, r, !r.is_throttled && !r.is_limited);
    }
    static const struct {
        const char *lines;
        bool is_limited;
    } counters[] = {{"violation 6\nbrake 7\nsw_thermal 8\nhw_thermal 9\n", false},
                    {"violation 6\nbrake 7\nsw_thermal 9\nhw_thermal 9\n", false},
                    {"violation 6\nbrake 7\nsw_thermal 9\nhw_thermal 11\n", false},
                    {"violation 6\nbrake 8\nsw_thermal 9\nhw_thermal 11\n", true}};
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++) { /* between two looks at the reasons */
        heat_say(counters[i].lines);
        HEAT_WAIT(s, r, counters[i].is_limited ? r.is_limited : r.is_throttled);
        HEAT_WAIT(s, r, !r.is_throttled && !r.is_limited); /* once */
    }
    sensors_close(s);
}

static void test_energy_before_power(void **state)
{
    struct sensors_reading r;
    heat_say("energy 5000000\npower 900000\n");
    struct sensors *s = heat_open_nvml();
    assert_int_equal(sensors_meter(s), GOVERNOR_METER_DEVICE);
    sensors_read(s, clock_awake_and_asleep_ns(), &r);
    assert_true(isnan(r.watts));
    heat_say("energy 5001000\npower 900000\n");
    HEAT_WAIT(s, r, !isnan(r.watts));
    assert_true(r.watts > 0 && r.watts < 800);   /* a joule in a few periods */
    heat_say("c 51\nenergy 10\npower 900000\n"); /* the driver began anew */
    HEAT_WAIT(s, r, heat_is(r.c[0], 51));
    heat_say("c 52\nenergy 10\npower 900000\n");
    HEAT_WAIT(s, r, heat_is(r.c[0], 52) && isnan(r.watts)); /* a whole round has seen it: watts are read after temperatures */
    heat_say("energy 1010\npower 900000\n");
    HEAT_WAIT(s, r, r.watts > 0 && r.watts < 800);
    sensors_close(s);
    heat_say("power 90000\n");
    s = heat_open_nvml();
    HEAT_WAIT(s, r, heat_is(r.watts, 90));
    heat_say("power 0\n"); /* no GPU draws nothing */
    HEAT_WAIT(s, r, isnan(r.watts));
    heat_say("power 5000000\n");
    HEAT_WAIT(s, r, !isnan(r.c[0]) && isnan(r.watts));
    sensors_close(s);
    heat_say(
        "power 90000\nfail nvmlDeviceGetTotalEnergyConsumption 999\n"); /* the counter's call is broken: the power is there */
    s = heat_open_nvml();
    HEAT_WAIT(s, r, heat_is(r.watts, 90));
    sensors_close(s);
    heat_say("power 90000\nenergy 7000\n"); /* a counter that does not count */
    s = heat_open_nvml();
    HEAT_WAIT(s, r, heat_is(r.watts, 90));
    sensors_close(s);
    heat_say("power 90000\nfail nvmlDeviceGetPowerUsage 21\n"); /* no figure yet */
    s = heat_open_nvml();
    assert_int_equal(sensors_meter(s), GOVERNOR_METER_DEVICE);
    heat_say("power 90000\n");
    HEAT_WAIT(s, r, heat_is(r.watts, 90));
    sensors_close(s);
}

static void test_memory(void **state)
{
    struct sensors_reading r;
    heat_say("c 60\nmemory 72\n");
    struct sensors *s = heat_open_nvml();
    assert_string_equal(heat_names(s), "gpu0!, gpu0/memory");
    HEAT_WAIT(s, r, heat_is(r.c[1], 72));
    sensors_close(s);
    heat_say("c 60\nmemory 0\n"); /* GB10 */
    s = heat_open_nvml();
    assert_string_equal(heat_names(s), "gpu0!");
    sensors_close(s);
}

/* The driver is loaded anew: everything fails for a while. */
static void test_driver_reload(void **state)
{
    static const char *const codes[] = {"gone 15\n", "gone 1\n", "gone 9\n", "gone 999\n"};
    struct sensors_reading r;
    heat_say("c 60\npower 50000\n");
    struct sensors *s = heat_open_nvml();
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        HEAT_WAIT(s, r, heat_is(r.c[0], 60) && heat_is(r.watts, 50));
        const unsigned before = heat_calls("nvmlInit_v2");
        heat_say(codes[i]);
        HEAT_WAIT(s, r, isnan(r.c[0]) && isnan(r.watts) && isnan(r.device_margin_k));
        HEAT_WAIT(s, r, heat_calls("nvmlInit_v2") >= before + 2); /* it is tried again */
        heat_say("c 60\npower 50000\n");
    }
    HEAT_WAIT(s, r, heat_is(r.c[0], 60));
    sensors_close(s);
}

/* While it is gone there is nothing to run on; before it ever came, nobody knows. */
static void test_gone(void **state)
{
    struct sensors_reading r;
    heat_say("fail nvmlInit_v2 9\n");
    struct sensors *s = heat_open_nvml();
    sensors_read(s, clock_awake_and_asleep_ns(), &r);
    assert_false(r.is_gone);
    heat_say("c 60\n");
    HEAT_WAIT(s, r, heat_is(r.c[0], 60));
    assert_false(r.is_gone);
    heat_say("gone 15\n");
    HEAT_WAIT(s, r, r.is_gone && isnan(r.c[0]));
    heat_say("c 61\n");
    HEAT_WAIT(s, r, heat_is(r.c[0], 61) && !r.is_gone);
    heat_say("c 61\nfail nvmlDeviceGetTemperature 10\n"); /* it says nothing at the moment, but it is there */
    HEAT_WAIT(s, r, isnan(r.c[0]));
    assert_false(r.is_gone);
    sensors_close(s);
}

/* The first one is out of reach at the start: the other keeps its name, and so what was learned of it. */
static void test_the_first_is_lost(void **state)
{
    heat_say("gpus 2\nlost 0\nc1 40\npower 50000\n");
    struct sensors *s = heat_open_nvml();
    assert_string_equal(heat_names(s), "gpu1!");
    sensors_close(s);
}

/* Two GPUs, of which one is ours: after a reload in the other order; then one is lost, and comes back. */
static void test_two_gpus(void **state)
{
    struct sensors_reading r;
    heat_say("gpus 2\nc0 60\nc1 40\npower 50000\nmargin 35\n");
    struct sensors *s = heat_open_nvml();
    assert_string_equal(heat_names(s), "gpu0!, gpu1");
    HEAT_WAIT(s, r, heat_is(r.c[0], 60) && heat_is(r.c[1], 40) && heat_is(r.watts, 50));
    heat_say("gone 15\n");
    HEAT_WAIT(s, r, isnan(r.c[0]) && isnan(r.c[1]));
    heat_say("gpus 2\nswap 1\nc0 61\nc1 41\npower 50000\n");
    HEAT_WAIT(s, r, heat_is(r.c[0], 61) && heat_is(r.c[1], 41));
    heat_say("gone 15\n");
    HEAT_WAIT(s, r, isnan(r.c[0]) && isnan(r.c[1]));
    heat_say("gpus 1\nc0 62\npower 50000\n");
    HEAT_WAIT(s, r, heat_is(r.c[0], 62) && isnan(r.c[1]) && heat_is(r.watts, 50));
    assert_false(r.is_gone); /* not ours */
    heat_say("gpus 2\nc0 63\nc1 43\npower 50000\n");
    HEAT_WAIT(s, r, heat_is(r.c[0], 63) && heat_is(r.c[1], 43) && heat_is(r.watts, 50));
    sensors_close(s);
    s = heat_open((struct sensors_options){.nvml = heat_library, .is_gpu = true, .gpu = 1}); /* cuda:1 */
    assert_string_equal(heat_names(s), "gpu1!, gpu0");
    HEAT_WAIT(s, r, heat_is(r.c[0], 43) && heat_is(r.c[1], 63) && heat_is(r.watts, 50));
    heat_say("gone 15\n");
    HEAT_WAIT(s, r, r.is_gone);
    sensors_close(s);
    static const char *const both[] = {"gpu", "gpu0"};
    heat_say("gpus 2\nc0 60\nc1 40\n");
    s = heat_open((struct sensors_options){.nvml = heat_library, .is_gpu = true, .gpu = 1, .wanted = both, .n_wanted = 1});
    assert_string_equal(heat_names(s), "gpu1!, gpu0");
    sensors_close(s);
    s = heat_open((struct sensors_options){.nvml = heat_library, .is_gpu = true, .gpu = 1, .wanted = both, .n_wanted = 2});
    assert_string_equal(heat_names(s), "gpu0!, gpu1!");
    sensors_close(s);
    s = heat_open((struct sensors_options){.nvml = heat_library, .is_gpu = true, .gpu = 7}); /* which is it? */
    assert_string_equal(heat_names(s), "gpu0!, gpu1!");
    sensors_close(s);
    heat_say("fail nvmlInit_v2 9\n");
    s = heat_open((struct sensors_options){.nvml = heat_library, .is_gpu = true, .gpu = 1});
    assert_string_equal(heat_names(s), "gpu1!");
    heat_say("gpus 2\nc0 60\nc1 40\npower 50000\n"); /* the driver comes late */
    HEAT_WAIT(s, r, heat_is(r.c[0], 40) && heat_is(r.watts, 50));
    sensors_close(s);
}

/* A call that always fails as if the GPU were lost is a fault of the driver's, and must not cost the temperature for ever. */
static void test_one_call_is_broken(void **state)
{
    struct sensors_reading r;
    heat_say("c 60\nfail nvmlDeviceGetMarginTemperature 999\n");
    struct sensors *s = heat_open_nvml();
    const unsigned before = heat_calls("nvmlDeviceGetTemperature");
    HEAT_WAIT(s, r, heat_calls("nvmlDeviceGetMarginTemperature") >= 3 && heat_calls("nvmlDeviceGetTemperature") >= before + 12);
    const unsigned tried = heat_calls("nvmlDeviceGetMarginTemperature"), seen = heat_calls("nvmlDeviceGetTemperature");
    HEAT_WAIT(s, r, heat_is(r.c[0], 60) && heat_calls("nvmlDeviceGetTemperature") >= seen + 5);
    assert_int_equal(heat_calls("nvmlDeviceGetMarginTemperature"), tried);
    sensors_close(s);
}

/* One source hangs: its readings go missing, the others go on. */
static void test_hang(void **state)
{
    struct sensors_reading r;
    const char *tree = heat_tree();
    heat_lay(tree, "zone0 type=acpitz temp=30000");
    heat_say("c 60\n");
    struct sensors *s = heat_open((struct sensors_options){.sysfs = tree, .nvml = heat_library, .is_gpu = true});
    HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "gpu0"), 60) && heat_is(heat_c(s, &r, "acpitz/0"), 30));
    heat_say("c 60\nhang nvmlDeviceGetTemperature 0.2\n");
    HEAT_WAIT(s, r, isnan(heat_c(s, &r, "gpu0")) && heat_is(heat_c(s, &r, "acpitz/0"), 30));
    heat_lay(tree, "zone0 temp=31000");
    HEAT_WAIT(s, r, isnan(heat_c(s, &r, "gpu0")) && heat_is(heat_c(s, &r, "acpitz/0"), 31));
    heat_say("c 62\n");
    HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "gpu0"), 62));
    sensors_close(s);
}

/* Close does not wait for it. The thread stays in its driver until the program ends. */
static void test_close_while_it_hangs(void **state)
{
    struct sensors_reading r;
    heat_say("c 60\n");
    struct sensors *s = heat_open((struct sensors_options){.nvml = heat_library, .timeout_ns = 100 * CLOCK_MS, .is_gpu = true});
    heat_say("c 60\nhang nvmlDeviceGetTemperature 600\n");
    HEAT_WAIT(s, r, isnan(r.c[0]));
    const int64_t began_ns = clock_now_ns();
    log_set_level(LOG_LEVEL_ERROR);
    sensors_close(s);
    assert_true(clock_now_ns() - began_ns < 60 * CLOCK_S);
}

static void test_hang_at_the_start(void **state)
{
    struct sensors_reading r;
    const char *tree = heat_tree();
    heat_lay(tree, "zone0 type=acpitz temp=30000");
    heat_say("c 60\nhang nvmlInit_v2 600\n");
    struct sensors *s =
        heat_open((struct sensors_options){.sysfs = tree, .nvml = heat_library, .timeout_ns = 40 * CLOCK_MS, .is_gpu = true});
    assert_string_equal(heat_names(s), "gpu0!, acpitz/0!"); /* as good as absent: blind */
    HEAT_WAIT(s, r, isnan(r.c[0]) && heat_is(r.c[1], 30));
    sensors_close(s);
    static const char *const board[] = {"board"}; /* the operator knows better */
    s = heat_open((struct sensors_options){.sysfs = tree, .is_gpu = true, .wanted = board, .n_wanted = 1});
    assert_string_equal(heat_names(s), "acpitz/0!");
    sensors_close(s);
    static const char *const gpu[] = {"gpu"}; /* it may be asked for by its name, too */
    s = heat_open((struct sensors_options){.sysfs = tree, .is_gpu = true, .wanted = gpu, .n_wanted = 1});
    assert_string_equal(heat_names(s), "gpu0!, acpitz/0");
    sensors_close(s);
}

/* Left behind, but not for ever: it frees what it has. */
static void test_left_behind_and_back(void **state)
{
    struct sensors_reading r;
    heat_say("c 60\n");
    struct sensors *s = heat_open((struct sensors_options){.nvml = heat_library, .timeout_ns = 50 * CLOCK_MS, .is_gpu = true});
    const unsigned before = heat_calls("nvmlShutdown");
    heat_say("c 60\nhang nvmlDeviceGetTemperature 0.2\n");
    HEAT_WAIT(s, r, isnan(r.c[0]));
    log_set_level(LOG_LEVEL_ERROR);
    sensors_close(s);
    log_set_level(LOG_LEVEL_INFO);
    heat_say("c 60\n");
    const int64_t until_ns = clock_now_ns() + HEAT_PATIENCE_NS;
    while (heat_calls("nvmlShutdown") == before && clock_now_ns() < until_ns)
        clock_sleep_until_ns(clock_now_ns() + 3 * CLOCK_MS);
    assert_true(heat_calls("nvmlShutdown") > before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_library),
        cmocka_unit_test(test_the_driver_comes_late),
        cmocka_unit_test(test_only_temperature),
        cmocka_unit_test(test_margin_and_thresholds),
        cmocka_unit_test(test_throttled),
        cmocka_unit_test(test_energy_before_power),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_driver_reload),
        cmocka_unit_test(test_gone),
        cmocka_unit_test(test_the_first_is_lost),
        cmocka_unit_test(test_two_gpus),
        cmocka_unit_test(test_one_call_is_broken),
        cmocka_unit_test(test_hang),
        cmocka_unit_test(test_left_behind_and_back),
        cmocka_unit_test(test_hang_at_the_start),
        cmocka_unit_test(test_close_while_it_hangs),
    };
    return cmocka_run_group_tests(tests, heat_set_up, NULL);
}
