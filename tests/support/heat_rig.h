/*
 * heat_rig - machines for the tests of sensors: folders that look like sysfs, and the library that stands for NVML (fake_nvml.c).
 *
 * Sources are read every 20 ms. Nothing asserts how long something takes: HEAT_WAIT ends as soon as it is so.
 */
#ifndef HERON_TESTS_SUPPORT_HEAT_RIG_H
#define HERON_TESTS_SUPPORT_HEAT_RIG_H

#include "appliance/sensors.h"
#include "base/clock.h"
#include "tests/support/test.h"

#define HEAT_PATIENCE_NS (30 * CLOCK_S)
#define HEAT_NO_NVML     "/nonexistent/libnvidia-ml.so.1"

extern char heat_library[]; /* the one that stands for NVML */

/* A group's set-up: finds the library beside the program. */
int heat_set_up(void **state);

/* What the library is to answer from now on, and how often a function of it was called. */
void heat_say(const char *lines);
unsigned heat_calls(const char *function);

/* A new, empty sysfs. In it "zone3", "hwmon3" and "rapl3" stand for where the kernel keeps them. */
const char *heat_tree(void);

/* Lay out folders, each file whole or not at all: a line each, FOLDER FILE=CONTENT ... LINK@TARGET; a '+' stands for a space. */
void heat_lay(const char *tree, const char *format, ...) __attribute__((format(printf, 2, 3)));
void heat_put(const char *tree, const char *name, const char *text);
void heat_link(const char *tree, const char *name, const char *target);
void heat_move(const char *tree, const char *from, const char *to);

/* Whoever reads this file from now on hangs, as in a driver, until it is put anew and the old reader is let go. */
void heat_hang(const char *tree, const char *name);
void heat_let_go(const char *tree, const char *name, const char *text);

/* Open; what is not set is short, or not there. Fails the test on an error. */
struct sensors *heat_open(struct sensors_options options);
struct sensors *heat_open_tree(const char *tree, bool is_gpu);
struct sensors *heat_open_nvml(void);

/* The number of a place; -1: there is none. */
int heat_place(const struct sensors *sensors, const char *name);

/* All names in their order, those that govern with a '!'. Static text. */
const char *heat_names(const struct sensors *sensors);

/* Of the place of this name, which must be there. */
double heat_limit(const struct sensors *sensors, const char *name);
double heat_c(const struct sensors *sensors, const struct sensors_reading *reading, const char *name);

bool heat_is(double a, double b);

/* Read, again and again, until this is so. */
#define HEAT_WAIT(sensors, reading, condition)                                                                                 \
    do {                                                                                                                       \
        const int64_t heat_until_ns = clock_now_ns() + HEAT_PATIENCE_NS;                                                       \
        for (;;) {                                                                                                             \
            sensors_read((sensors), clock_awake_and_asleep_ns(), &(reading));                                                  \
            if (condition)                                                                                                     \
                break;                                                                                                         \
            if (clock_now_ns() > heat_until_ns)                                                                                \
                fail_msg("%s:%d: never came: %s", __FILE__, __LINE__, #condition);                                             \
            clock_sleep_until_ns(clock_now_ns() + 3 * CLOCK_MS);                                                               \
        }                                                                                                                      \
    } while (0)

#endif
