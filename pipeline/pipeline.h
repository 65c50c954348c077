/*
 * pipeline - the door of the room that gets frames.
 *
 * A *camera* is one configured source of frames, run by a thread of its own (its supervisor) that starts the source, watches
 * it, and starts it again for ever when it fails. A *frame* is one picture with its capture time: immutable once published, a
 * reference-counted slot of a fixed pool. Between camera and consumer lies a slot for one frame: a newer frame replaces an
 * older one that nobody took, and the replacement is counted. An appliance wants the present, not the backlog.
 *
 * Life cycle: pl_source_check (any time, no I/O) -> pl_camera_open (no connection yet: that is the supervisor's work) ->
 * pl_camera_take as often as the event descriptor says -> pl_camera_close. Frames may outlive their camera; the pool
 * goes with the last of them.
 *
 * Sources (pl_camera_config.source):
 *   file:PATH[?loop=no][&pace=fast]     H.264, H.265 or MJPEG in MP4, Matroska, AVI or MPEG-TS; relative, absolute or
 * file:///PATH; looped and paced by its time stamps unless told otherwise. A `?` of the path is written %3f
 *   rtsp://[USER:PASSWORD@]HOST[:PORT]/PATH, rtsps://...
 *   v4l2:NODE                           /dev/v4l/by-id/..., /dev/v4l/by-path/..., /dev/videoN
 *   gst:DESCRIPTION                     the user's own pipeline up to raw video, as for gst-launch-1.0
 *   synth:SCENE[?seed=N][&size=WxH][&fps=N][&pace=fast][&codec=h264[&quality=N]]   a rendered scene with known truth; scenes:
 * yard. With codec=h264 each picture goes through a real encoder and decoder; quality 18 (best) to 40, 28 unless told
 *
 * Threads: every function may be called from any thread, but pl_camera_close only once and with no other call on that camera
 * running. Memory: the pool is allocated in pl_camera_open (frames * max_pixels * 3 bytes); after that Heron's own part of
 * the way of a frame allocates nothing (GStreamer does, inside).
 *
 * Invariants: seq grows by at least one per published frame over the camera's whole life, restarts included. capture_ns never
 * goes back. No text that leaves this room holds user info of a URL. This room never logs above debug.
 */
#ifndef HERON_PIPELINE_PIPELINE_H
#define HERON_PIPELINE_PIPELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/image.h"

/* ---- frames ------------------------------------------------------------------------------------------------------------- */

#define PL_TRUTH_BYTES 4096 /* the longest truth, its NUL included */

struct pl_frame {
    struct image_view image; /* IMAGE_RGB24; the pixels live until the last unref */
    int64_t capture_ns;      /* monotonic: when the camera (or the network, for RTSP without a camera clock) gave the picture */
    int64_t capture_wall_ns; /* UNIX */
    uint64_t seq;            /* per camera, from 1 */
    const char *truth; /* of a synthetic camera: what can be seen, as JSON (pl_synth_draw). NULL: none. As long as the frame */
};

/* One reference more; returns `frame`. */
struct pl_frame *pl_frame_ref(struct pl_frame *frame);

/* One reference less; the last gives the slot back to its pool. NULL does nothing. Never blocks. */
void pl_frame_unref(struct pl_frame *frame);

/* ---- cameras ------------------------------------------------------------------------------------------------------------ */

struct pl_camera;

/* Bounds of the supervisor. 0 in any field means the default in brackets; tests make them short. */
struct pl_timing {
    int64_t first_frame_ns;   /* a started source must give its first frame within [15 s] */
    int64_t frame_age_ns;     /* restart when the newest frame is older than this [3 s] and than */
    int age_intervals;        /* this many [10] frame intervals */
    int64_t backoff_min_ns;   /* first wait before a restart [1 s], doubled each time up to */
    int64_t backoff_max_ns;   /* [30 s]; a jitter of up to a quarter is added */
    int64_t backoff_reset_ns; /* after this long [60 s] of frames the wait starts small again */
    int64_t auth_backoff_ns;  /* wait after 401 or 403 [300 s]: hammering locks cameras out */
    int64_t frozen_after_ns;  /* the same bytes for longer than this [10 s] on a live source: frozen */
    int64_t teardown_ns;      /* a pipeline that does not stop within [5 s] is left behind and counted */
    int64_t
        decoder_trial_ns; /* a decoder must give a frame within this [5 s] of the first coded picture, or the next is tried */
};

struct pl_camera_config {
    const char *id;       /* of the camera, [a-z0-9_]{1,48}; copied */
    const char *source;   /* see above; copied */
    const char *user;     /* RTSP: instead of user info in the URL; NULL: none; copied */
    const char *password; /* with `user`; copied, never shown */
    int64_t max_pixels;   /* larger pictures are scaled down, aspect kept; 0: 1920 * 1080 */
    double max_fps;       /* frames beyond this rate are dropped before colour conversion; 0: all */
    int frames;           /* slots of the pool; 0: 4 (one being filled, one waiting, two in the consumer's hands); at least 2 */
    int event_fd;         /* an eventfd of the caller that is poked as well at every frame, so that one thread can wait for all
                             cameras; 0 or negative: none. Borrowed until pl_camera_close returns */
    int latency_ms;       /* RTSP jitter buffer; 0: 200 */
    bool is_udp;          /* RTSP over UDP; else over TCP */
    bool is_disabled;     /* open without starting; pl_camera_set_enabled starts it */
    const struct pl_timing *timing; /* NULL: all defaults; copied */
};

enum pl_camera_state {
    PL_CAMERA_DISABLED,    /* by pl_camera_set_enabled */
    PL_CAMERA_STARTING,    /* a source was started and has not given a frame yet */
    PL_CAMERA_RUNNING,     /* frames arrive */
    PL_CAMERA_RESTARTING,  /* a fault; waiting for the next attempt */
    PL_CAMERA_AUTH_FAILED, /* the camera refused the credentials; waiting long for the next attempt */
    PL_CAMERA_ENDED,       /* a file with loop=no was played to its end */
    PL_CAMERA_STATE_COUNT,
};

struct pl_camera_stats {
    enum pl_camera_state state;
    bool is_online;            /* MQTT's word: running, the newest frame fresh, the picture changing */
    bool is_frozen;            /* live source, the same bytes for longer than frozen_after_ns */
    int64_t last_frame_ns;     /* capture_ns of the newest frame; 0: none yet */
    int64_t last_frame_age_ns; /* now - its arrival; -1: none yet */
    double fps;                /* published frames per second over the last 10 s */
    uint64_t frames;           /* published */
    uint64_t replaced;         /* published, never taken: a newer one came first */
    uint64_t starved;          /* not published: every slot of the pool was in the consumer's hands */
    uint64_t decode_errors;
    uint64_t restarts;       /* attempts after the first */
    uint32_t restarts_1h;    /* of those in the last hour */
    uint32_t leaked;         /* pipelines of this camera that would not stop */
    int width_px, height_px; /* of the newest frame; 0: none yet */
    char codec[16];          /* "h264", "h265", "mjpeg", "raw", "" before it is known */
    char decoder[32];        /* element that decodes, "" where none does */
    char last_error[256];    /* cause of the last fault, without user info; "" if there was none */
    int64_t heartbeat_ns;    /* when the supervisor last went round its loop (at least twice a second): for the watchdog */
};

/* A short name of a state: "disabled", "starting", "running", "restarting", "auth_failed", "ended". */
const char *pl_camera_state_name(enum pl_camera_state state);

/*
 * Validate a source, without any I/O: scheme, host, port, options. Errors: ERR_INVAL with the cause, the nearest key or scene
 * named; ERR_UNSUPPORTED for a gst: description of elements that this machine lacks, or codec=h264 without an encoder.
 */
int pl_source_check(const char *source, struct err *err);

/* Bytes that pl_camera_open allocates for this config's frames: for the plan of memory. */
uint64_t pl_camera_plan_bytes(const struct pl_camera_config *config);

/*
 * Open a camera and start its supervisor. Nothing is connected or read yet, so an absent camera or file is not an error here:
 * it shows in the stats, and attempts go on for ever.
 *
 * config     borrowed for the call
 * ret_camera the caller's, for pl_camera_close
 *
 * Errors: those of pl_source_check; ERR_INVAL (id, sizes, rates); ERR_NOMEM; ERR_IO (descriptors, threads).
 */
int pl_camera_open(const struct pl_camera_config *config, struct pl_camera **ret_camera, struct err *err);

/*
 * Stop and free. Takes NULL. Frames that were taken stay valid. Bounded: a pipeline that does not stop within
 * timing.teardown_ns is left to a helper thread and counted in pl_leaked_pipelines().
 */
void pl_camera_close(struct pl_camera *camera);

/* Start or stop the source; returns at once, the supervisor does it. A stopped source drops the frame nobody took. */
void pl_camera_set_enabled(struct pl_camera *camera, bool is_enabled);

/*
 * Take the newest frame that was not taken yet. The caller owns one reference. Never blocks, allocates nothing.
 * Errors: ERR_AGAIN (none). The text of errors is not set: this is the hot path.
 */
int pl_camera_take(struct pl_camera *camera, struct pl_frame **ret_frame);

/* A descriptor that is readable while a frame waits to be taken, for poll(). Do not read it; take does. */
int pl_camera_event_fd(const struct pl_camera *camera);

void pl_camera_get_stats(struct pl_camera *camera, struct pl_camera_stats *ret_stats);

/* The configured id; lives as long as the camera. */
const char *pl_camera_get_id(const struct pl_camera *camera);

/* Pipelines of this process that would not stop, over all cameras. When it grows, a restart of the process is due. */
uint32_t pl_leaked_pipelines(void);

/* ---- pictures as files -------------------------------------------------------------------------------------------------- */

/*
 * Write an IMAGE_RGB24 picture as PNG. A file of that name is replaced whole: it is written beside and then renamed.
 * Thread: any. Errors: ERR_NOT_FOUND (no such folder), ERR_IO, ERR_UNSUPPORTED (another format), ERR_NOMEM.
 */
int pl_picture_write(const char *path, const struct image_view *view, struct err *err);

/* ---- the synthetic camera by hand (heron synth, tests) ------------------------------------------------------------------------ */

struct pl_synth;

struct pl_synth_info {
    const char *scene;
    int width_px, height_px;
    double fps;
    uint64_t seed;
    int key_frames; /* codec=h264: every so many frames one stands alone; 0: all do */
};

/* Open a `synth:` source. The caller closes it. Errors: those of pl_source_check; ERR_NOMEM. */
int pl_synth_open(const char *source, struct pl_synth **ret_synth, struct err *err);

/* Takes NULL. Truths and names that were borrowed end with it. */
void pl_synth_close(struct pl_synth *synth);

/* What the source asked for, defaults filled in. `scene` is borrowed until the close. No errors. */
void pl_synth_get_info(const struct pl_synth *synth, struct pl_synth_info *ret_info);

/*
 * Draw frame number i_frame (time i_frame / fps) into rgb [height_px, width_px, 3] with rows of stride_bytes. The same (scene,
 * seed, size, fps, i_frame) gives the same bytes on every machine with doubles of IEEE 754, in any order of calls.
 *
 * With codec=h264 the bytes depend on the frames before as well: drawn one after the other from a multiple of key_frames on, they are what the
 * camera gives, on one version of the encoder. Numbers may be skipped; one that is not above the last, or a multiple of key_frames
 * between them, starts a new key frame. The truth is the same with a codec and without.
 *
 * ret_truth gets the truth as one line of JSON, borrowed until the next call on `synth`; may be NULL. What can be seen, and no more:
 * {"scene","frame","t_s","width","height","light","weather","gate","dock","bays","bays_free","people","vehicles","animals","hazard",
 *  "things":[{"type","id","colour","pose","place","box":[x0,y0,x1,y1],"visible"}],"summary"}
 * Gate, dock and bays are left out where the picture does not show them, colour and pose of a thing where it has none. The words: pipeline/TRUTH.md.
 * Thread: one at a time per synth. Errors: none without a codec; ERR_IO, ERR_NOMEM: the codec failed, in its words, and rgb is the picture as drawn. The
 * next frame stands alone.
 */
int pl_synth_draw(struct pl_synth *synth, uint64_t i_frame, uint8_t *rgb, size_t stride_bytes, const char **ret_truth,
                  struct err *err);

/*
 * The truth of the frame drawn last once more, with questions about it behind the summary: "questions":[{"topic","ask","answer"}], one of each topic that has a clear
 * answer there, worded by seed and frame number. Answers are "yes", "no" or a word.
 *
 * Borrowed until the next call on `synth`; NULL: nothing was drawn yet. Thread: as pl_synth_draw.
 */
const char *pl_synth_describe(struct pl_synth *synth);

/* ---- devices and probing (heron cameras) -------------------------------------------------------------------------------- */

struct pl_format {
    char fourcc[5];
    char description[32];
    int width_px, height_px; /* the largest of a stepwise range */
    double max_fps;          /* 0: the driver does not say */
};

struct pl_control {
    char name[32];
    char type[12]; /* "integer", "boolean", "menu", "button", "other" */
    int64_t min, max, step, def, value;
    bool is_read_only, is_inactive;
};

/* One V4L2 capture device. Texts are "" where unknown. */
struct pl_device {
    char node[64];     /* /dev/video0: changes between boots */
    char by_id[256];   /* stable per device model and serial number */
    char by_path[256]; /* stable per port: tells two equal cameras apart */
    char name[64], driver[32], vendor[8], product[8], serial[64];
    int n_formats, n_controls;
    struct pl_format *format;
    struct pl_control *control;
    char error[128]; /* why formats and controls are missing: no permission, busy */
};

struct pl_devices {
    int n_devices;
    struct pl_device *device;
};

/* Enumerate the V4L2 capture devices, ordered by node. None is not an error. Errors: ERR_IO, ERR_NOMEM. */
int pl_devices_open(struct pl_devices *ret_devices, struct err *err);

void pl_devices_close(struct pl_devices *devices);

enum pl_probe_step {
    PL_PROBE_SYNTAX, /* the URL itself */
    PL_PROBE_NAME,   /* host name to address; file or device: it exists */
    PL_PROBE_TCP,    /* connection, and an answer in RTSP; file or device: it opens */
    PL_PROBE_AUTH,   /* credentials */
    PL_PROBE_PATH,   /* the server knows the path; file: it holds video */
    PL_PROBE_CODEC,  /* Heron can decode what comes */
    PL_PROBE_FRAMES, /* pictures really arrive */
    PL_PROBE_STEP_COUNT,
};

struct pl_probe {
    int n_passed; /* steps 0 .. n_passed - 1 passed; PL_PROBE_STEP_COUNT: all did */
    int width_px, height_px;
    double fps;     /* measured over the frames that came; 0: fewer than two */
    char codec[16]; /* "h264", ... ; "" before that step */
    char decoder[32];
    int gop_frames; /* largest distance of key frames seen; 0: fewer than two key frames came, or a codec of key frames only */
    double gop_s;   /* the same in seconds */
    int64_t elapsed_ns; /* until the first frame */
};

/* "syntax", "name", "tcp", "auth", "path", "codec", "frames". */
const char *pl_probe_step_name(enum pl_probe_step step);

/*
 * Try a source step by step and say how far it came. user, password: as in pl_camera_config; may be NULL. Blocks for at most
 * about timeout_ns (0: 15 s); listens to the stream for up to a third of that to see key frames.
 *
 * ret_probe is filled on failure too: n_passed is then the step that failed, and err its cause.
 * Errors: ERR_INVAL (syntax), ERR_NOT_FOUND (name, path), ERR_IO (tcp, auth), ERR_UNSUPPORTED (codec), ERR_TIMEOUT (tcp, frames).
 */
int pl_probe(const char *source, const char *user, const char *password, int64_t timeout_ns, struct pl_probe *ret_probe,
             struct err *err);

#endif
