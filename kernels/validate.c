/*
 * validate - checks an op's args before it runs: shapes that belong together, types, ranges of indices (where memory is the
 * host's).
 */
#include "kernels/device.h"

/* ---- small checks ------------------------------------------------------------------------------------------------------------ */

#define REQUIRE(condition, ...)                                                                                                \
    do {                                                                                                                       \
        if (!(condition))                                                                                                      \
            return err_set(err, ERR_INVAL, __VA_ARGS__);                                                                       \
    } while (0)

static int check_mat(const struct kn_mat *m, const char *name, int32_t rows, int32_t cols, struct err *err)
{
    REQUIRE(m->data, "%s is missing", name);
    REQUIRE(m->rows == rows && m->cols == cols, "%s is [%d, %d], expected [%d, %d]", name, m->rows, m->cols, rows, cols);
    REQUIRE(rows > 0 && cols > 0, "%s is empty", name);
    REQUIRE(m->stride >= m->cols, "%s: stride %lld below %d columns", name, (long long)m->stride, m->cols);
    REQUIRE((uintptr_t)m->data % sizeof(float) == 0, "%s is not aligned to a float", name);
    return 0;
}

/* rows or columns that a caller is free to choose */
static int check_any(const struct kn_mat *m, const char *name, struct err *err)
{
    return check_mat(m, name, m->rows, m->cols, err);
}

static int check_weight(const struct kn_weight *w, const char *name, int32_t rows, int32_t cols, bool is_stack, struct err *err)
{
    REQUIRE(w && w->data, "weight %s is missing", name);
    REQUIRE(w->rows == rows && w->cols == cols, "weight %s is [%d, %d], expected [%d, %d]", name, w->rows, w->cols, rows, cols);
    REQUIRE(is_stack || w->slices == 1, "weight %s has %d slices", name, w->slices);
    return 0;
}

static int check_limits(const struct kn_stream *s, int32_t rows, int32_t cols, struct err *err)
{
    const struct kn_limits *l = &s->limits;
    if (rows <= l->patch_rows && cols <= l->patch_cols)
        return 0;
    REQUIRE(rows <= l->rows, "%d rows, the stream was opened for %d", rows, l->rows);
    REQUIRE(cols <= l->cols, "%d columns, the stream was opened for %d", cols, l->cols);
    return 0;
}

#define CHECK(call)                                                                                                            \
    do {                                                                                                                       \
        const int check_rc = (call);                                                                                           \
        if (check_rc != 0)                                                                                                     \
            return check_rc;                                                                                                   \
    } while (0)

static bool overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
    const char *p = a, *q = b;
    return p < q + b_bytes && q < p + a_bytes;
}

static size_t mat_bytes(const struct kn_mat *m)
{
    return ((size_t)(m->rows - 1) * (size_t)m->stride + (size_t)m->cols) * sizeof(float);
}

static int check_apart(const struct kn_mat *out, const struct kn_mat *in, const char *names, struct err *err)
{
    REQUIRE(!overlap(out->data, mat_bytes(out), in->data, mat_bytes(in)), "%s overlap", names);
    return 0;
}

/* For ops whose y may be x: the same rows, or none of them. */
static int check_same_or_apart(const struct kn_mat *out, const struct kn_mat *in, const char *names, struct err *err)
{
    if (out->data == in->data && (out->stride == in->stride || out->rows == 1))
        return 0;
    return check_apart(out, in, names, err);
}

/* The step block against what it is used with: rows in order and without gaps, each slot once, slots and pages in range. */
static int check_step(const struct kn_stream *s, const struct kn_step *step, int32_t rows, int32_t n_slots,
                      const struct kn_kv *kv, struct err *err)
{
    REQUIRE(step, "the step is missing");
    if (!s->device->backend->is_host)
        return 0;
    REQUIRE(step->n_rows == rows, "%d rows, the step has %d", rows, step->n_rows);
    REQUIRE(step->n_seqs >= 1 && step->n_seqs <= s->limits.seqs, "%d sequences, the stream was opened for %d", step->n_seqs,
            s->limits.seqs);
    REQUIRE(step->seqs && step->seq_of_row && (!kv || (step->pages && step->pos)), "an array of the step is missing");
    int32_t row = 0;
    for (int32_t i = 0; i < step->n_seqs; i++) {
        const struct kn_seq *q = &step->seqs[i];
        REQUIRE(q->row0 == row && q->n_rows > 0 && q->n_rows <= rows - row && q->past >= 0,
                "sequence %d: row0 %d (expected %d), %d rows of %d, past %d", i, q->row0, row, q->n_rows, rows, q->past);
        for (int32_t t = row; t < row + q->n_rows; t++)
            REQUIRE(step->seq_of_row[t] == i, "row %d belongs to sequence %d, the step says %d", t, i, step->seq_of_row[t]);
        row += q->n_rows;
        const int64_t tokens = (int64_t)q->past + q->n_rows;
        REQUIRE(tokens <= INT32_MAX && (!kv || tokens <= s->limits.kv_len),
                "sequence %d: %lld tokens, the stream was opened for %d", i, (long long)tokens, s->limits.kv_len);
        if (n_slots >= 0) {
            REQUIRE(q->slot >= 0 && q->slot < n_slots, "sequence %d: slot %d of %d", i, q->slot, n_slots);
            for (int32_t j = 0; j < i; j++)
                REQUIRE(step->seqs[j].slot != q->slot, "sequences %d and %d share slot %d", j, i, q->slot);
        }
        REQUIRE(!kv || q->page0 >= 0, "sequence %d: its page list starts at %d", i, q->page0);
        for (int32_t p = 0; kv && p <= (tokens - 1) / KN_PAGE_TOKENS; p++)
            REQUIRE(step->pages[q->page0 + p] >= 0 && step->pages[q->page0 + p] < kv->n_pages, "sequence %d: page %d of %d", i,
                    step->pages[q->page0 + p], kv->n_pages);
    }
    REQUIRE(row == rows, "the sequences have %d rows, the step %d", row, rows);
    return 0;
}

/* ---- rows -------------------------------------------------------------------------------------------------------------------- */

int kn_validate_embed(const struct kn_stream *s, const struct kn_embed_args *a, struct err *err)
{
    CHECK(check_weight(a->table, "table", a->table ? a->table->rows : 0, a->y.cols, false, err));
    CHECK(check_any(&a->y, "y", err));
    CHECK(check_limits(s, a->y.rows, a->y.cols, err));
    CHECK(check_step(s, a->step, a->y.rows, -1, NULL, err));
    for (int32_t t = 0; s->device->backend->is_host && t < a->y.rows; t++)
        REQUIRE(a->step->tokens[t] < a->table->rows, "token %d in row %d, the table has %d rows", a->step->tokens[t], t,
                a->table->rows);
    return 0;
}

int kn_validate_put_rows(const struct kn_stream *s, const struct kn_put_rows_args *a, struct err *err)
{
    CHECK(check_any(&a->x, "x", err));
    CHECK(check_mat(&a->y, "y", a->y.rows, a->x.cols, err));
    REQUIRE(a->row0 >= 0 && a->row0 <= a->y.rows - a->x.rows, "rows %d to %d of %d", a->row0, a->row0 + a->x.rows, a->y.rows);
    return check_apart(&a->y, &a->x, "x and y", err);
}

int kn_validate_gather_rows(const struct kn_stream *s, const struct kn_gather_rows_args *a, struct err *err)
{
    CHECK(check_any(&a->x, "x", err));
    CHECK(check_mat(&a->y, "y", a->y.rows, a->x.cols, err));
    REQUIRE(a->rows, "rows is missing");
    for (int32_t i = 0; s->device->backend->is_host && i < a->y.rows; i++)
        REQUIRE(a->rows[i] >= 0 && a->rows[i] < a->x.rows, "row %d of %d is asked for", a->rows[i], a->x.rows);
    return check_apart(&a->y, &a->x, "x and y", err);
}

int kn_validate_copy(const struct kn_stream *s, const struct kn_copy_args *a, struct err *err)
{
    REQUIRE(a->bytes == 0 || (a->dst && a->src), "a pointer is missing");
    REQUIRE(a->bytes == 0 || !overlap(a->dst, a->bytes, a->src, a->bytes), "source and destination overlap");
    return 0;
}

int kn_validate_fill_zero(const struct kn_stream *s, const struct kn_fill_zero_args *a, struct err *err)
{
    REQUIRE(a->bytes == 0 || a->dst, "the pointer is missing");
    return 0;
}

/* ---- norms ------------------------------------------------------------------------------------------------------------------- */

int kn_validate_add_rms_norm(const struct kn_stream *s, const struct kn_add_rms_norm_args *a, struct err *err)
{
    CHECK(check_any(&a->x, "x", err));
    CHECK(check_limits(s, a->x.rows, a->x.cols, err));
    if (a->res.data) {
        CHECK(check_mat(&a->res, "res", a->x.rows, a->x.cols, err));
        CHECK(check_apart(&a->x, &a->res, "x and res", err));
    }
    REQUIRE(a->w, "w is missing");
    REQUIRE(a->eps >= 0, "eps is %g", (double)a->eps);
    CHECK(check_mat(&a->y, "y", a->x.rows, a->x.cols, err));
    if (a->res.data)
        CHECK(check_apart(&a->y, &a->res, "y and res", err));
    return check_same_or_apart(&a->y, &a->x, "x and y", err);
}

int kn_validate_gated_rms_norm(const struct kn_stream *s, const struct kn_gated_rms_norm_args *a, struct err *err)
{
    CHECK(check_any(&a->x, "x", err));
    REQUIRE(a->w, "w is missing");
    REQUIRE(a->n_heads > 0 && a->x.cols % a->n_heads == 0, "%d columns in %d heads", a->x.cols, a->n_heads);
    REQUIRE(a->eps >= 0, "eps is %g", (double)a->eps);
    CHECK(check_mat(&a->z, "z", a->x.rows, a->x.cols, err));
    CHECK(check_mat(&a->y, "y", a->x.rows, a->x.cols, err));
    CHECK(check_apart(&a->y, &a->z, "y and z", err));
    return check_same_or_apart(&a->y, &a->x, "x and y", err);
}

int kn_validate_add_layer_norm(const struct kn_stream *s, const struct kn_add_layer_norm_args *a, struct err *err)
{
    CHECK(check_any(&a->x, "x", err));
    CHECK(check_limits(s, a->x.rows, a->x.cols, err));
    if (a->res.data) {
        CHECK(check_mat(&a->res, "res", a->x.rows, a->x.cols, err));
        CHECK(check_apart(&a->x, &a->res, "x and res", err));
    }
    REQUIRE(a->w && a->b, "w or b is missing");
    REQUIRE(a->eps >= 0, "eps is %g", (double)a->eps);
    CHECK(check_mat(&a->y, "y", a->x.rows, a->x.cols, err));
    if (a->res.data)
        CHECK(check_apart(&a->y, &a->res, "y and res", err));
    return check_apart(&a->y, &a->x, "x and y", err);
}

/* ---- matrix products --------------------------------------------------------------------------------------------------------- */

/* The norm that follows y. */
static int check_then(const struct kn_stream *s, const struct kn_add_rms_norm_args *then, const struct kn_mat *y,
                      struct err *err)
{
    if (!then)
        return 0;
    REQUIRE(then->res.data == y->data && then->res.stride == y->stride, "the norm that follows is not of y");
    return kn_validate_add_rms_norm(s, then, err);
}

int kn_validate_linear(const struct kn_stream *s, const struct kn_linear_args *a, struct err *err)
{
    CHECK(check_any(&a->x, "x", err));
    CHECK(check_limits(s, a->x.rows, a->x.cols, err));
    CHECK(check_weight(a->w, "w", a->y.cols, a->x.cols, false, err));
    REQUIRE(a->y.cols <= s->limits.outputs, "%d outputs, the stream was opened for %d", a->y.cols, s->limits.outputs);
    CHECK(check_mat(&a->y, "y", a->x.rows, a->w->rows, err));
    REQUIRE(a->act >= KN_ACT_NONE && a->act <= KN_ACT_GELU_ERF, "activation %d", (int)a->act);
    CHECK(check_apart(&a->y, &a->x, "x and y", err));
    return check_then(s, a->then, &a->y, err);
}

int kn_validate_project(const struct kn_stream *s, const struct kn_project_args *a, struct err *err)
{
    REQUIRE(a->n >= 1 && a->n <= KN_PROJECT_MAX, "%d projections, at most %d", a->n, KN_PROJECT_MAX);
    for (int32_t i = 0; i < a->n; i++) {
        CHECK(kn_validate_linear(s, &(struct kn_linear_args){.x = a->x, .w = a->w[i], .y = a->y[i]}, err));
        for (int32_t j = 0; j < i; j++)
            CHECK(check_apart(&a->y[i], &a->y[j], "two outputs", err));
    }
    return 0;
}

int kn_validate_gate_up(const struct kn_stream *s, const struct kn_gate_up_args *a, struct err *err)
{
    CHECK(kn_validate_linear(s, &(struct kn_linear_args){.x = a->x, .w = a->gate, .y = a->y}, err));
    return check_weight(a->up, "up", a->y.cols, a->x.cols, false, err);
}

/* ---- attention --------------------------------------------------------------------------------------------------------------- */

static int check_kv(const struct kn_stream *s, const struct kn_kv *kv, struct err *err)
{
    REQUIRE(kv && kv->k && kv->v, "the KV cache is missing");
    REQUIRE(kv->dtype == KN_F32 || kv->dtype == KN_F16 || kv->dtype == KN_Q8_0, "a KV cache of type %s",
            kn_dtype_name(kv->dtype));
    REQUIRE(kv->head_dim > 0 && kv->head_dim <= KN_REF_HEAD_MAX && kn_row_bytes(kv->dtype, kv->head_dim) > 0,
            "a KV head size of %d", kv->head_dim);
    REQUIRE(kv->head_dim <= s->limits.head_dim, "heads of %d, the stream was opened for %d", kv->head_dim, s->limits.head_dim);
    REQUIRE(kv->n_heads > 0 && kv->n_pages > 0, "a KV cache of %d heads and %d pages", kv->n_heads, kv->n_pages);
    return 0;
}

int kn_validate_attn_store(const struct kn_stream *s, const struct kn_attn_store_args *a, struct err *err)
{
    CHECK(check_kv(s, a->kv, err));
    CHECK(check_any(&a->q, "q", err));
    const int32_t D = a->kv->head_dim, T = a->q.rows;
    REQUIRE(a->q.cols % D == 0, "q has %d columns, heads have %d", a->q.cols, D);
    CHECK(check_mat(&a->qg, "qg", T, 2 * a->q.cols, err));
    CHECK(check_mat(&a->k, "k", T, a->kv->n_heads * D, err));
    CHECK(check_mat(&a->v, "v", T, a->kv->n_heads * D, err));
    REQUIRE(a->q_norm && a->k_norm && (a->n_pairs == 0 || (a->inv_freq && a->axis)), "a norm or a rotary table is missing");
    REQUIRE(a->n_pairs >= 0 && a->n_pairs <= D / 2, "%d rotary pairs in a head of %d", a->n_pairs, D);
    for (int32_t i = 0; s->device->backend->is_host && i < a->n_pairs; i++)
        REQUIRE(a->axis[i] >= 0 && a->axis[i] <= 2, "rotary pair %d turns by axis %d", i, a->axis[i]);
    REQUIRE(a->eps >= 0, "eps is %g", (double)a->eps);
    CHECK(check_apart(&a->q, &a->qg, "q and qg", err));
    return check_step(s, a->step, T, -1, a->kv, err);
}

int kn_validate_attn(const struct kn_stream *s, const struct kn_attn_args *a, struct err *err)
{
    CHECK(check_kv(s, a->kv, err));
    CHECK(check_any(&a->q, "q", err));
    const int32_t D = a->kv->head_dim, T = a->q.rows;
    REQUIRE(a->q.cols % D == 0 && a->q.cols / D % a->kv->n_heads == 0, "%d query columns, head size %d, %d KV heads", a->q.cols,
            D, a->kv->n_heads);
    if (a->gate.data)
        CHECK(check_mat(&a->gate, "gate", T, 2 * a->q.cols, err));
    CHECK(check_mat(&a->y, "y", T, a->q.cols, err));
    CHECK(check_apart(&a->y, &a->q, "q and y", err));
    if (a->gate.data)
        CHECK(check_apart(&a->y, &a->gate, "gate and y", err));
    return check_step(s, a->step, T, -1, a->kv, err);
}

/* ---- Gated DeltaNet ---------------------------------------------------------------------------------------------------------- */

static int check_heads(int32_t n_k, int32_t n_v, int32_t d_k, int32_t d_v, int32_t cols, struct err *err)
{
    REQUIRE(n_k > 0 && n_v > 0 && d_k > 0 && d_v > 0 && n_v % n_k == 0, "%d key heads of %d, %d value heads of %d", n_k, d_k,
            n_v, d_v);
    REQUIRE(cols == 2 * n_k * d_k + n_v * d_v, "%d channels, the heads make %d", cols, 2 * n_k * d_k + n_v * d_v);
    return 0;
}

int kn_validate_gdn_conv(const struct kn_stream *s, const struct kn_gdn_conv_args *a, struct err *err)
{
    CHECK(check_any(&a->x, "x", err));
    CHECK(check_heads(a->n_k, a->n_v, a->d_k, a->d_v, a->x.cols, err));
    REQUIRE(a->w && a->state && a->taps >= 1 && a->taps <= 16, "w or state is missing, or %d taps", a->taps);
    CHECK(check_mat(&a->y, "y", a->x.rows, a->x.cols, err));
    CHECK(check_same_or_apart(&a->y, &a->x, "x and y", err));
    return check_step(s, a->step, a->x.rows, a->n_slots, NULL, err);
}

int kn_validate_gdn_scan(const struct kn_stream *s, const struct kn_gdn_scan_args *a, struct err *err)
{
    CHECK(check_any(&a->qkv, "qkv", err));
    CHECK(check_heads(a->n_k, a->n_v, a->d_k, a->d_v, a->qkv.cols, err));
    const int32_t T = a->qkv.rows;
    CHECK(check_mat(&a->b, "b", T, a->n_v, err));
    CHECK(check_mat(&a->alpha, "alpha", T, a->n_v, err));
    CHECK(check_mat(&a->y, "y", T, a->n_v * a->d_v, err));
    REQUIRE(a->a && a->dt && a->state && a->state->data, "a, dt or state is missing");
    REQUIRE(a->state->bytes_per_slot >= kn_gdn_state_bytes(a->n_k, a->n_v, a->d_k, a->d_v), "state slots of %zu bytes",
            a->state->bytes_per_slot);
    CHECK(check_apart(&a->y, &a->qkv, "qkv and y", err));
    if (a->z.data) {
        REQUIRE(a->norm, "norm is missing");
        REQUIRE(a->eps >= 0, "eps is %g", (double)a->eps);
        CHECK(check_mat(&a->z, "z", T, a->n_v * a->d_v, err));
        CHECK(check_apart(&a->y, &a->z, "y and z", err));
    }
    return check_step(s, a->step, T, a->state->n_slots, NULL, err);
}

/* ---- experts ----------------------------------------------------------------------------------------------------------------- */

static int check_ids(const struct kn_stream *s, const int32_t *ids, int64_t n, int32_t n_experts, struct err *err)
{
    REQUIRE(ids, "ids is missing");
    for (int64_t i = 0; s->device->backend->is_host && i < n; i++)
        REQUIRE(ids[i] >= 0 && ids[i] < n_experts, "expert %d of %d", ids[i], n_experts);
    return 0;
}

int kn_validate_moe_route(const struct kn_stream *s, const struct kn_moe_route_args *a, struct err *err)
{
    CHECK(check_any(&a->x, "x", err));
    CHECK(check_weight(a->w, "w", a->w ? a->w->rows : 0, a->x.cols, false, err));
    CHECK(check_limits(s, a->x.rows, a->x.cols, err));
    REQUIRE(a->k >= 1 && a->k <= a->w->rows && a->w->rows <= s->limits.experts,
            "%d of %d experts, the stream was opened for %d", a->k, a->w->rows, s->limits.experts);
    REQUIRE(a->ids, "ids is missing");
    if (a->shared) {
        CHECK(check_mat(&a->gates, "gates", a->x.rows, 1, err));
        CHECK(check_apart(&a->gates, &a->x, "x and gates", err));
    }
    return check_mat(&a->weights, "weights", a->x.rows, a->k, err);
}

int kn_validate_moe_gate_up(const struct kn_stream *s, const struct kn_moe_gate_up_args *a, struct err *err)
{
    CHECK(check_any(&a->x, "x", err));
    CHECK(check_any(&a->y, "y", err));
    REQUIRE(a->k >= 1 && a->y.rows == a->x.rows * a->k, "%d rows for %d tokens and %d experts each", a->y.rows, a->x.rows,
            a->k);
    REQUIRE(a->k <= s->limits.experts_used, "%d experts a token, the stream was opened for %d", a->k, s->limits.experts_used);
    CHECK(check_limits(s, a->x.rows, a->x.cols, err));
    CHECK(check_weight(a->gate, "gate", a->up ? a->y.cols : 2 * a->y.cols, a->x.cols, true, err));
    if (a->up) {
        CHECK(check_weight(a->up, "up", a->y.cols, a->x.cols, true, err));
        REQUIRE(a->up->slices == a->gate->slices, "%d gate slices, %d up", a->gate->slices, a->up->slices);
    }
    CHECK(check_apart(&a->y, &a->x, "x and y", err));
    REQUIRE(!a->shared_gate == !a->shared_up, "of the shared expert %s is missing", a->shared_gate ? "up" : "gate");
    if (a->shared_gate) {
        CHECK(check_any(&a->shared_y, "shared_y", err));
        CHECK(check_mat(&a->shared_y, "shared_y", a->x.rows, a->shared_y.cols, err));
        CHECK(check_weight(a->shared_gate, "shared_gate", a->shared_y.cols, a->x.cols, false, err));
        CHECK(check_weight(a->shared_up, "shared_up", a->shared_y.cols, a->x.cols, false, err));
        CHECK(check_apart(&a->shared_y, &a->x, "x and shared_y", err));
        CHECK(check_apart(&a->shared_y, &a->y, "y and shared_y", err));
    }
    return check_ids(s, a->ids, a->y.rows, a->gate->slices, err);
}

int kn_validate_moe_down(const struct kn_stream *s, const struct kn_moe_down_args *a, struct err *err)
{
    CHECK(check_any(&a->h, "h", err));
    CHECK(check_any(&a->y, "y", err));
    REQUIRE(a->k >= 1 && a->h.rows == a->y.rows * a->k, "%d rows for %d tokens and %d experts each", a->h.rows, a->y.rows,
            a->k);
    REQUIRE(a->k <= s->limits.experts_used, "%d experts a token, the stream was opened for %d", a->k, s->limits.experts_used);
    CHECK(check_limits(s, a->y.rows, a->h.cols, err));
    CHECK(check_mat(&a->weights, "weights", a->y.rows, a->k, err));
    CHECK(check_weight(a->down, "down", a->y.cols, a->h.cols, true, err));
    CHECK(check_apart(&a->y, &a->h, "h and y", err));
    if (a->shared_down) {
        CHECK(check_any(&a->shared_h, "shared_h", err));
        CHECK(check_mat(&a->shared_h, "shared_h", a->y.rows, a->shared_h.cols, err));
        CHECK(check_limits(s, a->y.rows, a->shared_h.cols, err));
        CHECK(check_mat(&a->gates, "gates", a->y.rows, 1, err));
        CHECK(check_weight(a->shared_down, "shared_down", a->y.cols, a->shared_h.cols, false, err));
        CHECK(check_apart(&a->y, &a->shared_h, "shared_h and y", err));
    }
    CHECK(check_then(s, a->then, &a->y, err));
    return check_ids(s, a->ids, a->h.rows, a->down->slices, err);
}

/* ---- the next token ---------------------------------------------------------------------------------------------------------- */

int kn_validate_top_k(const struct kn_stream *s, const struct kn_top_k_args *a, struct err *err)
{
    CHECK(check_any(&a->x, "x", err));
    REQUIRE(a->x.rows <= s->limits.rows, "%d rows, the stream was opened for %d", a->x.rows, s->limits.rows);
    REQUIRE(a->x.cols <= s->limits.outputs, "%d columns, the stream was opened for %d", a->x.cols, s->limits.outputs);
    REQUIRE(a->k >= 1 && a->k <= KN_TOP_K_MAX, "the %d largest, 1 to %d are possible", a->k, KN_TOP_K_MAX);
    REQUIRE(a->y, "y is missing");
    return 0;
}

/* ---- vision ------------------------------------------------------------------------------------------------------------------ */

static int check_grid(int32_t grid_w, int32_t grid_h, int32_t merge, int32_t rows, struct err *err)
{
    REQUIRE(merge >= 1 && grid_w > 0 && grid_h > 0 && grid_w % merge == 0 && grid_h % merge == 0,
            "a grid of %d x %d, merged by %d", grid_w, grid_h, merge);
    REQUIRE((int64_t)grid_w * grid_h == rows, "%d rows for a grid of %d x %d", rows, grid_w, grid_h);
    return 0;
}

int kn_validate_patchify(const struct kn_stream *s, const struct kn_patchify_args *a, struct err *err)
{
    CHECK(check_any(&a->y, "y", err));
    const int32_t n = a->patch_px;
    REQUIRE(a->rgb && n > 0 && a->width_px % n == 0 && a->height_px % n == 0, "a picture of %d x %d in patches of %d",
            a->width_px, a->height_px, n);
    REQUIRE(a->y.cols == 3 * n * n, "y has %d columns, a patch has %d values", a->y.cols, 3 * n * n);
    for (int c = 0; c < 3; c++)
        REQUIRE(a->stddev[c] > 0, "standard deviation %g", (double)a->stddev[c]);
    return check_grid(a->width_px / n, a->height_px / n, a->merge, a->y.rows, err);
}

int kn_validate_add_pos_embed(const struct kn_stream *s, const struct kn_add_pos_embed_args *a, struct err *err)
{
    CHECK(check_any(&a->x, "x", err));
    REQUIRE(a->grid && a->side >= 1, "the grid is missing");
    return check_grid(a->grid_w, a->grid_h, a->merge, a->x.rows, err);
}

int kn_validate_rope_2d(const struct kn_stream *s, const struct kn_rope_2d_args *a, struct err *err)
{
    CHECK(check_any(&a->qkv, "qkv", err));
    REQUIRE(a->n_heads > 0 && a->qkv.cols % (3 * a->n_heads) == 0 && a->qkv.cols / (3 * a->n_heads) % 4 == 0,
            "%d columns are not q, k and v of %d heads of a multiple of 4", a->qkv.cols, a->n_heads);
    return check_grid(a->grid_w, a->grid_h, a->merge, a->qkv.rows, err);
}

int kn_validate_attn_full(const struct kn_stream *s, const struct kn_attn_full_args *a, struct err *err)
{
    CHECK(check_any(&a->qkv, "qkv", err));
    REQUIRE(a->n_heads > 0 && a->qkv.cols % (3 * a->n_heads) == 0, "%d columns are not q, k and v of %d heads", a->qkv.cols,
            a->n_heads);
    REQUIRE(a->qkv.cols / (3 * a->n_heads) <= KN_REF_HEAD_MAX, "a head size of %d", a->qkv.cols / (3 * a->n_heads));
    CHECK(check_limits(s, a->qkv.rows, 1, err));
    CHECK(check_mat(&a->y, "y", a->qkv.rows, a->qkv.cols / 3, err));
    return check_apart(&a->y, &a->qkv, "qkv and y", err);
}
