/*
 * tile_amx - the matrix kernels at level "amx": those of AVX-512, but products of many rows with blocks of integers run on int8 tiles.
 *
 * A panel lies as the tile unit wants its second operand ([input / 4][output][input % 4]). Results are those of the other levels, to the bit: integers are exact, and what floats
 * there are is added in the same order (tile.h).
 *
 * Long types: the scales of a block's parts are integers, so they are multiplied into the weights. A product has up to 13 bits and goes in two tiles of 8, low and high; then a block of
 * 256 inputs needs nothing but tile products: 16 of 16 x 16 x 64 for 32 rows of 16 outputs, and 10 vector operations for each of its 512 sums.
 *
 * Short types: each 32 (NVFP4: 16) inputs have a float of their own. Their sums go through memory to the vector unit after one instruction each, and it is what limits: 3 or 4
 * operations for every 32 inputs. 16 rows of 16 outputs keep their accumulators in registers over a whole panel, and the tiles of the next part are under way meanwhile.
 */
#include "kernels/cpu/amx.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/tile.h"

#define ROWS AMX_ROWS

struct rows {
    const int8_t *x;
    int64_t stride;
};

static struct rows rows_at(const struct tile_row *rows, int n, enum tile_grain grain, int32_t k0)
{
    return (struct rows){rows[0].act[grain].q + k0, rows[n > 1].act[grain].q - rows[0].act[grain].q};
}

/* ---- long types ---- */

/*
 * Each output's weights times its part's scale, as low + high * (1 << shift). Unsigned weights of at most 5 bits take a product with the scale's low and high 3 bits: both stay in
 * a byte, so that one 16-bit multiplication does two of them. Signed ones (the bias taken off) are multiplied as 16-bit values, even and odd ones apart, and then cut at bit 6.
 */
struct twin {
    int sub, bias;
    bool is_signed;
    int shift;
};

INL void multiply(struct twin t, struct tile_panel *p)
{
    const int lines = t.sub / 4;
    const __m512i low = _mm512_set1_epi16(0x3f), seven = _mm512_set1_epi32(7), bias = _mm512_set1_epi8((char)t.bias);
    const __mmask64 odd = 0xaaaaaaaaaaaaaaaa;
    for (int s = 0; s < TILE_K / t.sub; s++) {
        const __m512i scale = _mm512_load_si512(p->iscale[s]);
        const __m512i one = t.is_signed ? scale : _mm512_and_si512(scale, seven), other = _mm512_srli_epi32(scale, 3);
        const __m512i twice = _mm512_mask_blend_epi16(0xaaaaaaaa, one, _mm512_slli_epi32(one, 16)),
                      twice_high = _mm512_or_si512(other, _mm512_slli_epi32(other, 16));
        for (int j = s * lines; j < (s + 1) * lines; j++) {
            const __m512i w = _mm512_load_si512(p->w[j]);
            if (!t.is_signed) {
                _mm512_store_si512(p->w[j], _mm512_mullo_epi16(w, twice));
                _mm512_store_si512(p->high[j], _mm512_mullo_epi16(w, twice_high));
                continue;
            }
            const __m512i v = _mm512_sub_epi8(w, bias);
            const __m512i a = _mm512_mullo_epi16(_mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8), twice),
                          b = _mm512_mullo_epi16(_mm512_srai_epi16(v, 8), twice);
            const __m512i la = _mm512_and_si512(a, low), lb = _mm512_slli_epi16(_mm512_and_si512(b, low), 8);
            _mm512_store_si512(p->w[j], _mm512_or_si512(la, lb));
            _mm512_store_si512(p->high[j], _mm512_mask_blend_epi8(odd, _mm512_srai_epi16(a, 6),
                                                                  _mm512_slli_epi16(_mm512_srai_epi16(b, 6), 8)));
        }
    }
}

#define UNPACK_LONG(T, TYPE, SUB, BIAS, IS_SIGNED, SHIFT)                                                                      \
    static const struct twin twin_##T = {SUB, BIAS, IS_SIGNED, SHIFT};                                                         \
    static void unpack_##T(const uint8_t *head, const uint8_t *body, int32_t first, int32_t n, struct tile_panel *panel)       \
    {                                                                                                                          \
        tile_avx512.type[TYPE].unpack(head, body, first, n, panel);                                                            \
        multiply(twin_##T, panel);                                                                                             \
    }

UNPACK_LONG(q2_k, KN_Q2_K, 16, 0, false, 3)
UNPACK_LONG(q3_k, KN_Q3_K, 16, 4, true, 6)
UNPACK_LONG(q4_k, KN_Q4_K, 32, 0, false, 3)
UNPACK_LONG(q5_k, KN_Q5_K, 32, 0, false, 3)
UNPACK_LONG(q6_k, KN_Q6_K, 16, 32, true, 6)
UNPACK_LONG(iq4_xs, KN_IQ4_XS, 32, LANES_BIAS, true, 6)

#define DOT(c, a, b)                                                                                                           \
    do {                                                                                                                       \
        if (t.is_signed)                                                                                                       \
            AMX_DOT_I8(c, a, b);                                                                                               \
        else                                                                                                                   \
            AMX_DOT_I8_U8(c, a, b);                                                                                            \
    } while (0)

/* Registers 0, 1: sums of the first 16 rows, low and high; 2, 3: of the next ones; 4, 5: rows; 6, 7: weights. Only as many rows as there are: a product takes as long as its rows are many. */
static void begin_long(int n)
{
    struct amx_shape shape = amx_whole;
    const uint8_t first = (uint8_t)(n < ROWS ? n : ROWS), next = (uint8_t)(n - first);
    shape.rows[0] = shape.rows[1] = shape.rows[4] = first;
    if (next > 0)
        shape.rows[2] = shape.rows[3] = shape.rows[5] = next;
    AMX_BEGIN(&shape);
}

/* The block's integers of up to 16 or up to 32 rows and 16 outputs: [low, high][row][output]. */
INL void block_tiles(struct twin t, const struct rows *rows, bool is_two, const struct tile_panel *p,
                     int32_t sums[2][2 * ROWS][16])
{
    const int8_t *a = rows->x, *b = rows->x + ROWS * rows->stride;
    AMX_ZERO(0);
    AMX_ZERO(1);
    if (is_two) {
        AMX_ZERO(2);
        AMX_ZERO(3);
    }
    for (int k = 0; k < TILE_K; k += 64) {
        AMX_LOAD(4, a + k, rows->stride);
        AMX_LOAD(6, p->w[k / 4], 64);
        DOT(0, 4, 6);
        AMX_LOAD(7, p->high[k / 4], 64);
        DOT(1, 4, 7);
        if (is_two) {
            AMX_LOAD(5, b + k, rows->stride);
            DOT(2, 5, 6);
            DOT(3, 5, 7);
        }
    }
    AMX_STORE(0, sums[0], 64);
    AMX_STORE(1, sums[1], 64);
    if (is_two) {
        AMX_STORE(2, sums[0][ROWS], 64);
        AMX_STORE(3, sums[1][ROWS], 64);
    }
}

INL void block_floats(struct twin t, const struct tile_row *rows, int n_rows, int32_t k0, const struct tile_panel *p,
                      const int32_t sums[2][2 * ROWS][16], float *acc)
{
    const v16 d = v_load(p->d), m = v_load(p->m);
    __m512i of[TILE_K / 32];
    const int n_pairs = TILE_K / t.sub / 2;
    if (!t.is_signed)
        UNROLL for (int s = 0; s < n_pairs; s++) of[s] = vi_load(p->side[s]);
    for (int r = 0; r < n_rows; r++, acc += 32) {
        const struct tile_act *x = &rows[r].act[TILE_LONG];
        const v16 ad = v_set1(x->ad[k0 / TILE_K]);
        const vi16 i =
            vi_add(_mm512_load_si512(sums[0][r]), _mm512_slli_epi32(_mm512_load_si512(sums[1][r]), (unsigned)t.shift));
        v16 c = v_fma(v_from_i(i), v_mul(d, ad), v_load(acc));
        if (!t.is_signed) {
            const int16_t *of_x = t.sub == 32 ? x->sum32 + k0 / 32 : x->sum16 + k0 / 16;
            vi16 less[2] = {vi_set1(0), vi_set1(0)};
            UNROLL for (int s = 0; s < n_pairs; s++) less[s % 2] =
                vi_dot16(less[s % 2], of[s], vi_set1(lanes_word(of_x + 2 * s)));
            c = v_fnma(v_from_i(vi_add(less[0], less[1])), v_mul(m, ad), c);
        }
        v_store(acc, c);
    }
}

/* One block of inputs; the tiles of the next rows and panel are under way while the vector unit takes the last ones. */
INL void gemm_long(struct twin t, const struct tile_panel *panels, int n_panels, int32_t k0, const struct tile_row *rows,
                   int n_rows, float *acc)
{
    int32_t sums[2][2][2 * ROWS][16] __attribute__((aligned(64)));
    const struct tile_row *before = NULL;
    int n_before = 0, i_before = 0, turn = 0;
    float *acc_before = NULL;
    for (int shape = 0; n_rows > 0; n_rows -= 2 * ROWS, rows += 2 * ROWS, acc += 32 * 2 * ROWS) {
        const int n = n_rows < 2 * ROWS ? n_rows : 2 * ROWS;
        const struct rows x = rows_at(rows, n, TILE_LONG, k0);
        if (n != shape)
            begin_long(n);
        shape = n;
        for (int i = 0; i < n_panels; i++, turn ^= 1) {
            if (n > ROWS)
                block_tiles(t, &x, true, &panels[i], sums[turn]);
            else
                block_tiles(t, &x, false, &panels[i], sums[turn]);
            if (before)
                block_floats(t, before, n_before, k0, &panels[i_before], (const void *)sums[turn ^ 1],
                             acc_before + 16 * i_before);
            before = rows, n_before = n, i_before = i, acc_before = acc;
        }
    }
    AMX_END();
    if (before)
        block_floats(t, before, n_before, k0, &panels[i_before], (const void *)sums[turn ^ 1], acc_before + 16 * i_before);
}

#define GEMM_LONG(T)                                                                                                           \
    static void gemm_##T(const struct tile_panel *panels, int n_panels, int32_t k0, int32_t n_k, const struct tile_row *rows,  \
                         int n_rows, float *acc)                                                                               \
    {                                                                                                                          \
        gemm_long(twin_##T, panels, n_panels, k0, rows, n_rows, acc);                                                          \
    }

GEMM_LONG(q2_k)
GEMM_LONG(q3_k)
GEMM_LONG(q4_k)
GEMM_LONG(q6_k)
GEMM_LONG(iq4_xs)
#define gemm_q5_k gemm_q4_k

/* ---- short types ---- */

struct kind {
    int sub; /* inputs per scale: 32 or 16 */
    bool has_offset;
};

/* Registers: 0, 1 sums; 2, 3 rows; 4, 5 a panel's part. */
static void begin_short(struct kind k, int n)
{
    const uint8_t rows = (uint8_t)n, sub = (uint8_t)k.sub, lines = (uint8_t)(k.sub / 4);
    const struct amx_shape shape = {
        .palette = 1, .row_bytes = {64, 64, sub, sub, 64, 64}, .rows = {rows, rows, rows, rows, lines, lines}};
    AMX_BEGIN(&shape);
}

/* Take the level's bias off n inputs of a panel: 128 is off by a flip of the top bit. */
static void center(struct tile_panel *panel, int32_t n, int bias)
{
    const __m512i b = _mm512_set1_epi8((char)bias);
    for (int32_t i = 0; i < n / 4; i++)
        _mm512_store_si512(panel->w[i], _mm512_sub_epi8(_mm512_load_si512(panel->w[i]), b));
}

#define UNPACK(T, TYPE, ELEMS, BIAS)                                                                                           \
    static void unpack_##T(const uint8_t *head, const uint8_t *body, int32_t first, int32_t n, struct tile_panel *panel)       \
    {                                                                                                                          \
        tile_avx512.type[TYPE].unpack(head, body, first, n, panel);                                                            \
        center(panel, n *(ELEMS), BIAS);                                                                                       \
    }

UNPACK(q8_0, KN_Q8_0, 32, LANES_BIAS)
UNPACK(q4_0, KN_Q4_0, 32, 8)
UNPACK(q5_0, KN_Q5_0, 32, 16)
UNPACK(iq4_nl, KN_IQ4_NL, 32, LANES_BIAS)
UNPACK(mxfp4, KN_MXFP4, 32, LANES_BIAS)
UNPACK(nvfp4, KN_NVFP4, 64, LANES_BIAS)

/* What 16 rows bring along, by the number of a part: values lie side by side that are used one after the other. */
struct side {
    float ad[TILE_K / 32][ROWS], sum[TILE_K / 16][ROWS];
};

static void bring_side(struct kind k, const struct tile_row *rows, int n, int32_t k0, int32_t n_k, struct side *ret)
{
    for (int r = 0; r < ROWS; r++) {
        const struct tile_act *x = &rows[r < n ? r : 0].act[TILE_SHORT];
        const float *sum = k.sub == 32 ? x->fsum32 : x->fsum16;
        for (int32_t s = 0; s < n_k / 32; s++)
            ret->ad[s][r] = x->ad[k0 / 32 + s];
        for (int32_t s = 0; k.has_offset && s < n_k / k.sub; s++)
            ret->sum[s][r] = sum[k0 / k.sub + s];
    }
}

INL void part_tiles(const int h, const struct rows *rows, const struct tile_panel *p, int sub, int at, int32_t sums[ROWS][16])
{
    if (h) {
        AMX_ZERO(1);
        AMX_LOAD(3, rows->x + at * sub, rows->stride);
        AMX_LOAD(5, p->w[at * (sub / 4)], 64);
        AMX_DOT_I8(1, 3, 5);
        AMX_STORE(1, sums, 64);
    } else {
        AMX_ZERO(0);
        AMX_LOAD(2, rows->x + at * sub, rows->stride);
        AMX_LOAD(4, p->w[at * (sub / 4)], 64);
        AMX_DOT_I8(0, 2, 4);
        AMX_STORE(0, sums, 64);
    }
}

INL void part_floats(struct kind k, const int32_t sums[ROWS][16], const struct tile_panel *p, const struct side *side, int at,
                     v16 acc[ROWS])
{
    const v16 sf = v_load(p->scale[at]);
    v16 of = v_zero();
    if (k.has_offset)
        of = v_load(p->offset[at]);
    UNROLL for (int r = 0; r < ROWS; r++)
    {
        const v16 i = v_from_i(_mm512_load_si512(sums[r]));
        acc[r] = v_fma(v_mul(i, v_set1(side->ad[at * k.sub / 32][r])), sf, acc[r]);
        if (k.has_offset)
            acc[r] = v_fnma(of, v_set1(side->sum[at][r]), acc[r]);
    }
}

/* acc[r][0..16) += the inputs of a panel times 16 rows; of sums, as many rows are written as there are, and the others are anything. */
INL void add_parts(struct kind k, const struct rows *x, const struct tile_panel *p, const struct side *side, int n_parts,
                   int32_t sums[2][ROWS][16], float *acc)
{
    v16 a[ROWS];
    UNROLL for (int r = 0; r < ROWS; r++) a[r] = v_load(acc + 32 * r);
    part_tiles(0, x, p, k.sub, 0, sums[0]);
    int at = 0;
    for (; at + 2 <= n_parts; at += 2) {
        part_tiles(1, x, p, k.sub, at + 1, sums[1]);
        part_floats(k, (const void *)sums[0], p, side, at, a);
        if (at + 2 < n_parts)
            part_tiles(0, x, p, k.sub, at + 2, sums[0]);
        part_floats(k, (const void *)sums[1], p, side, at + 1, a);
    }
    if (at < n_parts)
        part_floats(k, (const void *)sums[0], p, side, at, a);
    UNROLL for (int r = 0; r < ROWS; r++) v_store(acc + 32 * r, a[r]);
}

INL void gemm_short(struct kind k, const struct tile_panel *panels, int n_panels, int32_t k0, int32_t n_k,
                    const struct tile_row *rows, int n_rows, float *acc)
{
    struct side side;
    float last[ROWS][32] __attribute__((aligned(64)));
    int32_t sums[2][ROWS][16] __attribute__((aligned(64))) = {0};
    for (int shape = 0; n_rows > 0; n_rows -= ROWS, rows += ROWS, acc += 32 * ROWS) {
        const int n = n_rows < ROWS ? n_rows : ROWS;
        const struct rows x = rows_at(rows, n, TILE_SHORT, k0);
        float *to = acc;
        bring_side(k, rows, n, k0, n_k, &side);
        if (n != shape)
            begin_short(k, n);
        shape = n;
        if (n < ROWS) {
            memset(last, 0, sizeof last);
            memcpy(last, acc, sizeof *acc * 32 * (size_t)n);
            to = last[0];
        }
        for (int i = 0; i < n_panels; i++)
            add_parts(k, &x, &panels[i], &side, n_k / k.sub, sums, to + 16 * i);
        if (n < ROWS)
            memcpy(acc, last, sizeof *acc * 32 * (size_t)n);
    }
    AMX_END();
}

#define GEMM(name, SUB, HAS_OFFSET)                                                                                            \
    static void name(const struct tile_panel *panels, int n_panels, int32_t k0, int32_t n_k, const struct tile_row *rows,      \
                     int n_rows, float *acc)                                                                                   \
    {                                                                                                                          \
        gemm_short((struct kind){SUB, HAS_OFFSET}, panels, n_panels, k0, n_k, rows, n_rows, acc);                              \
    }

GEMM(gemm_32, 32, false)
GEMM(gemm_32_offset, 32, true)
GEMM(gemm_16, 16, false)

/* ---- bfloat16 ---- */

static void round_bf16(const float *x, int32_t n, uint16_t *y)
{
    for (int32_t i = 0; i < n; i += 16)
        _mm256_storeu_si256((__m256i *)(y + i),
                            (__m256i)_mm512_cvtneps_pbh(n - i < 16 ? v_load_n(x + i, n - i) : v_load(x + i)));
    if (n % 32 > 0 && n % 32 <= 16)
        _mm256_storeu_si256((__m256i *)(y + (n + 15) / 16 * 16), _mm256_setzero_si256());
}

INL v16 take_half(enum kn_dtype type, const uint8_t *body, int32_t k)
{
    const uint16_t *at = (const uint16_t *)body + 16 * (int64_t)k;
    return type == KN_BF16 ? v_load_bf16(at) : v_load_f16(at);
}

INL void unpack_any(enum kn_dtype type, const uint8_t *body, int32_t first, int32_t n, struct tile_panel *panel)
{
    for (int32_t k = 0; k < n; k += 2)
        _mm512_store_si512(panel->h[k / 2], vi_pair_bf16(take_half(type, body, first + k),
                                                         k + 1 < n ? take_half(type, body, first + k + 1) : v_zero()));
    for (int32_t k = (n + 1) / 2; k % 16; k++)
        _mm512_store_si512(panel->h[k], vi_set1(0));
}

static void unpack_bf16(enum kn_dtype type, const uint8_t *body, int32_t first, int32_t n, struct tile_panel *panel)
{
    if (type == KN_BF16)
        unpack_any(KN_BF16, body, first, n, panel);
    else
        unpack_any(KN_F16, body, first, n, panel);
}

static void gemm_bf16(const struct tile_panel *panels, int n_panels, int32_t n_k, const uint16_t *x, int64_t stride, int n_rows,
                      float *acc)
{
    const void *const b[2] = {panels[0].h, panels[n_panels - 1].h};
    AMX_BEGIN(&amx_whole);
    for (; n_rows > 0; n_rows -= 2 * ROWS, x += 2 * ROWS * stride, acc += 32 * 2 * ROWS) {
        if (n_rows > ROWS && n_panels == 2)
            amx_add_bf16(x, stride, b, 16, n_k, acc, 32, true, true, false);
        else if (n_rows > ROWS)
            amx_add_bf16(x, stride, b, 16, n_k, acc, 32, true, false, false);
        else if (n_panels == 2)
            amx_add_bf16(x, stride, b, 16, n_k, acc, 32, false, true, false);
        else
            amx_add_bf16(x, stride, b, 16, n_k, acc, 32, false, false, false);
    }
    AMX_END();
}

/* ---- the table ---- */

void tile_amx_init(struct tile_kernels *ret)
{
    static const struct {
        enum kn_dtype type;
        void (*unpack)(const uint8_t *, const uint8_t *, int32_t, int32_t, struct tile_panel *);
        void (*gemm)(const struct tile_panel *, int, int32_t, int32_t, const struct tile_row *, int, float *);
    } ours[] = {
        {KN_Q8_0, unpack_q8_0, gemm_32},   {KN_Q4_0, unpack_q4_0, gemm_32},         {KN_Q4_1, NULL, gemm_32_offset},
        {KN_Q5_0, unpack_q5_0, gemm_32},   {KN_Q5_1, NULL, gemm_32_offset},         {KN_IQ4_NL, unpack_iq4_nl, gemm_32},
        {KN_MXFP4, unpack_mxfp4, gemm_32}, {KN_NVFP4, unpack_nvfp4, gemm_16},       {KN_Q2_K, unpack_q2_k, gemm_q2_k},
        {KN_Q3_K, unpack_q3_k, gemm_q3_k}, {KN_Q4_K, unpack_q4_k, gemm_q4_k},       {KN_Q5_K, unpack_q5_k, gemm_q5_k},
        {KN_Q6_K, unpack_q6_k, gemm_q6_k}, {KN_IQ4_XS, unpack_iq4_xs, gemm_iq4_xs},
    };
    *ret = tile_avx512;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        if (ours[i].unpack)
            ret->type[ours[i].type].unpack = ours[i].unpack;
        ret->type[ours[i].type].gemm = ours[i].gemm;
    }
    ret->bf16.round = round_bf16;
    ret->bf16.unpack = unpack_bf16;
    ret->bf16.gemm = gemm_bf16;
    ret->bf16.attend = attn_amx_attend;
}
