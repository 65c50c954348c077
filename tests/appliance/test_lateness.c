/* How late a watt meter is, found by what our own work does to it. */
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>

#include "appliance/lateness.h"
#include "base/rng.h"
#include "tests/support/late_meter.h"

/* Work in a rhythm, seen second by second; the meter says means of the second that ended late_s ago, and 30 W of others'. */
static double found_after(double late_s, double period_s, double share, int seconds, uint64_t seed)
{
    struct lateness l;
    struct late_meter m;
    struct rng rng = {.seed = seed};
    lateness_init(&l);
    late_meter_init(&m, 0);
    for (int s = 0; s < seconds; s++) {
        for (int i = 0; i < LATE_METER_PER_S; i++)
            late_meter_push(&m, fmod((double)m.n / LATE_METER_PER_S, period_s) < share * period_s ? 80 : 0);
        lateness_push(&l, late_meter_read(&m, 0));
        lateness_learn(&l, 30 + 1.2 * late_meter_read(&m, late_s) + 3 * (rng_unit(&rng) - 0.5));
    }
    return lateness_s(&l);
}

static void test_finds_how_late(void **state)
{
    for (double late_s = 0; late_s <= 2.51; late_s += 0.5)
        for (double period_s = 7.3; period_s < 60; period_s *= 1.7) {
            const double found = found_after(late_s, period_s, 0.4, 240, 3);
            if (fabs(found - late_s) > 0.01)
                fail_msg("late by %.1f s, period %.1f s: found %.1f s", late_s, period_s, found);
        }
    assert_true(fabs(found_after(1.3, 11, 0.5, 240, 4) - 1.3) < 0.3); /* between two guesses */
}

/* Work that was changed because of what was measured seems to come before it: in a rhythm of six seconds two seconds before. It says nothing. */
static void test_is_not_led_by_its_own_answers(void **state)
{
    struct lateness l;
    struct rng rng = {.seed = 9};
    double said = 90;
    lateness_init(&l);
    for (int s = 0; s < 7200; s++) {
        const double ripple = s / 3 % 2 ? 12 : -12, own = 60 - 0.3 * (said - 90);
        said = 30 + own + ripple + 2 * (rng_unit(&rng) - 0.5);
        lateness_push(&l, own);
        lateness_learn(&l, said);
        assert_true(lateness_s(&l) == 0);
    }
}

/* A single beginning that was told wrong does not count. */
static void test_one_move_is_an_accident(void **state)
{
    struct lateness l;
    lateness_init(&l);
    for (int s = 0; s < 600; s++) {
        lateness_push(&l, s < 300 ? 0 : 80);
        lateness_learn(&l, s < 301 ? 30 : 110);
        assert_true(lateness_s(&l) == 0);
    }
}

static void test_a_meter_that_says_nothing(void **state)
{
    struct lateness l;
    lateness_init(&l);
    assert_true(lateness_is_clear(&l));
    for (int s = 0; s < 100; s++) {
        lateness_push(&l, s / 10 % 2 ? 80 : 0);
        lateness_learn(&l, NAN);
    }
    assert_true(lateness_s(&l) == 0);
    assert_false(lateness_is_clear(&l));
    assert_true(lateness_seen(&l) == 80 && lateness_doubt(&l) == 0);
    lateness_push(&l, 0);
    assert_true(lateness_seen(&l) == 0 && lateness_doubt(&l) == 40); /* half a second later it would be half of it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_how_late),
        cmocka_unit_test(test_is_not_led_by_its_own_answers),
        cmocka_unit_test(test_one_move_is_an_accident),
        cmocka_unit_test(test_a_meter_that_says_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
