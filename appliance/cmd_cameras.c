/*
 * heron cameras: the V4L2 devices of this machine; heron cameras probe URL: how far a source comes, step by step.
 *
 * The source itself is never printed, since a mistyped URL may hold its password anywhere.
 */
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "appliance/commands.h"
#include "appliance/secret.h"
#include "pipeline/pipeline.h"

const struct cli_command cmd_cameras_command = {"cameras", "[--json] | probe [--user NAME --password-file FILE] [--json] URL",
                                                "cameras on a cable, with their formats; or how far a camera's URL comes",
                                                cmd_cameras};

/* ---- the list --------------------------------------------------------------------------------------------------------------------- */

/* What to write after v4l2: so that it is the same camera after a reboot. */
static const char *stable_name(const struct pl_device *d)
{
    return d->by_id[0] ? d->by_id : d->by_path[0] ? d->by_path : d->node;
}

static void print_formats(const struct pl_device *d)
{
    for (int i = 0; i < d->n_formats; i++) {
        const struct pl_format *f = &d->format[i];
        const bool is_new = i == 0 || strcmp(f->fourcc, d->format[i - 1].fourcc) != 0;
        if (is_new)
            printf("%s  %-4s  %s:", i ? "\n" : "", f->fourcc, f->description);
        printf(" %dx%d", f->width_px, f->height_px);
        if (f->max_fps > 0)
            printf("@%.4g", f->max_fps);
    }
    if (d->n_formats)
        putchar('\n');
}

static void print_device(const struct pl_device *d)
{
    printf("%s  %s", d->node, d->name[0] ? d->name : "a camera without a name");
    if (d->driver[0])
        printf(", driver %s", d->driver);
    if (d->vendor[0])
        printf(", %s:%s", d->vendor, d->product);
    if (d->serial[0])
        printf(", serial %s", d->serial);
    printf("\n  source: v4l2:%s\n", stable_name(d));
    if (d->by_id[0] && d->by_path[0]) /* two equal cameras share by-id names where they have no serial number */
        printf("  or by its port: v4l2:%s\n", d->by_path);
    if (d->error[0])
        printf("  %s\n", d->error);
    print_formats(d);
    for (int i = 0; i < d->n_controls; i++) {
        const struct pl_control *c = &d->control[i];
        printf("  %-28s %-8s %lld to %lld, step %lld, default %lld, now %lld%s%s\n", c->name, c->type, (long long)c->min,
               (long long)c->max, (long long)c->step, (long long)c->def, (long long)c->value,
               c->is_read_only ? ", read only" : "", c->is_inactive ? ", inactive" : "");
    }
}

static json_t *device_json(const struct pl_device *d)
{
    json_t *formats = json_array(), *controls = json_array();
    for (int i = 0; i < d->n_formats; i++) {
        const struct pl_format *f = &d->format[i];
        json_array_append_new(formats,
                              json_pack("{s:s, s:s, s:i, s:i, s:f}", "fourcc", f->fourcc, "description", f->description,
                                        "width", f->width_px, "height", f->height_px, "max_fps", f->max_fps));
    }
    for (int i = 0; i < d->n_controls; i++) {
        const struct pl_control *c = &d->control[i];
        json_array_append_new(controls,
                              json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:b, s:b}", "name", c->name, "type", c->type,
                                        "min", (json_int_t)c->min, "max", (json_int_t)c->max, "step", (json_int_t)c->step,
                                        "default", (json_int_t)c->def, "value", (json_int_t)c->value, "read_only",
                                        c->is_read_only, "inactive", c->is_inactive));
    }
    char source[300];
    snprintf(source, sizeof source, "v4l2:%s", stable_name(d));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o}", "node", d->node, "source", source, "by_id",
                     d->by_id, "by_path", d->by_path, "name", d->name, "driver", d->driver, "vendor", d->vendor, "product",
                     d->product, "serial", d->serial, "error", d->error, "formats", formats, "controls", controls);
}

static void print_json(json_t *root)
{
    json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(root);
}

static int list_devices(const struct cli_command *self, bool as_json)
{
    struct err err = {0};
    struct pl_devices list;
    if (pl_devices_open(&list, &err) != 0)
        return cli_error(self, &err);
    json_t *root = as_json ? json_array() : NULL;
    for (int i = 0; i < list.n_devices; i++) {
        if (as_json)
            json_array_append_new(root, device_json(&list.device[i]));
        else
            print_device(&list.device[i]);
    }
    if (as_json)
        print_json(root);
    else if (list.n_devices == 0)
        fprintf(stderr, "heron cameras: no camera on a cable (V4L2); for a network camera: heron cameras probe rtsp://...\n");
    pl_devices_close(&list);
    return 0;
}

/* ---- the probe -------------------------------------------------------------------------------------------------------------------- */

/* A status per step, so that a script can tell them apart as well. */
static int probe_status(const struct pl_probe *p, bool is_network)
{
    switch (p->n_passed) {
    case PL_PROBE_STEP_COUNT: return 0;
    case PL_PROBE_SYNTAX: return EX_USAGE;
    case PL_PROBE_NAME: return is_network ? EX_NOHOST : EX_NOINPUT;
    case PL_PROBE_TCP: return is_network ? EX_UNAVAILABLE : EX_NOINPUT;
    case PL_PROBE_AUTH: return EX_NOPERM;
    case PL_PROBE_PATH: return EX_NOINPUT;
    case PL_PROBE_CODEC: return EX_DATAERR;
    default: return EX_UNAVAILABLE;
    }
}

/* A file or device has no connection: that step is its opening, and nobody asks it for a password. */
static const char *step_word(int step, bool is_network)
{
    return step == PL_PROBE_TCP && !is_network ? "open" : pl_probe_step_name((enum pl_probe_step)step);
}

static void print_probe(const struct pl_probe *p, bool is_network)
{
    for (int i = 0; i < p->n_passed; i++) {
        const char *word = step_word(i, is_network);
        if (i == PL_PROBE_CODEC)
            printf("%-7s %s%s%s\n", word, p->codec, p->decoder[0] ? ", decoded by " : "", p->decoder);
        else if (i == PL_PROBE_FRAMES) {
            printf("%-7s %dx%d", word, p->width_px, p->height_px);
            if (p->fps > 0)
                printf(", %.1f per second", p->fps);
            if (p->gop_frames > 0)
                printf(", a key frame every %d (%.1f s)", p->gop_frames, p->gop_s);
            printf(", the first after %.1f s\n", (double)p->elapsed_ns / 1e9);
        } else if (i != PL_PROBE_AUTH || is_network)
            printf("%-7s ok\n", word);
    }
    if (p->n_passed < PL_PROBE_STEP_COUNT)
        printf("%-7s failed\n", step_word(p->n_passed, is_network));
}

static void print_probe_json(const struct pl_probe *p, const struct err *err)
{
    const bool is_ok = p->n_passed == PL_PROBE_STEP_COUNT;
    json_t *passed = json_array();
    for (int i = 0; i < p->n_passed; i++)
        json_array_append_new(passed, json_string(pl_probe_step_name((enum pl_probe_step)i)));
    json_t *failed = is_ok ? json_null() : json_string(pl_probe_step_name((enum pl_probe_step)p->n_passed));
    /* NULL where the text is no UTF-8, which a file's name may be */
    json_t *error = is_ok ? json_null() : json_string(err->text);
    print_json(json_pack("{s:b, s:o, s:o, s:o, s:s, s:s, s:i, s:i, s:f, s:i, s:f, s:f}", "ok", is_ok, "passed", passed,
                         "failed", failed, "error", error ? error : json_string(err_name(err->code)), "codec", p->codec,
                         "decoder", p->decoder, "width", p->width_px, "height", p->height_px, "fps", p->fps,
                         "key_frame_gap_frames", p->gop_frames, "key_frame_gap_s", p->gop_s, "first_frame_s",
                         (double)p->elapsed_ns / 1e9));
}

static int probe_source(const struct cli_command *self, const char *source, const char *user, const char *password,
                        double timeout_s, bool as_json)
{
    struct err err = {0};
    struct pl_probe probe = {0};
    const bool is_network = strncmp(source, "rtsp", 4) == 0;
    pl_probe(source, user, password, (int64_t)(timeout_s * 1e9), &probe, &err);
    if (as_json)
        print_probe_json(&probe, &err);
    else if (probe.n_passed != PL_PROBE_SYNTAX)
        print_probe(&probe, is_network);
    const int status = probe_status(&probe, is_network);
    if (status != 0)
        fflush(stdout), cli_fail(self, status, "%s: %s", step_word(probe.n_passed, is_network), err.text);
    return status;
}

/* ---- the command ------------------------------------------------------------------------------------------------------------------ */

int cmd_cameras(int argc, char **argv)
{
    const struct cli_command *self = &cmd_cameras_command;
    bool as_json = false;
    const char *user = NULL, *password_path = NULL;
    double timeout_s = 15;
    const struct cli_option options[] = {
        {"json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "the same as JSON"},
        {"user", NULL, CLI_TEXT, &user, 0, 0, "NAME", "probe: instead of a user name in the URL"},
        {"password-file", NULL, CLI_TEXT, &password_path, 0, 0, "FILE",
         "probe: the password of --user; in a URL every user of this machine can read it"},
        {"timeout", NULL, CLI_FLOAT, &timeout_s, 0, 0, "SECONDS", "probe: wait for pictures at most this long (15)"},
    };
    struct cli_list words;
    const int status = cli_parse(self, argc, argv, options, sizeof options / sizeof *options, &words);
    if (status != 0)
        return status;
    const bool is_probe = words.n > 0 && strcmp(words.items[0], "probe") == 0;
    if (words.n > 0 && !is_probe) /* not repeated: it may be a URL, with its password */
        return cli_fail(self, EX_USAGE, "takes nothing, or the word probe and a source: heron cameras probe rtsp://...");
    if (!is_probe && (user || password_path))
        return cli_fail(self, EX_USAGE, "--user and --password-file belong to probe");
    if (!is_probe)
        return list_devices(self, as_json);
    if (words.n != 2)
        return cli_fail(self, EX_USAGE,
                        "probe takes one source, such as rtsp://10.0.0.7/stream1 (quote it where it holds ? or &)");
    if (password_path && !user)
        return cli_fail(self, EX_USAGE, "--password-file needs --user");
    if (timeout_s < 0.1 || timeout_s > 600)
        return cli_fail(self, EX_USAGE, "--timeout takes 0.1 to 600 seconds");

    char password[SECRET_MAX_BYTES + 1] = "";
    struct err err = {0};
    if (password_path) {
        char name[4096];
        snprintf(name, sizeof name, "%s", password_path);
        const struct secret_ref ref = {SECRET_FILE, name};
        if (secret_read(&ref, "--password-file", password, &err) != 0)
            return cli_error(self, &err);
    }
    const int probed = probe_source(self, words.items[1], user, password_path ? password : NULL, timeout_s, as_json);
    secret_wipe(password, sizeof password);
    return probed;
}
