/*
 * tile - the inner kernels of matrix products, one set per instruction set.
 *
 * Weights come in the packed layout of pack.h, 16 outputs at a time. Activations come as struct tile_row: floats for floating-point weights, else int8 with one scale
 * for the values that a block of the weight's type has: 256 for the types whose blocks have an integer scale for each of their parts (TILE_LONG: the K types and IQ4_XS), 32 for
 * those with a float for each (TILE_SHORT).
 *
 * One output of one row, with s over the parts (32 or 16 inputs) of a block in order, is
 *   long:   per block, I = sum_s scale_s sum_k (q_k - bias) x_k and M = sum_s offset_s sum_k x_k, both exact integers; acc = fma(float(I), d ad, acc); acc = fma(-float(M), m ad, acc)
 *   short:  acc = fma(float(sum_k (q_k - bias) x_k) ad, scale_s, acc); acc = fma(-offset_s, ad sum_k x_k, acc)
 *   float:  with b over blocks of 64 inputs in order, acc += (chain of fma over the 64)
 * (offsets where the type has them). `fused` (few rows: unpack in registers, straight from memory) and `unpack` + `gemm` (many rows: unpack once into a panel in the first-level
 * cache) do these very operations on floats in this very order, so a row's result does not depend on which one ran. Integers may be summed in any way.
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

/* What activations are made: integers as above, rounded (is_bf16 of kn_linear_args), or left as they are. */
enum tile_grain { TILE_SHORT, TILE_LONG, TILE_BF16, TILE_FLOAT };

/* A row of them. sum: of q over 32 and over 16 values. */
struct tile_act {
    int8_t *q;              /* x_k = q_k * ad[k / 32], or ad[k / 256] */
    float *ad;              /* [cols / 32] or [cols / 256] */
    float *fsum32, *fsum16; /* short: ad times the sums */
    int16_t *sum32, *sum16;
};

/* One row of activations. */
struct tile_row {
    const float *x;
    struct tile_act act[2]; /* by enum tile_grain: what the op's weights need */
};

/* TILE_K (or TILE_K_FLOAT) inputs of 16 outputs, unpacked. */
struct tile_panel {
    union {
        struct {
            uint8_t w[TILE_K / 4][64];    /* [k / 4][output][k % 4] */
            uint8_t high[TILE_K / 4][64]; /* of weights in two parts (tile_amx.c) */
        };
        float f[TILE_K_FLOAT][16];     /* [k][output] */
        uint16_t h[TILE_K / 2][16][2]; /* bfloat16: [k / 2][output][k % 2] */
    };
    union {
        float scale[TILE_K / 16][16]; /* [part][output] */
        int32_t iscale[TILE_K / 16][16];
    };
    union {
        float offset[TILE_K / 16][16];
        int32_t side[TILE_K / 32][16]; /* long: offsets, or scales where weights have a bias, of two parts each as 16 bits */
    };
    float d[16], m[16]; /* long */
} __attribute__((aligned(64)));

/* Attention of some queries over all keys, without a mask: y[r] = softmax(scale q[r] . K) V. Rows of q, k and v are `stride` floats apart. */
#define TILE_ATTEND_ROWS  64
#define TILE_ATTEND_DIM   128    /* d at most */
#define TILE_ATTEND_BYTES 131072 /* of scratch */
struct tile_attend {
    const float *q, *k, *v;
    int64_t stride;
    int32_t n_queries, n_keys, d; /* n_queries: 1 .. TILE_ATTEND_ROWS */
    float scale;
    float *y;
    int64_t y_stride;
};

struct vec_kernels;

struct tile_kernels {
    /* n floats (a multiple of 32, for long ones of 256) to int8. */
    void (*quantize)(const float *x, int32_t n, const struct tile_act *act);
    void (*quantize_long)(const float *x, int32_t n, const struct tile_act *act);

    struct {
        /* y[r][o] for n_rows <= TILE_FUSED_ROWS rows and 16 outputs, over n_blocks (floating: inputs). y: rows 32 apart. */
        void (*fused)(const uint8_t *head, const uint8_t *body, int32_t n_blocks, const struct tile_row *rows, int n_rows,
                      float *y);
        /* Blocks first .. first + n - 1 (floating: inputs) into a panel. */
        void (*unpack)(const uint8_t *head, const uint8_t *body, int32_t first, int32_t n, struct tile_panel *panel);
        /*
         * acc[r][g * 16 + o] += panel g (of n_panels, 1 or 2) times inputs k0 .. k0 + n_k - 1 of every row. acc: rows 32 apart. The int8 of rows lie evenly spaced.
         */
        void (*gemm)(const struct tile_panel *panels, int n_panels, int32_t k0, int32_t n_k, const struct tile_row *rows,
                     int n_rows, float *acc);
    } type[KN_DTYPE_COUNT];

    /*
     * F16 and BF16 weights with both factors rounded to bfloat16; NULL where the level has nothing for it. Rows `stride` values apart, followed by zeros up to a multiple of 32 inputs,
     * and by 31 more rows of anything; of acc as many rows are written as make up a multiple of 16. However few rows there are, each is computed in the same way.
     */
    struct {
        void (*round)(const float *x, int32_t n, uint16_t *y);
        /* Inputs first .. first + n - 1 into a panel, and zeros. */
        void (*unpack)(enum kn_dtype type, const uint8_t *body, int32_t first, int32_t n, struct tile_panel *panel);
        void (*gemm)(const struct tile_panel *panels, int n_panels, int32_t n_k, const uint16_t *x, int64_t stride, int n_rows,
                     float *acc);
        void (*attend)(const struct tile_attend *attend, const struct vec_kernels *vec, void *tmp);
    } bf16;
};

static inline enum tile_grain tile_grain_of(enum kn_dtype t)
{
    const int n = kn_dtype_info(t)->block_elems;
    return n == 1 ? TILE_FLOAT : n == 256 ? TILE_LONG : TILE_SHORT;
}

extern const struct tile_kernels tile_scalar;
#if defined(__x86_64__)
extern const struct tile_kernels tile_avx2, tile_avx512;
void attn_amx_attend(const struct tile_attend *attend, const struct vec_kernels *vec, void *tmp);
/* Level "amx": tile_avx512 with products of many rows on tiles. */
void tile_amx_init(struct tile_kernels *ret_kernels);
#elif defined(__aarch64__)
extern const struct tile_kernels tile_neon;
/* Level "i8mm": tile_neon with products of many rows on matrix instructions. */
void tile_i8mm_init(struct tile_kernels *ret_kernels);
#endif

#endif
