/*
 * kn_bench - times single ops of a device: time per call, GB/s of weights, share of the read bandwidth measured in the same
 * second, GOP/s.
 *
 *   kn_bench [--device cpu] [--threads N] [--isa avx512] [--type Q4_K] [--rows 3584] [--cols 1024] [--tokens 1,512] [--mb 512]
 *            [--seconds 1] [--ops linear,experts,attn,gdn,full] [--experts 256,8,2048,512]
 *
 * Linears and experts (how many, how many of a token, width, feed-forward) walk over `mb` megabytes of different weights (so that no cache holds them), interleaved with the probe; medians.
 * A device that records runs each walk as one launch, as it runs a step.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "kernels/kernels.h"

#define SAMPLES 64

struct bench {
    struct kn_device *device;
    struct kn_stream *stream;
    const struct kn_ops *ops;
    int32_t rows, cols;
    size_t mb;
    double seconds;
    const char *type; /* NULL: all */
    int32_t n_experts, n_used, width, ff;
    struct kn_limits limits;
};

static void die(const struct err *err)
{
    fprintf(stderr, "kn_bench: %s\n", err->text);
    exit(1);
}

static void *get(struct bench *b, size_t bytes)
{
    struct err err = {0};
    void *p;
    if (kn_alloc(b->device, bytes, &p, &err))
        die(&err);
    return p;
}

static float *noise(struct bench *b, size_t n, float f)
{
    float *host = malloc(n * sizeof *host), *p = get(b, n * sizeof *p);
    struct rng rng = {.seed = n};
    if (!host)
        exit(1);
    for (size_t i = 0; i < n; i++)
        host[i] = f * (float)(rng_unit(&rng) * 2 - 1);
    kn_upload(b->stream, p, host, n * sizeof *p);
    free(host);
    return p;
}

static struct kn_weight weight(struct bench *b, enum kn_dtype type, int32_t slices, int32_t rows, int32_t cols)
{
    struct kn_weight w = {.dtype = type, .rows = rows, .cols = cols, .slices = slices};
    struct err err = {0};
    size_t bytes = kn_row_bytes(type, cols) * (size_t)rows * (size_t)slices;
    void *host = malloc(bytes);
    if (!host || kn_weight_begin(b->device, &w, &err))
        die(&err);
    kn_fill_noise(type, 1, 0.02f, (int64_t)slices * rows * cols, host);
    if (kn_weight_rows(b->device, &w, 0, (int64_t)slices * rows, host, &err) || kn_weight_end(b->device, &w, &err))
        die(&err);
    free(host);
    return w;
}

static void done(struct bench *b)
{
    struct err err = {0};
    if (kn_stream_sync(b->stream, &err))
        die(&err);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, by_value);
    return x[n / 2];
}

/* ---- matrix products ---- */

/* Calls that walk over weights. */
struct walk {
    void (*call)(struct bench *b, const void *args, int32_t i);
    const void *args;
    int32_t n;
    size_t bytes;  /* of weights that all calls read */
    bool is_timed; /* against the read bandwidth */
};

static void run_walk(struct bench *b, const struct walk *w)
{
    if (kn_replay(b->stream, 1))
        return;
    const bool is_recorded = kn_record_begin(b->stream, 1);
    for (int32_t i = 0; i < w->n; i++)
        w->call(b, w->args, i);
    if (is_recorded && !kn_record_end(b->stream)) {
        fprintf(stderr, "kn_bench: the device keeps no recording of %d calls\n", w->n);
        exit(1);
    }
}

/* Seconds of a call, and what share of the read bandwidth that is. */
static double time_walk(struct bench *b, const struct walk *w, double *ret_share)
{
    double took[SAMPLES], share[SAMPLES];
    int samples = 0;
    struct err err = {0};
    kn_stream_close(b->stream); /* with what it has recorded */
    if (kn_stream_open(b->device, &b->limits, &b->stream, &err))
        die(&err);
    for (int i = 0; i < 2; i++) { /* the second is recorded */
        run_walk(b, w);
        done(b);
    }
    const int64_t start = clock_now_ns();
    do {
        const double rate = w->is_timed ? kn_read_bandwidth(b->device, b->mb << 20, 0.05) : 1;
        const int64_t t = clock_now_ns();
        run_walk(b, w);
        done(b);
        took[samples] = (double)(clock_now_ns() - t) * 1e-9;
        share[samples] = (double)w->bytes / took[samples] / (rate > 0 ? rate : 1);
        samples++;
    } while (samples < SAMPLES && (samples < 5 || (double)(clock_now_ns() - start) < b->seconds * 1e9));
    *ret_share = median(share, samples);
    return median(took, samples) / w->n;
}

static void print_walk(const struct walk *w, double t, double share, double ops)
{
    printf("%10.1f us %8.2f GB/s", t * 1e6, (double)w->bytes / w->n / t * 1e-9);
    if (w->is_timed)
        printf("  %5.2f of read bandwidth", share);
    printf("  %8.1f GOP/s\n", ops / t * 1e-9);
}

struct linears {
    struct kn_weight *w;
    float *x, *y;
    int32_t tokens;
};

static void call_linear(struct bench *b, const void *args, int32_t i)
{
    const struct linears *l = args;
    b->ops->linear(b->stream, &(struct kn_linear_args){.x = {l->x, l->tokens, b->cols, b->cols},
                                                       .w = &l->w[i],
                                                       .y = {l->y, l->tokens, b->rows, b->rows}});
}

static void bench_linear(struct bench *b, enum kn_dtype type, int32_t tokens)
{
    const size_t bytes = kn_row_bytes(type, b->cols) * (size_t)b->rows;
    int n = tokens > 16 ? 1 : (int)((b->mb << 20) / bytes);
    n = n < 1 ? 1 : n;
    struct linears l = {.w = calloc((size_t)n, sizeof *l.w), .tokens = tokens};
    if (!l.w)
        exit(1);
    for (int i = 0; i < n; i++)
        l.w[i] = weight(b, type, 1, b->rows, b->cols);
    l.x = noise(b, (size_t)tokens * (size_t)b->cols, 1), l.y = noise(b, (size_t)tokens * (size_t)b->rows, 1);
    const struct walk w = {call_linear, &l, n, (size_t)n * bytes, tokens <= 16};
    double share;
    const double t = time_walk(b, &w, &share);
    printf("linear %-7s %6d x %-6d T=%-4d ", kn_dtype_name(type), b->rows, b->cols, tokens);
    print_walk(&w, t, share, 2.0 * b->rows * b->cols * tokens);
    for (int i = 0; i < n; i++)
        kn_weight_free(b->device, &l.w[i]);
    free(l.w);
    kn_free(b->device, l.x);
    kn_free(b->device, l.y);
}

/* ---- experts ---- */

#define WALK_CALLS 16

struct experts {
    struct kn_weight gate, up, down;
    int32_t *ids, tokens; /* device [WALK_CALLS, tokens, n_used] */
    float *x, *h, *weights, *y;
};

static void call_experts(struct bench *b, const void *args, int32_t i)
{
    const struct experts *e = args;
    const int32_t T = e->tokens, k = b->n_used, *ids = e->ids + (size_t)i * (size_t)(T * k);
    const struct kn_mat h = {e->h, T * k, b->ff, b->ff};
    b->ops->moe_gate_up(b->stream,
                        &(struct kn_moe_gate_up_args){
                            .x = {e->x, T, b->width, b->width}, .ids = ids, .k = k, .gate = &e->gate, .up = &e->up, .y = h});
    b->ops->moe_down(b->stream, &(struct kn_moe_down_args){.h = h,
                                                           .ids = ids,
                                                           .k = k,
                                                           .weights = {e->weights, T, k, k},
                                                           .down = &e->down,
                                                           .y = {e->y, T, b->width, b->width}});
}

/* For each call and token n_used different experts; how many are read in all calls together. */
static size_t choose_experts(struct bench *b, int32_t tokens, int32_t *ids)
{
    struct rng rng = {.seed = 5};
    uint8_t *is_read = calloc((size_t)b->n_experts, 1);
    size_t n = 0;
    if (!is_read)
        exit(1);
    for (int32_t c = 0; c < WALK_CALLS; c++) {
        memset(is_read, 0, (size_t)b->n_experts);
        for (int32_t t = 0; t < tokens; t++) {
            int32_t *mine = ids + ((size_t)c * (size_t)tokens + (size_t)t) * (size_t)b->n_used;
            for (int32_t k = 0; k < b->n_used;) {
                mine[k] = (int32_t)rng_below(&rng, (uint64_t)b->n_experts);
                bool is_new = true;
                for (int32_t j = 0; j < k; j++)
                    is_new = is_new && mine[j] != mine[k];
                if (!is_new)
                    continue;
                n += !is_read[mine[k]];
                is_read[mine[k++]] = 1;
            }
        }
    }
    free(is_read);
    return n;
}

static void bench_experts(struct bench *b, enum kn_dtype type, int32_t tokens)
{
    const size_t n_ids = (size_t)WALK_CALLS * (size_t)tokens * (size_t)b->n_used;
    int32_t *ids = malloc(n_ids * sizeof *ids);
    if (!ids)
        exit(1);
    struct experts e = {.gate = weight(b, type, b->n_experts, b->ff, b->width),
                        .up = weight(b, type, b->n_experts, b->ff, b->width),
                        .down = weight(b, type, b->n_experts, b->width, b->ff),
                        .ids = get(b, n_ids * sizeof *ids),
                        .tokens = tokens,
                        .x = noise(b, (size_t)tokens * (size_t)b->width, 1),
                        .h = noise(b, (size_t)tokens * (size_t)b->n_used * (size_t)b->ff, 1),
                        .weights = noise(b, (size_t)tokens * (size_t)b->n_used, 1),
                        .y = noise(b, (size_t)tokens * (size_t)b->width, 1)};
    const size_t n = choose_experts(b, tokens, ids),
                 each = 2 * kn_row_bytes(type, b->width) * (size_t)b->ff + kn_row_bytes(type, b->ff) * (size_t)b->width;
    kn_upload(b->stream, e.ids, ids, n_ids * sizeof *ids);
    done(b);
    const struct walk w = {call_experts, &e, WALK_CALLS, n * each, tokens <= 16};
    double share;
    const double t = time_walk(b, &w, &share);
    printf("experts %-7s %d of %d, %d x %d T=%-4d ", kn_dtype_name(type), b->n_used, b->n_experts, b->width, b->ff, tokens);
    print_walk(&w, t, share, 6.0 * b->width * b->ff * b->n_used * tokens);
    kn_weight_free(b->device, &e.gate);
    kn_weight_free(b->device, &e.up);
    kn_weight_free(b->device, &e.down);
    void *all[] = {e.ids, e.x, e.h, e.weights, e.y};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        kn_free(b->device, all[i]);
    free(ids);
}

/* Of all types, or the one, for all these numbers of tokens. */
static void each_type(struct bench *b, const char *tokens, void (*bench)(struct bench *b, enum kn_dtype type, int32_t tokens))
{
    static const enum kn_dtype types[] = {KN_Q4_K, KN_Q8_0, KN_Q6_K, KN_Q5_K, KN_IQ4_XS, KN_IQ4_NL, KN_MXFP4, KN_NVFP4, KN_Q4_0,
                                          KN_F16,  KN_BF16, KN_F32,  KN_Q2_K, KN_Q3_K,   KN_Q4_1,   KN_Q5_0,  KN_Q5_1};
    for (const char *t = tokens; *t;) {
        const int32_t n = (int32_t)strtol(t, (char **)&t, 10);
        t += *t == ',';
        for (size_t i = 0; i < sizeof types / sizeof *types; i++)
            if (!b->type || strcmp(b->type, kn_dtype_name(types[i])) == 0)
                bench(b, types[i], n > 0 ? n : 1);
    }
}

/* ---- the other large ops ---- */

#define TIMED(label, work, call)                                                                                               \
    do {                                                                                                                       \
        double took[SAMPLES];                                                                                                  \
        for (int i_ = 0; i_ < 9; i_++) {                                                                                       \
            const int64_t t_ = clock_now_ns();                                                                                 \
            call;                                                                                                              \
            done(b);                                                                                                           \
            took[i_] = (double)(clock_now_ns() - t_) * 1e-9;                                                                   \
        }                                                                                                                      \
        const double m_ = median(took, 9);                                                                                     \
        printf("%-44s %10.1f us  %8.1f GFLOP/s\n", label, m_ * 1e6, (work) / m_ * 1e-9);                                       \
    } while (0)

static void bench_attn(struct bench *b, int32_t past, int32_t tokens)
{
    const int32_t H = 8, G = 2, D = 256, pages = (past + tokens) / KN_PAGE_TOKENS + 1;
    struct kn_kv kv = {.dtype = KN_F16, .n_pages = pages, .n_heads = G, .head_dim = D};
    const size_t bytes = (size_t)pages * G * KN_PAGE_TOKENS * D * 2;
    kv.k = get(b, bytes), kv.v = get(b, bytes);
    int32_t *list = get(b, sizeof *list * (size_t)pages), *zero = get(b, sizeof *zero * (size_t)tokens);
    for (int32_t i = 0; i < pages; i++)
        kn_upload(b->stream, &list[i], &i, sizeof i);
    struct kn_seq *seq = get(b, sizeof *seq);
    kn_upload(b->stream, seq, &(struct kn_seq){.n_rows = tokens, .past = past}, sizeof *seq);
    struct kn_step step = {.n_rows = tokens, .n_seqs = 1, .tokens = zero, .seqs = seq, .seq_of_row = zero, .pages = list};
    float *q = noise(b, (size_t)tokens * H * D, 1), *y = noise(b, (size_t)tokens * H * D, 1);
    char label[64];
    snprintf(label, sizeof label, "attn F16 H=%d G=%d D=%d past=%d T=%d", H, G, D, past, tokens);
    const struct kn_attn_args a = {&step, {q, tokens, H * D, H * D}, {0}, &kv, 0.0625f, {y, tokens, H * D, H * D}};
    TIMED(label, 4.0 * H * D * tokens * (past + tokens / 2.0), b->ops->attn(b->stream, &a));
    void *all[] = {kv.k, kv.v, list, zero, seq, q, y};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        kn_free(b->device, all[i]);
}

static void bench_gdn(struct bench *b, int32_t tokens)
{
    const int32_t n_k = 16, n_v = 16, d = 128, C = 2 * n_k * d + n_v * d;
    struct kn_gdn_state state = {.bytes_per_slot = kn_gdn_state_bytes(n_k, n_v, d, d), .n_slots = 1};
    state.data = get(b, state.bytes_per_slot);
    int32_t *zero = get(b, sizeof *zero * (size_t)tokens);
    struct kn_seq *seq = get(b, sizeof *seq);
    kn_upload(b->stream, seq, &(struct kn_seq){.n_rows = tokens, .past = tokens == 1 ? 32 : 0}, sizeof *seq);
    struct kn_step step = {.n_rows = tokens, .n_seqs = 1, .tokens = zero, .seqs = seq, .seq_of_row = zero};
    float *x = noise(b, (size_t)tokens * (size_t)C, 0.1f), *w = noise(b, (size_t)C * 4, 1), *hist = noise(b, (size_t)C * 3, 1);
    float *u = noise(b, (size_t)tokens * (size_t)C, 0.1f), *g = noise(b, (size_t)tokens * n_v, 1), *a = noise(b, n_v, -0.1f);
    float *y = noise(b, (size_t)tokens * n_v * d, 1);
    char label[64];
    snprintf(label, sizeof label, "gdn_conv C=%d T=%d", C, tokens);
    const struct kn_gdn_conv_args ca = {&step, {x, tokens, C, C}, w, 4, hist, 1, n_k, n_v, d, d, {u, tokens, C, C}};
    TIMED(label, 8.0 * C * tokens, b->ops->gdn_conv(b->stream, &ca));
    snprintf(label, sizeof label, "gdn_scan %d heads of %d T=%d", n_v, d, tokens);
    const struct kn_gdn_scan_args sa = {.step = &step,
                                        .qkv = {u, tokens, C, C},
                                        .b = {g, tokens, n_v, n_v},
                                        .alpha = {g, tokens, n_v, n_v},
                                        .a = a,
                                        .dt = a,
                                        .n_k = n_k,
                                        .n_v = n_v,
                                        .d_k = d,
                                        .d_v = d,
                                        .state = &state,
                                        .y = {y, tokens, n_v * d, n_v * d}};
    TIMED(label, 6.0 * n_v * d * d * tokens, b->ops->gdn_scan(b->stream, &sa));
    void *all[] = {state.data, zero, seq, x, w, hist, u, g, a, y};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        kn_free(b->device, all[i]);
}

static void bench_full(struct bench *b, int32_t patches)
{
    const int32_t H = 12, D = 64, C = H * D;
    float *qkv = noise(b, (size_t)patches * 3 * (size_t)C, 1), *y = noise(b, (size_t)patches * (size_t)C, 1);
    char label[64];
    snprintf(label, sizeof label, "attn_full H=%d D=%d P=%d", H, D, patches);
    const struct kn_attn_full_args a = {
        .qkv = {qkv, patches, 3 * C, 3 * C}, .n_heads = H, .is_bf16 = true, .y = {y, patches, C, C}};
    TIMED(label, 4.0 * C * patches * patches, b->ops->attn_full(b->stream, &a));
    kn_free(b->device, qkv);
    kn_free(b->device, y);
}

int main(int argc, char **argv)
{
    struct bench b = {
        .rows = 3584, .cols = 1024, .mb = 512, .seconds = 1, .n_experts = 256, .n_used = 8, .width = 2048, .ff = 512};
    struct kn_device_options options = {0};
    const char *device = "cpu", *tokens = "1,4,512", *ops = "linear,attn,gdn,full";
    for (int i = 1; i < argc; i += 2) {
        const char *o = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        if (!v || strncmp(o, "--", 2) != 0) {
            fprintf(stderr, "kn_bench: options come as --name value; see the head of tools/kn_bench.c\n");
            return 2;
        }
        o += 2;
        if (strcmp(o, "device") == 0)
            device = v;
        else if (strcmp(o, "threads") == 0)
            options.threads = atoi(v);
        else if (strcmp(o, "isa") == 0)
            options.isa = v;
        else if (strcmp(o, "type") == 0)
            b.type = v;
        else if (strcmp(o, "rows") == 0)
            b.rows = atoi(v);
        else if (strcmp(o, "cols") == 0)
            b.cols = atoi(v);
        else if (strcmp(o, "tokens") == 0)
            tokens = v;
        else if (strcmp(o, "mb") == 0)
            b.mb = (size_t)atoi(v);
        else if (strcmp(o, "experts") == 0) {
            if (sscanf(v, "%d,%d,%d,%d", &b.n_experts, &b.n_used, &b.width, &b.ff) != 4) {
                fprintf(stderr, "kn_bench: --experts how many,how many of a token,width,feed-forward\n");
                return 2;
            }
        } else if (strcmp(o, "seconds") == 0)
            b.seconds = atof(v);
        else if (strcmp(o, "ops") == 0)
            ops = v;
        else {
            fprintf(stderr, "kn_bench: no option is called --%s\n", o);
            return 2;
        }
    }
    struct err err = {0};
    struct kn_device_info info;
    b.limits = (struct kn_limits){.rows = 4096,
                                  .cols = b.cols > 4096 ? b.cols : 4096,
                                  .outputs = b.rows > b.width ? b.rows : b.width,
                                  .experts = b.n_experts,
                                  .experts_used = b.n_used,
                                  .seqs = 1,
                                  .kv_len = 16384,
                                  .heads = 16,
                                  .head_dim = 256};
    if (kn_device_open(device, &options, &b.device, &err) || kn_stream_open(b.device, &b.limits, &b.stream, &err))
        die(&err);
    b.ops = kn_device_ops(b.device);
    kn_device_get_info(b.device, &info);
    printf("%s: %s\n", info.name, info.description);
    printf("read bandwidth %.1f GB/s over %zu MiB\n", kn_read_bandwidth(b.device, b.mb << 20, 1) * 1e-9, b.mb);
    if (strstr(ops, "linear"))
        each_type(&b, tokens, bench_linear);
    if (strstr(ops, "experts"))
        each_type(&b, tokens, bench_experts);
    if (strstr(ops, "attn")) {
        bench_attn(&b, 4096, 1);
        bench_attn(&b, 16000, 1);
        bench_attn(&b, 0, 512);
        bench_attn(&b, 4096, 128);
    }
    if (strstr(ops, "gdn")) {
        bench_gdn(&b, 1);
        bench_gdn(&b, 512);
    }
    if (strstr(ops, "full"))
        bench_full(&b, 1200);
    kn_stream_close(b.stream);
    kn_device_close(b.device);
    return 0;
}
