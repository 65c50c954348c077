/*
 * gdn - Gated DeltaNet on the CPU device: gdn_conv and gdn_scan.
 *
 * gdn_scan in chunks of KN_GDN_CHUNK tokens at absolute borders (kernels.h, struct kn_gdn_state). With S the state
 * at the last border, c the cumulative log decay since then, and tokens i, j of the open chunk:
 *   V'_i = beta_i (v_i - e^{c_i} S^T k_i) - sum_{j < i} beta_i (k_i . k_j) e^{c_i - c_j} V'_j
 *   o_i  = e^{c_i} S^T q_i + sum_{j <= i} (q_i . k_j) e^{c_i - c_j} V'_j
 * and at the border S <- e^{c_last} S + sum_j e^{c_last - c_j} k_j V'_j^T. Every sum runs over its index in order in one chain per
 * output, so a token costs the same operations whether it comes alone or in a tile of tokens.
 *
 * A slot: [n_k][CHUNK][d_k] keys, then per value head S [d_k][d_v], V' [CHUNK][d_v], c [CHUNK].
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#define CHUNK     KN_GDN_CHUNK
#define TILE      16 /* tokens that share a walk over S */
#define CONV_ROWS 32 /* normalised while they are still near */

/* ---- gdn_conv -------------------------------------------------------------------------------------------------------------- */

struct conv {
    struct cpu_stream *s;
    const struct kn_gdn_conv_args *a;
};

/* One sequence and one head (q, k or v) of channels. */
static void conv_item(void *ctx, int32_t item, int thread)
{
    const struct conv *j = ctx;
    const struct kn_gdn_conv_args *a = j->a;
    const struct vec_kernels *vec = j->s->vec;
    const int32_t blocks = 2 * a->n_k + a->n_v, b = item % blocks;
    const struct kn_seq *seq = &a->step->seqs[item / blocks];
    const int64_t C = 2 * (int64_t)a->n_k * a->d_k + (int64_t)a->n_v * a->d_v;
    const bool is_v = b >= 2 * a->n_k;
    const int64_t first = is_v ? 2 * (int64_t)a->n_k * a->d_k + (int64_t)(b - 2 * a->n_k) * a->d_v : (int64_t)b * a->d_k;
    const int32_t n = is_v ? a->d_v : a->d_k;
    float *y = a->y.data + seq->row0 * a->y.stride + first;
    const float *x = a->x.data + seq->row0 * a->x.stride + first;
    const float f = b < a->n_k ? 1.0f / sqrtf((float)a->d_k) : 1.0f;
    for (int32_t t = 0; t < seq->n_rows; t += CONV_ROWS) {
        const int32_t rows = seq->n_rows - t < CONV_ROWS ? seq->n_rows - t : CONV_ROWS;
        float *to = y + t * a->y.stride;
        vec->conv(x + t * a->x.stride, a->x.stride, rows, n, a->w + first * a->taps, a->taps,
                  a->state + (int64_t)seq->slot * (a->taps - 1) * C + first, C, to, a->y.stride);
        for (int32_t i = 0; !is_v && i < rows; i++)
            vec->l2_norm(to + i * a->y.stride, f, 1e-6f, n);
    }
}

void cpu_gdn_conv(struct kn_stream *stream, const struct kn_gdn_conv_args *a)
{
    struct conv j = {cpu_stream_of(stream), a};
    pool_run(j.s->pool, a->step->n_seqs * (2 * a->n_k + a->n_v), conv_item, &j);
}

/* ---- gdn_scan ------------------------------------------------------------------------------------------------------------ */

struct scan {
    struct cpu_stream *s;
    const struct kn_gdn_scan_args *a;
    int32_t round; /* which of its chunks every sequence is in */
};

/* A sequence's tokens of one round: places i0 .. i1 - 1 of a chunk, the first being row `row`. */
struct span {
    const struct kn_seq *seq;
    int32_t i0, i1, row;
};

static struct span find_span(const struct scan *j, int32_t i_seq)
{
    const struct kn_seq *seq = &j->a->step->seqs[i_seq];
    int64_t chunk = seq->past / CHUNK + j->round, end = (int64_t)seq->past + seq->n_rows;
    int64_t from = j->round ? chunk * CHUNK : seq->past, to = (chunk + 1) * CHUNK;
    to = to < end ? to : end;
    if (from >= to)
        return (struct span){seq, 0, 0, 0};
    return (struct span){seq, (int32_t)(from - chunk * CHUNK), (int32_t)(to - chunk * CHUNK),
                         seq->row0 + (int32_t)(from - seq->past)};
}

static float *slot_keys(const struct kn_gdn_scan_args *a, const struct kn_seq *seq, int32_t key_head)
{
    float *slot = (float *)((uint8_t *)a->state->data + (size_t)seq->slot * a->state->bytes_per_slot);
    return slot + (int64_t)key_head * CHUNK * a->d_k;
}

static float *slot_head(const struct kn_gdn_scan_args *a, const struct kn_seq *seq, int32_t head)
{
    int64_t per_head = (int64_t)a->d_k * a->d_v + (int64_t)CHUNK * a->d_v + CHUNK;
    return slot_keys(a, seq, a->n_k) + head * per_head;
}

/* The keys of the round go into the slot first: all value heads of a key head read them. */
static void keys_item(void *ctx, int32_t item, int thread)
{
    const struct scan *j = ctx;
    const struct kn_gdn_scan_args *a = j->a;
    const int32_t kk = item % a->n_k;
    struct span p = find_span(j, item / a->n_k);
    if (p.i0 == p.i1)
        return;
    float *keys = slot_keys(a, p.seq, kk);
    for (int32_t i = p.i0; i < p.i1; i++)
        memcpy(keys + (int64_t)i * a->d_k, a->qkv.data + (p.row + i - p.i0) * a->qkv.stride + (int64_t)(a->n_k + kk) * a->d_k,
               sizeof(float) * (size_t)a->d_k);
}

/* Floats of a head's scratch; see head_item. */
size_t cpu_gdn_floats(int32_t d_k, int32_t d_v)
{
    size_t tile = (size_t)2 * TILE * (size_t)d_k + (size_t)2 * TILE * (size_t)d_v + (size_t)2 * TILE * CHUNK + 2 * CHUNK;
    size_t border = (size_t)CHUNK * (size_t)d_v + CHUNK;
    return (tile > border ? tile : border) + 64;
}

static void dots(const struct vec_kernels *vec, const float *x, int64_t ldx, int32_t n, const float *keys, int32_t n_keys,
                 int32_t d, float *to)
{
    if (d % 16 == 0) {
        vec->scores(x, ldx, n, keys, d, n_keys, d, 1.0f, to, CHUNK);
        return;
    }
    for (int32_t i = 0; i < n; i++)
        for (int32_t k = 0; k < n_keys; k++)
            to[i * CHUNK + k] = vec->dot(x + i * ldx, keys + (int64_t)k * d, d);
}

/* Tokens i0 .. i1 - 1 (at most TILE) of a chunk, one value head. */
static void scan_tile(const struct scan *j, float *tmp, const struct span *p, int32_t i0, int32_t i1, int32_t head)
{
    const struct kn_gdn_scan_args *a = j->a;
    const struct vec_kernels *vec = j->s->vec;
    const int32_t d_k = a->d_k, d_v = a->d_v, kk = head % a->n_k, n = i1 - i0;
    const float *keys = slot_keys(a, p->seq, kk);
    float *S = slot_head(a, p->seq, head), *V = S + (int64_t)d_k * d_v, *c = V + (int64_t)CHUNK * d_v;
    float *kq = tmp;                          /* [2 n][d_k]: keys, then queries */
    float *sx = kq + (size_t)2 * TILE * d_k;  /* [2 n][d_v]: S^T of them */
    float *ka = sx + (size_t)2 * TILE * d_v;  /* [n][CHUNK]: k_i . k_j, then the factor of V'_j in V'_i */
    float *qa = ka + (size_t)TILE * CHUNK;    /* [n][CHUNK]: the same for o_i */
    float *decay = qa + (size_t)TILE * CHUNK; /* [CHUNK] */
    const int32_t row0 = p->row + i0 - p->i0;

    for (int32_t i = 0; i < n; i++) {
        const float *from = a->qkv.data + (row0 + i) * a->qkv.stride + (int64_t)kk * d_k;
        memcpy(kq + (int64_t)i * d_k, keys + (int64_t)(i0 + i) * d_k, sizeof(float) * (size_t)d_k);
        memcpy(kq + (int64_t)(n + i) * d_k, from, sizeof(float) * (size_t)d_k);
    }
    memset(sx, 0, sizeof(float) * (size_t)(2 * n) * (size_t)d_v);
    vec->mac(kq, d_k, 2 * n, d_k, S, d_v, d_v, sx, d_v);
    dots(vec, kq, d_k, n, keys, i1, d_k, ka);
    dots(vec, kq + (int64_t)n * d_k, d_k, n, keys, i1, d_k, qa);

    for (int32_t i = 0; i < n; i++) {
        const int64_t row = row0 + i;
        const int32_t at = i0 + i;
        const float u = a->alpha.data[row * a->alpha.stride + head] + a->dt[head];
        const float g = a->a[head] * (u > 20.0f ? u : log1pf(expf(u)));
        const float beta = 1.0f / (1.0f + expf(-a->b.data[row * a->b.stride + head]));
        c[at] = (at ? c[at - 1] : 0.0f) + g;
        vec->exp_diff(c[at], c, at + 1, decay);
        vec->scale_by(ka + i * CHUNK, -beta, decay, at);
        vec->scale_by(qa + i * CHUNK, 1.0f, decay, at + 1);
        const float ec = expf(c[at]);
        const float *v = a->qkv.data + row * a->qkv.stride + 2 * (int64_t)a->n_k * d_k + (int64_t)head * d_v;
        float *to = V + (int64_t)at * d_v, *y = a->y.data + row * a->y.stride + (int64_t)head * d_v;
        vec->finish(v, d_v, beta, NULL, KN_ACT_NONE, false, to);
        vec->axpy(-beta * ec, sx + (int64_t)i * d_v, d_v, to);
        vec->finish(sx + (int64_t)(n + i) * d_v, d_v, ec, NULL, KN_ACT_NONE, false, y);
    }
    float *y = a->y.data + row0 * a->y.stride + (int64_t)head * d_v;
    vec->mac(ka, CHUNK, n, i0, V, d_v, d_v, V + (int64_t)i0 * d_v, d_v);
    for (int32_t i = 1; i < n; i++)
        vec->mac(ka + i * CHUNK + i0, CHUNK, 1, i, V + (int64_t)i0 * d_v, d_v, d_v, V + (int64_t)(i0 + i) * d_v, d_v);
    vec->mac(qa, CHUNK, n, i0, V, d_v, d_v, y, a->y.stride);
    for (int32_t i = 0; i < n; i++)
        vec->mac(qa + i * CHUNK + i0, CHUNK, 1, i + 1, V + (int64_t)i0 * d_v, d_v, d_v, y + i * a->y.stride, a->y.stride);
}

/* The chunk is full: S takes it in. */
static void scan_border(const struct scan *j, float *tmp, const struct kn_seq *seq, int32_t head)
{
    const struct kn_gdn_scan_args *a = j->a;
    const struct vec_kernels *vec = j->s->vec;
    const int32_t d_k = a->d_k, d_v = a->d_v;
    const float *keys = slot_keys(a, seq, head % a->n_k);
    float *S = slot_head(a, seq, head), *V = S + (int64_t)d_k * d_v, *c = V + (int64_t)CHUNK * d_v;
    float *w = tmp, *wv = tmp + CHUNK; /* wv [CHUNK][d_v]: V' with its weight */
    vec->exp_diff(c[CHUNK - 1], c, CHUNK, w);
    for (int32_t i = 0; i < CHUNK; i++)
        vec->finish(V + (int64_t)i * d_v, d_v, w[i], NULL, KN_ACT_NONE, false, wv + (int64_t)i * d_v);
    vec->scale(S, expf(c[CHUNK - 1]), d_k * d_v);
    vec->mac_across(keys, d_k, d_k, CHUNK, wv, d_v, d_v, S, d_v);
}

static void head_item(void *ctx, int32_t item, int thread)
{
    const struct scan *j = ctx;
    const int32_t head = item % j->a->n_v;
    struct span p = find_span(j, item / j->a->n_v);
    float *tmp = j->s->scratch[thread].tmp;
    for (int32_t i = p.i0; i < p.i1; i += TILE)
        scan_tile(j, tmp, &p, i, p.i1 - i < TILE ? p.i1 : i + TILE, head);
    if (p.i1 == CHUNK)
        scan_border(j, tmp, p.seq, head);
}

void cpu_gdn_scan(struct kn_stream *stream, const struct kn_gdn_scan_args *a)
{
    struct scan j = {.s = cpu_stream_of(stream), .a = a};
    int32_t rounds = 0;
    if (cpu_gdn_floats(a->d_k, a->d_v) > j.s->tmp_floats) {
        cpu_too_large(stream, "gdn_scan");
        return;
    }
    for (int32_t i = 0; i < a->step->n_seqs; i++) {
        const struct kn_seq *seq = &a->step->seqs[i];
        int64_t n = seq->n_rows ? ((int64_t)seq->past + seq->n_rows - 1) / CHUNK - seq->past / CHUNK + 1 : 0;
        rounds = n > rounds ? (int32_t)n : rounds;
    }
    for (; j.round < rounds; j.round++) {
        pool_run(j.s->pool, a->step->n_seqs * a->n_k, keys_item, &j);
        pool_run(j.s->pool, a->step->n_seqs * a->n_v, head_item, &j);
    }
    if (a->z.data)
        cpu_gated_rms_norm(stream, &(struct kn_gated_rms_norm_args){
                                       .x = a->y, .z = a->z, .w = a->norm, .n_heads = a->n_v, .eps = a->eps, .y = a->y});
}
