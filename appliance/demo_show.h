/*
 * demo_show - the live screen while heron demo runs: keeps what it shows, draws the camera's pictures, and holds the terminal while it is large enough.
 *
 * Which frame the camera gives now follows from the newest observation: its truth says the frame's number, its frame_time when that was. Where there is no room
 * for a small picture of the frame that was looked at, that frame stands in the large one for a moment when its observation comes.
 *
 * Life cycle: demo_show_open -> demo_show_fit -> (demo_show_look, demo_show_status, demo_show_draw, demo_show_fit)* -> demo_show_close.
 * Threads: one owner. Memory: sheets, pictures and the newest observations. Drawing takes at most about a fifth of a core: the rest is the engine's.
 */
#ifndef HERON_APPLIANCE_DEMO_SHOW_H
#define HERON_APPLIANCE_DEMO_SHOW_H

#include <stdbool.h>
#include <stdint.h>

#include "appliance/demo_look.h"
#include "base/err.h"

struct demo_show;

struct demo_show_options {
    const char *source, *hint;      /* of the camera, borrowed for the call; the last row's words while all is well */
    int64_t end_ns;                 /* after how long the demo ends by itself; 0: not by itself */
    const struct demo_tally *tally; /* borrowed; drawn as it is then */
};

/*
 * The terminal is not touched yet. A source that is not rendered here has no picture.
 * Errors: ERR_UNSUPPORTED (standard output is no terminal for it: demo_terminal_is_able), ERR_NOMEM.
 */
int demo_show_open(const struct demo_show_options *options, struct demo_show **ret_show, struct err *err);

/* Leaves the terminal as it was. Takes NULL. */
void demo_show_close(struct demo_show *show);

/*
 * The terminal may have another size, or be this process's again: take it where it is large enough and this process is in the foreground, otherwise leave it.
 * Returns whether the screen is on now.
 */
bool demo_show_fit(struct demo_show *show);

/* Leave the terminal; demo_show_fit takes it again. */
void demo_show_leave(struct demo_show *show);

/* An observation arrived; another state of P/status. */
void demo_show_look(struct demo_show *show, const struct demo_look *look);
void demo_show_status(struct demo_show *show, const char *state, const char *reason);

/* Draw if it is time to. Returns when it will be (monotonic); INT64_MAX: the screen is not on. */
int64_t demo_show_draw(struct demo_show *show);

#endif
