/*
 * attn_full - attention of the vision tower: every row of a picture sees every other.
 *
 * Where bfloat16 is enough for q, k, v and the weights, one launch first turns q (times the scale), k and v into halves, head
 * by head, in rows padded to what tensor cores take, so that nobody converts a key twice; then a block takes 128 queries of one
 * head and walks over the keys, 64 at a time, those of the next step on their way. A warp has 16 queries, which stay in
 * registers. Heads go through scratch in groups where it does not hold all of them. Halves round to 11 bits, three more than
 * bfloat16: on normal data the normalised mean squared error is below 2e-7. A key or value beyond 65504 would be infinite, and
 * the picture's result no number.
 *
 * Else all is f32 (attn.cuh).
 */
#include "kernels/cuda/attn.cuh"

#define HALF_D_MAX    128
#define HALVES_BYTES  ((size_t)64 << 20)
#define QUERIES       128
#define THREADS       (QUERIES / 16 * LANES)
#define KEYS          64 /* of a step */
#define AT_ONCE       32 /* keys between two looks at the largest score */
#define CONVERT_BLOCK 256

struct full {
    struct kn_mat qkv, y;
    int32_t d, first_head;
    float scale;      /* with log2(e) */
    bool is_wide;     /* 16 bytes at a time in qkv, 8 in y */
    uint16_t *halves; /* [3][heads of the group][P][padded d] */
};

static int32_t padded(int32_t d)
{
    return d <= 64 ? 64 : d <= 80 ? 80 : HALF_D_MAX;
}

static __host__ __device__ __forceinline__ int64_t matrix_halves(int32_t rows, int32_t pitch)
{
    return (int64_t)rows * pitch;
}

/* Eight values a thread. Grid (rows * pitch / 8 / CONVERT_BLOCK, heads of the group, q k v). */
static __global__ void __launch_bounds__(CONVERT_BLOCK) attn_full_halves_kernel(const struct full a, int32_t pitch)
{
    const int64_t i = (int64_t)blockIdx.x * CONVERT_BLOCK + threadIdx.x;
    const int32_t row = (int32_t)(i / (pitch / 8)), col = (int32_t)(i % (pitch / 8)) * 8, head = (int32_t)blockIdx.y,
                  part = (int32_t)blockIdx.z;
    if (row >= a.qkv.rows)
        return;
    const float *from = cuda_row(a.qkv, row) + part * (a.qkv.cols / 3) + (a.first_head + head) * a.d + col;
    float x[8] = {};
    if (a.is_wide && col + 8 <= a.d) {
        const float4 lo = *reinterpret_cast<const float4 *>(from), hi = *reinterpret_cast<const float4 *>(from + 4);
        x[0] = lo.x, x[1] = lo.y, x[2] = lo.z, x[3] = lo.w, x[4] = hi.x, x[5] = hi.y, x[6] = hi.z, x[7] = hi.w;
    } else {
        for (int e = 0; e < 8; e++)
            if (col + e < a.d)
                x[e] = from[e];
    }
    const float f = part == 0 ? a.scale : 1.0f;
    uint32_t v[4];
    for (int e = 0; e < 4; e++)
        v[e] = pack_f16(x[2 * e] * f, x[2 * e + 1] * f);
    uint16_t *to =
        a.halves + (part * (int64_t)gridDim.y + head) * matrix_halves(a.qkv.rows, pitch) + (int64_t)row * pitch + col;
    *reinterpret_cast<uint4 *>(to) = make_uint4(v[0], v[1], v[2], v[3]);
}

/* The pairs of halves of a query row that a lane has in columns c ... c + 15; rows that are not there: 0. */
static __device__ __forceinline__ uint32_t query_pair(const uint16_t *q, int32_t row, int32_t rows, int32_t pitch, int32_t col)
{
    return row < rows ? *reinterpret_cast<const uint32_t *>(q + (int64_t)row * pitch + col) : 0;
}

/* Grid (blocks of queries, heads of the group). Shared: two steps of keys and values. */
template <int DP> static __global__ void __launch_bounds__(THREADS, DP > 80 ? 1 : 2) attn_full_kernel(const struct full a)
{
    enum { STEPS = DP / 16, TILES = DP / 8, TILE = KEYS * half_tile<DP>::PITCH };
    uint16_t *const tiles = shared_memory<uint16_t>(); /* keys, values, the other keys, the other values */
    const int32_t P = a.qkv.rows, lane = (int32_t)threadIdx.x % LANES,
                  row = (int32_t)blockIdx.x * QUERIES + (int32_t)threadIdx.x / LANES * 16;
    const int64_t matrix = matrix_halves(P, DP), values = gridDim.y * matrix; /* from a key to its value */
    const uint16_t *const q = a.halves + blockIdx.y * matrix, *ahead = q + values;

    copy_halves<DP, KEYS, THREADS>(tiles, ahead, DP, P, DP);
    copy_halves<DP, KEYS, THREADS>(tiles + TILE, ahead + values, DP, P, DP);
    copy_commit();
    uint32_t f[STEPS][4];
#pragma unroll
    for (int i = 0; i < STEPS; i++)
        for (int j = 0; j < 4; j++)
            f[i][j] = query_pair(q, row + lane / 4 + j % 2 * 8, P, DP, 16 * i + j / 2 * 8 + lane % 4 * 2);

    struct attn_rows rows = attn_rows_none();
    float o[TILES][4] = {};
    for (int32_t key = 0; key < P; key += KEYS) {
        uint16_t *const keys = tiles + (key / KEYS % 2) * 2 * TILE, *const others = tiles + (1 - key / KEYS % 2) * 2 * TILE;
        const int32_t left = P - key - KEYS;
        copy_wait<0>();
        __syncthreads(); /* these are there, and nobody reads the others any more */
        ahead += KEYS * DP;
        if (left > 0) {
            copy_halves<DP, KEYS, THREADS>(others, ahead, DP, left, DP);
            copy_halves<DP, KEYS, THREADS>(others + TILE, ahead + values, DP, left, DP);
        }
        copy_commit();
        if (row >= P) /* a whole warp: it only helps to copy */
            continue;
#pragma unroll 1 /* or registers do not suffice */
        for (int part = 0; part < KEYS && key + part < P; part += AT_ONCE) {
            float s[AT_ONCE / 8][4] = {}, shrink[2];
            uint32_t p[AT_ONCE / 16][4];
#pragma unroll
            for (int i = 0; i < STEPS; i++)
                add_scores<DP, AT_ONCE / 8>(s, f[i], keys, part, 16 * i);
            const int seen[2] = {P - key - part, P - key - part};
            weigh<AT_ONCE / 8>(s, seen, seen[0] < AT_ONCE, &rows, shrink, p);
            shrink_sums<TILES>(o, shrink);
            add_values<DP, TILES, AT_ONCE / 16>(o, p, keys + TILE, part, 0);
        }
    }
    if (row >= P)
        return;
    gather_sums(&rows);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int32_t mine = row + lane / 4 + 8 * h, col = lane % 4 * 2;
        if (mine >= P)
            continue;
        float *const y = cuda_row(a.y, mine) + (a.first_head + (int32_t)blockIdx.y) * a.d;
        const float inverse = 1.0f / rows.sum[h];
#pragma unroll
        for (int n = 0; n < TILES; n++) {
            const float lo = o[n][2 * h] * inverse, hi = o[n][2 * h + 1] * inverse;
            if (a.is_wide && 8 * n + col + 1 < a.d) {
                *reinterpret_cast<float2 *>(y + 8 * n + col) = make_float2(lo, hi);
                continue;
            }
            if (8 * n + col < a.d)
                y[8 * n + col] = lo;
            if (8 * n + col + 1 < a.d)
                y[8 * n + col + 1] = hi;
        }
    }
}

/* ---- in f32 -------------------------------------------------------------------------------------------------------------- */

struct rows_of_keys {
    const float *k, *v;
    int64_t stride;

    __device__ __forceinline__ float key(int i, int d) const
    {
        return k[i * stride + d];
    }
    __device__ __forceinline__ float value(int i, int d) const
    {
        return v[i * stride + d];
    }
};

/* Grid (blocks of PLAIN_ROWS queries, heads). Shared: plain_bytes(d), and a float a row. */
static __global__ void __launch_bounds__(PLAIN_THREADS) attn_full_plain_kernel(const struct full a)
{
    const int32_t P = a.qkv.rows, C = a.qkv.cols / 3, D = a.d, d = (int32_t)threadIdx.x, row = d / LANES * 2,
                  first = (int32_t)blockIdx.x * PLAIN_ROWS;
    const struct plain_room room = plain_room_of(shared_memory<float>(), D);
    float *const inverse = room.shrink + PLAIN_ROWS;
    const float *const q = a.qkv.data + (int32_t)blockIdx.y * D;
    for (int32_t i = d; i < PLAIN_ROWS * D; i += PLAIN_THREADS)
        room.q[i] = first + i / D < P ? q[(first + i / D) * a.qkv.stride + i % D] * a.scale : 0;
    float max[2] = {-INFINITY, -INFINITY}, sum[2] = {}, o[PLAIN_ROWS] = {};
    for (int32_t key = 0; key < P; key += PLAIN_KEYS) {
        const float *const k = q + key * a.qkv.stride + C;
        const int32_t n = min(PLAIN_KEYS, P - key);
        const int seen[2] = {n, n};
        plain_block(room, rows_of_keys{k, k + C, a.qkv.stride}, n, seen, max, sum, o);
    }
    if (d % LANES == 0)
        inverse[row] = 1.0f / sum[0], inverse[row + 1] = 1.0f / sum[1];
    __syncthreads();
    if (d >= D)
        return;
#pragma unroll
    for (int r = 0; r < PLAIN_ROWS; r++)
        if (first + r < P)
            cuda_row(a.y, first + r)[(int32_t)blockIdx.y * D + d] = o[r] * inverse[r];
}

/* ---- attn_full ----------------------------------------------------------------------------------------------------------- */

static size_t head_bytes(int32_t rows, int32_t d)
{
    return 3 * (size_t)matrix_halves(rows, padded(d)) * sizeof(uint16_t);
}

size_t cuda_vision_scratch(const struct cuda_device *d, const struct kn_limits *l)
{
    const int32_t rows = l->rows > l->patch_rows ? l->rows : l->patch_rows;
    const size_t one = head_bytes(rows, l->head_dim), all = one * (size_t)l->heads,
                 most = one > HALVES_BYTES ? one : HALVES_BYTES;
    return all < most ? all : most;
}

static bool is_wide(const struct kn_mat *m)
{
    return (uintptr_t)m->data % 16 == 0 && m->stride % 4 == 0;
}

template <int DP> static void launch_halves(struct cuda_stream *s, const struct full *a, int32_t heads)
{
    const int32_t P = a->qkv.rows;
    const int64_t pieces = matrix_halves(P, DP) / 8;
    const dim3 all((unsigned)((pieces + CONVERT_BLOCK - 1) / CONVERT_BLOCK), (unsigned)heads, 3),
        grid((unsigned)((P + QUERIES - 1) / QUERIES), (unsigned)heads);
    cuda_launch(s, "attn_full", attn_full_halves_kernel, all, CONVERT_BLOCK, 0, *a, DP);
    cuda_launch(s, "attn_full", attn_full_kernel<DP>, grid, THREADS, 4 * KEYS * half_tile<DP>::PITCH * sizeof(uint16_t), *a);
}

void cuda_attn_full(struct kn_stream *stream, const struct kn_attn_full_args *args)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    const int32_t P = args->qkv.rows, d = args->qkv.cols / 3 / args->n_heads;
    if (d > ATTN_D_MAX) {
        cuda_fail(s, "attn_full", ERR_INVAL, "heads of %d: at most %d", d, ATTN_D_MAX);
        return;
    }
    struct full a = {
        .qkv = args->qkv, .y = args->y, .d = d, .scale = ATTN_LOG2E / sqrtf((float)d), .halves = (uint16_t *)s->scratch};
    a.is_wide = d % 4 == 0 && is_wide(&a.qkv) && is_wide(&a.y);
    if (!args->is_bf16 || d > HALF_D_MAX) {
        const dim3 grid((unsigned)((P + PLAIN_ROWS - 1) / PLAIN_ROWS), (unsigned)args->n_heads);
        cuda_launch(s, "attn_full", attn_full_plain_kernel, grid, PLAIN_THREADS, plain_bytes(d) + PLAIN_ROWS * sizeof(float),
                    a);
        return;
    }
    const int64_t fit = (int64_t)(s->scratch_bytes / head_bytes(P, d));
    if (fit < 1) {
        cuda_fail(s, "attn_full", ERR_INVAL, "%d rows of heads of %d: more than the stream was opened for", P, d);
        return;
    }
    for (int32_t heads; a.first_head < args->n_heads; a.first_head += heads) {
        heads = args->n_heads - a.first_head < fit ? args->n_heads - a.first_head : (int32_t)fit;
        if (padded(d) == 64)
            launch_halves<64>(s, &a, heads);
        else if (padded(d) == 80)
            launch_halves<80>(s, &a, heads);
        else
            launch_halves<HALF_D_MAX>(s, &a, heads);
    }
}
