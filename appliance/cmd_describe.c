/*
 * heron describe: one answer about pictures, on standard output; how long each stage took, on standard error.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "appliance/commands.h"
#include "appliance/model_args.h"

const struct cli_command cmd_describe_command = {"describe",
                                                 "-m MODEL [-v VISION] [--prompt TEXT] [--schema FILE] [--json] PICTURE...",
                                                 "one answer about pictures, on standard output", cmd_describe};

#define PICTURES_MAX  16
#define PROMPT_TOKENS 4096 /* room for text beside the pictures */

static json_t *scores_json(const struct en_result *r)
{
    json_t *scores = json_array();
    for (int32_t i = 0; i < r->n_scores; i++) {
        const struct en_score *s = &r->scores[i];
        json_t *p = json_object();
        for (int32_t a = 0; a < s->n; a++)
            json_object_set_new(p, s->names[a], json_real(s->p[a]));
        json_array_append_new(scores, json_pack("{s:s, s:s, s:f, s:o}", "path", s->path, "value", s->names[s->chosen], "score",
                                                s->p[s->chosen], "alternatives", p));
    }
    return scores;
}

static void print_json(const struct en_result *r, bool has_schema, const struct en_info *info)
{
    json_t *answer = has_schema ? json_loads(r->text, 0, NULL) : json_string(r->text);
    json_t *root =
        json_pack("{s:o?, s:o, s:s, s:b, s:{s:f, s:f, s:f, s:f, s:f}, s:{s:i, s:i, s:i, s:i}}", "answer", answer, "scores",
                  scores_json(r), "model", info->name, "untrained", info->is_untrained, "latency_ms", "queue",
                  (double)r->timing.queue_ns / 1e6, "vision", (double)r->timing.vision_ns / 1e6, "prefill",
                  (double)r->timing.prefill_ns / 1e6, "decode", (double)r->timing.decode_ns / 1e6, "total",
                  (double)(r->timing.finished_ns - r->timing.submitted_ns) / 1e6, "tokens", "prompt", r->timing.prompt_tokens,
                  "image", r->timing.image_tokens, "output", r->timing.output_tokens, "drawn", r->timing.drawn_tokens);
    if (r->thought)
        json_object_set_new(root, "thought", json_string(r->thought));
    json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(root);
}

static void print_timing(const struct en_result *r)
{
    const struct en_timing *t = &r->timing;
    fprintf(stderr,
            "vision %.0f ms (%d tokens), prefill %.0f ms (%d tokens), decode %.0f ms (%d tokens in %d steps, %.1f/s), total "
            "%.0f ms\n",
            (double)t->vision_ns / 1e6, t->image_tokens, (double)t->prefill_ns / 1e6, t->prompt_tokens,
            (double)t->decode_ns / 1e6, t->output_tokens, t->drawn_tokens,
            t->decode_ns ? t->output_tokens / ((double)t->decode_ns / 1e9) : 0,
            (double)(t->finished_ns - t->submitted_ns) / 1e6);
}

/* Step until the one job is done. */
static int run_job(struct en_engine *engine, struct en_result **ret_result, struct err *err)
{
    const struct en_permit permit = {.batch = 1, .expires_ns = INT64_MAX};
    for (bool busy = true; busy && !(*ret_result = en_take_result(engine));) {
        const int rc = en_step(engine, &permit, &busy, err);
        if (rc != 0)
            return rc;
    }
    if (!*ret_result && !(*ret_result = en_take_result(engine)))
        return err_set(err, ERR_STATE, "the job vanished");
    if ((*ret_result)->finish == EN_FINISH_ERROR) {
        *err = (*ret_result)->error;
        return err->code;
    }
    return 0;
}

int cmd_describe(int argc, char **argv)
{
    const struct cli_command *self = &cmd_describe_command;
    struct model_args model = {0};
    const char *prompt = NULL, *schema_path = NULL, *system = NULL;
    bool as_json = false, thinking = false;
    int64_t max_tokens = 256, seed = 0, max_pixels = 0, top_k = 0;
    double temperature = 0, top_p = 1, min_p = 0;
    const struct cli_option options[] = {
        MODEL_ARGS_OPTIONS(&model),
        {"prompt", NULL, CLI_TEXT, &prompt, 0, 0, "TEXT", "what to ask (\"Describe the picture.\")"},
        {"system", NULL, CLI_TEXT, &system, 0, 0, "TEXT", "the system prompt"},
        {"schema", NULL, CLI_TEXT, &schema_path, 0, 0, "FILE", "a JSON Schema that the answer follows"},
        {"json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "answer, scores of choices and timings as JSON"},
        {"thinking", NULL, CLI_FLAG, &thinking, 0, 0, NULL, "let the model think before it answers"},
        {"max-tokens", NULL, CLI_INT, &max_tokens, 1, 65536, "N", "longest answer (256)"},
        {"max-pixels", NULL, CLI_INT, &max_pixels, 1024, 16777216, "N", "largest picture after resizing"},
        {"temperature", NULL, CLI_FLOAT, &temperature, 0, 0, "X", "0 always takes the most probable token (0)"},
        {"top-k", NULL, CLI_INT, &top_k, 0, 1000000, "N", "draw from the N most probable tokens (0: off)"},
        {"top-p", NULL, CLI_FLOAT, &top_p, 0, 0, "X", "draw from the tokens that make up X of the probability (1)"},
        {"min-p", NULL, CLI_FLOAT, &min_p, 0, 0, "X", "drop tokens less probable than X times the best (0)"},
        {"seed", NULL, CLI_INT, &seed, 0, INT64_MAX, "N", "of the draw (0)"},
    };
    struct cli_list words;
    int status = cli_parse(self, argc, argv, options, sizeof options / sizeof *options, &words);
    if (status != 0)
        return status;
    if (words.n > PICTURES_MAX)
        return cli_fail(self, EX_USAGE, "at most %d pictures", PICTURES_MAX);
    if (!prompt && words.n == 0)
        return cli_fail(self, EX_USAGE, "a picture or --prompt TEXT is needed");
    if (temperature < 0 || top_p <= 0 || top_p > 1 || min_p < 0 || min_p > 1)
        return cli_fail(self, EX_USAGE, "--temperature is 0 or more, --top-p is above 0 and at most 1, --min-p is 0 to 1");

    struct err err = {0};
    struct en_picture pictures[PICTURES_MAX] = {0};
    struct en_schema *schema = NULL;
    struct en_engine *engine = NULL;
    struct en_result *result = NULL;
    char *schema_text = NULL;
    size_t n_schema = 0;
    int rc = 0;
    struct en_options engine_options = {.sessions = 1, .max_pixels = max_pixels, .pictures = words.n};
    if ((status = model_args_apply(self, &model, &engine_options)) != 0)
        goto out;
    int64_t largest = 262144; /* smaller pictures are enlarged where the model wants it */
    for (int i = 0; i < words.n; i++) {
        if ((rc = en_picture_read(words.items[i], &pictures[i], &err)) != 0)
            goto out;
        const int64_t pixels = ((int64_t)pictures[i].view.width_px + 32) * (pictures[i].view.height_px + 32);
        largest = pixels > largest ? pixels : largest;
    }
    if (engine_options.max_pixels == 0 || engine_options.max_pixels > largest)
        engine_options.max_pixels = largest;
    if (schema_path) {
        if ((rc = cli_read_file(schema_path, 1 << 20, &schema_text, &n_schema, &err)) != 0)
            goto out;
        if ((rc = en_schema_compile(schema_text, n_schema, &schema, &err)) != 0) {
            err_prefix(&err, "%s", schema_path);
            goto out;
        }
    }
    /* as much context as the pictures, the text and the answer can need, and not more than the model has */
    struct en_plan plan;
    const int64_t text_bytes = (int64_t)(prompt ? strlen(prompt) : 0) + (int64_t)(system ? strlen(system) : 0);
    const int64_t context = words.n * (engine_options.max_pixels / 1024 + 16) + text_bytes + PROMPT_TOKENS / 16 + max_tokens +
                            (thinking ? PROMPT_TOKENS : 0);
    engine_options.context_tokens = context < 262144 ? (int32_t)context : 262144;
    if (en_plan_memory(&engine_options, &plan, NULL) != 0)
        engine_options.context_tokens = 0;
    if ((status = model_args_open(self, &engine_options, &engine)) != 0)
        goto out;
    struct en_info info;
    en_get_info(engine, &info);
    if (words.n > 0 && !info.has_vision) {
        status = cli_fail(self, EX_USAGE, "to look at pictures %s needs its vision file: name it with -v", info.name);
        goto out;
    }
    for (int i = 0; i < words.n; i++) {
        int width_px, height_px, n_tokens;
        if ((rc = en_picture_target(engine, pictures[i].view.width_px, pictures[i].view.height_px, 0, &width_px, &height_px,
                                    &n_tokens, &err)) != 0) {
            err_prefix(&err, "%s", words.items[i]);
            goto out;
        }
    }
    if (info.is_untrained)
        fprintf(stderr, "heron describe: the model is untrained: its answers mean nothing\n");
    struct en_part system_part = {.text = system}, parts[PICTURES_MAX + 1];
    int n_parts = 0;
    for (int i = 0; i < words.n; i++)
        parts[n_parts++] = (struct en_part){.view = &pictures[i].view};
    parts[n_parts++] = (struct en_part){.text = prompt         ? prompt
                                                : words.n == 1 ? "Describe the picture."
                                                               : "Describe the pictures."};
    const struct en_message messages[] = {{EN_SYSTEM, &system_part, 1}, {EN_USER, parts, n_parts}};
    const struct en_job job = {
        .messages = system ? messages : messages + 1,
        .n_messages = system ? 2 : 1,
        .thinking = thinking,
        .schema = schema,
        .sampling = {.temperature = (float)temperature,
                     .top_k = (int32_t)top_k,
                     .top_p = (float)top_p,
                     .min_p = (float)min_p,
                     .seed = (uint64_t)seed},
        .max_tokens = (int32_t)max_tokens,
    };
    uint64_t id;
    if ((rc = en_submit(engine, &job, &id, &err)) != 0 || (rc = run_job(engine, &result, &err)) != 0)
        goto out;
    if (as_json)
        print_json(result, schema != NULL, &info);
    else
        printf("%s\n", result->text ? result->text : "");
    print_timing(result);
    if (result->finish == EN_FINISH_LENGTH)
        fprintf(stderr, "heron describe: the answer was cut at --max-tokens %lld\n", (long long)max_tokens);
out:
    en_result_free(result);
    en_schema_unref(schema);
    for (int i = 0; i < words.n; i++)
        en_picture_free(&pictures[i]);
    free(schema_text);
    en_close(engine);
    return rc != 0 ? cli_error(self, &err) : status;
}
