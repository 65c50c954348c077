/*
 * config/model/convert.py: checkpoints of the golden models become the files that synthetic.c writes of them, whose logits test_golden
 * holds against the official implementation. The checkpoints are made by convert_cases.py, in transformers' names and orders.
 */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/gguf.h"
#include "engine/synthetic.h"
#include "engine/tensor_list.h"
#include "engine/weights.h"
#include "kernels/dtype.h"
#include "tests/support/golden.h"
#include "tests/support/program.h"

#define TIME_LIMIT_MS 120000

/* $HERON_PYTHON, or the distribution's. */
static const char *python(void)
{
    const char *path = getenv("HERON_PYTHON");
    return path && *path ? path : "/usr/bin/python3";
}

static void run_python(const char *const *args, const char *expected_out)
{
    struct program p = {0};
    /* no preloaded sanitizer of ours in the interpreter */
    program_start(&p, python(), args, NULL, PROGRAM_ARGS("LD_PRELOAD=", "OPENBLAS_NUM_THREADS=1"));
    const int status = program_await(&p, TIME_LIMIT_MS);
    char *out = program_text(&p, false), *err = program_text(&p, true);
    if (status != 0 || (expected_out && strcmp(out, expected_out) != 0))
        fail_msg("%s %s ended with %d: %s%s", python(), args[0], status, out, err);
    free(out);
    free(err);
    program_release(&p);
}

static void need_numpy(void)
{
    struct program p = {0};
    program_start(&p, python(), PROGRAM_ARGS("-c", "import numpy"), NULL, NULL);
    const int status = program_await(&p, TIME_LIMIT_MS);
    program_release(&p);
    if (status != 0)
        skip_because("%s has no numpy (python3-numpy; or set HERON_PYTHON): nothing was converted", python());
}

/* A converted checkpoint, both files open. */
struct converted {
    struct golden golden;
    char checkpoint[300], text_path[300], vision_path[300];
    struct gguf *text, *vision;
};

static void convert_as(struct converted *c, const char *type)
{
    struct err err = {0};
    gguf_close(c->text);
    gguf_close(c->vision);
    c->text = c->vision = NULL;
    run_python(PROGRAM_ARGS("-B", "config/model/convert.py", c->checkpoint, "--out", c->text_path, "--vision", c->vision_path,
                            "--type", type),
               NULL);
    assert_ok(gguf_open(c->text_path, &c->text, &err), &err);
    assert_ok(gguf_open(c->vision_path, &c->vision, &err), &err);
}

static void converted_open(struct converted *c, const char *model, const char *type)
{
    *c = (struct converted){0};
    golden_load(model, &c->golden);
    const char *dir = test_temp_dir();
    snprintf(c->checkpoint, sizeof c->checkpoint, "%s/checkpoint", dir);
    snprintf(c->text_path, sizeof c->text_path, "%s/text.gguf", dir);
    snprintf(c->vision_path, sizeof c->vision_path, "%s/mmproj.gguf", dir);
    run_python(PROGRAM_ARGS("-B", "tests/engine/convert_cases.py", "make", model, c->checkpoint), NULL);
    convert_as(c, type);
}

static void converted_close(struct converted *c)
{
    gguf_close(c->text);
    gguf_close(c->vision);
    golden_free(&c->golden);
}

static void *read_tensor(const struct gguf *g, const struct gguf_tensor *t)
{
    struct err err = {0};
    void *bytes = malloc(t->bytes ? t->bytes : 1);
    assert_non_null(bytes);
    assert_ok(gguf_tensor_read(g, t, 0, t->bytes, bytes, &err), &err);
    return bytes;
}

/* Every tensor of `want` is in `got`, the same to the bit. ssm_a went through a logarithm in float32: a few parts in 10^7. */
static void check_same_tensors(const struct gguf *got, const struct gguf *want)
{
    for (size_t i = 0; i < gguf_n_tensors(want); i++) {
        const struct gguf_tensor *w = gguf_tensor_at(want, i), *t = gguf_find_tensor(got, w->name);
        if (!t || t->type != KN_F32 || w->type != KN_F32 || memcmp(t->ne, w->ne, sizeof w->ne) != 0)
            fail_msg("%s is missing, or of another shape or type", w->name);
        float *a = read_tensor(got, t), *b = read_tensor(want, w);
        const bool is_rounded = strstr(w->name, ".ssm_a") && !strstr(w->name, ".ssm_alpha");
        for (int64_t k = 0; k < w->n_elems; k++)
            if (is_rounded ? !(a[k] / b[k] > 1 - 1e-6F && a[k] / b[k] < 1 + 1e-6F) : memcmp(&a[k], &b[k], sizeof *a) != 0)
                fail_msg("%s: value %lld is %.9g, expected %.9g", w->name, (long long)k, (double)a[k], (double)b[k]);
        free(a);
        free(b);
    }
}

static void check_shapes(const struct converted *c)
{
    struct err err = {0};
    struct model_shape s = {0};
    struct vision_shape v = {0};
    const struct model_shape *w = &c->golden.text;
    assert_ok(model_shape_read(c->text, &s, &err), &err);
    assert_ok(vision_shape_read(c->vision, &v, &err), &err);
    assert_string_equal(s.name, "Heron yard");
    assert_false(s.is_untrained);
    assert_int_equal(s.n_nextn, 1);
    assert_int_equal(s.n_layers, w->n_layers);
    assert_memory_equal(s.is_linear, w->is_linear, (size_t)w->n_layers * sizeof *w->is_linear);
    assert_int_equal(s.n_vocab, w->n_vocab);
    assert_int_equal(s.n_head, w->n_head);
    assert_int_equal(s.n_head_kv, w->n_head_kv);
    assert_int_equal(s.head_dim, w->head_dim);
    assert_int_equal(s.n_rot, w->n_rot);
    assert_memory_equal(s.rope_sections, w->rope_sections, sizeof w->rope_sections);
    assert_float_equal(s.rope_freq_base, w->rope_freq_base, 0);
    assert_int_equal(s.n_k, w->n_k);
    assert_int_equal(s.n_v, w->n_v);
    assert_int_equal(s.d_k, w->d_k);
    assert_int_equal(s.d_v, w->d_v);
    assert_int_equal(s.is_tied, w->is_tied);
    assert_int_equal(s.trained_context, 4096);
    assert_int_equal(v.n_head, c->golden.vision.n_head);
    assert_int_equal(v.grid_side, c->golden.vision.grid_side);
    assert_int_equal(v.min_pixels, c->golden.vision.min_pixels);
    assert_int_equal(v.max_pixels, c->golden.vision.max_pixels);
    assert_float_equal(v.mean[2], 0.5, 0);
    model_shape_release(&s);
}

/* The MTP block: its tensors are all there, its own four with their values, the norms as whole factors. */
static void check_mtp(const struct converted *c)
{
    char name[64];
    const int32_t L = c->golden.text.n_layers;
    size_t n = 0;
    snprintf(name, sizeof name, "blk.%d.", L);
    for (size_t i = 0; i < gguf_n_tensors(c->text); i++)
        n += strncmp(gguf_tensor_at(c->text, i)->name, name, strlen(name)) == 0;
    assert_int_equal(n, 15);
    const int32_t E = c->golden.text.n_embd;
    const struct {
        const char *name, *of; /* in the file; in convert_cases.py */
        enum tensor_role role;
        int64_t rows, cols;
    } made_up[] = {{"nextn.eh_proj", "fc", TENSOR_MATRIX, E, 2 * E},
                   {"nextn.enorm", "pre_fc_norm_embedding", TENSOR_NORM, 1, E},
                   {"nextn.hnorm", "pre_fc_norm_hidden", TENSOR_NORM, 1, E},
                   {"nextn.shared_head_norm", "norm", TENSOR_NORM, 1, E}};
    for (size_t i = 0; i < sizeof made_up / sizeof *made_up; i++) {
        const size_t n_values = (size_t)(made_up[i].rows * made_up[i].cols);
        int log2_cols = 0;
        while ((made_up[i].cols >> (log2_cols + 1)) != 0)
            log2_cols++;
        struct tensor_spec spec = {.role = made_up[i].role, .cols = made_up[i].cols, .gain = -8 - log2_cols / 2};
        snprintf(spec.name, sizeof spec.name, "%s", made_up[i].of);
        snprintf(name, sizeof name, "blk.%d.%s.weight", L, made_up[i].name);
        const struct gguf_tensor *t = gguf_find_tensor(c->text, name);
        assert_non_null(t);
        assert_int_equal(t->ne[0], made_up[i].cols);
        assert_int_equal(t->n_elems, n_values);
        float *x = read_tensor(c->text, t), *want = malloc(n_values * sizeof *want);
        synthetic_values(&spec, c->golden.seed, 0, n_values, want);
        assert_memory_equal(x, want, n_values * sizeof *want);
        free(x);
        free(want);
    }
}

static void files_are_the_synthetic_ones(void **state)
{
    static const char *const models[] = {"dense1", "dense2", "dense3"}; /* n_v = n_k, 2 n_k, 3 n_k; tied and not */
    need_numpy();
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        struct err err = {0};
        struct converted c;
        struct gguf *text = NULL, *vision = NULL;
        char path[300];
        converted_open(&c, models[m], "f32");
        const struct synthetic_file file = {.seed = c.golden.seed, .dtype = KN_F32, .bare_vocab = true};
        snprintf(path, sizeof path, "%s/synthetic.gguf", test_temp_dir());
        assert_ok(synthetic_write_model(path, &c.golden.text, &file, &err), &err);
        assert_ok(gguf_open(path, &text, &err), &err);
        check_same_tensors(c.text, text);
        assert_int_equal(gguf_n_tensors(c.text), gguf_n_tensors(text) + 15);
        snprintf(path, sizeof path, "%s/mmproj.gguf", test_temp_dir());
        assert_ok(synthetic_write_vision(path, &c.golden.vision, &file, &err), &err);
        assert_ok(gguf_open(path, &vision, &err), &err);
        check_same_tensors(c.vision, vision);
        assert_int_equal(gguf_n_tensors(c.vision), gguf_n_tensors(vision));
        check_shapes(&c);
        check_mtp(&c);
        gguf_close(text);
        gguf_close(vision);
        converted_close(&c);
    }
}

/* Matrices in the type asked for, as our own rounding has them; what must stay F32 does. */
static void check_type(const struct gguf *got, const struct gguf *want, int type)
{
    size_t n_matrices = 0;
    for (size_t i = 0; i < gguf_n_tensors(want); i++) {
        const struct gguf_tensor *w = gguf_tensor_at(want, i), *t = gguf_find_tensor(got, w->name);
        const bool is_patch = strncmp(w->name, "v.patch_embd.weight", 19) == 0;
        const bool stays =
            w->n_dims == 1 || strstr(w->name, "ssm_conv1d") || strstr(w->name, "position_embd") || (is_patch && type != KN_F16);
        const int expected = stays ? KN_F32 : type == KN_Q8_0 && w->ne[0] % 32 ? KN_F16 : type;
        if (t->type != expected)
            fail_msg("%s is %s, expected %s", w->name, kn_dtype_name(t->type), kn_dtype_name(expected));
        float *x = read_tensor(want, w);
        void *bytes = read_tensor(got, t), *rounded = malloc(t->bytes);
        assert_true(kn_quantize((enum kn_dtype)expected, x, w->n_elems, rounded));
        assert_memory_equal(bytes, rounded, t->bytes);
        n_matrices += !stays;
        free(x);
        free(bytes);
        free(rounded);
    }
    assert_true(n_matrices >= 8);
}

static void types_are_rounded_as_ours(void **state)
{
    static const struct {
        const char *name;
        int type;
    } types[] = {{"f16", KN_F16}, {"bf16", KN_BF16}, {"q8_0", KN_Q8_0}};
    need_numpy();
    struct converted f32, c;
    converted_open(&f32, "dense2", "f32"); /* its vision tower has rows of 48 and 80: no whole blocks of 32 */
    converted_open(&c, "dense2", "f32");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        convert_as(&c, types[i].name);
        check_type(c.text, f32.text, types[i].type);
        check_type(c.vision, f32.vision, types[i].type);
    }
    converted_close(&f32);
    converted_close(&c);
}

static void same_checkpoint_same_bytes(void **state)
{
    need_numpy();
    struct converted a, b;
    converted_open(&a, "dense1", "q8_0");
    converted_open(&b, "dense1", "q8_0");
    const char *const paths[2][2] = {{a.text_path, b.text_path}, {a.vision_path, b.vision_path}};
    for (int i = 0; i < 2; i++) {
        size_t n, m;
        char *x = test_read_file(paths[i][0], &n), *y = test_read_file(paths[i][1], &m);
        assert_int_equal(n, m);
        assert_memory_equal(x, y, n);
        free(x);
        free(y);
    }
    converted_close(&a);
    converted_close(&b);
}

static void vocabulary_is_the_tokenizers(void **state)
{
    need_numpy();
    struct err err = {0};
    struct converted c;
    struct en_vocab *vocab = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    converted_open(&c, "dense1", "f32");
    assert_ok(en_vocab_open(c.text_path, &vocab, &err), &err);
    const char *text = "The the a<think><|im_end|>";
    /* T is byte 84 of which 33 are not in front; 256 "th", 257 "the", 258 " the", 259 " a"; added tokens from 260 on */
    static const int32_t expected[] = {'T' - 33, 'h' - 33, 'e' - 33, 258, 259, 268, 262};
    assert_ok(en_vocab_tokenize(vocab, text, strlen(text), true, &ids, &n, &err), &err);
    assert_int_equal(n, sizeof expected / sizeof *expected);
    assert_memory_equal(ids, expected, sizeof expected);
    free(ids);
    en_vocab_close(vocab);
    uint32_t eos = 0;
    static const struct {
        uint64_t id;
        int64_t type;
    } types[] = {{258, 1}, {262, 3}, {267, 3}, {268, 4}, {270, 5}, {511, 5}}; /* normal, control twice, user-defined, unused */
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        int64_t type = 0;
        assert_ok(gguf_get_i64_at(c.text, "tokenizer.ggml.token_type", types[i].id, &type, &err), &err);
        assert_int_equal(type, types[i].type);
    }
    assert_ok(gguf_get_u32(c.text, "tokenizer.ggml.eos_token_id", &eos, &err), &err);
    assert_int_equal(eos, 262);
    assert_true(gguf_string_is(c.text, "tokenizer.chat_template", "{{ messages }}"));
    converted_close(&c);
}

static void broken_checkpoints_are_refused(void **state)
{
    need_numpy();
    char folder[300];
    snprintf(folder, sizeof folder, "%s/broken", test_temp_dir());
    run_python(PROGRAM_ARGS("-B", "tests/engine/convert_cases.py", "refuse", "dense2", folder), "30\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_the_synthetic_ones),   cmocka_unit_test(types_are_rounded_as_ours),
        cmocka_unit_test(same_checkpoint_same_bytes),     cmocka_unit_test(vocabulary_is_the_tokenizers),
        cmocka_unit_test(broken_checkpoints_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
