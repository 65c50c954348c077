/*
 * state_cache - the recurrent state of the Gated DeltaNet layers: one slot a session.
 *
 * A slot holds, per linear layer, the last taps - 1 raw inputs of the convolution and the state of the delta rule
 * (kn_gdn_state). It cannot be cut back to an earlier token: a fork or a snapshot is a copy of a whole slot, taken exactly at
 * the token where it is wanted.
 *
 * Threads: the engine thread. Memory: all device memory is taken at open.
 */
#ifndef HERON_ENGINE_STATE_CACHE_H
#define HERON_ENGINE_STATE_CACHE_H

#include "engine/model.h"

struct state_layer {
    float *conv; /* [n_slots, taps - 1, C] */
    struct kn_gdn_state gdn;
};

struct state_cache {
    struct kn_device *device;
    struct state_layer *layers; /* [n_layers]: one per linear layer, in order */
    int32_t n_layers, n_slots;
    size_t conv_bytes, gdn_bytes; /* of one slot in one layer */
    int32_t *free_list;
    int32_t n_free;
};

/* Bytes of one slot over all layers. */
size_t state_cache_slot_bytes(const struct model_shape *shape);

/* Of the state itself, as one step reads it: S of every head and the inputs of the convolution, without what a device keeps beside them since the last border (kn_gdn_state). */
size_t state_cache_read_bytes(const struct model_shape *shape);

int state_cache_open(struct state_cache *sc, struct kn_device *device, const struct model_shape *shape, int32_t n_slots,
                     struct err *err);
void state_cache_close(struct state_cache *sc);

/* A slot at the start of a sequence (all zero), or -1 when none is free. */
int32_t state_cache_take(struct state_cache *sc, const struct kn_ops *ops, struct kn_stream *stream);
void state_cache_put(struct state_cache *sc, int32_t slot);

/* dst becomes what src is. */
void state_cache_copy(struct state_cache *sc, const struct kn_ops *ops, struct kn_stream *stream, int32_t src, int32_t dst);

/* A slot's bytes to host and back: state_cache_slot_bytes, layer by layer, convolution first. */
void state_cache_download(struct state_cache *sc, struct kn_stream *stream, int32_t slot, void *host);
void state_cache_upload(struct state_cache *sc, struct kn_stream *stream, int32_t slot, const void *host);

#endif
