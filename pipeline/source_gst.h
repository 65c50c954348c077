/*
 * source_gst - the private header of the two files that know GStreamer: source_gst_build.c puts pipelines together, source_gst.c
 * runs them. Nothing else includes this.
 *
 * Threads: a field is written by whom its group says. Memory: struct gsrc lives until the supervisor and the helper that stops the pipeline
 * have both left it.
 */
#ifndef HERON_PIPELINE_SOURCE_GST_H
#define HERON_PIPELINE_SOURCE_GST_H

#include <gst/gst.h>
#include <gst/video/video.h>
#include <pthread.h>
#include <stdatomic.h>

#include "pipeline/decoder.h"
#include "pipeline/source.h"

struct gsrc {
    atomic_int users; /* supervisor, and the helper that stops the pipeline; the last frees */

    /* immutable after open; copied, since a pipeline left behind outlives the camera's settings */
    enum url_kind kind;
    char what[160]; /* for errors: scheme and place */
    bool is_once, is_fast;
    int64_t max_pixels, min_interval_ns /* 0: no cap */;
    struct pl_timing timing;
    GstElement *pipeline, *convert, *fit, *sink;
    GstBus *bus;

    /* supervisor only */
    GstSample *sample;
    GstVideoInfo info;
    GstCaps *info_caps; /* what info was read from */
    bool is_end_held;   /* a file's end came too early to begin again at once */
    int64_t loop_ns;    /* when the file last began */
    bool has_warning;
    char warning[256];

    /* written by GStreamer's threads */
    atomic_bool is_linked; /* a video stream was found and linked */
    atomic_bool is_size_changed;
    atomic_bool is_unstamped;  /* a file that cannot be paced was told */
    atomic_llong first_key_ns; /* when the first key frame went into the decoder */
    atomic_llong picture_ns, interval_ns;
    atomic_ullong pictures, corrupt, failed, coded, keys;
    atomic_llong complaint_ns; /* when an element first said that it cannot go on; 0: none did */
    atomic_int gop_frames;
    atomic_int in_width, in_height; /* of the decoded pictures */
    atomic_llong gop_ns;
    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t stopped;
    bool is_stopped;
    char codec[16], decoder_name[32];
    char refused[192];   /* streams that could not be used */
    char complaint[200]; /* what it said */
    char connect[160];   /* why the connection failed: GStreamer's message says only that it did */
    struct decoder *decoder;
    GstElement *decode; /* borrowed from the pipeline; NULL for raw sources */

    /* streaming thread of the decoder's input only */
    int since_key;
    int64_t last_key_ns;
    /* streaming thread of the decoder's output only */
    GstClockTime due, last_pts;
    int64_t last_clean_ns;
};

/*
 * GStreamer's own locks hand a built source to its threads, by futexes that ThreadSanitizer cannot see; under it this says so. Nothing else is
 * told: what changes after open is atomic, under g->lock or of one streaming thread (whose lock is a pthread one), and all that stays watched.
 */
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#define GSRC_HAND_OVER(g) __tsan_release(g)
#define GSRC_TAKE_OVER(g) __tsan_acquire(g)
#else
#define GSRC_HAND_OVER(g) ((void)0)
#define GSRC_TAKE_OVER(g) ((void)0)
#endif

/* Start GStreamer, once per process. Errors: ERR_UNSUPPORTED. */
int gsrc_need(struct err *err);

/* Build the pipeline of `settings` into a zeroed g whose locks and copied settings are set. On failure g can be closed. */
int gsrc_build(struct gsrc *g, const struct source_settings *settings, struct err *err);

#endif
