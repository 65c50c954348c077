/* The control socket: one daemon per place, clients of every temper, and the side that asks. */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "appliance/control.h"
#include "base/clock.h"
#include "base/utf8.h"

#define NOBODY     65534
#define BIG_REPLY  (3 << 20)
#define PATIENT_NS (30 * CLOCK_S)

/* ---- a server on a clock of the test -------------------------------------------------------------------------------------- */

static int64_t fake_now_ns;

static int64_t fake_now(void *ctx)
{
    return fake_now_ns;
}

static void use_fake_clock(void)
{
    const struct clock_source fake = {fake_now, fake_now, NULL};
    fake_now_ns = 1000 * CLOCK_S;
    clock_install(&fake);
}

static int use_real_clock(void **state)
{
    clock_install(NULL);
    return 0;
}

struct desk {
    int n_answered;
    char last[CONTROL_COMMAND_MAX];
};

/* "big": a long reply; "none": out of memory; otherwise the command comes back with a number. */
static char *reply(void *ctx, const char *command)
{
    struct desk *desk = ctx;
    char *text = NULL;
    desk->n_answered++;
    snprintf(desk->last, sizeof desk->last, "%s", command);
    if (strcmp(command, "none") == 0)
        return NULL;
    if (strcmp(command, "big") == 0) {
        text = malloc(BIG_REPLY + 1);
        assert_non_null(text);
        memset(text, 'x', BIG_REPLY);
        memcpy(text, "{\"x\":\"", 6);
        memcpy(text + BIG_REPLY - 2, "\"}", 3);
        return text;
    }
    assert_true(asprintf(&text, "{\"n\":%d}", desk->n_answered) > 0);
    return text;
}

/* A path that nothing uses yet, in a folder of all of these tests. The last eight stay valid. */
static const char *fresh_path(void)
{
    static const char *dir;
    static char path[8][300];
    static int next;
    if (!dir)
        dir = test_temp_dir();
    char *p = path[next % 8];
    snprintf(p, sizeof path[0], "%s/%d", dir, next++);
    return p;
}

static struct control *open_at(const char *path, struct desk *desk)
{
    struct control *control = NULL;
    struct err err = {0};
    assert_ok(control_open(path, reply, desk, &control, &err), &err);
    assert_string_equal(control_path(control), path);
    return control;
}

static bool is_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

/* Until nothing is left to do. It must come to rest: a descriptor that stays readable would spin the daemon. */
static void serve(struct control *control)
{
    int steps = 0;
    while (is_readable(control_fd(control))) {
        control_step(control);
        assert_true(++steps < 10000);
    }
}

static int call(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_true(strlen(path) < sizeof address.sun_path);
    strcpy(address.sun_path, path);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* What has come so far, the server being served; -1: closed with nothing more. */
static ssize_t hear(struct control *control, int fd, char *text, size_t cap)
{
    size_t n = 0;
    for (;;) {
        serve(control);
        const ssize_t got = recv(fd, text + n, cap - 1 - n, 0);
        if (got > 0) {
            n += (size_t)got;
            continue;
        }
        text[n] = '\0';
        if (n > 0)
            return (ssize_t)n;
        return got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK) ? -1 : 0;
    }
}

static void assert_hears(struct control *control, int fd, const char *want)
{
    char text[1000];
    assert_true(hear(control, fd, text, sizeof text) > 0);
    assert_string_equal(text, want);
}

static void assert_closed(struct control *control, int fd)
{
    char text[1000];
    assert_int_equal(hear(control, fd, text, sizeof text), -1);
    close(fd);
}

/* ---- requests ------------------------------------------------------------------------------------------------------------- */

static void answers_line_by_line(void **state)
{
    struct desk desk = {0};
    struct control *control = open_at(fresh_path(), &desk);
    const int fd = call(control_path(control));
    say(fd, "{\"command\":\"status\"}\n{\"command\":\"reload\",\"later\":[1]}\n");
    assert_hears(control, fd, "{\"n\":1}\n{\"n\":2}\n");
    assert_string_equal(desk.last, "reload");

    /* byte by byte: answered when the newline is there, and not before */
    const char *slow = "{\"command\":\"st\\u0061tus\"}\r\n";
    char text[100];
    for (const char *p = slow; *p; p++) {
        assert_int_equal(hear(control, fd, text, sizeof text), 0);
        assert_int_equal(send(fd, p, 1, MSG_NOSIGNAL), 1);
    }
    assert_hears(control, fd, "{\"n\":3}\n");
    assert_string_equal(desk.last, "status");

    /* the last request of one that then only listens */
    say(fd, "{\"command\":\"a\"}\n{\"command\":\"b\"}\n{\"comm");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    assert_hears(control, fd, "{\"n\":4}\n{\"n\":5}\n");
    assert_closed(control, fd);
    assert_int_equal(desk.n_answered, 5);
    control_close(control);
}

static void garbage_gets_an_error_and_the_line_goes_on(void **state)
{
    static const char *const lines[] = {
        "",
        "status",
        "{\"command\":",
        "[\"command\",\"status\"]",
        "{}",
        "{\"command\":1}",
        "{\"command\":null}",
        "{\"command\":\"\"}",
        "{\"command\":\"st\\u0000atus\"}",
        "{\"command\":\"\xFF\xFE\"}",
        "{\"command\":\"status\",\"command\":\"reload\"}",
        "{\"command\":\"status\"} {\"command\":\"status\"}",
        "{\"command\":\"0123456789012345678901234567890123456789012345678901234567890123\"}",
        "{\"command\":\"status\",\"n\":1e999}",
        "\"",
        "\x01\x02\x03",
    };
    struct desk desk = {0};
    struct control *control = open_at(fresh_path(), &desk);
    const int fd = call(control_path(control));
    char text[1000];
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        say(fd, lines[i]);
        say(fd, "\n");
        assert_true(hear(control, fd, text, sizeof text) > 0);
        if (strncmp(text, "{\"ok\":false,\"error\":\"", 21) != 0 || strstr(text, "memory") || !utf8_valid(text, strlen(text)) ||
            strchr(text, '\n') != text + strlen(text) - 1)
            fail_msg("%s: %s", lines[i], text);
    }
    assert_int_equal(desk.n_answered, 0);

    /* bytes that no string holds: a NUL */
    assert_int_equal(send(fd, "{\"command\"\0:\"status\"}\n", 22, MSG_NOSIGNAL), 22);
    assert_true(hear(control, fd, text, sizeof text) > 0);
    assert_true(test_contains(text, "\"ok\":false"));

    /* nesting is bounded by the line, and the stack holds it */
    char deep[CONTROL_LINE_MAX + 1];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\n';
    assert_int_equal(send(fd, deep, sizeof deep, MSG_NOSIGNAL), sizeof deep);
    assert_true(hear(control, fd, text, sizeof text) > 0);
    assert_true(test_contains(text, "\"ok\":false"));

    say(fd, "{\"command\":\"012345678901234567890123456789012345678901234567890123456789012\"}\n{\"command\":\"none\"}\n");
    assert_hears(control, fd, "{\"n\":1}\n{\"ok\":false,\"error\":\"out of memory\"}\n");
    close(fd);
    serve(control);
    control_close(control);
}

static void a_line_has_an_end(void **state)
{
    struct desk desk = {0};
    struct control *control = open_at(fresh_path(), &desk);
    char line[CONTROL_LINE_MAX + 2], text[1000];
    memset(line, ' ', sizeof line);
    memcpy(line, "{\"command\":\"status\"}", 20);

    int fd = call(control_path(control));
    line[CONTROL_LINE_MAX] = '\n';
    for (int i = 0; i < 2; i++) {
        assert_int_equal(send(fd, line, CONTROL_LINE_MAX + 1, MSG_NOSIGNAL), CONTROL_LINE_MAX + 1);
        assert_int_equal(hear(control, fd, text, sizeof text), 8);
    }
    line[CONTROL_LINE_MAX] = ' ';
    line[CONTROL_LINE_MAX + 1] = '\n';
    assert_int_equal(send(fd, line, sizeof line, MSG_NOSIGNAL), sizeof line);
    assert_true(hear(control, fd, text, sizeof text) > 0);
    assert_string_equal(text, "{\"ok\":false,\"error\":\"a request has at most 4096 bytes\"}\n");
    assert_closed(control, fd);

    /* a flood without any newline, by one that never listens */
    fd = call(control_path(control));
    for (int i = 0; i < 100; i++) {
        (void)!send(fd, line, CONTROL_LINE_MAX, MSG_NOSIGNAL);
        serve(control);
    }
    close(fd);
    serve(control);
    assert_int_equal(desk.n_answered, 2);
    assert_true(control_next_ns(control) == INT64_MAX);
    control_close(control);
}

/* ---- clients -------------------------------------------------------------------------------------------------------------- */

static void who_is_silent_is_closed(void **state)
{
    struct desk desk = {0};
    use_fake_clock();
    struct control *control = open_at(fresh_path(), &desk);
    assert_true(control_next_ns(control) == INT64_MAX);

    const int64_t start_ns = fake_now_ns;
    const int silent = call(control_path(control)), drip = call(control_path(control)), busy = call(control_path(control)),
              deaf = call(control_path(control));
    char text[1000];
    serve(control);
    say(deaf, "{\"command\":\"big\"}\n"); /* and does not take what it asked for */
    serve(control);
    assert_int_equal(desk.n_answered, 1);
    assert_true(control_next_ns(control) == start_ns + 10 * CLOCK_S);
    for (int s = 1; s < 10; s++) {
        fake_now_ns = start_ns + s * CLOCK_S;
        say(drip, "x");
        say(busy, "{\"command\":\"status\"}\n");
        assert_true(hear(control, busy, text, sizeof text) > 0);
        control_step(control);
    }
    assert_int_equal(hear(control, silent, text, sizeof text), 0);
    assert_int_equal(hear(control, drip, text, sizeof text), 0);

    fake_now_ns = start_ns + 10 * CLOCK_S;
    assert_true(control_next_ns(control) <= fake_now_ns);
    control_step(control);
    assert_closed(control, silent);
    assert_closed(control, drip);
    size_t n = 0;
    for (char chunk[65536];;) { /* what was sent before is still there, then comes the end */
        const ssize_t got = recv(deaf, chunk, sizeof chunk, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    assert_true(n > 0 && n < BIG_REPLY);
    close(deaf);
    assert_int_equal(hear(control, busy, text, sizeof text), 0);
    assert_true(control_next_ns(control) == start_ns + 19 * CLOCK_S);
    fake_now_ns = start_ns + 19 * CLOCK_S;
    control_step(control);
    assert_closed(control, busy);
    control_close(control);
}

/* The reply is larger than any socket's buffer; others are answered meanwhile. */
static void a_long_reply_goes_in_pieces(void **state)
{
    struct desk desk = {0};
    struct control *control = open_at(fresh_path(), &desk);
    const int slow = call(control_path(control)), quick = call(control_path(control));
    char *text = malloc(BIG_REPLY + 100);
    size_t n = 0;
    int rounds = 0;
    assert_non_null(text);
    say(slow, "{\"command\":\"big\"}\n{\"command\":\"after\"}\n");
    while (n < BIG_REPLY + 9) {
        char other[100];
        serve(control);
        const ssize_t got = recv(slow, text + n, n + 50000 < BIG_REPLY + 100 ? 50000 : BIG_REPLY + 99 - n, 0);
        assert_true(got > 0);
        n += (size_t)got;
        say(quick, "{\"command\":\"status\"}\n");
        assert_true(hear(control, quick, other, sizeof other) > 0);
        assert_int_equal(strncmp(other, "{\"n\":", 5), 0);
        rounds++;
    }
    assert_true(rounds > 10);
    assert_int_equal(strncmp(text, "{\"x\":\"xxxx", 10), 0);
    assert_int_equal(strspn(text + 6, "x"), BIG_REPLY - 8);
    assert_int_equal(strncmp(text + BIG_REPLY - 2, "\"}\n{\"n\":", 8), 0);
    free(text);

    /* hangs up in the middle of it */
    say(slow, "{\"command\":\"big\"}\n");
    serve(control);
    close(slow);
    say(quick, "{\"command\":\"big\"}\n");
    close(quick);
    serve(control);
    assert_true(control_next_ns(control) == INT64_MAX);
    control_close(control);
}

static void those_who_find_no_room_wait(void **state)
{
    struct desk desk = {0};
    use_fake_clock();
    struct control *control = open_at(fresh_path(), &desk);
    int fd[CONTROL_CLIENTS_MAX + 3];
    char text[1000];
    for (int i = 0; i < CONTROL_CLIENTS_MAX + 3; i++) {
        fd[i] = call(control_path(control));
        serve(control);
    }
    say(fd[CONTROL_CLIENTS_MAX], "{\"command\":\"status\"}\n");
    assert_int_equal(hear(control, fd[CONTROL_CLIENTS_MAX], text, sizeof text), 0);
    close(fd[2]);
    assert_hears(control, fd[CONTROL_CLIENTS_MAX], "{\"n\":1}\n");

    /* the silent ones go, and the rest come in */
    say(fd[CONTROL_CLIENTS_MAX + 2], "{\"command\":\"status\"}\n");
    assert_int_equal(hear(control, fd[CONTROL_CLIENTS_MAX + 2], text, sizeof text), 0);
    fake_now_ns = control_next_ns(control);
    control_step(control);
    assert_hears(control, fd[CONTROL_CLIENTS_MAX + 2], "{\"n\":2}\n");
    for (int i = 0; i < CONTROL_CLIENTS_MAX + 3; i++) {
        if (i != 2)
            close(fd[i]);
    }
    serve(control);
    control_close(control);
}

struct asker {
    pthread_t thread;
    const char *path;
    int rc;
    char *reply;
    struct err err;
};

static void *ask(void *arg)
{
    struct asker *a = arg;
    a->rc = control_ask(a->path, "status", PATIENT_NS, &a->reply, &a->err);
    return NULL;
}

static void twenty_ask_at_once(void **state)
{
    struct desk desk = {0};
    struct control *control = open_at(fresh_path(), &desk);
    struct asker askers[20] = {0};
    bool seen[21] = {false};
    const int64_t deadline_ns = clock_now_ns() + PATIENT_NS;
    for (int i = 0; i < 20; i++) {
        askers[i].path = control_path(control);
        assert_int_equal(pthread_create(&askers[i].thread, NULL, ask, &askers[i]), 0);
    }
    while (desk.n_answered < 20 && clock_now_ns() < deadline_ns) {
        struct pollfd p = {.fd = control_fd(control), .events = POLLIN};
        poll(&p, 1, 100);
        control_step(control);
    }
    for (int i = 0; i < 20; i++) {
        int n = 0;
        pthread_join(askers[i].thread, NULL);
        assert_ok(askers[i].rc, &askers[i].err);
        assert_int_equal(sscanf(askers[i].reply, "{\"n\":%d}", &n), 1);
        assert_true(n >= 1 && n <= 20 && !seen[n]);
        seen[n] = true;
        free(askers[i].reply);
    }
    control_close(control);
}

/* Out of descriptors, the listener stays readable: it must neither spin nor be lost. */
static void no_descriptors_is_a_pause(void **state)
{
    struct desk desk = {0};
    struct rlimit old, low;
    use_fake_clock();
    struct control *control = open_at(fresh_path(), &desk);
    const int fd = call(control_path(control));
    say(fd, "{\"command\":\"status\"}\n");
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = old;
    low.rlim_cur = (rlim_t)fd + 1; /* descriptors are given out lowest first: there may be a gap, but not for long */
    int gaps[64], n_gaps = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    while (n_gaps < 64 && (gaps[n_gaps] = dup(fd)) >= 0)
        n_gaps++;
    serve(control);
    char text[100];
    const int64_t next_ns = control_next_ns(control);
    const ssize_t heard = hear(control, fd, text, sizeof text);
    while (n_gaps > 0)
        close(gaps[--n_gaps]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(heard, 0);
    assert_true(next_ns == fake_now_ns + CLOCK_S);
    fake_now_ns = next_ns;
    control_step(control);
    assert_hears(control, fd, "{\"n\":1}\n");
    close(fd);
    serve(control);
    control_close(control);
}

/* ---- one daemon ----------------------------------------------------------------------------------------------------------- */

/* A child that opens a control at path, says so, and dies without closing when told. Returns its pid. */
static pid_t start_daemon(const char *path, int *ret_leash)
{
    int ready[2], leash[2];
    char byte = 0;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    assert_int_equal(pipe2(leash, O_CLOEXEC), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct control *control = NULL;
        struct desk desk = {0};
        close(leash[1]);
        byte = control_open(path, reply, &desk, &control, NULL) == 0 ? 'y' : 'n';
        (void)!write(ready[1], &byte, 1);
        (void)!read(leash[0], &byte, 1);
        kill(getpid(), SIGKILL);
    }
    close(leash[0]);
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    close(ready[0]);
    *ret_leash = leash[1];
    return pid;
}

static void only_one_daemon(void **state)
{
    struct desk desk = {0};
    struct control *control = NULL;
    struct err err = {0};
    struct stat st;
    char words[100];
    int leash;
    const char *path = fresh_path();

    const pid_t pid = start_daemon(path, &leash);
    snprintf(words, sizeof words, "heron runs already: process %ld holds", (long)pid);
    assert_err(control_open(path, reply, &desk, &control, &err), ERR_STATE, &err, words);
    assert_null(control);
    assert_int_equal(lstat(path, &st), 0); /* its socket was left alone */

    close(leash);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(lstat(path, &st), 0); /* killed: it took nothing away */
    struct asker nobody = {.path = path};
    ask(&nobody);
    assert_err(nobody.rc, ERR_NOT_FOUND, &nobody.err, path);

    const mode_t mask = umask(0077);
    control = open_at(path, &desk);
    umask(mask);
    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFSOCK | 0660);
    const int fd = call(path);
    say(fd, "{\"command\":\"status\"}\n");
    assert_hears(control, fd, "{\"n\":1}\n");

    struct control *second = NULL;
    snprintf(words, sizeof words, "process %ld ", (long)getpid());
    assert_err(control_open(path, reply, &desk, &second, &err), ERR_STATE, &err, words);
    say(fd, "{\"command\":\"status\"}\n");
    assert_hears(control, fd, "{\"n\":2}\n");

    control_close(control);
    assert_int_equal(lstat(path, &st), -1);
    control = open_at(path, &desk);
    control_close(control);
    control_close(NULL);
    close(fd);
}

static void bad_places_are_refused(void **state)
{
    struct control *control = NULL;
    struct err err = {0};
    char path[400], long_path[200];
    const char *dir = test_temp_dir();

    snprintf(path, sizeof path, "%s/none/s", dir);
    assert_err(control_open(path, reply, NULL, &control, &err), ERR_IO, &err, "/none/s.lock: No such file");
    snprintf(path, sizeof path, "%s/file", dir);
    fclose(fopen(path, "w"));
    assert_err(control_open(path, reply, NULL, &control, &err), ERR_IO, &err, "/file is there and is no socket");
    memset(long_path, 'a', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    assert_err(control_open(long_path, reply, NULL, &control, &err), ERR_INVAL, &err, "107 bytes");
    assert_err(control_open("", reply, NULL, &control, &err), ERR_INVAL, &err, "1 to 107");

    setenv("RUNTIME_DIRECTORY", path, 1);
    assert_err(control_open(NULL, reply, NULL, &control, &err), ERR_IO, &err, "/file is no directory");
    snprintf(path, sizeof path, "%s/one:%s/two", dir, dir); /* as systemd writes several */
    setenv("RUNTIME_DIRECTORY", path, 1);
    assert_ok(control_open(NULL, reply, NULL, &control, &err), &err);
    snprintf(path, sizeof path, "%s/one/heron.sock", dir);
    assert_string_equal(control_path(control), path);
    control_close(control);
    unsetenv("RUNTIME_DIRECTORY");
    assert_null(getenv("RUNTIME_DIRECTORY"));
}

/* ---- as another user (needs root, to become one) ------------------------------------------------------------------------- */

/* Run a part of a test as user `uid` in a child; its exit status. */
static int as_user(unsigned uid, int (*part)(const char *path), const char *path)
{
    int status = -1;
    fflush(NULL);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        unsetenv("RUNTIME_DIRECTORY");
        unsetenv("XDG_RUNTIME_DIR");
        if (setgid(uid) != 0 || setuid(uid) != 0)
            _exit(99);
        _exit(part(path));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

static int is_not_let_in(const char *path)
{
    struct err err = {0};
    char *text = NULL;
    const int rc = control_ask(path, "status", CLOCK_S, &text, &err);
    return rc == ERR_IO && !text && test_contains(err.text, "no permission") ? 0 : 1;
}

static int opens_by_itself(const char *want)
{
    struct control *control = NULL;
    struct err err = {0};
    struct stat st;
    char dir[300];
    if (control_open(NULL, reply, NULL, &control, &err) != 0 || strcmp(control_path(control), want) != 0)
        return 1;
    snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(want, '/') - want), want);
    const bool is_private = stat(dir, &st) == 0 && st.st_mode == (S_IFDIR | 0700);
    control_close(control);
    return is_private ? 0 : 2;
}

static int does_not_open(const char *words)
{
    struct control *control = NULL;
    struct err err = {0};
    return control_open(NULL, reply, NULL, &control, &err) == ERR_IO && !control && test_contains(err.text, words) ? 0 : 1;
}

static void other_users(void **state)
{
    if (geteuid() != 0)
        skip_because("only root can become another user");
    struct desk desk = {0};
    char dir[300];
    struct control *control = open_at(fresh_path(), &desk);
    snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(control_path(control), '/') - control_path(control)),
             control_path(control));
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(as_user(NOBODY, is_not_let_in, control_path(control)), 0);
    control_close(control);

    /* a user whom nothing else has: its folder in /tmp is the test's */
    const unsigned uid = 1900000000u + (unsigned)getpid() % 1000000u;
    char home[60], path[80];
    snprintf(home, sizeof home, "/tmp/heron-%u", uid);
    snprintf(path, sizeof path, "%s/heron.sock", home);
    if (access("/run/heron", F_OK) != 0) { /* a machine that runs Heron may let its users in there */
        const int opened = as_user(uid, opens_by_itself, path);
        char lock[100];
        snprintf(lock, sizeof lock, "%s.lock", path);
        unlink(lock);
        rmdir(home);
        assert_int_equal(opened, 0);

        assert_int_equal(mkdir(home, 0777), 0); /* root's: somebody was here first */
        const int refused = as_user(uid, does_not_open, "belongs to user 0");
        const int owned = chown(home, uid, uid) == 0 && chmod(home, 0777) == 0 ? as_user(uid, does_not_open, "chmod 700") : -1;
        rmdir(home);
        assert_int_equal(symlink(dir, home), 0);
        const int linked = as_user(uid, does_not_open, "is no directory");
        unlink(home);
        assert_int_equal(refused, 0);
        assert_int_equal(owned, 0);
        assert_int_equal(linked, 0);
    }
}

/* ---- asking --------------------------------------------------------------------------------------------------------------- */

/* A peer that is no daemon: listens, and answers `text` (NULL: never), then hangs up. */
struct peer {
    int listen_fd;
    const char *text;
    pthread_t thread;
};

static void *play(void *arg)
{
    struct peer *peer = arg;
    char request[200];
    const int fd = accept4(peer->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0 && recv(fd, request, sizeof request, 0) > 0 && peer->text)
        (void)!send(fd, peer->text, strlen(peer->text), MSG_NOSIGNAL);
    if (!peer->text)
        (void)!recv(fd, request, sizeof request, 0); /* until the other side gives up */
    close(fd);
    return NULL;
}

static int ask_peer(const char *text, int64_t timeout_ns, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct peer peer = {.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), .text = text};
    char *got = NULL;
    snprintf(address.sun_path, sizeof address.sun_path, "%.100s", fresh_path());
    assert_int_equal(bind(peer.listen_fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(peer.listen_fd, 1), 0);
    assert_int_equal(pthread_create(&peer.thread, NULL, play, &peer), 0);
    const int rc = control_ask(address.sun_path, "status", timeout_ns, &got, err);
    pthread_join(peer.thread, NULL);
    close(peer.listen_fd);
    if (rc == 0)
        assert_string_equal(got, "{\"a\":1}");
    else
        assert_null(got);
    free(got);
    return rc;
}

static void asks_and_says_what_went_wrong(void **state)
{
    struct err err = {0};
    char *text = NULL, long_path[200];
    assert_ok(ask_peer("{\"a\":1}\n", PATIENT_NS, &err), &err);
    assert_err(ask_peer("", PATIENT_NS, &err), ERR_IO, &err, "hung up without an answer");
    assert_err(ask_peer("{\"a\":1}", PATIENT_NS, &err), ERR_IO, &err, "hung up without an answer");
    assert_err(ask_peer("hello\n", PATIENT_NS, &err), ERR_FORMAT, &err, "no JSON object: hello");
    assert_err(ask_peer("[]\n", PATIENT_NS, &err), ERR_FORMAT, &err, "no JSON object: []");
    assert_err(ask_peer(NULL, 50 * CLOCK_MS, &err), ERR_TIMEOUT, &err, "does not answer within");

    const char *path = fresh_path();
    assert_err(control_ask(path, "status", CLOCK_S, &text, &err), ERR_NOT_FOUND, &err, "no daemon runs");
    memset(long_path, 'a', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    assert_err(control_ask(long_path, "status", CLOCK_S, &text, &err), ERR_INVAL, &err, "at most 107");
    assert_err(control_ask(path, "\xFF", CLOCK_S, &text, &err), ERR_INVAL, &err, "UTF-8");
    assert_null(text);
}

static void looks_where_a_daemon_would_be(void **state)
{
    struct desk desk = {0};
    struct control *control = NULL;
    struct err err = {0};
    struct asker asker = {0};
    setenv("RUNTIME_DIRECTORY", test_temp_dir(), 1);
    assert_ok(control_open(NULL, reply, &desk, &control, &err), &err);
    assert_int_equal(pthread_create(&asker.thread, NULL, ask, &asker), 0);
    const int64_t deadline_ns = clock_now_ns() + PATIENT_NS;
    while (desk.n_answered == 0 && clock_now_ns() < deadline_ns) {
        struct pollfd p = {.fd = control_fd(control), .events = POLLIN};
        poll(&p, 1, 100);
        control_step(control);
    }
    pthread_join(asker.thread, NULL);
    assert_ok(asker.rc, &asker.err);
    assert_string_equal(asker.reply, "{\"n\":1}");
    free(asker.reply);
    control_close(control);
    unsetenv("RUNTIME_DIRECTORY");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_line_by_line),
        cmocka_unit_test(garbage_gets_an_error_and_the_line_goes_on),
        cmocka_unit_test(a_line_has_an_end),
        cmocka_unit_test_teardown(who_is_silent_is_closed, use_real_clock),
        cmocka_unit_test(a_long_reply_goes_in_pieces),
        cmocka_unit_test_teardown(those_who_find_no_room_wait, use_real_clock),
        cmocka_unit_test(twenty_ask_at_once),
        cmocka_unit_test_teardown(no_descriptors_is_a_pause, use_real_clock),
        cmocka_unit_test(only_one_daemon),
        cmocka_unit_test(bad_places_are_refused),
        cmocka_unit_test(other_users),
        cmocka_unit_test(asks_and_says_what_went_wrong),
        cmocka_unit_test(looks_where_a_daemon_would_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
