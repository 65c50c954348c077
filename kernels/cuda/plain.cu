/*
 * plain - products of F32 weights, in f32: for files whose exactness is the point, and for small matrices that the engine keeps so.
 *
 * A warp an output and slot: lanes add their inputs one after the other, then the lanes' sums are added in one order. The same for one token and for many.
 */
#include "kernels/cuda/product_kernels.cuh"

#define PLAIN_WARPS 8

static __device__ __forceinline__ float dot(const float *w, const float *x, int n, int lane)
{
    float sum = 0;
    for (int i = lane; i < n; i += LANES)
        sum = fmaf(w[i], x[i], sum);
    return warp_sum(sum);
}

/* Grid (rows / PLAIN_WARPS, slots). */
template <bool DUAL> static __global__ void plain_kernel(const struct product p, struct kn_mat x, int64_t skip1)
{
    const int lane = (int)threadIdx.x % LANES, row = (int)blockIdx.x * PLAIN_WARPS + (int)threadIdx.x / LANES,
              slot = (int)blockIdx.y;
    if (row >= p.rows) /* a whole warp */
        return;
    const int expert = p.ids ? p.ids[slot] : 0, cols = p.w[0].cols;
    const float *from = cuda_row(x, x_row_of(p, slot));
    float sum[2] = {0, 0};
    for (int k = 0; k < (DUAL ? 2 : 1); k++)
        sum[k] =
            dot((const float *)p.w[k].data + ((int64_t)expert * p.w[k].rows + row + (k ? skip1 : 0)) * cols, from, cols, lane);
    if (lane != 0)
        return;
    float *y = cuda_row(p.y, slot) + row;
    float v = sum[0] * (p.w[0].scales ? p.w[0].scales[expert] : 1.0f);
    if (DUAL) {
        *y = cuda_silu(v) * (sum[1] * (p.w[1].scales ? p.w[1].scales[expert] : 1.0f));
        return;
    }
    v = activated(p.act, p.bias ? v + p.bias[row] : v);
    *y = p.accumulate ? *y + v : v;
}

void cuda_plain_product(struct cuda_stream *s, const char *op, const struct product *p, const struct kn_mat *x)
{
    const unsigned blocks = (unsigned)((p->rows + PLAIN_WARPS - 1) / PLAIN_WARPS);
    for (int32_t i = 0; i < p->n; i += 65535) { /* slots of a launch; more than one only without experts */
        struct product part = *p;
        struct kn_mat rows = *x;
        part.n = p->n - i < 65535 ? p->n - i : 65535;
        part.y.data += i * p->y.stride;
        part.ids = p->ids ? p->ids + i : NULL;
        rows.data += i / (p->per_token > 1 ? p->per_token : 1) * x->stride;
        const dim3 grid(blocks, (unsigned)part.n);
        const int64_t skip1 = 16 * (int64_t)p->tile0[1];
        if (p->is_dual)
            cuda_launch(s, op, plain_kernel<true>, grid, PLAIN_WARPS * LANES, 0, part, rows, skip1);
        else
            cuda_launch(s, op, plain_kernel<false>, grid, PLAIN_WARPS * LANES, 0, part, rows, skip1);
    }
}
