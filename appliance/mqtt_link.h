/*
 * mqtt_link - one connection to an MQTT broker, driven by its owner's poll(). The only file that knows libmosquitto.
 *
 * A link is told to connect, gives the descriptor and the events to wait for, and is stepped when they are there or a second has
 * passed. It never blocks (the broker's name is resolved, and TCP begun, on a detached helper thread), never retries by itself and
 * never sleeps: when to try again is its owner's business. MQTT 5 is tried first; a broker that refuses it, or only hangs up, is asked
 * with 3.1.1 at the next mqtt_link_connect. Where the name has IPv6 and IPv4 addresses, attempts that reach nobody take turns.
 *
 * Life cycle: mqtt_link_open -> mqtt_link_connect -> (poll, mqtt_link_step)* -> on_down -> mqtt_link_connect ... ->
 * mqtt_link_close.
 * Threads: one owner, which has SIGPIPE blocked; callbacks run inside mqtt_link_step on its thread and may publish and subscribe. The
 * helper outlives the link where a name server does not answer, once at most, and then frees what is its own.
 * Memory: what libmosquitto takes. Every connection is a new session in a new instance: nothing that was queued or
 * unacknowledged in the one before comes out in the next.
 */
#ifndef HERON_APPLIANCE_MQTT_LINK_H
#define HERON_APPLIANCE_MQTT_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "appliance/secret.h"
#include "base/err.h"

struct mqtt_link;

/* All texts are copied at open; the password is fetched by its reference at every connect and wiped. */
struct mqtt_link_options {
    const char *host;
    int port;
    const char *client_id; /* NULL: one made by the broker */
    const char *username;  /* NULL: none */
    struct secret_ref password;
    int keepalive_s; /* 5 to 65535, the nearest is taken; a silent broker is found out after at most twice that */
    const char *tls_ca, *tls_cert, *tls_key; /* tls_ca NULL: no TLS; otherwise 1.2 or newer, host name checked */
    const char *will_topic, *will_payload;   /* NULL: no will; otherwise retained, QoS 1 */
    int64_t connect_timeout_ns;              /* from mqtt_link_connect to CONNACK, name and TLS included; 0: 10 s */
    void (*on_up)(void *ctx);                /* CONNACK with success */
    /* The connection ended or did not come about; cause is a sentence without secrets. Not called after mqtt_link_close. */
    void (*on_down)(void *ctx, const char *cause);
    void (*on_acked)(void *ctx, int mid, bool is_refused); /* PUBACK of a QoS 1 message; refused: the broker's policy */
    void (*on_message)(void *ctx, const char *topic, const void *payload, size_t n_bytes, bool is_retained);
    void *ctx;
};

/*
 * Errors: ERR_NOMEM; ERR_INVAL (no host, a port out of range, TLS files that cannot be read: the key and the file are named). TLS files with
 * the wrong content are found out when connecting.
 */
int mqtt_link_open(const struct mqtt_link_options *options, struct mqtt_link **ret_link, struct err *err);

/*
 * Publishes nothing: a clean DISCONNECT is sent if the link is up, so that the will does not fire; a socket that is full is given 200 ms for
 * it. on_down is not called. Takes NULL.
 */
void mqtt_link_close(struct mqtt_link *link);

/*
 * Begin a connection; there must be none. 0 means under way; the outcome comes by on_up or on_down. On failure nothing is under way and
 * neither is called. Errors: ERR_IO (also: the helper of an earlier attempt still waits for the name server), ERR_NOMEM, and
 * secret_read's for the password.
 */
int mqtt_link_connect(struct mqtt_link *link, struct err *err);

bool mqtt_link_is_up(const struct mqtt_link *link);

/* For poll(): the descriptor, -1 while there is none, and POLLIN | POLLOUT. */
int mqtt_link_fd(const struct mqtt_link *link);
short mqtt_link_events(const struct mqtt_link *link);

/* After poll(), with what it returned (0 on a time-out); at least once a second. */
void mqtt_link_step(struct mqtt_link *link, short revents);

/* Publish. *ret_mid (may be NULL) names the message in on_acked. Errors: ERR_STATE (not up; nothing was queued), ERR_INVAL, ERR_NOMEM. */
int mqtt_link_publish(struct mqtt_link *link, const char *topic, const void *payload, size_t n_bytes, int qos, bool is_retained,
                      int *ret_mid, struct err *err);

/* Errors: ERR_STATE, ERR_INVAL. Subscriptions are to be made again in every on_up. */
int mqtt_link_subscribe(struct mqtt_link *link, const char *filter, int qos, struct err *err);

/* Bytes that wait for the socket to take them: whether to hold telemetry back. */
bool mqtt_link_is_congested(const struct mqtt_link *link);

#endif
