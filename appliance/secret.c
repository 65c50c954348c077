#include "appliance/secret.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int read_file(const char *path, const char *what, char *out, struct err *err)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", what, path);
    char buffer[SECRET_MAX_BYTES + 2];
    size_t n = fread(buffer, 1, sizeof buffer, f);
    const int failed = ferror(f);
    fclose(f);
    int rc = 0;
    if (n && n <= SECRET_MAX_BYTES + 1 && buffer[n - 1] == '\n')
        n--;
    if (n && n <= SECRET_MAX_BYTES && buffer[n - 1] == '\r')
        n--;
    if (failed)
        rc = err_set(err, ERR_IO, "%s: %s cannot be read", what, path);
    else if (n > SECRET_MAX_BYTES || memchr(buffer, '\0', n))
        rc = err_set(err, ERR_FORMAT, "%s: %s: expected one line of at most %d bytes", what, path, SECRET_MAX_BYTES);
    else {
        memcpy(out, buffer, n);
        out[n] = '\0';
    }
    secret_wipe(buffer, sizeof buffer);
    return rc;
}

int secret_read(const struct secret_ref *ref, const char *what, char *out, struct err *err)
{
    char path[4096];
    const char *value;
    switch (ref->kind) {
    case SECRET_NONE: out[0] = '\0'; return 0;
    case SECRET_CREDENTIAL: {
        const char *dir = getenv("CREDENTIALS_DIRECTORY");
        if (!dir)
            return err_set(err, ERR_NOT_FOUND,
                           "%s: credential %s: there is no $CREDENTIALS_DIRECTORY (systemd sets it: LoadCredential=%s)", what,
                           ref->name, ref->name);
        if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, ref->name) >= sizeof path)
            return err_set(err, ERR_FORMAT, "%s: the path of credential %s is too long", what, ref->name);
        return read_file(path, what, out, err);
    }
    case SECRET_FILE: return read_file(ref->name, what, out, err);
    case SECRET_ENV:
        value = getenv(ref->name);
        if (!value)
            return err_set(err, ERR_NOT_FOUND, "%s: the environment has no %s", what, ref->name);
        if (strlen(value) > SECRET_MAX_BYTES)
            return err_set(err, ERR_FORMAT, "%s: %s is longer than %d bytes", what, ref->name, SECRET_MAX_BYTES);
        memcpy(out, value, strlen(value) + 1);
        return 0;
    }
    return err_set(err, ERR_STATE, "%s: no such kind of secret", what);
}

void secret_wipe(void *bytes, size_t n_bytes)
{
    explicit_bzero(bytes, n_bytes);
}
