/* yard_actors - actors of the yard: their shadows, themselves, their light at night. What each looks like is in yard_people, yard_vehicles, yard_animals, yard_fire. */
#include <math.h>

#include "pipeline/yard_figures.h"
#include "pipeline/yard_traffic.h"

/* ---- shadows --------------------------------------------------------------------------------------------------------------- */

#define CONTACT 110 /* opacity of the dark below a foot */
#define CAST    105 /* of the sun's shadow */

static int actor_outline(const struct brush *b, struct vec *p)
{
    static const struct vec dog[] = {{-0.4, 0, -0.12}, {-0.4, 0, 0.12}, {0.36, 0, -0.12}, {0.36, 0, 0.12},
                                     {-0.7, 0.76, 0},  {-0.4, 0.7, 0},  {0.62, 0.94, 0},  {0.86, 0.78, 0}};
    static const struct vec bird[] = {{-0.1, 0, 0},   {0.1, 0, 0},    {-0.3, 0.48, 0},
                                      {0.1, 0.66, 0}, {0.3, 0.98, 0}, {0.5, 0.95, 0}};
    static const struct vec box[] = {{-0.4, 0, -0.3},   {-0.4, 0, 0.3},   {0.4, 0, -0.3},   {0.4, 0, 0.3},
                                     {-0.4, 0.6, -0.3}, {-0.4, 0.6, 0.3}, {0.4, 0.6, -0.3}, {0.4, 0.6, 0.3}};
    static const struct vec bag[] = {{-0.42, 0, -0.15},  {-0.42, 0, 0.15},  {0.42, 0, -0.15},  {0.42, 0, 0.15},
                                     {-0.4, 0.36, -0.1}, {-0.4, 0.36, 0.1}, {0.4, 0.36, -0.1}, {0.4, 0.36, 0.1}};
    const struct vec *from = NULL;
    int n = 0;
    switch (b->a->type) {
    case SCENE_PERSON: return b->a->pose == SCENE_LYING ? 0 : yard_person_outline(b, p);
    case SCENE_CAR:
    case SCENE_VAN: return yard_vehicle_outline(b, p);
    case SCENE_DOG: from = dog, n = sizeof dog / sizeof *dog; break;
    case SCENE_BIRD: from = bird, n = b->a->pose == SCENE_FLYING ? 0 : sizeof bird / sizeof *bird; break;
    case SCENE_BOX: from = box, n = sizeof box / sizeof *box; break;
    case SCENE_BAG: from = bag, n = sizeof bag / sizeof *bag; break;
    default: break;
    }
    for (int i = 0; i < n; i++)
        p[i] = from[i];
    return n;
}

static void actor_contact(const struct brush *b)
{
    const struct yard_actor *a = b->a;
    struct colour dark = COLOUR_A(14, 16, 22, CONTACT);
    switch (a->type) {
    case SCENE_PERSON:
        if (a->pose == SCENE_LYING)
            brush_blot(b, 0.02, 0, 0.95, 0.36, dark);
        else
            brush_blot(b, 0.03, 0, 0.34, 0.30, dark);
        break;
    case SCENE_CAR:
        dark.a = 150;
        brush_blot(b, 0, 0, 2.3, 1.08, dark);
        break;
    case SCENE_VAN:
        dark.a = 150;
        brush_blot(b, 0, 0, 2.8, 1.2, dark);
        break;
    case SCENE_DOG: brush_blot(b, 0, 0, 0.55, 0.24, dark); break;
    case SCENE_BIRD:
        if (a->pose == SCENE_FLYING) {
            dark.a = (uint8_t)(90 / (1 + 0.15 * a->at.y));
            brush_blot(b, 0, 0, 0.45, 0.75, dark);
        } else {
            brush_blot(b, 0, 0, 0.32, 0.2, dark);
        }
        break;
    case SCENE_BOX: brush_blot(b, 0, 0, 0.58, 0.48, dark); break;
    case SCENE_BAG: brush_blot(b, 0, 0, 0.56, 0.34, dark); break;
    case SCENE_FIRE:
        dark.a = 125;
        brush_blot(b, 0, 0, 0.85 * a->size, 0.75 * a->size, dark);
        break;
    case SCENE_SMOKE: brush_blot(b, 0, 0, 0.5 * a->size, 0.45 * a->size, dark); break;
    default: break;
    }
}

void yard_actor_draw_shadow(const struct yard *y, struct canvas *c, const struct yard_actor *a, const struct yard_sky *sky)
{
    struct brush b;
    struct vec p[BRUSH_MAX_CAST];
    double shade_x, shade_z, sun = brush_sun(sky, &shade_x, &shade_z);
    brush_init(&b, y, c, a, sky);
    int n = sun > 0.05 ? actor_outline(&b, p) : 0;
    if (n > 0)
        brush_cast(&b, p, n, shade_x, shade_z, 0.22, (int)(CAST * sun));
    actor_contact(&b);
}

/* ---- the actor itself ------------------------------------------------------------------------------------------------------ */

void yard_actor_draw(const struct yard *y, struct canvas *c, const struct yard_actor *a, const struct yard_sky *sky,
                     struct yard_trace *ret_trace)
{
    int64_t n_before = c->n_map_px;
    double area_before = c->area_px, inside_before = c->inside_px;
    struct brush b;
    brush_init(&b, y, c, a, sky);
    switch (a->type) {
    case SCENE_PERSON: yard_person_draw(&b); break;
    case SCENE_CAR:
    case SCENE_VAN: yard_vehicle_draw(&b); break;
    case SCENE_DOG: yard_dog_draw(&b); break;
    case SCENE_BIRD: yard_bird_draw(&b); break;
    case SCENE_BOX: yard_box_draw(&b); break;
    case SCENE_BAG: yard_bag_draw(&b); break;
    case SCENE_FIRE: yard_fire_draw(&b, sky->wind); break;
    case SCENE_SMOKE: yard_smoke_draw(&b, sky->wind); break;
    default: break;
    }
    /* What was drawn in the picture is counted; what the edge cut off is as large a share of it as of the polygons' areas. */
    double drawn = (double)(c->n_map_px - n_before), area = c->area_px - area_before, inside = c->inside_px - inside_before;
    ret_trace->full_px = inside > 0 && inside < area * 0.995 ? drawn * area / inside : drawn;
    if (drawn < 1)
        ret_trace->full_px = fmax(area, 1);
}

/* ---- light ----------------------------------------------------------------------------------------------------------------- */

struct lamp_glow {
    uint8_t *glow;
    int width_px, height_px;
};

/* A soft pool of light around p: rx, ry pixels. */
static void glow_add(const struct lamp_glow *g, struct point p, double rx, double ry, double peak)
{
    int y0 = (int)fmax(p.y - ry, 0), y1 = (int)fmin(p.y + ry + 1, g->height_px);
    int x0 = (int)fmax(p.x - rx, 0), x1 = (int)fmin(p.x + rx + 1, g->width_px);
    for (int row = y0; row < y1; row++) {
        double dy = (row + 0.5 - p.y) / ry;
        for (int x = x0; x < x1; x++) {
            double dx = (x + 0.5 - p.x) / rx, d = dx * dx + dy * dy;
            if (d >= 1)
                continue;
            uint8_t *at = &g->glow[(size_t)row * (size_t)g->width_px + (size_t)x];
            double v = *at + peak * (1 - d) * (1 - d);
            *at = v > 255 ? 255 : (uint8_t)v;
        }
    }
}

/* On the ground around p, round in the world. */
static void glow_ground(const struct yard *y, const struct lamp_glow *g, struct vec p, double radius_m, double peak)
{
    double m = scene_view_scale(&y->view, p), depth = scene_view_depth(&y->view, p);
    double squash = fmin(fmax(y->view.height_m / depth, 0.12), 1);
    glow_add(g, scene_view_project(&y->view, p), radius_m * m, fmax(radius_m * m * squash, 1), peak);
}

static void glow_vehicle(const struct yard *y, const struct brush *b, const struct lamp_glow *g)
{
    const struct yard_actor *a = b->a;
    double front = yard_vehicle_half_long_m(a->type), half = 0.62, lamp_y = a->type == SCENE_VAN ? 0.84 : 0.66;
    for (int i = 0; i < 4; i++) {
        static const double ahead[] = {1.6, 3.6, 6.2, 9.5}, radius[] = {1.2, 1.9, 2.6, 3.4}, peak[] = {150, 130, 95, 55};
        glow_ground(y, g, brush_world(b, (struct vec){front + ahead[i], 0, 0}), radius[i], peak[i]);
    }
    glow_ground(y, g, brush_world(b, (struct vec){-front - 0.8, 0, 0}), 1.2, 45);
    for (int side = -1; side <= 1; side += 2)
        for (int end = -1; end <= 1; end += 2) {
            struct vec p = {end * front, lamp_y, side * half};
            if ((b->eye.x - p.x) * end <= 0)
                continue; /* looks away */
            double r = fmax((end > 0 ? 0.42 : 0.30) * b->m, 1.6);
            glow_add(g, brush_point(b, p), r, r, end > 0 ? 420 : 260);
        }
}

void yard_actor_glow(const struct yard *y, const struct yard_actor *a, const struct yard_sky *sky, int width_px, int height_px,
                     uint8_t *glow)
{
    struct lamp_glow g = {.glow = glow, .width_px = width_px, .height_px = height_px};
    struct brush b;
    brush_init(&b, y, NULL, a, sky);
    if (a->type == SCENE_FIRE) {
        double flicker = 0.88 + 0.08 * draw_sin(a->phase * 1.7) + 0.06 * draw_sin(a->phase * 4.3);
        glow_ground(y, &g, a->at, 6.5 * a->size, 190 * flicker);
        struct vec up = a->at;
        up.y = 0.9 * a->size;
        double r = 3.0 * a->size * b.m;
        glow_add(&g, scene_view_project(&y->view, up), r, r, 120 * flicker);
    } else if ((a->type == SCENE_CAR || a->type == SCENE_VAN) && a->has_lights) {
        glow_vehicle(y, &b, &g);
    }
}
