/* sensors: what machines say about their heat in sysfs, which of it counts, and how it is found again. */
#include "tests/support/heat_rig.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#include "base/log.h"

/* ---- DGX Spark ---------------------------------------------------------------------------------------------------------------------- */

static const char *spark_tree(void)
{
    const char *tree = heat_tree();
    for (int i = 0; i < 7; i++)
        heat_lay(tree, "zone%d type=acpitz temp=%d device@devices/LNXSYSTM:00/LNXTHERM:%02d", i, 38900 + 100 * i, i);
    heat_lay(tree, "hwmon0 name=acpitz temp1_input=38900 temp2_input=39000 device@zone0\n"
                   "hwmon1 name=nvme temp1_input=41850 temp1_label=Composite temp1_max=81850 temp1_crit=84850\n"
                   "hwmon1 device@devices/pci0004:00/0004:01:00.0/nvme/nvme0\n"
                   "hwmon2 name=mlx5 temp1_input=55000 temp1_label=asic device@devices/pci0000:00/0000:01:00.0\n"
                   "hwmon3 name=mlx5 temp1_input=56000 temp1_label=asic device@devices/pci0000:00/0000:01:00.1\n"
                   "hwmon4 name=mt7925_phy0 temp1_input=47000\n");
    return tree;
}

static void test_spark(void **state)
{
    struct sensors_reading r;
    heat_say("c 45\nmargin 50\npower 4500\n");
    struct sensors *s =
        heat_open((struct sensors_options){.sysfs = spark_tree(), .nvml = heat_library, .is_gpu = true, .limit_c = 70});
    assert_string_equal(heat_names(s), "gpu0!, acpitz/0!, acpitz/1!, acpitz/2!, acpitz/3!, acpitz/4!, acpitz/5!, acpitz/6!, "
                                       "mlx5/asic@0000:01:00.0, mlx5/asic@0000:01:00.1, mt7925_phy0/temp1, nvme/Composite");
    assert_int_equal(sensors_governing(s), 8);
    assert_true(heat_is(heat_limit(s, "gpu0"), 70));
    assert_true(heat_is(heat_limit(s, "acpitz/3"), 80));
    assert_true(heat_is(heat_limit(s, "nvme/Composite"), 81.85));
    assert_true(isnan(heat_limit(s, "mlx5/asic@0000:01:00.1")));
    assert_int_equal(sensors_place(s, 0)->part, SENSORS_GPU);
    assert_int_equal(sensors_place(s, 1)->part, SENSORS_BOARD);
    assert_int_equal(sensors_place(s, 11)->part, SENSORS_OTHER);
    assert_int_equal(sensors_meter(s), GOVERNOR_METER_DEVICE);
    assert_string_equal(sensors_meter_name(s), "NVML (GPU)");
    sensors_read(s, clock_awake_and_asleep_ns(), &r); /* everything is known at once */
    assert_true(heat_is(r.watts, 4.5));
    HEAT_WAIT(s, r,
              heat_is(heat_c(s, &r, "gpu0"), 45) && heat_is(heat_c(s, &r, "acpitz/6"), 39.5) &&
                  heat_is(heat_c(s, &r, "nvme/Composite"), 41.85));
    HEAT_WAIT(s, r, heat_is(r.device_margin_k, 50) && heat_is(r.watts, 4.5));
    assert_false(r.is_throttled || r.is_limited);
    assert_true(isnan(r.c[12]));
    sensors_close(s);
}

/* With the community's driver: the watts of the whole box, and the hottest place of the package. */
static void test_spark_hwmon(void **state)
{
    static const char *const names[] = {"spark_hwmon", "spbm"};
    struct sensors_reading r;
    for (int i = 0; i < 2; i++) {
        const char *tree = spark_tree();
        heat_lay(
            tree,
            "hwmon9 name=%s power1_input=25000000 power1_label=sys_total power2_input=17000000 power2_label=soc_pkg prochot=0\n"
            "hwmon9 temp1_input=51200 temp1_label=tj_max temp2_input=0 temp2_label=tj_max_c temp3_input=50000 temp3_label=gpu",
            names[i]);
        heat_say("c 45\npower 4500\n");
        struct sensors *s = heat_open((struct sensors_options){.sysfs = tree, .nvml = heat_library, .is_gpu = true});
        assert_int_equal(sensors_meter(s), GOVERNOR_METER_TOTAL);
        assert_string_equal(sensors_meter_name(s), "spark_hwmon sys_total");
        assert_int_equal(sensors_governing(s), 9);
        assert_int_equal(heat_place(s, i ? "spbm/tj_max" : "spark_hwmon/tj_max"), 1);
        assert_true(heat_is(sensors_place(s, 0)->limit_c, 68) && heat_is(sensors_place(s, 1)->limit_c, 85));
        HEAT_WAIT(s, r, heat_is(r.watts, 25) && heat_is(r.c[1], 51.2));
        assert_false(r.is_limited);
        heat_lay(tree, "hwmon9 prochot=1");
        HEAT_WAIT(s, r, r.is_limited);
        assert_false(r.is_throttled);
        heat_lay(tree, "hwmon9 prochot=0");
        HEAT_WAIT(s, r, !r.is_limited);
        sensors_close(s);
    }
}

/* What it counted is better than what it says at an instant, and its 32 bits of millijoules begin again. */
static void test_spark_energy(void **state)
{
    const char *tree = heat_tree();
    struct sensors_reading r;
    heat_lay(tree, "hwmon2 name=spbm energy1_input=4294967000000 energy1_label=pkg energy2_input=5 energy2_label=gpu "
                   "power1_input=1900000000 power1_label=sys_total");
    struct sensors *s = heat_open_tree(tree, true);
    assert_string_equal(sensors_meter_name(s), "spark_hwmon pkg (energy)");
    sensors_read(s, clock_awake_and_asleep_ns(), &r);
    assert_true(isnan(r.watts)); /* nothing was counted yet: that is no zero */
    heat_lay(tree, "hwmon2 energy1_input=100000");
    HEAT_WAIT(s, r, !isnan(r.watts));
    assert_true(r.watts > 0 && r.watts < 100);
    heat_lay(tree, "hwmon2 energy3_label=sys_total energy3_input=1");
    sensors_close(s);
    s = heat_open_tree(tree, true);
    assert_string_equal(sensors_meter_name(s), "spark_hwmon sys_total (energy)");
    sensors_close(s);
}

/* ---- Jetson ------------------------------------------------------------------------------------------------------------------------- */

static void test_jetson(void **state)
{
    const char *tree = heat_tree();
    struct sensors_reading r;
    heat_lay(tree, "zone0 type=cpu-thermal temp=48000\n"
                   "zone1 type=gpu-thermal temp=46500\n"
                   "zone2 type=cv0-thermal\n"
                   "zone2/temp is=a+folder:+it+cannot+be+read,+as+that+of+an+engine+that+is+off\n"
                   "zone5 type=soc0-thermal temp=47000\n"
                   "zone8 type=tj-thermal temp=48000 trip_point_0_type=passive trip_point_0_temp=99000 "
                   "trip_point_1_type=critical trip_point_1_temp=104500\n"
                   "hwmon0 name=cpu_thermal temp1_input=48000\n"); /* made of a zone by the kernel */
    heat_lay(tree, "hwmon0 device@zone0\n"
                   "hwmon1 name=tmp451 temp1_input=44000\n"
                   "hwmon3 name=ina3221 in1_label=VDD_IN in1_input=5000 curr1_input=2400 in2_label=VDD_CPU_GPU_CV "
                   "in2_input=5000 curr2_input=800\n"
                   "hwmon4 name=soctherm_oc oc1_event_cnt=3 oc3_event_cnt=0\n");
    struct sensors *s = heat_open_tree(tree, true);
    assert_string_equal(heat_names(s), "gpu-thermal!, cpu-thermal!, soc0-thermal!, tj-thermal!, cv0-thermal, tmp451/temp1");
    assert_int_equal(sensors_meter(s), GOVERNOR_METER_TOTAL);
    assert_string_equal(sensors_meter_name(s), "INA3221 VDD_IN");
    assert_true(heat_is(heat_limit(s, "gpu-thermal"), 68) && heat_is(heat_limit(s, "tj-thermal"), 85));
    HEAT_WAIT(s, r, heat_is(r.watts, 12) && heat_is(heat_c(s, &r, "gpu-thermal"), 46.5));
    assert_true(isnan(heat_c(s, &r, "cv0-thermal")));
    assert_false(r.is_limited);
    heat_lay(tree, "hwmon4 oc3_event_cnt=1");
    HEAT_WAIT(s, r, r.is_limited);
    HEAT_WAIT(s, r, !r.is_limited); /* once */
    sensors_close(s);
}

/* No rail for the whole module. Zones as older kernels call them. */
static void test_jetson_agx(void **state)
{
    const char *tree = heat_tree();
    struct sensors_reading r;
    heat_lay(tree, "zone0 type=CPU-therm temp=40000\n"
                   "zone1 type=GPU-therm temp=41000\n"
                   "zone2 type=thermal-fan-est temp=40500\n"
                   "hwmon0 name=ina3221 in1_label=VDD_GPU_SOC in1_input=20000 curr1_input=500 in2_label=VDD_CPU_CV "
                   "in2_input=20000 curr2_input=250 in3_label=VIN_SYS_5V0 in3_input=5000 curr3_input=800\n"
                   "hwmon1 name=ina3221 in2_label=VDDQ_VDD2_1V8AO in2_input=5000 curr2_input=9000\n");
    struct sensors *s = heat_open_tree(tree, true);
    assert_string_equal(heat_names(s), "GPU-therm!, CPU-therm!, thermal-fan-est");
    assert_string_equal(sensors_meter_name(s), "INA3221 (3 rails)");
    HEAT_WAIT(s, r, heat_is(r.watts, 10 + 5 + 4));
    heat_lay(tree, "hwmon0 curr2_input=none"); /* a part is missing: so is the sum */
    HEAT_WAIT(s, r, isnan(r.watts));
    heat_lay(tree, "hwmon0 curr2_input=300");
    HEAT_WAIT(s, r, heat_is(r.watts, 10 + 6 + 4));
    sensors_close(s);
}

/* ---- x86 ---------------------------------------------------------------------------------------------------------------------------- */

static void test_intel_desktop(void **state)
{
    const char *tree = heat_tree();
    struct sensors_reading r;
    heat_lay(tree, "zone0 type=acpitz temp=27800\n"
                   "zone1 type=x86_pkg_temp temp=52000\n"
                   "zone2 type=iwlwifi_1 temp=44000\n"
                   "zone3 type=INT3400+Thermal temp=20000\n"
                   "hwmon0 name=coretemp temp1_input=52000 temp1_label=Package+id+0 temp1_crit=90000 temp2_input=50000 "
                   "temp2_label=Core+0 temp3_input=52000 temp3_label=Core+1\n"
                   "hwmon1 name=iwlwifi_1 temp1_input=44000 device@zone2\n"
                   "hwmon2 name=drivetemp temp1_input=35000\n"
                   "rapl0 name=package-0 energy_uj=262143228850 max_energy_range_uj=262143328850\n"
                   "rapl0:0 name=core energy_uj=7\n");
    struct sensors *s = heat_open_tree(tree, false);
    assert_string_equal(heat_names(s), "coretemp/Package id 0!, acpitz/0!, INT3400 Thermal, iwlwifi_1, drivetemp/temp1");
    assert_true(heat_is(heat_limit(s, "coretemp/Package id 0"), 80)); /* Tjmax 90, less 10 */
    assert_int_equal(sensors_meter(s), GOVERNOR_METER_TOTAL);
    assert_string_equal(sensors_meter_name(s), "RAPL package");
    HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "coretemp/Package id 0"), 52));
    assert_true(isnan(r.watts));
    heat_lay(tree, "rapl0 energy_uj=100000"); /* 0.2 J on, over the end of the counter */
    HEAT_WAIT(s, r, !isnan(r.watts));
    assert_true(r.watts > 0 && r.watts <= 200);
    heat_lay(tree, "rapl0 energy_uj=99000000000"); /* 99 kJ in no time */
    for (int c = 53; c <= 54; c++) {               /* watts are read after temperatures: a whole round has seen it */
        heat_lay(tree, "hwmon0 temp1_input=%d000", c);
        HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "coretemp/Package id 0"), c));
    }
    HEAT_WAIT(s, r, isnan(r.watts));
    heat_lay(tree, "rapl0 energy_uj=99000100000");
    HEAT_WAIT(s, r, !isnan(r.watts)); /* goes on from there */
    assert_true(r.watts > 0 && r.watts <= 200);
    sensors_close(s);
    s = heat_open((struct sensors_options){.sysfs = tree, .limit_c = 88});
    assert_true(heat_is(heat_limit(s, "coretemp/Package id 0"), 85)); /* what was set, but below Tjmax by 5 */
    sensors_close(s);
}

/* RAPL that only root may read is none at all. */
static void test_rapl_unreadable(void **state)
{
    const char *tree = heat_tree();
    struct sensors_reading r;
    heat_lay(tree, "rapl0 name=package-0\n"
                   "rapl0/energy_uj is=a+folder\n");
    struct sensors *s = heat_open_tree(tree, false);
    assert_int_equal(sensors_meter(s), GOVERNOR_METER_NONE);
    assert_string_equal(sensors_meter_name(s), "none");
    sensors_read(s, clock_awake_and_asleep_ns(), &r);
    assert_true(isnan(r.watts));
    sensors_close(s);
}

/* Both packages did some work. */
static bool count_on(const char *tree)
{
    static int mj = 1000;
    mj += 20;
    heat_lay(tree,
             "rapl0 energy_uj=%d000\n"
             "rapl1 energy_uj=%d000\n",
             mj, mj);
    return true;
}

static void test_two_packages(void **state)
{
    const char *tree = heat_tree();
    struct sensors_reading r;
    heat_lay(tree, "hwmon0 name=coretemp temp1_input=52000 temp1_label=Package+id+0\n"
                   "hwmon1 name=coretemp temp1_input=54000 temp1_label=Package+id+1\n"
                   "rapl0 name=package-0\n"
                   "rapl1 name=package-1\n");
    count_on(tree);
    heat_say("c 50\npower 100000\n");
    struct sensors *s = heat_open((struct sensors_options){.sysfs = tree, .nvml = heat_library, .is_gpu = true});
    assert_string_equal(heat_names(s), "gpu0!, coretemp/Package id 0!, coretemp/Package id 1!");
    assert_int_equal(sensors_meter(s), GOVERNOR_METER_TOTAL);
    assert_string_equal(sensors_meter_name(s), "NVML (GPU) and RAPL package");
    HEAT_WAIT(s, r, count_on(tree) && !isnan(r.watts));
    assert_true(r.watts > 100 && r.watts < 100 + 2 * 200);
    sensors_close(s);
    /* a GPU that does other work says nothing of ours */
    s = heat_open((struct sensors_options){.sysfs = tree, .nvml = heat_library});
    assert_string_equal(sensors_meter_name(s), "RAPL package");
    assert_string_equal(heat_names(s), "coretemp/Package id 0!, coretemp/Package id 1!, gpu0");
    sensors_close(s);
    static const char *const wanted[] = {"gpu", "cpu"}; /* unless it is named */
    s = heat_open((struct sensors_options){.sysfs = tree, .nvml = heat_library, .wanted = wanted, .n_wanted = 2});
    assert_string_equal(heat_names(s), "gpu0!, coretemp/Package id 0!, coretemp/Package id 1!");
    sensors_close(s);
    s = heat_open((struct sensors_options){.nvml = heat_library});
    assert_int_equal(sensors_meter(s), GOVERNOR_METER_NONE);
    sensors_close(s);
}

static void test_old_intel(void **state)
{
    const char *tree = heat_tree();
    heat_lay(tree, "hwmon0 name=coretemp temp2_input=50000 temp2_label=Core+0 temp3_input=52000 temp3_label=Core+1");
    struct sensors *s = heat_open_tree(tree, false);
    assert_string_equal(heat_names(s), "coretemp/Core 0!, coretemp/Core 1!");
    sensors_close(s);
    tree = heat_tree(); /* no coretemp: the zone stands in */
    heat_lay(tree, "zone4 type=x86_pkg_temp temp=52000");
    s = heat_open_tree(tree, false);
    assert_string_equal(heat_names(s), "x86_pkg_temp!");
    assert_int_equal(sensors_place(s, 0)->part, SENSORS_CPU);
    sensors_close(s);
}

static void test_amd(void **state)
{
    const char *tree = heat_tree();
    struct sensors_reading r;
    heat_lay(tree, "hwmon0 name=k10temp temp1_input=70000 temp1_label=Tctl temp1_max=70000 temp2_input=43000 temp2_label=Tdie "
                   "temp3_input=42000 temp3_label=Tccd1");
    struct sensors *s = heat_open_tree(tree, false);
    assert_string_equal(heat_names(s), "k10temp/Tdie!");
    assert_true(heat_is(heat_limit(s, "k10temp/Tdie"), 85));
    HEAT_WAIT(s, r, heat_is(r.c[0], 43));
    sensors_close(s);
    tree = heat_tree();
    heat_lay(tree, "hwmon0 name=k10temp temp1_input=61000 temp1_label=Tctl temp3_input=42000 temp3_label=Tccd1");
    s = heat_open_tree(tree, false);
    assert_string_equal(heat_names(s), "k10temp/Tctl!");
    sensors_close(s);
}

static void test_nothing(void **state)
{
    struct sensors_reading r;
    struct sensors *s = heat_open_tree(heat_tree(), false);
    assert_int_equal(sensors_count(s), 0);
    assert_int_equal(sensors_governing(s), 0);
    assert_int_equal(sensors_meter(s), GOVERNOR_METER_NONE);
    sensors_read(s, clock_awake_and_asleep_ns(), &r);
    assert_true(isnan(r.c[0]) && isnan(r.watts) && isnan(r.device_margin_k) && !r.is_throttled && !r.is_limited);
    sensors_close(s);
    sensors_close(NULL);
}

/* ---- limits, and what governs ------------------------------------------------------------------------------------------------------- */

static void test_trips_lower_limits(void **state)
{
    static const struct {
        const char *type, *milli;
        double limit;
    } trips[] = {{"critical", "82000", 77}, {"passive", "84999", 79.999}, {"hot", "70000", 65},
                 {"passive", "85000", 80},  {"active", "50000", 80},      {"passive", "39000", 80},
                 {"critical", "0", 80},     {"critical", "-274000", 80},  {"passive", "none", 80}};
    for (size_t i = 0; i < sizeof trips / sizeof *trips; i++) {
        const char *tree = heat_tree();
        heat_lay(tree, "zone0 type=acpitz temp=40000 trip_point_0_type=%s trip_point_0_temp=%s", trips[i].type, trips[i].milli);
        struct sensors *s = heat_open_tree(tree, false);
        assert_true(heat_is(heat_limit(s, "acpitz/0"), trips[i].limit));
        sensors_close(s);
    }
}

static void test_wanted(void **state)
{
    struct sensors *s = NULL;
    struct err err = {0};
    const char *tree = spark_tree();
    heat_say("c 45\n");
    struct sensors_options o = {.sysfs = tree, .nvml = heat_library, .is_gpu = true, .period_ns = 20 * CLOCK_MS};
    o.wanted = (const char *const[]){"acpitz/2", "gpu"};
    o.n_wanted = 2;
    assert_ok(sensors_open(&o, &s, &err), &err);
    assert_int_equal(sensors_governing(s), 2);
    assert_int_equal(sensors_count(s), 12); /* the others are still shown */
    assert_string_equal(sensors_place(s, 0)->name, "gpu0");
    assert_string_equal(sensors_place(s, 1)->name, "acpitz/2");
    assert_false(sensors_place(s, 2)->governs);
    sensors_close(s);
    s = NULL;
    o.wanted = (const char *const[]){"gpu", "cpu"};
    assert_err(sensors_open(&o, &s, &err), ERR_INVAL, &err, "\"cpu\" to keep a limit of; there are gpu, board, gpu0, acpitz/0");
    o.wanted = (const char *const[]){"acpitz/2", "nvme/Composite"}; /* a drive does not govern */
    assert_err(sensors_open(&o, &s, &err), ERR_INVAL, &err, "\"nvme/Composite\"");
    o.sysfs = heat_tree();
    o.nvml = HEAT_NO_NVML;
    o.wanted = (const char *const[]){"gpu"};
    o.n_wanted = 1;
    o.is_gpu = false;
    assert_err(sensors_open(&o, &s, &err), ERR_INVAL, &err, "this machine tells none");
    assert_null(s);
}

static void *lay_late(void *tree)
{
    clock_sleep_until_ns(clock_now_ns() + 300 * CLOCK_MS);
    heat_lay(tree, "zone1 type=acpitz temp=39000");
    return NULL;
}

/* The module of a named chip is loaded after us, or its chip has died: no reason to end for good, as a misspelt name is. */
static void test_wanted_and_missing(void **state)
{
    struct sensors *s = NULL;
    struct sensors_reading r;
    struct err err = {0};
    const char *tree = heat_tree();
    struct sensors_options o = {.sysfs = tree,
                                .nvml = HEAT_NO_NVML,
                                .period_ns = 10 * CLOCK_MS,
                                .timeout_ns = 200 * CLOCK_MS,
                                .wanted = (const char *const[]){"acpitz/2", "cpu"},
                                .n_wanted = 2};
    heat_lay(tree, "zone0 type=x86_pkg_temp temp=41000");
    assert_err(sensors_open(&o, &s, &err), ERR_INVAL, &err, "\"acpitz/2\"");
    o.had_wanted = true;
    assert_ok(sensors_open(&o, &s, &err), &err);
    assert_int_equal(sensors_governing(s), 2);
    HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "x86_pkg_temp"), 41));
    const int missing = heat_place(s, "acpitz/2");
    assert_true(missing >= 0 && sensors_place(s, missing)->is_missing && isnan(r.c[missing])); /* blind */
    /* hours later: seen, and a start anew will find it */
    assert_false(r.has_come);
    heat_lay(tree, "zone1 type=acpitz temp=38000\nzone2 type=acpitz temp=38000"); /* others than that */
    heat_lay(tree, "zone3 type=acpitz temp=39000");
    HEAT_WAIT(s, r, r.has_come);
    sensors_close(s);
    assert_ok(sensors_open(&o, &s, &err), &err);
    HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "acpitz/2"), 39));
    assert_false(r.has_come);
    sensors_close(s);
}

/* Its driver comes while we look for it; or it is there, and says nothing that can be believed yet. */
static void test_wanted_and_late(void **state)
{
    struct sensors *s = NULL;
    struct sensors_reading r;
    struct err err = {0};
    pthread_t thread;
    const char *tree = heat_tree();
    struct sensors_options o = {.sysfs = tree,
                                .nvml = HEAT_NO_NVML,
                                .period_ns = 20 * CLOCK_MS,
                                .timeout_ns = 200 * CLOCK_MS,
                                .wanted = (const char *const[]){"board", "cpu"},
                                .n_wanted = 2,
                                .had_wanted = true};
    heat_lay(tree, "zone0 type=x86_pkg_temp temp=41000");
    assert_int_equal(pthread_create(&thread, NULL, lay_late, (void *)tree), 0);
    assert_ok(sensors_open(&o, &s, &err), &err);
    pthread_join(thread, NULL);
    HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "acpitz/0"), 39));
    sensors_close(s);
    heat_lay(tree, "zone1 type=acpitz temp=-2000\nzone2 type=acpitz temp=-3000\nzone3 type=acpitz temp=0"); /* a cold morning */
    assert_ok(sensors_open(&o, &s, &err), &err);
    assert_string_equal(heat_names(s),
                        "x86_pkg_temp!, acpitz/0!, acpitz/1, acpitz/2"); /* of others nobody knows that they ever speak */
    sensors_close(s);
    o.governed = (const char *const[]){"x86_pkg_temp", "acpitz/0", "acpitz/1"};
    o.n_governed = 3;
    assert_ok(sensors_open(&o, &s, &err), &err);
    assert_string_equal(heat_names(s), "x86_pkg_temp!, acpitz/0!, acpitz/1!, acpitz/2");
    heat_lay(tree, "zone1 type=acpitz temp=21000\nzone2 type=acpitz temp=20000");
    HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "acpitz/0"), 21) && heat_is(heat_c(s, &r, "acpitz/1"), 20));
    sensors_close(s);
}

/* What never says anything would blind the governor for ever. */
static void test_unbelievable_at_the_start(void **state)
{
    const char *tree = heat_tree();
    struct sensors_reading r;
    heat_lay(tree, "zone0 type=acpitz temp=40000\n"
                   "zone1 type=acpitz temp=-273200\n"
                   "zone2 type=acpitz temp=warm\n"
                   "zone3 type=gpu-thermal temp=\n");
    struct sensors *s = heat_open_tree(tree, false);
    assert_string_equal(heat_names(s), "acpitz/0!, gpu-thermal, acpitz/1, acpitz/2");
    HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "acpitz/1"), -273.2)); /* passed on as it is */
    assert_true(isnan(heat_c(s, &r, "acpitz/2")));
    sensors_close(s);
    s = heat_open_tree(tree, true); /* a GPU that computes wakes up for it */
    assert_string_equal(heat_names(s), "gpu-thermal!, acpitz/0!, acpitz/1, acpitz/2");
    sensors_close(s);
}

static void test_more_than_there_is_room_for(void **state)
{
    const char *tree = heat_tree();
    for (int i = 0; i < 20; i++)
        heat_lay(tree, "zone%d type=acpitz temp=40000", i);
    heat_lay(tree, "hwmon0 name=k10temp temp1_input=43000 temp1_label=Tdie");
    log_set_level(LOG_LEVEL_ERROR);
    struct sensors *s = heat_open_tree(tree, false);
    log_set_level(LOG_LEVEL_INFO);
    assert_int_equal(sensors_count(s), SENSORS_MAX);
    assert_int_equal(sensors_governing(s), SENSORS_MAX);
    assert_string_equal(sensors_place(s, 0)->name, "k10temp/Tdie"); /* the processor before the board */
    sensors_close(s);
}

/* A drive's temperature that hangs in its driver: whatever governs is read as before. */
static void test_a_drive_that_hangs_blinds_nobody(void **state)
{
    const char *tree = spark_tree();
    struct sensors_reading r;
    struct sensors *s = heat_open_tree(tree, false);
    HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "nvme/Composite"), 41.85) && heat_is(heat_c(s, &r, "acpitz/3"), 39.2));
    heat_hang(tree, "hwmon1/temp1_input");
    HEAT_WAIT(s, r, isnan(heat_c(s, &r, "nvme/Composite")));
    for (int i = 0; i < 3; i++) {
        heat_lay(tree, "zone3 temp=%d", 50000 + 1000 * i);
        HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "acpitz/3"), 50 + i));
        assert_true(isnan(heat_c(s, &r, "nvme/Composite")));
    }
    heat_let_go(tree, "hwmon1/temp1_input", "43000\n");
    HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "nvme/Composite"), 43));
    sensors_close(s);
}

/* ---- numbers that change ------------------------------------------------------------------------------------------------------------ */

static void test_renumbered(void **state)
{
    const char *tree = heat_tree();
    struct sensors_reading r;
    heat_lay(tree,
             "hwmon1 name=nvme temp1_input=40000 temp1_label=Composite device@devices/pci0000:00/0000:01:00.0/nvme/nvme0\n"
             "hwmon2 name=nvme temp1_input=41000 temp1_label=Composite device@devices/pci0000:00/0000:02:00.0/nvme/nvme1\n"
             "hwmon3 name=coretemp temp1_input=52000 temp1_label=Package+id+0\n"
             "hwmon4 name=ina3221 in1_label=VDD_IN in1_input=5000 curr1_input=2000\n"
             "zone1 type=acpitz temp=30000\n");
    struct sensors *s = heat_open_tree(tree, false);
    assert_string_equal(heat_names(s), "coretemp/Package id 0!, acpitz/0!, nvme/Composite@0000:01:00.0, "
                                       "nvme/Composite@0000:02:00.0");
    HEAT_WAIT(s, r, heat_is(r.watts, 10));
    heat_move(tree, "hwmon3", "hwmon9");
    heat_move(tree, "hwmon4", "hwmon3"); /* the old number belongs to somebody else */
    heat_move(tree, "hwmon1", "hwmon4"); /* two of the same driver and label change places */
    heat_move(tree, "hwmon2", "hwmon1");
    heat_move(tree, "hwmon4", "hwmon2");
    heat_move(tree, "zone1", "zone0");
    heat_lay(tree, "zone1 type=iwlwifi_1 temp=60000\n"
                   "hwmon9 temp1_input=53000\n"
                   "hwmon2 temp1_input=40500\n"
                   "hwmon1 temp1_input=41500\n"
                   "hwmon3 curr1_input=3000\n"
                   "zone0 temp=30500\n");
    HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "coretemp/Package id 0"), 53) && heat_is(heat_c(s, &r, "acpitz/0"), 30.5));
    HEAT_WAIT(s, r,
              heat_is(heat_c(s, &r, "nvme/Composite@0000:01:00.0"), 40.5) &&
                  heat_is(heat_c(s, &r, "nvme/Composite@0000:02:00.0"), 41.5));
    HEAT_WAIT(s, r, heat_is(r.watts, 15));
    sensors_close(s);
}

/* Folders of a class are links to devices: a link that points elsewhere is another device, even with the same driver. */
static void test_relinked(void **state)
{
    const char *tree = heat_tree();
    struct sensors_reading r;
    for (int i = 0; i < 2; i++) {
        char name[16], device[64];
        snprintf(name, sizeof name, "hwmon%d", i);
        snprintf(device, sizeof device, "devices/pci0000:00/0000:0%d:00.0/hwmon", i + 1);
        heat_lay(tree, "%s name=mlx5 temp1_input=%d000 device@devices/pci0000:00/0000:0%d:00.0", device, 61 + i, i + 1);
        heat_link(tree, name, device);
    }
    struct sensors *s = heat_open_tree(tree, false);
    HEAT_WAIT(s, r,
              heat_is(heat_c(s, &r, "mlx5/temp1@0000:01:00.0"), 61) && heat_is(heat_c(s, &r, "mlx5/temp1@0000:02:00.0"), 62));
    heat_move(tree, "hwmon0", "hwmon5");
    heat_move(tree, "hwmon1", "hwmon0");
    heat_lay(tree, "devices/pci0000:00/0000:01:00.0/hwmon temp1_input=63000");
    HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "mlx5/temp1@0000:01:00.0"), 63));
    assert_true(heat_is(heat_c(s, &r, "mlx5/temp1@0000:02:00.0"), 62));
    sensors_close(s);
}

/* Alike, and without devices behind them: those that stayed keep their names. */
static void test_one_of_many_vanishes(void **state)
{
    const char *tree = heat_tree();
    struct sensors_reading r;
    heat_lay(tree, "zone0 type=acpitz temp=30000\n"
                   "zone1 type=acpitz temp=31000\n"
                   "zone2 type=acpitz temp=32000\n");
    struct sensors *s = heat_open_tree(tree, false);
    HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "acpitz/1"), 31));
    heat_move(tree, "zone1", "gone");
    HEAT_WAIT(s, r, isnan(heat_c(s, &r, "acpitz/1")));
    heat_lay(tree, "zone2 temp=32500");
    HEAT_WAIT(s, r,
              heat_is(heat_c(s, &r, "acpitz/2"), 32.5) && heat_is(heat_c(s, &r, "acpitz/0"), 30) &&
                  isnan(heat_c(s, &r, "acpitz/1")));
    heat_lay(tree, "gone temp=31500");
    heat_move(tree, "gone", "zone1");
    HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "acpitz/1"), 31.5));
    /* all of them together move by one */
    heat_move(tree, "zone2", "zone3");
    heat_move(tree, "zone1", "zone2");
    heat_move(tree, "zone0", "zone1");
    heat_lay(tree, "zone1 temp=30700\n"
                   "zone3 temp=32700\n");
    HEAT_WAIT(s, r,
              heat_is(heat_c(s, &r, "acpitz/0"), 30.7) && heat_is(heat_c(s, &r, "acpitz/1"), 31.5) &&
                  heat_is(heat_c(s, &r, "acpitz/2"), 32.7));
    sensors_close(s);
}

/* An error of one reading is a reading that is missing, no more. */
static void test_unreadable_for_a_while(void **state)
{
    static const char *const nothing[] = {"", "\n", "N/A\n", "12x\n", "99999999999999999999999\n"};
    const char *tree = heat_tree();
    struct sensors_reading r;
    heat_lay(tree, "zone0 type=acpitz temp=30000\n"
                   "zone1 type=acpitz temp=31000\n");
    struct sensors *s = heat_open_tree(tree, false);
    for (size_t i = 0; i < sizeof nothing / sizeof *nothing; i++) {
        HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "acpitz/0"), 30));
        heat_put(tree, "zone0/temp", nothing[i]);
        HEAT_WAIT(s, r, isnan(heat_c(s, &r, "acpitz/0")) && heat_is(heat_c(s, &r, "acpitz/1"), 31));
        heat_lay(tree, "zone0 temp=30000");
    }
    HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "acpitz/0"), 30));
    heat_move(tree, "zone0/temp", "temp");
    heat_lay(tree, "zone0/temp is=a+folder");
    HEAT_WAIT(s, r, isnan(heat_c(s, &r, "acpitz/0")) && heat_is(heat_c(s, &r, "acpitz/1"), 31));
    heat_move(tree, "zone0/temp", "folder");
    heat_move(tree, "temp", "zone0/temp");
    HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "acpitz/0"), 30));
    heat_lay(tree, "zone0 temp=0");
    HEAT_WAIT(s, r, heat_is(heat_c(s, &r, "acpitz/0"), 0)); /* believing it is the governor's business */
    sensors_close(s);
}

/* ---- a simulated box ---------------------------------------------------------------------------------------------------------------- */

static void test_simulated(void **state)
{
    struct sensors *s = NULL;
    struct err err = {0};
    struct sensors_reading r;
    struct sensors_options o = {.sysfs = spark_tree(), .nvml = HEAT_NO_NVML, .is_gpu = true, .limit_c = 60};
    o.wanted = (const char *const[]){"simulated:spark?speed=100"};
    o.n_wanted = 1;
    assert_ok(sensors_open(&o, &s, &err), &err);
    assert_true(sensors_count(s) >= 1 && sensors_governing(s) == sensors_count(s));
    assert_true(heat_is(sensors_place(s, 0)->limit_c, 60));
    assert_int_equal(sensors_meter(s), GOVERNOR_METER_TOTAL);
    int64_t now_ns = CLOCK_S;
    sensors_note_load(s, 0, 0);
    sensors_read(s, now_ns, &r);
    const double cold = r.c[0];
    assert_true(cold > 5 && cold < 60 && r.watts > 5);
    for (int i = 0; i < 20; i++) {
        sensors_note_load(s, 8, 1);
        sensors_read(s, now_ns += CLOCK_S, &r);
    }
    assert_true(r.c[0] > cold + 5 && r.watts > 50);
    assert_true(r.device_margin_k > 0 && r.device_margin_k < 60);
    sensors_close(s);
    s = NULL;
    o.wanted = (const char *const[]){"simulated:spark?limit=75"};
    assert_ok(sensors_open(&o, &s, &err), &err);
    assert_true(heat_is(sensors_place(s, 0)->limit_c, 75));
    sensors_close(s);
    s = NULL;
    o.wanted = (const char *const[]){"simulated:toaster"};
    assert_err(sensors_open(&o, &s, &err), ERR_INVAL, &err, "toaster");
    assert_null(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spark),
        cmocka_unit_test(test_a_drive_that_hangs_blinds_nobody),
        cmocka_unit_test(test_spark_hwmon),
        cmocka_unit_test(test_spark_energy),
        cmocka_unit_test(test_jetson),
        cmocka_unit_test(test_jetson_agx),
        cmocka_unit_test(test_intel_desktop),
        cmocka_unit_test(test_rapl_unreadable),
        cmocka_unit_test(test_two_packages),
        cmocka_unit_test(test_old_intel),
        cmocka_unit_test(test_amd),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_trips_lower_limits),
        cmocka_unit_test(test_wanted),
        cmocka_unit_test(test_wanted_and_missing),
        cmocka_unit_test(test_wanted_and_late),
        cmocka_unit_test(test_unbelievable_at_the_start),
        cmocka_unit_test(test_more_than_there_is_room_for),
        cmocka_unit_test(test_renumbered),
        cmocka_unit_test(test_relinked),
        cmocka_unit_test(test_one_of_many_vanishes),
        cmocka_unit_test(test_unreadable_for_a_while),
        cmocka_unit_test(test_simulated),
    };
    return cmocka_run_group_tests(tests, heat_set_up, NULL);
}
