/* yard_world - the scene `yard`'s layout by seed, its day and weather, and who is where at a moment. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "pipeline/yard.h"
#include "pipeline/yard_plan.h"
#include "pipeline/yard_traffic.h"

#define ENDS_S    0x1p40 /* 34,000 years: then the world begins anew; up to there doubles are exact to the millisecond */
#define DAY_S     1200.0 /* one turn of the sun */
#define WEATHER_S 170.0
#define TURN_S    14.0 /* how long weather takes to change */

enum { OF_LAYOUT = 0x10, OF_SKY = 0x20, OF_CLOTHES = 0x30, OF_COAT = 0x40, OF_FLIGHT = 0x50, OF_GATE = 0x60 };

/* Ids: vehicles have theirs from their timetable, below 0x1000 within each round; these follow. */
enum { ID_PERSON = 0x800, ID_DOG = 0x900, ID_BIRD = 0x910, ID_FLIGHT = 0x920, ID_INCIDENT = 0x930, ID_OBJECT = 0x940 };

static double span_at(const struct yard *y, uint64_t i, double from, double to)
{
    return from + (to - from) * yard_draw_at(y, OF_LAYOUT, 0, i);
}

void yard_init(struct yard *y, uint64_t seed, int width_px, int height_px)
{
    memset(y, 0, sizeof *y);
    y->seed = seed;
    scene_view_init(&y->view, width_px, height_px, span_at(y, 0, 4.9, 5.5), span_at(y, 1, 11, 13), span_at(y, 2, -2, 2),
                    span_at(y, 3, 0, 1) < 0.5);
    y->fence_z = 26;
    y->building_x0 = -16;
    y->building_x1 = 5.5;
    y->building_tall_m = 6.5 + span_at(y, 4, -0.4, 0.4);
    double shift = span_at(y, 5, -0.4, 0.4);
    y->dock_x0 = -9.5 + shift;
    y->dock_x1 = -4.5 + shift;
    y->dock_tall_m = 4;
    shift = span_at(y, 6, -0.15, 0.15);
    y->door_x0 = 1.2 + shift;
    y->door_x1 = 2.6 + shift;
    y->gate_x0 = 7.5;
    y->gate_x1 = 12.3;
    y->road_z0 = 33;
    y->road_z1 = 39;
    y->fire_lane = (struct yard_rect){-0.6 + shift, 21.6, 4.4 + shift, 26};
    y->n_bays = span_at(y, 7, 0, 1) < 0.5 ? 3 : 4;
    y->bay_x = -6.2 + span_at(y, 8, -0.2, 0.2);
    y->bay_pitch_m = 2.9;
    y->bay_z0 = 13;
    y->bay_z1 = 18;
    y->lane_z = 19.6;
    y->lamp_post = (struct vec){6.2 + span_at(y, 9, -0.5, 0.5), 0, 16.5 + span_at(y, 10, -0.5, 0.5)};
    y->wall_look = (int)span_at(y, 11, 0, 4);
    y->door_look = (int)span_at(y, 12, 0, 4);
    y->tree_look = (int)span_at(y, 13, 0, 4);
    y->phase_s = span_at(y, 14, 1000, 100000);
    y->day_phase = span_at(y, 15, 0, 1);
}

/* ---- sky ------------------------------------------------------------------------------------------------------------------ */

static double smooth(double from, double to, double v)
{
    double t = fmin(fmax((v - from) / (to - from), 0), 1);
    return t * t * (3 - 2 * t);
}

/* How strong a kind of weather is, drawn per round: kind 1 rain, 2 fog. */
static double weather_at(const struct yard *y, double now_s, int kind)
{
    uint64_t round = (uint64_t)(now_s / WEATHER_S);
    double u = yard_draw_at(y, OF_SKY, round, 0), tau = now_s - (double)round * WEATHER_S;
    int is_kind = u < 0.20 ? 1 : u < 0.29 ? 2 : 0;
    if (is_kind != kind)
        return 0;
    double u_most = yard_draw_at(y, OF_SKY, round, 1);
    /* fog leaves about half of the contrast at the fence */
    double most = kind == 1 ? 0.65 + 0.35 * u_most : 0.38 + 0.14 * u_most;
    return most * smooth(0, TURN_S, tau) * smooth(0, TURN_S, WEATHER_S - tau);
}

static void yard_sky_at(const struct yard *y, double t_s, struct yard_sky *s)
{
    double now_s = fmax(t_s + y->phase_s, 0), turn = t_s / DAY_S + y->day_phase, noon = turn - floor(turn) - 0.5;
    double from_noon = fabs(noon);
    s->day = 1 - smooth(0.19, 0.40, from_noon);
    s->dusk = fmin(4 * s->day * (1 - s->day) * 1.1, 1);
    s->sun = fmin(fmax(noon / 0.33 * 0.25, -0.25), 0.25);
    s->rain = weather_at(y, now_s, 1);
    s->fog = weather_at(y, now_s, 2);
    s->wind = 0.6 * draw_sin(now_s / 97) + 0.4 * draw_sin(now_s / 41);
    s->exposure = 1 + 0.05 * draw_sin(now_s / 131) + 0.03 * draw_sin(now_s / 57);
}

/* ---- people, animals, things ---------------------------------------------------------------------------------------------- */

/* The most that can be there at once: each incident and each object with who brings it and who takes it away; the dog and two birds. */
_Static_assert(YARD_MAX_TRAFFIC + 2 * YARD_STAGE_NOW * 3 + YARD_N_PEOPLE + 3 <= SCENE_MAX_THINGS, "room for all actors");

static struct yard_actor *actor_new(struct yard_moment *m)
{
    assert(m->n_actors < SCENE_MAX_THINGS);
    return &m->actor[m->n_actors];
}

static int id_of(int base, uint64_t round)
{
    return 1 + base + (int)(round & 0x3fff) * 0x1000;
}

static enum scene_colour clothes(uint64_t look)
{
    static const enum scene_colour colours[] = {SCENE_RED,   SCENE_BLUE,  SCENE_GREEN, SCENE_YELLOW,
                                                SCENE_WHITE, SCENE_BLACK, SCENE_VEST};
    uint64_t u = rng_at(look, OF_CLOTHES) % 100;
    return u < 20 ? SCENE_VEST : colours[(u - 20) * 6 / 80];
}

static void person_add(const struct yard *y, const struct yard_walk *w, double now_s, int id, struct yard_moment *m)
{
    struct yard_actor *a = actor_new(m);
    m->gate_open = fmax(m->gate_open, yard_walk_gate(y, w, now_s));
    struct yard_actor at = {0};
    if (!yard_walk_at(w, now_s, 1.5, &at))
        return;
    at.type = SCENE_PERSON;
    at.colour = clothes(w->look);
    at.id = id;
    *a = at;
    m->n_actors++;
}

static void vehicles_add(const struct yard *y, double now_s, struct yard_moment *m)
{
    for (int i = 0; i < yard_traffic_count(y); i++) {
        struct yard_vehicle v;
        yard_traffic_get(y, i, now_s, &v);
        m->gate_open = fmax(m->gate_open, v.gate_open);
        struct yard_actor *a = actor_new(m);
        if (!v.is_there)
            continue;
        v.actor.has_lights = v.is_moving && (m->sky.day < 0.7 || m->sky.fog > 0.3 || m->sky.rain > 0.3);
        double bay_x = y->bay_x + i * y->bay_pitch_m;
        if (i < y->n_bays && v.actor.at.z < y->bay_z1 + 1.6 && fabs(v.actor.at.x - bay_x) < 2)
            m->is_bay_taken[i] = true;
        *a = v.actor;
        m->n_actors++;
    }
}

static void incident_add(const struct yard *y, const struct yard_incident *n, double now_s, int id, struct yard_moment *m)
{
    if (n->hazard == SCENE_NO_HAZARD)
        return;
    bool is_now = now_s >= n->from_s && now_s < n->to_s;
    if (n->hazard == SCENE_HAZARD_PERSON_DOWN) {
        int before = m->n_actors;
        person_add(y, &n->walk, now_s, id, m);
        if (is_now && m->n_actors > before) {
            struct yard_actor *a = &m->actor[before];
            a->pose = SCENE_LYING;
            a->phase = 0;
        }
        return;
    }
    if (n->hazard == SCENE_HAZARD_BLOCKED) {
        person_add(y, &n->walk, now_s, id + 1, m);
        person_add(y, &n->fetcher, now_s, id + 2, m);
    }
    struct yard_actor *a = actor_new(m);
    if (!is_now)
        return;
    double turn = (double)(n->look & 0xffff) / 65536;
    *a = (struct yard_actor){.type = n->type, .colour = n->colour, .id = id, .at = n->at, .size = 1, .look = n->look};
    a->dx = draw_cos(turn);
    a->dz = draw_sin(turn);
    if (n->hazard != SCENE_HAZARD_BLOCKED) {
        a->type = n->hazard == SCENE_HAZARD_FIRE ? SCENE_FIRE : SCENE_SMOKE;
        a->phase = now_s - n->from_s;
        a->size = n->size * (0.6 + 0.4 * smooth(0, 3, now_s - n->from_s)) * (0.6 + 0.4 * smooth(0, 2, n->to_s - now_s));
    }
    m->n_actors++;
}

/* Across the yard in the air, or down to where it walks and up from there. */
static void bird_fly(struct yard_actor *a, double now_s, struct vec at, double dx, double dz)
{
    a->at = at;
    a->dx = dx;
    a->dz = dz;
    a->pose = SCENE_FLYING;
    a->phase = now_s * 2.2 - floor(now_s * 2.2 / 4096) * 4096;
}

static void animals_add(const struct yard *y, const struct yard_stage *g, double now_s, struct yard_moment *m)
{
    static const enum scene_colour coats[] = {SCENE_BROWN, SCENE_BLACK, SCENE_WHITE};
    struct yard_walk w;
    uint64_t round;
    yard_plan_dog(g, now_s, &w, &round);
    struct yard_actor *a = actor_new(m), at = {0};
    if (yard_walk_at(&w, now_s, 0.8, &at)) {
        at.type = SCENE_DOG;
        at.colour = coats[rng_at(w.look, OF_COAT) % 3];
        at.id = id_of(ID_DOG, round);
        *a = at;
        m->n_actors++;
    }
    yard_plan_bird(g, now_s, &w, &round);
    a = actor_new(m);
    const double fly_s = 2.6, up_m = 3.4, off_m = 9;
    if (w.is_there && now_s >= w.from_s - fly_s && now_s < w.to_s + fly_s) {
        at = (struct yard_actor){.size = 1, .look = w.look};
        bool is_landing = now_s < w.from_s;
        double at_s = fmin(fmax(now_s, w.from_s), w.to_s - 1e-3);
        yard_walk_at(&w, at_s, 0.5, &at);
        if (is_landing || now_s >= w.to_s) {
            double k = (is_landing ? w.from_s - now_s : now_s - w.to_s) / fly_s, side = at.dx < 0 ? -1 : 1;
            double way = is_landing ? -side : side;
            bird_fly(&at, now_s, (struct vec){at.at.x + way * off_m * k, up_m * k * (2 - k), at.at.z}, side, 0);
        }
        at.type = SCENE_BIRD;
        at.colour = rng_at(w.look, OF_COAT) % 2 ? SCENE_GREY : SCENE_WHITE;
        at.id = id_of(ID_BIRD, round);
        *a = at;
        m->n_actors++;
    }
    /* and one that only passes */
    round = (uint64_t)(now_s / 40);
    double tau = now_s - (double)round * 40 - 10, z = 12 + 8 * yard_draw_at(y, OF_FLIGHT, round, 1);
    double reach = 0.66 * z + 3, s = tau * 5 - reach;
    a = actor_new(m);
    if (yard_draw_at(y, OF_FLIGHT, round, 0) < 0.22 && tau > 0 && s < reach) {
        double side = yard_draw_at(y, OF_FLIGHT, round, 2) < 0.5 ? 1 : -1;
        double up = 2 + 1.6 * yard_draw_at(y, OF_FLIGHT, round, 3) + 0.3 * draw_sin(tau / 3);
        at = (struct yard_actor){.type = SCENE_BIRD, .size = 1, .id = id_of(ID_FLIGHT, round)};
        at.look = rng_at(y->seed ^ OF_FLIGHT, round);
        at.colour = at.look % 2 ? SCENE_GREY : SCENE_WHITE;
        bird_fly(&at, now_s, (struct vec){side * s, up, z}, side, 0);
        *a = at;
        m->n_actors++;
    }
}

void yard_at(const struct yard *y, double t_s, struct yard_moment *m)
{
    *m = (struct yard_moment){.t_s = t_s};
    t_s = fmod(t_s, ENDS_S);
    double now_s = fmax(t_s + y->phase_s, 0);
    yard_sky_at(y, t_s, &m->sky);
    struct yard_stage stage;
    yard_stage_init(&stage, y, now_s);
    vehicles_add(y, now_s, m);
    for (int i = 0; i < YARD_STAGE_NOW; i++) {
        incident_add(y, &stage.incident[i], now_s, id_of(ID_INCIDENT, (uint64_t)(stage.first_window + i)), m);
        incident_add(y, &stage.object[i], now_s, id_of(ID_OBJECT, (uint64_t)(stage.first_object + i)), m);
    }
    for (int i = 0; i < YARD_N_PEOPLE; i++) {
        struct yard_walk w;
        uint64_t round;
        yard_plan_person(&stage, i, now_s, &w, &round);
        person_add(y, &w, now_s, id_of(ID_PERSON + i, round), m);
    }
    animals_add(y, &stage, now_s, m);
    /* at times the gate is left open */
    uint64_t round = (uint64_t)(now_s / 90);
    if (yard_draw_at(y, OF_GATE, round, 0) < 0.15)
        m->gate_open = fmax(m->gate_open, yard_opening(now_s - (double)round * 90, 2, 88, 3));
    m->dock_open = yard_traffic_dock(y, now_s);
}

enum scene_place yard_place(const struct yard *y, enum scene_type type, struct vec p)
{
    bool is_left = type == SCENE_BOX || type == SCENE_BAG, is_vehicle = type == SCENE_CAR || type == SCENE_VAN;
    if (p.x > y->gate_x0 && p.x < y->gate_x1 && fabs(p.z - y->fence_z) < 3)
        return SCENE_AT_GATE;
    if (!is_left && !is_vehicle && p.x > y->door_x0 - 0.7 && p.x < y->door_x1 + 0.7 && p.z > y->fence_z - 2.2 &&
        p.z < y->fence_z + 0.5)
        return SCENE_AT_DOOR;
    const struct yard_rect *lane = &y->fire_lane;
    if ((is_left || is_vehicle) && p.x > lane->x0 && p.x < lane->x1 && p.z > lane->z0 && p.z < lane->z1)
        return SCENE_IN_FIRE_LANE;
    if (p.x > y->dock_x0 - 0.5 && p.x < y->dock_x1 + 0.5 && p.z > y->fence_z - 4.4 && p.z < y->fence_z + 1)
        return SCENE_AT_DOCK;
    for (int i = 0; i < y->n_bays; i++)
        if (fabs(p.x - y->bay_x - i * y->bay_pitch_m) < y->bay_pitch_m / 2 && p.z > y->bay_z0 - 0.3 && p.z < y->bay_z1 + 0.3)
            return SCENE_IN_BAY;
    return p.z > y->fence_z + 0.2 ? SCENE_OUTSIDE : SCENE_IN_YARD;
}
