/*
 * picture - picture files (PNG, JPEG, WebP, BMP, GIF, TIFF, PNM, QOI) as RGB24: the en_picture_* functions of the door.
 *
 * The kind is told from the first bytes, and the whole file goes to that one libavcodec decoder: no container probing, nothing
 * that a file could talk into opening another file. This is the engine's only file that knows libav.
 *
 * What comes out is what the official processor gets from Pillow: EXIF orientation applied, alpha dropped (not blended),
 * palettes looked up, 16-bit colour cut to its high byte (16-bit grey too, where Pillow would clip nearly all of it to white),
 * JPEG and lossy WebP chroma enlarged with the triangle filter of libjpeg and libwebp. The first picture of an animation
 * counts.
 *
 * Threads: any; every call stands alone. Memory: en_picture_read and _decode allocate, en_picture_free frees.
 */
#ifndef HERON_ENGINE_PICTURE_H
#define HERON_ENGINE_PICTURE_H

#include "engine/engine.h"

#define PICTURE_MAX_PIXELS (64 * 1024 * 1024)  /* larger pictures are refused before their pixels are allocated */
#define PICTURE_MAX_BYTES  (256 * 1024 * 1024) /* larger files are not read */

enum picture_kind {
    PICTURE_UNKNOWN,
    PICTURE_PNG,
    PICTURE_JPEG,
    PICTURE_WEBP,
    PICTURE_BMP,
    PICTURE_GIF,
    PICTURE_TIFF,
    PICTURE_PNM,
    PICTURE_QOI,
    PICTURE_KIND_COUNT,
};

/* What the first bytes say. */
enum picture_kind picture_sniff(const uint8_t *bytes, size_t n_bytes);

/*
 * Whether the outer structure reaches its end: JPEG's and PNG's end marker, WebP's stated size, the end of a GIF's first
 * picture. Decoders are content with half a picture; a watch is not. True for kinds that have no such thing.
 */
bool picture_is_whole(enum picture_kind kind, const uint8_t *bytes, size_t n_bytes);

/* en_picture_decode with a limit of its own (that one: PICTURE_MAX_PIXELS). */
int picture_decode(const void *bytes, size_t n_bytes, const char *name, int64_t max_pixels, struct en_picture *ret_picture,
                   struct err *err);

#endif
