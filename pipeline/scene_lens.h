/*
 * scene_lens - what lies between a drawn scene and the camera's picture of it: time of day, lamps, fog, rain, exposure, vignette and noise, in one pass over the
 * pixels.
 *
 * Life cycle: scene_lens_open -> scene_lens_apply any number of times -> scene_lens_close. Threads: one at a time. Memory: all in open.
 */
#ifndef HERON_PIPELINE_SCENE_LENS_H
#define HERON_PIPELINE_SCENE_LENS_H

#include "base/err.h"
#include "pipeline/yard.h"

struct scene_lens;

/* Errors: ERR_NOMEM. view: borrowed for the call; distance of each pixel's ground gives fog its depth. */
int scene_lens_open(const struct scene_view *view, uint64_t seed, int width_px, int height_px, struct scene_lens **ret_lens,
                    struct err *err);
/* NULL is allowed. */
void scene_lens_close(struct scene_lens *lens);

/*
 * rgb [height_px] rows of stride_bytes, drawn in full daylight -> the camera's picture. glow [height_px, width_px] is the lamps' light. map [height_px, width_px] and
 * depth_m[256]: the distance of the object that a pixel shows (map 0: the ground's or the sky's own). emit[256]: how much of its light an object brings itself: 255 for
 * fire, less for smoke, 0 for what is only lit. i_frame seeds noise and rain.
 */
void scene_lens_apply(struct scene_lens *lens, const struct yard_sky *sky, uint64_t i_frame, const uint8_t *glow,
                      const uint8_t *map, const float depth_m[256], const uint8_t emit[256], uint8_t *rgb, size_t stride_bytes);

/*
 * How one drawn pixel looks in the frame that was applied last: what scene_lens_apply makes of it, without the noise and without the drops that fall before it. glow as
 * above; id and emit: of the object that it shows, 0 for none: then it is wet ground where it rains. For measuring contrast. Cost: some nanoseconds.
 */
void scene_lens_look(const struct scene_lens *lens, int x_px, int y_px, uint8_t glow, uint8_t id, uint8_t emit,
                     const uint8_t rgb[3], uint8_t ret_rgb[3]);

#endif
