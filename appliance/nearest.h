/*
 * nearest - the known word that a mistyped one most resembles, for "did you mean". Threads: pure functions. Memory: none.
 */
#ifndef HERON_APPLIANCE_NEAREST_H
#define HERON_APPLIANCE_NEAREST_H

#include <stddef.h>

/* Edits (insert, delete, replace, swap of neighbours) between two words; words beyond 63 bytes are compared by their first 63. */
int nearest_distance(const char *a, const char *b);

/* Keeps the best of the candidates offered. Start with {.word = ...}. */
struct nearest {
    const char *word;
    const char *best; /* NULL: nothing close enough */
    int distance;
};

void nearest_offer(struct nearest *n, const char *candidate);

#endif
