/* yard_vehicles - cars and vans of the yard, from convex solids: a body under the belt line and a cabin over it. Pure but for the canvas. */
#include <math.h>

#include "base/rng.h"
#include "pipeline/yard_figures.h"

#define MAX_PROFILE 8

/* A solid with one profile seen from its side, counter-clockwise (x ahead, y up), and half a width at each of its points. */
struct solid {
    int n;
    double x[MAX_PROFILE], y[MAX_PROFILE], half[MAX_PROFILE];
};

static const struct solid car_body = {8,
                                      {2.02, 2.10, 2.02, 1.00, -1.55, -2.02, -2.10, -2.04},
                                      {0.24, 0.58, 0.76, 0.94, 0.98, 0.92, 0.60, 0.26},
                                      {0.76, 0.78, 0.78, 0.86, 0.86, 0.78, 0.79, 0.76}};
static const struct solid car_saloon = {4, {1.02, 0.22, -1.00, -1.72}, {0.93, 1.43, 1.44, 0.96}, {0.83, 0.60, 0.60, 0.80}};
static const struct solid car_estate = {4, {1.02, 0.22, -1.62, -2.02}, {0.93, 1.44, 1.42, 0.94}, {0.83, 0.61, 0.60, 0.78}};
static const struct solid van_body = {7,
                                      {2.52, 2.60, 2.34, 1.58, -2.50, -2.60, -2.56},
                                      {0.32, 0.72, 1.14, 2.14, 2.30, 2.20, 0.34},
                                      {0.90, 0.94, 0.95, 0.88, 0.90, 0.92, 0.96}};

static bool vehicle_is_van(const struct yard_actor *a)
{
    return a->type == SCENE_VAN;
}

static struct colour vehicle_paint(enum scene_colour colour)
{
    switch (colour) {
    case SCENE_RED: return COLOUR(190, 26, 30);
    case SCENE_BLUE: return COLOUR(32, 76, 182);
    case SCENE_GREEN: return COLOUR(24, 112, 62);
    case SCENE_YELLOW: return COLOUR(224, 176, 36);
    case SCENE_WHITE: return COLOUR(240, 240, 236);
    case SCENE_BLACK: return COLOUR(26, 27, 31);
    case SCENE_BROWN: return COLOUR(104, 72, 48);
    default: return COLOUR(142, 147, 154);
    }
}

/* A rectangle on a plane that leans along x: from (x0, y0) to (x1, y1), z0 to z1. */
static bool vehicle_pane(const struct brush *b, double x0, double y0, double x1, double y1, double z0, double z1,
                         struct vec middle, struct colour colour)
{
    struct vec p[4] = {{x0, y0, z0}, {x0, y0, z1}, {x1, y1, z1}, {x1, y1, z0}};
    return brush_mark(b, p, 4, middle, colour);
}

/* Flat against one side: corners (x, y), z grows or shrinks with y as the side leans. */
static void vehicle_side(const struct brush *b, int side, const struct point *at, int n, double z_low, double y_low,
                         double z_high, double y_high, struct vec middle, struct colour colour)
{
    struct vec p[12];
    for (int i = 0; i < n; i++)
        p[i] = (struct vec){at[i].x, at[i].y, side * (z_low + (z_high - z_low) * (at[i].y - y_low) / (y_high - y_low))};
    brush_mark(b, p, n, middle, colour);
}

static struct vec solid_middle(const struct solid *s)
{
    struct vec m = {0};
    for (int i = 0; i < s->n; i++) {
        m.x += s->x[i] / s->n;
        m.y += s->y[i] / s->n;
    }
    return m;
}

/* All faces that look to the camera; edge k lies between points k and k + 1; is_glass: a bit for each edge. */
static void solid_draw(const struct brush *b, const struct solid *s, struct colour paint, unsigned is_glass,
                       struct colour glass)
{
    struct vec middle = solid_middle(s), side[2][MAX_PROFILE];
    for (int i = 0; i < s->n; i++) {
        side[0][i] = (struct vec){s->x[i], s->y[i], -s->half[i]};
        side[1][i] = (struct vec){s->x[i], s->y[i], s->half[i]};
    }
    for (int i = 0; i < s->n; i++) {
        int k = (i + 1) % s->n;
        struct vec p[4] = {side[0][i], side[1][i], side[1][k], side[0][k]};
        if (s->y[i] < 0.5 && s->y[k] < 0.5)
            continue; /* the floor */
        brush_face(b, p, 4, middle, is_glass >> i & 1 ? glass : paint);
    }
    brush_face(b, side[0], s->n, middle, paint);
    brush_face(b, side[1], s->n, middle, paint);
}

/* Tyres seen from the front or the back, and the dark below. */
static void vehicle_under(const struct brush *b, double half_long, double half_wide, double axle, double sill)
{
    struct vec middle = {0, sill / 2, 0};
    double x = half_long - 0.28, z = half_wide - 0.1;
    struct colour dark = COLOUR(17, 18, 20);
    for (int end = -1; end <= 1; end += 2) {
        struct vec p[4] = {{end * x, 0.1, -z}, {end * x, 0.1, z}, {end * x, sill + 0.1, z}, {end * x, sill + 0.1, -z}};
        brush_mark(b, p, 4, middle, dark);
        for (int side = -1; side <= 1; side += 2) {
            struct vec t[4] = {{end * (axle + 0.3), 0.02, side * (z + 0.08)},
                               {end * (axle + 0.3), 0.02, side * (z - 0.14)},
                               {end * (axle + 0.3), sill + 0.1, side * (z - 0.14)},
                               {end * (axle + 0.3), sill + 0.1, side * (z + 0.08)}};
            brush_mark(b, t, 4, middle, dark);
        }
    }
    for (int side = -1; side <= 1; side += 2) {
        struct vec p[4] = {{-x, 0.1, side * z}, {x, 0.1, side * z}, {x, sill + 0.1, side * z}, {-x, sill + 0.1, side * z}};
        brush_mark(b, p, 4, middle, dark);
    }
}

static void vehicle_wheels(const struct brush *b, double axle, double z, double r)
{
    enum { N = 12 };
    for (int side = -1; side <= 1; side += 2)
        for (int end = -1; end <= 1; end += 2) {
            struct vec arch[N], tyre[N], rim[N], middle = {end * axle, r, 0};
            for (int i = 0; i < N; i++) {
                double cos = draw_cos((double)i / N), sin = draw_sin((double)i / N), x = end * axle;
                arch[i] = (struct vec){x + (r + 0.06) * cos, r + fmax((r + 0.06) * sin, -r + 0.05), side * (z - 0.01)};
                tyre[i] = (struct vec){x + r * cos, r + r * sin, side * z};
                rim[i] = (struct vec){x + r * 0.58 * cos, r + r * 0.58 * sin, side * (z + 0.01)};
            }
            if (!brush_mark(b, arch, N, middle, COLOUR(16, 17, 19)))
                break;
            brush_mark(b, tyre, N, middle, COLOUR(30, 31, 33));
            brush_mark(b, rim, N, middle, COLOUR(150, 153, 158));
        }
}

/* Lamps at both ends, number plates, grille, bumpers; x of the planes: front and rear, leaning a little. */
static void vehicle_ends(const struct brush *b, double front, double rear, double half, double lamp_y, bool is_van)
{
    struct vec middle = {0, lamp_y, 0};
    bool on = b->a->has_lights;
    struct colour head = on ? COLOUR(255, 252, 232) : COLOUR(216, 222, 226),
                  tail = on ? COLOUR(255, 36, 28) : COLOUR(150, 22, 22);
    double low = is_van ? 0.36 : 0.30, mid = is_van ? 0.52 : 0.42;
    vehicle_pane(b, front - 0.02, low, front + 0.01, mid, -half * 0.98, half * 0.98, middle, COLOUR(42, 44, 48));
    vehicle_pane(b, front + 0.01, lamp_y - 0.12, front - 0.01, lamp_y + 0.04, -half * 0.52, half * 0.52, middle,
                 COLOUR(28, 30, 33));
    vehicle_pane(b, front + 0.02, mid - 0.02, front + 0.02, mid + 0.11, -0.26, 0.26, middle, COLOUR(238, 238, 230));
    vehicle_pane(b, rear + 0.02, low, rear - 0.01, mid, -half * 0.98, half * 0.98, middle, COLOUR(42, 44, 48));
    vehicle_pane(b, rear - 0.02, mid + 0.08, rear - 0.01, mid + 0.19, -0.26, 0.26, middle, COLOUR(238, 238, 230));
    for (int side = -1; side <= 1; side += 2) {
        double in = side * half * 0.58, out = side * half * 0.97;
        vehicle_pane(b, front + 0.02, lamp_y - 0.07, front - 0.05, lamp_y + 0.09, in, out, middle, head);
        vehicle_pane(b, rear - 0.02, lamp_y - 0.06, rear + 0.01, lamp_y + (is_van ? 0.34 : 0.12),
                     is_van ? side * half * 0.8 : in, out, middle, tail);
    }
}

static void vehicle_draw_car(const struct brush *b, struct colour paint, struct colour glass)
{
    uint64_t r = rng_at(b->a->look, 0xca5);
    bool is_estate = r & 1;
    const struct solid *top = is_estate ? &car_estate : &car_saloon;
    vehicle_under(b, 2.05, 0.84, 1.30, 0.26);
    solid_draw(b, &car_body, paint, 0, glass);
    struct vec middle = solid_middle(&car_body);
    /* sill, door lines, handles */
    static const struct point sill[] = {{-2.0, 0.26}, {1.98, 0.24}, {2.02, 0.36}, {-2.02, 0.38}};
    static const struct point crease[] = {{-2.0, 0.72}, {2.0, 0.64}, {2.0, 0.67}, {-2.0, 0.76}};
    static const struct point door[] = {{0.0, 0.40}, {0.03, 0.40}, {0.03, 0.92}, {0.0, 0.92}};
    for (int side = -1; side <= 1; side += 2) {
        vehicle_side(b, side, sill, 4, 0.80, 0.3, 0.80, 1, middle, colour_scale(paint, 0.5));
        vehicle_side(b, side, crease, 4, 0.82, 0.3, 0.82, 1, middle, COLOUR_A(0, 0, 0, 45));
        vehicle_side(b, side, door, 4, 0.84, 0.3, 0.84, 1, middle, COLOUR_A(0, 0, 0, 90));
    }
    vehicle_wheels(b, 1.30, 0.86, 0.32);
    vehicle_ends(b, 2.10, -2.10, 0.78, 0.66, false);
    solid_draw(b, top, paint, 1u | 4u, glass);
    /* side windows within the paint of the pillars */
    middle = solid_middle(top);
    double back = is_estate ? -1.78 : -1.42, back_top = is_estate ? -1.58 : -1.02;
    const struct point front_pane[] = {{0.80, 0.97}, {0.20, 1.36}, {-0.33, 1.37}, {-0.33, 0.98}};
    const struct point rear_pane[] = {{-0.43, 0.98}, {-0.43, 1.37}, {back_top, 1.36}, {back, 0.99}};
    for (int side = -1; side <= 1; side += 2) {
        vehicle_side(b, side, front_pane, 4, 0.83, 0.95, 0.605, 1.43, middle, glass);
        vehicle_side(b, side, rear_pane, 4, 0.83, 0.95, 0.605, 1.43, middle, colour_scale(glass, 0.86));
    }
    /* the sky in the panes */
    vehicle_pane(b, 0.62, 1.19, 0.30, 1.39, -0.5, 0.5, middle, COLOUR_A(190, 210, 226, 80));
}

static void vehicle_draw_van(const struct brush *b, struct colour paint, struct colour glass)
{
    uint64_t r = rng_at(b->a->look, 0xfa7);
    vehicle_under(b, 2.55, 0.94, 1.62, 0.34);
    solid_draw(b, &van_body, paint, 4u, glass);
    struct vec middle = solid_middle(&van_body);
    static const struct point sill[] = {{-2.54, 0.34}, {2.50, 0.32}, {2.56, 0.52}, {-2.56, 0.54}};
    static const struct point cab[] = {{2.10, 1.20}, {1.56, 1.92}, {0.86, 1.95}, {0.86, 1.20}};
    static const struct point door[] = {{0.74, 0.55}, {0.79, 0.55}, {0.79, 2.1}, {0.74, 2.1}};
    static const struct point slide[] = {{-0.72, 0.55}, {-0.68, 0.55}, {-0.68, 2.1}, {-0.72, 2.1}};
    static const struct point rail[] = {{-2.4, 1.24}, {0.7, 1.24}, {0.7, 1.28}, {-2.4, 1.28}};
    static const struct point stripe[] = {{-2.5, 0.80}, {1.0, 0.80}, {1.25, 1.02}, {-2.5, 1.02}};
    bool is_dark = b->a->colour == SCENE_BLACK;
    struct colour line = is_dark ? COLOUR_A(120, 122, 128, 120) : COLOUR_A(0, 0, 0, 85);
    for (int side = -1; side <= 1; side += 2) {
        vehicle_side(b, side, sill, 4, 0.965, 0.3, 0.965, 1, middle, COLOUR(46, 48, 52));
        if (r & 1)
            vehicle_side(b, side, stripe, 4, 0.97, 0.5, 0.97, 1, middle,
                         is_dark ? COLOUR(70, 72, 78) : colour_scale(paint, 0.62));
        vehicle_side(b, side, door, 4, 0.96, 0.5, 0.90, 2.2, middle, line);
        vehicle_side(b, side, slide, 4, 0.96, 0.5, 0.90, 2.2, middle, line);
        vehicle_side(b, side, rail, 4, 0.96, 0.5, 0.90, 2.2, middle, line);
        vehicle_side(b, side, cab, 4, 0.96, 0.5, 0.90, 2.2, middle, glass);
    }
    vehicle_wheels(b, 1.62, 0.98, 0.36);
    vehicle_ends(b, 2.60, -2.60, 0.93, 0.84, true);
    /* the rear doors: two panes and the gap */
    vehicle_pane(b, -2.62, 0.55, -2.58, 2.18, -0.02, 0.02, middle, line);
    vehicle_pane(b, -2.61, 1.35, -2.60, 1.95, -0.74, -0.12, middle, glass);
    vehicle_pane(b, -2.61, 1.35, -2.60, 1.95, 0.12, 0.74, middle, glass);
    vehicle_pane(b, 2.02, 1.58, 1.66, 2.06, -0.7, 0.7, middle, COLOUR_A(190, 210, 226, 80));
    /* a frame around the windscreen */
    for (int side = -1; side <= 1; side += 2)
        vehicle_pane(b, 2.35, 1.14, 1.59, 2.14, side * 0.84, side * 0.94, middle, colour_scale(paint, 0.94));
}

void yard_vehicle_draw(const struct brush *b)
{
    struct colour paint = vehicle_paint(b->a->colour), glass = COLOUR(44, 56, 68);
    if (b->a->colour == SCENE_BLACK)
        glass = COLOUR(78, 94, 108); /* mirrors more than the paint, or nothing would be seen of it */
    if (vehicle_is_van(b->a))
        vehicle_draw_van(b, paint, glass);
    else
        vehicle_draw_car(b, paint, glass);
}

int yard_vehicle_outline(const struct brush *b, struct vec *ret)
{
    bool is_van = vehicle_is_van(b->a);
    double half = is_van ? 0.95 : 0.82, top = is_van ? 0.9 : 0.6;
    int n = 0;
    for (int side = -1; side <= 1; side += 2) {
        double z = side * half;
        if (is_van) {
            const struct vec p[] = {
                {2.5, 0, z}, {-2.5, 0, z}, {2.55, 1.0, z}, {1.6, 2.15, side * top}, {-2.5, 2.28, side * top}};
            for (int i = 0; i < 5; i++)
                ret[n++] = p[i];
        } else {
            const struct vec p[] = {
                {2.0, 0, z}, {-2.0, 0, z}, {2.0, 0.75, z}, {-2.0, 0.92, z}, {0.2, 1.43, side * top}, {-1.1, 1.43, side * top}};
            for (int i = 0; i < 6; i++)
                ret[n++] = p[i];
        }
    }
    return n;
}
