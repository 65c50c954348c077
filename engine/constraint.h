/*
 * constraint - where an answer stands in its schema: which bytes may come next, which tokens, and how many it takes to close.
 *
 * A byte-level pushdown automaton over the schema's tree. A state is a small struct that is copied freely; the walk over the vocabulary's trie keeps one per
 * depth. Token budget: a token is allowed only if the object can still be closed with the tokens that remain behind it. The way to close is fixed by the
 * state alone (constraint_close_byte), and cut into tokens greedily from the left; since what remains behind its first token is again the way to close from
 * there, one allowed token always exists, and the last token closes the object: by induction no generation gets stuck or ends open.
 *
 * Choices (enum, const, boolean): a token may enter a choice from before it only by the bytes that all alternatives share, so that every decision is made by
 * the logits of one step, and its probability can be read (struct verdict).
 *
 * Threads: a struct constraint belongs to one thread; vocab and schema are immutable and shared. Memory: constraint_vocab_create allocates; nothing else does.
 */
#ifndef HERON_ENGINE_CONSTRAINT_H
#define HERON_ENGINE_CONSTRAINT_H

#include "engine/schema.h"
#include "engine/token_trie.h"

/* One open value. */
struct constraint_frame {
    int16_t node;
    uint8_t phase;
    uint8_t flags;
    int32_t count; /* items so far; code points so far; digits so far; matched bytes of a key or literal */
    int64_t value; /* integer: magnitude so far; object: next property | candidate << 32; literal: candidate */
};

/* An answer so far. Zeroed by constraint_init; copy it to try something. */
struct constraint {
    const struct en_schema *schema;
    int8_t depth; /* open values; 0: finished */
    bool is_done;
    bool entered;      /* a choice was decided by a token that began before it: see constraint_mark */
    bool is_at_mark;   /* no byte since constraint_mark */
    int8_t mark_depth; /* lowest depth since constraint_mark */
    struct constraint_frame frames[SCHEMA_DEPTH_MAX + 1];
};

void constraint_init(struct constraint *c, const struct en_schema *schema);

/* A token begins here: `entered` tells from now on whether it decides a choice that was not open yet. */
void constraint_mark(struct constraint *c);

/* dst becomes src; cheaper than assignment, since only open frames are copied. */
void constraint_copy(struct constraint *dst, const struct constraint *src);

/* Take one byte. False: not allowed; the state is then undefined. */
bool constraint_advance(struct constraint *c, uint8_t byte);

/* The value is complete: nothing can follow. Root numbers are never complete by themselves: see constraint_can_end. */
static inline bool constraint_is_done(const struct constraint *c)
{
    return c->is_done;
}

/* The text so far is a whole instance, though more may follow. */
bool constraint_can_end(const struct constraint *c);

/* The next byte on the way to close; -1: it is closed (or can end) here. */
int constraint_close_byte(const struct constraint *c);

/* ---- tokens ----------------------------------------------------------------------------------------------------------------------- */

/* What is worked out once per vocabulary. */
struct constraint_vocab;

/* The trie is borrowed. n_tokens: size of masks in bits. Errors: ERR_NOMEM. */
int constraint_vocab_create(const struct token_trie *trie, int32_t n_tokens, struct constraint_vocab **ret_vocab,
                            struct err *err);
void constraint_vocab_free(struct constraint_vocab *vocab);

/* Tokens that closing takes from here; uses the vocabulary's scratch. */
int32_t constraint_close_tokens(struct constraint_vocab *vocab, const struct constraint *c);

/*
 * mask [(n_tokens + 31) / 32]: bit t set where token t may come next with `remaining` tokens left, t's own included. At least one bit is set if
 * constraint_close_tokens(c) <= remaining. Not to be called when done.
 */
void constraint_mask(struct constraint_vocab *vocab, const struct constraint *c, int32_t remaining, uint32_t *mask);

/* Take a token's bytes; false as constraint_advance. */
bool constraint_take(struct constraint *c, const char *bytes, size_t n);

/* ---- choices ---------------------------------------------------------------------------------------------------------------------- */

#define VERDICT_ALTERNATIVES_MAX 64

/*
 * Reads the probability of each alternative of a choice while it is being written. At each token whose outcome can tell alternatives apart the
 * probability mass that is left is divided by the model's probabilities, renormalised over the allowed tokens: a token that fits one alternative only gives its
 * share to that one; the share of a token that fits several stays together if the token is chosen, and is divided evenly among them if not. The result sums to 1. Choices inside arrays
 * are not read.
 */
struct verdict {
    int32_t node; /* the choice that is open; -1: none */
    double left;  /* mass not yet given to one alternative */
    double p[VERDICT_ALTERNATIVES_MAX];
};

void verdict_init(struct verdict *v);

/*
 * Before token `chosen` is taken: c is the state before it, p_of gives the probability of an allowed token (renormalised over the mask). Returns true
 * when this token completes the choice: v->p is then final for node v->node, *ret_chosen the alternative.
 */
bool verdict_observe(struct verdict *v, struct constraint_vocab *vocab, const struct constraint *c, const uint32_t *mask,
                     int32_t chosen, double (*p_of)(void *ctx, int32_t token), void *ctx,
                     const char *(*bytes_of)(void *ctx, int32_t token, size_t *ret_n), int32_t *ret_chosen);

/* The same for a token that no model was asked about, since the schema left no other: no mass is divided. */
bool verdict_force(struct verdict *v, const struct constraint *c, const char *bytes, size_t n, int32_t *ret_chosen);

#endif
