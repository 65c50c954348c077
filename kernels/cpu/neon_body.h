/*
 * neon_body - products of a few rows, shaped for registers of 128 bits; tile_body.h includes it in place of its own.
 *
 * A part of a block is 64 values of four registers each: more than there are. So four outputs are taken at a time, one register of a line, through all lines of a part: what a line
 * gives is used at once and nothing waits in memory. A line is 16 bytes of four outputs, and gives 2 or 4 times 4 inputs of each; chunks are 16 inputs, one register of activations.
 *
 * Shifts that insert (SLI, SRI) put the bits of a weight together in one step less than shift, mask and or.
 */
#ifndef HERON_KERNELS_CPU_NEON_BODY_H
#define HERON_KERNELS_CPU_NEON_BODY_H

#include <arm_neon.h>

/* ---- lines: number j (of 8) of part i, outputs 4 q .. 4 q + 3 ---- */

INL uint8x16_t line_of(const uint8_t *p, int j, int q)
{
    return vld1q_u8(p + 64 * j + 16 * q);
}

INL uint8x16_t line_and(uint8x16_t a, int mask)
{
    return vandq_u8(a, vdupq_n_u8((uint8_t)mask));
}

INL void line_q2_k(const uint8_t *body, const int i, const int j, const int q, uint8x16_t w[4])
{
    const uint8x16_t v = line_of(body + 256 + 512 * i, j, q);
    w[0] = line_and(v, 3);
    w[1] = line_and(v >> 2, 3);
    w[2] = line_and(v >> 4, 3);
    w[3] = v >> 6;
}

INL void line_q3_k(const uint8_t *body, const int i, const int j, const int q, uint8x16_t w[4])
{
    const uint8x16_t v = line_of(body + 704 + 512 * i, j, q), h = line_of(body + 192, j, q) >> (4 * i);
    w[0] = line_and(vsliq_n_u8(v, h, 2), 7);
    w[1] = line_and(vsliq_n_u8(v >> 2, h >> 1, 2), 7);
    w[2] = line_and(vsliq_n_u8(v >> 4, h >> 2, 2), 7);
    w[3] = line_and(vsliq_n_u8(v >> 6, h >> 3, 2), 7);
}

INL void line_q4_k(const uint8_t *body, const int i, const int j, const int q, uint8x16_t w[4])
{
    const uint8x16_t v = line_of(body + 192 + 512 * i, j, q);
    w[0] = line_and(v, 15);
    w[1] = v >> 4;
}

INL void line_q5_k(const uint8_t *body, const int i, const int j, const int q, uint8x16_t w[4])
{
    const uint8x16_t v = line_of(body + 704 + 512 * i, j, q), h = line_of(body + 192, j, q);
    w[0] = line_and(vsliq_n_u8(v, h >> (2 * i), 4), 31);
    w[1] = line_and(vsriq_n_u8(i < 2 ? h << (3 - 2 * i) : h >> (2 * i - 3), v, 4), 31);
}

INL void line_q6_k(const uint8_t *body, const int i, const int j, const int q, uint8x16_t w[4])
{
    const uint8x16_t a = line_of(body + 1280 + 1024 * i, j, q), b = line_of(body + 1280 + 512 + 1024 * i, j, q);
    const uint8x16_t h = line_of(body + 256 + 512 * i, j, q), h2 = h >> 2;
    w[0] = line_and(vsliq_n_u8(a, h, 4), 63);
    w[1] = line_and(vsliq_n_u8(b, h2, 4), 63);
    w[2] = line_and(vsriq_n_u8(h, a, 4), 63);
    w[3] = line_and(vsriq_n_u8(h2, b, 4), 63);
}

/* And of short types: line j of unit i, which has one scale. A value is 4 inputs: of Q8_0 one per line, else two, of NVFP4 8 inputs apart. */
INL uint8x16_t table_of(const int8_t t[16], uint8x16_t i)
{
    return vqtbl1q_u8((uint8x16_t)vld1q_s8(t), i);
}

INL void line_q8_0(const uint8_t *body, const int i, const int j, const int q, uint8x16_t w[2])
{
    w[0] = line_of(body, j, q);
}
INL void line_q4_0(const uint8_t *body, const int i, const int j, const int q, uint8x16_t w[2])
{
    const uint8x16_t v = line_of(body, j, q);
    w[0] = line_and(v, 15);
    w[1] = v >> 4;
}
#define line_q4_1 line_q4_0
/* Four bits of a word, from bit n on, as bit 4 of its four bytes (tile_body.h: nibbles32_q5). */
INL uint8x16_t fifth_bits(uint32x4_t h, const int n)
{
    return (uint8x16_t)(vandq_u32(vmulq_n_u32(vandq_u32(h >> n, vdupq_n_u32(15)), 0x00204081), vdupq_n_u32(0x01010101)) << 4);
}
INL void line_q5_0(const uint8_t *body, const int i, const int j, const int q, uint8x16_t w[2])
{
    const uint32x4_t h = (uint32x4_t)line_of(body, 0, q);
    line_q4_0(body + 64, i, j, q, w);
    w[0] = vorrq_u8(w[0], fifth_bits(h, 4 * j));
    w[1] = vorrq_u8(w[1], fifth_bits(h, 16 + 4 * j));
}
#define line_q5_1 line_q5_0
INL void line_iq4_nl(const uint8_t *body, const int i, const int j, const int q, uint8x16_t w[2])
{
    line_q4_0(body, i, j, q, w);
    w[0] = table_of(kn_iq4_values, w[0]);
    w[1] = table_of(kn_iq4_values, w[1]);
}
INL void line_mxfp4(const uint8_t *body, const int i, const int j, const int q, uint8x16_t w[2])
{
    line_q4_0(body, i, j, q, w);
    w[0] = table_of(kn_fp4_values, w[0]);
    w[1] = table_of(kn_fp4_values, w[1]);
}
INL void line_nvfp4(const uint8_t *body, const int i, const int j, const int q, uint8x16_t w[2])
{
    line_mxfp4(body + 128 * i, 0, j, q, w);
}

/* Of a long type again: lines are those of two IQ4_NL blocks. */
INL void line_iq4_xs(const uint8_t *body, const int i, const int j, const int q, uint8x16_t w[4])
{
    line_iq4_nl(body + 64 + 512 * i, 0, j, q, w);
}

INL float32x4_t quarter_f(v16 a, const int q)
{
    return q == 0 ? a.a : q == 1 ? a.b : q == 2 ? a.c : a.d;
}

#define TILE_SHORT_FUSED(T, ELEMS, HEAD, BODY, PART, SUB, HAS_OFFSET, IS_SIGNED, BIAS_)                                        \
    INL void fused_##T##_n(const uint8_t *head, const uint8_t *body, int32_t n_blocks, const struct tile_row *rows,            \
                           const int n_rows, float *y)                                                                         \
    {                                                                                                                          \
        const int per = BODY == 32 && SUB == 32 ? 1 : 2, n_lines = SUB / 4 / per;                                              \
        float32x4_t acc[FUSED_ROWS][4];                                                                                        \
        UNROLL for (int r = 0; r < n_rows; r++) acc[r][0] = acc[r][1] = acc[r][2] = acc[r][3] = vdupq_n_f32(0);                \
        for (int32_t b = 0; b < n_blocks; b++, head += 16 * HEAD, body += 16 * BODY) {                                         \
            struct prep p;                                                                                                     \
            prep_##T(head, body, &p);                                                                                          \
            prefetch(body + PREFETCH_BYTES, 16 * BODY);                                                                        \
            UNROLL for (int i = 0; i < ELEMS / SUB; i++)                                                                       \
            {                                                                                                                  \
                const int32_t s = b * (ELEMS / 32) + i * SUB / 32;                                                             \
                const v16 sf = SUB == 16 ? v_mul(v_load_e4m3(p.sc[i]), v_set1(0.5f)) : p.d;                                    \
                UNROLL for (int q = 0; q < 4; q++)                                                                             \
                {                                                                                                              \
                    int32x4_t t[FUSED_ROWS];                                                                                   \
                    UNROLL for (int r = 0; r < n_rows; r++) t[r] =                                                             \
                        vdupq_n_s32(BIAS_ ? -(BIAS_)*rows[r].act[TILE_SHORT].sum32[s] : 0);                                    \
                    UNROLL for (int j = 0; j < n_lines; j++)                                                                   \
                    {                                                                                                          \
                        uint8x16_t w[2];                                                                                       \
                        line_##T(body, i, j, q, w);                                                                            \
                        UNROLL for (int r = 0; r < n_rows; r++) UNROLL for (int v = 0; v < per; v++)                           \
                        {                                                                                                      \
                            const int chunk = SUB == 16 ? i % 2 : per == 1 ? j / 4 : v, lane = SUB == 16 ? 2 * v + j : j % 4;  \
                            t[r] = lanes_dot(t[r], (int32x4_t)w[v], vld1q_s8(rows[r].act[TILE_SHORT].q + 32 * s + 16 * chunk), \
                                             lane);                                                                            \
                        }                                                                                                      \
                    }                                                                                                          \
                    UNROLL for (int r = 0; r < n_rows; r++)                                                                    \
                    {                                                                                                          \
                        const struct tile_act *x = &rows[r].act[TILE_SHORT];                                                   \
                        acc[r][q] = vfmaq_f32(acc[r][q], vmulq_n_f32(vcvtq_f32_s32(t[r]), x->ad[s]), quarter_f(sf, q));        \
                        if (HAS_OFFSET)                                                                                        \
                            acc[r][q] = vfmsq_f32(acc[r][q], quarter_f(p.m, q), vdupq_n_f32(x->fsum32[s]));                    \
                    }                                                                                                          \
                }                                                                                                              \
            }                                                                                                                  \
        }                                                                                                                      \
        UNROLL for (int r = 0; r < n_rows; r++) v_store(y + 32 * r, (v16){acc[r][0], acc[r][1], acc[r][2], acc[r][3]});        \
    }

/* ---- scales and offsets of the parts that have one ---- */

INL vi16 scale_q2_k(const uint8_t *body, const struct prep *p, const int s)
{
    return vi_and(vi_load_u8(body + 16 * s), vi_set1(15));
}
INL vi16 scale_q3_k(const uint8_t *body, const struct prep *p, const int s)
{
    return vi_sub(vi_load_u8(p->sc[s]), vi_set1(32));
}
INL vi16 scale_q4_k(const uint8_t *body, const struct prep *p, const int s)
{
    return vi_load_u8(p->sc[s]);
}
#define scale_q5_k scale_q4_k
INL vi16 scale_q6_k(const uint8_t *body, const struct prep *p, const int s)
{
    return vi_load_i8((const int8_t *)body + 16 * s);
}
INL vi16 scale_iq4_xs(const uint8_t *body, const struct prep *p, const int s)
{
    const vi16 low = vi_srl(vi_load_u8(body + 16 * (s / 2)), 4 * (s % 2)),
               high = vi_srl(vi_load_u16((const uint16_t *)p->mn), 2 * s);
    return vi_sub(vi_or(vi_and(low, vi_set1(15)), vi_sll(vi_and(high, vi_set1(3)), 4)), vi_set1(32));
}

/* What is multiplied by the sums of activations: offsets, or for types with a bias the scales, which fit 16 bits as the sums do. */
INL int16x8x2_t sides_u8(uint8x16_t a)
{
    return (int16x8x2_t){{(int16x8_t)vmovl_u8(vget_low_u8(a)), (int16x8_t)vmovl_high_u8(a)}};
}
INL int16x8x2_t sides_i8(int8x16_t a)
{
    return (int16x8x2_t){{vmovl_s8(vget_low_s8(a)), vmovl_high_s8(a)}};
}
INL int16x8x2_t side_q2_k(const uint8_t *body, const struct prep *p, const int s)
{
    return sides_u8(vld1q_u8(body + 16 * s) >> 4);
}
INL int16x8x2_t side_q3_k(const uint8_t *body, const struct prep *p, const int s)
{
    return sides_i8(vsubq_s8(vld1q_s8((const int8_t *)p->sc[s]), vdupq_n_s8(32)));
}
INL int16x8x2_t side_q4_k(const uint8_t *body, const struct prep *p, const int s)
{
    return sides_u8(vld1q_u8(p->mn[s]));
}
#define side_q5_k side_q4_k
INL int16x8x2_t side_q6_k(const uint8_t *body, const struct prep *p, const int s)
{
    return sides_i8(vld1q_s8((const int8_t *)body + 16 * s));
}
#define side_iq4_xs side_q2_k /* it has neither: not called */

INL vi16 take_side(vi16 a, int16x8x2_t side, int16_t sum)
{
    return (vi16){vmlal_n_s16(a.a, vget_low_s16(side.val[0]), sum), vmlal_high_n_s16(a.b, side.val[0], sum),
                  vmlal_n_s16(a.c, vget_low_s16(side.val[1]), sum), vmlal_high_n_s16(a.d, side.val[1], sum)};
}

INL int32x4_t quarter(vi16 a, const int q)
{
    return q == 0 ? a.a : q == 1 ? a.b : q == 2 ? a.c : a.d;
}

/* What was loaded is loaded again: the compiler would keep lines that two parts share, in memory beside the memory that they come from. */
#define NEON_FORGET() __asm__ volatile("" ::: "memory")

/*
 * PER: values per line and output, of 4 inputs each; a part has 32 PER inputs. Value v of line j holds inputs 4 (j % 4) .. of chunk 2 v + j / 4, or (is_close) of chunk 2 (j / 4) + v.
 */
#define PER_q2_k        4
#define PER_q3_k        4
#define PER_q4_k        2
#define PER_q5_k        2
#define PER_q6_k        4
#define PER_iq4_xs      2
#define IS_CLOSE_q2_k   false
#define IS_CLOSE_q3_k   false
#define IS_CLOSE_q4_k   false
#define IS_CLOSE_q5_k   false
#define IS_CLOSE_q6_k   false
#define IS_CLOSE_iq4_xs true

#define TILE_LONG_FUSED(T, HEAD, BODY, SUB, HAS_OFFSET, IS_SIGNED, BIAS_)                                                      \
    /* sum[r] += the outputs 4 q .. of part i */                                                                               \
    INL void quarter_##T(const uint8_t *body, const struct prep *p, const vi16 *sf, const int8_t *const *x, const int n_rows,  \
                         const int i, const int q, int32x4_t sum[FUSED_ROWS][4])                                               \
    {                                                                                                                          \
        const bool is_close = IS_CLOSE_##T, is_each = SUB == 16 || is_close;                                                   \
        int32x4_t t[FUSED_ROWS][4];                                                                                            \
        NEON_FORGET();                                                                                                         \
        UNROLL for (int g = 0; g < 2; g++)                                                                                     \
        {                                                                                                                      \
            UNROLL for (int r = 0; r < n_rows && (is_each || g == 0); r++) UNROLL for (int v = 0; v < PER_##T; v++) t[r][v] =  \
                vdupq_n_s32(0);                                                                                                \
            UNROLL for (int j = 0; j < 4; j++)                                                                                 \
            {                                                                                                                  \
                uint8x16_t w[4];                                                                                               \
                line_##T(body, i, 4 * g + j, q, w);                                                                            \
                UNROLL for (int r = 0; r < n_rows; r++) UNROLL for (int v = 0; v < PER_##T; v++)                               \
                {                                                                                                              \
                    const int8x16_t a = vld1q_s8(x[r] + 32 * PER_##T * i + 16 * (is_close ? 2 * g + v : 2 * v + g));           \
                    t[r][is_close ? 0 : v] = lanes_dot(t[r][is_close ? 0 : v], (int32x4_t)w[v], a, j);                         \
                }                                                                                                              \
            }                                                                                                                  \
            UNROLL for (int v = 0; v < (is_close ? 1 : PER_##T) && (is_each || g == 1); v++)                                   \
            {                                                                                                                  \
                const int32x4_t f =                                                                                            \
                    quarter(SUB == 32 ? sf[is_close ? g : v] : scale_##T(body, p, 2 * PER_##T * i + 2 * v + g), q);            \
                UNROLL for (int r = 0; r < n_rows; r++) sum[r][q] = vmlaq_s32(sum[r][q], t[r][v], f);                          \
            }                                                                                                                  \
        }                                                                                                                      \
    }                                                                                                                          \
    INL void fused_##T##_n(const uint8_t *head, const uint8_t *body, int32_t n_blocks, const struct tile_row *rows,            \
                           const int n_rows, float *y)                                                                         \
    {                                                                                                                          \
        const struct kind k = {SUB, HAS_OFFSET, IS_SIGNED, BIAS_};                                                             \
        const int8_t *x[FUSED_ROWS] = {0};                                                                                     \
        const int16_t *of_x[FUSED_ROWS] = {0};                                                                                 \
        v16 acc[FUSED_ROWS];                                                                                                   \
        UNROLL for (int r = 0; r < n_rows; r++)                                                                                \
        {                                                                                                                      \
            x[r] = rows[r].act[TILE_LONG].q;                                                                                   \
            of_x[r] = SUB == 32 ? rows[r].act[TILE_LONG].sum32 : rows[r].act[TILE_LONG].sum16;                                 \
            acc[r] = v_zero();                                                                                                 \
        }                                                                                                                      \
        for (int32_t b = 0; b < n_blocks; b++, head += 16 * HEAD, body += 16 * BODY) {                                         \
            struct prep p;                                                                                                     \
            int32x4_t sum[FUSED_ROWS][4];                                                                                      \
            vi16 less[FUSED_ROWS];                                                                                             \
            prep_##T(head, body, &p);                                                                                          \
            UNROLL for (int r = 0; r < n_rows; r++)                                                                            \
            {                                                                                                                  \
                less[r] = vi_set1(0);                                                                                          \
                sum[r][0] = sum[r][1] = sum[r][2] = sum[r][3] = vdupq_n_s32(0);                                                \
            }                                                                                                                  \
            UNROLL for (int i = 0; i < 8 / PER_##T; i++)                                                                       \
            {                                                                                                                  \
                vi16 sf[2];                                                                                                    \
                UNROLL for (int f = 0; f < PER_##T / 2; f++)                                                                   \
                    prefetch(body + PREFETCH_BYTES + (i * PER_##T / 2 + f) * (4 * BODY), 4 * BODY);                            \
                UNROLL for (int s = 0; s < 2 && SUB == 32; s++) sf[s] = scale_##T(body, &p, 2 * i + s);                        \
                UNROLL for (int q = 0; q < 4; q++) quarter_##T(body, &p, sf, x, n_rows, i, q, sum);                            \
            }                                                                                                                  \
            NEON_FORGET();                                                                                                     \
            UNROLL for (int s = 0; s < 256 / SUB && (HAS_OFFSET || BIAS_); s++)                                                \
            {                                                                                                                  \
                const int16x8x2_t side = side_##T(body, &p, s);                                                                \
                UNROLL for (int r = 0; r < n_rows; r++) less[r] = take_side(less[r], side, of_x[r][s]);                        \
            }                                                                                                                  \
            UNROLL for (int r = 0; r < n_rows; r++)                                                                            \
            {                                                                                                                  \
                const vi16 all = {sum[r][0], sum[r][1], sum[r][2], sum[r][3]};                                                 \
                acc[r] = add_block(k, acc[r], all, less[r], p.d, HAS_OFFSET ? p.m : p.d, rows[r].act[TILE_LONG].ad[b]);        \
                x[r] += 256;                                                                                                   \
                of_x[r] += 256 / SUB;                                                                                          \
            }                                                                                                                  \
        }                                                                                                                      \
        UNROLL for (int r = 0; r < n_rows; r++) v_store(y + 32 * r, acc[r]);                                                   \
    }
#endif
