/* engine/unicode: classes and NFC against the official tokenizer's engines. */
#include <stdlib.h>
#include <string.h>

#include "engine/unicode.h"
#include "tests/support/test.h"
#include "tests/support/vocab.h"

static void classes_of_known_code_points(void **state)
{
    const struct {
        uint32_t cp;
        enum unicode_class class;
    } rows[] = {
        {0x00, UNICODE_OTHER},       {0x08, UNICODE_OTHER},    {0x09, UNICODE_SPACE},     {0x0D, UNICODE_SPACE},
        {0x0E, UNICODE_OTHER},       {0x1C, UNICODE_OTHER},    {0x1F, UNICODE_OTHER},     {0x20, UNICODE_SPACE},
        {'!', UNICODE_OTHER},        {'0', UNICODE_NUMBER},    {'9', UNICODE_NUMBER},     {':', UNICODE_OTHER},
        {'@', UNICODE_OTHER},        {'A', UNICODE_LETTER},    {'Z', UNICODE_LETTER},     {'[', UNICODE_OTHER},
        {'`', UNICODE_OTHER},        {'a', UNICODE_LETTER},    {'z', UNICODE_LETTER},     {'{', UNICODE_OTHER},
        {0x7F, UNICODE_OTHER},       {0x85, UNICODE_SPACE},    {0xA0, UNICODE_SPACE},     {0xAA, UNICODE_LETTER},
        {0xB2, UNICODE_NUMBER},      {0xB5, UNICODE_LETTER},   {0xBD, UNICODE_NUMBER},    {0xD7, UNICODE_OTHER},
        {0x0301, UNICODE_MARK},      {0x0488, UNICODE_MARK},   {0x0663, UNICODE_NUMBER},  {0x0903, UNICODE_MARK},
        {0x0915, UNICODE_LETTER},    {0x1680, UNICODE_SPACE},  {0x180E, UNICODE_OTHER},   {0x200A, UNICODE_SPACE},
        {0x200B, UNICODE_OTHER},     {0x200D, UNICODE_OTHER},  {0x2028, UNICODE_SPACE},   {0x202F, UNICODE_SPACE},
        {0x205F, UNICODE_SPACE},     {0x2060, UNICODE_OTHER},  {0x2167, UNICODE_NUMBER},  {0x3000, UNICODE_SPACE},
        {0x4E00, UNICODE_LETTER},    {0xAC00, UNICODE_LETTER}, {0xD7A3, UNICODE_LETTER},  {0xD800, UNICODE_OTHER},
        {0xFE0F, UNICODE_MARK},      {0xFEFF, UNICODE_OTHER},  {0xFFFD, UNICODE_OTHER},   {0x1F525, UNICODE_OTHER},
        {0x0378, UNICODE_OTHER},     {0xE0100, UNICODE_MARK},  {0x10FFFF, UNICODE_OTHER}, {0x110000, UNICODE_OTHER},
        {0x2EBF0, UNICODE_LETTER}, /* Unicode 15.1 */
        {0x105C0, UNICODE_LETTER},   {0x0897, UNICODE_MARK},   {0x10D40, UNICODE_NUMBER}, {0x13460, UNICODE_LETTER}, /* 16 */
        {UINT32_MAX, UNICODE_OTHER},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (unicode_class_of(rows[i].cp) != rows[i].class)
            fail_msg("U+%04X is of class %d, want %d", rows[i].cp, unicode_class_of(rows[i].cp), rows[i].class);
}

/* The number of code points of each class as the official regular-expression engine counts them: one wrong range shows. */
static void class_totals(void **state)
{
    uint32_t n[5] = {0}, trimmed = 0;
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        n[unicode_class_of(cp)]++;
        trimmed += unicode_is_trimmed(cp);
    }
    assert_int_equal(n[UNICODE_LETTER], 141028);
    assert_int_equal(n[UNICODE_MARK], 2501);
    assert_int_equal(n[UNICODE_NUMBER], 1911);
    assert_int_equal(n[UNICODE_SPACE], 25);
    assert_int_equal(trimmed, 29);
}

static void check_nfc(struct unicode_scratch *s, const char *text, size_t n, const char *want, size_t n_want)
{
    struct err err = {0};
    /* exactly n bytes, so that a sanitizer sees a read past the end */
    char *exact = malloc(n ? n : 1);
    memcpy(exact, text, n);
    const char *got = NULL;
    size_t n_got = 0;
    assert_ok(unicode_normalize(s, exact, n, &got, &n_got, &err), &err);
    if (n_got != n_want || memcmp(got, want, n_want) != 0)
        fail_msg("NFC of \"%.*s\" is \"%.*s\", want \"%.*s\"", (int)n, text, (int)n_got, got, (int)n_want, want);
    free(exact);
}

static void nfc_by_hand(void **state)
{
    const char *const rows[][2] = {
        {"", ""},
        {"plain", "plain"},
        {"e\u0301", "\u00e9"},
        {"\u00e9", "\u00e9"},
        {"\u212b", "\u00c5"},              /* a singleton */
        {"\u1e0b\u0323", "\u1e0d\u0307"},  /* the composed letter comes apart: the lower mark goes first */
        {"a\u0345\u0301", "\u00e1\u0345"}, /* marks are put into order */
        {"\u0915\u093c", "\u0915\u093c"},  /* excluded from composition */
        {"\u0958", "\u0915\u093c"},        /* and taken apart */
        {"\u1100\u1161\u11a8", "\uac01"},  /* Hangul */
        {"\uac00\u11a8", "\uac01"},
        {"\uac01\u11a8", "\uac01\u11a8"},
        {"\u0301\u0300", "\u0301\u0300"}, /* nothing to join */
        {">\u0338", "\u226f"},
        {"a\U0001e08f\u0323", "a\U0001e08f\u0323"}, /* a mark newer than the official normaliser: stays in place */
        {"\U000105d2\u0307", "\U000105d2\u0307"},   /* composes in Unicode 16, not there */
        {"\xff", "\ufffd"},
        {"\xe2\x82", "\ufffd"},
        {"\xc0\x80", "\ufffd\ufffd"},
        {"e\xcc", "e\ufffd"},
        {"\ufffd", "\ufffd"},
        {"e\xff\u0301", "e\ufffd\u0301"},
    };
    struct unicode_scratch s = {0};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        check_nfc(&s, rows[i][0], strlen(rows[i][0]), rows[i][1], strlen(rows[i][1]));
    unicode_scratch_release(&s);
}

static void nfc_as_the_official_normaliser(void **state)
{
    FILE *f = fopen("tests/golden/tokenizer/nfc.txt", "rb");
    assert_non_null(f);
    struct unicode_scratch s = {0};
    char *line = NULL, *field[2];
    size_t cap = 0;
    int n = 0;
    for (; test_fields(f, &line, &cap, field, 2); n++) {
        const size_t n_text = test_unescape(field[0]), n_want = test_unescape(field[1]);
        check_nfc(&s, field[0], n_text, field[1], n_want);
    }
    assert_int_equal(n, 600);
    free(line);
    fclose(f);
    unicode_scratch_release(&s);
}

/* Long runs of marks in the wrong order take another way, and must not take quadratic time. */
static void nfc_of_many_marks(void **state)
{
    const size_t n = 200000;
    char *text = malloc(1 + 4 * n), *want = malloc(1 + 4 * n);
    text[0] = want[0] = 'q';
    for (size_t i = 0; i < n; i++) {
        memcpy(text + 1 + 4 * i, "\u0345\u0323", 4); /* classes 240 and 220 */
        memcpy(want + 1 + 2 * i, "\u0323", 2);
        memcpy(want + 1 + 2 * n + 2 * i, "\u0345", 2);
    }
    struct unicode_scratch s = {0};
    check_nfc(&s, text, 1 + 4 * n, want, 1 + 4 * n);
    unicode_scratch_release(&s);
    free(text);
    free(want);
}

/* What needs no change is not copied. */
static void plain_text_is_borrowed(void **state)
{
    struct unicode_scratch s = {0};
    const char text[] = "caf\u00e9 \u6f22\u5b57 \U0001f525 \ufffd";
    const char *got;
    size_t n;
    assert_int_equal(unicode_normalize(&s, text, sizeof(text) - 1, &got, &n, NULL), 0);
    assert_ptr_equal(got, text);
    assert_int_equal(n, sizeof(text) - 1);
    unicode_scratch_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_of_known_code_points),
        cmocka_unit_test(class_totals),
        cmocka_unit_test(nfc_by_hand),
        cmocka_unit_test(nfc_as_the_official_normaliser),
        cmocka_unit_test(nfc_of_many_marks),
        cmocka_unit_test(plain_text_is_borrowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
