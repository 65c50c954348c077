/* scene_truth - the truth's words, and the truth as JSON. */
#include "pipeline/scene_truth.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const type_names[SCENE_N_TYPES] = {"person", "car", "van", "dog", "bird", "box", "bag", "fire", "smoke"};
static const char *const colour_names[SCENE_N_COLOURS] = {"",      "red",   "blue", "green", "yellow",
                                                          "white", "black", "grey", "brown", "vest"};
static const char *const pose_names[SCENE_N_POSES] = {"", "standing", "walking", "lying", "flying", "parked", "driving"};
static const char *const place_names[SCENE_N_PLACES] = {"gate", "door", "fire_lane", "dock", "bay", "yard", "outside"};
static const char *const light_names[SCENE_N_LIGHTS] = {"day", "dusk", "night"};
static const char *const weather_names[SCENE_N_WEATHERS] = {"clear", "rain", "fog"};
static const char *const hazard_names[SCENE_N_HAZARDS] = {"none", "fire", "smoke", "person_down", "blocked"};

const char *scene_type_name(enum scene_type type)
{
    assert((int)type >= 0 && type < SCENE_N_TYPES);
    return type_names[type];
}

const char *scene_colour_name(enum scene_colour colour)
{
    assert((int)colour >= 0 && colour < SCENE_N_COLOURS);
    return colour_names[colour];
}

const char *scene_pose_name(enum scene_pose pose)
{
    assert((int)pose >= 0 && pose < SCENE_N_POSES);
    return pose_names[pose];
}

const char *scene_place_name(enum scene_place place)
{
    assert((int)place >= 0 && place < SCENE_N_PLACES);
    return place_names[place];
}

const char *scene_light_name(enum scene_light light)
{
    assert((int)light >= 0 && light < SCENE_N_LIGHTS);
    return light_names[light];
}

const char *scene_weather_name(enum scene_weather weather)
{
    assert((int)weather >= 0 && weather < SCENE_N_WEATHERS);
    return weather_names[weather];
}

const char *scene_hazard_name(enum scene_hazard hazard)
{
    assert((int)hazard >= 0 && hazard < SCENE_N_HAZARDS);
    return hazard_names[hazard];
}

enum scene_class scene_class_of(enum scene_type type)
{
    switch (type) {
    case SCENE_PERSON: return SCENE_CLASS_PEOPLE;
    case SCENE_CAR:
    case SCENE_VAN: return SCENE_CLASS_VEHICLES;
    case SCENE_DOG:
    case SCENE_BIRD: return SCENE_CLASS_ANIMALS;
    case SCENE_FIRE:
    case SCENE_SMOKE: return SCENE_CLASS_HAZARDS;
    default: return SCENE_CLASS_OBJECTS;
    }
}

bool scene_truth_is_lane_blocked(const struct scene_truth *truth)
{
    for (int i = 0; i < truth->n_things; i++) {
        const struct scene_thing *thing = &truth->thing[i];
        const enum scene_class class = scene_class_of(thing->type);
        if (thing->place == SCENE_IN_FIRE_LANE && thing->pose != SCENE_DRIVING &&
            (class == SCENE_CLASS_VEHICLES || class == SCENE_CLASS_OBJECTS))
            return true;
    }
    return false;
}

struct text {
    char *out;
    size_t cap, used;
};

/* Append if the whole piece fits and `keep` bytes stay free after it. */
static bool text_add(struct text *t, size_t keep, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static bool text_add(struct text *t, size_t keep, const char *fmt, ...)
{
    char piece[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(piece, sizeof piece, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof piece || t->used + (size_t)n + 1 + keep > t->cap)
        return false;
    memcpy(t->out + t->used, piece, (size_t)n + 1);
    t->used += (size_t)n;
    return true;
}

/* A member with a word, or nothing where the word is empty. */
static void word_print(char out[48], const char *key, const char *word)
{
    out[0] = 0;
    if (word[0])
        snprintf(out, 48, ",\"%s\":\"%s\"", key, word);
}

size_t scene_truth_print(const struct scene_truth *truth, char *out, size_t out_bytes)
{
    struct text t = {out, out_bytes, 0};
    if (out_bytes)
        out[0] = 0;
    char gate[48], dock[48], bays[48] = "";
    word_print(gate, "gate", !truth->has_gate ? "" : truth->is_gate_open ? "open" : "closed");
    word_print(dock, "dock", !truth->has_dock ? "" : truth->is_dock_open ? "open" : "closed");
    if (truth->n_bays > 0)
        snprintf(bays, sizeof bays, ",\"bays\":%d,\"bays_free\":%d", truth->n_bays, truth->n_bays_free);
    if (!text_add(&t, 2,
                  "{\"scene\":\"%s\",\"frame\":%llu,\"t_s\":%.3f,\"width\":%d,\"height\":%d,\"light\":\"%s\",\"weather\":\"%s\""
                  "%s%s%s,\"people\":%d,\"vehicles\":%d,\"animals\":%d,"
                  "\"hazard\":\"%s\",\"things\":[",
                  truth->scene, (unsigned long long)truth->i_frame, truth->t_s, truth->width_px, truth->height_px,
                  scene_light_name(truth->light), scene_weather_name(truth->weather), gate, dock, bays, truth->people,
                  truth->vehicles, truth->animals, scene_hazard_name(truth->hazard)))
        return 0;
    double w = truth->width_px, h = truth->height_px;
    for (int i = 0; i < truth->n_things; i++) {
        const struct scene_thing *g = &truth->thing[i];
        char colour[48], pose[48];
        word_print(colour, "colour", scene_colour_name(g->colour));
        word_print(pose, "pose", scene_pose_name(g->pose));
        if (!text_add(&t, 2,
                      "%s{\"type\":\"%s\",\"id\":%d%s%s,\"place\":\"%s\",\"box\":[%.4f,%.4f,%.4f,%.4f],\"visible\":%.2f}",
                      i ? "," : "", scene_type_name(g->type), g->id, colour, pose, scene_place_name(g->place), g->x0_px / w,
                      g->y0_px / h, g->x1_px / w, g->y1_px / h, g->visible))
            break;
    }
    text_add(&t, 0, "]}");
    return t.used;
}
