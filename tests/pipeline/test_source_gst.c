/* file: and gst: sources: looping, pacing, faults, decoders. */
#include "tests/support/camera_rig.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pipeline/decoder.h"

static char clip[64]; /* 1 s, 15 frames, 320x240 */

static int make_clip(void **state)
{
    rig_make_h264(320, 240, 15, clip, sizeof clip);
    return 0;
}

static int drop_clip(void **state)
{
    unlink(clip);
    return 0;
}

static struct pl_camera *open_clip(const char *options, int64_t max_pixels, double max_fps)
{
    char source[128];
    snprintf(source, sizeof source, "file:%s%s", clip, options);
    return rig_open(&(struct pl_camera_config){.source = source, .max_pixels = max_pixels, .max_fps = max_fps});
}

/* Loops at its own pace: more frames than the clip has, without a restart, and never faster than its time stamps. */
static void loops_and_paces(void **state)
{
    int64_t start = clock_now_ns();
    struct pl_camera *cam = open_clip("", 0, 0);
    uint64_t n = 40;
    struct pl_camera_stats s = rig_wait(cam, true, rig_has_frames, &n, "40 frames of a clip of 15");
    double took_s = (double)(clock_now_ns() - start) / 1e9;
    assert_true(took_s > 39 / 15.0 - 0.3);
    assert_true(s.restarts == 0 && s.decode_errors == 0);
    assert_string_equal(s.codec, "h264");
    assert_string_equal(s.decoder, "avdec_h264");
    assert_int_equal(s.width_px, 320);
    pl_camera_close(cam);
}

static bool has_ended(const struct pl_camera_stats *s, const void *ctx)
{
    return s->state == PL_CAMERA_ENDED;
}

/* As fast as possible, once: every frame is published, and it ends. */
static void plays_once(void **state)
{
    struct pl_camera *cam = open_clip("?loop=no&pace=fast", 0, 0);
    struct pl_camera_stats s = rig_wait(cam, true, has_ended, NULL, "ended");
    assert_int_equal(s.frames, 15);
    assert_true(s.restarts == 0);
    assert_string_equal(s.last_error, "");
    /* off and on again: once more */
    pl_camera_set_enabled(cam, false);
    usleep(50000);
    pl_camera_set_enabled(cam, true);
    uint64_t n = 30;
    rig_wait(cam, true, rig_has_frames, &n, "played again");
    pl_camera_close(cam);
}

/* The picture is right: the ball is white on black, and scaling keeps the aspect. */
static void scales(void **state)
{
    struct pl_camera *cam = open_clip("?pace=fast", 160 * 120, 0);
    struct pl_frame *f = rig_take(cam);
    assert_int_equal(f->image.width_px, 160);
    assert_int_equal(f->image.height_px, 120);
    int n_white = 0, n_black = 0;
    for (int i = 0; i < 160 * 120; i++) {
        const uint8_t *px = f->image.plane[0] + (size_t)i * 3;
        n_white += px[0] > 200 && px[1] > 200 && px[2] > 200;
        n_black += px[0] < 30 && px[1] < 30 && px[2] < 30;
    }
    assert_true(n_white > 100 && n_black > 10000);
    pl_frame_unref(f);
    pl_camera_close(cam);
}

/* Frames beyond the cap are dropped by their time stamps: 15 fps capped at 3 gives every fifth. */
static void caps_the_rate(void **state)
{
    struct pl_camera *cam = open_clip("?loop=no&pace=fast", 0, 3);
    struct pl_camera_stats s = rig_wait(cam, true, has_ended, NULL, "ended");
    assert_int_equal(s.frames, 3);
    pl_camera_close(cam);
}

static void explains_bad_files(void **state)
{
    char path[64], source[128];
    struct pl_camera *cam = rig_open_source("file:/nonexistent/clip.mp4");
    rig_wait(cam, true, rig_has_error, "/nonexistent/clip.mp4: No such file", "no such file");
    pl_camera_close(cam);

    cam = rig_open_source("file:/tmp");
    rig_wait(cam, true, rig_has_error, "is a directory", "a directory");
    pl_camera_close(cam);

    snprintf(path, sizeof path, "%s/empty.mp4", test_temp_dir());
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    snprintf(source, sizeof source, "file:%s", path);
    cam = rig_open_source(source);
    rig_wait(cam, true, rig_has_error, "is empty", "empty");
    pl_camera_close(cam);

    for (int i = 0; i < 3000; i++)
        assert_int_equal(write(fd, "not a video\n", 12), 12);
    cam = rig_open_source(source);
    struct pl_camera_stats s = rig_wait(cam, true, rig_has_error, path, "an error that names the file");
    assert_int_equal(s.state, PL_CAMERA_RESTARTING);
    assert_true(s.frames == 0 && !s.is_online);
    uint64_t n = 2;
    rig_wait(cam, true, rig_has_restarts, &n, "tried again"); /* for ever: somebody may put the file right */
    pl_camera_close(cam);
    close(fd);
    unlink(path);

    rig_make_clip("audiotestsrc num-buffers=20 ! wavenc", ".wav", path, sizeof path);
    snprintf(source, sizeof source, "file:%s", path);
    cam = rig_open_source(source);
    rig_wait(cam, true, rig_has_error, "no video that Heron can decode (found: audio/", "no video");
    pl_camera_close(cam);
    unlink(path);
}

/* A file cut short or with bytes turned over: what can be played is played, the rest is counted, nothing crashes. */
static void survives_damage(void **state)
{
    char path[64], source[128];
    rig_make_clip("videotestsrc pattern=snow num-buffers=40 ! video/x-raw,width=160,height=120,framerate=15/1 ! "
                  "openh264enc gop-size=40 ! h264parse ! video/x-h264,stream-format=byte-stream ! mpegtsmux",
                  ".ts", path, sizeof path);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    int fd = open(path, O_RDWR);
    for (off_t at = st.st_size / 3; at < st.st_size * 2 / 3; at += 1500)
        assert_int_equal(pwrite(fd, "\xff\x00\xff\x00\xff", 5, at), 5);
    assert_int_equal(ftruncate(fd, st.st_size * 9 / 10), 0);
    close(fd);
    snprintf(source, sizeof source, "file:%s?loop=no&pace=fast", path);
    struct pl_camera *cam = rig_open_source(source);
    struct pl_camera_stats s = rig_wait(cam, true, has_ended, NULL, "ended");
    assert_true(s.frames >= 5);
    assert_true(s.decode_errors > 0);
    pl_camera_close(cam);
    unlink(path);
}

static bool uses_decoder(const struct pl_camera_stats *s, const void *name)
{
    return s->frames > 0 && strcmp(s->decoder, name) == 0;
}

/* One missing, one that does not fit, one that starts and gives nothing for ever: the next in the list decodes, without a back-off. */
static void falls_to_the_next_decoder(void **state)
{
    static const char *const list[] = {"nosuchdecoder", "valve", "avdec_h264 ! valve drop=true", "openh264dec", NULL};
    decoder_set_list("h264", list);
    struct pl_camera *cam = open_clip("", 0, 0);
    struct pl_camera_stats s = rig_wait(cam, true, uses_decoder, "openh264dec", "decoded by openh264dec");
    assert_int_equal(s.restarts, 1);
    assert_true(test_contains(s.last_error, "decoder avdec_h264 gave no picture"));
    pl_camera_close(cam);
    /* what was learnt holds for the next camera */
    cam = open_clip("", 0, 0);
    s = rig_wait(cam, true, uses_decoder, "openh264dec", "decoded by openh264dec");
    assert_int_equal(s.restarts, 0);
    pl_camera_close(cam);
    decoder_set_list("h264", NULL);
}

/* None works: an error that says so, and all are tried again later. */
static void no_decoder_left(void **state)
{
    static const char *const list[] = {"nosuchdecoder", "avdec_h264 ! valve drop=true", NULL};
    decoder_set_list("h264", list);
    struct pl_camera *cam = open_clip("", 0, 0);
    rig_wait(cam, true, rig_has_error, "no decoder left for h264", "out of decoders");
    rig_wait(cam, true, rig_has_error, "decoder avdec_h264 gave no picture", "tried anew");
    pl_camera_close(cam);
    decoder_set_list("h264", NULL);
}

/* A user's own description; a still picture on a live source is frozen, so the camera is not online. */
static void plays_descriptions(void **state)
{
    struct pl_camera *cam = rig_open_source("gst:videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=120");
    struct pl_frame *f = rig_take(cam);
    assert_int_equal(f->image.width_px, 160);
    assert_null(f->truth);
    pl_frame_unref(f);
    struct pl_camera_stats s = rig_wait(cam, true, rig_is_online, NULL, "online");
    assert_string_equal(s.codec, "raw");
    pl_camera_close(cam);
    /* the same without is-live is paced all the same */
    cam = rig_open_source("gst:videotestsrc pattern=ball ! video/x-raw,width=64,height=48,framerate=20/1");
    int64_t start = clock_now_ns();
    uint64_t n = 20;
    rig_wait(cam, true, rig_has_frames, &n, "20 frames");
    assert_true(clock_now_ns() - start > 700 * CLOCK_MS);
    pl_camera_close(cam);
}

static bool is_frozen(const struct pl_camera_stats *s, const void *ctx)
{
    return s->is_frozen;
}

static void sees_a_frozen_picture(void **state)
{
    struct pl_camera *cam = rig_open_source("gst:videotestsrc is-live=true pattern=white ! video/x-raw,width=64,height=48");
    struct pl_camera_stats s = rig_wait(cam, true, is_frozen, NULL, "frozen");
    assert_int_equal(s.state, PL_CAMERA_RUNNING);
    assert_false(s.is_online);
    pl_camera_close(cam);
}

/* A live source that ends, an element that fails, and one that goes silent: all restart. */
static void restarts_on_faults(void **state)
{
    uint64_t n = 2;
    struct pl_camera *cam = rig_open_source("gst:videotestsrc is-live=true num-buffers=5 ! video/x-raw,width=64,height=48");
    rig_wait(cam, true, rig_has_restarts, &n, "restarted after the end");
    struct pl_camera_stats s = rig_wait(cam, true, rig_has_error, "stream ended", "told that it ended");
    assert_true(s.frames >= 5 && s.restarts_1h >= 2);
    pl_camera_close(cam);

    cam = rig_open_source("gst:videotestsrc is-live=true ! video/x-raw,width=64,height=48 ! identity error-after=5");
    rig_wait(cam, true, rig_has_restarts, &n, "restarted after an error");
    rig_wait(cam, true, rig_has_error, "gst: ", "told the error");
    pl_camera_close(cam);

    /* five frames, then a live source that holds its breath for longer than the age limit */
    cam = rig_open_source("gst:concat name=c ! capsfilter caps=video/x-raw,width=64,height=48,framerate=30/1 "
                          "videotestsrc is-live=true num-buffers=5 ! c. "
                          "videotestsrc is-live=true ! identity drop-probability=1 ! c.");
    rig_wait(cam, true, rig_has_error, "no picture for", "told that it is silent");
    rig_wait(cam, true, rig_has_restarts, &n, "restarted after silence");
    pl_camera_close(cam);
}

/* A pipeline that hangs while stopping is left behind and counted, and close does not wait for it. */
static void leaves_a_stuck_pipeline(void **state)
{
    struct pl_timing timing = rig_timing;
    timing.teardown_ns = 50 * CLOCK_MS;
    uint32_t before = pl_leaked_pipelines();
    struct pl_camera *cam = rig_open(&(struct pl_camera_config){
        .source = "gst:videotestsrc is-live=true ! video/x-raw,width=64,height=48 ! identity sleep-time=1500000",
        .timing = &timing,
    });
    struct pl_frame *f = rig_take(cam);
    pl_frame_unref(f);
    usleep(200000); /* now its thread sleeps over the second picture, and stopping waits for that thread */
    pl_camera_close(cam);
    assert_int_equal(pl_leaked_pipelines(), before + 1);
    usleep(2500000); /* let it finish, so that a leak checker sees that it does free itself in the end */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loops_and_paces),
        cmocka_unit_test(plays_once),
        cmocka_unit_test(scales),
        cmocka_unit_test(caps_the_rate),
        cmocka_unit_test(explains_bad_files),
        cmocka_unit_test(survives_damage),
        cmocka_unit_test(falls_to_the_next_decoder),
        cmocka_unit_test(no_decoder_left),
        cmocka_unit_test(plays_descriptions),
        cmocka_unit_test(sees_a_frozen_picture),
        cmocka_unit_test(restarts_on_faults),
        cmocka_unit_test(leaves_a_stuck_pipeline),
    };
    return cmocka_run_group_tests(tests, make_clip, drop_clip);
}
