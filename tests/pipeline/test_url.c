#include "tests/support/test.h"

#include <string.h>

#include "pipeline/pipeline.h"
#include "pipeline/url.h"

static struct url parsed(const char *source)
{
    struct url u;
    struct err err = {0};
    assert_ok(url_parse(source, &u, &err), &err);
    return u;
}

static void files(void **state)
{
    struct url u = parsed("file:clip.mp4");
    assert_int_equal(u.kind, URL_FILE);
    assert_string_equal(u.location, "clip.mp4");
    assert_false(u.is_once || u.is_fast);
    assert_string_equal(parsed("file:///abs/a%20b.mp4").location, "/abs/a b.mp4");
    assert_string_equal(parsed("file:/abs/b.mp4").location, "/abs/b.mp4");
    assert_string_equal(parsed("file://localhost/abs/b.mp4").location, "/abs/b.mp4");
    assert_string_equal(parsed("file:what%3f.mp4").location, "what?.mp4");
    u = parsed("file:a.mkv?loop=no&pace=fast");
    assert_true(u.is_once && u.is_fast);
    u = parsed("file:a.mkv?loop=yes&pace=real");
    assert_false(u.is_once || u.is_fast);
}

static void rtsp(void **state)
{
    struct url u = parsed("rtsp://10.0.0.7/stream1");
    assert_int_equal(u.kind, URL_RTSP);
    assert_string_equal(u.host, "10.0.0.7");
    assert_int_equal(u.port, 554);
    assert_string_equal(u.location, "rtsp://10.0.0.7:554/stream1");
    u = parsed("rtsps://cam.lan/x?channel=1&sub=0");
    assert_true(u.is_tls);
    assert_int_equal(u.port, 322);
    assert_string_equal(u.location, "rtsps://cam.lan:322/x?channel=1&sub=0");
    u = parsed("rtsp://admin:p%40ss%3Aw%2Frd@[fe80::1]:8554/a");
    assert_string_equal(u.user, "admin");
    assert_string_equal(u.password, "p@ss:w/rd");
    assert_string_equal(u.host, "fe80::1");
    assert_string_equal(u.location, "rtsp://[fe80::1]:8554/a");
    u = parsed("rtsp://admin:p@ss@cam/a");
    assert_string_equal(u.password, "p@ss");
    assert_string_equal(u.host, "cam");
    assert_string_equal(parsed("rtsp://cam").location, "rtsp://cam:554");
}

static void synth(void **state)
{
    struct url u = parsed("synth:yard");
    assert_int_equal(u.width_px, 640);
    assert_int_equal(u.height_px, 360);
    assert_true(u.fps == 5 && u.seed == 0);
    u = parsed("synth:yard?seed=18446744073709551615&size=320x180&fps=12.5&pace=fast");
    assert_true(u.seed == UINT64_MAX && u.fps == 12.5 && u.is_fast);
    assert_int_equal(u.width_px, 320);
    assert_int_equal(u.height_px, 180);
    assert_true(!u.is_h264 && u.quality == 28);
    u = parsed("synth:yard?quality=18&codec=h264");
    assert_true(u.is_h264 && u.quality == 18);
    assert_false(parsed("synth:yard?codec=none").is_h264);
}

static void others(void **state)
{
    assert_string_equal(parsed("v4l2:/dev/v4l/by-id/usb-Cam_1-index0").location, "/dev/v4l/by-id/usb-Cam_1-index0");
    assert_string_equal(parsed("gst:videotestsrc ! videoflip").location, "videotestsrc ! videoflip");
}

/* Everything that is refused, with a part of the reason; none may repeat a password. */
static void refusals(void **state)
{
    static const struct {
        const char *source, *why;
    } cases[] = {
        {"", "expected file:"},
        {"clip.mp4", "expected file:"},
        {"rtps://cam/a", "did you mean `rtsp:`"},
        {"http://cam/a", "unknown scheme"},
        {"file:", "path is missing"},
        {"file://relative/clip.mp4", "starts with /"},
        {"file:a.mp4?lop=no", "did you mean `loop`"},
        {"file:a.mp4?loop=maybe", "expected no or yes"},
        {"file:a.mp4?loop", "expected key=value"},
        {"file:a%2", "two hex digits"},
        {"file:a%00b", "%00 is not allowed"},
        {"synth:", "scene is missing"},
        {"synth:yard?sead=7", "did you mean `seed`"},
        {"synth:yard?loop=no", "unknown option"},
        {"synth:yard?size=640", "WIDTHxHEIGHT"},
        {"synth:yard?size=640x360x2", "WIDTHxHEIGHT"},
        {"synth:yard?size=99999x99999", "WIDTHxHEIGHT"},
        {"synth:yard?size=10x10", "WIDTHxHEIGHT"},
        {"synth:yard?fps=0", "number from 0.1 to 120"},
        {"synth:yard?fps=nan", "number from 0.1 to 120"},
        {"synth:yard?fps=1e400", "number from 0.1 to 120"},
        {"synth:yard?codec=h265", "expected h264 or none"},
        {"synth:yard?codec=h264&quality=17", "from 18 (best) to 40 (worst)"},
        {"synth:yard?codec=h264&quality=41", "from 18 (best) to 40 (worst)"},
        {"synth:yard?codec=h264&quality=28.5", "from 18 (best) to 40 (worst)"},
        {"synth:yard?codec=h264&quality=", "from 18 (best) to 40 (worst)"},
        {"synth:yard?quality=30", "only codec=h264 has one"},
        {"synth:yard?seed=-1", "whole number"},
        {"synth:yard?seed=18446744073709551616", "whole number"},
        {"rtsp:cam", "expected rtsp://HOST/PATH"},
        {"rtsp:///path", "host is missing"},
        {"rtsp://user:sesame@/path", "host is missing"},
        {"rtsp://user:sesame@cam:99999/path", "port"},
        {"rtsp://user:sesame@cam:12x/path", "port"},
        {"rtsp://user:sesame@ca m/path", "not allowed"},
        {"rtsp://user:sesame%zz@cam/path", "two hex digits"},
        {"rtsp://[fe80::1/path", "`]`"},
        {"rtsp://[fe80::1]x/path", "unexpected text"},
        {"rtsp://cam/a b", "white space"},
        {"v4l2:video0", "expected a device node"},
        {"gst:  ", "description is missing"},
        {"file:a\x01", "control character"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = {0};
        struct url u;
        int rc = url_parse(cases[i].source, &u, &err);
        if (rc != ERR_INVAL || !strstr(err.text, cases[i].why) || strstr(err.text, "sesame"))
            fail_msg("`%s`: %d, `%s`; expected `%s`", cases[i].source, rc, err.text, cases[i].why);
    }
    char *big = test_malloc(5000);
    memset(big, 'a', 4999);
    big[4999] = 0;
    memcpy(big, "file:", 5);
    assert_int_equal(url_parse(big, &(struct url){0}, NULL), ERR_INVAL);
    test_free(big);
}

/* The whole check: scenes and descriptions as well. */
static void checks(void **state)
{
    struct err err = {0};
    assert_ok(pl_source_check("synth:yard?seed=7&size=640x360&fps=5", &err), &err);
    assert_int_equal(pl_source_check("synth:yrad", &err), ERR_INVAL);
    assert_non_null(strstr(err.text, "did you mean `yard`"));
    err_clear(&err);
    assert_ok(pl_source_check("gst:videotestsrc is-live=true ! video/x-raw,width=320", &err), &err);
    assert_int_equal(pl_source_check("gst:nosuchelement ! videoflip", &err), ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "nosuchelement"));
    err_clear(&err);
    assert_int_equal(pl_source_check("gst:videotestsrc ! fakesink", &err), ERR_INVAL);
    assert_non_null(strstr(err.text, "leave the sink away"));
    err_clear(&err);
    assert_int_equal(pl_source_check("gst:videoflip", &err), ERR_INVAL);
    err_clear(&err);
    assert_int_equal(pl_source_check("gst:videotestsrc !! x", &err), ERR_INVAL);
    err_clear(&err);
    assert_int_equal(pl_source_check("gst:videotestsrc nosuchproperty=1", &err), ERR_INVAL);
    assert_non_null(strstr(err.text, "nosuchproperty"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files),  cmocka_unit_test(rtsp),     cmocka_unit_test(synth),
        cmocka_unit_test(others), cmocka_unit_test(refusals), cmocka_unit_test(checks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
