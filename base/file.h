/*
 * file - writing a whole file in one go.
 *
 * Threads: any; two writers of one path must not run at once. Memory: none.
 */
#ifndef HERON_BASE_FILE_H
#define HERON_BASE_FILE_H

#include <stddef.h>

#include "base/err.h"

/*
 * Make `path` hold exactly these bytes: they are written to `path`.part beside it, which then takes its name, so that a reader finds the old
 * file or the new one whole. Not synced: a power cut may cost the file, never mix it. On failure `path` is as it was and nothing lies beside it.
 *
 * Errors: ERR_NOT_FOUND (no such folder), ERR_IO.
 */
int file_write(const char *path, const void *bytes, size_t n_bytes, struct err *err);

#endif
