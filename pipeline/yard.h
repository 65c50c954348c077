/*
 * yard - the world of the scene `yard`: where things stand, who is there at a moment, and how they look. Shared by the files that make it.
 *
 *   yard_world.c    layout by seed, weather and time of day, who is where at t
 *   yard_traffic.c  vehicles by timetable, their paths, the roller door
 *   yard_plan.c     who walks where, incidents and objects left behind, and what each keeps clear of
 *   yard_set.c      draws what stands still: ground, markings, building, fence, trees, sky; where lamps shine
 *   yard_actors.c   draws an actor, its shadow, its light at night: yard_people, yard_vehicles, yard_animals, yard_fire (also smoke, boxes, bags), with yard_brush
 *   scene_lens.c    light, rain, fog, exposure and the camera's noise over the finished picture
 *   scene_yard.c    one frame: asks the world, draws far to near, fills the truth
 *
 * A yard before a warehouse, seen by a camera on a mast: a building along z = fence_z to the left with a roller door (the dock) and an emergency exit, a hatched fire
 * lane before the exit, a fence to the right with a sliding gate, parking bays near the camera, a road behind. All of it is a pure function of (seed, t): nothing is
 * simulated forward, frames can be drawn in any order.
 *
 * Lengths without a unit in their name are metres: x to the right, y up, z away from the camera. Life cycle: yard_init fills a plain struct that needs no release and does
 * not change; all else borrows it. Memory: the caller's structs, nothing is allocated. Threads: any, with one canvas and one glow each.
 */
#ifndef HERON_PIPELINE_YARD_H
#define HERON_PIPELINE_YARD_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "pipeline/scene_truth.h"
#include "pipeline/scene_view.h"

#define YARD_MAX_BAYS    4
#define YARD_GATE_TALL_M 1.84

/* v, but not below 0 and not above 1. */
static inline double yard_unit(double v)
{
    return fmin(fmax(v, 0), 1);
}

struct yard_rect {
    double x0, z0, x1, z1; /* on the ground */
};

/* What does not change with time. */
struct yard {
    uint64_t seed;
    struct scene_view view;
    double fence_z; /* the line of building and fence */
    double building_x0, building_x1, building_tall_m;
    double dock_x0, dock_x1, dock_tall_m;
    double door_x0, door_x1;    /* the emergency exit */
    double gate_x0, gate_x1;    /* between the posts */
    double road_z0, road_z1;    /* the road outside, along x */
    struct yard_rect fire_lane; /* hatched */
    int n_bays;
    double bay_x, bay_pitch_m, bay_z0, bay_z1; /* middle of the first; from one to the next */
    double lane_z;                             /* where vehicles cross the yard */
    struct vec lamp_post;
    int wall_look, door_look, tree_look; /* styles, drawn from the seed */
    double phase_s, day_phase;           /* where in its timetables the world begins; turns of the day */
};

/* The sky's state at a moment. */
struct yard_sky {
    double day;      /* 0 night .. 1 full day */
    double dusk;     /* 0 .. 1: how warm the low sun is */
    double sun;      /* turns, -0.25 .. 0.25: where shadows point (0: to the camera) */
    double rain;     /* 0 .. 1 */
    double fog;      /* 0 .. 1; 1 hides what is 60 m away */
    double wind;     /* -1 .. 1 */
    double exposure; /* the camera's drift: 0.9 .. 1.1 */
};

/* One actor at a moment. */
struct yard_actor {
    enum scene_type type;
    enum scene_colour colour;
    enum scene_pose pose;
    int id;          /* 1 .. : constant through its stay */
    struct vec at;   /* of its foot; y is the height of a flying bird */
    double dx, dz;   /* where it faces; length 1 */
    double phase;    /* steps: turns of the gait; fire, smoke: seconds since it began */
    double size;     /* 1: as usual; fire and smoke grow with it */
    uint64_t look;   /* what else varies: skin, hair, trousers, build */
    bool has_lights; /* vehicles at night that drive */
};

/* What an actor drew, for the truth. */
struct yard_trace {
    double full_px; /* pixels it would have, uncovered and uncut */
};

struct yard_moment {
    double t_s;
    struct yard_sky sky;
    double gate_open, dock_open;      /* 0 .. 1 */
    bool is_bay_taken[YARD_MAX_BAYS]; /* by a vehicle in it, also one that drives in or out */
    int n_actors;
    struct yard_actor actor[SCENE_MAX_THINGS];
};

/* ---- yard_world.c ---- */
/* The world of a seed, seen in pictures of a size (both above 0). */
void yard_init(struct yard *y, uint64_t seed, int width_px, int height_px);
/* Who is there, at t seconds of the scene. Any finite t, in any order; the world begins anew after 2^40 s. Cost: some tenths of a millisecond. */
void yard_at(const struct yard *y, double t_s, struct yard_moment *ret_moment);
/* Where something with its foot at p is. */
enum scene_place yard_place(const struct yard *y, enum scene_type type, struct vec p);

/* ---- yard_set.c ---- */
/* The still background in daylight (canvas with id 0, without or with a map, which stays 0); glow [height_px, width_px]: how strongly lamps light each pixel at night, 0 to 255. */
void yard_set_draw(const struct yard *y, struct canvas *c, uint8_t *glow);
/* What stands still but moves or hides others, drawn among the actors: the fence with its gate, the lamp posts; the open dock. */
void yard_set_draw_fence(const struct yard *y, struct canvas *c, double gate_open);
void yard_set_draw_dock(const struct yard *y, struct canvas *c, double dock_open);
void yard_set_draw_post(const struct yard *y, struct canvas *c);
void yard_set_draw_street_lamp(const struct yard *y, struct canvas *c);
struct vec yard_set_street_lamp(const struct yard *y); /* its head, over the road's near edge */

/* ---- yard_actors.c ---- */
/* The shadow on the ground (canvas id 0), then the actor (canvas id set by the caller). */
void yard_actor_draw_shadow(const struct yard *y, struct canvas *c, const struct yard_actor *a, const struct yard_sky *sky);
void yard_actor_draw(const struct yard *y, struct canvas *c, const struct yard_actor *a, const struct yard_sky *sky,
                     struct yard_trace *ret_trace);
/* The light that an actor throws at night (headlights, fire), added to a copy of the still glow [height_px, width_px] and ending at 255. Other actors add nothing. */
void yard_actor_glow(const struct yard *y, const struct yard_actor *a, const struct yard_sky *sky, int width_px, int height_px,
                     uint8_t *glow);

#endif
