#include "appliance/notify.h"

#include <systemd/sd-daemon.h>

#include "base/clock.h"

void notify_ready(void)
{
    sd_notify(0, "READY=1");
}

void notify_stopping(void)
{
    sd_notify(0, "STOPPING=1");
}

void notify_reloading(void)
{
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)(clock_now_ns() / CLOCK_US));
}

void notify_status(const char *line)
{
    sd_notifyf(0, "STATUS=%s", line);
}

void notify_watchdog(void)
{
    sd_notify(0, "WATCHDOG=1");
}

void notify_extend(int64_t more_ns)
{
    sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%lld", (long long)(more_ns / CLOCK_US));
}

int64_t notify_watchdog_interval_ns(void)
{
    uint64_t usec = 0;
    return sd_watchdog_enabled(0, &usec) > 0 ? (int64_t)usec * CLOCK_US : 0;
}
