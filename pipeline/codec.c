/* codec - PNG, and H.264 there and back. */
#include "pipeline/codec.h"

#include <libavcodec/avcodec.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "pipeline/pipeline.h"

static int codec_fail(struct err *err, const char *what, int av)
{
    char words[AV_ERROR_MAX_STRING_SIZE] = "";
    av_strerror(av, words, sizeof words);
    return err_set(err, av == AVERROR(ENOMEM) ? ERR_NOMEM : ERR_IO, "%s: %s", what, words);
}

/* ---- PNG ---------------------------------------------------------------------------------------------------------------- */

/* One packet of PNG, which is the file. */
static int codec_encode_png(const struct image_view *view, AVPacket *packet, struct err *err)
{
    const AVCodec *encoder = avcodec_find_encoder(AV_CODEC_ID_PNG);
    if (!encoder)
        return err_set(err, ERR_UNSUPPORTED, "this libavcodec cannot write PNG");
    AVCodecContext *context = avcodec_alloc_context3(encoder);
    AVFrame *frame = av_frame_alloc();
    int rc = 0;
    if (!context || !frame) {
        rc = err_set(err, ERR_NOMEM, "no memory to encode a picture");
        goto fail;
    }
    context->width = frame->width = view->width_px;
    context->height = frame->height = view->height_px;
    context->pix_fmt = AV_PIX_FMT_RGB24;
    context->time_base = (AVRational){1, 1};
    context->thread_count = 1;
    frame->format = AV_PIX_FMT_RGB24;
    int av = avcodec_open2(context, encoder, NULL);
    if (av >= 0)
        av = av_frame_get_buffer(frame, 0);
    for (int y = 0; av >= 0 && y < view->height_px; y++)
        memcpy(frame->data[0] + (ptrdiff_t)y * frame->linesize[0], view->plane[0] + (size_t)y * view->stride_bytes[0],
               (size_t)view->width_px * 3);
    if (av >= 0)
        av = avcodec_send_frame(context, frame);
    if (av >= 0)
        av = avcodec_receive_packet(context, packet);
    if (av < 0)
        rc = codec_fail(err, "the picture cannot be encoded", av);
fail:
    av_frame_free(&frame);
    avcodec_free_context(&context);
    return rc;
}

int pl_picture_write(const char *path, const struct image_view *view, struct err *err)
{
    if (view->format != IMAGE_RGB24)
        return err_set(err, ERR_UNSUPPORTED, "%s: only RGB pictures can be written", path);
    AVPacket *packet = av_packet_alloc();
    if (!packet)
        return err_set(err, ERR_NOMEM, "%s: no memory to encode a picture", path);
    int rc = codec_encode_png(view, packet, err);
    if (rc != 0)
        err_prefix(err, "%s", path);
    else
        rc = file_write(path, packet->data, (size_t)packet->size, err);
    av_packet_free(&packet);
    return rc;
}

/* ---- encoders ----------------------------------------------------------------------------------------------------------- */

/*
 * In software only: those of graphics cards are neither everywhere nor the same everywhere. libopenh264 is not among them: libavcodec tells it no
 * constant quantiser and no key frames by its "qp" and "forced-idr", and what codec.h promises rests on both.
 */
static const char *const codec_builtin[] = {"libx264", NULL};
static const char *const *codec_encoders = codec_builtin;

void codec_set_encoders(const char *const *names)
{
    codec_encoders = names ? names : codec_builtin;
}

static const AVCodec *codec_find_encoder(struct err *err)
{
    char names[128] = "";
    for (int i = 0; codec_encoders[i]; i++) {
        const AVCodec *encoder = avcodec_find_encoder_by_name(codec_encoders[i]);
        if (encoder)
            return encoder;
        const size_t n = strlen(names);
        snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "", codec_encoders[i]);
    }
    err_set(err, ERR_UNSUPPORTED, "codec=h264: this machine's libavcodec has no H.264 encoder in software (looked for %s)",
            names);
    return NULL;
}

int codec_loop_check(struct err *err)
{
    if (!codec_find_encoder(err))
        return ERR_UNSUPPORTED;
    if (!avcodec_find_decoder(AV_CODEC_ID_H264))
        return err_set(err, ERR_UNSUPPORTED, "codec=h264: this machine's libavcodec has no H.264 decoder");
    return 0;
}

/* ---- there and back ----------------------------------------------------------------------------------------------------- */

#define CODEC_SWS                                                                                                              \
    (SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP | SWS_BITEXACT) /* the same on every machine */

struct codec_loop {
    int width_px, height_px;    /* of the caller's pictures */
    int coded_w_px, coded_h_px; /* even */
    double fps;
    int quality;
    bool is_started;  /* encoder and decoder hold what went through and nothing else */
    size_t row_bytes; /* of the padded picture */
    uint8_t *padded;  /* [coded_h_px, coded_w_px, 3] */
    AVCodecContext *encoder, *decoder;
    AVFrame *in, *out;
    AVPacket *packet;
    struct SwsContext *to_yuv, *to_rgb;
    int64_t n_pictures;
};

static int codec_open_encoder(struct codec_loop *loop, struct err *err)
{
    const AVCodec *encoder = codec_find_encoder(err);
    if (!encoder)
        return ERR_UNSUPPORTED;
    AVCodecContext *c = loop->encoder = avcodec_alloc_context3(encoder);
    if (!c)
        return err_set(err, ERR_NOMEM, "no memory for an H.264 encoder");
    c->width = loop->coded_w_px;
    c->height = loop->coded_h_px;
    c->pix_fmt = AV_PIX_FMT_YUV420P;
    c->framerate = av_d2q(loop->fps, 100000);
    c->time_base = av_inv_q(c->framerate);
    c->gop_size = 1 << 20; /* the caller says where key frames are */
    c->max_b_frames = 0;
    c->thread_count = 1;
    c->color_range = AVCOL_RANGE_MPEG;
    c->colorspace = AVCOL_SPC_SMPTE170M;
    c->qmin = 0;
    c->qmax = 51;
    static const char *const options[][2] = {
        {"preset", "superfast"}, {"tune", "zerolatency"}, {"forced-idr", "1"}, {"sc_threshold", "0"}};
    int av = 0;
    for (size_t i = 0; av >= 0 && i < sizeof options / sizeof options[0]; i++)
        av = av_opt_set(c->priv_data, options[i][0], options[i][1], 0);
    /* A constant quantiser: rate control would make a picture depend on all those before, key frames or not. */
    if (av >= 0)
        av = av_opt_set_int(c->priv_data, "qp", loop->quality, 0);
    if (av >= 0)
        av = avcodec_open2(c, encoder, NULL);
    return av < 0 ? codec_fail(err, "codec=h264: the encoder does not start", av) : 0;
}

static int codec_open_decoder(struct codec_loop *loop, struct err *err)
{
    const AVCodec *decoder = avcodec_find_decoder(AV_CODEC_ID_H264);
    if (!decoder)
        return codec_loop_check(err);
    AVCodecContext *c = loop->decoder = avcodec_alloc_context3(decoder);
    if (!c)
        return err_set(err, ERR_NOMEM, "no memory for an H.264 decoder");
    c->thread_count = 1;
    c->flags |= AV_CODEC_FLAG_LOW_DELAY;
    const int av = avcodec_open2(c, decoder, NULL);
    return av < 0 ? codec_fail(err, "codec=h264: the decoder does not start", av) : 0;
}

/* A new encoder and a new decoder: whatever the old ones still held is gone. */
static int codec_start(struct codec_loop *loop, struct err *err)
{
    avcodec_free_context(&loop->encoder);
    avcodec_free_context(&loop->decoder);
    int rc = codec_open_encoder(loop, err);
    if (rc == 0)
        rc = codec_open_decoder(loop, err);
    loop->is_started = rc == 0;
    return rc;
}

static int codec_open_pictures(struct codec_loop *loop, struct err *err)
{
    const int w = loop->coded_w_px, h = loop->coded_h_px;
    loop->padded = malloc(loop->row_bytes * (size_t)h);
    loop->in = av_frame_alloc();
    loop->out = av_frame_alloc();
    loop->packet = av_packet_alloc();
    loop->to_yuv = sws_getContext(w, h, AV_PIX_FMT_RGB24, w, h, AV_PIX_FMT_YUV420P, CODEC_SWS, NULL, NULL, NULL);
    loop->to_rgb = sws_getContext(w, h, AV_PIX_FMT_YUV420P, w, h, AV_PIX_FMT_RGB24, CODEC_SWS, NULL, NULL, NULL);
    if (!loop->padded || !loop->in || !loop->out || !loop->packet || !loop->to_yuv || !loop->to_rgb)
        return err_set(err, ERR_NOMEM, "no memory for the pictures of a codec");
    const int *matrix = sws_getCoefficients(SWS_CS_ITU601);
    sws_setColorspaceDetails(loop->to_yuv, matrix, 1, matrix, 0, 0, 1 << 16, 1 << 16);
    sws_setColorspaceDetails(loop->to_rgb, matrix, 0, matrix, 1, 0, 1 << 16, 1 << 16);
    loop->in->format = AV_PIX_FMT_YUV420P;
    loop->in->width = w;
    loop->in->height = h;
    const int av = av_frame_get_buffer(loop->in, 0);
    return av < 0 ? codec_fail(err, "the pictures of a codec", av) : 0;
}

int codec_loop_open(int width_px, int height_px, double fps, int quality, struct codec_loop **ret_loop, struct err *err)
{
    struct codec_loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return err_set(err, ERR_NOMEM, "no memory for a codec");
    av_log_set_level(AV_LOG_QUIET); /* errors are ours to tell, once */
    loop->width_px = width_px;
    loop->height_px = height_px;
    loop->fps = fps;
    loop->quality = quality;
    loop->coded_w_px = (width_px + 1) & ~1;
    loop->coded_h_px = (height_px + 1) & ~1;
    loop->row_bytes = (size_t)loop->coded_w_px * 3;
    int rc = codec_start(loop, err);
    if (rc == 0)
        rc = codec_open_pictures(loop, err);
    if (rc != 0)
        goto fail;
    *ret_loop = loop;
    return 0;
fail:
    codec_loop_close(loop);
    return rc;
}

void codec_loop_close(struct codec_loop *loop)
{
    if (!loop)
        return;
    sws_freeContext(loop->to_yuv);
    sws_freeContext(loop->to_rgb);
    av_packet_free(&loop->packet);
    av_frame_free(&loop->in);
    av_frame_free(&loop->out);
    avcodec_free_context(&loop->encoder);
    avcodec_free_context(&loop->decoder);
    free(loop->padded);
    free(loop);
}

static void codec_pad(struct codec_loop *loop, const uint8_t *rgb, size_t stride_bytes)
{
    const size_t own_bytes = (size_t)loop->width_px * 3;
    for (int y = 0; y < loop->coded_h_px; y++) {
        const int from = y < loop->height_px ? y : loop->height_px - 1;
        uint8_t *row = loop->padded + (size_t)y * loop->row_bytes;
        memcpy(row, rgb + (size_t)from * stride_bytes, own_bytes);
        if (loop->row_bytes > own_bytes)
            memcpy(row + own_bytes, row + own_bytes - 3, 3);
    }
}

/* loop->in into the encoder, its one packet into the decoder, its one picture into loop->out. */
static int codec_pass(struct codec_loop *loop, bool is_key, struct err *err)
{
    loop->in->pts = loop->n_pictures++;
    loop->in->pict_type = is_key ? AV_PICTURE_TYPE_I : AV_PICTURE_TYPE_NONE;
    int av = avcodec_send_frame(loop->encoder, loop->in);
    if (av >= 0 && (av = avcodec_receive_packet(loop->encoder, loop->packet)) == AVERROR(EAGAIN))
        return err_set(err, ERR_IO, "codec=h264: the encoder gave nothing for a picture");
    if (av >= 0)
        av = avcodec_send_packet(loop->decoder, loop->packet);
    if (av >= 0 && (av = avcodec_receive_frame(loop->decoder, loop->out)) == AVERROR(EAGAIN))
        return err_set(err, ERR_IO, "codec=h264: the decoder gave nothing for a picture");
    if (av < 0)
        return codec_fail(err, "codec=h264: a picture did not come through", av);
    if (loop->out->pts != loop->in->pts)
        return err_set(err, ERR_IO, "codec=h264: another picture came back, %lld for %lld", (long long)loop->out->pts,
                       (long long)loop->in->pts);
    if (loop->out->width != loop->coded_w_px || loop->out->height != loop->coded_h_px ||
        loop->out->format != AV_PIX_FMT_YUV420P)
        return err_set(err, ERR_IO, "codec=h264: a picture of %d x %d came back as %d x %d", loop->coded_w_px, loop->coded_h_px,
                       loop->out->width, loop->out->height);
    return 0;
}

int codec_loop_run(struct codec_loop *loop, bool is_key, uint8_t *rgb, size_t stride_bytes, struct err *err)
{
    const int h = loop->coded_h_px;
    int rc = loop->is_started ? 0 : codec_start(loop, err);
    if (rc != 0)
        return rc;
    const int av = av_frame_make_writable(loop->in); /* the encoder may still hold the last */
    if (av < 0)
        return codec_fail(err, "codec=h264", av);
    codec_pad(loop, rgb, stride_bytes);
    const uint8_t *const from[4] = {loop->padded};
    const int strides[4] = {(int)loop->row_bytes};
    sws_scale(loop->to_yuv, from, strides, 0, h, loop->in->data, loop->in->linesize);
    rc = codec_pass(loop, is_key, err);
    if (rc == 0) {
        uint8_t *const to[4] = {loop->padded};
        sws_scale(loop->to_rgb, (const uint8_t *const *)loop->out->data, loop->out->linesize, 0, h, to, strides);
        for (int y = 0; y < loop->height_px; y++)
            memcpy(rgb + (size_t)y * stride_bytes, loop->padded + (size_t)y * loop->row_bytes, (size_t)loop->width_px * 3);
    }
    loop->is_started = rc == 0;
    av_packet_unref(loop->packet);
    av_frame_unref(loop->out);
    return rc;
}
