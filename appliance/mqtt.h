/*
 * mqtt - what Heron says to its broker, and what it hears from there. config/topics.md says which topics there are.
 *
 * A thread of its own drives one mqtt_link for ever: back-off from 1 to 60 s with jitter, the first attempt included.
 * Nobody who publishes ever waits for the broker.
 *
 *   states     retained; the last value wins, none is spooled. All are published again on every connect, then
 *              P/available = online. While one is unacknowledged a newer value waits, and overwrites.
 *   telemetry  not retained; dropped while the broker is away or slow, and the drop is counted
 *   commands   what comes in on the subscribed topics; those with the retain flag are ignored and counted
 *
 * The last will sets P/available = offline; mqtt_close publishes the same before it disconnects.
 *
 * Life cycle: mqtt_open -> mqtt_set_state, mqtt_send, mqtt_take_command ... -> mqtt_close.
 * Threads: every function from any thread; one mutex inside, never held while libmosquitto works or a name is resolved. Memory:
 * bounded by MQTT_STATES_MAX, MQTT_PAYLOAD_MAX and MQTT_TELEMETRY_MAX.
 */
#ifndef HERON_APPLIANCE_MQTT_H
#define HERON_APPLIANCE_MQTT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "appliance/secret.h"
#include "base/err.h"

#define MQTT_STATES_MAX    1024
#define MQTT_TELEMETRY_MAX 64 /* waiting at once */
#define MQTT_TOPIC_MAX     256
#define MQTT_PAYLOAD_MAX   65536
#define MQTT_COMMANDS_MAX  32
#define MQTT_COMMAND_BYTES 200

struct mqtt;

struct mqtt_options {
    const char *host;
    int port; /* 0: 8883 with TLS, otherwise 1883 */
    const char *prefix;
    const char *client_id; /* NULL: "heron-" and eight digits made from /etc/machine-id and the prefix */
    const char *username;
    struct secret_ref password;
    int64_t keepalive_ns;
    const char *tls_ca, *tls_cert, *tls_key;
    const char *const *subscriptions; /* below the prefix, "config/reload", "+/enabled/set"; NULL-terminated; NULL: none */
    int64_t backoff_min_ns, backoff_max_ns; /* 0: 1 s and 60 s; tests make them short */
    bool is_held; /* connect only after mqtt_begin: whoever is to hear `online` must find all states before it */
};

/* A message on a subscribed topic. */
struct mqtt_command {
    char topic[MQTT_COMMAND_BYTES]; /* below the prefix */
    char payload[MQTT_COMMAND_BYTES];
};

struct mqtt_stats {
    bool is_connected;
    int64_t since_ns;     /* of the present state, monotonic */
    uint64_t connects;    /* successful ones */
    uint64_t published;   /* messages handed to the broker, QoS 1 counted at PUBACK */
    uint64_t dropped;     /* telemetry that was not sent */
    uint64_t refused;     /* by the broker's policy */
    uint64_t ignored;     /* retained, oversized or overflowing commands */
    int64_t heartbeat_ns; /* when the thread last went round its loop */
    char last_error[256]; /* why it is not, or was last not, connected; "" if never. No secrets */
    char broker[300];     /* host:port */
};

/* Texts are copied. The thread starts at once; an absent broker is no error. Errors: ERR_NOMEM, ERR_INVAL (TLS files), ERR_IO. */
int mqtt_open(const struct mqtt_options *options, struct mqtt **ret_mqtt, struct err *err);

/* End is_held: all states are set that the first `online` is to follow. */
void mqtt_begin(struct mqtt *mqtt);

/*
 * Send what is still to be sent, P/available = offline last, within drain_ns, disconnect, end the thread, free. Takes NULL.
 * Returns true when the broker acknowledged `offline`; false: it was away.
 */
bool mqtt_close(struct mqtt *mqtt, int64_t drain_ns);

/*
 * Set the retained state P/<suffix>. An equal payload is not sent again. Copies; never blocks on the network. qos 0 or 1.
 * Errors: ERR_FULL (MQTT_STATES_MAX), ERR_INVAL (too long), ERR_NOMEM.
 */
int mqtt_set_state(struct mqtt *mqtt, const char *suffix, const void *payload, size_t n_bytes, int qos, struct err *err);

/* Forget a state and clear it at the broker with an empty retained message, now or when it is back. */
void mqtt_clear_state(struct mqtt *mqtt, const char *suffix);

/* Send P/<suffix> unretained with QoS 0, or drop and count it. */
void mqtt_send(struct mqtt *mqtt, const char *suffix, const void *payload, size_t n_bytes);

/* Publish all states again (resync). */
void mqtt_resync(struct mqtt *mqtt);

/* Readable while a command waits: for poll(). ERR_AGAIN: none. */
int mqtt_command_fd(const struct mqtt *mqtt);
int mqtt_take_command(struct mqtt *mqtt, struct mqtt_command *ret_command);

void mqtt_get_stats(struct mqtt *mqtt, struct mqtt_stats *ret_stats);

#endif
