#include "engine/gguf_writer.h"

#include "engine/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WRITER_ALIGNMENT 32

struct bytes {
    unsigned char *data;
    size_t n, cap;
};

struct gguf_writer {
    struct bytes keys, tensors; /* the two parts of the header */
    uint64_t n_keys, n_tensors;
    uint64_t *sizes; /* [n_tensors] data bytes of each */
    uint64_t data_bytes;
    FILE *file;
    char *path, *part_path;
    uint64_t tensor, done; /* where the data stands: tensor, bytes of it */
    struct err err;
};

int gguf_writer_create(struct gguf_writer **ret_writer, struct err *err)
{
    struct gguf_writer *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(err, ERR_NOMEM, "no memory for a GGUF writer");
    *ret_writer = w;
    return 0;
}

void gguf_writer_free(struct gguf_writer *w)
{
    if (!w)
        return;
    if (w->file) {
        fclose(w->file);
        unlink(w->part_path);
    }
    free(w->keys.data);
    free(w->tensors.data);
    free(w->sizes);
    free(w->path);
    free(w->part_path);
    free(w);
}

/* ---- the header ------------------------------------------------------------------------------------------------------------- */

static void put(struct gguf_writer *w, struct bytes *b, const void *data, size_t n)
{
    if (w->err.code < 0 || n == 0)
        return;
    if (b->cap - b->n < n) {
        size_t cap = b->cap * 2 > b->n + n ? b->cap * 2 : b->n + n + 4096;
        unsigned char *bigger = realloc(b->data, cap);
        if (!bigger) {
            err_set(&w->err, ERR_NOMEM, "no memory for a GGUF header of %zu bytes", cap);
            return;
        }
        b->data = bigger;
        b->cap = cap;
    }
    memcpy(b->data + b->n, data, n);
    b->n += n;
}

static void put_u32(struct gguf_writer *w, struct bytes *b, uint32_t v)
{
    put(w, b, &v, sizeof v);
}

static void put_u64(struct gguf_writer *w, struct bytes *b, uint64_t v)
{
    put(w, b, &v, sizeof v);
}

static void put_string(struct gguf_writer *w, struct bytes *b, const char *s)
{
    put_u64(w, b, strlen(s));
    put(w, b, s, strlen(s));
}

static void put_key(struct gguf_writer *w, const char *key, enum gguf_type type)
{
    put_string(w, &w->keys, key);
    put_u32(w, &w->keys, type);
    w->n_keys++;
}

static void put_array(struct gguf_writer *w, const char *key, enum gguf_type type, const void *values, size_t n, size_t each)
{
    put_key(w, key, GGUF_ARRAY);
    put_u32(w, &w->keys, type);
    put_u64(w, &w->keys, n);
    put(w, &w->keys, values, n * each);
}

void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t value)
{
    put_key(w, key, GGUF_U32);
    put_u32(w, &w->keys, value);
}

void gguf_writer_f32(struct gguf_writer *w, const char *key, float value)
{
    put_key(w, key, GGUF_F32);
    put(w, &w->keys, &value, sizeof value);
}

void gguf_writer_bool(struct gguf_writer *w, const char *key, bool value)
{
    put_key(w, key, GGUF_BOOL);
    put(w, &w->keys, &(uint8_t){value}, 1);
}

void gguf_writer_string(struct gguf_writer *w, const char *key, const char *value)
{
    put_key(w, key, GGUF_STRING);
    put_string(w, &w->keys, value);
}

void gguf_writer_i32_array(struct gguf_writer *w, const char *key, const int32_t *values, size_t n)
{
    put_array(w, key, GGUF_I32, values, n, sizeof *values);
}

void gguf_writer_f32_array(struct gguf_writer *w, const char *key, const float *values, size_t n)
{
    put_array(w, key, GGUF_F32, values, n, sizeof *values);
}

void gguf_writer_bool_array(struct gguf_writer *w, const char *key, const bool *values, size_t n)
{
    put_array(w, key, GGUF_BOOL, NULL, 0, 1);
    /* one byte each, whatever the compiler's bool; the count comes last in the array's head */
    if (w->err.code == 0)
        memcpy(w->keys.data + w->keys.n - 8, &(uint64_t){n}, 8);
    for (size_t i = 0; i < n; i++)
        put(w, &w->keys, &(uint8_t){values[i]}, 1);
}

void gguf_writer_string_array(struct gguf_writer *w, const char *key, const char *const *values, size_t n)
{
    put_key(w, key, GGUF_ARRAY);
    put_u32(w, &w->keys, GGUF_STRING);
    put_u64(w, &w->keys, n);
    for (size_t i = 0; i < n; i++)
        put_string(w, &w->keys, values[i]);
}

static uint64_t aligned(uint64_t n)
{
    return (n + WRITER_ALIGNMENT - 1) / WRITER_ALIGNMENT * WRITER_ALIGNMENT;
}

void gguf_writer_tensor(struct gguf_writer *w, const char *name, int32_t n_dims, const int64_t *ne, enum kn_dtype type)
{
    int64_t rows = 1;
    for (int32_t d = 1; d < n_dims; d++)
        rows *= ne[d];
    const uint64_t size = (uint64_t)rows * kn_row_bytes(type, ne[0]);
    if (w->err.code < 0)
        return;
    if (size == 0) {
        char shape[96];
        err_set(&w->err, ERR_INVAL, "tensor %s (%s): rows are no whole number of %s blocks", name,
                gguf_shape_text(n_dims, ne, shape, sizeof shape), kn_dtype_name(type));
        return;
    }
    uint64_t *sizes = realloc(w->sizes, (w->n_tensors + 1) * sizeof *sizes);
    if (!sizes) {
        err_set(&w->err, ERR_NOMEM, "no memory for tensor %s", name);
        return;
    }
    w->sizes = sizes;
    sizes[w->n_tensors++] = size;
    put_string(w, &w->tensors, name);
    put_u32(w, &w->tensors, (uint32_t)n_dims);
    for (int32_t d = 0; d < n_dims; d++)
        put_u64(w, &w->tensors, (uint64_t)ne[d]);
    put_u32(w, &w->tensors, (uint32_t)type);
    put_u64(w, &w->tensors, w->data_bytes);
    w->data_bytes = aligned(w->data_bytes + size);
}

/* ---- the file --------------------------------------------------------------------------------------------------------------- */

static void emit(struct gguf_writer *w, const void *data, size_t n)
{
    if (w->err.code == 0 && n && fwrite(data, 1, n, w->file) != n)
        err_set_errno(&w->err, ERR_IO, "%s: writing %zu bytes", w->part_path, n);
}

static void emit_padding(struct gguf_writer *w, uint64_t written)
{
    static const unsigned char zeros[WRITER_ALIGNMENT];
    emit(w, zeros, aligned(written) - written);
}

void gguf_writer_begin(struct gguf_writer *w, const char *path)
{
    if (w->err.code < 0)
        return;
    w->path = strdup(path);
    if (!w->path || asprintf(&w->part_path, "%s.part", path) < 0) {
        w->part_path = NULL;
        err_set(&w->err, ERR_NOMEM, "%s: no memory", path);
        return;
    }
    w->file = fopen(w->part_path, "wbe");
    if (!w->file) {
        err_set_errno(&w->err, ERR_IO, "%s: creating", w->part_path);
        return;
    }
    const uint32_t version = 3;
    emit(w, "GGUF", 4);
    emit(w, &version, sizeof version);
    emit(w, &w->n_tensors, sizeof w->n_tensors);
    emit(w, &w->n_keys, sizeof w->n_keys);
    emit(w, w->keys.data, w->keys.n);
    emit(w, w->tensors.data, w->tensors.n);
    emit_padding(w, 24 + w->keys.n + w->tensors.n);
}

void gguf_writer_data(struct gguf_writer *w, const void *bytes, size_t n_bytes)
{
    if (w->err.code < 0)
        return;
    if (w->tensor >= w->n_tensors || n_bytes > w->sizes[w->tensor] - w->done) {
        err_set(&w->err, ERR_INVAL, "%s: more data than tensor %llu has", w->path, (unsigned long long)w->tensor);
        return;
    }
    emit(w, bytes, n_bytes);
    w->done += n_bytes;
    if (w->done == w->sizes[w->tensor]) {
        emit_padding(w, w->done);
        w->tensor++;
        w->done = 0;
    }
}

int gguf_writer_end(struct gguf_writer *w, struct err *err)
{
    if (w->err.code == 0 && w->tensor != w->n_tensors)
        err_set(&w->err, ERR_INVAL, "%s: data of tensor %llu of %llu is missing", w->path, (unsigned long long)w->tensor,
                (unsigned long long)w->n_tensors);
    if (w->err.code == 0 && (fflush(w->file) != 0 || fsync(fileno(w->file)) < 0))
        err_set_errno(&w->err, ERR_IO, "%s: writing", w->part_path);
    if (w->file) {
        int closed = fclose(w->file);
        w->file = NULL;
        if (w->err.code == 0 && closed != 0)
            err_set_errno(&w->err, ERR_IO, "%s: closing", w->part_path);
        if (w->err.code == 0 && rename(w->part_path, w->path) < 0)
            err_set_errno(&w->err, ERR_IO, "%s: renaming to %s", w->part_path, w->path);
        if (w->err.code < 0)
            unlink(w->part_path);
    }
    if (w->err.code < 0 && err)
        *err = w->err;
    return w->err.code;
}
