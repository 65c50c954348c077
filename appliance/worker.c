#include "appliance/worker.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "appliance/thermal.h"
#include "appliance/watch.h"
#include "base/clock.h"
#include "base/log.h"

#define RETRY_MIN_NS (5 * CLOCK_S)
#define RETRY_MAX_NS (60 * CLOCK_S)
#define ROUND_MS     500 /* longest sleep: heartbeats are fresher than a second while nothing happens */
#define PERMIT_NS    (5 * CLOCK_S)
#define PAUSE_NS     (100 * CLOCK_MS) /* before it is asked again whether the box has cooled */

/* One watched camera, as the engine thread sees it. */
struct post {
    const struct config_camera *config;
    struct pl_camera *camera;
    bool is_on;
    char id[CONFIG_ID_MAX + 1];
    char *system; /* the watch's prompt and what form the answer has */
    struct watch watch;
    uint64_t job; /* 0: none */
    uint64_t frame_seq;
    int64_t capture_ns, capture_wall_ns;
    char truth[PL_TRUTH_BYTES]; /* of the frame that is looked at; "": it has none */
};

struct roster {
    struct post posts[CONFIG_CAMERAS_MAX];
    int n;
};

struct worker {
    /* immutable after open */
    struct worker_options options;
    char *model_path, *vision_path, *synthetic, *device_name;
    int inbox_fd, frames_fd;
    pthread_t thread;
    bool has_thread;
    /* engine thread only */
    struct en_engine *engine;
    int64_t retry_ns, next_open_ns;
    bool has_lost_device; /* it failed under an engine, and none was opened on it since */
    bool is_step_told;    /* the governor knows of the pass at work */
    /* under lock */
    pthread_mutex_t lock;
    struct roster *next;    /* waits to be taken over */
    struct roster *present; /* the engine thread's; others read it under the lock, it writes its counters under it */
    struct worker_stats stats;
    bool is_telling, is_abandoned; /* on_scene runs; is not called any more */
    int64_t stop_ns;               /* when to give up what runs; 0: not stopping */
    bool is_done;
};

static void roster_free(struct roster *roster)
{
    if (!roster)
        return;
    for (int i = 0; i < roster->n; i++)
        free(roster->posts[i].system);
    free(roster);
}

/* ---- engine ---------------------------------------------------------------------------------------------------------------- */

static void beat(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->stats.heartbeat_ns = clock_now_ns();
    pthread_mutex_unlock(&w->lock);
}

static bool on_progress(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    struct worker *w = ctx;
    pthread_mutex_lock(&w->lock);
    w->stats.done_bytes = done_bytes;
    w->stats.all_bytes = all_bytes;
    w->stats.heartbeat_ns = clock_now_ns();
    const bool goes_on = !w->stop_ns;
    pthread_mutex_unlock(&w->lock);
    return goes_on;
}

static void engine_failed(struct worker *w, const struct err *err)
{
    const int64_t min = w->options.retry_min_ns > 0 ? w->options.retry_min_ns : RETRY_MIN_NS;
    const int64_t max = w->options.retry_max_ns > 0 ? w->options.retry_max_ns : RETRY_MAX_NS;
    w->retry_ns = w->retry_ns ? 2 * w->retry_ns : min;
    if (w->retry_ns > max)
        w->retry_ns = max;
    w->next_open_ns = clock_now_ns() + w->retry_ns;
    pthread_mutex_lock(&w->lock);
    w->stats.state = WORKER_FAILED;
    w->stats.retry_ns = w->next_open_ns;
    snprintf(w->stats.error, sizeof w->stats.error, "%s", err->text);
    pthread_mutex_unlock(&w->lock);
    log_error("engine not running: %s retry_s=%.0f", err->text, (double)w->retry_ns / 1e9);
}

/* Where the figures come from that the device goes by. A CPU's standards were measured, a GPU's are guesses. */
static void tell_tuning(const struct en_info *info)
{
    if (strcmp(info->tuned, "standard") == 0 && strncmp(info->device, "cuda", 4) == 0)
        log_notice(
            "no tuning table for this device: it goes by standards that were measured on none, what that costs nobody knows; "
            "`heron tune` measures one, while the service is stopped");
    else if (*info->tuned && strcmp(info->tuned, "standard") != 0)
        log_notice("tuning: %s", info->tuned);
}

static void engine_open(struct worker *w)
{
    struct err err = {0};
    pthread_mutex_lock(&w->lock);
    w->stats.state = WORKER_OPENING;
    w->stats.done_bytes = w->stats.all_bytes = 0;
    w->stats.heartbeat_ns = clock_now_ns();
    pthread_mutex_unlock(&w->lock);
    const int rc = en_open(&w->options.engine, &w->engine, &err);
    if (rc != 0) {
        w->engine = NULL;
        if (rc == ERR_CANCELLED) /* told to stop meanwhile */
            return;
        pthread_mutex_lock(&w->lock);
        w->stats.needs_restart = w->has_lost_device && rc == ERR_DEVICE;
        pthread_mutex_unlock(&w->lock);
        engine_failed(w, &err);
        return;
    }
    w->retry_ns = 0;
    w->has_lost_device = false;
    struct en_info info;
    en_get_info(w->engine, &info);
    pthread_mutex_lock(&w->lock);
    struct worker_stats *s = &w->stats;
    s->state = WORKER_READY;
    s->error[0] = 0;
    snprintf(s->model, sizeof s->model, "%s", info.name);
    snprintf(s->device, sizeof s->device, "%s", info.device);
    snprintf(s->fingerprint, sizeof s->fingerprint, "%s", info.fingerprint);
    s->is_untrained = info.is_untrained;
    s->heartbeat_ns = clock_now_ns();
    for (int i = 0; w->present && i < w->present->n; i++) { /* what was due while there was no engine was not shed by load */
        struct watch *watch = &w->present->posts[i].watch;
        watch_retime(watch, watch->every_ns, watch->deadline_ns, clock_now_ns());
    }
    pthread_mutex_unlock(&w->lock);
    log_notice("engine ready model=%s device=\"%s\" load_s=%.1f%s", info.name, info.device, (double)info.load_ns / 1e9,
               info.is_untrained ? " (untrained: its answers mean nothing)" : "");
    tell_tuning(&info);
}

/* The device failed: nothing of the engine can be used any more. */
static void engine_lost(struct worker *w, const struct err *err)
{
    pthread_mutex_lock(&w->lock);
    for (int i = 0; w->present && i < w->present->n; i++)
        if (w->present->posts[i].job) {
            w->present->posts[i].job = 0;
            watch_fail(&w->present->posts[i].watch, err->text);
        }
    pthread_mutex_unlock(&w->lock);
    en_close(w->engine);
    w->engine = NULL;
    w->has_lost_device = err->code == ERR_DEVICE;
    engine_failed(w, err);
}

/* ---- looking ------------------------------------------------------------------------------------------------------------------ */

/* The latest frame that could still be answered in time; ERR_AGAIN: none. */
static int take_frame(const struct post *p, int64_t now, struct pl_frame **ret_frame)
{
    const int rc = pl_camera_take(p->camera, ret_frame);
    if (rc != 0)
        return rc;
    if ((*ret_frame)->capture_ns + p->watch.deadline_ns > now)
        return 0;
    pl_frame_unref(*ret_frame);
    return ERR_AGAIN;
}

static int submit(struct worker *w, struct post *p, const struct pl_frame *frame, struct err *err)
{
    const struct en_part system = {.text = p->system};
    const struct en_part user[] = {{.view = &frame->image}, {.text = WORKER_ASK}};
    const struct en_message messages[] = {{EN_SYSTEM, &system, 1}, {EN_USER, user, 2}};
    const struct en_job job = {
        .messages = messages,
        .n_messages = 2,
        .thinking = p->config->is_thinking,
        .schema = p->config->schema,
        .sampling = {.top_p = 1},
        .max_tokens = (int32_t)p->config->max_tokens,
        .max_pixels = p->config->max_pixels,
        .deadline_ns = frame->capture_ns + p->watch.deadline_ns,
        .tag = (uint64_t)(p - w->present->posts),
    };
    return en_submit(w->engine, &job, &p->job, err);
}

/* Begin the looks that are due. Returns when the next one is, or now + a round while one waits for a frame. */
static int64_t begin_looks(struct worker *w, bool *ret_waiting)
{
    int64_t next = clock_now_ns() + ROUND_MS * CLOCK_MS;
    *ret_waiting = false;
    for (int i = 0; w->present && i < w->present->n; i++) {
        struct post *p = &w->present->posts[i];
        struct pl_frame *frame = NULL;
        struct err err = {0};
        if (!p->is_on)
            continue;
        int64_t now = clock_now_ns();
        pthread_mutex_lock(&w->lock);
        bool is_due = watch_due(&p->watch, now);
        if (is_due && take_frame(p, now, &frame) != 0) {
            watch_wait(&p->watch);
            *ret_waiting = true;
            is_due = false;
        } else if (is_due) {
            watch_look(&p->watch, now);
        }
        if (!p->watch.is_waiting && p->watch.next_ns < next)
            next = p->watch.next_ns;
        pthread_mutex_unlock(&w->lock);
        if (!is_due)
            continue;
        p->frame_seq = frame->seq;
        p->capture_ns = frame->capture_ns;
        p->capture_wall_ns = frame->capture_wall_ns;
        snprintf(p->truth, sizeof p->truth, "%s", frame->truth ? frame->truth : "");
        const int rc = submit(w, p, frame, &err);
        pl_frame_unref(frame);
        if (rc != 0) {
            p->job = 0;
            pthread_mutex_lock(&w->lock);
            watch_fail(&p->watch, err.text);
            pthread_mutex_unlock(&w->lock);
            log_warning("look failed camera=%s: %s", p->id, err.text);
        }
    }
    return next;
}

/* ---- answers -------------------------------------------------------------------------------------------------------------------- */

/* on_scene, unless the worker was given up. */
static void tell(struct worker *w, const struct post *p, const char *json)
{
    pthread_mutex_lock(&w->lock);
    w->is_telling = !w->is_abandoned;
    pthread_mutex_unlock(&w->lock);
    if (!w->is_telling)
        return;
    w->options.on_scene(w->options.ctx, p->id, json, strlen(json));
    pthread_mutex_lock(&w->lock);
    w->is_telling = false;
    pthread_mutex_unlock(&w->lock);
}

/* Hand an observation out. False: it came too late, or could not be written down. */
static bool publish(struct worker *w, const struct post *p, const struct en_result *r, struct err *err)
{
    const int64_t now = clock_now_ns();
    if (now > p->capture_ns + p->watch.deadline_ns)
        return false;
    const struct payload_scene scene = {
        .camera = p->id,
        .frame_seq = p->frame_seq,
        .frame_wall_ns = p->capture_wall_ns,
        .capture_ns = p->capture_ns,
        .publish_ns = now,
        .timing = &r->timing,
        .result_text = r->text,
        .scores = r->scores,
        .n_scores = r->n_scores,
        .is_untrained = w->stats.is_untrained,
        .truth = p->truth,
    };
    char *json = payload_scene(&scene);
    if (!json) {
        err_set(err, ERR_NOMEM, "out of memory: an observation");
        return false;
    }
    tell(w, p, json);
    free(json);
    return true;
}

static void take_results(struct worker *w)
{
    for (struct en_result *r; (r = en_take_result(w->engine)); en_result_free(r)) {
        if (!w->present || r->tag >= (uint64_t)w->present->n || r->finish == EN_FINISH_CANCELLED)
            continue;
        struct post *p = &w->present->posts[r->tag];
        struct err err = r->error;
        const bool is_answered = r->finish == EN_FINISH_STOP && publish(w, p, r, &err);
        const int64_t now = clock_now_ns();
        p->job = 0;
        pthread_mutex_lock(&w->lock);
        if (is_answered)
            watch_done(&p->watch, p->capture_ns, now, r->timing.prompt_tokens, r->timing.output_tokens);
        else if (err.code != 0)
            watch_fail(&p->watch, err.text);
        else if (r->finish == EN_FINISH_LENGTH)
            watch_fail(&p->watch, "the answer was longer than max_tokens");
        else
            watch_shed(&p->watch, now);
        pthread_mutex_unlock(&w->lock);
        if (err.code != 0)
            log_warning("look failed camera=%s: %s", p->id, err.text);
        else if (is_answered)
            log_debug("observation camera=%s frame=%llu total_ms=%.0f", p->id, (unsigned long long)p->frame_seq,
                      (double)(now - p->capture_ns) / 1e6);
    }
}

/* ---- the set of watches ------------------------------------------------------------------------------------------------------- */

static struct post *find_post(struct roster *roster, const char *id)
{
    for (int i = 0; roster && i < roster->n; i++)
        if (strcmp(roster->posts[i].id, id) == 0)
            return &roster->posts[i];
    return NULL;
}

/* Take over the set that waits. Jobs of the old one are taken back unless theirs goes on unchanged at the same place. */
static void take_over(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    struct roster *next = w->next, *old = w->present;
    if (!next) {
        pthread_mutex_unlock(&w->lock);
        return;
    }
    const int64_t now = clock_now_ns();
    int n_on = 0, at = 0;
    for (int i = 0; i < next->n; i++)
        n_on += next->posts[i].is_on;
    for (int i = 0; i < next->n; i++) {
        struct post *p = &next->posts[i], *before = find_post(old, p->id);
        const int64_t every = p->config->every_ns, deadline = p->config->deadline_ns;
        const int64_t phase = p->is_on && n_on > 0 ? every / n_on * at++ : 0;
        if (!before) {
            watch_init(&p->watch, every, deadline, now, phase);
            continue;
        }
        p->watch = before->watch;
        if (before->job && p->is_on && before - old->posts == i && !config_camera_watch_differs(before->config, p->config) &&
            before->camera == p->camera) {
            p->job = before->job;
            p->frame_seq = before->frame_seq;
            p->capture_ns = before->capture_ns;
            p->capture_wall_ns = before->capture_wall_ns;
            memcpy(p->truth, before->truth, sizeof p->truth);
            before->job = 0;
        } else if (before->job) {
            watch_cancel(&p->watch);
        }
        if (p->is_on != before->is_on || p->watch.every_ns != every || p->watch.deadline_ns != deadline)
            watch_retime(&p->watch, every, deadline, now);
    }
    for (int i = 0; old && w->engine && i < old->n; i++)
        if (old->posts[i].job)
            en_cancel(w->engine, old->posts[i].job);
    w->present = next;
    w->next = NULL;
    pthread_mutex_unlock(&w->lock);
    roster_free(old);
}

char *worker_system_text(const struct config_camera *camera)
{
    char *text = NULL;
    if (asprintf(&text, "%s\nAnswer with one JSON object that follows this JSON Schema, and say only what can be seen.\n%s",
                 camera->prompt, camera->schema_text) < 0)
        return NULL;
    return text;
}

int worker_set_watches(struct worker *w, const struct worker_watch *watches, int n_watches, struct err *err)
{
    struct roster *roster = calloc(1, sizeof *roster);
    if (!roster)
        return err_set(err, ERR_NOMEM, "out of memory: the watches");
    for (int i = 0; i < n_watches && i < CONFIG_CAMERAS_MAX; i++) {
        struct post *p = &roster->posts[roster->n++];
        p->config = watches[i].config;
        p->camera = watches[i].camera;
        p->is_on = watches[i].is_on;
        snprintf(p->id, sizeof p->id, "%s", watches[i].config->id);
        if (!(p->system = worker_system_text(p->config))) {
            const int rc = err_set(err, ERR_NOMEM, "out of memory: the prompt of camera %s", p->id);
            roster_free(roster);
            return rc;
        }
    }
    pthread_mutex_lock(&w->lock);
    const bool is_free = !w->next && !w->is_done;
    if (is_free)
        w->next = roster;
    pthread_mutex_unlock(&w->lock);
    if (!is_free) {
        roster_free(roster);
        return err_set(err, ERR_AGAIN, "the engine has not taken over the last change of watches yet");
    }
    eventfd_write(w->inbox_fd, 1);
    return 0;
}

bool worker_is_settled(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    const bool is_settled = !w->next;
    pthread_mutex_unlock(&w->lock);
    return is_settled;
}

/* ---- the thread ----------------------------------------------------------------------------------------------------------------- */

/* When to give up; 0: go on. */
static int64_t stop_time(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    const int64_t stop_ns = w->stop_ns;
    pthread_mutex_unlock(&w->lock);
    return stop_ns;
}

static void wait_for_work(struct worker *w, int64_t until_ns, bool for_frames)
{
    const int64_t left = until_ns - clock_now_ns();
    if (left <= 0)
        return;
    struct pollfd fds[] = {{.fd = w->inbox_fd, .events = POLLIN}, {.fd = w->frames_fd, .events = POLLIN}};
    const int64_t ms = (left + CLOCK_MS - 1) / CLOCK_MS;
    eventfd_t count;
    poll(fds, for_frames ? 2 : 1, (int)(ms < ROUND_MS ? ms : ROUND_MS));
    eventfd_read(w->inbox_fd, &count); /* both are non-blocking: an empty one stays as it is */
    if (for_frames)
        eventfd_read(w->frames_fd, &count);
}

/* A part of a rest: a message may come meanwhile, and another permit. */
static void rest_a_while(struct worker *w, int64_t rest_ns)
{
    wait_for_work(w, clock_now_ns() + (rest_ns < PAUSE_NS ? rest_ns : PAUSE_NS), false);
}

/* The governor learns from what was really done. is_working: and that the pass at work goes on now. */
static void tell_load(struct worker *w, bool is_working)
{
    struct en_progress progress = {0};
    if (!w->options.thermal)
        return;
    if (w->engine)
        en_get_progress(w->engine, &progress);
    thermal_note_load(w->options.thermal, &progress, w->engine ? en_pending(w->engine) : 0, is_working ? progress.running : 0);
}

static void get_permit(struct worker *w, struct en_permit *ret)
{
    *ret = (struct en_permit){.batch = w->options.engine.batch, .expires_ns = clock_now_ns() + PERMIT_NS};
    if (w->options.thermal)
        thermal_get_permit(w->options.thermal, ret);
}

/* Far too hot: what runs is not worth waiting for. */
static bool is_overheated(struct worker *w)
{
    struct thermal_stats now;
    if (!w->options.thermal)
        return false;
    thermal_get(w->options.thermal, &now);
    return now.grant.is_hard_trip;
}

/* Nobody wants what runs any more: it would come too late, or there is another set of watches. */
static bool is_unwanted(struct worker *w, int64_t now)
{
    bool is_late = true;
    for (int i = 0; w->present && i < w->present->n; i++) {
        const struct post *p = &w->present->posts[i];
        is_late = is_late && !(p->job && now <= p->capture_ns + p->watch.deadline_ns);
    }
    pthread_mutex_lock(&w->lock);
    const bool has_next = w->next != NULL;
    pthread_mutex_unlock(&w->lock);
    return is_late || has_next;
}

/* Between two layers: rest as the permit says, wait where there is none, and give the pass up where that is in vain. */
static enum en_breath breathe(void *ctx)
{
    struct worker *w = ctx;
    bool has_waited = false;
    for (;;) {
        struct en_permit permit;
        beat(w);
        const int64_t stop_ns = stop_time(w), now = clock_now_ns();
        get_permit(w, &permit);
        const bool may_run = permit.batch > 0 && permit.expires_ns > now;
        const int64_t rest_ns = may_run ? en_rest_ns(w->engine, &permit) : CLOCK_S;
        if (stop_ns && now >= stop_ns)
            return EN_GIVE_UP;
        if (may_run && (rest_ns == 0 || (!has_waited && rest_ns < EN_REST_LEAST_NS))) {
            if (has_waited || !w->is_step_told)
                tell_load(w, true);
            w->is_step_told = true;
            return has_waited || permit.idle_permille == 0 ? EN_RESTED : EN_GO_ON;
        }
        if (rest_ns >= CLOCK_S && (is_unwanted(w, now) || (!may_run && is_overheated(w))))
            return EN_GIVE_UP;
        if (!has_waited)
            tell_load(w, false);
        has_waited = true;
        rest_a_while(w, rest_ns);
    }
}

/* Take back all looks, as shed. */
static void drop_looks(struct worker *w)
{
    const int64_t now = clock_now_ns();
    for (int i = 0; w->present && i < w->present->n; i++) {
        struct post *p = &w->present->posts[i];
        if (!p->job)
            continue;
        en_cancel(w->engine, p->job);
        p->job = 0;
        pthread_mutex_lock(&w->lock);
        watch_shed(&p->watch, now);
        pthread_mutex_unlock(&w->lock);
    }
}

static void run_step(struct worker *w)
{
    struct err err = {0};
    bool is_busy = false;
    struct en_progress before, after;
    struct en_permit permit;
    get_permit(w, &permit);
    const int64_t rest_ns = en_rest_ns(w->engine, &permit);
    if (permit.batch > 0 && rest_ns > 0) {
        tell_load(w, false);
        rest_a_while(w, rest_ns);
        return;
    }
    w->is_step_told = false; /* it begins: between its first layers it is known how many it works on */
    en_get_progress(w->engine, &before);
    const int rc = en_step(w->engine, &permit, &is_busy, &err);
    en_get_progress(w->engine, &after);
    pthread_mutex_lock(&w->lock);
    w->stats.busy_ns += after.busy_ns - before.busy_ns;
    pthread_mutex_unlock(&w->lock);
    tell_load(w, false);
    take_results(w);
    const bool is_refused = rc == ERR_STATE && (permit.batch < 1 || permit.expires_ns <= clock_now_ns());
    if (is_refused || rc == ERR_CANCELLED) { /* too hot: what is late was shed, the rest waits */
        if (is_overheated(w))
            drop_looks(w);
        rest_a_while(w, PAUSE_NS);
    } else if (rc != 0)
        engine_lost(w, &err);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    for (;;) {
        beat(w);
        const int64_t stop_ns = stop_time(w);
        if (stop_ns && (!w->engine || en_pending(w->engine) == 0 || clock_now_ns() >= stop_ns))
            break;
        take_over(w);
        if (!w->engine && !stop_ns && clock_now_ns() >= w->next_open_ns) {
            engine_open(w);
            if (w->engine)
                en_set_breath(w->engine, breathe, w);
        }
        int64_t next = clock_now_ns() + ROUND_MS * CLOCK_MS;
        bool is_waiting = false;
        if (w->engine && !stop_ns && !is_overheated(w))
            next = begin_looks(w, &is_waiting);
        if (w->engine && en_pending(w->engine) > 0)
            run_step(w);
        else {
            tell_load(w, false);
            wait_for_work(w, next, is_waiting);
        }
    }
    en_close(w->engine);
    w->engine = NULL;
    pthread_mutex_lock(&w->lock);
    w->is_done = true;
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- life ------------------------------------------------------------------------------------------------------------------------ */

static int copy_text(char **ret_copy, const char **text)
{
    if (*text && !(*ret_copy = strdup(*text)))
        return ERR_NOMEM;
    *text = *ret_copy;
    return 0;
}

int worker_open(const struct worker_options *options, struct worker **ret_worker, struct err *err)
{
    struct worker *w = calloc(1, sizeof *w);
    int rc = 0;
    if (!w)
        return err_set(err, ERR_NOMEM, "out of memory: the worker");
    w->options = *options;
    w->inbox_fd = w->frames_fd = -1;
    pthread_mutex_init(&w->lock, NULL);
    struct en_options *e = &w->options.engine;
    if (copy_text(&w->model_path, &e->model_path) != 0 || copy_text(&w->vision_path, &e->vision_path) != 0 ||
        copy_text(&w->synthetic, &e->synthetic) != 0 || copy_text(&w->device_name, &e->device) != 0) {
        rc = err_set(err, ERR_NOMEM, "out of memory: the worker's options");
        goto fail;
    }
    e->progress = on_progress;
    e->progress_ctx = w;
    w->stats.heartbeat_ns = clock_now_ns();
    if ((w->inbox_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0 ||
        (w->frames_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
        rc = err_set_errno(err, ERR_IO, "cannot make an event descriptor");
        goto fail;
    }
    if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
        rc = err_set(err, ERR_IO, "cannot start the engine thread");
        goto fail;
    }
    w->has_thread = true;
    pthread_setname_np(w->thread, "heron-engine");
    *ret_worker = w;
    return 0;
fail:
    worker_close(w);
    return rc;
}

int worker_frames_fd(const struct worker *w)
{
    return w->frames_fd;
}

void worker_get_stats(struct worker *w, struct worker_stats *ret_stats)
{
    pthread_mutex_lock(&w->lock);
    *ret_stats = w->stats;
    pthread_mutex_unlock(&w->lock);
}

void worker_get_watch(struct worker *w, const char *camera, struct payload_watch *ret_stats)
{
    pthread_mutex_lock(&w->lock);
    const struct post *p = find_post(w->present, camera);
    if (p)
        watch_get(&p->watch, clock_now_ns(), ret_stats);
    else
        *ret_stats = (struct payload_watch){0};
    pthread_mutex_unlock(&w->lock);
}

void worker_stop(struct worker *w, int64_t drain_ns)
{
    pthread_mutex_lock(&w->lock);
    w->stop_ns = clock_now_ns() + drain_ns;
    pthread_mutex_unlock(&w->lock);
    eventfd_write(w->inbox_fd, 1);
}

bool worker_is_done(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    const bool is_done = w->is_done;
    pthread_mutex_unlock(&w->lock);
    return is_done;
}

void worker_abandon(struct worker *w)
{
    bool is_telling;
    do {
        pthread_mutex_lock(&w->lock);
        w->is_abandoned = true;
        is_telling = w->is_telling;
        pthread_mutex_unlock(&w->lock);
        if (is_telling) /* it does not block: a moment */
            clock_sleep_until_ns(clock_now_ns() + CLOCK_MS);
    } while (is_telling);
}

void worker_close(struct worker *w)
{
    if (!w)
        return;
    if (w->has_thread) {
        worker_stop(w, 0);
        pthread_join(w->thread, NULL);
    }
    roster_free(w->next);
    roster_free(w->present);
    if (w->inbox_fd >= 0)
        close(w->inbox_fd);
    if (w->frames_fd >= 0)
        close(w->frames_fd);
    free(w->model_path);
    free(w->vision_path);
    free(w->synthetic);
    free(w->device_name);
    pthread_mutex_destroy(&w->lock);
    free(w);
}
