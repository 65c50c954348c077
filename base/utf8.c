#include "base/utf8.h"

#include <string.h>

/* Length of the sequence that lead byte b starts, and the range of its second byte (Unicode table 3-7). 0: no lead. */
static unsigned lead_info(unsigned char b, unsigned char *lo, unsigned char *hi)
{
    *lo = 0x80;
    *hi = 0xBF;
    if (b < 0x80)
        return 1;
    if (b < 0xC2 || b > 0xF4)
        return 0;
    if (b < 0xE0)
        return 2;
    if (b < 0xF0) {
        if (b == 0xE0)
            *lo = 0xA0;
        if (b == 0xED)
            *hi = 0x9F;
        return 3;
    }
    if (b == 0xF0)
        *lo = 0x90;
    if (b == 0xF4)
        *hi = 0x8F;
    return 4;
}

/* Bytes of the well-formed prefix at s; *ret_len the length its lead byte asks for (0: not a lead byte). */
static size_t prefix_length(const unsigned char *s, size_t n, unsigned *ret_len)
{
    unsigned char lo, hi;
    const unsigned len = lead_info(s[0], &lo, &hi);
    *ret_len = len;
    if (len <= 1)
        return len;
    size_t i = 1;
    if (i < n && s[i] >= lo && s[i] <= hi) {
        i++;
        while (i < len && i < n && (s[i] & 0xC0) == 0x80)
            i++;
    }
    return i;
}

size_t utf8_decode(const char *str, size_t n, uint32_t *ret_cp)
{
    const unsigned char *s = (const unsigned char *)str;
    unsigned len;
    const size_t got = prefix_length(s, n, &len);
    if (len == 0 || got < len) {
        *ret_cp = UTF8_REPLACEMENT;
        return got ? got : 1;
    }
    static const unsigned char lead_mask[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t cp = s[0] & lead_mask[len];
    for (unsigned i = 1; i < len; i++)
        cp = cp << 6 | (s[i] & 0x3Fu);
    *ret_cp = cp;
    return len;
}

size_t utf8_encode(uint32_t cp, char out[4])
{
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF))
        cp = UTF8_REPLACEMENT;
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

bool utf8_valid(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        unsigned len;
        const size_t got = prefix_length((const unsigned char *)s + i, n - i, &len);
        if (len == 0 || got < len)
            return false;
        i += len;
    }
    return true;
}

size_t utf8_repair(const char *s, size_t n, char *out, size_t cap)
{
    size_t need = 0, put = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        char buf[4];
        i += utf8_decode(s + i, n - i, &cp);
        const size_t m = utf8_encode(cp, buf);
        if (need == put && put + m <= cap) {
            memcpy(out + put, buf, m);
            put += m;
        }
        need += m;
    }
    return need;
}

size_t utf8_incomplete_tail(const char *s, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        const unsigned char b = (unsigned char)s[n - back];
        if ((b & 0xC0) == 0x80)
            continue;
        unsigned len;
        const size_t got = prefix_length((const unsigned char *)s + n - back, back, &len);
        return len > back && got == back ? back : 0;
    }
    return 0;
}
