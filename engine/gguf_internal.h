/*
 * gguf_internal - what gguf.c (opening), gguf_get.c (reading values) and intake.c (reading all weights) share. Not for others.
 */
#ifndef HERON_ENGINE_GGUF_INTERNAL_H
#define HERON_ENGINE_GGUF_INTERNAL_H

#include <time.h>

#include "engine/gguf.h"

struct gguf_part {
    char *path;
    int fd;                /* -1: in memory */
    const uint8_t *memory; /* borrowed, or NULL */
    uint64_t size;
    struct timespec written; /* when the file was last written to, as of its opening */
    uint8_t *header;         /* owned unless in memory */
    uint64_t header_bytes;
    uint64_t data_offset;
};

struct gguf {
    char *path;
    struct gguf_part *parts;
    int32_t n_parts;
    uint32_t version;
    uint64_t fingerprint;
    struct gguf_entry *entries;
    size_t n_entries;
    uint32_t *entries_by_name;
    struct gguf_tensor *tensors;
    size_t n_tensors;
    uint32_t *tensors_by_name;
    char **pools; /* one per part: names and keys, NUL-terminated */
};

/* n bytes of a part at an offset, which lie inside it. ret_got (may be NULL): how many there were, also on failure. Any thread. Errors: those of gguf_tensor_read. */
int gguf_part_read(const struct gguf_part *part, uint64_t offset, uint64_t n, void *dst, uint64_t *ret_got, struct err *err);

/* Bytes of one value of a type; 0 for strings, arrays and what is no type. */
uint32_t gguf_type_bytes(uint32_t type);
const char *gguf_type_name(int type);

/* The integer of a value, any width; false where it is none or above 2^63 - 1. */
bool gguf_entry_integer(int type, const void *data, int64_t *ret_value);

#endif
