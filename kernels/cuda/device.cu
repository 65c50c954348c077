/*
 * device - the CUDA device: opening, memory, streams and their scratch, the table of ops; what heron-cuda.so gives to the program.
 *
 * On a machine whose processor and GPU share their memory (GB10, Jetson) what is free is what the kernel says is available, less a reserve: such a machine that runs out of memory does
 * not kill a process, it stands still (shared memory exhaustion of DGX Spark). cudaMemGetInfo counts the page cache as used there.
 */
#include "kernels/cuda/arena.cuh"
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/weights.cuh"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern "C" {
#include "base/clock.h"
#include "base/process.h"
#include "kernels/cuda/module.h"
}

/* What is left alone, or a tenth of all where that is less: of unified memory; of a GPU's own, where the driver puts code when it is first run, and recorded steps. */
#define UNIFIED_RESERVE ((uint64_t)8 << 30)
#define GPU_RESERVE     ((uint64_t)512 << 20)

static const struct kn_ops cuda_ops = {
#define KN_OP(name) .name = cuda_##name,
#include "kernels/ops.def"
#undef KN_OP
};

void cuda_fail(struct cuda_stream *s, const char *op, int code, const char *fmt, ...)
{
    if (s->base.err.code != 0)
        return;
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(&s->base.err, code, "%s: %s", op, text);
}

/* ---- device ------------------------------------------------------------------------------------------------------------------------ */

static void device_close(struct kn_device *device)
{
    struct cuda_device *d = cuda_device_of(device);
    if (!d)
        return;
    cudaSetDevice(d->index);
    if (d->aside) /* a load that was given up may still copy from the loader's buffers */
        cudaStreamSynchronize(d->aside);
    cuda_loader_close(d->loader);
    cuda_arenas_close(d->arenas);
    if (d->aside)
        cudaStreamDestroy(d->aside);
    free(d);
}

static uint64_t free_bytes(const struct cuda_device *d)
{
    size_t free = 0, all = 0;
    const uint64_t most = d->is_unified ? UNIFIED_RESERVE : GPU_RESERVE, tenth = d->base.info.memory_bytes / 10,
                   reserve = tenth < most ? tenth : most;
    uint64_t available = 0;
    if (d->is_unified)
        available = process_available_bytes();
    else if (cudaMemGetInfo(&free, &all) == cudaSuccess)
        available = free;
    return available > reserve ? available - reserve : 0;
}

/* Which architectures the module has code for, from how it was compiled: "sm_87 sm_90". */
#ifndef HERON_CUDA_ARCHS
#define HERON_CUDA_ARCHS "others"
#endif

static __global__ void read_kernel(const uint4 *p, size_t n, uint32_t *sum);

/*
 * A driver that is there and does not work is an error, for "auto" too: its box would look at its cameras with the processor, and nobody would know why it is so slow. No driver at all is no
 * device.
 */
static int count_devices(int index, struct err *err)
{
    int n = 0;
    const cudaError_t e = cudaGetDeviceCount(&n);
    if (e == cudaErrorNoDevice || (e == cudaSuccess && n == 0))
        return err_set(err, ERR_NOT_FOUND, "no CUDA device %d: this machine has none", index);
    if (e == cudaErrorInsufficientDriver && access("/proc/driver/nvidia/version", F_OK) != 0)
        return err_set(err, ERR_NOT_FOUND, "no CUDA device %d: no NVIDIA driver is installed", index);
    if (e != cudaSuccess)
        return err_set(err, ERR_DEVICE, "CUDA does not start: %s (error %d)", cudaGetErrorString(e), (int)e);
    if (index >= n)
        return err_set(err, ERR_NOT_FOUND, "no CUDA device %d: this machine has %d", index, n);
    return 0;
}

static int fill_info(struct cuda_device *d, struct err *err)
{
    struct kn_device_info *info = &d->base.info;
    struct cudaDeviceProp prop;
    int major = 0, minor = 0, is_unified = 0;
    cudaError_t e = cudaGetDeviceProperties(&prop, d->index);
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(&d->n_sms, cudaDevAttrMultiProcessorCount, d->index);
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, d->index);
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, d->index);
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(&is_unified, cudaDevAttrIntegrated, d->index);
    if (e != cudaSuccess)
        return err_set(err, ERR_DEVICE, "CUDA device %d: %s", d->index, cudaGetErrorString(e));
    d->arch = 10 * major + minor;
    d->is_unified = is_unified;
    snprintf(info->name, sizeof info->name, "cuda:%d", d->index);
    snprintf(info->description, sizeof info->description, "%.80s, sm_%d, %d SMs", prop.name, d->arch, d->n_sms);
    info->memory_bytes =
        prop.totalGlobalMem; /* cudaMemGetInfo fails on sound GB10s whose page cache is full, and is not asked there */
    struct cudaFuncAttributes code;
    if (cudaFuncGetAttributes(&code, (const void *)read_kernel) != cudaSuccess) {
        cudaGetLastError();
        return err_set(err, ERR_UNSUPPORTED, "%s: this build of " CUDA_MODULE_NAME " has code for " HERON_CUDA_ARCHS,
                       info->description);
    }
    return 0;
}

static int device_open(int index, const struct kn_device_options *options, struct kn_device **ret_device, struct err *err)
{
    setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 0); /* numbers as NVML has them; before the first call */
    int rc = count_devices(index, err);
    if (rc != 0)
        return rc;
    struct cuda_device *d = (struct cuda_device *)calloc(1, sizeof *d);
    if (!d)
        return err_set(err, ERR_NOMEM, "out of memory");
    d->base.backend = &cuda_backend;
    d->base.raw = cuda_ops;
    d->index = index;
    int is_unified = 0;
    cudaError_t e = cudaDeviceGetAttribute(&is_unified, cudaDevAttrIntegrated, index);
    if (e == cudaSuccess && is_unified) /* the core that would spin while the GPU works is heated by the same watts */
        cudaInitDevice(index, cudaDeviceScheduleBlockingSync, cudaInitDeviceFlagsAreValid); /* or it spins, which only heats */
    if (e == cudaSuccess)
        e = cudaSetDevice(index);
    if (e != cudaSuccess)
        rc = err_set(err, ERR_DEVICE, "CUDA device %d: %s", index, cudaGetErrorString(e));
    if (rc == 0)
        rc = fill_info(d, err);
    if (rc == 0 && (e = cudaStreamCreateWithFlags(&d->aside, cudaStreamNonBlocking)) != cudaSuccess)
        rc = err_set(err, ERR_DEVICE, "CUDA device %d: %s", index, cudaGetErrorString(e));
    if (rc == 0)
        rc = cuda_loader_open(d->aside, &d->loader, err);
    if (rc == 0)
        rc = cuda_arenas_open(&d->arenas, err);
    if (rc != 0) {
        device_close(&d->base);
        return rc;
    }
    d->base.info.memory_free_bytes = free_bytes(d); /* less what the device itself has taken */
    *ret_device = &d->base;
    return 0;
}

/* ---- memory ------------------------------------------------------------------------------------------------------------------------ */

static int out_of(struct err *err, cudaError_t e, size_t bytes, const struct kn_device *device)
{
    return err_set(err, e == cudaErrorMemoryAllocation ? ERR_NOMEM : ERR_DEVICE, "%.3f GiB on %s: %s", (double)bytes / 0x1p30,
                   device->info.name, cudaGetErrorString(e));
}

static int reserve(struct kn_device *device, size_t bytes, struct err *err)
{
    const struct cuda_device *d = cuda_device_of(device);
    cudaError_t e = cudaSetDevice(d->index);
    if (e == cudaSuccess)
        e = cuda_arena_reserve(d->arenas, bytes);
    return e == cudaSuccess ? 0 : out_of(err, e, bytes, device);
}

static int device_alloc(struct kn_device *device, size_t bytes, void **ret_memory, struct err *err)
{
    const struct cuda_device *d = cuda_device_of(device);
    void *p = NULL;
    cudaError_t e = cudaSetDevice(d->index);
    if (e == cudaSuccess)
        e = cuda_arena_take(d->arenas, bytes, &p);
    if (e == cudaSuccess)
        e = cudaMemsetAsync(p, 0, bytes, d->aside);
    if (e == cudaSuccess)
        e = cudaStreamSynchronize(d->aside);
    if (e != cudaSuccess) {
        cuda_arena_give(d->arenas, p);
        return out_of(err, e, bytes, device);
    }
    *ret_memory = p;
    return 0;
}

static void device_free(struct kn_device *device, void *memory)
{
    cudaSetDevice(cuda_device_of(device)->index);
    cuda_arena_give(cuda_device_of(device)->arenas, memory);
}

#define STAGING_BYTES                                                                                                          \
    ((size_t)4 << 20) /* a step of some thousand rows, masks and what is drawn from; what is larger goes without */

/* Wait: nothing is on its way through the staging buffer any more. */
static cudaError_t wait(struct cuda_stream *s)
{
    s->staging_used = 0;
    if (s->waited_for == s->base.launches) /* nothing came since */
        return cudaSuccess;
    s->waited_for = s->base.launches;
    return cudaStreamSynchronize(s->stream);
}

/* `bytes` of the staging buffer, or NULL where there are not as many in all. */
static char *stage(struct cuda_stream *s, size_t bytes, cudaError_t *e)
{
    bytes = (bytes + 255) / 256 * 256;
    if (bytes > STAGING_BYTES)
        return NULL;
    if (bytes > STAGING_BYTES - s->staging_used)
        *e = wait(s);
    char *p = s->staging + s->staging_used;
    s->staging_used += bytes;
    return p;
}

static void upload(struct kn_stream *stream, void *device_dst, const void *host_src, size_t bytes)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    cudaError_t e = cudaSetDevice(s->device->index);
    char *staged = stage(s, bytes, &e);
    if (staged)
        memcpy(staged, host_src, bytes);
    if (e == cudaSuccess)
        e = cudaMemcpyAsync(device_dst, staged ? staged : host_src, bytes, cudaMemcpyHostToDevice, s->stream);
    s->base.launches++;
    if (e != cudaSuccess)
        cuda_fail(s, "upload", ERR_DEVICE, "%s", cudaGetErrorString(e));
}

static void download(struct kn_stream *stream, void *host_dst, const void *device_src, size_t bytes)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    cudaError_t e = cudaSetDevice(s->device->index);
    char *staged = stage(s, bytes, &e);
    if (e == cudaSuccess)
        e = cudaMemcpyAsync(staged ? staged : (char *)host_dst, device_src, bytes, cudaMemcpyDeviceToHost, s->stream);
    s->base.launches++;
    if (e == cudaSuccess)
        e = wait(s);
    if (e != cudaSuccess)
        cuda_fail(s, "download", ERR_DEVICE, "%s", cudaGetErrorString(e));
    else if (staged)
        memcpy(host_dst, staged, bytes);
}

/* Every block adds what it reads to a word that nobody looks at, so that the reading is not left out. */
static __global__ void read_kernel(const uint4 *p, size_t n, uint32_t *sum)
{
    uint32_t v = 0;
    const size_t step = (size_t)gridDim.x * blockDim.x;
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    for (; i + 3 * step < n; i += 4 * step) {
        const uint4 a = load_once(p + i), b = load_once(p + i + step), c = load_once(p + i + 2 * step),
                    d = load_once(p + i + 3 * step);
        v += (a.x ^ a.y ^ a.z ^ a.w) + (b.x ^ b.y ^ b.z ^ b.w) + (c.x ^ c.y ^ c.z ^ c.w) + (d.x ^ d.y ^ d.z ^ d.w);
    }
    for (; i < n; i += step)
        v += load_once(p + i).x;
    if (v == 0x5ca1ab1e)
        *sum = v;
}

static double read_bandwidth(struct kn_device *device, size_t bytes, double seconds)
{
    enum { PASSES = 256 };
    const struct cuda_device *d = cuda_device_of(device);
    cudaStream_t stream = d->aside;
    double took[PASSES];
    void *p = NULL;
    int n = 0;
    if (cudaSetDevice(d->index) != cudaSuccess)
        return 0;
    while (bytes >= (size_t)64 << 20 && cudaMalloc(&p, bytes) != cudaSuccess)
        bytes /= 2, p = NULL;
    if (!p)
        return 0;
    bool is_good = cudaMemsetAsync(p, 1, bytes, stream) == cudaSuccess && cudaStreamSynchronize(stream) == cudaSuccess;
    for (const int64_t until = clock_now_ns() + (int64_t)(seconds * 1e9);
         is_good && n < PASSES && (n < 3 || clock_now_ns() < until); n++) {
        const int64_t from = clock_now_ns();
        is_good = cuda_launch_on(stream, read_kernel, dim3((unsigned)d->n_sms * 8), 512, 0, (const uint4 *)p, bytes / 16,
                                 (uint32_t *)p) == cudaSuccess &&
                  cudaStreamSynchronize(stream) == cudaSuccess;
        double t = (double)(clock_now_ns() - from) / 1e9;
        int k = n;
        for (; k > 0 && took[k - 1] > t; k--)
            took[k] = took[k - 1];
        took[k] = t;
    }
    cudaFree(p);
    return is_good && n > 0 ? (double)bytes / took[n / 2] : 0;
}

/* ---- streams ----------------------------------------------------------------------------------------------------------------------- */

static void stream_close(struct kn_stream *stream)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    if (!s)
        return;
    cudaSetDevice(s->device->index);
    if (s->stream) {
        cudaStreamSynchronize(s->stream);
        for (int i = 0; i < s->n_records; i++)
            if (s->records[i].graph)
                cudaGraphExecDestroy(s->records[i].graph);
        cudaStreamDestroy(s->stream);
    }
    cuda_arena_give(s->device->arenas, s->scratch);
    cuda_arena_give(s->device->arenas, s->counts);
    cudaFreeHost(s->staging);
    free(s);
}

static size_t scratch_bytes(const struct cuda_device *d, const struct kn_limits *l)
{
    const size_t needs[] = {cuda_linear_scratch(d, l), cuda_moe_scratch(d, l), cuda_route_scratch(d, l),
                            cuda_attn_scratch(d, l),   cuda_gdn_scratch(d, l), cuda_vision_scratch(d, l),
                            cuda_top_k_scratch(d, l)};
    size_t most = 256;
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        most = needs[i] > most ? needs[i] : most;
    return most;
}

static size_t stream_bytes(const struct kn_device *device, const struct kn_limits *l)
{
    return scratch_bytes((const struct cuda_device *)device, l) + CUDA_COUNTS * sizeof(int32_t);
}

static int stream_open(struct kn_device *device, const struct kn_limits *l, struct kn_stream **ret_stream, struct err *err)
{
    struct cuda_device *d = cuda_device_of(device);
    struct cuda_stream *s = (struct cuda_stream *)calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "out of memory");
    s->device = d;
    s->scratch_bytes = scratch_bytes(d, l);
    cudaError_t e = cudaSetDevice(d->index);
    if (e == cudaSuccess)
        e = cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking);
    if (e == cudaSuccess)
        e = cuda_arena_take(d->arenas, s->scratch_bytes, &s->scratch);
    if (e == cudaSuccess)
        e = cuda_arena_take(d->arenas, CUDA_COUNTS * sizeof *s->counts, (void **)&s->counts);
    if (e == cudaSuccess)
        e = cudaMallocHost((void **)&s->staging, STAGING_BYTES);
    if (e == cudaSuccess)
        e = cudaMemsetAsync(s->counts, 0, CUDA_COUNTS * sizeof *s->counts, s->stream);
    if (e != cudaSuccess) {
        stream_close(&s->base);
        return err_set(err, e == cudaErrorMemoryAllocation ? ERR_NOMEM : ERR_DEVICE,
                       "a stream with %zu bytes of scratch on %s: %s", s->scratch_bytes, device->info.name,
                       cudaGetErrorString(e));
    }
    *ret_stream = &s->base;
    return 0;
}

/* ---- recording --------------------------------------------------------------------------------------------------------------------- */

static struct cuda_record *record_of(struct cuda_stream *s, uint64_t key)
{
    for (int i = 0; i < s->n_records; i++)
        if (s->records[i].key == key)
            return &s->records[i];
    return NULL;
}

static bool replay_record(struct cuda_stream *s, const struct cuda_record *r)
{
    cudaError_t e = cudaSetDevice(s->device->index);
    if (e == cudaSuccess)
        e = cudaGraphLaunch(r->graph, s->stream);
    if (e != cudaSuccess)
        cuda_fail(s, "replay", ERR_DEVICE, "%s", cudaGetErrorString(e));
    return true;
}

static bool replay(struct kn_stream *stream, uint64_t key)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    const struct cuda_record *r = record_of(s, key);
    if (!r || !r->graph)
        return false;
    s->base.launches += r->launches;
    return replay_record(s, r);
}

static bool record_begin(struct kn_stream *stream, uint64_t key)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    struct cuda_record *r = record_of(s, key);
    if (!r && s->n_records < KN_RECORDS_MAX)
        s->records[s->n_records++] = {.key = key};
    if (!r || r->is_refused || cudaSetDevice(s->device->index) != cudaSuccess ||
        cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess)
        return false;
    s->recording = r;
    r->launches = s->base.launches;
    return true;
}

static bool record_end(struct kn_stream *stream)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    struct cuda_record *r = s->recording;
    cudaGraph_t graph = NULL;
    s->recording = NULL;
    r->launches = s->base.launches - r->launches;
    const cudaError_t e = cudaStreamEndCapture(s->stream, &graph);
    if (e != cudaSuccess)
        cuda_fail(s, "record", ERR_DEVICE, "%s", cudaGetErrorString(e));
    if (s->base.err.code == 0 && cudaGraphInstantiate(&r->graph, graph, 0) != cudaSuccess) {
        cudaGetLastError();
        r->graph = NULL;
        r->is_refused = true; /* no memory for it, most likely: its ops run one by one from now on */
        s->base.launches -= r->launches;
    }
    if (graph)
        cudaGraphDestroy(graph);
    return r->graph ? replay_record(s, r) : s->base.err.code != 0;
}

static int stream_sync(struct kn_stream *stream, struct err *err)
{
    const cudaError_t e = wait(cuda_stream_of(stream));
    return e == cudaSuccess ? 0 : err_set(err, ERR_DEVICE, "%s: %s", stream->device->info.name, cudaGetErrorString(e));
}

/* ---- tuning ------------------------------------------------------------------------------------------------------------------------ */

#define FEW_ROWS_MOST  128
#define FEW_PAIRS_MOST 512

static int32_t tuning_most(const struct kn_device *device, enum kn_tunable what, enum kn_dtype dtype)
{
    if (!kn_dtype_info(dtype) || dtype == KN_I32)
        return 0;
    return what == KN_FEW_PAIRS ? FEW_PAIRS_MOST : product_of(dtype) ? FEW_ROWS_MOST : 0;
}

static int32_t tuning_standard(const struct kn_device *device, enum kn_tunable what, enum kn_dtype dtype)
{
    const int32_t most = tuning_most(device, what, dtype), standard = what == KN_FEW_PAIRS ? PRODUCT_PAIRS : PRODUCT_FEW;
    return standard < most ? standard : most;
}

const struct kn_backend cuda_backend = {
    .name = "cuda",
    .open = device_open,
    .close = device_close,
    .alloc = device_alloc,
    .free = device_free,
    .upload = upload,
    .download = download,
    .weight_begin = cuda_weight_begin,
    .weight_rows = cuda_weight_rows,
    .weight_end = cuda_weight_end,
    .weight_free = cuda_weight_free,
    .stream_open = stream_open,
    .stream_close = stream_close,
    .stream_bytes = stream_bytes,
    .weight_bytes = cuda_weight_bytes,
    .reserve = reserve,
    .stream_sync = stream_sync,
    .tuning_most = tuning_most,
    .tuning_standard = tuning_standard,
    .read_bandwidth = read_bandwidth,
    .replay = replay,
    .record_begin = record_begin,
    .record_end = record_end,
};

extern "C" __attribute__((visibility("default"))) const struct cuda_module heron_cuda_module;
const struct cuda_module heron_cuda_module = {CUDA_MODULE_ABI, &cuda_backend};
