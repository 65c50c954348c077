#include "engine/intake.h"

#include "engine/gguf_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOTS       (INTAKE_RING_BYTES / INTAKE_PIECE_BYTES)
#define READERS_MAX 4              /* reads under way: what keeps a flash disk busy */
#define ALIGN       ((size_t)4096) /* of direct reads; what the blocks of disks divide */
#define GAP_BYTES   65536          /* read over rather than left out: the padding between tensors */
#define HUGE_BYTES  ((size_t)2 << 20)

/* What is read of a file without a break: `begin` is aligned. */
struct stretch {
    int32_t part;
    uint64_t begin, end;
};

enum slot_state { SLOT_FREE, SLOT_READING, SLOT_READ };

/* A piece of a file in the ring. Its reader's own while it is read, else the owner's. */
struct slot {
    enum slot_state state; /* under lock */
    int32_t part;
    uint64_t offset; /* of its first byte in the file */
    size_t bytes, valid;
    struct err err; /* where valid < bytes */
};

struct intake {
    const struct gguf *g;
    const struct gguf_tensor **tensors;
    size_t n_tensors;
    /* the owner's */
    size_t at; /* the tensor at hand */
    uint64_t done;
    const uint8_t *window; /* bytes that have arrived and are not taken: `have` of them, from `offset` of `part` on */
    size_t have;
    int32_t part;
    uint64_t offset;
    uint64_t n_adopted, n_released; /* slots, counted through */
    const struct slot *broken;      /* the window ends where this one could not be read */
    pthread_t readers[READERS_MAX];
    int n_readers;
    /* immutable while readers run */
    struct stretch *stretches;
    size_t n_stretches;
    int32_t n_parts;         /* of what follows */
    int *direct_fds;         /* [n_parts]; -1: none */
    atomic_bool *is_refused; /* [n_parts]: direct reading is */
    uint8_t *memory, *ring;  /* INTAKE_UNIT_BYTES lie before the ring */
    size_t memory_bytes;
    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t arrived, freed;
    struct slot slots[SLOTS];
    size_t next_stretch;
    uint64_t next_offset;
    uint64_t n_begun; /* slots, counted through */
    bool stops;
};

/* ---- reading ---------------------------------------------------------------------------------------------------------------- */

/* Past the page cache, as far as it goes: an end of the file within a block, or a refusal, leaves the rest to others. */
static size_t read_direct(struct intake *in, const struct slot *s, uint8_t *dst)
{
    const size_t n = (s->bytes + ALIGN - 1) / ALIGN * ALIGN;
    size_t at = 0;
    while (at < s->bytes && at % ALIGN == 0 && !atomic_load(&in->is_refused[s->part])) {
        const ssize_t got = pread(in->direct_fds[s->part], dst + at, n - at, (off_t)(s->offset + at));
        if (got > 0)
            at += (size_t)got;
        else if (got == 0)
            break;
        else if (errno != EINTR)
            atomic_store(&in->is_refused[s->part], true); /* if it is the disk's failure the other way will tell */
    }
    return at < s->bytes ? at : s->bytes;
}

static void read_piece(struct intake *in, struct slot *s, uint8_t *dst)
{
    const struct gguf_part *part = &in->g->parts[s->part];
    uint64_t got = 0;
    s->valid = read_direct(in, s, dst);
    if (s->valid == s->bytes)
        return;
    gguf_part_read(part, s->offset + s->valid, s->bytes - s->valid, dst + s->valid, &got, &s->err);
    s->valid += (size_t)got;
    (void)posix_fadvise(part->fd, (off_t)s->offset, (off_t)((s->bytes + ALIGN - 1) / ALIGN * ALIGN), POSIX_FADV_DONTNEED);
}

/* Under lock: what is to be read next. Something is left. */
static void next_piece(struct intake *in, struct slot *s)
{
    const struct stretch *st = &in->stretches[in->next_stretch];
    const uint64_t left = st->end - in->next_offset;
    s->part = st->part;
    s->offset = in->next_offset;
    s->bytes = left < INTAKE_PIECE_BYTES ? (size_t)left : INTAKE_PIECE_BYTES;
    s->valid = 0;
    in->next_offset += s->bytes;
    if (in->next_offset == st->end && ++in->next_stretch < in->n_stretches)
        in->next_offset = in->stretches[in->next_stretch].begin;
}

static void *read_on(void *arg)
{
    struct intake *in = arg;
    pthread_setname_np(pthread_self(), "heron-read");
    pthread_mutex_lock(&in->lock);
    for (;;) {
        const size_t i = in->n_begun % SLOTS;
        struct slot *s = &in->slots[i];
        if (in->stops || in->next_stretch == in->n_stretches)
            break;
        if (s->state != SLOT_FREE) {
            pthread_cond_wait(&in->freed, &in->lock);
            continue;
        }
        next_piece(in, s);
        in->n_begun++;
        s->state = SLOT_READING;
        pthread_mutex_unlock(&in->lock);
        read_piece(in, s, in->ring + i * INTAKE_PIECE_BYTES);
        pthread_mutex_lock(&in->lock);
        s->state = SLOT_READ;
        pthread_cond_signal(&in->arrived); /* only the owner waits */
    }
    pthread_mutex_unlock(&in->lock);
    return NULL;
}

/* ---- taking ----------------------------------------------------------------------------------------------------------------- */

/* Adopted slots whose bytes all lie before the window go back to the readers; all of them where `all`. */
static void release(struct intake *in, bool all)
{
    if (in->broken) /* nothing behind it is wanted, and it has the words for that */
        return;
    pthread_mutex_lock(&in->lock);
    while (in->n_released < in->n_adopted) {
        struct slot *s = &in->slots[in->n_released % SLOTS];
        if (!all && s->part == in->part && s->offset + s->bytes > in->offset)
            break;
        s->state = SLOT_FREE;
        in->n_released++;
    }
    pthread_cond_broadcast(&in->freed);
    pthread_mutex_unlock(&in->lock);
}

/* Let the window begin at this place, and give back what it leaves behind. */
static void move_window(struct intake *in, int32_t part, uint64_t offset)
{
    const bool is_inside = in->part == part && offset >= in->offset && offset - in->offset < in->have;
    const size_t skip = is_inside ? (size_t)(offset - in->offset) : 0;
    in->window += skip;
    in->have = is_inside ? in->have - skip : 0;
    in->part = part;
    in->offset = offset;
    release(in, !is_inside);
}

/* The slot that comes next, once it is read; NULL: it is not, and `waits` is false. */
static const struct slot *arrival(struct intake *in, bool waits)
{
    const struct slot *s = &in->slots[in->n_adopted % SLOTS];
    pthread_mutex_lock(&in->lock);
    while (waits && s->state != SLOT_READ)
        pthread_cond_wait(&in->arrived, &in->lock);
    const bool is_read = s->state == SLOT_READ;
    pthread_mutex_unlock(&in->lock);
    return is_read ? s : NULL;
}

/* Lengthen the window by the next slot. */
static void adopt(struct intake *in, const struct slot *s)
{
    const size_t i = in->n_adopted % SLOTS;
    uint8_t *bytes = in->ring + i * INTAKE_PIECE_BYTES;
    if (in->have == 0) { /* it begins somewhere in here; before it lies padding, or what aligns the piece */
        assert(s->part == in->part && s->offset <= in->offset);
        const uint64_t skip = in->offset - s->offset;
        in->window = bytes + skip;
        in->have = skip < s->valid ? s->valid - (size_t)skip : 0;
    } else {
        assert(s->part == in->part && s->offset == in->offset + in->have);
        if (i == 0) { /* the ring starts again: less than a unit moves in front of it */
            in->window = memcpy(in->ring - in->have, in->window, in->have);
            release(in, true);
        }
        in->have += s->valid;
    }
    in->n_adopted++;
    if (s->valid < s->bytes)
        in->broken = s;
}

/* Until the window holds n bytes, or more where more is there. */
static int fill_window(struct intake *in, const struct gguf_tensor *t, size_t n, struct err *err)
{
    while (in->have < n) {
        if (in->broken) {
            if (err)
                *err = in->broken->err;
            const int code = in->broken->err.code;
            /* small gaps are read over: what cannot be read may be nobody's */
            err_prefix(err, in->broken->offset + in->broken->bytes <= t->offset ? "before tensor %s" : "tensor %s", t->name);
            return code;
        }
        adopt(in, arrival(in, true));
    }
    while (in->have < INTAKE_UNIT_BYTES && !in->broken && in->n_adopted % SLOTS != 0) {
        const struct slot *s = arrival(in, false);
        if (!s || s->part != in->part || s->offset != in->offset + in->have)
            break;
        adopt(in, s);
    }
    return 0;
}

int intake_take(struct intake *in, size_t unit, const void **ret_bytes, size_t *ret_n, struct err *err)
{
    assert(in->at < in->n_tensors && unit > 0 && unit <= INTAKE_UNIT_BYTES);
    const struct gguf_tensor *t = in->tensors[in->at];
    const struct gguf_part *part = &in->g->parts[t->part];
    const uint64_t left = t->bytes - in->done;
    size_t n = left < INTAKE_UNIT_BYTES ? (size_t)left : INTAKE_UNIT_BYTES;
    if (part->memory) {
        *ret_bytes = part->memory + t->offset + in->done;
    } else {
        move_window(in, t->part, t->offset + in->done);
        const int rc = fill_window(in, t, unit < left ? unit : (size_t)left, err);
        if (rc != 0)
            return rc;
        *ret_bytes = in->window;
        n = in->have < n ? in->have : n;
    }
    if (n < left)
        n -= n % unit;
    in->done += n;
    if (in->done == t->bytes) {
        in->at++;
        in->done = 0;
    }
    *ret_n = n;
    return 0;
}

int intake_finish(struct intake *in, struct err *err)
{
    assert(in->at == in->n_tensors);
    for (int32_t i = 0; i < in->g->n_parts; i++) {
        const struct gguf_part *part = &in->g->parts[i];
        struct stat st;
        if (part->fd >= 0 && fstat(part->fd, &st) == 0 &&
            (st.st_mtim.tv_sec != part->written.tv_sec || st.st_mtim.tv_nsec != part->written.tv_nsec ||
             (uint64_t)st.st_size != part->size))
            return err_set(err, ERR_FORMAT, "%s: the file was written to while it was read", part->path);
    }
    return 0;
}

/* ---- life ------------------------------------------------------------------------------------------------------------------- */

/* What is to be read: the tensors, with small gaps between them. */
static void find_stretches(struct intake *in)
{
    for (size_t i = 0; i < in->n_tensors; i++) {
        const struct gguf_tensor *t = in->tensors[i];
        struct stretch *last = in->n_stretches ? &in->stretches[in->n_stretches - 1] : NULL;
        if (last && last->part == t->part && t->offset <= last->end + GAP_BYTES)
            last->end = t->offset + t->bytes;
        else
            in->stretches[in->n_stretches++] =
                (struct stretch){.part = t->part, .begin = t->offset / ALIGN * ALIGN, .end = t->offset + t->bytes};
    }
}

/* The opened file once more, now past the page cache: this very file, whatever its name means by now. */
static void open_direct(struct intake *in, int32_t part)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", in->g->parts[part].fd);
    in->direct_fds[part] = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    atomic_store(&in->is_refused[part], in->direct_fds[part] < 0);
}

static int map_ring(struct intake *in, struct err *err)
{
    in->memory_bytes = INTAKE_UNIT_BYTES + INTAKE_RING_BYTES + HUGE_BYTES;
    void *p = mmap(NULL, in->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return err_set(err, ERR_NOMEM, "no memory for %zu bytes to read into", in->memory_bytes);
    in->memory = p;
    in->ring = in->memory + INTAKE_UNIT_BYTES;
    in->ring += (HUGE_BYTES - (uintptr_t)in->ring % HUGE_BYTES) % HUGE_BYTES;
    /* small pages make small requests: a disk that reads 2 GB/s into huge ones may read 1 into those */
    (void)madvise(in->ring, INTAKE_RING_BYTES, MADV_HUGEPAGE);
    return 0;
}

static int start_readers(struct intake *in, struct err *err)
{
    uint64_t n_pieces = 0;
    for (size_t i = 0; i < in->n_stretches; i++)
        n_pieces += (in->stretches[i].end - in->stretches[i].begin + INTAKE_PIECE_BYTES - 1) / INTAKE_PIECE_BYTES;
    in->next_offset = in->stretches[0].begin;
    while (in->n_readers < READERS_MAX && (uint64_t)in->n_readers < n_pieces) {
        const int rc = pthread_create(&in->readers[in->n_readers], NULL, read_on, in);
        if (rc != 0 && in->n_readers == 0) {
            errno = rc;
            return err_set_errno(err, ERR_IO, "a thread that reads the model cannot be started");
        }
        if (rc != 0)
            break; /* fewer do */
        in->n_readers++;
    }
    return 0;
}

int intake_open(const struct gguf *g, const struct gguf_tensor *const *tensors, size_t n, struct intake **ret_intake,
                struct err *err)
{
    struct intake *in = calloc(1, sizeof *in);
    if (!in)
        return err_set(err, ERR_NOMEM, "no memory to read a model");
    in->g = g;
    in->n_tensors = n;
    pthread_mutex_init(&in->lock, NULL);
    pthread_cond_init(&in->arrived, NULL);
    pthread_cond_init(&in->freed, NULL);
    int rc = 0;
    in->tensors = malloc((n ? n : 1) * sizeof(*in->tensors));
    in->stretches = malloc((n ? n : 1) * sizeof *in->stretches);
    in->direct_fds = malloc((size_t)g->n_parts * sizeof *in->direct_fds);
    in->is_refused = malloc((size_t)g->n_parts * sizeof *in->is_refused);
    if (!in->tensors || !in->stretches || !in->direct_fds || !in->is_refused) {
        rc = err_set(err, ERR_NOMEM, "no memory for a list of %zu tensors", n);
        goto fail;
    }
    for (; in->n_parts < g->n_parts; in->n_parts++) {
        in->direct_fds[in->n_parts] = -1;
        atomic_init(&in->is_refused[in->n_parts], true);
    }
    for (size_t i = 0; i < n; i++) {
        in->tensors[i] = tensors[i];
        assert(i == 0 || gguf_compare_places(tensors[i - 1], tensors[i]) < 0);
    }
    if (n > 0 && !g->parts[0].memory) {
        find_stretches(in);
        for (size_t i = 0; i < in->n_stretches; i++)
            if (in->direct_fds[in->stretches[i].part] < 0)
                open_direct(in, in->stretches[i].part);
        if ((rc = map_ring(in, err)) != 0 || (rc = start_readers(in, err)) != 0)
            goto fail;
    }
    *ret_intake = in;
    return 0;
fail:
    intake_close(in);
    return rc;
}

void intake_close(struct intake *in)
{
    if (!in)
        return;
    pthread_mutex_lock(&in->lock);
    in->stops = true;
    pthread_cond_broadcast(&in->freed);
    pthread_mutex_unlock(&in->lock);
    while (in->n_readers > 0)
        pthread_join(in->readers[--in->n_readers], NULL);
    for (int32_t i = 0; i < in->n_parts; i++) {
        if (in->direct_fds[i] >= 0)
            close(in->direct_fds[i]);
        if (in->g->parts[i].fd >= 0) /* the header, and what the system read ahead of it */
            (void)posix_fadvise(in->g->parts[i].fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    if (in->memory)
        munmap(in->memory, in->memory_bytes);
    pthread_cond_destroy(&in->freed);
    pthread_cond_destroy(&in->arrived);
    pthread_mutex_destroy(&in->lock);
    free(in->is_refused);
    free(in->direct_fds);
    free(in->stretches);
    free(in->tensors);
    free(in);
}

static int compare(const void *a, const void *b)
{
    return gguf_compare_places(*(const struct gguf_tensor *const *)a, *(const struct gguf_tensor *const *)b);
}

int intake_drain(const struct gguf *g, uint64_t most_bytes, uint64_t *ret_bytes, struct err *err)
{
    const size_t n_all = gguf_n_tensors(g);
    const struct gguf_tensor **tensors = malloc((n_all ? n_all : 1) * sizeof(*tensors));
    struct intake *in = NULL;
    size_t n = 0, m = 0;
    uint64_t sum = 0, done = 0;
    if (!tensors)
        return err_set(err, ERR_NOMEM, "no memory for a list of %zu tensors", n_all);
    for (size_t i = 0; i < n_all; i++)
        if (gguf_tensor_at(g, i)->bytes > 0)
            tensors[n++] = gguf_tensor_at(g, i);
    qsort(tensors, n, sizeof(*tensors), compare);
    while (m < n && sum < most_bytes)
        sum += tensors[m++]->bytes;
    int rc = intake_open(g, tensors, m, &in, err);
    while (rc == 0 && done < sum && done < most_bytes) {
        const void *bytes;
        size_t n_bytes = 0;
        rc = intake_take(in, 1, &bytes, &n_bytes, err);
        done += n_bytes;
    }
    intake_close(in);
    free(tensors);
    if (rc == 0)
        *ret_bytes = done;
    return rc;
}
