/*
 * gguf_writer - writes GGUF files (version 3): for small random models, tests and tools; it is no converter.
 *
 * Life cycle: gguf_writer_create -> add keys and tensors (names, shapes, types) -> gguf_writer_begin -> gguf_writer_data for all
 * tensors' bytes in order -> gguf_writer_end -> gguf_writer_free. What is written goes to "PATH.part" and takes its name only in
 * gguf_writer_end: a failure leaves nothing behind.
 *
 * Errors are sticky: the first one is kept, later calls do nothing, gguf_writer_end reports it. Names, keys and values are copied.
 * Threads: one. Memory: the header, and nothing of the data.
 */
#ifndef HERON_ENGINE_GGUF_WRITER_H
#define HERON_ENGINE_GGUF_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/dtype.h"

struct gguf_writer;

int gguf_writer_create(struct gguf_writer **ret_writer, struct err *err);
void gguf_writer_free(struct gguf_writer *w); /* an unfinished file is removed */

void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t value);
void gguf_writer_f32(struct gguf_writer *w, const char *key, float value);
void gguf_writer_bool(struct gguf_writer *w, const char *key, bool value);
void gguf_writer_string(struct gguf_writer *w, const char *key, const char *value);
void gguf_writer_i32_array(struct gguf_writer *w, const char *key, const int32_t *values, size_t n);
void gguf_writer_f32_array(struct gguf_writer *w, const char *key, const float *values, size_t n);
void gguf_writer_bool_array(struct gguf_writer *w, const char *key, const bool *values, size_t n);
void gguf_writer_string_array(struct gguf_writer *w, const char *key, const char *const *values, size_t n);

/* ne: fastest first, n_dims of them; rows must be whole blocks of the type. */
void gguf_writer_tensor(struct gguf_writer *w, const char *name, int32_t n_dims, const int64_t *ne, enum kn_dtype type);

/* Write the header. No keys or tensors can be added from here on. */
void gguf_writer_begin(struct gguf_writer *w, const char *path);

/* The next bytes of tensor data; a piece belongs to one tensor, and padding between tensors is the writer's. */
void gguf_writer_data(struct gguf_writer *w, const void *bytes, size_t n_bytes);

/* All data is there: flush, give the file its name. Errors: the first of all calls: ERR_INVAL, ERR_IO, ERR_NOMEM. */
int gguf_writer_end(struct gguf_writer *w, struct err *err);

#endif
