/*
 * answer - what a job says back, token by token: thinking, then free text or an object of the job's schema, and the scores of its choices.
 *
 * It says which tokens may come next, by the schema and the remaining budget; the engine hands it the most probable of those; it draws one, says which must follow whatever the model
 * thinks, collects the text, and says when the answer is complete. With a schema the object always closes: tokens that would leave too little budget to close it are masked.
 *
 * Life cycle: answer_open -> answer_mask and answer_next per token -> answer_finish (moves text and scores into a result) -> answer_close.
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
 * What the answer begins with whatever the model says: to be evaluated behind the prompt, before the first token is drawn. Once, before anything else; borrowed as those of answer_next.
 */
int answer_begin(struct answer *answer, const int32_t **ret_tokens, int32_t *ret_n, struct err *err);

/* Which tokens may come next: mask [(V + 31) / 32] is overwritten. */
void answer_mask(struct answer *answer, uint32_t *mask);

/* What the next token is drawn from. Borrowed for the call. */
struct answer_row {
    const uint32_t *mask;     /* as answer_mask left it */
    const struct kn_top *top; /* [KN_TOP_K_MAX] the most probable tokens of the mask, best first; index -1 behind the last */
    int (*logits)(void *ctx, const float **ret_logits, struct err *err); /* all of them [V], where those are too few */
    void *ctx;
};

/*
 * The next token, and those that must follow it (forced.h): to be evaluated together, and valid until the next call. *ret_done: the answer is complete, and nothing of it need be evaluated.
 * Errors: ERR_INVAL (logits that are no numbers), those of row->logits.
 */
int answer_next(struct answer *answer, const struct answer_row *row, const int32_t **ret_tokens, int32_t *ret_n, bool *ret_done,
                struct err *err);

/* Move text, thought and scores into a result; sets its finish. Returns the memory they lie in, to be given back by blocks_put. */
void *answer_finish(struct answer *answer, struct en_result *result);

#endif
