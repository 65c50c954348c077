/*
 * yard_set - draws what stands still in the yard: sky, land, ground, building, fence, lamps; and where their light falls.
 *
 * Large surfaces get their texture pixel by pixel: each pixel's ray is followed to the ground or the wall, and noise of that place (integer hashes) tints it, so that
 * texture lies in the perspective and is the same in pictures of every size, but for a fine grain by pixel. Edges are polygons, because those are antialiased.
 */
#include <math.h>

#include "base/rng.h"
#include "pipeline/noise.h"
#include "pipeline/yard.h"

#define FAR_Z       400.0
#define CORRUGATE_M 0.3
#define N_LOOKS     4

/* Colours of a building's style. Muted: people, vehicles and fire must stand out before them. */
struct set_look {
    struct colour wall, plinth, edge, frame, sign;
    bool is_brick;
};

static const struct set_look set_looks[N_LOOKS] = {
    {{196, 184, 160, 255}, {128, 122, 114, 255}, {92, 90, 88, 255}, {226, 220, 206, 255}, {52, 88, 130, 255}, false},
    {{142, 110, 98, 255}, {104, 96, 92, 255}, {72, 66, 64, 255}, {214, 206, 194, 255}, {206, 200, 184, 255}, true},
    {{140, 156, 172, 255}, {104, 108, 114, 255}, {66, 78, 92, 255}, {222, 226, 228, 255}, {196, 150, 60, 255}, false},
    {{212, 212, 206, 255}, {136, 136, 134, 255}, {96, 112, 104, 255}, {128, 138, 136, 255}, {46, 110, 86, 255}, false},
};

/* Roller door and emergency exit. */
static const struct colour set_doors[N_LOOKS] = {
    {158, 164, 170, 255}, {94, 124, 150, 255}, {118, 140, 120, 255}, {186, 180, 168, 255}};
static const struct colour set_exits[N_LOOKS] = {{66, 104, 92, 255}, {62, 80, 104, 255}, {92, 96, 102, 255}, {58, 96, 72, 255}};

static uint32_t set_salt(const struct yard *y, uint64_t what)
{
    return (uint32_t)rng_at(y->seed ^ 0x5e7, what);
}

/* ---- rays ------------------------------------------------------------------------------------------------------------------- */

/* Where the ray of a pixel goes, one metre along the optical axis. */
static struct vec set_ray(const struct yard *y, int x_px, int y_px)
{
    const struct scene_view *v = &y->view;
    double across = (x_px + 0.5 - v->cx) / v->focal_px, up = (v->cy - y_px - 0.5) / v->focal_px;
    double ahead = v->pitch_cos + up * v->pitch_sin;
    return (struct vec){v->side * (across * v->yaw_cos + ahead * v->yaw_sin), up * v->pitch_cos - v->pitch_sin,
                        ahead * v->yaw_cos - across * v->yaw_sin};
}

/* The ray's place on the ground; false: it never gets there. */
static bool set_ray_ground(const struct yard *y, struct vec ray, struct vec *ret_at)
{
    if (ray.y > -1e-4)
        return false;
    double d = -y->view.height_m / ray.y;
    *ret_at = (struct vec){ray.x * d, 0, ray.z * d};
    return true;
}

/* The ray's place on the building's front; false: it passes by. */
static bool set_ray_wall(const struct yard *y, struct vec ray, struct vec *ret_at)
{
    double d = y->fence_z / ray.z;
    struct vec p = {ray.x * d, y->view.height_m + ray.y * d, y->fence_z};
    if (p.x < y->building_x0 || p.x > y->building_x1 || p.y < 0 || p.y > y->building_tall_m)
        return false;
    *ret_at = p;
    return true;
}

static uint8_t set_byte(double v)
{
    return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)(v + 0.5);
}

static uint8_t *set_px(const struct canvas *c, int x, int y)
{
    return c->rgb + (size_t)y * c->stride_bytes + (size_t)x * 3;
}

static void set_put(const struct canvas *c, int x, int y, double r, double g, double b)
{
    uint8_t *px = set_px(c, x, y);
    px[0] = set_byte(r);
    px[1] = set_byte(g);
    px[2] = set_byte(b);
}

/* ---- sky, hills, trees ------------------------------------------------------------------------------------------------------ */

static void set_draw_sky(const struct yard *y, struct canvas *c)
{
    uint32_t salt = set_salt(y, 1);
    int last = (int)fmin(scene_view_horizon(&y->view) + 2, c->height_px);
    double cover = 0.40 + 0.2 * (double)(salt & 255) / 255;
    for (int row = 0; row < last; row++)
        for (int x = 0; x < c->width_px; x++) {
            struct vec ray = set_ray(y, x, row);
            double up = yard_unit(ray.y / 0.30), haze = (1 - up) * (1 - up);
            double r = 112 + 98 * haze, g = 158 + 62 * haze, b = 208 + 22 * haze;
            /* clouds lie on a plane high up */
            double d = 1 / (fmax(ray.y, 0) + 0.07), u = ray.x * d, v = ray.z * d;
            double n = 0.55 * noise_bumps(salt, u * 0.8, v * 0.9) + 0.3 * noise_bumps(salt + 1, u * 2.1, v * 2.3) +
                       0.15 * noise_bumps(salt + 2, u * 5, v * 5);
            double cloud = yard_unit((n - (1 - cover)) * 5.5) * (0.9 - 0.45 * haze),
                   shade = 232 + 22 * yard_unit((n - 0.5) * 3);
            set_put(c, x, row, r + (shade - r) * cloud, g + (shade - g) * cloud, b + (shade + 2 - b) * cloud);
        }
}

/* A row of hills: its outline is noise. */
static void set_draw_hills(const struct yard *y, struct canvas *c, double z, double tall_m, struct colour top,
                           struct colour foot, uint32_t salt)
{
    enum { N = 40 };
    struct point p[N + 2];
    double half = z * 0.85;
    for (int i = 0; i < N; i++) {
        double x = -half + 2 * half * i / (N - 1);
        double n =
            0.6 * noise_bumps(salt, i * 0.17, 0) + 0.28 * noise_bumps(salt, i * 0.5, 7) + 0.12 * noise_bumps(salt, i * 1.9, 11);
        p[i] = scene_view_project(&y->view, (struct vec){x, tall_m * n, z});
    }
    p[N] = scene_view_project(&y->view, (struct vec){half, -2, z});
    p[N + 1] = scene_view_project(&y->view, (struct vec){-half, -2, z});
    draw_polygon_shaded(c, p, N + 2, top, foot);
}

enum set_tree { TREE_ROUND, TREE_POPLAR, TREE_FIR, TREE_BIRCH };

/* Leaves as clumps: dark ones below and to the right first, then lighter ones to where the sun is. */
static void set_draw_crown(struct canvas *c, struct point at, double m, double rx, double ry, struct colour leaf, int n_clumps,
                           uint32_t salt)
{
    draw_ellipse(c, at.x, at.y, rx * m * 0.86, ry * m * 0.88, colour_scale(leaf, 0.72));
    for (int i = 0; i < n_clumps; i++) {
        uint32_t h = noise_hash(salt, i, 3);
        double turn = (double)(h & 1023) / 1024, far = 0.35 + 0.6 * (double)(h >> 10 & 255) / 255;
        double dx = draw_cos(turn) * far, dy = draw_sin(turn) * far, r = 0.22 + 0.2 * (double)(h >> 18 & 255) / 255;
        double light = 0.92 - 0.26 * dy - 0.12 * dx + 0.16 * ((double)(h >> 24) / 255 - 0.5) + 0.1 * i / n_clumps;
        draw_ellipse(c, at.x + dx * rx * m, at.y + dy * ry * m, r * rx * m, r * ry * m * 0.85, colour_scale(leaf, light));
    }
}

static void set_draw_tree(const struct yard *y, struct canvas *c, enum set_tree tree, struct vec at, double tall_m,
                          struct colour leaf, uint32_t salt)
{
    struct point f = scene_view_project(&y->view, at);
    double m = scene_view_scale(&y->view, at);
    draw_ellipse(c, f.x + 0.6 * m, f.y, tall_m * 0.3 * m, tall_m * 0.035 * m, COLOUR_A(30, 40, 26, 90));
    struct colour bark = tree == TREE_BIRCH ? COLOUR(196, 192, 184) : COLOUR(84, 70, 56);
    draw_line(c, f, (struct point){f.x, f.y - tall_m * 0.6 * m}, fmax(0.045 * tall_m * m, 0.8), bark);
    switch (tree) {
    case TREE_ROUND:
        set_draw_crown(c, (struct point){f.x, f.y - tall_m * 0.62 * m}, m, tall_m * 0.40, tall_m * 0.38, leaf, 16, salt);
        break;
    case TREE_POPLAR:
        set_draw_crown(c, (struct point){f.x, f.y - tall_m * 0.68 * m}, m, tall_m * 0.15, tall_m * 0.54, leaf, 12, salt);
        break;
    case TREE_FIR:
        for (int i = 0; i < 5; i++) {
            double top = tall_m * (0.46 + 0.145 * i), foot = tall_m * (0.10 + 0.15 * i), half = tall_m * (0.25 - 0.042 * i);
            struct point left[3] = {{f.x, f.y - top * m}, {f.x - half * m, f.y - foot * m}, {f.x + 0.02 * m, f.y - foot * m}};
            struct point right[3] = {{f.x, f.y - top * m}, {f.x, f.y - foot * m}, {f.x + half * m, f.y - foot * m}};
            draw_polygon(c, left, 3, colour_scale(leaf, 0.86 + 0.05 * i));
            draw_polygon(c, right, 3, colour_scale(leaf, 0.66 + 0.05 * i));
        }
        break;
    case TREE_BIRCH:
        set_draw_crown(c, (struct point){f.x, f.y - tall_m * 0.66 * m}, m, tall_m * 0.24, tall_m * 0.36, leaf, 13, salt);
        break;
    }
}

static void set_draw_trees(const struct yard *y, struct canvas *c)
{
    static const struct colour leaves[4][3] = {{{74, 104, 58, 255}, {88, 112, 62, 255}, {64, 94, 60, 255}},
                                               {{78, 106, 66, 255}, {66, 98, 58, 255}, {92, 114, 72, 255}},
                                               {{50, 78, 60, 255}, {58, 84, 58, 255}, {44, 72, 58, 255}},
                                               {{128, 118, 62, 255}, {104, 116, 64, 255}, {140, 110, 60, 255}}};
    uint32_t salt = set_salt(y, 2);
    int look = y->tree_look & 3;
    for (int i = 0; i < 30; i++) { /* from far to near */
        uint32_t h = noise_hash(salt, i, 0), g = noise_hash(salt, i, 1);
        double z = 96 - i * 1.75, half = z * 0.72;
        double x = -half + 2 * half * (double)(h & 0xffff) / 65536;
        double tall = 5.5 + 4.0 * (double)(h >> 16 & 255) / 255;
        enum set_tree tree = (enum set_tree)(g % 5 == 0 ? (look + 1) % 4 : look);
        if (tree == TREE_POPLAR)
            tall *= 1.25;
        struct colour leaf = colour_mix(leaves[tree][g >> 8 & 1   ? 0
                                                     : g >> 9 & 1 ? 1
                                                                  : 2],
                                        COLOUR(150, 168, 178), (z - 44) / 130);
        if (x > y->gate_x0 - 2 && x < y->gate_x1 + 2 && z < 50)
            x += 8; /* the view through the gate stays clear */
        set_draw_tree(y, c, tree, (struct vec){x, 0, z}, tall, leaf, g);
    }
}

/* ---- ground ----------------------------------------------------------------------------------------------------------------- */

/* Grass beyond the fence, asphalt before it, both with stains; each scale of noise fades where a pixel covers several bumps. */
static void set_draw_ground(const struct yard *y, struct canvas *c)
{
    uint32_t salt = set_salt(y, 3);
    int first = (int)fmax(scene_view_horizon(&y->view), 0);
    for (int row = first; row < c->height_px; row++)
        for (int x = 0; x < c->width_px; x++) {
            struct vec at;
            if (!set_ray_ground(y, set_ray(y, x, row), &at) || at.z > FAR_Z)
                at = (struct vec){0, 0, FAR_Z};
            double px_m = at.z * at.z / (y->view.focal_px * y->view.height_m); /* a pixel's depth on the ground */
            if (at.z > y->fence_z + 0.6) {
                double n = noise_bumps(salt, at.x * 0.16, at.z * 0.16) - 0.5,
                       fine = noise_bumps(salt + 1, at.x * 1.1, at.z * 0.8) - 0.5;
                double amp = 14 * yard_unit(1.5 / px_m), haze = yard_unit((at.z - 60) / 240);
                double r = 104 + 26 * n + amp * fine, g = 120 + 18 * n + amp * fine, b = 72 + 10 * n + 0.6 * amp * fine;
                set_put(c, x, row, r + (150 - r) * haze, g + (160 - g) * haze, b + (150 - b) * haze);
                continue;
            }
            double broad = noise_bumps(salt + 2, at.x * 0.13, at.z * 0.13) - 0.5,
                   mid = noise_bumps(salt + 3, at.x * 0.7, at.z * 0.55) - 0.5;
            double fine = (double)(noise_hash(salt + 4, (int)floor(at.x * 24), (int)floor(at.z * 16)) & 255) / 255 - 0.5;
            double grain = (double)(noise_hash(salt + 5, x, row) & 255) / 255 - 0.5;
            double v = 116 + 0.35 * (at.z - 16) + 20 * broad + 11 * mid + 9 * fine * yard_unit(0.06 / px_m) + 5 * grain;
            /* dark, oily places: where two noises are both high */
            double oil = noise_bumps(salt + 6, at.x * 0.45 + 3, at.z * 0.4) * noise_bumps(salt + 7, at.x * 1.3, at.z * 1.2);
            v -= 30 * yard_unit((oil - 0.5) * 3);
            set_put(c, x, row, v, v + 0.5, v + 2.5 - 3 * broad);
        }
}

/* Two dark tracks along a bent way: where tyres turn. */
static void set_draw_tracks(const struct yard *y, struct canvas *c, const struct vec p[3], double half_m, struct colour colour)
{
    enum { N = 9 };
    for (int side = -1; side <= 1; side += 2) {
        struct vec strip[2 * N];
        for (int i = 0; i < N; i++) {
            double t = (double)i / (N - 1), s = 1 - t;
            double x = s * s * p[0].x + 2 * s * t * p[1].x + t * t * p[2].x,
                   z = s * s * p[0].z + 2 * s * t * p[1].z + t * t * p[2].z;
            double dx = s * (p[1].x - p[0].x) + t * (p[2].x - p[1].x), dz = s * (p[1].z - p[0].z) + t * (p[2].z - p[1].z);
            double len = sqrt(dx * dx + dz * dz), nx = dz / len, nz = -dx / len, in = side * half_m - 0.11,
                   out = side * half_m + 0.11;
            strip[i] = (struct vec){x + nx * in, 0, z + nz * in};
            strip[2 * N - 1 - i] = (struct vec){x + nx * out, 0, z + nz * out};
        }
        scene_view_polygon(&y->view, c, strip, 2 * N, colour);
    }
}

static void set_draw_road(const struct yard *y, struct canvas *c)
{
    const struct scene_view *v = &y->view;
    double z0 = y->road_z0, z1 = y->road_z1, f = y->fence_z;
    scene_view_floor(v, c, -60, z0 - 1.4, 60, z1 + 1.4, COLOUR(150, 146, 138)); /* kerbs */
    scene_view_floor(v, c, -60, z0, 60, z1, COLOUR(98, 99, 103));
    scene_view_floor(v, c, -60, z0 + 0.5, 60, (z0 + z1) / 2 - 0.6, COLOUR_A(112, 112, 115, 120));
    scene_view_floor(v, c, y->gate_x0 - 0.6, f, y->gate_x1 + 0.6, z0 + 0.2, COLOUR(150, 146, 138));
    scene_view_floor(v, c, y->gate_x0, f, y->gate_x1, z0 + 0.2, COLOUR(106, 106, 109));
    for (int i = 0; i < 16; i++)
        scene_view_floor(v, c, -48 + i * 6.0, (z0 + z1) / 2 - 0.12, -45 + i * 6.0, (z0 + z1) / 2 + 0.12,
                         COLOUR_A(214, 212, 202, 220));
}

static void set_draw_asphalt(const struct yard *y, struct canvas *c)
{
    const struct scene_view *v = &y->view;
    uint32_t salt = set_salt(y, 4);
    /* seams between the lanes of the paver, and a few mended places */
    for (int i = 0; i < 4; i++) {
        double z = 10.4 + 4.1 * i + (double)(noise_hash(salt, i, 0) & 255) / 400;
        scene_view_floor(v, c, -40, z, 40, z + 0.05, COLOUR_A(70, 70, 74, 130));
    }
    for (int i = 0; i < 5; i++) {
        uint32_t h = noise_hash(salt, i, 1);
        double x = -13 + 26 * (double)(h & 255) / 255, z = 10.5 + 11 * (double)(h >> 8 & 255) / 255;
        double w = 0.9 + 2.2 * (double)(h >> 16 & 255) / 255, d = 0.7 + 1.1 * (double)(h >> 24) / 255;
        struct colour patch = h & 1 ? COLOUR_A(88, 88, 92, 80) : COLOUR_A(136, 136, 136, 60);
        scene_view_floor(v, c, x, z, x + w, z + d, patch);
        scene_view_floor(v, c, x, z, x + w, z + 0.05, COLOUR_A(66, 66, 70, 110));
    }
    double gate = (y->gate_x0 + y->gate_x1) / 2, dock = (y->dock_x0 + y->dock_x1) / 2, f = y->fence_z;
    struct vec in[3] = {{gate, 0, f}, {gate - 0.5, 0, y->lane_z}, {gate - 8, 0, y->lane_z + 0.2}};
    struct vec to_dock[3] = {{gate - 5, 0, y->lane_z - 0.4}, {dock + 1, 0, y->lane_z - 0.6}, {dock, 0, f}};
    set_draw_tracks(y, c, in, 0.75, COLOUR_A(66, 66, 70, 62));
    set_draw_tracks(y, c, to_dock, 0.85, COLOUR_A(66, 66, 70, 44));
    for (int i = 0; i < y->n_bays; i++) {
        double x = y->bay_x + i * y->bay_pitch_m;
        struct vec turn[3] = {{x + 5, 0, y->lane_z + 0.3}, {x, 0, y->lane_z + 0.2}, {x, 0, y->bay_z0 + 1}};
        set_draw_tracks(y, c, turn, 0.7, COLOUR_A(70, 70, 74, 36));
        /* oil under the engines */
        uint32_t h = noise_hash(salt, i, 2);
        struct vec at = {x + (double)(h & 255) / 400 - 0.3, 0, y->bay_z0 + 1.2 + (double)(h >> 8 & 255) / 200};
        struct point p = scene_view_project(v, at);
        double m = scene_view_scale(v, at);
        draw_ellipse(c, p.x, p.y, 0.5 * m, 0.12 * m, COLOUR_A(62, 60, 62, 70));
        draw_ellipse(c, p.x + 0.1 * m, p.y, 0.25 * m, 0.06 * m, COLOUR_A(48, 46, 48, 80));
    }
    /* a manhole and a gully with its grate */
    struct vec hole = {1.5 + (double)(salt & 255) / 128, 0, 12.2};
    struct point p = scene_view_project(v, hole);
    double m = scene_view_scale(v, hole);
    draw_ellipse(c, p.x, p.y, 0.42 * m, 0.17 * m, COLOUR(84, 84, 86));
    draw_ellipse(c, p.x, p.y, 0.34 * m, 0.135 * m, COLOUR(98, 97, 98));
    scene_view_floor(v, c, -12.4, 19.0, -11.8, 19.5, COLOUR(62, 62, 66));
}

static void set_draw_markings(const struct yard *y, struct canvas *c)
{
    const struct scene_view *v = &y->view;
    struct colour paint = COLOUR_A(226, 226, 218, 220);
    double half = y->bay_pitch_m / 2, left = y->bay_x - half;
    for (int i = 0; i <= y->n_bays; i++) {
        double x = left + i * y->bay_pitch_m;
        scene_view_floor(v, c, x - 0.065, y->bay_z0, x + 0.065, y->bay_z1, paint);
        scene_view_floor(v, c, x - 0.35, y->bay_z1 - 0.1, x + 0.35, y->bay_z1 + 0.06, paint);
    }
    scene_view_floor(v, c, left - 0.065, y->bay_z0 - 0.12, left + y->n_bays * y->bay_pitch_m + 0.065, y->bay_z0, paint);
    for (int i = 0; i < y->n_bays; i++) { /* kerbs that stop the wheels */
        double x = y->bay_x + i * y->bay_pitch_m;
        scene_view_floor(v, c, x - 0.8, y->bay_z0 + 0.18, x + 0.8, y->bay_z0 + 0.40, COLOUR(164, 162, 156));
        scene_view_floor(v, c, x - 0.8, y->bay_z0 + 0.12, x + 0.8, y->bay_z0 + 0.18, COLOUR(92, 91, 90));
    }
    /* the line at which vehicles stop before the gate */
    scene_view_floor(v, c, y->gate_x0 + 0.2, y->fence_z - 1.1, y->gate_x1 - 0.2, y->fence_z - 0.75, paint);
    /* before the dock: a broken yellow frame */
    for (int i = 0; i < 3; i++) {
        struct colour yellow = COLOUR_A(206, 176, 70, 190);
        scene_view_floor(v, c, y->dock_x0 - 0.1, y->fence_z - 4.6 + 1.6 * i, y->dock_x0 + 0.05, y->fence_z - 3.7 + 1.6 * i,
                         yellow);
        scene_view_floor(v, c, y->dock_x1 - 0.05, y->fence_z - 4.6 + 1.6 * i, y->dock_x1 + 0.1, y->fence_z - 3.7 + 1.6 * i,
                         yellow);
    }
}

/* What of a polygon lies on one side of x = edge: side 1 the right, -1 the left. Returns its points. */
static int set_clip(const struct vec *p, int n, double edge, double side, struct vec *ret)
{
    int m = 0;
    for (int i = 0; i < n; i++) {
        const struct vec *a = &p[i], *b = &p[(i + 1) % n];
        double da = (a->x - edge) * side, db = (b->x - edge) * side;
        if (da >= 0)
            ret[m++] = *a;
        if ((da >= 0) != (db >= 0)) {
            double t = da / (da - db);
            ret[m++] = (struct vec){edge, 0, a->z + (b->z - a->z) * t};
        }
    }
    return m;
}

/* The fire lane: red and white stripes at 45 degrees in a broad red frame. */
static void set_draw_fire_lane(const struct yard *y, struct canvas *c)
{
    const struct scene_view *v = &y->view;
    const struct yard_rect *l = &y->fire_lane;
    struct colour red = COLOUR(178, 58, 50), white = COLOUR(220, 216, 208);
    double step = 0.95, x0 = l->x0, x1 = l->x1, z0 = l->z0, z1 = l->z1, deep = z1 - z0;
    scene_view_floor(v, c, x0, z0, x1, z1, white);
    for (double s = x0 - deep; s < x1; s += 2 * step) {
        struct vec stripe[4] = {{s, 0, z0}, {s + step, 0, z0}, {s + step + deep, 0, z1}, {s + deep, 0, z1}}, p[8], q[8];
        int n = set_clip(stripe, 4, x0, 1, p);
        n = set_clip(p, n, x1, -1, q);
        scene_view_polygon(v, c, q, n, red);
    }
    scene_view_floor(v, c, x0, z0, x1, z0 + 0.36, red);
    scene_view_floor(v, c, x0, z1 - 0.3, x1, z1, red);
    scene_view_floor(v, c, x0, z0, x0 + 0.22, z1, red);
    scene_view_floor(v, c, x1 - 0.22, z0, x1, z1, red);
    scene_view_floor(v, c, x0 - 0.16, z0 - 0.2, x1 + 0.16, z0, white);
    scene_view_floor(v, c, x0 - 0.16, z0, x0, z1, white);
    scene_view_floor(v, c, x1, z0, x1 + 0.16, z1, white);
}

/* ---- building --------------------------------------------------------------------------------------------------------------- */

#define WINDOW_Y0 3.5
#define WINDOW_Y1 4.9
#define WINDOW_M  1.5
#define EXIT_M    2.15

/* The left edge of window i; false: there is none (left). They keep clear of dock and exit. */
static bool set_window(const struct yard *y, int i, double *ret_x0)
{
    double x = y->building_x0 + 0.9 + 2.15 * i;
    if (x + WINDOW_M > y->building_x1 - 0.4)
        return false;
    *ret_x0 = x;
    return true;
}

static bool set_window_fits(const struct yard *y, double x0)
{
    bool is_at_dock = x0 + WINDOW_M > y->dock_x0 - 0.5 && x0 < y->dock_x1 + 0.5;
    bool is_at_exit = x0 + WINDOW_M > y->door_x0 - 0.5 && x0 < y->door_x1 + 0.5;
    return !is_at_dock && !is_at_exit;
}

static bool set_window_is_lit(const struct yard *y, int i)
{
    return noise_hash(set_salt(y, 5), i, 0) % 5 < 2;
}

/* Ribs or bricks, streaks below the roof's edge, dirt above the ground: drawn over the finished front's paint by factors. */
static void set_draw_wall_texture(const struct yard *y, struct canvas *c, const struct set_look *look)
{
    uint32_t salt = set_salt(y, 6);
    struct vec left = {y->building_x0, y->building_tall_m, y->fence_z},
               right = {y->building_x1, y->building_tall_m, y->fence_z};
    double m = scene_view_scale(&y->view, right);
    double rib = 0.055 * yard_unit((CORRUGATE_M * m - 1.6) / 3), brick = 0.10 * yard_unit((0.16 * m - 0.8) / 3);
    int first = (int)fmax(fmin(scene_view_project(&y->view, left).y, scene_view_project(&y->view, right).y), 0);
    int last = (int)fmin(fmax(scene_view_project(&y->view, (struct vec){left.x, 0, left.z}).y,
                              scene_view_project(&y->view, (struct vec){right.x, 0, right.z}).y) +
                             1,
                         c->height_px);
    for (int row = first; row < last; row++)
        for (int x = 0; x < c->width_px; x++) {
            struct vec at;
            if (!set_ray_wall(y, set_ray(y, x, row), &at))
                continue;
            double k = 1 + 0.07 * (noise_bumps(salt, at.x * 0.3, at.y * 0.5) - 0.5);
            k += 0.035 * ((double)(noise_hash(salt + 1, x, row) & 255) / 255 - 0.5);
            k += 0.10 * (noise_bumps(salt + 2, at.x * 2.2, at.y * 0.25) - 0.5) * yard_unit((at.y - 3) / 3);
            k -= 0.12 * yard_unit(1 - at.y / 0.9) * noise_bumps(salt + 3, at.x * 0.9, 0);
            if (!look->is_brick) {
                k += rib * draw_sin(at.x / CORRUGATE_M);
            } else if (brick > 0) {
                int course = (int)floor(at.y / 0.16);
                double along = at.x / 0.5 + (course & 1 ? 0.5 : 0);
                k += brick * ((double)(noise_hash(salt + 4, (int)floor(along), course) & 255) / 255 - 0.5);
            }
            uint8_t *px = set_px(c, x, row);
            set_put(c, x, row, px[0] * k, px[1] * k, px[2] * k);
        }
}

static void set_draw_roller(const struct yard *y, struct canvas *c, double lower_m)
{
    const struct scene_view *v = &y->view;
    struct colour slat = set_doors[y->door_look & 3];
    double x0 = y->dock_x0, x1 = y->dock_x1, top = y->dock_tall_m, z = y->fence_z;
    scene_view_wall(v, c, x0, lower_m, x1, top, z, slat);
    int n = 0;
    for (double at = lower_m; at < top && n < 12; at += 0.4, n++) {
        scene_view_wall(v, c, x0, at, x1, fmin(at + 0.13, top), z, colour_scale(slat, 0.84));
        scene_view_wall(v, c, x0, fmin(at + 0.3, top), x1, fmin(at + 0.4, top), z, colour_scale(slat, 1.06));
    }
    scene_view_wall(v, c, x0, lower_m, x1, fmin(lower_m + 0.16, top), z, COLOUR(62, 64, 68));
    if (top - lower_m > 2.3)
        scene_view_wall(v, c, x0 + 1.1, lower_m + 1.5, x1 - 1.1, lower_m + 1.95, z, COLOUR_A(186, 204, 214, 200)); /* panes */
}

static void set_draw_dock_frame(const struct yard *y, struct canvas *c)
{
    const struct scene_view *v = &y->view;
    double x0 = y->dock_x0, x1 = y->dock_x1, top = y->dock_tall_m, z = y->fence_z;
    scene_view_wall(v, c, x0 - 0.42, 0, x1 + 0.42, top + 0.5, z, COLOUR(48, 50, 54)); /* the seal */
    scene_view_wall(v, c, x0 - 0.42, top + 0.38, x1 + 0.42, top + 0.5, z, COLOUR(78, 80, 84));
    for (int side = 0; side < 2; side++) { /* bumpers in yellow and black beside the door */
        double x = side ? x1 + 0.08 : x0 - 0.34;
        for (int i = 0; i < 4; i++)
            scene_view_wall(v, c, x, 0.1 + 0.3 * i, x + 0.26, 0.4 + 0.3 * i, z,
                            i & 1 ? COLOUR(46, 46, 48) : COLOUR(204, 172, 58));
    }
    set_draw_roller(y, c, 0);
    /* a lamp in its housing */
    double mid = (x0 + x1) / 2;
    scene_view_wall(v, c, mid - 0.4, top + 0.62, mid + 0.4, top + 0.84, z, COLOUR(64, 66, 70));
    scene_view_wall(v, c, mid - 0.34, top + 0.56, mid + 0.34, top + 0.72, z, COLOUR(250, 244, 226));
}

static void set_draw_exit(const struct yard *y, struct canvas *c)
{
    const struct scene_view *v = &y->view;
    double x0 = y->door_x0, x1 = y->door_x1, z = y->fence_z, mid = (x0 + x1) / 2;
    struct colour leaf = set_exits[y->door_look & 3];
    scene_view_wall(v, c, x0 - 0.14, 0, x1 + 0.14, EXIT_M + 0.16, z, COLOUR(206, 204, 198));
    scene_view_wall(v, c, x0, 0, x1, EXIT_M, z, leaf);
    scene_view_wall(v, c, x0 + 0.1, 0.1, mid - 0.03, EXIT_M - 0.1, z, colour_scale(leaf, 1.12));
    scene_view_wall(v, c, mid + 0.03, 0.1, x1 - 0.1, EXIT_M - 0.1, z, colour_scale(leaf, 1.12));
    scene_view_wall(v, c, x0 + 0.12, 0.95, x1 - 0.12, 1.07, z, COLOUR(200, 202, 204)); /* the bar to push */
    scene_view_wall(v, c, x0 + 0.22, 1.35, mid - 0.16, 1.9, z, COLOUR(170, 190, 200));
    scene_view_wall(v, c, mid + 0.16, 1.35, x1 - 0.22, 1.9, z, COLOUR(170, 190, 200));
    scene_view_wall(v, c, x0, 0, x1, 0.08, z, COLOUR(60, 60, 62));
    /* the green sign: a bright field with a pale arrow */
    scene_view_wall(v, c, mid - 0.62, 2.46, mid + 0.62, 2.98, z, COLOUR(38, 160, 84));
    scene_view_wall(v, c, mid - 0.4, 2.66, mid + 0.2, 2.78, z, COLOUR(214, 244, 222));
    struct vec arrow[3] = {{mid + 0.15, 2.86, z}, {mid + 0.42, 2.72, z}, {mid + 0.15, 2.58, z}};
    scene_view_polygon(v, c, arrow, 3, COLOUR(214, 244, 222));
    scene_view_wall(v, c, mid - 0.26, 3.12, mid + 0.26, 3.3, z, COLOUR(252, 246, 228)); /* and a lamp */
}

static void set_draw_windows(const struct yard *y, struct canvas *c, const struct set_look *look)
{
    const struct scene_view *v = &y->view;
    double x0, z = y->fence_z, y0 = WINDOW_Y0, y1 = WINDOW_Y1;
    for (int i = 0; set_window(y, i, &x0); i++) {
        if (!set_window_fits(y, x0))
            continue;
        double x1 = x0 + WINDOW_M, mid = (x0 + x1) / 2;
        bool is_lit = set_window_is_lit(y, i);
        scene_view_wall(v, c, x0 - 0.1, y0 - 0.1, x1 + 0.1, y1 + 0.1, z, look->frame);
        struct point p[4] = {scene_view_project(v, (struct vec){x0, y1, z}), scene_view_project(v, (struct vec){x1, y1, z}),
                             scene_view_project(v, (struct vec){x1, y0, z}), scene_view_project(v, (struct vec){x0, y0, z})};
        /* glass mirrors the sky; a lit room has pale curtains, so that its lamp has something to shine on */
        draw_polygon_shaded(c, p, 4, is_lit ? COLOUR(206, 216, 220) : COLOUR(134, 160, 184),
                            is_lit ? COLOUR(188, 190, 182) : COLOUR(84, 104, 122));
        if (!is_lit) {
            struct vec shine[4] = {{x0 + 0.1, y1, z}, {x0 + 0.55, y1, z}, {x0 + 0.2, y0, z}, {x0, y0 + 0.5, z}};
            scene_view_polygon(v, c, shine, 4, COLOUR_A(226, 236, 244, 70));
        }
        struct colour bar = is_lit ? COLOUR(96, 92, 86) : look->frame;
        if (is_lit) /* a blind, half down */
            scene_view_wall(v, c, x0, y0 + 0.95, x1, y1, z, COLOUR_A(226, 214, 186, 150));
        scene_view_wall(v, c, mid - 0.04, y0, mid + 0.04, y1, z, bar);
        scene_view_wall(v, c, x0, y0 + 0.86, x1, y0 + 0.93, z, bar);
        scene_view_wall(v, c, x0 - 0.16, y0 - 0.2, x1 + 0.16, y0 - 0.1, z, colour_scale(look->frame, 0.8));
        scene_view_wall(v, c, x0 - 0.1, y0 - 0.36, x1 + 0.1, y0 - 0.2, z, COLOUR_A(30, 30, 34, 40)); /* the sill's shadow */
    }
}

static void set_draw_building(const struct yard *y, struct canvas *c)
{
    const struct scene_view *v = &y->view;
    const struct set_look *look = &set_looks[y->wall_look & 3];
    double x0 = y->building_x0, x1 = y->building_x1, tall = y->building_tall_m, z = y->fence_z;
    struct point p[4] = {scene_view_project(v, (struct vec){x0, tall, z}), scene_view_project(v, (struct vec){x1, tall, z}),
                         scene_view_project(v, (struct vec){x1, 0, z}), scene_view_project(v, (struct vec){x0, 0, z})};
    draw_polygon_shaded(c, p, 4, colour_scale(look->wall, 1.05), colour_scale(look->wall, 0.9));
    scene_view_wall(v, c, x0, 0, x1, 0.75, z, look->plinth);
    scene_view_wall(v, c, x0, 0.75, x1, 0.82, z, colour_scale(look->wall, 0.7));
    /* the roof's edge with a lit upper rim, and the shadow below it */
    scene_view_wall(v, c, x0 - 0.15, tall - 0.5, x1 + 0.15, tall + 0.06, z, look->edge);
    scene_view_wall(v, c, x0 - 0.15, tall - 0.04, x1 + 0.15, tall + 0.08, z, colour_scale(look->edge, 1.5));
    scene_view_wall(v, c, x0, tall - 0.82, x1, tall - 0.5, z, COLOUR_A(20, 22, 28, 70));
    scene_view_wall(v, c, x0, tall - 1.1, x1, tall - 0.82, z, COLOUR_A(20, 22, 28, 28));
    set_draw_wall_texture(y, c, look);
    double pipes[3] = {x0 + 0.45, (y->dock_x1 + y->door_x0) / 2 - 0.2, x1 - 0.3};
    for (int i = 0; i < 3; i++) {
        scene_view_wall(v, c, pipes[i] - 0.07, 0.1, pipes[i] + 0.07, tall - 0.5, z, colour_scale(look->edge, 1.15));
        scene_view_wall(v, c, pipes[i] + 0.07, 0.1, pipes[i] + 0.19, tall - 0.8, z, COLOUR_A(24, 26, 30, 60));
    }
    set_draw_windows(y, c, look);
    set_draw_dock_frame(y, c);
    set_draw_exit(y, c);
    /* a sign without words over the dock */
    double mid = (y->dock_x0 + y->dock_x1) / 2, s0 = y->dock_tall_m + 1.02, s1 = tall - 0.62;
    scene_view_wall(v, c, mid - 1.75, s0, mid + 1.75, s1, z, look->sign);
    scene_view_wall(v, c, mid - 1.3, (s0 + s1) / 2 - 0.13, mid + 0.5, (s0 + s1) / 2 + 0.13, z, COLOUR(230, 230, 224));
    struct point dot = scene_view_project(v, (struct vec){mid + 1.05, (s0 + s1) / 2, z});
    double m = scene_view_scale(v, (struct vec){mid, s0, z});
    draw_ellipse(c, dot.x, dot.y, 0.24 * m, 0.24 * m, COLOUR(230, 230, 224));
    /* the ground before a wall is darker */
    scene_view_floor(v, c, x0, z - 0.25, x1, z, COLOUR_A(20, 20, 24, 70));
    scene_view_floor(v, c, x0, z - 0.7, x1, z - 0.25, COLOUR_A(20, 20, 24, 30));
}

/* ---- lamps ------------------------------------------------------------------------------------------------------------------ */

#define POST_TALL_M 6.4
#define POST_ARM_M  1.5

static struct vec set_post_head(const struct yard *y)
{
    double side = y->lamp_post.x > y->bay_x + y->bay_pitch_m ? -1 : 1; /* over the bays */
    return (struct vec){y->lamp_post.x + side * POST_ARM_M, POST_TALL_M, y->lamp_post.z};
}

struct vec yard_set_street_lamp(const struct yard *y)
{
    return (struct vec){y->gate_x1 + 3.2, 7.0, y->road_z0 - 1.0};
}

/* How strongly a lamp lights the ground at p: its height over the distance, to the third power. */
static double set_lamp_on(struct vec lamp, double peak, struct vec p)
{
    double dx = p.x - lamp.x, dy = p.y - lamp.y, dz = p.z - lamp.z;
    double tall2 = 1.15 * lamp.y * lamp.y, k = tall2 / (dx * dx + dy * dy + dz * dz + 0.15 * tall2);
    return peak * k * sqrt(k);
}

static double set_glow_at(const struct yard *y, struct vec p, bool is_wall)
{
    double dock = (y->dock_x0 + y->dock_x1) / 2, door = (y->door_x0 + y->door_x1) / 2, z = y->fence_z;
    double sum = set_lamp_on(set_post_head(y), 235, p) + set_lamp_on(yard_set_street_lamp(y), 170, p) +
                 set_lamp_on((struct vec){y->gate_x0, 3.6, z - 0.9}, 190, p);
    double wall = set_lamp_on((struct vec){dock, y->dock_tall_m + 0.6, z - 1.2}, 215, p) +
                  set_lamp_on((struct vec){door, 3.3, z - 0.9}, 225, p);
    if (is_wall) /* light falls down from a lamp, hardly up */
        return sum + 0.72 * wall * (1 - 0.75 * yard_unit((p.y - 3.4) / 1.6));
    return 1.1 * (sum + wall);
}

static void set_fill_glow(const struct yard *y, int width_px, int height_px, uint8_t *glow)
{
    double horizon = scene_view_horizon(&y->view), dock = (y->dock_x0 + y->dock_x1) / 2, door = (y->door_x0 + y->door_x1) / 2;
    for (int row = 0; row < height_px; row++)
        for (int x = 0; x < width_px; x++) {
            struct vec ray = set_ray(y, x, row), at;
            double v = 0;
            if (set_ray_wall(y, ray, &at)) {
                v = set_glow_at(y, at, true);
                double x0;
                for (int i = 0; at.y > WINDOW_Y0 && at.y < WINDOW_Y1 && set_window(y, i, &x0); i++)
                    if (set_window_fits(y, x0) && set_window_is_lit(y, i) && at.x > x0 && at.x < x0 + WINDOW_M)
                        v = 205 + 40 * (at.y - WINDOW_Y0) / (WINDOW_Y1 - WINDOW_Y0);
                bool is_exit = fabs(at.x - door) < 0.62 && at.y > 2.46 && at.y < 3.3;
                bool is_dock = fabs(at.x - dock) < 0.4 && at.y > y->dock_tall_m + 0.5 && at.y < y->dock_tall_m + 0.84;
                if (is_exit || is_dock)
                    v = 255;
            } else if (row >= horizon && set_ray_ground(y, ray, &at) && at.z < 120) {
                v = set_glow_at(y, at, false);
            } else if (row < horizon) {
                v = 8 * yard_unit(1 - ray.y / 0.12); /* the town's light in the haze */
            }
            glow[(size_t)row * (size_t)width_px + (size_t)x] = set_byte(v);
        }
    /* heads of the lamps themselves */
    struct vec heads[2] = {set_post_head(y), yard_set_street_lamp(y)};
    for (int i = 0; i < 2; i++) {
        struct point p = scene_view_project(&y->view, heads[i]);
        double m = scene_view_scale(&y->view, heads[i]), rx = fmax(0.44 * m, 1), ry = fmax(0.15 * m, 0.8);
        for (int row = (int)fmax(p.y - ry, 0); row <= p.y + ry && row < height_px; row++)
            for (int x = (int)fmax(p.x - rx, 0); x <= p.x + rx && x < width_px; x++) {
                double dx = (x + 0.5 - p.x) / rx, dy = (row + 0.5 - p.y) / ry;
                if (dx * dx + dy * dy <= 1)
                    glow[(size_t)row * (size_t)width_px + (size_t)x] = 255;
            }
    }
}

void yard_set_draw_street_lamp(const struct yard *y, struct canvas *c)
{
    struct vec head = yard_set_street_lamp(y), foot = {head.x + 1.1, 0, head.z}, bend = {head.x + 1.1, head.y, head.z};
    double m = scene_view_scale(&y->view, foot);
    struct point f = scene_view_project(&y->view, foot), b = scene_view_project(&y->view, bend),
                 h = scene_view_project(&y->view, head);
    draw_line(c, f, b, 0.13 * m, COLOUR(98, 104, 108));
    draw_line(c, b, h, 0.09 * m, COLOUR(98, 104, 108));
    draw_ellipse(c, h.x, h.y, 0.42 * m, 0.12 * m, COLOUR(236, 234, 222));
}

void yard_set_draw_post(const struct yard *y, struct canvas *c)
{
    struct vec foot = y->lamp_post, head = set_post_head(y), top = {foot.x, head.y - 0.25, foot.z};
    struct point f = scene_view_project(&y->view, foot), t = scene_view_project(&y->view, top),
                 h = scene_view_project(&y->view, head);
    double m = scene_view_scale(&y->view, foot), up = scene_view_scale(&y->view, top);
    struct colour steel = COLOUR(104, 110, 114);
    draw_ellipse(c, f.x, f.y, 0.34 * m, 0.11 * m, COLOUR_A(26, 28, 32, 110));
    struct point pole[4] = {{f.x - 0.085 * m, f.y}, {t.x - 0.05 * up, t.y}, {t.x + 0.05 * up, t.y}, {f.x + 0.085 * m, f.y}};
    draw_polygon(c, pole, 4, steel);
    struct point shine[4] = {{f.x - 0.06 * m, f.y}, {t.x - 0.035 * up, t.y}, {t.x - 0.01 * up, t.y}, {f.x - 0.015 * m, f.y}};
    draw_polygon(c, shine, 4, colour_scale(steel, 1.3));
    draw_line(c, t, h, 0.08 * up, steel);
    draw_rect(c, f.x - 0.15 * m, f.y - 0.62 * m, f.x + 0.15 * m, f.y + 0.03 * m,
              COLOUR(196, 164, 62)); /* guard against bumps */
    draw_rect(c, f.x - 0.15 * m, f.y - 0.42 * m, f.x + 0.15 * m, f.y - 0.22 * m, COLOUR(54, 54, 56));
    draw_ellipse(c, h.x, h.y - 0.03 * up, 0.42 * up, 0.13 * up, COLOUR(84, 88, 92));
    draw_ellipse(c, h.x, h.y + 0.03 * up, 0.34 * up, 0.09 * up, COLOUR(252, 248, 232));
}

/* ---- fence, gate, open dock --------------------------------------------------------------------------------------------------- */

static void set_draw_mesh(const struct yard *y, struct canvas *c, double x0, double x1)
{
    const struct scene_view *v = &y->view;
    double z = y->fence_z, m = scene_view_scale(v, (struct vec){x0, 1, z});
    struct colour steel = COLOUR(92, 104, 100);
    scene_view_wall(v, c, x0, 0.08, x1, 2.0, z, COLOUR_A(110, 122, 118, 62));
    double step = m > 16 ? 0.25 : 0.5; /* in small pictures fewer wires: they would run together */
    for (double x = x0 + step; x < x1; x += step)
        scene_view_wall(v, c, x - 0.012, 0.08, x + 0.012, 2.0, z, COLOUR_A(96, 108, 104, 230));
    for (int i = 1; i < 4; i++)
        scene_view_wall(v, c, x0, 0.5 * i - 0.012, x1, 0.5 * i + 0.012, z, COLOUR_A(104, 116, 112, 150));
    for (double x = x0; x <= x1 + 0.01; x += 2.5)
        scene_view_wall(v, c, x - 0.05, 0, x + 0.05, 2.12, z, steel);
    scene_view_wall(v, c, x0, 1.97, x1, 2.04, z, steel);
    scene_view_wall(v, c, x0, 0.06, x1, 0.13, z, steel);
}

void yard_set_draw_fence(const struct yard *y, struct canvas *c, double gate_open)
{
    const struct scene_view *v = &y->view;
    double z = y->fence_z, g0 = y->gate_x0, g1 = y->gate_x1, edge = 0.66 * z;
    if (y->building_x1 < g0)
        set_draw_mesh(y, c, y->building_x1, g0 - 0.14);
    if (g1 < edge)
        set_draw_mesh(y, c, g1 + 0.14, edge);
    if (-edge < y->building_x0)
        set_draw_mesh(y, c, -edge, y->building_x0);
    /* the gate slides to the right, before the fence */
    double slide = (g1 - g0 - 0.5) * yard_unit(gate_open), x0 = g0 + 0.14 + slide, x1 = g1 - 0.1 + slide, zg = z - 0.12;
    struct colour rust = COLOUR(150, 58, 48), dark = COLOUR(128, 48, 42);
    enum { BARS = 15 };
    scene_view_wall(v, c, x0, 0.2, x1, 1.75, zg, COLOUR_A(140, 56, 48, 50));
    for (int i = 0; i <= BARS; i++) {
        double x = x0 + (x1 - x0) * i / BARS;
        scene_view_wall(v, c, x - 0.035, 0.14, x + 0.035, 1.8, zg, dark);
    }
    scene_view_wall(v, c, x0, 1.68, x1, YARD_GATE_TALL_M, zg, rust);
    scene_view_wall(v, c, x0, 0.92, x1, 1.02, zg, rust);
    scene_view_wall(v, c, x0, 0.1, x1, 0.26, zg, rust);
    for (int i = 0; i < 2; i++) { /* posts in yellow with a dark band; a lamp on the left one */
        double x = i ? g1 : g0;
        scene_view_wall(v, c, x - 0.17, 0, x + 0.17, 2.5, z - 0.15, COLOUR(212, 176, 58));
        scene_view_wall(v, c, x + 0.06, 0, x + 0.17, 2.5, z - 0.15, COLOUR(176, 142, 44));
        scene_view_wall(v, c, x - 0.17, 1.5, x + 0.17, 1.8, z - 0.15, COLOUR(52, 52, 54));
        scene_view_wall(v, c, x - 0.13, 2.5, x + 0.13, 2.72, z - 0.15, i ? COLOUR(92, 92, 96) : COLOUR(250, 240, 210));
    }
}

void yard_set_draw_dock(const struct yard *y, struct canvas *c, double dock_open)
{
    const struct scene_view *v = &y->view;
    double x0 = y->dock_x0, x1 = y->dock_x1, z = y->fence_z, open = y->dock_tall_m * yard_unit(dock_open);
    if (open < 0.02)
        return; /* the closed door is part of the background */
    /* the hall behind, as far as the opening shows it: a back wall with shelves, a floor, lamps */
    struct point p[4] = {scene_view_project(v, (struct vec){x0, open, z}), scene_view_project(v, (struct vec){x1, open, z}),
                         scene_view_project(v, (struct vec){x1, 0, z}), scene_view_project(v, (struct vec){x0, 0, z})};
    draw_polygon_shaded(c, p, 4, COLOUR(46, 40, 36), COLOUR(74, 64, 54));
    double deep = 0.7, mid = (x0 + x1) / 2, low = fmin(0.75, open);
    struct vec floor[4] = {{x0, 0, z}, {x1, 0, z}, {x1 - deep, low, z}, {x0 + deep, low, z}};
    scene_view_polygon(v, c, floor, 4, COLOUR(112, 100, 84));
    for (int i = 0; i < 3; i++) { /* shelves with goods, only as high as the opening */
        double y0 = 0.85 + 0.85 * i, y1 = fmin(y0 + 0.55, open);
        if (y1 <= y0)
            continue;
        scene_view_wall(v, c, x0 + deep, y0, x0 + deep + 1.2, y1, z, COLOUR(96, 78, 58));
        scene_view_wall(v, c, x1 - deep - 1.0, y0, x1 - deep, y1, z, COLOUR(84, 76, 70));
        scene_view_wall(v, c, x0 + deep, y0 - 0.08, x1 - deep, y0, z, COLOUR(58, 50, 44));
    }
    if (open > 3.1)
        for (int i = -1; i <= 1; i++)
            scene_view_wall(v, c, mid + 1.4 * i - 0.3, 3.0, mid + 1.4 * i + 0.3, 3.1, z, COLOUR(255, 226, 160));
    if (open < y->dock_tall_m - 0.02)
        set_draw_roller(y, c, open);
    else
        scene_view_wall(v, c, x0, y->dock_tall_m - 0.22, x1, y->dock_tall_m, z, colour_scale(set_doors[y->door_look & 3], 0.9));
}

/* ---- the whole background ---------------------------------------------------------------------------------------------------- */

void yard_set_draw(const struct yard *y, struct canvas *c, uint8_t *glow)
{
    set_draw_sky(y, c);
    set_draw_ground(y, c);
    set_draw_hills(y, c, 300, 30, COLOUR(150, 168, 180), COLOUR(164, 178, 178), set_salt(y, 7));
    set_draw_hills(y, c, 170, 13, COLOUR(112, 134, 118), COLOUR(132, 148, 118), set_salt(y, 8));
    set_draw_trees(y, c);
    set_draw_road(y, c);
    set_draw_asphalt(y, c);
    set_draw_markings(y, c);
    set_draw_fire_lane(y, c);
    set_draw_building(y, c);
    set_fill_glow(y, c->width_px, c->height_px, glow);
}
