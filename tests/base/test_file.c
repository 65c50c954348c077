/* A file is written whole or not at all, whoever else writes, and through no link. */
#include "tests/support/test.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

static char folder[300];

static int fresh_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s", test_temp_dir());
    return 0;
}

static const char *in(const char *name)
{
    static char path[320];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* Names in the folder but . and .. */
static int n_names(void)
{
    int n = -2;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void holds(const char *name, const char *want)
{
    size_t n;
    char *text = test_read_file(in(name), &n);
    assert_int_equal(n, strlen(want));
    assert_memory_equal(text, want, n);
    free(text);
}

static void replaces(void **state)
{
    struct err err = {0};
    struct stat st;
    assert_ok(file_write(in("a"), "first, and longer", 17, &err), &err);
    holds("a", "first, and longer");
    assert_ok(file_write(in("a"), "second", 6, &err), &err);
    holds("a", "second");
    assert_ok(file_write(in("a"), NULL, 0, &err), &err);
    holds("a", "");
    assert_int_equal(n_names(), 1);
    const mode_t mask = umask(027);
    assert_ok(file_write(in("b"), "x", 1, &err), &err);
    umask(mask);
    assert_int_equal(stat(in("b"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
}

/* Many writes of one call: more than a pipe or a page takes. */
static void large(void **state)
{
    enum { N = 5 << 20 };
    struct err err = {0};
    size_t n;
    char *bytes = malloc(N);
    assert_non_null(bytes);
    for (size_t i = 0; i < N; i++)
        bytes[i] = (char)(i * 2654435761u >> 13);
    assert_ok(file_write(in("large"), bytes, N, &err), &err);
    char *back = test_read_file(in("large"), &n);
    assert_int_equal(n, N);
    assert_memory_equal(back, bytes, N);
    free(back);
    free(bytes);
}

static void refuses(void **state)
{
    struct err err = {0};
    char *path = malloc(PATH_MAX + 100);
    assert_non_null(path);
    assert_err(file_write(in("no/such"), "x", 1, &err), ERR_NOT_FOUND, &err, "no/such: No such file");
    err_clear(&err);
    test_write_text(in("file"), "mine");
    assert_err(file_write(in("file/below"), "x", 1, &err), ERR_IO, &err, "file/below: Not a directory");
    err_clear(&err);
    assert_int_equal(mkdir(in("taken"), 0700), 0); /* a folder of that name: what was written beside goes */
    assert_err(file_write(in("taken"), "x", 1, &err), ERR_IO, &err, "taken: Is a directory");
    err_clear(&err);
    assert_err(file_write("", "x", 1, &err), ERR_IO, &err, "cannot write"); /* beside nothing there is something */
    err_clear(&err);
    memset(path, 'a', PATH_MAX + 99);
    path[PATH_MAX + 99] = '\0';
    assert_err(file_write(path, "x", 1, &err), ERR_IO, &err, "the path is longer than");
    err_clear(&err);
    memcpy(path, folder, strlen(folder)); /* one name too long for a file system, in a path that is not */
    path[strlen(folder)] = '/';
    path[strlen(folder) + 260] = '\0';
    assert_err(file_write(path, "x", 1, &err), ERR_IO, &err, "File name too long");
    assert_int_equal(n_names(), 2);
    holds("file", "mine");
    free(path);
}

static void a_folder_that_is_closed(void **state)
{
    struct err err = {0};
    if (geteuid() == 0)
        skip_because("root writes anywhere");
    test_write_text(in("a"), "old");
    assert_int_equal(chmod(folder, 0500), 0);
    const int rc = file_write(in("a"), "new", 3, &err);
    assert_int_equal(chmod(folder, 0700), 0);
    assert_err(rc, ERR_IO, &err, "/a: Permission denied");
    holds("a", "old");
}

/* A disk that is full in the middle of a file: as no more than so many bytes may be written. */
static void full_disk(void **state)
{
    struct err err = {0};
    struct rlimit before, small;
    static char bytes[100000];
    test_write_text(in("a"), "old");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    small = (struct rlimit){30000, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const int rc = file_write(in("a"), bytes, sizeof bytes, &err), rc_new = file_write(in("b"), bytes, sizeof bytes, NULL);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    assert_err(rc, ERR_IO, &err, "/a: File too large");
    assert_int_equal(rc_new, ERR_IO);
    holds("a", "old");
    assert_int_equal(n_names(), 1);
}

/* Neither a link of the name itself nor one that lies beside under a name that could be guessed leads elsewhere. */
static void follows_no_link(void **state)
{
    struct err err = {0};
    struct stat st;
    char to[320];
    snprintf(to, sizeof to, "%s", in("precious"));
    test_write_text(to, "precious");
    assert_int_equal(symlink(to, in("a")), 0);
    assert_int_equal(symlink(to, in("a.part")), 0);
    assert_ok(file_write(in("a"), "new", 3, &err), &err);
    holds("precious", "precious");
    holds("a", "new");
    assert_int_equal(lstat(in("a"), &st), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(lstat(in("a.part"), &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(n_names(), 3);
}

/* Four processes write one path at the same time; whoever reads sees one of their files, whole. */
static void many_writers(void **state)
{
    enum { WRITERS = 4, ROUNDS = 100, N = 20000 };
    pid_t pids[WRITERS];
    static char bytes[N];
    struct err err = {0};
    int n_running = WRITERS, n_read = 0, status;
    char path[320];
    snprintf(path, sizeof path, "%s", in("a"));
    assert_ok(file_write(path, "A", 1, &err), &err);
    fflush(NULL);
    for (int w = 0; w < WRITERS; w++) {
        pids[w] = fork();
        assert_true(pids[w] >= 0);
        if (pids[w] == 0) {
            int rc = 0;
            memset(bytes, 'A' + w, N);
            for (int i = 0; i < ROUNDS && rc == 0; i++)
                rc = file_write(path, bytes, (size_t)(1 + (i * 199 + w * 31) % N), NULL);
            _exit(rc != 0);
        }
    }
    for (int w = 0; n_running > 0; w = (w + 1) % WRITERS) {
        size_t n;
        char *text = test_read_file(path, &n);
        assert_true(n >= 1 && n <= N);
        for (size_t i = 1; i < n; i++)
            if (text[i] != text[0])
                fail_msg("byte %zu of %zu is %c behind %c", i, n, text[i], text[0]);
        free(text);
        n_read++;
        if (pids[w] && waitpid(pids[w], &status, WNOHANG) == pids[w]) {
            pids[w] = 0;
            n_running--;
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        }
    }
    assert_true(n_read >= WRITERS);
    assert_int_equal(n_names(), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(replaces, fresh_folder),     cmocka_unit_test_setup(large, fresh_folder),
        cmocka_unit_test_setup(refuses, fresh_folder),      cmocka_unit_test_setup(a_folder_that_is_closed, fresh_folder),
        cmocka_unit_test_setup(full_disk, fresh_folder),    cmocka_unit_test_setup(follows_no_link, fresh_folder),
        cmocka_unit_test_setup(many_writers, fresh_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
