/*
 * shape - from metadata to dimensions, every impossible value refused. Source: MODEL.md sections 1 and 5.
 */
#include "engine/weights.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Larger than any published model by a factor, small enough that no product of two overflows. */
#define LAYERS_MAX   1024
#define WIDTH_MAX    (1 << 18)
#define VOCAB_MAX    (1 << 23)
#define HEADS_MAX    1024
#define HEAD_DIM_MAX 1024
#define EXPERTS_MAX  4096
#define TAPS_MAX     16
#define CONTEXT_MAX  (1 << 28)
#define OUTPUTS_MAX  (1 << 26) /* outputs of one matrix, vocabulary apart */

/* ---- reading keys ----------------------------------------------------------------------------------------------------------- */

/* Reads "PREFIX.NAME" keys; the first failure stays, later calls do nothing. */
struct keys {
    const struct gguf *g;
    const char *prefix;
    int rc;
    struct err *err;
};

static const char *key_of(const struct keys *k, const char *name, char buf[128])
{
    snprintf(buf, 128, "%s.%s", k->prefix, name);
    return buf;
}

static bool keys_have(const struct keys *k, const char *name)
{
    char key[128];
    return gguf_find(k->g, key_of(k, name, key)) != NULL;
}

/* A key that must be there becomes "PATH: no key K", code ERR_FORMAT: the file is not what it claims to be. */
static int required(int rc, struct err *err)
{
    if (rc != ERR_NOT_FOUND)
        return rc;
    if (err)
        err->code = ERR_FORMAT;
    return ERR_FORMAT;
}

/* A whole number between least and most. Missing: `otherwise`, or an error where that is negative. */
static int32_t keys_int(struct keys *k, const char *name, int64_t least, int64_t most, int64_t otherwise)
{
    char key[128];
    int64_t v = 0;
    if (k->rc < 0)
        return 0;
    key_of(k, name, key);
    if (otherwise >= 0 && !gguf_find(k->g, key))
        return (int32_t)otherwise;
    k->rc = required(gguf_get_i64(k->g, key, &v, k->err), k->err);
    if (k->rc == 0 && (v < least || v > most))
        k->rc = err_set(k->err, ERR_FORMAT, "%s: key %s is %" PRId64 ", expected %" PRId64 " to %" PRId64, gguf_path(k->g), key,
                        v, least, most);
    return k->rc < 0 ? 0 : (int32_t)v;
}

/* A finite number between least and most, as keys_int. NAN for `otherwise`: must be there. */
static float keys_float(struct keys *k, const char *name, float least, float most, float otherwise)
{
    char key[128];
    float v = 0;
    if (k->rc < 0)
        return 0;
    key_of(k, name, key);
    if (!isnan(otherwise) && !gguf_find(k->g, key))
        return otherwise;
    k->rc = required(gguf_get_f32(k->g, key, &v, k->err), k->err);
    if (k->rc == 0 && !(v >= least && v <= most))
        k->rc = err_set(k->err, ERR_FORMAT, "%s: key %s is %g, expected %g to %g", gguf_path(k->g), key, (double)v,
                        (double)least, (double)most);
    return k->rc < 0 ? 0 : v;
}

/*
 * A head count: a number, or an array with one per block in which linear layers may have 0; all full layers must
 * agree.
 */
static int32_t keys_heads(struct keys *k, const char *name, const struct model_shape *s)
{
    char key[128];
    if (k->rc < 0 || gguf_array_count(k->g, key_of(k, name, key)) == 0)
        return keys_int(k, name, 1, HEADS_MAX, -1);
    if (gguf_array_count(k->g, key) < (uint64_t)s->n_layers) {
        k->rc = err_set(k->err, ERR_FORMAT, "%s: key %s has %" PRIu64 " entries, expected one for each of %d layers",
                        gguf_path(k->g), key, gguf_array_count(k->g, key), s->n_layers);
        return 0;
    }
    int64_t heads = 0;
    for (int32_t i = 0; i < s->n_layers && k->rc == 0; i++) {
        int64_t v;
        k->rc = gguf_get_i64_at(k->g, key, (uint64_t)i, &v, k->err);
        if (k->rc < 0 || s->is_linear[i])
            continue;
        if (v < 1 || v > HEADS_MAX || (heads && v != heads))
            k->rc = err_set(k->err, ERR_FORMAT, "%s: key %s is %" PRId64 " for layer %d, expected %s%" PRId64, gguf_path(k->g),
                            key, v, i, heads ? "as in the layers before " : "1 to ", heads ? heads : (int64_t)HEADS_MAX);
        heads = v;
    }
    return k->rc < 0 ? 0 : (int32_t)heads;
}

/* ---- the text model --------------------------------------------------------------------------------------------------------- */

/* Which main layers are Gated DeltaNet: by `attention.recurrent_layers`, otherwise by the interval. */
static void read_layer_types(struct keys *k, struct model_shape *s)
{
    char key[128];
    int32_t interval = keys_int(k, "full_attention_interval", 1, LAYERS_MAX, 4);
    if (k->rc < 0)
        return;
    s->is_linear = calloc((size_t)s->n_layers, sizeof *s->is_linear);
    if (!s->is_linear) {
        k->rc = err_set(k->err, ERR_NOMEM, "no memory for %d layers", s->n_layers);
        return;
    }
    key_of(k, "attention.recurrent_layers", key);
    uint64_t n = gguf_array_count(k->g, key);
    if (n && n < (uint64_t)s->n_layers)
        k->rc = err_set(k->err, ERR_FORMAT, "%s: key %s has %" PRIu64 " entries, expected one for each of %d layers",
                        gguf_path(k->g), key, n, s->n_layers);
    for (int32_t i = 0; i < s->n_layers && k->rc == 0; i++) {
        int64_t v = (i + 1) % interval != 0;
        if (n)
            k->rc = gguf_get_i64_at(k->g, key, (uint64_t)i, &v, k->err);
        s->is_linear[i] = v != 0;
    }
}

/* t, h, w and a fourth that must be 0, under either of their names; three numbers are enough. */
static void read_sections(struct keys *k, struct model_shape *s)
{
    static const char *const names[] = {"rope.dimension_sections", "mrope_sections", "rope.mrope_section"};
    char key[128];
    uint64_t n = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names && n == 0; i++)
        n = gguf_array_count(k->g, key_of(k, names[i], key));
    if (k->rc == 0 && n != 3 && n != 4)
        k->rc = err_set(k->err, ERR_FORMAT, "%s: key %s.%s has %" PRIu64 " numbers, expected 4 (or 3)", gguf_path(k->g),
                        k->prefix, names[0], n);
    for (uint64_t i = 0; i < n && k->rc == 0; i++) {
        int64_t v = 0;
        k->rc = gguf_get_i64_at(k->g, key, i, &v, k->err);
        if (k->rc == 0 && (v < 0 || v > HEAD_DIM_MAX))
            k->rc = err_set(k->err, ERR_FORMAT, "%s: key %s: number %" PRIu64 " is %" PRId64 ", expected 0 to %d",
                            gguf_path(k->g), key, i, v, HEAD_DIM_MAX);
        s->rope_sections[i] = (int32_t)v;
    }
    bool interleaved = true;
    if (k->rc == 0 && keys_have(k, "rope.mrope_interleaved"))
        k->rc = gguf_get_bool(k->g, key_of(k, "rope.mrope_interleaved", key), &interleaved, k->err);
    if (k->rc == 0 && !interleaved)
        k->rc =
            err_set(k->err, ERR_UNSUPPORTED, "%s: key %s is false: only interleaved M-RoPE is computed", gguf_path(k->g), key);
}

static void read_rope_scaling(struct keys *k, struct model_shape *s)
{
    char key[128];
    s->rope_scaling = ROPE_NONE;
    s->rope_factor = keys_float(k, "rope.scaling.factor", 1e-3f, 1e4f, 1);
    s->rope_attn_factor = keys_float(k, "rope.scaling.attn_factor", 1e-3f, 1e3f, 1);
    s->rope_attn_factor = keys_float(k, "rope.scaling.yarn_attn_factor", 1e-3f, 1e3f, s->rope_attn_factor);
    s->yarn_ext_factor = keys_float(k, "rope.scaling.yarn_ext_factor", 0, 1, 1);
    s->yarn_beta_fast = keys_float(k, "rope.scaling.yarn_beta_fast", 1e-3f, 1e4f, 32);
    s->yarn_beta_slow = keys_float(k, "rope.scaling.yarn_beta_slow", 1e-3f, 1e4f, 1);
    s->rope_original_context = keys_int(k, "rope.scaling.original_context_length", 1, CONTEXT_MAX, s->trained_context);
    key_of(k, "rope.scaling.type", key);
    if (k->rc < 0 || !gguf_find(k->g, key) || gguf_string_is(k->g, key, "none"))
        return;
    char found[40];
    if (gguf_string_is(k->g, key, "linear")) {
        s->rope_scaling = ROPE_LINEAR;
    } else if (gguf_string_is(k->g, key, "yarn")) {
        s->rope_scaling = ROPE_YARN;
    } else {
        k->rc = err_set(k->err, ERR_UNSUPPORTED, "%s: key %s is \"%s\", expected none, linear or yarn", gguf_path(k->g), key,
                        gguf_copy_text(k->g, key, found, sizeof found) ? found : "no string");
    }
}

static void read_experts(struct keys *k, struct model_shape *s)
{
    s->n_experts = keys_int(k, "expert_count", 1, EXPERTS_MAX, -1);
    s->n_experts_used = keys_int(k, "expert_used_count", 1, EXPERTS_MAX, -1);
    s->n_ff = keys_int(k, "feed_forward_length", 0, WIDTH_MAX, 0);
    int32_t used = s->n_experts_used > 0 ? s->n_experts_used : 1;
    s->n_ff_expert = keys_int(k, "expert_feed_forward_length", 1, WIDTH_MAX, s->n_ff ? s->n_ff / used : -1);
    s->n_ff_shared = keys_int(k, "expert_shared_feed_forward_length", 1, WIDTH_MAX, s->n_ff ? s->n_ff : -1);
}

/* Tokens of the vocabulary: by the key, by the token list, by the embedding's rows; those that are there must agree. */
static void read_vocab(struct keys *k, struct model_shape *s)
{
    const struct gguf_tensor *embd = gguf_find_tensor(k->g, "token_embd.weight");
    uint64_t listed = gguf_array_count(k->g, "tokenizer.ggml.tokens");
    int64_t otherwise = listed ? (int64_t)listed : embd ? embd->ne[1] : -1;
    if (otherwise > VOCAB_MAX)
        otherwise = VOCAB_MAX + 1; /* refused by the check */
    s->n_vocab = keys_int(k, "vocab_size", 1, VOCAB_MAX, otherwise);
    if (k->rc == 0 && listed && listed != (uint64_t)s->n_vocab)
        k->rc = err_set(k->err, ERR_FORMAT, "%s: key %s.vocab_size is %d, but tokenizer.ggml.tokens has %" PRIu64 " tokens",
                        gguf_path(k->g), k->prefix, s->n_vocab, listed);
}

/* general.tags or general.name say so. */
static bool says_untrained(const struct gguf *g, const char *name)
{
    struct gguf_strings tags;
    struct gguf_string tag;
    if (strstr(name, "untrained"))
        return true;
    if (gguf_strings_begin(g, "general.tags", &tags, NULL) < 0)
        return false;
    while (gguf_strings_next(&tags, &tag))
        if (tag.n == strlen("untrained") && memcmp(tag.data, "untrained", tag.n) == 0)
            return true;
    return false;
}

static int check_architecture(const struct gguf *g, struct model_shape *s, struct err *err)
{
    char found[40];
    if (!gguf_copy_text(g, "general.architecture", found, sizeof found))
        return err_set(err, ERR_FORMAT, "%s: no string key general.architecture", gguf_path(g));
    if (strcmp(found, "clip") == 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: general.architecture is \"clip\": this is a vision file (mmproj), expected a text model",
                       gguf_path(g));
    s->is_moe = strcmp(found, "qwen35moe") == 0;
    if (!s->is_moe && strcmp(found, "qwen35") != 0)
        return err_set(err, ERR_UNSUPPORTED, "%s: general.architecture is \"%s\", expected qwen35 or qwen35moe", gguf_path(g),
                       found);
    snprintf(s->architecture, sizeof s->architecture, "%s", s->is_moe ? "qwen35moe" : "qwen35");
    return 0;
}

int model_shape_read(const struct gguf *g, struct model_shape *ret_shape, struct err *err)
{
    struct model_shape s = {0};
    int rc = check_architecture(g, &s, err);
    if (rc < 0)
        return rc;
    struct keys k = {.g = g, .prefix = s.architecture, .err = err};
    gguf_copy_text(g, "general.name", s.name, sizeof s.name);
    s.is_untrained = says_untrained(g, s.name);
    s.is_tied = !gguf_find_tensor(g, "output.weight");
    int32_t blocks = keys_int(&k, "block_count", 1, LAYERS_MAX, -1);
    s.n_nextn = keys_int(&k, "nextn_predict_layers", 0, blocks > 0 ? blocks - 1 : 0, 0);
    s.n_layers = blocks - s.n_nextn;
    s.trained_context = keys_int(&k, "context_length", 1, CONTEXT_MAX, -1);
    s.n_embd = keys_int(&k, "embedding_length", 1, WIDTH_MAX, -1);
    if (s.is_moe)
        read_experts(&k, &s);
    else
        s.n_ff = keys_int(&k, "feed_forward_length", 1, WIDTH_MAX, -1);
    if (k.rc == 0)
        read_layer_types(&k, &s);
    s.n_head = keys_heads(&k, "attention.head_count", &s);
    s.n_head_kv = keys_heads(&k, "attention.head_count_kv", &s);
    s.head_dim = keys_int(&k, "attention.key_length", 2, HEAD_DIM_MAX, -1);
    (void)keys_int(&k, "attention.value_length", s.head_dim, s.head_dim, s.head_dim);
    s.rms_eps = keys_float(&k, "attention.layer_norm_rms_epsilon", 0, 1, NAN);
    s.n_rot = keys_int(&k, "rope.dimension_count", 2, HEAD_DIM_MAX, -1);
    s.rope_freq_base = keys_float(&k, "rope.freq_base", 1, 1e12f, NAN);
    read_sections(&k, &s);
    read_rope_scaling(&k, &s);
    s.conv_taps = keys_int(&k, "ssm.conv_kernel", 2, TAPS_MAX, -1);
    s.d_k = keys_int(&k, "ssm.state_size", 1, HEAD_DIM_MAX, -1);
    s.n_k = keys_int(&k, "ssm.group_count", 1, HEADS_MAX, -1);
    s.n_v = keys_int(&k, "ssm.time_step_rank", 1, HEADS_MAX, -1);
    int32_t inner = keys_int(&k, "ssm.inner_size", 1, HEADS_MAX * HEAD_DIM_MAX, -1);
    if (k.rc == 0 && inner % s.n_v)
        k.rc = err_set(err, ERR_FORMAT, "%s: key %s.ssm.inner_size %d is no multiple of ssm.time_step_rank %d", gguf_path(g),
                       k.prefix, inner, s.n_v);
    s.d_v = k.rc == 0 ? inner / s.n_v : 0;
    read_vocab(&k, &s);
    bool tiled = true;
    char key[128];
    if (k.rc == 0 && keys_have(&k, "ssm.v_head_reordered"))
        k.rc = gguf_get_bool(g, key_of(&k, "ssm.v_head_reordered", key), &tiled, err);
    if (k.rc == 0 && !tiled && s.n_v != s.n_k)
        k.rc = err_set(err, ERR_UNSUPPORTED,
                       "%s: key %s is false: value heads in the training order are not read, convert the model anew",
                       gguf_path(g), key);
    if (k.rc == 0)
        k.rc = model_shape_check(&s, gguf_path(g), err);
    if (k.rc < 0) {
        model_shape_release(&s);
        return k.rc;
    }
    *ret_shape = s;
    return 0;
}

void model_shape_release(struct model_shape *shape)
{
    free(shape->is_linear);
    shape->is_linear = NULL;
}

/* One line of the check: a number in a range. */
static bool outside(const char *where, const char *what, int64_t found, int64_t least, int64_t most, struct err *err)
{
    if (found >= least && found <= most)
        return false;
    err_set(err, ERR_FORMAT, "%s: %s is %" PRId64 ", expected %" PRId64 " to %" PRId64, where, what, found, least, most);
    return true;
}

int model_shape_check(const struct model_shape *s, const char *where, struct err *err)
{
    if (outside(where, "number of layers", s->n_layers, 1, LAYERS_MAX, err) ||
        outside(where, "number of MTP blocks", s->n_nextn, 0, LAYERS_MAX, err) ||
        outside(where, "embedding length", s->n_embd, 1, WIDTH_MAX, err) ||
        outside(where, "vocabulary", s->n_vocab, 1, VOCAB_MAX, err) ||
        outside(where, "context length", s->trained_context, 1, CONTEXT_MAX, err) ||
        outside(where, "attention.head_count", s->n_head, 1, HEADS_MAX, err) ||
        outside(where, "attention.head_count_kv", s->n_head_kv, 1, s->n_head, err) ||
        outside(where, "attention.key_length", s->head_dim, 2, HEAD_DIM_MAX, err) ||
        outside(where, "rope.dimension_count", s->n_rot, 2, s->head_dim, err) ||
        outside(where, "ssm.conv_kernel", s->conv_taps, 2, TAPS_MAX, err) ||
        outside(where, "ssm.group_count", s->n_k, 1, HEADS_MAX, err) ||
        outside(where, "ssm.time_step_rank", s->n_v, s->n_k, HEADS_MAX, err) ||
        outside(where, "ssm.state_size", s->d_k, 1, HEAD_DIM_MAX, err) ||
        outside(where, "ssm.inner_size / ssm.time_step_rank", s->d_v, 1, HEAD_DIM_MAX, err) ||
        outside(where, "gated projection (head_count * 2 * key_length)", 2LL * s->n_head * s->head_dim, 1, OUTPUTS_MAX, err) ||
        outside(where, "linear projection (2 * group_count * state_size + inner_size)",
                2LL * s->n_k * s->d_k + 1LL * s->n_v * s->d_v, 1, OUTPUTS_MAX, err))
        return ERR_FORMAT;
    if (s->is_moe && (outside(where, "expert_count", s->n_experts, 1, EXPERTS_MAX, err) ||
                      outside(where, "expert_used_count", s->n_experts_used, 1, s->n_experts, err) ||
                      outside(where, "expert_feed_forward_length", s->n_ff_expert, 1, WIDTH_MAX, err) ||
                      outside(where, "expert_shared_feed_forward_length", s->n_ff_shared, 1, WIDTH_MAX, err)))
        return ERR_FORMAT;
    if (!s->is_moe && outside(where, "feed_forward_length", s->n_ff, 1, WIDTH_MAX, err))
        return ERR_FORMAT;
    if (s->head_dim % 2 || s->n_rot % 2)
        return err_set(err, ERR_FORMAT, "%s: attention.key_length %d and rope.dimension_count %d: both must be even", where,
                       s->head_dim, s->n_rot);
    if (s->n_head % s->n_head_kv)
        return err_set(err, ERR_FORMAT, "%s: attention.head_count %d is no multiple of attention.head_count_kv %d", where,
                       s->n_head, s->n_head_kv);
    if (s->n_v % s->n_k)
        return err_set(err, ERR_FORMAT, "%s: ssm.time_step_rank %d is no multiple of ssm.group_count %d", where, s->n_v,
                       s->n_k);
    int32_t sum = s->rope_sections[0] + s->rope_sections[1] + s->rope_sections[2];
    if (sum != s->n_rot / 2 || s->rope_sections[3] != 0)
        return err_set(err, ERR_FORMAT,
                       "%s: rope.dimension_sections are %d, %d, %d, %d, expected three that sum to half of"
                       " rope.dimension_count %d, and 0",
                       where, s->rope_sections[0], s->rope_sections[1], s->rope_sections[2], s->rope_sections[3], s->n_rot);
    if (!(s->rms_eps > 0) || s->rms_eps > 0.1f)
        return err_set(err, ERR_FORMAT, "%s: attention.layer_norm_rms_epsilon is %g, expected above 0, at most 0.1", where,
                       (double)s->rms_eps);
    return 0;
}

int32_t model_shape_full_layers(const struct model_shape *shape)
{
    int32_t n = 0;
    for (int32_t i = 0; i < shape->n_layers; i++)
        n += !shape->is_linear[i];
    return n;
}

/* ---- the vision tower ------------------------------------------------------------------------------------------------------- */

static void read_triple(struct keys *k, const char *name, float least, float out[3])
{
    char key[128];
    key_of(k, name, key);
    for (uint64_t i = 0; i < 3 && k->rc == 0; i++) {
        k->rc = required(gguf_get_f32_at(k->g, key, i, &out[i], k->err), k->err);
        if (k->rc == 0 && !(out[i] >= least && out[i] <= 10))
            k->rc = err_set(k->err, ERR_FORMAT, "%s: key %s: number %" PRIu64 " is %g, expected %g to 10", gguf_path(k->g), key,
                            i, (double)out[i], (double)least);
    }
}

static int check_projector(const struct gguf *g, struct err *err)
{
    char found[60];
    if (!gguf_copy_text(g, "general.architecture", found, sizeof found))
        return err_set(err, ERR_FORMAT, "%s: no string key general.architecture", gguf_path(g));
    if (strcmp(found, "clip") != 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: general.architecture is \"%s\", expected clip: the vision file is the one called mmproj",
                       gguf_path(g), found);
    if (!gguf_copy_text(g, "clip.projector_type", found, sizeof found) &&
        !gguf_copy_text(g, "clip.vision.projector_type", found, sizeof found))
        return err_set(err, ERR_FORMAT, "%s: no string key clip.projector_type", gguf_path(g));
    if (strcmp(found, "qwen3vl_merger") != 0)
        return err_set(err, ERR_UNSUPPORTED, "%s: clip.projector_type is \"%s\", expected qwen3vl_merger", gguf_path(g), found);
    for (uint64_t i = 0; i < gguf_array_count(g, "clip.vision.is_deepstack_layers"); i++) {
        int64_t v = 0;
        if (gguf_get_i64_at(g, "clip.vision.is_deepstack_layers", i, &v, err) < 0)
            return ERR_FORMAT;
        if (v)
            return err_set(err, ERR_UNSUPPORTED,
                           "%s: clip.vision.is_deepstack_layers is true for layer %" PRIu64
                           ": a Qwen3-VL tower; the Qwen3.5 family has none",
                           gguf_path(g), i);
    }
    bool gelu = true;
    if (gguf_find(g, "clip.use_gelu") && gguf_get_bool(g, "clip.use_gelu", &gelu, err) < 0)
        return ERR_FORMAT;
    return gelu ? 0 : err_set(err, ERR_UNSUPPORTED, "%s: clip.use_gelu is false, expected true", gguf_path(g));
}

int vision_shape_read(const struct gguf *g, struct vision_shape *ret_shape, struct err *err)
{
    struct vision_shape s = {0};
    int rc = check_projector(g, err);
    if (rc < 0)
        return rc;
    struct keys k = {.g = g, .prefix = "clip.vision", .err = err};
    gguf_copy_text(g, "general.name", s.name, sizeof s.name);
    s.n_layers = keys_int(&k, "block_count", 1, LAYERS_MAX, -1);
    s.n_embd = keys_int(&k, "embedding_length", 1, WIDTH_MAX, -1);
    s.n_ff = keys_int(&k, "feed_forward_length", 1, WIDTH_MAX, -1);
    s.n_head = keys_int(&k, "attention.head_count", 1, HEADS_MAX, -1);
    s.patch_px = keys_int(&k, "patch_size", 1, 64, -1);
    s.merge = keys_int(&k, "spatial_merge_size", 1, 8, 2);
    s.n_out = keys_int(&k, "projection_dim", 1, WIDTH_MAX, -1);
    s.eps = keys_float(&k, "attention.layer_norm_epsilon", 0, 1, NAN);
    read_triple(&k, "image_mean", -10, s.mean);
    read_triple(&k, "image_std", 1e-3f, s.stddev);
    int32_t image_px = keys_int(&k, "image_size", 1, 1 << 16, -1);
    if (k.rc == 0 && image_px % s.patch_px)
        k.rc = err_set(err, ERR_FORMAT, "%s: clip.vision.image_size %d is no multiple of patch_size %d", gguf_path(g), image_px,
                       s.patch_px);
    s.grid_side = k.rc == 0 ? image_px / s.patch_px : 0;
    s.min_pixels = keys_int(&k, "image_min_pixels", 1, 1 << 28, 65536);
    s.max_pixels = keys_int(&k, "image_max_pixels", 1, 1 << 28, 16777216);
    if (k.rc == 0)
        k.rc = vision_shape_check(&s, gguf_path(g), err);
    if (k.rc == 0)
        *ret_shape = s;
    return k.rc;
}

int vision_shape_check(const struct vision_shape *s, const char *where, struct err *err)
{
    if (outside(where, "clip.vision.block_count", s->n_layers, 1, LAYERS_MAX, err) ||
        outside(where, "clip.vision.embedding_length", s->n_embd, 1, WIDTH_MAX / 8, err) ||
        outside(where, "clip.vision.feed_forward_length", s->n_ff, 1, WIDTH_MAX, err) ||
        outside(where, "clip.vision.attention.head_count", s->n_head, 1, HEADS_MAX, err) ||
        outside(where, "clip.vision.patch_size", s->patch_px, 1, 64, err) ||
        outside(where, "clip.vision.spatial_merge_size", s->merge, 1, 8, err) ||
        outside(where, "clip.vision.projection_dim", s->n_out, 1, WIDTH_MAX, err) ||
        outside(where, "clip.vision.image_size / patch_size", s->grid_side, 1, 1024, err) ||
        outside(where, "clip.vision.image_max_pixels", s->max_pixels, s->min_pixels, 1 << 28, err))
        return ERR_FORMAT;
    int32_t d = s->n_embd / s->n_head;
    if (s->n_embd % s->n_head || d % 4 || d > HEAD_DIM_MAX)
        return err_set(err, ERR_FORMAT,
                       "%s: clip.vision.embedding_length %d over attention.head_count %d: expected heads of a multiple of 4"
                       " up to %d",
                       where, s->n_embd, s->n_head, HEAD_DIM_MAX);
    if (!(s->eps > 0) || s->eps > 0.1f)
        return err_set(err, ERR_FORMAT, "%s: clip.vision.attention.layer_norm_epsilon is %g, expected above 0, at most 0.1",
                       where, (double)s->eps);
    return 0;
}
