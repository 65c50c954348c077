#include "appliance/mqtt.h"

#include <assert.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "appliance/machine.h"
#include "appliance/mqtt_link.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/queue.h"
#include "base/rng.h"
#include "base/utf8.h"

#define BACKOFF_MIN_NS (1 * CLOCK_S)
#define BACKOFF_MAX_NS (60 * CLOCK_S)
#define FLIGHTS_MAX    16 /* unacknowledged at once; brokers take 20 by default, and the library queues without bound */
#define ROUND_MAX      64 /* messages between two looks at the socket */
#define SUBSCRIPTIONS  32
#define SHORT_MAX      3    /* connections that ended soon, in a row, before a second client is suspected */
#define ROUND_MS       1000 /* the link wants a step a second */

/* One retained topic. While a message of it is on its way a newer value waits here, and overwrites. */
struct state {
    char *suffix; /* NULL: the place is free */
    uint64_t hash;
    unsigned char *payload;
    size_t n_bytes, cap_bytes;
    int qos;
    bool is_clear;   /* forgotten: to be cleared at the broker, then freed */
    bool is_due;     /* in the list */
    bool is_flying;  /* published with QoS 1 and not acknowledged */
    bool is_changed; /* since it flew */
    bool is_initial; /* not yet published since the connect or the resync */
    struct state *next;
};

struct telemetry {
    struct telemetry *next;
    char *suffix;
    size_t n_bytes;
    unsigned char payload[];
};

struct flight {
    int mid;
    struct state *state; /* NULL: none */
};

struct mqtt {
    /* immutable after open */
    char *prefix, *available_topic, *client_id;
    char *subscriptions[SUBSCRIPTIONS];
    int n_subscriptions;
    int64_t backoff_min_ns, backoff_max_ns;
    int wake_fd;
    bool has_lock, has_thread;
    pthread_t thread;
    struct queue commands;

    /* under lock */
    pthread_mutex_t lock;
    struct state *states; /* [MQTT_STATES_MAX] */
    int n_states;         /* places ever used */
    struct state *first_due, *last_due;
    int n_initial;
    struct telemetry *first_telemetry, *last_telemetry;
    int n_telemetry;
    struct mqtt_stats stats;
    bool is_held;      /* not to connect yet */
    bool is_announced; /* `online` is out */
    bool is_closing;
    int64_t close_ns, give_up_ns; /* the end of the drain, and when states no longer hold `offline` up */

    /* the thread's */
    struct mqtt_link *link;
    struct rng rng;
    unsigned char *scratch; /* [MQTT_PAYLOAD_MAX] a payload on its way, so that none is read without the lock */
    struct flight flights[FLIGHTS_MAX];
    int n_flights;
    int available_mid; /* 0: none on its way */
    bool is_offline_sent, is_offline_acked;
    bool is_under_way;            /* connecting, or connected */
    int64_t retry_ns, backoff_ns; /* when to try, and the upper end of the next wait */
    int64_t up_ns;                /* since when it is connected; 0: it is not */
    int n_short;                  /* connections in a row that ended soon */
    char told[256];               /* the last failure that was logged as a warning */
};

static void wake(struct mqtt *m)
{
    const ssize_t n = write(m->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
    (void)n; /* a full counter is readable too */
}

/* ---- states, under lock --------------------------------------------------------------------------------------------------------- */

static struct state *find_state(struct mqtt *m, const char *suffix)
{
    const uint64_t hash = rng_hash(suffix, strlen(suffix));
    for (int i = 0; i < m->n_states; i++)
        if (m->states[i].suffix && m->states[i].hash == hash && strcmp(m->states[i].suffix, suffix) == 0)
            return &m->states[i];
    return NULL;
}

/* NULL: no room, or no memory. */
static struct state *make_state(struct mqtt *m, const char *suffix, int *ret_rc)
{
    struct state *s = NULL;
    for (int i = 0; i < m->n_states && !s; i++)
        if (!m->states[i].suffix)
            s = &m->states[i];
    if (!s && m->n_states == MQTT_STATES_MAX) {
        *ret_rc = ERR_FULL;
        return NULL;
    }
    char *copy = strdup(suffix);
    if (!copy) {
        *ret_rc = ERR_NOMEM;
        return NULL;
    }
    if (!s)
        s = &m->states[m->n_states++];
    *s = (struct state){.suffix = copy, .hash = rng_hash(suffix, strlen(suffix))};
    return s;
}

static void free_state(struct state *s)
{
    free(s->suffix);
    free(s->payload);
    *s = (struct state){0};
}

/* To be sent: at once, or when its message on the way has been acknowledged. */
static void mark_due(struct mqtt *m, struct state *s)
{
    if (s->is_flying) {
        s->is_changed = true;
        return;
    }
    if (s->is_due)
        return;
    s->is_due = true;
    s->next = NULL;
    if (m->last_due)
        m->last_due->next = s;
    else
        m->first_due = s;
    m->last_due = s;
}

static struct state *pop_due(struct mqtt *m)
{
    struct state *s = m->first_due;
    if (!s)
        return NULL;
    m->first_due = s->next;
    if (!m->first_due)
        m->last_due = NULL;
    s->is_due = false;
    return s;
}

/* All states again, then `online`. */
static void mark_all(struct mqtt *m)
{
    m->n_initial = 0;
    m->is_announced = false;
    for (int i = 0; i < m->n_states; i++) {
        struct state *s = &m->states[i];
        if (!s->suffix)
            continue;
        s->is_initial = true;
        m->n_initial++;
        mark_due(m, s);
    }
}

/* ---- telemetry, under lock ------------------------------------------------------------------------------------------------------ */

static struct telemetry *pop_telemetry(struct mqtt *m)
{
    struct telemetry *t = m->first_telemetry;
    if (!t)
        return NULL;
    m->first_telemetry = t->next;
    if (!m->first_telemetry)
        m->last_telemetry = NULL;
    m->n_telemetry--;
    return t;
}

static void drop_telemetry(struct mqtt *m)
{
    struct telemetry *t = pop_telemetry(m);
    free(t);
    m->stats.dropped += t != NULL;
}

/* ---- sending, the thread -------------------------------------------------------------------------------------------------------- */

static void full_topic(const struct mqtt *m, const char *suffix, char out[MQTT_TOPIC_MAX])
{
    snprintf(out, MQTT_TOPIC_MAX, "%s/%s", m->prefix, suffix);
}

/* What the library refuses as it stands would be refused again: it is not tried twice with the same value. */
static void count_refusal(struct mqtt *m, const char *topic, const char *why)
{
    log_warning("mqtt: ignoring a message that was refused topic=%s reason=\"%s\"", topic, why);
    pthread_mutex_lock(&m->lock);
    m->stats.refused++;
    pthread_mutex_unlock(&m->lock);
}

/* Publish the state that has waited longest. False: none is due, or not now. */
static bool send_state(struct mqtt *m)
{
    char topic[MQTT_TOPIC_MAX];
    struct err err = {0};
    pthread_mutex_lock(&m->lock);
    struct state *s = m->n_flights < FLIGHTS_MAX ? pop_due(m) : NULL;
    if (!s) {
        pthread_mutex_unlock(&m->lock);
        return false;
    }
    const size_t n_bytes = s->is_clear ? 0 : s->n_bytes;
    const int qos = s->is_clear ? 1 : s->qos; /* the acknowledgement of a clear frees the place */
    if (n_bytes > 0)
        memcpy(m->scratch, s->payload, n_bytes);
    full_topic(m, s->suffix, topic);
    const bool was_initial = s->is_initial;
    s->is_initial = s->is_changed = false;
    m->n_initial -= was_initial;
    s->is_flying = qos > 0; /* before the lock is let go: a newer value must wait */
    pthread_mutex_unlock(&m->lock);

    int mid = 0;
    const int rc = mqtt_link_publish(m->link, topic, m->scratch, n_bytes, qos, true, &mid, &err);
    if (rc == 0 && qos > 0)
        m->flights[m->n_flights++] = (struct flight){.mid = mid, .state = s};

    pthread_mutex_lock(&m->lock);
    if (rc == 0 && qos == 0)
        m->stats.published++;
    if (rc != 0) {
        s->is_flying = false;
        if (rc != ERR_INVAL || s->is_changed) { /* the connection broke, or there was no memory: it stays due */
            s->is_changed = false;
            s->is_initial = was_initial;
            m->n_initial += was_initial;
            mark_due(m, s);
        } else if (s->is_clear) {
            free_state(s);
        }
    }
    pthread_mutex_unlock(&m->lock);
    if (rc == ERR_INVAL)
        count_refusal(m, topic, err.text);
    return rc == 0 || rc == ERR_INVAL;
}

static bool send_telemetry(struct mqtt *m)
{
    char topic[MQTT_TOPIC_MAX];
    struct err err = {0};
    pthread_mutex_lock(&m->lock);
    struct telemetry *t = m->is_announced || m->is_closing ? pop_telemetry(m) : NULL;
    pthread_mutex_unlock(&m->lock);
    if (!t)
        return false;
    full_topic(m, t->suffix, topic);
    const int rc = mqtt_link_publish(m->link, topic, t->payload, t->n_bytes, 0, false, NULL, &err);
    free(t);
    pthread_mutex_lock(&m->lock);
    m->stats.published += rc == 0;
    m->stats.dropped += rc != 0 && rc != ERR_INVAL;
    pthread_mutex_unlock(&m->lock);
    if (rc == ERR_INVAL)
        count_refusal(m, topic, err.text);
    return rc == 0 || rc == ERR_INVAL;
}

static bool send_available(struct mqtt *m, const char *word)
{
    return mqtt_link_publish(m->link, m->available_topic, word, strlen(word), 1, true, &m->available_mid, NULL) == 0;
}

/* What is due, as far as the broker takes it. Returns whether there was more than fits into one round. */
static bool send_due(struct mqtt *m)
{
    int n = 0;
    bool is_more = true;
    while (n < ROUND_MAX && is_more && mqtt_link_is_up(m->link) && !mqtt_link_is_congested(m->link)) {
        is_more = send_state(m);
        n++;
    }
    if (is_more)
        return n == ROUND_MAX;
    pthread_mutex_lock(&m->lock);
    const bool is_settled = m->n_initial == 0;
    const bool is_online_due = is_settled && !m->is_announced && !m->is_closing;
    m->is_announced |= is_online_due;
    pthread_mutex_unlock(&m->lock);
    if (is_online_due && !send_available(m, "online")) {
        pthread_mutex_lock(&m->lock);
        m->is_announced = false;
        pthread_mutex_unlock(&m->lock);
        return false;
    }
    is_more = true;
    while (n < ROUND_MAX && is_more && mqtt_link_is_up(m->link) && !mqtt_link_is_congested(m->link)) {
        is_more = send_telemetry(m);
        n++;
    }
    return is_more && n == ROUND_MAX;
}

/* ---- what the link calls back, the thread --------------------------------------------------------------------------------------- */

static void on_up(void *ctx)
{
    struct mqtt *m = ctx;
    char filter[MQTT_TOPIC_MAX];
    struct err err = {0};
    m->up_ns = clock_now_ns();
    m->told[0] = '\0';
    for (int i = 0; i < m->n_subscriptions; i++) {
        full_topic(m, m->subscriptions[i], filter);
        if (mqtt_link_subscribe(m->link, filter, 1, &err) == ERR_INVAL)
            log_error("mqtt: %s", err.text);
    }
    pthread_mutex_lock(&m->lock);
    m->stats.is_connected = true;
    m->stats.since_ns = m->up_ns;
    m->stats.connects++;
    mark_all(m);
    pthread_mutex_unlock(&m->lock);
    log_notice("mqtt connected broker=%s", m->stats.broker);
}

/*
 * When to try again: between one and two times the shortest wait, then twice that each time. Only a connection that lasted brings
 * the shortest wait back, so that one which comes and goes calms down. Of two boxes that take one client id from each other each is
 * connected for as long as the other waits: that must not count as lasting.
 */
static void plan_retry(struct mqtt *m, int64_t now_ns)
{
    if (m->up_ns != 0 && now_ns - m->up_ns >= 2 * m->backoff_max_ns)
        m->backoff_ns = m->n_short = 0;
    else if (m->up_ns != 0)
        m->n_short++;
    int64_t high_ns = m->backoff_ns > 0 ? m->backoff_ns * 2 : m->backoff_min_ns * 2;
    if (high_ns > m->backoff_max_ns)
        high_ns = m->backoff_max_ns;
    m->backoff_ns = high_ns;
    const int64_t low_ns = high_ns / 2 > m->backoff_min_ns ? high_ns / 2 : m->backoff_min_ns;
    m->retry_ns = now_ns + low_ns + (int64_t)rng_below(&m->rng, (uint64_t)(high_ns - low_ns) + 1);
    m->up_ns = 0;
}

static void on_down(void *ctx, const char *cause)
{
    struct mqtt *m = ctx;
    const int64_t now_ns = clock_now_ns();
    const bool was_up = m->up_ns != 0;
    char words[sizeof m->stats.last_error];
    plan_retry(m, now_ns);
    snprintf(words, sizeof words, "%s", cause);
    if (was_up && m->n_short >= SHORT_MAX && !strstr(cause, "client id")) /* not every broker says that it was so */
        snprintf(words, sizeof words, "%.*s, time and again: does another client use the client id %s?", 120, cause,
                 m->client_id);
    m->is_under_way = false;
    m->n_flights = 0;
    m->available_mid = 0;
    pthread_mutex_lock(&m->lock);
    if (m->stats.is_connected)
        m->stats.since_ns = now_ns;
    m->stats.is_connected = m->is_announced = false;
    snprintf(m->stats.last_error, sizeof m->stats.last_error, "%s", words);
    for (int i = 0; i < m->n_states; i++) {
        struct state *s = &m->states[i];
        if (!s->is_flying)
            continue;
        s->is_flying = s->is_changed = false;
        mark_due(m, s);
    }
    while (m->n_telemetry > 0)
        drop_telemetry(m);
    pthread_mutex_unlock(&m->lock);

    const double retry_s = (double)(m->retry_ns - now_ns) / (double)CLOCK_S;
    if (was_up || strcmp(m->told, words) != 0)
        log_warning("mqtt %s, retrying in %.1f s: %s", was_up ? "lost" : "not connected", retry_s, words);
    else
        log_debug("mqtt not connected, retrying in %.1f s: %s", retry_s, words);
    snprintf(m->told, sizeof m->told, "%s", words);
}

static void on_acked(void *ctx, int mid, bool is_refused)
{
    struct mqtt *m = ctx;
    char topic[MQTT_TOPIC_MAX] = "";
    bool is_known = false;
    pthread_mutex_lock(&m->lock);
    if (m->available_mid != 0 && mid == m->available_mid) {
        is_known = true;
        m->available_mid = 0;
        m->is_offline_acked |= m->is_offline_sent && !is_refused;
        snprintf(topic, sizeof topic, "%s", m->available_topic);
    }
    for (int i = 0; i < m->n_flights && !is_known; i++) {
        struct state *s = m->flights[i].state;
        if (m->flights[i].mid != mid)
            continue;
        is_known = true;
        full_topic(m, s->suffix, topic);
        m->flights[i] = m->flights[--m->n_flights];
        s->is_flying = false;
        if (s->is_changed) {
            s->is_changed = false;
            mark_due(m, s);
        } else if (s->is_clear) {
            free_state(s);
        }
    }
    if (is_known && !is_refused)
        m->stats.published++;
    pthread_mutex_unlock(&m->lock);
    if (is_known && is_refused)
        count_refusal(m, topic, "the broker's policy does not allow it: check its access list");
}

static void on_message(void *ctx, const char *topic, const void *payload, size_t n_bytes, bool is_retained)
{
    struct mqtt *m = ctx;
    struct mqtt_command command = {0};
    const size_t n_prefix = strlen(m->prefix);
    const char *why = NULL;
    if (strncmp(topic, m->prefix, n_prefix) != 0 || topic[n_prefix] != '/')
        why = "not below the prefix";
    else if (is_retained)
        why = "retained: it may be an old one";
    else if (strlen(topic + n_prefix + 1) >= sizeof command.topic || n_bytes >= sizeof command.payload)
        why = "too long";
    else if (n_bytes > 0 && memchr(payload, '\0', n_bytes))
        why = "a NUL in the payload";
    if (!why) {
        memcpy(command.topic, topic + n_prefix + 1, strlen(topic + n_prefix + 1));
        if (n_bytes > 0)
            memcpy(command.payload, payload, n_bytes);
        if (queue_push(&m->commands, &command) == 0)
            return;
        why = "too many at once";
    }
    log_warning("mqtt: ignoring a command topic=%s reason=\"%s\"", topic, why);
    pthread_mutex_lock(&m->lock);
    m->stats.ignored++;
    pthread_mutex_unlock(&m->lock);
}

/* ---- the thread ----------------------------------------------------------------------------------------------------------------- */

static void connect_if_due(struct mqtt *m, int64_t now_ns)
{
    struct err err = {0};
    if (m->is_under_way || now_ns < m->retry_ns)
        return;
    m->is_under_way = true;
    if (mqtt_link_connect(m->link, &err) != 0)
        on_down(m, err.text);
}

/*
 * The end: what is due, then `offline`. States may take half of the time; a broker that is slow to acknowledge them still gets
 * `offline` in the other half. An attempt to connect that is under way is waited for, a new one not begun. Returns true when the
 * thread may end.
 */
static bool step_close(struct mqtt *m, int64_t now_ns)
{
    if (now_ns >= m->close_ns || !m->is_under_way || m->is_offline_acked)
        return true;
    if (!mqtt_link_is_up(m->link) || m->is_offline_sent)
        return m->is_offline_sent && m->available_mid == 0; /* acknowledged by a refusal */
    pthread_mutex_lock(&m->lock);
    const bool is_idle = !m->first_due && m->n_telemetry == 0 && m->n_flights == 0;
    pthread_mutex_unlock(&m->lock);
    if (is_idle || now_ns >= m->give_up_ns)
        m->is_offline_sent = send_available(m, "offline");
    return false;
}

static int wait_ms(int64_t until_ns, int64_t now_ns, int most_ms)
{
    if (until_ns <= now_ns)
        return 0;
    const int64_t ms = (until_ns - now_ns + CLOCK_MS - 1) / CLOCK_MS;
    return ms < most_ms ? (int)ms : most_ms;
}

static void *mqtt_main(void *arg)
{
    struct mqtt *m = arg;
    for (;;) {
        const int64_t now_ns = clock_now_ns();
        pthread_mutex_lock(&m->lock);
        m->stats.heartbeat_ns = now_ns;
        const bool is_closing = m->is_closing, is_held = m->is_held;
        pthread_mutex_unlock(&m->lock);

        if (!is_held && (!is_closing || m->backoff_ns == 0)) /* one attempt even where it is closed at once */
            connect_if_due(m, now_ns);
        const bool is_more = !m->is_offline_sent && send_due(m);
        if (is_closing && step_close(m, now_ns))
            break;

        int timeout_ms = is_more ? 0 : ROUND_MS;
        if (!m->is_under_way && !is_held)
            timeout_ms = wait_ms(m->retry_ns, now_ns, timeout_ms);
        if (is_closing)
            timeout_ms = wait_ms(now_ns < m->give_up_ns ? m->give_up_ns : m->close_ns, now_ns, timeout_ms);
        struct pollfd fds[2] = {{.fd = m->wake_fd, .events = POLLIN},
                                {.fd = mqtt_link_fd(m->link), .events = mqtt_link_events(m->link)}};
        if (poll(fds, 2, timeout_ms) < 0)
            fds[0].revents = fds[1].revents = 0;
        if (fds[0].revents) {
            uint64_t count;
            const ssize_t n = read(m->wake_fd, &count, sizeof count);
            (void)n;
        }
        if (m->is_under_way)
            mqtt_link_step(m->link, fds[1].revents);
    }
    mqtt_link_close(m->link);
    m->link = NULL;
    return NULL;
}

/* ---- life cycle ----------------------------------------------------------------------------------------------------------------- */

static char *text_of(const char *fmt, const char *a, const char *b) __attribute__((format(printf, 1, 0)));
static char *text_of(const char *fmt, const char *a, const char *b)
{
    char *text = NULL;
    return asprintf(&text, fmt, a, b) < 0 ? NULL : text;
}

/* The same after every start, different on every box and for two daemons on one; the machine's id itself does not leave it. */
static void make_client_id(const char *prefix, char out[32])
{
    const uint64_t h = rng_at(machine_hash(), rng_hash(prefix, strlen(prefix)));
    snprintf(out, 32, "heron-%08x", (unsigned)(h >> 32));
}

static bool is_plain_topic(const char *topic)
{
    return topic[0] && !strpbrk(topic, "+#") && utf8_valid(topic, strlen(topic));
}

static int copy_options(struct mqtt *m, const struct mqtt_options *o, int port, struct err *err)
{
    m->backoff_min_ns = o->backoff_min_ns > 0 ? o->backoff_min_ns : BACKOFF_MIN_NS;
    m->backoff_max_ns = o->backoff_max_ns > 0 ? o->backoff_max_ns : BACKOFF_MAX_NS;
    if (m->backoff_max_ns < m->backoff_min_ns)
        m->backoff_max_ns = m->backoff_min_ns;
    if (!o->prefix || !is_plain_topic(o->prefix) || strlen(o->prefix) > MQTT_TOPIC_MAX / 2)
        return err_set(err, ERR_INVAL, "mqtt.topic_prefix: up to %d bytes without + and # are needed, not \"%s\"",
                       MQTT_TOPIC_MAX / 2, o->prefix ? o->prefix : "");
    m->prefix = strdup(o->prefix);
    m->available_topic = text_of("%s/%s", o->prefix, "available");
    bool is_whole = m->prefix && m->available_topic;
    for (const char *const *s = o->subscriptions; s && *s; s++) {
        if (m->n_subscriptions == SUBSCRIPTIONS || strlen(*s) + strlen(o->prefix) + 2 > MQTT_TOPIC_MAX)
            return err_set(err, ERR_INVAL, "mqtt: up to %d subscriptions are possible, below %d bytes each", SUBSCRIPTIONS,
                           MQTT_TOPIC_MAX);
        m->subscriptions[m->n_subscriptions] = strdup(*s);
        is_whole = is_whole && m->subscriptions[m->n_subscriptions];
        m->n_subscriptions++;
    }
    snprintf(m->stats.broker, sizeof m->stats.broker, "%s:%d", o->host ? o->host : "", port);
    m->stats.since_ns = m->stats.heartbeat_ns = clock_now_ns();
    return is_whole ? 0 : err_set(err, ERR_NOMEM, "mqtt: no memory");
}

static int open_link(struct mqtt *m, const struct mqtt_options *o, int port, struct err *err)
{
    char made_id[32];
    if (!o->client_id)
        make_client_id(o->prefix, made_id);
    m->client_id = strdup(o->client_id ? o->client_id : made_id);
    if (!m->client_id)
        return err_set(err, ERR_NOMEM, "mqtt: no memory");
    int64_t keepalive_s = o->keepalive_ns > 0 ? o->keepalive_ns / CLOCK_S : 60;
    if (keepalive_s > 65535)
        keepalive_s = 65535;
    const struct mqtt_link_options link = {
        .host = o->host,
        .port = port,
        .client_id = m->client_id,
        .username = o->username,
        .password = o->password,
        .keepalive_s = (int)keepalive_s,
        .tls_ca = o->tls_ca,
        .tls_cert = o->tls_cert,
        .tls_key = o->tls_key,
        .will_topic = m->available_topic,
        .will_payload = "offline",
        .on_up = on_up,
        .on_down = on_down,
        .on_acked = on_acked,
        .on_message = on_message,
        .ctx = m,
    };
    return mqtt_link_open(&link, &m->link, err);
}

static int start_thread(struct mqtt *m, struct err *err)
{
    sigset_t all, before;
    sigfillset(&all); /* SIGPIPE too, as the link wants it */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    const int rc = pthread_create(&m->thread, NULL, mqtt_main, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return err_set(err, ERR_IO, "mqtt: no thread: %s", strerror(rc));
    m->has_thread = true;
    pthread_setname_np(m->thread, "mqtt");
    return 0;
}

int mqtt_open(const struct mqtt_options *options, struct mqtt **ret_mqtt, struct err *err)
{
    const int port = options->port > 0 ? options->port : options->tls_ca ? 8883 : 1883;
    struct mqtt *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(err, ERR_NOMEM, "mqtt: no memory");
    m->wake_fd = -1;
    m->is_held = options->is_held;
    pthread_mutex_init(&m->lock, NULL);
    if (getrandom(&m->rng.seed, sizeof m->rng.seed, GRND_NONBLOCK) != sizeof m->rng.seed)
        m->rng.seed = (uint64_t)clock_wall_ns() ^ (uint64_t)getpid() << 32;
    m->scratch = malloc(MQTT_PAYLOAD_MAX);
    m->states = calloc(MQTT_STATES_MAX, sizeof *m->states);
    m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = 0;
    if (!m->scratch || !m->states)
        rc = err_set(err, ERR_NOMEM, "mqtt: no memory");
    else if (m->wake_fd < 0)
        rc = err_set_errno(err, ERR_IO, "mqtt: eventfd");
    if (rc == 0)
        rc = queue_init(&m->commands, sizeof(struct mqtt_command), MQTT_COMMANDS_MAX, QUEUE_REFUSE, NULL, NULL, err);
    if (rc == 0)
        rc = copy_options(m, options, port, err);
    if (rc == 0)
        rc = open_link(m, options, port, err);
    if (rc == 0)
        rc = start_thread(m, err);
    if (rc != 0) {
        mqtt_close(m, 0);
        return rc;
    }
    *ret_mqtt = m;
    return 0;
}

void mqtt_begin(struct mqtt *m)
{
    pthread_mutex_lock(&m->lock);
    m->is_held = false;
    pthread_mutex_unlock(&m->lock);
    wake(m);
}

bool mqtt_close(struct mqtt *m, int64_t drain_ns)
{
    if (!m)
        return false;
    if (m->has_thread) {
        const int64_t now_ns = clock_now_ns();
        pthread_mutex_lock(&m->lock);
        m->is_closing = true;
        m->give_up_ns = now_ns + drain_ns / 2;
        m->close_ns = now_ns + drain_ns;
        pthread_mutex_unlock(&m->lock);
        wake(m);
        pthread_join(m->thread, NULL);
    }
    const bool is_acked = m->is_offline_acked;
    mqtt_link_close(m->link); /* where no thread had it */
    while (m->n_telemetry > 0)
        drop_telemetry(m);
    for (int i = 0; i < m->n_states; i++)
        free_state(&m->states[i]);
    for (int i = 0; i < m->n_subscriptions; i++)
        free(m->subscriptions[i]);
    queue_release(&m->commands);
    if (m->wake_fd >= 0)
        close(m->wake_fd);
    pthread_mutex_destroy(&m->lock);
    free(m->states);
    free(m->scratch);
    free(m->prefix);
    free(m->available_topic);
    free(m->client_id);
    free(m);
    return is_acked;
}

/* ---- what others call ----------------------------------------------------------------------------------------------------------- */

/* Whether P/<suffix> is one that a caller may publish. */
static int check_message(const struct mqtt *m, const char *suffix, size_t n_bytes, struct err *err)
{
    if (strlen(m->prefix) + strlen(suffix) + 2 > MQTT_TOPIC_MAX)
        return err_set(err, ERR_INVAL, "mqtt: the topic %s/%s is longer than %d bytes", m->prefix, suffix, MQTT_TOPIC_MAX - 1);
    if (!is_plain_topic(suffix) || strcmp(suffix, "available") == 0)
        return err_set(err, ERR_INVAL, "mqtt: %s/%s is no topic to publish on", m->prefix, suffix);
    if (n_bytes > MQTT_PAYLOAD_MAX)
        return err_set(err, ERR_INVAL, "mqtt: %zu bytes for %s/%s, %d is the most", n_bytes, m->prefix, suffix,
                       MQTT_PAYLOAD_MAX);
    return 0;
}

/* Under lock. */
static int store_payload(struct state *s, const void *payload, size_t n_bytes)
{
    if (n_bytes > s->cap_bytes) {
        unsigned char *bytes = realloc(s->payload, n_bytes);
        if (!bytes)
            return ERR_NOMEM;
        s->payload = bytes;
        s->cap_bytes = n_bytes;
    }
    memcpy(s->payload, payload, n_bytes);
    s->n_bytes = n_bytes;
    return 0;
}

int mqtt_set_state(struct mqtt *m, const char *suffix, const void *payload, size_t n_bytes, int qos, struct err *err)
{
    assert(qos == 0 || qos == 1);
    int rc = check_message(m, suffix, n_bytes, err);
    if (rc == 0 && n_bytes == 0)
        rc = err_set(err, ERR_INVAL, "mqtt: an empty payload would clear %s/%s", m->prefix, suffix);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&m->lock);
    struct state *s = find_state(m, suffix);
    const bool is_same = s && !s->is_clear && s->n_bytes == n_bytes && memcmp(s->payload, payload, n_bytes) == 0;
    const bool is_new = !s;
    if (is_new)
        s = make_state(m, suffix, &rc);
    if (s && !is_same)
        rc = store_payload(s, payload, n_bytes);
    if (s && rc == 0) {
        s->qos = qos;
        s->is_clear = false;
        if (!is_same)
            mark_due(m, s);
    } else if (s && is_new) {
        free_state(s); /* no memory for its value */
    }
    pthread_mutex_unlock(&m->lock);
    if (rc == ERR_FULL)
        return err_set(err, rc, "mqtt: no room for the state %s/%s, %d is the most", m->prefix, suffix, MQTT_STATES_MAX);
    if (rc != 0)
        return err_set(err, rc, "mqtt: no memory for %zu bytes", n_bytes);
    if (!is_same)
        wake(m);
    return 0;
}

void mqtt_clear_state(struct mqtt *m, const char *suffix)
{
    struct err err = {0};
    int rc = check_message(m, suffix, 0, &err);
    if (rc == 0) {
        pthread_mutex_lock(&m->lock);
        struct state *s = find_state(m, suffix);
        if (!s)
            s = make_state(m, suffix, &rc);
        if (s && !s->is_clear) {
            s->is_clear = true;
            s->n_bytes = 0;
            mark_due(m, s);
        }
        pthread_mutex_unlock(&m->lock);
        if (rc != 0)
            rc = err_set(&err, rc, "mqtt: no room to remember that %s/%s is to be cleared", m->prefix, suffix);
    }
    if (rc == 0)
        wake(m);
    else
        log_warning("ignoring the end of a state, it stays at the broker: %s", err.text);
}

void mqtt_send(struct mqtt *m, const char *suffix, const void *payload, size_t n_bytes)
{
    const size_t n_suffix = strlen(suffix) + 1;
    struct telemetry *t = NULL;
    if (check_message(m, suffix, n_bytes, NULL) == 0)
        t = malloc(sizeof *t + n_bytes + n_suffix);
    if (t) {
        *t = (struct telemetry){.n_bytes = n_bytes};
        if (n_bytes > 0)
            memcpy(t->payload, payload, n_bytes);
        t->suffix = (char *)t->payload + n_bytes;
        memcpy(t->suffix, suffix, n_suffix);
    }
    pthread_mutex_lock(&m->lock);
    const bool is_taken = t && m->stats.is_connected;
    if (is_taken) {
        if (m->n_telemetry == MQTT_TELEMETRY_MAX)
            drop_telemetry(m); /* the oldest: what is newer is worth more */
        if (m->last_telemetry)
            m->last_telemetry->next = t;
        else
            m->first_telemetry = t;
        m->last_telemetry = t;
        m->n_telemetry++;
    } else {
        m->stats.dropped++;
    }
    pthread_mutex_unlock(&m->lock);
    if (is_taken)
        wake(m);
    else
        free(t);
}

void mqtt_resync(struct mqtt *m)
{
    pthread_mutex_lock(&m->lock);
    if (m->stats.is_connected) /* otherwise the next connect does it */
        mark_all(m);
    pthread_mutex_unlock(&m->lock);
    wake(m);
}

int mqtt_command_fd(const struct mqtt *m)
{
    return queue_fd(&m->commands);
}

int mqtt_take_command(struct mqtt *m, struct mqtt_command *ret_command)
{
    return queue_pop(&m->commands, ret_command, 0);
}

void mqtt_get_stats(struct mqtt *m, struct mqtt_stats *ret_stats)
{
    pthread_mutex_lock(&m->lock);
    *ret_stats = m->stats;
    pthread_mutex_unlock(&m->lock);
}
