/*
 * Tokens that a schema leaves no choice about, beside their definition: byte by byte, and by the masks of what may come.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/forced.h"
#include "tests/support/random_schema.h"
#include "tests/support/test.h"
#include "tests/support/vocab.h"

#define PLENTY 100000 /* tokens: no budget */

static struct test_vocab words;
static struct tokenizer *tokenizer;
static struct tokenizer_cache *cache;
static struct constraint_vocab *vocab;
static struct forced *forced;

static int open_forced(void **state)
{
    struct err err = {0};
    test_vocab_read(&words);
    /* some that go on behind a key's colon, as real vocabularies have them */
    static const char *const more[] = {"\":\"a", "\":[", "\":1", ":\"", "\",\"p"};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        test_vocab_add(&words, more[i], strlen(more[i]), TOKENIZER_NORMAL);
    int rc = tokenizer_create(&words.vocab, &tokenizer, &err);
    if (rc == 0)
        rc = tokenizer_cache_create(tokenizer, &cache, &err);
    if (rc == 0)
        rc = constraint_vocab_create(tokenizer_get_trie(tokenizer), tokenizer_n_tokens(tokenizer), &vocab, &err);
    if (rc == 0)
        rc = forced_create(tokenizer, cache, vocab, &forced, &err);
    if (rc != 0)
        print_message("%s\n", err.text);
    return rc;
}

static int close_forced(void **state)
{
    forced_free(forced);
    constraint_vocab_free(vocab);
    tokenizer_cache_free(cache);
    tokenizer_free(tokenizer);
    test_vocab_release(&words);
    return 0;
}

static struct en_schema *compile(const char *text)
{
    struct en_schema *schema = NULL;
    struct err err = {0};
    assert_ok(en_schema_compile(text, strlen(text), &schema, &err), &err);
    return schema;
}

/* The bytes from here on behind which only one may come, with constraint_advance alone. */
static size_t only_bytes(const struct constraint *from, char *out, size_t cap)
{
    struct constraint c = *from;
    size_t n = 0;
    for (; n < cap && !constraint_can_end(&c); n++) {
        int count = 0;
        struct constraint next;
        for (int byte = 0; byte < 256; byte++) {
            struct constraint probe = c;
            if (constraint_advance(&probe, (uint8_t)byte)) {
                out[n] = (char)byte;
                next = probe;
                count++;
            }
        }
        if (count != 1)
            break;
        c = next;
    }
    return n;
}

/* Whether a token may stand here that is no part of these bytes: it says something else, or more. */
static bool is_a_choice(const struct constraint *c, const char *bytes, size_t n)
{
    static uint32_t mask[1 << 14];
    constraint_mask(vocab, c, PLENTY, mask);
    for (int32_t t = 0; t < tokenizer_n_tokens(tokenizer); t++) {
        size_t size;
        const char *token = tokenizer_token_bytes(tokenizer, t, &size);
        if (mask[t / 32] >> t % 32 & 1 && (size > n || memcmp(token, bytes, size) != 0))
            return true;
    }
    return false;
}

/* What is forced here is so by its definition; leaves c behind it. Returns the number of tokens. */
static int32_t check_forced(struct constraint *c)
{
    char text[4096];
    int32_t ids[FORCED_MAX];
    const int32_t n = forced_next(forced, c, PLENTY, ids);
    const size_t n_text = only_bytes(c, text, sizeof text);
    size_t at = 0;
    assert_true(n_text < sizeof text);
    for (int32_t i = 0; i < n; i++) {
        size_t size;
        const char *bytes = tokenizer_token_bytes(tokenizer, ids[i], &size);
        assert_true(size <= n_text - at);
        assert_memory_equal(bytes, text + at, size);
        if (is_a_choice(c, text + at, n_text - at))
            fail_msg("\"%.*s\" was not the only way", (int)size, bytes);
        assert_true(constraint_take(c, bytes, size));
        at += size;
    }
    /* and nothing is missed, but where the text is no tokens of its own: in the middle of a character */
    if (at < n_text && !constraint_is_done(c) && n < FORCED_MAX && !is_a_choice(c, text + at, n_text - at)) {
        struct tokenizer_ids list = {0};
        size_t size;
        assert_int_equal(tokenizer_encode(tokenizer, cache, text + at, n_text - at, false, &list, NULL), 0);
        const char *bytes = tokenizer_token_bytes(tokenizer, list.ids[0], &size);
        if (size <= n_text - at && memcmp(bytes, text + at, size) == 0)
            fail_msg("\"%.*s\" is forced and was not found", (int)(n_text - at), text + at);
        tokenizer_ids_release(&list);
    }
    return n;
}

/* One token that may come here, drawn evenly, or false: there is none. */
static bool draw(struct constraint *c, int32_t remaining, struct rng *r)
{
    static uint32_t mask[1 << 14];
    int32_t n = 0, chosen = -1;
    constraint_mask(vocab, c, remaining, mask);
    for (int32_t t = 0; t < tokenizer_n_tokens(tokenizer); t++)
        if (mask[t / 32] >> t % 32 & 1 && rng_below(r, (uint64_t)++n) == 0)
            chosen = t;
    if (chosen < 0)
        return false;
    size_t size;
    const char *bytes = tokenizer_token_bytes(tokenizer, chosen, &size);
    assert_true(constraint_take(c, bytes, size));
    return true;
}

static void forced_is_what_its_definition_says(void **state)
{
    struct rng r = {.seed = 20261123};
    int32_t n_forced = 0;
    for (int i = 0; i < 300; i++) {
        json_t *json = test_random_schema(&r, 0);
        char *text = json_dumps(json, JSON_COMPACT);
        struct en_schema *schema = compile(text);
        struct constraint c;
        constraint_init(&c, schema);
        for (int step = 0; step < 12 && !constraint_is_done(&c); step++) {
            n_forced += check_forced(&c);
            if (constraint_is_done(&c) || !draw(&c, PLENTY, &r))
                break;
        }
        en_schema_unref(schema);
        free(text);
        json_decref(json);
    }
    assert_true(n_forced > 500);
}

/* With any number of tokens left that can close the object, it closes with no more than those. */
static void a_budget_is_kept(void **state)
{
    struct rng r = {.seed = 7};
    for (int i = 0; i < 600; i++) {
        json_t *json = test_random_schema(&r, 0);
        char *text = json_dumps(json, JSON_COMPACT);
        struct en_schema *schema = compile(text);
        struct constraint c;
        constraint_init(&c, schema);
        int32_t left = constraint_close_tokens(vocab, &c) + (int32_t)rng_below(&r, 6), ids[FORCED_MAX];
        while (left > 0 && !constraint_is_done(&c)) {
            const int32_t n = forced_next(forced, &c, left, ids);
            for (int32_t k = 0; k < n; k++) {
                size_t size;
                const char *bytes = tokenizer_token_bytes(tokenizer, ids[k], &size);
                assert_true(constraint_take(&c, bytes, size));
            }
            left -= n;
            assert_true(left >= 0);
            if (constraint_is_done(&c) || left == 0 || !draw(&c, left, &r))
                break;
            left--;
        }
        if (!constraint_can_end(&c))
            fail_msg("the budget is spent and the object is open: %s", text);
        en_schema_unref(schema);
        free(text);
        json_decref(json);
    }
}

/* The forced text from the beginning, and behind each of the texts that are drawn. */
static void examples(void **state)
{
    static const char schema_text[] =
        "{\"type\":\"object\",\"properties\":{\"people\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":20},"
        "\"hazard\":{\"enum\":[\"none\",\"person_down\"]},\"at\":{\"type\":\"boolean\"},\"why\":{\"type\":\"string\"}},"
        "\"required\":[\"people\",\"hazard\",\"at\",\"why\"]}";
    static const struct {
        const char *drawn, *forced;
    } steps[] = {
        {"", "{\"people"},          /* then a token may come that begins the number */
        {"\":3", ",\"hazard\":\""}, /* there is no number from 30 to 39 */
        {"p", "erson_down\",\"at\":"},
        {"f", "alse,\"why"}, /* or the string */
        {"\":\"", ""},
        {"a\"", "}"},
    };
    struct en_schema *schema = compile(schema_text);
    struct constraint c;
    constraint_init(&c, schema);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        int32_t ids[FORCED_MAX];
        char text[256] = "";
        assert_true(constraint_take(&c, steps[i].drawn, strlen(steps[i].drawn)));
        const int32_t n = forced_next(forced, &c, PLENTY, ids);
        for (int32_t k = 0; k < n; k++) {
            size_t size;
            const char *bytes = tokenizer_token_bytes(tokenizer, ids[k], &size);
            strncat(text, bytes, size);
            assert_true(constraint_take(&c, bytes, size));
        }
        assert_string_equal(text, steps[i].forced);
    }
    assert_true(constraint_is_done(&c));
    en_schema_unref(schema);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples),
        cmocka_unit_test(forced_is_what_its_definition_says),
        cmocka_unit_test(a_budget_is_kept),
    };
    return cmocka_run_group_tests(tests, open_forced, close_forced);
}
