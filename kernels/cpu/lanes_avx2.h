/* lanes_avx2 - two 256-bit registers per value: one level's section of lanes.h, which includes it and says what the functions
 * mean. */
#ifndef HERON_KERNELS_CPU_LANES_AVX2_H
#define HERON_KERNELS_CPU_LANES_AVX2_H

#include <immintrin.h>

#define LANES_ISA  avx2
#define LANES_BIAS 0
typedef struct {
    __m256 a, b;
} v16;
typedef struct {
    __m256i a, b;
} vi16;
typedef vi16 b64;

#define EACH2(T, f) ((T){(f(a.a)), (f(a.b))})
INL v16 v_set1(float x)
{
    return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
INL v16 v_load(const float *p)
{
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
INL void v_store(float *p, v16 a)
{
    _mm256_storeu_ps(p, a.a), _mm256_storeu_ps(p + 8, a.b);
}
INL __m256i lanes_mask(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INL v16 v_load_n(const float *p, int n)
{
    return (v16){_mm256_maskload_ps(p, lanes_mask(n)),
                 n > 8 ? _mm256_maskload_ps(p + 8, lanes_mask(n - 8)) : _mm256_setzero_ps()};
}
INL void v_store_n(float *p, v16 a, int n)
{
    _mm256_maskstore_ps(p, lanes_mask(n), a.a);
    if (n > 8)
        _mm256_maskstore_ps(p + 8, lanes_mask(n - 8), a.b);
}
INL v16 v_add(v16 a, v16 b)
{
    return (v16){_mm256_add_ps(a.a, b.a), _mm256_add_ps(a.b, b.b)};
}
INL v16 v_sub(v16 a, v16 b)
{
    return (v16){_mm256_sub_ps(a.a, b.a), _mm256_sub_ps(a.b, b.b)};
}
INL v16 v_mul(v16 a, v16 b)
{
    return (v16){_mm256_mul_ps(a.a, b.a), _mm256_mul_ps(a.b, b.b)};
}
INL v16 v_div(v16 a, v16 b)
{
    return (v16){_mm256_div_ps(a.a, b.a), _mm256_div_ps(a.b, b.b)};
}
INL v16 v_fma(v16 a, v16 b, v16 c)
{
    return (v16){_mm256_fmadd_ps(a.a, b.a, c.a), _mm256_fmadd_ps(a.b, b.b, c.b)};
}
INL v16 v_fnma(v16 a, v16 b, v16 c)
{
    return (v16){_mm256_fnmadd_ps(a.a, b.a, c.a), _mm256_fnmadd_ps(a.b, b.b, c.b)};
}
INL v16 v_max(v16 a, v16 b)
{
    return (v16){_mm256_max_ps(a.a, b.a), _mm256_max_ps(a.b, b.b)};
}
INL v16 v_min(v16 a, v16 b)
{
    return (v16){_mm256_min_ps(a.a, b.a), _mm256_min_ps(a.b, b.b)};
}
INL v16 v_abs(v16 a)
{
    __m256 m = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    return (v16){_mm256_and_ps(a.a, m), _mm256_and_ps(a.b, m)};
}
INL v16 v_round(v16 a)
{
    return (v16){_mm256_round_ps(a.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                 _mm256_round_ps(a.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
INL v16 v_load_f16(const uint16_t *p)
{
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
INL void v_store_f16(uint16_t *p, v16 a)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(a.b, _MM_FROUND_TO_NEAREST_INT));
}
INL vi16 vi_load(const int32_t *p)
{
    return (vi16){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 8))};
}
INL void vi_store(int32_t *p, vi16 a)
{
    _mm256_storeu_si256((__m256i *)p, a.a);
    _mm256_storeu_si256((__m256i *)(p + 8), a.b);
}
INL vi16 vi_load_i8(const int8_t *p)
{
    return (vi16){_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)),
                  _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8)))};
}
INL vi16 vi_load_u8(const uint8_t *p)
{
    return (vi16){_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)),
                  _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8)))};
}
INL vi16 vi_load_u16(const uint16_t *p)
{
    return (vi16){_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)),
                  _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
INL vi16 vi_set1(int32_t x)
{
    return (vi16){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}
INL vi16 vi_add(vi16 a, vi16 b)
{
    return (vi16){_mm256_add_epi32(a.a, b.a), _mm256_add_epi32(a.b, b.b)};
}
INL vi16 vi_sub(vi16 a, vi16 b)
{
    return (vi16){_mm256_sub_epi32(a.a, b.a), _mm256_sub_epi32(a.b, b.b)};
}
INL vi16 vi_dot16(vi16 acc, vi16 a, vi16 b)
{
    return (vi16){_mm256_add_epi32(acc.a, _mm256_madd_epi16(a.a, b.a)), _mm256_add_epi32(acc.b, _mm256_madd_epi16(a.b, b.b))};
}
INL vi16 vi_pair(vi16 a, vi16 b)
{
    return (vi16){_mm256_blend_epi16(a.a, _mm256_slli_epi32(b.a, 16), 0xaa),
                  _mm256_blend_epi16(a.b, _mm256_slli_epi32(b.b, 16), 0xaa)};
}
INL vi16 vi_mul(vi16 a, vi16 b)
{
    return (vi16){_mm256_mullo_epi32(a.a, b.a), _mm256_mullo_epi32(a.b, b.b)};
}
INL vi16 vi_and(vi16 a, vi16 b)
{
    return (vi16){_mm256_and_si256(a.a, b.a), _mm256_and_si256(a.b, b.b)};
}
INL vi16 vi_or(vi16 a, vi16 b)
{
    return (vi16){_mm256_or_si256(a.a, b.a), _mm256_or_si256(a.b, b.b)};
}
INL vi16 vi_sll(vi16 a, int n)
{
    __m128i c = _mm_cvtsi32_si128(n);
    return (vi16){_mm256_sll_epi32(a.a, c), _mm256_sll_epi32(a.b, c)};
}
INL vi16 vi_srl(vi16 a, int n)
{
    __m128i c = _mm_cvtsi32_si128(n);
    return (vi16){_mm256_srl_epi32(a.a, c), _mm256_srl_epi32(a.b, c)};
}
INL vi16 vi_select_lt(vi16 a, vi16 b, vi16 t, vi16 f)
{
    return (vi16){_mm256_blendv_epi8(f.a, t.a, _mm256_cmpgt_epi32(b.a, a.a)),
                  _mm256_blendv_epi8(f.b, t.b, _mm256_cmpgt_epi32(b.b, a.b))};
}
INL int32_t vi_sum(vi16 a)
{
    __m256i s = _mm256_add_epi32(a.a, a.b);
    __m128i c = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    c = _mm_add_epi32(c, _mm_shuffle_epi32(c, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(c, _mm_shuffle_epi32(c, 0xb1)));
}
INL vi16 vi_max(vi16 a, vi16 b)
{
    return (vi16){_mm256_max_epi32(a.a, b.a), _mm256_max_epi32(a.b, b.b)};
}
INL int32_t vi_hmax(vi16 a)
{
    __m256i s = _mm256_max_epi32(a.a, a.b);
    __m128i c = _mm_max_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    c = _mm_max_epi32(c, _mm_shuffle_epi32(c, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(c, _mm_shuffle_epi32(c, 0xb1)));
}
INL void vi_store_i8(int8_t *p, vi16 a)
{
    __m256i w = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.a, a.b), 0xd8);
    _mm_storeu_si128((__m128i *)p, _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
}
INL v16 v_from_i(vi16 a)
{
    return EACH2(v16, _mm256_cvtepi32_ps);
}
INL vi16 v_to_i(v16 a)
{
    return EACH2(vi16, _mm256_cvtps_epi32);
}
INL v16 v_bits(vi16 a)
{
    return EACH2(v16, _mm256_castsi256_ps);
}
INL vi16 v_ibits(v16 a)
{
    return EACH2(vi16, _mm256_castps_si256);
}
INL v16 v_load_u8(const uint8_t *p)
{
    return v_from_i(vi_load_u8(p));
}
INL v16 v_load_i8(const int8_t *p)
{
    return v_from_i(vi_load_i8(p));
}
INL v16 v_load_bf16(const uint16_t *p)
{
    return v_bits(vi_sll(vi_load_u16(p), 16));
}
INL v16 v_select_lt(v16 a, v16 b, v16 t, v16 f)
{
    return (v16){_mm256_blendv_ps(f.a, t.a, _mm256_cmp_ps(a.a, b.a, _CMP_LT_OQ)),
                 _mm256_blendv_ps(f.b, t.b, _mm256_cmp_ps(a.b, b.b, _CMP_LT_OQ))};
}

INL b64 b_load(const void *p)
{
    return (b64){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)((const char *)p + 32))};
}
INL void b_store(void *p, b64 a)
{
    _mm256_storeu_si256((__m256i *)p, a.a);
    _mm256_storeu_si256((__m256i *)((char *)p + 32), a.b);
}
INL b64 b_set1(int x)
{
    return (b64){_mm256_set1_epi8((char)x), _mm256_set1_epi8((char)x)};
}
INL b64 b_and(b64 a, b64 b)
{
    return vi_and(a, b);
}
INL b64 b_or(b64 a, b64 b)
{
    return vi_or(a, b);
}
INL b64 b_srl(b64 a, int n)
{
    return (b64){_mm256_srli_epi16(a.a, n), _mm256_srli_epi16(a.b, n)};
}
INL b64 b_sll(b64 a, int n)
{
    return (b64){_mm256_slli_epi16(a.a, n), _mm256_slli_epi16(a.b, n)};
}
INL b64 b_of_i(vi16 a)
{
    return a;
}
INL b64 b_signed(b64 a)
{
    return a;
}
INL b64 b_table(const int8_t t[16])
{
    __m256i v = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)t));
    return (b64){v, v};
}
INL b64 b_lookup(b64 t, b64 i)
{
    return (b64){_mm256_shuffle_epi8(t.a, i.a), _mm256_shuffle_epi8(t.b, i.b)};
}
/* maddubs adds pairs into int16: 2 * 63 * 127 and 2 * 128 * 127 both fit. */
INL vi16 b_dot_u(vi16 acc, b64 w, const int8_t *x, const int j)
{
    __m256i v = _mm256_set1_epi32(lanes_word(x + 4 * j)), one = _mm256_set1_epi16(1);
    return (vi16){_mm256_add_epi32(acc.a, _mm256_madd_epi16(_mm256_maddubs_epi16(w.a, v), one)),
                  _mm256_add_epi32(acc.b, _mm256_madd_epi16(_mm256_maddubs_epi16(w.b, v), one))};
}
INL vi16 b_dot_s(vi16 acc, b64 w, const int8_t *x, const int j)
{
    __m256i v = _mm256_set1_epi32(lanes_word(x + 4 * j)), one = _mm256_set1_epi16(1);
    __m256i pa = _mm256_maddubs_epi16(_mm256_abs_epi8(w.a), _mm256_sign_epi8(v, w.a));
    __m256i pb = _mm256_maddubs_epi16(_mm256_abs_epi8(w.b), _mm256_sign_epi8(v, w.b));
    return (vi16){_mm256_add_epi32(acc.a, _mm256_madd_epi16(pa, one)), _mm256_add_epi32(acc.b, _mm256_madd_epi16(pb, one))};
}
INL float v_sum(v16 a)
{
    __m256 b = _mm256_add_ps(a.a, a.b);
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
INL float v_hmax(v16 a)
{
    __m256 b = _mm256_max_ps(a.a, a.b);
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}
/* Sums of sixteen values: lane i is the sum of a[i]; every one in the same order. */
INL v16 v_sum16(const v16 a[16])
{
    float s[16];
    for (int i = 0; i < 16; i++)
        s[i] = v_sum(a[i]);
    return v_load(s);
}
/* p[4 i + j] -> r[j] lane i */
INL void v_load4(const float *p, v16 r[4])
{
    float t[16];
    for (int j = 0; j < 4; j++) {
        for (int i = 0; i < 16; i++)
            t[i] = p[4 * i + j];
        r[j] = v_load(t);
    }
}
/* Sixteen e4m3 codes: e4m3 << 7 is the half of the value times 2^-8, and that conversion knows denormals at full speed. */
INL v16 v_load_e4m3(const uint8_t *p)
{
    __m128i raw = _mm_loadu_si128((const __m128i *)p), seven = _mm_set1_epi8(0x7f);
    __m128i c = _mm_andnot_si128(_mm_cmpeq_epi8(raw, seven), _mm_and_si128(raw, seven));
    __m256i h = _mm256_slli_epi16(_mm256_cvtepu8_epi16(c), 7);
    __m256 k = _mm256_set1_ps(256.0f);
    return (v16){_mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(h)), k),
                 _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(h, 1)), k)};
}
INL void lanes_prefetch(const void *p)
{
    __asm__ volatile(
        "prefetcht0 %0"
        :
        : "m"(*(const char *)p)); /* not the builtin: compilers gather those at one place, where they wait for each other */
}
#undef EACH2
#endif
