/*
 * route - which experts a token goes to. In f32 throughout: a logit that strays can choose another expert, and that changes everything.
 *
 * Logits: a warp an expert, and one or eight tokens, which share its reading of the expert's row; lanes take four inputs in turn, and the lanes' sums are added in one order, for one token
 * as for eight. Then a warp a token picks: of many tokens in a launch of its own, of few the last block that has put down logits of a token.
 */
#include "kernels/cuda/weights.cuh"

#define EXPERTS_OF_A_BLOCK 8
#define TOKENS             8
#define EXPERTS_MAX        1024 /* a lane holds 32 of them */

size_t cuda_route_scratch(const struct cuda_device *d, const struct kn_limits *l)
{
    return (size_t)l->rows * (size_t)l->experts * sizeof(float);
}

struct route {
    struct kn_mat x, weights, gates;
    const float *w, *shared; /* shared NULL: there is no shared expert */
    int n_experts, k;
    float *logits;
    int32_t *ids, *counts; /* blocks that are done with a token; NULL: picked by another launch */
    bool is_wide;          /* rows of x are aligned, and so are the experts' */
};

static __device__ __forceinline__ void pick(const struct route &p, int t);

/* Grid (experts / EXPERTS_OF_A_BLOCK, tokens / N). The shared expert's gate stands behind the experts' rows. */
template <int N> static __global__ void logits_kernel(const struct route p)
{
    const int lane = (int)threadIdx.x % LANES, expert = (int)(blockIdx.x * EXPERTS_OF_A_BLOCK + threadIdx.x / LANES),
              token0 = (int)blockIdx.y * N, cols = p.x.cols;
    const float *row = expert == p.n_experts && p.shared ? p.shared : p.w + (int64_t)min(expert, p.n_experts - 1) * cols;
    float sum[N] = {};
    if (p.is_wide && (uintptr_t)row % 16 == 0) {
#pragma unroll(N == 1 ? 4 : 1)
        for (int i = 4 * lane; i < cols; i += 4 * LANES) {
            const float4 f = *(const float4 *)(row + i);
#pragma unroll
            for (int n = 0; n < N; n++) { /* past the last: it once more, for nothing */
                const float4 x = *(const float4 *)(cuda_row(p.x, min(token0 + n, p.x.rows - 1)) + i);
                sum[n] = fmaf(f.w, x.w, fmaf(f.z, x.z, fmaf(f.y, x.y, fmaf(f.x, x.x, sum[n]))));
            }
        }
    } else {
        for (int i = 4 * lane; i < cols; i += 4 * LANES)
            for (int j = i; j < i + 4 && j < cols; j++)
#pragma unroll
                for (int n = 0; n < N; n++)
                    sum[n] = fmaf(row[j], cuda_row(p.x, min(token0 + n, p.x.rows - 1))[j], sum[n]);
    }
#pragma unroll
    for (int n = 0; n < N; n++) {
        const float v = warp_sum(sum[n]);
        if (lane != 0 || token0 + n >= p.x.rows)
            continue;
        if (expert < p.n_experts)
            p.logits[(int64_t)(token0 + n) * p.n_experts + expert] = v;
        else if (expert == p.n_experts && p.shared)
            cuda_row(p.gates, token0 + n)[0] = cuda_sigmoid(v);
    }
    if (N > 1 || !p.counts)
        return;
    int *is_last = shared_memory<int>();
    __syncthreads();
    if (threadIdx.x == 0) {
        *is_last = count_up(&p.counts[token0]) == (int)gridDim.x;
        if (*is_last)
            p.counts[token0] = 0; /* for the next call */
    }
    __syncthreads();
    if (*is_last && threadIdx.x < LANES)
        pick(p, token0);
}

/* Warp: lane l holds the experts l, l + 32 ... */
static __device__ __forceinline__ void pick(const struct route &p, int t)
{
    const int lane = (int)threadIdx.x, n_experts = p.n_experts, k = p.k;
    float v[EXPERTS_MAX / LANES], top = -INFINITY, sum = 0, chosen = 0;
    for (int i = 0; i < EXPERTS_MAX / LANES; i++) {
        const int e = lane + LANES * i;
        v[i] = e < n_experts ? load_fresh(&p.logits[(int64_t)t * n_experts + e]) : -INFINITY;
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
        const float share = is_number ? expf(most - top) / sum : NAN;
        if (!is_number)
            best = n < n_experts ? n : 0;
        chosen += share;
        if (lane == n)
            mine = share;
        if (lane == 0)
            p.ids[(int64_t)t * k + n] = best;
        for (int i = 0; i < EXPERTS_MAX / LANES; i++)
            if (lane + LANES * i == best)
                v[i] = -INFINITY;
    }
    if (lane < k)
        cuda_row(p.weights, t)[lane] =
            mine / fmaxf(chosen, 6.103515625e-05f); /* 2^-14; fmaxf passes a NaN over, `mine` keeps it */
}

static __global__ void pick_kernel(const struct route p)
{
    pick(p, (int)blockIdx.x);
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
    const struct route p = {a->x,
                            a->weights,
                            a->gates,
                            cuda_weight_f32(a->w),
                            a->shared,
                            n,
                            a->k,
                            logits,
                            a->ids,
                            T < TOKENS ? s->counts : NULL,
                            (uintptr_t)a->x.data % 16 == 0 && a->x.stride % 4 == 0 && a->x.cols % 4 == 0};
    const dim3 grid((unsigned)((n + (a->shared ? 1 : 0) + EXPERTS_OF_A_BLOCK - 1) / EXPERTS_OF_A_BLOCK),
                    (unsigned)(p.counts ? T : (T + TOKENS - 1) / TOKENS));
    cuda_launch(s, "moe_route", p.counts ? logits_kernel<1> : logits_kernel<TOKENS>, grid, EXPERTS_OF_A_BLOCK * LANES,
                sizeof(int), p);
    if (!p.counts)
        cuda_launch(s, "moe_route", pick_kernel, dim3((unsigned)T), LANES, 0, p);
}
