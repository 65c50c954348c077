#include "base/clock.h"

#include <errno.h>
#include <time.h>

static struct clock_source installed;

static int64_t read_clock(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * CLOCK_S + ts.tv_nsec;
}

static struct timespec to_timespec(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / CLOCK_S, .tv_nsec = ns % CLOCK_S};
}

int64_t clock_system_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

int64_t clock_awake_and_asleep_ns(void)
{
    return read_clock(CLOCK_BOOTTIME);
}

int64_t clock_now_ns(void)
{
    return installed.now_ns ? installed.now_ns(installed.ctx) : clock_system_ns();
}

int64_t clock_wall_ns(void)
{
    return installed.wall_ns ? installed.wall_ns(installed.ctx) : read_clock(CLOCK_REALTIME);
}

int64_t clock_wall_ns_of(int64_t mono_ns)
{
    return clock_wall_ns() - (clock_now_ns() - mono_ns);
}

void clock_sleep_until_ns(int64_t mono_ns)
{
    const struct timespec ts = to_timespec(mono_ns);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        ;
}

void clock_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

bool clock_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t system_ns)
{
    const struct timespec ts = to_timespec(system_ns);
    return pthread_cond_timedwait(cond, lock, &ts) == 0;
}

void clock_install(const struct clock_source *source)
{
    installed = source ? *source : (struct clock_source){0};
}
