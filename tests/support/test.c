#include "tests/support/test.h"

#include <ftw.h>
#include <stdlib.h>
#include <string.h>
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
