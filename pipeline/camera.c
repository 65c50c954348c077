/*
 * camera - one configured source of frames and its supervisor.
 *
 * Owns the thread that opens sources, watches them and opens them again; the frame pool; the slot for the newest frame; the
 * figures. It does not know how any kind of source works (source.h), and it never gives up: whatever fails is tried again,
 * after a back-off.
 *
 * States: DISABLED -> STARTING -> RUNNING -> RESTARTING (back-off 1 s doubled to 30 s, with jitter, small again after a minute
 * of frames) -> STARTING ...; AUTH_FAILED waits minutes; ENDED waits for a command.
 */
#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/queue.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "pipeline/frame.h"
#include "pipeline/source.h"

#define SLICE_NS        (100 * CLOCK_MS) /* longest wait between two looks at commands */
#define FPS_WINDOW_NS   (10 * CLOCK_S)
#define N_FPS_STAMPS    1024
#define N_RESTARTS      256
#define N_QUICK_RETRIES 8 /* this many tries without a back-off in a row, then the back-off holds for them too */

static atomic_uint cameras_abandoned;

struct pl_camera {
    /* immutable after open */
    char id[64];
    struct url url;
    char user[128], password[128];
    const struct source_ops *ops;
    struct source_settings settings;
    int poke_fd;
    struct frame_pool *pool;
    struct queue newest; /* of struct pl_frame *, one item, drops the older */
    pthread_t thread;
    bool has_queue, has_lock, has_thread;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* commands */
    /* under lock */
    bool is_closing, is_enabled;
    bool is_abandoned;            /* the closer did not wait any longer: the supervisor frees the camera */
    bool has_ended;               /* the supervisor is past its last look at is_abandoned */
    struct pl_camera_stats stats; /* but for what get_stats works out */
    int64_t arrival_ns;           /* of the newest picture, by our clock */
    int64_t fresh_limit_ns;       /* a picture older than this is not fresh */
    int64_t stamps[N_FPS_STAMPS]; /* arrival of the newest published frames, a ring */
    uint32_t n_stamps;
    int64_t restarts[N_RESTARTS]; /* when, a ring */
    uint32_t n_restarts;

    /* supervisor thread only */
    uint64_t decode_errors_before; /* of earlier attempts */
    uint64_t seq;
    int64_t last_capture_ns;
    uint64_t hash;
    int64_t same_since_ns;
    int64_t backoff_ns;
    int n_quick;
    struct rng jitter;
};

static const char *const camera_state_names[PL_CAMERA_STATE_COUNT] = {
    [PL_CAMERA_DISABLED] = "disabled",     [PL_CAMERA_STARTING] = "starting",       [PL_CAMERA_RUNNING] = "running",
    [PL_CAMERA_RESTARTING] = "restarting", [PL_CAMERA_AUTH_FAILED] = "auth_failed", [PL_CAMERA_ENDED] = "ended",
};

const char *pl_camera_state_name(enum pl_camera_state state)
{
    return (unsigned)state < PL_CAMERA_STATE_COUNT ? camera_state_names[state] : "?";
}

/* ---- commands, seen from the supervisor --------------------------------------------------------------------------------- */

/* Sleep until `until_ns` or a command; true if the camera shall not run on (closing, or disabled). */
static bool camera_sleep(struct pl_camera *cam, int64_t until_ns)
{
    pthread_mutex_lock(&cam->lock);
    for (;;) {
        int64_t now = clock_now_ns();
        cam->stats.heartbeat_ns = now;
        if (cam->is_closing || !cam->is_enabled || now >= until_ns)
            break;
        int64_t left = until_ns - now < 4 * SLICE_NS ? until_ns - now : 4 * SLICE_NS;
        clock_cond_wait_until(&cam->changed, &cam->lock, clock_system_ns() + left);
    }
    bool stop = cam->is_closing || !cam->is_enabled;
    pthread_mutex_unlock(&cam->lock);
    return stop;
}

static void camera_set_state(struct pl_camera *cam, enum pl_camera_state state, const struct err *why)
{
    pthread_mutex_lock(&cam->lock);
    enum pl_camera_state before = cam->stats.state;
    cam->stats.state = state;
    cam->stats.heartbeat_ns = clock_now_ns();
    if (why && why->code) {
        char text[sizeof why->text];
        snprintf(text, sizeof text, "%s", why->text);
        log_redact(text);
        /* It becomes JSON: whole characters only, whatever a file is called or a camera says. */
        memset(cam->stats.last_error, 0, sizeof cam->stats.last_error);
        utf8_repair(text, strlen(text), cam->stats.last_error, sizeof cam->stats.last_error - 1);
    }
    pthread_mutex_unlock(&cam->lock);
    if (state != before)
        log_debug("camera state camera=%s state=%s was=%s error=\"%s\"", cam->id, camera_state_names[state],
                  camera_state_names[before], why ? why->text : "");
}

/* ---- frames ------------------------------------------------------------------------------------------------------------- */

static void camera_drop_frame(void *ctx, void *item)
{
    pl_frame_unref(*(struct pl_frame **)item);
}

/* Throw away the frame that nobody took; true if there was one. */
static bool camera_drop_newest(struct pl_camera *cam)
{
    struct pl_frame *frame;
    if (queue_pop(&cam->newest, &frame, 0) != 0)
        return false;
    pl_frame_unref(frame);
    return true;
}

static void camera_note_hash(struct pl_camera *cam, const struct pl_frame *frame, int64_t now)
{
    uint64_t hash = frame_hash(frame);
    if (hash != cam->hash || cam->same_since_ns == 0) {
        cam->hash = hash;
        cam->same_since_ns = now;
    }
}

/* Take over the waiting picture and publish it. 0, ERR_FULL (no slot), or the source's error. */
static int camera_publish(struct pl_camera *cam, struct source *source, int64_t now, struct err *err)
{
    bool is_replaced = false;
    struct pl_frame *frame = frame_pool_take(cam->pool);
    if (!frame && camera_drop_newest(cam)) {
        /* Every slot is out but the one nobody took: the new picture is worth more than that one. */
        is_replaced = true;
        frame = frame_pool_take(cam->pool);
    }
    if (!frame) {
        pthread_mutex_lock(&cam->lock);
        cam->stats.starved++;
        cam->stats.replaced += is_replaced;
        pthread_mutex_unlock(&cam->lock);
        return ERR_FULL;
    }
    int rc = cam->ops->fill(source, frame, err);
    if (rc) {
        pl_frame_unref(frame);
        return rc;
    }
    if (frame->capture_ns < cam->last_capture_ns) {
        frame->capture_ns = cam->last_capture_ns;
        frame->capture_wall_ns = clock_wall_ns_of(frame->capture_ns);
    }
    cam->last_capture_ns = frame->capture_ns;
    frame->seq = ++cam->seq;
    camera_note_hash(cam, frame, now);

    pthread_mutex_lock(&cam->lock);
    struct pl_camera_stats *s = &cam->stats;
    s->frames++;
    s->replaced += is_replaced;
    s->last_frame_ns = frame->capture_ns;
    s->width_px = frame->image.width_px;
    s->height_px = frame->image.height_px;
    s->is_frozen = cam->ops->is_live && now - cam->same_since_ns > cam->settings.timing.frozen_after_ns;
    cam->stamps[cam->n_stamps++ % N_FPS_STAMPS] = now;
    pthread_mutex_unlock(&cam->lock);

    queue_push(&cam->newest, &frame); /* the slot takes the reference; never refuses while the supervisor runs */
    if (cam->poke_fd > 0) {
        /* Under the lock, so that nothing is written once pl_camera_close has begun: the descriptor is borrowed until then. */
        const uint64_t one = 1;
        pthread_mutex_lock(&cam->lock);
        if (!cam->is_closing && write(cam->poke_fd, &one, sizeof one) < 0 && errno != EAGAIN)
            log_debug("camera poke failed camera=%s errno=%d", cam->id, errno);
        pthread_mutex_unlock(&cam->lock);
    }
    return 0;
}

/* ---- one attempt ---------------------------------------------------------------------------------------------------------- */

static void camera_note_info(struct pl_camera *cam, struct source *source, struct source_info *ret_info)
{
    cam->ops->get_info(source, ret_info);
    pthread_mutex_lock(&cam->lock);
    memcpy(cam->stats.codec, ret_info->codec, sizeof cam->stats.codec);
    memcpy(cam->stats.decoder, ret_info->decoder, sizeof cam->stats.decoder);
    cam->stats.decode_errors = cam->decode_errors_before + ret_info->decode_errors;
    pthread_mutex_unlock(&cam->lock);
}

static int64_t camera_age_limit(const struct pl_camera *cam, int64_t interval_ns)
{
    const struct pl_timing *t = &cam->settings.timing;
    int64_t by_interval = interval_ns * t->age_intervals;
    return by_interval > t->frame_age_ns ? by_interval : t->frame_age_ns;
}

/* Watch a running source until something ends the attempt. SOURCE_NONE: a command did. */
static enum source_event camera_watch(struct pl_camera *cam, struct source *source, struct err *err)
{
    const struct pl_timing *t = &cam->settings.timing;
    int64_t started_ns = clock_now_ns(), arrival_ns = 0;
    int64_t cap_interval_ns = cam->settings.max_fps > 0 ? (int64_t)(1e9 / cam->settings.max_fps) : 0;
    for (;;) {
        if (camera_sleep(cam, 0))
            return SOURCE_NONE;
        enum source_event event = cam->ops->wait(source, clock_now_ns() + SLICE_NS, err);
        int64_t now = clock_now_ns();
        if (event != SOURCE_FRAME && event != SOURCE_NONE)
            return event;
        struct source_info info;
        camera_note_info(cam, source, &info);
        if (event == SOURCE_FRAME) {
            arrival_ns = now;
            int64_t limit = camera_age_limit(cam, info.interval_ns > cap_interval_ns ? info.interval_ns : cap_interval_ns);
            pthread_mutex_lock(&cam->lock);
            cam->arrival_ns = arrival_ns;
            cam->fresh_limit_ns = limit;
            pthread_mutex_unlock(&cam->lock);
            int rc = camera_publish(cam, source, now, err);
            if (rc && rc != ERR_FULL)
                return SOURCE_FAULT;
            if (cam->stats.state != PL_CAMERA_RUNNING) /* only this thread writes it */
                camera_set_state(cam, PL_CAMERA_RUNNING, NULL);
            cam->n_quick = 0;
            if (now - started_ns > t->backoff_reset_ns)
                cam->backoff_ns = t->backoff_min_ns;
            continue;
        }
        if (arrival_ns == 0) {
            if (now - started_ns > t->first_frame_ns) {
                err_set(err, ERR_TIMEOUT, "no picture within %.1f s of starting", (double)t->first_frame_ns / 1e9);
                return SOURCE_FAULT;
            }
            continue;
        }
        /* Pictures that the rate cap drops show life too; those that got through must keep coming as well. */
        int64_t alive_ns = info.picture_ns > arrival_ns ? info.picture_ns : arrival_ns;
        int64_t age = now - alive_ns, age_through = now - arrival_ns;
        if (age > camera_age_limit(cam, info.interval_ns) || age_through > 2 * camera_age_limit(cam, cap_interval_ns) + age) {
            err_set(err, ERR_TIMEOUT, "no picture for %.1f s", (double)(age > 0 ? age : age_through) / 1e9);
            return SOURCE_FAULT;
        }
    }
}

/* How long to wait after what ended the attempt; negative: until a command comes. */
static int64_t camera_backoff(struct pl_camera *cam, enum source_event event)
{
    const struct pl_timing *t = &cam->settings.timing;
    if (event == SOURCE_END)
        return -1;
    if (event == SOURCE_AUTH)
        return t->auth_backoff_ns;
    if (event == SOURCE_AGAIN && ++cam->n_quick <= N_QUICK_RETRIES)
        return 0;
    int64_t wait = cam->backoff_ns;
    cam->backoff_ns = wait * 2 < t->backoff_max_ns ? wait * 2 : t->backoff_max_ns;
    return wait + (int64_t)(rng_unit(&cam->jitter) * (double)wait / 4);
}

static void camera_attempt(struct pl_camera *cam)
{
    struct err err = {0};
    struct source *source = NULL;
    enum source_event event = SOURCE_FAULT;
    cam->same_since_ns = 0;
    pthread_mutex_lock(&cam->lock);
    cam->stats.is_frozen = false;
    pthread_mutex_unlock(&cam->lock);
    camera_set_state(cam, PL_CAMERA_STARTING, NULL);
    if (cam->ops->open(&cam->settings, &source, &err) == 0) {
        event = camera_watch(cam, source, &err);
        struct source_info info;
        camera_note_info(cam, source, &info);
        cam->decode_errors_before += info.decode_errors;
        if (event != SOURCE_NONE && event != SOURCE_END)
            camera_set_state(cam, event == SOURCE_AUTH ? PL_CAMERA_AUTH_FAILED : PL_CAMERA_RESTARTING, &err);
        bool is_stopped = cam->ops->close(source);
        pthread_mutex_lock(&cam->lock);
        cam->stats.leaked += !is_stopped;
        pthread_mutex_unlock(&cam->lock);
    }
    if (event == SOURCE_NONE)
        return;
    int64_t wait = camera_backoff(cam, event);
    camera_set_state(cam,
                     event == SOURCE_END    ? PL_CAMERA_ENDED
                     : event == SOURCE_AUTH ? PL_CAMERA_AUTH_FAILED
                                            : PL_CAMERA_RESTARTING,
                     event == SOURCE_END ? NULL : &err);
    if (camera_sleep(cam, wait < 0 ? INT64_MAX : clock_now_ns() + wait))
        return;
    pthread_mutex_lock(&cam->lock);
    cam->stats.restarts++;
    cam->restarts[cam->n_restarts++ % N_RESTARTS] = clock_now_ns();
    pthread_mutex_unlock(&cam->lock);
}

/* Frees what only a supervisor that has ended no longer needs. */
static void camera_free(struct pl_camera *cam)
{
    if (cam->has_queue)
        queue_release(&cam->newest);
    frame_pool_close(cam->pool);
    if (cam->has_lock) {
        pthread_cond_destroy(&cam->changed);
        pthread_mutex_destroy(&cam->lock);
    }
    explicit_bzero(cam->password, sizeof cam->password);
    explicit_bzero(cam->url.password, sizeof cam->url.password);
    free(cam);
}

static void *camera_run(void *arg)
{
    struct pl_camera *cam = arg;
    char name[16];
    snprintf(name, sizeof name, "cam-%.11s", cam->id);
    pthread_setname_np(pthread_self(), name);
    for (;;) {
        pthread_mutex_lock(&cam->lock);
        bool is_closing = cam->is_closing, is_enabled = cam->is_enabled;
        pthread_mutex_unlock(&cam->lock);
        if (is_closing)
            break;
        if (is_enabled) {
            camera_attempt(cam);
            continue;
        }
        camera_drop_newest(cam);
        camera_set_state(cam, PL_CAMERA_DISABLED, NULL);
        cam->backoff_ns = cam->settings.timing.backoff_min_ns;
        pthread_mutex_lock(&cam->lock);
        if (!cam->is_closing && !cam->is_enabled)
            clock_cond_wait_until(&cam->changed, &cam->lock, clock_system_ns() + 4 * SLICE_NS);
        pthread_mutex_unlock(&cam->lock);
    }
    pthread_mutex_lock(&cam->lock);
    bool is_mine = cam->is_abandoned;
    cam->has_ended = true;
    pthread_cond_broadcast(&cam->changed);
    pthread_mutex_unlock(&cam->lock);
    if (is_mine)
        camera_free(cam);
    return NULL;
}

/* ---- the door ------------------------------------------------------------------------------------------------------------- */

static void camera_default(int64_t *field, int64_t value)
{
    if (*field <= 0)
        *field = value;
}

static struct pl_timing camera_timing(const struct pl_timing *given)
{
    struct pl_timing t = {0};
    if (given)
        t = *given;
    camera_default(&t.first_frame_ns, 15 * CLOCK_S);
    camera_default(&t.frame_age_ns, 3 * CLOCK_S);
    camera_default(&t.backoff_min_ns, 1 * CLOCK_S);
    camera_default(&t.backoff_max_ns, 30 * CLOCK_S);
    camera_default(&t.backoff_reset_ns, 60 * CLOCK_S);
    camera_default(&t.auth_backoff_ns, 300 * CLOCK_S);
    camera_default(&t.frozen_after_ns, 10 * CLOCK_S);
    camera_default(&t.teardown_ns, 5 * CLOCK_S);
    camera_default(&t.decoder_trial_ns, 5 * CLOCK_S);
    if (t.age_intervals <= 0)
        t.age_intervals = 10;
    return t;
}

static int64_t camera_max_pixels(const struct pl_camera_config *config)
{
    return config->max_pixels ? config->max_pixels : 1920 * 1080;
}

static int camera_frames(const struct pl_camera_config *config)
{
    return config->frames ? config->frames : 4;
}

uint64_t pl_camera_plan_bytes(const struct pl_camera_config *config)
{
    return frame_pool_plan_bytes(camera_frames(config), camera_max_pixels(config)) + sizeof(struct pl_camera);
}

static int camera_check(const struct pl_camera_config *config, struct err *err)
{
    const char *id = config->id;
    size_t n = id ? strlen(id) : 0;
    bool good = n >= 1 && n <= 48;
    for (size_t i = 0; good && i < n; i++)
        good = (id[i] >= 'a' && id[i] <= 'z') || isdigit((unsigned char)id[i]) || id[i] == '_';
    if (!good)
        return err_set(err, ERR_INVAL, "camera id: expected 1 to 48 of a-z, 0-9 and _");
    if (!config->source)
        return err_set(err, ERR_INVAL, "camera %s: no source", id);
    if (config->max_pixels < 0 || config->max_pixels > 16384 * 16384 || (config->max_pixels && config->max_pixels < 1024))
        return err_set(err, ERR_INVAL, "camera %s: max_pixels %lld, expected 1024 to 268435456", id,
                       (long long)config->max_pixels);
    if (!(config->max_fps >= 0 && config->max_fps <= 1000))
        return err_set(err, ERR_INVAL, "camera %s: max_fps %g, expected 0 to 1000", id, config->max_fps);
    if (config->frames && (config->frames < 2 || config->frames > 64))
        return err_set(err, ERR_INVAL, "camera %s: frames %d, expected 2 to 64", id, config->frames);
    if (config->latency_ms < 0 || config->latency_ms > 60000)
        return err_set(err, ERR_INVAL, "camera %s: latency_ms %d, expected 0 to 60000", id, config->latency_ms);
    if ((config->user && strlen(config->user) > 127) || (config->password && strlen(config->password) > 127))
        return err_set(err, ERR_INVAL, "camera %s: user name or password longer than 127 bytes", id);
    return 0;
}

int pl_camera_open(const struct pl_camera_config *config, struct pl_camera **ret_camera, struct err *err)
{
    int rc = camera_check(config, err);
    if (rc)
        return rc;
    struct pl_camera *cam = calloc(1, sizeof *cam);
    if (!cam)
        return err_set(err, ERR_NOMEM, "camera %s: no memory", config->id);
    snprintf(cam->id, sizeof cam->id, "%s", config->id);
    rc = source_parse(config->source, &cam->url, err);
    if (rc)
        goto fail;
    cam->ops = source_ops_get(cam->url.kind);
    snprintf(cam->user, sizeof cam->user, "%s", config->user ? config->user : cam->url.user);
    snprintf(cam->password, sizeof cam->password, "%s",
             config->password ? config->password
             : config->user   ? ""
                              : cam->url.password);
    cam->settings = (struct source_settings){
        .url = &cam->url,
        .user = cam->user,
        .password = cam->password,
        .max_pixels = camera_max_pixels(config),
        .max_fps = config->max_fps,
        .latency_ms = config->latency_ms ? config->latency_ms : 200,
        .is_udp = config->is_udp,
        .timing = camera_timing(config->timing),
    };
    cam->poke_fd = config->event_fd;
    cam->is_enabled = !config->is_disabled;
    cam->stats.state = config->is_disabled ? PL_CAMERA_DISABLED : PL_CAMERA_STARTING;
    cam->stats.heartbeat_ns = clock_now_ns();
    cam->backoff_ns = cam->settings.timing.backoff_min_ns;
    cam->jitter.seed = rng_hash(cam->id, strlen(cam->id)) ^ (uint64_t)clock_now_ns();
    rc = frame_pool_open(camera_frames(config), cam->settings.max_pixels, &cam->pool, err);
    if (rc)
        goto fail;
    cam->has_queue = true;
    rc = queue_init(&cam->newest, sizeof(struct pl_frame *), 1, QUEUE_DROP_OLDEST, camera_drop_frame, NULL, err);
    if (rc)
        goto fail;
    clock_cond_init(&cam->changed);
    pthread_mutex_init(&cam->lock, NULL);
    cam->has_lock = true;
    int code = pthread_create(&cam->thread, NULL, camera_run, cam);
    if (code) {
        errno = code;
        rc = err_set_errno(err, ERR_IO, "starting a thread");
        goto fail;
    }
    cam->has_thread = true;
    *ret_camera = cam;
    return 0;
fail:
    pl_camera_close(cam);
    return err_prefix(err, "camera %s", config->id), rc;
}

void pl_camera_close(struct pl_camera *cam)
{
    if (!cam)
        return;
    if (cam->has_thread) {
        pthread_mutex_lock(&cam->lock);
        cam->is_closing = true;
        pthread_cond_broadcast(&cam->changed);
        /* Stopping a source is bounded, starting one is not: a driver may hang in open(). */
        const int64_t until_ns = clock_system_ns() + cam->settings.timing.teardown_ns + 2 * CLOCK_S;
        while (!cam->has_ended && clock_cond_wait_until(&cam->changed, &cam->lock, until_ns))
            ;
        bool is_left = cam->is_abandoned = !cam->has_ended;
        pthread_t thread = cam->thread;
        pthread_mutex_unlock(&cam->lock);
        if (is_left) {
            pthread_detach(thread);
            atomic_fetch_add(&cameras_abandoned, 1);
            return;
        }
        pthread_join(thread, NULL);
    }
    camera_free(cam);
}

void pl_camera_set_enabled(struct pl_camera *cam, bool is_enabled)
{
    pthread_mutex_lock(&cam->lock);
    cam->is_enabled = is_enabled;
    pthread_cond_broadcast(&cam->changed);
    pthread_mutex_unlock(&cam->lock);
}

int pl_camera_take(struct pl_camera *cam, struct pl_frame **ret_frame)
{
    return queue_pop(&cam->newest, ret_frame, 0) == 0 ? 0 : ERR_AGAIN;
}

int pl_camera_event_fd(const struct pl_camera *cam)
{
    return queue_fd(&cam->newest);
}

const char *pl_camera_get_id(const struct pl_camera *cam)
{
    return cam->id;
}

/* Frames per second over the last 10 s; under lock. */
static double camera_fps(const struct pl_camera *cam, int64_t now)
{
    uint32_t kept = cam->n_stamps < N_FPS_STAMPS ? cam->n_stamps : N_FPS_STAMPS, n = 0;
    int64_t oldest = now;
    for (; n < kept; n++) {
        int64_t stamp = cam->stamps[(cam->n_stamps - 1 - n) % N_FPS_STAMPS];
        if (stamp < now - FPS_WINDOW_NS)
            break;
        oldest = stamp;
    }
    /* n frames bound n - 1 intervals; the time since the last is part of the span, so that a stall shows. */
    return n >= 2 && now > oldest ? (n - 1) / ((double)(now - oldest) / 1e9) : 0;
}

void pl_camera_get_stats(struct pl_camera *cam, struct pl_camera_stats *ret_stats)
{
    uint64_t dropped = queue_dropped(&cam->newest);
    pthread_mutex_lock(&cam->lock);
    int64_t now = clock_now_ns();
    *ret_stats = cam->stats;
    ret_stats->replaced += dropped;
    ret_stats->last_frame_age_ns = cam->arrival_ns ? now - cam->arrival_ns : -1;
    ret_stats->fps = camera_fps(cam, now);
    uint32_t kept = cam->n_restarts < N_RESTARTS ? cam->n_restarts : N_RESTARTS;
    for (uint32_t i = 0; i < kept; i++)
        ret_stats->restarts_1h += cam->restarts[i] > now - 3600 * CLOCK_S;
    ret_stats->is_online = cam->stats.state == PL_CAMERA_RUNNING && !cam->stats.is_frozen && cam->arrival_ns &&
                           now - cam->arrival_ns <= cam->fresh_limit_ns;
    pthread_mutex_unlock(&cam->lock);
}

uint32_t pl_leaked_pipelines(void)
{
    return source_gst_leaked() + atomic_load(&cameras_abandoned);
}
