/* heron cameras: the list, the probe, its exit statuses; passwords stay hidden. */
#include "tests/support/test.h"

#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "tests/support/camera_rig.h"
#include "tests/support/program.h"
#include "tests/support/rtsp_peer.h"

#define LIMIT_MS 60000

/* Run; the status must be `want`, and both outputs together free of `secret`. */
static struct program_result run(const char *const *args, int want)
{
    struct program_result r;
    program_run(args, NULL, LIMIT_MS, &r);
    if (r.status != want)
        fail_msg("status %d, expected %d; said: %s%s", r.status, want, r.out, r.err);
    assert_false(test_contains(r.out, "sesame") || test_contains(r.err, "sesame"));
    return r;
}

/* Probe a source that fails: the status, the step that is told to have failed, and words of the cause. */
static void fails(const char *source, int status, const char *step, const char *why)
{
    char line[64];
    struct program_result r = run(PROGRAM_ARGS("cameras", "probe", source), status);
    snprintf(line, sizeof line, "%-7s failed\n", step);
    if (strcmp(step, "syntax") != 0 && !test_contains(r.out, line))
        fail_msg("%s: expected \"%s failed\" in: %s%s", source, step, r.out, r.err);
    snprintf(line, sizeof line, "heron cameras: %s: ", step);
    if (!test_contains(r.err, line) || !test_contains(r.err, why))
        fail_msg("%s: expected \"%s...%s\" in: %s", source, line, why, r.err);
    assert_ptr_equal(strchr(r.err, '\n'), r.err + r.n_err - 1); /* one line */
    program_result_free(&r);
}

static void lists_devices(void **state)
{
    struct program_result r = run(PROGRAM_ARGS("cameras", "--json"), 0);
    json_error_t error;
    json_t *list = json_loads(r.out, 0, &error);
    assert_true(json_is_array(list));
    for (size_t i = 0; i < json_array_size(list); i++) { /* none on most machines that test */
        const json_t *d = json_array_get(list, i);
        assert_int_equal(strncmp(json_string_value(json_object_get(d, "source")), "v4l2:/dev/", 10), 0);
        assert_true(json_is_array(json_object_get(d, "formats")) && json_is_array(json_object_get(d, "controls")));
    }
    const bool has_devices = json_array_size(list) > 0;
    json_decref(list);
    program_result_free(&r);
    r = run(PROGRAM_ARGS("cameras"), 0);
    assert_true(has_devices ? test_contains(r.out, "source: v4l2:/dev/") : test_contains(r.err, "no camera on a cable"));
    program_result_free(&r);
}

static void probes_a_file(void **state)
{
    char path[64], source[128];
    rig_make_h264(320, 240, 60, path, sizeof path);
    snprintf(source, sizeof source, "file:%s", path);
    struct program_result r = run(PROGRAM_ARGS("cameras", "probe", source), 0);
    assert_true(test_contains(r.out, "codec   h264, decoded by avdec_h264\n"));
    assert_true(test_contains(r.out, "frames  320x240, "));
    assert_true(test_contains(r.out, "a key frame every 15 (1.0 s)"));
    assert_string_equal(r.err, "");
    program_result_free(&r);
    unlink(path);
}

static void probes_a_scene_as_json(void **state)
{
    struct program_result r = run(PROGRAM_ARGS("cameras", "probe", "--json", "--timeout", "3", "synth:yard?size=64x48"), 0);
    json_t *root = json_loads(r.out, 0, NULL);
    assert_non_null(root);
    assert_true(json_is_true(json_object_get(root, "ok")) && json_is_null(json_object_get(root, "failed")));
    assert_int_equal(json_array_size(json_object_get(root, "passed")), PL_PROBE_STEP_COUNT);
    assert_string_equal(json_string_value(json_object_get(root, "codec")), "raw");
    assert_int_equal(json_integer_value(json_object_get(root, "width")), 64);
    json_decref(root);
    program_result_free(&r);
    r = run(PROGRAM_ARGS("cameras", "probe", "--json", "file:/nonexistent/a.mp4"), EX_NOINPUT);
    root = json_loads(r.out, 0, NULL);
    assert_non_null(root);
    assert_true(json_is_false(json_object_get(root, "ok")));
    assert_string_equal(json_string_value(json_object_get(root, "failed")), "name");
    assert_true(test_contains(json_string_value(json_object_get(root, "error")), "/nonexistent/a.mp4"));
    json_decref(root);
    program_result_free(&r);
}

static void tells_which_step_failed(void **state)
{
    char path[64], source[128];
    fails("http://u:sesame@h/x", EX_USAGE, "syntax", "unknown scheme `http:`");
    fails("rtsp://u:sesame@h:99999/x", EX_USAGE, "syntax", "port");
    fails("rtsp://u:ses/ame@h/x", EX_USAGE, "syntax", "port"); /* the password's `/` ends the host: nothing is echoed */
    fails("synth:yrad", EX_USAGE, "syntax", "yard");
    fails("rtsp://u:sesame@no-such-host.invalid/x", EX_NOHOST, "name", "no-such-host.invalid has no address");
    snprintf(source, sizeof source, "rtsp://u:sesame@127.0.0.1:%d/x", rtsp_peer_free_port());
    fails(source, EX_UNAVAILABLE, "tcp", "Connection refused");
    fails("file:/nonexistent/a.mp4", EX_NOINPUT, "name", "/nonexistent/a.mp4: No such file");
    fails("v4l2:/dev/no-such-video", EX_NOINPUT, "name", "/dev/no-such-video: No such file");
    fails("v4l2:/dev/null", EX_DATAERR, "codec", "/dev/null is not a video capture device");
    rig_make_clip("audiotestsrc num-buffers=20 ! wavenc", ".wav", path, sizeof path);
    snprintf(source, sizeof source, "file:%s", path);
    fails(source, EX_DATAERR, "codec", "no video that Heron can decode (found: audio/");
    unlink(path);
}

static void probes_a_network_camera(void **state)
{
    char source[128];
    snprintf(source, sizeof source, "rtsp://127.0.0.1:%d/cam", rtsp_peer_port);
    struct program_result r = run(PROGRAM_ARGS("cameras", "probe", source), 0);
    assert_true(test_contains(r.out, "auth    ok\n") && test_contains(r.out, "codec   h264, decoded by avdec_h264\n"));
    assert_true(test_contains(r.out, "frames  320x240, ") && test_contains(r.out, "a key frame every 15"));
    program_result_free(&r);
    snprintf(source, sizeof source, "rtsp://127.0.0.1:%d/nosuchpath", rtsp_peer_port);
    fails(source, EX_NOINPUT, "path", "ot found");
    snprintf(source, sizeof source, "rtsp://127.0.0.1:%d/sound", rtsp_peer_port);
    fails(source, EX_DATAERR, "codec", "no video");
}

static void probes_with_a_password(void **state)
{
    char source[128], path[512];
    snprintf(source, sizeof source, "rtsp://heron:sesame@127.0.0.1:%d/locked", rtsp_peer_port);
    fails(source, EX_NOPERM, "auth", "nauthorized");
    snprintf(source, sizeof source, "rtsp://127.0.0.1:%d/locked", rtsp_peer_port);
    fails(source, EX_NOPERM, "auth", "nauthorized");
    snprintf(path, sizeof path, "%s/password", test_temp_dir());
    test_write_text(path, "p@ss:w/rd\n");
    struct program_result r = run(PROGRAM_ARGS("cameras", "probe", "--user", "heron", "--password-file", path, source), 0);
    assert_true(test_contains(r.out, "codec   mjpeg") && !test_contains(r.out, "p@ss"));
    program_result_free(&r);
}

/* It accepts connections and says nothing: bounded, and told as what it is. */
static void gives_up_on_a_silent_server(void **state)
{
    char source[128];
    snprintf(source, sizeof source, "rtsp://127.0.0.1:%d/cam", rtsp_peer_port);
    kill(rtsp_peer_pid, SIGSTOP);
    struct program_result r = run(PROGRAM_ARGS("cameras", "probe", "--timeout", "2", source), EX_UNAVAILABLE);
    kill(rtsp_peer_pid, SIGCONT);
    assert_true(test_contains(r.out, "tcp     failed\n"));
    assert_true(test_contains(r.err, "does not answer"));
    program_result_free(&r);
}

static void refuses_bad_words(void **state)
{
    static const struct {
        const char *args[5];
        const char *why;
    } cases[] = {
        {{"rtsp://u:sesame@h/x"}, "the word probe"},
        {{"probe"}, "takes one source"},
        {{"probe", "synth:yard", "synth:yard"}, "takes one source"},
        {{"--user", "a"}, "belong to probe"},
        {{"probe", "--password-file", "/dev/null", "synth:yard"}, "needs --user"},
        {{"probe", "--timeout", "0", "synth:yard"}, "--timeout"},
        {{"--jsno"}, "--json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *args[7] = {"cameras"};
        memcpy(args + 1, cases[i].args, sizeof cases[i].args);
        struct program_result r = run(args, EX_USAGE);
        assert_true(test_contains(r.err, cases[i].why));
        assert_string_equal(r.out, "");
        program_result_free(&r);
    }
}

int main(int argc, char **argv)
{
    rtsp_peer_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_devices),
        cmocka_unit_test(probes_a_file),
        cmocka_unit_test(probes_a_scene_as_json),
        cmocka_unit_test(tells_which_step_failed),
        cmocka_unit_test_setup_teardown(probes_a_network_camera, rtsp_peer_set_up, rtsp_peer_tear_down),
        cmocka_unit_test_setup_teardown(probes_with_a_password, rtsp_peer_set_up, rtsp_peer_tear_down),
        cmocka_unit_test_setup_teardown(gives_up_on_a_silent_server, rtsp_peer_set_up, rtsp_peer_tear_down),
        cmocka_unit_test(refuses_bad_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
