/*
 * forms - how the CUDA device keeps weights: the codes and scales of every GGUF type, ordered as the tensor cores take them.
 *
 * A weight is cut into tiles of 16 rows; a tile into groups of 64 columns (256 where the type shares scales among 256), one after the other along the row. A group is as many bytes
 * as the GGUF blocks it was made of. Inside, 64 columns are a strip: what four mma of m16n8k16 take. Lane l, with g = l / 4 and t = l % 4, owns of a strip the columns
 * 16 t ... 16 t + 15 of the rows g and g + 8; step i of four takes of them the columns 16 t + 4 i ... + 3, in this order:
 *
 *   a[0]: row g, columns 0, 1   a[1]: row g + 8, columns 0, 1   a[2]: row g, columns 2, 3   a[3]: row g + 8, columns 2, 3
 *
 * which is a permutation of the columns that an mma's k index means, and which the activations follow: the lane's 16 columns are 32 bytes in a row of halves.
 *
 * Codes lie in planes of 4, 2, 1, 8 or 16 bits a code, each a run of whole words of lane 0, 1, ... 31, so that a warp reads 512, 256 or 128 bytes side by side. In a plane of n bits
 * the codes of step i are at pair j (= a[j]'s two) 16 bits apart: they become two halves by a shift, an and, and an or with 1024 (0x6400), whose last bit counts 1.
 * After the codes come the group's scales, row by row.
 *
 * A weight in half precision is q * s + o with q exact, s = d * scale and o rounded to 11 bits, and the result rounded once: within 2^-11 of the larger term. That is a normalised
 * mean squared error below 1e-7, a hundredth of what rounding activations to eight bits costs.
 */
#ifndef HERON_KERNELS_CUDA_FORMS_CUH
#define HERON_KERNELS_CUDA_FORMS_CUH

#include "kernels/cuda/lanes.cuh"

#define FORM_STRIP 64 /* columns */
#define FORM_STEPS 4

#define HALF_1024 0x64006400u /* two halves of 1024 */

static __device__ __forceinline__ uint32_t half_twice(uint32_t half)
{
    return half | half << 16;
}

static __device__ __forceinline__ uint32_t low_twice(uint32_t pair)
{
    return pick_bytes(pair, 0, 0x1010);
}

static __device__ __forceinline__ uint32_t high_twice(uint32_t pair)
{
    return pick_bytes(pair, 0, 0x3232);
}

/* An integer 0 ... 1023 in each half of v, less `bias`, as halves; exact. */
static __device__ __forceinline__ uint32_t integers(uint32_t v, int bias)
{
    return add_f16x2(v | HALF_1024, half_twice((uint32_t)(0xe400 + bias))); /* -(1024 + bias): one step of 1 an integer */
}

static __device__ __forceinline__ uint32_t word_of(const uint4 &v, int i)
{
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* Pair j of a step's word of a plane of four bits. */
static __device__ __forceinline__ uint32_t nibbles(uint32_t w, int j)
{
    return w >> 4 * j & 0x000f000fu;
}

/* Of a plane of two bits (two words a lane and strip, two steps a word), at bits 4 and 5. */
static __device__ __forceinline__ uint32_t pairs_of_bits(uint32_t w, int i, int j)
{
    return w >> 2 * (4 * (i & 1) + j) << 4 & 0x00300030u;
}

/* Of a plane of one bit (a word a lane and strip), at bit `to`. */
static __device__ __forceinline__ uint32_t single_bits(uint32_t w, int i, int j, int to)
{
    return w >> (4 * i + j) << to & 0x00010001u << to;
}

/* The scales of the two rows of a strip: halves, each twice. Offsets are where the form has them. */
struct form_scale {
    uint32_t s[2], o[2];
};

static __device__ __forceinline__ void scaled(uint32_t a[4], const form_scale &f)
{
    for (int j = 0; j < 4; j++)
        a[j] = mul_f16x2(a[j], f.s[j & 1]);
}

static __device__ __forceinline__ void scaled_and_moved(uint32_t a[4], const form_scale &f)
{
    for (int j = 0; j < 4; j++)
        a[j] = fma_f16x2(a[j], f.s[j & 1], f.o[j & 1]);
}

/* The 16-entry table of IQ4_NL and IQ4_XS as bytes: what four nibbles (of bytes) mean, plus 128. */
static __device__ __forceinline__ uint32_t iq4_bytes(uint32_t nibbles_in_bytes)
{
    /* -127 -104 -83 -65 | -49 -35 -22 -10 | 1 13 25 38 | 53 69 89 113, each plus 128 */
    const uint32_t t0 = 0x3f2d1801u, t1 = 0x766a5d4fu, t2 = 0xa6998d81u, t3 = 0xf1d9c5b5u;
    const uint32_t which = nibbles_in_bytes & 0x07070707u;
    const uint32_t sel = (which & 0xf) | (which >> 4 & 0xf0) | (which >> 8 & 0xf00) | (which >> 12 & 0xf000);
    const uint32_t low = pick_bytes(t0, t1, sel), high = pick_bytes(t2, t3, sel);
    const uint32_t upper = (nibbles_in_bytes >> 3 & 0x01010101u) * 0xff;
    return (low & ~upper) | (high & upper);
}

/* Pairs of table values: a[j] from the nibbles of a step's word. */
static __device__ __forceinline__ void iq4_values(uint32_t w, uint32_t a[4])
{
    /* byte b of `even` is nibble 2b of the word: of pairs 0 (bytes 0, 2) and 2 (bytes 1, 3); `odd`: of pairs 1 and 3 */
    const uint32_t even = iq4_bytes(w & 0x0f0f0f0fu), odd = iq4_bytes(w >> 4 & 0x0f0f0f0fu);
    const uint32_t less = half_twice(0xe480); /* -1152 */
    a[0] = add_f16x2(pick_bytes(even, 0x64646464u, 0x4240), less);
    a[2] = add_f16x2(pick_bytes(even, 0x64646464u, 0x4341), less);
    a[1] = add_f16x2(pick_bytes(odd, 0x64646464u, 0x4240), less);
    a[3] = add_f16x2(pick_bytes(odd, 0x64646464u, 0x4341), less);
}

/* Pairs of e2m1 values, times two (as kn_fp4_values): sign, two bits of exponent, one of mantissa, moved to a half's place and range. */
static __device__ __forceinline__ void fp4_values(uint32_t w, uint32_t a[4])
{
    for (int j = 0; j < 4; j++) {
        const uint32_t n = nibbles(w, j);
        a[j] = mul_f16x2((n & 0x00080008u) << 12 | (n & 0x00070007u) << 9, half_twice(0x7800)); /* 2^14 is the bias */
    }
}

static __device__ __forceinline__ void four_bits(uint32_t w, int bias, uint32_t a[4])
{
    for (int j = 0; j < 4; j++)
        a[j] = integers(nibbles(w, j), bias);
}

/*
 * Sub-scales and minima of Q4_K and Q5_K: of each 32 columns 12 bits, scale then min. A lane needs those of its half of every strip: 48 bits, so a row's four words are d and dmin,
 * the first 32 bits of the even sub-blocks, of the odd ones, and the last 16 of both. A lane keeps three of them.
 */
struct scales_k {
    uint32_t d, lo, hi;
};

static __device__ __forceinline__ void load_scales_k(scales_k row[2], const uint8_t *scales, int lane)
{
    for (int k = 0; k < 2; k++) {
        const uint32_t *p = (const uint32_t *)(scales + 16 * (lane / 4 + 8 * k));
        row[k] = {p[0], p[1 + (lane >> 1 & 1)], p[3]};
    }
}

/* Where bit `bit` of the 48 of a half stands behind d and dmin. */
static __host__ __device__ __forceinline__ int scale_bit_of(int half, int bit)
{
    return bit < 32 ? 32 * half + bit : 64 + 16 * half + bit - 32;
}

/* d * scale and -dmin * min of both rows' strip, each twice. */
static __device__ __forceinline__ form_scale scale_k(const scales_k row[2], int strip, int lane)
{
    form_scale f;
    for (int k = 0; k < 2; k++) {
        const uint32_t lo = row[k].lo, hi = lane & 2 ? row[k].hi >> 16 : row[k].hi & 0xffff;
        const uint32_t p = (strip == 0 ? lo : strip == 1 ? lo >> 12 : strip == 2 ? lo >> 24 | hi << 8 : hi >> 4) & 0xfff;
        const uint32_t v = mul_f16x2(integers((p & 63) | (p >> 6) << 16, 0), row[k].d ^ 0x80000000u);
        f.s[k] = low_twice(v);
        f.o[k] = high_twice(v);
    }
    return f;
}

/* ---- the forms ------------------------------------------------------------------------------------------------------------------
 *
 * STRIPS of a group, its BYTES, where its scales begin. `raw` is what a lane holds of a group, read by load(); scale() and step() make fragments of it.
 */

/* F16; BF16 too, whose rows are brought to the range of halves by a power of two. */
struct form_f16 {
    enum { STRIPS = 1, BYTES = 16 * 64 * 2 };
    struct raw {
        uint4 v[4];
    };
    static __device__ __forceinline__ void load(raw &r, const uint8_t *tile, int i_group, int lane, int which)
    {
        const uint8_t *group = tile + (int64_t)i_group * BYTES;
        for (int i = 0; i < 4; i++)
            r.v[i] = load_once(group + 512 * i + 16 * lane);
    }
    static __device__ __forceinline__ form_scale scale(const raw &r, int strip, int lane)
    {
        return {};
    }
    static __device__ __forceinline__ void step(const raw &r, const form_scale &f, int strip, int i, uint32_t a[4])
    {
        for (int j = 0; j < 4; j++)
            a[j] = word_of(r.v[i], j);
    }
};

/* Two scales a row and strip, for 32 columns each: one word. */
static __device__ __forceinline__ form_scale scale_32(const uint32_t d[2], int lane)
{
    const bool is_second = lane & 2;
    form_scale f = {};
    for (int k = 0; k < 2; k++)
        f.s[k] = is_second ? high_twice(d[k]) : low_twice(d[k]);
    return f;
}

static __device__ __forceinline__ void load_words(uint32_t d[2], const uint8_t *scales, int lane)
{
    d[0] = *(const uint32_t *)(scales + 4 * (lane / 4));
    d[1] = *(const uint32_t *)(scales + 4 * (lane / 4 + 8));
}

struct form_q8_0 {
    enum { STRIPS = 1, BYTES = 16 * 2 * 34, SCALES = 1024 };
    struct raw {
        uint4 v[2];
        uint32_t d[2];
    };
    static __device__ __forceinline__ void load(raw &r, const uint8_t *tile, int i_group, int lane, int which)
    {
        const uint8_t *group = tile + (int64_t)i_group * BYTES;
        r.v[0] = load_once(group + 16 * lane);
        r.v[1] = load_once(group + 512 + 16 * lane);
        load_words(r.d, group + SCALES, lane);
    }
    static __device__ __forceinline__ form_scale scale(const raw &r, int strip, int lane)
    {
        return scale_32(r.d, lane);
    }
    /* Words 2i and 2i + 1: bytes of a[0] and a[1], then of a[2] and a[3], plus 128. */
    static __device__ __forceinline__ void step(const raw &r, const form_scale &f, int strip, int i, uint32_t a[4])
    {
        const uint32_t less = half_twice(0xe480); /* -1152 */
        const uint32_t w0 = word_of(r.v[i / 2], 2 * (i & 1)), w1 = word_of(r.v[i / 2], 2 * (i & 1) + 1);
        a[0] = add_f16x2(pick_bytes(w0, 0x64646464u, 0x4140), less);
        a[1] = add_f16x2(pick_bytes(w0, 0x64646464u, 0x4342), less);
        a[2] = add_f16x2(pick_bytes(w1, 0x64646464u, 0x4140), less);
        a[3] = add_f16x2(pick_bytes(w1, 0x64646464u, 0x4342), less);
        scaled(a, f);
    }
};

struct form_q4_k {
    enum { STRIPS = 4, BYTES = 16 * 144, SCALES = 2048 };
    struct raw {
        uint4 v[4];
        scales_k row[2];
    };
    static __device__ __forceinline__ void load(raw &r, const uint8_t *tile, int i_group, int lane, int which)
    {
        const uint8_t *group = tile + (int64_t)i_group * BYTES;
        for (int s = 0; s < 4; s++)
            r.v[s] = load_once(group + 512 * s + 16 * lane);
        load_scales_k(r.row, group + SCALES, lane);
    }
    static __device__ __forceinline__ form_scale scale(const raw &r, int strip, int lane)
    {
        return scale_k(r.row, strip, lane);
    }
    static __device__ __forceinline__ void step(const raw &r, const form_scale &f, int strip, int i, uint32_t a[4])
    {
        four_bits(word_of(r.v[strip], i), 0, a);
        scaled_and_moved(a, f);
    }
};

struct form_q5_k {
    enum { STRIPS = 4, BYTES = 16 * 176, ONES = 2048, SCALES = 2560 };
    struct raw {
        uint4 v[4];
        scales_k row[2];
        uint32_t h[4];
    };
    static __device__ __forceinline__ void load(raw &r, const uint8_t *tile, int i_group, int lane, int which)
    {
        const uint8_t *group = tile + (int64_t)i_group * BYTES;
        for (int s = 0; s < 4; s++) {
            r.v[s] = load_once(group + 512 * s + 16 * lane);
            r.h[s] = *(const uint32_t *)(group + ONES + 128 * s + 4 * lane);
        }
        load_scales_k(r.row, group + SCALES, lane);
    }
    static __device__ __forceinline__ form_scale scale(const raw &r, int strip, int lane)
    {
        return scale_k(r.row, strip, lane);
    }
    static __device__ __forceinline__ void step(const raw &r, const form_scale &f, int strip, int i, uint32_t a[4])
    {
        for (int j = 0; j < 4; j++)
            a[j] = integers(nibbles(word_of(r.v[strip], i), j) | single_bits(r.h[strip], i, j, 4), 0);
        scaled_and_moved(a, f);
    }
};

struct form_q6_k {
    enum { STRIPS = 4, BYTES = 16 * 210, TWOS = 2048, SCALES = 3072, DS = 3328 };
    struct raw {
        uint4 v[4];
        uint2 h[4];
        uint32_t sub[2]; /* sub-scales: byte s is strip s's, of this lane's 16 columns */
        uint32_t d[2];
    };
    /* A row's 16 sub-scales lie lane's columns first: those of t = 0 of all strips, then of t = 1 ... */
    static __device__ __forceinline__ void load(raw &r, const uint8_t *tile, int i_group, int lane, int which)
    {
        const uint8_t *group = tile + (int64_t)i_group * BYTES;
        for (int s = 0; s < 4; s++) {
            r.v[s] = load_once(group + 512 * s + 16 * lane);
            r.h[s] = *(const uint2 *)(group + TWOS + 256 * s + 8 * lane);
        }
        for (int k = 0; k < 2; k++) {
            r.sub[k] = *(const uint32_t *)(group + SCALES + 16 * (lane / 4 + 8 * k) + 4 * (lane & 3));
            r.d[k] = *(const uint16_t *)(group + DS + 2 * (lane / 4 + 8 * k));
        }
    }
    static __device__ __forceinline__ form_scale scale(const raw &r, int strip, int lane)
    {
        form_scale f = {};
        for (int k = 0; k < 2; k++) {
            const uint32_t byte = (r.sub[k] >> 8 * strip & 0xff) ^ 0x80;
            f.s[k] = mul_f16x2(integers(half_twice(byte), 128), half_twice(r.d[k]));
        }
        return f;
    }
    static __device__ __forceinline__ void step(const raw &r, const form_scale &f, int strip, int i, uint32_t a[4])
    {
        const uint32_t h = i < 2 ? r.h[strip].x : r.h[strip].y;
        for (int j = 0; j < 4; j++)
            a[j] = integers(nibbles(word_of(r.v[strip], i), j) | pairs_of_bits(h, i, j), 32);
        scaled(a, f);
    }
};

struct form_iq4_xs {
    enum { STRIPS = 4, BYTES = 16 * 136, SCALES = 2048 };
    struct raw {
        uint4 v[4];
        uint2 row[2]; /* d, then eight sub-scales of 6 bits: those of the even sub-blocks first */
    };
    static __device__ __forceinline__ void load(raw &r, const uint8_t *tile, int i_group, int lane, int which)
    {
        const uint8_t *group = tile + (int64_t)i_group * BYTES;
        for (int s = 0; s < 4; s++)
            r.v[s] = load_once(group + 512 * s + 16 * lane);
        for (int k = 0; k < 2; k++)
            r.row[k] = *(const uint2 *)(group + SCALES + 8 * (lane / 4 + 8 * k));
    }
    static __device__ __forceinline__ form_scale scale(const raw &r, int strip, int lane)
    {
        form_scale f = {};
        for (int k = 0; k < 2; k++) {
            const uint32_t six = lane & 2 ? r.row[k].y >> 8 : r.row[k].x >> 16 | (r.row[k].y & 0xff) << 16;
            f.s[k] = mul_f16x2(integers(half_twice(six >> 6 * strip & 63), 32), low_twice(r.row[k].x));
        }
        return f;
    }
    static __device__ __forceinline__ void step(const raw &r, const form_scale &f, int strip, int i, uint32_t a[4])
    {
        iq4_values(word_of(r.v[strip], i), a);
        scaled(a, f);
    }
};

/* A scale is 2^(11 - b), b how many powers of two it is below the row's largest: the row's factor brings it back (weights.cu). */
struct form_mxfp4 {
    enum { STRIPS = 1, BYTES = 16 * 2 * 17, SCALES = 512 };
    struct raw {
        uint4 v;
        uint32_t below[2];
    };
    static __device__ __forceinline__ void load(raw &r, const uint8_t *tile, int i_group, int lane, int which)
    {
        const uint8_t *group = tile + (int64_t)i_group * BYTES;
        r.v = load_once(group + 16 * lane);
        for (int k = 0; k < 2; k++)
            r.below[k] = group[SCALES + 2 * (lane / 4 + 8 * k) + (lane >> 1 & 1)];
    }
    static __device__ __forceinline__ form_scale scale(const raw &r, int strip, int lane)
    {
        form_scale f = {};
        for (int k = 0; k < 2; k++) {
            const uint32_t b = r.below[k];
            f.s[k] = half_twice(b <= 25 ? (26 - b) << 10 : b <= 35 ? 1u << (35 - b) : 0);
        }
        return f;
    }
    static __device__ __forceinline__ void step(const raw &r, const form_scale &f, int strip, int i, uint32_t a[4])
    {
        fp4_values(word_of(r.v, i), a);
        scaled(a, f);
    }
};

/* Scales e4m3 of 16 columns, a byte each; half of it, as the table is e2m1 times two. */
struct form_nvfp4 {
    enum { STRIPS = 1, BYTES = 16 * 36, SCALES = 512 };
    struct raw {
        uint4 v;
        uint32_t d[2];
    };
    static __device__ __forceinline__ void load(raw &r, const uint8_t *tile, int i_group, int lane, int which)
    {
        const uint8_t *group = tile + (int64_t)i_group * BYTES;
        r.v = load_once(group + 16 * lane);
        for (int k = 0; k < 2; k++)
            r.d[k] = group[SCALES + 4 * (lane / 4 + 8 * k) + (lane & 3)];
    }
    static __device__ __forceinline__ form_scale scale(const raw &r, int strip, int lane)
    {
        form_scale f = {};
        /* four bits of exponent, three of mantissa; biases are 15 and 7: a factor of 2^8; 0x7f means 0 */
        for (int k = 0; k < 2; k++)
            f.s[k] = mul_f16x2(half_twice(r.d[k] == 0x7f ? 0 : (r.d[k] & 0x7f) << 7), half_twice(0x5800)); /* 2^7 */
        return f;
    }
    static __device__ __forceinline__ void step(const raw &r, const form_scale &f, int strip, int i, uint32_t a[4])
    {
        fp4_values(word_of(r.v, i), a);
        scaled(a, f);
    }
};

/*
 * The types of old files, and the smallest ones: right, and not in a hurry. One form for all seven, which a number tells apart while it runs; what it calls a group is a strip. Planes
 * in this order: four bits, two bits, one bit; then scales; and last, of the two K types, d (and dmin).
 */
enum old_type { OLD_Q4_0, OLD_Q4_1, OLD_Q5_0, OLD_Q5_1, OLD_IQ4_NL, OLD_Q2_K, OLD_Q3_K };

struct form_old {
    enum { STRIPS = 1, BYTES = 0 };
    struct raw {
        uint4 v;
        uint2 h;
        uint32_t ones, s[2], o[2]; /* s, o: each twice */
        int which;
    };
    static __device__ __forceinline__ void load(raw &r, const uint8_t *tile, int i_group, int lane, int which)
    {
        const int t = lane & 3, strip = i_group & 3;
        r.which = which;
        if (which < OLD_Q2_K) {
            static const int bytes[] = {576, 640, 704, 768, 576};
            const bool has_ones = which == OLD_Q5_0 || which == OLD_Q5_1, has_min = which == OLD_Q4_1 || which == OLD_Q5_1;
            const uint8_t *group = tile + (int64_t)i_group * bytes[which], *scales = group + (has_ones ? 640 : 512);
            r.v = load_once(group + 16 * lane);
            r.ones = has_ones ? *(const uint32_t *)(group + 512 + 4 * lane) : 0;
            for (int k = 0; k < 2; k++) {
                const int row = lane / 4 + 8 * k;
                const uint32_t d = has_min ? *(const uint32_t *)(scales + 8 * row + 4 * (t / 2))
                                           : *(const uint16_t *)(scales + 4 * row + 2 * (t / 2));
                r.s[k] = low_twice(d);
                r.o[k] = high_twice(d);
            }
            return;
        }
        const bool is_q2 = which == OLD_Q2_K;
        const uint8_t *group = tile + (int64_t)(i_group >> 2) * (is_q2 ? 1344 : 1760);
        r.h = *(const uint2 *)(group + 256 * strip + 8 * lane);
        r.ones = is_q2 ? 0 : *(const uint32_t *)(group + 1024 + 128 * strip + 4 * lane);
        for (int k = 0; k < 2; k++) {
            const int row = lane / 4 + 8 * k;
            if (is_q2) {
                const uint32_t b = group[1024 + 16 * row + 4 * t + strip], d = *(const uint32_t *)(group + 1280 + 4 * row);
                const uint32_t v = mul_f16x2(integers((b & 15) | (b >> 4) << 16, 0), d ^ 0x80000000u);
                r.s[k] = low_twice(v);
                r.o[k] = high_twice(v);
            } else {
                const uint8_t *six = group + 1536 + 12 * row + 3 * t; /* four of six bits: this lane's columns in each strip */
                const uint32_t all = six[0] | (uint32_t)six[1] << 8 | (uint32_t)six[2] << 16;
                r.s[k] = mul_f16x2(integers(half_twice(all >> 6 * strip & 63), 32),
                                   half_twice(*(const uint16_t *)(group + 1728 + 2 * row)));
                r.o[k] = 0;
            }
        }
    }
    static __device__ __forceinline__ form_scale scale(const raw &r, int strip, int lane)
    {
        return {{r.s[0], r.s[1]}, {r.o[0], r.o[1]}};
    }
    static __device__ __forceinline__ void step(const raw &r, const form_scale &f, int strip, int i, uint32_t a[4])
    {
        const uint32_t w = word_of(r.v, i), h = i < 2 ? r.h.x : r.h.y;
        if (r.which == OLD_IQ4_NL) {
            iq4_values(w, a);
            scaled(a, f);
            return;
        }
        for (int j = 0; j < 4; j++)
            switch (r.which) {
            case OLD_Q4_0: a[j] = integers(nibbles(w, j), 8); break;
            case OLD_Q4_1: a[j] = integers(nibbles(w, j), 0); break;
            case OLD_Q5_0: a[j] = integers(nibbles(w, j) | single_bits(r.ones, i, j, 4), 16); break;
            case OLD_Q5_1: a[j] = integers(nibbles(w, j) | single_bits(r.ones, i, j, 4), 0); break;
            case OLD_Q2_K: a[j] = integers(pairs_of_bits(h, i, j) >> 4, 0); break;
            default: a[j] = integers(pairs_of_bits(h, i, j) >> 4 | single_bits(r.ones, i, j, 2), 4); break;
            }
        if (r.which == OLD_Q4_1 || r.which == OLD_Q5_1 || r.which == OLD_Q2_K)
            scaled_and_moved(a, f);
        else
            scaled(a, f);
    }
};

#endif
