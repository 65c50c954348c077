/*
 * The broker comes late, dies, freezes, refuses: capture and analysis go on, and every state is right when it is back.
 */
#include "tests/support/test.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/box.h"
#include "tests/support/schema_judge.h"

#define CAMERAS                                                                                                                \
    "cameras:\n"                                                                                                               \
    "  yard: { source: 'synth:yard?seed=7&size=320x180&fps=5', watch: { every: 500ms, max_pixels: 65536, max_tokens: 96 } }\n"

static const char *const states[] = {"status",
                                     "config/state",
                                     "yard/status/capture",
                                     "yard/status/analysis",
                                     "yard/enabled/state",
                                     "yard/analysis/state",
                                     "yard/health",
                                     "yard/scene",
                                     NULL};

/* How many observations the box itself has counted. */
static long observations(const struct box *box)
{
    char *overview = box_status(box);
    const char *at = overview ? strstr(overview, "\"observations\":") : NULL;
    const long n = at ? strtol(at + strlen("\"observations\":"), NULL, 10) : -1;
    free(overview);
    return n;
}

static void await_observations(const struct box *box, long more_than)
{
    for (int i = 0; i < BOX_PATIENCE_MS / 50; i++)
        if (observations(box) > more_than)
            return;
    char *log = box_log(box);
    fail_msg("observations do not go on:\n%s", log);
}

static void test_absent_at_start(void **state)
{
    struct box_rig *r = *state;
    if (!broker_is_there() || !schema_judge_is_there())
        skip_because("mosquitto or python3-jsonschema is not installed");
    broker_reserve(&r->broker, NULL);
    box_init(&r->box);
    box_configure(&r->box, &r->broker, NULL, CAMERAS);
    box_start(&r->box, NULL);
    assert_true(program_await_text(&r->box.daemon, true, "mqtt not connected, retrying", BOX_PATIENCE_MS));
    await_observations(&r->box, 3); /* nobody waits for it */
    broker_restart(&r->broker);
    subscriber_start(&r->subscriber, &r->broker, "heron/#");
    subscriber_await(&r->subscriber, 0, "heron/available", "online");
    subscriber_await(&r->subscriber, 0, "heron/yard/scene", NULL);
    subscriber_await(&r->subscriber, 0, "heron/yard/status/analysis", "online");
    assert_int_equal(box_stop(&r->box), 0);
    box_judge(&r->subscriber, states);
}

static void test_killed_in_between(void **state)
{
    struct box_rig *r = *state;
    box_rig_start(r, CAMERAS, NULL);
    subscriber_await(&r->subscriber, 0, "heron/yard/status/analysis", "online");
    broker_kill(&r->broker);
    const long n = observations(&r->box);
    await_observations(&r->box, n + 3);
    subscriber_release(&r->subscriber);
    broker_restart(&r->broker); /* with nothing retained */
    subscriber_start(&r->subscriber, &r->broker, "heron/#");
    for (int i = 0; states[i]; i++) {
        char topic[128];
        snprintf(topic, sizeof topic, "heron/%s", states[i]);
        subscriber_await(&r->subscriber, 0, topic, NULL);
    }
    subscriber_await(&r->subscriber, 0, "heron/available", "online");
    subscriber_await(&r->subscriber, subscriber_mark(&r->subscriber), "heron/yard/scene", NULL);
    assert_int_equal(box_stop(&r->box), 0);
    box_judge(&r->subscriber, states);
}

/* Stopping does not wait for a broker that is not there. */
static void test_stop_without_broker(void **state)
{
    struct box_rig *r = *state;
    box_rig_start(r, CAMERAS, NULL);
    subscriber_await(&r->subscriber, 0, "heron/yard/scene", NULL);
    broker_kill(&r->broker);
    assert_int_equal(box_stop(&r->box), 0);
}

/* A broker that takes bytes and answers nothing is found out; the box goes on meanwhile. */
static void test_frozen(void **state)
{
    struct box_rig *r = *state;
    box_rig_start(r, CAMERAS, NULL);
    subscriber_await(&r->subscriber, 0, "heron/yard/status/analysis", "online");
    broker_freeze(&r->broker);
    assert_true(program_await_text(&r->box.daemon, true, "mqtt not connected", BOX_PATIENCE_MS));
    const long n = observations(&r->box);
    await_observations(&r->box, n + 2);
    broker_thaw(&r->broker);
    const size_t mark = subscriber_mark(&r->subscriber);
    subscriber_await(&r->subscriber, mark, "heron/yard/scene", NULL);
    subscriber_await(&r->subscriber, mark, "heron/available", "online");
    assert_int_equal(box_stop(&r->box), 0);
}

static void test_credentials(void **state)
{
    struct box_rig *r = *state;
    if (!broker_is_there())
        skip_because("mosquitto is not installed");
    const struct broker_options options = {.username = "heron", .password = "s3cret-of-the-yard"};
    broker_start(&r->broker, &options);
    subscriber_start(&r->subscriber, &r->broker, "heron/#");
    box_init(&r->box);
    box_configure(&r->box, &r->broker, NULL, CAMERAS);
    box_start(&r->box, (const char *const[]){"HERON_TEST_PASSWORD=wr0ng-of-the-yard", NULL});
    assert_true(program_await_text(&r->box.daemon, true, "mqtt not connected, retrying", BOX_PATIENCE_MS));
    char *overview = box_status(&r->box), *log = box_log(&r->box);
    assert_non_null(overview);
    assert_false(test_contains(overview, "of-the-yard"));
    assert_false(test_contains(log, "of-the-yard"));
    assert_int_equal(subscriber_mark(&r->subscriber), 0);
    free(overview);
    free(log);
    assert_int_equal(box_stop(&r->box), 0);
    box_start(&r->box, (const char *const[]){"HERON_TEST_PASSWORD=s3cret-of-the-yard", NULL});
    subscriber_await(&r->subscriber, 0, "heron/available", "online");
    subscriber_await(&r->subscriber, 0, "heron/yard/scene", NULL);
    assert_int_equal(box_stop(&r->box), 0);
    log = box_log(&r->box);
    assert_false(test_contains(log, "of-the-yard"));
    free(log);
    for (size_t i = 0; i < r->subscriber.n; i++)
        assert_false(test_contains(r->subscriber.messages[i]->payload, "of-the-yard"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_absent_at_start, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_killed_in_between, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_stop_without_broker, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_frozen, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_credentials, box_set_up, box_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
