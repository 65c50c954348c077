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

/* Interleave one field of one block of n rows (the first of them at lane `lane`). */
static void put_field(uint8_t *dst, const uint8_t *src, size_t row_bytes, int lane, int n, struct pack_field f)
{
    switch (f.grain) {
    case 1:
        for (int i = 0; i < f.bytes; i++)
            for (int r = 0; r < n; r++)
                dst[i * PACK_ROWS + lane + r] = src[(size_t)r * row_bytes + (size_t)i];
        break;
    case 2:
        for (int i = 0; i < f.bytes; i += 2)
            for (int r = 0; r < n; r++)
                memcpy(dst + i * PACK_ROWS + 2 * (lane + r), src + (size_t)r * row_bytes + i, 2);
        break;
    default:
        for (int i = 0; i < f.bytes; i += 4)
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
        for (int32_t b = 0; b < s->n_blocks; b++) {
            const uint8_t *block = from + (size_t)b * l->block_bytes;
            for (int i = 0; i < l->n_head; i++) {
                put_field(head, block + l->head[i].off, row_bytes, lane, m, l->head[i]);
                head += l->head[i].bytes * PACK_ROWS;
            }
            for (int i = 0; i < l->n_body; i++) {
                put_field(body, block + l->body[i].off, row_bytes, lane, m, l->body[i]);
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
