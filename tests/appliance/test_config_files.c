/* The configuration's files: drop-ins, schemas, the digest, what a reload may apply, secrets. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "appliance/config.h"
#include "tests/support/test.h"

#define YARD "cameras: { yard: { source: 'synth:yard' } }\n"

static struct config *load(const char *text)
{
    struct complaints complaints = {0};
    struct config *config = NULL;
    struct err err = {0};
    assert_ok(config_load_text("a.yaml", text, strlen(text), &complaints, &config, &err), &err);
    assert_int_equal(complaints.n_errors, 0);
    complaint_release(&complaints);
    return config;
}

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    test_write_text(path, text);
}

/* ---- files --------------------------------------------------------------------------------------------------------------- */

static void drop_ins_override_single_keys(void **state)
{
    const char *dir = test_temp_dir();
    char path[600], conf_d[600];
    snprintf(path, sizeof path, "%s/heron.yaml", dir);
    snprintf(conf_d, sizeof conf_d, "%s/conf.d", dir);
    assert_int_equal(mkdir(conf_d, 0755), 0);
    write_file(dir, "heron.yaml",
               "mqtt: { host: one, port: 1, tls: { ca: site.pem } }\n"
               "cameras:\n  yard:\n    source: synth:yard\n    watch: { every: 1s, rules: { a: A? } }\n");
    write_file(conf_d, "10-first.yaml", "mqtt: { host: two, port: 2 }\n");
    write_file(conf_d, "20-second.yaml",
               "mqtt: { host: three, tls: { cert: c.pem, key: k.pem } }\n"
               "cameras:\n  yard: { watch: { deadline: 3s, rules: { a: { threshold: 0.5 }, b: B? } } }\n"
               "  dock: { source: 'synth:yard' }\n");
    write_file(conf_d, "30-empty.yaml", "# nothing\n");
    write_file(conf_d, "40-other.yml", "nonsense: 1\n");
    write_file(conf_d, ".50-hidden.yaml", "nonsense: 1\n");
    write_file(conf_d, "60-backup.yaml~", "nonsense: 1\n");
    struct complaints complaints = {0};
    struct config *c = NULL;
    struct err err = {0};
    assert_ok(config_load(path, &complaints, &c, &err), &err);
    assert_int_equal(complaints.n, 0);
    assert_string_equal(c->path, path);
    assert_string_equal(c->mqtt.host, "three");
    assert_int_equal(c->mqtt.port, 2);
    assert_int_equal(c->n_cameras, 2);
    const struct config_camera *yard = config_camera_find(c, "yard");
    assert_true(yard->every_ns == INT64_C(1000000000) && yard->deadline_ns == INT64_C(3000000000));
    assert_int_equal(yard->n_rules, 2);
    assert_string_equal(yard->rules[0].ask, "A?");
    assert_true(yard->rules[0].threshold == 0.5);
    /* a relative path is seen from the file that names it */
    char want[700];
    snprintf(want, sizeof want, "%s/site.pem", dir);
    assert_string_equal(c->mqtt.tls_ca, want);
    snprintf(want, sizeof want, "%s/c.pem", conf_d);
    assert_string_equal(c->mqtt.tls_cert, want);
    /* a place names its file */
    snprintf(want, sizeof want, "%s/20-second.yaml", conf_d);
    assert_string_equal(c->places.of[CONFIG_mqtt_host].file, want);
    config_free(c);
    c = NULL;

    /* errors of all files at once, in the order of files and lines; a pipe is not waited for */
    write_file(conf_d, "10-first.yaml", "mqtt: { hots: two }\n");
    write_file(conf_d, "20-second.yaml", "cameras: { dock: { } }\nengine: { bach: 1 }\n");
    write_file(dir, "heron.yaml", "mqtt:\n  port: x\n" YARD "lgo: {}\n");
    snprintf(want, sizeof want, "%s/70-pipe.yaml", conf_d);
    assert_int_equal(mkfifo(want, 0600), 0);
    assert_int_equal(config_load(path, &complaints, &c, &err), ERR_INVAL);
    assert_null(c);
    static const struct {
        const char *file;
        int line;
        const char *words;
    } order[] = {{"/heron.yaml", 2, "mqtt.port"},           {"/heron.yaml", 4, "\"lgo\""},
                 {"/conf.d/10-first.yaml", 1, "\"hots\""},  {"/conf.d/20-second.yaml", 1, "dock has no source"},
                 {"/conf.d/20-second.yaml", 2, "\"bach\""}, {"/conf.d/70-pipe.yaml", 0, "is not an ordinary file"}};
    assert_int_equal(complaints.n_errors, 6);
    for (int i = 0; i < 6; i++) {
        const struct complaint *m = &complaints.items[i];
        if (!test_contains(m->file, order[i].file) || m->line != order[i].line || !test_contains(m->message, order[i].words))
            fail_msg("complaint %d: %s:%d: %s", i, m->file, m->line, m->message);
    }
    complaint_release(&complaints);

    /* a main file that is not there is one error, not two */
    snprintf(path, sizeof path, "%s/nowhere/heron.yaml", dir);
    err_clear(&err);
    assert_err(config_load(path, &complaints, &c, &err), ERR_INVAL, &err,
               "heron.yaml: cannot be read: No such file or directory");
    assert_int_equal(complaints.n_errors, 1);
    complaint_release(&complaints);
    err_clear(&err);
    assert_err(config_load(dir, &complaints, &c, &err), ERR_INVAL, &err, "cannot be read: Is a directory");
    complaint_release(&complaints);
}

static void schemas_of_watches(void **state)
{
    const char *dir = test_temp_dir();
    char path[600];
    snprintf(path, sizeof path, "%s/heron.yaml", dir);
    write_file(dir, "heron.yaml", "cameras: { yard: { source: 'synth:yard', watch: { schema: s.json } } }\n");
    static const struct {
        const char *schema, *words; /* NULL: good */
    } cases[] = {
        {"{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"]}", NULL},
        {"{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"string\",\"pattern\":\"a\"}}}", "pattern"},
        {"{\"type\":\n\"object\",", "line 2, column"},
        {"", "line 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct complaints complaints = {0};
        struct config *c = NULL;
        struct err err = {0};
        write_file(dir, "s.json", cases[i].schema);
        const int rc = config_load(path, &complaints, &c, &err);
        if (!cases[i].words) {
            assert_ok(rc, &err);
            assert_string_equal(c->cameras[0]->schema_text, cases[i].schema);
            assert_true(test_contains(c->cameras[0]->schema_path, "/s.json"));
        } else {
            assert_int_equal(rc, ERR_INVAL);
            const struct complaint *first = complaint_first(&complaints);
            /* the place is that of the key in the configuration, the message names the schema's file */
            assert_int_equal(first->line, 1);
            assert_int_equal(first->col, 59);
            if (!test_contains(first->message, "/s.json: ") || !test_contains(first->message, cases[i].words))
                fail_msg("%s", first->message);
        }
        config_free(c);
        complaint_release(&complaints);
    }
    struct complaints complaints = {0};
    struct config *c = NULL;
    struct err err = {0};
    char schema[600];
    snprintf(schema, sizeof schema, "%s/s.json", dir);
    assert_int_equal(unlink(schema), 0);
    assert_int_equal(mkfifo(schema, 0600), 0);
    assert_err(config_load(path, &complaints, &c, &err), ERR_INVAL, &err, "is not an ordinary file");
    complaint_release(&complaints);
    assert_int_equal(unlink(schema), 0);
    FILE *f = fopen(schema, "w");
    for (int i = 0; i < 257 * 1024; i++)
        fputc(' ', f);
    fclose(f);
    err_clear(&err);
    assert_err(config_load(path, &complaints, &c, &err), ERR_INVAL, &err, "larger than 256 KiB");
    complaint_release(&complaints);
    test_write_file(schema, "{}\0", 3);
    err_clear(&err);
    assert_err(config_load(path, &complaints, &c, &err), ERR_INVAL, &err, "holds NUL bytes");
    complaint_release(&complaints);
}

/* ---- digest and reload --------------------------------------------------------------------------------------------------- */

static void the_digest_is_of_what_counts(void **state)
{
    struct config *base = load("mqtt: { host: a, port: 1 }\ncameras:\n  x: { source: 'synth:yard', enabled: on }\n"
                               "  y: { source: 'synth:yard?seed=2', watch: { every: 60s, rules: { r: Q? } } }\n");
    assert_int_equal(strlen(base->sha), 64);
    assert_int_equal(strspn(base->sha, "0123456789abcdef"), 64);
    static const char *const same[] = {
        /* order, comments, styles, units, defaults written out */
        "# a comment\ncameras:\n  y:\n    watch: { rules: { r: { ask: 'Q?' } }, every: 1m }\n    source: "
        "\"synth:yard?seed=2\"\n"
        "  x:\n    source: synth:yard # here\nmqtt:\n  port: 1\n  host: a\n",
        "engine: { batch: 8 }\nmqtt: { host: a, port: 1, keepalive: 30000ms }\ncameras:\n  x: { source: 'synth:yard', "
        "transport: tcp }\n"
        "  y: { source: 'synth:yard?seed=2', watch: { every: 60s, schema: default, rules: { r: Q? } } }\n",
    };
    static const char *const other[] = {
        "mqtt: { host: b, port: 1 }\ncameras:\n  x: { source: 'synth:yard' }\n  y: { source: 'synth:yard?seed=2', watch: { "
        "every: 60s, rules: { r: Q? } } }\n",
        "mqtt: { host: a, port: 1 }\ncameras:\n  x: { source: 'synth:yard' }\n  y: { source: 'synth:yard?seed=2', watch: { "
        "every: 61s, rules: { r: Q? } } }\n",
        "mqtt: { host: a, port: 1 }\ncameras:\n  x: { source: 'synth:yard' }\n  y: { source: 'synth:yard?seed=2', watch: { "
        "every: 60s, rules: { r: Q } } }\n",
        "mqtt: { host: a, port: 1 }\ncameras:\n  x: { source: 'synth:yard' }\n  y: { source: 'synth:yard?seed=2', watch: { "
        "every: 60s, rules: { s: Q? } } }\n",
        "mqtt: { host: a, port: 1 }\ncameras:\n  x: { source: 'synth:yard' }\n  z: { source: 'synth:yard?seed=2', watch: { "
        "every: 60s, rules: { r: Q? } } }\n",
        "mqtt: { host: a, port: 1, username: u, password: { env: P } }\ncameras:\n  x: { source: 'synth:yard' }\n"
        "  y: { source: 'synth:yard?seed=2', watch: { every: 60s, rules: { r: Q? } } }\n",
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        struct config *c = load(same[i]);
        if (strcmp(c->sha, base->sha) != 0)
            fail_msg("same %zu has another digest", i);
        config_free(c);
    }
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        struct config *c = load(other[i]);
        if (strcmp(c->sha, base->sha) == 0)
            fail_msg("other %zu has the same digest", i);
        config_free(c);
    }
    config_free(base);
}

/* Every key: a value that differs from the default changes the digest, and is either applied by a reload or named as waiting. */
static void every_key_counts(void **state)
{
    static const struct {
        const char *text;
        bool is_restart, is_source, is_watch;
    } cases[] = {
        {"engine: { model: m, vision: v }", true, false, false},
        {"engine: { device: cpu }", true, false, false},
        {"engine: { context: 4096 }", true, false, false},
        {"engine: { kv: f32 }", true, false, false},
        {"engine: { batch: 1 }", true, false, false},
        {"engine: { threads: 1 }", true, false, false},
        {"engine: { memory: 1GB }", true, false, false},
        {"thermal: { limit: 60 }", true, false, false},
        {"thermal: { sensors: cpu }", true, false, false},
        {"mqtt: { host: h }", true, false, false},
        {"mqtt: { port: 1 }", true, false, false},
        {"mqtt: { topic_prefix: p }", true, false, false},
        {"mqtt: { client_id: c }", true, false, false},
        {"mqtt: { username: u }", true, false, false},
        {"mqtt: { keepalive: 10s }", true, false, false},
        {"mqtt: { tls: { ca: c } }", true, false, false},
        {"mqtt: { compat: frigate }", true, false, false},
        {"mqtt: { discovery: { enabled: off } }", true, false, false},
        {"mqtt: { discovery: { prefix: p } }", true, false, false},
        {"log: { level: error }", false, false, false},
        {"cameras: { a: { source: 'rtsp://b/2' } }", false, true, false},
        {"cameras: { a: { source: 'rtsp://b/1', username: u } }", false, true, false},
        {"cameras: { a: { source: 'rtsp://b/1', username: u, password: { env: P } } }", false, true, false},
        {"cameras: { a: { source: 'rtsp://b/1', transport: udp } }", false, true, false},
        {"cameras: { a: { source: 'rtsp://b/1', enabled: off } }", false, true, false},
        {"cameras: { a: { source: 'rtsp://b/1', watch: { every: 1s } } }", false, false, true},
        {"cameras: { a: { source: 'rtsp://b/1', watch: { deadline: 1s } } }", false, false, true},
        {"cameras: { a: { source: 'rtsp://b/1', watch: { max_pixels: 4096 } } }", false, false, true},
        {"cameras: { a: { source: 'rtsp://b/1', watch: { max_tokens: 99 } } }", false, false, true},
        {"cameras: { a: { source: 'rtsp://b/1', watch: { thinking: on } } }", false, false, true},
        {"cameras: { a: { source: 'rtsp://b/1', watch: { prompt: Look. } } }", false, false, true},
    };
    struct config *base = load("cameras: { a: { source: 'rtsp://b/1' } }\n");
    char keys[400];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[400];
        snprintf(text, sizeof text, "%s\n%s", cases[i].text,
                 strstr(cases[i].text, "cameras") ? "" : "cameras: { a: { source: 'rtsp://b/1' } }\n");
        struct config *c = load(text);
        const bool is_restart = config_restart_keys(base, c, keys, sizeof keys) > 0;
        if (strcmp(c->sha, base->sha) == 0 || is_restart != cases[i].is_restart ||
            config_camera_source_differs(base->cameras[0], c->cameras[0]) != cases[i].is_source ||
            config_camera_watch_differs(base->cameras[0], c->cameras[0]) != cases[i].is_watch)
            fail_msg("%s", cases[i].text);
        config_free(c);
    }
    struct config *c = load("engine: { batch: 2, device: cpu }\nmqtt: { host: h, tls: { ca: c } }\nlog: { level: debug }\n"
                            "cameras: { a: { source: 'rtsp://b/1' }, b: { source: 'synth:yard' } }\n");
    assert_int_equal(config_restart_keys(base, c, keys, sizeof keys), 4);
    assert_string_equal(keys, "engine.device, engine.batch, mqtt.host, mqtt.tls.ca");
    assert_int_equal(config_restart_keys(base, c, keys, 10), 4); /* cut, and counted in full */
    assert_string_equal(keys, "engine.de");
    assert_int_equal(config_restart_keys(base, base, keys, sizeof keys), 0);
    assert_string_equal(keys, "");
    config_free(c);
    config_free(base);
}

/* ---- secrets ------------------------------------------------------------------------------------------------------------- */

static void secrets(void **state)
{
    const char *dir = test_temp_dir();
    char out[SECRET_MAX_BYTES + 1], path[600], longer[SECRET_MAX_BYTES + 3];
    struct err err = {0};
    struct secret_ref ref = {0};
    strcpy(out, "before");
    assert_ok(secret_read(&ref, "k", out, &err), &err);
    assert_string_equal(out, "");

    snprintf(path, sizeof path, "%s/pw", dir);
    ref = (struct secret_ref){SECRET_FILE, path};
    assert_err(secret_read(&ref, "mqtt.password", out, &err), ERR_NOT_FOUND, &err, "mqtt.password: ");
    static const struct {
        const char *bytes, *want;
    } files[] = {
        {"geheim", "geheim"}, {"geheim\n", "geheim"}, {"geheim\r\n", "geheim"}, {"a b \n\n", "a b \n"}, {"", ""}, {"\n", ""}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        write_file(dir, "pw", files[i].bytes);
        err_clear(&err);
        assert_ok(secret_read(&ref, "k", out, &err), &err);
        assert_string_equal(out, files[i].want);
    }
    memset(longer, 'x', sizeof longer);
    longer[SECRET_MAX_BYTES] = '\0';
    write_file(dir, "pw", longer);
    assert_ok(secret_read(&ref, "k", out, &err), &err);
    assert_string_equal(out, longer);
    longer[SECRET_MAX_BYTES] = 'x';
    longer[SECRET_MAX_BYTES + 1] = '\0';
    write_file(dir, "pw", longer);
    assert_err(secret_read(&ref, "k", out, &err), ERR_FORMAT, &err, "at most 1024 bytes");
    test_write_file(path, "a\0b", 3);
    err_clear(&err);
    assert_err(secret_read(&ref, "k", out, &err), ERR_FORMAT, &err, "one line of at most");
    assert_false(test_contains(err.text, "a\n"));

    unsetenv("CREDENTIALS_DIRECTORY");
    ref = (struct secret_ref){SECRET_CREDENTIAL, (char *)"pw"};
    err_clear(&err);
    assert_err(secret_read(&ref, "k", out, &err), ERR_NOT_FOUND, &err, "LoadCredential=pw");
    setenv("CREDENTIALS_DIRECTORY", dir, 1);
    write_file(dir, "pw", "geheim\n");
    err_clear(&err);
    assert_ok(secret_read(&ref, "k", out, &err), &err);
    assert_string_equal(out, "geheim");
    unsetenv("CREDENTIALS_DIRECTORY");

    ref = (struct secret_ref){SECRET_ENV, (char *)"HERON_TEST_SECRET"};
    unsetenv("HERON_TEST_SECRET");
    assert_err(secret_read(&ref, "k", out, &err), ERR_NOT_FOUND, &err, "the environment has no HERON_TEST_SECRET");
    setenv("HERON_TEST_SECRET", "geheim", 1);
    err_clear(&err);
    assert_ok(secret_read(&ref, "k", out, &err), &err);
    assert_string_equal(out, "geheim");
    setenv("HERON_TEST_SECRET", longer, 1);
    assert_err(secret_read(&ref, "k", out, &err), ERR_FORMAT, &err, "longer than 1024 bytes");
    unsetenv("HERON_TEST_SECRET");
    secret_wipe(out, sizeof out);
    for (size_t i = 0; i < sizeof out; i++)
        assert_int_equal(out[i], 0);
}

/* A secret's file is looked at, not read: it may belong to another user. What is plainly wrong is a warning. */
static void secret_files_are_looked_at(void **state)
{
    const char *dir = test_temp_dir();
    char text[900], path[600];
    snprintf(path, sizeof path, "%s/pw", dir);
    snprintf(text, sizeof text, "mqtt: { username: u, password: { file: %s } }\n" YARD, path);
    static const struct {
        int mode; /* -1: no file */
        const char *words;
    } cases[] = {{-1, "there is no file"}, {0644, "everybody may read"}, {0600, NULL}, {0640, NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct complaints complaints = {0};
        struct config *c = NULL;
        struct err err = {0};
        if (cases[i].mode >= 0) {
            write_file(dir, "pw", "geheim");
            assert_int_equal(chmod(path, (mode_t)cases[i].mode), 0);
        }
        assert_ok(config_load_text("a.yaml", text, strlen(text), &complaints, &c, &err), &err);
        assert_int_equal(complaints.n_warnings, cases[i].words ? 1 : 0);
        if (cases[i].words) {
            assert_true(test_contains(complaints.items[0].message, cases[i].words));
            assert_string_equal(complaints.items[0].key, "mqtt.password");
            assert_true(complaints.items[0].is_warning && complaints.items[0].line == 1);
        }
        config_free(c);
        complaint_release(&complaints);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drop_ins_override_single_keys),
        cmocka_unit_test(schemas_of_watches),
        cmocka_unit_test(the_digest_is_of_what_counts),
        cmocka_unit_test(every_key_counts),
        cmocka_unit_test(secrets),
        cmocka_unit_test(secret_files_are_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
