/* yard_fire - fire and smoke, and what is left behind in the yard: boxes and bags. Pure but for the canvas. */
#include <math.h>

#include "base/rng.h"
#include "pipeline/yard_figures.h"

static double fire_unit(uint64_t seed, uint64_t i)
{
    struct rng r = {.seed = seed, .counter = i};
    return rng_unit(&r);
}

/* ---- puffs ----------------------------------------------------------------------------------------------------------------- */

/* A ball of smoke: three discs, the middle one dense enough to count. */
static void puff_draw(const struct brush *b, struct point o, double r, struct colour colour, int opacity)
{
    struct colour c = colour;
    c.a = (uint8_t)(opacity * 22 / 100);
    draw_ellipse(b->c, o.x, o.y, r * 1.12, r * 1.05, c);
    c.a = (uint8_t)(opacity * 34 / 100);
    draw_ellipse(b->c, o.x, o.y, r * 0.88, r * 0.84, c);
    c = colour_scale(colour, 1.09);
    c.a = (uint8_t)(opacity * 60 / 100);
    draw_ellipse(b->c, o.x - 0.08 * r, o.y - 0.1 * r, r * 0.6, r * 0.58, c);
}

struct plume {
    double tall, foot_r, top_r, drift, life_s;
    int n, opacity_low, opacity_high;
    struct colour low, high;
    double from_y;
};

/* Puffs rise, spread and fade: number i is born every life_s, a share of it after its neighbour. Old ones first: they are behind. */
static void plume_draw(const struct brush *b, const struct plume *p, uint64_t seed)
{
    double phase = fmax(b->a->phase, 0);
    int first = (int)floor((phase / p->life_s - floor(phase / p->life_s)) * p->n);
    for (int j = 0; j < p->n; j++) {
        int i = (first + 1 + j) % p->n;
        double turn = phase / p->life_s - (double)i / p->n, k = floor(turn), age = turn - k;
        uint64_t s = rng_at(seed, (uint64_t)(int64_t)(k * p->n + i));
        double jx = fire_unit(s, 0) - 0.5, jy = fire_unit(s, 1) - 0.5, jr = fire_unit(s, 2), jc = fire_unit(s, 3);
        double rise = age * (1.5 - 0.5 * age), r = p->foot_r + (p->top_r - p->foot_r) * rise;
        struct vec at = V(0, p->from_y + p->tall * rise + 0.25 * jy * r, 0);
        struct point o = brush_point(b, at);
        double sway = p->drift * rise * rise + 0.08 * draw_sin(0.13 * phase + 0.8 * rise) * rise * p->tall;
        double x = (sway * b->view->side + jx * 0.9 * r) * b->m, fade = age < 0.75 ? 1 : (1 - age) / 0.25;
        int opacity = (int)((p->opacity_low + (p->opacity_high - p->opacity_low) * rise) * fade);
        struct colour c = colour_scale(colour_mix(p->low, p->high, rise), 0.88 + 0.24 * jc);
        puff_draw(b, (struct point){o.x + x, o.y}, r * (0.85 + 0.3 * jr) * b->m, c, opacity);
    }
}

void yard_smoke_draw(const struct brush *b, double wind)
{
    double size = b->a->size;
    struct plume p = {.tall = 3.7 * size,
                      .foot_r = 0.30 * size,
                      .top_r = 0.95 * size,
                      .drift = 1.5 * wind * size,
                      .life_s = 5.5,
                      .n = 30,
                      .opacity_low = 190,
                      .opacity_high = 105,
                      .low = COLOUR(74, 74, 78),
                      .high = COLOUR(156, 157, 160),
                      .from_y = 0.18 * size};
    /* what smoulders */
    brush_limb(b, V(-0.22 * size, 0.07, 0.1), 0.10, V(0.24 * size, 0.08, -0.1), 0.12, COLOUR(34, 32, 32));
    uint8_t opacity = b->c->map_opacity;
    b->c->map_opacity = 50;
    plume_draw(b, &p, b->a->look);
    b->c->map_opacity = opacity;
}

/* ---- fire ------------------------------------------------------------------------------------------------------------------ */

/* A tongue of flame, flat to the camera: foot at o, `wide` and `tall` in pixels, its tip bent by `lean`. */
static void flame_tongue(const struct brush *b, struct point o, double wide, double tall, double lean, double wave,
                         struct colour low, struct colour high)
{
    static const double up[] = {0, 0.14, 0.32, 0.52, 0.72, 0.88}, half[] = {0.72, 1, 0.92, 0.62, 0.34, 0.14};
    enum { N = 6 };
    struct point p[2 * N + 1];
    for (int i = 0; i < N; i++) {
        double x = lean * up[i] * up[i] + 0.20 * wide * up[i] * draw_sin(wave - up[i] * 0.9);
        p[i] = (struct point){o.x + x - half[i] * wide / 2, o.y - up[i] * tall};
        p[2 * N - i] = (struct point){o.x + x + half[i] * wide / 2, o.y - up[i] * tall};
    }
    p[N] = (struct point){o.x + lean + 0.20 * wide * draw_sin(wave - 0.9), o.y - tall};
    draw_polygon_shaded(b->c, p, 2 * N + 1, high, low);
}

void yard_fire_draw(const struct brush *b, double wind)
{
    const struct yard_actor *a = b->a;
    double size = a->size, m = b->m, t = fmax(a->phase, 0), lean = 0.35 * wind * b->view->side * size * m;
    uint64_t r = rng_at(a->look, 0xf12e);
    double tall = (1.45 + 0.5 * fire_unit(r, 0)) * size, wide = 0.95 * size;
    /* its smoke, above and behind; too thin to count */
    struct plume p = {.tall = 2.3 * size,
                      .foot_r = 0.25 * size,
                      .top_r = 0.62 * size,
                      .drift = 1.1 * wind * size,
                      .life_s = 3.2,
                      .n = 9,
                      .opacity_low = 120,
                      .opacity_high = 60,
                      .low = COLOUR(52, 46, 44),
                      .high = COLOUR(84, 82, 82),
                      .from_y = tall * 0.75};
    plume_draw(b, &p, r);
    struct point o = brush_point(b, V(0, 0.06, 0));
    /* a burnt pile or a bin */
    if (r & 1) {
        struct point foot = brush_point(b, V(0, 0, 0)), rim = brush_point(b, V(0, 0.55, 0));
        struct point can[4] = {
            {foot.x - 0.30 * m, foot.y}, {foot.x + 0.30 * m, foot.y}, {rim.x + 0.36 * m, rim.y}, {rim.x - 0.36 * m, rim.y}};
        draw_polygon_shaded(b->c, can, 4, COLOUR(58, 52, 50), COLOUR(26, 25, 26));
        draw_ellipse(b->c, rim.x, rim.y, 0.36 * m, 0.12 * m, COLOUR(120, 44, 16));
        o.y = rim.y + 0.03 * m;
    } else {
        for (int i = 0; i < 5; i++) {
            double x = (fire_unit(r, 10 + (uint64_t)i) - 0.5) * 0.8 * size, z = (fire_unit(r, 20 + (uint64_t)i) - 0.5) * 0.5;
            brush_limb(b, V(x - 0.3, 0.08, z), 0.09, V(x + 0.3, 0.12 + 0.1 * fire_unit(r, 30 + (uint64_t)i), -z), 0.08,
                       COLOUR(30, 26, 25));
        }
    }
    /* layers from the outside in; each tongue flickers in its own time */
    static const struct {
        double x, wide, tall, hz;
    } tongues[] = {{-0.30, 0.50, 0.62, 1.7},
                   {0.30, 0.50, 0.66, 2.1},
                   {0.02, 0.92, 1.0, 1.3},
                   {-0.14, 0.55, 0.80, 2.6},
                   {0.16, 0.50, 0.74, 2.3}};
    static const struct colour outer_low = {250, 96, 14, 255}, outer_high = {206, 34, 10, 235}, mid_low = {255, 190, 40, 255},
                               mid_high = {255, 112, 16, 245}, core_low = {255, 250, 214, 255}, core_high = {255, 214, 70, 240};
    for (int layer = 0; layer < 3; layer++)
        for (int i = 0; i < 5; i++) {
            double hz = tongues[i].hz, own = fire_unit(r, 40 + (uint64_t)i);
            double flick = 0.84 + 0.16 * draw_sin(t * hz + own) + 0.08 * draw_sin(t * hz * 2.7 + own * 3);
            double k = layer == 0 ? 1 : layer == 1 ? 0.72 : 0.42, kw = layer == 0 ? 1 : layer == 1 ? 0.74 : 0.46;
            struct point at = {o.x + tongues[i].x * wide * (layer == 2 ? 0.8 : 1) * m, o.y};
            flame_tongue(b, at, tongues[i].wide * wide * kw * m, tongues[i].tall * tall * k * flick * m,
                         lean * k * tongues[i].tall, t * hz * 0.8 + own,
                         layer == 0   ? outer_low
                         : layer == 1 ? mid_low
                                      : core_low,
                         layer == 0   ? outer_high
                         : layer == 1 ? mid_high
                                      : core_high);
        }
    for (int i = 0; i < 6; i++) { /* sparks */
        double turn = t * (0.7 + 0.1 * i) + fire_unit(r, 60 + (uint64_t)i), age = turn - floor(turn);
        double x = (fire_unit(r, 70 + (uint64_t)i + 8 * (uint64_t)floor(turn)) - 0.5) * 0.9 * size;
        double y = (0.6 + 1.5 * age) * tall, s = fmax(0.035 * m, 0.45);
        struct point at = {o.x + x * m + lean * age * 1.6, o.y - y * m};
        draw_ellipse(b->c, at.x, at.y, s, s, COLOUR_A(255, 190, 70, (uint8_t)(120 * (1 - age))));
    }
}

/* ---- what is left behind --------------------------------------------------------------------------------------------------- */

void yard_box_draw(const struct brush *b)
{
    struct colour side = COLOUR(178, 124, 70), tape = COLOUR(222, 196, 146);
    struct vec middle = V(0, 0.3, 0);
    double x = 0.40, z = 0.30, y = 0.60;
    struct vec top[4] = {V(-x, y, -z), V(x, y, -z), V(x, y, z), V(-x, y, z)};
    struct vec strip[4] = {V(-x, y, -0.045), V(x, y, -0.045), V(x, y, 0.045), V(-x, y, 0.045)};
    struct vec slot[4] = {V(-x, y, -0.012), V(x, y, -0.012), V(x, y, 0.012), V(-x, y, 0.012)};
    for (int end = -1; end <= 1; end += 2) {
        struct vec f[4] = {V(end * x, 0, -z), V(end * x, 0, z), V(end * x, y, z), V(end * x, y, -z)};
        struct vec s[4] = {V(-x, 0, end * z), V(x, 0, end * z), V(x, y, end * z), V(-x, y, end * z)};
        struct vec fold[4] = {V(end * x, y - 0.18, -0.045), V(end * x, y - 0.18, 0.045), V(end * x, y, 0.045),
                              V(end * x, y, -0.045)};
        struct vec label[4] = {V(-0.24, 0.24, end * z), V(0.02, 0.24, end * z), V(0.02, 0.42, end * z),
                               V(-0.24, 0.42, end * z)};
        struct vec shade[4] = {V(-x, 0, end * z), V(x, 0, end * z), V(x, 0.1, end * z), V(-x, 0.1, end * z)};
        brush_face(b, f, 4, middle, colour_scale(side, 0.86));
        brush_face(b, s, 4, middle, side);
        brush_mark(b, fold, 4, middle, tape);
        brush_mark(b, label, 4, middle, COLOUR(232, 230, 222));
        brush_mark(b, shade, 4, middle, COLOUR_A(40, 24, 10, 60));
    }
    brush_face(b, top, 4, middle, COLOUR(206, 154, 94));
    brush_mark(b, strip, 4, middle, tape);
    brush_mark(b, slot, 4, middle, COLOUR_A(90, 60, 30, 110));
}

static struct colour bag_cloth(enum scene_colour colour)
{
    switch (colour) {
    case SCENE_RED: return COLOUR(196, 32, 36);
    case SCENE_BLUE: return COLOUR(34, 82, 186);
    case SCENE_GREEN: return COLOUR(34, 124, 62);
    case SCENE_YELLOW: return COLOUR(214, 160, 34);
    case SCENE_WHITE: return COLOUR(238, 238, 232);
    case SCENE_GREY: return COLOUR(134, 138, 144);
    case SCENE_BROWN: return COLOUR(122, 78, 44);
    case SCENE_VEST: return COLOUR(212, 255, 30);
    default: return COLOUR(30, 30, 34);
    }
}

void yard_bag_draw(const struct brush *b)
{
    struct colour cloth = bag_cloth(b->a->colour), dark = colour_scale(cloth, 0.72), light = colour_scale(cloth, 1.16);
    struct colour strap = b->a->colour == SCENE_BLACK ? COLOUR(96, 98, 104) : COLOUR(34, 34, 38);
    double near = b->eye.z >= 0 ? 1 : -1;
    /* the far handle, the roll with its dark foot and light back, straps, the near handle */
    struct vec f0 = V(-0.17, 0.36, -near * 0.1), f1 = V(0, 0.50, -near * 0.1), f2 = V(0.17, 0.36, -near * 0.1);
    brush_limb(b, f0, 0.026, f1, 0.026, colour_scale(strap, 0.8));
    brush_limb(b, f1, 0.026, f2, 0.026, colour_scale(strap, 0.8));
    brush_limb(b, V(-0.27, 0.17, 0), 0.17, V(0.27, 0.17, 0), 0.17, dark);
    brush_limb(b, V(-0.27, 0.22, 0), 0.175, V(0.27, 0.22, 0), 0.175, cloth);
    brush_limb(b, V(-0.26, 0.31, 0), 0.07, V(0.26, 0.31, 0), 0.07, light);
    for (int side = -1; side <= 1; side += 2) {
        double x = side * 0.17;
        brush_limb(b, V(x, 0.06, near * 0.17), 0.024, V(x, 0.24, near * 0.2), 0.024, strap);
        brush_limb(b, V(x, 0.24, near * 0.2), 0.024, V(x, 0.38, near * 0.1), 0.024, strap);
    }
    brush_limb(b, V(-0.17, 0.38, near * 0.1), 0.026, V(0, 0.52, near * 0.08), 0.026, strap);
    brush_limb(b, V(0, 0.52, near * 0.08), 0.026, V(0.17, 0.38, near * 0.1), 0.026, strap);
}
