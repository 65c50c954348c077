/*
 * plain - products of F32 weights, in f32: for files whose exactness is the point, and for small matrices that the engine keeps so.
 *
 * A warp an output and slot: lanes add their inputs one after the other, then the lanes' sums are added in one order. The same for one token and for many.
 */
#include "kernels/cuda/product_kernels.cuh"

#define PLAIN_WARPS 8

/* A lane takes four neighbours, then those 4 x LANES further on: 16 bytes at a time where rows are aligned, one by one where they are not, added in the same order. */
static __device__ __forceinline__ float dot(const float *w, const float *x, int n, int lane)
{
    float sum = 0;
    if (((uintptr_t)w | (uintptr_t)x) % 16 == 0 && n % 4 == 0) {
#pragma unroll 4
        for (int i = 4 * lane; i < n; i += 4 * LANES) {
            const float4 a = *(const float4 *)(w + i), b = *(const float4 *)(x + i);
            sum = fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
        }
    } else {
        for (int i = 4 * lane; i < n; i += 4 * LANES)
            for (int j = i; j < i + 4 && j < n; j++)
                sum = fmaf(w[j], x[j], sum);
    }
    return warp_sum(sum);
}

/* Grid (rows / PLAIN_WARPS of each product, one after the other; slots, from slot0 on). */
template <bool DUAL> static __global__ void plain_kernel(const __grid_constant__ struct product_set set, int slot0)
{
    int i_product = 0;
    while (i_product + 1 < set.n && (int)blockIdx.x >= set.first[i_product + 1])
        i_product++;
    const struct product &p = set.p[i_product];
    const int lane = (int)threadIdx.x % LANES, slot = slot0 + (int)blockIdx.y,
              row = ((int)blockIdx.x - set.first[i_product]) * PLAIN_WARPS + (int)threadIdx.x / LANES;
    if (row >= p.rows || slot >= p.n) /* a whole warp */
        return;
    const int expert = p.ids ? p.ids[slot] : 0, cols = p.w[0].cols;
    const float *from = cuda_row(p.from, x_row_of(p, slot));
    float sum[2] = {0, 0};
    for (int k = 0; k < (DUAL ? 2 : 1); k++)
        sum[k] =
            dot((const float *)p.w[k].data + ((int64_t)expert * p.w[k].rows + row + 16 * p.tile0[k]) * cols, from, cols, lane);
    if (lane != 0)
        return;
    float *y = cuda_row(p.y, slot) + row;
    float v = sum[0] * (p.w[0].scales ? p.w[0].scales[expert] : 1.0f);
    if (DUAL) {
        *y = cuda_silu(v) * (sum[1] * (p.w[1].scales ? p.w[1].scales[expert] : 1.0f));
        return;
    }
    v = activated(p.act, p.bias ? add_once(v, p.bias[row]) : v);
    *y = p.accumulate ? add_once(*y, v) : v;
}

void cuda_plain_product(struct cuda_stream *s, const char *op, const struct product *p, int n)
{
    struct product_set set = {.n = n};
    unsigned blocks = 0;
    int slots = 0;
    for (int i = 0; i < n; i++) {
        set.p[i] = p[i];
        set.first[i] = (int)blocks;
        blocks += (unsigned)((p[i].rows + PLAIN_WARPS - 1) / PLAIN_WARPS);
        slots = p[i].n > slots ? p[i].n : slots;
    }
    for (int slot = 0; slot < slots; slot += 65535) { /* as many as a grid's second side has */
        const dim3 grid(blocks, (unsigned)(slots - slot < 65535 ? slots - slot : 65535));
        cuda_launch(s, op, p->is_dual ? plain_kernel<true> : plain_kernel<false>, grid, PLAIN_WARPS * LANES, 0, set, slot);
    }
}
