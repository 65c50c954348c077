/*
 * forced - the tokens of an answer that the schema leaves no choice about: keys, punctuation, what remains of a choice that is made. They need no pass of the model each: they join the
 * next one, as a piece of a prompt does, and where they end the answer none at all.
 *
 * Forced are the bytes behind which only one byte may come. They are cut into tokens as the tokenizer cuts them, which is how the model has learned to read them. A token at whose place
 * another one may stand that goes on beyond what is forced is left to the model, and so is all behind it: whatever is drawn there, the answer can still become every text that the schema
 * allows.
 *
 * Threads: one, that of the tokenizer's cache. Memory: taken when it is made; nothing is allocated afterwards.
 */
#ifndef HERON_ENGINE_FORCED_H
#define HERON_ENGINE_FORCED_H

#include "engine/constraint.h"
#include "engine/tokenizer.h"

#define FORCED_MAX 64 /* tokens at a time; what is forced behind them comes next time */

struct forced;

/* All is borrowed for its life. Errors: ERR_NOMEM. */
int forced_create(const struct tokenizer *tokenizer, struct tokenizer_cache *cache, struct constraint_vocab *vocab,
                  struct forced **ret_forced, struct err *err);
void forced_free(struct forced *forced); /* takes NULL */

/*
 * What comes next in state c, with `remaining` tokens left for the answer: ret_ids[FORCED_MAX]. Returns their number; 0 where the next token is to be drawn, or where these would leave too
 * few to close the object. Not to be called when done.
 */
int32_t forced_next(struct forced *forced, const struct constraint *c, int32_t remaining, int32_t *ret_ids);

#endif
