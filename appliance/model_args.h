/*
 * model_args - the options that every command with a model has: which files, which device, and opening the engine with a progress bar.
 * Threads: the main thread. Memory: texts point into argv.
 */
#ifndef HERON_APPLIANCE_MODEL_ARGS_H
#define HERON_APPLIANCE_MODEL_ARGS_H

#include "appliance/cli.h"
#include "engine/engine.h"

struct model_args {
    const char *model, *vision, *device, *kv, *isa;
    int64_t threads;
};

/* The rows for a command's option table. */
#define MODEL_ARGS_OPTIONS(args)                                                                                               \
    {"m", "model", CLI_TEXT, &(args)->model, 0, 0, "MODEL", "the text model, a GGUF file (the first part of a split one)"},    \
        {"v", "vision", CLI_TEXT, &(args)->vision, 0, 0, "VISION", "its vision file (mmproj), for pictures"},                  \
        {"device", NULL, CLI_TEXT, &(args)->device,                                                                            \
         0,        0,    "D",      "auto, cpu, ref, cuda:N; cuda:N+HOST:PORT with a machine that lends one"},                  \
        {"t", "threads", CLI_INT, &(args)->threads, 1, 1024, "N", "threads of the CPU device; all cores without it"},          \
        {"kv", NULL, CLI_TEXT, &(args)->kv, 0, 0, "TYPE", "type of the KV cache: f16, q8_0, f32"},                             \
    {                                                                                                                          \
        "isa", NULL, CLI_TEXT, &(args)->isa, 0, 0, "LEVEL",                                                                    \
            "highest instruction set to use: scalar, avx2, avx512, amx; neon, i8mm"                                            \
    }

/*
 * Complete the options: files (without -m the installed model), device, threads, KV type. Returns 0, or an exit status after one line to
 * standard error.
 */
int model_args_apply(const struct cli_command *command, const struct model_args *args, struct en_options *options);

/* en_open with a progress bar (appliance/load_bar.h) on a terminal; options->progress is not called. Returns as above. */
int model_args_open(const struct cli_command *command, const struct en_options *options, struct en_engine **ret_engine);

/* The model that is used when none is named. */
const char *model_args_default_model(void);
const char *model_args_default_vision(void);

#endif
