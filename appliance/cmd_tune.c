/*
 * heron tune: measures on this machine from how many rows on the kernels for many are faster than those for few, and writes the machine's tuning table.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "appliance/commands.h"
#include "engine/engine.h"

const struct cli_command cmd_tune_command = {"tune", "[--device D] [--out FILE]",
                                             "measures kernel variants on this machine and writes its tuning table", cmd_tune};

#define SECONDS 1.0 /* for a figure */

static void print_figure(void *ctx, const struct en_tuned *f)
{
    bool *is_begun = ctx;
    if (!*is_begun)
        printf("%s\n"
               "figure     type  standard best  faster  time of the way of many over that of few\n",
               f->device);
    *is_begun = true;
    printf("%-10s %-7s %6d %4d   %.2fx ", f->figure, f->type, f->standard, f->best, f->gain);
    for (int32_t i = 0; i < f->n; i++)
        printf(" %d:%.2f", f->at[i], f->ratio[i]);
    putchar('\n');
    fflush(stdout);
}

/* Whether a file can be put where `path` is, before minutes are spent on what goes there. */
static int check_folder(const struct cli_command *self, const char *path)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    if (access(*folder ? folder : "/", W_OK) == 0)
        return 0;
    return cli_fail(self, errno == ENOENT ? EX_CANTCREAT : EX_NOPERM,
                    "%s: %s; --out names another file, which HERON_TUNING=FILE makes every command read", path,
                    strerror(errno));
}

int cmd_tune(int argc, char **argv)
{
    const struct cli_command *self = &cmd_tune_command;
    struct en_options o = {0};
    const char *out = en_tuning_path();
    double seconds = SECONDS;
    int64_t threads = 0;
    const struct cli_option options[] = {
        {"device", NULL, CLI_TEXT, &o.device, 0, 0, "D", "auto, cpu, cuda:N"},
        {"out", NULL, CLI_TEXT, &out, 0, 0, "FILE", "where the table goes; without it where every command looks for it"},
        {"seconds", NULL, CLI_FLOAT, &seconds, 0, 0, "S", "for each figure, 1 without it"},
        {"t", "threads", CLI_INT, &threads, 1, 1024, "N", "threads of the CPU device; all cores without it"},
        {"isa", NULL, CLI_TEXT, &o.isa, 0, 0, "LEVEL", "highest instruction set to use: scalar, avx2, avx512, amx; neon, i8mm"},
    };
    struct cli_list words;
    bool is_begun = false;
    double gain = 1;
    struct err err = {0};
    int rc = cli_parse(self, argc, argv, options, sizeof options / sizeof *options, &words);
    if (rc == 0 && words.n > 0)
        rc = cli_fail(self, EX_USAGE, "takes no files");
    if (rc == 0 && !*out)
        rc = cli_fail(self, EX_USAGE, "--out names no file");
    if (rc == 0 && !(seconds > 0 && seconds <= 60))
        rc = cli_fail(self, EX_USAGE, "--seconds: above 0, at most 60");
    if (rc != 0 || (rc = check_folder(self, out)) != 0)
        return rc;
    o.threads = (int)threads;
    if (en_tune(&o, out, seconds, print_figure, &is_begun, &gain, &err) != 0)
        return cli_error(self, &err);
    printf("%.2fx faster than the standards in the mean; written to %s\n", gain, out);
    return 0;
}
