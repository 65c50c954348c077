/* file - written beside, then renamed. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define FILE_BESIDE_BYTES 14 /* ".12345678.part" */
#define FILE_TRIES        16 /* names that are there already */

/* A new file beside `path`, under a name that was nobody's: never one that somebody else made, nor what a link there names. -1: errno says why. */
static int file_open_beside(const char *path, char beside[PATH_MAX])
{
    for (int i_try = 0; i_try < FILE_TRIES; i_try++) {
        uint32_t random;
        if (getrandom(&random, sizeof random, 0) != sizeof random)
            return -1;
        snprintf(beside, PATH_MAX, "%s.%08x.part", path, (unsigned)random);
        const int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

/* All of it; errno on failure. */
static bool file_put(int fd, const char *bytes, size_t n_bytes)
{
    while (n_bytes > 0) {
        const ssize_t n = write(fd, bytes, n_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n < 0 ? errno : EIO;
            return false;
        }
        bytes += n;
        n_bytes -= (size_t)n;
    }
    return true;
}

int file_write(const char *path, const void *bytes, size_t n_bytes, struct err *err)
{
    char beside[PATH_MAX];
    if (strlen(path) + FILE_BESIDE_BYTES >= sizeof beside)
        return err_set(err, ERR_IO, "cannot write %.200s...: the path is longer than %d bytes", path,
                       PATH_MAX - FILE_BESIDE_BYTES - 1);
    const int fd = file_open_beside(path, beside);
    if (fd < 0)
        return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot write %s", path);
    bool is_written = file_put(fd, bytes, n_bytes);
    int error = errno;
    if (close(fd) != 0 && is_written) { /* a full disk may show only now */
        is_written = false;
        error = errno;
    }
    if (is_written && rename(beside, path) != 0) {
        is_written = false;
        error = errno;
    }
    if (is_written)
        return 0;
    unlink(beside);
    errno = error;
    return err_set_errno(err, ERR_IO, "cannot write %s", path);
}
