/*
 * moe - mixture of experts on the CPU device: routing, and the products of the chosen experts.
 *
 * Rows are sorted by expert first (a counting sort, stable), so that an expert's weights are read once for all its rows.
 */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#define GATHER_ALONE 64 /* rows at most that one thread has gathered before others are awake */

/* ---- routing ---- */

struct route {
    struct cpu_stream *s;
    const struct kn_moe_route_args *a;
    int32_t first;
    _Atomic int32_t bad_row; /* a row whose logits are not numbers, or -1 */
};

/* The largest logit after (value, index) in descending order, ties to the lower index; -1: only NaN are left. */
static int32_t next_best(const float *logits, int32_t n, float value, int32_t index)
{
    int32_t best = -1;
    for (int32_t i = 0; i < n; i++) {
        bool later = index < 0 || logits[i] < value || (logits[i] == value && i > index);
        if (later && (best < 0 ? !isnan(logits[i]) : logits[i] > logits[best]))
            best = i;
    }
    return best;
}

static void route_item(void *ctx, int32_t item, int thread)
{
    struct route *r = ctx;
    const struct kn_moe_route_args *a = r->a;
    const int32_t n = a->w->rows;
    float *p = r->s->logits + (int64_t)item * n;
    int32_t *ids = a->ids + (int64_t)(r->first + item) * a->k;
    float *weights = a->weights.data + (int64_t)(r->first + item) * a->weights.stride;

    float last = 0.0f;
    for (int32_t k = 0, best = -1; k < a->k; k++) {
        best = next_best(p, n, last, best);
        if (best < 0) {
            r->bad_row = r->first + item;
            return;
        }
        ids[k] = best;
        last = p[best];
    }
    float sum = r->s->vec->softmax_exp(p, p[ids[0]], n), chosen = 0.0f;
    for (int32_t k = 0; k < a->k; k++) {
        weights[k] = p[ids[k]] / sum;
        chosen += weights[k];
    }
    for (int32_t k = 0; k < a->k; k++)
        weights[k] /= chosen < 0x1p-14f ? 0x1p-14f : chosen;
    if (!a->shared)
        return;
    const int64_t t = r->first + item;
    a->gates.data[t * a->gates.stride] =
        1.0f / (1.0f + expf(-r->s->vec->dot(a->x.data + t * a->x.stride, a->shared, a->x.cols)));
}

void cpu_moe_route(struct kn_stream *stream, const struct kn_moe_route_args *a)
{
    struct route r = {.s = cpu_stream_of(stream), .a = a, .bad_row = -1};
    for (r.first = 0; r.first < a->x.rows; r.first += r.s->n_tokens_max) {
        int32_t n = a->x.rows - r.first < r.s->n_tokens_max ? a->x.rows - r.first : r.s->n_tokens_max;
        cpu_linear_plain(r.s, &a->x, r.first, n, a->w, r.s->logits, a->w->rows);
        pool_run(r.s->pool, n, route_item, &r);
    }
    if (r.bad_row >= 0)
        kn_stream_fail(stream, "moe_route", ERR_DEVICE, "router logits are not numbers in row %d", r.bad_row);
}

/* ---- sorting ---- */

/* Pairs 0 .. n - 1 (token * k + i) by expert: expert_first, expert_list and those that have any. */
static void sort_by_expert(struct cpu_stream *s, const int32_t *ids, int32_t n, int32_t experts)
{
    s->n_used = 0;
    int32_t *first = s->expert_first;
    for (int32_t e = 0; e <= experts; e++)
        first[e] = 0;
    for (int32_t i = 0; i < n; i++)
        first[ids[i] + 1]++;
    for (int32_t e = 0; e < experts; e++) {
        if (first[e + 1] > 0)
            s->expert_used[s->n_used++] = e;
        first[e + 1] += first[e];
    }
    for (int32_t i = 0; i < n; i++)
        s->expert_list[first[ids[i]]++] = i;
    for (int32_t e = experts; e > 0; e--) /* each moved to its end: that is the next one's start */
        first[e] = first[e - 1];
    first[0] = 0;
}

/*
 * A token's row is wanted by several experts. Matrix kernels want an expert's rows evenly spaced: their integers are copied, once, next to each other. Experts of a few rows take them where
 * they are.
 */
struct gather {
    struct cpu_stream *s;
    int32_t few; /* rows */
    int32_t pairs_per_row, cols;
    unsigned grains;
};

static void gather_expert(void *ctx, int32_t i_used, int thread)
{
    const struct gather *j = ctx;
    struct cpu_stream *s = j->s;
    const int32_t e = s->expert_used[i_used], end = s->expert_first[e + 1];
    const bool is_many = end - s->expert_first[e] > j->few;
    for (int32_t i = s->expert_first[e]; i < end; i++) {
        struct tile_row *row = &s->by_expert[i];
        *row = s->rows[s->expert_list[i] / j->pairs_per_row];
        for (int g = 0; g < 2 && is_many; g++) {
            int8_t *to = s->by_expert_q[g] + i * cpu_act_pitch(j->cols);
            if (j->grains & 1u << g)
                memcpy(to, row->act[g].q, (size_t)j->cols);
            row->act[g].q = to;
        }
    }
}

static void gather_rows(struct gather *j, int32_t n)
{
    if (n > GATHER_ALONE)
        pool_run(j->s->pool, j->s->n_used, gather_expert, j);
    for (int32_t i = 0; i < j->s->n_used && n <= GATHER_ALONE; i++)
        gather_expert(j, i, 0);
}

/* ---- gate and up ---- */

struct gate_up {
    struct cpu_stream *s;
    const struct kn_moe_gate_up_args *a;
    struct pack_shape gate, up;
    int32_t pair0; /* of this chunk */
    int32_t f;     /* outputs */
    int32_t items; /* per expert in use */
    bool merged;   /* gate and up in one weight */
};

static void gate_up_item(void *ctx, int32_t item, int thread)
{
    const struct gate_up *j = ctx;
    struct cpu_stream *s = j->s;
    struct cpu_scratch *scratch = &s->scratch[thread];
    int32_t e = s->expert_used[item / j->items], g = item % j->items * 2;
    int32_t first = s->expert_first[e], end = s->expert_first[e + 1];
    int32_t o = g * PACK_ROWS, n = j->f - o < 32 ? j->f - o : 32;
    int n_groups = n > 16 ? 2 : 1;
    const struct kn_weight *gw = j->a->gate, *uw = j->merged ? j->a->gate : j->a->up;
    for (int32_t r = first; r < end; r += CPU_BLOCK_ROWS) {
        int n_rows = end - r < CPU_BLOCK_ROWS ? end - r : CPU_BLOCK_ROWS;
        for (int i = 0; n_rows > cpu_few_rows(s, gw->dtype) && i < n_rows; i++)
            cpu_expect(j->a->y.data + (int64_t)(j->pair0 + s->expert_list[r + i]) * j->a->y.stride + o, n);
        cpu_product(s, scratch, &j->gate, cpu_slice(gw, &j->gate, e), g, n_groups, s->by_expert + r, n_rows, scratch->acc[0]);
        cpu_product(s, scratch, &j->up, cpu_slice(uw, &j->up, e), g + (j->merged ? j->f / PACK_ROWS : 0), n_groups,
                    s->by_expert + r, n_rows, scratch->acc[1]);
        for (int i = 0; i < n_rows; i++)
            s->vec->silu_mul(scratch->acc[0] + 32 * i, scratch->acc[1] + 32 * i, n, cpu_scale(gw, e), cpu_scale(uw, e),
                             j->a->y.data + (int64_t)(j->pair0 + s->expert_list[r + i]) * j->a->y.stride + o);
    }
}

/* Merged weights whose halves do not start at a group: outputs one at a time would be needed, so gate and up overlap in a group. */
static void gate_up_odd_item(void *ctx, int32_t item, int thread)
{
    const struct gate_up *j = ctx;
    struct cpu_stream *s = j->s;
    struct cpu_scratch *scratch = &s->scratch[thread];
    int32_t e = s->expert_used[item / j->items], o = item % j->items * PACK_ROWS;
    int32_t n = j->f - o < PACK_ROWS ? j->f - o : PACK_ROWS;
    const struct kn_weight *w = j->a->gate;
    const uint8_t *slice = cpu_slice(w, &j->gate, e);
    int32_t up = j->f + o, n_groups = up % PACK_ROWS + n > PACK_ROWS ? 2 : 1;
    for (int32_t r = s->expert_first[e]; r < s->expert_first[e + 1]; r += CPU_BLOCK_ROWS) {
        int32_t left = s->expert_first[e + 1] - r;
        int n_rows = left < CPU_BLOCK_ROWS ? left : CPU_BLOCK_ROWS;
        cpu_product(s, scratch, &j->gate, slice, o / PACK_ROWS, 1, s->by_expert + r, n_rows, scratch->acc[0]);
        cpu_product(s, scratch, &j->gate, slice, up / PACK_ROWS, n_groups, s->by_expert + r, n_rows, scratch->acc[1]);
        for (int i = 0; i < n_rows; i++)
            s->vec->silu_mul(scratch->acc[0] + 32 * i, scratch->acc[1] + 32 * i + up % PACK_ROWS, n, cpu_scale(w, e),
                             cpu_scale(w, e), j->a->y.data + (int64_t)(j->pair0 + s->expert_list[r + i]) * j->a->y.stride + o);
    }
}

/* Tokens per chunk such that their pairs fit the workspace. */
static int32_t chunk_tokens(const struct cpu_stream *s, int32_t tokens, int32_t k, int32_t act_rows_per_token, int32_t cols)
{
    int32_t by_list = s->n_rows_max / k, by_act = cpu_chunk_rows(s, cols, s->n_rows_max) / act_rows_per_token;
    int32_t n = by_list < by_act ? by_list : by_act;
    return tokens < n ? tokens : n; /* 0: beyond the stream's limits */
}

void cpu_moe_gate_up(struct kn_stream *stream, const struct kn_moe_gate_up_args *a)
{
    struct cpu_stream *s = cpu_stream_of(stream);
    struct gate_up j = {.s = s, .a = a, .gate = cpu_shape(a->gate), .merged = !a->up};
    j.up = j.merged ? j.gate : cpu_shape(a->up);
    j.f = j.merged ? a->gate->rows / 2 : a->gate->rows;
    bool odd = j.merged && j.f % PACK_ROWS;
    j.items = odd ? (j.f + PACK_ROWS - 1) / PACK_ROWS : (j.f + 31) / 32;
    const unsigned grains = cpu_grain(a->gate) | cpu_grain(a->up);
    const int32_t few_gate = cpu_few_rows(s, a->gate->dtype), few_up = a->up ? cpu_few_rows(s, a->up->dtype) : few_gate,
                  few = few_gate < few_up ? few_gate : few_up;
    int32_t chunk = chunk_tokens(s, a->x.rows, a->k, 1, a->x.cols);
    if (chunk < 1) {
        cpu_too_large(stream, "moe_gate_up");
        return;
    }
    for (int32_t t = 0; t < a->x.rows; t += chunk) {
        int32_t n = a->x.rows - t < chunk ? a->x.rows - t : chunk;
        j.pair0 = t * a->k;
        cpu_take_rows(s, &a->x, t, n, NULL, grains);
        sort_by_expert(s, a->ids + j.pair0, n * a->k, a->gate->slices);
        gather_rows(&(struct gather){.s = s, .few = few, .pairs_per_row = a->k, .cols = a->x.cols, .grains = grains}, n * a->k);
        pool_run(s->pool, s->n_used * j.items, odd ? gate_up_odd_item : gate_up_item, &j);
    }
    if (a->shared_gate)
        cpu_gate_up(stream, &(struct kn_gate_up_args){.x = a->x, .gate = a->shared_gate, .up = a->shared_up, .y = a->shared_y});
}

/* ---- down ---- */

struct down {
    struct cpu_stream *s;
    const struct kn_moe_down_args *a;
    struct pack_shape shape;
    int32_t token0, n_tokens;
};

/* 32 outputs of all tokens: every expert's product into tmp by pair, then each token's sum in the order of its experts. */
static void down_item(void *ctx, int32_t item, int thread)
{
    const struct down *j = ctx;
    struct cpu_stream *s = j->s;
    const struct kn_moe_down_args *a = j->a;
    struct cpu_scratch *scratch = &s->scratch[thread];
    int32_t g = item * 2, o = g * PACK_ROWS, n = a->down->rows - o < 32 ? a->down->rows - o : 32;
    int n_groups = n > 16 ? 2 : 1;
    float *by_pair = scratch->tmp;
    for (int32_t i_used = 0; i_used < s->n_used; i_used++) {
        const int32_t e = s->expert_used[i_used], end = s->expert_first[e + 1];
        for (int32_t r = s->expert_first[e]; r < end; r += CPU_BLOCK_ROWS) {
            int n_rows = end - r < CPU_BLOCK_ROWS ? end - r : CPU_BLOCK_ROWS;
            cpu_product(s, scratch, &j->shape, cpu_slice(a->down, &j->shape, e), g, n_groups, s->rows + r, n_rows,
                        scratch->acc[0]);
            for (int i = 0; i < n_rows; i++)
                s->vec->finish(scratch->acc[0] + 32 * i, n, cpu_scale(a->down, e), NULL, KN_ACT_NONE, false,
                               by_pair + 32 * (int64_t)s->expert_list[r + i]);
        }
    }
    for (int32_t t = 0; t < j->n_tokens; t++) {
        const float *w = a->weights.data + (int64_t)(j->token0 + t) * a->weights.stride;
        float *y = a->y.data + (int64_t)(j->token0 + t) * a->y.stride + o;
        for (int32_t i = 0; i < n; i++)
            y[i] = 0.0f;
        for (int32_t k = 0; k < a->k; k++)
            s->vec->axpy(w[k], by_pair + 32 * ((int64_t)t * a->k + k), n, y);
    }
}

/* 32 outputs of the shared expert, of all tokens, to what the others came to. */
static void shared_item(void *ctx, int32_t item, int thread)
{
    const struct down *j = ctx;
    struct cpu_stream *s = j->s;
    const struct kn_moe_down_args *a = j->a;
    const struct kn_weight *w = a->shared_down;
    struct cpu_scratch *scratch = &s->scratch[thread];
    int32_t g = item * 2, o = g * PACK_ROWS, n = w->rows - o < 32 ? w->rows - o : 32;
    for (int32_t r = 0; r < j->n_tokens; r += CPU_BLOCK_ROWS) {
        int n_rows = j->n_tokens - r < CPU_BLOCK_ROWS ? j->n_tokens - r : CPU_BLOCK_ROWS;
        cpu_product(s, scratch, &j->shape, cpu_slice(w, &j->shape, 0), g, n > 16 ? 2 : 1, s->rows + r, n_rows, scratch->acc[0]);
        for (int i = 0; i < n_rows; i++) {
            const int64_t t = j->token0 + r + i;
            float sum[32];
            s->vec->finish(scratch->acc[0] + 32 * i, n, cpu_scale(w, 0), NULL, KN_ACT_NONE, false, sum);
            s->vec->axpy(a->gates.data[t * a->gates.stride], sum, n, a->y.data + t * a->y.stride + o);
        }
    }
}

static void add_shared(struct kn_stream *stream, const struct kn_moe_down_args *a)
{
    struct cpu_stream *s = cpu_stream_of(stream);
    struct down j = {.s = s, .a = a, .shape = cpu_shape(a->shared_down)};
    const int32_t chunk = cpu_chunk_rows(s, a->shared_h.cols, a->y.rows);
    for (; j.token0 < a->y.rows; j.token0 += chunk) {
        j.n_tokens = a->y.rows - j.token0 < chunk ? a->y.rows - j.token0 : chunk;
        cpu_take_rows(s, &a->shared_h, j.token0, j.n_tokens, NULL, cpu_grain(a->shared_down));
        pool_run(s->pool, (a->shared_down->rows + 31) / 32, shared_item, &j);
    }
}

void cpu_moe_down(struct kn_stream *stream, const struct kn_moe_down_args *a)
{
    struct cpu_stream *s = cpu_stream_of(stream);
    struct down j = {.s = s, .a = a, .shape = cpu_shape(a->down)};
    int32_t chunk = chunk_tokens(s, a->y.rows, a->k, a->k, a->h.cols);
    if (chunk < 1 || (size_t)chunk * (size_t)a->k * 32 > s->tmp_floats) {
        cpu_too_large(stream, "moe_down");
        return;
    }
    for (j.token0 = 0; j.token0 < a->y.rows; j.token0 += chunk) {
        j.n_tokens = a->y.rows - j.token0 < chunk ? a->y.rows - j.token0 : chunk;
        sort_by_expert(s, a->ids + (int64_t)j.token0 * a->k, j.n_tokens * a->k, a->down->slices);
        cpu_take_rows(s, &a->h, j.token0 * a->k, j.n_tokens * a->k, s->expert_list, cpu_grain(a->down));
        pool_run(s->pool, (a->down->rows + 31) / 32, down_item, &j);
    }
    if (a->shared_down)
        add_shared(stream, a);
    if (a->then)
        cpu_add_rms_norm(stream, a->then);
}
