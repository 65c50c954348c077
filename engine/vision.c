#include "engine/vision.h"

#include <assert.h>
#include <stdlib.h>

#define VISION_CHANNELS   3
#define VISION_ROPE_THETA 10000.0F /* a constant of the family; no file carries it */

struct vision {
    struct kn_device *device;
    const struct vision_model *model;
    int32_t max_patches;
    uint8_t *rgb; /* [height, width, 3] of the picture at work */
    float *x;     /* [P, C] residual stream */
    float *y;     /* [P, C] what norms and attention give; read by the merger as [P / merge^2, merge^2 * C] */
    float *wide;  /* [P, vision_wide] patches, then q k v, then the feed-forward part, then the merger's hidden rows */
    struct breath *breath;
};

static int32_t max_i32(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static int32_t vision_patch_values(const struct vision_shape *s)
{
    return VISION_CHANNELS * s->patch_px * s->patch_px;
}

/* Columns per patch of the widest thing in between. The merger's hidden rows are merge^2 * C wide but as many times fewer. */
static int32_t vision_wide(const struct vision_shape *s)
{
    return max_i32(max_i32(vision_patch_values(s), 3 * s->n_embd), s->n_ff);
}

static int32_t vision_max_patches(const struct vision_shape *s, int64_t max_pixels)
{
    const int64_t tile_pixels = (int64_t)(s->patch_px * s->merge) * (s->patch_px * s->merge);
    return (int32_t)(max_pixels / tile_pixels * (s->merge * s->merge));
}

int32_t vision_tokens(const struct vision_shape *shape, int width_px, int height_px)
{
    const int tile_px = shape->patch_px * shape->merge;
    return (width_px / tile_px) * (height_px / tile_px);
}

void vision_raise_limits(const struct vision_shape *shape, int64_t max_pixels, struct kn_limits *limits)
{
    const int32_t merged = shape->merge * shape->merge * shape->n_embd;
    const int32_t patches = vision_max_patches(shape, max_pixels);
    const int32_t cols = max_i32(max_i32(vision_wide(shape), merged), shape->n_out);

    limits->patch_rows = max_i32(limits->patch_rows, patches);
    limits->patch_cols = max_i32(limits->patch_cols, cols);
    limits->outputs = max_i32(limits->outputs, cols);
    limits->seqs = max_i32(limits->seqs, 1);
    limits->kv_len = max_i32(limits->kv_len, patches);
    limits->heads = max_i32(limits->heads, shape->n_head);
    limits->head_dim = max_i32(limits->head_dim, shape->n_embd / shape->n_head);
}

/* The four buffers of struct vision, in the order of its fields. */
static void vision_sizes(const struct vision_shape *s, int64_t max_pixels, size_t ret_bytes[4])
{
    const size_t patches = (size_t)vision_max_patches(s, max_pixels);
    ret_bytes[0] = patches * (size_t)vision_patch_values(s);
    ret_bytes[1] = patches * (size_t)s->n_embd * sizeof(float);
    ret_bytes[2] = ret_bytes[1];
    ret_bytes[3] = patches * (size_t)vision_wide(s) * sizeof(float);
}

uint64_t vision_scratch_bytes(const struct vision_shape *shape, int64_t max_pixels)
{
    size_t bytes[4];
    vision_sizes(shape, max_pixels, bytes);
    return (uint64_t)bytes[0] + bytes[1] + bytes[2] + bytes[3];
}

int vision_open(struct kn_device *device, const struct vision_model *model, int64_t max_pixels, struct vision **ret_vision,
                struct err *err)
{
    const struct vision_shape *s = &model->shape;
    const int tile_px = s->patch_px * s->merge;
    struct vision *v;
    size_t bytes[4];
    int rc;

    if (max_pixels < (int64_t)tile_px * tile_px)
        return err_set(err, ERR_INVAL, "largest picture of %lld pixels: the vision tower needs at least %d x %d",
                       (long long)max_pixels, tile_px, tile_px);
    v = calloc(1, sizeof *v);
    if (!v)
        return err_set(err, ERR_NOMEM, "no memory for the vision tower");
    v->device = device;
    v->model = model;
    v->max_patches = vision_max_patches(s, max_pixels);
    vision_sizes(s, max_pixels, bytes);

    void *memory[4] = {NULL};
    rc = 0;
    for (int i = 0; i < 4 && rc == 0; i++)
        rc = kn_alloc(device, bytes[i], &memory[i], err);
    v->rgb = memory[0];
    v->x = memory[1];
    v->y = memory[2];
    v->wide = memory[3];
    if (rc) {
        rc = err_prefix(err, "scratch of the vision tower for pictures of %lld pixels (%llu MiB)", (long long)max_pixels,
                        (unsigned long long)(vision_scratch_bytes(s, max_pixels) >> 20));
        goto fail;
    }
    *ret_vision = v;
    return 0;

fail:
    vision_close(v);
    return rc;
}

void vision_close(struct vision *vision)
{
    if (!vision)
        return;
    kn_free(vision->device, vision->rgb);
    kn_free(vision->device, vision->x);
    kn_free(vision->device, vision->y);
    kn_free(vision->device, vision->wide);
    free(vision);
}

static struct kn_mat mat(float *data, int32_t rows, int32_t cols)
{
    return (struct kn_mat){.data = data, .rows = rows, .cols = cols, .stride = cols};
}

/* One transformer block on x [P, C]: x += attention(LN(x)); x += feed-forward(LN(x)). */
static void vision_block(const struct vision *v, struct kn_stream *stream, const struct kn_ops *ops,
                         const struct vision_layer *layer, int32_t n_patches, int32_t grid_w, int32_t grid_h)
{
    const struct vision_shape *s = &v->model->shape;
    const struct kn_mat x = mat(v->x, n_patches, s->n_embd);
    const struct kn_mat y = mat(v->y, n_patches, s->n_embd);
    const struct kn_mat qkv = mat(v->wide, n_patches, 3 * s->n_embd);
    const struct kn_mat hidden = mat(v->wide, n_patches, s->n_ff);

    ops->add_layer_norm(stream,
                        &(struct kn_add_layer_norm_args){.x = x, .w = layer->ln1_w, .b = layer->ln1_b, .eps = s->eps, .y = y});
    ops->linear(stream, &(struct kn_linear_args){.x = y, .is_bf16 = true, .w = &layer->w_qkv, .bias = layer->b_qkv, .y = qkv});
    ops->rope_2d(stream, &(struct kn_rope_2d_args){.qkv = qkv,
                                                   .n_heads = s->n_head,
                                                   .grid_w = grid_w,
                                                   .grid_h = grid_h,
                                                   .merge = s->merge,
                                                   .theta = VISION_ROPE_THETA});
    ops->attn_full(
        stream, &(struct kn_attn_full_args){.qkv = qkv, .n_heads = s->n_head, .is_bf16 = layer->w_qkv.dtype != KN_F32, .y = y});
    ops->linear(stream, &(struct kn_linear_args){
                            .x = y, .is_bf16 = true, .w = &layer->w_out, .bias = layer->b_out, .accumulate = true, .y = x});
    ops->add_layer_norm(stream,
                        &(struct kn_add_layer_norm_args){.x = x, .w = layer->ln2_w, .b = layer->ln2_b, .eps = s->eps, .y = y});
    ops->linear(stream,
                &(struct kn_linear_args){
                    .x = y, .is_bf16 = true, .w = &layer->w_up, .bias = layer->b_up, .act = KN_ACT_GELU_TANH, .y = hidden});
    ops->linear(stream,
                &(struct kn_linear_args){
                    .x = hidden, .is_bf16 = true, .w = &layer->w_down, .bias = layer->b_down, .accumulate = true, .y = x});
}

void vision_set_breath(struct vision *vision, struct breath *breath)
{
    vision->breath = breath;
}

int vision_forward(struct vision *vision, struct kn_stream *stream, const uint8_t *rgb, int width_px, int height_px,
                   struct kn_mat out, struct err *err)
{
    const struct vision_model *m = vision->model;
    const struct vision_shape *s = &m->shape;
    const struct kn_ops *ops = kn_device_ops(vision->device);
    const int tile_px = s->patch_px * s->merge;
    const int32_t merged = s->merge * s->merge;

    if (width_px < tile_px || height_px < tile_px || width_px % tile_px || height_px % tile_px)
        return err_set(err, ERR_INVAL, "picture of %d x %d pixels: both sides must be multiples of %d", width_px, height_px,
                       tile_px);
    const int32_t grid_w = width_px / s->patch_px;
    const int32_t grid_h = height_px / s->patch_px;
    if ((int64_t)grid_w * grid_h > vision->max_patches)
        return err_set(err, ERR_FULL, "picture of %d x %d pixels: the vision tower was opened for %lld pixels", width_px,
                       height_px, (long long)vision->max_patches * s->patch_px * s->patch_px);
    const int32_t n_patches = grid_w * grid_h;
    assert(out.rows == n_patches / merged && out.cols == s->n_out);

    const struct kn_mat x = mat(vision->x, n_patches, s->n_embd);
    const struct kn_mat y = mat(vision->y, n_patches, s->n_embd);
    const struct kn_mat patches = mat(vision->wide, n_patches, vision_patch_values(s));

    kn_upload(stream, vision->rgb, rgb, (size_t)width_px * (size_t)height_px * VISION_CHANNELS);
    ops->patchify(stream, &(struct kn_patchify_args){.rgb = vision->rgb,
                                                     .width_px = width_px,
                                                     .height_px = height_px,
                                                     .patch_px = s->patch_px,
                                                     .merge = s->merge,
                                                     .mean = {s->mean[0], s->mean[1], s->mean[2]},
                                                     .stddev = {s->stddev[0], s->stddev[1], s->stddev[2]},
                                                     .y = patches});
    /* the two frames of a temporal patch are the same picture */
    ops->linear(stream,
                &(struct kn_linear_args){.x = patches, .is_bf16 = true, .w = &m->patch[0], .bias = m->patch_bias, .y = x});
    ops->linear(stream, &(struct kn_linear_args){.x = patches, .is_bf16 = true, .w = &m->patch[1], .accumulate = true, .y = x});
    ops->add_pos_embed(
        stream, &(struct kn_add_pos_embed_args){
                    .x = x, .grid = m->position, .side = s->grid_side, .grid_w = grid_w, .grid_h = grid_h, .merge = s->merge});
    for (int32_t i = 0; i < s->n_layers; i++) {
        if (!breath_take(vision->breath))
            return err_set(err, ERR_CANCELLED, "the picture was given up");
        vision_block(vision, stream, ops, &m->layers[i], n_patches, grid_w, grid_h);
    }
    ops->add_layer_norm(stream,
                        &(struct kn_add_layer_norm_args){.x = x, .w = m->post_ln_w, .b = m->post_ln_b, .eps = s->eps, .y = y});

    /* patches are in merge order, so the merge^2 patches of a token lie one after the other: the same bytes, seen wider */
    const struct kn_mat wide_y = mat(vision->y, n_patches / merged, merged * s->n_embd);
    const struct kn_mat hidden = mat(vision->wide, n_patches / merged, merged * s->n_embd);
    ops->linear(stream, &(struct kn_linear_args){
                            .x = wide_y, .is_bf16 = true, .w = &m->mm0, .bias = m->mm0_b, .act = KN_ACT_GELU_ERF, .y = hidden});
    ops->linear(stream, &(struct kn_linear_args){.x = hidden, .is_bf16 = true, .w = &m->mm2, .bias = m->mm2_b, .y = out});
    return 0;
}
