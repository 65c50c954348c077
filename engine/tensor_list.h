/*
 * tensor_list - which tensors a model of some shape has: name, dimensions, role, and the field of the bound model it fills.
 *
 * The one table that loading, closing, planning, describing, noise models and the writer of small random models walk. Names and
 * dimensions: MODEL.md sections 2 and 5; the published names, not our choice.
 *
 * Threads: pure functions. Memory: none; a spec lives for the call of the visitor.
 */
#ifndef HERON_ENGINE_TENSOR_LIST_H
#define HERON_ENGINE_TENSOR_LIST_H

#include "engine/model.h"

#define TENSOR_NAME_BYTES 64

/* What a tensor holds: decides how it is kept on the device and what a random model puts into it (engine/synthetic.h). */
enum tensor_role {
    TENSOR_MATRIX, /* struct kn_weight in its own type; its random values are whole numbers times 2^spec.gain */
    TENSOR_ROUTER, /* struct kn_weight, always F32 on the device */
    /* the rest are vectors: f32 on the device */
    TENSOR_NORM,
    TENSOR_BIAS,
    TENSOR_SSM_A,
    TENSOR_SSM_DT,
    TENSOR_CONV,
    TENSOR_GATE,     /* the shared expert's gate row */
    TENSOR_POSITION, /* learned positions */
};

enum {
    TENSOR_TIED_HEAD = 1 << 0, /* the embedding of a tied model: the head too, so read whole per token */
    TENSOR_EMBEDDING = 1 << 1, /* only one row is read per token */
    TENSOR_EXPERTS = 1 << 2,   /* stack of experts: a share is read per token */
    TENSOR_MERGED = 1 << 3,    /* gate and up experts in one: present instead of the two TENSOR_SPLIT of its block */
    TENSOR_SPLIT = 1 << 4,
    TENSOR_NEXTN = 1 << 5,    /* of an MTP block: known, not loaded; slot is NULL */
    TENSOR_OPTIONAL = 1 << 6, /* may be absent from the file */
    TENSOR_PATCH = 1 << 7,    /* F16 or F32 in files: {patch, patch, 3, C}, a matrix of rows 3 * patch * patch */
    TENSOR_MORE_BITS = 1 << 8 /* a type mix keeps it in the finer of its types */
};

struct tensor_spec {
    char name[TENSOR_NAME_BYTES];
    char alias[TENSOR_NAME_BYTES]; /* a second name to accept; empty: none */
    int32_t n_dims;
    int64_t ne[4]; /* fastest first; 1 where not listed */
    enum tensor_role role;
    unsigned flags;
    int gain;                   /* of matrices, router and gate: random values are u * 2^gain, see engine/synthetic.h */
    int layer;                  /* block, or -1 */
    void *slot;                 /* struct kn_weight * or kn_vec *, or NULL when the list is walked without a model */
    int64_t rows, cols, slices; /* of a weight: as struct kn_weight; of a vector: 1, all values, 1 */
};

/* Stops the walk when it returns non-zero; that becomes the walk's result. */
typedef int (*tensor_visit_fn)(void *ctx, const struct tensor_spec *spec);

/* All tensors in file order. `model` NULL: slots are NULL; otherwise model->layers has room for shape->n_layers. */
int tensor_list_text(const struct model_shape *shape, struct model *model, tensor_visit_fn visit, void *ctx);
int tensor_list_vision(const struct vision_shape *shape, struct vision_model *model, tensor_visit_fn visit, void *ctx);

static inline bool tensor_is_vector(const struct tensor_spec *spec)
{
    return spec->role > TENSOR_ROUTER;
}

#endif
