/*
 * test_cpu_levels - the instruction-set mask, the packed layout, and the vector kernels of every level that this machine runs.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/cpu/cpu.h"
#include "tests/support/test.h"

/* ---- the mask ---- */

static void mask_by_name(void **state)
{
    enum cpu_level level = CPU_LEVEL_COUNT;
    struct err err = {0};
    assert_int_equal(cpu_level_choose("scalar", &level, &err), 0);
    assert_int_equal(level, CPU_SCALAR);
    level = CPU_LEVEL_COUNT;
    assert_int_equal(cpu_level_choose("sse9", &level, &err), ERR_INVAL);
    assert_int_equal(level, CPU_LEVEL_COUNT);
    assert_non_null(strstr(err.text, "sse9"));
    for (int i = 0; i < CPU_LEVEL_COUNT; i++) {
        const int rc = cpu_level_choose(cpu_level_name(i), &level, &err);
        assert_int_equal(rc, cpu_level_usable((enum cpu_level)i) ? 0 : ERR_UNSUPPORTED);
        if (rc == 0)
            assert_int_equal(level, i);
    }
    /* one of another architecture is refused in words that say so */
#if defined(__x86_64__)
    assert_err(cpu_level_choose("i8mm", &level, &err), ERR_UNSUPPORTED, &err, "one of aarch64, and this is x86-64");
#elif defined(__aarch64__)
    assert_err(cpu_level_choose("amx", &level, &err), ERR_UNSUPPORTED, &err, "one of x86-64, and this is aarch64");
#endif
    assert_null(cpu_level_name(-1));
    assert_null(cpu_level_name(CPU_LEVEL_COUNT));
}

static void mask_by_environment(void **state)
{
    enum cpu_level level = CPU_LEVEL_COUNT;
    char *before = getenv("HERON_CPU") ? strdup(getenv("HERON_CPU")) : NULL;
    setenv("HERON_CPU", "scalar", 1);
    assert_int_equal(cpu_level_choose(NULL, &level, NULL), 0);
    assert_int_equal(level, CPU_SCALAR);
    setenv("HERON_CPU", "abacus", 1);
    assert_int_equal(cpu_level_choose(NULL, &level, NULL), ERR_INVAL);
    unsetenv("HERON_CPU");
    assert_int_equal(cpu_level_choose(NULL, &level, NULL), 0);
    for (int i = (int)level + 1; i < CPU_LEVEL_COUNT; i++)
        assert_false(cpu_level_usable((enum cpu_level)i));
    if (before)
        setenv("HERON_CPU", before, 1);
    free(before);
}

static void device_tells_its_level(void **state)
{
    struct kn_device *device;
    struct kn_device_info info;
    const struct kn_device_options options = {.threads = 2, .isa = "scalar"};
    assert_int_equal(kn_device_open("cpu", &options, &device, NULL), 0);
    kn_device_get_info(device, &info);
    assert_string_equal(info.name, "cpu");
    assert_non_null(strstr(info.description, "scalar"));
    assert_int_equal(info.threads, 2);
    assert_true(info.memory_bytes > 0);
    assert_true(kn_read_bandwidth(device, (size_t)4 << 20, 0.01) > 0);
    kn_device_close(device);
}

/* ---- packing ---- */

static void pack_and_back(void **state)
{
    for (int type = 0; type < KN_DTYPE_COUNT; type++) {
        if (!pack_layout_of((enum kn_dtype)type))
            continue;
        static const int32_t row_counts[] = {1, 16, 37};
        for (size_t k = 0; k < 3; k++) {
            const int32_t rows = row_counts[k], cols = 512;
            const size_t bytes = kn_row_bytes((enum kn_dtype)type, cols);
            struct pack_shape shape;
            assert_true(pack_shape_init(&shape, (enum kn_dtype)type, rows, cols));
            uint8_t *src = malloc(bytes * (size_t)rows), *back = malloc(bytes), *slice = malloc(shape.slice_bytes + 64);
            for (size_t i = 0; i < bytes * (size_t)rows; i++)
                src[i] = (uint8_t)rng_at((uint64_t)type, i);
            memset(slice, 0xa5, shape.slice_bytes + 64);
            for (int32_t r = 0; r < rows;) { /* chunks of 1, 2, 3 ... rows */
                const int32_t n = r + r / 2 + 1 < rows ? r / 2 + 1 : rows - r;
                pack_rows(&shape, slice, r, n, src + (size_t)r * bytes);
                r += n;
            }
            for (int32_t r = 0; r < rows; r++) {
                pack_get_row(&shape, slice, r, 0, shape.n_blocks, back);
                assert_memory_equal(back, src + (size_t)r * bytes, bytes);
            }
            for (int i = 0; i < 64; i++)
                assert_int_equal(slice[shape.slice_bytes + (size_t)i], 0xa5);
            free(src);
            free(back);
            free(slice);
        }
    }
    struct pack_shape shape;
    assert_false(pack_shape_init(&shape, KN_I32, 1, 32));
    assert_false(pack_shape_init(&shape, KN_Q4_K, 1, 128));
}

/* ---- vector kernels ---- */

static const struct vec_kernels *level_vec(int level)
{
    if (!cpu_level_usable((enum cpu_level)level))
        return NULL;
#if defined(__x86_64__)
    if (level == CPU_AVX2)
        return &vec_avx2;
    if (level == CPU_AVX512)
        return &vec_avx512;
#elif defined(__aarch64__)
    if (level == CPU_NEON)
        return &vec_neon;
#endif
    return level == CPU_SCALAR ? &vec_scalar : NULL;
}

#define EACH_LEVEL(vec)                                                                                                        \
    for (int level_ = 0; level_ < CPU_LEVEL_COUNT; level_++)                                                                   \
        for (const struct vec_kernels *vec = level_vec(level_); vec; vec = NULL)

/* Distance in units of the last place of the true value. */
static double ulps(float got, double want)
{
    int e;
    frexp(want, &e);
    return fabs((double)got - want) / ldexp(1, e - 24);
}

static void exp_is_accurate(void **state)
{
    EACH_LEVEL(vec)
    {
        double worst = 0;
        for (int i = 0; i < 200000; i += 16) {
            float x[16], y[16];
            for (int l = 0; l < 16; l++)
                x[l] = (float)(-88.7 + 176.0 * rng_unit(&(struct rng){1, (uint64_t)(i + l)})); /* minus the exponent */
            vec->exp_diff(0, x, 16, y);
            for (int l = 0; l < 16; l++)
                if (-x[l] > -87.3f && -x[l] < 88.7f)
                    worst = fmax(worst, ulps(y[l], exp(-(double)x[l])));
        }
        printf("exp at level %s: at most %.2f ulp\n", cpu_level_name(level_), worst);
        assert_true(worst <= 1.0);
        const float edge[16] = {0, 1e9f, 88, INFINITY, -INFINITY, -89, NAN, -0.0f};
        float y[16];
        vec->exp_diff(0, edge, 16, y);
        assert_true(y[0] == 1 && y[1] == 0 && y[2] == 0 && y[3] == 0 && y[7] == 1);
        assert_true(isinf(y[4]) && isinf(y[5]) && isnan(y[6]));
    }
}

static void activations_are_accurate(void **state)
{
    EACH_LEVEL(vec)
    {
        for (int n = 1; n <= 40; n++) {
            float g[40], one[40], y[40], z[40];
            for (int i = 0; i < n; i++) {
                g[i] = (float)(40 * rng_unit(&(struct rng){2, (uint64_t)(40 * n + i)}) - 20);
                one[i] = 1;
            }
            vec->silu_mul(g, one, n, 1, 1, y);
            for (int i = 0; i < n; i++)
                assert_true(ulps(y[i], (double)g[i] / (1 + exp(-(double)g[i]))) <= 4);
            vec->finish(g, n, 1, NULL, KN_ACT_GELU_TANH, false, y);
            vec->finish(g, n, 1, NULL, KN_ACT_GELU_ERF, false, z);
            for (int i = 0; i < n; i++) {
                const double u = g[i], t = 0.5 * u * (1 + tanh(sqrt(2 / M_PI) * (u + 0.044715 * u * u * u)));
                assert_true(fabs((double)y[i] - t) <= 1e-6 * fmax(1, fabs(u)));
                assert_true(fabs((double)z[i] - 0.5 * u * (1 + erf(u * M_SQRT1_2))) <= 1e-6 * fmax(1, fabs(u)));
            }
            /* a value does not depend on its place in the row */
            float alone;
            vec->silu_mul(g + n - 1, one, 1, 1, 1, &alone);
            vec->silu_mul(g, one, n, 1, 1, y);
            assert_memory_equal(&alone, &y[n - 1], sizeof alone);
        }
    }
}

/* Scores and sums of a row come out the same in any tile. */
static void tiles_do_not_matter(void **state)
{
    enum { D = 48, R = 9, K = VEC_KEYS };
    static float q[R * D], k[K * D], s[R * K], t[R * K], c[R * D], e[R * D];
    for (int i = 0; i < R * D; i++)
        q[i] = (float)rng_unit(&(struct rng){3, (uint64_t)i}) - 0.5f;
    for (int i = 0; i < K * D; i++)
        k[i] = (float)rng_unit(&(struct rng){4, (uint64_t)i}) - 0.5f;
    EACH_LEVEL(vec)
    {
        vec->scores(q, D, R, k, D, K, D, 0.3f, s, K);
        memset(c, 0, sizeof c);
        vec->mac(s, K, R, K, k, D, D, c, D);
        memset(e, 0, sizeof e);
        for (int r = 0; r < R; r++) {
            vec->scores(q + r * D, D, 1, k, D, K, D, 0.3f, t + r * K, K);
            vec->mac(s + r * K, K, 1, 20, k, D, D, e + r * D, D); /* and in two steps */
            vec->mac(s + r * K + 20, K, 1, K - 20, k + 20 * D, D, D, e + r * D, D);
        }
        assert_memory_equal(s, t, sizeof s);
        assert_memory_equal(c, e, sizeof c);
    }
}

static int64_t available_bytes(void)
{
    int64_t kib = 0;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "MemAvailable: %" SCNd64 " kB", &kib) != 1)
        ;
    if (f)
        fclose(f);
    return kib * 1024;
}

/* What caches of files would give back is free: a box that has read its model once must not refuse it the next time. */
static void device_tells_free_memory(void **state)
{
    struct kn_device *device = NULL;
    struct kn_device_info info;
    struct err err = {0};
    const int64_t before = available_bytes();
    assert_ok(kn_device_open("cpu", NULL, &device, &err), &err);
    kn_device_get_info(device, &info);
    const int64_t after = available_bytes(), now = (int64_t)info.memory_free_bytes, slack = 64 << 20;
    kn_device_close(device);
    assert_true(before > 0 && after > 0);
    /* others allocate and free meanwhile */
    assert_true(now > (before < after ? before : after) - slack && now < (before > after ? before : after) + slack);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mask_by_name),           cmocka_unit_test(mask_by_environment),
        cmocka_unit_test(device_tells_its_level), cmocka_unit_test(pack_and_back),
        cmocka_unit_test(exp_is_accurate),        cmocka_unit_test(activations_are_accurate),
        cmocka_unit_test(tiles_do_not_matter),    cmocka_unit_test(device_tells_free_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
