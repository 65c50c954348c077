/*
 * attn.cuh - what the kernels of attention share: tiles of halves in shared memory, scores and weighted sums on tensor cores,
 * softmax over a stream of keys, and the same in f32.
 *
 * A warp has 16 queries; its scores, weights and sums lie as mma_f16 leaves them (lanes.cuh): lane l has the rows l / 4 and l /
 * 4 + 8, and of every 8 columns the pair 2 (l % 4). Softmax is taken as the keys come (Milakov and Gimelshein, arXiv
 * 1805.02867; Dao, arXiv 2307.08691): a row keeps the largest score so far, the sum of its weights, and the weighted sum of
 * values, which shrink when a larger score comes. Scores are in log2: queries are multiplied by scale * log2(e) beforehand.
 *
 * Weights are at most 2^15 instead of 1, so that what is rounded to a half keeps 11 bits down to 2^-29 of the largest: in a
 * long context many small ones make a sum. The factor is in the sum of weights too and cancels.
 *
 * A row that sees nothing of a block of keys keeps its state to the bit: its largest score stays, it shrinks by 1, its weights
 * are 0, and tensor cores add products that are 0 exactly (they neither round the sum nor take part in the alignment of the
 * others: Xie et al., MMA-Sim, arXiv 2511.10909). Values must be finite for that.
 */
#ifndef HERON_KERNELS_CUDA_ATTN_CUH
#define HERON_KERNELS_CUDA_ATTN_CUH

#include "kernels/cuda/cuda.cuh"

#define ATTN_LOG2E 1.44269504088896341f
#define ATTN_TOP   32768.0f /* the largest weight */

#define ATTN_D_MAX    256 /* columns of a head */
#define ATTN_Q8_BLOCK 32  /* values of a Q8_0 block, in ATTN_Q8_BYTES */
#define ATTN_Q8_BYTES 34

/* ---- tiles of halves ----------------------------------------------------------------------------------------------------- */

/*
 * Rows of DP halves, so laid out that eight rows' 16 bytes at one column lie in all banks, as load_matrix reads them: 16-byte
 * pieces change places by the row where eight fit evenly, else rows are 16 bytes further apart.
 */
template <int DP> struct half_tile {
    enum { MIXED = DP % 64 == 0, PITCH = MIXED ? DP : DP + 8 };
};

/* Where columns col + more ... + 7 of a row lie; col is a multiple of 16, more 0 or 8. */
template <int DP> static __device__ __forceinline__ uint16_t *half_at(uint16_t *tile, int row, int col, int more)
{
    if (half_tile<DP>::MIXED)
        return tile + row * DP + (col & ~63) + ((col & 63) ^ (more ^ row % 8 * 8));
    return tile + row * half_tile<DP>::PITCH + col + more;
}

/*
 * All THREADS: ROWS rows of d halves (a multiple of 8), `stride` apart, on their way to a tile; from row n on, and from column
 * d on, zeros.
 */
template <int DP, int ROWS, int THREADS>
static __device__ __forceinline__ void copy_halves(uint16_t *tile, const uint16_t *from, int64_t stride, int n, int d)
{
#pragma unroll 2
    for (int j = 0; j < ROWS * (DP / 8); j += THREADS) {
        const int i = j + (int)threadIdx.x, row = i / (DP / 8), col = i % (DP / 8) * 8;
        if (ROWS * (DP / 8) % THREADS == 0 || row < ROWS)
            copy_async(half_at<DP>(tile, row, col & ~15, col & 8), from + row * stride + col, row < n && col < d);
    }
}

/* ---- on tensor cores ----------------------------------------------------------------------------------------------------- */

/*
 * What 16 rows know of the keys so far: [0] of row l / 4, [1] of row l / 4 + 8. `sum` is of the lane's own columns until all
 * are gathered.
 */
struct attn_rows {
    float max[2], sum[2];
};

static __device__ __forceinline__ struct attn_rows attn_rows_none()
{
    return {{-INFINITY, -INFINITY}, {0, 0}};
}

static __device__ __forceinline__ void gather_sums(struct attn_rows *r)
{
    for (int h = 0; h < 2; h++) {
        r->sum[h] += shuffle_xor(r->sum[h], 1);
        r->sum[h] += shuffle_xor(r->sum[h], 2);
    }
}

/* Warp: columns c ... c + 15 of 16 queries; lane l gives the address of its row. */
template <int DP> static __device__ __forceinline__ void load_queries(uint32_t a[4], uint16_t *tile, int row0, int c)
{
    const int lane = (int)threadIdx.x % LANES;
    load_matrix(a, half_at<DP>(tile, row0 + lane % 16, c, lane / 16 * 8));
}

/* Warp: s += of columns c ... c + 15 of the queries a and of 8 N keys. */
template <int DP, int N>
static __device__ __forceinline__ void add_scores(float s[N][4], const uint32_t a[4], uint16_t *keys, int key0, int c)
{
    const int lane = (int)threadIdx.x % LANES;
    static_assert(N % 2 == 0, "keys are loaded 16 at a time");
    for (int n = 0; n < N; n += 2) {
        uint32_t b[4];
        load_matrix(b, half_at<DP>(keys, key0 + 8 * n + lane % 8 + lane / 16 * 8, c, lane / 8 % 2 * 8));
        mma_f16(s[n], a, b);
        mma_f16(s[n + 1], a, b + 2);
    }
}

/* Warp: o += weights of 16 K keys times N 8-column tiles of values from column col0 on, 16 keys after the other. */
template <int DP, int N, int K>
static __device__ __forceinline__ void add_values(float o[N][4], const uint32_t p[K][4], uint16_t *values, int key0, int col0)
{
    const int lane = (int)threadIdx.x % LANES;
    static_assert(N % 2 == 0, "values are loaded 16 columns at a time");
#pragma unroll
    for (int k = 0; k < K; k++)
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            uint32_t b[4];
            load_matrix_transposed(b, half_at<DP>(values, key0 + 16 * k + lane % 16, col0 + 8 * n, lane / 16 * 8));
            mma_f16(o[n], p[k], b);
            mma_f16(o[n + 1], p[k], b + 2);
        }
}

/*
 * Warp: scores of 8 N keys to weights p, and by what the sums so far shrink. Row h (as in attn_rows) sees seen[h] of the keys,
 * from the first on; is_masked false: all rows see all of them.
 */
template <int N>
static __device__ __forceinline__ void weigh(float s[N][4], const int seen[2], bool is_masked, struct attn_rows *r,
                                             float shrink[2], uint32_t p[N / 2][4])
{
    const int pair = (int)threadIdx.x % 4 * 2;
    if (is_masked)
#pragma unroll
        for (int n = 0; n < N; n++)
            for (int e = 0; e < 4; e++)
                s[n][e] = 8 * n + pair + e % 2 < seen[e / 2] ? s[n][e] : -INFINITY;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float top = r->max[h], sum = 0;
#pragma unroll
        for (int n = 0; n < N; n++)
            top = fmaxf(top, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
        top = fmaxf(top, shuffle_xor(top, 1));
        top = fmaxf(top, shuffle_xor(top, 2));
        const float base = top == -INFINITY ? 0.0f : top; /* nothing seen yet: weights of 0 */
        shrink[h] = exp2f(r->max[h] - base);
        r->max[h] = top;
#pragma unroll
        for (int n = 0; n < N; n++)
            for (int e = 2 * h; e < 2 * h + 2; e++) {
                s[n][e] = mul_once(exp2f(s[n][e] - base), ATTN_TOP);
                sum += s[n][e];
            }
        r->sum[h] = fmaf(r->sum[h], shrink[h], sum);
    }
#pragma unroll
    for (int k = 0; k < N / 2; k++)
        for (int j = 0; j < 4; j++)
            p[k][j] = pack_f16(s[2 * k + j / 2][j % 2 * 2], s[2 * k + j / 2][j % 2 * 2 + 1]);
}

/* Warp: sums shrink, where any row's does. */
template <int N> static __device__ __forceinline__ void shrink_sums(float o[N][4], const float shrink[2])
{
    if (votes(shrink[0] != 1.0f || shrink[1] != 1.0f) == 0)
        return;
#pragma unroll
    for (int n = 0; n < N; n++)
        for (int e = 0; e < 4; e++)
            o[n][e] *= shrink[e / 2];
}

/* ---- in f32 -------------------------------------------------------------------------------------------------------------- */

/*
 * The way of exactness: 16 queries, 32 keys at a time. Warp w has the scores of rows 2 w and 2 w + 1, a lane a key; then a
 * thread has a column of the values, up to PLAIN_THREADS of them.
 */
#define PLAIN_ROWS    16
#define PLAIN_KEYS    LANES
#define PLAIN_THREADS (PLAIN_ROWS / 2 * LANES)
static_assert(PLAIN_THREADS >= ATTN_D_MAX, "a thread a column");

struct plain_room {
    float *q;      /* [PLAIN_ROWS][d], times scale and log2(e) */
    float *k;      /* [PLAIN_KEYS][d | 1]: lanes' rows begin in different banks */
    float *p;      /* [PLAIN_KEYS][PLAIN_ROWS] */
    float *shrink; /* [PLAIN_ROWS] */
    int d;
};

static inline size_t plain_bytes(int32_t d)
{
    return ((size_t)PLAIN_ROWS * (size_t)d + PLAIN_KEYS * ((size_t)d | 1) + PLAIN_KEYS * PLAIN_ROWS + PLAIN_ROWS) *
           sizeof(float);
}

static __device__ __forceinline__ struct plain_room plain_room_of(float *memory, int d)
{
    struct plain_room r = {memory, NULL, NULL, NULL, d};
    r.k = r.q + PLAIN_ROWS * d;
    r.p = r.k + PLAIN_KEYS * (d | 1);
    r.shrink = r.p + PLAIN_KEYS * PLAIN_ROWS;
    return r;
}

/*
 * Block: n keys more, whose values from.key(i, j) and from.value(i, j) tell; rows of this warp see seen[0] and seen[1] of them.
 * max and sum are of the warp's rows, o of the thread's column.
 */
template <typename S>
static __device__ __forceinline__ void plain_block(const struct plain_room &r, const S &from, int n, const int seen[2],
                                                   float max[2], float sum[2], float o[PLAIN_ROWS])
{
    const int lane = (int)threadIdx.x % LANES, row = (int)threadIdx.x / LANES * 2, d = (int)threadIdx.x;
    for (int i = (int)threadIdx.x; i < n * r.d; i += PLAIN_THREADS)
        r.k[i / r.d * (r.d | 1) + i % r.d] = from.key(i / r.d, i % r.d);
    __syncthreads();
    float s[2] = {0, 0};
    if (lane < n) {
        const float *k = r.k + lane * (r.d | 1), *q = r.q + row * r.d;
        for (int i = 0; i < r.d; i++) {
            s[0] = fmaf(q[i], k[i], s[0]);
            s[1] = fmaf(q[r.d + i], k[i], s[1]);
        }
    }
    __syncwarp();
    for (int h = 0; h < 2; h++) {
        s[h] = lane < seen[h] ? s[h] : -INFINITY;
        const float top = fmaxf(max[h], warp_max(s[h])), base = top == -INFINITY ? 0.0f : top;
        const float shrink = exp2f(max[h] - base), p = exp2f(s[h] - base);
        sum[h] = fmaf(sum[h], shrink, warp_sum(p));
        max[h] = top;
        r.p[lane * PLAIN_ROWS + row + h] = p;
        if (lane == 0)
            r.shrink[row + h] = shrink;
    }
    __syncthreads();
    if (d < r.d) {
        for (int i = 0; i < PLAIN_ROWS; i++)
            o[i] = mul_once(o[i], r.shrink[i]);
        for (int key = 0; key < n; key++) {
            const float v = from.value(key, d);
            for (int i = 0; i < PLAIN_ROWS; i++)
                o[i] = fmaf(r.p[key * PLAIN_ROWS + i], v, o[i]);
        }
    }
    __syncthreads();
}

#endif
