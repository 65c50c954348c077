#include "engine/vocab.h"

#include "engine/engine.h"
#include "engine/synthetic.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS_MAX (UINT64_C(1) << 23) /* of a vocabulary, and of its merges */

static int check_kind(const struct gguf *g, const char *key, const char *expected, struct err *err)
{
    char found[60];
    if (gguf_string_is(g, key, expected))
        return 0;
    if (!gguf_copy_text(g, key, found, sizeof found))
        return err_set(err, ERR_FORMAT, "%s: no string key %s", gguf_path(g), key);
    return err_set(err, ERR_UNSUPPORTED, "%s: %s is \"%s\", expected \"%s\"", gguf_path(g), key, found, expected);
}

/* An array of strings as a list of borrowed texts; the caller frees it. */
static int read_texts(const struct gguf *g, const char *key, struct tokenizer_text **ret_texts, size_t *ret_n, struct err *err)
{
    struct gguf_strings iter;
    int rc = gguf_strings_begin(g, key, &iter, err);
    if (rc == ERR_NOT_FOUND)
        return err_set(err, ERR_FORMAT, "%s: no key %s", gguf_path(g), key);
    if (rc < 0)
        return rc;
    if (iter.left > TOKENS_MAX)
        return err_set(err, ERR_FORMAT, "%s: %s has %" PRIu64 " entries, expected at most %" PRIu64, gguf_path(g), key,
                       iter.left, TOKENS_MAX);
    struct tokenizer_text *texts = malloc((iter.left ? iter.left : 1) * sizeof *texts);
    if (!texts)
        return err_set(err, ERR_NOMEM, "%s: no memory for %" PRIu64 " entries of %s", gguf_path(g), iter.left, key);
    size_t n = 0;
    struct gguf_string s;
    while (gguf_strings_next(&iter, &s))
        texts[n++] = (struct tokenizer_text){s.data, s.n};
    *ret_texts = texts;
    *ret_n = n;
    return 0;
}

static int read_types(const struct gguf *g, size_t n_tokens, int32_t *types, struct err *err)
{
    const char *key = "tokenizer.ggml.token_type";
    if (!gguf_find(g, key)) { /* older files: all normal */
        for (size_t i = 0; i < n_tokens; i++)
            types[i] = TOKENIZER_NORMAL;
        return 0;
    }
    if (gguf_array_count(g, key) != n_tokens)
        return err_set(err, ERR_FORMAT, "%s: %s has %" PRIu64 " entries, but tokenizer.ggml.tokens has %zu", gguf_path(g), key,
                       gguf_array_count(g, key), n_tokens);
    for (size_t i = 0; i < n_tokens; i++) {
        int64_t v;
        int rc = gguf_get_i64_at(g, key, i, &v, err);
        if (rc < 0)
            return rc;
        if (v < 0 || v > 255)
            return err_set(err, ERR_FORMAT, "%s: %s of token %zu is %" PRId64, gguf_path(g), key, i, v);
        types[i] = (int32_t)v;
    }
    return 0;
}

/* An id key: -1 where it is missing; the range is tokenizer_create's business. */
static int read_id(const struct gguf *g, const char *key, size_t n_tokens, int32_t *ret_id, struct err *err)
{
    uint32_t v;
    *ret_id = -1;
    if (!gguf_find(g, key))
        return 0;
    int rc = gguf_get_u32(g, key, &v, err);
    if (rc < 0)
        return rc;
    if (v >= n_tokens)
        return err_set(err, ERR_FORMAT, "%s: %s is %u, but there are %zu tokens", gguf_path(g), key, v, n_tokens);
    *ret_id = (int32_t)v;
    return 0;
}

int vocab_read(const struct gguf *g, struct tokenizer **ret_tokenizer, struct err *err)
{
    struct tokenizer_text *tokens = NULL, *merges = NULL;
    int32_t *types = NULL;
    struct tokenizer_vocab v = {0};
    int rc = check_kind(g, "tokenizer.ggml.model", "gpt2", err);
    if (rc == 0)
        rc = check_kind(g, "tokenizer.ggml.pre", "qwen35", err);
    if (rc == 0)
        rc = read_texts(g, "tokenizer.ggml.tokens", &tokens, &v.n_tokens, err);
    if (rc == 0)
        rc = read_texts(g, "tokenizer.ggml.merges", &merges, &v.n_merges, err);
    if (rc < 0)
        goto done;
    types = malloc((v.n_tokens ? v.n_tokens : 1) * sizeof *types);
    if (!types) {
        rc = err_set(err, ERR_NOMEM, "%s: no memory for %zu token types", gguf_path(g), v.n_tokens);
        goto done;
    }
    rc = read_types(g, v.n_tokens, types, err);
    if (rc == 0)
        rc = read_id(g, "tokenizer.ggml.eos_token_id", v.n_tokens, &v.eos_id, err);
    if (rc == 0)
        rc = read_id(g, "tokenizer.ggml.padding_token_id", v.n_tokens, &v.pad_id, err);
    if (rc == 0)
        rc = read_id(g, "tokenizer.ggml.bos_token_id", v.n_tokens, &v.bos_id, err);
    if (rc < 0)
        goto done;
    v.tokens = tokens;
    v.types = types;
    v.merges = merges;
    rc = tokenizer_create(&v, ret_tokenizer, err);
    if (rc < 0)
        err_prefix(err, "%s", gguf_path(g));
done:
    free(tokens);
    free(merges);
    free(types);
    return rc;
}

int vocab_synthetic(int32_t n_vocab, struct tokenizer **ret_tokenizer, struct err *err)
{
    struct synthetic_vocab *s = NULL;
    int rc = synthetic_vocab_create(n_vocab, &s, err);
    if (rc < 0)
        return rc;
    struct tokenizer_text *tokens = malloc((size_t)s->n_tokens * sizeof *tokens);
    struct tokenizer_text *merges = malloc((size_t)(s->n_merges + 1) * sizeof *merges);
    if (!tokens || !merges) {
        rc = err_set(err, ERR_NOMEM, "no memory for a vocabulary of %d tokens", n_vocab);
        goto done;
    }
    for (int32_t i = 0; i < s->n_tokens; i++)
        tokens[i] = (struct tokenizer_text){s->tokens[i], strlen(s->tokens[i])};
    for (int32_t i = 0; i < s->n_merges; i++)
        merges[i] = (struct tokenizer_text){s->merges[i], strlen(s->merges[i])};
    struct tokenizer_vocab v = {.tokens = tokens,
                                .types = s->types,
                                .n_tokens = (size_t)s->n_tokens,
                                .merges = merges,
                                .n_merges = (size_t)s->n_merges,
                                .eos_id = s->eos,
                                .pad_id = s->pad,
                                .bos_id = -1};
    rc = tokenizer_create(&v, ret_tokenizer, err);
done:
    free(tokens);
    free(merges);
    synthetic_vocab_free(s);
    return rc;
}

/* ---- the door: a vocabulary without its model ------------------------------------------------------------------------------- */

struct en_vocab {
    struct tokenizer *tokenizer;
    struct tokenizer_cache *cache;
};

int en_vocab_open(const char *model_path, struct en_vocab **ret_vocab, struct err *err)
{
    struct gguf *g = NULL;
    struct en_vocab *v = calloc(1, sizeof *v);
    int rc = v ? gguf_open(model_path, &g, err) : err_set(err, ERR_NOMEM, "no memory for a vocabulary");
    if (rc == 0)
        rc = vocab_read(g, &v->tokenizer, err);
    gguf_close(g);
    if (rc == 0)
        rc = tokenizer_cache_create(v->tokenizer, &v->cache, err);
    if (rc < 0) {
        en_vocab_close(v);
        return rc;
    }
    *ret_vocab = v;
    return 0;
}

void en_vocab_close(struct en_vocab *vocab)
{
    if (!vocab)
        return;
    tokenizer_cache_free(vocab->cache);
    tokenizer_free(vocab->tokenizer);
    free(vocab);
}

int en_vocab_tokenize(struct en_vocab *vocab, const char *text, size_t n_bytes, bool special, int32_t **ret_ids, size_t *ret_n,
                      struct err *err)
{
    struct tokenizer_ids list = {0};
    int rc = tokenizer_encode(vocab->tokenizer, vocab->cache, text, n_bytes, special, &list, err);
    if (rc == 0 && !list.ids && !(list.ids = malloc(sizeof *list.ids))) /* an empty text still gives something to free */
        rc = err_set(err, ERR_NOMEM, "no memory for a list of ids");
    if (rc < 0) {
        tokenizer_ids_release(&list);
        return rc;
    }
    *ret_ids = list.ids;
    *ret_n = list.n;
    return 0;
}

int en_vocab_detokenize(struct en_vocab *vocab, const int32_t *ids, size_t n, bool special, char **ret_text, size_t *ret_bytes,
                        struct err *err)
{
    const int rc = tokenizer_check_ids(vocab->tokenizer, ids, n, err);
    if (rc < 0)
        return rc;
    const size_t bytes = tokenizer_decode(vocab->tokenizer, ids, n, special, NULL, 0);
    char *text = malloc(bytes + 1);
    if (!text)
        return err_set(err, ERR_NOMEM, "no memory for a text of %zu bytes", bytes);
    tokenizer_decode(vocab->tokenizer, ids, n, special, text, bytes);
    text[bytes] = 0;
    *ret_text = text;
    if (ret_bytes)
        *ret_bytes = bytes;
    return 0;
}
