#include "tests/support/test.h"

#include "appliance/mqtt_link.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/support/broker.h"
#include "tests/support/subscriber.h"

#define LIMIT_NS (30 * CLOCK_S)

struct rig {
    struct broker broker;
    struct subscriber sub;
    struct mqtt_link *link;
    int n_up, n_down, n_acked, n_refused, n_messages;
    int last_mid;
    char cause[300];
    char topic[128], payload[128];
    bool is_retained;
};

static void on_up(void *ctx)
{
    ((struct rig *)ctx)->n_up++;
}

static void on_down(void *ctx, const char *cause)
{
    struct rig *r = ctx;
    r->n_down++;
    snprintf(r->cause, sizeof r->cause, "%s", cause);
}

static void on_acked(void *ctx, int mid, bool is_refused)
{
    struct rig *r = ctx;
    r->n_acked++;
    r->n_refused += is_refused;
    r->last_mid = mid;
}

static void on_message(void *ctx, const char *topic, const void *payload, size_t n_bytes, bool is_retained)
{
    struct rig *r = ctx;
    r->n_messages++;
    r->is_retained = is_retained;
    snprintf(r->topic, sizeof r->topic, "%s", topic);
    snprintf(r->payload, sizeof r->payload, "%.*s", (int)n_bytes, n_bytes ? (const char *)payload : "");
}

static int set_up(void **state)
{
    *state = calloc(1, sizeof(struct rig));
    return *state ? 0 : -1;
}

static int tear_down(void **state)
{
    struct rig *r = *state;
    mqtt_link_close(r->link);
    subscriber_release(&r->sub);
    broker_release(&r->broker);
    free(r);
    return 0;
}

static struct mqtt_link_options options_for(struct rig *r, int port)
{
    return (struct mqtt_link_options){
        .host = "127.0.0.1",
        .port = port,
        .client_id = "link",
        .keepalive_s = 60,
        .on_up = on_up,
        .on_down = on_down,
        .on_acked = on_acked,
        .on_message = on_message,
        .ctx = r,
    };
}

static void open_with(struct rig *r, const struct mqtt_link_options *o)
{
    struct err err = {0};
    mqtt_link_close(r->link);
    r->link = NULL;
    assert_ok(mqtt_link_open(o, &r->link, &err), &err);
}

static void begin(struct rig *r)
{
    struct err err = {0};
    assert_ok(mqtt_link_connect(r->link, &err), &err);
}

static void step(struct rig *r, int timeout_ms)
{
    struct pollfd p = {.fd = mqtt_link_fd(r->link), .events = mqtt_link_events(r->link)};
    if (poll(&p, 1, timeout_ms) < 0)
        p.revents = 0;
    mqtt_link_step(r->link, p.revents);
}

/* Drive the link until something has come about. */
#define drive_until(r, condition)                                                                                              \
    do {                                                                                                                       \
        const int64_t until_ns = clock_now_ns() + LIMIT_NS;                                                                    \
        while (!(condition)) {                                                                                                 \
            if (clock_now_ns() > until_ns)                                                                                     \
                fail_msg("%s:%d: %s did not come about; the last cause: %s", __FILE__, __LINE__, #condition, (r)->cause);      \
            step((r), 20);                                                                                                     \
        }                                                                                                                      \
    } while (0)

/* One attempt, to its failure; the cause must hold the words. */
static void fails_with(struct rig *r, const char *words)
{
    const int n_down = r->n_down;
    begin(r);
    drive_until(r, r->n_down > n_down || r->n_up > 0);
    if (r->n_up > 0 || !test_contains(r->cause, words))
        fail_msg("got \"%s\", want \"%s\"", r->n_up > 0 ? "a connection" : r->cause, words);
    assert_int_equal(mqtt_link_fd(r->link), -1);
}

/* ---- a broker ------------------------------------------------------------------------------------------------------------------- */

static void publishes_and_is_acknowledged(void **state)
{
    struct rig *r = *state;
    struct err err = {0};
    int mid = 0;
    broker_start(&r->broker, NULL);
    subscriber_start(&r->sub, &r->broker, "t/#");
    const struct mqtt_link_options o = options_for(r, r->broker.port);
    open_with(r, &o);
    assert_err(mqtt_link_publish(r->link, "t/a", "x", 1, 1, false, NULL, &err), ERR_STATE, &err, "not connected");
    assert_err(mqtt_link_subscribe(r->link, "c/#", 1, &err), ERR_STATE, &err, "not connected");
    assert_int_equal(mqtt_link_fd(r->link), -1);
    begin(r);
    assert_err(mqtt_link_publish(r->link, "t/a", "x", 1, 1, false, NULL, &err), ERR_STATE, &err, "not connected");
    drive_until(r, r->n_up == 1);
    assert_true(mqtt_link_is_up(r->link));
    assert_ok(mqtt_link_publish(r->link, "t/a", "hello", 5, 1, true, &mid, &err), &err);
    drive_until(r, r->n_acked == 1);
    assert_int_equal(r->last_mid, mid);
    assert_int_equal(r->n_refused, 0);
    assert_ok(mqtt_link_publish(r->link, "t/b", "now", 3, 0, false, NULL, &err), &err);
    subscriber_await(&r->sub, 0, "t/a", "hello");
    subscriber_await(&r->sub, 0, "t/b", "now");
    assert_err(mqtt_link_publish(r->link, "t/+", "x", 1, 1, false, NULL, &err), ERR_INVAL, &err, "t/+");
    assert_err(mqtt_link_subscribe(r->link, "a/#/b", 1, &err), ERR_INVAL, &err, "a/#/b");
    assert_true(mqtt_link_is_up(r->link));
    assert_int_equal(r->n_acked, 1);                          /* QoS 0 is none */
    assert_int_equal(subscriber_count(&r->sub, 0, "t/a"), 1); /* what was refused was not queued either */
}

static void hears_what_it_subscribed_to(void **state)
{
    struct rig *r = *state;
    struct err err = {0};
    broker_start(&r->broker, NULL);
    broker_publish(&r->broker, "c/old", "kept", true);
    const struct mqtt_link_options o = options_for(r, r->broker.port);
    open_with(r, &o);
    begin(r);
    drive_until(r, r->n_up == 1);
    assert_ok(mqtt_link_subscribe(r->link, "c/#", 1, &err), &err);
    drive_until(r, r->n_messages == 1);
    assert_string_equal(r->topic, "c/old");
    assert_string_equal(r->payload, "kept");
    assert_true(r->is_retained);
    broker_publish(&r->broker, "c/new", "", false);
    drive_until(r, r->n_messages == 2);
    assert_string_equal(r->topic, "c/new");
    assert_string_equal(r->payload, "");
    assert_false(r->is_retained);
}

static void lost_connection_is_told_once_and_leaves_nothing_queued(void **state)
{
    struct rig *r = *state;
    struct err err = {0};
    broker_start(&r->broker, NULL);
    const struct mqtt_link_options o = options_for(r, r->broker.port);
    open_with(r, &o);
    begin(r);
    drive_until(r, r->n_up == 1);
    broker_freeze(&r->broker);
    for (int i = 0; i < 10; i++)
        assert_ok(mqtt_link_publish(r->link, "t/old", "old", 3, 1, true, NULL, &err), &err);
    broker_kill(&r->broker);
    drive_until(r, r->n_down == 1);
    assert_true(r->cause[0]);
    assert_false(mqtt_link_is_up(r->link));
    step(r, 0);
    assert_int_equal(r->n_down, 1);
    assert_int_equal(r->n_acked, 0);
    broker_restart(&r->broker);
    subscriber_start(&r->sub, &r->broker, "t/#");
    begin(r);
    drive_until(r, r->n_up == 2);
    assert_ok(mqtt_link_publish(r->link, "t/new", "new", 3, 1, true, NULL, &err), &err);
    drive_until(r, r->n_acked == 1);
    subscriber_await(&r->sub, 0, "t/new", "new");
    assert_int_equal(subscriber_count(&r->sub, 0, "t/old"), 0);
}

static void clean_close_does_not_fire_the_will(void **state)
{
    struct rig *r = *state;
    broker_start(&r->broker, NULL);
    subscriber_start(&r->sub, &r->broker, "#");
    struct mqtt_link_options o = options_for(r, r->broker.port);
    o.will_topic = "t/will";
    o.will_payload = "gone";
    open_with(r, &o);
    begin(r);
    drive_until(r, r->n_up == 1);
    mqtt_link_close(r->link);
    r->link = NULL;
    assert_true(program_await_text(&r->broker.program, true, "Received DISCONNECT from link", 30000));
    broker_publish(&r->broker, "t/end", "1", false);
    subscriber_await(&r->sub, 0, "t/end", "1");
    assert_int_equal(subscriber_count(&r->sub, 0, "t/will"), 0);
    assert_int_equal(r->n_down, 0);
}

static void refusal_by_an_access_list_is_told(void **state)
{
    struct rig *r = *state;
    struct err err = {0};
    char lines[400], file[320];
    snprintf(file, sizeof file, "%s/acl", test_temp_dir());
    test_write_text(file, "topic readwrite allowed/#\n");
    snprintf(lines, sizeof lines, "acl_file %s\n", file);
    const struct broker_options bo = {.lines = lines};
    broker_start(&r->broker, &bo);
    const struct mqtt_link_options o = options_for(r, r->broker.port);
    open_with(r, &o);
    begin(r);
    drive_until(r, r->n_up == 1);
    assert_ok(mqtt_link_publish(r->link, "allowed/a", "1", 1, 1, false, NULL, &err), &err);
    drive_until(r, r->n_acked == 1);
    assert_int_equal(r->n_refused, 0);
    assert_ok(mqtt_link_publish(r->link, "forbidden/a", "1", 1, 1, false, NULL, &err), &err);
    drive_until(r, r->n_acked == 2);
    assert_int_equal(r->n_refused, 1);
    assert_true(mqtt_link_is_up(r->link));
}

/* ---- no broker ------------------------------------------------------------------------------------------------------------------ */

static void failures_to_connect_say_why(void **state)
{
    struct rig *r = *state;
    struct mqtt_link_options o = options_for(r, broker_free_port());
    open_with(r, &o);
    fails_with(r, "Connection refused");
    fails_with(r, "Connection refused"); /* and may be tried again */
    o.host = "no-such-host.invalid";
    open_with(r, &o);
    fails_with(r, "the name no-such-host.invalid cannot be resolved");
}

/* A socket that listens and, as the kernel does that, accepts, but has nobody behind it. */
static int listen_somewhere(int *ret_port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    *ret_port = ntohs(a.sin_port);
    return fd;
}

static void one_that_does_not_answer_is_given_up(void **state)
{
    struct rig *r = *state;
    int port;
    const int fd = listen_somewhere(&port);
    struct mqtt_link_options o = options_for(r, port);
    o.connect_timeout_ns = 300 * CLOCK_MS;
    open_with(r, &o);
    fails_with(r, "does not answer as an MQTT broker within");
    close(fd);
}

static void one_that_speaks_something_else_is_told(void **state)
{
    struct rig *r = *state;
    int port;
    const int fd = listen_somewhere(&port);
    struct mqtt_link_options o = options_for(r, port);
    o.connect_timeout_ns = 300 * CLOCK_MS; /* its words may look like the beginning of a packet */
    open_with(r, &o);
    begin(r);
    int peer = -1;
    while (r->n_down == 0) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (peer < 0 && poll(&p, 1, 0) == 1) {
            peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
            const char words[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
            assert_int_equal(write(peer, words, strlen(words)), (ssize_t)strlen(words));
        }
        step(r, 20);
    }
    assert_int_equal(r->n_up, 0);
    assert_true(r->cause[0]);
    close(peer);
    close(fd);
}

/* A broker of 3.1.1: answers a CONNECT of level 5 with "unacceptable protocol version", and one of level 4 with success. */
static void *old_broker(void *arg)
{
    const int fd = *(int *)arg;
    for (int i = 0; i < 2; i++) {
        unsigned char connect[256];
        const int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (peer < 0)
            return "accept";
        ssize_t n = 0;
        while (n < 9) { /* fixed header (2), name "MQTT" (6), level */
            const ssize_t got = read(peer, connect + n, sizeof connect - (size_t)n);
            if (got <= 0)
                return "read";
            n += got;
        }
        const unsigned char level = connect[8];
        if (level != (i == 0 ? 5 : 4))
            return "the level";
        const unsigned char connack[] = {0x20, 2, 0, level == 5 ? 1 : 0};
        if (write(peer, connack, sizeof connack) != sizeof connack)
            return "write";
        while (i == 1 && read(peer, connect, sizeof connect) > 0)
            ;
        close(peer);
    }
    return NULL;
}

static void old_broker_is_asked_with_its_own_version(void **state)
{
    struct rig *r = *state;
    int port;
    pthread_t thread;
    void *complaint;
    int fd = listen_somewhere(&port);
    assert_int_equal(pthread_create(&thread, NULL, old_broker, &fd), 0);
    const struct mqtt_link_options o = options_for(r, port);
    open_with(r, &o);
    begin(r);
    drive_until(r, r->n_down == 1);
    assert_int_equal(r->n_up, 0);
    begin(r);
    drive_until(r, r->n_up == 1);
    mqtt_link_close(r->link);
    r->link = NULL;
    assert_int_equal(pthread_join(thread, &complaint), 0);
    if (complaint)
        fail_msg("the old broker: %s", (const char *)complaint);
    close(fd);
}

static void close_while_connecting(void **state)
{
    struct rig *r = *state;
    int port;
    const int fd = listen_somewhere(&port);
    const struct mqtt_link_options o = options_for(r, port);
    for (int i = 0; i < 30; i++) { /* before, while and after the helper works */
        open_with(r, &o);
        begin(r);
        for (int k = 0; k < i % 3; k++)
            step(r, 5);
        mqtt_link_close(r->link);
        r->link = NULL;
    }
    assert_int_equal(r->n_up + r->n_down, 0);
    close(fd);
}

/* ---- credentials, TLS ----------------------------------------------------------------------------------------------------------- */

static void password_is_read_from_its_place(void **state)
{
    struct rig *r = *state;
    struct err err = {0};
    char file[320];
    const struct broker_options bo = {.username = "heron", .password = "p@ss w/rd"};
    broker_start(&r->broker, &bo);
    snprintf(file, sizeof file, "%s/password", test_temp_dir());
    test_write_text(file, "p@ss w/rd\n");
    struct mqtt_link_options o = options_for(r, r->broker.port);
    open_with(r, &o);
    fails_with(r, "refuses the credentials (user (none))");
    o.username = "heron";
    o.password = (struct secret_ref){SECRET_FILE, "/nonexistent/password"};
    open_with(r, &o);
    assert_err(mqtt_link_connect(r->link, &err), ERR_NOT_FOUND, &err, "/nonexistent/password");
    o.password.name = file;
    open_with(r, &o);
    begin(r);
    drive_until(r, r->n_up == 1);
}

static void tls_checks_who_is_there(void **state)
{
    struct rig *r = *state;
    struct err err = {0};
    if (!broker_tool("openssl"))
        skip_because("no openssl program to make certificates");
    const struct broker_options bo = {.has_tls = true, .wants_client_certificate = true};
    broker_start(&r->broker, &bo);
    struct mqtt_link_options o = options_for(r, r->broker.port);
    o.host = "localhost";
    o.tls_ca = r->broker.ca;
    o.tls_cert = r->broker.client_cert;
    o.tls_key = r->broker.client_key;
    open_with(r, &o);
    /* where localhost has an IPv6 address too, nobody listens there: the second attempt takes the other family */
    for (int i = 0; i < 2 && r->n_up == 0; i++) {
        const int n_down = r->n_down;
        begin(r);
        drive_until(r, r->n_up == 1 || r->n_down > n_down);
    }
    if (r->n_up == 0)
        fail_msg("%s", r->cause);
    subscriber_start(&r->sub, &r->broker, "t/#");
    char *big = malloc(60000);
    assert_non_null(big);
    memset(big, 'x', 60000);
    for (int i = 0; i < 20; i++)
        assert_ok(mqtt_link_publish(r->link, "t/big", big, 60000, 1, false, NULL, &err), &err);
    drive_until(r, r->n_acked == 20);
    assert_int_equal(subscriber_await(&r->sub, 0, "t/big", NULL)->n_bytes, 60000);
    free(big);

    r->n_up = 0;
    o.host = "127.0.0.1"; /* the certificate is for localhost */
    open_with(r, &o);
    fails_with(r, "certificate");
    o.tls_cert = o.tls_key = NULL; /* the broker wants one */
    o.host = "localhost";
    open_with(r, &o);
    for (int i = 0; i < 3; i++) {
        begin(r);
        const int n_down = r->n_down;
        drive_until(r, r->n_up > 0 || r->n_down > n_down);
        assert_int_equal(r->n_up, 0);
    }
    struct broker other; /* an authority that did not sign this broker */
    broker_reserve(&other, &bo);
    o.tls_ca = other.ca;
    o.tls_cert = other.client_cert;
    o.tls_key = other.client_key;
    o.host = "127.0.0.1";
    open_with(r, &o);
    fails_with(r, "certificate");
    broker_release(&other);
}

static void bad_options_are_refused(void **state)
{
    struct rig *r = *state;
    struct err err = {0};
    struct mqtt_link_options o = options_for(r, 1883);
    struct mqtt_link *link = NULL;
    o.port = 0;
    assert_err(mqtt_link_open(&o, &link, &err), ERR_INVAL, &err, "1 to 65535");
    o.port = 1883;
    o.tls_cert = "/etc/hostname";
    assert_err(mqtt_link_open(&o, &link, &err), ERR_INVAL, &err, "tls_ca");
    o.tls_ca = "/nonexistent.pem";
    assert_err(mqtt_link_open(&o, &link, &err), ERR_INVAL, &err, "together");
    o.tls_cert = NULL;
    assert_err(mqtt_link_open(&o, &link, &err), ERR_INVAL, &err, "/nonexistent.pem");
    assert_null(link);
    mqtt_link_close(NULL);
}

static void no_broker_is_installed(void **state)
{
    (void)state;
    skip_because("mosquitto and its clients are not installed");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    signal(SIGPIPE, SIG_IGN); /* the owner of a link sees to that */
    const struct CMUnitTest tests[] = {
        TEST(publishes_and_is_acknowledged),
        TEST(hears_what_it_subscribed_to),
        TEST(lost_connection_is_told_once_and_leaves_nothing_queued),
        TEST(clean_close_does_not_fire_the_will),
        TEST(refusal_by_an_access_list_is_told),
        TEST(failures_to_connect_say_why),
        TEST(one_that_does_not_answer_is_given_up),
        TEST(one_that_speaks_something_else_is_told),
        TEST(old_broker_is_asked_with_its_own_version),
        TEST(close_while_connecting),
        TEST(password_is_read_from_its_place),
        TEST(tls_checks_who_is_there),
        TEST(bad_options_are_refused),
    };
    const struct CMUnitTest without[] = {cmocka_unit_test(no_broker_is_installed)};
    if (!broker_is_there())
        return cmocka_run_group_tests_name("mqtt_link", without, NULL, NULL);
    return cmocka_run_group_tests_name("mqtt_link", tests, NULL, NULL);
}
