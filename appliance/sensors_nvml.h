/*
 * sensors_nvml - what NVIDIA's management library says about its GPUs, opened at run time: nothing of it is needed to build Heron, and a machine without it simply has no such GPU.
 *
 * Drivers differ in what they answer. Only nvmlInit_v2, nvmlDeviceGetHandleByIndex_v2 and a temperature must be there. What is not supported is not asked for again before the
 * next start of the library; what says that the driver or the GPU is gone (reload, fallen off the bus) shuts the library down, and it is started again after 1, 2, 4 ... 30
 * times the back-off. A GPU comes back under its number, by its UUID.
 *
 * Life cycle: sensors_nvml_open -> every period: sensors_nvml_begin, then the readings -> sensors_nvml_close.
 * Threads: one owner; every call may hang as long as the driver does. Memory: one struct, and what the library takes.
 */
#ifndef HERON_APPLIANCE_SENSORS_NVML_H
#define HERON_APPLIANCE_SENSORS_NVML_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define SENSORS_NVML_GPUS 8

/* Besides the temperature. NAN: not said. */
struct sensors_nvml_figures {
    double memory_c;
    double margin_k;   /* to where the GPU throttles itself; below 0: it does */
    bool is_energy;    /* power: joules since the driver was loaded; otherwise watts at this instant */
    double power;      /* NAN: neither, this time */
    bool has_power;    /* false: it does not tell its power at all */
    bool is_throttled; /* because of heat, now or since the last call */
    bool is_limited;   /* by something else that is not a set limit: power brake */
};

struct sensors_nvml;

/* timeout_ns: a call that takes longer than this time and again is no longer made. Errors: ERR_NOT_FOUND (no such library), ERR_UNSUPPORTED (it lacks what must be there), ERR_NOMEM. */
int sensors_nvml_open(const char *library, int64_t backoff_ns, int64_t timeout_ns, struct sensors_nvml **ret_nvml,
                      struct err *err);
void sensors_nvml_close(struct sensors_nvml *nvml); /* takes NULL */

/* Start the library if it does not run and it is time to. Returns whether there is something to read; if not, err says why. */
bool sensors_nvml_begin(struct sensors_nvml *nvml, int64_t now_ns, struct err *err);

/* GPUs of the first start that succeeded; fixed from then on. */
int sensors_nvml_count(const struct sensors_nvml *nvml);

/* NVML's number of it at that start: one before it may have been out of reach. */
int sensors_nvml_number(const struct sensors_nvml *nvml, int gpu);

/* It was there, and is not: the driver is loaded anew, or the GPU fell off the bus. After sensors_nvml_begin. */
bool sensors_nvml_is_gone(const struct sensors_nvml *nvml, int gpu);

/* The lowest temperature at which the GPU, or its memory, slows itself down; NAN: it does not say. */
double sensors_nvml_trip(struct sensors_nvml *nvml, int gpu);
double sensors_nvml_memory_trip(struct sensors_nvml *nvml, int gpu);

/* Degrees; NAN: none this time. has_any: false where this GPU does not tell its temperature at all; may be NULL. */
double sensors_nvml_read(struct sensors_nvml *nvml, int gpu, bool *ret_has_any);

/* The rest, after the temperature. */
void sensors_nvml_read_figures(struct sensors_nvml *nvml, int gpu, struct sensors_nvml_figures *ret);

#endif
