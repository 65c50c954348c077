#include "tests/support/test.h"

#include "tests/support/program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ENV_MAX  512
#define NO_EXEC  127 /* the shell's word for a program that cannot be executed */
#define POLL_US  2000
#define PIPE_MAX 65536

extern char **environ;

static int64_t program_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

const char *program_heron(void)
{
    static char path[4096 + 16];
    const char *given = getenv("HERON_PROGRAM");
    if (given)
        return given;
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    assert_true(n > 0);
    exe[n] = '\0';
    /* $O/tests/ROOM/test_x -> $O */
    for (int i = 0; i < 3; i++) {
        char *slash = strrchr(exe, '/');
        assert_non_null(slash);
        *slash = '\0';
    }
    snprintf(path, sizeof path, "%s/heron", exe);
    return path;
}

/* A file in memory with `text` in it, read from its beginning. */
static int program_input(const char *text)
{
    const size_t n = text ? strlen(text) : 0;
    assert_true(n <= PIPE_MAX);
    const int fd = memfd_create("stdin", MFD_CLOEXEC);
    assert_true(fd >= 0);
    if (n)
        assert_int_equal(write(fd, text, n), (ssize_t)n);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

/* The environment with `more` in front of what it replaces. */
static void program_environment(const char *const *more, const char **out)
{
    size_t n = 0;
    for (; more && more[n]; n++) {
        assert_true(n < ENV_MAX);
        out[n] = more[n];
    }
    const size_t n_more = n;
    for (char **e = environ; *e; e++) {
        const size_t length = strcspn(*e, "=");
        bool is_replaced = false;
        for (size_t i = 0; i < n_more; i++)
            is_replaced |= strncmp(out[i], *e, length + 1) == 0;
        if (is_replaced)
            continue;
        assert_true(n < ENV_MAX);
        out[n++] = *e;
    }
    out[n] = NULL;
}

void program_start(struct program *p, const char *path, const char *const *args, const char *input, const char *const *env)
{
    const char *argv[PROGRAM_ARGS_MAX + 2] = {path}, *envp[ENV_MAX + 1];
    size_t n = 1;
    for (; args[n - 1]; n++) {
        assert_true(n <= PROGRAM_ARGS_MAX);
        argv[n] = args[n - 1];
    }
    argv[n] = NULL;
    program_environment(env, envp);
    if (access(path, X_OK) != 0)
        fail_msg("%s: %s (make test builds it)", path, strerror(errno));
    *p = (struct program){.status = PROGRAM_RUNNING};
    const int in_fd = program_input(input);
    p->out_fd = memfd_create("stdout", MFD_CLOEXEC);
    p->err_fd = memfd_create("stderr", MFD_CLOEXEC);
    assert_true(p->out_fd >= 0 && p->err_fd >= 0);
    fflush(NULL);
    const pid_t parent = getpid();
    p->pid = fork();
    assert_true(p->pid >= 0);
    if (p->pid == 0) {
        /* only what is safe after a fork of many threads */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent || dup2(in_fd, 0) < 0 || dup2(p->out_fd, 1) < 0 || dup2(p->err_fd, 2) < 0)
            _exit(NO_EXEC);
        execve(path, (char *const *)argv, (char *const *)envp);
        _exit(NO_EXEC);
    }
    close(in_fd);
}

static void program_note_status(struct program *p, int raw)
{
    p->status = WIFEXITED(raw) ? WEXITSTATUS(raw) : -WTERMSIG(raw);
}

int program_await(struct program *p, int time_limit_ms)
{
    const int64_t until_ms = program_now_ms() + time_limit_ms;
    while (p->pid > 0 && p->status == PROGRAM_RUNNING) {
        int raw;
        const pid_t got = waitpid(p->pid, &raw, WNOHANG);
        if (got == p->pid)
            program_note_status(p, raw);
        else if (got < 0 && errno != EINTR)
            fail_msg("waiting for a program: %s", strerror(errno));
        else if (program_now_ms() >= until_ms)
            break;
        else
            usleep(POLL_US);
    }
    return p->status;
}

void program_signal(const struct program *p, int number)
{
    if (p->pid > 0 && p->status == PROGRAM_RUNNING)
        kill(p->pid, number);
}

/* pread: the file's position belongs to the child. */
static char *program_read(int fd, size_t *ret_n)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    char *text = malloc((size_t)st.st_size + 1);
    assert_non_null(text);
    size_t n = 0;
    for (ssize_t got; n < (size_t)st.st_size && (got = pread(fd, text + n, (size_t)st.st_size - n, (off_t)n)) > 0;)
        n += (size_t)got;
    text[n] = '\0';
    *ret_n = n;
    return text;
}

char *program_text(const struct program *p, bool is_stderr)
{
    size_t n;
    return program_read(is_stderr ? p->err_fd : p->out_fd, &n);
}

bool program_await_text(struct program *p, bool is_stderr, const char *words, int time_limit_ms)
{
    const int64_t until_ms = program_now_ms() + time_limit_ms;
    for (;;) {
        const bool has_ended = program_await(p, 0) != PROGRAM_RUNNING; /* before the look, so that the last words count */
        char *text = program_text(p, is_stderr);
        const bool is_there = test_contains(text, words);
        free(text);
        if (is_there || has_ended || program_now_ms() >= until_ms)
            return is_there;
        usleep(POLL_US);
    }
}

void program_release(struct program *p)
{
    if (p->pid <= 0)
        return;
    if (program_await(p, 0) == PROGRAM_RUNNING) {
        int raw;
        kill(p->pid, SIGKILL);
        while (waitpid(p->pid, &raw, 0) < 0 && errno == EINTR)
            ;
    }
    close(p->out_fd);
    close(p->err_fd);
    *p = (struct program){0};
}

int program_run(const char *const *args, const char *input, int time_limit_ms, struct program_result *ret_result)
{
    struct program p;
    program_start(&p, program_heron(), args, input, NULL);
    struct program_result r = {.status = program_await(&p, time_limit_ms)};
    if (r.status == PROGRAM_RUNNING)
        program_signal(&p, SIGKILL), program_await(&p, time_limit_ms);
    r.out = program_read(p.out_fd, &r.n_out);
    r.err = program_read(p.err_fd, &r.n_err);
    program_release(&p);
    *ret_result = r;
    return r.status;
}

void program_result_free(struct program_result *r)
{
    free(r->out);
    free(r->err);
    *r = (struct program_result){0};
}
