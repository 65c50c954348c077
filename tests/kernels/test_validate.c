/*
 * Arguments that do not belong together are refused with words, before anything is touched; right ones pass. One step block and
 * one set of tensors; each case spoils one thing.
 */
#include <math.h>
#include <string.h>

#include "tests/support/kn_rig.h"

static struct kn_rig rig;

/* The stream must be marked, with these words; then it is cleared. */
static void refused(const char *words)
{
    struct err err = {0};
    assert_err(kn_stream_sync(rig.stream, &err), ERR_INVAL, &err, words);
    kn_stream_clear(rig.stream);
}

static void accepted(void)
{
    struct err err = {0};
    assert_ok(kn_stream_sync(rig.stream, &err), &err);
}

static int open_rig(void **state)
{
    kn_rig_open(&rig, "ref", NULL, 1);
    return 0;
}

static int close_rig(void **state)
{
    kn_rig_close(&rig);
    return 0;
}

/* ---- matrices ---------------------------------------------------------------------------------------------------------------------- */

static void matrices_must_fit_and_lie_apart(void **state)
{
    const struct kn_ops *op = rig.op;
    const struct kn_mat x = kn_rig_mat(&rig, 1, 4, 32, 4, 1), y = kn_rig_out(&rig, 4, 32, 0), none = {0};
    const kn_vec w = kn_rig_vec(&rig, 2, 32, 1, 0.1f);
    struct kn_add_rms_norm_args a = {.x = x, .w = w, .eps = 1e-6f, .y = x};
    op->add_rms_norm(rig.stream, &a); /* in place */
    accepted();
    a.y = none;
    op->add_rms_norm(rig.stream, &a);
    refused("add_rms_norm: y is missing");
    a.y = (struct kn_mat){y.data, 4, 31, 32};
    op->add_rms_norm(rig.stream, &a);
    refused("y is [4, 31], expected [4, 32]");
    a.y = (struct kn_mat){y.data, 4, 32, 31};
    op->add_rms_norm(rig.stream, &a);
    refused("y: stride 31 below 32 columns");
    a.y = (struct kn_mat){(float *)(void *)((char *)y.data + 2), 4, 32, 32};
    op->add_rms_norm(rig.stream, &a);
    refused("y is not aligned to a float");
    a.y = (struct kn_mat){x.data + 1, 4, 32, x.stride};
    op->add_rms_norm(rig.stream, &a);
    refused("x and y overlap");
    a.y = y;
    a.res = y;
    op->add_rms_norm(rig.stream, &a);
    refused("y and res overlap");
    a.res = none;
    a.w = NULL;
    op->add_rms_norm(rig.stream, &a);
    refused("w is missing");
    a.w = w;
    a.eps = NAN;
    op->add_rms_norm(rig.stream, &a);
    refused("eps is nan");
    op->add_layer_norm(rig.stream, &(struct kn_add_layer_norm_args){.x = x, .w = w, .b = w, .eps = 1e-6f, .y = x});
    refused("add_layer_norm: x and y overlap");
    op->gated_rms_norm(rig.stream, &(struct kn_gated_rms_norm_args){.x = x, .z = x, .w = w, .n_heads = 5, .y = y});
    refused("32 columns in 5 heads");
    op->gated_rms_norm(rig.stream, &(struct kn_gated_rms_norm_args){.x = y, .z = x, .w = w, .n_heads = 2, .y = x});
    refused("y and z overlap");
    op->put_rows(rig.stream, &(struct kn_put_rows_args){.x = x, .row0 = 1, .y = y});
    refused("put_rows: rows 1 to 5 of 4");
}

static void products_must_fit_the_weight_and_the_limits(void **state)
{
    const struct kn_ops *op = rig.op;
    const struct kn_mat x = kn_rig_mat(&rig, 1, 4, 32, 0, 1), y = kn_rig_out(&rig, 4, 8, 0);
    const struct kn_weight *w = kn_rig_weight(&rig, 3, KN_Q8_0, 1, 8, 32), *stack = kn_rig_weight(&rig, 4, KN_Q8_0, 3, 8, 32);
    op->linear(rig.stream, &(struct kn_linear_args){.x = x, .w = NULL, .y = y});
    refused("linear: weight w is missing");
    op->linear(rig.stream, &(struct kn_linear_args){.x = x, .w = stack, .y = y});
    refused("weight w has 3 slices");
    op->linear(rig.stream, &(struct kn_linear_args){.x = x, .w = w, .act = (enum kn_act)9, .y = y});
    refused("activation 9");
    op->linear(rig.stream, &(struct kn_linear_args){.x = {x.data, 4, 31, 32}, .w = w, .y = y});
    refused("weight w is [8, 32], expected [8, 31]");
    op->linear(rig.stream, &(struct kn_linear_args){.x = {x.data, 100000, 32, 32}, .w = w, .y = {y.data, 100000, 8, 8}});
    refused("100000 rows, the stream was opened for 512");
    op->project(rig.stream, &(struct kn_project_args){.x = x, .n = 5, .w = {w}, .y = {y}});
    refused("project: 5 projections, at most 4");
    op->project(rig.stream, &(struct kn_project_args){.x = x, .n = 2, .w = {w, w}, .y = {y, y}});
    refused("two outputs overlap");
    op->gate_up(rig.stream, &(struct kn_gate_up_args){.x = x, .gate = w, .up = stack, .y = y});
    refused("weight up has 3 slices");
    kn_rig_reset(&rig);
}

/* ---- the step block ------------------------------------------------------------------------------------------------------------------ */

enum { T = 6, D = 8, SLOTS = 4, PAGES = 6 };

/* Host mirrors of a good step: two sequences of 2 and 4 rows, the second over a page border; spoilt ones are sent again. */
struct block {
    struct kn_seq seqs[2];
    int32_t seq_of_row[T], pages[3], tokens[T], pos[3 * T];
};

static struct block good_block(void)
{
    return (struct block){.seqs = {{0, 2, 5, 3, 0}, {2, 4, 62, 1, 1}},
                          .seq_of_row = {0, 0, 1, 1, 1, 1},
                          .pages = {5, 0, 2},
                          .tokens = {1, 2, 3, -1, 5, 6}};
}

static const struct kn_step *send(const struct block *b)
{
    const struct kn_step step = {.n_rows = T,
                                 .n_seqs = 2,
                                 .tokens = kn_rig_put(&rig, b->tokens, sizeof b->tokens),
                                 .pos = kn_rig_put(&rig, b->pos, sizeof b->pos),
                                 .seqs = kn_rig_put(&rig, b->seqs, sizeof b->seqs),
                                 .seq_of_row = kn_rig_put(&rig, b->seq_of_row, sizeof b->seq_of_row),
                                 .pages = kn_rig_put(&rig, b->pages, sizeof b->pages)};
    return kn_rig_put(&rig, &step, sizeof step);
}

static void steps_must_be_in_order_and_in_range(void **state)
{
    const size_t bytes = kn_row_bytes(KN_F16, D) * 2 * PAGES * KN_PAGE_TOKENS;
    struct kn_kv kv = {kn_rig_put(&rig, NULL, bytes), kn_rig_put(&rig, NULL, bytes), KN_F16, PAGES, 2, D};
    const struct kn_mat q = kn_rig_mat(&rig, 1, T, 4 * D, 0, 1), y = kn_rig_out(&rig, T, 4 * D, 0);
    struct kn_attn_args a = {.q = q, .kv = &kv, .scale = 1, .y = y};
    static const struct {
        size_t offset; /* of the int32 that is spoilt */
        int32_t value;
        const char *words;
    } cases[] = {
        {offsetof(struct block, seqs[0].row0), 1, "sequence 0: row0 1 (expected 0)"},
        {offsetof(struct block, seqs[0].n_rows), 0, "0 rows of 6"},
        {offsetof(struct block, seqs[1].n_rows), 5, "5 rows of 6"},
        {offsetof(struct block, seqs[1].n_rows), 3, "the sequences have 5 rows, the step 6"},
        {offsetof(struct block, seqs[0].past), -1, "past -1"},
        {offsetof(struct block, seqs[0].past), 4095, "sequence 0: 4097 tokens, the stream was opened for 4096"},
        {offsetof(struct block, seqs[1].past), INT32_MAX, "2147483651 tokens"},
        {offsetof(struct block, seqs[1].page0), -1, "its page list starts at -1"},
        {offsetof(struct block, seq_of_row[3]), 0, "row 3 belongs to sequence 1, the step says 0"},
        {offsetof(struct block, pages[2]), PAGES, "sequence 1: page 6 of 6"},
        {offsetof(struct block, pages[0]), -1, "sequence 0: page -1 of 6"},
    };
    struct block b = good_block();
    a.step = send(&b);
    rig.op->attn(rig.stream, &a);
    accepted();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        b = good_block();
        memcpy((char *)&b + cases[i].offset, &cases[i].value, sizeof cases[i].value);
        a.step = send(&b);
        rig.op->attn(rig.stream, &a);
        refused(cases[i].words);
    }
    b = good_block();
    a.step = send(&b);
    a.kv = NULL;
    rig.op->attn(rig.stream, &a);
    refused("attn: the KV cache is missing");
    a.kv = &kv;
    kv.n_heads = 0;
    rig.op->attn(rig.stream, &a);
    refused("a KV cache of 0 heads");
    kv.n_heads = 3;
    rig.op->attn(rig.stream, &a);
    refused("32 query columns, head size 8, 3 KV heads");
    kv.n_heads = 2;
    kv.dtype = KN_Q8_0; /* blocks of 32 in heads of 8 */
    rig.op->attn(rig.stream, &a);
    refused("a KV head size of 8");
    kv.dtype = KN_BF16;
    rig.op->attn(rig.stream, &a);
    refused("a KV cache of type BF16");
    kv.dtype = KN_F16;
    a.y = q;
    rig.op->attn(rig.stream, &a);
    refused("q and y overlap");
    a.step = NULL;
    a.y = y;
    rig.op->attn(rig.stream, &a);
    refused("the step is missing");

    /* recurrent state: slots */
    enum { C = 2 * D + D };
    const struct kn_mat x = kn_rig_mat(&rig, 1, T, C, 0, 1);
    struct kn_gdn_conv_args c = {.x = x,
                                 .w = kn_rig_vec(&rig, 2, C * 4, 0, 1),
                                 .taps = 4,
                                 .state = kn_rig_put(&rig, NULL, SLOTS * 3 * C * sizeof(float)),
                                 .n_slots = SLOTS,
                                 .n_k = 1,
                                 .n_v = 1,
                                 .d_k = D,
                                 .d_v = D,
                                 .y = x};
    b = good_block();
    c.step = send(&b);
    rig.op->gdn_conv(rig.stream, &c);
    accepted();
    c.d_v = D + 1;
    rig.op->gdn_conv(rig.stream, &c);
    refused("24 channels, the heads make 25");
    c.d_v = D;
    b.seqs[1].slot = SLOTS;
    c.step = send(&b);
    rig.op->gdn_conv(rig.stream, &c);
    refused("sequence 1: slot 4 of 4");
    b.seqs[1].slot = b.seqs[0].slot;
    c.step = send(&b);
    rig.op->gdn_conv(rig.stream, &c);
    refused("sequences 0 and 1 share slot 3");
}

static void rotary_axes_are_three(void **state)
{
    const size_t bytes = kn_row_bytes(KN_F32, D) * PAGES * KN_PAGE_TOKENS;
    const struct kn_kv kv = {kn_rig_put(&rig, NULL, bytes), kn_rig_put(&rig, NULL, bytes), KN_F32, PAGES, 1, D};
    static const float inv_freq[] = {1, 0.5f, 0.25f, 0.125f};
    static const int32_t axis[] = {0, 1, 2, 3};
    const struct block b = good_block();
    const kn_vec w = kn_rig_vec(&rig, 1, D, 1, 0.1f);
    struct kn_attn_store_args a = {.step = send(&b),
                                   .qg = kn_rig_mat(&rig, 1, T, 4 * D, 0, 1),
                                   .k = kn_rig_mat(&rig, 2, T, D, 0, 1),
                                   .v = kn_rig_mat(&rig, 3, T, D, 0, 1),
                                   .q_norm = w,
                                   .k_norm = w,
                                   .inv_freq = kn_rig_put(&rig, inv_freq, sizeof inv_freq),
                                   .axis = kn_rig_put(&rig, axis, sizeof axis),
                                   .n_pairs = 3,
                                   .rope_scale = 1,
                                   .kv = &kv,
                                   .q = kn_rig_out(&rig, T, 2 * D, 0)};
    rig.op->attn_store(rig.stream, &a);
    accepted();
    a.n_pairs = 4;
    rig.op->attn_store(rig.stream, &a);
    refused("attn_store: rotary pair 3 turns by axis 3");
    a.n_pairs = 5;
    rig.op->attn_store(rig.stream, &a);
    refused("5 rotary pairs in a head of 8");
    a.n_pairs = 3;
    a.q.data = a.qg.data;
    rig.op->attn_store(rig.stream, &a);
    refused("q and qg overlap");
}

/* ---- indices ----------------------------------------------------------------------------------------------------------------------- */

static void ids_must_be_in_range(void **state)
{
    const struct kn_weight *w = kn_rig_weight(&rig, 1, KN_F32, 5, 8, 16), *table = kn_rig_weight(&rig, 1, KN_F32, 1, 6, 16);
    const struct kn_mat x = kn_rig_mat(&rig, 1, T, 16, 0, 1), h = kn_rig_out(&rig, T, 8, 0), y = kn_rig_out(&rig, T, 16, 0);
    static const int32_t low[T] = {0, 1, 2, 3, 4, -1}, high[T] = {5, 0, 0, 0, 0, 0}, good[T] = {0, 1, 2, 3, 4, 4};
    struct kn_moe_gate_up_args a = {.x = x, .ids = kn_rig_put(&rig, good, sizeof good), .k = 1, .gate = w, .up = w, .y = h};
    rig.op->moe_gate_up(rig.stream, &a);
    accepted();
    a.ids = kn_rig_put(&rig, low, sizeof low);
    rig.op->moe_gate_up(rig.stream, &a);
    refused("moe_gate_up: expert -1 of 5");
    a.ids = kn_rig_put(&rig, high, sizeof high);
    rig.op->moe_gate_up(rig.stream, &a);
    refused("expert 5 of 5");
    a.k = 2;
    rig.op->moe_gate_up(rig.stream, &a);
    refused("6 rows for 6 tokens and 2 experts each");
    const struct kn_mat weights = kn_rig_out(&rig, T, 7, 0);
    rig.op->moe_route(rig.stream, &(struct kn_moe_route_args){.x = x, .w = table, .k = 7, .ids = NULL, .weights = weights});
    refused("7 of 6 experts");
    struct block b = good_block(); /* has token 6, and a row that put_rows fills */
    rig.op->embed(rig.stream, &(struct kn_embed_args){.step = send(&b), .table = table, .y = y});
    refused("embed: token 6 in row 5, the table has 6 rows");
    b.tokens[5] = 0;
    rig.op->embed(rig.stream, &(struct kn_embed_args){.step = send(&b), .table = table, .y = y});
    accepted();
    kn_rig_reset(&rig);
}

static void pictures_must_fit_their_grid(void **state)
{
    const struct kn_mat y = kn_rig_out(&rig, 4, 48, 0);
    void *rgb = kn_rig_put(&rig, NULL, 8 * 8 * 3);
    struct kn_patchify_args a = {
        .rgb = rgb, .width_px = 8, .height_px = 8, .patch_px = 4, .merge = 2, .stddev = {1, 1, 1}, .y = y};
    rig.op->patchify(rig.stream, &a);
    accepted();
    a.width_px = 9;
    rig.op->patchify(rig.stream, &a);
    refused("a picture of 9 x 8 in patches of 4");
    a.width_px = 4;
    rig.op->patchify(rig.stream, &a);
    refused("a grid of 1 x 2, merged by 2");
    a.width_px = 16;
    rig.op->patchify(rig.stream, &a);
    refused("4 rows for a grid of 4 x 2");
    a.width_px = 8;
    a.stddev[1] = 0;
    rig.op->patchify(rig.stream, &a);
    refused("standard deviation 0");
    rig.op->rope_2d(rig.stream,
                    &(struct kn_rope_2d_args){.qkv = y, .n_heads = 8, .grid_w = 2, .grid_h = 2, .merge = 2, .theta = 10000});
    refused("48 columns are not q, k and v of 8 heads of a multiple of 4");
}

/* ---- weights and tracing --------------------------------------------------------------------------------------------------------------- */

static void weights_are_checked_when_begun(void **state)
{
    struct err err = {0};
    struct kn_weight w = {.dtype = KN_Q4_K, .rows = 2, .cols = 300, .slices = 1};
    assert_err(kn_weight_begin(rig.device, &w, &err), ERR_INVAL, &err, "rows are whole blocks of 256");
    w.dtype = (enum kn_dtype)16;
    assert_err(kn_weight_begin(rig.device, &w, &err), ERR_UNSUPPORTED, &err, "IQ2_XXS");
    w.dtype = KN_I32;
    assert_err(kn_weight_begin(rig.device, &w, &err), ERR_UNSUPPORTED, &err, "I32");
    w = (struct kn_weight){.dtype = KN_F32, .rows = 2, .cols = 4, .slices = 1};
    assert_ok(kn_weight_begin(rig.device, &w, &err), &err);
    const float rows[12] = {0};
    assert_err(kn_weight_rows(rig.device, &w, 1, 2, rows, &err), ERR_INVAL, &err, "of a weight of 2");
    assert_err(kn_weight_rows(rig.device, &w, -1, 1, rows, &err), ERR_INVAL, &err, "of a weight of 2");
    kn_weight_free(rig.device, &w);
    assert_null(w.data);
}

static void traces_count_experts_once(void **state)
{
    struct kn_rig r;
    struct err err = {0};
    struct kn_trace_row row;
    kn_rig_open(&r, "ref", NULL, 1);
    assert_ok(kn_trace_begin(r.device, &err), &err);
    const struct kn_weight *w = kn_rig_weight(&r, 1, KN_F32, 2, 8, 16);
    const int32_t ids[T] = {0, 1, 1, 0, 1, 0};
    r.op->moe_gate_up(r.stream, &(struct kn_moe_gate_up_args){.x = kn_rig_mat(&r, 1, T, 16, 0, 1),
                                                              .ids = kn_rig_put(&r, ids, sizeof ids),
                                                              .k = 1,
                                                              .gate = w,
                                                              .up = w,
                                                              .y = kn_rig_out(&r, T, 8, 0)});
    assert_int_equal(kn_trace_read(r.device, &row, 1, true), 1);
    assert_int_equal(row.weight_bytes, 2 * w->slices * 8 * 16 * sizeof(float));
    kn_rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(matrices_must_fit_and_lie_apart, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(products_must_fit_the_weight_and_the_limits, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(steps_must_be_in_order_and_in_range, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(rotary_axes_are_three, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(ids_must_be_in_range, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(pictures_must_fit_their_grid, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(weights_are_checked_when_begun, open_rig, close_rig),
        cmocka_unit_test(traces_count_experts_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
