/*
 * From files to bound models: shapes refused one by one, tensors checked one by one, values on the device, dialects, plans, and the
 * random and noise models of engine/synthetic.h.
 */
#include "tests/support/test.h"

#include "engine/engine.h"
#include "engine/gguf_writer.h"
#include "engine/synthetic.h"
#include "engine/vocab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- files in memory -------------------------------------------------------------------------------------------------------- */

/* A file's bytes, to be damaged and opened. */
struct image {
    unsigned char *data;
    size_t n;
};

static struct image read_file(const char *path)
{
    struct image f = {0};
    f.data = (unsigned char *)test_read_file(path, &f.n);
    return f;
}

static const char *temp_path(char out[512], const char *name)
{
    static const char *dir;
    if (!dir)
        dir = test_temp_dir();
    assert_true(snprintf(out, 512, "%s/%s", dir, name) < 512);
    return out;
}

static struct synthetic parse(const char *spec)
{
    struct synthetic s;
    struct err err = {0};
    assert_ok(synthetic_parse(spec, &s, &err), &err);
    return s;
}

/* A model file of a preset. */
static struct image make_file(const char *spec, bool merge_experts, bool vision)
{
    char path[512];
    struct err err = {0};
    struct synthetic s = parse(spec);
    const struct synthetic_file file = {.seed = 1, .dtype = s.dtype, .merge_experts = merge_experts};
    temp_path(path, "model.gguf");
    if (vision)
        assert_ok(synthetic_write_vision(path, &s.vision, &file, &err), &err);
    else
        assert_ok(synthetic_write_model(path, &s.shape, &file, &err), &err);
    synthetic_release(&s);
    return read_file(path);
}

static struct gguf *open_image(const struct image *f)
{
    struct gguf *g = NULL;
    struct err err = {0};
    assert_ok(gguf_open_memory(f->data, f->n, "image", &g, &err), &err);
    return g;
}

/* The value's bytes of a key inside the image. */
static unsigned char *value_of(struct image *f, const char *key)
{
    struct gguf *g = open_image(f);
    const struct gguf_entry *e = gguf_find(g, key);
    assert_non_null(e);
    unsigned char *at = f->data + ((const unsigned char *)e->data - f->data);
    gguf_close(g);
    return at;
}

/* The directory entry of a tensor inside the image: its name's first byte. What follows the name: u32 dims, u64 each, u32 type. */
static unsigned char *directory_of(struct image *f, const char *name)
{
    const size_t n = strlen(name);
    unsigned char *from = f->data;
    for (;;) {
        unsigned char *at = memmem(from, f->n - (size_t)(from - f->data), name, n);
        assert_non_null(at);
        uint64_t length;
        memcpy(&length, at - 8, 8);
        if (length == n)
            return at;
        from = at + 1;
    }
}

static struct kn_device *open_ref(void)
{
    struct kn_device *device = NULL;
    struct err err = {0};
    assert_ok(kn_device_open("ref", NULL, &device, &err), &err);
    return device;
}

/* ---- shapes ----------------------------------------------------------------------------------------------------------------- */

static void test_shape(void **state)
{
    struct image f = make_file("tiny-moe:f32", false, false);
    struct gguf *g = open_image(&f);
    struct model_shape s;
    struct err err = {0};
    assert_ok(model_shape_read(g, &s, &err), &err);
    assert_string_equal(s.architecture, "qwen35moe");
    assert_string_equal(s.name, "untrained tiny-moe");
    assert_true(s.is_moe && s.is_untrained && !s.is_tied);
    assert_int_equal(s.n_layers, 4);
    assert_int_equal(model_shape_full_layers(&s), 1);
    assert_true(s.is_linear[2] && !s.is_linear[3]);
    assert_int_equal(s.n_v, 6);
    assert_int_equal(s.d_v, 16);
    assert_int_equal(s.n_experts_used, 2);
    assert_int_equal(s.n_vocab, 1024);
    assert_true(s.rope_freq_base == 1e7f && s.rms_eps == 1e-6f);
    assert_int_equal(s.rope_sections[0] + s.rope_sections[1] + s.rope_sections[2], 8);
    model_shape_release(&s);
    gguf_close(g);
    free(f.data);
}

static void test_impossible_shapes(void **state)
{
    static const struct {
        const char *key;
        uint32_t value;
        const char *words;
    } cases[] = {
        {"block_count", 0, "block_count is 0"},
        {"block_count", 100000, "block_count is 100000, expected 1 to"},
        {"context_length", 0, "context_length is 0"},
        {"embedding_length", 0, "embedding_length is 0"},
        {"embedding_length", 1u << 31, "embedding_length is 2147483648"},
        {"attention.head_count", 0, "head_count is 0"},
        {"attention.head_count", 3, "attention.head_count 3 is no multiple of attention.head_count_kv 2"},
        {"attention.head_count_kv", 0, "head_count_kv is 0"},
        {"attention.head_count_kv", 8, "head_count_kv is 8, expected 1 to 4"},
        {"attention.key_length", 16, "value_length is 32, expected 16 to 16"},
        {"rope.dimension_count", 64, "dimension_count is 64, expected 2 to 32"},
        {"rope.dimension_count", 15, "must be even"},
        {"rope.dimension_count", 12, "sum to half of rope.dimension_count 12"},
        {"rope.freq_base", 0, "freq_base is 0"},
        {"rope.freq_base", 0x7FC00000, "freq_base is nan"},
        {"attention.layer_norm_rms_epsilon", 0, "epsilon is 0"},
        {"ssm.conv_kernel", 1, "conv_kernel is 1"},
        {"ssm.state_size", 0, "state_size is 0"},
        {"ssm.group_count", 3, "time_step_rank 4 is no multiple of ssm.group_count 3"},
        {"ssm.group_count", 8, "time_step_rank is 4, expected 8 to"},
        {"ssm.time_step_rank", 3, "inner_size 64 is no multiple of ssm.time_step_rank 3"},
        {"ssm.inner_size", 0, "inner_size is 0"},
        {"full_attention_interval", 0, "full_attention_interval is 0"},
        {"feed_forward_length", 0, "feed_forward_length is 0"},
        {"vocab_size", 1000, "vocab_size is 1000, but tokenizer.ggml.tokens has 1024"},
    };
    struct image f = make_file("tiny-dense:f32", false, false);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char key[96];
        uint32_t before;
        struct model_shape s;
        struct err err = {0};
        snprintf(key, sizeof key, "qwen35.%s", cases[i].key);
        unsigned char *at = value_of(&f, key);
        memcpy(&before, at, 4);
        memcpy(at, &cases[i].value, 4);
        struct gguf *g = open_image(&f);
        assert_err(model_shape_read(g, &s, &err), ERR_FORMAT, &err, cases[i].words);
        assert_true(test_contains(err.text, "image"));
        gguf_close(g);
        memcpy(at, &before, 4);
    }
    free(f.data);
    struct image moe = make_file("tiny-moe:f32", false, false);
    memcpy(value_of(&moe, "qwen35moe.expert_used_count"), &(uint32_t){9}, 4);
    struct gguf *g = open_image(&moe);
    struct model_shape s;
    struct err err = {0};
    assert_err(model_shape_read(g, &s, &err), ERR_FORMAT, &err, "expert_used_count is 9, expected 1 to 8");
    gguf_close(g);
    free(moe.data);
}

static void test_required_keys(void **state)
{
    static const char *const keys[] = {
        "block_count",
        "context_length",
        "embedding_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.layer_norm_rms_epsilon",
        "rope.dimension_count",
        "rope.dimension_sections",
        "rope.freq_base",
        "ssm.conv_kernel",
        "ssm.state_size",
        "ssm.group_count",
        "ssm.time_step_rank",
        "ssm.inner_size",
        "feed_forward_length",
    };
    struct image f = make_file("tiny-dense:f32", false, false);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char key[96];
        struct model_shape s;
        struct err err = {0};
        snprintf(key, sizeof key, "qwen35.%s", keys[i]);
        unsigned char *at = directory_of(&f, key);
        at[0] = 'Q';
        struct gguf *g = open_image(&f);
        assert_err(model_shape_read(g, &s, &err), ERR_FORMAT, &err, keys[i]);
        gguf_close(g);
        at[0] = 'q';
    }
    memcpy(value_of(&f, "general.architecture"), "llama2", 6);
    struct gguf *g = open_image(&f);
    struct model_shape s;
    struct err err = {0};
    assert_err(model_shape_read(g, &s, &err), ERR_UNSUPPORTED, &err, "\"llama2\", expected qwen35 or qwen35moe");
    gguf_close(g);
    free(f.data);
}

/* ---- tensors ---------------------------------------------------------------------------------------------------------------- */

/* Damage every tensor of a file in turn: last dimension one less, name gone, type unknown. */
static void damage_tensors(const char *spec, bool merge, bool is_vision)
{
    struct image f = make_file(spec, merge, is_vision);
    struct gguf *g = open_image(&f);
    const size_t n = gguf_n_tensors(g);
    struct model_shape s = {0};
    struct vision_shape v;
    struct weights_plan plan;
    struct err err = {0};
    if (is_vision)
        assert_ok(vision_shape_read(g, &v, &err), &err);
    else
        assert_ok(model_shape_read(g, &s, &err), &err);
    for (size_t i = 0; i < n; i++) {
        char name[TENSOR_NAME_BYTES];
        const int32_t dims = gguf_tensor_at(g, i)->n_dims;
        snprintf(name, sizeof name, "%s", gguf_tensor_at(g, i)->name);
        unsigned char *at = directory_of(&f, name), *ne = at + strlen(name) + 4 + 8 * (dims - 1), *type = ne + 8;
        for (int damage = 0; damage < 3; damage++) {
            unsigned char before[8];
            uint64_t last;
            memcpy(before, damage == 0 ? ne : damage == 1 ? at : type, 8);
            memcpy(&last, ne, 8);
            last--;
            if (damage == 0)
                memcpy(ne, &last, 8);
            else if (damage == 1)
                at[0] ^= 1;
            else
                memcpy(type, &(uint32_t){22}, 4);
            struct gguf *h = open_image(&f);
            const int want = damage <= 1 ? ERR_FORMAT : ERR_UNSUPPORTED;
            const char *const words = damage == 0 ? ": expected " : damage == 1 ? " is missing" : "IQ2_S";
            err_clear(&err);
            const int rc = is_vision ? vision_plan(h, &v, &plan, &err) : model_plan(h, &s, &plan, &err);
            assert_err(rc, want, &err, words);
            /* without the merged experts the separate ones are missed */
            const bool is_merged = damage == 1 && strstr(name, "gate_up");
            if (!test_contains(err.text, is_merged ? "ffn_gate_exps" : name))
                fail_msg("%s, damage %d: \"%s\"", name, damage, err.text);
            gguf_close(h);
            memcpy(damage == 0 ? ne : damage == 1 ? at : type, before, 8);
        }
    }
    model_shape_release(&s);
    gguf_close(g);
    free(f.data);
}

static void test_damaged_tensors(void **state)
{
    damage_tensors("tiny-dense:f32", false, false);
    damage_tensors("tiny-moe:f16", false, false);
    damage_tensors("tiny-moe:q8_0", true, false);
    damage_tensors("tiny-dense:f32", false, true);
}

/* Fewer blocks told than there are: what is left over is named, not left out. An MTP block may have parts that nobody knows. */
static void test_left_over_tensors(void **state)
{
    struct err err = {0};
    struct weights_plan plan;
    struct image f = make_file("tiny-dense:f32", false, false);
    memcpy(value_of(&f, "qwen35.block_count"), &(uint32_t){3}, 4);
    struct gguf *g = open_image(&f);
    struct model_shape s = {0};
    assert_ok(model_shape_read(g, &s, &err), &err);
    assert_err(model_plan(g, &s, &plan, &err), ERR_FORMAT, &err, "tensor blk.3.");
    assert_true(test_contains(err.text, "expected 3 blocks"));
    model_shape_release(&s);
    gguf_close(g);
    free(f.data);

    f = make_file("tiny-dense:f32", false, true);
    memcpy(value_of(&f, "clip.vision.block_count"), &(uint32_t){1}, 4);
    g = open_image(&f);
    struct vision_shape v;
    err_clear(&err);
    assert_ok(vision_shape_read(g, &v, &err), &err);
    assert_err(vision_plan(g, &v, &plan, &err), ERR_FORMAT, &err, "tensor v.blk.1.");
    gguf_close(g);
    free(f.data);

    char path[512];
    struct synthetic made = parse("tiny-dense");
    const struct synthetic_file file = {.seed = 1, .dtype = KN_F32};
    made.shape.n_nextn = 1;
    assert_ok(synthetic_write_model(temp_path(path, "mtp.gguf"), &made.shape, &file, &err), &err);
    synthetic_release(&made);
    f = read_file(path);
    memcpy(directory_of(&f, "blk.4.nextn.enorm.weight"), "blk.4.nextn.znorm.weight", 24);
    g = open_image(&f);
    assert_ok(model_shape_read(g, &s, &err), &err);
    assert_ok(model_plan(g, &s, &plan, &err), &err);
    assert_int_equal(plan.n_unknown, 1);
    model_shape_release(&s);
    gguf_close(g);
    free(f.data);
}

static void test_bad_values(void **state)
{
    static const struct {
        const char *tensor;
        float value;
        const char *words;
    } cases[] = {
        {"blk.1.ssm_a", 0.0f, "value 0 is 0, expected below 0"},
        {"blk.0.ssm_a", 0.25f, "value 0 is 0.25"},
        {"blk.2.attn_norm.weight", NAN, "value 0 is not a finite number"},
        {"output_norm.weight", INFINITY, "not a finite"},
    };
    struct kn_device *device = open_ref();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct image f = make_file("tiny-dense:f32", false, false);
        struct gguf *g = open_image(&f);
        struct model *m = NULL;
        struct err err = {0};
        memcpy(f.data + gguf_find_tensor(g, cases[i].tensor)->offset, &cases[i].value, 4);
        assert_err(model_open(device, g, NULL, &m, &err), ERR_FORMAT, &err, cases[i].words);
        assert_true(test_contains(err.text, cases[i].tensor));
        assert_null(m);
        gguf_close(g);
        free(f.data);
    }
    kn_device_close(device);
}

/* ---- loaded values ---------------------------------------------------------------------------------------------------------- */

/* "ref" keeps GGUF rows and ordinary memory, so that what was loaded can be looked at. */
static int compare_visit(void *ctx, const struct tensor_spec *spec)
{
    const struct gguf *g = ctx;
    if (!spec->slot)
        return 0;
    const struct gguf_tensor *t = gguf_find_tensor(g, spec->name);
    if (!t) { /* one of the two forms of the experts */
        assert_true(spec->flags & (TENSOR_MERGED | TENSOR_SPLIT));
        return 0;
    }
    float *want = malloc((size_t)t->n_elems * sizeof *want), *found = malloc((size_t)t->n_elems * sizeof *found);
    synthetic_values(spec, 1, 0, (size_t)t->n_elems, want);
    if (tensor_is_vector(spec)) {
        memcpy(found, *(kn_vec *)spec->slot, (size_t)t->n_elems * sizeof *found);
    } else {
        const struct kn_weight *w = spec->slot;
        assert_int_equal((int64_t)w->rows * w->cols * w->slices, t->n_elems);
        assert_int_equal(w->cols, spec->cols);
        kn_dequantize(w->dtype, w->data, t->n_elems, found);
    }
    const double worst = t->type == KN_Q8_0 ? 1e-4 : t->type == KN_BF16 ? 1e-5 : 0;
    if (test_nmse(found, want, (size_t)t->n_elems) > worst)
        fail_msg("%s: values differ", spec->name);
    free(want);
    free(found);
    return 0;
}

struct progress_seen {
    uint64_t last;
    int calls;
};

static bool on_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct progress_seen *seen = ctx;
    assert_true(done >= seen->last && done <= total);
    seen->last = done;
    seen->calls++;
    return true;
}

static void test_loaded_values(void **state)
{
    static const char *const specs[] = {"tiny-dense:f32", "tiny-dense:f16", "tiny-moe:f32", "tiny-moe:q8_0", "tiny-moe:bf16"};
    struct kn_device *device = open_ref();
    for (size_t i = 0; i < 2 * sizeof specs / sizeof *specs; i++) {
        struct image f = make_file(specs[i / 2], i % 2, false);
        struct gguf *g = open_image(&f);
        struct model *m = NULL;
        struct model_shape shape;
        struct weights_plan plan;
        struct err err = {0};
        struct progress_seen seen = {0};
        assert_ok(model_shape_read(g, &shape, &err), &err);
        assert_ok(model_plan(g, &shape, &plan, &err), &err);
        struct weights_progress progress = {.fn = on_progress, .ctx = &seen, .total_bytes = plan.weights_bytes};
        assert_ok(model_open(device, g, &progress, &m, &err), &err);
        assert_int_equal(progress.done_bytes, plan.weights_bytes);
        assert_int_equal(seen.last, plan.weights_bytes);
        assert_int_equal(plan.n_loaded, gguf_n_tensors(g));
        tensor_list_text(&m->shape, m, compare_visit, g);
        assert_true(m->shape.is_tied == (m->output.data == m->token_embd.data));
        if (m->shape.is_moe)
            assert_true((m->layers[0].e_up.data == NULL) == (i % 2 == 1));
        assert_null(m->layers[0].wq.data);
        assert_null(m->layers[3].w_qkv.data);
        model_shape_release(&shape);
        model_close(device, m);
        gguf_close(g);
        free(f.data);
    }
    struct image f = make_file("tiny-dense:f16", false, true);
    struct gguf *g = open_image(&f);
    struct vision_model *v = NULL;
    struct err err = {0};
    assert_ok(vision_model_open(device, g, 64, "text.gguf", NULL, &v, &err), &err);
    tensor_list_vision(&v->shape, v, compare_visit, g);
    vision_model_close(device, v);
    gguf_close(g);
    free(f.data);
    kn_device_close(device);
}

/* Values worked out by tests/golden/model_gen.py, the generator's twin in Python. */
static void test_generator(void **state)
{
    static const struct {
        const char *tensor;
        uint64_t index;
        float value;
    } cases[] = {
        {"token_embd.weight", 1000, -0x1.3p-2f},    {"blk.0.ssm_a", 3, -0x1.bccp-4f},
        {"blk.0.ssm_dt.bias", 1, -0x1.0f8p+0f},     {"blk.3.attn_q.weight", 77, 0.0f},
        {"blk.0.attn_norm.weight", 5, 0x1.f0cp-1f}, {"blk.2.ssm_conv1d.weight", 9, 0x1.64p-3f},
    };
    struct image f = make_file("tiny-dense:f32", false, false);
    struct gguf *g = open_image(&f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float v;
        struct err err = {0};
        assert_ok(gguf_tensor_read(g, gguf_find_tensor(g, cases[i].tensor), cases[i].index * 4, 4, &v, &err), &err);
        if (v != cases[i].value)
            fail_msg("%s[%d] is %a, expected %a", cases[i].tensor, (int)cases[i].index, (double)v, (double)cases[i].value);
    }
    gguf_close(g);
    free(f.data);
}

/* ---- dialects and side tensors ---------------------------------------------------------------------------------------------- */

/* Copies a model with changes: a router in BF16, dialect names and keys, scales, tensors of other names. */
struct copy {
    struct gguf_writer *w;
    bool is_data;
};

static int copy_visit(void *ctx, const struct tensor_spec *spec)
{
    struct copy *c = ctx;
    if (spec->flags & (TENSOR_MERGED | TENSOR_OPTIONAL))
        return 0;
    const enum kn_dtype type = spec->role == TENSOR_ROUTER ? KN_BF16 : KN_F32;
    const bool has_scale = spec->flags & TENSOR_SPLIT;
    const size_t n = (size_t)(spec->rows * spec->slices * spec->cols);
    if (!c->is_data) {
        char name[TENSOR_NAME_BYTES + 8];
        gguf_writer_tensor(c->w, spec->alias[0] ? spec->alias : spec->name, spec->n_dims, spec->ne, type);
        if (has_scale) { /* both spellings, and both sizes */
            const bool is_gate = strstr(spec->name, "gate") != NULL;
            snprintf(name, sizeof name, "%.*s.scale", (int)(strlen(spec->name) - (is_gate ? strlen(".weight") : 0)),
                     spec->name);
            gguf_writer_tensor(c->w, name, 1, (int64_t[]){is_gate ? spec->slices : 1}, KN_F32);
        }
        return 0;
    }
    float *values = malloc(n * sizeof *values);
    synthetic_values(spec, 1, 0, n, values);
    void *coded = malloc(n * sizeof *values);
    assert_true(kn_quantize(type, values, (int64_t)n, coded));
    gguf_writer_data(c->w, coded, n * (type == KN_F32 ? 4 : 2));
    free(values);
    free(coded);
    if (has_scale && strstr(spec->name, "gate"))
        gguf_writer_data(c->w, (float[]){1, 2, 3, 4, 5, 6, 7, 8}, 32);
    else if (has_scale)
        gguf_writer_data(c->w, (float[]){0.5f}, 4);
    return 0;
}

static void write_dialect(const char *path, const struct model_shape *s)
{
    struct copy c = {0};
    struct err err = {0};
    static const char *const p = "qwen35moe";
    const struct {
        const char *key;
        int64_t value;
    } keys[] = {
        {"block_count", s->n_layers},
        {"context_length", 100},
        {"embedding_length", s->n_embd},
        {"attention.head_count", s->n_head},
        {"attention.key_length", s->head_dim},
        {"rope.dimension_count", s->n_rot},
        {"ssm.conv_kernel", 4},
        {"ssm.state_size", s->d_k},
        {"ssm.group_count", s->n_k},
        {"ssm.time_step_rank", s->n_v},
        {"ssm.inner_size", s->n_v * s->d_v},
        {"expert_count", s->n_experts},
        {"expert_used_count", 2},
        {"feed_forward_length", 64},
        {"expert_shared_feed_forward_length", s->n_ff_shared},
    };
    char key[96];
    assert_ok(gguf_writer_create(&c.w, &err), &err);
    gguf_writer_string(c.w, "general.architecture", p);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        snprintf(key, sizeof key, "%s.%s", p, keys[i].key);
        gguf_writer_u32(c.w, key, (uint32_t)keys[i].value);
    }
    gguf_writer_i32_array(c.w, "qwen35moe.attention.head_count_kv", (int32_t[]){0, 0, 0, 1}, 4);
    gguf_writer_i32_array(c.w, "qwen35moe.mrope_sections", (int32_t[]){3, 3, 2}, 3);
    gguf_writer_bool(c.w, "qwen35moe.rope.mrope_interleaved", true);
    gguf_writer_bool(c.w, "qwen35moe.ssm.v_head_reordered", true);
    gguf_writer_f32(c.w, "qwen35moe.attention.layer_norm_rms_epsilon", 1e-6f);
    gguf_writer_u32(c.w, "qwen35moe.rope.freq_base", 10000000);
    gguf_writer_bool_array(c.w, "qwen35moe.attention.recurrent_layers", (bool[]){true, true, true, false}, 4);
    tensor_list_text(s, NULL, copy_visit, &c);
    gguf_writer_tensor(c.w, "v.blk.0.attn_q.weight", 1, (int64_t[]){8}, KN_F32);
    gguf_writer_begin(c.w, path);
    c.is_data = true;
    tensor_list_text(s, NULL, copy_visit, &c);
    gguf_writer_data(c.w, (float[8]){0}, 32);
    assert_ok(gguf_writer_end(c.w, &err), &err);
    gguf_writer_free(c.w);
}

static void test_dialect(void **state)
{
    char path[512];
    struct synthetic s = parse("tiny-moe");
    struct gguf *g = NULL;
    struct model *m = NULL;
    struct weights_plan plan;
    struct err err = {0};
    write_dialect(temp_path(path, "dialect.gguf"), &s.shape);
    assert_ok(gguf_open(path, &g, &err), &err);
    struct kn_device *device = open_ref();
    assert_ok(model_open(device, g, NULL, &m, &err), &err);
    assert_int_equal(m->shape.n_head_kv, 1);
    assert_int_equal(m->shape.n_ff_expert, 32); /* feed_forward_length / expert_used_count */
    assert_int_equal(m->shape.rope_sections[2], 2);
    assert_true(m->shape.rope_freq_base == 1e7f);
    assert_non_null(m->layers[0].ssm_dt);
    assert_int_equal(m->layers[0].router.dtype, KN_F32);
    assert_non_null(m->layers[0].e_gate.scales);
    assert_true(m->layers[0].e_gate.scales[7] == 8 && m->layers[0].e_up.scales[7] == 0.5f);
    assert_null(m->layers[0].e_down.scales);
    assert_ok(model_plan(g, &m->shape, &plan, &err), &err);
    assert_int_equal(plan.n_unknown, 1);
    assert_int_equal(plan.other_bytes, 32);
    model_close(device, m);
    gguf_close(g);
    kn_device_close(device);
    synthetic_release(&s);
}

static void test_mtp(void **state)
{
    char path[512];
    struct synthetic s = parse("tiny-moe");
    const struct synthetic_file file = {.seed = 1, .dtype = KN_F16};
    struct gguf *g = NULL;
    struct model_shape shape;
    struct weights_plan plan;
    struct err err = {0};
    s.shape.n_nextn = 1;
    assert_ok(synthetic_write_model(temp_path(path, "mtp.gguf"), &s.shape, &file, &err), &err);
    assert_ok(gguf_open(path, &g, &err), &err);
    assert_ok(model_shape_read(g, &shape, &err), &err);
    assert_int_equal(shape.n_layers, 4);
    assert_int_equal(shape.n_nextn, 1);
    assert_ok(model_plan(g, &shape, &plan, &err), &err);
    assert_int_equal(plan.n_nextn_tensors, 16 + 4); /* MODEL.md sections 2 and 7 */
    assert_int_equal(plan.n_unknown, 0);
    model_shape_release(&shape);
    gguf_close(g);
    synthetic_release(&s);
}

/* ---- the vision file -------------------------------------------------------------------------------------------------------- */

static void test_vision(void **state)
{
    struct image f = make_file("tiny-dense:f32", false, true);
    struct gguf *g = open_image(&f);
    struct kn_device *device = open_ref();
    struct vision_model *v = NULL;
    struct vision_shape s;
    struct err err = {0};
    assert_err(vision_model_open(device, g, 128, "text.gguf", NULL, &v, &err), ERR_FORMAT, &err, "projection_dim is 64");
    assert_true(test_contains(err.text, "text.gguf") && test_contains(err.text, "128") && test_contains(err.text, "image"));
    assert_ok(vision_shape_read(g, &s, &err), &err);
    assert_int_equal(s.grid_side, 8);
    assert_int_equal(s.max_pixels, 16777216);
    struct model_shape text;
    assert_err(model_shape_read(g, &text, &err), ERR_UNSUPPORTED, &err, "vision file");
    gguf_close(g);
    static const struct {
        const char *key, *bytes;
        size_t n;
        int code;
        const char *words;
    } cases[] = {
        {"clip.vision.is_deepstack_layers", "\0\1", 2, ERR_UNSUPPORTED, "true for layer 1"},
        {"clip.projector_type", "qwen2vl_merger", 14, ERR_UNSUPPORTED, "qwen2vl_merger"},
        {"clip.use_gelu", "\0", 1, ERR_UNSUPPORTED, "use_gelu"},
        {"clip.vision.attention.head_count", "\3\0\0\0", 4, ERR_FORMAT, "attention.head_count 3"},
        {"clip.vision.image_size", "\x81\0\0\0", 4, ERR_FORMAT, "image_size 129"},
        {"clip.vision.image_std", "\0\0\0\0", 4, ERR_FORMAT, "image_std"},
        {"clip.vision.image_max_pixels", "\1\0\0\0", 4, ERR_FORMAT, "image_max_pixels is 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char before[16], *at = value_of(&f, cases[i].key);
        memcpy(before, at, sizeof before);
        memcpy(at, cases[i].bytes, cases[i].n);
        g = open_image(&f);
        assert_err(vision_shape_read(g, &s, &err), cases[i].code, &err, cases[i].words);
        gguf_close(g);
        memcpy(at, before, sizeof before);
    }
    free(f.data);
    kn_device_close(device);
}

/* ---- plans and noise models ------------------------------------------------------------------------------------------------- */

static void test_published(void **state)
{
    /* added up from the tables of MODEL.md by a few lines of Python */
    static const struct {
        const char *spec;
        int32_t tensors;
        uint64_t params;
    } cases[] = {
        {"qwen3.5-0.8b:f16", 320, 752393024},
        {"qwen3.5-27b:f16", 851, 26895998464},
        {"qwen3.5-35b-a3b:f16", 733, 34660610688},
        {"qwen3.5-397b-a17b:f16", 0, 396346350336},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct synthetic s = parse(cases[i].spec);
        struct weights_plan text, vision;
        struct err err = {0};
        assert_ok(synthetic_plan(&s, &text, &vision, &err), &err);
        if (cases[i].tensors)
            assert_int_equal(text.n_loaded, cases[i].tensors);
        assert_int_equal(text.n_params, cases[i].params);
        assert_true(text.bytes_per_token <= text.weights_bytes && text.bytes_per_token > text.weights_bytes / 50);
        assert_true(vision.n_params > 80000000 && vision.bytes_per_token == 0);
        synthetic_release(&s);
    }
    struct synthetic part;
    struct err err = {0};
    assert_ok(synthetic_parse("Qwen3.5-35B-A3B/8:Q4_K_M", &part, &err), &err);
    assert_int_equal(part.shape.n_layers, 8);
    assert_true(part.is_mix);
    synthetic_release(&part);
    assert_err(synthetic_parse("qwen3.5-1b:q4_k", &part, &err), ERR_INVAL, &err, "qwen3.5-122b-a10b");
    assert_err(synthetic_parse("qwen3.5-2b:q9", &part, &err), ERR_INVAL, &err, "\"q9\"");
    assert_err(synthetic_parse("qwen3.5-2b/25:q4_k", &part, &err), ERR_INVAL, &err, "1 to 24");
    assert_err(synthetic_parse("qwen3.5-2b/:q4_k", &part, &err), ERR_INVAL, &err, "1 to 24");
    assert_err(synthetic_parse("qwen3.5-2b:i32", &part, &err), ERR_INVAL, &err, "i32");
}

static void test_noise(void **state)
{
    struct kn_device *device = open_ref();
    for (int type = 0; type < KN_DTYPE_COUNT; type++) {
        char spec[64];
        if (!kn_dtype_info(type) || type == KN_I32)
            continue;
        snprintf(spec, sizeof spec, "tiny-wide-moe/1:%s", kn_dtype_info(type)->name);
        struct synthetic s = parse(spec);
        struct weights_plan plan;
        struct model *m = NULL, *again = NULL;
        struct weights_progress progress = {0};
        struct err err = {0};
        assert_ok(synthetic_plan(&s, &plan, NULL, &err), &err);
        assert_ok(synthetic_open(device, &s, &progress, &m, &err), &err);
        assert_int_equal(progress.done_bytes, plan.weights_bytes);
        assert_int_equal(m->layers[0].e_gate.dtype, type);
        assert_true(m->weights_bytes == plan.weights_bytes && m->shape.is_untrained);
        const struct kn_weight *w = &m->layers[0].w_qkv;
        const int64_t n = (int64_t)w->rows * w->cols;
        float *values = malloc((size_t)n * sizeof *values);
        double sum = 0, squares = 0;
        kn_dequantize(w->dtype, w->data, n, values);
        for (int64_t i = 0; i < n; i++) {
            sum += values[i];
            squares += (double)values[i] * values[i];
        }
        /* 209.02 * 2^(-8 - 4) */
        const double want = 209.02 / 4096, found = sqrt(squares / (double)n);
        if (!(found > want / 2 && found < want * 2 && fabs(sum / (double)n) < want / 4))
            fail_msg("%s: mean %g, deviation %g, expected 0 and %g", spec, sum / (double)n, found, want);
        if (type == KN_Q4_K) {
            assert_ok(synthetic_open(device, &s, NULL, &again, &err), &err);
            assert_memory_equal(again->layers[0].w_qkv.data, w->data, kn_row_bytes(w->dtype, w->cols) * (size_t)w->rows);
            model_close(device, again);
        }
        free(values);
        model_close(device, m);
        synthetic_release(&s);
    }
    struct synthetic s = parse("tiny-dense:q4_k");
    struct vision_model *v = NULL;
    struct err err = {0};
    assert_ok(synthetic_vision_open(device, &s, NULL, &v, &err), &err);
    assert_int_equal(v->layers[1].w_up.dtype, KN_F16);
    vision_model_close(device, v);
    synthetic_release(&s);
    kn_device_close(device);
}

/* ---- vocabularies and descriptions ------------------------------------------------------------------------------------------ */

static void test_vocab(void **state)
{
    static const char text[] = "<|im_start|>user\nA person is at the door: {\"person\":true}<|im_end|>\n";
    char path[512];
    struct err err = {0};
    struct synthetic s = parse("tiny-dense:f32");
    const struct synthetic_file file = {.seed = 1, .dtype = KN_F16};
    struct en_vocab *v = NULL;
    assert_ok(synthetic_write_model(temp_path(path, "vocab.gguf"), &s.shape, &file, &err), &err);
    assert_ok(en_vocab_open(path, &v, &err), &err);
    int32_t *ids = NULL;
    size_t n = 0, n_back = 0;
    char *back = NULL;
    assert_ok(en_vocab_tokenize(v, text, strlen(text), true, &ids, &n, &err), &err);
    assert_true(n < strlen(text) / 3); /* ordinary English and JSON are few tokens */
    assert_ok(en_vocab_detokenize(v, ids, n, true, &back, &n_back, &err), &err);
    assert_string_equal(back, text);
    free(ids);
    free(back);
    en_vocab_close(v);
    for (int32_t size = synthetic_vocab_min(); size < 1100; size += 90) { /* every beginning of the merges is a vocabulary */
        struct tokenizer *tokenizer = NULL;
        assert_ok(vocab_synthetic(size, &tokenizer, &err), &err);
        assert_int_equal(tokenizer_n_tokens(tokenizer), size);
        assert_true(tokenizer_find(tokenizer, "<|image_pad|>", 13) > 0);
        tokenizer_free(tokenizer);
    }
    struct tokenizer *tokenizer = NULL;
    assert_err(vocab_synthetic(synthetic_vocab_min() - 1, &tokenizer, &err), ERR_INVAL, &err, "289");
    struct image f = read_file(path);
    memcpy(value_of(&f, "tokenizer.ggml.pre"), "qwen2x", 6);
    struct gguf *g = open_image(&f);
    assert_err(vocab_read(g, &tokenizer, &err), ERR_UNSUPPORTED, &err, "tokenizer.ggml.pre is \"qwen2x\"");
    gguf_close(g);
    memcpy(value_of(&f, "tokenizer.ggml.pre"), "qwen35", 6);
    memcpy(value_of(&f, "tokenizer.ggml.eos_token_id"), &(uint32_t){5000}, 4);
    g = open_image(&f);
    assert_err(vocab_read(g, &tokenizer, &err), ERR_FORMAT, &err, "eos_token_id is 5000");
    gguf_close(g);
    free(f.data);
    synthetic_release(&s);
}

/* The published size has the family's ids. */
static void test_family_vocab(void **state)
{
    struct synthetic_vocab *v = NULL;
    struct err err = {0};
    assert_ok(synthetic_vocab_create(248320, &v, &err), &err);
    assert_int_equal(v->eos, 248046);
    assert_string_equal(v->tokens[248056], "<|image_pad|>");
    assert_string_equal(v->tokens[248068], "<think>");
    assert_string_equal(v->tokens[198], "\xC4\x8A"); /* newline */
    assert_string_equal(v->tokens[248319], "[PAD248319]");
    assert_int_equal(v->types[248319], 5);
    synthetic_vocab_free(v);
}

static void test_describe(void **state)
{
    char path[512], *text = NULL;
    struct err err = {0};
    struct synthetic s = parse("tiny-moe");
    const struct synthetic_file file = {.seed = 1, .dtype = KN_Q8_0};
    assert_ok(synthetic_write_model(temp_path(path, "d.gguf"), &s.shape, &file, &err), &err);
    assert_ok(en_describe_file(path, false, &text, &err), &err);
    assert_true(test_contains(text, "3 Gated DeltaNet, 1 full attention") && test_contains(text, "untrained"));
    assert_true(test_contains(text, "8 experts of 32, 2 used") && test_contains(text, "Q8_0"));
    assert_false(test_contains(text, "blk.0.ssm_a"));
    free(text);
    assert_ok(en_describe_file(path, true, &text, &err), &err);
    assert_true(test_contains(text, "blk.0.ssm_a"));
    free(text);
    assert_ok(synthetic_write_vision(path, &s.vision, &file, &err), &err);
    assert_ok(en_describe_file(path, true, &text, &err), &err);
    assert_true(test_contains(text, "vision tower") && test_contains(text, "v.post_ln.weight"));
    free(text);
    /* what cannot be loaded is described nevertheless, with the reason */
    struct gguf_writer *w = NULL;
    assert_ok(gguf_writer_create(&w, &err), &err);
    gguf_writer_string(w, "general.architecture", "llama");
    gguf_writer_begin(w, path);
    assert_ok(gguf_writer_end(w, &err), &err);
    gguf_writer_free(w);
    assert_ok(en_describe_file(path, true, &text, &err), &err);
    assert_true(test_contains(text, "CANNOT BE LOADED") && test_contains(text, "\"llama\""));
    free(text);
    assert_int_equal(unlink(path), 0);
    assert_err(en_describe_file(path, true, &text, &err), ERR_NOT_FOUND, &err, "d.gguf");
    synthetic_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shape),
        cmocka_unit_test(test_impossible_shapes),
        cmocka_unit_test(test_required_keys),
        cmocka_unit_test(test_damaged_tensors),
        cmocka_unit_test(test_left_over_tensors),
        cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_loaded_values),
        cmocka_unit_test(test_generator),
        cmocka_unit_test(test_dialect),
        cmocka_unit_test(test_mtp),
        cmocka_unit_test(test_vision),
        cmocka_unit_test(test_published),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_vocab),
        cmocka_unit_test(test_family_vocab),
        cmocka_unit_test(test_describe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
