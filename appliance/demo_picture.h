/*
 * demo_picture - what a rendered camera shows at a frame number, small enough for a terminal.
 *
 * The scene is rendered a second time here, at a few pixels for each that is shown and without the camera's codec: cheap, and the same instant of the same
 * world as the frame of that number.
 *
 * Life cycle: demo_picture_open -> demo_picture_draw as often as wanted -> demo_picture_close. Threads: one owner. Memory: the renderer's, and one picture.
 */
#ifndef HERON_APPLIANCE_DEMO_PICTURE_H
#define HERON_APPLIANCE_DEMO_PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct demo_picture;

/*
 * source: of a camera. Errors: ERR_INVAL (not a rendered camera, or not a right one), ERR_NOMEM.
 */
int demo_picture_open(const char *source, struct demo_picture **ret_picture, struct err *err);
void demo_picture_close(struct demo_picture *picture);

/* What is rendered, in words: "yard, seed 7". */
void demo_picture_name(const struct demo_picture *picture, char *out, size_t cap);

/* Width by height of the camera's picture. */
double demo_picture_aspect(const struct demo_picture *picture);

/* Frames a second; 0: the camera is not paced by a clock, and which frame it shows now cannot be told. */
double demo_picture_fps(const struct demo_picture *picture);

/*
 * Draw a frame into rgb [height_px, width_px, 3]. What rgb holds is taken for the picture before: pixels that hardly differ from it stay as they are, so that
 * a camera's noise does not repaint the screen.
 *
 * Cost: rendering about (3 * width_px) * (3 * height_px) pixels. Errors: ERR_NOMEM, ERR_INVAL; rgb is untouched.
 */
int demo_picture_draw(struct demo_picture *picture, uint64_t i_frame, uint8_t *rgb, int width_px, int height_px,
                      struct err *err);

#endif
