/*
 * attn - causal attention over the paged KV cache.
 *
 * The rows of a sequence are its tokens times the query heads of one KV head, one after the other; a tile is 16 or 128 of them,
 * so that one token fills a tile of tensor-core height where 8 or 16 heads share their keys, and keys are read once for all.
 * Keys are cut into segments at absolute positions. In a segment softmax runs over blocks of 32 keys in order (attn.cuh); the
 * segments' sums are merged in order. Whether one block of threads walks over all segments and merges as it goes (many rows;
 * the merged sums wait in y), or several take a segment each and leave it in scratch for another launch to merge (few rows,
 * many keys), is the same arithmetic for a row.
 *
 * Few rows: 16 of them, four warps share the 64 keys of a page for the scores and the columns of the values for the sums;
 * softmax is done by each for itself. Bound by memory: pages of keys and of values are on their way by turns. Many rows: a warp
 * has 16 of 128 rows to itself, 32 keys at a time, which leaves as much arithmetic per byte as shared memory allows.
 *
 * F16 and Q8_0 caches go through tensor cores: F16 is exact there, q and the weights are rounded to 11 bits. Q8_0 is turned
 * into halves, which rounds the product of code and scale to 11 bits too; a scale per 32 columns applied after the product
 * would need a sum of its own for every 32 columns, for rounding that is no more than q's. With heads of normal values the
 * normalised mean squared error is below 1e-7 with F16, 2e-7 with Q8_0 (whose own rounding is 2e-5), and grows with the square
 * of the scores. F32 caches, which are there for exactness, go through f32, and so does an F16 cache whose heads are no
 * multiple of 8.
 */
#include "kernels/cuda/attn.cuh"

#define FEW_TOKENS   8
#define FEW_ROWS     16
#define FEW_WARPS    4
#define FEW_THREADS  (FEW_WARPS * LANES)
#define FEW_PITCH    72 /* floats of a row of scores: lanes' pairs lie in all banks */
#define MANY_ROWS    128
#define MANY_THREADS (MANY_ROWS / 16 * LANES)
#define BLOCK_KEYS   32
#define PARTS_BYTES  ((size_t)64 << 20) /* of segments that wait to be merged */
#define MERGE_AHEAD  16

/* ---- segments ------------------------------------------------------------------------------------------------------------ */

/*
 * Short ones at the beginning, where few keys must keep many processors busy; long ones later, where there are enough of them
 * and merging costs.
 */
#define SHORT_KEYS 256
#define SHORT_END  4096
#define MID_KEYS   512
#define MID_END    16384
#define LONG_KEYS  1024
#define N_SHORT    (SHORT_END / SHORT_KEYS)
#define N_MID      ((MID_END - SHORT_END) / MID_KEYS)

static __host__ __device__ __forceinline__ int32_t segment_first(int32_t i)
{
    if (i < N_SHORT)
        return i * SHORT_KEYS;
    i -= N_SHORT;
    return i < N_MID ? SHORT_END + i * MID_KEYS : MID_END + (i - N_MID) * LONG_KEYS;
}

/* That n keys have. */
static __host__ __device__ __forceinline__ int32_t segment_count(int32_t n)
{
    if (n <= SHORT_END)
        return (n + SHORT_KEYS - 1) / SHORT_KEYS;
    if (n <= MID_END)
        return N_SHORT + (n - SHORT_END + MID_KEYS - 1) / MID_KEYS;
    return N_SHORT + N_MID + (n - MID_END + LONG_KEYS - 1) / LONG_KEYS;
}

/* ---- tiles --------------------------------------------------------------------------------------------------------------- */

struct attn {
    const struct kn_step *step;
    struct kn_mat q, gate, y;
    struct kn_kv kv;
    int32_t per; /* query heads of a KV head */
    int32_t tile_rows;
    int32_t pitch; /* floats of a row in parts */
    float scale;   /* of queries: with log2(e) */
    bool is_wide;  /* 16 bytes at a time, in q, gate and y */
    float *parts;  /* segments' sums: [segment of a tile][KV head], each [tile_rows][pitch], then [tile_rows] of max and sum */
    int64_t n_parts; /* so many segments of tiles fit; 0: segments are not spread over blocks */
};

struct tile {
    struct kn_seq seq;
    int32_t row0;       /* its first row in the sequence */
    int32_t end;        /* keys that its last row sees */
    int32_t n_segments; /* of them */
    int64_t part;       /* its first one's place in parts */
    bool is_spread;
};

static __device__ __forceinline__ int32_t tiles_of(const struct attn &a, const struct kn_seq &seq)
{
    return (seq.n_rows * a.per + a.tile_rows - 1) / a.tile_rows;
}

/* Of a sequence: tiles times segments, where there is anything to merge. */
static __device__ __forceinline__ int64_t parts_of(const struct attn &a, const struct kn_seq &seq)
{
    const int32_t n = segment_count(seq.past + seq.n_rows);
    return n > 1 ? (int64_t)tiles_of(a, seq) * n : 0;
}

/* Tile `at` of the step. Those that see most of a sequence come first, since they take longest. false: there are fewer. */
static __device__ bool find_tile(const struct attn &a, int32_t at, struct tile *t)
{
    int64_t parts = 0;
    int32_t before = 0, found = -1;
    for (int32_t i = 0; i < a.step->n_seqs; i++) {
        const struct kn_seq seq = a.step->seqs[i];
        const int32_t n = tiles_of(a, seq), back = n - 1 - (at - before);
        if (at >= before && back >= 0) {
            t->seq = seq;
            t->part = parts + (int64_t)back * segment_count(seq.past + seq.n_rows);
            found = back;
        }
        before += n;
        parts += parts_of(a, seq);
    }
    if (found < 0)
        return false;
    t->row0 = found * a.tile_rows;
    t->end = t->seq.past + (min(t->row0 + a.tile_rows, t->seq.n_rows * a.per) - 1) / a.per + 1;
    t->n_segments = segment_count(t->end);
    t->is_spread = parts <= a.n_parts && parts_of(a, t->seq) > 0;
    return true;
}

/* Keys that row `row` of the tile sees; 0: there is no such row. */
static __device__ __forceinline__ int32_t row_end(const struct attn &a, const struct tile &t, int32_t row)
{
    return t.row0 + row < t.seq.n_rows * a.per ? t.seq.past + (t.row0 + row) / a.per + 1 : 0;
}

static __device__ __forceinline__ int32_t row_token(const struct attn &a, const struct tile &t, int32_t row)
{
    return t.seq.row0 + (t.row0 + row) / a.per;
}

static __device__ __forceinline__ int32_t row_head(const struct attn &a, const struct tile &t, int32_t g, int32_t row)
{
    return g * a.per + (t.row0 + row) % a.per;
}

/* The walk of a block of threads over its segments' keys, N at a time. Over: segment is n_segments or more. */
struct walk {
    int32_t segment, key, end; /* the segment ends at `end` */
    int32_t page;              /* of key, for whoever comes there next: asked for one step ahead */
};

static __device__ __forceinline__ void walk_enter(const struct attn &a, const struct tile &t, struct walk *w)
{
    if (w->segment >= t.n_segments)
        return;
    w->key = segment_first(w->segment);
    w->end = min(segment_first(w->segment + 1), t.end);
    w->page = a.step->pages[t.seq.page0 + w->key / KN_PAGE_TOKENS];
}

static __device__ __forceinline__ struct walk walk_begin(const struct attn &a, const struct tile &t)
{
    struct walk w = {(int32_t)blockIdx.z, 0, 0, 0};
    if (!t.is_spread && w.segment > 0)
        w.segment = t.n_segments;
    walk_enter(a, t, &w);
    return w;
}

template <int N>
static __device__ __forceinline__ struct walk walk_next(const struct attn &a, const struct tile &t, struct walk w)
{
    w.key += N;
    if (w.key < w.end) {
        w.page = a.step->pages[t.seq.page0 + w.key / KN_PAGE_TOKENS];
        return w;
    }
    w.segment += t.is_spread ? (int32_t)gridDim.z : 1;
    walk_enter(a, t, &w);
    return w;
}

/* ---- merging ------------------------------------------------------------------------------------------------------------- */

/* What a row makes of its segments so far, and by how much that and the next one's sums count. */
struct total {
    float max, sum, keep, add;
};

static __device__ __forceinline__ void merge(struct total *t, float max, float sum, bool is_first)
{
    if (is_first) {
        *t = {max, sum, 0, 1};
        return;
    }
    const float top = fmaxf(t->max, max);
    t->keep = exp2f(t->max - top);
    t->add = exp2f(max - top);
    t->sum = fmaf(sum, t->add, mul_once(t->sum, t->keep));
    t->max = top;
}

static __device__ __forceinline__ float merged(const struct total &t, float before, float o, bool is_first)
{
    return is_first ? o : fmaf(o, t.add, mul_once(before, t.keep));
}

static __device__ __forceinline__ float finished(float v, float inverse, float gate, bool is_gated)
{
    v = mul_once(v, inverse);
    return is_gated ? mul_once(v, cuda_sigmoid(gate)) : v;
}

static __device__ __forceinline__ float *part_of(const struct attn &a, const struct tile &t, int32_t g, int32_t segment)
{
    return a.parts + ((t.part + segment) * a.kv.n_heads + g) * a.tile_rows * (a.pitch + 2);
}

static __device__ __forceinline__ float2 load_pair(const float *p, bool is_wide)
{
    return is_wide ? *reinterpret_cast<const float2 *>(p) : make_float2(p[0], p[1]);
}

static __device__ __forceinline__ void store_pair(float *p, float2 v, bool is_wide)
{
    if (is_wide)
        *reinterpret_cast<float2 *>(p) = v;
    else
        p[0] = v.x, p[1] = v.y;
}

/*
 * A lane's part of a row of y, whose segments are all merged: pairs 8 columns apart, as far as there are n. By way of y, so
 * that no register need be named and this is short.
 */
template <int N>
static __device__ __forceinline__ void finish_row(const struct attn &a, float *y, const float *gate, float inverse, int32_t n)
{
#pragma unroll 4
    for (int32_t i = 0; i < 8 * N && i < n; i += 8) {
        const float2 v = load_pair(y + i, a.is_wide), u = gate ? load_pair(gate + i, a.is_wide) : make_float2(0, 0);
        store_pair(y + i, make_float2(finished(v.x, inverse, u.x, gate), finished(v.y, inverse, u.y, gate)), a.is_wide);
    }
}

/*
 * Warp: the end of a segment for its 16 rows, from row `row` of the tile on, and columns from col0 on; end[] are its lanes'
 * rows'. State and sums begin anew.
 */
template <int N>
static __device__ __forceinline__ void end_segment(const struct attn &a, const struct tile &t, int32_t g, int32_t segment,
                                                   int32_t row, const int32_t end[2], int col0, float o[N][4],
                                                   struct attn_rows *r, struct total total[2])
{
    const int32_t lane = (int32_t)threadIdx.x % LANES, D = a.kv.head_dim;
    const bool is_first = segment == 0;
    gather_sums(r);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int32_t mine = row + lane / 4 + 8 * h, last = segment_count(end[h]) - 1, col = col0 + lane % 4 * 2;
        if (segment > last) /* saw nothing of it, or is no row */
            continue;
        if (t.is_spread) {
            float *part = part_of(a, t, g, segment), *to = part + mine * a.pitch + col;
#pragma unroll
            for (int n = 0; n < N; n++)
                store_pair(to + 8 * n, make_float2(o[n][2 * h], o[n][2 * h + 1]), true);
            if (col == 0)
                store_pair(part + a.tile_rows * a.pitch + 2 * mine, make_float2(r->max[h], r->sum[h]), true);
            continue;
        }
        merge(&total[h], r->max[h], r->sum[h], is_first);
        const int32_t token = row_token(a, t, mine), head = row_head(a, t, g, mine);
        float *y = cuda_row(a.y, token) + head * D + col;
#pragma unroll
        for (int n = 0; n < N; n++) {
            if (col + 8 * n >= D)
                break;
            const float2 before = is_first ? make_float2(0, 0) : load_pair(y + 8 * n, a.is_wide);
            store_pair(y + 8 * n,
                       make_float2(merged(total[h], before.x, o[n][2 * h], is_first),
                                   merged(total[h], before.y, o[n][2 * h + 1], is_first)),
                       a.is_wide);
        }
        if (segment == last)
            finish_row<N>(a, y, a.gate.data ? cuda_row(a.gate, token) + (2 * head + 1) * D + col : NULL, 1.0f / total[h].sum,
                          D - col);
    }
    __syncwarp();
    *r = attn_rows_none();
#pragma unroll
    for (int n = 0; n < N; n++)
        for (int e = 0; e < 4; e++)
            o[n][e] = 0;
}

/* The segments that were spread, merged. Grid (rows, heads), a thread a column. */
static __global__ void attn_merge_kernel(const struct attn a)
{
    const int32_t token = (int32_t)blockIdx.x, head = (int32_t)blockIdx.y, D = a.kv.head_dim, d = (int32_t)threadIdx.x;
    const int32_t mine = a.step->seq_of_row[token];
    struct tile t = {.seq = a.step->seqs[mine]};
    int64_t parts = 0;
    for (int32_t i = 0; i < a.step->n_seqs; i++) {
        t.part = i == mine ? parts : t.part;
        parts += parts_of(a, a.step->seqs[i]);
    }
    if (parts > a.n_parts || parts_of(a, t.seq) == 0 || d >= D) /* done as it went */
        return;
    const int32_t i = token - t.seq.row0, row = i * a.per + head % a.per, n = segment_count(t.seq.past + i + 1);
    t.part += (int64_t)(row / a.tile_rows) * segment_count(t.seq.past + t.seq.n_rows);
    const int32_t in_tile = row % a.tile_rows;
    const float *part = part_of(a, t, head / a.per, 0);
    const int64_t skip = (int64_t)a.kv.n_heads * a.tile_rows * (a.pitch + 2);
    struct total total = {};
    float v = 0;
    for (int32_t s = 0; s < n; s += MERGE_AHEAD) {
        float o[MERGE_AHEAD];
        float2 known[MERGE_AHEAD];
#pragma unroll
        for (int k = 0; k < MERGE_AHEAD; k++) {
            const float *from = part + min(s + k, n - 1) * skip;
            o[k] = from[in_tile * a.pitch + d];
            known[k] = load_pair(from + a.tile_rows * a.pitch + 2 * in_tile, true);
        }
#pragma unroll
        for (int k = 0; k < MERGE_AHEAD; k++)
            if (s + k < n) {
                merge(&total, known[k].x, known[k].y, s + k == 0);
                v = merged(total, v, o[k], s + k == 0);
            }
    }
    const bool is_gated = a.gate.data != NULL;
    const float gate = is_gated ? cuda_row(a.gate, token)[(2 * head + 1) * D + d] : 0;
    cuda_row(a.y, token)[head * D + d] = finished(v, 1.0f / total.sum, gate, is_gated);
}

/* ---- queries, keys and values in shared memory --------------------------------------------------------------------------- */

/* Block: the tile's queries as halves; rows and columns that are not there are 0. */
template <int DP, int ROWS, int THREADS>
static __device__ __forceinline__ void put_queries(const struct attn &a, const struct tile &t, int32_t g, uint16_t *q)
{
    const int32_t D = a.kv.head_dim;
    for (int32_t i = (int32_t)threadIdx.x; i < ROWS * (DP / 8); i += THREADS) {
        const int32_t row = i / (DP / 8), col = i % (DP / 8) * 8;
        float x[8] = {};
        if (row_end(a, t, row) > 0 && col < D) {
            const float *from = cuda_row(a.q, row_token(a, t, row)) + row_head(a, t, g, row) * D + col;
            if (a.is_wide) {
                const float4 lo = *reinterpret_cast<const float4 *>(from), hi = *reinterpret_cast<const float4 *>(from + 4);
                x[0] = lo.x, x[1] = lo.y, x[2] = lo.z, x[3] = lo.w, x[4] = hi.x, x[5] = hi.y, x[6] = hi.z, x[7] = hi.w;
            } else {
                for (int e = 0; e < 8; e++)
                    x[e] = from[e];
            }
        }
        uint32_t v[4];
        for (int e = 0; e < 4; e++)
            v[e] = pack_f16(x[2 * e] * a.scale, x[2 * e + 1] * a.scale);
        *reinterpret_cast<uint4 *>(half_at<DP>(q, row, col & ~15, col & 8)) = make_uint4(v[0], v[1], v[2], v[3]);
    }
}

/* Block: n rows of Q8_0 blocks as halves, up to ROWS of them zeros. A thread takes a block of 32. */
template <int DP, int ROWS, int THREADS>
static __device__ __forceinline__ void put_q8_0(uint16_t *tile, const uint8_t *raw, int32_t n, int32_t D)
{
    const uint32_t *words = reinterpret_cast<const uint32_t *>(raw);
    for (int32_t i = (int32_t)threadIdx.x; i < ROWS * (DP / ATTN_Q8_BLOCK); i += THREADS) {
        const int32_t row = i / (DP / ATTN_Q8_BLOCK), block = i % (DP / ATTN_Q8_BLOCK);
        const bool is_there = row < n && block < D / ATTN_Q8_BLOCK;
        const int32_t at = is_there ? row * (D / ATTN_Q8_BLOCK) + block : 0;
        /* every other block begins with the upper half of a word */
        const uint32_t *w = words + at * ATTN_Q8_BYTES / 4, which = at % 2 ? 0x7654 : 0x5432;
        const uint32_t scale = pick_bytes(w[0], 0, at % 2 ? 0x3232 : 0x1010);
        for (int32_t k = 0; k < 4; k++) {
            const int32_t part = (k + block / 2) & 3; /* not all the same, so that all banks are written */
            uint32_t v[4] = {};
            for (int32_t e = 0; is_there && e < 2; e++) {
                /* a code plus 128 is the low byte of 1024 + 128 + code as a half */
                const uint32_t codes = pick_bytes(w[2 * part + e], w[2 * part + e + 1], which) ^ 0x80808080u;
                v[2 * e] = mul_f16x2(add_f16x2(pick_bytes(codes, 0x64646464u, 0x4140), 0xe480e480u), scale);
                v[2 * e + 1] = mul_f16x2(add_f16x2(pick_bytes(codes, 0x64646464u, 0x4342), 0xe480e480u), scale);
            }
            *reinterpret_cast<uint4 *>(half_at<DP>(tile, row, block * ATTN_Q8_BLOCK + part / 2 * 16, part % 2 * 8)) =
                make_uint4(v[0], v[1], v[2], v[3]);
        }
    }
}

/*
 * Keys and values of a walk, N tokens at a time. F16: the values are on their way while scores are computed, the next keys
 * while values are summed. Q8_0: the codes of the next are always on their way, and one tile holds keys and values by turns.
 */
template <int DP, int N, int THREADS, bool IS_Q8> struct feed {
    uint16_t *keys, *values;
    uint8_t *raw_keys, *raw_values;
    int32_t head;

    /* bound by memory: rather one barrier more than a moment without copies */
    enum { IS_EAGER = N == KN_PAGE_TOKENS };
    enum {
        TILE_BYTES = N * DP * 2,
        RAW_BYTES = N * DP / ATTN_Q8_BLOCK * ATTN_Q8_BYTES,
        BYTES = IS_Q8 ? TILE_BYTES + 2 * RAW_BYTES : 2 * TILE_BYTES
    };

    __device__ __forceinline__ feed(uint8_t *memory, int32_t g)
        : keys((uint16_t *)memory), values(IS_Q8 ? keys : (uint16_t *)(memory + TILE_BYTES)), raw_keys(memory + TILE_BYTES),
          raw_values(raw_keys + RAW_BYTES), head(g)
    {
    }

    static __device__ __forceinline__ int32_t there(const struct tile &t, const struct walk &w)
    {
        return min(N, t.end - w.key);
    }

    /* One group of copies, maybe empty. */
    __device__ __forceinline__ void fetch(const struct attn &a, const struct tile &t, const struct walk &w, bool is_value)
    {
        if (w.segment < t.n_segments) {
            const int32_t D = a.kv.head_dim;
            const int64_t vector = ((int64_t)w.page * a.kv.n_heads + head) * KN_PAGE_TOKENS + w.key % KN_PAGE_TOKENS;
            const uint8_t *from = (const uint8_t *)(is_value ? a.kv.v : a.kv.k);
            if (IS_Q8) {
                const int32_t each = D / ATTN_Q8_BLOCK * ATTN_Q8_BYTES;
                uint8_t *to = is_value ? raw_values : raw_keys;
                from += vector * each;
                for (int32_t i = (int32_t)threadIdx.x * 16; i < there(t, w) * each; i += THREADS * 16)
                    copy_async(to + i, from + i, true);
            } else {
                copy_halves<DP, N, THREADS>(is_value ? values : keys, (const uint16_t *)from + vector * D, D, there(t, w), D);
            }
        }
        copy_commit();
    }

    __device__ __forceinline__ void begin(const struct attn &a, const struct tile &t, const struct walk &here)
    {
        fetch(a, t, here, false);
        if (IS_Q8)
            fetch(a, t, here, true);
    }

    /* The keys of `here` are there for all. */
    __device__ __forceinline__ void take_keys(const struct attn &a, const struct tile &t, const struct walk &here,
                                              const struct walk &next)
    {
        if (IS_Q8) {
            copy_wait<1>();
            __syncthreads();
            put_q8_0<DP, N, THREADS>(keys, raw_keys, there(t, here), a.kv.head_dim);
            __syncthreads();
            fetch(a, t, next, false);
        } else {
            copy_wait<0>();
            __syncthreads();
            fetch(a, t, here, true);
        }
    }

    /* The values of `here`, and what was written before by others. */
    __device__ __forceinline__ void take_values(const struct attn &a, const struct tile &t, const struct walk &here,
                                                const struct walk &next)
    {
        if (IS_Q8) {
            copy_wait<1>();
            __syncthreads();
            put_q8_0<DP, N, THREADS>(values, raw_values, there(t, here), a.kv.head_dim);
            __syncthreads();
            fetch(a, t, next, true);
        } else if (IS_EAGER) {
            __syncthreads();
            fetch(a, t, next, false);
            copy_wait<1>();
            __syncthreads();
        } else {
            copy_wait<0>();
            __syncthreads();
            fetch(a, t, next, false);
        }
    }
};

/* ---- kernels of halves --------------------------------------------------------------------------------------------------- */

/* Grid of all three: (tiles, KV heads, ways to spread segments). */
template <int DP, bool IS_Q8> static __global__ void __launch_bounds__(FEW_THREADS, 1) attn_few_kernel(const struct attn a)
{
    enum { COLUMNS = DP / FEW_WARPS, TILES = COLUMNS / 8 };
    struct tile t = {};
    if (!find_tile(a, (int32_t)blockIdx.x, &t))
        return;
    struct walk here = walk_begin(a, t);
    if (here.segment >= t.n_segments)
        return;
    uint8_t *const memory = shared_memory<uint8_t>();
    uint16_t *const q = (uint16_t *)memory;
    float *const scores = (float *)(memory + FEW_ROWS * DP * 2);
    const int32_t g = (int32_t)blockIdx.y, warp = (int32_t)threadIdx.x / LANES, lane = (int32_t)threadIdx.x % LANES;
    feed<DP, KN_PAGE_TOKENS, FEW_THREADS, IS_Q8> feed(memory + FEW_ROWS * (DP * 2 + FEW_PITCH * 4), g);
    feed.begin(a, t, here);
    put_queries<DP, FEW_ROWS, FEW_THREADS>(a, t, g, q);

    const int32_t end[2] = {row_end(a, t, lane / 4), row_end(a, t, lane / 4 + 8)};
    struct attn_rows rows = attn_rows_none();
    struct total total[2] = {};
    float o[TILES][4] = {};
    while (here.segment < t.n_segments) {
        const struct walk next = walk_next<KN_PAGE_TOKENS>(a, t, here);
        feed.take_keys(a, t, here, next);
        float s[2][4] = {};
#pragma unroll
        for (int c = 0; c < DP; c += 16) {
            uint32_t f[4];
            load_queries<DP>(f, q, 0, c);
            add_scores<DP, 2>(s, f, feed.keys, 16 * warp, c);
        }
#pragma unroll
        for (int n = 0; n < 2; n++)
            for (int h = 0; h < 2; h++)
                store_pair(scores + (lane / 4 + 8 * h) * FEW_PITCH + 16 * warp + 8 * n + lane % 4 * 2,
                           make_float2(s[n][2 * h], s[n][2 * h + 1]), true);
        feed.take_values(a, t, here, next);
        for (int32_t key = 0; key < KN_PAGE_TOKENS && here.key + key < here.end; key += BLOCK_KEYS) {
            float w[BLOCK_KEYS / 8][4], shrink[2];
            uint32_t p[BLOCK_KEYS / 16][4];
#pragma unroll
            for (int n = 0; n < BLOCK_KEYS / 8; n++)
                for (int h = 0; h < 2; h++) {
                    const float2 v = load_pair(scores + (lane / 4 + 8 * h) * FEW_PITCH + key + 8 * n + lane % 4 * 2, true);
                    w[n][2 * h] = v.x, w[n][2 * h + 1] = v.y;
                }
            const int seen[2] = {end[0] - here.key - key, end[1] - here.key - key};
            weigh<BLOCK_KEYS / 8>(w, seen, true, &rows, shrink, p);
            shrink_sums<TILES>(o, shrink);
            add_values<DP, TILES, BLOCK_KEYS / 16>(o, p, feed.values, key, warp * COLUMNS);
        }
        if (next.segment != here.segment)
            end_segment<TILES>(a, t, g, here.segment, 0, end, warp * COLUMNS, o, &rows, total);
        here = next;
    }
}

template <int DP, bool IS_Q8> static __global__ void __launch_bounds__(MANY_THREADS, 1) attn_many_kernel(const struct attn a)
{
    enum { TILES = DP / 8 };
    struct tile t = {};
    if (!find_tile(a, (int32_t)blockIdx.x, &t))
        return;
    struct walk here = walk_begin(a, t);
    if (here.segment >= t.n_segments)
        return;
    uint8_t *const memory = shared_memory<uint8_t>();
    uint16_t *const q = (uint16_t *)memory;
    const int32_t g = (int32_t)blockIdx.y, row = (int32_t)threadIdx.x / LANES * 16, lane = (int32_t)threadIdx.x % LANES;
    feed<DP, BLOCK_KEYS, MANY_THREADS, IS_Q8> feed(memory + MANY_ROWS * DP * 2, g);
    feed.begin(a, t, here);
    put_queries<DP, MANY_ROWS, MANY_THREADS>(a, t, g, q);

    const int32_t end[2] = {row_end(a, t, row + lane / 4), row_end(a, t, row + lane / 4 + 8)};
    const int32_t n_rows = min(16, t.seq.n_rows * a.per - t.row0 - row); /* of the warp */
    const int32_t least = row_end(a, t, row), most = n_rows > 0 ? row_end(a, t, row + n_rows - 1) : 0;
    struct attn_rows rows = attn_rows_none();
    struct total total[2] = {};
    float o[TILES][4] = {};
    while (here.segment < t.n_segments) {
        const struct walk next = walk_next<BLOCK_KEYS>(a, t, here);
        const bool is_seen = here.key < most; /* by any row of the warp */
        uint32_t p[BLOCK_KEYS / 16][4];
        feed.take_keys(a, t, here, next);
        if (is_seen) {
            float s[BLOCK_KEYS / 8][4] = {}, shrink[2];
#pragma unroll
            for (int c = 0; c < DP; c += 16) {
                uint32_t f[4];
                load_queries<DP>(f, q, row, c);
                add_scores<DP, BLOCK_KEYS / 8>(s, f, feed.keys, 0, c);
            }
            const int seen[2] = {end[0] - here.key, end[1] - here.key};
            weigh<BLOCK_KEYS / 8>(s, seen, here.key + BLOCK_KEYS > least, &rows, shrink, p);
            shrink_sums<TILES>(o, shrink);
        }
        feed.take_values(a, t, here, next);
        if (is_seen)
            add_values<DP, TILES, BLOCK_KEYS / 16>(o, p, feed.values, 0, 0);
        if (next.segment != here.segment && segment_first(here.segment) < most)
            end_segment<TILES>(a, t, g, here.segment, row, end, 0, o, &rows, total);
        here = next;
    }
}

/* ---- the kernel of f32 --------------------------------------------------------------------------------------------------- */

/* A block of keys as plain_block wants it. */
struct cells {
    const uint8_t *k, *v;
    enum kn_dtype dtype;
    int32_t D;

    __device__ __forceinline__ float value_at(const uint8_t *from, int64_t i) const
    {
        if (dtype == KN_F32)
            return reinterpret_cast<const float *>(from)[i];
        if (dtype == KN_F16)
            return unpack_f16(reinterpret_cast<const uint16_t *>(from)[i]).x;
        const uint8_t *block = from + i / ATTN_Q8_BLOCK * ATTN_Q8_BYTES;
        return unpack_f16(*reinterpret_cast<const uint16_t *>(block)).x * (float)(int8_t)block[2 + i % ATTN_Q8_BLOCK];
    }
    __device__ __forceinline__ float key(int i, int d) const
    {
        return value_at(k, (int64_t)i * D + d);
    }
    __device__ __forceinline__ float value(int i, int d) const
    {
        return value_at(v, (int64_t)i * D + d);
    }
};

static __device__ __forceinline__ struct cells cells_of(const struct attn &a, const struct walk &w, int32_t g)
{
    const int32_t D = a.kv.head_dim;
    const int64_t first = (((int64_t)w.page * a.kv.n_heads + g) * KN_PAGE_TOKENS + w.key % KN_PAGE_TOKENS) * D;
    const int64_t bytes = a.kv.dtype == KN_F32   ? first * 4
                          : a.kv.dtype == KN_F16 ? first * 2
                                                 : first / ATTN_Q8_BLOCK * ATTN_Q8_BYTES;
    return {(const uint8_t *)a.kv.k + bytes, (const uint8_t *)a.kv.v + bytes, a.kv.dtype, D};
}

/* Shared: plain_bytes(D), and three floats a row. */
static __global__ void __launch_bounds__(PLAIN_THREADS) attn_plain_kernel(const struct attn a)
{
    struct tile t = {};
    if (!find_tile(a, (int32_t)blockIdx.x, &t))
        return;
    struct walk here = walk_begin(a, t);
    if (here.segment >= t.n_segments)
        return;
    const int32_t g = (int32_t)blockIdx.y, D = a.kv.head_dim, d = (int32_t)threadIdx.x, row = d / LANES * 2;
    const struct plain_room room = plain_room_of(shared_memory<float>(), D);
    float *const factors = room.shrink + PLAIN_ROWS;
    for (int32_t i = d; i < PLAIN_ROWS * D; i += PLAIN_THREADS) {
        const int32_t r = i / D;
        room.q[i] = row_end(a, t, r) > 0 ? cuda_row(a.q, row_token(a, t, r))[row_head(a, t, g, r) * D + i % D] * a.scale : 0;
    }
    const int32_t end[2] = {row_end(a, t, row), row_end(a, t, row + 1)};
    struct total total[2] = {};
    float max[2] = {-INFINITY, -INFINITY}, sum[2] = {}, o[PLAIN_ROWS] = {};
    while (here.segment < t.n_segments) {
        const struct walk next = walk_next<PLAIN_KEYS>(a, t, here);
        const int seen[2] = {end[0] - here.key, end[1] - here.key};
        plain_block(room, cells_of(a, here, g), min(PLAIN_KEYS, here.end - here.key), seen, max, sum, o);
        const int32_t segment = here.segment;
        here = next;
        if (next.segment == segment)
            continue;
        for (int h = 0; h < 2; h++) {
            if (end[h] > segment_first(segment) && !t.is_spread)
                merge(&total[h], max[h], sum[h], segment == 0);
            if (d % LANES == 0) {
                float *const f = factors + 3 * (row + h);
                f[0] = t.is_spread ? max[h] : total[h].keep;
                f[1] = t.is_spread ? sum[h] : total[h].add;
                f[2] = 1.0f / total[h].sum;
            }
            max[h] = -INFINITY, sum[h] = 0;
        }
        __syncthreads();
#pragma unroll
        for (int r = 0; r < PLAIN_ROWS; r++) {
            const int32_t last = segment_count(row_end(a, t, r)) - 1;
            const float *const f = factors + 3 * r, v = o[r];
            o[r] = 0;
            if (segment > last || d >= D)
                continue;
            if (t.is_spread) {
                float *const part = part_of(a, t, g, segment);
                part[r * a.pitch + d] = v;
                if (d == 0)
                    store_pair(part + a.tile_rows * a.pitch + 2 * r, make_float2(f[0], f[1]), true);
                continue;
            }
            const int32_t token = row_token(a, t, r), head = row_head(a, t, g, r);
            float *const y = cuda_row(a.y, token) + head * D + d;
            const struct total now = {0, 0, f[0], f[1]};
            const bool is_gated = a.gate.data != NULL;
            float u = merged(now, segment == 0 ? 0 : *y, v, segment == 0);
            if (segment == last)
                u = finished(u, f[2], is_gated ? cuda_row(a.gate, token)[(2 * head + 1) * D + d] : 0, is_gated);
            *y = u;
        }
        __syncthreads();
    }
}

/* ---- attn ---------------------------------------------------------------------------------------------------------------- */

static int32_t pitch_of(int32_t D)
{
    return D <= 64 ? 64 : D <= 128 ? 128 : ATTN_D_MAX;
}

size_t cuda_attn_scratch(const struct cuda_device *d, const struct kn_limits *l)
{
    const int32_t segments = segment_count(l->kv_len);
    const size_t rows = (size_t)l->rows * (size_t)l->heads + (size_t)(l->seqs > 0 ? l->seqs : 1) * MANY_ROWS;
    const size_t all = segments > 1 ? rows * (size_t)segments * (size_t)(pitch_of(l->head_dim) + 2) * sizeof(float) : 0;
    return all < PARTS_BYTES ? all : PARTS_BYTES;
}

template <int DP, bool IS_Q8> static void launch_halves(struct cuda_stream *s, const struct attn *a, dim3 grid)
{
    if (a->tile_rows == FEW_ROWS)
        cuda_launch(s, "attn", attn_few_kernel<DP, IS_Q8>, grid, FEW_THREADS,
                    FEW_ROWS * (DP * 2 + FEW_PITCH * 4) + feed<DP, KN_PAGE_TOKENS, FEW_THREADS, IS_Q8>::BYTES, *a);
    else
        cuda_launch(s, "attn", attn_many_kernel<DP, IS_Q8>, grid, MANY_THREADS,
                    MANY_ROWS * DP * 2 + feed<DP, BLOCK_KEYS, MANY_THREADS, IS_Q8>::BYTES, *a);
}

template <int DP> static void launch_type(struct cuda_stream *s, const struct attn *a, dim3 grid)
{
    if (a->kv.dtype == KN_Q8_0)
        launch_halves<DP, true>(s, a, grid);
    else
        launch_halves<DP, false>(s, a, grid);
}

static bool is_wide(const struct kn_mat *m)
{
    return (uintptr_t)m->data % 16 == 0 && m->stride % 4 == 0;
}

void cuda_attn(struct kn_stream *stream, const struct kn_attn_args *args)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    const struct kn_limits *l = &s->base.limits;
    const int32_t T = args->q.rows, D = args->kv->head_dim, G = args->kv->n_heads, H = args->q.cols / D;
    if (T < 1)
        return;
    if (D > ATTN_D_MAX) {
        cuda_fail(s, "attn", ERR_INVAL, "heads of %d: at most %d", D, ATTN_D_MAX);
        return;
    }
    const bool is_aligned = (uintptr_t)args->kv->k % 16 == 0 && (uintptr_t)args->kv->v % 16 == 0;
    const bool is_half = is_aligned && (args->kv->dtype == KN_Q8_0 || (args->kv->dtype == KN_F16 && D % 8 == 0));
    struct attn a = {.step = args->step,
                     .q = args->q,
                     .gate = args->gate,
                     .y = args->y,
                     .kv = *args->kv,
                     .per = H / G,
                     .tile_rows = is_half && T > FEW_TOKENS && T > l->seqs ? MANY_ROWS : FEW_ROWS,
                     .pitch = pitch_of(D),
                     .scale = args->scale * ATTN_LOG2E,
                     .is_wide = D % 8 == 0 && is_wide(&args->q) && is_wide(&args->gate) && is_wide(&args->y),
                     .parts = (float *)s->scratch};
    /* as many tiles as there can be, and as many ways as fill the processors, whatever the step holds */
    const int64_t seqs = l->seqs < 1 ? 1 : l->seqs < T ? l->seqs : T;
    const int64_t tiles = ((int64_t)T * a.per + seqs * (a.tile_rows - 1)) / a.tile_rows;
    const int64_t wanted = (a.tile_rows == FEW_ROWS ? 4 : 2) * (int64_t)s->device->n_sms, segments = segment_count(l->kv_len);
    int64_t ways = (wanted + tiles * G - 1) / (tiles * G);
    ways = ways < segments ? ways : segments;
    if (ways > 1)
        a.n_parts = (int64_t)(s->scratch_bytes / sizeof(float)) / ((int64_t)G * a.tile_rows * (a.pitch + 2));
    const dim3 grid((unsigned)tiles, (unsigned)G, (unsigned)(a.n_parts > 0 ? ways : 1));
    if (!is_half)
        cuda_launch(s, "attn", attn_plain_kernel, grid, PLAIN_THREADS, plain_bytes(D) + 3 * PLAIN_ROWS * sizeof(float), a);
    else if (a.pitch == 64)
        launch_type<64>(s, &a, grid);
    else if (a.pitch == 128)
        launch_type<128>(s, &a, grid);
    else
        launch_type<256>(s, &a, grid);
    if (grid.z > 1)
        cuda_launch(s, "attn", attn_merge_kernel, dim3((unsigned)T, (unsigned)H), (unsigned)((D + LANES - 1) / LANES * LANES),
                    0, a);
}
