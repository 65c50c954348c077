/*
 * vocab - from a GGUF's tokenizer keys to a tokenizer. Source: MODEL.md section 6.
 *
 * Threads: any. Memory: the tokenizer is the caller's (tokenizer_free); the file may be closed at once.
 */
#ifndef HERON_ENGINE_VOCAB_H
#define HERON_ENGINE_VOCAB_H

#include "engine/gguf.h"
#include "engine/tokenizer.h"

/*
 * The tokenizer of a text model. Errors: ERR_UNSUPPORTED (tokenizer.ggml.model is not "gpt2", or tokenizer.ggml.pre not "qwen35";
 * both are named), ERR_FORMAT (a key is missing or lists disagree), and what tokenizer_create says.
 */
int vocab_read(const struct gguf *g, struct tokenizer **ret_tokenizer, struct err *err);

/* The vocabulary of models without a file (engine/synthetic.h). Errors: ERR_INVAL (too few tokens), ERR_NOMEM. */
int vocab_synthetic(int32_t n_vocab, struct tokenizer **ret_tokenizer, struct err *err);

#endif
