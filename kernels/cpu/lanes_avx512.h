/* lanes_avx512 - one 512-bit register per value: one level's section of lanes.h, which includes it and says what the functions
 * mean. */
#ifndef HERON_KERNELS_CPU_LANES_AVX512_H
#define HERON_KERNELS_CPU_LANES_AVX512_H

#include <immintrin.h>

#define LANES_ISA  avx512
#define LANES_BIAS 128
typedef __m512 v16;
typedef __m512i vi16;
typedef __m512i b64;

INL v16 v_set1(float x)
{
    return _mm512_set1_ps(x);
}
INL v16 v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
INL void v_store(float *p, v16 a)
{
    _mm512_storeu_ps(p, a);
}
INL v16 v_load_n(const float *p, int n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
INL void v_store_n(float *p, v16 a, int n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
}
INL v16 v_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}
INL v16 v_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}
INL v16 v_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}
INL v16 v_div(v16 a, v16 b)
{
    return _mm512_div_ps(a, b);
}
INL v16 v_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
INL v16 v_fnma(v16 a, v16 b, v16 c)
{
    return _mm512_fnmadd_ps(a, b, c);
}
INL v16 v_max(v16 a, v16 b)
{
    return _mm512_max_ps(a, b);
}
INL v16 v_min(v16 a, v16 b)
{
    return _mm512_min_ps(a, b);
}
INL v16 v_abs(v16 a)
{
    return _mm512_abs_ps(a);
}
INL v16 v_round(v16 a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
INL v16 v_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
INL void v_store_f16(uint16_t *p, v16 a)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
INL v16 v_load_bf16(const uint16_t *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
INL v16 v_load_i8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
INL v16 v_load_u8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
/* Sixteen e4m3 codes: e4m3 << 7 is the half of the value times 2^-8, and that conversion knows denormals at full speed. */
INL v16 v_load_e4m3(const uint8_t *p)
{
    __m128i raw = _mm_loadu_si128((const __m128i *)p), seven = _mm_set1_epi8(0x7f);
    __m128i c = _mm_maskz_mov_epi8(_mm_cmpneq_epi8_mask(raw, seven), _mm_and_si128(raw, seven));
    return _mm512_mul_ps(_mm512_cvtph_ps(_mm256_slli_epi16(_mm256_cvtepu8_epi16(c), 7)), _mm512_set1_ps(256.0f));
}
/* Sums of sixteen values: lane i is the sum of a[i]; every one in v_sum's order, the upper half onto the lower. */
INL v16 v_sum16(const v16 a[16])
{
    v16 u[4];
    UNROLL for (int j = 0; j < 4; j++) /* of a[j], a[4 + j], a[8 + j], a[12 + j]: four sums each */
    {
        const v16 p = _mm512_add_ps(_mm512_shuffle_f32x4(a[j], a[4 + j], 0x44), _mm512_shuffle_f32x4(a[j], a[4 + j], 0xee));
        const v16 q =
            _mm512_add_ps(_mm512_shuffle_f32x4(a[8 + j], a[12 + j], 0x44), _mm512_shuffle_f32x4(a[8 + j], a[12 + j], 0xee));
        u[j] = _mm512_add_ps(_mm512_shuffle_f32x4(p, q, 0x88), _mm512_shuffle_f32x4(p, q, 0xdd));
    }
    v16 w[2];
    UNROLL for (int i = 0; i < 2; i++)
    {
        const __m512d x = _mm512_castps_pd(u[2 * i]), y = _mm512_castps_pd(u[2 * i + 1]);
        w[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
    }
    return _mm512_add_ps(_mm512_shuffle_ps(w[0], w[1], 0x88), _mm512_shuffle_ps(w[0], w[1], 0xdd));
}
/* p[4 i + j] -> r[j] lane i */
INL void v_load4(const float *p, v16 r[4])
{
    v16 a = _mm512_loadu_ps(p), b = _mm512_loadu_ps(p + 16), c = _mm512_loadu_ps(p + 32), d = _mm512_loadu_ps(p + 48);
    __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    v16 e0 = _mm512_permutex2var_ps(a, even, b), e1 = _mm512_permutex2var_ps(c, even, d);
    v16 o0 = _mm512_permutex2var_ps(a, odd, b), o1 = _mm512_permutex2var_ps(c, odd, d);
    r[0] = _mm512_permutex2var_ps(e0, even, e1);
    r[2] = _mm512_permutex2var_ps(e0, odd, e1);
    r[1] = _mm512_permutex2var_ps(o0, even, o1);
    r[3] = _mm512_permutex2var_ps(o0, odd, o1);
}
INL v16 v_from_i(vi16 a)
{
    return _mm512_cvtepi32_ps(a);
}
INL vi16 v_to_i(v16 a)
{
    return _mm512_cvtps_epi32(a);
} /* nearest, ties to even */
INL v16 v_bits(vi16 a)
{
    return _mm512_castsi512_ps(a);
}
INL vi16 v_ibits(v16 a)
{
    return _mm512_castps_si512(a);
}
/* where a < b: t, else f */
INL v16 v_select_lt(v16 a, v16 b, v16 t, v16 f)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), f, t);
}

INL vi16 vi_set1(int32_t x)
{
    return _mm512_set1_epi32(x);
}
INL vi16 vi_load(const int32_t *p)
{
    return _mm512_loadu_si512(p);
}
INL void vi_store(int32_t *p, vi16 a)
{
    _mm512_storeu_si512(p, a);
}
INL vi16 vi_load_i8(const int8_t *p)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
}
INL vi16 vi_load_u8(const uint8_t *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}
INL vi16 vi_load_u16(const uint16_t *p)
{
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
}
INL vi16 vi_add(vi16 a, vi16 b)
{
    return _mm512_add_epi32(a, b);
}
INL vi16 vi_sub(vi16 a, vi16 b)
{
    return _mm512_sub_epi32(a, b);
}
INL vi16 vi_mul(vi16 a, vi16 b)
{
    return _mm512_mullo_epi32(a, b);
}
/* acc + the products of the 16-bit halves, both added. */
INL vi16 vi_dot16(vi16 acc, vi16 a, vi16 b)
{
    return _mm512_dpwssd_epi32(acc, a, b);
}
/* Two 16-bit values as halves: a below. */
INL vi16 vi_pair(vi16 a, vi16 b)
{
    return _mm512_mask_blend_epi16(0xaaaaaaaa, a, _mm512_slli_epi32(b, 16));
}
INL vi16 vi_and(vi16 a, vi16 b)
{
    return _mm512_and_si512(a, b);
}
INL vi16 vi_or(vi16 a, vi16 b)
{
    return _mm512_or_si512(a, b);
}
INL vi16 vi_sll(vi16 a, int n)
{
    return _mm512_sll_epi32(a, _mm_cvtsi32_si128(n));
}
INL vi16 vi_srl(vi16 a, int n)
{
    return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n));
}
INL vi16 vi_select_lt(vi16 a, vi16 b, vi16 t, vi16 f)
{
    return _mm512_mask_blend_epi32(_mm512_cmplt_epi32_mask(a, b), f, t);
}
INL int32_t vi_sum(vi16 a)
{
    return _mm512_reduce_add_epi32(a);
}
INL vi16 vi_max(vi16 a, vi16 b)
{
    return _mm512_max_epi32(a, b);
}
INL int32_t vi_hmax(vi16 a)
{
    return _mm512_reduce_max_epi32(a);
}
INL void vi_store_i8(int8_t *p, vi16 a)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtsepi32_epi8(a));
}

#if defined(__AVX512BF16__)
/* Sixteen pairs of bfloat16, rounded to nearest: the even one of each in the lower half. */
INL vi16 vi_pair_bf16(v16 even, v16 odd)
{
    return vi_or(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(even)),
                 vi_sll(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(odd)), 16));
}
#endif

INL b64 b_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
INL void b_store(void *p, b64 a)
{
    _mm512_storeu_si512(p, a);
}
INL b64 b_set1(int x)
{
    return _mm512_set1_epi8((char)x);
}
INL b64 b_and(b64 a, b64 b)
{
    return _mm512_and_si512(a, b);
}
INL b64 b_or(b64 a, b64 b)
{
    return _mm512_or_si512(a, b);
}
/* Shift 16-bit halves: bits cross bytes, callers mask. */
INL b64 b_srl(b64 a, int n)
{
    return _mm512_srli_epi16(a, (unsigned)n);
}
INL b64 b_sll(b64 a, int n)
{
    return _mm512_slli_epi16(a, (unsigned)n);
}
INL b64 b_of_i(vi16 a)
{
    return a;
}
INL b64 b_signed(b64 a)
{
    return _mm512_xor_si512(a, _mm512_set1_epi8((char)0x80));
}
INL b64 b_table(const int8_t t[16])
{
    return b_signed(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)t)));
}
INL b64 b_lookup(b64 table, b64 i)
{
    return _mm512_shuffle_epi8(table, i);
}
INL vi16 b_dot_u(vi16 acc, b64 w, const int8_t *x, const int j)
{
    return _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(lanes_word(x + 4 * j)));
}
INL vi16 b_dot_s(vi16 acc, b64 w, const int8_t *x, const int j)
{
    return b_dot_u(acc, w, x, j);
}

INL float v_sum(v16 a)
{
    __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
INL float v_hmax(v16 a)
{
    return _mm512_reduce_max_ps(a);
}
INL void lanes_prefetch(const void *p)
{
    __asm__ volatile(
        "prefetcht0 %0"
        :
        : "m"(*(const char *)p)); /* not the builtin: compilers gather those at one place, where they wait for each other */
}
#endif
