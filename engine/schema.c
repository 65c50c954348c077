#include "engine/schema.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* ---- compiling ------------------------------------------------------------------------------------------------------------------ */

struct compiler {
    struct en_schema *schema;
    struct err *err;
};

#define PATH_MAX_BYTES 512

static int refuse(struct compiler *c, int code, const char *path, const char *what, const char *name)
{
    return err_set(c->err, code, "%s: %s%s%s%s", path[0] ? path : "/", what, name ? " \"" : "", name ? name : "",
                   name ? "\"" : "");
}

static int add_node(struct compiler *c, enum schema_kind kind, int32_t *ret_node)
{
    struct en_schema *s = c->schema;
    if (s->n_nodes == SCHEMA_NODES_MAX)
        return err_set(c->err, ERR_INVAL, "the schema has more than %d values", SCHEMA_NODES_MAX);
    struct schema_node *more = realloc(s->nodes, ((size_t)s->n_nodes + 1) * sizeof *more);
    if (!more)
        return err_set(c->err, ERR_NOMEM, "out of memory: a schema");
    s->nodes = more;
    more[s->n_nodes] = (struct schema_node){.kind = kind};
    *ret_node = s->n_nodes++;
    return 0;
}

/* The path of a member: /properties/name, cut to fit. */
static void extend_path(char out[PATH_MAX_BYTES], const char *path, const char *name)
{
    snprintf(out, PATH_MAX_BYTES, "%.400s/%.100s", path, name);
}

/* The JSON pointer (RFC 6901) of a member. */
static int extend_pointer(struct compiler *c, char out[PATH_MAX_BYTES], const char *pointer, const char *name, const char *path)
{
    size_t n = (size_t)snprintf(out, PATH_MAX_BYTES, "%s/", pointer);
    for (; *name && n + 3 < PATH_MAX_BYTES; name++) {
        if (*name == '~' || *name == '/')
            out[n++] = '~';
        out[n++] = *name == '~' ? '0' : *name == '/' ? '1' : *name;
    }
    out[n < PATH_MAX_BYTES ? n : PATH_MAX_BYTES - 1] = '\0';
    return *name || n >= PATH_MAX_BYTES
               ? err_set(c->err, ERR_INVAL, "%.200s: names of properties are longer than %d bytes together", path,
                         PATH_MAX_BYTES - 3)
               : 0;
}

static const char *const known_words[] = {
    "type",    "properties", "required",         "additionalProperties", "enum",      "const",
    "minimum", "maximum",    "exclusiveMinimum", "exclusiveMaximum",     "minLength", "maxLength",
    "items",   "minItems",   "maxItems"};
static const char *const ignored_words[] = {"title", "description", "default", "examples", "$schema", "$id", "$comment"};

static bool is_word(const char *const *list, size_t n, const char *word)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], word) == 0)
            return true;
    return false;
}
#define IS_WORD(list, word) is_word(list, sizeof list / sizeof *list, word)

/* Keywords that mean something for a type; another type's are refused rather than ignored. */
static bool word_fits(const char *type, const char *word)
{
    static const struct {
        const char *type, *word;
    } fits[] = {{"object", "properties"}, {"object", "required"},          {"object", "additionalProperties"},
                {"array", "items"},       {"array", "minItems"},           {"array", "maxItems"},
                {"string", "minLength"},  {"string", "maxLength"},         {"integer", "minimum"},
                {"integer", "maximum"},   {"integer", "exclusiveMinimum"}, {"integer", "exclusiveMaximum"}};
    if (strcmp(word, "type") == 0)
        return true;
    for (size_t i = 0; i < sizeof fits / sizeof *fits; i++)
        if (strcmp(fits[i].type, type) == 0 && strcmp(fits[i].word, word) == 0)
            return true;
    return false;
}

static int get_count(struct compiler *c, json_t *value, const char *word, const char *path, int32_t otherwise, int32_t *ret)
{
    const json_t *v = json_object_get(value, word);
    if (!v) {
        *ret = otherwise;
        return 0;
    }
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > 1000000)
        return refuse(c, ERR_INVAL, path, "expected a whole number from 0 to 1000000 as", word);
    *ret = (int32_t)json_integer_value(v);
    return 0;
}

static int get_bound(struct compiler *c, json_t *value, const char *word, const char *path, int64_t step, bool is_min,
                     int64_t *bound)
{
    const json_t *v = json_object_get(value, word);
    if (!v)
        return 0;
    double d = json_number_value(v);
    if (!json_is_number(v) || fabs(d) > (double)SCHEMA_INTEGER_MOST)
        return refuse(c, ERR_INVAL, path, "expected a number within 9e15 of zero as", word);
    int64_t b = json_is_integer(v) ? json_integer_value(v) : (int64_t)(is_min ? ceil(d) : floor(d));
    if (step != 0 && (json_is_integer(v) || (double)b == d))
        b += step;
    if (is_min ? b > *bound : b < *bound)
        *bound = b;
    return 0;
}

static int set_text(struct compiler *c, struct schema_text *t, const char *bytes, size_t n)
{
    t->bytes = malloc(n + 1);
    if (!t->bytes)
        return err_set(c->err, ERR_NOMEM, "out of memory: a schema");
    memcpy(t->bytes, bytes, n);
    t->bytes[n] = '\0';
    t->n = (int32_t)n;
    return 0;
}

/* ---- literals ------------------------------------------------------------------------------------------------------------------------ */

static int add_alternative(struct compiler *c, int32_t node, const char *text, const char *path)
{
    struct schema_node *n = &c->schema->nodes[node];
    if (n->n_alternatives == SCHEMA_NODES_MAX)
        return err_set(c->err, ERR_INVAL, "%s: enum has more than %d values", path[0] ? path : "/", SCHEMA_NODES_MAX);
    for (int32_t i = 0; i < n->n_alternatives; i++)
        if (strcmp(n->alternatives[i].bytes, text) == 0)
            return refuse(c, ERR_INVAL, path, "the same value twice in enum:", text);
    struct schema_text *more = realloc(n->alternatives, ((size_t)n->n_alternatives + 1) * sizeof *more);
    if (!more)
        return err_set(c->err, ERR_NOMEM, "out of memory: a schema");
    n->alternatives = more;
    more[n->n_alternatives] = (struct schema_text){0};
    const int rc = set_text(c, &more[n->n_alternatives], text, strlen(text));
    if (rc == 0)
        n->n_alternatives++;
    return rc;
}

static int add_json_alternative(struct compiler *c, int32_t node, const json_t *value, const char *path)
{
    if (json_is_object(value) || json_is_array(value) || json_is_real(value))
        return refuse(c, ERR_UNSUPPORTED, path, "enum and const hold strings, whole numbers, booleans or null", NULL);
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    if (!text)
        return err_set(c->err, ERR_NOMEM, "out of memory: a schema");
    const int rc = add_alternative(c, node, text, path);
    free(text);
    return rc;
}

static bool value_has_type(const json_t *v, const char *type)
{
    return (json_is_string(v) && strcmp(type, "string") == 0) ||
           (json_is_integer(v) && (strcmp(type, "integer") == 0 || strcmp(type, "number") == 0)) ||
           (json_is_boolean(v) && strcmp(type, "boolean") == 0) || (json_is_null(v) && strcmp(type, "null") == 0);
}

/* enum, const, boolean and null */
static int compile_literal(struct compiler *c, json_t *value, const char *type, const char *path, const char *pointer,
                           int32_t *ret_node)
{
    int rc = add_node(c, SCHEMA_LITERAL, ret_node);
    if (rc != 0)
        return rc;
    json_t *list = json_object_get(value, "enum"), *only = json_object_get(value, "const");
    const char *key;
    json_t *member;
    json_object_foreach(
        value, key, member) if (strcmp(key, "enum") != 0 && strcmp(key, "const") != 0 && strcmp(key, "type") != 0 &&
                                !IS_WORD(ignored_words, key)) return refuse(c, ERR_UNSUPPORTED, path,
                                                                            "beside enum, const, boolean and null there is no",
                                                                            key);
    if (list && only)
        return refuse(c, ERR_INVAL, path, "enum and const together", NULL);
    if (list && (!json_is_array(list) || json_array_size(list) == 0))
        return refuse(c, ERR_INVAL, path, "enum is a list of at least one value", NULL);
    if (list) {
        size_t i;
        json_array_foreach(list, i, member)
        {
            if (type && !value_has_type(member, type))
                return refuse(c, ERR_INVAL, path, "a value of enum that is not of type", type);
            if ((rc = add_json_alternative(c, *ret_node, member, path)) != 0)
                return rc;
        }
    } else if (only) {
        if (type && !value_has_type(only, type))
            return refuse(c, ERR_INVAL, path, "const is not of type", type);
        if ((rc = add_json_alternative(c, *ret_node, only, path)) != 0)
            return rc;
    } else if (strcmp(type, "boolean") == 0) {
        if ((rc = add_alternative(c, *ret_node, "true", path)) != 0 || (rc = add_alternative(c, *ret_node, "false", path)) != 0)
            return rc;
    } else if ((rc = add_alternative(c, *ret_node, "null", path)) != 0) {
        return rc;
    }
    struct schema_node *n = &c->schema->nodes[*ret_node];
    n->common = n->alternatives[0].n;
    for (int32_t i = 1; i < n->n_alternatives; i++) {
        int32_t k = 0;
        while (k < n->common && k < n->alternatives[i].n && n->alternatives[i].bytes[k] == n->alternatives[0].bytes[k])
            k++;
        n->common = k;
    }
    n->path = pointer ? strdup(pointer) : NULL;
    return n->path || !pointer ? 0 : err_set(c->err, ERR_NOMEM, "out of memory: a schema");
}

/* ---- objects and arrays --------------------------------------------------------------------------------------------------------------- */

static int compile_object(struct compiler *c, json_t *value, const char *path, int depth, const char *pointer,
                          int32_t *ret_node);

/* `path` is the place in the schema, for errors; `pointer` the place in the instance, for scores; NULL inside an array. */
static int compile_at(struct compiler *c, json_t *value, const char *path, const char *pointer, int depth, int32_t *ret_node)
{
    if (!json_is_object(value))
        return refuse(c, ERR_UNSUPPORTED, path, "a schema is an object with a type", NULL);
    if (depth > SCHEMA_DEPTH_MAX)
        return err_set(c->err, ERR_INVAL, "%s: values are nested deeper than %d", path, SCHEMA_DEPTH_MAX);
    const char *word;
    json_t *member;
    json_object_foreach(value, word, member) if (!IS_WORD(known_words, word) && !IS_WORD(ignored_words, word)) return refuse(
        c, ERR_UNSUPPORTED, path, "unsupported keyword", word);
    const json_t *t = json_object_get(value, "type");
    const char *type = json_string_value(t);
    const bool is_choice = json_object_get(value, "enum") || json_object_get(value, "const");
    if (t && !type)
        return refuse(c, ERR_UNSUPPORTED, path, "type is one word, such as \"string\"", NULL);
    if (!type && !is_choice)
        return refuse(c, ERR_INVAL, path, "no type, enum or const", NULL);
    if (is_choice || strcmp(type, "boolean") == 0 || strcmp(type, "null") == 0)
        return compile_literal(c, value, type, path, pointer, ret_node);
    static const char *const types[] = {"object", "array", "string", "integer", "number"};
    if (!IS_WORD(types, type))
        return refuse(c, ERR_INVAL, path, "unknown type", type);
    json_object_foreach(value, word, member) if (!IS_WORD(ignored_words, word) && !word_fits(type, word))
    {
        char what[64];
        snprintf(what, sizeof what, "a value of type %s has no", type);
        return refuse(c, ERR_UNSUPPORTED, path, what, word);
    }
    if (strcmp(type, "object") == 0)
        return compile_object(c, value, path, depth, pointer, ret_node);
    int rc;
    struct schema_node node = {0};
    if (strcmp(type, "array") == 0) {
        node.kind = SCHEMA_ARRAY;
        if ((rc = get_count(c, value, "minItems", path, 0, &node.min_count)) != 0 ||
            (rc = get_count(c, value, "maxItems", path, node.min_count > SCHEMA_ITEMS_MAX ? node.min_count : SCHEMA_ITEMS_MAX,
                            &node.max_count)) != 0)
            return rc;
        json_t *items = json_object_get(value, "items");
        if (!items)
            return refuse(c, ERR_INVAL, path, "an array needs", "items");
        if (node.min_count > node.max_count)
            return refuse(c, ERR_INVAL, path, "minItems is above maxItems", NULL);
        if ((rc = add_node(c, SCHEMA_ARRAY, ret_node)) != 0)
            return rc;
        char below[PATH_MAX_BYTES];
        extend_path(below, path, "items");
        if ((rc = compile_at(c, items, below, NULL, depth + 1, &node.item)) != 0)
            return rc;
        c->schema->nodes[*ret_node] = node;
        return 0;
    }
    if (strcmp(type, "string") == 0) {
        node.kind = SCHEMA_STRING;
        if ((rc = get_count(c, value, "minLength", path, 0, &node.min_count)) != 0 ||
            (rc = get_count(c, value, "maxLength", path,
                            node.min_count > SCHEMA_STRING_MAX ? node.min_count : SCHEMA_STRING_MAX, &node.max_count)) != 0)
            return rc;
        if (node.min_count > node.max_count)
            return refuse(c, ERR_INVAL, path, "minLength is above maxLength", NULL);
    } else if (strcmp(type, "integer") == 0) {
        node.kind = SCHEMA_INTEGER;
        node.min = -999999999999999;
        node.max = 999999999999999;
        if ((rc = get_bound(c, value, "minimum", path, 0, true, &node.min)) != 0 ||
            (rc = get_bound(c, value, "exclusiveMinimum", path, 1, true, &node.min)) != 0 ||
            (rc = get_bound(c, value, "maximum", path, 0, false, &node.max)) != 0 ||
            (rc = get_bound(c, value, "exclusiveMaximum", path, -1, false, &node.max)) != 0)
            return rc;
        /* one bound beyond where numbers end that have none: the other gives way */
        const bool has_min = json_object_get(value, "minimum") || json_object_get(value, "exclusiveMinimum");
        const bool has_max = json_object_get(value, "maximum") || json_object_get(value, "exclusiveMaximum");
        if (node.min > node.max && !has_max)
            node.max = SCHEMA_INTEGER_MOST;
        if (node.min > node.max && !has_min)
            node.min = -SCHEMA_INTEGER_MOST;
        if (node.min > node.max)
            return refuse(c, ERR_INVAL, path, "no whole number is left between minimum and maximum", NULL);
    } else {
        node.kind = SCHEMA_NUMBER;
    }
    if ((rc = add_node(c, node.kind, ret_node)) == 0)
        c->schema->nodes[*ret_node] = node;
    return rc;
}

static int compile_object(struct compiler *c, json_t *value, const char *path, int depth, const char *pointer,
                          int32_t *ret_node)
{
    json_t *properties = json_object_get(value, "properties"), *required = json_object_get(value, "required");
    const json_t *more = json_object_get(value, "additionalProperties");
    if (more && !json_is_false(more))
        return refuse(c, ERR_UNSUPPORTED, path, "only false is possible as", "additionalProperties");
    if (properties && !json_is_object(properties))
        return refuse(c, ERR_INVAL, path, "expected an object as", "properties");
    if (required && !json_is_array(required))
        return refuse(c, ERR_INVAL, path, "expected a list of names as", "required");
    int rc = add_node(c, SCHEMA_OBJECT, ret_node);
    if (rc != 0)
        return rc;
    const size_t n = json_object_size(properties);
    struct schema_property *list = calloc(n + 1, sizeof *list);
    if (!list)
        return err_set(c->err, ERR_NOMEM, "out of memory: a schema");
    c->schema->nodes[*ret_node].properties = list; /* from here on released with the schema */
    const char *name;
    json_t *member;
    size_t i = 0;
    json_object_foreach(properties, name, member)
    {
        json_t *as_string = json_string(name);
        char *quoted = as_string ? json_dumps(as_string, JSON_ENCODE_ANY) : NULL;
        json_decref(as_string);
        char *key = NULL;
        if (!quoted || asprintf(&key, "%s:", quoted) < 0)
            key = NULL;
        free(quoted);
        rc = key ? set_text(c, &list[i].key, key, strlen(key)) : err_set(c->err, ERR_NOMEM, "out of memory: a schema");
        free(key);
        if (rc != 0)
            return rc;
        c->schema->nodes[*ret_node].n_properties = (int32_t)++i;
        char below[PATH_MAX_BYTES], property[PATH_MAX_BYTES], below_pointer[PATH_MAX_BYTES];
        extend_path(property, path, "properties");
        extend_path(below, property, name);
        if (pointer && (rc = extend_pointer(c, below_pointer, pointer, name, below)) != 0)
            return rc;
        if ((rc = compile_at(c, member, below, pointer ? below_pointer : NULL, depth + 1, &list[i - 1].node)) != 0)
            return rc;
    }
    size_t k;
    json_array_foreach(required, k, member)
    {
        const char *wanted = json_string_value(member);
        if (!wanted)
            return refuse(c, ERR_INVAL, path, "expected a list of names as", "required");
        bool found = false;
        i = 0;
        json_t *unused;
        json_object_foreach(properties, name, unused)
        {
            if (strcmp(name, wanted) == 0)
                found = list[i].required = true;
            i++;
        }
        if (!found)
            return refuse(c, ERR_INVAL, path, "required names a property that is not there:", wanted);
    }
    return 0;
}

int en_schema_compile(const char *json, size_t n_bytes, struct en_schema **ret_schema, struct err *err)
{
    if (n_bytes > SCHEMA_BYTES_MAX)
        return err_set(err, ERR_INVAL, "a schema of %zu bytes, %u are the most", n_bytes, SCHEMA_BYTES_MAX);
    json_error_t where;
    json_t *document = json_loadb(json, n_bytes, JSON_REJECT_DUPLICATES, &where);
    if (!document)
        return err_set(err, ERR_FORMAT, "line %d, column %d: %s", where.line, where.column, where.text);
    struct en_schema *s = calloc(1, sizeof *s);
    if (!s) {
        json_decref(document);
        return err_set(err, ERR_NOMEM, "out of memory: a schema");
    }
    s->refs = 1;
    s->document = document;
    struct compiler c = {.schema = s, .err = err};
    int32_t root;
    const int rc = compile_at(&c, document, "", "", 1, &root);
    if (rc != 0) {
        en_schema_unref(s);
        return rc;
    }
    *ret_schema = s;
    return 0;
}

struct en_schema *en_schema_ref(struct en_schema *schema)
{
    __atomic_add_fetch(&schema->refs, 1, __ATOMIC_RELAXED);
    return schema;
}

void en_schema_unref(struct en_schema *s)
{
    if (!s || __atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (int32_t i = 0; i < s->n_nodes; i++) {
        struct schema_node *n = &s->nodes[i];
        for (int32_t p = 0; p < n->n_properties; p++)
            free(n->properties[p].key.bytes);
        for (int32_t a = 0; a < n->n_alternatives; a++)
            free(n->alternatives[a].bytes);
        free(n->properties);
        free(n->alternatives);
        free(n->path);
    }
    free(s->nodes);
    json_decref(s->document);
    free(s);
}

/* ---- validating a finished text ----------------------------------------------------------------------------------------------------- */

static size_t code_points(const char *s)
{
    size_t n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

static int invalid(struct err *err, const char *path, const char *what)
{
    return err_set(err, ERR_FORMAT, "%s: %s", path[0] ? path : "/", what);
}

static int validate_at(const struct en_schema *s, int32_t node, json_t *value, const char *path, struct err *err)
{
    const struct schema_node *n = &s->nodes[node];
    char below[PATH_MAX_BYTES];
    switch (n->kind) {
    case SCHEMA_OBJECT: {
        if (!json_is_object(value))
            return invalid(err, path, "not an object");
        const char *name;
        json_t *member;
        for (int32_t p = 0; p < n->n_properties; p++) {
            json_t *key = json_loadb(n->properties[p].key.bytes, (size_t)n->properties[p].key.n - 1, JSON_DECODE_ANY, NULL);
            member = json_object_get(value, json_string_value(key));
            extend_path(below, path, json_string_value(key));
            json_decref(key);
            if (!member && n->properties[p].required)
                return invalid(err, below, "missing");
            const int rc = member ? validate_at(s, n->properties[p].node, member, below, err) : 0;
            if (rc != 0)
                return rc;
        }
        json_object_foreach(value, name, member)
        {
            bool known = false;
            for (int32_t p = 0; p < n->n_properties && !known; p++) {
                json_t *key = json_loadb(n->properties[p].key.bytes, (size_t)n->properties[p].key.n - 1, JSON_DECODE_ANY, NULL);
                known = strcmp(json_string_value(key), name) == 0;
                json_decref(key);
            }
            extend_path(below, path, name);
            if (!known)
                return invalid(err, below, "not in the schema");
        }
        return 0;
    }
    case SCHEMA_ARRAY:
        if (!json_is_array(value))
            return invalid(err, path, "not an array");
        if (json_array_size(value) < (size_t)n->min_count || json_array_size(value) > (size_t)n->max_count)
            return invalid(err, path, "too few or too many items");
        for (size_t i = 0; i < json_array_size(value); i++) {
            char index[24];
            snprintf(index, sizeof index, "%zu", i);
            extend_path(below, path, index);
            const int rc = validate_at(s, n->item, json_array_get(value, i), below, err);
            if (rc != 0)
                return rc;
        }
        return 0;
    case SCHEMA_STRING:
        if (!json_is_string(value))
            return invalid(err, path, "not a string");
        if (code_points(json_string_value(value)) < (size_t)n->min_count ||
            code_points(json_string_value(value)) > (size_t)n->max_count)
            return invalid(err, path, "too short or too long");
        return 0;
    case SCHEMA_INTEGER:
        if (!json_is_integer(value) || json_integer_value(value) < n->min || json_integer_value(value) > n->max)
            return invalid(err, path, "not a whole number in range");
        return 0;
    case SCHEMA_NUMBER: return json_is_number(value) ? 0 : invalid(err, path, "not a number");
    case SCHEMA_LITERAL: {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        bool found = false;
        for (int32_t a = 0; text && a < n->n_alternatives && !found; a++)
            found = strcmp(n->alternatives[a].bytes, text) == 0;
        free(text);
        return found ? 0 : invalid(err, path, "none of the values allowed");
    }
    }
    return 0;
}

int en_schema_validate(const struct en_schema *schema, const char *text, size_t n_bytes, struct err *err)
{
    json_error_t where;
    json_t *value = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
    if (!value)
        return err_set(err, ERR_FORMAT, "line %d, column %d: %s", where.line, where.column, where.text);
    const int rc = validate_at(schema, 0, value, "", err);
    json_decref(value);
    return rc;
}
