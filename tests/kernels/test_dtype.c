/*
 * The block formats against the reference implementation's values (tests/golden/dtype), the half and bfloat16 conversions
 * exhaustively, quantisers, noise.
 */
#include "kernels/dtype.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/test.h"

static const enum kn_dtype all_types[] = {KN_F32,  KN_F16,  KN_BF16, KN_Q4_0, KN_Q4_1,   KN_Q5_0,   KN_Q5_1,  KN_Q8_0, KN_Q2_K,
                                          KN_Q3_K, KN_Q4_K, KN_Q5_K, KN_Q6_K, KN_IQ4_NL, KN_IQ4_XS, KN_MXFP4, KN_NVFP4};
#define N_TYPES (sizeof all_types / sizeof *all_types)

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* ---- against the reference implementation ------------------------------------------------------------------------------------ */

struct record {
    char name[9];
    enum kn_dtype dtype;
    uint32_t n, bytes;
    uint8_t *blocks;
    float *values;
};

static bool record_read(FILE *f, struct record *r)
{
    uint32_t head[3];
    memset(r, 0, sizeof *r);
    if (fread(r->name, 8, 1, f) != 1)
        return false;
    assert_int_equal(fread(head, sizeof head, 1, f), 1);
    r->dtype = (enum kn_dtype)head[0];
    r->n = head[1];
    r->bytes = head[2];
    r->blocks = test_malloc(r->bytes);
    r->values = test_malloc(r->n * sizeof(float));
    assert_int_equal(fread(r->blocks, r->bytes, 1, f), 1);
    assert_int_equal(fread(r->values, sizeof(float), r->n, f), r->n);
    return true;
}

static void blocks_mean_what_the_reference_says(void **state)
{
    FILE *f = fopen("tests/golden/dtype/blocks.bin", "rb");
    struct record r;
    int n_read = 0, n_written = 0;
    assert_non_null(f);
    while (record_read(f, &r)) {
        enum kn_dtype parsed;
        assert_true(kn_dtype_parse(r.name, &parsed));
        assert_int_equal(parsed, r.dtype);
        assert_int_equal(kn_row_bytes(r.dtype, r.n), r.bytes);
        if (r.name[0] >= 'a') {
            uint8_t *got = test_malloc(r.bytes);
            assert_true(kn_quantize(r.dtype, r.values, r.n, got));
            assert_memory_equal(got, r.blocks, r.bytes);
            test_free(got);
            n_written++;
        } else {
            float *got = test_malloc(r.n * sizeof *got);
            kn_dequantize(r.dtype, r.blocks, r.n, got);
            for (uint32_t i = 0; i < r.n; i++) /* zeroes may differ in sign */
                if (bits_of(got[i]) != bits_of(r.values[i]) && !(got[i] == 0 && r.values[i] == 0))
                    fail_msg("%s value %u is %.9g, the reference says %.9g", r.name, i, (double)got[i], (double)r.values[i]);
            test_free(got);
            n_read++;
        }
        test_free(r.blocks);
        test_free(r.values);
    }
    fclose(f);
    assert_int_equal(n_read, N_TYPES - 1); /* all but F32 */
    assert_int_equal(n_written, 2);
}

/* ---- half and bfloat16 --------------------------------------------------------------------------------------------------------- */

/* The definition: sign, 5 bits of exponent, 10 of mantissa. */
static double half_value(uint32_t h)
{
    const int exponent = h >> 10 & 31, mantissa = h & 1023;
    const double magnitude = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    return h & 0x8000 ? -magnitude : magnitude;
}

static void halves_are_exact_both_ways(void **state)
{
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float f = kn_f16_to_f32((uint16_t)h);
        if ((h & 0x7C00) == 0x7C00) {
            assert_true(h & 0x3FF ? isnan(f) : isinf(f) && (f > 0) == !(h & 0x8000));
            assert_true(h & 0x3FF ? isnan(kn_f16_to_f32(kn_f32_to_f16(f))) : kn_f32_to_f16(f) == h);
            continue;
        }
        assert_true((double)f == half_value(h) && !!signbit(f) == !!(h & 0x8000));
        assert_int_equal(kn_f32_to_f16(f), h);
        /* the middle between a half and the next goes to the even one, a hair off it to the nearer */
        const uint32_t up = h + 1;
        const double above = (up & 0x7C00) == 0x7C00 ? ldexp(h & 0x8000 ? -1 : 1, 16) : half_value(up);
        const float middle = (float)((half_value(h) + above) / 2); /* exact: one bit more than a half has */
        assert_int_equal(kn_f32_to_f16(middle), h & 1 ? up : h);
        assert_int_equal(kn_f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(kn_f32_to_f16(nextafterf(middle, h & 0x8000 ? -INFINITY : INFINITY)), up);
    }
    assert_int_equal(kn_f32_to_f16(1e30f), 0x7C00);
    assert_int_equal(kn_f32_to_f16(-1e30f), 0xFC00);
    assert_int_equal(kn_f32_to_f16(1e-40f), 0);
}

static void bfloats_are_exact_both_ways(void **state)
{
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float f = kn_bf16_to_f32((uint16_t)h);
        assert_int_equal(bits_of(f), h << 16);
        if (isnan(f)) {
            assert_true(isnan(kn_bf16_to_f32(kn_f32_to_bf16(f))));
            continue;
        }
        assert_int_equal(kn_f32_to_bf16(f), h);
        if (isinf(f))
            continue;
        float middle, below, above;
        const uint32_t m = h << 16 | 0x8000, b = m - 1, a = m + 1;
        memcpy(&middle, &m, sizeof m);
        memcpy(&below, &b, sizeof b);
        memcpy(&above, &a, sizeof a);
        assert_int_equal(kn_f32_to_bf16(middle), h & 1 ? h + 1 : h);
        assert_int_equal(kn_f32_to_bf16(below), h);
        assert_int_equal(kn_f32_to_bf16(above), h + 1);
    }
    /* a NaN whose payload lies only in the bits that are cut off stays one */
    const uint32_t low = 0x7F800001;
    float nan_low;
    memcpy(&nan_low, &low, sizeof low);
    assert_true(isnan(kn_bf16_to_f32(kn_f32_to_bf16(nan_low))));
}

/* ---- writing --------------------------------------------------------------------------------------------------------------------- */

static void quantised_values_are_the_nearest(void **state)
{
    float x[256], y[256];
    uint8_t blocks[256 / 32 * 34];
    static const struct {
        enum kn_dtype dtype;
        double levels; /* steps from zero to the largest magnitude */
    } cases[] = {{KN_Q8_0, 127}, {KN_Q4_0, 8}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        kn_fill_noise(KN_F32, 5, 1, 256, x);
        assert_true(kn_quantize(cases[c].dtype, x, 256, blocks));
        kn_dequantize(cases[c].dtype, blocks, 256, y);
        for (int b = 0; b < 8; b++) {
            double top = 0, edge = 0;
            for (int i = 0; i < 32; i++)
                if (fabs((double)x[32 * b + i]) > fabs(top))
                    top = (double)x[32 * b + i];
            const double step = fabs(top) / cases[c].levels;
            for (int i = 0; i < 32; i++) {
                /* Q4_0 has no +8: values opposite to the top one are cut at 7 steps */
                edge = cases[c].dtype == KN_Q4_0 && (double)x[32 * b + i] * top < 0 ? 0.5 : 0;
                /* half a step, and the rounding of the scale to half precision */
                const double allowed = step * (0.5 + edge) + fabs(top) / 1500;
                if (fabs((double)x[32 * b + i] - (double)y[32 * b + i]) > allowed)
                    fail_msg("%s: %g became %g", kn_dtype_name((int)cases[c].dtype), (double)x[32 * b + i],
                             (double)y[32 * b + i]);
            }
        }
    }
    assert_false(kn_quantize(KN_Q4_K, x, 256, blocks));
}

/* What an overflowed activation would bring must come out as what it is, and must not be undefined on the way. */
static void odd_numbers_survive_quantisation(void **state)
{
    static const float odd[] = {INFINITY, -INFINITY, NAN, 1e-40f, 3e38f, -1e-44f, 1e9f};
    for (size_t k = 0; k < sizeof odd / sizeof *odd; k++) {
        for (int type = 0; type < 2; type++) {
            const enum kn_dtype dtype = type ? KN_Q4_0 : KN_Q8_0;
            float x[32] = {0}, y[32];
            uint8_t block[34];
            x[3] = odd[k];
            assert_true(kn_quantize(dtype, x, 32, block));
            kn_dequantize(dtype, block, 32, y);
            if (fabsf(odd[k]) < 1e-30f) /* below what the scale can say: zero */
                assert_true(fabsf(y[3]) <= 1e-30f);
            else /* beyond it: not a finite number that nobody wrote */
                assert_true(!isfinite(y[3]));
        }
    }
}

/* ---- noise ----------------------------------------------------------------------------------------------------------------------- */

static void noise_is_centred_scaled_and_repeatable(void **state)
{
    enum { N = 1 << 16 };
    float *x = test_malloc(N * sizeof *x);
    for (size_t t = 0; t < N_TYPES; t++) {
        const enum kn_dtype dtype = all_types[t];
        const size_t bytes = kn_row_bytes(dtype, N);
        uint8_t *all = test_malloc(bytes), *part = test_malloc(bytes);
        kn_fill_noise(dtype, 9, 0.02f, N, all);
        kn_fill_noise(dtype, 9, 0.02f, N / 4, part);
        assert_memory_equal(all, part, kn_row_bytes(dtype, N / 4));
        kn_dequantize(dtype, all, N, x);
        double mean = 0, square = 0;
        for (int i = 0; i < N; i++) {
            assert_true(isfinite(x[i]));
            mean += (double)x[i] / N;
            square += (double)x[i] * (double)x[i] / N;
        }
        /* scales that are powers of two, or have three bits, can miss by up to a half; tables are not quite symmetric */
        const double slack = dtype == KN_MXFP4 ? 0.5 : dtype == KN_NVFP4 ? 0.2 : 0.05;
        if (fabs(sqrt(square) / 0.02 - 1) > slack || fabs(mean) > 0.12 * 0.02)
            fail_msg("noise of %s: mean %g, standard deviation %g, asked for 0 and 0.02", kn_dtype_name((int)dtype), mean,
                     sqrt(square));
        test_free(all);
        test_free(part);
    }
    test_free(x);
}

/* ---- names ----------------------------------------------------------------------------------------------------------------------- */

static void names_and_sizes(void **state)
{
    enum kn_dtype dtype = KN_F32;
    assert_string_equal(kn_dtype_name(KN_Q4_K), "Q4_K");
    assert_string_equal(kn_dtype_name(16), "IQ2_XXS");
    assert_null(kn_dtype_info(16));
    assert_null(kn_dtype_info(-1));
    assert_null(kn_dtype_info(KN_DTYPE_COUNT));
    assert_null(kn_dtype_info(4));
    assert_true(kn_dtype_parse("q4_k", &dtype));
    assert_int_equal(dtype, KN_Q4_K);
    assert_false(kn_dtype_parse("q4", &dtype));
    assert_false(kn_dtype_parse("", &dtype));
    assert_int_equal(kn_row_bytes(KN_Q4_K, 512), 288);
    assert_int_equal(kn_row_bytes(KN_Q4_K, 500), 0);
    assert_int_equal(kn_row_bytes(KN_Q4_K, -256), 0);
    assert_int_equal(kn_row_bytes((enum kn_dtype)5, 32), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_mean_what_the_reference_says),
        cmocka_unit_test(halves_are_exact_both_ways),
        cmocka_unit_test(bfloats_are_exact_both_ways),
        cmocka_unit_test(quantised_values_are_the_nearest),
        cmocka_unit_test(odd_numbers_survive_quantisation),
        cmocka_unit_test(noise_is_centred_scaled_and_repeatable),
        cmocka_unit_test(names_and_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
