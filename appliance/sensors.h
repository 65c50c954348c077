/*
 * sensors - what the machine says about its heat: temperatures, watts, and whether the device holds itself back.
 *
 * Found once at the start, and again when something vanishes: NVML by dlopen, thermal zones and hwmon chips of sysfs by driver and label (numbers change), powercap (RAPL), or a
 * simulated box. Every source is read by a thread of its own, because calls into drivers can hang: whoever asks gets the newest figures, as long as they are fresh, and never waits.
 * What a machine does not have is missing (NAN), never zero.
 *
 * Life cycle: sensors_open -> sensors_read once a second, sensors_note_load before it -> sensors_close.
 * Threads: sensors_* from one thread, the owner (the thermal thread). One thread per source inside. Memory: one struct, and one per source; nothing is allocated after opening but
 * for as long as sysfs is looked through again, and by the driver's library when it is started again.
 */
#ifndef HERON_APPLIANCE_SENSORS_H
#define HERON_APPLIANCE_SENSORS_H

#include <stdbool.h>
#include <stdint.h>

#include "appliance/governor.h"
#include "base/err.h"

#define SENSORS_MAX      GOVERNOR_SENSORS
#define SENSORS_NAME_MAX 64

/* Degrees that are kept where thermal.limit is not set */
#define SENSORS_GPU_LIMIT_C   68
#define SENSORS_BOARD_LIMIT_C 80
#define SENSORS_CPU_LIMIT_C   85

enum sensors_part {
    SENSORS_GPU,   /* NVML's device, a Jetson's gpu zone; governs where the engine computes on it, or where it is named */
    SENSORS_BOARD, /* acpitz zones: unnamed places of the board */
    SENSORS_CPU,   /* coretemp package, k10temp Tdie or Tctl, x86_pkg_temp; cpu, soc and tj zones; tj_max of spark_hwmon */
    SENSORS_OTHER  /* NVMe, network, memory modules: shown, and warned about, but they do not govern */
};

/* One place with a temperature. */
struct sensors_place {
    /* stable over reboots: "gpu0", "acpitz/3", "coretemp/Package id 0", "nvme/Composite@0000:01:00.0" */
    char name[SENSORS_NAME_MAX];
    enum sensors_part part;
    double limit_c; /* of SENSORS_OTHER: what its chip calls too much; NAN: it does not say */
    bool governs;
    bool is_missing; /* nothing tells of it: it was not there at the start */
};

struct sensors_options {
    double limit_c; /* thermal.limit; 0: of each part its own (GPU 68, board 80, CPU 85) */
    bool is_gpu;    /* the engine computes on a GPU: limit_c is the GPU's, otherwise the CPU's */
    /* Which one, in the order of PCI, as NVML counts them (CUDA does with CUDA_DEVICE_ORDER=PCI_BUS_ID). Others are shown; where NVML has none of that number, all govern. */
    int gpu;
    /* thermal.sensors: names of places or of parts ("gpu", "board", "cpu"), or "simulated:..."; n_wanted 0: all */
    const char *const *wanted;
    int n_wanted;
    bool had_wanted; /* this machine had all of them at an earlier start: one that is missing is late or broken, not misspelt */
    const char *const
        *governed; /* names of places that governed at earlier starts: of a part that says nothing yet, those are waited for */
    int n_governed;
    const char *sysfs; /* NULL: "/sys" */
    const char *nvml;  /* NULL: "libnvidia-ml.so.1" */
    /* of a source; 0: one second each. Its first answer may take ten timeouts: a GPU that nobody uses wakes up slowly */
    int64_t period_ns, timeout_ns;
};

struct sensors_reading {
    double c[SENSORS_MAX];  /* newest, NAN where it is older than two periods, or none */
    double watts;           /* mean since the last call, by the best meter (sensors_meter); NAN: none */
    double device_margin_k; /* to the device's own throttling, as the device says; NAN: it does not */
    bool is_throttled;      /* it slowed itself down because of heat since the last call */
    bool is_limited;        /* because of something else: power brake, PROCHOT */
    bool has_come;          /* something that was missing at the start is there by now: another start finds it */
    bool is_gone;           /* a GPU that governs was there, and is not: its driver is loaded anew, or it fell off the bus */
};

struct sensors;

/*
 * Where the engine computes on a GPU that says nothing, it has a place that is blind: until it says something, or for good where NVML is not there or hangs. Naming others in
 * `wanted` does without it. What is wanted, was there at an earlier start and is not there now is looked for for ten timeouts; then it has a place that is blind, until the next start. Every five minutes
 * sysfs is looked through for it.
 *
 * Errors: ERR_INVAL (a wanted name of nothing that governs, and never did: the message lists what there is; a simulated box that cannot be read), ERR_NOMEM, ERR_IO (no thread). A machine without
 * any sensor is no error. A source that does not answer in time is as good as absent, and said in the log; so is a place that says nothing believable at the start, unless it is
 * wanted and was there before.
 */
int sensors_open(const struct sensors_options *options, struct sensors **ret_sensors, struct err *err);
void sensors_close(struct sensors *sensors); /* takes NULL; a source that hangs is left behind with its memory */

/* Those that govern come first. Fixed after opening: a place that vanishes keeps its number and comes back to it. */
int sensors_count(const struct sensors *sensors);
int sensors_governing(const struct sensors *sensors);
const struct sensors_place *sensors_place(const struct sensors *sensors, int i);
enum governor_meter sensors_meter(const struct sensors *sensors);

/* A line for `heron check` and the log: where the watts come from, "NVML (GPU)", "RAPL package", "none". */
const char *sensors_meter_name(const struct sensors *sensors);

/* Seconds of the box in a second of the clock: 1, but for a simulated one that was told otherwise. */
double sensors_speed(const struct sensors *sensors);
bool sensors_is_simulated(const struct sensors *sensors);

/* What the engine did since the last call: a simulated box warms up by it; real ones need not be told. */
void sensors_note_load(struct sensors *sensors, int batch, double duty);

/* Never waits. now_ns: clock_awake_and_asleep_ns, so that what was read before a suspend is old behind it. */
void sensors_read(struct sensors *sensors, int64_t now_ns, struct sensors_reading *ret);

/* The time in the box at its last reading: now_ns itself, but for a simulated one, whose clock has its own speed and start. */
int64_t sensors_clock_ns(const struct sensors *sensors, int64_t now_ns);

#endif
