/*
 * Changes while it runs: reloads good and bad, switches, commands, and forgotten retained commands.
 */
#include "tests/support/test.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/box.h"

#define CAMERA(id, seed)                                                                                                       \
    "  " id ": { source: 'synth:yard?seed=" seed                                                                               \
    "&size=320x180&fps=5', watch: { every: 500ms, max_pixels: 65536, max_tokens: 96 } }\n"

static void reload(struct box_rig *r)
{
    program_signal(&r->box.daemon, SIGHUP);
}

static void test_cameras_come_and_go(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    box_rig_start(r, "cameras:\n" CAMERA("yard", "1") CAMERA("gate", "2"), NULL);
    subscriber_await(s, 0, "heron/yard/scene", NULL);
    subscriber_await(s, 0, "heron/gate/scene", NULL);
    char before[128];
    snprintf(before, sizeof before, "%s", box_value(s, "heron/config/state", "/sha"));
    box_configure(&r->box, &r->broker, NULL, "cameras:\n" CAMERA("yard", "1") CAMERA("barn", "3"));
    size_t mark = subscriber_mark(s);
    reload(r);
    subscriber_await(s, mark, "heron/barn/scene", NULL);
    subscriber_await(s, mark, "heron/yard/scene", NULL); /* goes on */
    static const char *const gone[] = {"heron/gate/scene",  "heron/gate/status/capture", "heron/gate/status/analysis",
                                       "heron/gate/health", "heron/gate/enabled/state",  "heron/gate/analysis/state"};
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
        subscriber_await(s, mark, gone[i], ""); /* cleared at the broker */
    assert_string_not_equal(box_value(s, "heron/config/state", "/sha"), before);
    assert_string_equal(box_value(s, "heron/config/state", "/pending_error"), "null");
    mark = subscriber_mark(s);
    subscriber_await(s, mark, "heron/barn/scene", NULL);
    assert_int_equal(subscriber_count(s, mark, "heron/gate/scene"), 0);
    assert_int_equal(box_stop(&r->box), 0);
    box_judge(s, (const char *const[]){"barn/scene", NULL});
}

/* The same when it left while Heron was down: nobody else would clear what lies at the broker. */
static void test_cameras_leave_while_it_is_down(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    box_rig_start(r, "cameras:\n" CAMERA("yard", "1") CAMERA("gate", "2"), NULL);
    subscriber_await(s, 0, "heron/gate/scene", NULL);
    subscriber_await(s, 0, "heron/yard/scene", NULL);
    assert_int_equal(box_stop(&r->box), 0);
    box_configure(&r->box, &r->broker, NULL, "cameras:\n" CAMERA("yard", "1"));
    const size_t mark = subscriber_mark(s);
    box_start(&r->box, NULL);
    subscriber_await(s, mark, "heron/yard/scene", NULL);
    subscriber_await(s, mark, "heron/gate/scene", "");
    subscriber_await(s, mark, "heron/gate/status/capture", "");
    subscriber_await(s, mark, "heron/gate/enabled/state", "");
    assert_int_equal(subscriber_count(s, mark, "heron/gate/scene"), 1);
    assert_int_equal(box_stop(&r->box), 0);
}

/* The last good configuration goes on, and a retained topic says what is wrong and where; the next good one clears it. */
static void test_bad_reload_changes_nothing(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    box_rig_start(r, "cameras:\n" CAMERA("yard", "1"), NULL);
    subscriber_await(s, 0, "heron/yard/scene", NULL);
    box_configure(&r->box, &r->broker, NULL, "cameras:\n  yard:\n    source: synth:yard\n    sorce: synth:yard\n");
    size_t mark = subscriber_mark(s);
    broker_publish(&r->broker, "heron/config/reload", "now", false);
    subscriber_await(s, mark, "heron/config/state", NULL);
    assert_string_equal(box_value(s, "heron/config/state", "/pending_error/line"), "14");
    assert_true(test_contains(box_value(s, "heron/config/state", "/pending_error/msg"), "source"));
    assert_true(test_contains(box_value(s, "heron/config/state", "/pending_error/file"), "heron.yaml"));
    mark = subscriber_mark(s);
    subscriber_await(s, mark, "heron/yard/scene", NULL);
    subscriber_await(s, 0, "heron/status", NULL);
    assert_true(test_contains(box_value(s, "heron/status", "/reasons"), "config: "));
    assert_string_equal(box_value(s, "heron/status", "/state"), "\"degraded\"");
    box_configure(&r->box, &r->broker, NULL, "cameras:\n" CAMERA("yard", "1"));
    mark = subscriber_mark(s);
    reload(r);
    subscriber_await(s, mark, "heron/config/state", NULL);
    assert_string_equal(box_value(s, "heron/config/state", "/pending_error"), "null");
    assert_int_equal(box_stop(&r->box), 0);
    box_judge(s, (const char *const[]){"config/state", NULL});
}

/* What needs a restart is named, and the rest is applied. */
static void test_restart_keys_are_named(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    char engine[1000];
    box_rig_start(r, "cameras:\n" CAMERA("yard", "1"), NULL);
    subscriber_await(s, 0, "heron/yard/scene", NULL);
    snprintf(engine, sizeof engine, "engine:\n  model: %s\n  vision: %s\n  device: cpu\n  threads: 2\n  batch: 3\n",
             box_model(), box_vision());
    box_configure(&r->box, &r->broker, engine, "cameras:\n" CAMERA("yard", "1") CAMERA("gate", "2"));
    const size_t mark = subscriber_mark(s);
    reload(r);
    subscriber_await(s, mark, "heron/gate/scene", NULL);
    assert_true(test_contains(box_value(s, "heron/config/state", "/restart_keys"), "engine.batch"));
    assert_int_equal(box_stop(&r->box), 0);
    box_judge(s, (const char *const[]){"config/state", NULL});
}

static void test_switches(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    box_rig_start(r, "cameras:\n" CAMERA("yard", "1") CAMERA("gate", "2"), NULL);
    subscriber_await(s, 0, "heron/yard/status/analysis", "online");
    subscriber_await(s, 0, "heron/gate/status/analysis", "online");
    size_t mark = subscriber_mark(s);
    broker_publish(&r->broker, "heron/yard/enabled/set", "OFF", false);
    subscriber_await(s, mark, "heron/yard/enabled/state", "OFF");
    subscriber_await(s, mark, "heron/yard/status/capture", "disabled");
    subscriber_await(s, mark, "heron/yard/status/analysis", "disabled");
    broker_publish(&r->broker, "heron/gate/analysis/set", "OFF", false);
    subscriber_await(s, mark, "heron/gate/analysis/state", "OFF");
    subscriber_await(s, mark, "heron/gate/status/analysis", "disabled");
    assert_string_equal(subscriber_last(s, "heron/gate/status/capture")->payload, "online");
    broker_publish(&r->broker, "heron/gate/enabled/set", "maybe", false); /* neither: ignored, and said */
    assert_true(program_await_text(&r->box.daemon, true, "neither ON nor OFF", BOX_PATIENCE_MS));
    broker_publish(&r->broker, "heron/nobody/enabled/set", "OFF", false);
    assert_true(program_await_text(&r->box.daemon, true, "no camera is called nobody", BOX_PATIENCE_MS));
    /* they hold over a reload and a restart */
    reload(r);
    assert_true(program_await_text(&r->box.daemon, true, "configuration loaded", BOX_PATIENCE_MS));
    assert_int_equal(box_stop(&r->box), 0);
    mark = subscriber_mark(s);
    box_start(&r->box, NULL);
    subscriber_await(s, mark, "heron/yard/enabled/state", "OFF");
    subscriber_await(s, mark, "heron/yard/status/capture", "disabled");
    subscriber_await(s, mark, "heron/gate/analysis/state", "OFF");
    subscriber_await(s, mark, "heron/gate/status/capture", "online");
    assert_int_equal(subscriber_count(s, mark, "heron/gate/scene"), 0);
    broker_publish(&r->broker, "heron/yard/enabled/set", "ON", false);
    broker_publish(&r->broker, "heron/gate/analysis/set", "ON", false);
    subscriber_await(s, mark, "heron/yard/scene", NULL);
    subscriber_await(s, mark, "heron/gate/scene", NULL);
    subscriber_await(s, mark, "heron/yard/enabled/state", "ON");
    assert_int_equal(box_stop(&r->box), 0);
}

/* A forgotten retained command must not fire at every start. */
static void test_retained_commands_are_ignored(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    if (!broker_is_there())
        skip_because("mosquitto is not installed");
    broker_start(&r->broker, NULL);
    static const char *const junk[] = {"heron/yard/enabled/set", "heron/yard/analysis/set", "heron/restart",
                                       "heron/config/reload", "heron/resync"};
    for (size_t i = 0; i < sizeof junk / sizeof *junk; i++)
        broker_publish(&r->broker, junk[i], "OFF", true);
    subscriber_start(s, &r->broker, "heron/#");
    box_init(&r->box);
    box_configure(&r->box, &r->broker, NULL, "cameras:\n" CAMERA("yard", "1"));
    const size_t mark = subscriber_mark(s);
    box_start(&r->box, NULL);
    subscriber_await(s, mark, "heron/yard/status/analysis", "online");
    assert_string_equal(subscriber_last(s, "heron/yard/enabled/state")->payload, "ON");
    subscriber_await(s, subscriber_mark(s), "heron/yard/scene", NULL);
    assert_int_equal(box_stop(&r->box), 0);
}

static void test_commands(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    box_rig_start(r, "cameras:\n" CAMERA("yard", "1"), NULL);
    subscriber_await(s, 0, "heron/yard/status/analysis", "online");
    size_t mark = subscriber_mark(s);
    broker_publish(&r->broker, "heron/resync", "x", false);
    subscriber_await(s, mark, "heron/config/state", NULL);
    subscriber_await(s, mark, "heron/yard/enabled/state", "ON");
    subscriber_await(s, mark, "heron/available", "online");
    mark = subscriber_mark(s);
    broker_publish(&r->broker, "heron/restart", "x", false);
    subscriber_await(s, mark, "heron/available", "offline");
    assert_int_equal(program_await(&r->box.daemon, BOX_PATIENCE_MS), 75); /* EX_TEMPFAIL: systemd starts it again */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cameras_come_and_go, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_cameras_leave_while_it_is_down, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_bad_reload_changes_nothing, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_restart_keys_are_named, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_switches, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_retained_commands_are_ignored, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_commands, box_set_up, box_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
