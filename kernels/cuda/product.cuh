/*
 * product - matrix products of packed weights: what linear.cu and moe.cu ask for, and one product_<form>.cu for every form of weights answers.
 *
 * Activations are multiplied as halves with one power of two a row: made beforehand (cuda_halves), or, where a block reads far more of the weights than of the rows, by every block for
 * itself, which saves a launch. Halves have a range of their own: a row is multiplied by the power of two that brings its largest value to 2^14 ... 2^15, which is undone after the
 * product. So activations of any size keep 11 bits, and what is 2^28 times smaller than the largest begins to lose some.
 *
 * Products of one call that have the same form share a launch where rows are few. Three kernels do the same additions in the same order: `few` for some rows, where weights are read at the speed of the memory, `mix` for the experts' last product of some tokens, `many`
 * for a prefill. A row of weights is cut along its columns into at most eight slices, by its length alone; a slice is summed by mma after mma in f32, slices are added in order. So a token's
 * result has the same bits in each, whatever stands beside it.
 */
#ifndef HERON_KERNELS_CUDA_PRODUCT_CUH
#define HERON_KERNELS_CUDA_PRODUCT_CUH

#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/weights.cuh"

#define PRODUCT_ONCE   8  /* rows of one mma: fewer cost no less */
#define PRODUCT_FEW    32 /* rows that are few, where nobody measured (KN_FEW_ROWS) */
#define PRODUCT_TOKENS 64 /* of a tile of `many` */
#define PRODUCT_SET    4  /* products of one launch */
#define PRODUCT_PAIRS  64 /* pairs that are slots of their own, where nobody measured (KN_FEW_PAIRS) */
#define PRODUCT_FLOATS 32 /* rows at most whose halves a block makes */

#define PRODUCT_EXPONENT 14 /* of a row's largest half */

/* A tile of tokens of one expert: slots first ... first + n - 1. */
struct product_tile {
    int32_t slice, first, n;
};

struct product {
    struct cuda_weight w[2]; /* two: y = silu(x w[0]^T) * (x w[1]^T) */
    bool is_dual;
    int32_t tile0[2];      /* first tile of each: where gate and up are halves of one weight */
    int32_t rows;          /* outputs */
    const uint16_t *x;     /* halves [.., pitch]; NULL: of `from`, by every block for itself */
    const float *x_factor; /* [..] */
    int32_t pitch;
    struct kn_mat from; /* the rows that x is made of */
    int32_t n;          /* slots: tokens, or pairs of token and expert */
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
    /* `mix`: row t of y is the sum, in order, of weights[t, i] times what slot t * per_slot + i has */
    struct kn_mat weights;
    int32_t per_slot; /* 0: no mix */
    /* and, where shared.data is there, += gates[t] times shared[t] w[1]^T */
    struct kn_mat shared, gates;
    struct norm_then then; /* `few` of one product, and `mix` */
};

/* One for every form: launch. Products of one call share their rows (x or from, n), is_dual, and what is there of the experts: few rows take one launch. */
typedef void product_fn(struct cuda_stream *s, const char *op, const struct product *p, int n);
extern product_fn product_f16, product_q8_0, product_q4_k, product_q5_k, product_q6_k, product_iq4_xs, product_mxfp4,
    product_nvfp4, product_old;

/* The one for a weight; NULL for F32, which plain.cu has. */
product_fn *product_of(enum kn_dtype dtype);

/*
 * Whether blocks had better make halves themselves, of n rows of `cols` that go with so many tiles of the weight: the floats are no more bytes than the tiles, and the halves fit. The bits are
 * the same either way.
 */
bool product_takes_floats(const struct cuda_weight *w, int32_t n, int32_t tiles, int32_t cols);

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

/* F32 weights in f32: as a product_fn, of `from` alone (ids NULL or of all slots; no mix). */
product_fn cuda_plain_product;

/* The power of two for a row whose largest value is `most`, and what undoes it. */
struct half_range {
    float to, back;
};

static __device__ __forceinline__ struct half_range half_range_of(float most)
{
    const int exponent = (int)(bits_of(most) >> 23 & 255) - 127;
    const bool is_plain = most == 0 || exponent == 128; /* nothing, or not a number: as it is */
    const int shift = is_plain ? 0 : max(-126, min(126, PRODUCT_EXPONENT - exponent));
    return {float_of((uint32_t)(shift + 127) << 23), float_of((uint32_t)(127 - shift) << 23)};
}

/* Columns 2 i and 2 i + 1 of a row of n, as halves. */
static __device__ __forceinline__ uint32_t half_pair(const float *row, int i, int n, float factor)
{
    return pack_f16(2 * i < n ? row[2 * i] * factor : 0, 2 * i + 1 < n ? row[2 * i + 1] * factor : 0);
}

#endif
