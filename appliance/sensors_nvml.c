#include "appliance/sensors_nvml.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* ---- what is used of NVML: declared here by its documented binary interface, so that no header of it is needed ------------------------ */

typedef struct nvml_device *nvml_device; /* an opaque handle */

enum nvml_rc {
    NVML_SUCCESS = 0,
    NVML_INVALID_ARGUMENT = 2,
    NVML_NOT_SUPPORTED = 3,
    NVML_NO_PERMISSION = 4,
    NVML_TIMEOUT = 10,
    NVML_FUNCTION_NOT_FOUND = 13,
    NVML_IN_USE = 19,
    NVML_MEMORY = 20,
    NVML_NO_DATA = 21,
    NVML_INSUFFICIENT_RESOURCES = 23,
    NVML_VERSION_MISMATCH = 25,
    NVML_DEPRECATED = 26,
    NVML_NOT_READY = 27
};

#define NVML_SENSOR_GPU            0
#define NVML_THRESHOLD_SLOWDOWN    1
#define NVML_THRESHOLD_MEMORY_MOST 2
#define NVML_THRESHOLD_GPU_MOST    3
#define NVML_POLICY_THERMAL        1
#define NVML_REASON_HW_SLOWDOWN    0x08
#define NVML_REASON_SW_THERMAL     0x20
#define NVML_REASON_HW_THERMAL     0x40
#define NVML_REASON_HW_POWER_BRAKE 0x80
#define NVML_FIELD_MEMORY_C        82
#define NVML_FIELD_SW_THERMAL      251 /* for how long, since the driver was loaded */
#define NVML_FIELD_HW_THERMAL      252
#define NVML_FIELD_HW_POWER_BRAKE  253
#define NVML_VERSION(type, n)      ((unsigned)sizeof(type) | (unsigned)(n) << 24)
#define NVML_UUID_MAX              96

struct nvml_temperature {
    unsigned version, sensor;
    int c;
};

struct nvml_margin {
    unsigned version;
    int k;
};

struct nvml_violation {
    unsigned long long reference_us, violation_ns;
};

struct nvml_field {
    unsigned id, scope;
    long long timestamp_us, latency_us;
    unsigned type;
    int rc;
    union {
        double d;
        int i;
        unsigned u;
        unsigned long ul;
        unsigned long long ull;
        long long ll;
    } value;
};

_Static_assert(sizeof(struct nvml_field) == 40, "as NVML lays it out");

/* Every function by its name in the library: X(name, parameters). */
#define FUNCTIONS(X)                                                                                                           \
    X(nvmlInit_v2, (void))                                                                                                     \
    X(nvmlShutdown, (void))                                                                                                    \
    X(nvmlDeviceGetHandleByIndex_v2, (unsigned, nvml_device *))                                                                \
    X(nvmlDeviceGetTemperature, (nvml_device, int, unsigned *))                                                                \
    X(nvmlDeviceGetTemperatureV, (nvml_device, struct nvml_temperature *))                                                     \
    X(nvmlDeviceGetTemperatureThreshold, (nvml_device, int, unsigned *))                                                       \
    X(nvmlDeviceGetUUID, (nvml_device, char *, unsigned))                                                                      \
    X(nvmlDeviceGetPowerUsage, (nvml_device, unsigned *))                                                                      \
    X(nvmlDeviceGetTotalEnergyConsumption, (nvml_device, unsigned long long *))                                                \
    X(nvmlDeviceGetCurrentClocksEventReasons, (nvml_device, unsigned long long *))                                             \
    X(nvmlDeviceGetCurrentClocksThrottleReasons, (nvml_device, unsigned long long *))                                          \
    X(nvmlDeviceGetViolationStatus, (nvml_device, int, struct nvml_violation *))                                               \
    X(nvmlDeviceGetMarginTemperature, (nvml_device, struct nvml_margin *))                                                     \
    X(nvmlDeviceGetFieldValues, (nvml_device, int, struct nvml_field *))

/* ---- state -------------------------------------------------------------------------------------------------------------------------------- */

#define BACKOFF_MOST     30 /* times the first */
#define STILL_ROUNDS     30
#define STRIKES          3 /* an answer that costs the handle, or a hang, as often as this: the call is done with */
#define MARGIN_LEAST     -10
#define MARGIN_MOST      110
#define THROTTLE_LEAST_C 70 /* where a GPU may throttle: margin and temperature together say it */
#define THROTTLE_MOST_C  120
#define TRIP_LEAST_C     40
#define TRIP_MOST_C      120

/* What is asked for once a period, each by itself given up where it is not supported. */
enum call {
    CALL_TEMPERATURE_V,
    CALL_TEMPERATURE,
    CALL_ENERGY,
    CALL_POWER,
    CALL_REASONS,
    CALL_VIOLATION,
    CALL_MARGIN,
    CALL_FIELDS,
    N_CALLS
};

struct gpu {
    nvml_device handle; /* NULL: not there */
    unsigned number;    /* of NVML's, at the first start */
    char uuid[NVML_UUID_MAX];
    bool is_off[N_CALLS];  /* until the next start */
    int strikes[N_CALLS];  /* outlive it */
    double c;              /* of this round */
    unsigned long long mj; /* the energy counter, and for how many rounds it has stood */
    int n_still;
    unsigned long long violation_ns, sw_thermal, hw_thermal, brake; /* counters at the last look */
    bool has_violation, has_sw_thermal, has_hw_thermal, has_brake;
};

struct sensors_nvml {
    void *library;
#define X(name, parameters) int(*name) parameters;
    FUNCTIONS(X)
#undef X
    int64_t backoff_ns, timeout_ns;
    bool is_up, is_failed; /* is_failed: this round showed that the library must be started anew */
    bool is_partial;       /* fewer GPUs than there were */
    int64_t retry_ns;
    int wait; /* times the back-off; 0: the last round was good */
    int n_gpus;
    struct gpu gpus[SENSORS_NVML_GPUS];
};

/* ---- the library --------------------------------------------------------------------------------------------------------------------------- */

/* C knows no way from an object's address to a function's but its bytes. */
static void look_up(void *library, const char *name, void *function, size_t n)
{
    void *address = dlsym(library, name);
    memcpy(function, &address, n);
}

int sensors_nvml_open(const char *library, int64_t backoff_ns, int64_t timeout_ns, struct sensors_nvml **ret_nvml,
                      struct err *err)
{
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return err_set(err, ERR_NOT_FOUND, "%s", dlerror());
    struct sensors_nvml *n = calloc(1, sizeof *n);
    if (!n) {
        dlclose(handle);
        return err_set(err, ERR_NOMEM, "out of memory: NVML");
    }
    n->library = handle;
    n->backoff_ns = backoff_ns;
    n->timeout_ns = timeout_ns;
#define X(name, parameters) look_up(handle, #name, &n->name, sizeof n->name);
    FUNCTIONS(X)
#undef X
    if (!n->nvmlInit_v2 || !n->nvmlDeviceGetHandleByIndex_v2 ||
        (!n->nvmlDeviceGetTemperature && !n->nvmlDeviceGetTemperatureV)) {
        sensors_nvml_close(n);
        return err_set(err, ERR_UNSUPPORTED, "%s is older than what is needed, or something else", library);
    }
    if (!n->nvmlDeviceGetCurrentClocksEventReasons) /* its name before driver 535 */
        n->nvmlDeviceGetCurrentClocksEventReasons = n->nvmlDeviceGetCurrentClocksThrottleReasons;
    *ret_nvml = n;
    return 0;
}

static void shut_down(struct sensors_nvml *n)
{
    if (n->is_up && n->nvmlShutdown)
        n->nvmlShutdown();
    n->is_up = n->is_failed = false;
}

void sensors_nvml_close(struct sensors_nvml *n)
{
    if (!n)
        return;
    shut_down(n);
    dlclose(n->library);
    free(n);
}

/* Not now: next time a little later. */
static void put_off(struct sensors_nvml *n, int64_t now_ns)
{
    n->wait = n->wait == 0 ? 1 : n->wait * 2 < BACKOFF_MOST ? n->wait * 2 : BACKOFF_MOST;
    n->retry_ns = now_ns + n->wait * n->backoff_ns;
}

enum meaning { GIVEN, REFUSED, LATER, GONE };

static enum meaning meaning_of(int rc)
{
    switch (rc) {
    case NVML_SUCCESS: return GIVEN;
    case NVML_INVALID_ARGUMENT:
    case NVML_NOT_SUPPORTED:
    case NVML_NO_PERMISSION:
    case NVML_FUNCTION_NOT_FOUND:
    case NVML_VERSION_MISMATCH:
    case NVML_DEPRECATED: return REFUSED;
    case NVML_TIMEOUT:
    case NVML_IN_USE:
    case NVML_MEMORY:
    case NVML_NO_DATA:
    case NVML_INSUFFICIENT_RESOURCES:
    case NVML_NOT_READY: return LATER;
    default: return GONE; /* not initialised, driver gone, GPU lost, reset needed, unknown */
    }
}

/* A handle is given of a GPU that fell off the bus, too. It must not take the others with it, again and again. */
static bool is_there(struct sensors_nvml *n, nvml_device handle)
{
    unsigned c;
    return !n->nvmlDeviceGetTemperature || meaning_of(n->nvmlDeviceGetTemperature(handle, NVML_SENSOR_GPU, &c)) != GONE;
}

/* Which GPU of the first start this is: by UUID where it says one, else by its index. */
static struct gpu *find_gpu(struct sensors_nvml *n, bool is_first, unsigned index, const char *uuid)
{
    if (is_first)
        return n->n_gpus < SENSORS_NVML_GPUS ? &n->gpus[n->n_gpus++] : NULL;
    for (int i = 0; i < n->n_gpus && uuid[0]; i++)
        if (strcmp(n->gpus[i].uuid, uuid) == 0)
            return &n->gpus[i];
    return index < (unsigned)n->n_gpus && (!uuid[0] || !n->gpus[index].uuid[0]) ? &n->gpus[index] : NULL;
}

/* Handles of all GPUs that give one. */
static int take_handles(struct sensors_nvml *n)
{
    const bool is_first = n->n_gpus == 0;
    int rc, taken = 0;
    for (int i = 0; i < n->n_gpus; i++)
        n->gpus[i].handle = NULL;
    for (unsigned i = 0; i < SENSORS_NVML_GPUS; i++) {
        nvml_device handle = NULL;
        char uuid[NVML_UUID_MAX] = "";
        rc = n->nvmlDeviceGetHandleByIndex_v2(i, &handle);
        if (rc == NVML_INVALID_ARGUMENT) /* there are no more */
            break;
        if (rc != NVML_SUCCESS || (!is_first && !is_there(n, handle))) /* no power, no permission, lost: the next may be well */
            continue;
        if (!n->nvmlDeviceGetUUID || n->nvmlDeviceGetUUID(handle, uuid, sizeof uuid) != NVML_SUCCESS)
            uuid[0] = 0;
        uuid[sizeof uuid - 1] = 0;
        struct gpu *g = find_gpu(n, is_first, i, uuid);
        if (!g || g->handle)
            continue;
        g->handle = handle;
        if (is_first)
            g->number = i;
        memcpy(g->uuid, uuid, sizeof uuid);
        memset(g->is_off, 0, sizeof g->is_off);
        g->has_violation = g->has_sw_thermal = g->has_hw_thermal = g->has_brake = false; /* they begin anew with the driver */
        taken++;
    }
    return taken;
}

bool sensors_nvml_begin(struct sensors_nvml *n, int64_t now_ns, struct err *err)
{
    if (n->is_up && !n->is_failed && !n->is_partial) {
        n->wait = 0; /* the round before was good */
        return true;
    }
    if (n->is_up && n->is_failed) {
        shut_down(n);
        put_off(n, now_ns);
    }
    if (n->wait > 0 && now_ns < n->retry_ns)
        return n->is_up || (err_set(err, ERR_AGAIN, "NVML waits before it is tried again"), false);
    shut_down(n);
    const int rc = n->nvmlInit_v2();
    if (rc != NVML_SUCCESS) {
        put_off(n, now_ns);
        err_set(err, ERR_DEVICE, "nvmlInit_v2 fails with %d%s", rc, rc == 9 ? " (the driver is not loaded)" : "");
        return false;
    }
    n->is_up = true;
    const int taken = take_handles(n);
    n->is_partial = taken < n->n_gpus;
    if (taken == 0) {
        shut_down(n);
        put_off(n, now_ns);
        err_set(err, ERR_DEVICE, "NVML knows of no GPU");
        return false;
    }
    if (n->is_partial)
        put_off(n, now_ns);
    return true;
}

int sensors_nvml_count(const struct sensors_nvml *n)
{
    return n->n_gpus;
}

int sensors_nvml_number(const struct sensors_nvml *n, int gpu)
{
    return (int)n->gpus[gpu].number;
}

bool sensors_nvml_is_gone(const struct sensors_nvml *n, int gpu)
{
    return !n->is_up || !n->gpus[gpu].handle;
}

/* ---- calls ------------------------------------------------------------------------------------------------------------------------------------ */

static bool is_given_up(const struct gpu *g, enum call call)
{
    return g->is_off[call] || g->strikes[call] >= STRIKES;
}

/* May this be asked, and is there somebody to ask? */
static bool may_call(const struct sensors_nvml *n, const struct gpu *g, enum call call)
{
    return n->is_up && !n->is_failed && g->handle && !is_given_up(g, call);
}

/*
 * What an answer means. One call that fails in a way that looks like a lost GPU, or hangs, time and again while the others are well is a fault of the driver's own and is given up.
 */
static bool judge(struct sensors_nvml *n, struct gpu *g, enum call call, int rc, int64_t began_ns)
{
    const bool is_slow = clock_now_ns() - began_ns > n->timeout_ns;
    const bool is_needed = call == CALL_TEMPERATURE || (call == CALL_TEMPERATURE_V && !n->nvmlDeviceGetTemperature);
    bool is_strike = is_slow && !is_needed;
    switch (meaning_of(rc)) {
    case GIVEN: break;
    case REFUSED: g->is_off[call] = true; break;
    case LATER: break;
    case GONE:
        n->is_failed = true;
        is_strike = !is_needed;
        break;
    }
    if (is_strike)
        g->strikes[call]++;
    else if (rc == NVML_SUCCESS)
        g->strikes[call] = 0;
    return rc == NVML_SUCCESS;
}

/* rc of n->FUNCTION(...) as `call` of GPU g, judged. */
#define ASK(call, function, ...)                                                                                               \
    (n->function && may_call(n, g, (call)) && (began_ns = clock_now_ns(), true) &&                                             \
     judge(n, g, (call), n->function(g->handle, __VA_ARGS__), began_ns))

double sensors_nvml_read(struct sensors_nvml *n, int gpu, bool *ret_has_any)
{
    struct gpu *g = &n->gpus[gpu];
    struct nvml_temperature t = {.version = NVML_VERSION(struct nvml_temperature, 1), .sensor = NVML_SENSOR_GPU};
    unsigned c = 0;
    int64_t began_ns = 0;
    g->c = NAN;
    if (ASK(CALL_TEMPERATURE_V, nvmlDeviceGetTemperatureV, &t))
        g->c = t.c;
    else if (ASK(CALL_TEMPERATURE, nvmlDeviceGetTemperature, NVML_SENSOR_GPU, &c))
        g->c = c;
    const bool has_any = (n->nvmlDeviceGetTemperatureV && !g->is_off[CALL_TEMPERATURE_V]) ||
                         (n->nvmlDeviceGetTemperature && !g->is_off[CALL_TEMPERATURE]);
    if (ret_has_any)
        *ret_has_any = has_any;
    else if (!has_any && g->handle) /* it told it before */
        n->is_failed = true;
    return g->c;
}

/* Has a counter grown since the last look? */
static bool has_grown(bool *has_before, unsigned long long *before, unsigned long long now)
{
    const bool has = *has_before && now > *before;
    *has_before = true;
    *before = now;
    return has;
}

static void read_power(struct sensors_nvml *n, struct gpu *g, struct sensors_nvml_figures *ret)
{
    unsigned long long mj = 0;
    unsigned mw = 0;
    int64_t began_ns = 0;
    if (ASK(CALL_ENERGY, nvmlDeviceGetTotalEnergyConsumption, &mj)) {
        g->n_still = mj == g->mj ? g->n_still + 1 : 0;
        g->mj = mj;
        if (g->n_still >= STILL_ROUNDS) /* no GPU draws nothing: it does not count */
            g->is_off[CALL_ENERGY] = true;
        ret->is_energy = true;
        ret->power = (double)mj / 1000;
    }
    const bool has_energy = n->nvmlDeviceGetTotalEnergyConsumption && !is_given_up(g, CALL_ENERGY);
    if (!has_energy && ASK(CALL_POWER, nvmlDeviceGetPowerUsage, &mw))
        ret->power = mw / 1000.0;
    ret->has_power = has_energy || (n->nvmlDeviceGetPowerUsage && !is_given_up(g, CALL_POWER));
}

static void read_reasons(struct sensors_nvml *n, struct gpu *g, struct sensors_nvml_figures *ret)
{
    const unsigned long long thermal = NVML_REASON_SW_THERMAL | NVML_REASON_HW_THERMAL;
    unsigned long long reasons = 0;
    struct nvml_violation violation = {0};
    int64_t began_ns = 0;
    if (ASK(CALL_REASONS, nvmlDeviceGetCurrentClocksEventReasons, &reasons)) {
        ret->is_throttled = (reasons & thermal) != 0;
        ret->is_limited =
            (reasons & NVML_REASON_HW_POWER_BRAKE) || ((reasons & NVML_REASON_HW_SLOWDOWN) && !(reasons & thermal));
    }
    if (ASK(CALL_VIOLATION, nvmlDeviceGetViolationStatus, NVML_POLICY_THERMAL, &violation) &&
        has_grown(&g->has_violation, &g->violation_ns, violation.violation_ns))
        ret->is_throttled = true;
}

/* In one call: the memory's temperature, and for how long it was slowed down, which also tells what happened between two looks. */
static void read_fields(struct sensors_nvml *n, struct gpu *g, struct sensors_nvml_figures *ret)
{
    struct nvml_field f[] = {{.id = NVML_FIELD_MEMORY_C, .rc = NVML_NOT_SUPPORTED},
                             {.id = NVML_FIELD_SW_THERMAL, .rc = NVML_NOT_SUPPORTED},
                             {.id = NVML_FIELD_HW_THERMAL, .rc = NVML_NOT_SUPPORTED},
                             {.id = NVML_FIELD_HW_POWER_BRAKE, .rc = NVML_NOT_SUPPORTED}};
    int64_t began_ns = 0;
    if (!ASK(CALL_FIELDS, nvmlDeviceGetFieldValues, 4, f))
        return;
    if (f[0].rc == NVML_SUCCESS && f[0].value.u > 0) /* GB10 says 0 for ever */
        ret->memory_c = f[0].value.u;
    if (f[1].rc == NVML_SUCCESS && has_grown(&g->has_sw_thermal, &g->sw_thermal, f[1].value.ull))
        ret->is_throttled = true;
    if (f[2].rc == NVML_SUCCESS && has_grown(&g->has_hw_thermal, &g->hw_thermal, f[2].value.ull))
        ret->is_throttled = true;
    if (f[3].rc == NVML_SUCCESS && has_grown(&g->has_brake, &g->brake, f[3].value.ull))
        ret->is_limited = true;
}

/* Some drivers print nonsense: it counts only where it and the temperature together are where a GPU throttles. */
static double read_margin(struct sensors_nvml *n, struct gpu *g)
{
    struct nvml_margin m = {.version = NVML_VERSION(struct nvml_margin, 1)};
    int64_t began_ns = 0;
    if (!ASK(CALL_MARGIN, nvmlDeviceGetMarginTemperature, &m) || m.k < MARGIN_LEAST || m.k > MARGIN_MOST)
        return NAN;
    return g->c + m.k >= THROTTLE_LEAST_C && g->c + m.k <= THROTTLE_MOST_C ? m.k : NAN;
}

void sensors_nvml_read_figures(struct sensors_nvml *n, int gpu, struct sensors_nvml_figures *ret)
{
    struct gpu *g = &n->gpus[gpu];
    *ret = (struct sensors_nvml_figures){.memory_c = NAN, .margin_k = NAN, .power = NAN};
    read_power(n, g, ret);
    read_reasons(n, g, ret);
    read_fields(n, g, ret);
    ret->margin_k = read_margin(n, g);
}

/* ---- limits of the device's own ------------------------------------------------------------------------------------------------------------------- */

static double threshold(struct sensors_nvml *n, const struct gpu *g, int which)
{
    unsigned c = 0;
    if (!n->nvmlDeviceGetTemperatureThreshold || !n->is_up || !g->handle ||
        n->nvmlDeviceGetTemperatureThreshold(g->handle, which, &c) != NVML_SUCCESS)
        return NAN;
    return c >= TRIP_LEAST_C && c <= TRIP_MOST_C ? c : NAN;
}

double sensors_nvml_trip(struct sensors_nvml *n, int gpu)
{
    struct gpu *g = &n->gpus[gpu];
    /* from Ada on only the margin tells it */
    return fmin(fmin(threshold(n, g, NVML_THRESHOLD_SLOWDOWN), threshold(n, g, NVML_THRESHOLD_GPU_MOST)),
                g->c + read_margin(n, g));
}

double sensors_nvml_memory_trip(struct sensors_nvml *n, int gpu)
{
    return threshold(n, &n->gpus[gpu], NVML_THRESHOLD_MEMORY_MOST);
}
