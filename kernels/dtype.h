/*
 * dtype - the number and block formats of GGUF tensors: the one definition for C and CUDA.
 *
 * A row of a tensor is a run of blocks; a block holds `block_elems` values in `block_bytes` bytes, in logical order along
 * the row. The byte layouts are those of ggml (see engine/MODEL.md, "Block formats"); the codes are GGUF's own.
 *
 * Threads: pure functions over constant tables. Memory: none.
 */
#ifndef HERON_KERNELS_DTYPE_H
#define HERON_KERNELS_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kn_dtype {
    KN_F32 = 0,
    KN_F16 = 1,
    KN_Q4_0 = 2,
    KN_Q4_1 = 3,
    KN_Q5_0 = 6,
    KN_Q5_1 = 7,
    KN_Q8_0 = 8,
    KN_Q2_K = 10,
    KN_Q3_K = 11,
    KN_Q4_K = 12,
    KN_Q5_K = 13,
    KN_Q6_K = 14,
    KN_IQ4_NL = 20,
    KN_IQ4_XS = 23,
    KN_I32 = 26, /* token ids and index lists; never a weight */
    KN_BF16 = 30,
    KN_MXFP4 = 39,
    KN_NVFP4 = 40,
    KN_DTYPE_COUNT = 41, /* one past the largest code; codes in between that are not listed are not supported */
};

struct kn_dtype_info {
    const char *name;     /* as people write it: "Q4_K" */
    uint16_t block_elems; /* values per block; 0: a code that is not supported */
    uint16_t block_bytes;
};

/* The row for a code, or NULL for one outside the list above (0 .. KN_DTYPE_COUNT - 1 and known). */
const struct kn_dtype_info *kn_dtype_info(int code);

/* Name of any GGUF type code, also of those not supported ("IQ2_XXS"), for error texts; "type 77" style where unknown is the
 * caller's. */
const char *kn_dtype_name(int code);

/* Parse a name, case ignored ("q4_k"); returns false where there is none. */
bool kn_dtype_parse(const char *name, enum kn_dtype *ret_dtype);

/* Bytes of a row of n values; 0 where n is not a whole number of blocks or the code is unknown. */
size_t kn_row_bytes(enum kn_dtype dtype, int64_t n);

/* ---- the block layouts (little-endian, no padding) ---- */

#pragma pack(push, 1)
struct kn_block_q4_0 {
    uint16_t d;
    uint8_t qs[16];
};
struct kn_block_q4_1 {
    uint16_t d, m;
    uint8_t qs[16];
};
struct kn_block_q5_0 {
    uint16_t d;
    uint8_t qh[4];
    uint8_t qs[16];
};
struct kn_block_q5_1 {
    uint16_t d, m;
    uint8_t qh[4];
    uint8_t qs[16];
};
struct kn_block_q8_0 {
    uint16_t d;
    int8_t qs[32];
};
struct kn_block_q2_k {
    uint8_t scales[16];
    uint8_t qs[64];
    uint16_t d, dmin;
};
struct kn_block_q3_k {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    uint16_t d;
};
struct kn_block_q4_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qs[128];
};
struct kn_block_q5_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
};
struct kn_block_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;
};
struct kn_block_iq4_nl {
    uint16_t d;
    uint8_t qs[16];
};
struct kn_block_iq4_xs {
    uint16_t d, scales_h;
    uint8_t scales_l[4];
    uint8_t qs[128];
};
struct kn_block_mxfp4 {
    uint8_t e;
    uint8_t qs[16];
};
struct kn_block_nvfp4 {
    uint8_t d[4];
    uint8_t qs[32];
};
#pragma pack(pop)

extern const int8_t kn_iq4_values[16]; /* the non-linear 4-bit table of IQ4_NL and IQ4_XS */
extern const int8_t kn_fp4_values[16]; /* e2m1 times two: MXFP4 and NVFP4 */

/* Half and bfloat16 to float and back (round to nearest even). */
float kn_f16_to_f32(uint16_t h);
uint16_t kn_f32_to_f16(float f);
float kn_bf16_to_f32(uint16_t h);
uint16_t kn_f32_to_bf16(float f);

/* n values (a whole number of blocks) of any supported type to float; the exact value of each element in f32. */
void kn_dequantize(enum kn_dtype dtype, const void *src, int64_t n, float *dst);

/*
 * n floats to one of F32, F16, BF16, Q8_0, Q4_0 (round to nearest; Q8_0: d = absmax / 127). Returns false for another type.
 * Enough for the model writer and the KV cache; it is not a model quantiser.
 */
bool kn_quantize(enum kn_dtype dtype, const float *src, int64_t n, void *dst);

/*
 * Fill n values of any supported type with valid noise of about the given standard deviation: values i of the stream `seed` of
 * base/rng.h. The same on every machine. For synthetic models and tests.
 */
void kn_fill_noise(enum kn_dtype dtype, uint64_t seed, float stddev, int64_t n, void *dst);

#endif
