/*
 * top_k - the largest of a row of logits, on the CPU device.
 *
 * A row is one item: it is read once, 32 values at a time, and what is above the k-th largest so far, which soon is next to nothing, is put into its place in a short list.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

struct job {
    struct cpu_stream *s;
    const struct kn_top_k_args *a;
};

/* Into the list of *n <= k, behind all that are as large: those came first. What falls out at its end is gone. */
static void put(struct kn_top *list, int32_t *n, int32_t k, float x, int32_t index)
{
    int32_t at = *n;
    while (at > 0 && x > list[at - 1].x)
        at--;
    if (at == k)
        return;
    const int32_t behind = (*n < k ? (*n)++ : k - 1) - at;
    memmove(list + at + 1, list + at, (size_t)behind * sizeof *list);
    list[at] = (struct kn_top){x, index};
}

static void top_row(void *ctx, int32_t t, int thread)
{
    const struct job *j = ctx;
    const struct kn_top_k_args *a = j->a;
    const int32_t N = a->x.cols, n_words = (N + 31) / 32, k = a->k;
    const float *x = a->x.data + t * a->x.stride;
    const uint32_t *mask = a->mask ? a->mask + (int64_t)t * n_words : NULL;
    struct kn_top *list = a->y + (int64_t)t * k;
    int32_t n = 0;
    for (int32_t w = 0; w < n_words; w++) {
        /* a last word that is not whole is looked at value by value */
        if (n == k && w < N / 32 && (w = j->s->vec->next_above(x, mask, w, N / 32, list[k - 1].x)) == n_words)
            break;
        uint32_t bits = mask ? mask[w] : UINT32_MAX;
        if (N - 32 * w < 32)
            bits &= (1u << (N - 32 * w)) - 1;
        for (; bits; bits &= bits - 1) {
            const int32_t i = 32 * w + __builtin_ctz(bits);
            if (!isnan(x[i]))
                put(list, &n, k, x[i], i);
        }
    }
    while (n < k)
        list[n++] = (struct kn_top){-INFINITY, -1};
}

void cpu_top_k(struct kn_stream *stream, const struct kn_top_k_args *a)
{
    struct job j = {cpu_stream_of(stream), a};
    pool_run(j.s->pool, a->x.rows, top_row, &j);
}
