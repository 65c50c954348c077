/*
 * rows - rows in and out, and what moves bytes: memory-bound, a thread a value.
 */
#include "kernels/cuda/cuda.cuh"

#define THREADS 256

static unsigned blocks_of(int64_t n)
{
    return (unsigned)((n + THREADS - 1) / THREADS);
}

/* Grid (columns / THREADS, rows): y[to + i] = x[from[i]], or x[i] without `from`. */
static __global__ void rows_kernel(struct kn_mat x, const int32_t *from, struct kn_mat y, int32_t to)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x), row = (int)blockIdx.y;
    if (i < x.cols)
        cuda_row(y, to + row)[i] = cuda_row(x, from ? from[row] : row)[i];
}

/* Rows of one launch are no more than a grid's second side: the rest follows. */
static void move_rows(struct cuda_stream *s, const char *op, struct kn_mat x, const int32_t *from, const struct kn_mat *y,
                      int32_t to, int32_t n)
{
    for (int32_t i = 0; i < n; i += 65535) {
        const unsigned rows = (unsigned)(n - i < 65535 ? n - i : 65535);
        struct kn_mat part = x;
        if (!from)
            part.data += i * x.stride;
        cuda_launch(s, op, rows_kernel, dim3(blocks_of(x.cols), rows), THREADS, 0, part, from ? from + i : NULL, *y, to + i);
    }
}

void cuda_put_rows(struct kn_stream *stream, const struct kn_put_rows_args *a)
{
    move_rows(cuda_stream_of(stream), "put_rows", a->x, NULL, &a->y, a->row0, a->x.rows);
}

void cuda_gather_rows(struct kn_stream *stream, const struct kn_gather_rows_args *a)
{
    move_rows(cuda_stream_of(stream), "gather_rows", a->x, a->rows, &a->y, 0, a->y.rows);
}

/* e: of what `s` was given, on its own device. */
static void check(struct cuda_stream *s, const char *op, cudaError_t e)
{
    s->base.launches++;
    if (e != cudaSuccess)
        cuda_fail(s, op, ERR_DEVICE, "%s", cudaGetErrorString(e));
}

void cuda_copy(struct kn_stream *stream, const struct kn_copy_args *a)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    const cudaError_t e = cudaSetDevice(s->device->index);
    check(s, "copy", e ? e : cudaMemcpyAsync(a->dst, a->src, a->bytes, cudaMemcpyDeviceToDevice, s->stream));
}

void cuda_fill_zero(struct kn_stream *stream, const struct kn_fill_zero_args *a)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    const cudaError_t e = cudaSetDevice(s->device->index);
    check(s, "fill_zero", e ? e : cudaMemsetAsync(a->dst, 0, a->bytes, s->stream));
}
