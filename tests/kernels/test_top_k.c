/*
 * The largest of a row, on every device: the very values and places that a sort finds, whatever is tied, masked, infinite or no number.
 */
#include "tests/support/kn_cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum values { NOISE, FEW_LEVELS, ALL_EQUAL, RISING, FALLING, ODD_ONES, N_VALUES };
enum masks { NO_MASK, MOST, SPARSE, ONE, NONE, N_MASKS };

static float *make_values(int rows, int n, enum values kind)
{
    float *x = kn_rig_noise(7, (size_t)rows * (size_t)n, 3);
    static const float odd[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1e-42f, -1e-42f, -NAN};
    for (int i = 0; i < rows * n; i++) {
        const uint64_t r = rng_at(8, (uint64_t)i);
        if (kind == FEW_LEVELS)
            x[i] = roundf(x[i]);
        else if (kind == ALL_EQUAL)
            x[i] = -2;
        else if (kind == RISING || kind == FALLING)
            x[i] = (float)(kind == RISING ? i : -i);
        else if (kind == ODD_ONES)
            x[i] = odd[r % 8];
    }
    return x;
}

/* Bits behind the last value are set: nobody may look at them. NULL: no mask. */
static uint32_t *make_mask(int rows, int n, enum masks kind)
{
    const int n_words = (n + 31) / 32;
    if (kind == NO_MASK)
        return NULL;
    uint32_t *mask = test_malloc((size_t)rows * (size_t)n_words * sizeof *mask);
    for (int t = 0; t < rows; t++)
        for (int i = 0; i < 32 * n_words; i++) {
            const uint64_t r = rng_at(9, (uint64_t)(t * 32 * n_words + i));
            const bool is_set = i >= n || (kind == MOST     ? r % 50 != 0
                                           : kind == SPARSE ? r % 200 == 0
                                                            : kind == ONE && i == (t * 37 + n - 1) % n);
            uint32_t *word = &mask[t * n_words + i / 32];
            *word = (i % 32 ? *word : 0) | (uint32_t)is_set << i % 32;
        }
    return mask;
}

static int compare_tops(const void *a, const void *b)
{
    const struct kn_top *x = a, *y = b;
    return x->x != y->x ? (x->x < y->x) - (x->x > y->x) : (x->index > y->index) - (x->index < y->index);
}

/* By sorting all that is allowed. */
static void sorted(const float *x, const uint32_t *mask, int n, int k, struct kn_top *y)
{
    struct kn_top *all = test_malloc((size_t)n * sizeof *all);
    int n_all = 0;
    for (int i = 0; i < n; i++)
        if (!isnan(x[i]) && (!mask || mask[i / 32] >> i % 32 & 1))
            all[n_all++] = (struct kn_top){x[i], i};
    qsort(all, (size_t)n_all, sizeof *all, compare_tops);
    for (int i = 0; i < k; i++)
        y[i] = i < n_all ? all[i] : (struct kn_top){-INFINITY, -1};
    test_free(all);
}

/* The same of values and mask on device d; number kn_n_cases is the reference. */
static void check_on(size_t d, const float *x, const uint32_t *mask, int rows, int n, int k, const struct kn_top *want,
                     const char *what)
{
    struct kn_rig r;
    struct err err = {0};
    if (d == kn_n_cases)
        kn_rig_open(&r, "ref", NULL, 1);
    else if (!kn_case_open(d, &r))
        return;
    kn_stream_close(r.stream);
    const struct kn_limits limits = {.rows = rows, .cols = 1, .outputs = n, .seqs = 1, .kv_len = 1, .heads = 1, .head_dim = 16};
    assert_ok(kn_stream_open(r.device, &limits, &r.stream, &err), &err);
    const struct kn_mat m = kn_rig_out(&r, rows, n, 5);
    for (int t = 0; t < rows; t++)
        kn_upload(r.stream, m.data + t * m.stride, x + (size_t)t * (size_t)n, (size_t)n * sizeof *x);
    const size_t mask_bytes = (size_t)rows * (size_t)((n + 31) / 32) * sizeof *mask, bytes = (size_t)(rows * k) * sizeof *want;
    struct kn_top *y = kn_rig_put(&r, NULL, bytes), *got = test_malloc(bytes);
    for (int again = 0; again < 2; again++) { /* what a device counts is as it was */
        r.op->top_k(r.stream,
                    &(struct kn_top_k_args){.x = m, .mask = mask ? kn_rig_put(&r, mask, mask_bytes) : NULL, .k = k, .y = y});
        assert_ok(kn_stream_sync(r.stream, &err), &err);
        kn_rig_get(&r, got, y, bytes);
        for (int i = 0; i < rows * k; i++)
            if (got[i].index != want[i].index || !(got[i].x == want[i].x))
                fail_msg("%s, device %zu, %d x %d, row %d: number %d is %g at %d, sorted %g at %d", what, d, rows, n, i / k,
                         i % k, (double)got[i].x, got[i].index, (double)want[i].x, want[i].index);
    }
    test_free(got);
    kn_rig_close(&r);
}

static void check(int rows, int n, int k, enum values values, enum masks masks)
{
    char what[64];
    snprintf(what, sizeof what, "values %d, mask %d", values, masks);
    float *x = make_values(rows, n, values);
    uint32_t *mask = make_mask(rows, n, masks);
    struct kn_top *want = test_malloc((size_t)(rows * k) * sizeof *want);
    for (int t = 0; t < rows; t++)
        sorted(x + (size_t)t * (size_t)n, mask ? mask + (size_t)t * (size_t)((n + 31) / 32) : NULL, n, k,
               want + (size_t)t * (size_t)k);
    for (size_t d = 0; d <= kn_n_cases; d++)
        if (d < kn_n_cases || n < 10000) /* the reference is slow */
            check_on(d, x, mask, rows, n, k, want, what);
    test_free(want);
    test_free(mask);
    test_free(x);
}

static void the_largest_as_a_sort_finds_them(void **state)
{
    for (int values = 0; values < N_VALUES; values++)
        for (int masks = 0; masks < N_MASKS; masks++) {
            check(3, 1000, KN_TOP_K_MAX, values, masks);
            check(1, 4096 + 33, 20, values, masks);
        }
}

static void any_shape(void **state)
{
    static const int n[] = {1, 2, 31, 32, 33, 63, 64, 65, 4095, 4096, 4097, 8192 + 1};
    static const int k[] = {1, 5, KN_TOP_K_MAX};
    for (size_t i = 0; i < sizeof n / sizeof *n; i++)
        for (size_t j = 0; j < sizeof k / sizeof *k; j++) {
            check(2, n[i], k[j], NOISE, NO_MASK);
            check(2, n[i], k[j], FEW_LEVELS, MOST);
        }
    check(70, 100, 7, NOISE, MOST);
}

/* More of them than any block of a device looks at together. */
static void a_large_vocabulary(void **state)
{
    if (kn_cases_few)
        skip();
    check(1, 266241, KN_TOP_K_MAX, NOISE, MOST);
    check(2, 266241, 20, FALLING, NO_MASK);
    check(1, 266241, KN_TOP_K_MAX, RISING, NO_MASK);
}

static void bad_arguments(void **state)
{
    struct kn_rig r;
    struct err err = {0};
    kn_rig_open(&r, "ref", NULL, 1);
    const struct kn_mat x = kn_rig_mat(&r, 1, 2, 32, 0, 1);
    struct kn_top *y = kn_rig_put(&r, NULL, 2 * 65 * sizeof *y);
    r.op->top_k(r.stream, &(struct kn_top_k_args){.x = x, .k = 65, .y = y});
    assert_err(kn_stream_sync(r.stream, &err), ERR_INVAL, &err, "top_k: the 65 largest, 1 to 64 are possible");
    kn_stream_clear(r.stream);
    r.op->top_k(r.stream, &(struct kn_top_k_args){.x = x, .k = 1});
    assert_err(kn_stream_sync(r.stream, &err), ERR_INVAL, &err, "top_k: y is missing");
    kn_stream_clear(r.stream);
    kn_rig_close(&r);
}

int main(void)
{
    kn_cases_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_as_a_sort_finds_them),
        cmocka_unit_test(any_shape),
        cmocka_unit_test(a_large_vocabulary),
        cmocka_unit_test(bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
