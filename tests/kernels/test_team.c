/*
 * Two devices as one: who has which rows and columns, that sums and joins are the whole's on both members, what cannot be shared, and a second member that is far, strange or gone.
 */
#include <arpa/inet.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/team/team.h"
#include "tests/support/kn_cases.h"

#define ROWS(...) ((struct kn_cut){.way = KN_CUT_ROWS, .span = {__VA_ARGS__}})
#define COLS(...) ((struct kn_cut){.way = KN_CUT_COLS, .span = {__VA_ARGS__}})
#define JOIN(n)   ((struct kn_cut){.way = KN_CUT_JOIN, .span = {{n, 1}}})
#define SPAN(n, k)                                                                                                             \
    {                                                                                                                          \
        n, k                                                                                                                   \
    }

static const char *one_name(void)
{
    return kn_cases_cuda ? "cuda" : "cpu";
}

static const char *two_name(void)
{
    return kn_cases_cuda ? "cuda+cuda" : "cpu+cpu";
}

static void open_pair(struct kn_rig *one, struct kn_rig *two)
{
    kn_rig_open(one, one_name(), NULL, 1);
    kn_rig_open(two, two_name(), NULL, 1);
}

static void close_pair(struct kn_rig *one, struct kn_rig *two)
{
    kn_rig_close(one);
    kn_rig_close(two);
}

/* A weight whose whole has these rows and columns, handed over some rows at a time, which respects no boundary. */
static const struct kn_weight *put_pieces(struct kn_rig *r, enum kn_dtype dtype, int32_t slices, int32_t rows, int32_t cols,
                                          const void *blocks, struct kn_cut cut, const float *scales, int64_t piece)
{
    struct err err = {0};
    struct kn_weight *w = test_calloc(1, sizeof *w);
    *w = (struct kn_weight){.dtype = dtype,
                            .rows = cut.way == KN_CUT_ROWS || cut.way == KN_CUT_JOIN ? rows / 2 : rows,
                            .cols = cut.way == KN_CUT_COLS ? cols / 2 : cols,
                            .slices = slices,
                            .cut = cut,
                            .scales = scales};
    assert_ok(kn_weight_begin(r->device, w, &err), &err);
    const int64_t all = (int64_t)rows * slices;
    const size_t row_bytes = kn_row_bytes(dtype, cols);
    for (int64_t at = 0, n; at < all; at += n) {
        n = all - at < piece ? all - at : piece;
        assert_ok(kn_weight_rows(r->device, w, at, n, (const char *)blocks + (size_t)at * row_bytes, &err), &err);
    }
    assert_ok(kn_weight_end(r->device, w, &err), &err);
    r->weights[r->n_weights++] = w;
    return w;
}

static const struct kn_weight *put_weight(struct kn_rig *r, enum kn_dtype dtype, int32_t slices, int32_t rows, int32_t cols,
                                          const void *blocks, struct kn_cut cut)
{
    return put_pieces(r, dtype, slices, rows, cols, blocks, cut, NULL, 7);
}

static char *noise_blocks(uint64_t seed, enum kn_dtype dtype, int32_t slices, int32_t rows, int32_t cols)
{
    char *bytes = test_malloc((size_t)rows * (size_t)slices * kn_row_bytes(dtype, cols));
    kn_fill_noise(dtype, seed, 1.0f / sqrtf((float)cols), (int64_t)rows * slices * cols, bytes);
    return bytes;
}

static const struct kn_weight *put_identity(struct kn_rig *r, int32_t n, struct kn_cut cut)
{
    float *eye = test_calloc((size_t)n * (size_t)n, sizeof *eye);
    for (int32_t i = 0; i < n; i++)
        eye[(size_t)i * (size_t)n + (size_t)i] = 1;
    const struct kn_weight *w = put_weight(r, KN_F32, 1, n, n, eye, cut);
    test_free(eye);
    return w;
}

static struct kn_mat product(struct kn_rig *r, struct kn_mat x, const struct kn_weight *w, int32_t n_y, int32_t pad)
{
    const struct kn_mat y = kn_rig_out(r, x.rows, n_y, pad);
    r->op->linear(r->stream, &(struct kn_linear_args){.x = x, .w = w, .y = y});
    return y;
}

/* Each member's share of the columns of a matrix that both have whole, and the whole of shares: products with ones, which are exact. */
static struct kn_mat shares_of(struct kn_rig *r, struct kn_mat x, struct kn_cut cut)
{
    cut.way = KN_CUT_ROWS;
    return product(r, x, put_identity(r, x.cols, cut), x.cols / 2, 1);
}

static struct kn_mat whole_of(struct kn_rig *r, struct kn_mat shares, struct kn_cut cut)
{
    cut.way = KN_CUT_COLS;
    return product(r, shares, put_identity(r, 2 * shares.cols, cut), 2 * shares.cols, 3);
}

static struct kn_output values_of(struct kn_rig *r, struct kn_mat m)
{
    struct kn_output out = {0};
    kn_output_add(&out, r, &m);
    return out;
}

static void expect_same(struct kn_rig *a, struct kn_mat x, struct kn_rig *b, struct kn_mat y, const char *what)
{
    struct kn_output p = values_of(a, x), q = values_of(b, y);
    assert_int_equal(p.n, q.n);
    for (size_t i = 0; i < p.n; i++)
        if (!(p.data[i] == q.data[i]))
            fail_msg("%s: value %zu is %.9g, not %.9g", what, i, (double)p.data[i], (double)q.data[i]);
    kn_output_release(&p);
    kn_output_release(&q);
}

static void expect_near(struct kn_rig *a, struct kn_mat x, struct kn_rig *b, struct kn_mat y, double limit, const char *what)
{
    struct kn_output p = values_of(a, x), q = values_of(b, y);
    assert_int_equal(p.n, q.n);
    const double nmse = test_nmse(p.data, q.data, q.n);
    if (!(nmse <= limit))
        fail_msg("%s: NMSE %.3g above %.3g", what, nmse, limit);
    kn_output_release(&p);
    kn_output_release(&q);
}

/* ---- shares -------------------------------------------------------------------------------------------------------------------------- */

static const struct kn_cut cuts[] = {
    ROWS(SPAN(64, 1)),
    ROWS(SPAN(32, 2)),
    ROWS(SPAN(2, 32)),
    ROWS(SPAN(8, 2), SPAN(16, 3)),
    ROWS(SPAN(4, 2), SPAN(6, 4), SPAN(16, 2)),
};
#define N_CUTS (sizeof cuts / sizeof *cuts)

/* Each row is computed by one of the two as it would be by one alone, and comes back to its place. */
static void rows_belong_to_one(void **state)
{
    struct kn_rig one, two;
    open_pair(&one, &two);
    for (size_t i = 0; i < N_CUTS; i++) {
        char *blocks = noise_blocks(5, KN_BF16, 1, 64, 40);
        float *bias = kn_rig_noise(6, 64, 1);
        const struct kn_mat x = kn_rig_mat(&one, 1, 3, 40, 2, 1), y = kn_rig_out(&one, 3, 64, 1);
        one.op->linear(one.stream,
                       &(struct kn_linear_args){.x = x,
                                                .w = put_weight(&one, KN_BF16, 1, 64, 40, blocks, (struct kn_cut){0}),
                                                .bias = kn_rig_put(&one, bias, 64 * sizeof *bias),
                                                .y = y});
        const struct kn_mat x2 = kn_rig_mat(&two, 1, 3, 40, 2, 1), y2 = kn_rig_out(&two, 3, 32, 1);
        float *bias2 = kn_rig_put(&two, NULL, 32 * sizeof *bias);
        for (int64_t at = 0; at < 64; at += 16) /* in pieces */
            kn_upload_cut(two.stream, bias2, &cuts[i], 1, at, 16, bias + at);
        two.op->linear(two.stream,
                       &(struct kn_linear_args){
                           .x = x2, .w = put_weight(&two, KN_BF16, 1, 64, 40, blocks, cuts[i]), .bias = bias2, .y = y2});
        expect_same(&two, whole_of(&two, y2, cuts[i]), &one, y, "rows");
        test_free(blocks);
        test_free(bias);
        kn_rig_reset(&one);
        kn_rig_reset(&two);
    }
    close_pair(&one, &two);
}

/* Experts' rows are shared slice by slice, whatever the pieces they come in, and their factors travel with them. */
static void slices_are_shared_alike(void **state)
{
    enum { T = 5, E = 64, F = 32, N = 3, K = 2, N_PIECES = 3 };
    static const int32_t ids[T * K] = {0, 1, 2, 0, 1, 2, 2, 1, 0, 2};
    static const float scales[2][N] = {{0.5f, 3, -2}, {1.5f, -1, 0.25f}};
    static const int64_t pieces[1 + N_PIECES] = {7, 1, 13, N * F};
    const struct kn_cut cut = ROWS(SPAN(8, 2), SPAN(2, 4), SPAN(4, 2));
    struct kn_rig one, two;
    struct kn_mat y[1 + N_PIECES];
    open_pair(&one, &two);
    char *gate = noise_blocks(5, KN_NVFP4, N, F, E), *up = noise_blocks(6, KN_NVFP4, N, F, E);
    for (int i = 0; i <= N_PIECES; i++) {
        struct kn_rig *r = i ? &two : &one;
        const struct kn_cut how = i ? cut : (struct kn_cut){0};
        y[i] = kn_rig_out(r, T * K, i ? F / 2 : F, i);
        r->op->moe_gate_up(
            r->stream, &(struct kn_moe_gate_up_args){.x = kn_rig_mat(r, 1, T, E, 1, 1),
                                                     .ids = kn_rig_put(r, ids, sizeof ids),
                                                     .k = K,
                                                     .gate = put_pieces(r, KN_NVFP4, N, F, E, gate, how, scales[0], pieces[i]),
                                                     .up = put_pieces(r, KN_NVFP4, N, F, E, up, how, scales[1], pieces[i]),
                                                     .y = y[i]});
        if (i)
            expect_same(r, whole_of(r, y[i], cut), &one, y[0], "experts with factors");
    }
    test_free(gate);
    test_free(up);
    close_pair(&one, &two);
}

/* Of several products of one input each weight is shared in its own way, or not at all; gate and up in one. */
static void products_of_one_input_are_shared(void **state)
{
    enum { T = 4, E = 96, N = 3 };
    const int32_t rows[N] = {64, 24, 10};
    const struct kn_cut how[N] = {ROWS(SPAN(16, 4)), ROWS(SPAN(6, 2), SPAN(12, 1)), {0}};
    struct kn_rig rigs[2];
    struct kn_mat y[2][N + 1];
    open_pair(&rigs[0], &rigs[1]);
    for (int two = 0; two < 2; two++) {
        struct kn_rig *r = &rigs[two];
        struct kn_project_args a = {.x = kn_rig_mat(r, 1, T, E, 2, 1), .n = N};
        const struct kn_weight *gate_up[2];
        for (int i = 0; i < N + 2; i++) {
            const int32_t n = rows[i < N ? i : 0];
            const struct kn_cut cut = two ? how[i < N ? i : 0] : how[N - 1];
            char *blocks = noise_blocks(5 + (uint64_t)i, KN_Q8_0, 1, n, E);
            const struct kn_weight *w = put_weight(r, KN_Q8_0, 1, n, E, blocks, cut);
            *(i < N ? &a.w[i] : &gate_up[i - N]) = w;
            if (i <= N)
                y[two][i] = kn_rig_out(r, T, w->rows, i);
            if (i < N)
                a.y[i] = y[two][i];
            test_free(blocks);
        }
        r->op->project(r->stream, &a);
        r->op->gate_up(r->stream, &(struct kn_gate_up_args){.x = a.x, .gate = gate_up[0], .up = gate_up[1], .y = y[two][N]});
    }
    for (int i = 0; i <= N; i++) {
        const bool is_cut = i != N - 1;
        expect_same(&rigs[1], is_cut ? whole_of(&rigs[1], y[1][i], how[i < N ? i : 0]) : y[1][i], &rigs[0], y[0][i],
                    i < N ? "project" : "gate_up");
    }
    close_pair(&rigs[0], &rigs[1]);
}

/* Of a product of shared columns the sum is the whole's but for rounding: blocks are whole on either side, and so are their scales. */
static void columns_add_up(void **state)
{
    struct kn_rig one, two;
    open_pair(&one, &two);
    for (size_t t = 0; t < KN_N_TYPES; t++) {
        const enum kn_dtype type = kn_types[t];
        for (int k = 0; k < 2; k++) {
            const struct kn_cut cut = k == 0 ? COLS(SPAN(1024, 1)) : COLS(SPAN(512, 2));
            const int32_t rows = k == 0 ? 37 : 64, n = k == 0 ? 1 : 5;
            char *blocks = noise_blocks(5, type, 1, rows, 1024);
            const struct kn_mat x = kn_rig_mat(&one, 1, n, 1024, 2, 1), res = kn_rig_mat(&one, 2, n, rows, 0, 1),
                                x2 = kn_rig_mat(&two, 1, n, 1024, 2, 1), res2 = kn_rig_mat(&two, 2, n, rows, 0, 1);
            const struct kn_mat y = kn_rig_out(&one, n, rows, 3), z = kn_rig_out(&one, n, rows, 0),
                                y2 = kn_rig_out(&two, n, rows, 3), z2 = kn_rig_out(&two, n, rows, 0);
            const struct kn_add_rms_norm_args
                then = {.x = res, .res = y, .w = kn_rig_vec(&one, 3, rows, 1, 0.1f), .eps = 1e-6f, .y = z},
                then2 = {.x = res2, .res = y2, .w = kn_rig_vec(&two, 3, rows, 1, 0.1f), .eps = 1e-6f, .y = z2};
            one.op->linear(one.stream,
                           &(struct kn_linear_args){.x = x,
                                                    .w = put_weight(&one, type, 1, rows, 1024, blocks, (struct kn_cut){0}),
                                                    .y = y,
                                                    .then = k ? &then : NULL});
            two.op->linear(two.stream, &(struct kn_linear_args){.x = shares_of(&two, x2, cut),
                                                                .w = put_weight(&two, type, 1, rows, 1024, blocks, cut),
                                                                .y = y2,
                                                                .then = k ? &then2 : NULL});
            expect_near(&two, y2, &one, y, 1e-11, kn_dtype_name(type));
            if (k)
                expect_near(&two, z2, &one, z, 1e-11, "the norm behind it");
            test_free(blocks);
            kn_rig_reset(&one);
            kn_rig_reset(&two);
        }
    }
    close_pair(&one, &two);
}

/* What both go on with is the same on both, to the bit: half of the joined product is the second member's, of what it has for the sum. */
static void both_have_the_same_sum(void **state)
{
    struct kn_rig one, two;
    struct err err = {0};
    open_pair(&one, &two);
    const struct kn_cut cut = COLS(SPAN(128, 2));
    char *blocks = noise_blocks(5, KN_F32, 1, 64, 256), *head = noise_blocks(6, KN_F32, 1, 90, 64);
    const struct kn_mat x = kn_rig_mat(&two, 1, 9, 256, 2, 1);
    const struct kn_mat sum = product(&two, shares_of(&two, x, cut), put_weight(&two, KN_F32, 1, 64, 256, blocks, cut), 64, 5);
    const struct kn_mat y2 = product(&two, sum, put_weight(&two, KN_F32, 1, 90, 64, head, JOIN(90)), 90, 1);
    struct kn_output host = values_of(&two, sum);
    const struct kn_mat same = {
        .data = kn_rig_put(&one, host.data, host.n * sizeof *host.data), .rows = 9, .cols = 64, .stride = 64};
    const struct kn_mat y = product(&one, same, put_weight(&one, KN_F32, 1, 90, 64, head, (struct kn_cut){0}), 90, 1);
    expect_same(&two, y2, &one, y, "joined");
    assert_ok(kn_stream_sync(two.stream, &err), &err);
    kn_output_release(&host);
    test_free(blocks);
    test_free(head);
    close_pair(&one, &two);
}

/* A swap has room for a million floats; more rows than that take turns. */
static void long_sums_take_turns(void **state)
{
    struct kn_rig one, two;
    if (kn_cases_cuda) /* minutes, and nothing of the device's */
        skip();
    open_pair(&one, &two);
    const struct kn_cut cut = COLS(SPAN(2, 1));
    char *blocks = noise_blocks(5, KN_F32, 1, 4096, 2);
    const struct kn_mat x = kn_rig_mat(&one, 1, 512, 2, 0, 1), x2 = kn_rig_mat(&two, 1, 512, 2, 0, 1);
    const struct kn_mat y = product(&one, x, put_weight(&one, KN_F32, 1, 4096, 2, blocks, (struct kn_cut){0}), 4096, 1);
    const struct kn_mat y2 =
        product(&two, shares_of(&two, x2, cut), put_weight(&two, KN_F32, 1, 4096, 2, blocks, cut), 4096, 1);
    expect_near(&two, y2, &one, y, 1e-12, "512 rows of 4096");
    test_free(blocks);
    close_pair(&one, &two);
}

/* Experts: gate and up in one, whose halves are spans of their own; then down, by columns, with the shared expert. */
static void experts_are_shared(void **state)
{
    enum { T = 7, E = 64, F = 32, N = 6, K = 2, G = 48 };
    static const int32_t ids[T * K] = {0, 3, 5, 1, 2, 0, 4, 5, 3, 3, 1, 0, 2, 4};
    const struct kn_cut none = {0};
    struct kn_rig rigs[2];
    struct kn_mat ys[2], hs[2], zs[2];
    open_pair(&rigs[0], &rigs[1]);
    char *gate_up = noise_blocks(5, KN_BF16, N, 2 * F, E), *down = noise_blocks(6, KN_Q8_0, N, E, 2 * F),
         *shared[3] = {noise_blocks(7, KN_F32, 1, G, E), noise_blocks(8, KN_F32, 1, G, E), noise_blocks(9, KN_F32, 1, E, G)};
    for (int two = 0; two < 2; two++) {
        struct kn_rig *r = &rigs[two];
        const int part = two ? 2 : 1;
        const int32_t *where = kn_rig_put(r, ids, sizeof ids);
        const struct kn_mat x = kn_rig_mat(r, 1, T, E, 2, 1), h = kn_rig_out(r, T * K, F / part, 0),
                            sh = kn_rig_out(r, T, G / part, 0);
        r->op->moe_gate_up(r->stream,
                           &(struct kn_moe_gate_up_args){
                               .x = x,
                               .ids = where,
                               .k = K,
                               .gate = put_weight(r, KN_BF16, N, 2 * F, E, gate_up, two ? ROWS(SPAN(F, 2)) : none),
                               .y = h,
                               .shared_gate = put_weight(r, KN_F32, 1, G, E, shared[0], two ? ROWS(SPAN(G, 1)) : none),
                               .shared_up = put_weight(r, KN_F32, 1, G, E, shared[1], two ? ROWS(SPAN(G, 1)) : none),
                               .shared_y = sh});
        hs[two] = two ? whole_of(r, h, ROWS(SPAN(F, 1))) : h;
        /* down's own input is twice as wide: its blocks of 32 are to be whole on either side */
        const struct kn_mat wide = kn_rig_mat(r, 2, T * K, 2 * F, 0, 1), y = kn_rig_out(r, T, E, 1),
                            res = kn_rig_mat(r, 3, T, E, 0, 1), z = kn_rig_out(r, T, E, 0);
        const struct kn_add_rms_norm_args then = {.x = res, .res = y, .w = kn_rig_vec(r, 4, E, 1, 0.1f), .eps = 1e-6f, .y = z};
        r->op->moe_down(r->stream, &(struct kn_moe_down_args){
                                       .h = two ? shares_of(r, wide, COLS(SPAN(2 * F, 1))) : wide,
                                       .ids = where,
                                       .k = K,
                                       .weights = kn_rig_mat(r, 10, T, K, 0, 1),
                                       .down = put_weight(r, KN_Q8_0, N, E, 2 * F, down, two ? COLS(SPAN(2 * F, 1)) : none),
                                       .y = y,
                                       .shared_down = put_weight(r, KN_F32, 1, E, G, shared[2], two ? COLS(SPAN(G, 1)) : none),
                                       .shared_h = sh,
                                       .gates = kn_rig_mat(r, 11, T, 1, 0, 1),
                                       .then = &then});
        ys[two] = y;
        zs[two] = z;
    }
    expect_same(&rigs[1], hs[1], &rigs[0], hs[0], "gate and up");
    expect_near(&rigs[1], ys[1], &rigs[0], ys[0], 1e-11, "down");
    expect_near(&rigs[1], zs[1], &rigs[0], zs[0], 1e-11, "the norm behind it");
    test_free(gate_up);
    test_free(down);
    for (int i = 0; i < 3; i++)
        test_free(shared[i]);
    close_pair(&rigs[0], &rigs[1]);
}

/* What the second member alone finds wrong, here an expert that there is not, comes with the next sum and in its words; then both go on. */
static void the_second_can_fail_alone(void **state)
{
    enum { T = 2, E = 32, F = 64, N = 3 };
    static const int32_t ids[2 * T] = {0, 2, 0, N};
    struct kn_rig one, two;
    struct err err = {0};
    if (kn_cases_cuda) /* there nobody looks at indices */
        skip();
    open_pair(&one, &two);
    char *blocks = noise_blocks(5, KN_F32, N, 2 * F, E); /* as long as the longer one */
    int32_t *theirs = kn_rig_put(&two, NULL, T * sizeof *ids);
    const struct kn_mat x = kn_rig_mat(&two, 1, T, E, 0, 1), h = kn_rig_out(&two, T, F / 2, 0), y = kn_rig_out(&two, T, E, 0);
    const struct kn_moe_gate_up_args gate_up = {
        .x = x, .ids = theirs, .k = 1, .gate = put_weight(&two, KN_F32, N, 2 * F, E, blocks, ROWS(SPAN(F, 2))), .y = h};
    const struct kn_moe_down_args down = {.h = h,
                                          .ids = kn_rig_put(&two, ids, T * sizeof *ids),
                                          .k = 1,
                                          .weights = kn_rig_mat(&two, 2, T, 1, 0, 1),
                                          .down = put_weight(&two, KN_F32, N, E, F, blocks, COLS(SPAN(F, 1))),
                                          .y = y};
    kn_upload_cut(two.stream, (float *)theirs, &ROWS(SPAN(2 * T, 1)), 1, 0, 2 * T, (const float *)ids);
    two.op->moe_gate_up(two.stream, &gate_up);
    two.op->moe_down(two.stream, &down);
    assert_err(kn_stream_sync(two.stream, &err), ERR_DEVICE, &err, "moe_down: on the other device, cpu: moe_gate_up: ");
    kn_stream_clear(two.stream);
    kn_upload(two.stream, theirs, ids, T * sizeof *ids);
    two.op->moe_gate_up(two.stream, &gate_up);
    two.op->moe_down(two.stream, &down);
    assert_ok(kn_stream_sync(two.stream, &err), &err);
    test_free(blocks);
    close_pair(&one, &two);
}

/* ---- refusals ------------------------------------------------------------------------------------------------------------------------ */

static void refuse_device(const char *name, int code, const char *words)
{
    struct kn_device *d = NULL;
    struct err err = {0};
    assert_err(kn_device_open(name, NULL, &d, &err), code, &err, words);
    assert_null(d);
}

static void refuse_weight(struct kn_rig *r, enum kn_dtype dtype, int32_t rows, int32_t cols, struct kn_cut cut, int code,
                          const char *words)
{
    struct kn_weight w = {.dtype = dtype, .rows = rows, .cols = cols, .slices = 1, .cut = cut};
    struct err err = {0};
    assert_err(kn_weight_begin(r->device, &w, &err), code, &err, words);
    assert_null(w.data);
}

static void expect_failure(struct kn_rig *r, const char *words)
{
    struct err err = {0};
    assert_err(kn_stream_sync(r->stream, &err), ERR_UNSUPPORTED, &err, words);
    kn_stream_clear(r->stream);
}

static void what_cannot_be_shared_is_refused(void **state)
{
    static const char *const names[] = {"+cpu", "cpu+", "cpu+cpu+cpu", "+"};
    struct kn_rig one, two;
    open_pair(&one, &two);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        refuse_device(names[i], ERR_NOT_FOUND, "of two devices the name is FIRST+SECOND");
    refuse_device("gpu+cpu", ERR_NOT_FOUND, "no device is called \"gpu\"");
    refuse_device("cpu+cup", ERR_INVAL, "\"cup\" is no address: expected HOST:PORT");
    refuse_device("cpu+cudabox:http", ERR_INVAL, "\"cudabox:http\" is no address"); /* a machine's name, and no CUDA device */
    refuse_device("cpu+host:http", ERR_INVAL, "is no address");
    refuse_device("ref+cpu", ERR_UNSUPPORTED, "two devices that compute alike are needed: ref is");
    refuse_device("cpu+127.0.0.1:1", ERR_IO, "nobody lends a device at 127.0.0.1:1");

    refuse_weight(&one, KN_F32, 4, 8, ROWS(SPAN(8, 1)), ERR_INVAL, "a weight that two share, on");
    refuse_weight(&two, KN_F32, 4, 8, ROWS(SPAN(7, 1)), ERR_UNSUPPORTED, "7 rows of type F32 cannot be shared by two");
    refuse_weight(&two, KN_F32, 4, 8, ROWS(SPAN(6, 1)), ERR_INVAL, "spans of 6 rows or columns in all, a share has 4");
    refuse_weight(&two, KN_Q8_0, 4, 48, COLS(SPAN(96, 1)), ERR_UNSUPPORTED,
                  "96 columns of type Q8_0 cannot be shared by two: halves are whole blocks of 32");
    refuse_weight(&two, KN_Q8_0, 4, 33, ROWS(SPAN(8, 1)), ERR_INVAL, "rows are whole blocks of 32");

    struct err past = {0};
    float *vector = kn_rig_put(&two, NULL, 8 * sizeof *vector), values[16] = {0};
    kn_upload_cut(two.stream, vector, &ROWS(SPAN(8, 1)), 1, 4, 5, values);
    assert_err(kn_stream_sync(two.stream, &past), ERR_INVAL, &past, "5 rows from 4 on of a table of 8");
    kn_stream_clear(two.stream);

    const struct kn_cut cut = COLS(SPAN(64, 1));
    char *blocks = noise_blocks(5, KN_F32, 1, 8, 64);
    const struct kn_weight *w = put_weight(&two, KN_F32, 1, 8, 64, blocks, cut);
    const struct kn_mat x = kn_rig_mat(&two, 1, 2, 32, 0, 1), y = kn_rig_out(&two, 2, 8, 0);
    const struct kn_linear_args bad[] = {{.x = x, .w = w, .y = y, .bias = kn_rig_vec(&two, 3, 8, 0, 1)},
                                         {.x = x, .w = w, .y = y, .act = KN_ACT_GELU_TANH},
                                         {.x = x, .w = w, .y = y, .accumulate = true}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        two.op->linear(two.stream, &bad[i]);
        expect_failure(&two, "of two devices' products only the plain one can be put together");
    }
    const struct kn_weight *joined = put_weight(&two, KN_F32, 1, 8, 32, blocks, JOIN(8));
    const struct kn_add_rms_norm_args then = {
        .x = kn_rig_mat(&two, 2, 2, 8, 0, 1), .res = y, .w = kn_rig_vec(&two, 3, 8, 1, 0), .y = kn_rig_out(&two, 2, 8, 0)};
    two.op->linear(two.stream, &(struct kn_linear_args){.x = x, .w = joined, .y = y, .then = &then});
    expect_failure(&two, "of two devices' products only the plain one can be put together");
    const int32_t ids[2] = {0};
    struct kn_moe_down_args half = {.h = x,
                                    .ids = kn_rig_put(&two, ids, sizeof ids),
                                    .k = 1,
                                    .weights = kn_rig_mat(&two, 4, 2, 1, 0, 1),
                                    .down = w,
                                    .y = y,
                                    .shared_down = put_weight(&two, KN_F32, 1, 8, 32, blocks, (struct kn_cut){0}),
                                    .shared_h = x,
                                    .gates = kn_rig_mat(&two, 5, 2, 1, 0, 1)};
    for (int i = 0; i < 2; i++) {
        two.op->moe_down(two.stream, &half);
        expect_failure(&two, "the experts' weights are cut, the shared one's are not, or the other way round");
        half.down = half.shared_down;
        half.shared_down = w;
    }
    /* arguments that the members refuse: both alike, and both are cleared */
    const struct kn_mat narrow = {.data = x.data, .rows = 2, .cols = 31, .stride = 32};
    struct err err = {0};
    two.op->linear(two.stream, &(struct kn_linear_args){.x = narrow, .w = w, .y = y});
    assert_int_not_equal(kn_stream_sync(two.stream, &err), 0);
    kn_stream_clear(two.stream);
    two.op->linear(two.stream, &(struct kn_linear_args){.x = x, .w = w, .y = y});
    assert_ok(kn_stream_sync(two.stream, &err), &err);
    test_free(blocks);
    close_pair(&one, &two);
}

/* ---- a second member that is lent ---------------------------------------------------------------------------------------------------- */

static int listener_of(int *ret_port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    *ret_port = ntohs(at.sin_port);
    return fd;
}

static void tell_parent(void *ctx, const char *line)
{
    if (strncmp(line, "lending", 7) == 0 && write(*(int *)ctx, "!", 1) != 1)
        _exit(3);
}

/* Another process that lends a CPU; the port goes to *ret_port. */
static pid_t lend(int *ret_port)
{
    int ready[2];
    char address[40], c;
    close(listener_of(ret_port));
    snprintf(address, sizeof address, "127.0.0.1:%d", *ret_port);
    assert_int_equal(pipe(ready), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct err err = {0};
        const struct kn_device_options o = {.threads = 1};
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        kn_lend(address, "cpu", &o, tell_parent, &ready[1], &err);
        fprintf(stderr, "kn_lend: %s\n", err.text);
        _exit(1);
    }
    close(ready[1]);
    if (read(ready[0], &c, 1) != 1)
        fail_msg("nothing is lent at %s", address);
    close(ready[0]);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void open_lent(struct kn_rig *r, int port)
{
    char name[64];
    snprintf(name, sizeof name, "cpu+127.0.0.1:%d", port);
    kn_rig_open(r, name, NULL, 1);
}

static struct kn_output some_work(struct kn_rig *r)
{
    const struct kn_cut cut = COLS(SPAN(512, 1));
    char *blocks = noise_blocks(5, KN_Q4_K, 1, 96, 512);
    const struct kn_mat x = shares_of(r, kn_rig_mat(r, 1, 5, 512, 2, 1), cut);
    const struct kn_mat y = product(r, x, put_weight(r, KN_Q4_K, 1, 96, 512, blocks, cut), 96, 0);
    test_free(blocks);
    return values_of(r, y);
}

static void far_is_as_near(void **state)
{
    struct kn_rig near, far;
    int port;
    if (kn_cases_cuda)
        skip();
    const pid_t pid = lend(&port);
    kn_rig_open(&near, "cpu+cpu", NULL, 1);
    struct kn_output want = some_work(&near);
    for (int i = 0; i < 2; i++) { /* lent again */
        open_lent(&far, port);
        struct kn_output got = some_work(&far);
        assert_int_equal(got.n, want.n);
        assert_memory_equal(got.data, want.data, want.n * sizeof *want.data);
        kn_output_release(&got);
        kn_rig_close(&far);
    }
    kn_output_release(&want);
    kn_rig_close(&near);
    end(pid);
}

static void a_lender_that_dies_is_an_error(void **state)
{
    struct kn_rig r;
    struct err err = {0};
    int port;
    if (kn_cases_cuda)
        skip();
    const pid_t pid = lend(&port);
    open_lent(&r, port);
    struct kn_output out = some_work(&r);
    kn_output_release(&out);
    const struct kn_cut cut = COLS(SPAN(64, 1));
    char *blocks = noise_blocks(5, KN_F32, 1, 8, 64);
    const struct kn_weight *w = put_weight(&r, KN_F32, 1, 8, 64, blocks, cut);
    const struct kn_mat x = kn_rig_mat(&r, 1, 2, 32, 0, 1), y = kn_rig_out(&r, 2, 8, 0);
    end(pid);
    r.op->linear(r.stream, &(struct kn_linear_args){.x = x, .w = w, .y = y});
    assert_err(kn_stream_sync(r.stream, &err), ERR_DEVICE, &err, "the connection to 127.0.0.1");
    void *memory = NULL;
    err_clear(&err);
    assert_err(kn_alloc(r.device, 64, &memory, &err), ERR_DEVICE, &err, "the connection to 127.0.0.1");
    assert_null(memory);
    test_free(blocks);
    for (int i = 0; i < r.n_weights; i++) { /* what was made on both is still to be given back */
        kn_weight_free(r.device, r.weights[i]);
        test_free(r.weights[i]);
    }
    for (int i = 0; i < r.n_blocks; i++)
        kn_free(r.device, r.blocks[i].base);
    kn_stream_close(r.stream);
    kn_device_close(r.device);
}

static int connect_to(int port)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

/* Whoever comes and is no Heron, or one of another build, is shown the door, and the next one is served. */
static void strangers_are_shown_the_door(void **state)
{
    struct wire w;
    struct err err = {0};
    int port;
    char c;
    if (kn_cases_cuda)
        skip();
    const pid_t pid = lend(&port);
    for (size_t n = 1; n < 4096; n *= 3) {
        unsigned char junk[4096];
        for (size_t i = 0; i < n; i++)
            junk[i] = (unsigned char)rng_at(n, i);
        const int fd = connect_to(port);
        assert_int_equal(send(fd, junk, n, MSG_NOSIGNAL), n);
        shutdown(fd, SHUT_WR);
        while (recv(fd, &c, 1, 0) > 0)
            ;
        close(fd);
    }
    struct team_hello hello = {.magic = "HERONTWO", .protocol = TEAM_PROTOCOL, .byte_order = 0x01020304, .abi = team_abi() + 1},
                      answer;
    assert_ok(wire_init(&w, connect_to(port), "the lender", &err), &err);
    wire_begin(&w, TEAM_HELLO, sizeof hello);
    wire_put(&w, &hello, sizeof hello);
    uint32_t kind;
    const unsigned char *bytes;
    size_t n;
    assert_int_equal(wire_take(&w, &kind, &bytes, &n, NULL), 0);
    assert_int_equal(n, sizeof answer);
    memcpy(&answer, bytes, sizeof answer);
    assert_int_equal(answer.code, ERR_FORMAT);
    assert_non_null(strstr(answer.text, "of different builds"));
    wire_release(&w);
    hello.abi = team_abi();
    memset((char *)&hello + offsetof(struct team_hello, validate), 2, 1); /* neither true nor false */
    for (size_t part = sizeof hello; part > 0; part = part > 1 ? 1 : 0) { /* all of it; and next to nothing */
        assert_ok(wire_init(&w, connect_to(port), "the lender", &err), &err);
        wire_begin(&w, TEAM_HELLO, sizeof hello);
        wire_put(&w, &hello, part);
        wire_flush(&w);
        shutdown(w.fd, SHUT_WR);
        while (recv(w.fd, &c, 1, 0) > 0)
            ;
        wire_release(&w);
    }
    struct kn_rig r;
    open_lent(&r, port);
    struct kn_output out = some_work(&r);
    kn_output_release(&out);
    kn_rig_close(&r);
    end(pid);
}

/* ---- messages ------------------------------------------------------------------------------------------------------------------------ */

struct serving {
    struct wire wire;
    struct kn_device *device;
    struct err err;
};

static void *serve(void *arg)
{
    struct serving *s = arg;
    (void)team_serve(&s->wire, s->device, &s->err);
    shutdown(s->wire.fd, SHUT_RDWR);
    return NULL;
}

/* One message of noise: a kind that there is or not, of any length, now and then what another one needs. */
static void send_noise(struct wire *w, uint64_t seed)
{
    unsigned char bytes[1024];
    uint64_t at = 0;
    const uint32_t kind = (uint32_t)(rng_at(seed, at++) % 18);
    const size_t n = rng_at(seed, at++) % 4 ? rng_at(seed, at) % 64 : rng_at(seed, at) % sizeof bytes;
    at++;
    for (size_t i = 0; i < sizeof bytes; i += 4) { /* small numbers find what is there */
        const uint64_t r = rng_at(seed, at++);
        const uint32_t value = (uint32_t)(r % 3 == 0 ? 0 : r % 3 == 1 ? (r >> 8) % 40 : r >> 16);
        memcpy(bytes + i, &value, 4);
    }
    if (kind == TEAM_READ || kind == TEAM_RESERVE) /* honest ones, which take what they ask for */
        return;
    if (kind == TEAM_ALLOC || kind == TEAM_WEIGHT_BEGIN) { /* of sizes that there are */
        struct team_alloc a = {.address = 64 * (1 + rng_at(seed, at) % 8), .bytes = rng_at(seed, at + 1) % 80};
        struct team_weight_begin b = {.number = (uint32_t)(rng_at(seed, at) % 4),
                                      .dtype = (int32_t)(rng_at(seed, at + 2) % 45) - 1,
                                      .rows = (int32_t)(rng_at(seed, at + 3) % 9) - 1,
                                      .cols = 32,
                                      .slices = (int32_t)(rng_at(seed, at + 4) % 4) - 1,
                                      .has_scales = (uint32_t)(rng_at(seed, at + 5) % 2)};
        wire_begin(w, kind, kind == TEAM_ALLOC ? sizeof a : sizeof b);
        wire_put(w, kind == TEAM_ALLOC ? (void *)&a : (void *)&b, kind == TEAM_ALLOC ? sizeof a : sizeof b);
        return;
    }
    if (kind == TEAM_STREAM_OPEN) {
        const struct kn_limits limits = {
            .rows = 4, .cols = 64, .outputs = 64, .seqs = 1, .kv_len = 8, .heads = 1, .head_dim = 16};
        wire_begin(w, kind, sizeof limits);
        wire_put(w, &limits, sizeof limits);
        return;
    }
    wire_begin(w, kind, n);
    wire_put(w, bytes, n);
}

/* Lengths, numbers and addresses that cannot be end the connection or are replied to; nothing is touched that was never made. */
static void noise_is_not_obeyed(void **state)
{
    struct kn_device *device = NULL;
    struct err err = {0};
    if (kn_cases_cuda)
        skip();
    const struct kn_device_options o = {.threads = 1, .validate = true};
    assert_ok(kn_device_open("cpu", &o, &device, &err), &err);
    int n_ended = 0;
    for (uint64_t round = 0; round < 400; round++) {
        struct serving s = {.device = device};
        struct wire w;
        pthread_t thread;
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        assert_ok(wire_init(&w, fds[0], "the member", &err), &err);
        assert_ok(wire_init(&s.wire, fds[1], "noise", &err), &err);
        assert_int_equal(pthread_create(&thread, NULL, serve, &s), 0);
        for (uint64_t i = 0; i < 30; i++)
            send_noise(&w, round * 1000 + i);
        wire_flush(&w);
        shutdown(fds[0], SHUT_WR);
        assert_int_equal(pthread_join(thread, NULL), 0);
        n_ended += s.err.code != 0;
        wire_release(&w);
        wire_release(&s.wire);
    }
    assert_true(n_ended > 300); /* most say something impossible soon */
    kn_device_close(device);
}

/* Every op's args arrive as they were sent, but for what they point to. */
struct twins {
    uint64_t wrong;
};

static void *other_address(void *ctx, uint64_t address)
{
    const struct twins *t = ctx;
    return address == t->wrong ? NULL : (void *)(uintptr_t)(address + 0x1000);
}

static struct team_weight *other_weight(void *ctx, uint32_t number)
{
    static struct team_weight weights[4];
    return number < 4 ? &weights[number] : NULL;
}

static void args_arrive(void **state)
{
    int fds[2];
    struct wire a, b;
    struct err err = {0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_ok(wire_init(&a, fds[0], "a", &err), &err);
    assert_ok(wire_init(&b, fds[1], "b", &err), &err);
    struct team_weight mine[2] = {{.number = 0}, {.number = 3}};
    const struct kn_weight w[2] = {{.data = &mine[0]}, {.data = &mine[1]}};
    const struct kn_add_rms_norm_args then = {
        .x = {(float *)0x7000, 2, 3, 4}, .w = (float *)0x8000, .eps = 0.5f, .y = {(float *)0x9000, 2, 3, 4}};
    const struct kn_moe_down_args sent = {.h = {(float *)0x10000, 4, 8, 9},
                                          .ids = (int32_t *)0x20000,
                                          .k = 2,
                                          .weights = {(float *)0x30000, 2, 2, 2},
                                          .down = &w[1],
                                          .y = {(float *)0x40000, 2, 3, 4},
                                          .then = &then};
    struct twins twins = {0};
    const struct team_finder finder = {other_address, other_weight, &twins};
    team_send_op(&a, 7, KN_OP_moe_down, &sent);
    wire_flush(&a);
    uint32_t kind, head[2];
    const unsigned char *bytes;
    size_t n;
    assert_int_equal(wire_take(&b, &kind, &bytes, &n, NULL), 0);
    assert_int_equal(kind, TEAM_OP);
    memcpy(head, bytes, sizeof head);
    assert_int_equal(head[0], 7);
    assert_int_equal(head[1], KN_OP_moe_down);
    bytes += sizeof head;
    n -= sizeof head;
    struct team_args got;
    assert_ok(team_read_args(KN_OP_moe_down, bytes, n, &finder, &got, &err), &err);
    const struct kn_moe_down_args *m = &got.of.moe_down;
    assert_true(m->h.data == (void *)0x11000);
    assert_int_equal(m->h.stride, 9);
    assert_true(m->ids == (void *)0x21000);
    assert_int_equal(m->k, 2);
    assert_true(m->down == &other_weight(NULL, 3)->share);
    assert_null(m->shared_down);
    assert_null(m->gates.data);
    assert_true(m->then == &got.then);
    assert_true(got.then.x.data == (void *)0x8000);
    assert_null(got.then.res.data);
    assert_true(got.then.w == (void *)0x9000);
    assert_true(got.then.eps == 0.5f);
    for (size_t shorter = 0; shorter < n; shorter++) { /* each in room of its own: a sanitizer sees what is read behind it */
        unsigned char *copy = test_malloc(shorter + 1);
        memcpy(copy, bytes, shorter);
        err_clear(&err);
        assert_err(team_read_args(KN_OP_moe_down, copy, shorter, &finder, &got, &err), ERR_FORMAT, &err, "ends early");
        test_free(copy);
    }
    twins.wrong = 0x30000;
    err_clear(&err);
    assert_err(team_read_args(KN_OP_moe_down, bytes, n, &finder, &got, &err), ERR_FORMAT, &err, "what was never made");
    wire_release(&a);
    wire_release(&b);
}

int main(void)
{
    kn_cases_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(far_is_as_near), /* those that fork come before those that leave threads behind */
        cmocka_unit_test(a_lender_that_dies_is_an_error),
        cmocka_unit_test(strangers_are_shown_the_door),
        cmocka_unit_test(rows_belong_to_one),
        cmocka_unit_test(slices_are_shared_alike),
        cmocka_unit_test(products_of_one_input_are_shared),
        cmocka_unit_test(columns_add_up),
        cmocka_unit_test(both_have_the_same_sum),
        cmocka_unit_test(long_sums_take_turns),
        cmocka_unit_test(experts_are_shared),
        cmocka_unit_test(the_second_can_fail_alone),
        cmocka_unit_test(what_cannot_be_shared_is_refused),
        cmocka_unit_test(noise_is_not_obeyed),
        cmocka_unit_test(args_arrive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
