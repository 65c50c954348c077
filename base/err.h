/*
 * err - how every room says what went wrong.
 *
 * A function that can fail returns 0 or one of the negative codes below, and takes a caller-owned
 * `struct err *err` as its last parameter, which may be NULL. The callee that finds the first cause writes
 * it there in words that a person in the field can act on (file, offset, expected, found). Callers on the
 * way up may put context in front (err_prefix); nobody replaces the cause. Results are named `ret_x` and are
 * untouched on failure.
 *
 * Threads: a `struct err` belongs to one thread. Memory: none; the text is inside the struct, truncated to fit.
 */
#ifndef HERON_BASE_ERR_H
#define HERON_BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

enum err_code {
    ERR_OK = 0,
    ERR_INVAL = -1,       /* a value outside what is allowed: bad argument, bad option, bad config */
    ERR_IO = -2,          /* the operating system or a device said no (open, read, write, connect) */
    ERR_FORMAT = -3,      /* bytes that are not what they claim to be: truncated, lying, malformed */
    ERR_UNSUPPORTED = -4, /* well formed, but Heron cannot do this */
    ERR_NOMEM = -5,       /* memory, host or device */
    ERR_FULL = -6,        /* a bounded thing has no room: queue, context, page pool */
    ERR_TIMEOUT = -7,     /* a deadline passed */
    ERR_CANCELLED = -8,   /* the caller or a shut-down asked for the end */
    ERR_NOT_FOUND = -9,   /* no such file, key, tensor, camera */
    ERR_DEVICE = -10,     /* a compute device failed; its stream is dead */
    ERR_STATE = -11,      /* the call is not allowed now (not open, already running, no permit) */
    ERR_AGAIN = -12,      /* nothing to take at the moment; not a failure */
};

struct err {
    int code;       /* one of enum err_code; 0 while nothing failed */
    char text[512]; /* the cause, one line, no newline at the end */
};

/* Record the cause: sets code and text. `err` may be NULL. Returns `code`, so that `return err_set(...)` reads well. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As err_set with `: ` and the text of errno at the end. Call before anything that may change errno. */
int err_set_errno(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Put context and `: ` in front of a recorded cause. Returns err->code (or `ERR_INVAL` where err is NULL or empty). */
int err_prefix(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Forget the cause. */
void err_clear(struct err *err);

/* A short name of a code, such as "format"; never NULL. */
const char *err_name(int code);

#endif
