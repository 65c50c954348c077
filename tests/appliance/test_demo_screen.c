/*
 * The screen of heron demo without a terminal: what stands where, that nothing stands outside or over something else, and that the bytes show just that.
 */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "appliance/demo_screen.h"
#include "base/clock.h"
#include "base/rng.h"
#include "base/utf8.h"

#define RING 8

static struct demo_look looks[RING];
static struct demo_tally tally;
static uint8_t pixels[400 * 300 * 3];

static struct demo_look look_of(const char *json)
{
    json_t *scene = json_loads(json, 0, NULL);
    assert_non_null(scene);
    struct demo_look look;
    demo_look_read(scene, 1767124960 * CLOCK_S, &look);
    json_decref(scene);
    return look;
}

#define LATENCY "\"latency_ms\":{\"queue\":10.4,\"vision\":80,\"prefill\":200,\"decode\":409.6,\"total\":700}"
#define WRONG_LOOK                                                                                                             \
    "{\"v\":1,\"camera\":\"yard\",\"frame\":\"f9\",\"frame_time\":1767124959.5," LATENCY                                       \
    ",\"result\":{\"summary\":\"A person in red stands at the gate. A blue van.\",\"people\":1,\"vehicles\":1,\"animals\":0,"  \
    "\"hazard\":\"smoke\"},\"scores\":{\"/hazard\":{\"none\":0.0312,\"smoke\":0.9688}},\"truth\":{\"frame\":1229,"             \
    "\"people\":1,\"vehicles\":2,\"animals\":0,\"hazard\":\"smoke\",\"light\":\"dusk\",\"weather\":\"rain\",\"summary\":"      \
    "\"A person in red stands at the gate. A blue van, a white car. Smoke. Dusk, rain.\"}}"
#define RIGHT_LOOK                                                                                                             \
    "{\"camera\":\"yard\",\"frame_time\":1767124957.5," LATENCY                                                                \
    ",\"result\":{\"summary\":\"Nobody is here.\",\"people\":0,\"vehicles\":0,\"animals\":0,\"hazard\":\"none\"},"             \
    "\"scores\":{},\"truth\":{\"frame\":1219,\"people\":0,\"vehicles\":0,\"animals\":0,\"hazard\":\"none\",\"light\":"         \
    "\"dusk\","                                                                                                                \
    "\"weather\":\"clear\",\"summary\":\"Nobody is here. Dusk.\"}}"

/* One that was right, then one that was wrong about the vehicles. */
static struct demo_view view_of(void)
{
    setenv("TZ", "UTC", 1);
    memset(&tally, 0, sizeof tally);
    looks[RING - 1] = look_of(RIGHT_LOOK);
    looks[0] = look_of(WRONG_LOOK);
    demo_tally_add(&tally, &looks[RING - 1]);
    demo_tally_add(&tally, &looks[0]);
    return (struct demo_view){
        .name = "yard, seed 7",
        .state = "running",
        .reason = "",
        .ending = "q ends",
        .hint = "somebody listens",
        .run_ns = 62 * CLOCK_S,
        .end_ns = 600 * CLOCK_S,
        .looks = looks,
        .n_looks = 2,
        .i_newest = 0,
        .n_ring = RING,
        .tally = &tally,
    };
}

static struct demo_grid *compose(int cols, int rows, double aspect, struct demo_view *v, struct demo_layout *ret_layout)
{
    struct demo_grid *g = demo_grid_create(cols, rows, true);
    assert_non_null(g);
    demo_screen_lay_out(cols, rows, aspect, ret_layout);
    assert_true(ret_layout->scene_cols * ret_layout->scene_rows * 2 * 3 <= (int)sizeof pixels);
    v->scene = (struct demo_pane){pixels, ret_layout->scene_cols, 2 * ret_layout->scene_rows, 1236};
    v->seen = (struct demo_pane){pixels, ret_layout->seen_cols, 2 * ret_layout->seen_rows, 1229};
    demo_screen_compose(g, ret_layout, v);
    return g;
}

#define B10 "▀▀▀▀▀▀▀▀▀▀"
#define B38 B10 B10 B10 "▀▀▀▀▀▀▀▀"
#define N   "                                        " /* below the picture, which is 38 columns wide */

/* These rows of the sheet, and all that differ are told. */
static void assert_rows(const struct demo_grid *g, int y0, int n, const char *const *want)
{
    int n_wrong = 0;
    for (int y = y0; y < y0 + n; y++) {
        char text[DEMO_GRID_ROW_MAX];
        demo_grid_row(g, y, text);
        if (strcmp(text, want[y - y0]) != 0 && ++n_wrong)
            print_message("row %d:\n  \"%s\"\nwant\n  \"%s\"\n", y, text, want[y - y0]);
    }
    assert_int_equal(n_wrong, 0);
}

/* Everything on the smallest screen. */
static void smallest(void **state)
{
    static const char *const want[DEMO_SCREEN_ROWS_MIN] = {
        " ▌HERON DEMO  yard, seed 7  dusk, rain                1:02 of 10:00   running ●",
        "",
        " scene ───────────── ● live  frame 1236  observation ──────────── of frame 1229",
        " " B38 "  “A person in red stands at the gate. A",
        " " B38 "  blue van.”",
        " " B38,
        " " B38 "           answer      truth",
        " " B38 "  people   1           1           ✓",
        " " B38 "  vehicles 1           2           ✗",
        " " B38 "  animals  0           0           ✓",
        " " B38 "  hazard   smoke       smoke       ✓ 96%",
        " " B38,
        " " B38 "  truth: A person in red stands at the",
        " " B38 "  gate. A blue van, a white car. Smoke.…",
        "",
        " latency  0.70 s   ━━━━━━━━━━  queue 10  vision 80  prefill 200  decode 410 ms",
        " right    in 1 of 2 answers (50.0 %)  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━",
        "          people 100.0 %  vehicles 50.0 %  animals 100.0 %  hazard 100.0 %",
        "",
        " 20:02:40 ✗  people 1  vehicles 1 (2)  animals 0  smoke                  0.70 s",
        " 20:02:40 ✓  people 0  vehicles 0  animals 0  hazard none                0.70 s",
        "",
        "",
        " q ends   somebody listens",
    };
    struct demo_view v = view_of();
    struct demo_layout l;
    struct demo_grid *g = compose(DEMO_SCREEN_COLS_MIN, DEMO_SCREEN_ROWS_MIN, 16.0 / 9, &v, &l);
    assert_rows(g, 0, DEMO_SCREEN_ROWS_MIN, want);
    demo_grid_free(g);
}

/* A camera without truth: no picture, no marks, no shares. */
static void without_truth(void **state)
{
    static const char *const want[] = {
        " ▌HERON DEMO  dock                                    1:02 of 10:00   running ●",
        "",
        " observation ──────────────────────────────────────────────────────────────────",
        " “Nobody is here.”",
        "",
        "          answer",
        " people   0",
        " vehicles -",
        " animals  0",
        " hazard   none         97 % sure",
    };
    static const char *const below[] = {
        " latency  0.70 s   ━━━━━━━━━━  queue 10  vision 80  prefill 200  decode 410 ms",
        " seen     1 observation",
        "",
        " 20:02:40 people 0  vehicles -  animals 0  hazard none                   0.70 s",
    };
    struct demo_view v = view_of();
    struct demo_layout l;
    memset(&tally, 0, sizeof tally);
    looks[0] = look_of("{\"camera\":\"dock\",\"frame_time\":1767124957.5," LATENCY
                       ",\"result\":{\"summary\":\"Nobody is here.\",\"people\":0,\"animals\":0,\"hazard\":\"none\"},"
                       "\"scores\":{\"/hazard\":{\"none\":0.979,\"fire\":0.021}}}");
    demo_tally_add(&tally, &looks[0]);
    v.n_looks = 1;
    v.name = "dock";
    struct demo_grid *g = compose(80, 24, 0, &v, &l);
    assert_rows(g, 0, (int)(sizeof want / sizeof *want), want);
    assert_rows(g, l.latency_y, (int)(sizeof below / sizeof *below), below);
    demo_grid_free(g);
}

/* ---- any size, any words --------------------------------------------------------------------------------------------------- */

/* Words that a model may say: long ones, wide and combining characters, what could steer a terminal, and bytes that are no UTF-8. */
static void any_words(struct rng *rng, char *out, size_t cap)
{
    static const char *const words[] = {
        "a",      "person",      "stands",  "at",           "Donaudampfschifffahrtsgesellschaft",
        "駐車場", "e\xcc\x81te", "\033[2J", "\x9b\x31J",    "\xc2\x9b\x33\x31m",
        "🚚",      "\xff\xfe",    "\t",      "\xe2\x80\xae", "“quoted”"};
    size_t n = 0;
    out[0] = 0;
    for (int left = (int)(rng_next(rng) % 40); left > 0; left--) {
        const char *word = words[rng_next(rng) % (sizeof words / sizeof *words)];
        if (n + strlen(word) + 2 > cap)
            break;
        n += (size_t)sprintf(out + n, "%s%s", word, rng_next(rng) % 4 ? " " : "");
    }
}

static struct demo_look any_look(struct rng *rng)
{
    char summary[600], truth[600];
    any_words(rng, summary, sizeof summary);
    any_words(rng, truth, sizeof truth);
    json_t *result = json_object(), *scene = json_object(), *latency = json_object(), *true_one = json_object();
    /* the wire holds valid UTF-8 only, control characters included; what is not goes in by hand below */
    json_object_set_new(result, "summary", json_stringn_nocheck(summary, strlen(summary)));
    json_object_set_new(true_one, "summary", json_stringn_nocheck(truth, strlen(truth)));
    for (enum demo_field f = 0; f < DEMO_FIELD_COUNT; f++) {
        json_object_set_new(result, demo_field_name(f), json_integer((json_int_t)(rng_next(rng) % 3)));
        json_object_set_new(true_one, demo_field_name(f), json_integer((json_int_t)(rng_next(rng) % 3)));
    }
    if (rng_next(rng) % 2)
        json_object_set_new(result, "hazard", json_string("person_down"));
    if (rng_next(rng) % 8 == 0)
        json_object_set_new(result, "people", json_integer(INT64_MAX));
    for (enum demo_part p = 0; p < DEMO_PART_COUNT; p++)
        json_object_set_new(latency, demo_part_name(p),
                            json_real((double)(rng_next(rng) % (rng_next(rng) % 4 ? 1000 : 10000000))));
    json_object_set_new(true_one, "frame", json_integer((json_int_t)(rng_next(rng) >> 1)));
    json_object_set_new(true_one, "light", json_string("dusk"));
    json_object_set_new(true_one, "weather", json_string("rain"));
    json_object_set_new(scene, "result", result);
    json_object_set_new(scene, "latency_ms", latency);
    json_object_set_new(scene, "untrained", json_boolean(rng_next(rng) % 2));
    json_object_set_new(scene, "truth", true_one);
    if (rng_next(rng) % 4 == 0)
        json_object_del(scene, "truth");
    struct demo_look look;
    demo_look_read(scene, (int64_t)(rng_next(rng) % 2000000000) * CLOCK_S, &look);
    json_decref(scene);
    return look;
}

static void assert_inside(const struct demo_grid *g, const struct demo_layout *l)
{
    for (int y = 0; y < g->rows; y++) {
        char text[DEMO_GRID_ROW_MAX];
        demo_grid_row(g, y, text);
        assert_true(utf8_valid(text, strlen(text)));
        assert_true(demo_grid_columns(text) <= g->cols);
        for (const char *c = text; *c; c++)
            assert_true((unsigned char)*c >= 0x20 && *c != 0x7f);
        for (const char *c = text; (c = strchr(c, '\xc2')); c++)
            assert_true((unsigned char)c[1] >= 0xa0); /* C1 */
    }
    for (int y = 0; y < l->scene_rows; y++) /* nothing over the picture */
        for (int x = 0; x < l->scene_cols; x++)
            assert_int_equal(g->cells[(l->body_y + y) * g->cols + l->scene_x + x].glyph, 0x2580);
    assert_true(l->answer_x > l->scene_x + l->scene_cols || l->scene_cols == 0);
    assert_true(l->answer_x + l->answer_cols < g->cols);
    assert_true(l->history_rows >= 4 && l->history_y + l->history_rows <= g->rows - 1);
    assert_true(l->latency_y > l->body_y + l->body_rows && l->scene_rows <= l->body_rows);
}

/* ---- a terminal as it reads the bytes ---------------------------------------------------------------------------------------- */

static struct demo_cell terminal[DEMO_GRID_COLS_MAX * DEMO_GRID_ROWS_MAX];

static uint32_t colour_of(const int *n)
{
    assert_int_equal(n[1], 2);
    return (uint32_t)n[2] << 16 | (uint32_t)n[3] << 8 | (uint32_t)n[4];
}

static void set_style(struct demo_style *pen, const int *n, int n_n)
{
    for (int i = 0; i < n_n; i++)
        switch (n[i]) {
        case 0: *pen = (struct demo_style){DEMO_PLAIN, DEMO_PLAIN, DEMO_NORMAL}; break;
        case 1: pen->weight = DEMO_BOLD; break;
        case 2: pen->weight = DEMO_FAINT; break;
        case 39: pen->ink = DEMO_PLAIN; break;
        case 49: pen->paper = DEMO_PLAIN; break;
        case 38:
            pen->ink = colour_of(n + i);
            i += 4;
            break;
        case 48:
            pen->paper = colour_of(n + i);
            i += 4;
            break;
        default: fail_msg("SGR %d", n[i]);
        }
}

/* Columns of a glyph, asked of a sheet of its own. */
static int width_of(uint32_t glyph)
{
    char text[5] = "";
    utf8_encode(glyph, text);
    return demo_grid_columns(text);
}

/* Take the bytes of one frame onto `terminal`. Fails on every escape that a sheet has no use for, and on a glyph outside. */
static void show_bytes(const struct demo_grid *g, const char *bytes, size_t n_bytes)
{
    struct demo_style pen = {DEMO_PLAIN, DEMO_PLAIN, DEMO_NORMAL};
    int x = -1, y = -1;
    assert_true(n_bytes > 16 && memcmp(bytes, "\033[?2026h", 8) == 0 && memcmp(bytes + n_bytes - 8, "\033[?2026l", 8) == 0);
    for (size_t i = 8; i < n_bytes - 8;) {
        if (bytes[i] != '\033') {
            uint32_t glyph;
            i += utf8_decode(bytes + i, n_bytes - i, &glyph);
            const int columns = width_of(glyph);
            assert_true(glyph >= 0x20 && columns > 0 && x >= 0 && y >= 0 && y < g->rows && x + columns <= g->cols);
            terminal[y * g->cols + x] = (struct demo_cell){glyph, pen};
            if (columns == 2)
                terminal[y * g->cols + x + 1] = (struct demo_cell){0, pen};
            x += columns;
            continue;
        }
        int n[16] = {0}, n_n = 1;
        assert_int_equal(bytes[i + 1], '[');
        for (i += 2; (bytes[i] >= '0' && bytes[i] <= '9') || bytes[i] == ';'; i++)
            if (bytes[i] == ';')
                assert_true(n_n++ < 16);
            else
                n[n_n - 1] = 10 * n[n_n - 1] + bytes[i] - '0';
        const char end = bytes[i++];
        if (end == 'H') {
            y = n[0] - 1;
            x = n[1] - 1;
        } else if (end == 'J') {
            assert_int_equal(n[0], 2);
            for (int c = 0; c < g->cols * g->rows; c++)
                terminal[c] = (struct demo_cell){' ', {DEMO_PLAIN, DEMO_PLAIN, DEMO_NORMAL}};
        } else if (end == 'm')
            set_style(&pen, n, n_n);
        else
            fail_msg("escape %c", end);
    }
}

static void assert_shown(const struct demo_grid *g)
{
    for (int i = 0; i < g->cols * g->rows; i++) {
        const struct demo_cell *a = terminal + i, *b = g->cells + i;
        if (a->glyph != b->glyph || a->style.ink != b->style.ink || a->style.paper != b->style.paper ||
            a->style.weight != b->style.weight)
            fail_msg("cell %d, %d: U+%04X, not U+%04X", i % g->cols, i / g->cols, a->glyph, b->glyph);
    }
}

/* Sheets of any size and content are inside, and what is sent for one after another is each of them. */
static void any_sheet(void **state)
{
    static const double aspects[] = {16.0 / 9, 16.0 / 9, 4.0 / 3, 0, 1, 9.0 / 16, 8, 0.125};
    struct rng rng = {.seed = 3};
    for (int i = 0; i < 60; i++) {
        const int cols = i == 0 ? DEMO_GRID_COLS_MAX : DEMO_SCREEN_COLS_MIN + (int)(rng_next(&rng) % 170);
        const int rows = i == 0 ? DEMO_GRID_ROWS_MAX : DEMO_SCREEN_ROWS_MIN + (int)(rng_next(&rng) % 60);
        struct demo_view v = view_of();
        struct demo_layout l;
        struct demo_grid *g = demo_grid_create(cols, rows, true);
        assert_non_null(g);
        demo_screen_lay_out(cols, rows, aspects[rng_next(&rng) % 8], &l);
        v.scene = (struct demo_pane){pixels, l.scene_cols, 2 * l.scene_rows, rng_next(&rng)};
        v.seen = (struct demo_pane){pixels, l.seen_cols, 2 * l.seen_rows, rng_next(&rng)};
        for (int frame = 0; frame < 4; frame++) {
            for (size_t k = 0; k < 200; k++)
                pixels[rng_next(&rng) % sizeof pixels] = (uint8_t)rng_next(&rng);
            for (int k = 0; k < RING; k++)
                looks[k] = any_look(&rng);
            v.n_looks = frame == 0 ? 0 : RING;
            v.is_seen = rng_next(&rng) % 2;
            v.reason = rng_next(&rng) % 2 ? "" : "camera yard: \033[2Jthis and that";
            demo_tally_add(&tally, &looks[0]);
            demo_screen_compose(g, &l, &v);
            assert_inside(g, &l);
            if (frame == 3)
                demo_grid_forget(g);
            size_t n = 0;
            const char *bytes = demo_grid_encode(g, &n);
            assert_non_null(bytes);
            show_bytes(g, bytes, n);
            assert_shown(g);
        }
        size_t n = 1; /* nothing changes: nothing is sent */
        assert_non_null(demo_grid_encode(g, &n));
        assert_int_equal(n, 0);
        demo_grid_free(g);
    }
}

/* ---- pieces ------------------------------------------------------------------------------------------------------------------ */

static void assert_wrapped(const char *text, int width, int n_rows, const char *const *want, int n_want)
{
    struct demo_grid *g = demo_grid_create(40, 8, true);
    const struct demo_style plain = {DEMO_PLAIN, DEMO_PLAIN, DEMO_NORMAL};
    assert_int_equal(demo_grid_wrap(g, 0, 0, width, n_rows, &plain, text), n_want);
    assert_rows(g, 0, n_want, want);
    demo_grid_free(g);
}

#define ROWS(...) ((const char *const[]){__VA_ARGS__}), (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void wrapping(void **state)
{
    assert_wrapped("one two three", 7, 8, ROWS("one two", "three"));
    assert_wrapped("one two three", 8, 8, ROWS("one two", "three"));
    assert_wrapped("  one   two", 4, 8, ROWS("one", "two"));
    assert_wrapped("abcdefghij kl", 4, 8, ROWS("abcd", "efgh", "ij", "kl"));
    assert_wrapped("one two three four", 7, 2, ROWS("one two", "three …"));
    assert_wrapped("one two three", 9, 1, ROWS("one two …"));
    assert_wrapped("駐車場の車", 5, 8, ROWS("駐車", "場の", "車")); /* two columns each, never half of one */
    assert_wrapped("駐車場の車", 5, 1, ROWS("駐車…"));
    assert_wrapped("e\xcc\x81t\xff", 5, 1, ROWS("et\xef\xbf\xbd"));
    assert_wrapped("", 5, 3, NULL, 0);
}

static void colours(void **state)
{
    assert_int_equal(demo_grid_colour_256(0x000000), 16);
    assert_int_equal(demo_grid_colour_256(0xffffff), 231);
    assert_int_equal(demo_grid_colour_256(0xff0000), 196);
    assert_int_equal(demo_grid_colour_256(0x5f87af), 67);
    assert_int_equal(demo_grid_colour_256(0x080808), 232);
    assert_int_equal(demo_grid_colour_256(0xeeeeee), 255);
    assert_int_equal(demo_grid_colour_256(0x808080), 244);
}

static char *printed(void (*print)(FILE *))
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    print(f);
    fclose(f);
    return text;
}

static void print_looks(FILE *f)
{
    demo_look_print(&looks[RING - 1], f);
    demo_look_print(&looks[0], f);
}

static void print_tally(FILE *f)
{
    demo_tally_print(&tally, f);
}

/* What no screen shows. */
static void lines(void **state)
{
    view_of();
    char *text = printed(print_looks);
    assert_string_equal(
        text, "20:02:40  yard  0.70 s  right  \"Nobody is here.\"  people 0 ok, vehicles 0 ok, animals 0 ok, hazard none ok"
              "  (queue 10, vision 80, prefill 200, decode 410 ms)\n"
              "20:02:40  yard  0.70 s  wrong  \"A person in red stands at the gate. A blue van.\""
              "  people 1 ok, vehicles 1 (truth 2), animals 0 ok, hazard smoke ok"
              "  (queue 10, vision 80, prefill 200, decode 410 ms)\n");
    free(text);
    text = printed(print_tally);
    assert_string_equal(text, "\n2 observations arrived; capture to publish: median 0.70 s, slowest tenth above 0.70 s\n"
                              "\n  against the truth   right\n"
                              "  people               2 of     2  100.0 %\n"
                              "  vehicles             1 of     2   50.0 %\n"
                              "  animals              2 of     2  100.0 %\n"
                              "  hazard               2 of     2  100.0 %\n"
                              "  all four             1 of     2   50.0 %\n"
                              "\n  latency, ms        median   slowest tenth above\n"
                              "  queue                  10         10\n"
                              "  vision                 80         80\n"
                              "  prefill               200        200\n"
                              "  decode                410        410\n"
                              "  total                 700        700\n");
    free(text);
}

/* A payload that is nothing of what it should be is an empty look, and not a right one. */
static void odd_payloads(void **state)
{
    static const char *const odd[] = {
        "{}", "[]", "{\"result\":7,\"truth\":[],\"latency_ms\":null,\"scores\":\"x\"}",
        "{\"truth\":{\"frame\":-1,\"people\":{}},\"result\":{\"people\":[1]},\"frame_time\":1e300}"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        const struct demo_look look = look_of(odd[i]);
        assert_false(demo_look_is_right(&look));
        assert_string_equal(look.answer[DEMO_PEOPLE], "-");
        assert_true(look.i_frame == 0 && look.hazard_score < 0 && look.frame_wall_ns == look.arrived_ns);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smallest), cmocka_unit_test(without_truth), cmocka_unit_test(any_sheet),    cmocka_unit_test(wrapping),
        cmocka_unit_test(colours),  cmocka_unit_test(lines),         cmocka_unit_test(odd_payloads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
