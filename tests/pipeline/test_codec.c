/*
 * What a codec does to a rendered picture: marks that can be seen and leave the scene recognisable, no picture lost or late, the same bytes every time. And PNG files
 * that hold exactly what was written.
 */
#include "tests/support/test.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/rng.h"
#include "engine/engine.h"
#include "pipeline/codec.h"
#include "pipeline/frame.h"
#include "pipeline/pipeline.h"
#include "pipeline/source.h"
#include "tests/support/camera_rig.h"

/* Frames of a source, drawn one after the other. */
struct film {
    struct pl_synth *synth;
    int width_px, height_px;
    size_t n_bytes;
    uint8_t *rgb;
    const char *truth;
};

static struct film film_open(const char *source)
{
    struct film f = {0};
    struct err err = {0};
    struct pl_synth_info info;
    assert_ok(pl_synth_open(source, &f.synth, &err), &err);
    pl_synth_get_info(f.synth, &info);
    f.width_px = info.width_px;
    f.height_px = info.height_px;
    f.n_bytes = (size_t)info.width_px * (size_t)info.height_px * 3;
    f.rgb = malloc(f.n_bytes);
    assert_non_null(f.rgb);
    return f;
}

static const uint8_t *film_draw(struct film *f, uint64_t i_frame)
{
    assert_int_equal(pl_synth_draw(f->synth, i_frame, f->rgb, (size_t)f->width_px * 3, &f->truth, NULL), 0);
    return f->rgb;
}

static void film_close(struct film *f)
{
    pl_synth_close(f->synth);
    free(f->rgb);
}

static void need_h264(void)
{
    struct err err = {0};
    if (codec_loop_check(&err) != 0)
        skip_because("%s", err.text);
}

static double psnr_db(const uint8_t *a, const uint8_t *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return 10 * log10(255.0 * 255.0 * (double)n / fmax(sum, 1e-9));
}

#define SCENE "synth:yard?seed=7&size=320x180&fps=5"

/* 20 pictures in, 20 out, each its own and none before it; truth untouched; worse where it is told to be worse. */
static void marks_of_compression(void **state)
{
    need_h264();
    struct film plain = film_open(SCENE), coded = film_open(SCENE "&codec=h264"),
                poor = film_open(SCENE "&codec=h264&quality=40");
    double sum = 0, sum_poor = 0, sum_other = 0;
    uint8_t *before = malloc(plain.n_bytes);
    assert_non_null(before);
    for (uint64_t i = 0; i < 20; i++) {
        film_draw(&coded, i);
        film_draw(&poor, i);
        const double other = i ? psnr_db(coded.rgb, before, plain.n_bytes) : 0;
        film_draw(&plain, i);
        const double db = psnr_db(coded.rgb, plain.rgb, plain.n_bytes);
        if (db < 28 || db > 50 || db < other - 0.5) /* where hardly anything moves both are equally near */
            fail_msg("frame %d: %.2f dB from its own picture, %.2f dB from the one before", (int)i, db, other);
        assert_string_equal(coded.truth, plain.truth);
        assert_string_equal(poor.truth, plain.truth);
        sum += db;
        sum_poor += psnr_db(poor.rgb, plain.rgb, plain.n_bytes);
        sum_other += other;
        memcpy(before, plain.rgb, plain.n_bytes);
    }
    print_message("quality 28: %.2f dB, 40: %.2f dB, to the frame before: %.2f dB\n", sum / 20, sum_poor / 20, sum_other / 19);
    assert_true(sum_poor / 20 < sum / 20 - 2);
    assert_true(sum_other / 19 < sum / 20 - 0.3);
    free(before);
    film_close(&plain);
    film_close(&coded);
    film_close(&poor);
}

/* Colours are those that went in: a matrix or a range that is taken for another would shift them all. */
static void colours_stay(void **state)
{
    enum { W = 96, H = 64 };
    static const uint8_t colours[][3] = {{255, 255, 255}, {0, 0, 0},     {128, 128, 128}, {200, 30, 30},
                                         {30, 160, 40},   {30, 40, 200}, {220, 200, 40},  {16, 235, 128}};
    need_h264();
    struct codec_loop *loop = NULL;
    struct err err = {0};
    uint8_t rgb[W * H * 3];
    assert_ok(codec_loop_open(W, H, 5, CODEC_QUALITY_MIN, &loop, &err), &err);
    for (size_t i = 0; i < sizeof colours / sizeof colours[0]; i++) {
        for (int k = 0; k < W * H * 3; k++)
            rgb[k] = colours[i][k % 3];
        assert_ok(codec_loop_run(loop, true, rgb, W * 3, &err), &err);
        for (int k = 0; k < W * H * 3; k++)
            if (abs(rgb[k] - colours[i][k % 3]) > 4) /* rounding to 8 bits of YUV and the quantiser of 18 */
                fail_msg("colour %d, channel %d: %d became %d", (int)i, k % 3, colours[i][k % 3], rgb[k]);
    }
    codec_loop_close(loop);
}

/* Two runs agree; and from a key frame on it makes no difference what was drawn before. */
static void deterministic(void **state)
{
    need_h264();
    struct film a = film_open(SCENE "&codec=h264"), b = film_open(SCENE "&codec=h264");
    struct pl_synth_info info;
    pl_synth_get_info(a.synth, &info);
    assert_int_equal(info.key_frames, 10);
    for (uint64_t i = 0; i < 20; i++) {
        film_draw(&a, i);
        film_draw(&b, i);
        assert_memory_equal(a.rgb, b.rgb, a.n_bytes);
    }
    film_draw(&b, 500); /* somewhere else, and back */
    film_draw(&b, 3);
    for (uint64_t i = 20; i < 33; i++) {
        film_draw(&a, i);
        film_draw(&b, i);
        assert_memory_equal(a.rgb, b.rgb, a.n_bytes);
    }
    /* a picture alone is a key frame, and not what the camera gives */
    film_draw(&b, 32);
    assert_memory_not_equal(a.rgb, b.rgb, a.n_bytes);
    assert_true(psnr_db(a.rgb, b.rgb, a.n_bytes) > 28);
    film_close(&a);
    film_close(&b);
}

/* Odd sides, and rows with room behind them that stays as it was. */
static void odd_sizes(void **state)
{
    enum { W = 321, H = 181, STRIDE = W * 3 + 7 };
    need_h264();
    struct film plain = film_open("synth:yard?seed=7&size=321x181"),
                coded = film_open("synth:yard?seed=7&size=321x181&codec=h264");
    uint8_t *wide = malloc(STRIDE * H);
    assert_non_null(wide);
    memset(wide, 0xEE, STRIDE * H);
    film_draw(&plain, 0);
    film_draw(&coded, 0);
    assert_in_range((uintmax_t)psnr_db(coded.rgb, plain.rgb, plain.n_bytes), 28, 50);
    /* the last column and row are as near as the rest */
    double sum = 0;
    for (int y = 0; y < H; y++)
        sum += abs(coded.rgb[(y * W + W - 1) * 3 + 1] - plain.rgb[(y * W + W - 1) * 3 + 1]);
    for (int x = 0; x < W; x++)
        sum += abs(coded.rgb[((H - 1) * W + x) * 3 + 1] - plain.rgb[((H - 1) * W + x) * 3 + 1]);
    assert_true(sum / (W + H) < 12);
    assert_int_equal(pl_synth_draw(coded.synth, 0, wide, STRIDE, NULL, NULL), 0);
    for (int y = 0; y < H; y++) {
        assert_memory_equal(wide + y * STRIDE, coded.rgb + y * W * 3, W * 3);
        for (int x = W * 3; x < STRIDE; x++)
            assert_int_equal(wide[y * STRIDE + x], 0xEE);
    }
    free(wide);
    film_close(&plain);
    film_close(&coded);
}

/* Sizes and rates at the ends of what a source may ask for: libx264 or its wrapper could refuse one. */
static void all_sizes_and_rates(void **state)
{
    static const char *const sources[] = {
        "synth:yard?size=64x48&fps=0.1&codec=h264", "synth:yard?size=65x49&fps=120&codec=h264",
        "synth:yard?size=3840x2160&fps=29.97&codec=h264&quality=18", "synth:yard?size=64x2160&fps=12.5&codec=h264&quality=40"};
    need_h264();
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        struct film f = film_open(sources[i]);
        for (uint64_t k = 0; k < 2; k++)
            film_draw(&f, k);
        film_close(&f);
    }
}

static void as_a_camera(void **state)
{
    need_h264();
    struct pl_camera *cam = rig_open_source("synth:yard?seed=7&size=320x180&fps=20&codec=h264");
    const uint64_t want = 5;
    rig_wait(cam, true, rig_has_frames, &want, "5 frames");
    struct pl_frame *frame = rig_take(cam);
    assert_non_null(frame->truth);
    struct pl_camera_stats s;
    pl_camera_get_stats(cam, &s);
    assert_string_equal(s.codec, "h264");
    assert_int_equal(s.restarts, 0);
    pl_frame_unref(frame);
    pl_camera_close(cam);
}

/* A synthetic camera under the supervisor's hands. */
struct hands {
    struct url url;
    struct source_settings settings;
    struct source *source;
    struct frame_pool *pool;
};

static void hands_open(struct hands *h, const char *source, double max_fps)
{
    struct err err = {0};
    assert_ok(source_parse(source, &h->url, &err), &err);
    h->settings = (struct source_settings){.url = &h->url, .max_pixels = 1 << 20, .max_fps = max_fps};
    assert_ok(source_synth_ops.open(&h->settings, &h->source, &err), &err);
    assert_ok(frame_pool_open(2, h->url.width_px * h->url.height_px, &h->pool, &err), &err);
}

static struct source_info hands_wait(struct hands *h)
{
    struct source_info info;
    struct err err = {0};
    assert_int_equal(source_synth_ops.wait(h->source, INT64_MAX, &err), SOURCE_FRAME);
    source_synth_ops.get_info(h->source, &info);
    return info;
}

static void hands_close(struct hands *h)
{
    assert_true(source_synth_ops.close(h->source));
    frame_pool_close(h->pool);
}

#define SMALL "synth:yard?seed=7&size=64x48&fps=5&codec=h264"

/*
 * 5 a second of which every third number is drawn: 0, 3, ... 57; the first behind each multiple of 10 stands alone. What is counted as a key frame looks as if nothing had
 * been before it, and nothing else does; who only listens, as a probe does, hears of the same.
 */
static void key_frames_are_counted(void **state)
{
    need_h264();
    struct hands camera, probe;
    struct err err = {0};
    struct source_info info = {0};
    uint64_t n_keys = 0;
    hands_open(&camera, SMALL "&pace=fast", 2);
    hands_open(&probe, SMALL "&pace=fast", 2);
    for (uint64_t n = 1; n <= 20; n++) {
        const uint64_t i_frame = (n - 1) * 3;
        hands_wait(&camera);
        struct pl_frame *frame = frame_pool_take(camera.pool);
        assert_ok(source_synth_ops.fill(camera.source, frame, &err), &err);
        struct film alone = film_open(SMALL);
        n_keys += memcmp(film_draw(&alone, i_frame), frame->image.plane[0], alone.n_bytes) == 0;
        film_close(&alone);
        pl_frame_unref(frame);
        source_synth_ops.get_info(camera.source, &info);
        assert_int_equal(info.coded_frames, n);
        assert_int_equal(info.key_frames, n_keys);
        const struct source_info heard = hands_wait(&probe);
        assert_true(heard.coded_frames == n && heard.key_frames == n_keys && heard.gop_frames == info.gop_frames);
    }
    assert_int_equal(n_keys, 6); /* 0, 12, 21, 30, 42, 51 */
    assert_int_equal(info.gop_frames, 4);
    assert_int_equal(info.gop_ns, INT64_C(2400000000));
    for (int i = 0; i < 5; i++) /* pictures that nobody had room for went through no codec */
        info = hands_wait(&camera);
    assert_int_equal(info.coded_frames, 20);
    assert_int_equal(info.key_frames, 6);
    hands_close(&camera);
    hands_close(&probe);
}

/* Seldom a frame: key frames lie two seconds apart, or as near as that gets. */
static void slow_rates(void **state)
{
    static const struct {
        const char *source;
        int key_frames;
    } rates[] = {{"synth:yard?size=64x48&codec=h264&fps=0.1", 1},
                 {"synth:yard?size=64x48&codec=h264&fps=0.5", 1},
                 {"synth:yard?size=64x48&codec=h264&fps=1", 2},
                 {"synth:yard?size=64x48&codec=h264&fps=1.1", 2},
                 {"synth:yard?size=64x48&codec=h264&fps=29.97", 60}};
    need_h264();
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        struct pl_synth_info info;
        struct film f = film_open(rates[i].source);
        pl_synth_get_info(f.synth, &info);
        assert_int_equal(info.key_frames, rates[i].key_frames);
        film_close(&f);
    }
}

static int list_as_built(void **state)
{
    (void)state;
    codec_set_encoders(NULL);
    return 0;
}

static void no_encoder(void **state)
{
    static const char *const none[] = {"no-such-encoder", "libnothing", NULL};
    struct pl_synth *synth = NULL;
    struct err err = {0};
    codec_set_encoders(none);
    assert_err(pl_synth_open("synth:yard?codec=h264", &synth, &err), ERR_UNSUPPORTED, &err,
               "no H.264 encoder in software (looked for no-such-encoder, libnothing)");
    err_clear(&err);
    assert_err(pl_source_check("synth:yard?codec=h264", &err), ERR_UNSUPPORTED, &err, "no H.264 encoder");
    err_clear(&err);
    assert_ok(pl_source_check("synth:yard?codec=none", &err), &err);
    assert_null(synth);
    codec_set_encoders(NULL);
    need_h264();
    assert_ok(pl_source_check("synth:yard?codec=h264", &err), &err);
}

/* ---- PNG ---------------------------------------------------------------------------------------------------------------- */

static void pictures_come_back(void **state)
{
    enum { W = 37, H = 23, STRIDE = W * 3 + 5 };
    char path[400];
    static uint8_t pixels[STRIDE * H];
    struct image_view view = {
        .format = IMAGE_RGB24, .width_px = W, .height_px = H, .plane = {pixels}, .stride_bytes = {STRIDE}};
    struct err err = {0};
    snprintf(path, sizeof path, "%s/a.png", test_temp_dir());
    for (int round = 0; round < 2; round++) { /* the second replaces the first */
        for (size_t i = 0; i < sizeof pixels; i++)
            pixels[i] = (uint8_t)(i * 2654435761u >> (13 + round));
        assert_ok(pl_picture_write(path, &view, &err), &err);
        struct en_picture back;
        assert_ok(en_picture_read(path, &back, &err), &err);
        assert_true(back.view.width_px == W && back.view.height_px == H);
        for (int y = 0; y < H; y++)
            assert_memory_equal(back.view.plane[0] + (size_t)y * back.view.stride_bytes[0], pixels + y * STRIDE, W * 3);
        en_picture_free(&back);
    }
}

/* What base/file says is told with the path; tests/base/test_file.c has the rest. */
static void pictures_that_cannot_be_written(void **state)
{
    enum { W = 64, H = 64 };
    static uint8_t pixels[W * H * 3];
    struct image_view view = {.format = IMAGE_RGB24, .width_px = W, .height_px = H, .plane = {pixels}, .stride_bytes = {W * 3}};
    struct err err = {0};
    struct rlimit before;
    char path[400];
    size_t n;
    for (size_t i = 0; i < sizeof pixels; i++) /* nothing to compress */
        pixels[i] = (uint8_t)rng_at(1, i);
    assert_err(pl_picture_write("/nonexistent/folder/a.png", &view, &err), ERR_NOT_FOUND, &err,
               "/nonexistent/folder/a.png: No such");
    err_clear(&err);
    snprintf(path, sizeof path, "%s/full.png", test_temp_dir());
    test_write_text(path, "old");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){2000, before.rlim_max}), 0);
    const int rc = pl_picture_write(path, &view, &err);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    assert_err(rc, ERR_IO, &err, "full.png: File too large");
    char *old = test_read_file(path, &n);
    assert_string_equal(old, "old");
    free(old);
    err_clear(&err);
    view.format = IMAGE_GRAY8;
    assert_err(pl_picture_write(path, &view, &err), ERR_UNSUPPORTED, &err, "only RGB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(marks_of_compression),
        cmocka_unit_test(colours_stay),
        cmocka_unit_test(deterministic),
        cmocka_unit_test(odd_sizes),
        cmocka_unit_test(all_sizes_and_rates),
        cmocka_unit_test(as_a_camera),
        cmocka_unit_test(key_frames_are_counted),
        cmocka_unit_test(slow_rates),
        cmocka_unit_test_teardown(no_encoder, list_as_built),
        cmocka_unit_test(pictures_come_back),
        cmocka_unit_test(pictures_that_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
