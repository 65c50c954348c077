/* scene_yard - draws a moment of the yard and tells what can be seen of it. How seeing is measured: scene.h. */
#include "pipeline/scene_yard.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/scene.h"
#include "pipeline/scene_lens.h"

#define DAY_LIGHT   0.80 /* day above, night below; dusk between */
#define NIGHT_LIGHT 0.15
#define RAIN        0.4 /* rain from here on */
#define FOG         0.2
#define SMOKE_EMIT  96 /* smoke scatters the lamps' light: darker than by day, but seen */

struct scene_yard {
    struct yard yard;
    struct scene_lens *lens;
    struct canvas canvas;
    bool has_gate, has_dock, has_bay[YARD_MAX_BAYS]; /* in the picture */
    uint8_t *background;                             /* [H, W, 3] in daylight */
    uint8_t *glow;                                   /* [H, W] of the lamps that stand still */
    uint8_t *glow_now;                               /* [H, W] with those of actors */
    uint8_t *wall;                                   /* [H, W] 1 where the building hides what is beyond the fence */
    uint8_t *shown;                                  /* [H, W, 3] the drawn picture before the lens */
    uint8_t *behind;                                 /* [H, W, 3] in the pixels of things: what was there before */
    uint8_t *before;                                 /* [H, W, 3] scratch: the picture before a thing is drawn */
    uint8_t *behind_id;                              /* [H, W] in the pixels of things: which thing was there before, 0 none */
    uint8_t *before_id;                              /* [H, W] scratch: the map before a thing is drawn */
};

/* Pixels x0 <= x < x1, y0 <= y < y1. */
struct area {
    int x0, y0, x1, y1;
};

/* Whether what stands in a rectangle, upright or on the ground, counts as in the picture. */
static bool is_in_picture(const struct scene_view *v, const struct vec p[4], int width_px, int height_px)
{
    return scene_view_share(v, p, 4, width_px, height_px) >= SCENE_MIN_VISIBLE;
}

static void look_for_fixtures(struct scene_yard *s, int width_px, int height_px)
{
    const struct yard *y = &s->yard;
    double z = y->fence_z;
    struct vec gate[4] = {
        {y->gate_x0, 0, z}, {y->gate_x1, 0, z}, {y->gate_x1, YARD_GATE_TALL_M, z}, {y->gate_x0, YARD_GATE_TALL_M, z}};
    struct vec dock[4] = {
        {y->dock_x0, 0, z}, {y->dock_x1, 0, z}, {y->dock_x1, y->dock_tall_m, z}, {y->dock_x0, y->dock_tall_m, z}};
    s->has_gate = is_in_picture(&y->view, gate, width_px, height_px);
    s->has_dock = is_in_picture(&y->view, dock, width_px, height_px);
    for (int i = 0; i < y->n_bays; i++) {
        double x0 = y->bay_x + (i - 0.5) * y->bay_pitch_m, x1 = x0 + y->bay_pitch_m;
        struct vec bay[4] = {{x0, 0, y->bay_z0}, {x1, 0, y->bay_z0}, {x1, 0, y->bay_z1}, {x0, 0, y->bay_z1}};
        s->has_bay[i] = is_in_picture(&y->view, bay, width_px, height_px);
    }
}

int scene_yard_open(uint64_t seed, int width_px, int height_px, struct scene_yard **ret_yard, struct err *err)
{
    size_t n_px = (size_t)width_px * (size_t)height_px;
    struct scene_yard *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "no memory for a scene");
    yard_init(&s->yard, seed, width_px, height_px);
    look_for_fixtures(s, width_px, height_px);
    s->background = calloc(n_px, 3);
    s->glow = calloc(n_px, 1);
    s->glow_now = calloc(n_px, 1);
    s->wall = calloc(n_px, 1);
    s->shown = calloc(n_px, 3);
    s->behind = calloc(n_px, 3);
    s->before = calloc(n_px, 3);
    s->behind_id = calloc(n_px, 1);
    s->before_id = calloc(n_px, 1);
    int rc = canvas_init(&s->canvas, width_px, height_px, true, err);
    bool has_all = s->background && s->glow && s->glow_now && s->wall && s->shown && s->behind && s->before;
    if (!rc && (!has_all || !s->behind_id || !s->before_id))
        rc = err_set(err, ERR_NOMEM, "no memory for a scene of %dx%d", width_px, height_px);
    if (!rc)
        rc = scene_lens_open(&s->yard.view, seed, width_px, height_px, &s->lens, err);
    if (rc)
        goto fail;
    struct canvas *c = &s->canvas;
    c->rgb = s->background;
    c->stride_bytes = (size_t)width_px * 3;
    c->id = 1;
    scene_view_wall(&s->yard.view, c, s->yard.building_x0, 0, s->yard.building_x1, s->yard.building_tall_m, s->yard.fence_z,
                    COLOUR(0, 0, 0));
    memcpy(s->wall, c->map, n_px);
    c->id = 0;
    yard_set_draw(&s->yard, c, s->glow);
    *ret_yard = s;
    return 0;
fail:
    scene_yard_close(s);
    return rc;
}

void scene_yard_close(struct scene_yard *s)
{
    if (!s)
        return;
    scene_lens_close(s->lens);
    canvas_release(&s->canvas);
    free(s->background);
    free(s->glow);
    free(s->glow_now);
    free(s->wall);
    free(s->shown);
    free(s->behind);
    free(s->before);
    free(s->behind_id);
    free(s->before_id);
    free(s);
}

/* ---- drawing -------------------------------------------------------------------------------------------------------------- */

/* Where an actor may draw: the outline of a generous block around it. */
static struct area actor_area(const struct scene_yard *s, const struct yard_actor *a)
{
    static const double wide_m[SCENE_N_TYPES] = {1.5, 3.2, 3.8, 1.6, 1.6, 1.2, 1.2, 2.2, 6.0};
    static const double tall_m[SCENE_N_TYPES] = {2.4, 2.2, 3.0, 1.5, 2.2, 1.2, 1.2, 5.0, 9.0};
    double r = wide_m[a->type] * fmax(a->size, 1), x0 = 1e9, y0 = 1e9, x1 = -1e9, y1 = -1e9;
    for (int i = 0; i < 8; i++) {
        struct vec p = {a->at.x + (i & 1 ? r : -r), a->at.y + (i & 2 ? tall_m[a->type] * fmax(a->size, 1) : -1.0),
                        fmax(a->at.z + (i & 4 ? r : -r), 1)};
        struct point q = scene_view_project(&s->yard.view, p);
        x0 = fmin(x0, q.x);
        x1 = fmax(x1, q.x);
        y0 = fmin(y0, q.y);
        y1 = fmax(y1, q.y);
    }
    double w = s->canvas.width_px, h = s->canvas.height_px;
    return (struct area){(int)fmin(fmax(x0, 0), w), (int)fmin(fmax(y0, 0), h), (int)fmin(fmax(x1 + 1, 0), w),
                         (int)fmin(fmax(y1 + 1, 0), h)};
}

/* The canvas of what is behind things: no map, so that nothing is recorded. */
static struct canvas canvas_behind(const struct scene_yard *s)
{
    struct canvas c = s->canvas;
    c.rgb = s->behind;
    c.stride_bytes = (size_t)c.width_px * 3;
    c.map = NULL;
    return c;
}

static void actor_draw(struct scene_yard *s, const struct yard_actor *a, const struct yard_sky *sky, int id,
                       struct yard_trace *ret_trace)
{
    struct canvas *c = &s->canvas;
    size_t w = (size_t)c->width_px;
    struct area area = actor_area(s, a);
    size_t n_bytes = area.x1 > area.x0 ? (size_t)(area.x1 - area.x0) * 3 : 0;
    for (int y = area.y0; y < area.y1; y++) {
        size_t at = (size_t)area.x0 * 3;
        memcpy(s->before + (size_t)y * w * 3 + at, c->rgb + (size_t)y * c->stride_bytes + at, n_bytes);
        memcpy(s->before_id + (size_t)y * w + at / 3, c->map + (size_t)y * w + at / 3, n_bytes / 3);
    }
    c->id = (uint8_t)id;
    *ret_trace = (struct yard_trace){0};
    yard_actor_draw(&s->yard, c, a, sky, ret_trace);
    c->id = 0;
    if (scene_class_of(a->type) == SCENE_CLASS_HAZARDS) { /* half transparent: it dims what is seen through it */
        struct canvas under = canvas_behind(s);
        struct yard_trace none = {0};
        yard_actor_draw(&s->yard, &under, a, sky, &none);
    }
    for (int y = area.y0; y < area.y1; y++) {
        for (int x = area.x0; x < area.x1; x++) {
            size_t at = (size_t)y * w + (size_t)x;
            if (c->map[at] != id)
                continue;
            memcpy(s->behind + at * 3, s->before + at * 3, 3);
            s->behind_id[at] = s->before_id[at];
        }
    }
}

/* The building again, over what drives or walks behind it and over shadows that would lie behind its wall. */
static void wall_draw(struct scene_yard *s)
{
    struct canvas *c = &s->canvas;
    size_t w = (size_t)c->width_px;
    for (int y = 0; y < c->height_px; y++) {
        const uint8_t *wall = s->wall + (size_t)y * w;
        uint8_t *map = c->map + (size_t)y * w;
        for (size_t x = 0; x < w; x++) {
            if (!wall[x])
                continue;
            memcpy(c->rgb + (size_t)y * c->stride_bytes + x * 3, s->background + ((size_t)y * w + x) * 3, 3);
            map[x] = 0;
        }
    }
}

/* Actors from <= i < to of the order, which is from far to near, and at its place among them a lamp that stands at depth lamp_z. Thing i has id i + 1. */
static void actors_draw(struct scene_yard *s, const struct yard_moment *m, const int *order, int from, int to, double lamp_z,
                        void (*draw_lamp)(const struct yard *, struct canvas *), struct yard_trace *ret_traces)
{
    bool has_lamp = false;
    for (int i = from; i <= to; i++) {
        if (!has_lamp && (i == to || m->actor[order[i]].at.z < lamp_z)) {
            struct canvas under = canvas_behind(s);
            draw_lamp(&s->yard, &s->canvas);
            draw_lamp(&s->yard, &under);
            has_lamp = true;
        }
        if (i < to)
            actor_draw(s, &m->actor[order[i]], &m->sky, order[i] + 1, &ret_traces[order[i]]);
    }
}

/* Everything, from far to near. */
static void moment_draw(struct scene_yard *s, const struct yard_moment *m, struct yard_trace *ret_traces)
{
    struct canvas *c = &s->canvas;
    int order[SCENE_MAX_THINGS] = {0}, n = m->n_actors;
    for (int k = 0; k < n; k++) {
        int at = k;
        for (; at > 0 && m->actor[order[at - 1]].at.z < m->actor[k].at.z; at--)
            order[at] = order[at - 1];
        order[at] = k;
    }
    /* shadows lie on the ground: below all that stands on it */
    for (int k = 0; k < n; k++)
        yard_actor_draw_shadow(&s->yard, c, &m->actor[order[k]], &m->sky);
    int n_outside = 0;
    while (n_outside < n && m->actor[order[n_outside]].at.z > s->yard.fence_z)
        n_outside++;
    actors_draw(s, m, order, 0, n_outside, yard_set_street_lamp(&s->yard).z, yard_set_draw_street_lamp, ret_traces);
    if (n > 0)
        wall_draw(s);
    if (m->dock_open > 0)
        yard_set_draw_dock(&s->yard, c, m->dock_open);
    yard_set_draw_fence(&s->yard, c, m->gate_open);
    if (n_outside > 0) {
        struct canvas under = canvas_behind(s);
        yard_set_draw_fence(&s->yard, &under, m->gate_open);
    }
    actors_draw(s, m, order, n_outside, n, s->yard.lamp_post.z, yard_set_draw_post, ret_traces);
}

/* ---- truth ---------------------------------------------------------------------------------------------------------------- */

/* Count each thing's pixels, its box, and its sum of differences from what is behind it. */
static void things_measure(const struct scene_yard *s, const uint8_t emit[256], int n, struct scene_thing *things)
{
    int w = s->canvas.width_px, h = s->canvas.height_px;
    uint64_t sum[SCENE_MAX_THINGS] = {0};
    for (int i = 0; i < n; i++)
        things[i] = (struct scene_thing){.x0_px = w, .y0_px = h};
    for (int y = 0; y < h; y++) {
        size_t row = (size_t)y * (size_t)w;
        for (int x = 0; x < w; x++) {
            uint8_t id = s->canvas.map[row + (size_t)x];
            if (!id)
                continue;
            struct scene_thing *g = &things[id - 1];
            g->seen_px++;
            g->x0_px = x < g->x0_px ? x : g->x0_px;
            g->x1_px = x + 1 > g->x1_px ? x + 1 : g->x1_px;
            g->y0_px = y < g->y0_px ? y : g->y0_px;
            g->y1_px = y + 1;
            size_t at = row + (size_t)x;
            uint8_t shown[3], behind[3], behind_id = s->behind_id[at];
            scene_lens_look(s->lens, x, y, s->glow_now[at], id, emit[id], s->shown + at * 3, shown);
            scene_lens_look(s->lens, x, y, s->glow_now[at], behind_id, emit[behind_id], s->behind + at * 3, behind);
            for (int k = 0; k < 3; k++)
                sum[id - 1] += (uint64_t)abs(shown[k] - behind[k]);
        }
    }
    for (int i = 0; i < n; i++)
        things[i].contrast = things[i].seen_px ? (double)sum[i] / (3.0 * things[i].seen_px) : 0;
}

static bool thing_counts(const struct scene_thing *g, int width_px, int height_px)
{
    double least = fmax(SCENE_MIN_SHARE * width_px * height_px, SCENE_MIN_PX);
    if (scene_class_of(g->type) == SCENE_CLASS_HAZARDS)
        return g->seen_px >= 2 * least && g->contrast >= SCENE_MIN_CONTRAST;
    return g->seen_px >= least && g->visible >= SCENE_MIN_VISIBLE && g->contrast >= SCENE_MIN_CONTRAST;
}

static enum scene_hazard truth_hazard(const struct scene_truth *truth)
{
    bool is_there[SCENE_N_HAZARDS] = {false};
    for (int i = 0; i < truth->n_things; i++) {
        const struct scene_thing *g = &truth->thing[i];
        is_there[SCENE_HAZARD_FIRE] |= g->type == SCENE_FIRE;
        is_there[SCENE_HAZARD_SMOKE] |= g->type == SCENE_SMOKE;
        is_there[SCENE_HAZARD_PERSON_DOWN] |= g->pose == SCENE_LYING;
    }
    is_there[SCENE_HAZARD_BLOCKED] = scene_truth_is_lane_blocked(truth);
    static const enum scene_hazard order[] = {SCENE_HAZARD_FIRE, SCENE_HAZARD_PERSON_DOWN, SCENE_HAZARD_SMOKE,
                                              SCENE_HAZARD_BLOCKED};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        if (is_there[order[i]])
            return order[i];
    return SCENE_NO_HAZARD;
}

static void truth_fill(const struct scene_yard *s, const struct yard_moment *m, uint64_t i_frame, const uint8_t emit[256],
                       const struct yard_trace *traces, struct scene_truth *truth)
{
    int w = s->canvas.width_px, h = s->canvas.height_px;
    *truth = (struct scene_truth){
        .scene = scene_yard.name,
        .i_frame = i_frame,
        .t_s = m->t_s,
        .width_px = w,
        .height_px = h,
        .light = m->sky.day > DAY_LIGHT     ? SCENE_DAY
                 : m->sky.day < NIGHT_LIGHT ? SCENE_NIGHT
                                            : SCENE_DUSK,
        .weather = m->sky.rain > RAIN ? SCENE_RAIN
                   : m->sky.fog > FOG ? SCENE_FOG
                                      : SCENE_CLEAR,
        .has_gate = s->has_gate,
        .has_dock = s->has_dock,
        .is_gate_open = s->has_gate && m->gate_open >= 0.5,
        .is_dock_open = s->has_dock && m->dock_open >= 0.5,
    };
    for (int i = 0; i < s->yard.n_bays; i++) {
        truth->n_bays += s->has_bay[i];
        truth->n_bays_free += s->has_bay[i] && !m->is_bay_taken[i];
    }
    struct scene_thing things[SCENE_MAX_THINGS];
    things_measure(s, emit, m->n_actors, things);
    for (int i = 0; i < m->n_actors; i++) {
        const struct yard_actor *a = &m->actor[i];
        struct scene_thing g = things[i];
        g.type = a->type;
        g.colour = a->colour;
        g.pose = a->pose;
        g.id = a->id;
        g.place = yard_place(&s->yard, a->type, a->at);
        g.visible = traces[i].full_px > 0 ? fmin(g.seen_px / traces[i].full_px, 1) : 0;
        if (!thing_counts(&g, w, h))
            continue;
        int at = truth->n_things++;
        for (; at > 0; at--) {
            const struct scene_thing *left = &truth->thing[at - 1];
            if (left->x0_px + left->x1_px <= g.x0_px + g.x1_px)
                break;
            truth->thing[at] = *left;
        }
        truth->thing[at] = g;
        enum scene_class class = scene_class_of(g.type);
        truth->people += class == SCENE_CLASS_PEOPLE;
        truth->vehicles += class == SCENE_CLASS_VEHICLES;
        truth->animals += class == SCENE_CLASS_ANIMALS;
    }
    truth->hazard = truth_hazard(truth);
}

void scene_yard_draw(struct scene_yard *s, const struct yard_moment *m, uint64_t i_frame, uint8_t *rgb, size_t stride_bytes,
                     struct scene_truth *ret_truth)
{
    struct canvas *c = &s->canvas;
    size_t w = (size_t)c->width_px, h = (size_t)c->height_px;
    assert(m->n_actors <= SCENE_MAX_THINGS);
    for (size_t y = 0; y < h; y++)
        memcpy(rgb + y * stride_bytes, s->background + y * w * 3, w * 3);
    memset(c->map, 0, w * h);
    c->rgb = rgb;
    c->stride_bytes = stride_bytes;
    c->id = 0;
    struct yard_trace traces[SCENE_MAX_THINGS];
    moment_draw(s, m, traces);
    memcpy(s->glow_now, s->glow, w * h);
    float depth_m[256] = {0};
    uint8_t emit[256] = {0};
    for (int i = 0; i < m->n_actors; i++) {
        const struct yard_actor *a = &m->actor[i];
        depth_m[i + 1] = (float)scene_view_depth(&s->yard.view, a->at);
        emit[i + 1] = a->type == SCENE_FIRE ? 255 : a->type == SCENE_SMOKE ? SMOKE_EMIT : 0;
        if (a->has_lights || a->type == SCENE_FIRE)
            yard_actor_glow(&s->yard, a, &m->sky, (int)w, (int)h, s->glow_now);
    }
    if (ret_truth)
        for (size_t y = 0; y < h; y++)
            memcpy(s->shown + y * w * 3, rgb + y * stride_bytes, w * 3);
    scene_lens_apply(s->lens, &m->sky, i_frame, s->glow_now, c->map, depth_m, emit, rgb, stride_bytes);
    if (ret_truth)
        truth_fill(s, m, i_frame, emit, traces, ret_truth);
}

/* ---- as a scene ----------------------------------------------------------------------------------------------------------- */

static int kind_open(uint64_t seed, int width_px, int height_px, void **ret_state, struct err *err)
{
    struct scene_yard *s = NULL;
    int rc = scene_yard_open(seed, width_px, height_px, &s, err);
    if (!rc)
        *ret_state = s;
    return rc;
}

static void kind_close(void *state)
{
    scene_yard_close(state);
}

static void kind_draw(void *state, uint64_t i_frame, double t_s, uint8_t *rgb, size_t stride_bytes,
                      struct scene_truth *ret_truth)
{
    struct scene_yard *s = state;
    struct yard_moment moment;
    yard_at(&s->yard, t_s, &moment);
    scene_yard_draw(s, &moment, i_frame, rgb, stride_bytes, ret_truth);
}

const struct scene_kind scene_yard = {
    .name = "yard",
    .open = kind_open,
    .close = kind_close,
    .draw = kind_draw,
};
