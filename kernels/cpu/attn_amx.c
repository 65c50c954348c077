/*
 * attn_amx - attention without a mask on bf16 tiles (level "amx"): tile.h's bf16.attend.
 *
 * 64 queries walk over blocks of 64 keys. Scores: queries lie as they are, keys transposed two values at a time, as the tile unit wants its second operand; 16 x 16 values of it
 * are turned in registers. The softmax over the stream of blocks is the vector kernels' own. Weights times values: weights lie as they are, values in pairs of keys.
 * Source: FlashAttention-2 (Dao, arXiv 2307.08691) for the order of things.
 */
#include "kernels/cpu/amx.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vec.h"

#define QUERIES TILE_ATTEND_ROWS
#define KEYS    VEC_KEYS
#define DIM_MAX TILE_ATTEND_DIM

struct attend {
    uint16_t q[QUERIES][DIM_MAX];
    uint32_t k[DIM_MAX / 2][KEYS]; /* [dim / 2][key], two dims each */
    uint32_t v[KEYS / 2][DIM_MAX]; /* [key / 2][dim], two keys each */
    float s[QUERIES][KEYS];
    uint16_t p[QUERIES][KEYS];
    float acc[QUERIES][DIM_MAX];
    float max[QUERIES], sum[QUERIES];
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct attend) <= TILE_ATTEND_BYTES, "tile.h says how much there is");

/* Values i .. i + 15 of n, and zeros. */
INL v16 load_some(const float *x, int32_t i, int32_t n)
{
    return i + 16 <= n ? v_load(x + i) : i < n ? v_load_n(x + i, n - i) : v_zero();
}

/* 32 of them in order. */
INL __m512i pack32(const float *x, int32_t i, int32_t n)
{
    return (__m512i)_mm512_cvtne2ps_pbh(load_some(x, i + 16, n), load_some(x, i, n));
}

/* 16 x 16 words of 32 bits. */
INL void transpose(__m512i r[16])
{
    __m512i t[16];
    UNROLL for (int i = 0; i < 8; i++)
    {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

/* n keys and values of d; what is missing is zero. */
static void load_block(struct attend *a, const float *k, const float *v, int64_t stride, int32_t n, int32_t d)
{
    for (int32_t x = 0; x < d; x += 32)
        for (int32_t g = 0; g < KEYS; g += 16) {
            __m512i r[16];
            UNROLL for (int i = 0; i < 16; i++) r[i] = g + i < n ? pack32(k + (g + i) * stride, x, d) : _mm512_setzero_si512();
            transpose(r);
            UNROLL for (int i = 0; i < 16; i++) _mm512_store_si512(&a->k[x / 2 + i][g], r[i]);
        }
    for (int32_t j = 0; j < KEYS; j += 2)
        for (int32_t x = 0; x < d; x += 16) {
            const v16 even = j < n ? load_some(v + j * stride, x, d) : v_zero(),
                      odd = j + 1 < n ? load_some(v + (j + 1) * stride, x, d) : v_zero();
            _mm512_store_si512(&a->v[j / 2][x], vi_pair_bf16(even, odd));
        }
}

static void weigh(struct attend *a, const struct vec_kernels *vec, int32_t n_queries, int32_t n_keys, int32_t d)
{
    for (int32_t r = 0; r < n_queries; r++) {
        const float f = vec->softmax_step(a->s[r], n_keys, &a->max[r], &a->sum[r]);
        if (f != 1.0f)
            vec->scale(a->acc[r], f, (d + 15) / 16 * 16);
        for (int i = 0; i < KEYS; i += 32)
            _mm512_store_si512(&a->p[r][i], pack32(a->s[r], i, KEYS));
    }
}

void attn_amx_attend(const struct tile_attend *t, const struct vec_kernels *vec, void *tmp)
{
    struct attend *a = tmp;
    const int32_t d = t->d, d32 = (d + 31) / 32 * 32, rows = (t->n_queries + 31) / 32 * 32;
    for (int32_t r = 0; r < rows; r++) {
        for (int32_t x = 0; x < d32; x += 32) {
            const v16 f = v_set1(t->scale);
            const float *q = t->q + r * t->stride;
            _mm512_store_si512(&a->q[r][x], r < t->n_queries ? (__m512i)_mm512_cvtne2ps_pbh(v_mul(load_some(q, x + 16, d), f),
                                                                                            v_mul(load_some(q, x, d), f))
                                                             : _mm512_setzero_si512());
        }
        memset(a->acc[r], 0, sizeof a->acc[r]);
        memset(a->p[r], 0, sizeof a->p[r]);
        a->max[r] = -INFINITY, a->sum[r] = 0.0f;
    }
    for (int32_t k0 = 0; k0 < t->n_keys; k0 += KEYS) {
        const int32_t n = t->n_keys - k0 < KEYS ? t->n_keys - k0 : KEYS;
        load_block(a, t->k + k0 * t->stride, t->v + k0 * t->stride, t->stride, n, d);
        AMX_BEGIN(&amx_whole);
        for (int32_t r = 0; r < rows; r += 32)
            for (int32_t g = 0; g < KEYS; g += 32)
                amx_add_bf16(a->q[r], DIM_MAX, (const void *const[2]){&a->k[0][g], &a->k[0][g + 16]}, KEYS, d32, &a->s[r][g],
                             KEYS, true, true, true);
        AMX_END(); /* the vector unit's turn: nothing of it is called with tiles in use */
        weigh(a, vec, t->n_queries, n, d);
        AMX_BEGIN(&amx_whole);
        for (int32_t r = 0; r < rows; r += 32)
            for (int32_t x = 0; x < d; x += 32) {
                const void *const v[2] = {&a->v[0][x], &a->v[0][x + 16]};
                if (x + 16 < d)
                    amx_add_bf16(a->p[r], KEYS, v, DIM_MAX, KEYS, &a->acc[r][x], DIM_MAX, true, true, false);
                else
                    amx_add_bf16(a->p[r], KEYS, v, DIM_MAX, KEYS, &a->acc[r][x], DIM_MAX, true, false, false);
            }
        AMX_END();
    }
    for (int32_t r = 0; r < t->n_queries; r++)
        vec->finish(a->acc[r], d, 1.0f / a->sum[r], NULL, 0, false, t->y + r * t->y_stride);
}
