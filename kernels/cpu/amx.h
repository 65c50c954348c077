/*
 * amx - the tile unit of x86 processors (Intel AMX) as functions: eight registers of at most 16 rows of 64 bytes, loads and stores of them, and their products.
 *
 * Inline assembly, because GCC 12 takes _tile_loadconfig for reading 8 bytes of its 64 and _tile_loadd for reading no memory at all, and so drops the stores before them. Register
 * numbers are part of the instruction: macros, not functions, take them.
 *
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1 chapter 18, volume 2 TDPBSSD and TDPBF16PS.
 *
 * Threads: the tile registers belong to a thread; between AMX_BEGIN and AMX_END it must not call what uses them too. The process must have asked the kernel for them (features.c).
 */
#ifndef HERON_KERNELS_CPU_AMX_H
#define HERON_KERNELS_CPU_AMX_H

#include <stdbool.h>
#include <stdint.h>

#define AMX_ROWS  16 /* of a tile, at most */
#define AMX_BYTES 64 /* of a row, at most */

struct amx_shape {
    uint8_t palette, start_row, zero[14];
    uint16_t row_bytes[16]; /* by register; the upper eight are 0 */
    uint8_t rows[16];
} __attribute__((aligned(64)));

/* Every register whole. */
static const struct amx_shape amx_whole __attribute__((unused)) = {
    .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

#define AMX_BEGIN(shape_ptr) __asm__ volatile("ldtilecfg %0" ::"m"(*(const struct amx_shape *)(shape_ptr)))
#define AMX_END()            __asm__ volatile("tilerelease" ::: "memory")

/* Rows `stride` bytes apart, as many and as long as the register's shape says. */
#define AMX_LOAD(t, from, stride)                                                                                              \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"((const void *)(from)), "r"((int64_t)(stride)) : "memory")
#define AMX_STORE(t, to, stride)                                                                                               \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"((void *)(to)), "r"((int64_t)(stride)) : "memory")
#define AMX_ZERO(t) __asm__ volatile("tilezero %%tmm" #t ::)

/* c[m][n] += sum over k, 4 at a time, of a[m][k] b[k / 4][n][k % 4]; int8, signed both; int32 */
#define AMX_DOT_I8(c, a, b) __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
/* The same with b unsigned. */
#define AMX_DOT_I8_U8(c, a, b) __asm__ volatile("tdpbsud %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
/* c[m][n] += sum over k, 2 at a time, of a[m][k] b[k / 2][n][k % 2]; bf16; the even and the odd k each in a chain of fused float32 steps, then both and c are added; denormals are 0 */
#define AMX_DOT_BF16(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)

/*
 * c += a b in bfloat16, 16 or 32 rows by 16 or 32 columns; with is_new c = a b. a [rows][n], rows lda values apart; b[i] [n / 2][16][2] the columns from 16 i on, lines of two rows ldb pairs
 * apart; c rows ldc floats apart. n is a multiple of 32. The registers are whole. Constants for the flags.
 */
static inline __attribute__((always_inline, unused)) void amx_add_bf16(const uint16_t *a, int64_t lda, const void *const b[2],
                                                                       int64_t ldb, int32_t n, float *c, int64_t ldc,
                                                                       const bool two_rows, const bool two_columns,
                                                                       const bool is_new)
{
    float *below = c + AMX_ROWS * ldc;
    if (is_new) {
        AMX_ZERO(0);
        AMX_ZERO(1);
        AMX_ZERO(2);
        AMX_ZERO(3);
    } else {
        AMX_LOAD(0, c, 4 * ldc);
        if (two_columns)
            AMX_LOAD(1, c + 16, 4 * ldc);
        if (two_rows)
            AMX_LOAD(2, below, 4 * ldc);
        if (two_rows && two_columns)
            AMX_LOAD(3, below + 16, 4 * ldc);
    }
    for (int32_t k = 0; k < n; k += 32) {
        const int64_t line = 4 * ldb * (k / 2);
        AMX_LOAD(4, a + k, 2 * lda);
        AMX_LOAD(6, (const char *)b[0] + line, 4 * ldb);
        AMX_DOT_BF16(0, 4, 6);
        if (two_columns) {
            AMX_LOAD(7, (const char *)b[1] + line, 4 * ldb);
            AMX_DOT_BF16(1, 4, 7);
        }
        if (two_rows) {
            AMX_LOAD(5, a + AMX_ROWS * lda + k, 2 * lda);
            AMX_DOT_BF16(2, 5, 6);
            if (two_columns)
                AMX_DOT_BF16(3, 5, 7);
        }
    }
    AMX_STORE(0, c, 4 * ldc);
    if (two_columns)
        AMX_STORE(1, c + 16, 4 * ldc);
    if (two_rows)
        AMX_STORE(2, below, 4 * ldc);
    if (two_rows && two_columns)
        AMX_STORE(3, below + 16, 4 * ldc);
}

#endif
