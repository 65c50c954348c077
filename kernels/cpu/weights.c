/* weights - see weights.h. */
#include "kernels/cpu/weights.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cpu/cpu.h"

#define HUGE_BYTES ((size_t)2 << 20)
#define MAP_BYTES  ((size_t)256 << 20) /* the end of each wastes a part of a huge page */

struct weights_map {
    struct weights_map *next;
    uint8_t *base;
    size_t bytes, used;
    int live; /* weights in it */
};

void weights_init(struct weights *w)
{
    pthread_mutex_init(&w->lock, NULL);
    w->maps = NULL;
}

void weights_close(struct weights *w)
{
    while (w->maps) {
        struct weights_map *m = w->maps;
        w->maps = m->next;
        munmap(m->base, m->bytes);
        free(m);
    }
    pthread_mutex_destroy(&w->lock);
}

/* A new mapping of at least `bytes`, aligned to a huge page, zero. */
static struct weights_map *map_more(size_t bytes)
{
    struct weights_map *m = calloc(1, sizeof *m);
    bytes = bytes < MAP_BYTES ? MAP_BYTES : (bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
    uint8_t *p = m ? mmap(NULL, bytes + HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                   : MAP_FAILED;
    if (p == MAP_FAILED) {
        free(m);
        return NULL;
    }
    size_t before = (HUGE_BYTES - (uintptr_t)p % HUGE_BYTES) % HUGE_BYTES;
    if (before)
        munmap(p, before);
    munmap(p + before + bytes, HUGE_BYTES - before);
    madvise(p + before, bytes, MADV_HUGEPAGE);
    m->base = p + before;
    m->bytes = bytes;
    return m;
}

static void *take(struct weights *w, size_t bytes)
{
    bytes = (bytes + 127) / 128 * 128;
    pthread_mutex_lock(&w->lock);
    struct weights_map *m = w->maps;
    if (!m || m->bytes - m->used < bytes) {
        m = map_more(bytes);
        /* a full mapping of its own goes behind the one that still has room */
        if (m && w->maps && bytes >= MAP_BYTES)
            m->next = w->maps->next, w->maps->next = m;
        else if (m)
            m->next = w->maps, w->maps = m;
    }
    void *p = NULL;
    if (m) {
        p = m->base + m->used;
        m->used += bytes;
        m->live++;
    }
    pthread_mutex_unlock(&w->lock);
    return p;
}

static void give_back(struct weights *w, const uint8_t *p)
{
    pthread_mutex_lock(&w->lock);
    for (struct weights_map **at = &w->maps; *at; at = &(*at)->next) {
        struct weights_map *m = *at;
        if (p < m->base || p >= m->base + m->bytes)
            continue;
        if (--m->live == 0) {
            *at = m->next;
            munmap(m->base, m->bytes);
            free(m);
        }
        break;
    }
    pthread_mutex_unlock(&w->lock);
}

int weights_begin(struct kn_device *device, struct kn_weight *w, struct err *err)
{
    struct pack_shape shape;
    if (!pack_shape_init(&shape, w->dtype, w->rows, w->cols))
        return err_set(err, ERR_UNSUPPORTED, "a %s weight of %d x %d", kn_dtype_name(w->dtype), w->rows, w->cols);
    size_t bytes;
    void *p = NULL;
    if (!__builtin_mul_overflow(shape.slice_bytes, (size_t)w->slices, &bytes) && bytes < SIZE_MAX / 2)
        p = take(&((struct cpu_device *)device)->weights, bytes);
    if (!p)
        return err_set(err, ERR_NOMEM, "out of memory: a weight of %d x %d x %d %s", w->slices, w->rows, w->cols,
                       kn_dtype_name(w->dtype));
    w->data = p; /* zero, so the lanes that no row fills are zero rows */
    w->data_bytes = bytes;
    w->packed = PACK_VERSION;
    return 0;
}

struct pack_job {
    struct pack_shape shape;
    const struct kn_weight *w;
    int64_t first, end;  /* rows at hand */
    int64_t first_group; /* counted over all slices */
    const uint8_t *src;
    size_t row_bytes;
};

static void pack_item(void *ctx, int32_t item, int thread)
{
    const struct pack_job *j = ctx;
    int64_t group = j->first_group + item, slice = group / j->shape.n_groups;
    int64_t start = slice * j->w->rows, row = start + group % j->shape.n_groups * PACK_ROWS;
    int64_t end = row + PACK_ROWS < start + j->w->rows ? row + PACK_ROWS : start + j->w->rows;
    row = row > j->first ? row : j->first;
    end = end < j->end ? end : j->end;
    pack_rows(&j->shape, (uint8_t *)j->w->data + (size_t)slice * j->shape.slice_bytes, (int32_t)(row - start),
              (int32_t)(end - row), j->src + (size_t)(row - j->first) * j->row_bytes);
}

int weights_rows(struct kn_device *device, struct kn_weight *w, int64_t first_row, int64_t n_rows, const void *host_src,
                 struct err *err)
{
    if (n_rows == 0)
        return 0;
    struct pack_job j = {.shape = cpu_shape(w),
                         .w = w,
                         .first = first_row,
                         .end = first_row + n_rows,
                         .src = host_src,
                         .row_bytes = kn_row_bytes(w->dtype, w->cols)};
    int64_t last = j.end - 1;
    j.first_group = first_row / w->rows * j.shape.n_groups + first_row % w->rows / PACK_ROWS;
    int64_t last_group = last / w->rows * j.shape.n_groups + last % w->rows / PACK_ROWS;
    pool_run(((struct cpu_device *)device)->pool, (int32_t)(last_group - j.first_group + 1), pack_item, &j);
    return 0;
}

int weights_end(struct kn_device *device, struct kn_weight *w, struct err *err)
{
    return 0;
}

void weights_free(struct kn_device *device, struct kn_weight *w)
{
    give_back(&((struct cpu_device *)device)->weights, w->data);
    w->data = NULL;
}

void weights_row(const struct kn_weight *w, int32_t slice, int32_t row, float *dst)
{
    uint8_t blocks[4096];
    const struct pack_shape shape = cpu_shape(w);
    const int32_t step = (int32_t)(sizeof blocks / shape.layout->block_bytes);
    for (int32_t b = 0; b < shape.n_blocks; b += step) {
        int32_t n = shape.n_blocks - b < step ? shape.n_blocks - b : step;
        pack_get_row(&shape, cpu_slice(w, &shape, slice), row, b, n, blocks);
        kn_dequantize(w->dtype, blocks, (int64_t)n * shape.layout->elems, dst + (int64_t)b * shape.layout->elems);
    }
}
