#include "appliance/fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "appliance/secret.h"
#include "base/clock.h"
#include "base/log.h"

#define OPEN_RETRY_NS (10 * CLOCK_S)
#define FPS_MIN       5.0 /* a look takes a frame that is at most this fresh: 1/5 s */
#define FPS_MAX       30.0

struct fleet {
    struct worker *worker;
    struct boot *boot;
    struct fleet_camera cameras[CONFIG_CAMERAS_MAX];
    int n;
    struct pl_camera *leaving[2 * CONFIG_CAMERAS_MAX]; /* to be closed once the worker has let them go */
    int n_leaving;
    bool is_dirty; /* the worker's watches are to be set again */
};

int fleet_open(struct worker *worker, struct boot *boot, struct fleet **ret_fleet, struct err *err)
{
    struct fleet *f = calloc(1, sizeof *f);
    if (!f)
        return err_set(err, ERR_NOMEM, "out of memory: the cameras");
    f->worker = worker;
    f->boot = boot;
    *ret_fleet = f;
    return 0;
}

/* ---- switches -------------------------------------------------------------------------------------------------------------- */

static void read_switches(struct fleet *f, struct fleet_camera *c)
{
    c->is_enabled = c->config->is_enabled && boot_switch_get(f->boot, c->config->id, "enabled", true);
    c->wants_analysis = boot_switch_get(f->boot, c->config->id, "analysis", true);
    c->is_analysing = c->is_enabled && c->wants_analysis;
}

/* ---- opening ----------------------------------------------------------------------------------------------------------------- */

/* Frames come often enough for a fresh one at every look, and no oftener: each costs a conversion. */
static double wanted_fps(const struct config_camera *config)
{
    const double looks = 2e9 / (double)config->every_ns;
    return looks < FPS_MIN ? FPS_MIN : looks > FPS_MAX ? FPS_MAX : looks;
}

static void open_camera(struct fleet *f, struct fleet_camera *c)
{
    struct err err = {0};
    char password[SECRET_MAX_BYTES + 1] = "", what[CONFIG_ID_MAX + 32];
    snprintf(what, sizeof what, "cameras.%s.password", c->config->id);
    int rc = secret_read(&c->config->password, what, password, &err);
    if (rc == 0) {
        const struct pl_camera_config config = {
            .id = c->config->id,
            .source = c->config->source,
            .user = c->config->username,
            .password = c->config->username ? password : NULL,
            .max_fps = wanted_fps(c->config),
            .event_fd = worker_frames_fd(f->worker),
            .is_udp = c->config->transport == CONFIG_UDP,
            .is_disabled = !c->is_enabled,
        };
        rc = pl_camera_open(&config, &c->camera, &err);
    }
    secret_wipe(password, sizeof password);
    c->next_open_ns = clock_now_ns() + OPEN_RETRY_NS;
    if (rc == 0) {
        c->error[0] = 0;
        f->is_dirty = true;
        return;
    }
    c->camera = NULL;
    if (strncmp(c->error, err.text, sizeof c->error - 1) != 0)
        log_error("camera cannot be opened camera=%s: %s retry_s=%.0f", c->config->id, err.text, OPEN_RETRY_NS / 1e9);
    snprintf(c->error, sizeof c->error, "%.*s", (int)sizeof c->error - 1, err.text);
}

static int set_watches(struct fleet *f, struct err *err)
{
    struct worker_watch watches[CONFIG_CAMERAS_MAX];
    int n = 0;
    for (int i = 0; i < f->n; i++)
        if (f->cameras[i].camera)
            watches[n++] = (struct worker_watch){f->cameras[i].config, f->cameras[i].camera, f->cameras[i].is_analysing};
    const int rc = worker_set_watches(f->worker, watches, n, err);
    if (rc == 0)
        f->is_dirty = false;
    return rc;
}

static struct fleet_camera *find_camera(struct fleet *f, const char *id)
{
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->cameras[i].config->id, id) == 0)
            return &f->cameras[i];
    return NULL;
}

int fleet_apply(struct fleet *f, const struct config *config, struct err *err)
{
    if (!fleet_is_settled(f))
        return err_set(err, ERR_AGAIN, "the cameras are still being changed");
    struct fleet_camera next[CONFIG_CAMERAS_MAX] = {0};
    bool is_kept[CONFIG_CAMERAS_MAX] = {false};
    int n = 0;
    for (int i = 0; i < config->n_cameras && n < CONFIG_CAMERAS_MAX; i++) {
        const struct config_camera *cc = config->cameras[i];
        struct fleet_camera *before = find_camera(f, cc->id), *c = &next[n++];
        *c = (struct fleet_camera){.config = cc};
        if (before && before->camera && !config_camera_source_differs(before->config, cc)) {
            c->camera = before->camera;
            is_kept[before - f->cameras] = true;
        }
        read_switches(f, c);
    }
    for (int i = 0; i < f->n; i++)
        if (f->cameras[i].camera && !is_kept[i])
            f->leaving[f->n_leaving++] = f->cameras[i].camera;
    memcpy(f->cameras, next, (size_t)n * sizeof *next);
    f->n = n;
    f->is_dirty = true;
    for (int i = 0; i < n; i++) {
        struct fleet_camera *c = &f->cameras[i];
        if (c->camera)
            pl_camera_set_enabled(c->camera, c->is_enabled);
        else if (f->n_leaving == 0)
            open_camera(f, c);
    }
    set_watches(f, NULL); /* out of memory: it stays dirty, and fleet_step tries again */
    return 0;
}

void fleet_step(struct fleet *f)
{
    if (!worker_is_settled(f->worker))
        return;
    if (f->is_dirty) {
        set_watches(f, NULL);
        return;
    }
    if (f->n_leaving > 0) { /* one at a tick: a pipeline that hangs takes some seconds to give up */
        pl_camera_close(f->leaving[--f->n_leaving]);
        return;
    }
    const int64_t now = clock_now_ns();
    for (int i = 0; i < f->n; i++)
        if (!f->cameras[i].camera && now >= f->cameras[i].next_open_ns)
            open_camera(f, &f->cameras[i]);
}

bool fleet_is_settled(const struct fleet *f)
{
    return worker_is_settled(f->worker) && !f->is_dirty && f->n_leaving == 0;
}

/* ---- the rest ------------------------------------------------------------------------------------------------------------------ */

int fleet_count(const struct fleet *f)
{
    return f->n;
}

const struct fleet_camera *fleet_get(const struct fleet *f, int i)
{
    return &f->cameras[i];
}

int fleet_switch(struct fleet *f, const char *id, const char *name, bool is_on, struct err *err)
{
    struct fleet_camera *c = find_camera(f, id);
    if (!c)
        return err_set(err, ERR_NOT_FOUND, "no camera is called %s", id);
    const int rc = boot_switch_set(f->boot, id, name, is_on, err);
    read_switches(f, c);
    if (c->camera)
        pl_camera_set_enabled(c->camera, c->is_enabled);
    f->is_dirty = true;
    return rc;
}

void fleet_get_stats(const struct fleet *f, int i, struct pl_camera_stats *ret_stats)
{
    const struct fleet_camera *c = &f->cameras[i];
    if (c->camera) {
        pl_camera_get_stats(c->camera, ret_stats);
        return;
    }
    *ret_stats =
        (struct pl_camera_stats){.state = c->is_enabled ? PL_CAMERA_RESTARTING : PL_CAMERA_DISABLED, .last_frame_age_ns = -1};
    snprintf(ret_stats->last_error, sizeof ret_stats->last_error, "%s", c->error);
}

int64_t fleet_heartbeat_ns(const struct fleet *f)
{
    int64_t oldest = INT64_MAX;
    for (int i = 0; i < f->n; i++)
        if (f->cameras[i].camera) {
            struct pl_camera_stats stats;
            pl_camera_get_stats(f->cameras[i].camera, &stats);
            if (stats.heartbeat_ns < oldest)
                oldest = stats.heartbeat_ns;
        }
    return oldest;
}

void fleet_close(struct fleet *f)
{
    if (!f)
        return;
    while (f->n_leaving > 0)
        pl_camera_close(f->leaving[--f->n_leaving]);
    for (int i = 0; i < f->n; i++)
        pl_camera_close(f->cameras[i].camera);
    free(f);
}
