/*
 * source_gst_build - pipelines put together: decoders, probes, one head per kind of source, the tail they share.
 *
 * See source_gst.c for the shape. Probes and pad signals run on GStreamer's threads and write only what struct gsrc marks as theirs.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "pipeline/frame.h"
#include "pipeline/source_gst.h"
#include "pipeline/v4l2.h"

#define CORRUPT_GRACE_NS (2 * CLOCK_S)

struct codec {
    const char *name;
    const char *media;    /* caps name of the coded stream */
    const char *encoding; /* of RTP */
    const char *depay, *parse;
};

static const struct codec gsrc_codecs[] = {
    {"h264", "video/x-h264", "H264", "rtph264depay", "h264parse"},
    {"h265", "video/x-h265", "H265", "rtph265depay", "h265parse"},
    {"mjpeg", "image/jpeg", "JPEG", "rtpjpegdepay", "jpegparse"},
};

#define N_CODECS (sizeof gsrc_codecs / sizeof gsrc_codecs[0])

static pthread_once_t gsrc_once = PTHREAD_ONCE_INIT;
static char gsrc_init_error[200];
static GQuark gsrc_quark;

/* ---- start of the library ------------------------------------------------------------------------------------------------- */

/*
 * libavcodec conceals most damage and tells of it only in its log. With one decoding thread that log is written on the streaming thread,
 * between the coded frame's probe and the picture's: that is how a complaint finds its picture.
 */
static _Thread_local int gsrc_complaints;

/* Why the last connection of this thread failed: GStreamer logs it without saying whose it was. */
static _Thread_local char gsrc_connect_failure[160];

/* The source that an element belongs to, or NULL: the decoder, the bin around it or the pipeline carries the mark. */
static struct gsrc *gsrc_of(GObject *object)
{
    for (GstObject *o = object && GST_IS_OBJECT(object) ? GST_OBJECT(object) : NULL; o; o = GST_OBJECT_PARENT(o)) {
        struct gsrc *g = g_object_get_qdata(G_OBJECT(o), gsrc_quark);
        if (g)
            return g;
    }
    return NULL;
}

/* The texts that say more than the message on the bus, or that never become one. */
static void gsrc_note_complaint(GObject *object, const char *text)
{
    static const char connect[] = "failed to connect: ", error[] = "error: ";
    if (!object && strncmp(text, connect, sizeof connect - 1) == 0) {
        snprintf(gsrc_connect_failure, sizeof gsrc_connect_failure, "%.150s", text + sizeof connect - 1);
        return;
    }
    const bool is_connect = gsrc_connect_failure[0] && strncmp(text, "Could not connect", 17) == 0;
    const bool is_error = strncmp(text, error, sizeof error - 1) == 0;
    struct gsrc *g = is_connect || is_error ? gsrc_of(object) : NULL;
    if (!g)
        return;
    GSRC_TAKE_OVER(g);
    if (is_error && GST_IS_VIDEO_DECODER(object))
        atomic_fetch_add(&g->failed, 1);
    pthread_mutex_lock(&g->lock);
    if (is_connect) {
        snprintf(g->connect, sizeof g->connect, "%s", gsrc_connect_failure);
        gsrc_connect_failure[0] = 0;
    } else if (!g->complaint[0]) {
        snprintf(g->complaint, sizeof g->complaint, "%.190s", text + sizeof error - 1);
    }
    pthread_mutex_unlock(&g->lock);
    long long none = 0;
    if (is_error && !GST_IS_VIDEO_DECODER(object))
        atomic_compare_exchange_strong(&g->complaint_ns, &none, clock_now_ns());
}

/* GStreamer's log goes to ours, at debug. A decoder that complains about its input is counted. */
static void gsrc_log(GstDebugCategory *category, GstDebugLevel level, const gchar *file, const gchar *function, gint line,
                     GObject *object, GstDebugMessage *message, gpointer data)
{
    if (level > GST_LEVEL_WARNING)
        return;
    const char *text = gst_debug_message_get(message);
    if (level == GST_LEVEL_ERROR && strcmp(gst_debug_category_get_name(category), "libav") == 0)
        gsrc_complaints++;
    if (text)
        gsrc_note_complaint(object, text);
    log_debug("gstreamer category=%s %s", gst_debug_category_get_name(category), text ? text : "");
}

static void gsrc_glib_log(const gchar *domain, GLogLevelFlags level, const gchar *message, gpointer data)
{
    log_debug("glib domain=%s %s", domain ? domain : "-", message);
}

static void gsrc_start(void)
{
    GError *error = NULL;
    if (!gst_init_check(NULL, NULL, &error)) {
        snprintf(gsrc_init_error, sizeof gsrc_init_error, "GStreamer does not start: %s", error ? error->message : "no reason");
        g_clear_error(&error);
        return;
    }
    gsrc_quark = g_quark_from_static_string("heron-source");
    /* Whoever sets GST_DEBUG wants GStreamer's own log where it always is. */
    gst_debug_add_log_function(gsrc_log, NULL, NULL);
    if (!getenv("GST_DEBUG")) {
        gst_debug_remove_log_function(gst_debug_log_default);
        gst_debug_set_default_threshold(GST_LEVEL_WARNING);
        g_log_set_default_handler(gsrc_glib_log, NULL);
    }
}

int gsrc_need(struct err *err)
{
    pthread_once(&gsrc_once, gsrc_start);
    return gsrc_init_error[0] ? err_set(err, ERR_UNSUPPORTED, "%s", gsrc_init_error) : 0;
}

/* ---- what was refused ------------------------------------------------------------------------------------------------------- */

static void gsrc_note_refused(struct gsrc *g, const char *what)
{
    pthread_mutex_lock(&g->lock);
    size_t used = strlen(g->refused);
    if (!strstr(g->refused, what))
        snprintf(g->refused + used, sizeof g->refused - used, "%s%s", used ? ", " : "", what);
    pthread_mutex_unlock(&g->lock);
}

/* Say from a streaming thread what is wrong: through the bus, like every other fault. */
static void gsrc_post_error(struct gsrc *g, const struct err *err)
{
    GError *error = g_error_new_literal(GST_STREAM_ERROR, GST_STREAM_ERROR_CODEC_NOT_FOUND, err->text);
    gst_element_post_message(g->pipeline, gst_message_new_error(GST_OBJECT(g->pipeline), error, NULL));
    g_error_free(error);
}

/* ---- probes ------------------------------------------------------------------------------------------------------------------ */

/* Coded frames on their way into the decoder. */
static GstPadProbeReturn gsrc_probe_coded(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
    struct gsrc *g = data;
    GSRC_TAKE_OVER(g);
    GstBuffer *buffer = GST_PAD_PROBE_INFO_BUFFER(info);
    int64_t now = clock_now_ns();
    /* A complaint that no picture answered for: the frame before this one was lost altogether. */
    if (atomic_fetch_add(&g->coded, 1) > 0 && gsrc_complaints)
        atomic_fetch_add(&g->failed, 1);
    gsrc_complaints = 0;
    g->since_key++;
    if (GST_BUFFER_FLAG_IS_SET(buffer, GST_BUFFER_FLAG_DELTA_UNIT))
        return GST_PAD_PROBE_OK;
    int64_t at_ns = GST_BUFFER_PTS_IS_VALID(buffer) ? (int64_t)GST_BUFFER_PTS(buffer) : now;
    if (atomic_fetch_add(&g->keys, 1) > 0 && g->since_key > atomic_load(&g->gop_frames) && at_ns > g->last_key_ns) {
        atomic_store(&g->gop_frames, g->since_key);
        atomic_store(&g->gop_ns, at_ns - g->last_key_ns);
    }
    g->since_key = 0;
    g->last_key_ns = at_ns;
    long long none = 0;
    atomic_compare_exchange_strong(&g->first_key_ns, &none, now);
    return GST_PAD_PROBE_OK;
}

/* The size of the incoming pictures is known: ask for the fitted one. */
static void gsrc_fit_caps(struct gsrc *g, GstCaps *caps)
{
    GstVideoInfo in;
    if (!gst_video_info_from_caps(&in, caps))
        return;
    int w = GST_VIDEO_INFO_WIDTH(&in), h = GST_VIDEO_INFO_HEIGHT(&in);
    int width_before = atomic_load(&g->in_width);
    if (width_before && (w != width_before || h != atomic_load(&g->in_height))) {
        /* Changing size inside a running decoder is fragile; the supervisor builds a new pipeline. */
        atomic_store(&g->is_size_changed, true);
        return;
    }
    atomic_store(&g->in_width, w);
    atomic_store(&g->in_height, h);
    int par_n = GST_VIDEO_INFO_PAR_N(&in), par_d = GST_VIDEO_INFO_PAR_D(&in);
    double square = par_n > 0 && par_d > 0 ? (double)w * par_n / par_d : w;
    if (!(square >= 1 && square <= 65535))
        square = w;
    int fit_w, fit_h;
    frame_fit(g->max_pixels, (int)(square + 0.5), h, &fit_w, &fit_h);
    GstCaps *wanted = gst_caps_new_simple("video/x-raw", "format", G_TYPE_STRING, "RGB", "width", G_TYPE_INT, fit_w, "height",
                                          G_TYPE_INT, fit_h, "pixel-aspect-ratio", GST_TYPE_FRACTION, 1, 1, NULL);
    g_object_set(g->fit, "caps", wanted, NULL);
    gst_caps_unref(wanted);
}

/* Whether the rate cap lets this picture through. */
static bool gsrc_is_due(struct gsrc *g, GstClockTime pts)
{
    GstClockTime period = (GstClockTime)g->min_interval_ns, slack = period / 16;
    if (!period || !GST_CLOCK_TIME_IS_VALID(pts))
        return true;
    bool is_restarted = !GST_CLOCK_TIME_IS_VALID(g->last_pts) || pts < g->last_pts;
    g->last_pts = pts;
    if (!is_restarted && pts + slack < g->due)
        return false;
    /* Keep the beat while it is kept; a gap or a new start begins a new one. */
    g->due = is_restarted || pts > g->due + period ? pts + period : g->due + period;
    return true;
}

/* Decoded pictures, and the events between them. */
static GstPadProbeReturn gsrc_probe_picture(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
    struct gsrc *g = data;
    GSRC_TAKE_OVER(g);
    if (GST_PAD_PROBE_INFO_TYPE(info) & GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM) {
        GstEvent *event = GST_PAD_PROBE_INFO_EVENT(info);
        if (GST_EVENT_TYPE(event) == GST_EVENT_CAPS) {
            GstCaps *caps = NULL;
            gst_event_parse_caps(event, &caps);
            gsrc_fit_caps(g, caps);
        }
        return GST_PAD_PROBE_OK;
    }
    GstBuffer *buffer = GST_PAD_PROBE_INFO_BUFFER(info);
    int64_t now = clock_now_ns(), before = atomic_load(&g->picture_ns);
    if (atomic_load(&g->is_size_changed))
        return GST_PAD_PROBE_DROP;
    if (g->kind == URL_FILE && !g->is_fast && !GST_BUFFER_PTS_IS_VALID(buffer)) {
        struct err err = {0};
        err_set(&err, ERR_UNSUPPORTED, "its pictures have no time stamps: put them into MP4 or Matroska, or add ?pace=fast");
        if (!atomic_exchange(&g->is_unstamped, true))
            gsrc_post_error(g, &err);
        return GST_PAD_PROBE_DROP;
    }
    bool is_damaged = gsrc_complaints || GST_BUFFER_FLAG_IS_SET(buffer, GST_BUFFER_FLAG_CORRUPTED);
    gsrc_complaints = 0;
    if (is_damaged) {
        /* A smeared picture is worse than none. But some streams never have a clean one (no key frames, gradual refresh). */
        atomic_fetch_add(&g->corrupt, 1);
        if (!g->last_clean_ns)
            g->last_clean_ns = now;
        if (now - g->last_clean_ns < CORRUPT_GRACE_NS)
            return GST_PAD_PROBE_DROP;
    } else {
        g->last_clean_ns = now;
    }
    if (before) {
        int64_t interval = atomic_load(&g->interval_ns), step = now - before;
        atomic_store(&g->interval_ns, interval ? interval + (step - interval) / 8 : step);
    }
    atomic_store(&g->picture_ns, now);
    atomic_fetch_add(&g->pictures, 1);
    return gsrc_is_due(g, GST_BUFFER_PTS(buffer)) ? GST_PAD_PROBE_OK : GST_PAD_PROBE_DROP;
}

static void gsrc_add_probe(GstElement *element, const char *pad_name, GstPadProbeType type, GstPadProbeCallback probe,
                           struct gsrc *g)
{
    GstPad *pad = gst_element_get_static_pad(element, pad_name);
    if (!pad)
        return;
    gst_pad_add_probe(pad, type, probe, g, NULL);
    gst_object_unref(pad);
}

#define PROBE_PICTURES (GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM)

/* ---- building ------------------------------------------------------------------------------------------------------------- */

/* A named element in the pipeline; err says which plugin to look for. */
static int gsrc_make(struct gsrc *g, const char *factory, GstElement **ret_element, struct err *err)
{
    GstElement *e = gst_element_factory_make(factory, NULL);
    if (!e)
        return err_set(err, ERR_UNSUPPORTED, "GStreamer element %s is missing (heron doctor names the package)", factory);
    gst_bin_add(GST_BIN(g->pipeline), e);
    *ret_element = e;
    return 0;
}

static GstElement *gsrc_parse_bin(const char *description, GError **ret_error)
{
    GstParseFlags flags = GST_PARSE_FLAG_FATAL_ERRORS | GST_PARSE_FLAG_NO_SINGLE_ELEMENT_BINS;
    GstElement *bin = gst_parse_bin_from_description_full(description, TRUE, NULL, flags, ret_error);
    if (bin)
        gst_object_ref_sink(bin);
    return bin;
}

/* Choose and create a decoder between `parse` and the tail; goes down the list past those that are not installed or do not fit. */
static int gsrc_make_decoder(struct gsrc *g, const struct codec *codec, GstElement *parse, GstElement **ret_element,
                             struct err *err)
{
    struct decoder *d;
    while ((d = decoder_pick(codec->name))) {
        GstElement *e = gsrc_parse_bin(decoder_launch(d), NULL);
        bool is_fit = false;
        if (e) {
            gst_bin_add(GST_BIN(g->pipeline), e); /* takes a reference of its own */
            gst_object_unref(e);
            is_fit = gst_element_link_many(parse, e, g->convert, NULL);
        }
        if (!is_fit) {
            if (e)
                gst_bin_remove(GST_BIN(g->pipeline), e);
            decoder_mark_missing(d);
            continue;
        }
        pthread_mutex_lock(&g->lock);
        g->decode = e;
        g->decoder = d;
        snprintf(g->codec, sizeof g->codec, "%s", codec->name);
        snprintf(g->decoder_name, sizeof g->decoder_name, "%.*s", (int)strcspn(decoder_launch(d), " "), decoder_launch(d));
        pthread_mutex_unlock(&g->lock);
        *ret_element = e;
        return 0;
    }
    return err_set(err, ERR_UNSUPPORTED, "no decoder left for %s: every one known is missing or gave no picture", codec->name);
}

/* Link pad -> [depay] -> parse -> decoder -> convert, and bring them to the pipeline's state. */
static int gsrc_link_coded(struct gsrc *g, GstPad *pad, const struct codec *codec, bool is_rtp, struct err *err)
{
    GstElement *depay = NULL, *parse = NULL, *decode = NULL;
    int rc = is_rtp ? gsrc_make(g, codec->depay, &depay, err) : 0;
    if (!rc)
        rc = gsrc_make(g, codec->parse, &parse, err);
    if (!rc && depay && !gst_element_link(depay, parse))
        rc = err_set(err, ERR_UNSUPPORTED, "%s does not fit %s", codec->depay, codec->parse);
    if (!rc)
        rc = gsrc_make_decoder(g, codec, parse, &decode, err);
    if (rc)
        return rc;
    if (strcmp(codec->name, "mjpeg") != 0)
        g_object_set(parse, "config-interval", -1, NULL); /* a decoder that joins late gets the headers again */
    gsrc_add_probe(decode, "sink", GST_PAD_PROBE_TYPE_BUFFER, gsrc_probe_coded, g);
    gsrc_add_probe(decode, "src", PROBE_PICTURES, gsrc_probe_picture, g);
    gst_element_sync_state_with_parent(decode);
    gst_element_sync_state_with_parent(parse);
    if (depay)
        gst_element_sync_state_with_parent(depay);
    GstPad *in = gst_element_get_static_pad(depay ? depay : parse, "sink");
    GstPadLinkReturn linked = gst_pad_link(pad, in);
    gst_object_unref(in);
    if (linked != GST_PAD_LINK_OK)
        return err_set(err, ERR_UNSUPPORTED, "%s stream cannot be linked (%s)", codec->name, gst_pad_link_get_name(linked));
    return 0;
}

/* Link pad -> convert for pictures that need no decoding. */
static int gsrc_link_raw(struct gsrc *g, GstPad *pad, struct err *err)
{
    pthread_mutex_lock(&g->lock);
    snprintf(g->codec, sizeof g->codec, "raw");
    pthread_mutex_unlock(&g->lock);
    gst_pad_add_probe(pad, PROBE_PICTURES, gsrc_probe_picture, g, NULL);
    GstPad *in = gst_element_get_static_pad(g->convert, "sink");
    GstPadLinkReturn linked = gst_pad_link(pad, in);
    gst_object_unref(in);
    if (linked != GST_PAD_LINK_OK)
        return err_set(err, ERR_UNSUPPORTED, "pictures cannot be linked (%s)", gst_pad_link_get_name(linked));
    return 0;
}

/* parsebin or rtspsrc found a stream. Runs on a GStreamer thread. */
static void gsrc_on_pad(GstElement *element, GstPad *pad, gpointer data)
{
    struct gsrc *g = data;
    GSRC_TAKE_OVER(g);
    bool is_rtp = g->kind == URL_RTSP;
    GstCaps *caps = gst_pad_get_current_caps(pad);
    if (!caps)
        caps = gst_pad_query_caps(pad, NULL);
    const GstStructure *s = gst_caps_is_empty(caps) || gst_caps_is_any(caps) ? NULL : gst_caps_get_structure(caps, 0);
    const char *media = s ? gst_structure_get_name(s) : "unknown";
    const char *encoding = s && is_rtp ? gst_structure_get_string(s, "encoding-name") : NULL;
    const struct codec *codec = NULL;
    for (size_t i = 0; i < N_CODECS; i++)
        if (is_rtp ? encoding && g_ascii_strcasecmp(encoding, gsrc_codecs[i].encoding) == 0
                   : strcmp(media, gsrc_codecs[i].media) == 0)
            codec = &gsrc_codecs[i];
    bool is_raw = strcmp(media, "video/x-raw") == 0, is_first = false;
    if (!codec && !is_raw)
        gsrc_note_refused(g, encoding ? encoding : media);
    else
        is_first = !atomic_exchange(&g->is_linked, true);
    if (is_first) {
        struct err err = {0};
        if (is_raw ? gsrc_link_raw(g, pad, &err) : gsrc_link_coded(g, pad, codec, is_rtp, &err))
            gsrc_post_error(g, &err);
    }
    gst_caps_unref(caps);
}

/* Every stream was told, and none was for us. */
static void gsrc_on_no_more_pads(GstElement *element, gpointer data)
{
    struct gsrc *g = data;
    GSRC_TAKE_OVER(g);
    if (atomic_load(&g->is_linked))
        return;
    struct err err = {0};
    err_set(&err, ERR_UNSUPPORTED, "no video stream");
    gsrc_post_error(g, &err);
}

/* Ask the camera only for the first video stream of a known codec. */
static gboolean gsrc_on_select_stream(GstElement *element, guint i_stream, GstCaps *caps, gpointer data)
{
    struct gsrc *g = data;
    GSRC_TAKE_OVER(g);
    const GstStructure *s = gst_caps_get_structure(caps, 0);
    const char *media = gst_structure_get_string(s, "media"), *encoding = gst_structure_get_string(s, "encoding-name");
    if (!media || strcmp(media, "video") != 0) {
        gsrc_note_refused(g, media ? media : "a stream of no kind");
        return FALSE;
    }
    for (size_t i = 0; encoding && i < N_CODECS; i++)
        if (g_ascii_strcasecmp(encoding, gsrc_codecs[i].encoding) == 0)
            return TRUE;
    gsrc_note_refused(g, encoding ? encoding : "video");
    return FALSE;
}

static int gsrc_build_file(struct gsrc *g, const struct url *url, struct err *err)
{
    struct stat st;
    if (stat(url->location, &st) < 0)
        return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "file: %s", url->location);
    if (S_ISDIR(st.st_mode))
        return err_set(err, ERR_INVAL, "file: %s is a directory", url->location);
    if (access(url->location, R_OK) < 0)
        return err_set_errno(err, ERR_IO, "file: %s", url->location);
    if (st.st_size == 0)
        return err_set(err, ERR_FORMAT, "file: %s is empty", url->location);
    GstElement *src, *parse;
    int rc = gsrc_make(g, "filesrc", &src, err);
    if (!rc)
        rc = gsrc_make(g, "parsebin", &parse, err);
    if (rc)
        return rc;
    g_object_set(src, "location", url->location, NULL);
    g_signal_connect(parse, "pad-added", G_CALLBACK(gsrc_on_pad), g);
    g_signal_connect(parse, "no-more-pads", G_CALLBACK(gsrc_on_no_more_pads), g);
    /* A demuxer without no-more-pads stops with "not linked"; parsebin swallows that when it comes while it still sets the demuxer up. */
    g_signal_connect(parse, "drained", G_CALLBACK(gsrc_on_no_more_pads), g);
    if (!gst_element_link(src, parse))
        return err_set(err, ERR_UNSUPPORTED, "file: filesrc and parsebin do not link");
    return 0;
}

static int gsrc_build_rtsp(struct gsrc *g, const struct source_settings *settings, struct err *err)
{
    GstElement *src;
    int rc = gsrc_make(g, "rtspsrc", &src, err);
    if (rc)
        return rc;
    /* location has no user info in it, so no message of GStreamer can show it */
    g_object_set(src, "location", settings->url->location, "latency", (guint)settings->latency_ms, "drop-on-latency", TRUE,
                 "tcp-timeout", (guint64)5000000, "do-rtsp-keep-alive", TRUE, NULL);
    if (settings->user[0])
        g_object_set(src, "user-id", settings->user, "user-pw", settings->password, NULL);
    gst_util_set_object_arg(G_OBJECT(src), "protocols",
                            settings->url->is_tls ? (settings->is_udp ? "udp+tls" : "tcp+tls")
                                                  : (settings->is_udp ? "udp" : "tcp"));
    g_signal_connect(src, "select-stream", G_CALLBACK(gsrc_on_select_stream), g);
    g_signal_connect(src, "pad-added", G_CALLBACK(gsrc_on_pad), g);
    g_signal_connect(src, "no-more-pads", G_CALLBACK(gsrc_on_no_more_pads), g);
    return 0;
}

static int gsrc_build_v4l2(struct gsrc *g, const struct url *url, struct err *err)
{
    struct v4l2_choice choice;
    int rc = v4l2_choose(url->location, g->max_pixels, &choice, err);
    GstElement *src, *filter;
    if (!rc)
        rc = gsrc_make(g, "v4l2src", &src, err);
    if (!rc)
        rc = gsrc_make(g, "capsfilter", &filter, err);
    if (rc)
        return rc;
    const char *media = choice.kind == V4L2_RAW ? "video/x-raw" : choice.kind == V4L2_MJPEG ? "image/jpeg" : "video/x-h264";
    GstCaps *caps =
        gst_caps_new_simple(media, "width", G_TYPE_INT, choice.width_px, "height", G_TYPE_INT, choice.height_px, NULL);
    g_object_set(filter, "caps", caps, NULL);
    gst_caps_unref(caps);
    g_object_set(src, "device", url->location, "do-timestamp", TRUE, NULL);
    if (!gst_element_link(src, filter))
        return err_set(err, ERR_UNSUPPORTED, "v4l2: %s does not give %s", url->location, media);
    GstPad *pad = gst_element_get_static_pad(filter, "src");
    atomic_store(&g->is_linked, true);
    rc = choice.kind == V4L2_RAW ? gsrc_link_raw(g, pad, err)
                                 : gsrc_link_coded(g, pad, &gsrc_codecs[choice.kind == V4L2_MJPEG ? 2 : 0], false, err);
    gst_object_unref(pad);
    return rc;
}

/* The user's description as a bin with one open source pad; the caller owns a reference. */
static int gsrc_parse_description(const char *description, GstElement **ret_bin, struct err *err)
{
    GError *error = NULL;
    GstElement *bin = gsrc_parse_bin(description, &error);
    if (!bin && g_error_matches(error, GST_PARSE_ERROR, GST_PARSE_ERROR_NO_SUCH_ELEMENT)) {
        /* A description may end in caps, which the parser takes only between two elements. */
        char text[URL_MAX_BYTES + 16];
        snprintf(text, sizeof text, "%s ! identity", description);
        bin = gsrc_parse_bin(text, NULL);
        if (bin)
            g_clear_error(&error);
    }
    int rc = 0;
    if (error || !bin) {
        int code = g_error_matches(error, GST_PARSE_ERROR, GST_PARSE_ERROR_NO_SUCH_ELEMENT) ? ERR_UNSUPPORTED : ERR_INVAL;
        rc = err_set(err, code, "gst: %s", error ? error->message : "the description cannot be parsed");
        g_clear_error(&error);
    } else {
        GstPad *src = gst_element_get_static_pad(bin, "src"), *sink = gst_element_get_static_pad(bin, "sink");
        if (!src)
            rc =
                err_set(err, ERR_INVAL,
                        "gst: the description ends in nothing to take pictures from (no open source pad; leave the sink away)");
        else if (sink)
            rc = err_set(err, ERR_INVAL, "gst: the description begins with an element that wants input, not with a source");
        if (src)
            gst_object_unref(src);
        if (sink)
            gst_object_unref(sink);
    }
    if (rc && bin)
        gst_object_unref(bin);
    if (!rc)
        *ret_bin = bin;
    return rc;
}

int source_gst_check(const char *description, struct err *err)
{
    GstElement *bin = NULL;
    int rc = gsrc_need(err);
    if (!rc)
        rc = gsrc_parse_description(description, &bin, err);
    if (!rc)
        gst_object_unref(bin);
    return rc;
}

static int gsrc_build_description(struct gsrc *g, const struct url *url, struct err *err)
{
    GstElement *bin;
    int rc = gsrc_parse_description(url->location, &bin, err);
    if (rc)
        return rc;
    gst_bin_add(GST_BIN(g->pipeline), bin); /* takes a reference of its own, ours is not floating */
    gst_object_unref(bin);
    GstPad *pad = gst_element_get_static_pad(bin, "src");
    atomic_store(&g->is_linked, true);
    rc = gsrc_link_raw(g, pad, err);
    gst_object_unref(pad);
    return rc;
}

/* What all sources share: pipeline, clock, conversion, sink. */
static int gsrc_build_tail(struct gsrc *g, struct err *err)
{
    g->pipeline = gst_object_ref_sink(gst_pipeline_new(NULL));
    g->bus = gst_pipeline_get_bus(GST_PIPELINE(g->pipeline));
    g_object_set_qdata(G_OBJECT(g->pipeline), gsrc_quark, g);
    /* The system clock is CLOCK_MONOTONIC, as ours: base time + running time is our time. */
    GstClock *clock = gst_system_clock_obtain();
    gst_pipeline_use_clock(GST_PIPELINE(g->pipeline), clock);
    gst_object_unref(clock);
    int rc = gsrc_make(g, "videoconvertscale", &g->convert, err);
    if (!rc)
        rc = gsrc_make(g, "capsfilter", &g->fit, err);
    if (!rc)
        rc = gsrc_make(g, "appsink", &g->sink, err);
    if (rc)
        return rc;
    /* Scaling down by two taps would alias; these have as many as the ratio needs. No dithering: the same in, the same out. */
    gst_util_set_object_arg(G_OBJECT(g->convert), "method", "bilinear2");
    gst_util_set_object_arg(G_OBJECT(g->convert), "dither", "none");
    GstCaps *rgb = gst_caps_from_string("video/x-raw,format=RGB");
    g_object_set(g->fit, "caps", rgb, NULL);
    gst_caps_unref(rgb);
    bool is_paced = g->kind == URL_FILE && !g->is_fast;
    g_object_set(g->sink, "max-buffers", 1u, "drop", !(g->kind == URL_FILE && g->is_fast), "sync", is_paced,
                 "enable-last-sample", FALSE, "qos", FALSE, NULL);
    if (!gst_element_link_many(g->convert, g->fit, g->sink, NULL))
        return err_set(err, ERR_UNSUPPORTED, "GStreamer's conversion elements do not link");
    return 0;
}

int gsrc_build(struct gsrc *g, const struct source_settings *settings, struct err *err)
{
    int rc = gsrc_build_tail(g, err);
    if (rc)
        return rc;
    switch (g->kind) {
    case URL_FILE: return gsrc_build_file(g, settings->url, err);
    case URL_RTSP: return gsrc_build_rtsp(g, settings, err);
    case URL_V4L2: return gsrc_build_v4l2(g, settings->url, err);
    default: return gsrc_build_description(g, settings->url, err);
    }
}
