/*
 * config_table - config.def as data, and how one value of it is read, compared and printed. Inside the config files only.
 *
 * Threads: pure functions. Memory: values own what they point to; config_value_clear frees it.
 */
#ifndef HERON_APPLIANCE_CONFIG_TABLE_H
#define HERON_APPLIANCE_CONFIG_TABLE_H

#include "appliance/config.h"
#include "appliance/config_yaml.h"

enum config_kind {
    CONFIG_TEXT,
    CONFIG_PATH,
    CONFIG_SOURCE,
    CONFIG_SCHEMA,
    CONFIG_INT,
    CONFIG_BOOL,
    CONFIG_DURATION,
    CONFIG_SIZE,
    CONFIG_ENUM,
    CONFIG_SECRET,
    CONFIG_VOTES,
    CONFIG_PROBABILITY,
    CONFIG_LIST,
};

enum config_scope { CONFIG_ROOT, CONFIG_CAMERA, CONFIG_RULE };

enum config_flags {
    CONFIG_RELOAD = 1,
    CONFIG_RESTART = 2,
    CONFIG_LATER = 4,
    CONFIG_SHOWN = 8,
    CONFIG_NEEDED = 16,
};

struct config_row {
    enum config_scope scope;
    const char *path;
    enum config_kind kind;
    size_t offset; /* of the field in the scope's struct */
    int64_t min, max;
    const char *def;
    const char *words;
    int flags;
    const char *help;
};

extern const struct config_row config_rows[CONFIG_KEY_COUNT];

/* The last word of a row's path. */
const char *config_row_name(const struct config_row *row);

/*
 * Set the field of `scope` (struct config, config_camera or config_rule) from a node. `file` gives places and the folder that
 * relative paths start from. A bad value is a complaint and leaves the field alone. Returns false when it was bad.
 */
bool config_value_set(const struct config_row *row, void *scope, const struct yaml_file *file, const struct yaml_node *node,
                      const char *path, struct complaints *complaints);

/* Set it to its default. Returns false when memory ran out. */
bool config_value_default(const struct config_row *row, void *scope);

void config_value_clear(const struct config_row *row, void *scope);

/* Write it so that two values are the same text if and only if they are equal. For the digest; secrets are references only. */
void config_value_write(const struct config_row *row, const void *scope, FILE *out);

bool config_value_equal(const struct config_row *row, const void *a, const void *b);

/* "90s" "1h30m" "500ms" to nanoseconds; false: malformed. */
bool config_parse_duration(const char *text, int64_t *ret_ns);

/* "64MiB" "10GB" "4096" to bytes. */
bool config_parse_size(const char *text, int64_t *ret_bytes);

/* Nanoseconds as the shortest text that config_parse_duration reads back. */
void config_format_duration(int64_t ns, char *out, size_t cap);

/* Checks that need more than one key, and the files that keys name (schemas). Needs a whole config. Errors: ERR_NOMEM. */
int config_check(struct config *config, struct complaints *complaints, struct err *err);

#endif
