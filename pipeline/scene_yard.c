/*
 * scene_yard - a yard before a warehouse: a roller door, a door, a fence with a sliding gate, four parking bays, a lamp post;
 * cars that come through the gate, park and leave; people who walk their ways; a dog.
 *
 * The world is in metres: x to the right, y up, z away from the camera, which hangs 5.5 m over (0, 0) and looks along z, 10
 * degrees down. Everybody's place is a function of (seed, t): each actor has a timetable of fixed period, and what happens in
 * round k of it is drawn from rng_at(seed of the actor, k).
 */
#include "pipeline/scene.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"

#define CAMERA_Y 5.5
#define FENCE_Z  44.0
#define GATE_X0  9.0
#define GATE_X1  14.5
#define LANE_Z   32.5
#define ROAD_X   11.7
#define N_BAYS   4
#define N_PEOPLE 5
#define SLOT_S   15.0 /* one car moves in each slot, so that two never meet */

struct vec {
    double x, y, z;
};

struct yard {
    uint64_t seed;
    double focal_px, cx, cy;
    double pitch_sin, pitch_cos;
    double phase_s;   /* where in its timetables the world begins */
    double day_phase; /* turns */
};

/* ---- projection ----------------------------------------------------------------------------------------------------------- */

static double yard_depth(const struct yard *y, struct vec p)
{
    return (CAMERA_Y - p.y) * y->pitch_sin + p.z * y->pitch_cos;
}

static struct point yard_project(const struct yard *y, struct vec p)
{
    double depth = fmax(yard_depth(y, p), 0.5);
    double up = (p.y - CAMERA_Y) * y->pitch_cos + p.z * y->pitch_sin;
    return (struct point){y->cx + y->focal_px * p.x / depth, y->cy - y->focal_px * up / depth};
}

/* Pixels per metre at a place. */
static double yard_scale(const struct yard *y, struct vec p)
{
    return y->focal_px / fmax(yard_depth(y, p), 0.5);
}

static void yard_polygon(const struct yard *y, struct canvas *c, const struct vec *v, int n, struct colour colour)
{
    struct point p[DRAW_MAX_POINTS];
    for (int i = 0; i < n; i++)
        p[i] = yard_project(y, v[i]);
    draw_polygon(c, p, n, colour);
}

/* A rectangle on the ground. */
static void yard_floor(const struct yard *y, struct canvas *c, double x0, double z0, double x1, double z1, struct colour colour)
{
    struct vec v[4] = {{x0, 0, z0}, {x1, 0, z0}, {x1, 0, z1}, {x0, 0, z1}};
    yard_polygon(y, c, v, 4, colour);
}

/* A rectangle that stands upright, facing the camera. */
static void yard_wall(const struct yard *y, struct canvas *c, double x0, double y0, double x1, double y1, double z,
                      struct colour colour)
{
    struct vec v[4] = {{x0, y0, z}, {x1, y0, z}, {x1, y1, z}, {x0, y1, z}};
    yard_polygon(y, c, v, 4, colour);
}

/* ---- what stands still ---------------------------------------------------------------------------------------------------- */

static double yard_bay_x(int i_bay)
{
    return -9.6 + 3.2 * i_bay;
}

static void yard_draw_land(const struct yard *y, struct canvas *c)
{
    double horizon = y->cy - y->focal_px * y->pitch_sin / y->pitch_cos;
    struct point sky[4] = {{0, 0}, {c->width_px, 0}, {c->width_px, horizon + 1}, {0, horizon + 1}};
    draw_polygon_shaded(c, sky, 4, COLOUR(106, 150, 205), COLOUR(205, 220, 232));
    struct point land[4] = {{0, horizon}, {c->width_px, horizon}, {c->width_px, c->height_px}, {0, c->height_px}};
    draw_polygon_shaded(c, land, 4, COLOUR(122, 134, 92), COLOUR(92, 116, 62));
    /* trees along the horizon */
    for (int i = 0; i < 26; i++) {
        uint64_t r = rng_at(y->seed ^ 0x7ee5, (uint64_t)i);
        struct vec at = {-95 + i * 8.0 + (double)(r & 255) / 64, 0, 92 + (double)(r >> 8 & 255) / 12};
        struct point foot = yard_project(y, at);
        double m = yard_scale(y, at), tall = 5 + (double)(r >> 16 & 255) / 70;
        struct colour leaf = colour_scale(COLOUR(62, 92, 52), 0.8 + (double)(r >> 24 & 255) / 640);
        draw_rect(c, foot.x - 0.25 * m, foot.y - 2 * m, foot.x + 0.25 * m, foot.y, COLOUR(80, 66, 52));
        draw_ellipse(c, foot.x, foot.y - tall * 0.62 * m, tall * 0.42 * m, tall * 0.45 * m, leaf);
        draw_ellipse(c, foot.x - 0.8 * m, foot.y - tall * 0.7 * m, tall * 0.25 * m, tall * 0.25 * m, colour_scale(leaf, 1.12));
    }
    yard_floor(y, c, -60, 66, 60, 72, COLOUR(104, 104, 106));                     /* the road behind */
    yard_floor(y, c, ROAD_X - 3, FENCE_Z, ROAD_X + 3, 67, COLOUR(112, 112, 112)); /* the drive */
    for (int i = 0; i < 14; i++)
        yard_floor(y, c, -48 + i * 7.0, 68.9, -45 + i * 7.0, 69.1, COLOUR(205, 205, 200));
    /* the yard's asphalt, patched */
    struct vec yard[4] = {{-60, 0, 6}, {60, 0, 6}, {60, 0, FENCE_Z}, {-60, 0, FENCE_Z}};
    struct point p[4];
    for (int i = 0; i < 4; i++)
        p[i] = yard_project(y, yard[i]);
    draw_polygon_shaded(c, p, 4, COLOUR(128, 128, 130), COLOUR(104, 105, 108));
    for (int i = 0; i < 40; i++) {
        uint64_t r = rng_at(y->seed ^ 0xa5fa, (uint64_t)i);
        double x = -20 + (double)(r & 1023) / 25, z = 12 + (double)(r >> 10 & 1023) / 34;
        double w = 0.4 + (double)(r >> 20 & 255) / 90, d = 0.3 + (double)(r >> 28 & 255) / 120;
        struct colour stain = (r >> 40 & 1) ? COLOUR_A(86, 86, 90, 70) : COLOUR_A(146, 146, 146, 45);
        yard_floor(y, c, x, z, x + w, fmin(z + d, FENCE_Z), stain);
    }
}

static void yard_draw_markings(const struct yard *y, struct canvas *c)
{
    struct colour paint = COLOUR_A(222, 222, 214, 220);
    for (int i = 0; i <= N_BAYS; i++) {
        double x = yard_bay_x(i) - 1.6;
        yard_floor(y, c, x - 0.07, 24, x + 0.07, 29.4, paint);
    }
    yard_floor(y, c, yard_bay_x(0) - 1.67, 23.9, yard_bay_x(N_BAYS - 1) + 1.67, 24.05, paint);
    /* a way for people from the door, hatched */
    for (int i = 0; i < 9; i++)
        yard_floor(y, c, 1.2, 34.5 + i, 2.9, 35 + i, COLOUR_A(214, 196, 96, 170));
    yard_floor(y, c, ROAD_X - 2.7, FENCE_Z - 1.2, ROAD_X + 2.7, FENCE_Z - 0.9, paint);
}

static void yard_draw_building(const struct yard *y, struct canvas *c)
{
    double z = FENCE_Z;
    struct vec front[4] = {{-40, 7.2, z}, {5, 7.2, z}, {5, 0, z}, {-40, 0, z}};
    struct point p[4];
    for (int i = 0; i < 4; i++)
        p[i] = yard_project(y, front[i]);
    draw_polygon_shaded(c, p, 4, COLOUR(190, 182, 168), COLOUR(168, 160, 148));
    for (int i = 0; i < 22; i++)
        yard_wall(y, c, -39 + i * 2.0, 1.1, -38.94 + i * 2.0, 6.6, z, COLOUR_A(120, 114, 104, 120));
    yard_wall(y, c, -40, 6.6, 5, 7.2, z, COLOUR(88, 98, 112));   /* the roof's edge */
    yard_wall(y, c, -40, 0, 5, 1.0, z, COLOUR(126, 122, 118));   /* the plinth */
    yard_wall(y, c, -7.2, 0, -1.6, 4.4, z, COLOUR(70, 74, 80));  /* the roller door's frame */
    yard_wall(y, c, -7, 0, -1.8, 4.2, z, COLOUR(150, 158, 166)); /* and its slats */
    for (int i = 0; i < 10; i++)
        yard_wall(y, c, -7, 0.2 + i * 0.4, -1.8, 0.26 + i * 0.4, z, COLOUR(118, 126, 134));
    yard_wall(y, c, 1.3, 0, 2.8, 2.4, z, COLOUR(60, 62, 66)); /* the door */
    yard_wall(y, c, 1.42, 0, 2.68, 2.28, z, COLOUR(52, 92, 120));
    yard_wall(y, c, 1.7, 1.3, 2.4, 2.0, z, COLOUR(150, 178, 190));
    yard_wall(y, c, 1.75, 2.8, 2.35, 3.05, z, COLOUR(250, 244, 214)); /* the lamp over it */
    for (int i = 0; i < 5; i++) {
        double x = -20.5 + i * 2.6;
        yard_wall(y, c, x - 0.1, 3.3, x + 1.7, 4.9, z, COLOUR(220, 216, 206));
        yard_wall(y, c, x, 3.4, x + 1.6, 4.8, z, COLOUR(92, 114, 132));
        yard_wall(y, c, x, 4.1, x + 1.6, 4.15, z, COLOUR(220, 216, 206));
    }
    yard_wall(y, c, -6.3, 4.9, -2.5, 5.9, z, COLOUR(44, 84, 132)); /* a sign without words */
    yard_wall(y, c, -5.9, 5.25, -2.9, 5.55, z, COLOUR(222, 226, 232));
}

static void yard_draw_fence(const struct yard *y, struct canvas *c, double gate_open)
{
    double z = FENCE_Z;
    struct colour post = COLOUR(96, 104, 102), rail = COLOUR(116, 124, 122), wire = COLOUR_A(130, 138, 136, 120);
    for (int side = 0; side < 2; side++) {
        double x0 = side ? GATE_X1 : 5, x1 = side ? 44 : GATE_X0;
        for (double x = x0; x <= x1; x += 0.5)
            yard_wall(y, c, x - 0.015, 0.1, x + 0.015, 1.9, z, wire);
        for (double x = x0; x <= x1 + 0.01; x += 2)
            yard_wall(y, c, x - 0.05, 0, x + 0.05, 2, z, post);
        yard_wall(y, c, x0, 1.86, x1, 1.94, z, rail);
        yard_wall(y, c, x0, 0.2, x1, 0.26, z, rail);
    }
    yard_wall(y, c, GATE_X0 - 0.15, 0, GATE_X0 + 0.15, 2.3, z, COLOUR(214, 178, 60));
    yard_wall(y, c, GATE_X1 - 0.15, 0, GATE_X1 + 0.15, 2.3, z, COLOUR(214, 178, 60));
    double x0 = GATE_X0 + 0.2 + (GATE_X1 - GATE_X0 - 0.4) * gate_open, x1 = x0 + GATE_X1 - GATE_X0 - 0.4;
    for (double x = x0; x <= x1 + 0.01; x += (x1 - x0) / 16)
        yard_wall(y, c, x - 0.035, 0.15, x + 0.035, 1.75, z - 0.1, COLOUR(150, 60, 52));
    yard_wall(y, c, x0, 1.68, x1, 1.8, z - 0.1, COLOUR(168, 66, 56));
    yard_wall(y, c, x0, 0.1, x1, 0.22, z - 0.1, COLOUR(168, 66, 56));
}

static const struct vec yard_lamp_post = {-6.6, 0, 16.5};

static void yard_draw_lamp_post(const struct yard *y, struct canvas *c)
{
    struct vec foot = yard_lamp_post, head = foot;
    head.y = 6.2;
    struct point a = yard_project(y, foot), b = yard_project(y, head);
    double m = yard_scale(y, foot);
    draw_line(c, a, b, 0.16 * m, COLOUR(92, 96, 100));
    draw_rect(c, a.x - 0.16 * m, a.y - 0.5 * m, a.x + 0.16 * m, a.y, COLOUR(78, 80, 84));
}

static void yard_glow(const struct yard *y, const struct canvas *c, uint8_t *glow, struct vec at, double radius_m, double peak)
{
    struct point p = yard_project(y, at);
    double r = yard_scale(y, at) * radius_m, squash = 0.55;
    int y0 = (int)fmax(p.y - r * squash, 0), y1 = (int)fmin(p.y + r * squash + 1, c->height_px);
    int x0 = (int)fmax(p.x - r, 0), x1 = (int)fmin(p.x + r + 1, c->width_px);
    for (int row = y0; row < y1; row++)
        for (int x = x0; x < x1; x++) {
            double dx = (x + 0.5 - p.x) / r, dy = (row + 0.5 - p.y) / (r * squash), d = dx * dx + dy * dy;
            if (d >= 1)
                continue;
            uint8_t *g = &glow[(size_t)row * (size_t)c->width_px + (size_t)x];
            double v = *g + peak * (1 - d) * (1 - d);
            *g = v > 255 ? 255 : (uint8_t)v;
        }
}

static void yard_init(void *state, uint64_t seed, struct canvas *c, uint8_t *glow)
{
    struct yard *y = state;
    double w = c->width_px, h = c->height_px;
    /* Narrow pictures see less, they are not squeezed. */
    *y = (struct yard){.seed = seed, .focal_px = 0.95 * fmax(w, h * 16 / 9), .cx = w / 2, .cy = h / 2};
    y->pitch_sin = draw_sin(10.0 / 360);
    y->pitch_cos = draw_cos(10.0 / 360);
    y->phase_s = (double)(rng_at(seed, 1) % 100000) / 10;
    y->day_phase = (double)(rng_at(seed, 2) % 1000) / 1000;
    yard_draw_land(y, c);
    yard_draw_markings(y, c);
    yard_draw_building(y, c);
    yard_glow(y, c, glow, (struct vec){2, 1.2, FENCE_Z - 2}, 8, 230);
    yard_glow(y, c, glow, (struct vec){-3, 0, 24}, 12, 200);
    yard_glow(y, c, glow, (struct vec){ROAD_X, 0.5, FENCE_Z - 2}, 8, 190);
}

/* ---- ways ----------------------------------------------------------------------------------------------------------------- */

/* The place at s metres along a way of n points; before the first and after the last it stays there. */
static struct vec way_at(const struct vec *way, int n, double s)
{
    for (int i = 0; i + 1 < n; i++) {
        double dx = way[i + 1].x - way[i].x, dz = way[i + 1].z - way[i].z, len = sqrt(dx * dx + dz * dz);
        if (s <= len || i + 2 == n) {
            double f = fmin(fmax(len > 0 ? s / len : 0, 0), 1);
            return (struct vec){way[i].x + dx * f, 0, way[i].z + dz * f};
        }
        s -= len;
    }
    return way[0];
}

static double way_length(const struct vec *way, int n)
{
    double s = 0;
    for (int i = 0; i + 1 < n; i++) {
        double dx = way[i + 1].x - way[i].x, dz = way[i + 1].z - way[i].z;
        s += sqrt(dx * dx + dz * dz);
    }
    return s;
}

/* The same with rounded corners: the mean over `round` metres before and after. */
static struct vec way_at_rounded(const struct vec *way, int n, double s, double round)
{
    enum { N = 9 };
    struct vec sum = {0};
    for (int i = 0; i < N; i++) {
        struct vec p = way_at(way, n, s + round * (2.0 * i / (N - 1) - 1));
        sum.x += p.x / N;
        sum.z += p.z / N;
    }
    return sum;
}

/* ---- cars ----------------------------------------------------------------------------------------------------------------- */

struct car {
    struct vec at;
    double dx, dz; /* where the front points; length 1 */
    bool is_van;
    struct colour paint;
};

/*
 * Where the car of a bay is at world time T, if it is anywhere. In a round of 8 slots bay i's car arrives in slot 2 i and leaves
 * in an odd slot later, so that in each slot at most one car moves. *ret_gate is raised to how far the gate is open for it.
 */
static bool yard_car_at(const struct yard *y, int i_bay, double t, struct car *ret_car, double *ret_gate)
{
    static const struct colour paints[] = {{196, 198, 202, 255}, {44, 46, 52, 255},  {150, 34, 34, 255}, {38, 72, 140, 255},
                                           {226, 226, 222, 255}, {94, 104, 98, 255}, {172, 140, 60, 255}};
    double round_s = 8 * SLOT_S, since = t - 2 * i_bay * SLOT_S;
    double k = floor(since / round_s);
    double tau = since - k * round_s;
    uint64_t actor = rng_at(y->seed ^ 0xca55, (uint64_t)i_bay);
    uint64_t r = rng_at(actor, (uint64_t)(int64_t)k);
    if (r % 100 < 18)
        return false;
    double leave_s = SLOT_S * (3 + 2 * (double)(rng_at(y->seed, 3) % 3)); /* the same for all bays: no two in one slot */
    ret_car->is_van = (r >> 16) % 5 == 0;
    ret_car->paint = ret_car->is_van && (r >> 20 & 1) ? COLOUR(224, 224, 220) : paints[(r >> 24) % 7];
    double bay_x = yard_bay_x(i_bay), gate = 0;
    const struct vec in[] = {{ROAD_X, 0, 80}, {ROAD_X, 0, LANE_Z}, {bay_x, 0, LANE_Z}, {bay_x, 0, 26.6}};
    const struct vec out[] = {{bay_x - 2.2, 0, LANE_Z}, {ROAD_X, 0, LANE_Z}, {ROAD_X, 0, 80}};
    if (tau < 13) {
        double len = way_length(in, 4), u = tau / 13, s = len * u * (2 - u);
        struct vec ahead = way_at_rounded(in, 4, s + 0.3, 2.2), behind = way_at_rounded(in, 4, s - 0.3, 2.2);
        ret_car->at = way_at_rounded(in, 4, s, 2.2);
        double dx = ahead.x - behind.x, dz = ahead.z - behind.z, d = sqrt(dx * dx + dz * dz);
        ret_car->dx = d > 1e-6 ? dx / d : 0;
        ret_car->dz = d > 1e-6 ? dz / d : -1;
        gate = fmin(fmin(tau / 1.5, 1), fmax((8 - tau) / 2, 0));
    } else if (tau < leave_s) {
        ret_car->at = way_at_rounded(in, 4, way_length(in, 4), 2.2);
        ret_car->dx = 0;
        ret_car->dz = -1;
    } else if (tau < leave_s + 5) {
        /* backwards out of the bay, turning the nose to the gate */
        double u = (tau - leave_s) / 5;
        u = u * u * (3 - 2 * u);
        struct vec from = way_at_rounded(in, 4, way_length(in, 4), 2.2);
        ret_car->at = (struct vec){from.x + (out[0].x - from.x) * u * u, 0, from.z + (out[0].z - from.z) * u};
        ret_car->dx = draw_sin(u / 4);
        ret_car->dz = -draw_cos(u / 4);
    } else if (tau < leave_s + 14) {
        double u = (tau - leave_s - 5) / 9, s = way_length(out, 3) * u * (0.35 + 0.65 * u);
        struct vec ahead = way_at_rounded(out, 3, s + 0.3, 2.2), behind = way_at_rounded(out, 3, s - 0.3, 2.2);
        ret_car->at = way_at_rounded(out, 3, s, 2.2);
        double dx = ahead.x - behind.x, dz = ahead.z - behind.z, d = sqrt(dx * dx + dz * dz);
        ret_car->dx = d > 1e-6 ? dx / d : 1;
        ret_car->dz = d > 1e-6 ? dz / d : 0;
        double q = tau - leave_s - 5;
        gate = fmin(fmin(q / 2, 1), fmax(9.5 - q, 0));
    } else {
        return false;
    }
    *ret_gate = fmax(*ret_gate, gate);
    return true;
}

/* A point of a car: u metres towards the front, v to its left, h up. */
static struct vec car_point(const struct car *a, double u, double v, double h)
{
    return (struct vec){a->at.x + a->dx * u - a->dz * v, h, a->at.z + a->dz * u + a->dx * v};
}

static void car_face(const struct yard *y, struct canvas *c, const struct vec v[4], struct colour colour)
{
    struct point p[4];
    double area = 0;
    for (int i = 0; i < 4; i++)
        p[i] = yard_project(y, v[i]);
    for (int i = 0; i < 4; i++)
        area += p[i].x * p[(i + 1) % 4].y - p[(i + 1) % 4].x * p[i].y;
    if (area < 0) /* faces are given so that, with y down, those that look at the camera have a negative area */
        draw_polygon(c, p, 4, colour);
}

/* A box whose top may be shorter and narrower than its foot: a car's body, its cabin. */
static void car_box(const struct yard *y, struct canvas *c, const struct car *a, double rear, double front, double half,
                    double h0, double top_rear, double top_front, double top_half, double h1, struct colour side,
                    struct colour front_colour, struct colour top)
{
    struct vec b[4] = {car_point(a, rear, half, h0), car_point(a, front, half, h0), car_point(a, front, -half, h0),
                       car_point(a, rear, -half, h0)};
    struct vec t[4] = {car_point(a, top_rear, top_half, h1), car_point(a, top_front, top_half, h1),
                       car_point(a, top_front, -top_half, h1), car_point(a, top_rear, -top_half, h1)};
    const struct vec faces[5][4] = {
        {b[0], t[0], t[1], b[1]}, /* left */
        {b[2], t[2], t[3], b[3]}, /* right */
        {b[1], t[1], t[2], b[2]}, /* front */
        {b[3], t[3], t[0], b[0]}, /* rear */
        {t[0], t[3], t[2], t[1]}, /* top */
    };
    car_face(y, c, faces[0], colour_scale(side, 0.86));
    car_face(y, c, faces[1], colour_scale(side, 0.86));
    car_face(y, c, faces[2], front_colour);
    car_face(y, c, faces[3], front_colour);
    car_face(y, c, faces[4], top);
}

static void car_wheels(const struct yard *y, struct canvas *c, const struct car *a, double half, double axle)
{
    enum { N = 12 };
    for (int side = -1; side <= 1; side += 2)
        for (int end = -1; end <= 1; end += 2) {
            struct vec v[N];
            for (int i = 0; i < N; i++)
                v[i] = car_point(a, end * axle + 0.33 * draw_cos((double)i / N), side * half,
                                 0.33 + 0.33 * draw_sin((double)i / N));
            yard_polygon(y, c, v, N, COLOUR(26, 26, 28));
            for (int i = 0; i < N; i++)
                v[i] = car_point(a, end * axle + 0.16 * draw_cos((double)i / N), side * half,
                                 0.33 + 0.16 * draw_sin((double)i / N));
            yard_polygon(y, c, v, N, COLOUR(150, 152, 156));
        }
}

static void yard_draw_car(const struct yard *y, struct canvas *c, const struct car *a, struct scene_object *object)
{
    double len = a->is_van ? 2.45 : 2.1, half = a->is_van ? 0.95 : 0.88, tall = a->is_van ? 2.1 : 1.45;
    struct vec shade[4] = {car_point(a, -len - 0.1, half + 0.35, 0), car_point(a, len + 0.1, half + 0.35, 0),
                           car_point(a, len + 0.1, -half - 0.1, 0), car_point(a, -len - 0.1, -half - 0.1, 0)};
    yard_polygon(y, c, shade, 4, COLOUR_A(20, 22, 26, 110));
    struct colour paint = a->paint, bright = colour_scale(paint, 1.1), glass = COLOUR(48, 58, 68);
    /* The wheels of the far side come out again under the body that is drawn over them. */
    car_wheels(y, c, a, half - 0.02, len * 0.62);
    if (a->is_van) {
        car_box(y, c, a, -len, len - 0.2, half, 0.35, -len, len - 0.9, half - 0.08, tall, paint, colour_scale(paint, 0.94),
                bright);
        car_box(y, c, a, len - 0.9, len, half - 0.02, 0.35, len - 0.9, len - 0.15, half - 0.05, 1.1, paint, paint, bright);
        struct vec pane[4] = {car_point(a, len - 0.24, half - 0.1, 1.12), car_point(a, len - 0.7, half - 0.14, 1.9),
                              car_point(a, len - 0.7, -half + 0.14, 1.9), car_point(a, len - 0.24, -half + 0.1, 1.12)};
        car_face(y, c, pane, glass);
    } else {
        car_box(y, c, a, -len, len, half, 0.32, -len + 0.05, len - 0.1, half - 0.04, 0.92, paint, colour_scale(paint, 0.94),
                bright);
        car_box(y, c, a, -1.55, 0.95, half - 0.06, 0.92, -1.15, 0.3, half - 0.22, tall, glass, glass, paint);
    }
    for (int side = -1; side <= 1; side += 2) {
        double v = side * (half - 0.28);
        struct vec lamp[4] = {car_point(a, len + 0.01, v + 0.17, 0.6), car_point(a, len - 0.04, v + 0.17, 0.8),
                              car_point(a, len - 0.04, v - 0.17, 0.8), car_point(a, len + 0.01, v - 0.17, 0.6)};
        car_face(y, c, lamp, COLOUR(250, 246, 224));
        struct vec tail[4] = {car_point(a, -len - 0.01, v - 0.17, 0.6), car_point(a, -len, v - 0.17, 0.8),
                              car_point(a, -len, v + 0.17, 0.8), car_point(a, -len - 0.01, v + 0.17, 0.6)};
        car_face(y, c, tail, COLOUR(170, 30, 28));
    }
    /* the outline of an upright car covers about this much of length or width times height */
    double m = yard_scale(y, a->at), broad = 2 * len * fabs(a->dx) + 2 * half * fabs(a->dz);
    object->full_px = 0.85 * m * m * broad * tall;
}

/* ---- people and the dog --------------------------------------------------------------------------------------------------- */

static const struct vec yard_ways[][4] = {
    {{2.1, 0, 43.4}, {2.1, 0, 35}, {7, 0, 30}, {26, 0, 27}},    {{-18, 0, 21.5}, {-4, 0, 21}, {6, 0, 20}, {20, 0, 21}},
    {{2.1, 0, 43.4}, {1.5, 0, 35}, {-13, 0, 31}, {-30, 0, 34}}, {{9, 0, 10}, {5, 0, 19}, {3, 0, 33}, {2.1, 0, 43.4}},
    {{26, 0, 36}, {12, 0, 35}, {5, 0, 31}, {-24, 0, 37}},       {{-12, 0, 14.5}, {0, 0, 15.5}, {6, 0, 17}, {17, 0, 18}},
};

#define N_WAYS ((int)(sizeof yard_ways / sizeof yard_ways[0]))

struct walker {
    struct vec at;
    double walked_m; /* the gait's phase */
    double side;     /* -1 or 1: which way the walk goes on the screen */
    uint64_t look;
    bool is_still;
};

/* Where a walker is: its round is `period_s`, in `presence_pct` of the rounds it goes one of the ways. */
static bool yard_walker_at(const struct yard *y, uint64_t actor_id, double period_s, unsigned presence_pct, double speed_mps,
                           double t, struct walker *ret)
{
    uint64_t actor = rng_at(y->seed ^ 0xbeef, actor_id);
    double at = t + (double)(actor % 1000) / 1000 * period_s;
    double k = floor(at / period_s), tau = at - k * period_s;
    uint64_t r = rng_at(actor, (uint64_t)(int64_t)k);
    if (r % 100 >= presence_pct)
        return false;
    const struct vec *way = yard_ways[(r >> 8) % N_WAYS];
    double speed = speed_mps * (0.85 + (double)(r >> 16 & 255) / 850), len = way_length(way, 4);
    /* halfway some stop for a while, as people do */
    double pause_s = (r >> 24 & 3) == 0 ? 4 + (double)(r >> 26 & 7) : 0, half_s = len / 2 / speed;
    double walk_s = tau < half_s ? tau : tau < half_s + pause_s ? half_s : tau - pause_s;
    bool is_backwards = r >> 32 & 1;
    double s = walk_s * speed;
    if (s >= len)
        return false;
    double place = is_backwards ? len - s : s, step = is_backwards ? -0.3 : 0.3;
    struct vec ahead = way_at_rounded(way, 4, place + step, 1);
    *ret = (struct walker){.at = way_at_rounded(way, 4, place, 1), .walked_m = s, .look = r >> 33};
    ret->side = ahead.x >= ret->at.x ? 1 : -1;
    ret->is_still = pause_s > 0 && tau > half_s && tau < half_s + pause_s;
    return true;
}

static void yard_draw_person(const struct yard *y, struct canvas *c, const struct walker *a, struct scene_object *object)
{
    static const struct colour tops[] = {{180, 60, 52, 255}, {60, 92, 150, 255}, {232, 228, 216, 255}, {240, 140, 20, 255},
                                         {70, 120, 80, 255}, {50, 50, 58, 255},  {206, 210, 40, 255}};
    static const struct colour legs[] = {{44, 50, 74, 255}, {60, 56, 50, 255}, {92, 92, 98, 255}, {34, 34, 36, 255}};
    static const struct colour skins[] = {{224, 184, 154, 255}, {188, 140, 106, 255}, {120, 82, 60, 255}};
    static const struct colour hairs[] = {{40, 30, 24, 255}, {96, 66, 40, 255}, {180, 150, 96, 255}, {240, 200, 30, 255}};
    struct colour top = tops[a->look % 7], leg = legs[(a->look >> 4) % 4], skin = skins[(a->look >> 8) % 3],
                  hair = hairs[(a->look >> 12) % 4];
    double tall = 0.93 + (double)(a->look >> 16 & 15) / 110;
    struct point f = yard_project(y, a->at);
    double m = yard_scale(y, a->at) * tall;
    double swing = a->is_still ? 0.06 : 0.30 * draw_sin(a->walked_m / 1.5), bob = fabs(swing) * 0.06;
    draw_ellipse(c, f.x + 0.2 * m, f.y, 0.5 * m, 0.13 * m, COLOUR_A(20, 22, 26, 90));
#define AT(px_, py_) ((struct point){f.x + a->side * (px_)*m, f.y - ((py_)-bob) * m})
    draw_line(c, AT(-0.02, 0.9), AT(-swing * 1.05, 0.03), 0.16 * m, colour_scale(leg, 0.8));
    draw_line(c, AT(0.02, 0.9), AT(swing * 1.05, 0.03), 0.17 * m, leg);
    draw_line(c, AT(-swing * 1.05 - 0.04, 0.04), AT(-swing * 1.05 + 0.17, 0.04), 0.08 * m, COLOUR(30, 28, 28));
    draw_line(c, AT(swing * 1.05 - 0.04, 0.04), AT(swing * 1.05 + 0.17, 0.04), 0.08 * m, COLOUR(30, 28, 28));
    draw_line(c, AT(-0.04, 1.38), AT(swing * 0.9 - 0.03, 0.86), 0.10 * m, colour_scale(top, 0.75));
    struct point torso[] = {AT(-0.15, 0.84), AT(-0.2, 1.15), AT(-0.22, 1.38), AT(-0.12, 1.47),
                            AT(0.12, 1.47),  AT(0.2, 1.38),  AT(0.18, 1.15),  AT(0.15, 0.84)};
    draw_polygon(c, torso, 8, top);
    if (a->look % 7 == 3 || a->look % 7 == 6) /* the bright tops are vests with a reflecting band */
        draw_line(c, AT(-0.19, 1.1), AT(0.18, 1.1), 0.07 * m, COLOUR(236, 236, 226));
    draw_line(c, AT(0.06, 1.40), AT(-swing * 0.9 + 0.08, 0.86), 0.10 * m, colour_scale(top, 0.9));
    draw_line(c, AT(0, 1.44), AT(0.01, 1.56), 0.09 * m, colour_scale(skin, 0.9));
    struct point head = AT(0.02, 1.64), crown = AT(-0.005, 1.68);
    draw_ellipse(c, head.x, head.y, 0.10 * m, 0.125 * m, skin);
    draw_ellipse(c, crown.x, crown.y, 0.105 * m, 0.10 * m, hair);
    object->full_px = 0.62 * m * m * 0.5 * 1.77;
}

static void yard_draw_dog(const struct yard *y, struct canvas *c, const struct walker *a, struct scene_object *object)
{
    static const struct colour coats[] = {{120, 82, 46, 255}, {52, 48, 46, 255}, {206, 184, 148, 255}, {150, 146, 140, 255}};
    struct colour coat = coats[a->look % 4], far_coat = colour_scale(coat, 0.75);
    struct point f = yard_project(y, a->at);
    double m = yard_scale(y, a->at) * 1.15, gait = a->is_still ? 0.02 : 0.12 * draw_sin(a->walked_m / 0.8), bob = 0;
    draw_ellipse(c, f.x, f.y, 0.5 * m, 0.11 * m, COLOUR_A(20, 22, 26, 90));
    draw_line(c, AT(-0.28, 0.36), AT(-0.30 - gait, 0.02), 0.08 * m, far_coat);
    draw_line(c, AT(0.26, 0.36), AT(0.26 + gait, 0.02), 0.08 * m, far_coat);
    draw_line(c, AT(-0.26, 0.36), AT(-0.26 + gait, 0.02), 0.085 * m, coat);
    draw_line(c, AT(0.28, 0.36), AT(0.29 - gait, 0.02), 0.085 * m, coat);
    struct point body[] = {AT(-0.36, 0.36), AT(-0.38, 0.5), AT(-0.3, 0.58), AT(0.22, 0.58), AT(0.36, 0.62),
                           AT(0.42, 0.5),   AT(0.32, 0.36), AT(0, 0.34),    AT(-0.2, 0.38)};
    draw_polygon(c, body, 9, coat);
    struct point head[] = {AT(0.3, 0.58), AT(0.36, 0.78), AT(0.5, 0.82), AT(0.56, 0.76),
                           AT(0.72, 0.7), AT(0.7, 0.63),  AT(0.5, 0.58)};
    draw_polygon(c, head, 7, colour_scale(coat, 1.06));
    draw_line(c, AT(0.4, 0.8), AT(0.36, 0.66), 0.08 * m, far_coat);
    draw_line(c, AT(-0.36, 0.52), AT(-0.55, 0.72 + gait * 0.5), 0.06 * m, coat);
    object->full_px = 0.40 * m * m * 1.25 * 0.8;
#undef AT
}

/* ---- the whole picture ------------------------------------------------------------------------------------------------------ */

/* Something to draw, ordered by distance. */
struct thing {
    enum { THING_CAR, THING_PERSON, THING_DOG, THING_LAMP_POST } what;
    double z;
    struct car car;
    struct walker walker;
};

static void yard_draw_thing(const struct yard *y, struct scene_shot *shot, const struct thing *thing)
{
    struct canvas *c = shot->canvas;
    if (thing->what == THING_LAMP_POST) {
        c->id = 0;
        yard_draw_lamp_post(y, c);
        return;
    }
    assert(shot->n_objects < SCENE_MAX_OBJECTS);
    struct scene_object *o = &shot->object[shot->n_objects++];
    c->id = (uint8_t)shot->n_objects;
    switch (thing->what) {
    case THING_CAR:
        o->kind = SCENE_VEHICLE;
        yard_draw_car(y, c, &thing->car, o);
        break;
    case THING_PERSON:
        o->kind = SCENE_PERSON;
        yard_draw_person(y, c, &thing->walker, o);
        break;
    default:
        o->kind = SCENE_ANIMAL;
        yard_draw_dog(y, c, &thing->walker, o);
        break;
    }
}

static void yard_draw(const void *state, struct scene_shot *shot)
{
    static const double person_period_s[N_PEOPLE] = {61, 73, 83, 97, 107};
    const struct yard *y = state;
    double t = shot->t_s + y->phase_s, gate = 0;
    struct thing things[N_BAYS + N_PEOPLE + 2];
    int n = 0;
    for (int i = 0; i < N_BAYS; i++)
        if (yard_car_at(y, i, t, &things[n].car, &gate)) {
            things[n].what = THING_CAR;
            things[n].z = things[n].car.at.z;
            n++;
        }
    for (int i = 0; i < N_PEOPLE; i++)
        if (yard_walker_at(y, (uint64_t)i, person_period_s[i], 62, 1.35, t, &things[n].walker)) {
            things[n].what = THING_PERSON;
            things[n].z = things[n].walker.at.z;
            n++;
        }
    if (yard_walker_at(y, 100, 67, 60, 1.6, t, &things[n].walker)) {
        things[n].what = THING_DOG;
        things[n].z = things[n].walker.at.z;
        n++;
    }
    things[n++] = (struct thing){.what = THING_LAMP_POST, .z = yard_lamp_post.z};
    for (int i = 1; i < n; i++) { /* far to near */
        struct thing moving = things[i];
        int k = i;
        for (; k > 0 && things[k - 1].z < moving.z; k--)
            things[k] = things[k - 1];
        things[k] = moving;
    }
    int i = 0;
    for (; i < n && things[i].z > FENCE_Z; i++)
        yard_draw_thing(y, shot, &things[i]);
    shot->canvas->id = 0;
    yard_draw_fence(y, shot->canvas, gate);
    for (; i < n; i++)
        yard_draw_thing(y, shot, &things[i]);
    /* a day of 15 minutes, two thirds of it bright */
    shot->light = fmin(fmax(0.55 + 0.8 * draw_cos(shot->t_s / 900 + y->day_phase), 0), 1);
    shot->noise = 1.3 + 2.2 * (1 - shot->light);
}

const struct scene_kind scene_yard = {
    .name = "yard",
    .state_bytes = sizeof(struct yard),
    .init = yard_init,
    .draw = yard_draw,
};
