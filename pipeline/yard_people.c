/* yard_people - people of the yard, as skeletons of limbs: walking, standing, lying; clothes by colour and look. Pure but for the canvas. */
#include <math.h>

#include "base/rng.h"
#include "pipeline/yard_figures.h"

struct person {
    struct colour top, sleeve, leg, shoe, skin, hair;
    double k; /* height over 1.75 m */
    bool is_vest, has_helmet, has_hood, has_long_hair;
};

static struct colour person_top(enum scene_colour colour)
{
    switch (colour) {
    case SCENE_RED: return COLOUR(200, 34, 38);
    case SCENE_BLUE: return COLOUR(38, 84, 196);
    case SCENE_GREEN: return COLOUR(30, 132, 62);
    case SCENE_YELLOW: return COLOUR(214, 156, 28);
    case SCENE_WHITE: return COLOUR(240, 240, 236);
    case SCENE_BLACK: return COLOUR(26, 26, 30);
    case SCENE_GREY: return COLOUR(134, 138, 144);
    case SCENE_BROWN: return COLOUR(112, 72, 42);
    case SCENE_VEST: return COLOUR(212, 255, 30);
    default: return COLOUR(134, 138, 144);
    }
}

static void person_init(const struct yard_actor *a, struct person *p)
{
    static const struct colour skins[] = {{232, 192, 164, 255}, {206, 158, 124, 255}, {158, 112, 82, 255}, {110, 76, 56, 255}};
    static const struct colour hairs[] = {
        {36, 28, 24, 255}, {92, 62, 38, 255}, {176, 140, 88, 255}, {150, 148, 146, 255}, {120, 58, 30, 255}};
    static const struct colour legs[] = {{58, 68, 96, 255}, {104, 92, 74, 255}, {80, 82, 88, 255}, {48, 50, 58, 255}};
    uint64_t r = rng_at(a->look, 0x9e0b1e);
    *p = (struct person){.top = person_top(a->colour), .is_vest = a->colour == SCENE_VEST};
    p->skin = skins[r % 4];
    p->hair = hairs[(r >> 4) % 5];
    p->leg = legs[(r >> 8) % 4];
    if (a->colour == SCENE_BLACK && (r >> 8) % 4 == 3)
        p->leg = legs[1]; /* a black jacket over dark trousers would be a dark post */
    p->sleeve = colour_scale(p->top, 0.86);
    p->shoe = (r >> 12 & 3) ? COLOUR(34, 32, 34) : COLOUR(150, 146, 140);
    p->k = (1.64 + (double)(r >> 16 & 255) / 255 * 0.24) / 1.75;
    p->has_helmet = p->is_vest && (r >> 24 & 1);
    p->has_hood = !p->is_vest && (r >> 26) % 5 == 0;
    p->has_long_hair = (r >> 30) % 3 == 0;
}

static struct vec person_at(const struct person *p, double x, double y, double z)
{
    return (struct vec){x * p->k, y * p->k, z * p->k};
}

/* A leg by its foot: the knee where both bones reach it. */
static void person_leg(const struct brush *b, const struct person *p, double foot, double lift, double side, double bob,
                       struct colour cloth)
{
    double hip_y = 0.90 - bob, foot_y = 0.09 + lift, gap = hip_y - foot_y;
    double span = sqrt(foot * foot + gap * gap), bone = 0.42, bend = sqrt(fmax(bone * bone - span * span / 4, 0));
    struct vec hip = person_at(p, 0, hip_y, side * 0.09);
    struct vec knee = person_at(p, foot / 2 + bend * gap / span, (hip_y + foot_y) / 2 + bend * foot / span, side * 0.095);
    struct vec ankle = person_at(p, foot, foot_y, side * 0.10);
    brush_limb(b, hip, 0.098 * p->k, knee, 0.078 * p->k, cloth);
    brush_limb(b, knee, 0.078 * p->k, ankle, 0.062 * p->k, cloth);
    brush_limb(b, person_at(p, foot - 0.05, foot_y - 0.04, side * 0.10), 0.05 * p->k,
               person_at(p, foot + 0.14, foot_y - 0.05, side * 0.11), 0.042 * p->k, p->shoe);
}

static void person_arm(const struct brush *b, const struct person *p, double swing, double bend, double side, double bob,
                       struct colour cloth)
{
    struct vec shoulder = person_at(p, 0, 1.40 - bob, side * 0.21);
    struct vec elbow = person_at(p, swing * 0.5, 1.13 - bob + fabs(swing) * 0.05, side * 0.26);
    struct vec wrist = person_at(p, swing + bend * 0.14, 0.90 - bob + bend * 0.1 + fabs(swing) * 0.1, side * 0.25);
    brush_limb(b, shoulder, 0.078 * p->k, elbow, 0.066 * p->k, cloth);
    brush_limb(b, elbow, 0.066 * p->k, wrist, 0.054 * p->k, cloth);
    brush_limb(b, wrist, 0.05 * p->k,
               person_at(p, swing + bend * 0.17, 0.82 - bob + bend * 0.1 + fabs(swing) * 0.1, side * 0.25), 0.04 * p->k,
               p->skin);
}

/* A slice of an upright body: as wide as it looks from here. */
static struct point person_edge(const struct brush *b, const struct person *p, double x, double y, double wide, double deep,
                                int side)
{
    struct point o = brush_point(b, person_at(p, x, y, 0));
    double w = sqrt(wide * wide * b->ahead * b->ahead + deep * deep * b->across * b->across);
    return (struct point){o.x + side * w * p->k * b->m, o.y};
}

struct slice {
    double y, wide, deep;
};

static void person_slices(const struct brush *b, const struct person *p, const struct slice *s, int n, double bob,
                          struct colour top, struct colour bottom)
{
    struct point out[16];
    for (int i = 0; i < n; i++) {
        out[i] = person_edge(b, p, 0, s[i].y - bob, s[i].wide, s[i].deep, -1);
        out[2 * n - 1 - i] = person_edge(b, p, 0, s[i].y - bob, s[i].wide, s[i].deep, 1);
    }
    draw_polygon_shaded(b->c, out, 2 * n, top, bottom);
}

static void person_torso(const struct brush *b, const struct person *p, double bob)
{
    static const struct slice jacket[] = {{1.50, 0.07, 0.07},   {1.45, 0.19, 0.105}, {1.36, 0.235, 0.13},
                                          {1.15, 0.215, 0.135}, {1.0, 0.20, 0.13},   {0.80, 0.205, 0.135}};
    person_slices(b, p, jacket, 6, bob, colour_scale(p->top, 1.05), colour_scale(p->top, 0.88));
    if (p->is_vest) {
        /* orange shoulders, two pale bands */
        static const struct slice yoke[] = {{1.49, 0.08, 0.07}, {1.45, 0.19, 0.105}, {1.37, 0.232, 0.13}};
        static const struct slice band[] = {{1.20, 0.218, 0.135}, {1.11, 0.212, 0.135}};
        static const struct slice hem[] = {{0.98, 0.20, 0.13}, {0.91, 0.20, 0.132}};
        person_slices(b, p, yoke, 3, bob, COLOUR(255, 122, 22), COLOUR(255, 122, 22));
        person_slices(b, p, band, 2, bob, COLOUR(246, 248, 255), COLOUR(246, 248, 255));
        person_slices(b, p, hem, 2, bob, COLOUR(246, 248, 255), COLOUR(246, 248, 255));
    } else if (b->ahead < -0.4) {
        /* the zip and what is under it */
        struct point a = brush_point(b, person_at(p, 0.1, 1.46 - bob, 0)),
                     z = brush_point(b, person_at(p, 0.12, 0.84 - bob, 0));
        draw_line(b->c, a, z, 0.022 * b->m, COLOUR_A(20, 20, 24, 90));
    }
    /* the side that the sun does not reach */
    static const struct slice whole[] = {{1.45, 0.19, 0.105}, {1.36, 0.235, 0.13}, {1.0, 0.20, 0.13}, {0.80, 0.205, 0.135}};
    struct vec sun = b->light;
    double right = (sun.x * b->across + sun.z * b->ahead) * b->view->side; /* which side of the picture it comes from */
    right = right < 0 ? -1 : 1;
    struct point shade[8];
    for (int i = 0; i < 4; i++) {
        struct point o = person_edge(b, p, 0, whole[i].y - bob, whole[i].wide, whole[i].deep, right > 0 ? -1 : 1);
        struct point mid = person_edge(b, p, 0, whole[i].y - bob, 0, 0, 1);
        shade[i] = o;
        shade[7 - i] = (struct point){mid.x + (o.x - mid.x) * 0.35, mid.y};
    }
    draw_polygon(b->c, shade, 8, COLOUR_A(0, 0, 10, (uint8_t)(26 + 30 * b->sun)));
}

static void person_head(const struct brush *b, const struct person *p, double bob)
{
    double m = b->m * p->k, turn = b->across * b->view->side;
    struct point o = brush_point(b, person_at(p, 0.03, 1.62 - bob, 0));
    brush_limb(b, person_at(p, 0, 1.47 - bob, 0), 0.055 * p->k, person_at(p, 0.02, 1.56 - bob, 0), 0.05 * p->k,
               colour_scale(p->skin, 0.85));
    if (p->has_long_hair && !p->has_helmet)
        draw_ellipse(b->c, o.x - turn * 0.04 * m, o.y + 0.03 * m, 0.115 * m, 0.15 * m, p->hair);
    draw_ellipse(b->c, o.x, o.y, 0.098 * m, 0.125 * m, p->skin);
    /* seen from behind it is all hair; from the front only the top */
    double down = b->ahead > 0.35 ? 0.02 : b->ahead < -0.35 ? -0.075 : -0.045;
    struct colour cap = p->has_helmet ? COLOUR(246, 246, 240) : p->has_hood ? colour_scale(p->top, 0.92) : p->hair;
    double back = p->has_helmet ? 0 : fabs(b->ahead) > 0.8 ? 0 : 0.035 * turn;
    double ry = b->ahead > 0.35 ? 0.115 : 0.075, rx = p->has_hood ? 0.12 : p->has_helmet ? 0.125 : 0.105;
    draw_ellipse(b->c, o.x - back * m, o.y + (p->has_helmet ? -0.06 : down) * m, rx * m, (p->has_helmet ? 0.085 : ry) * m, cap);
}

static void person_upright(const struct brush *b, const struct person *p)
{
    const struct yard_actor *a = b->a;
    bool is_walking = a->pose == SCENE_WALKING;
    double s = draw_sin(a->phase), c = draw_cos(a->phase);
    double sway = is_walking ? 0 : 0.02 * draw_sin(a->phase * 0.7);
    double stride = is_walking ? 0.36 : 0.03, bob = is_walking ? 0.035 * s * s : 0.008 * s;
    double near = b->eye.z >= 0 ? 1 : -1; /* the side of the body that the camera sees */
    for (int pass = 0; pass < 2; pass++) {
        double side = pass ? near : -near, sign = side;
        double foot = is_walking ? stride * s * sign : 0.04 * sign, lift = is_walking ? 0.10 * fmax(c * sign, 0) : 0;
        double swing = is_walking ? -0.30 * s * sign : 0.03 + sway * sign;
        struct colour leg = pass ? p->leg : colour_scale(p->leg, 0.8);
        if (pass == 0)
            person_arm(b, p, swing, is_walking ? 0.8 : 0.3, side, bob, colour_scale(p->sleeve, 0.88));
        person_leg(b, p, foot, lift, side, bob, leg);
    }
    person_torso(b, p, bob);
    person_head(b, p, bob);
    double swing = is_walking ? -0.30 * s * near : 0.03 + sway * near;
    /* seen from the front both arms hang beside the body */
    if (fabs(b->ahead) > 0.5)
        person_arm(b, p, is_walking ? 0.30 * s * near : 0.03 - sway * near, is_walking ? 0.8 : 0.3, -near, bob, p->sleeve);
    person_arm(b, p, swing, is_walking ? 0.8 : 0.3, near, bob, p->sleeve);
}

/* On its back or side, the head ahead: one arm above the head, one aside, a knee drawn up. */
static void person_lying(const struct brush *b, const struct person *p)
{
    uint64_t r = rng_at(b->a->look, 0x11e);
    double flip = (r & 1) ? 1 : -1, k = p->k, knee = 0.16 + (double)(r >> 4 & 15) / 100;
    struct colour dim = colour_scale(p->leg, 0.85);
#define AT(x_, y_, z_) person_at(p, (x_), (y_), (z_)*flip)
    /* what is farther from the camera first */
    brush_limb(b, AT(-0.02, 0.12, 0.09), 0.10 * k, AT(-0.42, 0.10, 0.12), 0.08 * k, dim);
    brush_limb(b, AT(-0.42, 0.10, 0.12), 0.08 * k, AT(-0.80, 0.08, 0.14), 0.06 * k, dim);
    brush_limb(b, AT(-0.80, 0.07, 0.14), 0.055 * k, AT(-0.84, 0.17, 0.16), 0.05 * k, p->shoe);
    brush_limb(b, AT(-0.02, 0.13, -0.09), 0.10 * k, AT(-0.36, 0.16, -0.09 - knee), 0.082 * k, p->leg);
    brush_limb(b, AT(-0.36, 0.16, -0.09 - knee), 0.082 * k, AT(-0.70, 0.08, -0.12), 0.062 * k, p->leg);
    brush_limb(b, AT(-0.70, 0.07, -0.12), 0.055 * k, AT(-0.75, 0.16, -0.14), 0.05 * k, p->shoe);
    /* arms */
    brush_limb(b, AT(0.46, 0.12, 0.19), 0.078 * k, AT(0.66, 0.08, 0.36), 0.066 * k, p->sleeve);
    brush_limb(b, AT(0.66, 0.08, 0.36), 0.066 * k, AT(0.88, 0.07, 0.30), 0.055 * k, p->sleeve);
    brush_limb(b, AT(0.88, 0.07, 0.30), 0.05 * k, AT(0.96, 0.07, 0.27), 0.042 * k, p->skin);
    brush_limb(b, AT(0.46, 0.12, -0.19), 0.078 * k, AT(0.26, 0.08, -0.42), 0.066 * k, p->sleeve);
    brush_limb(b, AT(0.26, 0.08, -0.42), 0.066 * k, AT(0.08, 0.07, -0.50), 0.055 * k, p->sleeve);
    brush_limb(b, AT(0.08, 0.07, -0.50), 0.05 * k, AT(0.0, 0.07, -0.52), 0.042 * k, p->skin);
    /* the trunk: two rolls and what is between them */
    brush_limb(b, AT(0.0, 0.13, 0.08), 0.13 * k, AT(0.44, 0.14, 0.11), 0.13 * k, p->top);
    brush_limb(b, AT(0.0, 0.13, -0.08), 0.13 * k, AT(0.44, 0.14, -0.11), 0.13 * k, p->top);
    brush_limb(b, AT(0.0, 0.16, 0), 0.12 * k, AT(0.42, 0.19, 0), 0.12 * k, colour_scale(p->top, 1.08));
    if (p->is_vest) {
        struct vec band[4] = {AT(0.20, 0.28, 0.13), AT(0.28, 0.28, 0.13), AT(0.28, 0.28, -0.13), AT(0.20, 0.28, -0.13)};
        struct vec yoke[4] = {AT(0.40, 0.28, 0.16), AT(0.53, 0.26, 0.15), AT(0.53, 0.26, -0.15), AT(0.40, 0.28, -0.16)};
        brush_flat(b, yoke, 4, COLOUR(255, 122, 22));
        brush_flat(b, band, 4, COLOUR(246, 248, 255));
    }
    brush_limb(b, AT(0.54, 0.12, 0), 0.06 * k, AT(0.66, 0.12, 0), 0.06 * k, p->skin);
    brush_ball(b, AT(0.74, 0.12, 0), 0.118 * k, p->hair);
    brush_ball(b, AT(0.71, 0.15, 0), 0.095 * k, p->skin);
#undef AT
}

void yard_person_draw(const struct brush *b)
{
    struct person p;
    person_init(b->a, &p);
    if (b->a->pose == SCENE_LYING)
        person_lying(b, &p);
    else
        person_upright(b, &p);
}

int yard_person_outline(const struct brush *b, struct vec *ret)
{
    struct person p;
    person_init(b->a, &p);
    int n = 0;
    for (int side = -1; side <= 1; side += 2) {
        ret[n++] = person_at(&p, 0.12, 0, side * 0.10);
        ret[n++] = person_at(&p, -0.12, 0, side * 0.10);
        ret[n++] = person_at(&p, 0, 0.9, side * 0.2);
        ret[n++] = person_at(&p, 0, 1.40, side * 0.2);
        ret[n++] = person_at(&p, 0, 1.66, side * 0.08);
        ret[n++] = person_at(&p, 0, 1.74, side * 0.04);
    }
    return n;
}
