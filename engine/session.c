#include "engine/session.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

int en_session_open(struct en_engine *e, struct en_session **ret_session, struct err *err)
{
    int rc = engine_check(e, err);
    if (rc != 0)
        return rc;
    struct en_session *s = NULL;
    for (int32_t i = 0; i < e->options.sessions && !s; i++)
        if (!e->sessions[i].is_open)
            s = &e->sessions[i];
    const int32_t slot = s ? state_cache_take(&e->state, kn_device_ops(e->device), e->stream) : -1;
    if (slot < 0)
        return err_set(err, ERR_FULL, "all %d sessions are in use", e->options.sessions);
    int32_t *pages = s->pages;
    *s = (struct en_session){.engine = e, .is_open = true, .slot = slot, .pages = pages};
    *ret_session = s;
    return 0;
}

void en_session_close(struct en_session *s)
{
    if (!s || !s->is_open)
        return;
    for (int32_t i = 0; i < s->n_pages; i++)
        kv_cache_unref(&s->engine->kv, s->pages[i]);
    state_cache_put(&s->engine->state, s->slot);
    s->n_pages = s->n_tokens = s->next_pos = 0;
    s->is_open = false;
}

int en_session_fork(struct en_session *s, struct en_session **ret_session, struct err *err)
{
    struct en_engine *e = s->engine;
    struct en_session *fork = NULL;
    const int rc = en_session_open(e, &fork, err);
    if (rc != 0)
        return rc;
    state_cache_copy(&e->state, kn_device_ops(e->device), e->stream, s->slot, fork->slot);
    for (int32_t i = 0; i < s->n_pages; i++) {
        kv_cache_ref(&e->kv, s->pages[i]);
        fork->pages[i] = s->pages[i];
    }
    fork->n_pages = s->n_pages;
    fork->n_tokens = s->n_tokens;
    fork->next_pos = s->next_pos;
    *ret_session = fork;
    return 0;
}

int session_reserve(struct en_session *s, int32_t n_tokens, struct err *err)
{
    struct en_engine *e = s->engine;
    const int32_t context = e->options.context_tokens;
    if (n_tokens > context - s->n_tokens)
        return err_set(err, ERR_FULL, "the context is full: %d tokens are there, %d more do not fit into %d", s->n_tokens,
                       n_tokens, context);
    /* the page that the next token goes to may be shared with a fork */
    if (s->n_tokens % KN_PAGE_TOKENS != 0) {
        const int rc = kv_cache_own(&e->kv, kn_device_ops(e->device), e->stream, &s->pages[s->n_tokens / KN_PAGE_TOKENS], err);
        if (rc != 0)
            return rc;
    }
    const int32_t want = kv_cache_pages(s->n_tokens + n_tokens);
    const int32_t had = s->n_pages;
    while (s->n_pages < want) {
        const int32_t page = kv_cache_take(&e->kv);
        if (page < 0) {
            while (s->n_pages > had)
                kv_cache_unref(&e->kv, s->pages[--s->n_pages]);
            return err_set(err, ERR_FULL, "no free KV page (%d pages of %d tokens in all)", e->kv.n_pages, KN_PAGE_TOKENS);
        }
        s->pages[s->n_pages++] = page;
    }
    return 0;
}

int32_t en_session_tokens(const struct en_session *s)
{
    return s->n_tokens;
}

int32_t en_session_position(const struct en_session *s)
{
    return s->next_pos;
}

/* ---- save and load ---------------------------------------------------------------------------------------------------- */

/* Head of a saved session. Behind it: the state slot, then K and V of each page, layer by layer. */
struct saved_head {
    char magic[8]; /* "HERONSE1" */
    char fingerprint[24];
    char device[16];
    int32_t kv_dtype, n_tokens, next_pos, n_pages;
    uint64_t state_bytes, page_bytes;
};

static struct saved_head expected_head(const struct en_engine *e)
{
    struct saved_head h = {.magic = {'H', 'E', 'R', 'O', 'N', 'S', 'E', '1'}};
    struct kn_device_info info;
    kn_device_get_info(e->device, &info);
    memcpy(h.fingerprint, e->fingerprint, sizeof e->fingerprint);
    memcpy(h.device, info.name, sizeof h.device);
    h.kv_dtype = e->kv.n_layers ? (int32_t)e->kv.layers[0].dtype : 0;
    h.state_bytes = state_cache_slot_bytes(&e->model->shape);
    h.page_bytes = e->kv.page_bytes;
    return h;
}

static size_t saved_bytes(const struct en_engine *e, const struct saved_head *h)
{
    return sizeof *h + h->state_bytes + (size_t)h->n_pages * h->page_bytes * 2 * (size_t)e->kv.n_layers;
}

/* The second member of a device of two has heads of its own, and only the first one's memory can be read. */
static int check_saving(const struct en_engine *e, struct err *err)
{
    struct kn_device_info info;
    kn_device_get_info(e->device, &info);
    const int rc = engine_check(e, err);
    return rc != 0 || info.members == 1
               ? rc
               : err_set(err, ERR_UNSUPPORTED, "sessions on two devices (%s) cannot be saved", info.name);
}

int en_session_save(struct en_session *s, void **ret_bytes, size_t *ret_n_bytes, struct err *err)
{
    struct en_engine *e = s->engine;
    int rc = check_saving(e, err);
    if (rc != 0)
        return rc;
    struct saved_head head = expected_head(e);
    head.n_tokens = s->n_tokens;
    head.next_pos = s->next_pos;
    head.n_pages = kv_cache_pages(s->n_tokens);
    const size_t n = saved_bytes(e, &head);
    char *bytes = malloc(n);
    if (!bytes)
        return err_set(err, ERR_NOMEM, "out of memory: %zu bytes to save a session of %d tokens", n, s->n_tokens);
    memcpy(bytes, &head, sizeof head);
    state_cache_download(&e->state, e->stream, s->slot, bytes + sizeof head);
    char *p = bytes + sizeof head + head.state_bytes;
    for (int32_t i = 0; i < head.n_pages; i++)
        for (int32_t l = 0; l < e->kv.n_layers; l++) {
            const size_t at = (size_t)s->pages[i] * e->kv.page_bytes;
            kn_download(e->stream, p, (char *)e->kv.layers[l].k + at, e->kv.page_bytes);
            kn_download(e->stream, p + e->kv.page_bytes, (char *)e->kv.layers[l].v + at, e->kv.page_bytes);
            p += 2 * e->kv.page_bytes;
        }
    if ((rc = kn_stream_sync(e->stream, err)) != 0) {
        free(bytes);
        return engine_fail(e, rc);
    }
    *ret_bytes = bytes;
    *ret_n_bytes = n;
    return 0;
}

int en_session_load(struct en_session *s, const void *bytes, size_t n_bytes, struct err *err)
{
    struct en_engine *e = s->engine;
    int rc = check_saving(e, err);
    if (rc != 0)
        return rc;
    struct saved_head head, want = expected_head(e);
    if (n_bytes < sizeof head)
        return err_set(err, ERR_FORMAT, "saved session: %zu bytes, the head alone is %zu", n_bytes, sizeof head);
    memcpy(&head, bytes, sizeof head);
    if (memcmp(head.magic, want.magic, sizeof head.magic) != 0)
        return err_set(err, ERR_FORMAT, "saved session: not one (no HERONSE1 at its start)");
    if (memcmp(head.fingerprint, want.fingerprint, sizeof head.fingerprint) != 0)
        return err_set(err, ERR_INVAL, "saved session: made by another model (%.16s, this is %.16s)", head.fingerprint,
                       want.fingerprint);
    if (memcmp(head.device, want.device, sizeof head.device) != 0 || head.kv_dtype != want.kv_dtype ||
        head.state_bytes != want.state_bytes || head.page_bytes != want.page_bytes)
        return err_set(err, ERR_INVAL, "saved session: made on another kind of device or with another KV type");
    if (head.n_tokens < 0 || head.n_tokens > e->options.context_tokens || head.n_pages != kv_cache_pages(head.n_tokens) ||
        head.next_pos < 0 || head.next_pos > head.n_tokens || n_bytes != saved_bytes(e, &head))
        return err_set(err, ERR_FORMAT, "saved session: %zu bytes do not hold %d tokens in %d pages", n_bytes, head.n_tokens,
                       head.n_pages);
    for (int32_t i = 0; i < s->n_pages; i++)
        kv_cache_unref(&e->kv, s->pages[i]);
    s->n_pages = s->n_tokens = s->next_pos = 0;
    if ((rc = session_reserve(s, head.n_tokens, err)) != 0)
        return rc;
    const char *p = (const char *)bytes + sizeof head;
    state_cache_upload(&e->state, e->stream, s->slot, p);
    p += head.state_bytes;
    for (int32_t i = 0; i < head.n_pages; i++)
        for (int32_t l = 0; l < e->kv.n_layers; l++) {
            const size_t at = (size_t)s->pages[i] * e->kv.page_bytes;
            kn_upload(e->stream, (char *)e->kv.layers[l].k + at, p, e->kv.page_bytes);
            kn_upload(e->stream, (char *)e->kv.layers[l].v + at, p + e->kv.page_bytes, e->kv.page_bytes);
            p += 2 * e->kv.page_bytes;
        }
    if ((rc = kn_stream_sync(e->stream, err)) != 0)
        return engine_fail(e, rc);
    s->n_tokens = head.n_tokens;
    s->next_pos = head.next_pos;
    return 0;
}
