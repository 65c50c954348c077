#include "tests/support/test.h"

#include "tests/support/box.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "tests/support/schema_judge.h"

static void need_model(char model[400], char vision[400])
{
    static char made_model[400], made_vision[400];
    if (!made_model[0]) {
        char tool[4200];
        const char *folder = test_temp_dir();
        struct program p = {0};
        snprintf(tool, sizeof tool, "%s", program_heron());
        *strrchr(tool, '/') = 0;
        strcat(tool, "/tools/make_model");
        snprintf(made_model, sizeof made_model, "%s/tiny.gguf", folder);
        snprintf(made_vision, sizeof made_vision, "%s/mmproj-tiny.gguf", folder);
        program_start(&p, tool, PROGRAM_ARGS("--vision", made_vision, "tiny-dense", made_model), NULL, NULL);
        if (program_await(&p, BOX_PATIENCE_MS) != 0)
            fail_msg("%s failed: %s", tool, program_text(&p, true));
        program_release(&p);
    }
    strcpy(model, made_model);
    strcpy(vision, made_vision);
}

const char *box_model(void)
{
    static char model[400];
    char vision[400];
    need_model(model, vision);
    return model;
}

const char *box_vision(void)
{
    static char vision[400];
    char model[400];
    need_model(model, vision);
    return vision;
}

void box_init(struct box *box)
{
    *box = (struct box){0};
    snprintf(box->folder, sizeof box->folder, "%s", test_temp_dir());
    snprintf(box->config, sizeof box->config, "%s/heron.yaml", box->folder);
    snprintf(box->socket_path, sizeof box->socket_path, "%s/heron.sock", box->folder);
    snprintf(box->state, sizeof box->state, "%s/state", box->folder);
}

void box_release(struct box *box)
{
    program_release(&box->daemon);
}

void box_configure(struct box *box, const struct broker *broker, const char *engine_lines, const char *lines)
{
    FILE *f = fopen(box->config, "we");
    assert_non_null(f);
    if (engine_lines)
        fputs(engine_lines, f);
    else
        fprintf(f, "engine:\n  model: %s\n  vision: %s\n  device: cpu\n  threads: 2\n", box_model(), box_vision());
    if (!strstr(lines, "thermal:"))
        fputs("thermal: { sensors: none }\n", f); /* machines of tests have none, or others than the next */
    fprintf(f, "mqtt:\n  host: localhost\n  port: %d\n  keepalive: 5s\n", broker->port);
    if (broker->username[0])
        fprintf(f, "  username: %s\n  password: { env: HERON_TEST_PASSWORD }\n", broker->username);
    if (broker->ca[0])
        fprintf(f, "  tls: { ca: %s }\n", broker->ca);
    fputs(lines, f);
    assert_int_equal(fclose(f), 0);
}

void box_start(struct box *box, const char *const *env)
{
    program_release(&box->daemon);
    program_start(&box->daemon, program_heron(),
                  PROGRAM_ARGS("run", "-c", box->config, "--socket", box->socket_path, "--state", box->state), NULL, env);
}

int box_stop(struct box *box)
{
    program_signal(&box->daemon, SIGTERM);
    const int status = program_await(&box->daemon, BOX_PATIENCE_MS);
    if (status == PROGRAM_RUNNING) {
        char *log = box_log(box);
        fail_msg("the daemon does not end after SIGTERM:\n%s", log);
    }
    return status;
}

char *box_log(const struct box *box)
{
    return program_text(&box->daemon, true);
}

char *box_status(const struct box *box)
{
    struct program_result r;
    char *out = NULL;
    if (program_run(PROGRAM_ARGS("status", "--json", "--socket", box->socket_path), NULL, BOX_PATIENCE_MS, &r) == 0)
        out = strdup(r.out);
    program_result_free(&r);
    return out;
}

static bool is_command(const char *topic)
{
    const size_t n = strlen(topic);
    return (n > 4 && strcmp(topic + n - 4, "/set") == 0) || strcmp(topic, "heron/config/reload") == 0 ||
           strcmp(topic, "heron/resync") == 0 || strcmp(topic, "heron/restart") == 0;
}

void box_judge(struct subscriber *s, const char *const *topics)
{
    char path[400], topic[256], verdict[4000] = "";
    int n = 0;
    snprintf(path, sizeof path, "%s/messages", test_temp_dir());
    for (; *topics; topics++) {
        snprintf(topic, sizeof topic, "heron/%s", *topics);
        if (!subscriber_last(s, topic))
            fail_msg("nothing was published to %s", topic);
    }
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    for (size_t i = 0; i < s->n; i++) {
        const struct subscriber_message *m = s->messages[i];
        if (m->n_bytes == 0 || is_command(m->topic))
            continue;
        fprintf(f, "%s\t%s\n", m->topic, m->payload);
        n++;
    }
    assert_int_equal(fclose(f), 0);
    const int judged = schema_judge_topics("heron", path, verdict, sizeof verdict);
    if (judged != n)
        fail_msg("%d of %d payloads judged: %s", judged, n, verdict);
}

/* ---- a rig of three --------------------------------------------------------------------------------------------------------- */

int box_set_up(void **state)
{
    *state = calloc(1, sizeof(struct box_rig));
    return *state ? 0 : -1;
}

int box_tear_down(void **state)
{
    struct box_rig *r = *state;
    box_release(&r->box);
    subscriber_release(&r->subscriber);
    broker_release(&r->broker);
    free(r);
    return 0;
}

void box_rig_open(struct box_rig *r)
{
    if (!broker_is_there())
        skip_because("mosquitto is not installed");
    broker_start(&r->broker, NULL);
    subscriber_start(&r->subscriber, &r->broker, "heron/#");
    box_init(&r->box);
}

void box_rig_start(struct box_rig *r, const char *cameras, const char *const *env)
{
    if (!schema_judge_is_there())
        skip_because("python3-jsonschema is not installed");
    box_rig_open(r);
    box_configure(&r->box, &r->broker, NULL, cameras);
    box_start(&r->box, env);
}

/* Whether a payload holds the words in ctx. */
static bool holds(const struct subscriber_message *m, void *ctx)
{
    return strstr(m->payload, ctx) != NULL;
}

void box_await_words(struct subscriber *s, const char *topic, const char *words)
{
    char copy[256];
    snprintf(copy, sizeof copy, "%s", words);
    if (!subscriber_find(s, 0, topic, holds, copy, BOX_PATIENCE_MS)) {
        const struct subscriber_message *last = subscriber_last(s, topic);
        fail_msg("%s never said \"%s\"; the last was: %s", topic, words, last ? last->payload : "nothing");
    }
}

const char *box_value(struct subscriber *s, const char *topic, const char *pointer)
{
    static char out[4096];
    char path[256];
    const struct subscriber_message *m = subscriber_last(s, topic);
    json_t *root = m ? json_loads(m->payload, 0, NULL) : NULL, *at = root;
    snprintf(path, sizeof path, "%s", pointer);
    for (char *save, *key = strtok_r(path, "/", &save); key; key = strtok_r(NULL, "/", &save))
        at = json_is_array(at) ? json_array_get(at, strtoul(key, NULL, 10)) : json_object_get(at, key);
    char *text = at ? json_dumps(at, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    snprintf(out, sizeof out, "%s", text ? text : "");
    free(text);
    json_decref(root);
    return out;
}
