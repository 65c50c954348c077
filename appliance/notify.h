/*
 * notify - what Heron tells systemd about itself: ready, reloading, stopping, alive. The only file that knows libsystemd.
 *
 * Without NOTIFY_SOCKET in the environment every function does nothing. Source: sd_notify(3), sd_watchdog_enabled(3).
 *
 * Threads: any; no state. Memory: none.
 */
#ifndef HERON_APPLIANCE_NOTIFY_H
#define HERON_APPLIANCE_NOTIFY_H

#include <stdint.h>

void notify_ready(void);
void notify_stopping(void);

/* A reload begins now; notify_ready ends it. */
void notify_reloading(void);

/* One line for `systemctl status`. */
void notify_status(const char *line);

/* Still alive. */
void notify_watchdog(void);

/* Starting or stopping takes this much longer, counted from now. */
void notify_extend(int64_t more_ns);

/* How often systemd wants to hear notify_watchdog from this process; 0: it does not watch. */
int64_t notify_watchdog_interval_ns(void);

#endif
