/*
 * kn_rig - one device under test: inputs to device memory, outputs pre-filled with junk between guard bytes, and back.
 *
 * Everything goes through the kernels' door, so that the same tests run on any device. Failures end the cmocka test.
 */
#ifndef HERON_TESTS_SUPPORT_KN_RIG_H
#define HERON_TESTS_SUPPORT_KN_RIG_H

#include "base/rng.h"
#include "kernels/kernels.h"
#include "tests/support/test.h"

#define KN_RIG_BLOCKS_MAX 256

struct kn_rig {
    struct kn_device *device;
    struct kn_stream *stream;
    const struct kn_ops *op;
    struct {
        char *base; /* device: guard, data, guard */
        size_t bytes;
    } blocks[KN_RIG_BLOCKS_MAX];
    int n_blocks;
    struct kn_weight *weights[KN_RIG_BLOCKS_MAX];
    int n_weights;
};

/* isa NULL: all. Arguments are validated. */
void kn_rig_open(struct kn_rig *r, const char *device, const char *isa, int threads);
void kn_rig_close(struct kn_rig *r);

/* Free what the last case took. Checks all guards. */
void kn_rig_reset(struct kn_rig *r);

/* `bytes` of device memory holding host bytes; NULL: junk that is the same on every device. */
void *kn_rig_put(struct kn_rig *r, const void *host, size_t bytes);
void kn_rig_get(struct kn_rig *r, void *host, const void *device, size_t bytes);

/* n floats, about normal with this standard deviation, from stream `seed`. Host memory of test_malloc. */
float *kn_rig_noise(uint64_t seed, size_t n, float stddev);

/* A matrix of noise on the device, rows `pad` floats longer than cols. */
struct kn_mat kn_rig_mat(struct kn_rig *r, uint64_t seed, int32_t rows, int32_t cols, int32_t pad, float stddev);
/* One of junk, to be written. */
struct kn_mat kn_rig_out(struct kn_rig *r, int32_t rows, int32_t cols, int32_t pad);
/* A vector of mean + noise. */
kn_vec kn_rig_vec(struct kn_rig *r, uint64_t seed, int32_t n, float mean, float stddev);
/* A weight of noise in that type. Lives until kn_rig_reset. */
const struct kn_weight *kn_rig_weight(struct kn_rig *r, uint64_t seed, enum kn_dtype dtype, int32_t slices, int32_t rows,
                                      int32_t cols);
/* The same of these GGUF blocks. */
const struct kn_weight *kn_rig_weight_of(struct kn_rig *r, enum kn_dtype dtype, int32_t slices, int32_t rows, int32_t cols,
                                         const void *blocks);

/* What a case produced, row by row without padding. */
struct kn_output {
    float *data;
    size_t n, capacity;
};
void kn_output_add(struct kn_output *out, struct kn_rig *r, const struct kn_mat *m);
void kn_output_release(struct kn_output *out);

/* Sequences of a step: rows and past of each; pages are dealt out of order. */
struct kn_rig_seq {
    int32_t n_rows, past, slot;
};
/* pages_per_seq pages each, numbered so that no two sequences share one: page j of slot s is (j * n_slots + s). */
const struct kn_step *kn_rig_step(struct kn_rig *r, const struct kn_rig_seq *seqs, int32_t n_seqs, int32_t n_slots,
                                  int32_t vocab, const int32_t *tokens, const int32_t *pos);

#endif
