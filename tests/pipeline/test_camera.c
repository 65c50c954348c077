/* The supervisor, with the synthetic camera: slot, pool, figures, commands. */
#include "tests/support/camera_rig.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void gives_frames(void **state)
{
    struct pl_camera *cam = rig_open_source("synth:yard?seed=3&size=160x90&fps=50");
    assert_string_equal(pl_camera_get_id(cam), "cam");
    uint64_t seq = 0;
    int64_t capture_ns = 0;
    for (int i = 0; i < 10; i++) {
        struct pl_frame *f = rig_take(cam);
        assert_true(f->seq > seq);
        assert_true(f->capture_ns >= capture_ns && f->capture_ns <= clock_now_ns());
        int64_t wall = clock_wall_ns_of(f->capture_ns) - f->capture_wall_ns;
        assert_true(wall < CLOCK_S && wall > -CLOCK_S);
        assert_int_equal(f->image.format, IMAGE_RGB24);
        assert_int_equal(f->image.width_px, 160);
        assert_int_equal(f->image.height_px, 90);
        assert_true(f->image.stride_bytes[0] >= 480);
        assert_non_null(f->truth);
        assert_true(test_contains(f->truth, "\"people\":"));
        seq = f->seq;
        capture_ns = f->capture_ns;
        pl_frame_unref(f);
    }
    struct pl_camera_stats s = rig_wait(cam, true, rig_is_online, NULL, "online");
    assert_int_equal(s.state, PL_CAMERA_RUNNING);
    assert_true(s.frames >= 10 && s.fps > 1 && s.restarts == 0 && s.leaked == 0);
    assert_true(s.last_frame_age_ns >= 0 && s.width_px == 160 && !s.is_frozen);
    assert_string_equal(s.last_error, "");
    assert_true(clock_now_ns() - s.heartbeat_ns < 10 * CLOCK_S);
    pl_camera_close(cam);
}

/* Nobody takes: the slot holds the newest only, and the others are counted. */
static void keeps_the_latest_only(void **state)
{
    struct pl_camera *cam = rig_open_source("synth:yard?size=64x48&fps=100");
    uint64_t n = 20;
    struct pl_camera_stats s = rig_wait(cam, false, rig_has_frames, &n, "20 frames");
    struct pl_frame *f = rig_take(cam);
    assert_true(f->seq >= s.frames);
    pl_frame_unref(f);
    pl_camera_set_enabled(cam, false);
    for (int i = 0; i < 3000 && s.state != PL_CAMERA_DISABLED; i++) {
        usleep(10000);
        pl_camera_get_stats(cam, &s);
    }
    assert_int_equal(s.state, PL_CAMERA_DISABLED);
    assert_false(s.is_online);
    /* all were replaced but the one taken, and the one that may have been waiting when it was disabled */
    assert_true(s.replaced + 2 >= s.frames && s.replaced + 1 <= s.frames);
    assert_int_equal(pl_camera_take(cam, &f), ERR_AGAIN);
    struct pollfd p = {.fd = pl_camera_event_fd(cam), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    pl_camera_close(cam);
}

/* A consumer that holds everything starves itself, not the camera. */
static void pool_runs_out(void **state)
{
    struct pl_camera *cam = rig_open(&(struct pl_camera_config){.source = "synth:yard?size=64x48&fps=100", .frames = 3});
    struct pl_frame *held[3];
    for (int i = 0; i < 3; i++)
        held[i] = rig_take(cam);
    uint8_t before = held[0]->image.plane[0][0];
    struct pl_camera_stats s;
    int64_t until = clock_now_ns() + RIG_PATIENCE_NS;
    do {
        usleep(5000);
        pl_camera_get_stats(cam, &s);
    } while (s.starved < 5 && clock_now_ns() < until);
    assert_true(s.starved >= 5);
    assert_int_equal(s.state, PL_CAMERA_RUNNING);
    assert_true(s.restarts == 0);
    struct pl_frame *none;
    assert_int_equal(pl_camera_take(cam, &none), ERR_AGAIN);
    assert_int_equal(held[0]->image.plane[0][0], before);
    uint64_t last = held[2]->seq;
    for (int i = 0; i < 3; i++)
        pl_frame_unref(held[i]);
    struct pl_frame *f = rig_take(cam);
    assert_true(f->seq > last);
    pl_frame_unref(f);
    pl_camera_close(cam);
}

/* All slots but one held: the one nobody took is given up for the newer picture. */
static void newest_wins_when_short(void **state)
{
    struct pl_camera *cam = rig_open(&(struct pl_camera_config){.source = "synth:yard?size=64x48&fps=100", .frames = 2});
    struct pl_frame *held = rig_take(cam);
    uint64_t n = held->seq + 10;
    struct pl_camera_stats s = rig_wait(cam, false, rig_has_frames, &n, "10 more frames");
    assert_true(s.starved == 0 && s.replaced >= 8);
    struct pl_frame *f = rig_take(cam);
    assert_true(f->seq >= n);
    pl_frame_unref(f);
    pl_frame_unref(held);
    pl_camera_close(cam);
}

static void pokes_a_shared_descriptor(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct pl_camera *a =
        rig_open(&(struct pl_camera_config){.id = "a", .source = "synth:yard?size=64x48&fps=20", .event_fd = fd});
    struct pl_camera *b =
        rig_open(&(struct pl_camera_config){.id = "b", .source = "synth:yard?size=64x48&fps=20", .event_fd = fd});
    bool got_a = false, got_b = false;
    int64_t until = clock_now_ns() + RIG_PATIENCE_NS;
    while (!(got_a && got_b) && clock_now_ns() < until) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        uint64_t n;
        if (poll(&p, 1, 1000) == 1)
            assert_int_equal(read(fd, &n, sizeof n), sizeof n);
        struct pl_frame *f;
        if (pl_camera_take(a, &f) == 0)
            got_a = true, pl_frame_unref(f);
        if (pl_camera_take(b, &f) == 0)
            got_b = true, pl_frame_unref(f);
    }
    assert_true(got_a && got_b);
    pl_camera_close(a);
    pl_camera_close(b);
    uint64_t n;
    while (read(fd, &n, sizeof n) > 0)
        ;
    usleep(50000);
    assert_true(read(fd, &n, sizeof n) < 0); /* nothing pokes after close */
    close(fd);
}

static void frames_outlive_their_camera(void **state)
{
    struct pl_camera *cam = rig_open_source("synth:yard?size=64x48&fps=50");
    struct pl_frame *f = rig_take(cam);
    char truth[64];
    snprintf(truth, sizeof truth, "%s", f->truth);
    pl_camera_close(cam);
    assert_memory_equal(truth, f->truth, strlen(truth));
    assert_true(f->image.plane[0][64 * 48 * 3 - 1] <= 255);
    pl_frame_unref(f);
}

static void can_be_switched(void **state)
{
    struct pl_camera *cam = rig_open(&(struct pl_camera_config){.source = "synth:yard?size=64x48&fps=50", .is_disabled = true});
    struct pl_camera_stats s;
    usleep(50000);
    pl_camera_get_stats(cam, &s);
    assert_int_equal(s.state, PL_CAMERA_DISABLED);
    assert_true(s.frames == 0 && s.last_frame_age_ns == -1 && !s.is_online);
    uint64_t seq = 0;
    for (int i = 0; i < 3; i++) {
        pl_camera_set_enabled(cam, true);
        struct pl_frame *f = rig_take(cam);
        assert_true(f->seq > seq);
        seq = f->seq;
        pl_frame_unref(f);
        pl_camera_set_enabled(cam, false);
    }
    pl_camera_get_stats(cam, &s);
    assert_true(s.restarts == 0); /* switching is no fault */
    pl_camera_close(cam);
}

/* max_fps and max_pixels; a synthetic picture is drawn small at once. */
static void respects_caps(void **state)
{
    struct pl_camera *cam =
        rig_open(&(struct pl_camera_config){.source = "synth:yard?size=640x360&fps=100&pace=fast", .max_pixels = 160 * 90});
    struct pl_frame *f = rig_take(cam);
    assert_int_equal(f->image.width_px, 160);
    assert_int_equal(f->image.height_px, 90);
    pl_frame_unref(f);
    pl_camera_close(cam);
    cam = rig_open(&(struct pl_camera_config){.source = "synth:yard?size=64x48&fps=50&pace=fast", .max_fps = 10});
    f = rig_take(cam);
    for (int i = 0; i < 3; i++) {
        /* every fifth frame of the scene, whatever was replaced in between */
        const char *at = strstr(f->truth, "\"frame\":");
        assert_non_null(at);
        int number = -1;
        assert_int_equal(sscanf(at, "\"frame\":%d", &number), 1);
        assert_int_equal(number % 5, 0);
        pl_frame_unref(f);
        f = rig_take(cam);
    }
    pl_frame_unref(f);
    pl_camera_close(cam);
}

static void refuses_bad_configs(void **state)
{
    static const struct {
        struct pl_camera_config config;
        const char *why;
    } cases[] = {
        {{.id = NULL, .source = "synth:yard"}, "camera id"},
        {{.id = "", .source = "synth:yard"}, "camera id"},
        {{.id = "Dock", .source = "synth:yard"}, "camera id"},
        {{.id = "dock"}, "no source"},
        {{.id = "dock", .source = "synth:yrad"}, "camera dock: synth: unknown scene"},
        {{.id = "dock", .source = "rtsp://a:sesame@/x"}, "host is missing"},
        {{.id = "dock", .source = "synth:yard", .max_pixels = -1}, "max_pixels"},
        {{.id = "dock", .source = "synth:yard", .max_fps = -1}, "max_fps"},
        {{.id = "dock", .source = "synth:yard", .frames = 1}, "frames"},
        {{.id = "dock", .source = "synth:yard", .latency_ms = -5}, "latency_ms"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pl_camera *cam = (void *)&cases;
        struct err err = {0};
        assert_err(pl_camera_open(&cases[i].config, &cam, &err), ERR_INVAL, &err, cases[i].why);
        assert_ptr_equal(cam, &cases);
        assert_false(test_contains(err.text, "sesame"));
        assert_true(pl_camera_open(&cases[i].config, &cam, NULL) < 0);
    }
    pl_camera_close(NULL);
    struct pl_camera_config plan = {.id = "a", .source = "synth:yard", .max_pixels = 1000000, .frames = 8};
    assert_true(pl_camera_plan_bytes(&plan) > 24000000 && pl_camera_plan_bytes(&plan) < 24200000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_frames),
        cmocka_unit_test(keeps_the_latest_only),
        cmocka_unit_test(pool_runs_out),
        cmocka_unit_test(newest_wins_when_short),
        cmocka_unit_test(pokes_a_shared_descriptor),
        cmocka_unit_test(frames_outlive_their_camera),
        cmocka_unit_test(can_be_switched),
        cmocka_unit_test(respects_caps),
        cmocka_unit_test(refuses_bad_configs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
