/* pack - the interleaved weight layout; see pack.h. */
#include "kernels/cpu/pack.h"

#include <string.h>

#define F(type, member, grain_)                                                                                                \
    {                                                                                                                          \
        (uint8_t) offsetof(struct kn_block_##type, member), sizeof(((struct kn_block_##type *)0)->member), grain_              \
    }
#define D(type)                                                                                                                \
    {                                                                                                                          \
        (uint8_t) offsetof(struct kn_block_##type, d), 2, 2                                                                    \
    }

/* d and m (or dmin) are the heads; the rest in the order the kernels read it. Sums are checked in pack_shape_init. */
static const struct pack_layout layouts[KN_DTYPE_COUNT] = {
    [KN_F32] = {1, 4, 0, 4, {{0}}, {{0, 4, 4}}, 0, 1},
    [KN_F16] = {1, 2, 0, 2, {{0}}, {{0, 2, 2}}, 0, 1},
    [KN_BF16] = {1, 2, 0, 2, {{0}}, {{0, 2, 2}}, 0, 1},
    [KN_Q4_0] = {32, 18, 2, 16, {D(q4_0)}, {F(q4_0, qs, 4)}, 1, 1},
    [KN_Q4_1] = {32, 20, 4, 16, {D(q4_1), {2, 2, 2}}, {F(q4_1, qs, 4)}, 2, 1},
    [KN_Q5_0] = {32, 22, 2, 20, {D(q5_0)}, {F(q5_0, qh, 4), F(q5_0, qs, 4)}, 1, 2},
    [KN_Q5_1] = {32, 24, 4, 20, {D(q5_1), {2, 2, 2}}, {F(q5_1, qh, 4), F(q5_1, qs, 4)}, 2, 2},
    [KN_Q8_0] = {32, 34, 2, 32, {D(q8_0)}, {F(q8_0, qs, 4)}, 1, 1},
    [KN_Q2_K] = {256, 84, 4, 80, {D(q2_k), {82, 2, 2}}, {F(q2_k, scales, 1), F(q2_k, qs, 4)}, 2, 2},
    [KN_Q3_K] = {256, 110, 2, 108, {D(q3_k)}, {F(q3_k, scales, 1), F(q3_k, hmask, 4), F(q3_k, qs, 4)}, 1, 3},
    [KN_Q4_K] = {256, 144, 4, 140, {D(q4_k), {2, 2, 2}}, {F(q4_k, scales, 1), F(q4_k, qs, 4)}, 2, 2},
    [KN_Q5_K] = {256, 176, 4, 172, {D(q5_k), {2, 2, 2}}, {F(q5_k, scales, 1), F(q5_k, qh, 4), F(q5_k, qs, 4)}, 2, 3},
    [KN_Q6_K] = {256, 210, 2, 208, {D(q6_k)}, {F(q6_k, scales, 1), F(q6_k, qh, 4), F(q6_k, ql, 4)}, 1, 3},
    [KN_IQ4_NL] = {32, 18, 2, 16, {D(iq4_nl)}, {F(iq4_nl, qs, 4)}, 1, 1},
    [KN_IQ4_XS] = {256, 136, 4, 132, {D(iq4_xs), {2, 2, 2}}, {F(iq4_xs, scales_l, 1), F(iq4_xs, qs, 4)}, 2, 2},
    [KN_MXFP4] = {32, 17, 1, 16, {{0, 1, 1}}, {F(mxfp4, qs, 4)}, 1, 1},
    [KN_NVFP4] = {64, 36, 4, 32, {F(nvfp4, d, 1)}, {F(nvfp4, qs, 4)}, 1, 1},
};

const struct pack_layout *pack_layout_of(enum kn_dtype dtype)
{
    if ((unsigned)dtype >= KN_DTYPE_COUNT || !layouts[dtype].elems)
        return NULL;
    return &layouts[dtype];
}

bool pack_shape_init(struct pack_shape *s, enum kn_dtype dtype, int32_t rows, int32_t cols)
{
    const struct pack_layout *l = pack_layout_of(dtype);
    if (!l || rows <= 0 || cols <= 0 || cols % l->elems)
        return false;
    *s = (struct pack_shape){.layout = l, .dtype = dtype, .rows = rows, .cols = cols, .n_blocks = cols / l->elems};
    s->n_groups = (rows + PACK_ROWS - 1) / PACK_ROWS;
    s->head_bytes = ((size_t)s->n_blocks * l->head_bytes * PACK_ROWS + 63) & ~(size_t)63;
    s->group_bytes = s->head_bytes + (((size_t)s->n_blocks * l->body_bytes * PACK_ROWS + 63) & ~(size_t)63);
    s->slice_bytes = s->group_bytes * (size_t)s->n_groups;
    return true;
}

/* ---- whole groups: transposes in registers of 16 bytes, which every processor has ---- */

typedef uint8_t v16u8 __attribute__((vector_size(16)));
typedef uint16_t v8u16 __attribute__((vector_size(16)));
typedef uint32_t v4u32 __attribute__((vector_size(16)));
typedef uint64_t v2u64 __attribute__((vector_size(16)));

#define LOW16(a, b)  __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH16(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define LOW32(a, b)  __builtin_shufflevector((v4u32)(a), (v4u32)(b), 0, 4, 1, 5)
#define HIGH32(a, b) __builtin_shufflevector((v4u32)(a), (v4u32)(b), 2, 6, 3, 7)
#define LOW64(a, b)  __builtin_shufflevector((v2u64)(a), (v2u64)(b), 0, 2)
#define HIGH64(a, b) __builtin_shufflevector((v2u64)(a), (v2u64)(b), 1, 3)
#define EVEN8(a, b)  __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define ODD8(a, b)   __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)

static inline v4u32 load_16(const uint8_t *p)
{
    v4u32 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t load_4(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Four bytes of 4 rows. */
static inline v16u8 load_4x4(const uint8_t *p, size_t row_bytes)
{
    return (v16u8)(v4u32){load_4(p), load_4(p + row_bytes), load_4(p + 2 * row_bytes), load_4(p + 3 * row_bytes)};
}

/* Four bytes of 16 rows, one by one. */
static inline void put_bytes_4(uint8_t *dst, const uint8_t *src, size_t row_bytes)
{
    const v16u8 a = load_4x4(src, row_bytes), b = load_4x4(src + 4 * row_bytes, row_bytes);
    const v16u8 c = load_4x4(src + 8 * row_bytes, row_bytes), d = load_4x4(src + 12 * row_bytes, row_bytes);
    const v16u8 e0 = EVEN8(a, b), e1 = EVEN8(c, d), o0 = ODD8(a, b), o1 = ODD8(c, d);
    const v16u8 out[4] = {EVEN8(e0, e1), EVEN8(o0, o1), ODD8(e0, e1), ODD8(o0, o1)};
    memcpy(dst, out, sizeof out);
}

/* 16 bytes of 8 rows in pieces of 2. */
static inline void put_pairs_16(uint8_t *dst, const uint8_t *src, size_t row_bytes)
{
    v8u16 a[8], b[8];
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++)
        a[r] = (v8u16)load_16(src + (size_t)r * row_bytes);
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) { /* rows r and r + 4 */
        b[2 * r] = LOW16(a[r], a[r + 4]);
        b[2 * r + 1] = HIGH16(a[r], a[r + 4]);
    }
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) { /* values 4 h .. 4 h + 3 of rows 0 4, 1 5, 2 6, 3 7 */
        const v8u16 even0 = LOW16(b[h], b[h + 4]), even1 = HIGH16(b[h], b[h + 4]);
        const v8u16 odd0 = LOW16(b[h + 2], b[h + 6]), odd1 = HIGH16(b[h + 2], b[h + 6]);
        const v8u16 out[4] = {LOW16(even0, odd0), HIGH16(even0, odd0), LOW16(even1, odd1), HIGH16(even1, odd1)};
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            memcpy(dst + (size_t)(4 * h + k) * 2 * PACK_ROWS, &out[k], 16);
    }
}

/* 16 bytes of 4 rows in pieces of 4. */
static inline void put_quads_16(uint8_t *dst, const uint8_t *src, size_t row_bytes)
{
    const v4u32 a = load_16(src), b = load_16(src + row_bytes), c = load_16(src + 2 * row_bytes),
                d = load_16(src + 3 * row_bytes);
    const v4u32 low0 = LOW32(a, b), low1 = LOW32(c, d), high0 = HIGH32(a, b), high1 = HIGH32(c, d);
    const v2u64 out[4] = {LOW64(low0, low1), HIGH64(low0, low1), LOW64(high0, high1), HIGH64(high0, high1)};
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        memcpy(dst + (size_t)k * 4 * PACK_ROWS, &out[k], 16);
}

/* As put_some for a whole group, as far as it goes; returns the bytes of a row that are done. */
static size_t put_group(uint8_t *dst, const uint8_t *src, size_t row_bytes, size_t bytes, int grain)
{
    const size_t whole = grain == 1 ? bytes & ~(size_t)3 : bytes & ~(size_t)15;
    if (grain == 1) {
        for (size_t i = 0; i < whole; i += 4)
            put_bytes_4(dst + i * PACK_ROWS, src + i, row_bytes);
        return whole;
    }
    /* line by line: rows may lie such that a cache holds no 16 of them at a time */
    for (size_t line = 0; line < whole; line += 64) {
        const size_t end = line + 64 < whole ? line + 64 : whole;
        for (int r = 0; r < PACK_ROWS; r += grain == 2 ? 8 : 4) {
            const uint8_t *from = src + (size_t)r * row_bytes;
            uint8_t *to = dst + grain * r;
            if (grain == 2)
                for (size_t i = line; i < end; i += 16)
                    put_pairs_16(to + i * PACK_ROWS, from + i, row_bytes);
            else
                for (size_t i = line; i < end; i += 16)
                    put_quads_16(to + i * PACK_ROWS, from + i, row_bytes);
        }
    }
    return whole;
}

/* ---- any rows ---- */

/* Interleave `bytes` bytes of n rows (the first of them at lane `lane`) in pieces of `grain`. */
static void put_some(uint8_t *dst, const uint8_t *src, size_t row_bytes, int lane, int n, size_t bytes, int grain)
{
    size_t i = n == PACK_ROWS ? put_group(dst, src, row_bytes, bytes, grain) : 0;
    switch (grain) {
    case 1:
        for (; i < bytes; i++)
            for (int r = 0; r < n; r++)
                dst[i * PACK_ROWS + (size_t)(lane + r)] = src[(size_t)r * row_bytes + i];
        break;
    case 2:
        for (; i < bytes; i += 2)
            for (int r = 0; r < n; r++)
                memcpy(dst + i * PACK_ROWS + 2 * (lane + r), src + (size_t)r * row_bytes + i, 2);
        break;
    default:
        for (; i < bytes; i += 4)
            for (int r = 0; r < n; r++)
                memcpy(dst + i * PACK_ROWS + 4 * (lane + r), src + (size_t)r * row_bytes + i, 4);
    }
}

static void get_field(uint8_t *dst, const uint8_t *src, int lane, struct pack_field f)
{
    for (int i = 0; i < f.bytes; i += f.grain)
        memcpy(dst + i, src + i * PACK_ROWS + f.grain * lane, f.grain);
}

void pack_rows(const struct pack_shape *s, void *slice, int32_t first, int32_t n, const void *src)
{
    const struct pack_layout *l = s->layout;
    size_t row_bytes = (size_t)s->n_blocks * l->block_bytes;
    const uint8_t *from = src;
    while (n > 0) {
        int lane = first % PACK_ROWS;
        int m = PACK_ROWS - lane < n ? PACK_ROWS - lane : n;
        uint8_t *head = (uint8_t *)slice + (size_t)(first / PACK_ROWS) * s->group_bytes;
        uint8_t *body = head + s->head_bytes;
        if (l->elems == 1) /* blocks of one value: a row is one long field */
            put_some(body, from, row_bytes, lane, m, row_bytes, l->body[0].grain);
        for (int32_t b = 0; b < s->n_blocks && l->elems > 1; b++) {
            const uint8_t *block = from + (size_t)b * l->block_bytes;
            for (int i = 0; i < l->n_head; i++) {
                put_some(head, block + l->head[i].off, row_bytes, lane, m, l->head[i].bytes, l->head[i].grain);
                head += l->head[i].bytes * PACK_ROWS;
            }
            for (int i = 0; i < l->n_body; i++) {
                put_some(body, block + l->body[i].off, row_bytes, lane, m, l->body[i].bytes, l->body[i].grain);
                body += l->body[i].bytes * PACK_ROWS;
            }
        }
        from += (size_t)m * row_bytes;
        first += m;
        n -= m;
    }
}

void pack_get_row(const struct pack_shape *s, const void *slice, int32_t row, int32_t b0, int32_t n, void *dst)
{
    const struct pack_layout *l = s->layout;
    int lane = row % PACK_ROWS;
    const uint8_t *group = (const uint8_t *)slice + (size_t)(row / PACK_ROWS) * s->group_bytes;
    uint8_t *to = dst;
    for (int32_t b = b0; b < b0 + n; b++, to += l->block_bytes) {
        const uint8_t *head = group + (size_t)b * l->head_bytes * PACK_ROWS;
        const uint8_t *body = group + s->head_bytes + (size_t)b * l->body_bytes * PACK_ROWS;
        for (int i = 0; i < l->n_head; i++) {
            get_field(to + l->head[i].off, head, lane, l->head[i]);
            head += l->head[i].bytes * PACK_ROWS;
        }
        for (int i = 0; i < l->n_body; i++) {
            get_field(to + l->body[i].off, body, lane, l->body[i]);
            body += l->body[i].bytes * PACK_ROWS;
        }
    }
}
