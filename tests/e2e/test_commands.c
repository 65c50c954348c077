/*
 * What the commands for verification and measurement print: eval's rows and OUT.json, ids and back, the tables of bench, the JSON of describe, what tune measures.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/box.h"
#include "tests/support/test.h"

static char folder[300], prompt[340], logits[340], logits_json[360], other[340], picture[340];

static int make_files(void **state)
{
    static char pixels[3 * 96 * 64];
    snprintf(folder, sizeof folder, "%s", test_temp_dir());
    snprintf(prompt, sizeof prompt, "%s/prompt.txt", folder);
    snprintf(logits, sizeof logits, "%s/logits", folder);
    snprintf(logits_json, sizeof logits_json, "%s.json", logits);
    snprintf(other, sizeof other, "%s/other", folder);
    snprintf(picture, sizeof picture, "%s/picture.ppm", folder);
    FILE *f = fopen(picture, "wb");
    if (!f)
        return -1;
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (char)(i * 7);
    fprintf(f, "P6 96 64 255\n");
    fwrite(pixels, 1, sizeof pixels, f);
    return fclose(f);
}

/* The command succeeds; its standard output, malloc'ed. */
static char *output(const char *const *args, const char *input)
{
    struct program_result r;
    program_run(args, input, BOX_PATIENCE_MS, &r);
    if (r.status != 0)
        fail_msg("%s: status %d: %s", args[0], r.status, r.err);
    char *text = strdup(r.out);
    program_result_free(&r);
    return text;
}

/* It fails with a status and words. */
static void refused(const char *const *args, const char *input, int status, const char *words)
{
    struct program_result r;
    program_run(args, input, BOX_PATIENCE_MS, &r);
    if (r.status != status || !strstr(r.err, words))
        fail_msg("%s: status %d, expected %d and \"%s\": %s", args[0], r.status, status, words, r.err);
    program_result_free(&r);
}

static json_t *json_of(const char *text)
{
    json_error_t e;
    json_t *root = json_loads(text, 0, &e);
    if (!root)
        fail_msg("no JSON: %s: %s", e.text, text);
    return root;
}

/* Both files hold the same rows. */
static bool same_file(const char *a, const char *b)
{
    size_t n_a, n_b;
    char *x = test_read_file(a, &n_a), *y = test_read_file(b, &n_b);
    const bool same = n_a == n_b && n_a > 0 && memcmp(x, y, n_a) == 0;
    free(x);
    free(y);
    return same;
}

#define EVAL(...) free(output(PROGRAM_ARGS("eval", "-m", box_model(), __VA_ARGS__), ""))

/* Row = logits after a text token, in order; positions as M-RoPE counts them: the picture moves them by the longer of its sides. */
static void eval_writes_a_row_for_each_text_token(void **state)
{
    size_t n;
    test_write_text(prompt, "Hi <image> you <think>");
    EVAL("-v", box_vision(), "--prompt", prompt, "--image", picture, "--logits", logits);
    char *text = test_read_file(logits_json, &n);
    json_t *root = json_of(text), *ids = json_object_get(root, "ids"), *positions = json_object_get(root, "positions");
    const json_int_t rows = json_integer_value(json_object_get(root, "rows")),
                     vocab = json_integer_value(json_object_get(root, "vocab"));
    free(text);
    assert_int_equal(json_object_size(root), 4);
    assert_true(rows > 6 && vocab > 256);
    assert_int_equal(json_array_size(ids), rows);
    assert_int_equal(json_array_size(positions), rows);
    free(test_read_file(logits, &n));
    assert_int_equal(n, (size_t)(rows * vocab) * sizeof(float));

    /* the ids are those of the text around, with vision start and end between */
    char *before = output(PROGRAM_ARGS("tokenize", "-m", box_model(), "--special"), "Hi <|vision_start|>");
    char *after = output(PROGRAM_ARGS("tokenize", "-m", box_model(), "--special"), "<|vision_end|> you <think>");
    char want[4096] = "", found[4096] = "";
    before[strcspn(before, "\n")] = after[strcspn(after, "\n")] = '\0';
    snprintf(want, sizeof want, "%s %s", before, after);
    size_t n_before = 1;
    for (const char *p = before; *p; p++)
        n_before += *p == ' ';
    for (size_t i = 0; i < json_array_size(ids); i++)
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%d", i ? " " : "",
                 (int)json_integer_value(json_array_get(ids, i)));
    assert_string_equal(found, want);
    /* 96 x 64 becomes 320 x 224: 10 x 7 tokens */
    for (size_t i = 0; i < json_array_size(positions); i++) {
        const json_int_t p = (json_int_t)i + (i < n_before ? 0 : 10);
        const json_t *row = json_array_get(positions, i);
        assert_int_equal(json_array_size(row), 3);
        for (size_t axis = 0; axis < 3; axis++)
            assert_int_equal(json_integer_value(json_array_get(row, axis)), p);
    }
    free(before);
    free(after);
    json_decref(root);
}

/* f32 is the KV type unless told; pieces, threads and ids instead of text change nothing. */
static void eval_is_the_same_however_it_is_asked(void **state)
{
    test_write_text(prompt, "The red person is near the door. The dog is behind the gate.");
    char *ids =
        output(PROGRAM_ARGS("tokenize", "-m", box_model()), "The red person is near the door. The dog is behind the gate.");
    ids[strcspn(ids, "\n")] = '\0';
    for (char *p = ids; *p; p++)
        *p = *p == ' ' ? ',' : *p;
    EVAL("--prompt", prompt, "--logits", logits);
    EVAL("--tokens", ids, "--logits", other);
    assert_true(same_file(logits, other));
    EVAL("--prompt", prompt, "--logits", other, "--kv", "f32", "--piece", "3");
    assert_true(same_file(logits, other));
    static const char *const threads[] = {"1", "2", "3", "64"}; /* more than there are cores, too */
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
        EVAL("--prompt", prompt, "--logits", other, "--threads", threads[i]);
        assert_true(same_file(logits, other));
    }
    EVAL("--prompt", prompt, "--logits", other, "--kv", "q8_0");
    assert_false(same_file(logits, other));
    EVAL("--prompt", prompt, "--logits", other, "--device", "ref");
    assert_false(same_file(logits, other));
    free(ids);

    /* more pictures than a session of its own would have places for */
    test_write_text(prompt, "<image><image> and <image> <image>, <image>");
    EVAL("-v", box_vision(), "--prompt", prompt, "--image", picture, "--image", picture, "--image", picture, "--image", picture,
         "--image", picture, "--logits", logits);
    free(output(PROGRAM_ARGS("describe", "-m", box_model(), "-v", box_vision(), "--max-tokens", "4", picture, picture, picture,
                             picture, picture),
                ""));

    const char *m = box_model();
    test_write_text(prompt, "a <image>");
    refused(PROGRAM_ARGS("eval", "-m", m, "--prompt", prompt, "--logits", other), "", 64, "1 <image> markers for 0 pictures");
    refused(PROGRAM_ARGS("eval", "-m", m, "--tokens", "1,99999", "--logits", other), "", 64, "token id 99999");
    refused(PROGRAM_ARGS("eval", "-m", m, "--tokens", "1,2", "--logits", "/dev/full"), "", 74, "/dev/full");
}

static void tokenize_goes_there_and_back(void **state)
{
    const char *m = box_model(), *text = "What is there? <|im_end|>\n<think> caf\xC3\xA9 \xF0\x9F\x90\xA6";
    char *plain = output(PROGRAM_ARGS("tokenize", "-m", m), text),
         *special = output(PROGRAM_ARGS("tokenize", "-m", m, "--special"), text);
    assert_string_not_equal(plain, special);
    char *back = output(PROGRAM_ARGS("tokenize", "-m", m, "--decode"), plain);
    assert_string_equal(back, text);
    free(back);
    back = output(PROGRAM_ARGS("tokenize", "-m", m, "--decode", "--special"), special);
    assert_string_equal(back, text);
    free(back);
    free(plain);
    free(special);
    refused(PROGRAM_ARGS("tokenize", "-m", m, "--decode"), "1 2 99999999", 64, "token id 99999999 (number 3)");
    refused(PROGRAM_ARGS("tokenize", "-m", m, "--decode"), "1 two", 64, "byte 2");
}

/* Every row that moves weights says how many bytes, how fast, and what share of the memory's bandwidth that is; loading of the disk's. */
static void bench_rows_have_bytes_and_bandwidth(void **state)
{
    char *text = output(PROGRAM_ARGS("bench", "-m", box_model(), "-v", box_vision(), "-p", "16", "-n", "2", "-d", "3", "-b",
                                     "2", "--image", "64x64", "--json"),
                        "");
    json_t *root = json_of(text), *results = json_object_get(root, "results"), *row;
    static const char *const whats[] = {"load", "prefill 16", "decode 2, depth 3, x2", "vision 64x64"};
    size_t i;
    assert_int_equal(json_array_size(results), 4);
    json_array_foreach(results, i, row)
    {
        assert_string_equal(json_string_value(json_object_get(row, "what")), whats[i]);
        assert_true(json_real_value(json_object_get(row, "rate")) > 0);
        assert_true(json_real_value(json_object_get(row, "bytes_per_s")) > 0);
        assert_true(json_real_value(json_object_get(row, "read_bandwidth")) > 0);
        assert_true(json_real_value(json_object_get(row, "ratio")) > 0);
        assert_true(i == 0 || json_real_value(json_object_get(row, "bytes_per_token")) > 0);
    }
    const json_t *load = json_array_get(results, 0);
    const double disk = json_real_value(json_object_get(load, "read_bandwidth"));
    assert_true(disk != json_real_value(json_object_get(json_array_get(results, 1), "read_bandwidth")));
    assert_int_equal(json_integer_value(json_object_get(load, "bytes")),
                     json_integer_value(json_object_get(root, "weights_bytes")));
    assert_true(json_integer_value(json_object_get(load, "peak_bytes")) > json_integer_value(json_object_get(load, "bytes")));
    assert_true(json_real_value(json_object_get(load, "peak_over_weights")) > 1);
    json_decref(root);
    free(text);
    refused(PROGRAM_ARGS("bench", "-m", box_model(), "--image", "64x64"), "", 64, "--image needs a vision file");
}

/* What a decoded token reads: bench's row of two steps. */
static double read_by_token(const char *depth, const char *sequences, double *ret_weights)
{
    char *text = output(
        PROGRAM_ARGS("bench", "-m", box_model(), "-p", "0", "-n", "2", "-d", depth, "-b", sequences, "--kv", "f32", "--json"),
        "");
    json_t *root = json_of(text);
    const double bytes =
        json_real_value(json_object_get(json_array_get(json_object_get(root, "results"), 1), "bytes_per_token"));
    *ret_weights = (double)json_integer_value(json_object_get(root, "bytes_per_token"));
    json_decref(root);
    free(text);
    return bytes;
}

/*
 * Weights are shared by the sequences of a step; state and keys and values are each one's own. The tiny model: a layer with keys and values (two heads of 32), three with state (four heads
 * of 16 x 16, three inputs of 128 channels).
 */
static void bench_counts_state_and_context(void **state)
{
    double weights;
    const double one = read_by_token("0", "1", &weights), deep = read_by_token("100", "1", &weights),
                 two = read_by_token("0", "2", &weights);
    const double kv = (deep - one) / 100, own = one - weights;
    assert_float_equal(kv, 2 * 2 * 32 * 4, 1e-6 * kv);
    assert_float_equal(own - 1.5 * kv, 3 * (4 * 16 * 16 + 3 * 128) * 4, 1e-6 * own);
    assert_float_equal(two, weights / 2 + own, 1e-6 * two);
}

/* A picture of one dark grey. */
static void write_grey(const char *path, int width_px, int height_px)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fprintf(f, "P5 %d %d 255\n%*s", width_px, height_px, width_px * height_px, "");
    assert_int_equal(fclose(f), 0);
}

static void describe_tells_answer_scores_and_timings(void **state)
{
    char schema[340], wide[340];
    snprintf(schema, sizeof schema, "%s/schema.json", folder);
    snprintf(wide, sizeof wide, "%s/wide.pgm", folder);
    write_grey(wide, 160, 90);
    test_write_text(schema,
                    "{\"type\":\"object\",\"properties\":{\"people\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":20},"
                    "\"fire\":{\"type\":\"boolean\"}},\"required\":[\"people\",\"fire\"]}");
    char *text =
        output(PROGRAM_ARGS("describe", "-m", box_model(), "-v", box_vision(), "--schema", schema, "--json", picture), "");
    json_t *root = json_of(text), *answer = json_object_get(root, "answer"), *scores = json_object_get(root, "scores");
    assert_in_range(json_integer_value(json_object_get(answer, "people")), 0, 20);
    assert_true(json_is_boolean(json_object_get(answer, "fire")));
    assert_int_equal(json_array_size(scores), 1);
    const json_t *score = json_array_get(scores, 0), *both = json_object_get(score, "alternatives");
    assert_string_equal(json_string_value(json_object_get(score, "path")), "/fire");
    const double sum = json_real_value(json_object_get(both, "true")) + json_real_value(json_object_get(both, "false"));
    assert_true(sum > 0.9999 && sum < 1.0001);
    assert_true(json_is_true(json_object_get(root, "untrained")));
    assert_true(json_real_value(json_object_get(json_object_get(root, "latency_ms"), "total")) > 0);
    json_decref(root);
    free(text);

    /* a small picture is enlarged to what the model was trained on */
    text = output(PROGRAM_ARGS("describe", "-m", "config/model/heron.gguf", "-v", "config/model/mmproj-heron.gguf",
                               "--max-tokens", "4", "--prompt", "Is it night?", "--json", wide),
                  "");
    root = json_of(text);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(root, "tokens"), "image")), 144);
    json_decref(root);
    free(text);

    /* a picture of an impossible shape is named */
    char thin[340];
    snprintf(thin, sizeof thin, "%s/thin.pgm", folder);
    write_grey(thin, 1, 300);
    refused(PROGRAM_ARGS("describe", "-m", box_model(), "-v", box_vision(), picture, thin), "", 64,
            "thin.pgm: picture of 1 x 300");
}

static void tune_writes_the_table_of_this_machine(void **state)
{
    char table[340], text[4096] = "", nowhere[340];
    snprintf(table, sizeof table, "%s/tuning", folder);
    snprintf(nowhere, sizeof nowhere, "%s/no/such/folder", folder);
    char *told = output(PROGRAM_ARGS("tune", "--device", "cpu", "--threads", "1", "--seconds", "0.002", "--out", table), "");
    assert_non_null(strstr(told, "few_rows   Q4_K "));
    assert_non_null(strstr(told, "faster than the standards in the mean; written to "));
    FILE *f = fopen(table, "r");
    assert_non_null(f);
    assert_true(fread(text, 1, sizeof text - 1, f) > 0);
    fclose(f);
    assert_true(text[0] == '[' && strstr(text, "1 thread] 2"));
    assert_non_null(strstr(text, "\nfew_rows Q4_K "));
    free(told);
    /* what cannot be written, or has nothing to tune, is told before anything is measured */
    refused(PROGRAM_ARGS("tune", "--device", "cpu", "--out", nowhere), "", 73, "No such file or directory");
    refused(PROGRAM_ARGS("tune", "--device", "ref", "--out", table), "", 65, "ref has nothing to tune");
    refused(PROGRAM_ARGS("tune", "--device", "cpu", "--seconds", "0"), "", 64, "--seconds");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tune_writes_the_table_of_this_machine),    cmocka_unit_test(eval_writes_a_row_for_each_text_token),
        cmocka_unit_test(eval_is_the_same_however_it_is_asked),     cmocka_unit_test(tokenize_goes_there_and_back),
        cmocka_unit_test(bench_rows_have_bytes_and_bandwidth),      cmocka_unit_test(bench_counts_state_and_context),
        cmocka_unit_test(describe_tells_answer_scores_and_timings),
    };
    return cmocka_run_group_tests(tests, make_files, NULL);
}
