/*
 * Figures are chosen by what was measured: from invented times; and measured, on a device that has some.
 */
#include <string.h>

#include "engine/tune.h"
#include "tests/support/test.h"

static void the_cheapest_value_is_chosen(void **state)
{
    static const struct {
        int32_t standard;
        double few[4], many[4]; /* at 1, 2, 4, 8 */
        int32_t best;
    } rows[] = {
        {4, {1, 2, 4, 8}, {3, 3, 3, 3}, 2},     /* cheaper up to 2 */
        {4, {1, 2, 4, 8}, {9, 9, 9, 9}, 8},     /* always */
        {4, {5, 5, 5, 5}, {1, 2, 3, 4}, 0},     /* never */
        {4, {1, 2, 3, 9}, {3, 3, 4, 8}, 4},     /* the standard is best */
        {4, {1, 2, 3.01, 8}, {3, 3, 3, 4}, 4},  /* by less than it is worth */
        {2, {1, 3.5, 2.5, 8}, {3, 3, 4, 4}, 4}, /* one point strays */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tune_figure f = {.n = 4, .at = {1, 2, 4, 8}, .standard = rows[i].standard};
        memcpy(f.few_s, rows[i].few, sizeof rows[i].few);
        memcpy(f.many_s, rows[i].many, sizeof rows[i].many);
        tune_choose(&f);
        assert_int_equal(f.best, rows[i].best);
        assert_true(f.best == f.standard ? f.gain == 1 : f.gain > 1);
    }
}

static void a_device_is_measured(void **state)
{
    struct kn_device *d = NULL;
    struct tune_figure f;
    struct err err = {0};
    assert_ok(kn_device_open("cpu", NULL, &d, &err), &err);
    assert_ok(tune_measure(d, KN_FEW_ROWS, KN_Q4_0, 0.01, &f, &err), &err);
    assert_int_equal(f.n, kn_tuning_most(d, KN_FEW_ROWS, KN_Q4_0));
    for (int32_t i = 0; i < f.n; i++)
        assert_true(f.few_s[i] > 0 && f.many_s[i] > 0 && f.at[i] == i + 1);
    assert_int_equal(kn_tuning(d, KN_FEW_ROWS, KN_Q4_0), f.best);
    assert_int_equal(kn_tuning_most(d, KN_FEW_PAIRS, KN_Q4_0), 0); /* the CPU sorts them always */
    kn_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cheapest_value_is_chosen),
        cmocka_unit_test(a_device_is_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
