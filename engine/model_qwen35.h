/*
 * model_qwen35 - the forward pass of the Qwen3.5 text models, dense and mixture-of-experts: straight-line code over the op
 * table.
 *
 * Reads struct model, writes KV pages and recurrent state, and leaves the wanted rows' logits in a device buffer. It knows
 * tokens, positions and pages through the step block only. Formulas: MODEL.md section 3.
 *
 * Life cycle: qwen35_open (takes all scratch: a table of buffers, addresses fixed) -> qwen35_forward, qwen35_logits per step ->
 * qwen35_close. Threads: the engine thread. Errors of ops stay on the stream.
 */
#ifndef HERON_ENGINE_MODEL_QWEN35_H
#define HERON_ENGINE_MODEL_QWEN35_H

#include "engine/breath.h"
#include "engine/kv_cache.h"
#include "engine/model.h"
#include "engine/state_cache.h"
#include "engine/step.h"

/* Scratch of a pass over at most `rows` rows. [rows, ...] f32 each. */
struct qwen35 {
    struct kn_device *device;
    const struct model *model;
    int32_t max_rows;
    int32_t max_logits; /* rows of the logits buffer */
    void *block;        /* all buffers below lie in it */
    size_t block_bytes;
    float *x, *h, *a;               /* [E] residual stream, normalised, what the last sub-layer adds */
    float *qg, *k, *v, *q, *att;    /* [H * 2D] [G * D] [G * D] [H * D] [H * D] */
    float *qkv, *z, *b, *alpha, *o; /* [C] [n_v d_v] [n_v] [n_v] [n_v d_v] */
    float *f;                       /* [F] or [F_shared] */
    float *eh, *ew, *gates;         /* [k * F_e] [k] [1] */
    int32_t *ids;                   /* [k] */
    float *hn, *logits;             /* [max_logits, E] [max_logits, V] */
    uint32_t *masks;                /* [max_logits, (V + 31) / 32] of the tokens that may come next */
    struct kn_top *tops;            /* [max_logits, KN_TOP_K_MAX] the most probable of them */
    float *inv_freq;                /* [n_rot / 2] */
    int32_t *axis;                  /* [n_rot / 2] */
    float rope_scale;
    struct breath *breath; /* of passes; borrowed. NULL: none */
};

/* Rows of an image that replace embedding rows: batch rows row0 .. row0 + n - 1 get rows from first on. */
struct qwen35_image_rows {
    const float *rows; /* device [n, E] */
    int32_t n, row0;
};

/* Device bytes of the scratch. */
size_t qwen35_scratch_bytes(const struct model_shape *shape, int32_t max_rows, int32_t max_logits);

/* What the stream's workspace must allow for. */
struct kn_limits qwen35_limits(const struct model_shape *shape, int32_t max_rows, int32_t max_seqs, int32_t max_kv);

int qwen35_open(struct qwen35 *m, struct kn_device *device, struct kn_stream *stream, const struct model *model,
                int32_t max_rows, int32_t max_logits, struct err *err);
void qwen35_close(struct qwen35 *m);

/*
 * One pass over the rows of an uploaded step. Afterwards m->h holds the final normalised hidden rows. false: it was given up, and what the caches hold of its sequences is worth
 * nothing.
 */
bool qwen35_forward(struct qwen35 *m, struct kn_stream *stream, const struct step *step, const struct kv_cache *kv,
                    const struct state_cache *state, const struct qwen35_image_rows *images, int32_t n_images);

/* Logits of wanted rows first .. first + n - 1 of the step (n <= max_logits), into m->logits [n, V]. */
void qwen35_logits(struct qwen35 *m, struct kn_stream *stream, const struct step *step, int32_t first, int32_t n);

/* The most probable tokens of rows first .. first + n - 1 of m->logits by the masks of m->masks, both [n] from their beginning, into m->tops. */
void qwen35_tops(struct qwen35 *m, struct kn_stream *stream, int32_t first, int32_t n);

#endif
