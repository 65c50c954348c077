#include "tests/support/kn_rig.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GUARD_BYTES 64
#define GUARD       0xA5

void kn_rig_open(struct kn_rig *r, const char *device, const char *isa, int threads)
{
    struct err err = {0};
    memset(r, 0, sizeof *r);
    const struct kn_device_options options = {.threads = threads, .isa = isa, .validate = true};
    assert_ok(kn_device_open(device, &options, &r->device, &err), &err);
    const struct kn_limits limits = {.rows = 512,
                                     .cols = 4096,
                                     .outputs = 4096,
                                     .seqs = 16,
                                     .kv_len = 4096,
                                     .heads = 64,
                                     .head_dim = 256,
                                     .experts = 64,
                                     .experts_used = 8};
    assert_ok(kn_stream_open(r->device, &limits, &r->stream, &err), &err);
    r->op = kn_device_ops(r->device);
}

void kn_rig_reset(struct kn_rig *r)
{
    struct err err = {0};
    assert_ok(kn_stream_sync(r->stream, &err), &err);
    for (int i = 0; i < r->n_blocks; i++) {
        unsigned char guard[2 * GUARD_BYTES];
        kn_download(r->stream, guard, r->blocks[i].base, GUARD_BYTES);
        kn_download(r->stream, guard + GUARD_BYTES, r->blocks[i].base + GUARD_BYTES + r->blocks[i].bytes, GUARD_BYTES);
        assert_ok(kn_stream_sync(r->stream, &err), &err);
        for (int k = 0; k < 2 * GUARD_BYTES; k++)
            if (guard[k] != GUARD)
                fail_msg("a guard byte %s block %d was written", k < GUARD_BYTES ? "before" : "behind", i);
        kn_free(r->device, r->blocks[i].base);
    }
    for (int i = 0; i < r->n_weights; i++) {
        kn_weight_free(r->device, r->weights[i]);
        test_free(r->weights[i]);
    }
    r->n_blocks = r->n_weights = 0;
}

void kn_rig_close(struct kn_rig *r)
{
    kn_rig_reset(r);
    kn_stream_close(r->stream);
    kn_device_close(r->device);
}

void *kn_rig_put(struct kn_rig *r, const void *host, size_t bytes)
{
    struct err err = {0};
    void *base = NULL;
    assert_true(r->n_blocks < KN_RIG_BLOCKS_MAX);
    assert_ok(kn_alloc(r->device, bytes + 2 * GUARD_BYTES, &base, &err), &err);
    char *all = test_malloc(bytes + 2 * GUARD_BYTES);
    memset(all, GUARD, bytes + 2 * GUARD_BYTES);
    if (host)
        memcpy(all + GUARD_BYTES, host, bytes);
    else
        for (size_t i = 0; i < bytes; i += sizeof(float)) { /* junk, but numbers: NaN would hide in a comparison */
            const float junk = 1000.0f + (float)(i % 97);
            memcpy(all + GUARD_BYTES + i, &junk, bytes - i < sizeof junk ? bytes - i : sizeof junk);
        }
    kn_upload(r->stream, base, all, bytes + 2 * GUARD_BYTES);
    assert_ok(kn_stream_sync(r->stream, &err), &err);
    test_free(all);
    r->blocks[r->n_blocks].base = base;
    r->blocks[r->n_blocks++].bytes = bytes;
    return (char *)base + GUARD_BYTES;
}

void kn_rig_get(struct kn_rig *r, void *host, const void *device, size_t bytes)
{
    struct err err = {0};
    kn_download(r->stream, host, device, bytes);
    assert_ok(kn_stream_sync(r->stream, &err), &err);
}

float *kn_rig_noise(uint64_t seed, size_t n, float stddev)
{
    float *x = test_malloc(n * sizeof *x + 1);
    kn_fill_noise(KN_F32, seed, stddev, (int64_t)n, x);
    return x;
}

struct kn_mat kn_rig_mat(struct kn_rig *r, uint64_t seed, int32_t rows, int32_t cols, int32_t pad, float stddev)
{
    const int64_t stride = cols + pad;
    float *x = kn_rig_noise(seed, (size_t)(rows * stride), stddev);
    /* the values do not depend on the padding */
    float *dense = kn_rig_noise(seed, (size_t)rows * (size_t)cols, stddev);
    for (int32_t i = 0; i < rows; i++)
        memcpy(x + i * stride, dense + (size_t)i * (size_t)cols, (size_t)cols * sizeof *x);
    struct kn_mat m = {
        .data = kn_rig_put(r, x, (size_t)(rows * stride) * sizeof *x), .rows = rows, .cols = cols, .stride = stride};
    test_free(x);
    test_free(dense);
    return m;
}

struct kn_mat kn_rig_out(struct kn_rig *r, int32_t rows, int32_t cols, int32_t pad)
{
    const int64_t stride = cols + pad;
    return (struct kn_mat){
        .data = kn_rig_put(r, NULL, (size_t)(rows * stride) * sizeof(float)), .rows = rows, .cols = cols, .stride = stride};
}

kn_vec kn_rig_vec(struct kn_rig *r, uint64_t seed, int32_t n, float mean, float stddev)
{
    float *x = kn_rig_noise(seed, (size_t)n, stddev);
    for (int32_t i = 0; i < n; i++)
        x[i] += mean;
    const float *v = kn_rig_put(r, x, (size_t)n * sizeof *x);
    test_free(x);
    return v;
}

const struct kn_weight *kn_rig_weight(struct kn_rig *r, uint64_t seed, enum kn_dtype dtype, int32_t slices, int32_t rows,
                                      int32_t cols)
{
    char *bytes = test_malloc((size_t)rows * (size_t)slices * kn_row_bytes(dtype, cols));
    kn_fill_noise(dtype, seed, 1.0f / sqrtf((float)cols), (int64_t)rows * slices * cols, bytes);
    const struct kn_weight *w = kn_rig_weight_of(r, dtype, slices, rows, cols, bytes);
    test_free(bytes);
    return w;
}

const struct kn_weight *kn_rig_weight_of(struct kn_rig *r, enum kn_dtype dtype, int32_t slices, int32_t rows, int32_t cols,
                                         const void *blocks)
{
    struct err err = {0};
    struct kn_weight *w = test_calloc(1, sizeof *w);
    *w = (struct kn_weight){.dtype = dtype, .rows = rows, .cols = cols, .slices = slices};
    const int64_t total = (int64_t)rows * slices;
    const size_t row_bytes = kn_row_bytes(dtype, cols);
    assert_ok(kn_weight_begin(r->device, w, &err), &err);
    /* in chunks that respect no boundary */
    for (int64_t at = 0; at < total;) {
        const int64_t n = total - at < 7 ? total - at : 7;
        assert_ok(kn_weight_rows(r->device, w, at, n, (const char *)blocks + (size_t)at * row_bytes, &err), &err);
        at += n;
    }
    assert_ok(kn_weight_end(r->device, w, &err), &err);
    r->weights[r->n_weights++] = w;
    return w;
}

void kn_output_add(struct kn_output *out, struct kn_rig *r, const struct kn_mat *m)
{
    const size_t all = (size_t)(m->rows - 1) * (size_t)m->stride + (size_t)m->cols;
    float *host = test_malloc(all * sizeof *host);
    kn_rig_get(r, host, m->data, all * sizeof *host);
    const size_t n = (size_t)m->rows * (size_t)m->cols;
    if (out->n + n > out->capacity) {
        out->capacity = 2 * (out->n + n);
        out->data = realloc(out->data, out->capacity * sizeof *out->data);
        assert_non_null(out->data);
    }
    for (int32_t i = 0; i < m->rows; i++)
        memcpy(out->data + out->n + (size_t)i * (size_t)m->cols, host + (size_t)i * (size_t)m->stride,
               (size_t)m->cols * sizeof *host);
    out->n += n;
    test_free(host);
}

void kn_output_release(struct kn_output *out)
{
    free(out->data);
    *out = (struct kn_output){0};
}

const struct kn_step *kn_rig_step(struct kn_rig *r, const struct kn_rig_seq *seqs, int32_t n_seqs, int32_t n_slots,
                                  int32_t vocab, const int32_t *tokens, const int32_t *pos)
{
    struct kn_seq out[16];
    int32_t pages[1024], seq_of_row[512], own_tokens[512], own_pos[3 * 512], n_rows = 0, n_pages = 0, row = 0;
    for (int32_t s = 0; s < n_seqs; s++)
        n_rows += seqs[s].n_rows;
    for (int32_t s = 0; s < n_seqs; s++) {
        out[s] = (struct kn_seq){
            .row0 = row, .n_rows = seqs[s].n_rows, .past = seqs[s].past, .slot = seqs[s].slot, .page0 = n_pages};
        for (int32_t j = 0; j * KN_PAGE_TOKENS < seqs[s].past + seqs[s].n_rows; j++)
            pages[n_pages++] = j * n_slots + seqs[s].slot;
        for (int32_t i = 0; i < seqs[s].n_rows; i++, row++) {
            seq_of_row[row] = s;
            /* a function of sequence and place alone, so that cutting changes nothing */
            own_tokens[row] = (int32_t)(rng_at((uint64_t)seqs[s].slot, (uint64_t)(seqs[s].past + i)) % (uint64_t)vocab);
            for (int axis = 0; axis < 3; axis++)
                own_pos[axis * n_rows + row] = seqs[s].past + i + axis * 3;
        }
    }
    /* one block, as the engine's: the head, then what it points to */
    const struct {
        const void *data;
        size_t bytes;
    } parts[] = {{tokens ? tokens : own_tokens, (size_t)n_rows * sizeof(int32_t)},
                 {pos ? pos : own_pos, 3 * (size_t)n_rows * sizeof(int32_t)},
                 {out, (size_t)n_seqs * sizeof *out},
                 {seq_of_row, (size_t)n_rows * sizeof(int32_t)},
                 {pages, (size_t)n_pages * sizeof(int32_t)}};
    enum { N_PARTS = sizeof parts / sizeof *parts };
    size_t at[N_PARTS], bytes = sizeof(struct kn_step);
    for (int i = 0; i < N_PARTS; i++) {
        at[i] = bytes;
        bytes += (parts[i].bytes + 15) / 16 * 16;
    }
    char *block = kn_rig_put(r, NULL, bytes), *host = test_calloc(1, bytes);
    const struct kn_step step = {.n_rows = n_rows,
                                 .n_seqs = n_seqs,
                                 .tokens = (void *)(block + at[0]),
                                 .pos = (void *)(block + at[1]),
                                 .seqs = (void *)(block + at[2]),
                                 .seq_of_row = (void *)(block + at[3]),
                                 .pages = (void *)(block + at[4])};
    memcpy(host, &step, sizeof step);
    for (int i = 0; i < N_PARTS; i++)
        memcpy(host + at[i], parts[i].data, parts[i].bytes);
    kn_upload_step(r->stream, block, host, bytes);
    test_free(host);
    return (const struct kn_step *)block;
}
