/*
 * heron lend: this machine's device for another machine's Heron, which names it "cuda:0+HOST:PORT" and shares its model with it.
 */
#include <stdio.h>

#include "appliance/commands.h"
#include "engine/engine.h"

const struct cli_command cmd_lend_command = {"lend", "--listen HOST:PORT [--device D]",
                                             "lets another machine's Heron share its model with this machine's device",
                                             cmd_lend};

static void print_line(void *ctx, const char *line)
{
    printf("%s\n", line);
    fflush(stdout);
}

int cmd_lend(int argc, char **argv)
{
    const struct cli_command *self = &cmd_lend_command;
    struct en_options o = {.device = "auto"};
    const char *listen_on = NULL;
    int64_t threads = 0;
    const struct cli_option options[] = {
        {"listen", NULL, CLI_TEXT, &listen_on, 0, 0, "HOST:PORT",
         "this machine's address on the network of the two; who reaches it has the device"},
        {"device", NULL, CLI_TEXT, &o.device, 0, 0, "D", "auto, cpu, cuda:N"},
        {"t", "threads", CLI_INT, &threads, 1, 1024, "N", "threads of the CPU device; all cores without it"},
        {"isa", NULL, CLI_TEXT, &o.isa, 0, 0, "LEVEL", "highest instruction set to use: scalar, avx2, avx512, amx; neon, i8mm"},
    };
    struct cli_list words;
    struct err err = {0};
    int rc = cli_parse(self, argc, argv, options, sizeof options / sizeof *options, &words);
    if (rc == 0 && words.n > 0)
        rc = cli_fail(self, EX_USAGE, "takes no files");
    if (rc == 0 && !listen_on)
        rc = cli_fail(self, EX_USAGE, "on which address? --listen HOST:PORT");
    if (rc != 0)
        return rc;
    o.threads = (int)threads;
    en_lend(&o, listen_on, print_line, NULL, &err); /* until it is killed */
    return cli_error(self, &err);
}
