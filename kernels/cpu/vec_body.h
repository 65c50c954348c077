/* vec_body - the kernels of vec.h, written once on lanes.h; each vec_<isa>.c includes it under its own flags. */
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/vec.h"
#include "kernels/kernels.h"

/* Tiles by the number of vector registers: rows x vectors of accumulators. */
#if defined(__AVX512F__)
#define MAC_ROWS      4
#define MAC_VECS      4
#define MAC_FEW_VECS  8 /* for one or two rows */
#define MAC_MANY_ROWS 8
#define MAC_MANY_VECS 2
#define SCORE_ROWS    4
#define SCORE_KEYS    16
#else
#define MAC_ROWS      2
#define MAC_VECS      2
#define MAC_FEW_VECS  2
#define MAC_MANY_ROWS 2
#define MAC_MANY_VECS 2
#define SCORE_ROWS    1
#define SCORE_KEYS    4
#endif

/* ---- elementwise ---- */

/* `body` computes lane values from index i with loads LD(p) and one store ST(p, v); the tail runs the same code under a mask. */
#define LD(p)         (m == 16 ? v_load((p) + i) : v_load_n((p) + i, m))
#define ST(p, v)      (m == 16 ? v_store((p) + i, (v)) : v_store_n((p) + i, (v), m))
#define EACH_LANES(n) for (int32_t i = 0, m = 16; i < (n) && (m = (n)-i < 16 ? (n)-i : 16); i += 16)

static v16 gelu_erf(v16 u)
{
    float t[16];
    v_store(t, u);
    for (int l = 0; l < 16; l++)
        t[l] = 0.5f * t[l] * (1.0f + erff(t[l] * 0.70710678f));
    return v_load(t);
}

INL void finish_as(const float *acc, int32_t n, float scale, const float *bias, const int act, const bool accumulate, float *y)
{
    v16 f = v_set1(scale);
    EACH_LANES(n)
    {
        v16 v = v_mul(LD(acc), f);
        if (bias)
            v = v_add(v, LD(bias));
        if (act == KN_ACT_GELU_TANH)
            v = v_gelu_tanh(v);
        else if (act == KN_ACT_GELU_ERF)
            v = gelu_erf(v);
        if (accumulate)
            v = v_add(LD(y), v);
        ST(y, v);
    }
}

/* What needs a frame on the stack stands apart: most outputs need none. */
static __attribute__((noinline)) void finish_erf(const float *acc, int32_t n, float scale, const float *bias, bool accumulate,
                                                 float *y)
{
    finish_as(acc, n, scale, bias, KN_ACT_GELU_ERF, accumulate, y);
}

static void finish(const float *acc, int32_t n, float scale, const float *bias, int act, bool accumulate, float *y)
{
    if (act == KN_ACT_GELU_ERF)
        finish_erf(acc, n, scale, bias, accumulate, y);
    else if (act == KN_ACT_GELU_TANH)
        finish_as(acc, n, scale, bias, KN_ACT_GELU_TANH, accumulate, y);
    else if (accumulate)
        finish_as(acc, n, scale, bias, KN_ACT_NONE, true, y);
    else
        finish_as(acc, n, scale, bias, KN_ACT_NONE, false, y);
}

static void silu_mul(const float *g, const float *u, int32_t n, float gs, float us, float *y)
{
    v16 fg = v_set1(gs), fu = v_set1(us);
    EACH_LANES(n)
    ST(y, v_mul(v_silu(v_mul(LD(g), fg)), v_mul(LD(u), fu)));
}

static void axpy(float w, const float *x, int32_t n, float *y)
{
    v16 f = v_set1(w);
    EACH_LANES(n)
    ST(y, v_fma(f, LD(x), LD(y)));
}

static void scale(float *x, float f, int32_t n)
{
    v16 v = v_set1(f);
    EACH_LANES(n)
    ST(x, v_mul(LD(x), v));
}

static void gate(const float *g, int32_t n, float *y)
{
    EACH_LANES(n)
    ST(y, v_mul(LD(y), v_sigmoid(LD(g))));
}

/* ---- norms ---- */

static float dot(const float *a, const float *b, int32_t n)
{
    v16 s = v_zero();
    EACH_LANES(n)
    s = v_fma(LD(a), LD(b), s);
    return v_sum(s);
}

static void rms_norm(float *x, const float *res, const float *w, float eps, int32_t n, float *y)
{
    v16 s = v_zero();
    EACH_LANES(n)
    {
        v16 v = LD(x);
        if (res) {
            v = v_add(v, LD(res));
            ST(x, v);
        }
        s = v_fma(v, v, s);
    }
    v16 f = v_set1(1.0f / sqrtf(v_sum(s) / (float)n + eps));
    EACH_LANES(n)
    ST(y, v_mul(v_mul(LD(x), f), LD(w)));
}

static void layer_norm(float *x, const float *res, const float *w, const float *b, float eps, int32_t n, float *y)
{
    v16 s = v_zero();
    EACH_LANES(n)
    {
        v16 v = LD(x);
        if (res) {
            v = v_add(v, LD(res));
            ST(x, v);
        }
        s = v_add(s, v);
    }
    float mean = v_sum(s) / (float)n;
    v16 mu = v_set1(mean);
    s = v_zero();
    EACH_LANES(n)
    {
        v16 v = v_sub(LD(x), mu);
        if (m < 16) { /* lanes past the end are not deviations */
            float t[16] = {0};
            v_store_n(t, v, m);
            v = v_load(t);
        }
        s = v_fma(v, v, s);
    }
    v16 f = v_set1(1.0f / sqrtf(v_sum(s) / (float)n + eps));
    EACH_LANES(n)
    {
        v16 v = v_mul(v_mul(v_sub(LD(x), mu), f), LD(w));
        if (b)
            v = v_add(v, LD(b));
        ST(y, v);
    }
}

static void gated_rms_norm(const float *x, const float *z, const float *w, float eps, int32_t n, float *y)
{
    v16 f = v_set1(1.0f / sqrtf(dot(x, x, n) / (float)n + eps));
    EACH_LANES(n)
    ST(y, v_mul(v_mul(v_mul(LD(x), f), LD(w)), v_silu(LD(z))));
}

static void l2_norm(float *x, float f, float eps, int32_t n)
{
    scale(x, f / sqrtf(dot(x, x, n) + eps), n);
}

static float softmax_exp(float *x, float max, int32_t n)
{
    v16 s = v_zero(), mx = v_set1(max);
    EACH_LANES(n)
    {
        v16 e = v_exp(v_sub(LD(x), mx));
        ST(x, e);
        s = v_add(s, m == 16 ? e : v_load_n(x + i, m));
    }
    return v_sum(s);
}

/* ---- conversions ---- */

static void from_f16(const uint16_t *x, int32_t n, float *y)
{
    for (int32_t i = 0; i < n; i += 16)
        v_store(y + i, v_load_f16(x + i));
}

static void to_f16(const float *x, int32_t n, uint16_t *y)
{
    for (int32_t i = 0; i < n; i += 16)
        v_store_f16(y + i, v_load(x + i));
}

static void from_i8(const int8_t *x, float d, int32_t n, float *y)
{
    v16 f = v_set1(d);
    for (int32_t i = 0; i < n; i += 16)
        v_store(y + i, v_mul(v_load_i8(x + i), f));
}

/* ---- small products ---- */

/* A is [r][j], or `across` [j][r]. */
INL int64_t mac_place(const bool across, int32_t lda, int32_t r, int32_t j)
{
    return across ? (int64_t)j * lda + r : (int64_t)r * lda + j;
}

INL void mac_tile(const bool across, const float *a, int32_t lda, const int n_r, int32_t n_j, const float *b, int64_t ldb,
                  const int n_v, float *c, int64_t ldc)
{
    v16 s[MAC_ROWS * MAC_VECS];
    UNROLL for (int r = 0; r < n_r; r++) UNROLL for (int v = 0; v < n_v; v++) s[r * n_v + v] = v_load(c + r * ldc + 16 * v);
    for (int32_t j = 0; j < n_j; j++) {
        v16 w[MAC_VECS];
        UNROLL for (int v = 0; v < n_v; v++) w[v] = v_load(b + j * ldb + 16 * v);
        UNROLL for (int r = 0; r < n_r; r++)
        {
            v16 f = v_set1(a[mac_place(across, lda, r, j)]);
            UNROLL for (int v = 0; v < n_v; v++) s[r * n_v + v] = v_fma(f, w[v], s[r * n_v + v]);
        }
    }
    UNROLL for (int r = 0; r < n_r; r++) UNROLL for (int v = 0; v < n_v; v++) v_store(c + r * ldc + 16 * v, s[r * n_v + v]);
}

/* One or two rows: B is read once, which takes longer than the rest, so all columns of a stretch go along and the rows of B to come are asked for. */
#define MAC_AHEAD 8
INL void mac_few(const bool across, const float *a, int32_t lda, const int n_r, int32_t n_j, const float *b, int64_t ldb,
                 float *c, int64_t ldc)
{
    v16 s[2 * MAC_FEW_VECS];
    UNROLL for (int r = 0; r < n_r; r++) UNROLL for (int v = 0; v < MAC_FEW_VECS; v++) s[r * MAC_FEW_VECS + v] =
        v_load(c + r * ldc + 16 * v);
    for (int32_t j = 0; j < n_j; j++) {
        v16 f[2];
        UNROLL for (int r = 0; r < n_r; r++) f[r] = v_set1(a[mac_place(across, lda, r, j)]);
        UNROLL for (int v = 0; v < MAC_FEW_VECS; v++)
        {
            const v16 w = v_load(b + j * ldb + 16 * v);
            lanes_prefetch(b + (j + MAC_AHEAD) * ldb + 16 * v);
            UNROLL for (int r = 0; r < n_r; r++) s[r * MAC_FEW_VECS + v] = v_fma(f[r], w, s[r * MAC_FEW_VECS + v]);
        }
    }
    UNROLL for (int r = 0; r < n_r; r++) UNROLL for (int v = 0; v < MAC_FEW_VECS; v++)
        v_store(c + r * ldc + 16 * v, s[r * MAC_FEW_VECS + v]);
}

/* The last n < 16 columns. */
INL void mac_tail(const bool across, const float *a, int32_t lda, int32_t n_r, int32_t n_j, const float *b, int64_t ldb, int n,
                  float *c, int64_t ldc)
{
    for (int32_t r = 0; r < n_r; r++) {
        v16 s = v_load_n(c + r * ldc, n);
        for (int32_t j = 0; j < n_j; j++)
            s = v_fma(v_set1(a[mac_place(across, lda, r, j)]), v_load_n(b + j * ldb, n), s);
        v_store_n(c + r * ldc, s, n);
    }
}

INL void mac_any(const bool across, const float *a, int32_t lda, int32_t n_r, int32_t n_j, const float *b, int64_t ldb,
                 int32_t n, float *c, int64_t ldc)
{
    const int64_t step = across ? 1 : lda;
    int32_t i = 0;
    for (; n_r <= 2 && i + 16 * MAC_FEW_VECS <= n; i += 16 * MAC_FEW_VECS) {
        if (n_r == 2)
            mac_few(across, a, lda, 2, n_j, b + i, ldb, c + i, ldc);
        else
            mac_few(across, a, lda, 1, n_j, b + i, ldb, c + i, ldc);
    }
    /* many rows: B comes from the second cache, so it is read as seldom as the registers allow */
    for (; n_r >= MAC_MANY_ROWS && i + 16 * MAC_MANY_VECS <= n; i += 16 * MAC_MANY_VECS) {
        int32_t r = 0;
        for (; r + MAC_MANY_ROWS <= n_r; r += MAC_MANY_ROWS)
            mac_tile(across, a + r * step, lda, MAC_MANY_ROWS, n_j, b + i, ldb, MAC_MANY_VECS, c + r * ldc + i, ldc);
        for (; r < n_r; r++)
            mac_tile(across, a + r * step, lda, 1, n_j, b + i, ldb, MAC_MANY_VECS, c + r * ldc + i, ldc);
    }
    for (; i + 16 * MAC_VECS <= n; i += 16 * MAC_VECS) {
        int32_t r = 0;
        for (; r + MAC_ROWS <= n_r; r += MAC_ROWS)
            mac_tile(across, a + r * step, lda, MAC_ROWS, n_j, b + i, ldb, MAC_VECS, c + r * ldc + i, ldc);
        for (; r + 2 <= n_r; r += 2)
            mac_tile(across, a + r * step, lda, 2, n_j, b + i, ldb, MAC_VECS, c + r * ldc + i, ldc);
        for (; r < n_r; r++)
            mac_tile(across, a + r * step, lda, 1, n_j, b + i, ldb, MAC_VECS, c + r * ldc + i, ldc);
    }
    for (; i + 16 <= n; i += 16) {
        int32_t r = 0;
        for (; r + MAC_ROWS <= n_r; r += MAC_ROWS)
            mac_tile(across, a + r * step, lda, MAC_ROWS, n_j, b + i, ldb, 1, c + r * ldc + i, ldc);
        for (; r < n_r; r++)
            mac_tile(across, a + r * step, lda, 1, n_j, b + i, ldb, 1, c + r * ldc + i, ldc);
    }
    if (i < n)
        mac_tail(across, a, lda, n_r, n_j, b + i, ldb, n - i, c + i, ldc);
}

static void mac(const float *a, int32_t lda, int32_t n_r, int32_t n_j, const float *b, int64_t ldb, int32_t n, float *c,
                int64_t ldc)
{
    mac_any(false, a, lda, n_r, n_j, b, ldb, n, c, ldc);
}

static void mac_across(const float *a, int32_t lda, int32_t n_r, int32_t n_j, const float *b, int64_t ldb, int32_t n, float *c,
                       int64_t ldc)
{
    mac_any(true, a, lda, n_r, n_j, b, ldb, n, c, ldc);
}

/* Sixteen dot products: n_r rows times 16 / n_r keys, at most SCORE_KEYS of them at a time. */
INL void score_tile(const float *q, int64_t ldq, const int n_r, const float *k, int64_t ldk, int32_t d, float f, float *s,
                    int32_t lds)
{
    v16 c[16];
    const int n_k = 16 / n_r, n_j = n_k < SCORE_KEYS ? n_k : SCORE_KEYS;
    UNROLL for (int j0 = 0; j0 < n_k; j0 += n_j)
    {
        v16 s16[16];
        UNROLL for (int i = 0; i < n_r * n_j; i++) s16[i] = v_zero();
        for (int32_t x = 0; x < d; x += 16) {
            v16 qv[SCORE_ROWS];
            UNROLL for (int r = 0; r < n_r; r++) qv[r] = v_load(q + r * ldq + x);
            UNROLL for (int j = 0; j < n_j; j++)
            {
                v16 kv = v_load(k + (j0 + j) * ldk + x);
                UNROLL for (int r = 0; r < n_r; r++) s16[r * n_j + j] = v_fma(qv[r], kv, s16[r * n_j + j]);
            }
        }
        UNROLL for (int i = 0; i < n_r * n_j; i++) c[i / n_j * n_k + j0 + i % n_j] = s16[i];
    }
    float t[16];
    v_store(t, v_mul(v_sum16(c), v_set1(f)));
    for (int r = 0; r < n_r; r++)
        memcpy(s + r * lds, t + r * n_k, sizeof(float) * (size_t)n_k);
}

static void scores(const float *q, int64_t ldq, int32_t n_r, const float *k, int64_t ldk, int32_t n_k, int32_t d, float f,
                   float *s, int32_t lds)
{
    int32_t r = 0;
    for (; SCORE_ROWS > 1 && r + SCORE_ROWS <= n_r; r += SCORE_ROWS)
        for (int32_t j = 0; j < n_k; j += 16 / SCORE_ROWS)
            score_tile(q + r * ldq, ldq, SCORE_ROWS, k + j * ldk, ldk, d, f, s + r * lds + j, lds);
    for (; r < n_r; r++)
        for (int32_t j = 0; j < n_k; j += 16)
            score_tile(q + r * ldq, ldq, 1, k + j * ldk, ldk, d, f, s + r * lds + j, lds);
}

static float softmax_step(float *s, int32_t n_k, float *max, float *sum)
{
    for (int32_t i = n_k; i < VEC_KEYS; i++)
        s[i] = -INFINITY;
    v16 v[VEC_KEYS / 16], t = v_zero();
    UNROLL for (int i = 0; i < VEC_KEYS / 16; i++) v[i] = v_load(s + 16 * i);
    float top = v_hmax(v_max(v_max(v[0], v[1]), v_max(v[2], v[3])));
    float now = top > *max ? top : *max;
    UNROLL for (int i = 0; i < VEC_KEYS / 16; i++)
    {
        v16 e = v_exp(v_sub(v[i], v_set1(now)));
        v_store(s + 16 * i, e);
        t = v_add(t, e);
    }
    float factor = *max == -INFINITY ? 0.0f : expf(*max - now);
    *sum = *sum * factor + v_sum(t);
    *max = now;
    return factor;
}

static void scale_by(float *x, float f, const float *w, int32_t n)
{
    EACH_LANES(n)
    {
        ST(x, v_mul(LD(x), v_mul(v_set1(f), LD(w))));
    }
}

static void exp_diff(float a, const float *x, int32_t n, float *y)
{
    for (int32_t i = 0; i < n; i += 16)
        v_store(y + i, v_exp(v_sub(v_set1(a), v_load(x + i))));
}

static int32_t next_above(const float *x, const uint32_t *mask, int32_t w, int32_t n_words, float floor)
{
    const v16 f = v_set1(floor), one = v_set1(1), none = v_zero();
    for (; w < n_words; w++) {
        if (mask && mask[w] == 0)
            continue;
        const float *here = x + (int64_t)32 * w;
        const v16 is_above = v_max(v_select_lt(f, v_load(here), one, none), v_select_lt(f, v_load(here + 16), one, none));
        if (v_hmax(is_above) > 0)
            return w;
    }
    return n_words;
}

/* ---- convolution ---- */

/* At most CONV_STRIP channels of 4 taps, row by row: rows lie pages apart, so those to come are asked for. */
#define CONV_STRIP 128
#define CONV_AHEAD 6
static void conv4(const float *x, int64_t x_stride, int32_t n_rows, int32_t n, const float *w, float *hist, int64_t hist_stride,
                  float *y, int64_t y_stride)
{
    float taps[4][CONV_STRIP];
    EACH_LANES(n)
    {
        float wt[64] = {0};
        v16 k[4];
        memcpy(wt, w + 4 * i, sizeof(float) * 4 * (size_t)m);
        v_load4(wt, k);
        for (int j = 0; j < 4; j++)
            v_store(taps[j] + i, k[j]);
    }
    for (int32_t t = 0; t < n_rows; t++, x += x_stride, y += y_stride) {
        for (int32_t i = 0; i < n; i += 16)
            lanes_prefetch(x + CONV_AHEAD * x_stride + i);
        EACH_LANES(n)
        {
            v16 a = LD(hist), b = LD(hist + hist_stride), c = LD(hist + 2 * hist_stride), v = LD(x);
            v16 u = v_fma(v_load(taps[3] + i), v,
                          v_fma(v_load(taps[2] + i), c, v_fma(v_load(taps[1] + i), b, v_mul(v_load(taps[0] + i), a))));
            ST(y, v_silu(u));
            ST(hist, b);
            ST(hist + hist_stride, c);
            ST(hist + 2 * hist_stride, v);
        }
    }
}

/* Any number of taps, channel by channel; no published model has other than 4. */
static void conv_any(const float *x, int64_t x_stride, int32_t n_rows, const float *w, int32_t taps, float *hist,
                     int64_t hist_stride, float *y, int64_t y_stride)
{
    for (int32_t t = 0; t < n_rows; t++) {
        float v = x[t * x_stride], u = 0.0f;
        for (int32_t j = 0; j < taps - 1; j++)
            u += w[j] * hist[j * hist_stride];
        u += w[taps - 1] * v;
        for (int32_t j = 0; j + 2 < taps; j++)
            hist[j * hist_stride] = hist[(j + 1) * hist_stride];
        if (taps > 1)
            hist[(taps - 2) * hist_stride] = v;
        y[t * y_stride] = u / (1.0f + expf(-u));
    }
}

static void conv(const float *x, int64_t x_stride, int32_t n_rows, int32_t n, const float *w, int32_t taps, float *hist,
                 int64_t hist_stride, float *y, int64_t y_stride)
{
    if (taps != 4) {
        for (int32_t i = 0; i < n; i++)
            conv_any(x + i, x_stride, n_rows, w + (int64_t)i * taps, taps, hist + i, hist_stride, y + i, y_stride);
        return;
    }
    for (int32_t i = 0; i < n; i += CONV_STRIP)
        conv4(x + i, x_stride, n_rows, n - i < CONV_STRIP ? n - i : CONV_STRIP, w + 4 * (int64_t)i, hist + i, hist_stride,
              y + i, y_stride);
}

/* ---- the probe ---- */

static uint64_t read_bytes(const void *p, size_t n)
{
    b64 s[4] = {b_set1(0), b_set1(0), b_set1(0), b_set1(0)};
    const uint8_t *from = p;
    for (size_t i = 0; i < n; i += 256)
        UNROLL for (int j = 0; j < 4; j++) s[j] = b_or(s[j], b_load(from + i + 64 * (size_t)j));
    uint64_t t[8], x = 0;
    b_store(t, b_or(b_or(s[0], s[1]), b_or(s[2], s[3])));
    for (int i = 0; i < 8; i++)
        x ^= t[i];
    return x;
}

const struct vec_kernels LANES_NAME(vec) = {
    .read = read_bytes,
    .finish = finish,
    .silu_mul = silu_mul,
    .axpy = axpy,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .gated_rms_norm = gated_rms_norm,
    .gate = gate,
    .dot = dot,
    .softmax_exp = softmax_exp,
    .from_f16 = from_f16,
    .to_f16 = to_f16,
    .from_i8 = from_i8,
    .mac = mac,
    .mac_across = mac_across,
    .scale_by = scale_by,
    .scores = scores,
    .softmax_step = softmax_step,
    .scale = scale,
    .conv = conv,
    .l2_norm = l2_norm,
    .exp_diff = exp_diff,
    .next_above = next_above,
};
