/*
 * test - what every test includes: cmocka with its prerequisites, and a few helpers.
 */
#ifndef HERON_TESTS_SUPPORT_TEST_H
#define HERON_TESTS_SUPPORT_TEST_H

/* cmocka 1.1 wants these before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/err.h"

/* Fail with the error's text when a call that must succeed does not. */
#define assert_ok(rc, err)                                                                                                     \
    do {                                                                                                                       \
        const int assert_ok_rc = (rc);                                                                                         \
        if (assert_ok_rc != 0)                                                                                                 \
            fail_msg("%s:%d: %s: %s", __FILE__, __LINE__, err_name(assert_ok_rc), (err)->text);                                \
    } while (0)

/* The call must fail with this code, and the text must contain `words`. */
#define assert_err(rc, want, err, words)                                                                                       \
    do {                                                                                                                       \
        const int assert_err_rc = (rc);                                                                                        \
        if (assert_err_rc != (want) || !test_contains((err)->text, (words)))                                                   \
            fail_msg("%s:%d: got %s: \"%s\", want %s with \"%s\"", __FILE__, __LINE__, err_name(assert_err_rc), (err)->text,   \
                     err_name(want), (words));                                                                                 \
    } while (0)

bool test_contains(const char *text, const char *words);

/* Skip with a reason that the runner shows. */
#define skip_because(...)                                                                                                      \
    do {                                                                                                                       \
        print_message("skipped: " __VA_ARGS__);                                                                                \
        print_message("\n");                                                                                                   \
        skip();                                                                                                                \
    } while (0)

/* The device that tests of what any device must do run on: $HERON_TEST_DEVICE ("cuda"; HERON_CUDA_MODULE names the module), or "cpu". */
const char *test_device(void);

/* A fresh empty folder under $TMPDIR, removed with its content at exit. The text is static per call slot (16 slots). */
const char *test_temp_dir(void);

/* A whole file, malloc'ed, with a NUL behind it that is not counted; its size goes to *ret_n, which may be NULL. Fails the test. */
char *test_read_file(const char *path, size_t *ret_n);

/* Make the file hold these bytes, or this text. Fails the test. */
void test_write_file(const char *path, const void *bytes, size_t n);
void test_write_text(const char *path, const char *text);

/* sum (a - b)^2 / sum b^2; 0 for two zero vectors. */
double test_nmse(const float *a, const float *b, size_t n);

#endif
