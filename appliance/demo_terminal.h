/*
 * demo_terminal - the terminal that heron demo draws on: taken over and given back.
 *
 * Life cycle: demo_terminal_is_able (once) -> demo_terminal_enter -> demo_terminal_write, demo_terminal_key ... -> demo_terminal_leave, and again. Where the
 * process dies of a fault in between, the terminal is given back before it does.
 *
 * Threads: one owner; there is one terminal, and its state is this file's. Memory: none.
 * Invariants: writing never blocks for long: a terminal that is stopped (Ctrl-S) loses frames, not the demo's attention.
 */
#ifndef HERON_APPLIANCE_DEMO_TERMINAL_H
#define HERON_APPLIANCE_DEMO_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Whether standard output is a terminal that shows colours and UTF-8: TERM says so, NO_COLOR does not forbid it, and no locale with another character set is
 * set.
 */
bool demo_terminal_is_able(void);

/* Whether it shows 24-bit colours, by COLORTERM. */
bool demo_terminal_is_true_colour(void);

/* Its size now. False: not known, or this process is in its background. */
bool demo_terminal_get_size(int *ret_cols, int *ret_rows);

/* Another screen without cursor; keys are not echoed. False: it cannot be had. */
bool demo_terminal_enter(void);

/* As it was before. Nothing where it was not entered. */
void demo_terminal_leave(void);

/* All the bytes; false: the terminal did not take them in time, and shows some part of them. */
bool demo_terminal_write(const char *bytes, size_t n);

/* The descriptor that keys come from, for poll(); -1: none. Only while it is entered. */
int demo_terminal_fd(void);

/* A key that was pressed, or 0. */
char demo_terminal_key(void);

#endif
