/*
 * gdn_conv - Gated DeltaNet on the CUDA device: the causal depthwise convolution with its state, SiLU, and the L2 norms of
 * queries and keys.
 *
 * A block owns at most 128 channels of one sequence (a query head, a key head, or 128 channels of the values) and walks over
 * its tokens in tiles: a token needs the raw x of the tokens before it, y may lie where x does, and so nobody else may write
 * there. Tiles pass through a ring in shared memory, two of them on their way while one is computed; the tile before stays
 * until its last rows have served as the next one's past, and the state of the sequence is the tile before the first. A warp
 * takes consecutive tokens of a tile, a lane four channels, so that a head's norm is a sum over the lanes of one warp, in one
 * order.
 *
 * One launch. What is read and written is x, y and the state, once each.
 */
#include "kernels/cuda/cuda.cuh"

#define CHANNELS 128 /* of a block, four to a lane */
#define TILE     32  /* tokens */
#define RING     4   /* tiles: the past, the one at work, two on their way */
#define WARPS    8
#define TAPS_MAX 16
#define FOUR     4 /* the taps of all models: a lane keeps them in registers */

struct conv {
    const struct kn_step *step;
    struct kn_mat x, y;
    const float *w;
    float *state;
    int32_t taps, n_k, d_k;
    int32_t tile, ring; /* rows of a tile, rows of the ring */
    bool is_wide;       /* 16 bytes at a time, in all matrices */
};

/* The channels of a block, and its ring. */
struct part {
    int32_t first, n;
    float *ring;
};

/* A row of the ring; `row` counts from the sequence's first token of this call, less than 0: the tokens before it. */
static __device__ __forceinline__ float *ring_row(const struct conv &p, const struct part &part, int32_t row)
{
    return part.ring + (int64_t)((row + p.tile) % p.ring) * CHANNELS;
}

/* All threads: `n` rows, `stride` floats apart, to the ring from `row` on. */
static __device__ void load_rows(const struct conv &p, const struct part &part, const float *from, int64_t stride, int32_t row,
                                 int32_t n)
{
    for (int32_t i = threadIdx.x; i < n * LANES; i += blockDim.x) {
        const int32_t c = i % LANES * 4;
        const float *src = from + i / LANES * stride + part.first + c;
        float *to = ring_row(p, part, row + i / LANES) + c;
        if (p.is_wide) {
            if (c < part.n)
                copy_async(to, src, true);
            continue;
        }
        for (int32_t e = 0; e < 4 && c + e < part.n; e++)
            to[e] = src[e];
    }
}

/* Four channels of a row, of which those from `n` on are 0. */
static __device__ __forceinline__ float4 ring_load(const float *row, int32_t n)
{
    const int32_t c = threadIdx.x % LANES * 4;
    float4 v = *reinterpret_cast<const float4 *>(row + c);
    v.x = c < n ? v.x : 0.0f;
    v.y = c + 1 < n ? v.y : 0.0f;
    v.z = c + 2 < n ? v.z : 0.0f;
    v.w = c + 3 < n ? v.w : 0.0f;
    return v;
}

static __device__ __forceinline__ void add_tap(float4 *u, const float w[4], const float4 &x)
{
    u->x = fmaf(w[0], x.x, u->x);
    u->y = fmaf(w[1], x.y, u->y);
    u->z = fmaf(w[2], x.z, u->z);
    u->w = fmaf(w[3], x.w, u->w);
}

/* A warp: SiLU and norm of a token's channels, and out. `scale` 0: no norm. */
static __device__ __forceinline__ void finish(const struct conv &p, const struct part &part, float4 u, float scale, float *to)
{
    const int32_t c = threadIdx.x % LANES * 4;
    float v[4] = {cuda_silu(u.x), cuda_silu(u.y), cuda_silu(u.z), cuda_silu(u.w)};
    if (scale != 0.0f) {
        const float sum = warp_sum(fmaf(v[3], v[3], fmaf(v[2], v[2], fmaf(v[1], v[1], v[0] * v[0]))));
        const float f = scale / sqrtf(sum + 1e-6f);
        for (int e = 0; e < 4; e++)
            v[e] *= f;
    }
    if (p.is_wide) {
        if (c < part.n)
            *reinterpret_cast<float4 *>(to + c) = make_float4(v[0], v[1], v[2], v[3]);
        return;
    }
    for (int32_t e = 0; e < 4 && c + e < part.n; e++)
        to[c + e] = v[e];
}

template <bool IS_FOUR> static __global__ void __launch_bounds__(WARPS *LANES) gdn_conv_kernel(const struct conv p)
{
    if ((int32_t)blockIdx.y >= p.step->n_seqs)
        return;
    const struct kn_seq seq = p.step->seqs[blockIdx.y];
    if (seq.n_rows == 0)
        return;
    const int32_t warp = threadIdx.x / LANES, n_warps = blockDim.x / LANES, lane_channel = threadIdx.x % LANES * 4;
    const int32_t taps = IS_FOUR ? FOUR : p.taps, past = taps - 1, norms = 2 * p.n_k, block = blockIdx.x, C = p.x.cols;
    struct part part = {block * p.d_k, p.d_k, shared_memory<float>()};
    float scale = 0.0f;
    if (block >= norms) {
        part.first = norms * p.d_k + (block - norms) * CHANNELS;
        part.n = min(CHANNELS, C - part.first);
    } else {
        scale = block < p.n_k ? 1.0f / sqrtf((float)p.d_k) : 1.0f;
    }

    const float *x = cuda_row(p.x, seq.row0);
    float *y = cuda_row(p.y, seq.row0) + part.first, *state = p.state + (int64_t)seq.slot * past * C;
    load_rows(p, part, state, C, -past, past);
    load_rows(p, part, x, p.x.stride, 0, min(p.tile, seq.n_rows));
    copy_commit();
    if (seq.n_rows > p.tile)
        load_rows(p, part, x + p.tile * p.x.stride, p.x.stride, p.tile, min(p.tile, seq.n_rows - p.tile));
    copy_commit();

    float w[FOUR][4] = {};
    for (int e = 0; IS_FOUR && e < 4; e++) {
        const float *from = p.w + (int64_t)(part.first + lane_channel + e) * FOUR;
        if (p.is_wide && lane_channel < part.n) {
            const float4 all = *reinterpret_cast<const float4 *>(from);
            w[0][e] = all.x, w[1][e] = all.y, w[2][e] = all.z, w[3][e] = all.w;
        } else {
            for (int j = 0; j < FOUR; j++)
                w[j][e] = lane_channel + e < part.n ? from[j] : 0.0f;
        }
    }

    for (int32_t t = 0; t < seq.n_rows; t += p.tile) {
        copy_wait<1>();
        __syncthreads(); /* this tile is there, and nobody reads the one before the last any more */
        const int32_t ahead = t + 2 * p.tile;
        if (ahead < seq.n_rows)
            load_rows(p, part, x + ahead * p.x.stride, p.x.stride, ahead, min(p.tile, seq.n_rows - ahead));
        copy_commit();
        const int32_t rows = min(p.tile, seq.n_rows - t), each = (p.tile + n_warps - 1) / n_warps;
        const int32_t from = t + warp * each, to = min(from + each, t + rows);
        float4 window[FOUR];
        if (IS_FOUR && from < to)
            for (int j = 0; j + 1 < FOUR; j++)
                window[j + 1] = ring_load(ring_row(p, part, from - past + j), part.n);
        for (int32_t i = from; i < to; i++) {
            float4 u = make_float4(0, 0, 0, 0);
            if (IS_FOUR) {
                for (int j = 0; j + 1 < FOUR; j++)
                    window[j] = window[j + 1];
                window[FOUR - 1] = ring_load(ring_row(p, part, i), part.n);
                for (int j = 0; j < FOUR; j++)
                    add_tap(&u, w[j], window[j]);
            } else {
                for (int32_t j = 0; j < taps; j++) {
                    float wj[4];
                    for (int e = 0; e < 4; e++)
                        wj[e] = lane_channel + e < part.n ? p.w[(int64_t)(part.first + lane_channel + e) * taps + j] : 0.0f;
                    add_tap(&u, wj, ring_load(ring_row(p, part, i - past + j), part.n));
                }
            }
            finish(p, part, u, scale, y + i * p.y.stride);
        }
    }
    for (int32_t i = threadIdx.x; i < past * CHANNELS; i += blockDim.x) {
        const int32_t c = i % CHANNELS, j = i / CHANNELS;
        if (c < part.n)
            state[(int64_t)j * C + part.first + c] = ring_row(p, part, seq.n_rows - past + j)[c];
    }
}

static bool is_wide(const struct kn_mat *m)
{
    return (uintptr_t)m->data % 16 == 0 && m->stride % 4 == 0;
}

void cuda_gdn_conv(struct kn_stream *stream, const struct kn_gdn_conv_args *a)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    const int32_t T = a->x.rows, C = a->x.cols;
    if (a->d_k > CHANNELS || a->taps > TAPS_MAX) {
        cuda_fail(s, "gdn_conv", ERR_INVAL, "key heads of %d, %d taps: at most %d, %d", a->d_k, a->taps, CHANNELS, TAPS_MAX);
        return;
    }
    struct conv p = {a->step, a->x, a->y, a->w, a->state, a->taps, a->n_k, a->d_k, 0, 0, false};
    p.is_wide = is_wide(&a->x) && is_wide(&a->y) && (uintptr_t)a->state % 16 == 0 && (uintptr_t)a->w % 16 == 0 && C % 4 == 0 &&
                a->d_k % 4 == 0;
    /* few rows: a small ring, so that many blocks share a processor */
    p.tile = max(min(T, TILE), a->taps - 1);
    p.ring = T > p.tile ? RING * p.tile : 2 * p.tile;
    const dim3 grid((unsigned)(2 * a->n_k + (a->n_v * a->d_v + CHANNELS - 1) / CHANNELS),
                    (unsigned)min(T, s->base.limits.seqs));
    const unsigned threads = (unsigned)min(T, WARPS) * LANES;
    const size_t shared = (size_t)p.ring * CHANNELS * sizeof(float);
    cuda_launch(s, "gdn_conv", a->taps == FOUR ? gdn_conv_kernel<true> : gdn_conv_kernel<false>, grid, threads, shared, p);
}
