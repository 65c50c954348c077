#include "engine/kv_cache.h"

#include <assert.h>
#include <stdlib.h>

static int32_t full_layers(const struct model_shape *shape)
{
    int32_t n = 0;
    for (int32_t i = 0; i < shape->n_layers; i++)
        n += !shape->is_linear[i];
    return n;
}

static size_t layer_page_bytes(const struct model_shape *shape, enum kn_dtype dtype)
{
    return kn_row_bytes(dtype, shape->head_dim) * (size_t)shape->n_head_kv * KN_PAGE_TOKENS;
}

size_t kv_cache_page_bytes(const struct model_shape *shape, enum kn_dtype dtype)
{
    return layer_page_bytes(shape, dtype) * 2 * (size_t)full_layers(shape);
}

int kv_cache_open(struct kv_cache *kv, struct kn_device *device, const struct model_shape *shape, enum kn_dtype dtype,
                  int32_t n_pages, struct err *err)
{
    *kv = (struct kv_cache){.device = device, .n_pages = n_pages, .n_layers = full_layers(shape)};
    kv->page_bytes = layer_page_bytes(shape, dtype);
    if (kv->page_bytes == 0)
        return err_set(err, ERR_UNSUPPORTED, "a %s KV cache needs a head size that is a multiple of %u, this model's is %d",
                       kn_dtype_name(dtype), kn_dtype_info(dtype)->block_elems, shape->head_dim);
    kv->layers = calloc((size_t)kv->n_layers, sizeof *kv->layers);
    kv->refs = calloc((size_t)n_pages, sizeof *kv->refs);
    kv->free_list = calloc((size_t)n_pages, sizeof *kv->free_list);
    int rc = 0;
    if ((kv->n_layers && !kv->layers) || !kv->refs || !kv->free_list) {
        rc = err_set(err, ERR_NOMEM, "out of memory: tables of %d KV pages", n_pages);
        goto fail;
    }
    for (int32_t i = 0; i < kv->n_layers; i++) {
        struct kn_kv *layer = &kv->layers[i];
        *layer = (struct kn_kv){.dtype = dtype, .n_pages = n_pages, .n_heads = shape->n_head_kv, .head_dim = shape->head_dim};
        if ((rc = kn_alloc(device, kv->page_bytes * (size_t)n_pages, &layer->k, err)) != 0 ||
            (rc = kn_alloc(device, kv->page_bytes * (size_t)n_pages, &layer->v, err)) != 0) {
            err_prefix(err, "KV cache of %d pages", n_pages);
            goto fail;
        }
    }
    /* lowest pages first: a short run touches little memory */
    for (int32_t i = 0; i < n_pages; i++)
        kv->free_list[i] = n_pages - 1 - i;
    kv->n_free = n_pages;
    return 0;
fail:
    kv_cache_close(kv);
    return rc;
}

void kv_cache_close(struct kv_cache *kv)
{
    for (int32_t i = 0; kv->layers && i < kv->n_layers; i++) {
        kn_free(kv->device, kv->layers[i].k);
        kn_free(kv->device, kv->layers[i].v);
    }
    free(kv->layers);
    free(kv->refs);
    free(kv->free_list);
    *kv = (struct kv_cache){0};
}

int32_t kv_cache_take(struct kv_cache *kv)
{
    if (kv->n_free == 0)
        return -1;
    const int32_t page = kv->free_list[--kv->n_free];
    assert(kv->refs[page] == 0);
    kv->refs[page] = 1;
    return page;
}

void kv_cache_ref(struct kv_cache *kv, int32_t page)
{
    assert(kv->refs[page] > 0);
    kv->refs[page]++;
}

void kv_cache_unref(struct kv_cache *kv, int32_t page)
{
    assert(kv->refs[page] > 0);
    if (--kv->refs[page] == 0)
        kv->free_list[kv->n_free++] = page;
}

int kv_cache_own(struct kv_cache *kv, const struct kn_ops *ops, struct kn_stream *stream, int32_t *page, struct err *err)
{
    if (kv->refs[*page] == 1)
        return 0;
    const int32_t fresh = kv_cache_take(kv);
    if (fresh < 0)
        return err_set(err, ERR_FULL, "no free KV page to copy a shared one into (%d pages)", kv->n_pages);
    for (int32_t i = 0; i < kv->n_layers; i++) {
        char *k = kv->layers[i].k, *v = kv->layers[i].v;
        const size_t from = (size_t)*page * kv->page_bytes, to = (size_t)fresh * kv->page_bytes;
        ops->copy(stream, &(struct kn_copy_args){.dst = k + to, .src = k + from, .bytes = kv->page_bytes});
        ops->copy(stream, &(struct kn_copy_args){.dst = v + to, .src = v + from, .bytes = kv->page_bytes});
    }
    kv_cache_unref(kv, *page);
    *page = fresh;
    return 0;
}
