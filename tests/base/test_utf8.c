#include "tests/support/test.h"

#include <string.h>

#include "base/utf8.h"

/* Expected: Python's bytes.decode("utf-8", errors="replace"). */
static void repairs_as_python_does(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain", "plain"},
        {"caf\xc3\xa9 \xf0\x9f\x90\xa6", "caf\xc3\xa9 \xf0\x9f\x90\xa6"},
        {"\x80", "\xef\xbf\xbd"},
        {"a\xc3", "a\xef\xbf\xbd"},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xe2\x82", "\xef\xbf\xbd"},
        {"\xe2\x82x", "\xef\xbf\xbdx"},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf0\x9f\x90", "\xef\xbf\xbd"},
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf0\x80\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xff\xfe", "\xef\xbf\xbd\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[64];
        const size_t n = utf8_repair(cases[i].in, strlen(cases[i].in), out, sizeof out);
        assert_int_equal(n, strlen(cases[i].out));
        assert_memory_equal(out, cases[i].out, n);
        assert_true(utf8_valid(out, n));
        assert_int_equal(utf8_valid(cases[i].in, strlen(cases[i].in)), strcmp(cases[i].in, cases[i].out) == 0);
    }
}

static void every_code_point_survives(void **state)
{
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        if (cp >= 0xD800 && cp <= 0xDFFF)
            continue;
        char s[4];
        uint32_t back = 1;
        const size_t n = utf8_encode(cp, s);
        assert_true(utf8_decode(s, n, &back) == n && back == cp);
        for (size_t cut = 1; cut < n; cut++)
            assert_int_equal(utf8_incomplete_tail(s, cut), cut);
        assert_int_equal(utf8_incomplete_tail(s, n), 0);
    }
}

static void never_writes_half_a_code_point(void **state)
{
    char out[8] = "zzzzzzz";
    assert_int_equal(utf8_repair("a\xc3\xa9\xc3\xa9", 5, out, 4), 5);
    assert_memory_equal(out, "a\xc3\xa9zzzz", 7);
    assert_int_equal(utf8_repair("\xff\xff", 2, out, 0), 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repairs_as_python_does),
        cmocka_unit_test(every_code_point_survives),
        cmocka_unit_test(never_writes_half_a_code_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
