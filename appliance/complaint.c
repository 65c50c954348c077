#include "appliance/complaint.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/utf8.h"

#define LINE_MAX_BYTES 200 /* of a source line: more does not fit a terminal */

static char *copy(const char *text)
{
    char *s = strdup(text ? text : "");
    if (s)
        log_redact(s);
    return s;
}

/* The source line with tabs as they are and everything else that moves a cursor as a question mark. */
static char *copy_line(const struct place *place)
{
    if (!place || !place->line_text)
        return NULL;
    const size_t n = place->line_bytes < LINE_MAX_BYTES ? (size_t)place->line_bytes : LINE_MAX_BYTES;
    const size_t need = utf8_repair(place->line_text, n, NULL, 0);
    char *s = malloc(need + 1);
    if (!s)
        return NULL;
    s[utf8_repair(place->line_text, n, s, need)] = '\0';
    for (char *p = s; *p; p++)
        if ((unsigned char)*p < 0x20 && *p != '\t')
            *p = '?';
    log_redact(s);
    /* a password that should not stand there is not repeated either */
    for (char *p = strcasestr(s, "password"); p; p = NULL) {
        char *value = strchr(p, ':');
        if (value && !strchr(value, '{'))
            strcpy(value + 1, strlen(value) > 4 ? " ***" : "");
    }
    return s;
}

static void add(struct complaints *list, bool is_warning, const struct place *place, const char *key, const char *fmt,
                va_list ap)
{
    int *count = is_warning ? &list->n_warnings : &list->n_errors;
    if (++*count > COMPLAINTS_MAX)
        return;
    char message[512];
    vsnprintf(message, sizeof message, fmt, ap);
    list->items[list->n++] = (struct complaint){
        .is_warning = is_warning,
        .file = copy(place && place->file ? place->file : ""),
        .line_text = copy_line(place),
        .line = place ? place->line : 0,
        .col = place ? place->col : 0,
        .width = place ? place->width : 0,
        .message = copy(message),
        .key = copy(key),
    };
}

void complaint_add(struct complaints *list, const struct place *place, const char *key, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add(list, false, place, key, fmt, ap);
    va_end(ap);
}

void complaint_warn(struct complaints *list, const struct place *place, const char *key, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add(list, true, place, key, fmt, ap);
    va_end(ap);
}

/* A caret under character `col`, after the line's own tabs so that it stands right in any tab width. */
static void print_caret(const struct complaint *c, FILE *out, bool colour)
{
    fputs("    ", out);
    const char *p = c->line_text;
    for (int i = 1; i < c->col && *p; i++) {
        uint32_t cp;
        fputc(*p == '\t' ? '\t' : ' ', out);
        p += utf8_decode(p, strlen(p), &cp);
    }
    fputs(colour ? "\033[32m^" : "^", out);
    size_t left = 0;
    for (const char *q = p; *q; left++) {
        uint32_t cp;
        q += utf8_decode(q, strlen(q), &cp);
    }
    for (int i = 1; i < c->width && (size_t)i < left; i++)
        fputc('~', out);
    fputs(colour ? "\033[0m\n" : "\n", out);
}

void complaint_print(const struct complaints *list, FILE *out, bool colour)
{
    for (int i = 0; i < list->n; i++) {
        const struct complaint *c = &list->items[i];
        const char *word = !c->is_warning ? "" : colour ? "\033[33mwarning:\033[0m " : "warning: ";
        if (c->line > 0)
            fprintf(out, "%s:%d:%d: %s%s\n", c->file, c->line, c->col, word, c->message);
        else if (c->file && *c->file)
            fprintf(out, "%s: %s%s\n", c->file, word, c->message);
        else
            fprintf(out, "%s%s\n", word, c->message);
        if (c->line_text && *c->line_text) {
            fprintf(out, "    %s\n", c->line_text);
            print_caret(c, out, colour);
        }
    }
    if (list->n_errors > COMPLAINTS_MAX)
        fprintf(out, "and %d further errors\n", list->n_errors - COMPLAINTS_MAX);
    if (list->n_warnings > COMPLAINTS_MAX)
        fprintf(out, "and %d further warnings\n", list->n_warnings - COMPLAINTS_MAX);
}

const struct complaint *complaint_first(const struct complaints *list)
{
    for (int i = 0; i < list->n; i++)
        if (!list->items[i].is_warning)
            return &list->items[i];
    return NULL;
}

void complaint_release(struct complaints *list)
{
    for (int i = 0; i < list->n; i++) {
        free(list->items[i].file);
        free(list->items[i].line_text);
        free(list->items[i].message);
        free(list->items[i].key);
    }
    *list = (struct complaints){0};
}
