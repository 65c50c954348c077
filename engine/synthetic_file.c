/*
 * synthetic_file - small random models as files, by the rules of synthetic.h.
 */
#include "engine/gguf_writer.h"
#include "engine/synthetic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_ROW_VALUES (1 << 16) /* values per piece, about */

/* GGUF's general.file_type for the types that are written. */
static int file_type(enum kn_dtype type)
{
    switch (type) {
    case KN_F32: return 0;
    case KN_F16: return 1;
    case KN_Q4_0: return 2;
    case KN_Q8_0: return 7;
    case KN_Q4_K: return 15; /* the mix with Q6_K has this number, and most that is written is it */
    case KN_Q5_K: return 17;
    case KN_Q6_K: return 18;
    case KN_BF16: return 32;
    default: return -1;
    }
}

struct file_walk {
    const struct synthetic_file *file;
    struct gguf_writer *w;
    float *values;
    size_t cap; /* of values */
    void *coded;
    bool is_data; /* second walk */
    struct err *err;
};

static bool is_written(const struct file_walk *f, const struct tensor_spec *spec)
{
    if (spec->flags & TENSOR_OPTIONAL)
        return false;
    return !(spec->flags & (f->file->merge_experts ? TENSOR_SPLIT : TENSOR_MERGED));
}

static enum kn_dtype type_of(const struct file_walk *f, const struct tensor_spec *spec)
{
    if (f->file->noise)
        return synthetic_type(f->file->noise, spec);
    if (spec->role != TENSOR_MATRIX)
        return KN_F32;
    if (spec->flags & TENSOR_PATCH)
        return f->file->dtype == KN_F32 ? KN_F32 : KN_F16;
    return kn_row_bytes(f->file->dtype, spec->cols) ? f->file->dtype : KN_F16;
}

static int room(struct file_walk *f, size_t n)
{
    if (n <= f->cap)
        return 0;
    free(f->values);
    free(f->coded);
    f->values = malloc(n * sizeof(float));
    f->coded = malloc(n * sizeof(float));
    f->cap = f->values && f->coded ? n : 0;
    return f->cap ? 0 : err_set(f->err, ERR_NOMEM, "no memory for %zu values", n);
}

static int file_visit(void *ctx, const struct tensor_spec *spec)
{
    struct file_walk *f = ctx;
    if (!is_written(f, spec))
        return 0;
    const enum kn_dtype type = type_of(f, spec);
    if (!f->is_data) {
        gguf_writer_tensor(f->w, spec->name, spec->n_dims, spec->ne, type);
        return 0;
    }
    const int64_t n_rows = spec->rows * spec->slices;
    int64_t chunk = PIECE_ROW_VALUES / spec->cols;
    if (chunk < 1)
        chunk = 1;
    int rc = room(f, (size_t)(chunk * spec->cols));
    for (int64_t at = 0; at < n_rows && rc == 0; at += chunk) {
        const int64_t n = n_rows - at < chunk ? n_rows - at : chunk;
        if (f->file->noise && !tensor_is_vector(spec)) {
            synthetic_noise_rows(f->file->noise, spec, at, n, f->coded);
            gguf_writer_data(f->w, f->coded, (size_t)n * kn_row_bytes(type, spec->cols));
            continue;
        }
        synthetic_values(spec, f->file->seed, (uint64_t)(at * spec->cols), (size_t)(n * spec->cols), f->values);
        if (!kn_quantize(type, f->values, n * spec->cols, f->coded))
            rc = err_set(f->err, ERR_INVAL, "no conversion to %s", kn_dtype_name(type));
        gguf_writer_data(f->w, f->coded, (size_t)n * kn_row_bytes(type, spec->cols));
    }
    return rc;
}

/* ---- keys ------------------------------------------------------------------------------------------------------------------- */

static void write_general(struct gguf_writer *w, const char *architecture, const char *type, const char *shape_name,
                          const struct synthetic_file *file)
{
    static const char *const tags[] = {"untrained"};
    char name[MODEL_NAME_BYTES + 16];
    snprintf(name, sizeof name, "untrained %s", shape_name);
    gguf_writer_string(w, "general.architecture", architecture);
    gguf_writer_string(w, "general.type", type);
    gguf_writer_string(w, "general.name", file->name ? file->name : name);
    gguf_writer_string_array(w, "general.tags", tags, 1);
    gguf_writer_u32(w, "general.quantization_version", 2);
    const int number = file_type(file->noise ? file->noise->dtype : file->dtype);
    if (number >= 0)
        gguf_writer_u32(w, "general.file_type", (uint32_t)number);
}

/* The interval that says which layers are linear, or 0. */
static int32_t interval_of(const struct model_shape *s)
{
    for (int32_t k = 1; k <= s->n_layers + 1; k++) {
        int32_t i = 0;
        while (i < s->n_layers && s->is_linear[i] == ((i + 1) % k != 0))
            i++;
        if (i == s->n_layers)
            return k;
    }
    return 0;
}

/* Writes "ARCHITECTURE.KEY" keys. */
static void key_u32(struct gguf_writer *w, const char *prefix, const char *name, int64_t value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", prefix, name);
    gguf_writer_u32(w, key, (uint32_t)value);
}

static void key_f32(struct gguf_writer *w, const char *prefix, const char *name, float value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", prefix, name);
    gguf_writer_f32(w, key, value);
}

static void write_layer_types(struct gguf_writer *w, const struct model_shape *s)
{
    const int32_t interval = interval_of(s);
    if (interval) {
        key_u32(w, s->architecture, "full_attention_interval", interval);
        return;
    }
    char key[96];
    snprintf(key, sizeof key, "%s.attention.recurrent_layers", s->architecture);
    gguf_writer_bool_array(w, key, s->is_linear, (size_t)s->n_layers);
}

static void write_rope_scaling(struct gguf_writer *w, const struct model_shape *s)
{
    char key[96];
    if (s->rope_scaling == ROPE_NONE)
        return;
    snprintf(key, sizeof key, "%s.rope.scaling.type", s->architecture);
    gguf_writer_string(w, key, s->rope_scaling == ROPE_YARN ? "yarn" : "linear");
    key_f32(w, s->architecture, "rope.scaling.factor", s->rope_factor);
    key_u32(w, s->architecture, "rope.scaling.original_context_length", s->rope_original_context);
}

static void write_shape(struct gguf_writer *w, const struct model_shape *s)
{
    const char *a = s->architecture;
    char key[96];
    key_u32(w, a, "block_count", s->n_layers + s->n_nextn);
    key_u32(w, a, "context_length", s->trained_context);
    key_u32(w, a, "embedding_length", s->n_embd);
    if (!s->is_moe)
        key_u32(w, a, "feed_forward_length", s->n_ff);
    key_u32(w, a, "attention.head_count", s->n_head);
    key_u32(w, a, "attention.head_count_kv", s->n_head_kv);
    key_u32(w, a, "attention.key_length", s->head_dim);
    key_u32(w, a, "attention.value_length", s->head_dim);
    key_f32(w, a, "attention.layer_norm_rms_epsilon", s->rms_eps);
    key_u32(w, a, "rope.dimension_count", s->n_rot);
    snprintf(key, sizeof key, "%s.rope.dimension_sections", a);
    gguf_writer_i32_array(w, key, s->rope_sections, 4);
    key_f32(w, a, "rope.freq_base", s->rope_freq_base);
    write_rope_scaling(w, s);
    key_u32(w, a, "ssm.conv_kernel", s->conv_taps);
    key_u32(w, a, "ssm.state_size", s->d_k);
    key_u32(w, a, "ssm.group_count", s->n_k);
    key_u32(w, a, "ssm.time_step_rank", s->n_v);
    key_u32(w, a, "ssm.inner_size", (int64_t)s->n_v * s->d_v);
    write_layer_types(w, s);
    if (s->n_nextn)
        key_u32(w, a, "nextn_predict_layers", s->n_nextn);
    if (s->is_moe) {
        key_u32(w, a, "expert_count", s->n_experts);
        key_u32(w, a, "expert_used_count", s->n_experts_used);
        key_u32(w, a, "expert_feed_forward_length", s->n_ff_expert);
        key_u32(w, a, "expert_shared_feed_forward_length", s->n_ff_shared);
    }
    key_u32(w, a, "vocab_size", s->n_vocab);
}

static int write_vocab(struct gguf_writer *w, int32_t n_vocab, struct err *err)
{
    /* enough of the family's template for programs that need one; Heron renders its own */
    static const char template[] = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
                                   "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    struct synthetic_vocab *v = NULL;
    int rc = synthetic_vocab_create(n_vocab, &v, err);
    if (rc < 0)
        return rc;
    gguf_writer_string(w, "tokenizer.ggml.model", "gpt2");
    gguf_writer_string(w, "tokenizer.ggml.pre", "qwen35");
    gguf_writer_string_array(w, "tokenizer.ggml.tokens", v->tokens, (size_t)v->n_tokens);
    gguf_writer_i32_array(w, "tokenizer.ggml.token_type", v->types, (size_t)v->n_tokens);
    gguf_writer_string_array(w, "tokenizer.ggml.merges", v->merges, (size_t)v->n_merges);
    gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)v->eos);
    gguf_writer_u32(w, "tokenizer.ggml.padding_token_id", (uint32_t)v->pad);
    gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", false);
    gguf_writer_string(w, "tokenizer.chat_template", template);
    synthetic_vocab_free(v);
    return 0;
}

/* ---- files ------------------------------------------------------------------------------------------------------------------ */

static int check_file(const char *path, const struct synthetic_file *file, struct err *err)
{
    if (file->noise || file->dtype == KN_F32 || file->dtype == KN_F16 || file->dtype == KN_BF16 || file->dtype == KN_Q8_0 ||
        file->dtype == KN_Q4_0)
        return 0;
    return err_set(err, ERR_INVAL, "%s: random models are written as F32, F16, BF16, Q8_0 or Q4_0, not %s", path,
                   kn_dtype_name((int)file->dtype));
}

static void walk_release(struct file_walk *f)
{
    gguf_writer_free(f->w);
    free(f->values);
    free(f->coded);
}

int synthetic_write_model(const char *path, const struct model_shape *shape, const struct synthetic_file *file, struct err *err)
{
    struct file_walk f = {.file = file, .err = err};
    int rc = check_file(path, file, err);
    if (rc == 0)
        rc = model_shape_check(shape, path, err);
    if (rc == 0)
        rc = gguf_writer_create(&f.w, err);
    if (rc < 0)
        return rc == ERR_FORMAT ? ERR_INVAL : rc;
    write_general(f.w, shape->architecture, "model", shape->name, file);
    write_shape(f.w, shape);
    if (!file->bare_vocab)
        rc = write_vocab(f.w, shape->n_vocab, err);
    if (rc == 0)
        rc = tensor_list_text(shape, NULL, file_visit, &f);
    if (rc == 0) {
        gguf_writer_begin(f.w, path);
        f.is_data = true;
        rc = tensor_list_text(shape, NULL, file_visit, &f);
    }
    if (rc == 0)
        rc = gguf_writer_end(f.w, err);
    walk_release(&f);
    return rc;
}

static void write_vision_shape(struct gguf_writer *w, const struct vision_shape *s, bool *none)
{
    const char *a = "clip.vision";
    gguf_writer_bool(w, "clip.has_vision_encoder", true);
    gguf_writer_string(w, "clip.projector_type", "qwen3vl_merger");
    gguf_writer_bool(w, "clip.use_gelu", true);
    key_u32(w, a, "image_size", (int64_t)s->grid_side * s->patch_px);
    key_u32(w, a, "patch_size", s->patch_px);
    key_u32(w, a, "embedding_length", s->n_embd);
    key_u32(w, a, "feed_forward_length", s->n_ff);
    key_u32(w, a, "block_count", s->n_layers);
    key_u32(w, a, "projection_dim", s->n_out);
    key_u32(w, a, "attention.head_count", s->n_head);
    key_f32(w, a, "attention.layer_norm_epsilon", s->eps);
    key_u32(w, a, "spatial_merge_size", s->merge);
    gguf_writer_f32_array(w, "clip.vision.image_mean", s->mean, 3);
    gguf_writer_f32_array(w, "clip.vision.image_std", s->stddev, 3);
    gguf_writer_bool_array(w, "clip.vision.is_deepstack_layers", none, (size_t)s->n_layers);
    key_u32(w, a, "image_min_pixels", s->min_pixels);
    key_u32(w, a, "image_max_pixels", s->max_pixels);
}

int synthetic_write_vision(const char *path, const struct vision_shape *shape, const struct synthetic_file *file,
                           struct err *err)
{
    struct file_walk f = {.file = file, .err = err};
    int rc = check_file(path, file, err);
    if (rc == 0)
        rc = vision_shape_check(shape, path, err);
    if (rc == 0)
        rc = gguf_writer_create(&f.w, err);
    if (rc < 0)
        return rc == ERR_FORMAT ? ERR_INVAL : rc;
    bool *none = calloc((size_t)shape->n_layers, sizeof *none);
    if (!none) {
        walk_release(&f);
        return err_set(err, ERR_NOMEM, "%s: no memory", path);
    }
    write_general(f.w, "clip", "mmproj", shape->name, file);
    write_vision_shape(f.w, shape, none);
    rc = tensor_list_vision(shape, NULL, file_visit, &f);
    if (rc == 0) {
        gguf_writer_begin(f.w, path);
        f.is_data = true;
        rc = tensor_list_vision(shape, NULL, file_visit, &f);
    }
    if (rc == 0)
        rc = gguf_writer_end(f.w, err);
    free(none);
    walk_release(&f);
    return rc;
}
