#include "tests/support/golden.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "tests/support/test.h"

const char *const golden_models[] = {"dense1", "dense2", "dense3", "moe4", "family", NULL};

/* The rest of the file. Every take checks that it is there. */
struct words {
    const uint8_t *at, *end;
    const char *path;
};

static const void *take(struct words *w, size_t n_words)
{
    const void *p = w->at;
    if (n_words > (size_t)(w->end - w->at) / 4)
        fail_msg("%s: truncated", w->path);
    w->at += 4 * n_words;
    return p;
}

static int32_t take_int(struct words *w)
{
    int32_t v;
    memcpy(&v, take(w, 1), sizeof v);
    return v;
}

static float take_float(struct words *w)
{
    float v;
    memcpy(&v, take(w, 1), sizeof v);
    return v;
}

static void take_text_shape(struct words *w, struct golden *g)
{
    struct model_shape *s = &g->text;
    g->seed = (uint64_t)take_int(w);
    s->n_layers = take_int(w);
    s->n_embd = take_int(w);
    s->n_vocab = take_int(w);
    s->n_ff = take_int(w);
    s->n_head = take_int(w);
    s->n_head_kv = take_int(w);
    s->head_dim = take_int(w);
    s->n_rot = take_int(w);
    for (int i = 0; i < 3; i++)
        s->rope_sections[i] = take_int(w);
    s->n_k = take_int(w);
    s->n_v = take_int(w);
    s->d_k = take_int(w);
    s->d_v = take_int(w);
    s->conv_taps = take_int(w);
    s->n_experts = take_int(w);
    s->n_experts_used = take_int(w);
    s->n_ff_expert = take_int(w);
    s->n_ff_shared = take_int(w);
    s->is_tied = take_int(w) != 0;
    const int32_t interval = take_int(w);
    s->rope_freq_base = take_float(w);
    s->is_moe = s->n_experts > 0;
    snprintf(s->architecture, sizeof s->architecture, "%s", s->is_moe ? "qwen35moe" : "qwen35");
    s->is_untrained = true;
    s->rms_eps = 1e-6F;
    s->trained_context = 4096;
    s->rope_factor = 1.0F;
    s->rope_attn_factor = 1.0F;
    s->rope_original_context = s->trained_context;
    s->yarn_ext_factor = s->rope_attn_factor = 1.0F;
    s->yarn_beta_fast = 32.0F;
    s->yarn_beta_slow = 1.0F;
    assert_in_range(s->n_layers, 1, (int)(sizeof g->is_linear));
    for (int32_t i = 0; i < s->n_layers; i++)
        g->is_linear[i] = (i + 1) % interval != 0;
    s->is_linear = g->is_linear;
}

static void take_vision_shape(struct words *w, struct golden *g)
{
    struct vision_shape *v = &g->vision;
    v->n_layers = take_int(w);
    v->n_embd = take_int(w);
    v->n_ff = take_int(w);
    v->n_head = take_int(w);
    v->grid_side = take_int(w);
    v->min_pixels = take_int(w);
    v->max_pixels = take_int(w);
    v->patch_px = 16;
    v->merge = 2;
    v->n_out = g->text.n_embd;
    v->eps = 1e-6F;
    for (int i = 0; i < 3; i++)
        v->mean[i] = v->stddev[i] = 0.5F;
}

void golden_load(const char *model, struct golden *g)
{
    char path[128];
    *g = (struct golden){0};
    snprintf(path, sizeof path, "tests/golden/logits_%s.bin", model);
    size_t n_bytes;
    g->memory = test_read_file(path, &n_bytes);

    struct words w = {g->memory, (const uint8_t *)g->memory + n_bytes, path};
    assert_memory_equal(take(&w, 2), "HGOLDEN1", 8);
    take_text_shape(&w, g);
    take_vision_shape(&w, g);
    snprintf(g->text.name, sizeof g->text.name, "golden %s", model);
    snprintf(g->vision.name, sizeof g->vision.name, "golden %s", model);
    g->n_pictures = take_int(&w);
    assert_in_range(g->n_pictures, 1, GOLDEN_PICTURES_MAX);
    for (int32_t i = 0; i < g->n_pictures; i++) {
        struct golden_picture *p = &g->pictures[i];
        p->width_px = take_int(&w);
        p->height_px = take_int(&w);
        p->seed = take_int(&w);
        p->target_width_px = take_int(&w);
        p->target_height_px = take_int(&w);
        p->n_tokens = p->target_width_px / 32 * (p->target_height_px / 32);
        p->nmse = take_float(&w);
        p->rows = take(&w, (size_t)p->n_tokens * (size_t)g->text.n_embd);
    }
    g->n_cases = take_int(&w);
    assert_in_range(g->n_cases, 1, GOLDEN_CASES_MAX);
    for (int32_t i = 0; i < g->n_cases; i++) {
        struct golden_case *c = &g->cases[i];
        memcpy(c->name, take(&w, 4), 16);
        c->n_tokens = take_int(&w);
        c->n_rows = take_int(&w);
        c->nmse = take_float(&w);
        assert_true(c->n_tokens > 0 && c->n_rows > 0);
        c->ids = take(&w, (size_t)c->n_tokens);
        c->pos = take(&w, 3 * (size_t)c->n_tokens);
        c->top = take(&w, (size_t)c->n_tokens);
        c->gap = take(&w, (size_t)c->n_tokens);
        c->rows = take(&w, (size_t)c->n_rows);
        c->logits = take(&w, (size_t)c->n_rows * (size_t)g->text.n_vocab);
    }
    assert_ptr_equal(w.at, w.end);
}

void golden_free(struct golden *g)
{
    free(g->memory);
    *g = (struct golden){0};
}

void golden_paint(int width_px, int height_px, int seed, uint8_t *rgb)
{
    uint64_t i = 0;
    for (int y = 0; y < height_px; y++)
        for (int x = 0; x < width_px; x++)
            for (int c = 0; c < 3; c++, i++)
                rgb[i] =
                    (uint8_t)(x * (3 + c) + y * (5 - c) + seed * 37 + ((x * y) >> 4) + (int)(rng_at((uint64_t)seed, i) & 31));
}
