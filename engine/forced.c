#include "engine/forced.h"

#include <stdlib.h>
#include <string.h>

#define BYTES_MAX 256 /* of what is looked at in one go */

struct forced {
    const struct tokenizer *tokenizer;
    struct tokenizer_cache *cache;
    struct constraint_vocab *vocab;
    const struct token_trie *trie;
    struct constraint *walk; /* [trie->max_depth + 1] */
    struct tokenizer_ids ids;
    char text[BYTES_MAX];
};

int forced_create(const struct tokenizer *tokenizer, struct tokenizer_cache *cache, struct constraint_vocab *vocab,
                  struct forced **ret_forced, struct err *err)
{
    struct forced *f = calloc(1, sizeof *f);
    int rc = 0;
    if (!f)
        return err_set(err, ERR_NOMEM, "out of memory: constrained decoding");
    f->tokenizer = tokenizer;
    f->cache = cache;
    f->vocab = vocab;
    f->trie = tokenizer_get_trie(tokenizer);
    f->walk = calloc((size_t)f->trie->max_depth + 1, sizeof *f->walk);
    if (!f->walk)
        rc = err_set(err, ERR_NOMEM, "out of memory: constrained decoding");
    /* a token has a byte at least: the list grows here, and never again */
    for (int32_t i = 0; rc == 0 && i < BYTES_MAX; i++)
        rc = tokenizer_ids_push(&f->ids, 0, err);
    if (rc != 0) {
        forced_free(f);
        return rc;
    }
    *ret_forced = f;
    return 0;
}

void forced_free(struct forced *f)
{
    if (!f)
        return;
    tokenizer_ids_release(&f->ids);
    free(f->walk);
    free(f);
}

/* The only byte that may come next, or -1. Leaves c behind it. */
static int take_only_byte(struct constraint *c)
{
    struct constraint probe, after;
    int only = -1;
    if (constraint_can_end(c))
        return -1;
    for (int byte = 0; byte < 256; byte++) {
        constraint_copy(&probe, c);
        if (!constraint_advance(&probe, (uint8_t)byte))
            continue;
        if (only >= 0)
            return -1;
        only = byte;
        constraint_copy(&after, &probe);
    }
    if (only >= 0)
        constraint_copy(c, &after);
    return only;
}

/* The forced bytes into f->text; their number. */
static int32_t write_bytes(struct forced *f, const struct constraint *from)
{
    struct constraint c;
    int32_t n = 0;
    constraint_copy(&c, from);
    for (int byte; n < BYTES_MAX && (byte = take_only_byte(&c)) >= 0; n++)
        f->text[n] = (char)byte;
    return n;
}

/* Whether some token may stand in state c that begins with these n bytes and goes on. */
static bool is_exceeded(struct forced *f, const struct constraint *c, const char *bytes, int32_t n)
{
    const struct token_trie *trie = f->trie;
    uint32_t root = 0;
    for (int32_t i = 0; i < n; i++)
        if ((root = token_trie_child(trie, root, (uint8_t)bytes[i])) == 0)
            return false;
    struct constraint *first = &f->walk[trie->nodes[root].depth];
    constraint_copy(first, c);
    constraint_mark(first);
    if (!constraint_take(first, bytes, (size_t)n) || first->entered || constraint_is_done(first))
        return false;
    for (uint32_t i = root + 1; i < trie->nodes[root].end;) {
        const struct token_trie_node *node = &trie->nodes[i];
        struct constraint *state = &f->walk[node->depth];
        constraint_copy(state, &f->walk[node->depth - 1]);
        if (!constraint_advance(state, node->byte) || state->entered) {
            i = node->end;
            continue;
        }
        if (node->token >= 0)
            return true;
        i = constraint_is_done(state) ? node->end : i + 1;
    }
    return false;
}

/* How many of the ids are these bytes, are normal tokens, and may be taken one after the other, none of them a part of a longer one. */
static int32_t count_good(struct forced *f, const struct constraint *from, int32_t n_bytes)
{
    struct constraint c;
    int32_t at = 0;
    constraint_copy(&c, from);
    for (int32_t i = 0; i < FORCED_MAX && (size_t)i < f->ids.n; i++) {
        size_t n;
        const char *bytes = tokenizer_token_bytes(f->tokenizer, f->ids.ids[i], &n);
        if ((int32_t)n > n_bytes - at || memcmp(bytes, f->text + at, n) != 0 ||
            tokenizer_find_normal(f->tokenizer, bytes, n) != f->ids.ids[i] || is_exceeded(f, &c, f->text + at, n_bytes - at))
            return i;
        constraint_mark(&c);
        if (!constraint_take(&c, bytes, n) || c.entered)
            return i;
        at += (int32_t)n;
    }
    return f->ids.n < FORCED_MAX ? (int32_t)f->ids.n : FORCED_MAX;
}

int32_t forced_next(struct forced *f, const struct constraint *from, int32_t remaining, int32_t *ret_ids)
{
    const int32_t n_bytes = write_bytes(f, from);
    f->ids.n = 0;
    if (n_bytes == 0 || tokenizer_encode(f->tokenizer, f->cache, f->text, (size_t)n_bytes, false, &f->ids, NULL) != 0)
        return 0;
    const int32_t n = count_good(f, from, n_bytes);
    struct constraint c;
    constraint_copy(&c, from);
    for (int32_t i = 0; i < n; i++) {
        size_t size;
        const char *bytes = tokenizer_token_bytes(f->tokenizer, f->ids.ids[i], &size);
        constraint_take(&c, bytes, size);
        ret_ids[i] = f->ids.ids[i];
    }
    return n > remaining || constraint_close_tokens(f->vocab, &c) > remaining - n ? 0 : n;
}
