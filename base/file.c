/* file - written beside, then renamed. */
#include "base/file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

int file_write(const char *path, const void *bytes, size_t n_bytes, struct err *err)
{
    char part[PATH_MAX];
    const int n = snprintf(part, sizeof part, "%s.part", path);
    if (n < 0 || (size_t)n >= sizeof part)
        return err_set(err, ERR_IO, "%.200s...: the path is longer than %d bytes", path, PATH_MAX - 6);
    FILE *file = fopen(part, "wbe");
    if (!file)
        return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot write %s", path);
    bool is_written = fwrite(bytes, 1, n_bytes, file) == n_bytes;
    int error = errno;
    if (fclose(file) != 0 && is_written) { /* a full disk may show only now */
        is_written = false;
        error = errno;
    }
    if (is_written && rename(part, path) != 0) {
        is_written = false;
        error = errno;
    }
    if (is_written)
        return 0;
    unlink(part);
    errno = error;
    return err_set_errno(err, ERR_IO, "cannot write %s", path);
}
