/*
 * cli - the command line: a table of commands, a table of options per command, one way to complain.
 *
 * A command reads its options with cli_parse into a struct of its own, does its work, and returns an exit status of sysexits(3). Results go to standard
 * output, everything else to standard error.
 *
 * Threads: the main thread. Memory: option values point into argv.
 */
#ifndef HERON_APPLIANCE_CLI_H
#define HERON_APPLIANCE_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <sysexits.h>

#include "base/err.h"

struct cli_command {
    const char *name;
    const char *usage; /* what follows the name */
    const char *help;  /* one line */
    /* argv[0] is the command's name; NULL: no command of heron's, but a tool with a main() of its own */
    int (*run)(int argc, char **argv);
};

enum cli_kind { CLI_FLAG, CLI_TEXT, CLI_INT, CLI_FLOAT, CLI_LIST };

/* Values of an option that may be given several times. */
struct cli_list {
    const char *items[64];
    int n;
};

struct cli_option {
    const char *name;  /* without dashes; one letter: a short option */
    const char *alias; /* another name, or NULL */
    enum cli_kind kind;
    void *target;      /* bool, const char *, int64_t, double, struct cli_list */
    int64_t min, max;  /* of CLI_INT */
    const char *value; /* what to call the value in the help */
    const char *help;
};

/*
 * Parse argv[1..]: fills targets (untouched where not given); words that are no options go to *ret_words, in order. `--` ends options; `--name=value` works.
 * `--help` prints the options and exits the program with 0. An unknown or malformed option prints one line naming the nearest and
 * returns EX_USAGE; otherwise 0.
 */
int cli_parse(const struct cli_command *command, int argc, char **argv, const struct cli_option *options, int n_options,
              struct cli_list *ret_words);

/* "heron NAME: words" to standard error; returns status, so that `return cli_fail(...)` reads well. */
int cli_fail(const struct cli_command *command, int status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The same with the text and the exit status of an error: EX_NOINPUT, EX_DATAERR, EX_UNAVAILABLE, EX_OSERR, EX_USAGE, EX_SOFTWARE. */
int cli_error(const struct cli_command *command, const struct err *err);

/* A whole file (or standard input for "-"), malloc'ed, with a NUL behind it that is not counted. At most max_bytes. */
int cli_read_file(const char *path, size_t max_bytes, char **ret_bytes, size_t *ret_n, struct err *err);

/* Dispatch: the whole program behind main(). */
int cli_main(const struct cli_command *commands, int n_commands, int argc, char **argv);

#endif
