#include "engine/gguf_internal.h"

#include "base/rng.h"
#include "kernels/dtype.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF is little-endian and is read by copying bytes");

/* Far above what any published file has, far below what would hurt. */
#define HEADER_BYTES_MAX (UINT64_C(1) << 30)
#define NAME_BYTES_MAX   1024u
#define ENTRIES_MAX      (1u << 20)
#define PARTS_MAX        512
#define ALIGNMENT_MAX    (1u << 20)
#define READ_AHEAD_BYTES (UINT64_C(1) << 20)

/* ---- reading bytes ------------------------------------------------------------------------------------------------------ */

/* A place in a part's header. The bytes before `have` are in `bytes`; reading on makes more of the file arrive there. */
struct reader {
    const struct gguf_part *part;
    uint8_t *buffer; /* of a file */
    const uint8_t *bytes;
    uint64_t have, pos;
    struct err *err;
};

int gguf_part_read(const struct gguf_part *part, uint64_t offset, uint64_t n, void *dst, uint64_t *ret_got, struct err *err)
{
    uint8_t *out = dst;
    uint64_t at = 0;
    int rc = 0;
    if (part->memory) {
        memcpy(out, part->memory + offset, (size_t)n);
        at = n;
    }
    while (rc == 0 && at < n) {
        const uint64_t left = n - at, most = UINT64_C(1) << 30;
        const ssize_t got = pread(part->fd, out + at, (size_t)(left < most ? left : most), (off_t)(offset + at));
        if (got > 0)
            at += (uint64_t)got;
        else if (got == 0)
            rc = err_set(err, ERR_FORMAT, "%s: the file became shorter while it was read: nothing at offset %" PRIu64,
                         part->path, offset + at);
        else if (errno != EINTR)
            rc = err_set_errno(err, ERR_IO, "%s: reading %" PRIu64 " bytes at offset %" PRIu64, part->path, left, offset + at);
    }
    if (ret_got)
        *ret_got = at;
    return rc;
}

/* Make sure that the n bytes at pos are in memory. `what` is for the error text. */
static int reader_need(struct reader *r, uint64_t n, const char *what)
{
    const struct gguf_part *part = r->part;
    if (n > part->size - r->pos)
        return err_set(r->err, ERR_FORMAT,
                       "%s: truncated: %s at offset %" PRIu64 " takes %" PRIu64 " bytes, but the file ends at %" PRIu64,
                       part->path, what, r->pos, n, part->size);
    if (r->pos + n <= r->have)
        return 0;
    if (r->pos + n > HEADER_BYTES_MAX)
        return err_set(r->err, ERR_FORMAT,
                       "%s: %s at offset %" PRIu64 " takes %" PRIu64 " bytes: a header of more than %" PRIu64
                       " bytes is not believed",
                       part->path, what, r->pos, n, HEADER_BYTES_MAX);
    uint64_t want = r->have + (r->have > READ_AHEAD_BYTES ? r->have : READ_AHEAD_BYTES);
    if (want < r->pos + n)
        want = r->pos + n;
    if (want > part->size)
        want = part->size;
    uint8_t *buffer = realloc(r->buffer, (size_t)want);
    if (!buffer)
        return err_set(r->err, ERR_NOMEM, "%s: no memory for a header of %" PRIu64 " bytes", part->path, want);
    r->buffer = buffer;
    r->bytes = buffer;
    int rc = gguf_part_read(part, r->have, want - r->have, buffer + r->have, NULL, r->err);
    if (rc == 0)
        r->have = want;
    return rc;
}

static int read_bytes(struct reader *r, void *dst, uint64_t n, const char *what)
{
    int rc = reader_need(r, n, what);
    if (rc < 0)
        return rc;
    memcpy(dst, r->bytes + r->pos, (size_t)n);
    r->pos += n;
    return 0;
}

static int read_u32(struct reader *r, uint32_t *v, const char *what)
{
    return read_bytes(r, v, sizeof *v, what);
}

static int read_u64(struct reader *r, uint64_t *v, const char *what)
{
    return read_bytes(r, v, sizeof *v, what);
}

/* A string in place: where it lies and how long it is. The place is valid until the next read of a file that is not whole yet.
 */
static int read_string(struct reader *r, uint64_t *ret_pos, uint64_t *ret_n, const char *what)
{
    uint64_t n;
    int rc = read_u64(r, &n, what);
    if (rc == 0)
        rc = reader_need(r, n, what);
    if (rc < 0)
        return rc;
    *ret_pos = r->pos;
    *ret_n = n;
    r->pos += n;
    return 0;
}

/* A key or tensor name: not empty, not long, printable, so that it can be an error text and a C string. */
static int read_name(struct reader *r, uint64_t *ret_pos, uint64_t *ret_n, const char *what)
{
    uint64_t at = r->pos;
    int rc = read_string(r, ret_pos, ret_n, what);
    if (rc < 0)
        return rc;
    if (*ret_n == 0 || *ret_n > NAME_BYTES_MAX)
        return err_set(r->err, ERR_FORMAT, "%s: %s at offset %" PRIu64 " has %" PRIu64 " bytes, expected 1 to %u",
                       r->part->path, what, at, *ret_n, NAME_BYTES_MAX);
    for (uint64_t i = 0; i < *ret_n; i++) {
        uint8_t c = r->bytes[*ret_pos + i];
        if (c < 0x20 || c == 0x7F)
            return err_set(r->err, ERR_FORMAT, "%s: %s at offset %" PRIu64 " holds the control character 0x%02x", r->part->path,
                           what, at, c);
    }
    return 0;
}

/* ---- parsing a header --------------------------------------------------------------------------------------------------- */

/* Bytes of one value of a type; 0 for strings, arrays and what is no type. */
uint32_t gguf_type_bytes(uint32_t type)
{
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof bytes ? bytes[type] : 0;
}

const char *gguf_type_name(int type)
{
    static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    return type >= 0 && type < (int)(sizeof names / sizeof *names) ? names[type] : "unknown";
}

/* What a pass over a header finds. The first pass only counts, and proves that every read stays inside; the second fills. */
struct pass {
    bool fill;
    size_t n_entries, n_tensors, pool_bytes;
    /* second pass */
    struct gguf_entry *entries;
    struct gguf_tensor *tensors;
    char *pool;
    int32_t part;
};

static const char *pass_name(struct pass *p, const struct reader *r, uint64_t pos, uint64_t n)
{
    char *s = NULL;
    if (p->fill) {
        s = p->pool + p->pool_bytes;
        memcpy(s, r->bytes + pos, (size_t)n);
        s[n] = 0;
    }
    p->pool_bytes += (size_t)n + 1;
    return s;
}

static int parse_array(struct reader *r, struct gguf_entry *e)
{
    uint32_t elem;
    int rc = read_u32(r, &elem, "an array's element type");
    if (rc == 0)
        rc = read_u64(r, &e->count, "an array's length");
    if (rc < 0)
        return rc;
    e->elem_type = (int)elem;
    uint64_t at = r->pos, each = gguf_type_bytes(elem);
    if (each == 0 && elem != GGUF_STRING)
        return err_set(r->err, ERR_FORMAT,
                       "%s: array before offset %" PRIu64 " has elements of type %u; expected numbers, bools or strings",
                       r->part->path, at, elem);
    /* a string takes at least its length */
    uint64_t least = each ? each : 8;
    if (e->count > (r->part->size - at) / least)
        return err_set(r->err, ERR_FORMAT,
                       "%s: array at offset %" PRIu64 " claims %" PRIu64 " elements, but the %" PRIu64
                       " bytes left hold at most %" PRIu64,
                       r->part->path, at, e->count, r->part->size - at, (r->part->size - at) / least);
    if (each) {
        rc = reader_need(r, e->count * each, "an array");
        if (rc == 0)
            r->pos += e->count * each;
    }
    for (uint64_t i = 0; !each && rc == 0 && i < e->count; i++) {
        uint64_t pos, n;
        rc = read_string(r, &pos, &n, "a string of an array");
    }
    e->data = r->bytes + at;
    e->n_bytes = (size_t)(r->pos - at);
    return rc;
}

static int parse_entry(struct reader *r, struct pass *p)
{
    uint64_t pos, n;
    uint32_t type;
    int rc = read_name(r, &pos, &n, "a key");
    if (rc < 0)
        return rc;
    struct gguf_entry e = {.key = pass_name(p, r, pos, n), .count = 1};
    rc = read_u32(r, &type, "a value's type");
    if (rc < 0)
        return rc;
    e.type = (int)type;
    if (type == GGUF_ARRAY) {
        rc = parse_array(r, &e);
    } else if (type == GGUF_STRING) {
        rc = read_string(r, &pos, &n, "a string value");
        e.data = r->bytes + pos;
        e.n_bytes = (size_t)n;
    } else if (gguf_type_bytes(type)) {
        e.n_bytes = gguf_type_bytes(type);
        rc = reader_need(r, e.n_bytes, "a value");
        e.data = r->bytes + r->pos;
        r->pos += e.n_bytes;
    } else {
        rc = err_set(r->err, ERR_FORMAT, "%s: offset %" PRIu64 ": value type %u, expected 0 to 12", r->part->path, r->pos - 4,
                     type);
    }
    if (rc < 0)
        return rc;
    if (p->fill)
        p->entries[p->n_entries] = e;
    p->n_entries++;
    return 0;
}

static int parse_tensor(struct reader *r, struct pass *p)
{
    uint64_t at = r->pos, pos, n;
    uint32_t n_dims, type;
    int rc = read_name(r, &pos, &n, "a tensor's name");
    if (rc < 0)
        return rc;
    char shown[64];
    snprintf(shown, sizeof shown, "%.*s", (int)(n < 60 ? n : 60), (const char *)r->bytes + pos);
    struct gguf_tensor t = {.name = pass_name(p, r, pos, n), .ne = {1, 1, 1, 1}, .n_elems = 1, .part = p->part};
    rc = read_u32(r, &n_dims, "a tensor's number of dimensions");
    if (rc < 0)
        return rc;
    if (n_dims > GGUF_DIMS_MAX)
        return err_set(r->err, ERR_FORMAT, "%s: tensor %s (offset %" PRIu64 ") has %u dimensions, expected at most %d",
                       r->part->path, shown, at, n_dims, GGUF_DIMS_MAX);
    t.n_dims = n_dims ? (int32_t)n_dims : 1;
    for (uint32_t d = 0; d < n_dims; d++) {
        uint64_t ne;
        rc = read_u64(r, &ne, "a tensor's dimension");
        if (rc < 0)
            return rc;
        if (ne == 0 || ne > (uint64_t)INT64_MAX || __builtin_mul_overflow(t.n_elems, (int64_t)ne, &t.n_elems))
            return err_set(r->err, ERR_FORMAT,
                           "%s: tensor %s (offset %" PRIu64 "): dimension %u is %" PRIu64
                           ": expected positive numbers whose product fits 63 bits",
                           r->part->path, shown, at, d, ne);
        t.ne[d] = (int64_t)ne;
    }
    rc = read_u32(r, &type, "a tensor's type");
    if (rc == 0)
        rc = read_u64(r, &t.offset, "a tensor's offset");
    if (rc < 0)
        return rc;
    t.type = type > INT32_MAX ? INT32_MAX : (int)type;
    if (p->fill)
        p->tensors[p->n_tensors] = t;
    p->n_tensors++;
    return 0;
}

static int parse_header(struct reader *r, struct pass *p, uint32_t *ret_version)
{
    const char *path = r->part->path;
    uint64_t n_tensors, n_entries;
    char magic[4];
    uint32_t version;
    int rc = read_bytes(r, magic, 4, "the magic");
    if (rc < 0)
        return rc;
    if (memcmp(magic, "GGUF", 4) != 0)
        return err_set(r->err, ERR_FORMAT, "%s: not a GGUF file: it begins with bytes %02x %02x %02x %02x, expected 'GGUF'",
                       path, (uint8_t)magic[0], (uint8_t)magic[1], (uint8_t)magic[2], (uint8_t)magic[3]);
    rc = read_u32(r, &version, "the version");
    if (rc < 0)
        return rc;
    if ((version & 0xFFFF) == 0)
        return err_set(r->err, ERR_UNSUPPORTED, "%s: a big-endian GGUF file (version field 0x%08x); only little-endian is read",
                       path, version);
    if (version < 2 || version > 3)
        return err_set(r->err, ERR_UNSUPPORTED, "%s: GGUF version %u; versions 2 and 3 are read", path, version);
    rc = read_u64(r, &n_tensors, "the number of tensors");
    if (rc == 0)
        rc = read_u64(r, &n_entries, "the number of keys");
    if (rc < 0)
        return rc;
    /* a key takes at least 14 bytes, a tensor at least 25 */
    uint64_t left = r->part->size - r->pos;
    if (n_entries > left / 14 || n_entries > ENTRIES_MAX)
        return err_set(r->err, ERR_FORMAT,
                       "%s: offset 16: %" PRIu64 " keys claimed; %" PRIu64 " bytes are left, and at most %u are believed", path,
                       n_entries, left, ENTRIES_MAX);
    if (n_tensors > left / 25 || n_tensors > ENTRIES_MAX)
        return err_set(r->err, ERR_FORMAT,
                       "%s: offset 8: %" PRIu64 " tensors claimed; %" PRIu64 " bytes are left, and at most %u are believed",
                       path, n_tensors, left, ENTRIES_MAX);
    for (uint64_t i = 0; rc == 0 && i < n_entries; i++)
        rc = parse_entry(r, p);
    for (uint64_t i = 0; rc == 0 && i < n_tensors; i++)
        rc = parse_tensor(r, p);
    if (rc == 0)
        *ret_version = version;
    return rc;
}

/* ---- one part ----------------------------------------------------------------------------------------------------------- */

static void part_release(struct gguf_part *part)
{
    if (part->fd >= 0)
        close(part->fd);
    if (!part->memory)
        free(part->header);
    free(part->path);
    *part = (struct gguf_part){.fd = -1};
}

static int part_open_file(struct gguf_part *part, const char *path, struct err *err)
{
    *part = (struct gguf_part){.fd = -1};
    part->path = strdup(path);
    if (!part->path)
        return err_set(err, ERR_NOMEM, "%s: no memory", path);
    part->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;
    if (part->fd < 0 || fstat(part->fd, &st) < 0)
        return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: opening the model file", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVAL, "%s: a model must be a regular file", path);
    part->size = (uint64_t)st.st_size;
    part->written = st.st_mtim;
    /* an empty or one-page file is not worth the advice; the result does not matter either */
    (void)posix_fadvise(part->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return 0;
}

/* Check and place a tensor of the part just parsed: relative offset to absolute, bytes by its type, inside the file. */
static int place_tensor(const struct gguf_part *part, struct gguf_tensor *t, uint64_t alignment, struct err *err)
{
    char shape[96];
    gguf_shape_text(t->n_dims, t->ne, shape, sizeof shape);
    if (t->offset % alignment)
        return err_set(err, ERR_FORMAT,
                       "%s: tensor %s: data offset %" PRIu64 " is not a multiple of general.alignment %" PRIu64, part->path,
                       t->name, t->offset, alignment);
    uint64_t data_bytes = part->size > part->data_offset ? part->size - part->data_offset : 0;
    if (t->offset > data_bytes)
        return err_set(err, ERR_FORMAT,
                       "%s: truncated: tensor %s begins at %" PRIu64 " of the data section, which has %" PRIu64 " bytes",
                       part->path, t->name, t->offset, data_bytes);
    t->offset += part->data_offset;
    const struct kn_dtype_info *info = kn_dtype_info(t->type);
    if (!info)
        return 0;
    if (t->ne[0] % info->block_elems)
        return err_set(err, ERR_FORMAT, "%s: tensor %s (%s): rows of %" PRId64 " values are no whole number of %s blocks of %u",
                       part->path, t->name, shape, t->ne[0], info->name, info->block_elems);
    uint64_t blocks = (uint64_t)t->n_elems / info->block_elems;
    if (__builtin_mul_overflow(blocks, (uint64_t)info->block_bytes, &t->bytes) || t->bytes > part->size - t->offset)
        return err_set(err, ERR_FORMAT,
                       "%s: truncated: tensor %s (%s, %s) at offset %" PRIu64 " takes %" PRIu64 " blocks of %u bytes, but the"
                       " file ends at %" PRIu64,
                       part->path, t->name, shape, info->name, t->offset, blocks, info->block_bytes, part->size);
    return 0;
}

static int grow(void *array, size_t n, size_t each, const char *path, struct err *err)
{
    void **p = array;
    void *bigger = realloc(*p, (n ? n : 1) * each);
    if (!bigger)
        return err_set(err, ERR_NOMEM, "%s: no memory for %zu directory entries", path, n);
    *p = bigger;
    return 0;
}

/* general.alignment of the part whose entries are `entries`; 32 where it does not say. */
static int read_alignment(const struct gguf_part *part, const struct gguf_entry *entries, size_t n, uint64_t *ret,
                          struct err *err)
{
    *ret = 32;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(entries[i].key, "general.alignment") != 0)
            continue;
        int64_t v = 0; /* any integer width, as for other keys */
        if (!gguf_entry_integer(entries[i].type, entries[i].data, &v) || v < 1 || v > ALIGNMENT_MAX || (v & (v - 1)))
            return err_set(err, ERR_FORMAT, "%s: general.alignment is %" PRId64 " (%s), expected a power of two up to %u",
                           part->path, v, gguf_type_name(entries[i].type), ALIGNMENT_MAX);
        *ret = (uint64_t)v;
    }
    return 0;
}

/*
 * Parse the header of g->parts[part_no] and append its tensors; of the first part also its keys. The entries of a later part
 * are given back in *ret_entries (caller frees), for the split.* checks.
 */
static int load_part(struct gguf *g, int32_t part_no, struct gguf_entry **ret_entries, size_t *ret_n, struct err *err)
{
    struct gguf_part *part = &g->parts[part_no];
    struct reader r = {.part = part, .err = err, .bytes = part->memory, .have = part->memory ? part->size : 0};
    struct pass count = {0};
    uint32_t version;
    int rc = parse_header(&r, &count, &version);
    part->header = r.buffer;
    if (rc < 0)
        return rc;
    part->header_bytes = r.pos;
    if (r.buffer) { /* give back what was read ahead */
        uint8_t *less = realloc(r.buffer, (size_t)r.pos);
        if (less)
            r.buffer = part->header = less;
        r.bytes = r.buffer;
        r.have = r.pos;
    }
    struct pass fill = {.fill = true, .part = part_no};
    fill.entries = calloc(count.n_entries ? count.n_entries : 1, sizeof *fill.entries);
    fill.pool = g->pools[part_no] = malloc(count.pool_bytes ? count.pool_bytes : 1);
    *ret_entries = fill.entries;
    *ret_n = count.n_entries;
    if (!fill.entries || !fill.pool)
        return err_set(err, ERR_NOMEM, "%s: no memory for %zu keys", part->path, count.n_entries);
    rc = grow(&g->tensors, g->n_tensors + count.n_tensors, sizeof *g->tensors, part->path, err);
    if (rc < 0)
        return rc;
    fill.tensors = g->tensors + g->n_tensors;
    r.pos = 0;
    rc = parse_header(&r, &fill, &version);
    if (rc < 0)
        return rc;
    assert(fill.n_tensors == count.n_tensors && fill.pool_bytes == count.pool_bytes);
    if (part_no == 0)
        g->version = version;
    uint64_t alignment;
    rc = read_alignment(part, fill.entries, fill.n_entries, &alignment, err);
    part->data_offset = (part->header_bytes + alignment - 1) / alignment * alignment;
    for (size_t i = 0; rc == 0 && i < fill.n_tensors; i++)
        rc = place_tensor(part, &fill.tensors[i], alignment, err);
    if (rc < 0)
        return rc;
    g->n_tensors += fill.n_tensors;
    uint64_t mix[3] = {g->fingerprint, part->size, rng_hash(part->memory ? part->memory : part->header, part->header_bytes)};
    g->fingerprint = rng_hash(mix, sizeof mix);
    return 0;
}

/* ---- the directory ------------------------------------------------------------------------------------------------------ */

static int compare_entries(const void *a, const void *b, void *ctx)
{
    const struct gguf_entry *entries = ctx;
    return strcmp(entries[*(const uint32_t *)a].key, entries[*(const uint32_t *)b].key);
}

static int compare_tensors(const void *a, const void *b, void *ctx)
{
    const struct gguf_tensor *tensors = ctx;
    return strcmp(tensors[*(const uint32_t *)a].name, tensors[*(const uint32_t *)b].name);
}

static int compare_places(const void *a, const void *b, void *ctx)
{
    const struct gguf_tensor *tensors = ctx;
    return gguf_compare_places(&tensors[*(const uint32_t *)a], &tensors[*(const uint32_t *)b]);
}

static uint32_t *sorted(size_t n, int (*compare)(const void *, const void *, void *), void *ctx)
{
    uint32_t *order = malloc((n ? n : 1) * sizeof *order);
    for (size_t i = 0; order && i < n; i++)
        order[i] = (uint32_t)i;
    if (order)
        qsort_r(order, n, sizeof *order, compare, ctx);
    return order;
}

/* Sort for lookup; refuse duplicates and tensors that lie on one another. */
static int build_directory(struct gguf *g, struct err *err)
{
    g->entries_by_name = sorted(g->n_entries, compare_entries, g->entries);
    g->tensors_by_name = sorted(g->n_tensors, compare_tensors, g->tensors);
    uint32_t *places = sorted(g->n_tensors, compare_places, g->tensors);
    int rc = 0;
    if (!g->entries_by_name || !g->tensors_by_name || !places)
        rc = err_set(err, ERR_NOMEM, "%s: no memory for a directory of %zu tensors", g->path, g->n_tensors);
    for (size_t i = 1; rc == 0 && i < g->n_entries; i++) {
        const char *key = g->entries[g->entries_by_name[i]].key;
        if (strcmp(key, g->entries[g->entries_by_name[i - 1]].key) == 0)
            rc = err_set(err, ERR_FORMAT, "%s: key %s is there twice", g->path, key);
    }
    for (size_t i = 1; rc == 0 && i < g->n_tensors; i++) {
        const char *name = g->tensors[g->tensors_by_name[i]].name;
        if (strcmp(name, g->tensors[g->tensors_by_name[i - 1]].name) == 0)
            rc = err_set(err, ERR_FORMAT, "%s: tensor %s is there twice", g->path, name);
    }
    for (size_t i = 1; rc == 0 && i < g->n_tensors; i++) {
        const struct gguf_tensor *s = &g->tensors[places[i - 1]], *t = &g->tensors[places[i]];
        if (s->part == t->part && s->offset + s->bytes > t->offset)
            rc = err_set(err, ERR_FORMAT,
                         "%s: tensors %s (offset %" PRIu64 ", %" PRIu64 " bytes) and %s (offset %" PRIu64 ") overlap",
                         g->parts[s->part].path, s->name, s->offset, s->bytes, t->name, t->offset);
    }
    free(places);
    return rc;
}

/* ---- opening ------------------------------------------------------------------------------------------------------------ */

static const struct gguf_entry *entry_of(const struct gguf_entry *entries, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(entries[i].key, key) == 0)
            return &entries[i];
    return NULL;
}

/* The integer of an entry, any width. */
bool gguf_entry_integer(int type, const void *data, int64_t *ret_value)
{
    uint64_t u = 0;
    switch (type) {
    case GGUF_U8:
    case GGUF_BOOL: *ret_value = *(const uint8_t *)data; return true;
    case GGUF_I8: *ret_value = *(const int8_t *)data; return true;
    case GGUF_U16: memcpy(&u, data, 2); break;
    case GGUF_U32: memcpy(&u, data, 4); break;
    case GGUF_U64: memcpy(&u, data, 8); break;
    case GGUF_I16: {
        int16_t v;
        memcpy(&v, data, sizeof v);
        *ret_value = v;
        return true;
    }
    case GGUF_I32: {
        int32_t v;
        memcpy(&v, data, sizeof v);
        *ret_value = v;
        return true;
    }
    case GGUF_I64: memcpy(ret_value, data, 8); return true;
    default: return false;
    }
    if (u > (uint64_t)INT64_MAX)
        return false;
    *ret_value = (int64_t)u;
    return true;
}

static int64_t entry_integer_or(const struct gguf_entry *e, int64_t otherwise)
{
    int64_t v;
    return e && gguf_entry_integer(e->type, e->data, &v) ? v : otherwise;
}

/* The name of part i (from 0) of n beside `path`, which is one of them. NULL where path has no such name, or no memory. */
static char *sibling_path(const char *path, int32_t i, int32_t n)
{
    size_t len = strlen(path);
    const size_t tail = strlen("-00001-of-00003.gguf");
    if (len <= tail)
        return NULL;
    unsigned no, count;
    int used = 0;
    if (sscanf(path + len - tail, "-%5u-of-%5u.gguf%n", &no, &count, &used) != 2 || used != (int)tail || count != (unsigned)n)
        return NULL;
    char *out = NULL;
    if (asprintf(&out, "%.*s-%05d-of-%05d.gguf", (int)(len - tail), path, i + 1, n) < 0)
        return NULL;
    return out;
}

static int check_split(const struct gguf *g, int32_t part_no, int32_t n_parts, const struct gguf_entry *entries, size_t n,
                       struct err *err)
{
    int64_t no = entry_integer_or(entry_of(entries, n, "split.no"), -1);
    int64_t count = entry_integer_or(entry_of(entries, n, "split.count"), -1);
    if (no != part_no || count != n_parts)
        return err_set(err, ERR_FORMAT,
                       "%s: split.no %" PRId64 " of split.count %" PRId64
                       " found, expected %d of %d: not the part its name says",
                       g->parts[part_no].path, no, count, part_no, n_parts);
    return 0;
}

/* How many parts the file says it has: 1 where it does not. */
static int split_count(const char *path, const struct gguf_entry *entries, size_t n, int32_t *ret, struct err *err)
{
    const struct gguf_entry *e = entry_of(entries, n, "split.count");
    int64_t count = e ? entry_integer_or(e, -1) : 1;
    if (count < 0 || count > PARTS_MAX)
        return err_set(err, ERR_FORMAT, "%s: split.count is %" PRId64 " (%s), expected 0 to %d", path, count,
                       e ? gguf_type_name(e->type) : "", PARTS_MAX);
    *ret = count > 1 ? (int32_t)count : 1;
    return 0;
}

/* Forget everything read, keep the struct. */
static void reset_parts(struct gguf *g)
{
    for (int32_t i = 0; i < g->n_parts; i++) {
        part_release(&g->parts[i]);
        free(g->pools[i]);
        g->pools[i] = NULL;
    }
    free(g->entries);
    g->entries = NULL;
    g->n_entries = g->n_tensors = 0;
    g->fingerprint = 0;
    g->n_parts = 0;
}

static int room_for_parts(struct gguf *g, int32_t n, struct err *err)
{
    int rc = grow(&g->parts, (size_t)n, sizeof *g->parts, g->path, err);
    if (rc == 0)
        rc = grow(&g->pools, (size_t)n, sizeof *g->pools, g->path, err);
    if (rc == 0) {
        memset(g->pools, 0, (size_t)n * sizeof *g->pools);
        for (int32_t i = 0; i < n; i++)
            g->parts[i] = (struct gguf_part){.fd = -1};
    }
    return rc;
}

/* Open part after part by name. */
static int load_siblings(struct gguf *g, int32_t n_parts, struct err *err)
{
    int64_t total = -1;
    int rc = room_for_parts(g, n_parts, err);
    for (int32_t i = 0; rc == 0 && i < n_parts; i++) {
        char *path = sibling_path(g->path, i, n_parts);
        if (!path)
            return err_set(err, ERR_FORMAT,
                           "%s: by its metadata one of %d parts, but its name does not end in -NNNNN-of-%05d.gguf, so the"
                           " others cannot be found",
                           g->path, n_parts, n_parts);
        g->n_parts = i + 1;
        rc = part_open_file(&g->parts[i], path, err);
        if (rc == ERR_NOT_FOUND)
            err_prefix(err, "part %d of %d", i + 1, n_parts);
        free(path);
        struct gguf_entry *entries = NULL;
        size_t n = 0;
        if (rc == 0)
            rc = load_part(g, i, &entries, &n, err);
        if (rc == 0)
            rc = check_split(g, i, n_parts, entries, n, err);
        if (rc == 0 && i == 0) {
            total = entry_integer_or(entry_of(entries, n, "split.tensors.count"), -1);
            g->entries = entries;
            g->n_entries = n;
        } else {
            free(entries);
        }
    }
    if (rc == 0 && total >= 0 && (uint64_t)total != g->n_tensors)
        rc = err_set(err, ERR_FORMAT, "%s: split.tensors.count is %" PRId64 ", but the %d parts hold %zu tensors", g->path,
                     total, n_parts, g->n_tensors);
    return rc;
}

static int open_common(const char *path, const void *bytes, size_t n_bytes, struct gguf **ret_gguf, struct err *err)
{
    struct gguf *g = calloc(1, sizeof *g);
    if (!g)
        return err_set(err, ERR_NOMEM, "%s: no memory", path);
    int32_t n_parts = 1;
    int rc = ERR_NOMEM;
    g->path = strdup(path);
    if (!g->path) {
        err_set(err, rc, "%s: no memory", path);
        goto fail;
    }
    rc = room_for_parts(g, 1, err);
    if (rc < 0)
        goto fail;
    g->n_parts = 1;
    if (bytes) {
        g->parts[0] = (struct gguf_part){.fd = -1, .path = strdup(path), .memory = bytes, .size = n_bytes};
        rc = g->parts[0].path ? 0 : err_set(err, ERR_NOMEM, "%s: no memory", path);
    } else {
        rc = part_open_file(&g->parts[0], path, err);
    }
    if (rc == 0)
        rc = load_part(g, 0, &g->entries, &g->n_entries, err);
    if (rc == 0)
        rc = split_count(path, g->entries, g->n_entries, &n_parts, err);
    if (rc == 0 && n_parts > 1) {
        if (bytes) {
            rc = err_set(err, ERR_UNSUPPORTED, "%s: one of %d parts; a model in memory must be whole", path, n_parts);
        } else {
            reset_parts(g);
            rc = load_siblings(g, n_parts, err);
        }
    }
    if (rc == 0)
        rc = build_directory(g, err);
    if (rc < 0)
        goto fail;
    *ret_gguf = g;
    return 0;
fail:
    gguf_close(g);
    return rc;
}

int gguf_open(const char *path, struct gguf **ret_gguf, struct err *err)
{
    return open_common(path, NULL, 0, ret_gguf, err);
}

int gguf_open_memory(const void *bytes, size_t n_bytes, const char *name, struct gguf **ret_gguf, struct err *err)
{
    return open_common(name, bytes ? bytes : "", bytes ? n_bytes : 0, ret_gguf, err);
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    reset_parts(g);
    free(g->parts);
    free(g->pools);
    free(g->entries_by_name);
    free(g->tensors);
    free(g->tensors_by_name);
    free(g->path);
    free(g);
}

const char *gguf_path(const struct gguf *g)
{
    return g->path;
}

int32_t gguf_n_parts(const struct gguf *g)
{
    return g->n_parts;
}

uint64_t gguf_file_bytes(const struct gguf *g)
{
    uint64_t sum = 0;
    for (int32_t i = 0; i < g->n_parts; i++)
        sum += g->parts[i].size;
    return sum;
}

uint32_t gguf_version(const struct gguf *g)
{
    return g->version;
}

uint64_t gguf_fingerprint(const struct gguf *g)
{
    return g->fingerprint;
}
