/*
 * scene - rendered worlds with known truth, for the synthetic camera.
 *
 * A scene is a pure function from (name, seed, size, time) to a picture and the truth about it. Nothing is simulated forward:
 * every actor's place follows from the time alone, so frames can be drawn in any order.
 *
 * Life cycle: scene_open -> scene_draw any number of times -> scene_close. Threads: one at a time per scene. Memory: all in
 * scene_open (the still background, an object map, the canvas's scratch); drawing allocates nothing.
 *
 * Truth counts what can be seen: an object counts when at least SCENE_VISIBLE_PCT of it is in the picture and not covered, and
 * it has at least SCENE_VISIBLE_PX pixels.
 *
 * New scene: one scene_<name>.c with its kind, one row in scene.c.
 */
#ifndef HERON_PIPELINE_SCENE_H
#define HERON_PIPELINE_SCENE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "pipeline/draw.h"

#define SCENE_VISIBLE_PCT 25
#define SCENE_VISIBLE_PX  12
#define SCENE_MAX_OBJECTS 32

enum scene_object_kind { SCENE_NOTHING, SCENE_PERSON, SCENE_VEHICLE, SCENE_ANIMAL };

/* What a scene says about one thing that it drew. The object map carries i_object + 1. */
struct scene_object {
    enum scene_object_kind kind;
    double full_px; /* pixels that it would have, uncovered and not cut by the picture's edge */
    /* counted from the object map after drawing */
    int seen_px;
    int x0_px, y0_px, x1_px, y1_px; /* of the visible pixels, x1 and y1 exclusive */
};

/* What a scene tells while it draws. */
struct scene_shot {
    double t_s;            /* in: time in the scene */
    struct canvas *canvas; /* in: where to draw; its map takes i_object + 1 */
    int n_objects;
    struct scene_object object[SCENE_MAX_OBJECTS];
    double light;       /* out: 0 night .. 1 day */
    double noise;       /* out: standard deviation of the camera's noise, in steps of 255 */
    const char *hazard; /* out: a word of the default schema */
};

struct scene;

struct scene_kind {
    const char *name;
    size_t state_bytes;
    /* Work out what does not change with time; draw the still background into canvas, and the lamps' light into glow [H, W]. */
    void (*init)(void *state, uint64_t seed, struct canvas *canvas, uint8_t *glow);
    /* Draw everything that moves on top of the background. */
    void (*draw)(const void *state, struct scene_shot *shot);
};

extern const struct scene_kind scene_yard;

/* Whether there is a scene of this name. Errors: ERR_INVAL with the nearest name. */
int scene_check(const char *name, struct err *err);

/* Open a scene of a known name. Errors: ERR_INVAL, ERR_NOMEM. */
int scene_open(const char *name, uint64_t seed, int width_px, int height_px, struct scene **ret_scene, struct err *err);

void scene_close(struct scene *scene);

/*
 * Draw the instant t_s into rgb. i_frame seeds the noise and is told in the truth. truth[truth_bytes] gets JSON:
 * {"scene","frame","t_s","people","vehicles","animals","hazard","light","objects":[{"kind","box":[x0,y0,x1,y1],"visible"}]},
 * boxes normalised; objects are left out at the end where the buffer is full, the counts are not.
 */
void scene_draw(struct scene *scene, uint64_t i_frame, double t_s, uint8_t *rgb, size_t stride_bytes, char *truth,
                size_t truth_bytes);

#endif
