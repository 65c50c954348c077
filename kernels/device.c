/*
 * device - opening devices by name, and the wrappers around every op: sticky errors, validation, tracing.
 */
#include "kernels/device.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"

#define HUGE_BYTES ((size_t)2 << 20)

const char *const kn_op_names[KN_OP_COUNT] = {
#define KN_OP(name) #name,
#include "kernels/ops.def"
#undef KN_OP
};

static const struct kn_backend *const backends[] = {&kn_backend_ref, &kn_backend_cpu, &kn_backend_cuda};

/* ---- the wrapped table ------------------------------------------------------------------------------------------------------- */

/* GGUF bytes of the weights that an op reads, for the trace. */
static uint64_t weight_bytes(const struct kn_weight *w, int64_t slices)
{
    return w && w->data ? kn_row_bytes(w->dtype, w->cols) * (uint64_t)w->rows * (uint64_t)slices : 0;
}

static uint64_t weights_read_linear(const struct kn_linear_args *a)
{
    return weight_bytes(a->w, 1);
}

static uint64_t weights_read_project(const struct kn_project_args *a)
{
    uint64_t n = 0;
    for (int32_t i = 0; i < a->n; i++)
        n += weight_bytes(a->w[i], 1);
    return n;
}

static uint64_t weights_read_gate_up(const struct kn_gate_up_args *a)
{
    return weight_bytes(a->gate, 1) + weight_bytes(a->up, 1);
}

/* One read of each chosen expert, and never more than there are: an upper bound where rows share experts. */
static uint64_t expert_bytes(const struct kn_weight *w, int32_t n_chosen)
{
    return w ? weight_bytes(w, n_chosen < w->slices ? n_chosen : w->slices) : 0;
}

static uint64_t weights_read_moe_gate_up(const struct kn_moe_gate_up_args *a)
{
    return expert_bytes(a->gate, a->y.rows) + expert_bytes(a->up, a->y.rows) + expert_bytes(a->shared_gate, 1) +
           expert_bytes(a->shared_up, 1);
}

static uint64_t weights_read_moe_down(const struct kn_moe_down_args *a)
{
    return expert_bytes(a->down, a->h.rows) + expert_bytes(a->shared_down, 1);
}

static uint64_t weights_read_moe_route(const struct kn_moe_route_args *a)
{
    return weight_bytes(a->w, 1);
}

static uint64_t weights_read_none(const void *args)
{
    return 0;
}

/* every other op reads none */
#define weights_read(args)                                                                                                     \
    _Generic((args),                                                                                                           \
        const struct kn_linear_args *: weights_read_linear,                                                                    \
        const struct kn_project_args *: weights_read_project,                                                                  \
        const struct kn_gate_up_args *: weights_read_gate_up,                                                                  \
        const struct kn_moe_gate_up_args *: weights_read_moe_gate_up,                                                          \
        const struct kn_moe_down_args *: weights_read_moe_down,                                                                \
        const struct kn_moe_route_args *: weights_read_moe_route,                                                              \
        default: weights_read_none)(args)

#define KN_OP(name)                                                                                                            \
    static void call_##name(struct kn_stream *stream, const struct kn_##name##_args *args)                                     \
    {                                                                                                                          \
        struct kn_device *d = stream->device;                                                                                  \
        struct err err = {0};                                                                                                  \
        if (stream->err.code != 0)                                                                                             \
            return;                                                                                                            \
        if (d->validate && kn_validate_##name(stream, args, &err) != 0) {                                                      \
            kn_stream_fail(stream, #name, err.code, "%s", err.text);                                                           \
            return;                                                                                                            \
        }                                                                                                                      \
        if (!d->trace) {                                                                                                       \
            d->raw.name(stream, args);                                                                                         \
            return;                                                                                                            \
        }                                                                                                                      \
        const int64_t start = clock_now_ns();                                                                                  \
        d->raw.name(stream, args);                                                                                             \
        if (d->backend->stream_sync)                                                                                           \
            d->backend->stream_sync(stream, &stream->err);                                                                     \
        struct kn_trace_row *row = &d->trace_rows[KN_OP_##name];                                                               \
        row->calls++;                                                                                                          \
        row->time_ns += clock_now_ns() - start;                                                                                \
        row->weight_bytes += weights_read(args);                                                                               \
    }
#include "kernels/ops.def"
#undef KN_OP

static const struct kn_ops call_table = {
#define KN_OP(name) .name = call_##name,
#include "kernels/ops.def"
#undef KN_OP
};

/* A table with an empty slot refuses to open and says what is missing. */
static int check_complete(const struct kn_device *device, struct err *err)
{
    char missing[256] = "";
#define KN_OP(name)                                                                                                            \
    if (!device->raw.name)                                                                                                     \
        snprintf(missing + strlen(missing), sizeof missing - strlen(missing), " " #name);
#include "kernels/ops.def"
#undef KN_OP
    if (missing[0])
        return err_set(err, ERR_UNSUPPORTED, "device %s lacks the ops%s", device->info.name, missing);
    return 0;
}

/* ---- open and close ---------------------------------------------------------------------------------------------------------- */

/* "cuda:1" -> backend "cuda", index 1. */
static const struct kn_backend *backend_by_name(const char *name, int *ret_index)
{
    const char *colon = strchr(name, ':');
    const size_t n = colon ? (size_t)(colon - name) : strlen(name);
    *ret_index = 0;
    if (colon) {
        char *end = NULL;
        const long index = strtol(colon + 1, &end, 10);
        if (!isdigit((unsigned char)colon[1]) || *end || index > 255)
            return NULL;
        *ret_index = (int)index;
    }
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (strlen(backends[i]->name) == n && memcmp(backends[i]->name, name, n) == 0)
            return colon && backends[i]->is_host ? NULL : backends[i];
    return NULL;
}

int kn_device_open(const char *name, const struct kn_device_options *options, struct kn_device **ret_device, struct err *err)
{
    static const struct kn_device_options defaults = {0};
    if (!options)
        options = &defaults;
    if (strcmp(name, "auto") == 0) {
        struct err why = {0};
        const int cuda = kn_device_open("cuda:0", options, ret_device, &why);
        if (cuda == ERR_NOT_FOUND)
            return kn_device_open("cpu", options, ret_device, err);
        /* a device that is there and does not work is not passed over in silence */
        return cuda ? err_set(err, cuda, "%s", why.text) : 0;
    }
    int index;
    const bool is_two = kn_device_members(name) == 2;
    const struct kn_backend *backend = is_two ? NULL : backend_by_name(name, &index);
    if (!backend && !is_two)
        return err_set(err, ERR_NOT_FOUND,
                       "no device is called \"%s\": it is auto, cpu, ref, cuda, cuda:N, or two of them, A+B", name);
    struct kn_device *device = NULL;
    int rc = is_two ? team_open(name, options, &device, err) : backend->open(index, options, &device, err);
    if (rc != 0)
        return rc;
    if (!device->backend) /* "cuda" is opened by a loader: the backend is its module's */
        device->backend = backend;
    device->ops = call_table;
    kn_tuning_open(device);
    device->validate = !is_two && (options->validate || backend == &kn_backend_ref); /* of two, each looks for itself */
    if (device->info.members == 0)
        device->info.members = 1;
    if (!device->info.arithmetic[0])
        snprintf(device->info.arithmetic, sizeof device->info.arithmetic, "%s", device->info.description);
    if ((rc = check_complete(device, err)) != 0) {
        device->backend->close(device);
        return rc;
    }
    *ret_device = device;
    return 0;
}

const char *kn_device_name(const char *name)
{
    struct kn_device *device = NULL;
    struct err why = {0};
    if (strcmp(name, "auto") != 0)
        return name;
    const int rc = kn_device_open("cuda:0", NULL, &device, &why);
    kn_device_close(device);
    return rc == ERR_NOT_FOUND ? "cpu" : "cuda:0";
}

int kn_device_members(const char *name)
{
    return strchr(name, '+') ? 2 : 1;
}

void kn_device_close(struct kn_device *device)
{
    if (device)
        device->backend->close(device);
}

void kn_device_get_info(const struct kn_device *device, struct kn_device_info *ret_info)
{
    *ret_info = device->info;
}

const struct kn_ops *kn_device_ops(const struct kn_device *device)
{
    return &device->ops;
}

/* ---- memory and weights ------------------------------------------------------------------------------------------------------ */

int kn_alloc(struct kn_device *device, size_t bytes, void **ret_memory, struct err *err)
{
    return device->backend->alloc(device, bytes, ret_memory, err);
}

void kn_free(struct kn_device *device, void *memory)
{
    if (memory)
        device->backend->free(device, memory);
}

void kn_upload(struct kn_stream *stream, void *device_dst, const void *host_src, size_t bytes)
{
    if (stream->err.code == 0 && bytes)
        stream->device->backend->upload(stream, device_dst, host_src, bytes);
}

void kn_download(struct kn_stream *stream, void *host_dst, const void *device_src, size_t bytes)
{
    if (stream->err.code == 0 && bytes)
        stream->device->backend->download(stream, host_dst, device_src, bytes);
}

void kn_upload_step(struct kn_stream *stream, void *device_dst, const void *host_src, size_t bytes)
{
    const struct kn_backend *b = stream->device->backend;
    if (stream->err.code == 0 && bytes)
        (b->upload_step ? b->upload_step : b->upload)(stream, device_dst, host_src, bytes);
}

void kn_upload_cut(struct kn_stream *stream, float *device_dst, const struct kn_cut *cut, int64_t row_floats, int64_t first_row,
                   int64_t n_rows, const float *host_src)
{
    const struct kn_backend *b = stream->device->backend;
    if (cut->way == KN_CUT_NONE || !b->upload_cut)
        kn_upload(stream, device_dst + first_row * row_floats, host_src, (size_t)(n_rows * row_floats) * sizeof(float));
    else if (stream->err.code == 0)
        b->upload_cut(stream, device_dst, cut, row_floats, first_row, n_rows, host_src);
}

/* Rows of all slices that kn_weight_rows takes. */
static int64_t rows_of_whole(const struct kn_weight *w)
{
    const int64_t twice = w->cut.way == KN_CUT_ROWS || w->cut.way == KN_CUT_JOIN ? 2 : 1;
    return twice * w->rows * w->slices;
}

int kn_weight_begin(struct kn_device *device, struct kn_weight *weight, struct err *err)
{
    weight->data = NULL;
    weight->data_bytes = 0;
    weight->packed = 0;
    if (!kn_dtype_info(weight->dtype) || weight->dtype == KN_I32)
        return err_set(err, ERR_UNSUPPORTED, "weights of type %s", kn_dtype_name(weight->dtype));
    const bool is_cut = weight->cut.way != KN_CUT_NONE;
    if (is_cut && device->info.members != 2)
        return err_set(err, ERR_INVAL, "a weight that two share, on %s", device->info.name);
    if (is_cut) /* each member's device looks at its share */
        return device->backend->weight_begin(device, weight, err);
    if (weight->rows < 1 || weight->cols < 1 || weight->slices < 1 || kn_row_bytes(weight->dtype, weight->cols) == 0)
        return err_set(err, ERR_INVAL, "a %s weight of %d x %d x %d: rows are whole blocks of %u", kn_dtype_name(weight->dtype),
                       weight->slices, weight->rows, weight->cols, kn_dtype_info(weight->dtype)->block_elems);
    return device->backend->weight_begin(device, weight, err);
}

size_t kn_weight_bytes(const struct kn_device *device, const struct kn_weight *weight)
{
    return device->backend->weight_bytes ? device->backend->weight_bytes(device, weight) : 0;
}

int kn_reserve(struct kn_device *device, size_t bytes, struct err *err)
{
    return device->backend->reserve ? device->backend->reserve(device, bytes, err) : 0;
}

int kn_weight_rows(struct kn_device *device, struct kn_weight *weight, int64_t first_row, int64_t n_rows, const void *host_src,
                   struct err *err)
{
    const int64_t total = rows_of_whole(weight);
    if (first_row < 0 || n_rows < 0 || first_row > total - n_rows)
        return err_set(err, ERR_INVAL, "rows %lld to %lld of a weight of %lld", (long long)first_row,
                       (long long)((uint64_t)first_row + (uint64_t)n_rows), (long long)total);
    return device->backend->weight_rows(device, weight, first_row, n_rows, host_src, err);
}

int kn_weight_end(struct kn_device *device, struct kn_weight *weight, struct err *err)
{
    return device->backend->weight_end(device, weight, err);
}

void kn_weight_free(struct kn_device *device, struct kn_weight *weight)
{
    if (weight->data)
        device->backend->weight_free(device, weight);
    weight->data = NULL;
}

/* ---- streams ----------------------------------------------------------------------------------------------------------------- */

int kn_stream_open(struct kn_device *device, const struct kn_limits *limits, struct kn_stream **ret_stream, struct err *err)
{
    struct kn_stream *stream = NULL;
    const int rc = device->backend->stream_open(device, limits, &stream, err);
    if (rc != 0)
        return rc;
    stream->device = device;
    stream->limits = *limits;
    *ret_stream = stream;
    return 0;
}

size_t kn_stream_bytes(const struct kn_device *device, const struct kn_limits *limits)
{
    return device->backend->stream_bytes(device, limits);
}

void kn_stream_close(struct kn_stream *stream)
{
    if (stream)
        stream->device->backend->stream_close(stream);
}

void kn_stream_fail(struct kn_stream *stream, const char *op, int code, const char *fmt, ...)
{
    if (stream->err.code != 0)
        return;
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(&stream->err, code, "%s: %s", op, text);
}

int kn_stream_sync(struct kn_stream *stream, struct err *err)
{
    if (stream->err.code == 0 && stream->device->backend->stream_sync)
        stream->device->backend->stream_sync(stream, &stream->err);
    if (stream->err.code != 0 && err)
        *err = stream->err;
    return stream->err.code;
}

void kn_stream_clear(struct kn_stream *stream)
{
    if (stream->device->backend->stream_clear)
        stream->device->backend->stream_clear(stream);
    err_clear(&stream->err);
}

bool kn_replay(struct kn_stream *stream, uint64_t key)
{
    const struct kn_device *d = stream->device;
    return stream->err.code == 0 && !d->trace && d->backend->replay && d->backend->replay(stream, key);
}

bool kn_record_begin(struct kn_stream *stream, uint64_t key)
{
    const struct kn_device *d = stream->device;
    return stream->err.code == 0 && !d->trace && d->backend->record_begin && d->backend->record_begin(stream, key);
}

uint64_t kn_launches(const struct kn_stream *stream)
{
    return stream->launches;
}

bool kn_record_end(struct kn_stream *stream)
{
    return stream->device->backend->record_end(stream);
}

/* ---- tracing ----------------------------------------------------------------------------------------------------------------- */

int kn_trace_begin(struct kn_device *device, struct err *err)
{
    for (int i = 0; i < KN_OP_COUNT; i++)
        device->trace_rows[i] = (struct kn_trace_row){.name = kn_op_names[i]};
    device->trace = true;
    return 0;
}

static int by_time(const void *a, const void *b)
{
    const struct kn_trace_row *x = a, *y = b;
    return x->time_ns < y->time_ns ? 1 : x->time_ns > y->time_ns ? -1 : strcmp(x->name, y->name);
}

size_t kn_trace_read(struct kn_device *device, struct kn_trace_row *ret_rows, size_t cap, bool reset)
{
    struct kn_trace_row rows[KN_OP_COUNT] = {0};
    size_t n = 0;
    for (int i = 0; i < KN_OP_COUNT; i++)
        if (device->trace_rows[i].calls > 0)
            rows[n++] = device->trace_rows[i];
    qsort(rows, n, sizeof *rows, by_time);
    memcpy(ret_rows, rows, (n < cap ? n : cap) * sizeof *rows);
    if (reset && device->trace)
        kn_trace_begin(device, NULL);
    return n;
}

/* ---- host memory, shared by the backends that compute on it ------------------------------------------------------------------ */

int kn_host_alloc(struct kn_device *device, size_t bytes, void **ret_memory, struct err *err)
{
    void *p = NULL;
    const size_t rounded = (bytes + 63) / 64 * 64, align = rounded < HUGE_BYTES ? 64 : HUGE_BYTES;
    if (rounded < bytes || posix_memalign(&p, align, rounded ? rounded : 64) != 0)
        return err_set(err, ERR_NOMEM, "out of memory: %zu bytes on %s", bytes, device->info.name);
    if (align == HUGE_BYTES) /* rows lie pages apart: each would need a page walk of its own */
        madvise(p, rounded / HUGE_BYTES * HUGE_BYTES, MADV_HUGEPAGE);
    memset(p, 0, rounded);
    *ret_memory = p;
    return 0;
}

void kn_host_free(struct kn_device *device, void *memory)
{
    free(memory);
}

void kn_host_copy_in(struct kn_stream *stream, void *device_dst, const void *host_src, size_t bytes)
{
    memcpy(device_dst, host_src, bytes);
}

void kn_host_copy_out(struct kn_stream *stream, void *host_dst, const void *device_src, size_t bytes)
{
    memcpy(host_dst, device_src, bytes);
}

int kn_plain_weight_begin(struct kn_device *device, struct kn_weight *w, struct err *err)
{
    const size_t row = kn_row_bytes(w->dtype, w->cols);
    if (__builtin_mul_overflow(row, (size_t)w->rows * (size_t)w->slices, &w->data_bytes))
        return err_set(err, ERR_INVAL, "a weight of %d x %d x %d is too large", w->slices, w->rows, w->cols);
    return kn_host_alloc(device, w->data_bytes, &w->data, err);
}

int kn_plain_weight_rows(struct kn_device *device, struct kn_weight *w, int64_t first_row, int64_t n_rows, const void *host_src,
                         struct err *err)
{
    const size_t row = kn_row_bytes(w->dtype, w->cols);
    memcpy((char *)w->data + (size_t)first_row * row, host_src, (size_t)n_rows * row);
    return 0;
}

int kn_plain_weight_end(struct kn_device *device, struct kn_weight *w, struct err *err)
{
    return 0;
}

void kn_plain_weight_free(struct kn_device *device, struct kn_weight *w)
{
    kn_host_free(device, w->data);
    w->data = NULL;
}

void kn_weight_row(const struct kn_stream *stream, const struct kn_weight *w, int32_t slice, int32_t row, float *dst)
{
    if (w->packed) {
        stream->device->backend->weight_row(w, slice, row, dst);
    } else {
        const size_t bytes = kn_row_bytes(w->dtype, w->cols);
        kn_dequantize(w->dtype, (const char *)w->data + ((size_t)slice * (size_t)w->rows + (size_t)row) * bytes, w->cols, dst);
    }
    if (w->scales)
        for (int32_t i = 0; i < w->cols; i++)
            dst[i] *= w->scales[slice];
}
