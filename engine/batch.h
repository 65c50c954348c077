/*
 * batch - one ragged pass: rows of several sessions, each at its own place in its own prompt, through the model together.
 *
 * Used by en_run (verification, benchmarks) and by the jobs (continuous batching) alike:
 *   batch_begin -> batch_add for each session that has pending rows -> batch_run -> batch_logits or batch_tops for the rows asked for,
 * or, where none of theirs are read, batch_wait.
 *
 * Threads: the engine thread. Memory: fixed at batch_open; a pass allocates nothing.
 */
#ifndef HERON_ENGINE_BATCH_H
#define HERON_ENGINE_BATCH_H

#include "engine/internal.h"

/* Where a session stands in a list of chunks that it is to evaluate. Borrowed chunks; set up by pending_init. */
struct pending {
    const struct en_chunk *chunks;
    int32_t n_chunks;
    int32_t i_chunk, offset; /* next row: in this chunk, at this offset */
    int32_t left;            /* rows not yet evaluated */
};

struct pending pending_init(const struct en_chunk *chunks, int32_t n_chunks);

struct prompt;

/* Chunks of a prompt with so many pictures: text, picture, text, ..., text. The picture's chunk of picture i is 2 i + 1. */
static inline int32_t batch_n_chunks(int32_t n_images)
{
    return 2 * n_images + 1;
}

/* Bytes that the chunks of a prompt take, the ids behind them included. */
size_t batch_chunks_bytes(const struct prompt *prompt);

/* A tokenised prompt as chunks in memory of batch_chunks_bytes; the pictures' image is NULL as yet, and set before the chunks are evaluated. */
void batch_chunks(const struct prompt *prompt, struct en_chunk *chunks);

/* A row whose logits were asked for. */
struct batch_row {
    struct en_session *session;
    void *user;
    int32_t index; /* place among the session's tokens */
    bool is_image;
    int32_t pos[3];
};

struct batch_member {
    struct en_session *session;
    int32_t n_rows, end_pos; /* what the session becomes when the pass is done */
};

struct batch {
    struct en_engine *engine;
    struct batch_member *members;     /* [batch] */
    struct qwen35_image_rows *images; /* [images_max] */
    struct batch_row *rows;           /* [step_rows] */
    int32_t n_members, n_images, images_max, n_rows;
    int32_t logits_first, n_logits; /* wanted rows whose logits lie on the device */
};

int batch_open(struct batch *b, struct en_engine *engine, struct err *err);
void batch_close(struct batch *b);

void batch_begin(struct batch *b);

/* Rows and sequences that still fit. */
int32_t batch_room(const struct batch *b);

/*
 * Put the next rows of *pending into the pass: as many as are left, fit, and max_rows allows (0: no limit of its own). *pending
 * moves on at once; the session when batch_run is done. `user` comes back with the wanted rows. *ret_n (may be NULL) is 0 when
 * there is no room. Errors: ERR_FULL (context or pages; nothing was added).
 */
int batch_add(struct batch *b, struct en_session *session, struct pending *pending, int32_t max_rows, enum en_want want,
              void *user, int32_t *ret_n, struct err *err);

/*
 * Run the model over what was added and move the sessions on. Where rows are wanted it does not wait for the device: that is for who reads them. Errors: ERR_DEVICE and what validation
 * found; the engine is then dead. ERR_CANCELLED: the pass was given up, the sessions stay where they were and are worth nothing.
 */
int batch_run(struct batch *b, struct err *err);
int batch_wait(struct batch *b, struct err *err);

/*
 * Logits of wanted rows first ... first + n - 1, n <= ENGINE_LOGITS_ROWS, into *ret_logits: host [n, V], valid until the next
 * call.
 */
int batch_logits(struct batch *b, int32_t first, int32_t n, float **ret_logits, struct err *err);

/* The mask [(V + 31) / 32] of the tokens that may come behind row i of the next batch_tops: to be filled before. */
uint32_t *batch_mask(struct batch *b, int32_t i);

/*
 * Of wanted rows first ... first + n - 1, n <= ENGINE_LOGITS_ROWS, the most probable tokens by their masks, as kn_top_k_args says: host [n, KN_TOP_K_MAX] into *ret_tops, valid until the
 * next call. batch_logits of the same rows then costs no more than the copy.
 */
int batch_tops(struct batch *b, int32_t first, int32_t n, const struct kn_top **ret_tops, struct err *err);

#endif
