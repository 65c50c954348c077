/*
 * demo_grid - a terminal's screen as cells: text and half-block pictures are put into it, and what differs from the screen comes out as bytes.
 *
 * Life cycle: demo_grid_create -> (demo_grid_begin, demo_grid_text ... demo_grid_picture, demo_grid_encode)* -> demo_grid_free.
 * Threads: one owner. Memory: two sheets of cells and a buffer for the bytes.
 * Invariants: nothing is ever put outside the grid; a glyph of two columns is put whole or not at all; no control character reaches the output but those of the
 * encoder's own escapes.
 */
#ifndef HERON_APPLIANCE_DEMO_GRID_H
#define HERON_APPLIANCE_DEMO_GRID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEMO_GRID_COLS_MAX 400
#define DEMO_GRID_ROWS_MAX 150
#define DEMO_GRID_ROW_MAX  (DEMO_GRID_COLS_MAX * 4 + 1) /* bytes of a row's text */

#define DEMO_PLAIN UINT32_MAX /* the terminal's own colour; others are 0xRRGGBB */

enum demo_weight { DEMO_NORMAL, DEMO_BOLD, DEMO_FAINT };

struct demo_style {
    uint32_t ink, paper;
    enum demo_weight weight;
};

struct demo_cell {
    uint32_t glyph; /* a code point; 0: the right half of the wide one before it */
    struct demo_style style;
};

struct demo_grid {
    int cols, rows;
    bool is_true_colour;
    struct demo_cell *cells; /* [rows, cols]: what shall be seen */
    struct demo_cell *shown; /* the same: what was encoded last */
    bool is_known;           /* shown is what the terminal shows */
    char *bytes;
    size_t n_bytes, n_room;
    bool has_failed; /* no memory for bytes: this frame is not complete */
};

/* Sizes are brought into 1 .. DEMO_GRID_*_MAX. is_true_colour: 24 bits; else the cube and greys of 256 colours. NULL: no memory. */
struct demo_grid *demo_grid_create(int cols, int rows, bool is_true_colour);
void demo_grid_free(struct demo_grid *grid);

/* An empty sheet in plain colours. */
void demo_grid_begin(struct demo_grid *grid);

/* The terminal may show anything: the next encoding begins with clearing it. */
void demo_grid_forget(struct demo_grid *grid);

/* How many columns a text takes. */
int demo_grid_columns(const char *text);

/*
 * Put text at (x, y), at most `width` columns of it; with an ellipsis where it is longer. Returns the columns used. Outside the grid nothing is put.
 * Control characters become spaces, combining characters are left out.
 */
int demo_grid_text(struct demo_grid *grid, int x, int y, int width, const struct demo_style *style, const char *text);

/* The same, over up to n_rows rows broken at spaces; words that are too long are broken anywhere. Returns the rows used. */
int demo_grid_wrap(struct demo_grid *grid, int x, int y, int width, int n_rows, const struct demo_style *style,
                   const char *text);

/* n times one glyph of one column. */
void demo_grid_fill(struct demo_grid *grid, int x, int y, int n, const struct demo_style *style, uint32_t glyph);

/* A picture rgb [height_px, width_px, 3], two pixels to a cell, one above the other. */
void demo_grid_picture(struct demo_grid *grid, int x, int y, const uint8_t *rgb, int width_px, int height_px);

/*
 * What a terminal needs to show the sheet, from what it shows; one frame of escapes and UTF-8, or no bytes at all. Returns the bytes, borrowed until the next call; they
 * count as shown. NULL: no memory.
 */
const char *demo_grid_encode(struct demo_grid *grid, size_t *ret_n);

/* The text of a row without its colours and without spaces at its end. */
void demo_grid_row(const struct demo_grid *grid, int y, char out[DEMO_GRID_ROW_MAX]);

/* The nearest of the 256 colours, 16 to 255. */
int demo_grid_colour_256(uint32_t rgb);

#endif
