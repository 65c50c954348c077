#include "tests/support/test.h"

#include "appliance/mqtt.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "tests/support/broker.h"
#include "tests/support/schema_judge.h"
#include "tests/support/subscriber.h"

#define LIMIT_NS (30 * CLOCK_S)
#define SECRET   "hunter2-is-no-secret"

struct rig {
    struct broker broker;
    struct subscriber sub;
    struct mqtt *mqtt;
};

static int set_up(void **state)
{
    *state = calloc(1, sizeof(struct rig));
    return *state ? 0 : -1;
}

static int tear_down(void **state)
{
    struct rig *r = *state;
    mqtt_close(r->mqtt, 0);
    subscriber_release(&r->sub);
    broker_release(&r->broker);
    free(r);
    return 0;
}

static struct mqtt_options options_for(const struct broker *b)
{
    return (struct mqtt_options){
        .host = "127.0.0.1",
        .port = b->port,
        .prefix = "heron",
        .keepalive_ns = 60 * CLOCK_S,
        .backoff_min_ns = 20 * CLOCK_MS,
        .backoff_max_ns = 200 * CLOCK_MS,
    };
}

static void open_with(struct rig *r, const struct mqtt_options *options)
{
    struct err err = {0};
    assert_ok(mqtt_open(options, &r->mqtt, &err), &err);
}

static void open_mqtt(struct rig *r)
{
    const struct mqtt_options o = options_for(&r->broker);
    open_with(r, &o);
}

static void close_mqtt(struct rig *r, bool is_acked)
{
    struct mqtt *m = r->mqtt;
    r->mqtt = NULL;
    assert_int_equal(mqtt_close(m, 20 * CLOCK_S), is_acked);
}

static struct mqtt_stats stats_of(struct mqtt *m)
{
    struct mqtt_stats s;
    mqtt_get_stats(m, &s);
    return s;
}

static void set_text(struct mqtt *m, const char *suffix, const char *text)
{
    struct err err = {0};
    assert_ok(mqtt_set_state(m, suffix, text, strlen(text), 1, &err), &err);
}

/* Wait until the statistics are as wanted. */
#define await_stats(m, s, condition)                                                                                           \
    do {                                                                                                                       \
        const int64_t until_ns = clock_now_ns() + LIMIT_NS;                                                                    \
        struct mqtt_stats s = stats_of(m);                                                                                     \
        while (!(condition)) {                                                                                                 \
            if (clock_now_ns() > until_ns)                                                                                     \
                fail_msg("%s:%d: %s did not come about; the last error: %s", __FILE__, __LINE__, #condition, s.last_error);    \
            usleep(2000);                                                                                                      \
            s = stats_of(m);                                                                                                   \
        }                                                                                                                      \
    } while (0)

/* ---- states --------------------------------------------------------------------------------------------------------------------- */

static void states_are_retained_and_online_follows(void **state)
{
    struct rig *r = *state;
    struct err err = {0};
    broker_start(&r->broker, NULL);
    subscriber_start(&r->sub, &r->broker, "heron/#");
    open_mqtt(r);
    set_text(r->mqtt, "dock/status/capture", "online");
    assert_ok(mqtt_set_state(r->mqtt, "dock/health", "{}", 2, 0, &err), &err);
    const struct subscriber_message *m = subscriber_await(&r->sub, 0, "heron/dock/status/capture", "online");
    assert_int_equal(m->qos, 1);
    m = subscriber_await(&r->sub, 0, "heron/dock/health", "{}");
    assert_int_equal(m->qos, 0);
    subscriber_await(&r->sub, 0, "heron/available", "online");

    struct subscriber later; /* what is retained comes to it with the flag */
    subscriber_start(&later, &r->broker, "heron/#");
    assert_true(subscriber_await(&later, 0, "heron/dock/status/capture", "online")->is_retained);
    assert_true(subscriber_await(&later, 0, "heron/dock/health", "{}")->is_retained);
    assert_true(subscriber_await(&later, 0, "heron/available", "online")->is_retained);
    subscriber_release(&later);
    const struct mqtt_stats s = stats_of(r->mqtt);
    assert_true(s.is_connected);
    assert_int_equal(s.connects, 1);
    assert_int_equal(s.refused, 0);
    assert_string_equal(s.last_error, "");
    close_mqtt(r, true);
    subscriber_await(&r->sub, 0, "heron/available", "offline");
}

static void equal_payload_is_not_sent_again(void **state)
{
    struct rig *r = *state;
    broker_start(&r->broker, NULL);
    subscriber_start(&r->sub, &r->broker, "heron/#");
    open_mqtt(r);
    set_text(r->mqtt, "a", "1");
    subscriber_await(&r->sub, 0, "heron/a", "1");
    for (int i = 0; i < 20; i++)
        set_text(r->mqtt, "a", "1");
    set_text(r->mqtt, "a", "10");
    set_text(r->mqtt, "b", "end"); /* a later message of the same stream */
    subscriber_await(&r->sub, 0, "heron/b", "end");
    assert_int_equal(subscriber_count(&r->sub, 0, "heron/a"), 2);
    assert_string_equal(subscriber_last(&r->sub, "heron/a")->payload, "10");
}

static void last_value_of_ten_thousand_wins(void **state)
{
    struct rig *r = *state;
    char suffix[32], value[32], topic[64];
    broker_start(&r->broker, NULL);
    subscriber_start(&r->sub, &r->broker, "heron/#");
    open_mqtt(r);
    for (int i = 0; i < 10000; i++) {
        snprintf(suffix, sizeof suffix, "t%d/value", i % 100);
        snprintf(value, sizeof value, "%d", i);
        set_text(r->mqtt, suffix, value);
    }
    for (int i = 9900; i < 10000; i++) {
        snprintf(topic, sizeof topic, "heron/t%d/value", i % 100);
        snprintf(value, sizeof value, "%d", i);
        subscriber_await(&r->sub, 0, topic, value);
    }
    close_mqtt(r, true);
    subscriber_await(&r->sub, 0, "heron/available", "offline");
    for (int i = 0; i < 100; i++) { /* nothing came after the last value, and nothing went back */
        snprintf(topic, sizeof topic, "heron/t%d/value", i);
        snprintf(value, sizeof value, "%d", 9900 + i);
        assert_string_equal(subscriber_last(&r->sub, topic)->payload, value);
        int before = -1;
        for (size_t k = 0; k < r->sub.n; k++) {
            if (strcmp(r->sub.messages[k]->topic, topic) != 0)
                continue;
            assert_true(atoi(r->sub.messages[k]->payload) > before);
            before = atoi(r->sub.messages[k]->payload);
        }
    }
}

static void every_place_is_filled_and_sent(void **state)
{
    struct rig *r = *state;
    struct err err = {0};
    char suffix[32];
    /* otherwise mosquitto drops what is more than 1,000 for one subscriber, and a late one gets all at once */
    const struct broker_options bo = {.lines = "max_queued_messages 0\n"};
    broker_reserve(&r->broker, &bo);
    open_mqtt(r);
    for (int i = 0; i < MQTT_STATES_MAX; i++) {
        snprintf(suffix, sizeof suffix, "s%d", i);
        set_text(r->mqtt, suffix, suffix);
    }
    assert_err(mqtt_set_state(r->mqtt, "one_more", "x", 1, 1, &err), ERR_FULL, &err, "heron/one_more");
    mqtt_clear_state(r->mqtt, "another"); /* no room to remember it: said in the log */
    broker_restart(&r->broker);
    subscriber_start(&r->sub, &r->broker, "heron/#");
    subscriber_await(&r->sub, 0, "heron/available", "online");
    size_t n = 0; /* those that were sent before the subscription stood came as retained: each is there at least once */
    for (int i = 0; i < MQTT_STATES_MAX; i++) {
        snprintf(suffix, sizeof suffix, "heron/s%d", i);
        subscriber_await(&r->sub, 0, suffix, suffix + strlen("heron/"));
        n++;
    }
    assert_int_equal(n, MQTT_STATES_MAX);
    mqtt_clear_state(r->mqtt, "s7"); /* makes room once the broker has acknowledged it */
    subscriber_await(&r->sub, 0, "heron/s7", "");
    const int64_t until_ns = clock_now_ns() + LIMIT_NS;
    int rc;
    while ((rc = mqtt_set_state(r->mqtt, "one_more", "x", 1, 1, &err)) == ERR_FULL && clock_now_ns() < until_ns)
        usleep(2000);
    assert_ok(rc, &err);
    subscriber_await(&r->sub, 0, "heron/one_more", "x");
}

static void what_cannot_be_published_is_refused(void **state)
{
    struct rig *r = *state;
    struct err err = {0};
    char text[MQTT_TOPIC_MAX + 1];
    char *big = calloc(1, MQTT_PAYLOAD_MAX + 1);
    assert_non_null(big);
    memset(big, 'x', MQTT_PAYLOAD_MAX + 1);
    broker_start(&r->broker, NULL);
    subscriber_start(&r->sub, &r->broker, "heron/#");
    open_mqtt(r);
    memset(text, 'a', sizeof text);
    text[MQTT_TOPIC_MAX - strlen("heron/")] = '\0';
    assert_err(mqtt_set_state(r->mqtt, text, "x", 1, 1, &err), ERR_INVAL, &err, "longer than 255");
    text[strlen(text) - 1] = '\0';
    set_text(r->mqtt, text, "fits");
    assert_err(mqtt_set_state(r->mqtt, "a", big, MQTT_PAYLOAD_MAX + 1, 1, &err), ERR_INVAL, &err, "65537 bytes");
    assert_ok(mqtt_set_state(r->mqtt, "big", big, MQTT_PAYLOAD_MAX, 1, &err), &err);
    assert_err(mqtt_set_state(r->mqtt, "a", "", 0, 1, &err), ERR_INVAL, &err, "empty");
    assert_err(mqtt_set_state(r->mqtt, "a/#", "x", 1, 1, &err), ERR_INVAL, &err, "a/#");
    assert_err(mqtt_set_state(r->mqtt, "", "x", 1, 1, &err), ERR_INVAL, &err, "no topic");
    assert_err(mqtt_set_state(r->mqtt, "a\xff", "x", 1, 1, &err), ERR_INVAL, &err, "no topic");
    assert_err(mqtt_set_state(r->mqtt, "available", "x", 1, 1, &err), ERR_INVAL, &err, "heron/available");
    const struct subscriber_message *m = subscriber_await(&r->sub, 0, "heron/big", NULL);
    assert_int_equal(m->n_bytes, MQTT_PAYLOAD_MAX);
    assert_memory_equal(m->payload, big, MQTT_PAYLOAD_MAX);
    close_mqtt(r, true);
    free(big);
}

static void resync_publishes_everything_again(void **state)
{
    struct rig *r = *state;
    char suffix[32], topic[64];
    broker_start(&r->broker, NULL);
    subscriber_start(&r->sub, &r->broker, "heron/#");
    open_mqtt(r);
    for (int i = 0; i < 100; i++) { /* more than are on their way at once */
        snprintf(suffix, sizeof suffix, "s%d", i);
        set_text(r->mqtt, suffix, "1");
    }
    await_stats(r->mqtt, s, s.published == 101);
    subscriber_await(&r->sub, 0, "heron/available", "online");
    subscriber_await(&r->sub, 0, "heron/s99", "1");
    const size_t from = subscriber_mark(&r->sub);
    mqtt_resync(r->mqtt);
    subscriber_await(&r->sub, from, "heron/available", "online");
    assert_int_equal(subscriber_count(&r->sub, from, "heron/available"), 1);
    for (size_t i = from; i < r->sub.n && strcmp(r->sub.messages[i]->topic, "heron/available") != 0; i++)
        assert_string_equal(r->sub.messages[i]->payload, "1");
    assert_string_equal(r->sub.messages[from + 100]->topic, "heron/available"); /* when all of them were out */
    for (int i = 0; i < 100; i++) {
        snprintf(topic, sizeof topic, "heron/s%d", i);
        assert_int_equal(subscriber_count(&r->sub, from, topic), 1);
    }
    assert_int_equal(stats_of(r->mqtt).connects, 1);
}

static void only_the_newest_value_waits(void **state)
{
    struct rig *r = *state;
    char value[32];
    broker_start(&r->broker, NULL);
    subscriber_start(&r->sub, &r->broker, "heron/#");
    open_mqtt(r);
    subscriber_await(&r->sub, 0, "heron/available", "online");
    broker_freeze(&r->broker); /* nothing is acknowledged */
    for (int i = 0; i < 20; i++) {
        snprintf(value, sizeof value, "%d", i);
        const int64_t before_ns = clock_now_ns();
        set_text(r->mqtt, "a", value);
        await_stats(r->mqtt, s, s.heartbeat_ns > before_ns); /* the thread has gone round since */
    }
    set_text(r->mqtt, "a", "last");
    broker_thaw(&r->broker);
    subscriber_await(&r->sub, 0, "heron/a", "last");
    assert_int_equal(subscriber_count(&r->sub, 0, "heron/a"), 2); /* one was on its way, one waited */
}

static void cleared_state_is_gone_from_the_broker(void **state)
{
    struct rig *r = *state;
    broker_start(&r->broker, NULL);
    broker_publish(&r->broker, "heron/old/scene", "from another life", true);
    subscriber_start(&r->sub, &r->broker, "heron/#");
    open_mqtt(r);
    mqtt_clear_state(r->mqtt, "old/scene"); /* one that this publisher never set */
    set_text(r->mqtt, "a", "1");
    set_text(r->mqtt, "b", "1");
    subscriber_await(&r->sub, 0, "heron/old/scene", "");
    subscriber_await(&r->sub, 0, "heron/b", "1");
    mqtt_clear_state(r->mqtt, "a");
    subscriber_await(&r->sub, 0, "heron/a", "");
    mqtt_clear_state(r->mqtt, "b");
    set_text(r->mqtt, "b", "2"); /* the last word wins */
    subscriber_await(&r->sub, 0, "heron/b", "2");
    const size_t from = subscriber_mark(&r->sub);
    mqtt_resync(r->mqtt);
    subscriber_await(&r->sub, from, "heron/available", "online");
    assert_int_equal(subscriber_count(&r->sub, from, "heron/a"), 0);
    struct subscriber later;
    subscriber_start(&later, &r->broker, "heron/#");
    subscriber_await(&later, 0, "heron/b", "2");
    subscriber_await(&later, 0, "heron/available", "online");
    assert_int_equal(subscriber_count(&later, 0, "heron/a"), 0);
    assert_int_equal(subscriber_count(&later, 0, "heron/old/scene"), 0);
    subscriber_release(&later);
}

/* ---- a broker that is not there ------------------------------------------------------------------------------------------------- */

static void broker_may_come_later(void **state)
{
    struct rig *r = *state;
    broker_reserve(&r->broker, NULL);
    open_mqtt(r);
    set_text(r->mqtt, "a", "old");
    set_text(r->mqtt, "a", "new");
    mqtt_send(r->mqtt, "stats", "{}", 2);
    await_stats(r->mqtt, s, s.last_error[0]);
    struct mqtt_stats before = stats_of(r->mqtt);
    assert_false(before.is_connected);
    assert_int_equal(before.dropped, 1);
    assert_true(test_contains(before.last_error, "Connection refused"));
    assert_true(test_contains(before.broker, "127.0.0.1:"));
    await_stats(r->mqtt, s, s.heartbeat_ns > before.heartbeat_ns);
    broker_restart(&r->broker);
    await_stats(r->mqtt, s, s.is_connected);
    subscriber_start(&r->sub, &r->broker, "heron/#");
    subscriber_await(&r->sub, 0, "heron/a", "new");
    subscriber_await(&r->sub, 0, "heron/available", "online");
    mqtt_send(r->mqtt, "stats", "{\"v\":1}", 7);
    const struct subscriber_message *m = subscriber_await(&r->sub, 0, "heron/stats", NULL);
    assert_string_equal(m->payload, "{\"v\":1}"); /* the first was dropped, not kept */
    assert_false(m->is_retained);
    assert_int_equal(m->qos, 0);
    assert_true(stats_of(r->mqtt).since_ns > before.since_ns);
}

static void killed_broker_gets_all_states_again(void **state)
{
    struct rig *r = *state;
    char suffix[32], topic[64];
    broker_start(&r->broker, NULL);
    open_mqtt(r);
    for (int i = 0; i < 50; i++) {
        snprintf(suffix, sizeof suffix, "s%d", i);
        set_text(r->mqtt, suffix, "1");
    }
    await_stats(r->mqtt, s, s.published >= 51);
    for (int round = 0; round < 3; round++) {
        broker_kill(&r->broker);
        await_stats(r->mqtt, s, !s.is_connected);
        const uint64_t dropped = stats_of(r->mqtt).dropped;
        for (int i = 0; i < 10; i++)
            mqtt_send(r->mqtt, "stats", "{}", 2);
        assert_int_equal(stats_of(r->mqtt).dropped, dropped + 10);
        set_text(r->mqtt, "s7", round == 0 ? "away 0" : round == 1 ? "away 1" : "away 2");
        broker_restart(&r->broker);
        subscriber_start(&r->sub, &r->broker, "heron/#");
        subscriber_await(&r->sub, 0, "heron/available", "online");
        for (int i = 0; i < 50; i++) {
            snprintf(topic, sizeof topic, "heron/s%d", i);
            const char *value = i != 7 ? "1" : round == 0 ? "away 0" : round == 1 ? "away 1" : "away 2";
            subscriber_await(&r->sub, 0, topic, value);
        }
        subscriber_release(&r->sub);
    }
    const struct mqtt_stats s = stats_of(r->mqtt);
    assert_int_equal(s.connects, 4);
    assert_true(s.last_error[0]);
}

static void broker_killed_in_a_burst(void **state)
{
    struct rig *r = *state;
    char value[32];
    broker_start(&r->broker, NULL);
    open_mqtt(r);
    await_stats(r->mqtt, s, s.is_connected);
    for (int i = 0; i < 3000; i++) {
        snprintf(value, sizeof value, "%d", i);
        set_text(r->mqtt, i % 2 ? "odd" : "even", value);
        mqtt_send(r->mqtt, "stats", value, strlen(value));
        if (i == 1500)
            broker_kill(&r->broker);
    }
    broker_restart(&r->broker);
    subscriber_start(&r->sub, &r->broker, "heron/#");
    subscriber_await(&r->sub, 0, "heron/odd", "2999");
    subscriber_await(&r->sub, 0, "heron/even", "2998");
    subscriber_await(&r->sub, 0, "heron/available", "online");
    assert_true(stats_of(r->mqtt).dropped > 0);
    close_mqtt(r, true);
}

static void *publish_much(void *arg)
{
    struct mqtt *m = arg;
    static const char payload[4096] = {'x'};
    char suffix[32];
    for (int i = 0; i < 2000; i++) {
        char value[32];
        snprintf(suffix, sizeof suffix, "s%d", i % 200);
        snprintf(value, sizeof value, "%d", i);
        if (mqtt_set_state(m, suffix, value, strlen(value), i / 200 % 2, NULL) != 0)
            return "a state was refused";
        mqtt_send(m, "stats", payload, sizeof payload);
    }
    return NULL;
}

/* If a publisher waited for the broker it would do so for ever: nobody thaws it before the publishers are through. */
static void frozen_broker_is_noticed_and_holds_nobody_up(void **state)
{
    struct rig *r = *state;
    broker_start(&r->broker, NULL);
    struct mqtt_options o = options_for(&r->broker);
    o.keepalive_ns = 5 * CLOCK_S;
    open_with(r, &o);
    await_stats(r->mqtt, s, s.published > 0);
    broker_freeze(&r->broker);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, publish_much, r->mqtt), 0);
    for (int i = 0; i < 2; i++) {
        void *complaint;
        assert_int_equal(pthread_join(threads[i], &complaint), 0);
        if (complaint)
            fail_msg("%s", (const char *)complaint);
    }
    await_stats(r->mqtt, s, !s.is_connected);
    assert_true(stats_of(r->mqtt).dropped > 0);
    broker_thaw(&r->broker);
    subscriber_start(&r->sub, &r->broker, "heron/#");
    subscriber_await(&r->sub, 0, "heron/s199", "1999");
    subscriber_await(&r->sub, 0, "heron/s0", "1800");
    await_stats(r->mqtt, s, s.connects >= 2);
}

static void what_waits_for_a_slow_broker_is_dropped_with_the_connection(void **state)
{
    struct rig *r = *state;
    static const char payload[MQTT_PAYLOAD_MAX] = {'x'};
    broker_start(&r->broker, NULL);
    open_mqtt(r);
    await_stats(r->mqtt, s, s.published > 0);
    broker_freeze(&r->broker);
    while (stats_of(r->mqtt).dropped == 0) { /* until the socket is full, and MQTT_TELEMETRY_MAX wait */
        const int64_t before_ns = clock_now_ns();
        mqtt_send(r->mqtt, "stats", payload, sizeof payload);
        await_stats(r->mqtt, s, s.heartbeat_ns > before_ns); /* so that none waits only for the thread */
    }
    const uint64_t dropped = stats_of(r->mqtt).dropped;
    broker_kill(&r->broker);
    await_stats(r->mqtt, s, !s.is_connected);
    assert_true(stats_of(r->mqtt).dropped > dropped);
}

static void close_does_not_wait_for_a_frozen_broker(void **state)
{
    struct rig *r = *state;
    broker_start(&r->broker, NULL);
    struct mqtt_options o = options_for(&r->broker);
    o.keepalive_ns = 3600 * CLOCK_S; /* nothing but the drain's end ends it */
    open_with(r, &o);
    await_stats(r->mqtt, s, s.published > 0);
    broker_freeze(&r->broker);
    for (int i = 0; i < 100; i++) {
        char suffix[16];
        snprintf(suffix, sizeof suffix, "s%d", i);
        set_text(r->mqtt, suffix, "1");
    }
    struct mqtt *m = r->mqtt;
    r->mqtt = NULL;
    assert_false(mqtt_close(m, 300 * CLOCK_MS)); /* or never, and the runner's limit tells */
    broker_thaw(&r->broker);
    subscriber_start(&r->sub, &r->broker, "heron/#");
    subscriber_await(&r->sub, 0, "heron/available", "offline"); /* it was on its way, and else the will says it */
}

/* ---- the end -------------------------------------------------------------------------------------------------------------------- */

static void close_drains_and_says_offline(void **state)
{
    struct rig *r = *state;
    char suffix[32], topic[64];
    broker_start(&r->broker, NULL);
    open_mqtt(r);
    for (int i = 0; i < 300; i++) {
        snprintf(suffix, sizeof suffix, "s%d", i);
        set_text(r->mqtt, suffix, "last words");
    }
    close_mqtt(r, true); /* at once: not even connected yet */
    subscriber_start(&r->sub, &r->broker, "heron/#");
    for (int i = 0; i < 300; i++) {
        snprintf(topic, sizeof topic, "heron/s%d", i);
        assert_true(subscriber_await(&r->sub, 0, topic, "last words")->is_retained);
    }
    assert_true(subscriber_await(&r->sub, 0, "heron/available", "offline")->is_retained);
}

static void close_without_a_broker(void **state)
{
    struct rig *r = *state;
    broker_reserve(&r->broker, NULL);
    open_mqtt(r);
    set_text(r->mqtt, "a", "1");
    close_mqtt(r, false);
    open_mqtt(r);
    await_stats(r->mqtt, s, s.last_error[0]);
    close_mqtt(r, false);
}

/* This program again, as the victim of a SIGKILL. */
static int victim_main(const char *port)
{
    struct mqtt *m;
    struct err err = {0};
    const struct mqtt_options o = {.host = "127.0.0.1", .port = atoi(port), .prefix = "heron", .keepalive_ns = 5 * CLOCK_S};
    if (mqtt_open(&o, &m, &err) != 0)
        return 1;
    set_text(m, "a", "1");
    for (;;)
        pause();
}

static void will_says_offline_when_we_are_killed(void **state)
{
    struct rig *r = *state;
    char port[8];
    struct program victim;
    broker_start(&r->broker, NULL);
    subscriber_start(&r->sub, &r->broker, "heron/#");
    snprintf(port, sizeof port, "%d", r->broker.port);
    program_start(&victim, "/proc/self/exe", PROGRAM_ARGS("--victim", port), NULL, NULL);
    subscriber_await(&r->sub, 0, "heron/a", "1");
    subscriber_await(&r->sub, 0, "heron/available", "online");
    assert_int_equal(subscriber_count(&r->sub, 0, "heron/available"), 1);
    program_signal(&victim, SIGKILL);
    const struct subscriber_message *m = subscriber_await(&r->sub, 0, "heron/available", "offline");
    assert_int_equal(m->qos, 1);
    program_release(&victim);
    struct subscriber later;
    subscriber_start(&later, &r->broker, "heron/#");
    assert_true(subscriber_await(&later, 0, "heron/available", "offline")->is_retained);
    subscriber_release(&later);
}

/* ---- credentials ---------------------------------------------------------------------------------------------------------------- */

static void wrong_password_is_said_without_it(void **state)
{
    struct rig *r = *state;
    char log[32768];
    const struct broker_options bo = {.username = "heron", .password = "right"};
    broker_start(&r->broker, &bo);
    struct mqtt_options o = options_for(&r->broker);
    setenv("TEST_MQTT_PASSWORD", SECRET, 1);
    o.username = "heron";
    o.password = (struct secret_ref){SECRET_ENV, "TEST_MQTT_PASSWORD"};
    open_with(r, &o);
    await_stats(r->mqtt, s, s.last_error[0]);
    struct mqtt_stats s = stats_of(r->mqtt);
    assert_true(test_contains(s.last_error, "refuses the credentials (user heron)"));
    assert_false(test_contains(s.last_error, SECRET));
    assert_false(s.is_connected);
    assert_int_equal(s.connects, 0);
    log_recent(log, sizeof log);
    assert_true(test_contains(log, "refuses the credentials"));
    assert_false(test_contains(log, SECRET));
    setenv("TEST_MQTT_PASSWORD", "right", 1); /* fetched again at every attempt */
    await_stats(r->mqtt, t, t.is_connected);
    close_mqtt(r, true);
    unsetenv("TEST_MQTT_PASSWORD");
    open_with(r, &o);
    await_stats(r->mqtt, t, t.last_error[0]);
    assert_true(test_contains(stats_of(r->mqtt).last_error, "TEST_MQTT_PASSWORD"));
    close_mqtt(r, false);
}

static void two_boxes_with_one_client_id(void **state)
{
    struct rig *r = *state;
    struct err err = {0};
    struct mqtt *other;
    broker_start(&r->broker, NULL);
    struct mqtt_options o = options_for(&r->broker);
    o.client_id = "twin";
    open_with(r, &o);
    o.prefix = "other";
    assert_ok(mqtt_open(&o, &other, &err), &err);
    await_stats(other, s, test_contains(s.last_error, "the client id twin"));
    await_stats(r->mqtt, s, test_contains(s.last_error, "the client id twin"));
    mqtt_close(other, 0);
    await_stats(r->mqtt, s, s.is_connected && clock_now_ns() - s.since_ns > 2 * o.backoff_max_ns); /* alone again, it stays */
}

/* The eye itself: it must not let pass what the schemas refuse. */
static void subscriber_judges_by_the_schemas(void **state)
{
    struct rig *r = *state;
    char verdict[1024] = "";
    if (!schema_judge_is_there())
        skip_because("python3-jsonschema is not installed");
    broker_start(&r->broker, NULL);
    subscriber_start(&r->sub, &r->broker, "heron/#");
    open_mqtt(r);
    set_text(r->mqtt, "dock/status/capture", "online");
    set_text(r->mqtt, "dock/enabled/state", "ON");
    broker_publish(&r->broker, "heron/dock/enabled/set", "whatever", false);
    mqtt_clear_state(r->mqtt, "dock/enabled/state");
    subscriber_await(&r->sub, 0, "heron/dock/enabled/state", "");
    subscriber_await(&r->sub, 0, "heron/dock/enabled/set", "whatever");
    subscriber_await(&r->sub, 0, "heron/dock/status/capture", "online");
    subscriber_await(&r->sub, 0, "heron/available", "online");
    if (subscriber_judge(&r->sub, "heron", verdict, sizeof verdict) < 2)
        fail_msg("%s", verdict);
    set_text(r->mqtt, "dock/status/capture", "perhaps");
    subscriber_await(&r->sub, 0, "heron/dock/status/capture", "perhaps");
    assert_int_equal(subscriber_judge(&r->sub, "heron", verdict, sizeof verdict), -1);
    assert_true(test_contains(verdict, "perhaps"));
}

/* ---- commands ------------------------------------------------------------------------------------------------------------------- */

static const char *const subscriptions[] = {"config/reload", "+/enabled/set", "resync", NULL};

static void await_command(struct mqtt *m, const char *topic, const char *payload)
{
    struct mqtt_command c;
    struct pollfd p = {.fd = mqtt_command_fd(m), .events = POLLIN};
    assert_int_equal(poll(&p, 1, (int)(LIMIT_NS / CLOCK_MS)), 1);
    assert_int_equal(mqtt_take_command(m, &c), 0);
    assert_string_equal(c.topic, topic);
    assert_string_equal(c.payload, payload);
}

static void commands_come_in_but_no_retained_ones(void **state)
{
    struct rig *r = *state;
    struct mqtt_command c;
    char big[MQTT_COMMAND_BYTES + 1];
    memset(big, 'x', sizeof big);
    big[MQTT_COMMAND_BYTES] = '\0';
    broker_start(&r->broker, NULL);
    broker_publish(&r->broker, "heron/resync", "forgotten", true);
    struct mqtt_options o = options_for(&r->broker);
    o.subscriptions = subscriptions;
    open_with(r, &o);
    await_stats(r->mqtt, s, s.ignored == 1);
    assert_int_equal(mqtt_take_command(r->mqtt, &c), ERR_AGAIN);
    broker_publish(&r->broker, "heron/dock/enabled/set", "OFF", false);
    await_command(r->mqtt, "dock/enabled/set", "OFF");
    broker_publish(&r->broker, "heron/config/reload", "", false);
    await_command(r->mqtt, "config/reload", "");
    broker_publish(&r->broker, "heron/dock/enabled/set", big, false); /* does not fit: never cut short */
    await_stats(r->mqtt, s, s.ignored == 2);
    big[MQTT_COMMAND_BYTES - 1] = '\0';
    broker_publish(&r->broker, "heron/dock/enabled/set", big, false);
    await_command(r->mqtt, "dock/enabled/set", big);
    broker_publish(&r->broker, "heron/somewhere/else", "x", false); /* not subscribed */
    broker_publish(&r->broker, "heron/yard/enabled/set", "ON", false);
    await_command(r->mqtt, "yard/enabled/set", "ON");
    assert_int_equal(mqtt_take_command(r->mqtt, &c), ERR_AGAIN);

    broker_kill(&r->broker); /* subscribed again */
    await_stats(r->mqtt, s, !s.is_connected);
    broker_restart(&r->broker);
    await_stats(r->mqtt, s, s.is_connected && s.published > 1);
    broker_publish(&r->broker, "heron/dock/enabled/set", "ON", false);
    await_command(r->mqtt, "dock/enabled/set", "ON");
    assert_int_equal(stats_of(r->mqtt).ignored, 2);
}

static void flood_of_commands_is_bounded(void **state)
{
    struct rig *r = *state;
    struct mqtt_command c;
    char payload[16];
    broker_start(&r->broker, NULL);
    struct mqtt_options o = options_for(&r->broker);
    o.subscriptions = subscriptions;
    open_with(r, &o);
    await_stats(r->mqtt, s, s.published > 0); /* online came after the subscriptions */
    for (int i = 0; i < MQTT_COMMANDS_MAX + 8; i++) {
        snprintf(payload, sizeof payload, "%d", i);
        broker_publish(&r->broker, "heron/resync", payload, false);
    }
    await_stats(r->mqtt, s, s.ignored == 8);
    for (int i = 0; i < MQTT_COMMANDS_MAX; i++) {
        snprintf(payload, sizeof payload, "%d", i);
        await_command(r->mqtt, "resync", payload);
    }
    assert_int_equal(mqtt_take_command(r->mqtt, &c), ERR_AGAIN);
    struct pollfd p = {.fd = mqtt_command_fd(r->mqtt), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
}

/* ---- the rest ------------------------------------------------------------------------------------------------------------------- */

/* A listener that hangs up on everybody. Gaps have a least length, and none that depends on this machine's speed. */
static void waits_grow_from_the_least_to_the_most(void **state)
{
    struct rig *r = *state;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    r->broker.port = ntohs(a.sin_port);
    struct mqtt_options o = options_for(&r->broker);
    o.backoff_min_ns = 40 * CLOCK_MS;
    o.backoff_max_ns = 320 * CLOCK_MS;
    const int64_t least_ms[] = {0, 40, 80, 160, 160};
    const int n_gaps = sizeof least_ms / sizeof least_ms[0];
    open_with(r, &o);
    int64_t before_ns = clock_now_ns();
    for (int i = 0; i < n_gaps; i++) {
        const int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        const int64_t now_ns = clock_now_ns();
        assert_true(peer >= 0);
        if (now_ns - before_ns < least_ms[i] * CLOCK_MS)
            fail_msg("attempt %d came after %lld ms, at least %lld were to pass", i,
                     (long long)((now_ns - before_ns) / CLOCK_MS), (long long)least_ms[i]);
        before_ns = clock_now_ns();
        close(peer);
    }
    close(fd);
    await_stats(r->mqtt, s, s.last_error[0]);
    assert_int_equal(stats_of(r->mqtt).connects, 0);
}

static void bad_options_are_refused(void **state)
{
    struct rig *r = *state;
    struct err err = {0};
    struct mqtt_options o = options_for(&r->broker);
    o.port = 1;
    o.prefix = "a/+";
    assert_err(mqtt_open(&o, &r->mqtt, &err), ERR_INVAL, &err, "mqtt.topic_prefix");
    o.prefix = "heron";
    o.tls_ca = "/nonexistent/ca.pem";
    assert_err(mqtt_open(&o, &r->mqtt, &err), ERR_INVAL, &err, "/nonexistent/ca.pem");
    o.tls_ca = NULL;
    o.port = 70000;
    assert_err(mqtt_open(&o, &r->mqtt, &err), ERR_INVAL, &err, "65535");
    assert_null(r->mqtt);
    assert_false(mqtt_close(NULL, CLOCK_S));
}

static int count_entries(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void no_descriptor_and_no_thread_is_left(void **state)
{
    struct rig *r = *state;
    broker_start(&r->broker, NULL);
    open_mqtt(r);
    close_mqtt(r, true);
    const int n_fds = count_entries("/proc/self/fd"), n_threads = count_entries("/proc/self/task");
    for (int i = 0; i < 20; i++) {
        open_mqtt(r);
        set_text(r->mqtt, "a", "1");
        close_mqtt(r, true);
    }
    /* the link's helper is detached: its end may lag, the one before the first count included */
    const int64_t until_ns = clock_now_ns() + LIMIT_NS;
    while ((count_entries("/proc/self/task") > n_threads || count_entries("/proc/self/fd") > n_fds) &&
           clock_now_ns() < until_ns)
        usleep(2000);
    assert_true(count_entries("/proc/self/task") <= n_threads);
    assert_true(count_entries("/proc/self/fd") <= n_fds);
}

static void no_broker_is_installed(void **state)
{
    (void)state;
    skip_because("mosquitto and its clients are not installed");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--victim") == 0)
        return victim_main(argv[2]);
    const struct CMUnitTest tests[] = {
        TEST(states_are_retained_and_online_follows),
        TEST(equal_payload_is_not_sent_again),
        TEST(last_value_of_ten_thousand_wins),
        TEST(every_place_is_filled_and_sent),
        TEST(what_cannot_be_published_is_refused),
        TEST(resync_publishes_everything_again),
        TEST(only_the_newest_value_waits),
        TEST(cleared_state_is_gone_from_the_broker),
        TEST(broker_may_come_later),
        TEST(killed_broker_gets_all_states_again),
        TEST(broker_killed_in_a_burst),
        TEST(frozen_broker_is_noticed_and_holds_nobody_up),
        TEST(what_waits_for_a_slow_broker_is_dropped_with_the_connection),
        TEST(close_does_not_wait_for_a_frozen_broker),
        TEST(close_drains_and_says_offline),
        TEST(close_without_a_broker),
        TEST(will_says_offline_when_we_are_killed),
        TEST(wrong_password_is_said_without_it),
        TEST(two_boxes_with_one_client_id),
        TEST(subscriber_judges_by_the_schemas),
        TEST(commands_come_in_but_no_retained_ones),
        TEST(flood_of_commands_is_bounded),
        TEST(waits_grow_from_the_least_to_the_most),
        TEST(bad_options_are_refused),
        TEST(no_descriptor_and_no_thread_is_left),
    };
    const struct CMUnitTest without[] = {cmocka_unit_test(no_broker_is_installed)};
    if (!broker_is_there())
        return cmocka_run_group_tests_name("mqtt", without, NULL, NULL);
    return cmocka_run_group_tests_name("mqtt", tests, NULL, NULL);
}
