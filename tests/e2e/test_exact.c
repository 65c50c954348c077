/*
 * The shipped model's logits against exact arithmetic: the same weights written out as F32, so that nothing is rounded to eight bits on the way, and the processor without any of its
 * vector instructions. Every level of instructions that this machine has must stay close to that. Between each other, levels with a fused multiply-add give the same bits; only pictures
 * are rounded to bfloat16 where tiles multiply that.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/gguf.h"
#include "kernels/dtype.h"
#include "tests/support/box.h"
#include "tests/support/test.h"

#define KL_MAX 0.01 /* mean over the rows, in nats */
#define SURE_GAP                                                                                                               \
    0.25F /* Between the two largest logits. A last bit that differs makes another eight-bit activation now and then, and that up to a tenth of a logit. */
#define SCENES 3
#define MODEL  "config/model/heron.gguf"
#define VISION "config/model/mmproj-heron.gguf"
#define ALIGN  32

static const char question[] =
    "<|im_start|>user\n%sDescribe what this camera sees.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n%s";
static const char *const answers[SCENES] = {
    "{\"summary\":\"A person in a red jacket walks along the bays; a white van is "
    "parked.\",\"people\":1,\"vehicles\":1,\"animals\":0,\"hazard\":false}",
    "{\"summary\":\"Nobody is there. Two cars are parked.\",\"people\":0,\"vehicles\":2,\"animals\":0,\"hazard\":false}",
    "{\"summary\":\"A dog sits at the gate, and smoke rises behind the "
    "building.\",\"people\":0,\"vehicles\":0,\"animals\":1,\"hazard\":true}",
};

/* By architecture, the plainest one first. */
static const struct {
    const char *name;
    bool is_fused, rounds_pictures;
} levels[] = {
    {"scalar", false, false}, {"avx2", true, false}, {"avx512", true, false},
    {"amx", true, true},      {"neon", true, false}, {"i8mm", true, true},
};
#define N_LEVELS (sizeof levels / sizeof *levels)

/* The file again with every tensor as F32; keys as they are. */
static void write_exact(const char *from, const char *to)
{
    struct err err = {0};
    struct gguf *g = NULL;
    assert_ok(gguf_open(from, &g, &err), &err);
    FILE *f = fopen(to, "wb");
    assert_non_null(f);
    const uint64_t counts[2] = {gguf_n_tensors(g), gguf_n_entries(g)};
    const uint32_t version = 3, f32 = KN_F32;
    fwrite("GGUF", 1, 4, f);
    fwrite(&version, sizeof version, 1, f);
    fwrite(counts, sizeof *counts, 2, f);
    for (size_t i = 0; i < counts[1]; i++) {
        const struct gguf_entry *e = gguf_entry_at(g, i);
        const uint64_t n_key = strlen(e->key), n = e->n_bytes;
        const uint32_t type = (uint32_t)e->type, elem = (uint32_t)e->elem_type;
        fwrite(&n_key, sizeof n_key, 1, f);
        fwrite(e->key, 1, n_key, f);
        fwrite(&type, sizeof type, 1, f);
        if (type == GGUF_ARRAY) {
            fwrite(&elem, sizeof elem, 1, f);
            fwrite(&e->count, sizeof e->count, 1, f);
        } else if (type == GGUF_STRING) {
            fwrite(&n, sizeof n, 1, f);
        }
        fwrite(e->data, 1, n, f);
    }
    uint64_t offset = 0;
    for (size_t i = 0; i < counts[0]; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        const uint64_t n_name = strlen(t->name);
        const uint32_t n_dims = (uint32_t)t->n_dims;
        fwrite(&n_name, sizeof n_name, 1, f);
        fwrite(t->name, 1, n_name, f);
        fwrite(&n_dims, sizeof n_dims, 1, f);
        fwrite(t->ne, sizeof *t->ne, n_dims, f);
        fwrite(&f32, sizeof f32, 1, f);
        fwrite(&offset, sizeof offset, 1, f);
        offset += ((uint64_t)t->n_elems * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;
    }
    for (size_t i = 0; i < counts[0]; i++) {
        static const char zeros[ALIGN];
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        void *bytes = test_malloc(t->bytes);
        float *values = test_malloc((size_t)t->n_elems * sizeof *values);
        assert_ok(gguf_tensor_read(g, t, 0, t->bytes, bytes, &err), &err);
        kn_dequantize((enum kn_dtype)t->type, bytes, t->n_elems, values);
        fwrite(zeros, 1, (size_t)(ALIGN - ftell(f) % ALIGN) % ALIGN, f);
        fwrite(values, sizeof *values, (size_t)t->n_elems, f);
        test_free(values);
        test_free(bytes);
    }
    assert_int_equal(ferror(f), 0);
    assert_int_equal(fclose(f), 0);
    gguf_close(g);
}

struct files {
    char folder[300], model[340], vision[340], logits[340];
} files;

static int prepare(void **state)
{
    snprintf(files.folder, sizeof files.folder, "%s", test_temp_dir());
    snprintf(files.model, sizeof files.model, "%s/exact.gguf", files.folder);
    snprintf(files.vision, sizeof files.vision, "%s/mmproj-exact.gguf", files.folder);
    snprintf(files.logits, sizeof files.logits, "%s/logits", files.folder);
    write_exact(MODEL, files.model);
    write_exact(VISION, files.vision);
    struct program_result r;
    program_run(PROGRAM_ARGS("synth", "yard", "--out", files.folder, "--frames", "3", "--seed", "11", "--fps", "0.1"), "",
                BOX_PATIENCE_MS, &r);
    if (r.status != 0)
        fail_msg("synth: status %d: %s", r.status, r.err);
    program_result_free(&r);
    return 0;
}

/* Rows of a scene's logits at a level, with its picture or of the words alone; NULL where this machine does not have it. */
static float *eval(const char *model, const char *vision, const char *level, int scene, size_t *ret_n)
{
    char prompt[340], text[1024], picture[360], env[64];
    snprintf(prompt, sizeof prompt, "%s/prompt.txt", files.folder);
    snprintf(text, sizeof text, question, vision ? "<image>" : "", answers[scene]);
    snprintf(picture, sizeof picture, "%s/%06d.png", files.folder, scene);
    snprintf(env, sizeof env, "HERON_CPU=%s", level);
    test_write_text(prompt, text);
    struct program p = {0};
    const char *const seeing[] = {"eval", "-m",      model,   "--prompt", prompt,       "-v",
                                  vision, "--image", picture, "--logits", files.logits, NULL};
    program_start(&p, program_heron(),
                  vision ? seeing : PROGRAM_ARGS("eval", "-m", model, "--prompt", prompt, "--logits", files.logits), NULL,
                  (const char *const[]){env, NULL});
    const int status = program_await(&p, BOX_PATIENCE_MS);
    char *said = program_text(&p, true);
    program_release(&p);
    const bool is_missing = status != 0 && strstr(said, "was asked for, but");
    if (status != 0 && !is_missing)
        fail_msg("eval at %s: status %d: %s", level, status, said);
    free(said);
    return is_missing ? NULL : (float *)(void *)test_read_file(files.logits, ret_n);
}

/* KL(exact || seen) of a row of logits. */
static double divergence(const float *exact, const float *seen, size_t n)
{
    double most[2] = {exact[0], seen[0]}, sum[2] = {0, 0}, kl = 0;
    for (size_t i = 1; i < n; i++) {
        most[0] = fmax(most[0], exact[i]);
        most[1] = fmax(most[1], seen[i]);
    }
    for (size_t i = 0; i < n; i++) {
        sum[0] += exp(exact[i] - most[0]);
        sum[1] += exp(seen[i] - most[1]);
    }
    for (size_t i = 0; i < n; i++) {
        const double p = exact[i] - most[0] - log(sum[0]), q = seen[i] - most[1] - log(sum[1]);
        kl += exp(p) * (p - q);
    }
    return kl;
}

static size_t top_of(const float *x, size_t n, float *ret_gap)
{
    size_t top = 0;
    float second = -INFINITY;
    for (size_t i = 1; i < n; i++) {
        if (x[i] > x[top])
            second = x[top], top = i;
        else
            second = fmaxf(second, x[i]);
    }
    *ret_gap = x[top] - second;
    return top;
}

/* Tokens of the vocabulary: a row of logits. */
static size_t row_length(void)
{
    struct err err = {0};
    struct gguf *g = NULL;
    assert_ok(gguf_open(MODEL, &g, &err), &err);
    const size_t n = gguf_array_count(g, "tokenizer.ggml.tokens");
    gguf_close(g);
    return n;
}

struct distance {
    double kl, worst;
    size_t n_rows;
};

static void add_distance(struct distance *d, const float *exact, const float *seen, size_t rows, size_t n)
{
    for (size_t r = 0; r < rows; r++) {
        const double kl = divergence(exact + r * n, seen + r * n, n);
        d->kl += kl;
        d->worst = fmax(d->worst, kl);
    }
    d->n_rows += rows;
}

static void same_choices(const char *name_a, const float *a, const char *name_b, const float *b, size_t rows, size_t n)
{
    for (size_t r = 0; r < rows; r++) {
        float gap_a, gap_b;
        const size_t top_a = top_of(a + r * n, n, &gap_a), top_b = top_of(b + r * n, n, &gap_b);
        if (top_a != top_b && gap_a > SURE_GAP && gap_b > SURE_GAP)
            fail_msg("row %zu: %s chooses token %zu by %g, %s %zu by %g", r, name_a, top_a, (double)gap_a, name_b, top_b,
                     (double)gap_b);
    }
}

static void every_level_is_near_exact_arithmetic(void **state)
{
    struct distance d[N_LEVELS] = {0};
    const size_t n = row_length();
    for (int scene = 0; scene < SCENES; scene++) {
        size_t bytes = 0;
        float *exact = eval(files.model, files.vision, "scalar", scene, &bytes), *seen[N_LEVELS] = {0};
        const size_t rows = bytes / sizeof *exact / n;
        assert_int_equal(bytes, rows * n * sizeof *exact);
        for (size_t l = 0; l < N_LEVELS; l++) {
            size_t n_seen = bytes;
            seen[l] = eval(MODEL, VISION, levels[l].name, scene, &n_seen);
            assert_int_equal(n_seen, bytes);
            if (!seen[l])
                continue;
            add_distance(&d[l], exact, seen[l], rows, n);
            same_choices(levels[0].name, seen[0], levels[l].name, seen[l], rows, n);
            for (size_t k = 0; k < l; k++)
                if (seen[k] && levels[k].is_fused && !levels[k].rounds_pictures && !levels[l].rounds_pictures &&
                    memcmp(seen[k], seen[l], bytes) != 0)
                    fail_msg("scene %d: %s and %s differ", scene, levels[k].name, levels[l].name);
        }
        for (size_t l = 0; l < N_LEVELS; l++)
            free(seen[l]);
        free(exact);
    }
    assert_true(d[0].n_rows > 100);
    for (size_t l = 0; l < N_LEVELS; l++) {
        if (d[l].n_rows == 0)
            continue;
        const double kl = d[l].kl / (double)d[l].n_rows;
        print_message("%-7s mean KL %.2e, largest of %zu rows %.2e\n", levels[l].name, kl, d[l].n_rows, d[l].worst);
        if (!(kl <= KL_MAX))
            fail_msg("%s: mean KL %g", levels[l].name, kl);
    }
}

static void words_alone_give_the_same_bits(void **state)
{
    float *first = NULL;
    size_t n_first = 0, n_compared = 0;
    for (size_t l = 0; l < N_LEVELS; l++) {
        size_t n;
        float *seen = levels[l].is_fused ? eval(MODEL, NULL, levels[l].name, 0, &n) : NULL;
        if (!seen)
            continue;
        if (first) {
            assert_int_equal(n, n_first);
            if (memcmp(first, seen, n) != 0)
                fail_msg("%s differs", levels[l].name);
            n_compared++;
            free(seen);
        } else {
            first = seen;
            n_first = n;
        }
    }
    free(first);
    if (n_compared == 0)
        skip_because("this processor has one such level or none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_level_is_near_exact_arithmetic),
                                       cmocka_unit_test(words_alone_give_the_same_bits)};
    return cmocka_run_group_tests(tests, prepare, NULL);
}
