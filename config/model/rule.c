/*
 * rule - the gated delta rule of whole sequences, there and back, for the training of the shipped model on a CPU: the recurrence as it stands, for its state
 * fits the first cache (Yang, Kautz, Hatamizadeh: Gated Delta Networks, 2025, equation 10).
 *
 * Arrays are contiguous float [B, T, H, D], g and beta [B, T, H], D = 64; q has its scale, q and k their norm. For each sequence and head the state S [D, D]
 * starts at zero, and for each token
 *
 *   a = exp(g)   r = a S^T k   d = beta (v - r)   S <- a S + k d^T   o = S^T q
 *
 * The way back goes through the tokens from the last, with W the gradient of S and S_ the state before the token:
 *
 *   W <- W + q go^T          gq = (a S_ + k d^T) go   gd = W^T k
 *   gv = beta gd             gbeta = gd . (v - r)     gr = -beta gd
 *   gk = W d + a S_ gr       gg = a S_ . (W + k gr^T) W <- a (W + k gr^T)
 *
 * No part of the program: rule.py compiles it for the machine at hand and compares it with the official function. Threads: one per sequence and head (OpenMP).
 */
#include <math.h>
#include <stddef.h>
#include <string.h>

#define D       64
#define N_LANES 16
#define N_PARTS (D / N_LANES)
#define SEGMENT 16   /* tokens whose states are kept at a time on the way back */
#define LONGEST 1024 /* tokens of a sequence */

typedef float vec __attribute__((vector_size(4 * N_LANES)));
typedef int lanes __attribute__((vector_size(4 * N_LANES)));

struct state {
    vec row[D][N_PARTS];
};

struct inputs {
    const float *q, *k, *v, *g, *beta;
};

struct token { /* of one head */
    const float *q, *k, *v;
    float a, beta;
};

struct middle { /* what the way back needs of a step */
    vec r[N_PARTS], d[N_PARTS];
};

static float sum(vec v)
{
    float s = 0;
    for (int i = 0; i < N_LANES; i++)
        s += v[i];
    return s;
}

/* Where a row's partial sums are put so that `sums` gives the rows in order: the bits of its number turned round. */
static const int place[N_LANES] = {0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15};

/* The sums of 16 vectors, x[place[i]] that of lane i: halves are added pair by pair. x is used up. */
static inline vec sums(vec x[N_LANES])
{
    static const lanes low[4] = {{0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23},
                                 {0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27},
                                 {0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29},
                                 {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30}};
#pragma GCC unroll 4
    for (int level = 0; level < 4; level++) {
        const int n = N_LANES >> (level + 1);
        const lanes high = low[level] + n;
#pragma GCC unroll 8
        for (int i = 0; i < n; i++)
            x[i] = __builtin_shuffle(x[i], x[i + n], low[level]) + __builtin_shuffle(x[i], x[i + n], high);
    }
    return x[0];
}

static void step(struct state *s, const struct token *x, struct middle *m, vec o[N_PARTS])
{
    vec even[N_PARTS] = {0}, odd[N_PARTS] = {0};
    for (int i = 0; i < D; i += 2)
        for (int p = 0; p < N_PARTS; p++) {
            even[p] += x->k[i] * s->row[i][p];
            odd[p] += x->k[i + 1] * s->row[i + 1][p];
        }
    for (int p = 0; p < N_PARTS; p++) {
        vec v;
        memcpy(&v, x->v + p * N_LANES, sizeof v);
        m->r[p] = x->a * (even[p] + odd[p]);
        m->d[p] = x->beta * (v - m->r[p]);
        even[p] = odd[p] = (vec){0};
    }
    for (int i = 0; i < D; i += 2)
        for (int p = 0; p < N_PARTS; p++) {
            s->row[i][p] = x->a * s->row[i][p] + x->k[i] * m->d[p];
            s->row[i + 1][p] = x->a * s->row[i + 1][p] + x->k[i + 1] * m->d[p];
            even[p] += x->q[i] * s->row[i][p];
            odd[p] += x->q[i + 1] * s->row[i + 1][p];
        }
    for (int p = 0; p < N_PARTS; p++)
        o[p] = even[p] + odd[p];
}

/* One token of the way back. old: the state before it; w: the gradient of the state, after it and then before it; go: the gradient of its o. */
static void step_back(const struct state *old, struct state *w, const struct token *x, const struct middle *m, const float *go,
                      float *gq, float *gk, float *gv, float *gg, float *gbeta)
{
    vec o[N_PARTS], d[N_PARTS], gd[N_PARTS] = {0}, gr[N_PARTS], gks[N_PARTS], row[N_LANES], other[N_LANES];
    vec of_beta = {0}, of_g = {0}, of_d = {0};
    memcpy(o, go, sizeof o);
    memcpy(d, m->d, sizeof d);
    for (int p = 0; p < N_PARTS; p++)
        of_d += o[p] * d[p];
    const float go_d = sum(of_d);
    for (int block = 0; block < N_PARTS; block++) {
#pragma GCC unroll 16
        for (int l = 0; l < N_LANES; l++) {
            const int i = block * N_LANES + l;
            vec of_q = {0}, of_k = {0};
            for (int p = 0; p < N_PARTS; p++) {
                const vec now = w->row[i][p] + x->q[i] * o[p];
                w->row[i][p] = now;
                of_q += old->row[i][p] * o[p];
                of_k += now * d[p];
                gd[p] += x->k[i] * now;
            }
            row[place[l]] = of_q;
            other[place[l]] = of_k;
        }
        vec k;
        memcpy(&k, x->k + block * N_LANES, sizeof k);
        k = x->a * sums(row) + k * go_d;
        memcpy(gq + block * N_LANES, &k, sizeof k);
        gks[block] = sums(other);
    }
    for (int p = 0; p < N_PARTS; p++) {
        vec v;
        memcpy(&v, x->v + p * N_LANES, sizeof v);
        of_beta += gd[p] * (v - m->r[p]);
        gd[p] *= x->beta;
        gr[p] = -gd[p];
    }
    memcpy(gv, gd, sizeof gd);
    for (int block = 0; block < N_PARTS; block++) {
#pragma GCC unroll 16
        for (int l = 0; l < N_LANES; l++) {
            const int i = block * N_LANES + l;
            vec of_k = {0};
            for (int p = 0; p < N_PARTS; p++) {
                const vec now = w->row[i][p] + x->k[i] * gr[p];
                of_k += old->row[i][p] * gr[p];
                of_g += now * old->row[i][p];
                w->row[i][p] = x->a * now;
            }
            row[place[l]] = of_k;
        }
        gks[block] += x->a * sums(row);
    }
    memcpy(gk, gks, sizeof gks);
    *gbeta = sum(of_beta);
    *gg = x->a * sum(of_g);
}

/* Where token i of the n-th pair of sequence and head stands in an array [B, T, H]. */
static size_t place_of(int n, int i, int t, int h)
{
    return ((size_t)(n / h) * (size_t)t + (size_t)i) * (size_t)h + (size_t)(n % h);
}

static struct token token_of(const struct inputs *in, size_t at)
{
    return (struct token){in->q + at * D, in->k + at * D, in->v + at * D, expf(in->g[at]), in->beta[at]};
}

void rule_forward(const float *q, const float *k, const float *v, const float *g, const float *beta, float *o, int b, int t,
                  int h)
{
    const struct inputs in = {q, k, v, g, beta};
#pragma omp parallel for schedule(dynamic)
    for (int n = 0; n < b * h; n++) {
        struct state s = {0};
        for (int i = 0; i < t; i++) {
            const size_t at = place_of(n, i, t, h);
            const struct token x = token_of(&in, at);
            struct middle m;
            vec out[N_PARTS];
            step(&s, &x, &m, out);
            memcpy(o + at * D, out, sizeof out);
        }
    }
}

/* Gradients of rule_forward's inputs from that of its output: the states are worked out again, those of one segment at a time are kept. */
void rule_backward(const float *q, const float *k, const float *v, const float *g, const float *beta, const float *go,
                   float *gq, float *gk, float *gv, float *gg, float *gbeta, int b, int t, int h)
{
    const struct inputs in = {q, k, v, g, beta};
#pragma omp parallel for schedule(dynamic)
    for (int n = 0; n < b * h; n++) {
        static _Thread_local struct state starts[LONGEST / SEGMENT]; /* of segments */
        struct state before[SEGMENT], s = {0}, w = {0};
        struct middle m[SEGMENT];
        vec out[N_PARTS];
        for (int i = 0; i < t; i++) {
            if (i % SEGMENT == 0)
                starts[i / SEGMENT] = s;
            const struct token x = token_of(&in, place_of(n, i, t, h));
            step(&s, &x, &m[0], out);
        }
        for (int first = (t - 1) / SEGMENT * SEGMENT; first >= 0; first -= SEGMENT) {
            const int n_tokens = first + SEGMENT < t ? SEGMENT : t - first;
            s = starts[first / SEGMENT];
            for (int i = 0; i < n_tokens; i++) {
                const struct token x = token_of(&in, place_of(n, first + i, t, h));
                before[i] = s;
                step(&s, &x, &m[i], out);
            }
            for (int i = n_tokens - 1; i >= 0; i--) {
                const size_t at = place_of(n, first + i, t, h);
                const struct token x = token_of(&in, at);
                step_back(&before[i], &w, &x, &m[i], go + at * D, gq + at * D, gk + at * D, gv + at * D, gg + at, gbeta + at);
            }
        }
    }
}
