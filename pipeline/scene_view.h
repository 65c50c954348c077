/*
 * scene_view - the camera of a rendered scene: from metres in the world to pixels.
 *
 * The world: x to the right, y up, z away from the camera, in metres. The camera hangs height_m over (0, 0), turned by yaw and looking down by pitch.
 * A mirrored view shows -x where x is. Pure; threads: none; memory: the struct.
 */
#ifndef HERON_PIPELINE_SCENE_VIEW_H
#define HERON_PIPELINE_SCENE_VIEW_H

#include "pipeline/draw.h"

struct vec {
    double x, y, z;
};

struct scene_view {
    double height_m;
    double pitch_sin, pitch_cos, yaw_sin, yaw_cos;
    double side; /* 1, or -1: mirrored */
    double focal_px, cx, cy;
};

/* pitch (down) and yaw in degrees. The focal length is 0.8 of the picture's width, or of 16/9 of its height where that is more. */
void scene_view_init(struct scene_view *v, int width_px, int height_px, double height_m, double pitch_deg, double yaw_deg,
                     bool is_mirrored);

/* Distance along the optical axis, at least 0.5 m. */
double scene_view_depth(const struct scene_view *v, struct vec p);
struct point scene_view_project(const struct scene_view *v, struct vec p);
/* Pixels per metre at a place. */
double scene_view_scale(const struct scene_view *v, struct vec p);
/* Height of the horizon in pixels from the top. */
double scene_view_horizon(const struct scene_view *v);

/* How much of a flat polygon's picture (3 <= n <= DRAW_MAX_POINTS - 4, convex, all before the camera) lies in a picture of that size: 0 to 1. */
double scene_view_share(const struct scene_view *v, const struct vec *p, int n, int width_px, int height_px);

/* A flat polygon in the world (n <= DRAW_MAX_POINTS, all before the camera); a rectangle on the ground; one that stands upright across the view. */
void scene_view_polygon(const struct scene_view *v, struct canvas *c, const struct vec *p, int n, struct colour colour);
void scene_view_floor(const struct scene_view *v, struct canvas *c, double x0, double z0, double x1, double z1,
                      struct colour colour);
void scene_view_wall(const struct scene_view *v, struct canvas *c, double x0, double y0, double x1, double y1, double z,
                     struct colour colour);

#endif
