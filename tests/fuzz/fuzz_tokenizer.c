/*
 * Vocabularies and texts from anywhere.
 *
 * First byte odd: what follows is a vocabulary, then a text. A vocabulary is items up to a byte 0: the item's kind (its low three
 * bits the type of a token, 7 a merge; bit 3: text is in stored form already), its length, its bytes. Even: the vocabulary is a
 * fixed one. Checked: what was accepted can be used, with and without a cache and cut into two spans gives the same ids, and
 * decoding gives the text in NFC where no added token was recognised.
 */
#include <string.h>

#include "base/utf8.h"
#include "engine/tokenizer.h"
#include "engine/unicode.h"
#include "tests/fuzz/fuzz.h"

enum { ITEMS_MAX = 256 + 512, TEXT_BYTES = 2 * 255 + 1 };

static char storage[2 * ITEMS_MAX][TEXT_BYTES];
static struct tokenizer_text tokens[ITEMS_MAX], merges[ITEMS_MAX];
static int32_t types[ITEMS_MAX];

/* Bytes in stored form. */
static size_t to_stored(const uint8_t *bytes, size_t n, char *out)
{
    static uint32_t map[256];
    if (!map[0]) {
        uint32_t next = 256;
        for (uint32_t b = 0; b < 256; b++)
            map[b] = (b >= 33 && b <= 126) || (b >= 161 && b != 173) ? b : next++;
    }
    size_t put = 0;
    for (size_t i = 0; i < n; i++)
        put += utf8_encode(map[bytes[i]], out + put);
    return put;
}

static void add_token(struct tokenizer_vocab *v, const void *bytes, size_t n, bool stored, int32_t type)
{
    char *text = storage[v->n_tokens];
    size_t n_text = n;
    if (stored)
        memcpy(text, bytes, n);
    else
        n_text = to_stored(bytes, n, text);
    tokens[v->n_tokens] = (struct tokenizer_text){text, n_text};
    types[v->n_tokens++] = type;
}

static void add_merge(struct tokenizer_vocab *v, const char *text, size_t n)
{
    char *copy = storage[ITEMS_MAX + v->n_merges];
    memcpy(copy, text, n);
    merges[v->n_merges++] = (struct tokenizer_text){copy, n};
}

static struct tokenizer_vocab bytes_vocab(void)
{
    struct tokenizer_vocab v = {.tokens = tokens, .types = types, .merges = merges, .eos_id = -1, .pad_id = -1, .bos_id = -1};
    for (int b = 0; b < 256; b++)
        add_token(&v, &(uint8_t){(uint8_t)b}, 1, false, TOKENIZER_NORMAL);
    return v;
}

static struct tokenizer *fixed_tokenizer(void)
{
    static struct tokenizer *t; /* kept for all inputs */
    if (t)
        return t;
    struct tokenizer_vocab v = bytes_vocab();
    const char *const pairs[][2] = {{"a", "a"},  {"a", "b"},          {"aa", "aa"}, {"b", "c"}, {"t", "h"},
                                    {"th", "e"}, {"\xc4\xa0", "the"}, {"ab", "c"},  {"e", "r"}, {"\xc3\x8c", "\xc4\xa3"}};
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        char text[64];
        const int n = snprintf(text, sizeof text, "%s%s", pairs[i][0], pairs[i][1]);
        bool have = false;
        for (size_t k = 0; k < v.n_tokens; k++)
            have = have || (tokens[k].n_bytes == (size_t)n && memcmp(tokens[k].bytes, text, (size_t)n) == 0);
        if (!have)
            add_token(&v, text, (size_t)n, true, TOKENIZER_NORMAL);
        char merge[64];
        add_merge(&v, merge, (size_t)snprintf(merge, sizeof merge, "%s %s", pairs[i][0], pairs[i][1]));
    }
    const char *const names[] = {"<|im_start|>",          "<|im_end|>", "<tts_text_bos>",
                                 "<tts_text_bos_single>", "<think>",    "</think>"};
    for (size_t i = 0; i < 6; i++)
        add_token(&v, names[i], strlen(names[i]), true, i < 4 ? TOKENIZER_CONTROL : TOKENIZER_USER_DEFINED);
    add_token(&v, "[PAD]", 5, true, TOKENIZER_UNUSED);
    struct err err = {0};
    if (tokenizer_create(&v, &t, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return t;
}

static bool same_ids(const struct tokenizer_ids *a, const struct tokenizer_ids *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->ids, b->ids, a->n * sizeof(a->ids[0])) == 0);
}

static void check_text(const struct tokenizer *t, const char *text, size_t n, bool special, size_t cut)
{
    struct tokenizer_cache *cache = NULL;
    struct tokenizer_ids fresh = {0}, cached = {0}, cut_ids = {0};
    REQUIRE(tokenizer_cache_create(t, &cache, NULL) == 0);
    REQUIRE(tokenizer_encode(t, NULL, text, n, special, &fresh, NULL) == 0);
    for (int i = 0; i < 2; i++) {
        cached.n = 0;
        REQUIRE(tokenizer_encode(t, cache, text, n, special, &cached, NULL) == 0);
        REQUIRE(same_ids(&fresh, &cached));
    }
    const struct tokenizer_span spans[] = {{text, cut, special}, {text + cut, n - cut, special}};
    REQUIRE(tokenizer_encode_spans(t, cache, spans, 2, &cut_ids, NULL) == 0);
    REQUIRE(same_ids(&fresh, &cut_ids));

    bool added = false;
    for (size_t i = 0; i < fresh.n; i++) {
        const enum tokenizer_type type = tokenizer_token_type(t, fresh.ids[i]);
        REQUIRE(type != TOKENIZER_UNUSED && (special || type != TOKENIZER_CONTROL));
        added = added || type != TOKENIZER_NORMAL;
    }
    const size_t n_back = tokenizer_decode(t, fresh.ids, fresh.n, true, NULL, 0);
    char *back = malloc(n_back + 1);
    REQUIRE(back && tokenizer_decode(t, fresh.ids, fresh.n, true, back, n_back) == n_back);
    struct unicode_scratch scratch = {0};
    const char *nfc;
    size_t n_nfc;
    REQUIRE(unicode_normalize(&scratch, text, n, &nfc, &n_nfc, NULL) == 0);
    REQUIRE(utf8_valid(nfc, n_nfc));
    REQUIRE(added || (n_nfc == n_back && memcmp(nfc, back, n_nfc) == 0));
    /* NFC of NFC is itself */
    char *once = malloc(n_nfc + 1);
    REQUIRE(once);
    memcpy(once, nfc, n_nfc);
    size_t n_twice;
    REQUIRE(unicode_normalize(&scratch, once, n_nfc, &nfc, &n_twice, NULL) == 0);
    REQUIRE(n_twice == n_nfc && memcmp(once, nfc, n_nfc) == 0);

    free(once);
    free(back);
    unicode_scratch_release(&scratch);
    tokenizer_ids_release(&fresh);
    tokenizer_ids_release(&cached);
    tokenizer_ids_release(&cut_ids);
    tokenizer_cache_free(cache);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const uint8_t mode = data[0], cut = data[1];
    data += 2;
    size -= 2;
    struct tokenizer *t = fixed_tokenizer();
    if (mode & 1) {
        struct tokenizer_vocab v = bytes_vocab();
        v.eos_id = cut < 128 ? cut - 2 : cut * 3;
        if (mode & 4)
            v.n_tokens = 0; /* without the bytes */
        while (size >= 2 && data[0] && v.n_tokens < ITEMS_MAX && v.n_merges < ITEMS_MAX) {
            const size_t n = data[1] < size - 2 ? data[1] : size - 2;
            if ((data[0] & 7) == 7)
                add_merge(&v, (const char *)data + 2, n);
            else
                add_token(&v, data + 2, n, data[0] & 8, data[0] & 7);
            data += 2 + n;
            size -= 2 + n;
        }
        if (size && !data[0]) {
            data++;
            size--;
        }
        struct err err = {0};
        t = NULL;
        if (tokenizer_create(&v, &t, &err) != 0) {
            REQUIRE(t == NULL && err.code != 0 && err.text[0]);
            return 0;
        }
        for (int32_t id = -1; id <= tokenizer_n_tokens(t); id++) {
            size_t n;
            const char *bytes = tokenizer_token_bytes(t, id, &n);
            const enum tokenizer_type type = tokenizer_token_type(t, id);
            if (type == TOKENIZER_CONTROL || type == TOKENIZER_USER_DEFINED)
                REQUIRE(tokenizer_find(t, bytes, n) == id);
        }
    }
    check_text(t, (const char *)data, size, mode & 2, size ? cut % (size + 1) : 0);
    if (mode & 1)
        tokenizer_free(t);
    return 0;
}
