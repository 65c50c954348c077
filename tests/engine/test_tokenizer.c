/* engine/tokenizer: ids of the official tokenizer, the pattern's odd cases, hostile vocabularies. */
#include "engine/tokenizer.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "engine/unicode.h"
#include "tests/support/test.h"
#include "tests/support/vocab.h"

static struct tokenizer *golden; /* of tests/golden/tokenizer */

static int open_golden(void **state)
{
    struct test_vocab v;
    test_vocab_read(&v);
    const int rc = tokenizer_create(&v.vocab, &golden, NULL);
    test_vocab_release(&v);
    return rc;
}

static int close_golden(void **state)
{
    tokenizer_free(golden);
    return 0;
}

/* Encode into a fresh list. */
static struct tokenizer_ids encode(const struct tokenizer *t, struct tokenizer_cache *c, const char *text, size_t n,
                                   bool special)
{
    struct tokenizer_ids list = {0};
    struct err err = {0};
    /* exactly n bytes, so that a sanitizer sees a read past the end */
    char *exact = malloc(n ? n : 1);
    memcpy(exact, text, n);
    assert_ok(tokenizer_encode(t, c, exact, n, special, &list, &err), &err);
    free(exact);
    return list;
}

static size_t read_ids(char *text, int32_t *ids, size_t cap)
{
    size_t n = 0;
    for (char *s = strtok(text, " "); s; s = strtok(NULL, " ")) {
        assert_true(n < cap);
        ids[n++] = atoi(s);
    }
    return n;
}

static void check_same(const char *what, const struct tokenizer_ids *got, const int32_t *want, size_t n_want)
{
    size_t i = 0;
    while (i < n_want && i < got->n && got->ids[i] == want[i])
        i++;
    if (i < n_want || i < got->n)
        fail_msg("%s: %zu ids, want %zu; at %zu there is %d, want %d", what, got->n, n_want, i, i < got->n ? got->ids[i] : -1,
                 i < n_want ? want[i] : -1);
}

static char *decode(const struct tokenizer *t, const struct tokenizer_ids *list, bool special, size_t *ret_n)
{
    const size_t n = tokenizer_decode(t, list->ids, list->n, special, NULL, 0);
    char *out = malloc(n + 1);
    assert_int_equal(tokenizer_decode(t, list->ids, list->n, special, out, n), n);
    out[n] = '\0';
    *ret_n = n;
    return out;
}

/* ---- golden ---------------------------------------------------------------------------------------------------------------- */

static void ids_of_the_official_tokenizer(void **state)
{
    enum { IDS_MAX = 4096 };
    FILE *f = fopen("tests/golden/tokenizer/cases.txt", "rb");
    assert_non_null(f);
    struct tokenizer_cache *cache = NULL;
    assert_int_equal(tokenizer_cache_create(golden, &cache, NULL), 0);
    struct unicode_scratch unicode = {0};
    int32_t *want = malloc(IDS_MAX * sizeof(*want));
    char *line = NULL, *field[3];
    size_t cap = 0;
    int n = 0, n_round = 0;
    for (; test_fields(f, &line, &cap, field, 3); n++) {
        const bool special = strchr(field[0], 's');
        const size_t n_want = read_ids(field[2], want, IDS_MAX);
        const size_t n_text = test_unescape(field[1]);
        struct tokenizer_ids cached = encode(golden, cache, field[1], n_text, special);
        struct tokenizer_ids fresh = encode(golden, NULL, field[1], n_text, special);
        check_same(field[1], &cached, want, n_want);
        check_same(field[1], &fresh, want, n_want);
        if (strchr(field[0], 'r')) {
            const char *nfc;
            size_t n_nfc, n_back;
            assert_int_equal(unicode_normalize(&unicode, field[1], n_text, &nfc, &n_nfc, NULL), 0);
            char *back = decode(golden, &cached, true, &n_back);
            assert_int_equal(n_back, n_nfc);
            assert_memory_equal(back, nfc, n_nfc);
            free(back);
            n_round++;
        }
        tokenizer_ids_release(&cached);
        tokenizer_ids_release(&fresh);
    }
    assert_int_equal(n, 4000);
    assert_true(n_round > 3900);
    free(line);
    free(want);
    fclose(f);
    unicode_scratch_release(&unicode);
    tokenizer_cache_free(cache);
}

/* The same text cut into spans in any way gives the same ids, where special texts are allowed everywhere. */
static void spans_are_one_text(void **state)
{
    const char text[] = "<|im_start|>user\nHello  cafe\u0301 it's <think>12</think> \u6f22<|im_end|>\n\n<|im_end|> x";
    const size_t n = sizeof(text) - 1;
    struct tokenizer_ids want = encode(golden, NULL, text, n, true);
    struct rng rng = {.seed = 7};
    for (int round = 0; round < 500; round++) {
        struct tokenizer_span spans[16];
        size_t n_spans = 0, at = 0;
        while (n_spans < 15 && at < n) {
            const size_t len = rng_below(&rng, 12);
            spans[n_spans].text = text + at;
            spans[n_spans].n_bytes = len < n - at ? len : n - at;
            spans[n_spans].special = true;
            at += spans[n_spans++].n_bytes;
        }
        spans[n_spans++] = (struct tokenizer_span){text + at, n - at, true};
        struct tokenizer_ids got = {0};
        assert_int_equal(tokenizer_encode_spans(golden, NULL, spans, n_spans, &got, NULL), 0);
        check_same("spans", &got, want.ids, want.n);
        tokenizer_ids_release(&got);
    }
    tokenizer_ids_release(&want);
}

/* A control token must lie in special spans entirely; a user-defined one is recognised anywhere. */
static void control_tokens_need_special_spans(void **state)
{
    const int32_t im_end = tokenizer_find(golden, "<|im_end|>", 10), think = tokenizer_find(golden, "<think>", 7);
    const struct {
        struct tokenizer_span spans[3];
        int im_ends, thinks;
    } rows[] = {
        {{{"<|im_end|>", 10, true}, {"", 0, false}, {"", 0, false}}, 1, 0},
        {{{"<|im_end|>", 10, false}, {"", 0, true}, {"", 0, true}}, 0, 0},
        {{{"<|im_", 5, true}, {"", 0, false}, {"end|>", 5, true}}, 1, 0},
        {{{"<|im_", 5, true}, {"e", 1, false}, {"nd|>", 4, true}}, 0, 0},
        {{{"<|im_end|", 9, false}, {">", 1, true}, {"<|im_end|>", 10, true}}, 1, 0},
        {{{"<|im_end|", 9, true}, {">", 1, false}, {"<|im_end|>", 10, true}}, 1, 0},
        {{{"a<|im_end|>", 11, true}, {"<|im_end|>b", 11, false}, {"c<|im_end|>", 11, true}}, 2, 0},
        {{{"<th", 3, false}, {"ink", 3, true}, {">", 1, false}}, 0, 1},
    };
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        struct tokenizer_ids got = {0};
        assert_int_equal(tokenizer_encode_spans(golden, NULL, rows[r].spans, 3, &got, NULL), 0);
        int im_ends = 0, thinks = 0;
        for (size_t i = 0; i < got.n; i++) {
            im_ends += got.ids[i] == im_end;
            thinks += got.ids[i] == think;
        }
        assert_int_equal(im_ends, rows[r].im_ends);
        assert_int_equal(thinks, rows[r].thinks);
        size_t n;
        char *back = decode(golden, &got, true, &n);
        char all[64];
        snprintf(all, sizeof all, "%s%s%s", rows[r].spans[0].text, rows[r].spans[1].text, rows[r].spans[2].text);
        assert_string_equal(back, all);
        free(back);
        tokenizer_ids_release(&got);
    }
}

/* Names that begin alike: the longest one that may be recognised, at the leftmost place. */
static void longest_special_token(void **state)
{
    struct test_vocab v;
    test_vocab_bytes(&v);
    const int32_t a = test_vocab_add(&v, "<a", 2, TOKENIZER_USER_DEFINED),
                  ab = test_vocab_add(&v, "<ab", 3, TOKENIZER_USER_DEFINED);
    const int32_t abcd = test_vocab_add(&v, "<abcd", 5, TOKENIZER_CONTROL),
                  b = test_vocab_add(&v, "bc", 2, TOKENIZER_USER_DEFINED);
    struct tokenizer *t = NULL;
    assert_int_equal(tokenizer_create(&v.vocab, &t, NULL), 0);
    const struct {
        const char *text;
        bool special;
        int32_t ids[4];
        size_t n;
    } rows[] = {
        {"<abcd", true, {abcd}, 1},      {"<abcd", false, {ab, 'c', 'd'}, 3}, {"<abc", true, {ab, 'c'}, 2},
        {"<<a", true, {'<', a}, 2},      {"<abbc", true, {ab, b}, 2},         {"abc<", true, {'a', b, '<'}, 3},
        {"<a<abcd", true, {a, abcd}, 2},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tokenizer_ids got = encode(t, NULL, rows[i].text, strlen(rows[i].text), rows[i].special);
        check_same(rows[i].text, &got, rows[i].ids, rows[i].n);
        tokenizer_ids_release(&got);
    }
    tokenizer_free(t);
    test_vocab_release(&v);
}

/* ---- words ----------------------------------------------------------------------------------------------------------------- */

static void words_of_the_pattern(void **state)
{
    /* the words of each text, joined by | */
    const char *const rows[] = {
        "Hello| world",
        "I|'ll| | go|,| don|'t|!",
        "'S|ALE| it|'s",
        "'re|'RE|'vE|'Ll|'m|'D|'t|'T",
        "'r|'v|'l| ''",
        "'\u017f|x",
        "x|=|1|2|3|4|5|.|6",
        "  | a",
        "a| \n  \n| | b",
        "foo|_bar|(baz|);\n\n",
        "$|1|0|0| %|d",
        "don|\u2019t",
        "e\u0301cole",
        "3|\u0301a",
        " '|\u0301s",
        "\u0939\u093f\u0928\u094d\u0926\u0940| \u092e\u0947\u0902",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "trail|   ",
        "\u00a0a",
        "\ta|\t|\tb",
        "a|\n|b",
        "a|\r\n|b",
        "a|\n\n|\tb",
        "a|!\r\n\n| b",
        "a| |1",
        "a| | |1",
        " ",
        "a| !",
        "a| | !",
        "\u3000|1",
        "\u3000\u3000|\u3000a",
        "\u00b2|\u2167|\u0663",
        "\u0378\u0379| a",
    };
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        char text[128] = "", got[256] = "";
        size_t n = 0, put = 0;
        for (const char *s = rows[r]; *s; s++)
            if (*s != '|')
                text[n++] = *s;
        for (size_t i = 0; i < n;) {
            const size_t word = tokenizer_word(text + i, n - i);
            assert_true(word > 0 && word <= n - i);
            if (put)
                got[put++] = '|';
            memcpy(got + put, text + i, word);
            put += word;
            i += word;
        }
        got[put] = '\0';
        assert_string_equal(got, rows[r]);
    }
    assert_int_equal(tokenizer_word("\x1c\x1d!", 3), 3); /* separators of ASCII are no white space here */
}

/* ---- decoding and look-ups ------------------------------------------------------------------------------------------------- */

static void decoding(void **state)
{
    const int32_t im_end = tokenizer_find(golden, "<|im_end|>", 10), think = tokenizer_find(golden, "<think>", 7);
    const int32_t n_tokens = tokenizer_n_tokens(golden), a = tokenizer_find_normal(golden, "a", 1);
    const int32_t ids[] = {a, im_end, think, n_tokens - 1, -5, n_tokens, INT32_MAX, a};
    char out[64];
    assert_int_equal(tokenizer_decode(golden, ids, 8, true, out, sizeof out), 19);
    assert_memory_equal(out, "a<|im_end|><think>a", 19);
    assert_int_equal(tokenizer_decode(golden, ids, 8, false, out, sizeof out), 9);
    assert_memory_equal(out, "a<think>a", 9);
    /* whole tokens while they fit, and the size of all */
    memset(out, '.', sizeof out);
    assert_int_equal(tokenizer_decode(golden, ids, 8, true, out, 15), 19);
    assert_memory_equal(out, "a<|im_end|>....", 15);

    size_t n;
    assert_string_equal("", tokenizer_token_bytes(golden, -1, &n));
    assert_int_equal(n, 0);
    tokenizer_token_bytes(golden, n_tokens - 1, &n);
    assert_int_equal(n, 0);
    assert_int_equal(tokenizer_token_type(golden, n_tokens - 1), TOKENIZER_UNUSED);
    assert_int_equal(tokenizer_token_type(golden, n_tokens), TOKENIZER_UNUSED);
    assert_int_equal(tokenizer_token_type(golden, -1), TOKENIZER_UNUSED);
    assert_int_equal(tokenizer_token_type(golden, im_end), TOKENIZER_CONTROL);
    assert_int_equal(tokenizer_token_type(golden, think), TOKENIZER_USER_DEFINED);
    assert_int_equal(tokenizer_token_type(golden, a), TOKENIZER_NORMAL);
}

static void look_ups(void **state)
{
    const char *const stops[] = {"<|im_end|>", "<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"};
    const int32_t *ids;
    assert_int_equal(tokenizer_get_stops(golden, &ids), 5);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(ids[i], tokenizer_find(golden, stops[i], strlen(stops[i])));
        assert_true(tokenizer_is_stop(golden, ids[i]));
    }
    assert_false(tokenizer_is_stop(golden, tokenizer_find(golden, "</think>", 8)));
    assert_int_equal(tokenizer_eos(golden), ids[0]);
    assert_int_equal(tokenizer_pad(golden), -1);
    assert_int_equal(tokenizer_bos(golden), -1);
    assert_int_equal(tokenizer_find(golden, "<|im_end|", 9), -1);
    assert_int_equal(tokenizer_find(golden, "<|im_end|>x", 11), -1);
    assert_int_equal(tokenizer_find(golden, "", 0), -1);
    assert_int_equal(tokenizer_find(golden, "a", 1), -1);
    assert_int_equal(tokenizer_find(golden, "[PAD1921]", 9), -1);
    assert_int_equal(tokenizer_find_normal(golden, "<think>", 7), -1);
    assert_true(tokenizer_find_normal(golden, " ", 1) >= 0);

    /* an eos that is none of the names is a stop too */
    struct test_vocab v;
    test_vocab_bytes(&v);
    v.vocab.eos_id = test_vocab_add(&v, "<bye>", 5, TOKENIZER_CONTROL);
    struct tokenizer *t = NULL;
    assert_int_equal(tokenizer_create(&v.vocab, &t, NULL), 0);
    assert_true(tokenizer_is_stop(t, 256));
    assert_int_equal(tokenizer_get_stops(t, &ids), 1);
    tokenizer_free(t);
    test_vocab_release(&v);
}

/* Every normal token is in the trie under its bytes, and nothing else is. */
static void trie_of_normal_tokens(void **state)
{
    const struct token_trie *trie = tokenizer_get_trie(golden);
    int32_t n_normal = 0;
    for (int32_t id = 0; id < tokenizer_n_tokens(golden); id++) {
        if (tokenizer_token_type(golden, id) != TOKENIZER_NORMAL)
            continue;
        n_normal++;
        size_t n;
        const char *bytes = tokenizer_token_bytes(golden, id, &n);
        uint32_t node = 0;
        for (size_t i = 0; i < n; i++) {
            node = token_trie_child(trie, node, (uint8_t)bytes[i]);
            assert_true(node > 0);
        }
        assert_int_equal(trie->nodes[node].token, id);
        assert_int_equal(trie->nodes[node].depth, n);
    }
    assert_int_equal(trie->n_tokens, n_normal);

    /* one pass in preorder meets each of them once, with consistent ends and depths */
    int32_t met = 0;
    uint32_t max_depth = 0;
    assert_int_equal(trie->nodes[0].end, trie->n_nodes);
    for (uint32_t i = 1; i < trie->n_nodes; i++) {
        const struct token_trie_node *node = &trie->nodes[i];
        assert_true(node->end > i && node->end <= trie->n_nodes);
        assert_true(node->depth >= 1 && node->depth <= trie->nodes[i - 1].depth + 1);
        met += node->token >= 0;
        max_depth = node->depth > max_depth ? node->depth : max_depth;
        assert_true(node->token >= 0 || node->end > i + 1); /* a leaf is a token */
    }
    assert_int_equal(met, n_normal);
    assert_int_equal(trie->max_depth, max_depth);
}

static void trie_refusals(void **state)
{
    struct err err = {0};
    struct token_trie *trie = NULL;
    struct token_trie_entry twice[] = {
        {(const unsigned char *)"ab", 2, 1}, {(const unsigned char *)"a", 1, 2}, {(const unsigned char *)"ab", 2, 3}};
    assert_err(token_trie_create(twice, 3, &trie, &err), ERR_FORMAT, &err, "same bytes");
    struct token_trie_entry empty[] = {{(const unsigned char *)"", 0, 1}};
    assert_err(token_trie_create(empty, 1, &trie, &err), ERR_FORMAT, &err, "empty");
    assert_null(trie);
    assert_int_equal(token_trie_create(NULL, 0, &trie, &err), 0);
    assert_int_equal(trie->n_nodes, 1);
    assert_int_equal(token_trie_child(trie, 0, 'a'), 0);
    token_trie_free(trie);
    token_trie_free(NULL);
}

/* ---- hostile vocabularies -------------------------------------------------------------------------------------------------- */

static void refused(struct test_vocab *v, int code, const char *words)
{
    struct err err = {0};
    struct tokenizer *t = (struct tokenizer *)v; /* must stay untouched */
    assert_err(tokenizer_create(&v->vocab, &t, &err), code, &err, words);
    assert_ptr_equal(t, v);
    test_vocab_release(v);
}

static void hostile_vocabularies(void **state)
{
    struct test_vocab v;

    test_vocab_bytes(&v);
    struct err err = {0};
    struct tokenizer *t = NULL;
    v.vocab.n_tokens = 255;
    assert_err(tokenizer_create(&v.vocab, &t, &err), ERR_FORMAT, &err, "255 tokens");
    v.vocab.n_tokens = (size_t)INT32_MAX + 1;
    assert_err(tokenizer_create(&v.vocab, &t, &err), ERR_FORMAT, &err, "2147483648 tokens");
    v.vocab.n_tokens = 256;
    v.vocab.n_merges = SIZE_MAX;
    assert_err(tokenizer_create(&v.vocab, &t, &err), ERR_FORMAT, &err, "merges");
    v.vocab.n_merges = 0;
    assert_null(t);
    test_vocab_release(&v);

    test_vocab_bytes(&v);
    test_vocab_add(&v, "abc", 3, TOKENIZER_NORMAL);
    test_vocab_add(&v, "abc", 3, TOKENIZER_CONTROL);
    refused(&v, ERR_FORMAT, "tokens 256 and 257 have the same text");

    test_vocab_bytes(&v);
    test_vocab_add(&v, "", 0, TOKENIZER_NORMAL);
    refused(&v, ERR_FORMAT, "token 256 is empty");

    test_vocab_bytes(&v);
    v.types[65] = TOKENIZER_UNUSED;
    refused(&v, ERR_FORMAT, "byte 0x41");

    for (int32_t type = -1; type < 9; type++) {
        if (type == 1 || (type >= 3 && type <= 5))
            continue;
        test_vocab_bytes(&v);
        test_vocab_add(&v, "abc", 3, type);
        refused(&v, type == 2 || type == 6 ? ERR_UNSUPPORTED : ERR_FORMAT, "token 256 has type");
    }

    const struct {
        const char *merge, *words;
    } merges[] = {
        {"ab", "not two tokens"},    {"", "not two tokens"},     {" ", "not two tokens"},   {"a ", "not two tokens"},
        {" b", "not two tokens"},    {"a zz", "its right part"}, {"zz a", "its left part"}, {"b a", "makes a token"},
        {"a b c", "its right part"}, {"a  b", "its right part"}, {"\xff a", "left part"},   {"a \u2603", "right part"},
        {"a b", "repeats merge 0"},
    };
    for (size_t i = 0; i < sizeof(merges) / sizeof(merges[0]); i++) {
        test_vocab_bytes(&v);
        test_vocab_add(&v, "ab", 2, TOKENIZER_NORMAL);
        test_vocab_merge(&v, "a b", 3);
        test_vocab_merge(&v, merges[i].merge, strlen(merges[i].merge));
        refused(&v, ERR_FORMAT, merges[i].words);
    }

    const int32_t bad_ids[] = {-2, 256, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < 4; i++) {
        test_vocab_bytes(&v);
        v.vocab.eos_id = bad_ids[i];
        refused(&v, ERR_FORMAT, "eos token id");
        test_vocab_bytes(&v);
        v.vocab.pad_id = bad_ids[i];
        refused(&v, ERR_FORMAT, "padding token id");
        test_vocab_bytes(&v);
        v.vocab.bos_id = bad_ids[i];
        refused(&v, ERR_FORMAT, "bos token id");
    }

    char *big = malloc(20000);
    memset(big, 'a', 20000);
    test_vocab_bytes(&v);
    test_vocab_add(&v, big, 20000, TOKENIZER_NORMAL);
    refused(&v, ERR_FORMAT, "20000 bytes");
    test_vocab_bytes(&v);
    test_vocab_add(&v, big, 5000, TOKENIZER_CONTROL);
    refused(&v, ERR_FORMAT, "5000 bytes");
    big[10000] = ' ';
    test_vocab_bytes(&v);
    test_vocab_merge(&v, big, 20000);
    refused(&v, ERR_FORMAT, "merge 0 has 20000 bytes");
    free(big);
}

/* Odd but sound: a normal token that is not in mapped form, padding of any text, a vocabulary without merges or added tokens. */
static void odd_vocabularies(void **state)
{
    struct test_vocab v;
    struct tokenizer *t = NULL;
    struct err err = {0};
    test_vocab_bytes(&v);
    const int32_t plain = test_vocab_add(&v, "snow man \u2603", 12, TOKENIZER_NORMAL);
    test_vocab_add(&v, "[PAD]", 5, TOKENIZER_UNUSED);
    test_vocab_add(&v, "[PAD]", 5, TOKENIZER_UNUSED);
    test_vocab_add(&v, "", 0, TOKENIZER_UNUSED);
    assert_ok(tokenizer_create(&v.vocab, &t, &err), &err);
    size_t n;
    const char *bytes = tokenizer_token_bytes(t, plain, &n);
    assert_int_equal(n, 12);
    assert_memory_equal(bytes, "snow man \u2603", 12);
    assert_int_equal(tokenizer_get_trie(t)->n_tokens, 256);
    struct tokenizer_ids got = encode(t, NULL, "snow man \u2603", 12, true);
    assert_int_equal(got.n, 12); /* bytes: no merge, and no whole-word short cut */
    for (size_t i = 0; i < 12; i++)
        assert_int_equal(got.ids[i], (unsigned char)"snow man \u2603"[i]);
    tokenizer_ids_release(&got);
    tokenizer_free(t);
    test_vocab_release(&v);
    tokenizer_free(NULL);
    tokenizer_cache_free(NULL);
}

/* Ranks, not order of appearance; leftmost on ties; overlapping runs. */
static void merging_by_rank(void **state)
{
    struct test_vocab v;
    struct tokenizer *t = NULL;
    test_vocab_bytes(&v);
    const int32_t ab = test_vocab_add(&v, "ab", 2, 1), bc = test_vocab_add(&v, "bc", 2, 1), aa = test_vocab_add(&v, "aa", 2, 1);
    const int32_t aaaa = test_vocab_add(&v, "aaaa", 4, 1);
    test_vocab_add(&v, "abc", 3, 1);
    test_vocab_merge(&v, "b c", 3);
    test_vocab_merge(&v, "a b", 3);
    test_vocab_merge(&v, "a a", 3);
    test_vocab_merge(&v, "aa aa", 5);
    test_vocab_merge(&v, "ab c", 4);
    assert_int_equal(tokenizer_create(&v.vocab, &t, NULL), 0);
    const struct {
        const char *text;
        int32_t ids[5];
        size_t n;
    } rows[] = {
        {"abc", {'a', bc}, 2}, /* the lower rank first, though "ab c" would give one token */
        {"ab", {ab}, 1},       {"aaa", {aa, 'a'}, 2}, {"aaaa", {aaaa}, 1},   {"aaaaaaa", {aaaa, aa, 'a'}, 3},
        {"aab", {'a', ab}, 2}, {"abab", {ab, ab}, 2}, {"aabc", {aa, bc}, 2},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tokenizer_ids got = encode(t, NULL, rows[i].text, strlen(rows[i].text), false);
        check_same(rows[i].text, &got, rows[i].ids, rows[i].n);
        tokenizer_ids_release(&got);
    }
    tokenizer_free(t);
    test_vocab_release(&v);
}

/* The slow twin: look through all pairs for the lowest rank, again and again. len[i] are the bytes of part i. */
static size_t merge_slowly(const struct test_vocab *v, const char *text, size_t n, int32_t *ids)
{
    int len[64];
    size_t n_parts = n;
    for (size_t i = 0; i < n; i++)
        len[i] = 1;
    for (;;) {
        size_t best = SIZE_MAX, best_part = 0, at = 0;
        for (size_t i = 0; i + 1 < n_parts; at += (size_t)len[i++]) {
            char pair[140];
            snprintf(pair, sizeof pair, "%.*s %.*s", len[i], text + at, len[i + 1], text + at + len[i]);
            for (size_t m = 0; m < v->vocab.n_merges && m < best; m++) {
                if (strcmp(pair, v->merges[m].bytes) == 0) {
                    best = m;
                    best_part = i;
                }
            }
        }
        if (best == SIZE_MAX)
            break;
        len[best_part] += len[best_part + 1];
        n_parts--;
        for (size_t i = best_part + 1; i < n_parts; i++)
            len[i] = len[i + 1];
    }
    for (size_t i = 0; i < n_parts; text += len[i++])
        for (size_t k = 0; k < v->vocab.n_tokens; k++)
            if (v->tokens[k].n_bytes == (size_t)len[i] && memcmp(text, v->tokens[k].bytes, (size_t)len[i]) == 0)
                ids[i] = (int32_t)k;
    return n_parts;
}

static void merging_as_the_slow_twin(void **state)
{
    struct rng rng = {.seed = 11};
    for (int round = 0; round < 60; round++) {
        struct test_vocab v;
        test_vocab_bytes(&v);
        /* random merges over three letters, so that they overlap in every way */
        size_t first = 'a', n_known = 3;
        for (int k = 0; k < 30; k++) {
            const size_t x = rng_below(&rng, n_known), y = rng_below(&rng, n_known);
            const char *left = v.tokens[x < 3 ? first + x : 253 + x].bytes,
                       *right = v.tokens[y < 3 ? first + y : 253 + y].bytes;
            char joined[80], merge[80];
            snprintf(joined, sizeof joined, "%s%s", left, right);
            snprintf(merge, sizeof merge, "%s %s", left, right);
            bool have = strlen(joined) > 30;
            for (size_t i = 0; i < v.vocab.n_merges; i++)
                have = have || strcmp(v.merges[i].bytes, merge) == 0;
            if (have)
                continue;
            bool token = false;
            for (size_t i = 0; i < v.vocab.n_tokens; i++)
                token = token || strcmp(v.tokens[i].bytes, joined) == 0;
            test_vocab_merge(&v, merge, strlen(merge));
            if (!token) {
                test_vocab_add(&v, joined, strlen(joined), TOKENIZER_NORMAL);
                n_known++;
            }
        }
        struct tokenizer *t = NULL;
        struct err err = {0};
        assert_ok(tokenizer_create(&v.vocab, &t, &err), &err);
        for (int k = 0; k < 30; k++) {
            char text[50];
            int32_t want[50];
            const size_t n = 1 + rng_below(&rng, sizeof(text) - 1);
            for (size_t i = 0; i < n; i++)
                text[i] = (char)('a' + rng_below(&rng, 3));
            const size_t n_want = merge_slowly(&v, text, n, want);
            struct tokenizer_ids got = encode(t, NULL, text, n, false);
            check_same("random merges", &got, want, n_want);
            tokenizer_ids_release(&got);
        }
        tokenizer_free(t);
        test_vocab_release(&v);
    }
}

/* ---- limits and threads ---------------------------------------------------------------------------------------------------- */

static void limits(void **state)
{
    struct err err = {0};
    struct tokenizer_ids list = {0};
    assert_int_equal(tokenizer_ids_push(&list, 42, NULL), 0);
    const struct tokenizer_span spans[] = {{"a", 1, false}, {"a", TOKENIZER_TEXT_MAX, false}};
    assert_err(tokenizer_encode_spans(golden, NULL, spans, 2, &list, &err), ERR_INVAL, &err, "longer than");
    assert_int_equal(list.n, 1);
    assert_int_equal(tokenizer_encode(golden, NULL, NULL, 0, true, &list, &err), 0);
    assert_int_equal(list.n, 1);
    assert_int_equal(tokenizer_encode(golden, NULL, "a", 1, true, &list, &err), 0); /* appends */
    assert_int_equal(list.n, 2);
    assert_int_equal(list.ids[0], 42);
    tokenizer_ids_release(&list);

    /* one word of a megabyte: n log n, not n * n */
    const size_t n = 1 << 20;
    char *text = malloc(n);
    for (size_t i = 0; i < n; i++)
        text[i] = "the camera"[i % 3];
    struct tokenizer_ids got = encode(golden, NULL, text, n, true);
    size_t n_back;
    char *back = decode(golden, &got, true, &n_back);
    assert_int_equal(n_back, n);
    assert_memory_equal(back, text, n);
    free(back);
    free(text);
    tokenizer_ids_release(&got);
}

static void *encode_a_lot(void *arg)
{
    const int32_t *want = arg;
    struct tokenizer_cache *cache = NULL;
    intptr_t bad = tokenizer_cache_create(golden, &cache, NULL);
    for (int i = 0; i < 300 && !bad; i++) {
        struct tokenizer_ids got = {0};
        const char text[] = "the red truck is parked near the gate <think> e\u0301";
        bad = tokenizer_encode(golden, i % 2 ? cache : NULL, text, sizeof(text) - 1, true, &got, NULL);
        for (size_t k = 0; !bad && k < got.n; k++)
            bad = got.ids[k] != want[k];
        tokenizer_ids_release(&got);
    }
    tokenizer_cache_free(cache);
    return (void *)bad;
}

static void threads_share_a_tokenizer(void **state)
{
    const char text[] = "the red truck is parked near the gate <think> e\u0301";
    struct tokenizer_ids want = encode(golden, NULL, text, sizeof(text) - 1, true);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_a_lot, want.ids), 0);
    for (int i = 0; i < 4; i++) {
        void *bad = NULL;
        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
    tokenizer_ids_release(&want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_of_the_official_tokenizer),
        cmocka_unit_test(spans_are_one_text),
        cmocka_unit_test(control_tokens_need_special_spans),
        cmocka_unit_test(longest_special_token),
        cmocka_unit_test(words_of_the_pattern),
        cmocka_unit_test(decoding),
        cmocka_unit_test(look_ups),
        cmocka_unit_test(trie_of_normal_tokens),
        cmocka_unit_test(trie_refusals),
        cmocka_unit_test(hostile_vocabularies),
        cmocka_unit_test(odd_vocabularies),
        cmocka_unit_test(merging_by_rank),
        cmocka_unit_test(merging_as_the_slow_twin),
        cmocka_unit_test(limits),
        cmocka_unit_test(threads_share_a_tokenizer),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
