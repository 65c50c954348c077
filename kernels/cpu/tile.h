/*
 * tile - the inner kernels of matrix products, one set per instruction set.
 *
 * Weights come in the packed layout of pack.h, 16 outputs at a time. Activations come as struct tile_row: floats for
 * floating-point weights; for block formats int8 with one scale per 32 values, and the sums that offsets of the formats need.
 *
 * One output of one row is, for block formats, with s over sub-blocks (32 or 16 inputs) in order,
 *   acc = fma(float(sum_k (q_k - bias) x_k) * ad, scale_s, acc);  acc = fma(-offset_s, sum_s(x), acc)   [where the type has
 * offsets] the integer sum being exact; for floating types, with b over blocks of 64 inputs in order, acc += (chain of fma over
 * the 64). `fused` (few rows: unpack in registers, straight from memory) and `unpack` + `gemm` (many rows: unpack once into a
 * panel in the first-level cache) do these very operations in this very order, so a row's result does not depend on which one
 * ran.
 *
 * Threads: pure functions over the caller's memory.
 */
#ifndef HERON_KERNELS_CPU_TILE_H
#define HERON_KERNELS_CPU_TILE_H

#include <stdint.h>

#include "kernels/cpu/pack.h"

#define TILE_FUSED_ROWS 4   /* most rows of `fused` */
#define TILE_K          256 /* inputs of a panel, block formats */
#define TILE_K_FLOAT    64  /* and floating types: also the length of one chain of fma */

/* One row of activations. */
struct tile_row {
    const float *x;               /* floating weights: the values */
    const int8_t *q;              /* block formats: x_k = q_k * ad[k / 32] */
    const float *ad;              /* [cols / 32] */
    const int32_t *sum32, *sum16; /* sums of q over 32 and 16 */
    const float *fsum32, *fsum16; /* the same times ad */
};

/* TILE_K (or TILE_K_FLOAT) inputs of 16 outputs, unpacked. */
struct tile_panel {
    union {
        uint8_t w[TILE_K / 4][64]; /* [k / 4][output][k % 4] */
        float f[TILE_K_FLOAT][16]; /* [k][output] */
    };
    float scale[TILE_K / 16][16]; /* [sub-block][output] */
    float offset[TILE_K / 16][16];
} __attribute__((aligned(64)));

/* Where quantised activations go. */
struct tile_act {
    int8_t *q;
    float *ad, *fsum32, *fsum16;
    int32_t *sum32, *sum16;
};

struct tile_kernels {
    /* n floats (a multiple of 32) to int8. */
    void (*quantize)(const float *x, int32_t n, const struct tile_act *act);

    struct {
        /* y[r][o] for n_rows <= TILE_FUSED_ROWS rows and 16 outputs, over n_blocks (floating: inputs). y: rows 32 apart. */
        void (*fused)(const uint8_t *head, const uint8_t *body, int32_t n_blocks, const struct tile_row *rows, int n_rows,
                      float *y);
        /* Blocks first .. first + n - 1 (floating: inputs) into a panel. */
        void (*unpack)(const uint8_t *head, const uint8_t *body, int32_t first, int32_t n, struct tile_panel *panel);
        /*
         * acc[r][g * 16 + o] += panel g (of n_panels, 1 or 2) times inputs k0 .. k0 + n_k - 1 of every row. acc: rows 32 apart.
         */
        void (*gemm)(const struct tile_panel *panels, int n_panels, int32_t k0, int32_t n_k, const struct tile_row *rows,
                     int n_rows, float *acc);
    } type[KN_DTYPE_COUNT];
};

/* True where the activations are used as floats. */
static inline bool tile_is_float(enum kn_dtype t)
{
    return t == KN_F32 || t == KN_F16 || t == KN_BF16;
}

extern const struct tile_kernels tile_scalar;
#if defined(__x86_64__)
extern const struct tile_kernels tile_avx2, tile_avx512;
#endif

#endif
