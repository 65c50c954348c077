/*
 * kv_cache - keys and values of the full-attention layers, in pages shared by all sessions.
 *
 * Every full-attention layer has one pool of n_pages pages of KN_PAGE_TOKENS tokens; page p of all layers belongs together, so
 * one page number stands for a session's tokens [64 i, 64 i + 63] in every layer. Pages are reference-counted: a fork shares
 * them, and a page that is shared is copied before it is written (kv_cache_own).
 *
 * Life cycle: kv_cache_open -> take / ref / unref / own -> kv_cache_close. Threads: the engine thread.
 * Memory: all device memory is taken at open; taking and returning pages allocates nothing.
 */
#ifndef HERON_ENGINE_KV_CACHE_H
#define HERON_ENGINE_KV_CACHE_H

#include "engine/model.h"

struct kv_cache {
    struct kn_device *device;
    struct kn_kv *layers; /* [n_layers]: one per full-attention layer, in order */
    int32_t n_layers, n_pages;
    size_t page_bytes; /* of K (or V) of one layer */
    int32_t *refs;     /* [n_pages] */
    int32_t *free_list;
    int32_t n_free;
};

/* Bytes of one page over all layers, K and V. */
size_t kv_cache_page_bytes(const struct model_shape *shape, enum kn_dtype dtype);

/* Pages that n_tokens need. */
static inline int32_t kv_cache_pages(int32_t n_tokens)
{
    return (n_tokens + KN_PAGE_TOKENS - 1) / KN_PAGE_TOKENS;
}

/* dtype: KN_F32, KN_F16 or KN_Q8_0. Errors: ERR_NOMEM, ERR_UNSUPPORTED (Q8_0 with a head size that is no multiple of 32). */
int kv_cache_open(struct kv_cache *kv, struct kn_device *device, const struct model_shape *shape, enum kn_dtype dtype,
                  int32_t n_pages, struct err *err);
void kv_cache_close(struct kv_cache *kv);

/* A page with one reference, or -1 when none is free. */
int32_t kv_cache_take(struct kv_cache *kv);
void kv_cache_ref(struct kv_cache *kv, int32_t page);
void kv_cache_unref(struct kv_cache *kv, int32_t page);

/* Make *page safe to write: a shared page is copied to a fresh one, which takes its place. Errors: ERR_FULL. */
int kv_cache_own(struct kv_cache *kv, const struct kn_ops *ops, struct kn_stream *stream, int32_t *page, struct err *err);

#endif
