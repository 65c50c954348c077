/*
 * status - the overview of a running daemon as one screen of text that a person reads.
 *
 * What a camera, a model or a broker said is shown with its control and direction characters replaced by '?': a terminal must not obey it.
 *
 * Threads: pure but for the time zone (localtime). Memory: none kept.
 */
#ifndef HERON_APPLIANCE_STATUS_H
#define HERON_APPLIANCE_STATUS_H

#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"

struct status_style {
    bool has_colour;
    int columns; /* longer lines of free text are cut with an ellipsis; 0: none is */
};

/*
 * Draw `overview`, the JSON of payload_overview. What it lacks is shown as "-". Errors: ERR_FORMAT (no JSON object; nothing is drawn).
 * Whether writing worked is ferror's to say.
 */
int status_draw(FILE *out, const char *overview, const struct status_style *style, struct err *err);

#endif
