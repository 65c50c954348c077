/*
 * describe - what `heron model FILE` prints: a GGUF file in words and figures, for people at a terminal.
 */
#include "engine/engine.h"
#include "engine/state_cache.h"
#include "engine/weights.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TYPES_MAX 256 /* different type codes that are counted apart */

static void row(FILE *out, const char *label, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* "  label        text" */
static void row(FILE *out, const char *label, const char *fmt, ...)
{
    va_list ap;
    fprintf(out, "  %-18s", label);
    va_start(ap, fmt);
    vfprintf(out, fmt, ap);
    va_end(ap);
    fputc('\n', out);
}

/* "1.23 GiB" */
static const char *size_text(uint64_t bytes, char out[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    size_t u = 0;
    while (v >= 1024 && u < 4) {
        v /= 1024;
        u++;
    }
    snprintf(out, 32, u ? v < 10 ? "%.2f %s" : v < 100 ? "%.1f %s" : "%.0f %s" : "%.0f %s", v, units[u]);
    return out;
}

/* "1.23 billion" */
static const char *count_text(uint64_t n, char out[32])
{
    if (n >= 1000000000)
        snprintf(out, 32, "%.2f billion", (double)n / 1e9);
    else if (n >= 1000000)
        snprintf(out, 32, "%.1f million", (double)n / 1e6);
    else
        snprintf(out, 32, "%" PRIu64, n);
    return out;
}

static const char *type_text(int type, char out[32])
{
    const char *name = kn_dtype_name(type);
    if (name)
        snprintf(out, 32, "%s", name);
    else
        snprintf(out, 32, "type %d", type);
    return out;
}

/* ---- the file --------------------------------------------------------------------------------------------------------------- */

static void describe_head(FILE *out, const struct gguf *g, const char *kind)
{
    char text[128], size[32];
    const char *path = gguf_path(g), *slash = strrchr(path, '/');
    fprintf(out, "%s: %s\n\n", slash ? slash + 1 : path, kind);
    if (gguf_copy_text(g, "general.name", text, sizeof text))
        row(out, "name", "%s", text);
    if (gguf_copy_text(g, "general.architecture", text, sizeof text))
        row(out, "architecture", "%s", text);
    size_text(gguf_file_bytes(g), size);
    if (gguf_n_parts(g) > 1)
        row(out, "file", "%s in %d parts, GGUF version %u", size, gguf_n_parts(g), gguf_version(g));
    else
        row(out, "file", "%s, GGUF version %u", size, gguf_version(g));
    row(out, "fingerprint", "%016" PRIx64, gguf_fingerprint(g));
}

struct type_count {
    int type;
    uint64_t tensors, bytes;
};

static int by_bytes(const void *a, const void *b)
{
    const struct type_count *x = a, *y = b;
    return x->bytes < y->bytes ? 1 : x->bytes > y->bytes ? -1 : x->type - y->type;
}

/* The types, the one with most bytes first, each with a bar. */
static void describe_types(FILE *out, const struct gguf *g)
{
    struct type_count types[TYPES_MAX] = {0};
    size_t n = 0;
    uint64_t total = 0;
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        size_t k = 0;
        while (k < n && types[k].type != t->type)
            k++;
        if (k == TYPES_MAX)
            continue;
        if (k == n)
            types[n++] = (struct type_count){.type = t->type};
        types[k].tensors++;
        types[k].bytes += t->bytes;
        total += t->bytes;
    }
    qsort(types, n, sizeof *types, by_bytes);
    fprintf(out, "\ntypes\n");
    for (size_t k = 0; k < n; k++) {
        char name[32], size[32], bar[41] = "";
        const double share = total ? (double)types[k].bytes / (double)total : 0;
        memset(bar, '#', (size_t)(share * 40 + 0.5));
        bar[(size_t)(share * 40 + 0.5)] = 0;
        const struct kn_dtype_info *info = kn_dtype_info(types[k].type);
        fprintf(out, "  %-8s %5" PRIu64 " tensors  %10s  %5.1f%%  %s%s\n", type_text(types[k].type, name), types[k].tensors,
                size_text(types[k].bytes, size), share * 100, bar, info ? "" : "(not supported)");
    }
}

static void describe_tensors(FILE *out, const struct gguf *g, const uint8_t *marks)
{
    static const char *const words[] = {"  (not used)", "", "", "  (MTP, not used yet)"};
    fprintf(out, "\ntensors\n");
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        char name[32], size[32], shape[96];
        fprintf(out, "  %-40s %-8s %10s  %s%s\n", t->name, type_text(t->type, name), size_text(t->bytes, size),
                gguf_shape_text(t->n_dims, t->ne, shape, sizeof shape), marks ? words[marks[i]] : "");
    }
}

static void describe_unknown(FILE *out, const struct gguf *g, const uint8_t *marks, const struct weights_plan *plan)
{
    char size[32];
    int shown = 0;
    if (plan->n_nextn_tensors)
        row(out, "not used yet", "%d tensors of MTP blocks", plan->n_nextn_tensors);
    if (plan->n_unknown == 0)
        return;
    row(out, "not used", "%d tensors with names Heron does not know:", plan->n_unknown);
    for (size_t i = 0; i < gguf_n_tensors(g) && shown < 8; i++)
        if (marks[i] == WEIGHTS_UNKNOWN && ++shown)
            row(out, "", "%s (%s)", gguf_tensor_at(g, i)->name, size_text(gguf_tensor_at(g, i)->bytes, size));
    if (plan->n_unknown > shown)
        row(out, "", "... and %d more", plan->n_unknown - shown);
}

/* ---- the text model --------------------------------------------------------------------------------------------------------- */

/* The converter adds 1 to norm weights: a mean near 0 tells that it did not. */
static void warn_norms(FILE *out, const struct gguf *g)
{
    const struct gguf_tensor *t = gguf_find_tensor(g, "output_norm.weight");
    if (!t || t->type != KN_F32 || t->bytes > 1 << 22)
        return;
    float *w = malloc(t->bytes);
    double sum = 0;
    if (w && gguf_tensor_read(g, t, 0, t->bytes, w, NULL) == 0) {
        for (int64_t i = 0; i < t->n_elems; i++)
            sum += w[i];
        if (fabs(sum / (double)t->n_elems) < 0.05)
            row(out, "WARNING", "output_norm.weight has a mean of %.3f: the converter should have added 1",
                sum / (double)t->n_elems);
    }
    free(w);
}

/* Bytes of one KV cache token in all layers, in a cache of this type. */
static uint64_t kv_bytes(const struct model_shape *s, enum kn_dtype type)
{
    return (uint64_t)model_shape_full_layers(s) * 2 * (uint64_t)s->n_head_kv * kn_row_bytes(type, s->head_dim);
}

static void describe_shape(FILE *out, const struct model_shape *s)
{
    const int32_t full = model_shape_full_layers(s);
    fprintf(out, "\nshape\n");
    row(out, "layers", "%d: %d Gated DeltaNet, %d full attention", s->n_layers, s->n_layers - full, full);
    if (s->n_nextn)
        row(out, "MTP blocks", "%d, after the layers", s->n_nextn);
    row(out, "embedding", "%d, vocabulary %d, %s head", s->n_embd, s->n_vocab, s->is_tied ? "tied" : "own");
    row(out, "full attention", "%d query heads, %d KV heads of %d; %d dimensions turned (%d, %d, %d), base %g", s->n_head,
        s->n_head_kv, s->head_dim, s->n_rot, s->rope_sections[0], s->rope_sections[1], s->rope_sections[2],
        (double)s->rope_freq_base);
    row(out, "Gated DeltaNet", "%d key heads of %d, %d value heads of %d, convolution over %d", s->n_k, s->d_k, s->n_v, s->d_v,
        s->conv_taps);
    if (s->is_moe)
        row(out, "feed-forward", "%d experts of %d, %d used per token; shared expert of %d", s->n_experts, s->n_ff_expert,
            s->n_experts_used, s->n_ff_shared);
    else
        row(out, "feed-forward", "%d", s->n_ff);
    row(out, "context", "%d tokens trained%s", s->trained_context,
        s->rope_scaling == ROPE_YARN     ? ", YaRN scaling"
        : s->rope_scaling == ROPE_LINEAR ? ", linear scaling"
                                         : "");
}

static void describe_needs(FILE *out, const struct model_shape *s, const struct weights_plan *plan)
{
    static const int32_t contexts[] = {8192, 32768, 131072, 262144};
    char a[32], b[32], c[32];
    const uint64_t state = state_cache_slot_bytes(s), per_token = kv_bytes(s, KN_F16);
    fprintf(out, "\nneeds\n");
    row(out, "parameters", "%s", count_text(plan->n_params, a));
    row(out, "weights", "%s (%.2f bits per parameter)", size_text(plan->weights_bytes, a),
        plan->n_params ? (double)plan->weights_bytes * 8 / (double)plan->n_params : 0.0);
    const uint64_t read = plan->bytes_per_token + state_cache_read_bytes(s);
    row(out, "read per token", "%s, state and weights: at 100 GB/s at most %.1f tokens/s", size_text(read, a),
        read ? 100e9 / (double)read : 0.0);
    row(out, "KV per token", "%s as f16, %s as q8_0", size_text(per_token, a),
        s->head_dim % 32 ? "-" : size_text(kv_bytes(s, KN_Q8_0), b));
    row(out, "state per session", "%s", size_text(state, a));
    row(out, "memory", "weights, state and f16 KV of one session:");
    for (size_t i = 0; i < sizeof contexts / sizeof *contexts; i++)
        if (contexts[i] <= s->trained_context)
            row(out, "", "%6d tokens  %10s  (KV %s)", contexts[i],
                size_text(plan->weights_bytes + state + per_token * (uint64_t)contexts[i], b),
                size_text(per_token * (uint64_t)contexts[i], c));
    if (s->trained_context < contexts[0])
        row(out, "", "%6d tokens  %10s", s->trained_context,
            size_text(plan->weights_bytes + state + per_token * (uint64_t)s->trained_context, b));
}

/* A text model. What is wrong with it is part of the description: the reader wants to know why it would not load. */
static int describe_text(FILE *out, const struct gguf *g, bool all, uint8_t *marks)
{
    struct model_shape s;
    struct weights_plan plan;
    struct err why = {0};
    describe_head(out, g, "text model");
    int rc = model_shape_read(g, &s, &why);
    if (rc < 0) {
        row(out, "CANNOT BE LOADED", "%s", why.text);
        describe_types(out, g);
        if (all)
            describe_tensors(out, g, NULL);
        return 0;
    }
    if (s.is_untrained)
        row(out, "NOTE", "untrained: random weights");
    describe_shape(out, &s);
    weights_mark_tensors(g, &s, NULL, marks);
    rc = model_plan(g, &s, &plan, &why);
    if (rc == 0) {
        describe_needs(out, &s, &plan);
        describe_unknown(out, g, marks, &plan);
        warn_norms(out, g);
    } else {
        row(out, "CANNOT BE LOADED", "%s", why.text);
    }
    describe_types(out, g);
    if (all)
        describe_tensors(out, g, marks);
    model_shape_release(&s);
    return 0;
}

/* ---- the vision tower ------------------------------------------------------------------------------------------------------- */

static int describe_vision(FILE *out, const struct gguf *g, bool all, uint8_t *marks)
{
    struct vision_shape s;
    struct weights_plan plan;
    struct err why = {0};
    char a[32];
    describe_head(out, g, "vision tower (mmproj)");
    int rc = vision_shape_read(g, &s, &why);
    if (rc == 0)
        rc = vision_plan(g, &s, &plan, &why);
    if (rc == 0) {
        const int tile = s.patch_px * s.merge;
        weights_mark_tensors(g, NULL, &s, marks);
        fprintf(out, "\nshape\n");
        row(out, "blocks", "%d of width %d, %d heads of %d, feed-forward %d", s.n_layers, s.n_embd, s.n_head,
            s.n_embd / s.n_head, s.n_ff);
        row(out, "patches", "%d x %d pixels, %d x %d of them to a token", s.patch_px, s.patch_px, s.merge, s.merge);
        row(out, "positions", "learned grid of %d x %d", s.grid_side, s.grid_side);
        row(out, "rows for", "a text model of width %d", s.n_out);
        row(out, "pictures", "%" PRId64 " to %" PRId64 " pixels: %" PRId64 " to %" PRId64 " tokens", s.min_pixels, s.max_pixels,
            s.min_pixels / tile / tile, s.max_pixels / tile / tile);
        fprintf(out, "\nneeds\n");
        row(out, "parameters", "%s", count_text(plan.n_params, a));
        row(out, "weights", "%s", size_text(plan.weights_bytes, a));
        describe_unknown(out, g, marks, &plan);
    } else {
        row(out, "CANNOT BE LOADED", "%s", why.text);
    }
    describe_types(out, g);
    if (all)
        describe_tensors(out, g, rc == 0 ? marks : NULL);
    return 0;
}

int en_describe_file(const char *path, bool all_tensors, char **ret_text, struct err *err)
{
    struct gguf *g = NULL;
    char *text = NULL;
    size_t n = 0;
    int rc = gguf_open(path, &g, err);
    if (rc < 0)
        return rc;
    uint8_t *marks = calloc(gguf_n_tensors(g) + 1, 1);
    FILE *out = open_memstream(&text, &n);
    if (!marks || !out) {
        rc = err_set(err, ERR_NOMEM, "%s: no memory for its description", path);
        goto fail;
    }
    const bool is_vision = gguf_string_is(g, "general.architecture", "clip");
    rc = is_vision ? describe_vision(out, g, all_tensors, marks) : describe_text(out, g, all_tensors, marks);
    const bool is_whole = !ferror(out);
    if (fclose(out) != 0 || !is_whole) {
        out = NULL;
        rc = err_set(err, ERR_NOMEM, "%s: no memory for its description", path);
        goto fail;
    }
    free(marks);
    gguf_close(g);
    *ret_text = text;
    return rc;
fail:
    if (out)
        fclose(out);
    free(text);
    free(marks);
    gguf_close(g);
    return rc;
}
