/*
 * golden - the fixtures tests/golden/logits_*.bin in memory: shapes, pictures, cases. The format is described in
 * tests/golden/generate_logits.py.
 *
 * Tests run in the repository's root, where the files are looked for. Memory: golden_load allocates one block that everything points
 * into, golden_free frees it.
 */
#ifndef HERON_TESTS_SUPPORT_GOLDEN_H
#define HERON_TESTS_SUPPORT_GOLDEN_H

#include "engine/model.h"

#define GOLDEN_PICTURES_MAX 4
#define GOLDEN_CASES_MAX    8

struct golden_picture {
    int32_t width_px, height_px, seed, target_width_px, target_height_px, n_tokens;
    float nmse;        /* of rows to float64 */
    const float *rows; /* [n_tokens, E] */
};

struct golden_case {
    char name[17];
    int32_t n_tokens, n_rows;
    float nmse;          /* of logits to float64 */
    const int32_t *ids;  /* [n_tokens]; -1 - k: a row of picture k */
    const int32_t *pos;  /* [3, n_tokens] */
    const int32_t *top;  /* [n_tokens] */
    const float *gap;    /* [n_tokens] */
    const int32_t *rows; /* [n_rows] tokens whose logits are here */
    const float *logits; /* [n_rows, V] */
};

struct golden {
    uint64_t seed;
    struct model_shape text;
    struct vision_shape vision;
    int32_t n_pictures, n_cases;
    struct golden_picture pictures[GOLDEN_PICTURES_MAX];
    struct golden_case cases[GOLDEN_CASES_MAX];
    void *memory;
    bool is_linear[64];
};

extern const char *const golden_models[]; /* names, NULL after the last */

/* Load one; fails the running test when the file is missing or not of the format. golden must stay where it is. */
void golden_load(const char *model, struct golden *golden);
void golden_free(struct golden *golden);

/* The deterministic test picture, [height, width, 3]: the C twin of model_gen.py's `picture`. */
void golden_paint(int width_px, int height_px, int seed, uint8_t *rgb);

#endif
