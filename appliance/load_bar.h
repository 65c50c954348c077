/*
 * load_bar - the line that a person at a terminal sees while a model is loaded: how far, how fast, how long still. It is gone when loading is over.
 *
 * Life cycle: load_bar_begin -> load_bar_show as often as there is news -> load_bar_end. Threads: one at a time. Memory: none.
 */
#ifndef HERON_APPLIANCE_LOAD_BAR_H
#define HERON_APPLIANCE_LOAD_BAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct load_bar {
    int fd;           /* -1: nobody looks */
    int64_t begin_ns; /* monotonic */
    int64_t last_ns;  /* when it was drawn */
    bool is_drawn;
};

/* fd: where to draw, if that is a terminal; borrowed. */
void load_bar_begin(struct load_bar *bar, int fd);

/* Drawn five times a second at most, and not at all where loading is done before the first time. */
void load_bar_show(struct load_bar *bar, uint64_t done_bytes, uint64_t total_bytes);

/* Erase what was drawn. */
void load_bar_end(struct load_bar *bar);

/* The line itself, no longer than `columns` characters: "loading [######      ]  48 % of 3.40 GB, 1.65 GB/s, 2 s left". Pure. */
void load_bar_text(uint64_t done_bytes, uint64_t total_bytes, int64_t elapsed_ns, int columns, char *out, size_t cap);

#endif
