#include "engine/model_qwen35.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int32_t conv_channels(const struct model_shape *s)
{
    return 2 * s->n_k * s->d_k + s->n_v * s->d_v;
}

static int32_t max32(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* ---- the table of buffers -------------------------------------------------------------------------------------------- */

/* One row of the table: where the pointer goes, floats per row, and how many rows. */
struct buffer {
    size_t field; /* offset in struct qwen35 */
    int64_t floats;
};

#define BUFFERS_MAX 24

static int32_t buffer_table(const struct model_shape *s, int32_t rows, int32_t logits, struct buffer out[BUFFERS_MAX])
{
    const int64_t r = rows, E = s->n_embd, D = s->head_dim;
    const int64_t vd = (int64_t)s->n_v * s->d_v, k = s->n_experts_used;
    int32_t n = 0;
#define BUFFER(name, count) out[n++] = (struct buffer){offsetof(struct qwen35, name), (count)}
    BUFFER(x, r * E);
    BUFFER(h, r * E);
    BUFFER(a, r * E);
    BUFFER(qg, r * s->n_head * 2 * D);
    BUFFER(k, r * s->n_head_kv * D);
    BUFFER(v, r * s->n_head_kv * D);
    BUFFER(q, r * s->n_head * D);
    BUFFER(att, r * s->n_head * D);
    BUFFER(qkv, r * conv_channels(s));
    BUFFER(z, r * vd);
    BUFFER(b, r * s->n_v);
    BUFFER(alpha, r * s->n_v);
    BUFFER(o, r * vd);
    BUFFER(f, r * (s->is_moe ? s->n_ff_shared : s->n_ff));
    BUFFER(eh, s->is_moe ? r * k * s->n_ff_expert : 0);
    BUFFER(ew, s->is_moe ? r * k : 0);
    BUFFER(gates, s->is_moe ? r : 0);
    BUFFER(ids, s->is_moe ? r * k : 0);
    BUFFER(hn, logits * E);
    BUFFER(logits, (int64_t)logits * s->n_vocab);
    BUFFER(masks, (int64_t)logits * ((s->n_vocab + 31) / 32));
    BUFFER(tops, (int64_t)logits * KN_TOP_K_MAX * 2);
    BUFFER(inv_freq, s->n_rot / 2);
    BUFFER(axis, s->n_rot / 2);
#undef BUFFER
    return n;
}

static size_t buffer_bytes(const struct buffer *b)
{
    return ((size_t)b->floats * sizeof(float) + 63) / 64 * 64;
}

size_t qwen35_scratch_bytes(const struct model_shape *shape, int32_t max_rows, int32_t max_logits)
{
    struct buffer table[BUFFERS_MAX];
    const int32_t n = buffer_table(shape, max_rows, max_logits, table);
    size_t total = 0;
    for (int32_t i = 0; i < n; i++)
        total += buffer_bytes(&table[i]);
    return total;
}

struct kn_limits qwen35_limits(const struct model_shape *s, int32_t max_rows, int32_t max_seqs, int32_t max_kv)
{
    int32_t cols = max32(s->n_embd, s->n_head * 2 * s->head_dim);
    cols = max32(cols, conv_channels(s));
    cols = max32(cols, s->n_v * s->d_v);
    cols = max32(cols, max32(s->n_ff, max32(2 * s->n_ff_expert, s->n_ff_shared)));
    return (struct kn_limits){.rows = max_rows,
                              .cols = cols,
                              .outputs = max32(cols, s->n_vocab),
                              .seqs = max_seqs,
                              .kv_len = max_kv,
                              .heads = max32(s->n_head, s->n_v),
                              .head_dim = max32(s->head_dim, max32(s->d_k, s->d_v)),
                              .experts = s->n_experts,
                              .experts_used = s->n_experts_used};
}

/* ---- rotary embedding constants ----------------------------------------------------------------------------------------- */

/*
 * Spec 5.3. The plain frequencies are computed in float32 in the official implementation's order of operations, since a unit in
 * the last place of a frequency is a visible phase at far positions.
 */
static float rope_constants(const struct model_shape *s, float *inv_freq, int32_t *axis)
{
    const int32_t n = s->n_rot / 2;
    for (int32_t i = 0; i < n; i++) {
        inv_freq[i] = 1.0f / powf(s->rope_freq_base, (float)(2 * i) / (float)s->n_rot);
        if (i % 3 == 1 && i < 3 * s->rope_sections[1])
            axis[i] = 1;
        else if (i % 3 == 2 && i < 3 * s->rope_sections[2])
            axis[i] = 2;
        else
            axis[i] = 0;
    }
    if (s->rope_scaling == ROPE_LINEAR)
        for (int32_t i = 0; i < n; i++)
            inv_freq[i] /= s->rope_factor;
    if (s->rope_scaling != ROPE_YARN)
        return 1.0f;
    const double pi = 3.14159265358979323846, base = s->rope_freq_base, context = s->rope_original_context;
    const double slow = s->n_rot * log(context / (2 * pi * s->yarn_beta_slow)) / (2 * log(base));
    const double fast = s->n_rot * log(context / (2 * pi * s->yarn_beta_fast)) / (2 * log(base));
    const double lo = fmax(0, floor(fast)), hi = fmin(s->n_rot - 1, ceil(slow));
    for (int32_t i = 0; i < n; i++) {
        const double ramp = fmin(1, fmax(0, (i - lo) / fmax(0.001, hi - lo)));
        const double keep = (1 - ramp) * s->yarn_ext_factor; /* share of the unscaled frequency */
        inv_freq[i] = (float)(inv_freq[i] * ((1 - keep) / s->rope_factor + keep));
    }
    return (float)((1 + 0.1 * log(s->rope_factor)) * s->rope_attn_factor);
}

int qwen35_open(struct qwen35 *m, struct kn_device *device, struct kn_stream *stream, const struct model *model,
                int32_t max_rows, int32_t max_logits, struct err *err)
{
    const struct model_shape *s = &model->shape;
    *m = (struct qwen35){.device = device, .model = model, .max_rows = max_rows, .max_logits = max_logits};
    m->block_bytes = qwen35_scratch_bytes(s, max_rows, max_logits);
    float *inv_freq = NULL;
    int32_t *axis = NULL;
    int rc = kn_alloc(device, m->block_bytes, &m->block, err);
    if (rc != 0) {
        err_prefix(err, "scratch of %d rows", max_rows);
        goto fail;
    }
    struct buffer table[BUFFERS_MAX];
    const int32_t n = buffer_table(s, max_rows, max_logits, table);
    char *at = m->block;
    for (int32_t i = 0; i < n; i++) {
        void *p = table[i].floats ? at : NULL;
        memcpy((char *)m + table[i].field, &p, sizeof p);
        at += buffer_bytes(&table[i]);
    }
    const size_t n_pairs = (size_t)s->n_rot / 2;
    inv_freq = malloc(n_pairs * sizeof *inv_freq + 1);
    axis = malloc(n_pairs * sizeof *axis + 1);
    if (!inv_freq || !axis) {
        rc = err_set(err, ERR_NOMEM, "out of memory: rotary constants");
        goto fail;
    }
    m->rope_scale = rope_constants(s, inv_freq, axis);
    kn_upload(stream, m->inv_freq, inv_freq, n_pairs * sizeof *inv_freq);
    kn_upload(stream, m->axis, axis, n_pairs * sizeof *axis);
    if ((rc = kn_stream_sync(stream, err)) != 0)
        goto fail;
    free(inv_freq);
    free(axis);
    return 0;
fail:
    free(inv_freq);
    free(axis);
    qwen35_close(m);
    return rc;
}

void qwen35_close(struct qwen35 *m)
{
    if (m->block)
        kn_free(m->device, m->block);
    *m = (struct qwen35){0};
}

/* ---- the pass ----------------------------------------------------------------------------------------------------------- */

static struct kn_mat mat(float *data, int32_t rows, int32_t cols)
{
    return (struct kn_mat){.data = data, .rows = rows, .cols = cols, .stride = cols};
}

/* Gated full attention: h -> a, which `then` adds to x and norms. */
static void attention(struct qwen35 *m, const struct kn_ops *op, struct kn_stream *st, const struct model_layer *w,
                      const struct step *step, const struct kn_kv *kv, const struct kn_add_rms_norm_args *then)
{
    const struct model_shape *s = &m->model->shape;
    const int32_t T = step->n_rows, E = s->n_embd, HD = s->n_head * s->head_dim, GD = s->n_head_kv * s->head_dim;
    const struct kn_mat h = mat(m->h, T, E), qg = mat(m->qg, T, 2 * HD), k = mat(m->k, T, GD), v = mat(m->v, T, GD);
    const struct kn_mat q = mat(m->q, T, HD), y = mat(m->att, T, HD), a = mat(m->a, T, E);

    op->project(st, &(struct kn_project_args){.x = h, .n = 3, .w = {&w->wq, &w->wk, &w->wv}, .y = {qg, k, v}});
    op->attn_store(st, &(struct kn_attn_store_args){.step = step->device_step,
                                                    .qg = qg,
                                                    .k = k,
                                                    .v = v,
                                                    .q_norm = w->q_norm,
                                                    .k_norm = w->k_norm,
                                                    .eps = s->rms_eps,
                                                    .inv_freq = m->inv_freq,
                                                    .axis = m->axis,
                                                    .n_pairs = s->n_rot / 2,
                                                    .rope_scale = m->rope_scale,
                                                    .kv = kv,
                                                    .q = q});
    op->attn(st,
             &(struct kn_attn_args){
                 .step = step->device_step, .q = q, .gate = qg, .kv = kv, .scale = 1.0f / sqrtf((float)s->head_dim), .y = y});
    op->linear(st, &(struct kn_linear_args){.x = y, .w = &w->wo, .y = a, .then = then});
}

/* Gated DeltaNet: h -> a. */
static void deltanet(struct qwen35 *m, const struct kn_ops *op, struct kn_stream *st, const struct model_layer *w,
                     const struct step *step, const struct state_layer *state, int32_t n_slots,
                     const struct kn_add_rms_norm_args *then)
{
    const struct model_shape *s = &m->model->shape;
    const int32_t T = step->n_rows, E = s->n_embd, C = conv_channels(s), VD = s->n_v * s->d_v;
    const struct kn_mat h = mat(m->h, T, E), qkv = mat(m->qkv, T, C), z = mat(m->z, T, VD);
    const struct kn_mat b = mat(m->b, T, s->n_v), alpha = mat(m->alpha, T, s->n_v), o = mat(m->o, T, VD), a = mat(m->a, T, E);

    op->project(st, &(struct kn_project_args){
                        .x = h, .n = 4, .w = {&w->w_qkv, &w->w_z, &w->w_beta, &w->w_alpha}, .y = {qkv, z, b, alpha}});
    op->gdn_conv(st, &(struct kn_gdn_conv_args){.step = step->device_step,
                                                .x = qkv,
                                                .w = w->conv_w,
                                                .taps = s->conv_taps,
                                                .state = state->conv,
                                                .n_slots = n_slots,
                                                .n_k = s->n_k,
                                                .n_v = s->n_v,
                                                .d_k = s->d_k,
                                                .d_v = s->d_v,
                                                .y = qkv});
    op->gdn_scan(st, &(struct kn_gdn_scan_args){.step = step->device_step,
                                                .qkv = qkv,
                                                .b = b,
                                                .alpha = alpha,
                                                .a = w->ssm_a,
                                                .dt = w->ssm_dt,
                                                .n_k = s->n_k,
                                                .n_v = s->n_v,
                                                .d_k = s->d_k,
                                                .d_v = s->d_v,
                                                .state = &state->gdn,
                                                .z = z,
                                                .norm = w->ssm_norm,
                                                .eps = s->rms_eps,
                                                .y = o});
    op->linear(st, &(struct kn_linear_args){.x = o, .w = &w->w_out, .y = a, .then = then});
}

/* SwiGLU: h -> a. */
static void feed_forward(struct qwen35 *m, const struct kn_ops *op, struct kn_stream *st, const struct model_layer *w,
                         int32_t T, const struct kn_add_rms_norm_args *then)
{
    const struct model_shape *s = &m->model->shape;
    const struct kn_mat h = mat(m->h, T, s->n_embd), f = mat(m->f, T, s->n_ff), a = mat(m->a, T, s->n_embd);

    op->gate_up(st, &(struct kn_gate_up_args){.x = h, .gate = &w->w_gate, .up = &w->w_up, .y = f});
    op->linear(st, &(struct kn_linear_args){.x = f, .w = &w->w_down, .y = a, .then = then});
}

/* Routed experts and the shared expert: h -> a. */
static void experts(struct qwen35 *m, const struct kn_ops *op, struct kn_stream *st, const struct model_layer *w, int32_t T,
                    const struct kn_add_rms_norm_args *then)
{
    const struct model_shape *s = &m->model->shape;
    const int32_t E = s->n_embd, k = s->n_experts_used;
    const struct kn_mat h = mat(m->h, T, E), a = mat(m->a, T, E), ew = mat(m->ew, T, k), gates = mat(m->gates, T, 1);
    const struct kn_mat eh = mat(m->eh, T * k, s->n_ff_expert), f = mat(m->f, T, s->n_ff_shared);
    const struct kn_weight *up = w->e_up.data ? &w->e_up : NULL;

    op->moe_route(st,
                  &(struct kn_moe_route_args){
                      .x = h, .w = &w->router, .k = k, .ids = m->ids, .weights = ew, .shared = w->shared_gate, .gates = gates});
    op->moe_gate_up(st, &(struct kn_moe_gate_up_args){.x = h,
                                                      .ids = m->ids,
                                                      .k = k,
                                                      .gate = &w->e_gate,
                                                      .up = up,
                                                      .y = eh,
                                                      .shared_gate = &w->s_gate,
                                                      .shared_up = &w->s_up,
                                                      .shared_y = f});
    op->moe_down(st, &(struct kn_moe_down_args){.h = eh,
                                                .ids = m->ids,
                                                .k = k,
                                                .weights = ew,
                                                .down = &w->e_down,
                                                .y = a,
                                                .shared_down = &w->s_down,
                                                .shared_h = f,
                                                .gates = gates,
                                                .then = then});
}

bool qwen35_forward(struct qwen35 *m, struct kn_stream *st, const struct step *step, const struct kv_cache *kv,
                    const struct state_cache *state, const struct qwen35_image_rows *images, int32_t n_images)
{
    const struct kn_ops *op = kn_device_ops(m->device);
    const struct model *w = m->model;
    const struct model_shape *s = &w->shape;
    const int32_t T = step->n_rows, E = s->n_embd;
    const struct kn_mat x = mat(m->x, T, E), h = mat(m->h, T, E), a = mat(m->a, T, E);

    op->embed(st, &(struct kn_embed_args){.step = step->device_step, .table = &w->token_embd, .y = x});
    for (int32_t i = 0; i < n_images; i++)
        op->put_rows(
            st, &(struct kn_put_rows_args){.x = mat((float *)images[i].rows, images[i].n, E), .row0 = images[i].row0, .y = x});
    /* each half of a layer leaves what it says in a; what follows adds that to x, and norms x for the next half */
    struct kn_add_rms_norm_args then = {.x = x, .w = w->layers[0].attn_norm, .eps = s->rms_eps, .y = h};
    op->add_rms_norm(st, &then);
    then.res = a;
    int32_t i_full = 0, i_linear = 0;
    for (int32_t l = 0; l < s->n_layers; l++) {
        const struct model_layer *layer = &w->layers[l];
        if (!breath_take(m->breath))
            return false;
        then.w = layer->post_attn_norm;
        if (s->is_linear[l])
            deltanet(m, op, st, layer, step, &state->layers[i_linear++], state->n_slots, &then);
        else
            attention(m, op, st, layer, step, &kv->layers[i_full++], &then);
        then.w = l + 1 < s->n_layers ? w->layers[l + 1].attn_norm : w->output_norm;
        if (s->is_moe)
            experts(m, op, st, layer, T, &then);
        else
            feed_forward(m, op, st, layer, T, &then);
    }
    return true;
}

void qwen35_logits(struct qwen35 *m, struct kn_stream *st, const struct step *step, int32_t first, int32_t n)
{
    const struct kn_ops *op = kn_device_ops(m->device);
    const struct model_shape *s = &m->model->shape;
    const struct kn_mat hn = mat(m->hn, n, s->n_embd);

    op->gather_rows(st, &(struct kn_gather_rows_args){
                            .x = mat(m->h, step->n_rows, s->n_embd), .rows = step->device_wanted + first, .y = hn});
    op->linear(st, &(struct kn_linear_args){.x = hn, .w = &m->model->output, .y = mat(m->logits, n, s->n_vocab)});
}

void qwen35_tops(struct qwen35 *m, struct kn_stream *st, int32_t first, int32_t n)
{
    const int32_t V = m->model->shape.n_vocab;
    kn_device_ops(m->device)->top_k(
        st, &(struct kn_top_k_args){
                .x = mat(m->logits + (int64_t)first * V, n, V), .mask = m->masks, .k = KN_TOP_K_MAX, .y = m->tops});
}
