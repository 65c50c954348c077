#include "tests/support/test.h"

#include <poll.h>
#include <pthread.h>

#include "base/queue.h"

static bool readable(const struct queue *q)
{
    struct pollfd p = {.fd = queue_fd(q), .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static void refuses_when_full(void **state)
{
    struct queue q;
    struct err err = {0};
    assert_ok(queue_init(&q, sizeof(int), 2, QUEUE_REFUSE, NULL, NULL, &err), &err);
    assert_false(readable(&q));
    int v = 0;
    assert_int_equal(queue_pop(&q, &v, 0), ERR_AGAIN);
    assert_int_equal(queue_pop(&q, &v, 1000000), ERR_TIMEOUT);
    for (int i = 1; i <= 2; i++)
        assert_int_equal(queue_push(&q, &i), 0);
    v = 3;
    assert_int_equal(queue_push(&q, &v), ERR_FULL);
    assert_true(readable(&q));
    assert_int_equal(queue_pop(&q, &v, 0), 0);
    assert_int_equal(v, 1);
    assert_true(readable(&q));
    assert_int_equal(queue_pop(&q, &v, -1), 0);
    assert_int_equal(v, 2);
    assert_false(readable(&q));
    assert_int_equal(queue_push(&q, &v), 0);
    queue_close(&q);
    assert_int_equal(queue_push(&q, &v), ERR_STATE);
    assert_int_equal(queue_pop(&q, &v, 0), 0);
    assert_true(readable(&q));
    assert_int_equal(queue_pop(&q, &v, -1), ERR_STATE);
    queue_release(&q);
    queue_release(&q);
}

static void count_drop(void *ctx, void *item)
{
    *(int *)ctx += *(int *)item;
}

static void drops_the_oldest(void **state)
{
    struct queue q;
    struct err err = {0};
    int sum = 0;
    assert_ok(queue_init(&q, sizeof(int), 1, QUEUE_DROP_OLDEST, count_drop, &sum, &err), &err);
    for (int i = 1; i <= 5; i++)
        assert_int_equal(queue_push(&q, &i), 0);
    assert_int_equal(sum, 1 + 2 + 3 + 4);
    assert_int_equal(queue_dropped(&q), 4);
    assert_int_equal(queue_count(&q), 1);
    queue_release(&q); /* hands out what is left */
    assert_int_equal(sum, 15);
}

#define PUSHES 20000

static void *pusher(void *arg)
{
    struct queue *q = arg;
    for (int i = 1; i <= PUSHES; i++)
        while (queue_push(q, &i) == ERR_FULL)
            ;
    return NULL;
}

static void many_threads(void **state)
{
    struct queue q;
    struct err err = {0};
    assert_ok(queue_init(&q, sizeof(int), 64, QUEUE_REFUSE, NULL, NULL, &err), &err);
    pthread_t t[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&t[i], NULL, pusher, &q), 0);
    long long sum = 0;
    for (int i = 0; i < 2 * PUSHES; i++) {
        int v = 0;
        assert_int_equal(queue_pop(&q, &v, -1), 0);
        sum += v;
    }
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    assert_true(sum == 2LL * PUSHES * (PUSHES + 1) / 2);
    queue_release(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_when_full),
        cmocka_unit_test(drops_the_oldest),
        cmocka_unit_test(many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
