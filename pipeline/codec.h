/*
 * codec - this room's only file that knows libavcodec: pictures written as PNG (pl_picture_write of the door), and the loop through H.264 that
 * gives rendered frames the marks of compression.
 *
 * A codec_loop is an encoder and its decoder back to back: one picture in, the same picture out as a viewer of the stream would see it. As
 * cameras do it: 4:2:0, no B-frames, nothing held back, a constant quantiser, key frames only where the caller wants them. A picture
 * depends on those before it back to the last key frame and on nothing else, neither on threads nor on the time; another version of the
 * encoder may give other bytes. Each picture carries its number there and back: what comes out is what went in, or an error.
 *
 * Life cycle: codec_loop_open -> codec_loop_run per picture -> codec_loop_close. Threads: one at a time per loop. Memory: pictures and contexts in
 * open, contexts anew behind a failure; libavcodec allocates its packets while it runs.
 */
#ifndef HERON_PIPELINE_CODEC_H
#define HERON_PIPELINE_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CODEC_QUALITY_MIN     18 /* hardly to be seen */
#define CODEC_QUALITY_MAX     40 /* a bad line */
#define CODEC_QUALITY_DEFAULT 28 /* an ordinary camera */

struct codec_loop;

/* Whether this libavcodec can encode and decode H.264. Errors: ERR_UNSUPPORTED, with the encoders that were looked for. */
int codec_loop_check(struct err *err);

/*
 * Open a loop for pictures of any size; odd sides are padded by repeating the last column or row, which is cut off again.
 *
 * fps      tells the encoder how far pictures are apart
 * quality  the quantiser, CODEC_QUALITY_MIN to _MAX; larger is worse
 *
 * Errors: those of codec_loop_check; ERR_NOMEM.
 */
int codec_loop_open(int width_px, int height_px, double fps, int quality, struct codec_loop **ret_loop, struct err *err);

/*
 * Encode rgb [height_px, width_px, 3] (rows of stride_bytes), decode it and put the result in its place. is_key: start anew, without reference
 * to pictures before; the first is always one, and the first behind a failure. On failure rgb is as it was, and the next call begins with a new
 * encoder and decoder, in which nothing of before is left. Errors: ERR_IO, ERR_NOMEM, with libavcodec's words; those of codec_loop_open.
 */
int codec_loop_run(struct codec_loop *loop, bool is_key, uint8_t *rgb, size_t stride_bytes, struct err *err);

/* Takes NULL and a half-built one. */
void codec_loop_close(struct codec_loop *loop);

/* Replace the list of encoders (NULL-terminated, static; NULL: the built-in one). For tests, before other threads open loops. */
void codec_set_encoders(const char *const *names);

#endif
