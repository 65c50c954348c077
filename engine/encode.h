/*
 * encode - pictures on their way into prompts: target size, resizing, the vision tower, and the pool of encoded pictures. Public functions
 * (en_picture_target, en_image_*) are those of engine.h.
 *
 * Threads: the engine thread. Memory: the pool is allocated when the engine opens.
 */
#ifndef HERON_ENGINE_ENCODE_H
#define HERON_ENGINE_ENCODE_H

#include "engine/internal.h"

/* A picture in its target size, ready for the tower. */
struct encode_picture {
    uint8_t *rgb; /* [height, width, 3] of the engine's blocks */
    int width_px, height_px, tokens;
};

/* Resize a view to its target size under the area cap max_pixels (0: the engine's). Errors: as en_image_encode. */
int encode_prepare(struct en_engine *e, const struct image_view *view, int64_t max_pixels, struct encode_picture *ret_picture,
                   struct err *err);
void encode_picture_release(struct encode_picture *picture);

/* Run the tower. Errors: ERR_FULL (no free slot in the pool), ERR_DEVICE. */
int encode_run(struct en_engine *e, const struct encode_picture *picture, struct en_image **ret_image, struct err *err);

#endif
