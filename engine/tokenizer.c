#include "engine/tokenizer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/utf8.h"
#include "engine/unicode.h"

#define MERGE_TEXT_MAX (4 * TOKEN_TRIE_DEPTH_MAX) /* a mapped byte takes at most two bytes, and a merge has two sides */

/* One row of the merge table: left and right give id, at this rank. left -1: free. */
struct merge {
    int32_t left, right;
    uint32_t rank;
    int32_t id;
};

/* A hash of byte strings: slots hold id + 1 into an array of strings that the caller keeps; 0: free. */
struct string_map {
    uint32_t *slots;
    size_t mask;
};

struct tokenizer {
    size_t n_tokens;
    char *bytes;                   /* the bytes of all tokens */
    struct tokenizer_text *tokens; /* [V] into bytes */
    uint8_t *types;                /* [V] */
    struct string_map normal;      /* bytes of a normal token -> id */
    struct merge *merges;
    size_t merge_mask;
    int32_t byte_ids[256];
    struct token_trie *trie;  /* normal tokens */
    struct token_trie *added; /* control and user-defined tokens by their text */
    int32_t eos_id, pad_id, bos_id;
    int32_t stops[TOKENIZER_STOP_MAX];
    int32_t n_stops;
};

/* ---- loading ------------------------------------------------------------------------------------------------------------ */

/* The byte that a code point of the byte-to-unicode map stands for, or -1. */
static int byte_of(uint32_t cp)
{
    if ((cp >= 33 && cp <= 126) || (cp >= 161 && cp <= 172) || (cp >= 174 && cp <= 255))
        return (int)cp;
    if (cp >= 256 && cp <= 256 + 32)
        return (int)cp - 256;
    if (cp >= 0x121 && cp <= 0x142)
        return (int)(cp - 0x121) + 127;
    return cp == 0x143 ? 173 : -1;
}

/* Map a stored text back to bytes; out has room for n. False where a character is not of the map. */
static bool unmap(const char *text, size_t n, char *out, size_t *ret_n)
{
    size_t put = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        i += utf8_decode(text + i, n - i, &cp);
        const int byte = byte_of(cp);
        if (byte < 0)
            return false;
        out[put++] = (char)byte;
    }
    *ret_n = put;
    return true;
}

static size_t power_of_two_above(size_t n)
{
    size_t p = 16;
    while (p < n)
        p *= 2;
    return p;
}

static int map_init(struct string_map *map, size_t n, struct err *err)
{
    const size_t slots = power_of_two_above(2 * n);
    map->slots = calloc(slots, sizeof(map->slots[0]));
    map->mask = slots - 1;
    return map->slots ? 0 : err_set(err, ERR_NOMEM, "no memory for a table of %zu strings", n);
}

/* The slot of a string: the one that holds it, or the free one where it belongs. */
static uint32_t *map_slot(const struct string_map *map, const struct tokenizer_text *strings, const char *s, size_t n)
{
    const uint64_t h = rng_hash(s, n);
    for (size_t i = (size_t)(h ^ h >> 29) & map->mask;; i = (i + 1) & map->mask) {
        uint32_t *slot = &map->slots[i];
        if (*slot == 0)
            return slot;
        const struct tokenizer_text *have = &strings[*slot - 1];
        if (have->n_bytes == n && memcmp(have->bytes, s, n) == 0)
            return slot;
    }
}

static struct merge *merge_slot(const struct tokenizer *t, int32_t left, int32_t right)
{
    const uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * UINT64_C(0x9E3779B97F4A7C15);
    for (size_t i = (size_t)(h >> 32 ^ h) & t->merge_mask;; i = (i + 1) & t->merge_mask) {
        struct merge *m = &t->merges[i];
        if (m->left < 0 || (m->left == left && m->right == right))
            return m;
    }
}

static int check_sizes(const struct tokenizer_vocab *v, struct err *err)
{
    if (v->n_tokens < 256 || v->n_tokens > INT32_MAX / 4)
        return err_set(err, ERR_FORMAT, "vocabulary has %zu tokens, expected 256 to %d", v->n_tokens, INT32_MAX / 4);
    if (v->n_merges > INT32_MAX / 4)
        return err_set(err, ERR_FORMAT, "vocabulary has %zu merges, expected at most %d", v->n_merges, INT32_MAX / 4);
    const struct {
        const char *name;
        int32_t id;
    } ids[] = {{"eos", v->eos_id}, {"padding", v->pad_id}, {"bos", v->bos_id}};
    for (size_t i = 0; i < 3; i++)
        if (ids[i].id < -1 || (ids[i].id >= 0 && (size_t)ids[i].id >= v->n_tokens))
            return err_set(err, ERR_FORMAT, "%s token id is %d, but the vocabulary has %zu tokens", ids[i].name, ids[i].id,
                           v->n_tokens);
    for (size_t i = 0; i < v->n_tokens; i++) {
        const int32_t type = v->types[i];
        if (type == 2 || type == 6)
            return err_set(err, ERR_UNSUPPORTED, "token %zu has type %d (%s), which byte-level BPE does not use", i, type,
                           type == 2 ? "unknown" : "byte");
        if (type < 1 || type > 6)
            return err_set(err, ERR_FORMAT, "token %zu has type %d, expected 1 to 6", i, type);
        if (type != TOKENIZER_UNUSED && v->tokens[i].n_bytes == 0)
            return err_set(err, ERR_FORMAT, "token %zu is empty", i);
        if (v->tokens[i].n_bytes > 2 * TOKEN_TRIE_DEPTH_MAX)
            return err_set(err, ERR_FORMAT, "token %zu has %zu bytes, expected at most %d", i, v->tokens[i].n_bytes,
                           2 * TOKEN_TRIE_DEPTH_MAX);
    }
    return 0;
}

/* No text may stand for two tokens; padding is never looked at. */
static int check_duplicates(const struct tokenizer_vocab *v, struct err *err)
{
    struct string_map map = {0};
    int rc = map_init(&map, v->n_tokens, err);
    for (size_t i = 0; rc == 0 && i < v->n_tokens; i++) {
        if (v->types[i] == TOKENIZER_UNUSED)
            continue;
        uint32_t *slot = map_slot(&map, v->tokens, v->tokens[i].bytes, v->tokens[i].n_bytes);
        if (*slot)
            rc = err_set(err, ERR_FORMAT, "tokens %u and %zu have the same text", *slot - 1, i);
        *slot = (uint32_t)i + 1;
    }
    free(map.slots);
    return rc;
}

/* Copy the tokens as bytes and index them: normal ones in map and trie, added ones in their own trie. */
static int load_tokens(struct tokenizer *t, const struct tokenizer_vocab *v, struct err *err)
{
    size_t total = 0;
    for (size_t i = 0; i < v->n_tokens; i++)
        total += v->tokens[i].n_bytes;
    t->bytes = malloc(total + 1);
    t->tokens = calloc(v->n_tokens, sizeof(t->tokens[0]));
    t->types = malloc(v->n_tokens);
    struct token_trie_entry *normal = malloc(v->n_tokens * sizeof(*normal)), *added = malloc(v->n_tokens * sizeof(*added));
    size_t n_normal = 0, n_added = 0;
    int rc = 0;
    if (!t->bytes || !t->tokens || !t->types || !normal || !added) {
        rc = err_set(err, ERR_NOMEM, "no memory for a vocabulary of %zu tokens", v->n_tokens);
        goto fail;
    }
    rc = map_init(&t->normal, v->n_tokens, err);
    if (rc)
        goto fail;
    t->n_tokens = v->n_tokens;

    char *put = t->bytes;
    for (size_t i = 0; i < v->n_tokens; i++) {
        const struct tokenizer_text *text = &v->tokens[i];
        t->types[i] = (uint8_t)v->types[i];
        t->tokens[i].bytes = put;
        if (t->types[i] == TOKENIZER_UNUSED)
            continue;
        size_t n = text->n_bytes;
        /* a normal token that is not in mapped form cannot come out of merging; like the official decoder, keep its text */
        const bool mapped = t->types[i] == TOKENIZER_NORMAL && unmap(text->bytes, text->n_bytes, put, &n);
        if (!mapped) {
            n = text->n_bytes;
            memcpy(put, text->bytes, n);
        }
        t->tokens[i].n_bytes = n;
        const struct token_trie_entry entry = {(const unsigned char *)put, (uint32_t)n, (int32_t)i};
        if (mapped) {
            *map_slot(&t->normal, t->tokens, put, n) = (uint32_t)i + 1;
            normal[n_normal++] = entry;
        } else if (t->types[i] != TOKENIZER_NORMAL) {
            added[n_added++] = entry;
        }
        put += n;
    }
    rc = token_trie_create(normal, n_normal, &t->trie, err);
    if (rc == 0)
        rc = token_trie_create(added, n_added, &t->added, err);
fail:
    free(normal);
    free(added);
    return rc;
}

static int load_bytes(struct tokenizer *t, struct err *err)
{
    for (int b = 0; b < 256; b++) {
        const char c = (char)b;
        t->byte_ids[b] = tokenizer_find_normal(t, &c, 1);
        if (t->byte_ids[b] < 0)
            return err_set(err, ERR_FORMAT, "the vocabulary has no token for byte 0x%02x", b);
    }
    return 0;
}

static int load_merge(struct tokenizer *t, const struct tokenizer_text *text, size_t rank, char *left, struct err *err)
{
    if (text->n_bytes > MERGE_TEXT_MAX)
        return err_set(err, ERR_FORMAT, "merge %zu has %zu bytes, expected at most %d", rank, text->n_bytes, MERGE_TEXT_MAX);
    const char *space = text->n_bytes ? memchr(text->bytes, ' ', text->n_bytes) : NULL;
    const size_t n_first = space ? (size_t)(space - text->bytes) : 0;
    if (n_first == 0 || n_first + 1 == text->n_bytes)
        return err_set(err, ERR_FORMAT, "merge %zu is not two tokens with a space between", rank);

    size_t n_left = 0, n_right = 0;
    int32_t left_id = -1, right_id = -1;
    if (unmap(text->bytes, n_first, left, &n_left))
        left_id = tokenizer_find_normal(t, left, n_left);
    char *right = left + n_left;
    if (left_id >= 0 && unmap(space + 1, text->n_bytes - n_first - 1, right, &n_right))
        right_id = tokenizer_find_normal(t, right, n_right);
    if (left_id < 0 || right_id < 0)
        return err_set(err, ERR_FORMAT, "merge %zu names a token that the vocabulary does not have: its %s part", rank,
                       left_id < 0 ? "left" : "right");
    const int32_t id = tokenizer_find_normal(t, left, n_left + n_right);
    if (id < 0)
        return err_set(err, ERR_FORMAT, "merge %zu makes a token that the vocabulary does not have", rank);
    struct merge *m = merge_slot(t, left_id, right_id);
    if (m->left >= 0)
        return err_set(err, ERR_FORMAT, "merge %zu repeats merge %u", rank, m->rank);
    *m = (struct merge){left_id, right_id, (uint32_t)rank, id};
    return 0;
}

static int load_merges(struct tokenizer *t, const struct tokenizer_vocab *v, struct err *err)
{
    const size_t slots = power_of_two_above(2 * v->n_merges);
    t->merges = malloc(slots * sizeof(t->merges[0]));
    if (!t->merges)
        return err_set(err, ERR_NOMEM, "no memory for a vocabulary of %zu merges", v->n_merges);
    for (size_t i = 0; i < slots; i++)
        t->merges[i].left = -1;
    t->merge_mask = slots - 1;
    char buffer[MERGE_TEXT_MAX];
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < v->n_merges; i++)
        rc = load_merge(t, &v->merges[i], i, buffer, err);
    return rc;
}

static void load_stops(struct tokenizer *t)
{
    static const char *const names[] = {"<|im_end|>", "<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const int32_t id = tokenizer_find(t, names[i], strlen(names[i]));
        if (id >= 0)
            t->stops[t->n_stops++] = id;
    }
    if (t->eos_id >= 0 && !tokenizer_is_stop(t, t->eos_id))
        t->stops[t->n_stops++] = t->eos_id;
}

int tokenizer_create(const struct tokenizer_vocab *vocab, struct tokenizer **ret_tokenizer, struct err *err)
{
    int rc = check_sizes(vocab, err);
    if (rc == 0)
        rc = check_duplicates(vocab, err);
    if (rc)
        return rc;
    struct tokenizer *t = calloc(1, sizeof(*t));
    if (!t)
        return err_set(err, ERR_NOMEM, "no memory for a tokenizer");
    t->eos_id = vocab->eos_id;
    t->pad_id = vocab->pad_id;
    t->bos_id = vocab->bos_id;
    rc = load_tokens(t, vocab, err);
    if (rc == 0)
        rc = load_bytes(t, err);
    if (rc == 0)
        rc = load_merges(t, vocab, err);
    if (rc) {
        tokenizer_free(t);
        return rc;
    }
    load_stops(t);
    *ret_tokenizer = t;
    return 0;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t)
        return;
    token_trie_free(t->trie);
    token_trie_free(t->added);
    free(t->merges);
    free(t->normal.slots);
    free(t->types);
    free(t->tokens);
    free(t->bytes);
    free(t);
}

/* ---- words -------------------------------------------------------------------------------------------------------------- */

struct scan {
    const char *text;
    size_t n;
};

/* The class of the code point at i, and where the next one begins. */
static enum unicode_class class_at(const struct scan *s, size_t i, uint32_t *ret_cp, size_t *ret_next)
{
    const unsigned char c = (unsigned char)s->text[i];
    if (c < 0x80) {
        *ret_cp = c;
        *ret_next = i + 1;
    } else {
        *ret_next = i + utf8_decode(s->text + i, s->n - i, ret_cp);
    }
    return unicode_class_of(*ret_cp);
}

/* End of the run of letters and marks (or, with `other`, of code points of no class) that begins at i; i where none does. */
static size_t run_end(const struct scan *s, size_t i, bool other)
{
    while (i < s->n) {
        uint32_t cp;
        size_t next;
        const enum unicode_class class = class_at(s, i, &cp, &next);
        if (other ? class != UNICODE_OTHER : class != UNICODE_LETTER && class != UNICODE_MARK)
            break;
        i = next;
    }
    return i;
}

/* Bytes of the contraction that begins at an apostrophe, or 0. U+017F is an s whose case was folded. */
static size_t contraction(const char *s, size_t n)
{
    const int a = n > 1 ? (unsigned char)s[1] | 0x20 : 0, b = n > 2 ? (unsigned char)s[2] | 0x20 : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    if (((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l'))
        return 3;
    if (n > 2 && (unsigned char)s[1] == 0xC5 && (unsigned char)s[2] == 0xBF)
        return 3;
    return 0;
}

/* The word of a white-space run that begins at 0: rule 5 of the pattern. */
static size_t space_word(const struct scan *s)
{
    size_t i = 0, last = 0, after_newline = 0;
    while (i < s->n) {
        uint32_t cp;
        size_t next;
        if (class_at(s, i, &cp, &next) != UNICODE_SPACE)
            break;
        last = i;
        i = next;
        if (cp == '\n' || cp == '\r')
            after_newline = i;
    }
    if (after_newline)
        return after_newline;
    return i < s->n && last > 0 ? last : i;
}

size_t tokenizer_word(const char *text, size_t n_bytes)
{
    const struct scan s = {text, n_bytes};
    uint32_t cp;
    size_t next;
    const enum unicode_class class = class_at(&s, 0, &cp, &next);
    if (cp == '\'') {
        const size_t n = contraction(text, n_bytes);
        if (n)
            return n;
    }
    if (class == UNICODE_NUMBER)
        return next;
    if (cp != '\r' && cp != '\n') {
        const size_t end = run_end(&s, next, false);
        if (end > next || class == UNICODE_LETTER || class == UNICODE_MARK)
            return end;
    }
    if (class == UNICODE_OTHER || cp == ' ') {
        const size_t start = cp == ' ' ? next : 0;
        size_t end = run_end(&s, start, true);
        if (end > start) {
            while (end < n_bytes && (text[end] == '\r' || text[end] == '\n'))
                end++;
            return end;
        }
    }
    return space_word(&s);
}

/* ---- merging ------------------------------------------------------------------------------------------------------------ */

/* A symbol of a word, at the index of its first byte. n_bytes 0: it was merged into one before. */
struct symbol {
    int32_t id;
    uint32_t n_bytes;
    uint32_t prev; /* index of the symbol before; UINT32_MAX: none */
};

/*
 * A possible merge. It is stale once the two symbols at this place are not as long together as they were: a symbol only grows, or
 * is merged away and has no bytes.
 */
struct candidate {
    uint64_t key; /* rank << 32 | index of the left symbol */
    uint32_t n_bytes;
    int32_t id;
};

#define CACHE_SLOTS      8192
#define CACHE_WORD_BYTES 30
#define CACHE_WORD_IDS   8

struct cached_word {
    uint8_t n_bytes; /* 0: free */
    uint8_t n_ids;
    char bytes[CACHE_WORD_BYTES];
    int32_t ids[CACHE_WORD_IDS];
};

struct tokenizer_cache {
    const struct tokenizer *tokenizer;
    struct cached_word *words; /* [CACHE_SLOTS], or NULL: nothing is remembered */
    struct unicode_scratch unicode;
    struct symbol *symbols;
    struct candidate *heap;
    size_t n_heap;
    size_t cap_word; /* symbols has as many, heap twice as many */
    char *joined;    /* spans put together */
    size_t cap_joined;
};

static void heap_push(struct tokenizer_cache *c, struct candidate x)
{
    size_t i = c->n_heap++;
    while (i > 0 && c->heap[(i - 1) / 2].key > x.key) {
        c->heap[i] = c->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    c->heap[i] = x;
}

static struct candidate heap_pop(struct tokenizer_cache *c)
{
    const struct candidate top = c->heap[0], x = c->heap[--c->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= c->n_heap)
            break;
        if (child + 1 < c->n_heap && c->heap[child + 1].key < c->heap[child].key)
            child++;
        if (c->heap[child].key >= x.key)
            break;
        c->heap[i] = c->heap[child];
        i = child;
    }
    c->heap[i] = x;
    return top;
}

/* Offer the pair of the symbols at left and right, if it is a merge. */
static void offer(struct tokenizer_cache *c, uint32_t left, uint32_t right)
{
    const struct symbol *a = &c->symbols[left], *b = &c->symbols[right];
    const struct merge *m = merge_slot(c->tokenizer, a->id, b->id);
    if (m->left >= 0)
        heap_push(c, (struct candidate){(uint64_t)m->rank << 32 | left, a->n_bytes + b->n_bytes, m->id});
}

static int reserve_word(struct tokenizer_cache *c, size_t n, struct err *err)
{
    if (n <= c->cap_word)
        return 0;
    const size_t want = n > 512 ? n : 512;
    struct symbol *symbols = realloc(c->symbols, want * sizeof(*symbols));
    if (symbols)
        c->symbols = symbols;
    /* n - 1 pairs at first; each of at most n - 1 merges takes one candidate out and puts at most two in */
    struct candidate *heap = realloc(c->heap, 2 * want * sizeof(*heap));
    if (heap)
        c->heap = heap;
    if (!symbols || !heap)
        return err_set(err, ERR_NOMEM, "no memory to tokenize a word of %zu bytes", n);
    c->cap_word = want;
    return 0;
}

/* Merge a word's bytes down to tokens and append these. */
static int merge_word(struct tokenizer_cache *c, const char *word, size_t n, struct tokenizer_ids *list, struct err *err)
{
    const struct tokenizer *t = c->tokenizer;
    int rc = reserve_word(c, n, err);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < n; i++)
        c->symbols[i] = (struct symbol){t->byte_ids[(unsigned char)word[i]], 1, i - 1};
    c->n_heap = 0;
    for (uint32_t i = 1; i < n; i++)
        offer(c, i - 1, i);
    while (c->n_heap) {
        const struct candidate top = heap_pop(c);
        const uint32_t left = (uint32_t)top.key;
        struct symbol *a = &c->symbols[left];
        const size_t right = left + a->n_bytes;
        if (right >= n || a->n_bytes + c->symbols[right].n_bytes != top.n_bytes)
            continue;
        a->id = top.id;
        a->n_bytes = top.n_bytes;
        c->symbols[right].n_bytes = 0;
        const size_t after = left + a->n_bytes;
        if (after < n) {
            c->symbols[after].prev = left;
            offer(c, left, (uint32_t)after);
        }
        if (left > 0)
            offer(c, a->prev, left);
    }
    for (size_t i = 0; rc == 0 && i < n; i += c->symbols[i].n_bytes)
        rc = tokenizer_ids_push(list, c->symbols[i].id, err);
    return rc;
}

static int encode_word(struct tokenizer_cache *c, const char *word, size_t n, struct tokenizer_ids *list, struct err *err)
{
    if (n == 1)
        return tokenizer_ids_push(list, c->tokenizer->byte_ids[(unsigned char)word[0]], err);
    if (!c->words || n > CACHE_WORD_BYTES)
        return merge_word(c, word, n, list, err);
    const uint64_t h = rng_hash(word, n);
    struct cached_word *w = &c->words[(h ^ h >> 31) % CACHE_SLOTS];
    int rc = 0;
    if (w->n_bytes == n && memcmp(w->bytes, word, n) == 0) {
        for (int i = 0; rc == 0 && i < w->n_ids; i++)
            rc = tokenizer_ids_push(list, w->ids[i], err);
        return rc;
    }
    const size_t before = list->n;
    rc = merge_word(c, word, n, list, err);
    const size_t n_ids = list->n - before;
    if (rc == 0 && n_ids <= CACHE_WORD_IDS) {
        w->n_bytes = (uint8_t)n;
        w->n_ids = (uint8_t)n_ids;
        memcpy(w->bytes, word, n);
        memcpy(w->ids, list->ids + before, n_ids * sizeof(w->ids[0]));
    }
    return rc;
}

/* ---- encoding ----------------------------------------------------------------------------------------------------------- */

int tokenizer_cache_create(const struct tokenizer *tokenizer, struct tokenizer_cache **ret_cache, struct err *err)
{
    struct tokenizer_cache *c = calloc(1, sizeof(*c));
    struct cached_word *words = calloc(CACHE_SLOTS, sizeof(*words));
    if (!c || !words) {
        free(c);
        free(words);
        return err_set(err, ERR_NOMEM, "no memory for a tokenizer cache");
    }
    c->tokenizer = tokenizer;
    c->words = words;
    *ret_cache = c;
    return 0;
}

static void cache_release(struct tokenizer_cache *c)
{
    unicode_scratch_release(&c->unicode);
    free(c->words);
    free(c->symbols);
    free(c->heap);
    free(c->joined);
}

void tokenizer_cache_free(struct tokenizer_cache *cache)
{
    if (!cache)
        return;
    cache_release(cache);
    free(cache);
}

void tokenizer_ids_release(struct tokenizer_ids *list)
{
    free(list->ids);
    *list = (struct tokenizer_ids){0};
}

int tokenizer_ids_push(struct tokenizer_ids *list, int32_t id, struct err *err)
{
    if (list->n == list->capacity) {
        const size_t want = list->capacity ? 2 * list->capacity : 64;
        int32_t *ids = realloc(list->ids, want * sizeof(*ids));
        if (!ids)
            return err_set(err, ERR_NOMEM, "no memory for %zu token ids", want);
        list->ids = ids;
        list->capacity = want;
    }
    list->ids[list->n++] = id;
    return 0;
}

/* Text between two special tokens. */
static int encode_fragment(struct tokenizer_cache *c, const char *text, size_t n, struct tokenizer_ids *list, struct err *err)
{
    if (n == 0)
        return 0;
    int rc = unicode_normalize(&c->unicode, text, n, &text, &n, err);
    while (rc == 0 && n > 0) {
        const size_t word = tokenizer_word(text, n);
        rc = encode_word(c, text, word, list, err);
        text += word;
        n -= word;
    }
    return rc;
}

/*
 * The longest added token that begins at text[i], or -1; control tokens must end by special_end.
 */
static int32_t match_added(const struct tokenizer *t, const char *text, size_t i, size_t n, size_t special_end, size_t *ret_end)
{
    const struct token_trie *trie = t->added;
    int32_t found = -1;
    uint32_t node = 0;
    for (size_t k = i; k < n; k++) {
        node = token_trie_child(trie, node, (uint8_t)text[k]);
        if (node == 0)
            break;
        const int32_t id = trie->nodes[node].token;
        if (id >= 0 && (t->types[id] == TOKENIZER_USER_DEFINED || k < special_end)) {
            found = id;
            *ret_end = k + 1;
        }
    }
    return found;
}

/* Cuts a text, whose spans say where control tokens are allowed, at its special tokens. */
static int encode_joined(struct tokenizer_cache *c, const char *text, size_t n, const struct tokenizer_span *spans,
                         size_t n_spans, struct tokenizer_ids *list, struct err *err)
{
    const struct tokenizer *t = c->tokenizer;
    size_t start = 0, span = 0, span_end = 0, special_end = 0;
    bool special = false;
    int rc = 0;
    for (size_t i = 0; i < n;) {
        if (t->added->root_child[(uint8_t)text[i]] == 0) {
            i++;
            continue;
        }
        for (; span_end <= i; span++) {
            special = spans[span].special;
            span_end += spans[span].n_bytes;
        }
        if (special && special_end < span_end) {
            special_end = span_end;
            for (size_t s = span; s < n_spans && (spans[s].special || spans[s].n_bytes == 0); s++)
                special_end += spans[s].n_bytes;
        }
        size_t end = 0;
        const int32_t id = match_added(t, text, i, n, special ? special_end : i, &end);
        if (id < 0) {
            i++;
            continue;
        }
        rc = encode_fragment(c, text + start, i - start, list, err);
        if (rc == 0)
            rc = tokenizer_ids_push(list, id, err);
        if (rc)
            return rc;
        i = start = end;
    }
    return encode_fragment(c, text + start, n - start, list, err);
}

static int join_spans(struct tokenizer_cache *c, const struct tokenizer_span *spans, size_t n_spans, size_t n, struct err *err)
{
    if (n > c->cap_joined) {
        char *p = realloc(c->joined, n);
        if (!p)
            return err_set(err, ERR_NOMEM, "no memory for a text of %zu bytes", n);
        c->joined = p;
        c->cap_joined = n;
    }
    size_t put = 0;
    for (size_t i = 0; i < n_spans; i++) {
        if (spans[i].n_bytes)
            memcpy(c->joined + put, spans[i].text, spans[i].n_bytes);
        put += spans[i].n_bytes;
    }
    return 0;
}

int tokenizer_encode_spans(const struct tokenizer *tokenizer, struct tokenizer_cache *cache, const struct tokenizer_span *spans,
                           size_t n_spans, struct tokenizer_ids *list, struct err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < n_spans; i++) {
        if (spans[i].n_bytes > TOKENIZER_TEXT_MAX - n)
            return err_set(err, ERR_INVAL, "the text to tokenize is longer than %u bytes", TOKENIZER_TEXT_MAX);
        n += spans[i].n_bytes;
    }
    if (n == 0)
        return 0;
    struct tokenizer_cache own = {.tokenizer = tokenizer};
    struct tokenizer_cache *c = cache ? cache : &own;
    assert(c->tokenizer == tokenizer);
    const size_t before = list->n;
    int rc = 0;
    const char *text = spans[0].text;
    if (n_spans > 1) {
        rc = join_spans(c, spans, n_spans, n, err);
        text = c->joined;
    }
    if (rc == 0)
        rc = encode_joined(c, text, n, spans, n_spans, list, err);
    if (rc)
        list->n = before;
    cache_release(&own);
    return rc;
}

int tokenizer_encode(const struct tokenizer *tokenizer, struct tokenizer_cache *cache, const char *text, size_t n_bytes,
                     bool special, struct tokenizer_ids *list, struct err *err)
{
    const struct tokenizer_span span = {text, n_bytes, special};
    return tokenizer_encode_spans(tokenizer, cache, &span, 1, list, err);
}

/* ---- decoding and look-ups ---------------------------------------------------------------------------------------------- */

static bool in_vocabulary(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->n_tokens;
}

const char *tokenizer_token_bytes(const struct tokenizer *t, int32_t id, size_t *ret_n_bytes)
{
    const bool known = in_vocabulary(t, id);
    *ret_n_bytes = known ? t->tokens[id].n_bytes : 0;
    return known ? t->tokens[id].bytes : "";
}

int tokenizer_check_ids(const struct tokenizer *t, const int32_t *ids, size_t n_ids, struct err *err)
{
    for (size_t i = 0; i < n_ids; i++)
        if (!in_vocabulary(t, ids[i]))
            return err_set(err, ERR_INVAL, "token id %d (number %zu): the vocabulary has 0 to %d", ids[i], i + 1,
                           (int)t->n_tokens - 1);
    return 0;
}

size_t tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n_ids, bool special, char *out, size_t cap)
{
    size_t need = 0, put = 0;
    for (size_t i = 0; i < n_ids; i++) {
        size_t n;
        const char *bytes = tokenizer_token_bytes(t, ids[i], &n);
        if (n == 0 || (!special && t->types[ids[i]] == TOKENIZER_CONTROL))
            continue;
        if (need == put && n <= cap - put) {
            memcpy(out + put, bytes, n);
            put += n;
        }
        need += n;
    }
    return need;
}

int32_t tokenizer_n_tokens(const struct tokenizer *t)
{
    return (int32_t)t->n_tokens;
}

enum tokenizer_type tokenizer_token_type(const struct tokenizer *t, int32_t id)
{
    return in_vocabulary(t, id) ? (enum tokenizer_type)t->types[id] : TOKENIZER_UNUSED;
}

int32_t tokenizer_find(const struct tokenizer *t, const char *text, size_t n_bytes)
{
    uint32_t node = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        node = token_trie_child(t->added, node, (uint8_t)text[i]);
        if (node == 0)
            return -1;
    }
    return t->added->nodes[node].token;
}

int32_t tokenizer_find_normal(const struct tokenizer *t, const char *bytes, size_t n_bytes)
{
    return (int32_t)*map_slot(&t->normal, t->tokens, bytes, n_bytes) - 1;
}

int32_t tokenizer_get_stops(const struct tokenizer *t, const int32_t **ret_ids)
{
    *ret_ids = t->stops;
    return t->n_stops;
}

bool tokenizer_is_stop(const struct tokenizer *t, int32_t id)
{
    for (int32_t i = 0; i < t->n_stops; i++)
        if (t->stops[i] == id)
            return true;
    return false;
}

int32_t tokenizer_eos(const struct tokenizer *t)
{
    return t->eos_id;
}

int32_t tokenizer_pad(const struct tokenizer *t)
{
    return t->pad_id;
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
    return t->bos_id;
}

const struct token_trie *tokenizer_get_trie(const struct tokenizer *t)
{
    return t->trie;
}
