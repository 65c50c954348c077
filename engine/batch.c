#include "engine/batch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static int32_t chunk_rows(const struct en_chunk *c)
{
    return c->image ? c->image->nx * c->image->ny : c->n_ids;
}

struct pending pending_init(const struct en_chunk *chunks, int32_t n_chunks)
{
    struct pending p = {.chunks = chunks, .n_chunks = n_chunks};
    for (int32_t i = 0; i < n_chunks; i++)
        p.left += chunk_rows(&chunks[i]);
    return p;
}

size_t batch_chunks_bytes(const struct prompt *prompt)
{
    return (size_t)batch_n_chunks(prompt->n_images) * sizeof(struct en_chunk) + prompt->n_ids * sizeof(int32_t);
}

void batch_chunks(const struct prompt *prompt, struct en_chunk *chunks)
{
    /* the texts may be empty */
    int32_t *ids = (int32_t *)(chunks + batch_n_chunks(prompt->n_images));
    memcpy(ids, prompt->ids, prompt->n_ids * sizeof *ids);
    size_t at = 0;
    for (int32_t i = 0; i <= prompt->n_images; i++) {
        const size_t end = i < prompt->n_images ? prompt->image_at[i] : prompt->n_ids;
        chunks[2 * i] = (struct en_chunk){.ids = ids + at, .n_ids = (int32_t)(end - at)};
        if (i < prompt->n_images)
            chunks[2 * i + 1] = (struct en_chunk){0};
        at = end + 1;
    }
}

int batch_open(struct batch *b, struct en_engine *e, struct err *err)
{
    *b = (struct batch){.engine = e};
    /* every image chunk has at least one row, and text rows stand between pictures of one prompt */
    b->images_max = e->step.max_rows;
    b->members = calloc((size_t)e->step.max_seqs, sizeof *b->members);
    b->images = calloc((size_t)b->images_max, sizeof *b->images);
    b->rows = calloc((size_t)e->step.max_rows, sizeof *b->rows);
    if (!b->members || !b->images || !b->rows) {
        batch_close(b);
        return err_set(err, ERR_NOMEM, "out of memory: tables of a pass over %d rows", e->step.max_rows);
    }
    return 0;
}

void batch_close(struct batch *b)
{
    free(b->members);
    free(b->images);
    free(b->rows);
    *b = (struct batch){0};
}

void batch_begin(struct batch *b)
{
    step_begin(&b->engine->step);
    b->n_members = b->n_images = b->n_rows = 0;
    b->logits_first = b->n_logits = 0;
}

int32_t batch_room(const struct batch *b)
{
    const struct step *st = &b->engine->step;
    return b->n_members < st->max_seqs ? st->max_rows - st->n_rows : 0;
}

/* Note that the logits of a row are wanted. */
static void want_row(struct batch *b, int32_t row, const struct batch_row *info)
{
    step_want(&b->engine->step, row);
    b->rows[b->n_rows++] = *info;
}

int batch_add(struct batch *b, struct en_session *s, struct pending *p, int32_t max_rows, enum en_want want, void *user,
              int32_t *ret_n, struct err *err)
{
    struct en_engine *e = b->engine;
    struct step *st = &e->step;
    int32_t n = p->left < batch_room(b) ? p->left : batch_room(b);
    if (max_rows > 0 && n > max_rows)
        n = max_rows;
    if (ret_n)
        *ret_n = n;
    if (n == 0)
        return 0;
    const int rc = session_reserve(s, n, err);
    if (rc != 0) {
        if (ret_n)
            *ret_n = 0;
        return rc;
    }
    const int32_t row0 = step_add(st, n, s->n_tokens, s->slot, s->pages, kv_cache_pages(s->n_tokens + n));
    int32_t pos = s->next_pos;
    for (int32_t i = 0; i < n;) {
        const struct en_chunk *c = &p->chunks[p->i_chunk];
        const int32_t total = chunk_rows(c);
        if (total == 0) { /* pictures may follow one another */
            p->i_chunk++;
            continue;
        }
        const int32_t take = total - p->offset < n - i ? total - p->offset : n - i;
        if (c->image && take > 0) {
            assert(b->n_images < b->images_max);
            b->images[b->n_images++] = (struct qwen35_image_rows){
                .rows = c->image->rows + (size_t)p->offset * (size_t)e->model->shape.n_embd, .n = take, .row0 = row0 + i};
        }
        for (int32_t j = 0; j < take; j++, i++) {
            const int32_t row = row0 + i, at = p->offset + j;
            struct batch_row info = {.session = s, .user = user, .index = s->n_tokens + i, .is_image = c->image != NULL};
            if (c->image) { /* MODEL.md 3.2: t stays, h and w walk the grid of merged tokens */
                st->tokens[row] = -1;
                info.pos[0] = pos;
                info.pos[1] = pos + at / c->image->nx;
                info.pos[2] = pos + at % c->image->nx;
            } else {
                st->tokens[row] = c->ids[at];
                info.pos[0] = info.pos[1] = info.pos[2] = pos++;
            }
            for (int axis = 0; axis < 3; axis++)
                st->pos[(size_t)axis * (size_t)st->max_rows + (size_t)row] = info.pos[axis];
            const bool last = p->left - i == 1;
            if (want == EN_WANT_ALL || (want == EN_WANT_TEXT && !c->image) || (want == EN_WANT_LAST && last))
                want_row(b, row, &info);
        }
        p->offset += take;
        if (p->offset == total) {
            if (c->image)
                pos += c->image->nx > c->image->ny ? c->image->nx : c->image->ny;
            p->i_chunk++;
            p->offset = 0;
        }
    }
    p->left -= n;
    b->members[b->n_members++] = (struct batch_member){.session = s, .n_rows = n, .end_pos = pos};
    return 0;
}

/*
 * The pass of a decode step: one token of each session, whose logits are all wanted. Of two of as many sessions all that differs lies in the step block, so a device that records runs the
 * second as one launch, logits included. Nobody is asked between its layers.
 */
static bool run_decode(struct batch *b)
{
    struct en_engine *e = b->engine;
    const uint64_t key = (uint64_t)e->step.n_rows;
    if (!breath_take(e->pass.breath))
        return false;
    if (!kn_replay(e->stream, key)) {
        if (!kn_record_begin(e->stream, key))
            return qwen35_forward(&e->pass, e->stream, &e->step, &e->kv, &e->state, NULL, 0);
        struct breath *const breath = e->pass.breath;
        e->pass.breath = NULL;
        qwen35_forward(&e->pass, e->stream, &e->step, &e->kv, &e->state, NULL, 0);
        qwen35_logits(&e->pass, e->stream, &e->step, 0, b->n_rows);
        e->pass.breath = breath;
        if (!kn_record_end(e->stream)) /* this device keeps no more of them */
            return qwen35_forward(&e->pass, e->stream, &e->step, &e->kv, &e->state, NULL, 0);
    }
    b->n_logits = b->n_rows;
    return true;
}

int batch_wait(struct batch *b, struct err *err)
{
    const int rc = kn_stream_sync(b->engine->stream, err);
    return rc != 0 ? engine_fail(b->engine, rc) : 0;
}

int batch_run(struct batch *b, struct err *err)
{
    struct en_engine *e = b->engine;
    if (b->n_members == 0)
        return 0;
    step_upload(&e->step, e->stream);
    const bool is_decode = b->n_members == e->step.n_rows && b->n_rows == e->step.n_rows && b->n_images == 0;
    const bool is_whole = is_decode && b->n_rows <= e->pass.max_logits
                              ? run_decode(b)
                              : qwen35_forward(&e->pass, e->stream, &e->step, &e->kv, &e->state, b->images, b->n_images);
    if (!is_whole || b->n_rows == 0) {
        const int rc = batch_wait(b, err);
        if (rc != 0)
            return rc;
    }
    if (!is_whole)
        return err_set(err, ERR_CANCELLED, "the pass was given up");
    for (int32_t i = 0; i < b->n_members; i++) {
        b->members[i].session->n_tokens += b->members[i].n_rows;
        b->members[i].session->next_pos = b->members[i].end_pos;
    }
    return 0;
}

/* Have the logits of wanted rows first ... first + n - 1 on the device: they begin at this row of the pass's buffer. */
static int32_t make_logits(struct batch *b, int32_t first, int32_t n)
{
    struct en_engine *e = b->engine;
    assert(n <= e->pass.max_logits && first + n <= b->n_rows);
    if (first < b->logits_first || first + n > b->logits_first + b->n_logits) {
        qwen35_logits(&e->pass, e->stream, &e->step, first, n);
        b->logits_first = first;
        b->n_logits = n;
    }
    return first - b->logits_first;
}

int batch_logits(struct batch *b, int32_t first, int32_t n, float **ret_logits, struct err *err)
{
    struct en_engine *e = b->engine;
    const size_t V = (size_t)e->model->shape.n_vocab;
    const int32_t at = make_logits(b, first, n);
    kn_download(e->stream, e->logits, e->pass.logits + (size_t)at * V, (size_t)n * V * sizeof *e->logits);
    *ret_logits = e->logits;
    return batch_wait(b, err);
}

static size_t mask_words(const struct en_engine *e)
{
    return ((size_t)e->model->shape.n_vocab + 31) / 32;
}

uint32_t *batch_mask(struct batch *b, int32_t i)
{
    assert(i < b->engine->pass.max_logits);
    return b->engine->masks + (size_t)i * mask_words(b->engine);
}

int batch_tops(struct batch *b, int32_t first, int32_t n, const struct kn_top **ret_tops, struct err *err)
{
    struct en_engine *e = b->engine;
    const int32_t at = make_logits(b, first, n);
    kn_upload(e->stream, e->pass.masks, e->masks, (size_t)n * mask_words(e) * sizeof *e->masks);
    qwen35_tops(&e->pass, e->stream, at, n);
    kn_download(e->stream, e->tops, e->pass.tops, (size_t)n * KN_TOP_K_MAX * sizeof *e->tops);
    *ret_tops = e->tops;
    return batch_wait(b, err);
}
