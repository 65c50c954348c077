/*
 * Frequencies of the rotary embedding as a file asks for them, plain and scaled, against transformers 5.17.0 (ROPE_INIT_FUNCTIONS in float32, head size 256 of
 * which 64 are turned, base 1e7).
 */
#include <math.h>
#include <stdio.h>

#include "engine/internal.h"
#include "engine/synthetic.h"
#include "tests/support/test.h"

#define PAIRS 32

static const struct {
    int scaling; /* ROPE_... */
    float factor;
    int32_t original_context;
    float scale; /* of cos and sin */
    float inv_freq[PAIRS];
} cases[] = {
    {ROPE_NONE,
     1,
     262144,
     1,
     {1, 0.604296386f, 0.365174145f, 0.220673397f, 0.133352146f, 0.0805842131f, 0.0486967526f, 0.0294272732f, 0.0177827943f,
      0.0107460786f, 0.00649381662f, 0.0039241896f, 0.00237137382f, 0.00143301266f, 0.000865964335f}},
    {ROPE_LINEAR, 4, 262144, 1, {0.25f,           0.151074097f,    0.0912935361f,   0.0551683493f,   0.0333380364f,
                                 0.0201460533f,   0.0121741882f,   0.0073568183f,   0.00444569858f,  0.00268651964f,
                                 0.00162345415f,  0.0009810474f,   0.000592843455f, 0.000358253164f, 0.000216491084f,
                                 0.000130824774f, 7.90569466e-05f, 4.77738249e-05f, 2.88695483e-05f, 1.74457637e-05f,
                                 1.05424133e-05f, 6.37074163e-06f, 3.84981604e-06f, 2.32643015e-06f, 1.40585337e-06f,
                                 8.49552066e-07f, 5.13381224e-07f, 3.10234441e-07f, 1.8747356e-07f,  1.13289595e-07f,
                                 6.84604942e-08f, 4.13704271e-08f}},
    {ROPE_YARN,
     4,
     262144,
     1.138629436f,
     {1,
      0.604296386f,
      0.365174145f,
      0.220673397f,
      0.133352146f,
      0.0805842131f,
      0.0486967526f,
      0.0294272732f,
      0.0177827943f,
      0.0107460786f,
      0.00649381662f,
      0.0039241896f,
      0.00237137382f,
      0.00143301266f,
      0.000865964335f,
      0.000474239816f,
      0.000256935076f,
      0.000137349751f,
      7.21738688e-05f,
      3.70722482e-05f,
      1.84492237e-05f,
      8.75977003e-06f,
      3.84981604e-06f,
      2.32643015e-06f,
      1.40585337e-06f,
      8.49552066e-07f,
      5.13381224e-07f,
      3.10234441e-07f,
      1.8747356e-07f,
      1.13289595e-07f,
      6.84604942e-08f,
      4.13704271e-08f}},
    {ROPE_YARN,
     2,
     1024,
     1.069314718f,
     {1,
      0.604296386f,
      0.365174145f,
      0.220673397f,
      0.125017628f,
      0.0705111846f,
      0.0395661108f,
      0.0220704544f,
      0.0122256707f,
      0.00671629934f,
      0.0036527717f,
      0.0019620948f,
      0.00118568691f,
      0.000716506329f,
      0.000432982168f,
      0.000261649548f,
      0.000158113893f,
      9.55476498e-05f,
      5.77390965e-05f,
      3.48915273e-05f,
      2.10848266e-05f,
      1.27414833e-05f,
      7.69963208e-06f,
      4.6528603e-06f,
      2.81170674e-06f,
      1.69910413e-06f,
      1.02676245e-06f,
      6.20468882e-07f,
      3.7494712e-07f,
      2.26579189e-07f,
      1.36920988e-07f,
      8.27408542e-08f}},
};

static void frequencies_are_the_official_ones(void **state)
{
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct err err = {0};
        struct synthetic s;
        struct en_engine *e = NULL;
        char path[512];
        const struct synthetic_file file = {.seed = 1, .dtype = KN_F32};
        snprintf(path, sizeof path, "%s/rope%zu.gguf", test_temp_dir(), k);
        assert_ok(synthetic_parse("tiny-dense", &s, &err), &err);
        s.shape.head_dim = 256;
        s.shape.n_rot = 2 * PAIRS;
        s.shape.rope_sections[0] = s.shape.rope_sections[1] = 11;
        s.shape.rope_sections[2] = 10;
        s.shape.rope_scaling = cases[k].scaling;
        s.shape.rope_factor = cases[k].factor;
        s.shape.rope_original_context = cases[k].original_context;
        assert_ok(synthetic_write_model(path, &s.shape, &file, &err), &err);
        synthetic_release(&s);
        const struct en_options o = {.model_path = path, .device = "cpu", .threads = 1, .context_tokens = 64};
        assert_ok(en_open(&o, &e, &err), &err);
        assert_true(fabsf(e->pass.rope_scale / cases[k].scale - 1) < 3e-7f);
        for (int i = 0; i < PAIRS && cases[k].inv_freq[i] > 0; i++) { /* a processor's memory: read in place */
            /* powf of two libraries, and the order of one product: some units in the last place of 2^-24 */
            if (!(fabsf(e->pass.inv_freq[i] / cases[k].inv_freq[i] - 1) < 3e-7f))
                fail_msg("case %zu, pair %d: %.9g, expected %.9g", k, i, (double)e->pass.inv_freq[i],
                         (double)cases[k].inv_freq[i]);
            assert_int_equal(e->pass.axis[i], i % 3);
        }
        en_close(e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(frequencies_are_the_official_ones)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
