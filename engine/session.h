/*
 * session - one timeline of tokens: how many, at which position, in which KV pages and which recurrent-state slot.
 *
 * The engine owns a fixed array of sessions; opening one takes a state slot, and its pages are taken as it grows
 * (session_reserve), so that an idle session costs no pages. Public functions (open, close, fork, save, load) are those of
 * engine.h.
 *
 * Invariant: pages[i] holds tokens 64 i .. 64 i + 63; n_pages covers at least n_tokens. Threads: the engine thread.
 */
#ifndef HERON_ENGINE_SESSION_H
#define HERON_ENGINE_SESSION_H

#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "engine/state_cache.h"

struct en_session {
    struct en_engine *engine;
    bool is_open;
    int32_t slot;   /* in the state cache */
    int32_t *pages; /* [pages of context_tokens] */
    int32_t n_pages;
    int32_t n_tokens; /* evaluated */
    int32_t next_pos; /* M-RoPE position of the next text token */
};

/* Make room for n more tokens: pages, and a copy of a shared last page. Errors: ERR_FULL (context, or the pool); nothing
 * changed then. */
int session_reserve(struct en_session *s, int32_t n_tokens, struct err *err);

#endif
