/*
 * secret - a password by reference: where it is, not what it is.
 *
 * The configuration holds only references; secret_read fetches the text at the moment it is used. Nothing prints it.
 *
 * Threads: pure but for secret_read, any thread. Memory: the caller's buffers.
 */
#ifndef HERON_APPLIANCE_SECRET_H
#define HERON_APPLIANCE_SECRET_H

#include <stddef.h>

#include "base/err.h"

enum secret_kind {
    SECRET_NONE,
    SECRET_CREDENTIAL, /* a file of $CREDENTIALS_DIRECTORY (systemd's LoadCredential=) */
    SECRET_FILE,
    SECRET_ENV,
};

struct secret_ref {
    enum secret_kind kind;
    char *name; /* credential, path or variable; owned by whoever owns the struct */
};

#define SECRET_MAX_BYTES 1024

/*
 * Fetch the text without its last newline into out[SECRET_MAX_BYTES + 1]. `what` names the key in errors. SECRET_NONE gives "".
 * Errors: ERR_NOT_FOUND (no such credential, file or variable), ERR_IO, ERR_FORMAT (too long, or a NUL inside).
 */
int secret_read(const struct secret_ref *ref, const char *what, char *out, struct err *err);

/* Overwrite a buffer in a way the compiler keeps. */
void secret_wipe(void *bytes, size_t n_bytes);

#endif
