/*
 * vocab - vocabularies for tests: the small trained one of tests/golden/tokenizer, and made-up ones.
 *
 * Life cycle: test_vocab_read or test_vocab_bytes -> change it at will through test_vocab_add and test_vocab_merge -> hand
 * .vocab to tokenizer_create -> test_vocab_release. Failures end the test.
 */
#ifndef HERON_TESTS_SUPPORT_VOCAB_H
#define HERON_TESTS_SUPPORT_VOCAB_H

#include <stdio.h>

#include "engine/tokenizer.h"

struct test_vocab {
    struct tokenizer_vocab vocab; /* points at what is below */
    struct tokenizer_text *tokens, *merges;
    int32_t *types;
    size_t cap_tokens, cap_merges;
};

/* Vocabulary and merges of tests/golden/tokenizer; eos is <|im_end|>. The working folder is the repository's root. */
void test_vocab_read(struct test_vocab *v);

/* The 256 bytes in their stored form: id = byte. */
void test_vocab_bytes(struct test_vocab *v);

/* Append a token, or a merge; the text is copied. test_vocab_add returns its id. */
int32_t test_vocab_add(struct test_vocab *v, const char *text, size_t n_bytes, int32_t type);
void test_vocab_merge(struct test_vocab *v, const char *text, size_t n_bytes);

void test_vocab_release(struct test_vocab *v);

/* Next line of a golden file, without its newline, tabs turned into NUL: up to n_fields texts that share one buffer. False at
 * the end of the file. */
bool test_fields(FILE *file, char **line, size_t *cap, char **fields, int n_fields);

/* Undo the golden files' %XX in place; returns the bytes. */
size_t test_unescape(char *text);

#endif
