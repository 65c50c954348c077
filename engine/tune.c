#include "engine/tune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"

#define COLS        2048
#define ROWS        4096
#define FF          512 /* of an expert */
#define EXPERTS     64
#define USED        8
#define LEAST_BYTES ((size_t)64 << 20) /* of weights */
#define MOST_BYTES  ((size_t)512 << 20)
#define GPU_BYTES   ((size_t)256 << 20) /* more than its caches hold by far */
#define HURRY_S     0.2                 /* in less nothing is measured in earnest, and no memory is filled for it */
#define ROUNDS      64
#define WORTH       1.02 /* a value that is less faster than the standard is not worth a line */

/* ---- choosing ------------------------------------------------------------------------------------------------------------------------ */

/* The sum over all points of the logarithm of the time, with this value. */
static double cost_of(const struct tune_figure *f, int32_t value)
{
    double cost = 0;
    for (int32_t i = 0; i < f->n; i++)
        cost += log(f->at[i] <= value ? f->few_s[i] : f->many_s[i]);
    return cost;
}

void tune_choose(struct tune_figure *f)
{
    const double standard = cost_of(f, f->standard);
    double best = standard - f->n * log(WORTH);
    f->best = f->standard;
    for (int32_t i = -1; i < f->n; i++) { /* nowhere, or up to each of the points */
        const int32_t value = i < 0 ? f->at[0] - 1 : f->at[i];
        const double cost = cost_of(f, value);
        if (cost < best) {
            best = cost;
            f->best = value;
        }
    }
    f->gain = f->n > 0 ? exp((standard - cost_of(f, f->best)) / f->n) : 1;
}

/* ---- measuring ------------------------------------------------------------------------------------------------------------------------- */

/* A product that is measured, over several weights in turns so that no cache holds them. */
struct rig {
    struct kn_device *device;
    struct kn_stream *stream;
    struct kn_limits limits;
    enum kn_tunable what;
    struct kn_weight *weights; /* [n_weights] dense, or gate, up and down of experts */
    int32_t n_weights;
    float *x, *h, *y, *shares;
    int32_t *ids;
};

static int add_weight(struct rig *r, enum kn_dtype dtype, int32_t slices, int32_t rows, int32_t cols, const void *noise,
                      struct err *err)
{
    struct kn_weight *w = &r->weights[r->n_weights];
    *w = (struct kn_weight){.dtype = dtype, .rows = rows, .cols = cols, .slices = slices};
    int rc = kn_weight_begin(r->device, w, err);
    if (rc != 0)
        return rc;
    r->n_weights++;
    /* slices may all be the same: only where they lie matters */
    for (int32_t s = 0; rc == 0 && s < slices; s++)
        rc = kn_weight_rows(r->device, w, (int64_t)s * rows, rows, noise, err);
    return rc == 0 ? kn_weight_end(r->device, w, err) : rc;
}

static int take(struct rig *r, size_t floats, float **ret, struct err *err)
{
    return kn_alloc(r->device, floats * sizeof **ret, (void **)ret, err);
}

static int fill(struct rig *r, float *to, size_t n, struct err *err)
{
    float *host = malloc(n * sizeof *host);
    struct rng rng = {.seed = n};
    if (!host)
        return err_set(err, ERR_NOMEM, "out of memory: %zu floats", n);
    for (size_t i = 0; i < n; i++)
        host[i] = (float)(rng_unit(&rng) * 2 - 1);
    kn_upload(r->stream, to, host, n * sizeof *host);
    const int rc = kn_stream_sync(r->stream, err);
    free(host);
    return rc;
}

/* USED different experts of each of `tokens` tokens. */
static int fill_ids(struct rig *r, int32_t tokens, struct err *err)
{
    int32_t *ids = malloc((size_t)tokens * USED * sizeof *ids);
    struct rng rng = {.seed = 5};
    if (!ids)
        return err_set(err, ERR_NOMEM, "out of memory: the experts of %d tokens", tokens);
    for (int32_t t = 0; t < tokens; t++) {
        const int32_t first = (int32_t)rng_below(&rng, EXPERTS), step = 2 * (int32_t)rng_below(&rng, EXPERTS / 2) + 1;
        for (int32_t i = 0; i < USED; i++) /* an odd step visits each of a power of two */
            ids[t * USED + i] = (first + i * step) % EXPERTS;
    }
    kn_upload(r->stream, r->ids, ids, (size_t)tokens * USED * sizeof *ids);
    const int rc = kn_stream_sync(r->stream, err);
    free(ids);
    return rc;
}

static void rig_close(struct rig *r)
{
    void *all[] = {r->x, r->h, r->y, r->shares, r->ids};
    for (int32_t i = 0; i < r->n_weights; i++)
        kn_weight_free(r->device, &r->weights[i]);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        kn_free(r->device, all[i]);
    kn_stream_close(r->stream);
    free(r->weights);
}

/* As many weights as no cache holds. */
static size_t weights_bytes(const struct kn_device *device, double seconds)
{
    struct kn_device_info info;
    kn_device_get_info(device, &info);
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    const size_t bytes = cache > 0 && seconds >= HURRY_S ? 2 * (size_t)cache : LEAST_BYTES;
    if (strncmp(info.name, "cuda", 4) == 0)
        return GPU_BYTES;
    return bytes < LEAST_BYTES ? LEAST_BYTES : bytes > MOST_BYTES ? MOST_BYTES : bytes;
}

static int rig_open(struct rig *r, enum kn_dtype dtype, int32_t most, double seconds, struct err *err)
{
    const bool is_dense = r->what == KN_FEW_ROWS;
    const int32_t rows = is_dense ? most : most / USED + 1;
    const size_t one = kn_row_bytes(dtype, COLS) * ROWS, all = weights_bytes(r->device, seconds);
    const int32_t n = is_dense ? (int32_t)(all / one) + 1 : 3;
    r->limits = (struct kn_limits){.rows = rows,
                                   .cols = ROWS,
                                   .outputs = ROWS,
                                   .seqs = 1,
                                   .kv_len = KN_PAGE_TOKENS,
                                   .heads = 1,
                                   .head_dim = 32,
                                   .experts = is_dense ? 0 : EXPERTS,
                                   .experts_used = is_dense ? 0 : USED};
    int rc = kn_stream_open(r->device, &r->limits, &r->stream, err);
    void *noise = malloc(one);
    r->weights = calloc((size_t)n, sizeof *r->weights);
    if (rc == 0 && (!noise || !r->weights))
        rc = err_set(err, ERR_NOMEM, "out of memory: weights to measure with");
    if (rc == 0)
        kn_fill_noise(dtype, 1, 0.02f, (int64_t)ROWS * COLS, noise);
    for (int32_t i = 0; rc == 0 && is_dense && i < n; i++)
        rc = add_weight(r, dtype, 1, ROWS, COLS, noise, err);
    for (int32_t i = 0; rc == 0 && !is_dense && i < n; i++)
        rc = i < 2 ? add_weight(r, dtype, EXPERTS, FF, COLS, noise, err) : add_weight(r, dtype, EXPERTS, COLS, FF, noise, err);
    free(noise);
    const size_t pairs = (size_t)rows * USED;
    if (rc == 0 && (rc = take(r, (size_t)rows * COLS, &r->x, err)) == 0)
        rc = fill(r, r->x, (size_t)rows * COLS, err);
    if (rc == 0)
        rc = take(r, (size_t)rows * ROWS, &r->y, err);
    if (rc == 0 && !is_dense && (rc = take(r, pairs * FF, &r->h, err)) == 0 && (rc = take(r, pairs, &r->shares, err)) == 0 &&
        (rc = fill(r, r->shares, pairs, err)) == 0 && (rc = kn_alloc(r->device, pairs * 4, (void **)&r->ids, err)) == 0)
        rc = fill_ids(r, rows, err);
    return rc;
}

/* All weights once, with so many rows or pairs. */
static void walk(struct rig *r, int32_t at)
{
    const struct kn_ops *ops = kn_device_ops(r->device);
    if (r->what == KN_FEW_ROWS) {
        for (int32_t i = 0; i < r->n_weights; i++)
            ops->linear(r->stream, &(struct kn_linear_args){
                                       .x = {r->x, at, COLS, COLS}, .w = &r->weights[i], .y = {r->y, at, ROWS, ROWS}});
        return;
    }
    const int32_t T = at / USED;
    const struct kn_mat h = {r->h, at, FF, FF};
    ops->moe_gate_up(
        r->stream,
        &(struct kn_moe_gate_up_args){
            .x = {r->x, T, COLS, COLS}, .ids = r->ids, .k = USED, .gate = &r->weights[0], .up = &r->weights[1], .y = h});
    ops->moe_down(r->stream, &(struct kn_moe_down_args){.h = h,
                                                        .ids = r->ids,
                                                        .k = USED,
                                                        .weights = {r->shares, T, USED, USED},
                                                        .down = &r->weights[2],
                                                        .y = {r->y, T, COLS, COLS}});
}

/* Seconds of a walk at point i, by one of the ways. A device that records runs each as one launch, as it runs a step. */
static double time_walk(struct rig *r, const struct tune_figure *f, int32_t i, bool is_few, struct err *err)
{
    const uint64_t key = (uint64_t)(2 * i + is_few);
    kn_tune(r->device, f->what, f->dtype, is_few ? f->at[i] : f->at[i] - 1);
    const int64_t start = clock_now_ns();
    if (!kn_replay(r->stream, key)) {
        const bool is_recorded = kn_record_begin(r->stream, key);
        walk(r, f->at[i]);
        if (is_recorded && !kn_record_end(r->stream))
            walk(r, f->at[i]);
    }
    return kn_stream_sync(r->stream, err) == 0 ? (double)(clock_now_ns() - start) / 1e9 / r->n_weights : -1;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Point i both ways, in turns, for so many seconds. */
static int measure_point(struct rig *r, struct tune_figure *f, int32_t i, double seconds, struct err *err)
{
    double few[ROUNDS], many[ROUNDS];
    int n = 0;
    for (int warm = 0; warm < 4; warm++)
        if (time_walk(r, f, i, warm % 2, err) < 0)
            return ERR_DEVICE;
    for (const int64_t until = clock_now_ns() + (int64_t)(seconds * 1e9); n < ROUNDS && (n < 5 || clock_now_ns() < until);
         n++) {
        few[n] = time_walk(r, f, i, true, err);
        many[n] = time_walk(r, f, i, false, err);
        if (few[n] < 0 || many[n] < 0)
            return ERR_DEVICE;
    }
    qsort(few, (size_t)n, sizeof *few, by_value);
    qsort(many, (size_t)n, sizeof *many, by_value);
    f->few_s[i] = few[n / 2];
    f->many_s[i] = many[n / 2];
    return 0;
}

int tune_measure(struct kn_device *device, enum kn_tunable what, enum kn_dtype dtype, double seconds, struct tune_figure *ret,
                 struct err *err)
{
    static const int32_t small[] = {1, 2, 3, 4, 5, 6, 7, 8}, large[] = {16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512};
    const int32_t most = kn_tuning_most(device, what, dtype);
    const bool is_small = most <= 8;
    *ret = (struct tune_figure){.what = what, .dtype = dtype, .standard = kn_tuning_standard(device, what, dtype)};
    for (size_t i = 0; i < (is_small ? sizeof small : sizeof large) / sizeof *small; i++)
        if ((is_small ? small : large)[i] <= most)
            ret->at[ret->n++] = (is_small ? small : large)[i];
    struct rig rig = {.device = device, .what = what};
    int rc = rig_open(&rig, dtype, most, seconds, err);
    for (int32_t i = 0; rc == 0 && i < ret->n; i++)
        rc = measure_point(&rig, ret, i, seconds / ret->n, err);
    rig_close(&rig);
    if (rc == 0)
        tune_choose(ret);
    kn_tune(device, what, dtype, rc == 0 ? ret->best : ret->standard);
    return rc;
}

/* ---- the door's ------------------------------------------------------------------------------------------------------------------------ */

int en_tune(const struct en_options *options, const char *path, double seconds, en_tuned_fn *on_figure, void *ctx,
            double *ret_gain, struct err *err)
{
    static const enum kn_dtype types[] = {KN_Q4_K, KN_Q5_K, KN_Q6_K, KN_Q8_0, KN_IQ4_XS, KN_IQ4_NL, KN_MXFP4, KN_NVFP4,
                                          KN_Q4_0, KN_Q4_1, KN_Q5_0, KN_Q5_1, KN_Q2_K,   KN_Q3_K,   KN_F16,   KN_BF16};
    const struct kn_device_options device_options = {.threads = options->threads, .isa = options->isa};
    struct kn_device *device = NULL;
    struct kn_device_info info;
    double log_gain = 0;
    int n = 0;
    int rc = kn_device_open(options->device ? options->device : "auto", &device_options, &device, err);
    if (rc != 0)
        return rc;
    kn_device_get_info(device, &info);
    for (int what = 0; rc == 0 && what < KN_TUNABLES; what++)
        for (size_t i = 0; rc == 0 && i < sizeof types / sizeof *types; i++) {
            struct tune_figure f;
            if (kn_tuning_most(device, (enum kn_tunable)what, types[i]) == 0)
                continue;
            if ((rc = tune_measure(device, (enum kn_tunable)what, types[i], seconds, &f, err)) != 0)
                break;
            log_gain += log(f.gain);
            n++;
            struct en_tuned row = {.device = info.description,
                                   .figure = kn_tunable_name(f.what),
                                   .type = kn_dtype_name((int)f.dtype),
                                   .standard = f.standard,
                                   .best = f.best,
                                   .gain = f.gain,
                                   .n = f.n};
            for (int32_t k = 0; k < f.n; k++) {
                row.at[k] = f.at[k];
                row.ratio[k] = f.many_s[k] / f.few_s[k];
            }
            on_figure(ctx, &row);
        }
    if (rc == 0 && n == 0)
        rc = err_set(err, ERR_UNSUPPORTED, "%s has nothing to tune", info.name);
    *ret_gain = n > 0 ? exp(log_gain / n) : 1;
    if (rc == 0) {
        char date[16];
        const time_t now = time(NULL);
        struct tm tm;
        strftime(date, sizeof date, "%Y-%m-%d", gmtime_r(&now, &tm));
        rc = kn_tuning_save(device, path ? path : kn_tuning_path(), date, *ret_gain, err);
    }
    kn_device_close(device);
    return rc;
}

const char *en_tuning_path(void)
{
    return kn_tuning_path();
}
