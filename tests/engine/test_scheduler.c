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

/* A slow minute must not keep every later job out for ever: when nothing has run for as long as it is thought to take, one is tried, however many were refused. */
static void one_is_tried_after_its_own_time(void **state)
{
    struct scheduler s = {0};
    scheduler_note_vision(&s, 10, 100 * 1000);
    scheduler_note_step(&s, 100, 0, 100 * 1000);
    scheduler_note_step(&s, 0, 1, 1000);
    scheduler_note_output(&s, 10);
    const struct sched_job job = {.deadline_ns = 50 * 1000, .image_tokens = 10, .prompt_rows = 100, .output_max = 10};
    const int64_t took = scheduler_estimate_ns(&s, &job);
    assert_int_equal(took, 210 * 1000);
    assert_true(scheduler_is_late(&s, &job, 0));
    for (int64_t now = 1000; now < 1000 + took; now += 100)
        assert_false(scheduler_may_try(&s, &job, now));
    assert_true(scheduler_may_try(&s, &job, 1000 + took));
    assert_false(scheduler_may_try(&s, &job, 1001 + took)); /* one, and then it takes as long again */
    scheduler_note_running(&s);
    assert_false(scheduler_may_try(&s, &job, 5000 + 2 * took)); /* it was busy: the time begins anew */
    assert_true(scheduler_is_late(&s, &job, 0));                /* and nothing was forgotten */
}

/* Pictures and prompts one after the other, answers beside each other; rest makes all of it longer. */
static void together_they_take_longer(void **state)
{
    struct scheduler s = {.image_token_ns = 10, .prompt_row_ns = 5, .decode_step_ns = 20, .output_steps = 6};
    const struct sched_job one = {.deadline_ns = 1000, .image_tokens = 20, .prompt_rows = 30, .output_max = 50},
                           other = {.deadline_ns = 900, .prompt_rows = 10, .output_done = 2, .output_max = 50},
                           free = {.prompt_rows = 1000000, .output_max = 1};
    struct sched_load load = {0};
    scheduler_load_add(&s, &load, &one); /* 200 + 150 + 120 */
    assert_true(scheduler_is_in_time(&s, &load, 530));
    assert_false(scheduler_is_in_time(&s, &load, 531));
    scheduler_load_add(&s, &load, &other);             /* and 50: its steps are among the first one's */
    assert_true(scheduler_is_in_time(&s, &load, 380)); /* both, by the earlier deadline */
    assert_false(scheduler_is_in_time(&s, &load, 381));
    s.pace = 0.5;
    assert_int_equal(scheduler_estimate_ns(&s, &one), 940);
    assert_false(scheduler_is_in_time(&s, &load, 0));
    load = (struct sched_load){0};
    scheduler_load_add(&s, &load, &free);
    assert_true(scheduler_is_in_time(&s, &load, INT64_MAX / 2));
    struct scheduler nothing = {0};
    load = (struct sched_load){0};
    for (int i = 0; i < 100; i++)
        scheduler_load_add(&nothing, &load, &one);
    assert_true(scheduler_is_in_time(&nothing, &load, 1000)); /* nothing is held up on a guess */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_priority_then_deadline_then_age),
        cmocka_unit_test(late_is_by_estimate),
        cmocka_unit_test(one_is_tried_after_its_own_time),
        cmocka_unit_test(together_they_take_longer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
