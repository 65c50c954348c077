#include "appliance/model_args.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

const char *model_args_default_model(void)
{
    return HERON_PREFIX "/share/heron/model/heron.gguf";
}

const char *model_args_default_vision(void)
{
    return HERON_PREFIX "/share/heron/model/mmproj-heron.gguf";
}

int model_args_apply(const struct cli_command *command, const struct model_args *args, struct en_options *options)
{
    options->model_path = args->model;
    options->vision_path = args->vision;
    if (!args->model && !options->synthetic) {
        if (access(model_args_default_model(), R_OK) != 0)
            return cli_fail(command, EX_NOINPUT, "no model: name one with -m (none is installed at %s)",
                            model_args_default_model());
        options->model_path = model_args_default_model();
        if (!options->vision_path)
            options->vision_path = model_args_default_vision();
    }
    options->device = args->device;
    options->isa = args->isa;
    options->threads = (int)args->threads;
    if (args->kv) {
        if (strcmp(args->kv, "f16") == 0)
            options->kv = EN_KV_F16;
        else if (strcmp(args->kv, "q8_0") == 0)
            options->kv = EN_KV_Q8_0;
        else if (strcmp(args->kv, "f32") == 0)
            options->kv = EN_KV_F32;
        else
            return cli_fail(command, EX_USAGE, "--kv is f16, q8_0 or f32, not \"%s\"", args->kv);
    }
    return 0;
}

static void show_progress(void *ctx, uint64_t done, uint64_t total)
{
    int64_t *last_ns = ctx;
    const int64_t now = clock_now_ns();
    if (done < total && now - *last_ns < 100 * CLOCK_MS)
        return;
    *last_ns = now;
    const int width = 30, full = total ? (int)((double)done / (double)total * width) : width;
    fprintf(stderr, "\rloading [%.*s%*s] %3d %% of %.2f GB", full, "##############################", width - full, "",
            total ? (int)(100.0 * (double)done / (double)total) : 100, (double)total / 1e9);
}

int model_args_open(const struct cli_command *command, struct en_options *options, struct en_engine **ret_engine)
{
    static int64_t last_ns;   /* one engine is opened at a time, by the main thread */
    last_ns = clock_now_ns(); /* short loads show nothing */
    const bool is_terminal = isatty(STDERR_FILENO) && !options->progress;
    if (is_terminal) {
        options->progress = show_progress;
        options->progress_ctx = &last_ns;
    }
    struct err err = {0};
    const int rc = en_open(options, ret_engine, &err);
    if (is_terminal)
        fprintf(stderr, "\r\033[K");
    return rc == 0 ? 0 : cli_error(command, &err);
}
