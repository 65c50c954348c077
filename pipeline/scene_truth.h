/*
 * scene_truth - what a rendered scene says about one of its frames: only what can be seen in it.
 *
 * A thing counts when a person who looks at the picture could tell that it is there: at least SCENE_MIN_SHARE of the picture's pixels
 * (and SCENE_MIN_PX), at least SCENE_MIN_VISIBLE of what it would show uncovered and uncut, and a mean difference of at least
 * SCENE_MIN_CONTRAST steps of 255 from what is behind it, in the light and the weather of the moment. Fire and smoke have no outline: they count with twice
 * as many pixels, whatever share that is. How it is measured: scene.h.
 *
 * Memory: a plain struct, owned by whoever declares it. Threads: none.
 */
#ifndef HERON_PIPELINE_SCENE_TRUTH_H
#define HERON_PIPELINE_SCENE_TRUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCENE_MIN_SHARE    0.0003
#define SCENE_MIN_PX       12
#define SCENE_MIN_VISIBLE  0.4
#define SCENE_MIN_CONTRAST 7.0
#define SCENE_MAX_THINGS   40

/* What a thing is; the names are the words of the truth: scene_type_name. */
enum scene_type {
    SCENE_PERSON,
    SCENE_CAR,
    SCENE_VAN,
    SCENE_DOG,
    SCENE_BIRD,
    SCENE_BOX, /* objects left behind */
    SCENE_BAG,
    SCENE_FIRE,
    SCENE_SMOKE,
    SCENE_N_TYPES,
};

/* What is counted together. */
enum scene_class { SCENE_CLASS_PEOPLE, SCENE_CLASS_VEHICLES, SCENE_CLASS_ANIMALS, SCENE_CLASS_OBJECTS, SCENE_CLASS_HAZARDS };

/* A person's clothes, a vehicle's paint, a coat. VEST: a bright safety vest with a reflecting band (people only). */
enum scene_colour {
    SCENE_NO_COLOUR,
    SCENE_RED,
    SCENE_BLUE,
    SCENE_GREEN,
    SCENE_YELLOW,
    SCENE_WHITE,
    SCENE_BLACK,
    SCENE_GREY,
    SCENE_BROWN,
    SCENE_VEST,
    SCENE_N_COLOURS,
};

/* What it does. */
enum scene_pose {
    SCENE_NO_POSE,
    SCENE_STANDING, /* people, animals */
    SCENE_WALKING,  /* people, animals */
    SCENE_LYING,    /* people */
    SCENE_FLYING,   /* birds */
    SCENE_PARKED,   /* vehicles: in a bay, at the dock, or standing elsewhere */
    SCENE_DRIVING,  /* vehicles */
    SCENE_N_POSES,
};

/* Where it is. The first that fits. */
enum scene_place {
    SCENE_AT_GATE,      /* within the gate's posts, 3 m to either side of the fence's line */
    SCENE_AT_DOOR,      /* before the emergency exit; people, animals, fire, smoke */
    SCENE_IN_FIRE_LANE, /* on the hatched area before the emergency exit; vehicles and objects */
    SCENE_AT_DOCK,      /* before the roller door */
    SCENE_IN_BAY,       /* in a parking bay */
    SCENE_IN_YARD,      /* elsewhere inside */
    SCENE_OUTSIDE,      /* beyond the fence */
    SCENE_N_PLACES,
};

enum scene_light { SCENE_DAY, SCENE_DUSK, SCENE_NIGHT, SCENE_N_LIGHTS };
enum scene_weather { SCENE_CLEAR, SCENE_RAIN, SCENE_FOG, SCENE_N_WEATHERS };

/* The default schema's words, in its order. A scene with several hazards says the first of fire, person_down, smoke, blocked. */
enum scene_hazard {
    SCENE_NO_HAZARD,
    SCENE_HAZARD_FIRE,
    SCENE_HAZARD_SMOKE,
    SCENE_HAZARD_PERSON_DOWN, /* a person lies on the ground */
    SCENE_HAZARD_BLOCKED,     /* a vehicle or an object stands in the fire lane */
    SCENE_N_HAZARDS,
};

struct scene_thing {
    enum scene_type type;
    enum scene_colour colour;
    enum scene_pose pose;
    enum scene_place place;
    int id;                         /* of the thing in its world: the same in every frame that it is in */
    int x0_px, y0_px, x1_px, y1_px; /* of what is visible; x1 and y1 exclusive */
    int seen_px;
    double visible;  /* 0 to 1: share of it that is not covered nor cut off */
    double contrast; /* mean absolute difference from what is behind it, in steps of 255 */
};

struct scene_truth {
    const char *scene; /* its name; static */
    uint64_t i_frame;
    double t_s;
    int width_px, height_px;
    enum scene_light light;
    enum scene_weather weather;
    /*
     * What always stands there counts when at least SCENE_MIN_VISIBLE of it lies in the picture (narrow pictures cut the sides off), whatever stands before it: the gate's
     * and the dock's opening, each bay. In pictures of 3:2 and wider up to 2:1 all of it does.
     */
    bool has_gate, has_dock;
    bool is_gate_open, is_dock_open; /* at least half */
    int n_bays, n_bays_free;         /* a bay with a vehicle in it, driving in or out, is not free */
    enum scene_hazard hazard;
    int people, vehicles, animals; /* how many of the things below */
    int n_things;
    struct scene_thing thing[SCENE_MAX_THINGS]; /* visible ones, from left to right by the middle of their boxes */
};

/* Words of the truth: "person", "red", "walking", "gate", "day", "rain", "person_down". Static. */
const char *scene_type_name(enum scene_type type);
const char *scene_colour_name(enum scene_colour colour);
const char *scene_pose_name(enum scene_pose pose);
const char *scene_place_name(enum scene_place place);
const char *scene_light_name(enum scene_light light);
const char *scene_weather_name(enum scene_weather weather);
const char *scene_hazard_name(enum scene_hazard hazard);

enum scene_class scene_class_of(enum scene_type type);

/* Whether a vehicle or an object stands in the fire lane; who drives through does not block it. */
bool scene_truth_is_lane_blocked(const struct scene_truth *truth);

/*
 * The truth as one line of JSON:
 * {"scene","frame","t_s","width","height","light","weather","gate":"open|closed","dock":...,"bays","bays_free","people","vehicles","animals","hazard",
 *  "things":[{"type","id","colour","pose","place","box":[x0,y0,x1,y1],"visible"}]}
 * Boxes are in shares of the picture; colour and pose are left out where there is none, gate, dock and both of bays where they are not in the picture. Things are left out at the end where the buffer is full, the counts
 * are not. Returns the bytes written without the terminator.
 */
size_t scene_truth_print(const struct scene_truth *truth, char *out, size_t out_bytes);

#endif
