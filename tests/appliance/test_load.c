/* What the engine did in a second, told by totals. */
#include "tests/support/test.h"

#include <math.h>

#include "appliance/load.h"
#include "base/clock.h"

#define S CLOCK_S

/* An engine whose passes take step_ns, each with a token for each of `batch` sequences; asked every second. Mean of the speeds told. */
static double mean_speed(int64_t step_ns, int batch, int n_seconds, int *ret_told)
{
    struct load load = {0};
    struct load_told told = {0};
    struct load_second second;
    int64_t begin = S, end = begin + step_ns;
    double sum = 0;
    *ret_told = 0;
    load_take(&load, &told, S, &second);
    for (int i = 1; i <= n_seconds; i++) {
        const int64_t now = S + i * S;
        for (; end <= now; begin = end, end += step_ns) {
            told.progress.busy_ns += end - begin;
            told.progress.sequence_ns += (end - begin) * batch;
            told.progress.output_tokens += (uint64_t)batch;
        }
        told.running = batch;
        told.since_ns = begin;
        load_take(&load, &told, now, &second);
        assert_true(second.batch == batch && fabs(second.duty - 1) < 1e-9);
        if (!isnan(second.speed)) {
            sum += second.speed;
            ++*ret_told;
        }
    }
    return sum / *ret_told;
}

static void test_passes_longer_than_a_second(void **state)
{
    int n;
    assert_true(fabs(mean_speed(S / 10, 4, 60, &n) - 40) < 0.5);
    assert_in_range(n, 59, 60);
    assert_true(fabs(mean_speed(S * 8 / 5, 8, 240, &n) - 5) < 0.6);
    assert_true(fabs(mean_speed(4 * S, 8, 240, &n) - 2) < 0.1);
    assert_in_range(n, 58, 60);
}

/* A picture and a prompt are work that gives no token: it is no rest, and it counts. */
static void test_work_without_tokens(void **state)
{
    struct load load = {0};
    struct load_told told = {0};
    struct load_second second;
    load_take(&load, &told, S, &second);
    assert_true(second.batch == 0 && second.duty == 0 && isnan(second.speed));
    for (int i = 1; i <= 3; i++) {
        told.progress.busy_ns += S;
        told.progress.sequence_ns += 2 * S;
        load_take(&load, &told, S + i * S, &second);
        assert_true(second.batch == 2 && second.duty == 1 && isnan(second.speed));
    }
    told.progress.busy_ns += S / 2;
    told.progress.sequence_ns += S;
    told.progress.output_tokens += 14;
    load_take(&load, &told, 5 * S, &second);
    assert_true(second.batch == 2 && second.duty == 0.5 && fabs(second.speed - 14 / 3.5 * 0.5) < 1e-9);
    load_take(&load, &told, 6 * S, &second); /* rest */
    assert_true(second.batch == 0 && second.duty == 0 && isnan(second.speed));
}

/* Tokens of a mixture of batches say nothing of either. */
static void test_batches_are_not_mixed(void **state)
{
    struct load load = {0};
    struct load_told told = {0};
    struct load_second second;
    load_take(&load, &told, S, &second);
    for (int i = 1; i <= 4; i++) {
        told.progress.busy_ns += S;
        told.progress.sequence_ns += (i < 3 ? 1 : 8) * S;
        told.progress.output_tokens += i == 3 ? 20 : i == 4 ? 9 : 0;
        load_take(&load, &told, S + i * S, &second);
        assert_true(second.batch == (i < 3 ? 1 : 8));
        assert_true(i == 4 ? second.speed == 9 : isnan(second.speed));
    }
}

/* The engine was opened anew: its totals begin again. */
static void test_a_new_engine(void **state)
{
    struct load load = {0};
    struct load_told told = {.progress = {.busy_ns = 50 * S, .sequence_ns = 50 * S, .output_tokens = 900}};
    struct load_second second;
    load_take(&load, &told, S, &second);
    told.progress = (struct en_progress){.busy_ns = S / 2, .sequence_ns = S, .output_tokens = 5};
    load_take(&load, &told, 2 * S, &second);
    assert_true(second.batch == 2 && second.duty == 0.5 && second.speed == 5);
    told.progress.busy_ns -= S / 100; /* a little was guessed */
    load_take(&load, &told, 3 * S, &second);
    assert_true(second.batch == 0 && second.duty == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passes_longer_than_a_second),
        cmocka_unit_test(test_work_without_tokens),
        cmocka_unit_test(test_batches_are_not_mixed),
        cmocka_unit_test(test_a_new_engine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
