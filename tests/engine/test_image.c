/* Size and resampling of pictures against the official implementation's Pillow path, bit for bit. */
#include "tests/support/test.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "engine/image.h"
#include "tests/support/golden.h"

static struct image_view view_of(enum image_format format, int width_px, int height_px, const uint8_t *pixels, size_t stride)
{
    return (struct image_view){
        .format = format, .width_px = width_px, .height_px = height_px, .plane = {pixels}, .stride_bytes = {stride}};
}

/* Resize with scratch of exactly the stated size; malloc'ed result. */
static uint8_t *resize(const struct image_view *src, int width_px, int height_px)
{
    struct err err = {0};
    const size_t n = image_resize_scratch_bytes(src->width_px, src->height_px, width_px, height_px);
    void *scratch = malloc(n);
    uint8_t *dst = malloc((size_t)width_px * (size_t)height_px * 3);
    memset(scratch, 0xA5, n);
    assert_ok(image_resize_rgb(src, width_px, height_px, dst, scratch, n, &err), &err);
    free(scratch);
    return dst;
}

static void all_sizes_are_the_official_ones(void **state)
{
    FILE *f = fopen("tests/golden/image_sizes.txt", "r");
    if (!f)
        fail_msg("tests/golden/image_sizes.txt: cannot open (tests run in the repository's root)");
    char line[160];
    int n_targets = 0, n_resizes = 0;
    while (fgets(line, sizeof line, f)) {
        struct err err = {0};
        int w, h, tile, to_w, to_h, seed, got_w = 0, got_h = 0;
        int64_t min, max;
        uint64_t hash;
        if (sscanf(line, "target %d %d %d %" SCNd64 " %" SCNd64 " %d %d", &w, &h, &tile, &min, &max, &to_w, &to_h) == 7) {
            assert_ok(image_target_size(w, h, tile, min, max, &got_w, &got_h, &err), &err);
            if (got_w != to_w || got_h != to_h)
                fail_msg("got %d x %d: %s", got_w, got_h, line);
            n_targets++;
        } else if (sscanf(line, "resize %d %d %d %d %d %" SCNx64, &w, &h, &to_w, &to_h, &seed, &hash) == 6) {
            uint8_t *src = malloc((size_t)w * (size_t)h * 3);
            golden_paint(w, h, seed, src);
            const struct image_view view = view_of(IMAGE_RGB24, w, h, src, (size_t)w * 3);
            uint8_t *dst = resize(&view, to_w, to_h);
            if (rng_hash(dst, (uint64_t)to_w * (uint64_t)to_h * 3) != hash)
                fail_msg("other pixels: %s", line);
            free(src);
            free(dst);
            n_resizes++;
        } else {
            fail_msg("image_sizes.txt: %s", line);
        }
    }
    fclose(f);
    assert_in_range(n_targets, 200, 1000);
    assert_in_range(n_resizes, 120, 1000);
}

static void rows_of_the_specification(void **state)
{
    static const uint8_t row[6] = {10, 50, 200, 255, 0, 128};
    static const struct {
        int n;
        uint8_t want[9];
    } cases[] = {
        {3, {43, 194, 82}},
        {4, {16, 165, 169, 72}},
        {9, {7, 20, 70, 179, 253, 226, 24, 53, 136}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct image_view across = view_of(IMAGE_GRAY8, 6, 1, row, 6), down = view_of(IMAGE_GRAY8, 1, 6, row, 1);
        uint8_t *a = resize(&across, cases[i].n, 1), *d = resize(&down, 1, cases[i].n);
        for (int x = 0; x < cases[i].n; x++)
            for (int c = 0; c < 3; c++) {
                assert_int_equal(a[3 * x + c], cases[i].want[x]);
                assert_int_equal(d[3 * x + c], cases[i].want[x]);
            }
        free(a);
        free(d);
    }
}

/* Grey equals RGB of three equal channels, and padded rows equal packed ones, in every order of passes. */
static void grey_and_padded_rows(void **state)
{
    static const int sizes[][4] = {{40, 30, 64, 32}, {40, 30, 20, 32}, {20, 90, 25, 30},
                                   {20, 90, 20, 30}, {33, 17, 66, 17}, {9, 9, 9, 9}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int w = sizes[i][0], h = sizes[i][1], to_w = sizes[i][2], to_h = sizes[i][3];
        const size_t gray_stride = (size_t)w + 5, rgb_stride = (size_t)w * 3 + 7;
        uint8_t *gray = malloc(gray_stride * (size_t)h), *rgb = malloc(rgb_stride * (size_t)h),
                *packed = malloc((size_t)w * (size_t)h * 3);
        struct rng r = {.seed = i};
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++) {
                const uint8_t v = (uint8_t)rng_below(&r, 256);
                gray[(size_t)y * gray_stride + (size_t)x] = v;
                memset(rgb + (size_t)y * rgb_stride + 3 * (size_t)x, v, 3);
                memset(packed + ((size_t)y * (size_t)w + (size_t)x) * 3, v, 3);
            }
        const struct image_view views[3] = {view_of(IMAGE_GRAY8, w, h, gray, gray_stride),
                                            view_of(IMAGE_RGB24, w, h, rgb, rgb_stride),
                                            view_of(IMAGE_RGB24, w, h, packed, (size_t)w * 3)};
        uint8_t *out[3];
        for (int k = 0; k < 3; k++)
            out[k] = resize(&views[k], to_w, to_h);
        assert_memory_equal(out[0], out[2], (size_t)to_w * (size_t)to_h * 3);
        assert_memory_equal(out[1], out[2], (size_t)to_w * (size_t)to_h * 3);
        for (int k = 0; k < 3; k++)
            free(out[k]);
        free(gray);
        free(rgb);
        free(packed);
    }
}

static void the_limit_always_holds(void **state)
{
    struct rng r = {.seed = 7};
    for (int i = 0; i < 20000; i++) {
        struct err err = {0};
        const int side = 1 + (int)rng_below(&r, 3000), other = 1 + (int)rng_below(&r, 3000);
        const int64_t max = 1024 + (int64_t)rng_below(&r, 300000);
        int w = 0, h = 0;
        const int rc = image_target_size(side, other, 32, 65536, max, &w, &h, &err);
        if (rc == ERR_INVAL) {
            assert_true(side > 200 * other || other > 200 * side);
            continue;
        }
        assert_ok(rc, &err);
        assert_true(w >= 32 && h >= 32 && w % 32 == 0 && h % 32 == 0 && (int64_t)w * h <= max);
    }
}

static void bad_input_is_refused(void **state)
{
    struct err err = {0};
    static const uint8_t pixels[300];
    uint8_t dst[300];
    _Alignas(64) uint8_t scratch[8192];
    int w = -1, h = -1;
    struct image_view view = view_of(IMAGE_RGB24, 10, 10, pixels, 30);

    assert_err(image_target_size(0, 5, 32, 1024, 65536, &w, &h, &err), ERR_INVAL, &err, "0 x 5");
    assert_err(image_target_size(201, 1, 32, 1024, 65536, &w, &h, &err), ERR_INVAL, &err, "more than 200 times");
    assert_err(image_target_size(2000000000, 2000000000, 32, 1024, 65536, &w, &h, &err), ERR_INVAL, &err, "each side");
    assert_err(image_target_size(64, 64, 32, 0, 1000, &w, &h, &err), ERR_INVAL, &err, "at least 32 x 32");
    assert_int_equal(w, -1);
    assert_int_equal(h, -1);

    view.format = IMAGE_NV12;
    assert_err(image_resize_rgb(&view, 5, 5, dst, scratch, sizeof scratch, &err), ERR_UNSUPPORTED, &err, "NV12");
    view = view_of(IMAGE_RGB24, 10, 10, pixels, 29);
    assert_err(image_resize_rgb(&view, 5, 5, dst, scratch, sizeof scratch, &err), ERR_INVAL, &err, "29 bytes apart: 30");
    view = view_of(IMAGE_RGB24, 10, 10, NULL, 30);
    assert_int_equal(image_resize_rgb(&view, 5, 5, dst, scratch, sizeof scratch, NULL), ERR_INVAL);
    view = view_of(IMAGE_RGB24, 10, 10, pixels, 30);
    assert_int_equal(image_resize_rgb(&view, 0, 5, dst, scratch, sizeof scratch, NULL), ERR_INVAL);
    assert_err(image_resize_rgb(&view, 5, 5, dst, scratch, image_resize_scratch_bytes(10, 10, 5, 5) - 1, &err), ERR_INVAL, &err,
               "are needed");
}

/* More pairs of lengths than filters are kept, in changing order: kept, made again or new, the pixels are the same. */
static void a_resizer_gives_the_same_pixels(void **state)
{
    enum { N = 40 };
    static uint8_t pixels[97 * 3 * 90], dst[200 * 200 * 3];
    struct image_resizer *r = NULL;
    struct err err = {0};
    assert_ok(image_resizer_create(&r, &err), &err);
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)rng_at(2, i);
    for (uint64_t i = 0; i < 400; i++) {
        /* small numbers come often, so that many are found again */
        const int k = (int)(rng_at(3, i) % (1 + rng_at(4, i) % N));
        const int w = 97 - k, h = 50 + k, to_w = k % 5 ? 13 + 4 * k : w, to_h = k % 7 ? 190 - 4 * k : h;
        const bool grey = k % 3 == 0;
        const struct image_view view = view_of(grey ? IMAGE_GRAY8 : IMAGE_RGB24, w, h, pixels, 97 * 3);
        uint8_t *want = resize(&view, to_w, to_h);
        memset(dst, 0xA5, sizeof dst);
        assert_ok(image_resizer_run(r, &view, to_w, to_h, dst, &err), &err);
        assert_memory_equal(dst, want, (size_t)to_w * (size_t)to_h * 3);
        free(want);
    }
    const struct image_view nv12 = view_of(IMAGE_NV12, 10, 10, pixels, 30);
    assert_err(image_resizer_run(r, &nv12, 5, 5, dst, &err), ERR_UNSUPPORTED, &err, "NV12");
    image_resizer_free(r);
    image_resizer_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_sizes_are_the_official_ones),
        cmocka_unit_test(rows_of_the_specification),
        cmocka_unit_test(grey_and_padded_rows),
        cmocka_unit_test(the_limit_always_holds),
        cmocka_unit_test(bad_input_is_refused),
        cmocka_unit_test(a_resizer_gives_the_same_pixels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
