/*
 * lanes_neon - four 128-bit registers per value, for aarch64 with dot products and half-precision arithmetic: one level's section of lanes.h, which includes it and says what the
 * functions mean.
 *
 * Bytes are shifted as bytes, so nothing crosses from one to the next and b_high needs no mask. Four activations are one lane of a register of sixteen: a dot product takes them by
 * their number, and one load serves four of them.
 */
#ifndef HERON_KERNELS_CPU_LANES_NEON_H
#define HERON_KERNELS_CPU_LANES_NEON_H

#include <arm_neon.h>

#define LANES_ISA  neon
#define LANES_BIAS 0
typedef struct {
    float32x4_t a, b, c, d;
} v16;
typedef struct {
    int32x4_t a, b, c, d;
} vi16;
typedef vi16 b64;

#define EACH4(T, e)                                                                                                            \
    (T)                                                                                                                        \
    {                                                                                                                          \
        e(a), e(b), e(c), e(d)                                                                                                 \
    }
#define BYTES(q) ((uint8x16_t)(q))
#define WORDS(q) ((int32x4_t)(q))

INL v16 v_set1(float x)
{
    float32x4_t q = vdupq_n_f32(x);
    return (v16){q, q, q, q};
}
INL v16 v_load(const float *p)
{
    return (v16){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
INL void v_store(float *p, v16 a)
{
    vst1q_f32(p, a.a), vst1q_f32(p + 4, a.b), vst1q_f32(p + 8, a.c), vst1q_f32(p + 12, a.d);
}
/* Without masks the tail of a row goes through memory. */
INL v16 v_load_n(const float *p, int n)
{
    float t[16] = {0};
    memcpy(t, p, (size_t)n * sizeof *p);
    return v_load(t);
}
INL void v_store_n(float *p, v16 a, int n)
{
    float t[16];
    v_store(t, a);
    memcpy(p, t, (size_t)n * sizeof *p);
}
INL v16 v_add(v16 x, v16 y)
{
#define E(m) vaddq_f32(x.m, y.m)
    return EACH4(v16, E);
#undef E
}
INL v16 v_sub(v16 x, v16 y)
{
#define E(m) vsubq_f32(x.m, y.m)
    return EACH4(v16, E);
#undef E
}
INL v16 v_mul(v16 x, v16 y)
{
#define E(m) vmulq_f32(x.m, y.m)
    return EACH4(v16, E);
#undef E
}
INL v16 v_div(v16 x, v16 y)
{
#define E(m) vdivq_f32(x.m, y.m)
    return EACH4(v16, E);
#undef E
}
INL v16 v_fma(v16 x, v16 y, v16 z)
{
#define E(m) vfmaq_f32(z.m, x.m, y.m)
    return EACH4(v16, E);
#undef E
}
INL v16 v_fnma(v16 x, v16 y, v16 z)
{
#define E(m) vfmsq_f32(z.m, x.m, y.m)
    return EACH4(v16, E);
#undef E
}
INL v16 v_max(v16 x, v16 y)
{
#define E(m) vmaxq_f32(x.m, y.m)
    return EACH4(v16, E);
#undef E
}
INL v16 v_min(v16 x, v16 y)
{
#define E(m) vminq_f32(x.m, y.m)
    return EACH4(v16, E);
#undef E
}
INL v16 v_abs(v16 x)
{
#define E(m) vabsq_f32(x.m)
    return EACH4(v16, E);
#undef E
}
INL v16 v_round(v16 x)
{
#define E(m) vrndnq_f32(x.m)
    return EACH4(v16, E);
#undef E
}
/* where x < y: t, else f */
INL v16 v_select_lt(v16 x, v16 y, v16 t, v16 f)
{
#define E(m) vbslq_f32(vcltq_f32(x.m, y.m), t.m, f.m)
    return EACH4(v16, E);
#undef E
}
INL float v_sum(v16 x)
{
    float32x4_t s = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
    float32x2_t t = vadd_f32(vget_low_f32(s), vget_high_f32(s));
    return vget_lane_f32(vpadd_f32(t, t), 0);
}
INL float v_hmax(v16 x)
{
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.a, x.c), vmaxq_f32(x.b, x.d)));
}
/* Sums of sixteen values: lane i is the sum of x[i]; every one in the same order. */
INL float32x4_t lanes_sum4(const v16 *x)
{
    float32x4_t s[4];
    for (int i = 0; i < 4; i++)
        s[i] = vaddq_f32(vaddq_f32(x[i].a, x[i].c), vaddq_f32(x[i].b, x[i].d));
    return vpaddq_f32(vpaddq_f32(s[0], s[1]), vpaddq_f32(s[2], s[3]));
}
INL v16 v_sum16(const v16 x[16])
{
    return (v16){lanes_sum4(x), lanes_sum4(x + 4), lanes_sum4(x + 8), lanes_sum4(x + 12)};
}
/* p[4 i + j] -> r[j] lane i */
INL void v_load4(const float *p, v16 r[4])
{
    float32x4x4_t t[4] = {vld4q_f32(p), vld4q_f32(p + 16), vld4q_f32(p + 32), vld4q_f32(p + 48)};
    UNROLL for (int j = 0; j < 4; j++) r[j] = (v16){t[0].val[j], t[1].val[j], t[2].val[j], t[3].val[j]};
}

/* ---- conversions ---- */

INL v16 lanes_halves(float16x8_t lo, float16x8_t hi)
{
    return (v16){vcvt_f32_f16(vget_low_f16(lo)), vcvt_high_f32_f16(lo), vcvt_f32_f16(vget_low_f16(hi)), vcvt_high_f32_f16(hi)};
}
INL v16 v_load_f16(const uint16_t *p)
{
    return lanes_halves((float16x8_t)vld1q_u16(p), (float16x8_t)vld1q_u16(p + 8));
}
INL void v_store_f16(uint16_t *p, v16 x)
{
    vst1q_u16(p, (uint16x8_t)vcvt_high_f16_f32(vcvt_f16_f32(x.a), x.b));
    vst1q_u16(p + 8, (uint16x8_t)vcvt_high_f16_f32(vcvt_f16_f32(x.c), x.d));
}
INL v16 v_load_bf16(const uint16_t *p)
{
    uint16x8_t lo = vld1q_u16(p), hi = vld1q_u16(p + 8), zero = vdupq_n_u16(0);
    return (v16){(float32x4_t)vzip1q_u16(zero, lo), (float32x4_t)vzip2q_u16(zero, lo), (float32x4_t)vzip1q_u16(zero, hi),
                 (float32x4_t)vzip2q_u16(zero, hi)};
}
INL vi16 lanes_shorts(int16x8_t lo, int16x8_t hi)
{
    return (vi16){vmovl_s16(vget_low_s16(lo)), vmovl_high_s16(lo), vmovl_s16(vget_low_s16(hi)), vmovl_high_s16(hi)};
}
INL vi16 lanes_ushorts(uint16x8_t lo, uint16x8_t hi)
{
    return (vi16){WORDS(vmovl_u16(vget_low_u16(lo))), WORDS(vmovl_high_u16(lo)), WORDS(vmovl_u16(vget_low_u16(hi))),
                  WORDS(vmovl_high_u16(hi))};
}
INL vi16 vi_load_i8(const int8_t *p)
{
    int8x16_t q = vld1q_s8(p);
    return lanes_shorts(vmovl_s8(vget_low_s8(q)), vmovl_high_s8(q));
}
INL vi16 vi_load_u8(const uint8_t *p)
{
    uint8x16_t q = vld1q_u8(p);
    return lanes_ushorts(vmovl_u8(vget_low_u8(q)), vmovl_high_u8(q));
}
INL vi16 vi_load_u16(const uint16_t *p)
{
    return lanes_ushorts(vld1q_u16(p), vld1q_u16(p + 8));
}
INL v16 v_from_i(vi16 x)
{
#define E(m) vcvtq_f32_s32(x.m)
    return EACH4(v16, E);
#undef E
}
/* Nearest, ties to even. Out of range the nearest that there is, and 0 for a NaN: what is scaled by one is one whatever is here. */
INL vi16 v_to_i(v16 x)
{
#define E(m) vcvtnq_s32_f32(x.m)
    return EACH4(vi16, E);
#undef E
}
INL v16 v_bits(vi16 x)
{
    return (v16){(float32x4_t)x.a, (float32x4_t)x.b, (float32x4_t)x.c, (float32x4_t)x.d};
}
INL vi16 v_ibits(v16 x)
{
    return (vi16){WORDS(x.a), WORDS(x.b), WORDS(x.c), WORDS(x.d)};
}
INL v16 v_load_u8(const uint8_t *p)
{
    return v_from_i(vi_load_u8(p));
}
INL v16 v_load_i8(const int8_t *p)
{
    return v_from_i(vi_load_i8(p));
}
/* Sixteen e4m3 codes: e4m3 << 7 is the half of the value times 2^-8, and that conversion knows denormals. */
INL v16 v_load_e4m3(const uint8_t *p)
{
    uint8x16_t raw = vld1q_u8(p), seven = vdupq_n_u8(0x7f);
    uint8x16_t c = vbicq_u8(vandq_u8(raw, seven), vceqq_u8(raw, seven));
    v16 h = lanes_halves((float16x8_t)vshll_n_u8(vget_low_u8(c), 7), (float16x8_t)vshll_high_n_u8(c, 7));
    return v_mul(h, v_set1(256.0f));
}

/* ---- integers ---- */

INL vi16 vi_set1(int32_t x)
{
    int32x4_t q = vdupq_n_s32(x);
    return (vi16){q, q, q, q};
}
INL vi16 vi_load(const int32_t *p)
{
    return (vi16){vld1q_s32(p), vld1q_s32(p + 4), vld1q_s32(p + 8), vld1q_s32(p + 12)};
}
INL void vi_store(int32_t *p, vi16 x)
{
    vst1q_s32(p, x.a), vst1q_s32(p + 4, x.b), vst1q_s32(p + 8, x.c), vst1q_s32(p + 12, x.d);
}
INL vi16 vi_add(vi16 x, vi16 y)
{
#define E(m) vaddq_s32(x.m, y.m)
    return EACH4(vi16, E);
#undef E
}
INL vi16 vi_sub(vi16 x, vi16 y)
{
#define E(m) vsubq_s32(x.m, y.m)
    return EACH4(vi16, E);
#undef E
}
INL int32x4_t lanes_dot16(int32x4_t acc, int32x4_t x, int32x4_t y)
{
    const int16x8_t a = (int16x8_t)x, b = (int16x8_t)y;
    return vaddq_s32(acc, vpaddq_s32(vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b)));
}
INL vi16 vi_dot16(vi16 acc, vi16 x, vi16 y)
{
#define E(m) lanes_dot16(acc.m, x.m, y.m)
    return EACH4(vi16, E);
#undef E
}
INL vi16 vi_pair(vi16 x, vi16 y)
{
#define E(m) vsliq_n_s32(x.m, y.m, 16)
    return EACH4(vi16, E);
#undef E
}
INL vi16 vi_mul(vi16 x, vi16 y)
{
#define E(m) vmulq_s32(x.m, y.m)
    return EACH4(vi16, E);
#undef E
}
INL vi16 vi_and(vi16 x, vi16 y)
{
#define E(m) vandq_s32(x.m, y.m)
    return EACH4(vi16, E);
#undef E
}
INL vi16 vi_or(vi16 x, vi16 y)
{
#define E(m) vorrq_s32(x.m, y.m)
    return EACH4(vi16, E);
#undef E
}
/* The operators of the compiler's vectors: constant shifts become instructions with the number in them. */
INL vi16 vi_sll(vi16 x, int n)
{
#define E(m) WORDS((uint32x4_t)x.m << n)
    return EACH4(vi16, E);
#undef E
}
INL vi16 vi_srl(vi16 x, int n)
{
#define E(m) WORDS((uint32x4_t)x.m >> n)
    return EACH4(vi16, E);
#undef E
}
INL vi16 vi_max(vi16 x, vi16 y)
{
#define E(m) vmaxq_s32(x.m, y.m)
    return EACH4(vi16, E);
#undef E
}
INL vi16 vi_select_lt(vi16 x, vi16 y, vi16 t, vi16 f)
{
#define E(m) vbslq_s32(vcltq_s32(x.m, y.m), t.m, f.m)
    return EACH4(vi16, E);
#undef E
}
INL int32_t vi_sum(vi16 x)
{
    return vaddvq_s32(vaddq_s32(vaddq_s32(x.a, x.b), vaddq_s32(x.c, x.d)));
}
INL int32_t vi_hmax(vi16 x)
{
    return vmaxvq_s32(vmaxq_s32(vmaxq_s32(x.a, x.b), vmaxq_s32(x.c, x.d)));
}
INL void vi_store_i8(int8_t *p, vi16 x)
{
    int16x8_t lo = vqmovn_high_s32(vqmovn_s32(x.a), x.b), hi = vqmovn_high_s32(vqmovn_s32(x.c), x.d);
    vst1q_s8(p, vqmovn_high_s16(vqmovn_s16(lo), hi));
}

/* ---- bytes ---- */

INL b64 b_load(const void *p)
{
    const uint8_t *q = p;
    return (b64){WORDS(vld1q_u8(q)), WORDS(vld1q_u8(q + 16)), WORDS(vld1q_u8(q + 32)), WORDS(vld1q_u8(q + 48))};
}
INL void b_store(void *p, b64 x)
{
    uint8_t *q = p;
    vst1q_u8(q, BYTES(x.a)), vst1q_u8(q + 16, BYTES(x.b)), vst1q_u8(q + 32, BYTES(x.c)), vst1q_u8(q + 48, BYTES(x.d));
}
INL b64 b_set1(int x)
{
    int32x4_t q = WORDS(vdupq_n_u8((uint8_t)x));
    return (b64){q, q, q, q};
}
INL b64 b_and(b64 x, b64 y)
{
    return vi_and(x, y);
}
INL b64 b_or(b64 x, b64 y)
{
    return vi_or(x, y);
}
INL b64 b_srl(b64 x, int n)
{
#define E(m) WORDS(BYTES(x.m) >> n)
    return EACH4(b64, E);
#undef E
}
INL b64 b_sll(b64 x, int n)
{
#define E(m) WORDS(BYTES(x.m) << n)
    return EACH4(b64, E);
#undef E
}
#define LANES_HIGH
INL b64 b_high(b64 x)
{
    return b_srl(x, 4);
}
INL b64 b_of_i(vi16 x)
{
    return x;
}
INL b64 b_signed(b64 x)
{
    return x;
}
INL b64 b_table(const int8_t t[16])
{
    int32x4_t q = WORDS(vld1q_s8(t));
    return (b64){q, q, q, q};
}
INL b64 b_lookup(b64 t, b64 i)
{
#define E(m) WORDS(vqtbl1q_u8(BYTES(t.m), BYTES(i.m)))
    return EACH4(b64, E);
#undef E
}
/* Bytes of at most 63 are the same with and without a sign. A number of a lane is part of the instruction: the cases fold. */
INL int32x4_t lanes_dot(int32x4_t acc, int32x4_t w, int8x16_t x, const int lane)
{
    switch (lane) {
    case 0: return vdotq_laneq_s32(acc, (int8x16_t)w, x, 0);
    case 1: return vdotq_laneq_s32(acc, (int8x16_t)w, x, 1);
    case 2: return vdotq_laneq_s32(acc, (int8x16_t)w, x, 2);
    default: return vdotq_laneq_s32(acc, (int8x16_t)w, x, 3);
    }
}
INL vi16 b_dot_s(vi16 acc, b64 w, const int8_t *x, const int j)
{
    const int8x16_t v = vld1q_s8(x + j / 4 * 16);
#define E(m) lanes_dot(acc.m, w.m, v, j % 4)
    return EACH4(vi16, E);
#undef E
}
INL vi16 b_dot_u(vi16 acc, b64 w, const int8_t *x, const int j)
{
    return b_dot_s(acc, w, x, j);
}
INL void lanes_prefetch(const void *p)
{
    __builtin_prefetch(p, 0, 3);
}
#undef EACH4
#undef BYTES
#undef WORDS
#endif
