/*
 * weights - GGUF rows to the device's tiles, and single rows back to floats.
 *
 * A lane of the repacking kernel makes the words that it will later read (forms.cuh): from the two rows g and g + 8 of its tile. Where only one of them is in a chunk of rows the
 * other's half of each word is kept: the memory begins as zeros, and every row comes once.
 */
#include "kernels/cuda/weights.cuh"

#include "kernels/cuda/arena.cuh"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/forms.cuh"

#define STAGE_BYTES ((size_t)8 << 20) /* of a buffer */
#define RANGE_BITS  14                /* BF16: the largest of a row becomes 2^14 ... 2^15, MXFP4: its scale 2^11 */

struct cuda_loader {
    pthread_mutex_t mutex;
    cudaStream_t stream; /* the device's */
    cudaEvent_t is_free[2];
    void *host[2], *device[2];
    int turn;
};

/* ---- reading GGUF blocks --------------------------------------------------------------------------------------------------------- */

static __device__ uint32_t read_u16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

/* A nibble of 16 bytes: the low ones are values 0 to 15, the high ones 16 to 31. */
static __device__ uint32_t nibble_of(const uint8_t *qs, int i)
{
    return i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
}

static __device__ uint32_t bit_of(const uint8_t *bits, int i)
{
    return bits[i / 8] >> (i % 8) & 1;
}

/* The code of a column: what forms.cuh's planes hold. */
static __device__ uint32_t code_of(enum kn_dtype dtype, const uint8_t *row, int col)
{
    const int b = col / 32, i = col % 32, v = col % 256, k = col / 256;
    switch (dtype) {
    case KN_Q4_0:
    case KN_IQ4_NL: return nibble_of(row + 18 * b + 2, i);
    case KN_Q4_1: return nibble_of(row + 20 * b + 4, i);
    case KN_Q5_0: return nibble_of(row + 22 * b + 6, i) | bit_of(row + 22 * b + 2, i) << 4;
    case KN_Q5_1: return nibble_of(row + 24 * b + 8, i) | bit_of(row + 24 * b + 4, i) << 4;
    case KN_Q8_0: return row[34 * b + 2 + i] ^ 0x80;
    case KN_Q2_K: return row[84 * k + 16 + 32 * (v / 128) + i] >> 2 * (v / 32 % 4) & 3;
    case KN_Q3_K:
        return (row[110 * k + 32 + 32 * (v / 128) + i] >> 2 * (v / 32 % 4) & 3) | (uint32_t)(row[110 * k + i] >> v / 32 & 1)
                                                                                      << 2;
    case KN_Q4_K: return row[144 * k + 16 + 32 * (v / 64) + i] >> 4 * (v / 32 % 2) & 15;
    case KN_Q5_K:
        return (row[176 * k + 48 + 32 * (v / 64) + i] >> 4 * (v / 32 % 2) & 15) |
               (uint32_t)(row[176 * k + 16 + i] >> v / 32 & 1) << 4;
    case KN_Q6_K: {
        const int n = v / 128, q = v / 32 % 4;
        const uint32_t low = row[210 * k + 64 * n + 32 * (q % 2) + i] >> 4 * (q / 2) & 15;
        return low | (uint32_t)(row[210 * k + 128 + 32 * n + i] >> 2 * q & 3) << 4;
    }
    case KN_IQ4_XS: return nibble_of(row + 136 * k + 8 + 16 * (v / 32), i);
    case KN_MXFP4: return nibble_of(row + 17 * b + 1, i);
    case KN_NVFP4: {
        const uint8_t q = row[36 * (col / 64) + 4 + 8 * (col / 16 % 4) + col % 8];
        return col % 16 < 8 ? q & 15 : q >> 4;
    }
    default: return read_u16(row + 2 * col);
    }
}

/* Scale and min of sub-block s of Q4_K and Q5_K. */
static __device__ uint32_t scale_and_min_of(const uint8_t *six, int s)
{
    if (s < 4)
        return (six[s] & 63) | (uint32_t)(six[s + 4] & 63) << 6;
    return (six[s + 4] & 15) | (uint32_t)(six[s - 4] >> 6) << 4 | (uint32_t)((six[s + 4] >> 4) | (six[s] >> 6) << 4) << 6;
}

/* Sub-scale k of 16 of Q3_K. */
static __device__ uint32_t scale_q3_k(const uint8_t *s, int k)
{
    return (k < 8 ? s[k] & 15 : s[k - 8] >> 4) | (uint32_t)(s[8 + k % 4] >> 2 * (k / 4) & 3) << 4;
}

static __device__ uint32_t scale_iq4_xs(const uint8_t *block, int s)
{
    return (block[4 + s / 2] >> 4 * (s % 2) & 15) | (read_u16(block + 2) >> 2 * s & 3) << 4;
}

static __device__ void put_bits(uint8_t *bytes, int at, uint32_t v, int n)
{
    for (int i = 0; i < n; i++)
        bytes[(at + i) / 8] = (uint8_t)((bytes[(at + i) / 8] & ~(1 << (at + i) % 8)) | (v >> i & 1) << (at + i) % 8);
}

static __device__ uint32_t get_bits(const uint8_t *bytes, int at, int n)
{
    uint32_t v = 0;
    for (int i = 0; i < n; i++)
        v |= (uint32_t)(bytes[(at + i) / 8] >> (at + i) % 8 & 1) << i;
    return v;
}

static __device__ void copy_bytes(uint8_t *dst, const uint8_t *src, int n)
{
    for (int i = 0; i < n; i++)
        dst[i] = src[i];
}

static __device__ void copy_halves(uint8_t *dst, const uint8_t *src, int n, float factor)
{
    for (int i = 0; i < n; i++) {
        uint32_t h = read_u16(src + 2 * i);
        if (factor != 1)
            h = pack_f16(unpack_f16(h).x / factor, 0);
        dst[2 * i] = (uint8_t)h;
        dst[2 * i + 1] = (uint8_t)(h >> 8);
    }
}

/* ---- geometry ---------------------------------------------------------------------------------------------------------------------- */

/* Of a type: strips and bytes of a group; where its planes and scales begin. */
struct layout {
    int strips, bytes;
    int bits;                      /* of a code: its planes are 8, 16, or 4, 2 and 1 as the sum says */
    int twos, ones, scales, lasts; /* where they begin */
};

static __host__ __device__ struct layout layout_of(enum kn_dtype dtype)
{
    switch (dtype) {
    case KN_Q4_0:
    case KN_IQ4_NL: return {1, 576, 4, 0, 0, 512, 0};
    case KN_Q4_1: return {1, 640, 4, 0, 0, 512, 0};
    case KN_Q5_0: return {1, 704, 5, 0, 512, 640, 0};
    case KN_Q5_1: return {1, 768, 5, 0, 512, 640, 0};
    case KN_Q8_0: return {1, form_q8_0::BYTES, 8, 0, 0, form_q8_0::SCALES, 0};
    case KN_Q2_K: return {4, 1344, 2, 0, 0, 1024, 1280};
    case KN_Q3_K: return {4, 1760, 3, 0, 1024, 1536, 1728};
    case KN_Q4_K: return {4, form_q4_k::BYTES, 4, 0, 0, form_q4_k::SCALES, 0};
    case KN_Q5_K: return {4, form_q5_k::BYTES, 5, 0, form_q5_k::ONES, form_q5_k::SCALES, 0};
    case KN_Q6_K: return {4, form_q6_k::BYTES, 6, form_q6_k::TWOS, 0, form_q6_k::SCALES, form_q6_k::DS};
    case KN_IQ4_XS: return {4, form_iq4_xs::BYTES, 4, 0, 0, form_iq4_xs::SCALES, 0};
    case KN_MXFP4: return {1, form_mxfp4::BYTES, 4, 0, 0, form_mxfp4::SCALES, 0};
    case KN_NVFP4: return {1, form_nvfp4::BYTES, 4, 0, 0, form_nvfp4::SCALES, 0};
    default: return {1, form_f16::BYTES, 16, 0, 0, 0, 0};
    }
}

static __device__ bool has_fours(int bits)
{
    return bits >= 4 && bits <= 6;
}

static __device__ bool has_twos(int bits)
{
    return bits == 2 || bits == 3 || bits == 6;
}

static __device__ bool has_ones(int bits)
{
    return bits == 3 || bits == 5;
}

static __device__ int half_exponent(float v)
{
    return (int)(bits_of(v) >> 23 & 255) - 127;
}

/* A row's BF16 value in the range of halves. */
static __device__ uint32_t bf16_to_half(uint32_t bits, float factor)
{
    return pack_f16(float_of(bits << 16) / factor, 0) & 0xffff; /* a power of two: exact but where a half has no room */
}

/* ---- repacking --------------------------------------------------------------------------------------------------------------------- */

struct repack {
    cuda_weight w;
    const uint8_t *src; /* rows first ... last - 1 of all slices' rows, in GGUF order */
    int64_t row_bytes, first, last;
};

/* Where the halves that scale a block lie, how many, and the largest exponent with which scales and products stay in the range of halves. */
struct halves_of {
    int block_elems, block_bytes, at, n, exponent;
};

static __device__ struct halves_of halves_of(enum kn_dtype dtype)
{
    switch (dtype) {
    case KN_Q4_0:
    case KN_IQ4_NL: return {32, 18, 0, 1, 7};
    case KN_Q4_1: return {32, 20, 0, 2, 7};
    case KN_Q5_0: return {32, 22, 0, 1, 7};
    case KN_Q5_1: return {32, 24, 0, 2, 7};
    case KN_Q8_0: return {32, 34, 0, 1, 7};
    case KN_Q2_K: return {256, 84, 80, 2, 3};
    case KN_Q3_K: return {256, 110, 108, 1, 3};
    case KN_Q4_K: return {256, 144, 0, 2, 3};
    case KN_Q5_K: return {256, 176, 0, 2, 3};
    case KN_Q6_K: return {256, 210, 208, 1, 3};
    case KN_IQ4_XS: return {256, 136, 0, 1, 3};
    default: return {0, 0, 0, 0, 0};
    }
}

/*
 * A row a block: the power of two that brings it to the range of halves. BF16 always, and MXFP4's scales; the scales of other types where they are so large (which real weights are not) that
 * scale times sub-scale times code would leave that range.
 */
static __global__ void factor_kernel(struct repack p)
{
    const int64_t row = p.first + blockIdx.x;
    const uint8_t *src = p.src + (row - p.first) * p.row_bytes;
    const struct halves_of h = halves_of(p.w.dtype);
    float most = -1000;
    if (p.w.dtype == KN_MXFP4)
        for (int i = (int)threadIdx.x; i < p.w.cols / 32; i += (int)blockDim.x)
            most = fmaxf(most, src[17 * i]);
    else if (p.w.dtype == KN_BF16)
        for (int i = (int)threadIdx.x; i < p.w.cols; i += (int)blockDim.x) {
            const int u = (int)read_u16(src + 2 * i) & 0x7fff;
            most = u && u < 0x7f80 ? fmaxf(most, u < 0x80 ? -126.0f : (float)((u >> 7) - 127)) : most;
        }
    else
        for (int i = (int)threadIdx.x; i < p.w.cols / h.block_elems * h.n; i += (int)blockDim.x) {
            const int u = (int)read_u16(src + i / h.n * h.block_bytes + h.at + i % h.n * 2) >> 10 & 31;
            most = u < 31 ? fmaxf(most, (float)(u - 15)) : most;
        }
    most = block_max(most, shared_memory<float>());
    if (threadIdx.x != 0)
        return;
    const int e = (int)most;
    const int shift = p.w.dtype == KN_MXFP4              ? e - 128 - 11
                      : p.w.dtype == KN_BF16 && e > -500 ? e - RANGE_BITS
                      : e > h.exponent && h.n > 0        ? e - h.exponent
                                                         : 0;
    p.w.factors[row / p.w.rows * p.w.tiles * FORM_TILE + row % p.w.rows] = ldexpf(1.0f, shift);
}

/* What a row's scales look like in its tile; the row's GGUF blocks of the group begin at column col0. */
static __device__ void repack_scales(const struct repack &p, uint8_t *group, int r, const uint8_t *row, int col0,
                                     int64_t i_factor)
{
    const struct layout l = layout_of(p.w.dtype);
    const float factor = p.w.factors ? p.w.factors[i_factor] : 1;
    uint8_t *scales = group + l.scales;
    const int b = col0 / 32, k = col0 / 256, n = p.w.cols - col0 < 64 ? 1 : 2; /* blocks of 32 in this strip */
    switch (p.w.dtype) {
    case KN_Q4_0:
    case KN_IQ4_NL:
        for (int i = 0; i < n; i++)
            copy_halves(scales + 4 * r + 2 * i, row + 18 * (b + i), 1, factor);
        break;
    case KN_Q4_1:
        for (int i = 0; i < n; i++)
            copy_halves(scales + 8 * r + 4 * i, row + 20 * (b + i), 2, factor);
        break;
    case KN_Q5_0:
        for (int i = 0; i < n; i++)
            copy_halves(scales + 4 * r + 2 * i, row + 22 * (b + i), 1, factor);
        break;
    case KN_Q5_1:
        for (int i = 0; i < n; i++)
            copy_halves(scales + 8 * r + 4 * i, row + 24 * (b + i), 2, factor);
        break;
    case KN_Q8_0:
        for (int i = 0; i < n; i++)
            copy_halves(scales + 4 * r + 2 * i, row + 34 * (b + i), 1, factor);
        break;
    case KN_Q2_K:
        for (int i = 0; i < 16; i++) /* lane's columns first */
            scales[16 * r + 4 * (i % 4) + i / 4] = row[84 * k + i];
        copy_halves(group + l.lasts + 4 * r, row + 84 * k + 80, 2, factor);
        break;
    case KN_Q3_K:
        for (int i = 0; i < 16; i++)
            put_bits(scales + 12 * r, 6 * (4 * (i % 4) + i / 4), scale_q3_k(row + 110 * k + 96, i), 6);
        copy_halves(group + l.lasts + 2 * r, row + 110 * k + 108, 1, factor);
        break;
    case KN_Q4_K:
    case KN_Q5_K: {
        const uint8_t *block = row + (p.w.dtype == KN_Q4_K ? 144 : 176) * k;
        copy_halves(scales + 16 * r, block, 2, factor);
        for (int s = 0; s < 8; s++)
            for (int i = 0; i < 12; i++)
                put_bits(scales + 16 * r + 4, scale_bit_of(s % 2, 12 * (s / 2) + i), scale_and_min_of(block + 4, s) >> i & 1,
                         1);
        break;
    }
    case KN_Q6_K:
        for (int i = 0; i < 16; i++)
            scales[16 * r + 4 * (i % 4) + i / 4] = row[210 * k + 192 + i];
        copy_halves(group + l.lasts + 2 * r, row + 210 * k + 208, 1, factor);
        break;
    case KN_IQ4_XS:
        copy_halves(scales + 8 * r, row + 136 * k, 1, factor);
        for (int s = 0; s < 8; s++)
            put_bits(scales + 8 * r + 2, 6 * (4 * (s % 2) + s / 2), scale_iq4_xs(row + 136 * k, s), 6);
        break;
    case KN_MXFP4: {
        const int largest = half_exponent(factor) + 128 + 11;
        for (int i = 0; i < n; i++)
            scales[2 * r + i] = (uint8_t)(largest - row[17 * (b + i)]);
        break;
    }
    case KN_NVFP4: copy_bytes(scales + 4 * r, row + 36 * (col0 / 64), 4); break;
    default: break;
    }
}

/* A warp a group: grid (groups, tiles of the chunk). */
static __global__ void repack_kernel(struct repack p, int64_t first_tile)
{
    const int64_t at = first_tile + blockIdx.y, slice = at / p.w.tiles, tile = at % p.w.tiles;
    const int lane = (int)threadIdx.x, g = lane / 4, t = lane % 4;
    const struct layout l = layout_of(p.w.dtype);
    uint8_t *group = p.w.data + at * p.w.tile_bytes + (int64_t)blockIdx.x * l.bytes;
    const uint8_t *row[2];
    bool is_whole = true;
    for (int k = 0; k < 2; k++) {
        const int64_t r = 16 * tile + g + 8 * k, i = slice * p.w.rows + r;
        const bool is_here = r < p.w.rows && i >= p.first && i < p.last;
        row[k] = is_here ? p.src + (i - p.first) * p.row_bytes : NULL;
        is_whole = is_whole && is_here;
        if (is_here && t == 0)
            repack_scales(p, group, g + 8 * k, row[k], (int)blockIdx.x * 64 * l.strips,
                          (slice * p.w.tiles + tile) * 16 + g + 8 * k);
    }
    for (int strip = 0; strip < l.strips; strip++) {
        uint32_t words[16] = {0}, twos[2] = {0}, ones = 0; /* words: of the planes of 4, 8 and 16 bits */
        for (int i = 0; i < FORM_STEPS; i++)
            for (int j = 0; j < 4; j++)
                for (int e = 0; e < 2; e++) {
                    const int col = ((int)blockIdx.x * l.strips + strip) * FORM_STRIP + 16 * t + 4 * i + 2 * (j >> 1) + e;
                    const uint8_t *from = row[j & 1];
                    if (!from || col >= p.w.cols)
                        continue;
                    const uint32_t c = code_of(p.w.dtype, from, col);
                    if (l.bits == 16)
                        words[4 * i + j] |=
                            (p.w.factors ? bf16_to_half(c, p.w.factors[(slice * p.w.tiles + tile) * 16 + g + 8 * (j & 1)]) : c)
                            << 16 * e;
                    else if (l.bits == 8)
                        words[2 * i + (j >> 1)] |= c << (16 * (j & 1) + 8 * e);
                    else if (has_fours(l.bits))
                        words[i] |= (c & 15) << (4 * j + 16 * e);
                    if (has_twos(l.bits))
                        twos[i / 2] |= (l.bits == 6 ? c >> 4 & 3 : c & 3) << (2 * (4 * (i & 1) + j) + 16 * e);
                    if (has_ones(l.bits))
                        ones |= c >> (l.bits - 1) << (4 * i + j + 16 * e);
                }
        const int n_words = l.bits == 16 ? 16 : l.bits == 8 ? 8 : has_fours(l.bits) ? 4 : 0;
        for (int i = 0; i < n_words; i++) {
            uint32_t *to = (uint32_t *)(group + 128 * n_words * strip + 512 * (i / 4) + 16 * lane) + i % 4;
            *to = is_whole ? words[i] : *to | words[i];
        }
        for (int i = 0; i < 2 && has_twos(l.bits); i++) {
            uint32_t *to = (uint32_t *)(group + l.twos + 256 * strip + 8 * lane) + i;
            *to = is_whole ? twos[i] : *to | twos[i];
        }
        if (has_ones(l.bits)) {
            uint32_t *to = (uint32_t *)(group + l.ones + 128 * strip + 4 * lane);
            *to = is_whole ? ones : *to | ones;
        }
    }
}

/* ---- loading ----------------------------------------------------------------------------------------------------------------------- */

static int failed(struct err *err, cudaError_t e, const char *what)
{
    return err_set(err, e == cudaErrorMemoryAllocation ? ERR_NOMEM : ERR_DEVICE, "%s: %s", what, cudaGetErrorString(e));
}

void cuda_loader_close(struct cuda_loader *l)
{
    if (!l)
        return;
    for (int i = 0; i < 2; i++) {
        cudaFreeHost(l->host[i]);
        cudaFree(l->device[i]);
        if (l->is_free[i])
            cudaEventDestroy(l->is_free[i]);
    }
    pthread_mutex_destroy(&l->mutex);
    free(l);
}

int cuda_loader_open(cudaStream_t stream, struct cuda_loader **ret_loader, struct err *err)
{
    struct cuda_loader *l = (struct cuda_loader *)calloc(1, sizeof *l);
    if (!l)
        return err_set(err, ERR_NOMEM, "out of memory");
    pthread_mutex_init(&l->mutex, NULL);
    cudaError_t e = cudaSuccess;
    l->stream = stream;
    for (int i = 0; i < 2 && e == cudaSuccess; i++) {
        e = cudaMallocHost(&l->host[i], STAGE_BYTES);
        if (e == cudaSuccess)
            e = cudaMalloc(&l->device[i], STAGE_BYTES);
        if (e == cudaSuccess)
            e = cudaEventCreateWithFlags(&l->is_free[i], cudaEventDisableTiming);
    }
    if (e != cudaSuccess) {
        cuda_loader_close(l);
        return err_set(err, e == cudaErrorMemoryAllocation ? ERR_NOMEM : ERR_DEVICE,
                       "buffers for loading, 2 x %zu MiB here and on the device: %s", (size_t)STAGE_BYTES >> 20,
                       cudaGetErrorString(e));
    }
    *ret_loader = l;
    return 0;
}

static int old_type_of(enum kn_dtype dtype)
{
    switch (dtype) {
    case KN_Q4_0: return OLD_Q4_0;
    case KN_Q4_1: return OLD_Q4_1;
    case KN_Q5_0: return OLD_Q5_0;
    case KN_Q5_1: return OLD_Q5_1;
    case KN_IQ4_NL: return OLD_IQ4_NL;
    case KN_Q2_K: return OLD_Q2_K;
    case KN_Q3_K: return OLD_Q3_K;
    default: return -1;
    }
}

/* What a weight is like, all but its memory. */
static struct cuda_weight shape_of(const struct kn_weight *weight)
{
    const struct layout l = layout_of(weight->dtype);
    struct cuda_weight w = {};
    w.dtype = weight->dtype;
    w.rows = weight->rows, w.cols = weight->cols, w.slices = weight->slices;
    w.tiles = (w.rows + FORM_TILE - 1) / FORM_TILE;
    w.groups = (w.cols + FORM_STRIP * l.strips - 1) / (FORM_STRIP * l.strips);
    w.strips = w.groups * l.strips;
    w.tile_bytes = (int64_t)w.groups * l.bytes;
    w.which = old_type_of(w.dtype);
    return w;
}

static size_t data_bytes(const struct cuda_weight *w)
{
    if (w->dtype == KN_F32)
        return (size_t)w->slices * (size_t)w->rows * (size_t)w->cols * sizeof(float);
    return (size_t)w->tiles * (size_t)w->slices * (size_t)w->tile_bytes;
}

/* 0: all are 1. */
static size_t factor_bytes(const struct cuda_weight *w)
{
    const bool has_factors = w->dtype != KN_F32 && w->dtype != KN_F16 && w->dtype != KN_NVFP4;
    return has_factors ? (size_t)w->tiles * (size_t)w->slices * FORM_TILE * sizeof(float) : 0;
}

size_t cuda_weight_bytes(const struct kn_device *device, const struct kn_weight *weight)
{
    const struct cuda_weight w = shape_of(weight);
    const size_t scales = weight->scales || w.dtype == KN_NVFP4 ? (size_t)w.slices * sizeof(float) : 0;
    return cuda_arena_round(data_bytes(&w)) + cuda_arena_round(factor_bytes(&w)) + cuda_arena_round(scales);
}

int cuda_weight_begin(struct kn_device *device, struct kn_weight *weight, struct err *err)
{
    const struct cuda_device *d = cuda_device_of(device);
    struct cuda_weight *w = (struct cuda_weight *)calloc(1, sizeof *w);
    if (!w)
        return err_set(err, ERR_NOMEM, "out of memory");
    *w = shape_of(weight);
    const size_t bytes = data_bytes(w), factors = factor_bytes(w);
    cudaError_t e = cudaSetDevice(d->index);
    if (e == cudaSuccess)
        e = cuda_arena_take(d->arenas, bytes, (void **)&w->data);
    if (e == cudaSuccess && factors > 0)
        e = cuda_arena_take(d->arenas, factors, (void **)&w->factors);
    if (e == cudaSuccess)
        e = cudaMemsetAsync(w->data, 0, bytes, d->aside);
    if (e == cudaSuccess && factors > 0)
        e = cudaMemsetAsync(w->factors, 0, factors, d->aside);
    weight->data = w;
    weight->data_bytes = bytes;
    weight->packed = 1;
    if (e == cudaSuccess)
        return 0;
    cuda_weight_free(device, weight);
    weight->data = NULL;
    return err_set(err, e == cudaErrorMemoryAllocation ? ERR_NOMEM : ERR_DEVICE,
                   "a weight of %s, %d x %d x %d, %.3f GiB on the device: %s", kn_dtype_name(weight->dtype), weight->slices,
                   weight->rows, weight->cols, (double)(bytes + factors) / 0x1p30, cudaGetErrorString(e));
}

/* Rows that fit into a buffer: up, and into their tiles. */
static cudaError_t load_piece(struct cuda_loader *l, const struct cuda_weight *w, int64_t first, int64_t n, size_t row_bytes,
                              const char *src)
{
    const int turn = l->turn;
    l->turn = !turn;
    cudaError_t e = cudaEventSynchronize(l->is_free[turn]);
    if (e != cudaSuccess)
        return e;
    memcpy(l->host[turn], src, (size_t)n * row_bytes);
    if (w->dtype == KN_F32) {
        e = cudaMemcpyAsync(w->data + (size_t)first * row_bytes, l->host[turn], (size_t)n * row_bytes, cudaMemcpyHostToDevice,
                            l->stream);
        return e == cudaSuccess ? cudaEventRecord(l->is_free[turn], l->stream) : e;
    }
    e = cudaMemcpyAsync(l->device[turn], l->host[turn], (size_t)n * row_bytes, cudaMemcpyHostToDevice, l->stream);
    if (e != cudaSuccess)
        return e;
    const struct repack p = {*w, (const uint8_t *)l->device[turn], (int64_t)row_bytes, first, first + n};
    if (w->factors)
        e = cuda_launch_on(l->stream, factor_kernel, dim3((unsigned)n), 128, LANES * sizeof(float), p);
    const int64_t last = first + n - 1, tile0 = first / w->rows * w->tiles + first % w->rows / FORM_TILE,
                  tile1 = last / w->rows * w->tiles + last % w->rows / FORM_TILE;
    for (int64_t tile = tile0; tile <= tile1 && e == cudaSuccess; tile += 65535) {
        const int64_t n_tiles = tile1 - tile + 1 < 65535 ? tile1 - tile + 1 : 65535;
        e = cuda_launch_on(l->stream, repack_kernel, dim3((unsigned)w->groups, (unsigned)n_tiles), LANES, 0, p, tile);
    }
    return e == cudaSuccess ? cudaEventRecord(l->is_free[turn], l->stream) : e;
}

int cuda_weight_rows(struct kn_device *device, struct kn_weight *weight, int64_t first_row, int64_t n_rows,
                     const void *host_src, struct err *err)
{
    const struct cuda_device *d = cuda_device_of(device);
    const size_t row_bytes = kn_row_bytes(weight->dtype, weight->cols);
    const int64_t most = (int64_t)(STAGE_BYTES / row_bytes);
    if (most < 1)
        return err_set(err, ERR_UNSUPPORTED, "a weight's row of %zu bytes is longer than the buffers for loading", row_bytes);
    cudaError_t e = cudaSetDevice(d->index);
    pthread_mutex_lock(&d->loader->mutex);
    for (int64_t i = 0; i < n_rows && e == cudaSuccess; i += most)
        e = load_piece(d->loader, cuda_weight_of(weight), first_row + i, n_rows - i < most ? n_rows - i : most, row_bytes,
                       (const char *)host_src + (size_t)i * row_bytes);
    pthread_mutex_unlock(&d->loader->mutex);
    return e == cudaSuccess ? 0 : failed(err, e, "loading a weight");
}

int cuda_weight_end(struct kn_device *device, struct kn_weight *weight, struct err *err)
{
    const struct cuda_device *d = cuda_device_of(device);
    struct cuda_weight *w = (struct cuda_weight *)weight->data;
    cudaError_t e = cudaSetDevice(d->index);
    if (weight->scales && e == cudaSuccess) {
        e = cuda_arena_take(d->arenas, (size_t)w->slices * sizeof(float), (void **)&w->scales);
        if (e == cudaSuccess)
            e = cudaMemcpyAsync(w->scales, weight->scales, (size_t)w->slices * sizeof(float), cudaMemcpyHostToDevice, d->aside);
    }
    if (e == cudaSuccess)
        e = cudaStreamSynchronize(d->aside);
    return e == cudaSuccess ? 0 : failed(err, e, "loading a weight");
}

void cuda_weight_free(struct kn_device *device, struct kn_weight *weight)
{
    struct cuda_weight *w = (struct cuda_weight *)weight->data;
    const struct cuda_device *d = cuda_device_of(device);
    cudaSetDevice(d->index);
    cuda_arena_give(d->arenas, w->data);
    cuda_arena_give(d->arenas, w->factors);
    cuda_arena_give(d->arenas, w->scales);
    free(w);
}

/* ---- rows back ----------------------------------------------------------------------------------------------------------------------- */

/* Where a column's code lies in its strip: lane, step, pair, which of the two. */
static __device__ uint32_t packed_code(const struct layout &l, const uint8_t *group, int r, int col)
{
    const int strip = col / FORM_STRIP, c = col % FORM_STRIP, lane = 4 * (r % 8) + c / 16, i = c % 16 / 4,
              j = r / 8 + 2 * (c % 4 / 2), e = c % 2;
    const int n_words = l.bits == 16  ? 16
                        : l.bits == 8 ? 8
                                      : 4,
              at = l.bits == 16  ? 4 * i + j
                   : l.bits == 8 ? 2 * i + (j >> 1)
                                 : i;
    const uint32_t w = ((const uint32_t *)(group + 128 * n_words * strip + 512 * (at / 4) + 16 * lane))[at % 4];
    if (l.bits == 16)
        return w >> 16 * e & 0xffff;
    if (l.bits == 8)
        return w >> (16 * (j & 1) + 8 * e) & 0xff;
    uint32_t v = has_fours(l.bits) ? w >> (4 * j + 16 * e) & 15 : 0;
    if (has_twos(l.bits))
        v |= (((const uint32_t *)(group + l.twos + 256 * strip + 8 * lane))[i / 2] >> (2 * (4 * (i & 1) + j) + 16 * e) & 3)
             << (l.bits == 6 ? 4 : 0);
    if (has_ones(l.bits))
        v |= (*(const uint32_t *)(group + l.ones + 128 * strip + 4 * lane) >> (4 * i + j + 16 * e) & 1) << (l.bits - 1);
    return v;
}

static __device__ float half_at(const uint8_t *p, float factor)
{
    return unpack_f16(read_u16(p)).x * factor;
}

static __device__ float iq4_value(uint32_t code)
{
    return (float)(int)(iq4_bytes(code) & 0xff) - 128.0f;
}

static __device__ float fp4_value(uint32_t code)
{
    uint32_t a[4];
    fp4_values(code, a);
    return unpack_f16(a[0]).x;
}

static __device__ float e4m3_value(uint32_t code)
{
    return code == 0x7f ? 0.0f : unpack_f16((code & 0x7f) << 7).x * 256.0f;
}

/* A weight as kn_dequantize has it: the same operations, none fused. */
static __device__ float value_of(const cuda_weight &w, int64_t row, int col)
{
    const struct layout l = layout_of(w.dtype);
    const int r = (int)(row % FORM_TILE), v = col % (FORM_STRIP * l.strips), half = v % FORM_STRIP / 32, strip = v / FORM_STRIP;
    const uint8_t *group = cuda_tile(w, 0, (int)(row / FORM_TILE)) + (int64_t)(col / (FORM_STRIP * l.strips)) * l.bytes,
                  *s = group + l.scales;
    const float q = (float)packed_code(l, group, r, v), factor = w.factors ? w.factors[row] : 1;
    const int sub = 4 * (v % FORM_STRIP / 16) + strip, sub32 = 4 * half + strip;
    switch (w.dtype) {
    case KN_Q4_0: return mul_once(half_at(s + 4 * r + 2 * half, factor), q - 8);
    case KN_IQ4_NL: return mul_once(half_at(s + 4 * r + 2 * half, factor), iq4_value((uint32_t)q));
    case KN_Q4_1:
    case KN_Q5_1:
        return add_once(mul_once(half_at(s + 8 * r + 4 * half, factor), q), half_at(s + 8 * r + 4 * half + 2, factor));
    case KN_Q5_0: return mul_once(half_at(s + 4 * r + 2 * half, factor), q - 16);
    case KN_Q8_0: return mul_once(half_at(s + 4 * r + 2 * half, factor), q - 128);
    case KN_Q2_K: {
        const uint8_t *d = group + l.lasts + 4 * r;
        const int b = s[16 * r + sub];
        return add_once(mul_once(mul_once(half_at(d, factor), (float)(b & 15)), q),
                        -mul_once(half_at(d + 2, factor), (float)(b >> 4)));
    }
    case KN_Q3_K:
        return mul_once(mul_once(half_at(group + l.lasts + 2 * r, factor), (float)get_bits(s + 12 * r, 6 * sub, 6) - 32),
                        q - 4);
    case KN_Q4_K:
    case KN_Q5_K: {
        uint32_t p = 0;
        for (int i = 0; i < 12; i++)
            p |= get_bits(s + 16 * r + 4, scale_bit_of(half, 12 * strip + i), 1) << i;
        const float ds = mul_once(half_at(s + 16 * r, factor), (float)(p & 63)),
                    ms = mul_once(half_at(s + 16 * r + 2, factor), (float)(p >> 6));
        return add_once(mul_once(ds, q), -ms);
    }
    case KN_Q6_K: return mul_once(mul_once(half_at(group + l.lasts + 2 * r, factor), (float)(int8_t)s[16 * r + sub]), q - 32);
    case KN_IQ4_XS:
        return mul_once(mul_once(half_at(s + 8 * r, factor), (float)get_bits(s + 8 * r + 2, 6 * sub32, 6) - 32),
                        iq4_value((uint32_t)q));
    case KN_MXFP4: return mul_once(ldexpf(factor, 11 - s[2 * r + half]), fp4_value((uint32_t)q));
    case KN_NVFP4: return mul_once(0.5f * e4m3_value(s[4 * r + v / 16]), fp4_value((uint32_t)q));
    default: return mul_once(unpack_f16((uint32_t)q).x, factor);
    }
}

/* A block a row. */
static __global__ void embed_kernel(const struct kn_step *step, cuda_weight w, struct kn_mat y)
{
    const int t = (int)blockIdx.x;
    if (t >= step->n_rows)
        return;
    const int32_t token = step->tokens[t];
    if (token < 0 || token >= w.rows)
        return;
    const float scale = w.scales ? w.scales[0] : 1.0f;
    for (int i = (int)threadIdx.x; i < w.cols; i += (int)blockDim.x) {
        const float v = w.dtype == KN_F32 ? ((const float *)w.data)[(int64_t)token * w.cols + i] : value_of(w, token, i);
        cuda_row(y, t)[i] = w.scales ? mul_once(v, scale) : v;
    }
}

void cuda_embed(struct kn_stream *stream, const struct kn_embed_args *a)
{
    cuda_launch(cuda_stream_of(stream), "embed", embed_kernel, dim3((unsigned)a->y.rows), 256, 0, a->step,
                *cuda_weight_of(a->table), a->y);
}
