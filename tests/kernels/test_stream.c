/*
 * What all ops of a stream share, whatever they compute: bad arguments, devices that are not there, recording, tracing.
 */
#include "tests/support/kn_cases.h"

#include <stdlib.h>
#include <string.h>

/* ---- bad arguments ----------------------------------------------------------------------------------------------------------------- */

static void bad_arguments_mark_the_stream(void **state)
{
    struct kn_rig r;
    struct err err = {0};
    kn_rig_open(&r, "ref", NULL, 1);
    const struct kn_mat x = kn_rig_mat(&r, 1, 2, 32, 0, 1), y = kn_rig_out(&r, 2, 8, 0);
    const struct kn_weight *w = kn_rig_weight(&r, 1, KN_Q8_0, 1, 9, 32);
    r.op->linear(r.stream, &(struct kn_linear_args){.x = x, .w = w, .y = y});
    assert_err(kn_stream_sync(r.stream, &err), ERR_INVAL, &err, "linear: weight w is [9, 32], expected [8, 32]");
    const int32_t rows[] = {0, 2};
    r.op->gather_rows(r.stream, &(struct kn_gather_rows_args){0}); /* does nothing: the first failure stands */
    assert_err(kn_stream_sync(r.stream, &err), ERR_INVAL, &err, "linear");
    kn_stream_clear(r.stream);
    const int32_t *device_rows = kn_rig_put(&r, rows, sizeof rows);
    r.op->gather_rows(r.stream, &(struct kn_gather_rows_args){.x = x, .rows = device_rows, .y = kn_rig_out(&r, 2, 32, 0)});
    assert_err(kn_stream_sync(r.stream, &err), ERR_INVAL, &err, "gather_rows: row 2 of 2");
    kn_stream_clear(r.stream);
    r.op->copy(r.stream, &(struct kn_copy_args){.dst = x.data + 1, .src = x.data, .bytes = 64});
    assert_err(kn_stream_sync(r.stream, &err), ERR_INVAL, &err, "copy: source and destination overlap");
    kn_stream_clear(r.stream);
    kn_rig_close(&r);
}

static void unknown_devices_are_refused(void **state)
{
    struct kn_device *device = NULL;
    struct err err = {0};
    assert_err(kn_device_open("tpu", NULL, &device, &err), ERR_NOT_FOUND, &err, "no device is called \"tpu\"");
    assert_err(kn_device_open("cuda:x", NULL, &device, &err), ERR_NOT_FOUND, &err, "cuda:x");
    assert_err(kn_device_open("cpu:1", NULL, &device, &err), ERR_NOT_FOUND, &err, "cpu:1");
    assert_null(device);
    const char *chosen = kn_device_name("auto");
    assert_true(strcmp(chosen, "cuda:0") == 0 || (!kn_cases_cuda && strcmp(chosen, "cpu") == 0));
    assert_string_equal(kn_device_name("cuda:1"), "cuda:1");
    const struct kn_device_options options = {.isa = "mmx"};
    assert_int_not_equal(kn_device_open("cpu", &options, &device, &err), 0);
}

static void tracing_counts(void **state)
{
    struct kn_rig r;
    struct err err = {0};
    kn_rig_open(&r, "ref", NULL, 1);
    assert_ok(kn_trace_begin(r.device, &err), &err);
    r.op->linear(r.stream, &(struct kn_linear_args){.x = kn_rig_mat(&r, 1, 2, 32, 0, 1),
                                                    .w = kn_rig_weight(&r, 2, KN_Q8_0, 1, 9, 32),
                                                    .y = kn_rig_out(&r, 2, 9, 0)});
    struct kn_trace_row rows[8];
    assert_int_equal(kn_trace_read(r.device, rows, 8, true), 1);
    assert_string_equal(rows[0].name, "linear");
    assert_int_equal(rows[0].calls, 1);
    assert_int_equal(rows[0].weight_bytes, 9 * 34);
    assert_int_equal(kn_trace_read(r.device, rows, 8, false), 0);
    kn_rig_close(&r);
}
/* ---- recording ---------------------------------------------------------------------------------------------------------------------- */

struct recorded {
    const struct kn_weight *w;
    struct kn_mat x, y, z;
    kn_vec norm;
};

static void run_recorded(struct kn_rig *r, const struct recorded *a)
{
    r->op->linear(r->stream, &(struct kn_linear_args){.x = a->x, .w = a->w, .y = a->y});
    r->op->copy(r->stream, &(struct kn_copy_args){.dst = a->z.data, .src = a->y.data, .bytes = sizeof(float)});
    r->op->add_rms_norm(r->stream, &(struct kn_add_rms_norm_args){.x = a->y, .w = a->norm, .eps = 1e-6f, .y = a->y});
}

/* What was recorded computes what the ops compute, of what lies in memory when it runs. A device that does not record runs the ops. */
static void recorded_ops_compute_the_same(void **state)
{
    for (size_t d = 0; d < kn_n_cases; d++) {
        struct kn_rig r;
        struct err err = {0};
        if (!kn_case_open(d, &r))
            continue;
        const struct recorded a = {.w = kn_rig_weight(&r, 1, KN_Q8_0, 1, 48, 96),
                                   .x = kn_rig_mat(&r, 2, 3, 96, 0, 1),
                                   .y = kn_rig_out(&r, 3, 48, 0),
                                   .z = kn_rig_out(&r, 1, 1, 0),
                                   .norm = kn_rig_vec(&r, 3, 48, 1, 0.1f)};
        int n_replayed = 0, n_recorded = 0;
        for (int i = 0; i < 5; i++) {
            float want[3 * 48 + 1], got[3 * 48 + 1], *x = kn_rig_noise(10 + (uint64_t)i, 3 * 96, 1);
            kn_upload(r.stream, a.x.data, x, 3 * 96 * sizeof *x);
            test_free(x);
            run_recorded(&r, &a);
            kn_rig_get(&r, want, a.y.data, 3 * 48 * sizeof *want);
            kn_rig_get(&r, &want[3 * 48], a.z.data, sizeof *want);
            memset(got, 0, sizeof got);
            kn_upload(r.stream, a.y.data, got, 3 * 48 * sizeof *got);
            if (kn_replay(r.stream, 77)) {
                n_replayed++;
            } else {
                const bool is_recorded = kn_record_begin(r.stream, 77);
                run_recorded(&r, &a);
                if (is_recorded)
                    assert_true(kn_record_end(r.stream));
                n_recorded += is_recorded;
            }
            kn_rig_get(&r, got, a.y.data, 3 * 48 * sizeof *got);
            kn_rig_get(&r, &got[3 * 48], a.z.data, sizeof *got);
            assert_memory_equal(got, want, sizeof got);
        }
        assert_false(kn_replay(r.stream, 78)); /* another key */
        assert_ok(kn_stream_sync(r.stream, &err), &err);
        assert_int_equal(n_recorded, kn_cases_cuda ? 1 : 0);
        assert_int_equal(n_replayed, kn_cases_cuda ? 3 : 0);
        kn_rig_close(&r);
    }
}
int main(void)
{
    kn_cases_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_arguments_mark_the_stream),
        cmocka_unit_test(unknown_devices_are_refused),
        cmocka_unit_test(recorded_ops_compute_the_same),
        cmocka_unit_test(tracing_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
