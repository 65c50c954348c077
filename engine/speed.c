#include "engine/speed.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define READ_BYTES_MIN ((size_t)4 << 20)
#define READ_BYTES_MAX ((size_t)256 << 20) /* touching more takes longer than reading it */
#define READ_SECONDS   0.06
#define PASSES         5              /* the median counts: cores are shared */
#define PASS_NS        (4 * CLOCK_MS) /* shorter work is repeated within a pass */
#define WEIGHT_VALUES  (2 << 20)      /* large enough for all threads to have their share */
#define SLOW_VALUES    (1 << 15)      /* on a device that computes a few million multiply-adds a second */
#define FAST_VALUES    (64 << 20)     /* on a GPU: less is over before the next can begin */
#define ATTEND_PATCHES 128
#define ATTEND_HEADS   8
#define NOISE_ROWS     32

const int32_t speed_rows[SPEED_POINTS] = {1, 8, SPEED_ROWS_MAX};

/* What is measured with: a stream and one block of activations. */
struct bench {
    struct kn_device *device;
    struct kn_stream *stream;
    const struct kn_ops *ops;
    float *x, *y;
    bool is_slow, is_fast;
    double read_bytes_per_s;
    struct err *err;
};

/* Something that can be timed. */
struct work {
    const struct kn_weight *weight; /* NULL: attention */
    int32_t rows, head_dim;
};

static void work_run(const struct bench *b, const struct work *w)
{
    if (w->weight) {
        const struct kn_weight *m = w->weight;
        b->ops->linear(b->stream, &(struct kn_linear_args){
                                      .x = {b->x, w->rows, m->cols, m->cols}, .w = m, .y = {b->y, w->rows, m->rows, m->rows}});
        return;
    }
    const int32_t width = ATTEND_HEADS * w->head_dim;
    b->ops->attn_full(b->stream, &(struct kn_attn_full_args){.qkv = {b->x, ATTEND_PATCHES, 3 * width, 3 * width},
                                                             .n_heads = ATTEND_HEADS,
                                                             .y = {b->y, ATTEND_PATCHES, width, width}});
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds that the work takes, alone on the device: the median of some passes, each long enough for the clock. */
static int work_time(const struct bench *b, const struct work *w, double *ret_s)
{
    double took[PASSES];
    int64_t n = 1;
    int rc;
    work_run(b, w); /* caches, and pages touched for the first time */
    if ((rc = kn_stream_sync(b->stream, b->err)) != 0)
        return rc;
    for (int pass = 0; pass < PASSES; pass++) {
        const int64_t start = clock_now_ns();
        for (int64_t i = 0; i < n; i++)
            work_run(b, w);
        if ((rc = kn_stream_sync(b->stream, b->err)) != 0)
            return rc;
        const int64_t ns = clock_now_ns() - start;
        took[pass] = (double)(ns > 0 ? ns : 1) * 1e-9 / (double)n;
        if (pass == 0 && ns < PASS_NS)
            n = PASS_NS / (ns > 1000 ? ns : 1000) + 1;
        if (pass == 0 && b->is_slow) {
            *ret_s = took[0];
            return 0;
        }
    }
    qsort(took, PASSES, sizeof *took, by_value);
    *ret_s = took[PASSES / 2];
    return 0;
}

/* A weight of noise: the same few rows over and over, since making noise is slow and its values do not matter. */
static int make_weight(const struct bench *b, struct kn_weight *w)
{
    const size_t row = kn_row_bytes(w->dtype, w->cols);
    char *noise = malloc(row * NOISE_ROWS);
    if (!noise)
        return err_set(b->err, ERR_NOMEM, "out of memory: a weight to measure with");
    kn_fill_noise(w->dtype, 1, 0.02F, (int64_t)w->cols * NOISE_ROWS, noise);
    int rc = kn_weight_begin(b->device, w, b->err);
    for (int64_t r = 0; rc == 0 && r < w->rows; r += NOISE_ROWS)
        rc = kn_weight_rows(b->device, w, r, w->rows - r < NOISE_ROWS ? w->rows - r : NOISE_ROWS, noise, b->err);
    if (rc == 0)
        rc = kn_weight_end(b->device, w, b->err);
    free(noise);
    return rc;
}

/* Rows of the weight that stands for a type. */
static int32_t measured_rows(const struct bench *b, const struct speed_type *t)
{
    const int64_t most = (b->is_slow ? SLOW_VALUES : b->is_fast ? FAST_VALUES : WEIGHT_VALUES) / t->cols;
    return (int32_t)(t->rows < most ? t->rows : most > 1 ? most : 1);
}

static int measure_type(const struct bench *b, struct speed_type *t)
{
    struct kn_weight w = {.dtype = t->dtype, .rows = measured_rows(b, t), .cols = t->cols, .slices = 1};
    const double values = (double)w.rows * w.cols;
    int rc = make_weight(b, &w);
    for (int i = 0; rc == 0 && i < SPEED_POINTS; i++) {
        rc = work_time(b, &(struct work){.weight = &w, .rows = speed_rows[i]}, &t->pass_s[i]);
        t->pass_s[i] /= values;
        /* what is measured with may lie in a cache; a model does not */
        const double least = b->read_bytes_per_s > 0 ? (double)kn_row_bytes(w.dtype, w.cols) / w.cols / b->read_bytes_per_s : 0;
        t->pass_s[i] = t->pass_s[i] > least ? t->pass_s[i] : least;
    }
    kn_weight_free(b->device, &w);
    return rc;
}

/* An op that has next to nothing to do. */
static int measure_op(const struct bench *b, double *ret_s)
{
    struct kn_weight w = {.dtype = KN_F32, .rows = 32, .cols = 32, .slices = 1};
    int rc = make_weight(b, &w);
    if (rc == 0)
        rc = work_time(b, &(struct work){.weight = &w, .rows = 1}, ret_s);
    kn_weight_free(b->device, &w);
    return rc;
}

int speed_measure(struct kn_device *device, int32_t head_dim, struct speed *speed, struct err *err)
{
    struct kn_device_info info;
    struct bench b = {.device = device, .ops = kn_device_ops(device), .err = err};
    kn_device_get_info(device, &info);
    b.is_slow = strcmp(info.name, "ref") == 0;
    b.is_fast = strncmp(info.name, "cuda", 4) == 0;
    const size_t bytes = speed->read_bytes < READ_BYTES_MIN   ? READ_BYTES_MIN
                         : speed->read_bytes > READ_BYTES_MAX ? READ_BYTES_MAX
                                                              : speed->read_bytes;
    b.read_bytes_per_s = speed->read_bytes_per_s = kn_read_bandwidth(device, bytes, READ_SECONDS);
    int32_t cols = 3 * ATTEND_HEADS * head_dim, outputs = cols;
    for (int i = 0; i < speed->n_types; i++) {
        const int32_t rows = measured_rows(&b, &speed->types[i]);
        cols = speed->types[i].cols > cols ? speed->types[i].cols : cols;
        outputs = rows > outputs ? rows : outputs;
    }
    const struct kn_limits limits = {.rows = ATTEND_PATCHES,
                                     .cols = cols > outputs ? cols : outputs,
                                     .outputs = outputs,
                                     .seqs = 1,
                                     .kv_len = ATTEND_PATCHES,
                                     .heads = ATTEND_HEADS,
                                     .head_dim = head_dim};
    void *x = NULL, *y = NULL;
    double attend = 0;
    int rc = kn_stream_open(device, &limits, &b.stream, err);
    if (rc == 0)
        rc = kn_alloc(device, (size_t)ATTEND_PATCHES * (size_t)cols * sizeof(float), &x, err);
    if (rc == 0)
        rc = kn_alloc(device, (size_t)ATTEND_PATCHES * (size_t)outputs * sizeof(float), &y, err);
    b.x = x;
    b.y = y;
    for (int i = 0; rc == 0 && i < speed->n_types; i++)
        rc = measure_type(&b, &speed->types[i]);
    if (rc == 0)
        rc = measure_op(&b, &speed->op_s);
    if (rc == 0)
        rc = work_time(&b, &(struct work){.head_dim = head_dim}, &attend);
    speed->attend_s = attend / (2.0 * ATTEND_PATCHES * ATTEND_PATCHES * ATTEND_HEADS * head_dim);
    kn_free(device, x);
    kn_free(device, y);
    kn_stream_close(b.stream);
    return rc;
}
