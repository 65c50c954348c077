#include "tests/support/kn_cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/features.h"

static const struct {
    const char *device, *isa;
    int threads;
} devices[] = {
    {"cpu", "scalar", 1}, {"cpu", "avx2", 2}, {"cpu", "avx512", 1}, {"cpu", "amx", 2},   {"cpu", "neon", 2},
    {"cpu", "i8mm", 1},   {"cpu", NULL, 3},   {"cuda", NULL, 1},    {"cpu+cpu", NULL, 1}}; /* of which each does all of it, told by messages */
const size_t kn_n_cases = sizeof devices / sizeof *devices;

bool kn_cases_few, kn_cases_cuda;

const enum kn_dtype kn_types[KN_N_TYPES] = {KN_F32,  KN_F16,    KN_BF16,   KN_Q4_0,  KN_Q4_1, KN_Q5_0,
                                            KN_Q5_1, KN_Q8_0,   KN_Q2_K,   KN_Q3_K,  KN_Q4_K, KN_Q5_K,
                                            KN_Q6_K, KN_IQ4_NL, KN_IQ4_XS, KN_MXFP4, KN_NVFP4};

static bool usable(size_t d)
{
    if (kn_cases_cuda != (strcmp(devices[d].device, "cuda") == 0))
        return false;
    if (kn_cases_few && strchr(devices[d].device, '+'))
        return false;
    if (kn_cases_few && devices[d].isa && (strcmp(devices[d].isa, "neon") != 0 || !cpu_level_usable(CPU_I8MM)))
        return false;
    for (int level = 0; devices[d].isa && level < CPU_LEVEL_COUNT; level++)
        if (strcmp(cpu_level_name(level), devices[d].isa) == 0)
            return cpu_level_usable((enum cpu_level)level);
    return true;
}

void kn_cases_begin(void)
{
    const char *device = getenv("HERON_TEST_DEVICE");
    kn_cases_few = getenv("HERON_TEST_FEW");
    kn_cases_cuda = device && strcmp(device, "cuda") == 0;
    for (size_t d = 0; d < kn_n_cases; d++)
        if (!usable(d) && !kn_cases_few && !kn_cases_cuda && devices[d].isa)
            print_message("left out: this processor does not run %s\n", devices[d].isa);
}

bool kn_case_open(size_t d, struct kn_rig *r)
{
    if (!usable(d))
        return false;
    kn_rig_open(r, devices[d].device, devices[d].isa, devices[d].threads);
    return true;
}

double kn_limit_of(enum kn_dtype type)
{
    const int n = kn_dtype_info(type)->block_elems;
    if (kn_cases_cuda && type != KN_F32)
        return KN_LIMIT_HALVES;
    return n == 1 ? KN_LIMIT_F32 : n == 256 ? KN_LIMIT_LONG : KN_LIMIT_INT8;
}

void kn_compare(const char *name, kn_case_fn fn, const int *shape, double limit)
{
    struct kn_rig ref;
    struct kn_output want = {0};
    kn_rig_open(&ref, "ref", NULL, 1);
    fn(&ref, shape, &want);
    kn_rig_close(&ref);
    for (size_t i = 0; i < want.n; i++)
        if (!isfinite(want.data[i]))
            fail_msg("%s: the reference is not finite at %zu", name, i);
    for (size_t d = 0; d < kn_n_cases; d++) {
        struct kn_rig r;
        struct kn_output got = {0};
        if (!kn_case_open(d, &r))
            continue;
        fn(&r, shape, &got);
        kn_rig_close(&r);
        assert_int_equal(got.n, want.n);
        const double nmse = test_nmse(got.data, want.data, want.n);
        if (!(nmse <= limit))
            fail_msg("%s on %s %s, shape %d %d %d %d %d: NMSE %.3g above %.3g", name, devices[d].device,
                     devices[d].isa ? devices[d].isa : "all", shape[0], shape[1], shape[2], shape[3], shape[4], nmse, limit);
        kn_output_release(&got);
    }
    kn_output_release(&want);
}

void kn_same_bits(const char *name, kn_case_fn one, kn_case_fn other, const int *shape)
{
    for (size_t d = 0; d <= kn_n_cases; d++) {
        struct kn_output a = {0}, b = {0};
        struct kn_rig r;
        const bool is_ref = d == kn_n_cases;
        if (!is_ref && !usable(d))
            continue;
        kn_rig_open(&r, is_ref ? "ref" : devices[d].device, is_ref ? NULL : devices[d].isa, is_ref ? 1 : devices[d].threads);
        one(&r, shape, &a);
        kn_rig_reset(&r);
        other(&r, shape, &b);
        kn_rig_close(&r);
        assert_int_equal(a.n, b.n);
        for (size_t i = 0; i < a.n; i++)
            if (memcmp(&a.data[i], &b.data[i], sizeof(float)) != 0)
                fail_msg("%s on %s, shape %d %d %d: value %zu is %.9g one way, %.9g the other", name,
                         is_ref           ? "ref"
                         : devices[d].isa ? devices[d].isa
                                          : "cpu",
                         shape[0], shape[1], shape[2], i, (double)a.data[i], (double)b.data[i]);
        kn_output_release(&a);
        kn_output_release(&b);
    }
}
