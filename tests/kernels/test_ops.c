/*
 * Every op on every device level against its reference, over odd shapes and all types; and, on each device, that a row's result does not depend,
 * to the bit, on its company nor on how a sequence was cut.
 */
#include "tests/support/kn_cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- rows and norms -------------------------------------------------------------------------------------------------------------- */

/* shape: T, E, type */
static void run_embed(struct kn_rig *r, const int *s, struct kn_output *out)
{
    const int32_t tokens[] = {5, -1, 0, 12, 12, -1, 3};
    const struct kn_rig_seq seq = {s[0], 0, 0};
    const struct kn_mat y = kn_rig_out(r, s[0], s[1], 3);
    r->op->embed(r->stream, &(struct kn_embed_args){.step = kn_rig_step(r, &seq, 1, 1, 13, tokens, NULL),
                                                    .table = kn_rig_weight(r, 1, (enum kn_dtype)s[2], 1, 13, s[1]),
                                                    .y = y});
    kn_output_add(out, r, &y);
}

static void run_rows(struct kn_rig *r, const int *s, struct kn_output *out)
{
    const struct kn_mat x = kn_rig_mat(r, 1, s[0], s[1], 2, 1), y = kn_rig_mat(r, 2, 9, s[1], 1, 1),
                        z = kn_rig_out(r, 4, s[1], 0);
    const int32_t rows[] = {8, 0, 8, 3};
    r->op->put_rows(r->stream, &(struct kn_put_rows_args){.x = x, .row0 = 9 - s[0], .y = y});
    r->op->gather_rows(r->stream, &(struct kn_gather_rows_args){.x = y, .rows = kn_rig_put(r, rows, sizeof rows), .y = z});
    kn_output_add(out, r, &y);
    kn_output_add(out, r, &z);
    char *src = kn_rig_put(r, "0123456789abcdef", 16);
    float *dst = kn_rig_put(r, NULL, 64);
    r->op->fill_zero(r->stream, &(struct kn_fill_zero_args){.dst = dst, .bytes = 64});
    r->op->copy(r->stream, &(struct kn_copy_args){.dst = (char *)dst + 5, .src = src + 1, .bytes = 13});
    const struct kn_mat bytes = {.data = dst, .rows = 1, .cols = 16, .stride = 16};
    kn_output_add(out, r, &bytes);
}

/* shape: T, E, with residual, in place */
static void run_add_rms_norm(struct kn_rig *r, const int *s, struct kn_output *out)
{
    const struct kn_mat x = kn_rig_mat(r, 1, s[0], s[1], 5, 2), none = {0};
    const struct kn_mat res = s[2] ? kn_rig_mat(r, 2, s[0], s[1], 1, 1) : none;
    const struct kn_mat y = s[3] ? x : kn_rig_out(r, s[0], s[1], 0);
    r->op->add_rms_norm(r->stream, &(struct kn_add_rms_norm_args){
                                       .x = x, .res = res, .w = kn_rig_vec(r, 3, s[1], 1, 0.1f), .eps = 1e-6f, .y = y});
    kn_output_add(out, r, &x);
    kn_output_add(out, r, &y);
}

static void run_add_layer_norm(struct kn_rig *r, const int *s, struct kn_output *out)
{
    const struct kn_mat x = kn_rig_mat(r, 1, s[0], s[1], 5, 2), none = {0};
    const struct kn_mat res = s[2] ? kn_rig_mat(r, 2, s[0], s[1], 1, 1) : none;
    const struct kn_mat y = kn_rig_out(r, s[0], s[1], 0);
    r->op->add_layer_norm(r->stream, &(struct kn_add_layer_norm_args){.x = x,
                                                                      .res = res,
                                                                      .w = kn_rig_vec(r, 3, s[1], 1, 0.1f),
                                                                      .b = kn_rig_vec(r, 4, s[1], 0, 0.5f),
                                                                      .eps = 1e-6f,
                                                                      .y = y});
    kn_output_add(out, r, &x);
    kn_output_add(out, r, &y);
}

/* shape: T, heads, D, in place */
static void run_gated_rms_norm(struct kn_rig *r, const int *s, struct kn_output *out)
{
    const int32_t cols = s[1] * s[2];
    const struct kn_mat x = kn_rig_mat(r, 1, s[0], cols, 1, 1), z = kn_rig_mat(r, 2, s[0], cols, 0, 3);
    const struct kn_mat y = s[3] ? x : kn_rig_out(r, s[0], cols, 2);
    r->op->gated_rms_norm(r->stream,
                          &(struct kn_gated_rms_norm_args){
                              .x = x, .z = z, .w = kn_rig_vec(r, 3, s[2], 1, 0.1f), .n_heads = s[1], .eps = 1e-6f, .y = y});
    kn_output_add(out, r, &y);
}

static void rows_and_norms(void **state)
{
    for (size_t t = 0; t < KN_N_TYPES; t++)
        kn_compare("embed", run_embed, (int[KN_SHAPE_MAX]){7, 512, kn_types[t]}, 0);
    kn_compare("rows", run_rows, (int[KN_SHAPE_MAX]){1, 5}, 0);
    kn_compare("rows", run_rows, (int[KN_SHAPE_MAX]){4, 130}, 0);
    static const int shapes[][KN_SHAPE_MAX] = {{1, 1, 0, 0}, {3, 17, 1, 0}, {2, 64, 1, 1}, {5, 1000, 0, 1}, {33, 256, 1, 0}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        kn_compare("add_rms_norm", run_add_rms_norm, shapes[i], KN_LIMIT_F32);
        kn_compare("add_layer_norm", run_add_layer_norm, (int[KN_SHAPE_MAX]){shapes[i][0], shapes[i][1] + 1, shapes[i][2]},
                   KN_LIMIT_F32);
    }
    kn_compare("gated_rms_norm", run_gated_rms_norm, (int[KN_SHAPE_MAX]){1, 1, 8, 0}, KN_LIMIT_F32);
    kn_compare("gated_rms_norm", run_gated_rms_norm, (int[KN_SHAPE_MAX]){5, 3, 20, 1}, KN_LIMIT_F32);
    kn_compare("gated_rms_norm", run_gated_rms_norm, (int[KN_SHAPE_MAX]){9, 16, 128, 0}, KN_LIMIT_F32);
}

/* ---- matrix products ------------------------------------------------------------------------------------------------------------- */

/* shape: T, cols, rows, type, act, bias, accumulate, bf16 */
static void run_linear(struct kn_rig *r, const int *s, struct kn_output *out)
{
    const struct kn_mat x = kn_rig_mat(r, 1, s[0], s[1], 3, 1);
    const struct kn_mat y = s[6] ? kn_rig_mat(r, 5, s[0], s[2], 2, 1) : kn_rig_out(r, s[0], s[2], 2);
    r->op->linear(r->stream, &(struct kn_linear_args){.x = x,
                                                      .w = kn_rig_weight(r, 2, (enum kn_dtype)s[3], 1, s[2], s[1]),
                                                      .bias = s[5] ? kn_rig_vec(r, 3, s[2], 0, 1) : NULL,
                                                      .act = (enum kn_act)s[4],
                                                      .accumulate = s[6],
                                                      .is_bf16 = s[7],
                                                      .y = y});
    kn_output_add(out, r, &y);
}

/* The same row by row. */
static void run_linear_alone(struct kn_rig *r, const int *s, struct kn_output *out)
{
    const struct kn_mat x = kn_rig_mat(r, 1, s[0], s[1], 3, 1), y = kn_rig_out(r, s[0], s[2], 2);
    const struct kn_weight *w = kn_rig_weight(r, 2, (enum kn_dtype)s[3], 1, s[2], s[1]);
    for (int32_t t = 0; t < s[0]; t++) {
        const struct kn_mat xt = {x.data + t * x.stride, 1, x.cols, x.stride},
                            yt = {y.data + t * y.stride, 1, y.cols, y.stride};
        r->op->linear(r->stream, &(struct kn_linear_args){.x = xt, .w = w, .is_bf16 = s[7], .y = yt});
    }
    kn_output_add(out, r, &y);
}

/* A product, a residual and a norm, s[4] rows at a time. shape: T, cols, rows, type, rows of a call */
static void run_linear_then(struct kn_rig *r, const int *s, struct kn_output *out)
{
    const struct kn_mat x = kn_rig_mat(r, 1, s[0], s[1], 3, 1), y = kn_rig_out(r, s[0], s[2], s[2] % 4);
    const struct kn_mat residual = kn_rig_mat(r, 3, s[0], s[2], 4, 1), normed = kn_rig_out(r, s[0], s[2], 8);
    const struct kn_weight *w = kn_rig_weight(r, 2, (enum kn_dtype)s[3], 1, s[2], s[1]);
    kn_vec norm = kn_rig_vec(r, 4, s[2], 1, 0.1f);
    for (int32_t t = 0; t < s[0]; t += s[4]) {
        const int32_t n = s[0] - t < s[4] ? s[0] - t : s[4];
        const struct kn_add_rms_norm_args then = {.x = {residual.data + t * residual.stride, n, s[2], residual.stride},
                                                  .res = {y.data + t * y.stride, n, s[2], y.stride},
                                                  .w = norm,
                                                  .eps = 1e-6f,
                                                  .y = {normed.data + t * normed.stride, n, s[2], normed.stride}};
        r->op->linear(r->stream, &(struct kn_linear_args){
                                     .x = {x.data + t * x.stride, n, s[1], x.stride}, .w = w, .y = then.res, .then = &then});
    }
    kn_output_add(out, r, &residual);
    kn_output_add(out, r, &normed);
}

static void run_linear_then_alone(struct kn_rig *r, const int *s, struct kn_output *out)
{
    int alone[KN_SHAPE_MAX];
    memcpy(alone, s, sizeof alone);
    alone[4] = 1;
    run_linear_then(r, alone, out);
}

/* Weights of any bits: the largest scales and values that blocks can hold. What is not finite by its scales does not count. shape: T, cols, rows, type, row by row */
static void run_any_bits(struct kn_rig *r, const int *s, struct kn_output *out)
{
    const size_t n = kn_row_bytes((enum kn_dtype)s[3], s[1]) * (size_t)s[2];
    uint8_t *blocks = test_malloc(n);
    for (size_t i = 0; i < n; i++)
        blocks[i] = (uint8_t)rng_at(7, i);
    const struct kn_weight *w = kn_rig_weight_of(r, (enum kn_dtype)s[3], 1, s[2], s[1], blocks);
    test_free(blocks);
    float *x = test_malloc((size_t)s[0] * (size_t)s[1] * sizeof *x);
    for (int i = 0; i < s[0] * s[1]; i++)
        x[i] = rng_at(8, (uint64_t)i) % 3 ? 127.0f : -127.0f; /* most sums are far from 0 */
    const struct kn_mat all = {kn_rig_put(r, x, (size_t)s[0] * (size_t)s[1] * sizeof *x), s[0], s[1], s[1]};
    test_free(x);
    const struct kn_mat y = kn_rig_out(r, s[0], s[2], 0);
    for (int t = 0, step = s[4] ? 1 : s[0]; t < s[0]; t += step)
        r->op->linear(r->stream, &(struct kn_linear_args){.x = {all.data + t * all.stride, step, s[1], all.stride},
                                                          .w = w,
                                                          .y = {y.data + t * y.stride, step, s[2], y.stride}});
    kn_output_add(out, r, &y);
    size_t n_finite = 0;
    for (size_t i = 0; i < out->n; i++) {
        n_finite += isfinite(out->data[i]);
        if (!isfinite(out->data[i]))
            out->data[i] = 0;
    }
    assert_true(n_finite > out->n / 3);
}

static void run_any_bits_alone(struct kn_rig *r, const int *s, struct kn_output *out)
{
    run_any_bits(r, (int[KN_SHAPE_MAX]){s[0], s[1], s[2], s[3], 1}, out);
}

/* shape: T, cols, type */
static void run_project(struct kn_rig *r, const int *s, struct kn_output *out)
{
    static const int rows[] = {40, 7, 1, 33};
    struct kn_project_args a = {.x = kn_rig_mat(r, 1, s[0], s[1], 0, 1), .n = 4};
    for (int i = 0; i < 4; i++) {
        a.w[i] = kn_rig_weight(r, (uint64_t)i + 2, i == 2 ? KN_F32 : (enum kn_dtype)s[2], 1, rows[i], s[1]);
        a.y[i] = kn_rig_out(r, s[0], rows[i], i);
    }
    r->op->project(r->stream, &a);
    for (int i = 0; i < 4; i++)
        kn_output_add(out, r, &a.y[i]);
}

static void run_gate_up(struct kn_rig *r, const int *s, struct kn_output *out)
{
    const struct kn_mat x = kn_rig_mat(r, 1, s[0], s[1], 1, 1), y = kn_rig_out(r, s[0], 45, 3);
    r->op->gate_up(r->stream, &(struct kn_gate_up_args){.x = x,
                                                        .gate = kn_rig_weight(r, 2, (enum kn_dtype)s[2], 1, 45, s[1]),
                                                        .up = kn_rig_weight(r, 3, (enum kn_dtype)s[2], 1, 45, s[1]),
                                                        .y = y});
    kn_output_add(out, r, &y);
}

static void matrix_products(void **state)
{
    for (size_t t = 0; t < KN_N_TYPES; t++) {
        const int type = kn_types[t], cols = kn_dtype_info(type)->block_elems == 256 ? 512 : 192;
        const double limit = kn_limit_of(kn_types[t]);
        kn_compare("linear", run_linear, (int[KN_SHAPE_MAX]){1, cols, 37, type}, limit);
        kn_compare("linear", run_linear, (int[KN_SHAPE_MAX]){5, cols, 64, type, KN_ACT_GELU_TANH, 1}, 4 * limit);
        kn_compare("linear", run_linear, (int[KN_SHAPE_MAX]){19, cols, 33, type, KN_ACT_NONE, 0, 1}, limit);
        if (!kn_cases_few)
            kn_compare("linear", run_linear, (int[KN_SHAPE_MAX]){67, cols, 16, type, KN_ACT_GELU_ERF, 1}, 4 * limit);
        kn_compare("project", run_project, (int[KN_SHAPE_MAX]){6, cols, type}, limit);
        kn_compare("gate_up", run_gate_up, (int[KN_SHAPE_MAX]){9, cols, type}, 6 * limit); /* a product of two noisy factors */
        kn_same_bits("linear", run_linear, run_linear_alone, (int[KN_SHAPE_MAX]){37, cols, 50, type});
        if (!kn_cases_few)
            kn_same_bits("linear", run_linear, run_linear_alone, (int[KN_SHAPE_MAX]){272, cols, 20, type});
        if (kn_dtype_info(type)->block_elems == 1 || type == KN_MXFP4) /* any bits are hardly ever finite there */
            continue;
        kn_same_bits("any bits", run_any_bits, run_any_bits_alone, (int[KN_SHAPE_MAX]){33, 256, 40, type});
        kn_compare("any bits", run_any_bits, (int[KN_SHAPE_MAX]){9, 256, 40, type},
                   kn_cases_cuda ? KN_LIMIT_HALVES : 1e-10); /* 127 is no rounding */
    }
    static const int floats[] = {KN_F32, KN_F16, KN_BF16};
    for (size_t t = 0; t < 3; t++) { /* cols that are no whole number of anything */
        kn_compare("linear bf16", run_linear, (int[KN_SHAPE_MAX]){1, 75, 37, floats[t], 0, 0, 0, 1}, KN_LIMIT_BF16);
        kn_compare("linear bf16", run_linear, (int[KN_SHAPE_MAX]){19, 1, 5, floats[t], 0, 0, 0, 1},
                   4 * KN_LIMIT_BF16); /* single products */
        kn_compare("linear bf16", run_linear, (int[KN_SHAPE_MAX]){67, 580, 33, floats[t], KN_ACT_GELU_TANH, 1, 0, 1},
                   4 * KN_LIMIT_BF16);
        kn_compare("linear bf16", run_linear, (int[KN_SHAPE_MAX]){300, 256, 16, floats[t], 0, 1, 1, 1}, KN_LIMIT_BF16);
        kn_same_bits("linear bf16", run_linear, run_linear_alone, (int[KN_SHAPE_MAX]){290, 90, 50, floats[t], 0, 0, 0, 1});
    }
    kn_compare("linear", run_linear, (int[KN_SHAPE_MAX]){3, 1, 1, KN_F32}, KN_LIMIT_F32);
    kn_compare("linear", run_linear, (int[KN_SHAPE_MAX]){2, 13, 5, KN_F32}, KN_LIMIT_F32);
    kn_compare("linear", run_linear, (int[KN_SHAPE_MAX]){7, 75, 130, KN_F16}, kn_limit_of(KN_F16));
}

/* ---- attention ------------------------------------------------------------------------------------------------------------------- */

struct attention {
    struct kn_kv kv;
    kn_vec q_norm, k_norm, inv_freq;
    const int32_t *axis;
    int32_t n_pairs, H, G, D;
};

#define ATTN_SLOTS 3
#define ATTN_PAGES 8

/* shape: H, G, D, KV type, pairs */
static struct attention open_attention(struct kn_rig *r, const int *s)
{
    struct attention a = {.H = s[0], .G = s[1], .D = s[2], .n_pairs = s[4]};
    const size_t bytes = kn_row_bytes((enum kn_dtype)s[3], s[2]) * (size_t)s[1] * KN_PAGE_TOKENS * ATTN_SLOTS * ATTN_PAGES;
    a.kv = (struct kn_kv){.k = kn_rig_put(r, NULL, bytes),
                          .v = kn_rig_put(r, NULL, bytes),
                          .dtype = (enum kn_dtype)s[3],
                          .n_pages = ATTN_SLOTS * ATTN_PAGES,
                          .n_heads = s[1],
                          .head_dim = s[2]};
    a.q_norm = kn_rig_vec(r, 11, s[2], 1, 0.1f);
    a.k_norm = kn_rig_vec(r, 12, s[2], 1, 0.1f);
    float inv_freq[64];
    int32_t axis[64];
    for (int i = 0; i < s[4]; i++) {
        inv_freq[i] = powf(10000.0f, -(float)i / (float)s[4]);
        axis[i] = i % 3;
    }
    a.inv_freq = kn_rig_put(r, inv_freq, (size_t)s[4] * sizeof(float));
    a.axis = kn_rig_put(r, axis, (size_t)s[4] * sizeof(int32_t));
    return a;
}

/* Rows are functions of slot and place: cutting a sequence feeds the same rows. */
static struct kn_mat sequence_rows(struct kn_rig *r, uint64_t seed, const struct kn_rig_seq *seqs, int n, int32_t cols,
                                   float stddev)
{
    int32_t rows = 0;
    for (int i = 0; i < n; i++)
        rows += seqs[i].n_rows;
    float *x = test_malloc((size_t)rows * (size_t)cols * sizeof *x), *at = x;
    for (int i = 0; i < n; i++)
        for (int32_t t = 0; t < seqs[i].n_rows; t++, at += cols) {
            float *row =
                kn_rig_noise(seed + 1000003u * (uint64_t)(seqs[i].slot * 100000 + seqs[i].past + t), (size_t)cols, stddev);
            memcpy(at, row, (size_t)cols * sizeof *row);
            test_free(row);
        }
    const struct kn_mat m = {
        .data = kn_rig_put(r, x, (size_t)rows * (size_t)cols * sizeof *x), .rows = rows, .cols = cols, .stride = cols};
    test_free(x);
    return m;
}

static struct kn_mat attention_call(struct kn_rig *r, const struct attention *a, const struct kn_rig_seq *seqs, int n)
{
    const struct kn_step *step = kn_rig_step(r, seqs, n, ATTN_SLOTS, 100, NULL, NULL);
    const struct kn_mat qg = sequence_rows(r, 1, seqs, n, a->H * 2 * a->D, 1), k = sequence_rows(r, 2, seqs, n, a->G * a->D, 1);
    const struct kn_mat v = sequence_rows(r, 3, seqs, n, a->G * a->D, 1);
    const struct kn_mat q = kn_rig_out(r, qg.rows, a->H * a->D, 0), y = kn_rig_out(r, qg.rows, a->H * a->D, 4);
    r->op->attn_store(r->stream, &(struct kn_attn_store_args){.step = step,
                                                              .qg = qg,
                                                              .k = k,
                                                              .v = v,
                                                              .q_norm = a->q_norm,
                                                              .k_norm = a->k_norm,
                                                              .eps = 1e-6f,
                                                              .inv_freq = a->inv_freq,
                                                              .axis = a->axis,
                                                              .n_pairs = a->n_pairs,
                                                              .rope_scale = 1,
                                                              .kv = &a->kv,
                                                              .q = q});
    r->op->attn(r->stream, &(struct kn_attn_args){
                               .step = step, .q = q, .gate = qg, .kv = &a->kv, .scale = 1 / sqrtf((float)a->D), .y = y});
    return y;
}

/* Three sequences together, over page borders, then a step of one row each. */
static void run_attention(struct kn_rig *r, const int *s, struct kn_output *out)
{
    const struct attention a = open_attention(r, s);
    const struct kn_rig_seq first[] = {{70, 0, 0}, {1, 0, 2}, {130, 0, 1}}, second[] = {{1, 130, 1}, {1, 70, 0}, {3, 1, 2}};
    struct kn_mat y = attention_call(r, &a, first, 3);
    kn_output_add(out, r, &y);
    y = attention_call(r, &a, second, 3);
    kn_output_add(out, r, &y);
}

/* One sequence of s[5] tokens at once, and the same in odd pieces among others. */
static void run_attention_whole(struct kn_rig *r, const int *s, struct kn_output *out)
{
    const struct attention a = open_attention(r, s);
    const struct kn_rig_seq all = {s[5], 0, 1};
    const struct kn_mat y = attention_call(r, &a, &all, 1);
    kn_output_add(out, r, &y);
}

static void run_attention_pieces(struct kn_rig *r, const int *s, struct kn_output *out)
{
    const struct attention a = open_attention(r, s);
    static const int pieces[] = {1, 7, 64, 3, 1, 90, 2};
    int32_t other = 0;
    for (int32_t past = 0, i = 0; past < s[5]; i++) {
        int32_t n = pieces[i % 7];
        n = n < s[5] - past ? n : s[5] - past;
        const struct kn_rig_seq seqs[] = {{2, other, 0}, {n, past, 1}};
        const struct kn_mat y = attention_call(r, &a, seqs, 2);
        const struct kn_mat mine = {y.data + 2 * y.stride, n, y.cols, y.stride};
        kn_output_add(out, r, &mine);
        past += n;
        other += 2;
        if (r->n_blocks > KN_RIG_BLOCKS_MAX - 20)
            fail_msg("too many blocks");
    }
}

static void attention(void **state)
{
    kn_compare("attention", run_attention, (int[KN_SHAPE_MAX]){4, 2, 32, KN_F32, 8}, KN_LIMIT_F32);
    kn_compare("attention", run_attention, (int[KN_SHAPE_MAX]){3, 1, 24, KN_F32, 12}, KN_LIMIT_F32);
    kn_compare("attention", run_attention, (int[KN_SHAPE_MAX]){kn_cases_few ? 1 : 8, kn_cases_few ? 1 : 2, 256, KN_F32, 32},
               KN_LIMIT_F32);
    /* both sides store the same half-precision cache but for values that float rounding puts on the other side of a tie */
    kn_compare("attention", run_attention, (int[KN_SHAPE_MAX]){4, 4, 64, KN_F16, 16}, kn_cases_cuda ? KN_LIMIT_HALVES : 1e-9);
    kn_compare("attention", run_attention, (int[KN_SHAPE_MAX]){6, 2, 64, KN_Q8_0, 16}, 1e-6);
    static const enum kn_dtype types[] = {KN_F32, KN_F16, KN_Q8_0};
    for (int i = 0; i < 3; i++)
        kn_same_bits("attention", run_attention_whole, run_attention_pieces,
                     (int[KN_SHAPE_MAX]){4, 2, 32, (int)types[i], 8, 170});
}

/* ---- Gated DeltaNet -------------------------------------------------------------------------------------------------------------- */

struct deltanet {
    float *conv_state;
    struct kn_gdn_state state;
    kn_vec conv_w, a, dt, norm; /* norm NULL: the scan alone */
    int32_t n_k, n_v, d_k, d_v, taps;
};

#define GDN_SLOTS 3

/* shape: n_k, n_v, d_k, d_v, taps, (tokens), normed */
static struct deltanet open_deltanet(struct kn_rig *r, const int *s)
{
    struct deltanet d = {.n_k = s[0], .n_v = s[1], .d_k = s[2], .d_v = s[3], .taps = s[4]};
    const int32_t C = 2 * s[0] * s[2] + s[1] * s[3];
    const size_t conv = (size_t)GDN_SLOTS * (size_t)(s[4] - 1) * (size_t)C * sizeof(float);
    const size_t slot = kn_gdn_state_bytes(s[0], s[1], s[2], s[3]);
    char *zero = test_calloc(1, conv > GDN_SLOTS * slot ? conv : GDN_SLOTS * slot);
    d.conv_state = kn_rig_put(r, zero, conv);
    d.state = (struct kn_gdn_state){kn_rig_put(r, zero, GDN_SLOTS * slot), slot, GDN_SLOTS};
    test_free(zero);
    d.conv_w = kn_rig_vec(r, 21, C * s[4], 0, 0.5f);
    float *a = kn_rig_noise(22, (size_t)s[1], 1);
    for (int i = 0; i < s[1]; i++) /* from hardly any decay to a state that is gone in two tokens */
        a[i] = -exp2f((float)(i % 8) - 6) * (1.1f + 0.1f * tanhf(a[i]));
    d.a = kn_rig_put(r, a, (size_t)s[1] * sizeof *a);
    test_free(a);
    d.dt = kn_rig_vec(r, 23, s[1], -1, 1);
    d.norm = s[6] ? kn_rig_vec(r, 24, s[3], 1, 0.1f) : NULL;
    return d;
}

static struct kn_mat deltanet_call(struct kn_rig *r, const struct deltanet *d, const struct kn_rig_seq *seqs, int n)
{
    const struct kn_step *step = kn_rig_step(r, seqs, n, GDN_SLOTS, 100, NULL, NULL);
    const struct kn_mat x = sequence_rows(r, 31, seqs, n, 2 * d->n_k * d->d_k + d->n_v * d->d_v, 1);
    const struct kn_mat b = sequence_rows(r, 32, seqs, n, d->n_v, 1), alpha = sequence_rows(r, 33, seqs, n, d->n_v, 2);
    const struct kn_mat y = kn_rig_out(r, x.rows, d->n_v * d->d_v, 1);
    const struct kn_mat z = d->norm ? sequence_rows(r, 34, seqs, n, d->n_v * d->d_v, 1) : (struct kn_mat){0};
    r->op->gdn_conv(r->stream, &(struct kn_gdn_conv_args){.step = step,
                                                          .x = x,
                                                          .w = d->conv_w,
                                                          .taps = d->taps,
                                                          .state = d->conv_state,
                                                          .n_slots = GDN_SLOTS,
                                                          .n_k = d->n_k,
                                                          .n_v = d->n_v,
                                                          .d_k = d->d_k,
                                                          .d_v = d->d_v,
                                                          .y = x});
    r->op->gdn_scan(r->stream, &(struct kn_gdn_scan_args){.step = step,
                                                          .qkv = x,
                                                          .b = b,
                                                          .alpha = alpha,
                                                          .a = d->a,
                                                          .dt = d->dt,
                                                          .n_k = d->n_k,
                                                          .n_v = d->n_v,
                                                          .d_k = d->d_k,
                                                          .d_v = d->d_v,
                                                          .state = &d->state,
                                                          .z = z,
                                                          .norm = d->norm,
                                                          .eps = 1e-6f,
                                                          .y = y});
    return y;
}

static void run_deltanet(struct kn_rig *r, const int *s, struct kn_output *out)
{
    const struct deltanet d = open_deltanet(r, s);
    const struct kn_rig_seq first[] = {{70, 0, 0}, {1, 0, 2}, {130, 0, 1}}, second[] = {{1, 130, 1}, {1, 70, 0}, {3, 1, 2}};
    struct kn_mat y = deltanet_call(r, &d, first, 3);
    kn_output_add(out, r, &y);
    y = deltanet_call(r, &d, second, 3);
    kn_output_add(out, r, &y);
}

static void run_deltanet_whole(struct kn_rig *r, const int *s, struct kn_output *out)
{
    const struct deltanet d = open_deltanet(r, s);
    const struct kn_rig_seq all = {s[5], 0, 1};
    const struct kn_mat y = deltanet_call(r, &d, &all, 1);
    kn_output_add(out, r, &y);
}

static void run_deltanet_pieces(struct kn_rig *r, const int *s, struct kn_output *out)
{
    const struct deltanet d = open_deltanet(r, s);
    static const int pieces[] = {1, 7, 60, 3, 1, 90, 2};
    int32_t other = 0;
    for (int32_t past = 0, i = 0; past < s[5]; i++) {
        int32_t n = pieces[i % 7];
        n = n < s[5] - past ? n : s[5] - past;
        const struct kn_rig_seq seqs[] = {{2, other, 0}, {n, past, 1}};
        const struct kn_mat y = deltanet_call(r, &d, seqs, 2);
        const struct kn_mat mine = {y.data + 2 * y.stride, n, y.cols, y.stride};
        kn_output_add(out, r, &mine);
        past += n;
        other += 2;
    }
}

static void deltanet(void **state)
{
    static const int shapes[][KN_SHAPE_MAX] = {{2, 2, 16, 16, 4}, {2, 6, 32, 32, 4}, {1, 4, 128, 128, 4}, {3, 3, 20, 12, 3}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (kn_cases_few && shapes[i][2] == 128)
            continue;
        /* the reference keeps S in float32 after every token, the chunked form only at borders: some 200 roundings apart */
        kn_compare("deltanet", run_deltanet, shapes[i], 1e-10);
        int shape[KN_SHAPE_MAX];
        memcpy(shape, shapes[i], sizeof shape);
        shape[6] = 1; /* normed: what was small is as large as the rest then, and so is its error */
        kn_compare("deltanet", run_deltanet, shape, 1e-9);
        shape[5] = 200;
        kn_same_bits("deltanet", run_deltanet_whole, run_deltanet_pieces, shape);
    }
}

/* ---- experts ---------------------------------------------------------------------------------------------------------------------- */

/* shape: T, E, F, experts, k, type, merged, 0, or 1: the choice of experts too, or 2 + gate's own type */
static void run_experts_by(struct kn_rig *r, const int *s, int32_t step, struct kn_output *out)
{
    const int32_t T = s[0], E = s[1], F = s[2], n = s[3], k = s[4];
    const enum kn_dtype type = (enum kn_dtype)s[5];
    const struct kn_mat x = kn_rig_mat(r, 1, T, E, 1, 1), weights = kn_rig_out(r, T, k, 1), h = kn_rig_out(r, T * k, F, 0);
    const struct kn_mat y = kn_rig_out(r, T, E, 2), shared = kn_rig_out(r, T, F, 1), gates = kn_rig_out(r, T, 1, 1);
    int32_t *ids = kn_rig_put(r, NULL, (size_t)(T * k) * sizeof *ids);
    const enum kn_dtype other = s[6] ? KN_Q8_0 : type; /* of the shared expert: files keep it better now and then */
    const struct kn_weight *router = kn_rig_weight(r, 2, KN_F32, 1, n, E),
                           *gate = kn_rig_weight(r, 3, s[7] > 1 ? (enum kn_dtype)(s[7] - 2) : type, n, s[6] ? 2 * F : F, E);
    const struct kn_weight *up = s[6] ? NULL : kn_rig_weight(r, 4, type, n, F, E), *down = kn_rig_weight(r, 5, type, n, E, F);
    const struct kn_weight *shared_gate = kn_rig_weight(r, 7, other, 1, F, E), *shared_up = kn_rig_weight(r, 8, other, 1, F, E),
                           *shared_down = kn_rig_weight(r, 9, other, 1, E, F);
    kn_vec shared_vec = kn_rig_vec(r, 6, E, 0, 0.1f), norm = kn_rig_vec(r, 10, E, 1, 0.1f);
    const struct kn_mat residual = kn_rig_mat(r, 11, T, E, 4, 0.3f), normed = kn_rig_out(r, T, E, 8);
#define ROWS(m, first, n_rows) ((struct kn_mat){(m).data + (first) * (m).stride, n_rows, (m).cols, (m).stride})
    for (int32_t t = 0; t < T; t += step) {
        const struct kn_mat xt = ROWS(x, t, step), wt = ROWS(weights, t, step), ht = ROWS(h, t * k, step * k),
                            yt = ROWS(y, t, step);
        int32_t *it = ids + t * k;
        const struct kn_mat st = ROWS(shared, t, step), gt = ROWS(gates, t, step);
        const struct kn_add_rms_norm_args then = {
            .x = ROWS(residual, t, step), .res = yt, .w = norm, .eps = 1e-6f, .y = ROWS(normed, t, step)};
        r->op->moe_route(r->stream,
                         &(struct kn_moe_route_args){
                             .x = xt, .w = router, .k = k, .ids = it, .weights = wt, .shared = shared_vec, .gates = gt});
        r->op->moe_gate_up(r->stream, &(struct kn_moe_gate_up_args){.x = xt,
                                                                    .ids = it,
                                                                    .k = k,
                                                                    .gate = gate,
                                                                    .up = up,
                                                                    .y = ht,
                                                                    .shared_gate = shared_gate,
                                                                    .shared_up = shared_up,
                                                                    .shared_y = st});
        r->op->moe_down(r->stream, &(struct kn_moe_down_args){.h = ht,
                                                              .ids = it,
                                                              .k = k,
                                                              .weights = wt,
                                                              .down = down,
                                                              .y = yt,
                                                              .shared_down = shared_down,
                                                              .shared_h = st,
                                                              .gates = gt,
                                                              .then = &then});
    }
#undef ROWS
    int32_t host_ids[512];
    kn_rig_get(r, host_ids, ids, (size_t)(T * k) * sizeof *ids);
    /* the choice is part of the output, as numbers */
    float *as_float = test_malloc((size_t)(T * k) * sizeof *as_float);
    for (int32_t i = 0; i < T * k; i++)
        as_float[i] = (float)host_ids[i] * 1000;
    const struct kn_mat chosen = {kn_rig_put(r, as_float, (size_t)(T * k) * sizeof *as_float), 1, T * k, T * k};
    test_free(as_float);
    kn_output_add(out, r, &weights);
    if (s[7] == 1) /* the choice only where products are exact: elsewhere it is compared alone */
        kn_output_add(out, r, &chosen);
    else
        kn_output_add(out, r, &y);
    kn_output_add(out, r, &residual);
    kn_output_add(out, r, &normed);
}

static void run_experts(struct kn_rig *r, const int *s, struct kn_output *out)
{
    run_experts_by(r, s, s[0], out);
}

static void run_experts_alone(struct kn_rig *r, const int *s, struct kn_output *out)
{
    run_experts_by(r, s, 1, out);
}

static void products_and_norms(void **state)
{
    static const enum kn_dtype types[] = {KN_F32, KN_BF16, KN_Q8_0, KN_Q4_K};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const int type = types[i];
        for (int n = 1; n <= 3; n++)
            kn_compare("a product and a norm", run_linear_then, (int[KN_SHAPE_MAX]){3, 256, 600, type, n},
                       2 * kn_limit_of(types[i]));
        kn_compare("a product and a norm", run_linear_then, (int[KN_SHAPE_MAX]){1, 256, 37, type, 1},
                   2 * kn_limit_of(types[i]));
        kn_same_bits("a product and a norm", run_linear_then, run_linear_then_alone, (int[KN_SHAPE_MAX]){5, 256, 600, type, 5});
        kn_same_bits("a product and a norm", run_linear_then, run_linear_then_alone, (int[KN_SHAPE_MAX]){5, 512, 600, type, 2});
    }
}

static void experts(void **state)
{
    for (size_t t = 0; t < KN_N_TYPES; t++) {
        const int type = kn_types[t];
        const double limit = kn_limit_of(kn_types[t]);
        /* kernels that run on a host take minutes for all: unpacking is what linear's are for */
        const bool is_enough = kn_cases_cuda && type != KN_Q4_K && type != KN_BF16 && type != KN_NVFP4 && type != KN_F32;
        kn_compare("experts", run_experts, (int[KN_SHAPE_MAX]){1, 256, 256, 8, 2, type, 0, 0}, 8 * limit);
        if (is_enough)
            continue;
        kn_compare("experts", run_experts, (int[KN_SHAPE_MAX]){11, 256, 256, 16, 4, type, 1, 0},
                   8 * fmax(limit, kn_limit_of(KN_Q8_0)));
        kn_same_bits("experts", run_experts, run_experts_alone, (int[KN_SHAPE_MAX]){36, 256, 256, 3, 2, type, 0, 0});
        if (!kn_cases_few) /* some 36 rows to each: two tiles of 16 and a rest */
            kn_compare("many rows to an expert", run_experts, (int[KN_SHAPE_MAX]){54, 256, 256, 3, 2, type, 0, 0}, 8 * limit);
    }
    /* gate and up of two types, more pairs than are slots of their own */
    static const enum kn_dtype pairs[][2] = {{KN_F32, KN_Q8_0}, {KN_Q8_0, KN_F32}, {KN_Q8_0, KN_BF16}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const int shape[KN_SHAPE_MAX] = {36, 64, 96, 6, 2, (int)pairs[i][0], 0, 2 + (int)pairs[i][1]};
        kn_compare("experts of two types", run_experts, shape,
                   8 * fmax(kn_limit_of(KN_F32), fmax(kn_limit_of(pairs[i][0]), kn_limit_of(pairs[i][1]))));
        kn_same_bits("experts of two types", run_experts, run_experts_alone, shape);
    }
    kn_compare("routing", run_experts, (int[KN_SHAPE_MAX]){40, 96, 32, 64, 8, KN_F32, 0, 1}, KN_LIMIT_F32);
    kn_compare("experts", run_experts, (int[KN_SHAPE_MAX]){40, 96, 40, 5, 3, KN_F32, 0, 0}, KN_LIMIT_F32);
}

/* ---- vision ----------------------------------------------------------------------------------------------------------------------- */

/* shape: grid_w, grid_h, heads, D, side */
static void run_vision(struct kn_rig *r, const int *s, struct kn_output *out)
{
    const int32_t P = s[0] * s[1], C = s[2] * s[3], patch = 4;
    uint8_t *rgb = test_malloc((size_t)(P * patch * patch * 3));
    for (int32_t i = 0; i < P * patch * patch * 3; i++)
        rgb[i] = (uint8_t)rng_at(1, (uint64_t)i);
    const struct kn_mat patches = kn_rig_out(r, P, 3 * patch * patch, 1), x = kn_rig_mat(r, 2, P, C, 1, 1);
    r->op->patchify(r->stream, &(struct kn_patchify_args){.rgb = kn_rig_put(r, rgb, (size_t)(P * patch * patch * 3)),
                                                          .width_px = s[0] * patch,
                                                          .height_px = s[1] * patch,
                                                          .patch_px = patch,
                                                          .merge = 2,
                                                          .mean = {0.5f, 0.4f, 0.3f},
                                                          .stddev = {0.5f, 0.25f, 0.2f},
                                                          .y = patches});
    test_free(rgb);
    r->op->add_pos_embed(
        r->stream,
        &(struct kn_add_pos_embed_args){
            .x = x, .grid = kn_rig_vec(r, 3, s[4] * s[4] * C, 0, 1), .side = s[4], .grid_w = s[0], .grid_h = s[1], .merge = 2});
    const struct kn_mat qkv = kn_rig_mat(r, 4, P, 3 * C, 2, 1), y = kn_rig_out(r, P, C, 3);
    r->op->rope_2d(r->stream, &(struct kn_rope_2d_args){
                                  .qkv = qkv, .n_heads = s[2], .grid_w = s[0], .grid_h = s[1], .merge = 2, .theta = 10000});
    r->op->attn_full(r->stream, &(struct kn_attn_full_args){.qkv = qkv, .n_heads = s[2], .y = y});
    kn_output_add(out, r, &patches);
    kn_output_add(out, r, &x);
    kn_output_add(out, r, &qkv);
    kn_output_add(out, r, &y);
}

/* Attention alone, with bfloat16 where the device likes. shape: rows, heads, d, bf16 */
static void run_attn_full(struct kn_rig *r, const int *s, struct kn_output *out)
{
    const struct kn_mat qkv = kn_rig_mat(r, 4, s[0], 3 * s[1] * s[2], 2, 1), y = kn_rig_out(r, s[0], s[1] * s[2], 3);
    r->op->attn_full(r->stream, &(struct kn_attn_full_args){.qkv = qkv, .n_heads = s[1], .is_bf16 = s[3], .y = y});
    kn_output_add(out, r, &y);
}

static void vision(void **state)
{
    static const int shapes[][3] = {{1, 1, 8},    {16, 2, 16},  {63, 2, 64}, {130, 3, 72},
                                    {200, 1, 80}, {65, 2, 128}, {33, 1, 132}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int *s = shapes[i];
        kn_compare("attn_full", run_attn_full, (int[KN_SHAPE_MAX]){s[0], s[1], s[2], 0}, KN_LIMIT_F32);
        kn_compare("attn_full bf16", run_attn_full, (int[KN_SHAPE_MAX]){s[0], s[1], s[2], 1},
                   10 * KN_LIMIT_BF16); /* a score is off by 2^-8 or so */
    }
    kn_compare("vision", run_vision, (int[KN_SHAPE_MAX]){2, 2, 1, 8, 5}, KN_LIMIT_F32);
    kn_compare("vision", run_vision, (int[KN_SHAPE_MAX]){6, 10, 2, 72, 8}, KN_LIMIT_F32);
    if (!kn_cases_few)
        kn_compare("vision", run_vision, (int[KN_SHAPE_MAX]){20, 14, 3, 64, 48}, KN_LIMIT_F32);
}
/* ---- limits ------------------------------------------------------------------------------------------------------------------------- */

/* A stream's limits are a promise: the widest call that they allow goes through, also where rows are padded. */
static void smallest_limits_are_enough(void **state)
{
    static const int shapes[][KN_SHAPE_MAX] = {{1, 64, 40, KN_BF16, 0, 0, 0, 1},
                                               {1, 64, 40, KN_F16, 0, 0, 0, 1},
                                               {1, 33, 7, KN_BF16, 0, 0, 0, 1},
                                               {1, 64, 40, KN_Q8_0, 0, 0, 0, 0},
                                               {1, 64, 40, KN_F32, 0, 0, 0, 0}};
    for (size_t d = 0; d < kn_n_cases; d++) {
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            struct kn_rig r;
            struct err err = {0};
            struct kn_output out = {0};
            if (!kn_case_open(d, &r))
                continue;
            kn_stream_close(r.stream);
            const struct kn_limits limits = {.rows = shapes[i][0],
                                             .cols = shapes[i][1],
                                             .outputs = shapes[i][2],
                                             .seqs = 1,
                                             .kv_len = 1,
                                             .heads = 1,
                                             .head_dim = 16};
            assert_ok(kn_stream_open(r.device, &limits, &r.stream, &err), &err);
            run_linear(&r, shapes[i], &out);
            assert_ok(kn_stream_sync(r.stream, &err), &err);
            kn_output_release(&out);
            kn_rig_close(&r);
        }
    }
}
int main(void)
{
    kn_cases_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_and_norms),
        cmocka_unit_test(matrix_products),
        cmocka_unit_test(attention),
        cmocka_unit_test(deltanet),
        cmocka_unit_test(products_and_norms),
        cmocka_unit_test(experts),
        cmocka_unit_test(vision),
        cmocka_unit_test(smallest_limits_are_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
