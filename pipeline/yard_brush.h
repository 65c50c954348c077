/*
 * yard_brush - solid shapes for the actors of the yard: limbs, balls and flat faces in an actor's own directions, culled and lit.
 *
 * A brush is made for one actor in one frame. Its directions, in metres from the actor's foot: x ahead, y up, z to its right. Pure but for the canvas; threads: one at a
 * time per canvas; memory: the struct; yard, canvas and actor are borrowed. Lengths without a unit in their name are metres.
 */
#ifndef HERON_PIPELINE_YARD_BRUSH_H
#define HERON_PIPELINE_YARD_BRUSH_H

#include "pipeline/yard.h"

#define BRUSH_MAX_CAST 24 /* points of what casts a shadow */

struct brush {
    const struct scene_view *view;
    struct canvas *c;
    const struct yard_actor *a;
    double m;         /* pixels per metre there */
    double sun;       /* how strongly the sun shines: 0 (night, rain, fog) .. 1 */
    struct vec light; /* to the sun, in the actor's directions; length 1 */
    struct vec eye;   /* the camera, in the actor's directions */
    double ahead;     /* how far it looks away from the camera: -1 to it, 1 away */
    double across;    /* -1 .. 1: which way on the picture's plane it looks: 1 to the world's right */
};

/* A brush for an actor under a sky, no longer than y, c and a live. c may be NULL: then only to turn directions and places. */
void brush_init(struct brush *b, const struct yard *y, struct canvas *c, const struct yard_actor *a,
                const struct yard_sky *sky);

/* How strongly the sun shines, and which way shadows fall: metres on the ground per metre of height. */
double brush_sun(const struct yard_sky *sky, double *ret_x, double *ret_z);

/* A place in the actor's directions, in the world and in the picture. */
struct vec brush_world(const struct brush *b, struct vec p);
struct point brush_point(const struct brush *b, struct vec p);

/* From p, r0 metres thick (radius), to q; round ends. */
void brush_limb(const struct brush *b, struct vec p, double r0, struct vec q, double r1, struct colour colour);
void brush_ball(const struct brush *b, struct vec p, double r, struct colour colour);

/* A flat face of a convex solid around `middle`; not drawn when it looks away (returns false). Its light follows from its direction. */
bool brush_face(const struct brush *b, const struct vec *p, int n, struct vec middle, struct colour colour);
/* The same without light: lamps, glass, marks. A middle behind the face in the solid. */
bool brush_mark(const struct brush *b, const struct vec *p, int n, struct vec middle, struct colour colour);

/* A flat polygon (n <= DRAW_MAX_POINTS) without light and culling. */
void brush_flat(const struct brush *b, const struct vec *p, int n, struct colour colour);

/* A soft blot on the ground below: half axes ahead and to the right. */
void brush_blot(const struct brush *b, double x, double z, double rx, double rz, struct colour colour);

/* The hull of points (n <= BRUSH_MAX_CAST) cast along the sun onto the ground, with a soft rim of `rim_m`. */
void brush_cast(const struct brush *b, const struct vec *p, int n, double shade_x, double shade_z, double rim_m, int opacity);

#endif
