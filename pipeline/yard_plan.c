/* yard_plan - plans of people, animals, objects and incidents, and the rules by which one is refused. */
#include "pipeline/yard_plan.h"

#include <assert.h>
#include <math.h>

#include "base/rng.h"

#define LOOK_S      0.8 /* how often a plan is held against what moves */
#define TRIES       9
#define HIDDEN      0.25 /* share of one that may be hidden */
#define BENEATH_M   0.75 /* nearer to a vehicle than this nobody comes */
#define SMOKE_REACH 1.7  /* metres to the side in which smoke hides */

enum {
    OF_PERSON = 0x1000,
    OF_BUSY = 0x2000,
    OF_DOG = 0x3000,
    OF_BIRD = 0x4000,
    OF_INCIDENT = 0x5000,
    OF_OBJECT = 0x6000,
};

/* Where one comes from and goes to. */
enum end { END_GATE, END_DOOR, END_DOCK, END_LEFT, END_RIGHT };

static double span(struct rng *r, double from, double to)
{
    return from + (to - from) * rng_unit(r);
}

/* ---- what is in the way --------------------------------------------------------------------------------------------------- */

enum trouble { CLEAR, HIDDEN_THERE, IN_THE_WAY };

/* Something tall_m high at (x, z) and a vehicle. */
static enum trouble trouble_with_vehicle(const struct yard *y, const struct yard_vehicle *v, double x, double z, double tall_m)
{
    const struct yard_actor *a = &v->actor;
    double rx = x - a->at.x, rz = z - a->at.z;
    double along = fabs(rx * a->dx + rz * a->dz) - v->half_long_m, side = fabs(rx * a->dz - rz * a->dx) - v->half_wide_m;
    if (along < BENEATH_M && side < BENEATH_M)
        return IN_THE_WAY;
    double lo = 1e9, hi = -1e9, far_z = 0;
    for (int i = 0; i < 4; i++) {
        double u = i & 1 ? v->half_long_m : -v->half_long_m, w = i & 2 ? v->half_wide_m : -v->half_wide_m;
        double cx = a->at.x + a->dx * u - a->dz * w, cz = a->at.z + a->dz * u + a->dx * w;
        lo = fmin(lo, cx / cz);
        hi = fmax(hi, cx / cz);
        far_z = fmax(far_z, cz);
    }
    if (z < a->at.z || (x + 0.3) / z < lo || (x - 0.3) / z > hi)
        return CLEAR;
    double height = y->view.height_m, hidden_m = height - (height - v->tall_m) * z / far_z;
    return hidden_m > HIDDEN * tall_m ? HIDDEN_THERE : CLEAR;
}

static enum trouble trouble_with_incident(const struct yard_incident *n, double now_s, double x, double z)
{
    if (n->hazard == SCENE_NO_HAZARD || now_s < n->from_s - 1 || now_s > n->to_s + 1)
        return CLEAR;
    double dx = x - n->at.x, dz = z - n->at.z, near = n->hazard == SCENE_HAZARD_BLOCKED ? 0.9 : 1.5;
    if (dx * dx + dz * dz < near * near)
        return IN_THE_WAY;
    bool is_high = n->hazard == SCENE_HAZARD_FIRE || n->hazard == SCENE_HAZARD_SMOKE;
    if (is_high && z > n->at.z - 0.3 && fabs(x - n->at.x * z / n->at.z) < SMOKE_REACH * z / n->at.z)
        return HIDDEN_THERE;
    return CLEAR;
}

/* Whether the lamp post stands before it. */
static bool is_behind_post(const struct yard *y, double x, double z)
{
    return z > y->lamp_post.z && fabs(x - y->lamp_post.x * z / y->lamp_post.z) < 0.6;
}

static enum trouble worst(enum trouble a, enum trouble b)
{
    return a > b ? a : b;
}

/* Whether vehicle i, if it stands anywhere, may stand near a place. */
static bool is_near_home(const struct yard *y, int i, double x, double z)
{
    if (i < y->n_bays)
        return fabs(x - y->bay_x - i * y->bay_pitch_m) < 3 && z > y->bay_z0 - 2 && z < y->bay_z1 + 2;
    if (i == y->n_bays)
        return x < y->dock_x1 + 3 && z > y->bay_z1;
    return x > y->fire_lane.x0 - 3 && x < y->fire_lane.x1 + 3 && z > y->bay_z1;
}

/* With vehicles; only with the one that moves and those that may stand near where is_brief. */
static enum trouble trouble_with_traffic(const struct yard *y, double now_s, double x, double z, double tall_m, bool is_brief)
{
    enum trouble sum = CLEAR;
    int slot = (int)((uint64_t)(fmax(now_s, 0) / YARD_SLOT_S) % 8);
    static const int bay_of[8] = {0, -1, 1, -1, -1, 2, -1, 3};
    for (int i = 0; i + 1 < yard_traffic_count(y); i++) { /* the last is on the road */
        bool may_move = i < y->n_bays ? bay_of[slot] == i : i == y->n_bays ? slot == 4 || slot == 6 : slot == 1 || slot == 3;
        if (is_brief && !may_move && !is_near_home(y, i, x, z))
            continue;
        struct yard_vehicle v;
        yard_traffic_get(y, i, now_s, &v);
        if (v.is_there)
            sum = worst(sum, trouble_with_vehicle(y, &v, x, z, tall_m));
    }
    return sum;
}

/* With all; incidents other than `own`. */
static enum trouble trouble_at(const struct yard_stage *g, double now_s, double x, double z, double tall_m, bool is_brief,
                               const struct yard_incident *own)
{
    enum trouble sum = trouble_with_traffic(g->yard, now_s, x, z, tall_m, is_brief);
    for (int i = 0; i < g->n_incidents && sum != IN_THE_WAY; i++)
        if (&g->incident[i] != own)
            sum = worst(sum, trouble_with_incident(&g->incident[i], now_s, x, z));
    for (int i = 0; i < g->n_objects && sum != IN_THE_WAY; i++)
        if (&g->object[i] != own)
            sum = worst(sum, trouble_with_incident(&g->object[i], now_s, x, z));
    return sum;
}

/* ---- walks ---------------------------------------------------------------------------------------------------------------- */

static double walk_in_s(const struct yard_walk *w)
{
    return w->in.len_m / w->mps;
}

bool yard_walk_at(const struct yard_walk *w, double now_s, double gait_m, struct yard_actor *a)
{
    if (!w->is_there || now_s < w->from_s || now_s >= w->to_s)
        return false;
    double tau = now_s - w->from_s, in_s = walk_in_s(w);
    bool is_staying = tau >= in_s && tau < in_s + w->stay_s;
    double s = (tau - in_s - w->stay_s) * w->mps;
    a->size = 1;
    a->look = w->look;
    if (tau < in_s + w->stay_s)
        yard_path_at(&w->in, fmin(tau * w->mps, w->in.len_m), 1.0, &a->at, &a->dx, &a->dz);
    else
        yard_path_at(&w->out, s, 1.0, &a->at, &a->dx, &a->dz);
    /* the corner at the spot itself: from the way in to the way out within a metre */
    a->pose = is_staying ? SCENE_STANDING : SCENE_WALKING;
    a->phase = (tau < in_s ? tau * w->mps : w->in.len_m + fmax(s, 0)) / gait_m;
    if (is_staying) {
        a->dx = w->turn_x;
        a->dz = w->turn_z;
        a->phase = (tau - in_s) * 0.25;
    }
    return true;
}

double yard_walk_gate(const struct yard *y, const struct yard_walk *w, double now_s)
{
    if (!w->is_there || now_s < w->from_s - 10 || now_s > w->to_s + 10)
        return 0;
    double in = yard_path_crosses(&w->in, y->fence_z), out = yard_path_crosses(&w->out, y->fence_z), open = 0;
    if (in >= 0) {
        double at = w->from_s + in / w->mps;
        open = yard_opening(now_s, at - 5.5, at + 5.5, 3);
    }
    if (out >= 0) {
        double at = w->from_s + walk_in_s(w) + w->stay_s + out / w->mps;
        open = fmax(open, yard_opening(now_s, at - 5.5, at + 5.5, 3));
    }
    return open;
}

static double bays_right(const struct yard *y)
{
    return y->bay_x + (y->n_bays - 0.5) * y->bay_pitch_m;
}

/* From outside the picture, or out of a door, to the first place in the open. */
static int end_points(const struct yard *y, enum end end, struct rng *r, double *x, double *z)
{
    double side = end == END_LEFT ? -1 : 1;
    switch (end) {
    case END_GATE:
        /* from behind the building's corner: far off behind the fence nobody is seen well */
        x[0] = y->building_x1 - 1.0, z[0] = y->fence_z + span(r, 2.0, 2.6);
        x[1] = span(r, y->gate_x0 + 0.9, y->gate_x0 + 3), z[1] = z[0] - 0.2;
        x[2] = x[1] - span(r, 0, 0.5), z[2] = y->fence_z - 1.8;
        return 3;
    case END_DOOR:
        x[0] = (y->door_x0 + y->door_x1) / 2, z[0] = y->fence_z - 0.35;
        x[1] = x[0] + span(r, -0.4, 0.4), z[1] = y->fence_z - 1.6;
        return 2;
    case END_DOCK:
        x[0] = span(r, y->dock_x0 + 1.2, y->dock_x1 - 1.2), z[0] = y->fence_z - 0.35;
        x[1] = x[0] + span(r, -0.4, 0.4), z[1] = y->fence_z - 1.6;
        return 2;
    default:
        z[0] = end == END_LEFT ? (rng_unit(r) < 0.6 ? span(r, 10.6, 12.2) : span(r, 19.4, 21.5)) : span(r, 11.5, 20.5);
        x[0] = side * (0.66 * z[0] + 2.0);
        x[1] = side * 0.5 * z[0], z[1] = z[0] + span(r, -0.3, 0.3);
        return 2;
    }
}

/* A walk from one end over a spot to another end. The times are left to the caller. */
static void walk_make(const struct yard *y, struct rng *r, enum end from, enum end to, double x, double z, double stay_s,
                      double mps, struct yard_walk *w)
{
    *w = (struct yard_walk){.is_there = true, .mps = mps, .stay_s = stay_s};
    double right = bays_right(y);
    for (int i = 0; i < 2; i++) {
        struct yard_path *p = i ? &w->out : &w->in;
        enum end end = i ? to : from;
        double ex[3], ez[3];
        int n = end_points(y, end, r, ex, ez);
        /* around the bays where spot and end lie on different sides of them */
        bool is_far_end = ez[n - 1] > y->bay_z1 && ex[n - 1] < 16, is_near = z < y->bay_z0 && x < right + 1;
        bool is_around = is_far_end && is_near && rng_unit(r) < 0.85;
        double vx = span(r, right + 1.2, fmax(right + 1.6, 0.45 * y->bay_z1)), vz = span(r, y->bay_z0 + 0.5, y->bay_z1);
        if (i) {
            yard_path_add(p, x, z);
            if (is_around)
                yard_path_add(p, vx, vz);
            for (int k = n - 1; k >= 0; k--)
                yard_path_add(p, ex[k], ez[k]);
        } else {
            for (int k = 0; k < n; k++)
                yard_path_add(p, ex[k], ez[k]);
            if (is_around)
                yard_path_add(p, vx, vz);
            yard_path_add(p, x, z);
        }
    }
    double turn = rng_unit(r);
    w->turn_x = draw_cos(turn);
    w->turn_z = draw_sin(turn);
    w->look = rng_next(r);
}

static double walk_lasts_s(const struct yard_walk *w)
{
    return (w->in.len_m + w->out.len_m) / w->mps + w->stay_s;
}

static void walk_begin(struct yard_walk *w, double from_s)
{
    w->from_s = from_s;
    w->to_s = from_s + walk_lasts_s(w);
}

/* Whether a walk keeps clear of all on its way and is not hidden for long, nor while it stays. */
static bool walk_is_good(const struct yard_stage *g, const struct yard_walk *w, double tall_m, const struct yard_incident *own)
{
    int n = 0, n_hidden = 0, i = 0;
    double stay_s = w->from_s + walk_in_s(w);
    for (double now_s = w->from_s; now_s < w->to_s; now_s += LOOK_S, i++) {
        bool is_staying = now_s > stay_s + LOOK_S && now_s < stay_s + w->stay_s - LOOK_S;
        struct yard_actor a;
        yard_walk_at(w, now_s, 1, &a);
        enum trouble trouble = trouble_at(g, now_s, a.at.x, a.at.z, tall_m, i % 4 != 0, own);
        if (is_staying && is_behind_post(g->yard, a.at.x, a.at.z))
            return false;
        if (trouble == IN_THE_WAY || (trouble == HIDDEN_THERE && is_staying))
            return false;
        n++;
        n_hidden += trouble == HIDDEN_THERE && a.at.z < g->yard->fence_z;
    }
    return n_hidden * 25 <= n;
}

/* ---- people and animals --------------------------------------------------------------------------------------------------- */

static enum end end_draw(const struct yard *y, struct rng *r, double now_s)
{
    double u = rng_unit(r);
    enum end end = u < 0.14 ? END_GATE : u < 0.38 ? END_DOOR : u < 0.52 ? END_DOCK : u < 0.70 ? END_LEFT : END_RIGHT;
    return end == END_DOCK && yard_traffic_dock(y, now_s) < 0.9 ? END_RIGHT : end;
}

/* Where one of the people goes. Each mostly has a part of the yard of its own, so that they seldom stand behind each other. */
static void spot_draw(const struct yard *y, struct rng *r, int i_person, double *ret_x, double *ret_z)
{
    double right = bays_right(y), u = rng_unit(r);
    int part = u < 0.75 ? i_person : (int)rng_below(r, YARD_N_PEOPLE);
    switch (part) {
    case 0: /* at the gate */
        *ret_x = span(r, y->gate_x0 + 0.7, y->gate_x1 - 0.7), *ret_z = span(r, y->fence_z - 1.9, y->fence_z - 0.6);
        break;
    case 1: /* at the emergency exit */
        *ret_x = span(r, y->door_x0 - 0.2, y->door_x1 + 0.2), *ret_z = span(r, y->fence_z - 1.5, y->fence_z - 0.6);
        break;
    case 2: /* at the dock */
        *ret_x = span(r, y->dock_x0 + 0.6, y->dock_x1 - 0.6), *ret_z = span(r, y->fence_z - 1.9, y->fence_z - 0.7);
        break;
    case 3: /* near the camera, to either side of its middle */
        *ret_x = span(r, -5.2, -0.8), *ret_z = span(r, 10.0, 12.1);
        break;
    case 4: *ret_x = span(r, 0.8, 5.2), *ret_z = span(r, 10.0, 12.1); break;
    case 5: /* beside the bays */
        *ret_z = span(r, 13, 17), *ret_x = span(r, fmax(right + 1.3, 0.42 * *ret_z), 0.52 * *ret_z);
        break;
    default: /* between gate and exit */ *ret_z = span(r, 20, 24), *ret_x = span(r, 0.21 * *ret_z, 0.28 * *ret_z); break;
    }
}

/* How busy a stretch of time is: some are quiet, some are not. */
static double busy_at(const struct yard *y, double now_s)
{
    double u = yard_draw_at(y, OF_BUSY, (uint64_t)(now_s / 160), 0);
    return u < 0.28 ? 0.12 : u < 0.72 ? 0.7 : 1.55;
}

void yard_plan_person(const struct yard_stage *g, int i, double now_s, struct yard_walk *ret, uint64_t *ret_round)
{
    const struct yard *y = g->yard;
    uint64_t what = OF_PERSON + (uint64_t)i;
    double base = now_s + YARD_PEOPLE_S * i / YARD_N_PEOPLE;
    uint64_t round = (uint64_t)(base / YARD_PEOPLE_S);
    double begin = now_s - (base - (double)round * YARD_PEOPLE_S);
    struct rng r = {.seed = rng_at(rng_at(y->seed, what), round)};
    *ret_round = round;
    *ret = (struct yard_walk){0};
    if (begin < 0 || rng_unit(&r) >= 0.84 * busy_at(y, begin))
        return;
    for (int k = 0; k < TRIES; k++) {
        struct rng q = {.seed = rng_next(&r)};
        double x, z, when = begin + 5;
        enum end from = end_draw(y, &q, when), to = end_draw(y, &q, begin + 50);
        spot_draw(y, &q, i, &x, &z);
        double stay_s = rng_unit(&q) < 0.6 ? span(&q, 12, 40) : 0;
        walk_make(y, &q, from, to, x, z, stay_s, span(&q, 1.15, 1.5), ret);
        double free_s = YARD_PEOPLE_S - walk_lasts_s(ret);
        if (free_s < 0)
            continue;
        walk_begin(ret, begin + free_s * rng_unit(&q));
        if (walk_is_good(g, ret, 1.75, NULL))
            return;
    }
    ret->is_there = false;
}

void yard_plan_dog(const struct yard_stage *g, double now_s, struct yard_walk *ret, uint64_t *ret_round)
{
    const struct yard *y = g->yard;
    uint64_t round = (uint64_t)(now_s / YARD_DOG_S);
    double begin = (double)round * YARD_DOG_S;
    struct rng r = {.seed = rng_at(rng_at(y->seed, OF_DOG), round)};
    *ret_round = round;
    *ret = (struct yard_walk){0};
    if (rng_unit(&r) >= 0.8)
        return;
    for (int k = 0; k < TRIES; k++) {
        struct rng q = {.seed = rng_next(&r)};
        double x, z, right = bays_right(y);
        if (rng_unit(&q) < 0.5)
            x = span(&q, -5.2, 5.2), z = span(&q, 10.3, 12.1);
        else
            z = span(&q, 12.4, 20), x = span(&q, right + 1.2, 0.5 * z);
        enum end from = rng_unit(&q) < 0.5 ? END_LEFT : END_RIGHT, to = rng_unit(&q) < 0.5 ? END_LEFT : END_RIGHT;
        double stay_s = rng_unit(&q) < 0.7 ? span(&q, 6, 26) : 0;
        walk_make(y, &q, from, to, x, z, stay_s, span(&q, 1.3, 2.2), ret);
        double free_s = YARD_DOG_S - walk_lasts_s(ret);
        if (free_s < 0)
            continue;
        walk_begin(ret, begin + free_s * rng_unit(&q));
        if (walk_is_good(g, ret, 0.7, NULL))
            return;
    }
    ret->is_there = false;
}

void yard_plan_bird(const struct yard_stage *g, double now_s, struct yard_walk *ret, uint64_t *ret_round)
{
    const struct yard *y = g->yard;
    uint64_t round = (uint64_t)(now_s / YARD_BIRD_S);
    double begin = (double)round * YARD_BIRD_S;
    struct rng r = {.seed = rng_at(rng_at(y->seed, OF_BIRD), round)};
    *ret_round = round;
    *ret = (struct yard_walk){0};
    if (rng_unit(&r) >= 0.36)
        return;
    for (int k = 0; k < TRIES; k++) {
        struct rng q = {.seed = rng_next(&r)};
        double x, z, right = bays_right(y);
        if (rng_unit(&q) < 0.45)
            x = span(&q, -5.2, 5.2), z = span(&q, 11, 12.2);
        else
            z = span(&q, 12.4, 18), x = span(&q, right + 1.2, 0.48 * z);
        /* it stalks a few steps, stands, and stalks on */
        *ret = (struct yard_walk){.is_there = true, .mps = 0.45, .stay_s = span(&q, 8, 20)};
        double turn = rng_unit(&q), on = turn + span(&q, -0.15, 0.15), far = span(&q, 1.5, 3.5);
        double side = x > 0 ? 1 : -1, x0 = x - draw_cos(turn) * far, x1 = x + draw_cos(on) * far;
        double z0 = z - 0.4 * draw_sin(turn) * far, z1 = z + 0.4 * draw_sin(on) * far;
        if (fabs(x0) > 0.52 * z0 || fabs(x1) > 0.52 * z1 || z0 < 10.5 || z1 < 10.5)
            continue;
        yard_path_add(&ret->in, x0, z0);
        yard_path_add(&ret->in, x, z);
        yard_path_add(&ret->out, x, z);
        yard_path_add(&ret->out, x1, z1);
        ret->turn_x = rng_unit(&q) < 0.5 ? -side : side;
        ret->look = rng_next(&q);
        double free_s = YARD_BIRD_S - 8 - walk_lasts_s(ret);
        if (free_s < 0)
            continue;
        walk_begin(ret, begin + 4 + free_s * rng_unit(&q));
        if (walk_is_good(g, ret, 0.95, NULL))
            return;
    }
    ret->is_there = false;
}

/* ---- incidents and objects ------------------------------------------------------------------------------------------------ */

/* Whether a walk comes nearer than near_m to a place between from_s and to_s. */
static bool walk_comes_near(const struct yard_walk *w, const struct vec *at, double near_m, double from_s, double to_s)
{
    struct yard_actor a;
    for (double now_s = fmax(w->from_s, from_s); w->is_there && now_s < fmin(w->to_s, to_s); now_s += LOOK_S)
        if (yard_walk_at(w, now_s, 1, &a) &&
            (a.at.x - at->x) * (a.at.x - at->x) + (a.at.z - at->z) * (a.at.z - at->z) < near_m * near_m)
            return true;
    return false;
}

/* Whether one of those who belong to the stage's incidents comes by: their ways are settled before. */
static bool is_passed_by(const struct yard_stage *g, const struct vec *at, double near_m, double from_s, double to_s)
{
    for (int i = 0; i < g->n_incidents; i++)
        if (walk_comes_near(&g->incident[i].walk, at, near_m, from_s, to_s) ||
            walk_comes_near(&g->incident[i].fetcher, at, near_m, from_s, to_s))
            return true;
    return false;
}

/* Whether something tall_m high can be seen at a place, and nothing drives there, from from_s to to_s. */
static bool place_is_good(const struct yard_stage *g, const struct vec *at, double tall_m, double from_s, double to_s,
                          const struct yard_incident *own)
{
    int i = 0;
    if (is_behind_post(g->yard, at->x, at->z) || is_passed_by(g, at, 1.5, from_s, to_s))
        return false;
    for (double now_s = from_s; now_s < to_s; now_s += LOOK_S, i++)
        if (trouble_at(g, now_s, at->x, at->z, tall_m, i % 6 != 0, own) != CLEAR)
            return false;
    return true;
}

/* Somebody brings an object at n->from_s and somebody takes it away at n->to_s. */
static bool object_walks(const struct yard_stage *g, struct rng *r, struct yard_incident *n, double first_s, double last_s)
{
    const struct yard *y = g->yard;
    double step = n->at.x > 0 ? -0.7 : 0.7;
    for (int i = 0; i < 2; i++) {
        struct yard_walk *w = i ? &n->fetcher : &n->walk;
        double now_s = i ? n->to_s : n->from_s;
        int k = 0;
        for (; k < TRIES; k++) {
            struct rng q = {.seed = rng_next(r)};
            enum end from = end_draw(y, &q, now_s - 10), to = end_draw(y, &q, now_s + 10);
            walk_make(y, &q, from, to, n->at.x + step, n->at.z + 0.5, 3, span(&q, 1.2, 1.5), w);
            w->turn_x = step > 0 ? -1 : 1;
            w->turn_z = 0;
            walk_begin(w, now_s - 1.5 - walk_in_s(w));
            if (w->from_s >= first_s && w->to_s <= last_s && walk_is_good(g, w, 1.75, n))
                break;
        }
        if (k == TRIES)
            return false;
    }
    return true;
}

static void object_look(struct rng *r, struct yard_incident *n)
{
    static const enum scene_colour bags[] = {SCENE_BLACK, SCENE_RED, SCENE_BLUE};
    n->type = rng_unit(r) < 0.5 ? SCENE_BOX : SCENE_BAG;
    n->colour = n->type == SCENE_BOX ? SCENE_BROWN : bags[rng_below(r, 3)];
    n->look = rng_next(r);
}

static bool incident_fire(const struct yard_stage *g, struct rng *r, struct yard_incident *n)
{
    const struct yard *y = g->yard;
    double u = rng_unit(r), right = bays_right(y);
    bool is_smoke = n->hazard == SCENE_HAZARD_SMOKE;
    n->size = is_smoke ? span(r, 1.0, 1.3) : span(r, 0.9, 1.25);
    if (u < 0.25 && !is_smoke) { /* at a parked car's engine */
        struct yard_vehicle v, then;
        int i_bay = (int)rng_below(r, (uint64_t)y->n_bays);
        yard_traffic_get(y, i_bay, n->from_s, &v);
        yard_traffic_get(y, i_bay, n->to_s, &then);
        if (!v.is_there || v.is_moving || !v.is_nose_near || !then.is_there || then.is_moving || then.actor.id != v.actor.id)
            return false;
        n->at = (struct vec){v.actor.at.x, 0, v.actor.at.z - v.half_long_m - 0.35};
        n->size *= 0.85;
        return !is_passed_by(g, &n->at, 1.5, n->from_s, n->to_s);
    }
    if (u < 0.65) /* beside the bays */
        n->at.z = span(r, 13.5, 19), n->at.x = span(r, right + 1.6, 0.48 * n->at.z);
    else if (u < 0.8) /* before the gate's fence */
        n->at.z = span(r, 20, 24), n->at.x = span(r, y->fire_lane.x1 + 0.8, y->gate_x0 + 1);
    else if (!is_smoke || u < 0.87) /* at the wall between dock and exit */
        n->at.z = span(r, 23.6, 24.6), n->at.x = span(r, y->dock_x1 + 0.8, y->fire_lane.x0 - 0.9);
    else if (u < 0.94) /* out of the dock */
        n->at.z = y->fence_z - 0.5, n->at.x = span(r, y->dock_x0 + 1.2, y->dock_x1 - 1.2);
    else /* out of the emergency exit */
        n->at.z = y->fence_z - 0.5, n->at.x = span(r, y->door_x0 + 0.3, y->door_x1 - 0.3);
    return place_is_good(g, &n->at, 2, n->from_s, n->to_s, n);
}

static bool incident_down(const struct yard_stage *g, struct rng *r, struct yard_incident *n)
{
    const struct yard *y = g->yard;
    double x, z, right = bays_right(y);
    /* not far off, where one who lies is a few pixels high */
    if (rng_unit(r) < 0.5)
        x = span(r, -4.8, 4.8), z = span(r, 10.2, 12.0);
    else
        z = span(r, 12.4, 18.5), x = span(r, right + 1.5, 0.48 * z);
    n->at = (struct vec){x, 0, z};
    if (!place_is_good(g, &n->at, 0.5, n->from_s, n->to_s, n))
        return false;
    double mps = span(r, 1.15, 1.4);
    enum end to = end_draw(y, r, n->to_s + 8), from = end_draw(y, r, n->from_s - 8);
    walk_make(y, r, from, to, x, z, n->to_s - n->from_s, mps, &n->walk);
    walk_begin(&n->walk, n->from_s - walk_in_s(&n->walk));
    return walk_is_good(g, &n->walk, 1.75, n);
}

/* The window's incident. The stage holds those that are settled before it. */
static void incident_draw(const struct yard_stage *g, int64_t window, struct yard_incident *n)
{
    const struct yard *y = g->yard;
    /* windows begin with slot 1 of a cycle and half a cycle later */
    double begin = (double)window * YARD_WINDOW_S + YARD_SLOT_S - YARD_WINDOW_S;
    *n = (struct yard_incident){0};
    if (window < 1)
        return;
    bool is_first = (window & 1) == 1;
    uint64_t cycle = (uint64_t)((window + 1) / 2);
    if (is_first && yard_traffic_blocks(y, cycle))
        return; /* a vehicle is this window's incident */
    struct rng r = {.seed = rng_at(rng_at(y->seed, OF_INCIDENT), (uint64_t)window)};
    double u = rng_unit(&r);
    enum scene_hazard hazard = u < 0.16   ? SCENE_HAZARD_FIRE
                               : u < 0.32 ? SCENE_HAZARD_SMOKE
                               : u < 0.57 ? SCENE_HAZARD_PERSON_DOWN
                               : u < 0.66 ? SCENE_HAZARD_BLOCKED
                                          : SCENE_NO_HAZARD;
    for (int k = 0; k < 2 * TRIES && hazard != SCENE_NO_HAZARD; k++) {
        struct rng q = {.seed = rng_next(&r)};
        *n = (struct yard_incident){.hazard = hazard};
        bool is_walked = hazard == SCENE_HAZARD_PERSON_DOWN || hazard == SCENE_HAZARD_BLOCKED;
        double lasts = is_walked ? span(&q, 25, 46) : span(&q, 28, 60), room = is_walked ? 22 : 2;
        n->from_s = begin + room + (YARD_WINDOW_S - 2 * room - lasts) * rng_unit(&q);
        n->to_s = n->from_s + lasts;
        n->look = rng_next(&q);
        bool is_good;
        if (hazard == SCENE_HAZARD_PERSON_DOWN) {
            is_good = incident_down(g, &q, n);
        } else if (hazard == SCENE_HAZARD_BLOCKED) {
            n->at.x = span(&q, 1.2, y->n_bays < 4 ? 3.9 : 1.7);
            n->at.z = span(&q, y->fire_lane.z0 + 0.7, y->fence_z - 1.9);
            object_look(&q, n);
            n->type = SCENE_BOX; /* a bag would be too small to be told there */
            n->colour = SCENE_BROWN;
            is_good = place_is_good(g, &n->at, 0.6, n->from_s, n->to_s, n) &&
                      object_walks(g, &q, n, begin - 20, begin + YARD_WINDOW_S + 20);
        } else {
            is_good = incident_fire(g, &q, n);
        }
        if (is_good)
            return;
    }
    *n = (struct yard_incident){0};
}

/*
 * Who belongs to an incident may come or go in the window beside it. So windows with odd numbers are settled first, each by itself, and those with even numbers between
 * their two neighbours: what is chosen still depends on the window alone.
 */
static void incident_init(const struct yard *y, int64_t window, struct yard_incident *n)
{
    struct yard_stage before = {.yard = y};
    if ((window & 1) == 0) {
        const struct yard_stage empty = {.yard = y};
        before.n_incidents = 2;
        incident_draw(&empty, window - 1, &before.incident[0]);
        incident_draw(&empty, window + 1, &before.incident[1]);
    }
    incident_draw(&before, window, n);
}

static int64_t window_at(double now_s)
{
    return (int64_t)floor((now_s - YARD_SLOT_S) / YARD_WINDOW_S) + 1;
}

/* The round's object, kept clear of all incidents of its time. */
static void object_init(const struct yard *y, int64_t round, struct yard_incident *n)
{
    double begin = (double)round * YARD_OBJECT_S, right = bays_right(y);
    *n = (struct yard_incident){0};
    struct rng r = {.seed = rng_at(rng_at(y->seed, OF_OBJECT), (uint64_t)round)};
    if (round < 0 || rng_unit(&r) >= 0.36)
        return;
    struct yard_stage stage = {.yard = y};
    const struct yard_stage *g = &stage;
    /* one window more on both sides: for those who come and go */
    for (int64_t w = window_at(begin) - 1, last = window_at(begin + YARD_OBJECT_S) + 1; w <= last; w++) {
        assert(stage.n_incidents < YARD_STAGE_INCIDENTS);
        incident_init(y, w, &stage.incident[stage.n_incidents++]);
    }
    for (int k = 0; k < TRIES; k++) {
        struct rng q = {.seed = rng_next(&r)};
        *n = (struct yard_incident){.hazard =
                                        SCENE_HAZARD_BLOCKED}; /* so that it is in the way; where it stands says what it is */
        double lasts = span(&q, 55, 120);
        n->from_s = begin + 30 + (YARD_OBJECT_S - 60 - lasts) * rng_unit(&q);
        n->to_s = n->from_s + lasts;
        if (rng_unit(&q) < 0.5)
            n->at.x = span(&q, -5.4, 5.4), n->at.z = span(&q, 10.2, 12.0);
        else
            n->at.z = span(&q, 12.4, 18), n->at.x = span(&q, right + 1.0, 0.5 * n->at.z);
        object_look(&q, n);
        if (place_is_good(g, &n->at, 0.6, n->from_s, n->to_s, n) && object_walks(g, &q, n, begin, begin + YARD_OBJECT_S))
            return;
    }
    *n = (struct yard_incident){0};
}

void yard_stage_init(struct yard_stage *g, const struct yard *y, double now_s)
{
    *g = (struct yard_stage){.yard = y, .n_incidents = YARD_STAGE_NOW, .n_objects = YARD_STAGE_NOW};
    g->first_window = window_at(now_s) - 1;
    g->first_object = (int64_t)floor(now_s / YARD_OBJECT_S) - 1;
    for (int i = 0; i < YARD_STAGE_NOW; i++) {
        incident_init(y, g->first_window + i, &g->incident[i]);
        object_init(y, g->first_object + i, &g->object[i]);
    }
}
