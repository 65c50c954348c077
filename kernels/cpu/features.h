/*
 * features - which instruction sets this processor has, and which of them may be used.
 *
 * The CPU device is built as one binary with one set of kernels per level; at open it takes the highest level that the
 * processor, the operating system and the mask allow. Levels of an architecture are ordered: one includes all below it; those of
 * others are known by name, and not usable. Tests walk the list of levels with the mask and so run every kernel the machine can run.
 *
 * Threads: pure functions; detection asks the processor or the kernel each time (cheap, called at open). Memory: none.
 */
#ifndef HERON_KERNELS_CPU_FEATURES_H
#define HERON_KERNELS_CPU_FEATURES_H

#include <stdbool.h>

#include "base/err.h"

enum cpu_level {
    CPU_SCALAR, /* plain C, what the compiler makes of it for the baseline of the architecture */
    CPU_AVX2,   /* AVX2 + FMA + F16C + BMI2 */
    CPU_AVX512, /* AVX-512 F + BW + DQ + VL + VNNI */
    CPU_AMX,    /* AMX tiles of int8 and bf16; the kernel is asked to let the process use them */
    CPU_NEON,   /* aarch64: dot products (FEAT_DotProd) and half precision (FEAT_FP16); every Arm core since about 2018 */
    CPU_I8MM,   /* and products of small matrices, of int8 and bf16 (FEAT_I8MM, FEAT_BF16): Neoverse V1, Cortex-X2 and later */
    CPU_LEVEL_COUNT
};

/* The name people and HERON_CPU use: "scalar", "avx2", "avx512", "amx", "neon", "i8mm". NULL outside the list. */
const char *cpu_level_name(int level);

/* Does this machine run the level? */
bool cpu_level_usable(enum cpu_level level);

/*
 * The level to use.
 *
 * mask       name of the highest level allowed; NULL: the environment's HERON_CPU, or no limit where that is not set
 * ret_level  the highest level that is usable and not above the mask
 *
 * Errors: ERR_INVAL (a name not in the list), ERR_UNSUPPORTED (a level by name that this processor does not have, or that is of another
 * architecture: a mask is a request for that very level, never silently replaced).
 */
int cpu_level_choose(const char *mask, enum cpu_level *ret_level, struct err *err);

/*
 * The processor's name into text[cap]: its own ("Intel(R) Xeon(R) ..."), or on aarch64 those of its cores ("Cortex-X925 + Cortex-A725"), or the architecture
 * where it does not tell.
 */
void cpu_model_name(char *text, unsigned cap);

#endif
