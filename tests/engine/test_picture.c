/* Picture files against what Pillow makes of them, and files that are none. */
#include "tests/support/test.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "engine/picture.h"

#define PICTURES "tests/golden/pictures"

/* Inverse DCTs differ by one level, which YCbCr to RGB makes up to 3 of; CMYK is multiplied out with other rounding. */
#define JPEG_LEVELS 3

static void check_file(const char *name)
{
    struct err err = {0};
    struct en_picture picture = {0};
    char path[512], want_path[512];
    size_t n;
    int w, h, skip = 0;
    snprintf(path, sizeof path, PICTURES "/%s", name);
    snprintf(want_path, sizeof want_path, PICTURES "/%s.rgb", name);
    assert_ok(en_picture_read(path, &picture, &err), &err);
    uint8_t *want = (uint8_t *)test_read_file(want_path, &n);
    assert_int_equal(sscanf((const char *)want, "%d %d%n", &w, &h, &skip), 2);
    skip++;
    assert_int_equal(n - (size_t)skip, (size_t)w * (size_t)h * 3);
    if (picture.view.width_px != w || picture.view.height_px != h)
        fail_msg("%s: %d x %d, not %d x %d", name, picture.view.width_px, picture.view.height_px, w, h);
    assert_int_equal(picture.view.format, IMAGE_RGB24);

    const bool is_jpeg = strstr(name, ".jpg") != NULL;
    int worst = 0;
    double sum = 0;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < 3 * w; x++) {
            const int d =
                abs(picture.view.plane[0][(size_t)y * picture.view.stride_bytes[0] + (size_t)x] - want[skip + y * 3 * w + x]);
            worst = d > worst ? d : worst;
            sum += d;
        }
    if (worst > (is_jpeg ? JPEG_LEVELS : 0) || sum / (w * h * 3) > 1.0)
        fail_msg("%s: up to %d levels apart, %.3f on average", name, worst, sum / (w * h * 3));
    free(want);
    en_picture_free(&picture);
    assert_null(picture.pixels);
}

static void every_kind_as_pillow_reads_it(void **state)
{
    DIR *dir = opendir(PICTURES);
    int n = 0;
    if (!dir)
        fail_msg(PICTURES ": cannot open (tests run in the repository's root)");
    for (struct dirent *e; (e = readdir(dir));) {
        const size_t length = strlen(e->d_name);
        if (e->d_name[0] == '.' || (length > 4 && strcmp(e->d_name + length - 4, ".rgb") == 0))
            continue;
        check_file(e->d_name);
        n++;
    }
    closedir(dir);
    assert_in_range(n, 30, 100);
}

/* Each file cut at many places: an error that names the file, never half a picture. */
static void truncated_files_are_refused(void **state)
{
    static const char *const names[] = {"rgb.png",       "rgb420.jpg",  "progressive.jpg", "lossy.webp",
                                        "lossless.webp", "palette.gif", "rgb.ppm",         "rgb.tiff"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        size_t n;
        snprintf(path, sizeof path, PICTURES "/%s", names[i]);
        uint8_t *bytes = (uint8_t *)test_read_file(path, &n);
        for (size_t k = 0; k < n - 1; k += 1 + n / 97) {
            struct err err = {0};
            struct en_picture picture = {0};
            uint8_t *cut = malloc(k ? k : 1);
            memcpy(cut, bytes, k);
            const int rc = en_picture_decode(cut, k, "door.img", &picture, &err);
            if (rc == 0)
                fail_msg("%s: accepted with %zu of %zu bytes", names[i], k, n);
            assert_true(rc == ERR_FORMAT || rc == ERR_UNSUPPORTED);
            assert_true(test_contains(err.text, "door.img: "));
            assert_null(picture.pixels);
            free(cut);
        }
        free(bytes);
    }
}

static void what_is_no_picture_is_named(void **state)
{
    struct err err = {0};
    struct en_picture picture = {0};
    char path[512];

    assert_err(en_picture_decode("", 0, "a.png", &picture, &err), ERR_UNSUPPORTED, &err, "a.png: not a picture Heron reads");
    assert_err(en_picture_decode("hello, this is text", 19, "notes.txt", &picture, &err), ERR_UNSUPPORTED, &err, "notes.txt");
    assert_err(en_picture_decode("\xff\xd8\xff\xe0garbage", 11, "b.jpg", &picture, &err), ERR_FORMAT, &err,
               "JPEG file is truncated");
    assert_err(en_picture_decode("BMgarbage that is long enough to be one", 39, "c.bmp", &picture, &err), ERR_FORMAT, &err,
               "c.bmp: damaged BMP");
    /* an extended header with the flag of an animation: where libavcodec has no decoder for those, the reason is named */
    static const char animated[] = "RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\x09\0\0\x09\0\0ANIM\0\0\0\0";
    assert_err(en_picture_decode(animated, sizeof animated - 1, "d.webp", &picture, &err), ERR_UNSUPPORTED, &err,
               "d.webp: an animated WebP");
    snprintf(path, sizeof path, "%s/none.png", test_temp_dir());
    assert_err(en_picture_read(path, &picture, &err), ERR_NOT_FOUND, &err, "none.png");
    assert_err(en_picture_read("tests", &picture, &err), ERR_IO, &err, "tests");
    assert_null(picture.pixels);
    en_picture_free(NULL);
}

static void put_be32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* CRC-32 as PNG wants it. */
static uint32_t crc_of(const uint8_t *p, size_t n)
{
    uint32_t c = 0xFFFFFFFF;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++)
            c = c & 1 ? c >> 1 ^ 0xEDB88320 : c >> 1;
    }
    return ~c;
}

/* A small file that states a huge size: refused by its size, with nothing of that size allocated. */
static void huge_pictures_are_refused(void **state)
{
    struct err err = {0};
    struct en_picture picture = {0};
    size_t n;
    uint8_t *png = (uint8_t *)test_read_file(PICTURES "/rgb.png", &n);
    put_be32(png + 16, 12000);
    put_be32(png + 20, 9000);
    put_be32(png + 29, crc_of(png + 12, 17));
    assert_err(en_picture_decode(png, n, "wall.png", &picture, &err), ERR_UNSUPPORTED, &err, "12000 x 9000");
    put_be32(png + 16, 2000000);
    put_be32(png + 20, 2000000);
    put_be32(png + 29, crc_of(png + 12, 17));
    assert_err(en_picture_decode(png, n, "wall.png", &picture, &err), ERR_FORMAT, &err, "67 million pixels");
    free(png);
}

/* Flipped bits: any answer but a crash; a picture, where one comes, is whole. */
static void damaged_files_do_no_harm(void **state)
{
    static const char *const names[] = {"rgb.png",    "turned6.png",  "rgb420.jpg",  "turned8.jpg",
                                        "alpha.webp", "turned8.webp", "palette.gif", "rgb.bmp"};
    struct rng r = {.seed = 3};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        size_t n;
        snprintf(path, sizeof path, PICTURES "/%s", names[i]);
        uint8_t *bytes = (uint8_t *)test_read_file(path, &n);
        for (int k = 0; k < 60; k++) {
            struct en_picture picture = {0};
            struct err err = {0};
            const size_t at = rng_below(&r, n);
            const uint8_t was = bytes[at];
            bytes[at] ^= (uint8_t)(1 + rng_below(&r, 255));
            if (en_picture_decode(bytes, n, names[i], &picture, &err) == 0)
                assert_true(picture.view.width_px > 0 && picture.view.height_px > 0 && picture.view.plane[0]);
            else
                assert_true(err.text[0] != '\0');
            en_picture_free(&picture);
            bytes[at] = was;
        }
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_as_pillow_reads_it), cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(what_is_no_picture_is_named),   cmocka_unit_test(huge_pictures_are_refused),
        cmocka_unit_test(damaged_files_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
