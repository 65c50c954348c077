/*
 * file - writing a whole file in one go.
 *
 * Threads and processes: any, also several for one path; the last to finish is who stays. Memory: none.
 */
#ifndef HERON_BASE_FILE_H
#define HERON_BASE_FILE_H

#include <stddef.h>

#include "base/err.h"

/*
 * Make `path` hold exactly these bytes (none: bytes may be NULL): they are written to a new file beside it, `path`.XXXXXXXX.part, which then takes its name, so that a
 * reader finds the old file or the new one whole. No symbolic link is followed: one at `path` is replaced. Rights are those of a
 * new file. Not synced: a power cut may cost the file, never mix it; a process that is killed meanwhile may leave the .part.
 * On failure `path` is as it was and nothing lies beside it.
 *
 * Errors: ERR_NOT_FOUND (no such folder), ERR_IO (also a path that is too long).
 */
int file_write(const char *path, const void *bytes, size_t n_bytes, struct err *err);

#endif
