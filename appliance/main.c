/*
 * main - the table of commands.
 */
#include <stdio.h>

#include "appliance/commands.h"
#include "appliance/version.h"

static int cmd_version(int argc, char **argv)
{
    printf("heron %s\n", heron_version);
    return 0;
}

int main(int argc, char **argv)
{
    const struct cli_command commands[] = {
        cmd_run_command,      cmd_check_command,
        cmd_status_command,   cmd_cameras_command,
        cmd_demo_command,     cmd_synth_command,
        cmd_describe_command, cmd_eval_command,
        cmd_tokenize_command, cmd_bench_command,
        cmd_model_command,    cmd_tune_command,
        cmd_lend_command,     {"version", "", "which build this is", cmd_version},
    };
    return cli_main(commands, sizeof commands / sizeof *commands, argc, argv);
}
