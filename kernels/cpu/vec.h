/*
 * vec - the inner kernels of everything but matrix products, one set per instruction set (vec_body.h, compiled like tile.h).
 *
 * Each works on one row, head or tile; the op files (norm.c, attn.c, gdn.c ...) loop and thread over them. Every kernel's reduction
 * order depends only on its own lengths.
 *
 * Threads: pure functions over the caller's memory.
 */
#ifndef HERON_KERNELS_CPU_VEC_H
#define HERON_KERNELS_CPU_VEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Rows of VEC_KEYS keys are what attention takes at a time: a KV page. */
#define VEC_KEYS 64

struct vec_kernels {
    /* y = act(acc * scale + bias), or += ; act: enum kn_act. bias may be NULL. */
    void (*finish)(const float *acc, int32_t n, float scale, const float *bias, int act, bool accumulate, float *y);
    /* y = silu(g * gs) * (u * us) */
    void (*silu_mul)(const float *g, const float *u, int32_t n, float gs, float us, float *y);
    /* y += sum * w: y[i] += w * x[i] */
    void (*axpy)(float w, const float *x, int32_t n, float *y);

    /* x += res (may be NULL); y = rms(x) * w */
    void (*rms_norm)(float *x, const float *res, const float *w, float eps, int32_t n, float *y);
    void (*layer_norm)(float *x, const float *res, const float *w, const float *b, float eps, int32_t n, float *y);
    /* y = rms(x) * w * silu(z) */
    void (*gated_rms_norm)(const float *x, const float *z, const float *w, float eps, int32_t n, float *y);
    /* y *= sigmoid(g) */
    void (*gate)(const float *g, int32_t n, float *y);
    float (*dot)(const float *a, const float *b, int32_t n);
    /* x = exp(x - max) in place; returns the sum. */
    float (*softmax_exp)(float *x, float max, int32_t n);

    /* Values of a KV row to float and back; n is a multiple of 16 (32 for Q8_0's caller). */
    void (*from_f16)(const uint16_t *x, int32_t n, float *y);
    void (*to_f16)(const float *x, int32_t n, uint16_t *y);
    void (*from_i8)(const int8_t *x, float d, int32_t n, float *y);

    /*
     * C[r][0..n) += sum over j < n_j, in order, of A[r][j] * B[j][0..n), for n_r rows. The order does not depend on n_r.
     */
    void (*mac)(const float *a, int32_t lda, int32_t n_r, int32_t n_j, const float *b, int64_t ldb, int32_t n, float *c,
                int64_t ldc);
    /* The same of A[j][r]. */
    void (*mac_across)(const float *a, int32_t lda, int32_t n_r, int32_t n_j, const float *b, int64_t ldb, int32_t n, float *c,
                       int64_t ldc);
    /* S[r][k] = scale * (Q[r] . K[k]) for n_r rows and n_k keys; d is a multiple of 16; S is written up to n_k rounded up to 16. */
    void (*scores)(const float *q, int64_t ldq, int32_t n_r, const float *k, int64_t ldk, int32_t n_k, int32_t d, float scale,
                   float *s, int32_t lds);
    /*
     * One step of a softmax over a stream of key blocks: of s[0 .. VEC_KEYS) the first n_k (>= 1) count, the rest becomes 0. Updates the
     * running maximum and sum, turns s into weights, and returns the factor for what was summed before.
     */
    float (*softmax_step)(float *s, int32_t n_k, float *max, float *sum);
    void (*scale)(float *x, float f, int32_t n);
    /* x[i] *= f * w[i] */
    void (*scale_by)(float *x, float f, const float *w, int32_t n);

    /*
     * Causal convolution of n channels over n_rows rows (stride apart), in place allowed: hist [taps - 1] rows of hist_stride floats are
     * the raw values before, oldest first, and are replaced by the last ones. y = silu(...). w [n][taps].
     */
    void (*conv)(const float *x, int64_t x_stride, int32_t n_rows, int32_t n, const float *w, int32_t taps, float *hist,
                 int64_t hist_stride, float *y, int64_t y_stride);
    /* y = x * f / sqrt(sum x^2 + eps), in place */
    void (*l2_norm)(float *x, float f, float eps, int32_t n);
    /* Read n bytes (a multiple of 256) and return something that depends on all of them: the bandwidth probe. */
    uint64_t (*read)(const void *p, size_t n);
    /*
     * Of words w .. n_words - 1 of a mask, 32 values of x each, the first with a bit set where one of its values, masked or not, is above `floor`; n_words: there is none. mask
     * NULL: all bits are set. NaN is above nothing.
     */
    int32_t (*next_above)(const float *x, const uint32_t *mask, int32_t w, int32_t n_words, float floor);
    /* y[i] = exp(a - x[i]) for i < n; n is rounded up to 16 in what is read and written */
    void (*exp_diff)(float a, const float *x, int32_t n, float *y);
};

extern const struct vec_kernels vec_scalar;
#if defined(__x86_64__)
extern const struct vec_kernels vec_avx2, vec_avx512;
#elif defined(__aarch64__)
extern const struct vec_kernels vec_neon;
#endif

#endif
