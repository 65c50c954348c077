/*
 * source_synth - the synthetic camera: a scene, paced. No GStreamer; the supervisor's thread draws straight into the frame.
 *
 * Frame numbers follow the monotonic clock from the moment the source was opened: a supervisor that comes late skips numbers, as a
 * real camera's viewer misses pictures. With pace=fast every number is drawn, as fast as they are asked for.
 *
 * With codec=h264 a picture that was drawn goes through a codec_loop. Key frames lie on the multiples of key_frames (KEY_FRAME_S in frames), so that where drawing
 * began makes no difference from the next of them on. Only where each number is drawn, though: the first one drawn behind a multiple becomes the key frame, so a camera
 * that skips numbers, because it comes late or for its rate cap, gives other bytes than one that does not.
 */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "pipeline/codec.h"
#include "pipeline/frame.h"
#include "pipeline/scene.h"
#include "pipeline/scene_words.h"
#include "pipeline/source.h"

#define KEY_FRAME_S 2 /* from one key frame to the next, as cameras have it */

/* ---- the way through a codec ------------------------------------------------------------------------------------------------ */

/* Pictures one after the other, as a viewer of the stream would count them. */
struct synth_stream {
    uint64_t n_pictures, n_keys;
    uint64_t i_last, i_key; /* frame numbers of the last picture and of the last key frame */
    uint64_t n_since_key;   /* pictures behind the last key frame */
    uint64_t gop_frames;    /* largest distance of key frames in pictures; 0: fewer than two came */
    uint64_t gop_numbers;   /* that distance in frame numbers */
};

static bool synth_stream_is_key(const struct synth_stream *s, uint64_t i_frame, uint64_t key_frames)
{
    return s->n_pictures == 0 || i_frame <= s->i_last || i_frame / key_frames != s->i_last / key_frames;
}

static void synth_stream_count(struct synth_stream *s, uint64_t i_frame, bool is_key)
{
    s->n_pictures++;
    s->n_since_key++;
    s->i_last = i_frame;
    if (!is_key)
        return;
    if (s->n_keys++ > 0 && i_frame > s->i_key && s->n_since_key > s->gop_frames) {
        s->gop_frames = s->n_since_key;
        s->gop_numbers = i_frame - s->i_key;
    }
    s->n_since_key = 0;
    s->i_key = i_frame;
}

struct synth_codec {
    struct codec_loop *loop;    /* NULL: pictures are handed out as they are drawn */
    uint64_t key_frames;        /* from one to the next */
    struct synth_stream stream; /* what came through */
    bool is_broken;             /* nothing can be built on what went through before */
};

static uint64_t synth_key_frames(const struct url *url)
{
    const long long n = llround(url->fps * KEY_FRAME_S);
    return n > 1 ? (uint64_t)n : 1;
}

static int synth_codec_open(struct synth_codec *c, const struct url *url, int width_px, int height_px, struct err *err)
{
    c->key_frames = synth_key_frames(url);
    return url->is_h264 ? codec_loop_open(width_px, height_px, url->fps, url->quality, &c->loop, err) : 0;
}

static int synth_codec_run(struct synth_codec *c, uint64_t i_frame, uint8_t *rgb, size_t stride_bytes, struct err *err)
{
    if (!c->loop)
        return 0;
    const bool is_key = c->is_broken || synth_stream_is_key(&c->stream, i_frame, c->key_frames);
    const int rc = codec_loop_run(c->loop, is_key, rgb, stride_bytes, err);
    c->is_broken = rc != 0;
    if (rc != 0)
        return err_prefix(err, "frame %llu", (unsigned long long)i_frame), rc;
    synth_stream_count(&c->stream, i_frame, is_key);
    return 0;
}

/* ---- the truth in words ----------------------------------------------------------------------------------------------------- */

/* The JSON of a frame's truth with the summary as its last member. Texts of scene_words can stand in JSON as they are. */
static void synth_print(const struct scene_truth *truth, char out[FRAME_TRUTH_BYTES])
{
    static const char head[] = ",\"summary\":\"", tail[] = "\"}";
    enum { ROOM = SCENE_SUMMARY_MAX + sizeof head + sizeof tail };
    char summary[SCENE_SUMMARY_MAX + 1];
    scene_words_summary(truth, summary);
    const size_t n = scene_truth_print(truth, out, FRAME_TRUTH_BYTES - ROOM);
    assert(n > 0); /* counts and words need a few hundred bytes; things are left out where there are too many */
    snprintf(out + n - 1, ROOM, "%s%s%s", head, summary, tail); /* over the closing brace */
}

#define QUESTION_BYTES (sizeof(struct scene_question) + 128) /* of one in JSON, its topic's name included */

static size_t synth_words_bytes(void)
{
    return FRAME_TRUTH_BYTES + (size_t)scene_words_topics() * QUESTION_BYTES;
}

/* The text of synth_print with the questions that this frame can answer as its last member, in out [synth_words_bytes()]. */
static void synth_print_questions(const struct scene_truth *truth, const char *text, uint64_t seed, char *out)
{
    const size_t room = synth_words_bytes();
    size_t n = (size_t)snprintf(out, room, "%.*s,\"questions\":[", (int)strlen(text) - 1, text);
    const char *comma = "";
    for (int topic = 0; topic < scene_words_topics(); topic++) {
        struct scene_question q;
        if (!scene_words_question(truth, topic, rng_at(seed, truth->i_frame * (uint64_t)scene_words_topics() + (uint64_t)topic),
                                  &q))
            continue;
        n += (size_t)snprintf(out + n, room - n, "%s{\"topic\":\"%s\",\"ask\":\"%s\",\"answer\":\"%s\"}", comma,
                              scene_words_topic_name(topic), q.ask, q.answer);
        comma = ",";
    }
    n += (size_t)snprintf(out + n, room - n, "]}");
    assert(n < room);
}

/* ---- by hand ------------------------------------------------------------------------------------------------------------ */

struct pl_synth {
    struct url url;
    struct scene *scene;
    struct synth_codec codec;
    struct scene_truth seen; /* of the frame drawn last */
    char truth[FRAME_TRUTH_BYTES];
    char *words; /* [synth_words_bytes()] */
};

int pl_synth_open(const char *source, struct pl_synth **ret_synth, struct err *err)
{
    struct pl_synth *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "no memory for a synthetic camera");
    int rc = source_parse(source, &s->url, err);
    if (!rc && !(s->words = malloc(synth_words_bytes())))
        rc = err_set(err, ERR_NOMEM, "no memory for a synthetic camera");
    if (!rc && s->url.kind != URL_SYNTH)
        rc = err_set(err, ERR_INVAL, "expected a synth: source, such as synth:yard");
    if (!rc)
        rc = scene_open(s->url.location, s->url.seed, s->url.width_px, s->url.height_px, &s->scene, err);
    if (!rc)
        rc = synth_codec_open(&s->codec, &s->url, s->url.width_px, s->url.height_px, err);
    if (rc)
        goto fail;
    *ret_synth = s;
    return 0;
fail:
    pl_synth_close(s);
    return rc;
}

void pl_synth_close(struct pl_synth *s)
{
    if (!s)
        return;
    codec_loop_close(s->codec.loop);
    scene_close(s->scene);
    free(s->words);
    free(s);
}

void pl_synth_get_info(const struct pl_synth *s, struct pl_synth_info *ret_info)
{
    *ret_info = (struct pl_synth_info){
        .scene = s->url.location,
        .width_px = s->url.width_px,
        .height_px = s->url.height_px,
        .fps = s->url.fps,
        .seed = s->url.seed,
        .key_frames = s->codec.loop ? (int)s->codec.key_frames : 0,
    };
}

int pl_synth_draw(struct pl_synth *s, uint64_t i_frame, uint8_t *rgb, size_t stride_bytes, const char **ret_truth,
                  struct err *err)
{
    scene_draw(s->scene, i_frame, (double)i_frame / s->url.fps, rgb, stride_bytes, &s->seen);
    synth_print(&s->seen, s->truth);
    const int rc = synth_codec_run(&s->codec, i_frame, rgb, stride_bytes, err);
    if (rc == 0 && ret_truth)
        *ret_truth = s->truth;
    return rc;
}

const char *pl_synth_describe(struct pl_synth *s)
{
    if (!s->truth[0])
        return NULL;
    synth_print_questions(&s->seen, s->truth, s->url.seed, s->words);
    return s->words;
}

/* ---- as a camera -------------------------------------------------------------------------------------------------------- */

struct synth {
    const struct url *url;
    struct scene *scene;
    struct synth_codec codec;
    int width_px, height_px;
    int64_t start_ns;
    int64_t period_ns;          /* between two frames */
    uint64_t step;              /* every step-th number is drawn, to stay under the rate cap */
    uint64_t i_frame;           /* of the waiting frame, or the next */
    uint64_t n_waited;          /* frames that wait reported */
    int64_t picture_ns;         /* when it reported the last */
    struct synth_stream waited; /* they, had each gone through the codec: for who only listens */
};

static bool synth_close(struct source *source)
{
    struct synth *s = (struct synth *)source;
    if (s) {
        codec_loop_close(s->codec.loop);
        scene_close(s->scene);
        free(s);
    }
    return true;
}

static int synth_open(const struct source_settings *settings, struct source **ret_source, struct err *err)
{
    const struct url *url = settings->url;
    struct synth *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "no memory for a synthetic camera");
    s->url = url;
    frame_fit(settings->max_pixels, url->width_px, url->height_px, &s->width_px, &s->height_px);
    s->period_ns = (int64_t)(1e9 / url->fps);
    s->step = settings->max_fps > 0 && settings->max_fps < url->fps ? (uint64_t)ceil(url->fps / settings->max_fps - 1e-6) : 1;
    int rc = scene_open(url->location, url->seed, s->width_px, s->height_px, &s->scene, err);
    if (!rc)
        rc = synth_codec_open(&s->codec, url, s->width_px, s->height_px, err);
    if (rc)
        goto fail;
    s->start_ns = clock_now_ns();
    *ret_source = (struct source *)s;
    return 0;
fail:
    synth_close((struct source *)s);
    return rc;
}

static enum source_event synth_wait(struct source *source, int64_t until_ns, struct err *err)
{
    struct synth *s = (struct synth *)source;
    int64_t now = clock_now_ns();
    uint64_t i = s->n_waited ? s->i_frame + s->step : 0;
    if (!s->url->is_fast) {
        uint64_t newest = now > s->start_ns ? (uint64_t)((now - s->start_ns) / s->period_ns) / s->step * s->step : 0;
        if (newest > i)
            i = newest;
        int64_t due = s->start_ns + (int64_t)i * s->period_ns;
        if (due > until_ns) {
            clock_sleep_until_ns(until_ns);
            return SOURCE_NONE;
        }
        clock_sleep_until_ns(due);
    }
    s->i_frame = i;
    s->n_waited++;
    synth_stream_count(&s->waited, i, synth_stream_is_key(&s->waited, i, s->codec.key_frames));
    s->picture_ns = clock_now_ns();
    return SOURCE_FRAME;
}

static int synth_fill(struct source *source, struct pl_frame *frame, struct err *err)
{
    struct synth *s = (struct synth *)source;
    uint8_t *rgb = frame_set_size(frame, s->width_px, s->height_px);
    char *truth = frame_truth_buffer(frame);
    frame->capture_ns = s->picture_ns;
    frame->capture_wall_ns = clock_wall_ns_of(s->picture_ns);
    struct scene_truth seen;
    scene_draw(s->scene, s->i_frame, (double)s->i_frame / s->url->fps, rgb, (size_t)s->width_px * 3, &seen);
    synth_print(&seen, truth);
    frame->truth = truth;
    return synth_codec_run(&s->codec, s->i_frame, rgb, (size_t)s->width_px * 3, err);
}

static void synth_get_info(struct source *source, struct source_info *ret_info)
{
    struct synth *s = (struct synth *)source;
    const int64_t interval_ns = s->period_ns * (int64_t)s->step;
    *ret_info = (struct source_info){
        .codec = "raw",
        .picture_ns = s->picture_ns,
        .interval_ns = s->url->is_fast ? 0 : interval_ns,
        .width_px = s->url->width_px,
        .height_px = s->url->height_px,
        .coded_frames = s->n_waited,
        .key_frames = s->n_waited,
    };
    if (s->codec.loop) {
        snprintf(ret_info->codec, sizeof ret_info->codec, "h264");
        snprintf(ret_info->decoder, sizeof ret_info->decoder, "libavcodec h264");
        const struct synth_stream *stream = s->codec.stream.n_pictures > 0 ? &s->codec.stream : &s->waited;
        ret_info->coded_frames = stream->n_pictures;
        ret_info->key_frames = stream->n_keys;
        ret_info->gop_frames = (int)stream->gop_frames;
        ret_info->gop_ns = (int64_t)stream->gop_numbers * s->period_ns;
    }
}

const struct source_ops source_synth_ops = {
    .name = "synth",
    .is_live = true,
    .open = synth_open,
    .wait = synth_wait,
    .fill = synth_fill,
    .get_info = synth_get_info,
    .close = synth_close,
};
