/*
 * product - the two kernels of product.cuh, for any form of weights (forms.cuh). Included by product_<form>.cu and plain.cu.
 *
 * Rows of weights are the mma's 16 rows, tokens its 8 columns: so one token costs no more reading than eight, and a weight goes from its packed word to a fragment in registers, without
 * shared memory. Halves of weights and activations hold 11 bits: the error of a product is a normalised mean square near 1e-7.
 *
 * few:  a warp takes one slice of a tile of 16 rows and all tokens; the slices' sums meet in shared memory. While a group is multiplied the next is on its way.
 * many: a block takes 8 tiles (of gate and up: 4 each) and 64 tokens; activations come strip by strip through a ring in shared memory, weights straight to the warp that needs them.
 */
#ifndef HERON_KERNELS_CUDA_PRODUCT_KERNELS_CUH
#define HERON_KERNELS_CUDA_PRODUCT_KERNELS_CUH

#include "kernels/cuda/forms.cuh"
#include "kernels/cuda/product.cuh"

#define MANY_WARPS  8
#define MANY_STAGES 4

/* ---- what both kernels agree on -------------------------------------------------------------------------------------------------- */

/* Slices of a row of so many strips, and strips of a slice. */
static __host__ __device__ __forceinline__ int slices_of(int strips)
{
    return strips >= 64 ? 8 : strips >= 32 ? 4 : strips >= 16 ? 2 : 1;
}

static __host__ __device__ __forceinline__ int slice_strips_of(int strips)
{
    const int n = slices_of(strips);
    return ((strips + n - 1) / n + 3) / 4 * 4;
}

static __device__ __forceinline__ int64_t x_row_of(const struct product &p, int slot)
{
    const int pair = p.order ? p.order[slot] : slot;
    return p.per_token > 1 ? pair / p.per_token : pair;
}

static __device__ __forceinline__ float activated(enum kn_act act, float u)
{
    if (act == KN_ACT_GELU_TANH)
        return 0.5f * u * (1.0f + tanhf(0.7978845608028654f * (u + 0.044715f * u * u * u)));
    return act == KN_ACT_GELU_ERF ? 0.5f * u * (1.0f + erff(u * 0.7071067811865476f)) : u;
}

/* The sums of a token's row become what y holds. */
template <bool DUAL>
static __device__ __forceinline__ void finish(const struct product &p, int slice, int row, int slot, float x_factor, float sum0,
                                              float sum1)
{
    float *y = cuda_row(p.y, p.order ? p.order[slot] : slot) + row;
    float v = sum0 * (x_factor * cuda_row_factor(p.w[0], slice, row + 16 * p.tile0[0]));
    if (DUAL) {
        *y = cuda_silu(v) * (sum1 * (x_factor * cuda_row_factor(p.w[1], slice, row + 16 * p.tile0[1])));
        return;
    }
    if (p.bias)
        v += p.bias[row];
    v = activated(p.act, v);
    *y = p.accumulate ? *y + v : v;
}

/* ---- few --------------------------------------------------------------------------------------------------------------------------- */

/* One strip of weights times the tokens: b[n] is what this lane holds of token 8 n + g. */
template <typename F, int NT>
static __device__ __forceinline__ void few_strip(float acc[NT][4], const typename F::raw &raw, int strip, int lane,
                                                 const uint4 b[NT][2])
{
    const form_scale f = F::scale(raw, strip, lane);
#pragma unroll
    for (int i = 0; i < FORM_STEPS; i++) {
        uint32_t a[4];
        F::step(raw, f, strip, i, a);
#pragma unroll
        for (int n = 0; n < NT; n++) {
            const uint32_t pair[2] = {word_of(b[n][i / 2], 2 * (i & 1)), word_of(b[n][i / 2], 2 * (i & 1) + 1)};
            mma_f16(acc[n], a, pair);
        }
    }
}

/* Gate and up are two warps' work where tokens are few, and one's where the sums of many need its registers. */
static __host__ __device__ __forceinline__ int few_roles(int n_slices, bool is_dual, int nt)
{
    return n_slices * (is_dual && nt == 1 ? 2 : 1);
}

/* A slice of a tile of weight w times n tokens. */
template <typename F, int NT>
static __device__ __forceinline__ void few_slice(const struct product &p, const cuda_weight &w, const uint8_t *from, int slice,
                                                 int slot0, int n, float acc[NT][4])
{
    const int lane = (int)threadIdx.x % LANES, g = lane / 4, t = lane % 4, slice_strips = slice_strips_of(w.strips);
    const int group0 = slice * slice_strips / F::STRIPS, group1 = min((slice + 1) * slice_strips, w.strips) / F::STRIPS;
    const uint4 *x[NT];
#pragma unroll
    for (int k = 0; k < NT; k++)
        x[k] = 8 * k + g < n ? (const uint4 *)(p.x + x_row_of(p, slot0 + 8 * k + g) * p.pitch + 16 * t) : NULL;
    typename F::raw now, next;
    if (group0 < group1)
        F::load(now, from, group0, lane, w.which);
    for (int group = group0; group < group1; group++) {
        if (group + 1 < group1)
            F::load(next, from, group + 1, lane, w.which);
#pragma unroll
        for (int strip = 0; strip < F::STRIPS; strip++) {
            uint4 b[NT][2];
#pragma unroll
            for (int k = 0; k < NT; k++)
#pragma unroll
                for (int h = 0; h < 2; h++)
                    b[k][h] = x[k] ? x[k][(group * F::STRIPS + strip) * 8 + h] : make_uint4(0, 0, 0, 0);
            few_strip<F, NT>(acc, now, strip, lane, b);
        }
        now = next;
    }
}

/* Grid (tiles / tiles of a block, tokens / 8 NT or slots of experts). Shared: float [DUAL + 1][slices][tiles of a block][16][8 NT]. */
template <typename F, int NT, bool DUAL>
static __global__ void __launch_bounds__(DUAL &&NT == 1 ? 512 : 256, 1) few_kernel(const struct product p)
{
    const int lane = (int)threadIdx.x % LANES, warp = (int)threadIdx.x / LANES, g = lane / 4, t = lane % 4;
    const int n_slices = slices_of(p.w[0].strips), roles = few_roles(n_slices, DUAL, NT),
              n_tiles = (int)blockDim.x / LANES / roles;
    const int slice = warp % n_slices, role = warp / n_slices % (roles / n_slices), at = warp / roles;
    const int tile = (int)blockIdx.x * n_tiles + at, expert = p.ids ? p.ids[blockIdx.y] : 0;
    const int slot0 = p.ids ? (int)blockIdx.y : (int)blockIdx.y * 8 * NT, n = p.ids ? 1 : min(8 * NT, p.n - slot0);
    float *parts = shared_memory<float>();
    for (int which = role; which < (DUAL ? 2 : 1); which += roles / n_slices) {
        float acc[NT][4] = {};
        if (16 * tile < p.rows)
            few_slice<F, NT>(p, p.w[which], cuda_tile(p.w[which], expert, p.tile0[which] + tile), slice, slot0, n, acc);
        float *part = parts + ((which * n_slices + slice) * n_tiles + at) * 128 * NT;
#pragma unroll
        for (int k = 0; k < NT; k++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                part[(g + 8 * (i / 2)) * 8 * NT + 8 * k + 2 * t + i % 2] = acc[k][i];
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < n_tiles * 16 * n; i += (int)blockDim.x) {
        const int slot = slot0 + i / (16 * n_tiles), r = i % (16 * n_tiles), row = 16 * (int)blockIdx.x * n_tiles + r;
        if (row >= p.rows)
            continue;
        float sum[2] = {0, 0};
        for (int k = 0; k < (DUAL ? 2 : 1); k++)
            for (int s = 0; s < n_slices; s++)
                sum[k] += parts[((k * n_slices + s) * n_tiles * 16 + r) * 8 * NT + slot - slot0];
        finish<DUAL>(p, expert, row, slot, p.x_factor[x_row_of(p, slot)], sum[0], sum[1]);
    }
}

template <typename F, int NT, bool DUAL> static void few_launch(struct cuda_stream *s, const char *op, const struct product *p)
{
    const int n_slices = slices_of(p->w[0].strips), roles = few_roles(n_slices, DUAL, NT), warps = roles > 8 ? roles : 8;
    const int n_tiles = warps / roles, tiles = (p->rows + FORM_TILE - 1) / FORM_TILE;
    const dim3 grid((unsigned)((tiles + n_tiles - 1) / n_tiles), (unsigned)(p->ids ? p->n : (p->n + 8 * NT - 1) / (8 * NT)));
    const size_t parts = (size_t)(DUAL ? 2 : 1) * (size_t)n_slices * (size_t)n_tiles * 128 * NT;
    cuda_launch(s, op, few_kernel<F, NT, DUAL>, grid, (unsigned)(warps * LANES), parts * sizeof(float), *p);
}

/* ---- many -------------------------------------------------------------------------------------------------------------------------- */

/* Where chunk c (8 halves) of token n lies in a stage: turned, so that eight tokens' chunks lie in different banks. */
static __device__ __forceinline__ int chunk_at(int n, int c)
{
    return n * 128 + ((c ^ (n & 7)) * 16);
}

/* Grid (tiles / 8 or 4, tiles of tokens). Shared: MANY_STAGES of 64 tokens of 64 halves. */
template <typename F, bool DUAL>
static __global__ void __launch_bounds__(MANY_WARPS *LANES, 1) many_kernel(const struct product p)
{
    const int lane = (int)threadIdx.x % LANES, warp = (int)threadIdx.x / LANES, g = lane / 4, t = lane % 4;
    const struct product_tile part = p.tiles ? p.tiles[blockIdx.y]
                                             : product_tile{0, (int)blockIdx.y * PRODUCT_TOKENS,
                                                            min(PRODUCT_TOKENS, p.n - (int)blockIdx.y * PRODUCT_TOKENS)};
    if (part.n <= 0)
        return;
    uint8_t *ring = shared_memory<uint8_t>();
    const int strips = p.w[0].strips, slice_strips = slice_strips_of(strips), n_tiles = (p.rows + FORM_TILE - 1) / FORM_TILE;
    const int tile = DUAL ? (int)blockIdx.x * 4 + warp % 4 : (int)blockIdx.x * 8 + 2 * (warp % 4), token0 = warp / 4 * 32;
    /* past the last row a tile is computed again and thrown away */
    const uint8_t *from[2] = {cuda_tile(p.w[0], part.slice, p.tile0[0] + min(tile, n_tiles - 1)),
                              DUAL ? cuda_tile(p.w[1], part.slice, p.tile0[1] + min(tile, n_tiles - 1))
                                   : cuda_tile(p.w[0], part.slice, p.tile0[0] + min(tile + 1, n_tiles - 1))};
    /* this thread's two chunks of every stage */
    const uint16_t *source[2];
    bool is_there[2];
    for (int k = 0; k < 2; k++) {
        const int i = (int)threadIdx.x + k * MANY_WARPS * LANES, n = i / 8;
        is_there[k] = n < part.n;
        source[k] = p.x + (is_there[k] ? x_row_of(p, part.first + n) : 0) * p.pitch + i % 8 * 8;
    }
    auto fetch = [&](int strip) {
        if (strip < strips)
            for (int k = 0; k < 2; k++) {
                const int i = (int)threadIdx.x + k * MANY_WARPS * LANES;
                copy_async(ring + strip % MANY_STAGES * PRODUCT_TOKENS * 128 + chunk_at(i / 8, i % 8), source[k] + strip * 64,
                           is_there[k]);
            }
        copy_commit();
    };
    float acc[2][4][4] = {}, sum[2][4][4] = {};
    typename F::raw raw[2], next[2];
    for (int k = 0; k < 2; k++)
        F::load(next[k], from[k], 0, lane, p.w[0].which);
    for (int i = 0; i < MANY_STAGES - 1; i++)
        fetch(i);
    for (int group = 0; group < strips / F::STRIPS; group++) {
#pragma unroll
        for (int k = 0; k < 2; k++) {
            raw[k] = next[k];
            if (group + 1 < strips / F::STRIPS)
                F::load(next[k], from[k], group + 1, lane, p.w[0].which);
        }
#pragma unroll
        for (int i = 0; i < F::STRIPS; i++) {
            const int strip = group * F::STRIPS + i;
            copy_wait<MANY_STAGES - 2>();
            __syncthreads();
            fetch(strip + MANY_STAGES - 1);
            const uint8_t *stage = ring + strip % MANY_STAGES * PRODUCT_TOKENS * 128;
            const form_scale f[2] = {F::scale(raw[0], i, lane), F::scale(raw[1], i, lane)};
#pragma unroll
            for (int h = 0; h < 2; h++) {
                uint4 b[4];
#pragma unroll
                for (int n = 0; n < 4; n++)
                    b[n] = *(const uint4 *)(stage + chunk_at(token0 + 8 * n + g, 2 * t + h));
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    uint32_t a[2][4];
                    F::step(raw[0], f[0], i, 2 * h + j, a[0]);
                    F::step(raw[1], f[1], i, 2 * h + j, a[1]);
#pragma unroll
                    for (int n = 0; n < 4; n++) {
                        const uint32_t pair[2] = {word_of(b[n], 2 * j), word_of(b[n], 2 * j + 1)};
                        mma_f16(acc[0][n], a[0], pair);
                        mma_f16(acc[1][n], a[1], pair);
                    }
                }
            }
            if ((strip + 1) % slice_strips == 0 || strip + 1 == strips)
#pragma unroll
                for (int k = 0; k < 2; k++)
#pragma unroll
                    for (int n = 0; n < 4; n++)
#pragma unroll
                        for (int c = 0; c < 4; c++) {
                            sum[k][n][c] += acc[k][n][c];
                            acc[k][n][c] = 0;
                        }
        }
    }
    copy_wait<0>();
#pragma unroll
    for (int n = 0; n < 4; n++)
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const int token = token0 + 8 * n + 2 * t + c % 2, r = g + 8 * (c / 2);
            if (token >= part.n)
                continue;
            const int slot = part.first + token;
            const float x_factor = p.x_factor[x_row_of(p, slot)];
            if (16 * tile + r < p.rows)
                finish<DUAL>(p, part.slice, 16 * tile + r, slot, x_factor, sum[0][n][c], sum[1][n][c]);
            if (!DUAL && 16 * (tile + 1) + r < p.rows)
                finish<DUAL>(p, part.slice, 16 * (tile + 1) + r, slot, x_factor, sum[1][n][c], 0);
        }
}

template <typename F, bool DUAL> static void many_launch(struct cuda_stream *s, const char *op, const struct product *p)
{
    const int tiles = (p->rows + FORM_TILE - 1) / FORM_TILE, per_block = DUAL ? 4 : 8;
    const dim3 grid((unsigned)((tiles + per_block - 1) / per_block),
                    (unsigned)(p->tiles ? p->n_tiles : (p->n + PRODUCT_TOKENS - 1) / PRODUCT_TOKENS));
    cuda_launch(s, op, many_kernel<F, DUAL>, grid, MANY_WARPS * LANES, (size_t)MANY_STAGES * PRODUCT_TOKENS * 128, *p);
}

template <typename F> static void product_launch(struct cuda_stream *s, const char *op, const struct product *p)
{
    if (p->tiles || (!p->ids && p->n > PRODUCT_FEW))
        p->is_dual ? many_launch<F, true>(s, op, p) : many_launch<F, false>(s, op, p);
    else if (p->ids || p->n <= 8)
        p->is_dual ? few_launch<F, 1, true>(s, op, p) : few_launch<F, 1, false>(s, op, p);
    else
        p->is_dual ? few_launch<F, 4, true>(s, op, p) : few_launch<F, 4, false>(s, op, p);
}

#endif
