/*
 * replay - a main for fuzzers: runs LLVMFuzzerTestOneInput over files, and over the files of folders, once each, so that `make
 * test` replays every corpus with an ordinary compiler.
 */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) != 0) {
        perror(path);
        return 1;
    }
    const size_t n = (size_t)st.st_size;
    /* exactly n bytes on the heap, so that a sanitizer sees a read past the end */
    uint8_t *bytes = malloc(n ? n : 1);
    int rc = 0;
    if (!bytes || fread(bytes, 1, n, f) != n) {
        perror(path);
        rc = 1;
    } else {
        LLVMFuzzerTestOneInput(bytes, n);
    }
    free(bytes);
    fclose(f);
    return rc;
}

int main(int argc, char **argv)
{
    int n = 0, rc = 0;
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (!dir) {
            rc |= replay_file(argv[i]);
            n++;
            continue;
        }
        for (struct dirent *d; (d = readdir(dir)) != NULL;) {
            char path[4096];
            if (d->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], d->d_name);
            rc |= replay_file(path);
            n++;
        }
        closedir(dir);
    }
    printf("%d inputs replayed\n", n);
    return n == 0 ? 1 : rc;
}
