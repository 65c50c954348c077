/*
 * Schemas, constrained decoding, scores and the sampler: among them 10,000 generations on random logits over random schemas, judged by python-jsonschema.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/rng.h"
#include "engine/constraint.h"
#include "engine/sampler.h"
#include "tests/support/random_schema.h"
#include "tests/support/test.h"

/* ---- a vocabulary: all bytes, and random longer tokens of JSON's and English's bytes ------------------------------------------------- */

#define N_TOKENS 700
static char token_bytes[N_TOKENS][16];
static uint8_t token_n[N_TOKENS];
static struct token_trie *trie;
static struct constraint_vocab *vocab;

static bool have_token(const char *bytes, uint8_t n, int upto)
{
    for (int t = 0; t < upto; t++)
        if (token_n[t] == n && memcmp(token_bytes[t], bytes, n) == 0)
            return true;
    return false;
}

static int open_vocab(void **state)
{
    static const char *const pieces[] = {"\":",      "\",\"",    "},\"", "\":\"",  "\",",    "]}",   "[{\"",     "null",
                                         "true",     "false",    "none", "fire\"", "fi",     "re",   "smoke\"}", "{\"",
                                         "\"}",      "12",       "99",   "-1",     "00",     ",\"b", "\xc3\xa9", "\xf0\x9f",
                                         "\x90\xa6", "\xe4\xb8", "a\"",  "\\n",    "\\\"",   "\\",   "\"\"",     "true,",
                                         ":true",    "20}",      "0,\"", "p0\":",  "\"p1\":"};
    static const char alphabet[] = "abcdefgh \"\\,:{}[]0123456789-.truefalsnu\xc3\xa9\xe4\xb8\xad";
    struct token_trie_entry entries[N_TOKENS];
    struct err err = {0};
    struct rng r = {.seed = 5};
    for (int t = 0; t < N_TOKENS; t++) {
        do {
            if (t < 256) {
                token_bytes[t][0] = (char)t;
                token_n[t] = 1;
            } else if (t - 256 < (int)(sizeof pieces / sizeof *pieces)) {
                token_n[t] = (uint8_t)strlen(pieces[t - 256]);
                memcpy(token_bytes[t], pieces[t - 256], token_n[t]);
            } else {
                token_n[t] = (uint8_t)(2 + rng_below(&r, 6));
                for (int i = 0; i < token_n[t]; i++)
                    token_bytes[t][i] = alphabet[rng_below(&r, sizeof alphabet - 1)];
            }
        } while (t >= 256 + (int)(sizeof pieces / sizeof *pieces) && have_token(token_bytes[t], token_n[t], t));
    }
    /* pieces that repeat a single byte would be the same token twice */
    size_t n = 0;
    for (int t = 0; t < N_TOKENS; t++)
        if (!have_token(token_bytes[t], token_n[t], t))
            entries[n++] = (struct token_trie_entry){(const unsigned char *)token_bytes[t], token_n[t], t};
    if (token_trie_create(entries, n, &trie, &err) != 0 || constraint_vocab_create(trie, N_TOKENS, &vocab, &err) != 0)
        return -1;
    return 0;
}

static int close_vocab(void **state)
{
    constraint_vocab_free(vocab);
    token_trie_free(trie);
    return 0;
}

static struct en_schema *compile(const char *text)
{
    struct en_schema *schema = NULL;
    struct err err = {0};
    assert_ok(en_schema_compile(text, strlen(text), &schema, &err), &err);
    return schema;
}

/* ---- generation ------------------------------------------------------------------------------------------------------------------------------ */

#define TEXT_MAX 65536

/* Draw tokens uniformly from the mask until closed or the budget is spent; returns the text's length. */
static size_t generate(const struct en_schema *schema, int32_t budget, struct rng *r, char *text)
{
    uint32_t mask[(N_TOKENS + 31) / 32];
    struct constraint c;
    constraint_init(&c, schema);
    size_t n = 0;
    for (; budget > 0 && !constraint_is_done(&c); budget--) {
        constraint_mask(vocab, &c, budget, mask);
        int32_t allowed[N_TOKENS], n_allowed = 0;
        for (int32_t t = 0; t < N_TOKENS; t++)
            if (mask[t / 32] >> t % 32 & 1)
                allowed[n_allowed++] = t;
        if (n_allowed == 0 && constraint_can_end(&c))
            break;
        if (n_allowed == 0)
            fail_msg("stuck with %d tokens left after %.*s", budget, (int)n, text);
        /* a bare number at the root ends where the model says so */
        if (constraint_can_end(&c) && rng_below(r, 3) == 0)
            break;
        const int32_t t = allowed[rng_below(r, (uint64_t)n_allowed)];
        if (!constraint_take(&c, token_bytes[t], token_n[t]))
            fail_msg("token %d is in the mask and is refused after %.*s", t, (int)n, text);
        memcpy(text + n, token_bytes[t], token_n[t]);
        n += token_n[t];
    }
    if (!constraint_can_end(&c))
        fail_msg("the budget is spent and the object is open: %.*s", (int)n, text);
    return n;
}

static void ten_thousand_generations(void **state)
{
    const int n_cases = getenv("HERON_SANITIZED") ? 1000 : 10000;
    struct rng r = {.seed = 20260101};
    char path[512];
    snprintf(path, sizeof path, "%s/cases.ndjson", test_temp_dir());
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    char *text = test_malloc(TEXT_MAX);
    for (int i = 0; i < n_cases; i++) {
        json_t *json = test_random_schema(&r, 0);
        char *source = json_dumps(json, JSON_COMPACT);
        struct en_schema *schema = compile(source);
        struct constraint c;
        constraint_init(&c, schema);
        const int32_t least = constraint_close_tokens(vocab, &c);
        /* a third of them with the least that is possible, others with a little or much more */
        const int32_t budget = least + (int32_t)(rng_below(&r, 3) == 0 ? 0 : rng_below(&r, rng_below(&r, 2) ? 12 : 200));
        const size_t n = generate(schema, budget, &r, text);
        struct err err = {0};
        if (en_schema_validate(schema, text, n, &err) != 0)
            fail_msg("schema %s, text %.*s: %s", source, (int)n, text, err.text);
        json_t *line = json_pack("{s:O, s:s%}", "schema", json, "text", text, n);
        assert_non_null(line);
        json_dumpf(line, f, JSON_COMPACT);
        fputc('\n', f);
        json_decref(line);
        json_decref(json);
        free(source);
        en_schema_unref(schema);
    }
    test_free(text);
    assert_int_equal(fclose(f), 0);
    if (system("/usr/bin/python3 -c 'import jsonschema' 2>/dev/null") != 0)
        skip_because("python3-jsonschema is not installed: the generations were judged by Heron's own validator alone");
    char command[1200];
    snprintf(command, sizeof command, "/usr/bin/python3 tests/engine/judge_schema.py %s", path);
    FILE *judge = popen(command, "r");
    char verdict[2000] = "";
    const size_t got = fread(verdict, 1, sizeof verdict - 1, judge);
    verdict[got] = '\0';
    if (pclose(judge) != 0 || atoi(verdict) != n_cases)
        fail_msg("the judge: %s", verdict);
}

/* Inside strings the mask is made of shortcuts. Token by token: in it is what the schema takes and what can be closed with what is left. */
static void masks_of_strings_are_their_definition(void **state)
{
    static const char *const schemas[] = {
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"minLength\":7,\"maxLength\":9},\"b\":{\"type\":"
        "\"integer\",\"minimum\":10,"
        "\"maximum\":99}},\"required\":[\"a\",\"b\"]}",
        "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":3},\"minItems\":2,\"maxItems\":3}",
        "{\"type\":\"string\",\"minLength\":4,\"maxLength\":4}",
    };
    static const char *const starts[] = {"{\"a\":\"", "[\"", "\""}, *const contents[] = {"", "x", "ab",
                                                                                         "e\xC3\xA9\xF0\x9F\x90\xA6", "abcd"};
    int n_checked = 0, n_allowed = 0;
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++)
        for (size_t k = 0; k < sizeof contents / sizeof *contents; k++) {
            struct en_schema *s = compile(schemas[i]);
            struct constraint c, next;
            constraint_init(&c, s);
            assert_true(constraint_take(&c, starts[i], strlen(starts[i])));
            const int32_t least =
                constraint_take(&c, contents[k], strlen(contents[k])) ? constraint_close_tokens(vocab, &c) : -1;
            for (int32_t remaining = 1; remaining <= least + 6; remaining++) {
                uint32_t mask[(N_TOKENS + 31) / 32];
                constraint_mask(vocab, &c, remaining, mask);
                for (int32_t t = 0; t < N_TOKENS; t++) {
                    if (have_token(token_bytes[t], token_n[t], t)) /* spelt by an earlier one */
                        continue;
                    constraint_copy(&next, &c);
                    const bool want = constraint_take(&next, token_bytes[t], token_n[t]) && token_n[t] > 0 &&
                                      (next.is_done ? 0 : constraint_close_tokens(vocab, &next)) <= remaining - 1;
                    if (want != (mask[t / 32] >> t % 32 & 1))
                        fail_msg("%s, %s%s with %d tokens left: token %d \"%.*s\" is %s the mask", schemas[i], starts[i],
                                 contents[k], remaining, t, token_n[t], token_bytes[t], want ? "not in" : "in");
                    n_checked++;
                    n_allowed += want;
                }
            }
            en_schema_unref(s);
        }
    assert_true(n_allowed > 1000 && n_checked > 2 * n_allowed);
}

static void budget_below_the_least_is_known(void **state)
{
    struct en_schema *s =
        compile("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":100,\"maximum\":200},"
                "\"b\":{\"type\":\"string\",\"minLength\":3}},\"required\":[\"a\"]}");
    struct constraint c;
    constraint_init(&c, s);
    /* {"a":100} by the longest tokens of this vocabulary: at most its nine bytes */
    const int32_t least = constraint_close_tokens(vocab, &c);
    assert_true(least >= 3 && least <= 9);
    uint32_t mask[(N_TOKENS + 31) / 32];
    constraint_mask(vocab, &c, least - 1, mask);
    for (size_t i = 0; i < sizeof mask / sizeof *mask; i++)
        assert_int_equal(mask[i], 0);
    en_schema_unref(s);
}

/* ---- compiling ------------------------------------------------------------------------------------------------------------------------------- */

static void schemas_are_refused_by_name_and_place(void **state)
{
    static const struct {
        const char *text;
        int code;
        const char *words;
    } cases[] = {
        {"{", ERR_FORMAT, "line 1, column 1"},
        {"{\"type\":\"object\",\"type\":\"object\"}", ERR_FORMAT, "duplicate"},
        {"[]", ERR_UNSUPPORTED, "a schema is an object"},
        {"{}", ERR_INVAL, "/: no type"},
        {"{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"string\",\"pattern\":\"a\"}}}", ERR_UNSUPPORTED,
         "/properties/x: unsupported keyword \"pattern\""},
        {"{\"anyOf\":[]}", ERR_UNSUPPORTED, "unsupported keyword \"anyOf\""},
        {"{\"type\":[\"string\",\"null\"]}", ERR_UNSUPPORTED, "type is one word"},
        {"{\"type\":\"text\"}", ERR_INVAL, "unknown type \"text\""},
        {"{\"type\":\"string\",\"minimum\":1}", ERR_UNSUPPORTED, "a value of type string has no \"minimum\""},
        {"{\"type\":\"number\",\"minimum\":1}", ERR_UNSUPPORTED, "a value of type number has no \"minimum\""},
        {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", ERR_INVAL, "no whole number is left"},
        {"{\"type\":\"integer\",\"exclusiveMinimum\":3,\"exclusiveMaximum\":4}", ERR_INVAL, "no whole number is left"},
        {"{\"type\":\"integer\",\"exclusiveMinimum\":9000000000000000}", ERR_INVAL, "no whole number is left"},
        {"{\"type\":\"integer\",\"minimum\":1e16}", ERR_INVAL, "within 9e15"},
        {"{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", ERR_INVAL, "minLength is above maxLength"},
        {"{\"type\":\"string\",\"maxLength\":-1}", ERR_INVAL, "expected a whole number"},
        {"{\"type\":\"array\"}", ERR_INVAL, "an array needs \"items\""},
        {"{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":2,\"maxItems\":1}", ERR_INVAL,
         "minItems is above maxItems"},
        {"{\"enum\":[]}", ERR_INVAL, "at least one value"},
        {"{\"enum\":[1,1]}", ERR_INVAL, "the same value twice"},
        {"{\"enum\":[1.5]}", ERR_UNSUPPORTED, "strings, whole numbers"},
        {"{\"type\":\"string\",\"enum\":[\"a\",1]}", ERR_INVAL, "not of type \"string\""},
        {"{\"enum\":[1],\"minimum\":0}", ERR_UNSUPPORTED, "\"minimum\""},
        {"{\"type\":\"object\",\"additionalProperties\":true}", ERR_UNSUPPORTED, "only false is possible"},
        {"{\"type\":\"object\",\"required\":[\"a\"]}", ERR_INVAL, "required names a property that is not there: \"a\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct en_schema *s = NULL;
        struct err err = {0};
        assert_err(en_schema_compile(cases[i].text, strlen(cases[i].text), &s, &err), cases[i].code, &err, cases[i].words);
        assert_null(s);
    }
    char deep[4096] = "";
    for (int i = 0; i < 40; i++)
        strcat(deep, "{\"type\":\"array\",\"items\":");
    strcat(deep, "{\"type\":\"null\"}");
    for (int i = 0; i < 40; i++)
        strcat(deep, "}");
    struct en_schema *s = NULL;
    struct err err = {0};
    assert_err(en_schema_compile(deep, strlen(deep), &s, &err), ERR_INVAL, &err, "nested deeper");

    /* each value is compared with all before it: a list that fills the text would take half a minute */
    char *list = test_malloc(1 << 17);
    size_t n = (size_t)sprintf(list, "{\"enum\":[0");
    for (int i = 1; i < 4097; i++)
        n += (size_t)sprintf(list + n, ",%d", i);
    strcpy(list + n, "]}");
    err_clear(&err);
    assert_err(en_schema_compile(list, strlen(list), &s, &err), ERR_INVAL, &err, "/: enum has more than 4096 values");
    strcpy(strrchr(list, ','), "]}");
    assert_ok(en_schema_compile(list, strlen(list), &s, &err), &err);
    en_schema_unref(s);
    test_free(list);
}

static void bytes_are_taken_or_refused(void **state)
{
    static const struct {
        const char *schema, *text;
        bool ok;
    } cases[] = {
        {"{\"type\":\"integer\",\"minimum\":0,\"maximum\":20}", "20", true},
        {"{\"type\":\"integer\",\"minimum\":0,\"maximum\":20}", "21", false},
        {"{\"type\":\"integer\",\"minimum\":0,\"maximum\":20}", "03", false},
        {"{\"type\":\"integer\",\"minimum\":0,\"maximum\":20}", "-1", false},
        {"{\"type\":\"integer\",\"minimum\":-5,\"maximum\":-3}", "-4", true},
        {"{\"type\":\"integer\",\"minimum\":-5,\"maximum\":3}", "-0", false},
        {"{\"type\":\"integer\",\"minimum\":95,\"maximum\":105}", "9", true},
        {"{\"type\":\"integer\",\"minimum\":95,\"maximum\":105}", "11", false},
        {"{\"type\":\"integer\",\"minimum\":2000000000000000}", "2000000000000000", true},
        {"{\"type\":\"integer\",\"minimum\":2000000000000000}", "1", false},
        {"{\"type\":\"integer\",\"exclusiveMaximum\":-8999999999999999}", "-9000000000000000", true},
        {"{\"type\":\"integer\",\"exclusiveMaximum\":-8999999999999999}", "-9000000000000001", false},
        {"{\"type\":\"number\"}", "-0.5", true},
        {"{\"type\":\"number\"}", "1e5", false},
        {"{\"type\":\"number\"}", "1.", true},
        {"{\"type\":\"string\",\"maxLength\":2}", "\"\xc3\xa9\xf0\x9f\x90\xa6\"", true},
        {"{\"type\":\"string\",\"maxLength\":2}", "\"abc", false},
        {"{\"type\":\"string\",\"minLength\":2}", "\"a\"", false},
        {"{\"type\":\"string\"}", "\"\xed\xa0\x80", false},
        {"{\"type\":\"string\"}", "\"\\u0041", false},
        {"{\"type\":\"string\"}", "\"a\nb", false},
        {"{\"type\":\"string\"}", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", true},
        {"{\"enum\":[1,12]}", "12", true},
        {"{\"enum\":[1,12]}", "13", false},
        {"{\"type\":\"array\",\"items\":{\"enum\":[1,12]},\"minItems\":1,\"maxItems\":2}", "[1,12]", true},
        {"{\"type\":\"array\",\"items\":{\"enum\":[1,12]},\"minItems\":1,\"maxItems\":2}", "[1,1,", false},
        {"{\"type\":\"array\",\"items\":{\"enum\":[1,12]},\"minItems\":1,\"maxItems\":2}", "[]", false},
        {"{\"type\":\"object\",\"properties\":{\"ab\":{\"type\":\"null\"},\"a\":{\"type\":\"null\"}},\"required\":[\"a\"]}",
         "{\"a\":null}", true},
        {"{\"type\":\"object\",\"properties\":{\"ab\":{\"type\":\"null\"},\"a\":{\"type\":\"null\"}},\"required\":[\"a\"]}",
         "{\"ab\":null}", false},
        {"{\"type\":\"object\",\"properties\":{\"ab\":{\"type\":\"null\"},\"a\":{\"type\":\"null\"}},\"required\":[\"a\"]}",
         "{\"a\":null,", false},
        {"{\"type\":\"object\"}", "{}", true},
        {"{\"type\":\"object\"}", "{ }", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct en_schema *s = compile(cases[i].schema);
        struct constraint c;
        constraint_init(&c, s);
        if (constraint_take(&c, cases[i].text, strlen(cases[i].text)) != cases[i].ok)
            fail_msg("%s: %s", cases[i].schema, cases[i].text);
        en_schema_unref(s);
    }
}

static void validation_is_independent(void **state)
{
    struct en_schema *s =
        compile("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":9},"
                "\"b\":{\"enum\":[\"x\",\"y\"]}},\"required\":[\"a\"]}");
    struct err err = {0};
    const char *good = " { \"b\" : \"y\", \"a\" : 3 } "; /* order and white space are the sender's */
    assert_ok(en_schema_validate(s, good, strlen(good), &err), &err);
    static const struct {
        const char *text, *words;
    } bad[] = {{"{\"a\":3", "line 1"},
               {"{}", "/a: missing"},
               {"{\"a\":10}", "/a: not a whole number in range"},
               {"{\"a\":1,\"b\":\"z\"}", "/b: none of"},
               {"{\"a\":1,\"c\":1}", "/c: not in the schema"},
               {"[]", "/: not an object"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_err(en_schema_validate(s, bad[i].text, strlen(bad[i].text), &err), ERR_FORMAT, &err, bad[i].words);
    en_schema_unref(s);
}

/* ---- scores ------------------------------------------------------------------------------------------------------------------------------------ */

static double weights[N_TOKENS];

static double weight_of(void *ctx, int32_t token)
{
    const uint32_t *mask = ctx;
    double sum = 0;
    for (int32_t t = 0; t < N_TOKENS; t++)
        if (mask[t / 32] >> t % 32 & 1)
            sum += weights[t];
    return weights[token] / sum;
}

static const char *spell(void *ctx, int32_t token, size_t *ret_n)
{
    *ret_n = token_n[token];
    return token_bytes[token];
}

/* The probability that a generation by these weights ends in each alternative, by walking all of them. */
static void enumerate(const struct constraint *c, double mass, const struct schema_node *n, double *p, const char *sofar)
{
    uint32_t mask[(N_TOKENS + 31) / 32];
    constraint_mask(vocab, c, 1000, mask);
    for (int32_t t = 0; t < N_TOKENS; t++) {
        if (!(mask[t / 32] >> t % 32 & 1))
            continue;
        char text[64];
        snprintf(text, sizeof text, "%s%.*s", sofar, token_n[t], token_bytes[t]);
        const double q = mass * weight_of(mask, t);
        bool is_end = false;
        for (int32_t a = 0; a < n->n_alternatives && !is_end; a++)
            if (strncmp(text, n->alternatives[a].bytes, (size_t)n->alternatives[a].n) == 0) {
                p[a] += q;
                is_end = true;
            }
        if (is_end)
            continue;
        struct constraint next;
        constraint_copy(&next, c);
        assert_true(constraint_take(&next, token_bytes[t], token_n[t]));
        enumerate(&next, q, n, p, text);
    }
}

/*
 * The score of the alternative that the most probable path takes is exact when each decision along it is read as it is made; summed over all paths weighted by
 * their probability, the scores are the alternatives' true probabilities. Checked by drawing.
 */
static void scores_are_probabilities(void **state)
{
    struct en_schema *s = compile("{\"type\":\"object\",\"properties\":{\"h\":{\"enum\":[\"none\",\"fire\",\"smoke\",\"person_"
                                  "down\"]}},\"required\":[\"h\"]}");
    struct constraint start;
    constraint_init(&start, s);
    assert_true(constraint_take(&start, "{\"h\":\"", 6));
    const struct schema_node *n = &s->nodes[1];
    assert_string_equal(n->path, "/h");
    assert_int_equal(n->common, 1);
    struct rng r = {.seed = 3};
    for (int32_t t = 0; t < N_TOKENS; t++)
        weights[t] = 0.05 + rng_unit(&r);
    double truth[8] = {0}, mean[8] = {0};
    enumerate(&start, 1, n, truth, "\"");
    const int draws = 4000;
    for (int i = 0; i < draws; i++) {
        struct constraint c;
        constraint_copy(&c, &start);
        struct verdict v;
        verdict_init(&v);
        int32_t chosen = -1;
        for (bool done = false; !done;) {
            uint32_t mask[(N_TOKENS + 31) / 32];
            constraint_mask(vocab, &c, 1000, mask);
            double at = rng_unit(&r);
            int32_t t = 0, last = -1;
            for (; t < N_TOKENS; t++)
                if (mask[t / 32] >> t % 32 & 1) {
                    last = t;
                    if ((at -= weight_of(mask, t)) < 0)
                        break;
                }
            t = last;
            done = verdict_observe(&v, vocab, &c, mask, t, weight_of, mask, spell, &chosen);
            assert_true(constraint_take(&c, token_bytes[t], token_n[t]));
        }
        double sum = 0;
        for (int a = 0; a < n->n_alternatives; a++) {
            assert_true(v.p[a] >= 0 && v.p[a] <= 1 + 1e-12);
            sum += v.p[a];
            mean[a] += v.p[a] / draws;
        }
        assert_true(fabs(sum - 1) < 1e-9);
        assert_true(chosen >= 0 && v.p[chosen] > 0);
    }
    for (int a = 0; a < n->n_alternatives; a++)
        if (fabs(mean[a] - truth[a]) > 0.02)
            fail_msg("alternative %s: mean score %.4f, true probability %.4f", n->alternatives[a].bytes, mean[a], truth[a]);
    en_schema_unref(s);
}

/* A number that is complete and may go on: what goes on speaks for the longer one alone. */
static void a_number_that_may_go_on(void **state)
{
    struct en_schema *s = compile("{\"type\":\"object\",\"properties\":{\"n\":{\"enum\":[1,12,7]}},\"required\":[\"n\"]}");
    static const int32_t paths[][2] = {{'1', '}'}, {'1', '2'}};
    for (int i = 0; i < 2; i++) {
        struct constraint c;
        struct verdict v;
        int32_t chosen = -1;
        bool done = false;
        constraint_init(&c, s);
        verdict_init(&v);
        assert_true(constraint_take(&c, "{\"n\":", 5));
        memset(weights, 0, sizeof weights);
        weights['7'] = 0.2, weights['1'] = 0.8, weights['}'] = 0.6, weights['2'] = 0.4;
        for (int k = 0; k < 2; k++) {
            uint32_t mask[(N_TOKENS + 31) / 32];
            constraint_mask(vocab, &c, 1000, mask);
            assert_false(done);
            done = verdict_observe(&v, vocab, &c, mask, paths[i][k], weight_of, mask, spell, &chosen);
            assert_true(constraint_take(&c, token_bytes[paths[i][k]], 1));
        }
        assert_true(done);
        assert_int_equal(chosen, i);
        assert_true(fabs(v.p[0] - 0.8 * 0.6) < 1e-12);
        assert_true(fabs(v.p[1] - 0.8 * 0.4) < 1e-12);
        assert_true(fabs(v.p[2] - 0.2) < 1e-12);
    }
    en_schema_unref(s);
}

/* Two choices never share a path, whatever their names hold; inside arrays there is none. */
static void paths_are_json_pointers(void **state)
{
    static const struct {
        const char *schema, *path; /* of the last literal */
    } cases[] = {
        {"{\"type\":\"boolean\"}", ""},
        {"{\"type\":\"object\",\"properties\":{\"a/b\":{\"type\":\"boolean\"}}}", "/a~1b"},
        {"{\"type\":\"object\",\"properties\":{\"~1\":{\"type\":\"boolean\"}}}", "/~01"},
        {"{\"type\":\"object\",\"properties\":{\"*x\":{\"type\":\"boolean\"}}}", "/*x"},
        {"{\"type\":\"object\",\"properties\":{\"\":{\"type\":\"object\",\"properties\":{\"b\":{\"type\":\"boolean\"}}}}}",
         "//b"},
        {"{\"type\":\"array\",\"items\":{\"type\":\"boolean\"}}", NULL},
        {"{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"b\":{\"type\":\"boolean\"}}}}", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct en_schema *s = compile(cases[i].schema);
        const struct schema_node *n = &s->nodes[s->n_nodes - 1];
        assert_int_equal(n->kind, SCHEMA_LITERAL);
        if (cases[i].path)
            assert_string_equal(n->path, cases[i].path);
        else
            assert_null(n->path);
        en_schema_unref(s);
    }
    /* names that differ only far behind are told apart, or refused */
    char name[600], text[1400];
    struct err err = {0};
    struct en_schema *s = NULL;
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    snprintf(text, sizeof text,
             "{\"type\":\"object\",\"properties\":{\"%.450s1\":{\"enum\":[1,2]},\"%.450s2\":{\"enum\":[1,2]}}}", name, name);
    assert_ok(en_schema_compile(text, strlen(text), &s, &err), &err);
    assert_string_not_equal(s->nodes[1].path, s->nodes[2].path);
    en_schema_unref(s);
    snprintf(text, sizeof text, "{\"type\":\"object\",\"properties\":{\"%s\":{\"enum\":[1,2]}}}", name);
    assert_err(en_schema_compile(text, strlen(text), &s, &err), ERR_INVAL, &err, "longer than");
}

/* ---- the sampler --------------------------------------------------------------------------------------------------------------------------------- */

static void sampler_follows_its_definition(void **state)
{
    struct sampler *s = NULL;
    struct err err = {0};
    assert_ok(sampler_create(8, &s, &err), &err);
    const float logits[8] = {1, 3, NAN, 3, -INFINITY, 2, 0, 9};
    const uint32_t mask = 0x7F; /* not 7 */
    int32_t token = -1;
    struct en_sampling p = {.temperature = 0, .top_p = 1};
    assert_ok(sampler_pick(s, &p, 0, logits, &mask, &token, &err), &err);
    assert_int_equal(token, 1); /* of 1 and 3, the lower */
    assert_ok(sampler_pick(s, &p, 0, logits, NULL, &token, &err), &err);
    assert_int_equal(token, 7);
    const uint32_t only_nan = 1u << 2;
    assert_err(sampler_pick(s, &p, 0, logits, &only_nan, &token, &err), ERR_INVAL, &err, "no token");
    /* shares at temperature 2, among the three best, at least 0.6 of the best's */
    p = (struct en_sampling){.temperature = 2, .top_k = 3, .top_p = 1, .min_p = 0.6f, .seed = 9};
    const double w[3] = {1, 1, exp(-0.5)};
    int counts[8] = {0};
    const int draws = 30000;
    for (int i = 0; i < draws; i++) {
        assert_ok(sampler_pick(s, &p, (uint64_t)i, logits, &mask, &token, &err), &err);
        counts[token]++;
        int32_t again = -1;
        assert_ok(sampler_pick(s, &p, (uint64_t)i, logits, &mask, &again, &err), &err);
        assert_int_equal(again, token);
    }
    const int order[3] = {1, 3, 5};
    double chi2 = 0;
    int seen = 0;
    for (int i = 0; i < 3; i++) {
        const double expected = draws * w[i] / (w[0] + w[1] + w[2]);
        chi2 += (counts[order[i]] - expected) * (counts[order[i]] - expected) / expected;
        seen += counts[order[i]];
    }
    assert_int_equal(seen, draws);
    assert_true(chi2 < 13.8); /* two degrees of freedom, 0.1 % */
    p = (struct en_sampling){.temperature = 2, .top_p = 0.5f, .seed = 9};
    for (int i = 0; i < 1000; i++) { /* the first two reach half of the mass */
        assert_ok(sampler_pick(s, &p, (uint64_t)i, logits, &mask, &token, &err), &err);
        assert_true(token == 1 || token == 3);
    }
    assert_err(sampler_check(&(struct en_sampling){.temperature = -1, .top_p = 1}, &err), ERR_INVAL, &err, "temperature");
    assert_err(sampler_check(&(struct en_sampling){.top_p = 0}, &err), ERR_INVAL, &err, "top_p");
    assert_err(sampler_check(&(struct en_sampling){.top_p = 1, .min_p = NAN}, &err), ERR_INVAL, &err, "min_p");
    sampler_free(s);
}

static void sampler_selects_the_best(void **state)
{
    enum { N = 5000 };
    struct sampler *s = NULL;
    struct err err = {0};
    assert_ok(sampler_create(N, &s, &err), &err);
    float *logits = test_malloc(N * sizeof *logits);
    struct rng r = {.seed = 1};
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < N; i++)
            logits[i] = round % 2 ? (float)rng_below(&r, 50) : (float)rng_unit(&r);
        const struct en_sampling p = {
            .temperature = 1, .top_k = 1 + (int32_t)rng_below(&r, 40), .top_p = 1, .seed = (uint64_t)round};
        for (uint64_t k = 0; k < 50; k++) {
            int32_t token = -1, better = 0;
            assert_ok(sampler_pick(s, &p, k, logits, NULL, &token, &err), &err);
            for (int i = 0; i < N; i++)
                better += logits[i] > logits[token] || (logits[i] == logits[token] && i < token);
            assert_true(better < p.top_k);
        }
    }
    test_free(logits);
    sampler_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schemas_are_refused_by_name_and_place),
        cmocka_unit_test(bytes_are_taken_or_refused),
        cmocka_unit_test(validation_is_independent),
        cmocka_unit_test(masks_of_strings_are_their_definition),
        cmocka_unit_test(budget_below_the_least_is_known),
        cmocka_unit_test(ten_thousand_generations),
        cmocka_unit_test(scores_are_probabilities),
        cmocka_unit_test(a_number_that_may_go_on),
        cmocka_unit_test(paths_are_json_pointers),
        cmocka_unit_test(sampler_follows_its_definition),
        cmocka_unit_test(sampler_selects_the_best),
    };
    return cmocka_run_group_tests(tests, open_vocab, close_vocab);
}
