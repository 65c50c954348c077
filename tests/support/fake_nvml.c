/*
 * fake_nvml - a library that stands for libnvidia-ml.so.1 in tests, with the binary interface that Heron uses of it.
 *
 * What it answers stands in the file that $FAKE_NVML names, read again at every call; a line each:
 *
 *     gpus 1                 devices                         c 55          degrees of each (c1 60: of number 1)
 *     memory 70              degrees of the memory           margin 35     kelvins to the throttle
 *     power 80000            milliwatts                      energy 1000   millijoules
 *     reasons 0x20           of the clocks                   violation 5   nanoseconds
 *     slowdown 90            a threshold                     swap 1        devices in the opposite order
 *     fail nvmlInit_v2 9     this function fails with 9      hang nvmlDeviceGetTemperature 0.5    this one takes so many seconds
 *     gone 15                every call on a device fails with 15, and nvmlInit_v2 with 9
 *     lost 0                 no handle is given of this one
 *
 * What has no line is NOT_SUPPORTED, but for one GPU of 50 degrees. fake_nvml_calls tells how often a function was called. Any thread.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NOT_SUPPORTED     3
#define INVALID_ARGUMENT  2
#define UNINITIALIZED     1
#define DRIVER_NOT_LOADED 9
#define GPU_IS_LOST       15
#define GPUS              8
#define NAMES             16

struct device {
    int index;
};

struct temperature {
    unsigned version, sensor;
    int c;
};

struct margin {
    unsigned version;
    int k;
};

struct violation {
    unsigned long long reference_us, violation_ns;
};

struct field {
    unsigned id, scope;
    long long timestamp_us, latency_us;
    unsigned type;
    int rc;
    unsigned long long value;
};

static struct device devices[GPUS];
static atomic_int is_up;

static struct {
    _Atomic(const char *) name;
    atomic_uint n;
} calls[NAMES];

unsigned fake_nvml_calls(const char *name);
int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct device **ret);
int nvmlDeviceGetTemperature(struct device *d, int sensor, unsigned *ret);
int nvmlDeviceGetTemperatureV(struct device *d, struct temperature *ret);
int nvmlDeviceGetTemperatureThreshold(struct device *d, int which, unsigned *ret);
int nvmlDeviceGetUUID(struct device *d, char *out, unsigned cap);
int nvmlDeviceGetPowerUsage(struct device *d, unsigned *ret);
int nvmlDeviceGetTotalEnergyConsumption(struct device *d, unsigned long long *ret);
int nvmlDeviceGetCurrentClocksThrottleReasons(struct device *d, unsigned long long *ret);
int nvmlDeviceGetViolationStatus(struct device *d, int policy, struct violation *ret);
int nvmlDeviceGetMarginTemperature(struct device *d, struct margin *ret);
int nvmlDeviceGetFieldValues(struct device *d, int n, struct field *ret);

/* The text behind "KEY " in the file. */
static bool look_up(const char *key, char out[64])
{
    const char *path = getenv("FAKE_NVML");
    FILE *f = path ? fopen(path, "re") : NULL;
    char line[128];
    bool is_found = false;
    while (f && !is_found && fgets(line, sizeof line, f)) {
        const size_t n = strlen(key);
        is_found = strncmp(line, key, n) == 0 && line[n] == ' ';
        if (is_found)
            snprintf(out, 64, "%.63s", line + n + 1);
    }
    if (f)
        fclose(f);
    return is_found;
}

static double number(const char *key, double otherwise)
{
    char text[64];
    if (!look_up(key, text))
        return otherwise;
    return strncmp(text, "0x", 2) == 0 ? (double)strtoull(text, NULL, 16) : strtod(text, NULL);
}

unsigned fake_nvml_calls(const char *name)
{
    for (int i = 0; i < NAMES && atomic_load(&calls[i].name); i++)
        if (strcmp(atomic_load(&calls[i].name), name) == 0)
            return atomic_load(&calls[i].n);
    return 0;
}

static void count(const char *name)
{
    for (int i = 0; i < NAMES; i++) {
        const char *none = NULL;
        if (atomic_compare_exchange_strong(&calls[i].name, &none, name) || strcmp(none, name) == 0) {
            atomic_fetch_add(&calls[i].n, 1);
            return;
        }
    }
}

/* What every call has in common: counted, hanging, failing. 0: go on. */
static int enter(const char *name, bool is_of_device)
{
    char key[80];
    count(name);
    snprintf(key, sizeof key, "hang %s", name);
    const double hang_s = number(key, 0);
    const struct timespec ts = {.tv_sec = (time_t)hang_s, .tv_nsec = (long)((hang_s - (double)(time_t)hang_s) * 1e9)};
    if (hang_s > 0)
        nanosleep(&ts, NULL);
    snprintf(key, sizeof key, "fail %s", name);
    const int rc = (int)number(key, 0);
    if (rc != 0)
        return rc;
    const int gone = (int)number("gone", 0);
    if (is_of_device && !atomic_load(&is_up))
        return UNINITIALIZED;
    return gone == 0 ? 0 : is_of_device ? gone : DRIVER_NOT_LOADED;
}

/* The value of one key, or NOT_SUPPORTED. */
static int answer(const char *name, const char *key, double *ret)
{
    const int rc = enter(name, true);
    *ret = number(key, -1e9);
    return rc != 0 ? rc : *ret <= -1e9 ? NOT_SUPPORTED : 0;
}

int nvmlInit_v2(void)
{
    const int rc = enter(__func__, false);
    if (rc == 0)
        atomic_fetch_add(&is_up, 1);
    return rc;
}

int nvmlShutdown(void)
{
    count(__func__);
    atomic_fetch_sub(&is_up, 1);
    return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct device **ret)
{
    const int rc = enter(__func__, true), n = (int)number("gpus", 1);
    if (rc != 0)
        return rc;
    if (index >= (unsigned)n || index >= GPUS)
        return INVALID_ARGUMENT;
    if (index == (unsigned)number("lost", GPUS))
        return GPU_IS_LOST;
    const int at = number("swap", 0) > 0 ? n - 1 - (int)index : (int)index;
    *ret = &devices[at];
    (*ret)->index = at;
    return 0;
}

static int read_c(const char *name, struct device *d, double *ret)
{
    char key[16];
    const int rc = enter(name, true);
    snprintf(key, sizeof key, "c%d", d->index);
    *ret = number(key, number("c", 50));
    return rc;
}

int nvmlDeviceGetTemperature(struct device *d, int sensor, unsigned *ret)
{
    double c;
    const int rc = read_c(__func__, d, &c);
    if (rc == 0)
        *ret = (unsigned)c;
    return sensor != 0 ? INVALID_ARGUMENT : rc;
}

int nvmlDeviceGetTemperatureV(struct device *d, struct temperature *ret)
{
    double c;
    const int rc = number("new", 0) > 0 ? read_c(__func__, d, &c) : (count(__func__), NOT_SUPPORTED);
    if (ret->version != (sizeof *ret | 1u << 24))
        return 25;
    if (rc == 0)
        ret->c = (int)c;
    return rc;
}

int nvmlDeviceGetTemperatureThreshold(struct device *d, int which, unsigned *ret)
{
    double c;
    const int rc = answer(__func__, which == 1 ? "slowdown" : "-", &c);
    if (rc == 0)
        *ret = (unsigned)c;
    return rc;
}

int nvmlDeviceGetUUID(struct device *d, char *out, unsigned cap)
{
    const int rc = enter(__func__, true);
    if (rc == 0)
        snprintf(out, cap, "GPU-%d", d->index);
    return rc;
}

int nvmlDeviceGetPowerUsage(struct device *d, unsigned *ret)
{
    double mw;
    const int rc = answer(__func__, "power", &mw);
    if (rc == 0)
        *ret = (unsigned)mw;
    return rc;
}

int nvmlDeviceGetTotalEnergyConsumption(struct device *d, unsigned long long *ret)
{
    double mj;
    const int rc = answer(__func__, "energy", &mj);
    if (rc == 0)
        *ret = (unsigned long long)mj;
    return rc;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(struct device *d, unsigned long long *ret)
{
    double reasons;
    const int rc = answer(__func__, "reasons", &reasons);
    if (rc == 0)
        *ret = (unsigned long long)reasons;
    return rc;
}

int nvmlDeviceGetViolationStatus(struct device *d, int policy, struct violation *ret)
{
    double ns;
    const int rc = answer(__func__, policy == 1 ? "violation" : "-", &ns);
    if (rc == 0)
        *ret = (struct violation){.violation_ns = (unsigned long long)ns};
    return rc;
}

int nvmlDeviceGetMarginTemperature(struct device *d, struct margin *ret)
{
    double k;
    const int rc = answer(__func__, "margin", &k);
    if (ret->version != (sizeof *ret | 1u << 24))
        return 25;
    if (rc == 0)
        ret->k = (int)k;
    return rc;
}

int nvmlDeviceGetFieldValues(struct device *d, int n, struct field *ret)
{
    static const struct {
        unsigned id;
        const char *key;
    } keys[] = {{82, "memory"}, {251, "sw_thermal"}, {252, "hw_thermal"}, {253, "brake"}};
    const int rc = enter(__func__, true);
    for (int i = 0; i < n && rc == 0; i++) {
        double value = -1;
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
            if (keys[k].id == ret[i].id)
                value = number(keys[k].key, -1);
        ret[i].rc = value < 0 ? NOT_SUPPORTED : 0;
        ret[i].value = value < 0 ? 0 : (unsigned long long)value;
    }
    return rc;
}
