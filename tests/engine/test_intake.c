/*
 * The way of the bytes from a file to whoever packs them: whatever the disk, the file system and the layout of the file are like, they come in order and whole, or it is said why not.
 *
 * open and pread are this program's own, so that direct reading can be refused and reads can fail, fall short or be slow.
 */
#include "tests/support/test.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/process.h"
#include "base/rng.h"
#include "engine/gguf_writer.h"
#include "engine/intake.h"
#include "engine/synthetic.h"
#include "engine/weights.h"

#define MIB ((size_t)1 << 20)

/* ---- a disk that does as it is told ----------------------------------------------------------------------------------------- */

enum disk {
    DISK_AS_IT_IS,
    DISK_NO_DIRECT,      /* open says no to O_DIRECT */
    DISK_NO_DIRECT_READ, /* pread does */
    DISK_SHORT,          /* every read gives less than was asked for, and some are interrupted */
    DISK_SLOW,
    DISK_MODES
};

static atomic_int disk;
static atomic_llong bad_from = INT64_MAX; /* reads that reach this offset fail */
static atomic_int n_direct, n_ordinary;   /* reads of more than a page */
static atomic_uint turn;

int open(const char *path, int flags, ...)
{
    int (*next)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    mode_t mode = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list args;
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    if ((flags & O_DIRECT) && atomic_load(&disk) == DISK_NO_DIRECT) {
        errno = EINVAL;
        return -1;
    }
    return next(path, flags, mode);
}

ssize_t pread(int fd, void *dst, size_t n, off_t offset)
{
    ssize_t (*next)(int, void *, size_t, off_t) = (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread");
    const bool is_direct = fcntl(fd, F_GETFL) & O_DIRECT;
    const int now = atomic_load(&disk);
    if (n > 4096)
        atomic_fetch_add(is_direct ? &n_direct : &n_ordinary, 1);
    if (is_direct && now == DISK_NO_DIRECT_READ) {
        errno = EINVAL;
        return -1;
    }
    if (now == DISK_SLOW)
        clock_sleep_until_ns(clock_now_ns() + 2 * CLOCK_MS);
    if (now == DISK_SHORT) {
        const unsigned at = atomic_fetch_add(&turn, 1);
        if (at % 3 == 0) {
            errno = EINTR;
            return -1;
        }
        if (n > 8192)
            n = is_direct && at % 3 == 1 ? n / 8192 * 4096
                                         : n / 2 + 1; /* the latter ends direct reading: nothing is aligned any more */
        if (is_direct && n % 4096) {
            const ssize_t got = next(fd, dst, (n + 4095) / 4096 * 4096, offset);
            return got > (ssize_t)n ? (ssize_t)n : got;
        }
    }
    if (offset + (off_t)n > atomic_load(&bad_from)) {
        errno = EIO;
        return -1;
    }
    return next(fd, dst, n, offset);
}

static void set_disk(enum disk as)
{
    atomic_store(&disk, (int)as);
    atomic_store(&n_direct, 0);
    atomic_store(&n_ordinary, 0);
}

static int put_back(void **state)
{
    set_disk(DISK_AS_IT_IS);
    atomic_store(&bad_from, INT64_MAX);
    return 0;
}

/* ---- files ------------------------------------------------------------------------------------------------------------------ */

/* Tensors of so many bytes each, of noise; with n_parts above 1 dealt out to parts in turn. */
static const char *write_file(const int64_t *bytes, int n, int n_parts)
{
    static char path[600];
    const char *dir = test_temp_dir();
    for (int part = n_parts; part-- > 0;) {
        struct gguf_writer *w = NULL;
        struct err err = {0};
        char name[32];
        assert_ok(gguf_writer_create(&w, &err), &err);
        if (n_parts > 1) {
            gguf_writer_u32(w, "split.no", (uint32_t)part);
            gguf_writer_u32(w, "split.count", (uint32_t)n_parts);
        }
        for (int i = part; i < n; i += n_parts) {
            snprintf(name, sizeof name, "t%d", i);
            gguf_writer_tensor(w, name, 1, (int64_t[]){bytes[i] / 4}, KN_F32);
        }
        if (n_parts > 1)
            snprintf(path, sizeof path, "%s/m-%05d-of-%05d.gguf", dir, part + 1, n_parts);
        else
            snprintf(path, sizeof path, "%s/m.gguf", dir);
        gguf_writer_begin(w, path);
        for (int i = part; i < n; i += n_parts) {
            uint64_t *noise = malloc((size_t)bytes[i] + 8);
            for (size_t k = 0; k < (size_t)bytes[i] / 8 + 1; k++)
                noise[k] = rng_at((uint64_t)i + 1, k);
            gguf_writer_data(w, noise, (size_t)bytes[i]);
            free(noise);
        }
        assert_ok(gguf_writer_end(w, &err), &err);
        gguf_writer_free(w);
    }
    return path;
}

static struct gguf *open_file(const char *path)
{
    struct gguf *g = NULL;
    struct err err = {0};
    assert_ok(gguf_open(path, &g, &err), &err);
    return g;
}

/* All tensors of a file in order, or those whose number has its bit in `skipped` left out. */
static size_t list_all(const struct gguf *g, uint64_t skipped, const struct gguf_tensor *list[64])
{
    size_t n = 0;
    for (size_t i = 0; i < gguf_n_tensors(g); i++)
        if (!(skipped >> i & 1))
            list[n++] = gguf_tensor_at(g, i);
    return n;
}

/* Take everything in units of about `unit` bytes, and hold it against plain reading. */
static void take_all(const struct gguf *g, uint64_t skipped, size_t unit)
{
    const struct gguf_tensor *list[64];
    const size_t n = list_all(g, skipped, list);
    struct intake *in = NULL;
    struct err err = {0};
    assert_ok(intake_open(g, list, n, &in, &err), &err);
    for (size_t i = 0; i < n; i++) {
        unsigned char *want = malloc((size_t)list[i]->bytes);
        const int now = atomic_exchange(&disk, DISK_AS_IT_IS);
        assert_ok(gguf_tensor_read(g, list[i], 0, (size_t)list[i]->bytes, want, &err), &err);
        atomic_store(&disk, now);
        for (uint64_t at = 0; at < list[i]->bytes;) {
            const void *bytes = NULL;
            size_t got = 0;
            assert_ok(intake_take(in, unit, &bytes, &got, &err), &err);
            assert_true(got > 0 && got <= list[i]->bytes - at && got <= INTAKE_UNIT_BYTES);
            assert_true(got % unit == 0 || at + got == list[i]->bytes);
            if (memcmp(bytes, want + at, got) != 0)
                fail_msg("%s differs in %zu bytes from %llu on (units of %zu)", list[i]->name, got, (unsigned long long)at,
                         unit);
            at += got;
        }
        free(want);
    }
    assert_ok(intake_finish(in, &err), &err);
    intake_close(in);
}

/* Sizes around those of blocks, pieces, units and the ring. */
static const int64_t sizes[] = {4,       (int64_t)INTAKE_RING_BYTES + 52, 4096, 100, (int64_t)INTAKE_PIECE_BYTES, 3000000, 12,
                                1000000, (int64_t)INTAKE_UNIT_BYTES + 4,  8,    4};
#define N_SIZES ((int)(sizeof sizes / sizeof *sizes))

/* ---- what comes ------------------------------------------------------------------------------------------------------------- */

static void on_every_disk(void **state)
{
    static const size_t units[] = {4, 4100, 300000, INTAKE_UNIT_BYTES};
    for (int n_parts = 1; n_parts <= 3; n_parts += 2) {
        const char *path = write_file(sizes, N_SIZES, n_parts);
        for (int as = 0; as < DISK_MODES; as++)
            for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
                struct gguf *g = open_file(path);
                set_disk((enum disk)as);
                take_all(g, 0, units[u]);
                set_disk(DISK_AS_IT_IS);
                gguf_close(g);
            }
    }
}

static void with_tensors_left_out(void **state)
{
    struct gguf *g = open_file(write_file(sizes, N_SIZES, 1));
    for (uint64_t skipped = 0; skipped < 1u << N_SIZES; skipped += 37)
        take_all(g, skipped, 1 + skipped % 5000);
    take_all(g, (1u << N_SIZES) - 1, 1); /* all of them */
    gguf_close(g);
}

static void in_memory(void **state)
{
    size_t n;
    char *bytes = test_read_file(write_file(sizes, N_SIZES, 1), &n);
    struct gguf *g = NULL;
    struct err err = {0};
    assert_ok(gguf_open_memory(bytes, n, "memory", &g, &err), &err);
    take_all(g, 0, 300000);
    gguf_close(g);
    free(bytes);
}

/* The same weights to the bit, whichever way they came. */
static void a_model(void **state)
{
    static const char *const specs[] = {"tiny-moe:q8_0", "tiny-dense:f16"};
    struct kn_device *device = NULL;
    struct err err = {0};
    char path[600];
    snprintf(path, sizeof path, "%s/model.gguf", test_temp_dir());
    assert_ok(kn_device_open("cpu", NULL, &device, &err), &err);
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        struct synthetic s;
        assert_ok(synthetic_parse(specs[i], &s, &err), &err);
        assert_ok(synthetic_write_model(path, &s.shape, &(struct synthetic_file){.seed = 1, .dtype = s.dtype}, &err), &err);
        synthetic_release(&s);
        size_t n;
        char *bytes = test_read_file(path, &n);
        struct gguf *g = NULL;
        struct model *want = NULL;
        assert_ok(gguf_open_memory(bytes, n, "memory", &g, &err), &err);
        assert_ok(model_open(device, g, NULL, &want, &err), &err);
        gguf_close(g);
        for (int as = 0; as < DISK_MODES; as++) {
            struct model *got = NULL;
            g = open_file(path);
            set_disk((enum disk)as);
            assert_ok(model_open(device, g, NULL, &got, &err), &err);
            set_disk(DISK_AS_IT_IS);
            assert_int_equal(got->token_embd.data_bytes, want->token_embd.data_bytes);
            assert_memory_equal(got->token_embd.data, want->token_embd.data, want->token_embd.data_bytes);
            for (int32_t l = 0; l < want->shape.n_layers; l++) {
                const struct kn_weight *a = want->shape.is_moe ? &want->layers[l].e_down : &want->layers[l].w_down;
                const struct kn_weight *b = want->shape.is_moe ? &got->layers[l].e_down : &got->layers[l].w_down;
                assert_memory_equal(b->data, a->data, a->data_bytes);
                assert_memory_equal(got->layers[l].attn_norm, want->layers[l].attn_norm, (size_t)want->shape.n_embd * 4);
            }
            model_close(device, got);
            gguf_close(g);
        }
        model_close(device, want);
        free(bytes);
    }
    kn_device_close(device);
}

/* ---- what does not ---------------------------------------------------------------------------------------------------------- */

/* Take until it fails; how many bytes came before. */
static uint64_t take_until_error(const struct gguf *g, int want, const char *words)
{
    const struct gguf_tensor *list[64];
    const size_t n = list_all(g, 0, list);
    struct intake *in = NULL;
    struct err err = {0};
    uint64_t sum = 0, all = 0;
    assert_ok(intake_open(g, list, n, &in, &err), &err);
    for (size_t i = 0; i < n; i++)
        all += list[i]->bytes;
    int rc = 0;
    while (rc == 0 && sum < all) {
        const void *bytes;
        size_t got = 0;
        rc = intake_take(in, 4, &bytes, &got, &err);
        sum += got;
    }
    assert_err(rc, want, &err, words);
    if (want == ERR_FORMAT)
        assert_true(test_contains(err.text, "became shorter"));
    intake_close(in);
    return sum;
}

static void a_file_that_ends_early(void **state)
{
    const int64_t some[] = {100000, 9000000, 200, 9000000, 400, 3000000};
    const char *path = write_file(some, 6, 1);
    static const int on[] = {DISK_AS_IT_IS, DISK_NO_DIRECT, DISK_SHORT};
    for (size_t k = 0; k < 3; k++)
        for (int cut = 5; cut >= 3; cut -= 2) {
            char name[32], copy[700];
            snprintf(name, sizeof name, "tensor t%d: ", cut);
            snprintf(copy, sizeof copy, "%s.cut", path);
            uint64_t before = 0;
            for (int i = 0; i < cut; i++)
                before += (uint64_t)some[i];
            size_t n;
            char *bytes = test_read_file(path, &n);
            test_write_file(copy, bytes, n);
            free(bytes);
            /* the header promises more: all that is there comes, then the first tensor that is not whole is named */
            struct gguf *g = open_file(copy);
            assert_int_equal(truncate(copy, (off_t)(gguf_tensor_at(g, (size_t)cut)->offset + 1000004)), 0);
            set_disk((enum disk)on[k]);
            assert_int_equal(take_until_error(g, ERR_FORMAT, name), before + 1000004);
            set_disk(DISK_AS_IT_IS);
            gguf_close(g);
            unlink(copy);
        }
}

static void a_bad_block(void **state)
{
    const int64_t some[] = {100000, 9000000, 3000000};
    struct gguf *g = open_file(write_file(some, 3, 1));
    for (int as = DISK_AS_IT_IS; as <= DISK_NO_DIRECT; as++) {
        set_disk((enum disk)as);
        atomic_store(&bad_from, (long long)(gguf_tensor_at(g, 2)->offset + 2000000));
        const uint64_t before = take_until_error(g, ERR_IO, "tensor t2: ");
        assert_true(before >= 9100000 && before < 9100000 + 2000000);
        atomic_store(&bad_from, 0);
        assert_int_equal(take_until_error(g, ERR_IO, "tensor t0: "), 0);
        atomic_store(&bad_from, INT64_MAX);
    }
    gguf_close(g);
}

static void a_file_that_changes(void **state)
{
    const int64_t some[] = {5000000};
    const char *path = write_file(some, 1, 1);
    struct gguf *g = open_file(path);
    const struct gguf_tensor *t = gguf_tensor_at(g, 0);
    struct intake *in = NULL;
    struct err err = {0};
    const struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    assert_ok(intake_open(g, &t, 1, &in, &err), &err);
    for (uint64_t at = 0; at < t->bytes;) {
        const void *bytes;
        size_t got = 0;
        assert_ok(intake_take(in, 4, &bytes, &got, &err), &err);
        at += got;
    }
    assert_ok(intake_finish(in, &err), &err);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_err(intake_finish(in, &err), ERR_FORMAT, &err, "written to");
    intake_close(in);
    gguf_close(g);
}

/* At any moment, reads under way or not. */
static void given_up(void **state)
{
    const int64_t some[] = {100000, 30000000};
    struct gguf *g = open_file(write_file(some, 2, 1));
    for (int takes = 0; takes < 12; takes++) {
        const struct gguf_tensor *list[64];
        const size_t n = list_all(g, 0, list);
        struct intake *in = NULL;
        struct err err = {0};
        set_disk(takes % 2 ? DISK_SLOW : DISK_AS_IT_IS);
        assert_ok(intake_open(g, list, n, &in, &err), &err);
        for (int i = 0; i < takes; i++) {
            const void *bytes;
            size_t got;
            assert_ok(intake_take(in, 50000, &bytes, &got, &err), &err);
        }
        intake_close(in);
    }
    intake_close(NULL);
    gguf_close(g);
}

static bool says_no(void *ctx, uint64_t done, uint64_t total)
{
    return ++*(int *)ctx < 3;
}

static void a_model_given_up(void **state)
{
    struct kn_device *device = NULL;
    struct model *m = NULL;
    struct synthetic s;
    struct err err = {0};
    char path[600];
    int calls = 0;
    snprintf(path, sizeof path, "%s/model.gguf", test_temp_dir());
    assert_ok(kn_device_open("cpu", NULL, &device, &err), &err);
    assert_ok(synthetic_parse("tiny-dense:f32", &s, &err), &err);
    assert_ok(synthetic_write_model(path, &s.shape, &(struct synthetic_file){.seed = 1, .dtype = s.dtype}, &err), &err);
    synthetic_release(&s);
    struct gguf *g = open_file(path);
    struct weights_progress progress = {.fn = says_no, .ctx = &calls};
    assert_err(model_open(device, g, &progress, &m, &err), ERR_CANCELLED, &err, "given up");
    assert_int_equal(calls, 3);
    assert_null(m);
    gguf_close(g);
    kn_device_close(device);
}

/* ---- what it costs ---------------------------------------------------------------------------------------------------------- */

static size_t cached_pages(const char *path)
{
    struct stat st;
    const int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    const size_t n = ((size_t)st.st_size + 4095) / 4096;
    unsigned char *marks = calloc(n, 1);
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(p != MAP_FAILED && mincore(p, (size_t)st.st_size, marks) == 0);
    size_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += marks[i] & 1;
    munmap(p, (size_t)st.st_size);
    close(fd);
    free(marks);
    return sum;
}

static void the_cache_is_left_alone(void **state)
{
    const int64_t some[] = {30000000};
    const char *path = write_file(some, 1, 1);
    const int fd = open(path, O_RDONLY);
    assert_int_equal(fsync(fd), 0);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    if (cached_pages(path) > 0)
        skip_because("this file system's files are always in memory");
    for (int as = DISK_AS_IT_IS; as <= DISK_NO_DIRECT_READ; as++) {
        struct gguf *g = open_file(path);
        uint64_t bytes = 0;
        struct err err = {0};
        set_disk((enum disk)as);
        assert_ok(intake_drain(g, UINT64_MAX, &bytes, &err), &err);
        set_disk(DISK_AS_IT_IS);
        assert_int_equal(bytes, 30000000);
        assert_true(cached_pages(path) <= 4);
        gguf_close(g);
    }
}

static void direct_where_it_can_be(void **state)
{
    const int64_t some[] = {10000000};
    const char *path = write_file(some, 1, 1);
    const int fd = open(path, O_RDONLY | O_DIRECT);
    if (fd < 0)
        skip_because("no direct reads on this file system");
    close(fd);
    struct gguf *g = open_file(path);
    take_all(g, 0, 4);
    set_disk(DISK_AS_IT_IS);
    uint64_t bytes = 0;
    struct err err = {0};
    assert_ok(intake_drain(g, UINT64_MAX, &bytes, &err), &err);
    assert_int_equal(atomic_load(&n_ordinary), 0);
    assert_true(atomic_load(&n_direct) >= 10000000 / (int)INTAKE_PIECE_BYTES);
    set_disk(DISK_NO_DIRECT_READ);
    assert_ok(intake_drain(g, UINT64_MAX, &bytes, &err), &err);
    assert_true(atomic_load(&n_direct) <= 8); /* a refusal is not asked for again and again */
    gguf_close(g);
}

/* However large the file is. It has a hole instead of data. */
static void memory_is_bounded(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip_because("a sanitizer's own memory counts");
#endif
    const int64_t some[] = {4096};
    const char *path = write_file(some, 1, 1);
    size_t n;
    char *bytes = test_read_file(path, &n);
    uint64_t *elems = memmem(bytes, n, "t0\1\0\0\0", 6);
    assert_non_null(elems);
    memcpy((char *)elems + 6, &(uint64_t){400 * MIB / 4}, 8);
    test_write_file(path, bytes, n);
    free(bytes);
    assert_int_equal(truncate(path, (off_t)(n - 4096 + 400 * MIB)), 0);
    struct gguf *g = open_file(path);
    for (int as = DISK_AS_IT_IS; as <= DISK_NO_DIRECT; as++) {
        uint64_t all = 0;
        struct err err = {0};
        const uint64_t before = process_peak_bytes();
        assert_true(before > 0);
        set_disk((enum disk)as);
        assert_ok(intake_drain(g, UINT64_MAX, &all, &err), &err);
        set_disk(DISK_AS_IT_IS);
        assert_int_equal(all, 400 * MIB);
        assert_true(process_peak_bytes() <= before + INTAKE_RING_BYTES + 4 * MIB);
    }
    gguf_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(memory_is_bounded, put_back), /* first: what others took would hide it */
        cmocka_unit_test_teardown(on_every_disk, put_back),
        cmocka_unit_test_teardown(with_tensors_left_out, put_back),
        cmocka_unit_test_teardown(in_memory, put_back),
        cmocka_unit_test_teardown(a_model, put_back),
        cmocka_unit_test_teardown(a_file_that_ends_early, put_back),
        cmocka_unit_test_teardown(a_bad_block, put_back),
        cmocka_unit_test_teardown(a_file_that_changes, put_back),
        cmocka_unit_test_teardown(given_up, put_back),
        cmocka_unit_test_teardown(a_model_given_up, put_back),
        cmocka_unit_test_teardown(the_cache_is_left_alone, put_back),
        cmocka_unit_test_teardown(direct_where_it_can_be, put_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
