/*
 * heron tokenize: standard input to token ids and back.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "appliance/commands.h"
#include "engine/engine.h"

#define INPUT_MAX (64u << 20)

const struct cli_command cmd_tokenize_command = {"tokenize", "-m MODEL [--special] [--decode]",
                                                 "all of standard input to token ids, and back", cmd_tokenize};

/* Ids separated by white space or commas. */
static int parse_ids(const char *text, size_t n_text, int32_t **ret_ids, size_t *ret_n, struct err *err)
{
    size_t n = 0, capacity = 1024;
    int32_t *ids = malloc(capacity * sizeof *ids);
    for (const char *p = text; ids;) {
        while (isspace((unsigned char)*p) || *p == ',')
            p++;
        if (p == text + n_text) /* a NUL before the end is no id */
            break;
        char *end = NULL;
        errno = 0;
        const long v = strtol(p, &end, 10);
        if (end == p || errno || v < 0 || v > INT32_MAX) {
            free(ids);
            return err_set(err, ERR_INVAL, "standard input, byte %zu: expected a token id, found \"%.12s\"", (size_t)(p - text),
                           p);
        }
        if (n == capacity) {
            int32_t *more = realloc(ids, 2 * capacity * sizeof *ids);
            if (!more)
                free(ids);
            ids = more;
            capacity *= 2;
            if (!ids)
                break;
        }
        ids[n++] = (int32_t)v;
        p = end;
    }
    if (!ids)
        return err_set(err, ERR_NOMEM, "out of memory: %zu ids", capacity);
    *ret_ids = ids;
    *ret_n = n;
    return 0;
}

int cmd_tokenize(int argc, char **argv)
{
    const struct cli_command *self = &cmd_tokenize_command;
    const char *model = NULL;
    bool special = false, decode = false;
    const struct cli_option options[] = {
        {"m", "model", CLI_TEXT, &model, 0, 0, "MODEL", "the GGUF file with the vocabulary"},
        {"special", NULL, CLI_FLAG, &special, 0, 0, NULL,
         "texts of control tokens become those tokens (and are written when decoding)"},
        {"decode", NULL, CLI_FLAG, &decode, 0, 0, NULL, "ids on standard input, text out"},
    };
    struct cli_list words;
    int rc = cli_parse(self, argc, argv, options, sizeof options / sizeof *options, &words);
    if (rc != 0)
        return rc;
    if (words.n)
        return cli_fail(self, EX_USAGE, "\"%s\": the text comes on standard input", words.items[0]);
    if (!model)
        return cli_fail(self, EX_USAGE, "-m MODEL is missing");
    struct err err = {0};
    struct en_vocab *vocab = NULL;
    char *input = NULL, *text = NULL;
    int32_t *ids = NULL;
    size_t n_input = 0, n = 0;
    rc = en_vocab_open(model, &vocab, &err);
    if (rc == 0)
        rc = cli_read_file("-", INPUT_MAX, &input, &n_input, &err);
    if (rc == 0 && decode) {
        rc = parse_ids(input, n_input, &ids, &n, &err);
        if (rc == 0)
            rc = en_vocab_detokenize(vocab, ids, n, special, &text, &n, &err);
        if (rc == 0)
            fwrite(text, 1, n, stdout);
    } else if (rc == 0) {
        rc = en_vocab_tokenize(vocab, input, n_input, special, &ids, &n, &err);
        for (size_t i = 0; rc == 0 && i < n; i++)
            printf("%s%d", i ? " " : "", ids[i]);
        if (rc == 0)
            putchar('\n');
    }
    free(input);
    free(ids);
    free(text);
    en_vocab_close(vocab);
    if (rc != 0)
        return cli_error(self, &err);
    return fflush(stdout) == 0 ? 0 : cli_fail(self, EX_IOERR, "standard output could not be written");
}
