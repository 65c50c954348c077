/*
 * heron check: whether a configuration is right, and what it would cost on this machine.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "appliance/commands.h"
#include "appliance/config.h"
#include "appliance/plan.h"
#include "base/clock.h"
#include "base/log.h"

const struct cli_command cmd_check_command = {"check", "[-c FILE] [--json]",
                                              "is the configuration right, and what does it cost here?", cmd_check};

/* What a checked configuration comes to. */
struct check {
    struct config *config;
    struct plan plan;
};

/* ---- for people ------------------------------------------------------------------------------------------------------------ */

/* "1.23 GB", "456 MB", "7 kB" */
static const char *size_text(uint64_t bytes, char out[32])
{
    if (bytes >= 1000000000)
        snprintf(out, 32, "%.2f GB", (double)bytes / 1e9);
    else if (bytes >= 1000000)
        snprintf(out, 32, "%.1f MB", (double)bytes / 1e6);
    else
        snprintf(out, 32, "%.1f kB", (double)bytes / 1e3);
    return out;
}

static void print_memory_row(const char *what, uint64_t bytes, const char *words)
{
    char size[32];
    printf("  %-22s %12s%s%s\n", what, size_text(bytes, size), *words ? "   " : "", words);
}

static void print_memory(const struct check *c)
{
    const struct en_plan *m = &c->plan.memory;
    const struct en_options *o = &c->plan.options;
    char words[128], size[32];
    printf("\nmemory\n");
    print_memory_row("weights", m->weights_bytes, "");
    snprintf(words, sizeof words, "%d x %d tokens of %s", o->sessions, o->context_tokens,
             size_text(m->kv_bytes_per_token, size));
    print_memory_row("KV cache", m->kv_bytes, words);
    print_memory_row("recurrent state", m->state_bytes, "");
    print_memory_row("scratch", m->scratch_bytes, "");
    print_memory_row("total", m->total_bytes, "");
    if (c->plan.budget_bytes)
        print_memory_row("allowed", c->plan.budget_bytes,
                         c->config->engine.memory_bytes > 0 ? "engine.memory" : "seven eighths of this machine's");
}

static void print_plan(const struct check *c)
{
    printf("%s: right, %d camera%s\n", c->config->path, c->config->n_cameras, c->config->n_cameras == 1 ? "" : "s");
    print_memory(c);
}

/* ---- for programs ---------------------------------------------------------------------------------------------------------- */

static json_t *json_plan(const struct check *c)
{
    const struct en_plan *m = &c->plan.memory;
    return json_pack("{s:s, s:s, s:{s:I, s:I, s:I, s:I, s:I, s:I}}", "config", c->config->path, "sha256", c->config->sha,
                     "memory", "weights_bytes", (json_int_t)m->weights_bytes, "kv_bytes", (json_int_t)m->kv_bytes,
                     "state_bytes", (json_int_t)m->state_bytes, "scratch_bytes", (json_int_t)m->scratch_bytes, "total_bytes",
                     (json_int_t)m->total_bytes, "budget_bytes", (json_int_t)c->plan.budget_bytes);
}

/* ---- the command ----------------------------------------------------------------------------------------------------------- */

int cmd_check(int argc, char **argv)
{
    const char *path = CONFIG_DEFAULT_PATH;
    bool as_json = false;
    const struct cli_option table[] = {
        {"c", "config", CLI_TEXT, &path, 0, 0, "FILE", "the configuration; " CONFIG_DEFAULT_PATH " without it"},
        {"json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "print the plan as JSON"},
    };
    struct cli_list words = {0};
    int status = cli_parse(&cmd_check_command, argc, argv, table, sizeof table / sizeof *table, &words);
    if (status != 0)
        return status;
    if (words.n > 0)
        return cli_fail(&cmd_check_command, EX_USAGE, "what is \"%s\"? A configuration is named with -c", words.items[0]);
    struct check c = {0};
    struct complaints complaints = {0};
    struct err err = {0};
    int rc = config_load(path, &complaints, &c.config, &err);
    if (rc == 0)
        rc = plan_make(c.config, &complaints, &c.plan, &err);
    complaint_print(&complaints, stderr, isatty(STDERR_FILENO));
    if (rc != 0) {
        status = complaints.n_errors ? EX_CONFIG : cli_error(&cmd_check_command, &err);
    } else if (as_json) {
        json_t *root = json_plan(&c);
        json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        putchar('\n');
        json_decref(root);
    } else {
        print_plan(&c);
    }
    complaint_release(&complaints);
    config_free(c.config);
    return status;
}
