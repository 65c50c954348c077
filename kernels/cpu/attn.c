/*
 * attn - attention of the CPU device: attn_store, attn (causal, paged cache) and attn_full (pictures).
 *
 * Softmax is taken over a stream of key blocks of VEC_KEYS keys at absolute positions (a KV page), and over segments of
 * CPU_ATTN_SEGMENT keys that are merged in order: whether one thread walks all segments or several take one each is the same
 * arithmetic. A tile is some tokens times the query heads of one KV head, so that a key block is converted to float once for all.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#define SEGMENT_PAGES (CPU_ATTN_SEGMENT / KN_PAGE_TOKENS)
_Static_assert(KN_PAGE_TOKENS == VEC_KEYS, "a key block is a page");

static inline int32_t pad16(int32_t n)
{
    return (n + 15) / 16 * 16;
}

/* ---- the tile -------------------------------------------------------------------------------------------------------------- */

/* Running state of R query vectors of d (padded) values; all arrays lie in a thread's tmp. */
struct tile {
    const struct vec_kernels *vec;
    int32_t n_rows, d, dp;
    float scale;
    float *q;               /* [R][dp] */
    float *acc, *max, *sum; /* [R][dp], [R], [R]: of the segment at hand */
    float *tot, *tmax, *tsum;
    float *s;         /* [R][VEC_KEYS] */
    int32_t *visible; /* [R] keys of the block that the row sees */
    float *k, *v;     /* [VEC_KEYS][dp] */
};

size_t cpu_attn_floats(int32_t rows, int32_t d)
{
    size_t dp = (size_t)pad16(d), r = (size_t)pad16(rows);
    return dp * (3 * r + 2 * VEC_KEYS) + VEC_KEYS * r + 5 * r;
}

static void tile_init(struct tile *t, const struct cpu_stream *s, int thread, int32_t rows, int32_t d, float scale)
{
    size_t dp = (size_t)pad16(d), r = (size_t)pad16(rows);
    float *p = s->scratch[thread].tmp;
    *t = (struct tile){.vec = s->vec, .n_rows = rows, .d = d, .dp = (int32_t)dp, .scale = scale};
    t->q = p, p += r * dp;
    t->acc = p, p += r * dp;
    t->tot = p, p += r * dp;
    t->k = p, p += VEC_KEYS * dp;
    t->v = p, p += VEC_KEYS * dp;
    t->s = p, p += VEC_KEYS * r;
    t->max = p, p += r;
    t->sum = p, p += r;
    t->tmax = p, p += r;
    t->tsum = p, p += r;
    t->visible = (int32_t *)p;
}

static void put_query(struct tile *t, int32_t r, const float *q)
{
    float *to = t->q + (int64_t)r * t->dp;
    memcpy(to, q, sizeof(float) * (size_t)t->d);
    memset(to + t->d, 0, sizeof(float) * (size_t)(t->dp - t->d));
}

static void segment_begin(struct tile *t)
{
    memset(t->acc, 0, sizeof(float) * (size_t)t->n_rows * (size_t)t->dp);
    for (int32_t r = 0; r < t->n_rows; r++)
        t->max[r] = -INFINITY, t->sum[r] = 0.0f;
}

/* One block of keys; visible[] says how many of them each row sees. */
static void segment_block(struct tile *t, const float *k, int64_t ldk, const float *v, int64_t ldv)
{
    int32_t most = 0;
    for (int32_t r = 0; r < t->n_rows; r++)
        most = t->visible[r] > most ? t->visible[r] : most;
    if (!most)
        return;
    t->vec->scores(t->q, t->dp, t->n_rows, k, ldk, most, t->dp, t->scale, t->s, VEC_KEYS);
    for (int32_t r = 0; r < t->n_rows; r++) {
        if (t->visible[r] <= 0)
            continue;
        float f = t->vec->softmax_step(t->s + VEC_KEYS * r, t->visible[r], &t->max[r], &t->sum[r]);
        if (f != 1.0f)
            t->vec->scale(t->acc + (int64_t)r * t->dp, f, t->dp);
    }
    for (int32_t r = 0, n; r < t->n_rows; r += n) {
        for (n = 1; r + n < t->n_rows && t->visible[r + n] == t->visible[r]; n++)
            ;
        if (t->visible[r] > 0)
            t->vec->mac(t->s + VEC_KEYS * r, VEC_KEYS, n, t->visible[r], v, ldv, t->dp, t->acc + (int64_t)r * t->dp, t->dp);
    }
}

/* Add a segment's result (acc, max, sum of row r) to the row's total. */
static void merge(struct tile *t, int32_t r, const float *acc, float max, float sum)
{
    float *tot = t->tot + (int64_t)r * t->dp;
    if (max == -INFINITY && sum == 0.0f) /* the row saw nothing of it */
        return;
    if (t->tsum[r] == 0.0f) {
        memcpy(tot, acc, sizeof(float) * (size_t)t->dp);
        t->tmax[r] = max, t->tsum[r] = sum;
        return;
    }
    float now = max > t->tmax[r] ? max : t->tmax[r];
    float ft = expf(t->tmax[r] - now), fs = expf(max - now);
    t->vec->scale(tot, ft, t->dp);
    t->vec->axpy(fs, acc, t->dp, tot);
    t->tsum[r] = t->tsum[r] * ft + sum * fs;
    t->tmax[r] = now;
}

static void total_begin(struct tile *t)
{
    for (int32_t r = 0; r < t->n_rows; r++)
        t->tmax[r] = -INFINITY, t->tsum[r] = 0.0f;
}

static void merge_all(struct tile *t)
{
    for (int32_t r = 0; r < t->n_rows; r++)
        merge(t, r, t->acc + (int64_t)r * t->dp, t->max[r], t->sum[r]);
}

static void put_result(const struct tile *t, int32_t r, float *y)
{
    t->vec->finish(t->tot + (int64_t)r * t->dp, t->d, 1.0f / t->tsum[r], NULL, KN_ACT_NONE, false, y);
}

/* ---- attn_store ---------------------------------------------------------------------------------------------------------- */

struct store {
    struct cpu_stream *s;
    const struct kn_attn_store_args *a;
};

static void rotate(float *x, const float *cs, const float *sn, int32_t n_pairs)
{
    for (int32_t i = 0; i < n_pairs; i++) {
        float a = x[i], b = x[i + n_pairs];
        x[i] = a * cs[i] - b * sn[i];
        x[i + n_pairs] = a * sn[i] + b * cs[i];
    }
}

static size_t kv_row_bytes(const struct kn_kv *kv)
{
    return kn_row_bytes(kv->dtype, kv->head_dim);
}

static void store_row(const struct cpu_stream *s, const struct kn_kv *kv, void *base, int64_t page, int32_t head, int32_t place,
                      const float *x)
{
    uint8_t *to = (uint8_t *)base + ((size_t)(page * kv->n_heads + head) * KN_PAGE_TOKENS + (size_t)place) * kv_row_bytes(kv);
    if (kv->dtype == KN_F32)
        memcpy(to, x, sizeof(float) * (size_t)kv->head_dim);
    else if (kv->dtype == KN_F16 && kv->head_dim % 16 == 0)
        s->vec->to_f16(x, kv->head_dim, (uint16_t *)to);
    else
        kn_quantize(kv->dtype, x, kv->head_dim, to);
}

static void store_item(void *ctx, int32_t row, int thread)
{
    const struct store *j = ctx;
    const struct kn_attn_store_args *a = j->a;
    const struct cpu_stream *s = j->s;
    const struct kn_step *step = a->step;
    const struct kn_seq *seq = &step->seqs[step->seq_of_row[row]];
    const int32_t d = a->kv->head_dim, at = seq->past + row - seq->row0;
    const int64_t page = step->pages[seq->page0 + at / KN_PAGE_TOKENS];
    float *cs = s->scratch[thread].tmp, *sn = cs + a->n_pairs, *head = sn + a->n_pairs;

    for (int32_t i = 0; i < a->n_pairs; i++) {
        float angle = (float)step->pos[(int64_t)a->axis[i] * step->n_rows + row] * a->inv_freq[i];
        cs[i] = cosf(angle) * a->rope_scale;
        sn[i] = sinf(angle) * a->rope_scale;
    }
    const float *qg = a->qg.data + row * a->qg.stride;
    float *q = a->q.data + row * a->q.stride;
    for (int32_t h = 0; h < a->q.cols / d; h++) {
        memcpy(head, qg + (int64_t)h * 2 * d, sizeof(float) * (size_t)d);
        s->vec->rms_norm(head, NULL, a->q_norm, a->eps, d, q + (int64_t)h * d);
        rotate(q + (int64_t)h * d, cs, sn, a->n_pairs);
    }
    const float *k = a->k.data + row * a->k.stride, *v = a->v.data + row * a->v.stride;
    for (int32_t g = 0; g < a->kv->n_heads; g++) {
        memcpy(head, k + (int64_t)g * d, sizeof(float) * (size_t)d);
        s->vec->rms_norm(head, NULL, a->k_norm, a->eps, d, head);
        rotate(head, cs, sn, a->n_pairs);
        store_row(s, a->kv, a->kv->k, page, g, at % KN_PAGE_TOKENS, head);
        store_row(s, a->kv, a->kv->v, page, g, at % KN_PAGE_TOKENS, v + (int64_t)g * d);
    }
}

void cpu_attn_store(struct kn_stream *stream, const struct kn_attn_store_args *a)
{
    struct store j = {cpu_stream_of(stream), a};
    if ((size_t)(2 * a->n_pairs + a->kv->head_dim) > j.s->tmp_floats) {
        cpu_too_large(stream, "attn_store");
        return;
    }
    pool_run(j.s->pool, a->step->n_rows, store_item, &j);
}

/* ---- attn ---------------------------------------------------------------------------------------------------------------- */

struct attn {
    struct cpu_stream *s;
    const struct kn_attn_args *a;
    int32_t per;         /* query heads per KV head */
    int32_t tile_tokens; /* tokens of a tile */
    int32_t n_segments;  /* split: items per tile and KV head; else 0 */
    size_t partial_tile; /* floats of one partial result */
};

/* Where a tile lies. */
struct place {
    const struct kn_seq *seq;
    int32_t first, n_tokens; /* tokens of the sequence's part of this step */
};

static struct place find_tile(const struct attn *j, int32_t tile)
{
    const struct kn_step *step = j->a->step;
    for (int32_t i = 0;; i++) {
        const struct kn_seq *seq = &step->seqs[i];
        int32_t n = (seq->n_rows + j->tile_tokens - 1) / j->tile_tokens;
        if (tile < n) {
            int32_t first = tile * j->tile_tokens;
            int32_t left = seq->n_rows - first;
            return (struct place){seq, first, left < j->tile_tokens ? left : j->tile_tokens};
        }
        tile -= n;
    }
}

/* n keys or values of one page and head as floats: in place where they are that already. */
static const float *page_floats(const struct tile *t, const struct kn_kv *kv, const void *base, int64_t page, int32_t head,
                                int32_t n, float *to, int64_t *ret_ld)
{
    const size_t bytes = kv_row_bytes(kv);
    const uint8_t *from = (const uint8_t *)base + (size_t)(page * kv->n_heads + head) * KN_PAGE_TOKENS * bytes;
    if (kv->dtype == KN_F32 && t->d == t->dp) {
        *ret_ld = t->d;
        return (const float *)from;
    }
    *ret_ld = t->dp;
    for (int32_t i = 0; i < n; i++, from += bytes, to += t->dp) {
        if (kv->dtype == KN_F16 && t->d == t->dp) {
            t->vec->from_f16((const uint16_t *)from, t->d, to);
        } else if (kv->dtype == KN_Q8_0) {
            const struct kn_block_q8_0 *b = (const struct kn_block_q8_0 *)from;
            for (int32_t x = 0; x < t->d; x += 32, b++)
                t->vec->from_i8(b->qs, kn_f16_to_f32(b->d), 32, to + x);
        } else {
            kn_dequantize(kv->dtype, from, t->d, to);
            memset(to + t->d, 0, sizeof(float) * (size_t)(t->dp - t->d));
        }
    }
    return to - (int64_t)n * t->dp;
}

static void load_queries(const struct attn *j, struct tile *t, const struct place *p, int32_t g)
{
    for (int32_t r = 0; r < t->n_rows; r++) {
        int64_t row = p->seq->row0 + p->first + r / j->per;
        put_query(t, r, j->a->q.data + row * j->a->q.stride + (int64_t)(g * j->per + r % j->per) * t->d);
    }
}

static void run_segment(const struct attn *j, struct tile *t, const struct place *p, int32_t g, int32_t segment)
{
    const struct kn_kv *kv = j->a->kv;
    const int32_t *pages = j->a->step->pages + p->seq->page0;
    const int32_t last = p->seq->past + p->first + p->n_tokens; /* keys that the tile's last token sees */
    segment_begin(t);
    for (int32_t page = segment * SEGMENT_PAGES; page < (segment + 1) * SEGMENT_PAGES && page * KN_PAGE_TOKENS < last; page++) {
        int32_t k0 = page * KN_PAGE_TOKENS, n = last - k0 < KN_PAGE_TOKENS ? last - k0 : KN_PAGE_TOKENS;
        for (int32_t r = 0; r < t->n_rows; r++) {
            int32_t seen = p->seq->past + p->first + r / j->per + 1 - k0;
            t->visible[r] = seen < 0 ? 0 : seen < KN_PAGE_TOKENS ? seen : KN_PAGE_TOKENS;
        }
        int64_t ldk, ldv;
        const float *k = page_floats(t, kv, kv->k, pages[page], g, n, t->k, &ldk);
        const float *v = page_floats(t, kv, kv->v, pages[page], g, n, t->v, &ldv);
        segment_block(t, k, ldk, v, ldv);
    }
}

static void finish_tile(const struct attn *j, const struct tile *t, const struct place *p, int32_t g)
{
    for (int32_t r = 0; r < t->n_rows; r++) {
        int64_t row = p->seq->row0 + p->first + r / j->per, h = g * j->per + r % j->per;
        float *y = j->a->y.data + row * j->a->y.stride + h * t->d;
        put_result(t, r, y);
        if (j->a->gate.data)
            t->vec->gate(j->a->gate.data + row * j->a->gate.stride + h * 2 * t->d + t->d, t->d, y);
    }
}

/* A tile and KV head, all its segments. */
static void attn_item(void *ctx, int32_t item, int thread)
{
    const struct attn *j = ctx;
    const int32_t G = j->a->kv->n_heads, g = item % G;
    struct place p = find_tile(j, item / G);
    struct tile t;
    tile_init(&t, j->s, thread, p.n_tokens * j->per, j->a->kv->head_dim, j->a->scale);
    load_queries(j, &t, &p, g);
    total_begin(&t);
    for (int32_t segment = 0; segment * CPU_ATTN_SEGMENT < p.seq->past + p.first + p.n_tokens; segment++) {
        run_segment(j, &t, &p, g, segment);
        merge_all(&t);
    }
    finish_tile(j, &t, &p, g);
}

/* A tile, KV head and segment: the result waits in `partial` as acc, max, sum. */
static void split_item(void *ctx, int32_t item, int thread)
{
    const struct attn *j = ctx;
    const int32_t G = j->a->kv->n_heads, segment = item % j->n_segments, g = item / j->n_segments % G;
    struct place p = find_tile(j, item / j->n_segments / G);
    if (segment * CPU_ATTN_SEGMENT >= p.seq->past + p.first + p.n_tokens)
        return;
    struct tile t;
    tile_init(&t, j->s, thread, p.n_tokens * j->per, j->a->kv->head_dim, j->a->scale);
    load_queries(j, &t, &p, g);
    run_segment(j, &t, &p, g, segment);
    float *to = j->s->partial + (size_t)item * j->partial_tile;
    size_t rows = (size_t)t.n_rows;
    memcpy(to, t.max, sizeof(float) * rows);
    memcpy(to + rows, t.sum, sizeof(float) * rows);
    memcpy(to + 2 * rows, t.acc, sizeof(float) * rows * (size_t)t.dp);
}

static void join_item(void *ctx, int32_t item, int thread)
{
    const struct attn *j = ctx;
    const int32_t G = j->a->kv->n_heads, g = item % G;
    struct place p = find_tile(j, item / G);
    struct tile t;
    tile_init(&t, j->s, thread, p.n_tokens * j->per, j->a->kv->head_dim, j->a->scale);
    total_begin(&t);
    for (int32_t segment = 0; segment * CPU_ATTN_SEGMENT < p.seq->past + p.first + p.n_tokens; segment++) {
        const float *from = j->s->partial + ((size_t)item * (size_t)j->n_segments + (size_t)segment) * j->partial_tile;
        for (int32_t r = 0; r < t.n_rows; r++)
            merge(&t, r, from + 2 * t.n_rows + (int64_t)r * t.dp, from[r], from[t.n_rows + r]);
    }
    finish_tile(j, &t, &p, g);
}

void cpu_attn(struct kn_stream *stream, const struct kn_attn_args *a)
{
    struct attn j = {.s = cpu_stream_of(stream), .a = a};
    const struct kn_step *step = a->step;
    const int32_t d = a->kv->head_dim, G = a->kv->n_heads;
    j.per = a->q.cols / d / G;
    j.tile_tokens = CPU_ATTN_ROWS / j.per > 0 ? CPU_ATTN_ROWS / j.per : 1;
    if (cpu_attn_floats(j.tile_tokens * j.per, d) > j.s->tmp_floats) {
        cpu_too_large(stream, "attn");
        return;
    }
    int32_t tiles = 0, longest = 0, widest = 1;
    for (int32_t i = 0; i < step->n_seqs; i++) {
        const struct kn_seq *seq = &step->seqs[i];
        tiles += (seq->n_rows + j.tile_tokens - 1) / j.tile_tokens;
        longest = seq->past + seq->n_rows > longest ? seq->past + seq->n_rows : longest;
        int32_t w = seq->n_rows < j.tile_tokens ? seq->n_rows : j.tile_tokens;
        widest = w > widest ? w : widest;
    }
    int32_t segments = (longest + CPU_ATTN_SEGMENT - 1) / CPU_ATTN_SEGMENT;
    j.partial_tile = (size_t)widest * (size_t)j.per * (size_t)(pad16(d) + 2);
    size_t need = (size_t)tiles * (size_t)G * (size_t)segments * j.partial_tile;
    if (segments > 1 && tiles * G < 4 * pool_threads(j.s->pool) && need <= j.s->partial_floats) {
        j.n_segments = segments;
        pool_run(j.s->pool, tiles * G * segments, split_item, &j);
        pool_run(j.s->pool, tiles * G, join_item, &j);
    } else {
        pool_run(j.s->pool, tiles * G, attn_item, &j);
    }
}

/* ---- attn_full ----------------------------------------------------------------------------------------------------------- */

struct full {
    struct cpu_stream *s;
    const struct kn_attn_full_args *a;
    int32_t d, tile_rows;
};

/* Rows row0 .. row0 + n - 1 of one head's q, k or v, padded. */
static void load_rows(const struct full *j, const struct tile *t, int32_t part, int32_t head, int32_t row0, int32_t n,
                      float *to)
{
    const int64_t c = (int64_t)j->a->n_heads * j->d;
    for (int32_t i = 0; i < n; i++, to += t->dp) {
        memcpy(to, j->a->qkv.data + (row0 + i) * j->a->qkv.stride + part * c + (int64_t)head * j->d,
               sizeof(float) * (size_t)j->d);
        memset(to + j->d, 0, sizeof(float) * (size_t)(t->dp - j->d));
    }
}

static void full_item(void *ctx, int32_t item, int thread)
{
    const struct full *j = ctx;
    const int32_t P = j->a->qkv.rows, head = item % j->a->n_heads, row0 = item / j->a->n_heads * j->tile_rows;
    struct tile t;
    tile_init(&t, j->s, thread, P - row0 < j->tile_rows ? P - row0 : j->tile_rows, j->d, 1.0f / sqrtf((float)j->d));
    load_rows(j, &t, 0, head, row0, t.n_rows, t.q);
    total_begin(&t);
    segment_begin(&t);
    for (int32_t k0 = 0; k0 < P; k0 += VEC_KEYS) {
        int32_t n = P - k0 < VEC_KEYS ? P - k0 : VEC_KEYS;
        load_rows(j, &t, 1, head, k0, n, t.k);
        load_rows(j, &t, 2, head, k0, n, t.v);
        for (int32_t r = 0; r < t.n_rows; r++)
            t.visible[r] = n;
        segment_block(&t, t.k, t.dp, t.v, t.dp);
    }
    merge_all(&t);
    for (int32_t r = 0; r < t.n_rows; r++)
        put_result(&t, r, j->a->y.data + (row0 + r) * j->a->y.stride + (int64_t)head * j->d);
}

/* The same on tiles. */
static void full_bf16_item(void *ctx, int32_t item, int thread)
{
    const struct full *j = ctx;
    const struct kn_attn_full_args *a = j->a;
    const int32_t head = item % a->n_heads, row0 = item / a->n_heads * TILE_ATTEND_ROWS, left = a->qkv.rows - row0;
    const int64_t c = (int64_t)a->n_heads * j->d;
    const float *x = a->qkv.data + (int64_t)head * j->d;
    j->s->tile->bf16.attend(&(struct tile_attend){.q = x + row0 * a->qkv.stride,
                                                  .k = x + c,
                                                  .v = x + 2 * c,
                                                  .stride = a->qkv.stride,
                                                  .n_queries = left < TILE_ATTEND_ROWS ? left : TILE_ATTEND_ROWS,
                                                  .n_keys = a->qkv.rows,
                                                  .d = j->d,
                                                  .scale = 1.0f / sqrtf((float)j->d),
                                                  .y = a->y.data + row0 * a->y.stride + (int64_t)head * j->d,
                                                  .y_stride = a->y.stride},
                            j->s->vec, j->s->scratch[thread].tmp);
}

void cpu_attn_full(struct kn_stream *stream, const struct kn_attn_full_args *a)
{
    struct full j = {.s = cpu_stream_of(stream), .a = a, .d = a->y.cols / a->n_heads};
    if (a->is_bf16 && j.s->tile->bf16.attend && j.d <= TILE_ATTEND_DIM) {
        pool_run(j.s->pool, (a->qkv.rows + TILE_ATTEND_ROWS - 1) / TILE_ATTEND_ROWS * a->n_heads, full_bf16_item, &j);
        return;
    }
    /* as many rows as the thread's scratch holds, up to 64: each key block is copied once per tile */
    j.tile_rows = 64;
    while (j.tile_rows > 1 && cpu_attn_floats(j.tile_rows, j.d) > j.s->tmp_floats)
        j.tile_rows /= 2;
    if (cpu_attn_floats(j.tile_rows, j.d) > j.s->tmp_floats) {
        cpu_too_large(stream, "attn_full");
        return;
    }
    pool_run(j.s->pool, (a->qkv.rows + j.tile_rows - 1) / j.tile_rows * a->n_heads, full_item, &j);
}
