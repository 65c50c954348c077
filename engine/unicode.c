#include "engine/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "engine/unicode_tables.h"

/* ---- properties --------------------------------------------------------------------------------------------------------- */

static unsigned property_of(uint32_t cp)
{
    if (cp > 0x10FFFF)
        return UNICODE_OTHER;
    uint32_t lo = 0, hi = unicode_n_ranges; /* the last range that starts at or before cp lies in [lo, hi) */
    const uint32_t key = cp << 8 | 0xFF;
    while (hi - lo > 1) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (unicode_ranges[mid] <= key)
            lo = mid;
        else
            hi = mid;
    }
    return unicode_ranges[lo] & 0xFF;
}

enum unicode_class unicode_class_of(uint32_t cp)
{
    if (cp < 0x80) {
        if ((cp | 0x20) - 'a' < 26)
            return UNICODE_LETTER;
        if (cp - '0' < 10)
            return UNICODE_NUMBER;
        return cp == ' ' || cp - 9 < 5 ? UNICODE_SPACE : UNICODE_OTHER;
    }
    return (enum unicode_class)(property_of(cp) & UNICODE_PROPERTY_CLASS);
}

bool unicode_is_trimmed(uint32_t cp)
{
    return cp - 0x1C < 4 || unicode_class_of(cp) == UNICODE_SPACE;
}

/* ---- NFC ---------------------------------------------------------------------------------------------------------------- */

void unicode_scratch_release(struct unicode_scratch *scratch)
{
    if (!scratch)
        return;
    free(scratch->text);
    free(scratch->segment);
    free(scratch->work);
    *scratch = (struct unicode_scratch){0};
}

/* Make room for `need` items of `size` bytes, at least doubling. */
static bool grow(void **items, size_t *cap, size_t need, size_t size)
{
    if (need <= *cap)
        return true;
    size_t want = *cap ? *cap * 2 : 256;
    if (want < need)
        want = need;
    if (want > SIZE_MAX / 2 / size)
        return false;
    void *p = realloc(*items, want * size);
    if (!p)
        return false;
    *items = p;
    *cap = want;
    return true;
}

static bool put_code_point(struct unicode_scratch *s, uint32_t cp)
{
    if (!grow((void **)&s->text, &s->cap_text, s->n_text + 4, 1))
        return false;
    s->n_text += utf8_encode(cp, s->text + s->n_text);
    return true;
}

static unsigned combining_class(int32_t cp)
{
    return (unsigned)utf8proc_get_property(cp)->combining_class & 0xFF;
}

/* Put n marks into the order of their combining classes, stable. spare has room for n. */
static void order_marks(int32_t *marks, size_t n, int32_t *spare)
{
    if (n <= 32) {
        for (size_t i = 1; i < n; i++) {
            const int32_t cp = marks[i];
            const unsigned ccc = combining_class(cp);
            size_t j = i;
            for (; j > 0 && combining_class(marks[j - 1]) > ccc; j--)
                marks[j] = marks[j - 1];
            marks[j] = cp;
        }
        return;
    }
    size_t start[257] = {0};
    for (size_t i = 0; i < n; i++)
        start[combining_class(marks[i]) + 1]++;
    for (size_t c = 0; c < 256; c++)
        start[c + 1] += start[c];
    for (size_t i = 0; i < n; i++)
        spare[start[combining_class(marks[i])]++] = marks[i];
    memcpy(marks, spare, n * sizeof(marks[0]));
}

/* Normalise the segment collected so far and append it to the text. */
static bool flush_segment(struct unicode_scratch *s)
{
    enum { EXPANSION = 4 }; /* the longest full canonical decomposition of one code point */
    const size_t n = s->n_segment;
    s->n_segment = 0;
    if (n == 0)
        return true;
    if (n == 1 && !(property_of(s->segment[0]) & UNICODE_PROPERTY_NFC_UNSAFE))
        return put_code_point(s, s->segment[0]);
    /* decomposition in the first part, room for ordering behind it */
    if (n > SIZE_MAX / 64 || !grow((void **)&s->work, &s->cap_work, 2 * EXPANSION * n, sizeof(s->work[0])))
        return false;
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        int boundary = 0;
        const utf8proc_ssize_t got = utf8proc_decompose_char((utf8proc_int32_t)s->segment[i], s->work + m, EXPANSION,
                                                             UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
        if (got < 1 || got > EXPANSION)
            s->work[m++] = (int32_t)s->segment[i];
        else
            m += (size_t)got;
    }
    for (size_t i = 0; i < m;) {
        size_t j = i;
        while (j < m && combining_class(s->work[j]) != 0)
            j++;
        order_marks(s->work + i, j - i, s->work + EXPANSION * n);
        i = j + 1;
    }
    const utf8proc_ssize_t composed =
        utf8proc_normalize_utf32(s->work, (utf8proc_ssize_t)m, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    if (composed > 0)
        m = (size_t)composed;
    for (size_t i = 0; i < m; i++)
        if (!put_code_point(s, (uint32_t)s->work[i]))
            return false;
    return true;
}

static size_t ascii_run(const char *text, size_t n)
{
    size_t i = 0;
    while (i < n && (unsigned char)text[i] < 0x80)
        i++;
    return i;
}

/* Whether the text is valid UTF-8 of code points that NFC never touches; most texts are. */
static bool is_plain(const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        i += ascii_run(text + i, n - i);
        if (i == n)
            break;
        uint32_t cp;
        const size_t len = utf8_decode(text + i, n - i, &cp);
        if (cp == UTF8_REPLACEMENT && !(len == 3 && (unsigned char)text[i] == 0xEF && (unsigned char)text[i + 2] == 0xBD))
            return false;
        if (property_of(cp) & UNICODE_PROPERTY_NFC_UNSAFE)
            return false;
        i += len;
    }
    return true;
}

int unicode_normalize(struct unicode_scratch *scratch, const char *text, size_t n_bytes, const char **ret_text,
                      size_t *ret_n_bytes, struct err *err)
{
    if (is_plain(text, n_bytes)) {
        *ret_text = text;
        *ret_n_bytes = n_bytes;
        return 0;
    }
    struct unicode_scratch *s = scratch;
    s->n_text = s->n_segment = 0;
    for (size_t i = 0; i < n_bytes;) {
        const size_t ascii = ascii_run(text + i, n_bytes - i);
        if (ascii > 1) { /* all but the last have nothing to join */
            const size_t n_copy = ascii - 1;
            if (!flush_segment(s) || !grow((void **)&s->text, &s->cap_text, s->n_text + n_copy, 1))
                return err_set(err, ERR_NOMEM, "no memory to normalise %zu bytes of text", n_bytes);
            memcpy(s->text + s->n_text, text + i, n_copy);
            s->n_text += n_copy;
            i += n_copy;
        }
        uint32_t cp;
        i += utf8_decode(text + i, n_bytes - i, &cp);
        const unsigned property = property_of(cp);
        bool ok = true;
        if (!(property & UNICODE_PROPERTY_NFC_UNSAFE))
            ok = flush_segment(s);
        if (property & (UNICODE_PROPERTY_NFC_UNSAFE | UNICODE_PROPERTY_NFC_FIRST)) {
            ok = ok && grow((void **)&s->segment, &s->cap_segment, s->n_segment + 1, sizeof(s->segment[0]));
            if (ok)
                s->segment[s->n_segment++] = cp;
        } else {
            ok = ok && put_code_point(s, cp);
        }
        if (!ok)
            return err_set(err, ERR_NOMEM, "no memory to normalise %zu bytes of text", n_bytes);
    }
    if (!flush_segment(s))
        return err_set(err, ERR_NOMEM, "no memory to normalise %zu bytes of text", n_bytes);
    *ret_text = s->text;
    *ret_n_bytes = s->n_text;
    return 0;
}
