/*
 * config_value - one value of the table: read from a node, defaulted, compared, freed.
 */
#include "appliance/config_table.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "appliance/nearest.h"
#include "base/clock.h"
#include "pipeline/pipeline.h"

#define SCOPE_ROOT   struct config
#define SCOPE_CAMERA struct config_camera
#define SCOPE_RULE   struct config_rule
#define RELOAD       CONFIG_RELOAD
#define RESTART      CONFIG_RESTART
#define LATER        CONFIG_LATER
#define SHOWN        CONFIG_SHOWN
#define NEEDED       CONFIG_NEEDED

const struct config_row config_rows[CONFIG_KEY_COUNT] = {
#define KEY(scope, id, path, kind, field, min, max, def, words, flags, help)                                                   \
    {CONFIG_##scope, path, CONFIG_##kind, offsetof(SCOPE_##scope, field), min, max, def, words, flags, help},
#include "appliance/config.def"
#undef KEY
};

const char *config_row_name(const struct config_row *row)
{
    const char *dot = strrchr(row->path, '.');
    return dot ? dot + 1 : row->path;
}

static void *field_of(const struct config_row *row, void *scope)
{
    return (char *)scope + row->offset;
}

/* ---- texts to values ----------------------------------------------------------------------------------------------------- */

struct unit {
    const char *name;
    int64_t factor;
};

/* Sum of NUMBER UNIT pairs, units from large to small; `bare`: a number alone counts as the last unit. */
static bool parse_units(const char *text, const struct unit *units, int n_units, bool is_sum, int64_t *ret_value)
{
    int64_t sum = 0;
    int next = 0;
    if (!*text)
        return false;
    for (const char *p = text; *p;) {
        char *end = NULL;
        if (!isdigit((unsigned char)*p))
            return false;
        errno = 0;
        const long long number = strtoll(p, &end, 10);
        if (errno)
            return false;
        int unit = -1;
        size_t length = 0;
        for (int i = next; i < n_units; i++) {
            const size_t n = strlen(units[i].name);
            if (strncmp(end, units[i].name, n) == 0 && n >= length && !isalpha((unsigned char)end[n])) {
                unit = i;
                length = n;
            }
        }
        int64_t part;
        if (unit < 0 || __builtin_mul_overflow((int64_t)number, units[unit].factor, &part) ||
            __builtin_add_overflow(sum, part, &sum))
            return false;
        next = unit + 1;
        p = end + length;
        if (*p && !is_sum)
            return false;
    }
    *ret_value = sum;
    return true;
}

bool config_parse_duration(const char *text, int64_t *ret_ns)
{
    static const struct unit units[] = {
        {"d", 86400 * CLOCK_S}, {"h", 3600 * CLOCK_S}, {"m", 60 * CLOCK_S}, {"s", CLOCK_S}, {"ms", CLOCK_MS}};
    return parse_units(text, units, 5, true, ret_ns);
}

bool config_parse_size(const char *text, int64_t *ret_bytes)
{
    static const struct unit units[] = {{"TiB", INT64_C(1) << 40},
                                        {"GiB", INT64_C(1) << 30},
                                        {"MiB", INT64_C(1) << 20},
                                        {"KiB", INT64_C(1) << 10},
                                        {"TB", 1000000000000},
                                        {"GB", 1000000000},
                                        {"MB", 1000000},
                                        {"kB", 1000},
                                        {"KB", 1000},
                                        {"B", 1},
                                        {"", 1}};
    return parse_units(text, units, 11, false, ret_bytes);
}

void config_format_duration(int64_t ns, char *out, size_t cap)
{
    static const struct unit units[] = {
        {"d", 86400 * CLOCK_S}, {"h", 3600 * CLOCK_S}, {"m", 60 * CLOCK_S}, {"s", CLOCK_S}, {"ms", CLOCK_MS}};
    size_t n = 0;
    out[0] = '\0';
    for (int i = 0; i < 5; i++)
        if (ns >= units[i].factor && n < cap) {
            n += (size_t)snprintf(out + n, cap - n, "%" PRId64 "%s", ns / units[i].factor, units[i].name);
            ns %= units[i].factor;
        }
    if (n == 0)
        snprintf(out, cap, "0s");
}

static bool parse_int(const char *text, int64_t *ret_value)
{
    char *end = NULL;
    errno = 0;
    /* 1_000 and 0x10 are other languages' */
    if (!isdigit((unsigned char)text[0]) && text[0] != '-')
        return false;
    const long long v = strtoll(text, &end, 10);
    if (errno || end == text || *end)
        return false;
    *ret_value = v;
    return true;
}

static bool parse_bool(const char *text, bool *ret_value)
{
    static const char *const yes[] = {"on", "true", "yes"}, *const no[] = {"off", "false", "no"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *ret_value = strcmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

static int enum_index(const char *words, const char *text)
{
    int i = 0;
    const size_t n = strlen(text);
    for (const char *p = words; *p; i++) {
        const size_t length = strcspn(p, "|");
        if (length == n && memcmp(p, text, n) == 0)
            return i;
        p += length + (p[length] == '|');
    }
    return -1;
}

/* "a, b or c" of "a|b|c", and the nearest word to a wrong one. */
static void say_words(const char *words, char *out, size_t cap)
{
    size_t n = 0;
    out[0] = '\0';
    for (const char *p = words; *p && n < cap;) {
        const size_t length = strcspn(p, "|");
        const bool is_last = !p[length];
        const bool is_last_but_one = !is_last && !strchr(p + length + 1, '|');
        n += (size_t)snprintf(out + n, cap - n, "%.*s%s", (int)length, p, is_last ? "" : is_last_but_one ? " or " : ", ");
        p += length + !is_last;
    }
}

/* A path as the file's folder sees it. */
static char *resolve_path(const struct yaml_file *file, const char *path)
{
    const char *slash = file ? strrchr(file->name, '/') : NULL;
    if (path[0] == '/' || !slash)
        return strdup(path);
    char *joined = NULL;
    if (asprintf(&joined, "%.*s/%s", (int)(slash - file->name), file->name, path) < 0)
        return NULL;
    return joined;
}

static bool set_text(char **field, char *text)
{
    if (!text)
        return false;
    free(*field);
    *field = text;
    return true;
}

/* ---- compound values ----------------------------------------------------------------------------------------------------- */

static const char *const secret_words[] = {"credential", "file", "env"};

static bool set_secret(struct secret_ref *field, const struct yaml_file *file, const struct yaml_node *node, const char *path,
                       struct complaints *complaints)
{
    struct place place = yaml_place(file, node);
    if (node->kind != YAML_MAPPING) {
        /* the line itself holds the secret: it is not shown */
        place.line_text = NULL;
        complaint_add(
            complaints, &place, path,
            "%s must not stand in the file: write { credential: NAME } (systemd's LoadCredential=), { file: PATH } or "
            "{ env: NAME }",
            path);
        return false;
    }
    if (node->n != 1 || node->items[0]->kind != YAML_SCALAR || !*node->items[0]->text) {
        complaint_add(complaints, &place, path,
                      "%s takes exactly one of { credential: NAME }, { file: PATH } and { env: NAME }", path);
        return false;
    }
    for (int i = 0; i < 3; i++) {
        if (strcmp(node->keys[0]->text, secret_words[i]) != 0)
            continue;
        const char *name = node->items[0]->text;
        const struct place at = yaml_place(file, node->items[0]);
        if (i == 0 && (strchr(name, '/') || name[0] == '.')) {
            complaint_add(complaints, &at, path, "a credential is a name, not a path: \"%s\" (use { file: ... })", name);
            return false;
        }
        char *text = i == 1 ? resolve_path(file, name) : strdup(name);
        if (!set_text(&field->name, text))
            return false;
        field->kind = (enum secret_kind)(SECRET_CREDENTIAL + i);
        return true;
    }
    struct nearest near = {.word = node->keys[0]->text};
    for (int i = 0; i < 3; i++)
        nearest_offer(&near, secret_words[i]);
    const struct place at = yaml_place(file, node->keys[0]);
    complaint_add(complaints, &at, path, "unknown kind of secret \"%s\": %s%s%s", node->keys[0]->text,
                  near.best ? "did you mean " : "credential, file or env", near.best ? near.best : "", near.best ? "?" : "");
    return false;
}

static bool set_list(struct config_list *field, const struct config_row *row, const struct yaml_file *file,
                     const struct yaml_node *node, const char *path, struct complaints *complaints)
{
    struct place place = yaml_place(file, node);
    const int n = node->kind == YAML_SEQUENCE ? node->n : 1;
    if (node->kind == YAML_MAPPING || n > row->max) {
        complaint_add(complaints, &place, path, "%s takes a list of at most %d words, such as %s", path, (int)row->max,
                      row->words);
        return false;
    }
    struct config_list list = {0};
    for (int i = 0; i < n; i++) {
        const struct yaml_node *item = node->kind == YAML_SEQUENCE ? node->items[i] : node;
        if (item->kind != YAML_SCALAR) {
            place = yaml_place(file, item);
            complaint_add(complaints, &place, path, "%s takes a list of words, such as %s", path, row->words);
        } else if ((list.items[list.n] = strdup(item->text)) != NULL) {
            list.n++;
        }
    }
    const bool is_whole = list.n == n;
    struct config_list *drop = is_whole ? field : &list;
    for (int i = 0; i < drop->n; i++)
        free(drop->items[i]);
    if (is_whole)
        *field = list;
    return is_whole;
}

static bool parse_votes(const char *text, const struct config_row *row, struct config_votes *ret_votes)
{
    int n, of;
    char same[40] = ""; /* sscanf forgives blanks, signs and zeros */
    if (sscanf(text, "%4d of %4d", &n, &of) == 2)
        snprintf(same, sizeof same, "%d of %d", n, of);
    if (strcmp(text, same) != 0 || n < 1 || n > of || of > row->max)
        return false;
    *ret_votes = (struct config_votes){n, of};
    return true;
}

/* ---- one value ----------------------------------------------------------------------------------------------------------- */

static bool bad(struct complaints *complaints, const struct yaml_file *file, const struct yaml_node *node, const char *path,
                const char *want)
{
    const struct place place = yaml_place(file, node);
    if (node->kind == YAML_MAPPING || node->kind == YAML_SEQUENCE)
        complaint_add(complaints, &place, path, "%s takes %s, not %s", path, want,
                      node->kind == YAML_MAPPING ? "a block of keys" : "a list");
    else
        complaint_add(complaints, &place, path, "%s takes %s, not \"%.60s\"", path, want, node->text);
    return false;
}

static bool bad_number(struct complaints *complaints, const struct yaml_file *file, const struct yaml_node *node,
                       const char *path, const struct config_row *row)
{
    char want[160], low[32], high[32];
    if (row->kind == CONFIG_DURATION) {
        config_format_duration(row->min, low, sizeof low);
        config_format_duration(row->max, high, sizeof high);
        snprintf(want, sizeof want, "a time from %s to %s with its unit, such as 5s, 10m or 1h30m", low, high);
    } else if (row->kind == CONFIG_SIZE) {
        snprintf(want, sizeof want, "a size such as 512MiB or 16GB");
    } else {
        snprintf(want, sizeof want, "a whole number from %" PRId64 " to %" PRId64, row->min, row->max);
    }
    return bad(complaints, file, node, path, want);
}

static bool set_enum(const struct config_row *row, int *field, const struct yaml_file *file, const struct yaml_node *node,
                     const char *path, struct complaints *complaints)
{
    const int i = node->kind == YAML_SCALAR ? enum_index(row->words, node->text) : -1;
    if (i >= 0) {
        *field = i;
        return true;
    }
    char want[200], near_text[80] = "";
    say_words(row->words, want, sizeof want);
    if (node->kind == YAML_SCALAR) {
        struct nearest near = {.word = node->text};
        char words[160];
        snprintf(words, sizeof words, "%s", row->words);
        for (char *save = NULL, *w = strtok_r(words, "|", &save); w; w = strtok_r(NULL, "|", &save))
            nearest_offer(&near, w);
        if (near.best)
            snprintf(near_text, sizeof near_text, " (did you mean %s?)", near.best);
        const struct place place = yaml_place(file, node);
        complaint_add(complaints, &place, path, "%s is %s, not \"%.60s\"%s", path, want, node->text, near_text);
        return false;
    }
    return bad(complaints, file, node, path, want);
}

static bool set_scalar_text(const struct config_row *row, char **field, const struct yaml_file *file,
                            const struct yaml_node *node, const char *path, struct complaints *complaints)
{
    const struct place place = yaml_place(file, node);
    const size_t n = strlen(node->text);
    if (n < (size_t)row->min || (row->max && n > (size_t)row->max)) {
        complaint_add(complaints, &place, path, "%s takes %" PRId64 " to %" PRId64 " bytes, not %zu", path, row->min, row->max,
                      n);
        return false;
    }
    if (row->kind == CONFIG_SOURCE) {
        struct err err = {0};
        if (pl_source_check(node->text, &err) != 0) {
            complaint_add(complaints, &place, path, "%s", err.text);
            return false;
        }
    }
    if (row->kind == CONFIG_SCHEMA && strcmp(node->text, "default") == 0) {
        free(*field);
        *field = NULL;
        return true;
    }
    const bool is_path = row->kind == CONFIG_PATH || row->kind == CONFIG_SCHEMA;
    return set_text(field, is_path ? resolve_path(file, node->text) : strdup(node->text));
}

bool config_value_set(const struct config_row *row, void *scope, const struct yaml_file *file, const struct yaml_node *node,
                      const char *path, struct complaints *complaints)
{
    void *field = field_of(row, scope);
    const bool is_scalar = node->kind == YAML_SCALAR;
    int64_t number = 0;
    if (node->kind == YAML_NULL)
        return config_value_default(row, scope);
    switch (row->kind) {
    case CONFIG_TEXT:
    case CONFIG_PATH:
    case CONFIG_SOURCE:
    case CONFIG_SCHEMA:
        if (!is_scalar)
            return bad(complaints, file, node, path, "a text");
        return set_scalar_text(row, field, file, node, path, complaints);
    case CONFIG_INT:
    case CONFIG_DURATION:
    case CONFIG_SIZE: {
        bool ok = is_scalar && node->is_plain;
        if (ok && row->kind == CONFIG_INT)
            ok = parse_int(node->text, &number);
        else if (ok && row->kind == CONFIG_DURATION)
            ok = config_parse_duration(node->text, &number);
        else if (ok)
            ok = config_parse_size(node->text, &number);
        if (!ok || number < row->min || number > row->max)
            return bad_number(complaints, file, node, path, row);
        *(int64_t *)field = number;
        return true;
    }
    case CONFIG_BOOL: {
        bool value;
        if (!is_scalar || !node->is_plain || !parse_bool(node->text, &value))
            return bad(complaints, file, node, path, "on or off");
        *(bool *)field = value;
        return true;
    }
    case CONFIG_ENUM: return set_enum(row, field, file, node, path, complaints);
    case CONFIG_SECRET: return set_secret(field, file, node, path, complaints);
    case CONFIG_VOTES:
        if (!is_scalar || !parse_votes(node->text, row, field)) {
            char want[80];
            snprintf(want, sizeof want, "votes such as 3 of 4, of at most %" PRId64, row->max);
            return bad(complaints, file, node, path, want);
        }
        return true;
    case CONFIG_PROBABILITY: {
        char *end = NULL;
        const double p = is_scalar ? strtod(node->text, &end) : NAN;
        if (!is_scalar || !isdigit((unsigned char)*node->text) || node->text[strspn(node->text, "0123456789.")] || *end ||
            !(p >= 0 && p <= 1))
            return bad(complaints, file, node, path, "a number from 0 to 1");
        *(double *)field = p;
        return true;
    }
    case CONFIG_LIST: return set_list(field, row, file, node, path, complaints);
    }
    return false;
}

bool config_value_default(const struct config_row *row, void *scope)
{
    config_value_clear(row, scope);
    void *field = field_of(row, scope);
    if (!row->def)
        return true;
    switch (row->kind) {
    case CONFIG_TEXT:
    case CONFIG_PATH:
    case CONFIG_SOURCE: return set_text(field, strdup(row->def));
    case CONFIG_INT: return parse_int(row->def, field);
    case CONFIG_DURATION: return config_parse_duration(row->def, field);
    case CONFIG_SIZE: return config_parse_size(row->def, field);
    case CONFIG_BOOL: return parse_bool(row->def, field);
    case CONFIG_ENUM: *(int *)field = enum_index(row->words, row->def); return *(int *)field >= 0;
    case CONFIG_VOTES: return parse_votes(row->def, row, field);
    case CONFIG_PROBABILITY: *(double *)field = strtod(row->def, NULL); return true;
    case CONFIG_SCHEMA:
    case CONFIG_SECRET:
    case CONFIG_LIST: return true;
    }
    return false;
}

void config_value_clear(const struct config_row *row, void *scope)
{
    void *field = field_of(row, scope);
    switch (row->kind) {
    case CONFIG_TEXT:
    case CONFIG_PATH:
    case CONFIG_SOURCE:
    case CONFIG_SCHEMA:
        free(*(char **)field);
        *(char **)field = NULL;
        break;
    case CONFIG_SECRET: {
        struct secret_ref *secret = field;
        free(secret->name);
        *secret = (struct secret_ref){0};
        break;
    }
    case CONFIG_LIST: {
        struct config_list *list = field;
        for (int i = 0; i < list->n; i++)
            free(list->items[i]);
        *list = (struct config_list){0};
        break;
    }
    default: break;
    }
}

static void write_text(const char *s, FILE *out)
{
    if (s)
        fprintf(out, "%zu:%s", strlen(s), s);
    else
        fputc('-', out);
}

void config_value_write(const struct config_row *row, const void *scope, FILE *out)
{
    const void *field = (const char *)scope + row->offset;
    switch (row->kind) {
    case CONFIG_TEXT:
    case CONFIG_PATH:
    case CONFIG_SOURCE:
    case CONFIG_SCHEMA: write_text(*(char *const *)field, out); break;
    case CONFIG_INT:
    case CONFIG_DURATION:
    case CONFIG_SIZE: fprintf(out, "%" PRId64, *(const int64_t *)field); break;
    case CONFIG_BOOL: fputs(*(const bool *)field ? "on" : "off", out); break;
    case CONFIG_ENUM: fprintf(out, "%d", *(const int *)field); break;
    case CONFIG_PROBABILITY: fprintf(out, "%a", *(const double *)field); break;
    case CONFIG_VOTES: {
        const struct config_votes *votes = field;
        fprintf(out, "%d/%d", votes->n, votes->of);
        break;
    }
    case CONFIG_SECRET: {
        const struct secret_ref *secret = field;
        fprintf(out, "%d ", (int)secret->kind);
        write_text(secret->name, out);
        break;
    }
    case CONFIG_LIST: {
        const struct config_list *list = field;
        for (int i = 0; i < list->n; i++)
            write_text(list->items[i], out);
        break;
    }
    }
}

static bool text_equal(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

bool config_value_equal(const struct config_row *row, const void *a, const void *b)
{
    const void *x = (const char *)a + row->offset, *y = (const char *)b + row->offset;
    switch (row->kind) {
    case CONFIG_TEXT:
    case CONFIG_PATH:
    case CONFIG_SOURCE:
    case CONFIG_SCHEMA: return text_equal(*(char *const *)x, *(char *const *)y);
    case CONFIG_INT:
    case CONFIG_DURATION:
    case CONFIG_SIZE: return *(const int64_t *)x == *(const int64_t *)y;
    case CONFIG_BOOL: return *(const bool *)x == *(const bool *)y;
    case CONFIG_ENUM: return *(const int *)x == *(const int *)y;
    case CONFIG_PROBABILITY: return *(const double *)x == *(const double *)y;
    case CONFIG_VOTES: return memcmp(x, y, sizeof(struct config_votes)) == 0;
    case CONFIG_SECRET: {
        const struct secret_ref *s = x, *t = y;
        return s->kind == t->kind && text_equal(s->name, t->name);
    }
    case CONFIG_LIST: {
        const struct config_list *l = x, *m = y;
        bool same = l->n == m->n;
        for (int i = 0; same && i < l->n; i++)
            same = text_equal(l->items[i], m->items[i]);
        return same;
    }
    }
    return false;
}
