#include "engine/picture.h"

#include <errno.h>
#include <libavcodec/avcodec.h>
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what it is ---------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum AVCodecID codec;
} picture_kinds[PICTURE_KIND_COUNT] = {
    [PICTURE_PNG] = {"PNG", AV_CODEC_ID_PNG},    [PICTURE_JPEG] = {"JPEG", AV_CODEC_ID_MJPEG},
    [PICTURE_WEBP] = {"WebP", AV_CODEC_ID_WEBP}, [PICTURE_BMP] = {"BMP", AV_CODEC_ID_BMP},
    [PICTURE_GIF] = {"GIF", AV_CODEC_ID_GIF},    [PICTURE_TIFF] = {"TIFF", AV_CODEC_ID_TIFF},
    [PICTURE_PNM] = {"PNM", AV_CODEC_ID_PPM},    [PICTURE_QOI] = {"QOI", AV_CODEC_ID_QOI},
};

static bool starts_with(const uint8_t *bytes, size_t n_bytes, const char *magic, size_t n_magic)
{
    return n_bytes >= n_magic && memcmp(bytes, magic, n_magic) == 0;
}

enum picture_kind picture_sniff(const uint8_t *bytes, size_t n_bytes)
{
    if (starts_with(bytes, n_bytes, "\x89PNG\r\n\x1a\n", 8))
        return PICTURE_PNG;
    if (starts_with(bytes, n_bytes, "\xff\xd8\xff", 3))
        return PICTURE_JPEG;
    if (n_bytes >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0)
        return PICTURE_WEBP;
    if (starts_with(bytes, n_bytes, "BM", 2) && n_bytes >= 26)
        return PICTURE_BMP;
    if (starts_with(bytes, n_bytes, "GIF87a", 6) || starts_with(bytes, n_bytes, "GIF89a", 6))
        return PICTURE_GIF;
    if (starts_with(bytes, n_bytes, "II*\0", 4) || starts_with(bytes, n_bytes, "MM\0*", 4))
        return PICTURE_TIFF;
    if (n_bytes >= 3 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6' &&
        (bytes[2] == '\n' || bytes[2] == ' ' || bytes[2] == '\r' || bytes[2] == '\t'))
        return PICTURE_PNM;
    if (starts_with(bytes, n_bytes, "qoif", 4))
        return PICTURE_QOI;
    return PICTURE_UNKNOWN;
}

static uint32_t read_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t read_le32(const uint8_t *p)
{
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

/* Chunks up to IEND. */
static bool png_is_whole(const uint8_t *bytes, size_t n_bytes)
{
    size_t at = 8;
    while (n_bytes - at >= 12) {
        const uint32_t length = read_be32(bytes + at);
        if (length > n_bytes - at - 12)
            return false;
        if (memcmp(bytes + at + 4, "IEND", 4) == 0)
            return true;
        at += (size_t)length + 12;
    }
    return false;
}

/* Segments by their length up to the first scan; inside scans FF D9 can only be the end marker. */
static bool jpeg_is_whole(const uint8_t *bytes, size_t n_bytes)
{
    size_t at = 2;
    while (n_bytes - at >= 4) {
        if (bytes[at] != 0xFF)
            return false;
        const uint8_t marker = bytes[at + 1];
        if (marker == 0xFF) { /* fill byte */
            at++;
            continue;
        }
        if (marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8)) {
            at += 2;
            continue;
        }
        const size_t length = (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        if (length < 2 || length > n_bytes - at - 2)
            return false;
        at += 2 + length;
        if (marker != 0xDA)
            continue;
        for (; n_bytes - at >= 2; at++)
            if (bytes[at] == 0xFF && bytes[at + 1] == 0xD9)
                return true;
        return false;
    }
    return false;
}

/* Blocks up to the end of the first picture's data. */
static bool gif_is_whole(const uint8_t *bytes, size_t n_bytes)
{
    if (n_bytes < 13)
        return false;
    size_t at = 13 + ((bytes[10] & 0x80) ? (size_t)3 << ((bytes[10] & 7) + 1) : 0);
    while (at < n_bytes && (bytes[at] == 0x21 || bytes[at] == 0x2C)) {
        const bool is_picture = bytes[at] == 0x2C;
        if (!is_picture) {
            at += 2;
        } else {
            if (n_bytes - at < 11)
                return false;
            at += 11 + ((bytes[at + 9] & 0x80) ? (size_t)3 << ((bytes[at + 9] & 7) + 1) : 0);
        }
        while (at < n_bytes && bytes[at] != 0)
            at += (size_t)bytes[at] + 1;
        if (at >= n_bytes)
            return false;
        if (is_picture)
            return true;
        at++;
    }
    return false;
}

/* The flag of the extended header. */
static bool webp_is_animated(const uint8_t *bytes, size_t n_bytes)
{
    return n_bytes > 20 && memcmp(bytes + 12, "VP8X", 4) == 0 && (bytes[20] & 2);
}

bool picture_is_whole(enum picture_kind kind, const uint8_t *bytes, size_t n_bytes)
{
    switch (kind) {
    case PICTURE_PNG: return n_bytes >= 8 && png_is_whole(bytes, n_bytes);
    case PICTURE_JPEG: return n_bytes >= 2 && jpeg_is_whole(bytes, n_bytes);
    case PICTURE_WEBP: return n_bytes >= 12 && read_le32(bytes + 4) <= n_bytes - 8;
    case PICTURE_GIF: return gif_is_whole(bytes, n_bytes);
    default: return true;
    }
}

/* ---- decoding ------------------------------------------------------------------------------------------------------------ */

/* What a decoder wants to allocate, seen before it does. */
struct picture_size {
    int64_t max_pixels;
    int width_px, height_px;
    bool is_too_large;
};

static int picture_get_buffer(AVCodecContext *codec, AVFrame *frame, int flags)
{
    struct picture_size *size = codec->opaque;

    size->width_px = frame->width;
    size->height_px = frame->height;
    size->is_too_large = (int64_t)frame->width * frame->height > size->max_pixels;
    return size->is_too_large ? AVERROR(EINVAL) : avcodec_default_get_buffer2(codec, frame, flags);
}

/* The decoder on its own: the whole file is one packet. */
static int picture_run_decoder(const uint8_t *bytes, size_t n_bytes, const char *name, enum picture_kind kind,
                               int64_t max_pixels, AVFrame *frame, struct err *err)
{
    struct picture_size size = {.max_pixels = max_pixels};
    AVCodecContext *codec = NULL;
    AVPacket *packet = NULL;
    int rc = 0, av;

    const AVCodec *decoder = avcodec_find_decoder(picture_kinds[kind].codec);
    if (!decoder)
        return err_set(err, ERR_UNSUPPORTED, "%s: this libavcodec has no decoder for %s", name, picture_kinds[kind].name);
    codec = avcodec_alloc_context3(decoder);
    packet = av_packet_alloc();
    if (!codec || !packet || av_new_packet(packet, (int)n_bytes) != 0) {
        rc = err_set(err, ERR_NOMEM, "%s: no memory to decode %zu bytes", name, n_bytes);
        goto fail;
    }
    memcpy(packet->data, bytes, n_bytes);
    packet->flags |= AV_PKT_FLAG_KEY;
    codec->opaque = &size;
    codec->get_buffer2 = picture_get_buffer;
    codec->thread_count = 1;
    codec->idct_algo = FF_IDCT_FAAN; /* in floating point: of libavcodec's it comes nearest to libjpeg's (measured) */
    codec->err_recognition = AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER | AV_EF_EXPLODE;
    /* above the limit by enough that picture_get_buffer sees the size and can name it */
    codec->max_pixels = max_pixels * 64;

    av = avcodec_open2(codec, decoder, NULL);
    if (av == 0)
        av = avcodec_send_packet(codec, packet);
    if (av == 0)
        av = avcodec_receive_frame(codec, frame);
    if (av == AVERROR(EAGAIN)) {
        avcodec_send_packet(codec, NULL);
        av = avcodec_receive_frame(codec, frame);
    }
    if (size.is_too_large)
        rc = err_set(err, ERR_UNSUPPORTED, "%s: picture of %d x %d pixels, at most %d million pixels are read", name,
                     size.width_px, size.height_px, (int)(max_pixels / 1000000));
    else if (av == AVERROR(ENOMEM))
        rc = err_set(err, ERR_NOMEM, "%s: no memory to decode the picture", name);
    else if (av != 0 && kind == PICTURE_WEBP && webp_is_animated(bytes, n_bytes))
        rc = err_set(err, ERR_UNSUPPORTED, "%s: an animated WebP, which this libavcodec does not decode", name);
    else if (av == AVERROR_PATCHWELCOME)
        rc =
            err_set(err, ERR_UNSUPPORTED, "%s: a %s of a kind that libavcodec does not decode", name, picture_kinds[kind].name);
    else if (av != 0)
        rc = err_set(err, ERR_FORMAT, "%s: damaged %s picture (%zu bytes), or one of more than %d million pixels", name,
                     picture_kinds[kind].name, n_bytes, (int)(max_pixels / 1000000));
    else if (frame->width < 1 || frame->height < 1 || !frame->data[0])
        rc = err_set(err, ERR_FORMAT, "%s: %s file without a picture", name, picture_kinds[kind].name);

fail:
    av_packet_free(&packet);
    avcodec_free_context(&codec);
    return rc;
}

/* ---- colours ------------------------------------------------------------------------------------------------------------- */

static uint8_t clip_u8(int v)
{
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* JFIF's YCbCr, in libjpeg's 16-bit fixed point. */
static void rgb_of_jfif(int y, int cb, int cr, uint8_t *rgb)
{
    cb -= 128;
    cr -= 128;
    rgb[0] = clip_u8(y + ((91881 * cr + 32768) >> 16));
    rgb[1] = clip_u8(y + ((-22554 * cb - 46802 * cr + 32768) >> 16));
    rgb[2] = clip_u8(y + ((116130 * cb + 32768) >> 16));
}

/* BT.601 studio range as WebP defines it, in libwebp's fixed point. */
static void rgb_of_webp(int y, int u, int v, uint8_t *rgb)
{
    const int luma = (y * 19077) >> 8;
    rgb[0] = clip_u8((luma + ((v * 26149) >> 8) - 14234) >> 6);
    rgb[1] = clip_u8((luma - ((u * 6419) >> 8) - ((v * 13320) >> 8) + 8708) >> 6);
    rgb[2] = clip_u8((luma + ((u * 33050) >> 8) - 17685) >> 6);
}

/*
 * Chroma at full size: triangle filter over the nearest sample, its neighbour across, its neighbour up or down, and the one at the
 * corner. Rounding follows libjpeg (bias alternates by column, or by row where only rows are halved) or libwebp.
 */
struct picture_chroma {
    const uint8_t *data;
    int stride_bytes, width, height;
    int shift_x, shift_y;
    bool is_webp, is_plain; /* is_plain: too narrow for libjpeg's filter, repeated */
};

#define CHROMA_RUN 256 /* pixels of a row that are worked out at once */

/* `out` gets n values of row y from column x0 on. */
static void picture_chroma_run(const struct picture_chroma *c, int x0, int y, int n, uint8_t *out)
{
    const int near_y = y >> c->shift_y;
    int far_y = near_y;
    if (c->shift_y && !c->is_plain)
        far_y += (y & 1) ? 1 : -1;
    far_y = far_y < 0 ? 0 : far_y >= c->height ? c->height - 1 : far_y;
    const uint8_t *near_row = c->data + (ptrdiff_t)near_y * c->stride_bytes;
    const uint8_t *far_row = c->data + (ptrdiff_t)far_y * c->stride_bytes;

    if (!c->shift_x || c->is_plain) {
        for (int i = 0; i < n; i++) {
            const int at = (x0 + i) >> c->shift_x;
            out[i] = c->shift_y ? (uint8_t)((3 * near_row[at] + far_row[at] + ((y & 1) ? 2 : 1)) >> 2) : near_row[at];
        }
        return;
    }
    for (int i = 0; i < n; i++) {
        const int x = x0 + i, near_x = x >> 1;
        int far_x = near_x + ((x & 1) ? 1 : -1);
        far_x = far_x < 0 ? 0 : far_x >= c->width ? c->width - 1 : far_x;
        const int here = near_row[near_x], across = near_row[far_x], down = far_row[near_x], corner = far_row[far_x];
        if (c->is_webp)
            out[i] = (uint8_t)((((here + across + down + corner + 8 + 2 * (across + down)) >> 3) + here) >> 1);
        else if (c->shift_y)
            out[i] = (uint8_t)((9 * here + 3 * across + 3 * down + corner + ((x & 1) ? 7 : 8)) >> 4);
        else
            out[i] = (uint8_t)((3 * here + across + ((x & 1) ? 2 : 1)) >> 2);
    }
}

static bool picture_is_yuv8(const AVPixFmtDescriptor *desc)
{
    return !(desc->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_BITSTREAM)) &&
           (desc->flags & AV_PIX_FMT_FLAG_PLANAR) && desc->nb_components >= 3 && desc->comp[0].depth == 8 &&
           desc->comp[1].step == 1 && desc->comp[1].plane == 1 && desc->comp[2].plane == 2 && desc->log2_chroma_w <= 1 &&
           desc->log2_chroma_h <= 1;
}

static void picture_yuv_to_rgb(const AVFrame *frame, const AVPixFmtDescriptor *desc, bool is_webp, uint8_t *rgb)
{
    const int chroma_w = (frame->width + desc->log2_chroma_w) >> desc->log2_chroma_w;
    const int chroma_h = (frame->height + desc->log2_chroma_h) >> desc->log2_chroma_h;
    struct picture_chroma c[2];

    for (int i = 0; i < 2; i++)
        c[i] = (struct picture_chroma){.data = frame->data[1 + i],
                                       .stride_bytes = frame->linesize[1 + i],
                                       .width = chroma_w,
                                       .height = chroma_h,
                                       .shift_x = desc->log2_chroma_w,
                                       .shift_y = desc->log2_chroma_h,
                                       .is_webp = is_webp,
                                       .is_plain = !is_webp && desc->log2_chroma_w && chroma_w <= 2};
    for (int y = 0; y < frame->height; y++) {
        const uint8_t *luma = frame->data[0] + (ptrdiff_t)y * frame->linesize[0];
        for (int x0 = 0; x0 < frame->width; x0 += CHROMA_RUN) {
            const int n = frame->width - x0 < CHROMA_RUN ? frame->width - x0 : CHROMA_RUN;
            uint8_t cb[CHROMA_RUN], cr[CHROMA_RUN];
            picture_chroma_run(&c[0], x0, y, n, cb);
            picture_chroma_run(&c[1], x0, y, n, cr);
            for (int i = 0; i < n; i++, rgb += 3) {
                if (is_webp)
                    rgb_of_webp(luma[x0 + i], cb[i], cr[i], rgb);
                else
                    rgb_of_jfif(luma[x0 + i], cb[i], cr[i], rgb);
            }
        }
    }
}

/* Grey, RGB in any order and with any fourth channel, packed or planar, 8 or 16 bits: a byte of each component is picked. */
static bool picture_is_plain(const AVPixFmtDescriptor *desc)
{
    const bool is_gray = desc->nb_components <= 2;
    if ((desc->flags & (AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_BITSTREAM | AV_PIX_FMT_FLAG_FLOAT)) ||
        !(is_gray || (desc->flags & AV_PIX_FMT_FLAG_RGB)))
        return false;
    for (int i = 0; i < (is_gray ? 1 : 3); i++)
        if ((desc->comp[i].depth != 8 && desc->comp[i].depth != 16) || desc->comp[i].shift != 0)
            return false;
    return true;
}

static void picture_plain_to_rgb(const AVFrame *frame, const AVPixFmtDescriptor *desc, uint8_t *rgb)
{
    for (int channel = 0; channel < 3; channel++) {
        const AVComponentDescriptor *comp = &desc->comp[desc->nb_components <= 2 ? 0 : channel];
        const int high_byte = comp->depth == 16 && !(desc->flags & AV_PIX_FMT_FLAG_BE);
        for (int y = 0; y < frame->height; y++) {
            const uint8_t *in =
                frame->data[comp->plane] + (ptrdiff_t)y * frame->linesize[comp->plane] + comp->offset + high_byte;
            uint8_t *out = rgb + (size_t)y * (size_t)frame->width * 3 + channel;
            for (int x = 0; x < frame->width; x++)
                out[3 * x] = in[x * comp->step];
        }
    }
}

static void picture_palette_to_rgb(const AVFrame *frame, uint8_t *rgb)
{
    for (int y = 0; y < frame->height; y++) {
        const uint8_t *in = frame->data[0] + (ptrdiff_t)y * frame->linesize[0];
        for (int x = 0; x < frame->width; x++, rgb += 3) {
            uint32_t argb; /* the palette is in the machine's byte order */
            memcpy(&argb, frame->data[1] + 4 * (size_t)in[x], sizeof argb);
            rgb[0] = (uint8_t)(argb >> 16);
            rgb[1] = (uint8_t)(argb >> 8);
            rgb[2] = (uint8_t)argb;
        }
    }
}

/* Everything else that libswscale knows. */
static int picture_scale_to_rgb(const AVFrame *frame, const char *name, uint8_t *rgb, struct err *err)
{
    struct SwsContext *sws = sws_getContext(
        frame->width, frame->height, frame->format, frame->width, frame->height, AV_PIX_FMT_RGB24,
        SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP | SWS_BITEXACT, NULL, NULL, NULL);
    uint8_t *const planes[4] = {rgb};
    const int strides[4] = {frame->width * 3};
    int rows = -1;

    if (sws) {
        const int *matrix = sws_getCoefficients(SWS_CS_ITU601);
        sws_setColorspaceDetails(sws, matrix, frame->color_range == AVCOL_RANGE_JPEG, matrix, 1, 0, 1 << 16, 1 << 16);
        rows = sws_scale(sws, (const uint8_t *const *)frame->data, frame->linesize, 0, frame->height, planes, strides);
        sws_freeContext(sws);
    }
    if (rows != frame->height)
        return err_set(err, ERR_UNSUPPORTED, "%s: pixel format %s cannot be converted to RGB", name,
                       av_get_pix_fmt_name(frame->format) ? av_get_pix_fmt_name(frame->format) : "unknown");
    return 0;
}

/* ---- orientation --------------------------------------------------------------------------------------------------------- */

#define EXIF_TAG_ORIENTATION 0x112

/* Orientation in the first directory of a block of EXIF (a TIFF header and what follows); 0 where it is not there. */
static int exif_orientation(const uint8_t *exif, size_t n_bytes)
{
    if (n_bytes < 8 || (memcmp(exif, "II*\0", 4) != 0 && memcmp(exif, "MM\0*", 4) != 0))
        return 0;
    const bool is_le = exif[0] == 'I';
    const uint32_t directory = is_le ? read_le32(exif + 4) : read_be32(exif + 4);
    if (directory > n_bytes - 2)
        return 0;
    const uint8_t *at = exif + directory;
    const size_t n_entries = is_le ? at[0] | (size_t)at[1] << 8 : at[1] | (size_t)at[0] << 8;
    at += 2;
    for (size_t i = 0; i < n_entries && (size_t)(exif + n_bytes - at) >= 12; i++, at += 12) {
        const int tag = is_le ? at[0] | at[1] << 8 : at[1] | at[0] << 8;
        if (tag == EXIF_TAG_ORIENTATION)
            return is_le ? at[8] | at[9] << 8 : at[9] | at[8] << 8;
    }
    return 0;
}

/* PNG's eXIf chunk, which this libavcodec passes over. The file is known to be whole. */
static int png_orientation(const uint8_t *bytes, size_t n_bytes)
{
    for (size_t at = 8; n_bytes - at >= 12;) {
        const uint32_t length = read_be32(bytes + at);
        if (length > n_bytes - at - 12)
            break;
        if (memcmp(bytes + at + 4, "eXIf", 4) == 0)
            return exif_orientation(bytes + at + 8, length);
        at += (size_t)length + 12;
    }
    return 0;
}

/* EXIF orientation 1 to 8; 1 where there is none. */
static int picture_orientation(const AVFrame *frame, enum picture_kind kind, const uint8_t *bytes, size_t n_bytes)
{
    const AVDictionaryEntry *entry = av_dict_get(frame->metadata, "Orientation", NULL, 0);
    const int value = kind == PICTURE_PNG ? png_orientation(bytes, n_bytes) : entry ? atoi(entry->value) : 1;
    return value >= 1 && value <= 8 ? value : 1;
}

/* Turn and mirror [h, w, 3] so that it stands upright; 5 to 8 swap the sides. */
static void picture_turn(const uint8_t *in, int width_px, int height_px, int orientation, uint8_t *out)
{
    const bool is_swapped = orientation >= 5;
    const int out_w = is_swapped ? height_px : width_px, out_h = is_swapped ? width_px : height_px;
    const bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    const bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;

    for (int y = 0; y < out_h; y++)
        for (int x = 0; x < out_w; x++, out += 3) {
            int in_x = is_swapped ? y : x, in_y = is_swapped ? x : y;
            in_x = flip_x ? width_px - 1 - in_x : in_x;
            in_y = flip_y ? height_px - 1 - in_y : in_y;
            memcpy(out, in + ((size_t)in_y * (size_t)width_px + (size_t)in_x) * 3, 3);
        }
}

/* ---- the door ------------------------------------------------------------------------------------------------------------ */

static int picture_to_rgb(const AVFrame *frame, enum picture_kind kind, const char *name, uint8_t *rgb, struct err *err)
{
    const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(frame->format);
    if (desc && picture_is_plain(desc))
        picture_plain_to_rgb(frame, desc, rgb);
    else if (frame->format == AV_PIX_FMT_PAL8 && frame->data[1])
        picture_palette_to_rgb(frame, rgb);
    else if (desc && (kind == PICTURE_JPEG || kind == PICTURE_WEBP) && picture_is_yuv8(desc))
        picture_yuv_to_rgb(frame, desc, kind == PICTURE_WEBP, rgb);
    else
        return picture_scale_to_rgb(frame, name, rgb, err);
    return 0;
}

int picture_decode(const void *bytes, size_t n_bytes, const char *name, int64_t max_pixels, struct en_picture *ret_picture,
                   struct err *err)
{
    const enum picture_kind kind = picture_sniff(bytes, n_bytes);
    AVFrame *frame = NULL;
    uint8_t *rgb = NULL, *turned = NULL;
    int rc;

    if (kind == PICTURE_UNKNOWN)
        return err_set(err, ERR_UNSUPPORTED, "%s: not a picture Heron reads (PNG, JPEG, WebP, BMP, GIF, TIFF, PNM, QOI)%s",
                       name, n_bytes == 0 ? ": the file is empty" : "");
    if (n_bytes > PICTURE_MAX_BYTES)
        return err_set(err, ERR_UNSUPPORTED, "%s: %zu bytes, at most %d are read", name, n_bytes, PICTURE_MAX_BYTES);
    if (!picture_is_whole(kind, bytes, n_bytes))
        return err_set(err, ERR_FORMAT, "%s: the %s file is truncated (%zu bytes are there)", name, picture_kinds[kind].name,
                       n_bytes);
    av_log_set_level(AV_LOG_QUIET); /* errors are ours to tell, once */
    frame = av_frame_alloc();
    if (!frame)
        return err_set(err, ERR_NOMEM, "%s: no memory to decode the picture", name);
    rc = picture_run_decoder(bytes, n_bytes, name, kind, max_pixels, frame, err);
    if (rc)
        goto fail;

    const size_t rgb_bytes = (size_t)frame->width * (size_t)frame->height * 3;
    const int orientation = picture_orientation(frame, kind, bytes, n_bytes);
    rgb = malloc(rgb_bytes);
    turned = orientation != 1 ? malloc(rgb_bytes) : NULL;
    if (!rgb || (orientation != 1 && !turned)) {
        rc = err_set(err, ERR_NOMEM, "%s: no memory for %d x %d pixels", name, frame->width, frame->height);
        goto fail;
    }
    rc = picture_to_rgb(frame, kind, name, rgb, err);
    if (rc)
        goto fail;
    if (turned) {
        picture_turn(rgb, frame->width, frame->height, orientation, turned);
        free(rgb);
        rgb = turned;
        turned = NULL;
    }

    const bool is_swapped = orientation >= 5;
    const int width_px = is_swapped ? frame->height : frame->width, height_px = is_swapped ? frame->width : frame->height;
    *ret_picture = (struct en_picture){.view = {.format = IMAGE_RGB24,
                                                .width_px = width_px,
                                                .height_px = height_px,
                                                .plane = {rgb},
                                                .stride_bytes = {(size_t)width_px * 3}},
                                       .pixels = rgb};
    rgb = NULL;

fail:
    free(rgb);
    free(turned);
    av_frame_free(&frame);
    return rc;
}

int en_picture_decode(const void *bytes, size_t n_bytes, const char *name, struct en_picture *ret_picture, struct err *err)
{
    return picture_decode(bytes, n_bytes, name, PICTURE_MAX_PIXELS, ret_picture, err);
}

int en_picture_read(const char *path, struct en_picture *ret_picture, struct err *err)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = NULL;
    size_t n_bytes = 0, capacity = 0;
    int rc = 0;

    if (!file)
        return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: cannot open the picture", path);
    /* read to the end rather than ask for the size: pipes and /proc have none */
    for (;;) {
        if (n_bytes == capacity) {
            capacity = capacity ? 2 * capacity : 1 << 16;
            uint8_t *more = capacity <= 2 * (size_t)PICTURE_MAX_BYTES ? realloc(bytes, capacity) : NULL;
            if (!more) {
                rc = err_set(err, capacity > PICTURE_MAX_BYTES ? ERR_UNSUPPORTED : ERR_NOMEM,
                             "%s: the file is too large to read as a picture (at most %d bytes)", path, PICTURE_MAX_BYTES);
                goto fail;
            }
            bytes = more;
        }
        const size_t n = fread(bytes + n_bytes, 1, capacity - n_bytes, file);
        n_bytes += n;
        if (n == 0)
            break;
    }
    if (ferror(file)) {
        rc = err_set_errno(err, ERR_IO, "%s: cannot read the picture", path);
        goto fail;
    }
    rc = en_picture_decode(bytes, n_bytes, path, ret_picture, err);

fail:
    free(bytes);
    fclose(file);
    return rc;
}

void en_picture_free(struct en_picture *picture)
{
    if (!picture)
        return;
    free(picture->pixels);
    *picture = (struct en_picture){0};
}
