/* test_cpu_pool - every item runs once, on one thread at a time, however many runs, threads and callers there are. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/cpu/pool.h"
#include "tests/support/test.h"

#define ITEMS 1000

struct count {
    _Atomic int times[ITEMS];
    _Atomic int inside[64]; /* items in flight per thread index */
    _Atomic int overlaps;
    int threads;
    int64_t plain[ITEMS]; /* written without atomics: a race detector sees whether the hand-over is proper */
};

static void count_item(void *ctx, int32_t item, int thread)
{
    struct count *c = ctx;
    if (thread < 0 || thread >= c->threads || atomic_fetch_add(&c->inside[thread], 1) != 0)
        atomic_fetch_add(&c->overlaps, 1);
    atomic_fetch_add(&c->times[item], 1);
    c->plain[item] += item;
    atomic_fetch_sub(&c->inside[thread], 1);
}

static void run_some(struct pool *p, struct count *c, int runs)
{
    for (int r = 0; r < runs; r++) {
        const int n = r % 7 == 0 ? ITEMS : r % 5;
        memset(c->times, 0, sizeof c->times);
        memset(c->plain, 0, sizeof c->plain);
        pool_run(p, n, count_item, c);
        for (int i = 0; i < ITEMS; i++) {
            assert_int_equal(c->times[i], i < n);
            assert_int_equal(c->plain[i], i < n ? i : 0);
        }
    }
    assert_int_equal(c->overlaps, 0);
}

static void every_item_once(void **state)
{
    static const int threads[] = {1, 2, 3, 7, 40};
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
        struct pool *p;
        struct count *c = calloc(1, sizeof *c);
        c->threads = threads[i];
        assert_int_equal(pool_open(threads[i], &p, NULL), 0);
        assert_int_equal(pool_threads(p), threads[i]);
        run_some(p, c, 300);
        pool_close(p);
        free(c);
    }
}

struct wait {
    atomic_int done;
    bool was_alone;
};

/* The first item lasts until all others are done. */
static void waiting_item(void *ctx, int32_t item, int thread)
{
    struct wait *w = ctx;
    const int64_t until = clock_now_ns() + 20 * INT64_C(1000000000);
    while (item == 0 && atomic_load(&w->done) < ITEMS - 1 && !w->was_alone)
        w->was_alone = clock_now_ns() > until;
    atomic_fetch_add(&w->done, 1);
}

/* A slow thread delays only the item it holds: the others take the rest of its share. */
static void others_take_over(void **state)
{
    for (int threads = 2; threads <= 5; threads++) {
        struct pool *p;
        assert_int_equal(pool_open(threads, &p, NULL), 0);
        for (int r = 0; r < 20; r++) {
            struct wait w = {0};
            pool_run(p, ITEMS, waiting_item, &w);
            assert_false(w.was_alone);
            assert_int_equal(w.done, ITEMS);
        }
        pool_close(p);
    }
}

struct caller {
    struct pool *pool;
    struct count count;
    pthread_t thread;
    bool wrong;
};

static void *caller_main(void *arg)
{
    struct caller *c = arg;
    for (int r = 0; r < 200; r++) {
        memset(c->count.times, 0, sizeof c->count.times);
        pool_run(c->pool, 50, count_item, &c->count);
        for (int i = 0; i < 50; i++)
            c->wrong |= c->count.times[i] != 1;
    }
    return NULL;
}

static void two_callers(void **state)
{
    struct pool *p;
    struct caller *c = calloc(2, sizeof *c);
    assert_int_equal(pool_open(3, &p, NULL), 0);
    for (int i = 0; i < 2; i++) {
        c[i].pool = p;
        c[i].count.threads = 3;
        assert_int_equal(pthread_create(&c[i].thread, NULL, caller_main, &c[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(c[i].thread, NULL);
        assert_false(c[i].wrong);
        assert_int_equal(c[i].count.overlaps, 0);
    }
    pool_close(p);
    free(c);
}

static void sleeps_and_wakes(void **state)
{
    struct pool *p;
    struct count *c = calloc(1, sizeof *c);
    c->threads = 4;
    assert_int_equal(pool_open(4, &p, NULL), 0);
    for (int i = 0; i < 20; i++) { /* longer than the workers spin */
        run_some(p, c, 2);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    pool_close(p);
    free(c);
}

static void refuses(void **state)
{
    struct pool *p = NULL;
    struct err err = {0};
    assert_int_equal(pool_open(-1, &p, &err), ERR_INVAL);
    assert_int_equal(pool_open(100000, &p, &err), ERR_INVAL);
    assert_non_null(strstr(err.text, "100000"));
    assert_null(p);
    pool_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_once),  cmocka_unit_test(others_take_over), cmocka_unit_test(two_callers),
        cmocka_unit_test(sleeps_and_wakes), cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
