/* norm - normalisations, and rows in and out, of the CPU device. */
#include <string.h>

#include "kernels/cpu/cpu.h"

/* Rows per item: some thousands of values each. */
static int32_t rows_per_item(int32_t rows, int32_t cols)
{
    int32_t n = 16384 / (cols > 0 ? cols : 1) + 1;
    return n < rows ? n : rows;
}

struct rows {
    struct cpu_stream *s;
    const void *args;
    int32_t n_rows, per_item;
    void (*row)(struct cpu_stream *s, const void *args, int32_t row, int thread);
};

static void rows_item(void *ctx, int32_t item, int thread)
{
    const struct rows *r = ctx;
    int32_t end = (item + 1) * r->per_item < r->n_rows ? (item + 1) * r->per_item : r->n_rows;
    for (int32_t i = item * r->per_item; i < end; i++)
        r->row(r->s, r->args, i, thread);
}

static void each_row(struct kn_stream *stream, const void *args, int32_t n_rows, int32_t cols,
                     void (*row)(struct cpu_stream *, const void *, int32_t, int))
{
    if (n_rows <= 0)
        return;
    struct rows r = {cpu_stream_of(stream), args, n_rows, rows_per_item(n_rows, cols), row};
    pool_run(r.s->pool, (n_rows + r.per_item - 1) / r.per_item, rows_item, &r);
}

static inline float *row_of(const struct kn_mat *m, int32_t row)
{
    return m->data ? m->data + (int64_t)row * m->stride : NULL;
}

/* ---- norms ---- */

static void rms_row(struct cpu_stream *s, const void *args, int32_t row, int thread)
{
    const struct kn_add_rms_norm_args *a = args;
    s->vec->rms_norm(row_of(&a->x, row), row_of(&a->res, row), a->w, a->eps, a->x.cols, row_of(&a->y, row));
}

void cpu_add_rms_norm(struct kn_stream *stream, const struct kn_add_rms_norm_args *a)
{
    each_row(stream, a, a->x.rows, a->x.cols, rms_row);
}

static void layer_row(struct cpu_stream *s, const void *args, int32_t row, int thread)
{
    const struct kn_add_layer_norm_args *a = args;
    s->vec->layer_norm(row_of(&a->x, row), row_of(&a->res, row), a->w, a->b, a->eps, a->x.cols, row_of(&a->y, row));
}

void cpu_add_layer_norm(struct kn_stream *stream, const struct kn_add_layer_norm_args *a)
{
    each_row(stream, a, a->x.rows, a->x.cols, layer_row);
}

static void gated_row(struct cpu_stream *s, const void *args, int32_t row, int thread)
{
    const struct kn_gated_rms_norm_args *a = args;
    const int32_t d = a->x.cols / a->n_heads;
    for (int32_t h = 0; h < a->n_heads; h++)
        s->vec->gated_rms_norm(row_of(&a->x, row) + h * d, row_of(&a->z, row) + h * d, a->w, a->eps, d,
                               row_of(&a->y, row) + h * d);
}

void cpu_gated_rms_norm(struct kn_stream *stream, const struct kn_gated_rms_norm_args *a)
{
    each_row(stream, a, a->x.rows, a->x.cols, gated_row);
}

/* ---- rows ---- */

/* Dequantise a row of a packed weight through a piece of it in GGUF form. */
static void embed_row(struct cpu_stream *s, const void *args, int32_t row, int thread)
{
    const struct kn_embed_args *a = args;
    const int32_t token = a->step->tokens[row];
    if (token >= 0)
        kn_weight_row(&s->base, a->table, 0, token, row_of(&a->y, row));
}

void cpu_embed(struct kn_stream *stream, const struct kn_embed_args *a)
{
    each_row(stream, a, a->y.rows, a->y.cols, embed_row);
}

static void put_row(struct cpu_stream *s, const void *args, int32_t row, int thread)
{
    const struct kn_put_rows_args *a = args;
    memcpy(row_of(&a->y, a->row0 + row), row_of(&a->x, row), sizeof(float) * (size_t)a->x.cols);
}

void cpu_put_rows(struct kn_stream *stream, const struct kn_put_rows_args *a)
{
    each_row(stream, a, a->x.rows, a->x.cols, put_row);
}

static void gather_row(struct cpu_stream *s, const void *args, int32_t row, int thread)
{
    const struct kn_gather_rows_args *a = args;
    memcpy(row_of(&a->y, row), row_of(&a->x, a->rows[row]), sizeof(float) * (size_t)a->y.cols);
}

void cpu_gather_rows(struct kn_stream *stream, const struct kn_gather_rows_args *a)
{
    each_row(stream, a, a->y.rows, a->y.cols, gather_row);
}

void cpu_copy(struct kn_stream *stream, const struct kn_copy_args *a)
{
    if (a->bytes)
        memcpy(a->dst, a->src, a->bytes);
}

void cpu_fill_zero(struct kn_stream *stream, const struct kn_fill_zero_args *a)
{
    if (a->bytes)
        memset(a->dst, 0, a->bytes);
}
