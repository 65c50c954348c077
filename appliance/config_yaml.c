#include "appliance/config_yaml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libfyaml.h>

#include "base/utf8.h"

#define ANCHORS_MAX    256
#define LINE_BYTES_MAX 1000 /* of a source line that a place shows */

struct anchor {
    char *name;
    struct yaml_node *node;
};

/* Where a reading of the text has come to; it moves forward, so that a file's places cost one pass. */
struct cursor {
    size_t pos, line_pos;
    int line, col;
};

/* One parse. */
struct reader {
    struct yaml_file *file;
    struct complaints *complaints;
    struct fy_parser *parser;
    struct anchor *anchors;
    int n_anchors;
    struct cursor cursor;
    int n_values;
    size_t last_pos; /* of the newest event */
    bool is_full;    /* too many values or errors: said once */
    bool no_memory;  /* an allocation failed */
};

/* ---- places -------------------------------------------------------------------------------------------------------------- */

/* Move to a byte offset: lines by newlines, columns by code points. */
static void cursor_move(struct cursor *c, const struct yaml_file *file, size_t pos)
{
    if (pos > file->n_bytes)
        pos = file->n_bytes;
    if (c->line == 0 || pos < c->line_pos)
        *c = (struct cursor){.line = 1, .col = 1};
    else if (pos < c->pos)
        *c = (struct cursor){.pos = c->line_pos, .line_pos = c->line_pos, .line = c->line, .col = 1};
    while (c->pos < pos) {
        if (file->text[c->pos] == '\n') {
            c->line++;
            c->col = 1;
            c->line_pos = ++c->pos;
        } else {
            uint32_t cp;
            c->pos += utf8_decode(file->text + c->pos, file->n_bytes - c->pos, &cp);
            c->col++;
        }
    }
}

/* A place on the line that begins at line_pos. */
static struct place make_place(const struct yaml_file *file, size_t line_pos, int line, int col, int width)
{
    const char *start = file->text + line_pos;
    const size_t rest = file->n_bytes - line_pos, most = rest < LINE_BYTES_MAX ? rest : LINE_BYTES_MAX;
    const char *end = memchr(start, '\n', most);
    size_t bytes = end ? (size_t)(end - start) : most;
    if (bytes && start[bytes - 1] == '\r')
        bytes--;
    return (struct place){
        .file = file->name,
        .line_text = start,
        .line_bytes = (int)bytes,
        .line = line,
        .col = col,
        .width = width,
    };
}

/* The place of a byte offset. */
static struct place place_of(const struct yaml_file *file, size_t pos, int width)
{
    struct cursor c = {0};
    cursor_move(&c, file, pos);
    return make_place(file, c.line_pos, c.line, c.col, width);
}

static struct place place_at(struct reader *r, size_t pos, int width)
{
    cursor_move(&r->cursor, r->file, pos);
    return make_place(r->file, r->cursor.line_pos, r->cursor.line, r->cursor.col, width);
}

struct place yaml_place(const struct yaml_file *file, const struct yaml_node *node)
{
    return make_place(file, node->line_pos, node->line, node->col, node->width);
}

static struct place place_of_line(const struct yaml_file *file, int line, int col)
{
    size_t pos = 0;
    for (int i = 1; i < line && pos < file->n_bytes; i++) {
        const char *end = memchr(file->text + pos, '\n', file->n_bytes - pos);
        if (!end)
            break;
        pos = (size_t)(end - file->text) + 1;
    }
    struct place place = place_of(file, pos, 0);
    place.line = line;
    place.col = col > 0 ? col : 1;
    return place;
}

/* ---- nodes --------------------------------------------------------------------------------------------------------------- */

/* One value more, an alias included. False: that is too many. */
static bool count_value(struct reader *r, size_t pos)
{
    if (r->n_values++ < YAML_NODES_MAX)
        return true;
    if (!r->is_full) {
        const struct place place = place_at(r, pos, 0);
        complaint_add(r->complaints, &place, NULL, "more than %d values in one file", YAML_NODES_MAX);
    }
    r->is_full = true;
    return false;
}

static struct yaml_node *new_node(struct reader *r, enum yaml_kind kind, size_t pos)
{
    struct yaml_file *f = r->file;
    if (!count_value(r, pos))
        return NULL;
    if (f->n_nodes == f->nodes_capacity) {
        const int capacity = f->nodes_capacity ? 2 * f->nodes_capacity : 64;
        struct yaml_node **more = realloc(f->nodes, (size_t)capacity * sizeof *more);
        if (!more) {
            r->no_memory = true;
            return NULL;
        }
        f->nodes = more;
        f->nodes_capacity = capacity;
    }
    struct yaml_node *node = calloc(1, sizeof *node);
    if (!node) {
        r->no_memory = true;
        return NULL;
    }
    node->kind = kind;
    cursor_move(&r->cursor, f, pos);
    node->pos = r->cursor.pos;
    node->line = r->cursor.line;
    node->col = r->cursor.col;
    node->line_pos = r->cursor.line_pos;
    f->nodes[f->n_nodes++] = node;
    return node;
}

static bool add_child(struct reader *r, struct yaml_node *parent, struct yaml_node *key, struct yaml_node *item)
{
    if (parent->n == parent->capacity) {
        const int capacity = parent->capacity ? 2 * parent->capacity : 8;
        struct yaml_node **items = realloc(parent->items, (size_t)capacity * sizeof *items);
        if (items)
            parent->items = items;
        struct yaml_node **keys = realloc(parent->keys, (size_t)capacity * sizeof *keys);
        if (keys)
            parent->keys = keys;
        if (!items || !keys) {
            r->no_memory = true;
            return false;
        }
        parent->capacity = capacity;
    }
    parent->keys[parent->n] = key;
    parent->items[parent->n++] = item;
    return true;
}

static bool is_null_word(const char *s)
{
    return !*s || strcmp(s, "~") == 0 || strcmp(s, "null") == 0 || strcmp(s, "Null") == 0 || strcmp(s, "NULL") == 0;
}

static struct yaml_node *new_scalar(struct reader *r, struct fy_event *event, size_t last_pos)
{
    struct fy_token *token = event->scalar.value;
    const struct fy_mark *start = token ? fy_token_start_mark(token) : NULL;
    const struct fy_mark *end = token ? fy_token_end_mark(token) : NULL;
    size_t n = 0;
    const char *text = token ? fy_token_get_text(token, &n) : "";
    const enum fy_scalar_style style = token ? fy_token_scalar_style(token) : FYSS_PLAIN;
    const bool is_quoted = style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED;
    struct yaml_node *node =
        new_node(r, YAML_SCALAR, start ? start->input_pos - (is_quoted && start->input_pos ? 1 : 0) : last_pos);
    if (!node)
        return NULL;
    if (text && memchr(text, '\0', n)) {
        const struct place place = yaml_place(r->file, node);
        complaint_add(r->complaints, &place, NULL, "a text with a NUL character (\\0)");
        n = strlen(text);
    }
    /* escapes can write what the file itself may not hold */
    if (text && !utf8_valid(text, n)) {
        const struct place place = yaml_place(r->file, node);
        complaint_add(r->complaints, &place, NULL, "a text with an escape that is no character");
        n = 0;
    }
    node->text = text ? strndup(text, n) : strdup("");
    if (!node->text) {
        r->no_memory = true;
        return NULL;
    }
    node->is_plain = style == FYSS_PLAIN;
    if (node->is_plain && is_null_word(node->text))
        node->kind = YAML_NULL;
    if (start && end && end->input_pos > node->pos) {
        const char *line_end = memchr(r->file->text + node->pos, '\n', r->file->n_bytes - node->pos);
        size_t stop = end->input_pos + (is_quoted ? 1 : 0);
        if (stop > r->file->n_bytes)
            stop = r->file->n_bytes;
        if (line_end && (size_t)(line_end - r->file->text) < stop)
            stop = (size_t)(line_end - r->file->text);
        for (size_t i = node->pos; i < stop; node->width++) {
            uint32_t cp;
            i += utf8_decode(r->file->text + i, r->file->n_bytes - i, &cp);
        }
    }
    return node;
}

/* ---- building ------------------------------------------------------------------------------------------------------------ */

static void note_anchor(struct reader *r, struct fy_token *anchor, struct yaml_node *node)
{
    size_t n = 0;
    const char *name = anchor ? fy_token_get_text(anchor, &n) : NULL;
    if (!name || !node)
        return;
    if (r->n_anchors == ANCHORS_MAX) {
        const struct place place = yaml_place(r->file, node);
        complaint_add(r->complaints, &place, NULL, "more than %d anchors (&name) in one file", ANCHORS_MAX);
        r->is_full = true;
        return;
    }
    struct anchor *more = realloc(r->anchors, (size_t)(r->n_anchors + 1) * sizeof *more);
    if (!more) {
        r->no_memory = true;
        return;
    }
    r->anchors = more;
    r->anchors[r->n_anchors++] = (struct anchor){strndup(name, n), node};
    r->no_memory |= !r->anchors[r->n_anchors - 1].name;
}

static struct yaml_node *find_anchor(struct reader *r, struct fy_event *event, size_t last_pos)
{
    size_t n = 0;
    struct fy_token *token = event->alias.anchor;
    const char *name = token ? fy_token_get_text(token, &n) : "";
    const struct fy_mark *mark = token ? fy_token_start_mark(token) : NULL;
    const size_t pos = mark ? mark->input_pos : last_pos;
    for (int i = r->n_anchors - 1; i >= 0; i--)
        if (r->anchors[i].name && strlen(r->anchors[i].name) == n && memcmp(r->anchors[i].name, name, n) == 0)
            return count_value(r, pos) ? r->anchors[i].node : NULL;
    const struct place place = place_at(r, pos, (int)n);
    complaint_add(r->complaints, &place, NULL, "*%.*s names nothing that was marked with &%.*s above", (int)n, name, (int)n,
                  name);
    return new_node(r, YAML_NULL, pos);
}

static void refuse_tag(struct reader *r, struct fy_token *tag)
{
    const struct fy_mark *mark = tag ? fy_token_start_mark(tag) : NULL;
    if (!mark)
        return;
    const struct place place = place_at(r, mark->input_pos, 0);
    complaint_add(r->complaints, &place, NULL, "tags (!...) are not used here: write the value alone");
}

struct frame {
    struct yaml_node *node;
    struct yaml_node *key; /* MAPPING: the key that waits for its value */
    bool is_key_dropped;   /* MAPPING: a key was refused; its value goes nowhere */
    struct fy_token *anchor;
};

static void check_key(struct reader *r, const struct yaml_node *parent, const struct yaml_node *key)
{
    if (strcmp(key->text, "<<") == 0 && key->is_plain) {
        const struct place place = yaml_place(r->file, key);
        complaint_add(r->complaints, &place, NULL, "merge keys (<<) are not part of YAML 1.2: write the keys out");
        return;
    }
    for (int i = 0; i < parent->n; i++)
        if (parent->keys[i] && strcmp(parent->keys[i]->text, key->text) == 0) {
            const struct place place = yaml_place(r->file, key);
            complaint_add(r->complaints, &place, key->text, "\"%s\" is here for the second time: line %d has it already",
                          key->text, parent->keys[i]->line);
            return;
        }
}

/* Put a finished or just begun node where it belongs. Returns false when it could not be kept. */
static bool attach(struct reader *r, struct frame *top, struct yaml_node *node, bool *ret_is_root)
{
    *ret_is_root = !top;
    if (!top)
        return true;
    if (top->node->kind == YAML_SEQUENCE)
        return add_child(r, top->node, NULL, node);
    if (!top->key && !top->is_key_dropped) {
        if (node->kind == YAML_SCALAR || node->kind == YAML_NULL) {
            if (!node->text && !(node->text = strdup(""))) {
                r->no_memory = true;
                return false;
            }
            check_key(r, top->node, node);
            top->key = node;
            return true;
        }
        const struct place place = yaml_place(r->file, node);
        complaint_add(r->complaints, &place, NULL, "a key is a word, not a list or a block");
        top->is_key_dropped = true;
        return true;
    }
    const bool kept = top->is_key_dropped || add_child(r, top->node, top->key, node);
    top->key = NULL;
    top->is_key_dropped = false;
    return kept;
}

static void read_events(struct reader *r)
{
    struct frame stack[YAML_DEPTH_MAX];
    struct fy_event *starts[YAML_DEPTH_MAX]; /* kept until the end, for their anchors */
    int depth = 0, n_documents = 0;
    size_t last_pos = 0;
    bool stop = false;
    for (struct fy_event *e; !stop && (e = fy_parser_parse(r->parser)) != NULL;) {
        struct frame *top = depth ? &stack[depth - 1] : NULL;
        struct yaml_node *node = NULL;
        bool is_root = false, is_kept = false;
        const struct fy_mark *mark = fy_event_get_token(e) ? fy_token_start_mark(fy_event_get_token(e)) : NULL;
        const size_t pos = mark ? mark->input_pos : last_pos;
        r->last_pos = last_pos = pos;
        switch (e->type) {
        case FYET_DOCUMENT_START:
            if (++n_documents > 1) {
                const struct place place = place_at(r, pos, 3);
                complaint_add(r->complaints, &place, NULL, "a second document (---) in one file: Heron reads one");
                stop = true;
            }
            break;
        case FYET_MAPPING_START:
        case FYET_SEQUENCE_START: {
            const bool is_mapping = e->type == FYET_MAPPING_START;
            refuse_tag(r, is_mapping ? e->mapping_start.tag : e->sequence_start.tag);
            node = new_node(r, is_mapping ? YAML_MAPPING : YAML_SEQUENCE, pos);
            if (!node || !attach(r, top, node, &is_root)) {
                stop = true;
                break;
            }
            if (depth == YAML_DEPTH_MAX) {
                const struct place place = place_at(r, pos, 0);
                complaint_add(r->complaints, &place, NULL, "nested deeper than %d levels", YAML_DEPTH_MAX);
                r->is_full = stop = true;
                break;
            }
            starts[depth] = e;
            is_kept = true;
            stack[depth++] =
                (struct frame){.node = node, .anchor = is_mapping ? e->mapping_start.anchor : e->sequence_start.anchor};
            break;
        }
        case FYET_MAPPING_END:
        case FYET_SEQUENCE_END:
            if (depth > 0) {
                /* only now: an alias inside its own anchor would make a circle */
                note_anchor(r, stack[depth - 1].anchor, stack[depth - 1].node);
                fy_parser_event_free(r->parser, starts[--depth]);
            }
            break;
        case FYET_SCALAR:
            refuse_tag(r, e->scalar.tag);
            node = new_scalar(r, e, pos);
            stop = !node || !attach(r, top, node, &is_root);
            if (node)
                note_anchor(r, e->scalar.anchor, node);
            break;
        case FYET_ALIAS:
            node = find_anchor(r, e, pos);
            stop = !node || !attach(r, top, node, &is_root);
            break;
        default: break;
        }
        if (is_root && node)
            r->file->root = node;
        if (!is_kept)
            fy_parser_event_free(r->parser, e);
        stop |= r->no_memory || r->is_full || r->complaints->n_errors >= COMPLAINTS_COUNT_MAX;
    }
    while (depth > 0)
        fy_parser_event_free(r->parser, starts[--depth]);
}

static int run_parser(struct reader *r, struct err *err)
{
    struct fy_diag_cfg diag_config;
    fy_diag_cfg_default(&diag_config);
    struct fy_diag *diag = fy_diag_create(&diag_config);
    const struct fy_parse_cfg config = {.flags = FYPCF_DEFAULT_VERSION_1_2 | FYPCF_JSON_NONE, .diag = diag};
    r->parser = diag ? fy_parser_create(&config) : NULL;
    if (!r->parser) {
        fy_diag_destroy(diag);
        return err_set(err, ERR_NOMEM, "out of memory: the YAML parser");
    }
    fy_diag_set_collect_errors(diag, true);
    if (fy_parser_set_string(r->parser, r->file->text, r->file->n_bytes) != 0)
        r->no_memory = true;
    else
        read_events(r);
    void *iterator = NULL;
    const struct fy_diag_error *e = fy_diag_errors_iterate(diag, &iterator);
    if (e && e->type >= FYET_ERROR) {
        /* the first cause; what follows comes from it */
        const struct place place = place_of_line(r->file, e->line, e->column);
        complaint_add(r->complaints, &place, NULL, "%s", e->msg);
        r->file->root = NULL;
    } else if (fy_parser_get_stream_error(r->parser)) {
        /* the parser has no words for a few errors (such as an indentation of |0), and not their place either */
        const struct place place = place_of(r->file, r->last_pos, 0);
        complaint_add(r->complaints, &place, NULL, "from here on this is not YAML");
        r->file->root = NULL;
    } else if (r->is_full) { /* said already; what was left out may be what seems to be missing */
        r->file->root = NULL;
    } else if (!r->file->root && !r->no_memory) { /* nothing but comments */
        r->file->root = new_node(r, YAML_NULL, 0);
    }
    fy_parser_destroy(r->parser);
    fy_diag_destroy(diag);
    for (int i = 0; i < r->n_anchors; i++)
        free(r->anchors[i].name);
    free(r->anchors);
    return r->no_memory ? err_set(err, ERR_NOMEM, "out of memory: %s", r->file->name) : 0;
}

/* Bytes that no YAML file holds: said with their place, because a parser's words about them are not for people. */
static bool check_bytes(const struct yaml_file *f, struct complaints *complaints)
{
    for (size_t i = 0; i < f->n_bytes;) {
        uint32_t cp;
        const size_t n = utf8_decode(f->text + i, f->n_bytes - i, &cp);
        const bool is_bad = cp == UTF8_REPLACEMENT && !(n == 3 && memcmp(f->text + i, "\xEF\xBF\xBD", 3) == 0);
        if (is_bad || (cp < 0x20 && cp != '\t' && cp != '\n' && cp != '\r') || (cp >= 0x7F && cp < 0xA0)) {
            const struct place place = place_of(f, i, 0);
            if (is_bad)
                complaint_add(complaints, &place, NULL, "byte 0x%02X is not UTF-8: save the file as UTF-8",
                              (unsigned char)f->text[i]);
            else
                complaint_add(complaints, &place, NULL, "control character 0x%02X", (unsigned)cp);
            return false;
        }
        i += n;
    }
    return true;
}

int yaml_parse(const char *name, const char *text, size_t n_bytes, struct complaints *complaints, struct yaml_file **ret_file,
               struct err *err)
{
    struct yaml_file *f = calloc(1, sizeof *f);
    int rc = 0;
    if (!f || !(f->name = strdup(name)) || !(f->text = malloc(n_bytes + 1))) {
        rc = err_set(err, ERR_NOMEM, "out of memory: %s", name);
        goto fail;
    }
    memcpy(f->text, text, n_bytes);
    f->text[n_bytes] = '\0';
    f->n_bytes = n_bytes;
    if (n_bytes > YAML_BYTES_MAX) {
        complaint_add(complaints, &(struct place){.file = name}, NULL, "larger than %u bytes", YAML_BYTES_MAX);
    } else if (check_bytes(f, complaints)) {
        struct reader reader = {.file = f, .complaints = complaints};
        if ((rc = run_parser(&reader, err)) != 0)
            goto fail;
    }
    *ret_file = f;
    return 0;
fail:
    yaml_free(f);
    return rc;
}

int yaml_read(const char *path, struct complaints *complaints, struct yaml_file **ret_file, struct err *err)
{
    FILE *f = fopen(path, "rb");
    char *text = f ? malloc(YAML_BYTES_MAX + 2) : NULL;
    size_t n = 0;
    errno = f ? 0 : errno;
    if (f && text)
        n = fread(text, 1, YAML_BYTES_MAX + 1, f);
    const int cause = errno;
    const bool is_bad = !f || ferror(f);
    if (f)
        fclose(f);
    int rc = 0;
    if (is_bad) {
        complaint_add(complaints, &(struct place){.file = path}, NULL, "cannot be read: %s", strerror(cause));
        rc = yaml_parse(path, "", 0, complaints, ret_file, err);
        if (rc == 0)
            (*ret_file)->root = NULL; /* unknown, not empty */
    } else if (!text) {
        rc = err_set(err, ERR_NOMEM, "out of memory: %s", path);
    } else {
        rc = yaml_parse(path, text, n, complaints, ret_file, err);
    }
    free(text);
    return rc;
}

void yaml_free(struct yaml_file *file)
{
    if (!file)
        return;
    for (int i = 0; i < file->n_nodes; i++) {
        free(file->nodes[i]->text);
        free(file->nodes[i]->keys);
        free(file->nodes[i]->items);
        free(file->nodes[i]);
    }
    free(file->nodes);
    free(file->text);
    free(file->name);
    free(file);
}
