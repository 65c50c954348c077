/*
 * gdn_scan - Gated DeltaNet on the CUDA device: the gated delta rule, in chunks of 64 tokens at absolute borders (kernels.h,
 * struct kn_gdn_state).
 *
 * With S the state at the last border, c the cumulative log decay since then and tokens i, j of the open chunk (Yang et al.,
 * arXiv 2412.06464):
 *   u_i = beta_i (v_i - e^{c_i} S^T k_i - sum_{j < i} T_ij u_j)    T_ij = (k_i . k_j) e^{c_i - c_j}
 *   o_i = e^{c_i} S^T q_i + sum_{j <= i} Q_ij u_j                  Q_ij = (q_i . k_j) e^{c_i - c_j}
 * and at the border S <- e^{c_63} S + sum_j e^{c_63 - c_j} k_j u_j^T. A step of one token so reads S, and the little that the
 * chunk has, and writes no S.
 *
 * Columns of a value head need nothing of each other: a warp takes 16 of them, through all tokens of a sequence in this call; a
 * block is four warps that share keys and queries. All products are mma of m16n8k16 with the columns as rows of A and the
 * tokens as columns of B. Then the state, as A, stays in 64 registers of a lane for the whole call; u comes out of the products
 * the way it goes into the next ones; and the sum at the border comes out in the state's own registers.
 *
 * Precision. Factors are sums of two halves, hi + lo, 22 bits: products hi hi + hi lo + lo hi in float32. lo lo would be 2^-22.
 * Halves have few exponents, so keys, queries and T times 2^10 are what is split (they are at most 1 in size), and a column of
 * S, or 16 tokens of a column of u, times a power of two that brings its largest to 2^13: what is smaller than 2^-38 of that is
 * lost. Tensor cores cut sums off instead of rounding them: the small products so have sums of their own, and S is never in
 * such a sum: what a chunk adds is made first and added in float32, rounded. S is kept as the halves that the next chunk
 * multiplies by. Against the recurrence in double precision the outputs' NMSE is 3e-14, or 3e-13 where sums are cut off at 24
 * bits; after 2,000 tokens as after 100.
 *
 * Order of sums. Tokens are taken in blocks of 16 at absolute places. j runs over the blocks before i's in products, block by
 * block, then over i's own block one by one in float32. An mma computes its columns of B apart and in one way, so a token
 * alone, with the others' places empty, gets the same bits as in a full block.
 *
 * A slot: per key head [CHUNK] tokens of [2][d_k] halves (hi, lo); then per value head S, u [CHUNK][d_v], c [CHUNK]. S is
 * [d_k][d_v] of hi and lo in one word, or, in the usual shape, the words as warps hold them: [columns / 16][d_k / 16][2
 * limbs][LANES][4]. An open chunk has at most 63 tokens, so the last place is free: u's holds what the columns of S are to be
 * multiplied by, c's and the keys' count readers (see `claim`).
 */
#include "kernels/cuda/norm.cuh"

#define CHUNK     KN_GDN_CHUNK
#define BLOCK     16              /* tokens that are solved together */
#define BLOCKS    (CHUNK / BLOCK) /* of a chunk */
#define GROUP     8               /* tokens of one mma */
#define COLUMNS   16              /* of a warp */
#define WARPS     4
#define D_MAX     128 /* d_k */
#define NORM_ROWS 8   /* of a call that norms its own heads */
#define STEPS     (D_MAX / 16)
#define UNITS     (D_MAX / 8) /* of 16 bytes in a row of halves */

#define SHARED_SCALE 1024.0f /* of keys, queries and T */
#define TOP          13      /* the largest of a scaled column is 2^TOP to 2^(TOP+1) */

struct scan {
    const struct kn_step *step;
    struct kn_mat qkv, b, alpha, y;
    const float *a, *dt;
    uint8_t *slots;
    size_t bytes_per_slot;
    int32_t n_k, n_v, d_k, d_v;
    bool is_wide; /* rows of qkv 16 bytes at a time */
    struct kn_mat z;
    const float *norm;
    float eps;
    int32_t
        *counts; /* [sequences][n_v] of blocks that are done with a head: the last one norms it. NULL: nothing is normed here */
};

/* Rows of halves are swizzled: unit n of row r lies at n ^ (r % 8), so that eight rows of a matrix are in different banks. */
struct room {
    uint16_t keys[2][CHUNK][D_MAX]; /* hi, lo; times SHARED_SCALE */
    uint16_t queries[2][BLOCK][D_MAX];
    /* T and Q of a block against the blocks before it, hi and lo, times SHARED_SCALE */
    uint16_t far[2][2][BLOCK][CHUNK - BLOCK];
    float near[2][BLOCK][BLOCK]; /* T and Q inside the block: [j][i] */
    float c[CHUNK];
    float border[CHUNK];             /* e^{c_63 - c_j} */
    float beta[BLOCK], decay[BLOCK]; /* decay: e^{c_i}. A token of an earlier call is there as u: beta 1, decay 0 */
    int32_t is_writer[2];
};
static_assert(2 * (sizeof(struct room) + 1024) <= 100 * 1024, "two blocks share a processor of sm_121");

/* A call's tokens of one block: places from ... to - 1 of the chunk, the first being row `row` of the batch. */
struct span {
    int32_t block, from, to, row;
};

/* A sequence's slot, and what a warp holds of it. */
struct slot {
    uint16_t *keys;
    uint32_t *S;
    float *u, *c;
};

/* What a lane holds of its warp's 16 columns, as A of an mma: columns g and g + 8. */
struct state {
    uint32_t hi[STEPS][4], lo[STEPS][4];
    float unit[2]; /* of the columns: what one is worth */
};

struct update {
    uint32_t hi[BLOCKS][4], lo[BLOCKS][4];
    float unit[BLOCKS][2];
};

/* ---- two halves for one float -------------------------------------------------------------------------------------------- */

/* hi + lo = x, but for 2^-23 of it. */
static __device__ __forceinline__ void split(float x0, float x1, uint32_t *hi, uint32_t *lo)
{
    *hi = pack_f16(x0, x1);
    const float2 h = unpack_f16(*hi);
    *lo = pack_f16(x0 - h.x, x1 - h.y);
}

static __device__ __forceinline__ float2 join(uint32_t hi, uint32_t lo)
{
    const float2 h = unpack_f16(hi), l = unpack_f16(lo);
    return make_float2(h.x + l.x, h.y + l.y);
}

/* The power of two that brings `most` to 2^TOP, and its inverse; both exist for every finite `most`. */
static __device__ __forceinline__ void choose_scale(float most, float *scale, float *unit)
{
    const int32_t e = max((int32_t)(bits_of(most) >> 23 & 255), TOP + 1);
    *scale = float_of((uint32_t)(254 + TOP - e) << 23);
    *unit = float_of((uint32_t)(e - TOP) << 23);
}

/* Warp: the largest over the four lanes that share a row of A. */
static __device__ __forceinline__ float most_of_row(float v)
{
    v = fmaxf(v, shuffle_xor(v, 1));
    return fmaxf(v, shuffle_xor(v, 2));
}

/* hi and lo hold n x 4 pairs of floats, as their bits: make them halves, scaled by row. */
template <int N> static __device__ __forceinline__ void split_rows(uint32_t hi[N][4], uint32_t lo[N][4], float unit[2])
{
    float most[2] = {0, 0}, scale[2];
#pragma unroll
    for (int n = 0; n < N; n++)
        for (int r = 0; r < 4; r++)
            most[r & 1] = fmaxf(most[r & 1], fmaxf(fabsf(float_of(hi[n][r])), fabsf(float_of(lo[n][r]))));
    for (int i = 0; i < 2; i++)
        choose_scale(most_of_row(most[i]), &scale[i], &unit[i]);
#pragma unroll
    for (int n = 0; n < N; n++)
        for (int r = 0; r < 4; r++)
            split(float_of(hi[n][r]) * scale[r & 1], float_of(lo[n][r]) * scale[r & 1], &hi[n][r], &lo[n][r]);
}

/* Warp: one step of a product of two halves each; b is hi, hi, lo, lo. The sum is main + small. */
static __device__ __forceinline__ void multiply(float main[4], float small[4], const uint32_t hi[4], const uint32_t lo[4],
                                                const uint32_t b[4])
{
    mma_f16(small, hi, b + 2);
    mma_f16(small, lo, b);
    mma_f16(main, hi, b);
}

/* ---- shared memory ------------------------------------------------------------------------------------------------------- */

static __device__ __forceinline__ uint16_t *unit_of(uint16_t *row, int32_t i_row, int32_t unit)
{
    return row + ((unit ^ (i_row & 7)) << 3);
}

/* Four halves of a row from element d on, d a multiple of 4. */
static __device__ __forceinline__ uint2 *quarter_of(uint16_t *row, int32_t i_row, int32_t d)
{
    return reinterpret_cast<uint2 *>(unit_of(row, i_row, d >> 3) + (d & 4));
}

/* Warp: rows first ... first + 7 as columns of B, step ks of d_k: hi, hi, lo, lo. `stride`: halves from hi to lo. */
static __device__ __forceinline__ void load_tokens(uint32_t b[4], uint16_t *rows, int32_t stride, int32_t first, int ks,
                                                   int32_t lane)
{
    const int32_t row = first + lane % 8;
    load_matrix(b, unit_of(rows + lane / 16 * stride + row * D_MAX, row, 2 * ks + lane / 8 % 2));
}

/* ---- slots --------------------------------------------------------------------------------------------------------------- */

static __device__ __forceinline__ struct slot slot_of(const struct scan &p, const struct kn_seq &seq, int32_t head)
{
    struct slot s;
    const int64_t keys = (int64_t)CHUNK * p.d_k, each = (int64_t)p.d_k * p.d_v + (int64_t)CHUNK * p.d_v + CHUNK;
    uint32_t *base = reinterpret_cast<uint32_t *>(p.slots + (size_t)seq.slot * p.bytes_per_slot);
    s.keys = reinterpret_cast<uint16_t *>(base + head % p.n_k * keys);
    s.S = base + p.n_k * keys + head * each;
    s.u = reinterpret_cast<float *>(s.S + (int64_t)p.d_k * p.d_v);
    s.c = s.u + (int64_t)CHUNK * p.d_v;
    return s;
}

/* The word of element (d, column) of S. */
static __device__ __forceinline__ uint32_t *word_at(const struct scan &p, const struct slot &s, int32_t d, int32_t column)
{
    return s.S + (int64_t)d * p.d_v + column;
}

/* A register of two halves (rows d and d + 1 of a column) of each limb, from the plain form and to it. */
static __device__ __forceinline__ void load_plain(const struct scan &p, const struct slot &s, int32_t d, int32_t column,
                                                  uint32_t *hi, uint32_t *lo)
{
    const uint32_t w0 = d < p.d_k && column < p.d_v ? *word_at(p, s, d, column) : 0;
    const uint32_t w1 = d + 1 < p.d_k && column < p.d_v ? *word_at(p, s, d + 1, column) : 0;
    *hi = pick_bytes(w0, w1, 0x5410);
    *lo = pick_bytes(w0, w1, 0x7632);
}

static __device__ __forceinline__ void store_plain(const struct scan &p, const struct slot &s, int32_t d, int32_t column,
                                                   uint32_t hi, uint32_t lo)
{
    if (d < p.d_k && column < p.d_v)
        *word_at(p, s, d, column) = pick_bytes(hi, lo, 0x5410);
    if (d + 1 < p.d_k && column < p.d_v)
        *word_at(p, s, d + 1, column) = pick_bytes(hi, lo, 0x7632);
}

/* Warp: S of its columns. IS_USUAL: d_k is D_MAX and d_v a multiple of COLUMNS. */
template <bool IS_USUAL>
static __device__ __forceinline__ void load_state(const struct scan &p, const struct slot &s, int32_t column0, struct state *st)
{
    const int32_t lane = threadIdx.x % LANES, g = lane / 4, t = lane % 4;
    for (int i = 0; i < 2; i++)
        st->unit[i] = column0 + g + 8 * i < p.d_v ? s.u[(CHUNK - 1) * (int64_t)p.d_v + column0 + g + 8 * i] : 0.0f;
#pragma unroll
    for (int ks = 0; ks < STEPS; ks++) {
        if (IS_USUAL) {
            const uint4 *from = reinterpret_cast<const uint4 *>(s.S + column0 * D_MAX) + ks * 2 * LANES + lane, hi = from[0],
                        lo = from[LANES];
            st->hi[ks][0] = hi.x, st->hi[ks][1] = hi.y, st->hi[ks][2] = hi.z, st->hi[ks][3] = hi.w;
            st->lo[ks][0] = lo.x, st->lo[ks][1] = lo.y, st->lo[ks][2] = lo.z, st->lo[ks][3] = lo.w;
        } else {
            for (int r = 0; r < 4; r++)
                load_plain(p, s, 16 * ks + 2 * t + 8 * (r >> 1), column0 + g + 8 * (r & 1), &st->hi[ks][r], &st->lo[ks][r]);
        }
    }
}

template <bool IS_USUAL>
static __device__ __forceinline__ void store_state(const struct scan &p, const struct slot &s, int32_t column0,
                                                   const struct state &st)
{
    const int32_t lane = threadIdx.x % LANES, g = lane / 4, t = lane % 4;
    for (int i = 0; i < 2; i++)
        if (t == 0 && column0 + g + 8 * i < p.d_v)
            s.u[(CHUNK - 1) * (int64_t)p.d_v + column0 + g + 8 * i] = st.unit[i];
#pragma unroll
    for (int ks = 0; ks < STEPS; ks++) {
        if (IS_USUAL) {
            uint4 *to = reinterpret_cast<uint4 *>(s.S + column0 * D_MAX) + ks * 2 * LANES + lane;
            to[0] = make_uint4(st.hi[ks][0], st.hi[ks][1], st.hi[ks][2], st.hi[ks][3]);
            to[LANES] = make_uint4(st.lo[ks][0], st.lo[ks][1], st.lo[ks][2], st.lo[ks][3]);
        } else {
            for (int r = 0; r < 4; r++)
                store_plain(p, s, 16 * ks + 2 * t + 8 * (r >> 1), column0 + g + 8 * (r & 1), st.hi[ks][r], st.lo[ks][r]);
        }
    }
}

/* Warp: u of the blocks before the first of this call, still as floats: split_rows follows when they are needed. */
static __device__ __forceinline__ void load_updates(const struct scan &p, const struct slot &s, int32_t column0,
                                                    int32_t n_blocks, struct update *u)
{
    const int32_t lane = threadIdx.x % LANES, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int n = 0; n + 1 < BLOCKS; n++)
        for (int r = 0; r < 4 && n < n_blocks; r++) {
            const int32_t column = column0 + g + 8 * (r & 1);
            const float *from = s.u + (int64_t)(BLOCK * n + 2 * t + 8 * (r >> 1)) * p.d_v + column;
            u->hi[n][r] = column < p.d_v ? bits_of(from[0]) : 0;
            u->lo[n][r] = column < p.d_v ? bits_of(from[p.d_v]) : 0;
        }
}

/* All threads: keys of the open chunk's `n` tokens before this call. They are there after copy_wait and a barrier. */
template <bool IS_USUAL>
static __device__ __forceinline__ void load_keys(const struct scan &p, const struct slot &s, int32_t n, struct room *room)
{
    if (IS_USUAL) {
        for (int32_t i = threadIdx.x; i < n * 2 * UNITS; i += WARPS * LANES) {
            const int32_t row = i / (2 * UNITS), limb = i / UNITS % 2, unit = i % UNITS;
            copy_async(unit_of(room->keys[limb][row], row, unit), s.keys + (int64_t)i * 8, true);
        }
        copy_commit();
    } else {
        for (int32_t i = threadIdx.x; i < n * 2 * D_MAX; i += WARPS * LANES) {
            const int32_t row = i / (2 * D_MAX), limb = i / D_MAX % 2, d = i % D_MAX;
            unit_of(room->keys[limb][row], row, d >> 3)[d & 7] =
                d < p.d_k ? s.keys[(row * 2 + limb) * (int64_t)p.d_k + d] : (uint16_t)0;
        }
    }
}

static __device__ __forceinline__ void store_keys(const struct scan &p, const struct slot &s, int32_t from, int32_t to,
                                                  struct room *room)
{
    const int32_t half = p.d_k;
    for (int32_t i = threadIdx.x + from * 2 * half; i < to * 2 * half; i += WARPS * LANES) {
        const int32_t row = i / (2 * half), limb = i / half % 2, d = i % half;
        s.keys[i] = unit_of(room->keys[limb][row], row, d >> 3)[d & 7];
    }
}

/*
 * One thread of a block that has read keys and decays of the chunk that a sequence comes with, and whose sequence leaves
 * another chunk open: the last block to have read may write the others' places, and sets the count to 0 again.
 */
static __device__ __forceinline__ bool claim(int32_t *count, int32_t n_readers)
{
    const bool is_last = count_up(count) == n_readers;
    if (is_last)
        *count = 0;
    return is_last;
}

/* ---- a block of tokens --------------------------------------------------------------------------------------------------- */

/* A warp: c, e^c and beta of the tokens; before them c of the `n_past` tokens that a call finds in the open chunk. */
static __device__ __forceinline__ void load_gates(const struct scan &p, const struct slot &s, const struct span &sp,
                                                  int32_t head, int32_t n_past, struct room *room)
{
    const int32_t lane = threadIdx.x % LANES, from = sp.from % BLOCK, n = sp.to - sp.from, i = lane - from;
    const bool is_in = i >= 0 && i < n;
    float alpha = 0, b = 0, dt = 0, a = 0;
    if (is_in) {
        alpha = cuda_row(p.alpha, sp.row + i)[head], b = cuda_row(p.b, sp.row + i)[head];
        dt = p.dt[head], a = p.a[head];
    }
    if (n_past > 0) {
        const float c0 = lane < n_past ? s.c[lane] : 0.0f, c1 = lane + LANES < n_past ? s.c[lane + LANES] : 0.0f;
        room->c[lane] = c0;
        room->c[lane + LANES] = c1;
        __syncwarp();
    }
    const float g = a * cuda_softplus(alpha + dt);
    float c = sp.from ? room->c[sp.from - 1] : 0.0f, mine = 0;
    for (int32_t j = 0; j < n; j++) {
        c += shuffle(g, from + j);
        mine = i == j ? c : mine;
    }
    __syncwarp();
    if (is_in)
        room->c[sp.from + i] = mine;
    if (lane < BLOCK) {
        room->beta[lane] = is_in ? cuda_sigmoid(b) : lane < from ? 1.0f : 0.0f;
        room->decay[lane] = is_in ? expf(mine) : 0.0f;
    }
}

/* All threads: keys, queries and gates of the tokens. */
static __device__ __forceinline__ void load_block(const struct scan &p, const struct slot &s, const struct span &sp,
                                                  int32_t head, int32_t n_past, struct room *room)
{
    /* a warp has the keys or the queries of every other token, a lane four elements */
    constexpr int N = BLOCK / 2;
    const int32_t lane = threadIdx.x % LANES, warp = threadIdx.x / LANES, is_key = warp & 1, first = warp >> 1,
                  n = sp.to - sp.from, d = 4 * lane;
    const float *from = cuda_row(p.qkv, sp.row + first) + (is_key * p.n_k + head % p.n_k) * p.d_k + d;
    const int64_t step = 2 * p.qkv.stride;
    float4 raw[N];
    if (p.is_wide) { /* without branches: all loads are on their way together */
#pragma unroll
        for (int e = 0; e < N; e++) {
            raw[e] = make_float4(0, 0, 0, 0);
            if (first + 2 * e < n && d < p.d_k)
                raw[e] = *reinterpret_cast<const float4 *>(from + e * step);
        }
    } else {
#pragma unroll
        for (int e = 0; e < N; e++) {
            const float *at = from + e * step;
            const int32_t left = first + 2 * e < n ? p.d_k - d : 0;
            raw[e] =
                make_float4(left > 0 ? at[0] : 0.0f, left > 1 ? at[1] : 0.0f, left > 2 ? at[2] : 0.0f, left > 3 ? at[3] : 0.0f);
        }
    }
    if (warp == WARPS - 1)
        load_gates(p, s, sp, head, n_past, room);
    uint16_t *rows = is_key ? room->keys[0][sp.from + first] : room->queries[0][sp.from % BLOCK + first];
    const int32_t to_lo = is_key ? CHUNK * D_MAX : BLOCK * D_MAX;
#pragma unroll
    for (int e = 0; e < N; e++) {
        uint2 hi, lo;
        if (first + 2 * e >= n)
            break;
        split(raw[e].x * SHARED_SCALE, raw[e].y * SHARED_SCALE, &hi.x, &lo.x);
        split(raw[e].z * SHARED_SCALE, raw[e].w * SHARED_SCALE, &hi.y, &lo.y);
        uint2 *to = quarter_of(rows + 2 * e * D_MAX, sp.from + first + 2 * e, d);
        to[0] = hi;
        to[to_lo / 4] = lo;
    }
}

/* The groups of eight tokens that have some of the span. */
static __device__ __forceinline__ int32_t first_group(const struct span &sp)
{
    return sp.from % BLOCK / GROUP;
}

static __device__ __forceinline__ int32_t last_group(const struct span &sp)
{
    return (sp.to - 1) % BLOCK / GROUP;
}

/*
 * Warp: T and Q of group h of the block's tokens against the 16 of block `against`, by products of eight keys and eight
 * queries, as rows of A, with keys; 0 where a token is not of the span or not after j.
 */
template <bool IS_USUAL>
static __device__ __forceinline__ void relate(const struct scan &p, const struct span &sp, int32_t h, int32_t against,
                                              struct room *room)
{
    const int32_t lane = opaque(threadIdx.x) & (LANES - 1), g = lane / 4, t = lane % 4, row = lane % 8;
    float main[2][4] = {}, small[2][4] = {};
    uint16_t *rows = lane / 8 % 2 ? room->queries[0][GROUP * h + row] : room->keys[0][BLOCK * sp.block + GROUP * h + row];
    const int32_t to_lo = lane / 8 % 2 ? BLOCK * D_MAX : CHUNK * D_MAX;
#pragma unroll 4
    for (int ks = 0; ks < STEPS; ks++) {
        uint32_t hi[4], lo[4], b[4];
        if (!IS_USUAL && 16 * ks >= p.d_k)
            break;
        load_matrix(hi, unit_of(rows, row, 2 * ks + lane / 16));
        load_matrix(lo, unit_of(rows + to_lo, row, 2 * ks + lane / 16));
        for (int n = 0; n < 2; n++) {
            load_tokens(b, room->keys[0][0], CHUNK * D_MAX, BLOCK * against + GROUP * n, ks, lane);
            multiply(main[n], small[n], hi, lo, b);
        }
    }
    const int32_t i = GROUP * h + g, place = BLOCK * sp.block + i;
    const bool is_in = place >= sp.from && place < sp.to;
    for (int n = 0; n < 2; n++)
        for (int which = 0; which < 2; which++) {
            float v[2];
            for (int e = 0; e < 2; e++) {
                const int32_t j = BLOCK * against + GROUP * n + 2 * t + e;
                const float dot = (main[n][2 * which + e] + small[n][2 * which + e]) * (1.0f / (SHARED_SCALE * SHARED_SCALE));
                const bool counts = is_in && j <= place - (which == 0);
                const float decay = expf(counts ? room->c[place] - room->c[j] : 0.0f);
                v[e] = counts ? dot * decay : 0.0f;
            }
            const int32_t j = GROUP * n + 2 * t;
            if (against == sp.block) {
                room->near[which][j][i] = v[0];
                room->near[which][j + 1][i] = v[1];
                continue;
            }
            uint32_t hi, lo;
            split(v[0] * SHARED_SCALE, v[1] * SHARED_SCALE, &hi, &lo);
            *reinterpret_cast<uint32_t *>(&room->far[which][0][i][BLOCK * against + j]) = hi;
            *reinterpret_cast<uint32_t *>(&room->far[which][1][i][BLOCK * against + j]) = lo;
        }
}

/* Warp: its columns through a block's tokens. x [group][C of an mma]: v, then what is left of it, then u; o the outputs. */
template <bool IS_USUAL>
static __device__ __forceinline__ void solve(const struct scan &p, const struct slot &s, const struct span &sp, int32_t head,
                                             int32_t column0, const struct state &st, struct update *up, bool is_open,
                                             struct room *room)
{
    const int32_t lane = opaque(threadIdx.x) & (LANES - 1), g = lane / 4, t = lane % 4, h0 = first_group(sp),
                  h1 = last_group(sp);
    const float *values = p.qkv.data + 2 * (int64_t)p.n_k * p.d_k + (int64_t)head * p.d_v;
    float x[2][4], o[2][4] = {}, beta[2][2];
#pragma unroll
    for (int h = 0; h < 2; h++)
        for (int r = 0; r < 4; r++) {
            const int32_t place = BLOCK * sp.block + GROUP * h + 2 * t + (r & 1), column = column0 + g + 8 * (r >> 1);
            const float *from = values + (sp.row + place - sp.from) * p.qkv.stride;
            from = place < sp.from ? s.u + (int64_t)place * p.d_v : from;
            x[h][r] = place < sp.to && column < p.d_v ? from[column] : 0.0f;
            beta[h][r & 1] = room->beta[place % BLOCK];
        }

#pragma unroll
    for (int h = 0; h < 2; h++) {
        if (h < h0 || h > h1)
            continue;
        float main[2][4] = {}, small[2][4] = {};
#pragma unroll
        for (int ks = 0; ks < STEPS; ks++) {
            uint32_t b[4];
            if (!IS_USUAL && 16 * ks >= p.d_k)
                break;
            load_tokens(b, room->keys[0][0], CHUNK * D_MAX, BLOCK * sp.block + GROUP * h, ks, lane);
            multiply(main[0], small[0], st.hi[ks], st.lo[ks], b);
            load_tokens(b, room->queries[0][0], BLOCK * D_MAX, GROUP * h, ks, lane);
            multiply(main[1], small[1], st.hi[ks], st.lo[ks], b);
        }
        for (int r = 0; r < 4; r++) {
            const float f = room->decay[GROUP * h + 2 * t + (r & 1)] * (st.unit[r >> 1] * (1.0f / SHARED_SCALE));
            x[h][r] = fmaf(-f, main[0][r] + small[0][r], x[h][r]);
            o[h][r] = f * (main[1][r] + small[1][r]);
        }
#pragma unroll
        for (int n = 0; n + 1 < BLOCKS; n++) {
            if (n >= sp.block)
                break;
            for (int which = 0; which < 2; which++) {
                float sum[4] = {}, rest[4] = {};
                uint32_t b[4];
                load_matrix(b, &room->far[which][lane / 16][GROUP * h + lane % 8][BLOCK * n + 8 * (lane / 8 % 2)]);
                multiply(sum, rest, up->hi[n], up->lo[n], b);
                for (int r = 0; r < 4; r++) {
                    const float part = (sum[r] + rest[r]) * (1.0f / SHARED_SCALE);
                    if (which == 0)
                        x[h][r] = fmaf(-up->unit[n][r >> 1], part, x[h][r]);
                    else
                        o[h][r] = fmaf(up->unit[n][r >> 1], part, o[h][r]);
                }
            }
        }
    }

#pragma unroll
    for (int j = 0; j < BLOCK; j++) {
        if (j > (sp.to - 1) % BLOCK)
            break;
        const int jh = j / GROUP, owner = (lane & ~3) + j % GROUP / 2;
        const float u0 = shuffle(beta[jh][j & 1] * x[jh][j & 1], owner),
                    u1 = shuffle(beta[jh][j & 1] * x[jh][2 + (j & 1)], owner);
        for (int h = jh; h < 2; h++) {
            if (h < h0 || h > h1)
                continue;
            const float2 T = *reinterpret_cast<const float2 *>(&room->near[0][j][GROUP * h + 2 * t]);
            const float2 Q = *reinterpret_cast<const float2 *>(&room->near[1][j][GROUP * h + 2 * t]);
            x[h][0] = fmaf(-T.x, u0, x[h][0]), x[h][1] = fmaf(-T.y, u0, x[h][1]);
            x[h][2] = fmaf(-T.x, u1, x[h][2]), x[h][3] = fmaf(-T.y, u1, x[h][3]);
            o[h][0] = fmaf(Q.x, u0, o[h][0]), o[h][1] = fmaf(Q.y, u0, o[h][1]);
            o[h][2] = fmaf(Q.x, u1, o[h][2]), o[h][3] = fmaf(Q.y, u1, o[h][3]);
        }
    }

#pragma unroll
    for (int h = 0; h < 2; h++)
        for (int r = 0; r < 4; r++) {
            const int32_t place = BLOCK * sp.block + GROUP * h + 2 * t + (r & 1), column = column0 + g + 8 * (r >> 1);
            x[h][r] *= beta[h][r & 1];
            if (place < sp.from || place >= sp.to || column >= p.d_v)
                continue;
            cuda_row(p.y, sp.row + place - sp.from)[(int64_t)head * p.d_v + column] = o[h][r];
            if (is_open)
                s.u[(int64_t)place * p.d_v + column] = x[h][r];
        }
    if (sp.to % BLOCK != 0)
        return;
#pragma unroll
    for (int n = 0; n < BLOCKS; n++) { /* registers have no index */
        if (n != sp.block)
            continue;
        for (int r = 0; r < 4; r++) {
            up->hi[n][r] = bits_of(x[r >> 1][2 * (r & 1)]);
            up->lo[n][r] = bits_of(x[r >> 1][2 * (r & 1) + 1]);
        }
        split_rows<1>(&up->hi[n], &up->lo[n], up->unit[n]);
    }
}

/* Warp: the chunk is full, S takes it in. */
static __device__ __forceinline__ void cross_border(const struct scan &p, struct state *st, struct update *up,
                                                    struct room *room)
{
    const int32_t lane = opaque(threadIdx.x) & (LANES - 1), t = lane % 4;
    float unit[2];
#pragma unroll
    for (int n = 0; n < BLOCKS; n++)
        for (int r = 0; r < 4; r++) {
            const float2 u = join(up->hi[n][r], up->lo[n][r]),
                         w = *reinterpret_cast<const float2 *>(&room->border[BLOCK * n + 2 * t + 8 * (r >> 1)]);
            up->hi[n][r] = bits_of(u.x * (up->unit[n][r & 1] * w.x));
            up->lo[n][r] = bits_of(u.y * (up->unit[n][r & 1] * w.y));
        }
    split_rows<BLOCKS>(up->hi, up->lo, unit);
    const float decay = expf(room->c[CHUNK - 1]);
    for (int i = 0; i < 2; i++) {
        st->unit[i] *= decay;
        unit[i] *= 1.0f / SHARED_SCALE;
    }
    uint16_t *keys = room->keys[lane / 16][lane % 16];
#pragma unroll
    for (int ks = 0; ks < STEPS; ks++) {
        if (16 * ks >= p.d_k) /* a branch also keeps the products of one step apart from the next's: registers */
            break;
        float main[2][4] = {}, small[2][4] = {};
#pragma unroll
        for (int n = 0; n < BLOCKS; n++)
            for (int half = 0; half < 2; half++) {
                uint32_t b[4];
                load_matrix_transposed(b, unit_of(keys + n * BLOCK * D_MAX, lane, 2 * ks + half));
                multiply(main[half], small[half], up->hi[n], up->lo[n], b);
            }
        for (int r = 0; r < 4; r++) {
            const float2 old = join(st->hi[ks][r], st->lo[ks][r]);
            const int half = r >> 1, at = 2 * (r & 1);
            st->hi[ks][r] = bits_of(fmaf(old.x, st->unit[r & 1], (main[half][at] + small[half][at]) * unit[r & 1]));
            st->lo[ks][r] = bits_of(fmaf(old.y, st->unit[r & 1], (main[half][at + 1] + small[half][at + 1]) * unit[r & 1]));
        }
    }
    split_rows<STEPS>(st->hi, st->lo, st->unit);
}

/* ---- the kernel ---------------------------------------------------------------------------------------------------------- */

template <bool IS_USUAL> static __global__ void __launch_bounds__(WARPS *LANES) gdn_scan_kernel(const struct scan p)
{
    struct room *room = shared_memory<struct room>();
    if ((int32_t)blockIdx.z >= p.step->n_seqs)
        return;
    const struct kn_seq seq = p.step->seqs[blockIdx.z];
    if (seq.n_rows == 0)
        return;
    const int32_t warp = threadIdx.x / LANES, head = blockIdx.y, column0 = (blockIdx.x * WARPS + warp) * COLUMNS;
    const int32_t past = seq.past % CHUNK,
                  open = (past + seq.n_rows) % CHUNK; /* tokens of the chunk it comes with; and leaves */
    const bool has_columns = column0 < p.d_v, crosses = past + seq.n_rows >= CHUNK;
    const struct slot s = slot_of(p, seq, head);
    struct state st;
    struct update up;
    load_keys<IS_USUAL>(p, s, past, room);
    if (has_columns) {
        load_state<IS_USUAL>(p, s, column0, &st);
        load_updates(p, s, column0, past / BLOCK, &up);
    }
    const bool must_claim = past > 0 && crosses && open > 0;
    if (threadIdx.x == 0) {
        room->is_writer[0] = !must_claim && blockIdx.x == 0 && head < p.n_k;
        room->is_writer[1] = !must_claim && blockIdx.x == 0;
    }

    bool is_first = true;
    struct span sp = {past / BLOCK, past, 0, seq.row0};
    for (const int32_t end_row = seq.row0 + seq.n_rows; sp.row < end_row;) {
        const bool is_open = sp.row + CHUNK - sp.from > end_row; /* the chunk stays open */
        sp.to = min(BLOCK * (sp.block + 1), sp.from + end_row - sp.row);
        load_block(p, s, sp, head, is_first ? past : 0, room);
        copy_wait<0>();
        __syncthreads();

        if (is_first && must_claim && threadIdx.x == 0) {
            room->is_writer[0] =
                claim(reinterpret_cast<int32_t *>(s.keys + (CHUNK - 1) * 2 * (int64_t)p.d_k), gridDim.x * (p.n_v / p.n_k));
            room->is_writer[1] = claim(reinterpret_cast<int32_t *>(s.c + CHUNK - 1), gridDim.x);
        }
        const int32_t h0 = first_group(sp), two = last_group(sp) - h0; /* two groups: 1 */
        for (int32_t i = warp; i < (sp.block + 1) << two; i += WARPS)
            relate<IS_USUAL>(p, sp, h0 + (i & two), i >> two, room);
        if (sp.to == CHUNK && threadIdx.x < CHUNK)
            room->border[threadIdx.x] = expf(room->c[CHUNK - 1] - room->c[threadIdx.x]);
        __syncthreads();

        if (has_columns) {
#pragma unroll
            for (int n = 0; n + 1 < BLOCKS; n++)
                if (is_first && n < sp.block)
                    split_rows<1>(&up.hi[n], &up.lo[n], up.unit[n]);
            solve<IS_USUAL>(p, s, sp, head, column0, st, &up, is_open, room);
            if (sp.to == CHUNK)
                cross_border(p, &st, &up, room);
        }
        __syncthreads();
        is_first = false;
        sp.row += sp.to - sp.from;
        sp.from = sp.to % CHUNK;
        sp.block = sp.from / BLOCK;
    }

    if (has_columns && crosses)
        store_state<IS_USUAL>(p, s, column0, st);
    const int32_t from = crosses ? 0 : past;
    if (room->is_writer[0])
        store_keys(p, s, from, open, room);
    if (room->is_writer[1] && (int32_t)threadIdx.x >= from && (int32_t)threadIdx.x < open)
        s.c[threadIdx.x] = room->c[threadIdx.x];
    if (!p.counts)
        return;
    __syncthreads();
    if (threadIdx.x == 0)
        room->is_writer[0] = claim(&p.counts[blockIdx.z * p.n_v + head], gridDim.x);
    __syncthreads();
    if (!room->is_writer[0])
        return;
    for (int32_t i = warp; i < seq.n_rows; i += WARPS) {
        float *const y = cuda_row(p.y, seq.row0 + i) + (int64_t)head * p.d_v;
        gated_norm_head<true>(y, cuda_row(p.z, seq.row0 + i) + (int64_t)head * p.d_v, p.norm, p.d_v, p.eps, y);
    }
}

void cuda_gdn_scan(struct kn_stream *stream, const struct kn_gdn_scan_args *a)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    if (a->d_k > D_MAX) {
        cuda_fail(s, "gdn_scan", ERR_INVAL, "key heads of %d: at most %d", a->d_k, D_MAX);
        return;
    }
    struct scan p = {
        a->step, a->qkv, a->b,   a->alpha, a->y, a->a, a->dt, static_cast<uint8_t *>(a->state->data), a->state->bytes_per_slot,
        a->n_k,  a->n_v, a->d_k, a->d_v,   false};
    const int32_t seqs = min(a->qkv.rows, s->base.limits.seqs);
    /* of a few rows the norm is done in passing */
    const bool is_normed_here = a->z.data && a->qkv.rows <= NORM_ROWS && seqs * a->n_v <= CUDA_COUNTS;
    if (is_normed_here)
        p.z = a->z, p.norm = a->norm, p.eps = a->eps, p.counts = s->counts;
    p.is_wide = (uintptr_t)a->qkv.data % 16 == 0 && a->qkv.stride % 4 == 0 && a->d_k % 4 == 0;
    const bool is_usual =
        a->d_k == D_MAX && a->d_v % COLUMNS == 0 && (uintptr_t)a->state->data % 16 == 0 && a->state->bytes_per_slot % 16 == 0;
    const dim3 grid((unsigned)((a->d_v + WARPS * COLUMNS - 1) / (WARPS * COLUMNS)), (unsigned)a->n_v, (unsigned)seqs);
    cuda_launch(s, "gdn_scan", is_usual ? gdn_scan_kernel<true> : gdn_scan_kernel<false>, grid, WARPS * LANES,
                sizeof(struct room), p);
    if (a->z.data && !is_normed_here)
        cuda_gated_norm(s, "gdn_scan", &a->y, &a->z, a->norm, a->n_v, a->eps, &a->y);
}

size_t cuda_gdn_scratch(const struct cuda_device *d, const struct kn_limits *l)
{
    return 0;
}
