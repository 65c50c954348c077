/* OpenSSL has a type of the name of one of base/err.h's codes */
#define ERR_STATE openssl_err_state
#include <openssl/evp.h>
#undef ERR_STATE

#include "appliance/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct digest {
    EVP_MD_CTX *ctx;
    bool is_bad;
};

int digest_open(struct digest **ret_digest, struct err *err)
{
    struct digest *d = calloc(1, sizeof *d);
    if (d)
        d->ctx = EVP_MD_CTX_new();
    if (!d || !d->ctx || EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL) != 1) {
        if (d)
            EVP_MD_CTX_free(d->ctx);
        free(d);
        return err_set(err, ERR_NOMEM, "out of memory: SHA-256");
    }
    *ret_digest = d;
    return 0;
}

void digest_add(struct digest *d, const void *bytes, size_t n_bytes)
{
    d->is_bad |= EVP_DigestUpdate(d->ctx, bytes, n_bytes) != 1;
}

void digest_take(struct digest *d, char out[65])
{
    unsigned char sum[EVP_MAX_MD_SIZE] = {0};
    if (d && (d->is_bad || EVP_DigestFinal_ex(d->ctx, sum, NULL) != 1))
        memset(sum, 0, sizeof sum);
    for (int i = 0; i < 32; i++)
        snprintf(out + 2 * i, 3, "%02x", sum[i]);
    if (d)
        EVP_MD_CTX_free(d->ctx);
    free(d);
}
