/* yard_brush - limbs as two circles with their tangents, faces by their normals, shadows as hulls. Pure but for the canvas. */
#include "pipeline/yard_brush.h"

#include <assert.h>
#include <math.h>

double brush_sun(const struct yard_sky *sky, double *ret_x, double *ret_z)
{
    double low = fmin(fabs(sky->sun), 0.25), length = 0.55 + 4.2 * low;
    *ret_x = draw_sin(sky->sun) * length;
    *ret_z = -draw_cos(sky->sun) * length;
    return yard_unit((sky->day - 0.4) / 0.35) * yard_unit(1 - 2.5 * sky->rain) * yard_unit(1 - 2.5 * sky->fog);
}

/* From the world's directions into the actor's. */
static struct vec brush_turn(const struct yard_actor *a, double x, double y, double z)
{
    return (struct vec){x * a->dx + z * a->dz, y, x * a->dz - z * a->dx};
}

void brush_init(struct brush *b, const struct yard *y, struct canvas *c, const struct yard_actor *a, const struct yard_sky *sky)
{
    *b = (struct brush){.view = &y->view, .c = c, .a = a, .m = scene_view_scale(&y->view, a->at)};
    double sx, sz;
    b->sun = brush_sun(sky, &sx, &sz);
    double len = sqrt(sx * sx + sz * sz + 1);
    b->light = brush_turn(a, -sx / len, 1 / len, -sz / len);
    b->eye = brush_turn(a, -a->at.x, y->view.height_m - a->at.y, -a->at.z);
    double far = sqrt(a->at.x * a->at.x + a->at.z * a->at.z);
    if (far > 0) {
        b->ahead = (a->dx * a->at.x + a->dz * a->at.z) / far;
        b->across = (a->dx * a->at.z - a->dz * a->at.x) / far;
    }
}

struct vec brush_world(const struct brush *b, struct vec p)
{
    const struct yard_actor *a = b->a;
    return (struct vec){a->at.x + p.x * a->dx + p.z * a->dz, a->at.y + p.y, a->at.z + p.x * a->dz - p.z * a->dx};
}

struct point brush_point(const struct brush *b, struct vec p)
{
    return scene_view_project(b->view, brush_world(b, p));
}

void brush_limb(const struct brush *b, struct vec p, double r0, struct vec q, double r1, struct colour colour)
{
    /* half circles at both ends, as many corners as they need at this size */
    static const struct point arc[] = {{0, 1}, {0.7071, 0.7071}, {1, 0}, {0.7071, -0.7071}, {0, -1}};
    struct point u = brush_point(b, p), v = brush_point(b, q), out[10];
    double dx = v.x - u.x, dy = v.y - u.y, len = sqrt(dx * dx + dy * dy);
    double ax = len > 1e-9 ? dx / len : 1, ay = len > 1e-9 ? dy / len : 0;
    for (int i = 0; i < 5; i++) {
        double f = arc[i].x, s = arc[i].y;
        out[i] = (struct point){v.x + (ax * f - ay * s) * r1 * b->m, v.y + (ay * f + ax * s) * r1 * b->m};
        out[5 + i] = (struct point){u.x - (ax * f - ay * s) * r0 * b->m, u.y - (ay * f + ax * s) * r0 * b->m};
    }
    draw_polygon(b->c, out, 10, colour);
}

void brush_ball(const struct brush *b, struct vec p, double r, struct colour colour)
{
    struct point o = brush_point(b, p);
    draw_ellipse(b->c, o.x, o.y, r * b->m, r * b->m, colour);
}

void brush_flat(const struct brush *b, const struct vec *p, int n, struct colour colour)
{
    struct point out[DRAW_MAX_POINTS];
    assert(n <= DRAW_MAX_POINTS);
    for (int i = 0; i < n; i++)
        out[i] = brush_point(b, p[i]);
    draw_polygon(b->c, out, n, colour);
}

/* The unit normal that points away from `middle`; false when the face looks away from the camera. */
static bool brush_normal(const struct brush *b, const struct vec *p, int n, struct vec middle, struct vec *ret)
{
    /* Newell's sum: steady for faces that are not quite flat */
    struct vec k = {0}, o = {0};
    for (int i = 0, j = n - 1; i < n; j = i++) {
        k.x += (p[j].y - p[i].y) * (p[j].z + p[i].z);
        k.y += (p[j].z - p[i].z) * (p[j].x + p[i].x);
        k.z += (p[j].x - p[i].x) * (p[j].y + p[i].y);
        o.x += p[i].x / n;
        o.y += p[i].y / n;
        o.z += p[i].z / n;
    }
    double len = sqrt(k.x * k.x + k.y * k.y + k.z * k.z);
    if (len < 1e-12)
        return false;
    double out = (o.x - middle.x) * k.x + (o.y - middle.y) * k.y + (o.z - middle.z) * k.z;
    len = out < 0 ? -len : len;
    *ret = (struct vec){k.x / len, k.y / len, k.z / len};
    return ret->x * (b->eye.x - o.x) + ret->y * (b->eye.y - o.y) + ret->z * (b->eye.z - o.z) > 0;
}

bool brush_face(const struct brush *b, const struct vec *p, int n, struct vec middle, struct colour colour)
{
    struct vec k;
    if (!brush_normal(b, p, n, middle, &k))
        return false;
    double sun = fmax(k.x * b->light.x + k.y * b->light.y + k.z * b->light.z, 0);
    double light = 0.84 + 0.16 * k.y + b->sun * (0.26 * sun - 0.08);
    struct colour top = colour_scale(colour, light);
    brush_flat(b, p, n, top);
    return true;
}

bool brush_mark(const struct brush *b, const struct vec *p, int n, struct vec middle, struct colour colour)
{
    struct vec k;
    if (!brush_normal(b, p, n, middle, &k))
        return false;
    brush_flat(b, p, n, colour);
    return true;
}

void brush_blot(const struct brush *b, double x, double z, double rx, double rz, struct colour colour)
{
    enum { N = 12 };
    struct vec in[N], out[N];
    double foot = b->a->at.y;
    for (int i = 0; i < N; i++) {
        double cos = draw_cos((double)i / N), sin = draw_sin((double)i / N);
        in[i] = (struct vec){x + rx * 0.8 * cos, -foot, z + rz * 0.8 * sin};
        out[i] = (struct vec){x + rx * 1.2 * cos, -foot, z + rz * 1.2 * sin};
    }
    struct colour half = colour;
    half.a = (uint8_t)(colour.a * 2 / 5);
    brush_flat(b, out, N, half);
    half.a = (uint8_t)(colour.a * 3 / 5);
    brush_flat(b, in, N, half);
}

/* The hull of n points on the ground (x, z), into out; returns how many. Andrew's monotone chain. */
static int brush_hull(struct vec *p, int n, struct vec *out)
{
    for (int i = 1; i < n; i++) {
        struct vec v = p[i];
        int k = i;
        for (; k > 0 && (p[k - 1].x > v.x || (p[k - 1].x == v.x && p[k - 1].z > v.z)); k--)
            p[k] = p[k - 1];
        p[k] = v;
    }
    int m = 0;
    for (int pass = 0; pass < 2; pass++) {
        int start = m;
        for (int i = 0; i < n; i++) {
            struct vec v = p[pass ? n - 1 - i : i];
            while (m >= start + 2 && (out[m - 1].x - out[m - 2].x) * (v.z - out[m - 2].z) -
                                             (out[m - 1].z - out[m - 2].z) * (v.x - out[m - 2].x) <=
                                         0)
                m--;
            out[m++] = v;
        }
        m--; /* the last is the first of the other chain */
    }
    return m;
}

void brush_cast(const struct brush *b, const struct vec *p, int n, double shade_x, double shade_z, double rim_m, int opacity)
{
    struct vec on[BRUSH_MAX_CAST * 4], hull[2 * BRUSH_MAX_CAST * 4];
    assert(n <= BRUSH_MAX_CAST);
    for (int ring = 0; ring < 2; ring++) {
        double r = ring ? -rim_m / 2 : rim_m / 2;
        int k = 0;
        for (int i = 0; i < n; i++) {
            struct vec w = brush_world(b, p[i]);
            /* what is higher throws a softer rim */
            double rim = ring ? 0 : r * (0.4 + 0.5 * w.y);
            for (int q = 0; q < (ring ? 1 : 4); q++)
                on[k++] = (struct vec){w.x + w.y * shade_x +
                                           (q == 0   ? rim
                                            : q == 1 ? -rim
                                                     : 0),
                                       0,
                                       w.z + w.y * shade_z +
                                           (q == 2   ? rim
                                            : q == 3 ? -rim
                                                     : 0)};
        }
        int m = brush_hull(on, k, hull);
        if (m >= 3 && m <= DRAW_MAX_POINTS)
            scene_view_polygon(b->view, b->c, hull, m, COLOUR_A(16, 18, 26, (uint8_t)(ring ? opacity * 2 / 3 : opacity / 3)));
    }
}
