/*
 * product - matrix products of packed weights, a launch each: what linear.cu and moe.cu ask for, and one product_<form>.cu for every form of weights answers.
 *
 * Activations come as halves with one power of two a row (cuda_halves). Two kernels do the same additions in the same order: `few` for some rows, where weights are read at the speed of
 * the memory, `many` for a prefill. A row of weights is cut along its columns into at most eight slices, by its length alone; a slice is summed by mma after mma in f32, slices are
 * added in order. So a token's result has the same bits in either, whatever stands beside it.
 */
#ifndef HERON_KERNELS_CUDA_PRODUCT_CUH
#define HERON_KERNELS_CUDA_PRODUCT_CUH

#include "kernels/cuda/weights.cuh"

#define PRODUCT_FEW    32 /* rows that are few */
#define PRODUCT_TOKENS 64 /* of a tile of `many` */

/* A tile of tokens of one expert: slots first ... first + n - 1. */
struct product_tile {
    int32_t slice, first, n;
};

struct product {
    struct cuda_weight w[2]; /* two: y = silu(x w[0]^T) * (x w[1]^T) */
    bool is_dual;
    int32_t tile0[2];      /* first tile of each: where gate and up are halves of one weight */
    int32_t rows;          /* outputs */
    const uint16_t *x;     /* halves [.., pitch] */
    const float *x_factor; /* [..] */
    int32_t pitch;
    int32_t n; /* slots: tokens, or pairs of token and expert */
    struct kn_mat y;
    kn_vec bias;
    enum kn_act act;
    bool accumulate;
    /* experts */
    const int32_t *ids; /* `few`: slot i is of expert ids[i] */
    const struct product_tile
        *tiles; /* `many`: [n_tiles] on the device, n 0 where there is none; and slot i is pair order[i] */
    const int32_t *order;
    int32_t n_tiles, per_token; /* pair p takes row p / per_token of x, and is row p of y */
};

/* One for every form: launch. */
typedef void product_fn(struct cuda_stream *s, const char *op, const struct product *p);
extern product_fn product_f16, product_q8_0, product_q4_k, product_q5_k, product_q6_k, product_iq4_xs, product_mxfp4,
    product_nvfp4, product_old;

/* The one for a weight; NULL for F32, which plain.cu has. */
product_fn *product_of(enum kn_dtype dtype);

/* Rows of x as halves, and a power of two that brings each back: to `halves` [x.rows, pitch] and `factors`. Columns from x.cols to pitch become 0. */
void cuda_halves(struct cuda_stream *s, const char *op, const struct kn_mat *x, uint16_t *halves, float *factors,
                 int32_t pitch);

static inline int32_t cuda_pitch(int32_t cols)
{
    return (cols + 63) / 64 * 64;
}

/* y = silu(g) * u, all of the same shape. */
void cuda_silu_product(struct cuda_stream *s, const char *op, const struct kn_mat *g, const struct kn_mat *u,
                       const struct kn_mat *y);

/* F32 weights in f32: as struct product, from floats x (x_factor, halves and tiles unused; ids NULL or of all slots). */
void cuda_plain_product(struct cuda_stream *s, const char *op, const struct product *p, const struct kn_mat *x);

#endif
