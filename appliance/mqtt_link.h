/*
 * mqtt_link - one connection to an MQTT broker, driven by its owner's poll(). The only file that knows libmosquitto.
 *
 * A link is told to connect, gives the descriptor and the events to wait for, and is stepped when they are there or a second has
 * passed. It never blocks but for the resolution of the broker's name, never retries by itself and never sleeps: when to
 * try again is its owner's business. MQTT 5 is tried first; a broker that refuses it is asked again with 3.1.1.
 *
 * Life cycle: mqtt_link_open -> mqtt_link_connect -> (poll, mqtt_link_step)* -> on_down -> mqtt_link_connect ... ->
 * mqtt_link_close.
 * Threads: one owner; callbacks run inside mqtt_link_step on its thread and may publish and subscribe. Memory: what
 * libmosquitto takes; messages of QoS 1 are kept by it until they are acknowledged, also over a reconnect.
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
    int keepalive_s;
    const char *tls_ca, *tls_cert, *tls_key; /* tls_ca NULL: no TLS; otherwise 1.2 or newer, host name checked */
    const char *will_topic, *will_payload;   /* NULL: no will; otherwise retained, QoS 1 */
    int64_t connect_timeout_ns;              /* from mqtt_link_connect to CONNACK; 0: 10 s */
    void (*on_up)(void *ctx);                /* CONNACK with success */
    /* The connection ended or did not come about; cause is a sentence without secrets. Not called after mqtt_link_close. */
    void (*on_down)(void *ctx, const char *cause);
    void (*on_acked)(void *ctx, int mid, bool is_refused); /* PUBACK of a QoS 1 message; refused: the broker's policy */
    void (*on_message)(void *ctx, const char *topic, const void *payload, size_t n_bytes, bool is_retained);
    void *ctx;
};

/* Errors: ERR_NOMEM; ERR_INVAL (TLS files that cannot be read, or do not belong together: the file is named). */
int mqtt_link_open(const struct mqtt_link_options *options, struct mqtt_link **ret_link, struct err *err);

/* Publishes nothing: a clean DISCONNECT is sent if the link is up, so that the will does not fire. Takes NULL. */
void mqtt_link_close(struct mqtt_link *link);

/* Begin a connection. 0 means under way; the outcome comes by on_up or on_down. Errors: ERR_IO, ERR_NOT_FOUND (name, password). */
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
