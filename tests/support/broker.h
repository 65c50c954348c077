/*
 * broker - a real mosquitto on a free loopback port as a process of its own, to be killed, frozen and brought back.
 *
 * Life cycle: broker_start -> broker_kill, broker_restart, broker_freeze, broker_thaw as wanted -> broker_release.
 * A broker_reserve in place of broker_start takes a port only: nobody listens there until broker_restart. The broker keeps nothing
 * on disk: after a restart no retained message is left. It dies with the test; the thread that starts it must outlive it.
 *
 * Threads: one. Memory: a folder of test_temp_dir for all.
 */
#ifndef HERON_TESTS_BROKER_H
#define HERON_TESTS_BROKER_H

#include <stdbool.h>

#include "tests/support/program.h"

/* Everything may be NULL or 0. */
struct broker_options {
    const char *username, *password; /* otherwise anyone may come in */
    bool has_tls;                    /* a certificate for "localhost" is made, see broker_ca */
    bool wants_client_certificate;
    const char *lines; /* more lines of its configuration, "max_keepalive 10\n" */
};

struct broker {
    int port;
    char config[320], ca[320], client_cert[320], client_key[320];
    char username[64], password[64];
    struct program program; /* its log is standard error */
    bool is_frozen;
};

/* Whether mosquitto and its clients are installed; a test without them skips. */
bool broker_is_there(void);

/* The path of a program that comes with it, "mosquitto_sub"; NULL: not installed. Static text. */
const char *broker_tool(const char *name);

/* Return when it listens; the test fails where it does not. `options` may be NULL. */
void broker_start(struct broker *b, const struct broker_options *options);
void broker_reserve(struct broker *b, const struct broker_options *options);

void broker_kill(struct broker *b); /* SIGKILL, and reaped */

/* On the same port with the same options, whether or not it runs. */
void broker_restart(struct broker *b);

/* SIGSTOP: it accepts connections and takes bytes, as the kernel does that, and answers nothing. SIGCONT. */
void broker_freeze(struct broker *b);
void broker_thaw(struct broker *b);

/* Kill and forget. Takes a zeroed one. */
void broker_release(struct broker *b);

/* Publish with mosquitto_pub (QoS 1, TLS and credentials as the broker wants them) and wait until it is acknowledged. */
void broker_publish(const struct broker *b, const char *topic, const char *payload, bool is_retained);

/* The arguments by which a client of mosquitto's own reaches the broker; returns how many were written to args[24]. */
int broker_client_args(const struct broker *b, const char **args, char port_text[8]);

/* A loopback port on which nothing listens. */
int broker_free_port(void);

#endif
