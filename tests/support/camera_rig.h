/*
 * camera_rig - what the camera tests share: short timings, waiting for a condition on the stats, counting what a process holds.
 *
 * Waiting is bounded generously (sanitizers and shared cores are slow) and ends as soon as the condition holds; nothing asserts how
 * long something took unless it waits for a bound that the door promises.
 */
#ifndef HERON_TESTS_CAMERA_RIG_H
#define HERON_TESTS_CAMERA_RIG_H

#include "base/clock.h"
#include "pipeline/pipeline.h"
#include "tests/support/test.h"

#define RIG_PATIENCE_NS (30 * CLOCK_S)

/* Timings that make a fault visible within a second or so. */
extern const struct pl_timing rig_timing;

/* Open a camera with rig_timing unless config->timing says otherwise; fails the test on an error. */
struct pl_camera *rig_open(const struct pl_camera_config *config);

/* The same with a source only. */
struct pl_camera *rig_open_source(const char *source);

/* Wait for a fresh frame; the caller owns it. Fails the test, with the camera's last error, when none comes. */
struct pl_frame *rig_take(struct pl_camera *cam);

/* Wait until stats satisfy `is_met`; fails the test when they never do. Frames are taken and dropped meanwhile if `drain`. */
struct pl_camera_stats rig_wait(struct pl_camera *cam, bool drain, bool (*is_met)(const struct pl_camera_stats *, const void *),
                                const void *ctx, const char *what);

/* Ready-made conditions. */
bool rig_is_running(const struct pl_camera_stats *s, const void *ctx);
bool rig_is_online(const struct pl_camera_stats *s, const void *ctx);
bool rig_has_frames(const struct pl_camera_stats *s, const void *n);   /* ctx: uint64_t */
bool rig_has_restarts(const struct pl_camera_stats *s, const void *n); /* ctx: uint64_t */
bool rig_has_error(const struct pl_camera_stats *s, const void *text); /* ctx: part of last_error */

/* Start GStreamer and give it a short run, so that what it keeps for ever is there before somebody counts. */
void rig_warm_up(void);

/* Wait until no more descriptors and threads are there than before: a pipeline's last thread ends a moment after its close. */
void rig_wait_counts(int fds, int threads);

int rig_count_fds(void);
int rig_count_threads(void);
long rig_rss_kib(void);

/* Make a clip of `seconds` in /tmp by a GStreamer description that ends before its file sink; path[cap] gets its name. */
void rig_make_clip(const char *description, const char *suffix, char *path, size_t cap);

/* H.264 in MP4, w x h at 15 fps, n frames, a key frame every 15. */
void rig_make_h264(int w, int h, int n_frames, char *path, size_t cap);

#endif
