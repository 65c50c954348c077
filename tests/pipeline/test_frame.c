#include "tests/support/test.h"

#include <pthread.h>
#include <string.h>

#include "pipeline/frame.h"

static struct frame_pool *pool_of(int n, int64_t max_pixels)
{
    struct frame_pool *pool = NULL;
    struct err err = {0};
    assert_ok(frame_pool_open(n, max_pixels, &pool, &err), &err);
    return pool;
}

static void slots_come_back(void **state)
{
    struct frame_pool *pool = pool_of(2, 100);
    struct pl_frame *a = frame_pool_take(pool), *b = frame_pool_take(pool);
    assert_non_null(a);
    assert_non_null(b);
    assert_ptr_not_equal(a, b);
    assert_null(frame_pool_take(pool));
    pl_frame_ref(a);
    pl_frame_unref(a);
    assert_null(frame_pool_take(pool));
    a->truth = "x";
    pl_frame_unref(a);
    struct pl_frame *c = frame_pool_take(pool);
    assert_ptr_equal(c, a);
    assert_null(c->truth);
    pl_frame_unref(b);
    pl_frame_unref(c);
    pl_frame_unref(NULL);
    frame_pool_close(pool);
    frame_pool_close(NULL);
}

/* The pool goes with its last frame; ASan says if it does not, or goes too early. */
static void frames_outlive_the_pool(void **state)
{
    struct frame_pool *pool = pool_of(2, 64 * 48);
    struct pl_frame *a = frame_pool_take(pool);
    uint8_t *px = frame_set_size(a, 64, 48);
    memset(px, 7, 64 * 48 * 3);
    frame_pool_close(pool);
    assert_int_equal(a->image.plane[0][64 * 48 * 3 - 1], 7);
    pl_frame_unref(a);
}

static void fits(void **state)
{
    static const struct {
        int64_t max;
        int w, h, fit_w, fit_h;
    } cases[] = {
        {1000000, 640, 480, 640, 480}, {307200, 640, 480, 640, 480}, {307199, 640, 480, 639, 480},
        {76800, 640, 480, 320, 240},   {1024, 65535, 1, 1024, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int w = 0, h = 0;
        frame_fit(cases[i].max, cases[i].w, cases[i].h, &w, &h);
        assert_true((int64_t)w * h <= cases[i].max);
        assert_int_equal(w, cases[i].fit_w);
        assert_int_equal(h, cases[i].fit_h);
    }
    /* the aspect is kept to a pixel, and no room is wasted, for all sizes */
    for (int w = 1; w < 4000; w += 37)
        for (int h = 1; h < 3000; h += 41) {
            int fw, fh;
            frame_fit(65536, w, h, &fw, &fh);
            assert_true(fw >= 1 && fh >= 1 && fw <= w && fh <= h && (int64_t)fw * fh <= 65536);
            if ((int64_t)w * h > 65536 && fw > 64 && fh > 64) {
                double aspect = (double)w / h * fh / fw;
                assert_true(aspect > 0.98 && aspect < 1.02 && (double)fw * fh > 0.96 * 65536);
            }
        }
}

static void hash_tells_apart(void **state)
{
    struct frame_pool *pool = pool_of(2, 101 * 67);
    struct pl_frame *a = frame_pool_take(pool), *b = frame_pool_take(pool);
    uint8_t *pa = frame_set_size(a, 101, 67), *pb = frame_set_size(b, 101, 67);
    memset(pa, 100, 101 * 67 * 3);
    memset(pb, 100, 101 * 67 * 3);
    assert_true(frame_hash(a) == frame_hash(b));
    pb[302] ^= 1; /* the last byte of the first row, after the last whole word */
    assert_true(frame_hash(a) != frame_hash(b));
    pb[302] ^= 1;
    frame_set_size(b, 67, 101);
    assert_true(frame_hash(a) != frame_hash(b));
    pl_frame_unref(a);
    pl_frame_unref(b);
    frame_pool_close(pool);
}

static void *churn(void *arg)
{
    struct pl_frame *frame = arg;
    for (int i = 0; i < 20000; i++)
        pl_frame_unref(pl_frame_ref(frame));
    pl_frame_unref(frame);
    return NULL;
}

static void references_from_many_threads(void **state)
{
    struct frame_pool *pool = pool_of(1, 100);
    struct pl_frame *a = frame_pool_take(pool);
    pthread_t thread[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, churn, pl_frame_ref(a)), 0);
    pl_frame_unref(a);
    frame_pool_close(pool);
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_come_back),  cmocka_unit_test(frames_outlive_the_pool),      cmocka_unit_test(fits),
        cmocka_unit_test(hash_tells_apart), cmocka_unit_test(references_from_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
