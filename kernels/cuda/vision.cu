/*
 * vision - the small ops of the vision tower: patches, learned positions, rotation in two dimensions. A thread a value or a pair of them.
 */
#include "kernels/cuda/cuda.cuh"

#define THREADS 256

/* Patch row and column of sequence index p: blocks of merge x merge in raster order, inside a block in raster order. */
static __device__ __forceinline__ void patch_place(int p, int grid_w, int merge, int *ret_row, int *ret_col)
{
    const int block = p / (merge * merge), inside = p % (merge * merge), across = grid_w / merge;
    *ret_row = block / across * merge + inside / merge;
    *ret_col = block % across * merge + inside % merge;
}

static dim3 grid_of(int64_t cols, int32_t rows)
{
    return dim3((unsigned)rows, (unsigned)((cols + THREADS - 1) / THREADS));
}

static __global__ void patchify_kernel(struct kn_patchify_args a)
{
    const int n = a.patch_px, p = (int)blockIdx.x, i = (int)(blockIdx.y * blockDim.x + threadIdx.x);
    if (i >= 3 * n * n)
        return;
    int row, col;
    patch_place(p, a.width_px / n, a.merge, &row, &col);
    const int c = i / (n * n), y = i / n % n, x = i % n;
    const uint8_t v = a.rgb[((int64_t)(row * n + y) * a.width_px + col * n + x) * 3 + c];
    const float mean = c == 0   ? a.mean[0]
                       : c == 1 ? a.mean[1]
                                : a.mean[2],
                stddev = c == 0   ? a.stddev[0]
                         : c == 1 ? a.stddev[1]
                                  : a.stddev[2];
    cuda_row(a.y, p)[i] = ((float)v / 255.0f - mean) / stddev;
}

void cuda_patchify(struct kn_stream *stream, const struct kn_patchify_args *a)
{
    cuda_launch(cuda_stream_of(stream), "patchify", patchify_kernel, grid_of(3 * (int64_t)a->patch_px * a->patch_px, a->y.rows),
                THREADS, 0, *a);
}

/* Where between two of `side` places the i-th of n lies: exactly, for i, n and side are small integers. */
static __device__ __forceinline__ void place_between(int i, int n, int side, int *ret_first, float *ret_share)
{
    const int last = side - 1, at = n > 1 ? i * last : 0, of = n > 1 ? n - 1 : 1;
    *ret_first = at / of;
    *ret_share = (float)(at % of) / (float)of;
}

static __global__ void add_pos_embed_kernel(struct kn_add_pos_embed_args a)
{
    const int C = a.x.cols, p = (int)blockIdx.x, i = (int)(blockIdx.y * blockDim.x + threadIdx.x), last = a.side - 1;
    if (i >= C)
        return;
    int row, col, y0, x0;
    float fy, fx;
    patch_place(p, a.grid_w, a.merge, &row, &col);
    place_between(row, a.grid_h, a.side, &y0, &fy);
    place_between(col, a.grid_w, a.side, &x0, &fx);
    const int y1 = min(y0 + 1, last), x1 = min(x0 + 1, last);
    const float *g = a.grid + i;
    const float upper = (1 - fx) * g[((int64_t)y0 * a.side + x0) * C] + fx * g[((int64_t)y0 * a.side + x1) * C];
    const float lower = (1 - fx) * g[((int64_t)y1 * a.side + x0) * C] + fx * g[((int64_t)y1 * a.side + x1) * C];
    cuda_row(a.x, p)[i] += (1 - fy) * upper + fy * lower;
}

void cuda_add_pos_embed(struct kn_stream *stream, const struct kn_add_pos_embed_args *a)
{
    cuda_launch(cuda_stream_of(stream), "add_pos_embed", add_pos_embed_kernel, grid_of(a->x.cols, a->x.rows), THREADS, 0, *a);
}

/* A thread a pair (i, i + D / 2) of a head of q or k. */
static __global__ void rope_2d_kernel(struct kn_rope_2d_args a)
{
    const int C = a.qkv.cols / 3, D = C / a.n_heads, half = D / 2, quarter = D / 4;
    const int p = (int)blockIdx.x, pair = (int)(blockIdx.y * blockDim.x + threadIdx.x);
    if (pair >= 2 * a.n_heads * half)
        return;
    int row, col;
    patch_place(p, a.grid_w, a.merge, &row, &col);
    const int i = pair % half, j = i < quarter ? i : i - quarter;
    float *v = cuda_row(a.qkv, p) + (int64_t)(pair / half) * D + i;
    /* float32 phases, as the official implementation has them */
    const float freq = 1.0f / powf(a.theta, (float)(2 * j) / (float)half), angle = (float)(i < quarter ? row : col) * freq;
    const float c = cosf(angle), s = sinf(angle), x = v[0], y = v[half];
    v[0] = x * c - y * s;
    v[half] = x * s + y * c;
}

void cuda_rope_2d(struct kn_stream *stream, const struct kn_rope_2d_args *a)
{
    cuda_launch(cuda_stream_of(stream), "rope_2d", rope_2d_kernel, grid_of(a->qkv.cols / 3, a->qkv.rows), THREADS, 0, *a);
}
