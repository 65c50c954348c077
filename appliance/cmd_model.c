/*
 * heron model: what is in a GGUF file.
 */
#include <stdio.h>
#include <stdlib.h>

#include "appliance/commands.h"
#include "engine/engine.h"

const struct cli_command cmd_model_command = {
    "model", "FILE [--all]", "what is in a GGUF file: shapes, types, bytes per token, what it needs", cmd_model};

int cmd_model(int argc, char **argv)
{
    const struct cli_command *self = &cmd_model_command;
    bool all = false;
    const struct cli_option options[] = {{"all", NULL, CLI_FLAG, &all, 0, 0, NULL, "every tensor on a line"}};
    struct cli_list words;
    const int rc = cli_parse(self, argc, argv, options, 1, &words);
    if (rc != 0)
        return rc;
    if (words.n != 1)
        return cli_fail(self, EX_USAGE, "takes one file");
    struct err err = {0};
    char *text = NULL;
    if (en_describe_file(words.items[0], all, &text, &err) != 0)
        return cli_error(self, &err);
    fputs(text, stdout);
    free(text);
    return 0;
}
