/*
 * The screen of heron demo without a terminal: what stands where, that nothing stands outside, and that the bytes show just that.
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
        .hint = "q ends",
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
        " latency  0.70 s   ██████████  queue 10  vision 80  prefill 200  decode 410 ms",
        " right    in 1 of 2 answers (50.0 %)  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━",
        "          people 100.0 %  vehicles 50.0 %  animals 100.0 %  hazard 100.0 %",
        "",
        " 20:02:40 ✗  people 1  vehicles 1 (2)  animals 0  smoke                  0.70 s",
        " 20:02:40 ✓  people 0  vehicles 0  animals 0  hazard none                0.70 s",
        "",
        "",
        " q ends",
    };
    struct demo_view v = view_of();
    struct demo_layout l;
    struct demo_grid *g = compose(DEMO_SCREEN_COLS_MIN, DEMO_SCREEN_ROWS_MIN, 16.0 / 9, &v, &l);
    int n_wrong = 0;
    for (int y = 0; y < DEMO_SCREEN_ROWS_MIN; y++) {
        char text[DEMO_GRID_ROW_MAX];
        demo_grid_row(g, y, text);
        if (strcmp(text, want[y]) != 0 && ++n_wrong)
            print_message("row %d:\n  \"%s\"\nwant\n  \"%s\"\n", y, text, want[y]);
    }
    assert_int_equal(n_wrong, 0);
    demo_grid_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smallest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
