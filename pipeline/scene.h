/*
 * scene - rendered worlds with known truth, for the synthetic camera.
 *
 * A scene is a pure function from (name, seed, size, frame, time) to a picture and the truth about it. Nothing is simulated forward: every actor's place follows from the
 * time alone, so frames can be drawn in any order.
 *
 * Life cycle: scene_open -> scene_draw any number of times -> scene_close. Threads: one at a time per scene. Memory: all in scene_open; drawing allocates nothing.
 *
 * What counts as seen is in scene_truth.h. How it is measured: while a frame is drawn, an object map tells which thing each pixel shows, and a second picture keeps what
 * was in that pixel, and which thing it was of, before this thing was drawn (the still background, shadows, things farther away; smoke, fire, the fence and the lamp post are drawn into it as well).
 * A thing's contrast is the mean of |shown - behind| over its pixels and the three channels, both as the lens shows them: in the light and the weather of the moment, with
 * all but the noise and the drops that fall before it. Its visible share is its pixels in the map by those it would have alone and uncut. Smoke and fire have no outline: they count with twice
 * the least pixels, whatever share that is.
 *
 * New scene: one scene_<name>.c with its kind, one row in scene.c.
 */
#ifndef HERON_PIPELINE_SCENE_H
#define HERON_PIPELINE_SCENE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "pipeline/scene_truth.h"

struct scene;

/* A kind of scene. Sizes are the caller's to check: above 0, and what it has memory for. */
struct scene_kind {
    const char *name;
    /* What ret_state gets is the caller's, to give to the others and to close. Errors: ERR_NOMEM; then there is nothing to close. */
    int (*open)(uint64_t seed, int width_px, int height_px, void **ret_state, struct err *err);
    void (*close)(void *state); /* NULL is allowed */
    /* As scene_draw. */
    void (*draw)(void *state, uint64_t i_frame, double t_s, uint8_t *rgb, size_t stride_bytes, struct scene_truth *ret_truth);
};

extern const struct scene_kind scene_yard;

/* Whether there is a scene of this name. Errors: ERR_INVAL with the nearest name. */
int scene_check(const char *name, struct err *err);

/*
 * Open a scene of a known name, in a size that url.h would accept: that is trusted here. Memory: about 22 bytes a pixel (183 MB for 3840x2160). Cost: some frames' time.
 * Errors: ERR_INVAL, ERR_NOMEM.
 */
int scene_open(const char *name, uint64_t seed, int width_px, int height_px, struct scene **ret_scene, struct err *err);

/* NULL is allowed. */
void scene_close(struct scene *scene);

/* Draw the instant t_s (finite) into rgb: height_px rows of stride_bytes, at least 3 * width_px. Cost: 2 ms for 341x192, by the pixel. i_frame seeds noise and rain and is told in the truth. ret_truth may be NULL. */
void scene_draw(struct scene *scene, uint64_t i_frame, double t_s, uint8_t *rgb, size_t stride_bytes,
                struct scene_truth *ret_truth);

#endif
