/* The timer of a watch: when looks are due, what is shed, and the figures of the last hour. */
#include "tests/support/test.h"

#include <string.h>

#include "appliance/watch.h"
#include "base/clock.h"
#include "base/rng.h"

#define EVERY_NS    (5 * CLOCK_S)
#define DEADLINE_NS (10 * CLOCK_S)
#define START_NS    (1000 * CLOCK_S)
#define MINUTE_NS   (60 * CLOCK_S)
#define SEED        20

static struct watch start(int64_t phase_ns)
{
    struct watch watch;
    memset(&watch, 0xA5, sizeof watch); /* init owes nothing to what was there */
    watch_init(&watch, EVERY_NS, DEADLINE_NS, START_NS, phase_ns);
    return watch;
}

static struct payload_watch figures(const struct watch *watch, int64_t now_ns)
{
    struct payload_watch stats;
    memset(&stats, 0xA5, sizeof stats);
    watch_get(watch, now_ns, &stats);
    return stats;
}

/* Due at the phase, then on the grid; an answer in time sheds nothing. */
static void looks_on_a_grid(void **state)
{
    struct watch w = start(2 * CLOCK_S);
    int64_t due_ns = START_NS + 2 * CLOCK_S;
    assert_false(watch_due(&w, START_NS));
    for (int i = 0; i < 5; i++) {
        assert_false(watch_due(&w, due_ns - 1));
        assert_true(watch_due(&w, due_ns));
        assert_true(watch_due(&w, due_ns + CLOCK_MS)); /* until it is begun */
        watch_look(&w, due_ns + 3 * CLOCK_MS);         /* being late does not move the grid */
        assert_false(watch_due(&w, due_ns + 4 * CLOCK_MS));
        watch_done(&w, due_ns, due_ns + CLOCK_S, 300, 20);
        assert_false(watch_due(&w, due_ns + CLOCK_S));
        due_ns += EVERY_NS;
    }
    const struct payload_watch s = figures(&w, due_ns);
    assert_int_equal(s.observations, 5);
    assert_int_equal(s.shed, 0);
    assert_int_equal(s.failed, 0);
    assert_int_equal(s.prompt_tokens, 1500);
    assert_int_equal(s.output_tokens, 100);
    assert_true(s.last_observation_ns == due_ns - EVERY_NS + CLOCK_S);
    assert_true(s.p50_ms == 1000 && s.p95_ms == 1000);
    assert_string_equal(s.last_error, "");
}

/* A look that takes longer than the interval: the points that pass meanwhile are shed, one each, and never looked at later. */
static void sheds_what_comes_while_at_work(void **state)
{
    struct watch w = start(0);
    assert_true(watch_due(&w, START_NS));
    watch_look(&w, START_NS);
    for (int ms = 0; ms <= 12000; ms += 100)
        assert_false(watch_due(&w, START_NS + ms * CLOCK_MS));
    assert_int_equal(w.shed, 2);
    watch_done(&w, START_NS, START_NS + 12 * CLOCK_S, 1, 1);
    assert_false(watch_due(&w, START_NS + 14999 * CLOCK_MS));
    assert_true(watch_due(&w, START_NS + 15 * CLOCK_S));
    assert_int_equal(w.shed, 2);
    watch_look(&w, START_NS + 15 * CLOCK_S);
    watch_shed(&w, START_NS + 16 * CLOCK_S); /* the look itself came too late */
    assert_int_equal(w.shed, 3);
    assert_int_equal(w.observations, 1);
    assert_true(watch_due(&w, START_NS + 20 * CLOCK_S));
}

/* Nobody asked for a while (the process was stopped, the machine slept): the newest point is due, those before were shed. */
static void a_clock_far_ahead(void **state)
{
    struct watch w = start(0);
    assert_true(watch_due(&w, START_NS + 17 * CLOCK_S));
    assert_int_equal(w.shed, 3);
    watch_look(&w, START_NS + 17 * CLOCK_S);
    watch_done(&w, START_NS + 17 * CLOCK_S, START_NS + 18 * CLOCK_S, 1, 1);
    assert_true(watch_due(&w, START_NS + 20 * CLOCK_S));

    /* years, and with a look at work */
    const int64_t years_ns = START_NS + INT64_C(10) * 365 * 86400 * CLOCK_S;
    watch_look(&w, START_NS + 20 * CLOCK_S);
    assert_false(watch_due(&w, years_ns));
    const uint64_t passed = (uint64_t)((years_ns - START_NS) / EVERY_NS) - 4;
    assert_true(w.shed == 3 + passed);
    assert_true(figures(&w, years_ns).shed_1h == passed);
    assert_true(w.next_ns > years_ns && w.next_ns <= years_ns + EVERY_NS);
    watch_cancel(&w);
    assert_true(watch_due(&w, w.next_ns));
}

/* No new frame: it stays due, sheds nothing however long that takes, and the grid begins again with the frame. */
static void waits_for_a_frame(void **state)
{
    struct watch w = start(0);
    assert_true(watch_due(&w, START_NS));
    watch_wait(&w);
    for (int s = 0; s < 100; s++) {
        assert_true(watch_due(&w, START_NS + s * CLOCK_S));
        watch_wait(&w);
    }
    const int64_t came_ns = START_NS + 101 * CLOCK_S + 7;
    assert_true(watch_due(&w, came_ns));
    watch_look(&w, came_ns);
    watch_done(&w, came_ns, came_ns + CLOCK_MS, 1, 1);
    assert_int_equal(w.shed, 0);
    assert_false(watch_due(&w, came_ns + EVERY_NS - 1));
    assert_true(watch_due(&w, came_ns + EVERY_NS));
}

static void ends_of_a_look(void **state)
{
    struct watch w = start(0);
    char long_words[400];
    memset(long_words, 'e', sizeof long_words - 1);
    long_words[sizeof long_words - 1] = '\0';

    assert_true(watch_due(&w, START_NS));
    watch_look(&w, START_NS);
    watch_fail(&w, "the picture is empty");
    struct payload_watch s = figures(&w, START_NS);
    assert_int_equal(s.failed, 1);
    assert_string_equal(s.last_error, "the picture is empty");
    assert_int_equal(s.last_observation_ns, 0);
    assert_true(s.p50_ms == 0 && s.p95_ms == 0);

    assert_true(watch_due(&w, START_NS + EVERY_NS));
    watch_look(&w, START_NS + EVERY_NS);
    watch_fail(&w, long_words);
    assert_int_equal(strlen(figures(&w, START_NS).last_error), sizeof s.last_error - 1);

    /* taken back: as if it had not been; the fault before it stays */
    assert_true(watch_due(&w, START_NS + 2 * EVERY_NS));
    watch_look(&w, START_NS + 2 * EVERY_NS);
    watch_cancel(&w);
    s = figures(&w, START_NS + 2 * EVERY_NS);
    assert_true(s.failed == 2 && s.shed == 0 && s.observations == 0 && s.last_error[0] == 'e');

    assert_true(watch_due(&w, START_NS + 3 * EVERY_NS));
    watch_look(&w, START_NS + 3 * EVERY_NS);
    watch_done(&w, START_NS, START_NS + 3 * EVERY_NS, 1, 1);
    assert_string_equal(figures(&w, START_NS).last_error, "");
}

static void another_interval(void **state)
{
    /* shorter: the next look comes within the new interval */
    struct watch w = start(0);
    watch_look(&w, START_NS);
    watch_done(&w, START_NS, START_NS + 1, 1, 1);
    watch_retime(&w, CLOCK_S, 2 * CLOCK_S, START_NS + 2);
    assert_false(watch_due(&w, START_NS + CLOCK_S));
    assert_true(watch_due(&w, START_NS + CLOCK_S + 2));
    assert_true(w.every_ns == CLOCK_S && w.deadline_ns == 2 * CLOCK_S && w.started_ns == START_NS + 2);
    assert_int_equal(w.observations, 1);

    /* longer: a look that was near stays near, and the interval holds after it */
    watch_retime(&w, 60 * CLOCK_S, 2 * CLOCK_S, START_NS + 3);
    assert_true(watch_due(&w, START_NS + CLOCK_S + 2));
    watch_look(&w, START_NS + CLOCK_S + 2);
    watch_cancel(&w);
    assert_false(watch_due(&w, START_NS + 61 * CLOCK_S + 1));
    assert_true(watch_due(&w, START_NS + 61 * CLOCK_S + 2));

    /* after a long pause: due at once, and what passed in the pause is nobody's loss */
    watch_retime(&w, CLOCK_S, 2 * CLOCK_S, START_NS + 1000 * CLOCK_S);
    assert_true(watch_due(&w, START_NS + 1000 * CLOCK_S));
    assert_int_equal(w.shed, 0);

    assert_true(watch_window_ns(EVERY_NS, DEADLINE_NS) == 20 * CLOCK_S);
    assert_true(watch_window_ns(1, 0) == 2);
}

/* Every grid point is looked at or shed, exactly once, whatever the calls' times. */
static void counts_add_up(void **state)
{
    struct rng rng = {.seed = SEED};
    for (int run = 0; run < 200; run++) {
        const int64_t every_ns = 1 + (int64_t)rng_below(&rng, 1000);
        struct watch w;
        uint64_t looks = 0, late = 0;
        int64_t now_ns = START_NS;
        watch_init(&w, every_ns, every_ns, START_NS, 0);
        for (int i = 0; i < 300; i++) {
            if (w.is_at_work && rng_below(&rng, 3) == 0) {
                switch (rng_below(&rng, 3)) {
                case 0: watch_done(&w, now_ns, now_ns, 0, 0); break;
                case 1: watch_fail(&w, "x"); break;
                default:
                    watch_shed(&w, now_ns);
                    late++;
                    break;
                }
            }
            if (watch_due(&w, now_ns)) {
                watch_look(&w, now_ns);
                looks++;
            }
            const uint64_t points = (uint64_t)((now_ns - START_NS) / every_ns) + 1;
            assert_true(looks + w.shed - late == points);
            assert_true(w.next_ns > now_ns && w.next_ns <= now_ns + every_ns);
            now_ns += (int64_t)rng_below(&rng, (uint64_t)(3 * every_ns));
        }
        assert_true(w.observations + w.failed + late + w.is_at_work == looks);
    }
}

/* ---- the last hour ---------------------------------------------------------------------------------------------------------- */

static void the_last_hour_forgets(void **state)
{
    struct watch_hour h = {0};
    assert_int_equal(watch_hour_sum(&h, START_NS), 0);
    const int64_t minute_ns = 100 * MINUTE_NS;
    watch_hour_add(&h, minute_ns, 3);
    watch_hour_add(&h, minute_ns + MINUTE_NS - 1, 4);
    watch_hour_add(&h, minute_ns + 30 * MINUTE_NS, 10);
    assert_int_equal(watch_hour_sum(&h, minute_ns + 30 * MINUTE_NS), 17);
    assert_int_equal(watch_hour_sum(&h, minute_ns + 60 * MINUTE_NS - 1), 17);
    assert_int_equal(watch_hour_sum(&h, minute_ns + 60 * MINUTE_NS), 10);
    assert_int_equal(watch_hour_sum(&h, minute_ns + 90 * MINUTE_NS - 1), 10);
    assert_int_equal(watch_hour_sum(&h, minute_ns + 90 * MINUTE_NS), 0);
    assert_int_equal(watch_hour_sum(&h, INT64_MAX), 0);

    /* its place in the ring is used again, clean */
    watch_hour_add(&h, minute_ns + 60 * MINUTE_NS, 1);
    assert_int_equal(watch_hour_sum(&h, minute_ns + 60 * MINUTE_NS), 11);
    watch_hour_add(&h, minute_ns + 100000 * MINUTE_NS, 2);
    assert_int_equal(watch_hour_sum(&h, minute_ns + 100000 * MINUTE_NS), 2);

    /* the first minutes of a clock that began at zero */
    struct watch_hour young = {0};
    watch_hour_add(&young, 0, 5);
    watch_hour_add(&young, MINUTE_NS, 6);
    assert_int_equal(watch_hour_sum(&young, 2 * MINUTE_NS), 11);
}

/* Against a list of everything that was ever added. */
static void the_last_hour_is_right(void **state)
{
    enum { N = 2000 };
    static int64_t when[N];
    struct rng rng = {.seed = SEED};
    struct watch_hour h = {0};
    int64_t now_ns = 0;
    for (int i = 0; i < N; i++) {
        /* mostly seconds, now and then more than an hour */
        now_ns += (int64_t)rng_below(&rng, rng_below(&rng, 20) ? 90 : 6000) * CLOCK_S;
        when[i] = now_ns;
        watch_hour_add(&h, now_ns, 1);
        const int64_t ask_ns = now_ns + (int64_t)rng_below(&rng, 4000) * CLOCK_S;
        uint32_t want = 0;
        for (int k = 0; k <= i; k++)
            want += when[k] / MINUTE_NS > ask_ns / MINUTE_NS - WATCH_MINUTES;
        assert_int_equal(watch_hour_sum(&h, ask_ns), want);
    }
}

static void quantiles(void **state)
{
    float values[WATCH_LATENCIES];
    struct rng rng = {.seed = SEED};
    assert_true(watch_quantile(values, 0, 0.5) == 0);
    for (int n = 1; n <= WATCH_LATENCIES; n++) {
        for (int which = 0; which < 3; which++) {
            const int percent = (int[]){50, 95, 100}[which]; /* those that are published, and the largest */
            for (int i = 0; i < n; i++)
                values[i] = (float)(i + 1);
            for (int i = n - 1; i > 0; i--) {
                const int k = (int)rng_below(&rng, (uint64_t)i + 1);
                const float swap = values[i];
                values[i] = values[k];
                values[k] = swap;
            }
            /* the smallest value that at least percent of all do not exceed */
            const int want = (percent * n + 99) / 100;
            const double got = watch_quantile(values, n, percent / 100.0);
            if (got != want)
                fail_msg("%d %% of %d: %g, want %d", percent, n, got, want);
        }
    }

    /* only the last 128 count */
    struct watch w = start(0);
    for (int i = 0; i < 1000; i++)
        watch_done(&w, START_NS, START_NS + (i < 872 ? 9000 : 1) * CLOCK_MS, 0, 0);
    const struct payload_watch s = figures(&w, START_NS);
    assert_true(s.p50_ms == 1 && s.p95_ms == 1);
    assert_int_equal(s.observations, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(looks_on_a_grid),        cmocka_unit_test(sheds_what_comes_while_at_work),
        cmocka_unit_test(a_clock_far_ahead),      cmocka_unit_test(waits_for_a_frame),
        cmocka_unit_test(ends_of_a_look),         cmocka_unit_test(another_interval),
        cmocka_unit_test(counts_add_up),          cmocka_unit_test(the_last_hour_forgets),
        cmocka_unit_test(the_last_hour_is_right), cmocka_unit_test(quantiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
