/* features - instruction-set detection; see features.h. */
#include "kernels/cpu/features.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

static const char *const level_names[CPU_LEVEL_COUNT] = {
    [CPU_SCALAR] = "scalar",
    [CPU_AVX2] = "avx2",
    [CPU_AVX512] = "avx512",
    [CPU_AMX] = "amx",
};

const char *cpu_level_name(int level)
{
    return level >= 0 && level < CPU_LEVEL_COUNT ? level_names[level] : NULL;
}

#if defined(__x86_64__)
/* Tile registers are 8 KiB of each thread's state: Linux gives them to a process that asks (arch_prctl(2), since 5.16). */
static bool may_use_tiles(void)
{
#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA  18
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static bool has_tiles(void)
{
    unsigned a, b, c, d;
    const unsigned wanted = 1u << 22 | 1u << 24 | 1u << 25; /* AMX-BF16, AMX-TILE, AMX-INT8 */
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & wanted) == wanted && __get_cpuid_count(7, 1, &a, &b, &c, &d) &&
           (a & 1u << 5) && may_use_tiles(); /* AVX512-BF16 */
}
#endif

bool cpu_level_usable(enum cpu_level level)
{
    if (level == CPU_SCALAR)
        return true;
#if defined(__x86_64__)
    /* The compiler's runtime also asks the operating system (XCR0) whether it saves the registers. */
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    if (avx2) { /* F16C has no name in older compilers */
        unsigned a, b, c, d;
        avx2 = __get_cpuid(1, &a, &b, &c, &d) && (c & (1u << 29));
    }
    if (level == CPU_AVX2)
        return avx2;
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512vnni");
    if (level == CPU_AVX512)
        return avx512;
    if (level == CPU_AMX)
        return avx512 && has_tiles();
#endif
    return false;
}

int cpu_level_choose(const char *mask, enum cpu_level *ret_level, struct err *err)
{
    if (!mask)
        mask = getenv("HERON_CPU");
    if (mask && *mask) {
        for (int i = 0; i < CPU_LEVEL_COUNT; i++) {
            if (strcasecmp(mask, level_names[i]) != 0)
                continue;
            if (!cpu_level_usable((enum cpu_level)i))
                return err_set(err, ERR_UNSUPPORTED,
                               "instruction set \"%s\" was asked for, but this processor does not have it", level_names[i]);
            *ret_level = (enum cpu_level)i;
            return 0;
        }
        return err_set(err, ERR_INVAL, "no instruction set is called \"%.40s\"; known are scalar, avx2, avx512, amx", mask);
    }
    enum cpu_level best = CPU_SCALAR;
    for (int i = 0; i < CPU_LEVEL_COUNT; i++)
        if (cpu_level_usable((enum cpu_level)i))
            best = (enum cpu_level)i;
    *ret_level = best;
    return 0;
}

void cpu_model_name(char *text, unsigned cap)
{
    if (!cap)
        return;
#if defined(__x86_64__)
    uint32_t regs[12];
    unsigned a, b, c, d;
    if (__get_cpuid(0x80000000u, &a, &b, &c, &d) && a >= 0x80000004u) {
        for (unsigned i = 0; i < 3; i++)
            __get_cpuid(0x80000002u + i, &regs[4 * i], &regs[4 * i + 1], &regs[4 * i + 2], &regs[4 * i + 3]);
        char brand[49];
        memcpy(brand, regs, 48);
        brand[48] = 0;
        const char *p = brand;
        while (*p == ' ')
            p++;
        snprintf(text, cap, "%s", p);
        return;
    }
    snprintf(text, cap, "x86-64");
#elif defined(__aarch64__)
    snprintf(text, cap, "aarch64");
#else
    snprintf(text, cap, "unknown processor");
#endif
}
