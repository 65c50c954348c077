/*
 * utf8 - reading and repairing UTF-8, strictly by RFC 3629 (no surrogates, no overlong forms, up to U+10FFFF).
 *
 * A malformed sequence is replaced by one U+FFFD for each maximal subpart, as Unicode 15 section 3.9 recommends and as
 * Python's `errors="replace"` does. Threads: pure functions. Memory: none.
 */
#ifndef HERON_BASE_UTF8_H
#define HERON_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_REPLACEMENT 0xFFFDu

/*
 * Decode one code point at s, n > 0 bytes available. *ret_cp gets it, or UTF8_REPLACEMENT where the bytes are
 * malformed. Returns the bytes consumed, at least 1.
 */
size_t utf8_decode(const char *s, size_t n, uint32_t *ret_cp);

/* Encode a code point (surrogates and values above U+10FFFF as U+FFFD) into out[4]; returns the bytes written, 1 to 4. */
size_t utf8_encode(uint32_t cp, char out[4]);

/* Whether the n bytes are well-formed UTF-8. */
bool utf8_valid(const char *s, size_t n);

/*
 * Copy with every malformed part replaced by U+FFFD. Writes at most `cap` bytes to out and never half a code point;
 * returns the bytes that the whole result needs (up to 3 * n), so that cap = 0 measures.
 */
size_t utf8_repair(const char *s, size_t n, char *out, size_t cap);

/*
 * How many bytes at the end of s are the beginning of a sequence that further bytes could complete (0 to 3): what a
 * streaming reader keeps back.
 */
size_t utf8_incomplete_tail(const char *s, size_t n);

#endif
