/*
 * tokenizer - text to token ids and back: byte-level BPE of the Qwen3.5 family.
 *
 * Encoding: special tokens are split off the raw text, each remaining fragment is repaired to valid UTF-8 and put into NFC, cut
 * into words by the family's pattern, and each word's bytes are merged pairwise, lowest rank first. No token is ever added
 * (no BOS, no EOS). Source: the official tokenizer, whose ids the tests demand.
 *
 * Life cycle: tokenizer_create from the arrays of a vocabulary -> encode, decode, look up -> tokenizer_free.
 *
 * Threads: a tokenizer is immutable after create, all functions on it may be called from any thread at once. What an encoding
 * needs to write lies in a tokenizer_cache, which belongs to one thread at a time, or on the heap where none is given.
 * Memory: some 20 MiB for the family's 248,320 tokens and their merges; everything borrowed by create is copied.
 */
#ifndef HERON_ENGINE_TOKENIZER_H
#define HERON_ENGINE_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/token_trie.h"

#define TOKENIZER_TEXT_MAX (64u << 20) /* longest text of one encoding in bytes */
#define TOKENIZER_STOP_MAX 8

/* The types a GGUF gives its tokens. */
enum tokenizer_type {
    TOKENIZER_NORMAL = 1,       /* made by merging; stored in byte-to-unicode form */
    TOKENIZER_CONTROL = 3,      /* recognised in text only where the caller allows it; hidden from people */
    TOKENIZER_USER_DEFINED = 4, /* always recognised in text, such as <think> */
    TOKENIZER_UNUSED = 5,       /* padding of the vocabulary: never recognised, decodes to nothing, never to be emitted */
};

/* A borrowed byte string. */
struct tokenizer_text {
    const char *bytes;
    size_t n_bytes;
};

/* What a tokenizer is made of; everything is borrowed during tokenizer_create only. */
struct tokenizer_vocab {
    const struct tokenizer_text *tokens; /* [V] */
    const int32_t *types;                /* [V] enum tokenizer_type */
    size_t n_tokens;
    const struct tokenizer_text *merges; /* "left right"; the index is the rank */
    size_t n_merges;
    int32_t eos_id, pad_id, bos_id; /* -1: the file names none */
};

struct tokenizer;

/*
 * Check the vocabulary, map it back to bytes and index it. Cost: 0.15 s for 248,000 tokens and as many merges.
 * Errors: ERR_FORMAT (a token twice, an empty token, one of the 256 bytes missing, a merge that is not two known tokens or
 * does not give one, ids out of range), ERR_UNSUPPORTED (token types this kind of vocabulary has not: 2, 6), ERR_NOMEM.
 */
int tokenizer_create(const struct tokenizer_vocab *vocab, struct tokenizer **ret_tokenizer, struct err *err);

/* Takes NULL. */
void tokenizer_free(struct tokenizer *tokenizer);

/* ---- encoding ----------------------------------------------------------------------------------------------------------- */

/* Remembered words and working memory of one encoding thread, some 700 KiB. Errors: ERR_NOMEM. */
struct tokenizer_cache;
int tokenizer_cache_create(const struct tokenizer *tokenizer, struct tokenizer_cache **ret_cache, struct err *err);
void tokenizer_cache_free(struct tokenizer_cache *cache);

/* A growing list of ids. Zeroed by its owner before the first use; tokenizer_ids_release frees it. */
struct tokenizer_ids {
    int32_t *ids;
    size_t n, capacity;
};
void tokenizer_ids_release(struct tokenizer_ids *list);

/* Append one id. Errors: ERR_NOMEM. */
int tokenizer_ids_push(struct tokenizer_ids *list, int32_t id, struct err *err);

/* A piece of a text that is encoded as one: where special is false, no control token is recognised that touches it. */
struct tokenizer_span {
    const char *text;
    size_t n_bytes;
    bool special;
};

/*
 * Append the ids of the spans, read as one text: words may cross from one span into the next.
 *
 * cache    the caller's, made for this tokenizer; NULL: working memory is taken and given back in the call
 * list     appended to; unchanged on failure
 *
 * Any bytes are accepted. Cost: O(n log n) in the longest word, linear in the text. Errors: ERR_INVAL (more than
 * TOKENIZER_TEXT_MAX bytes), ERR_NOMEM.
 */
int tokenizer_encode_spans(const struct tokenizer *tokenizer, struct tokenizer_cache *cache, const struct tokenizer_span *spans,
                           size_t n_spans, struct tokenizer_ids *list, struct err *err);

/* The same for one text. */
int tokenizer_encode(const struct tokenizer *tokenizer, struct tokenizer_cache *cache, const char *text, size_t n_bytes,
                     bool special, struct tokenizer_ids *list, struct err *err);

/*
 * Bytes of the word that the family's pattern takes from the beginning of a text, n_bytes > 0. The text ends where a special
 * token begins; it must be valid UTF-8. Pure.
 */
size_t tokenizer_word(const char *text, size_t n_bytes);

/* ---- decoding ----------------------------------------------------------------------------------------------------------- */

/*
 * Bytes of a token, borrowed for the tokenizer's life: normal tokens may end within a UTF-8 sequence (base/utf8.h,
 * utf8_incomplete_tail), added tokens give their name, unused ones and ids outside the vocabulary nothing.
 */
const char *tokenizer_token_bytes(const struct tokenizer *tokenizer, int32_t id, size_t *ret_n_bytes);

/* Whether all ids are in the vocabulary; the first that is not is named. Errors: ERR_INVAL. */
int tokenizer_check_ids(const struct tokenizer *t, const int32_t *ids, size_t n_ids, struct err *err);

/*
 * Put the bytes of the ids into out[cap], control tokens by name if `special`, otherwise not at all. Writes whole tokens
 * while they fit. Returns the bytes that all of it needs, so that cap = 0 measures.
 */
size_t tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t n_ids, bool special, char *out,
                        size_t cap);

/* ---- look-ups ----------------------------------------------------------------------------------------------------------- */

int32_t tokenizer_n_tokens(const struct tokenizer *tokenizer);

/* The type of an id; TOKENIZER_UNUSED outside the vocabulary. */
enum tokenizer_type tokenizer_token_type(const struct tokenizer *tokenizer, int32_t id);

/* The control or user-defined token of that text, such as <|im_end|>, or -1. */
int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *text, size_t n_bytes);

/* The normal token of these bytes, or -1. */
int32_t tokenizer_find_normal(const struct tokenizer *tokenizer, const char *bytes, size_t n_bytes);

/*
 * Ids that end an answer: <|im_end|>, <|endoftext|>, <|fim_pad|>, <|repo_name|>, <|file_sep|> as far as the vocabulary has
 * them, and the file's eos. Returns their number, at most TOKENIZER_STOP_MAX.
 */
int32_t tokenizer_get_stops(const struct tokenizer *tokenizer, const int32_t **ret_ids);
bool tokenizer_is_stop(const struct tokenizer *tokenizer, int32_t id);

/* As the file names them, or -1. */
int32_t tokenizer_eos(const struct tokenizer *tokenizer);
int32_t tokenizer_pad(const struct tokenizer *tokenizer);
int32_t tokenizer_bos(const struct tokenizer *tokenizer);

/* The bytes of all normal tokens, for constrained decoding; borrowed for the tokenizer's life. */
const struct token_trie *tokenizer_get_trie(const struct tokenizer *tokenizer);

#endif
