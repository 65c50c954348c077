/*
 * pack - how a weight matrix lies in memory on the CPU device.
 *
 * Rows (outputs) are taken in groups of 16, the lanes of a vector. Within a group the GGUF blocks of the 16 rows are
 * interleaved, field by field, in pieces that fit an instruction: quants in pieces of 4 bytes (so that a 64-byte load holds 4
 * consecutive inputs, or 8 nibbles, of 16 outputs: what integer dot products and tile instructions eat without a horizontal
 * sum), scales in pieces of one byte or one half. No bit is changed and none is added: the size is GGUF's, but for the last
 * group, filled up with zero rows, and up to 63 bytes per group.
 *
 * A group is its head (block after block: the fields of d, m and the like), padded to 64 bytes, then its body (block after
 * block: everything else, always whole 64-byte lines). Unpacking a row is the same permutation backwards.
 *
 * Threads: pure functions over the caller's memory. Packing different groups concurrently is fine.
 */
#ifndef HERON_KERNELS_CPU_PACK_H
#define HERON_KERNELS_CPU_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/dtype.h"

#define PACK_ROWS    16
#define PACK_VERSION 1 /* the value of kn_weight.packed */

struct pack_field {
    uint8_t off, bytes; /* in the GGUF block */
    uint8_t grain;      /* bytes per row that stay together: 1, 2 or 4 */
};

struct pack_layout {
    uint16_t elems;                  /* values per block; floating types: 1 */
    uint16_t block_bytes;            /* GGUF's */
    uint16_t head_bytes, body_bytes; /* per row and block */
    struct pack_field head[2], body[3];
    uint8_t n_head, n_body;
};

/* The shape of one weight. */
struct pack_shape {
    const struct pack_layout *layout;
    enum kn_dtype dtype;
    int32_t rows, cols, n_blocks; /* blocks per row */
    int32_t n_groups;             /* per slice */
    size_t head_bytes;            /* of a group's head, padded */
    size_t group_bytes, slice_bytes;
};

/* NULL for a type that is no weight. */
const struct pack_layout *pack_layout_of(enum kn_dtype dtype);

/* rows x cols of one slice; cols is a whole number of blocks. Returns false where the type is no weight or cols does not fit.
 */
bool pack_shape_init(struct pack_shape *shape, enum kn_dtype dtype, int32_t rows, int32_t cols);

/* Write rows first .. first + n - 1 (GGUF blocks, at src, one row after the other) of one slice into it. */
void pack_rows(const struct pack_shape *shape, void *slice, int32_t first, int32_t n, const void *src);

/* One row of a slice back into GGUF blocks; blocks b0 .. b0 + n - 1 of it. */
void pack_get_row(const struct pack_shape *shape, const void *slice, int32_t row, int32_t b0, int32_t n, void *dst);

#endif
