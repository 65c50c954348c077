#include "appliance/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "appliance/model_args.h"

#define PIXELS_PER_TOKEN 1024
#define FRAME_TOKENS     64 /* roles, markers and the question around a watch's own words */
#define CONTEXT_UNIT     256
#define CONTEXT_MIN      1024
#define MAX_PIXELS_LEAST 262144 /* so that a reload finds room for the usual */

/* ---- options --------------------------------------------------------------------------------------------------------------- */

/* Tokens that one look of a camera can take; every token stands for at least one byte of text. */
static int64_t look_tokens(const struct config_camera *c)
{
    return c->max_pixels / PIXELS_PER_TOKEN + (int64_t)strlen(c->prompt) + (int64_t)strlen(c->schema_text) + c->max_tokens +
           FRAME_TOKENS;
}

void plan_options(const struct config *config, struct en_options *ret_options)
{
    int64_t context = CONTEXT_MIN, pixels = MAX_PIXELS_LEAST;
    for (int i = 0; i < config->n_cameras; i++) {
        const struct config_camera *c = config->cameras[i];
        const int64_t need = look_tokens(c);
        context = need > context ? need : context;
        pixels = c->max_pixels > pixels ? c->max_pixels : pixels;
    }
    context = (context + CONTEXT_UNIT - 1) / CONTEXT_UNIT * CONTEXT_UNIT;
    if (config->engine.context_tokens > 0)
        context = config->engine.context_tokens;
    const int64_t n = config->n_cameras < config->engine.batch ? config->n_cameras : config->engine.batch;
    static const enum en_kv kinds[] = {[CONFIG_KV_F16] = EN_KV_F16, [CONFIG_KV_Q8_0] = EN_KV_Q8_0, [CONFIG_KV_F32] = EN_KV_F32};
    *ret_options = (struct en_options){
        .model_path = config->engine.model ? config->engine.model : model_args_default_model(),
        .vision_path = config->engine.vision  ? config->engine.vision
                       : config->engine.model ? NULL
                                              : model_args_default_vision(),
        .device = config->engine.device,
        .threads = (int)config->engine.threads,
        .kv = kinds[config->engine.kv],
        .context_tokens = (int32_t)context,
        .sessions = (int32_t)(n > 1 ? n : 1),
        .batch = (int32_t)(n > 1 ? n : 1),
        .max_pixels = pixels,
    };
}

/* ---- this machine ------------------------------------------------------------------------------------------------------------ */

/* The number in a control group's file; 0: none, or "max". */
static uint64_t read_number(const char *path)
{
    FILE *f = fopen(path, "re");
    unsigned long long n = 0;
    if (!f)
        return 0;
    const bool has_number = fscanf(f, "%llu", &n) == 1;
    fclose(f);
    return has_number ? n : 0;
}

/* The least memory.max from this process's control group up to the root; 0: no limit. */
static uint64_t group_limit_bytes(void)
{
    char line[1024], path[1200];
    FILE *f = fopen("/proc/self/cgroup", "re");
    char *group = NULL;
    while (f && !group && fgets(line, sizeof line, f))
        if (strncmp(line, "0::/", 4) == 0)
            group = line + 3;
    if (f)
        fclose(f);
    if (!group)
        return 0;
    group[strcspn(group, "\n")] = 0;
    uint64_t least = 0;
    for (;;) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", group);
        const uint64_t limit = read_number(path);
        if (limit && (!least || limit < least))
            least = limit;
        char *slash = strrchr(group, '/');
        if (!slash || !group[0])
            return least;
        *slash = 0;
    }
}

uint64_t plan_machine_bytes(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    const uint64_t all = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0, limit = group_limit_bytes();
    return limit && (!all || limit < all) ? limit : all;
}

/* ---- the whole --------------------------------------------------------------------------------------------------------------- */

static const struct place *place_of(const struct config *config, enum config_key key)
{
    return &config->places.of[key];
}

/* Which key an error of the engine is about: the file that is named in it. */
static enum config_key key_of(const struct en_options *options, const struct err *err)
{
    const bool is_of_device = err->code == ERR_UNSUPPORTED || err->code == ERR_DEVICE || err->code == ERR_NOT_FOUND;
    if (options->vision_path && strstr(err->text, options->vision_path))
        return CONFIG_engine_vision;
    if (is_of_device && !strstr(err->text, options->model_path))
        return CONFIG_engine_device;
    return CONFIG_engine_model;
}

void plan_complain(const struct config *config, const struct en_options *options, const struct err *cause,
                   struct complaints *complaints)
{
    const struct place *at = place_of(config, key_of(options, cause));
    complaint_add(complaints, at->file ? at : &(struct place){.file = config->path}, NULL, "%s", cause->text);
}

int plan_make(const struct config *config, struct complaints *complaints, struct plan *ret_plan, struct err *err)
{
    struct plan plan = {.is_installed_model = !config->engine.model};
    struct err cause = {0};
    plan_options(config, &plan.options);
    plan.machine_bytes = plan_machine_bytes();
    plan.budget_bytes = config->engine.memory_bytes > 0 ? (uint64_t)config->engine.memory_bytes : plan.machine_bytes / 8 * 7;
    if (plan.is_installed_model && access(plan.options.model_path, R_OK) != 0) {
        complaint_add(complaints, &(struct place){.file = config->path}, "engine.model",
                      "no model: engine.model is not set, and none is installed at %s", plan.options.model_path);
        return err_set(err, ERR_INVAL, "no model");
    }
    const int rc = en_plan_memory(&plan.options, &plan.memory, &cause);
    if (rc == ERR_NOMEM)
        return err_set(err, rc, "%s", cause.text);
    if (rc != 0) {
        plan_complain(config, &plan.options, &cause, complaints);
        return err_set(err, ERR_INVAL, "%s", cause.text);
    }
    if (plan.budget_bytes && plan.memory.total_bytes > plan.budget_bytes) {
        const bool is_asked = config->engine.memory_bytes > 0;
        const int digits = plan.budget_bytes < 1000000000 ? 4 : 2;
        const struct place *at = place_of(config, is_asked ? CONFIG_engine_memory : CONFIG_engine_model);
        complaint_add(complaints, at->file ? at : &(struct place){.file = config->path}, "engine.memory",
                      "the model, %d session%s of %d tokens and what they need take %.*f GB; %s %.*f GB. A smaller model, "
                      "engine.context or engine.batch would fit",
                      plan.options.sessions, plan.options.sessions == 1 ? "" : "s", plan.options.context_tokens, digits,
                      (double)plan.memory.total_bytes / 1e9,
                      is_asked ? "engine.memory allows" : "seven eighths of this machine's memory are", digits,
                      (double)plan.budget_bytes / 1e9);
        return err_set(err, ERR_FULL, "the engine does not fit into memory");
    }
    *ret_plan = plan;
    return 0;
}

void plan_shortage(const struct en_options *options, const struct config *next, char *out, size_t cap)
{
    size_t used = 0;
    out[0] = 0;
    struct en_options wanted;
    plan_options(next, &wanted);
    for (int i = 0; i < next->n_cameras && used < cap; i++) {
        const struct config_camera *c = next->cameras[i];
        if (c->max_pixels > options->max_pixels)
            used += (size_t)snprintf(out + used, cap - used, "%scameras.%s.watch.max_pixels", used ? ", " : "", c->id);
        if (used < cap && next->engine.context_tokens == 0 && look_tokens(c) > options->context_tokens)
            used += (size_t)snprintf(out + used, cap - used, "%scameras.%s.watch.max_tokens", used ? ", " : "", c->id);
    }
    if (used < cap && wanted.sessions > options->sessions)
        snprintf(out + used, cap - used, "%scameras", used ? ", " : "");
}
