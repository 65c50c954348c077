/*
 * heron eval: a prompt's logits, for verification against other implementations.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "appliance/commands.h"
#include "appliance/model_args.h"

#define PROMPT_MAX (16u << 20)

const struct cli_command cmd_eval_command = {
    "eval", "-m MODEL [-v VISION] (--prompt FILE | --tokens 1,2,3) [--image PICTURE]... --logits OUT",
    "the logits of a prompt, byte for byte, for verification", cmd_eval};

/* Where the rows go. */
struct eval {
    FILE *out;
    int32_t n_vocab, n_rows;
    json_t *positions;
    bool failed;
};

static void write_row(void *ctx, struct en_session *session, int32_t index, bool is_image, const int32_t pos[3],
                      const float *logits)
{
    struct eval *e = ctx;
    if (fwrite(logits, sizeof *logits, (size_t)e->n_vocab, e->out) != (size_t)e->n_vocab)
        e->failed = true;
    json_array_append_new(e->positions, json_pack("[iii]", pos[0], pos[1], pos[2]));
    e->n_rows++;
}

static int parse_tokens(const char *text, int32_t **ret_ids, int32_t *ret_n, struct err *err)
{
    int32_t n = 1;
    for (const char *p = text; *p; p++)
        n += *p == ',';
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    if (!ids)
        return err_set(err, ERR_NOMEM, "out of memory: %d ids", n);
    const char *p = text;
    for (int32_t i = 0; i < n; i++) {
        char *end = NULL;
        errno = 0;
        const long v = strtol(p, &end, 10);
        if (end == p || errno || v < 0 || v > INT32_MAX || *end != (i + 1 < n ? ',' : '\0')) {
            free(ids);
            return err_set(err, ERR_INVAL, "--tokens: expected ids separated by commas, found \"%.20s\"", p);
        }
        ids[i] = (int32_t)v;
        p = end + 1;
    }
    *ret_ids = ids;
    *ret_n = n;
    return 0;
}

/* {ids, rows, positions, vocab}: ids and positions of the rows, in their order. */
static int write_sidecar(const char *logits_path, const struct eval *e, const struct en_chunk *chunks, int32_t n_chunks,
                         struct err *err)
{
    json_t *ids = json_array();
    for (int32_t c = 0; c < n_chunks; c++)
        for (int32_t i = 0; !chunks[c].image && i < chunks[c].n_ids; i++)
            json_array_append_new(ids, json_integer(chunks[c].ids[i]));
    json_t *root =
        json_pack("{s:o, s:i, s:O, s:i}", "ids", ids, "rows", e->n_rows, "positions", e->positions, "vocab", e->n_vocab);
    char path[4096];
    int rc = 0;
    if ((size_t)snprintf(path, sizeof path, "%s.json", logits_path) >= sizeof path)
        rc = err_set(err, ERR_INVAL, "--logits: the path is too long");
    else if (!root || json_dump_file(root, path, JSON_COMPACT) != 0)
        rc = err_set(err, ERR_IO, "%s: cannot be written", path);
    json_decref(root);
    return rc;
}

int cmd_eval(int argc, char **argv)
{
    const struct cli_command *self = &cmd_eval_command;
    struct model_args model = {.kv = "f32"};
    const char *prompt_path = NULL, *tokens = NULL, *logits_path = NULL;
    struct cli_list pictures = {0}, words;
    int64_t piece = 0;
    const struct cli_option options[] = {
        MODEL_ARGS_OPTIONS(&model),
        {"prompt", NULL, CLI_TEXT, &prompt_path, 0, 0, "FILE",
         "the prompt, byte for byte; <image> stands for the next picture"},
        {"tokens", NULL, CLI_TEXT, &tokens, 0, 0, "1,2,3", "token ids instead of text"},
        {"image", NULL, CLI_LIST, &pictures, 0, 0, "PICTURE", "a picture file; once for each <image>"},
        {"logits", NULL, CLI_TEXT, &logits_path, 0, 0, "OUT", "where the rows go: little-endian f32, vocabulary by rows"},
        {"piece", NULL, CLI_INT, &piece, 1, 65536, "N", "evaluate in pieces of at most N tokens"},
    };
    int status = cli_parse(self, argc, argv, options, sizeof options / sizeof *options, &words);
    if (status != 0)
        return status;
    if (words.n)
        return cli_fail(self, EX_USAGE, "\"%s\" is no option", words.items[0]);
    if (!prompt_path == !tokens || !logits_path)
        return cli_fail(self, EX_USAGE, "--logits OUT and one of --prompt FILE and --tokens IDS are needed");
    if (tokens && pictures.n)
        return cli_fail(self, EX_USAGE, "--image goes with --prompt");

    struct err err = {0};
    struct en_options engine_options = {.sessions = 1, .batch = 1, .pictures = pictures.n};
    struct en_engine *engine = NULL;
    struct en_session *session = NULL;
    struct en_vocab *vocab = NULL;
    struct en_picture files[64] = {0};
    struct en_image *images[64] = {0};
    struct en_chunk *chunks = NULL, token_chunk;
    char *prompt = NULL;
    int32_t *ids = NULL, n_ids = 0, n_chunks = 0;
    size_t n_prompt = 0, n_tokens = 0;
    struct eval e = {.positions = json_array()};
    int rc = 0;
    if ((status = model_args_apply(self, &model, &engine_options)) != 0)
        goto out;
    if (tokens) {
        if ((rc = parse_tokens(tokens, &ids, &n_ids, &err)) != 0)
            goto out;
        n_tokens = (size_t)n_ids;
    } else {
        /* the context is made as large as the prompt: its tokens are counted before the weights are loaded */
        if ((rc = cli_read_file(prompt_path, PROMPT_MAX, &prompt, &n_prompt, &err)) != 0 ||
            (rc = en_vocab_open(engine_options.model_path, &vocab, &err)) != 0 ||
            (rc = en_vocab_tokenize(vocab, prompt, n_prompt, true, &ids, &n_tokens, &err)) != 0)
            goto out;
        for (int i = 0; i < pictures.n; i++) {
            if ((rc = en_picture_read(pictures.items[i], &files[i], &err)) != 0)
                goto out;
            /* smart resize rounds each side up by less than a tile, and small pictures grow to 65,536 pixels and a little */
            const int64_t pixels = ((int64_t)files[i].view.width_px + 32) * (files[i].view.height_px + 32);
            if (pixels > engine_options.max_pixels)
                engine_options.max_pixels = pixels;
        }
        if (pictures.n && engine_options.max_pixels < 131072)
            engine_options.max_pixels = 131072;
        n_tokens += (size_t)pictures.n * (size_t)(2 + engine_options.max_pixels / 1024 + 8);
    }
    if (n_tokens == 0) {
        rc = err_set(&err, ERR_INVAL, "%s: the prompt is empty", prompt_path);
        goto out;
    }
    engine_options.context_tokens = n_tokens < INT32_MAX ? (int32_t)n_tokens : INT32_MAX;
    if ((status = model_args_open(self, &engine_options, &engine)) != 0)
        goto out;
    struct en_info info;
    en_get_info(engine, &info);
    e.n_vocab = info.n_vocab;
    for (int i = 0; i < pictures.n; i++)
        if ((rc = en_image_encode(engine, &files[i].view, 0, &images[i], &err)) != 0) {
            err_prefix(&err, "%s", pictures.items[i]);
            goto out;
        }
    if (tokens) {
        token_chunk = (struct en_chunk){.ids = ids, .n_ids = n_ids};
        n_chunks = 1;
    } else if ((rc = en_prompt_raw(engine, prompt, n_prompt, images, pictures.n, &chunks, &n_chunks, &err)) != 0) {
        goto out;
    }
    const struct en_chunk *fed = tokens ? &token_chunk : chunks;
    e.out = fopen(logits_path, "wb");
    if (!e.out) {
        rc = err_set_errno(&err, ERR_IO, "%s", logits_path);
        goto out;
    }
    if ((rc = en_session_open(engine, &session, &err)) != 0)
        goto out;
    const struct en_feed feed = {
        .session = session, .chunks = fed, .n_chunks = n_chunks, .want = EN_WANT_TEXT, .piece = (int32_t)piece};
    if ((rc = en_run(engine, &feed, 1, write_row, &e, &err)) != 0)
        goto out;
    const int closed = fclose(e.out);
    e.out = NULL;
    if (closed != 0 || e.failed)
        rc = err_set(&err, ERR_IO, "%s: cannot be written", logits_path);
    else
        rc = write_sidecar(logits_path, &e, fed, n_chunks, &err);
out:
    if (e.out)
        fclose(e.out);
    json_decref(e.positions);
    en_session_close(session);
    for (int i = 0; i < pictures.n; i++) {
        en_image_unref(images[i]);
        en_picture_free(&files[i]);
    }
    free(chunks);
    free(prompt);
    free(ids);
    en_vocab_close(vocab);
    en_close(engine);
    return rc != 0 ? cli_error(self, &err) : status;
}
