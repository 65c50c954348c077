/*
 * digest - SHA-256 as 64 hexadecimal digits. The only file that knows libcrypto.
 *
 * Life cycle: digest_open -> digest_add -> digest_take, which frees. Threads: one owner. Memory: heap until digest_take.
 */
#ifndef HERON_APPLIANCE_DIGEST_H
#define HERON_APPLIANCE_DIGEST_H

#include <stddef.h>

#include "base/err.h"

struct digest;

/* Errors: ERR_NOMEM. */
int digest_open(struct digest **ret_digest, struct err *err);
void digest_add(struct digest *digest, const void *bytes, size_t n_bytes);
/* The digest of all that was added; frees `digest` (NULL gives zeros). */
void digest_take(struct digest *digest, char out[65]);

#endif
