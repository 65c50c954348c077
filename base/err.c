#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void err_vformat(struct err *err, int code, const char *fmt, va_list ap)
{
    err->code = code;
    vsnprintf(err->text, sizeof err->text, fmt, ap);
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        err_vformat(err, code, fmt, ap);
        va_end(ap);
    }
    return code;
}

int err_set_errno(struct err *err, int code, const char *fmt, ...)
{
    const int saved = errno;
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        err_vformat(err, code, fmt, ap);
        va_end(ap);
        const size_t n = strlen(err->text);
        snprintf(err->text + n, sizeof err->text - n, ": %s", strerror(saved));
    }
    return code;
}

int err_prefix(struct err *err, const char *fmt, ...)
{
    if (!err || err->code == ERR_OK)
        return ERR_INVAL;
    char cause[sizeof err->text];
    memcpy(cause, err->text, sizeof cause);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    const size_t n = strlen(err->text);
    /* A very long cause is cut at its end: its beginning names the thing. */
    snprintf(err->text + n, sizeof err->text - n, ": %.*s", (int)sizeof cause, cause);
    return err->code;
}

void err_clear(struct err *err)
{
    if (err) {
        err->code = ERR_OK;
        err->text[0] = '\0';
    }
}

const char *err_name(int code)
{
    switch (code) {
    case ERR_OK: return "ok";
    case ERR_INVAL: return "invalid";
    case ERR_IO: return "io";
    case ERR_FORMAT: return "format";
    case ERR_UNSUPPORTED: return "unsupported";
    case ERR_NOMEM: return "out of memory";
    case ERR_FULL: return "full";
    case ERR_TIMEOUT: return "timeout";
    case ERR_CANCELLED: return "cancelled";
    case ERR_NOT_FOUND: return "not found";
    case ERR_DEVICE: return "device";
    case ERR_STATE: return "state";
    case ERR_AGAIN: return "again";
    default: return "unknown";
    }
}
