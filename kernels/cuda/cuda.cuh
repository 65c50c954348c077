/*
 * cuda - what the files of the CUDA backend share: its device and stream, the scratch memory of ops, launching.
 *
 * One stream of the CUDA runtime per kn_stream; ops only launch and never wait, so a step can be captured as a graph. All memory is plain device memory; nothing is allocated
 * after a stream is open. Ops read the step block on the device (args->step is a device pointer that the host never follows): grids are sized from the views' rows and from
 * the stream's limits, and blocks without work leave.
 *
 * Fixed order of sums: a row's result never depends on its company. Every sum over inputs, keys or tokens is cut at borders that depend on the weight's shape or on the
 * absolute position alone, and its parts are added in order (kernels.h, "Batch-invariant").
 *
 * Shared memory is dynamic only (lanes.cuh, shared_memory), at most CUDA_SHARED_MAX, which the launch checks.
 *
 * Threads: as kernels.h says. Errors: an op that cannot be launched marks its stream.
 */
#ifndef HERON_KERNELS_CUDA_CUDA_CUH
#define HERON_KERNELS_CUDA_CUDA_CUH

#include <math.h>
#include <stdint.h>

#include "kernels/cuda/lanes.cuh"

extern "C" {
#include "kernels/device.h"
}

#define CUDA_SHARED_MAX (99 * 1024) /* of a block: what sm_121 has */
#define CUDA_COUNTS     1024

struct cuda_device {
    struct kn_device base;
    int index, arch, n_sms; /* arch: 121 for sm_121 */
    size_t memory_bytes;
    bool is_unified;            /* the processor's own memory */
    struct cuda_loader *loader; /* weights' way in */
    struct cuda_arenas *arenas; /* and where they lie */
    cudaStream_t aside;         /* for what is no op: loading, clearing, measuring */
};

struct cuda_record {
    uint64_t key;
    cudaGraphExec_t graph; /* NULL: seen once */
    bool is_refused;       /* it could not be made */
    uint64_t launches;     /* in it; while it is recorded, those before it */
};

struct cuda_stream {
    struct kn_stream base;
    struct cuda_device *device;
    cudaStream_t stream;
    void *scratch; /* of the op that runs: ops of a stream follow one another */
    size_t scratch_bytes;
    int32_t *counts; /* [CUDA_COUNTS] of blocks that are done (count_up): 0 between launches */
    char *
        staging; /* pinned: what goes up and comes back passes through it, or the driver would wait for all that runs before it copies */
    size_t staging_used;
    uint64_t waited_for; /* base.launches when the stream was last waited for */
    struct cuda_record records[KN_RECORDS_MAX];
    int n_records;
    struct cuda_record *recording; /* NULL: none */
};

static inline struct cuda_device *cuda_device_of(struct kn_device *device)
{
    return (struct cuda_device *)device;
}

static inline struct cuda_stream *cuda_stream_of(struct kn_stream *stream)
{
    return (struct cuda_stream *)stream;
}

extern const struct kn_backend cuda_backend;

/* Mark the stream, once. */
void cuda_fail(struct cuda_stream *s, const char *op, int code, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* A piece of device scratch, 256-byte aligned: *used counts up. With `base` NULL it is only counted, which is how the families below tell what they need. */
static inline void *cuda_cut(void *base, size_t *used, size_t n, size_t size)
{
    void *p = base ? (char *)base + *used : NULL;
    *used += (n * size + 255) / 256 * 256;
    return p;
}

/* What each family needs of cuda_stream.scratch for the largest call within the limits. */
size_t cuda_linear_scratch(const struct cuda_device *d, const struct kn_limits *l);
size_t cuda_route_scratch(const struct cuda_device *d, const struct kn_limits *l);
size_t cuda_moe_scratch(const struct cuda_device *d, const struct kn_limits *l);
size_t cuda_attn_scratch(const struct cuda_device *d, const struct kn_limits *l);
size_t cuda_gdn_scratch(const struct cuda_device *d, const struct kn_limits *l);
size_t cuda_vision_scratch(const struct cuda_device *d, const struct kn_limits *l);
size_t cuda_top_k_scratch(const struct cuda_device *d, const struct kn_limits *l);

/* The ops: cuda_linear and so on. */
#define KN_OP(name) void cuda_##name(struct kn_stream *stream, const struct kn_##name##_args *args);
#include "kernels/ops.def"
#undef KN_OP

/* Launch a kernel. */
template <typename... P, typename... A>
static inline cudaError_t cuda_launch_on(cudaStream_t stream, void (*kernel)(P...), dim3 grid, unsigned block,
                                         size_t shared_bytes, A... args)
{
#ifdef HERON_CUDA_SHIM
    shim_launch(stream, grid, block, shared_bytes, [=] { kernel(static_cast<P>(args)...); });
    return cudaSuccess;
#else
    cudaError_t e = cudaSuccess;
    if (shared_bytes > 48 * 1024)
        e = cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(block);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    return e == cudaSuccess ? cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...) : e;
#endif
}

/* Launch a kernel on the stream of an op. Does nothing on a stream that is marked, nor with an empty grid. */
template <typename... P, typename... A>
static inline void cuda_launch(struct cuda_stream *s, const char *op, void (*kernel)(P...), dim3 grid, unsigned block,
                               size_t shared_bytes, A... args)
{
    if (s->base.err.code != 0 || grid.x == 0 || grid.y == 0 || grid.z == 0)
        return;
    if (shared_bytes > CUDA_SHARED_MAX) {
        cuda_fail(s, op, ERR_INVAL, "a block wants %zu bytes of shared memory: there are %d", shared_bytes, CUDA_SHARED_MAX);
        return;
    }
    cudaError_t e = cudaSetDevice(s->device->index); /* of this thread, which may work with others too */
    if (e == cudaSuccess)
        e = cuda_launch_on(s->stream, kernel, grid, block, shared_bytes, args...);
    s->base.launches++;
    if (e != cudaSuccess)
        cuda_fail(s, op, ERR_DEVICE, "%s", cudaGetErrorString(e));
}

static __device__ __forceinline__ float *cuda_row(const struct kn_mat &m, int64_t i)
{
    return m.data + i * m.stride;
}

/* silu, sigmoid and softplus as kernels.h has them. */
static __device__ __forceinline__ float cuda_sigmoid(float u)
{
    return 1.0f / (1.0f + expf(-u));
}

static __device__ __forceinline__ float cuda_silu(float u)
{
    return u / (1.0f + expf(-u));
}

static __device__ __forceinline__ float cuda_softplus(float u)
{
    return u > 20 ? u : log1pf(expf(u));
}

#endif
