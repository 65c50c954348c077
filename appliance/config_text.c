/*
 * config_text - the sample file, the JSON Schema for editors and the list of keys, all made from config.def.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "appliance/config_table.h"

/* ---- sample -------------------------------------------------------------------------------------------------------------- */

static int depth_of(const char *path)
{
    int n = 0;
    for (const char *p = path; *p; p++)
        n += *p == '.';
    return n;
}

/* Length of the part of two paths, in whole words, that they share. */
static size_t shared(const char *a, const char *b)
{
    size_t n = 0;
    for (size_t i = 0;; i++) {
        if ((a[i] == '.' || !a[i]) && (b[i] == '.' || !b[i]))
            n = a[i] && b[i] ? i + 1 : i;
        if (!a[i] || a[i] != b[i])
            return n;
    }
}

/* Headings of the blocks that begin with this row. Blocks of which no key is shown are comments as a whole. */
static void print_blocks(FILE *out, const char *path, const char *before)
{
    size_t start = shared(path, before);
    while (start && path[start - 1] != '.')
        start--;
    for (const char *p = path + start; strchr(p, '.'); p = strchr(p, '.') + 1) {
        const int indent = 2 * depth_of(path) - 2 * depth_of(p);
        const int length = (int)strcspn(p, ".");
        char head[256];
        snprintf(head, sizeof head, "%.*s", (int)(p - path) + length, path);
        bool is_shown = false;
        for (int i = 0; i < CONFIG_KEY_COUNT; i++)
            is_shown |= strncmp(config_rows[i].path, head, strlen(head)) == 0 && (config_rows[i].flags & CONFIG_SHOWN);
        if (indent == 0)
            fputc('\n', out);
        const bool is_name = *p == '*';
        const char *name = is_name ? (indent == 2 ? "yard" : "blocked") : p;
        fprintf(out, "%s%*s%.*s:\n", is_shown ? "" : "#", indent, "", is_name ? (int)strlen(name) : length, name);
    }
}

char *config_sample(void)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (!out)
        return NULL;
    fputs(
        "# Heron's configuration. Lines that begin with # show defaults or examples: remove the # of a key, and of the names "
        "above\n"
        "# it that it belongs to. `heron check` says whether the file is right and what it takes. Files of conf.d beside this "
        "one\n"
        "# are read after it, in the order of their names; what they set counts. A reload (SIGHUP, `systemctl reload heron`)\n"
        "# applies keys marked (r); the others wait for a restart. Keys marked (later) are checked, but not active in this "
        "version.\n",
        out);
    const char *before = "";
    for (int i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_row *row = &config_rows[i];
        print_blocks(out, row->path, before);
        before = row->path;
        const bool is_shown = row->flags & CONFIG_SHOWN;
        const char *value = row->kind == CONFIG_SOURCE ? "synth:yard" : row->def ? row->def : row->words;
        char line[512];
        snprintf(line, sizeof line, "%s%*s%s: %s", is_shown ? "" : "#", 2 * depth_of(row->path), "", config_row_name(row),
                 value);
        fprintf(out, "%-43s # %s", line, row->help);
        if (row->kind == CONFIG_ENUM) {
            fputs(": ", out);
            for (const char *p = row->words; *p; p++)
                *p == '|' ? fputs(", ", out) : fputc(*p, out);
        }
        fprintf(out, "%s%s\n", row->flags & CONFIG_RELOAD ? " (r)" : "", row->flags & CONFIG_LATER ? " (later)" : "");
    }
    fputs("\n# The short form of a rule is its question alone:\n"
          "#     rules:\n"
          "#       no_vest: Is a person without a safety vest on the dock?\n",
          out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

char *config_help(void)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (!out)
        return NULL;
    for (int i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_row *row = &config_rows[i];
        fprintf(out, "%-42s %s", row->path, row->help);
        if (row->def)
            fprintf(out, " [%s]", row->def);
        fprintf(out, "%s\n", row->flags & CONFIG_LATER ? " (later)" : "");
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---- JSON Schema --------------------------------------------------------------------------------------------------------- */

static json_t *words_of(const char *words)
{
    json_t *list = json_array();
    for (const char *p = words; *p;) {
        const size_t length = strcspn(p, "|");
        json_array_append_new(list, json_stringn(p, length));
        p += length + (p[length] == '|');
    }
    return list;
}

static json_t *value_schema(const struct config_row *row)
{
    json_t *s = NULL;
    switch (row->kind) {
    case CONFIG_TEXT:
    case CONFIG_SOURCE:
        s = json_pack("{s:[ssss], s:I, s:I}", "type", "string", "number", "boolean", "null", "minLength", (json_int_t)row->min,
                      "maxLength", (json_int_t)row->max);
        break;
    case CONFIG_PATH:
    case CONFIG_SCHEMA: s = json_pack("{s:[ss]}", "type", "string", "null"); break;
    case CONFIG_INT:
        s = json_pack("{s:[ss], s:I, s:I}", "type", "integer", "null", "minimum", (json_int_t)row->min, "maximum",
                      (json_int_t)row->max);
        break;
    case CONFIG_BOOL: s = json_pack("{s:[bbssssn]}", "enum", 1, 0, "on", "off", "yes", "no"); break;
    case CONFIG_DURATION: s = json_pack("{s:[ss], s:s}", "type", "string", "null", "pattern", "^([0-9]+(d|h|m|s|ms))+$"); break;
    case CONFIG_SIZE:
        s = json_pack("{s:[sss], s:s}", "type", "string", "integer", "null", "pattern", "^[0-9]+([KMGT]iB|[kKMGT]B|B)?$");
        break;
    case CONFIG_ENUM: {
        json_t *words = words_of(row->words);
        json_array_append_new(words, json_null());
        s = json_pack("{s:o}", "enum", words);
        break;
    }
    case CONFIG_SECRET:
        s = json_pack("{s:[ss], s:i, s:i, s:b, s:{s:{s:s}, s:{s:s}, s:{s:s}}}", "type", "object", "null", "minProperties", 1,
                      "maxProperties", 1, "additionalProperties", 0, "properties", "credential", "type", "string", "file",
                      "type", "string", "env", "type", "string");
        break;
    case CONFIG_VOTES: s = json_pack("{s:[ss], s:s}", "type", "string", "null", "pattern", "^[0-9]+ of [0-9]+$"); break;
    case CONFIG_PROBABILITY: s = json_pack("{s:[ss], s:i, s:i}", "type", "number", "null", "minimum", 0, "maximum", 1); break;
    case CONFIG_LIST:
        s = json_pack("{s:[sss], s:I, s:{s:s}}", "type", "array", "string", "null", "maxItems", (json_int_t)row->max, "items",
                      "type", "string");
        break;
    }
    char help[400];
    snprintf(help, sizeof help, "%s%s%s%s%s", row->help, row->def ? " [" : "", row->def ? row->def : "", row->def ? "]" : "",
             row->flags & CONFIG_LATER ? " (not active in this version)" : "");
    json_object_set_new(s, "description", json_string(help));
    return s;
}

static json_t *new_block(void)
{
    return json_pack("{s:[ss], s:{}, s:b}", "type", "object", "null", "properties", "additionalProperties", 0);
}

/* The block that a row lies in, made on the way. Names that the user chooses are pattern properties. */
static json_t *block_of(json_t *root, const char *path)
{
    json_t *block = root;
    for (const char *p = path; strchr(p, '.'); p = strchr(p, '.') + 1) {
        char word[64];
        snprintf(word, sizeof word, "%.*s", (int)strcspn(p, "."), p);
        const bool is_name = strcmp(word, "*") == 0;
        const char *key = is_name ? "^[a-z0-9_]{1,48}$" : word;
        json_t *map = json_object_get(block, is_name ? "patternProperties" : "properties");
        if (!map) {
            map = json_object();
            json_object_set_new(block, "patternProperties", map);
        }
        json_t *next = json_object_get(map, key);
        if (!next) {
            next = new_block();
            json_object_set_new(map, key, next);
        }
        block = next;
    }
    return block;
}

char *config_json_schema(void)
{
    json_t *root = new_block();
    if (!root)
        return NULL;
    json_object_set_new(root, "$schema", json_string("https://json-schema.org/draft/2020-12/schema"));
    json_object_set_new(root, "title", json_string("Heron's configuration (made from appliance/config.def)"));
    for (int i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_row *row = &config_rows[i];
        json_object_set_new(json_object_get(block_of(root, row->path), "properties"), config_row_name(row), value_schema(row));
    }
    /* a rule may be its question alone */
    json_t *rules = block_of(root, "cameras.*.watch.rules.x");
    json_t *patterns = json_object_get(rules, "patternProperties");
    const char *name = "^[a-z0-9_]{1,48}$";
    json_t *rule = json_incref(json_object_get(patterns, name));
    json_object_set_new(patterns, name, json_pack("{s:[o, {s:s}]}", "anyOf", rule, "type", "string"));
    /* nothing is required: a file of conf.d may set a single key */
    char *text = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    char *with_newline = NULL;
    if (text && asprintf(&with_newline, "%s\n", text) < 0)
        with_newline = NULL;
    free(text);
    return with_newline;
}
