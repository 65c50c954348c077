/*
 * vision - the vision tower: RGB pixels to rows that take the place of image tokens' embeddings.
 *
 * Straight-line code over the kernels' op table: patches, learned positions, N transformer blocks with 2-D rotary embedding and
 * full attention inside the picture, merger. One picture per call; attention never crosses pictures.
 *
 * Life cycle: vision_raise_limits before the stream is opened, vision_open (allocates all scratch for the largest picture),
 * vision_forward as often as wanted, vision_close. The model's weights are borrowed and must outlive the tower.
 * Threads: one at a time, the stream's. Memory: vision_scratch_bytes on the device; vision_forward allocates nothing.
 * Invariant: a picture's rows depend on its pixels only, to the bit.
 */
#ifndef HERON_ENGINE_VISION_H
#define HERON_ENGINE_VISION_H

#include "engine/breath.h"
#include "engine/model.h"

struct vision;

/* Tokens of a picture that already has its target size: rows that vision_forward writes. */
int32_t vision_tokens(const struct vision_shape *shape, int width_px, int height_px);

/* Raise each field of *limits to what the tower asks of a stream with pictures of up to max_pixels. */
void vision_raise_limits(const struct vision_shape *shape, int64_t max_pixels, struct kn_limits *limits);

/* Device memory that vision_open takes, for en_plan_memory. */
uint64_t vision_scratch_bytes(const struct vision_shape *shape, int64_t max_pixels);

/*
 * Allocate the scratch for pictures of up to max_pixels (after resizing).
 * model  borrowed until vision_close. Errors: ERR_INVAL (max_pixels below one tile), ERR_NOMEM with figures.
 */
int vision_open(struct kn_device *device, const struct vision_model *model, int64_t max_pixels, struct vision **ret_vision,
                struct err *err);
void vision_close(struct vision *vision);

/* Between layers; borrowed. NULL: none. */
void vision_set_breath(struct vision *vision, struct breath *breath);

/*
 * Put the tower's ops for one picture on the stream.
 *
 * rgb   host bytes [height_px, width_px, 3]; borrowed for the call (they are uploaded before it returns)
 * size  both sides multiples of patch_px * merge (32), area at most the max_pixels of vision_open
 * out   device [vision_tokens, n_out], rows in raster order; the caller's
 *
 * A still picture is both frames of a temporal patch. Errors: ERR_INVAL (size), ERR_FULL (area), in which case nothing is on
 * the stream; ERR_CANCELLED (given up between two layers); what the ops find wrong comes with kn_stream_sync. Spec: vision sections 4.5 to 7.
 */
int vision_forward(struct vision *vision, struct kn_stream *stream, const uint8_t *rgb, int width_px, int height_px,
                   struct kn_mat out, struct err *err);

#endif
