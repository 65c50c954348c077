/*
 * A configuration file from anywhere, the whole way that a file of the disk goes. Checked: either a configuration or complaints,
 * never both; complaints are printable, one line each, and stand inside the file; the same text gives the same configuration.
 *
 * A schema is read from where the text says: only ordinary files are opened, and only to read. Descriptions of GStreamer are
 * left out, which would make this a fuzzer of its parser.
 */
#include <string.h>

#include "appliance/config.h"
#include "base/utf8.h"
#include "tests/fuzz/fuzz.h"

const char *__lsan_default_suppressions(void);

/* libfyaml 0.7.12 loses 2 to 4 KiB with a single-quoted text of many doubled quotes: corpus/config/quotes */
const char *__lsan_default_suppressions(void)
{
    return "leak:libfyaml.so";
}

static void check_text(const char *s)
{
    REQUIRE(s && utf8_valid(s, strlen(s)));
    for (; *s; s++)
        REQUIRE((unsigned char)*s >= 0x20 && *s != 0x7F);
}

static void check_complaints(const struct complaints *list, size_t size)
{
    REQUIRE(list->n <= 2 * COMPLAINTS_MAX);
    for (int i = 0; i < list->n; i++) {
        const struct complaint *c = &list->items[i];
        check_text(c->message);
        check_text(c->key);
        REQUIRE(c->message[0] && c->file);
        REQUIRE(c->line >= 0 && (size_t)c->line <= size + 2 && c->col >= 0 && (size_t)c->col <= size + 2 && c->width >= 0);
    }
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    REQUIRE(out);
    complaint_print(list, out, false);
    REQUIRE(fclose(out) == 0 && utf8_valid(text, n) && (n > 0) == (list->n > 0));
    free(text);
}

static void check_config(const struct config *c, const char *text, size_t size)
{
    struct complaints complaints = {0};
    struct config *again = NULL;
    char keys[200];
    REQUIRE(c->n_cameras >= 1 && c->n_cameras <= CONFIG_CAMERAS_MAX && strlen(c->sha) == 64);
    REQUIRE(c->engine.batch >= 1 && c->engine.batch <= 256 && c->mqtt.host && c->mqtt.topic_prefix && c->engine.device);
    REQUIRE(config_load_text("a.yaml", text, size, &complaints, &again, NULL) == 0);
    REQUIRE(strcmp(c->sha, again->sha) == 0 && config_restart_keys(c, again, keys, sizeof keys) == 0);
    for (int i = 0; i < c->n_cameras; i++) {
        const struct config_camera *a = c->cameras[i], *b = again->cameras[i];
        REQUIRE(a->source && a->prompt && a->schema && a->every_ns > 0 && a->deadline_ns > 0 && a->max_tokens > 0);
        REQUIRE(!config_camera_source_differs(a, b) && !config_camera_watch_differs(a, b));
        REQUIRE(config_camera_find(c, a->id) == a);
        for (int k = 0; k < a->n_rules; k++)
            REQUIRE(a->rules[k].ask && a->rules[k].votes.n >= 1 && a->rules[k].votes.n <= a->rules[k].votes.of);
    }
    config_free(again);
    complaint_release(&complaints);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct complaints complaints = {0};
    struct config *config = NULL;
    struct err err = {0};
    if (memmem(data, size, "gst", 3))
        return 0;
    char *text = malloc(size ? size : 1); /* without a NUL behind it */
    REQUIRE(text);
    memcpy(text, data, size);
    const int rc = config_load_text("a.yaml", text, size, &complaints, &config, &err);
    if (rc == 0) {
        REQUIRE(config && complaints.n_errors == 0 && !complaint_first(&complaints));
        check_config(config, text, size);
    } else {
        REQUIRE(rc == ERR_INVAL && !config && complaints.n_errors > 0 && complaint_first(&complaints) && err.text[0]);
    }
    check_complaints(&complaints, size);
    complaint_release(&complaints);
    config_free(config);
    free(text);
    return 0;
}
