/*
 * source - where a model comes from: the opened headers of its files, or a shape to be filled with noise, before anything is
 * loaded. Opening the engine, planning its memory and estimating its speed all begin here.
 *
 * Life cycle: source_open -> read -> source_close. Threads: one owner. Memory: headers on the heap; no tensor is read.
 */
#ifndef HERON_ENGINE_SOURCE_H
#define HERON_ENGINE_SOURCE_H

#include "engine/engine.h"
#include "engine/synthetic.h"
#include "engine/weights.h"

struct source {
    struct gguf *text, *vision;
    struct synthetic synthetic;
    bool is_synthetic;
    struct model_shape shape;
    struct model_shape share; /* what a member of the device has of it; shape's is_linear */
    int members;
    struct vision_shape vision_shape;
    bool has_vision;
    struct weights_plan text_plan, vision_plan;
};

/*
 * Open what `options` name; text and vision file must belong together. Closed again on failure. Errors: those of gguf_open,
 * model_shape_read, model_plan, synthetic_parse; ERR_INVAL (no model named, files of different models).
 */
int source_open(struct source *s, const struct en_options *options, struct err *err);

/* For a device of so many members: s->share and s->members, which source_open leaves as shape and 1. Errors: those of share_shape. */
int source_share(struct source *s, int members, struct err *err);

/* Takes a zeroed or half-open one. */
void source_close(struct source *s);

/* The type a tensor has here. false: it is not there (a file holds merged or split experts). */
bool source_tensor_type(const struct source *s, const struct tensor_spec *spec, bool is_vision, enum kn_dtype *ret_type);

/* What weights take on a device, or on each of its members; as in the file, where it does not know before it has them
 * (kn_weight_bytes) or is NULL. */
uint64_t source_device_bytes(const struct source *source, const struct kn_device *device);

#endif
