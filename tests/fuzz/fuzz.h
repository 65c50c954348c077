/*
 * fuzz - what every fuzzer includes: its entry, and a check that ends the program with its place, so that the fuzzer keeps the input.
 */
#ifndef HERON_TESTS_FUZZ_FUZZ_H
#define HERON_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* data is borrowed for the call. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(x)                                                                                                             \
    do {                                                                                                                       \
        if (!(x)) {                                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                                            \
            abort();                                                                                                           \
        }                                                                                                                      \
    } while (0)

#endif
