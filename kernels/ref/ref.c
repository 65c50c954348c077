/*
 * ref - the device "ref", and the references of the row, norm, matrix and expert ops: plain loops, double accumulators. They
 * define what an op means; nothing here is meant to be fast.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/device.h"

/* ---- the device -------------------------------------------------------------------------------------------------------------- */

void kn_ref_table(struct kn_ops *ret_ops)
{
    *ret_ops = (struct kn_ops){
#define KN_OP(name) .name = kn_ref_##name,
#include "kernels/ops.def"
#undef KN_OP
    };
}

size_t kn_ref_scratch_floats(const struct kn_limits *l)
{
    const int32_t rows = l->rows > l->patch_rows ? l->rows : l->patch_rows,
                  cols = l->cols > l->patch_cols ? l->cols : l->patch_cols;
    const size_t scores = (size_t)(l->kv_len > rows ? l->kv_len : rows);
    return 2 * (size_t)cols + scores + (size_t)l->experts + 4 * (size_t)l->head_dim + 64;
}

static int ref_open(int index, const struct kn_device_options *options, struct kn_device **ret_device, struct err *err)
{
    struct kn_device *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(err, ERR_NOMEM, "out of memory: device ref");
    kn_ref_table(&d->raw);
    d->info = (struct kn_device_info){.name = "ref", .description = "reference, one thread, double accumulators", .threads = 1};
    *ret_device = d;
    return 0;
}

static void ref_close(struct kn_device *device)
{
    free(device);
}

static int ref_stream_open(struct kn_device *device, const struct kn_limits *limits, struct kn_stream **ret_stream,
                           struct err *err)
{
    struct kn_stream *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "out of memory: a stream");
    s->scratch_floats = kn_ref_scratch_floats(limits);
    s->scratch = calloc(s->scratch_floats, sizeof(float));
    if (!s->scratch) {
        free(s);
        return err_set(err, ERR_NOMEM, "out of memory: a stream's workspace");
    }
    *ret_stream = s;
    return 0;
}

static size_t ref_stream_bytes(const struct kn_device *device, const struct kn_limits *limits)
{
    return kn_ref_scratch_floats(limits) * sizeof(float);
}

static void ref_stream_close(struct kn_stream *stream)
{
    free(stream->scratch);
    free(stream);
}

const struct kn_backend kn_backend_ref = {
    .name = "ref",
    .open = ref_open,
    .close = ref_close,
    .alloc = kn_host_alloc,
    .free = kn_host_free,
    .upload = kn_host_copy_in,
    .download = kn_host_copy_out,
    .weight_begin = kn_plain_weight_begin,
    .weight_rows = kn_plain_weight_rows,
    .weight_end = kn_plain_weight_end,
    .weight_free = kn_plain_weight_free,
    .stream_open = ref_stream_open,
    .stream_close = ref_stream_close,
    .stream_bytes = ref_stream_bytes,
    .is_host = true,
};

/* ---- small pieces ------------------------------------------------------------------------------------------------------------ */

static float *row_of(const struct kn_mat *m, int64_t i)
{
    return m->data + i * m->stride;
}

static double dot(const float *a, const float *b, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static double silu(double u)
{
    return u / (1 + exp(-u));
}

static double sigmoid(double u)
{
    return 1 / (1 + exp(-u));
}

static double activate(double u, enum kn_act act)
{
    switch (act) {
    case KN_ACT_NONE: return u;
    case KN_ACT_GELU_TANH: return 0.5 * u * (1 + tanh(0.79788456080286535588 * (u + 0.044715 * u * u * u)));
    case KN_ACT_GELU_ERF: return 0.5 * u * (1 + erf(u * 0.70710678118654752440));
    }
    return u;
}

/* ---- rows -------------------------------------------------------------------------------------------------------------------- */

void kn_ref_embed(struct kn_stream *stream, const struct kn_embed_args *a)
{
    for (int32_t t = 0; t < a->y.rows; t++)
        if (a->step->tokens[t] >= 0)
            kn_weight_row(stream, a->table, 0, a->step->tokens[t], row_of(&a->y, t));
}

void kn_ref_put_rows(struct kn_stream *stream, const struct kn_put_rows_args *a)
{
    for (int32_t i = 0; i < a->x.rows; i++)
        memcpy(row_of(&a->y, a->row0 + i), row_of(&a->x, i), (size_t)a->x.cols * sizeof(float));
}

void kn_ref_gather_rows(struct kn_stream *stream, const struct kn_gather_rows_args *a)
{
    for (int32_t i = 0; i < a->y.rows; i++)
        memcpy(row_of(&a->y, i), row_of(&a->x, a->rows[i]), (size_t)a->y.cols * sizeof(float));
}

void kn_ref_copy(struct kn_stream *stream, const struct kn_copy_args *a)
{
    memcpy(a->dst, a->src, a->bytes);
}

void kn_ref_fill_zero(struct kn_stream *stream, const struct kn_fill_zero_args *a)
{
    memset(a->dst, 0, a->bytes);
}

/* ---- norms ------------------------------------------------------------------------------------------------------------------- */

static void add_into(const struct kn_mat *x, const struct kn_mat *res)
{
    for (int32_t t = 0; res->data && t < x->rows; t++)
        for (int32_t i = 0; i < x->cols; i++)
            row_of(x, t)[i] += row_of(res, t)[i];
}

void kn_ref_add_rms_norm(struct kn_stream *stream, const struct kn_add_rms_norm_args *a)
{
    add_into(&a->x, &a->res);
    for (int32_t t = 0; t < a->x.rows; t++) {
        const float *x = row_of(&a->x, t);
        const double scale = 1 / sqrt(dot(x, x, a->x.cols) / a->x.cols + (double)a->eps);
        for (int32_t i = 0; i < a->x.cols; i++)
            row_of(&a->y, t)[i] = (float)(x[i] * scale * a->w[i]);
    }
}

void kn_ref_gated_rms_norm(struct kn_stream *stream, const struct kn_gated_rms_norm_args *a)
{
    const int32_t D = a->x.cols / a->n_heads;
    for (int32_t t = 0; t < a->x.rows; t++)
        for (int32_t h = 0; h < a->n_heads; h++) {
            const float *x = row_of(&a->x, t) + h * D, *z = row_of(&a->z, t) + h * D;
            const double scale = 1 / sqrt(dot(x, x, D) / D + (double)a->eps);
            for (int32_t i = 0; i < D; i++)
                row_of(&a->y, t)[h * D + i] = (float)(x[i] * scale * a->w[i] * silu(z[i]));
        }
}

void kn_ref_add_layer_norm(struct kn_stream *stream, const struct kn_add_layer_norm_args *a)
{
    add_into(&a->x, &a->res);
    const int32_t E = a->x.cols;
    for (int32_t t = 0; t < a->x.rows; t++) {
        const float *x = row_of(&a->x, t);
        double mean = 0, var = 0;
        for (int32_t i = 0; i < E; i++)
            mean += (double)x[i] / E;
        for (int32_t i = 0; i < E; i++)
            var += (x[i] - mean) * (x[i] - mean) / E;
        for (int32_t i = 0; i < E; i++)
            row_of(&a->y, t)[i] = (float)((x[i] - mean) / sqrt(var + (double)a->eps) * a->w[i] + a->b[i]);
    }
}

/* ---- matrix products --------------------------------------------------------------------------------------------------------- */

/* One weight times all rows of x. */
static void product(struct kn_stream *stream, const struct kn_mat *x, const struct kn_weight *w, kn_vec bias, enum kn_act act,
                    bool accumulate, const struct kn_mat *y)
{
    float *row = stream->scratch;
    for (int32_t o = 0; o < w->rows; o++) {
        kn_weight_row(stream, w, 0, o, row);
        for (int32_t t = 0; t < x->rows; t++) {
            const double u = activate(dot(row_of(x, t), row, w->cols) + (bias ? (double)bias[o] : 0), act);
            float *out = row_of(y, t) + o;
            *out = (float)(accumulate ? *out + u : u);
        }
    }
}

void kn_ref_linear(struct kn_stream *stream, const struct kn_linear_args *a)
{
    product(stream, &a->x, a->w, a->bias, a->act, a->accumulate, &a->y);
    if (a->then)
        kn_ref_add_rms_norm(stream, a->then);
}

void kn_ref_project(struct kn_stream *stream, const struct kn_project_args *a)
{
    for (int32_t i = 0; i < a->n; i++)
        product(stream, &a->x, a->w[i], NULL, KN_ACT_NONE, false, &a->y[i]);
}

void kn_ref_gate_up(struct kn_stream *stream, const struct kn_gate_up_args *a)
{
    float *gate = stream->scratch, *up = stream->scratch + a->gate->cols;
    for (int32_t o = 0; o < a->gate->rows; o++) {
        kn_weight_row(stream, a->gate, 0, o, gate);
        kn_weight_row(stream, a->up, 0, o, up);
        for (int32_t t = 0; t < a->x.rows; t++) {
            const float *x = row_of(&a->x, t);
            row_of(&a->y, t)[o] = (float)(silu(dot(x, gate, a->x.cols)) * dot(x, up, a->x.cols));
        }
    }
}

/* ---- experts ----------------------------------------------------------------------------------------------------------------- */

void kn_ref_moe_route(struct kn_stream *stream, const struct kn_moe_route_args *a)
{
    const int32_t n = a->w->rows, k = a->k;
    float *row = stream->scratch, *logits = stream->scratch + a->w->cols;
    for (int32_t t = 0; t < a->x.rows; t++) {
        double top = -INFINITY, sum = 0, chosen = 0;
        for (int32_t e = 0; e < n; e++) {
            kn_weight_row(stream, a->w, 0, e, row);
            logits[e] = (float)dot(row_of(&a->x, t), row, a->w->cols);
            top = fmax(top, logits[e]);
        }
        for (int32_t e = 0; e < n; e++)
            sum += exp(logits[e] - top);
        int32_t *ids = a->ids + (int64_t)t * k;
        float *weights = row_of(&a->weights, t);
        for (int32_t i = 0; i < k; i++) {
            int32_t best = -1;
            for (int32_t e = 0; e < n; e++)
                if (!isnan(logits[e]) && (best < 0 || logits[e] > logits[best]))
                    best = e;
            if (best < 0) {
                kn_stream_fail(stream, "moe_route", ERR_DEVICE, "router logits are not numbers in row %d", t);
                return;
            }
            ids[i] = best;
            weights[i] = (float)(exp(logits[best] - top) / sum);
            chosen += (double)weights[i];
            logits[best] = NAN; /* taken */
        }
        for (int32_t i = 0; i < k; i++)
            weights[i] = (float)(weights[i] / fmax(chosen, 0x1p-14));
        if (a->shared)
            row_of(&a->gates, t)[0] = (float)sigmoid(dot(row_of(&a->x, t), a->shared, a->x.cols));
    }
}

void kn_ref_moe_gate_up(struct kn_stream *stream, const struct kn_moe_gate_up_args *a)
{
    const int32_t F = a->y.cols;
    float *gate = stream->scratch, *up = stream->scratch + a->gate->cols;
    for (int32_t r = 0; r < a->x.rows * a->k; r++) {
        const float *x = row_of(&a->x, r / a->k);
        for (int32_t o = 0; o < F; o++) {
            kn_weight_row(stream, a->gate, a->ids[r], o, gate);
            kn_weight_row(stream, a->up ? a->up : a->gate, a->ids[r], a->up ? o : F + o, up);
            row_of(&a->y, r)[o] = (float)(silu(dot(x, gate, a->x.cols)) * dot(x, up, a->x.cols));
        }
    }
    if (a->shared_gate)
        kn_ref_gate_up(stream,
                       &(struct kn_gate_up_args){.x = a->x, .gate = a->shared_gate, .up = a->shared_up, .y = a->shared_y});
}

void kn_ref_moe_down(struct kn_stream *stream, const struct kn_moe_down_args *a)
{
    float *row = stream->scratch;
    for (int32_t t = 0; t < a->y.rows; t++)
        for (int32_t o = 0; o < a->y.cols; o++) {
            double sum = 0;
            for (int32_t i = 0; i < a->k; i++) {
                const int64_t r = (int64_t)t * a->k + i;
                kn_weight_row(stream, a->down, a->ids[r], o, row);
                sum += (double)row_of(&a->weights, t)[i] * dot(row_of(&a->h, r), row, a->down->cols);
            }
            if (a->shared_down) {
                kn_weight_row(stream, a->shared_down, 0, o, row);
                sum += (double)row_of(&a->gates, t)[0] * dot(row_of(&a->shared_h, t), row, a->shared_down->cols);
            }
            row_of(&a->y, t)[o] = (float)sum;
        }
    if (a->then)
        kn_ref_add_rms_norm(stream, a->then);
}

/* ---- the next token ------------------------------------------------------------------------------------------------------------ */

void kn_ref_top_k(struct kn_stream *stream, const struct kn_top_k_args *a)
{
    const int32_t n_words = (a->x.cols + 31) / 32;
    for (int32_t t = 0; t < a->x.rows; t++) {
        const float *x = row_of(&a->x, t);
        const uint32_t *mask = a->mask ? a->mask + (int64_t)t * n_words : NULL;
        struct kn_top *y = a->y + (int64_t)t * a->k;
        for (int32_t n = 0; n < a->k; n++) {
            y[n] = (struct kn_top){-INFINITY, -1};
            for (int32_t i = 0; i < a->x.cols; i++) {
                const bool is_allowed = (!mask || mask[i / 32] >> i % 32 & 1) && !isnan(x[i]);
                /* one that comes behind what was taken before it, in the order of the result */
                const bool is_left = n == 0 || x[i] < y[n - 1].x || (x[i] == y[n - 1].x && i > y[n - 1].index);
                if (is_allowed && is_left && (y[n].index < 0 || x[i] > y[n].x))
                    y[n] = (struct kn_top){x[i], i};
            }
            if (y[n].index < 0) {
                while (++n < a->k)
                    y[n] = (struct kn_top){-INFINITY, -1};
                break;
            }
        }
    }
}
