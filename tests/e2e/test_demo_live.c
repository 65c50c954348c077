/*
 * heron demo on a terminal: the live screen is there, follows the terminal's size, and the terminal is given back as it was on every way out.
 */
#include "tests/support/test.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#include "base/clock.h"
#include "tests/support/box.h"

#define PATIENCE_NS ((int64_t)BOX_PATIENCE_MS * CLOCK_MS)
#define ENTER       "\033[?1049h\033[?25l"
#define CURSOR      "\033[?25h"
#define LEAVE       "\033[?1049l"

/* A terminal with heron demo in its foreground. */
struct seat {
    pid_t pid;
    int fd;                /* the other end; -1: hung up */
    struct termios before; /* as the demo found it */
    char *text;            /* all that was written to it so far, with a NUL behind it */
    size_t n, n_room;
    bool has_ended;
    int status; /* exit status, or minus the signal */
};

static char tmpdir[320];

static void seat_open(struct seat *s, int cols, int rows, const char *no_colour, bool has_keys)
{
    if (!broker_is_there())
        skip_because("mosquitto is not installed");
    const char *args[] = {program_heron(), "demo", "--seed", "11", "--every", "500", "-m", NULL, "-v", NULL, NULL};
    args[7] = box_model();
    args[9] = box_vision();
    const struct winsize size = {.ws_col = (unsigned short)cols, .ws_row = (unsigned short)rows};
    snprintf(tmpdir, sizeof tmpdir, "%s", test_temp_dir());
    *s = (struct seat){0};
    int slave;
    assert_int_equal(openpty(&s->fd, &slave, NULL, NULL, &size), 0);
    assert_int_equal(tcgetattr(slave, &s->before), 0);
    fcntl(s->fd, F_SETFD, FD_CLOEXEC);
    fflush(NULL);
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        login_tty(slave);
        if (!has_keys)
            dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        setenv("TERM", "xterm-256color", 1);
        setenv("COLORTERM", "truecolor", 1);
        setenv("LC_ALL", "C.UTF-8", 1);
        setenv("TMPDIR", tmpdir, 1);
        setenv("NO_COLOR", no_colour, 1);
        execv(args[0], (char *const *)args);
        _exit(127);
    }
    close(slave);
}

/* Take what is written until there is nothing for a moment. */
static void seat_read(struct seat *s)
{
    struct pollfd fd = {.fd = s->fd, .events = POLLIN};
    while (s->fd >= 0 && poll(&fd, 1, 20) > 0) {
        if (s->n + 65536 > s->n_room) {
            s->n_room = 2 * s->n_room + 2 * 65536;
            s->text = realloc(s->text, s->n_room);
            assert_non_null(s->text);
        }
        const ssize_t n = read(s->fd, s->text + s->n, 65535);
        if (n <= 0) /* nobody holds the terminal any more */
            break;
        s->n += (size_t)n;
        s->text[s->n] = 0;
    }
    int raw;
    if (!s->has_ended && waitpid(s->pid, &raw, WNOHANG) == s->pid) {
        s->has_ended = true;
        s->status = WIFEXITED(raw) ? WEXITSTATUS(raw) : -WTERMSIG(raw);
    }
}

/* Wait until words stand behind the first `from` bytes; returns the bytes up to their end. */
static size_t seat_await(struct seat *s, size_t from, const char *words)
{
    const int64_t end = clock_now_ns() + PATIENCE_NS;
    for (;;) {
        seat_read(s);
        const char *at = s->n > from ? strstr(s->text + from, words) : NULL;
        if (at)
            return (size_t)(at - s->text) + strlen(words);
        if (s->has_ended || clock_now_ns() > end)
            fail_msg("\"%s\" does not come%s: %s", words + (words[0] == '\033'), s->has_ended ? ", and it ended" : "",
                     s->n > 600 ? s->text + s->n - 600
                     : s->n     ? s->text
                                : "");
    }
}

static int seat_await_end(struct seat *s)
{
    const int64_t end = clock_now_ns() + PATIENCE_NS;
    while (!s->has_ended) {
        seat_read(s);
        if (clock_now_ns() > end)
            fail_msg("it does not end");
    }
    seat_read(s); /* the last words */
    return s->status;
}

static void seat_type(const struct seat *s, char key)
{
    assert_int_equal(write(s->fd, &key, 1), 1);
}

static void seat_resize(const struct seat *s, int cols, int rows)
{
    const struct winsize size = {.ws_col = (unsigned short)cols, .ws_row = (unsigned short)rows};
    assert_int_equal(ioctl(s->fd, TIOCSWINSZ, &size), 0);
}

static void seat_close(struct seat *s)
{
    if (!s->has_ended)
        kill(s->pid, SIGKILL);
    while (!s->has_ended && waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (s->fd >= 0)
        close(s->fd);
    free(s->text);
}

/* The last `words`, or the beginning of nothing. */
static const char *last(const struct seat *s, const char *words)
{
    const char *found = NULL;
    for (const char *at = s->text; at && (at = strstr(at, words)); at++)
        found = at;
    return found;
}

/* The shell's screen, its cursor, its colours and its keys are back; nothing is drawn behind that. Returns what stands on the shell's screen then. */
static const char *assert_given_back(const struct seat *s)
{
    const char *enter = last(s, ENTER), *leave = last(s, LEAVE), *cursor = last(s, CURSOR);
    struct termios now;
    assert_true(enter && leave && cursor && leave > enter && cursor > enter);
    assert_true(last(s, "\033[0m") > enter);
    assert_null(strchr(leave + 1, '\033'));
    assert_int_equal(tcgetattr(s->fd, &now), 0);
    assert_int_equal(now.c_lflag, s->before.c_lflag);
    assert_int_equal(now.c_iflag, s->before.c_iflag);
    assert_int_equal(now.c_oflag, s->before.c_oflag);
    assert_memory_equal(now.c_cc, s->before.c_cc, sizeof now.c_cc);
    return leave + strlen(LEAVE);
}

static void assert_tidy(void)
{
    DIR *dir = opendir(tmpdir);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.')
            fail_msg("%s is left behind", e->d_name);
    closedir(dir);
}

/* Another size, away to the shell and back, then Ctrl-C. */
static void test_live(void **state)
{
    struct seat s;
    seat_open(&s, 100, 30, "", true);
    size_t at = seat_await(&s, 0, ENTER);
    seat_await(&s, at, "HERON DEMO");
    seat_await(&s, at, "yard, seed 11");
    seat_await(&s, at, "truth:");
    seat_await(&s, at, "q ends");
    seat_await(&s, at, "▀\033[38;2;"); /* a picture in 24-bit colours */
    struct termios silent;
    assert_int_equal(tcgetattr(s.fd, &silent), 0);
    assert_int_equal(silent.c_lflag & (ECHO | ICANON), 0);
    assert_null(strstr(s.text, LEAVE));

    seat_resize(&s, 60, 30); /* too small: lines, on the shell's screen */
    at = seat_await(&s, at, LEAVE);
    at = seat_await(&s, at, "line by line");
    at = seat_await(&s, at, "(truth ");
    assert_given_back(&s);
    seat_resize(&s, 132, 43);
    at = seat_await(&s, at, ENTER);
    seat_await(&s, at, "\033[43;"); /* the last row */

    seat_type(&s, 'Z' - '@');
    int raw = 0;
    const int64_t end = clock_now_ns() + PATIENCE_NS;
    while (waitpid(s.pid, &raw, WUNTRACED | WNOHANG) != s.pid && clock_now_ns() < end)
        seat_read(&s);
    assert_true(WIFSTOPPED(raw));
    at = seat_await(&s, at, LEAVE);
    assert_given_back(&s);
    kill(s.pid, SIGCONT);
    at = seat_await(&s, at, ENTER);
    seat_await(&s, at, "HERON DEMO");

    seat_type(&s, 'C' - '@');
    const int status = seat_await_end(&s);
    const char *rest = assert_given_back(&s);
    if (status != 0 || !test_contains(rest, "observations arrived") || !test_contains(rest, "against the truth"))
        fail_msg("status %d: %s", status, rest);
    assert_true(test_contains(rest, "untrained"));
    seat_close(&s);
    assert_tidy();
}

/* The process whose parent is `parent` and whose program is `name`. */
static pid_t child_of(pid_t parent, const char *name)
{
    pid_t found = 0;
    DIR *dir = opendir("/proc");
    assert_non_null(dir);
    for (struct dirent *e; !found && (e = readdir(dir));) {
        char path[300], line[512] = "", program[64] = "";
        int of = 0;
        snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
        FILE *f = isdigit((unsigned char)e->d_name[0]) ? fopen(path, "re") : NULL;
        if (f && fgets(line, sizeof line, f) && sscanf(line, "%*d (%63[^)]) %*c %d", program, &of) == 2 && of == parent &&
            strcmp(program, name) == 0)
            found = (pid_t)atoi(e->d_name);
        if (f)
            fclose(f);
    }
    closedir(dir);
    return found;
}

/* Keys come from elsewhere: it does not promise that one ends it. */
static void test_no_keys(void **state)
{
    struct seat s;
    seat_open(&s, 100, 30, "", false);
    seat_await(&s, seat_await(&s, seat_await(&s, 0, ENTER), "Ctrl-C ends"), "truth:");
    assert_null(strstr(s.text, "q ends"));
    seat_type(&s, 'C' - '@');
    assert_int_equal(seat_await_end(&s), 0);
    assert_given_back(&s);
    seat_close(&s);
    assert_tidy();
}

static void test_broker_dies(void **state)
{
    struct seat s;
    seat_open(&s, 100, 30, "", true);
    seat_await(&s, seat_await(&s, 0, ENTER), "truth:");
    const pid_t broker = child_of(s.pid, "mosquitto");
    assert_true(broker > 0);
    kill(broker, SIGKILL);
    assert_int_equal(seat_await_end(&s), 69);
    const char *rest = assert_given_back(&s);
    if (!test_contains(rest, "the broker hung up") || !test_contains(rest, "against the truth"))
        fail_msg("%s", rest);
    seat_close(&s);
    assert_tidy();
}

static void test_crashes(void **state)
{
    struct seat s;
    seat_open(&s, 100, 30, "", true);
    seat_await(&s, seat_await(&s, 0, ENTER), "HERON DEMO");
    kill(s.pid, SIGSEGV);
    const int status = seat_await_end(&s);
    if (!getenv("HERON_SANITIZED")) /* which has its own way to end */
        assert_int_equal(status, -SIGSEGV);
    assert_true(status != 0);
    if (!getenv("HERON_SANITIZED"))
        assert_given_back(&s);
    seat_close(&s);
}

/* The window is closed. */
static void test_hung_up(void **state)
{
    struct seat s;
    seat_open(&s, 100, 30, "", true);
    seat_await(&s, seat_await(&s, 0, ENTER), "truth:");
    close(s.fd);
    s.fd = -1;
    const int64_t end = clock_now_ns() + PATIENCE_NS;
    while (!s.has_ended && clock_now_ns() < end) {
        clock_sleep_until_ns(clock_now_ns() + 5 * CLOCK_MS);
        seat_read(&s);
    }
    assert_true(s.has_ended);
    seat_close(&s);
    assert_tidy();
}

/* Who wants no colours gets lines, and not one escape. */
static void test_no_colour(void **state)
{
    struct seat s;
    seat_open(&s, 100, 30, "1", true);
    seat_await(&s, 0, "(truth ");
    seat_type(&s, 'C' - '@');
    assert_int_equal(seat_await_end(&s), 0);
    assert_null(strchr(s.text, '\033'));
    assert_true(test_contains(s.text, "against the truth"));
    seat_close(&s);
    assert_tidy();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_live),    cmocka_unit_test(test_no_keys), cmocka_unit_test(test_broker_dies),
        cmocka_unit_test(test_crashes), cmocka_unit_test(test_hung_up), cmocka_unit_test(test_no_colour),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
