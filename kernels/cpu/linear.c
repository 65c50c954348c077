/*
 * linear - matrix products of the CPU device: linear, project, gate_up.
 *
 * Rows of activations are prepared once (quantised for block formats) and shared by all threads and weights. An item is a run of output
 * groups times a block of rows; its accumulators live in the thread's scratch and go through the epilogue in place.
 */
#include <string.h>

#include "kernels/cpu/cpu.h"

/* An item of a few rows reads at least this much weight, so that taking it costs little. */
#define ITEM_BYTES 32768

struct pack_shape cpu_shape(const struct kn_weight *w)
{
    struct pack_shape shape = {0};
    pack_shape_init(&shape, w->dtype, w->rows, w->cols);
    return shape;
}

/* ---- activations ---- */

/*
 * Quantised rows lie an odd number of cache lines apart: the many rows that a tile takes at the same inputs would share a few sets of the cache otherwise, and drive each other out.
 */
int64_t cpu_act_pitch(int32_t cols)
{
    return ((cols + 63) / 64 | 1) * (int64_t)64;
}

/* Rounded rows are filled up with zeros, as tiles take 32 inputs at a time. */
int64_t cpu_bf16_pitch(int32_t cols)
{
    return ((cols + 31) / 32 | 1) * (int64_t)32;
}

static int32_t rows_that_fit(const struct cpu_stream *s, int64_t pitch, int32_t n)
{
    size_t fit = s->act_values / (size_t)pitch;
    int32_t m = fit < (size_t)s->n_rows_max ? (int32_t)fit : s->n_rows_max;
    return n < m ? n : m;
}

int32_t cpu_chunk_rows(const struct cpu_stream *s, int32_t cols, int32_t n)
{
    return rows_that_fit(s, cpu_act_pitch(cols), n);
}

struct take {
    struct cpu_stream *s;
    const struct kn_mat *x;
    const int32_t *order;
    int32_t first, n, per_item;
    unsigned grains;
};

static void take_item(void *ctx, int32_t item, int thread)
{
    const struct take *t = ctx;
    struct cpu_stream *s = t->s;
    int32_t end = (item + 1) * t->per_item < t->n ? (item + 1) * t->per_item : t->n;
    for (int32_t r = item * t->per_item; r < end; r++) {
        const float *x = t->x->data + (int64_t)(t->first + (t->order ? t->order[r] : r)) * t->x->stride;
        size_t at = (size_t)r * (size_t)cpu_act_pitch(t->x->cols);
        struct tile_row *row = &s->rows[r];
        row->x = x;
        for (int g = 0; g < 2; g++)
            row->act[g] = (struct tile_act){.q = s->act[g].q + at,
                                            .ad = s->act[g].ad + at / 32,
                                            .sum32 = s->act[g].sum32 + at / 32,
                                            .sum16 = s->act[g].sum16 + at / 16,
                                            .fsum32 = s->act[g].fsum32 + at / 32,
                                            .fsum16 = s->act[g].fsum16 + at / 16};
        if (t->grains & 1u << TILE_SHORT)
            s->tile->quantize(x, t->x->cols, &row->act[TILE_SHORT]);
        if (t->grains & 1u << TILE_LONG)
            s->tile->quantize_long(x, t->x->cols, &row->act[TILE_LONG]);
        if (t->grains & 1u << TILE_BF16)
            s->tile->bf16.round(x, t->x->cols, s->bf16 + r * cpu_bf16_pitch(t->x->cols));
    }
}

void cpu_take_rows(struct cpu_stream *s, const struct kn_mat *x, int32_t first, int32_t n, const int32_t *order,
                   unsigned grains)
{
    struct take t = {.s = s, .x = x, .order = order, .first = first, .n = n, .grains = grains};
    /* below some thousands of values waking others costs more than it saves */
    int32_t per = grains & ~(1u << TILE_FLOAT) ? 16384 / x->cols + 1 : n;
    t.per_item = per < n ? per : n;
    pool_run(s->pool, (n + t.per_item - 1) / t.per_item, take_item, &t);
}

/* ---- the product of a block of rows and up to 32 outputs ---- */

void cpu_product(const struct cpu_stream *s, struct cpu_scratch *scratch, const struct pack_shape *shape, const uint8_t *slice,
                 int32_t group0, int n_groups, const struct tile_row *rows, int n_rows, float *acc)
{
    const enum kn_dtype t = shape->dtype;
    const uint8_t *group = slice + (size_t)group0 * shape->group_bytes;
    if (n_rows <= cpu_few_rows(s, t)) {
        for (int g = 0; g < n_groups; g++, group += shape->group_bytes)
            s->tile->type[t].fused(group, group + shape->head_bytes, shape->n_blocks, rows, n_rows, acc + 16 * g);
        return;
    }
    const int32_t elems = shape->layout->elems;
    const int32_t step = (tile_grain_of(t) == TILE_FLOAT ? TILE_K_FLOAT : TILE_K) / elems;
    memset(acc, 0, sizeof *acc * 32 * (size_t)n_rows);
    for (int32_t b = 0; b < shape->n_blocks; b += step) {
        int32_t n = shape->n_blocks - b < step ? shape->n_blocks - b : step;
        for (int g = 0; g < n_groups; g++) {
            const uint8_t *from = group + (size_t)g * shape->group_bytes;
            s->tile->type[t].unpack(from, from + shape->head_bytes, b, n, &scratch->panels[g]);
        }
        s->tile->type[t].gemm(scratch->panels, n_groups, b * elems, n * elems, rows, n_rows, acc);
    }
}

static void product_bf16(const struct cpu_stream *s, struct cpu_scratch *scratch, const struct pack_shape *shape,
                         const uint8_t *slice, int32_t group0, int n_groups, int32_t row0, int n_rows, float *acc)
{
    const int64_t pitch = cpu_bf16_pitch(shape->cols);
    const uint8_t *group = slice + (size_t)group0 * shape->group_bytes;
    memset(acc, 0, sizeof *acc * 32 * (((size_t)n_rows + 15) / 16 * 16));
    for (int32_t k = 0; k < shape->cols; k += TILE_K) {
        const int32_t n = shape->cols - k < TILE_K ? shape->cols - k : TILE_K;
        for (int g = 0; g < n_groups; g++) {
            const uint8_t *from = group + (size_t)g * shape->group_bytes;
            s->tile->bf16.unpack(shape->dtype, from + shape->head_bytes, k, n, &scratch->panels[g]);
        }
        s->tile->bf16.gemm(scratch->panels, n_groups, n, s->bf16 + row0 * pitch + k, pitch, n_rows, acc);
    }
}

/* ---- items ---- */

/* One weight's (or a gate and up pair's) outputs over the rows of the chunk. */
struct job {
    struct cpu_stream *s;
    int n_rows;
    int32_t first; /* row of the op that rows[0] is */
    int32_t n_weights;
    struct part {
        struct pack_shape shape, shape2;
        const struct kn_weight *w, *w2; /* w2: "up", multiplied in */
        struct kn_mat y;
        int32_t first_item, per_item; /* groups per item; an item is never of two parts */
    } part[KN_PROJECT_MAX];
    int32_t items_per_block;
    kn_vec bias;
    enum kn_act act;
    bool accumulate;
    bool is_bf16;
};

static void run_item(void *ctx, int32_t item, int thread)
{
    const struct job *j = ctx;
    struct cpu_stream *s = j->s;
    struct cpu_scratch *scratch = &s->scratch[thread];
    int row0 = item / j->items_per_block * CPU_BLOCK_ROWS;
    int n_rows = j->n_rows - row0 < CPU_BLOCK_ROWS ? j->n_rows - row0 : CPU_BLOCK_ROWS;
    item %= j->items_per_block;
    int p = 0;
    while (p + 1 < j->n_weights && item >= j->part[p + 1].first_item)
        p++;
    const struct part *part = &j->part[p];
    int32_t g0 = (item - part->first_item) * part->per_item;
    int32_t g1 = g0 + part->per_item < part->shape.n_groups ? g0 + part->per_item : part->shape.n_groups;
    for (int32_t g = g0; g < g1; g += 2) {
        int n_groups = g1 - g < 2 ? 1 : 2;
        int32_t o = g * PACK_ROWS;
        int32_t n = part->w->rows - o < 32 ? part->w->rows - o : 32;
        if (n > 16 * n_groups)
            n = 16 * n_groups;
        for (int r = 0; n_rows > cpu_few_rows(s, part->w->dtype) && r < n_rows; r++)
            cpu_expect(part->y.data + (int64_t)(j->first + row0 + r) * part->y.stride + o, n);
        if (j->is_bf16)
            product_bf16(s, scratch, &part->shape, part->w->data, g, n_groups, row0, n_rows, scratch->acc[0]);
        else
            cpu_product(s, scratch, &part->shape, part->w->data, g, n_groups, s->rows + row0, n_rows, scratch->acc[0]);
        if (part->w2)
            cpu_product(s, scratch, &part->shape2, part->w2->data, g, n_groups, s->rows + row0, n_rows, scratch->acc[1]);
        for (int r = 0; r < n_rows; r++) {
            float *y = part->y.data + (int64_t)(j->first + row0 + r) * part->y.stride + o;
            if (part->w2)
                s->vec->silu_mul(scratch->acc[0] + 32 * r, scratch->acc[1] + 32 * r, n, cpu_scale(part->w, 0),
                                 cpu_scale(part->w2, 0), y);
            else
                s->vec->finish(scratch->acc[0] + 32 * r, n, cpu_scale(part->w, 0), j->bias ? j->bias + o : NULL, j->act,
                               j->accumulate, y);
        }
    }
}

/* All rows of x through the parts of a job, chunk by chunk. */
static void run(struct job *j, const struct kn_mat *x)
{
    struct cpu_stream *s = j->s;
    unsigned grains = j->is_bf16 ? 1u << TILE_BF16 : 0;
    for (int32_t i = 0; i < j->n_weights && !j->is_bf16; i++)
        grains |= cpu_grain(j->part[i].w) | cpu_grain(j->part[i].w2);
    int32_t chunk = rows_that_fit(s, j->is_bf16 ? cpu_bf16_pitch(x->cols) : cpu_act_pitch(x->cols), x->rows);
    if (chunk < 1 && x->rows > 0) {
        cpu_too_large(&s->base, "linear");
        return;
    }
    for (j->first = 0; j->first < x->rows; j->first += chunk) {
        j->n_rows = x->rows - j->first < chunk ? x->rows - j->first : chunk;
        cpu_take_rows(s, x, j->first, j->n_rows, NULL, grains);
        int32_t items = 0;
        for (int32_t i = 0; i < j->n_weights; i++) {
            struct part *p = &j->part[i];
            size_t bytes = p->shape.group_bytes * (p->w2 ? 2 : 1);
            p->first_item = items;
            const bool is_few = j->n_rows <= cpu_few_rows(s, p->w->dtype) && !j->is_bf16;
            p->per_item = is_few && bytes < ITEM_BYTES / 2 ? (int32_t)(ITEM_BYTES / bytes) & ~1 : 2;
            /* but leave some items to every thread */
            int32_t fair = p->shape.n_groups / (4 * pool_threads(s->pool)) & ~1;
            if (p->per_item > fair)
                p->per_item = fair < 2 ? 2 : fair;
            items += (p->shape.n_groups + p->per_item - 1) / p->per_item;
        }
        j->items_per_block = items;
        pool_run(s->pool, items * ((j->n_rows + CPU_BLOCK_ROWS - 1) / CPU_BLOCK_ROWS), run_item, j);
    }
}

void cpu_linear(struct kn_stream *stream, const struct kn_linear_args *a)
{
    struct job j = {.s = cpu_stream_of(stream), .n_weights = 1, .bias = a->bias, .act = a->act, .accumulate = a->accumulate};
    j.part[0] = (struct part){.shape = cpu_shape(a->w), .w = a->w, .y = a->y};
    j.is_bf16 = a->is_bf16 && j.s->tile->bf16.gemm && (a->w->dtype == KN_F16 || a->w->dtype == KN_BF16);
    run(&j, &a->x);
    if (a->then)
        cpu_add_rms_norm(stream, a->then);
}

void cpu_project(struct kn_stream *stream, const struct kn_project_args *a)
{
    struct job j = {.s = cpu_stream_of(stream), .n_weights = a->n};
    for (int32_t i = 0; i < a->n; i++)
        j.part[i] = (struct part){.shape = cpu_shape(a->w[i]), .w = a->w[i], .y = a->y[i]};
    run(&j, &a->x);
}

void cpu_gate_up(struct kn_stream *stream, const struct kn_gate_up_args *a)
{
    struct job j = {.s = cpu_stream_of(stream), .n_weights = 1};
    j.part[0] = (struct part){.shape = cpu_shape(a->gate), .shape2 = cpu_shape(a->up), .w = a->gate, .w2 = a->up, .y = a->y};
    run(&j, &a->x);
}

void cpu_linear_plain(struct cpu_stream *s, const struct kn_mat *x, int32_t first, int32_t n, const struct kn_weight *w,
                      float *y, int64_t y_stride)
{
    struct kn_mat part = {.data = x->data + (int64_t)first * x->stride, .rows = n, .cols = x->cols, .stride = x->stride};
    struct job j = {.s = s, .n_weights = 1};
    j.part[0] = (struct part){.shape = cpu_shape(w), .w = w, .y = {.data = y, .rows = n, .cols = w->rows, .stride = y_stride}};
    run(&j, &part);
}
