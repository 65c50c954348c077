#include "engine/step.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Offsets of the block's parts, 64-byte aligned each: the same on host and device. */
struct layout {
    size_t head, tokens, pos, seq_of_row, wanted, seqs, pages, end;
};

static size_t place(size_t *at, size_t bytes)
{
    const size_t here = *at;
    *at = (here + bytes + 63) / 64 * 64;
    return here;
}

static struct layout lay_out(int32_t max_rows, int32_t max_seqs, int32_t max_pages)
{
    struct layout l;
    size_t at = 0;
    const size_t rows = (size_t)max_rows * sizeof(int32_t);
    l.head = place(&at, sizeof(struct kn_step));
    l.tokens = place(&at, rows);
    l.pos = place(&at, 3 * rows);
    l.seq_of_row = place(&at, rows);
    l.wanted = place(&at, rows);
    l.seqs = place(&at, (size_t)max_seqs * sizeof(struct kn_seq));
    l.pages = place(&at, (size_t)max_pages * sizeof(int32_t));
    l.end = at;
    return l;
}

size_t step_bytes(int32_t max_rows, int32_t max_seqs, int32_t max_pages)
{
    return lay_out(max_rows, max_seqs, max_pages).end;
}

int step_open(struct step *st, struct kn_device *device, int32_t max_rows, int32_t max_seqs, int32_t max_pages, struct err *err)
{
    *st = (struct step){.device = device, .max_rows = max_rows, .max_seqs = max_seqs, .max_pages = max_pages};
    const struct layout l = lay_out(max_rows, max_seqs, max_pages);
    st->block_bytes = l.end;
    st->host = aligned_alloc(64, l.end);
    st->pos = calloc(3 * (size_t)max_rows, sizeof *st->pos);
    if (!st->host || !st->pos) {
        step_close(st);
        return err_set(err, ERR_NOMEM, "out of memory: a step of %d rows", max_rows);
    }
    memset(st->host, 0, l.end);
    const int rc = kn_alloc(device, l.end, &st->device_block, err);
    if (rc != 0) {
        step_close(st);
        return rc;
    }
    char *h = st->host;
    const char *d = st->device_block;
    st->head = (struct kn_step *)(h + l.head);
    st->tokens = (int32_t *)(h + l.tokens);
    st->seq_of_row = (int32_t *)(h + l.seq_of_row);
    st->wanted = (int32_t *)(h + l.wanted);
    st->seqs = (struct kn_seq *)(h + l.seqs);
    st->pages = (int32_t *)(h + l.pages);
    *st->head = (struct kn_step){
        .tokens = (const int32_t *)(d + l.tokens),
        .pos = (const int32_t *)(d + l.pos),
        .seqs = (const struct kn_seq *)(d + l.seqs),
        .seq_of_row = (const int32_t *)(d + l.seq_of_row),
        .pages = (const int32_t *)(d + l.pages),
    };
    st->device_step = (const struct kn_step *)(d + l.head);
    st->device_wanted = (const int32_t *)(d + l.wanted);
    return 0;
}

void step_close(struct step *st)
{
    if (st->device_block)
        kn_free(st->device, st->device_block);
    free(st->host);
    free(st->pos);
    *st = (struct step){0};
}

void step_begin(struct step *st)
{
    st->n_rows = st->n_seqs = st->n_pages = st->n_wanted = 0;
}

int32_t step_add(struct step *st, int32_t n_rows, int32_t past, int32_t slot, const int32_t *pages, int32_t n_pages)
{
    assert(n_rows > 0 && st->n_rows + n_rows <= st->max_rows && st->n_seqs < st->max_seqs);
    assert(st->n_pages + n_pages <= st->max_pages && (int64_t)n_pages * KN_PAGE_TOKENS >= past + n_rows);
    const int32_t row0 = st->n_rows;
    st->seqs[st->n_seqs] = (struct kn_seq){.row0 = row0, .n_rows = n_rows, .past = past, .slot = slot, .page0 = st->n_pages};
    memcpy(st->pages + st->n_pages, pages, (size_t)n_pages * sizeof *pages);
    for (int32_t i = 0; i < n_rows; i++)
        st->seq_of_row[row0 + i] = st->n_seqs;
    st->n_rows += n_rows;
    st->n_pages += n_pages;
    st->n_seqs++;
    return row0;
}

void step_want(struct step *st, int32_t row)
{
    assert(row >= 0 && row < st->n_rows && st->n_wanted < st->max_rows);
    st->wanted[st->n_wanted++] = row;
}

void step_upload(struct step *st, struct kn_stream *stream)
{
    const struct layout l = lay_out(st->max_rows, st->max_seqs, st->max_pages);
    st->head->n_rows = st->n_rows;
    st->head->n_seqs = st->n_seqs;
    /* positions are packed by the step's own row count, as kn_step wants them */
    int32_t *packed = (int32_t *)((char *)st->host + l.pos);
    for (int axis = 0; axis < 3; axis++)
        memcpy(packed + (size_t)axis * (size_t)st->n_rows, st->pos + (size_t)axis * (size_t)st->max_rows,
               (size_t)st->n_rows * sizeof *packed);
    const size_t used = l.pages + (size_t)st->n_pages * sizeof(int32_t);
    kn_upload_step(stream, st->device_block, st->host, used);
}
