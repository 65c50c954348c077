/*
 * log - one line per thing that happened: a stable message, then key=value.
 *
 *   log_warning("camera lost camera=%s retry_s=%d", id, s);
 *
 * To standard error: with `<n>` priorities where a journal reads it (JOURNAL_STREAM), with a colour where a person does (a
 * terminal), plain otherwise. The last lines stay in a ring for the status page. Only appliance/ logs above debug; other
 * rooms return errors and count. No line per frame above debug. User info in URLs (user:secret@host) is replaced by stars in
 * every line, whoever wrote it.
 *
 * Threads: every function may be called from any thread. Memory: fixed; a line is cut at LOG_LINE_BYTES.
 */
#ifndef HERON_BASE_LOG_H
#define HERON_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_LINE_BYTES 1024
#define LOG_RING_LINES 256

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_NOTICE, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* One call site's budget: at most 10 lines in 10 seconds; how many were held back is said with the next line let through. */
struct log_site {
    int64_t window_start_ns;
    uint32_t in_window;
    uint32_t held_back;
};

void log_write(enum log_level level, struct log_site *site, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#define LOG_AT(level, ...)                                                                                                     \
    do {                                                                                                                       \
        static struct log_site log_site_here;                                                                                  \
        log_write((level), &log_site_here, __VA_ARGS__);                                                                       \
    } while (0)

#define log_error(...)   LOG_AT(LOG_LEVEL_ERROR, __VA_ARGS__)   /* someone must act */
#define log_warning(...) LOG_AT(LOG_LEVEL_WARNING, __VA_ARGS__) /* we carry on: say "ignoring" or "retrying in" */
#define log_notice(...)  LOG_AT(LOG_LEVEL_NOTICE, __VA_ARGS__)  /* a change of state */
#define log_info(...)    LOG_AT(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   LOG_AT(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* Lines above this level are dropped; LOG_LEVEL_INFO at start. */
void log_set_level(enum log_level level);

/* Parse "error" ... "debug"; returns false for another word. */
bool log_level_parse(const char *word, enum log_level *ret_level);

/* Copy the newest lines, oldest first, newline-separated, into out[cap]; returns the bytes written without the final NUL. */
size_t log_recent(char *out, size_t cap);

/* Replace the user info of every URL in s, in place (the text only gets shorter or stays). */
void log_redact(char *s);

/* Replace begin..end, a part of a NUL-terminated text, by three stars, or as many as it is long where it is shorter. Returns what follows the stars. */
char *log_mask(char *begin, char *end);

#endif
