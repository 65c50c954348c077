/* cpu - the CPU device: opening, weights, streams and their workspace, the table of ops. */
#include "kernels/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/process.h"

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
    weights_close(&d->weights);
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
    snprintf(info->arithmetic, sizeof info->arithmetic, "cpu, %s", cpu_level_name(d->level)); /* threads share rows, not sums */
    long page = sysconf(_SC_PAGESIZE), all = sysconf(_SC_PHYS_PAGES);
    if (page > 0 && all > 0)
        info->memory_bytes = (uint64_t)page * (uint64_t)all;
    info->memory_free_bytes = process_available_bytes();
}

static int device_open(int index, const struct kn_device_options *options, struct kn_device **ret_device, struct err *err)
{
    struct cpu_device *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(err, ERR_NOMEM, "no memory for the cpu device");
    d->base.raw = cpu_ops;
    weights_init(&d->weights);
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
    if (d->level >= CPU_AMX) {
        tile_amx_init(&d->tile_own);
        d->tile = &d->tile_own;
    }
#elif defined(__aarch64__)
    if (d->level >= CPU_NEON)
        d->tile = &tile_neon, d->vec = &vec_neon;
    if (d->level >= CPU_I8MM) {
        tile_i8mm_init(&d->tile_own);
        d->tile = &d->tile_own;
    }
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
    for (int g = 0; g < 2; g++) {
        s->act[g].q = cut(memory, &used, v, 1);
        s->act[g].ad = cut(memory, &used, v / 32 + 1, 4);
        s->act[g].sum32 = cut(memory, &used, v / 32 + 1, 2);
        s->act[g].sum16 = cut(memory, &used, v / 16 + 1, 2);
        s->act[g].fsum32 = cut(memory, &used, v / 32 + 1, 4);
        s->act[g].fsum16 = cut(memory, &used, v / 16 + 1, 4);
    }
    if (s->tile->bf16.gemm)
        s->bf16 = cut(memory, &used, v + 32 * s->act_pitch_max, 2);
    s->rows = cut(memory, &used, n, sizeof *s->rows);
    if (l->experts > 0) {
        s->by_expert = cut(memory, &used, n, sizeof *s->by_expert);
        for (int g = 0; g < 2; g++)
            s->by_expert_q[g] = cut(memory, &used, n, s->act_pitch_max);
        s->expert_first = cut(memory, &used, (size_t)l->experts + 1, 4);
        s->expert_list = cut(memory, &used, n, 4);
        s->expert_used = cut(memory, &used, (size_t)l->experts, 4);
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

/* What the limits come to. Returns the bytes of the workspace. */
static size_t size_stream(struct cpu_stream *s, struct cpu_device *d, const struct kn_limits *l)
{
    s->device = d;
    s->pool = d->pool;
    s->tile = d->tile;
    s->vec = d->vec;

    const int32_t used = l->experts > 0 && l->experts_used > 1 ? l->experts_used : 1;
    /* rows are taken in chunks: a tower's cost nothing more */
    const int32_t most_rows = l->rows > l->patch_rows ? l->rows : l->patch_rows,
                  most_cols = l->cols > l->patch_cols ? l->cols : l->patch_cols;
    const int32_t rows = most_rows > 1 ? most_rows : 1, head_dim = l->head_dim > 1 ? l->head_dim : 1;
    const int32_t cols = most_cols > 1 ? most_cols : 1;
    s->act_pitch_max = max_size((size_t)cpu_act_pitch(cols), (size_t)cpu_bf16_pitch(cols));
    s->n_tokens_max = rows < CPU_CHUNK_ROWS ? rows : CPU_CHUNK_ROWS;
    s->n_rows_max = s->n_tokens_max * used;
    s->act_values = s->act_pitch_max * max_size((size_t)s->n_tokens_max * (used > 1 ? 2 : 1), (size_t)used);

    const int32_t attn_rows = l->heads > 64 ? l->heads : 64;
    s->tmp_floats = max_size(cpu_attn_floats(attn_rows, head_dim), cpu_gdn_floats(head_dim, head_dim));
    if (l->experts > 0)
        s->tmp_floats = max_size(s->tmp_floats, (size_t)s->n_rows_max * 32);
    if (s->tile->bf16.attend)
        s->tmp_floats = max_size(s->tmp_floats, TILE_ATTEND_BYTES / sizeof(float));
    const size_t segments = ((size_t)l->kv_len + CPU_ATTN_SEGMENT - 1) / CPU_ATTN_SEGMENT;
    if (segments > 1) { /* four rows of the longest context; more go unsplit */
        s->partial_floats = 4 * segments * (size_t)l->heads * (size_t)(head_dim + 18);
        if (s->partial_floats > (size_t)16 << 20)
            s->partial_floats = (size_t)16 << 20;
    }
    return lay_out(s, l, NULL);
}

static size_t stream_bytes(const struct kn_device *device, const struct kn_limits *l)
{
    struct cpu_stream s = {0};
    return size_stream(&s, (struct cpu_device *)device, l);
}

static int stream_open(struct kn_device *device, const struct kn_limits *l, struct kn_stream **ret_stream, struct err *err)
{
    struct cpu_stream *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "no memory for a stream");
    const size_t bytes = size_stream(s, (struct cpu_device *)device, l);
    int rc = kn_host_alloc(device, bytes, &s->memory, err);
    if (rc) {
        stream_close(&s->base);
        return rc;
    }
    lay_out(s, l, s->memory);
    *ret_stream = &s->base;
    return 0;
}

static int32_t tuning_most(const struct kn_device *device, enum kn_tunable what, enum kn_dtype dtype)
{
    return what == KN_FEW_ROWS && pack_layout_of(dtype) ? TILE_FUSED_ROWS : 0;
}

const struct kn_backend kn_backend_cpu = {
    .name = "cpu",
    .open = device_open,
    .close = device_close,
    .alloc = kn_host_alloc,
    .free = kn_host_free,
    .upload = kn_host_copy_in,
    .download = kn_host_copy_out,
    .weight_begin = weights_begin,
    .weight_rows = weights_rows,
    .weight_end = weights_end,
    .weight_free = weights_free,
    .stream_open = stream_open,
    .stream_close = stream_close,
    .stream_bytes = stream_bytes,
    .weight_row = weights_row,
    .tuning_most = tuning_most,
    .tuning_standard = tuning_most,
    .read_bandwidth = cpu_read_bandwidth,
    .is_host = true,
};
