/*
 * norm - the gated norm of a head, for the kernel of its own and for what ends with it.
 */
#ifndef HERON_KERNELS_CUDA_NORM_CUH
#define HERON_KERNELS_CUDA_NORM_CUH

#include "kernels/cuda/cuda.cuh"

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
