/*
 * answer - what a job says back, token by token: thinking, then free text or an object of the job's schema, and the scores of its choices.
 *
 * The engine hands it the logits of each next token; it masks what the schema or the remaining budget forbid, draws, collects the text, and says when
 * the answer is complete. With a schema the object always closes: tokens that would leave too little budget to close it are masked.
 *
 * Life cycle: answer_open -> answer_next per token -> answer_finish (moves text and scores into a result) -> answer_close.
 * Threads: the engine thread. Memory: two of the engine's blocks, taken at open for the largest answer that can come; nothing else allocates.
 */
#ifndef HERON_ENGINE_ANSWER_H
#define HERON_ENGINE_ANSWER_H

#include "engine/internal.h"

struct answer;

/* Thoughts are cut at this many tokens, so that an answer comes in bounded time. */
#define ANSWER_THOUGHT_TOKENS 1024

/*
 * Errors: ERR_INVAL (max_tokens below what the schema's shortest object needs, with both figures; sampling out of range), ERR_NOMEM.
 */
int answer_open(struct en_engine *engine, const struct en_job *job, struct answer **ret_answer, struct err *err);
void answer_close(struct answer *answer);

/* Most tokens that will ever be evaluated after the prompt. */
int64_t answer_tokens_max(const struct answer *answer);

/* Tokens so far. */
int32_t answer_tokens(const struct answer *answer);

/*
 * The next token from its logits [V], which are overwritten. *ret_done: the answer is complete and *ret_token need not be evaluated.
 * Errors: ERR_DEVICE (logits that are no numbers).
 */
int answer_next(struct answer *answer, float *logits, int32_t *ret_token, bool *ret_done, struct err *err);

/* Move text, thought and scores into a result; sets its finish. Returns the memory they lie in, to be given back by blocks_put. */
void *answer_finish(struct answer *answer, struct en_result *result);

#endif
