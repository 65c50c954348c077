/*
 * attn_store - the way into the KV cache: head norms, rotary embedding, keys and values to their cells; and queries for attn.
 *
 * A warp a head, a lane every 32nd value, so that a Q8_0 block is one value of each lane. Rounding is that of kn_quantize.
 */
#include "kernels/cuda/attn.cuh"

#define STORE_WARPS 8
#define STORE_EACH  (ATTN_D_MAX / LANES) /* values of a lane: lane, lane + 32, ... */

struct store {
    const struct kn_step *step;
    struct kn_mat qg, k, v, q;
    kn_vec q_norm, k_norm;
    float eps;
    kn_vec inv_freq;
    const int32_t *axis;
    int32_t n_pairs;
    float rope_scale;
    struct kn_kv kv;
};

/* Warp: a head normalised and rotated; room: D floats. */
static __device__ __forceinline__ void norm_and_rotate(const struct store &a, int32_t t, kn_vec w, float *room,
                                                       float x[STORE_EACH])
{
    const int32_t lane = (int32_t)threadIdx.x % LANES, D = a.kv.head_dim;
    float sum = 0;
    for (int j = 0; j < STORE_EACH; j++)
        sum = fmaf(x[j], x[j], sum);
    const float scale = 1.0f / sqrtf(warp_sum(sum) / (float)D + a.eps);
    for (int j = 0; j < STORE_EACH; j++)
        if (lane + LANES * j < D)
            room[lane + LANES * j] = x[j] * scale * w[lane + LANES * j];
    __syncwarp();
    for (int32_t i = lane; i < a.n_pairs; i += LANES) {
        const float position = (float)a.step->pos[(int64_t)a.axis[i] * a.step->n_rows + t];
        float s, c;
        sincosf(mul_once(position, a.inv_freq[i]), &s, &c); /* the angle in float32, as the official implementation has it */
        s *= a.rope_scale;
        c *= a.rope_scale;
        const float u = room[i], v = room[i + a.n_pairs];
        room[i] = u * c - v * s;
        room[i + a.n_pairs] = u * s + v * c;
    }
    __syncwarp();
    for (int j = 0; j < STORE_EACH; j++)
        x[j] = lane + LANES * j < D ? room[lane + LANES * j] : 0;
}

/* Warp: a head to its cell, rounded as kn_quantize does. */
static __device__ __forceinline__ void put_cell(const struct kn_kv &kv, void *base, int64_t cell, const float x[STORE_EACH])
{
    const int32_t lane = (int32_t)threadIdx.x % LANES, D = kv.head_dim;
    if (kv.dtype == KN_Q8_0) {
        for (int j = 0; j < STORE_EACH; j++) {
            if (LANES * j >= D)
                break;
            uint8_t *block = (uint8_t *)base + (cell * (D / ATTN_Q8_BLOCK) + j) * ATTN_Q8_BYTES;
            const bool is_finite = votes(fabsf(x[j]) < INFINITY) == ALL_LANES; /* else the block is NaN as a whole */
            const float d = warp_max(fabsf(x[j])) / 127.0f, inverse = d != 0 ? 1.0f / d : 0;
            const float code = roundf(mul_once(x[j], inverse < INFINITY ? inverse : 0));
            if (lane == 0)
                *reinterpret_cast<uint16_t *>(block) = is_finite ? (uint16_t)pack_f16(d, 0) : 0x7e00;
            block[2 + lane] = is_finite ? (uint8_t)(int8_t)code : 1;
        }
        return;
    }
    for (int j = 0; j < STORE_EACH; j++) {
        const int32_t i = lane + LANES * j;
        if (i >= D)
            break;
        if (kv.dtype == KN_F16)
            ((uint16_t *)base)[cell * D + i] = (uint16_t)pack_f16(x[j], 0);
        else
            ((float *)base)[cell * D + i] = x[j];
    }
}

/* A warp a head: of each row the query heads, then the keys', then the values'. Shared: D floats a warp. */
static __global__ void __launch_bounds__(STORE_WARPS *LANES) attn_store_kernel(const struct store a)
{
    const int32_t warp = (int32_t)threadIdx.x / LANES, lane = (int32_t)threadIdx.x % LANES;
    const int32_t D = a.kv.head_dim, H = a.q.cols / D, G = a.kv.n_heads, heads = H + 2 * G;
    const int64_t item = (int64_t)blockIdx.x * STORE_WARPS + warp;
    const int32_t t = (int32_t)(item / heads), h = (int32_t)(item % heads);
    if (t >= a.q.rows) /* a whole warp */
        return;
    const bool is_query = h < H, is_key = !is_query && h < H + G;
    const int32_t g = is_key ? h - H : h - H - G;
    const float *from = is_query ? cuda_row(a.qg, t) + (int64_t)h * 2 * D : cuda_row(is_key ? a.k : a.v, t) + (int64_t)g * D;
    float x[STORE_EACH];
    for (int j = 0; j < STORE_EACH; j++)
        x[j] = lane + LANES * j < D ? from[lane + LANES * j] : 0;
    if (is_query || is_key)
        norm_and_rotate(a, t, is_query ? a.q_norm : a.k_norm, shared_memory<float>() + warp * D, x);
    if (is_query) {
        float *to = cuda_row(a.q, t) + (int64_t)h * D;
        for (int j = 0; j < STORE_EACH; j++)
            if (lane + LANES * j < D)
                to[lane + LANES * j] = x[j];
        return;
    }
    const struct kn_seq seq = a.step->seqs[a.step->seq_of_row[t]];
    const int32_t n = seq.past + t - seq.row0;
    const int64_t page = a.step->pages[seq.page0 + n / KN_PAGE_TOKENS];
    put_cell(a.kv, is_key ? a.kv.k : a.kv.v, (page * G + g) * KN_PAGE_TOKENS + n % KN_PAGE_TOKENS, x);
}

void cuda_attn_store(struct kn_stream *stream, const struct kn_attn_store_args *a)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    const int32_t D = a->kv->head_dim;
    if (D > ATTN_D_MAX) {
        cuda_fail(s, "attn_store", ERR_INVAL, "heads of %d: at most %d", D, ATTN_D_MAX);
        return;
    }
    const struct store p = {a->step, a->qg,       a->k,    a->v,       a->q,          a->q_norm, a->k_norm,
                            a->eps,  a->inv_freq, a->axis, a->n_pairs, a->rope_scale, *a->kv};
    const int64_t warps = (int64_t)a->q.rows * (a->q.cols / D + 2 * a->kv->n_heads);
    cuda_launch(s, "attn_store", attn_store_kernel, dim3((unsigned)((warps + STORE_WARPS - 1) / STORE_WARPS)),
                STORE_WARPS * LANES, STORE_WARPS * (size_t)D * sizeof(float), p);
}
