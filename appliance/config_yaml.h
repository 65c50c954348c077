/*
 * config_yaml - a YAML 1.2 file as a tree whose nodes know their place. The only file that knows libfyaml.
 *
 * Life cycle: yaml_parse (or yaml_read) -> walk the nodes -> yaml_free. The nodes and the text belong to the file.
 *
 * What is accepted: one document; mappings with plain or quoted keys, sequences, scalars, anchors and aliases (an alias is the
 * anchor's node itself, so that a tree may share branches, never in a circle). Refused with a place: tags, merge keys, keys
 * that are no scalars, duplicate keys, a second document, invalid UTF-8, control characters, more than YAML_BYTES_MAX or
 * YAML_NODES_MAX (aliases count), more than 256 anchors, nesting beyond YAML_DEPTH_MAX. A syntax error ends the reading of that file; all other complaints
 * do not.
 *
 * Threads: one owner. Memory: heap, freed by yaml_free.
 */
#ifndef HERON_APPLIANCE_CONFIG_YAML_H
#define HERON_APPLIANCE_CONFIG_YAML_H

#include <stdbool.h>
#include <stddef.h>

#include "appliance/complaint.h"
#include "base/err.h"

#define YAML_BYTES_MAX (1u << 20)
#define YAML_NODES_MAX 20000
#define YAML_DEPTH_MAX 24

enum yaml_kind { YAML_NULL, YAML_SCALAR, YAML_MAPPING, YAML_SEQUENCE };

struct yaml_node {
    enum yaml_kind kind;
    bool is_plain;   /* a scalar without quotes */
    char *text;      /* SCALAR: NUL-terminated, holds no other NUL */
    size_t pos;      /* byte offset of its first character */
    size_t line_pos; /* of its line's first character */
    int line, col;
    int width; /* characters on its first line */
    /* MAPPING: keys[i] and items[i]; SEQUENCE: items[i] */
    struct yaml_node **keys, **items;
    int n, capacity;
};

struct yaml_file {
    char *name;
    char *text;
    size_t n_bytes;
    struct yaml_node *root; /* NULL where nothing could be read; YAML_NULL for an empty file */
    /* inside */
    struct yaml_node **nodes;
    int n_nodes, nodes_capacity;
};

/*
 * Parse n bytes; complaints name the file `name`. Returns 0 also with complaints, whose number tells; otherwise ERR_NOMEM. The
 * text is copied. *ret_file is always the caller's to free after 0.
 */
int yaml_parse(const char *name, const char *text, size_t n_bytes, struct complaints *complaints, struct yaml_file **ret_file,
               struct err *err);

/* The same from disk. A file that cannot be read is a complaint too. Errors: ERR_NOMEM. */
int yaml_read(const char *path, struct complaints *complaints, struct yaml_file **ret_file, struct err *err);

void yaml_free(struct yaml_file *file);

/* Where a node stands; borrowed from the file. */
struct place yaml_place(const struct yaml_file *file, const struct yaml_node *node);

#endif
