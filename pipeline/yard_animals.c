/* yard_animals - dogs, herons and geese of the yard: standing, walking, flying. Pure but for the canvas. */
#include <math.h>

#include "base/rng.h"
#include "pipeline/yard_figures.h"

static struct colour animal_coat(enum scene_colour colour)
{
    switch (colour) {
    case SCENE_BLACK: return COLOUR(30, 28, 28);
    case SCENE_WHITE: return COLOUR(240, 236, 226);
    case SCENE_GREY: return COLOUR(140, 142, 148);
    case SCENE_YELLOW: return COLOUR(206, 164, 92);
    default: return COLOUR(126, 76, 36);
    }
}

/* ---- dog ------------------------------------------------------------------------------------------------------------------- */

static void dog_leg(const struct brush *b, double x, double z, double swing, double lift, bool is_hind, struct colour coat)
{
    double bend = is_hind ? -0.07 : 0.03;
    struct vec knee = V(x + swing * 0.45 + bend, 0.26 + lift * 0.5, z), paw = V(x + swing, 0.05 + lift, z);
    brush_limb(b, V(x, 0.48, z), is_hind ? 0.105 : 0.085, knee, 0.062, coat);
    brush_limb(b, knee, 0.062, paw, 0.048, coat);
    brush_limb(b, paw, 0.048, V(paw.x + 0.07, paw.y - 0.01, z), 0.042, colour_scale(coat, 0.9));
}

void yard_dog_draw(const struct brush *b)
{
    const struct yard_actor *a = b->a;
    uint64_t r = rng_at(a->look, 0xd06);
    struct colour coat = animal_coat(a->colour), far = colour_scale(coat, 0.74), light = colour_scale(coat, 1.14);
    bool is_walking = a->pose == SCENE_WALKING;
    double s = draw_sin(a->phase), c = draw_cos(a->phase), reach = is_walking ? 0.19 : 0.02;
    double near = b->eye.z >= 0 ? 1 : -1, bob = is_walking ? 0.015 * draw_sin(2 * a->phase) : 0;
    double wag = 0.10 * draw_sin(a->phase * (is_walking ? 2 : 3)), nod = is_walking ? 0 : 0.03 * s;
    /* far legs; a trot moves them crosswise */
    dog_leg(b, -0.36, -near * 0.11, -reach * s, is_walking ? 0.07 * fmax(-c, 0) : 0, true, far);
    dog_leg(b, 0.32, -near * 0.11, reach * s, is_walking ? 0.07 * fmax(c, 0) : 0, false, far);
    bool is_away = b->ahead > 0;
    for (int pass = 0; pass < 2; pass++) {
        if ((pass == 0) == is_away) { /* head and neck: behind the body when it walks away */
            struct vec neck = V(0.46, 0.66 + bob, 0), skull = V(0.62, 0.84 + bob + nod, 0);
            brush_limb(b, V(0.34, 0.60 + bob, 0), 0.145, neck, 0.125, coat);
            brush_limb(b, neck, 0.125, skull, 0.105, coat);
            brush_limb(b, skull, 0.10, V(0.70, 0.82 + bob + nod, 0), 0.085, light);
            brush_limb(b, V(0.70, 0.80 + bob + nod, 0), 0.072, V(0.84, 0.77 + bob + nod, 0), 0.05, light);
            brush_ball(b, V(0.88, 0.785 + bob + nod, 0), 0.032, COLOUR(22, 20, 20));
            for (int side = -1; side <= 1; side += 2) {
                struct vec ear = V(0.57, 0.92 + bob + nod, side * 0.075);
                brush_limb(b, ear, 0.045,
                           r & 1 ? V(0.55, 0.78 + bob + nod, side * 0.12) : V(0.55, 1.0 + bob + nod, side * 0.08), 0.03, far);
            }
        } else { /* tail */
            struct vec root = V(-0.46, 0.60 + bob, 0), tip = V(-0.74, 0.80 + bob, wag);
            brush_limb(b, root, 0.055, V(-0.62, 0.66 + bob, wag * 0.5), 0.045, coat);
            brush_limb(b, V(-0.62, 0.66 + bob, wag * 0.5), 0.045, tip, 0.03, light);
        }
        if (pass == 0) {
            brush_limb(b, V(-0.36, 0.56 + bob, 0), 0.155, V(0.05, 0.55 + bob, 0), 0.15, coat);
            brush_limb(b, V(0.05, 0.55 + bob, 0), 0.15, V(0.34, 0.56 + bob, 0), 0.19, coat);
            brush_limb(b, V(-0.36, 0.64 + bob, near * 0.04), 0.06, V(0.34, 0.67 + bob, near * 0.04), 0.07, light);
        }
    }
    dog_leg(b, -0.36, near * 0.11, reach * s, is_walking ? 0.07 * fmax(c, 0) : 0, true, coat);
    dog_leg(b, 0.32, near * 0.11, -reach * s, is_walking ? 0.07 * fmax(-c, 0) : 0, false, coat);
    if (r >> 1 & 1) /* a collar */
        brush_limb(b, V(0.44, 0.60 + bob, near * 0.1), 0.03, V(0.38, 0.74 + bob, near * 0.1), 0.03, COLOUR(196, 30, 34));
}

/* ---- birds ----------------------------------------------------------------------------------------------------------------- */

struct bird {
    struct colour body, wing, tip, neck, beak, leg;
    bool is_goose;
};

static struct bird bird_of(enum scene_colour colour)
{
    if (colour == SCENE_WHITE)
        return (struct bird){.body = COLOUR(246, 246, 242),
                             .wing = COLOUR(232, 232, 232),
                             .tip = COLOUR(206, 208, 212),
                             .neck = COLOUR(250, 250, 246),
                             .beak = COLOUR(244, 140, 30),
                             .leg = COLOUR(240, 136, 34),
                             .is_goose = true};
    return (struct bird){.body = COLOUR(150, 160, 176),
                         .wing = COLOUR(122, 134, 154),
                         .tip = COLOUR(38, 42, 52),
                         .neck = COLOUR(232, 234, 236),
                         .beak = COLOUR(232, 168, 40),
                         .leg = COLOUR(120, 100, 64)};
}

static void bird_neck_heron(const struct brush *b, const struct bird *k, double nod)
{
    brush_limb(b, V(0.20, 0.62, 0), 0.075, V(0.31, 0.76, 0), 0.055, k->neck);
    brush_limb(b, V(0.31, 0.76, 0), 0.055, V(0.22 + nod, 0.90, 0), 0.045, k->neck);
    brush_limb(b, V(0.22 + nod, 0.90, 0), 0.045, V(0.29 + nod, 0.99, 0), 0.045, k->neck);
    brush_limb(b, V(0.29 + nod, 1.0, 0), 0.058, V(0.36 + nod, 1.0, 0), 0.045, k->neck);
    brush_limb(b, V(0.38 + nod, 1.0, 0), 0.034, V(0.57 + nod, 0.97, 0), 0.014, k->beak);
    brush_limb(b, V(0.32 + nod, 1.04, 0), 0.026, V(0.14 + nod, 1.0, 0), 0.014, k->tip);
}

static void bird_neck_goose(const struct brush *b, const struct bird *k, double nod)
{
    brush_limb(b, V(0.26, 0.50, 0), 0.105, V(0.34, 0.70, 0), 0.065, k->neck);
    brush_limb(b, V(0.34, 0.70, 0), 0.065, V(0.36 + nod, 0.88, 0), 0.055, k->neck);
    brush_limb(b, V(0.37 + nod, 0.92, 0), 0.078, V(0.43 + nod, 0.91, 0), 0.066, k->neck);
    brush_limb(b, V(0.48 + nod, 0.90, 0), 0.046, V(0.59 + nod, 0.88, 0), 0.026, k->beak);
}

static void bird_on_ground(const struct brush *b, const struct bird *k)
{
    const struct yard_actor *a = b->a;
    bool is_walking = a->pose == SCENE_WALKING;
    double s = draw_sin(a->phase), c = draw_cos(a->phase), near = b->eye.z >= 0 ? 1 : -1;
    double nod = is_walking ? 0.04 * draw_sin(2 * a->phase) : 0.03 * s, hip = k->is_goose ? 0.34 : 0.52;
    for (int pass = 0; pass < 2; pass++) {
        double side = pass ? near : -near, swing = is_walking ? 0.14 * s * side : 0.03 * side;
        double lift = is_walking ? 0.08 * fmax(c * side, 0) : 0, z = side * 0.07, r = k->is_goose ? 0.036 : 0.03;
        struct colour leg = pass ? k->leg : colour_scale(k->leg, 0.8);
        struct vec knee = V(swing * 0.4 - 0.03, hip * 0.52 + lift, z), foot = V(swing, 0.03 + lift, z);
        brush_limb(b, V(0, hip, z), k->is_goose ? 0.06 : 0.045, knee, r, k->is_goose ? leg : k->wing);
        brush_limb(b, knee, r, foot, r, leg);
        brush_limb(b, foot, r, V(foot.x + 0.11, 0.025 + lift, z), 0.025, leg);
    }
    bool is_away = b->ahead > 0.2;
    if (is_away) {
        if (k->is_goose)
            bird_neck_goose(b, k, nod);
        else
            bird_neck_heron(b, k, nod);
    }
    if (k->is_goose) {
        brush_limb(b, V(-0.30, 0.46, 0), 0.13, V(0.20, 0.45, 0), 0.20, k->body);
        brush_limb(b, V(-0.40, 0.52, 0), 0.05, V(-0.20, 0.48, 0), 0.13, k->body);
        brush_limb(b, V(-0.34, 0.51, near * 0.1), 0.05, V(0.12, 0.50, near * 0.12), 0.12, k->wing);
        brush_limb(b, V(-0.40, 0.52, near * 0.08), 0.03, V(-0.18, 0.48, near * 0.13), 0.04, k->tip);
    } else {
        brush_limb(b, V(-0.28, 0.50, 0), 0.085, V(0.14, 0.61, 0), 0.155, k->body);
        brush_limb(b, V(-0.30, 0.50, near * 0.06), 0.06, V(0.06, 0.60, near * 0.08), 0.12, k->wing);
        brush_limb(b, V(-0.42, 0.43, 0), 0.045, V(-0.20, 0.51, near * 0.06), 0.06, k->tip);
        brush_limb(b, V(0.16, 0.68, near * 0.08), 0.03, V(0.10, 0.54, near * 0.11), 0.04, k->tip);
    }
    if (!is_away) {
        if (k->is_goose)
            bird_neck_goose(b, k, nod);
        else
            bird_neck_heron(b, k, nod);
    }
}

/* One wing: an inner and an outer half that bends where the bird's hand is. */
static void bird_wing(const struct brush *b, const struct bird *k, int side, double beat, double bend, struct colour shade)
{
    double z1 = 0.10, z2 = 0.46, z3 = 0.86, up2 = 0.36 * beat, up3 = up2 + 0.36 * (beat - bend);
    struct vec inner[4] = {V(0.16, 0.05, side * z1), V(0.20, 0.05 + up2, side * z2), V(-0.20, 0.05 + up2, side * z2),
                           V(-0.20, 0.03, side * z1)};
    struct vec outer[5] = {V(0.20, 0.05 + up2, side * z2), V(0.12, 0.05 + up3 * 0.8, side * z3 * 0.85),
                           V(-0.08, 0.05 + up3, side * z3), V(-0.18, 0.05 + up3 * 0.75, side * z3 * 0.78),
                           V(-0.20, 0.05 + up2, side * z2)};
    struct vec edge[4] = {V(-0.10, 0.05, side * z1), V(-0.10, 0.05 + up2, side * z2), V(-0.20, 0.05 + up2, side * z2),
                          V(-0.20, 0.03, side * z1)};
    brush_flat(b, inner, 4, shade);
    brush_flat(b, outer, 5, k->is_goose ? colour_mix(shade, k->tip, 0.4) : k->tip);
    brush_flat(b, edge, 4, k->tip);
    /* an arm thick enough to be seen when the wing is edge-on */
    brush_limb(b, V(0.17, 0.06, side * z1), 0.045, V(0.17, 0.06 + up2, side * z2), 0.032, shade);
    brush_limb(b, V(0.17, 0.06 + up2, side * z2), 0.032, V(-0.06, 0.05 + up3, side * z3), 0.014, k->is_goose ? shade : k->tip);
}

static void bird_in_air(const struct brush *b, const struct bird *k)
{
    double beat = 0.25 + 0.85 * draw_sin(b->a->phase), bend = 0.35 * draw_cos(b->a->phase);
    int near = b->eye.z >= 0 ? 1 : -1;
    bird_wing(b, k, -near, beat, bend, colour_scale(k->wing, 0.86));
    if (k->is_goose) {
        brush_limb(b, V(-0.42, 0.0, 0), 0.05, V(-0.20, 0.0, 0), 0.12, k->wing);
        brush_limb(b, V(-0.24, 0.0, 0), 0.13, V(0.16, 0.02, 0), 0.17, k->body);
        brush_limb(b, V(0.20, 0.03, 0), 0.10, V(0.60, 0.09, 0), 0.055, k->neck);
        brush_limb(b, V(0.62, 0.09, 0), 0.07, V(0.67, 0.09, 0), 0.06, k->neck);
        brush_limb(b, V(0.71, 0.09, 0), 0.042, V(0.81, 0.08, 0), 0.025, k->beak);
    } else {
        brush_limb(b, V(-0.30, -0.02, 0), 0.032, V(-0.72, -0.06, 0), 0.022, k->leg);
        brush_limb(b, V(-0.28, 0.0, 0), 0.08, V(0.14, 0.02, 0), 0.14, k->body);
        brush_limb(b, V(0.14, 0.0, 0), 0.10, V(0.30, 0.0, 0), 0.085, k->neck);
        brush_limb(b, V(0.28, 0.08, 0), 0.06, V(0.38, 0.09, 0), 0.055, k->neck);
        brush_limb(b, V(0.42, 0.09, 0), 0.038, V(0.62, 0.07, 0), 0.015, k->beak);
        brush_limb(b, V(0.36, 0.13, 0), 0.026, V(0.18, 0.11, 0), 0.014, k->tip);
    }
    bird_wing(b, k, near, beat, bend, k->wing);
}

void yard_bird_draw(const struct brush *b)
{
    struct bird k = bird_of(b->a->colour);
    if (b->a->pose == SCENE_FLYING)
        bird_in_air(b, &k);
    else
        bird_on_ground(b, &k);
}
