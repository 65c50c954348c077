/*
 * heron run: the daemon, in the foreground.
 */
#include "appliance/commands.h"
#include "appliance/config.h"
#include "appliance/daemon.h"

const struct cli_command cmd_run_command = {"run", "[-c FILE]", "the daemon, in the foreground (what systemd starts)", cmd_run};

int cmd_run(int argc, char **argv)
{
    struct daemon_options options = {.config_path = CONFIG_DEFAULT_PATH};
    const struct cli_option table[] = {
        {"c", "config", CLI_TEXT, &options.config_path, 0, 0, "FILE", "the configuration; " CONFIG_DEFAULT_PATH " without it"},
        {"socket", NULL, CLI_TEXT, &options.socket_path, 0, 0, "PATH",
         "where `heron status` asks; in the runtime folder without it"},
        {"state", NULL, CLI_TEXT, &options.state_path, 0, 0, "FOLDER", "what survives a restart; the state folder without it"},
    };
    struct cli_list words = {0};
    const int status = cli_parse(&cmd_run_command, argc, argv, table, sizeof table / sizeof *table, &words);
    if (status != 0)
        return status;
    if (words.n > 0)
        return cli_fail(&cmd_run_command, EX_USAGE, "what is \"%s\"? A configuration is named with -c", words.items[0]);
    return daemon_run(&options);
}
