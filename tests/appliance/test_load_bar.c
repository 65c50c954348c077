/*
 * What a person sees while a model is loaded, and that nobody else sees anything.
 */
#include "tests/support/test.h"

#include <pty.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "appliance/load_bar.h"
#include "base/clock.h"

#define GB UINT64_C(1000000000)

static int64_t now_ns;

static int64_t fake_now(void *ctx)
{
    return now_ns;
}

static const char *text(uint64_t done, uint64_t total, double seconds, int columns)
{
    static char out[256];
    load_bar_text(done, total, (int64_t)(seconds * 1e9), columns, out, sizeof out);
    return out;
}

static void lines(void **state)
{
    assert_string_equal(text(0, 4 * GB, 0, 80), "loading [                              ]   0 % of 4.00 GB, 0.00 GB/s");
    assert_string_equal(text(1 * GB, 4 * GB, 2, 80),
                        "loading [#######                       ]  25 % of 4.00 GB, 0.50 GB/s, 6 s left");
    assert_string_equal(text(4 * GB, 4 * GB, 2, 80),
                        "loading [##############################] 100 % of 4.00 GB, 2.00 GB/s, 0 s left");
    assert_string_equal(text(1 * GB, 601 * GB, 2, 80),
                        "loading [                           ]   0 % of 601.00 GB, 0.50 GB/s, 20 min left");
    assert_string_equal(text(2 * GB, 4 * GB, 2, 60), "loading [######      ]  50 % of 4.00 GB, 1.00 GB/s, 2 s left");
    assert_string_equal(text(2 * GB, 4 * GB, 2, 40), " 50 % of 4.00 GB, 1.00 GB/s, 2 s left");
    assert_string_equal(text(2 * GB, 4 * GB, 2, 9), " 50 % of ");
    assert_string_equal(text(2 * GB, 4 * GB, 2, 0), "");
    assert_string_equal(text(0, 0, 0, 40), "100 % of 0.00 GB, 0.00 GB/s");
    for (int columns = 0; columns < 200; columns++)
        assert_true((int)strlen(text(3 * GB, 4 * GB, 1, columns)) <= columns);
}

/* What the terminal was sent so far: up to a mark, since the way through a terminal takes its time. */
static const char *sent(int fd, int terminal)
{
    static char out[2000];
    size_t n = 0;
    assert_int_equal(write(terminal, "|", 1), 1);
    while (n == 0 || out[n - 1] != '|') {
        const ssize_t got = read(fd, out + n, sizeof out - 1 - n);
        assert_true(got > 0);
        n += (size_t)got;
    }
    out[n - 1] = 0;
    return out;
}

static void on_a_terminal(void **state)
{
    int fd, terminal;
    struct load_bar bar;
    const struct winsize size = {.ws_row = 20, .ws_col = 61};
    assert_int_equal(openpty(&fd, &terminal, NULL, NULL, &size), 0);
    clock_install(&(struct clock_source){.now_ns = fake_now, .wall_ns = fake_now});
    now_ns = 5 * CLOCK_S;
    load_bar_begin(&bar, terminal);
    load_bar_show(&bar, 1, 4 * GB);
    load_bar_end(&bar); /* it was over before anything was to be seen */
    assert_string_equal(sent(fd, terminal), "");
    load_bar_begin(&bar, terminal);
    for (int i = 0; i < 100; i++) { /* a second, with news every 10 ms */
        now_ns += 10 * CLOCK_MS;
        load_bar_show(&bar, (uint64_t)i * GB / 50, 4 * GB);
        if (i == 19)
            assert_string_equal(sent(fd, terminal), "\rloading [#           ]   9 % of 4.00 GB, 1.90 GB/s, 2 s left\033[K");
    }
    const char *rest = sent(fd, terminal);
    int n_drawn = 0;
    for (const char *at = rest; (at = strchr(at, '\r')); at++)
        n_drawn++;
    assert_int_equal(n_drawn, 4);
    load_bar_end(&bar);
    assert_string_equal(sent(fd, terminal), "\r\033[K");
    clock_install(NULL);
    close(terminal);
    close(fd);
}

static void elsewhere(void **state)
{
    int fds[2];
    struct load_bar bar;
    assert_int_equal(pipe(fds), 0);
    clock_install(&(struct clock_source){.now_ns = fake_now, .wall_ns = fake_now});
    load_bar_begin(&bar, fds[1]);
    for (int i = 0; i < 100; i++) {
        now_ns += CLOCK_S;
        load_bar_show(&bar, 1, 2);
    }
    load_bar_end(&bar);
    clock_install(NULL);
    close(fds[1]);
    char byte;
    assert_int_equal(read(fds[0], &byte, 1), 0);
    close(fds[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),
        cmocka_unit_test(on_a_terminal),
        cmocka_unit_test(elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
