/*
 * The whole way: a rendered camera, the engine, a real mosquitto, and a consumer that holds every payload against its schema. And the ends:
 * SIGTERM, SIGKILL, systemd's word.
 */
#include "tests/support/test.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <jansson.h>

#include "pipeline/pipeline.h"
#include "tests/support/box.h"
#include "tests/support/schema_judge.h"
#include "tests/support/subscriber.h"

#define CAMERAS                                                                                                                \
    "cameras:\n"                                                                                                               \
    "  yard: { source: 'synth:yard?seed=7&size=320x180&fps=5', watch: { every: 1s, max_pixels: 65536, max_tokens: 96 } }\n"    \
    "  gate: { source: 'synth:yard?seed=8&size=320x180&fps=5', watch: { every: 1s, max_pixels: 65536, max_tokens: 96 } }\n"

static void test_observations_arrive(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    box_rig_start(r, CAMERAS, NULL);
    subscriber_await(s, 0, "heron/available", "online");
    subscriber_await(s, 0, "heron/yard/status/capture", "online");
    for (int i = 0; i < 3; i++) { /* not one only: they keep coming */
        subscriber_await(s, subscriber_mark(s), "heron/yard/scene", NULL);
        subscriber_await(s, subscriber_mark(s), "heron/gate/scene", NULL);
    }
    subscriber_await(s, 0, "heron/gate/status/analysis", "online");
    assert_int_equal(box_stop(&r->box), 0);
    static const char *const topics[] = {
        "available",
        "status",
        "config/state",
        "yard/status/capture",
        "yard/status/analysis",
        "yard/enabled/state",
        "yard/analysis/state",
        "yard/health",
        "yard/scene",
        "gate/scene",
        NULL,
    };
    subscriber_await(s, 0, "heron/available", "offline");
    box_judge(s, topics);

    json_t *scene = json_loads(subscriber_last(s, "heron/yard/scene")->payload, 0, NULL);
    assert_true(json_is_true(json_object_get(scene, "untrained"))); /* the model is random, and whoever reads it is told */
    assert_string_equal(json_string_value(json_object_get(scene, "camera")), "yard");
    const json_t *latency = json_object_get(scene, "latency_ms");
    double parts = 0;
    for (const char *const *key = (const char *const[]){"queue", "vision", "prefill", "decode", NULL}; *key; key++)
        parts += json_number_value(json_object_get(latency, *key));
    const double total = json_number_value(json_object_get(latency, "total"));
    assert_true(total > 0 && parts > total - 1 && parts < total + 1);
    /* the truth is that of the very frame: its number says which, and who draws it again sees the same */
    const json_t *truth = json_object_get(scene, "truth");
    const char *drawn_text;
    struct pl_synth *synth = NULL;
    struct err err = {0};
    static uint8_t rgb[320 * 180 * 3];
    assert_ok(pl_synth_open("synth:yard?seed=7&size=320x180&fps=5", &synth, &err), &err);
    assert_true(json_is_integer(json_object_get(truth, "frame")));
    const json_int_t i_frame = json_integer_value(json_object_get(truth, "frame"));
    assert_int_equal(pl_synth_draw(synth, (uint64_t)i_frame, rgb, 320 * 3, &drawn_text, NULL), 0);
    json_t *drawn = json_loads(drawn_text, 0, NULL);
    const char *word;
    json_t *value;
    assert_int_equal(json_object_size(truth), 8);
    json_object_foreach((json_t *)truth, word, value) assert_true(json_equal(value, json_object_get(drawn, word)));
    json_decref(drawn);
    pl_synth_close(synth);
    json_decref(scene);
}

/* At a broker that is there already: whoever acts on `online` finds no state of the run before. */
static void test_states_come_before_online(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    box_rig_start(r, CAMERAS, NULL);
    subscriber_await(s, 0, "heron/available", "online");
    static const char *const topics[] = {"heron/status",
                                         "heron/config/state",
                                         "heron/yard/status/capture",
                                         "heron/yard/status/analysis",
                                         "heron/yard/enabled/state",
                                         "heron/yard/analysis/state",
                                         "heron/yard/health",
                                         "heron/gate/status/capture",
                                         "heron/gate/health"};
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++) {
        size_t k = 0;
        while (k < s->n && strcmp(s->messages[k]->topic, topics[i]) != 0)
            if (strcmp(s->messages[k++]->topic, "heron/available") == 0)
                fail_msg("online came before %s", topics[i]);
        assert_true(k < s->n);
    }
    assert_int_equal(box_stop(&r->box), 0);
}

/* What a consumer who comes later finds retained. */
static void test_states_lie_at_the_broker(void **state)
{
    struct box_rig *r = *state;
    box_rig_start(r, CAMERAS, NULL);
    subscriber_await(&r->subscriber, 0, "heron/yard/scene", NULL);
    subscriber_await(&r->subscriber, 0, "heron/yard/status/analysis", "online");
    subscriber_release(&r->subscriber);
    subscriber_start(&r->subscriber, &r->broker, "heron/#");
    static const char *const topics[] = {"heron/available",
                                         "heron/status",
                                         "heron/config/state",
                                         "heron/yard/status/capture",
                                         "heron/yard/status/analysis",
                                         "heron/yard/scene",
                                         "heron/yard/enabled/state",
                                         "heron/yard/health"};
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++)
        assert_true(subscriber_await(&r->subscriber, 0, topics[i], NULL)->is_retained);
    assert_int_equal(box_stop(&r->box), 0);
}

static void test_sigterm_drains_and_says_offline(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    box_rig_start(r, CAMERAS, NULL);
    subscriber_await(s, 0, "heron/yard/scene", NULL);
    subscriber_await(s, 0, "heron/yard/status/analysis", "online");
    const size_t mark = subscriber_mark(s);
    assert_int_equal(box_stop(&r->box), 0);
    subscriber_await(s, mark, "heron/available", "offline");
    subscriber_await(s, mark, "heron/yard/status/capture", "offline");
    subscriber_await(s, mark, "heron/yard/status/analysis", "offline");
    assert_string_equal(box_value(s, "heron/status", "/state"), "\"stopping\"");
    /* nothing comes behind the last word */
    assert_string_equal(s->messages[s->n - 1]->topic, "heron/available");
}

static void test_sigkill_makes_the_will_fire(void **state)
{
    struct box_rig *r = *state;
    box_rig_start(r, CAMERAS, NULL);
    subscriber_await(&r->subscriber, 0, "heron/yard/scene", NULL);
    const size_t mark = subscriber_mark(&r->subscriber);
    program_signal(&r->box.daemon, SIGKILL);
    assert_int_equal(program_await(&r->box.daemon, BOX_PATIENCE_MS), -SIGKILL);
    subscriber_await(&r->subscriber, mark, "heron/available", "offline");
    /* and the next start takes it back, as boot 2 */
    box_start(&r->box, NULL);
    subscriber_await(&r->subscriber, mark, "heron/available", "online");
    subscriber_await(&r->subscriber, mark, "heron/yard/scene", NULL);
    assert_string_equal(box_value(&r->subscriber, "heron/status", "/boot"), "2");
    assert_int_equal(box_stop(&r->box), 0);
}

/* A second signal does not wait for the looks at work; a stop while the model loads ends at once too. */
static void test_stop_at_once(void **state)
{
    struct box_rig *r = *state;
    box_rig_start(r, CAMERAS, NULL);
    assert_true(program_await_text(&r->box.daemon, true, "starting", BOX_PATIENCE_MS));
    program_signal(&r->box.daemon, SIGINT);
    program_signal(&r->box.daemon, SIGTERM);
    assert_int_equal(program_await(&r->box.daemon, BOX_PATIENCE_MS), 0);
}

static void test_one_daemon_only(void **state)
{
    struct box_rig *r = *state;
    struct box other = {0};
    box_rig_start(r, CAMERAS, NULL);
    subscriber_await(&r->subscriber, 0, "heron/yard/scene", NULL);
    other = r->box;
    other.daemon = (struct program){0};
    box_start(&other, NULL);
    assert_int_equal(program_await(&other.daemon, BOX_PATIENCE_MS), 69);
    char *log = box_log(&other), pid[32];
    snprintf(pid, sizeof pid, "%d", (int)r->box.daemon.pid);
    assert_true(test_contains(log, pid)); /* who it is that runs */
    free(log);
    program_release(&other.daemon);
    /* the first one did not notice */
    subscriber_await(&r->subscriber, subscriber_mark(&r->subscriber), "heron/yard/scene", NULL);
    assert_int_equal(subscriber_count(&r->subscriber, 0, "heron/available"), 1);
    assert_int_equal(box_stop(&r->box), 0);
}

/* ---- systemd ---------------------------------------------------------------------------------------------------------------- */

/* Wait for a datagram that holds `words`. */
static bool await_word(int fd, const char *words)
{
    char text[4096];
    for (int i = 0; i < BOX_PATIENCE_MS / 100; i++) {
        const ssize_t n = recv(fd, text, sizeof text - 1, 0); /* waits 100 ms */
        if (n <= 0)
            continue;
        text[n] = 0;
        if (strstr(text, words))
            return true;
    }
    return false;
}

static void test_systemd_is_told(void **state)
{
    struct box_rig *r = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char env[200];
    snprintf(address.sun_path, sizeof address.sun_path, "%.80s/notify", test_temp_dir());
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_usec = 100000}, sizeof(struct timeval));
    snprintf(env, sizeof env, "NOTIFY_SOCKET=%s", address.sun_path);
    box_rig_start(r, CAMERAS, (const char *const[]){env, "WATCHDOG_USEC=1000000", NULL});
    assert_true(await_word(fd, "READY=1"));
    assert_true(await_word(fd, "STATUS=running: 2 cameras"));
    assert_true(await_word(fd, "WATCHDOG=1"));
    program_signal(&r->box.daemon, SIGHUP);
    assert_true(await_word(fd, "RELOADING=1\nMONOTONIC_USEC="));
    assert_true(await_word(fd, "READY=1"));
    assert_true(await_word(fd, "WATCHDOG=1"));
    program_signal(&r->box.daemon, SIGTERM);
    assert_true(await_word(fd, "STOPPING=1"));
    assert_int_equal(program_await(&r->box.daemon, BOX_PATIENCE_MS), 0);
    close(fd);
}

static void test_status_of_a_running_box(void **state)
{
    struct box_rig *r = *state;
    char verdict[4000];
    box_rig_start(r, CAMERAS, NULL);
    subscriber_await(&r->subscriber, 0, "heron/yard/status/analysis", "online");
    char *overview = box_status(&r->box);
    assert_non_null(overview);
    overview[strcspn(overview, "\n")] = 0;
    if (schema_judge("overview.json", (const char *const[]){overview}, 1, verdict, sizeof verdict) != 1)
        fail_msg("%s", verdict);
    free(overview);
    assert_int_equal(box_stop(&r->box), 0);
    assert_null(box_status(&r->box));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_observations_arrive, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_states_come_before_online, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_states_lie_at_the_broker, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_sigterm_drains_and_says_offline, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_sigkill_makes_the_will_fire, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_stop_at_once, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_one_daemon_only, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_systemd_is_told, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_status_of_a_running_box, box_set_up, box_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
