/*
 * synthetic - shapes by name, the values of random tensors, and noise models made on a device. Files: synthetic_file.c;
 * vocabularies: synthetic_vocab.c.
 */
#include "engine/synthetic.h"

#include "base/rng.h"
#include "engine/share.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define FILL_THREADS_MAX 16
#define NOISE_SEED       1

/* ---- shapes ----------------------------------------------------------------------------------------------------------------- */

/* One row of the table of published shapes (MODEL.md section 4), or a tiny preset. */
struct row {
    const char *name;
    int32_t n_layers, n_embd, n_head, n_head_kv, n_ff, n_experts, n_experts_used, n_ff_expert, n_v;
    bool is_tied;
    int32_t v_layers, v_embd, v_ff, v_head;
    /* what the published ones have in common */
    int32_t n_vocab, head_dim, n_rot, sections[3], n_k, d, context, interval, grid_side;
};

#define COMMON 248320, 256, 64, {11, 11, 10}, 16, 128, 262144, 4, 48
#define TINY   1024, 32, 16, {3, 3, 2}, 2, 16, 4096, 4, 8

static const struct row rows[] = {
    {"qwen3.5-0.8b", 24, 1024, 8, 2, 3584, 0, 0, 0, 16, true, 12, 768, 3072, 12, COMMON},
    {"qwen3.5-2b", 24, 2048, 8, 2, 6144, 0, 0, 0, 16, true, 24, 1024, 4096, 16, COMMON},
    {"qwen3.5-4b", 32, 2560, 16, 4, 9216, 0, 0, 0, 32, true, 24, 1024, 4096, 16, COMMON},
    {"qwen3.5-9b", 32, 4096, 16, 4, 12288, 0, 0, 0, 32, false, 27, 1152, 4304, 16, COMMON},
    {"qwen3.5-27b", 64, 5120, 24, 4, 17408, 0, 0, 0, 48, false, 27, 1152, 4304, 16, COMMON},
    {"qwen3.5-35b-a3b", 40, 2048, 16, 2, 0, 256, 8, 512, 32, false, 27, 1152, 4304, 16, COMMON},
    {"qwen3.5-122b-a10b", 48, 3072, 32, 2, 0, 256, 8, 1024, 64, false, 27, 1152, 4304, 16, COMMON},
    {"qwen3.5-397b-a17b", 60, 4096, 32, 2, 0, 512, 10, 1024, 64, false, 27, 1152, 4304, 16, COMMON},
    {"tiny-dense", 4, 64, 4, 2, 160, 0, 0, 0, 4, true, 2, 64, 96, 4, TINY},
    {"tiny-moe", 4, 64, 4, 1, 0, 8, 2, 32, 6, false, 2, 64, 96, 4, TINY},
    /* rows of 256: K-quants fit */
    {"tiny-wide", 4, 256, 4, 2, 512, 0, 0, 0, 4, false, 2, 64, 96, 4, 1024, 64, 32, {6, 5, 5}, 2, 64, 4096, 4, 8},
    {"tiny-wide-moe", 4, 256, 4, 2, 0, 8, 2, 256, 4, false, 2, 64, 96, 4, 1024, 64, 32, {6, 5, 5}, 2, 64, 4096, 4, 8},
};

const char *synthetic_shape_name(size_t i)
{
    return i < sizeof rows / sizeof *rows ? rows[i].name : NULL;
}

static void fill_vision(const struct row *r, struct vision_shape *v)
{
    *v = (struct vision_shape){.n_layers = r->v_layers,
                               .n_embd = r->v_embd,
                               .n_ff = r->v_ff,
                               .n_head = r->v_head,
                               .patch_px = 16,
                               .merge = 2,
                               .grid_side = r->grid_side,
                               .n_out = r->n_embd,
                               .eps = 1e-6f,
                               .mean = {0.5f, 0.5f, 0.5f},
                               .stddev = {0.5f, 0.5f, 0.5f},
                               .min_pixels = 65536,
                               .max_pixels = 16777216};
    snprintf(v->name, sizeof v->name, "%s vision", r->name);
}

static int fill_shape(const struct row *r, int32_t n_layers, struct model_shape *s, struct err *err)
{
    *s = (struct model_shape){.is_moe = r->n_experts > 0,
                              .is_tied = r->is_tied,
                              .is_untrained = true,
                              .n_layers = n_layers,
                              .n_embd = r->n_embd,
                              .n_vocab = r->n_vocab,
                              .n_ff = r->n_ff,
                              .n_head = r->n_head,
                              .n_head_kv = r->n_head_kv,
                              .head_dim = r->head_dim,
                              .n_rot = r->n_rot,
                              .rope_sections = {r->sections[0], r->sections[1], r->sections[2], 0},
                              .rope_freq_base = 1e7f,
                              .rope_scaling = ROPE_NONE,
                              .rope_factor = 1,
                              .rope_attn_factor = 1,
                              .yarn_ext_factor = 1,
                              .yarn_beta_fast = 32,
                              .yarn_beta_slow = 1,
                              .rope_original_context = r->context,
                              .rms_eps = 1e-6f,
                              .conv_taps = 4,
                              .n_k = r->n_k,
                              .n_v = r->n_v,
                              .d_k = r->d,
                              .d_v = r->d,
                              .n_experts = r->n_experts,
                              .n_experts_used = r->n_experts_used,
                              .n_ff_expert = r->n_ff_expert,
                              .n_ff_shared = r->n_ff_expert,
                              .trained_context = r->context};
    snprintf(s->architecture, sizeof s->architecture, "%s", s->is_moe ? "qwen35moe" : "qwen35");
    snprintf(s->name, sizeof s->name, "%s", r->name);
    s->is_linear = calloc((size_t)n_layers, sizeof *s->is_linear);
    if (!s->is_linear)
        return err_set(err, ERR_NOMEM, "no memory for %d layers", n_layers);
    for (int32_t i = 0; i < n_layers; i++)
        s->is_linear[i] = (i + 1) % r->interval != 0;
    return 0;
}

static const struct row *find_row(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strlen(rows[i].name) == n && strncasecmp(rows[i].name, name, n) == 0)
            return &rows[i];
    return NULL;
}

static int no_shape(const char *spec, size_t n, struct err *err)
{
    char names[400] = "";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i ? ", " : "", rows[i].name);
    return err_set(err, ERR_INVAL, "no shape is called \"%.*s\": there are %s", (int)(n < 60 ? n : 60), spec, names);
}

int synthetic_parse(const char *spec, struct synthetic *ret_synthetic, struct err *err)
{
    struct synthetic s = {.dtype = KN_F32};
    const char *type = strchr(spec, ':');
    size_t n = type ? (size_t)(type - spec) : strlen(spec);
    const char *slash = memchr(spec, '/', n);
    const size_t n_name = slash ? (size_t)(slash - spec) : n;
    const struct row *r = find_row(spec, n_name);
    if (!r)
        return no_shape(spec, n_name, err);
    long layers = r->n_layers;
    if (slash) {
        char *end;
        layers = isdigit((unsigned char)slash[1]) ? strtol(slash + 1, &end, 10) : 0;
        if (layers < 1 || layers > r->n_layers || end != spec + n)
            return err_set(err, ERR_INVAL, "\"%s\": after the slash expected a number of layers, 1 to %d", spec, r->n_layers);
    }
    if (type && strcasecmp(type + 1, "q4_k_m") == 0) {
        s.is_mix = true;
        s.dtype = KN_Q4_K;
    } else if (type && (!kn_dtype_parse(type + 1, &s.dtype) || s.dtype == KN_I32)) {
        return err_set(err, ERR_INVAL,
                       "\"%s\": no weight type is called \"%s\"; such as q4_k, q4_k_m, q6_k, q8_0, iq4_xs, mxfp4, nvfp4, bf16",
                       spec, type + 1);
    }
    int rc = fill_shape(r, (int32_t)layers, &s.shape, err);
    if (rc < 0)
        return rc;
    fill_vision(r, &s.vision);
    char of[64] = "";
    if (layers < r->n_layers)
        snprintf(of, sizeof of, ", %ld of %d layers", layers, r->n_layers);
    snprintf(s.name, sizeof s.name, "%s%s, noise", r->name, of);
    *ret_synthetic = s;
    return 0;
}

void synthetic_release(struct synthetic *s)
{
    model_shape_release(&s->shape);
}

/* ---- values ----------------------------------------------------------------------------------------------------------------- */

static uint64_t tensor_seed(const struct tensor_spec *spec, uint64_t seed)
{
    char text[TENSOR_NAME_BYTES + 24];
    int n = snprintf(text, sizeof text, "%" PRIu64 ":%s", seed, spec->name);
    return rng_hash(text, (uint64_t)n);
}

void synthetic_values(const struct tensor_spec *spec, uint64_t seed, uint64_t first, size_t n, float *ret_values)
{
    const uint64_t h = tensor_seed(spec, seed);
    for (size_t i = 0; i < n; i++) {
        const uint64_t r = rng_at(h, first + i);
        int u = -1020;
        for (int k = 0; k < 8; k++)
            u += (int)(r >> 8 * k & 0xFF);
        float v = 0;
        switch (spec->role) {
        case TENSOR_MATRIX:
        case TENSOR_ROUTER:
        case TENSOR_GATE: v = ldexpf((float)u, spec->gain); break;
        case TENSOR_NORM: v = 1 + (float)u * 0x1p-11f; break;
        case TENSOR_BIAS: v = (float)u * 0x1p-12f; break;
        case TENSOR_CONV: v = (float)u * 0x1p-9f; break;
        case TENSOR_POSITION: v = (float)u * 0x1p-10f; break;
        case TENSOR_SSM_DT: v = -1 + (float)u * 0x1p-9f; break;
        case TENSOR_SSM_A: v = -ldexpf(1 + (float)(r >> 8 & 1023) / 1024, (int)(r & 7) - 6); break;
        }
        ret_values[i] = v;
    }
}

/* ---- noise models ----------------------------------------------------------------------------------------------------------- */

enum kn_dtype synthetic_type(const struct synthetic *s, const struct tensor_spec *spec)
{
    if (tensor_is_vector(spec) || spec->role == TENSOR_ROUTER)
        return KN_F32;
    const bool is_vision = strncmp(spec->name, "v.", 2) == 0 || strncmp(spec->name, "mm.", 3) == 0;
    if (is_vision)
        return s->dtype == KN_F32 ? KN_F32 : KN_F16;
    enum kn_dtype type = s->dtype;
    if (s->is_mix && (spec->flags & TENSOR_MORE_BITS)) {
        const int L = s->shape.n_layers, i = spec->layer;
        if (i < L / 8 || i >= 7 * L / 8 || (i - L / 8) % 3 == 2) /* the head's layer is -1 */
            type = KN_Q6_K;
    }
    return kn_row_bytes(type, spec->cols) ? type : KN_F16;
}

struct synthetic_walk {
    const struct synthetic *s;
    struct weights_plan plan;
    /* making */
    struct kn_device *device;
    struct kn_stream *stream;
    struct weights_progress *progress;
    unsigned char *staging; /* [WEIGHTS_STAGING_BYTES] */
    struct err *err;
};

static int plan_visit(void *ctx, const struct tensor_spec *spec)
{
    struct synthetic_walk *w = ctx;
    if (spec->flags & (TENSOR_MERGED | TENSOR_NEXTN))
        return 0;
    const uint64_t bytes = (uint64_t)(spec->rows * spec->slices) * kn_row_bytes(synthetic_type(w->s, spec), spec->cols);
    uint64_t read = bytes;
    if ((spec->flags & TENSOR_EMBEDDING) && !(spec->flags & TENSOR_TIED_HEAD))
        read = bytes / (uint64_t)spec->rows;
    if (spec->flags & TENSOR_EXPERTS)
        read = bytes / (uint64_t)spec->slices * (uint64_t)w->s->shape.n_experts_used;
    w->plan.weights_bytes += bytes;
    w->plan.bytes_per_token += read;
    w->plan.n_params += (uint64_t)(spec->rows * spec->slices * spec->cols);
    w->plan.n_loaded++;
    return 0;
}

int synthetic_plan(const struct synthetic *s, struct weights_plan *ret_text, struct weights_plan *ret_vision, struct err *err)
{
    struct synthetic_walk text = {.s = s, .err = err}, vision = {.s = s, .err = err};
    int rc = tensor_list_text(&s->shape, NULL, plan_visit, &text);
    if (rc == 0 && s->vision.n_layers > 0)
        rc = tensor_list_vision(&s->vision, NULL, plan_visit, &vision);
    vision.plan.bytes_per_token = 0;
    if (rc == 0 && ret_text)
        *ret_text = text.plan;
    if (rc == 0 && ret_vision)
        *ret_vision = vision.plan;
    return rc;
}

/* Some rows of a matrix; each row is its own stream, so that how they are shared out does not matter. */
struct fill {
    enum kn_dtype type;
    uint64_t seed;
    float stddev;
    int64_t cols, first, n;
    unsigned char *dst;
};

static void *fill_rows(void *arg)
{
    const struct fill *f = arg;
    const size_t row = kn_row_bytes(f->type, f->cols);
    for (int64_t i = 0; i < f->n; i++)
        kn_fill_noise(f->type, rng_at(f->seed, (uint64_t)(f->first + i)), f->stddev, f->cols, f->dst + (size_t)i * row);
    return NULL;
}

/* Rows first .. first + n - 1 to `dst`, by several threads: there may be a hundred gigabytes of them. */
static void fill_parallel(const struct fill *all)
{
    struct fill parts[FILL_THREADS_MAX];
    pthread_t threads[FILL_THREADS_MAX];
    bool started[FILL_THREADS_MAX] = {false};
    const size_t row = kn_row_bytes(all->type, all->cols);
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int n_threads = cores < 1 ? 1 : cores > FILL_THREADS_MAX ? FILL_THREADS_MAX : (int)cores;
    if ((uint64_t)all->n * row < 1u << 20)
        n_threads = 1;
    for (int i = 0; i < n_threads; i++) {
        const int64_t from = all->n * i / n_threads, to = all->n * (i + 1) / n_threads;
        parts[i] = *all;
        parts[i].first += from;
        parts[i].n = to - from;
        parts[i].dst += (size_t)from * row;
        started[i] = i > 0 && pthread_create(&threads[i], NULL, fill_rows, &parts[i]) == 0;
    }
    for (int i = 0; i < n_threads; i++) {
        if (started[i])
            pthread_join(threads[i], NULL);
        else
            fill_rows(&parts[i]);
    }
}

void synthetic_noise_rows(const struct synthetic *s, const struct tensor_spec *spec, int64_t first, int64_t n, void *ret_rows)
{
    fill_parallel(&(struct fill){.type = synthetic_type(s, spec),
                                 .seed = tensor_seed(spec, NOISE_SEED),
                                 .stddev = ldexpf(209.02f, spec->gain),
                                 .cols = spec->cols,
                                 .first = first,
                                 .n = n,
                                 .dst = ret_rows});
}

static struct kn_cut cut_of(const struct synthetic_walk *w, const struct tensor_spec *spec)
{
    struct kn_device_info info;
    kn_device_get_info(w->device, &info);
    return share_cut(&w->s->shape, info.members, spec);
}

static int make_matrix(struct synthetic_walk *w, const struct tensor_spec *spec)
{
    struct kn_weight *weight = spec->slot;
    const enum kn_dtype type = synthetic_type(w->s, spec);
    const size_t row = kn_row_bytes(type, spec->cols);
    const int64_t n_rows = spec->rows * spec->slices, chunk = (int64_t)(WEIGHTS_STAGING_BYTES / row);
    assert(chunk > 0);
    *weight = (struct kn_weight){.dtype = type, .slices = (int32_t)spec->slices, .cut = cut_of(w, spec)};
    share_size(&weight->cut, spec, &weight->rows, &weight->cols);
    int rc = kn_weight_begin(w->device, weight, w->err);
    for (int64_t at = 0; at < n_rows && rc == 0; at += chunk) {
        const int64_t n = n_rows - at < chunk ? n_rows - at : chunk;
        synthetic_noise_rows(w->s, spec, at, n, w->staging);
        rc = kn_weight_rows(w->device, weight, at, n, w->staging, w->err);
        if (rc == 0)
            rc = weights_report(w->progress, (uint64_t)n * row, w->err);
    }
    return rc == 0 ? kn_weight_end(w->device, weight, w->err) : rc;
}

static int make_vector(struct synthetic_walk *w, const struct tensor_spec *spec)
{
    const struct kn_cut cut = cut_of(w, spec);
    const int64_t row = spec->role == TENSOR_CONV ? spec->ne[0] : 1,
                  n_here = cut.way == KN_CUT_NONE ? spec->cols : spec->cols / 2;
    void *memory = NULL;
    int rc = kn_alloc(w->device, (size_t)n_here * sizeof(float), &memory, w->err);
    if (rc < 0)
        return rc;
    *(kn_vec *)spec->slot = memory;
    const int64_t chunk = WEIGHTS_STAGING_BYTES / (int64_t)sizeof(float) / row * row;
    for (int64_t at = 0; at < spec->cols && rc == 0; at += chunk) {
        const int64_t n = spec->cols - at < chunk ? spec->cols - at : chunk;
        synthetic_values(spec, NOISE_SEED, (uint64_t)at, (size_t)n, (float *)(void *)w->staging);
        kn_upload_cut(w->stream, memory, &cut, row, at / row, n / row, (const float *)(const void *)w->staging);
        rc = kn_stream_sync(w->stream, w->err);
    }
    return rc == 0 ? weights_report(w->progress, (uint64_t)spec->cols * sizeof(float), w->err) : rc;
}

static int make_visit(void *ctx, const struct tensor_spec *spec)
{
    if (!spec->slot || (spec->flags & TENSOR_MERGED))
        return 0;
    return tensor_is_vector(spec) ? make_vector(ctx, spec) : make_matrix(ctx, spec);
}

static int walk_open(struct synthetic_walk *w)
{
    static const struct kn_limits tiny = {
        .rows = 1, .cols = 32, .outputs = 32, .seqs = 1, .kv_len = 1, .heads = 1, .head_dim = 32};
    w->staging = malloc(WEIGHTS_STAGING_BYTES);
    if (!w->staging)
        return err_set(w->err, ERR_NOMEM, "no memory for a staging buffer of %u bytes", WEIGHTS_STAGING_BYTES);
    return kn_stream_open(w->device, &tiny, &w->stream, w->err);
}

static void walk_close(struct synthetic_walk *w)
{
    kn_stream_close(w->stream);
    free(w->staging);
}

int synthetic_open(struct kn_device *device, const struct synthetic *s, struct weights_progress *progress,
                   struct model **ret_model, struct err *err)
{
    struct synthetic_walk w = {.s = s, .device = device, .progress = progress, .err = err};
    struct weights_plan plan;
    struct model *m = NULL;
    struct model_shape share;
    struct kn_device_info info;
    kn_device_get_info(device, &info);
    int rc = synthetic_plan(s, &plan, NULL, err);
    if (rc == 0)
        rc = share_shape(&s->shape, info.members, &share, err);
    if (rc == 0)
        rc = model_create(&share, &m, err);
    if (rc == 0)
        rc = walk_open(&w);
    if (rc == 0)
        rc = tensor_list_text(&s->shape, m, make_visit, &w);
    walk_close(&w);
    if (rc < 0) {
        model_close(device, m);
        return rc;
    }
    snprintf(m->shape.name, sizeof m->shape.name, "%s", s->name);
    model_finish(m, &plan);
    *ret_model = m;
    return 0;
}

int synthetic_vision_open(struct kn_device *device, const struct synthetic *s, struct weights_progress *progress,
                          struct vision_model **ret_model, struct err *err)
{
    struct synthetic_walk w = {.s = s, .device = device, .progress = progress, .err = err};
    struct weights_plan plan;
    struct vision_model *m = NULL;
    int rc = synthetic_plan(s, NULL, &plan, err);
    if (rc == 0)
        rc = vision_model_create(&s->vision, &m, err);
    if (rc == 0)
        rc = walk_open(&w);
    if (rc == 0)
        rc = tensor_list_vision(&m->shape, m, make_visit, &w);
    walk_close(&w);
    if (rc < 0) {
        vision_model_close(device, m);
        return rc;
    }
    m->weights_bytes = plan.weights_bytes;
    m->n_params = plan.n_params;
    *ret_model = m;
    return 0;
}
