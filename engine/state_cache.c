#include "engine/state_cache.h"

#include <assert.h>
#include <stdlib.h>

static int32_t linear_layers(const struct model_shape *shape)
{
    int32_t n = 0;
    for (int32_t i = 0; i < shape->n_layers; i++)
        n += shape->is_linear[i];
    return n;
}

static size_t conv_slot_bytes(const struct model_shape *s)
{
    const size_t channels = 2 * (size_t)s->n_k * (size_t)s->d_k + (size_t)s->n_v * (size_t)s->d_v;
    return channels * (size_t)(s->conv_taps - 1) * sizeof(float);
}

size_t state_cache_slot_bytes(const struct model_shape *s)
{
    return (conv_slot_bytes(s) + kn_gdn_state_bytes(s->n_k, s->n_v, s->d_k, s->d_v)) * (size_t)linear_layers(s);
}

size_t state_cache_read_bytes(const struct model_shape *s)
{
    const size_t rule = (size_t)s->n_v * (size_t)s->d_k * (size_t)s->d_v * sizeof(float);
    return (conv_slot_bytes(s) + rule) * (size_t)linear_layers(s);
}

int state_cache_open(struct state_cache *sc, struct kn_device *device, const struct model_shape *s, int32_t n_slots,
                     struct err *err)
{
    *sc = (struct state_cache){.device = device, .n_layers = linear_layers(s), .n_slots = n_slots};
    sc->conv_bytes = conv_slot_bytes(s);
    sc->gdn_bytes = kn_gdn_state_bytes(s->n_k, s->n_v, s->d_k, s->d_v);
    sc->layers = calloc((size_t)sc->n_layers + 1, sizeof *sc->layers);
    sc->free_list = calloc((size_t)n_slots, sizeof *sc->free_list);
    int rc = 0;
    if (!sc->layers || !sc->free_list) {
        rc = err_set(err, ERR_NOMEM, "out of memory: tables of %d state slots", n_slots);
        goto fail;
    }
    for (int32_t i = 0; i < sc->n_layers; i++) {
        struct state_layer *layer = &sc->layers[i];
        void *conv = NULL, *gdn = NULL;
        rc = kn_alloc(device, sc->conv_bytes * (size_t)n_slots, &conv, err);
        if (rc == 0)
            rc = kn_alloc(device, sc->gdn_bytes * (size_t)n_slots, &gdn, err);
        layer->conv = conv;
        layer->gdn = (struct kn_gdn_state){.data = gdn, .bytes_per_slot = sc->gdn_bytes, .n_slots = n_slots};
        if (rc != 0) {
            err_prefix(err, "recurrent state of %d sessions", n_slots);
            goto fail;
        }
    }
    for (int32_t i = 0; i < n_slots; i++)
        sc->free_list[i] = n_slots - 1 - i;
    sc->n_free = n_slots;
    return 0;
fail:
    state_cache_close(sc);
    return rc;
}

void state_cache_close(struct state_cache *sc)
{
    for (int32_t i = 0; sc->layers && i < sc->n_layers; i++) {
        kn_free(sc->device, sc->layers[i].conv);
        kn_free(sc->device, sc->layers[i].gdn.data);
    }
    free(sc->layers);
    free(sc->free_list);
    *sc = (struct state_cache){0};
}

static void *conv_at(const struct state_cache *sc, int32_t layer, int32_t slot)
{
    return (char *)sc->layers[layer].conv + (size_t)slot * sc->conv_bytes;
}

static void *gdn_at(const struct state_cache *sc, int32_t layer, int32_t slot)
{
    return (char *)sc->layers[layer].gdn.data + (size_t)slot * sc->gdn_bytes;
}

int32_t state_cache_take(struct state_cache *sc, const struct kn_ops *ops, struct kn_stream *stream)
{
    if (sc->n_free == 0)
        return -1;
    const int32_t slot = sc->free_list[--sc->n_free];
    for (int32_t i = 0; i < sc->n_layers; i++) {
        ops->fill_zero(stream, &(struct kn_fill_zero_args){.dst = conv_at(sc, i, slot), .bytes = sc->conv_bytes});
        ops->fill_zero(stream, &(struct kn_fill_zero_args){.dst = gdn_at(sc, i, slot), .bytes = sc->gdn_bytes});
    }
    return slot;
}

void state_cache_put(struct state_cache *sc, int32_t slot)
{
    assert(slot >= 0 && slot < sc->n_slots && sc->n_free < sc->n_slots);
    sc->free_list[sc->n_free++] = slot;
}

void state_cache_copy(struct state_cache *sc, const struct kn_ops *ops, struct kn_stream *stream, int32_t src, int32_t dst)
{
    for (int32_t i = 0; i < sc->n_layers; i++) {
        ops->copy(stream,
                  &(struct kn_copy_args){.dst = conv_at(sc, i, dst), .src = conv_at(sc, i, src), .bytes = sc->conv_bytes});
        ops->copy(stream, &(struct kn_copy_args){.dst = gdn_at(sc, i, dst), .src = gdn_at(sc, i, src), .bytes = sc->gdn_bytes});
    }
}

void state_cache_download(struct state_cache *sc, struct kn_stream *stream, int32_t slot, void *host)
{
    char *p = host;
    for (int32_t i = 0; i < sc->n_layers; i++) {
        kn_download(stream, p, conv_at(sc, i, slot), sc->conv_bytes);
        kn_download(stream, p + sc->conv_bytes, gdn_at(sc, i, slot), sc->gdn_bytes);
        p += sc->conv_bytes + sc->gdn_bytes;
    }
}

void state_cache_upload(struct state_cache *sc, struct kn_stream *stream, int32_t slot, const void *host)
{
    const char *p = host;
    for (int32_t i = 0; i < sc->n_layers; i++) {
        kn_upload(stream, conv_at(sc, i, slot), p, sc->conv_bytes);
        kn_upload(stream, gdn_at(sc, i, slot), p + sc->conv_bytes, sc->gdn_bytes);
        p += sc->conv_bytes + sc->gdn_bytes;
    }
}
