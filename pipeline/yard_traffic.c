/* yard_traffic - the timetable of vehicles: bays, the dock's van, the one in the fire lane, the road. */
#include "pipeline/yard_traffic.h"

#include <assert.h>
#include <math.h>

#include "base/rng.h"

#define DRIVE_MPS    5.0
#define REVERSE_MPS  1.9
#define PASS_MPS     8.0
#define TURN_M       2.6 /* corners are rounded over this length */
#define ROAD_END_M   31.0
#define BRAKE_S      2.0
#define OCCUPIED     0.51
#define LOOK_BACK    24 /* cycles; one that stays longer (one in ten millions) takes another's looks in its bay */
#define DOCK_SHARE   0.5
#define PASS_SHARE   0.3
#define GATE_MOVE_S  3.0
#define GATE_AHEAD_S 4.5
#define GATE_AFTER_S 7.0

/* Streams of random numbers. */
enum { OF_BAY = 0x100, OF_DOCK = 0x200, OF_LANE = 0x300, OF_ROAD = 0x400, OF_DOOR = 0x500 };

double yard_draw_at(const struct yard *y, uint64_t what, uint64_t round, uint64_t i)
{
    struct rng r = {.seed = rng_at(rng_at(y->seed, what), round), .counter = i};
    return rng_unit(&r);
}

double yard_opening(double now_s, double open_s, double shut_s, double move_s)
{
    double up = (now_s - open_s) / move_s, down = (shut_s - now_s) / move_s;
    return fmin(fmax(fmin(up, down), 0), 1);
}

/* ---- paths ---------------------------------------------------------------------------------------------------------------- */

void yard_path_add(struct yard_path *p, double x, double z)
{
    assert(p->n < YARD_PATH_POINTS);
    if (p->n > 0) {
        double dx = x - p->x[p->n - 1], dz = z - p->z[p->n - 1];
        double d = sqrt(dx * dx + dz * dz);
        if (d < 0.05)
            return;
        p->len_m += d;
    }
    p->x[p->n] = x;
    p->z[p->n] = z;
    p->n++;
}

static void path_point(const struct yard_path *p, double s, double *ret_x, double *ret_z)
{
    int i = 0;
    double d = 0, dx = 0, dz = 0;
    for (; i + 1 < p->n; i++) {
        dx = p->x[i + 1] - p->x[i];
        dz = p->z[i + 1] - p->z[i];
        d = sqrt(dx * dx + dz * dz);
        if (s <= d || i + 2 == p->n)
            break;
        s -= d;
    }
    double k = d > 0 ? s / d : 0;
    *ret_x = p->x[i] + dx * k;
    *ret_z = p->z[i] + dz * k;
}

void yard_path_at(const struct yard_path *p, double s, double reach_m, struct vec *ret_at, double *ret_dx, double *ret_dz)
{
    double x[5], z[5], sx = 0, sz = 0;
    for (int i = 0; i < 5; i++) {
        path_point(p, s + (i - 2) * 0.5 * reach_m, &x[i], &z[i]);
        sx += x[i];
        sz += z[i];
    }
    double dx = x[4] - x[0], dz = z[4] - z[0], d = sqrt(dx * dx + dz * dz);
    *ret_at = (struct vec){sx / 5, 0, sz / 5};
    *ret_dx = d > 1e-9 ? dx / d : 1;
    *ret_dz = d > 1e-9 ? dz / d : 0;
}

double yard_path_crosses(const struct yard_path *p, double z)
{
    double s = 0;
    for (int i = 0; i + 1 < p->n; i++) {
        double dx = p->x[i + 1] - p->x[i], dz = p->z[i + 1] - p->z[i], d = sqrt(dx * dx + dz * dz);
        if ((p->z[i] < z) != (p->z[i + 1] < z))
            return s + d * (z - p->z[i]) / dz;
        s += d;
    }
    return -1;
}

/* ---- trips ---------------------------------------------------------------------------------------------------------------- */

/* One way driven without a stop: from a standstill or at speed, to a standstill or at speed. */
struct leg {
    struct yard_path path;
    double mps;
    bool is_reverse, is_from_stop, is_to_stop;
};

struct trip {
    struct leg leg[2];
    int n;
};

static double leg_lasts_s(const struct leg *g)
{
    return g->path.len_m / g->mps + (g->is_from_stop ? BRAKE_S / 2 : 0) + (g->is_to_stop ? BRAKE_S / 2 : 0);
}

static double leg_driven_m(const struct leg *g, double tau)
{
    double rest = leg_lasts_s(g) - tau;
    if (g->is_from_stop && tau < BRAKE_S)
        return g->mps * tau * tau / (2 * BRAKE_S);
    if (g->is_to_stop && rest < BRAKE_S)
        return g->path.len_m - g->mps * rest * rest / (2 * BRAKE_S);
    return g->mps * (tau - (g->is_from_stop ? BRAKE_S / 2 : 0));
}

static double trip_lasts_s(const struct trip *t)
{
    double sum = 0;
    for (int i = 0; i < t->n; i++)
        sum += leg_lasts_s(&t->leg[i]);
    return sum;
}

/* Seconds until it crosses the gate's line. */
static double trip_gate_s(const struct yard *y, const struct trip *t)
{
    double sum = 0;
    for (int i = 0; i < t->n; i++) {
        double s = yard_path_crosses(&t->leg[i].path, y->fence_z);
        if (s >= 0)
            return sum + s / t->leg[i].mps + (t->leg[i].is_from_stop ? BRAKE_S / 2 : 0);
        sum += leg_lasts_s(&t->leg[i]);
    }
    return sum;
}

static void trip_at(const struct trip *t, double tau, struct yard_actor *a)
{
    int i = 0;
    for (; i + 1 < t->n && tau > leg_lasts_s(&t->leg[i]); i++)
        tau -= leg_lasts_s(&t->leg[i]);
    const struct leg *g = &t->leg[i];
    double s = leg_driven_m(g, fmin(fmax(tau, 0), leg_lasts_s(g)));
    yard_path_at(&g->path, s, TURN_M, &a->at, &a->dx, &a->dz);
    if (g->is_reverse) {
        a->dx = -a->dx;
        a->dz = -a->dz;
        s = -s;
    }
    a->phase = s / 2.0;
}

/* The way along the road, from `side` to before the gate. */
static void path_add_road_in(const struct yard *y, struct yard_path *p, double side)
{
    double gate = (y->gate_x0 + y->gate_x1) / 2, road = y->road_z0 + (side < 0 ? 1.7 : 4.3);
    yard_path_add(p, side * ROAD_END_M, road);
    yard_path_add(p, gate, road);
}

/* And from before the gate back to `side`. */
static void path_add_road_out(const struct yard *y, struct yard_path *p, double side)
{
    double gate = (y->gate_x0 + y->gate_x1) / 2, road = y->road_z0 + (side > 0 ? 1.7 : 4.3);
    yard_path_add(p, gate, road);
    yard_path_add(p, side * ROAD_END_M, road);
}

/*
 * Into a place whose axis is x, its stop at z (in a bay before the lane, at the dock behind it). Straight in, or past it and then backwards.
 */
static void trip_in(const struct yard *y, struct trip *t, double side, double x, double z, bool is_backwards)
{
    double gate = (y->gate_x0 + y->gate_x1) / 2;
    *t = (struct trip){.n = 1};
    struct leg *g = &t->leg[0];
    *g = (struct leg){.mps = DRIVE_MPS, .is_to_stop = true};
    path_add_road_in(y, &g->path, side);
    yard_path_add(&g->path, gate, y->lane_z);
    if (!is_backwards) {
        yard_path_add(&g->path, x, y->lane_z);
        yard_path_add(&g->path, x, z);
        return;
    }
    yard_path_add(&g->path, x - 3.9, y->lane_z);
    t->n = 2;
    g = &t->leg[1];
    *g = (struct leg){.mps = REVERSE_MPS, .is_from_stop = true, .is_to_stop = true, .is_reverse = true};
    yard_path_add(&g->path, x - 3.9, y->lane_z);
    yard_path_add(&g->path, x, y->lane_z);
    yard_path_add(&g->path, x, z);
}

/* Out of it again: forwards if it had come backwards. */
static void trip_out(const struct yard *y, struct trip *t, double side, double x, double z, bool is_backwards)
{
    double gate = (y->gate_x0 + y->gate_x1) / 2;
    *t = (struct trip){.n = 1};
    struct leg *g = &t->leg[0];
    if (is_backwards) {
        *g = (struct leg){.mps = REVERSE_MPS, .is_from_stop = true, .is_to_stop = true, .is_reverse = true};
        yard_path_add(&g->path, x, z);
        yard_path_add(&g->path, x, y->lane_z);
        yard_path_add(&g->path, x - 3.9, y->lane_z);
        t->n = 2;
        g = &t->leg[1];
    }
    *g = (struct leg){.mps = DRIVE_MPS, .is_from_stop = true};
    if (is_backwards) {
        yard_path_add(&g->path, x - 3.9, y->lane_z);
    } else {
        yard_path_add(&g->path, x, z);
        yard_path_add(&g->path, x, y->lane_z);
    }
    yard_path_add(&g->path, gate, y->lane_z);
    path_add_road_out(y, &g->path, side);
}

/* Into the fire lane, and out of it backwards. */
static void trip_lane_in(const struct yard *y, struct trip *t, double side, double x, double z)
{
    *t = (struct trip){.n = 1};
    struct leg *g = &t->leg[0];
    *g = (struct leg){.mps = DRIVE_MPS, .is_to_stop = true};
    path_add_road_in(y, &g->path, side);
    yard_path_add(&g->path, (y->gate_x0 + y->gate_x1) / 2, z);
    yard_path_add(&g->path, x, z);
}

static void trip_lane_out(const struct yard *y, struct trip *t, double side, double x, double z)
{
    double gate = (y->gate_x0 + y->gate_x1) / 2;
    *t = (struct trip){.n = 2};
    struct leg *g = &t->leg[0];
    *g = (struct leg){.mps = REVERSE_MPS + 0.6, .is_from_stop = true, .is_to_stop = true, .is_reverse = true};
    yard_path_add(&g->path, x, z);
    yard_path_add(&g->path, gate, z);
    yard_path_add(&g->path, gate, z - 4.6);
    g = &t->leg[1];
    *g = (struct leg){.mps = DRIVE_MPS, .is_from_stop = true};
    yard_path_add(&g->path, gate, z - 4.6);
    path_add_road_out(y, &g->path, side);
}

double yard_vehicle_half_long_m(enum scene_type type)
{
    return type == SCENE_VAN ? 2.6 : 2.1;
}

/* ---- vehicles ------------------------------------------------------------------------------------------------------------- */

static void vehicle_look(const struct yard *y, uint64_t what, uint64_t round, double van_share, struct yard_vehicle *v)
{
    static const enum scene_colour paints[] = {SCENE_WHITE, SCENE_BLACK, SCENE_GREY, SCENE_RED, SCENE_BLUE, SCENE_GREEN};
    struct yard_actor *a = &v->actor;
    bool is_van = yard_draw_at(y, what, round, 1) < van_share;
    a->type = is_van ? SCENE_VAN : SCENE_CAR;
    a->colour = paints[(int)(yard_draw_at(y, what, round, 2) * 6)];
    a->look = rng_at(rng_at(y->seed, what), round);
    a->id = 1 + (int)((what >> 4 & 0xff0) + (what & 15)) + (int)(round & 0x3fff) * 0x1000;
    a->size = 1;
    v->half_long_m = yard_vehicle_half_long_m(a->type);
    v->half_wide_m = is_van ? 1.0 : 0.88;
    v->tall_m = is_van ? 2.3 : 1.45;
}

/* What a trip that has lasted tau seconds makes of a vehicle, and of the gate. False: the trip is over. */
static bool vehicle_drives(const struct yard *y, const struct trip *t, double tau, struct yard_vehicle *v)
{
    double gate_s = trip_gate_s(y, t);
    v->gate_open = fmax(v->gate_open, yard_opening(tau, gate_s - GATE_AHEAD_S, gate_s + GATE_AFTER_S, GATE_MOVE_S));
    if (tau >= trip_lasts_s(t))
        return false;
    trip_at(t, tau, &v->actor);
    v->is_there = v->is_moving = true;
    return true;
}

static double side_of(const struct yard *y, uint64_t what, uint64_t round, uint64_t i)
{
    return yard_draw_at(y, what, round, i) < 0.6 ? 1 : -1;
}

static bool bay_is_taken(const struct yard *y, int i_bay, uint64_t cycle)
{
    return yard_draw_at(y, OF_BAY + (uint64_t)i_bay, cycle, 0) < OCCUPIED;
}

/* When the vehicle that stands in cycle `cycle` came. */
static uint64_t bay_since(const struct yard *y, int i_bay, uint64_t cycle)
{
    for (int i = 0; i < LOOK_BACK && cycle > 0 && bay_is_taken(y, i_bay, cycle - 1); i++)
        cycle--;
    return cycle;
}

static void bay_get(const struct yard *y, int i_bay, double now_s, struct yard_vehicle *v)
{
    static const int slot_of[YARD_MAX_BAYS] = {0, 2, 5, 7};
    uint64_t what = OF_BAY + (uint64_t)i_bay;
    double base = now_s - slot_of[i_bay] * YARD_SLOT_S + YARD_CYCLE_S; /* now_s may lie before the first slot */
    uint64_t cycle = (uint64_t)(base / YARD_CYCLE_S);
    double tau = base - (double)cycle * YARD_CYCLE_S;
    bool is_taken = bay_is_taken(y, i_bay, cycle), was_taken = cycle > 0 && bay_is_taken(y, i_bay, cycle - 1);
    if (!is_taken && (!was_taken || tau > 40))
        return;
    uint64_t since = bay_since(y, i_bay, is_taken ? cycle : cycle - 1);
    /* Vans stand where they hide little: not before the dock, the exit and the fire lane. */
    vehicle_look(y, what, since, i_bay == 1 || i_bay == 2 ? 0.5 : 0, v);
    bool is_backwards = yard_draw_at(y, what, since, 3) < 0.5;
    double x = y->bay_x + i_bay * y->bay_pitch_m, z = (y->bay_z0 + y->bay_z1) / 2;
    if (tau < 40 && is_taken != was_taken) {
        struct trip t;
        if (is_taken)
            trip_in(y, &t, side_of(y, what, since, 4), x, z, is_backwards);
        else
            trip_out(y, &t, side_of(y, what, since, 5), x, z, !is_backwards);
        if (vehicle_drives(y, &t, tau, v) || !is_taken)
            return;
    }
    v->is_there = true;
    v->is_nose_near = !is_backwards;
    v->actor.at = (struct vec){x, 0, z};
    v->actor.dx = 0;
    v->actor.dz = is_backwards ? 1 : -1;
}

/* A vehicle that comes in slot `in` of its cycle, stands, and leaves in slot `out`. */
static void visit_get(const struct yard *y, uint64_t what, double now_s, int in, int out, double van_share, bool is_dock,
                      struct yard_vehicle *v)
{
    double base = now_s - in * YARD_SLOT_S + YARD_CYCLE_S;
    uint64_t cycle = (uint64_t)(base / YARD_CYCLE_S);
    double tau = base - (double)cycle * YARD_CYCLE_S, out_s = (out - in) * YARD_SLOT_S;
    if (tau > out_s + 40)
        return;
    if (is_dock ? yard_draw_at(y, what, cycle, 0) >= DOCK_SHARE : !yard_traffic_blocks(y, cycle))
        return;
    vehicle_look(y, what, cycle, van_share, v);
    struct trip t;
    double x = is_dock ? (y->dock_x0 + y->dock_x1) / 2 : y->fire_lane.x0 + 2.3 + 0.7 * yard_draw_at(y, what, cycle, 3);
    double z = is_dock ? y->fence_z - v->half_long_m - 0.15 : y->fire_lane.z0 + 1.9, side = side_of(y, what, cycle, 4);
    if (tau >= out_s) {
        if (is_dock)
            trip_out(y, &t, side, x, z, false);
        else
            trip_lane_out(y, &t, side, x, z);
        vehicle_drives(y, &t, tau - out_s, v);
        return;
    }
    if (is_dock)
        trip_in(y, &t, side, x, z, true);
    else
        trip_lane_in(y, &t, side, x, z);
    if (vehicle_drives(y, &t, tau, v))
        return;
    trip_at(&t, tau, &v->actor);
    v->is_there = true;
    v->is_moving = false;
}

/* Who passes on the road outside, in slots in which nobody comes or goes. */
static void road_get(const struct yard *y, double now_s, struct yard_vehicle *v)
{
    uint64_t slot = (uint64_t)(now_s / YARD_SLOT_S);
    double tau = now_s - (double)slot * YARD_SLOT_S;
    static const int bay_of[8] = {0, -1, 1, -1, -1, 2, -1, 3};
    int i_bay = bay_of[slot % 8];
    /* bays count cycles from one cycle earlier: see bay_get */
    uint64_t cycle = slot / 8 + 1;
    if (i_bay < 0 || (i_bay < y->n_bays && bay_is_taken(y, i_bay, cycle) != bay_is_taken(y, i_bay, cycle - 1)))
        return;
    if (yard_draw_at(y, OF_ROAD, slot, 0) >= PASS_SHARE)
        return;
    vehicle_look(y, OF_ROAD, slot, 0.3, v);
    double side = side_of(y, OF_ROAD, slot, 4);
    struct yard_actor *a = &v->actor;
    double s = PASS_MPS * (tau - 6);
    if (s < 0 || s > 2 * ROAD_END_M)
        return;
    a->at = (struct vec){side * (ROAD_END_M - s), 0, y->road_z0 + (side < 0 ? 1.7 : 4.3)};
    a->dx = -side;
    a->dz = 0;
    a->phase = s / 2;
    v->is_there = v->is_moving = true;
}

int yard_traffic_count(const struct yard *y)
{
    return y->n_bays + 3;
}

bool yard_traffic_blocks(const struct yard *y, uint64_t cycle)
{
    return yard_draw_at(y, OF_LANE, cycle, 0) < 0.25;
}

void yard_traffic_get(const struct yard *y, int i, double now_s, struct yard_vehicle *ret)
{
    *ret = (struct yard_vehicle){0};
    ret->actor.dx = 1;
    if (i < y->n_bays)
        bay_get(y, i, now_s, ret);
    else if (i == y->n_bays)
        visit_get(y, OF_DOCK, now_s, 4, 6, 1, true, ret);
    else if (i == y->n_bays + 1)
        visit_get(y, OF_LANE, now_s, 1, 3, 0.4, false, ret);
    else
        road_get(y, now_s, ret);
    ret->actor.pose = ret->is_moving ? SCENE_DRIVING : SCENE_PARKED;
}

double yard_traffic_dock(const struct yard *y, double now_s)
{
    /* for the van: from when it is in the yard until it is away */
    double base = now_s - 4 * YARD_SLOT_S + YARD_CYCLE_S;
    uint64_t cycle = (uint64_t)(base / YARD_CYCLE_S);
    double tau = base - (double)cycle * YARD_CYCLE_S, open = 0;
    if (yard_draw_at(y, OF_DOCK, cycle, 0) < DOCK_SHARE)
        open = yard_opening(tau, 9, 2 * YARD_SLOT_S + 12, 4);
    /* and at other times, to let in air and people */
    uint64_t round = (uint64_t)(now_s / 80);
    if (yard_draw_at(y, OF_DOOR, round, 0) < 0.3)
        open = fmax(open, yard_opening(now_s - (double)round * 80, 4, 76, 4));
    return open;
}
