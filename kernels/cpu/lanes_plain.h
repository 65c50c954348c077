/* lanes_plain - plain C arrays, for the scalar level and other architectures: one level's section of lanes.h, which includes it
 * and says what the functions mean. */
#ifndef HERON_KERNELS_CPU_LANES_PLAIN_H
#define HERON_KERNELS_CPU_LANES_PLAIN_H

#define LANES_ISA  scalar
#define LANES_BIAS 0
typedef struct {
    float f[16];
} v16;
typedef struct {
    int32_t i[16];
} vi16;
typedef struct {
    uint8_t b[64];
} b64;

#define EACH(T, m, e)                                                                                                          \
    T r;                                                                                                                       \
    for (int l = 0; l < 16; l++)                                                                                               \
        r.m[l] = (e);                                                                                                          \
    return r
#define EACHB(e)                                                                                                               \
    b64 r;                                                                                                                     \
    for (int l = 0; l < 64; l++)                                                                                               \
        r.b[l] = (uint8_t)(e);                                                                                                 \
    return r
INL v16 v_set1(float x)
{
    EACH(v16, f, x);
}
INL v16 v_load(const float *p)
{
    EACH(v16, f, p[l]);
}
INL void v_store(float *p, v16 a)
{
    memcpy(p, a.f, sizeof a.f);
}
INL v16 v_load_n(const float *p, int n)
{
    EACH(v16, f, l < n ? p[l] : 0);
}
INL void v_store_n(float *p, v16 a, int n)
{
    memcpy(p, a.f, (size_t)n * sizeof *p);
}
INL v16 v_add(v16 a, v16 b)
{
    EACH(v16, f, a.f[l] + b.f[l]);
}
INL v16 v_sub(v16 a, v16 b)
{
    EACH(v16, f, a.f[l] - b.f[l]);
}
INL v16 v_mul(v16 a, v16 b)
{
    EACH(v16, f, a.f[l] * b.f[l]);
}
INL v16 v_div(v16 a, v16 b)
{
    EACH(v16, f, a.f[l] / b.f[l]);
}
INL v16 v_fma(v16 a, v16 b, v16 c)
{
    EACH(v16, f, a.f[l] * b.f[l] + c.f[l]);
}
INL v16 v_fnma(v16 a, v16 b, v16 c)
{
    EACH(v16, f, c.f[l] - a.f[l] * b.f[l]);
}
INL v16 v_max(v16 a, v16 b)
{
    EACH(v16, f, a.f[l] > b.f[l] ? a.f[l] : b.f[l]);
}
INL v16 v_min(v16 a, v16 b)
{
    EACH(v16, f, a.f[l] < b.f[l] ? a.f[l] : b.f[l]);
}
INL v16 v_abs(v16 a)
{
    EACH(v16, f, fabsf(a.f[l]));
}
INL v16 v_round(v16 a)
{
    EACH(v16, f, rintf(a.f[l]));
}
INL v16 v_load_f16(const uint16_t *p)
{
    EACH(v16, f, kn_f16_to_f32(p[l]));
}
INL void v_store_f16(uint16_t *p, v16 a)
{
    for (int l = 0; l < 16; l++)
        p[l] = kn_f32_to_f16(a.f[l]);
}
INL v16 v_load_bf16(const uint16_t *p)
{
    EACH(v16, f, kn_bf16_to_f32(p[l]));
}
INL v16 v_load_i8(const int8_t *p)
{
    EACH(v16, f, (float)p[l]);
}
INL v16 v_load_u8(const uint8_t *p)
{
    EACH(v16, f, (float)p[l]);
}
INL v16 v_from_i(vi16 a)
{
    EACH(v16, f, (float)a.i[l]);
}
/* Out of range (a NaN, say) gives the most negative value, as the vector instructions do. */
INL int32_t lanes_to_i(float x)
{
    return x >= -2147483648.0f && x < 2147483648.0f ? (int32_t)rintf(x) : INT32_MIN;
}
INL vi16 v_to_i(v16 a)
{
    EACH(vi16, i, lanes_to_i(a.f[l]));
}
INL v16 v_bits(vi16 a)
{
    v16 r;
    memcpy(&r, &a, sizeof r);
    return r;
}
INL vi16 v_ibits(v16 a)
{
    vi16 r;
    memcpy(&r, &a, sizeof r);
    return r;
}
INL v16 v_select_lt(v16 a, v16 b, v16 t, v16 f)
{
    EACH(v16, f, a.f[l] < b.f[l] ? t.f[l] : f.f[l]);
}

INL vi16 vi_set1(int32_t x)
{
    EACH(vi16, i, x);
}
INL vi16 vi_load(const int32_t *p)
{
    EACH(vi16, i, p[l]);
}
INL void vi_store(int32_t *p, vi16 a)
{
    memcpy(p, a.i, sizeof a.i);
}
INL vi16 vi_load_i8(const int8_t *p)
{
    EACH(vi16, i, p[l]);
}
INL vi16 vi_load_u8(const uint8_t *p)
{
    EACH(vi16, i, p[l]);
}
INL vi16 vi_load_u16(const uint16_t *p)
{
    EACH(vi16, i, p[l]);
}
INL vi16 vi_add(vi16 a, vi16 b)
{
    EACH(vi16, i, (int32_t)((uint32_t)a.i[l] + (uint32_t)b.i[l]));
}
INL vi16 vi_sub(vi16 a, vi16 b)
{
    EACH(vi16, i, (int32_t)((uint32_t)a.i[l] - (uint32_t)b.i[l]));
}
INL vi16 vi_dot16(vi16 acc, vi16 a, vi16 b)
{
    EACH(vi16, i, acc.i[l] + (int16_t)a.i[l] * (int16_t)b.i[l] + (a.i[l] >> 16) * (b.i[l] >> 16));
}
INL vi16 vi_pair(vi16 a, vi16 b)
{
    EACH(vi16, i, (int32_t)(((uint32_t)a.i[l] & 0xffff) | (uint32_t)b.i[l] << 16));
}
INL vi16 vi_mul(vi16 a, vi16 b)
{
    EACH(vi16, i, (int32_t)((uint32_t)a.i[l] * (uint32_t)b.i[l]));
}
INL vi16 vi_and(vi16 a, vi16 b)
{
    EACH(vi16, i, a.i[l] & b.i[l]);
}
INL vi16 vi_or(vi16 a, vi16 b)
{
    EACH(vi16, i, a.i[l] | b.i[l]);
}
INL vi16 vi_sll(vi16 a, int n)
{
    EACH(vi16, i, (int32_t)((uint32_t)a.i[l] << n));
}
INL vi16 vi_srl(vi16 a, int n)
{
    EACH(vi16, i, (int32_t)((uint32_t)a.i[l] >> n));
}
INL vi16 vi_select_lt(vi16 a, vi16 b, vi16 t, vi16 f)
{
    EACH(vi16, i, a.i[l] < b.i[l] ? t.i[l] : f.i[l]);
}
INL int32_t vi_sum(vi16 a)
{
    int32_t s = 0;
    for (int l = 0; l < 16; l++)
        s += a.i[l];
    return s;
}
INL vi16 vi_max(vi16 a, vi16 b)
{
    EACH(vi16, i, a.i[l] > b.i[l] ? a.i[l] : b.i[l]);
}
INL int32_t vi_hmax(vi16 a)
{
    int32_t m = a.i[0];
    for (int l = 1; l < 16; l++)
        m = a.i[l] > m ? a.i[l] : m;
    return m;
}
INL void vi_store_i8(int8_t *p, vi16 a)
{
    for (int l = 0; l < 16; l++)
        p[l] = (int8_t)(a.i[l] < -128 ? -128 : a.i[l] > 127 ? 127 : a.i[l]);
}

INL b64 b_load(const void *p)
{
    b64 r;
    memcpy(&r, p, sizeof r);
    return r;
}
INL void b_store(void *p, b64 a)
{
    memcpy(p, &a, sizeof a);
}
INL b64 b_set1(int x)
{
    EACHB(x);
}
INL b64 b_and(b64 a, b64 b)
{
    EACHB(a.b[l] & b.b[l]);
}
INL b64 b_or(b64 a, b64 b)
{
    EACHB(a.b[l] | b.b[l]);
}
INL b64 b_srl(b64 a, int n)
{
    EACHB(a.b[l] >> n);
}
INL b64 b_sll(b64 a, int n)
{
    EACHB(a.b[l] << n);
}
INL b64 b_of_i(vi16 a)
{
    b64 r; /* little-endian bytes of each word, as the layout has them */
    for (int l = 0; l < 64; l++)
        r.b[l] = (uint8_t)((uint32_t)a.i[l / 4] >> (8 * (l % 4)));
    return r;
}
INL b64 b_signed(b64 a)
{
    return a;
}
INL b64 b_table(const int8_t t[16])
{
    EACHB(t[l % 16]);
}
INL b64 b_lookup(b64 t, b64 i)
{
    EACHB(t.b[i.b[l] & 15]);
}
INL vi16 b_dot_u(vi16 acc, b64 w, const int8_t *x, const int j)
{
    x += 4 * j;
    for (int l = 0; l < 16; l++)
        acc.i[l] += w.b[4 * l] * x[0] + w.b[4 * l + 1] * x[1] + w.b[4 * l + 2] * x[2] + w.b[4 * l + 3] * x[3];
    return acc;
}
INL vi16 b_dot_s(vi16 acc, b64 w, const int8_t *x, const int j)
{
    x += 4 * j;
    for (int l = 0; l < 16; l++)
        acc.i[l] += (int8_t)w.b[4 * l] * x[0] + (int8_t)w.b[4 * l + 1] * x[1] + (int8_t)w.b[4 * l + 2] * x[2] +
                    (int8_t)w.b[4 * l + 3] * x[3];
    return acc;
}
INL float v_sum(v16 a)
{
    for (int n = 8; n; n /= 2)
        for (int l = 0; l < n; l++)
            a.f[l] += a.f[l + n];
    return a.f[0];
}
INL float v_hmax(v16 a)
{
    float m = a.f[0];
    for (int l = 1; l < 16; l++)
        m = a.f[l] > m ? a.f[l] : m;
    return m;
}
/* Sums of sixteen values: lane i is the sum of a[i]; every one in the same order. */
INL v16 v_sum16(const v16 a[16])
{
    float s[16];
    for (int i = 0; i < 16; i++)
        s[i] = v_sum(a[i]);
    return v_load(s);
}
/* p[4 i + j] -> r[j] lane i */
INL void v_load4(const float *p, v16 r[4])
{
    float t[16];
    for (int j = 0; j < 4; j++) {
        for (int i = 0; i < 16; i++)
            t[i] = p[4 * i + j];
        r[j] = v_load(t);
    }
}
/* Sixteen e4m3 codes: e4m3 << 7 is the half of the value times 2^-8. */
INL v16 v_load_e4m3(const uint8_t *p)
{
    v16 r;
    for (int l = 0; l < 16; l++) {
        unsigned c = p[l] & 0x7f;
        r.f[l] = p[l] == 0x7f ? 0.0f : kn_f16_to_f32((uint16_t)(c << 7)) * 256.0f;
    }
    return r;
}
INL void lanes_prefetch(const void *p)
{
    (void)p;
}
#undef EACH
#undef EACHB
#endif
