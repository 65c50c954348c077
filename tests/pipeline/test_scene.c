#include "tests/support/test.h"

#include <jansson.h>
#include <string.h>

#include "base/rng.h"
#include "pipeline/draw.h"
#include "pipeline/pipeline.h"

static struct pl_synth *synth_of(const char *source)
{
    struct pl_synth *s = NULL;
    struct err err = {0};
    assert_ok(pl_synth_open(source, &s, &err), &err);
    return s;
}

/* ---- drawing -------------------------------------------------------------------------------------------------------------- */

static void sine(void **state)
{
    assert_true(draw_sin(0) == 0 && draw_cos(0) > 0.999999 && draw_sin(0.25) > 0.999999);
    for (int i = -720; i <= 720; i++) {
        double t = i / 360.0, s = draw_sin(t), c = draw_cos(t);
        assert_true(s * s + c * c > 1 - 4e-6 && s * s + c * c < 1 + 4e-6);
        double d = draw_sin(t) + draw_sin(-t);
        assert_true(d < 4e-6 && d > -4e-6);
    }
}

/* A polygon covers its area, wherever it lies on the grid and however much of it is outside. */
static void coverage(void **state)
{
    enum { W = 40, H = 30 };
    uint8_t rgb[H][W * 3];
    struct canvas c;
    struct err err = {0};
    assert_ok(canvas_init(&c, W, H, true, &err), &err);
    c.rgb = rgb[0];
    c.stride_bytes = sizeof rgb[0];
    struct rng r = {.seed = 11};
    for (int i = 0; i < 400; i++) {
        memset(rgb, 0, sizeof rgb);
        memset(c.map, 0, W * H);
        c.id = 5;
        double x = rng_unit(&r) * 25 + 2, y = rng_unit(&r) * 15 + 2, w = rng_unit(&r) * 12, h = rng_unit(&r) * 12;
        struct point p[4] = {{x, y}, {x + w, y + 1}, {x + w, y + h + 1}, {x, y + h}}; /* a parallelogram of w * h */
        draw_polygon(&c, p, 4, COLOUR(255, 255, 255));
        double sum = 0;
        int n_map = 0;
        for (int k = 0; k < H; k++)
            for (int m = 0; m < W; m++) {
                sum += rgb[k][m * 3] / 255.0;
                n_map += c.map[k * W + m] == 5;
            }
        assert_true(sum > w * h - 0.3 * (w + 2) && sum < w * h + 0.3 * (w + 2));
        assert_true(n_map > w * h - (w + h + 3) && n_map < w * h + (w + h + 3));
    }
    /* outside on all sides, and degenerate: nothing happens to memory (ASan) */
    for (int i = 0; i < 2000; i++) {
        struct point p[5];
        for (int k = 0; k < 5; k++)
            p[k] = (struct point){(rng_unit(&r) - 0.5) * (i % 7 ? 200 : 1e9), (rng_unit(&r) - 0.5) * (i % 5 ? 200 : 1e9)};
        draw_polygon(&c, p, (int)rng_below(&r, 6), COLOUR_A(200, 10, 10, 100));
        draw_line(&c, p[0], p[1], 0.01, COLOUR(1, 2, 3));
    }
    /* opacity */
    memset(rgb, 100, sizeof rgb);
    draw_rect(&c, -5, -5, W + 5, H + 5, COLOUR_A(200, 0, 100, 128));
    assert_int_equal(rgb[3][30], 150);
    assert_int_equal(rgb[3][31], 50);
    assert_int_equal(rgb[3][32], 100);
    for (int i = 0; i < W + 2; i++)
        assert_int_equal(c.row[i], 0); /* the scratch is clean again */
    canvas_release(&c);
}

/* ---- the yard -------------------------------------------------------------------------------------------------------------- */

/* The same frame has the same bytes in any order of drawing; another frame, seed or size does not. */
static void deterministic(void **state)
{
    enum { W = 320, H = 180, N = W * H * 3 };
    uint8_t *a = test_malloc(N), *b = test_malloc(N);
    const char *truth_a, *truth_b;
    char kept[4096];
    struct pl_synth *s = synth_of("synth:yard?seed=7&size=320x180&fps=5"),
                    *t = synth_of("synth:yard?seed=7&size=320x180&fps=5");
    pl_synth_draw(s, 41, a, W * 3, &truth_a);
    snprintf(kept, sizeof kept, "%s", truth_a);
    pl_synth_draw(t, 1000, b, W * 3, NULL);
    pl_synth_draw(t, 3, b, W * 3, NULL);
    assert_memory_not_equal(a, b, N);
    pl_synth_draw(t, 41, b, W * 3, &truth_b);
    assert_memory_equal(a, b, N);
    assert_string_equal(kept, truth_b);
    pl_synth_close(t);
    t = synth_of("synth:yard?seed=8&size=320x180&fps=5");
    pl_synth_draw(t, 41, b, W * 3, NULL);
    assert_memory_not_equal(a, b, N);
    struct pl_synth_info info;
    pl_synth_get_info(t, &info);
    assert_string_equal(info.scene, "yard");
    assert_true(info.seed == 8 && info.width_px == W && info.height_px == H && info.fps == 5);
    pl_synth_close(s);
    pl_synth_close(t);
    pl_synth_close(NULL);
    test_free(a);
    test_free(b);
}

/* Rows of any stride; nothing is written beyond them. */
static void stride(void **state)
{
    enum { W = 64, H = 48, STRIDE = W * 3 + 13 };
    uint8_t *a = test_malloc(W * H * 3), *b = test_malloc(STRIDE * H);
    memset(b, 0xEE, STRIDE * H);
    struct pl_synth *s = synth_of("synth:yard?size=64x48");
    pl_synth_draw(s, 5, a, W * 3, NULL);
    pl_synth_draw(s, 5, b, STRIDE, NULL);
    for (int y = 0; y < H; y++) {
        assert_memory_equal(a + y * W * 3, b + y * STRIDE, W * 3);
        for (int x = W * 3; x < STRIDE; x++)
            assert_int_equal(b[y * STRIDE + x], 0xEE);
    }
    pl_synth_close(s);
    test_free(a);
    test_free(b);
}

static json_int_t whole(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    assert_true(json_is_integer(v));
    return json_integer_value(v);
}

/* The truth is JSON, agrees with itself, and over ten minutes tells of all that the scene can show. */
static void truth(void **state)
{
    enum { W = 320, H = 180 };
    static const char *const kinds[] = {"person", "vehicle", "animal"}, *const counts[] = {"people", "vehicles", "animals"};
    uint8_t *rgb = test_malloc(W * H * 3);
    int most[3] = {0}, n_empty = 0, n_light[3] = {0};
    for (int seed = 1; seed <= 3; seed++) {
        char source[64];
        snprintf(source, sizeof source, "synth:yard?seed=%d&size=320x180&fps=1", seed);
        struct pl_synth *s = synth_of(source);
        for (int i = 0; i < 600; i += 7) {
            const char *text;
            pl_synth_draw(s, (uint64_t)i, rgb, W * 3, &text);
            json_error_t error;
            json_t *o = json_loads(text, JSON_REJECT_DUPLICATES, &error);
            if (!o)
                fail_msg("%s: %s", error.text, text);
            assert_int_equal(whole(o, "frame"), i);
            assert_string_equal(json_string_value(json_object_get(o, "scene")), "yard");
            assert_string_equal(json_string_value(json_object_get(o, "hazard")), "none");
            const char *light = json_string_value(json_object_get(o, "light"));
            n_light[strcmp(light, "day") == 0 ? 0 : strcmp(light, "dusk") == 0 ? 1 : 2]++;
            int seen[3] = {0};
            size_t k;
            json_t *object;
            json_array_foreach(json_object_get(o, "objects"), k, object)
            {
                const char *kind = json_string_value(json_object_get(object, "kind"));
                for (int m = 0; m < 3; m++)
                    seen[m] += strcmp(kind, kinds[m]) == 0;
                double box[4];
                for (size_t m = 0; m < 4; m++) {
                    box[m] = json_number_value(json_array_get(json_object_get(object, "box"), m));
                    assert_true(box[m] >= 0 && box[m] <= 1);
                }
                assert_true(box[0] < box[2] && box[1] < box[3]);
                double visible = json_number_value(json_object_get(object, "visible"));
                assert_true(visible >= 0.25 && visible <= 1);
            }
            int total = 0;
            for (int m = 0; m < 3; m++) {
                assert_int_equal(whole(o, counts[m]), seen[m]);
                most[m] = seen[m] > most[m] ? seen[m] : most[m];
                total += seen[m];
            }
            n_empty += total == 0;
            json_decref(o);
        }
        pl_synth_close(s);
    }
    assert_true(most[0] >= 2 && most[1] >= 2 && most[2] >= 1);
    assert_true(n_empty < 100);
    assert_true(n_light[0] > 20 && n_light[2] > 5);
    test_free(rgb);
}

/* What the truth calls a person is really drawn: the pixels in its box differ from the picture without it. */
static void truth_is_in_the_picture(void **state)
{
    enum { W = 320, H = 180 };
    uint8_t *rgb = test_malloc(W * H * 3);
    float *mean = calloc(W * H * 3, sizeof *mean);
    struct pl_synth *s = synth_of("synth:yard?seed=42&size=320x180&fps=2");
    /* the median is the empty yard; a mean over many instants is near enough to tell */
    enum { N = 40 };
    for (int i = 0; i < N; i++) {
        pl_synth_draw(s, (uint64_t)i * 3, rgb, W * 3, NULL);
        for (int k = 0; k < W * H * 3; k++)
            mean[k] += (float)rgb[k] / N;
    }
    double inside = 0, outside = 0;
    int n_inside = 0, n_outside = 0;
    for (int i = 0; i < N; i++) {
        const char *text;
        pl_synth_draw(s, (uint64_t)i * 3, rgb, W * 3, &text);
        json_t *o = json_loads(text, 0, NULL), *object;
        size_t k;
        json_array_foreach(json_object_get(o, "objects"), k, object)
        {
            if (strcmp(json_string_value(json_object_get(object, "kind")), "person") != 0)
                continue;
            double box[4];
            for (size_t m = 0; m < 4; m++)
                box[m] = json_number_value(json_array_get(json_object_get(object, "box"), m));
            for (int y = (int)(box[1] * H); y < (int)(box[3] * H); y++)
                for (int x = (int)(box[0] * W); x < (int)(box[2] * W); x++) {
                    float d = (float)rgb[(y * W + x) * 3] - mean[(y * W + x) * 3];
                    inside += d < 0 ? -d : d;
                    n_inside++;
                }
        }
        for (int x = 0; x < W; x += 3) { /* the sky, where nobody walks */
            float d = (float)rgb[x * 3] - mean[x * 3];
            outside += d < 0 ? -d : d;
            n_outside++;
        }
        json_decref(o);
    }
    assert_true(n_inside > 500);
    assert_true(inside / n_inside > 3 * outside / n_outside);
    pl_synth_close(s);
    free(mean);
    test_free(rgb);
}

static void refusals(void **state)
{
    struct pl_synth *s = NULL;
    struct err err = {0};
    assert_err(pl_synth_open("synth:yar", &s, &err), ERR_INVAL, &err, "did you mean `yard`");
    err_clear(&err);
    assert_err(pl_synth_open("file:yard", &s, &err), ERR_INVAL, &err, "synth:");
    assert_null(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sine),     cmocka_unit_test(coverage), cmocka_unit_test(deterministic),
        cmocka_unit_test(stride),   cmocka_unit_test(truth),    cmocka_unit_test(truth_is_in_the_picture),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
