/*
 * cmocka - as much of that library's interface as the kernel tests use, for programs of an architecture that the machine has no cmocka for (make test-arm).
 *
 * The real library judges the same tests on the machine itself: here a failed check ends its test, with a line that says where, and nothing looks for leaks. Lines are cmocka's, so that
 * tests/run counts them.
 *
 * Threads: checks only on the thread that runs the tests. Memory: none of its own.
 */
#ifndef HERON_TESTS_SUPPORT_CROSS_CMOCKA_H
#define HERON_TESTS_SUPPORT_CROSS_CMOCKA_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*CMUnitTestFunction)(void **state);
typedef int (*CMFixtureFunction)(void **state);

struct CMUnitTest {
    const char *name;
    CMUnitTestFunction test;
    CMFixtureFunction setup, teardown;
};

#define cmocka_unit_test(f)                                                                                                    \
    {                                                                                                                          \
#f, f, NULL, NULL                                                                                                      \
    }
#define cmocka_unit_test_setup_teardown(f, setup, teardown)                                                                    \
    {                                                                                                                          \
#f, f, setup, teardown                                                                                                 \
    }

/* One of them in the whole program, though several files include this. */
__attribute__((weak)) jmp_buf cross_end;

enum cross_end_of { CROSS_FAILED = 1, CROSS_SKIPPED };

#define print_message(...) printf(__VA_ARGS__)
#define skip()             longjmp(cross_end, CROSS_SKIPPED)
#define fail()             longjmp(cross_end, CROSS_FAILED)
#define fail_msg(...)      (printf(__VA_ARGS__), printf("\n"), longjmp(cross_end, CROSS_FAILED))

#define cross_check(ok, what) ((ok) ? (void)0 : fail_msg("%s:%d: error: %s", __FILE__, __LINE__, what))

#define assert_true(c)                  cross_check((c), #c)
#define assert_false(c)                 cross_check(!(c), "not: " #c)
#define assert_null(p)                  cross_check((p) == NULL, #p " is NULL")
#define assert_non_null(p)              cross_check((p) != NULL, #p " is not NULL")
#define assert_int_equal(a, b)          cross_check((long long)(a) == (long long)(b), #a " == " #b)
#define assert_int_not_equal(a, b)      cross_check((long long)(a) != (long long)(b), #a " != " #b)
#define assert_string_equal(a, b)       cross_check(strcmp((a), (b)) == 0, #a " equals " #b)
#define assert_memory_equal(a, b, n)    cross_check(memcmp((a), (b), (n)) == 0, #a " equals " #b)
#define test_malloc(n)                  malloc(n)
#define test_calloc(n, size)            calloc(n, size)
#define test_free(p)                    free(p)
#define cmocka_run_group_tests(t, s, e) cross_run(t, sizeof(t) / sizeof *(t), s, e)

static inline int cross_run(const struct CMUnitTest *tests, size_t n, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    volatile int failed = 0;
    void *group = NULL; /* what each test's state is at first */
    if (setjmp(cross_end) != 0 || (setup && setup(&group) != 0)) {
        printf("[  FAILED  ] the set-up of the group\n");
        return 1;
    }
    for (volatile size_t i = 0; i < n; i++) {
        const struct CMUnitTest *t = &tests[i];
        void *state = group;
        printf("[ RUN      ] %s\n", t->name);
        fflush(stdout);
        const int end = setjmp(cross_end);
        if (end == 0) {
            if (t->setup && t->setup(&state) != 0)
                fail_msg("the set-up failed");
            t->test(&state);
            if (t->teardown && t->teardown(&state) != 0)
                fail_msg("the tear-down failed");
        }
        failed += end == CROSS_FAILED;
        printf("%s %s\n", end == 0 ? "[       OK ]" : end == CROSS_SKIPPED ? "[  SKIPPED ]" : "[  FAILED  ]", t->name);
        fflush(stdout);
    }
    if (teardown && setjmp(cross_end) == 0 && teardown(&group) != 0)
        failed++;
    return failed;
}

#endif
