/* features - instruction-set detection; see features.h. */
#include "kernels/cpu/features.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#define ARCHITECTURE "x86-64"
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#define ARCHITECTURE "aarch64"
#else
#define ARCHITECTURE "another"
#endif

static const struct {
    const char *name, *architecture; /* NULL: any */
} levels[CPU_LEVEL_COUNT] = {
    [CPU_SCALAR] = {"scalar", NULL}, [CPU_AVX2] = {"avx2", "x86-64"},  [CPU_AVX512] = {"avx512", "x86-64"},
    [CPU_AMX] = {"amx", "x86-64"},   [CPU_NEON] = {"neon", "aarch64"}, [CPU_I8MM] = {"i8mm", "aarch64"},
};

const char *cpu_level_name(int level)
{
    return level >= 0 && level < CPU_LEVEL_COUNT ? levels[level].name : NULL;
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
#elif defined(__aarch64__)
    const unsigned long wanted = HWCAP_ASIMDDP | HWCAP_FPHP | HWCAP_ASIMDHP, more = HWCAP2_I8MM | HWCAP2_BF16;
    const bool neon = (getauxval(AT_HWCAP) & wanted) == wanted;
    if (level == CPU_NEON)
        return neon;
    if (level == CPU_I8MM)
        return neon && (getauxval(AT_HWCAP2) & more) == more;
#endif
    return false;
}

int cpu_level_choose(const char *mask, enum cpu_level *ret_level, struct err *err)
{
    if (!mask)
        mask = getenv("HERON_CPU");
    if (mask && *mask) {
        for (int i = 0; i < CPU_LEVEL_COUNT; i++) {
            if (strcasecmp(mask, levels[i].name) != 0)
                continue;
            if (levels[i].architecture && strcmp(levels[i].architecture, ARCHITECTURE) != 0)
                return err_set(err, ERR_UNSUPPORTED,
                               "instruction set \"%s\" was asked for, but it is one of %s, and this is " ARCHITECTURE,
                               levels[i].name, levels[i].architecture);
            if (!cpu_level_usable((enum cpu_level)i))
                return err_set(err, ERR_UNSUPPORTED,
                               "instruction set \"%s\" was asked for, but this processor does not have it", levels[i].name);
            *ret_level = (enum cpu_level)i;
            return 0;
        }
        return err_set(
            err, ERR_INVAL,
            "no instruction set is called \"%.40s\"; known are scalar, on x86-64 avx2, avx512, amx, on aarch64 neon, i8mm",
            mask);
    }
    enum cpu_level best = CPU_SCALAR;
    for (int i = 0; i < CPU_LEVEL_COUNT; i++)
        if (cpu_level_usable((enum cpu_level)i))
            best = (enum cpu_level)i;
    *ret_level = best;
    return 0;
}

#if defined(__aarch64__)
/* Arm's own cores by the part number of their identification register (MIDR_EL1; their technical reference manuals): the processor has no name of its own. */
static const struct {
    uint16_t part;
    const char *name;
} cores[] = {
    {0xd03, "Cortex-A53"},   {0xd04, "Cortex-A35"},    {0xd05, "Cortex-A55"},  {0xd07, "Cortex-A57"},   {0xd08, "Cortex-A72"},
    {0xd09, "Cortex-A73"},   {0xd0a, "Cortex-A75"},    {0xd0b, "Cortex-A76"},  {0xd0c, "Neoverse-N1"},  {0xd0d, "Cortex-A77"},
    {0xd0e, "Cortex-A76AE"}, {0xd40, "Neoverse-V1"},   {0xd41, "Cortex-A78"},  {0xd42, "Cortex-A78AE"}, {0xd44, "Cortex-X1"},
    {0xd46, "Cortex-A510"},  {0xd47, "Cortex-A710"},   {0xd48, "Cortex-X2"},   {0xd49, "Neoverse-N2"},  {0xd4b, "Cortex-A78C"},
    {0xd4d, "Cortex-A715"},  {0xd4e, "Cortex-X3"},     {0xd4f, "Neoverse-V2"}, {0xd80, "Cortex-A520"},  {0xd81, "Cortex-A720"},
    {0xd82, "Cortex-X4"},    {0xd83, "Neoverse-V3AE"}, {0xd84, "Neoverse-V3"}, {0xd85, "Cortex-X925"},  {0xd87, "Cortex-A725"},
    {0xd8e, "Neoverse-N3"},
};

static void core_name(uint64_t midr, char *text, size_t cap)
{
    const unsigned maker = midr >> 24 & 0xff, part = midr >> 4 & 0xfff;
    for (size_t i = 0; maker == 'A' && i < sizeof cores / sizeof *cores; i++)
        if (cores[i].part == part) {
            snprintf(text, cap, "%s", cores[i].name);
            return;
        }
    snprintf(text, cap, "aarch64 core 0x%02x:0x%03x", maker, part);
}

/* Where Linux lists no cores (a container without /sys), it lets a program read the register of the core it runs on. */
static bool own_midr(uint64_t *ret)
{
    if (!(getauxval(AT_HWCAP) & HWCAP_CPUID))
        return false;
    __asm__("mrs %0, midr_el1" : "=r"(*ret));
    return true;
}

/* Every kind of core, in the order that Linux numbers them. */
static bool core_names(char *text, size_t cap)
{
    char name[32], path[80];
    uint64_t midr;
    *text = '\0';
    for (int i = 0; i < 1024; i++) {
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/regs/identification/midr_el1", i);
        FILE *f = fopen(path, "re");
        if (!f)
            break;
        if (fscanf(f, "%" SCNx64, &midr) == 1) {
            core_name(midr, name, sizeof name);
            const size_t n = strlen(text);
            if (!strstr(text, name) && n < cap)
                snprintf(text + n, cap - n, "%s%s", n ? " + " : "", name);
        }
        fclose(f);
    }
    if (!*text && own_midr(&midr))
        core_name(midr, text, cap);
    return *text;
}
#endif

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
    if (!core_names(text, cap))
        snprintf(text, cap, "aarch64");
#else
    snprintf(text, cap, "unknown processor");
#endif
}
