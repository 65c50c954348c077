/*
 * yard_plan - who walks where in the scene `yard`, and what happens: plans by round, chosen so that they keep clear of vehicles and can be seen.
 *
 * A stage holds the incidents and the objects left behind around a moment; plans of people and animals are drawn from (yard, slot, round), and the first of a few
 * candidates is taken that neither runs into anything nor hides behind it. Incidents are settled first, then objects, then who walks. What is chosen depends on the round
 * alone, never on the moment asked for.
 *
 * Pure; threads: none; memory: the caller's structs. Times are now_s = t + phase_s. Lengths without a unit in their name are metres.
 */
#ifndef HERON_PIPELINE_YARD_PLAN_H
#define HERON_PIPELINE_YARD_PLAN_H

#include "pipeline/yard.h"
#include "pipeline/yard_traffic.h"

#define YARD_WINDOW_S 96.0  /* at most one incident in each */
#define YARD_OBJECT_S 230.0 /* at most one object in each */
#define YARD_PEOPLE_S 84.0
#define YARD_DOG_S    72.0
#define YARD_BIRD_S   66.0
#define YARD_N_PEOPLE 7

/* Somebody who comes, stays a while at a spot, and goes. */
struct yard_walk {
    bool is_there;
    double from_s, to_s;
    struct yard_path in, out;
    double mps, stay_s;
    double turn_x, turn_z; /* where it faces while it stays */
    uint64_t look;
};

struct yard_incident {
    enum scene_hazard hazard; /* SCENE_NO_HAZARD: none in this window. Blocked: by an object */
    double from_s, to_s;
    struct vec at;
    double size;
    uint64_t look;
    struct yard_walk walk;    /* person_down: who lies; an object: who brings it */
    struct yard_walk fetcher; /* an object: who takes it away */
    enum scene_type type;     /* of the object */
    enum scene_colour colour;
};

#define YARD_STAGE_NOW       3 /* the windows before, at and after a moment */
#define YARD_STAGE_INCIDENTS 6 /* as many as an object's time may touch */

/* Incidents and objects that others keep clear of: of the windows around a moment, or, while these are chosen, those that are settled before. */
struct yard_stage {
    const struct yard *yard;
    int64_t first_window, first_object;
    int n_incidents, n_objects;
    struct yard_incident incident[YARD_STAGE_INCIDENTS], object[YARD_STAGE_NOW];
};

void yard_stage_init(struct yard_stage *g, const struct yard *y, double now_s);

/* Person number i's walk at now_s; the dog's; the bird's (on the ground). is_there false: nobody. ret_round: of its timetable. */
void yard_plan_person(const struct yard_stage *g, int i, double now_s, struct yard_walk *ret, uint64_t *ret_round);
void yard_plan_dog(const struct yard_stage *g, double now_s, struct yard_walk *ret, uint64_t *ret_round);
void yard_plan_bird(const struct yard_stage *g, double now_s, struct yard_walk *ret, uint64_t *ret_round);

/* Where a walk is at now_s: false before and after. a: at, dx, dz, pose (walking or standing), phase. */
bool yard_walk_at(const struct yard_walk *w, double now_s, double gait_m, struct yard_actor *a);
/* How far the gate is open for it. */
double yard_walk_gate(const struct yard *y, const struct yard_walk *w, double now_s);

#endif
