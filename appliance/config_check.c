/*
 * config_check - what only the whole configuration shows: keys that need each other, files that keys name.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "appliance/config_table.h"
#include "appliance/sensors.h"
#include "base/utf8.h"
#include "engine/engine.h"

#define SCHEMA_BYTES_MAX (256u << 10)
/* what a prompt takes beside picture and answer: chat format, system text, schema; a floor, not an estimate */
#define PROMPT_TOKENS_MIN 32
#define PIXELS_PER_TOKEN  1024

/* config/schemas/observation-default.json, to the byte: a test compares them */
const char config_default_schema[] =
    "{\n"
    "  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
    "  \"title\": \"What a watch without a schema of its own answers\",\n"
    "  \"type\": \"object\",\n"
    "  \"properties\": {\n"
    "    \"summary\": { \"type\": \"string\", \"maxLength\": 160 },\n"
    "    \"people\": { \"type\": \"integer\", \"minimum\": 0, \"maximum\": 20 },\n"
    "    \"vehicles\": { \"type\": \"integer\", \"minimum\": 0, \"maximum\": 20 },\n"
    "    \"animals\": { \"type\": \"integer\", \"minimum\": 0, \"maximum\": 20 },\n"
    "    \"hazard\": { \"enum\": [\"none\", \"fire\", \"smoke\", \"person_down\", \"blocked\"] }\n"
    "  },\n"
    "  \"required\": [\"summary\", \"people\", \"vehicles\", \"animals\", \"hazard\"],\n"
    "  \"additionalProperties\": false\n"
    "}\n";

static bool is_set(const struct config_places *places, enum config_key key)
{
    return places->of[key].file != NULL;
}

/* The place of a key that was set, else the place of what it belongs to. */
static const struct place *place_of(const struct config_places *places, enum config_key key, const struct place *owner)
{
    return is_set(places, key) ? &places->of[key] : owner;
}

/* A key with a bad value was said already; its absence is not said again. */
static bool is_complained(const struct complaints *list, const char *key)
{
    for (int i = 0; i < list->n; i++)
        if (!list->items[i].is_warning && strcmp(list->items[i].key, key) == 0)
            return true;
    return false;
}

/* cpu, ref, cuda:N: one device of this machine, by name. */
static bool is_device(const char *name)
{
    int ordinal = -1;
    char cuda[40] = ""; /* sscanf forgives blanks, signs and zeros */
    if (sscanf(name, "cuda:%4d", &ordinal) == 1)
        snprintf(cuda, sizeof cuda, "cuda:%d", ordinal);
    return strcmp(name, "cpu") == 0 || strcmp(name, "ref") == 0 || (ordinal >= 0 && strcmp(name, cuda) == 0);
}

/* HOST:PORT of another machine that lends one. */
static bool is_address(const char *name)
{
    const char *colon = strrchr(name, ':');
    return colon && colon > name && colon[1] && strlen(colon + 1) <= 5 &&
           strspn(colon + 1, "0123456789") == strlen(colon + 1) && !strpbrk(name, " +/") && strncmp(name, "cuda:", 5) != 0;
}

static void check_engine(const struct config *c, struct complaints *list)
{
    const char *device = c->engine.device, *plus = strchr(device, '+');
    char first[CONFIG_DEVICE_MAX + 1];
    snprintf(first, sizeof first, "%.*s", (int)(plus ? plus - device : CONFIG_DEVICE_MAX), device);
    const bool is_good = plus ? is_device(first) && (is_device(plus + 1) || is_address(plus + 1))
                              : strcmp(device, "auto") == 0 || is_device(device);
    if (!is_good)
        complaint_add(list, &c->places.of[CONFIG_engine_device], "engine.device",
                      "engine.device is auto, cpu, ref or cuda:N, or two that share a model, cuda:N+HOST:PORT, not \"%.40s\"",
                      device);
    if (c->engine.model && !c->engine.vision)
        complaint_add(list, &c->places.of[CONFIG_engine_model], "engine.model",
                      "engine.model needs engine.vision: without its vision file (mmproj) no picture can be looked at");
    if (c->engine.vision && !c->engine.model)
        complaint_add(list, &c->places.of[CONFIG_engine_vision], "engine.vision",
                      "engine.vision needs engine.model, the text model it belongs to");
}

/* Which sensors there are, only the machine knows: thermal_open and heron check ask it. */
static void check_thermal(const struct config *c, struct complaints *list)
{
    const struct config_list *s = &c->thermal.sensors;
    for (int i = 0; i < s->n; i++) {
        const bool is_alone = strcmp(s->items[i], "none") == 0 || strncmp(s->items[i], "simulated:", 10) == 0;
        if (is_alone && s->n > 1)
            complaint_add(list, &c->places.of[CONFIG_thermal_sensors], "thermal.sensors", "%.60s stands alone, or not at all",
                          s->items[i]);
    }
    const bool is_set = c->places.of[CONFIG_thermal_limit].file != NULL;
    if (is_set && c->thermal.resume_c > 0 && c->thermal.resume_c >= c->thermal.limit_c)
        complaint_add(list, &c->places.of[CONFIG_thermal_resume], "thermal.resume",
                      "thermal.resume is below thermal.limit (%d)", (int)c->thermal.limit_c);
    if (!is_set && c->thermal.resume_c >= SENSORS_CPU_LIMIT_C)
        complaint_add(list, &c->places.of[CONFIG_thermal_resume], "thermal.resume",
                      "thermal.resume is below thermal.limit (%d for a GPU, %d for a CPU, where it is not set)",
                      SENSORS_GPU_LIMIT_C, SENSORS_CPU_LIMIT_C);
}

/* A secret is read when it is used, maybe by another user than the one who checks: only what is plain is said, as a warning. */
static void check_secret(const struct secret_ref *secret, const struct place *at, const char *key, struct complaints *list)
{
    struct stat st;
    if (secret->kind != SECRET_FILE)
        return;
    if (stat(secret->name, &st) != 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            complaint_warn(list, at, key, "%s: there is no file %s", key, secret->name);
    } else if (st.st_mode & S_IROTH) {
        complaint_warn(list, at, key, "%s: everybody may read %s: chmod o-rwx would keep it a secret", key, secret->name);
    }
}

static bool is_topic(const char *s)
{
    const size_t n = strlen(s);
    if (!n || s[0] == '/' || s[0] == '$' || s[n - 1] == '/' || strstr(s, "//"))
        return false;
    for (const char *p = s; *p; p++)
        if ((unsigned char)*p <= 0x20 || *p == '+' || *p == '#' || (unsigned char)*p >= 0x7F)
            return false;
    return true;
}

static void check_mqtt(const struct config *c, struct complaints *list)
{
    const struct config_places *at = &c->places;
    if (!is_topic(c->mqtt.topic_prefix))
        complaint_add(list, &at->of[CONFIG_mqtt_topic_prefix], "mqtt.topic_prefix",
                      "mqtt.topic_prefix \"%.64s\" cannot begin a topic: no blanks, + # or $, no / at either end",
                      c->mqtt.topic_prefix);
    if (!is_topic(c->mqtt.discovery_prefix))
        complaint_add(list, &at->of[CONFIG_discovery_prefix], "mqtt.discovery.prefix",
                      "mqtt.discovery.prefix \"%.64s\" cannot begin a topic", c->mqtt.discovery_prefix);
    else if (strcmp(c->mqtt.topic_prefix, c->mqtt.discovery_prefix) == 0)
        complaint_add(list, place_of(at, CONFIG_mqtt_topic_prefix, &at->of[CONFIG_discovery_prefix]), "mqtt.topic_prefix",
                      "mqtt.topic_prefix and mqtt.discovery.prefix must differ: both are \"%.64s\"", c->mqtt.topic_prefix);
    if (strpbrk(c->mqtt.host, " /@") || strstr(c->mqtt.host, "://"))
        complaint_add(list, &at->of[CONFIG_mqtt_host], "mqtt.host",
                      "mqtt.host is a name or an address alone, not \"%.80s\" (the port is mqtt.port)", c->mqtt.host);
    if (c->mqtt.tls_cert && !c->mqtt.tls_key)
        complaint_add(list, &at->of[CONFIG_mqtt_tls_cert], "mqtt.tls.cert",
                      "mqtt.tls.cert needs mqtt.tls.key, its private key");
    if (c->mqtt.tls_key && !c->mqtt.tls_cert)
        complaint_add(list, &at->of[CONFIG_mqtt_tls_key], "mqtt.tls.key", "mqtt.tls.key needs mqtt.tls.cert, the certificate");
    if ((c->mqtt.tls_cert || c->mqtt.tls_key) && !c->mqtt.tls_ca)
        complaint_add(
            list, place_of(at, CONFIG_mqtt_tls_cert, &at->of[CONFIG_mqtt_tls_key]), "mqtt.tls.ca",
            "a client certificate needs mqtt.tls.ca, the authorities that the broker's certificate is checked against");
    check_secret(&c->mqtt.password, &at->of[CONFIG_mqtt_password], "mqtt.password", list);
}

/* The whole of an ordinary file, NUL-terminated. 0: *ret_text is malloc'ed; otherwise what is wrong, in words. */
static const char *read_schema(const char *path, char **ret_text)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a pipe without a writer must not hold us up */
    struct stat st;
    char *text = NULL;
    const char *cause = NULL;
    size_t n = 0;
    if (fd < 0 || fstat(fd, &st) != 0)
        cause = strerror(errno);
    else if (!S_ISREG(st.st_mode))
        cause = "is not an ordinary file";
    else if (!(text = malloc(SCHEMA_BYTES_MAX + 2)))
        cause = "out of memory";
    while (!cause && n <= SCHEMA_BYTES_MAX) {
        const ssize_t got = read(fd, text + n, SCHEMA_BYTES_MAX + 1 - n);
        if (got < 0 && errno != EINTR)
            cause = strerror(errno);
        if (got == 0)
            break;
        n += got > 0 ? (size_t)got : 0;
    }
    if (fd >= 0)
        close(fd);
    if (!cause && n > SCHEMA_BYTES_MAX)
        cause = "larger than 256 KiB";
    if (!cause && memchr(text, '\0', n))
        cause = "holds NUL bytes";
    if (cause) {
        free(text);
        return cause;
    }
    text[n] = '\0';
    *ret_text = text;
    return NULL;
}

/* Read and compile a camera's schema. */
static int load_schema(struct config_camera *camera, struct complaints *list, struct err *err)
{
    const struct place *at = &camera->places.of[CONFIG_watch_schema];
    struct err cause = {0};
    char key[128];
    snprintf(key, sizeof key, "cameras.%s.watch.schema", camera->id);
    if (!camera->schema_path) {
        if (!(camera->schema_text = strdup(config_default_schema)))
            return err_set(err, ERR_NOMEM, "out of memory: a schema");
    } else {
        const char *wrong = read_schema(camera->schema_path, &camera->schema_text);
        if (wrong) {
            complaint_add(list, at, key, "%s: %s", camera->schema_path, wrong);
            return 0;
        }
    }
    const int rc = en_schema_compile(camera->schema_text, strlen(camera->schema_text), &camera->schema, &cause);
    if (rc == ERR_NOMEM)
        return err_set(err, rc, "%s", cause.text);
    if (rc != 0)
        complaint_add(list, at, key, "%s: %s", camera->schema_path ? camera->schema_path : "the default schema", cause.text);
    return 0;
}

static int check_camera(const struct config *c, struct config_camera *camera, struct complaints *list, struct err *err)
{
    const struct config_places *at = &camera->places;
    const struct place *here = &camera->place;
    char key[128];
    if (!camera->source) {
        char whole[80];
        snprintf(whole, sizeof whole, "cameras.%s", camera->id);
        snprintf(key, sizeof key, "cameras.%s.source", camera->id);
        if (!is_complained(list, key) && !is_complained(list, whole))
            complaint_add(list, here, key, "camera %s has no source: add one such as `source: rtsp://10.0.0.7/stream1`",
                          camera->id);
    } else {
        const bool is_rtsp = strncmp(camera->source, "rtsp", 4) == 0;
        snprintf(key, sizeof key, "cameras.%s.%s", camera->id, camera->username ? "username" : "password");
        if ((camera->username || camera->password.kind != SECRET_NONE) && !is_rtsp)
            complaint_add(list, place_of(at, CONFIG_camera_username, &at->of[CONFIG_camera_password]), key,
                          "camera %s: username and password are for rtsp:// sources", camera->id);
    }
    snprintf(key, sizeof key, "cameras.%s.password", camera->id);
    if (camera->password.kind != SECRET_NONE && !camera->username)
        complaint_add(list, &at->of[CONFIG_camera_password], key, "camera %s: password needs username", camera->id);
    check_secret(&camera->password, &at->of[CONFIG_camera_password], key, list);
    if (c->engine.context_tokens) {
        const int64_t need = camera->max_pixels / PIXELS_PER_TOKEN + camera->max_tokens + PROMPT_TOKENS_MIN;
        if (need > c->engine.context_tokens)
            complaint_add(
                list, place_of(&c->places, CONFIG_engine_context, here), "engine.context",
                "engine.context of %lld tokens cannot hold camera %s's picture (up to %lld tokens), its answer (up to "
                "%lld) and a prompt: at least %lld are needed",
                (long long)c->engine.context_tokens, camera->id, (long long)(camera->max_pixels / PIXELS_PER_TOKEN),
                (long long)camera->max_tokens, (long long)need);
    }
    for (int i = 0; i < camera->n_rules; i++) {
        const struct config_rule *rule = &camera->rules[i];
        char whole[160], ask[170];
        snprintf(whole, sizeof whole, "cameras.%s.watch.rules.%s", camera->id, rule->id);
        snprintf(ask, sizeof ask, "%s.ask", whole);
        if (!rule->ask && !is_complained(list, whole) && !is_complained(list, ask))
            complaint_add(list, &rule->place, ask, "rule %s of camera %s asks nothing: add `ask: ...`", rule->id, camera->id);
    }
    return load_schema(camera, list, err);
}

int config_check(struct config *c, struct complaints *list, struct err *err)
{
    check_thermal(c, list);
    check_engine(c, list);
    /* a password goes nowhere without a name */
    if (c->mqtt.password.kind != SECRET_NONE && !c->mqtt.username && !(c->mqtt.username = strdup("heron")))
        return err_set(err, ERR_NOMEM, "out of memory: the configuration");
    check_mqtt(c, list);
    if (c->n_cameras == 0) {
        struct place place = {.file = c->path, .line = 1, .col = 1};
        const struct yaml_node *root = c->n_files ? c->files[0]->root : NULL;
        bool is_said = root && root->kind != YAML_MAPPING && root->kind != YAML_NULL;
        for (int i = 0; root && root->kind == YAML_MAPPING && i < root->n; i++)
            if (strcmp(root->keys[i]->text, "cameras") == 0) {
                place = yaml_place(c->files[0], root->keys[i]);
                is_said = list->n_errors > 0 && root->items[i]->kind != YAML_NULL;
            }
        if (!is_said)
            complaint_add(list, &place, "cameras",
                          "no camera: Heron needs at least one, such as `cameras: { yard: { source: synth:yard } }`");
    }
    for (int i = 0; i < c->n_cameras; i++) {
        const int rc = check_camera(c, c->cameras[i], list, err);
        if (rc != 0)
            return rc;
    }
    return 0;
}
