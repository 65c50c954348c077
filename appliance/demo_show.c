#include "appliance/demo_show.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "appliance/demo_picture.h"
#include "appliance/demo_screen.h"
#include "appliance/demo_terminal.h"
#include "base/clock.h"

#define LOOKS    64
#define FLASH_NS (1200 * CLOCK_MS) /* for which the frame that was looked at is shown */
#define IDLE_NS  (500 * CLOCK_MS)  /* between two frames of a screen without a moving picture */
#define FPS_MAX  10.0
#define REST     4 /* after drawing, so many times as long as it took */

/* A picture, and which frame it shows. */
struct canvas {
    uint8_t *rgb;
    int width_px, height_px;
    uint64_t i_frame;
    bool is_drawn;
};

struct demo_show {
    struct demo_show_options options;
    struct demo_picture *picture; /* NULL: the camera is not rendered here */
    bool is_on;
    struct demo_grid *grid;
    struct demo_layout layout;
    struct canvas scene, seen;
    struct demo_look looks[LOOKS];
    int n_looks, i_newest;
    char state[32], reason[400];
    int64_t opened_ns, next_ns, looked_ns, flash_until_ns;
    char name[128];
};

int demo_show_open(const struct demo_show_options *options, struct demo_show **ret_show, struct err *err)
{
    if (!demo_terminal_is_able())
        return err_set(err, ERR_UNSUPPORTED, "standard output is not a terminal of colours");
    struct demo_show *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "out of memory");
    s->options = *options;
    s->opened_ns = clock_now_ns();
    s->i_newest = LOOKS - 1;
    if (demo_picture_open(options->source, &s->picture, err) == ERR_NOMEM) {
        demo_show_close(s);
        return ERR_NOMEM;
    }
    if (s->picture)
        demo_picture_name(s->picture, s->name, sizeof s->name);
    else
        snprintf(s->name, sizeof s->name, "%s", options->source);
    *ret_show = s;
    return 0;
}

void demo_show_close(struct demo_show *s)
{
    if (!s)
        return;
    demo_show_leave(s);
    demo_picture_close(s->picture);
    demo_grid_free(s->grid);
    free(s->scene.rgb);
    free(s->seen.rgb);
    free(s);
}

void demo_show_leave(struct demo_show *s)
{
    if (s->is_on)
        demo_terminal_leave();
    s->is_on = false;
}

/* Another size; black, and no frame drawn yet. False: no memory. */
static bool resize(struct canvas *c, int width_px, int height_px)
{
    free(c->rgb);
    *c = (struct canvas){.width_px = width_px, .height_px = height_px};
    c->rgb = width_px > 0 ? calloc((size_t)width_px * (size_t)height_px, 3) : NULL;
    return c->rgb || width_px == 0;
}

/* A grid and pictures of this size. */
static bool rebuild(struct demo_show *s, int cols, int rows)
{
    if (!s->grid || s->grid->cols != cols || s->grid->rows != rows) {
        demo_grid_free(s->grid);
        s->grid = demo_grid_create(cols, rows, demo_terminal_is_true_colour());
        if (!s->grid)
            return false;
    }
    struct demo_layout *l = &s->layout;
    demo_screen_lay_out(s->grid->cols, s->grid->rows, s->picture ? demo_picture_aspect(s->picture) : 0, l);
    return resize(&s->scene, l->scene_cols, 2 * l->scene_rows) && resize(&s->seen, l->seen_cols, 2 * l->seen_rows);
}

bool demo_show_fit(struct demo_show *s)
{
    int cols, rows;
    const bool is_room = demo_terminal_get_size(&cols, &rows) && cols >= DEMO_SCREEN_COLS_MIN && rows >= DEMO_SCREEN_ROWS_MIN;
    if (!is_room || !rebuild(s, cols, rows)) {
        demo_show_leave(s);
        return false;
    }
    s->is_on = demo_terminal_enter();
    demo_grid_forget(s->grid);
    s->next_ns = 0;
    return s->is_on;
}

void demo_show_look(struct demo_show *s, const struct demo_look *look)
{
    s->i_newest = (s->i_newest + 1) % LOOKS;
    s->looks[s->i_newest] = *look;
    s->n_looks += s->n_looks < LOOKS;
    const int64_t now = clock_now_ns(), third = (now - s->looked_ns) / 3; /* most of the time is the present's */
    s->flash_until_ns = now + (third < FLASH_NS ? third : FLASH_NS);
    s->looked_ns = now;
    s->next_ns = 0;
}

void demo_show_status(struct demo_show *s, const char *state, const char *reason)
{
    snprintf(s->state, sizeof s->state, "%s", state);
    snprintf(s->reason, sizeof s->reason, "%s", reason);
    s->next_ns = 0;
}

static void draw_canvas(struct demo_show *s, struct canvas *c, uint64_t i_frame)
{
    if (!c->rgb || (c->is_drawn && c->i_frame == i_frame))
        return;
    if (demo_picture_draw(s->picture, i_frame, c->rgb, c->width_px, c->height_px, NULL) != 0)
        return; /* no memory: what was drawn before stays, with its number */
    c->i_frame = i_frame;
    c->is_drawn = true;
}

static struct demo_pane pane_of(const struct canvas *c)
{
    return (struct demo_pane){c->is_drawn ? c->rgb : NULL, c->width_px, c->height_px, c->i_frame};
}

/* The frame that the camera gives now, from one that it gave then. */
static uint64_t frame_now(const struct demo_look *look, double fps)
{
    const double since_s = (double)(clock_wall_ns() - look->frame_wall_ns) / CLOCK_S;
    return since_s > 0 && since_s < 1e6 ? look->i_frame + (uint64_t)(since_s * fps) : look->i_frame;
}

int64_t demo_show_draw(struct demo_show *s)
{
    const int64_t now = clock_now_ns();
    if (!s->is_on)
        return INT64_MAX;
    if (now < s->next_ns)
        return s->next_ns;
    const struct demo_look *look = s->n_looks > 0 ? s->looks + s->i_newest : NULL;
    const double fps = s->picture ? fmin(demo_picture_fps(s->picture), FPS_MAX) : 0;
    bool is_seen = true;
    if (s->picture && !look)
        draw_canvas(s, &s->scene, 0);
    else if (s->picture && look->has_truth) {
        is_seen = fps <= 0 || (!s->seen.rgb && now < s->flash_until_ns);
        draw_canvas(s, &s->scene, is_seen ? look->i_frame : frame_now(look, demo_picture_fps(s->picture)));
        draw_canvas(s, &s->seen, look->i_frame);
    }
    const struct demo_view view = {
        .name = s->name,
        .state = s->state,
        .reason = s->reason,
        .ending = demo_terminal_fd() >= 0 ? "q ends" : "Ctrl-C ends",
        .hint = s->options.hint,
        .run_ns = now - s->opened_ns,
        .end_ns = s->options.end_ns,
        .scene = pane_of(&s->scene),
        .seen = pane_of(&s->seen),
        .is_seen = is_seen,
        .looks = s->looks,
        .n_looks = s->n_looks,
        .i_newest = s->i_newest,
        .n_ring = LOOKS,
        .tally = s->options.tally,
    };
    demo_screen_compose(s->grid, &s->layout, &view);
    size_t n = 0;
    const char *bytes = demo_grid_encode(s->grid, &n);
    if (bytes && !demo_terminal_write(bytes, n))
        demo_grid_forget(s->grid);
    const int64_t done = clock_now_ns(), interval = fps > 0 ? (int64_t)(CLOCK_S / fps) : IDLE_NS, rest = REST * (done - now);
    s->next_ns = now + interval > done + rest ? now + interval : done + rest;
    return s->next_ns;
}
