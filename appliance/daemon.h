/*
 * daemon - the life of Heron: start, ready, reload, drain, stop, with one way out.
 *
 *   start    configuration, single instance, boot count, MQTT, engine thread, cameras, in this order; none of them waits for another
 *   ready    told to systemd when the engine answers, or when it is known why it does not: then the state is `degraded` and says so
 *   reload   SIGHUP or P/config/reload: what is wrong changes nothing and is published; what waits for a restart is named
 *   stop     SIGTERM, SIGINT: no new looks, those at work are finished (a second signal does not wait), `offline`, end. An engine that
 *            does not come back from loading or from a step in time is left behind: the process ends without it
 *
 * The watchdog is fed only while every thread's heartbeat is fresh.
 *
 * Threads: the calling thread becomes the main thread; signals are blocked in all. Memory: everything is freed before it returns.
 */
#ifndef HERON_APPLIANCE_DAEMON_H
#define HERON_APPLIANCE_DAEMON_H

#include "base/err.h"

struct daemon_options {
    const char *config_path; /* NULL: /etc/heron/heron.yaml */
    const char *socket_path; /* control socket; NULL: in the runtime directory */
    const char *state_path;  /* folder for what survives a restart; NULL: the state directory */
};

/* Runs until it is told to stop. Returns an exit status of sysexits(3): 0 after a signal, EX_CONFIG (78) for a configuration that
 * cannot run, EX_UNAVAILABLE (69) where it runs already. What is wrong went to standard error. */
int daemon_run(const struct daemon_options *options);

#endif
