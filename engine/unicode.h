/*
 * unicode - what the tokenizer needs to know of code points: their class, and the text in NFC.
 *
 * The properties are pinned (engine/unicode_tables.h) to what the official tokenizer's engines think, so that ids do not
 * depend on the distribution's Unicode version; the composing itself is done by utf8proc, whose home file is unicode.c, and it
 * is shown only code points that were assigned before Unicode 14, whose normalisation is fixed for ever.
 *
 * Life cycle: the classes are pure functions. A unicode_scratch is zeroed by its owner, used for any number of texts, released.
 * Threads: a scratch belongs to one thread at a time. Memory: a scratch keeps its largest size until released.
 */
#ifndef HERON_ENGINE_UNICODE_H
#define HERON_ENGINE_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum unicode_class {
    UNICODE_OTHER,  /* symbols, punctuation, joiners, controls, unassigned */
    UNICODE_LETTER, /* L: Lu Ll Lt Lm Lo */
    UNICODE_MARK,   /* M: Mn Mc Me */
    UNICODE_NUMBER, /* N: Nd Nl No */
    UNICODE_SPACE,  /* White_Space: U+0009-000D, 0020, 0085, 00A0, 1680, 2000-200A, 2028, 2029, 202F, 205F, 3000 */
};

/* The class of a code point; values above U+10FFFF are UNICODE_OTHER. Any thread. */
enum unicode_class unicode_class_of(uint32_t cp);

/* What a chat template's `trim` removes: UNICODE_SPACE and the separators U+001C to U+001F (Python's str.strip). */
bool unicode_is_trimmed(uint32_t cp);

/* Working memory of unicode_normalize. */
struct unicode_scratch {
    char *text;
    size_t n_text, cap_text;
    uint32_t *segment; /* a starter and what may combine with it */
    size_t n_segment, cap_segment;
    int32_t *work; /* the segment taken apart */
    size_t cap_work;
};

void unicode_scratch_release(struct unicode_scratch *scratch);

/*
 * Text in normalisation form C, malformed UTF-8 replaced by U+FFFD first (base/utf8.h).
 *
 * *ret_text is `text` itself where nothing has to change, otherwise the scratch's, until its next use.
 * Cost: linear, also for hostile texts. Errors: ERR_NOMEM. Source: Unicode Standard Annex 15.
 */
int unicode_normalize(struct unicode_scratch *scratch, const char *text, size_t n_bytes, const char **ret_text,
                      size_t *ret_n_bytes, struct err *err);

#endif
