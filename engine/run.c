/*
 * run - sessions by hand: en_run and the raw prompts of `heron eval`, for verification and benchmarks.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/batch.h"

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
        if ((rc = batch_run(&batch, err)) != 0)
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

/* ---- raw prompts -----------------------------------------------------------------------------------------------------------
 */

static const char image_marker[] = "<image>";
#define MARKER_BYTES (sizeof image_marker - 1)

static const char *find_marker(const char *text, size_t n)
{
    return memmem(text, n, image_marker, MARKER_BYTES);
}

int en_prompt_raw(struct en_engine *e, const char *text, size_t n_bytes, struct en_image *const *images, int32_t n_images,
                  struct en_chunk **ret_chunks, int32_t *ret_n_chunks, struct err *err)
{
    int32_t markers = 0;
    for (const char *p = text, *end = text + n_bytes; (p = find_marker(p, (size_t)(end - p))) != NULL; p += MARKER_BYTES)
        markers++;
    if (markers != n_images)
        return err_set(err, ERR_INVAL, "the prompt has %d %s marker%s, but %d picture%s given", markers, image_marker,
                       markers == 1 ? "" : "s", n_images, n_images == 1 ? " is" : "s are");
    /* The text between pictures, with the vision tokens that belong to the pictures at its ends, is one chunk each. */
    const int32_t n_chunks = 2 * n_images + 1;
    int32_t **parts = calloc((size_t)n_images + 1, sizeof *parts);
    size_t *lengths = calloc((size_t)n_images + 1, sizeof *lengths);
    size_t total = 0;
    int rc = 0;
    if (!parts || !lengths) {
        rc = err_set(err, ERR_NOMEM, "out of memory: a prompt with %d pictures", n_images);
        goto out;
    }
    const char *at = text, *end = text + n_bytes;
    for (int32_t i = 0; i <= n_images; i++) {
        const char *stop = i < n_images ? find_marker(at, (size_t)(end - at)) : end;
        rc = en_tokenize(e, at, (size_t)(stop - at), true, &parts[i], &lengths[i], err);
        if (rc != 0)
            goto out;
        total += lengths[i] + (i > 0) + (i < n_images);
        at = stop + (i < n_images ? MARKER_BYTES : 0);
    }
    struct en_chunk *chunks = malloc((size_t)n_chunks * sizeof *chunks + total * sizeof(int32_t));
    if (!chunks) {
        rc = err_set(err, ERR_NOMEM, "out of memory: a prompt of %zu tokens", total);
        goto out;
    }
    int32_t *ids = (int32_t *)(chunks + n_chunks);
    for (int32_t i = 0; i <= n_images; i++) {
        struct en_chunk *c = &chunks[2 * i];
        *c = (struct en_chunk){.ids = ids};
        if (i > 0)
            *ids++ = e->id_vision_end;
        memcpy(ids, parts[i], lengths[i] * sizeof *ids);
        ids += lengths[i];
        if (i < n_images) {
            *ids++ = e->id_vision_start;
            chunks[2 * i + 1] = (struct en_chunk){.image = images[i]};
        }
        c->n_ids = (int32_t)(ids - c->ids);
    }
    *ret_chunks = chunks;
    *ret_n_chunks = n_chunks;
out:
    for (int32_t i = 0; parts && i <= n_images; i++)
        free(parts[i]);
    free(parts);
    free(lengths);
    return rc;
}
