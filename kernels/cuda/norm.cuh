/*
 * norm - norms as parts of a kernel: of a row with what is added to it, of a head with its gate; for the kernels of their own and for those that end with one.
 *
 * add_rms_norm: a thread takes four neighbours, then those 4 x threads further on: 16 bytes at a time where rows are aligned, one by one where they are not, added in the same order. How many
 * threads take part depends on the row's length alone.
 */
#ifndef HERON_KERNELS_CUDA_NORM_CUH
#define HERON_KERNELS_CUDA_NORM_CUH

#include "kernels/cuda/cuda.cuh"

/* An add_rms_norm that ends a launch: the last block to count up does it. */
struct norm_then {
    struct kn_mat x, res, y;
    const float *w;
    float eps;
    bool is_wide;   /* rows are aligned */
    int32_t *count; /* NULL: there is none */
};

#define NORM_THEN_ROWS 2 /* of a call whose last block norms: it takes them one by one */

/* What `args` (NULL: nothing) ask for; without a count, for a launch of its own. */
struct norm_then cuda_norm_of(const struct kn_add_rms_norm_args *args);
/* The same with a count, where the last block of a launch had better do it; otherwise nothing, and cuda_add_rms_norm is to follow. */
struct norm_then cuda_norm_then(struct cuda_stream *s, const struct kn_add_rms_norm_args *args);

static __host__ __device__ __forceinline__ int norm_threads(int32_t cols)
{
    return cols > 512 ? 256 : 64;
}

/* Four neighbours of a row: fewer at its end. */
template <bool FRESH> static __device__ __forceinline__ float4 load4(const float *row, int i, int n, bool is_wide)
{
    if (is_wide && i + 4 <= n)
        return FRESH ? load_fresh4(row + i) : *(const float4 *)(row + i);
    auto one = [&](int k) { return i + k >= n ? 0.0f : FRESH ? load_fresh(row + i + k) : row[i + k]; };
    return make_float4(one(0), one(1), one(2), one(3));
}

static __device__ __forceinline__ void store4(float *row, int i, int n, bool is_wide, float4 v)
{
    if (is_wide && i + 4 <= n) {
        *(float4 *)(row + i) = v;
        return;
    }
    row[i] = v.x;
    if (i + 1 < n)
        row[i + 1] = v.y;
    if (i + 2 < n)
        row[i + 2] = v.z;
    if (i + 3 < n)
        row[i + 3] = v.w;
}

/* x += res, where it is there. Returns what was stored. */
template <bool FRESH> static __device__ __forceinline__ float4 add4(float *x, const float *res, int i, int n, bool is_wide)
{
    float4 v = load4<false>(x, i, n, is_wide);
    if (!res)
        return v;
    const float4 r = load4<FRESH>(res, i, n, is_wide);
    v = make_float4(v.x + r.x, v.y + r.y, v.z + r.z, v.w + r.w);
    store4(x, i, n, is_wide, v);
    return v;
}

/* Block of at least norm_threads: one row. FRESH: other blocks of this launch have written res. room: LANES floats. */
template <bool FRESH> static __device__ __forceinline__ void norm_row(const struct norm_then &p, int row, float *room)
{
    const int n = p.x.cols, step = 4 * norm_threads(n);
    const int first = 4 * (int)threadIdx.x < step ? 4 * (int)threadIdx.x : n; /* the others add nothing */
    float *from = cuda_row(p.x, row), *to = cuda_row(p.y, row), sum = 0;
    const float *add = p.res.data ? cuda_row(p.res, row) : NULL;
    for (int i = first; i < n; i += step) {
        const float4 v = add4<FRESH>(from, add, i, n, p.is_wide);
        sum = fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, fmaf(v.w, v.w, sum))));
    }
    const float scale = 1.0f / sqrtf(block_sum(sum, room) / (float)n + p.eps);
    for (int i = first; i < n; i += step) {
        const float4 v = load4<false>(from, i, n, p.is_wide), f = load4<false>(p.w, i, n, p.is_wide);
        store4(to, i, n, p.is_wide, make_float4(v.x * scale * f.x, v.y * scale * f.y, v.z * scale * f.z, v.w * scale * f.w));
    }
}

/* Block, at the end of a kernel: all rows, by the block that comes last. room: LANES floats, that nobody uses any more. */
static __device__ __forceinline__ void norm_at_end(const struct norm_then &p, float *room)
{
    if (!p.count)
        return;
    int *is_last = (int *)room;
    __syncthreads();
    if (threadIdx.x == 0) {
        *is_last = count_up(p.count) == (int)(gridDim.x * gridDim.y);
        if (*is_last)
            *p.count = 0; /* for the next launch */
    }
    __syncthreads();
    if (!*is_last)
        return;
    for (int row = 0; row < p.x.rows; row++)
        norm_row<true>(p, row, room);
}

/* A launch of it: as kn_gated_rms_norm_args. */
void cuda_gated_norm(struct cuda_stream *s, const char *op, const struct kn_mat *x, const struct kn_mat *z, const float *w,
                     int32_t n_heads, float eps, const struct kn_mat *y);

/* Warp: to[D] = rms norm of from[D], times w and silu(gate). `to` may be `from`. FRESH: other blocks of this launch have written `from`. */
template <bool FRESH>
static __device__ __forceinline__ void gated_norm_head(const float *from, const float *gate, const float *w, int D, float eps,
                                                       float *to)
{
    const int lane = (int)threadIdx.x % LANES;
    float sum = 0;
    for (int i = lane; i < D; i += LANES) {
        const float v = FRESH ? load_fresh(from + i) : from[i];
        sum = fmaf(v, v, sum);
    }
    const float scale = 1.0f / sqrtf(warp_sum(sum) / (float)D + eps);
    for (int i = lane; i < D; i += LANES)
        to[i] = (FRESH ? load_fresh(from + i) : from[i]) * scale * w[i] * cuda_silu(gate[i]);
}

#endif
