#include "appliance/model_args.h"

#include <string.h>
#include <unistd.h>

#include "appliance/load_bar.h"

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

static bool show_progress(void *ctx, uint64_t done, uint64_t total)
{
    load_bar_show(ctx, done, total);
    return true;
}

int model_args_open(const struct cli_command *command, const struct en_options *options, struct en_engine **ret_engine)
{
    struct load_bar bar;
    struct err err = {0};
    load_bar_begin(&bar, STDERR_FILENO);
    struct en_options shown = *options;
    shown.progress = show_progress;
    shown.progress_ctx = &bar;
    const int rc = en_open(&shown, ret_engine, &err);
    load_bar_end(&bar);
    return rc == 0 ? 0 : cli_error(command, &err);
}
