/* cpu - the CPU device: opening, weights, streams and their workspace, the table of ops. */
#include "kernels/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_BYTES ((size_t)2 << 20)

/* ---- device ---------------------------------------------------------------------------------------------------------------- */

static const struct kn_ops cpu_ops = {
#define KN_OP(name) .name = cpu_##name,
#include "kernels/ops.def"
#undef KN_OP
};

static void device_close(struct kn_device *device)
{
    struct cpu_device *d = (struct cpu_device *)device;
    if (!d)
        return;
    pool_close(d->pool);
    free(d);
}

static void fill_info(struct cpu_device *d)
{
    struct kn_device_info *info = &d->base.info;
    char model[64];
    cpu_model_name(model, sizeof model);
    info->threads = pool_threads(d->pool);
    snprintf(info->name, sizeof info->name, "cpu");
    snprintf(info->description, sizeof info->description, "%s, %s, %d thread%s", model, cpu_level_name(d->level), info->threads,
             info->threads == 1 ? "" : "s");
    long page = sysconf(_SC_PAGESIZE), all = sysconf(_SC_PHYS_PAGES), now = sysconf(_SC_AVPHYS_PAGES);
    if (page > 0 && all > 0)
        info->memory_bytes = (uint64_t)page * (uint64_t)all;
    if (page > 0 && now > 0)
        info->memory_free_bytes = (uint64_t)page * (uint64_t)now;
}

static int device_open(int index, const struct kn_device_options *options, struct kn_device **ret_device, struct err *err)
{
    struct cpu_device *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(err, ERR_NOMEM, "no memory for the cpu device");
    d->base.raw = cpu_ops;
    int rc = cpu_level_choose(options->isa, &d->level, err);
    if (rc)
        goto fail;
    d->tile = &tile_scalar;
    d->vec = &vec_scalar;
#if defined(__x86_64__)
    if (d->level >= CPU_AVX2)
        d->tile = &tile_avx2, d->vec = &vec_avx2;
    if (d->level >= CPU_AVX512)
        d->tile = &tile_avx512, d->vec = &vec_avx512;
#endif
    rc = pool_open(options->threads, &d->pool, err);
    if (rc)
        goto fail;
    fill_info(d);
    *ret_device = &d->base;
    return 0;
fail:
    device_close(&d->base);
    return rc;
}

/* ---- weights --------------------------------------------------------------------------------------------------------------- */

static int weight_begin(struct kn_device *device, struct kn_weight *w, struct err *err)
{
    struct pack_shape shape;
    if (!pack_shape_init(&shape, w->dtype, w->rows, w->cols))
        return err_set(err, ERR_UNSUPPORTED, "a %s weight of %d x %d", kn_dtype_name(w->dtype), w->rows, w->cols);
    size_t bytes;
    void *p = NULL;
    /* Large weights start on a huge page and ask for such: fewer misses of the page table when they are streamed. */
    if (__builtin_mul_overflow(shape.slice_bytes, (size_t)w->slices, &bytes) || bytes > SIZE_MAX - HUGE_BYTES ||
        posix_memalign(&p, bytes >= HUGE_BYTES ? HUGE_BYTES : 64, bytes) != 0)
        return err_set(err, ERR_NOMEM, "out of memory: a weight of %d x %d x %d %s", w->slices, w->rows, w->cols,
                       kn_dtype_name(w->dtype));
    if (bytes >= HUGE_BYTES)
        madvise(p, bytes, MADV_HUGEPAGE);
    if (w->rows % PACK_ROWS)
        for (int32_t e = 0; e < w->slices; e++) /* the lanes that no row fills */
            memset((uint8_t *)p + (size_t)(e + 1) * shape.slice_bytes - shape.group_bytes, 0, shape.group_bytes);
    w->data = p;
    w->data_bytes = bytes;
    w->packed = PACK_VERSION;
    return 0;
}

struct pack_job {
    struct pack_shape shape;
    const struct kn_weight *w;
    int64_t first, end;  /* rows at hand */
    int64_t first_group; /* counted over all slices */
    const uint8_t *src;
    size_t row_bytes;
};

static void pack_item(void *ctx, int32_t item, int thread)
{
    const struct pack_job *j = ctx;
    int64_t group = j->first_group + item, slice = group / j->shape.n_groups;
    int64_t start = slice * j->w->rows, row = start + group % j->shape.n_groups * PACK_ROWS;
    int64_t end = row + PACK_ROWS < start + j->w->rows ? row + PACK_ROWS : start + j->w->rows;
    row = row > j->first ? row : j->first;
    end = end < j->end ? end : j->end;
    pack_rows(&j->shape, (uint8_t *)j->w->data + (size_t)slice * j->shape.slice_bytes, (int32_t)(row - start),
              (int32_t)(end - row), j->src + (size_t)(row - j->first) * j->row_bytes);
}

static int weight_rows(struct kn_device *device, struct kn_weight *w, int64_t first_row, int64_t n_rows, const void *host_src,
                       struct err *err)
{
    if (n_rows == 0)
        return 0;
    struct pack_job j = {.shape = cpu_shape(w),
                         .w = w,
                         .first = first_row,
                         .end = first_row + n_rows,
                         .src = host_src,
                         .row_bytes = kn_row_bytes(w->dtype, w->cols)};
    int64_t last = j.end - 1;
    j.first_group = first_row / w->rows * j.shape.n_groups + first_row % w->rows / PACK_ROWS;
    int64_t last_group = last / w->rows * j.shape.n_groups + last % w->rows / PACK_ROWS;
    pool_run(((struct cpu_device *)device)->pool, (int32_t)(last_group - j.first_group + 1), pack_item, &j);
    return 0;
}

static int weight_end(struct kn_device *device, struct kn_weight *w, struct err *err)
{
    return 0;
}

static void weight_free(struct kn_device *device, struct kn_weight *w)
{
    free(w->data);
    w->data = NULL;
}

static void weight_row(const struct kn_weight *w, int32_t slice, int32_t row, float *dst)
{
    uint8_t blocks[4096];
    const struct pack_shape shape = cpu_shape(w);
    const int32_t step = (int32_t)(sizeof blocks / shape.layout->block_bytes);
    for (int32_t b = 0; b < shape.n_blocks; b += step) {
        int32_t n = shape.n_blocks - b < step ? shape.n_blocks - b : step;
        pack_get_row(&shape, cpu_slice(w, &shape, slice), row, b, n, blocks);
        kn_dequantize(w->dtype, blocks, (int64_t)n * shape.layout->elems, dst + (int64_t)b * shape.layout->elems);
    }
}

/* ---- streams ---------------------------------------------------------------------------------------------------------------- */

void cpu_too_large(struct kn_stream *stream, const char *op)
{
    kn_stream_fail(stream, op, ERR_INVAL, "the call is larger than the limits that the stream was opened with");
}

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Cut the next piece off the workspace; with no memory yet it only counts. */
static void *cut(uint8_t *memory, size_t *used, size_t n, size_t size)
{
    void *p = memory ? memory + *used : NULL;
    *used += (n * size + 63) / 64 * 64;
    return p;
}

static size_t lay_out(struct cpu_stream *s, const struct kn_limits *l, uint8_t *memory)
{
    const size_t threads = (size_t)pool_threads(s->pool), n = (size_t)s->n_rows_max, v = s->act_values;
    size_t used = 0;
    s->act.q = cut(memory, &used, v, 1);
    s->act.ad = cut(memory, &used, v / 32 + 1, 4);
    s->act.sum32 = cut(memory, &used, v / 32 + 1, 4);
    s->act.sum16 = cut(memory, &used, v / 16 + 1, 4);
    s->act.fsum32 = cut(memory, &used, v / 32 + 1, 4);
    s->act.fsum16 = cut(memory, &used, v / 16 + 1, 4);
    s->rows = cut(memory, &used, n, sizeof *s->rows);
    if (l->experts > 0) {
        s->by_expert = cut(memory, &used, n, sizeof *s->by_expert);
        s->expert_first = cut(memory, &used, (size_t)l->experts + 1, 4);
        s->expert_list = cut(memory, &used, n, 4);
        s->logits = cut(memory, &used, (size_t)s->n_tokens_max * (size_t)l->experts, 4);
    }
    s->partial = cut(memory, &used, s->partial_floats, 4);
    s->scratch = cut(memory, &used, threads, sizeof *s->scratch);
    for (size_t t = 0; t < threads; t++) {
        float *tmp = cut(memory, &used, s->tmp_floats, 4);
        if (memory)
            s->scratch[t].tmp = tmp;
    }
    return used;
}

static void stream_close(struct kn_stream *stream)
{
    struct cpu_stream *s = cpu_stream_of(stream);
    if (!s)
        return;
    free(s->memory);
    free(s);
}

static int stream_open(struct kn_device *device, const struct kn_limits *l, struct kn_stream **ret_stream, struct err *err)
{
    struct cpu_device *d = (struct cpu_device *)device;
    struct cpu_stream *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "no memory for a stream");
    s->device = d;
    s->pool = d->pool;
    s->tile = d->tile;
    s->vec = d->vec;

    const int32_t used = l->experts > 0 && l->experts_used > 1 ? l->experts_used : 1;
    const int32_t rows = l->rows > 1 ? l->rows : 1, head_dim = l->head_dim > 1 ? l->head_dim : 1;
    const size_t cols = ((size_t)(l->cols > 1 ? l->cols : 1) + 63) / 64 * 64;
    s->n_tokens_max = rows < CPU_CHUNK_ROWS ? rows : CPU_CHUNK_ROWS;
    s->n_rows_max = s->n_tokens_max * used;
    s->act_values = cols * max_size((size_t)s->n_tokens_max * (used > 1 ? 2 : 1), (size_t)used);

    const int32_t attn_rows = l->heads > 64 ? l->heads : 64;
    s->tmp_floats = max_size(cpu_attn_floats(attn_rows, head_dim), cpu_gdn_floats(head_dim, head_dim));
    if (l->experts > 0)
        s->tmp_floats = max_size(s->tmp_floats, (size_t)s->n_rows_max * 32);
    const size_t segments = ((size_t)l->kv_len + CPU_ATTN_SEGMENT - 1) / CPU_ATTN_SEGMENT;
    if (segments > 1) { /* four rows of the longest context; more go unsplit */
        s->partial_floats = 4 * segments * (size_t)l->heads * (size_t)(head_dim + 18);
        if (s->partial_floats > (size_t)16 << 20)
            s->partial_floats = (size_t)16 << 20;
    }
    const size_t bytes = lay_out(s, l, NULL);
    int rc = kn_host_alloc(device, bytes, &s->memory, err);
    if (rc) {
        stream_close(&s->base);
        return rc;
    }
    lay_out(s, l, s->memory);
    *ret_stream = &s->base;
    return 0;
}

const struct kn_backend kn_backend_cpu = {
    .name = "cpu",
    .open = device_open,
    .close = device_close,
    .alloc = kn_host_alloc,
    .free = kn_host_free,
    .upload = kn_host_copy_in,
    .download = kn_host_copy_out,
    .weight_begin = weight_begin,
    .weight_rows = weight_rows,
    .weight_end = weight_end,
    .weight_free = weight_free,
    .stream_open = stream_open,
    .stream_close = stream_close,
    .weight_row = weight_row,
    .read_bandwidth = cpu_read_bandwidth,
    .is_host = true,
};
