/*
 * commands - the entry points behind the table in main.c; each is described in cli.h, struct cli_command. Threads: the main thread.
 */
#ifndef HERON_APPLIANCE_COMMANDS_H
#define HERON_APPLIANCE_COMMANDS_H

#include "appliance/cli.h"

int cmd_bench(int argc, char **argv);
int cmd_cameras(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_demo(int argc, char **argv);
int cmd_describe(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_lend(int argc, char **argv);
int cmd_model(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_synth(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_tune(int argc, char **argv);

extern const struct cli_command cmd_bench_command, cmd_cameras_command, cmd_check_command, cmd_demo_command,
    cmd_describe_command, cmd_eval_command, cmd_lend_command, cmd_model_command, cmd_run_command, cmd_status_command,
    cmd_synth_command, cmd_tokenize_command, cmd_tune_command;

#endif
