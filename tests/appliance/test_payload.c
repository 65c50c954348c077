/*
 * Every payload against its schema, judged by python-jsonschema: ordinary, empty and extreme values, and texts that nobody vouches for.
 */
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "appliance/payload.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "tests/support/schema_judge.h"

#define SHA "3f2a91c02b1d77777777777777777777777777777777777777777777777777ff"

/* Texts of cameras, models, brokers and files. */
static const char *const texts[] = {
    "plain",
    "quotes \" and \\ and / and '",
    "lines\nand\r\ttabs\b\f",
    "\x01\x02\x1b[31m\x7f",
    "Gr\xC3\xBC\xC3\x9F \xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80",
    "cut \xF0\x9F\x98",
    "\xFF\xFE\xC0\x80\xED\xA0\x80 latin \xE9t\xE9",
    "\xE2\x80\xA8\xE2\x80\xAE\xEF\xBF\xBF",
    "</script>&lt;%s%n${x}",
    " ",
};
#define N_TEXTS ((int)(sizeof texts / sizeof *texts))

#define PAYLOADS_MAX 128
static char *payloads[PAYLOADS_MAX];
static int n_payloads;

static char *keep(char *payload)
{
    assert_non_null(payload);
    assert_true(utf8_valid(payload, strlen(payload)));
    assert_null(strchr(payload, '\n'));
    assert_true(n_payloads < PAYLOADS_MAX);
    payloads[n_payloads++] = payload;
    return payload;
}

static int forget(void **state)
{
    while (n_payloads > 0)
        free(payloads[--n_payloads]);
    return 0;
}

/* All that were kept. */
static void judge(const char *schema)
{
    static char verdict[20000];
    if (!schema_judge_is_there())
        skip_because("python3-jsonschema is not installed");
    if (schema_judge(schema, (const char *const *)payloads, n_payloads, verdict, sizeof verdict) != n_payloads)
        fail_msg("%s: %s", schema, verdict);
}

/* The judge must say no, and with these words. */
static void assert_refused(const char *schema, const char *payload, const char *words)
{
    static char verdict[20000];
    if (schema_judge(schema, &payload, 1, verdict, sizeof verdict) != -1 || !test_contains(verdict, words))
        fail_msg("%s against %s: %s", payload, schema, verdict);
}

static void the_judge_says_no(void **state)
{
    if (!schema_judge_is_there())
        skip_because("python3-jsonschema is not installed");
    const char *ok =
        "{\"v\":1,\"sha\":\"" SHA "\",\"loaded_at\":1.5,\"source\":\"a\",\"pending_error\":null,\"restart_keys\":[]}";
    keep(strdup(ok));
    judge("config-state.json");
    assert_refused("config-state.json", "{\"v\":1}", "required");
    assert_refused("config-state.json", "{\"v\":1", "line 1");
    assert_refused("config-state.json", "", "line 1");
    assert_refused("config-state.json",
                   "{\"v\":1,\"sha\":\"" SHA
                   "\",\"sha\":\"x\",\"loaded_at\":1,\"source\":\"a\",\"pending_error\":null,\"restart_keys\":[]}",
                   "a key twice");
    assert_refused("config-state.json",
                   "{\"sha\":\"" SHA "\",\"v\":1,\"loaded_at\":1,\"source\":\"a\",\"pending_error\":null,\"restart_keys\":[]}",
                   "out of order");
    assert_refused("config-state.json",
                   "{\"v\":1,\"sha\":\"" SHA
                   "\",\"loaded_at\":NaN,\"source\":\"a\",\"pending_error\":null,\"restart_keys\":[]}",
                   "NaN is not JSON");
    assert_refused("config-state.json",
                   "{\"v\":1,\"sha\":\"" SHA
                   "\",\"loaded_at\":1,\"source\":\"a\",\"pending_error\":null,\"restart_keys\":[],\"x\":1}",
                   "Additional");
    assert_refused("config-state.json",
                   "{\"v\":1,\"sha\":\"" SHA
                   "\",\"loaded_at\":1,\"source\":\"\xFF\",\"pending_error\":null,\"restart_keys\":[]}",
                   "utf-8");
    assert_refused("switch.json", "\"ON\"", "is not one of");
}

/* ---- what is made --------------------------------------------------------------------------------------------------------- */

static struct payload_status a_status(void)
{
    return (struct payload_status){.state = PAYLOAD_RUNNING,
                                   .since_wall_ns = 1767123480123456789,
                                   .boot = 12,
                                   .version = "1.2-3-gabc",
                                   .config_sha = SHA,
                                   .engine_model = "Qwen3.5-0.8B",
                                   .engine_build = "avx2",
                                   .engine_device = "cpu",
                                   .engine_is_ready = true};
}

static struct payload_config a_config(void)
{
    return (struct payload_config){.sha = SHA, .loaded_wall_ns = 1767123000 * CLOCK_S, .source = "/etc/heron/heron.yaml"};
}

static struct payload_thermal a_heat(void)
{
    return (struct payload_thermal){.level = "warm",
                                    .sensor = "gpu0",
                                    .temp_c = 66.31,
                                    .limit_c = 68,
                                    .headroom_k = 1.69,
                                    .seconds_to_limit = INFINITY,
                                    .batch = 4,
                                    .idle_share = 0.125,
                                    .watts = NAN,
                                    .budget_w = 93.21,
                                    .since_wall_ns = 1767123480 * CLOCK_S,
                                    .needs_service = true,
                                    .trips = 2};
}

static void heat(void **state)
{
    static const double odd[] = {NAN, INFINITY, -INFINITY, 0, -40, 1e300};
    static const char *const levels[] = {"nominal", "warm", "throttled", "paused", "blind"};
    struct payload_thermal t = a_heat();
    assert_true(test_contains(keep(payload_thermal(&t)), "{\"v\":1,\"level\":\"warm\",\"temp_c\":66.3,"));
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        t.level = levels[i % 5];
        t.temp_c = t.limit_c = t.headroom_k = t.watts = odd[i];
        t.seconds_to_limit = t.budget_w = fabs(odd[i]);
        t.sensor = i % 2 ? NULL : "acpitz/3";
        t.trips = i % 2 ? UINT64_MAX : 0;
        t.is_unguarded = i % 2;
        keep(payload_thermal(&t));
    }
    judge("thermal.json");
}

static struct pl_camera_stats a_camera(void)
{
    return (struct pl_camera_stats){.state = PL_CAMERA_RUNNING,
                                    .is_online = true,
                                    .last_frame_ns = 99 * CLOCK_S,
                                    .last_frame_age_ns = 123456789,
                                    .fps = 4.98765,
                                    .frames = 1000,
                                    .replaced = 900,
                                    .restarts = 2,
                                    .restarts_1h = 1,
                                    .width_px = 640,
                                    .height_px = 360,
                                    .codec = "h264",
                                    .decoder = "avdec_h264"};
}

static void statuses(void **state)
{
    static const char *const words[] = {"starting", "running", "degraded", "paused", "stopping"};
    struct payload_status s = a_status();
    assert_string_equal(
        keep(payload_status(&s)),
        "{\"v\":1,\"state\":\"running\",\"reasons\":[],\"since\":1767123480.123,\"boot\":12,\"version\":\"1.2-3-gabc\","
        "\"config_sha\":\"" SHA "\",\"engine\":{\"model\":\"Qwen3.5-0.8B\",\"build\":\"avx2\",\"device\":\"cpu\","
        "\"ready\":true,\"untrained\":false}}");
    for (int i = 0; i < 5; i++) {
        s.state = (enum payload_state)i;
        assert_string_equal(payload_state_name(s.state), words[i]);
        assert_true(test_contains(keep(payload_status(&s)), words[i]));
    }
    s.engine_model = s.engine_build = s.engine_device = NULL;
    s.engine_is_ready = false;
    s.engine_is_untrained = true;
    s.since_wall_ns = 0;
    s.boot = UINT64_MAX;
    assert_true(test_contains(keep(payload_status(&s)), "\"boot\":9223372036854775807,"));

    /* as many reasons as there is room for, and one that fills its room with bytes that are no text */
    s.n_reasons = PAYLOAD_REASONS_MAX;
    for (int i = 0; i < PAYLOAD_REASONS_MAX; i++)
        snprintf(s.reasons[i], sizeof s.reasons[i], "%s", texts[i % N_TEXTS]);
    memset(s.reasons[3], 0xFF, PAYLOAD_REASON_MAX - 1);
    keep(payload_status(&s));
    s.n_reasons = 1000; /* more than there are: those there are */
    keep(payload_status(&s));
    for (int i = 0; i < N_TEXTS; i++) {
        s.engine_model = s.engine_build = s.engine_device = s.version = texts[i];
        keep(payload_status(&s));
    }
    judge("status.json");
}

static void healths(void **state)
{
    struct pl_camera_stats c = a_camera();
    struct payload_watch w = {.observations = 7, .last_observation_ns = 90 * CLOCK_S, .p50_ms = 1500.04, .p95_ms = 2140.06};
    const int64_t now_ns = 100 * CLOCK_S;
    assert_string_equal(
        keep(payload_health(&c, &w, now_ns)),
        "{\"v\":1,\"last_frame_age_s\":0.123,\"fps\":4.99,\"frozen\":false,\"decode_errors\":0,\"reconnects_1h\":1,"
        "\"last_observation_age_s\":10.0,\"shed_1h\":0,\"skipped_1h\":0,\"last_error\":null,\"state\":\"running\","
        "\"width_px\":640,\"height_px\":360,\"codec\":\"h264\",\"decoder\":\"avdec_h264\",\"p50_ms\":1500.0,"
        "\"p95_ms\":2140.1}");

    /* nothing yet: nulls, not zeros that look like figures */
    const struct pl_camera_stats no_camera = {.state = PL_CAMERA_STARTING, .last_frame_age_ns = -1};
    const struct payload_watch no_watch = {0};
    const char *text = keep(payload_health(&no_camera, &no_watch, now_ns));
    assert_true(test_contains(text, "\"last_frame_age_s\":null,"));
    assert_true(test_contains(text, "\"last_observation_age_s\":null,"));
    assert_true(test_contains(text, "\"codec\":null,\"decoder\":null,\"p50_ms\":null,\"p95_ms\":null}"));

    /* an observation that is younger than now: a clock read a moment earlier */
    assert_true(test_contains(keep(payload_health(&c, &w, 80 * CLOCK_S)), "\"last_observation_age_s\":0.0,"));

    for (int i = 0; i < PL_CAMERA_STATE_COUNT; i++) {
        c.state = (enum pl_camera_state)i;
        keep(payload_health(&c, &w, now_ns));
    }
    static const double odd[] = {NAN, INFINITY, -INFINITY, -0.0, 1e-300, 1e300, 4.9999999, 1e11};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        c.fps = w.p50_ms = w.p95_ms = odd[i];
        text = keep(payload_health(&c, &w, now_ns));
        if (!isfinite(odd[i]))
            assert_true(test_contains(text, "\"fps\":null,"));
        assert_false(test_contains(text, "-0.0"));
    }
    c.fps = 5;
    c.last_frame_age_ns = INT64_MAX;
    c.decode_errors = UINT64_MAX;
    c.restarts_1h = w.shed_1h = w.skipped_1h = UINT32_MAX;
    c.width_px = c.height_px = -1;
    w.last_observation_ns = 1;
    assert_true(test_contains(keep(payload_health(&c, &w, INT64_MAX)), "\"decode_errors\":9223372036854775807,"));
    for (int i = 0; i < N_TEXTS; i++) {
        snprintf(c.last_error, sizeof c.last_error, "%s", texts[i]);
        snprintf(w.last_error, sizeof w.last_error, "%s", i % 2 ? texts[i] : "");
        snprintf(c.codec, sizeof c.codec, "%.15s", texts[i]); /* may cut a character in two */
        snprintf(c.decoder, sizeof c.decoder, "%.31s", texts[i]);
        text = keep(payload_health(&c, &w, now_ns));
        assert_true(test_contains(text, "\"last_error\":\"capture: "));
        assert_int_equal(test_contains(text, "; analysis: "), i % 2);
    }
    memset(c.last_error, 0xFF, sizeof c.last_error - 1);
    memset(w.last_error, '\x01', sizeof w.last_error - 1);
    keep(payload_health(&c, &w, now_ns));
    judge("health.json");
}

static void configs(void **state)
{
    struct payload_config c = a_config();
    assert_string_equal(keep(payload_config(&c)),
                        "{\"v\":1,\"sha\":\"" SHA "\",\"loaded_at\":1767123000.0,"
                        "\"source\":\"/etc/heron/heron.yaml\",\"pending_error\":null,\"restart_keys\":[]}");
    c.restart_keys = "engine.model, mqtt.host,cameras.dock.source";
    assert_true(test_contains(keep(payload_config(&c)), "[\"engine.model\",\"mqtt.host\",\"cameras.dock.source\"]"));
    c.restart_keys = "";
    c.error_file = "";
    assert_true(test_contains(keep(payload_config(&c)), "{\"file\":\"\",\"line\":0,\"col\":0,\"key\":null,\"msg\":\"\"}"));
    for (int i = 0; i < N_TEXTS; i++) {
        c.error_file = c.error_key = c.error_message = c.source = texts[i];
        c.error_line = c.error_col = INT32_MAX;
        c.restart_keys = texts[i];
        keep(payload_config(&c));
    }
    judge("config-state.json");
}

/* ---- the scene ------------------------------------------------------------------------------------------------------------ */

static const struct en_timing a_timing = {.vision_ns = 140 * CLOCK_MS,
                                          .prefill_ns = 690 * CLOCK_MS,
                                          .decode_ns = 120 * CLOCK_MS,
                                          .prompt_tokens = 300,
                                          .image_tokens = 256,
                                          .output_tokens = 20};

static struct payload_scene a_scene(const char *result)
{
    return (struct payload_scene){.camera = "dock",
                                  .frame_seq = 88121,
                                  .frame_wall_ns = 1767123480 * CLOCK_S,
                                  .capture_ns = 50 * CLOCK_S,
                                  .publish_ns = 52 * CLOCK_S,
                                  .timing = &a_timing,
                                  .result_text = result};
}

static void scenes(void **state)
{
    const char *hazards[] = {"none", "fire", "a \"quoted\" \xFF one"};
    const double p[] = {0.90004, 0.1, -0.0};
    const char *answers[] = {"true", "false"};
    const double q[] = {1.0 + 1e-12, 1e-300};
    const struct en_score scores[] = {{.path = "/hazard", .n = 3, .names = hazards, .p = p},
                                      {.path = "/rules/\xFF~1", .n = 2, .names = answers, .p = q}};
    struct payload_scene s = a_scene("{\"summary\":\"x\",\"people\":1}");
    s.scores = scores;
    s.n_scores = 1;
    assert_string_equal(
        keep(payload_scene(&s)),
        "{\"v\":1,\"camera\":\"dock\",\"frame\":\"f88121\",\"frame_time\":1767123480.0,"
        "\"latency_ms\":{\"queue\":1050.0,\"vision\":140.0,\"prefill\":690.0,\"decode\":120.0,\"total\":2000.0},"
        "\"result\":{\"summary\":\"x\",\"people\":1},"
        "\"scores\":{\"/hazard\":{\"none\":0.9,\"fire\":0.1,\"a \\\"quoted\\\" \xEF\xBF\xBD one\":0.0}},"
        "\"tokens\":{\"prompt\":300,\"image\":256,\"output\":20}}");
    s.n_scores = 2;
    s.is_untrained = true;
    assert_true(test_contains(keep(payload_scene(&s)), "},\"untrained\":true}"));

    /* no object: null, in place of something that would break the line or the payload */
    static const char *const none[] = {"",
                                       "null",
                                       "[1]",
                                       "\"x\"",
                                       "{",
                                       "{\"a\":1}}",
                                       "{\"a\":NaN}",
                                       "{\"a\":1,\"a\":2}",
                                       "{\"a\":\"\n\"}",
                                       "{\"a\":1},\"v\":2,\"b\":{}",
                                       "{\"a\":1e999}",
                                       "\xEF\xBB\xBF{}"};
    struct payload_scene t = a_scene(NULL);
    assert_true(test_contains(keep(payload_scene(&t)), ",\"result\":null,\"scores\":{},"));
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        t.result_text = none[i];
        if (!test_contains(keep(payload_scene(&t)), ",\"result\":null,\"scores\":{},"))
            fail_msg("%s: %s", none[i], payloads[n_payloads - 1]);
    }

    /* as it was written, whatever its numbers; on one line */
    static const char *const as_is[][2] = {
        {"{}", "{}"},
        {"{\"a\":0.1,\"b\":1.50,\"c\":1E+2,\"d\":-0}", "{\"a\":0.1,\"b\":1.50,\"c\":1E+2,\"d\":-0}"},
        {"{\"a\":123456789012345678901234567890}", "{\"a\":123456789012345678901234567890}"},
        {"{\"a\":\"\\u0000\\ud83d\\ude00\\n\"}", "{\"a\":\"\\u0000\\ud83d\\ude00\\n\"}"},
        {"{\"a\":\"\xFF\"}", "{\"a\":\"\xEF\xBF\xBD\"}"},
        {"{\n\t\"a\": [\r\n1]}\n", "{  \"a\": [  1]} "},
        {"{\"\":{\"\":{\"\":[]}}}", "{\"\":{\"\":{\"\":[]}}}"},
    };
    for (size_t i = 0; i < sizeof as_is / sizeof *as_is; i++) {
        char want[200];
        t.result_text = as_is[i][0];
        snprintf(want, sizeof want, ",\"result\":%s,\"scores\":{},", as_is[i][1]);
        if (!test_contains(keep(payload_scene(&t)), want))
            fail_msg("%s: %s", as_is[i][0], payloads[n_payloads - 1]);
    }

    /* shares that do not fit together, and times the wrong way round: never below zero */
    const struct en_timing odd = {.vision_ns = INT64_MAX / 4, .prefill_ns = INT64_MAX / 4, .decode_ns = -5};
    struct payload_scene u = a_scene("{}");
    u.timing = &odd;
    assert_true(test_contains(keep(payload_scene(&u)), "\"queue\":0.0,"));
    u.capture_ns = 60 * CLOCK_S;
    u.frame_seq = UINT64_MAX;
    u.frame_wall_ns = INT64_MAX;
    assert_true(test_contains(keep(payload_scene(&u)), "\"frame\":\"f18446744073709551615\""));
    judge("scene.json");
}

#define TRUTH                                                                                                                  \
    "\"people\":2,\"vehicles\":1,\"animals\":0,\"hazard\":\"person_down\",\"light\":\"dusk\",\"weather\":\"rain\","            \
    "\"summary\":\"Dusk, rain. A person lies on the ground.\""

/* A rendered camera's truth: what can be compared, in the order of the schema; all of it or nothing. */
static void truths(void **state)
{
    struct payload_scene s = a_scene("{\"people\":1}");
    s.truth = "{\"scene\":\"yard\",\"t_s\":3.2,\"summary\":\"Dusk, rain. A person lies on the "
              "ground.\",\"weather\":\"rain\",\"light\":\"dusk\","
              "\"bays\":4,\"hazard\":\"person_down\",\"animals\":0,\"vehicles\":1,\"people\":2,\"frame\":16,\"things\":[{"
              "\"type\":\"person\"}]}";
    assert_true(test_contains(keep(payload_scene(&s)), "\"output\":20},\"truth\":{\"frame\":16," TRUTH "}}"));
    s.is_untrained = true;
    assert_true(test_contains(keep(payload_scene(&s)), "},\"untrained\":true,\"truth\":{\"frame\":16," TRUTH "}}"));
    s.truth = "{\"frame\":9223372036854775807," TRUTH "}";
    assert_true(test_contains(keep(payload_scene(&s)), "\"truth\":{\"frame\":9223372036854775807," TRUTH "}}"));
    static const char *const none[] = {
        "",           "{}", "[]", "null", "frame", "{\"frame\":1", "{\"frame\":\"1\"," TRUTH "}", "{\"frame\":1.5," TRUTH "}",
        "{" TRUTH "}"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        s.truth = none[i];
        if (test_contains(keep(payload_scene(&s)), "truth"))
            fail_msg("%s: %s", none[i], payloads[n_payloads - 1]);
    }
    judge("scene.json");
    forget(NULL);
    /* the judge would notice a word that no scene has */
    s.truth = "{\"frame\":1,\"people\":2,\"vehicles\":1,\"animals\":0,\"hazard\":\"flood\",\"light\":\"dusk\",\"weather\":"
              "\"rain\",\"summary\":\"\"}";
    assert_refused("scene.json", keep(payload_scene(&s)), "flood");
}

/* What the default watch answers passes both its own schema and the wire's. */
static void an_observation(void **state)
{
    const char *result = "{\"summary\":\"A dock.\",\"people\":2,\"vehicles\":0,\"animals\":0,\"hazard\":\"none\"}";
    keep(strdup(result));
    judge("observation-default.json");
    const struct payload_scene s = a_scene(result);
    assert_true(test_contains(keep(payload_scene(&s)), result));
}

/* ---- stats and overview --------------------------------------------------------------------------------------------------- */

static void stats_and_overviews(void **state)
{
    char *overviews[PAYLOADS_MAX];
    int n_overviews = 0;
    struct payload_scene scene = a_scene("{\"n\":123456789012345678901234567890,\"x\":0.10,\"s\":\"\\u0000\"}");
    char *scene_text = payload_scene(&scene);
    assert_non_null(scene_text);
    struct payload_camera cameras[3] = {
        {.id = "dock", .capture = "online", .analysis = "online", .camera = a_camera(), .scene = scene_text},
        {.id = "a", .capture = "offline", .analysis = "disabled", .camera = {.last_frame_age_ns = -1}},
        {.id = "cam_00000000000000000000000000000000000000000000",
         .capture = "disabled",
         .analysis = "offline",
         .camera = {.last_frame_age_ns = -1, .frames = UINT64_MAX, .replaced = UINT64_MAX},
         .watch = {.observations = UINT64_MAX, .prompt_tokens = UINT64_MAX}},
    };
    struct payload_stats s = {.uptime_ns = 3600 * CLOCK_S,
                              .now_ns = 100 * CLOCK_S,
                              .rss_bytes = 512 << 20,
                              .busy = 0.3456,
                              .thermal = a_heat(),
                              .mqtt = {.is_connected = true, .since_ns = 10 * CLOCK_S, .broker = "broker.lan:1883"}};
    struct payload_status status = a_status();
    struct payload_config config = a_config();

    assert_string_equal(keep(payload_stats(&s)),
                        "{\"v\":1,\"uptime_s\":3600.0,\"rss_bytes\":536870912,\"frames\":0,\"observations\":0,\"shed\":0,"
                        "\"skipped\":0,\"failed\":0,"
                        "\"prompt_tokens\":0,\"output_tokens\":0,\"busy\":0.346,\"p95_ms\":null,\"leaked_pipelines\":0,"
                        "\"thermal\":{\"level\":\"warm\",\"temp_c\":66.3,\"limit_c\":68.0,\"batch\":4,\"idle_pct\":12.5,"
                        "\"headroom\":1.7,\"since\":1767123480.0,\"sensor\":\"gpu0\",\"seconds_to_limit\":null,\"watts\":null,"
                        "\"budget_w\":93.2,\"unguarded\":false,\"service\":true,\"trips\":2},"
                        "\"mqtt\":{\"connected\":true,\"state_age_s\":90.0,\"connects\":0,\"published\":0,\"dropped\":0,"
                        "\"refused\":0,\"ignored\":0,"
                        "\"broker\":\"broker.lan:1883\",\"last_error\":null},\"cameras\":{}}");
    overviews[n_overviews++] = payload_overview(&status, &config, &s); /* no cameras */
    s.cameras = cameras;
    s.n_cameras = 3;
    static const double odd[] = {NAN, INFINITY, 0, 1, 1.7, 1e300};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        s.busy = odd[i];
        s.p95_ms = odd[i] * 1000;
        keep(payload_stats(&s));
    }
    assert_true(test_contains(payloads[n_payloads - 2], "\"busy\":1.0,"));
    s.busy = 0;
    s.mqtt.since_ns = 0; /* it has not begun */
    s.uptime_ns = s.now_ns = INT64_MAX;
    s.frames = s.observations = s.shed = s.skipped = s.failed = s.prompt_tokens = s.output_tokens = s.rss_bytes = UINT64_MAX;
    s.mqtt.connects = s.mqtt.published = s.mqtt.dropped = s.mqtt.refused = s.mqtt.ignored = UINT64_MAX;
    s.leaked_pipelines = UINT32_MAX;
    assert_true(test_contains(keep(payload_stats(&s)), "\"state_age_s\":null,"));
    for (int i = 0; i < N_TEXTS; i++) {
        snprintf(s.mqtt.last_error, sizeof s.mqtt.last_error, "%s", texts[i]);
        snprintf(s.mqtt.broker, sizeof s.mqtt.broker, "%s", texts[i]);
        snprintf(cameras[1].camera.last_error, sizeof cameras[1].camera.last_error, "%s", texts[i]);
        snprintf(status.reasons[0], sizeof status.reasons[0], "%s", texts[i]);
        status.n_reasons = 1;
        config.error_file = config.error_message = texts[i];
        keep(payload_stats(&s));
        overviews[n_overviews++] = payload_overview(&status, &config, &s);
    }
    judge("stats.json");
    forget(NULL);

    for (int i = 0; i < n_overviews; i++)
        keep(overviews[i]);
    assert_true(test_contains(overviews[0], "},\"cameras\":[]}"));
    /* the scene is there byte for byte as it was published */
    char want[1000];
    snprintf(want, sizeof want, ",\"scene\":%s},{\"id\":\"a\",", scene_text);
    assert_true(test_contains(overviews[1], want));
    assert_int_equal(strcmp(overviews[1] + strlen(overviews[1]) - 16, ",\"scene\":null}]}"), 0);
    judge("overview.json");
    free(scene_text);
}

static void replies(void **state)
{
    assert_string_equal(keep(payload_reply(NULL)), "{\"ok\":true}");
    assert_string_equal(keep(payload_reply("a \"b\"\n\xFF")), "{\"ok\":false,\"error\":\"a \\\"b\\\"\\n\xEF\xBF\xBD\"}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(heat, forget),
        cmocka_unit_test_teardown(the_judge_says_no, forget),
        cmocka_unit_test_teardown(statuses, forget),
        cmocka_unit_test_teardown(healths, forget),
        cmocka_unit_test_teardown(configs, forget),
        cmocka_unit_test_teardown(scenes, forget),
        cmocka_unit_test_teardown(truths, forget),
        cmocka_unit_test_teardown(an_observation, forget),
        cmocka_unit_test_teardown(stats_and_overviews, forget),
        cmocka_unit_test_teardown(replies, forget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
