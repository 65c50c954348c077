/*
 * heron status: what the running daemon says about itself, as a screen or as JSON.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "appliance/commands.h"
#include "appliance/control.h"
#include "appliance/status.h"
#include "base/clock.h"
#include "base/terminal.h"

const struct cli_command cmd_status_command = {"status", "[--json]", "what the running daemon knows", cmd_status};

#define ANSWER_NS (5 * CLOCK_S)

static struct status_style style_of_stdout(void)
{
    struct status_style style = {.has_colour = terminal_is_colourful(STDOUT_FILENO)};
    struct winsize size = {0};
    if (!isatty(STDOUT_FILENO))
        return style;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
        style.columns = size.ws_col;
    return style;
}

/* A daemon that does not know the command answers {"ok":false,"error":"..."}. */
static bool is_refusal(const char *reply, struct err *err)
{
    json_t *value = json_loads(reply, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    const bool is = json_is_false(json_object_get(value, "ok"));
    if (is) {
        const char *why = json_string_value(json_object_get(value, "error"));
        err_set(err, ERR_STATE, "the daemon refuses: %s", why ? why : "it does not say why");
    }
    json_decref(value);
    return is;
}

int cmd_status(int argc, char **argv)
{
    const struct cli_command *self = &cmd_status_command;
    bool as_json = false;
    const char *socket_path = NULL;
    const struct cli_option options[] = {
        {"json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "the whole overview as JSON (config/schemas/overview.json)"},
        {"socket", NULL, CLI_TEXT, &socket_path, 0, 0, "PATH", "of the daemon that `heron run --socket PATH` started"},
    };
    struct cli_list words;
    struct err err = {0};
    char *reply = NULL;
    int status = cli_parse(self, argc, argv, options, sizeof options / sizeof *options, &words);
    if (status != 0)
        return status;
    if (words.n > 0)
        return cli_fail(self, EX_USAGE, "takes no arguments, and there is \"%s\"", words.items[0]);

    int rc = control_ask(socket_path, "status", ANSWER_NS, &reply, &err);
    if (rc == ERR_NOT_FOUND) /* no file is missing: a service is */
        return cli_fail(self, EX_UNAVAILABLE, "%s", err.text);
    if (rc == 0 && is_refusal(reply, &err))
        rc = err.code;
    if (rc == 0 && as_json)
        printf("%s\n", reply);
    else if (rc == 0) {
        const struct status_style style = style_of_stdout();
        rc = status_draw(stdout, reply, &style, &err);
    }
    free(reply);
    if (rc != 0)
        return cli_error(self, &err);
    if (fflush(stdout) != 0 || ferror(stdout))
        return cli_fail(self, EX_IOERR, "cannot write the answer");
    return 0;
}
