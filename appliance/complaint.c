#include "appliance/complaint.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/utf8.h"

#define LINE_MAX_BYTES 200 /* of a source line: more does not fit a terminal */

/*
 * User info of URLs, up to the last @ of the word: a password with a plain / or # in it ends the authority for a parser, and
 * its line is the one that is shown.
 */
static void hide_user_info(char *s)
{
    for (char *p = strstr(s, "://"); p; p = strstr(p, "://")) {
        p += 3;
        const size_t word = strcspn(p, " \t\"'<>");
        char *at = memrchr(p, '@', word);
        if (at)
            p = log_mask(p, at);
    }
}

/* What follows `password:` to the end of the line, unless it is a reference: { ... }. */
static void hide_password(char *s)
{
    for (char *p = strcasestr(s, "password"); p; p = strcasestr(p + 1, "password")) {
        char *value = strchr(p, ':');
        if (!value || value[1 + strspn(value + 1, " \t\"'")] == '{')
            continue;
        if (strlen(value + 1) >= 4)
            strcpy(value + 1, " ***");
        else
            value[1] = '\0';
        return;
    }
}

/* Values of properties in a gst: description, user-pw=... and the like, up to the blank or the quote that ends them. */
static void hide_properties(char *s)
{
    static const char *const names[] = {"pw=", "pass=", "passwd=", "password=", "secret=", "token="};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (char *p = strcasestr(s, names[i]); p; p = strcasestr(p, names[i])) {
            p += strlen(names[i]);
            char *end = *p == '"' || *p == '\'' ? strchr(p + 1, *p) : p + strcspn(p, " \t\"'!");
            log_mask(p, end ? end : p + strlen(p));
        }
}

/*
 * One line of whole characters that moves no cursor: what escapes of YAML can write (\e, \n) would forge lines and colours, and a
 * text cut at a number of bytes may end inside a character. Tabs stay where has_tabs.
 */
static char *clean(const char *text, size_t n, bool has_tabs)
{
    const size_t need = utf8_repair(text, n, NULL, 0);
    char *s = malloc(need + 1);
    if (!s)
        return NULL;
    s[utf8_repair(text, n, s, need)] = '\0';
    for (unsigned char *p = (unsigned char *)s; *p; p++) {
        if ((*p < 0x20 && !(has_tabs && *p == '\t')) || *p == 0x7F)
            *p = '?';
        else if (*p == 0xC2 && p[1] < 0xA0) /* U+0080 to U+009F */
            p[0] = p[1] = '?';
    }
    hide_user_info(s);
    hide_properties(s);
    return s;
}

static char empty[1]; /* stands for a text that there was no memory for: readers need not ask */

static char *copy(const char *text)
{
    char *s = clean(text ? text : "", text ? strlen(text) : 0, false);
    return s ? s : empty;
}

static void drop(char *text)
{
    if (text != empty)
        free(text);
}

/* The source line; cut only after secrets are hidden, which the cut would disguise. */
static char *copy_line(const struct place *place)
{
    char *s = place && place->line_text ? clean(place->line_text, (size_t)place->line_bytes, true) : NULL;
    if (!s)
        return NULL;
    hide_password(s);
    if (strlen(s) > LINE_MAX_BYTES) {
        size_t n = LINE_MAX_BYTES;
        while (n && ((unsigned char)s[n] & 0xC0) == 0x80)
            n--;
        s[n] = '\0';
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
    const char *p = c->line_text;
    int col = 1;
    for (uint32_t cp; col < c->col && *p; col++)
        p += utf8_decode(p, strlen(p), &cp);
    if (col < c->col) /* the place was cut off */
        return;
    fputs("    ", out);
    for (const char *q = c->line_text; q < p;) {
        uint32_t cp;
        fputc(*q == '\t' ? '\t' : ' ', out);
        q += utf8_decode(q, strlen(q), &cp);
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
        else if (*c->file)
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

static int rank_of(const char *file, const char *const *files, int n_files)
{
    int i = 0;
    while (i < n_files && strcmp(file, files[i]) != 0)
        i++;
    return i;
}

static bool stands_before(const struct complaint *a, const struct complaint *b, const char *const *files, int n_files)
{
    const int rank_a = rank_of(a->file, files, n_files), rank_b = rank_of(b->file, files, n_files);
    if (rank_a != rank_b)
        return rank_a < rank_b;
    return a->line != b->line ? a->line < b->line : a->col < b->col;
}

void complaint_sort(struct complaints *list, const char *const *files, int n_files)
{
    /* by insertion: forty at most, and what stands at one place stays in its order */
    for (int i = 1; i < list->n; i++) {
        const struct complaint c = list->items[i];
        int k = i;
        for (; k > 0 && stands_before(&c, &list->items[k - 1], files, n_files); k--)
            list->items[k] = list->items[k - 1];
        list->items[k] = c;
    }
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
        drop(list->items[i].file);
        drop(list->items[i].line_text);
        drop(list->items[i].message);
        drop(list->items[i].key);
    }
    *list = (struct complaints){0};
}
