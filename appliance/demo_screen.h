/*
 * demo_screen - the live screen of heron demo: the scene, the observation and the truth side by side, composed into a grid of cells.
 *
 *    header              what is watched, light and weather, time, state
 *    scene    | answer   the camera's picture  |  summary, fields with answer, truth and mark, the truth in words
 *    latency             where the time of the newest observation went
 *    right               how often the answers were right
 *    before              the newest observations, one a line
 *    footer              how to end; why something is not as it should be, or a hint
 *
 * Pure: what is to be seen comes in a struct demo_view, and nothing else is asked. Threads: any. Memory: none of its own.
 * Invariants: fits every grid of at least DEMO_SCREEN_COLS_MIN x DEMO_SCREEN_ROWS_MIN; nothing overlaps.
 */
#ifndef HERON_APPLIANCE_DEMO_SCREEN_H
#define HERON_APPLIANCE_DEMO_SCREEN_H

#include <stdbool.h>
#include <stdint.h>

#include "appliance/demo_grid.h"
#include "appliance/demo_look.h"

#define DEMO_SCREEN_COLS_MIN 80
#define DEMO_SCREEN_ROWS_MIN 24

/* Where things are, in cells. A width of 0: it is not there. */
struct demo_layout {
    int scene_x, scene_cols; /* the picture; its height is body_rows or less */
    int scene_rows;
    int answer_x, answer_cols; /* the observation */
    int seen_cols, seen_rows;  /* above it, a small picture of the frame that was looked at */
    int body_y, body_rows;     /* below the titles of both */
    int latency_y, tally_y, history_y, history_rows;
};

/* aspect: width by height of the camera's picture; 0: there is none to be shown. */
void demo_screen_lay_out(int cols, int rows, double aspect, struct demo_layout *ret_layout);

/* A picture rgb [height_px, width_px, 3] of a frame; rgb NULL: none yet. */
struct demo_pane {
    const uint8_t *rgb;
    int width_px, height_px;
    uint64_t i_frame;
};

struct demo_view {
    const char *name;             /* of the camera */
    const char *state, *reason;   /* of P/status, the first reason */
    const char *ending;           /* how to end it */
    const char *hint;             /* what stands behind that while there is no reason */
    int64_t run_ns, end_ns;       /* since the start; when it ends by itself, 0: it does not */
    struct demo_pane scene, seen; /* now (or is_seen: the frame that was looked at); the small one */
    bool is_seen;
    const struct demo_look *looks; /* [n_looks] a ring */
    int n_looks, i_newest;         /* how many of it are filled; where the newest is */
    int n_ring;
    const struct demo_tally *tally;
};

/* Compose the whole sheet. The pictures have the sizes of the layout: two pixels to a row. */
void demo_screen_compose(struct demo_grid *grid, const struct demo_layout *layout, const struct demo_view *view);

#endif
