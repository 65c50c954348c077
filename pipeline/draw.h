/*
 * draw - filled, antialiased polygons on an RGB picture, and the same on a map of objects.
 *
 * Coordinates are pixels, x to the right, y down, pixel centres at halves. Vertices are rounded to 1/256 pixel and all coverage
 * arithmetic is in integers, so equal vertices give equal bytes everywhere. A sine is here too, because libm's differ.
 *
 * Threads: one at a time per canvas. Memory: canvas_init takes one row of scratch and, if wanted, the map.
 */
#ifndef HERON_PIPELINE_DRAW_H
#define HERON_PIPELINE_DRAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define DRAW_MAX_POINTS 48

struct canvas {
    uint8_t *rgb; /* borrowed; [height_px] rows of stride_bytes */
    size_t stride_bytes;
    int width_px, height_px;
    uint8_t *map; /* owned; [height_px, width_px] object of each pixel, 0 none; may be NULL */
    uint8_t id; /* written into the map by what is drawn now, where it covers at least half a pixel with at least map_opacity */
    int32_t *row;              /* owned scratch; [width_px + 2] */
    uint8_t map_opacity;       /* canvas_init: 128 */
    int64_t n_map_px;          /* pixels of the map that changed to another id, ever: a caller takes the difference */
    double area_px, inside_px; /* of the polygons that write the map, summed: all of them, and what of it lies in the picture */
};

struct point {
    double x, y;
};

/* A colour, 0 to 255 each, and opacity 0 to 255. */
struct colour {
    uint8_t r, g, b, a;
};

#define COLOUR(r_, g_, b_)       ((struct colour){(r_), (g_), (b_), 255})
#define COLOUR_A(r_, g_, b_, a_) ((struct colour){(r_), (g_), (b_), (a_)})

/* A canvas without pixels (set rgb and stride_bytes before drawing). Errors: ERR_NOMEM, then releasable. */
int canvas_init(struct canvas *c, int width_px, int height_px, bool has_map, struct err *err);
void canvas_release(struct canvas *c);

/* Fill a polygon (at most DRAW_MAX_POINTS, even-odd) with one colour, or from `top` to `bottom` over its height. */
void draw_polygon(struct canvas *c, const struct point *p, int n, struct colour colour);
void draw_polygon_shaded(struct canvas *c, const struct point *p, int n, struct colour top, struct colour bottom);

/* An ellipse with half axes rx, ry, turned by nothing. */
void draw_ellipse(struct canvas *c, double cx, double cy, double rx, double ry, struct colour colour);

/* A line as a quadrilateral, `width` pixels wide (at least what is visible: thinner lines fade instead of vanishing). */
void draw_line(struct canvas *c, struct point a, struct point b, double width, struct colour colour);

/* A rectangle. */
void draw_rect(struct canvas *c, double x0, double y0, double x1, double y1, struct colour colour);

/* colour times k, clamped; the opacity stays. */
struct colour colour_scale(struct colour colour, double k);
struct colour colour_mix(struct colour a, struct colour b, double t);

/* sin(2 pi turns), within 2e-6; the same bits everywhere. */
double draw_sin(double turns);
static inline double draw_cos(double turns)
{
    return draw_sin(turns + 0.25);
}

#endif
