/* What the governor learns of the box and its work, keeps, and says of them. */
#include "tests/support/governor_box.h"

static void test_without_a_meter(void **state)
{
    struct box b;
    box_open_unmetered(&b);
    double most = 0;
    for (int i = 0; i < 3600; i++) {
        struct governor_sight s = box_look_unmetered(&b);
        box_live(&b, &s, false);
        most = fmax(most, b.sink_c + 0.15 * b.last_w);
    }
    assert_true(most < 69);
    assert_true(b.sink_c + 0.15 * b.last_w > 62);
}

/* No watts, but a speed: it is found that more than two sequences give nothing here. */
static void test_learns_speeds_without_a_meter(void **state)
{
    struct box b;
    box_open_unmetered(&b);
    int n_two = 0;
    for (int i = 0; i < 7200; i++) {
        struct governor_sight s = box_look_unmetered(&b);
        s.speed = s.batch > 0 ? s.duty * (s.batch == 1 ? 10 : 16) : NAN;
        box_live(&b, &s, false);
        n_two += i >= 3600 && b.grant.permit.batch == 2;
    }
    assert_true(n_two > 3400); /* another may still be tried, for two minutes */
}

/* What was said of the supply and of the vents is not said for ever. */
static void test_faults_that_are_over(void **state)
{
    struct box b;
    box_open_one(&b);
    b.sink_c = 30;
    for (int i = 0; i < 1800; i++) { /* held back for two minutes, then hardly any work */
        struct governor_sight s = box_look(&b, INFINITY);
        s.is_limited = i >= 600 && i < 720;
        s.duty *= i < 720 ? 1 : 0.3;
        box_live(&b, &s, i >= 720);
        b.sink_c = fmin(b.sink_c, 40); /* a cold room */
        assert_true(i < 700 || i >= 720 || b.grant.is_limited);
    }
    assert_false(b.grant.is_limited);

    box_open_one(&b);
    box_run(&b, 3600);
    for (int i = 0; i < 2 * 3600; i++) { /* dust for two hours */
        box_tick(&b, INFINITY);
        b.sink_c += 0.35 * ((b.sink_c - 25) / 0.4) / 400;
    }
    assert_true(b.grant.needs_service);
    for (int i = 0; i < 3600; i++) { /* it is cleaned, and there is one camera left */
        struct governor_sight s = box_look(&b, INFINITY);
        s.demand = 1;
        s.batch = s.batch > 1 ? 1 : s.batch;
        governor_tick(&b.governor, &s, &b.grant);
        b.last_w = 20 + (b.grant.permit.batch > 0 ? 64 * b.grant.duty : 0);
        b.sink_c += (b.last_w - (b.sink_c - 25) / 0.4) / 400;
    }
    assert_false(b.grant.needs_service);
}

/* The meter says something only when the work has begun: what the box draws at rest is not known, and nobody is accused. */
static void test_a_late_meter_is_no_weak_supply(void **state)
{
    struct box b;
    const struct governor_options options = one_sensor();
    const struct governor_memory memory = {.factor = 1};
    box_open_one(&b);
    governor_init(&b.governor, &options, &memory);
    b.sink_c = 30;
    for (int i = 0; i < 3600; i++) {
        struct governor_sight s = box_look(&b, INFINITY);
        if (i < 8)
            s.watts = NAN;
        box_live(&b, &s, false);
        b.sink_c = fmin(b.sink_c, 40); /* a cold room */
        assert_false(b.grant.is_limited);
    }
}

static void test_service_is_called_for(void **state)
{
    struct box b;
    box_open_one(&b);
    box_run(&b, 3600);
    assert_false(b.grant.needs_service);
    for (int i = 0; i < 3600; i++) { /* dust: half of the heat leaves */
        box_tick(&b, INFINITY);
        b.sink_c += 0.35 * ((b.sink_c - 25) / 0.4) / 400;
    }
    assert_true(b.grant.needs_service);
}

/* A supply that gives half: cool, busy, and slow. No flag tells of it. */
static void test_a_weak_supply_is_told(void **state)
{
    struct box b;
    box_open_one(&b);
    b.sink_c = 30;
    for (int i = 0; i < 1200; i++) {
        const bool is_weak = i > 600;
        b.now_ns += S;
        const double own =
            0.4 * (is_weak ? 0.4 : 1) * (60 + 4 * b.grant.permit.batch); /* cool in any case: half of what the table says */
        struct governor_sight s = {.now_ns = b.now_ns,
                                   .c = {40},
                                   .watts = 20 + (b.grant.permit.batch > 0 ? own : 0),
                                   .batch = b.grant.permit.batch,
                                   .duty = b.grant.permit.batch > 0 ? 1 : 0,
                                   .speed = NAN,
                                   .device_margin_k = NAN};
        s.c[0] = floor(32 + 0.15 * s.watts + 0.5) + (i % 7 == 0);
        governor_tick(&b.governor, &s, &b.grant);
        if (i < 600)
            assert_false(b.grant.is_limited);
    }
    assert_true(b.grant.is_limited);
}

/* The box stands idle for as long as it likes before the first work: what it learns is learned from the step, not from the rest. */
static void test_learns_after_a_long_rest(void **state)
{
    static const int rests[] = {0, 10, 70, 600, 7200};
    for (size_t k = 0; k < sizeof rests / sizeof *rests; k++) {
        struct box b;
        box_open_one(&b);
        double most = 0;
        for (int i = 0; i < rests[k] + 3600; i++) {
            const bool is_resting = i < rests[k];
            struct governor_sight s = box_look(&b, INFINITY);
            if (is_resting) {
                s.batch = 0;
                s.duty = 0;
            }
            box_live(&b, &s, is_resting);
            most = fmax(most, b.sink_c + 0.15 * b.last_w);
            assert_int_not_equal(b.grant.level, GOVERNOR_BLIND);
        }
        struct governor_memory memory;
        assert_int_equal(governor_get_memory(&b.governor, &memory), 1);
        if (!(memory.bodies[0].r_k_w > 0.13 && memory.bodies[0].r_k_w < 0.25) || most > 68.7)
            fail_msg("after %d s of rest: r %f, at most %f C", rests[k], memory.bodies[0].r_k_w, most);
    }
}

/* One camera on a box that could do more for eight: nothing is held back, and so it is told. */
static void test_little_work_is_not_throttled(void **state)
{
    struct box b;
    box_open_one(&b);
    for (int i = 0; i < 7200; i++) {
        struct governor_sight s = box_look(&b, INFINITY);
        s.demand = i < 5400 ? 1 : 8;
        s.batch = s.batch < s.demand ? s.batch : s.demand;
        governor_tick(&b.governor, &s, &b.grant);
        const int batch = b.grant.permit.batch < s.demand ? b.grant.permit.batch : s.demand;
        b.last_w = 20 + b.grant.duty * (30 + 10 * batch);
        b.sink_c += (b.last_w - (b.sink_c - 25) / 0.4) / 400;
        if (i > 600 && i < 5400) {
            assert_true(b.grant.permit.idle_permille == 0 || b.grant.is_probe);
            assert_true(b.grant.level == GOVERNOR_NOMINAL || b.grant.level == GOVERNOR_WARM);
        }
    }
    assert_int_equal(b.grant.level, GOVERNOR_THROTTLED);
}

/* The box was busy with its start when it was looked at for the first time: that is no weak supply, now or at the next start. */
static void test_a_busy_start_is_no_weak_supply(void **state)
{
    struct box b;
    const struct governor_options options = one_sensor();
    struct governor_memory memory;
    for (int run = 0; run < 2; run++) {
        box_open(&b, &options);
        if (run == 1)
            governor_init(&b.governor, &options, &memory);
        for (int i = 0; i < 3600; i++) {
            struct governor_sight s = box_look(&b, INFINITY);
            const bool is_resting = i % 300 < 8;
            if (i < 8)
                s.watts = 95; /* the model is being loaded */
            if (is_resting)
                s.batch = s.duty = 0;
            box_live(&b, &s, is_resting);
            assert_false(b.grant.is_limited);
        }
        governor_get_memory(&b.governor, &memory);
        if (!(memory.factor > 0.3 &&
              memory.factor < 3)) /* of what the rungs are kept with, which a busy start sees through a mist */
            fail_msg("%.2f of what is known is usual (%.2f of %.2f)", memory.factor, b.governor.usual_factor,
                     b.governor.workload.factor);
    }
}

/* A box a tenth or six times as large is the same box in another unit: as warm, as busy and as calm, at its first start and at the second. */
static void test_boxes_of_all_sizes(void **state)
{
    static const double sizes[] = {1, 0.05, 0.1, 3, 8};
    double worked[5][2] = {{0}};
    for (int i = 0; i < 5; i++) {
        const double k = sizes[i];
        struct box b;
        const struct governor_options options = one_sensor();
        struct governor_memory memory;
        for (int run = 0; run < 2; run++) {
            box_open(&b, &options);
            if (run == 1)
                governor_init(&b.governor, &options, &memory);
            b.last_w = 20 * k;
            double most_c = 0;
            int n_turns = 0, way = 0;
            double edge = 1;
            for (int t = 0; t < 7200; t++) {
                const struct governor_sight s = box_look_sized(&b, k);
                most_c = fmax(most_c, s.c[0]);
                const double own = box_live_sized(&b, &s, false, k);
                worked[i][run] += t >= 1800 ? own : 0;
                if (t >= 1800 && fabs(own / 92 - edge) > 0.1) { /* the power turns round */
                    n_turns += way != 0 && (own / 92 > edge) != (way > 0);
                    way = own / 92 > edge ? 1 : -1;
                    edge = own / 92;
                }
            }
            if (most_c > 69 || n_turns > 12)
                fail_msg("%.2g times as large, start %d: %.1f C, %d turns", k, run, most_c, n_turns);
            if (worked[i][run] < 0.97 * worked[0][run])
                fail_msg("%.2g times as large, start %d: %.0f %% of the work", k, run, 100 * worked[i][run] / worked[0][run]);
            governor_get_memory(&b.governor, &memory);
        }
        const double r_k_w =
            memory.bodies[0].r_k_w * k; /* they are kept in kelvins and watts; 0.15, and a little more for care */
        if (!(r_k_w > 0.13 && r_k_w < 0.24))
            fail_msg("%.2g times as large: %.3f K/W", k, r_k_w);
    }
}

/* A box that is much smaller than is thought at first stays under its limit, whatever comes between its first look and what that shows. */
static void test_a_first_look_that_is_disturbed(void **state)
{
    enum { RESTART, LATE_METER };
    static const struct {
        int what, seconds;
    } disturbances[] = {{RESTART, 1},  {RESTART, 5},    {RESTART, 12},   {RESTART, 22},    {RESTART, 40},
                        {RESTART, 60}, {LATE_METER, 4}, {LATE_METER, 5}, {LATE_METER, 12}, {LATE_METER, 30}};
    static const double sizes[] = {0.02, 0.05, 8};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (size_t i = 0; i < sizeof disturbances / sizeof *disturbances; i++) {
            struct box b;
            const struct governor_options options = one_sensor();
            struct governor_memory memory;
            double most_c = 0;
            box_open(&b, &options);
            b.last_w *= sizes[k];
            for (int t = 0; t < 5400; t++) {
                if (disturbances[i].what == RESTART && t == disturbances[i].seconds) {
                    governor_get_memory(&b.governor, &memory);
                    governor_init(&b.governor, &options, &memory);
                    memset(&b.grant, 0, sizeof b.grant);
                    b.last_w = 20 * sizes[k];
                }
                struct governor_sight s = box_look_sized(&b, sizes[k]);
                most_c = fmax(most_c, s.c[0]);
                if (disturbances[i].what == LATE_METER && t < disturbances[i].seconds)
                    s.watts = NAN;
                box_live_sized(&b, &s, false, sizes[k]);
            }
            if (most_c > 69 || b.governor.unit == 1)
                fail_msg("%.2f times as large, disturbance %zu: %.1f C, unit %.3f", sizes[k], i, most_c, b.governor.unit);
        }
}

/* A place that hardly answers cannot prove that it lives: it is not asked all the time. */
static void test_a_weak_place_is_seldom_probed(void **state)
{
    struct box b;
    box_open_one(&b);
    box_run(&b, 1800);
    int n_probes = 0;
    bool was_probe = false;
    for (int t = 0; t < 6 * 3600; t++) {
        struct governor_sight s = box_look(&b, 50); /* cool, and of too little resistance to be told from a dead one */
        b.governor.observers[0].answer_k_w = 0.02;
        box_live(&b, &s, false);
        n_probes += b.grant.is_probe && !was_probe;
        was_probe = b.grant.is_probe;
    }
    if (n_probes < 10 || n_probes > 40)
        fail_msg("%d probes in six hours", n_probes);
}

/* A start that remembers chooses as the run before it did, though not every batch was tried then. */
static void test_a_restart_knows_its_work(void **state)
{
    for (int fast = 0; fast < 2; fast++) {
        struct box b;
        const struct governor_options options = one_sensor();
        struct governor_memory memory;
        double worked[2] = {0};
        box_open(&b, &options);
        for (int run = 0; run < 2; run++) {
            if (run == 1) {
                governor_get_memory(&b.governor, &memory);
                memory.workload.rungs[0] =
                    (struct workload_rung){1, 64, fast ? 300 : 0.3, 120, 60}; /* nothing else was tried */
                memory.workload.n_rungs = 1;
                governor_init(&b.governor, &options, &memory);
            }
            for (int i = 0; i < 7200; i++) {
                struct governor_sight s = box_look(&b, INFINITY);
                const double speed = (fast ? 300 : 0.3) * sqrt(s.batch) * s.duty; /* watts are cheap, and so are sequences */
                s.speed = s.batch > 0 ? speed : NAN;
                box_live(&b, &s, false);
                worked[run] += i >= 3600 && s.batch > 0 ? speed : 0;
            }
        }
        assert_true(worked[1] > 0.97 * worked[0]);
    }
}

/* A start that ends before it has learned anything forgets nothing. */
static void test_a_short_start_forgets_nothing(void **state)
{
    struct box b;
    const struct governor_options options = one_sensor();
    struct governor_memory memory = {.unit = 1, .workload = {.rungs = {{1, 64, 18, 0, 60}, {4, 76, 31, 60, 60}}, .n_rungs = 2}};
    for (int run = 0; run < 3; run++) {
        box_open(&b, &options);
        governor_init(&b.governor, &options, &memory);
        box_run(&b, 5);
        governor_get_memory(&b.governor, &memory);
        assert_int_equal(memory.workload.n_rungs, 2);
        assert_true(fabs(memory.workload.rungs[0].speed - 18) < 1 && fabs(memory.workload.rungs[1].speed - 31) < 1);
    }
}

/* A box whose work draws much more or less than was thought draws as usual at its second start too: nothing holds it back. */
static void test_a_restart_knows_what_is_usual(void **state)
{
    for (int more = 0; more < 2; more++) {
        const double times = more ? 1.5 : 0.7; /* still its unit */
        struct box b;
        const struct governor_options options = one_sensor();
        struct governor_memory memory;
        box_open(&b, &options);
        for (int run = 0; run < 3; run++) {
            if (run > 0) {
                governor_get_memory(&b.governor, &memory);
                governor_init(&b.governor, &options, &memory);
                memset(&b.grant, 0, sizeof b.grant); /* nothing has run since then */
                b.last_w = 20;
            }
            for (int t = 0; t < 7200; t++) {
                const struct governor_sight s = box_look(&b, INFINITY);
                governor_tick(&b.governor, &s, &b.grant);
                b.last_w = 20 + (b.grant.permit.batch > 0 ? times * b.grant.duty * (60 + 4 * b.grant.permit.batch) : 0);
                b.sink_c += (b.last_w - (b.sink_c - 10) / 0.2) / 400; /* cool, whatever it does */
                if (b.grant.is_limited)
                    fail_msg("%.1f times the watts, start %d, second %d: held back by its supply", times, run, t);
            }
        }
        governor_get_memory(&b.governor, &memory);
        if (!(fabs(memory.factor - 1) <
              0.2)) /* of what the rungs say, which are kept as they were measured (the rest is learned in hours) */
            fail_msg("%.1f times the watts: %.2f of them is usual", times, memory.factor);
    }
}

/* A lower limit is no reason to look after the vents. */
static void test_another_limit_calls_for_no_service(void **state)
{
    struct box b;
    struct governor_options options = one_sensor();
    struct governor_memory memory;
    for (int run = 0; run < 2; run++) {
        box_open(&b, &options);
        if (run == 1)
            governor_init(&b.governor, &options, &memory);
        for (int i = 0; i < 7200; i++) {
            box_tick(&b, INFINITY);
            assert_false(b.grant.needs_service);
        }
        governor_get_memory(&b.governor, &memory);
        options.limits_c[0] = 55;
    }
}

/* The largest batch that the engine has can be granted, whatever its number. */
static void test_every_batch_has_its_rung(void **state)
{
    for (int batch = 1; batch <= 256; batch++) {
        struct workload w;
        int got;
        double duty;
        workload_init(&w, batch, NULL, NULL);
        assert_int_equal(w.rungs[w.n_rungs - 1].batch, batch);
        assert_in_range(w.n_rungs, 1, WORKLOAD_RUNGS);
        for (int i = 1; i < w.n_rungs; i++)
            assert_true(w.rungs[i].batch > w.rungs[i - 1].batch);
        workload_choose(&w, WORKLOAD_LADDER, 1, 1000, 0, &got, &duty);
        assert_int_equal(got, batch);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_meter),
        cmocka_unit_test(test_learns_speeds_without_a_meter),
        cmocka_unit_test(test_faults_that_are_over),
        cmocka_unit_test(test_a_late_meter_is_no_weak_supply),
        cmocka_unit_test(test_service_is_called_for),
        cmocka_unit_test(test_a_weak_supply_is_told),
        cmocka_unit_test(test_learns_after_a_long_rest),
        cmocka_unit_test(test_little_work_is_not_throttled),
        cmocka_unit_test(test_a_busy_start_is_no_weak_supply),
        cmocka_unit_test(test_boxes_of_all_sizes),
        cmocka_unit_test(test_a_first_look_that_is_disturbed),
        cmocka_unit_test(test_a_weak_place_is_seldom_probed),
        cmocka_unit_test(test_a_restart_knows_its_work),
        cmocka_unit_test(test_a_restart_knows_what_is_usual),
        cmocka_unit_test(test_a_short_start_forgets_nothing),
        cmocka_unit_test(test_another_limit_calls_for_no_service),
        cmocka_unit_test(test_every_batch_has_its_rung),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
