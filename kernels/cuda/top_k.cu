/*
 * top_k - the largest of a row of logits.
 *
 * A value and its place make one integer, in the order of the result: no two are alike, so any way of sorting gives the same. Blocks sort SLICE values each in shared memory (Batcher's
 * bitonic network) and put down the first k; the last block of a row sorts those.
 */
#include "kernels/cuda/cuda.cuh"

#define SLICE   4096 /* values of a block: its keys fill 32 KiB */
#define THREADS 512
#define ROWS    64 /* of a launch */

static int n_slices_of(int n)
{
    return (n + SLICE - 1) / SLICE;
}

size_t cuda_top_k_scratch(const struct cuda_device *d, const struct kn_limits *l)
{
    const size_t rows = (size_t)(l->rows < ROWS ? l->rows : ROWS);
    return rows * (size_t)n_slices_of(l->outputs) * KN_TOP_K_MAX * sizeof(uint64_t);
}

struct top {
    struct kn_mat x;
    const uint32_t *mask;
    int row0, k, n_slices;
    uint64_t *keys; /* [rows, n_slices, k] of slices */
    int32_t *counts;
    struct kn_top *y;
};

/* Larger values have larger keys, and of equals the first; 0: not there. -0 and 0 are equal. */
static __device__ __forceinline__ uint64_t key_of(float x, int i)
{
    const uint32_t bits = bits_of(x + 0.0f);
    return (uint64_t)(bits >> 31 ? ~bits : bits | 0x80000000u) << 32 | (uint32_t)~i;
}

static __device__ __forceinline__ struct kn_top top_of(uint64_t key)
{
    const uint32_t bits = (uint32_t)(key >> 32);
    struct kn_top y;
    y.x = key ? float_of(bits >> 31 ? bits & 0x7fffffffu : ~bits) : -INFINITY;
    y.index = key ? (int32_t) ~(uint32_t)key : -1;
    return y;
}

static __device__ __forceinline__ uint64_t load_fresh_key(const uint64_t *p)
{
    const float *words = (const float *)p;
    return (uint64_t)bits_of(load_fresh(words + 1)) << 32 | bits_of(load_fresh(words));
}

/* Block: SLICE keys, largest first. */
static __device__ void sort(uint64_t *keys)
{
    for (int size = 2; size <= SLICE; size *= 2)
        for (int apart = size / 2; apart > 0; apart /= 2) {
            __syncthreads();
            for (int n = (int)threadIdx.x; n < SLICE / 2; n += THREADS) {
                const int i = 2 * n - (n & (apart - 1)), j = i + apart;
                const uint64_t a = keys[i], b = keys[j];
                if ((a < b) == ((i & size) == 0)) {
                    keys[i] = b;
                    keys[j] = a;
                }
            }
        }
    __syncthreads();
}

/* Grid (slices, rows). */
static __global__ void __launch_bounds__(THREADS) top_kernel(const struct top p)
{
    uint64_t *keys = shared_memory<uint64_t>();
    int *is_last = (int *)(keys + SLICE);
    const int row = p.row0 + (int)blockIdx.y, first = (int)blockIdx.x * SLICE, k = p.k, n_words = (p.x.cols + 31) / 32;
    const float *x = cuda_row(p.x, row);
    const uint32_t *mask = p.mask ? p.mask + (int64_t)row * n_words : NULL;
    for (int n = (int)threadIdx.x; n < SLICE; n += THREADS) {
        const int i = first + n;
        const bool is_allowed = i < p.x.cols && (!mask || mask[i / 32] >> i % 32 & 1) && !isnan(x[i]);
        keys[n] = is_allowed ? key_of(x[i], i) : 0;
    }
    sort(keys);
    if (p.n_slices > 1) {
        uint64_t *of_row = p.keys + (int64_t)blockIdx.y * p.n_slices * k;
        if ((int)threadIdx.x < k)
            of_row[(int64_t)blockIdx.x * k + threadIdx.x] = keys[threadIdx.x];
        __syncthreads();
        if (threadIdx.x == 0) {
            *is_last = count_up(&p.counts[blockIdx.y]) == p.n_slices;
            if (*is_last)
                p.counts[blockIdx.y] = 0; /* for the next call */
        }
        __syncthreads();
        if (!*is_last)
            return;
        const int n = p.n_slices * k;
        for (int at = 0; at < n;) { /* behind the k largest so far come as many as there is room for */
            const int kept = at > 0 ? k : 0, taken = min(n - at, SLICE - kept);
            for (int i = kept + (int)threadIdx.x; i < SLICE; i += THREADS)
                keys[i] = i - kept < taken ? load_fresh_key(of_row + at + i - kept) : 0;
            sort(keys);
            at += taken;
        }
    }
    if ((int)threadIdx.x < k)
        p.y[(int64_t)row * k + threadIdx.x] = top_of(keys[threadIdx.x]);
}

void cuda_top_k(struct kn_stream *stream, const struct kn_top_k_args *a)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    struct top p = {a->x, a->mask, 0, a->k, n_slices_of(a->x.cols), (uint64_t *)s->scratch, s->counts, a->y};
    const int rows = a->x.rows < ROWS ? a->x.rows : ROWS;
    if (p.n_slices > 1 && (size_t)rows * (size_t)p.n_slices * (size_t)p.k * sizeof *p.keys > s->scratch_bytes) {
        cuda_fail(s, "top_k", ERR_INVAL, "the call is larger than the limits that the stream was opened with");
        return;
    }
    for (; p.row0 < a->x.rows; p.row0 += ROWS) {
        const int left = a->x.rows - p.row0;
        cuda_launch(s, "top_k", top_kernel, dim3((unsigned)p.n_slices, (unsigned)(left < ROWS ? left : ROWS)), THREADS,
                    SLICE * sizeof *p.keys + sizeof(int), p);
    }
}
