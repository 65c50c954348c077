/* What is made from the table: the sample file, the JSON Schema for editors, the list of keys; and the default schema's file. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "appliance/config_table.h"
#include "tests/support/schema_judge.h"
#include "tests/support/test.h"

static void same_as_file(const char *text, const char *path, const char *command)
{
    size_t n = 0;
    assert_non_null(text);
    char *file = test_read_file(path, &n);
    if (n != strlen(text) || memcmp(file, text, n) != 0)
        fail_msg("%s differs from what config.def gives: %s > %s", path, command, path);
    free(file);
}

static struct config *load(const char *text)
{
    struct complaints complaints = {0};
    struct config *config = NULL;
    struct err err = {0};
    if (config_load_text("heron.yaml", text, strlen(text), &complaints, &config, &err) != 0 || complaints.n) {
        complaint_print(&complaints, stdout, false);
        fail_msg("%s", text);
    }
    complaint_release(&complaints);
    return config;
}

static void the_files_are_up_to_date(void **state)
{
    char *sample = config_sample(), *schema = config_json_schema();
    same_as_file(sample, "config/heron.yaml", "build/tools/config_text sample");
    same_as_file(schema, "config/schemas/config.json", "build/tools/config_text schema");
    same_as_file(config_default_schema, "config/schemas/observation-default.json", "edit config_default_schema, or restore");
    free(sample);
    free(schema);
}

/* A line of the sample that is a key behind a comment sign. */
static bool is_commented_key(const char *line)
{
    if (line[0] != '#')
        return false;
    const char *p = line + 1;
    p += strspn(p, " ");
    const size_t word = strspn(p, "abcdefghijklmnopqrstuvwxyz_");
    return (p - line - 1) % 2 == 0 && word && p[word] == ':' && (p[word + 1] == '\n' || p[word + 1] == ' ');
}

/* The sample as it is says nothing but defaults; with every comment sign removed it is still right. */
static void the_sample_is_a_configuration(void **state)
{
    char *sample = config_sample();
    assert_non_null(sample);
    struct config *c = load(sample), *plain = load("cameras: { yard: { source: 'synth:yard' } }");
    assert_string_equal(c->sha, plain->sha);
    assert_int_equal(c->n_later, 0);

    char *all = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&all, &n);
    int n_keys = 0;
    char *end = strstr(sample, "# The short form");
    assert_non_null(end);
    *end = '\0';
    for (char *save = NULL, *line = strtok_r(sample, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char with_end[600];
        snprintf(with_end, sizeof with_end, "%s\n", line);
        const bool is_key = is_commented_key(with_end);
        /* a rendered scene has no user */
        if (strncmp(line, "#    username:", 14) == 0 || strncmp(line, "#    password:", 14) == 0) {
            n_keys++;
            continue;
        }
        n_keys += is_key && line[strcspn(line, ":") + 1] != '\0';
        n_keys += line[0] == ' ' && line[strcspn(line, ":") + 1] != '\0';
        fputs(is_key ? with_end + 1 : with_end, f);
    }
    fclose(f);
    assert_int_equal(n_keys, CONFIG_KEY_COUNT);
    struct config *full = load(all);
    assert_string_equal(full->cameras[0]->rules[0].id, "blocked");
    assert_string_equal(full->engine.model, "/var/lib/heron/models/Qwen3.5-4B-Q4_K_M.gguf");
    assert_int_equal(full->thermal.sensors.n, 2);
    assert_int_equal(full->mqtt.password.kind, SECRET_CREDENTIAL);
    /* keys that have defaults show them */
    for (int i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_row *row = &config_rows[i];
        const bool is_camera = row->scope == CONFIG_CAMERA;
        if (row->def && row->scope != CONFIG_RULE &&
            !config_value_equal(row, is_camera ? (const void *)full->cameras[0] : full,
                                is_camera ? (const void *)c->cameras[0] : c))
            fail_msg("%s is not shown with its default", row->path);
    }
    config_free(full);
    config_free(plain);
    config_free(c);
    free(all);
    free(sample);
}

static void the_list_names_every_key(void **state)
{
    char *help = config_help();
    assert_non_null(help);
    int n = 0;
    char *save = NULL;
    for (char *line = strtok_r(help, "\n", &save); line; line = strtok_r(NULL, "\n", &save), n++) {
        assert_true(n < CONFIG_KEY_COUNT);
        const size_t length = strlen(config_rows[n].path);
        assert_true(strncmp(line, config_rows[n].path, length) == 0 && line[length] == ' ');
        assert_true(test_contains(line, config_rows[n].help));
        assert_true(test_contains(line, "(later)") == ((config_rows[n].flags & CONFIG_LATER) != 0));
    }
    assert_int_equal(n, CONFIG_KEY_COUNT);
    free(help);
}

/* ---- the schema, judged by somebody else --------------------------------------------------------------------------------- */

/* A tree as an editor's YAML reader sees it: plain words that look like numbers and truth values are these. */
static json_t *to_json(const struct yaml_node *node)
{
    if (node->kind == YAML_MAPPING || node->kind == YAML_SEQUENCE) {
        json_t *out = node->kind == YAML_MAPPING ? json_object() : json_array();
        for (int i = 0; i < node->n; i++)
            if (node->kind == YAML_MAPPING)
                json_object_set_new(out, node->keys[i]->text, to_json(node->items[i]));
            else
                json_array_append_new(out, to_json(node->items[i]));
        return out;
    }
    if (node->kind == YAML_NULL)
        return json_null();
    char *end = NULL;
    if (node->is_plain && (strcmp(node->text, "true") == 0 || strcmp(node->text, "false") == 0))
        return json_boolean(node->text[0] == 't');
    if (node->is_plain && (isdigit((unsigned char)node->text[0]) || node->text[0] == '-')) {
        const long long i = strtoll(node->text, &end, 10);
        if (!*end)
            return json_integer(i);
        const double d = strtod(node->text, &end);
        if (!*end)
            return json_real(d);
    }
    return json_string(node->text);
}

static char *yaml_to_json(const char *text)
{
    struct complaints complaints = {0};
    struct yaml_file *file = NULL;
    struct err err = {0};
    assert_ok(yaml_parse("t.yaml", text, strlen(text), &complaints, &file, &err), &err);
    assert_int_equal(complaints.n, 0);
    json_t *json = to_json(file->root);
    char *out = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(json);
    yaml_free(file);
    assert_non_null(out);
    return out;
}

static void an_editor_agrees(void **state)
{
    if (!schema_judge_is_there())
        skip_because("python3-jsonschema is not installed");
    char *sample = config_sample();
    const char *const good[] = {
        sample,
        "cameras:\n  dock:\n    source: rtsp://10.0.0.7/stream1\n",
        "engine: { model: a.gguf, vision: b.gguf, device: 'cuda:0', context: 80000, kv: f16, batch: 4, threads: 12, memory: "
        "96GiB }\n"
        "thermal: { limit: 70, sensors: [cpu, gpu] }\n"
        "mqtt: { host: b.lan, port: 8884, topic_prefix: site/heron, client_id: 17, username: heron, password: { credential: pw "
        "},\n"
        "  keepalive: 1m30s, tls: { ca: a, cert: b, key: c }, compat: frigate, discovery: { enabled: off, prefix: ha } }\n"
        "log: { level: debug }\n"
        "cameras:\n  dock:\n    source: rtsp://10.0.0.7/stream1\n    username: viewer\n    password: { env: P }\n    "
        "transport: udp\n"
        "    enabled: no\n    watch: { every: 500ms, deadline: 10s, max_pixels: 65536, max_tokens: 64, thinking: true, prompt: "
        "Look.,\n"
        "      rules: { a: A?, b: { ask: B?, for: 3 of 4, cooldown: 10m, severity: alert, threshold: 0.95, on_unavailable: "
        "hold } } }\n",
        "engine: { kv: , memory: 4096 }\nmqtt: ~\nlog: { level: }\ncameras: { y: { source: 'synth:yard', enabled: , watch: } "
        "}\n",
    };
    char verdict[16000];
    const int n = (int)(sizeof good / sizeof *good);
    char *payloads[sizeof good / sizeof *good];
    for (int i = 0; i < n; i++) {
        config_free(load(good[i]));
        payloads[i] = yaml_to_json(good[i]);
    }
    if (schema_judge("config.json", (const char *const *)payloads, n, verdict, sizeof verdict) != n)
        fail_msg("%s", verdict);
    for (int i = 0; i < n; i++)
        free(payloads[i]);
    free(sample);

    /* what Heron refuses and a schema of one file can know is refused by the schema too */
    static const char *const bad[] = {
        "enigne: {}\ncameras: { y: { source: 'synth:yard' } }",
        "mqtt: { prot: 1 }\ncameras: { y: { source: 'synth:yard' } }",
        "engine: { batch: 0 }\ncameras: { y: { source: 'synth:yard' } }",
        "engine: { batch: '4' }\ncameras: { y: { source: 'synth:yard' } }",
        "engine: { kv: q8 }\ncameras: { y: { source: 'synth:yard' } }",
        "engine: [a]\ncameras: { y: { source: 'synth:yard' } }",
        "mqtt: { username: u, password: geheim }\ncameras: { y: { source: 'synth:yard' } }",
        "mqtt: { username: u, password: { fiel: x } }\ncameras: { y: { source: 'synth:yard' } }",
        "mqtt: { keepalive: 30 }\ncameras: { y: { source: 'synth:yard' } }",
        "mqtt: { discovery: { enabled: maybe } }\ncameras: { y: { source: 'synth:yard' } }",
        "cameras: { Y: { source: 'synth:yard' } }",
        "cameras: { y: { source: 'synth:yard', watch: { every: 5 } } }",
        "cameras: { y: { source: 'synth:yard', watch: { rules: { a: { ask: x, for: 1of2 } } } } }",
        "cameras: { y: { source: 'synth:yard', watch: { rules: { a: { ask: x, threshold: 1.5 } } } } }",
    };
    char *lines[sizeof bad / sizeof *bad];
    const int n_bad = (int)(sizeof bad / sizeof *bad);
    for (int i = 0; i < n_bad; i++) {
        struct complaints complaints = {0};
        struct config *config = NULL;
        assert_int_equal(config_load_text("a", bad[i], strlen(bad[i]), &complaints, &config, NULL), ERR_INVAL);
        complaint_release(&complaints);
        lines[i] = yaml_to_json(bad[i]);
    }
    assert_int_equal(schema_judge("config.json", (const char *const *)lines, n_bad, verdict, sizeof verdict), -1);
    for (int i = 0; i < n_bad; i++) {
        char line[20];
        snprintf(line, sizeof line, "line %d: ", i + 1);
        if (!strstr(verdict, line))
            fail_msg("the schema has nothing against: %s", bad[i]);
        free(lines[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_files_are_up_to_date),
        cmocka_unit_test(the_sample_is_a_configuration),
        cmocka_unit_test(the_list_names_every_key),
        cmocka_unit_test(an_editor_agrees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
