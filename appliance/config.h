/*
 * config - what the user wrote, checked whole: /etc/heron/heron.yaml and *.yaml of conf.d beside it.
 *
 * The table config.def says which keys there are. Files are read in order (main file, then conf.d in byte order); each sets
 * what it names, so that a later file overrides single keys of an earlier one. All complaints are collected; a configuration
 * with an error is never handed out.
 *
 * Life cycle: config_load -> read the fields (immutable from then on) -> config_free.
 * Threads: immutable after load; any thread may read. Memory: heap, freed by config_free.
 */
#ifndef HERON_APPLIANCE_CONFIG_H
#define HERON_APPLIANCE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "appliance/complaint.h"
#include "appliance/secret.h"
#include "base/err.h"

#define CONFIG_CAMERAS_MAX 64
#define CONFIG_DEVICE_MAX  100 /* bytes of engine.device */
#define CONFIG_RULES_MAX   32  /* of one camera */
#define CONFIG_ID_MAX      48
#define CONFIG_LIST_MAX    16

/* Where the configuration is when nobody says otherwise. */
#define CONFIG_DEFAULT_PATH HERON_SYSCONFDIR "/heron/heron.yaml"

enum config_kv { CONFIG_KV_F16, CONFIG_KV_Q8_0, CONFIG_KV_F32 };
enum config_transport { CONFIG_TCP, CONFIG_UDP };

enum config_key {
#define KEY(scope, id, path, kind, field, min, max, def, words, flags, help) CONFIG_##id,
#include "appliance/config.def"
#undef KEY
    CONFIG_KEY_COUNT
};

/* Where a key was set; file NULL: nowhere, it has its default. The texts live as long as the config. */
struct config_places {
    struct place of[CONFIG_KEY_COUNT];
};

struct config_list {
    char *items[CONFIG_LIST_MAX];
    int n;
};

struct config_votes {
    int n, of;
};

struct config_rule {
    char id[CONFIG_ID_MAX + 1];
    struct place place;
    struct config_places places;
    char *ask;
    struct config_votes votes;
    int64_t cooldown_ns;
    int severity, on_unavailable;
    double threshold;
};

struct en_schema;

struct config_camera {
    char id[CONFIG_ID_MAX + 1];
    struct place place;
    struct config_places places;
    char *source, *username;
    struct secret_ref password;
    int transport;
    bool is_enabled, is_thinking;
    int64_t every_ns, deadline_ns, max_pixels, max_tokens;
    char *prompt;
    char *schema_path;        /* NULL: the default schema */
    char *schema_text;        /* the schema itself, JSON */
    struct en_schema *schema; /* compiled */
    struct config_rule rules[CONFIG_RULES_MAX];
    int n_rules;
};

struct config {
    struct {
        char *model, *vision, *device;
        int64_t context_tokens, batch, threads, memory_bytes;
        int kv; /* enum config_kv */
    } engine;
    struct {
        int64_t limit_c, resume_c;
        struct config_list sensors;
        int policy, blind; /* enum workload_policy; 1: pause */
    } thermal;
    struct {
        char *host, *topic_prefix, *client_id, *username;
        struct secret_ref password;
        int64_t port, keepalive_ns;
        char *tls_ca, *tls_cert, *tls_key;
        int compat;
        bool discovery;
        char *discovery_prefix;
    } mqtt;
    int log_level; /* enum log_level */
    struct config_camera **cameras;
    int n_cameras;
    /* about the files */
    struct config_places places;
    char *path;   /* the main file, as it was named */
    char sha[65]; /* SHA-256 of all values and schemas, hexadecimal: comments, order of keys and cameras do not change it */
    char **later; /* keys that were set and are not yet active, "cameras.dock.watch.rules"; for check and the start */
    int n_later;
    struct yaml_file **files; /* kept for the places */
    int n_files;
};

/*
 * Read, merge and check. `path`: the main file; conf.d lies beside it.
 *
 * complaints  gets all errors and warnings; zero-initialised by the caller, who releases it
 * ret_config  untouched unless there was no error
 *
 * Errors: ERR_INVAL (complaints say what); ERR_NOMEM.
 */
int config_load(const char *path, struct complaints *complaints, struct config **ret_config, struct err *err);

/* The same from memory, without conf.d: for the demo, tests and the fuzzer. `name` stands for the file in complaints. */
int config_load_text(const char *name, const char *text, size_t n_bytes, struct complaints *complaints,
                     struct config **ret_config, struct err *err);

void config_free(struct config *config);

const struct config_camera *config_camera_find(const struct config *config, const char *id);

/*
 * Compare two configurations. Keys that differ and wait for a restart are written to `out`, separated by ", "; returns their
 * number. Whatever else differs can be applied by reading the new one.
 */
int config_restart_keys(const struct config *now, const struct config *next, char *out, size_t cap);

/* Whether a camera must be opened anew (source, credentials, transport, enabled), and whether its watch differs. */
bool config_camera_source_differs(const struct config_camera *a, const struct config_camera *b);
bool config_camera_watch_differs(const struct config_camera *a, const struct config_camera *b);

/* The sample file, the JSON Schema for editors, and the list of keys, made from the table. Malloc'ed; NULL: out of memory. */
char *config_sample(void);
char *config_json_schema(void);
char *config_help(void);

/* The schema of a watch that names none: the text of config/schemas/observation-default.json. */
extern const char config_default_schema[];

#endif
