#include "tests/support/camera_rig.h"

#include <dirent.h>
#include <gst/gst.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct pl_timing rig_timing = {
    .first_frame_ns = 20 * CLOCK_S, /* a slow machine's first plugin load is no fault */
    .frame_age_ns = 1 * CLOCK_S,
    .backoff_min_ns = 20 * CLOCK_MS,
    .backoff_max_ns = 200 * CLOCK_MS,
    .backoff_reset_ns = 60 * CLOCK_S,
    .auth_backoff_ns = 60 * CLOCK_S,
    .frozen_after_ns = 600 * CLOCK_MS,
    .teardown_ns = 10 * CLOCK_S,
    .decoder_trial_ns = 500 * CLOCK_MS,
};

struct pl_camera *rig_open(const struct pl_camera_config *config)
{
    struct pl_camera_config c = *config;
    struct pl_camera *cam = NULL;
    struct err err = {0};
    if (!c.id)
        c.id = "cam";
    if (!c.timing)
        c.timing = &rig_timing;
    assert_ok(pl_camera_open(&c, &cam, &err), &err);
    return cam;
}

struct pl_camera *rig_open_source(const char *source)
{
    return rig_open(&(struct pl_camera_config){.source = source});
}

struct pl_frame *rig_take(struct pl_camera *cam)
{
    int64_t until = clock_now_ns() + RIG_PATIENCE_NS;
    struct pl_frame *frame = NULL;
    while (clock_now_ns() < until) {
        struct pollfd p = {.fd = pl_camera_event_fd(cam), .events = POLLIN};
        poll(&p, 1, 100);
        if (pl_camera_take(cam, &frame) == 0)
            return frame;
    }
    struct pl_camera_stats s;
    pl_camera_get_stats(cam, &s);
    fail_msg("no frame; state %s, last error: %s", pl_camera_state_name(s.state), s.last_error);
    return NULL;
}

struct pl_camera_stats rig_wait(struct pl_camera *cam, bool drain, bool (*is_met)(const struct pl_camera_stats *, const void *),
                                const void *ctx, const char *what)
{
    int64_t until = clock_now_ns() + RIG_PATIENCE_NS;
    struct pl_camera_stats s;
    do {
        struct pl_frame *frame;
        if (drain && pl_camera_take(cam, &frame) == 0)
            pl_frame_unref(frame);
        pl_camera_get_stats(cam, &s);
        if (is_met(&s, ctx))
            return s;
        usleep(5000);
    } while (clock_now_ns() < until);
    fail_msg("never %s; state %s, frames %llu, restarts %llu, last error: %s", what, pl_camera_state_name(s.state),
             (unsigned long long)s.frames, (unsigned long long)s.restarts, s.last_error);
    return s;
}

bool rig_is_running(const struct pl_camera_stats *s, const void *ctx)
{
    return s->state == PL_CAMERA_RUNNING;
}

bool rig_is_online(const struct pl_camera_stats *s, const void *ctx)
{
    return s->is_online;
}

bool rig_has_frames(const struct pl_camera_stats *s, const void *n)
{
    return s->frames >= *(const uint64_t *)n;
}

bool rig_has_restarts(const struct pl_camera_stats *s, const void *n)
{
    return s->restarts >= *(const uint64_t *)n;
}

bool rig_has_error(const struct pl_camera_stats *s, const void *text)
{
    return strstr(s->last_error, text) != NULL;
}

static int rig_count_dir(const char *path)
{
    DIR *d = opendir(path);
    assert_non_null(d);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

int rig_count_fds(void)
{
    return rig_count_dir("/proc/self/fd") - 1; /* less the one that counts */
}

int rig_count_threads(void)
{
    return rig_count_dir("/proc/self/task");
}

void rig_warm_up(void)
{
    struct pl_camera *cam = rig_open_source("gst:videotestsrc num-buffers=5 ! video/x-raw,width=64,height=48,framerate=30/1");
    pl_frame_unref(rig_take(cam));
    pl_camera_close(cam);
}

void rig_wait_counts(int fds, int threads)
{
    const int64_t until = clock_now_ns() + RIG_PATIENCE_NS;
    while (rig_count_fds() > fds || rig_count_threads() > threads) {
        if (clock_now_ns() >= until)
            fail_msg("%d descriptors and %d threads, were %d and %d", rig_count_fds(), rig_count_threads(), fds, threads);
        usleep(5000);
    }
}

long rig_rss_kib(void)
{
    long pages = 0, rss = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld", &pages, &rss), 2);
    fclose(f);
    return rss * (sysconf(_SC_PAGESIZE) / 1024);
}

void rig_make_clip(const char *description, const char *suffix, char *path, size_t cap)
{
    char launch[1024];
    snprintf(path, cap, "/tmp/heron-clip-XXXXXX%s", suffix);
    int fd = mkstemps(path, (int)strlen(suffix));
    assert_true(fd >= 0);
    close(fd);
    snprintf(launch, sizeof launch, "%s ! filesink location=%s", description, path);
    gst_init(NULL, NULL);
    GError *error = NULL;
    GstElement *p = gst_parse_launch(launch, &error);
    if (error)
        fail_msg("the clip cannot be made: %s", error->message);
    gst_element_set_state(p, GST_STATE_PLAYING);
    GstBus *bus = gst_element_get_bus(p);
    GstMessage *m = gst_bus_timed_pop_filtered(bus, GST_CLOCK_TIME_NONE, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    bool is_made = GST_MESSAGE_TYPE(m) == GST_MESSAGE_EOS;
    gst_message_unref(m);
    gst_object_unref(bus);
    gst_element_set_state(p, GST_STATE_NULL);
    gst_object_unref(p);
    assert_true(is_made);
}

void rig_make_h264(int w, int h, int n_frames, char *path, size_t cap)
{
    char description[512];
    snprintf(description, sizeof description,
             "videotestsrc pattern=ball num-buffers=%d ! video/x-raw,width=%d,height=%d,framerate=15/1 ! "
             "openh264enc gop-size=15 complexity=low ! h264parse ! mp4mux",
             n_frames, w, h);
    rig_make_clip(description, ".mp4", path, cap);
}
