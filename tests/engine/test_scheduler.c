#include "tests/support/test.h"

#include "engine/scheduler.h"

static void order_is_priority_then_deadline_then_age(void **state)
{
    const struct sched_job urgent = {.order = 9, .priority = 1}, soon = {.order = 5, .deadline_ns = 10},
                           later = {.order = 1, .deadline_ns = 20}, never = {.order = 0}, never2 = {.order = 2};
    const struct sched_job *sorted[] = {&urgent, &soon, &later, &never, &never2};
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 5; j++)
            assert_int_equal(scheduler_before(sorted[i], sorted[j]), i < j);
}

static void late_is_by_estimate(void **state)
{
    struct scheduler s = {0};
    const struct sched_job job = {
        .deadline_ns = 1000, .image_tokens = 10, .prompt_rows = 20, .output_done = 0, .output_max = 5};
    assert_false(scheduler_is_late(&s, &job, 1000)); /* nothing measured: only the clock counts */
    assert_true(scheduler_is_late(&s, &job, 1001));
    scheduler_note_vision(&s, 10, 300);  /* 30 a token */
    scheduler_note_step(&s, 20, 0, 200); /* 10 a row */
    scheduler_note_step(&s, 0, 3, 40);
    scheduler_note_step(&s, 7, 3, 1000000); /* mixed: tells nothing */
    scheduler_note_output(&s, 8);
    assert_int_equal(scheduler_estimate_ns(&s, &job), 300 + 200 + 5 * 40);
    assert_false(scheduler_is_late(&s, &job, 300));
    assert_true(scheduler_is_late(&s, &job, 301));
    const struct sched_job nearly = {.deadline_ns = 1000, .output_done = 4, .output_max = 50};
    assert_int_equal(scheduler_estimate_ns(&s, &nearly), 4 * 40);
    const struct sched_job patient = {.prompt_rows = 1000000};
    assert_false(scheduler_is_late(&s, &patient, INT64_MAX / 2));
}

/* A slow minute must not keep every later job out for ever: refusals on the estimate alone wear it down. */
static void refusals_wear_the_estimate_down(void **state)
{
    struct scheduler s = {0};
    scheduler_note_vision(&s, 10, 100 * 1000);
    scheduler_note_step(&s, 100, 0, 100 * 1000);
    scheduler_note_step(&s, 0, 1, 1000);
    scheduler_note_output(&s, 10);
    const struct sched_job job = {.deadline_ns = 50 * 1000, .image_tokens = 10, .prompt_rows = 100, .output_max = 10};
    int refusals = 0;
    for (; scheduler_is_late(&s, &job, 0); refusals++) {
        assert_true(refusals < 100);
        scheduler_note_shed(&s);
    }
    assert_in_range(refusals, 20, 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_priority_then_deadline_then_age),
        cmocka_unit_test(late_is_by_estimate),
        cmocka_unit_test(refusals_wear_the_estimate_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
