/*
 * internal - what the files of the engine room share: the engine's struct. Not a door. Threads: the engine thread.
 */
#ifndef HERON_ENGINE_INTERNAL_H
#define HERON_ENGINE_INTERNAL_H

#include "engine/breath.h"
#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "engine/model_qwen35.h"
#include "engine/prompt.h"
#include "engine/session.h"
#include "engine/state_cache.h"
#include "engine/step.h"
#include "engine/vision.h"

struct blocks;
struct constraint_vocab;
struct forced;
struct image_resizer;
struct jobs;
struct sampler;
struct tokenizer_cache;
struct tokenizer;

/* An encoded picture: rows on the device, in one slot of the engine's fixed pool. */
struct en_image {
    struct en_engine *engine;
    int32_t refs;   /* 0: the slot is free */
    int32_t nx, ny; /* merged tokens across and down; nx * ny rows */
    float *rows;    /* device [nx * ny, E] */
};

/* Most wanted rows of one step whose logits are computed at once. */
#define ENGINE_LOGITS_ROWS 32

/* Most tokens of the text that ends a thought. */
#define ENGINE_THOUGHT_END_MAX 8

struct en_engine {
    struct en_options options; /* as given; strings are not kept */
    struct kn_device *device;
    struct kn_stream *stream;
    struct model *model;
    struct vision_model *vision_model; /* NULL: text only */
    struct vision *vision;
    struct tokenizer *tokenizer;
    struct tokenizer_cache *tokenizer_cache;
    struct en_info info;
    char fingerprint[17], device_line[320], tuned[128], name[MODEL_NAME_BYTES];
    struct kv_cache kv;
    struct state_cache state;
    struct step step;
    struct qwen35 pass;
    struct en_session *sessions; /* [options.sessions] */
    int32_t *session_pages;      /* [sessions, pages of context] */
    struct en_image *images;     /* [n_images] */
    int32_t n_images, image_tokens_max;
    int64_t image_pixels_max;
    void *image_rows;      /* device: the pool of encoded pictures */
    float *logits;         /* host [ENGINE_LOGITS_ROWS, V] */
    uint32_t *masks;       /* host [ENGINE_LOGITS_ROWS, (V + 31) / 32] of the tokens that may come next */
    struct kn_top *tops;   /* host [ENGINE_LOGITS_ROWS, KN_TOP_K_MAX] the most probable of them */
    struct blocks *blocks; /* what jobs come and go with */
    struct image_resizer *resizer;
    struct prompt_room prompt_room;
    struct sampler *sampler;
    struct constraint_vocab *constraint_vocab;
    struct forced *forced;
    uint32_t *free_mask; /* the tokens that free text may hold: normal, user-defined and stops */
    size_t token_bytes_max;
    /* ids the engine itself puts into prompts */
    int32_t id_vision_start, id_vision_end, id_image_pad;
    int32_t id_think_end; /* -1: the vocabulary cannot think */
    int32_t thought_end[ENGINE_THOUGHT_END_MAX], n_thought_end;
    struct breath breath; /* of the passes of jobs */
    bool is_dead;         /* the device failed: only close is left */
    struct jobs *jobs;
};

/* Note a device failure: everything but closing is refused from now on. Returns rc. */
int engine_fail(struct en_engine *e, int rc);

/* ERR_STATE with words when the engine is dead. */
int engine_check(const struct en_engine *e, struct err *err);

#endif
