/*
 * Any bytes as a GGUF file: opened, walked, read as a text model, a vision tower and a vocabulary.
 */
#include "engine/gguf.h"
#include "engine/vocab.h"
#include "engine/weights.h"
#include "tests/fuzz/fuzz.h"

static void walk(const struct gguf *g)
{
    struct gguf_string s;
    struct gguf_strings iter;
    char text[16];
    int64_t i;
    float f;
    for (size_t k = 0; k < gguf_n_entries(g); k++) {
        const char *key = gguf_entry_at(g, k)->key;
        const uint64_t last = gguf_entry_at(g, k)->count;
        (void)gguf_get_i64_at(g, key, last ? last - 1 : 0, &i, NULL);
        (void)gguf_get_f32_at(g, key, last ? last - 1 : 0, &f, NULL);
        (void)gguf_copy_text(g, key, text, sizeof text);
        if (gguf_strings_begin(g, key, &iter, NULL) == 0)
            while (gguf_strings_next(&iter, &s))
                if (s.n && s.data[s.n - 1] == s.data[0])
                    text[0] = s.data[0];
    }
    for (size_t k = 0; k < gguf_n_tensors(g); k++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, k);
        if (t->bytes && gguf_tensor_read(g, t, t->bytes - 1, 1, text, NULL) < 0)
            abort();
        if (gguf_find_tensor(g, t->name) != t)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf *g = NULL;
    struct err err = {0};
    struct model_shape shape;
    struct vision_shape vision;
    struct weights_plan plan;
    struct tokenizer *tokenizer = NULL;
    const int rc = gguf_open_memory(data, size, "fuzz", &g, &err);
    if (rc < 0) {
        if (err.code != rc || err.text[0] == 0 || g)
            abort();
        return 0;
    }
    walk(g);
    if (model_shape_read(g, &shape, &err) == 0) {
        (void)model_plan(g, &shape, &plan, &err);
        model_shape_release(&shape);
    }
    if (vision_shape_read(g, &vision, &err) == 0)
        (void)vision_plan(g, &vision, &plan, &err);
    if (vocab_read(g, &tokenizer, &err) == 0)
        tokenizer_free(tokenizer);
    gguf_close(g);
    return 0;
}
