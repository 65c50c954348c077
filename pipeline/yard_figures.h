/*
 * yard_figures - how each kind of actor of the yard is drawn, one file per kind; entered through yard_actor_draw.
 *
 * All of them: brush_init was called for the actor; they draw with the canvas' id. Pure but for the canvas; threads: one at a time per canvas; memory: none.
 */
#ifndef HERON_PIPELINE_YARD_FIGURES_H
#define HERON_PIPELINE_YARD_FIGURES_H

#include "pipeline/yard_brush.h"

#define V(x_, y_, z_) ((struct vec){(x_), (y_), (z_)})

/* ---- yard_people.c ---- */
void yard_person_draw(const struct brush *b);
/* The points that its shadow is cast from; returns how many, at most BRUSH_MAX_CAST. */
int yard_person_outline(const struct brush *b, struct vec *ret_points);

/* ---- yard_vehicles.c: cars and vans ---- */
void yard_vehicle_draw(const struct brush *b);
int yard_vehicle_outline(const struct brush *b, struct vec *ret_points);

/* ---- yard_animals.c: dogs and birds ---- */
void yard_dog_draw(const struct brush *b);
void yard_bird_draw(const struct brush *b);

/* ---- yard_fire.c: fire and smoke; boxes and bags ---- */
void yard_fire_draw(const struct brush *b, double wind);
void yard_smoke_draw(const struct brush *b, double wind);
void yard_box_draw(const struct brush *b);
void yard_bag_draw(const struct brush *b);

#endif
