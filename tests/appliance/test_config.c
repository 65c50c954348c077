/* The configuration's values: every kind, defaults, units, ranges, names, what belongs together. */
#include <stdlib.h>
#include <string.h>

#include "appliance/config_table.h"
#include "appliance/workload.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
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

/* A text that must be refused for one reason, whose message holds `words` and which is about `key`. */
static void refused(const char *text, const char *key, const char *words)
{
    struct complaints complaints = {0};
    struct config *config = NULL;
    struct err err = {0};
    const int rc = config_load_text("a.yaml", text, strlen(text), &complaints, &config, &err);
    const struct complaint *first = complaint_first(&complaints);
    if (rc != ERR_INVAL || config || complaints.n_errors != 1 || !first || strcmp(first->key, key) != 0 ||
        !test_contains(first->message, words))
        fail_msg("%s: %s, %d errors, first about \"%s\": %s; want one about \"%s\" with: %s", text, err_name(rc),
                 complaints.n_errors, first ? first->key : "", first ? first->message : "", key, words);
    assert_true(test_contains(err.text, words) || strlen(first->message) > 150);
    complaint_release(&complaints);
}

/* ---- values -------------------------------------------------------------------------------------------------------------- */

static void three_lines_are_a_configuration(void **state)
{
    struct config *c = load("cameras:\n  dock:\n    source: rtsp://10.0.0.7/stream1\n");
    assert_null(c->engine.model);
    assert_null(c->engine.vision);
    assert_string_equal(c->engine.device, "auto");
    assert_int_equal(c->engine.kv, CONFIG_KV_Q8_0);
    assert_int_equal(c->engine.batch, 8);
    assert_int_equal(c->thermal.limit_c, 68);
    assert_string_equal(c->mqtt.host, "localhost");
    assert_int_equal(c->mqtt.port, 0);
    assert_string_equal(c->mqtt.topic_prefix, "heron");
    assert_int_equal(c->mqtt.password.kind, SECRET_NONE);
    assert_true(c->mqtt.keepalive_ns == 30 * CLOCK_S);
    assert_true(c->mqtt.discovery);
    assert_string_equal(c->mqtt.discovery_prefix, "homeassistant");
    assert_int_equal(c->log_level, LOG_LEVEL_INFO);
    assert_int_equal(c->n_cameras, 1);
    const struct config_camera *dock = config_camera_find(c, "dock");
    assert_non_null(dock);
    assert_string_equal(dock->source, "rtsp://10.0.0.7/stream1");
    assert_int_equal(dock->transport, CONFIG_TCP);
    assert_true(dock->is_enabled);
    assert_false(dock->is_thinking);
    assert_true(dock->every_ns == 5 * CLOCK_S && dock->deadline_ns == 10 * CLOCK_S);
    assert_int_equal(dock->max_pixels, 262144);
    assert_int_equal(dock->max_tokens, 256);
    assert_null(dock->schema_path);
    assert_string_equal(dock->schema_text, config_default_schema);
    assert_non_null(dock->schema);
    assert_int_equal(dock->n_rules, 0);
    assert_null(config_camera_find(c, "yard"));
    assert_int_equal(c->n_later, 0);
    assert_null(c->places.of[CONFIG_mqtt_host].file);
    assert_int_equal(dock->places.of[CONFIG_camera_source].line, 3);
    assert_int_equal(dock->places.of[CONFIG_camera_source].col, 13);
    config_free(c);
}

/* Every key with another value than its default. */
static void everything_at_once(void **state)
{
    struct config *c = load("engine:\n"
                            "  model:  /var/lib/heron/models/a.gguf\n"
                            "  vision: mmproj.gguf\n"
                            "  device: cuda:0            # never falls back silently\n"
                            "  context: 80000\n"
                            "  kv: f16\n"
                            "  batch: 4\n"
                            "  threads: 12\n"
                            "  memory: 96GiB\n"
                            "thermal:\n"
                            "  limit: 70\n"
                            "  sensors: [cpu, gpu]\n"
                            "  policy: ladder\n"
                            "  blind: pause\n"
                            "  resume: 55\n"
                            "mqtt:\n"
                            "  host: broker.lan\n"
                            "  port: 8884\n"
                            "  topic_prefix: site/heron\n"
                            "  client_id: \"heron dock\"\n"
                            "  username: heron\n"
                            "  tls: { ca: /etc/ssl/certs/site.pem, cert: c.pem, key: k.pem }\n"
                            "  password: { credential: mqtt-password }\n"
                            "  keepalive: 1m30s\n"
                            "  compat: frigate\n"
                            "  discovery: { enabled: off, prefix: ha }\n"
                            "log: { level: debug }\n"
                            "cameras:\n"
                            "  dock:\n"
                            "    source: rtsp://10.0.0.7/stream1\n"
                            "    username: viewer\n"
                            "    password: { env: DOCK_PASSWORD }\n"
                            "    transport: udp\n"
                            "    enabled: no\n"
                            "    watch:\n"
                            "      every: 500ms\n"
                            "      deadline: 50m10s\n"
                            "      max_pixels: 65536\n"
                            "      max_tokens: 64\n"
                            "      thinking: true\n"
                            "      prompt: |\n"
                            "        You watch\n"
                            "        a loading dock.\n"
                            "      rules:\n"
                            "        no_vest: Is a person without a safety vest on the dock?\n"
                            "        blocked: { ask: 'Is the exit blocked?', for: 3 of 4, cooldown: 10m, severity: alert,\n"
                            "                   threshold: 0.95, on_unavailable: hold }\n");
    assert_string_equal(c->engine.model, "/var/lib/heron/models/a.gguf");
    assert_string_equal(c->engine.vision, "mmproj.gguf");
    assert_string_equal(c->engine.device, "cuda:0");
    assert_int_equal(c->engine.context_tokens, 80000);
    assert_int_equal(c->engine.kv, CONFIG_KV_F16);
    assert_int_equal(c->engine.batch, 4);
    assert_int_equal(c->engine.threads, 12);
    assert_true(c->engine.memory_bytes == INT64_C(96) << 30);
    assert_int_equal(c->thermal.limit_c, 70);
    assert_int_equal(c->thermal.sensors.n, 2);
    assert_string_equal(c->thermal.sensors.items[1], "gpu");
    assert_int_equal(c->thermal.policy, WORKLOAD_LADDER);
    assert_int_equal(c->thermal.blind, 1);
    assert_int_equal(c->thermal.resume_c, 55);
    assert_string_equal(c->mqtt.host, "broker.lan");
    assert_int_equal(c->mqtt.port, 8884);
    assert_string_equal(c->mqtt.topic_prefix, "site/heron");
    assert_string_equal(c->mqtt.client_id, "heron dock");
    assert_string_equal(c->mqtt.username, "heron");
    assert_string_equal(c->mqtt.tls_ca, "/etc/ssl/certs/site.pem");
    assert_string_equal(c->mqtt.tls_cert, "c.pem");
    assert_string_equal(c->mqtt.tls_key, "k.pem");
    assert_int_equal(c->mqtt.password.kind, SECRET_CREDENTIAL);
    assert_string_equal(c->mqtt.password.name, "mqtt-password");
    assert_true(c->mqtt.keepalive_ns == 90 * CLOCK_S);
    assert_int_equal(c->mqtt.compat, 1);
    assert_false(c->mqtt.discovery);
    assert_string_equal(c->mqtt.discovery_prefix, "ha");
    assert_int_equal(c->log_level, LOG_LEVEL_DEBUG);
    const struct config_camera *dock = c->cameras[0];
    assert_string_equal(dock->username, "viewer");
    assert_int_equal(dock->password.kind, SECRET_ENV);
    assert_string_equal(dock->password.name, "DOCK_PASSWORD");
    assert_int_equal(dock->transport, CONFIG_UDP);
    assert_false(dock->is_enabled);
    assert_true(dock->is_thinking);
    assert_true(dock->every_ns == CLOCK_S / 2 && dock->deadline_ns == 3010 * CLOCK_S);
    assert_int_equal(dock->max_pixels, 65536);
    assert_int_equal(dock->max_tokens, 64);
    assert_string_equal(dock->prompt, "You watch\na loading dock.\n");
    assert_int_equal(dock->n_rules, 2);
    const struct config_rule *vest = &dock->rules[0], *blocked = &dock->rules[1];
    assert_string_equal(vest->id, "no_vest");
    assert_string_equal(vest->ask, "Is a person without a safety vest on the dock?");
    assert_true(vest->votes.n == 1 && vest->votes.of == 1 && vest->cooldown_ns == 0 && vest->threshold == 0.8);
    assert_true(vest->severity == 0 && vest->on_unavailable == 0);
    assert_string_equal(blocked->ask, "Is the exit blocked?");
    assert_true(blocked->votes.n == 3 && blocked->votes.of == 4 && blocked->cooldown_ns == 600 * CLOCK_S);
    assert_true(blocked->severity == 1 && blocked->threshold == 0.95 && blocked->on_unavailable == 1);
    /* what is accepted and not yet active is told, once each */
    assert_int_equal(c->n_later, 4);
    assert_string_equal(c->later[0], "mqtt.compat");
    assert_string_equal(c->later[3], "cameras.dock.watch.rules");
    config_free(c);
}

/* The example that users are shown, word for word. */
static void the_documented_example(void **state)
{
    struct config *c =
        load("engine:\n"
             "  model:  /var/lib/heron/models/Qwen3.5-122B-A10B-Q6_K-00001-of-00003.gguf\n"
             "  vision: /var/lib/heron/models/mmproj-Qwen3.5-122B-A10B-F16.gguf\n"
             "  device: auto            # cuda:0, cpu; never falls back silently\n"
             "  context: 80000          # tokens of memory per camera\n"
             "  kv: q8_0                # f16, q8_0, f32\n"
             "  batch: 8                # most sequences in one decode step\n"
             "thermal:\n"
             "  limit: 68               # degrees Celsius, GPU; others have defaults of their own\n"
             "mqtt:\n"
             "  host: broker.lan\n"
             "  tls: { ca: /etc/ssl/certs/site.pem }\n"
             "  password: { credential: mqtt-password }\n"
             "cameras:\n"
             "  dock:\n"
             "    source: rtsp://10.0.0.7/stream1\n"
             "    watch:\n"
             "      every: 5s\n"
             "      deadline: 10s\n"
             "      max_pixels: 262144    # the picture is scaled to at most this many pixels (256 tokens); also the budget "
             "per job\n"
             "      prompt: You watch a loading dock.\n"
             "      rules:\n"
             "        no_vest: Is a person without a safety vest on the dock?\n"
             "        blocked: { ask: Is the emergency exit blocked?, for: 3 of 4, cooldown: 10m, severity: alert }\n");
    assert_string_equal(c->engine.model, "/var/lib/heron/models/Qwen3.5-122B-A10B-Q6_K-00001-of-00003.gguf");
    assert_int_equal(c->engine.context_tokens, 80000);
    assert_string_equal(c->mqtt.username, "heron"); /* a password goes nowhere without a name */
    const struct config_camera *dock = config_camera_find(c, "dock");
    assert_string_equal(dock->prompt, "You watch a loading dock.");
    assert_int_equal(dock->n_rules, 2);
    assert_string_equal(dock->rules[0].ask, "Is a person without a safety vest on the dock?");
    assert_string_equal(dock->rules[1].ask, "Is the emergency exit blocked?");
    assert_true(dock->rules[1].votes.n == 3 && dock->rules[1].votes.of == 4 && dock->rules[1].severity == 1);
    config_free(c);
}

static void units(void **state)
{
    static const struct {
        const char *text;
        int64_t ns; /* -1: refused */
    } durations[] = {{"0s", 0},
                     {"5s", 5 * CLOCK_S},
                     {"250ms", 250 * CLOCK_MS},
                     {"1h30m", 5400 * CLOCK_S},
                     {"1d", 86400 * CLOCK_S},
                     {"2m5ms", 120 * CLOCK_S + 5 * CLOCK_MS},
                     {"5", -1},
                     {"", -1},
                     {"s", -1},
                     {"-5s", -1},
                     {"5 s", -1},
                     {"5S", -1},
                     {"1.5s", -1},
                     {"30m1h", -1},
                     {"5s5s", -1},
                     {"5sec", -1},
                     {"99999999999d", -1},
                     {"9223372036854775808s", -1},
                     {"106751d23h47m16s854ms", INT64_C(9223372036854) * CLOCK_MS},
                     {"106751d23h47m16s855ms", -1},
                     {"106752d", -1},
                     {"+1s", -1},
                     {"0x1s", -1}};
    for (size_t i = 0; i < sizeof durations / sizeof *durations; i++) {
        int64_t ns = -1;
        if (config_parse_duration(durations[i].text, &ns) != (durations[i].ns >= 0) || ns != durations[i].ns)
            fail_msg("\"%s\": %lld", durations[i].text, (long long)ns);
    }
    static const struct {
        const char *text;
        int64_t bytes;
    } sizes[] = {{"0", 0},         {"4096", 4096}, {"64MiB", 64 << 20}, {"10GB", INT64_C(10000000000)},
                 {"1kB", 1000},    {"1KB", 1000},  {"3B", 3},           {"2TiB", INT64_C(2) << 40},
                 {"1GiB1MiB", -1}, {"1 GiB", -1},  {"1gib", -1},        {"", -1},
                 {"GiB", -1},      {"1.5GiB", -1}, {"9999999TiB", -1},  {"-1", -1}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t bytes = -1;
        if (config_parse_size(sizes[i].text, &bytes) != (sizes[i].bytes >= 0) || bytes != sizes[i].bytes)
            fail_msg("\"%s\": %lld", sizes[i].text, (long long)bytes);
    }
    /* what is printed is read back */
    struct rng r = {.seed = 11};
    for (int i = 0; i < 2000; i++) {
        char text[80];
        int64_t ns = (int64_t)rng_below(&r, UINT64_C(1) << rng_below(&r, 43)) * CLOCK_MS, back = -1;
        config_format_duration(ns, text, sizeof text);
        if (!config_parse_duration(text, &back) || back != ns)
            fail_msg("%lld ns: %s: %lld", (long long)ns, text, (long long)back);
    }
    char text[80];
    config_format_duration(5400 * CLOCK_S, text, sizeof text);
    assert_string_equal(text, "1h30m");
}

/* One refusal of each kind of value; the key is named as the user wrote it. */
static void bad_values(void **state)
{
    static const struct {
        const char *text, *key, *words;
    } cases[] = {
        {"engine: { batch: 0 }", "engine.batch", "a whole number from 1 to 256, not \"0\""},
        {"engine: { batch: 257 }", "engine.batch", "from 1 to 256, not \"257\""},
        {"engine: { batch: 4.0 }", "engine.batch", "a whole number from 1 to 256, not \"4.0\""},
        {"engine: { batch: '4' }", "engine.batch", "a whole number"},
        {"engine: { batch: 0x4 }", "engine.batch", "not \"0x4\""},
        {"engine: { batch: 1_0 }", "engine.batch", "not \"1_0\""},
        {"engine: { batch: 99999999999999999999 }", "engine.batch", "not \"99999999999999999999\""},
        {"engine: { batch: [4] }", "engine.batch", "a whole number from 1 to 256, not a list"},
        {"engine: { batch: { a: 4 } }", "engine.batch", "not a block of keys"},
        {"engine: { kv: q8 }", "engine.kv", "engine.kv is f16, q8_0 or f32, not \"q8\" (did you mean q8_0?)"},
        {"engine: { kv: [f16] }", "engine.kv", "takes f16, q8_0 or f32, not a list"},
        {"engine: { memory: 64G }", "engine.memory", "a size such as 512MiB or 16GB, not \"64G\""},
        {"engine: { device: gpu }", "engine.device",
         "auto, cpu, ref or cuda:N, or two that share a model, cuda:N+HOST:PORT, not \"gpu\""},
        {"engine: { device: cuda }", "engine.device", "auto, cpu, ref or cuda:N"},
        {"engine: { device: 'cuda:-1' }", "engine.device", "auto, cpu, ref or cuda:N"},
        {"engine: { device: 'cuda: 0' }", "engine.device", "auto, cpu, ref or cuda:N"},
        {"engine: { device: 'cuda:0+' }", "engine.device", "or two that share a model, cuda:N+HOST:PORT, not \"cuda:0+\""},
        {"engine: { device: 'auto+spark2:7421' }", "engine.device", "cuda:N+HOST:PORT"},
        {"engine: { device: 'cuda:0+spark2' }", "engine.device", "cuda:N+HOST:PORT"},
        {"engine: { device: 'cuda:0+:7421' }", "engine.device", "cuda:N+HOST:PORT"},
        {"engine: { device: 'cuda:0+a:7421+b:7421' }", "engine.device", "cuda:N+HOST:PORT"},
        {"engine: { device: 'cuda:0+cuda:-1' }", "engine.device", "cuda:N+HOST:PORT"},
        {"engine: { device: '' }", "engine.device", "takes 1 to 100 bytes, not 0"},
        {"engine: { model: a.gguf }", "engine.model", "engine.model needs engine.vision"},
        {"engine: { vision: a.gguf }", "engine.vision", "engine.vision needs engine.model"},
        {"engine: { context: 400 }", "engine.context", "cannot hold camera yard's picture (up to 256 tokens)"},
        {"engine: [a]", "engine", "engine is a block of keys, not a list"},
        {"engine: cpu", "engine", "engine is a block of keys, not a single value"},
        {"thermal: { limit: 29 }", "thermal.limit", "from 30 to 110"},
        {"thermal: { sensors: [none, gpu] }", "thermal.sensors", "none stands alone"},
        {"thermal: { sensors: [cpu, 'simulated:spark'] }", "thermal.sensors", "simulated:spark stands alone"},
        {"thermal: { limit: 70, resume: 70 }", "thermal.resume", "below thermal.limit (70)"},
        {"thermal: { resume: 85 }", "thermal.resume", "85 for a CPU"},
        {"thermal: { policy: fast }", "thermal.policy", "throughput or ladder"},
        {"thermal: { sensors: { a: b } }", "thermal.sensors", "a list of at most 16 words"},
        {"thermal: { sensors: [a, [b]] }", "thermal.sensors", "a list of words"},
        {"thermal: { sensors: [a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a] }", "thermal.sensors", "at most 16 words"},
        {"mqtt: { port: 65536 }", "mqtt.port", "from 0 to 65535"},
        {"mqtt: { host: 'mqtt://broker' }", "mqtt.host", "a name or an address alone"},
        {"mqtt: { host: broker/x }", "mqtt.host", "a name or an address alone"},
        {"mqtt: { topic_prefix: a/# }", "mqtt.topic_prefix", "cannot begin a topic"},
        {"mqtt: { topic_prefix: /a }", "mqtt.topic_prefix", "cannot begin a topic"},
        {"mqtt: { topic_prefix: a/ }", "mqtt.topic_prefix", "cannot begin a topic"},
        {"mqtt: { topic_prefix: a//b }", "mqtt.topic_prefix", "cannot begin a topic"},
        {"mqtt: { topic_prefix: $SYS }", "mqtt.topic_prefix", "cannot begin a topic"},
        {"mqtt: { topic_prefix: ha, discovery: { prefix: ha } }", "mqtt.topic_prefix", "must differ"},
        {"mqtt: { keepalive: 30 }", "mqtt.keepalive",
         "a time from 5s to 1h with its unit, such as 5s, 10m or 1h30m, not \"30\""},
        {"mqtt: { keepalive: 4s999ms }", "mqtt.keepalive", "from 5s to 1h"},
        {"mqtt: { keepalive: 1h1ms }", "mqtt.keepalive", "from 5s to 1h"},
        {"mqtt: { tls: { cert: c.pem, ca: a.pem } }", "mqtt.tls.cert", "needs mqtt.tls.key"},
        {"mqtt: { tls: { key: k.pem, ca: a.pem } }", "mqtt.tls.key", "needs mqtt.tls.cert"},
        {"mqtt: { tls: { key: k.pem, cert: c.pem } }", "mqtt.tls.ca", "needs mqtt.tls.ca"},
        {"mqtt: { discovery: { enabled: maybe } }", "mqtt.discovery.enabled", "on or off, not \"maybe\""},
        {"mqtt: { discovery: { enabled: 'on' } }", "mqtt.discovery.enabled", "on or off"},
        {"mqtt: { username: a, password: { credential: ../x } }", "mqtt.password", "a credential is a name, not a path"},
        {"mqtt: { username: a, password: { fiel: x } }", "mqtt.password", "did you mean file?"},
        {"mqtt: { username: a, password: { env: x, file: y } }", "mqtt.password", "exactly one of"},
        {"mqtt: { username: a, password: {} }", "mqtt.password", "exactly one of"},
        {"mqtt: { username: a, password: { env: } }", "mqtt.password", "exactly one of"},
        {"mqtt: { username: a, password: geheim }", "mqtt.password", "must not stand in the file"},
        {"log: { level: warn }", "log.level", "did you mean warning?"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[300];
        snprintf(text, sizeof text, "%s\n" YARD, cases[i].text);
        refused(text, cases[i].key, cases[i].words);
    }
}

static void bad_cameras(void **state)
{
    static const struct {
        const char *camera, *key, *words;
    } cases[] = {
        {"{}", "cameras.yard.source", "camera yard has no source: add one such as `source: rtsp://10.0.0.7/stream1`"},
        {"", "cameras.yard.source", "camera yard has no source"},
        {"synth:yard", "cameras.yard", "cameras.yard is a block of keys, not a single value"},
        {"{ source: 'synth:yrad' }", "cameras.yard.source", "yard"},
        {"{ source: 'rtps://x/y' }", "cameras.yard.source", "did you mean `rtsp:`?"},
        {"{ source: 'synth:yard?sise=1x1' }", "cameras.yard.source", "did you mean `size`?"},
        {"{ source: '' }", "cameras.yard.source", "takes 1 to 2000 bytes, not 0"},
        {"{ source: 'synth:yard', username: a }", "cameras.yard.username", "username and password are for rtsp:// sources"},
        {"{ source: 'rtsp://x/y', password: { env: A } }", "cameras.yard.password", "camera yard: password needs username"},
        {"{ source: 'synth:yard', transport: sctp }", "cameras.yard.transport", "tcp or udp, not \"sctp\""},
        {"{ source: 'synth:yard', wacht: {} }", "cameras.yard.wacht", "unknown key \"wacht\": did you mean \"watch\"?"},
        {"{ source: 'synth:yard', zzzzzz: {} }", "cameras.yard.zzzzzz",
         "unknown key \"zzzzzz\"; known here: source, username, password, transport, enabled, watch"},
        {"{ source: 'synth:yard', watch: { every: 99ms } }", "cameras.yard.watch.every", "from 100ms to 1d"},
        {"{ source: 'synth:yard', watch: { max_pixels: 1023 } }", "cameras.yard.watch.max_pixels", "from 1024 to 16777216"},
        {"{ source: 'synth:yard', watch: { thinking: 1 } }", "cameras.yard.watch.thinking", "on or off, not \"1\""},
        {"{ source: 'synth:yard', watch: { prompt: '' } }", "cameras.yard.watch.prompt", "takes 1 to 8192 bytes"},
        {"{ source: 'synth:yard', watch: { schema: /nowhere/s.json } }", "cameras.yard.watch.schema",
         "/nowhere/s.json: No such file"},
        {"{ source: 'synth:yard', watch: { schema: / } }", "cameras.yard.watch.schema", "is not an ordinary file"},
        {"{ source: 'synth:yard', watch: { rules: { A: x } } }", "cameras.yard.watch.rules.A", "\"A\" cannot name a rule"},
        {"{ source: 'synth:yard', watch: { rules: { a: } } }", "cameras.yard.watch.rules.a.ask",
         "rule a of camera yard asks nothing"},
        {"{ source: 'synth:yard', watch: { rules: { a: { for: 1 of 2 } } } }", "cameras.yard.watch.rules.a.ask",
         "asks nothing: add `ask: ...`"},
        {"{ source: 'synth:yard', watch: { rules: { a: [x] } } }", "cameras.yard.watch.rules.a", "not a list"},
        {"{ source: 'synth:yard', watch: { rules: { a: { ask: [x] } } } }", "cameras.yard.watch.rules.a.ask",
         "a text, not a list"},
        {"{ source: 'synth:yard', watch: { rules: { a: { ask: x, aks: y } } } }", "cameras.yard.watch.rules.a.aks",
         "did you mean \"ask\"?"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[300];
        snprintf(text, sizeof text, "cameras:\n  yard: %s\n", cases[i].camera);
        refused(text, cases[i].key, cases[i].words);
    }
    static const char *const votes[] = {"0 of 1", "3 of 2",  "1 of 33", "1",       "1of2",    "1 of 2 ",
                                        "a of b", "-1 of 2", "1 of 2x", "01 of 2", "1 of +2", "99999999999 of 99999999999"};
    static const char *const chances[] = {"1.01", "-0.1", "nan", "inf", "50%", "''", "0x1p-1", "1e", "[0.5]"};
    for (size_t i = 0; i < sizeof votes / sizeof *votes; i++) {
        char text[300];
        snprintf(text, sizeof text,
                 "cameras: { yard: { source: 'synth:yard', watch: { rules: { a: { ask: x, for: \"%s\" } } } } }", votes[i]);
        refused(text, "cameras.yard.watch.rules.a.for", "votes such as 3 of 4, of at most 32");
    }
    for (size_t i = 0; i < sizeof chances / sizeof *chances; i++) {
        char text[300];
        snprintf(text, sizeof text,
                 "cameras: { yard: { source: 'synth:yard', watch: { rules: { a: { ask: x, threshold: %s } } } } }", chances[i]);
        refused(text, "cameras.yard.watch.rules.a.threshold", "a number from 0 to 1");
    }
}

static void names(void **state)
{
    static const char *const bad[] = {
        "Dock", "the dock", "dock-1", "d\xc3\xb6k", "a/b", "+", "#", "''", "a123456789012345678901234567890123456789012345678"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[300], key[80];
        snprintf(text, sizeof text, "cameras: { \"%s\": { source: 'synth:yard' }, ok: { source: 'synth:yard' } }", bad[i]);
        if (strcmp(bad[i], "''") == 0)
            snprintf(text, sizeof text, "cameras: { '': { source: 'synth:yard' }, ok: { source: 'synth:yard' } }");
        snprintf(key, sizeof key, "cameras.%s", strcmp(bad[i], "''") == 0 ? "" : bad[i]);
        refused(text, key, "cannot name a camera: 1 to 48 of the characters a-z, 0-9 and _");
    }
    /* topics of our own */
    refused("cameras: { stats: { source: 'synth:yard' }, ok: { source: 'synth:yard' } }", "cameras.stats",
            "Heron has a topic of that name");
    config_free(load("cameras: { a12345678901234567890123456789012345678901234567: { source: 'synth:yard' } }"));
    config_free(load("cameras: { '1': { source: 'synth:yard' } }"));
}

static void as_many_as_there_may_be(void **state)
{
    for (int over = 0; over < 2; over++) {
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);
        fputs("cameras:\n", f);
        for (int i = 0; i < CONFIG_CAMERAS_MAX + over; i++)
            fprintf(f, "  cam%d: { source: 'synth:yard?seed=%d' }\n", i, i);
        fclose(f);
        if (over)
            refused(text, "cameras", "more than 64 cameras");
        else {
            struct config *c = load(text);
            assert_int_equal(c->n_cameras, CONFIG_CAMERAS_MAX);
            assert_string_equal(config_camera_find(c, "cam63")->source, "synth:yard?seed=63");
            config_free(c);
        }
        free(text);
        f = open_memstream(&text, &n);
        fputs("cameras:\n  yard:\n    source: synth:yard\n    watch:\n      rules:\n", f);
        for (int i = 0; i < CONFIG_RULES_MAX + over; i++)
            fprintf(f, "        r%d: Is it %d?\n", i, i);
        fclose(f);
        if (over)
            refused(text, "cameras.yard.watch.rules", "more than 32 rules for one camera");
        else {
            struct config *c = load(text);
            assert_int_equal(c->cameras[0]->n_rules, CONFIG_RULES_MAX);
            config_free(c);
        }
        free(text);
    }
}

/* A key without a value, null and ~ are the default. */
static void nothing_is_the_default(void **state)
{
    struct config *plain = load(YARD);
    struct config *c =
        load("engine: { model: , batch: null, kv: ~, memory: }\nthermal:\nmqtt: { host: , password: , discovery: { enabled: } "
             "}\nlog: ~\n"
             "cameras: { yard: { source: 'synth:yard', transport: , watch: { every: , prompt: , schema: , rules: } } }\n");
    assert_string_equal(c->mqtt.host, "localhost");
    assert_int_equal(c->engine.batch, 8);
    assert_string_equal(c->sha, plain->sha);
    /* but not where it is in quotes */
    struct config *quoted = load("mqtt: { client_id: 'null' }\n" YARD);
    assert_string_equal(quoted->mqtt.client_id, "null");
    config_free(quoted);
    config_free(c);
    config_free(plain);
}

/* An alias brings a block; what it stands for is written once. */
static void cameras_share_by_aliases(void **state)
{
    struct config *c = load("cameras:\n"
                            "  a:\n    source: synth:yard\n    watch: &w\n      every: 1s\n      rules: { fire: Fire? }\n"
                            "  b:\n    source: synth:yard?seed=2\n    watch: *w\n");
    const struct config_camera *a = config_camera_find(c, "a"), *b = config_camera_find(c, "b");
    assert_true(a->every_ns == CLOCK_S && b->every_ns == CLOCK_S);
    assert_string_equal(b->rules[0].ask, "Fire?");
    assert_false(config_camera_watch_differs(a, b));
    assert_true(config_camera_source_differs(a, b));
    config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_lines_are_a_configuration),
        cmocka_unit_test(everything_at_once),
        cmocka_unit_test(the_documented_example),
        cmocka_unit_test(units),
        cmocka_unit_test(bad_values),
        cmocka_unit_test(bad_cameras),
        cmocka_unit_test(names),
        cmocka_unit_test(as_many_as_there_may_be),
        cmocka_unit_test(nothing_is_the_default),
        cmocka_unit_test(cameras_share_by_aliases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
