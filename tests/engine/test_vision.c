/* The vision tower on its own: preprocessing and rows against the official implementation, on every device. */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "engine/image.h"
#include "engine/synthetic.h"
#include "engine/vision.h"
#include "tests/support/golden.h"

#define NMSE_MAX 1e-10 /* float32 noise of both sides is below 1e-12 */

struct tower {
    struct kn_device *device;
    struct kn_stream *stream;
    struct gguf *gguf;
    struct vision_model *model;
    struct vision *vision;
    float *rows; /* device */
    int64_t max_pixels;
};

static void tower_open(struct tower *t, const struct golden *g, const char *device, int64_t max_pixels)
{
    struct err err = {0};
    char path[300];
    struct kn_limits limits = {.seqs = 1};
    const struct synthetic_file file = {.seed = g->seed, .dtype = KN_F32};

    *t = (struct tower){.max_pixels = max_pixels};
    snprintf(path, sizeof path, "%s/mmproj.gguf", test_temp_dir());
    assert_ok(synthetic_write_vision(path, &g->vision, &file, &err), &err);
    assert_ok(kn_device_open(device, &(struct kn_device_options){.threads = 2, .validate = true}, &t->device, &err), &err);
    assert_ok(gguf_open(path, &t->gguf, &err), &err);
    assert_ok(vision_model_open(t->device, t->gguf, g->text.n_embd, "text.gguf", NULL, &t->model, &err), &err);
    vision_raise_limits(&t->model->shape, max_pixels, &limits);
    assert_ok(kn_stream_open(t->device, &limits, &t->stream, &err), &err);
    assert_ok(vision_open(t->device, t->model, max_pixels, &t->vision, &err), &err);
    void *rows;
    assert_ok(kn_alloc(t->device, (size_t)(max_pixels / 1024) * (size_t)g->text.n_embd * sizeof(float), &rows, &err), &err);
    t->rows = rows;
}

static void tower_close(struct tower *t)
{
    kn_free(t->device, t->rows);
    vision_close(t->vision);
    kn_stream_close(t->stream);
    vision_model_close(t->device, t->model);
    gguf_close(t->gguf);
    kn_device_close(t->device);
}

/* Paint, resize as the engine does, run. Result is malloc'ed [n_tokens, E]. */
static float *tower_run(struct tower *t, const struct golden *g, const struct golden_picture *p)
{
    struct err err = {0};
    uint8_t *rgb = malloc((size_t)p->width_px * (size_t)p->height_px * 3);
    golden_paint(p->width_px, p->height_px, p->seed, rgb);
    const struct image_view view = {.format = IMAGE_RGB24,
                                    .width_px = p->width_px,
                                    .height_px = p->height_px,
                                    .plane = {rgb},
                                    .stride_bytes = {(size_t)p->width_px * 3}};
    int w = 0, h = 0;
    assert_ok(image_target_size(p->width_px, p->height_px, 32, g->vision.min_pixels, g->vision.max_pixels, &w, &h, &err), &err);
    assert_int_equal(w, p->target_width_px);
    assert_int_equal(h, p->target_height_px);

    const size_t scratch_bytes = image_resize_scratch_bytes(view.width_px, view.height_px, w, h);
    void *scratch = malloc(scratch_bytes);
    uint8_t *resized = malloc((size_t)w * (size_t)h * 3);
    assert_ok(image_resize_rgb(&view, w, h, resized, scratch, scratch_bytes, &err), &err);
    const struct kn_mat out = {t->rows, p->n_tokens, g->text.n_embd, g->text.n_embd};
    assert_int_equal(vision_tokens(&g->vision, w, h), p->n_tokens);
    assert_ok(vision_forward(t->vision, t->stream, resized, w, h, out, &err), &err);
    assert_ok(kn_stream_sync(t->stream, &err), &err);
    const size_t n = (size_t)p->n_tokens * (size_t)g->text.n_embd;
    float *rows = malloc(n * sizeof *rows);
    kn_download(t->stream, rows, t->rows, n * sizeof *rows);
    free(rgb);
    free(scratch);
    free(resized);
    return rows;
}

static void rows_on(const char *device)
{
    for (int m = 0; golden_models[m]; m++) {
        struct golden g;
        struct tower t;
        golden_load(golden_models[m], &g);
        tower_open(&t, &g, device, 320 * 416);
        for (int32_t i = 0; i < g.n_pictures; i++) {
            const struct golden_picture *p = &g.pictures[i];
            float *rows = tower_run(&t, &g, p);
            const double nmse = test_nmse(rows, p->rows, (size_t)p->n_tokens * (size_t)g.text.n_embd);
            print_message("%-7s %-4s %3d x %3d: nmse %.1e (the reference's own %.1e)\n", golden_models[m], device, p->width_px,
                          p->height_px, nmse, p->nmse);
            assert_true(nmse <= NMSE_MAX);
            free(rows);
        }
        tower_close(&t);
        golden_free(&g);
    }
}

static void rows_are_the_official_ones_on_ref(void **state)
{
    rows_on("ref");
}

static void rows_are_the_official_ones_on_cpu(void **state)
{
    rows_on(test_device());
}

/* Larger pictures before and larger scratch must not show, to the bit. */
static void rows_depend_on_the_picture_only(void **state)
{
    struct golden g;
    struct tower t;
    golden_load("dense1", &g);
    tower_open(&t, &g, test_device(), 320 * 416);
    float *first = tower_run(&t, &g, &g.pictures[0]);
    free(tower_run(&t, &g, &g.pictures[2]));
    float *again = tower_run(&t, &g, &g.pictures[0]);
    tower_close(&t);
    tower_open(&t, &g, test_device(), (int64_t)g.pictures[0].target_width_px * g.pictures[0].target_height_px);
    float *small = tower_run(&t, &g, &g.pictures[0]);
    tower_close(&t);
    const size_t bytes = (size_t)g.pictures[0].n_tokens * (size_t)g.text.n_embd * sizeof(float);
    assert_memory_equal(first, again, bytes);
    assert_memory_equal(first, small, bytes);
    free(first);
    free(again);
    free(small);
    golden_free(&g);
}

static void what_does_not_fit_is_refused(void **state)
{
    struct golden g;
    struct tower t;
    struct err err = {0};
    static const uint8_t rgb[64 * 64 * 3];
    golden_load("dense1", &g);
    tower_open(&t, &g, test_device(), 64 * 32);
    const struct kn_mat out = {t.rows, 1, g.text.n_embd, g.text.n_embd};
    assert_err(vision_forward(t.vision, t.stream, rgb, 48, 32, out, &err), ERR_INVAL, &err, "multiples of 32");
    assert_err(vision_forward(t.vision, t.stream, rgb, 0, 32, out, &err), ERR_INVAL, &err, "multiples of 32");
    assert_err(vision_forward(t.vision, t.stream, rgb, 64, 64, out, &err), ERR_FULL, &err, "2048 pixels");
    struct vision *none = NULL;
    assert_err(vision_open(t.device, t.model, 1023, &none, &err), ERR_INVAL, &err, "at least 32 x 32");
    assert_null(none);
    assert_true(vision_scratch_bytes(&g.vision, 64 * 32) > 0);
    tower_close(&t);
    vision_close(NULL);
    golden_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_the_official_ones_on_ref),
        cmocka_unit_test(rows_are_the_official_ones_on_cpu),
        cmocka_unit_test(rows_depend_on_the_picture_only),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
