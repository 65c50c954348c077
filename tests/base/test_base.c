/* err, clock, arena, rng, log, terminal. */
#include "tests/support/test.h"

#include <errno.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/terminal.h"

static void err_keeps_the_first_cause(void **state)
{
    struct err err = {0};
    assert_int_equal(err_set(&err, ERR_FORMAT, "tensor %s: %d", "x", 3), ERR_FORMAT);
    assert_string_equal(err.text, "tensor x: 3");
    assert_int_equal(err_prefix(&err, "a.gguf"), ERR_FORMAT);
    assert_string_equal(err.text, "a.gguf: tensor x: 3");
    assert_int_equal(err_set(NULL, ERR_IO, "nobody listens"), ERR_IO);
    errno = ENOENT;
    err_set_errno(&err, ERR_IO, "open %s", "f");
    assert_string_equal(err.text, "open f: No such file or directory");
    err_clear(&err);
    assert_int_equal(err.code, 0);
    char longer[2000];
    memset(longer, 'y', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    err_set(&err, ERR_IO, "%s", longer);
    err_prefix(&err, "%s", longer);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
}

static int64_t fake_now(void *ctx)
{
    return *(int64_t *)ctx;
}

static void clock_can_be_replaced(void **state)
{
    int64_t now = 5 * CLOCK_S;
    const struct clock_source source = {.now_ns = fake_now, .wall_ns = fake_now, .ctx = &now};
    const int64_t before = clock_now_ns();
    assert_true(clock_now_ns() >= before);
    clock_install(&source);
    assert_int_equal(clock_now_ns(), 5 * CLOCK_S);
    now += 1;
    assert_int_equal(clock_wall_ns_of(clock_now_ns() - 7), now - 7);
    clock_install(NULL);
    assert_true(clock_now_ns() >= before);
}

static void arena_is_bounded_and_aligned(void **state)
{
    struct arena a;
    struct err err = {0};
    assert_ok(arena_init(&a, 1000, &err), &err);
    char *p = arena_alloc(&a, 1, 1);
    char *q = arena_alloc(&a, 10, 10);
    assert_int_equal((uintptr_t)p % ARENA_ALIGN, 0);
    assert_int_equal((uintptr_t)q % ARENA_ALIGN, 0);
    assert_ptr_equal(q, p + ARENA_ALIGN);
    for (int i = 0; i < 100; i++)
        assert_int_equal(q[i], 0);
    const size_t mark = arena_mark(&a);
    assert_non_null(arena_alloc(&a, 1, 512));
    assert_null(arena_alloc(&a, 1, 512));
    assert_null(arena_alloc(&a, SIZE_MAX / 2, 4));
    assert_null(arena_alloc(&a, 1, SIZE_MAX - 3));
    arena_reset(&a, mark);
    assert_non_null(arena_alloc(&a, 1, 512));
    assert_int_equal(a.high_water_bytes, mark + 512);
    arena_release(&a);
    arena_release(&a);
    assert_err(arena_init(&a, SIZE_MAX - 100, &err), ERR_NOMEM, &err, "out of memory");
    arena_release(&a);
}

static void rng_is_the_published_splitmix64(void **state)
{
    /* the first values of splitmix64 with seed 1234567, as its author's test vector gives them */
    struct rng r = {.seed = 1234567};
    assert_true(rng_next(&r) == UINT64_C(6457827717110365317));
    assert_true(rng_next(&r) == UINT64_C(3203168211198807973));
    assert_true(rng_at(1234567, 1) == UINT64_C(3203168211198807973));
    /* FNV-1a of "a" and of "foobar", from the algorithm's page */
    assert_true(rng_hash("a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
    assert_true(rng_hash("foobar", 6) == UINT64_C(0x85944171f73967e8));
    for (int i = 0; i < 1000; i++) {
        const double u = rng_unit(&r);
        assert_true(u >= 0 && u < 1);
        assert_true(rng_below(&r, 7) < 7);
    }
}

static void log_hides_user_info(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"open rtsp://admin:s3cret@10.0.0.7/stream1 now", "open rtsp://***@10.0.0.7/stream1 now"},
        {"mqtt://u@h and http://a:b@c", "mqtt://*@h and http://***@c"},
        {"rtsp://user:p@ss@host/x", "rtsp://***@host/x"},
        {"http://host/path@not-user", "http://host/path@not-user"},
        {"rtsp://u:pa'ss@host/x and rtsp://u:a/b?c#d@host/x", "rtsp://***@host/x and rtsp://***@host/x"},
        {"rtsp://u:p@x/ss@host/x", "rtsp://***@host/x"},
        {"source='rtsp://u:\"<>@host/x', next=a@b", "source='rtsp://***@host/x', next=a@b"},
        {"rtsp://10.0.0.7:554/x at a@b", "rtsp://10.0.0.7:554/x at a@b"},
        {"no url", "no url"},
        {"://", "://"},
        {"x://@", "x://@"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char s[128];
        snprintf(s, sizeof s, "%s", cases[i].in);
        log_redact(s);
        assert_string_equal(s, cases[i].out);
    }
}

/* The end of a long line is lost, and with it the @ that tells user info from a host. */
static void log_hides_user_info_in_a_cut_line(void **state)
{
    char url[2 * LOG_LINE_BYTES], *text = test_malloc(LOG_RING_LINES * LOG_LINE_BYTES);
    snprintf(url, sizeof url, "rtsp://admin:%0*d@host/x", LOG_LINE_BYTES, 424242);
    log_notice("a long line url=%s", url);
    memset(url + strlen("rtsp://admin:"), '7', LOG_LINE_BYTES);
    log_notice("a long line url=%s", url);
    log_recent(text, LOG_RING_LINES * LOG_LINE_BYTES);
    const char *at = strstr(text, "a long line");
    assert_non_null(at);
    assert_null(strstr(at, "admin"));
    assert_null(strstr(at, "7777"));
    test_free(text);
}

/* Colours are for a terminal that has them, and for who did not ask to be spared them. */
static void terminal_has_colours_only_where_they_are_wanted(void **state)
{
    int terminal, other, ends[2];
    assert_int_equal(openpty(&other, &terminal, NULL, NULL, NULL), 0);
    assert_int_equal(pipe(ends), 0);
    static const struct {
        const char *no_colour, *term;
        bool is;
    } cases[] = {{NULL, "xterm", true}, {"", "xterm", true}, {"1", "xterm", false},
                 {NULL, "dumb", false}, {NULL, NULL, false}, {NULL, "", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsetenv("NO_COLOR");
        unsetenv("TERM");
        if (cases[i].no_colour)
            setenv("NO_COLOR", cases[i].no_colour, 1);
        if (cases[i].term)
            setenv("TERM", cases[i].term, 1);
        assert_int_equal(terminal_is_colourful(terminal), cases[i].is);
        assert_false(terminal_is_colourful(ends[1]));
    }
    close(terminal);
    close(other);
    close(ends[0]);
    close(ends[1]);
}

static void log_is_bounded_per_call_site(void **state)
{
    char *text = test_malloc(LOG_RING_LINES * LOG_LINE_BYTES);
    for (int i = 0; i < 40; i++)
        log_info("base test flood i=%d", i);
    log_recent(text, LOG_RING_LINES * LOG_LINE_BYTES);
    int seen = 0;
    for (const char *p = text; (p = strstr(p, "base test flood")) != NULL; p++)
        seen++;
    assert_int_equal(seen, 10);
    char small[64];
    assert_true(log_recent(small, sizeof small) < sizeof small);
    enum log_level level;
    assert_true(log_level_parse("debug", &level) && level == LOG_LEVEL_DEBUG);
    assert_false(log_level_parse("loud", &level));
    test_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_keeps_the_first_cause),
        cmocka_unit_test(clock_can_be_replaced),
        cmocka_unit_test(arena_is_bounded_and_aligned),
        cmocka_unit_test(rng_is_the_published_splitmix64),
        cmocka_unit_test(log_hides_user_info),
        cmocka_unit_test(log_hides_user_info_in_a_cut_line),
        cmocka_unit_test(terminal_has_colours_only_where_they_are_wanted),
        cmocka_unit_test(log_is_bounded_per_call_site),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
