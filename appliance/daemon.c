#include "appliance/daemon.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <unistd.h>

#include "appliance/boot.h"
#include "appliance/complaint.h"
#include "appliance/config.h"
#include "appliance/control.h"
#include "appliance/fleet.h"
#include "appliance/mqtt.h"
#include "appliance/notify.h"
#include "appliance/plan.h"
#include "appliance/report.h"
#include "appliance/thermal.h"
#include "appliance/version.h"
#include "appliance/worker.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/terminal.h"

#define TICK_NS       (250 * CLOCK_MS)
#define DRAIN_NS      (15 * CLOCK_S)  /* for the looks at work when Heron stops */
#define GRACE_NS      (3 * CLOCK_S)   /* behind the drain, for the engine to come back from its step */
#define STEP_MAX_NS   (300 * CLOCK_S) /* one step of the engine, or a stretch of loading: longer means that it hangs */
#define THREAD_MAX_NS (15 * CLOCK_S)  /* the same for the other threads */
#define OFFLINE_NS    (5 * CLOCK_S)   /* to hand the last words to the broker */
#define SENTENCE_NS   (10 * CLOCK_S)  /* between lines for `systemctl status` */
#define LOADING_NS    CLOCK_S         /* the same while the model is loaded, which has news */

/* Pipelines that would not stop hold threads and memory for good: after so many a new process is the better one. */
#define LEAKED_MAX 8

struct daemon {
    const char *config_path;
    struct config *started;   /* what the process started with: engine and broker run by it */
    struct config *config;    /* what is applied: the same, or a later one */
    struct config *leaving;   /* referred to until the fleet is settled */
    struct en_options engine; /* borrows from `started` */
    struct boot *boot;
    struct mqtt *mqtt;
    struct thermal *thermal;
    struct worker *worker;
    struct fleet *fleet;
    struct report *report;
    struct control *control;
    int signal_fd;
    bool is_ready;     /* systemd was told */
    bool wants_reload; /* as soon as the change before is settled */
    bool is_stopping;
    bool is_stuck;    /* a thread is; said once */
    int64_t leave_ns; /* is_stopping: when an engine that does not end is left behind */
    int exit_status;
    enum payload_state said_state;
    int64_t watchdog_ns, fed_ns, extended_ns, sentence_ns;
};

/* ---- configuration --------------------------------------------------------------------------------------------------------- */

/* Print what is wrong. Returns the exit status for it. */
static int complain(const struct complaints *complaints, const struct err *err)
{
    complaint_print(complaints, stderr, terminal_is_colourful(STDERR_FILENO));
    if (complaints->n_errors == 0 && err->code != 0)
        log_error("%s", err->text);
    return err->code == ERR_NOMEM ? EX_OSERR : EX_CONFIG;
}

/* Read the configuration and see that it fits into this machine. Returns 0 or an exit status. */
static int load_config(struct daemon *d)
{
    struct complaints complaints = {0};
    struct plan plan;
    struct err err = {0};
    int status = 0;
    int rc = config_load(d->config_path, &complaints, &d->started, &err);
    if (rc == 0)
        rc = plan_make(d->started, &complaints, &plan, &err);
    /* model files may come later, and the state says what is wrong with them; memory does not */
    const bool is_files = rc == ERR_INVAL && d->started;
    if (rc != 0 && !is_files)
        status = complain(&complaints, &err);
    else if (!is_files)
        complaint_print(&complaints, stderr, terminal_is_colourful(STDERR_FILENO));
    complaint_release(&complaints);
    if (status == 0) {
        plan_options(d->started, &d->engine);
        d->config = d->started;
        log_set_level((enum log_level)d->started->log_level);
    }
    return status;
}

/* The configuration before can go when neither the fleet nor the engine refers to it. */
static void forget_config(struct daemon *d)
{
    if (!d->leaving || !fleet_is_settled(d->fleet))
        return;
    if (d->leaving != d->started)
        config_free(d->leaving);
    d->leaving = NULL;
}

/* A configuration that cannot be applied changes nothing, and says so. Returns 0 or err's code. */
static int reload(struct daemon *d, struct err *err)
{
    if (d->is_stopping)
        return err_set(err, ERR_STATE, "Heron is stopping");
    forget_config(d); /* the next change leaves another one */
    if (!fleet_is_settled(d->fleet)) {
        d->wants_reload = true;
        return err_set(err, ERR_AGAIN, "the change before is still being applied; this one follows");
    }
    d->wants_reload = false;
    struct complaints complaints = {0};
    struct config *next = NULL;
    char keys[1250], shortage[600];
    if (d->is_ready)
        notify_reloading();
    const int rc = config_load(d->config_path, &complaints, &next, err);
    if (rc != 0) {
        const struct complaint *first = complaint_first(&complaints);
        const struct complaint other = {.message = err->text};
        complain(&complaints, err);
        log_error("reload refused, the configuration before goes on errors=%d", complaints.n_errors);
        if (first)
            err_set(err, rc, "%s:%d:%d: %s", first->file, first->line, first->col, first->message);
        report_set_config_error(d->report, first ? first : &other);
    } else {
        complaint_print(&complaints, stderr, terminal_is_colourful(STDERR_FILENO));
        config_restart_keys(d->started, next, keys, 600);
        plan_shortage(&d->engine, next, shortage, sizeof shortage);
        const size_t n = strlen(keys);
        snprintf(keys + n, sizeof keys - n, "%s%s", n && shortage[0] ? ", " : "", shortage);
        log_set_level((enum log_level)next->log_level);
        fleet_apply(d->fleet, next, NULL); /* it is settled */
        report_set_config(d->report, next, keys);
        d->leaving = d->config;
        d->config = next;
        log_notice("configuration loaded sha=%.12s cameras=%d%s%s", next->sha, next->n_cameras,
                   keys[0] ? " waiting for a restart: " : "", keys);
    }
    complaint_release(&complaints);
    if (d->is_ready)
        notify_ready();
    return rc;
}

static void reload_aloud(struct daemon *d)
{
    struct err err = {0};
    reload(d, &err); /* says itself what is wrong */
}

/* ---- commands ---------------------------------------------------------------------------------------------------------------- */

static void stop(struct daemon *d, int exit_status, const char *why)
{
    const int64_t now = clock_now_ns();
    if (d->is_stopping) { /* told twice: what is at work is given up */
        worker_stop(d->worker, 0);
        d->leave_ns = now + GRACE_NS < d->leave_ns ? now + GRACE_NS : d->leave_ns;
        return;
    }
    struct worker_stats engine;
    worker_get_stats(d->worker, &engine);
    const int64_t drain_ns = engine.state == WORKER_READY ? DRAIN_NS : 0; /* while it loads nothing is at work */
    log_notice("stopping because of %s", why);
    d->is_stopping = true;
    d->exit_status = exit_status;
    notify_stopping();
    worker_stop(d->worker, drain_ns);
    d->leave_ns = now + drain_ns + GRACE_NS;
    report_stopping(d->report);
}

static void take_signals(struct daemon *d)
{
    struct signalfd_siginfo info;
    while (read(d->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP)
            reload_aloud(d);
        else
            stop(d, EXIT_SUCCESS, info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM");
    }
}

/* P/<cam>/enabled/set and P/<cam>/analysis/set. */
static void switch_camera(struct daemon *d, const struct mqtt_command *command)
{
    char id[CONFIG_ID_MAX + 1], name[16];
    struct err err = {0};
    if (sscanf(command->topic, "%48[^/]/%15[^/]/set", id, name) != 2)
        return;
    const bool is_on = strcmp(command->payload, "ON") == 0;
    if (!is_on && strcmp(command->payload, "OFF") != 0) {
        log_warning("ignoring a switch that is neither ON nor OFF topic=%s", command->topic);
        return;
    }
    if (fleet_switch(d->fleet, id, name, is_on, &err) == ERR_NOT_FOUND)
        log_warning("ignoring a switch topic=%s: %s", command->topic, err.text);
    else
        log_notice("switched camera=%s %s=%s%s%s", id, name, is_on ? "on" : "off", err.code ? ", not remembered: " : "",
                   err.text);
}

static const char *const subscriptions[] = {"config/reload", "resync", "restart", "+/enabled/set", "+/analysis/set", NULL};

static void take_commands(struct daemon *d)
{
    struct mqtt_command command;
    while (mqtt_take_command(d->mqtt, &command) == 0) {
        if (strcmp(command.topic, "config/reload") == 0)
            reload_aloud(d);
        else if (strcmp(command.topic, "resync") == 0)
            mqtt_resync(d->mqtt);
        else if (strcmp(command.topic, "restart") == 0)
            stop(d, EX_TEMPFAIL, "a restart by MQTT");
        else
            switch_camera(d, &command);
    }
}

static char *answer(void *ctx, const char *command)
{
    struct daemon *d = ctx;
    struct err err = {0};
    if (strcmp(command, "status") == 0)
        return report_overview(d->report);
    if (strcmp(command, "reload") == 0)
        return payload_reply(reload(d, &err) == 0 ? NULL : err.text);
    return payload_reply("the commands are status and reload");
}

/* ---- the loop ----------------------------------------------------------------------------------------------------------------- */

static bool is_fresh(struct daemon *d, const char *thread, int64_t heartbeat_ns, int64_t most_ns, int64_t now)
{
    if (heartbeat_ns == INT64_MAX || now - heartbeat_ns <= most_ns)
        return true;
    if (!d->is_stuck)
        log_error("the %s thread has not moved for %lld s", thread, (long long)((now - heartbeat_ns) / CLOCK_S));
    d->is_stuck = true;
    return false;
}

static void feed_watchdog(struct daemon *d, const struct worker_stats *engine, int64_t now)
{
    struct mqtt_stats mqtt;
    mqtt_get_stats(d->mqtt, &mqtt);
    const bool is_alive = is_fresh(d, "MQTT", mqtt.heartbeat_ns, THREAD_MAX_NS, now) &&
                          is_fresh(d, "thermal", thermal_heartbeat_ns(d->thermal), THREAD_MAX_NS, now) &&
                          is_fresh(d, "camera", fleet_heartbeat_ns(d->fleet), THREAD_MAX_NS, now) &&
                          (d->is_stopping || is_fresh(d, "engine", engine->heartbeat_ns, STEP_MAX_NS, now));
    if (!is_alive)
        return;
    d->is_stuck = false;
    if (d->watchdog_ns > 0 && now - d->fed_ns >= d->watchdog_ns / 3) {
        notify_watchdog();
        d->fed_ns = now;
    }
}

static void tell_systemd(struct daemon *d, const struct worker_stats *engine, int64_t now)
{
    if (!d->is_ready && engine->state != WORKER_OPENING) {
        d->is_ready = true;
        notify_ready();
    } else if (!d->is_ready && now - d->extended_ns > 5 * CLOCK_S && now - engine->heartbeat_ns < STEP_MAX_NS) {
        d->extended_ns = now; /* loading gets on */
        notify_extend(60 * CLOCK_S);
    }
    const int64_t pause_ns = d->is_ready ? SENTENCE_NS : LOADING_NS;
    if (d->said_state != report_state(d->report) || now - d->sentence_ns > pause_ns) {
        char sentence[500];
        report_sentence(d->report, sentence, sizeof sentence);
        notify_status(sentence);
        d->said_state = report_state(d->report);
        d->sentence_ns = now;
    }
}

/* What was learned of the machine's heat is kept by the main thread, which owns the state folder. */
static void keep_thermal(struct daemon *d)
{
    struct err err = {0};
    char *memory = d->thermal ? thermal_take_memory(d->thermal) : NULL;
    if (memory && boot_text_write(d->boot, "thermal.json", memory, &err) != 0)
        log_warning("ignoring that what was learned of the machine's heat cannot be kept: %s", err.text);
    free(memory);
}

static void tick(struct daemon *d)
{
    struct worker_stats engine;
    const int64_t now = clock_now_ns();
    worker_get_stats(d->worker, &engine);
    if (!d->is_stopping) {
        fleet_step(d->fleet);
        forget_config(d);
        if (d->wants_reload && fleet_is_settled(d->fleet))
            reload_aloud(d);
        report_tick(d->report, now);
        if (pl_leaked_pipelines() >= LEAKED_MAX)
            stop(d, EX_TEMPFAIL, "camera pipelines that would not stop");
        if (engine.needs_restart)
            stop(d, EX_TEMPFAIL, "a device that failed and does not open again in this process");
        struct thermal_stats heat;
        thermal_get(d->thermal, &heat);
        if (heat.has_come)
            stop(d, EX_TEMPFAIL, "a sensor that was missing at the start and has come");
    }
    keep_thermal(d);
    feed_watchdog(d, &engine, now);
    tell_systemd(d, &engine, now);
}

static void run_loop(struct daemon *d)
{
    int64_t next = clock_now_ns();
    while (!d->is_stopping || (!worker_is_done(d->worker) && clock_now_ns() < d->leave_ns)) {
        struct pollfd fds[] = {
            {.fd = d->signal_fd, .events = POLLIN},
            {.fd = control_fd(d->control), .events = POLLIN},
            {.fd = mqtt_command_fd(d->mqtt), .events = d->is_stopping ? 0 : POLLIN},
        };
        int64_t now = clock_now_ns();
        int64_t until = next < control_next_ns(d->control) ? next : control_next_ns(d->control);
        poll(fds, sizeof fds / sizeof *fds, until > now ? (int)((until - now + CLOCK_MS - 1) / CLOCK_MS) : 0);
        take_signals(d);
        control_step(d->control);
        if (!d->is_stopping)
            take_commands(d);
        if ((now = clock_now_ns()) >= next) {
            tick(d);
            next = now + TICK_NS;
        }
    }
}

/* ---- life ---------------------------------------------------------------------------------------------------------------------- */

static void on_scene(void *ctx, const char *camera, const char *json, size_t n_bytes)
{
    const struct daemon *d = ctx;
    report_scene(d->report, camera, json, n_bytes);
}

static int block_signals(struct daemon *d, struct err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE); /* blocked for good: a broken connection is an error, not an end */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    d->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return d->signal_fd >= 0 ? 0 : err_set_errno(err, ERR_IO, "no descriptor for signals");
}

static int open_mqtt(struct daemon *d, struct err *err)
{
    const struct config *c = d->started;
    const struct mqtt_options options = {
        .host = c->mqtt.host,
        .port = (int)c->mqtt.port,
        .prefix = c->mqtt.topic_prefix,
        .client_id = c->mqtt.client_id,
        .username = c->mqtt.username,
        .password = c->mqtt.password,
        .keepalive_ns = c->mqtt.keepalive_ns,
        .tls_ca = c->mqtt.tls_ca,
        .tls_cert = c->mqtt.tls_cert,
        .tls_key = c->mqtt.tls_key,
        .subscriptions = subscriptions,
        .is_held = true,
    };
    return mqtt_open(&options, &d->mqtt, err);
}

static int open_thermal(struct daemon *d, struct err *err)
{
    char ring[PATH_MAX], found[600], work[PATH_MAX + 64];
    char *memory = boot_text_read(d->boot, "thermal.json");
    struct thermal_options options;
    thermal_plan(d->started, d->engine.device, &options);
    options.batch_max = d->engine.batch;
    options.memory = memory;
    snprintf(work, sizeof work, "%s %s", d->engine.device, d->engine.model_path ? d->engine.model_path : d->engine.synthetic);
    options.model = work;
    if (boot_path(d->boot)[0] && snprintf(ring, sizeof ring, "%s/thermal.log", boot_path(d->boot)) < (int)sizeof ring)
        options.ring = ring;
    const int rc = thermal_open(&options, &d->thermal, err);
    free(memory);
    if (rc == 0) {
        thermal_describe(d->thermal, found, sizeof found);
        log_notice("thermal %s", options.has_sensors ? found : "sensors: none: the box works without a temperature limit");
    }
    return rc;
}

static int open_all(struct daemon *d, const struct daemon_options *options, struct err *err)
{
    int rc;
    if ((rc = control_open(options->socket_path, answer, d, &d->control, err)) != 0 ||
        (rc = boot_open(options->state_path, &d->boot, err)) != 0)
        return rc;
    if (!boot_count(d->boot))
        log_warning("ignoring that starts and switches cannot be kept: %s", boot_why(d->boot));
    if ((rc = open_mqtt(d, err)) != 0)
        return rc;
    if ((rc = open_thermal(d, err)) != 0)
        return rc;
    const struct worker_options worker = {.engine = d->engine, .on_scene = on_scene, .ctx = d, .thermal = d->thermal};
    if ((rc = worker_open(&worker, &d->worker, err)) != 0 || (rc = fleet_open(d->worker, d->boot, &d->fleet, err)) != 0)
        return rc;
    const struct report_options report = {
        .mqtt = d->mqtt,
        .worker = d->worker,
        .fleet = d->fleet,
        .boot = d->boot,
        .thermal = d->thermal,
    };
    if ((rc = report_open(&report, &d->report, err)) != 0)
        return rc;
    report_set_config(d->report, d->config, NULL);
    if ((rc = fleet_apply(d->fleet, d->config, err)) != 0)
        return rc;
    report_tick(d->report, clock_now_ns());
    mqtt_begin(d->mqtt);
    return 0;
}

/* The engine hangs, in a kernel or in a read of the disk that does not return: the last words to the broker, and out. */
static void leave_engine(struct daemon *d) __attribute__((noreturn));
static void leave_engine(struct daemon *d)
{
    log_warning("the engine does not come back from its work: ending without it");
    worker_abandon(d->worker);
    thermal_stop(d->thermal);
    keep_thermal(d);
    mqtt_close(d->mqtt, OFFLINE_NS);
    control_close(d->control);
    fflush(NULL);
    _exit(d->exit_status);
}

/* The one way out, from any point of open_all. */
static void close_all(struct daemon *d)
{
    if (d->worker && !worker_is_done(d->worker))
        worker_stop(d->worker, 0);
    worker_close(d->worker);
    thermal_stop(d->thermal);
    keep_thermal(d);
    thermal_close(d->thermal);
    mqtt_close(d->mqtt, OFFLINE_NS);
    fleet_close(d->fleet);
    control_close(d->control);
    report_close(d->report);
    boot_close(d->boot);
    if (d->signal_fd >= 0)
        close(d->signal_fd);
    if (d->leaving != d->started)
        config_free(d->leaving);
    if (d->config != d->started)
        config_free(d->config);
    config_free(d->started);
}

int daemon_run(const struct daemon_options *options)
{
    struct daemon d = {.config_path = options->config_path, .signal_fd = -1, .said_state = PAYLOAD_STOPPING};
    struct err err = {0};
    int status;
    if (block_signals(&d, &err) != 0) {
        log_error("cannot start: %s", err.text);
        return EX_OSERR;
    }
    if ((status = load_config(&d)) != 0) {
        close(d.signal_fd);
        config_free(d.started);
        return status;
    }
    log_notice("heron %s starting config=%s sha=%.12s cameras=%d", heron_version, d.config->path, d.config->sha,
               d.config->n_cameras);
    d.watchdog_ns = notify_watchdog_interval_ns();
    const int rc = open_all(&d, options, &err);
    if (rc == 0) {
        run_loop(&d);
        if (!worker_is_done(d.worker))
            leave_engine(&d);
        status = d.exit_status;
    } else {
        log_error("cannot start: %s", err.text);
        status = rc == ERR_STATE ? EX_UNAVAILABLE : rc == ERR_INVAL ? EX_CONFIG : EX_OSERR;
    }
    close_all(&d);
    if (rc == 0)
        log_notice("stopped");
    return status;
}
