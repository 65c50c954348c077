/*
 * subscriber - what a consumer sees: every message of some topics in the order of its arrival, with flags. The client is a
 * mosquitto_sub child, a reference that is not ours; it comes back by itself when its broker does.
 *
 * Life cycle: subscriber_start (returns when the subscription stands) -> subscriber_await, subscriber_last ... ->
 * subscriber_release. Threads: one. Memory: all messages until the release; pointers to them stay good until then.
 */
#ifndef HERON_TESTS_SUBSCRIBER_H
#define HERON_TESTS_SUBSCRIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tests/support/broker.h"
#include "tests/support/program.h"

struct subscriber_message {
    char *topic;
    char *payload; /* a NUL stands behind its n_bytes */
    size_t n_bytes;
    bool is_retained; /* it lay at the broker when the subscription was made */
    int qos;
};

struct subscriber {
    struct program program;
    off_t read_bytes; /* of the child's output */
    struct subscriber_message **messages;
    size_t n, cap;
};

/* filter: "heron/#". */
void subscriber_start(struct subscriber *s, const struct broker *b, const char *filter);

/* Kills the child and frees the messages. Takes a zeroed one. */
void subscriber_release(struct subscriber *s);

/* How many messages there are by now: what comes later has at least this number. */
size_t subscriber_mark(struct subscriber *s);

/*
 * Wait for a message from number `from` on, of this topic (NULL: any), for which is_wanted says true (NULL: any). Returns the first, or NULL
 * when the time is over.
 */
const struct subscriber_message *subscriber_find(struct subscriber *s, size_t from, const char *topic,
                                                 bool (*is_wanted)(const struct subscriber_message *m, void *ctx), void *ctx,
                                                 int time_limit_ms);

/* The same for a payload (NULL: any), and the test fails where it does not come. */
const struct subscriber_message *subscriber_await(struct subscriber *s, size_t from, const char *topic, const char *payload);

/* The latest message of a topic, NULL if there is none; and how many there were from number `from` on. */
const struct subscriber_message *subscriber_last(struct subscriber *s, const char *topic);
size_t subscriber_count(struct subscriber *s, size_t from, const char *topic);

/*
 * Judge all messages so far against the schemas that config/topics.md names, as schema_judge_topics does: how many passed, or -1 with
 * the verdict in words. Commands, and the empty messages that clear a topic, are left out. Takes a folder of test_temp_dir.
 */
int subscriber_judge(struct subscriber *s, const char *prefix, char *verdict, size_t cap);

#endif
