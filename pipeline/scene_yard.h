/*
 * scene_yard - one frame of the scene `yard`: a moment of its world, drawn from far to near, and what can be seen in it.
 *
 * Life cycle: scene_yard_open -> scene_yard_draw any number of times -> scene_yard_close. Threads: one at a time. Memory: all in open.
 */
#ifndef HERON_PIPELINE_SCENE_YARD_H
#define HERON_PIPELINE_SCENE_YARD_H

#include "base/err.h"
#include "pipeline/scene_truth.h"
#include "pipeline/yard.h"

struct scene_yard;

/* Sizes above 0. Errors: ERR_NOMEM. */
int scene_yard_open(uint64_t seed, int width_px, int height_px, struct scene_yard **ret_yard, struct err *err);
/* NULL is allowed. */
void scene_yard_close(struct scene_yard *s);

/* Draw a moment, one of the world's (yard_at with a yard of the same seed and size) or one put together by hand. ret_truth may be NULL. */
void scene_yard_draw(struct scene_yard *s, const struct yard_moment *moment, uint64_t i_frame, uint8_t *rgb,
                     size_t stride_bytes, struct scene_truth *ret_truth);

#endif
