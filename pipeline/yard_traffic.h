/*
 * yard_traffic - vehicles of the scene `yard` by timetable: who is parked where, and the one that drives.
 *
 * Time is cut into cycles of YARD_CYCLE_S with eight slots of YARD_SLOT_S; each slot belongs to one vehicle's coming or going, so that two never meet. Pure functions of
 * (yard, time); threads: none; memory: the caller's structs. Times here are now_s = t + phase_s, never negative. Lengths without a unit
 * in their name are metres.
 */
#ifndef HERON_PIPELINE_YARD_TRAFFIC_H
#define HERON_PIPELINE_YARD_TRAFFIC_H

#include "pipeline/yard.h"

#define YARD_SLOT_S      24.0
#define YARD_CYCLE_S     (8 * YARD_SLOT_S)
#define YARD_MAX_TRAFFIC (YARD_MAX_BAYS + 3)
#define YARD_PATH_POINTS 8

/* A line through points on the ground, its corners rounded when it is walked. */
struct yard_path {
    int n;
    double x[YARD_PATH_POINTS], z[YARD_PATH_POINTS];
    double len_m;
};

void yard_path_add(struct yard_path *p, double x, double z);
/* Place and direction after s metres, corners rounded over reach_m; goes straight on before the beginning and after the end. */
void yard_path_at(const struct yard_path *p, double s, double reach_m, struct vec *ret_at, double *ret_dx, double *ret_dz);
/* Metres from the beginning to where it first crosses the line z, or -1. */
double yard_path_crosses(const struct yard_path *p, double z);

struct yard_vehicle {
    bool is_there, is_moving;
    bool is_nose_near; /* parked in a bay: its bonnet looks at the camera */
    struct yard_actor actor;
    double half_long_m, half_wide_m, tall_m;
    double gate_open; /* what it asks of the gate, 0 .. 1, also shortly before it is there and after it has left */
};

/* Half its length, as it is drawn and as others keep clear of it. */
double yard_vehicle_half_long_m(enum scene_type type);

/* How many vehicles the timetable has; one by its number: bays first, then the dock's van, the one that stops in the fire lane, and who passes on the road. */
int yard_traffic_count(const struct yard *y);
void yard_traffic_get(const struct yard *y, int i_vehicle, double now_s, struct yard_vehicle *ret);
/* Whether in this cycle a vehicle stops in the fire lane. */
bool yard_traffic_blocks(const struct yard *y, uint64_t cycle);
/* How far the roller door is up, 0 .. 1. */
double yard_traffic_dock(const struct yard *y, double now_s);

/* How far something that opens is open at now_s: from open_s to shut_s, moving for move_s at both ends. */
double yard_opening(double now_s, double open_s, double shut_s, double move_s);
/* Number i of the stream of (yard, what, round), in [0, 1). */
double yard_draw_at(const struct yard *y, uint64_t what, uint64_t round, uint64_t i);

#endif
