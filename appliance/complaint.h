/*
 * complaint - what is wrong with a configuration, all at once, each with its place.
 *
 * A list collects up to COMPLAINTS_MAX errors (further ones are counted) and as many warnings, and prints each as
 * `file:line:col: message`, the source line, and a caret under the place. The source line is copied when the complaint is made,
 * so that the file may go.
 *
 * Life cycle: zero-initialise -> complaint_add as often as wanted -> complaint_print, complaint_first -> complaint_release.
 * Threads: one owner. Memory: fixed, but for the texts, which complaint_release frees.
 */
#ifndef HERON_APPLIANCE_COMPLAINT_H
#define HERON_APPLIANCE_COMPLAINT_H

#include <stdbool.h>
#include <stdio.h>

#define COMPLAINTS_MAX       20
#define COMPLAINTS_COUNT_MAX 1000 /* readers stop here: a file of this many errors is none */

/* Where a value stands. line and col count from 1, col in characters; line 0: the file as a whole. Borrowed texts. */
struct place {
    const char *file;
    const char *line_text; /* the source line, not terminated; NULL: unknown */
    int line_bytes;
    int line, col;
    int width; /* characters to underline; 0: one caret */
};

struct complaint {
    bool is_warning;
    char *file;
    char *line_text;
    int line, col, width;
    char *message;
    char *key; /* the path of the key that it is about; "" */
};

struct complaints {
    struct complaint items[2 * COMPLAINTS_MAX];
    int n;
    int n_errors, n_warnings; /* including those beyond the limits */
};

/* Note an error about `key` (a dotted path, or NULL) at a place (NULL: none). */
void complaint_add(struct complaints *list, const struct place *place, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The same for a warning: what is accepted, but not what the writer may think. */
void complaint_warn(struct complaints *list, const struct place *place, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Bring them into the order of files (those not listed last), lines and columns. */
void complaint_sort(struct complaints *list, const char *const *files, int n_files);

/* Print all in their order. `colour`: for a terminal. */
void complaint_print(const struct complaints *list, FILE *out, bool colour);

/* The first error, or NULL. */
const struct complaint *complaint_first(const struct complaints *list);

/* Free the texts and empty the list. */
void complaint_release(struct complaints *list);

#endif
