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

#include <stdint.h>

#define AMX_ROWS  16 /* of a tile, at most */
#define AMX_BYTES 64 /* of a row, at most */

struct amx_shape {
    uint8_t palette, start_row, zero[14];
    uint16_t row_bytes[16]; /* by register; the upper eight are 0 */
    uint8_t rows[16];
} __attribute__((aligned(64)));

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

#endif
