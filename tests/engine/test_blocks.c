/* Blocks: what is given back is used again by size class, from any thread; the pool may go before its last piece. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "engine/blocks.h"
#include "tests/support/test.h"

static struct blocks *open_blocks(void)
{
    struct blocks *b = NULL;
    struct err err = {0};
    assert_ok(blocks_open(&b, &err), &err);
    return b;
}

static void pieces_are_apart_and_aligned(void **state)
{
    enum { N = 200 };
    struct blocks *b = open_blocks();
    uint8_t *piece[N];
    size_t bytes[N];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            bytes[i] = i == 0 ? 0 : (size_t)(rng_at((uint64_t)round, (uint64_t)i) % (1u << (i % 18)));
            piece[i] = i % 2 ? blocks_take(b, bytes[i]) : blocks_take_zeroed(b, bytes[i]);
            assert_non_null(piece[i]);
            assert_int_equal((uintptr_t)piece[i] % 16, 0);
            for (size_t k = 0; i % 2 == 0 && k < bytes[i]; k++)
                assert_int_equal(piece[i][k], 0);
            memset(piece[i], i, bytes[i]);
        }
        for (int i = 0; i < N; i++) {
            for (size_t k = 0; k < bytes[i]; k++)
                assert_int_equal(piece[i][k], (uint8_t)i);
            blocks_put(piece[i]);
        }
    }
    blocks_put(NULL);
    assert_null(blocks_take(b, SIZE_MAX));
    assert_null(blocks_take(b, SIZE_MAX / 2));
    blocks_close(b);
    blocks_close(NULL);
}

/* Checked by the sanitizers: no leak, no use after free, whichever comes last. */
static void pieces_outlive_the_pool(void **state)
{
    struct blocks *b = open_blocks();
    char *first = blocks_take(b, 100), *second = blocks_take(b, 100000);
    blocks_put(blocks_take(b, 50));
    blocks_close(b);
    memset(second, 7, 100000);
    blocks_put(first);
    blocks_put(second);
}

static void *come_and_go(void *arg)
{
    struct rng r = {.seed = (uint64_t)(uintptr_t)pthread_self()};
    for (int i = 0; i < 2000; i++) {
        const size_t n = 1 + (size_t)rng_below(&r, 3000);
        uint8_t *p = blocks_take(arg, n);
        if (!p)
            return arg;
        memset(p, i, n);
        const bool same = p[0] == (uint8_t)i && p[n - 1] == (uint8_t)i;
        blocks_put(p);
        if (!same)
            return arg;
    }
    return NULL;
}

static void threads_share_a_pool(void **state)
{
    struct blocks *b = open_blocks();
    pthread_t thread[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, come_and_go, b), 0);
    for (int i = 0; i < 3; i++) {
        void *wrong = NULL;
        pthread_join(thread[i], &wrong);
        assert_null(wrong);
    }
    blocks_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_apart_and_aligned),
        cmocka_unit_test(pieces_outlive_the_pool),
        cmocka_unit_test(threads_share_a_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
