/* tile_body - the kernels of tile.h, written once on lanes.h; each tile_<isa>.c includes it under its own flags. */
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/tile.h"

/* The parts of a block: constant shifts, worth the code where there are registers to keep a whole part in. */
#if defined(__AVX512F__)
#define UNROLL_PARTS UNROLL
#else
#define UNROLL_PARTS
#endif

/* How many rows x panels are in flight: by the number of vector registers. */
#if defined(__AVX512F__)
#define FUSED_ROWS  4
#define GEMM_PANELS 2
#define GEMM_ROWS   4
#define GEMMF_ROWS  8
#elif defined(__AVX2__) || defined(LANES_NEON)
#define FUSED_ROWS  2
#define GEMM_PANELS 1
#define GEMM_ROWS   2
#define GEMMF_ROWS  4
#else
#define FUSED_ROWS  1
#define GEMM_PANELS 1
#define GEMM_ROWS   1
#define GEMMF_ROWS  1
#endif

/* ---- activations ---- */

/* The largest magnitude of n values, a multiple of 16: magnitudes compare as integers, and a NaN is the largest of them: it reaches the scale and so the result. */
INL float largest(const float *x, int32_t n)
{
    vi16 mask = vi_set1(0x7fffffff), most = vi_set1(0);
    for (int32_t i = 0; i < n; i += 16)
        most = vi_max(most, vi_and(v_ibits(v_load(x + i)), mask));
    const int32_t bits = vi_hmax(most);
    float amax;
    memcpy(&amax, &bits, sizeof amax);
    return amax;
}

INL int32_t quantize16(const float *x, float inv, int8_t *q)
{
    vi16 v = v_to_i(v_mul(v_load(x), v_set1(inv)));
    vi_store_i8(q, v);
    return vi_sum(v);
}

INL void quantize_by(const float *x, int32_t n, const int32_t per, const struct tile_act *a)
{
    for (int32_t b = 0; b < n / per; b++) {
        const float amax = largest(x + per * b, per);
        const float d = amax / 127.0f, inv = amax >= 1e-30f ? 127.0f / amax : 0.0f;
        a->ad[b] = d;
        for (int32_t s = b * (per / 32); s < (b + 1) * (per / 32); s++) {
            const int32_t lo = quantize16(x + 32 * s, inv, a->q + 32 * s),
                          hi = quantize16(x + 32 * s + 16, inv, a->q + 32 * s + 16);
            a->sum16[2 * s] = (int16_t)lo;
            a->sum16[2 * s + 1] = (int16_t)hi;
            a->sum32[s] = (int16_t)(lo + hi);
            if (per == 32) {
                a->fsum16[2 * s] = d * (float)lo;
                a->fsum16[2 * s + 1] = d * (float)hi;
                a->fsum32[s] = d * (float)(lo + hi);
            }
        }
    }
}

static void quantize(const float *x, int32_t n, const struct tile_act *a)
{
    quantize_by(x, n, 32, a);
}

static void quantize_long(const float *x, int32_t n, const struct tile_act *a)
{
    quantize_by(x, n, 256, a);
}

/* ---- unpacking, type by type ----
 *
 * prep_<type> reads the head (and small scales) of a block into struct prep; part_<type> gives inputs PART * i ... of the block
 * as bytes w[PART / 4], with scale (and offset) per part: floats, for long types integers. Layouts: dtype.h and pack.c.
 */

struct prep {
    v16 d, m;
    uint8_t sc[16][16]; /* small scales, [sub-block][output] */
    uint8_t mn[8][16];
};

INL b64 b_low(b64 a)
{
    return b_and(a, b_set1(15));
}
#ifndef LANES_HIGH
INL b64 b_high(b64 a)
{
    return b_and(b_srl(a, 4), b_set1(15));
}
#endif

/* 16 bytes of nibbles per output: low nibbles are inputs 0..15, high ones 16..31. */
INL void nibbles32(const uint8_t *qs, b64 *w)
{
    UNROLL for (int j = 0; j < 4; j++)
    {
        b64 v = b_load(qs + 64 * j);
        w[j] = b_low(v);
        w[4 + j] = b_high(v);
    }
}

INL void prep_q8_0(const uint8_t *head, const uint8_t *body, struct prep *p)
{
    p->d = v_load_f16((const uint16_t *)head);
}
INL void part_q8_0(const uint8_t *body, const struct prep *p, int i, b64 *w, v16 *sf, v16 *of)
{
    UNROLL for (int j = 0; j < 8; j++) w[j] = b_signed(b_load(body + 64 * j));
    sf[0] = p->d;
}

#define prep_q4_0 prep_q8_0
INL void part_q4_0(const uint8_t *body, const struct prep *p, int i, b64 *w, v16 *sf, v16 *of)
{
    nibbles32(body, w);
    sf[0] = p->d;
}

INL void prep_q4_1(const uint8_t *head, const uint8_t *body, struct prep *p)
{
    p->d = v_load_f16((const uint16_t *)head);
    p->m = v_sub(v_zero(), v_load_f16((const uint16_t *)(head + 32)));
}
INL void part_q4_1(const uint8_t *body, const struct prep *p, int i, b64 *w, v16 *sf, v16 *of)
{
    nibbles32(body, w);
    sf[0] = p->d;
    of[0] = p->m;
}

/* The fifth bits lie as one 32-bit word per output, bit v for input v: four of them spread over the bytes of a lane by a
 * product. */
INL void nibbles32_q5(const uint8_t *body, b64 *w)
{
    nibbles32(body + 64, w);
    vi16 h;
    b64 raw = b_load(body);
    memcpy(&h, &raw, sizeof h);
    UNROLL for (int j = 0; j < 8; j++)
    {
        vi16 bits = vi_mul(vi_and(vi_srl(h, 4 * j), vi_set1(15)), vi_set1(0x00204081));
        w[j] = b_or(w[j], b_sll(b_of_i(vi_and(bits, vi_set1(0x01010101))), 4));
    }
}
#define prep_q5_0 prep_q8_0
INL void part_q5_0(const uint8_t *body, const struct prep *p, int i, b64 *w, v16 *sf, v16 *of)
{
    nibbles32_q5(body, w);
    sf[0] = p->d;
}
#define prep_q5_1 prep_q4_1
INL void part_q5_1(const uint8_t *body, const struct prep *p, int i, b64 *w, v16 *sf, v16 *of)
{
    nibbles32_q5(body, w);
    sf[0] = p->d;
    of[0] = p->m;
}

INL void prep_dm(const uint8_t *head, struct prep *p)
{
    p->d = v_load_f16((const uint16_t *)head);
    p->m = v_load_f16((const uint16_t *)(head + 32));
}

/* Q2_K: scales [16][16 outputs] (low nibble scale, high nibble minimum), then 16 lines of quants. */
INL void prep_q2_k(const uint8_t *head, const uint8_t *body, struct prep *p)
{
    prep_dm(head, p);
}
INL void part_q2_k(const uint8_t *body, const struct prep *p, int i, b64 *w, vi16 *sf, vi16 *of)
{
    const uint8_t *qs = body + 256 + 512 * (i / 2);
    int shift = 4 * (i % 2);
    b64 three = b_set1(3);
    UNROLL for (int j = 0; j < 8; j++)
    {
        b64 v = b_srl(b_load(qs + 64 * j), shift);
        w[j] = b_and(v, three);
        w[8 + j] = b_and(b_srl(v, 2), three);
    }
    UNROLL for (int s = 0; s < 4; s++)
    {
        vi16 c = vi_load_u8(body + 16 * (4 * i + s));
        sf[s] = vi_and(c, vi_set1(15));
        of[s] = vi_srl(c, 4);
    }
}

/* Q3_K: scales 3 lines, hmask 8, quants 16. */
INL void prep_q3_k(const uint8_t *head, const uint8_t *body, struct prep *p)
{
    p->d = v_load_f16((const uint16_t *)head);
    b64 a = b_load(body), b = b_load(body + 64), h = b_load(body + 128);
    b64 top = b_set1(0x30);
    b_store(p->sc[0], b_or(b_low(a), b_and(b_sll(h, 4), top)));
    b_store(p->sc[4], b_or(b_low(b), b_and(b_sll(h, 2), top)));
    b_store(p->sc[8], b_or(b_high(a), b_and(h, top)));
    b_store(p->sc[12], b_or(b_high(b), b_and(b_srl(h, 2), top)));
}
INL void part_q3_k(const uint8_t *body, const struct prep *p, int i, b64 *w, vi16 *sf, vi16 *of)
{
    const uint8_t *qs = body + 704 + 512 * (i / 2), *hm = body + 192;
    int shift = 4 * (i % 2), bit = 2 * i;
    b64 three = b_set1(3), four = b_set1(4);
    UNROLL for (int j = 0; j < 8; j++)
    {
        b64 v = b_srl(b_load(qs + 64 * j), shift), h = b_srl(b_load(hm + 64 * j), bit);
        w[j] = b_or(b_and(v, three), b_and(b_sll(h, 2), four));
        w[8 + j] = b_or(b_and(b_srl(v, 2), three), b_and(b_sll(h, 1), four));
    }
    UNROLL for (int s = 0; s < 4; s++) sf[s] = vi_sub(vi_load_u8(p->sc[4 * i + s]), vi_set1(32));
}

/* Q4_K, Q5_K: 12 lines of 16 bytes with 6-bit scales and minima, as three 64-byte values. */
INL void prep_q4_k(const uint8_t *head, const uint8_t *body, struct prep *p)
{
    prep_dm(head, p);
    b64 a = b_load(body), b = b_load(body + 64), c = b_load(body + 128);
    b64 six = b_set1(63), top = b_set1(0x30);
    b_store(p->sc[0], b_and(a, six));
    b_store(p->mn[0], b_and(b, six));
    b_store(p->sc[4], b_or(b_low(c), b_and(b_srl(a, 2), top)));
    b_store(p->mn[4], b_or(b_high(c), b_and(b_srl(b, 2), top)));
}
INL void scales_q4_k(const struct prep *p, int i, vi16 *sf, vi16 *of)
{
    UNROLL for (int s = 0; s < 2; s++)
    {
        sf[s] = vi_load_u8(p->sc[2 * i + s]);
        of[s] = vi_load_u8(p->mn[2 * i + s]);
    }
}
INL void part_q4_k(const uint8_t *body, const struct prep *p, int i, b64 *w, vi16 *sf, vi16 *of)
{
    const uint8_t *qs = body + 192 + 512 * i;
    UNROLL for (int j = 0; j < 8; j++)
    {
        b64 v = b_load(qs + 64 * j);
        w[j] = b_low(v);
        w[8 + j] = b_high(v);
    }
    scales_q4_k(p, i, sf, of);
}
#define prep_q5_k prep_q4_k
INL void part_q5_k(const uint8_t *body, const struct prep *p, int i, b64 *w, vi16 *sf, vi16 *of)
{
    const uint8_t *qh = body + 192, *qs = body + 704 + 512 * i;
    b64 bit = b_set1(16);
    UNROLL for (int j = 0; j < 8; j++)
    {
        b64 v = b_load(qs + 64 * j), h = b_srl(b_load(qh + 64 * j), 2 * i);
        w[j] = b_or(b_low(v), b_and(b_sll(h, 4), bit));
        w[8 + j] = b_or(b_high(v), b_and(b_sll(h, 3), bit));
    }
    scales_q4_k(p, i, sf, of);
}

/* Q6_K: scales 4 lines, qh 16, ql 32. A part is 64 inputs: low (even i) or high (odd i) nibbles of one half. */
INL void prep_q6_k(const uint8_t *head, const uint8_t *body, struct prep *p)
{
    p->d = v_load_f16((const uint16_t *)head);
}
INL void part_q6_k(const uint8_t *body, const struct prep *p, int i, b64 *w, vi16 *sf, vi16 *of)
{
    const uint8_t *ql = body + 1280 + 1024 * (i / 2), *qh = body + 256 + 512 * (i / 2);
    int odd = i % 2;
    b64 top = b_set1(0x30);
    UNROLL for (int j = 0; j < 8; j++)
    {
        b64 h = b_load(qh + 64 * j), a = b_load(ql + 64 * j), b = b_load(ql + 512 + 64 * j);
        w[j] = b_or(odd ? b_high(a) : b_low(a), b_and(odd ? h : b_sll(h, 4), top));
        w[8 + j] = b_or(odd ? b_high(b) : b_low(b), b_and(odd ? b_srl(h, 2) : b_sll(h, 2), top));
    }
    UNROLL for (int s = 0; s < 4; s++) sf[s] = vi_load_i8((const int8_t *)body + 16 * (4 * i + s));
}

INL void part_iq4_nl(const uint8_t *body, const struct prep *p, int i, b64 *w, v16 *sf, v16 *of)
{
    b64 t = b_table(kn_iq4_values);
    nibbles32(body, w);
    UNROLL for (int j = 0; j < 8; j++) w[j] = b_lookup(t, w[j]);
    sf[0] = p->d;
}
#define prep_iq4_nl prep_q8_0

/* IQ4_XS: scales_l 1 line, quants 32; scales_h is the second half of the head. */
INL void prep_iq4_xs(const uint8_t *head, const uint8_t *body, struct prep *p)
{
    p->d = v_load_f16((const uint16_t *)head);
    memcpy(p->mn, head + 32, 32);
}
INL void part_iq4_xs(const uint8_t *body, const struct prep *p, int i, b64 *w, vi16 *sf, vi16 *of)
{
    b64 t = b_table(kn_iq4_values);
    nibbles32(body + 64 + 512 * i, w);
    nibbles32(body + 64 + 512 * i + 256, w + 8);
    UNROLL for (int j = 0; j < 16; j++) w[j] = b_lookup(t, w[j]);
    vi16 lo = vi_load_u8(body + 16 * i), hi = vi_srl(vi_load_u16((const uint16_t *)p->mn), 4 * i);
    vi16 three = vi_set1(0x30), low = vi_set1(15), mid = vi_set1(32);
    vi16 a = vi_or(vi_and(lo, low), vi_and(vi_sll(hi, 4), three));
    vi16 b = vi_or(vi_srl(lo, 4), vi_and(vi_sll(hi, 2), three));
    sf[0] = vi_sub(a, mid);
    sf[1] = vi_sub(b, mid);
}

/* MXFP4: 2^(e - 128), built from its bits; the two smallest are denormal. */
INL void prep_mxfp4(const uint8_t *head, const uint8_t *body, struct prep *p)
{
    vi16 e = vi_load_u8(head), one = vi_set1(1);
    vi16 small = vi_select_lt(e, one, vi_set1(0x00200000), vi_set1(0x00400000));
    p->d = v_bits(vi_select_lt(e, vi_set1(2), small, vi_sll(vi_sub(e, one), 23)));
}
INL void part_mxfp4(const uint8_t *body, const struct prep *p, int i, b64 *w, v16 *sf, v16 *of)
{
    b64 t = b_table(kn_fp4_values);
    nibbles32(body, w);
    UNROLL for (int j = 0; j < 8; j++) w[j] = b_lookup(t, w[j]);
    sf[0] = p->d;
}

/* NVFP4: four groups of 16 inputs; the scales are e4m3, times the format's 1/2. */
INL void prep_nvfp4(const uint8_t *head, const uint8_t *body, struct prep *p)
{
    memcpy(p->sc, head, 64);
}
INL void part_nvfp4(const uint8_t *body, const struct prep *p, int i, b64 *w, v16 *sf, v16 *of)
{
    b64 t = b_table(kn_fp4_values);
    UNROLL for (int g = 0; g < 4; g++)
    {
        b64 a = b_load(body + 128 * g), b = b_load(body + 128 * g + 64);
        w[4 * g] = b_lookup(t, b_low(a));
        w[4 * g + 1] = b_lookup(t, b_low(b));
        w[4 * g + 2] = b_lookup(t, b_high(a));
        w[4 * g + 3] = b_lookup(t, b_high(b));
        sf[g] = v_mul(v_load_e4m3(p->sc[g]), v_set1(0.5f));
    }
}

/* ---- few rows: unpack in registers ---- */

/*
 * Ask for the lines that will be read PREFETCH_BYTES later: the hardware's own streams end at every page and at every group's head.
 */
#define PREFETCH_BYTES 4096
INL void prefetch(const uint8_t *p, int n)
{
    UNROLL for (int i = 0; i < n; i += 64) lanes_prefetch(p + i);
}

struct kind {
    int sub; /* inputs per scale: 32 or 16 */
    bool has_offset;
    bool is_signed;
    int bias; /* of unsigned types */
};

/* What is added to a weight in the level's own representation. */
INL int bias_of(struct kind k)
{
    return k.is_signed ? LANES_BIAS : k.bias;
}

INL vi16 dot(struct kind k, vi16 acc, b64 w, const int8_t *x, const int j)
{
    return k.is_signed ? b_dot_s(acc, w, x, j) : b_dot_u(acc, w, x, j);
}

/* 32 inputs, number s of the row, into acc. */
INL v16 dot32(struct kind k, const b64 *w, const v16 *sf, const v16 *of, const struct tile_act *r, int32_t s, v16 acc)
{
    const int8_t *x = r->q + 32 * (int64_t)s;
    const int bias = bias_of(k);
    v16 ad = v_set1(r->ad[s]);
    if (k.sub == 32) {
        vi16 i = vi_set1(-bias * r->sum32[s]);
        UNROLL for (int j = 0; j < 8; j++) i = dot(k, i, w[j], x, j);
        acc = v_fma(v_mul(v_from_i(i), ad), sf[0], acc);
        if (k.has_offset)
            acc = v_fnma(of[0], v_set1(r->fsum32[s]), acc);
        return acc;
    }
    vi16 a = vi_set1(-bias * r->sum16[2 * s]), b = vi_set1(-bias * r->sum16[2 * s + 1]);
    UNROLL for (int j = 0; j < 4; j++)
    {
        a = dot(k, a, w[j], x, j);
        b = dot(k, b, w[4 + j], x + 16, j);
    }
    acc = v_fma(v_mul(v_from_i(a), ad), sf[0], acc);
    if (k.has_offset)
        acc = v_fnma(of[0], v_set1(r->fsum16[2 * s]), acc);
    acc = v_fma(v_mul(v_from_i(b), ad), sf[1], acc);
    if (k.has_offset)
        acc = v_fnma(of[1], v_set1(r->fsum16[2 * s + 1]), acc);
    return acc;
}

/* What a long type's sums of activations are multiplied by: offsets, or scales where a bias is to be taken off; 16 bits each, two by two. */
INL bool has_side(struct kind k)
{
    return k.has_offset || bias_of(k) != 0;
}

/* How many sums n inputs have. */
INL int n_sides(struct kind k, int n)
{
    return has_side(k) ? n / k.sub : 0;
}

INL void pair_side(struct kind k, const vi16 *f, vi16 *side)
{
    UNROLL for (int s = 0; s < n_sides(k, 64) / 2; s++) side[s] = vi_pair(f[2 * s], f[2 * s + 1]);
}

INL const int16_t *sums_of(struct kind k, const struct tile_act *r)
{
    return k.sub == 32 ? r->sum32 : r->sum16;
}

/* The n parts' sums of a row with `side`. */
INL vi16 add_side(vi16 acc, const vi16 *side, const int16_t *of_x, const int n)
{
    UNROLL for (int s = 0; s < n / 2; s++) acc = vi_dot16(acc, side[s], vi_set1(lanes_word(of_x + 2 * s)));
    return acc;
}

/* 32 inputs of a long type, into the integers of its block. */
INL vi16 dot32_long(struct kind k, const b64 *w, const vi16 *sf, const int8_t *x, vi16 sum)
{
    UNROLL for (int h = 0; h < 32 / k.sub; h++)
    {
        vi16 i = vi_set1(0);
        UNROLL for (int j = 0; j < k.sub / 4; j++) i = dot(k, i, w[h * (k.sub / 4) + j], x + h * k.sub, j);
        sum = vi_add(sum, vi_mul(i, sf[h]));
    }
    return sum;
}

/* side: the sums of activations with the offsets, or with the scales. */
INL v16 add_block(struct kind k, v16 acc, vi16 sum, vi16 side, v16 d, v16 m, float ad)
{
    if (!k.has_offset && has_side(k))
        sum = vi_sub(sum, vi_mul(side, vi_set1(bias_of(k))));
    acc = v_fma(v_from_i(sum), v_mul(d, v_set1(ad)), acc);
    if (k.has_offset)
        acc = v_fnma(v_from_i(side), v_mul(m, v_set1(ad)), acc);
    return acc;
}

/* ---- many rows: panels ---- */

INL void gemm_tile(struct kind k, const struct tile_panel *panels, const int n_panels, int32_t s0, int32_t n32,
                   const struct tile_row *rows, const int n_rows, float *acc)
{
    v16 a[GEMM_ROWS * GEMM_PANELS];
    const int8_t *x[GEMM_ROWS] = {0};
    const int bias = bias_of(k);
    UNROLL for (int r = 0; r < n_rows; r++)
    {
        x[r] = rows[r].act[TILE_SHORT].q + 32 * (int64_t)s0;
        UNROLL for (int g = 0; g < n_panels; g++) a[r * GEMM_PANELS + g] = v_load(acc + 32 * r + 16 * g);
    }
    for (int32_t s = 0; s < n32; s++) {
        for (int h = 0; h < (k.sub == 32 ? 1 : 2); h++) {
            vi16 i[GEMM_ROWS * GEMM_PANELS];
            UNROLL for (int r = 0; r < n_rows; r++)
            {
                int32_t sum =
                    k.sub == 32 ? rows[r].act[TILE_SHORT].sum32[s0 + s] : rows[r].act[TILE_SHORT].sum16[2 * (s0 + s) + h];
                UNROLL for (int g = 0; g < n_panels; g++) i[r * GEMM_PANELS + g] = vi_set1(-bias * sum);
            }
            UNROLL for (int j = 0; j < k.sub / 4; j++)
            {
                UNROLL for (int g = 0; g < n_panels; g++)
                {
                    b64 w = b_load(panels[g].w[8 * s + h * (k.sub / 4) + j]);
                    UNROLL for (int r = 0; r < n_rows; r++) i[r * GEMM_PANELS + g] =
                        dot(k, i[r * GEMM_PANELS + g], w, x[r] + 32 * s + h * k.sub, j);
                }
            }
            int sub = k.sub == 32 ? s : 2 * s + h;
            UNROLL for (int g = 0; g < n_panels; g++)
            {
                v16 sf = v_load(panels[g].scale[sub]);
                UNROLL for (int r = 0; r < n_rows; r++)
                {
                    v16 *c = &a[r * GEMM_PANELS + g];
                    *c = v_fma(v_mul(v_from_i(i[r * GEMM_PANELS + g]), v_set1(rows[r].act[TILE_SHORT].ad[s0 + s])), sf, *c);
                    if (k.has_offset)
                        *c = v_fnma(v_load(panels[g].offset[sub]),
                                    v_set1(k.sub == 32 ? rows[r].act[TILE_SHORT].fsum32[s0 + s]
                                                       : rows[r].act[TILE_SHORT].fsum16[2 * (s0 + s) + h]),
                                    *c);
                }
            }
        }
    }
    UNROLL for (int r = 0; r < n_rows; r++) UNROLL for (int g = 0; g < n_panels; g++)
        v_store(acc + 32 * r + 16 * g, a[r * GEMM_PANELS + g]);
}

/* A panel is one block of a long type. */
INL void gemm_tile_long(struct kind k, const struct tile_panel *panels, const int n_panels, int32_t s0, int32_t n32,
                        const struct tile_row *rows, const int n_rows, float *acc)
{
    vi16 sum[GEMM_ROWS * GEMM_PANELS], side[GEMM_ROWS * GEMM_PANELS];
    const int8_t *x[GEMM_ROWS] = {0};
    const int16_t *of_x[GEMM_ROWS] = {0};
    const int per = 32 / k.sub;
    UNROLL for (int r = 0; r < n_rows; r++)
    {
        const struct tile_act *a = &rows[r].act[TILE_LONG];
        x[r] = a->q + 32 * (int64_t)s0;
        of_x[r] = sums_of(k, a) + per * s0;
        UNROLL for (int g = 0; g < n_panels; g++) sum[r * GEMM_PANELS + g] = side[r * GEMM_PANELS + g] = vi_set1(0);
    }
    for (int32_t s = 0; s < n32 * per; s++) {
        vi16 i[GEMM_ROWS * GEMM_PANELS];
        UNROLL for (int n = 0; n < GEMM_ROWS * GEMM_PANELS; n++) i[n] = vi_set1(0);
        UNROLL for (int j = 0; j < k.sub / 4; j++)
        {
            UNROLL for (int g = 0; g < n_panels; g++)
            {
                b64 w = b_load(panels[g].w[s * (k.sub / 4) + j]);
                UNROLL for (int r = 0; r < n_rows; r++) i[r * GEMM_PANELS + g] =
                    dot(k, i[r * GEMM_PANELS + g], w, x[r] + s * k.sub, j);
            }
        }
        UNROLL for (int g = 0; g < n_panels; g++)
        {
            vi16 sf = vi_load(panels[g].iscale[s]);
            UNROLL for (int r = 0; r < n_rows; r++) sum[r * GEMM_PANELS + g] =
                vi_add(sum[r * GEMM_PANELS + g], vi_mul(i[r * GEMM_PANELS + g], sf));
        }
    }
    for (int32_t s = 0; s < n_sides(k, 32 * n32) / 2; s++) {
        UNROLL for (int g = 0; g < n_panels; g++)
        {
            const vi16 f = vi_load(panels[g].side[s]);
            UNROLL for (int r = 0; r < n_rows; r++) side[r * GEMM_PANELS + g] =
                add_side(side[r * GEMM_PANELS + g], &f, of_x[r] + 2 * s, 2);
        }
    }
    UNROLL for (int r = 0; r < n_rows; r++) UNROLL for (int g = 0; g < n_panels; g++)
    {
        float *to = acc + 32 * r + 16 * g;
        v_store(to, add_block(k, v_load(to), sum[r * GEMM_PANELS + g], side[r * GEMM_PANELS + g], v_load(panels[g].d),
                              v_load(panels[g].m), rows[r].act[TILE_LONG].ad[s0 / 8]));
    }
}

INL void gemm_any(struct kind k, bool is_long, const struct tile_panel *panels, const int n_panels, int32_t s0, int32_t n32,
                  const struct tile_row *rows, const int n_rows, float *acc)
{
    if (is_long)
        gemm_tile_long(k, panels, n_panels, s0, n32, rows, n_rows, acc);
    else
        gemm_tile(k, panels, n_panels, s0, n32, rows, n_rows, acc);
}

INL void gemm_kind(struct kind k, bool is_long, const struct tile_panel *panels, int n_panels, int32_t k0, int32_t n_k,
                   const struct tile_row *rows, int n_rows, float *acc)
{
    int g = 0;
#if GEMM_PANELS == 2
    if (n_panels == 2) {
        int r = 0;
        for (; r + GEMM_ROWS <= n_rows; r += GEMM_ROWS)
            gemm_any(k, is_long, panels, 2, k0 / 32, n_k / 32, rows + r, GEMM_ROWS, acc + 32 * r);
        for (; r < n_rows; r++)
            gemm_any(k, is_long, panels, 2, k0 / 32, n_k / 32, rows + r, 1, acc + 32 * r);
        return;
    }
#endif
    for (; g < n_panels; g++) {
        int r = 0;
        for (; r + GEMM_ROWS <= n_rows; r += GEMM_ROWS)
            gemm_any(k, is_long, panels + g, 1, k0 / 32, n_k / 32, rows + r, GEMM_ROWS, acc + 32 * r + 16 * g);
        for (; r < n_rows; r++)
            gemm_any(k, is_long, panels + g, 1, k0 / 32, n_k / 32, rows + r, 1, acc + 32 * r + 16 * g);
    }
}

/* As many rows at a time as there are registers for. */
#define TILE_FUSED(T)                                                                                                          \
    static void fused_##T(const uint8_t *head, const uint8_t *body, int32_t n_blocks, const struct tile_row *rows, int n_rows, \
                          float *y)                                                                                            \
    {                                                                                                                          \
        for (; n_rows > 0; n_rows -= FUSED_ROWS, rows += FUSED_ROWS, y += 32 * FUSED_ROWS) {                                   \
            if (FUSED_ROWS >= 4 && n_rows >= 4)                                                                                \
                fused_##T##_n(head, body, n_blocks, rows, FUSED_ROWS >= 4 ? 4 : 1, y);                                         \
            else if (FUSED_ROWS >= 3 && n_rows >= 3)                                                                           \
                fused_##T##_n(head, body, n_blocks, rows, FUSED_ROWS >= 3 ? 3 : 1, y);                                         \
            else if (FUSED_ROWS >= 2 && n_rows >= 2)                                                                           \
                fused_##T##_n(head, body, n_blocks, rows, FUSED_ROWS >= 2 ? 2 : 1, y);                                         \
            else                                                                                                               \
                fused_##T##_n(head, body, n_blocks, rows, 1, y);                                                               \
        }                                                                                                                      \
    }

/* Registers of 128 bits want another shape. */
#if defined(LANES_NEON)
#include "kernels/cpu/neon_body.h"
#else
#define TILE_SHORT_FUSED(T, ELEMS, HEAD, BODY, PART, SUB, HAS_OFFSET, IS_SIGNED, BIAS_)                                        \
    INL void fused_##T##_n(const uint8_t *head, const uint8_t *body, int32_t n_blocks, const struct tile_row *rows,            \
                           const int n_rows, float *y)                                                                         \
    {                                                                                                                          \
        const struct kind k = {SUB, HAS_OFFSET, IS_SIGNED, BIAS_};                                                             \
        v16 acc[TILE_FUSED_ROWS];                                                                                              \
        UNROLL for (int r = 0; r < n_rows; r++) acc[r] = v_zero();                                                             \
        for (int32_t b = 0; b < n_blocks; b++, head += 16 * HEAD, body += 16 * BODY) {                                         \
            struct prep p;                                                                                                     \
            prep_##T(head, body, &p);                                                                                          \
            UNROLL_PARTS for (int i = 0; i < ELEMS / PART; i++)                                                                \
            {                                                                                                                  \
                prefetch(body + PREFETCH_BYTES + i * (16 * BODY * PART / ELEMS), 16 * BODY * PART / ELEMS);                    \
                b64 w[16];                                                                                                     \
                v16 sf[4], of[4];                                                                                              \
                UNROLL for (int s = 0; s < (HAS_OFFSET ? 0 : 4); s++) of[s] = v_zero();                                        \
                part_##T(body, &p, i, w, sf, of);                                                                              \
                int32_t s = b * (ELEMS / 32) + i * (PART / 32);                                                                \
                UNROLL for (int h = 0; h < PART / 32; h++) UNROLL for (int r = 0; r < n_rows; r++) acc[r] =                    \
                    dot32(k, w + 8 * h, sf + h * (32 / SUB), of + h * (32 / SUB), &rows[r].act[TILE_SHORT], s + h, acc[r]);    \
            }                                                                                                                  \
        }                                                                                                                      \
        UNROLL for (int r = 0; r < n_rows; r++) v_store(y + 32 * r, acc[r]);                                                   \
    }
#endif
/* The three kernels of one block type. PART: inputs per part. */
#define TILE_TYPE(T, ELEMS, HEAD, BODY, PART, SUB, HAS_OFFSET, IS_SIGNED, BIAS_)                                               \
    TILE_SHORT_FUSED(T, ELEMS, HEAD, BODY, PART, SUB, HAS_OFFSET, IS_SIGNED, BIAS_)                                            \
    TILE_FUSED(T)                                                                                                              \
    static void unpack_##T(const uint8_t *head, const uint8_t *body, int32_t first, int32_t n, struct tile_panel *panel)       \
    {                                                                                                                          \
        int part = 0;                                                                                                          \
        head += (int64_t)first * 16 * HEAD, body += (int64_t)first * 16 * BODY;                                                \
        for (int32_t b = 0; b < n; b++, head += 16 * HEAD, body += 16 * BODY) {                                                \
            struct prep p;                                                                                                     \
            prep_##T(head, body, &p);                                                                                          \
            UNROLL_PARTS for (int i = 0; i < ELEMS / PART; i++, part++)                                                        \
            {                                                                                                                  \
                prefetch(body + PREFETCH_BYTES + i * (16 * BODY * PART / ELEMS), 16 * BODY * PART / ELEMS);                    \
                b64 w[16];                                                                                                     \
                v16 sf[4], of[4];                                                                                              \
                UNROLL for (int s = 0; s < (HAS_OFFSET ? 0 : 4); s++) of[s] = v_zero();                                        \
                part_##T(body, &p, i, w, sf, of);                                                                              \
                UNROLL for (int j = 0; j < PART / 4; j++) b_store(panel->w[part * (PART / 4) + j], w[j]);                      \
                UNROLL for (int s = 0; s < PART / SUB; s++)                                                                    \
                {                                                                                                              \
                    v_store(panel->scale[part * (PART / SUB) + s], sf[s]);                                                     \
                    if (HAS_OFFSET)                                                                                            \
                        v_store(panel->offset[part * (PART / SUB) + s], of[s]);                                                \
                }                                                                                                              \
            }                                                                                                                  \
        }                                                                                                                      \
    }

/*        type    block   head body part sub  offsets signed bias */
TILE_TYPE(q8_0, 32, 2, 32, 32, 32, false, true, 0)
TILE_TYPE(q4_0, 32, 2, 16, 32, 32, false, false, 8)
TILE_TYPE(q4_1, 32, 4, 16, 32, 32, true, false, 0)
TILE_TYPE(q5_0, 32, 2, 20, 32, 32, false, false, 16)
TILE_TYPE(q5_1, 32, 4, 20, 32, 32, true, false, 0)
TILE_TYPE(iq4_nl, 32, 2, 16, 32, 32, false, true, 0)
TILE_TYPE(mxfp4, 32, 1, 16, 32, 32, false, true, 0)
TILE_TYPE(nvfp4, 64, 4, 32, 64, 16, false, true, 0)

/* The same of a long type; its panel is one block. */
#if !defined(LANES_NEON)
#define TILE_LONG_FUSED(T, HEAD, BODY, SUB, HAS_OFFSET, IS_SIGNED, BIAS_)                                                      \
    INL void fused_##T##_n(const uint8_t *head, const uint8_t *body, int32_t n_blocks, const struct tile_row *rows,            \
                           const int n_rows, float *y)                                                                         \
    {                                                                                                                          \
        const struct kind k = {SUB, HAS_OFFSET, IS_SIGNED, BIAS_};                                                             \
        v16 acc[TILE_FUSED_ROWS];                                                                                              \
        UNROLL for (int r = 0; r < n_rows; r++) acc[r] = v_zero();                                                             \
        for (int32_t b = 0; b < n_blocks; b++, head += 16 * HEAD, body += 16 * BODY) {                                         \
            struct prep p;                                                                                                     \
            vi16 sum[TILE_FUSED_ROWS], side_sum[TILE_FUSED_ROWS];                                                              \
            UNROLL for (int r = 0; r < n_rows; r++) sum[r] = side_sum[r] = vi_set1(0);                                         \
            prep_##T(head, body, &p);                                                                                          \
            UNROLL_PARTS for (int i = 0; i < 4; i++)                                                                           \
            {                                                                                                                  \
                prefetch(body + PREFETCH_BYTES + i * (4 * BODY), 4 * BODY);                                                    \
                b64 w[16];                                                                                                     \
                vi16 sf[4], of[4], side[2];                                                                                    \
                part_##T(body, &p, i, w, sf, of);                                                                              \
                pair_side(k, HAS_OFFSET ? of : sf, side);                                                                      \
                UNROLL for (int h = 0; h < 2; h++) UNROLL for (int r = 0; r < n_rows; r++) sum[r] = dot32_long(                \
                    k, w + 8 * h, sf + h * (32 / SUB), rows[r].act[TILE_LONG].q + 256 * (int64_t)b + 64 * i + 32 * h, sum[r]); \
                UNROLL for (int r = 0; r < n_rows; r++) side_sum[r] =                                                          \
                    add_side(side_sum[r], side, sums_of(k, &rows[r].act[TILE_LONG]) + (4 * (int64_t)b + i) * (64 / SUB),       \
                             n_sides(k, 64));                                                                                  \
            }                                                                                                                  \
            UNROLL for (int r = 0; r < n_rows; r++) acc[r] =                                                                   \
                add_block(k, acc[r], sum[r], side_sum[r], p.d, HAS_OFFSET ? p.m : p.d, rows[r].act[TILE_LONG].ad[b]);          \
        }                                                                                                                      \
        UNROLL for (int r = 0; r < n_rows; r++) v_store(y + 32 * r, acc[r]);                                                   \
    }
#endif
#define TILE_LONG_TYPE(T, HEAD, BODY, SUB, HAS_OFFSET, IS_SIGNED, BIAS_)                                                       \
    TILE_LONG_FUSED(T, HEAD, BODY, SUB, HAS_OFFSET, IS_SIGNED, BIAS_)                                                          \
    TILE_FUSED(T)                                                                                                              \
    static void unpack_##T(const uint8_t *head, const uint8_t *body, int32_t first, int32_t n, struct tile_panel *panel)       \
    {                                                                                                                          \
        const struct kind k = {SUB, HAS_OFFSET, IS_SIGNED, BIAS_};                                                             \
        head += (int64_t)first * 16 * HEAD, body += (int64_t)first * 16 * BODY;                                                \
        struct prep p;                                                                                                         \
        prep_##T(head, body, &p);                                                                                              \
        v_store(panel->d, p.d);                                                                                                \
        v_store(panel->m, HAS_OFFSET ? p.m : p.d);                                                                             \
        UNROLL_PARTS for (int i = 0; i < 4; i++)                                                                               \
        {                                                                                                                      \
            prefetch(body + PREFETCH_BYTES + i * (4 * BODY), 4 * BODY);                                                        \
            b64 w[16];                                                                                                         \
            vi16 sf[4], of[4], side[2];                                                                                        \
            part_##T(body, &p, i, w, sf, of);                                                                                  \
            pair_side(k, HAS_OFFSET ? of : sf, side);                                                                          \
            UNROLL for (int j = 0; j < 16; j++) b_store(panel->w[i * 16 + j], w[j]);                                           \
            UNROLL for (int s = 0; s < 64 / SUB; s++) vi_store(panel->iscale[i * (64 / SUB) + s], sf[s]);                      \
            UNROLL for (int s = 0; s < n_sides(k, 64) / 2; s++) vi_store(panel->side[i * (32 / SUB) + s], side[s]);            \
        }                                                                                                                      \
    }

/*             type   head body part offsets signed bias */
TILE_LONG_TYPE(q2_k, 4, 80, 16, true, false, 0)
TILE_LONG_TYPE(q3_k, 2, 108, 16, false, false, 4)
TILE_LONG_TYPE(q4_k, 4, 140, 32, true, false, 0)
TILE_LONG_TYPE(q5_k, 4, 172, 32, true, false, 0)
TILE_LONG_TYPE(q6_k, 2, 208, 16, false, false, 32)
TILE_LONG_TYPE(iq4_xs, 4, 132, 32, false, true, 0)

#define TILE_GEMM(name, IS_LONG, SUB, HAS_OFFSET, IS_SIGNED, BIAS_)                                                            \
    static void name(const struct tile_panel *panels, int n_panels, int32_t k0, int32_t n_k, const struct tile_row *rows,      \
                     int n_rows, float *acc)                                                                                   \
    {                                                                                                                          \
        const struct kind k = {SUB, HAS_OFFSET, IS_SIGNED, BIAS_};                                                             \
        gemm_kind(k, IS_LONG, panels, n_panels, k0, n_k, rows, n_rows, acc);                                                   \
    }

TILE_GEMM(gemm_signed, false, 32, false, true, 0)
TILE_GEMM(gemm_offset, false, 32, true, false, 0)
TILE_GEMM(gemm_bias8, false, 32, false, false, 8)
TILE_GEMM(gemm_bias16, false, 32, false, false, 16)
TILE_GEMM(gemm_nvfp4, false, 16, false, true, 0)
TILE_GEMM(gemm_q2_k, true, 16, true, false, 0)
TILE_GEMM(gemm_q3_k, true, 16, false, false, 4)
TILE_GEMM(gemm_q45_k, true, 32, true, false, 0)
TILE_GEMM(gemm_q6_k, true, 16, false, false, 32)
TILE_GEMM(gemm_iq4_xs, true, 32, false, true, 0)

/* ---- floating types ---- */

INL v16 take_f32(const uint8_t *p)
{
    return v_load((const float *)p);
}
INL v16 take_f16(const uint8_t *p)
{
    return v_load_f16((const uint16_t *)p);
}
INL v16 take_bf16(const uint8_t *p)
{
    return v_load_bf16((const uint16_t *)p);
}

/* Four chains of TILE_K_FLOAT inputs run side by side for one row (latency), one chain per row for more rows. */
#define TILE_FLOAT(T, BYTES)                                                                                                   \
    INL void fused_##T##_n(const uint8_t *body, int32_t n, const struct tile_row *rows, const int n_rows, float *y)            \
    {                                                                                                                          \
        v16 acc[TILE_FUSED_ROWS];                                                                                              \
        UNROLL for (int r = 0; r < n_rows; r++) acc[r] = v_zero();                                                             \
        int32_t k0 = 0;                                                                                                        \
        for (; n_rows == 1 && k0 + 4 * TILE_K_FLOAT <= n; k0 += 4 * TILE_K_FLOAT) {                                            \
            const uint8_t *p = body + (int64_t)k0 * 16 * BYTES;                                                                \
            const float *x = rows[0].x + k0;                                                                                   \
            v16 c[4];                                                                                                          \
            UNROLL for (int i = 0; i < 4; i++) c[i] = v_zero();                                                                \
            for (int32_t k = 0; k < TILE_K_FLOAT; k++) {                                                                       \
                /* the next four stretches, evenly spread */                                                                   \
                prefetch(p + (4 * TILE_K_FLOAT * 16 + k * 64) * BYTES, 64 * BYTES);                                            \
                UNROLL for (int i = 0; i < 4; i++) c[i] =                                                                      \
                    v_fma(take_##T(p + (k + i * TILE_K_FLOAT) * 16 * BYTES), v_set1(x[k + i * TILE_K_FLOAT]), c[i]);           \
            }                                                                                                                  \
            UNROLL for (int i = 0; i < 4; i++) acc[0] = v_add(acc[0], c[i]);                                                   \
        }                                                                                                                      \
        for (; k0 < n; k0 += TILE_K_FLOAT) {                                                                                   \
            int32_t m = n - k0 < TILE_K_FLOAT ? n - k0 : TILE_K_FLOAT;                                                         \
            const uint8_t *p = body + (int64_t)k0 * 16 * BYTES;                                                                \
            v16 c[TILE_FUSED_ROWS];                                                                                            \
            UNROLL for (int r = 0; r < n_rows; r++) c[r] = v_zero();                                                           \
            for (int32_t k = 0; k < m; k++) {                                                                                  \
                v16 w = take_##T(p + k * 16 * BYTES);                                                                          \
                UNROLL for (int r = 0; r < n_rows; r++) c[r] = v_fma(w, v_set1(rows[r].x[k0 + k]), c[r]);                      \
            }                                                                                                                  \
            UNROLL for (int r = 0; r < n_rows; r++) acc[r] = v_add(acc[r], c[r]);                                              \
        }                                                                                                                      \
        UNROLL for (int r = 0; r < n_rows; r++) v_store(y + 32 * r, acc[r]);                                                   \
    }                                                                                                                          \
    static void fused_##T(const uint8_t *head, const uint8_t *body, int32_t n, const struct tile_row *rows, int n_rows,        \
                          float *y)                                                                                            \
    {                                                                                                                          \
        for (; n_rows > 0; n_rows -= FUSED_ROWS, rows += FUSED_ROWS, y += 32 * FUSED_ROWS) {                                   \
            if (FUSED_ROWS >= 4 && n_rows >= 4)                                                                                \
                fused_##T##_n(body, n, rows, FUSED_ROWS >= 4 ? 4 : 1, y);                                                      \
            else if (FUSED_ROWS >= 3 && n_rows >= 3)                                                                           \
                fused_##T##_n(body, n, rows, FUSED_ROWS >= 3 ? 3 : 1, y);                                                      \
            else if (FUSED_ROWS >= 2 && n_rows >= 2)                                                                           \
                fused_##T##_n(body, n, rows, FUSED_ROWS >= 2 ? 2 : 1, y);                                                      \
            else                                                                                                               \
                fused_##T##_n(body, n, rows, 1, y);                                                                            \
        }                                                                                                                      \
    }                                                                                                                          \
    static void unpack_##T(const uint8_t *head, const uint8_t *body, int32_t first, int32_t n, struct tile_panel *panel)       \
    {                                                                                                                          \
        for (int32_t k = 0; k < n; k++)                                                                                        \
            v_store(panel->f[k], take_##T(body + (int64_t)(first + k) * 16 * BYTES));                                          \
    }

TILE_FLOAT(f32, 4)
TILE_FLOAT(f16, 2)
TILE_FLOAT(bf16, 2)

INL void gemmf_tile(const struct tile_panel *panels, const int n_panels, int32_t k0, int32_t n_k, const struct tile_row *rows,
                    const int n_rows, float *acc)
{
    v16 c[GEMMF_ROWS * GEMM_PANELS];
    const float *x[GEMMF_ROWS] = {0};
    UNROLL for (int r = 0; r < n_rows; r++)
    {
        x[r] = rows[r].x + k0;
        UNROLL for (int g = 0; g < n_panels; g++) c[r * GEMM_PANELS + g] = v_zero();
    }
    for (int32_t k = 0; k < n_k; k++) {
        v16 w[GEMM_PANELS];
        UNROLL for (int g = 0; g < n_panels; g++) w[g] = v_load(panels[g].f[k]);
        UNROLL for (int r = 0; r < n_rows; r++)
        {
            v16 v = v_set1(x[r][k]);
            UNROLL for (int g = 0; g < n_panels; g++) c[r * GEMM_PANELS + g] = v_fma(w[g], v, c[r * GEMM_PANELS + g]);
        }
    }
    UNROLL for (int r = 0; r < n_rows; r++)
    {
        UNROLL for (int g = 0; g < n_panels; g++)
        {
            float *a = acc + 32 * r + 16 * g;
            v_store(a, v_add(v_load(a), c[r * GEMM_PANELS + g]));
        }
    }
}

static void gemm_float(const struct tile_panel *panels, int n_panels, int32_t k0, int32_t n_k, const struct tile_row *rows,
                       int n_rows, float *acc)
{
#if GEMM_PANELS == 2
    if (n_panels == 2) {
        int r = 0;
        for (; r + GEMMF_ROWS <= n_rows; r += GEMMF_ROWS)
            gemmf_tile(panels, 2, k0, n_k, rows + r, GEMMF_ROWS, acc + 32 * r);
        for (; r < n_rows; r++)
            gemmf_tile(panels, 2, k0, n_k, rows + r, 1, acc + 32 * r);
        return;
    }
#endif
    for (int g = 0; g < n_panels; g++) {
        int r = 0;
        for (; r + GEMMF_ROWS <= n_rows; r += GEMMF_ROWS)
            gemmf_tile(panels + g, 1, k0, n_k, rows + r, GEMMF_ROWS, acc + 32 * r + 16 * g);
        for (; r < n_rows; r++)
            gemmf_tile(panels + g, 1, k0, n_k, rows + r, 1, acc + 32 * r + 16 * g);
    }
}

/* ---- the table ---- */

#define TILE_ROW(T, gemm_)                                                                                                     \
    {                                                                                                                          \
        fused_##T, unpack_##T, gemm_                                                                                           \
    }
const struct tile_kernels LANES_NAME(tile) = {
    .quantize = quantize,
    .quantize_long = quantize_long,
    .type =
        {
            [KN_F32] = TILE_ROW(f32, gemm_float),
            [KN_F16] = TILE_ROW(f16, gemm_float),
            [KN_BF16] = TILE_ROW(bf16, gemm_float),
            [KN_Q4_0] = TILE_ROW(q4_0, gemm_bias8),
            [KN_Q4_1] = TILE_ROW(q4_1, gemm_offset),
            [KN_Q5_0] = TILE_ROW(q5_0, gemm_bias16),
            [KN_Q5_1] = TILE_ROW(q5_1, gemm_offset),
            [KN_Q8_0] = TILE_ROW(q8_0, gemm_signed),
            [KN_Q2_K] = TILE_ROW(q2_k, gemm_q2_k),
            [KN_Q3_K] = TILE_ROW(q3_k, gemm_q3_k),
            [KN_Q4_K] = TILE_ROW(q4_k, gemm_q45_k),
            [KN_Q5_K] = TILE_ROW(q5_k, gemm_q45_k),
            [KN_Q6_K] = TILE_ROW(q6_k, gemm_q6_k),
            [KN_IQ4_NL] = TILE_ROW(iq4_nl, gemm_signed),
            [KN_IQ4_XS] = TILE_ROW(iq4_xs, gemm_iq4_xs),
            [KN_MXFP4] = TILE_ROW(mxfp4, gemm_signed),
            [KN_NVFP4] = TILE_ROW(nvfp4, gemm_nvfp4),
        },
};
