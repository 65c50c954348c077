/* Configurations as text: the tree and its places, what a person sees of errors, and input that no person wrote. */
#include <stdlib.h>
#include <string.h>

#include "appliance/config.h"
#include "appliance/config_yaml.h"
#include "base/rng.h"
#include "tests/support/test.h"

/* What `heron check` would print about n bytes; malloc'ed. Fails when they are accepted. */
static char *printed(const char *text, size_t n, int *ret_n_errors)
{
    struct complaints complaints = {0};
    struct config *config = NULL;
    struct err err = {0};
    const int rc = config_load_text("heron.yaml", text, n, &complaints, &config, &err);
    if (rc != ERR_INVAL || config || complaints.n_errors == 0)
        fail_msg("%s, %d errors: %.*s", err_name(rc), complaints.n_errors, (int)(n < 500 ? n : 500), text);
    char *out = NULL;
    size_t out_n = 0;
    FILE *f = open_memstream(&out, &out_n);
    assert_non_null(f);
    complaint_print(&complaints, f, false);
    assert_int_equal(fclose(f), 0);
    if (ret_n_errors)
        *ret_n_errors = complaints.n_errors;
    complaint_release(&complaints);
    return out;
}

static void shows(const char *text, const char *want)
{
    char *got = printed(text, strlen(text), NULL);
    if (strcmp(got, want) != 0)
        fail_msg("got:\n%swant:\n%s", got, want);
    free(got);
}

/* n bytes are refused with one error that holds these words. */
static void refused_with(const char *text, size_t n, const char *words)
{
    int n_errors = 0;
    char *got = printed(text, n, &n_errors);
    if (n_errors != 1 || !test_contains(got, words))
        fail_msg("%d errors:\n%swant: %s", n_errors, got, words);
    free(got);
}

/* ---- what a person sees -------------------------------------------------------------------------------------------------- */

static void mistakes_with_their_places(void **state)
{
    shows(
        "enigne:\n"
        "  batch: 4\n"
        "mqtt:\n"
        "  prot: 1883\n"
        "  port: 70000\n"
        "  keepalive: 1\n"
        "cameras:\n"
        "  yard:\n"
        "    source: rtps://10.0.0.7/a\n"
        "    watch:\n"
        "      every: 5\n"
        "      every: 6s\n"
        "      rules:\n"
        "        fire: { ask: Is there fire?, for: 5 of 4, severity: alarm }\n",
        "heron.yaml:1:1: unknown key \"enigne\": did you mean \"engine\"?\n"
        "    enigne:\n"
        "    ^~~~~~\n"
        "heron.yaml:4:3: unknown key \"prot\": did you mean \"port\"?\n"
        "      prot: 1883\n"
        "      ^~~~\n"
        "heron.yaml:5:9: mqtt.port takes a whole number from 0 to 65535, not \"70000\"\n"
        "      port: 70000\n"
        "            ^~~~~\n"
        "heron.yaml:6:14: mqtt.keepalive takes a time from 5s to 1h with its unit, such as 5s, 10m or 1h30m, not \"1\"\n"
        "      keepalive: 1\n"
        "                 ^\n"
        "heron.yaml:9:13: source: unknown scheme `rtps:`, expected file:, rtsp:, rtsps:, v4l2:, gst: or synth:; did you mean "
        "`rtsp:`?\n"
        "        source: rtps://10.0.0.7/a\n"
        "                ^~~~~~~~~~~~~~~~~\n"
        "heron.yaml:11:14: cameras.yard.watch.every takes a time from 100ms to 1d with its unit, such as 5s, 10m or 1h30m, not "
        "\"5\"\n"
        "          every: 5\n"
        "                 ^\n"
        "heron.yaml:12:7: \"every\" is here for the second time: line 11 has it already\n"
        "          every: 6s\n"
        "          ^~~~~\n"
        "heron.yaml:14:43: cameras.yard.watch.rules.fire.for takes votes such as 3 of 4, of at most 32, not \"5 of 4\"\n"
        "            fire: { ask: Is there fire?, for: 5 of 4, severity: alarm }\n"
        "                                              ^~~~~~\n"
        "heron.yaml:14:61: cameras.yard.watch.rules.fire.severity is detection or alert, not \"alarm\" (did you mean alert?)\n"
        "            fire: { ask: Is there fire?, for: 5 of 4, severity: alarm }\n"
        "                                                                ^~~~~\n");
}

static void syntax_errors(void **state)
{
    shows("cameras:\n\tyard: x\n", "heron.yaml:2:1: tab character may not be used as indentation\n"
                                   "    \tyard: x\n"
                                   "    ^\n");
    shows("cameras:\n  yard:\n    source: synth:yard\n   watch:\n     every: 5s\n",
          "heron.yaml:4:4: invalid indentation in mapping\n"
          "       watch:\n"
          "       ^\n");
    shows("cameras: {yard: {source: 'synth:yard'}}}\n", "heron.yaml:1:40: flow mapping with invalid extra closing brace\n"
                                                        "    cameras: {yard: {source: 'synth:yard'}}}\n"
                                                        "                                           ^\n");
    shows("mqtt: { host: \"a\\qb\" }\n", "heron.yaml:1:17: invalid escape 'q' in double-quoted string\n"
                                         "    mqtt: { host: \"a\\qb\" }\n"
                                         "                    ^\n");
    shows("", "heron.yaml:1:1: no camera: Heron needs at least one, such as `cameras: { yard: { source: synth:yard } }`\n");
    shows("# nothing\n\n",
          "heron.yaml:1:1: no camera: Heron needs at least one, such as `cameras: { yard: { source: synth:yard } }`\n");
    shows("mqtt: { host: a }\ncameras:\n",
          "heron.yaml:2:1: no camera: Heron needs at least one, such as `cameras: { yard: { source: synth:yard } }`\n"
          "    cameras:\n"
          "    ^~~~~~~\n");
    shows("log: { level: info }\nmqtt:\n  host: |0\n    x\n", "heron.yaml:3:3: from here on this is not YAML\n"
                                                              "      host: |0\n"
                                                              "      ^\n");
    shows("hello\n", "heron.yaml:1:1: expected keys such as `cameras:` at the beginning of a line\n"
                     "    hello\n"
                     "    ^~~~~\n");
}

/* A column counts characters, and the caret stands under the character, also after tabs and wide letters. */
static void carets_count_characters(void **state)
{
    shows("engine: { device: g\xc3\xbcnstig, batch: \xe2\x82\xac, kv: f61 }\ncameras: { y: { source: 'synth:yard' } }\n",
          "heron.yaml:1:19: engine.device is auto, cpu, ref or cuda:N, or two that share a model, cuda:N+HOST:PORT, not "
          "\"g\xc3\xbcnstig\"\n"
          "    engine: { device: g\xc3\xbcnstig, batch: \xe2\x82\xac, kv: f61 }\n"
          "                      ^~~~~~~\n"
          "heron.yaml:1:35: engine.batch takes a whole number from 1 to 256, not \"\xe2\x82\xac\"\n"
          "    engine: { device: g\xc3\xbcnstig, batch: \xe2\x82\xac, kv: f61 }\n"
          "                                      ^\n"
          "heron.yaml:1:42: engine.kv is f16, q8_0 or f32, not \"f61\" (did you mean f16?)\n"
          "    engine: { device: g\xc3\xbcnstig, batch: \xe2\x82\xac, kv: f61 }\n"
          "                                             ^~~\n");
    shows("engine:\n  batch:\t0\ncameras: { y: { source: 'synth:yard' } }\n",
          "heron.yaml:2:10: engine.batch takes a whole number from 1 to 256, not \"0\"\n"
          "      batch:\t0\n"
          "            \t^\n");
    /* lines that end as Windows writes them */
    shows("engine:\r\n  batch: 0\r\ncameras: { y: { source: 'synth:yard' } }\r\n",
          "heron.yaml:2:10: engine.batch takes a whole number from 1 to 256, not \"0\"\n"
          "      batch: 0\n"
          "             ^\n");
}

/* No password is repeated, wherever it was written by mistake, and whatever is wrong with the line. */
static void secrets_are_not_repeated(void **state)
{
    shows("mqtt:\n  username: u\n  password: geheim\ncameras: { y: { source: 'synth:yard' } }\n",
          "heron.yaml:3:13: mqtt.password must not stand in the file: write { credential: NAME } (systemd's LoadCredential=), "
          "{ file: PATH } or { env: NAME }\n");
    static const char *const texts[] = {
        "mqtt: { username: u, pasword: geheim }\ncameras: { y: { source: 'synth:yard' } }\n",
        "mqtt: { prot: 1, username: u, password: geheim, tls: { ca: a } }\ncameras: { y: { source: 'synth:yard' } }\n",
        "mqtt: { username: u, password: { env: X }, prot: 1 }\ncameras: { y: { password: geheim, source: 'synth:yard' } }\n",
        "mqtt: { username: u, \"password\": \"geheim\" }\ncameras: { y: { source: 'synth:yard' } }\n",
        "mqtt: { username: u, password: [geheim] }\ncameras: { y: { source: 'synth:yard' } }\n",
        "mqtt: { username: u, password: >\n  geheim\n }\ncameras: { y: { source: 'synth:yard' } }\n",
        "mqtt: { username: u, password: geheim } }\ncameras: { y: { source: 'synth:yard' } }\n",
        "mqtt: { host: 'mqtt://u:geheim@broker' }\ncameras: { y: { source: 'synth:yard' } }\n",
        "cameras: { y: { source: 'rtsp://u:geheim@cam:0/x' } }\n",
        "cameras: { y: { source: 'rtsp://u:geheim/x@cam/x' } }\n",
        "cameras: { y: { source: 'rtsp://u:geheim#x@cam/x' } }\n",
        "cameras: { y: { source: 'rtsp://u:%%zzgeheim@cam/x' } }\n",
        "cameras: { y: { sorce: 'rtsp://u:geheim@cam/x' } }\n",
        "cameras: { y: { source: 'gst:rtspsrc location=rtsp://cam/x user-id=u user-pw=geheim ! nosuchelement' } }\n",
        "cameras: { y: { sorce: 'gst:souphttpsrc user-pw=\"ge geheim\" ! fakesink' } }\n",
        "cameras: { y: { source: "
        "'rtsp://u:geheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheim"
        "geheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgehe"
        "im@c/x' } }\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char *got = printed(texts[i], strlen(texts[i]), NULL);
        if (strstr(got, "geheim"))
            fail_msg("%s%s", texts[i], got);
        free(got);
    }
}

static void at_most_twenty_are_shown(void **state)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    for (int i = 0; i < 57; i++)
        fprintf(f, "zzz%d: 1\n", i);
    fputs("cameras: { y: { source: 'synth:yard' } }\n", f);
    fclose(f);
    int n_errors = 0, n_shown = 0;
    char *got = printed(text, n, &n_errors);
    assert_int_equal(n_errors, 57);
    for (const char *p = got; (p = strstr(p, "unknown key")) != NULL; p++)
        n_shown++;
    assert_int_equal(n_shown, COMPLAINTS_MAX);
    assert_true(test_contains(got, "heron.yaml:20:1: unknown key \"zzz19\""));
    assert_true(test_contains(got, "and 37 further errors\n"));
    free(got);
    free(text);
}

/* Escapes of YAML can write what a terminal obeys and what looks like a line of ours. */
static void nothing_shown_moves_a_cursor(void **state)
{
    static const char *const texts[] = {
        "\"a\\e[31mb\": 1\n",
        "\"a\\nheron.yaml:1:1: all is well\": 1\n",
        "engine: { device: \"\\e]0;x\\a\", kv: \"\\u009b1m\", batch: \"\\x7f\" }\n",
        "cameras: { \"y\\r\": {} }\n",
        "cameras: { y: { source: \"synth:\\e[2J\" } }\n",
        /* 31 letters of two bytes, cut at 60 bytes and at 61 */
        "engine: { kv: \xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
        "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3"
        "\xa9"
        "\xc3\xa9\xc3\xa9\xc3\xa9, batch: "
        "a\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
        "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3"
        "\xa9"
        "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9 }\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct complaints complaints = {0};
        struct config *config = NULL;
        assert_int_equal(config_load_text("a.yaml", texts[i], strlen(texts[i]), &complaints, &config, NULL), ERR_INVAL);
        for (int k = 0; k < complaints.n; k++)
            for (const unsigned char *p = (const unsigned char *)complaints.items[k].message; *p; p++)
                if (*p < 0x20 || *p == 0x7F || (*p == 0xC2 && p[1] < 0xA0) || (*p == 0xC3 && (p[1] & 0xC0) != 0x80))
                    fail_msg("%zu: byte 0x%02x in %s", i, *p, complaints.items[k].message);
        complaint_release(&complaints);
    }
}

/* ---- the tree ------------------------------------------------------------------------------------------------------------ */

static struct yaml_file *parsed(const char *text)
{
    struct complaints complaints = {0};
    struct yaml_file *file = NULL;
    struct err err = {0};
    assert_ok(yaml_parse("t.yaml", text, strlen(text), &complaints, &file, &err), &err);
    if (complaints.n)
        fail_msg("%s: %s", text, complaints.items[0].message);
    return file;
}

static void the_tree_knows_its_places(void **state)
{
    struct yaml_file *f = parsed("a: &x { \"b\": [ 1, 'two' , ~ ] }\n"
                                 "\xc3\xa9: *x\n"
                                 "long: |\n"
                                 "  one\n"
                                 "  two\n"
                                 "folded: >-\n"
                                 "  one\n"
                                 "  two\n"
                                 "esc: \"\\t\\u00e9\\x41\\\\\"\n"
                                 "empty: ''\n"
                                 "none:\n");
    const struct yaml_node *root = f->root;
    assert_int_equal(root->kind, YAML_MAPPING);
    assert_int_equal(root->n, 7);
    const struct yaml_node *a = root->items[0], *list = a->items[0];
    assert_true(root->items[1] == a); /* an alias is the node itself */
    assert_string_equal(a->keys[0]->text, "b");
    assert_false(a->keys[0]->is_plain);
    assert_int_equal(list->kind, YAML_SEQUENCE);
    assert_int_equal(list->n, 3);
    assert_true(list->items[0]->is_plain && !list->items[1]->is_plain);
    assert_string_equal(list->items[1]->text, "two");
    assert_int_equal(list->items[1]->line, 1);
    assert_int_equal(list->items[1]->col, 19);
    assert_int_equal(list->items[1]->width, 5);
    assert_int_equal(list->items[2]->kind, YAML_NULL);
    assert_string_equal(root->keys[1]->text, "\xc3\xa9");
    assert_int_equal(root->keys[1]->width, 1);
    assert_string_equal(root->items[2]->text, "one\ntwo\n");
    assert_string_equal(root->items[3]->text, "one two");
    assert_string_equal(root->items[4]->text, "\t\xc3\xa9"
                                              "A\\");
    assert_int_equal(root->items[4]->line, 9);
    assert_int_equal(root->items[5]->kind, YAML_SCALAR);
    assert_string_equal(root->items[5]->text, "");
    assert_int_equal(root->items[6]->kind, YAML_NULL);
    yaml_free(f);
    f = parsed("");
    assert_int_equal(f->root->kind, YAML_NULL);
    yaml_free(f);
    yaml_free(NULL);
}

/* ---- what no person wrote ------------------------------------------------------------------------------------------------ */

#define REFUSED(text, words) refused_with(text, sizeof(text) - 1, words)

static void other_languages(void **state)
{
    REFUSED("mqtt: !!map { host: a }\ncameras: { y: { source: 'synth:yard' } }\n",
            "heron.yaml:1:7: tags (!...) are not used here");
    REFUSED("mqtt: &x { host: a }\n<<: *x\ncameras: { y: { source: 'synth:yard' } }\n",
            "heron.yaml:2:1: merge keys (<<) are not part of YAML 1.2");
    REFUSED("cameras: { y: { source: 'synth:yard' } }\n---\nmqtt: {}\n", "a second document (---) in one file");
    REFUSED("? [a]\n: 1\ncameras: { y: { source: 'synth:yard' } }\n", "a key is a word, not a list or a block");
    REFUSED("? { a: b }\n: 1\ncameras: { y: { source: 'synth:yard' } }\n", "a key is a word, not a list or a block");
    REFUSED("log: *nothing\ncameras: { y: { source: 'synth:yard' } }\n",
            "*nothing names nothing that was marked with &nothing above");
    REFUSED("log: &a { level: *a }\ncameras: { y: { source: 'synth:yard' } }\n",
            "*a names nothing that was marked"); /* no circles */
    REFUSED("[a, b]\n", "expected keys such as `cameras:`");
    REFUSED("mqtt: { client_id: \"in\\0fo\" }\ncameras: { y: { source: 'synth:yard' } }\n", "a text with a NUL character");
    REFUSED("mqtt.port: 1\ncameras: { y: { source: 'synth:yard' } }\n", "unknown key \"mqtt.port\"");
    REFUSED("cameras: { y: { source: 'synth:yard', watch.every: 1s } }\n", "unknown key \"watch.every\"");
    REFUSED("cameras: { '*': { source: 'synth:yard' }, y: { source: 'synth:yard' } }\n", "\"*\" cannot name a camera");
}

static void not_even_text(void **state)
{
    REFUSED("cameras:\0\n", "heron.yaml:1:9: control character 0x00");
    REFUSED("\x7f"
            "ELF\x02\x01\x01",
            "heron.yaml:1:1: control character 0x7F");
    REFUSED("a: \xff\n", "heron.yaml:1:4: byte 0xFF is not UTF-8: save the file as UTF-8");
    REFUSED("a: \xc3", "byte 0xC3 is not UTF-8");
    REFUSED("a: \xed\xa0\x80\n", "is not UTF-8"); /* a surrogate */
    REFUSED("\xff\xfe"
            "a\0:\0",
            "byte 0xFF is not UTF-8"); /* UTF-16 */
    REFUSED("a: \xc2\x9b\n", "control character 0x9B");
    REFUSED("a: \x1b[2J\n", "control character 0x1B");
    /* noise of all lengths ends in words, and never in a configuration */
    struct rng r = {.seed = 3};
    for (int i = 0; i < 3000; i++) {
        static const char yaml[] = "abc:: \n\n  -[]{}&*!|>'\"%@`#,?~0\t\\";
        char noise[200];
        const size_t n = rng_below(&r, sizeof noise);
        for (size_t k = 0; k < n; k++)
            noise[k] = i % 3 == 0 ? (char)rng_below(&r, 256) : yaml[rng_below(&r, sizeof yaml - 1)];
        free(printed(noise, n, NULL));
    }
}

static char *repeated(const char *head, const char *piece, int times, const char *tail)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    fputs(head, f);
    for (int i = 0; i < times; i++)
        fputs(piece, f);
    fputs(tail, f);
    fclose(f);
    return text;
}

static void too_much_of_everything(void **state)
{
    /* nested */
    static const struct {
        const char *piece;
        int times;
    } deep[] = {{"[", 25}, {"[", 100000}, {"{a: ", 25}, {"{a: ", 100000}, {"- ", 25}, {"- ", 5000}, {"? ", 5000}};
    for (size_t i = 0; i < sizeof deep / sizeof *deep; i++) {
        char *text = repeated("", deep[i].piece, deep[i].times, "");
        char *got = printed(text, strlen(text), NULL);
        /* the parser has a limit of its own and may speak first */
        if (deep[i].times == 25 && !test_contains(got, "nested deeper than 24 levels"))
            fail_msg("%s", got);
        free(got);
        free(text);
    }
    /* a bomb of aliases: each level holds the one before ten times */
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    fputs("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n", f);
    for (int i = 1; i < 20; i++) {
        fprintf(f, "a%d: &a%d [", i, i);
        for (int k = 0; k < 10; k++)
            fprintf(f, "*a%d%s", i - 1, k < 9 ? ", " : "]\n");
    }
    fputs("cameras: *a19\n", f);
    fclose(f);
    free(printed(text, n, NULL));
    free(text);
    /* values, anchors, bytes */
    text = repeated("thermal: { sensors: [", "a,", 20001, "] }\n");
    REFUSED(
        "thermal: { sensors: [a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a] }\ncameras: { y: { source: 'synth:yard' } }\n",
        "at most 16 words");
    refused_with(text, strlen(text), "more than 20000 values in one file");
    free(text);
    f = open_memstream(&text, &n);
    fputs("thermal: { sensors: [", f);
    for (int i = 0; i < 300; i++)
        fprintf(f, "&a%d b, ", i);
    fputs("] }\n", f);
    fclose(f);
    char *got = printed(text, n, NULL);
    assert_true(test_contains(got, "more than 256 anchors"));
    free(got);
    free(text);
    text = repeated("# ", "comment ", 131073, "\n");
    refused_with(text, strlen(text), "heron.yaml: larger than 1048576 bytes");
    free(text);
    text = repeated("cameras: { y: { source: 'synth:yard', watch: { prompt: '", "x", 100000, "' } } }\n");
    refused_with(text, strlen(text), "takes 1 to 8192 bytes, not 100000");
    free(text);
    text = repeated("cameras: { y: { source: 'synth:yard", "x", 100000, "' } }\n");
    refused_with(text, strlen(text), "takes 1 to 2000 bytes");
    free(text);
    text = repeated("", "k", 100000, ": 1\ncameras: { y: { source: 'synth:yard' } }\n");
    free(printed(text, strlen(text), NULL));
    free(text);
    /* a thousand errors, and the same key ten thousand times: an end, soon */
    text = repeated("", "a: 1\n", 10000, "");
    got = printed(text, strlen(text), NULL);
    assert_true(test_contains(got, "further errors"));
    free(got);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_with_their_places),
        cmocka_unit_test(syntax_errors),
        cmocka_unit_test(carets_count_characters),
        cmocka_unit_test(secrets_are_not_repeated),
        cmocka_unit_test(at_most_twenty_are_shown),
        cmocka_unit_test(nothing_shown_moves_a_cursor),
        cmocka_unit_test(the_tree_knows_its_places),
        cmocka_unit_test(other_languages),
        cmocka_unit_test(not_even_text),
        cmocka_unit_test(too_much_of_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
