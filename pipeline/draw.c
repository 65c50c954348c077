/* draw - scanline polygons with exact horizontal and four-fold vertical coverage. Pure but for the canvas. */
#include "pipeline/draw.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#define SUB_ROWS  4
#define SUB_PX    256
#define FULL_AREA (SUB_ROWS * SUB_PX)

int canvas_init(struct canvas *c, int width_px, int height_px, bool has_map, struct err *err)
{
    *c = (struct canvas){.width_px = width_px, .height_px = height_px, .map_opacity = 128};
    c->row = calloc((size_t)width_px + 2, sizeof *c->row);
    c->map = has_map ? calloc((size_t)width_px * (size_t)height_px, 1) : NULL;
    if (!c->row || (has_map && !c->map))
        return err_set(err, ERR_NOMEM, "no memory for a canvas of %dx%d", width_px, height_px);
    return 0;
}

void canvas_release(struct canvas *c)
{
    free(c->row);
    free(c->map);
    *c = (struct canvas){0};
}

double draw_sin(double turns)
{
    double x = turns - floor(turns);
    double sign = 1;
    if (x >= 0.5) {
        x -= 0.5;
        sign = -1;
    }
    if (x > 0.25)
        x = 0.5 - x;
    /* Taylor of sin(2 pi x) on [0, 1/4], to the 11th power: error below 6e-8 */
    double a = x * 6.283185307179586;
    double a2 = a * a;
    double s = a * (1 - a2 / 6 * (1 - a2 / 20 * (1 - a2 / 42 * (1 - a2 / 72 * (1 - a2 / 110)))));
    return sign * s;
}

static uint8_t colour_clamp(double v)
{
    return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)(v + 0.5);
}

struct colour colour_scale(struct colour c, double k)
{
    return (struct colour){colour_clamp(c.r * k), colour_clamp(c.g * k), colour_clamp(c.b * k), c.a};
}

struct colour colour_mix(struct colour a, struct colour b, double t)
{
    return (struct colour){colour_clamp(a.r + (b.r - a.r) * t), colour_clamp(a.g + (b.g - a.g) * t),
                           colour_clamp(a.b + (b.b - a.b) * t), colour_clamp(a.a + (b.a - a.a) * t)};
}

/* Add the span [x0, x1) (1/256 pixels, clipped to the row) to the row's coverage. */
static void draw_span(int32_t *row, int width_px, int64_t x0, int64_t x1)
{
    int64_t limit = (int64_t)width_px * SUB_PX;
    if (x0 < 0)
        x0 = 0;
    if (x1 > limit)
        x1 = limit;
    if (x1 <= x0)
        return;
    int64_t p0 = x0 / SUB_PX, p1 = x1 / SUB_PX;
    if (p0 == p1) {
        row[p0] += (int32_t)(x1 - x0);
        row[p0 + 1] -= (int32_t)(x1 - x0);
        return;
    }
    /* The row holds differences: a running sum over it gives each pixel's coverage. */
    int32_t first = (int32_t)((p0 + 1) * SUB_PX - x0), last = (int32_t)(x1 - p1 * SUB_PX);
    row[p0] += first;
    row[p0 + 1] += SUB_PX - first;
    row[p1] += last - SUB_PX;
    row[p1 + 1] -= last;
}

static uint8_t draw_blend(uint8_t under, int over, int alpha /* 0 .. 65280 */)
{
    return (uint8_t)(under + ((over - under) * alpha + (over >= under ? 32640 : -32640)) / 65280);
}

static void draw_row(struct canvas *c, int y, int x_from, int x_to, struct colour colour)
{
    uint8_t *px = c->rgb + (size_t)y * c->stride_bytes + (size_t)x_from * 3;
    uint8_t *map = c->map ? c->map + (size_t)y * (size_t)c->width_px : NULL;
    bool is_mapped = map && colour.a >= c->map_opacity;
    int32_t sum = 0;
    int64_t covered = 0, n_changed = 0;
    for (int x = x_from; x < x_to; x++, px += 3) {
        sum += c->row[x];
        c->row[x] = 0;
        if (sum <= 0)
            continue;
        int cover = sum >= FULL_AREA ? 256 : sum * 256 / FULL_AREA;
        int alpha = cover * colour.a; /* to 65280 */
        if (alpha == 65280) {
            px[0] = colour.r;
            px[1] = colour.g;
            px[2] = colour.b;
        } else {
            px[0] = draw_blend(px[0], colour.r, alpha);
            px[1] = draw_blend(px[1], colour.g, alpha);
            px[2] = draw_blend(px[2], colour.b, alpha);
        }
        covered += cover;
        if (is_mapped && cover >= 128) {
            n_changed += map[x] != c->id;
            map[x] = c->id;
        }
    }
    if (is_mapped) {
        c->n_map_px += n_changed;
        c->inside_px += (double)covered / 256;
    }
    c->row[x_to] = 0;
    c->row[x_to + 1] = 0;
}

/* From y_from to below y_to, through (x, y) with the slope dx / dy; 1/256 pixels. */
struct draw_edge {
    int32_t y_from, y_to, x, y;
    double dx, dy;
};

/* Of a polygon without crossings, in pixels; its corners in 1/256. */
static double draw_area(const int64_t *px, const int64_t *py, int n)
{
    int64_t twice = 0;
    for (int i = 0, j = n - 1; i < n; j = i++)
        twice += px[j] * py[i] - px[i] * py[j];
    return fabs((double)twice) / (2.0 * SUB_PX * SUB_PX);
}

void draw_polygon_shaded(struct canvas *c, const struct point *p, int n, struct colour top, struct colour bottom)
{
    assert(n <= DRAW_MAX_POINTS);
    if (n < 3)
        return;
    int64_t px[DRAW_MAX_POINTS], py[DRAW_MAX_POINTS];
    int64_t y_min = INT64_MAX, y_max = INT64_MIN, x_min = INT64_MAX, x_max = INT64_MIN;
    for (int i = 0; i < n; i++) {
        /* Far outside the picture the exact place no longer matters; the clamp keeps the integers small. */
        px[i] = llrint(fmin(fmax(p[i].x, -1e5), 1e5) * SUB_PX);
        py[i] = llrint(fmin(fmax(p[i].y, -1e5), 1e5) * SUB_PX);
        y_min = py[i] < y_min ? py[i] : y_min;
        y_max = py[i] > y_max ? py[i] : y_max;
        x_min = px[i] < x_min ? px[i] : x_min;
        x_max = px[i] > x_max ? px[i] : x_max;
    }
    if (c->map && top.a >= c->map_opacity)
        c->area_px += draw_area(px, py, n);
    if (x_max <= 0 || x_min >= (int64_t)c->width_px * SUB_PX || y_max <= 0)
        return;
    int y0 = y_min < 0 ? 0 : (int)(y_min / SUB_PX);
    int y1 = y_max / SUB_PX + 1 > c->height_px ? c->height_px : (int)(y_max / SUB_PX) + 1;
    int x0 = x_min < 0 ? 0 : (int)(x_min / SUB_PX);
    int x1 = x_max / SUB_PX + 1 > c->width_px ? c->width_px : (int)(x_max / SUB_PX) + 1;
    bool is_flat = top.r == bottom.r && top.g == bottom.g && top.b == bottom.b && top.a == bottom.a;
    /* Only edges that climb or fall cross a row of samples. */
    struct draw_edge edge[DRAW_MAX_POINTS];
    int n_edges = 0;
    for (int i = 0, j = n - 1; i < n; j = i++)
        if (py[i] != py[j])
            edge[n_edges++] = (struct draw_edge){.y_from = (int32_t)(py[i] < py[j] ? py[i] : py[j]),
                                                 .y_to = (int32_t)(py[i] < py[j] ? py[j] : py[i]),
                                                 .x = (int32_t)px[j],
                                                 .y = (int32_t)py[j],
                                                 .dx = (double)(px[i] - px[j]),
                                                 .dy = (double)(py[i] - py[j])};
    for (int y = y0; y < y1; y++) {
        for (int s = 0; s < SUB_ROWS; s++) {
            int32_t yc = y * SUB_PX + s * SUB_PX / SUB_ROWS + SUB_PX / SUB_ROWS / 2;
            int32_t cross[DRAW_MAX_POINTS];
            int n_cross = 0;
            for (const struct draw_edge *e = edge; e < edge + n_edges; e++) {
                if (yc < e->y_from || yc >= e->y_to)
                    continue;
                /* Below 2^52 / 2^26, so that the quotient in doubles truncates to the one in integers. */
                int32_t x = e->x + (int32_t)((double)(yc - e->y) * e->dx / e->dy);
                int k = n_cross++;
                for (; k > 0 && cross[k - 1] > x; k--)
                    cross[k] = cross[k - 1];
                cross[k] = x;
            }
            for (int k = 0; k + 1 < n_cross; k += 2)
                draw_span(c->row, c->width_px, cross[k], cross[k + 1]);
        }
        struct colour colour = top;
        if (!is_flat)
            colour = colour_mix(top, bottom, (double)((int64_t)y * SUB_PX + SUB_PX / 2 - y_min) / (double)(y_max - y_min));
        draw_row(c, y, x0, x1, colour);
    }
}

void draw_polygon(struct canvas *c, const struct point *p, int n, struct colour colour)
{
    draw_polygon_shaded(c, p, n, colour, colour);
}

void draw_ellipse(struct canvas *c, double cx, double cy, double rx, double ry, struct colour colour)
{
    enum { N = 20 };
    struct point p[N];
    for (int i = 0; i < N; i++)
        p[i] = (struct point){cx + rx * draw_cos((double)i / N), cy + ry * draw_sin((double)i / N)};
    draw_polygon(c, p, N, colour);
}

void draw_line(struct canvas *c, struct point a, struct point b, double width, struct colour colour)
{
    double dx = b.x - a.x, dy = b.y - a.y, len = sqrt(dx * dx + dy * dy);
    if (len < 1e-6)
        return;
    if (width < 0.75) {
        colour.a = (uint8_t)(colour.a * width / 0.75);
        width = 0.75;
    }
    double nx = -dy / len * width / 2, ny = dx / len * width / 2;
    struct point p[4] = {{a.x + nx, a.y + ny}, {b.x + nx, b.y + ny}, {b.x - nx, b.y - ny}, {a.x - nx, a.y - ny}};
    draw_polygon(c, p, 4, colour);
}

void draw_rect(struct canvas *c, double x0, double y0, double x1, double y1, struct colour colour)
{
    struct point p[4] = {{x0, y0}, {x1, y0}, {x1, y1}, {x0, y1}};
    draw_polygon(c, p, 4, colour);
}
