/* The sampler draws as its definition does, written plainly with libc's qsort: the same tokens for all parameters, to the bit. */
#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "engine/sampler.h"
#include "tests/support/test.h"

#define VOCAB_MAX 9000 /* more than four digits of the sort's 2,048 */

struct entry {
    float logit;
    int32_t token;
};

/* What may be drawn, best first: of the last draw. */
static struct entry list[VOCAB_MAX];
static int32_t n_list;

static int better_first(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;
    if (a->logit != b->logit)
        return a->logit > b->logit ? -1 : 1;
    return a->token < b->token ? -1 : a->token > b->token;
}

static int32_t draw(const struct en_sampling *p, uint64_t counter, int32_t n_vocab, const float *logits, const uint32_t *mask)
{
    static double weight[VOCAB_MAX];
    int32_t n = 0;
    for (int32_t t = 0; t < n_vocab; t++)
        if ((mask[t / 32] >> t % 32 & 1) && !isnan(logits[t]))
            list[n++] = (struct entry){logits[t], t};
    n_list = n;
    qsort(list, (size_t)n, sizeof *list, better_first);
    if (p->top_k > 0 && p->top_k < n)
        n = p->top_k;
    double sum = 0, reached = 0;
    for (int32_t i = 0; i < n; i++)
        sum += weight[i] = exp(((double)list[i].logit - (double)list[0].logit) / (double)p->temperature);
    int32_t keep = p->top_p < 1 ? 0 : n;
    while (keep < n && reached < (double)p->top_p * sum)
        reached += weight[keep++];
    while (p->min_p > 0 && keep > 1 && weight[keep - 1] < (double)p->min_p)
        keep--;
    sum = 0;
    for (int32_t i = 0; i < keep; i++)
        sum += weight[i];
    double at = (double)(rng_at(p->seed, counter) >> 11) * 0x1p-53 * sum;
    int32_t i = 0;
    for (; i + 1 < keep && at >= weight[i]; i++)
        at -= weight[i];
    return list[i].token;
}

/* Of the most probable ones alone the same token is drawn, where they are enough. */
static int draw_of_top(struct sampler *s, const struct en_sampling *p, uint64_t counter, int32_t expected)
{
    struct kn_top top[KN_TOP_K_MAX];
    struct err err = {0};
    int32_t n = 0, token = -1;
    for (; n < KN_TOP_K_MAX && n < n_list; n++)
        top[n] = (struct kn_top){list[n].logit, list[n].token};
    if (n == n_list || sampler_is_enough(p, n)) {
        assert_ok(sampler_pick_top(s, p, counter, top, n, &token, &err), &err);
        assert_int_equal(token, expected);
        return 1;
    }
    assert_true(p->top_k == 0 || p->top_k > KN_TOP_K_MAX);
    return 0;
}

static void draws_are_those_of_the_definition(void **state)
{
    static float logits[VOCAB_MAX];
    static uint32_t mask[(VOCAB_MAX + 31) / 32];
    static const int32_t vocabs[] = {33, 2048, VOCAB_MAX};
    struct rng r = {.seed = 5};
    for (size_t v = 0; v < sizeof vocabs / sizeof *vocabs; v++) {
        struct sampler *s = NULL;
        struct err err = {0};
        assert_ok(sampler_create(vocabs[v], &s, &err), &err);
        int n_of_top = 0;
        for (int round = 0; round < 60; round++) {
            for (int32_t t = 0; t < vocabs[v]; t++) {
                const uint64_t kind = rng_below(&r, 20);
                /* every second round with many ties */
                const float x = round % 2 ? (float)rng_below(&r, 9) - 4 : (float)rng_unit(&r) * 20 - 10;
                logits[t] = kind == 0 ? NAN : kind == 1 ? -INFINITY : kind == 2 ? -0.0f : kind == 3 ? 0.0f : x;
            }
            for (size_t w = 0; w < sizeof mask / sizeof *mask; w++)
                mask[w] = rng_at(6, r.counter + w) & 0x77777777u;
            mask[0] |= 1;
            logits[0] = 4; /* one token at least */
            const struct en_sampling p = {.temperature = 0.25f + (float)rng_unit(&r) * 2,
                                          .top_k = round % 3 ? (int32_t)rng_below(&r, round % 2 ? 65 : (uint64_t)vocabs[v]) : 0,
                                          .top_p = round % 4 ? 1 : 0.7f,
                                          .min_p = round % 5 ? 0 : 0.02f,
                                          .seed = (uint64_t)round};
            for (uint64_t k = 0; k < 6; k++) {
                int32_t token = -1;
                assert_ok(sampler_pick(s, &p, k, logits, mask, &token, &err), &err);
                assert_int_equal(token, draw(&p, k, vocabs[v], logits, mask));
                n_of_top += draw_of_top(s, &p, k, token);
            }
        }
        assert_true(n_of_top > 60 && (vocabs[v] == 33) == (n_of_top == 360));
        const struct en_sampling greedy = {.top_p = 1};
        struct kn_top top = {-1, 7};
        int32_t token = -1;
        assert_true(sampler_is_enough(&greedy, 1));
        assert_ok(sampler_pick_top(s, &greedy, 0, &top, 1, &token, &err), &err);
        assert_int_equal(token, 7);
        assert_err(sampler_pick_top(s, &greedy, 0, &top, 0, &token, &err), ERR_INVAL, &err, "no token");
        sampler_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(draws_are_those_of_the_definition)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
