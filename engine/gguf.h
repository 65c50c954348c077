/*
 * gguf - the reader of GGUF files: header, metadata and tensor directory; no tensor arithmetic.
 *
 * The header is read into memory (read, never mapped: mapped weights would be counted twice on machines whose GPU shares the
 * memory); tensor data is read on demand with gguf_tensor_read, and all of it by engine/intake.h. Versions 2 and 3, little-endian. A model in several parts
 * (`-00001-of-00003.gguf`) is opened by any of them: the siblings are found by name, their tensors form one set, the metadata
 * is the first part's.
 *
 * Life cycle: gguf_open or gguf_open_memory -> getters, gguf_tensor_read -> gguf_close.
 *
 * Threads: immutable after open, but for gguf_tensor_read, which only uses pread: any thread.
 * Memory: the header's bytes plus one directory entry per key and tensor. A file cannot make the reader allocate more than a
 * small multiple of its own size: every count is checked against the bytes that are left before anything is allocated for it.
 * Strings and arrays that getters return are borrowed until gguf_close; names and keys are NUL-terminated, string values are
 * not.
 *
 * Invariants after open: keys are unique; tensor names are unique and not empty; each tensor has 1 to 4 dimensions, all
 * positive, of fewer than 2^63 elements together; its offset keeps the alignment; where the type is one of kernels/dtype.h,
 * rows are whole blocks and its bytes lie inside its file. Tensors of other types are listed with bytes = 0 and cannot be read.
 */
#ifndef HERON_ENGINE_GGUF_H
#define HERON_ENGINE_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define GGUF_DIMS_MAX 4

enum gguf_type {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12,
};

struct gguf;

/* Bytes of a string value; not NUL-terminated, any bytes at all. */
struct gguf_string {
    const char *data;
    size_t n;
};

struct gguf_tensor {
    const char *name;
    int32_t n_dims;
    int64_t ne[GGUF_DIMS_MAX]; /* fastest first; dimensions not listed are 1 */
    int type;                  /* GGUF code: enum kn_dtype where supported */
    int32_t part;              /* which file */
    uint64_t offset;           /* in that file, from its start */
    uint64_t bytes;            /* 0: a type that Heron does not know */
    int64_t n_elems;
};

/* A key and its value. */
struct gguf_entry {
    const char *key;
    int type;         /* enum gguf_type */
    int elem_type;    /* of an array */
    uint64_t count;   /* of an array; otherwise 1 */
    const void *data; /* the value's bytes as in the file, unaligned; of a string: its characters */
    size_t n_bytes;   /* of data */
};

/*
 * Open a file, all its parts included. Errors: ERR_NOT_FOUND (file, or a part of it), ERR_IO, ERR_FORMAT (file, offset,
 * expected, found), ERR_UNSUPPORTED (version), ERR_NOMEM.
 */
int gguf_open(const char *path, struct gguf **ret_gguf, struct err *err);

/* The same over bytes in memory, which are borrowed until gguf_close. `name` is for error texts. Split files are refused. */
int gguf_open_memory(const void *bytes, size_t n_bytes, const char *name, struct gguf **ret_gguf, struct err *err);
void gguf_close(struct gguf *g);

/* ---- the files ---- */

const char *gguf_path(const struct gguf *g);    /* as given to open */
int32_t gguf_n_parts(const struct gguf *g);     /* 1 where not split */
uint64_t gguf_file_bytes(const struct gguf *g); /* all parts */
uint32_t gguf_version(const struct gguf *g);
/* 64 bits over the header bytes and the sizes of all parts: tells two files apart without reading the weights. */
uint64_t gguf_fingerprint(const struct gguf *g);

/* ---- metadata ---- */

size_t gguf_n_entries(const struct gguf *g);
const struct gguf_entry *gguf_entry_at(const struct gguf *g, size_t i);    /* in file order */
const struct gguf_entry *gguf_find(const struct gguf *g, const char *key); /* NULL: no such key */

/*
 * Typed values. Each returns 0, or ERR_NOT_FOUND (no such key; *err says which), or ERR_FORMAT (key, expected, found: another
 * kind of value, or one that does not fit). Integers are taken from any integer or bool type, floats from any number.
 */
int gguf_get_u32(const struct gguf *g, const char *key, uint32_t *ret_value, struct err *err);
int gguf_get_i64(const struct gguf *g, const char *key, int64_t *ret_value, struct err *err);
int gguf_get_f32(const struct gguf *g, const char *key, float *ret_value, struct err *err);
int gguf_get_bool(const struct gguf *g, const char *key, bool *ret_value, struct err *err);
int gguf_get_string(const struct gguf *g, const char *key, struct gguf_string *ret_value, struct err *err);

/* Element i of a numeric array, or the value itself for i = 0 of a plain number. Errors as above, and ERR_FORMAT past the end.
 */
int gguf_get_i64_at(const struct gguf *g, const char *key, uint64_t i, int64_t *ret_value, struct err *err);
int gguf_get_f32_at(const struct gguf *g, const char *key, uint64_t i, float *ret_value, struct err *err);

/* Entries of an array; 0 where the key is missing or no array. */
uint64_t gguf_array_count(const struct gguf *g, const char *key);

/* A string value equals this text. False where the key is missing or no string. */
bool gguf_string_is(const struct gguf *g, const char *key, const char *text);

/* Copy a string value to a buffer of `cap` bytes, cut to fit between characters, control characters replaced by '?' and what is
 * no UTF-8 by U+FFFD, always terminated. Returns false (and an empty text) where the key is missing or no string. */
bool gguf_copy_text(const struct gguf *g, const char *key, char *out, size_t cap);

/* Walk an array of strings: gguf_strings_begin, then gguf_strings_next `count` times. */
struct gguf_strings {
    const unsigned char *at;
    uint64_t left;
};
int gguf_strings_begin(const struct gguf *g, const char *key, struct gguf_strings *ret_iter, struct err *err);
/* The next string; false at the end. */
bool gguf_strings_next(struct gguf_strings *iter, struct gguf_string *ret_value);

/* ---- tensors ---- */

size_t gguf_n_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i);           /* in file order, part after part */
const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name); /* NULL: no such tensor */

/* By part, then by offset: below, at or above 0 where a lies before b, at its place, behind it. */
int gguf_compare_places(const struct gguf_tensor *a, const struct gguf_tensor *b);

/* n_bytes of a tensor's data from `offset` on. Errors: ERR_IO, ERR_INVAL (beyond the tensor), ERR_FORMAT (the file became
 * shorter). */
int gguf_tensor_read(const struct gguf *g, const struct gguf_tensor *tensor, uint64_t offset, size_t n_bytes, void *dst,
                     struct err *err);

/* "1024 x 248320" into out, which is returned. */
const char *gguf_shape_text(int32_t n_dims, const int64_t *ne, char *out, size_t cap);

#endif
