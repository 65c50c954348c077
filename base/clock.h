/*
 * clock - time inside Heron: int64_t nanoseconds, monotonic.
 *
 * Everything that decides by time (gate, rules, scheduler, governor, back-off) asks clock_now_ns(), so that a
 * test can install a clock of its own and run hours without sleeping. Wall-clock time exists only at the edge:
 * a frame's or a message's UNIX time is derived from its monotonic time by clock_wall_ns_of().
 *
 * Threads: all functions may be called from any thread; clock_install only while no other thread runs.
 */
#ifndef HERON_BASE_CLOCK_H
#define HERON_BASE_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define CLOCK_US INT64_C(1000)
#define CLOCK_MS INT64_C(1000000)
#define CLOCK_S  INT64_C(1000000000)

/* A replacement clock: returns monotonic and wall-clock nanoseconds. */
struct clock_source {
    int64_t (*now_ns)(void *ctx);
    int64_t (*wall_ns)(void *ctx);
    void *ctx;
};

/* Monotonic nanoseconds since an arbitrary start; never goes back. */
int64_t clock_now_ns(void);

/* Nanoseconds since the UNIX epoch. */
int64_t clock_wall_ns(void);

/* UNIX time, in nanoseconds, of a monotonic instant, by today's difference of the two clocks. */
int64_t clock_wall_ns_of(int64_t mono_ns);

/* Sleep until a monotonic instant; returns early only when it has passed. Never uses an installed clock. */
void clock_sleep_until_ns(int64_t mono_ns);

/* The system's monotonic nanoseconds, also where a clock is installed: for waits, which nobody can pretend. */
int64_t clock_system_ns(void);

/* The system's nanoseconds that go on while the machine sleeps, unlike all the others. */
int64_t clock_awake_and_asleep_ns(void);

/* A condition variable whose waits end by the system's monotonic clock. */
void clock_cond_init(pthread_cond_t *cond);

/* Wait for a change, under the lock; a wake-up without one is possible. false: this monotonic instant of the system has passed. */
bool clock_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t system_ns);

/* Install a clock for tests; NULL brings back the system's. The struct is copied. */
void clock_install(const struct clock_source *source);

#endif
