/*
 * Commands with bad input: one clear line with file and cause on standard error, nothing on standard output, an exit status of sysexits(3).
 */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/support/box.h"

static char folder[300];

static int make_folder(void **state)
{
    snprintf(folder, sizeof folder, "%s", test_temp_dir());
    return 0;
}

static const char *in_folder(const char *name)
{
    static char paths[8][400];
    static int at;
    char *p = paths[at++ % 8];
    snprintf(p, sizeof paths[0], "%s/%s", folder, name);
    return p;
}

/* A copy of the tiny model, cut to `keep` bytes (0: all), with the first `from` replaced by the equally long `to`. */
static const char *spoiled(const char *name, const char *original, size_t keep, const char *from, const char *to)
{
    size_t n;
    const char *path = in_folder(name);
    char *bytes = test_read_file(original, &n);
    char *at = from ? memmem(bytes, n, from, strlen(from)) : NULL;
    assert_true(!from || at);
    if (at)
        memcpy(at, to, strlen(to));
    test_write_file(path, bytes, keep ? keep : n);
    free(bytes);
    return path;
}

/* A 2x2 picture that can be read. */
static const char *picture(void)
{
    static const char ppm[] = "P6 64 64 255\n";
    static char bytes[sizeof ppm - 1 + 3 * 64 * 64];
    memcpy(bytes, ppm, sizeof ppm - 1);
    memset(bytes + sizeof ppm - 1, 90, 3 * 64 * 64);
    const char *path = in_folder("good.ppm");
    test_write_file(path, bytes, sizeof bytes);
    return path;
}

/* It fails with this status; standard error has all the words, and is short; standard output is empty. */
static void expect(const char *const *args, int status, const char *const *words)
{
    struct program_result r;
    program_run(args, "", BOX_PATIENCE_MS, &r);
    if (r.status != status)
        fail_msg("status %d, not %d: %s", r.status, status, r.err);
    for (; *words; words++)
        if (!strstr(r.err, *words))
            fail_msg("\"%s\" is not in: %s", *words, r.err);
    assert_int_equal(r.n_out, 0);
    int lines = 0;
    for (size_t i = 0; i < r.n_err; i++)
        lines += r.err[i] == '\n';
    if (lines != 1)
        fail_msg("%d lines instead of one: %s", lines, r.err);
    program_result_free(&r);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_models(void **state)
{
    const char *v = box_vision(), *p = picture();
    const char *missing = in_folder("missing.gguf");
    expect(PROGRAM_ARGS("describe", "-m", missing, "-v", v, p), 66, WORDS("missing.gguf", "No such file"));
    const char *empty = in_folder("empty.gguf");
    test_write_file(empty, "", 0);
    expect(PROGRAM_ARGS("describe", "-m", empty, "-v", v, p), 65, WORDS("empty.gguf"));
    const char *text = in_folder("text.gguf");
    test_write_file(text, "this is no model at all, is it?", 31);
    expect(PROGRAM_ARGS("describe", "-m", text, "-v", v, p), 65, WORDS("text.gguf", "GGUF"));
    const char *half = spoiled("half.gguf", box_model(), 300000, NULL, NULL);
    expect(PROGRAM_ARGS("describe", "-m", half, "-v", v, p), 65, WORDS("half.gguf"));
    expect(PROGRAM_ARGS("model", spoiled("head.gguf", box_model(), 1000, NULL, NULL)), 65, WORDS("head.gguf"));
    const char *other = spoiled("other.gguf", box_model(), 0, "qwen35", "quux99");
    expect(PROGRAM_ARGS("describe", "-m", other, "-v", v, p), 65, WORDS("other.gguf", "quux99"));
    const char *renamed = spoiled("renamed.gguf", box_model(), 0, "blk.0.attn_norm.weight", "blk.0.nttn_norm.weight");
    expect(PROGRAM_ARGS("describe", "-m", renamed, "-v", v, p), 65, WORDS("renamed.gguf", "blk.0.attn_norm.weight"));
}

static void test_vision_files(void **state)
{
    const char *m = box_model(), *p = picture();
    const char *missing = in_folder("missing-mmproj.gguf");
    expect(PROGRAM_ARGS("describe", "-m", m, "-v", missing, p), 66, WORDS("missing-mmproj.gguf", "No such file"));
    expect(PROGRAM_ARGS("describe", "-m", m, "-v", m, p), 65, WORDS("tiny.gguf"));          /* the text model twice */
    expect(PROGRAM_ARGS("describe", "-m", box_vision(), p), 65, WORDS("mmproj-tiny.gguf")); /* the vision file as model */
    expect(PROGRAM_ARGS("describe", "-m", m, p), 64, WORDS("vision")); /* a picture and none to look at it */
}

static void test_pictures(void **state)
{
    const char *m = box_model(), *v = box_vision();
    expect(PROGRAM_ARGS("describe", "-m", m, "-v", v, in_folder("missing.png")), 66, WORDS("missing.png", "No such file"));
    const char *text = in_folder("text.png");
    test_write_file(text, "this is no picture", 18);
    expect(PROGRAM_ARGS("describe", "-m", m, "-v", v, text), 65, WORDS("text.png"));
    const char *empty = in_folder("empty.jpg");
    test_write_file(empty, "", 0);
    expect(PROGRAM_ARGS("describe", "-m", m, "-v", v, empty), 65, WORDS("empty.jpg"));
    expect(PROGRAM_ARGS("describe", "-m", m, "-v", v, folder), 74, WORDS(folder));
}

static void test_schemas(void **state)
{
    const char *m = box_model(), *v = box_vision(), *p = picture();
    const char *schema = in_folder("schema.json");
    test_write_file(schema, "{\"type\": \"object\",\n \"type\"", 26);
    expect(PROGRAM_ARGS("describe", "-m", m, "-v", v, "--schema", schema, p), 65, WORDS("schema.json", "line 2"));
    static const char pattern[] = "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"pattern\":\"x\"}}}";
    test_write_file(schema, pattern, sizeof pattern - 1);
    expect(PROGRAM_ARGS("describe", "-m", m, "-v", v, "--schema", schema, p), 65, WORDS("schema.json", "pattern"));
    expect(PROGRAM_ARGS("describe", "-m", m, "-v", v, "--schema", in_folder("none.json"), p), 66, WORDS("none.json"));
}

static void test_command_lines(void **state)
{
    expect(PROGRAM_ARGS("descrbe"), 64, WORDS("descrbe", "describe"));
    expect(PROGRAM_ARGS("describe", "--modell", "x"), 64, WORDS("--modell", "--model"));
    expect(PROGRAM_ARGS("bench", "-p", "many"), 64, WORDS("many"));
    expect(PROGRAM_ARGS("bench", "--synthetic", "qwen3.5-0.8b:q9"), 64, WORDS("q9"));
    expect(PROGRAM_ARGS("describe", "-m", box_model(), "--device", "cuda:7", "--prompt", "x"), 66, WORDS("cuda"));
    expect(PROGRAM_ARGS("run", "now"), 64, WORDS("now"));
    expect(PROGRAM_ARGS("demo", "--seconds", "0"), 64, WORDS("seconds"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),  cmocka_unit_test(test_vision_files),  cmocka_unit_test(test_pictures),
        cmocka_unit_test(test_schemas), cmocka_unit_test(test_command_lines),
    };
    return cmocka_run_group_tests(tests, make_folder, NULL);
}
