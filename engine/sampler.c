#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

#define DIGIT_BITS 11 /* of a key that one pass of the sort looks at */

struct candidate {
    float logit;
    int32_t token;
};

struct sampler {
    int32_t n_vocab;
    struct candidate *list;  /* [V] */
    struct candidate *spare; /* [V] the other side of the sort; the two change places */
    double *weight;          /* [V] */
};

int sampler_create(int32_t n_vocab, struct sampler **ret_sampler, struct err *err)
{
    struct sampler *s = calloc(1, sizeof *s);
    if (s) {
        s->n_vocab = n_vocab;
        s->list = malloc((size_t)n_vocab * sizeof *s->list);
        s->spare = malloc((size_t)n_vocab * sizeof *s->spare);
        s->weight = malloc((size_t)n_vocab * sizeof *s->weight);
    }
    if (!s || !s->list || !s->spare || !s->weight) {
        sampler_free(s);
        return err_set(err, ERR_NOMEM, "out of memory: a sampler over %d tokens", n_vocab);
    }
    *ret_sampler = s;
    return 0;
}

void sampler_free(struct sampler *s)
{
    if (!s)
        return;
    free(s->list);
    free(s->spare);
    free(s->weight);
    free(s);
}

int sampler_check(const struct en_sampling *p, struct err *err)
{
    if (!(p->temperature >= 0 && p->temperature <= 100))
        return err_set(err, ERR_INVAL, "a temperature of %g: 0 to 100 are possible", (double)p->temperature);
    if (p->top_k < 0)
        return err_set(err, ERR_INVAL, "top_k of %d: 0, for all, or more", p->top_k);
    if (!(p->top_p > 0 && p->top_p <= 1))
        return err_set(err, ERR_INVAL, "top_p of %g: above 0, at most 1", (double)p->top_p);
    if (!(p->min_p >= 0 && p->min_p <= 1))
        return err_set(err, ERR_INVAL, "min_p of %g: 0 to 1 are possible", (double)p->min_p);
    return 0;
}

/* More probable first; ties by the lower id. */
static bool before(const struct candidate *a, const struct candidate *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->token < b->token);
}

static void swap(struct candidate *a, struct candidate *b)
{
    const struct candidate t = *a;
    *a = *b;
    *b = t;
}

/* Move the k best of n to the front, in any order: quickselect, middle of three as pivot. */
static void select_best(struct candidate *list, int32_t n, int32_t k)
{
    int32_t lo = 0, hi = n - 1;
    while (lo < hi) {
        const int32_t mid = lo + (hi - lo) / 2;
        if (before(&list[mid], &list[lo]))
            swap(&list[mid], &list[lo]);
        if (before(&list[hi], &list[lo]))
            swap(&list[hi], &list[lo]);
        if (before(&list[hi], &list[mid]))
            swap(&list[hi], &list[mid]);
        const struct candidate pivot = list[mid];
        int32_t i = lo, j = hi;
        while (i <= j) {
            while (before(&list[i], &pivot))
                i++;
            while (before(&pivot, &list[j]))
                j--;
            if (i <= j)
                swap(&list[i++], &list[j--]);
        }
        if (k - 1 <= j)
            hi = j;
        else if (k - 1 >= i)
            lo = i;
        else
            return;
    }
}

/* Larger logits have smaller keys. -0 and 0 are equal. */
static uint32_t key_of(float logit)
{
    uint32_t bits;
    logit += 0.0f;
    memcpy(&bits, &logit, sizeof bits);
    return bits >> 31 ? bits : ~(bits | 0x80000000u);
}

/* One stable pass of the radix sort, over the digit that begins at bit `shift` of the token or of the logit's key. */
static void sort_pass(struct sampler *s, int32_t n, bool by_token, int shift)
{
    enum { DIGITS = 1 << DIGIT_BITS };
    int32_t start[DIGITS] = {0};
    for (int32_t i = 0; i < n; i++) {
        const uint32_t key = by_token ? (uint32_t)s->list[i].token : key_of(s->list[i].logit);
        start[key >> shift & (DIGITS - 1)]++;
    }
    for (int32_t d = 0, at = 0; d < DIGITS; d++) {
        const int32_t here = start[d];
        start[d] = at;
        at += here;
    }
    for (int32_t i = 0; i < n; i++) {
        const uint32_t key = by_token ? (uint32_t)s->list[i].token : key_of(s->list[i].logit);
        s->spare[start[key >> shift & (DIGITS - 1)]++] = s->list[i];
    }
    struct candidate *other = s->list;
    s->list = s->spare;
    s->spare = other;
}

/*
 * The order of `before`. A radix sort: libc's qsort takes memory for lists of this length, and compares through a pointer. gather leaves the tokens in
 * rising order, which stable passes over the logits keep.
 */
static void sort_list(struct sampler *s, int32_t n, bool tokens_rise)
{
    for (int shift = 0; !tokens_rise && (s->n_vocab - 1) >> shift > 0; shift += DIGIT_BITS)
        sort_pass(s, n, true, shift);
    for (int shift = 0; shift < 32; shift += DIGIT_BITS)
        sort_pass(s, n, false, shift);
}

/* The allowed tokens with numbers for logits; the index of the best, or -1. */
static int32_t gather(struct sampler *s, const float *logits, const uint32_t *mask, int32_t *ret_n)
{
    int32_t n = 0, best = -1;
    for (int32_t t = 0; t < s->n_vocab; t++) {
        if (mask && !mask[t / 32]) {
            t |= 31;
            continue;
        }
        if ((mask && !(mask[t / 32] >> t % 32 & 1)) || isnan(logits[t]))
            continue;
        s->list[n] = (struct candidate){logits[t], t};
        if (best < 0 || before(&s->list[n], &s->list[best]))
            best = n;
        n++;
    }
    *ret_n = n;
    return best;
}

/* Of the n in the list, best first. */
static int32_t draw(struct sampler *s, const struct en_sampling *p, uint64_t counter, int32_t n)
{
    const double top = (double)s->list[0].logit;
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += s->weight[i] = exp(((double)s->list[i].logit - top) / (double)p->temperature);
    if (p->top_p < 1) {
        double reached = 0;
        int32_t keep = 0;
        while (keep < n && reached < (double)p->top_p * sum)
            reached += s->weight[keep++];
        n = keep > 0 ? keep : 1;
    }
    if (p->min_p > 0)
        while (n > 1 && s->weight[n - 1] < (double)p->min_p) /* the best weighs 1 */
            n--;
    sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += s->weight[i];
    double at = (double)(rng_at(p->seed, counter) >> 11) * 0x1p-53 * sum;
    int32_t i = 0;
    while (i + 1 < n && at >= s->weight[i])
        at -= s->weight[i++];
    return s->list[i].token;
}

static int nothing_to_draw(struct err *err)
{
    return err_set(err, ERR_INVAL, "no token that may come next has a number for a logit");
}

int sampler_pick(struct sampler *s, const struct en_sampling *p, uint64_t counter, const float *logits, const uint32_t *mask,
                 int32_t *ret_token, struct err *err)
{
    int32_t n;
    const int32_t best = gather(s, logits, mask, &n);
    if (best < 0)
        return nothing_to_draw(err);
    if (p->temperature == 0 || n == 1 || isinf(s->list[best].logit)) {
        *ret_token = s->list[best].token;
        return 0;
    }
    const bool is_cut = p->top_k > 0 && p->top_k < n;
    if (is_cut) {
        select_best(s->list, n, p->top_k);
        n = p->top_k;
    }
    /* top_p wants order, and so does a draw that is to be the same on every machine */
    sort_list(s, n, !is_cut);
    *ret_token = draw(s, p, counter, n);
    return 0;
}

int sampler_pick_top(struct sampler *s, const struct en_sampling *p, uint64_t counter, const struct kn_top *top, int32_t n,
                     int32_t *ret_token, struct err *err)
{
    if (n == 0)
        return nothing_to_draw(err);
    if (p->top_k > 0 && p->top_k < n)
        n = p->top_k;
    *ret_token = top[0].index;
    if (p->temperature == 0 || n == 1 || isinf(top[0].x))
        return 0;
    for (int32_t i = 0; i < n; i++)
        s->list[i] = (struct candidate){top[i].x, top[i].index};
    *ret_token = draw(s, p, counter, n);
    return 0;
}

bool sampler_is_enough(const struct en_sampling *p, int32_t n)
{
    return p->temperature == 0 || (p->top_k > 0 && p->top_k <= n);
}
