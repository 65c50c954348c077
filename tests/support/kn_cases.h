/*
 * kn_cases - one case on every device that this machine has, and what it computes there against the reference.
 *
 * With HERON_TEST_DEVICE=cuda in the environment all tests are of the CUDA device and of no other: on a GPU, or where HERON_CUDA_MODULE names the module whose kernels run on the host
 * (tests/cuda/shim.hpp). Failures end the cmocka test.
 */
#ifndef HERON_TESTS_SUPPORT_KN_CASES_H
#define HERON_TESTS_SUPPORT_KN_CASES_H

#include "tests/support/kn_rig.h"

/* Read the environment; what levels this processor does not run is printed. Call first in main. */
void kn_cases_begin(void);

/*
 * Where an interpreter runs this program (make test-arm) the whole takes minutes: with HERON_TEST_FEW in the environment every op and type is still tried, at the chosen level and, where
 * that is another, at "neon", but not in its largest shapes.
 */
extern bool kn_cases_few;
extern bool kn_cases_cuda;

/* Devices and levels to try, and whether number d can be tried here: then the rig is open. */
extern const size_t kn_n_cases;
bool kn_case_open(size_t d, struct kn_rig *r);

/* A case runs an op with args made from `shape` and the fixed seeds, and adds what it wrote to `out`. */
typedef void (*kn_case_fn)(struct kn_rig *r, const int *shape, struct kn_output *out);

#define KN_SHAPE_MAX 8
#define KN_N_TYPES   17
extern const enum kn_dtype kn_types[KN_N_TYPES];

/*
 * Limits of the normalised mean squared error. float32 arithmetic against double: rounding of 2^-24 per operation, some tens of operations deep.
 * Products of quantised weights round the activations to int8, by 32 values or by 256 as the weight's blocks are (kernels/cpu/tile.h): noise of (max/127)^2/12 per value, 2e-5 of the
 * variance of normal data (the largest of 32 is about 2.2 standard deviations), 5e-5 where 256 share a scale (3.1). The few outputs of the smallest shapes stray by two to three
 * times that. F16 and BF16 weights are exact in f32.
 */
#define KN_LIMIT_F32  1e-11
#define KN_LIMIT_INT8 6e-5
#define KN_LIMIT_LONG 1.5e-4
#define KN_LIMIT_BF16 5e-6 /* both factors rounded by up to 2^-9: a third of that squared for each */
#define KN_LIMIT_HALVES                                                                                                        \
    4e-7 /* CUDA: both factors and an offset rounded to 11 bits: 2e-8 for each on the mean, of few outputs some times that */

double kn_limit_of(enum kn_dtype type);

/* What the case computes on each device is the reference's, up to `limit`. */
void kn_compare(const char *name, kn_case_fn fn, const int *shape, double limit);

/* Two ways of computing the same on one device: equal to the bit. Also for the reference. */
void kn_same_bits(const char *name, kn_case_fn one, kn_case_fn other, const int *shape);

#endif
