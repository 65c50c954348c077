/*
 * norm - residual addition and normalisation, a block a row; gated normalisation, a warp a head (norm.cuh).
 */
#include "kernels/cuda/norm.cuh"

static bool is_aligned(const struct kn_mat *m)
{
    return !m->data || ((uintptr_t)m->data % 16 == 0 && m->stride % 4 == 0);
}

/* Shared: LANES floats. */
static __global__ void add_rms_norm_kernel(const struct norm_then p)
{
    norm_row<false>(p, (int)blockIdx.x, shared_memory<float>());
}

/* Shared: LANES floats. */
static __global__ void add_layer_norm_kernel(struct kn_mat x, struct kn_mat res, const float *w, const float *b, float eps,
                                             struct kn_mat y, bool is_wide)
{
    const int row = (int)blockIdx.x, n = x.cols, step = 4 * (int)blockDim.x;
    float *from = cuda_row(x, row), *to = cuda_row(y, row), *room = shared_memory<float>();
    const float *add = res.data ? cuda_row(res, row) : NULL;
    float sum = 0, squares = 0;
    for (int i = 4 * (int)threadIdx.x; i < n; i += step) {
        const float4 v = add4<false>(from, add, i, n, is_wide);
        sum += (v.x + v.y) + (v.z + v.w);
    }
    const float mean = block_sum(sum, room) / (float)n;
    for (int i = 4 * (int)threadIdx.x; i < n; i += step) {
        const float4 v = load4<false>(from, i, n, is_wide);
        const float d[4] = {v.x - mean, v.y - mean, v.z - mean, v.w - mean};
        for (int j = 0; j < 4; j++)
            squares = i + j < n ? fmaf(d[j], d[j], squares) : squares;
    }
    const float scale = 1.0f / sqrtf(block_sum(squares, room) / (float)n + eps);
    for (int i = 4 * (int)threadIdx.x; i < n; i += step) {
        const float4 v = load4<false>(from, i, n, is_wide), f = load4<false>(w, i, n, is_wide),
                     o = load4<false>(b, i, n, is_wide);
        store4(to, i, n, is_wide,
               make_float4(fmaf((v.x - mean) * scale, f.x, o.x), fmaf((v.y - mean) * scale, f.y, o.y),
                           fmaf((v.z - mean) * scale, f.z, o.z), fmaf((v.w - mean) * scale, f.w, o.w)));
    }
}

struct norm_then cuda_norm_of(const struct kn_add_rms_norm_args *a)
{
    const bool is_wide = is_aligned(&a->x) && is_aligned(&a->res) && is_aligned(&a->y) && (uintptr_t)a->w % 16 == 0;
    return {a->x, a->res, a->y, a->w, a->eps, is_wide, NULL};
}

struct norm_then cuda_norm_then(struct cuda_stream *s, const struct kn_add_rms_norm_args *a)
{
    struct norm_then p = {};
    if (a && a->x.rows <= NORM_THEN_ROWS) {
        p = cuda_norm_of(a);
        p.count = s->counts;
    }
    return p;
}

void cuda_add_rms_norm(struct kn_stream *stream, const struct kn_add_rms_norm_args *a)
{
    cuda_launch(cuda_stream_of(stream), "add_rms_norm", add_rms_norm_kernel, dim3((unsigned)a->x.rows),
                (unsigned)norm_threads(a->x.cols), LANES * sizeof(float), cuda_norm_of(a));
}

void cuda_add_layer_norm(struct kn_stream *stream, const struct kn_add_layer_norm_args *a)
{
    const bool is_wide =
        is_aligned(&a->x) && is_aligned(&a->res) && is_aligned(&a->y) && (uintptr_t)a->w % 16 == 0 && (uintptr_t)a->b % 16 == 0;
    cuda_launch(cuda_stream_of(stream), "add_layer_norm", add_layer_norm_kernel, dim3((unsigned)a->x.rows),
                (unsigned)norm_threads(a->x.cols), LANES * sizeof(float), a->x, a->res, a->w, a->b, a->eps, a->y, is_wide);
}

#define HEADS_OF_A_BLOCK 4

/* Grid (heads / HEADS_OF_A_BLOCK, rows). */
static __global__ void gated_rms_norm_kernel(struct kn_mat x, struct kn_mat z, const float *w, int n_heads, int D, float eps,
                                             struct kn_mat y)
{
    const int head = (int)(blockIdx.x * HEADS_OF_A_BLOCK + threadIdx.x / LANES), row = (int)blockIdx.y;
    if (head >= n_heads) /* a whole warp */
        return;
    const int64_t at = (int64_t)head * D;
    gated_norm_head<false>(cuda_row(x, row) + at, cuda_row(z, row) + at, w, D, eps, cuda_row(y, row) + at);
}

void cuda_gated_norm(struct cuda_stream *s, const char *op, const struct kn_mat *x, const struct kn_mat *z, const float *w,
                     int32_t n_heads, float eps, const struct kn_mat *y)
{
    const int D = x->cols / n_heads;
    for (int32_t i = 0; i < x->rows; i += 65535) {
        struct kn_mat xi = *x, zi = *z, yi = *y;
        const unsigned rows = (unsigned)(x->rows - i < 65535 ? x->rows - i : 65535);
        xi.data += i * xi.stride, zi.data += i * zi.stride, yi.data += i * yi.stride;
        cuda_launch(s, op, gated_rms_norm_kernel, dim3((unsigned)((n_heads + HEADS_OF_A_BLOCK - 1) / HEADS_OF_A_BLOCK), rows),
                    HEADS_OF_A_BLOCK * LANES, 0, xi, zi, w, n_heads, D, eps, yi);
    }
}

void cuda_gated_rms_norm(struct kn_stream *stream, const struct kn_gated_rms_norm_args *a)
{
    cuda_gated_norm(cuda_stream_of(stream), "gated_rms_norm", &a->x, &a->z, a->w, a->n_heads, a->eps, &a->y);
}
