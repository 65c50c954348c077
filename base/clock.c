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

int64_t clock_now_ns(void)
{
    return installed.now_ns ? installed.now_ns(installed.ctx) : read_clock(CLOCK_MONOTONIC);
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
    const struct timespec ts = {.tv_sec = mono_ns / CLOCK_S, .tv_nsec = mono_ns % CLOCK_S};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        ;
}

void clock_install(const struct clock_source *source)
{
    installed = source ? *source : (struct clock_source){0};
}
