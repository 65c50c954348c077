/* scene_view - a pinhole camera without roll: projection of points, and flat polygons through it. Pure. */
#include "pipeline/scene_view.h"

#include <assert.h>
#include <math.h>

#define FOCAL_WIDTHS 0.8
#define MIN_DEPTH_M  0.5

void scene_view_init(struct scene_view *v, int width_px, int height_px, double height_m, double pitch_deg, double yaw_deg,
                     bool is_mirrored)
{
    double w = width_px, h = height_px;
    *v = (struct scene_view){.height_m = height_m, .side = is_mirrored ? -1 : 1, .cx = w / 2, .cy = h / 2};
    v->pitch_sin = draw_sin(pitch_deg / 360);
    v->pitch_cos = draw_cos(pitch_deg / 360);
    v->yaw_sin = draw_sin(yaw_deg / 360);
    v->yaw_cos = draw_cos(yaw_deg / 360);
    /* Narrow pictures see less, they are not squeezed. */
    v->focal_px = FOCAL_WIDTHS * fmax(w, h * 16 / 9);
}

/* Into the camera's directions: x right of the optical axis, y up from it, z along it. */
static struct vec scene_view_turn(const struct scene_view *v, struct vec p)
{
    double x = v->side * p.x, up = p.y - v->height_m;
    double ahead = x * v->yaw_sin + p.z * v->yaw_cos;
    return (struct vec){x * v->yaw_cos - p.z * v->yaw_sin, up * v->pitch_cos + ahead * v->pitch_sin,
                        ahead * v->pitch_cos - up * v->pitch_sin};
}

double scene_view_depth(const struct scene_view *v, struct vec p)
{
    return fmax(scene_view_turn(v, p).z, MIN_DEPTH_M);
}

struct point scene_view_project(const struct scene_view *v, struct vec p)
{
    struct vec q = scene_view_turn(v, p);
    double m = v->focal_px / fmax(q.z, MIN_DEPTH_M);
    return (struct point){v->cx + q.x * m, v->cy - q.y * m};
}

double scene_view_scale(const struct scene_view *v, struct vec p)
{
    return v->focal_px / scene_view_depth(v, p);
}

double scene_view_horizon(const struct scene_view *v)
{
    return v->cy - v->focal_px * v->pitch_sin / v->pitch_cos;
}

/* What of a convex polygon lies where side * (x or y) <= side * limit. Returns how many points; one more than before at most. */
static int view_cut(const struct point *p, int n, bool is_y, double side, double limit, struct point *ret)
{
    int m = 0;
    for (int i = 0; i < n; i++) {
        struct point a = p[i], b = p[(i + 1) % n];
        double out_a = side * ((is_y ? a.y : a.x) - limit), out_b = side * ((is_y ? b.y : b.x) - limit);
        if (out_a <= 0)
            ret[m++] = a;
        if ((out_a < 0 && out_b > 0) || (out_a > 0 && out_b < 0)) {
            double k = out_a / (out_a - out_b);
            ret[m++] = (struct point){a.x + (b.x - a.x) * k, a.y + (b.y - a.y) * k};
        }
    }
    return m;
}

static double view_area(const struct point *p, int n)
{
    double twice = 0;
    for (int i = 0; i < n; i++) {
        struct point a = p[i], b = p[(i + 1) % n];
        twice += a.x * b.y - b.x * a.y;
    }
    return fabs(twice) / 2;
}

double scene_view_share(const struct scene_view *v, const struct vec *p, int n, int width_px, int height_px)
{
    assert(n >= 3 && n <= DRAW_MAX_POINTS - 4);
    struct point a[DRAW_MAX_POINTS] = {0}, b[DRAW_MAX_POINTS];
    for (int i = 0; i < n; i++)
        a[i] = scene_view_project(v, p[i]);
    double whole = view_area(a, n);
    int m = view_cut(a, n, false, 1, width_px, b);
    m = view_cut(b, m, false, -1, 0, a);
    m = view_cut(a, m, true, 1, height_px, b);
    m = view_cut(b, m, true, -1, 0, a);
    return whole > 0 ? view_area(a, m) / whole : 0;
}

void scene_view_polygon(const struct scene_view *v, struct canvas *c, const struct vec *p, int n, struct colour colour)
{
    assert(n <= DRAW_MAX_POINTS);
    struct point flat[DRAW_MAX_POINTS];
    for (int i = 0; i < n; i++)
        flat[i] = scene_view_project(v, p[i]);
    draw_polygon(c, flat, n, colour);
}

void scene_view_floor(const struct scene_view *v, struct canvas *c, double x0, double z0, double x1, double z1,
                      struct colour colour)
{
    struct vec p[4] = {{x0, 0, z0}, {x1, 0, z0}, {x1, 0, z1}, {x0, 0, z1}};
    scene_view_polygon(v, c, p, 4, colour);
}

void scene_view_wall(const struct scene_view *v, struct canvas *c, double x0, double y0, double x1, double y1, double z,
                     struct colour colour)
{
    struct vec p[4] = {{x0, y0, z}, {x1, y0, z}, {x1, y1, z}, {x0, y1, z}};
    scene_view_polygon(v, c, p, 4, colour);
}
