/* probe - how fast the CPU device's threads read memory together. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "kernels/cpu/cpu.h"

#define PIECE_BYTES ((size_t)1 << 20)
#define PASSES_MAX  1024

struct probe {
    const struct vec_kernels *vec;
    const uint8_t *memory;
    uint64_t *seen; /* [threads * 8], so that the reads have an effect */
};

static void read_item(void *ctx, int32_t item, int thread)
{
    const struct probe *p = ctx;
    p->seen[thread * 8] ^= p->vec->read(p->memory + (size_t)item * PIECE_BYTES, PIECE_BYTES);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double cpu_read_bandwidth(struct kn_device *device, size_t bytes, double seconds)
{
    struct cpu_device *d = (struct cpu_device *)device;
    struct probe p = {.vec = d->vec};
    double rates[PASSES_MAX], rate = 0;
    void *memory = NULL;
    size_t n = 0;
    /* a page table like that of the weights: huge pages where the system grants them */
    for (bytes = bytes / PIECE_BYTES * PIECE_BYTES; bytes; bytes = bytes / 2 / PIECE_BYTES * PIECE_BYTES)
        if (posix_memalign(&memory, (size_t)2 << 20, bytes) == 0)
            break;
    p.seen = calloc((size_t)pool_threads(d->pool) * 8, sizeof *p.seen);
    if (!bytes || !p.seen)
        goto fail;
    madvise(memory, bytes, MADV_HUGEPAGE);
    memset(memory, 1, bytes);
    p.memory = memory;
    const int64_t start = clock_now_ns();
    do {
        int64_t t = clock_now_ns();
        pool_run(d->pool, (int32_t)(bytes / PIECE_BYTES), read_item, &p);
        t = clock_now_ns() - t;
        rates[n++] = (double)bytes / ((double)(t ? t : 1) * 1e-9);
    } while (n < PASSES_MAX && (double)(clock_now_ns() - start) < seconds * 1e9);
    qsort(rates, n, sizeof *rates, by_value);
    rate = rates[n / 2];
fail:
    free(memory);
    free(p.seen);
    return rate;
}
