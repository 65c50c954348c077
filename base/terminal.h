/*
 * terminal - who reads what is written: a person at a terminal that shows colours, or something else.
 */
#ifndef HERON_BASE_TERMINAL_H
#define HERON_BASE_TERMINAL_H

#include <stdbool.h>

/* Whether fd is a terminal that shows colours (TERM is neither missing nor "dumb") to someone who wants them (NO_COLOR is not set: no-color.org). Any thread that does not change the environment. */
bool terminal_is_colourful(int fd);

#endif
