/* The governor alone, with invented seconds: what must hold whatever the sensors say. */
#include "tests/support/governor_box.h"

#include <stdlib.h>

#include "base/rng.h"

static void test_settles_under_the_limit(void **state)
{
    struct box b;
    box_open_one(&b);
    double most = 0;
    for (int i = 0; i < 3600; i++) {
        box_tick(&b, INFINITY);
        most = fmax(most, b.sink_c + 0.15 * b.last_w);
    }
    assert_true(most < 68.5);
    assert_true(b.sink_c + 0.15 * b.last_w > 66);
    assert_int_equal(b.grant.level, GOVERNOR_THROTTLED);
    assert_int_equal(b.grant.hottest, 0);
    assert_true(b.grant.headroom_k > 0 && b.grant.headroom_k < 2);
    assert_true(b.grant.sustainable_w > 60 && b.grant.sustainable_w < 110);
    struct governor_memory memory;
    assert_int_equal(governor_get_memory(&b.governor, &memory), 1);
    assert_true(memory.bodies[0].r_k_w > 0.13 && memory.bodies[0].r_k_w < 0.25);
}

static void test_the_permit_expires(void **state)
{
    struct box b;
    box_open_one(&b);
    for (int i = 0; i < 60; i++) {
        box_tick(&b, INFINITY);
        assert_true(b.grant.permit.expires_ns == b.now_ns + 3 * S);
        assert_in_range(b.grant.permit.idle_permille, 0, 1000);
        assert_in_range(b.grant.permit.batch, 0, 8);
    }
}

static void test_never_rises_while_blind(void **state)
{
    struct box b;
    box_open_one(&b);
    box_run(&b, 1200);
    const double before = b.grant.budget_w;
    double last = INFINITY;
    int n_blind = 0;
    for (int i = 0; i < 300; i++) {
        box_tick(&b, i % 3 == 0 ? NAN : i % 3 == 1 ? 0 : 255);
        if (b.grant.level == GOVERNOR_BLIND) {
            assert_true(b.grant.budget_w <= last + 1e-9);
            n_blind++;
        }
        last = b.grant.budget_w;
    }
    assert_true(n_blind > 290);
    assert_true(last - 20 < 0.34 * (before - 20)); /* of what is ours; the box draws 20 at rest */
    assert_true(b.grant.permit.batch > 0 && b.grant.duty > 0.05);
    assert_int_equal(b.grant.blind, 0);
    box_run(&b, 150); /* and comes back */
    assert_true(b.grant.budget_w > 0.9 * before);
    assert_int_not_equal(b.grant.level, GOVERNOR_BLIND);
}

static void test_pauses_when_told_to_while_blind(void **state)
{
    struct box b;
    struct governor_options options = one_sensor();
    options.pauses_blind = true;
    box_open(&b, &options);
    box_run(&b, 600);
    for (int i = 0; i < 40; i++)
        box_tick(&b, NAN);
    assert_int_equal(b.grant.permit.batch, 0);
}

static void test_one_bad_second_changes_little(void **state)
{
    struct box b;
    box_open_one(&b);
    box_run(&b, 1200);
    for (int i = 0; i < 20; i++) {
        const double before = b.grant.budget_w;
        box_tick(&b, i % 4 == 0 ? NAN : i % 4 == 1 ? -40 : i % 4 == 2 ? 127 : INFINITY);
        assert_true(fabs(b.grant.budget_w - before) < 3);
        assert_int_not_equal(b.grant.level, GOVERNOR_BLIND);
        box_run(&b, 3);
    }
}

/* The same past, one second with one more kelvin: never more power for it. */
static void test_monotone_in_temperature(void **state)
{
    struct rng rng = {.seed = 11};
    for (int trace = 0; trace < 300; trace++) {
        struct box b;
        box_open_one(&b);
        b.sink_c = 30 + 30 * rng_unit(&rng);
        box_run(&b, 5 + (int)rng_below(&rng, 600));
        double last = INFINITY;
        for (int c = 46; c <= 119; c++) {
            struct box other = b;
            box_tick(&other, c);
            const double granted = other.grant.permit.batch > 0 ? other.grant.budget_w : 0;
            if (other.grant.is_probe || other.grant.level == GOVERNOR_BLIND) /* it says the same for too long */
                continue;
            if (c > b.governor.readings[0].good_c - 24 &&
                c < b.governor.readings[0].good_c + 15) /* falls and jumps are not believed at once */
                if (granted > last + 1e-9)
                    fail_msg("trace %d at %d C: %f W, and a kelvin below %f W; said before %f", trace, c, granted, last,
                             b.governor.readings[0].good_c);
            last = granted;
        }
    }
}

static void test_trips_and_comes_back(void **state)
{
    struct box b;
    box_open_one(&b);
    box_run(&b, 600);
    b.sink_c += 6; /* the fan has stopped */
    box_tick(&b, INFINITY);
    box_tick(&b, INFINITY);
    assert_int_equal(b.grant.level, GOVERNOR_PAUSED);
    assert_int_equal(b.grant.permit.batch, 0);
    assert_true(b.grant.is_trip && !b.grant.is_hard_trip);
    int seconds = 0;
    while (b.grant.is_trip && seconds++ < 600)
        box_tick(&b, INFINITY);
    assert_in_range(seconds, 3, 400); /* two have passed */
    box_run(&b, 120);
    assert_true(b.grant.permit.batch > 0);
}

/* Only a cool reading of the sensor that tripped ends it: neither silence, nor another sensor, nor a late tick does. */
static void test_silence_ends_no_trip(void **state)
{
    for (int kind = 0; kind < 3; kind++)
        for (int hard = 0; hard < 2; hard++) {
            struct box b;
            const struct governor_options options = kind == 1 ? two_sensors(90) : one_sensor();
            box_open(&b, &options);
            for (int i = 0; i < 600; i++)
                box_tick_two(&b, INFINITY, 30 + i % 2);
            b.sink_c += hard ? 14 : 6;
            for (int i = 0; i < 4; i++)
                box_tick_two(&b, INFINITY, 30 + i % 2);
            assert_true(b.grant.is_trip && b.grant.is_hard_trip == hard);
            const double hot_c = hard ? 60 : 65; /* with 3 K over it: too warm to go on */
            for (int i = 0; i < 60; i++) {
                if (kind == 2 && i % 10 == 5)
                    b.now_ns += 20 * S;
                b.sink_c = hot_c; /* and it does not cool */
                box_tick_two(&b, i % 2 ? NAN : INFINITY, 30 + i % 2);
                if (!b.grant.is_trip || b.grant.is_hard_trip != hard)
                    fail_msg("kind %d hard %d second %d: trip %d hard %d at %.1f C", kind, hard, i, b.grant.is_trip,
                             b.grant.is_hard_trip, b.sink_c + 0.15 * b.last_w);
                assert_int_equal(b.grant.permit.batch, 0);
            }
        }
}

static void test_hard_trip_waits_for_long(void **state)
{
    struct box b;
    box_open_far_above(&b);
    while (b.grant.is_trip)
        box_tick(&b, INFINITY);
    assert_true(b.sink_c + 0.15 * 20 < 68 - 9);
}

static void test_the_devices_own_margin_trips(void **state)
{
    struct box b;
    box_open_one(&b);
    box_run(&b, 300);
    struct governor_sight s = {
        .now_ns = b.now_ns + S, .c = {60}, .watts = 80, .batch = 4, .duty = 1, .speed = NAN, .device_margin_k = 1};
    governor_tick(&b.governor, &s, &b.grant);
    assert_true(b.grant.is_hard_trip);
    assert_int_equal(b.grant.permit.batch, 0);
}

static void test_throttled_by_the_device(void **state)
{
    struct box b;
    box_open_one(&b);
    box_run(&b, 1200);
    const double before = b.grant.budget_w;
    struct governor_sight s = box_look(&b, 66);
    s.is_throttled = true;
    governor_tick(&b.governor, &s, &b.grant);
    for (int i = 0; i < 250; i++) {
        box_tick(&b, INFINITY);
        assert_true(b.grant.budget_w <= 0.8 * before + 1);
    }
    box_run(&b, 300);
    assert_true(b.grant.budget_w > 0.9 * before);
}

static void test_frozen_is_found(void **state)
{
    struct box b;
    box_open_one(&b);
    box_run(&b, 1200);
    const double stuck = floor(b.sink_c + 0.15 * b.last_w);
    int seconds = 0;
    while (b.grant.level != GOVERNOR_BLIND && seconds++ < 900)
        box_tick(&b, stuck);
    assert_in_range(seconds, 1, 600);
    assert_true(b.sink_c + 0.15 * b.last_w < 72);
    box_run(&b, 200); /* it moves again */
    assert_int_not_equal(b.grant.level, GOVERNOR_BLIND);
}

static void test_after_a_suspend(void **state)
{
    struct box b;
    box_open_one(&b);
    box_run(&b, 1200);
    const double before = b.grant.budget_w;
    b.now_ns += 3600 * S;
    b.sink_c = 30;
    box_tick(&b, INFINITY);
    assert_int_equal(b.grant.level, GOVERNOR_BLIND);
    assert_true(b.grant.budget_w <= before);
    box_run(&b, 3);
    assert_int_not_equal(b.grant.level, GOVERNOR_BLIND);
    b.now_ns -= 100 * S; /* a clock that goes back */
    box_tick(&b, INFINITY);
    assert_int_equal(b.grant.level, GOVERNOR_BLIND);
}

static void test_without_sensors(void **state)
{
    struct box b;
    struct governor_options options = {.batch_max = 8, .meter = GOVERNOR_METER_NONE};
    box_open(&b, &options);
    for (int i = 0; i < 60; i++)
        box_tick(&b, INFINITY);
    assert_true(b.grant.permit.batch > 0);
    const double other = workload_watts(&b.governor.workload, 0, 0);
    assert_true(b.grant.budget_w <= other + 0.34 * (workload_most_w(&b.governor.workload) - other));
    options.is_unguarded = true;
    box_open(&b, &options);
    for (int i = 0; i < 200; i++)
        box_tick(&b, INFINITY);
    assert_int_equal(b.grant.permit.batch, 8);
    assert_int_equal(b.grant.permit.idle_permille, 0);
    assert_int_equal(b.grant.level, GOVERNOR_NOMINAL);
}

/* The GPU is gone: nothing runs, at once and for as long; then it goes on. */
static void test_a_gpu_that_is_gone(void **state)
{
    struct box b;
    box_open_one(&b);
    box_run(&b, 600);
    assert_true(b.grant.permit.batch > 0);
    for (int i = 0; i < 40; i++) {
        struct governor_sight s = box_look(&b, NAN);
        s.is_gone = true;
        s.watts = NAN;
        box_live(&b, &s, false);
        assert_int_equal(b.grant.permit.batch, 0);
        assert_int_equal(b.grant.permit.idle_permille, 1000);
        assert_int_equal(b.grant.level, GOVERNOR_PAUSED);
        assert_true(b.grant.is_gone && !b.grant.is_trip);
    }
    box_tick(&b, INFINITY);
    assert_false(b.grant.is_gone);
    box_run(&b, 300);
    assert_true(b.grant.permit.batch > 0 && b.grant.level != GOVERNOR_PAUSED && b.grant.level != GOVERNOR_BLIND);
}

/* The same, and its reading is missing just when it is judged. */
static void test_foreign_heat_is_judged_by_a_reading(void **state)
{
    struct box b;
    const struct governor_options options = two_sensors(68);
    box_open(&b, &options);
    int n_work = 0;
    for (int i = 0; i < 7200; i++) { /* it answers to us, and others warm it by 34 K more */
        const double c = floor(35.5 + 0.12 * b.last_w + fmin(34.5, fmax(0, 0.05 * (i - 600))));
        const bool is_missing = b.grant.is_trip && fabs(b.governor.tripped_s - 119) < 0.5;
        box_tick_two(&b, INFINITY, is_missing ? NAN : c);
        n_work += i >= 3600 && b.grant.permit.batch > 0;
    }
    assert_true(n_work > 3400);
}

/* A reading that stands still because the governor holds it still: the sink warms up, and the watts are taken back by as much. */
static void test_held_still_is_not_frozen(void **state)
{
    struct plausible p;
    plausible_init(&p);
    for (int i = 0; i < 60; i++) {
        const double now_w = 100 - 0.2 * i; /* 0.15 K/W: 1.8 K less at once in a minute; and what leaves begins 12 W below */
        const struct plausible_place place = {
            .fast_w = now_w, .r_k_w = 0.15, .step_k = 1, .now_w = now_w, .leaving_w = 88, .sink_j_k = 300};
        assert_true(plausible_note(&p, 1, i == 0 ? 66 : 67, &place) > 0);
    }
    assert_false(p.is_frozen);
    for (int i = 0; i < 60 && !p.is_frozen; i++) { /* nothing warms up, and the watts go: it should move */
        const struct plausible_place place = {
            .fast_w = 88 - i, .r_k_w = 0.15, .step_k = 1, .now_w = 88 - i, .leaving_w = 88, .sink_j_k = 300};
        plausible_note(&p, 1, 67, &place);
    }
    assert_true(p.is_frozen);
}

/* A tick that came late forgets much, but not that a sensor is frozen. */
static void test_frozen_behind_a_late_tick(void **state)
{
    struct box b;
    box_open_one(&b);
    box_run(&b, 1800);
    for (int i = 0; i < 1500; i++)
        box_tick(&b, 67);
    assert_int_equal(b.grant.level, GOVERNOR_BLIND);
    const double before_w = b.grant.budget_w;
    b.now_ns += 5 * S;
    for (int i = 0; i < 100; i++) {
        box_tick(&b, 67);
        assert_int_equal(b.grant.level, GOVERNOR_BLIND);
        assert_true(b.grant.budget_w <= fmax(before_w, 20 + 0.34 * 92)); /* what is lost for so long has a third of all */
    }
}

/* A proof of life that failed is over: when the sensor moves again the budget rises as after any silence. */
static void test_a_probe_ends_with_its_answer(void **state)
{
    struct box b;
    box_open_one(&b);
    box_run(&b, 1800);
    int n_blind = 0, n_probe = 0;
    for (int i = 0; i < 1500; i++) {
        box_tick(&b, 67);
        n_blind += b.grant.level == GOVERNOR_BLIND;
        n_probe += b.grant.is_probe;
    }
    assert_true(n_probe > 0 && n_blind > 600);
    for (int i = 0; i < 60; i++) {
        const double before_w = b.grant.budget_w;
        box_tick(&b, 50 + i % 2);
        if (b.grant.budget_w > before_w + 2)
            fail_msg("%.0f W more in a second", b.grant.budget_w - before_w);
    }
}

/* Hours without a reading: the model neither runs away nor is believed when the sensor is back. */
static void test_hours_of_silence(void **state)
{
    for (int early = 0; early < 2; early++) {
        struct box b;
        box_open_one(&b);
        box_run(&b, early ? 8 : 1800); /* in the middle of the first step, or settled */
        int worked = 0;
        for (int i = 0; i < 4 * 3600; i++) {
            box_tick(&b, NAN);
            const double c = observer_now_c(&b.governor.observers[0]);
            if (!(c > 20 && c < 100))
                fail_msg("%d s without a reading: %.0f C by the model", i, c);
            assert_true(i < 60 || b.grant.hottest < 0); /* nobody knows */
            worked += b.grant.permit.batch > 0;
        }
        assert_true(worked > 4 * 3600 - 60);
        double most = 0;
        int n_trips = 0;
        for (int i = 0; i < 1200; i++) {
            const bool was_trip = b.grant.is_trip;
            box_tick(&b, INFINITY);
            most = fmax(most, b.sink_c + 0.15 * b.last_w);
            n_trips += b.grant.is_trip && !was_trip;
        }
        assert_int_equal(n_trips, 0);
        if (most > 69)
            fail_msg("%.1f C after the sensor was back", most);
        assert_true(b.grant.permit.batch > 0 && b.last_w > 60);
    }
}

/* A place that does not answer to our watts is as warm as others make it: they may make it very warm. */
static void test_a_deaf_sensor_stops_nobody(void **state)
{
    struct box b;
    const struct governor_options options = two_sensors(85);
    box_open(&b, &options);
    for (int i = 0; i < 900; i++) {
        /* it is quiet, but for two starts of ours that it does not answer to */
        struct governor_sight s = box_look(&b, INFINITY);
        s.c[1] = 50;
        box_live(&b, &s, i % 300 < 60);
    }
    b.governor.observers[1].is_deaf = true; /* whether it is found out is another test's question */
    int worked = 0;
    for (int i = 0; i < 1200; i++) {
        box_tick_two(&b, INFINITY, fmin(50 + 0.1 * i, 97) + i % 2);
        worked += b.grant.permit.batch > 0;
        assert_false(b.grant.is_trip);
    }
    assert_true(worked == 1200);
}

/* Some boards have a zone that says the same for ever. It proves nothing, and nothing stands still for its sake. */
static void test_a_constant_zone_blinds_nobody(void **state)
{
    struct box b;
    const struct governor_options options = two_sensors(80);
    box_open(&b, &options);
    int n_blind = 0;
    for (int i = 0; i < 7200; i++) {
        box_tick_two(&b, INFINITY, 27.8);
        n_blind += b.grant.level == GOVERNOR_BLIND;
    }
    assert_in_range(n_blind, 0, 60);
    assert_true(b.sink_c + 0.15 * b.last_w > 65.5);
}

/* Other work warms a place above its limit, and our rest does not cool it: the floor, and not nothing. */
static void test_foreign_heat_does_not_stop_us_for_ever(void **state)
{
    struct box b;
    const struct governor_options options = two_sensors(68);
    box_open(&b, &options);
    int n_work = 0;
    for (int i = 0; i < 7200; i++) {
        box_tick_two(&b, INFINITY, i < 600 ? 40 + i % 2 : 73 + i % 3);
        n_work += i > 3600 && b.grant.permit.batch > 0;
    }
    assert_true(n_work > 3400);
    assert_true(b.grant.duty < 0.6); /* the careful floor */
}

/* It says that it throttles in a second in which nothing of ours ran, and goes on saying so: less work, and never none. */
static void test_throttled_in_an_idle_second(void **state)
{
    struct box b;
    box_open_one(&b);
    box_run(&b, 1200);
    const double before = b.grant.budget_w;
    for (int i = 0; i < 3; i++) {
        struct governor_sight s = box_look(&b, INFINITY);
        if (i > 0)
            s.batch = s.duty = 0;
        box_live(&b, &s, true);
    }
    struct governor_sight s = box_look(&b, INFINITY);
    s.batch = s.duty = 0;
    s.is_throttled = true;
    box_live(&b, &s, false);
    assert_true(b.grant.permit.batch > 0);
    assert_true(b.grant.budget_w < 0.9 * before && b.grant.budget_w - 20 > 0.6 * (before - 20));
    for (int i = 0; i < 600; i++) { /* somebody else's work keeps it hot */
        s = box_look(&b, INFINITY);
        s.is_throttled = true;
        box_live(&b, &s, false);
        assert_true(b.grant.permit.batch > 0);
    }
    assert_true(b.grant.budget_w - 20 < 0.4 * (before - 20) && b.grant.budget_w - 20 > 0.25 * (before - 20));
}

/* The margins grow with the third trip in ten minutes, and not before. */
static void test_three_trips_raise_the_margin(void **state)
{
    struct box b;
    box_open_one(&b);
    box_run(&b, 600);
    for (int n = 1; n <= 3; n++) {
        b.sink_c = 72 - 0.15 * b.last_w;
        box_run(&b, 2);
        assert_true(b.grant.is_trip);
        assert_true(b.grant.raised_k == (n == 3 ? 1 : 0));
        b.sink_c = 40;
        box_run(&b, 60);
        assert_false(b.grant.is_trip);
    }
    box_run(&b, 900); /* and again from none */
    for (int n = 1; n <= 2; n++) {
        b.sink_c = 72 - 0.15 * b.last_w;
        box_run(&b, 2);
        assert_true(b.grant.is_trip);
        b.sink_c = 40;
        box_run(&b, 60);
    }
    assert_true(b.grant.raised_k == 1);
}

/* A sensor that says the same from the first second on, and nothing else to see by: as careful as without any sensor. */
static void test_frozen_from_the_start(void **state)
{
    struct box b;
    box_open_one(&b);
    int n_blind = 0;
    for (int i = 0; i < 3600; i++) {
        struct governor_sight s = box_look(&b, 45);
        const bool is_resting = i % 120 < 30; /* steps to learn from */
        if (is_resting)
            s.batch = s.duty = 0;
        box_live(&b, &s, is_resting);
        n_blind += i >= 1800 && b.grant.level == GOVERNOR_BLIND;
    }
    assert_int_equal(n_blind, 1800);
    const double other = workload_watts(&b.governor.workload, 0, 0);
    assert_true(b.grant.budget_w - other < 0.34 * (workload_most_w(&b.governor.workload) - other));
    assert_true(b.grant.permit.batch > 0);
}

/* Whoever else warmed the place has gone: it governs as before, and stops us where it must. */
static void test_foreign_heat_that_goes_is_forgotten(void **state)
{
    struct box b;
    const struct governor_options options = two_sensors(68);
    box_open(&b, &options);
    bool is_told = false;
    for (int i = 0; i < 3600; i++) {
        const double foreign_k = fmin(34.5, fmax(0, 0.05 * (i - 600)));
        box_tick_two(&b, INFINITY, floor(35.5 + 0.12 * b.last_w + foreign_k));
        is_told = is_told || b.grant.foreign == 1;
        assert_int_not_equal(b.grant.foreign, 0);
    }
    assert_true(is_told && b.grant.permit.batch > 0 && b.grant.duty < 0.6);
    for (int i = 0; i < 900; i++)
        box_tick_two(&b, INFINITY, floor(35.5 + 0.12 * b.last_w));
    assert_int_equal(b.grant.foreign, -1);
    assert_true(b.grant.duty > 0.6);
    for (int i = 0; i < 4; i++)
        box_tick_two(&b, INFINITY, 72);
    assert_true(b.grant.is_trip);
}

/* The box hardly works, and is over its limit for a while because the room is: that is said of nobody else. */
static void test_a_fan_that_comes_back_is_no_foreign_heat(void **state)
{
    struct box b;
    box_open_one(&b);
    box_run(&b, 1200);
    int seconds = 0;
    for (int i = 0; i < 900 && (i < 310 || b.grant.is_trip); i++) {
        struct governor_sight s = box_look(&b, INFINITY);
        s.duty = 0.1 * b.grant.duty; /* of what may be done */
        governor_tick(&b.governor, &s, &b.grant);
        b.last_w = 20 + (b.grant.permit.batch > 0 ? 0.1 * b.grant.duty * (60 + 4 * b.grant.permit.batch) : 0);
        if (i < 300)
            b.sink_c += (b.last_w - (b.sink_c - 25) / 0.4) / 400;
        else
            b.sink_c = 69 - 0.02 * seconds++; /* and it cools, slowly */
        assert_false(b.grant.is_hard_trip);
        assert_int_equal(b.grant.foreign, -1);
    }
    assert_in_range(seconds, 120, 400);
}

/* A trip by the device's own margin ends when that is large again, not after a few seconds, and not because it says nothing. */
static void test_the_devices_margin_comes_back(void **state)
{
    struct box b;
    box_open_one(&b);
    box_run(&b, 300);
    for (int i = 0; i < 300; i++) {
        struct governor_sight s = box_look(&b, 62);
        s.device_margin_k = i == 0 ? 1 : i < 200 ? 3 : i < 280 ? NAN : 14;
        box_live(&b, &s, false);
        assert_true(b.grant.is_hard_trip == (i < 280));
    }
}

/* A second sensor that has never said anything decides neither. */
static void test_the_devices_margin_comes_back_beside_a_dead_sensor(void **state)
{
    struct box b;
    const struct governor_options options = two_sensors(80);
    box_open(&b, &options);
    for (int i = 0; i < 900; i++) {
        struct governor_sight s = box_look(&b, i < 600 ? 62 : 50);
        s.c[1] = NAN;
        s.device_margin_k = i == 300 ? 1 : i < 300 ? 20 : NAN;
        box_live(&b, &s, false);
        assert_true(b.grant.is_hard_trip == (i >= 300 && i < 600));
    }
}

/* A sensor that is lost for good leaves its careful share, whatever comes meanwhile: others that draw more, a stop by another sensor. */
static void test_lost_for_good(void **state)
{
    struct box b;
    const struct governor_options options = two_sensors(80);
    box_open(&b, &options);
    double others_w = 0, own = 0;
    int n_trips = 0;
    for (int t = 0; t < 4 * 3600; t++) {
        struct governor_sight s = box_look(&b, t >= 9000 && t < 9060 ? 72 : INFINITY);
        s.c[1] = NAN;
        s.watts += others_w;
        others_w = t > 3600 ? 25 : 0;
        governor_tick(&b.governor, &s, &b.grant);
        const double own_w = b.grant.permit.batch > 0 ? b.grant.duty * (60 + 4 * b.grant.permit.batch) : 0;
        b.last_w = 20 + own_w;
        b.sink_c += (b.last_w + others_w - (b.sink_c - 15) / 0.3) / 400; /* cool: only the lost one holds it back */
        assert_int_equal(b.grant.level, b.grant.is_trip ? GOVERNOR_PAUSED : GOVERNOR_BLIND);
        n_trips += b.grant.is_trip;
        own += t >= 3 * 3600 ? own_w / 3600 : 0;
    }
    assert_true(n_trips > 0);
    assert_true(own > 0.25 * 92 && own < 0.36 * 92); /* a third of what it could */
}

/* Of a hard trip nothing but a cool reading lets go, however long nothing is said. */
static void test_silence_ends_no_hard_trip(void **state)
{
    struct box b;
    box_open_far_above(&b);
    for (int i = 0; i < 3600; i++) {
        box_tick(&b, NAN);
        assert_true(b.grant.is_hard_trip);
    }
    b.sink_c = 30;
    box_run(&b, 20);
    assert_false(b.grant.is_trip);
}

/* Two sensors cannot be believed, one of them for a moment only: the one that is lost counts. */
static void test_pauses_for_the_one_that_is_lost(void **state)
{
    struct box b;
    struct governor_options options = two_sensors(80);
    options.pauses_blind = true;
    box_open(&b, &options);
    for (int i = 0; i < 600; i++)
        box_tick_two(&b, INFINITY, 40 + i % 2);
    for (int i = 0; i < 300; i++) {
        box_tick_two(&b, NAN, i % 20 < 10 ? NAN : 40 + i % 2);
        if (i > 60) {
            assert_true(b.grant.duty == 0);
            assert_int_equal(b.grant.blind, 0);
        }
    }
}

/* What was read before a suspend is not the first good reading after it: silence is none. */
static void test_silence_after_a_suspend(void **state)
{
    struct box b;
    box_open_one(&b);
    box_run(&b, 1200);
    b.now_ns += 3600 * S;
    box_tick(&b, INFINITY);
    for (int i = 0; i < 3; i++) {
        box_tick(&b, NAN);
        assert_int_equal(b.grant.level, GOVERNOR_BLIND);
    }
    box_run(&b, 3);
    assert_int_not_equal(b.grant.level, GOVERNOR_BLIND);
}

/* Whatever comes, no figure is lost and nothing is granted beyond what there is. HERON_TRACES: how many. */
static void test_fuzzed_traces(void **state)
{
    const char *told = getenv("HERON_TRACES");
    const int traces = told ? atoi(told) : 20000;
    struct rng rng = {.seed = 5};
    static const double odd[] = {NAN, INFINITY, -INFINITY, -40, 0, 4.9, 5, 120, 121, 255, 1e300, -1e300};
    for (int trace = 0; trace < traces; trace++) {
        struct governor_options options = {.n_sensors = (int)rng_below(&rng, 4),
                                           .batch_max = 1 + (int)rng_below(&rng, 64),
                                           .policy = (enum workload_policy)rng_below(&rng, 2),
                                           .meter = (enum governor_meter)rng_below(&rng, 3),
                                           .is_unguarded = rng_below(&rng, 8) == 0,
                                           .pauses_blind = rng_below(&rng, 2)};
        for (int i = 0; i < options.n_sensors; i++)
            options.limits_c[i] = 40 + 60 * rng_unit(&rng);
        struct governor g;
        governor_init(&g, &options, NULL);
        int64_t now = (int64_t)rng_below(&rng, 1000) * S;
        const int ticks = 4 + (int)rng_below(&rng, 40);
        struct governor_grant grant = {0};
        for (int t = 0; t < ticks; t++) {
            now += rng_below(&rng, 20) == 0 ? (int64_t)rng_next(&rng) % (100 * S) : S;
            struct governor_sight s = {.now_ns = now,
                                       .batch = (int)rng_below(&rng, 80) - 4,
                                       .duty = 1.2 * rng_unit(&rng) - 0.1,
                                       .is_throttled = rng_below(&rng, 30) == 0,
                                       .is_limited = rng_below(&rng, 30) == 0,
                                       .is_gone = rng_below(&rng, 30) == 0};
            const bool is_odd = rng_below(&rng, 3) == 0;
            for (int i = 0; i < GOVERNOR_SENSORS; i++)
                s.c[i] = is_odd && rng_below(&rng, 2) ? odd[rng_below(&rng, 12)] : 20 + 80 * rng_unit(&rng);
            s.watts = rng_below(&rng, 6) == 0 ? odd[rng_below(&rng, 12)] : 200 * rng_unit(&rng);
            s.speed = rng_below(&rng, 6) == 0 ? odd[rng_below(&rng, 12)] : 50 * rng_unit(&rng);
            s.device_margin_k = rng_below(&rng, 3) ? NAN : 60 * rng_unit(&rng);
            const bool was_blind = grant.level == GOVERNOR_BLIND;
            const double before = grant.budget_w;
            governor_tick(&g, &s, &grant);
            if (!(isfinite(grant.budget_w) && grant.budget_w >= 0 && isfinite(grant.duty) && isfinite(grant.c) &&
                  isfinite(grant.sustainable_w)))
                fail_msg(
                    "trace %d tick %d: budget %f duty %f c %f sustainable %f, sensors %d watts %g speed %g batch %d duty %f",
                    trace, t, grant.budget_w, grant.duty, grant.c, grant.sustainable_w, options.n_sensors, s.watts, s.speed,
                    s.batch, s.duty);
            assert_true(!isnan(grant.headroom_k) && !isnan(grant.seconds_to_limit));
            assert_true(grant.permit.batch >= 0 && grant.permit.batch <= options.batch_max);
            assert_true(grant.permit.idle_permille >= 0 && grant.permit.idle_permille <= 1000);
            assert_true(grant.permit.expires_ns == now + GOVERNOR_PERMIT_NS);
            assert_true(!s.is_gone || grant.permit.batch == 0);
            if (was_blind && grant.level == GOVERNOR_BLIND && before > 0)
                assert_true(grant.budget_w <= before + 1e-9);
        }
    }
}

/* Readings as they might come, from places that warm up and cool as they like: over the limit nothing runs, until it is cool. */
static void test_believable_traces(void **state)
{
    const char *told = getenv("HERON_TRACES");
    const int traces = told ? atoi(told) / 20 : 1000;
    struct rng rng = {.seed = 6};
    int n_trips = 0, n_hard = 0;
    for (int trace = 0; trace < traces; trace++) {
        struct governor_options options = {.n_sensors = 1 + (int)rng_below(&rng, 3),
                                           .batch_max = 1 + (int)rng_below(&rng, 16),
                                           .meter = (enum governor_meter)rng_below(&rng, 3)};
        double c[GOVERNOR_SENSORS], last[GOVERNOR_SENSORS] = {0}, drift[GOVERNOR_SENSORS];
        const double most_k = rng_unit(&rng) < 0.5 ? 0.5 : 4;
        for (int i = 0; i < options.n_sensors; i++) {
            options.limits_c[i] = 50 + 40 * rng_unit(&rng);
            c[i] = options.limits_c[i] - 30 + 28 * rng_unit(&rng);
            drift[i] = most_k * (rng_unit(&rng) - 0.4);
        }
        struct governor g;
        struct governor_grant grant = {0};
        governor_init(&g, &options, NULL);
        bool was_over = false;
        for (int t = 0; t < 400; t++) {
            const double duty = grant.permit.batch > 0 ? grant.duty : 0;
            struct governor_sight s = {.now_ns = (t + 1) * S,
                                       .watts = 20 + 80 * duty + 4 * rng_unit(&rng),
                                       .batch = grant.permit.batch,
                                       .duty = duty,
                                       .speed = 20 * duty,
                                       .device_margin_k = NAN};
            bool is_over = false, is_warm = false;
            for (int i = 0; i < options.n_sensors; i++) {
                last[i] = c[i];
                if (rng_below(&rng, 30) == 0)
                    drift[i] = most_k * (rng_unit(&rng) - 0.5);
                c[i] = fmin(fmax(c[i] + drift[i], options.limits_c[i] - 40), options.limits_c[i] + 20) + 0.1 * rng_unit(&rng);
                s.c[i] = c[i];
                const bool is_deaf = g.observers[i].is_deaf, is_foreign = g.is_foreign[i];
                is_over = is_over || (!is_deaf && c[i] >= options.limits_c[i] + (is_foreign ? 8 : 2.5));
                is_warm =
                    is_warm || (!is_deaf && !is_foreign && c[i] > options.limits_c[i] - 2 && last[i] > options.limits_c[i] - 2);
            }
            governor_tick(&g, &s, &grant);
            if (is_over && (!grant.is_trip || grant.permit.batch != 0))
                fail_msg("trace %d second %d: over the limit, and batch %d", trace, t, grant.permit.batch);
            if (was_over && is_warm && !g.is_foreign[0] && grant.permit.batch != 0 && options.n_sensors == 1)
                fail_msg("trace %d second %d: not yet cool, and batch %d", trace, t, grant.permit.batch);
            n_trips += is_over && !was_over;
            n_hard += grant.is_hard_trip;
            was_over = is_over || (was_over && grant.is_trip);
        }
    }
    assert_true(n_trips > traces / 10 && n_hard > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settles_under_the_limit),
        cmocka_unit_test(test_the_permit_expires),
        cmocka_unit_test(test_never_rises_while_blind),
        cmocka_unit_test(test_pauses_when_told_to_while_blind),
        cmocka_unit_test(test_one_bad_second_changes_little),
        cmocka_unit_test(test_monotone_in_temperature),
        cmocka_unit_test(test_trips_and_comes_back),
        cmocka_unit_test(test_silence_ends_no_trip),
        cmocka_unit_test(test_hard_trip_waits_for_long),
        cmocka_unit_test(test_the_devices_own_margin_trips),
        cmocka_unit_test(test_throttled_by_the_device),
        cmocka_unit_test(test_frozen_is_found),
        cmocka_unit_test(test_after_a_suspend),
        cmocka_unit_test(test_without_sensors),
        cmocka_unit_test(test_a_gpu_that_is_gone),
        cmocka_unit_test(test_foreign_heat_is_judged_by_a_reading),
        cmocka_unit_test(test_held_still_is_not_frozen),
        cmocka_unit_test(test_frozen_behind_a_late_tick),
        cmocka_unit_test(test_a_probe_ends_with_its_answer),
        cmocka_unit_test(test_hours_of_silence),
        cmocka_unit_test(test_a_deaf_sensor_stops_nobody),
        cmocka_unit_test(test_a_constant_zone_blinds_nobody),
        cmocka_unit_test(test_foreign_heat_does_not_stop_us_for_ever),
        cmocka_unit_test(test_throttled_in_an_idle_second),
        cmocka_unit_test(test_three_trips_raise_the_margin),
        cmocka_unit_test(test_frozen_from_the_start),
        cmocka_unit_test(test_foreign_heat_that_goes_is_forgotten),
        cmocka_unit_test(test_a_fan_that_comes_back_is_no_foreign_heat),
        cmocka_unit_test(test_the_devices_margin_comes_back),
        cmocka_unit_test(test_the_devices_margin_comes_back_beside_a_dead_sensor),
        cmocka_unit_test(test_lost_for_good),
        cmocka_unit_test(test_silence_ends_no_hard_trip),
        cmocka_unit_test(test_pauses_for_the_one_that_is_lost),
        cmocka_unit_test(test_silence_after_a_suspend),
        cmocka_unit_test(test_fuzzed_traces),
        cmocka_unit_test(test_believable_traces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
