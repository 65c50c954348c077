/* The governor in the running daemon: a simulated box gets warm from the engine's own work, and P/thermal tells the story. */
#include "tests/support/test.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include <jansson.h>

#include "tests/support/box.h"
#include "tests/support/subscriber.h"

#define LIMIT_C     48
#define PATIENCE_MS 120000
/* Four cameras that ask for more than two cores give: the box would get much warmer than its limit. */
#define BUSY                                                                                                                   \
    "cameras:\n"                                                                                                               \
    "  a: { source: 'synth:yard?seed=1&size=320x180&fps=10', watch: { every: 100ms, max_tokens: 128 } }\n"                     \
    "  b: { source: 'synth:yard?seed=2&size=320x180&fps=10', watch: { every: 100ms, max_tokens: 128 } }\n"                     \
    "  c: { source: 'synth:yard?seed=3&size=320x180&fps=10', watch: { every: 100ms, max_tokens: 128 } }\n"                     \
    "  d: { source: 'synth:yard?seed=4&size=320x180&fps=10', watch: { every: 100ms, max_tokens: 128 } }\n"
#define CALM "cameras: { yard: { source: 'synth:yard?size=320x180&fps=5', watch: { every: 1s } } }\n"

static bool is_level(const struct subscriber_message *m, void *ctx)
{
    json_t *thermal = json_loads(m->payload, 0, NULL);
    const char *level = json_string_value(json_object_get(thermal, "level"));
    const bool is_it = level && strcmp(level, ctx) == 0;
    json_decref(thermal);
    return is_it;
}

/* As only the room makes it: nothing of ours runs there. */
static bool is_far_above(const struct subscriber_message *m, void *ctx)
{
    json_t *t = json_loads(m->payload, 0, NULL);
    const double over_k = json_number_value(json_object_get(t, "temp_c")) - json_number_value(json_object_get(t, "limit_c"));
    json_decref(t);
    return is_level(m, "paused") && over_k > 9;
}

static bool is_other_level(const struct subscriber_message *m, void *ctx)
{
    return !is_level(m, ctx);
}

static void await_level(struct subscriber *s, const char *level)
{
    if (!subscriber_find(s, 0, "heron/thermal", is_level, (void *)level, PATIENCE_MS))
        fail_msg("P/thermal never said %s; at last %s", level,
                 subscriber_last(s, "heron/thermal") ? subscriber_last(s, "heron/thermal")->payload : "nothing");
}

static void test_the_box_stays_under_its_limit(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    char thermal[1000];
    snprintf(thermal, sizeof thermal, "thermal: { sensors: 'simulated:spark?speed=5&limit=%d' }\n%s", LIMIT_C, BUSY);
    box_rig_start(r, thermal, NULL);
    await_level(s, "throttled");
    for (int i = 0; i < 2; i++) /* ten seconds each at least: minutes of the box */
        subscriber_await(s, subscriber_mark(s), "heron/thermal", NULL);
    subscriber_await(s, subscriber_mark(s), "heron/a/scene", NULL); /* and it still works */
    int n = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (strcmp(s->messages[i]->topic, "heron/thermal") != 0)
            continue;
        json_t *t = json_loads(s->messages[i]->payload, 0, NULL);
        const double c = json_number_value(json_object_get(t, "temp_c")),
                     idle = json_number_value(json_object_get(t, "idle_pct"));
        assert_string_equal(json_string_value(json_object_get(t, "sensor")), "gpu");
        assert_true(json_number_value(json_object_get(t, "limit_c")) == LIMIT_C);
        if (c > LIMIT_C + 2)
            fail_msg("%.1f C: %s", c, s->messages[i]->payload);
        assert_true(idle >= 0 && idle <= 100);
        n++;
        json_decref(t);
    }
    assert_true(n >= 3);
    assert_false(test_contains(subscriber_last(s, "heron/status")->payload, "thermal:")); /* a limit that is kept is no fault */
    char *overview = box_status(&r->box);
    assert_true(test_contains(overview, "\"thermal\":{\"level\":\"")); /* which one it is changes by the second */
    free(overview);
    assert_int_equal(box_stop(&r->box), 0);
    static const char *const topics[] = {"thermal", "status", NULL};
    box_judge(s, topics);
    /* what was learned of the box lies in the state folder (of its sensors only where work began from rest: not on a busy machine), and every second of it */
    char path[400];
    snprintf(path, sizeof path, "%s/thermal.json", r->box.state);
    char *memory = test_read_file(path, NULL);
    assert_true(test_contains(memory, "\"rungs\": [\n    ["));
    free(memory);
    snprintf(path, sizeof path, "%s/thermal.log", r->box.state);
    char *seconds = test_read_file(path, NULL);
    assert_true(test_contains(seconds, " throttled batch="));
    int n_seconds = 0;
    for (const char *at = seconds; (at = strstr(at, " gpu=")) != NULL; n_seconds++) {
        at += strlen(" gpu=");
        if (strtod(at, NULL) > LIMIT_C + 2)
            fail_msg("thermal.log has a second of %.6s C", at);
    }
    assert_true(n_seconds >= 20); /* two of P/thermal lie ten seconds apart at least */
    free(seconds);
}

/* The room gets far too hot: nothing may run, looks are given up, and it says so; when it has cooled the box goes on. */
static void test_too_hot_to_work(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    box_rig_start(r, "thermal: { sensors: 'simulated:spark?speed=100&limit=50&warm=300-2000:30' }\n" CALM, NULL);
    const struct subscriber_message *paused = subscriber_find(s, 0, "heron/thermal", is_far_above, NULL, PATIENCE_MS);
    assert_non_null(paused); /* by the room: what a look warms on a slow machine is over before */
    subscriber_await(s, 0, "heron/available", "online");
    assert_true(subscriber_find(s, 0, "heron/status", NULL, NULL, 0) != NULL);
    assert_true(test_contains(paused->payload, "\"batch\":0,"));
    const size_t mark = subscriber_mark(s);
    assert_non_null(subscriber_find(s, mark, "heron/thermal", is_other_level, "paused", PATIENCE_MS));
    subscriber_await(s, subscriber_mark(s), "heron/yard/scene", NULL);
    assert_int_equal(box_stop(&r->box), 0);
    char *log = box_log(&r->box);
    assert_true(test_contains(log, "far above: nothing runs until it has cooled"));
    free(log);
    static const char *const topics[] = {"thermal", "status", NULL};
    box_judge(s, topics);
}

/* Whatever waits for the box to cool does not keep it from another configuration, nor from its end. */
static void test_changed_and_stopped_while_too_hot(void **state)
{
#define HOT "thermal: { sensors: 'simulated:spark?speed=100&limit=45&warm=300-600000:30' }\n"
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    box_rig_start(r, HOT CALM, NULL);
    subscriber_await(s, 0, "heron/yard/scene", NULL);
    if (!subscriber_find(s, 0, "heron/thermal", is_far_above, NULL, PATIENCE_MS))
        fail_msg("never far above its limit: %s", subscriber_last(s, "heron/thermal")->payload);
    box_configure(&r->box, &r->broker, NULL,
                  HOT "cameras: { gate: { source: 'synth:yard?seed=2&size=320x180&fps=5', watch: { every: 1s } } }\n");
    const size_t mark = subscriber_mark(s);
    program_signal(&r->box.daemon, SIGHUP);
    subscriber_await(s, mark, "heron/yard/status/capture", "");
    subscriber_await(s, mark, "heron/gate/status/capture", "online");
    assert_int_equal(subscriber_count(s, mark, "heron/gate/scene"), 0);
    if (!is_level(subscriber_last(s, "heron/thermal"), "paused"))
        fail_msg("%s", subscriber_last(s, "heron/thermal")->payload);
    assert_int_equal(box_stop(&r->box), 0);
}

static void test_no_limit_is_said(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    box_rig_start(r, CALM, NULL);
    await_level(s, "nominal");
    assert_true(test_contains(subscriber_last(s, "heron/thermal")->payload, "\"unguarded\":true"));
    subscriber_await(s, 0, "heron/yard/scene", NULL);
    assert_true(test_contains(subscriber_last(s, "heron/status")->payload, "works without a temperature limit"));
    assert_int_equal(box_stop(&r->box), 0);
}

static void test_a_sensor_that_is_not_there(void **state)
{
    struct box_rig *r = *state;
    box_rig_open(r);
    box_configure(&r->box, &r->broker, NULL, "thermal: { sensors: [flux] }\n" CALM);
    box_start(&r->box, NULL);
    const int status = program_await(&r->box.daemon, 20000);
    char *log = box_log(&r->box);
    assert_int_equal(status, EX_CONFIG);
    assert_true(test_contains(log, "flux"));
    free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_box_stays_under_its_limit, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_too_hot_to_work, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_changed_and_stopped_while_too_hot, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_no_limit_is_said, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_a_sensor_that_is_not_there, box_set_up, box_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
