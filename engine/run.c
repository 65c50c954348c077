/*
 * run - sessions by hand: en_run and the raw prompts of `heron eval`, for verification and benchmarks.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/batch.h"
#include "engine/prompt.h"

/* What must hold before anything is evaluated, so that a refusal changes nothing. */
static int check_feeds(struct en_engine *e, const struct en_feed *feeds, int32_t n_feeds, struct err *err)
{
    if (n_feeds < 1)
        return err_set(err, ERR_INVAL, "nothing to run: no sessions given");
    for (int32_t i = 0; i < n_feeds; i++) {
        const struct en_feed *f = &feeds[i];
        if (!f->session || f->session->engine != e || !f->session->is_open)
            return err_set(err, ERR_INVAL, "feed %d: not an open session of this engine", i);
        for (int32_t j = 0; j < i; j++)
            if (feeds[j].session == f->session)
                return err_set(err, ERR_INVAL, "feeds %d and %d are the same session", j, i);
        for (int32_t c = 0; c < f->n_chunks; c++) {
            const struct en_chunk *chunk = &f->chunks[c];
            if (chunk->image && chunk->image->engine != e)
                return err_set(err, ERR_INVAL, "feed %d, chunk %d: an image of another engine", i, c);
            for (int32_t t = 0; !chunk->image && t < chunk->n_ids; t++)
                if (chunk->ids[t] < 0 || chunk->ids[t] >= e->model->shape.n_vocab)
                    return err_set(err, ERR_INVAL, "feed %d, chunk %d: token id %d, the vocabulary has %d", i, c, chunk->ids[t],
                                   e->model->shape.n_vocab);
        }
        const struct pending p = pending_init(f->chunks, f->n_chunks);
        if (p.left > e->options.context_tokens - f->session->n_tokens)
            return err_set(err, ERR_FULL, "the context is full: %d tokens are there, %d more do not fit into %d",
                           f->session->n_tokens, p.left, e->options.context_tokens);
    }
    return 0;
}

int en_run(struct en_engine *e, const struct en_feed *feeds, int32_t n_feeds, en_logits_fn on_logits, void *ctx,
           struct err *err)
{
    int rc = engine_check(e, err);
    if (rc == 0)
        rc = check_feeds(e, feeds, n_feeds, err);
    if (rc != 0)
        return rc;
    struct batch batch;
    struct pending *pending = calloc((size_t)n_feeds, sizeof *pending);
    if (!pending)
        return err_set(err, ERR_NOMEM, "out of memory: %d feeds", n_feeds);
    if ((rc = batch_open(&batch, e, err)) != 0)
        goto fail;
    for (int32_t i = 0; i < n_feeds; i++)
        pending[i] = pending_init(feeds[i].chunks, feeds[i].n_chunks);
    int32_t first = 0; /* the feed that is served first: all take turns when they do not fit together */
    for (bool more = true; more;) {
        batch_begin(&batch);
        more = false;
        for (int32_t k = 0; k < n_feeds; k++) {
            const int32_t i = (first + k) % n_feeds;
            if (pending[i].left == 0)
                continue;
            rc = batch_add(&batch, feeds[i].session, &pending[i], feeds[i].piece, feeds[i].want, NULL, NULL, err);
            if (rc != 0)
                goto fail;
            more = more || pending[i].left > 0;
        }
        first = (first + 1) % n_feeds;
        if ((rc = batch_run(&batch, err)) != 0 || (!on_logits && (rc = batch_wait(&batch, err)) != 0))
            goto fail;
        for (int32_t at = 0; on_logits && at < batch.n_rows; at += e->pass.max_logits) {
            const int32_t n = batch.n_rows - at < e->pass.max_logits ? batch.n_rows - at : e->pass.max_logits;
            float *logits = NULL;
            if ((rc = batch_logits(&batch, at, n, &logits, err)) != 0)
                goto fail;
            for (int32_t r = 0; r < n; r++) {
                const struct batch_row *row = &batch.rows[at + r];
                on_logits(ctx, row->session, row->index, row->is_image, row->pos,
                          logits + (size_t)r * (size_t)e->model->shape.n_vocab);
            }
        }
    }
fail:
    batch_close(&batch);
    free(pending);
    return rc;
}

/* ---- raw prompts -------------------------------------------------------------------------------------------------------- */

int en_prompt_raw(struct en_engine *e, const char *text, size_t n_bytes, struct en_image *const *images, int32_t n_images,
                  struct en_chunk **ret_chunks, int32_t *ret_n_chunks, struct err *err)
{
    struct prompt prompt;
    int rc = prompt_tokenize_raw(e->tokenizer, e->tokenizer_cache, text, n_bytes, n_images, &prompt, err);
    if (rc != 0)
        return rc;
    struct en_chunk *chunks = malloc(batch_chunks_bytes(&prompt));
    if (chunks) {
        batch_chunks(&prompt, chunks);
        for (int32_t i = 0; i < n_images; i++)
            chunks[2 * i + 1].image = images[i];
        *ret_chunks = chunks;
        *ret_n_chunks = batch_n_chunks(n_images);
    } else {
        rc = err_set(err, ERR_NOMEM, "out of memory: a prompt of %zu tokens", prompt.n_ids);
    }
    prompt_release(&prompt);
    return rc;
}
