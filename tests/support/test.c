#include "tests/support/test.h"

#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool test_contains(const char *text, const char *words)
{
    return strstr(text, words) != NULL;
}

#define TEMP_DIRS 16
static char temp_dirs[TEMP_DIRS][256];
static int n_temp_dirs;
static pid_t temp_owner;

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

static void remove_temp_dirs(void)
{
    if (getpid() != temp_owner) /* a forked child leaves the parent's folders alone */
        return;
    for (int i = 0; i < n_temp_dirs; i++)
        nftw(temp_dirs[i], remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *test_temp_dir(void)
{
    if (n_temp_dirs == TEMP_DIRS)
        fail_msg("a test program has room for %d temporary folders", TEMP_DIRS);
    if (n_temp_dirs == 0) {
        temp_owner = getpid();
        atexit(remove_temp_dirs);
    }
    const char *root = getenv("TMPDIR");
    char *dir = temp_dirs[n_temp_dirs];
    snprintf(dir, sizeof temp_dirs[0], "%s/heron-test-XXXXXX", root ? root : "/tmp");
    if (!mkdtemp(dir))
        fail_msg("cannot make %s", dir);
    n_temp_dirs++;
    return dir;
}

char *test_read_file(const char *path, size_t *ret_n)
{
    struct stat st;
    FILE *f = fopen(path, "rbe");
    if (!f || fstat(fileno(f), &st) != 0)
        fail_msg("%s: cannot open (tests run in the repository's root)", path);
    const size_t n = (size_t)st.st_size;
    char *bytes = malloc(n + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, n, f), n);
    fclose(f);
    bytes[n] = '\0';
    if (ret_n)
        *ret_n = n;
    return bytes;
}

void test_write_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wbe");
    if (!f)
        fail_msg("%s: cannot be written", path);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

void test_write_text(const char *path, const char *text)
{
    test_write_file(path, text, strlen(text));
}

double test_nmse(const float *a, const float *b, size_t n)
{
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (double)b[i];
        diff += d * d;
        norm += (double)b[i] * (double)b[i];
    }
    if (diff == 0)
        return 0;
    return norm > 0 ? diff / norm : 1e300;
}

const char *test_device(void)
{
    const char *device = getenv("HERON_TEST_DEVICE");
    return device && *device ? device : "cpu";
}
