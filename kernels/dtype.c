#include "kernels/dtype.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/rng.h"

static const struct kn_dtype_info infos[KN_DTYPE_COUNT] = {
    [KN_F32] = {"F32", 1, 4},         [KN_F16] = {"F16", 1, 2},           [KN_Q4_0] = {"Q4_0", 32, 18},
    [KN_Q4_1] = {"Q4_1", 32, 20},     [KN_Q5_0] = {"Q5_0", 32, 22},       [KN_Q5_1] = {"Q5_1", 32, 24},
    [KN_Q8_0] = {"Q8_0", 32, 34},     [KN_Q2_K] = {"Q2_K", 256, 84},      [KN_Q3_K] = {"Q3_K", 256, 110},
    [KN_Q4_K] = {"Q4_K", 256, 144},   [KN_Q5_K] = {"Q5_K", 256, 176},     [KN_Q6_K] = {"Q6_K", 256, 210},
    [KN_IQ4_NL] = {"IQ4_NL", 32, 18}, [KN_IQ4_XS] = {"IQ4_XS", 256, 136}, [KN_I32] = {"I32", 1, 4},
    [KN_BF16] = {"BF16", 1, 2},       [KN_MXFP4] = {"MXFP4", 32, 17},     [KN_NVFP4] = {"NVFP4", 64, 36},
};

_Static_assert(sizeof(struct kn_block_q4_0) == 18 && sizeof(struct kn_block_q4_1) == 20, "block layout");
_Static_assert(sizeof(struct kn_block_q5_0) == 22 && sizeof(struct kn_block_q5_1) == 24, "block layout");
_Static_assert(sizeof(struct kn_block_q8_0) == 34 && sizeof(struct kn_block_q2_k) == 84, "block layout");
_Static_assert(sizeof(struct kn_block_q3_k) == 110 && sizeof(struct kn_block_q4_k) == 144, "block layout");
_Static_assert(sizeof(struct kn_block_q5_k) == 176 && sizeof(struct kn_block_q6_k) == 210, "block layout");
_Static_assert(sizeof(struct kn_block_iq4_nl) == 18 && sizeof(struct kn_block_iq4_xs) == 136, "block layout");
_Static_assert(sizeof(struct kn_block_mxfp4) == 17 && sizeof(struct kn_block_nvfp4) == 36, "block layout");

const int8_t kn_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t kn_fp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

const struct kn_dtype_info *kn_dtype_info(int code)
{
    return code >= 0 && code < KN_DTYPE_COUNT && infos[code].block_elems ? &infos[code] : NULL;
}

const char *kn_dtype_name(int code)
{
    static const struct {
        int code;
        const char *name;
    } others[] = {{9, "Q8_1"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"},
                  {19, "IQ1_S"}, {21, "IQ3_S"}, {22, "IQ2_S"},   {24, "I8"},     {25, "I16"},
                  {27, "I64"},   {28, "F64"},   {29, "IQ1_M"},   {34, "TQ1_0"},  {35, "TQ2_0"}};
    const struct kn_dtype_info *info = kn_dtype_info(code);
    if (info)
        return info->name;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i].code == code)
            return others[i].name;
    return "unknown";
}

bool kn_dtype_parse(const char *name, enum kn_dtype *ret_dtype)
{
    for (int i = 0; i < KN_DTYPE_COUNT; i++)
        if (infos[i].name && strcasecmp(infos[i].name, name) == 0) {
            *ret_dtype = (enum kn_dtype)i;
            return true;
        }
    return false;
}

size_t kn_row_bytes(enum kn_dtype dtype, int64_t n)
{
    const struct kn_dtype_info *info = kn_dtype_info((int)dtype);
    if (!info || n < 0 || n % info->block_elems != 0)
        return 0;
    return (size_t)(n / info->block_elems) * info->block_bytes;
}

/* ---- half and bfloat16 ------------------------------------------------------------------------------------------------------- */

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint32_t to_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

float kn_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 0x1F, mantissa = h & 0x3FF;
    if (exponent == 0) /* zero and denormals: mantissa * 2^-24, exact */
        return from_bits(sign | to_bits((float)mantissa * 0x1p-24f));
    if (exponent == 31)
        return from_bits(sign | 0x7F800000 | mantissa << 13);
    return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t kn_f32_to_f16(float f)
{
    const uint32_t u = to_bits(f), magnitude = u & 0x7FFFFFFF;
    const uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    if (magnitude > 0x7F800000) /* a quiet NaN keeps the top of its payload */
        return (uint16_t)(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
    if (magnitude >= 0x477FF000) /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7C00);
    if (magnitude < 0x38800000) { /* denormal: adding 0.5 lets the hardware round to a multiple of 2^-24 */
        const float shifted = from_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (to_bits(shifted) - 0x3F000000));
    }
    const uint32_t rounded = magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1);
    return (uint16_t)(sign | rounded >> 13);
}

float kn_bf16_to_f32(uint16_t h)
{
    return from_bits((uint32_t)h << 16);
}

uint16_t kn_f32_to_bf16(float f)
{
    const uint32_t u = to_bits(f);
    if ((u & 0x7FFFFFFF) > 0x7F800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

/* ---- reading blocks ---------------------------------------------------------------------------------------------------------- */

/* Scale and minimum number b (0 .. 7) of the 12 packed bytes of Q4_K and Q5_K. */
static void scale_min_k4(int b, const uint8_t *s, int *scale, int *min)
{
    if (b < 4) {
        *scale = s[b] & 63;
        *min = s[b + 4] & 63;
    } else {
        *scale = (s[b + 4] & 15) | (s[b - 4] >> 6) << 4;
        *min = s[b + 4] >> 4 | (s[b] >> 6) << 4;
    }
}

static void read_q4_0(const struct kn_block_q4_0 *b, float *y)
{
    const float d = kn_f16_to_f32(b->d);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((b->qs[i] & 15) - 8);
        y[16 + i] = d * (float)((b->qs[i] >> 4) - 8);
    }
}

static void read_q4_1(const struct kn_block_q4_1 *b, float *y)
{
    const float d = kn_f16_to_f32(b->d), m = kn_f16_to_f32(b->m);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)(b->qs[i] & 15) + m;
        y[16 + i] = d * (float)(b->qs[i] >> 4) + m;
    }
}

static int bit(const uint8_t *bits, int i)
{
    return bits[i / 8] >> (i % 8) & 1;
}

static void read_q5_0(const struct kn_block_q5_0 *b, float *y)
{
    const float d = kn_f16_to_f32(b->d);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)(((b->qs[i] & 15) | bit(b->qh, i) << 4) - 16);
        y[16 + i] = d * (float)((b->qs[i] >> 4 | bit(b->qh, 16 + i) << 4) - 16);
    }
}

static void read_q5_1(const struct kn_block_q5_1 *b, float *y)
{
    const float d = kn_f16_to_f32(b->d), m = kn_f16_to_f32(b->m);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((b->qs[i] & 15) | bit(b->qh, i) << 4) + m;
        y[16 + i] = d * (float)(b->qs[i] >> 4 | bit(b->qh, 16 + i) << 4) + m;
    }
}

static void read_q8_0(const struct kn_block_q8_0 *b, float *y)
{
    const float d = kn_f16_to_f32(b->d);
    for (int i = 0; i < 32; i++)
        y[i] = d * (float)b->qs[i];
}

static void read_q2_k(const struct kn_block_q2_k *b, float *y)
{
    const float d = kn_f16_to_f32(b->d), dmin = kn_f16_to_f32(b->dmin);
    for (int v = 0; v < 256; v++) {
        const int n = v / 128, j = v / 32 % 4, l = v % 32, s = b->scales[v / 16];
        const int q = b->qs[32 * n + l] >> 2 * j & 3;
        y[v] = d * (float)(s & 15) * (float)q - dmin * (float)(s >> 4);
    }
}

static void read_q3_k(const struct kn_block_q3_k *b, float *y)
{
    const float d = kn_f16_to_f32(b->d);
    const uint8_t *s = b->scales;
    for (int v = 0; v < 256; v++) {
        const int n = v / 128, j = v / 32 % 4, l = v % 32, k = v / 16;
        const int low = k < 8 ? s[k] & 15 : s[k - 8] >> 4, high = s[8 + k % 4] >> 2 * (k / 4) & 3;
        const int q = (b->qs[32 * n + l] >> 2 * j & 3) - (b->hmask[l] >> (4 * n + j) & 1 ? 0 : 4);
        y[v] = d * (float)((low | high << 4) - 32) * (float)q;
    }
}

static void read_q4_k(const struct kn_block_q4_k *b, float *y)
{
    const float d = kn_f16_to_f32(b->d), dmin = kn_f16_to_f32(b->dmin);
    for (int s = 0; s < 8; s++) {
        int scale, min;
        scale_min_k4(s, b->scales, &scale, &min);
        const float ds = d * (float)scale, ms = dmin * (float)min;
        for (int l = 0; l < 32; l++)
            y[32 * s + l] = ds * (float)(b->qs[32 * (s / 2) + l] >> 4 * (s % 2) & 15) - ms;
    }
}

static void read_q5_k(const struct kn_block_q5_k *b, float *y)
{
    const float d = kn_f16_to_f32(b->d), dmin = kn_f16_to_f32(b->dmin);
    for (int s = 0; s < 8; s++) {
        int scale, min;
        scale_min_k4(s, b->scales, &scale, &min);
        const float ds = d * (float)scale, ms = dmin * (float)min;
        for (int l = 0; l < 32; l++) {
            const int q = (b->qs[32 * (s / 2) + l] >> 4 * (s % 2) & 15) | (b->qh[l] >> s & 1) << 4;
            y[32 * s + l] = ds * (float)q - ms;
        }
    }
}

static void read_q6_k(const struct kn_block_q6_k *b, float *y)
{
    const float d = kn_f16_to_f32(b->d);
    for (int n = 0; n < 2; n++)
        for (int l = 0; l < 32; l++) {
            const uint8_t *L = b->ql + 64 * n, *H = b->qh + 32 * n;
            const int8_t *S = b->scales + 8 * n;
            const int q[4] = {(L[l] & 15) | (H[l] & 3) << 4, (L[l + 32] & 15) | (H[l] >> 2 & 3) << 4,
                              L[l] >> 4 | (H[l] >> 4 & 3) << 4, L[l + 32] >> 4 | (H[l] >> 6) << 4};
            for (int k = 0; k < 4; k++)
                y[128 * n + 32 * k + l] = d * (float)S[2 * k + l / 16] * (float)(q[k] - 32);
        }
}

static void read_iq4_nl(const struct kn_block_iq4_nl *b, float *y)
{
    const float d = kn_f16_to_f32(b->d);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)kn_iq4_values[b->qs[i] & 15];
        y[16 + i] = d * (float)kn_iq4_values[b->qs[i] >> 4];
    }
}

static void read_iq4_xs(const struct kn_block_iq4_xs *b, float *y)
{
    const float d = kn_f16_to_f32(b->d);
    for (int s = 0; s < 8; s++) {
        const int scale = (b->scales_l[s / 2] >> 4 * (s % 2) & 15) | (b->scales_h >> 2 * s & 3) << 4;
        const float ds = d * (float)(scale - 32);
        for (int i = 0; i < 16; i++) {
            y[32 * s + i] = ds * (float)kn_iq4_values[b->qs[16 * s + i] & 15];
            y[32 * s + 16 + i] = ds * (float)kn_iq4_values[b->qs[16 * s + i] >> 4];
        }
    }
}

static void read_mxfp4(const struct kn_block_mxfp4 *b, float *y)
{
    const float d = ldexpf(1.0f, (int)b->e - 128); /* the table is e2m1 times two */
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)kn_fp4_values[b->qs[i] & 15];
        y[16 + i] = d * (float)kn_fp4_values[b->qs[i] >> 4];
    }
}

/* Unsigned e4m3, bias 7; codes 0 and 0x7F mean 0. */
static float e4m3(uint8_t code)
{
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    if (code == 0 || code == 0x7F)
        return 0;
    return exponent ? ldexpf((float)(8 + mantissa), exponent - 10) : ldexpf((float)mantissa, -9);
}

static void read_nvfp4(const struct kn_block_nvfp4 *b, float *y)
{
    for (int g = 0; g < 4; g++) {
        const float d = 0.5f * e4m3(b->d[g]);
        for (int i = 0; i < 8; i++) {
            y[16 * g + i] = d * (float)kn_fp4_values[b->qs[8 * g + i] & 15];
            y[16 * g + 8 + i] = d * (float)kn_fp4_values[b->qs[8 * g + i] >> 4];
        }
    }
}

void kn_dequantize(enum kn_dtype dtype, const void *src, int64_t n, float *dst)
{
#define BLOCKS(code, type)                                                                                                     \
    case code:                                                                                                                 \
        for (int64_t i = 0; i < n / infos[code].block_elems; i++)                                                              \
            read_##type((const struct kn_block_##type *)src + i, dst + i * infos[code].block_elems);                           \
        break
    switch (dtype) {
    case KN_F32: memcpy(dst, src, (size_t)n * sizeof(float)); break;
    case KN_F16:
        for (int64_t i = 0; i < n; i++) {
            uint16_t h;
            memcpy(&h, (const char *)src + 2 * i, sizeof h);
            dst[i] = kn_f16_to_f32(h);
        }
        break;
    case KN_BF16:
        for (int64_t i = 0; i < n; i++) {
            uint16_t h;
            memcpy(&h, (const char *)src + 2 * i, sizeof h);
            dst[i] = kn_bf16_to_f32(h);
        }
        break;
        BLOCKS(KN_Q4_0, q4_0);
        BLOCKS(KN_Q4_1, q4_1);
        BLOCKS(KN_Q5_0, q5_0);
        BLOCKS(KN_Q5_1, q5_1);
        BLOCKS(KN_Q8_0, q8_0);
        BLOCKS(KN_Q2_K, q2_k);
        BLOCKS(KN_Q3_K, q3_k);
        BLOCKS(KN_Q4_K, q4_k);
        BLOCKS(KN_Q5_K, q5_k);
        BLOCKS(KN_Q6_K, q6_k);
        BLOCKS(KN_IQ4_NL, iq4_nl);
        BLOCKS(KN_IQ4_XS, iq4_xs);
        BLOCKS(KN_MXFP4, mxfp4);
        BLOCKS(KN_NVFP4, nvfp4);
    case KN_I32:
    case KN_DTYPE_COUNT: break; /* not weights; refused by kn_weight_begin */
    }
#undef BLOCKS
}

/* ---- writing ----------------------------------------------------------------------------------------------------------------- */

/*
 * A block with an infinity or a NaN in it becomes NaN as a whole: its integers cannot say anything else, and a broken
 * activation must stay visible. Where 1 / d overflows, d is far below what a half can hold and the block is zero.
 */
#define HALF_NAN 0x7E00

static bool all_finite(const float *x)
{
    bool finite = true;
    for (int i = 0; i < 32; i++)
        finite &= isfinite(x[i]) != 0;
    return finite;
}

static float inverse_of(float d)
{
    const float inverse = d != 0 ? 1.0f / d : 0;
    return isfinite(inverse) ? inverse : 0;
}

static void write_q8_0(const float *x, struct kn_block_q8_0 *b)
{
    if (!all_finite(x)) {
        memset(b, 1, sizeof *b);
        b->d = HALF_NAN;
        return;
    }
    float top = 0;
    for (int i = 0; i < 32; i++)
        top = fmaxf(top, fabsf(x[i]));
    const float d = top / 127.0f, inverse = inverse_of(d);
    b->d = kn_f32_to_f16(d);
    for (int i = 0; i < 32; i++)
        b->qs[i] = (int8_t)roundf(x[i] * inverse);
}

static void write_q4_0(const float *x, struct kn_block_q4_0 *b)
{
    if (!all_finite(x)) {
        memset(b, 0, sizeof *b);
        b->d = HALF_NAN;
        return;
    }
    /* the value of largest magnitude, with its sign, becomes -8 */
    float top = 0;
    for (int i = 0; i < 32; i++)
        if (fabsf(x[i]) > fabsf(top))
            top = x[i];
    const float d = top / -8.0f, inverse = inverse_of(d);
    b->d = kn_f32_to_f16(d);
    for (int i = 0; i < 16; i++) {
        const int lo = (int)fminf(15, fmaxf(0, roundf(x[i] * inverse + 8)));
        const int hi = (int)fminf(15, fmaxf(0, roundf(x[16 + i] * inverse + 8)));
        b->qs[i] = (uint8_t)(lo | hi << 4);
    }
}

bool kn_quantize(enum kn_dtype dtype, const float *src, int64_t n, void *dst)
{
    uint16_t h;
    switch (dtype) {
    case KN_F32: memcpy(dst, src, (size_t)n * sizeof(float)); return true;
    case KN_F16:
    case KN_BF16:
        for (int64_t i = 0; i < n; i++) {
            h = dtype == KN_F16 ? kn_f32_to_f16(src[i]) : kn_f32_to_bf16(src[i]);
            memcpy((char *)dst + 2 * i, &h, sizeof h);
        }
        return true;
    case KN_Q8_0:
        for (int64_t i = 0; i < n / 32; i++)
            write_q8_0(src + 32 * i, (struct kn_block_q8_0 *)dst + i);
        return true;
    case KN_Q4_0:
        for (int64_t i = 0; i < n / 32; i++)
            write_q4_0(src + 32 * i, (struct kn_block_q4_0 *)dst + i);
        return true;
    default: return false;
    }
}

/* ---- noise ------------------------------------------------------------------------------------------------------------------- */

/*
 * Blocks are random bits with their scales set so that values have about zero mean and the standard deviation asked for. The
 * figures are the standard deviations, in units of d, of each type's values under uniform bits (and, where scales vary inside a
 * block, uniform scales).
 */
static void set_scale(enum kn_dtype dtype, float s, uint8_t *block)
{
#define AS(type) ((struct kn_block_##type *)block)
    switch (dtype) {
    case KN_Q4_0: AS(q4_0)->d = kn_f32_to_f16(s / 4.64f); break;
    case KN_Q4_1:
        AS(q4_1)->d = kn_f32_to_f16(s / 4.61f);
        AS(q4_1)->m = kn_f32_to_f16(-7.5f * s / 4.61f);
        break;
    case KN_Q5_0: AS(q5_0)->d = kn_f32_to_f16(s / 9.25f); break;
    case KN_Q5_1:
        AS(q5_1)->d = kn_f32_to_f16(s / 9.23f);
        AS(q5_1)->m = kn_f32_to_f16(-15.5f * s / 9.23f);
        break;
    case KN_Q8_0: AS(q8_0)->d = kn_f32_to_f16(s / 73.9f); break;
    case KN_Q2_K: /* scale 0..15 times 0..3, minimum 0..15 times 1.5 d */
        AS(q2_k)->d = kn_f32_to_f16(s / 13.7f);
        AS(q2_k)->dmin = kn_f32_to_f16(1.5f * s / 13.7f);
        break;
    case KN_Q3_K: AS(q3_k)->d = kn_f32_to_f16(s / 42.3f); break;
    case KN_Q4_K: /* scale 0..63 times 0..15, minimum 0..63 times 7.5 d */
        AS(q4_k)->d = kn_f32_to_f16(s / 256.0f);
        AS(q4_k)->dmin = kn_f32_to_f16(7.5f * s / 256.0f);
        break;
    case KN_Q5_K:
        AS(q5_k)->d = kn_f32_to_f16(s / 524.0f);
        AS(q5_k)->dmin = kn_f32_to_f16(15.5f * s / 524.0f);
        break;
    case KN_Q6_K: AS(q6_k)->d = kn_f32_to_f16(s / 1366.0f); break;
    case KN_IQ4_NL: AS(iq4_nl)->d = kn_f32_to_f16(s / 69.0f); break;
    case KN_IQ4_XS: AS(iq4_xs)->d = kn_f32_to_f16(s / 1275.0f); break;
    case KN_MXFP4: AS(mxfp4)->e = (uint8_t)(128 + (int)lrintf(log2f(s / 6.0f))); break;
    case KN_NVFP4: { /* the nearest e4m3 code below */
        const float want = s / 3.0f;
        uint8_t code = 1;
        while (code < 0x7E && e4m3((uint8_t)(code + 1)) <= want)
            code++;
        memset(AS(nvfp4)->d, code, sizeof AS(nvfp4)->d);
        break;
    }
    default: break;
    }
#undef AS
}

void kn_fill_noise(enum kn_dtype dtype, uint64_t seed, float stddev, int64_t n, void *dst)
{
    const struct kn_dtype_info *info = &infos[dtype];
    if (info->block_elems == 1) {
        for (int64_t i = 0; i < n; i++) {
            /* the sum of eight random bytes: near normal, standard deviation 209.02 */
            const uint64_t z = rng_at(seed, (uint64_t)i);
            int sum = -1020;
            for (int k = 0; k < 8; k++)
                sum += (int)(z >> 8 * k & 0xFF);
            const float x = (float)sum * (stddev / 209.02f);
            kn_quantize(dtype, &x, 1, (char *)dst + (size_t)i * info->block_bytes);
        }
        return;
    }
    const int words = (info->block_bytes + 7) / 8;
    for (int64_t b = 0; b < n / info->block_elems; b++) {
        uint64_t bits[32] = {0};
        for (int w = 0; w < words; w++)
            bits[w] = rng_at(seed, (uint64_t)(b * words + w));
        uint8_t *block = (uint8_t *)dst + (size_t)b * info->block_bytes;
        memcpy(block, bits, info->block_bytes);
        set_scale(dtype, stddev, block);
    }
}
