/*
 * image - pictures on the host before the vision tower: which size they are given, and the resampling to it.
 *
 * Both steps do what the model family's official image processor does on its Pillow path, to the bit: the size by the "smart
 * resize" rule in double precision, the pixels by Pillow's antialiased bicubic filter in 22-bit fixed point. Normalisation to
 * floats happens on the device (op patchify).
 *
 * Threads: pure functions, any thread; a resizer belongs to one thread. Memory: image_resize_rgb takes its scratch from the caller and keeps
 * nothing between calls. A resizer keeps the filters of the sizes it has seen and its working rows, so that a camera's pictures are resized
 * without an allocation and without the filters' weights being worked out anew.
 */
#ifndef HERON_ENGINE_IMAGE_H
#define HERON_ENGINE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/image.h"

#define IMAGE_MAX_ASPECT  200 /* longer pictures than 200 : 1 are refused, as the official processor does */
#define IMAGE_MAX_SIDE_PX (1 << 20)

/*
 * The size that a picture of width_px x height_px is given before the tower.
 *
 * tile_px     patch size times merge size (32): both results are multiples of it
 * min_pixels  pictures of less area are enlarged to at least this
 * max_pixels  pictures of more area are reduced to at most this. Where the two disagree max_pixels wins. The official rule may
 *             pass max_pixels with very thin pictures when it is near min_pixels; here the long side is then cut down, so that
 *             the limit always holds
 *
 * Errors: ERR_INVAL (empty picture, aspect ratio above IMAGE_MAX_ASPECT, max_pixels below one tile). Spec: vision section 4.1.
 */
int image_target_size(int width_px, int height_px, int tile_px, int64_t min_pixels, int64_t max_pixels, int *ret_width_px,
                      int *ret_height_px, struct err *err);

/* Scratch that image_resize_rgb wants for these sizes: the filters' weights and a few rows. */
size_t image_resize_scratch_bytes(int src_width_px, int src_height_px, int dst_width_px, int dst_height_px);

/*
 * Stretch `src` to dst_width_px x dst_height_px.
 *
 * src      RGB24, or GRAY8 (every channel gets the grey value); borrowed for the call
 * dst      [dst_height_px, dst_width_px, 3] bytes without padding, the caller's; does not overlap src
 * scratch  at least image_resize_scratch_bytes of these sizes, aligned as by malloc; scratch_bytes is checked
 *
 * A direction whose size does not change is copied, not filtered. The order of the two passes is that of Pillow 13.0:
 * horizontal first, unless the height shrinks by more than twice as many pixels as the width (older Pillows, and the
 * specification: always horizontal first). Cost: about (taps_x * src_h * dst_w + taps_y * dst_h * dst_w)
 * * 3 multiplications, taps being 4 when enlarging and 4 * src / dst when reducing. Errors: ERR_UNSUPPORTED (another pixel
 * format), ERR_INVAL (sizes, strides, scratch too small). dst is unspecified after an error. Spec: vision section 4.3.
 */
int image_resize_rgb(const struct image_view *src, int dst_width_px, int dst_height_px, uint8_t *dst, void *scratch,
                     size_t scratch_bytes, struct err *err);

/* Filters that a resizer keeps: one for each pair of lengths, so that 24 sizes of cameras and targets fit. The one unused for longest makes room. */
#define IMAGE_FILTERS_MAX 48

struct image_resizer;

/* Errors: ERR_NOMEM. */
int image_resizer_create(struct image_resizer **ret_resizer, struct err *err);
void image_resizer_free(struct image_resizer *resizer); /* takes NULL */

/* image_resize_rgb with the resizer's memory, the same to the bit. Errors: those, and ERR_NOMEM. */
int image_resizer_run(struct image_resizer *resizer, const struct image_view *src, int dst_width_px, int dst_height_px,
                      uint8_t *dst, struct err *err);

#endif
