/*
 * The GGUF reader against files that the test builds byte by byte, whole and damaged.
 */
#include "tests/support/test.h"

#include "engine/gguf.h"
#include "engine/gguf_writer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- a file being built ----------------------------------------------------------------------------------------------------- */

struct builder {
    unsigned char data[1 << 16];
    size_t n;
};

static void put(struct builder *b, const void *data, size_t n)
{
    assert_true(b->n + n <= sizeof b->data);
    memcpy(b->data + b->n, data, n);
    b->n += n;
}

static void put_u32(struct builder *b, uint32_t v)
{
    put(b, &v, sizeof v);
}

static void put_u64(struct builder *b, uint64_t v)
{
    put(b, &v, sizeof v);
}

static void put_text(struct builder *b, const char *s)
{
    put_u64(b, strlen(s));
    put(b, s, strlen(s));
}

static void put_head(struct builder *b, uint32_t version, uint64_t n_tensors, uint64_t n_keys)
{
    put(b, "GGUF", 4);
    put_u32(b, version);
    put_u64(b, n_tensors);
    put_u64(b, n_keys);
}

static void put_tensor(struct builder *b, const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type, uint64_t offset)
{
    put_text(b, name);
    put_u32(b, n_dims);
    for (uint32_t d = 0; d < n_dims; d++)
        put_u64(b, ne[d]);
    put_u32(b, type);
    put_u64(b, offset);
}

static void put_data(struct builder *b, size_t n)
{
    while (b->n % 32)
        put(b, "", 1);
    for (size_t i = 0; i < n; i++)
        put(b, &(unsigned char){(unsigned char)i}, 1);
}

static int open_built(const struct builder *b, struct gguf **ret, struct err *err)
{
    /* an exact copy, so that a sanitizer sees a read past the end */
    unsigned char *copy = malloc(b->n ? b->n : 1);
    memcpy(copy, b->data, b->n);
    int rc = gguf_open_memory(copy, b->n, "built", ret, err);
    if (rc < 0)
        free(copy);
    return rc;
}

static void expect(const struct builder *b, int code, const char *words)
{
    struct gguf *g = NULL;
    struct err err = {0};
    assert_err(open_built(b, &g, &err), code, &err, words);
    assert_null(g);
}

/* One key of each type, two tensors. */
static void build_sample(struct builder *b)
{
    const uint64_t ne1[] = {32, 3}, ne2[] = {4};
    b->n = 0;
    put_head(b, 3, 2, 14);
    put_text(b, "k.u8"), put_u32(b, GGUF_U8), put(b, "\xFF", 1);
    put_text(b, "k.i8"), put_u32(b, GGUF_I8), put(b, "\xFF", 1);
    put_text(b, "k.u16"), put_u32(b, GGUF_U16), put(b, "\xFF\xFF", 2);
    put_text(b, "k.i16"), put_u32(b, GGUF_I16), put(b, "\xFE\xFF", 2);
    put_text(b, "k.u32"), put_u32(b, GGUF_U32), put_u32(b, 4000000000u);
    put_text(b, "k.i32"), put_u32(b, GGUF_I32), put_u32(b, (uint32_t)-7);
    put_text(b, "k.u64"), put_u32(b, GGUF_U64), put_u64(b, UINT64_MAX);
    put_text(b, "k.i64"), put_u32(b, GGUF_I64), put_u64(b, 12);
    put_text(b, "k.f32"), put_u32(b, GGUF_F32), put(b, &(float){1.5f}, 4);
    put_text(b, "k.f64"), put_u32(b, GGUF_F64), put(b, &(double){-2.25}, 8);
    put_text(b, "k.bool"), put_u32(b, GGUF_BOOL), put(b, "\1", 1);
    put_text(b, "k.str"), put_u32(b, GGUF_STRING), put_text(b, "he\nron");
    put_text(b, "k.arr"), put_u32(b, GGUF_ARRAY), put_u32(b, GGUF_I32), put_u64(b, 3), put(b, (int32_t[]){5, -6, 7}, 12);
    put_text(b, "k.strs"), put_u32(b, GGUF_ARRAY), put_u32(b, GGUF_STRING), put_u64(b, 3), put_text(b, "a"), put_text(b, ""),
        put_text(b, "\xC4\xA0the");
    put_tensor(b, "first.weight", 2, ne1, 8, 0);    /* Q8_0: 3 * 34 bytes */
    put_tensor(b, "second.weight", 1, ne2, 0, 128); /* F32 */
    put_data(b, 128 + 16);
}

/* ---- what is there ---------------------------------------------------------------------------------------------------------- */

static void close_built(struct gguf *g, const void *bytes)
{
    gguf_close(g);
    free((void *)bytes);
}

static void test_values(void **state)
{
    static struct builder b;
    struct gguf *g = NULL;
    struct err err = {0};
    build_sample(&b);
    unsigned char *copy = malloc(b.n);
    memcpy(copy, b.data, b.n);
    assert_ok(gguf_open_memory(copy, b.n, "built", &g, &err), &err);
    uint32_t u;
    int64_t i;
    float f;
    bool flag;
    struct gguf_string s;
    assert_int_equal(gguf_n_entries(g), 14);
    assert_ok(gguf_get_u32(g, "k.u8", &u, &err), &err);
    assert_int_equal(u, 255);
    assert_ok(gguf_get_i64(g, "k.i8", &i, &err), &err);
    assert_int_equal(i, -1);
    assert_ok(gguf_get_u32(g, "k.u16", &u, &err), &err);
    assert_int_equal(u, 65535);
    assert_ok(gguf_get_i64(g, "k.i16", &i, &err), &err);
    assert_int_equal(i, -2);
    assert_ok(gguf_get_u32(g, "k.u32", &u, &err), &err);
    assert_int_equal(u, 4000000000u);
    assert_ok(gguf_get_i64(g, "k.i32", &i, &err), &err);
    assert_int_equal(i, -7);
    assert_ok(gguf_get_u32(g, "k.i64", &u, &err), &err);
    assert_int_equal(u, 12);
    assert_ok(gguf_get_f32(g, "k.f32", &f, &err), &err);
    assert_true(f == 1.5f);
    assert_ok(gguf_get_f32(g, "k.f64", &f, &err), &err);
    assert_true(f == -2.25f);
    assert_ok(gguf_get_f32(g, "k.i32", &f, &err), &err);
    assert_true(f == -7);
    assert_ok(gguf_get_bool(g, "k.bool", &flag, &err), &err);
    assert_true(flag);
    assert_ok(gguf_get_string(g, "k.str", &s, &err), &err);
    assert_int_equal(s.n, 6);
    char text[8], little[4];
    assert_true(gguf_copy_text(g, "k.str", text, sizeof text));
    assert_string_equal(text, "he?ron");
    assert_true(gguf_copy_text(g, "k.str", little, sizeof little));
    assert_string_equal(little, "he?");
    assert_true(gguf_string_is(g, "k.str", "he\nron"));
    assert_false(gguf_string_is(g, "k.str", "he\nro"));
    assert_int_equal(gguf_array_count(g, "k.arr"), 3);
    assert_ok(gguf_get_i64_at(g, "k.arr", 1, &i, &err), &err);
    assert_int_equal(i, -6);
    struct gguf_strings iter;
    assert_ok(gguf_strings_begin(g, "k.strs", &iter, &err), &err);
    size_t lengths[] = {1, 0, 5}, n = 0;
    while (gguf_strings_next(&iter, &s))
        assert_int_equal(s.n, lengths[n++]);
    assert_int_equal(n, 3);

    /* what is of another kind, does not fit or is not there */
    u = 99;
    assert_err(gguf_get_u32(g, "k.i32", &u, &err), ERR_FORMAT, &err, "found i32 -7");
    assert_err(gguf_get_i64(g, "k.u64", &i, &err), ERR_FORMAT, &err, "below 2^63");
    assert_err(gguf_get_u32(g, "k.f32", &u, &err), ERR_FORMAT, &err, "k.f32");
    assert_err(gguf_get_u32(g, "k.str", &u, &err), ERR_FORMAT, &err, "found a string");
    assert_err(gguf_get_u32(g, "k.arr", &u, &err), ERR_FORMAT, &err, "found an array of 3 i32");
    assert_err(gguf_get_string(g, "k.u8", &s, &err), ERR_FORMAT, &err, "expected a string, found u8 255");
    assert_err(gguf_get_i64_at(g, "k.arr", 3, &i, &err), ERR_FORMAT, &err, "at least 4 values, found 3");
    assert_err(gguf_strings_begin(g, "k.arr", &iter, &err), ERR_FORMAT, &err, "array of strings");
    assert_err(gguf_get_u32(g, "k.nothing", &u, &err), ERR_NOT_FOUND, &err, "no key k.nothing");
    assert_int_equal(u, 99);

    const struct gguf_tensor *t = gguf_find_tensor(g, "second.weight");
    assert_non_null(t);
    assert_int_equal(t->bytes, 16);
    assert_int_equal(t->ne[1], 1);
    unsigned char bytes[16];
    assert_ok(gguf_tensor_read(g, t, 0, 16, bytes, &err), &err);
    assert_int_equal(bytes[3], 131);
    assert_ok(gguf_tensor_read(g, t, 15, 1, bytes, &err), &err);
    assert_int_equal(bytes[0], 143);
    assert_err(gguf_tensor_read(g, t, 15, 2, bytes, &err), ERR_INVAL, &err, "it has 16");
    assert_int_equal(gguf_find_tensor(g, "first.weight")->bytes, 102);
    assert_null(gguf_find_tensor(g, "third.weight"));
    close_built(g, copy);
}

static void test_versions(void **state)
{
    static struct builder b;
    struct gguf *g = NULL;
    struct err err = {0};
    const uint32_t reads[] = {2, 3};
    for (size_t i = 0; i < 2; i++) {
        b.n = 0;
        put_head(&b, reads[i], 0, 0);
        assert_ok(gguf_open_memory(b.data, b.n, "built", &g, &err), &err);
        assert_int_equal(gguf_version(g), reads[i]);
        gguf_close(g);
    }
    b.n = 0;
    put_head(&b, 1, 0, 0);
    expect(&b, ERR_UNSUPPORTED, "GGUF version 1");
    b.n = 0;
    put_head(&b, 4, 0, 0);
    expect(&b, ERR_UNSUPPORTED, "GGUF version 4");
    b.n = 0;
    put_head(&b, 0x03000000, 0, 0);
    expect(&b, ERR_UNSUPPORTED, "big-endian");
    b.n = 0;
    put(&b, "PK\3\4....", 8);
    expect(&b, ERR_FORMAT, "50 4b 03 04");
    b.n = 0;
    expect(&b, ERR_FORMAT, "the file ends at 0");
}

/* ---- damage ----------------------------------------------------------------------------------------------------------------- */

static void test_truncated_everywhere(void **state)
{
    static struct builder b;
    build_sample(&b);
    const size_t whole = b.n;
    for (b.n = 0; b.n < whole; b.n++) {
        struct gguf *g = NULL;
        struct err err = {0};
        const int rc = open_built(&b, &g, &err);
        assert_true(rc == ERR_FORMAT);
        assert_true(test_contains(err.text, "truncated") || test_contains(err.text, "claim"));
        assert_true(test_contains(err.text, "built"));
    }
}

static void touch_everything(const struct gguf *g)
{
    struct gguf_string s;
    struct gguf_strings iter;
    int64_t i;
    unsigned char byte;
    for (size_t k = 0; k < gguf_n_entries(g); k++) {
        const struct gguf_entry *e = gguf_entry_at(g, k);
        assert_ptr_equal(gguf_find(g, e->key), e);
        (void)gguf_get_i64_at(g, e->key, e->count ? e->count - 1 : 0, &i, NULL);
        if (gguf_strings_begin(g, e->key, &iter, NULL) == 0)
            while (gguf_strings_next(&iter, &s))
                assert_true(s.n <= e->n_bytes);
    }
    for (size_t k = 0; k < gguf_n_tensors(g); k++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, k);
        assert_ptr_equal(gguf_find_tensor(g, t->name), t);
        if (t->bytes)
            assert_int_equal(gguf_tensor_read(g, t, t->bytes - 1, 1, &byte, NULL), 0);
    }
}

static void test_bit_flips(void **state)
{
    static struct builder b;
    build_sample(&b);
    const size_t header = b.n - 144;
    int opened = 0;
    for (size_t bit = 0; bit < header * 8; bit++) {
        struct gguf *g = NULL;
        struct err err = {0};
        b.data[bit / 8] ^= (unsigned char)(1u << bit % 8);
        unsigned char *copy = malloc(b.n);
        memcpy(copy, b.data, b.n);
        const int rc = gguf_open_memory(copy, b.n, "built", &g, &err);
        if (rc == 0) {
            touch_everything(g);
            opened++;
        } else {
            assert_true(err.code == rc && err.text[0]);
        }
        close_built(g, copy);
        b.data[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    assert_true(opened > 0 && opened < (int)header * 8);
}

static void test_lying_counts(void **state)
{
    static struct builder b;
    b.n = 0;
    put_head(&b, 3, 0, UINT64_MAX);
    expect(&b, ERR_FORMAT, "18446744073709551615 keys claimed");
    b.n = 0;
    put_head(&b, 3, 1000, 0);
    put_data(&b, 640);
    expect(&b, ERR_FORMAT, "1000 tensors claimed");
    b.n = 0;
    put_head(&b, 3, 0, 1);
    put_u64(&b, UINT64_MAX - 4);
    put_data(&b, 64);
    expect(&b, ERR_FORMAT, "truncated: a key at offset 32");
    b.n = 0;
    put_head(&b, 3, 0, 1);
    put_text(&b, "k"), put_u32(&b, GGUF_STRING), put_u64(&b, (uint64_t)1 << 62);
    put_data(&b, 64);
    expect(&b, ERR_FORMAT, "truncated: a string value");
    const uint32_t elems[] = {GGUF_F64, GGUF_STRING, GGUF_U8};
    for (size_t i = 0; i < 3; i++) {
        b.n = 0;
        put_head(&b, 3, 0, 1);
        put_text(&b, "k"), put_u32(&b, GGUF_ARRAY), put_u32(&b, elems[i]), put_u64(&b, ((uint64_t)1 << 61) + 1);
        put_data(&b, 64);
        expect(&b, ERR_FORMAT, "claims 2305843009213693953 elements");
    }
}

static void one_tensor(struct builder *b, uint32_t n_dims, const uint64_t *ne, uint32_t type, uint64_t offset)
{
    b->n = 0;
    put_head(b, 3, 1, 0);
    put_tensor(b, "t.weight", n_dims, ne, type, offset);
    put_data(b, 256);
}

static void test_bad_tensors(void **state)
{
    static struct builder b;
    struct gguf *g = NULL;
    struct err err = {0};
    one_tensor(&b, 5, (uint64_t[]){1, 1, 1, 1, 1}, 0, 0);
    expect(&b, ERR_FORMAT, "5 dimensions");
    one_tensor(&b, 2, (uint64_t[]){8, 0}, 0, 0);
    expect(&b, ERR_FORMAT, "dimension 1 is 0");
    one_tensor(&b, 3, (uint64_t[]){(uint64_t)1 << 30, (uint64_t)1 << 30, (uint64_t)1 << 30}, 0, 0);
    expect(&b, ERR_FORMAT, "63 bits");
    one_tensor(&b, 2, (uint64_t[]){(uint64_t)1 << 31, (uint64_t)1 << 31}, 0, 0);
    expect(&b, ERR_FORMAT, "truncated: tensor t.weight");
    one_tensor(&b, 2, (uint64_t[]){8, 9}, 0, 0); /* 288 bytes of 256 */
    expect(&b, ERR_FORMAT, "takes 72 blocks of 4 bytes");
    one_tensor(&b, 2, (uint64_t[]){33, 1}, 8, 0);
    expect(&b, ERR_FORMAT, "no whole number of Q8_0 blocks");
    one_tensor(&b, 1, (uint64_t[]){4}, 0, 17);
    expect(&b, ERR_FORMAT, "not a multiple of general.alignment 32");
    one_tensor(&b, 1, (uint64_t[]){4}, 0, 512);
    expect(&b, ERR_FORMAT, "begins at 512");
    one_tensor(&b, 1, (uint64_t[]){4}, 0, UINT64_MAX - 31);
    expect(&b, ERR_FORMAT, "truncated");
    /* a type that is not known is listed, not read */
    one_tensor(&b, 1, (uint64_t[]){256}, 16, 0);
    assert_ok(gguf_open_memory(b.data, b.n, "built", &g, &err), &err);
    assert_int_equal(gguf_tensor_at(g, 0)->bytes, 0);
    gguf_close(g);
    /* no dimensions: one value */
    one_tensor(&b, 0, NULL, 0, 0);
    assert_ok(gguf_open_memory(b.data, b.n, "built", &g, &err), &err);
    assert_int_equal(gguf_tensor_at(g, 0)->bytes, 4);
    gguf_close(g);
}

static void test_duplicates_and_overlaps(void **state)
{
    static struct builder b;
    b.n = 0;
    put_head(&b, 3, 0, 2);
    for (int i = 0; i < 2; i++)
        put_text(&b, "twice"), put_u32(&b, GGUF_U8), put(&b, "\1", 1);
    expect(&b, ERR_FORMAT, "key twice is there twice");
    for (int overlap = 0; overlap < 2; overlap++) {
        b.n = 0;
        put_head(&b, 3, 2, 0);
        put_tensor(&b, "a.weight", 1, (uint64_t[]){16}, 0, 32);
        put_tensor(&b, overlap ? "b.weight" : "a.weight", 1, (uint64_t[]){16}, 0, overlap ? 0 : 96);
        put_data(&b, 256);
        expect(&b, ERR_FORMAT, overlap ? "overlap" : "tensor a.weight is there twice");
    }
}

static void test_bad_keys(void **state)
{
    static struct builder b;
    const uint32_t alignments[] = {0, 3, 1u << 21};
    for (size_t i = 0; i < 3; i++) {
        b.n = 0;
        put_head(&b, 3, 0, 1);
        put_text(&b, "general.alignment"), put_u32(&b, GGUF_U32), put_u32(&b, alignments[i]);
        expect(&b, ERR_FORMAT, "power of two");
    }
    b.n = 0; /* 2^32 + 32 is not 32 */
    put_head(&b, 3, 0, 1);
    put_text(&b, "general.alignment"), put_u32(&b, GGUF_U64), put_u64(&b, (UINT64_C(1) << 32) + 32);
    expect(&b, ERR_FORMAT, "general.alignment is 4294967328 (u64)");
    b.n = 0;
    put_head(&b, 3, 0, 1);
    put_text(&b, "k"), put_u32(&b, 13), put_data(&b, 32);
    expect(&b, ERR_FORMAT, "value type 13");
    b.n = 0;
    put_head(&b, 3, 0, 1);
    put_text(&b, "k"), put_u32(&b, GGUF_ARRAY), put_u32(&b, GGUF_ARRAY), put_u64(&b, 0), put_data(&b, 32);
    expect(&b, ERR_FORMAT, "elements of type 9");
    b.n = 0;
    put_head(&b, 3, 0, 1);
    put_text(&b, "a\1b"), put_u32(&b, GGUF_U8), put_data(&b, 32);
    expect(&b, ERR_FORMAT, "control character 0x01");
    b.n = 0;
    put_head(&b, 3, 0, 1);
    put_text(&b, ""), put_u32(&b, GGUF_U8), put_data(&b, 32);
    expect(&b, ERR_FORMAT, "has 0 bytes, expected 1 to");
}

static void test_alignment(void **state)
{
    static struct builder b;
    struct gguf *g = NULL;
    struct err err = {0};
    static const uint32_t types[] = {GGUF_U32, GGUF_U64, GGUF_I32}; /* any integer width */
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        b.n = 0;
        put_head(&b, 3, 2, 1);
        put_text(&b, "general.alignment"), put_u32(&b, types[i]), put_u32(&b, 8);
        if (types[i] == GGUF_U64)
            put_u32(&b, 0);
        put_tensor(&b, "a.weight", 1, (uint64_t[]){2}, 0, 0);
        put_tensor(&b, "b.weight", 1, (uint64_t[]){2}, 0, 8);
        const size_t header = (b.n + 7) / 8 * 8;
        while (b.n < header)
            put(&b, "", 1);
        put(&b, (float[]){1, 2, 3, 4}, 16);
        assert_ok(gguf_open_memory(b.data, b.n, "built", &g, &err), &err);
        float v;
        assert_ok(gguf_tensor_read(g, gguf_find_tensor(g, "b.weight"), 4, 4, &v, &err), &err);
        assert_true(v == 4);
        gguf_close(g);
    }
}

/* ---- files and parts -------------------------------------------------------------------------------------------------------- */

static void path_in(char *out, size_t cap, const char *dir, const char *name)
{
    assert_true(snprintf(out, cap, "%s/%s", dir, name) < (int)cap);
}

/* A part with one tensor of 8 floats, all `no`. */
static void write_part(const char *path, uint32_t no, uint32_t count, uint32_t tensors)
{
    struct gguf_writer *w = NULL;
    struct err err = {0};
    char name[32];
    float data[8];
    for (int i = 0; i < 8; i++)
        data[i] = (float)no;
    assert_ok(gguf_writer_create(&w, &err), &err);
    gguf_writer_u32(w, "split.no", no);
    gguf_writer_u32(w, "split.count", count);
    gguf_writer_u32(w, "split.tensors.count", tensors);
    snprintf(name, sizeof name, "t%u.weight", no);
    gguf_writer_tensor(w, name, 1, (int64_t[]){8}, KN_F32);
    gguf_writer_begin(w, path);
    gguf_writer_data(w, data, 12);
    gguf_writer_data(w, data + 3, 20);
    assert_ok(gguf_writer_end(w, &err), &err);
    gguf_writer_free(w);
}

static void test_parts(void **state)
{
    const char *dir = test_temp_dir();
    char paths[3][512], other[512];
    for (uint32_t i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "m-%05u-of-00003.gguf", i + 1);
        path_in(paths[i], sizeof paths[i], dir, name);
        write_part(paths[i], i, 3, 3);
    }
    uint64_t print = 0;
    for (int i = 0; i < 3; i++) { /* whichever is named */
        struct gguf *g = NULL;
        struct err err = {0};
        float v = -1;
        assert_ok(gguf_open(paths[i], &g, &err), &err);
        assert_int_equal(gguf_n_parts(g), 3);
        assert_int_equal(gguf_n_tensors(g), 3);
        assert_ok(gguf_tensor_read(g, gguf_find_tensor(g, "t2.weight"), 28, 4, &v, &err), &err);
        assert_true(v == 2);
        assert_true(i == 0 || gguf_fingerprint(g) == print);
        print = gguf_fingerprint(g);
        gguf_close(g);
    }
    struct gguf *g = NULL;
    struct err err = {0};
    write_part(paths[1], 2, 3, 3); /* says it is another one */
    assert_err(gguf_open(paths[0], &g, &err), ERR_FORMAT, &err, "expected 1 of 3");
    write_part(paths[1], 1, 3, 3);
    write_part(paths[0], 0, 3, 4);
    assert_err(gguf_open(paths[0], &g, &err), ERR_FORMAT, &err, "split.tensors.count is 4, but the 3 parts hold 3");
    write_part(paths[0], 0, 3, 3);
    assert_int_equal(unlink(paths[2]), 0);
    assert_err(gguf_open(paths[0], &g, &err), ERR_NOT_FOUND, &err, "part 3 of 3");
    path_in(other, sizeof other, dir, "model.gguf");
    write_part(other, 0, 3, 3);
    assert_err(gguf_open(other, &g, &err), ERR_FORMAT, &err, "one of 3 parts");
    write_part(other, 0, 1, 1); /* one of one is whole */
    assert_ok(gguf_open(other, &g, &err), &err);
    gguf_close(g);
}

static void test_files(void **state)
{
    const char *dir = test_temp_dir();
    struct gguf *g = NULL;
    struct err err = {0};
    char path[512];
    path_in(path, sizeof path, dir, "nothing.gguf");
    assert_err(gguf_open(path, &g, &err), ERR_NOT_FOUND, &err, "nothing.gguf");
    assert_err(gguf_open(dir, &g, &err), ERR_INVAL, &err, "regular file");
    path_in(path, sizeof path, dir, "shrinking.gguf");
    write_part(path, 0, 1, 1);
    assert_ok(gguf_open(path, &g, &err), &err);
    const struct gguf_tensor *t = gguf_tensor_at(g, 0);
    float v[8];
    assert_int_equal(truncate(path, (off_t)(t->offset + 16)), 0);
    assert_ok(gguf_tensor_read(g, t, 0, 16, v, &err), &err);
    assert_err(gguf_tensor_read(g, t, 0, 32, v, &err), ERR_FORMAT, &err, "became shorter");
    gguf_close(g);
}

static void test_writer_errors(void **state)
{
    const char *dir = test_temp_dir();
    struct err err = {0};
    char path[512];
    for (int k = 0; k < 4; k++) {
        struct gguf_writer *w = NULL;
        path_in(path, sizeof path, dir, k == 3 ? "no/such/folder.gguf" : "w.gguf");
        assert_ok(gguf_writer_create(&w, &err), &err);
        gguf_writer_tensor(w, "t.weight", 1, (int64_t[]){k == 0 ? 31 : 32}, k == 0 ? KN_Q8_0 : KN_F32);
        gguf_writer_begin(w, path);
        float data[40] = {0};
        gguf_writer_data(w, data, k == 1 ? sizeof data : 64);
        const char *const words[] = {"no whole number of Q8_0", "more data than tensor 0", "data of tensor 0 of 1 is missing",
                                     "creating"};
        assert_err(gguf_writer_end(w, &err), k == 3 ? ERR_IO : ERR_INVAL, &err, words[k]);
        gguf_writer_free(w);
        assert_int_not_equal(access(path, F_OK), 0);
        strcat(path, ".part");
        assert_int_not_equal(access(path, F_OK), 0);
    }
}

/* What is shown and goes into JSON is UTF-8 whatever the file holds, and is never cut inside a character. */
static void shown_texts_are_utf8(void **state)
{
    static struct builder b;
    static const struct {
        const char *raw, *shown;
        size_t cap;
    } cases[] = {{"a\xFFz", "a\xEF\xBF\xBDz", 16},
                 {"\xC3", "\xEF\xBF\xBD", 16},
                 {"\xED\xA0\x80", "\xEF\xBF\xBD", 6},
                 {"ab\xC3\xA9", "ab\xC3\xA9", 5},
                 {"ab\xC3\xA9", "ab", 4},
                 {"a\x7F\tb", "a??b", 16},
                 {"\xFF", "", 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gguf *g = NULL;
        struct err err = {0};
        char out[16];
        b.n = 0;
        put_head(&b, 3, 0, 1);
        put_text(&b, "general.name"), put_u32(&b, GGUF_STRING), put_text(&b, cases[i].raw);
        assert_ok(gguf_open_memory(b.data, b.n, "name", &g, &err), &err);
        assert_true(gguf_copy_text(g, "general.name", out, cases[i].cap));
        assert_string_equal(out, cases[i].shown);
        gguf_close(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shown_texts_are_utf8), cmocka_unit_test(test_values),
        cmocka_unit_test(test_versions),        cmocka_unit_test(test_truncated_everywhere),
        cmocka_unit_test(test_bit_flips),       cmocka_unit_test(test_lying_counts),
        cmocka_unit_test(test_bad_tensors),     cmocka_unit_test(test_duplicates_and_overlaps),
        cmocka_unit_test(test_bad_keys),        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_parts),           cmocka_unit_test(test_files),
        cmocka_unit_test(test_writer_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
