/*
 * A JSON Schema from anywhere, and an answer under it: the text up to the first NUL byte is the schema, the bytes behind it choose the
 * token budget and each token. Checked: what compiles can be answered from every state within the budget, with at least one token
 * allowed at every step, every allowed token taken, and a whole instance at the end, which the validator accepts.
 */
#include <string.h>

#include "engine/constraint.h"
#include "tests/fuzz/fuzz.h"

enum { N_TOKENS = 288, STEPS_MAX = 160, TEXT_MAX = 1 << 16 };

static const char *const pieces[] = {"\":",   "\",\"", "},\"", "\":\"",    "\",",      "]}",    "[{\"", "null",
                                     "true",  "false", "none", "fi",       "re",       "{\"",   "\"}",  "12",
                                     "99",    "-1",    "00",   "\xc3\xa9", "\xf0\x9f", "\\n",   "\\\"", "\"\"",
                                     "true,", "20}",   "0,\"", "0.5",      "\"a\":",   "[1,2]", "{}",   "[]"};
static char token_bytes[N_TOKENS][16];
static uint8_t token_n[N_TOKENS];
static struct constraint_vocab *vocab; /* kept for all inputs */

static void open_vocab(void)
{
    static struct token_trie *trie;
    struct token_trie_entry entries[N_TOKENS];
    for (int t = 0; t < N_TOKENS; t++) {
        const char *piece = t < 256 ? NULL : pieces[t - 256];
        token_n[t] = piece ? (uint8_t)strlen(piece) : 1;
        if (piece)
            memcpy(token_bytes[t], piece, token_n[t]);
        else
            token_bytes[t][0] = (char)t;
        entries[t] = (struct token_trie_entry){(const unsigned char *)token_bytes[t], token_n[t], t};
    }
    REQUIRE(token_trie_create(entries, N_TOKENS, &trie, NULL) == 0);
    REQUIRE(constraint_vocab_create(trie, N_TOKENS, &vocab, NULL) == 0);
}

static double even(void *ctx, int32_t token)
{
    return 1.0 / *(int *)ctx;
}

static const char *bytes_of(void *ctx, int32_t token, size_t *ret_n)
{
    *ret_n = token_n[token];
    return token_bytes[token];
}

static void answer(const struct en_schema *schema, const uint8_t *choices, size_t n_choices)
{
    static char text[TEXT_MAX];
    uint32_t mask[(N_TOKENS + 31) / 32];
    struct constraint c;
    struct verdict v;
    constraint_init(&c, schema);
    verdict_init(&v);
    const int32_t least = constraint_close_tokens(vocab, &c);
    REQUIRE(least >= 0);
    if (least > STEPS_MAX) /* each step walks the vocabulary: what is long is only begun */
        return;
    int32_t budget = least + (n_choices ? choices[0] % 64 : 0);
    size_t n = 0, at = 1;
    for (; budget > 0 && !constraint_is_done(&c); budget--) {
        REQUIRE(constraint_close_tokens(vocab, &c) <= budget);
        constraint_mask(vocab, &c, budget, mask);
        int32_t allowed[N_TOKENS];
        int n_allowed = 0;
        for (int32_t t = 0; t < N_TOKENS; t++)
            if (mask[t / 32] >> t % 32 & 1)
                allowed[n_allowed++] = t;
        const uint8_t choice = at < n_choices ? choices[at++] : 0;
        if (constraint_can_end(&c) && (n_allowed == 0 || choice == 255))
            break;
        REQUIRE(n_allowed > 0);
        const int32_t t = allowed[choice % n_allowed];
        int32_t chosen = -1;
        if (verdict_observe(&v, vocab, &c, mask, t, even, &n_allowed, bytes_of, &chosen)) {
            double sum = 0;
            const int32_t n_alternatives = schema->nodes[v.node].n_alternatives;
            REQUIRE(chosen >= 0 && chosen < n_alternatives);
            for (int i = 0; i < n_alternatives && i < VERDICT_ALTERNATIVES_MAX; i++)
                sum += v.p[i];
            REQUIRE(n_alternatives > VERDICT_ALTERNATIVES_MAX || (sum > 0.999 && sum < 1.001));
            verdict_init(&v);
        }
        constraint_mark(&c);
        REQUIRE(constraint_take(&c, token_bytes[t], token_n[t]));
        REQUIRE(n + token_n[t] <= TEXT_MAX);
        memcpy(text + n, token_bytes[t], token_n[t]);
        n += token_n[t];
    }
    REQUIRE(constraint_can_end(&c));
    struct err err = {0};
    if (en_schema_validate(schema, text, n, &err) != 0) {
        fprintf(stderr, "%.*s: %s\n", (int)n, text, err.text);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!vocab)
        open_vocab();
    const uint8_t *end = memchr(data, 0, size);
    const size_t n = end ? (size_t)(end - data) : size;
    struct en_schema *schema = NULL;
    struct err err = {0};
    const int rc = en_schema_compile((const char *)data, n, &schema, &err);
    if (rc == 0) {
        REQUIRE(schema);
        answer(schema, end ? end + 1 : NULL, end ? size - n - 1 : 0);
        (void)en_schema_validate(schema, (const char *)data, size, &err);
    } else {
        REQUIRE((rc == ERR_INVAL || rc == ERR_FORMAT || rc == ERR_UNSUPPORTED) && !schema && err.text[0]);
    }
    en_schema_unref(schema);
    return 0;
}
