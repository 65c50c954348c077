/* The screen of heron status: drawn text compared, hostile words disarmed, and the command itself against a daemon's socket. */
#include "tests/support/test.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "appliance/commands.h"
#include "appliance/control.h"
#include "appliance/payload.h"
#include "appliance/status.h"
#include "base/clock.h"
#include "base/utf8.h"

#define SHA "3f2a91c02b1d77777777777777777777777777777777777777777777777777ff"

static char *draw(const char *overview, bool has_colour, int columns)
{
    char *text = NULL;
    size_t n = 0;
    struct err err = {0};
    FILE *out = open_memstream(&text, &n);
    assert_non_null(out);
    const struct status_style style = {.has_colour = has_colour, .columns = columns};
    assert_ok(status_draw(out, overview, &style, &err), &err);
    assert_int_equal(fclose(out), 0);
    return text;
}

/* What a daemon with two cameras says. */
static char *sample(void)
{
    const char *none[] = {"none", "fire"};
    const double p[] = {0.97, 0.03};
    const struct en_score score = {.path = "/hazard", .n = 2, .names = none, .p = p};
    const struct en_timing timing = {.vision_ns = 140 * CLOCK_MS, .prefill_ns = 690 * CLOCK_MS, .decode_ns = 120 * CLOCK_MS};
    const struct payload_scene scene = {
        .camera = "dock",
        .frame_seq = 7,
        .capture_ns = 1,
        .publish_ns = 2 * CLOCK_S,
        .timing = &timing,
        .result_text =
            "{\"summary\":\"A person in a yellow vest beside a lorry.\",\"people\":1,\"hazard\":\"none\",\"gate\":true}",
        .scores = &score,
        .n_scores = 1,
    };
    struct payload_status status = {
        .state = PAYLOAD_DEGRADED,
        .n_reasons = 1,
        .reasons = {"camera porch_north: capture offline"},
        .since_wall_ns = 1767123480 * CLOCK_S,
        .boot = 12,
        .version = "1.2",
        .config_sha = SHA,
        .engine_model = "Qwen3.5-0.8B Q8_0",
        .engine_device = "cpu",
        .engine_is_ready = true,
        .engine_is_untrained = true,
    };
    const struct payload_config config = {
        .sha = SHA,
        .loaded_wall_ns = 1767123000 * CLOCK_S,
        .source = "/etc/heron/heron.yaml",
        .error_file = "/etc/heron/heron.yaml",
        .error_line = 7,
        .error_col = 3,
        .error_key = "cammeras",
        .error_message = "unknown key cammeras: did you mean cameras?",
        .restart_keys = "engine.model, mqtt.host",
    };
    struct payload_camera cameras[2] = {
        {
            .id = "dock",
            .capture = "online",
            .analysis = "online",
            .camera = {.state = PL_CAMERA_RUNNING, .last_frame_age_ns = 120 * CLOCK_MS, .fps = 4.98, .frames = 1000},
            .watch = {.observations = 1200, .shed_1h = 3, .last_observation_ns = 96 * CLOCK_S, .p50_ms = 1500, .p95_ms = 2140},
            .scene = payload_scene(&scene),
        },
        {
            .id = "porch_north",
            .capture = "offline",
            .analysis = "disabled",
            .camera = {.state = PL_CAMERA_RESTARTING, .last_frame_age_ns = -1, .last_error = "connection refused"},
        },
    };
    struct payload_stats stats = {
        .uptime_ns = 12000 * CLOCK_S,
        .now_ns = 100 * CLOCK_S,
        .rss_bytes = 512 << 20,
        .observations = 1200,
        .shed = 40,
        .failed = 1,
        .busy = 0.34,
        .p95_ms = 2140,
        .thermal = {.level = "throttled",
                    .sensor = "gpu0",
                    .temp_c = 66.8,
                    .limit_c = 68,
                    .batch = 4,
                    .idle_share = 0.125,
                    .watts = 92.1},
        .mqtt = {.since_ns = 10 * CLOCK_S, .broker = "broker.lan:1883", .last_error = "connection refused"},
        .cameras = cameras,
        .n_cameras = 2,
    };
    assert_non_null(cameras[0].scene);
    char *text = payload_overview(&status, &config, &stats);
    assert_non_null(text);
    free((char *)cameras[0].scene);
    return text;
}

static void draws_one_screen(void **state)
{
    char *overview = sample(), *text = draw(overview, false, 0);
    assert_string_equal(
        text,
        "heron is degraded since 2025-12-30 19:38:00, up for 3.3 h, version 1.2, boot 12\n"
        "  - camera porch_north: capture offline\n"
        "\n"
        "  engine  Qwen3.5-0.8B Q8_0 on cpu, ready, untrained: random weights, what it says means nothing\n"
        "  heat    throttled: gpu0 66.8 of 68 C, 92 W; batch 4, idle 12 %\n"
        "  mqtt    not connected to broker.lan:1883 for 90 s: connection refused\n"
        "  config  /etc/heron/heron.yaml 3f2a91c02b1d loaded 2025-12-30 19:30:00\n"
        "          the file as it is now was refused: /etc/heron/heron.yaml:7:3: unknown key cammeras: did you mean cameras?\n"
        "          waits for a restart: engine.model, mqtt.host\n"
        "  work    1200 observations, 40 shed, 0 skipped, 1 failed; 95 % within 2.1 s; engine busy 34 %; 512 MiB\n"
        "\n"
        "camera       capture   analysis    fps    frame   observation  observed  shed/h     p95\n"
        "dock         online    online      5.0    0.1 s     4.0 s ago      1200       3   2.1 s\n"
        "    A person in a yellow vest beside a lorry.\n"
        "    people 1, hazard none (97 %), gate true\n"
        "porch_north  offline   disabled    0.0        -             -         0       0       -\n"
        "    restarting: capture: connection refused\n");
    free(text);

    /* the same with colours, which are all that differs */
    text = draw(overview, true, 0);
    assert_true(test_contains(text, "heron is \033[33mdegraded\033[0m since"));
    assert_true(test_contains(text, "\033[32monline\033[0m    \033[32monline\033[0m  "));
    assert_true(test_contains(text, "\033[31moffline\033[0m "));
    char *plain = draw(overview, false, 0), *to = text;
    for (const char *from = text; *from;) {
        if (*from == '\033')
            from = strchr(from, 'm') + 1;
        else
            *to++ = *from++;
    }
    *to = '\0';
    assert_string_equal(text, plain);
    free(plain);
    free(text);

    text = draw(overview, false, 40);
    assert_true(test_contains(text, "    A person in a yellow vest beside a …\n"));
    free(text);
    free(overview);
}

/* Whatever is missing or of another kind is a dash; nothing crashes. */
static void draws_what_is_there(void **state)
{
    static const char *const overviews[] = {
        "{}",
        "{\"cameras\":[null,1,\"x\",[],{},{\"id\":3},{\"id\":\"a\",\"health\":[],\"scene\":7}]}",
        "{\"status\":{\"state\":7,\"reasons\":[1,null,{}],\"since\":1e300,\"engine\":\"x\"},\"stats\":[],\"config\":null}",
        "{\"status\":{\"since\":-1e300},\"stats\":{\"uptime_s\":1e300,\"busy\":1e300,\"observations\":1e300,\"rss_bytes\":"
        "1e300,"
        "\"mqtt\":{\"connected\":\"yes\",\"state_age_s\":-1}}}",
        "{\"stats\":{\"thermal\":{\"level\":\"paused\",\"sensor\":\"x\",\"temp_c\":null,\"watts\":\"x\",\"batch\":[],"
        "\"unguarded\":true}}}",
        "{\"config\":{\"sha\":\"\",\"pending_error\":{},\"restart_keys\":[1,null]}}",
        "{\"cameras\":[{\"capture\":\"offline\",\"analysis\":\"offline\",\"health\":{\"fps\":1e300,\"p95_ms\":1e308},"
        "\"counters\":{\"observations\":99999999999999999999999999},\"scene\":{\"result\":{\"n\":"
        "123456789012345678901234567890,"
        "\"t\":true,\"f\":false,\"z\":null,\"o\":{},\"a\":[]},\"scores\":{\"/t\":{\"true\":\"x\"}}}}]}",
    };
    for (size_t i = 0; i < sizeof overviews / sizeof *overviews; i++) {
        char *text = draw(overviews[i], false, 80);
        assert_int_equal(strncmp(text, "heron is ", 9), 0);
        assert_false(test_contains(text, "nan"));
        assert_false(test_contains(text, "inf"));
        free(text);
    }
    char *text = draw("{}", false, 0);
    assert_true(test_contains(text, "heron is - since -, up for -\n"));
    assert_true(test_contains(text, "no cameras\n"));
    free(text);

    struct err err = {0};
    char *nothing = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&nothing, &n);
    const struct status_style style = {0};
    assert_err(status_draw(out, "{", &style, &err), ERR_FORMAT, &err, "no JSON");
    assert_err(status_draw(out, "[1]", &style, &err), ERR_FORMAT, &err, "no object");
    fclose(out);
    assert_string_equal(nothing, "");
    free(nothing);
}

/* A model, a camera or a broker may say anything. */
static void hostile_words_are_disarmed(void **state)
{
    char *text = draw("{\"status\":{\"state\":\"a\\u001b[2J\",\"reasons\":[\"line\\nbreak \\u0007 \\u009b31m\"],"
                      "\"engine\":{\"model\":\"\\u202eevil\\u2066\"}},"
                      "\"stats\":{\"mqtt\":{\"broker\":\"b\\u001b]0;title\\u0007\",\"last_error\":\"e\\re\"}},"
                      "\"cameras\":[{\"id\":\"c\\u001b[1m\",\"scene\":{\"result\":{\"summary\":\"s\\u0000\\u001b[31m\\u2028x\","
                      "\"k\\u001b\":\"v\\u001b\"}}}]}",
                      false, 0);
    assert_true(utf8_valid(text, strlen(text)));
    for (const char *p = text; *p; p++)
        assert_true((unsigned char)*p >= 0x20 || *p == '\n');
    assert_false(test_contains(text, "\xC2\x9B"));
    assert_false(test_contains(text, "\xE2\x80\xAE"));
    assert_true(test_contains(text, "heron is a?[2J since"));
    assert_true(test_contains(text, "  - line break ? ?31m\n"));
    assert_true(test_contains(text, "?evil?"));
    free(text);
}

/* ---- the command ---------------------------------------------------------------------------------------------------------- */

static char *reply(void *ctx, const char *command)
{
    assert_string_equal(command, "status");
    return strdup(ctx);
}

/* Run heron status in a child while this process is the daemon that says `overview` (NULL: there is none). Its exit status; what it wrote. */
static int run_status(const char *overview, const char *dir, const char *option, char *out, size_t cap)
{
    struct control *control = NULL;
    struct err err = {0};
    char path[300];
    int status = -1, ends[2];
    size_t n = 0;
    setenv("RUNTIME_DIRECTORY", dir, 1);
    if (overview)
        assert_ok(control_open(NULL, reply, (char *)overview, &control, &err), &err);
    snprintf(path, sizeof path, "%s/heron.sock", dir);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    fflush(NULL);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        /* only this folder: a daemon of this machine is none of the test's business */
        char *argv[] = {"status", "--socket", path, (char *)option, NULL};
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        _exit(cmd_status(option ? 4 : 3, argv));
    }
    close(ends[1]);
    for (;;) {
        struct pollfd p[2] = {{.fd = ends[0], .events = POLLIN}, {.fd = control ? control_fd(control) : -1, .events = POLLIN}};
        assert_true(poll(p, 2, 30000) > 0);
        if (control)
            control_step(control);
        if (p[0].revents) {
            const ssize_t got = read(ends[0], out + n, cap - 1 - n);
            if (got <= 0)
                break;
            n += (size_t)got;
        }
    }
    out[n] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    control_close(control);
    unsetenv("RUNTIME_DIRECTORY");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void the_command(void **state)
{
    static char out[65536];
    const char *dir = test_temp_dir();
    char *overview = sample(), *screen = draw(overview, false, 0);

    assert_int_equal(run_status(overview, dir, "--json", out, sizeof out), 0);
    assert_int_equal(strncmp(out, overview, strlen(overview)), 0);
    assert_string_equal(out + strlen(overview), "\n");
    assert_int_equal(run_status(overview, dir, NULL, out, sizeof out), 0); /* no terminal: no colours */
    assert_string_equal(out, screen);
    free(screen);
    free(overview);

    assert_int_equal(run_status(NULL, dir, NULL, out, sizeof out), EX_UNAVAILABLE);
    assert_true(test_contains(out, "heron status: no daemon runs (looked at "));
    assert_int_equal(run_status("{\"ok\":false,\"error\":\"too old\"}", dir, NULL, out, sizeof out), EX_SOFTWARE);
    assert_true(test_contains(out, "the daemon refuses: too old"));
    assert_int_equal(run_status("what?", dir, "--json", out, sizeof out), EX_DATAERR);
    assert_true(test_contains(out, "no JSON object: what?"));
    assert_int_equal(run_status(NULL, dir, "--jsom", out, sizeof out), EX_USAGE);
    assert_true(test_contains(out, "did you mean --json?"));
    assert_int_equal(run_status(NULL, dir, "dock", out, sizeof out), EX_USAGE);
}

static int use_utc(void **state)
{
    setenv("TZ", "UTC", 1);
    tzset();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_one_screen),
        cmocka_unit_test(draws_what_is_there),
        cmocka_unit_test(hostile_words_are_disarmed),
        cmocka_unit_test(the_command),
    };
    return cmocka_run_group_tests(tests, use_utc, NULL);
}
