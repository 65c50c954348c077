/*
 * random_schema - JSON Schemas of what the engine takes: every kind of value, nested, with keys and words that are hard to spell.
 */
#ifndef HERON_TESTS_SUPPORT_RANDOM_SCHEMA_H
#define HERON_TESTS_SUPPORT_RANDOM_SCHEMA_H

#include <jansson.h>

#include "base/rng.h"

/* The caller's. depth 0: the root, which has at most three levels below it. */
json_t *test_random_schema(struct rng *rng, int depth);

#endif
