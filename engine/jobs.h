/*
 * jobs - questions to the engine: queued, encoded, prefilled and decoded together. The public functions are en_submit, en_step and their
 * neighbours in engine.h; this is what engine.c needs to open and close them.
 *
 * Threads: the engine thread.
 */
#ifndef HERON_ENGINE_JOBS_H
#define HERON_ENGINE_JOBS_H

#include "engine/internal.h"

/* Errors: ERR_NOMEM. */
int jobs_open(struct en_engine *engine, struct jobs **ret_jobs, struct err *err);

/* Drops every job without a result. Takes NULL. */
void jobs_close(struct jobs *jobs);

#endif
