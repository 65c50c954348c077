#include "appliance/demo_screen.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

#define MARGIN           1
#define GAP              2  /* columns between the scene and the answer */
#define ANSWER_COLS_MIN  38 /* label, answer, truth, mark */
#define ANSWER_COLS_MAX  64
#define HISTORY_ROWS_MIN 4
#define BODY_ROWS_MIN    11 /* what stands in the answer at least */
#define OTHER_ROWS       13 /* of the screen, beside the body: four of them for the history */
#define BAR              0x2501u
#define STOPS_COLS_MIN   96 /* from here on the fields of the history stand in columns */
#define WORDS_ROWS       14 /* the same where there is room: a long answer and a long truth are whole */
#define SEEN_ROWS_MIN    9  /* a smaller picture shows nothing */

#define INK     ((struct demo_style){DEMO_PLAIN, DEMO_PLAIN, DEMO_NORMAL})
#define STRONG  ((struct demo_style){DEMO_PLAIN, DEMO_PLAIN, DEMO_BOLD})
#define QUIET   ((struct demo_style){0x7d8590, DEMO_PLAIN, DEMO_NORMAL})
#define RULE    ((struct demo_style){0x4d5560, DEMO_PLAIN, DEMO_NORMAL})
#define ACCENT  ((struct demo_style){0x56b6c2, DEMO_PLAIN, DEMO_BOLD})
#define RIGHT   ((struct demo_style){0x3fb950, DEMO_PLAIN, DEMO_NORMAL})
#define WRONG   ((struct demo_style){0xf85149, DEMO_PLAIN, DEMO_NORMAL})
#define WARNING ((struct demo_style){0xd29922, DEMO_PLAIN, DEMO_NORMAL})

static const uint32_t part_inks[DEMO_TOTAL] = {0x8b949e, 0x58a6ff, 0xbc8cff, 0x56b6c2};

static int least(int a, int b)
{
    return a < b ? a : b;
}

static int most(int a, int b)
{
    return a > b ? a : b;
}

/* Rows of a picture that is so many columns wide: a cell is twice as high as wide. */
static int rows_of(int cols, double aspect)
{
    return most(1, (int)lround(cols / aspect / 2));
}

void demo_screen_lay_out(int cols, int rows, double aspect, struct demo_layout *ret_layout)
{
    struct demo_layout l = {.body_y = 3, .answer_x = MARGIN, .answer_cols = cols - 2 * MARGIN, .body_rows = BODY_ROWS_MIN};
    const int body_max = most(rows - OTHER_ROWS, BODY_ROWS_MIN);
    if (aspect > 0) {
        int answer = least(most(ANSWER_COLS_MIN, (cols - 2 * MARGIN - GAP) * 35 / 100), ANSWER_COLS_MAX);
        l.scene_x = MARGIN;
        l.scene_cols = cols - 2 * MARGIN - GAP - answer;
        if (rows_of(l.scene_cols, aspect) > body_max)
            l.scene_cols = most(1, least(l.scene_cols, (int)(body_max * 2 * aspect)));
        l.scene_rows = least(rows_of(l.scene_cols, aspect), body_max);
        l.body_rows = most(l.scene_rows, BODY_ROWS_MIN);
        l.answer_x = l.scene_x + l.scene_cols + GAP;
        l.answer_cols = cols - MARGIN - l.answer_x;
        /* the frame that was looked at, where it fits above the words */
        const int room = l.body_rows - WORDS_ROWS - 1;
        l.seen_rows = least(room, rows_of(l.answer_cols, aspect));
        l.seen_cols = least(l.answer_cols, (int)(l.seen_rows * 2 * aspect));
        if (l.seen_rows < SEEN_ROWS_MIN)
            l.seen_rows = l.seen_cols = 0;
    }
    l.latency_y = l.body_y + l.body_rows + 1;
    l.tally_y = l.latency_y + 1;
    l.history_y = l.tally_y + (aspect > 0 ? 3 : 2);
    l.history_rows = rows - 1 - l.history_y;
    l.history_rows -= l.history_rows > HISTORY_ROWS_MIN; /* a blank row above the footer */
    *ret_layout = l;
}

/* ---- pieces ------------------------------------------------------------------------------------------------------------------ */

/* A title, a rule, and words at the rule's right end. */
static void put_title(struct demo_grid *g, int x, int y, int cols, const char *title, const char *words,
                      struct demo_style style)
{
    const struct demo_style strong = STRONG, rule = RULE;
    const int n = demo_grid_text(g, x, y, cols, &strong, title);
    int n_words = demo_grid_columns(words);
    if (n_words > cols - n - 4)
        n_words = 0;
    const int n_rule = cols - n - 1 - (n_words ? n_words + 1 : 0);
    demo_grid_fill(g, x + n + 1, y, n_rule, &rule, 0x2500);
    if (n_words)
        demo_grid_text(g, x + cols - n_words, y, n_words, &style, words);
}

static void put_header(struct demo_grid *g, const struct demo_view *v, const struct demo_look *look)
{
    const struct demo_style accent = ACCENT, quiet = QUIET, ink = INK;
    const bool is_well = strcmp(v->state, "running") == 0;
    const struct demo_style dot = is_well ? RIGHT : WARNING;
    char right[96], time_text[48];
    const long long run_s = v->run_ns / CLOCK_S, end_s = v->end_ns / CLOCK_S;
    int n = snprintf(time_text, sizeof time_text, "%lld:%02lld", run_s / 60, run_s % 60);
    if (end_s > 0)
        snprintf(time_text + n, sizeof time_text - (size_t)n, " of %lld:%02lld", end_s / 60, end_s % 60);
    snprintf(right, sizeof right, "%s   %.20s", time_text, v->state[0] ? v->state : "starting");
    const int n_right = demo_grid_columns(right), x_right = g->cols - MARGIN - n_right - 2;
    demo_grid_text(g, x_right, 0, n_right, &quiet, right);
    demo_grid_text(g, g->cols - MARGIN - 1, 0, 1, &dot, "●");
    int x = MARGIN + demo_grid_text(g, MARGIN, 0, 20, &accent, "▌HERON DEMO");
    x += 2 + demo_grid_text(g, x + 2, 0, x_right - x - 4, &ink, v->name);
    if (look && look->light[0] && x_right - x > 20) {
        char words[48];
        const bool is_clear = strcmp(look->weather, "clear") == 0;
        snprintf(words, sizeof words, "  %s%s%s", look->light, is_clear ? "" : ", ", is_clear ? "" : look->weather);
        demo_grid_text(g, x, 0, x_right - x - 2, &quiet, words);
    }
}

static void put_scene(struct demo_grid *g, const struct demo_layout *l, const struct demo_view *v)
{
    const struct demo_style quiet = QUIET;
    char words[48] = "";
    if (v->scene.rgb)
        snprintf(words, sizeof words, "%s  frame %llu",
                 v->n_looks == 0 ? "○ the first"
                 : v->is_seen    ? "◆ looked at"
                                 : "● live",
                 (unsigned long long)v->scene.i_frame);
    put_title(g, l->scene_x, l->body_y - 1, l->scene_cols, "scene", words,
              v->n_looks == 0 ? QUIET
              : v->is_seen    ? ACCENT
                              : RIGHT);
    if (v->scene.rgb)
        demo_grid_picture(g, l->scene_x, l->body_y, v->scene.rgb, v->scene.width_px, v->scene.height_px);
    else
        demo_grid_text(g, l->scene_x, l->body_y + 1, l->scene_cols, &quiet, "waiting for the first look ...");
}

/* Rows of the fields' table: answer, truth, mark. */
static void put_fields(struct demo_grid *g, int x, int y, int cols, const struct demo_look *look)
{
    const struct demo_style quiet = QUIET;
    demo_grid_text(g, x + 9, y, 11, &quiet, "answer");
    if (look->has_truth)
        demo_grid_text(g, x + 21, y, 11, &quiet, "truth");
    for (enum demo_field f = 0; f < DEMO_FIELD_COUNT; f++) {
        const int row = y + 1 + (int)f;
        const bool is_right = demo_look_is_right_in(look, f);
        const struct demo_style mark = is_right ? RIGHT : WRONG;
        struct demo_style answer = look->is_untrained ? QUIET : !look->has_truth ? STRONG : mark;
        if (!look->is_untrained)
            answer.weight = DEMO_BOLD;
        demo_grid_text(g, x, row, 8, &quiet, demo_field_name(f));
        demo_grid_text(g, x + 9, row, 11, &answer, look->answer[f]);
        if (look->has_truth) {
            const struct demo_style truth = INK;
            demo_grid_text(g, x + 21, row, 11, &truth, look->truth[f]);
            demo_grid_text(g, x + 33, row, 1, &mark, is_right ? "✓" : "✗");
        }
        if (f == DEMO_HAZARD && look->hazard_score >= 0) {
            const int x_score = x + (look->has_truth ? 34 : 21);
            char text[32];
            snprintf(text, sizeof text, cols - (x_score - x) >= 10 ? "%3.0f %% sure" : "%3.0f%%",
                     floor(100 * look->hazard_score));
            demo_grid_text(g, x_score, row, cols - (x_score - x), &quiet, text);
        }
    }
}

static void put_answer(struct demo_grid *g, const struct demo_layout *l, const struct demo_view *v,
                       const struct demo_look *look)
{
    const int x = l->answer_x, cols = l->answer_cols;
    int y = l->body_y;
    char words[64] = "";
    const int end = l->body_y + l->body_rows;
    if (look && look->has_truth)
        snprintf(words, sizeof words, "%sframe %llu", l->seen_cols ? "◆ looked at  " : "of ",
                 (unsigned long long)look->i_frame);
    put_title(g, x, y - 1, cols, "observation", words, l->seen_cols ? ACCENT : QUIET);
    if (!look) {
        const struct demo_style quiet = QUIET;
        demo_grid_text(g, x, y + 1, cols, &quiet, "nothing observed yet");
        return;
    }
    if (l->seen_cols > 0) {
        if (v->seen.rgb)
            demo_grid_picture(g, x, y, v->seen.rgb, v->seen.width_px, v->seen.height_px);
        y += l->seen_rows + 1;
    }
    /* five rows of fields and a blank one on each side; the rest is for what is said, the larger half for the answer */
    const int spare = end - y - 7, n_truth = look->has_truth ? spare / 2 : 0;
    const struct demo_style say = look->is_untrained ? QUIET : STRONG, true_style = QUIET;
    char text[sizeof look->summary + 16];
    snprintf(text, sizeof text, "“%s”", look->summary);
    y += demo_grid_wrap(g, x, y, cols, spare - n_truth, &say, look->summary[0] ? text : "(no summary)") + 1;
    put_fields(g, x, y, cols, look);
    y += 6;
    if (look->has_truth && y < end) {
        const struct demo_style label = RIGHT;
        snprintf(text, sizeof text, "truth: %s", look->true_summary);
        demo_grid_wrap(g, x, y, cols, end - y, &true_style, text);
        demo_grid_text(g, x, y, 6, &label, "truth:");
    }
}

static void put_latency(struct demo_grid *g, const struct demo_layout *l, const struct demo_look *look)
{
    const struct demo_style quiet = QUIET, ink = INK;
    const int y = l->latency_y;
    char text[32];
    demo_grid_text(g, MARGIN, y, 8, &quiet, "latency");
    if (!look)
        return;
    snprintf(text, sizeof text, "%.2f s", look->latency_ms[DEMO_TOTAL] / 1e3);
    demo_grid_text(g, MARGIN + 9, y, 8, &ink, text);
    int n_legend = 2; /* what the words behind the bar take */
    for (enum demo_part p = 0; p < DEMO_TOTAL; p++)
        n_legend += snprintf(text, sizeof text, "  %s %.0f", demo_part_name(p), look->latency_ms[p]);
    const int x_bar = MARGIN + 18, n_bar = least(g->cols - MARGIN - x_bar - n_legend - 2, 80);
    int x = x_bar;
    if (n_bar >= 4) {
        double sum = 0, so_far = 0;
        for (enum demo_part p = 0; p < DEMO_TOTAL; p++)
            sum += fmax(look->latency_ms[p], 0);
        for (enum demo_part p = 0; p < DEMO_TOTAL && sum > 0; p++) {
            so_far += fmax(look->latency_ms[p], 0);
            const int until = x_bar + (int)lround(n_bar * so_far / sum);
            const struct demo_style style = {part_inks[p], DEMO_PLAIN, DEMO_NORMAL};
            demo_grid_fill(g, x, y, until - x, &style, BAR);
            x = until;
        }
        x = x_bar + n_bar;
    } else
        x -= 2;
    for (enum demo_part p = 0; p < DEMO_TOTAL; p++) {
        const struct demo_style style = {part_inks[p], DEMO_PLAIN, DEMO_NORMAL};
        snprintf(text, sizeof text, "%s %.0f", demo_part_name(p), look->latency_ms[p]);
        x += 2 + demo_grid_text(g, x + 2, y, g->cols - MARGIN - x - 2, &style, text);
    }
    demo_grid_text(g, x + 1, y, g->cols - MARGIN - x - 1, &quiet, "ms");
}

static void put_tally(struct demo_grid *g, const struct demo_layout *l, const struct demo_tally *t)
{
    const struct demo_style quiet = QUIET, strong = STRONG, ink = INK;
    const int y = l->tally_y;
    char text[96];
    if (t->n_judged == 0) {
        demo_grid_text(g, MARGIN, y, 8, &quiet, "seen");
        snprintf(text, sizeof text, "%llu observation%s", (unsigned long long)t->n_looks, t->n_looks == 1 ? "" : "s");
        demo_grid_text(g, MARGIN + 9, y, 40, &ink, text);
        return;
    }
    const unsigned long long n = t->n_judged;
    const double pct = demo_tally_pct(t->n_right, n);
    const struct demo_style good = pct >= 90 ? RIGHT : pct >= 50 ? WARNING : WRONG, rule = RULE;
    demo_grid_text(g, MARGIN, y, 8, &quiet, "right");
    snprintf(text, sizeof text, "in %llu of %llu answers (%.1f %%)", (unsigned long long)t->n_right, n, pct);
    const int x = MARGIN + 9 + demo_grid_text(g, MARGIN + 9, y, 50, &strong, text) + 2;
    const int n_bar = least(g->cols - MARGIN - x, 40), n_full = (int)(n_bar * pct / 100);
    demo_grid_fill(g, x, y, n_full, &good, BAR);
    demo_grid_fill(g, x + n_full, y, n_bar - n_full, &rule, BAR);
    int at = MARGIN + 9;
    for (enum demo_field f = 0; f < DEMO_FIELD_COUNT; f++) {
        const bool is_all = t->n_right_in[f] == n;
        const struct demo_style style = is_all ? RIGHT : INK;
        at += demo_grid_text(g, at, y + 1, g->cols - MARGIN - at, &quiet, demo_field_name(f)) + 1;
        snprintf(text, sizeof text, "%.1f %%", demo_tally_pct(t->n_right_in[f], n));
        at += demo_grid_text(g, at, y + 1, g->cols - MARGIN - at, &style, text) + 2;
    }
}

/* One of the newest observations on one row. */
static void put_past(struct demo_grid *g, int y, const struct demo_look *look)
{
    const struct demo_style quiet = QUIET, wrong = WRONG, warning = WARNING;
    static const int stops[DEMO_FIELD_COUNT] = {14, 16, 15, 0}; /* "vehicles 1 (2)" */
    const bool is_right = demo_look_is_right(look);
    const struct demo_style mark = is_right ? RIGHT : WRONG;
    const int end = g->cols - MARGIN;
    char clock[DEMO_CLOCK_MAX], text[96];
    demo_clock_text(look->arrived_ns, clock);
    int x = MARGIN + demo_grid_text(g, MARGIN, y, 8, &quiet, clock) + 1;
    if (look->has_truth)
        x += demo_grid_text(g, x, y, 1, &mark, is_right ? "✓" : "✗") + 2;
    for (enum demo_field f = 0; f < DEMO_FIELD_COUNT && x < end; f++) {
        const bool is_wrong = look->has_truth && !demo_look_is_right_in(look, f);
        /* a hazard's name says what it is; that there is none does not */
        const bool is_plain = f == DEMO_HAZARD && strcmp(look->answer[f], "none") != 0;
        const int n =
            snprintf(text, sizeof text, "%s%s%s", is_plain ? "" : demo_field_name(f), is_plain ? "" : " ", look->answer[f]);
        if (is_wrong)
            snprintf(text + n, sizeof text - (size_t)n, " (%s)", look->truth[f]);
        const bool is_red = is_wrong && !look->is_untrained;
        const int used = demo_grid_text(g, x, y, end - x,
                                        is_red                            ? &wrong
                                        : is_plain && !look->is_untrained ? &warning
                                                                          : &quiet,
                                        text) +
                         2;
        x += g->cols < STOPS_COLS_MIN ? used : most(used, stops[f]);
    }
    snprintf(text, sizeof text, "%.2f s", look->latency_ms[DEMO_TOTAL] / 1e3);
    const int n_text = demo_grid_columns(text);
    if (end - x < n_text)
        return;
    demo_grid_text(g, end - n_text, y, n_text, &quiet, text);
    if (end - n_text - 2 - x > 24) {
        char words[sizeof look->summary + 8];
        snprintf(words, sizeof words, "“%s”", look->summary);
        demo_grid_text(g, x, y, end - n_text - 2 - x, &quiet, words);
    }
}

/* How to end at the left; behind it what is not as it should be, or else more of the hint. */
static void put_footer(struct demo_grid *g, const struct demo_view *v)
{
    const struct demo_style quiet = QUIET, warning = WARNING, strong = STRONG;
    const int y = g->rows - 1, end = g->cols - MARGIN;
    const int x = MARGIN + demo_grid_text(g, MARGIN, y, end - MARGIN, &strong, v->ending) + 3;
    demo_grid_text(g, x, y, end - x, v->reason[0] ? &warning : &quiet, v->reason[0] ? v->reason : v->hint);
}

void demo_screen_compose(struct demo_grid *g, const struct demo_layout *l, const struct demo_view *v)
{
    const struct demo_look *look = v->n_looks > 0 ? v->looks + v->i_newest : NULL;
    demo_grid_begin(g);
    put_header(g, v, look);
    if (l->scene_cols > 0)
        put_scene(g, l, v);
    put_answer(g, l, v, look);
    put_latency(g, l, look);
    put_tally(g, l, v->tally);
    for (int i = 0; i < l->history_rows && i < v->n_looks; i++)
        put_past(g, l->history_y + i, v->looks + (v->i_newest + v->n_ring - i) % v->n_ring);
    put_footer(g, v);
}
