/*
 * sampler - from a row of logits to a token.
 *
 * In this order: tokens outside the mask are dropped; temperature 0 takes the most probable token (ties: the lowest id); otherwise logits are divided by the
 * temperature, the top_k most probable are kept (ties at the border: the lower ids), of these the fewest whose probabilities reach top_p, of these
 * those at least min_p times as probable as the best; one is drawn by value `counter` of the stream `seed` (base/rng.h). Sums are in double.
 *
 * Threads: a sampler belongs to one thread. Memory: all at create.
 */
#ifndef HERON_ENGINE_SAMPLER_H
#define HERON_ENGINE_SAMPLER_H

#include "engine/engine.h"
#include "kernels/kernels.h"

struct sampler;

int sampler_create(int32_t n_vocab, struct sampler **ret_sampler, struct err *err);
void sampler_free(struct sampler *sampler);

/* Whether the parameters can be: ERR_INVAL with words. */
int sampler_check(const struct en_sampling *sampling, struct err *err);

/*
 * logits [V], not changed; mask [(V + 31) / 32] of allowed tokens, or NULL for all. Errors: ERR_INVAL where no allowed token has a logit that is a number
 * (minus infinity counts as one, but is never drawn beside others).
 */
int sampler_pick(struct sampler *sampler, const struct en_sampling *sampling, uint64_t counter, const float *logits,
                 const uint32_t *mask, int32_t *ret_token, struct err *err);

/*
 * The same of the n most probable allowed tokens alone, best first as kn_top_k leaves them: where they are all that are allowed, or sampler_is_enough says so.
 */
int sampler_pick_top(struct sampler *sampler, const struct en_sampling *sampling, uint64_t counter, const struct kn_top *top,
                     int32_t n, int32_t *ret_token, struct err *err);
bool sampler_is_enough(const struct en_sampling *sampling, int32_t n);

#endif
