#include "tests/support/test.h"

#include "tests/support/subscriber.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/schema_judge.h"

#define LIMIT_MS 120000 /* a box that keeps itself cool on a slow machine takes its time */
#define POLL_US  2000
#define MARK     "message " /* begins a line that is one; the others are the client's own words */

static int64_t subscriber_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void subscriber_start(struct subscriber *s, const struct broker *b, const char *filter)
{
    const char *args[24 + 12];
    char port_text[8];
    *s = (struct subscriber){0};
    args[0] = "-oL"; /* its words come line by line, into a file too */
    args[1] = broker_tool("mosquitto_sub");
    int n = 2 + broker_client_args(b, args + 2, port_text);
    args[n++] = "-d"; /* so that it says when it has subscribed */
    args[n++] = "-q";
    args[n++] = "1";
    args[n++] = "-t";
    args[n++] = filter;
    args[n++] = "-F";
    args[n++] = MARK "%r %q [%x] %t";
    args[n] = NULL;
    program_start(&s->program, broker_tool("stdbuf"), args, NULL, NULL);
    if (!program_await_text(&s->program, false, "Subscribed (mid: 1)", LIMIT_MS)) {
        char *text = program_text(&s->program, true);
        print_message("%s", text);
        free(text);
        fail_msg("mosquitto_sub could not subscribe to %s", filter);
    }
}

void subscriber_release(struct subscriber *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free(s->messages[i]->topic);
        free(s->messages[i]->payload);
        free(s->messages[i]);
    }
    free(s->messages);
    program_release(&s->program);
    *s = (struct subscriber){0};
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c) : NULL;
    if (!at)
        fail_msg("mosquitto_sub wrote %c where a hex digit belongs", c);
    return (int)(at - digits);
}

/* "0 1 [6869] topic" */
static void subscriber_parse(struct subscriber *s, const char *line)
{
    const char *hex = strchr(line, '['), *end = hex ? strstr(hex, "] ") : NULL;
    if (!end || hex != line + 4)
        fail_msg("mosquitto_sub wrote a line of another form: %s", line);
    struct subscriber_message *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->is_retained = line[0] == '1';
    m->qos = line[2] - '0';
    m->n_bytes = (size_t)(end - hex - 1) / 2;
    m->payload = calloc(1, m->n_bytes + 1);
    m->topic = strdup(end + 2);
    assert_true(m->payload && m->topic);
    for (size_t i = 0; i < m->n_bytes; i++)
        m->payload[i] = (char)(hex_digit(hex[1 + 2 * i]) << 4 | hex_digit(hex[2 + 2 * i]));
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 64;
        s->messages = realloc(s->messages, s->cap * sizeof s->messages[0]);
        assert_non_null(s->messages);
    }
    s->messages[s->n++] = m;
}

/* Take in the whole lines that the child has written since. */
static void subscriber_read(struct subscriber *s)
{
    static char block[1 << 18]; /* the longest payload twice, and some */
    for (;;) {
        const ssize_t got = pread(s->program.out_fd, block, sizeof block - 1, s->read_bytes);
        if (got <= 0)
            return;
        block[got] = '\0';
        char *line = block, *end;
        while ((end = strchr(line, '\n')) != NULL) {
            *end = '\0';
            if (strncmp(line, MARK, strlen(MARK)) == 0)
                subscriber_parse(s, line + strlen(MARK));
            line = end + 1;
        }
        if (line == block)
            return;
        s->read_bytes += line - block;
    }
}

size_t subscriber_mark(struct subscriber *s)
{
    subscriber_read(s);
    return s->n;
}

const struct subscriber_message *subscriber_find(struct subscriber *s, size_t from, const char *topic,
                                                 bool (*is_wanted)(const struct subscriber_message *m, void *ctx), void *ctx,
                                                 int time_limit_ms)
{
    const int64_t until_ms = subscriber_now_ms() + time_limit_ms;
    for (size_t i = from;;) {
        const bool is_late = subscriber_now_ms() >= until_ms; /* before the look, so that the last moment counts */
        subscriber_read(s);
        for (; i < s->n; i++) {
            const struct subscriber_message *m = s->messages[i];
            if ((!topic || strcmp(m->topic, topic) == 0) && (!is_wanted || is_wanted(m, ctx)))
                return m;
        }
        if (is_late)
            return NULL;
        usleep(POLL_US);
    }
}

static bool has_payload(const struct subscriber_message *m, void *ctx)
{
    const char *payload = ctx;
    return m->n_bytes == strlen(payload) && memcmp(m->payload, payload, m->n_bytes) == 0;
}

const struct subscriber_message *subscriber_await(struct subscriber *s, size_t from, const char *topic, const char *payload)
{
    const struct subscriber_message *m =
        subscriber_find(s, from, topic, payload ? has_payload : NULL, (void *)payload, LIMIT_MS);
    if (!m) {
        for (size_t i = from; i < s->n; i++)
            print_message("%s %.80s%s\n", s->messages[i]->topic, s->messages[i]->payload,
                          s->messages[i]->is_retained ? " (retained)" : "");
        fail_msg("%s = %s did not come", topic, payload ? payload : "(anything)");
    }
    return m;
}

const struct subscriber_message *subscriber_last(struct subscriber *s, const char *topic)
{
    subscriber_read(s);
    for (size_t i = s->n; i > 0; i--)
        if (strcmp(s->messages[i - 1]->topic, topic) == 0)
            return s->messages[i - 1];
    return NULL;
}

size_t subscriber_count(struct subscriber *s, size_t from, const char *topic)
{
    size_t n = 0;
    subscriber_read(s);
    for (size_t i = from; i < s->n; i++)
        n += strcmp(s->messages[i]->topic, topic) == 0;
    return n;
}

/* What tests themselves publish below the prefix. */
static bool is_command(const char *topic)
{
    static const char *const ends[] = {"/set", "/resync", "/config/reload", "/restart"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        const size_t n = strlen(topic), n_end = strlen(ends[i]);
        if (n >= n_end && strcmp(topic + n - n_end, ends[i]) == 0)
            return true;
    }
    return false;
}

int subscriber_judge(struct subscriber *s, const char *prefix, char *verdict, size_t cap)
{
    char path[320];
    subscriber_read(s);
    snprintf(path, sizeof path, "%s/messages", test_temp_dir());
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (size_t i = 0; i < s->n; i++) {
        const struct subscriber_message *m = s->messages[i];
        if (m->n_bytes > 0 && !is_command(m->topic))
            fprintf(f, "%s\t%s\n", m->topic, m->payload);
    }
    assert_int_equal(fclose(f), 0);
    return schema_judge_topics(prefix, path, verdict, cap);
}
