#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/terminal.h"

#define SITE_WINDOW_NS (10 * CLOCK_S)
#define SITE_LINES     10

static const char *const level_words[] = {"error", "warning", "notice", "info", "debug"};

static struct {
    pthread_mutex_t lock;
    enum log_level level;
    enum { SINK_UNKNOWN, SINK_PLAIN, SINK_JOURNAL, SINK_TERMINAL } sink;
    char ring[LOG_RING_LINES][LOG_LINE_BYTES];
    uint64_t n_lines; /* ever written */
} state = {.lock = PTHREAD_MUTEX_INITIALIZER, .level = LOG_LEVEL_INFO};

/* Where the user info of the URL whose authority begins at p ends; NULL: it has none. A password may hold / ? # and quotes as people write it. */
static char *find_at(char *p)
{
    const size_t authority = strcspn(p, "/?# \t\r\n"), token = strcspn(p, " \t\r\n");
    char *at = NULL;
    for (size_t i = 0; i < token; i++)
        if (p[i] == '@')
            at = p + i;
    /* host/path@x has an @ too, and no secret; host:554/path@x cannot be told from user:554/word@x */
    return at && ((size_t)(at - p) < authority || memchr(p, '@', authority) || memchr(p, ':', authority)) ? at : NULL;
}

char *log_mask(char *begin, char *end)
{
    const size_t n = (size_t)(end - begin), stars = n < 3 ? n : 3;
    memset(begin, '*', stars);
    memmove(begin + stars, end, strlen(end) + 1);
    return begin + stars;
}

void log_redact(char *s)
{
    for (char *p = strstr(s, "://"); p; p = strstr(p, "://")) {
        p += 3;
        char *at = find_at(p);
        if (at)
            p = log_mask(p, at);
    }
}

/* A line that was cut may end inside of a URL's user info, its @ lost. */
static void redact_cut(char *line)
{
    char *last = NULL;
    for (char *p = strstr(line, "://"); p; p = strstr(p + 3, "://"))
        last = p + 3;
    if (last && !last[strcspn(last, " \t\r\n")] && !strchr(last, '@'))
        *last = 0;
}

/* under lock */
static void emit(enum log_level level, const char *line)
{
    if (state.sink == SINK_UNKNOWN)
        state.sink = getenv("JOURNAL_STREAM")               ? SINK_JOURNAL
                     : terminal_is_colourful(STDERR_FILENO) ? SINK_TERMINAL
                                                            : SINK_PLAIN;
    static const int priority[] = {3, 4, 5, 6, 7};
    static const char *const colour[] = {"\033[31m", "\033[33m", "\033[1m", "", "\033[2m"};
    if (state.sink == SINK_JOURNAL)
        fprintf(stderr, "<%d>%s\n", priority[level], line);
    else if (state.sink == SINK_TERMINAL && *colour[level])
        fprintf(stderr, "%s%s\033[0m\n", colour[level], line);
    else
        fprintf(stderr, "%s\n", line);
    char *slot = state.ring[state.n_lines++ % LOG_RING_LINES];
    snprintf(slot, LOG_LINE_BYTES, "%s: %.*s", level_words[level], LOG_LINE_BYTES - 16, line);
}

void log_write(enum log_level level, struct log_site *site, const char *fmt, ...)
{
    if (level > __atomic_load_n(&state.level, __ATOMIC_RELAXED))
        return;
    char line[LOG_LINE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    const int n_whole = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (n_whole >= (int)sizeof line)
        redact_cut(line);
    log_redact(line);
    for (char *p = line; *p; p++) /* one event, one line, whatever a camera or a broker put into its text */
        if ((unsigned char)*p < 0x20)
            *p = ' ';
    const int64_t now = clock_now_ns();
    pthread_mutex_lock(&state.lock);
    if (now - site->window_start_ns >= SITE_WINDOW_NS || site->window_start_ns == 0) {
        site->window_start_ns = now;
        site->in_window = 0;
        if (site->held_back) {
            char more[64];
            snprintf(more, sizeof more, " held_back=%u", site->held_back);
            site->held_back = 0;
            const size_t n = strlen(line), m = strlen(more);
            memcpy(line + (n + m < sizeof line ? n : sizeof line - 1 - m), more, m + 1);
        }
    }
    if (site->in_window < SITE_LINES) {
        site->in_window++;
        emit(level, line);
    } else {
        site->held_back++;
    }
    pthread_mutex_unlock(&state.lock);
}

void log_set_level(enum log_level level)
{
    __atomic_store_n(&state.level, level, __ATOMIC_RELAXED);
}

bool log_level_parse(const char *word, enum log_level *ret_level)
{
    for (size_t i = 0; i < sizeof level_words / sizeof *level_words; i++)
        if (strcmp(word, level_words[i]) == 0) {
            *ret_level = (enum log_level)i;
            return true;
        }
    return false;
}

size_t log_recent(char *out, size_t cap)
{
    size_t n = 0;
    if (cap == 0)
        return 0;
    out[0] = '\0';
    pthread_mutex_lock(&state.lock);
    const uint64_t have = state.n_lines < LOG_RING_LINES ? state.n_lines : LOG_RING_LINES;
    uint64_t first = state.n_lines - have;
    /* drop from the old end until the rest fits */
    size_t need = 1;
    for (uint64_t i = first; i < state.n_lines; i++)
        need += strlen(state.ring[i % LOG_RING_LINES]) + 1;
    while (need > cap && first < state.n_lines)
        need -= strlen(state.ring[first++ % LOG_RING_LINES]) + 1;
    for (uint64_t i = first; i < state.n_lines; i++) {
        const char *line = state.ring[i % LOG_RING_LINES];
        const size_t m = strlen(line);
        memcpy(out + n, line, m);
        n += m;
        out[n++] = '\n';
    }
    out[n] = '\0';
    pthread_mutex_unlock(&state.lock);
    return n;
}
