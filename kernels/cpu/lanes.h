/*
 * lanes - sixteen floats, sixteen int32 or sixty-four bytes as one value, whatever the instruction set.
 *
 * The op bodies (*_body.h) are written once on these three types and compiled once per level: one 512-bit register with
 * AVX-512, two 256-bit ones with AVX2, four 128-bit ones with NEON, plain C else. A new instruction set is a new section here
 * and a new tile_<isa>.c. Lanes are always 16, so that every level has the same reduction order along a row;
 * levels differ only where one has a fused multiply-add and another has not.
 *
 * Dot products are with the four bytes number j of x: b_dot_u takes unsigned bytes <= 63, b_dot_s "signed" bytes in the level's own representation: as they are, or
 * with LANES_BIAS added where the instruction wants an unsigned operand (then LANES_BIAS * sum(x) is taken off beforehand).
 * Both add exact integers.
 *
 * Included only by files compiled for one level. Threads: pure functions. Memory: none.
 */
#ifndef HERON_KERNELS_CPU_LANES_H
#define HERON_KERNELS_CPU_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/dtype.h"

#define LANES 16
/* A sanitizer's checks in unrolled and inlined code take minutes to compile; its builds do with less of both. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LANES_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(undefined_behavior_sanitizer)
#define LANES_SANITIZED 1
#endif
#endif

/* The levels of aarch64: dot products and half-precision arithmetic are what their files are compiled with. */
#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
#define LANES_NEON 1
#endif

/* Vector values live in registers only where all is inlined; with plain C the compiler may choose. */
#if defined(__AVX2__) || defined(LANES_NEON)
#define INL static inline __attribute__((always_inline, unused))
#elif defined(LANES_SANITIZED)
#define INL static __attribute__((noinline, unused))
#else
#define INL static inline __attribute__((unused))
#endif

/* Arrays of vectors become registers only when their loops are unrolled. */
#if (!defined(__AVX2__) && !defined(LANES_NEON)) || defined(LANES_SANITIZED)
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

INL int32_t lanes_word(const void *p)
{
    int32_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

#if defined(__AVX512F__)
#include "kernels/cpu/lanes_avx512.h"
#elif defined(__AVX2__)
#include "kernels/cpu/lanes_avx2.h"
#elif defined(LANES_NEON)
#include "kernels/cpu/lanes_neon.h"
#else
#include "kernels/cpu/lanes_plain.h"
#endif

/* ---- for all ---- */

#define LANES_CAT2(a, b) a##_##b
#define LANES_CAT(a, b)  LANES_CAT2(a, b)
#define LANES_NAME(name) LANES_CAT(name, LANES_ISA) /* rms_row -> rms_row_avx2 */

INL v16 v_zero(void)
{
    return v_set1(0.0f);
}

/*
 * e^x: x = n ln 2 + r, |r| <= ln 2 / 2, e^r by a polynomial of degree 6 (minimax), scaled by 2^n in two steps. Below -87.33 it
 * gives 0, above 88.72 infinity; NaN stays NaN. Error at most 1 ulp (checked in tests/kernels/test_cpu_levels.c).
 */
INL v16 v_exp(v16 x)
{
    v16 y = v_min(v_set1(89.0f), v_max(v_set1(-88.0f), x)); /* NaN passes: the second operand is kept */
    v16 n = v_round(v_mul(y, v_set1(0x1.715476p+0f)));
    v16 r = v_fnma(n, v_set1(0x1.62e4p-1f), y); /* the product is exact, n has 8 bits and the constant 15 */
    r = v_fnma(n, v_set1(0x1.7f7d1cp-20f), r);
    v16 p = v_set1(0x1.6850e4p-10f);
    p = v_fma(p, r, v_set1(0x1.123bccp-7f));
    p = v_fma(p, r, v_set1(0x1.555b98p-5f));
    p = v_fma(p, r, v_set1(0x1.55548ep-3f));
    p = v_fma(p, r, v_set1(0x1.fffff8p-2f));
    v16 r2 = v_mul(r, r);
    p = v_add(v_fma(p, r2, r), v_set1(1.0f));
    vi16 k = v_to_i(n);
    /* 2^127 steps: halve k so that k = 128 does not leave the exponent field */
    vi16 h = vi_sub(vi_srl(vi_add(k, vi_set1(256)), 1), vi_set1(128));
    v16 s1 = v_bits(vi_sll(vi_add(h, vi_set1(127)), 23));
    v16 s2 = v_bits(vi_sll(vi_add(vi_sub(k, h), vi_set1(127)), 23));
    v16 e = v_mul(v_mul(p, s1), s2);
    return v_select_lt(x, v_set1(-87.33f), v_zero(), e);
}

INL v16 v_sigmoid(v16 x)
{
    return v_div(v_set1(1.0f), v_add(v_set1(1.0f), v_exp(v_sub(v_zero(), x))));
}

INL v16 v_silu(v16 x)
{
    return v_div(x, v_add(v_set1(1.0f), v_exp(v_sub(v_zero(), x))));
}

/* tanh-form GELU as u * sigmoid(2 z): 0.5 (1 + tanh z) = sigmoid(2 z). */
INL v16 v_gelu_tanh(v16 u)
{
    v16 u2 = v_mul(u, u);
    v16 z2 = v_mul(v_mul(u, v_set1(1.5957691216f)), v_fma(u2, v_set1(0.044715f), v_set1(1.0f)));
    return v_div(u, v_add(v_set1(1.0f), v_exp(v_sub(v_zero(), z2))));
}

#endif
