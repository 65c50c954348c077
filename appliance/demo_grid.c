#include "appliance/demo_grid.h"

#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/utf8.h"

#define ELLIPSIS   0x2026u
#define UPPER_HALF 0x2580u

struct demo_grid *demo_grid_create(int cols, int rows, bool is_true_colour)
{
    struct demo_grid *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    g->is_true_colour = is_true_colour;
    g->cols = cols < 1 ? 1 : cols > DEMO_GRID_COLS_MAX ? DEMO_GRID_COLS_MAX : cols;
    g->rows = rows < 1 ? 1 : rows > DEMO_GRID_ROWS_MAX ? DEMO_GRID_ROWS_MAX : rows;
    const size_t n = (size_t)g->cols * (size_t)g->rows;
    g->cells = calloc(n, sizeof *g->cells);
    g->shown = calloc(n, sizeof *g->shown);
    if (!g->cells || !g->shown) {
        demo_grid_free(g);
        return NULL;
    }
    demo_grid_begin(g);
    return g;
}

void demo_grid_free(struct demo_grid *g)
{
    if (!g)
        return;
    free(g->cells);
    free(g->shown);
    free(g->bytes);
    free(g);
}

void demo_grid_begin(struct demo_grid *g)
{
    for (int i = 0; i < g->cols * g->rows; i++)
        g->cells[i] = (struct demo_cell){' ', {DEMO_PLAIN, DEMO_PLAIN, DEMO_NORMAL}};
}

void demo_grid_forget(struct demo_grid *g)
{
    g->is_known = false;
}

/* ---- text -------------------------------------------------------------------------------------------------------------------- */

/* Columns of a code point by the C library's table; 0: it combines, below 0: it is no character to be shown. */
static int point_columns(uint32_t point)
{
    static locale_t unicode; /* the demo is one thread's */
    if (point < 0x7f)
        return point < 0x20 ? -1 : 1;
    if (!unicode)
        unicode = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
    if (!unicode)
        return point < 0xa0 ? -1 : 1;
    const locale_t before = uselocale(unicode);
    const int columns = wcwidth((wchar_t)point);
    uselocale(before);
    return columns > 2 ? 2 : columns;
}

/* The next glyph of a text as it is to be shown; returns its columns, 0 for what is left out, and -1 at the end. */
static int next_glyph(const char **text, uint32_t *ret_glyph)
{
    if (!**text)
        return -1;
    const size_t n = utf8_decode(*text, strlen(*text), ret_glyph);
    *text += n;
    int columns = point_columns(*ret_glyph);
    if (columns < 0) {
        *ret_glyph = *ret_glyph < 0xa0 ? ' ' : UTF8_REPLACEMENT;
        columns = 1;
    }
    return columns;
}

int demo_grid_columns(const char *text)
{
    int sum = 0;
    uint32_t glyph;
    for (int columns; (columns = next_glyph(&text, &glyph)) >= 0;)
        sum += columns;
    return sum;
}

/* One glyph at (x, y), unless it is not wholly inside. */
static void put(struct demo_grid *g, int x, int y, int columns, const struct demo_style *style, uint32_t glyph)
{
    if (y < 0 || y >= g->rows || x < 0 || x + columns > g->cols)
        return;
    struct demo_cell *cell = g->cells + (size_t)y * (size_t)g->cols + x;
    cell[0] = (struct demo_cell){glyph, *style};
    if (columns == 2)
        cell[1] = (struct demo_cell){0, *style};
}

/* The first n bytes of a text, all of it on one row; is_cut: an ellipsis goes behind them. */
static int put_bytes(struct demo_grid *g, int x, int y, int width, const struct demo_style *style, const char *text, size_t n,
                     bool is_cut)
{
    const char *end = text + n;
    int used = 0;
    while (text < end) {
        uint32_t glyph;
        const int columns = next_glyph(&text, &glyph);
        if (columns <= 0)
            continue;
        if (used + columns + is_cut > width)
            break;
        put(g, x + used, y, columns, style, glyph);
        used += columns;
    }
    if (is_cut && used < width)
        put(g, x + used++, y, 1, style, ELLIPSIS);
    return used;
}

int demo_grid_text(struct demo_grid *g, int x, int y, int width, const struct demo_style *style, const char *text)
{
    if (width > g->cols - x)
        width = g->cols - x;
    if (width <= 0 || y < 0 || y >= g->rows)
        return 0;
    return put_bytes(g, x, y, width, style, text, strlen(text), demo_grid_columns(text) > width);
}

/* Bytes of the longest beginning of a text that fits into `width` columns and ends at the end of a word, or of the text; at least one glyph. */
static size_t line_bytes(const char *text, int width)
{
    const char *at = text, *space = NULL;
    int used = 0;
    for (;;) {
        const char *before = at;
        uint32_t glyph;
        const int columns = next_glyph(&at, &glyph);
        if (columns < 0)
            return (size_t)(before - text);
        if (glyph == ' ' && before > text)
            space = before;
        if (used + columns > width && before > text)
            return (size_t)((space ? space : before) - text);
        used += columns;
    }
}

int demo_grid_wrap(struct demo_grid *g, int x, int y, int width, int n_rows, const struct demo_style *style, const char *text)
{
    if (width > g->cols - x)
        width = g->cols - x;
    if (width <= 0)
        return 0;
    int row = 0;
    text += strspn(text, " ");
    while (*text && row < n_rows) {
        size_t n = line_bytes(text, width);
        const size_t n_next = n + strspn(text + n, " ");
        const bool is_cut = row == n_rows - 1 && text[n_next];
        if (is_cut) /* as much as there is room for, then the ellipsis */
            n = strlen(text);
        put_bytes(g, x, y + row++, width, style, text, n, is_cut);
        text += is_cut ? n : n_next;
    }
    return row;
}

void demo_grid_fill(struct demo_grid *g, int x, int y, int n, const struct demo_style *style, uint32_t glyph)
{
    for (int i = 0; i < n; i++)
        put(g, x + i, y, 1, style, glyph);
}

/*
 * A pixel for 256 colours: more colourful than it is, or muted ones would all be the nearest grey; and lighter and darker in turn, so that what changes
 * slowly has no steps.
 */
static uint32_t for_256(const uint8_t *p, int x, int y)
{
    static const int order[4][4] = {{0, 8, 2, 10}, {12, 4, 14, 6}, {3, 11, 1, 9}, {15, 7, 13, 5}};
    const int grey = (p[0] * 2 + p[1] * 5 + p[2]) / 8, turn = (order[y % 4][x % 4] * 2 - 15) / 3;
    uint32_t rgb = 0;
    for (int c = 0; c < 3; c++) {
        const int value = grey + (p[c] - grey) * 9 / 5 + turn;
        rgb = rgb << 8 | (uint32_t)(value < 0 ? 0 : value > 255 ? 255 : value);
    }
    return rgb;
}

static uint32_t pixel_at(const struct demo_grid *g, const uint8_t *rgb, int width_px, int height_px, int x, int y)
{
    if (y >= height_px)
        return DEMO_PLAIN;
    const uint8_t *p = rgb + ((size_t)y * (size_t)width_px + (size_t)x) * 3;
    return g->is_true_colour ? (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2] : for_256(p, x, y);
}

void demo_grid_picture(struct demo_grid *g, int x, int y, const uint8_t *rgb, int width_px, int height_px)
{
    for (int j = 0; j < height_px; j += 2)
        for (int i = 0; i < width_px; i++) {
            const struct demo_style style = {pixel_at(g, rgb, width_px, height_px, i, j),
                                             pixel_at(g, rgb, width_px, height_px, i, j + 1), DEMO_NORMAL};
            put(g, x + i, y + j / 2, 1, &style, UPPER_HALF);
        }
}

void demo_grid_row(const struct demo_grid *g, int y, char out[DEMO_GRID_ROW_MAX])
{
    size_t n = 0, n_ink = 0;
    for (int x = 0; x < g->cols; x++) {
        const uint32_t glyph = g->cells[(size_t)y * (size_t)g->cols + (size_t)x].glyph;
        if (glyph)
            n += utf8_encode(glyph, out + n);
        if (glyph && glyph != ' ')
            n_ink = n;
    }
    out[n_ink] = 0;
}

/* ---- bytes ------------------------------------------------------------------------------------------------------------------- */

static void emit_bytes(struct demo_grid *g, const char *bytes, size_t n)
{
    if (g->n_bytes + n > g->n_room) {
        const size_t n_room = 2 * (g->n_bytes + n) + 65536;
        char *more = realloc(g->bytes, n_room);
        if (!more) {
            g->has_failed = true;
            return;
        }
        g->bytes = more;
        g->n_room = n_room;
    }
    memcpy(g->bytes + g->n_bytes, bytes, n);
    g->n_bytes += n;
}

__attribute__((format(printf, 2, 3))) static void emit(struct demo_grid *g, const char *fmt, ...)
{
    char text[64];
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    emit_bytes(g, text, (size_t)n);
}

static int square(int x)
{
    return x * x;
}

static int distance(uint32_t rgb, int r, int g, int b)
{
    return square((int)(rgb >> 16 & 255) - r) + square((int)(rgb >> 8 & 255) - g) + square((int)(rgb & 255) - b);
}

int demo_grid_colour_256(uint32_t rgb)
{
    static const int levels[6] = {0, 95, 135, 175, 215, 255};
    int at[3];
    for (int c = 0; c < 3; c++) {
        const int value = (int)(rgb >> (16 - 8 * c) & 255);
        at[c] = 0;
        for (int i = 1; i < 6; i++)
            if (abs(levels[i] - value) < abs(levels[at[c]] - value))
                at[c] = i;
    }
    const int mean = (int)((rgb >> 16 & 255) + (rgb >> 8 & 255) + (rgb & 255)) / 3;
    const int i_grey = mean < 8 ? 0 : mean > 238 ? 23 : (mean - 3) / 10, grey = 8 + 10 * i_grey;
    return distance(rgb, grey, grey, grey) < distance(rgb, levels[at[0]], levels[at[1]], levels[at[2]])
               ? 232 + i_grey
               : 16 + 36 * at[0] + 6 * at[1] + at[2];
}

/* layer: 38 for the ink, 48 for the paper. */
static void emit_colour(struct demo_grid *g, int layer, uint32_t colour)
{
    if (colour == DEMO_PLAIN)
        emit(g, "\033[%dm", layer + 1);
    else if (g->is_true_colour)
        emit(g, "\033[%d;2;%u;%u;%um", layer, colour >> 16 & 255, colour >> 8 & 255, colour & 255);
    else
        emit(g, "\033[%d;5;%dm", layer, demo_grid_colour_256(colour));
}

static void emit_style(struct demo_grid *g, struct demo_style *pen, const struct demo_style *style)
{
    if (style->weight != pen->weight) { /* there is no portable way to take one attribute back */
        emit(g, "\033[0%sm", style->weight == DEMO_BOLD ? ";1" : style->weight == DEMO_FAINT ? ";2" : "");
        *pen = (struct demo_style){DEMO_PLAIN, DEMO_PLAIN, style->weight};
    }
    if (style->ink != pen->ink)
        emit_colour(g, 38, style->ink);
    if (style->paper != pen->paper)
        emit_colour(g, 48, style->paper);
    *pen = *style;
}

static bool is_same(const struct demo_cell *a, const struct demo_cell *b)
{
    return a->glyph == b->glyph && a->style.ink == b->style.ink && a->style.paper == b->style.paper &&
           a->style.weight == b->style.weight;
}

/* Whether every terminal agrees about its width, so that the cursor's column is known behind it. */
static bool is_sure(uint32_t glyph)
{
    return glyph < 0x7f || (glyph >= 0x2500 && glyph < 0x25a0);
}

const char *demo_grid_encode(struct demo_grid *g, size_t *ret_n)
{
    const size_t n_cells = (size_t)g->cols * (size_t)g->rows;
    g->n_bytes = 0;
    g->has_failed = false;
    struct demo_style pen = {DEMO_PLAIN, DEMO_PLAIN, DEMO_NORMAL};
    bool is_news = !g->is_known;
    emit(g, "\033[?2026h\033[0m%s",
         g->is_known ? "" : "\033[2J"); /* a terminal that can holds the frame back until it is whole */
    for (int y = 0; y < g->rows; y++) {
        int cursor = -1; /* the column it stands in; -1: somewhere else */
        for (int x = 0; x < g->cols; x++) {
            const size_t i = (size_t)y * (size_t)g->cols + (size_t)x;
            const struct demo_cell *cell = g->cells + i;
            if (cell->glyph == 0 || (g->is_known && is_same(cell, g->shown + i)))
                continue;
            is_news = true;
            if (cursor != x)
                emit(g, "\033[%d;%dH", y + 1, x + 1);
            emit_style(g, &pen, &cell->style);
            char bytes[4];
            const size_t n = utf8_encode(cell->glyph, bytes);
            emit_bytes(g, bytes, n);
            cursor = is_sure(cell->glyph) ? x + 1 : -1;
        }
    }
    emit(g, "\033[0m\033[?2026l");
    if (g->has_failed) {
        g->is_known = false;
        return NULL;
    }
    memcpy(g->shown, g->cells, n_cells * sizeof *g->cells);
    g->is_known = true;
    *ret_n = is_news ? g->n_bytes : 0;
    return g->bytes;
}
