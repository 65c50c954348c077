/*
 * rule - the gated delta rule of whole sequences, there and back, for the training of the shipped model on a CPU: the recurrence as it stands, for its state
 * fits the first cache (Yang, Kautz, Hatamizadeh: Gated Delta Networks, 2025, equation 10).
 *
 * Arrays are contiguous [B, T, H, D], float or all of them bfloat16, D = 64; g and beta are float [B, T, H]. q and k are brought to length 1 here, x / sqrt(x . x + 1e-6), and q is divided
 * by sqrt(D). For each sequence and head the state S [D, D] starts at zero, and for each token
 *
 *   a = exp(g)   r = a S^T k   d = beta (v - r)   S <- a S + k d^T   o = S^T q
 *
 * The way back goes through the tokens from the last, with W the gradient of S and S_ the state before the token:
 *
 *   W <- W + q go^T          gq = (a S_ + k d^T) go   gd = W^T k
 *   gv = beta gd             gbeta = gd . (v - r)     gr = -beta gd
 *   gk = W d + a S_ gr       gg = a S_ . (W + k gr^T) W <- a (W + k gr^T)
 *
 * and of a vector y = r x that was brought to length 1 the gradient is gx = r (gy - y (y . gy)).
 *
 * No part of the program: rule.py compiles it for the machine at hand and compares it with the official function. Threads: one per sequence and head (OpenMP).
 */
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define D       64
#define N_LANES 16
#define N_PARTS (D / N_LANES)
#define SEGMENT 16   /* tokens whose states are kept at a time on the way back */
#define LONGEST 1024 /* tokens of a sequence */
#define EPSILON 1e-6F

typedef float vec __attribute__((vector_size(4 * N_LANES)));
typedef int lanes __attribute__((vector_size(4 * N_LANES)));
typedef uint32_t words __attribute__((vector_size(4 * N_LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * N_LANES)));

struct state {
    vec row[D][N_PARTS];
};

struct inputs {
    const void *q, *k, *v; /* float, or bfloat16 */
    const float *g, *beta;
    bool is_half;
};

struct token { /* of one head */
    _Alignas(64) float q[D], k[D], v[D];
    float a, beta, q_times, k_times; /* what q and k were multiplied by to have length 1 */
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

/* One token: from the state before it to the one after it, which may lie in the same place. */
static void step(const struct state *old, struct state *s, const struct token *x, struct middle *m, vec o[N_PARTS])
{
    vec even[N_PARTS] = {0}, odd[N_PARTS] = {0};
    for (int i = 0; i < D; i += 2)
        for (int p = 0; p < N_PARTS; p++) {
            even[p] += x->k[i] * old->row[i][p];
            odd[p] += x->k[i + 1] * old->row[i + 1][p];
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
            const vec a = x->a * old->row[i][p] + x->k[i] * m->d[p], b = x->a * old->row[i + 1][p] + x->k[i + 1] * m->d[p];
            s->row[i][p] = a;
            s->row[i + 1][p] = b;
            even[p] += x->q[i] * a;
            odd[p] += x->q[i + 1] * b;
        }
    for (int p = 0; p < N_PARTS; p++)
        o[p] = even[p] + odd[p];
}

/* One token of the way back. old: the state before it; w: the gradient of the state, after it and then before it; o: the gradient of its o; gd: of its v. */
static void step_back(const struct state *old, struct state *w, const struct token *x, const struct middle *m,
                      const vec o[N_PARTS], vec gq[N_PARTS], vec gk[N_PARTS], vec gd[N_PARTS], float *gg, float *gbeta)
{
    vec d[N_PARTS], gr[N_PARTS], row[N_LANES], other[N_LANES];
    vec of_beta = {0}, of_g = {0}, of_d = {0};
    memcpy(d, m->d, sizeof d);
    memset(gd, 0, N_PARTS * sizeof *gd);
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
        gq[block] = x->a * sums(row) + k * go_d;
        gk[block] = sums(other);
    }
    for (int p = 0; p < N_PARTS; p++) {
        vec v;
        memcpy(&v, x->v + p * N_LANES, sizeof v);
        of_beta += gd[p] * (v - m->r[p]);
        gd[p] *= x->beta; /* gv */
        gr[p] = -gd[p];
    }
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
        gk[block] += x->a * sums(row);
    }
    *gbeta = sum(of_beta);
    *gg = x->a * sum(of_g);
}

/* Where token i of the n-th pair of sequence and head stands in an array [B, T, H]. */
static size_t place_of(int n, int i, int t, int h)
{
    return ((size_t)(n / h) * (size_t)t + (size_t)i) * (size_t)h + (size_t)(n % h);
}

/* Rows of D numbers, float or bfloat16. */
static void load_row(const void *x, size_t at, bool is_half, float out[D])
{
    if (!is_half) {
        memcpy(out, (const float *)x + at * D, D * sizeof *out);
        return;
    }
    for (int p = 0; p < N_PARTS; p++) {
        halves half;
        memcpy(&half, (const uint16_t *)x + at * D + p * N_LANES, sizeof half);
        const words whole = __builtin_convertvector(half, words) << 16;
        memcpy(out + p * N_LANES, &whole, sizeof whole);
    }
}

static void store_row(void *x, size_t at, bool is_half, const vec row[N_PARTS])
{
    if (!is_half) {
        memcpy((float *)x + at * D, row, D * sizeof(float));
        return;
    }
    for (int p = 0; p < N_PARTS; p++) {
        words whole;
        memcpy(&whole, &row[p], sizeof whole);
        whole = (whole + 0x7fff + (whole >> 16 & 1)) >> 16; /* to nearest, ties to even */
        const halves half = __builtin_convertvector(whole, halves);
        memcpy((uint16_t *)x + at * D + p * N_LANES, &half, sizeof half);
    }
}

static float dot(const float *a, const float *b)
{
    float s = 0;
    for (int i = 0; i < D; i++)
        s += a[i] * b[i];
    return s;
}

/* To length 1, and that times `scale`; returns by what the vector was multiplied for the former. */
static float bring_to_length(float x[D], float scale)
{
    const float times = 1 / sqrtf(dot(x, x) + EPSILON);
    for (int i = 0; i < D; i++)
        x[i] *= times * scale;
    return times;
}

/* g: the gradient of y = scale times x brought to length 1; afterwards that of x. */
static void bring_back(vec g[N_PARTS], const float y[D], float times, float scale)
{
    float flat[D];
    memcpy(flat, g, sizeof flat);
    const float along = dot(flat, y) / scale;
    for (int i = 0; i < D; i++)
        flat[i] = times * (scale * flat[i] - y[i] * along);
    memcpy(g, flat, sizeof flat);
}

static const float q_scale = 0.125F; /* 1 / sqrt(D) */

static void token_load(const struct inputs *in, size_t at, struct token *x)
{
    load_row(in->q, at, in->is_half, x->q);
    load_row(in->k, at, in->is_half, x->k);
    load_row(in->v, at, in->is_half, x->v);
    x->q_times = bring_to_length(x->q, q_scale);
    x->k_times = bring_to_length(x->k, 1);
    x->a = expf(in->g[at]);
    x->beta = in->beta[at];
}

void rule_forward(const void *q, const void *k, const void *v, const float *g, const float *beta, void *o, int b, int t, int h,
                  int is_half)
{
    const struct inputs in = {q, k, v, g, beta, is_half};
#pragma omp parallel for schedule(dynamic)
    for (int n = 0; n < b * h; n++) {
        struct state s = {0};
        for (int i = 0; i < t; i++) {
            const size_t at = place_of(n, i, t, h);
            struct token x;
            struct middle m;
            vec out[N_PARTS];
            token_load(&in, at, &x);
            step(&s, &s, &x, &m, out);
            store_row(o, at, in.is_half, out);
        }
    }
}

/* Gradients of rule_forward's inputs from that of its output: the states are worked out again, those of one segment at a time are kept. */
void rule_backward(const void *q, const void *k, const void *v, const float *g, const float *beta, const void *go, void *gq,
                   void *gk, void *gv, float *gg, float *gbeta, int b, int t, int h, int is_half)
{
    const struct inputs in = {q, k, v, g, beta, is_half};
#pragma omp parallel for schedule(dynamic)
    for (int n = 0; n < b * h; n++) {
        static _Thread_local struct state starts[LONGEST / SEGMENT], before[SEGMENT + 1]; /* of segments; of one's tokens */
        static _Thread_local struct token tokens[SEGMENT];
        struct state s = {0}, w = {0};
        struct middle m[SEGMENT];
        vec out[N_PARTS];
        for (int i = 0; i < t; i++) {
            if (i % SEGMENT == 0)
                starts[i / SEGMENT] = s;
            token_load(&in, place_of(n, i, t, h), &tokens[0]);
            step(&s, &s, &tokens[0], &m[0], out);
        }
        for (int first = (t - 1) / SEGMENT * SEGMENT; first >= 0; first -= SEGMENT) {
            const int n_tokens = first + SEGMENT < t ? SEGMENT : t - first;
            before[0] = starts[first / SEGMENT];
            for (int i = 0; i < n_tokens; i++) {
                token_load(&in, place_of(n, first + i, t, h), &tokens[i]);
                step(&before[i], &before[i + 1], &tokens[i], &m[i], out);
            }
            for (int i = n_tokens - 1; i >= 0; i--) {
                const size_t at = place_of(n, first + i, t, h);
                const struct token *x = &tokens[i];
                vec of_o[N_PARTS], of_q[N_PARTS], of_k[N_PARTS], of_v[N_PARTS];
                float row[D];
                load_row(go, at, in.is_half, row);
                memcpy(of_o, row, sizeof of_o);
                step_back(&before[i], &w, x, &m[i], of_o, of_q, of_k, of_v, gg + at, gbeta + at);
                bring_back(of_q, x->q, x->q_times, q_scale);
                bring_back(of_k, x->k, x->k_times, 1);
                store_row(gq, at, in.is_half, of_q);
                store_row(gk, at, in.is_half, of_k);
                store_row(gv, at, in.is_half, of_v);
            }
        }
    }
}
