#include "appliance/cli.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "appliance/nearest.h"
#include "appliance/version.h"

/* ---- complaints ----------------------------------------------------------------------------------------------------------------- */

static const char *of_program(const struct cli_command *command)
{
    return command->run ? "heron " : "";
}

int cli_fail(const struct cli_command *command, int status, const char *fmt, ...)
{
    fprintf(stderr, "%s%s: ", of_program(command), command->name);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return status;
}

static int exit_status(int code)
{
    switch (code) {
    case ERR_NOT_FOUND: return EX_NOINPUT;
    case ERR_FORMAT:
    case ERR_UNSUPPORTED: return EX_DATAERR;
    case ERR_INVAL: return EX_USAGE;
    case ERR_IO: return EX_IOERR;
    case ERR_NOMEM: return EX_OSERR;
    case ERR_FULL: return EX_DATAERR;
    case ERR_TIMEOUT:
    case ERR_DEVICE: return EX_UNAVAILABLE;
    default: return EX_SOFTWARE;
    }
}

int cli_error(const struct cli_command *command, const struct err *err)
{
    return cli_fail(command, exit_status(err->code), "%s", err->text[0] ? err->text : err_name(err->code));
}

/* ---- options ---------------------------------------------------------------------------------------------------------------------- */

static const char *dashes(const char *name)
{
    return name[1] ? "--" : "-";
}

static void print_usage(const struct cli_command *command, const struct cli_option *options, int n)
{
    printf("%s%s %s\n    %s\n", of_program(command), command->name, command->usage, command->help);
    for (int i = 0; i < n; i++) {
        const struct cli_option *o = &options[i];
        char left[80];
        snprintf(left, sizeof left, "%s%s%s%s%s%s", dashes(o->name), o->name, o->alias ? ", " : "",
                 o->alias ? dashes(o->alias) : "", o->alias ? o->alias : "", "");
        if (o->kind != CLI_FLAG)
            snprintf(left + strlen(left), sizeof left - strlen(left), " %s", o->value);
        printf("  %-28s %s\n", left, o->help);
    }
}

static const struct cli_option *find_option(const struct cli_option *options, int n, const char *name, size_t length)
{
    for (int i = 0; i < n; i++) {
        const char *names[2] = {options[i].name, options[i].alias};
        for (int k = 0; k < 2; k++)
            if (names[k] && strlen(names[k]) == length && memcmp(names[k], name, length) == 0)
                return &options[i];
    }
    return NULL;
}

static int unknown_option(const struct cli_command *command, const struct cli_option *options, int n, const char *arg,
                          size_t length)
{
    char word[64];
    snprintf(word, sizeof word, "%.*s", (int)length, arg);
    struct nearest near = {.word = word + strspn(word, "-")};
    for (int i = 0; i < n; i++) {
        nearest_offer(&near, options[i].name);
        if (options[i].alias)
            nearest_offer(&near, options[i].alias);
    }
    if (near.best)
        return cli_fail(command, EX_USAGE, "unknown option %s: did you mean %s%s?", word, dashes(near.best), near.best);
    return cli_fail(command, EX_USAGE, "unknown option %s (%s%s --help lists them)", word, of_program(command), command->name);
}

static int take_value(const struct cli_command *command, const struct cli_option *o, const char *value)
{
    char *end = NULL;
    errno = 0;
    switch (o->kind) {
    case CLI_FLAG: break;
    case CLI_TEXT: *(const char **)o->target = value; break;
    case CLI_INT: {
        const long long v = strtoll(value, &end, 10);
        if (!*value || *end || errno || v < o->min || v > o->max)
            return cli_fail(command, EX_USAGE, "%s%s takes a whole number from %lld to %lld, not \"%s\"", dashes(o->name),
                            o->name, (long long)o->min, (long long)o->max, value);
        *(int64_t *)o->target = v;
        break;
    }
    case CLI_FLOAT: {
        const double v = strtod(value, &end);
        if (!*value || *end || errno || !isfinite(v))
            return cli_fail(command, EX_USAGE, "%s%s takes a number, not \"%s\"", dashes(o->name), o->name, value);
        *(double *)o->target = v;
        break;
    }
    case CLI_LIST: {
        struct cli_list *list = o->target;
        if (list->n == (int)(sizeof list->items / sizeof *list->items))
            return cli_fail(command, EX_USAGE, "%s%s: %d are the most", dashes(o->name), o->name, list->n);
        list->items[list->n++] = value;
        break;
    }
    }
    return 0;
}

int cli_parse(const struct cli_command *command, int argc, char **argv, const struct cli_option *options, int n,
              struct cli_list *ret_words)
{
    bool only_words = false;
    ret_words->n = 0;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (only_words || arg[0] != '-' || !arg[1]) {
            if (ret_words->n == (int)(sizeof ret_words->items / sizeof *ret_words->items))
                return cli_fail(command, EX_USAGE, "too many arguments");
            ret_words->items[ret_words->n++] = arg;
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            only_words = true;
            continue;
        }
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            print_usage(command, options, n);
            exit(0);
        }
        const size_t dash = arg[1] == '-' ? 2 : 1;
        const char *equals = dash == 2 ? strchr(arg, '=') : NULL;
        const size_t length = equals ? (size_t)(equals - arg) - dash : strlen(arg) - dash;
        const struct cli_option *o = find_option(options, n, arg + dash, length);
        if (!o || (dash == 1) != (length == 1))
            return unknown_option(command, options, n, arg, length + dash);
        if (o->kind == CLI_FLAG) {
            if (equals)
                return cli_fail(command, EX_USAGE, "--%s takes no value", o->name);
            *(bool *)o->target = true;
            continue;
        }
        if (!equals && i + 1 == argc)
            return cli_fail(command, EX_USAGE, "%s needs a value: %s", arg, o->value);
        const int rc = take_value(command, o, equals ? equals + 1 : argv[++i]);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* ---- files ------------------------------------------------------------------------------------------------------------------------ */

int cli_read_file(const char *path, size_t max_bytes, char **ret_bytes, size_t *ret_n, struct err *err)
{
    const bool is_stdin = strcmp(path, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(path, "rb");
    if (!f)
        return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s", path);
    size_t n = 0, capacity = 65536;
    char *bytes = malloc(capacity + 1);
    int rc = bytes ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    while (rc == 0) {
        const size_t got = fread(bytes + n, 1, capacity - n, f);
        n += got;
        if (n > max_bytes)
            rc = err_set(err, ERR_INVAL, "%s: larger than %zu bytes", path, max_bytes);
        else if (got == 0 && ferror(f))
            rc = err_set_errno(err, ERR_IO, "%s", path);
        else if (got == 0)
            break;
        else if (n == capacity) {
            char *more = realloc(bytes, capacity * 2 + 1);
            if (!more)
                rc = err_set(err, ERR_NOMEM, "out of memory: %s", path);
            else {
                bytes = more;
                capacity *= 2;
            }
        }
    }
    if (!is_stdin)
        fclose(f);
    if (rc != 0) {
        free(bytes);
        return rc;
    }
    bytes[n] = '\0';
    *ret_bytes = bytes;
    *ret_n = n;
    return 0;
}

/* ---- dispatch --------------------------------------------------------------------------------------------------------------------- */

static void print_commands(FILE *out, const struct cli_command *commands, int n)
{
    fprintf(out, "Heron watches cameras and says over MQTT what it sees. (%s)\n\n", heron_version);
    for (int i = 0; i < n; i++)
        fprintf(out, "  heron %-10s %s\n", commands[i].name, commands[i].help);
    fprintf(out, "  heron %-10s %s\n\n`heron COMMAND --help` lists a command's options.\n", "help", "this table");
}

int cli_main(const struct cli_command *commands, int n, int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "help";
    char *help_of[] = {argv[0], argc > 2 ? argv[2] : NULL, (char *)"--help", NULL};
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        if (!help_of[1] || strcmp(help_of[1], "help") == 0) {
            print_commands(stdout, commands, n);
            return 0;
        }
        name = help_of[1]; /* heron help COMMAND: as heron COMMAND --help */
        argc = 3;
        argv = help_of;
    }
    if (strcmp(name, "--version") == 0)
        name = "version";
    struct nearest near = {.word = name};
    for (int i = 0; i < n; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return commands[i].run(argc - 1, argv + 1);
        nearest_offer(&near, commands[i].name);
    }
    if (near.best)
        fprintf(stderr, "heron: unknown command \"%s\": did you mean \"%s\"?\n", name, near.best);
    else
        fprintf(stderr, "heron: unknown command \"%s\" (heron help lists them)\n", name);
    return EX_USAGE;
}
