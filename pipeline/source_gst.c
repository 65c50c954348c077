/*
 * source_gst - file:, rtsp:, v4l2: and gst: sources. The home of GStreamer.
 *
 * One pipeline per attempt, built piece by piece and thrown away whole:
 *
 *   filesrc ! parsebin            \
 *   rtspsrc ! depay ! parse        > decoder ! (rate cap) ! videoconvertscale ! RGB, fitted size ! appsink
 *   v4l2src [! parse]             /
 *   the user's description, raw pictures up to here
 *
 * parsebin serves files only: it finds container and parser by content, and it never chooses a decoder, so what decodes is still
 * our own ordered list (decoder.h). Nothing that faces a camera is chosen by GStreamer's ranks.
 *
 * The rate cap is a probe behind the decoder: pictures beyond the wanted rate are dropped before conversion and scaling, which cost
 * more than decoding. It works by time stamps, so that rates below one per second are possible.
 *
 * Threads: open, wait, fill, get_info and close by the supervisor. Probes and the pad signals run on GStreamer's threads; they write only
 * what is marked so in struct gsrc. There is no GLib main loop: wait polls the bus. Teardown can block inside drivers, so a helper
 * thread does it, and the supervisor waits for a bounded time only.
 */
#include <gst/app/gstappsink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "pipeline/frame.h"
#include "pipeline/source_gst.h"

#define STALE_STAMP_NS (60 * CLOCK_S)
#define POLL_NS        (20 * CLOCK_MS)
#define COMPLAINT_NS   (1 * CLOCK_S)
#define LOOP_MIN_NS    (500 * CLOCK_MS) /* a clip of one picture must not begin again as fast as the machine can */

static atomic_uint gsrc_left_behind;

/* ---- messages ------------------------------------------------------------------------------------------------------------- */

/* "message (detail)" on one line: the detail is the last line of GStreamer's debug text, which holds the true cause. */
static void gsrc_message_text(const GError *error, const char *debug, char *out, size_t cap)
{
    const char *detail = debug ? strrchr(debug, '\n') : NULL;
    detail = detail ? detail + 1 : "";
    const char *paren = strstr(detail, "(): ") ? NULL : detail;
    snprintf(out, cap, "%s%s%.160s%s", error->message, paren && *paren ? " (" : "", paren ? paren : "",
             paren && *paren ? ")" : "");
    for (char *c = out; *c; c++)
        if (*c == '\n' || *c == '\r')
            *c = ' ';
    log_redact(out);
}

static int gsrc_error_code(const GError *error)
{
    if (error->domain == GST_RESOURCE_ERROR)
        return error->code == GST_RESOURCE_ERROR_NOT_FOUND ? ERR_NOT_FOUND : ERR_IO;
    if (error->domain == GST_STREAM_ERROR)
        switch (error->code) {
        case GST_STREAM_ERROR_CODEC_NOT_FOUND:
        case GST_STREAM_ERROR_TYPE_NOT_FOUND:
        case GST_STREAM_ERROR_WRONG_TYPE: return ERR_UNSUPPORTED;
        default: return ERR_FORMAT;
        }
    return ERR_IO;
}

/* The decoder gave nothing: another one next time, unless it is a proven one or the last. */
static enum source_event gsrc_decoder_failed(struct gsrc *g, const char *how, struct err *err)
{
    pthread_mutex_lock(&g->lock);
    struct decoder *d = g->decoder;
    char name[32];
    memcpy(name, g->decoder_name, sizeof name);
    pthread_mutex_unlock(&g->lock);
    bool is_bad = decoder_mark_bad(d);
    err_set(err, ERR_UNSUPPORTED, "%s: decoder %s %s", g->what, name, how);
    return is_bad ? SOURCE_AGAIN : SOURCE_FAULT;
}

static enum source_event gsrc_on_error(struct gsrc *g, GstMessage *message, struct err *err)
{
    GError *error = NULL;
    char *debug = NULL, text[400];
    gst_message_parse_error(message, &error, &debug);
    gsrc_message_text(error, debug, text, sizeof text);
    int code = gsrc_error_code(error);
    bool is_auth = g_error_matches(error, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_AUTHORIZED);
    g_error_free(error);
    g_free(debug);
    pthread_mutex_lock(&g->lock);
    GstElement *decode = g->decode;
    char refused[sizeof g->refused], connect[sizeof g->connect];
    memcpy(refused, g->refused, sizeof refused);
    memcpy(connect, g->connect, sizeof connect);
    pthread_mutex_unlock(&g->lock);
    GstObject *from = GST_MESSAGE_SRC(message);
    bool is_decoder = decode && from && (from == GST_OBJECT(decode) || gst_object_has_as_ancestor(from, GST_OBJECT(decode)));
    if (is_decoder && atomic_load(&g->pictures) == 0)
        return gsrc_decoder_failed(g, text, err);
    if (!atomic_load(&g->is_linked) && refused[0])
        err_set(err, ERR_UNSUPPORTED, "%s: no video that Heron can decode (found: %s)", g->what, refused);
    else if (connect[0] && !is_auth)
        err_set(err, ERR_IO, "%s: cannot connect: %s", g->what, connect);
    else if (!atomic_load(&g->is_linked) && g->kind == URL_FILE && code == ERR_FORMAT)
        err_set(err, code, "%s: damaged or cut short: %s", g->what, text); /* a container was recognised, and nothing in it */
    else
        err_set(err, code, "%s: %s", g->what, text);
    return is_auth ? SOURCE_AUTH : SOURCE_FAULT;
}

static enum source_event gsrc_on_eos(struct gsrc *g, struct err *err)
{
    if (g->kind == URL_FILE && atomic_load(&g->pictures)) {
        if (g->is_once)
            return SOURCE_END;
        int64_t now = clock_now_ns();
        g->is_end_held = !g->is_fast && now < g->loop_ns + LOOP_MIN_NS;
        if (g->is_end_held)
            return SOURCE_NONE;
        g->loop_ns = now;
        /* Back to the start in the same pipeline; a file that cannot seek is opened anew. */
        if (gst_element_seek_simple(g->pipeline, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_KEY_UNIT, 0))
            return SOURCE_NONE;
        err_set(err, ERR_FORMAT, "%s: cannot seek, starting anew", g->what);
        return SOURCE_AGAIN;
    }
    pthread_mutex_lock(&g->lock);
    char refused[sizeof g->refused];
    memcpy(refused, g->refused, sizeof refused);
    pthread_mutex_unlock(&g->lock);
    if (refused[0] && !atomic_load(&g->is_linked))
        err_set(err, ERR_UNSUPPORTED, "%s: no video that Heron can decode (found: %s)", g->what, refused);
    else if (g->kind == URL_FILE)
        err_set(err, ERR_FORMAT, "%s: ended without a picture", g->what);
    else
        err_set(err, ERR_IO, "%s: the stream ended%s%s", g->what, g->has_warning ? ": " : "", g->warning);
    return SOURCE_FAULT;
}

/*
 * An element gave up, and its message did not come through: parsebin swallows errors of an element that fails while it is being plugged in,
 * and then waits for ever. A race: seen with MP4 files without an index in a process that had played others, not in sixty fresh ones.
 */
static enum source_event gsrc_on_lost_error(struct gsrc *g, struct err *err)
{
    pthread_mutex_lock(&g->lock);
    err_set(err, ERR_FORMAT, "%s: damaged or cut short: %s", g->what, g->complaint);
    pthread_mutex_unlock(&g->lock);
    return SOURCE_FAULT;
}

/* Look at everything on the bus. SOURCE_NONE: nothing that ends the attempt. */
static enum source_event gsrc_poll_bus(struct gsrc *g, struct err *err)
{
    enum source_event event = SOURCE_NONE;
    GstMessage *m;
    while (event == SOURCE_NONE && (m = gst_bus_pop(g->bus))) {
        switch (GST_MESSAGE_TYPE(m)) {
        case GST_MESSAGE_ERROR: event = gsrc_on_error(g, m, err); break;
        case GST_MESSAGE_EOS: event = gsrc_on_eos(g, err); break;
        case GST_MESSAGE_WARNING: {
            GError *error = NULL;
            char *debug = NULL;
            gst_message_parse_warning(m, &error, &debug);
            gsrc_message_text(error, debug, g->warning, sizeof g->warning);
            g->has_warning = true;
            g_error_free(error);
            g_free(debug);
            break;
        }
        case GST_MESSAGE_ELEMENT:
            if (gst_message_has_name(m, "GstRTSPSrcTimeout")) {
                err_set(err, ERR_TIMEOUT, "%s: the camera no longer answers", g->what);
                event = SOURCE_FAULT;
            }
            break;
        default: break;
        }
        gst_message_unref(m);
    }
    return event;
}

/* ---- the source's life ---------------------------------------------------------------------------------------------------- */

static void gsrc_leave(struct gsrc *g)
{
    if (atomic_fetch_sub(&g->users, 1) != 1)
        return;
    gst_caps_replace(&g->info_caps, NULL);
    pthread_cond_destroy(&g->stopped);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

static void *gsrc_stop(void *arg)
{
    struct gsrc *g = arg;
    gst_element_set_state(g->pipeline, GST_STATE_NULL);
    gst_bus_set_flushing(g->bus, TRUE);
    gst_object_unref(g->bus);
    gst_object_unref(g->pipeline);
    pthread_mutex_lock(&g->lock);
    g->is_stopped = true;
    pthread_cond_broadcast(&g->stopped);
    pthread_mutex_unlock(&g->lock);
    gsrc_leave(g);
    return NULL;
}

static bool gsrc_close(struct source *source)
{
    struct gsrc *g = (struct gsrc *)source;
    if (!g)
        return true;
    g_clear_pointer(&g->sample, gst_sample_unref);
    bool is_stopped = true;
    if (g->pipeline) {
        pthread_attr_t attr;
        pthread_t thread;
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        atomic_fetch_add(&g->users, 1);
        const int64_t until_ns = clock_system_ns() + g->timing.teardown_ns;
        if (pthread_create(&thread, &attr, gsrc_stop, g) != 0)
            gsrc_stop(g); /* no thread to be had: better late than never */
        pthread_attr_destroy(&attr);
        pthread_mutex_lock(&g->lock);
        while (!g->is_stopped && clock_cond_wait_until(&g->stopped, &g->lock, until_ns))
            ;
        is_stopped = g->is_stopped;
        pthread_mutex_unlock(&g->lock);
        if (!is_stopped)
            atomic_fetch_add(&gsrc_left_behind, 1);
    }
    gsrc_leave(g);
    return is_stopped;
}

uint32_t source_gst_leaked(void)
{
    return atomic_load(&gsrc_left_behind);
}

/* Play; a failure's cause is on the bus. */
static int gsrc_play(struct gsrc *g, struct err *err)
{
    GSRC_HAND_OVER(g);
    GstStateChangeReturn rc = gst_element_set_state(g->pipeline, GST_STATE_PAUSED);
    /* A description that is not live must be paced, or it would run as fast as it can. */
    if (g->kind == URL_GST && rc != GST_STATE_CHANGE_NO_PREROLL)
        g_object_set(g->sink, "sync", TRUE, NULL);
    if (rc != GST_STATE_CHANGE_FAILURE)
        rc = gst_element_set_state(g->pipeline, GST_STATE_PLAYING);
    if (rc != GST_STATE_CHANGE_FAILURE)
        return 0;
    struct err cause = {0};
    gsrc_poll_bus(g, &cause);
    return cause.code ? err_set(err, cause.code, "%s", cause.text)
                      : err_set(err, ERR_IO, "%s: the pipeline does not start", g->what);
}

/* The place for errors. Of a network camera host and port only: many put the password into the path. */
static void gsrc_name(struct gsrc *g, const struct url *url)
{
    const char *left = strchr(url->host, ':') ? "[" : "", *right = *left ? "]" : "";
    switch (url->kind) {
    case URL_FILE: snprintf(g->what, sizeof g->what, "file: %.150s", url->location); break;
    case URL_V4L2: snprintf(g->what, sizeof g->what, "v4l2: %.150s", url->location); break;
    case URL_RTSP: snprintf(g->what, sizeof g->what, "rtsp: %s%.140s%s:%d", left, url->host, right, url->port); break;
    default: snprintf(g->what, sizeof g->what, "gst"); break;
    }
}

static int gsrc_open(const struct source_settings *settings, struct source **ret_source, struct err *err)
{
    int rc = gsrc_need(err);
    if (rc)
        return rc;
    struct gsrc *g = calloc(1, sizeof *g);
    if (!g)
        return err_set(err, ERR_NOMEM, "no memory for a source");
    const struct url *url = settings->url;
    atomic_init(&g->users, 1);
    g->kind = url->kind;
    gsrc_name(g, url);
    g->is_once = url->is_once;
    g->is_fast = url->is_fast;
    g->max_pixels = settings->max_pixels;
    g->min_interval_ns = settings->max_fps > 0 ? (int64_t)(1e9 / settings->max_fps) : 0;
    g->timing = settings->timing;
    g->loop_ns = clock_now_ns();
    g->last_pts = GST_CLOCK_TIME_NONE;
    pthread_mutex_init(&g->lock, NULL);
    clock_cond_init(&g->stopped);
    rc = gsrc_build(g, settings, err);
    if (!rc)
        rc = gsrc_play(g, err);
    if (rc) {
        gsrc_close((struct source *)g);
        return rc;
    }
    *ret_source = (struct source *)g;
    return 0;
}

static enum source_event gsrc_wait(struct source *source, int64_t until_ns, struct err *err)
{
    struct gsrc *g = (struct gsrc *)source;
    g_clear_pointer(&g->sample, gst_sample_unref);
    for (;;) {
        enum source_event event = gsrc_poll_bus(g, err);
        if (event == SOURCE_NONE && g->is_end_held)
            event = gsrc_on_eos(g, err);
        if (event != SOURCE_NONE)
            return event;
        if (atomic_load(&g->is_size_changed)) {
            err_set(err, ERR_FORMAT, "%s: the picture's size changed, starting anew", g->what);
            return SOURCE_AGAIN;
        }
        int64_t now = clock_now_ns(), first_key_ns = atomic_load(&g->first_key_ns);
        if (first_key_ns && !atomic_load(&g->pictures) && now - first_key_ns > g->timing.decoder_trial_ns) {
            char how[64];
            snprintf(how, sizeof how, "gave no picture for %.1f s", (double)g->timing.decoder_trial_ns / 1e9);
            return gsrc_decoder_failed(g, how, err);
        }
        int64_t complaint_ns = atomic_load(&g->complaint_ns);
        if (complaint_ns && g->kind == URL_FILE && !atomic_load(&g->is_linked) && now - complaint_ns > COMPLAINT_NS)
            return gsrc_on_lost_error(g, err);
        if (now >= until_ns)
            return SOURCE_NONE;
        int64_t step = until_ns - now < POLL_NS ? until_ns - now : POLL_NS;
        g->sample = gst_app_sink_try_pull_sample(GST_APP_SINK(g->sink), (GstClockTime)step);
        if (g->sample) {
            pthread_mutex_lock(&g->lock);
            struct decoder *d = g->decoder;
            pthread_mutex_unlock(&g->lock);
            if (d)
                decoder_mark_good(d);
            return SOURCE_FRAME;
        }
        if (gst_app_sink_is_eos(GST_APP_SINK(g->sink)))
            clock_sleep_until_ns(now + step); /* the message that says so is on its way */
    }
}

/* When the picture was taken, by our clock. */
static int64_t gsrc_capture_ns(struct gsrc *g, GstBuffer *buffer)
{
    int64_t now = clock_now_ns();
    const GstSegment *segment = gst_sample_get_segment(g->sample);
    GstClockTime base = gst_element_get_base_time(g->pipeline), running = GST_CLOCK_TIME_NONE;
    if (segment && segment->format == GST_FORMAT_TIME && GST_BUFFER_PTS_IS_VALID(buffer))
        running = gst_segment_to_running_time(segment, GST_FORMAT_TIME, GST_BUFFER_PTS(buffer));
    if (!GST_CLOCK_TIME_IS_VALID(running) || !GST_CLOCK_TIME_IS_VALID(base))
        return now;
    int64_t at = (int64_t)(base + running);
    return at > now || at < now - STALE_STAMP_NS ? now : at;
}

static int gsrc_fill(struct source *source, struct pl_frame *frame, struct err *err)
{
    struct gsrc *g = (struct gsrc *)source;
    GstBuffer *buffer = gst_sample_get_buffer(g->sample);
    GstCaps *caps = gst_sample_get_caps(g->sample);
    if (caps && caps != g->info_caps) {
        if (!gst_video_info_from_caps(&g->info, caps))
            return err_set(err, ERR_FORMAT, "%s: pictures of an unknown kind", g->what);
        gst_caps_replace(&g->info_caps, caps);
    }
    int w = GST_VIDEO_INFO_WIDTH(&g->info), h = GST_VIDEO_INFO_HEIGHT(&g->info);
    if (!buffer || !g->info_caps || w < 1 || h < 1 || (int64_t)w * h > g->max_pixels)
        return err_set(err, ERR_FORMAT, "%s: a picture of %dx%d came, more than %lld pixels", g->what, w, h,
                       (long long)g->max_pixels);
    GstVideoFrame video;
    if (!gst_video_frame_map(&video, &g->info, buffer, GST_MAP_READ))
        return err_set(err, ERR_FORMAT, "%s: a picture cannot be mapped", g->what);
    uint8_t *out = frame_set_size(frame, w, h);
    const uint8_t *in = GST_VIDEO_FRAME_PLANE_DATA(&video, 0);
    int stride = GST_VIDEO_FRAME_PLANE_STRIDE(&video, 0);
    for (int y = 0; y < h; y++)
        memcpy(out + (size_t)y * (size_t)w * 3, in + (ptrdiff_t)y * stride, (size_t)w * 3);
    gst_video_frame_unmap(&video);
    frame->capture_ns = gsrc_capture_ns(g, buffer);
    frame->capture_wall_ns = clock_wall_ns_of(frame->capture_ns);
    return 0;
}

static void gsrc_get_info(struct source *source, struct source_info *ret_info)
{
    struct gsrc *g = (struct gsrc *)source;
    struct source_info info = {
        .decode_errors = atomic_load(&g->corrupt) + atomic_load(&g->failed),
        .picture_ns = atomic_load(&g->picture_ns),
        .interval_ns = atomic_load(&g->interval_ns),
        .width_px = atomic_load(&g->in_width),
        .height_px = atomic_load(&g->in_height),
        .coded_frames = atomic_load(&g->coded),
        .key_frames = atomic_load(&g->keys),
        .gop_frames = atomic_load(&g->gop_frames),
        .gop_ns = atomic_load(&g->gop_ns),
    };
    pthread_mutex_lock(&g->lock);
    memcpy(info.codec, g->codec, sizeof info.codec);
    memcpy(info.decoder, g->decoder_name, sizeof info.decoder);
    pthread_mutex_unlock(&g->lock);
    *ret_info = info;
}

#define GST_OPS(name_, is_live_)                                                                                               \
    {                                                                                                                          \
        .name = (name_), .is_live = (is_live_), .open = gsrc_open, .wait = gsrc_wait, .fill = gsrc_fill,                       \
        .get_info = gsrc_get_info, .close = gsrc_close,                                                                        \
    }

const struct source_ops source_gst_ops = GST_OPS("gst", true);
const struct source_ops source_gst_file_ops = GST_OPS("file", false);
