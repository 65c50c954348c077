/*
 * schema - a JSON Schema compiled to the tree that constrained decoding walks (constraint.h).
 *
 * Understood: type (object, array, string, integer, number, boolean, null), properties, required, additionalProperties (false, which is also what its absence
 * means here), enum and const (strings, integers, booleans, null), minimum, maximum, exclusiveMinimum, exclusiveMaximum (of integers),
 * minLength, maxLength (code points), items, minItems, maxItems. Read and ignored: title, description, default, examples, $schema, $id, $comment. Every other
 * keyword is refused by name and place. Where no maximum is given: strings have at most SCHEMA_STRING_MAX code points, arrays SCHEMA_ITEMS_MAX items.
 *
 * What is generated is compact JSON (no white space), properties in the schema's order, the required ones always, the others at will. Strings hold any
 * UTF-8, with the escapes \" \\ \/ \b \f \n \r \t and no others; numbers have at most 15 digits before and 6 behind the point and no exponent.
 *
 * Life cycle: en_schema_compile (engine.h) -> shared, immutable, reference-counted -> en_schema_unref. Threads: any.
 */
#ifndef HERON_ENGINE_SCHEMA_H
#define HERON_ENGINE_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"

#define SCHEMA_STRING_MAX   4096
#define SCHEMA_ITEMS_MAX    64
#define SCHEMA_INTEGER_MOST 9000000000000000 /* of bounds, either side of zero: exact in a double */
#define SCHEMA_DEPTH_MAX    24               /* nested values */
#define SCHEMA_BYTES_MAX    (1u << 20)       /* of the schema's text */
#define SCHEMA_NODES_MAX    4096
#define SCHEMA_CLOSE_MAX    16384 /* bytes of the shortest instance */

enum schema_kind { SCHEMA_OBJECT, SCHEMA_ARRAY, SCHEMA_STRING, SCHEMA_INTEGER, SCHEMA_NUMBER, SCHEMA_LITERAL };

/* A text with its length: a property's key with quotes and colon, or an alternative as JSON. */
struct schema_text {
    char *bytes;
    int32_t n;
};

struct schema_property {
    struct schema_text key; /* "name": */
    int32_t node;
    bool required;
};

struct schema_node {
    enum schema_kind kind;
    /* object */
    struct schema_property *properties;
    int32_t n_properties;
    /* array: items and their number; string: code points */
    int32_t item;
    int32_t min_count, max_count;
    /* integer, inclusive */
    int64_t min, max;
    /* literal: alternatives (enum, const, boolean, null), in the schema's order, all different */
    struct schema_text *alternatives;
    int32_t n_alternatives;
    int32_t common; /* bytes that all alternatives begin with */
    char *path;     /* JSON pointer of a literal; NULL inside an array, where it has no score */
};

struct en_schema {
    int refs;                  /* atomic */
    struct schema_node *nodes; /* [n_nodes]; 0 is the root */
    int32_t n_nodes;
    void *document; /* the parsed text, for validation */
};

#endif
