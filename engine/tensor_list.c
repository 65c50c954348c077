#include "engine/tensor_list.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The walk: the first non-zero answer ends it. */
struct walk {
    tensor_visit_fn visit;
    void *ctx;
    int rc;
    int layer;
    unsigned flags;     /* of every tensor that follows */
    const char *prefix; /* "blk" or "v.blk" */
};

static int floor_log2(int64_t n)
{
    int k = 0;
    while (n >>= 1)
        k++;
    return k;
}

static void visit(struct walk *w, const char *name, void *slot, struct tensor_spec spec)
{
    if (w->rc != 0)
        return;
    if (w->layer >= 0)
        snprintf(spec.name, sizeof spec.name, "%s.%d.%s", w->prefix, w->layer, name);
    else
        snprintf(spec.name, sizeof spec.name, "%s", name);
    if (spec.role == TENSOR_SSM_DT) /* the dialect's name has no ".bias" */
        snprintf(spec.alias, sizeof spec.alias, "%s.%d.ssm_dt", w->prefix, w->layer);
    spec.flags |= w->flags;
    spec.layer = w->layer;
    spec.slot = w->flags & TENSOR_NEXTN ? NULL : slot;
    for (int d = 0; d < 4; d++)
        if (spec.ne[d] == 0)
            spec.ne[d] = 1;
    w->rc = w->visit(w->ctx, &spec);
}

static void matrix(struct walk *w, const char *name, int64_t cols, int64_t rows, int gain, unsigned flags,
                   struct kn_weight *slot)
{
    visit(w, name, slot,
          (struct tensor_spec){.n_dims = 2,
                               .ne = {cols, rows},
                               .role = TENSOR_MATRIX,
                               .flags = flags,
                               .rows = rows,
                               .cols = cols,
                               .slices = 1,
                               .gain = gain - 8 - floor_log2(cols) / 2});
}

static void experts(struct walk *w, const char *name, int64_t cols, int64_t rows, int64_t n, unsigned flags,
                    struct kn_weight *slot)
{
    visit(w, name, slot,
          (struct tensor_spec){.n_dims = 3,
                               .ne = {cols, rows, n},
                               .role = TENSOR_MATRIX,
                               .flags = flags | TENSOR_EXPERTS,
                               .rows = rows,
                               .cols = cols,
                               .slices = n,
                               .gain = -8 - floor_log2(cols) / 2});
}

static void vector(struct walk *w, const char *name, int64_t n, enum tensor_role role, kn_vec *slot)
{
    visit(w, name, slot,
          (struct tensor_spec){
              .n_dims = 1, .ne = {n}, .role = role, .rows = 1, .cols = n, .slices = 1, .gain = -8 - floor_log2(n) / 2});
}

/* ---- the text model --------------------------------------------------------------------------------------------------------- */

static void full_attention(struct walk *w, const struct model_shape *s, struct model_layer *l)
{
    int64_t E = s->n_embd, D = s->head_dim, H = s->n_head, G = s->n_head_kv;
    matrix(w, "attn_q.weight", E, H * 2 * D, 0, 0, l ? &l->wq : NULL);
    matrix(w, "attn_k.weight", E, G * D, 0, 0, l ? &l->wk : NULL);
    matrix(w, "attn_v.weight", E, G * D, 0, TENSOR_MORE_BITS, l ? &l->wv : NULL);
    matrix(w, "attn_output.weight", H * D, E, 0, 0, l ? &l->wo : NULL);
    vector(w, "attn_q_norm.weight", D, TENSOR_NORM, l ? &l->q_norm : NULL);
    vector(w, "attn_k_norm.weight", D, TENSOR_NORM, l ? &l->k_norm : NULL);
}

static void linear_attention(struct walk *w, const struct model_shape *s, struct model_layer *l)
{
    int64_t E = s->n_embd, vd = (int64_t)s->n_v * s->d_v, conv = 2LL * s->n_k * s->d_k + vd;
    matrix(w, "attn_qkv.weight", E, conv, 0, TENSOR_MORE_BITS, l ? &l->w_qkv : NULL);
    matrix(w, "attn_gate.weight", E, vd, 0, 0, l ? &l->w_z : NULL);
    visit(
        w, "ssm_conv1d.weight", l ? &l->conv_w : NULL,
        (struct tensor_spec){
            .n_dims = 2, .ne = {s->conv_taps, conv}, .role = TENSOR_CONV, .rows = 1, .cols = conv * s->conv_taps, .slices = 1});
    visit(w, "ssm_dt.bias", l ? &l->ssm_dt : NULL,
          (struct tensor_spec){.n_dims = 1, .ne = {s->n_v}, .role = TENSOR_SSM_DT, .rows = 1, .cols = s->n_v, .slices = 1});
    vector(w, "ssm_a", s->n_v, TENSOR_SSM_A, l ? &l->ssm_a : NULL);
    matrix(w, "ssm_beta.weight", E, s->n_v, 0, 0, l ? &l->w_beta : NULL);
    matrix(w, "ssm_alpha.weight", E, s->n_v, 0, 0, l ? &l->w_alpha : NULL);
    vector(w, "ssm_norm.weight", s->d_v, TENSOR_NORM, l ? &l->ssm_norm : NULL);
    matrix(w, "ssm_out.weight", vd, E, 0, 0, l ? &l->w_out : NULL);
}

static void mixture(struct walk *w, const struct model_shape *s, struct model_layer *l)
{
    int64_t E = s->n_embd, N = s->n_experts, F = s->n_ff_expert, S = s->n_ff_shared;
    visit(w, "ffn_gate_inp.weight", l ? &l->router : NULL,
          (struct tensor_spec){.n_dims = 2,
                               .ne = {E, N},
                               .role = TENSOR_ROUTER,
                               .rows = N,
                               .cols = E,
                               .slices = 1,
                               .gain = 2 - 8 - floor_log2(E) / 2});
    experts(w, "ffn_gate_up_exps.weight", E, 2 * F, N, TENSOR_MERGED, l ? &l->e_gate : NULL);
    experts(w, "ffn_gate_exps.weight", E, F, N, TENSOR_SPLIT, l ? &l->e_gate : NULL);
    experts(w, "ffn_up_exps.weight", E, F, N, TENSOR_SPLIT, l ? &l->e_up : NULL);
    experts(w, "ffn_down_exps.weight", F, E, N, TENSOR_MORE_BITS, l ? &l->e_down : NULL);
    vector(w, "ffn_gate_inp_shexp.weight", E, TENSOR_GATE, l ? &l->shared_gate : NULL);
    matrix(w, "ffn_gate_shexp.weight", E, S, 0, 0, l ? &l->s_gate : NULL);
    matrix(w, "ffn_up_shexp.weight", E, S, 0, 0, l ? &l->s_up : NULL);
    matrix(w, "ffn_down_shexp.weight", S, E, 0, TENSOR_MORE_BITS, l ? &l->s_down : NULL);
}

static void block(struct walk *w, const struct model_shape *s, bool is_linear, struct model_layer *l)
{
    vector(w, "attn_norm.weight", s->n_embd, TENSOR_NORM, l ? &l->attn_norm : NULL);
    vector(w, "post_attention_norm.weight", s->n_embd, TENSOR_NORM, l ? &l->post_attn_norm : NULL);
    if (is_linear)
        linear_attention(w, s, l);
    else
        full_attention(w, s, l);
    if (s->is_moe) {
        mixture(w, s, l);
    } else {
        matrix(w, "ffn_gate.weight", s->n_embd, s->n_ff, 0, 0, l ? &l->w_gate : NULL);
        matrix(w, "ffn_up.weight", s->n_embd, s->n_ff, 0, 0, l ? &l->w_up : NULL);
        matrix(w, "ffn_down.weight", s->n_ff, s->n_embd, 0, TENSOR_MORE_BITS, l ? &l->w_down : NULL);
    }
}

/* An MTP block: full attention, and its own five (MODEL.md section 7). */
static void nextn_block(struct walk *w, const struct model_shape *s)
{
    w->flags = TENSOR_NEXTN;
    block(w, s, false, NULL);
    matrix(w, "nextn.eh_proj.weight", 2LL * s->n_embd, s->n_embd, 0, 0, NULL);
    vector(w, "nextn.enorm.weight", s->n_embd, TENSOR_NORM, NULL);
    vector(w, "nextn.hnorm.weight", s->n_embd, TENSOR_NORM, NULL);
    vector(w, "nextn.shared_head_norm.weight", s->n_embd, TENSOR_NORM, NULL);
    w->flags = TENSOR_NEXTN | TENSOR_OPTIONAL;
    matrix(w, "nextn.embed_tokens.weight", s->n_embd, s->n_vocab, 1, 0, NULL);
    matrix(w, "nextn.shared_head_head.weight", s->n_embd, s->n_vocab, 1, 0, NULL);
    w->flags = 0;
}

int tensor_list_text(const struct model_shape *shape, struct model *model, tensor_visit_fn visit_fn, void *ctx)
{
    struct walk w = {.visit = visit_fn, .ctx = ctx, .layer = -1, .prefix = "blk"};
    matrix(&w, "token_embd.weight", shape->n_embd, shape->n_vocab, 1,
           TENSOR_EMBEDDING | (shape->is_tied ? TENSOR_MORE_BITS | TENSOR_TIED_HEAD : 0), model ? &model->token_embd : NULL);
    if (!shape->is_tied)
        matrix(&w, "output.weight", shape->n_embd, shape->n_vocab, 1, TENSOR_MORE_BITS, model ? &model->output : NULL);
    vector(&w, "output_norm.weight", shape->n_embd, TENSOR_NORM, model ? &model->output_norm : NULL);
    for (w.layer = 0; w.layer < shape->n_layers; w.layer++)
        block(&w, shape, shape->is_linear[w.layer], model ? &model->layers[w.layer] : NULL);
    for (; w.layer < shape->n_layers + shape->n_nextn; w.layer++)
        nextn_block(&w, shape);
    return w.rc;
}

/* ---- the vision tower ------------------------------------------------------------------------------------------------------- */

static void patch_kernel(struct walk *w, const char *name, const struct vision_shape *s, struct kn_weight *slot)
{
    int64_t p = s->patch_px, cols = 3 * p * p;
    visit(w, name, slot,
          (struct tensor_spec){.n_dims = 4,
                               .ne = {p, p, 3, s->n_embd},
                               .role = TENSOR_MATRIX,
                               .flags = TENSOR_PATCH,
                               .rows = s->n_embd,
                               .cols = cols,
                               .slices = 1,
                               .gain = -8 - floor_log2(cols) / 2});
}

static void vision_block(struct walk *w, const struct vision_shape *s, struct vision_layer *l)
{
    int64_t C = s->n_embd, F = s->n_ff;
    vector(w, "ln1.weight", C, TENSOR_NORM, l ? &l->ln1_w : NULL);
    vector(w, "ln1.bias", C, TENSOR_BIAS, l ? &l->ln1_b : NULL);
    vector(w, "ln2.weight", C, TENSOR_NORM, l ? &l->ln2_w : NULL);
    vector(w, "ln2.bias", C, TENSOR_BIAS, l ? &l->ln2_b : NULL);
    matrix(w, "attn_qkv.weight", C, 3 * C, 0, 0, l ? &l->w_qkv : NULL);
    vector(w, "attn_qkv.bias", 3 * C, TENSOR_BIAS, l ? &l->b_qkv : NULL);
    matrix(w, "attn_out.weight", C, C, 0, 0, l ? &l->w_out : NULL);
    vector(w, "attn_out.bias", C, TENSOR_BIAS, l ? &l->b_out : NULL);
    matrix(w, "ffn_up.weight", C, F, 0, 0, l ? &l->w_up : NULL);
    vector(w, "ffn_up.bias", F, TENSOR_BIAS, l ? &l->b_up : NULL);
    matrix(w, "ffn_down.weight", F, C, 0, 0, l ? &l->w_down : NULL);
    vector(w, "ffn_down.bias", C, TENSOR_BIAS, l ? &l->b_down : NULL);
}

int tensor_list_vision(const struct vision_shape *shape, struct vision_model *model, tensor_visit_fn visit_fn, void *ctx)
{
    struct walk w = {.visit = visit_fn, .ctx = ctx, .layer = -1, .prefix = "v.blk"};
    int64_t C = shape->n_embd, merged = C * shape->merge * shape->merge, places = (int64_t)shape->grid_side * shape->grid_side;
    patch_kernel(&w, "v.patch_embd.weight", shape, model ? &model->patch[0] : NULL);
    patch_kernel(&w, "v.patch_embd.weight.1", shape, model ? &model->patch[1] : NULL);
    vector(&w, "v.patch_embd.bias", C, TENSOR_BIAS, model ? &model->patch_bias : NULL);
    visit(&w, "v.position_embd.weight", model ? &model->position : NULL,
          (struct tensor_spec){
              .n_dims = 2, .ne = {C, places}, .role = TENSOR_POSITION, .rows = 1, .cols = C * places, .slices = 1});
    for (w.layer = 0; w.layer < shape->n_layers; w.layer++)
        vision_block(&w, shape, model ? &model->layers[w.layer] : NULL);
    w.layer = -1;
    vector(&w, "v.post_ln.weight", C, TENSOR_NORM, model ? &model->post_ln_w : NULL);
    vector(&w, "v.post_ln.bias", C, TENSOR_BIAS, model ? &model->post_ln_b : NULL);
    matrix(&w, "mm.0.weight", merged, merged, 0, 0, model ? &model->mm0 : NULL);
    vector(&w, "mm.0.bias", merged, TENSOR_BIAS, model ? &model->mm0_b : NULL);
    matrix(&w, "mm.2.weight", merged, shape->n_out, -1, 0, model ? &model->mm2 : NULL);
    vector(&w, "mm.2.bias", shape->n_out, TENSOR_BIAS, model ? &model->mm2_b : NULL);
    return w.rc;
}
