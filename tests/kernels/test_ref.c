/*
 * The references themselves, and the CPU device with them, against what numpy makes of the same formulas in float64
 * (tests/golden/kernels/generate.py: same shapes, same seeds), against the toy vector of the delta rule worked by hand, and at the edges.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/kn_rig.h"

/*
 * NMSE. One float32 store is an error of at most 2^-24 of a value, 3.6e-15 squared; the references store a few times on the way
 * (rotated heads, the recurrent state after each token). The CPU device computes in float32 throughout.
 */
static const struct {
    const char *device;
    double limit;
} devices[] = {{"ref", 1e-13}, {"cpu", 1e-11}};
#define N_DEVICES (sizeof devices / sizeof *devices)

/* ---- golden records ------------------------------------------------------------------------------------------------------------ */

#define RECORDS_MAX 32
static struct {
    char name[25];
    uint32_t n;
    float *values;
} records[RECORDS_MAX];
static int n_records;

static int records_read(void **state)
{
    FILE *f = fopen("tests/golden/kernels/ops.bin", "rb");
    if (!f)
        return -1;
    while (n_records < RECORDS_MAX && fread(records[n_records].name, 24, 1, f) == 1) {
        uint32_t n;
        if (fread(&n, sizeof n, 1, f) != 1)
            break;
        records[n_records].n = n;
        records[n_records].values = malloc(n * sizeof(float));
        if (!records[n_records].values || fread(records[n_records].values, sizeof(float), n, f) != n)
            break;
        n_records++;
    }
    fclose(f);
    return n_records > 0 ? 0 : -1;
}

static int records_free(void **state)
{
    for (int i = 0; i < n_records; i++)
        free(records[i].values);
    return 0;
}

static const float *record_get(const char *name, uint32_t n)
{
    for (int i = 0; i < n_records; i++)
        if (strcmp(records[i].name, name) == 0) {
            assert_int_equal(records[i].n, n);
            return records[i].values;
        }
    fail_msg("no golden record %s", name);
    return NULL;
}

/* Every step-th row of m against the record. */
static void check(struct kn_rig *r, size_t d, const char *name, const struct kn_mat *m, int step)
{
    struct kn_output got = {0};
    for (int32_t t = 0; t < m->rows; t += step) {
        const struct kn_mat row = {m->data + t * m->stride, 1, m->cols, m->stride};
        kn_output_add(&got, r, &row);
    }
    const double nmse = test_nmse(got.data, record_get(name, (uint32_t)got.n), got.n);
    if (!(nmse <= devices[d].limit))
        fail_msg("%s on %s: NMSE %.3g above %.3g", name, devices[d].device, nmse, devices[d].limit);
    kn_output_release(&got);
}

/* ---- the cases: see generate.py --------------------------------------------------------------------------------------------------- */

static void norms(struct kn_rig *r, size_t d)
{
    struct kn_mat x = kn_rig_mat(r, 1, 3, 40, 1, 2), res = kn_rig_mat(r, 2, 3, 40, 2, 1), y = kn_rig_out(r, 3, 40, 3);
    const kn_vec w = kn_rig_vec(r, 3, 40, 1, 0.1f), b = kn_rig_vec(r, 4, 40, 0, 0.5f);
    r->op->add_rms_norm(r->stream, &(struct kn_add_rms_norm_args){.x = x, .res = res, .w = w, .eps = 1e-6f, .y = y});
    check(r, d, "add_rms_norm.x", &x, 1);
    check(r, d, "add_rms_norm.y", &y, 1);
    x = kn_rig_mat(r, 1, 3, 40, 0, 2);
    r->op->add_layer_norm(r->stream,
                          &(struct kn_add_layer_norm_args){.x = x, .res = res, .w = w, .b = b, .eps = 1e-6f, .y = y});
    check(r, d, "add_rms_norm.x", &x, 1);
    check(r, d, "add_layer_norm.y", &y, 1);
    x = kn_rig_mat(r, 5, 2, 48, 1, 1);
    r->op->gated_rms_norm(r->stream, &(struct kn_gated_rms_norm_args){.x = x,
                                                                      .z = kn_rig_mat(r, 7, 2, 48, 0, 3),
                                                                      .w = kn_rig_vec(r, 6, 16, 1, 0.1f),
                                                                      .n_heads = 3,
                                                                      .eps = 1e-6f,
                                                                      .y = x});
    check(r, d, "gated_rms_norm.y", &x, 1);
}

static void products(struct kn_rig *r, size_t d)
{
    const struct kn_mat x = kn_rig_mat(r, 11, 3, 24, 1, 1), y = kn_rig_out(r, 3, 10, 2), sum = kn_rig_mat(r, 14, 3, 10, 1, 1);
    const struct kn_weight *w = kn_rig_weight(r, 12, KN_F32, 1, 10, 24);
    const kn_vec bias = kn_rig_vec(r, 13, 10, 0, 0.5f);
    struct kn_linear_args a = {.x = x, .w = w, .bias = bias, .y = y};
    r->op->linear(r->stream, &a);
    check(r, d, "linear.y", &y, 1);
    a.act = KN_ACT_GELU_TANH;
    r->op->linear(r->stream, &a);
    check(r, d, "linear.gelu_tanh", &y, 1);
    a.act = KN_ACT_GELU_ERF;
    r->op->linear(r->stream, &a);
    check(r, d, "linear.gelu_erf", &y, 1);
    r->op->linear(r->stream, &(struct kn_linear_args){.x = x, .w = w, .bias = bias, .accumulate = true, .y = sum});
    check(r, d, "linear.accumulate", &sum, 1);
    static const float factor = 0.75f;
    struct kn_weight scaled = *w; /* the same bytes with a side tensor */
    scaled.scales = &factor;
    r->op->linear(r->stream, &(struct kn_linear_args){.x = x, .w = &scaled, .bias = bias, .y = y});
    check(r, d, "linear.scaled", &y, 1);
    const struct kn_weight *gate = kn_rig_weight(r, 15, KN_F32, 1, 11, 24), *up = kn_rig_weight(r, 16, KN_F32, 1, 11, 24);
    const struct kn_mat f = kn_rig_out(r, 3, 11, 1);
    r->op->gate_up(r->stream, &(struct kn_gate_up_args){.x = x, .gate = gate, .up = up, .y = f});
    check(r, d, "gate_up.y", &f, 1);
    /* project is several of those */
    r->op->project(r->stream, &(struct kn_project_args){.x = x, .n = 2, .w = {w, gate}, .y = {y, f}});
    r->op->linear(r->stream, &(struct kn_linear_args){.x = x, .w = w, .y = sum});
    struct kn_output one = {0}, other = {0};
    kn_output_add(&one, r, &y);
    kn_output_add(&other, r, &sum);
    assert_memory_equal(one.data, other.data, one.n * sizeof(float));
    kn_output_release(&one);
    kn_output_release(&other);
}

static void attention(struct kn_rig *r, size_t d)
{
    enum { T = 75, H = 4, G = 2, D = 16, N = 4, PAGES = 7 };
    int32_t pos[3 * T];
    for (int t = 0; t < T; t++) { /* text, a picture of 5 x 6, text; far out, where float32 phases are coarse */
        const bool picture = t >= 10 && t < 40;
        const int32_t p = t < 10 ? t : picture ? 10 : t - 24;
        pos[t] = 1000 * p;
        pos[T + t] = 1000 * (picture ? p + (t - 10) / 6 : p);
        pos[2 * T + t] = 1000 * (picture ? p + (t - 10) % 6 : p);
    }
    static const float inv_freq[N] = {0.9f, 0.0631f, 0.001f, 0.00002f};
    static const int32_t axis[N] = {0, 1, 2, 0};
    const size_t bytes = (size_t)PAGES * G * KN_PAGE_TOKENS * D * sizeof(float);
    const struct kn_kv kv = {.k = kn_rig_put(r, NULL, bytes),
                             .v = kn_rig_put(r, NULL, bytes),
                             .dtype = KN_F32,
                             .n_pages = PAGES,
                             .n_heads = G,
                             .head_dim = D};
    const struct kn_rig_seq seq = {.n_rows = T, .past = 0, .slot = 2};
    const struct kn_step *step = kn_rig_step(r, &seq, 1, 3, 100, NULL, pos);
    const struct kn_mat qg = kn_rig_mat(r, 21, T, H * 2 * D, 1, 1), k = kn_rig_mat(r, 22, T, G * D, 2, 1);
    const struct kn_mat v = kn_rig_mat(r, 23, T, G * D, 0, 1), q = kn_rig_out(r, T, H * D, 1), y = kn_rig_out(r, T, H * D, 3);
    r->op->attn_store(r->stream, &(struct kn_attn_store_args){.step = step,
                                                              .qg = qg,
                                                              .k = k,
                                                              .v = v,
                                                              .q_norm = kn_rig_vec(r, 24, D, 1, 0.1f),
                                                              .k_norm = kn_rig_vec(r, 25, D, 1, 0.1f),
                                                              .eps = 1e-6f,
                                                              .inv_freq = kn_rig_put(r, inv_freq, sizeof inv_freq),
                                                              .axis = kn_rig_put(r, axis, sizeof axis),
                                                              .n_pairs = N,
                                                              .rope_scale = 1.25f,
                                                              .kv = &kv,
                                                              .q = q});
    check(r, d, "attn_store.q", &q, 5);
    r->op->attn(r->stream, &(struct kn_attn_args){.step = step, .q = q, .gate = qg, .kv = &kv, .scale = 0.25f, .y = y});
    check(r, d, "attn.y", &y, 5);
    r->op->attn(r->stream, &(struct kn_attn_args){.step = step, .q = q, .kv = &kv, .scale = 0.25f, .y = y});
    check(r, d, "attn.no_gate", &y, 5);
}

/* Device memory of n zero bytes. */
static void *zeroes(struct kn_rig *r, size_t n)
{
    char *zero = test_calloc(1, n);
    void *p = kn_rig_put(r, zero, n);
    test_free(zero);
    return p;
}

static void deltanet(struct kn_rig *r, size_t d)
{
    enum { T = 150, NK = 2, NV = 6, DK = 16, DV = 12, TAPS = 4, C = 2 * NK * DK + NV * DV };
    const size_t slot = kn_gdn_state_bytes(NK, NV, DK, DV);
    const struct kn_gdn_state state = {.data = zeroes(r, 2 * slot), .bytes_per_slot = slot, .n_slots = 2};
    const struct kn_rig_seq seq = {.n_rows = T, .past = 0, .slot = 1};
    const struct kn_step *step = kn_rig_step(r, &seq, 1, 2, 100, NULL, NULL);
    const struct kn_mat x = kn_rig_mat(r, 31, T, C, 1, 1), y = kn_rig_out(r, T, NV * DV, 1);
    const float *a = record_get("gdn_scan.a", NV);
    r->op->gdn_conv(r->stream, &(struct kn_gdn_conv_args){.step = step,
                                                          .x = x,
                                                          .w = kn_rig_vec(r, 32, C * TAPS, 0, 0.5f),
                                                          .taps = TAPS,
                                                          .state = zeroes(r, 2 * (TAPS - 1) * C * sizeof(float)),
                                                          .n_slots = 2,
                                                          .n_k = NK,
                                                          .n_v = NV,
                                                          .d_k = DK,
                                                          .d_v = DV,
                                                          .y = x});
    check(r, d, "gdn_conv.y", &x, 10);
    r->op->gdn_scan(r->stream, &(struct kn_gdn_scan_args){.step = step,
                                                          .qkv = x,
                                                          .b = kn_rig_mat(r, 36, T, NV, 1, 1),
                                                          .alpha = kn_rig_mat(r, 34, T, NV, 2, 2),
                                                          .a = kn_rig_put(r, a, NV * sizeof *a),
                                                          .dt = kn_rig_vec(r, 35, NV, -1, 1),
                                                          .n_k = NK,
                                                          .n_v = NV,
                                                          .d_k = DK,
                                                          .d_v = DV,
                                                          .state = &state,
                                                          .y = y});
    check(r, d, "gdn_scan.y", &y, 10);
}

static void experts(struct kn_rig *r, size_t d)
{
    enum { T = 5, E = 32, F = 24, N = 8, K = 3 };
    int32_t ids[T * K];
    const struct kn_mat x = kn_rig_mat(r, 41, T, E, 1, 1), weights = kn_rig_out(r, T, K, 1), h = kn_rig_out(r, T * K, F, 2);
    const struct kn_mat y = kn_rig_out(r, T, E, 1), shared = kn_rig_mat(r, 47, T, E, 0, 1), gates = kn_rig_out(r, T, 1, 1);
    float same[E][E] = {0}; /* the golden file has what the shared expert says, not what it is: nothing is done to it */
    for (int i = 0; i < E; i++)
        same[i][i] = 1;
    int32_t *device_ids = kn_rig_put(r, NULL, sizeof ids);
    r->op->moe_route(r->stream, &(struct kn_moe_route_args){.x = x,
                                                            .w = kn_rig_weight(r, 42, KN_F32, 1, N, E),
                                                            .k = K,
                                                            .ids = device_ids,
                                                            .weights = weights,
                                                            .shared = kn_rig_vec(r, 46, E, 0, 0.2f),
                                                            .gates = gates});
    kn_rig_get(r, ids, device_ids, sizeof ids);
    const float *want = record_get("moe_route.ids", T * K);
    for (int i = 0; i < T * K; i++)
        assert_int_equal(ids[i], (int32_t)want[i]);
    check(r, d, "moe_route.weights", &weights, 1);
    r->op->moe_gate_up(r->stream, &(struct kn_moe_gate_up_args){.x = x,
                                                                .ids = device_ids,
                                                                .k = K,
                                                                .gate = kn_rig_weight(r, 43, KN_F32, N, F, E),
                                                                .up = kn_rig_weight(r, 44, KN_F32, N, F, E),
                                                                .y = h});
    check(r, d, "moe_gate_up.y", &h, 1);
    struct kn_moe_down_args down = {
        .h = h, .ids = device_ids, .k = K, .weights = weights, .down = kn_rig_weight(r, 45, KN_F32, N, E, F), .y = y};
    r->op->moe_down(r->stream, &down);
    check(r, d, "moe_down.y", &y, 1);
    down.shared_down = kn_rig_weight_of(r, KN_F32, 1, E, E, same);
    down.shared_h = shared;
    down.gates = gates;
    r->op->moe_down(r->stream, &down);
    check(r, d, "add_gated.y", &y, 1);
}

static void vision(struct kn_rig *r, size_t d)
{
    enum { GH = 4, GW = 6, P = GH * GW, PATCH = 4, BYTES = P * PATCH * PATCH * 3, H = 2, D = 24 };
    uint8_t rgb[BYTES];
    for (int i = 0; i < BYTES; i++)
        rgb[i] = (uint8_t)((i * 7919 + i / 13 * 31) % 256);
    const struct kn_mat patches = kn_rig_out(r, P, 3 * PATCH * PATCH, 1), x = kn_rig_mat(r, 51, P, 8, 1, 1);
    r->op->patchify(r->stream, &(struct kn_patchify_args){.rgb = kn_rig_put(r, rgb, sizeof rgb),
                                                          .width_px = GW * PATCH,
                                                          .height_px = GH * PATCH,
                                                          .patch_px = PATCH,
                                                          .merge = 2,
                                                          .mean = {0.5f, 0.4f, 0.3f},
                                                          .stddev = {0.5f, 0.25f, 0.2f},
                                                          .y = patches});
    check(r, d, "patchify.y", &patches, 1);
    r->op->add_pos_embed(
        r->stream, &(struct kn_add_pos_embed_args){
                       .x = x, .grid = kn_rig_vec(r, 52, 5 * 5 * 8, 0, 1), .side = 5, .grid_w = GW, .grid_h = GH, .merge = 2});
    check(r, d, "add_pos_embed.x", &x, 1);
    const struct kn_mat qkv = kn_rig_mat(r, 53, P, 3 * H * D, 1, 1), y = kn_rig_out(r, P, H * D, 2);
    r->op->rope_2d(r->stream,
                   &(struct kn_rope_2d_args){.qkv = qkv, .n_heads = H, .grid_w = GW, .grid_h = GH, .merge = 2, .theta = 10000});
    const struct kn_mat qk = {qkv.data, P, 2 * H * D, qkv.stride};
    check(r, d, "rope_2d.qk", &qk, 1);
    r->op->attn_full(r->stream, &(struct kn_attn_full_args){.qkv = qkv, .n_heads = H, .y = y});
    check(r, d, "attn_full.y", &y, 1);
}

static void on_each_device(void (*run)(struct kn_rig *, size_t))
{
    for (size_t d = 0; d < N_DEVICES; d++) {
        struct kn_rig r;
        kn_rig_open(&r, devices[d].device, NULL, 1);
        run(&r, d);
        kn_rig_close(&r);
    }
}

static void norms_agree_with_numpy(void **state)
{
    on_each_device(norms);
}

static void products_agree_with_numpy(void **state)
{
    on_each_device(products);
}

static void attention_agrees_with_numpy(void **state)
{
    on_each_device(attention);
}

static void deltanet_agrees_with_numpy(void **state)
{
    on_each_device(deltanet);
}

static void experts_agree_with_numpy(void **state)
{
    on_each_device(experts);
}

static void vision_agrees_with_numpy(void **state)
{
    on_each_device(vision);
}

/* ---- by hand ----------------------------------------------------------------------------------------------------------------------- */

/* Three tokens of one head with d_k = d_v = 2, S worked out on paper; q is scaled by 1 / sqrt 2. */
static void toy(struct kn_rig *r, size_t d)
{
    enum { T = 3 };
    const float s = 0.70710678f, ln3 = 1.09861229f;
    const float qkv[T * 6] = {s,        0,        1, 0, 2, -1, /* q, k, v */
                              0.6f * s, 0.8f * s, 0, 1, 1, 1,  0, s, 0.6f, 0.8f, 0.5f, 3};
    const float b[T] = {0, 100, -ln3};     /* beta 0.5, 1, 0.25 */
    const float alpha[T] = {-200, 0, ln3}; /* with a = -1: decay 1, 0.5, 0.25 */
    const float minus_one = -1, zero = 0;
    static const float want[T * 2] = {0.70710678f, -0.35355339f, 0.77781746f, 0.45961941f, 0.20859650f, 0.57805979f};
    const size_t slot = kn_gdn_state_bytes(1, 1, 2, 2);
    const struct kn_gdn_state state = {.data = zeroes(r, slot), .bytes_per_slot = slot, .n_slots = 1};
    const struct kn_rig_seq seq = {.n_rows = T};
    const struct kn_mat y = kn_rig_out(r, T, 2, 1);
    r->op->gdn_scan(r->stream, &(struct kn_gdn_scan_args){.step = kn_rig_step(r, &seq, 1, 1, 100, NULL, NULL),
                                                          .qkv = {kn_rig_put(r, qkv, sizeof qkv), T, 6, 6},
                                                          .b = {kn_rig_put(r, b, sizeof b), T, 1, 1},
                                                          .alpha = {kn_rig_put(r, alpha, sizeof alpha), T, 1, 1},
                                                          .a = kn_rig_put(r, &minus_one, sizeof minus_one),
                                                          .dt = kn_rig_put(r, &zero, sizeof zero),
                                                          .n_k = 1,
                                                          .n_v = 1,
                                                          .d_k = 2,
                                                          .d_v = 2,
                                                          .state = &state,
                                                          .y = y});
    struct kn_output got = {0};
    kn_output_add(&got, r, &y);
    for (size_t i = 0; i < got.n; i++)
        if (fabsf(got.data[i] - want[i]) > 2e-7f) /* the table has eight digits */
            fail_msg("%s: value %zu is %.9g, by hand %.9g", devices[d].device, i, (double)got.data[i], (double)want[i]);
    kn_output_release(&got);
}

static void the_delta_rule_agrees_with_the_toy_by_hand(void **state)
{
    on_each_device(toy);
}

/* Experts of equal weight: the lower index first. */
static void ties(struct kn_rig *r, size_t d)
{
    enum { N = 20, E = 16, K = 5 };
    const struct kn_mat x = kn_rig_mat(r, 1, 1, E, 0, 1), weights = kn_rig_out(r, 1, K, 0);
    float rows[N * E];
    for (int e = 0; e < N; e++) /* two kinds of expert, taking turns */
        for (int i = 0; i < E; i++)
            rows[e * E + i] = e % 2 ? 0.25f : 0.125f * (float)(i % 3);
    struct kn_weight w = {.dtype = KN_F32, .rows = N, .cols = E, .slices = 1};
    struct err err = {0};
    assert_ok(kn_weight_begin(r->device, &w, &err), &err);
    assert_ok(kn_weight_rows(r->device, &w, 0, N, rows, &err), &err);
    assert_ok(kn_weight_end(r->device, &w, &err), &err);
    int32_t ids[K], *device_ids = kn_rig_put(r, NULL, sizeof ids);
    r->op->moe_route(r->stream, &(struct kn_moe_route_args){.x = x, .w = &w, .k = K, .ids = device_ids, .weights = weights});
    kn_rig_get(r, ids, device_ids, sizeof ids);
    for (int i = 0; i < K; i++)
        assert_int_equal(ids[i], ids[0] % 2 + 2 * i);
    struct kn_output got = {0};
    kn_output_add(&got, r, &weights);
    for (int i = 0; i < K; i++)
        assert_true(fabsf(got.data[i] - 0.2f) < 1e-6f);
    kn_output_release(&got);
    kn_weight_free(r->device, &w);
}

static void ties_go_to_the_lower_expert(void **state)
{
    on_each_device(ties);
}

/* Shifting all scores must change nothing, and large ones must not overflow. */
static void large_scores(struct kn_rig *r, size_t d)
{
    enum { P = 12, D = 8 };
    float qkv[P * 3 * D];
    for (int p = 0; p < P; p++)
        for (int i = 0; i < D; i++) {
            qkv[(p * 3 + 0) * D + i] = 200;
            qkv[(p * 3 + 1) * D + i] = p == 5 ? 201 : 200; /* wins by 566 */
            qkv[(p * 3 + 2) * D + i] = (float)(p * 10 + i);
        }
    const struct kn_mat y = kn_rig_out(r, P, D, 0);
    const struct kn_mat m = {kn_rig_put(r, qkv, sizeof qkv), P, 3 * D, 3 * D};
    r->op->attn_full(r->stream, &(struct kn_attn_full_args){.qkv = m, .n_heads = 1, .y = y});
    struct kn_output got = {0};
    kn_output_add(&got, r, &y);
    for (int i = 0; i < P * D; i++)
        assert_true(got.data[i] == (float)(50 + i % D));
    kn_output_release(&got);
}

static void large_scores_do_not_overflow(void **state)
{
    on_each_device(large_scores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_agree_with_numpy),
        cmocka_unit_test(products_agree_with_numpy),
        cmocka_unit_test(attention_agrees_with_numpy),
        cmocka_unit_test(deltanet_agrees_with_numpy),
        cmocka_unit_test(experts_agree_with_numpy),
        cmocka_unit_test(vision_agrees_with_numpy),
        cmocka_unit_test(the_delta_rule_agrees_with_the_toy_by_hand),
        cmocka_unit_test(ties_go_to_the_lower_expert),
        cmocka_unit_test(large_scores_do_not_overflow),
    };
    return cmocka_run_group_tests(tests, records_read, records_free);
}
