/*
 * product - the kernels of product.cuh, for any form of weights (forms.cuh). Included by product_<form>.cu and plain.cu.
 *
 * Rows of weights are the mma's 16 rows, tokens its 8 columns: so one token costs no more reading than eight, and a weight goes from its packed word to a fragment in registers, without
 * shared memory. Halves of weights and activations hold 11 bits: the error of a product is a normalised mean square near 1e-7.
 *
 * few:  a warp takes one slice of a tile of 16 rows and all tokens; the slices' sums meet in shared memory. While a group is multiplied the next is on its way.
 * mix:  a block takes a tile of 16 rows of all experts of one token, a warp one slice of one expert after the other; the experts' sums meet in shared memory, and are added in their order.
 * many: a block takes 8 tiles (of gate and up: 4 each) and 64 tokens; activations come strip by strip through a ring in shared memory, weights straight to the warp that needs them.
 */
#ifndef HERON_KERNELS_CUDA_PRODUCT_KERNELS_CUH
#define HERON_KERNELS_CUDA_PRODUCT_KERNELS_CUH

#include "kernels/cuda/forms.cuh"
#include "kernels/cuda/product.cuh"

#define MANY_WARPS  8
#define MANY_STAGES 4

/* ---- what both kernels agree on -------------------------------------------------------------------------------------------------- */

/* Slices of a row of so many strips, and strips of a slice. */
static __host__ __device__ __forceinline__ int slices_of(int strips)
{
    return strips >= 64 ? 8 : strips >= 32 ? 4 : strips >= 16 ? 2 : 1;
}

static __host__ __device__ __forceinline__ int slice_strips_of(int strips)
{
    const int n = slices_of(strips);
    return ((strips + n - 1) / n + 3) / 4 * 4;
}

static __device__ __forceinline__ int64_t x_row_of(const struct product &p, int slot)
{
    const int pair = p.order ? p.order[slot] : slot;
    return p.per_token > 1 ? pair / p.per_token : pair;
}

static __device__ __forceinline__ float activated(enum kn_act act, float u)
{
    if (act == KN_ACT_GELU_TANH)
        return 0.5f * u * (1.0f + tanhf(0.7978845608028654f * (u + 0.044715f * u * u * u)));
    return act == KN_ACT_GELU_ERF ? 0.5f * u * (1.0f + erff(u * 0.7071067811865476f)) : u;
}

/* The sums of a token's row become what y holds. */
template <bool DUAL>
static __device__ __forceinline__ void finish(const struct product &p, int slice, int row, int slot, float x_factor, float sum0,
                                              float sum1)
{
    float *y = cuda_row(p.y, p.order ? p.order[slot] : slot) + row;
    float v = sum0 * (x_factor * cuda_row_factor(p.w[0], slice, row + 16 * p.tile0[0]));
    if (DUAL) {
        *y = cuda_silu(v) * (sum1 * (x_factor * cuda_row_factor(p.w[1], slice, row + 16 * p.tile0[1])));
        return;
    }
    if (p.bias)
        v = add_once(v, p.bias[row]); /* not one fma in one kernel, and two steps in another */
    v = activated(p.act, v);
    *y = p.accumulate ? add_once(*y, v) : v;
}

/* ---- few --------------------------------------------------------------------------------------------------------------------------- */

struct product_set {
    struct product p[PRODUCT_SET];
    int32_t first[PRODUCT_SET]; /* each one's first block */
    int32_t n;
    bool is_single; /* slots go one by one: experts'. A product may have fewer of them than another */
};

/* Rows of halves that a block makes lie so far apart that eight of them are in different banks. */
static __host__ __device__ __forceinline__ int shared_pitch(int pitch)
{
    return pitch + 8;
}

/* Block: n rows as halves to shared memory, and what undoes their powers of two. room: LANES floats. A barrier must follow. */
template <typename R>
static __device__ __forceinline__ void make_halves(const R &row_of, int cols, int pitch, int n, uint16_t *halves,
                                                   float *factors, float *room)
{
    const int lane = (int)threadIdx.x % LANES, warps = (int)blockDim.x / LANES;
    /* one row is the work of all warps, several are a warp's each */
    const int first = n == 1 ? 0 : (int)threadIdx.x / LANES, at = n == 1 ? (int)threadIdx.x : lane,
              step = n == 1 ? (int)blockDim.x : LANES;
    for (int k = first; k < n; k += n == 1 ? 1 : warps) {
        const float *from = row_of(k);
        const bool is_wide = (uintptr_t)from % 16 == 0 && cols % 4 == 0;
        uint32_t *to = (uint32_t *)(halves + k * shared_pitch(pitch));
        float most = 0;
        if (is_wide) {
#pragma unroll 2
            for (int i = at; i < cols / 4; i += step) {
                const float4 v = ((const float4 *)from)[i];
                most = fmaxf(fmaxf(most, fmaxf(fabsf(v.x), fabsf(v.y))), fmaxf(fabsf(v.z), fabsf(v.w)));
            }
        } else {
#pragma unroll 1
            for (int i = at; i < cols; i += step)
                most = fmaxf(most, fabsf(from[i]));
        }
        most = n == 1 ? block_max(most, room) : warp_max(most);
        const struct half_range range = half_range_of(most);
        if (is_wide) {
#pragma unroll 1
            for (int i = at; i < pitch / 4; i += step) {
                const float4 v = 4 * i < cols ? ((const float4 *)from)[i] : make_float4(0, 0, 0, 0);
                ((uint2 *)to)[i] =
                    make_uint2(pack_f16(v.x * range.to, v.y * range.to), pack_f16(v.z * range.to, v.w * range.to));
            }
        } else {
#pragma unroll 1
            for (int i = at; i < pitch / 2; i += step)
                to[i] = half_pair(from, i, cols, range.to);
        }
        if (at == 0)
            factors[k] = range.back;
    }
}

static inline size_t halves_bytes(int rows, int pitch)
{
    return (size_t)rows * (size_t)shared_pitch(pitch) * sizeof(uint16_t) + ((size_t)rows + LANES) * sizeof(float);
}

/* One strip of weights times the tokens: b[n] is what this lane holds of token 8 n + g. */
template <typename F, int NT>
static __device__ __forceinline__ void few_strip(float acc[NT][4], const typename F::raw &raw, int strip, int lane,
                                                 const uint4 b[NT][2])
{
    const form_scale f = F::scale(raw, strip, lane);
#pragma unroll
    for (int i = 0; i < FORM_STEPS; i++) {
        uint32_t a[4];
        F::step(raw, f, strip, i, a);
#pragma unroll
        for (int n = 0; n < NT; n++) {
            const uint32_t pair[2] = {word_of(b[n][i / 2], 2 * (i & 1)), word_of(b[n][i / 2], 2 * (i & 1) + 1)};
            mma_f16(acc[n], a, pair);
        }
    }
}

/* Gate and up are two warps' work where tokens are few, and one's where the sums of many need its registers. */
static __host__ __device__ __forceinline__ int few_roles(int n_slices, bool is_dual, int nt)
{
    return n_slices * (is_dual && nt == 1 ? 2 : 1);
}

/* A slice of a tile: where it lies, and its first group, on its way. */
template <typename F> struct few_part {
    const uint8_t *from;
    int group0, group1;
    typename F::raw now;
};

template <typename F>
static __device__ __forceinline__ void few_begin(struct few_part<F> &part, const cuda_weight &w, const uint8_t *from, int slice)
{
    const int slice_strips = slice_strips_of(w.strips);
    part.from = from;
    part.group0 = slice * slice_strips / F::STRIPS;
    part.group1 = min((slice + 1) * slice_strips, w.strips) / F::STRIPS;
    if (part.group0 < part.group1)
        F::load(part.now, from, part.group0, (int)threadIdx.x % LANES, w.which);
}

/* Times the tokens: x[n] is where this lane's halves of token 8 n + g begin; NULL: zeros. */
template <typename F, int NT>
static __device__ __forceinline__ void few_multiply(struct few_part<F> &part, int which, const uint4 *const x[NT],
                                                    float acc[NT][4])
{
    const int lane = (int)threadIdx.x % LANES;
    typename F::raw next;
    for (int group = part.group0; group < part.group1; group++) {
        if (group + 1 < part.group1)
            F::load(next, part.from, group + 1, lane, which);
#pragma unroll
        for (int strip = 0; strip < F::STRIPS; strip++) {
            uint4 b[NT][2];
#pragma unroll
            for (int k = 0; k < NT; k++)
#pragma unroll
                for (int h = 0; h < 2; h++)
                    b[k][h] = x[k] ? x[k][(group * F::STRIPS + strip) * 8 + h] : make_uint4(0, 0, 0, 0);
            few_strip<F, NT>(acc, part.now, strip, lane, b);
        }
        part.now = next;
    }
}

/*
 * Grid (tiles / tiles of a block of each product, one after the other; tokens / 8 NT, or slots). Shared: float [DUAL + 1][slices][tiles of a block][16][8 NT], then, where the block
 * makes them, halves, factors and room.
 */
template <typename F, int NT, bool DUAL>
static __global__ void __launch_bounds__(DUAL &&NT == 1 ? 512 : 256, !DUAL && NT == 1 ? 2 : 1)
    few_kernel(const __grid_constant__ struct product_set set)
{
    int i_product = 0;
    while (i_product + 1 < set.n && (int)blockIdx.x >= set.first[i_product + 1])
        i_product++;
    const struct product &p = set.p[i_product];
    const int lane = (int)threadIdx.x % LANES, warp = (int)threadIdx.x / LANES, g = lane / 4, t = lane % 4;
    const int n_slices = slices_of(p.w[0].strips), roles = few_roles(n_slices, DUAL, NT),
              n_tiles = (int)blockDim.x / LANES / roles;
    const int slice = warp % n_slices, role = warp / n_slices % (roles / n_slices), at = warp / roles;
    const int block = (int)blockIdx.x - set.first[i_product], tile = block * n_tiles + at;
    const int slot0 = (int)blockIdx.y * (set.is_single ? 1 : 8 * NT), n = min(set.is_single ? 1 : 8 * NT, p.n - slot0);
    if (n <= 0) /* a whole block */
        return;
    const int expert = p.ids ? p.ids[slot0] : 0;
    float *parts = shared_memory<float>(), *factors = NULL;
    struct few_part<F> part = {
    };
    if (16 * tile < p.rows)
        few_begin<F>(part, p.w[role], cuda_tile(p.w[role], expert, p.tile0[role] + tile), slice);
    const uint4 *x[NT] = {};
    if (NT == 1 && !p.x) { /* PRODUCT_ONCE rows at most */
        uint16_t *halves = (uint16_t *)(parts + (DUAL ? 2 : 1) * n_slices * n_tiles * 128);
        factors = (float *)(halves + n * shared_pitch(p.pitch));
        make_halves([&](int k) { return (const float *)cuda_row(p.from, x_row_of(p, slot0 + k)); }, p.from.cols, p.pitch, n,
                    halves, factors, factors + n);
        __syncthreads();
        x[0] = g < n ? (const uint4 *)(halves + g * shared_pitch(p.pitch) + 16 * t) : NULL;
    } else {
#pragma unroll
        for (int k = 0; k < NT; k++)
            x[k] = 8 * k + g < n ? (const uint4 *)(p.x + x_row_of(p, slot0 + 8 * k + g) * p.pitch + 16 * t) : NULL;
    }
    for (int which = role; which < (DUAL ? 2 : 1); which += roles / n_slices) {
        float acc[NT][4] = {};
        if (which != role && 16 * tile < p.rows)
            few_begin<F>(part, p.w[which], cuda_tile(p.w[which], expert, p.tile0[which] + tile), slice);
        few_multiply<F, NT>(part, p.w[which].which, x, acc);
        float *sums = parts + ((which * n_slices + slice) * n_tiles + at) * 128 * NT;
#pragma unroll
        for (int k = 0; k < NT; k++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                sums[(g + 8 * (i / 2)) * 8 * NT + 8 * k + 2 * t + i % 2] = acc[k][i];
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < n_tiles * 16 * n; i += (int)blockDim.x) {
        const int k = i / (16 * n_tiles), slot = slot0 + k, r = i % (16 * n_tiles), row = 16 * block * n_tiles + r;
        if (row >= p.rows)
            continue;
        float sum[2] = {0, 0};
        for (int j = 0; j < (DUAL ? 2 : 1); j++)
            for (int s = 0; s < n_slices; s++)
                sum[j] += parts[((j * n_slices + s) * n_tiles * 16 + r) * 8 * NT + k];
        finish<DUAL>(p, expert, row, slot, factors ? factors[k] : p.x_factor[x_row_of(p, slot)], sum[0], sum[1]);
    }
    if (NT == 1 && !DUAL)
        norm_at_end(set.p[0].then, parts);
}

template <typename F, int NT, bool DUAL>
static void few_launch(struct cuda_stream *s, const char *op, const struct product *p, int n)
{
    const int n_slices = slices_of(p->w[0].strips), roles = few_roles(n_slices, DUAL, NT), warps = roles > 8 ? roles : 8;
    const int n_tiles = warps / roles;
    struct product_set set = {.n = n};
    unsigned blocks = 0;
    int slots = 0;
    for (int i = 0; i < n; i++) {
        set.p[i] = p[i];
        set.first[i] = (int)blocks;
        blocks += (unsigned)((p[i].rows + FORM_TILE * n_tiles - 1) / (FORM_TILE * n_tiles));
        set.is_single = set.is_single || p[i].ids;
        slots = p[i].n > slots ? p[i].n : slots;
    }
    const dim3 grid(blocks, (unsigned)(set.is_single ? slots : (slots + 8 * NT - 1) / (8 * NT)));
    const size_t parts = (size_t)(DUAL ? 2 : 1) * (size_t)n_slices * (size_t)n_tiles * 128 * NT;
    cuda_launch(s, op, few_kernel<F, NT, DUAL>, grid, (unsigned)(warps * LANES),
                parts * sizeof(float) + (p->x ? 0 : halves_bytes(set.is_single ? 1 : p->n, p->pitch)), set);
}

/* ---- mix --------------------------------------------------------------------------------------------------------------------------- */

#define MIX_WARPS 8

/* Shared memory of a block: sums of slices, float [slices in all][16]; halves of the experts' rows and of the shared one's; their factors; room. */
struct mix_plan {
    int k, n_slices, shared_slices; /* 0: no shared expert */
    size_t halves, shared_halves, factors, bytes;
};

static __host__ __device__ __forceinline__ struct mix_plan mix_plan_of(const struct product &p)
{
    const int k = p.per_slot, n_slices = slices_of(p.w[0].strips), more = p.shared.data ? slices_of(p.w[1].strips) : 0;
    struct mix_plan m = {k, n_slices, more, (size_t)(k * n_slices + more) * 16 * sizeof(float), 0, 0, 0};
    m.shared_halves = m.halves + (size_t)k * (size_t)shared_pitch(p.pitch) * sizeof(uint16_t);
    m.factors = m.shared_halves + (more ? (size_t)shared_pitch(p.w[1].strips * 64) * sizeof(uint16_t) : 0);
    m.bytes = m.factors + (size_t)(k + 1 + LANES) * sizeof(float);
    return m;
}

/* Grid (tiles, tokens). Shared: as mix_plan says. */
template <typename F>
static __global__ void __launch_bounds__(MIX_WARPS *LANES, 2) mix_kernel(const __grid_constant__ struct product p)
{
    const struct mix_plan m = mix_plan_of(p);
    const int lane = (int)threadIdx.x % LANES, warp = (int)threadIdx.x / LANES, g = lane / 4, t = lane % 4;
    const int tile = (int)blockIdx.x, token = (int)blockIdx.y, n_mine = m.k * m.n_slices, n = n_mine + m.shared_slices;
    const int32_t *ids = p.ids + (int64_t)token * m.k;
    uint8_t *const memory = shared_memory<uint8_t>();
    float *parts = (float *)memory, *factors = (float *)(memory + m.factors);
    uint16_t *halves = (uint16_t *)(memory + m.halves), *shared_halves = (uint16_t *)(memory + m.shared_halves);
    struct few_part<F> part = {
    };
    auto begin = [&](int i) {
        if (i < n_mine)
            few_begin<F>(part, p.w[0], cuda_tile(p.w[0], ids[i / m.n_slices], tile), i % m.n_slices);
        else
            few_begin<F>(part, p.w[1], cuda_tile(p.w[1], 0, tile), i - n_mine);
    };
    if (warp < n)
        begin(warp);
    make_halves([&](int k) { return (const float *)cuda_row(p.from, (int64_t)token * m.k + k); }, p.from.cols, p.pitch, m.k,
                halves, factors, factors + m.k + 1);
    if (m.shared_slices)
        make_halves([&](int) { return (const float *)cuda_row(p.shared, token); }, p.shared.cols, p.w[1].strips * 64, 1,
                    shared_halves, factors + m.k, factors + m.k + 1);
    __syncthreads();
    for (int i = warp; i < n; i += MIX_WARPS) {
        float acc[1][4] = {};
        const uint16_t *row = i < n_mine ? halves + i / m.n_slices * shared_pitch(p.pitch) : shared_halves;
        const uint4 *const x[1] = {g == 0 ? (const uint4 *)(row + 16 * t) : NULL}; /* one column of eight */
        if (i != warp)
            begin(i);
        few_multiply<F, 1>(part, p.w[i < n_mine ? 0 : 1].which, x, acc);
        if (t == 0) {
            parts[i * 16 + g] = acc[0][0];
            parts[i * 16 + g + 8] = acc[0][2];
        }
    }
    __syncthreads();
    auto sum_of = [&](int first, int n_slices) {
        float sum = 0;
        for (int s = 0; s < n_slices; s++)
            sum += parts[(first + s) * 16 + (int)threadIdx.x];
        return sum;
    };
    const int row = 16 * tile + (int)threadIdx.x;
    if (threadIdx.x < 16 && row < p.rows) {
        float y = 0;
        for (int e = 0; e < m.k; e++)
            y = fmaf(cuda_row(p.weights, token)[e],
                     sum_of(e * m.n_slices, m.n_slices) * (factors[e] * cuda_row_factor(p.w[0], ids[e], row)), y);
        if (m.shared_slices)
            y = fmaf(cuda_row(p.gates, token)[0],
                     sum_of(n_mine, m.shared_slices) * (factors[m.k] * cuda_row_factor(p.w[1], 0, row)), y);
        cuda_row(p.y, token)[row] = y;
    }
    norm_at_end(p.then, factors + m.k + 1);
}

template <typename F> static void mix_launch(struct cuda_stream *s, const char *op, const struct product *p)
{
    const dim3 grid((unsigned)((p->rows + FORM_TILE - 1) / FORM_TILE), (unsigned)(p->n / p->per_slot));
    cuda_launch(s, op, mix_kernel<F>, grid, MIX_WARPS * LANES, mix_plan_of(*p).bytes, *p);
}

/* ---- many -------------------------------------------------------------------------------------------------------------------------- */

/* Where chunk c (8 halves) of token n lies in a stage: turned, so that eight tokens' chunks lie in different banks. */
static __device__ __forceinline__ int chunk_at(int n, int c)
{
    return n * 128 + ((c ^ (n & 7)) * 16);
}

/*
 * Grid (tiles / 8 or 4, tiles of tokens of experts), or, of dense products, (tiles of tokens, tiles / 8 or 4): blocks begin along x, and those of one expert, or of the same weights, had
 * better be together, so that weights come from memory once. Shared: MANY_STAGES of 64 tokens of 64 halves. A warp that has no tokens helps to fetch.
 */
template <typename F, bool DUAL>
static __global__ void __launch_bounds__(MANY_WARPS *LANES, 1) many_kernel(const struct product p)
{
    const int lane = (int)threadIdx.x % LANES, warp = (int)threadIdx.x / LANES, g = lane / 4, t = lane % 4;
    const int i_tile = (int)(p.tiles ? blockIdx.x : blockIdx.y), i_tokens = (int)(p.tiles ? blockIdx.y : blockIdx.x);
    const struct product_tile part =
        p.tiles ? p.tiles[i_tokens]
                : product_tile{0, i_tokens * PRODUCT_TOKENS, min(PRODUCT_TOKENS, p.n - i_tokens * PRODUCT_TOKENS)};
    if (part.n <= 0)
        return;
    uint8_t *ring = shared_memory<uint8_t>();
    const int strips = p.w[0].strips, slice_strips = slice_strips_of(strips), n_tiles = (p.rows + FORM_TILE - 1) / FORM_TILE;
    const int tile = DUAL ? i_tile * 4 + warp % 4 : i_tile * 8 + 2 * (warp % 4), token0 = warp / 4 * 32;
    const int n_mine = (min(part.n - token0, 32) + 7) / 8; /* groups of 8 tokens that this warp has; 0 or less: none */
    /* past the last row a tile is computed again and thrown away */
    const uint8_t *from[2] = {cuda_tile(p.w[0], part.slice, p.tile0[0] + min(tile, n_tiles - 1)),
                              DUAL ? cuda_tile(p.w[1], part.slice, p.tile0[1] + min(tile, n_tiles - 1))
                                   : cuda_tile(p.w[0], part.slice, p.tile0[0] + min(tile + 1, n_tiles - 1))};
    /* this thread's two chunks of every stage */
    const uint16_t *source[2];
    bool is_there[2];
    for (int k = 0; k < 2; k++) {
        const int i = (int)threadIdx.x + k * MANY_WARPS * LANES, n = i / 8;
        is_there[k] = n < part.n;
        source[k] = p.x + (is_there[k] ? x_row_of(p, part.first + n) : 0) * p.pitch + i % 8 * 8;
    }
    auto fetch = [&](int strip) {
        if (strip < strips)
            for (int k = 0; k < 2; k++) {
                const int i = (int)threadIdx.x + k * MANY_WARPS * LANES;
                copy_async(ring + strip % MANY_STAGES * PRODUCT_TOKENS * 128 + chunk_at(i / 8, i % 8), source[k] + strip * 64,
                           is_there[k]);
            }
        copy_commit();
    };
    float acc[2][4][4] = {}, sum[2][4][4] = {};
    typename F::raw raw[2], next[2];
    for (int k = 0; k < 2 && n_mine > 0; k++)
        F::load(next[k], from[k], 0, lane, p.w[0].which);
    for (int i = 0; i < MANY_STAGES - 1; i++)
        fetch(i);
    for (int group = 0; group < strips / F::STRIPS; group++) {
#pragma unroll
        for (int k = 0; k < 2; k++) {
            raw[k] = next[k];
            if (group + 1 < strips / F::STRIPS && n_mine > 0)
                F::load(next[k], from[k], group + 1, lane, p.w[0].which);
        }
#pragma unroll
        for (int i = 0; i < F::STRIPS; i++) {
            const int strip = group * F::STRIPS + i;
            copy_wait<MANY_STAGES - 2>();
            __syncthreads();
            fetch(strip + MANY_STAGES - 1);
            if (n_mine <= 0)
                continue;
            const uint8_t *stage = ring + strip % MANY_STAGES * PRODUCT_TOKENS * 128;
            const form_scale f[2] = {F::scale(raw[0], i, lane), F::scale(raw[1], i, lane)};
#pragma unroll
            for (int h = 0; h < 2; h++) {
                uint4 b[4];
#pragma unroll
                for (int n = 0; n < 4; n++)
                    if (n < n_mine)
                        b[n] = *(const uint4 *)(stage + chunk_at(token0 + 8 * n + g, 2 * t + h));
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    uint32_t a[2][4];
                    F::step(raw[0], f[0], i, 2 * h + j, a[0]);
                    F::step(raw[1], f[1], i, 2 * h + j, a[1]);
#pragma unroll
                    for (int n = 0; n < 4; n++) {
                        if (n >= n_mine)
                            break;
                        const uint32_t pair[2] = {word_of(b[n], 2 * j), word_of(b[n], 2 * j + 1)};
                        mma_f16(acc[0][n], a[0], pair);
                        mma_f16(acc[1][n], a[1], pair);
                    }
                }
            }
            if ((strip + 1) % slice_strips == 0 || strip + 1 == strips)
#pragma unroll
                for (int k = 0; k < 2; k++)
#pragma unroll
                    for (int n = 0; n < 4; n++)
#pragma unroll
                        for (int c = 0; c < 4; c++) {
                            sum[k][n][c] += acc[k][n][c];
                            acc[k][n][c] = 0;
                        }
        }
    }
    copy_wait<0>();
#pragma unroll
    for (int n = 0; n < 4; n++)
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const int token = token0 + 8 * n + 2 * t + c % 2, r = g + 8 * (c / 2);
            if (token >= part.n)
                continue;
            const int slot = part.first + token;
            const float x_factor = p.x_factor[x_row_of(p, slot)];
            if (16 * tile + r < p.rows)
                finish<DUAL>(p, part.slice, 16 * tile + r, slot, x_factor, sum[0][n][c], sum[1][n][c]);
            if (!DUAL && 16 * (tile + 1) + r < p.rows)
                finish<DUAL>(p, part.slice, 16 * (tile + 1) + r, slot, x_factor, sum[1][n][c], 0);
        }
}

template <typename F, bool DUAL> static void many_launch(struct cuda_stream *s, const char *op, const struct product *p)
{
    const int tiles = (p->rows + FORM_TILE - 1) / FORM_TILE, per_block = DUAL ? 4 : 8;
    const unsigned of_weights = (unsigned)((tiles + per_block - 1) / per_block);
    const dim3 grid = p->tiles ? dim3(of_weights, (unsigned)p->n_tiles)
                               : dim3((unsigned)((p->n + PRODUCT_TOKENS - 1) / PRODUCT_TOKENS), of_weights);
    cuda_launch(s, op, many_kernel<F, DUAL>, grid, MANY_WARPS * LANES, (size_t)MANY_STAGES * PRODUCT_TOKENS * 128, *p);
}

template <typename F> static void product_launch(struct cuda_stream *s, const char *op, const struct product *p, int n)
{
    if (p->per_slot)
        mix_launch<F>(s, op, p);
    else if (p->tiles || (!p->ids && p->n > PRODUCT_ONCE && p->n > s->device->base.tuning[KN_FEW_ROWS][p->w[0].dtype]))
        for (int i = 0; i < n; i++)
            p->is_dual ? many_launch<F, true>(s, op, p + i) : many_launch<F, false>(s, op, p + i);
    else if (p->ids || p->n <= PRODUCT_ONCE)
        p->is_dual ? few_launch<F, 1, true>(s, op, p, n) : few_launch<F, 1, false>(s, op, p, n);
    else
        p->is_dual ? few_launch<F, 4, true>(s, op, p, n) : few_launch<F, 4, false>(s, op, p, n);
}

#endif
