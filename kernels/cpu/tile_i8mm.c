/*
 * tile_i8mm - the matrix kernels at level "i8mm": those of NEON, but products of many rows on instructions that multiply two small matrices.
 *
 * SMMLA takes 8 inputs of two rows and of two outputs and adds to their four sums; BFMMLA the same with 4 inputs. So panels lie in pairs of outputs, and rows are brought together in
 * pairs. A square of sums has the two outputs of one row, then those of the other; scales lie doubled in panels, so that squares are scaled as they are, and only what leaves a panel is
 * put in the order of rows. Eight outputs of four rows are eight squares, and as many again for what a part of a block adds: with operands and scales that fills the registers.
 *
 * Results are those of the other levels, to the bit: integers are exact, and what floats there are is added in the same order (tile.h).
 *
 * Source: Arm Architecture Reference Manual for A-profile architecture (DDI 0487), SMMLA and BFMMLA (vector).
 */
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/tile.h"

#include <arm_neon.h>

#define ROWS      4 /* taken together */
#define ROWS_BF16 8

/* What stands in a panel's `high`, which this level has no other use for. */
struct doubled {
    union {
        int32_t iscale[TILE_K / 16][8][4]; /* [part][pair of outputs]: each of a pair, twice */
        float scale[TILE_K / 16][8][4];
    };
    union {
        int16_t ioffset[TILE_K / 16][16]; /* [part][output] */
        float offset[TILE_K / 32][8][4];
    };
};

_Static_assert(sizeof(struct doubled) <= sizeof((struct tile_panel){0}.high), "what there is room for");

static struct doubled *doubled_of(struct tile_panel *p)
{
    return (struct doubled *)p->high;
}

/* ---- panels ---- */

INL int32x4_t low_half(int32x4_t a, int32x4_t b)
{
    return (int32x4_t)vzip1q_s64((int64x2_t)a, (int64x2_t)b);
}
INL int32x4_t high_half(int32x4_t a, int32x4_t b)
{
    return (int32x4_t)vzip2q_s64((int64x2_t)a, (int64x2_t)b);
}

/* Four outputs' words as two pairs, each twice. */
INL void put_doubled(int32_t to[2][4], int32x4_t a)
{
    vst1q_s32(to[0], low_half(a, a));
    vst1q_s32(to[1], high_half(a, a));
}

/* Weights [k / 4][output][k % 4] become [k / 8][pair][output % 2][k % 8], less their bias: in place, 128 bytes at a time. */
static void pair_weights(struct tile_panel *p, int32_t n_k, int bias)
{
    const int8x16_t b = vdupq_n_s8((int8_t)bias);
    for (int32_t k = 0; k < n_k / 4; k += 2) {
        int8_t *low = (int8_t *)p->w[k], *high = (int8_t *)p->w[k + 1];
        int32x4_t l[4], h[4];
        UNROLL for (int q = 0; q < 4; q++)
        {
            l[q] = (int32x4_t)vsubq_s8(vld1q_s8(low + 16 * q), b);
            h[q] = (int32x4_t)vsubq_s8(vld1q_s8(high + 16 * q), b);
        }
        UNROLL for (int q = 0; q < 4; q++)
        {
            vst1q_s8(low + 32 * q, (int8x16_t)vzip1q_s32(l[q], h[q]));
            vst1q_s8(low + 32 * q + 16, (int8x16_t)vzip2q_s32(l[q], h[q]));
        }
    }
}

/* The offsets of two parts, four outputs. */
INL void split_side(const int32_t *side, int16_t *first, int16_t *second)
{
    const int16x8_t s = (int16x8_t)vld1q_s32(side);
    vst1_s16(first, vget_low_s16(vuzp1q_s16(s, s)));
    vst1_s16(second, vget_low_s16(vuzp2q_s16(s, s)));
}

/* bias: what unpacked weights have too much. */
#define UNPACK_LONG(T, TYPE, SUB, HAS_OFFSET, BIAS)                                                                            \
    static void unpack_##T(const uint8_t *head, const uint8_t *body, int32_t first, int32_t n, struct tile_panel *panel)       \
    {                                                                                                                          \
        struct doubled *to = doubled_of(panel);                                                                                \
        tile_neon.type[TYPE].unpack(head, body, first, n, panel);                                                              \
        pair_weights(panel, TILE_K, BIAS);                                                                                     \
        for (int s = 0; s < TILE_K / (SUB); s++)                                                                               \
            for (int q = 0; q < 4; q++) {                                                                                      \
                put_doubled(&to->iscale[s][2 * q], vld1q_s32(panel->iscale[s] + 4 * q));                                       \
                if (HAS_OFFSET && s % 2 == 0)                                                                                  \
                    split_side(panel->side[s / 2] + 4 * q, to->ioffset[s] + 4 * q, to->ioffset[s + 1] + 4 * q);                \
            }                                                                                                                  \
    }

UNPACK_LONG(q2_k, KN_Q2_K, 16, true, 0)
UNPACK_LONG(q3_k, KN_Q3_K, 16, false, 4)
UNPACK_LONG(q4_k, KN_Q4_K, 32, true, 0)
UNPACK_LONG(q5_k, KN_Q5_K, 32, true, 0)
UNPACK_LONG(q6_k, KN_Q6_K, 16, false, 32)
UNPACK_LONG(iq4_xs, KN_IQ4_XS, 32, false, 0)

#define UNPACK_SHORT(T, TYPE, ELEMS, SUB, HAS_OFFSET, BIAS)                                                                    \
    static void unpack_##T(const uint8_t *head, const uint8_t *body, int32_t first, int32_t n, struct tile_panel *panel)       \
    {                                                                                                                          \
        struct doubled *to = doubled_of(panel);                                                                                \
        tile_neon.type[TYPE].unpack(head, body, first, n, panel);                                                              \
        pair_weights(panel, n *(ELEMS), BIAS);                                                                                 \
        for (int s = 0; s < n * (ELEMS) / (SUB); s++)                                                                          \
            for (int q = 0; q < 4; q++) {                                                                                      \
                put_doubled(&to->iscale[s][2 * q], vld1q_s32(panel->iscale[s] + 4 * q));                                       \
                if (HAS_OFFSET)                                                                                                \
                    put_doubled((int32_t(*)[4]) & to->offset[s][2 * q], (int32x4_t)vld1q_f32(panel->offset[s] + 4 * q));       \
            }                                                                                                                  \
    }

UNPACK_SHORT(q8_0, KN_Q8_0, 32, 32, false, 0)
UNPACK_SHORT(q4_0, KN_Q4_0, 32, 32, false, 8)
UNPACK_SHORT(q4_1, KN_Q4_1, 32, 32, true, 0)
UNPACK_SHORT(q5_0, KN_Q5_0, 32, 32, false, 16)
UNPACK_SHORT(q5_1, KN_Q5_1, 32, 32, true, 0)
UNPACK_SHORT(iq4_nl, KN_IQ4_NL, 32, 32, false, 0)
UNPACK_SHORT(mxfp4, KN_MXFP4, 32, 32, false, 0)
UNPACK_SHORT(nvfp4, KN_NVFP4, 64, 16, false, 0)

/* ---- rows ---- */

/* Four rows in pairs; those that are not there are the last one again. */
struct brought {
    int8_t x[TILE_K / 8][2][16];  /* [k / 8][pair][row % 2][k % 8] */
    float ad[TILE_K / 32][2][4];  /* short: as a square has its rows */
    float sum[TILE_K / 32][2][4]; /* and of types with offsets */
    const struct tile_act *act[ROWS];
    int n;
} __attribute__((aligned(64)));

struct kind {
    int sub; /* inputs per scale: 32 or 16 */
    bool has_offset;
};

static void bring(const struct kind k, enum tile_grain grain, const struct tile_row *rows, int n_rows, int32_t k0, int32_t n_k,
                  struct brought *to)
{
    to->n = n_rows < ROWS ? n_rows : ROWS;
    for (int r = 0; r < ROWS; r++)
        to->act[r] = &rows[r < to->n ? r : to->n - 1].act[grain];
    for (int pair = 0; pair < 2; pair++) {
        const struct tile_act *a = to->act[2 * pair], *b = to->act[2 * pair + 1];
        for (int32_t i = 0; i < n_k; i += 16) {
            const int32x4_t u = (int32x4_t)vld1q_s8(a->q + k0 + i), v = (int32x4_t)vld1q_s8(b->q + k0 + i);
            vst1q_s8(to->x[i / 8][pair], (int8x16_t)low_half(u, v));
            vst1q_s8(to->x[i / 8 + 1][pair], (int8x16_t)high_half(u, v));
        }
        for (int32_t s = 0; s < n_k / 32 && grain == TILE_SHORT; s++) {
            const int32_t at = k0 / 32 + s;
            vst1q_f32(to->ad[s][pair], vcombine_f32(vdup_n_f32(a->ad[at]), vdup_n_f32(b->ad[at])));
            if (k.has_offset)
                vst1q_f32(to->sum[s][pair], vcombine_f32(vdup_n_f32(a->fsum32[at]), vdup_n_f32(b->fsum32[at])));
        }
    }
}

/* The sums of part s of a panel: eight outputs from `first` on, of four rows. */
INL void part_squares(const struct kind k, const struct brought *x, const struct tile_panel *p, const int first, int s,
                      int32x4_t t[2][4])
{
    UNROLL for (int i = 0; i < 4; i++) t[0][i] = t[1][i] = vdupq_n_s32(0);
    UNROLL for (int c = 0; c < k.sub / 8; c++)
    {
        const int32_t at = s * (k.sub / 8) + c;
        const int8_t *w = (const int8_t *)p->w[2 * at] + 8 * first;
        const int8x16_t a = vld1q_s8(x->x[at][0]), b = vld1q_s8(x->x[at][1]);
        UNROLL for (int i = 0; i < 4; i++)
        {
            const int8x16_t v = vld1q_s8(w + 16 * i);
            t[0][i] = vmmlaq_s32(t[0][i], a, v);
            t[1][i] = vmmlaq_s32(t[1][i], b, v);
        }
    }
}

/* ---- long types ---- */

/* acc[r][0..8) += outputs first .. first + 7 of a block. */
INL void long_tile(const struct kind k, const struct brought *x, const struct tile_panel *p, const int first, int32_t k0,
                   float *acc)
{
    const struct doubled *d = (const struct doubled *)p->high;
    int32x4_t sum[2][4], less[ROWS][2];
    UNROLL for (int i = 0; i < 4; i++) sum[0][i] = sum[1][i] = vdupq_n_s32(0);
    for (int s = 0; s < TILE_K / k.sub; s++) {
        int32x4_t t[2][4];
        part_squares(k, x, p, first, s, t);
        UNROLL for (int i = 0; i < 4; i++)
        {
            const int32x4_t f = vld1q_s32(d->iscale[s][first / 2 + i]);
            sum[0][i] = vmlaq_s32(sum[0][i], t[0][i], f);
            sum[1][i] = vmlaq_s32(sum[1][i], t[1][i], f);
        }
    }
    UNROLL for (int r = 0; r < ROWS; r++) less[r][0] = less[r][1] = vdupq_n_s32(0);
    for (int s = 0; s < TILE_K / k.sub && k.has_offset; s++) {
        const int16x8_t of = vld1q_s16(d->ioffset[s] + first);
        UNROLL for (int r = 0; r < ROWS; r++)
        {
            const int16_t of_x = k.sub == 32 ? x->act[r]->sum32[k0 / 32 + s] : x->act[r]->sum16[k0 / 16 + s];
            less[r][0] = vmlal_n_s16(less[r][0], vget_low_s16(of), of_x);
            less[r][1] = vmlal_high_n_s16(less[r][1], of, of_x);
        }
    }
    UNROLL for (int r = 0; r < ROWS; r++)
    {
        const float ad = x->act[r]->ad[k0 / TILE_K];
        if (r < x->n)
            UNROLL for (int h = 0; h < 2; h++)
            {
                const int32x4_t u = sum[r / 2][2 * h], v = sum[r / 2][2 * h + 1];
                const int at = first + 4 * h;
                float *to = acc + 32 * r + 4 * h;
                float32x4_t c = vfmaq_f32(vld1q_f32(to), vcvtq_f32_s32(r % 2 ? high_half(u, v) : low_half(u, v)),
                                          vmulq_n_f32(vld1q_f32(p->d + at), ad));
                if (k.has_offset)
                    c = vfmsq_f32(c, vcvtq_f32_s32(less[r][h]), vmulq_n_f32(vld1q_f32(p->m + at), ad));
                vst1q_f32(to, c);
            }
    }
}

/* ---- short types ---- */

/* acc[r][0..8) += the n_parts of a panel, one after the other. */
INL void short_tile(const struct kind k, const struct brought *x, const struct tile_panel *p, const int first, int n_parts,
                    float *acc)
{
    const struct doubled *d = (const struct doubled *)p->high;
    float32x4_t c[2][4];
    float32x2_t zero = vdup_n_f32(0);
    UNROLL for (int r = 0; r < 2; r++) UNROLL for (int i = 0; i < 4; i++) c[r][i] = vcombine_f32(
        2 * r < x->n ? vld1_f32(acc + 64 * r + 2 * i) : zero, 2 * r + 1 < x->n ? vld1_f32(acc + 64 * r + 32 + 2 * i) : zero);
    for (int s = 0; s < n_parts; s++) {
        int32x4_t t[2][4];
        part_squares(k, x, p, first, s, t);
        const int at = s * k.sub / 32;
        UNROLL for (int i = 0; i < 4; i++)
        {
            const float32x4_t f = vld1q_f32(d->scale[s][first / 2 + i]);
            UNROLL for (int r = 0; r < 2; r++) c[r][i] =
                vfmaq_f32(c[r][i], vmulq_f32(vcvtq_f32_s32(t[r][i]), vld1q_f32(x->ad[at][r])), f);
            if (k.has_offset)
                UNROLL for (int r = 0; r < 2; r++) c[r][i] =
                    vfmsq_f32(c[r][i], vld1q_f32(d->offset[s][first / 2 + i]), vld1q_f32(x->sum[at][r]));
        }
    }
    UNROLL for (int r = 0; r < ROWS; r++)
    {
        if (r < x->n)
            UNROLL for (int i = 0; i < 4; i++)
                vst1_f32(acc + 32 * r + 2 * i, r % 2 ? vget_high_f32(c[r / 2][i]) : vget_low_f32(c[r / 2][i]));
    }
}

INL void gemm_any(const struct kind k, const bool is_long, const struct tile_panel *panels, int n_panels, int32_t k0,
                  int32_t n_k, const struct tile_row *rows, int n_rows, float *acc)
{
    struct brought x;
    for (; n_rows > 0; n_rows -= ROWS, rows += ROWS, acc += 32 * ROWS) {
        bring(k, is_long ? TILE_LONG : TILE_SHORT, rows, n_rows, k0, n_k, &x);
        for (int i = 0; i < 2 * n_panels; i++) {
            if (is_long)
                long_tile(k, &x, &panels[i / 2], i % 2 * 8, k0, acc + 8 * i);
            else
                short_tile(k, &x, &panels[i / 2], i % 2 * 8, n_k / k.sub, acc + 8 * i);
        }
    }
}

#define GEMM(name, IS_LONG, SUB, HAS_OFFSET)                                                                                   \
    static void name(const struct tile_panel *panels, int n_panels, int32_t k0, int32_t n_k, const struct tile_row *rows,      \
                     int n_rows, float *acc)                                                                                   \
    {                                                                                                                          \
        gemm_any((struct kind){SUB, HAS_OFFSET}, IS_LONG, panels, n_panels, k0, n_k, rows, n_rows, acc);                       \
    }

GEMM(gemm_short_32, false, 32, false)
GEMM(gemm_short_32_offset, false, 32, true)
GEMM(gemm_short_16, false, 16, false)
GEMM(gemm_long_32, true, 32, false)
GEMM(gemm_long_32_offset, true, 32, true)
GEMM(gemm_long_16, true, 16, false)
GEMM(gemm_long_16_offset, true, 16, true)

/* ---- bfloat16 ---- */

static void round_bf16(const float *x, int32_t n, uint16_t *y)
{
    for (int32_t i = 0; i < (n + 31) / 32 * 32; i += 16) {
        const v16 v = i + 16 <= n ? v_load(x + i) : i < n ? v_load_n(x + i, n - i) : v_zero();
        vst1q_bf16((bfloat16_t *)(y + i), vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(v.a), v.b));
        vst1q_bf16((bfloat16_t *)(y + i + 8), vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(v.c), v.d));
    }
}

/* Sixteen weights of one input, rounded. */
struct sixteen {
    uint16x8_t lo, hi;
};

INL struct sixteen take_half(enum kn_dtype type, const uint8_t *body, int32_t k)
{
    const uint16_t *at = (const uint16_t *)body + 16 * (int64_t)k;
    if (type == KN_BF16)
        return (struct sixteen){vld1q_u16(at), vld1q_u16(at + 8)};
    const v16 v = v_load_f16(at);
    return (struct sixteen){(uint16x8_t)vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(v.a), v.b),
                            (uint16x8_t)vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(v.c), v.d)};
}

/* Four inputs of eight outputs, as [pair][output % 2][k % 4]. */
INL void put_pairs(uint16_t *to, uint16x8_t a, uint16x8_t b, uint16x8_t c, uint16x8_t d)
{
    const uint32x4_t ab = (uint32x4_t)vzip1q_u16(a, b), ab2 = (uint32x4_t)vzip2q_u16(a, b);
    const uint32x4_t cd = (uint32x4_t)vzip1q_u16(c, d), cd2 = (uint32x4_t)vzip2q_u16(c, d);
    vst1q_u16(to, (uint16x8_t)vzip1q_u32(ab, cd));
    vst1q_u16(to + 8, (uint16x8_t)vzip2q_u32(ab, cd));
    vst1q_u16(to + 16, (uint16x8_t)vzip1q_u32(ab2, cd2));
    vst1q_u16(to + 24, (uint16x8_t)vzip2q_u32(ab2, cd2));
}

/* The panel is [k / 4][pair][output % 2][k % 4] here: 64 values for each 4 inputs. */
static void unpack_bf16(enum kn_dtype type, const uint8_t *body, int32_t first, int32_t n, struct tile_panel *panel)
{
    const struct sixteen none = {vdupq_n_u16(0), vdupq_n_u16(0)};
    for (int32_t k = 0; k < (n + 31) / 32 * 32; k += 4) {
        uint16_t *to = (uint16_t *)panel->h + 16 * k;
        struct sixteen w[4];
        UNROLL for (int i = 0; i < 4; i++) w[i] = k + i < n ? take_half(type, body, first + k + i) : none;
        put_pairs(to, w[0].lo, w[1].lo, w[2].lo, w[3].lo);
        put_pairs(to + 32, w[0].hi, w[1].hi, w[2].hi, w[3].hi);
    }
}

/* Eight rows by eight outputs. */
INL void bf16_tile(const uint16_t *x, const uint16_t *w, int32_t n_k, float *acc)
{
    float32x4_t c[ROWS_BF16 / 2][4];
    UNROLL for (int r = 0; r < ROWS_BF16 / 2; r++) UNROLL for (int i = 0; i < 4; i++) c[r][i] =
        vcombine_f32(vld1_f32(acc + 64 * r + 2 * i), vld1_f32(acc + 64 * r + 32 + 2 * i));
    for (int32_t k = 0; k < n_k; k += 4, x += 4 * ROWS_BF16, w += 64) {
        bfloat16x8_t a[ROWS_BF16 / 2];
        UNROLL for (int r = 0; r < ROWS_BF16 / 2; r++) a[r] = (bfloat16x8_t)vld1q_u16(x + 8 * r);
        UNROLL for (int i = 0; i < 4; i++)
        {
            const bfloat16x8_t b = (bfloat16x8_t)vld1q_u16(w + 8 * i);
            UNROLL for (int r = 0; r < ROWS_BF16 / 2; r++) c[r][i] = vbfmmlaq_f32(c[r][i], a[r], b);
        }
    }
    UNROLL for (int r = 0; r < ROWS_BF16 / 2; r++) UNROLL for (int i = 0; i < 4; i++)
    {
        vst1_f32(acc + 64 * r + 2 * i, vget_low_f32(c[r][i]));
        vst1_f32(acc + 64 * r + 32 + 2 * i, vget_high_f32(c[r][i]));
    }
}

static void gemm_bf16(const struct tile_panel *panels, int n_panels, int32_t n_k, const uint16_t *x, int64_t stride, int n_rows,
                      float *acc)
{
    uint16_t near[TILE_K / 4][ROWS_BF16 / 2][8] __attribute__((aligned(64))); /* [k / 4][pair][row % 2][k % 4] */
    n_k = (n_k + 31) / 32 * 32;
    for (; n_rows > 0; n_rows -= ROWS_BF16, x += ROWS_BF16 * stride, acc += 32 * ROWS_BF16) {
        for (int r = 0; r < ROWS_BF16; r += 2)
            for (int32_t k = 0; k < n_k; k += 8) {
                const int32x4_t a = (int32x4_t)vld1q_u16(x + r * stride + k),
                                b = (int32x4_t)vld1q_u16(x + (r + 1) * stride + k);
                vst1q_u16(near[k / 4][r / 2], (uint16x8_t)low_half(a, b));
                vst1q_u16(near[k / 4 + 1][r / 2], (uint16x8_t)high_half(a, b));
            }
        for (int i = 0; i < 2 * n_panels; i++)
            bf16_tile(near[0][0], (const uint16_t *)panels[i / 2].h + i % 2 * 32, n_k, acc + 8 * i);
    }
}

/* ---- the table ---- */

void tile_i8mm_init(struct tile_kernels *ret)
{
    static const struct {
        enum kn_dtype type;
        void (*unpack)(const uint8_t *, const uint8_t *, int32_t, int32_t, struct tile_panel *);
        void (*gemm)(const struct tile_panel *, int, int32_t, int32_t, const struct tile_row *, int, float *);
    } ours[] = {
        {KN_Q8_0, unpack_q8_0, gemm_short_32},        {KN_Q4_0, unpack_q4_0, gemm_short_32},
        {KN_Q4_1, unpack_q4_1, gemm_short_32_offset}, {KN_Q5_0, unpack_q5_0, gemm_short_32},
        {KN_Q5_1, unpack_q5_1, gemm_short_32_offset}, {KN_IQ4_NL, unpack_iq4_nl, gemm_short_32},
        {KN_MXFP4, unpack_mxfp4, gemm_short_32},      {KN_NVFP4, unpack_nvfp4, gemm_short_16},
        {KN_Q2_K, unpack_q2_k, gemm_long_16_offset},  {KN_Q3_K, unpack_q3_k, gemm_long_16},
        {KN_Q4_K, unpack_q4_k, gemm_long_32_offset},  {KN_Q5_K, unpack_q5_k, gemm_long_32_offset},
        {KN_Q6_K, unpack_q6_k, gemm_long_16},         {KN_IQ4_XS, unpack_iq4_xs, gemm_long_32},
    };
    *ret = tile_neon;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        ret->type[ours[i].type].unpack = ours[i].unpack;
        ret->type[ours[i].type].gemm = ours[i].gemm;
    }
    ret->bf16.round = round_bf16;
    ret->bf16.unpack = unpack_bf16;
    ret->bf16.gemm = gemm_bf16;
}
