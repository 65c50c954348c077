/*
 * What the figures of `make eval-model` are worth: the arithmetic on verdicts made by hand, and the tool itself with a model that knows nothing.
 */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "pipeline/codec.h"
#include "tests/support/box.h"
#include "tests/support/program.h"
#include "tools/tally.h"

/* ---- the arithmetic ------------------------------------------------------------------------------------------------------ */

#define DAY 2

static void area_is_the_share_of_pairs_in_order(void **state)
{
    /* p of yes 0.9, 0.5; of no 0.5, 0.1: of four pairs three are in order and one is a tie */
    struct tally_verdict v[] = {{.p = 0.5, .is_yes = true, .rows = 1 | DAY},
                                {.p = 0.1, .rows = 1 | DAY, .topic = 1},
                                {.p = 0.9, .is_yes = true, .rows = 1, .topic = 1},
                                {.p = 0.5, .rows = 1}};
    const int n = sizeof v / sizeof *v;
    tally_sort(v, n);
    assert_float_equal(tally_area(v, n, TALLY_ANY, TALLY_ANY), 3.5 / 4, 1e-12);
    assert_float_equal(tally_area(v, n, 0, TALLY_ANY), 3.5 / 4, 1e-12);
    assert_float_equal(tally_area(v, n, 1, TALLY_ANY), 1, 1e-12); /* by day: 0.5 over 0.1 */
    assert_float_equal(tally_area(v, n, TALLY_ANY, 0), 0.5, 1e-12);
    for (int i = 0; i < n; i++)
        v[i].is_yes = !v[i].is_yes;
    assert_float_equal(tally_area(v, n, TALLY_ANY, TALLY_ANY), 0.5 / 4, 1e-12);
    for (int i = 0; i < n; i++)
        v[i].is_yes = true;
    assert_true(tally_area(v, n, TALLY_ANY, TALLY_ANY) < 0); /* there is none */
    assert_true(tally_area(v, 0, TALLY_ANY, TALLY_ANY) < 0);
}

static void verdicts_are_counted_by_what_is_so(void **state)
{
    const struct tally_verdict v[] = {{.is_yes = true, .said_yes = true, .rows = 1},
                                      {.is_yes = true, .said_yes = false, .rows = 1 | DAY},
                                      {.is_yes = false, .said_yes = false, .rows = 1, .topic = 1},
                                      {.is_yes = false, .said_yes = true, .rows = 1}};
    int right;
    assert_int_equal(tally_count(v, 4, TALLY_ANY, TALLY_ANY, true, &right), 2);
    assert_int_equal(right, 1);
    assert_int_equal(tally_count(v, 4, 1, TALLY_ANY, true, &right), 1);
    assert_int_equal(right, 0);
    assert_int_equal(tally_count(v, 4, TALLY_ANY, 1, false, &right), 1);
    assert_int_equal(right, 1);
}

/* It knows each wording's answers in the other half of the scenes, and nothing of this one. */
static void the_blind_know_wordings_alone(void **state)
{
    struct tally_verdict v[40], blind[40];
    for (int i = 0; i < 40; i++)
        v[i] = (struct tally_verdict){.p = 0.99, .scene = i, .wording = (uint64_t)(i / 2 % 2), .is_yes = i / 2 % 2, .rows = 1};
    v[39].wording = 7; /* heard nowhere else */
    tally_blind(v, 40, blind);
    for (int i = 0; i < 39; i++) {
        assert_int_equal(blind[i].said_yes, v[i].is_yes);
        assert_float_equal(blind[i].p, v[i].is_yes, 1e-12);
    }
    assert_float_equal(blind[39].p, 0.5, 1e-12);
    for (int i = 0; i < 40; i++)
        v[i] = (struct tally_verdict){.scene = i, .is_yes = i % 2}; /* one wording, the halves contradict each other */
    tally_blind(v, 40, blind);
    for (int i = 0; i < 40; i++)
        assert_int_equal(blind[i].said_yes, !v[i].is_yes);
}

static void an_answer_is_what_it_says(void **state)
{
    assert_int_equal(tally_said("\"yes\""), 1);
    assert_int_equal(tally_said("\"no\""), 0);
    assert_int_equal(tally_said("yes"), -1);
    assert_int_equal(tally_said(""), -1);
}

static void an_observation_is_judged_by_field(void **state)
{
    const struct scene_truth truth = {.people = 0, .vehicles = 0, .animals = 2};
    char text[SCENE_OBSERVATION_MAX + 1];
    bool right[TALLY_COLUMNS];
    assert_true(scene_words_observation(&truth, text, sizeof text) > 0);
    json_t *answer = json_loads(text, 0, NULL);
    assert_non_null(answer);
    tally_observation(answer, &truth, right);
    for (int c = 0; c < TALLY_COLUMNS; c++)
        assert_true(right[c]);
    json_object_set_new(answer, "people", json_integer(1));
    json_object_set_new(answer, "vehicles", json_string("0"));
    json_object_del(answer, "animals");
    json_object_set_new(answer, "hazard", json_string("fire"));
    json_object_set_new(answer, "summary", json_string("Nobody."));
    tally_observation(answer, &truth, right);
    for (int c = 0; c < TALLY_COLUMNS; c++)
        assert_false(right[c]);
    json_decref(answer);
    tally_observation(NULL, &truth, right); /* what is no JSON */
    for (int c = 0; c < TALLY_COLUMNS; c++)
        assert_false(right[c]);
}

static void moves(const char *text, const int left[4], const int come[4])
{
    const struct tally_moves m = tally_moves(text);
    for (int i = 0; i < 4; i++)
        if (m.n[0][i] != left[i] || m.n[1][i] != come[i])
            fail_msg("\"%s\", class %d: %d left and %d came", text, i, m.n[0][i], m.n[1][i]);
}

static void who_came_and_left_is_read_from_the_words(void **state)
{
    moves("Nothing has changed.", (int[]){0, 0, 0, 0}, (int[]){0, 0, 0, 0});
    moves("A person in red and one in a safety vest have come. A red car has left.", (int[]){0, 1, 0, 0}, (int[]){2, 0, 0, 0});
    moves("3 people have left. A white van, a black car and a red car have come. The gate has opened.", (int[]){3, 0, 0, 0},
          (int[]){0, 3, 0, 0});
    moves("A box and a black bag have been left behind. A box is gone. A fire has broken out. Smoke has come up.",
          (int[]){0, 0, 0, 1}, (int[]){0, 0, 0, 2});
    moves("A person lies on the ground now. Come: 2 people, 1 object. Left: 2 boxes, 1 animal.", (int[]){0, 0, 1, 2},
          (int[]){2, 0, 0, 1});
    moves("", (int[]){0, 0, 0, 0}, (int[]){0, 0, 0, 0});
}

/* The reader knows the writer's words: numbers of real changes, whatever detail they are told in. */
static void what_scene_words_writes_is_read(void **state)
{
    struct scene_truth before = {0}, after = {0};
    char text[SCENE_SUMMARY_MAX + 1];
    static const enum scene_type types[4] = {SCENE_PERSON, SCENE_VAN, SCENE_DOG, SCENE_BAG};
    for (int n = 1; n <= 3; n++)
        for (int class = 0; class < 4; class ++) {
            before.n_things = 0;
            after.n_things = n;
            for (int i = 0; i < n; i++)
                after.thing[i] = (struct scene_thing){.type = types[class], .colour = SCENE_BLACK};
            int came[4] = {0}, none[4] = {0};
            came[class] = n;
            scene_words_change(&before, &after, text);
            moves(text, none, came);
            scene_words_change(&after, &before, text);
            moves(text, came, none);
        }
}

/* ---- the tool ------------------------------------------------------------------------------------------------------------ */

static int run_tool(const char *const *args, char **ret_out)
{
    char tool[4200];
    struct program p = {0};
    snprintf(tool, sizeof tool, "%s", program_heron());
    *strrchr(tool, '/') = 0;
    strcat(tool, "/tools/eval_model");
    program_start(&p, tool, args, NULL, NULL);
    const int status = program_await(&p, BOX_PATIENCE_MS);
    *ret_out = program_text(&p, false);
    program_release(&p);
    return status;
}

/* All that was asked is judged, the last as well; a model that knows nothing does not pass. */
static void ask_the_ignorant(const char *option, const char *value)
{
    char json[400], *out;
    int n_observations = 0;
    snprintf(json, sizeof json, "%s/eval.json", test_temp_dir());
    const int status =
        run_tool(PROGRAM_ARGS("-m", box_model(), "-v", box_vision(), "--scenes", "5", "--questions", "2", "--words", "1",
                              "--pairs", "3", "--batch", "4", "--threads", "1", "--json", json, "--require", option, value),
                 &out);
    if (status != 1)
        fail_msg("status %d: %s", status, out);
    assert_true(test_contains(out, "| all | 5 |"));
    assert_true(test_contains(out, "\n23 jobs, 4 at a time")); /* 5 (1 + 2 + 1) + 3 */
    assert_true(test_contains(out, " of 10\n"));               /* answers and scores */
    assert_true(test_contains(out, "3 pairs:"));
    assert_true(test_contains(out, "required: people 95.0 %"));
    free(out);
    char *text = test_read_file(json, NULL);
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        json_t *one = json_loads(line, 0, NULL);
        assert_non_null(one);
        n_observations += json_object_get(one, "counts") != NULL;
        json_decref(one);
    }
    assert_int_equal(n_observations, 5);
    free(text);
}

static void the_ignorant_do_not_pass(void **state)
{
    ask_the_ignorant("--seed", "7");
}

/* One yard as the demo looks at it: its seed, every two seconds. */
static void a_yard_is_looked_at_as_the_demo_does(void **state)
{
    char json[400], *out;
    int n = 0;
    snprintf(json, sizeof json, "%s/yard.json", test_temp_dir());
    const int status = run_tool(PROGRAM_ARGS("-m", box_model(), "-v", box_vision(), "--scenes", "4", "--questions", "0",
                                             "--words", "0", "--pairs", "0", "--threads", "1", "--json", json, "--yard", "9"),
                                &out);
    if (status != 0)
        fail_msg("status %d: %s", status, out);
    assert_true(test_contains(out, "\npeople, vehicles, animals and hazard all right: "));
    assert_true(test_contains(out, " % of 4\n"));
    free(out);
    char *text = test_read_file(json, NULL);
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1, n++) {
        *end = 0;
        json_t *one = json_loads(line, 0, NULL);
        assert_non_null(one);
        assert_int_equal(json_integer_value(json_object_get(one, "seed")), 9);
        assert_true(json_number_value(json_object_get(one, "t_s")) ==
                    2.0 * (double)json_integer_value(json_object_get(one, "scene")));
        json_decref(one);
    }
    assert_int_equal(n, 4);
    free(text);
}

static void the_ignorant_do_not_pass_by_a_codec(void **state)
{
    struct err err = {0};
    if (codec_loop_check(&err) != 0)
        skip_because("%s", err.text);
    ask_the_ignorant("--codec", "h264");
}

static void options_are_read_strictly(void **state)
{
    static const char *const bad[][2] = {{"--seed", "abc"}, {"--threads", "x"}, {"--scenes", "0"},   {"--scenes", "12x"},
                                         {"--kv", "q9"},    {"--codec", "vp9"}, {"--quality", "28"}, {"--quality", "5"},
                                         {"--batch", "-1"}, {"--pairs", "-1"},  {"--words", "17"},   {"--json", NULL}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *out;
        const int status = run_tool(PROGRAM_ARGS("-m", "none.gguf", "-v", "none.gguf", bad[i][0], bad[i][1]), &out);
        if (status != 64)
            fail_msg("%s %s: status %d", bad[i][0], bad[i][1] ? bad[i][1] : "", status);
        free(out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(area_is_the_share_of_pairs_in_order), cmocka_unit_test(verdicts_are_counted_by_what_is_so),
        cmocka_unit_test(the_blind_know_wordings_alone),       cmocka_unit_test(an_answer_is_what_it_says),
        cmocka_unit_test(an_observation_is_judged_by_field),   cmocka_unit_test(who_came_and_left_is_read_from_the_words),
        cmocka_unit_test(what_scene_words_writes_is_read),     cmocka_unit_test(the_ignorant_do_not_pass),
        cmocka_unit_test(the_ignorant_do_not_pass_by_a_codec), cmocka_unit_test(a_yard_is_looked_at_as_the_demo_does),
        cmocka_unit_test(options_are_read_strictly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
