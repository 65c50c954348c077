/*
 * weights - from a GGUF file to a bound model on a device: names to struct fields, every shape checked once.
 *
 * What tensors a model of some shape has, and where they belong in struct model, is one table (engine/tensor_list.c); loading,
 * closing, planning, describing, noise models and the writer of small random models all walk it.
 *
 * Life cycle: gguf_open -> [model_shape_read, model_plan for figures beforehand] -> model_open -> ... -> model_close. The file
 * may be closed as soon as model_open has returned.
 *
 * Threads: the engine thread, and those that read ahead of it (engine/intake.h). Memory: weights and vectors on the device, owned by the model; while loading the intake's, and up to
 * WEIGHTS_STAGING_BYTES for what is converted on the way.
 */
#ifndef HERON_ENGINE_WEIGHTS_H
#define HERON_ENGINE_WEIGHTS_H

#include "engine/gguf.h"
#include "engine/model.h"

#define WEIGHTS_STAGING_BYTES (8u << 20)

/* Where loading stands. One struct may serve several models: done_bytes goes on from where it was. May be NULL everywhere. */
struct weights_progress {
    bool (*fn)(void *ctx, uint64_t done_bytes, uint64_t total_bytes); /* false: give up. May be NULL */
    void *ctx;
    uint64_t done_bytes, total_bytes; /* the caller sets total: the sum of the plans' weights_bytes */
};

/* So many bytes more are loaded. progress may be NULL. ERR_CANCELLED: somebody wants it to end. */
int weights_report(struct weights_progress *progress, uint64_t bytes, struct err *err);

/* Figures that follow from the header alone. */
struct weights_plan {
    uint64_t weights_bytes;   /* of all tensors that are loaded, as in the file; a tied head counts once */
    uint64_t bytes_per_token; /* read to decode one token: all but the embedding, experts by the share used. Vision: 0 */
    uint64_t n_params;        /* values in the tensors that are loaded */
    uint64_t other_bytes;     /* in tensors that are not: MTP blocks, unknown names */
    int32_t n_loaded, n_nextn_tensors, n_unknown; /* tensors; loaded: with side tensors */
};

/*
 * The text model's shape from the metadata (MODEL.md section 1), dialects included; every impossible value is
 * refused with key, expected and found. Release with model_shape_release, which takes a zeroed struct too. Errors:
 * ERR_UNSUPPORTED (another architecture, which is named; a dialect Heron cannot run), ERR_FORMAT, ERR_NOMEM.
 */
int model_shape_read(const struct gguf *g, struct model_shape *ret_shape, struct err *err);
void model_shape_release(struct model_shape *shape);

/* Whether the shape is one that can be: the checks of model_shape_read, for shapes from elsewhere. `where` leads error texts.
 */
int model_shape_check(const struct model_shape *shape, const char *where, struct err *err);

/* The full-attention layers among the main ones. */
int32_t model_shape_full_layers(const struct model_shape *shape);

/* The vision tower's shape (MODEL.md section 5). Errors as above; true entries of is_deepstack_layers are ERR_UNSUPPORTED.
 */
int vision_shape_read(const struct gguf *g, struct vision_shape *ret_shape, struct err *err);
int vision_shape_check(const struct vision_shape *shape, const char *where, struct err *err);

/*
 * Check names, shapes and types of all tensors and add up their sizes, without reading any. Tensors that are left over inside blocks are ERR_FORMAT; names
 * outside them are counted. Errors as model_open.
 */
int model_plan(const struct gguf *g, const struct model_shape *shape, struct weights_plan *ret_plan, struct err *err);
int vision_plan(const struct gguf *g, const struct vision_shape *shape, struct weights_plan *ret_plan, struct err *err);

/*
 * Load the text model to the device. The file is borrowed for the call. On a device of two members model->shape is that of a share (engine/share.h).
 * Errors: ERR_FORMAT (a tensor that is missing, named; tensor, expected and found shape; values that cannot be),
 * ERR_UNSUPPORTED (type), ERR_NOMEM, ERR_IO, ERR_DEVICE, ERR_CANCELLED (progress).
 */
int model_open(struct kn_device *device, const struct gguf *g, struct weights_progress *progress, struct model **ret_model,
               struct err *err);
void model_close(struct kn_device *device, struct model *model);

/*
 * Load the vision tower of the mmproj file `g`. text_n_embd, text_path: the text model's embedding length, which projection_dim
 * must equal, and its file, for the error that names both.
 */
int vision_model_open(struct kn_device *device, const struct gguf *g, int32_t text_n_embd, const char *text_path,
                      struct weights_progress *progress, struct vision_model **ret_model, struct err *err);
void vision_model_close(struct kn_device *device, struct vision_model *model);

/* ---- for synthetic.c and describe.c ---- */

/* An empty model of a copy of this shape, nothing on the device yet; model_close takes it. */
int model_create(const struct model_shape *shape, struct model **ret_model, struct err *err);
int vision_model_create(const struct vision_shape *shape, struct vision_model **ret_model, struct err *err);

/* Give a tied model its head; to be called when all is loaded. */
void model_finish(struct model *model, const struct weights_plan *plan);

/* What a file's tensor is to the model. */
enum weights_mark {
    WEIGHTS_UNKNOWN,
    WEIGHTS_LOADED,
    WEIGHTS_SIDE,  /* the scale of another tensor */
    WEIGHTS_NEXTN, /* of an MTP block */
};

/* Fill marks[gguf_n_tensors] with enum weights_mark; shape or vision, the other one NULL. */
void weights_mark_tensors(const struct gguf *g, const struct model_shape *shape, const struct vision_shape *vision,
                          uint8_t *marks);

#endif
