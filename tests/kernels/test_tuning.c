/*
 * The figures that a device goes by: whatever they are, results are the same to the bit; and where they come from.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/kn_cases.h"

/* ---- the same to the bit --------------------------------------------------------------------------------------------------------------- */

/* Both figures of a type: of the least or the largest value. */
static void set_figures(struct kn_rig *r, enum kn_dtype type, bool is_most)
{
    for (int what = 0; what < KN_TUNABLES; what++)
        kn_tune(r->device, (enum kn_tunable)what, type, is_most ? kn_tuning_most(r->device, (enum kn_tunable)what, type) : 0);
}

/* shape: type, rows, inputs, outputs. */
static void dense(struct kn_rig *r, const int *shape, struct kn_output *out, bool is_most)
{
    const enum kn_dtype type = (enum kn_dtype)shape[0];
    const struct kn_mat x = kn_rig_mat(r, 1, shape[1], shape[2], 0, 1), y = kn_rig_out(r, shape[1], shape[3], 4);
    const struct kn_weight *w = kn_rig_weight(r, 2, type, 1, shape[3], shape[2]);
    set_figures(r, type, is_most);
    r->op->linear(r->stream, &(struct kn_linear_args){.x = x, .w = w, .y = y});
    kn_output_add(out, r, &y);
}

static void dense_few(struct kn_rig *r, const int *shape, struct kn_output *out)
{
    dense(r, shape, out, true);
}

static void dense_many(struct kn_rig *r, const int *shape, struct kn_output *out)
{
    dense(r, shape, out, false);
}

/* shape: type, tokens, inputs, outputs. */
static void experts(struct kn_rig *r, const int *shape, struct kn_output *out, bool is_most)
{
    enum { K = 2, EXPERTS = 3 };
    const enum kn_dtype type = (enum kn_dtype)shape[0];
    const int T = shape[1], E = shape[2], F = shape[3];
    int32_t *ids = test_malloc((size_t)(T * K) * sizeof *ids);
    for (int t = 0; t < T; t++)
        for (int k = 0; k < K; k++)
            ids[t * K + k] = (t * t + k) % EXPERTS; /* not evenly */
    const int32_t *on_device = kn_rig_put(r, ids, (size_t)(T * K) * sizeof *ids);
    test_free(ids);
    const struct kn_mat x = kn_rig_mat(r, 1, T, E, 0, 1), h = kn_rig_out(r, T * K, F, 0), y = kn_rig_out(r, T, E, 4),
                        shares = kn_rig_mat(r, 3, T, K, 0, 1);
    const struct kn_weight *gate = kn_rig_weight(r, 4, type, EXPERTS, F, E), *up = kn_rig_weight(r, 5, type, EXPERTS, F, E),
                           *down = kn_rig_weight(r, 6, type, EXPERTS, E, F);
    set_figures(r, type, is_most);
    r->op->moe_gate_up(r->stream,
                       &(struct kn_moe_gate_up_args){.x = x, .ids = on_device, .k = K, .gate = gate, .up = up, .y = h});
    r->op->moe_down(r->stream,
                    &(struct kn_moe_down_args){.h = h, .ids = on_device, .k = K, .weights = shares, .down = down, .y = y});
    kn_output_add(out, r, &h);
    kn_output_add(out, r, &y);
}

static void experts_few(struct kn_rig *r, const int *shape, struct kn_output *out)
{
    experts(r, shape, out, true);
}

static void experts_many(struct kn_rig *r, const int *shape, struct kn_output *out)
{
    experts(r, shape, out, false);
}

static void results_do_not_depend_on_figures(void **state)
{
    static const int rows[] = {1, 3, 4, 9, 40}, tokens[] = {1, 4, 11, 40};
    const bool is_slow = kn_cases_few || kn_cases_cuda;
    for (int t = 0; t < KN_N_TYPES; t++) {
        for (size_t i = kn_cases_cuda ? 4 : kn_cases_few ? 1 : 0; i < sizeof rows / sizeof *rows - kn_cases_few; i++)
            kn_same_bits("linear", dense_few, dense_many, (int[]){kn_types[t], rows[i], is_slow ? 256 : 512, 40});
        for (size_t i = is_slow ? 2 : 0; i < sizeof tokens / sizeof *tokens - is_slow; i++)
            kn_same_bits("experts", experts_few, experts_many, (int[]){kn_types[t], tokens[i], 256, 256});
    }
}

/* ---- tables ------------------------------------------------------------------------------------------------------------------------------ */

static struct kn_device *open_with(const char *table)
{
    struct kn_device *d = NULL;
    struct err err = {0};
    setenv("HERON_TUNING", table, 1);
    assert_ok(kn_device_open("cpu", &(struct kn_device_options){.threads = 1}, &d, &err), &err);
    unsetenv("HERON_TUNING");
    return d;
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void what_is_saved_is_found_again(void **state)
{
    char path[512], text[8192] = "";
    struct kn_device_info info;
    struct err err = {0};
    snprintf(path, sizeof path, "%s/table", test_temp_dir());
    struct kn_device *d = open_with(path); /* there is none */
    kn_device_get_info(d, &info);
    assert_string_equal(info.tuned, "standard");
    const int32_t most = kn_tuning_most(d, KN_FEW_ROWS, KN_Q4_K);
    assert_true(most > 1);
    assert_int_equal(kn_tuning(d, KN_FEW_ROWS, KN_Q4_K), kn_tuning_standard(d, KN_FEW_ROWS, KN_Q4_K));
    kn_tune(d, KN_FEW_ROWS, KN_Q4_K, 1);
    kn_tune(d, KN_FEW_ROWS, KN_Q6_K, -7);
    kn_tune(d, KN_FEW_ROWS, KN_Q8_0, 1000000);
    write_text(path, "# mine\n[another, 3 threads] 2026-01-02 1.5\nfew_rows Q4_K 3\n");
    assert_ok(kn_tuning_save(d, path, "2026-11-23", 1.25, &err), &err);
    assert_ok(kn_tuning_save(d, path, "2026-11-24", 1.25, &err), &err); /* in its own place */
    kn_device_close(d);

    d = open_with(path);
    kn_device_get_info(d, &info);
    assert_string_equal(info.tuned, "measured 2026-11-24");
    assert_int_equal(kn_tuning(d, KN_FEW_ROWS, KN_Q4_K), 1);
    assert_int_equal(kn_tuning(d, KN_FEW_ROWS, KN_Q6_K), 0);
    assert_int_equal(kn_tuning(d, KN_FEW_ROWS, KN_Q8_0), most);
    kn_device_close(d);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_true(fread(text, 1, sizeof text - 1, f) > 0);
    fclose(f);
    assert_non_null(strstr(text, "\n# mine\n[another, 3 threads] 2026-01-02 1.5\nfew_rows Q4_K 3\n"));
    assert_null(strstr(text, "2026-11-23"));
}

static void a_bad_line_is_named_and_the_rest_counts(void **state)
{
    static const char *const lines[] = {"few_rows Q4_K",    "few_rows Q4_K -1", "few_rows Q4_K 2 3",      "few_rows Q9 2",
                                        "some_rows Q4_K 2", "[no date]",        "[no gain] 2026-11-23\n", "few_rows Q4_K two"};
    char path[512];
    struct kn_device_info info;
    snprintf(path, sizeof path, "%s/bad", test_temp_dir());
    struct kn_device *d = open_with("/nowhere");
    kn_device_get_info(d, &info);
    kn_device_close(d);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 "# a comment\n\n[%s] 2026-11-23 1.0 # of this machine\nfew_rows Q5_K 1\n%s\nfew_rows Q6_K 1\n",
                 info.description, lines[i]);
        write_text(path, text);
        d = open_with(path);
        struct kn_device_info now;
        kn_device_get_info(d, &now);
        assert_non_null(strstr(now.tuned, "bad:5"));
        assert_int_equal(kn_tuning(d, KN_FEW_ROWS, KN_Q5_K), 1);
        assert_int_equal(kn_tuning(d, KN_FEW_ROWS, KN_Q6_K), 1);
        /* what is saved over it is found, and the line is gone */
        struct err err = {0};
        kn_tune(d, KN_FEW_ROWS, KN_Q8_0, 2);
        assert_ok(kn_tuning_save(d, path, "2026-11-25", 1, &err), &err);
        kn_device_close(d);
        d = open_with(path);
        kn_device_get_info(d, &now);
        assert_string_equal(now.tuned, "measured 2026-11-25");
        assert_int_equal(kn_tuning(d, KN_FEW_ROWS, KN_Q8_0), 2);
        kn_device_close(d);
    }
}

/* A file that ends without a newline, one that cannot be read, and devices with names that look like something else. */
static void tables_of_all_sorts(void **state)
{
    char path[512], odd[600];
    struct kn_device_info info;
    struct err err = {0};
    snprintf(path, sizeof path, "%s/unended", test_temp_dir());
    write_text(path, "[another] 2026-01-02 1.5\nfew_rows Q4_K 3 # a remark\n# the last");
    struct kn_device *d = open_with(path);
    kn_tune(d, KN_FEW_ROWS, KN_Q4_K, 1);
    assert_ok(kn_tuning_save(d, path, "2026-11-23", 1, &err), &err);
    kn_device_close(d);
    d = open_with(path);
    kn_device_get_info(d, &info);
    assert_string_equal(info.tuned, "measured 2026-11-23");
    assert_int_equal(kn_tuning(d, KN_FEW_ROWS, KN_Q4_K), 1);
    kn_device_close(d);
    d = open_with(test_temp_dir()); /* a folder */
    kn_device_get_info(d, &info);
    assert_non_null(strstr(info.tuned, "Is a directory"));
    kn_device_close(d);
    snprintf(odd, sizeof odd, "[GPU #1 [new]] 2026-01-02 1.5\nfew_rows Q4_K 3\n[%s] 2026-11-23 1\nfew_rows Q4_K 2\n",
             info.description);
    write_text(path, odd);
    d = open_with(path);
    kn_device_get_info(d, &info);
    assert_string_equal(info.tuned, "measured 2026-11-23");
    assert_int_equal(kn_tuning(d, KN_FEW_ROWS, KN_Q4_K), 2);
    kn_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_do_not_depend_on_figures),
        cmocka_unit_test(what_is_saved_is_found_again),
        cmocka_unit_test(a_bad_line_is_named_and_the_rest_counts),
        cmocka_unit_test(tables_of_all_sorts),
    };
    kn_cases_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
