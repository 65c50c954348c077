/*
 * route - which experts a token goes to. In f32 throughout: a logit that strays can choose another expert, and that changes everything.
 *
 * Logits: a warp an expert, and one or eight tokens, which share its reading of the expert's row; lanes take four inputs in turn, and the lanes' sums are added in one order, for one token
 * as for eight. Then a warp a token picks.
 */
#include "kernels/cuda/weights.cuh"

#define EXPERTS_OF_A_BLOCK 8
#define TOKENS             8
#define EXPERTS_MAX        1024 /* a lane holds 32 of them */

size_t cuda_route_scratch(const struct cuda_device *d, const struct kn_limits *l)
{
    return (size_t)l->rows * (size_t)l->experts * sizeof(float);
}

/* Grid (experts / EXPERTS_OF_A_BLOCK, tokens / N). */
template <int N> static __global__ void logits_kernel(struct kn_mat x, const float *w, int n_experts, float *logits)
{
    const int lane = (int)threadIdx.x % LANES, expert = (int)(blockIdx.x * EXPERTS_OF_A_BLOCK + threadIdx.x / LANES),
              token0 = (int)blockIdx.y * N;
    if (expert >= n_experts) /* a whole warp */
        return;
    const float *row = w + (int64_t)expert * x.cols;
    float sum[N] = {};
    for (int i = 4 * lane; i < x.cols; i += 4 * LANES)
        for (int j = i; j < i + 4 && j < x.cols; j++) {
            const float f = row[j];
#pragma unroll
            for (int n = 0; n < N; n++)
                sum[n] =
                    fmaf(f, cuda_row(x, min(token0 + n, x.rows - 1))[j], sum[n]); /* past the last: it once more, for nothing */
        }
#pragma unroll
    for (int n = 0; n < N; n++) {
        const float v = warp_sum(sum[n]);
        if (lane == 0 && token0 + n < x.rows)
            logits[(int64_t)(token0 + n) * n_experts + expert] = v;
    }
}

/* A warp a token; lane l holds the experts l, l + 32 ... */
static __global__ void pick_kernel(const float *logits, int n_experts, int k, int32_t *ids, struct kn_mat weights)
{
    const int lane = (int)threadIdx.x, t = (int)blockIdx.x;
    float v[EXPERTS_MAX / LANES], top = -INFINITY, sum = 0, chosen = 0;
    for (int i = 0; i < EXPERTS_MAX / LANES; i++) {
        const int e = lane + LANES * i;
        v[i] = e < n_experts ? logits[(int64_t)t * n_experts + e] : -INFINITY;
        top = fmaxf(top, v[i]);
    }
    top = warp_max(top);
    for (int i = 0; i < EXPERTS_MAX / LANES; i++)
        sum += lane + LANES * i < n_experts ? expf(v[i] - top) : 0;
    sum = warp_sum(sum);
    float mine = 0; /* the weight that this lane writes */
    for (int n = 0; n < k; n++) {
        /* the largest; of equals the first. A NaN is never larger: where there are no numbers the first that is left is taken, and its weight is none either */
        float most = -INFINITY;
        int best = EXPERTS_MAX;
        for (int i = 0; i < EXPERTS_MAX / LANES; i++)
            if (v[i] > most) {
                most = v[i];
                best = lane + LANES * i;
            }
        for (int bits = LANES / 2; bits > 0; bits /= 2) {
            const float other = shuffle_xor(most, bits);
            const int at = (int)shuffle_xor_u32((uint32_t)best, bits);
            if (other > most || (other == most && at < best)) {
                most = other;
                best = at;
            }
        }
        const bool is_number = best < EXPERTS_MAX;
        const float p = is_number ? expf(most - top) / sum : NAN;
        if (!is_number)
            best = n < n_experts ? n : 0;
        chosen += p;
        if (lane == n)
            mine = p;
        if (lane == 0)
            ids[(int64_t)t * k + n] = best;
        for (int i = 0; i < EXPERTS_MAX / LANES; i++)
            if (lane + LANES * i == best)
                v[i] = -INFINITY;
    }
    if (lane < k)
        cuda_row(weights, t)[lane] =
            mine / fmaxf(chosen, 6.103515625e-05f); /* 2^-14; fmaxf passes a NaN over, `mine` keeps it */
}

void cuda_moe_route(struct kn_stream *stream, const struct kn_moe_route_args *a)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    const int n = a->w->rows, T = a->x.rows;
    float *logits = (float *)s->scratch;
    if (n > EXPERTS_MAX || a->k > LANES) {
        cuda_fail(s, "moe_route", ERR_UNSUPPORTED, "%d of %d experts: at most %d of %d", a->k, n, LANES, EXPERTS_MAX);
        return;
    }
    if ((size_t)T * (size_t)n * sizeof *logits > s->scratch_bytes) {
        cuda_fail(s, "moe_route", ERR_INVAL, "the call is larger than the limits that the stream was opened with");
        return;
    }
    const unsigned blocks = (unsigned)((n + EXPERTS_OF_A_BLOCK - 1) / EXPERTS_OF_A_BLOCK);
    if (T < TOKENS)
        cuda_launch(s, "moe_route", logits_kernel<1>, dim3(blocks, (unsigned)T), EXPERTS_OF_A_BLOCK * LANES, 0, a->x,
                    cuda_weight_f32(a->w), n, logits);
    else
        cuda_launch(s, "moe_route", logits_kernel<TOKENS>, dim3(blocks, (unsigned)((T + TOKENS - 1) / TOKENS)),
                    EXPERTS_OF_A_BLOCK * LANES, 0, a->x, cuda_weight_f32(a->w), n, logits);
    cuda_launch(s, "moe_route", pick_kernel, dim3((unsigned)T), LANES, 0, logits, n, a->k, a->ids, a->weights);
}
