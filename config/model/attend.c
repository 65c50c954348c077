/*
 * attend - softmax attention of whole pictures in bfloat16, there and back, for the training of the shipped model's tower on a CPU with AMX (Intel SDM,
 * volume 1, chapter 18). The scores of a block of rows never leave the cache (Dao, FlashAttention-2, 2023, algorithms 1 and 2); torch's own way writes all of
 * them to memory several times.
 *
 * Arrays are bfloat16 [B, N, H, D], D = 32, contiguous but that q, k, v may lie further apart from patch to patch; lse is float [B, H, N]. With c = log2(e) / sqrt(D):
 *
 *   s = c q k^T   lse = log2 of the sum of 2^s over keys   p = 2^(s - lse)   o = p v
 *   gp = go v^T   gs = p (gp - the sum of go o over D)   gv = p^T go   gq = gs k / sqrt(D)   gk = gs^T q / sqrt(D)
 *
 * The way back takes 32 keys at a time, all queries beside each other, so that p^T and gs^T come out the way the products need them.
 *
 * No part of the program: attend.py compiles it for the machine at hand and compares it with torch. Threads: one per picture and head (OpenMP).
 */
#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define D       32
#define BLOCK   32   /* rows at a time: two tiles */
#define LONGEST 1024 /* patches of a picture */
#define LANES   16
#define TILE    16 /* rows of a tile */

typedef uint16_t bf16;

/*
 * Right factors of a product, [K, N], are kept as AMX wants them: [K / 2][N][2]. `rows` of x [N, D]: x as right factor with K = N; `columns`: x^T, K = D.
 */
struct scratch {
    _Alignas(64) float s[BLOCK * LONGEST], gp[BLOCK * LONGEST], gq[D * LONGEST], block[BLOCK * BLOCK];
    _Alignas(64) bf16 p[BLOCK * LONGEST], gs[BLOCK * LONGEST], gs_rows[BLOCK * LONGEST], k_turned[D * LONGEST];
    _Alignas(64) bf16 rows_a[LONGEST * D], rows_b[LONGEST * D], columns_a[LONGEST * D], columns_b[LONGEST * D];
    _Alignas(64) bf16 padded[2][LONGEST * D];
    _Alignas(64) float lse[LONGEST], spent[LONGEST];
};

/* Asks the system for the tiles, once for the whole process. 0: granted. */
int attend_open(void)
{
    enum { REQUEST = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA */
    return (int)syscall(SYS_arch_prctl, REQUEST, TILE_DATA);
}

static void configure(void)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.bytes[i] = 64;
        c.rows[i] = TILE;
    }
    _tile_loadconfig(&c);
}

static struct scratch *scratch_new(void)
{
    struct scratch *s = aligned_alloc(64, sizeof *s);
    if (s == NULL)
        abort();
    configure();
    return s;
}

static void scratch_free(struct scratch *s)
{
    _tile_release();
    free(s);
}

/* c [32, 32] = (is_sum: c +) a [32, 32 steps] b [32 steps, 32]; *_row: elements from row to row, of b from pair of rows to pair of rows. */
static inline void product(float *c, size_t c_row, const bf16 *a, size_t a_row, const bf16 *b, size_t b_row, int steps,
                           int is_sum)
{
    if (is_sum) {
        _tile_loadd(0, c, 4 * c_row);
        _tile_loadd(1, c + 16, 4 * c_row);
        _tile_loadd(2, c + TILE * c_row, 4 * c_row);
        _tile_loadd(3, c + TILE * c_row + 16, 4 * c_row);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int i = 0; i < steps; i++) {
        _tile_loadd(4, a + 32 * i, 2 * a_row);
        _tile_loadd(5, a + 32 * i + TILE * a_row, 2 * a_row);
        _tile_loadd(6, b + 16 * b_row * (size_t)i, 2 * b_row);
        _tile_loadd(7, b + 16 * b_row * (size_t)i + 32, 2 * b_row);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, 4 * c_row);
    _tile_stored(1, c + 16, 4 * c_row);
    _tile_stored(2, c + TILE * c_row, 4 * c_row);
    _tile_stored(3, c + TILE * c_row + 16, 4 * c_row);
}

static inline __m256i narrow(__m512 x)
{
    return (__m256i)_mm512_cvtneps_pbh(x);
}

static inline __m512 widen(const bf16 *x)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)x)), 16));
}

/* 2^x for x <= 0 that is a number: the whole part into the exponent, the rest by its series up to the fifth power, right to 4e-6. */
static inline __m512 power_of_two(__m512 x)
{
    __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = _mm512_sub_ps(x, whole);
    __m512 y = _mm512_set1_ps(1.3333558e-3F);
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(9.6181291e-3F));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(5.5504109e-2F));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(2.4022651e-1F));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(6.9314718e-1F));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1));
    return _mm512_scalef_ps(y, whole);
}

/* One head's rows, so many elements apart. */
struct rows {
    const bf16 *x;
    size_t row;
};

/* x [n, D] -> [padded, D], zeros behind. */
static void pad(bf16 *to, struct rows x, int n, int padded)
{
    for (size_t i = 0; i < (size_t)n; i++)
        memcpy(to + i * D, x.x + i * x.row, sizeof(bf16) * D);
    memset(to + (size_t)D * (size_t)n, 0, sizeof(bf16) * D * (size_t)(padded - n));
}

static void to_rows(bf16 *to, const bf16 *x, int n)
{
    for (int i = 0; i < n; i += 2, x += 2 * D, to += 2 * D)
        for (int j = 0; j < D; j++) {
            to[2 * j] = x[j];
            to[2 * j + 1] = x[D + j];
        }
}

static void to_columns(bf16 *to, const bf16 *x, int n)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < D / 2; j++)
            memcpy(to + 2 * ((size_t)j * (size_t)n + (size_t)i), x + (size_t)i * D + 2 * j, 4);
}

static void store_block(bf16 *to, size_t to_row, const float *block, int rows, const float *scale_of_row, float scale)
{
    for (size_t i = 0; i < (size_t)rows; i++)
        for (int j = 0; j < D; j += LANES)
            _mm256_storeu_si256((void *)(to + i * to_row + j),
                                narrow(_mm512_mul_ps(_mm512_loadu_ps(block + i * BLOCK + j),
                                                     _mm512_set1_ps(scale_of_row != NULL ? scale_of_row[i] : scale))));
}

static float log2_scale(void)
{
    return 1.44269504F / sqrtf(D);
}

/* A row of scores [padded], of which n are keys -> p as it stands before it is divided by its sum, which is returned; the largest score goes to *most. */
static float weigh(bf16 *p, const float *s, int n, int padded, float *most)
{
    const __m512 c = _mm512_set1_ps(log2_scale());
    __m512 top = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    int j = 0;
    for (; j + LANES <= n; j += LANES)
        top = _mm512_max_ps(top, _mm512_loadu_ps(s + j));
    const __mmask16 rest = (__mmask16)((1U << (n - j)) - 1);
    top = _mm512_mask_max_ps(top, rest, top, _mm512_maskz_loadu_ps(rest, s + j));
    *most = log2_scale() * _mm512_reduce_max_ps(top);
    const __m512 high = _mm512_set1_ps(*most);
    for (j = 0; j < padded; j += LANES) {
        __mmask16 here = j + LANES <= n ? 0xffff : j < n ? rest : 0;
        __m512 e = _mm512_maskz_mov_ps(here, power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(s + j), c, high)));
        sum = _mm512_add_ps(sum, e);
        _mm256_storeu_si256((void *)(p + j), narrow(e));
    }
    return _mm512_reduce_add_ps(sum);
}

static void forward(struct scratch *w, struct rows q, struct rows k, struct rows v, bf16 *o, size_t o_row, float *lse, int n)
{
    const int m = (n + BLOCK - 1) / BLOCK * BLOCK;
    pad(w->padded[0], k, n, m);
    to_columns(w->columns_a, w->padded[0], m);
    pad(w->padded[0], v, n, m);
    to_rows(w->rows_a, w->padded[0], m);
    pad(w->padded[1], q, n, m);
    for (int i = 0; i < n; i += BLOCK) {
        const int rows = n - i < BLOCK ? n - i : BLOCK;
        float share[BLOCK];
        for (int j = 0; j < m; j += BLOCK)
            product(w->s + j, (size_t)m, w->padded[1] + (size_t)i * D, D, w->columns_a + 2 * (size_t)j, 2 * (size_t)m, 1, 0);
        for (int r = 0; r < BLOCK; r++) {
            float most, sum = weigh(w->p + (size_t)r * (size_t)m, w->s + (size_t)r * (size_t)m, n, m, &most);
            share[r] = 1 / sum;
            if (r < rows)
                lse[i + r] = most + log2f(sum);
        }
        product(w->block, BLOCK, w->p, (size_t)m, w->rows_a, 2 * D, m / BLOCK, 0);
        store_block(o + (size_t)i * o_row, o_row, w->block, rows, share, 1);
    }
}

/* What 32 keys, of which `rows` are there, had of every query, from their scores and gp, both [32, m]: p^T, gs^T, and gs^T as right factor. */
static void weigh_back(struct scratch *w, int rows, int m)
{
    const __m512 c = _mm512_set1_ps(log2_scale());
    for (size_t r = 0; r < BLOCK; r += 2)
        for (size_t j = 0; j < (size_t)m; j += LANES) {
            const __m512 lse = _mm512_load_ps(w->lse + j), spent = _mm512_load_ps(w->spent + j);
            __m512i gs[2];
            for (size_t i = 0; i < 2; i++) {
                const size_t at = (r + i) * (size_t)m + j;
                const __mmask16 is_there =
                    r + i < (size_t)rows ? 0xffff : 0; /* a key of zeros might have outweighed all others */
                const __m512 p =
                    _mm512_maskz_mov_ps(is_there, power_of_two(_mm512_fmsub_ps(_mm512_load_ps(w->s + at), c, lse)));
                const __m256i narrowed = narrow(_mm512_mul_ps(p, _mm512_sub_ps(_mm512_load_ps(w->gp + at), spent)));
                _mm256_store_si256((void *)(w->p + at), narrow(p));
                _mm256_store_si256((void *)(w->gs + at), narrowed);
                gs[i] = _mm512_cvtepu16_epi32(narrowed);
            }
            _mm512_store_si512(w->gs_rows + r * (size_t)m + 2 * j, _mm512_or_si512(gs[0], _mm512_slli_epi32(gs[1], 16)));
        }
}

static void backward(struct scratch *w, struct rows q, struct rows k, struct rows v, struct rows o, struct rows go,
                     const float *lse, bf16 *gq, bf16 *gk, bf16 *gv, int n)
{
    const int m = (n + BLOCK - 1) / BLOCK * BLOCK;
    const size_t row = 2 * (size_t)m;
    const float scale = 1 / sqrtf(D);
    bf16 *keys = w->padded[0], *values = w->padded[1];
    pad(keys, q, n, m); /* q and go only pass through */
    to_columns(w->columns_a, keys, m);
    to_rows(w->rows_a, keys, m);
    pad(keys, go, n, m);
    to_columns(w->columns_b, keys, m);
    to_rows(w->rows_b, keys, m);
    pad(keys, k, n, m);
    pad(values, v, n, m);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < D; j++)
            w->k_turned[j * m + i] = keys[i * D + j];
    for (int i = 0; i < m; i++) {
        w->lse[i] = i < n ? lse[i] : 1e4F; /* a query that is not there weighs nothing */
        w->spent[i] = 0;
        if (i < n) {
            const bf16 *a = o.x + (size_t)i * o.row, *b = go.x + (size_t)i * go.row;
            w->spent[i] =
                _mm512_reduce_add_ps(_mm512_fmadd_ps(widen(a), widen(b), _mm512_mul_ps(widen(a + LANES), widen(b + LANES))));
        }
    }
    for (int i = 0; i < n; i += BLOCK) {
        const int rows = n - i < BLOCK ? n - i : BLOCK;
        for (int j = 0; j < m; j += BLOCK) {
            product(w->s + j, (size_t)m, keys + (size_t)i * D, D, w->columns_a + 2 * (size_t)j, row, 1, 0);
            product(w->gp + j, (size_t)m, values + (size_t)i * D, D, w->columns_b + 2 * (size_t)j, row, 1, 0);
        }
        weigh_back(w, rows, m);
        product(w->block, BLOCK, w->p, (size_t)m, w->rows_b, 2 * D, m / BLOCK, 0);
        store_block(gv + (size_t)i * o.row, o.row, w->block, rows, NULL, 1);
        product(w->block, BLOCK, w->gs, (size_t)m, w->rows_a, 2 * D, m / BLOCK, 0);
        store_block(gk + (size_t)i * o.row, o.row, w->block, rows, NULL, scale);
        for (int j = 0; j < m; j += BLOCK)
            product(w->gq + j, (size_t)m, w->k_turned + i, (size_t)m, w->gs_rows + 2 * (size_t)j, row, 1, i > 0);
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < D; j += LANES) {
            const __m512i places = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                                      _mm512_set1_epi32(m));
            __m512 x = _mm512_i32gather_ps(places, w->gq + (size_t)j * (size_t)m + i, 4);
            _mm256_storeu_si256((void *)(gq + (size_t)i * o.row + (size_t)j), narrow(_mm512_mul_ps(x, _mm512_set1_ps(scale))));
        }
}

struct shape {
    int pictures, heads, n, q_row, k_row, v_row; /* n <= LONGEST; rows: elements from patch to patch */
};

/* Where head i of all pictures' heads begins in an array whose patches are `row` apart. */
static size_t head_at(const struct shape *s, int row, int i)
{
    return (size_t)(i / s->heads) * (size_t)s->n * (size_t)row + (size_t)(i % s->heads) * D;
}

static struct rows head_of(const bf16 *x, const struct shape *s, int row, int i)
{
    return (struct rows){x + head_at(s, row, i), (size_t)row};
}

void attend_forward(const bf16 *q, const bf16 *k, const bf16 *v, bf16 *o, float *lse, const struct shape *s)
{
    const int row = s->heads * D;
#pragma omp parallel
    {
        struct scratch *w = scratch_new();
#pragma omp for schedule(dynamic, 2)
        for (int i = 0; i < s->pictures * s->heads; i++)
            forward(w, head_of(q, s, s->q_row, i), head_of(k, s, s->k_row, i), head_of(v, s, s->v_row, i),
                    o + head_at(s, row, i), (size_t)row, lse + (size_t)i * (size_t)s->n, s->n);
        scratch_free(w);
    }
}

/* go is the gradient of o; gq, gk, gv are written, contiguous. */
void attend_backward(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *o, const bf16 *go, const float *lse, bf16 *gq,
                     bf16 *gk, bf16 *gv, const struct shape *s)
{
    const int row = s->heads * D;
#pragma omp parallel
    {
        struct scratch *w = scratch_new();
#pragma omp for schedule(dynamic, 2)
        for (int i = 0; i < s->pictures * s->heads; i++) {
            const size_t at = head_at(s, row, i);
            backward(w, head_of(q, s, s->q_row, i), head_of(k, s, s->k_row, i), head_of(v, s, s->v_row, i),
                     head_of(o, s, row, i), head_of(go, s, row, i), lse + (size_t)i * (size_t)s->n, gq + at, gk + at, gv + at,
                     s->n);
        }
        scratch_free(w);
    }
}
