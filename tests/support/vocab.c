#include "tests/support/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "tests/support/test.h"

static struct tokenizer_text copy_text(const char *text, size_t n)
{
    char *copy = malloc(n + 1);
    assert_non_null(copy);
    memcpy(copy, text, n);
    copy[n] = '\0';
    return (struct tokenizer_text){copy, n};
}

int32_t test_vocab_add(struct test_vocab *v, const char *text, size_t n_bytes, int32_t type)
{
    if (v->vocab.n_tokens == v->cap_tokens) {
        v->cap_tokens = v->cap_tokens ? 2 * v->cap_tokens : 512;
        v->tokens = realloc(v->tokens, v->cap_tokens * sizeof(v->tokens[0]));
        v->types = realloc(v->types, v->cap_tokens * sizeof(v->types[0]));
        assert_non_null(v->tokens);
        assert_non_null(v->types);
        v->vocab.tokens = v->tokens;
        v->vocab.types = v->types;
    }
    const size_t id = v->vocab.n_tokens++;
    v->tokens[id] = copy_text(text, n_bytes);
    v->types[id] = type;
    return (int32_t)id;
}

void test_vocab_merge(struct test_vocab *v, const char *text, size_t n_bytes)
{
    if (v->vocab.n_merges == v->cap_merges) {
        v->cap_merges = v->cap_merges ? 2 * v->cap_merges : 512;
        v->merges = realloc(v->merges, v->cap_merges * sizeof(v->merges[0]));
        assert_non_null(v->merges);
        v->vocab.merges = v->merges;
    }
    v->merges[v->vocab.n_merges++] = copy_text(text, n_bytes);
}

void test_vocab_bytes(struct test_vocab *v)
{
    *v = (struct test_vocab){.vocab = {.eos_id = -1, .pad_id = -1, .bos_id = -1}};
    uint32_t next = 256; /* what has no printable form of its own is numbered from here on */
    for (uint32_t b = 0; b < 256; b++) {
        const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b != 173);
        char text[4];
        const size_t n = utf8_encode(printable ? b : next, text);
        next += !printable;
        test_vocab_add(v, text, n, TOKENIZER_NORMAL);
    }
}

static FILE *open_golden(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s is missing; tests run in the repository's root", path);
    return f;
}

void test_vocab_read(struct test_vocab *v)
{
    *v = (struct test_vocab){.vocab = {.eos_id = -1, .pad_id = -1, .bos_id = -1}};
    char *line = NULL;
    size_t cap = 0;
    FILE *f = open_golden("tests/golden/tokenizer/vocab.txt");
    for (ssize_t n; (n = getline(&line, &cap, f)) > 2;) {
        const int32_t id = test_vocab_add(v, line + 2, (size_t)n - 3, line[0] - '0');
        if (strcmp(line + 2, "<|im_end|>\n") == 0)
            v->vocab.eos_id = id;
    }
    fclose(f);
    f = open_golden("tests/golden/tokenizer/merges.txt");
    for (ssize_t n; (n = getline(&line, &cap, f)) > 1;)
        test_vocab_merge(v, line, (size_t)n - 1);
    fclose(f);
    free(line);
}

void test_vocab_release(struct test_vocab *v)
{
    for (size_t i = 0; i < v->vocab.n_tokens; i++)
        free((void *)v->tokens[i].bytes);
    for (size_t i = 0; i < v->vocab.n_merges; i++)
        free((void *)v->merges[i].bytes);
    free(v->tokens);
    free(v->types);
    free(v->merges);
    *v = (struct test_vocab){0};
}

bool test_fields(FILE *file, char **line, size_t *cap, char **fields, int n_fields)
{
    const ssize_t n = getline(line, cap, file);
    if (n <= 0)
        return false;
    if ((*line)[n - 1] == '\n')
        (*line)[n - 1] = '\0';
    char *rest = *line;
    for (int i = 0; i < n_fields; i++) {
        if (!rest)
            fail_msg("a golden line has %d fields, expected %d: %s", i, n_fields, *line);
        fields[i] = strsep(&rest, "\t");
    }
    return true;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

size_t test_unescape(char *text)
{
    size_t put = 0;
    for (const char *s = text; *s; s++) {
        if (*s == '%') {
            assert_true(hex_digit(s[1]) >= 0 && hex_digit(s[2]) >= 0);
            text[put++] = (char)(hex_digit(s[1]) << 4 | hex_digit(s[2]));
            s += 2;
        } else {
            text[put++] = *s;
        }
    }
    text[put] = '\0';
    return put;
}
