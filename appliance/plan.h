/*
 * plan - what a configuration asks of the engine: its options, and whether they fit into this machine. Behind `heron check` and the
 * start of the daemon.
 *
 * Threads: pure; any. Memory: the options borrow the configuration's texts.
 */
#ifndef HERON_APPLIANCE_PLAN_H
#define HERON_APPLIANCE_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "appliance/complaint.h"
#include "appliance/config.h"
#include "base/err.h"
#include "engine/engine.h"

struct plan {
    struct en_options options; /* texts belong to the config, or are static */
    struct en_plan memory;     /* of the engine, from the files' headers */
    uint64_t budget_bytes;     /* engine.memory, or seven eighths of the machine's */
    uint64_t machine_bytes;
    bool is_installed_model; /* engine.model was not set */
};

/*
 * The options of a configuration, without a look at any file. Sessions: one a camera, at most engine.batch. Context: engine.context, or
 * what the largest watch can need (a token has at least one byte of prompt; 1,024 pixels; max_tokens).
 */
void plan_options(const struct config *config, struct en_options *ret_options);

/*
 * The whole plan; reads the headers of the model's files. What is wrong goes to `complaints`, with the place of the key that is to be
 * changed. Errors: ERR_FULL (it does not fit into memory), ERR_INVAL (the files), ERR_NOMEM.
 */
int plan_make(const struct config *config, struct complaints *complaints, struct plan *ret_plan, struct err *err);

/* An error of the engine as a complaint about the key that is to be changed: the model, its vision file, or the device. */
void plan_complain(const struct config *config, const struct en_options *options, const struct err *cause,
                   struct complaints *complaints);

/*
 * What of `next` an engine opened with `options` has no room for, as keys separated by ", "; "" where it has. Until a restart such
 * watches get what there is.
 */
void plan_shortage(const struct en_options *options, const struct config *next, char *out, size_t cap);

/* Memory of this machine, or of the control group that holds this process where that is less. 0: unknown. */
uint64_t plan_machine_bytes(void);

#endif
