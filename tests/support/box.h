/*
 * box - a whole appliance in a folder: a tiny model, a configuration, state and socket, and the daemon as a process.
 *
 * Life cycle: box_init -> box_configure -> box_start, box_stop, ... as often as wanted -> box_release. The model is made once a test
 * program by the repository's make_model.
 *
 * Threads: one. Memory: a folder of test_temp_dir.
 */
#ifndef HERON_TESTS_BOX_H
#define HERON_TESTS_BOX_H

#include <stdbool.h>

#include "tests/support/broker.h"
#include "tests/support/program.h"
#include "tests/support/subscriber.h"

/* How long the tests wait for something to happen: shared cores and sanitizers are slow. */
#define BOX_PATIENCE_MS 60000

struct box {
    char folder[300], config[320], socket_path[320], state[320];
    struct program daemon;
};

/* Paths of the tiny model, made at the first call. */
const char *box_model(void);
const char *box_vision(void);

void box_init(struct box *box);

/* Stops what runs, and forgets. Takes a zeroed one. */
void box_release(struct box *box);

/*
 * Write the configuration: `engine:` with the tiny model, `mqtt:` for the broker (as it wants its clients), and the given lines, from `cameras:`
 * on; `thermal:` without sensors, unless the lines have another. engine_lines: instead of the tiny model's, or NULL.
 */
void box_configure(struct box *box, const struct broker *broker, const char *engine_lines, const char *lines);

/* Start the daemon. env: more variables, NULL-terminated, or NULL. */
void box_start(struct box *box, const char *const *env);

/* SIGTERM; returns its exit status. The test fails where it does not end. */
int box_stop(struct box *box);

/* What the daemon wrote to standard error so far, for messages; malloc'ed. */
char *box_log(const struct box *box);

/* `heron status --json`, malloc'ed; NULL: no daemon answers. */
char *box_status(const struct box *box);

/*
 * Every message of a subscriber against its schema; those to Heron (.../set) and cleared states apart. The test fails where one is refused, where
 * there is none, and where one of the topics (NULL-terminated, below "heron/") never came.
 */
void box_judge(struct subscriber *s, const char *const *topics);

/* A broker, a consumer of all its topics, and a box: what most tests of the whole begin with. */
struct box_rig {
    struct broker broker;
    struct box box;
    struct subscriber subscriber;
};

/* Set-up and tear-down of a cmocka test: *state is a zeroed struct box_rig; everything in it is ended. */
int box_set_up(void **state);
int box_tear_down(void **state);

/* Skips where mosquitto is missing. Starts broker and consumer; the box is to be configured and started. */
void box_rig_open(struct box_rig *r);

/* Skips where mosquitto or the judge is missing. Starts all three, the box with these `cameras:` lines. */
void box_rig_start(struct box_rig *r, const char *cameras, const char *const *env);

/* Wait for a message on a topic that holds the words, from the beginning of what came; the test fails where none comes. */
void box_await_words(struct subscriber *s, const char *topic, const char *words);

/* The value behind a JSON pointer without escapes ("/engine/ready") of a topic's latest payload, as JSON text; static. "" : none. */
const char *box_value(struct subscriber *s, const char *topic, const char *pointer);

#endif
