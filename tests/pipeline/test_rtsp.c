/* rtsp: against a real server as a process of its own: killed, frozen, absent, refusing. */
#include "tests/support/camera_rig.h"
#include "tests/support/rtsp_peer.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static struct pl_camera *open_path(const char *user_info, const char *path)
{
    char source[128];
    snprintf(source, sizeof source, "rtsp://%s127.0.0.1:%d%s", user_info, rtsp_peer_port, path);
    return rig_open_source(source);
}

static void h264_frames_arrive(void **state)
{
    struct pl_camera *cam = open_path("", "/cam");
    int64_t last_ns = 0;
    for (int i = 0; i < 10; i++) {
        struct pl_frame *f = rig_take(cam);
        int64_t now = clock_now_ns();
        assert_int_equal(f->image.width_px, 320);
        assert_int_equal(f->image.height_px, 240);
        assert_true(f->capture_ns >= last_ns && f->capture_ns <= now && now - f->capture_ns < 10 * CLOCK_S);
        last_ns = f->capture_ns;
        pl_frame_unref(f);
    }
    struct pl_camera_stats s = rig_wait(cam, true, rig_is_online, NULL, "online");
    assert_string_equal(s.codec, "h264");
    assert_string_equal(s.decoder, "avdec_h264");
    assert_true(s.restarts == 0);
    pl_camera_close(cam);
}

/* The peer dies: TCP tells, as an end of the stream and no error. It comes back: so does the camera, with growing seq. */
static void comes_back_after_a_kill(void **state)
{
    struct pl_camera *cam = open_path("", "/mjpeg");
    struct pl_frame *f = rig_take(cam);
    uint64_t seq = f->seq;
    pl_frame_unref(f);
    rtsp_peer_kill(rtsp_peer_pid);
    struct pl_camera_stats s;
    uint64_t n = 1;
    rig_wait(cam, true, rig_has_restarts, &n, "restarted");
    s = rig_wait(cam, true, rig_has_error, "onnect", "told that nobody answers"); /* "Failed to connect", "Could not connect" */
    assert_false(s.is_online);
    rtsp_peer_pid = rtsp_peer_start(rtsp_peer_port, NULL);
    s = rig_wait(cam, true, rig_is_online, NULL, "online again");
    do {
        f = rig_take(cam);
        n = f->seq;
        pl_frame_unref(f);
    } while (n <= seq);
    assert_true(s.restarts >= 1 && s.restarts_1h == s.restarts);
    pl_camera_close(cam);
}

/* The peer hangs (as a camera whose firmware died, or a pulled cable): nothing is told, only the age of the last frame shows it. */
static void comes_back_after_a_freeze(void **state)
{
    struct pl_camera *cam = open_path("", "/mjpeg");
    rig_wait(cam, true, rig_is_online, NULL, "online");
    kill(rtsp_peer_pid, SIGSTOP);
    uint64_t n = 1;
    rig_wait(cam, true, rig_has_error, "no picture for", "told that it is silent");
    rig_wait(cam, true, rig_has_restarts, &n, "restarted");
    kill(rtsp_peer_pid, SIGCONT);
    rig_wait(cam, true, rig_is_online, NULL, "online again");
    pl_camera_close(cam);
}

/* The camera is switched on later than the box. */
static void waits_for_an_absent_server(void **state)
{
    rtsp_peer_kill(rtsp_peer_pid);
    struct pl_camera *cam = open_path("", "/mjpeg");
    uint64_t n = 2;
    struct pl_camera_stats s = rig_wait(cam, true, rig_has_restarts, &n, "tried again");
    assert_true(s.frames == 0 && s.last_error[0]);
    rtsp_peer_pid = rtsp_peer_start(rtsp_peer_port, NULL);
    rig_wait(cam, true, rig_is_online, NULL, "online");
    pl_camera_close(cam);
}

static void tells_a_wrong_path(void **state)
{
    struct pl_camera *cam = open_path("", "/nosuchpath");
    struct pl_camera_stats s = rig_wait(cam, true, rig_has_error, "ot found", "told not found");
    assert_int_equal(s.state, PL_CAMERA_RESTARTING);
    pl_camera_close(cam);
}

static bool is_auth_failed(const struct pl_camera_stats *s, const void *ctx)
{
    return s->state == PL_CAMERA_AUTH_FAILED;
}

/* Refused credentials are tried again only after minutes, and never shown. */
static void tells_wrong_credentials(void **state)
{
    static const char *const wrong[] = {"", "heron:sesame@", "nobody:sesame@"};
    for (size_t i = 0; i < 3; i++) {
        struct pl_camera *cam = open_path(wrong[i], "/locked");
        struct pl_camera_stats s = rig_wait(cam, true, is_auth_failed, NULL, "refused");
        assert_true(s.frames == 0 && s.last_error[0]);
        assert_false(test_contains(s.last_error, "sesame"));
        usleep(300000);
        pl_camera_get_stats(cam, &s);
        assert_true(s.state == PL_CAMERA_AUTH_FAILED && s.restarts == 0);
        pl_camera_close(cam); /* at once, in the middle of the wait */
    }
}

static void accepts_credentials(void **state)
{
    struct pl_camera *cam = open_path("heron:p%40ss%3Aw%2Frd@", "/locked");
    pl_frame_unref(rig_take(cam));
    pl_camera_close(cam);
    char source[64];
    snprintf(source, sizeof source, "rtsp://127.0.0.1:%d/locked", rtsp_peer_port);
    cam = rig_open(&(struct pl_camera_config){.source = source, .user = "heron", .password = "p@ss:w/rd"});
    pl_frame_unref(rig_take(cam));
    pl_camera_close(cam);
}

static void tells_a_stream_without_video(void **state)
{
    struct pl_camera *cam = open_path("", "/sound");
    rig_wait(cam, true, rig_has_error, "no video", "told that there is no video");
    pl_camera_close(cam);
}

static bool is_frozen(const struct pl_camera_stats *s, const void *ctx)
{
    return s->is_frozen;
}

/* Frames come, but always the same: running, not online. */
static void sees_a_frozen_camera(void **state)
{
    struct pl_camera *cam = open_path("", "/still");
    struct pl_camera_stats s = rig_wait(cam, true, is_frozen, NULL, "frozen");
    assert_true(s.state == PL_CAMERA_RUNNING && !s.is_online && s.restarts == 0);
    pl_camera_close(cam);
}

/* The camera changes its picture size in the middle of the stream: a new pipeline, and on with it. */
static void follows_a_new_size(void **state)
{
    struct pl_camera *cam = open_path("", "/resize");
    pl_frame_unref(rig_take(cam));
    rig_wait(cam, true, rig_has_error, "size changed", "told that the size changed");
    /* each session of this peer begins with the first size again */
    struct pl_camera_stats s = rig_wait(cam, true, rig_is_running, NULL, "running again");
    assert_true(s.restarts >= 1);
    pl_camera_close(cam);
}

int main(int argc, char **argv)
{
    rtsp_peer_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(h264_frames_arrive, rtsp_peer_set_up, rtsp_peer_tear_down),
        cmocka_unit_test_setup_teardown(comes_back_after_a_kill, rtsp_peer_set_up, rtsp_peer_tear_down),
        cmocka_unit_test_setup_teardown(comes_back_after_a_freeze, rtsp_peer_set_up, rtsp_peer_tear_down),
        cmocka_unit_test_setup_teardown(waits_for_an_absent_server, rtsp_peer_set_up, rtsp_peer_tear_down),
        cmocka_unit_test_setup_teardown(tells_a_wrong_path, rtsp_peer_set_up, rtsp_peer_tear_down),
        cmocka_unit_test_setup_teardown(tells_wrong_credentials, rtsp_peer_set_up, rtsp_peer_tear_down),
        cmocka_unit_test_setup_teardown(accepts_credentials, rtsp_peer_set_up, rtsp_peer_tear_down),
        cmocka_unit_test_setup_teardown(tells_a_stream_without_video, rtsp_peer_set_up, rtsp_peer_tear_down),
        cmocka_unit_test_setup_teardown(sees_a_frozen_camera, rtsp_peer_set_up, rtsp_peer_tear_down),
        cmocka_unit_test_setup_teardown(follows_a_new_size, rtsp_peer_set_up, rtsp_peer_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
