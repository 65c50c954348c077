#include "appliance/config.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "appliance/config_table.h"
#include "appliance/digest.h"
#include "appliance/nearest.h"
#include "engine/engine.h"

#define PATH_BYTES 512

/* One file being walked. */
struct walk {
    struct config *config;
    const struct yaml_file *file;
    struct complaints *complaints;
    bool no_memory;
};

/* What a block of keys is about. */
struct section {
    const char *pattern; /* of the table: "cameras.*.watch"; "" at the top */
    const char *path;    /* as the user wrote it: "cameras.dock.watch" */
    enum config_scope scope;
    void *target;
    struct config_places *places;
};

/* ---- the table ----------------------------------------------------------------------------------------------------------- */

static void join(char *out, size_t cap, const char *head, const char *tail)
{
    snprintf(out, cap, "%s%s%s", head, *head ? "." : "", tail);
}

static const struct config_row *find_row(const char *pattern)
{
    for (int i = 0; i < CONFIG_KEY_COUNT; i++)
        if (strcmp(config_rows[i].path, pattern) == 0)
            return &config_rows[i];
    return NULL;
}

/* Whether rows lie below a pattern. */
static bool is_section(const char *pattern)
{
    const size_t n = strlen(pattern);
    for (int i = 0; i < CONFIG_KEY_COUNT; i++)
        if (strncmp(config_rows[i].path, pattern, n) == 0 && config_rows[i].path[n] == '.')
            return true;
    return false;
}

/* The words that may follow a pattern, offered to `near`. */
static void offer_words(struct nearest *near, const char *pattern, char (*store)[64], int *n_store, int max)
{
    const size_t n = strlen(pattern);
    for (int i = 0; i < CONFIG_KEY_COUNT && *n_store < max; i++) {
        const char *path = config_rows[i].path;
        if (n && (strncmp(path, pattern, n) != 0 || path[n] != '.'))
            continue;
        const char *word = path + n + (n > 0);
        snprintf(store[*n_store], sizeof store[0], "%.*s", (int)strcspn(word, "."), word);
        bool is_known = false;
        for (int k = 0; k < *n_store; k++)
            is_known |= strcmp(store[k], store[*n_store]) == 0;
        if (!is_known)
            nearest_offer(near, store[(*n_store)++]);
    }
}

static void unknown_key(struct walk *w, const struct section *s, const struct yaml_node *key, const char *path)
{
    char words[CONFIG_KEY_COUNT][64];
    int n_words = 0;
    struct nearest near = {.word = key->text};
    offer_words(&near, s->pattern, words, &n_words, CONFIG_KEY_COUNT);
    struct place place = yaml_place(w->file, key);
    char all[300] = "";
    if (strchr(key->text, '.') && !strchr(key->text, '*')) {
        complaint_add(w->complaints, &place, path,
                      "unknown key \"%s\": names with a dot are blocks, such as `mqtt: { port: 1883 }`", key->text);
        return;
    }
    if (near.best) {
        if (strcmp(near.best, "password") == 0)
            place.line_text = NULL; /* it may hold one */
        complaint_add(w->complaints, &place, path, "unknown key \"%s\": did you mean \"%s\"?", key->text, near.best);
        return;
    }
    size_t n = 0;
    for (int i = 0; i < n_words && n < sizeof all; i++)
        n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", i ? ", " : "", words[i]);
    complaint_add(w->complaints, &place, path, "unknown key \"%s\"; known here: %s", key->text, all);
}

/* ---- names --------------------------------------------------------------------------------------------------------------- */

static bool check_id(struct walk *w, const struct yaml_node *key, const char *path, const char *what, bool is_camera)
{
    static const char *const reserved[] = {"available", "events", "stats",   "status",  "thermal", "config",
                                           "resync",    "reply",  "restart", "reviews", NULL};
    const struct place place = yaml_place(w->file, key);
    const size_t n = strlen(key->text);
    if (n < 1 || n > CONFIG_ID_MAX || strspn(key->text, "abcdefghijklmnopqrstuvwxyz0123456789_") != n) {
        complaint_add(w->complaints, &place, path,
                      "\"%.60s\" cannot name a %s: 1 to %d of the characters a-z, 0-9 and _ (it becomes part of a topic)",
                      key->text, what, CONFIG_ID_MAX);
        return false;
    }
    for (int i = 0; is_camera && reserved[i]; i++)
        if (strcmp(key->text, reserved[i]) == 0) {
            complaint_add(w->complaints, &place, path, "\"%s\" cannot name a camera: Heron has a topic of that name",
                          key->text);
            return false;
        }
    return true;
}

static bool set_defaults(enum config_scope scope, void *target)
{
    for (int i = 0; i < CONFIG_KEY_COUNT; i++)
        if (config_rows[i].scope == scope && !config_value_default(&config_rows[i], target))
            return false;
    return true;
}

static void clear_scope(enum config_scope scope, void *target)
{
    for (int i = 0; i < CONFIG_KEY_COUNT; i++)
        if (config_rows[i].scope == scope)
            config_value_clear(&config_rows[i], target);
}

static struct config_camera *camera_of(struct walk *w, const struct yaml_node *key)
{
    struct config *c = w->config;
    for (int i = 0; i < c->n_cameras; i++)
        if (strcmp(c->cameras[i]->id, key->text) == 0)
            return c->cameras[i];
    if (c->n_cameras == CONFIG_CAMERAS_MAX) {
        const struct place place = yaml_place(w->file, key);
        complaint_add(w->complaints, &place, "cameras", "more than %d cameras", CONFIG_CAMERAS_MAX);
        return NULL;
    }
    struct config_camera *camera = calloc(1, sizeof *camera);
    if (!camera || !set_defaults(CONFIG_CAMERA, camera)) {
        if (camera)
            clear_scope(CONFIG_CAMERA, camera);
        free(camera);
        w->no_memory = true;
        return NULL;
    }
    snprintf(camera->id, sizeof camera->id, "%s", key->text);
    camera->place = yaml_place(w->file, key);
    struct config_camera **more = realloc(c->cameras, (size_t)(c->n_cameras + 1) * sizeof *more);
    if (!more) {
        clear_scope(CONFIG_CAMERA, camera);
        free(camera);
        w->no_memory = true;
        return NULL;
    }
    c->cameras = more;
    return c->cameras[c->n_cameras++] = camera;
}

static struct config_rule *rule_of(struct walk *w, struct config_camera *camera, const struct yaml_node *key)
{
    for (int i = 0; i < camera->n_rules; i++)
        if (strcmp(camera->rules[i].id, key->text) == 0)
            return &camera->rules[i];
    if (camera->n_rules == CONFIG_RULES_MAX) {
        const struct place place = yaml_place(w->file, key);
        char path[CONFIG_ID_MAX + 40];
        snprintf(path, sizeof path, "cameras.%s.watch.rules", camera->id);
        complaint_add(w->complaints, &place, path, "more than %d rules for one camera", CONFIG_RULES_MAX);
        return NULL;
    }
    struct config_rule *rule = &camera->rules[camera->n_rules];
    if (!set_defaults(CONFIG_RULE, rule)) {
        w->no_memory = true;
        return NULL;
    }
    camera->n_rules++;
    snprintf(rule->id, sizeof rule->id, "%s", key->text);
    rule->place = yaml_place(w->file, key);
    return rule;
}

/* ---- walking ------------------------------------------------------------------------------------------------------------- */

static void note_later(struct walk *w, const char *path)
{
    struct config *c = w->config;
    for (int i = 0; i < c->n_later; i++)
        if (strcmp(c->later[i], path) == 0)
            return;
    char **more = realloc(c->later, (size_t)(c->n_later + 1) * sizeof *more);
    char *copy = strdup(path);
    if (more)
        c->later = more;
    if (!more || !copy) {
        free(copy);
        w->no_memory = true;
        return;
    }
    c->later[c->n_later++] = copy;
}

static void set_row(struct walk *w, const struct section *s, const struct config_row *row, const struct yaml_node *item,
                    const char *path)
{
    const int errors_before = w->complaints->n_errors;
    if (!config_value_set(row, s->target, w->file, item, path, w->complaints)) {
        w->no_memory |= w->complaints->n_errors == errors_before; /* failed without a complaint */
        return;
    }
    s->places->of[row - config_rows] = yaml_place(w->file, item);
    if ((row->flags & CONFIG_LATER) && s->scope == CONFIG_ROOT)
        note_later(w, path);
}

static void walk_section(struct walk *w, const struct section *s, const struct yaml_node *node);

static void expect_block(struct walk *w, const struct yaml_node *item, const char *path)
{
    const struct place place = yaml_place(w->file, item);
    complaint_add(w->complaints, &place, path, "%s is a block of keys, not %s", path,
                  item->kind == YAML_SEQUENCE ? "a list" : "a single value");
}

static void walk_camera(struct walk *w, const struct yaml_node *key, const struct yaml_node *item, const char *path)
{
    if (!check_id(w, key, path, "camera", true))
        return;
    struct config_camera *camera = camera_of(w, key);
    if (!camera)
        return;
    const struct section s = {"cameras.*", path, CONFIG_CAMERA, camera, &camera->places};
    if (item->kind == YAML_MAPPING)
        walk_section(w, &s, item);
    else if (item->kind != YAML_NULL)
        expect_block(w, item, path);
}

static void walk_rule(struct walk *w, const struct section *rules, const struct yaml_node *key, const struct yaml_node *item,
                      const char *path)
{
    if (!check_id(w, key, path, "rule", false))
        return;
    struct config_rule *rule = rule_of(w, rules->target, key);
    if (!rule)
        return;
    note_later(w, rules->path);
    const struct section s = {"cameras.*.watch.rules.*", path, CONFIG_RULE, rule, &rule->places};
    if (item->kind == YAML_MAPPING)
        walk_section(w, &s, item);
    else if (item->kind == YAML_SCALAR) /* the short form: a question */
        set_row(w, &s, &config_rows[CONFIG_rule_ask], item, path);
    else if (item->kind != YAML_NULL)
        expect_block(w, item, path);
}

static void walk_section(struct walk *w, const struct section *s, const struct yaml_node *node)
{
    char pattern[PATH_BYTES], path[PATH_BYTES];
    for (int i = 0; i < node->n && !w->no_memory; i++) {
        const struct yaml_node *key = node->keys[i], *item = node->items[i];
        if (strcmp(key->text, "<<") == 0 && key->is_plain)
            continue; /* said by the parser */
        join(path, sizeof path, s->path, key->text);
        join(pattern, sizeof pattern, s->pattern, key->text);
        const struct config_row *row = find_row(pattern);
        if (strcmp(s->pattern, "cameras") == 0)
            walk_camera(w, key, item, path);
        else if (strcmp(s->pattern, "cameras.*.watch.rules") == 0)
            walk_rule(w, s, key, item, path);
        else if (strpbrk(key->text, "*.") || (!row && !is_section(pattern)))
            unknown_key(w, s, key, path);
        else if (row)
            set_row(w, s, row, item, path);
        else if (item->kind == YAML_MAPPING)
            walk_section(w, &(struct section){pattern, path, s->scope, s->target, s->places}, item);
        else if (item->kind != YAML_NULL)
            expect_block(w, item, path);
    }
}

/* Walk one parsed file into the config, which keeps it. */
static int take_file(struct config *c, struct yaml_file *file, struct complaints *complaints, struct err *err)
{
    struct yaml_file **more = realloc(c->files, (size_t)(c->n_files + 1) * sizeof *more);
    if (!more) {
        yaml_free(file);
        return err_set(err, ERR_NOMEM, "out of memory: the configuration");
    }
    c->files = more;
    c->files[c->n_files++] = file;
    struct walk w = {.config = c, .file = file, .complaints = complaints};
    const struct section top = {"", "", CONFIG_ROOT, c, &c->places};
    if (file->root && file->root->kind == YAML_MAPPING)
        walk_section(&w, &top, file->root);
    else if (file->root && file->root->kind != YAML_NULL) {
        const struct place place = yaml_place(file, file->root);
        complaint_add(complaints, &place, NULL, "expected keys such as `cameras:` at the beginning of a line");
    }
    return w.no_memory ? err_set(err, ERR_NOMEM, "out of memory: the configuration") : 0;
}

/* ---- loading ------------------------------------------------------------------------------------------------------------- */

static int new_config(const char *path, struct config **ret_config, struct err *err)
{
    struct config *c = calloc(1, sizeof *c);
    if (!c || !(c->path = strdup(path)) || !set_defaults(CONFIG_ROOT, c)) {
        config_free(c);
        return err_set(err, ERR_NOMEM, "out of memory: the configuration");
    }
    *ret_config = c;
    return 0;
}

static void write_scope(FILE *out, enum config_scope scope, const void *target)
{
    for (int i = 0; i < CONFIG_KEY_COUNT; i++)
        if (config_rows[i].scope == scope) {
            fprintf(out, "%s=", config_rows[i].path);
            config_value_write(&config_rows[i], target, out);
            fputc('\n', out);
        }
}

static int by_id(const void *a, const void *b)
{
    return strcmp((*(struct config_camera *const *)a)->id, (*(struct config_camera *const *)b)->id);
}

/* The digest of what is in force, however it was written: values and schemas; cameras by name, rules as they stand. */
static int take_sha(struct config *c, struct err *err)
{
    struct digest *digest = NULL;
    char *text = NULL;
    size_t n = 0;
    struct config_camera **cameras = malloc((size_t)(c->n_cameras + 1) * sizeof *cameras);
    FILE *out = cameras ? open_memstream(&text, &n) : NULL;
    int rc = out ? digest_open(&digest, err) : err_set(err, ERR_NOMEM, "out of memory: the configuration's digest");
    if (rc == 0) {
        memcpy(cameras, c->cameras, (size_t)c->n_cameras * sizeof *cameras);
        qsort(cameras, (size_t)c->n_cameras, sizeof *cameras, by_id);
        write_scope(out, CONFIG_ROOT, c);
        for (int i = 0; i < c->n_cameras; i++) {
            fprintf(out, "camera %s\n", cameras[i]->id);
            write_scope(out, CONFIG_CAMERA, cameras[i]);
            fprintf(out, "schema %zu:%s\n", strlen(cameras[i]->schema_text), cameras[i]->schema_text);
            for (int k = 0; k < cameras[i]->n_rules; k++) {
                fprintf(out, "rule %s\n", cameras[i]->rules[k].id);
                write_scope(out, CONFIG_RULE, &cameras[i]->rules[k]);
            }
        }
    }
    if (out && fclose(out) != 0 && rc == 0)
        rc = err_set(err, ERR_NOMEM, "out of memory: the configuration's digest");
    if (rc == 0)
        digest_add(digest, text, n);
    if (digest)
        digest_take(digest, c->sha);
    free(text);
    free(cameras);
    return rc;
}

static int sort_complaints(const struct config *c, struct complaints *complaints, struct err *err)
{
    const char **names = malloc((size_t)(c->n_files + 1) * sizeof *names);
    if (!names)
        return err_set(err, ERR_NOMEM, "out of memory: complaints");
    for (int i = 0; i < c->n_files; i++)
        names[i] = c->files[i]->name;
    complaint_sort(complaints, names, c->n_files);
    free(names);
    return 0;
}

static int finish(struct config *c, struct complaints *complaints, struct config **ret_config, struct err *err)
{
    int rc = 0;
    bool is_readable = true;
    for (int i = 0; i < c->n_files; i++)
        is_readable &= c->files[i]->root != NULL;
    /* what needs the whole makes sense only where the whole was read */
    if (is_readable)
        rc = config_check(c, complaints, err);
    if (rc == 0)
        rc = sort_complaints(c, complaints, err);
    if (rc == 0 && complaints->n_errors) {
        const struct complaint *first = complaint_first(complaints);
        rc = first->line ? err_set(err, ERR_INVAL, "%s:%d:%d: %s", first->file, first->line, first->col, first->message)
                         : err_set(err, ERR_INVAL, "%s: %s", first->file, first->message);
    }
    if (rc == 0)
        rc = take_sha(c, err);
    if (rc != 0) {
        config_free(c);
        return rc;
    }
    *ret_config = c;
    return 0;
}

int config_load_text(const char *name, const char *text, size_t n_bytes, struct complaints *complaints,
                     struct config **ret_config, struct err *err)
{
    struct config *c = NULL;
    struct yaml_file *file = NULL;
    int rc = new_config(name, &c, err);
    if (rc == 0)
        rc = yaml_parse(name, text, n_bytes, complaints, &file, err);
    if (rc == 0)
        rc = take_file(c, file, complaints, err);
    if (rc != 0) {
        config_free(c);
        return rc;
    }
    return finish(c, complaints, ret_config, err);
}

static int is_drop_in(const struct dirent *entry)
{
    const size_t n = strlen(entry->d_name);
    return entry->d_name[0] != '.' && n > 5 && strcmp(entry->d_name + n - 5, ".yaml") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

int config_load(const char *path, struct complaints *complaints, struct config **ret_config, struct err *err)
{
    struct config *c = NULL;
    struct yaml_file *file = NULL;
    int rc = new_config(path, &c, err);
    if (rc != 0)
        return rc;
    if ((rc = yaml_read(path, complaints, &file, err)) != 0 || (rc = take_file(c, file, complaints, err)) != 0) {
        config_free(c);
        return rc;
    }
    const char *slash = strrchr(path, '/');
    char dir[4096];
    snprintf(dir, sizeof dir, "%.*sconf.d", slash ? (int)(slash - path + 1) : 0, path);
    struct dirent **entries = NULL;
    const int n = scandir(dir, &entries, is_drop_in, by_bytes);
    if (n < 0 && errno != ENOENT && errno != ENOTDIR)
        complaint_add(complaints, &(struct place){.file = dir}, NULL, "cannot be read: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        char name[4096 + 256];
        snprintf(name, sizeof name, "%s/%s", dir, entries[i]->d_name);
        struct stat st;
        if (rc == 0 && stat(name, &st) == 0 && !S_ISREG(st.st_mode)) /* a pipe would hold us up */
            complaint_add(complaints, &(struct place){.file = name}, NULL, "is not an ordinary file");
        else if (rc == 0 && (rc = yaml_read(name, complaints, &file, err)) == 0)
            rc = take_file(c, file, complaints, err);
        free(entries[i]);
    }
    free(entries);
    if (rc != 0) {
        config_free(c);
        return rc;
    }
    return finish(c, complaints, ret_config, err);
}

void config_free(struct config *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->n_cameras; i++) {
        struct config_camera *camera = c->cameras[i];
        for (int k = 0; k < camera->n_rules; k++)
            clear_scope(CONFIG_RULE, &camera->rules[k]);
        en_schema_unref(camera->schema);
        free(camera->schema_text);
        clear_scope(CONFIG_CAMERA, camera);
        free(camera);
    }
    free(c->cameras);
    clear_scope(CONFIG_ROOT, c);
    for (int i = 0; i < c->n_later; i++)
        free(c->later[i]);
    free(c->later);
    for (int i = 0; i < c->n_files; i++)
        yaml_free(c->files[i]);
    free(c->files);
    free(c->path);
    free(c);
}

/* ---- comparing ----------------------------------------------------------------------------------------------------------- */

const struct config_camera *config_camera_find(const struct config *c, const char *id)
{
    for (int i = 0; i < c->n_cameras; i++)
        if (strcmp(c->cameras[i]->id, id) == 0)
            return c->cameras[i];
    return NULL;
}

int config_restart_keys(const struct config *now, const struct config *next, char *out, size_t cap)
{
    int n = 0;
    size_t used = 0;
    if (cap)
        out[0] = '\0';
    for (int i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_row *row = &config_rows[i];
        if (row->scope != CONFIG_ROOT || !(row->flags & CONFIG_RESTART) || config_value_equal(row, now, next))
            continue;
        if (used < cap)
            used += (size_t)snprintf(out + used, cap - used, "%s%s", n ? ", " : "", row->path);
        n++;
    }
    return n;
}

static bool rows_differ(const struct config_camera *a, const struct config_camera *b, bool is_watch)
{
    for (int i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_row *row = &config_rows[i];
        if (row->scope == CONFIG_CAMERA && (strncmp(row->path, "cameras.*.watch.", 16) == 0) == is_watch &&
            !config_value_equal(row, a, b))
            return true;
    }
    return false;
}

bool config_camera_source_differs(const struct config_camera *a, const struct config_camera *b)
{
    return rows_differ(a, b, false);
}

bool config_camera_watch_differs(const struct config_camera *a, const struct config_camera *b)
{
    /* a schema file may say something else under the same name */
    return rows_differ(a, b, true) || strcmp(a->schema_text, b->schema_text) != 0;
}
