#include "engine/gguf_internal.h"

#include "base/utf8.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- metadata ----------------------------------------------------------------------------------------------------------- */

size_t gguf_n_entries(const struct gguf *g)
{
    return g->n_entries;
}

const struct gguf_entry *gguf_entry_at(const struct gguf *g, size_t i)
{
    assert(i < g->n_entries);
    return &g->entries[i];
}

const struct gguf_entry *gguf_find(const struct gguf *g, const char *key)
{
    size_t lo = 0, hi = g->n_entries;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct gguf_entry *e = &g->entries[g->entries_by_name[mid]];
        int c = strcmp(key, e->key);
        if (c == 0)
            return e;
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

static int missing_key(const struct gguf *g, const char *key, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "%s: no key %s", g->path, key);
}

static int wrong_kind(const struct gguf *g, const struct gguf_entry *e, const char *expected, struct err *err)
{
    if (e->type == GGUF_ARRAY)
        return err_set(err, ERR_FORMAT, "%s: key %s: expected %s, found an array of %" PRIu64 " %s", g->path, e->key, expected,
                       e->count, gguf_type_name(e->elem_type));
    int64_t v;
    if (gguf_entry_integer(e->type, e->data, &v))
        return err_set(err, ERR_FORMAT, "%s: key %s: expected %s, found %s %" PRId64, g->path, e->key, expected,
                       gguf_type_name(e->type), v);
    return err_set(err, ERR_FORMAT, "%s: key %s: expected %s, found a %s", g->path, e->key, expected, gguf_type_name(e->type));
}

/* Element i of an array, or the value itself as element 0. */
static int element_at(const struct gguf *g, const char *key, uint64_t i, const struct gguf_entry **ret_entry, int *ret_type,
                      const void **ret_data, struct err *err)
{
    const struct gguf_entry *e = gguf_find(g, key);
    if (!e)
        return missing_key(g, key, err);
    *ret_entry = e;
    *ret_type = e->type == GGUF_ARRAY ? e->elem_type : e->type;
    if (i >= e->count)
        return err_set(err, ERR_FORMAT, "%s: key %s: expected at least %" PRIu64 " values, found %" PRIu64, g->path, key, i + 1,
                       e->count);
    if (*ret_type == GGUF_STRING)
        return wrong_kind(g, e, "numbers", err);
    *ret_data = (const uint8_t *)e->data + i * gguf_type_bytes((uint32_t)*ret_type);
    return 0;
}

int gguf_get_i64_at(const struct gguf *g, const char *key, uint64_t i, int64_t *ret_value, struct err *err)
{
    const struct gguf_entry *e;
    const void *data;
    int type, rc = element_at(g, key, i, &e, &type, &data, err);
    if (rc == 0 && !gguf_entry_integer(type, data, ret_value))
        rc = wrong_kind(g, e, "whole numbers below 2^63", err);
    return rc;
}

int gguf_get_f32_at(const struct gguf *g, const char *key, uint64_t i, float *ret_value, struct err *err)
{
    const struct gguf_entry *e;
    const void *data;
    int64_t whole;
    int type, rc = element_at(g, key, i, &e, &type, &data, err);
    if (rc < 0)
        return rc;
    if (type == GGUF_F32) {
        memcpy(ret_value, data, sizeof *ret_value);
    } else if (type == GGUF_F64) {
        double v;
        memcpy(&v, data, sizeof v);
        *ret_value = (float)v;
    } else if (gguf_entry_integer(type, data, &whole)) {
        *ret_value = (float)whole;
    } else {
        return wrong_kind(g, e, "a number", err);
    }
    return 0;
}

/* The plain value behind a key: arrays are another kind. */
static int plain(const struct gguf *g, const char *key, const char *expected, struct err *err)
{
    const struct gguf_entry *e = gguf_find(g, key);
    if (!e)
        return missing_key(g, key, err);
    return e->type == GGUF_ARRAY || e->type == GGUF_STRING ? wrong_kind(g, e, expected, err) : 0;
}

int gguf_get_i64(const struct gguf *g, const char *key, int64_t *ret_value, struct err *err)
{
    int rc = plain(g, key, "a whole number", err);
    return rc < 0 ? rc : gguf_get_i64_at(g, key, 0, ret_value, err);
}

int gguf_get_u32(const struct gguf *g, const char *key, uint32_t *ret_value, struct err *err)
{
    int64_t v;
    int rc = gguf_get_i64(g, key, &v, err);
    if (rc < 0)
        return rc;
    if (v < 0 || v > UINT32_MAX)
        return wrong_kind(g, gguf_find(g, key), "a whole number of 32 bits, not negative", err);
    *ret_value = (uint32_t)v;
    return 0;
}

int gguf_get_f32(const struct gguf *g, const char *key, float *ret_value, struct err *err)
{
    int rc = plain(g, key, "a number", err);
    return rc < 0 ? rc : gguf_get_f32_at(g, key, 0, ret_value, err);
}

int gguf_get_bool(const struct gguf *g, const char *key, bool *ret_value, struct err *err)
{
    int64_t v;
    int rc = plain(g, key, "a bool", err);
    if (rc == 0)
        rc = gguf_get_i64_at(g, key, 0, &v, err);
    if (rc == 0)
        *ret_value = v != 0;
    return rc;
}

int gguf_get_string(const struct gguf *g, const char *key, struct gguf_string *ret_value, struct err *err)
{
    const struct gguf_entry *e = gguf_find(g, key);
    if (!e)
        return missing_key(g, key, err);
    if (e->type != GGUF_STRING)
        return wrong_kind(g, e, "a string", err);
    *ret_value = (struct gguf_string){e->data, e->n_bytes};
    return 0;
}

uint64_t gguf_array_count(const struct gguf *g, const char *key)
{
    const struct gguf_entry *e = gguf_find(g, key);
    return e && e->type == GGUF_ARRAY ? e->count : 0;
}

bool gguf_string_is(const struct gguf *g, const char *key, const char *text)
{
    struct gguf_string s = {NULL, 0};
    return gguf_get_string(g, key, &s, NULL) == 0 && s.n == strlen(text) && memcmp(s.data, text, s.n) == 0;
}

bool gguf_copy_text(const struct gguf *g, const char *key, char *out, size_t cap)
{
    struct gguf_string s;
    assert(cap > 0);
    out[0] = 0;
    if (gguf_get_string(g, key, &s, NULL) < 0)
        return false;
    size_t put = 0;
    for (size_t at = 0; at < s.n;) { /* whole characters only, and the text goes into JSON: always UTF-8 */
        uint32_t cp;
        char bytes[4];
        at += utf8_decode(s.data + at, s.n - at, &cp);
        const size_t n = utf8_encode(cp < 0x20 || cp == 0x7F ? '?' : cp, bytes);
        if (put + n > cap - 1)
            break;
        memcpy(out + put, bytes, n);
        put += n;
    }
    out[put] = 0;
    return true;
}

int gguf_strings_begin(const struct gguf *g, const char *key, struct gguf_strings *ret_iter, struct err *err)
{
    const struct gguf_entry *e = gguf_find(g, key);
    if (!e)
        return missing_key(g, key, err);
    if (e->type != GGUF_ARRAY || e->elem_type != GGUF_STRING)
        return wrong_kind(g, e, "an array of strings", err);
    *ret_iter = (struct gguf_strings){.at = e->data, .left = e->count};
    return 0;
}

bool gguf_strings_next(struct gguf_strings *iter, struct gguf_string *ret_value)
{
    if (iter->left == 0)
        return false;
    uint64_t n;
    memcpy(&n, iter->at, sizeof n);
    *ret_value = (struct gguf_string){(const char *)iter->at + sizeof n, (size_t)n};
    iter->at += sizeof n + n;
    iter->left--;
    return true;
}

/* ---- tensors ------------------------------------------------------------------------------------------------------------ */

size_t gguf_n_tensors(const struct gguf *g)
{
    return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i)
{
    assert(i < g->n_tensors);
    return &g->tensors[i];
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name)
{
    size_t lo = 0, hi = g->n_tensors;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct gguf_tensor *t = &g->tensors[g->tensors_by_name[mid]];
        int c = strcmp(name, t->name);
        if (c == 0)
            return t;
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

int gguf_compare_places(const struct gguf_tensor *a, const struct gguf_tensor *b)
{
    if (a->part != b->part)
        return a->part < b->part ? -1 : 1;
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

int gguf_tensor_read(const struct gguf *g, const struct gguf_tensor *tensor, uint64_t offset, size_t n_bytes, void *dst,
                     struct err *err)
{
    const struct gguf_part *part = &g->parts[tensor->part];
    if (offset > tensor->bytes || n_bytes > tensor->bytes - offset)
        return err_set(err, ERR_INVAL, "%s: tensor %s: %zu bytes at %" PRIu64 " asked for, it has %" PRIu64, part->path,
                       tensor->name, n_bytes, offset, tensor->bytes);
    int rc = gguf_part_read(part, tensor->offset + offset, n_bytes, dst, NULL, err);
    if (rc < 0)
        err_prefix(err, "tensor %s", tensor->name);
    return rc;
}

const char *gguf_shape_text(int32_t n_dims, const int64_t *ne, char *out, size_t cap)
{
    size_t at = 0;
    out[0] = 0;
    for (int32_t d = 0; d < n_dims && at < cap; d++) {
        int n = snprintf(out + at, cap - at, "%s%" PRId64, d ? " x " : "", ne[d]);
        at += n > 0 ? (size_t)n : 0;
    }
    return out;
}
