/*
 * Drivers that fail, as the shim plays them (HERON_SHIM_FAILS): what is no device and what is a broken one, code that is missing, graphs that cannot be made, and a device that is lost in the
 * middle of its work.
 */
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "tests/support/box.h"
#include "tests/support/kn_rig.h"
#include "tests/support/program.h"

static int open_device(const char *name, const char *fails, struct err *err)
{
    struct kn_device *device = NULL;
    *err = (struct err){0};
    setenv("HERON_SHIM_FAILS", fails, 1);
    const int rc = kn_device_open(name, NULL, &device, err);
    assert_string_equal(kn_device_name("auto"),
                        strstr(fails, "count=100") ? "cpu" : "cuda:0"); /* a broken one is not passed over */
    unsetenv("HERON_SHIM_FAILS");
    kn_device_close(device);
    return rc;
}

/* "auto" takes the processor where there is no GPU, and not where there is one whose driver does not work. */
static void a_broken_driver_is_not_a_machine_without_a_gpu(void **state)
{
    struct err err;
    assert_err(open_device("cuda:0", "count=100", &err), ERR_NOT_FOUND, &err, "this machine has none");
    assert_ok(open_device("auto", "count=100", &err), &err);
    assert_err(open_device("cuda:0", "count=803", &err), ERR_DEVICE, &err, "CUDA does not start");
    assert_err(open_device("auto", "count=803", &err), ERR_DEVICE, &err, "(error 803)");
    assert_err(open_device("auto", "count=999", &err), ERR_DEVICE, &err, "(error 999)");
}

static void a_gpu_that_the_module_has_no_code_for_is_refused(void **state)
{
    struct err err;
    assert_err(open_device("cuda:0", "code", &err), ERR_UNSUPPORTED, &err,
               "host shim, sm_121, 4 SMs: this build of heron-cuda.so has code for");
    assert_err(open_device("auto", "code", &err), ERR_UNSUPPORTED, &err, "has code for");
}

/* What cannot be recorded runs all the same, and is not tried again. */
static void graphs_that_cannot_be_made_are_done_without(void **state)
{
    struct kn_rig r;
    struct err err = {0};
    kn_rig_open(&r, "cuda:0", NULL, 1);
    float ones[64], got[64] = {0};
    for (int i = 0; i < 64; i++)
        ones[i] = 1;
    const struct kn_mat x = kn_rig_out(&r, 1, 64, 0), y = kn_rig_out(&r, 1, 64, 0);
    kn_upload(r.stream, x.data, ones, sizeof ones);
    setenv("HERON_SHIM_FAILS", "graph", 1);
    for (int i = 0; i < 4; i++) {
        assert_false(kn_replay(r.stream, 5));
        const bool is_recorded = kn_record_begin(r.stream, 5);
        assert_int_equal(is_recorded, i == 1); /* the first time everything runs as ever */
        const uint64_t before = kn_launches(r.stream);
        r.op->copy(r.stream, &(struct kn_copy_args){.dst = y.data, .src = x.data, .bytes = sizeof ones});
        if (is_recorded) {
            assert_false(kn_record_end(r.stream));
            assert_true(kn_launches(r.stream) == before);
        }
        assert_ok(kn_stream_sync(r.stream, &err), &err);
    }
    unsetenv("HERON_SHIM_FAILS");
    kn_rig_get(&r, got, y.data, sizeof got);
    assert_memory_equal(got, ones, sizeof ones);
    kn_rig_close(&r);
}

/* A driver keeps a device's failure for as long as the process lives: the daemon ends, so that the next one finds a device again. */
static void a_lost_device_ends_the_daemon(void **state)
{
    struct box_rig *r = *state;
    char engine[900];
    box_rig_open(r);
    snprintf(engine, sizeof engine, "engine:\n  model: %s\n  vision: %s\n  device: cuda:0\n", box_model(), box_vision());
    box_configure(&r->box, &r->broker, engine,
                  "cameras:\n  yard: { source: 'synth:yard?size=96x64&fps=2', watch: { every: 1s, deadline: 600s, max_pixels: "
                  "4096, max_tokens: 64 } }\n");
    box_start(&r->box, (const char *const[]){"HERON_SHIM_FAILS=lost=60", NULL});
    const int status = program_await(&r->box.daemon, 3 * BOX_PATIENCE_MS);
    char *log = box_log(&r->box);
    if (status != EX_TEMPFAIL || !strstr(log, "engine ready") || !strstr(log, "unspecified launch failure") ||
        !strstr(log, "does not open again in this process"))
        fail_msg("status %d: %s", status, log);
    free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_broken_driver_is_not_a_machine_without_a_gpu),
        cmocka_unit_test(a_gpu_that_the_module_has_no_code_for_is_refused),
        cmocka_unit_test(graphs_that_cannot_be_made_are_done_without),
        cmocka_unit_test_setup_teardown(a_lost_device_ends_the_daemon, box_set_up, box_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
