/*
 * source - what a kind of camera must provide, and the table of kinds.
 *
 * A source is one attempt: opened, watched, closed; after any fault the supervisor (camera.c) closes it whole and opens a new
 * one. A source never decides about restarts; it says what happened.
 *
 * Life cycle: open -> wait (FRAME -> fill) ... until wait reports an end or a fault -> close.
 * Threads: all calls on one source come from its camera's supervisor. wait returns within its deadline. close is bounded.
 *
 * New kind: one source_<kind>.c with its ops, one row in source.c, one scheme in url.c.
 */
#ifndef HERON_PIPELINE_SOURCE_H
#define HERON_PIPELINE_SOURCE_H

#include "pipeline/pipeline.h"
#include "pipeline/url.h"

/* What wait saw. */
enum source_event {
    SOURCE_NONE,  /* nothing until the deadline */
    SOURCE_FRAME, /* a picture is ready: fill takes it; the next wait drops it */
    SOURCE_END,   /* played to its end and not to be looped */
    SOURCE_FAULT, /* err says why: close, and try again after the back-off */
    SOURCE_AGAIN, /* err says why: close, and try again at once (another decoder, another picture size) */
    SOURCE_AUTH,  /* err says why: the credentials were refused */
};

struct source_settings {
    const struct url *url; /* borrowed for the source's life */
    const char *user;      /* "" none */
    const char *password;  /* "" none */
    int64_t max_pixels;
    double max_fps; /* 0: all */
    int latency_ms;
    bool is_udp;
    struct pl_timing timing; /* no zeros left */
};

/* A look at a running source. */
struct source_info {
    char codec[16];
    char decoder[32];
    uint64_t decode_errors;  /* of this attempt */
    int64_t picture_ns;      /* when the newest picture was decoded, also of those that the rate cap drops; 0: none yet */
    int64_t interval_ns;     /* between pictures, smoothed; 0: fewer than two yet */
    int width_px, height_px; /* of the pictures before they are fitted; 0: unknown yet */
    /* of the stream as it came so far, for probing; of pictures that are not coded each is a key frame */
    uint64_t coded_frames;
    uint64_t key_frames;
    int gop_frames; /* largest distance of key frames seen, in coded frames; 0: fewer than two came */
    int64_t gop_ns;
};

struct source; /* each kind has its own struct behind this name */

struct source_ops {
    const char *name;
    bool is_live; /* identical pictures mean frozen */
    /* Start. Whatever takes long (connecting) goes on in the background. Errors: with the cause in err; *ret untouched. */
    int (*open)(const struct source_settings *settings, struct source **ret_source, struct err *err);
    /* Wait for a picture until the monotonic instant until_ns. */
    enum source_event (*wait)(struct source *source, int64_t until_ns, struct err *err);
    /*
     * Write the waiting picture and its times into an unpublished frame (not seq). Errors: ERR_FORMAT (a picture that is not as announced), of a synthetic
     * camera's codec ERR_IO, ERR_NOMEM, ERR_UNSUPPORTED. The supervisor takes any for a fault: a synthetic camera begins again at frame 0.
     */
    int (*fill)(struct source *source, struct pl_frame *frame, struct err *err);
    void (*get_info)(struct source *source, struct source_info *ret_info);
    /* Stop and free. Takes NULL. Returns false when it would not stop within timing.teardown_ns and was left behind. */
    bool (*close)(struct source *source);
};

extern const struct source_ops source_gst_ops;
extern const struct source_ops source_gst_file_ops;
extern const struct source_ops source_synth_ops;

/* The ops of a kind; never NULL. */
const struct source_ops *source_ops_get(enum url_kind kind);

/* pl_source_check, with the parsed URL handed out. ret_url may be NULL. */
int source_parse(const char *source, struct url *ret_url, struct err *err);

/* ---- source_gst.c, beyond its ops --------------------------------------------------------------------------------------- */

/* Whether a gst: description can be built here. */
int source_gst_check(const char *description, struct err *err);

/* Pipelines left behind in this process. */
uint32_t source_gst_leaked(void);

#endif
