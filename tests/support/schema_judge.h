/*
 * schema_judge - payloads judged by python-jsonschema against config/schemas/, by way of tests/support/judge_payload.py.
 *
 * Threads: one. Memory: none kept. The tests run in the root of the repository.
 */
#ifndef HERON_TESTS_SUPPORT_SCHEMA_JUDGE_H
#define HERON_TESTS_SUPPORT_SCHEMA_JUDGE_H

#include <stdbool.h>
#include <stddef.h>

/* Whether python3-jsonschema is there; a test without it skips. */
bool schema_judge_is_there(void);

/*
 * Judge n payloads against a schema of config/schemas/ ("scene.json"). Returns how many were judged when all passed; -1 when any was refused
 * or the judge failed, with its words in verdict[cap]. A payload must hold no newline.
 */
int schema_judge(const char *schema, const char *const *payloads, int n, char *verdict, size_t cap);

/*
 * Judge a file of lines `topic<TAB>payload` against the schemas that config/topics.md names; a topic that is not there is refused.
 * The same results.
 */
int schema_judge_topics(const char *prefix, const char *path, char *verdict, size_t cap);

#endif
