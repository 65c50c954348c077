/*
 * step - the step block: what changes from one pass over the model to the next, gathered on the host and sent to the device in
 * one upload.
 *
 * Life cycle: step_open with the largest counts -> per pass step_begin, step_add for each sequence, step_rows_wanted,
 * step_upload -> step_close. Device addresses are fixed at open: a captured pass finds everything where it was.
 *
 * Threads: the engine thread. Memory: one host and one device block, taken at open.
 */
#ifndef HERON_ENGINE_STEP_H
#define HERON_ENGINE_STEP_H

#include "kernels/kernels.h"

struct step {
    struct kn_device *device;
    int32_t max_rows, max_seqs, max_pages;
    /* host mirror; the arrays lie in one block */
    struct kn_step *head; /* counts are real, pointers are device pointers */
    int32_t *tokens;      /* [max_rows] */
    int32_t *pos;         /* [3, n_rows] packed when uploaded; kept as [3, max_rows] until then */
    int32_t *seq_of_row;  /* [max_rows] */
    int32_t *wanted;      /* [max_rows] rows whose logits are asked for */
    struct kn_seq *seqs;  /* [max_seqs] */
    int32_t *pages;       /* [max_pages] */
    int32_t n_rows, n_seqs, n_pages, n_wanted;
    void *host, *device_block;
    size_t block_bytes;
    /* the device's side of the block */
    const struct kn_step *device_step;
    const int32_t *device_wanted;
};

/* max_pages: sum over the sequences of a step of the pages they hold. Errors: ERR_NOMEM. */
int step_open(struct step *st, struct kn_device *device, int32_t max_rows, int32_t max_seqs, int32_t max_pages,
              struct err *err);
void step_close(struct step *st);

/* Bytes that step_open takes on the device. */
size_t step_bytes(int32_t max_rows, int32_t max_seqs, int32_t max_pages);

void step_begin(struct step *st);

/*
 * Add the next n_rows rows of a sequence that has `past` tokens. Returns its first row; the caller then fills tokens[row] and
 * pos[axis * max_rows + row]. Counts within the limits of step_open are the caller's duty (asserted).
 */
int32_t step_add(struct step *st, int32_t n_rows, int32_t past, int32_t slot, const int32_t *pages, int32_t n_pages);

/* Ask for the logits of a row. */
void step_want(struct step *st, int32_t row);

/* Send it. */
void step_upload(struct step *st, struct kn_stream *stream);

#endif
