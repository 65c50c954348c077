/*
 * shim - the CUDA language on a host, for kernels whose logic is proven where no GPU is: every .cu file is compiled as C++ with this header in front of it.
 *
 * A thread is a fiber; a block's fibers run one at a time, in random order, each until it meets a barrier or an operation of its warp. So a missing barrier shows as a wrong
 * result in some order, and these end the program with words: a barrier or a warp operation that not all reach, one that lanes reach with different kinds, shared memory
 * written past its end. Asynchronous copies are made as late as they may be: when they are waited for. Shared memory begins as junk, and is a heap block of just the size
 * that the launch asked for, so that AddressSanitizer sees its bounds. Tensor-core products are computed from all lanes' fragments in double precision and rounded once.
 * HERON_SHIM_SEED chooses another order.
 *
 * Not shown here: time, memory coalescing, bank conflicts, races inside a warp between operations of it, and what the real units round otherwise.
 *
 * The runtime library is here as far as kernels/cuda uses it: device memory is the heap; what a stream is given is done as late as it may be, when somebody waits for it; while a stream is captured,
 * launches and copies are noted and run when their graph is. HERON_SHIM_FAILS, words with a space between them, has it fail as a driver does: `count=803`, cudaGetDeviceCount returns that; `code`,
 * the module has none for this device; `graph`, no graph can be made; `lost=N`, after N launches nothing works any more in this process.
 */
#ifndef HERON_TESTS_CUDA_SHIM_H
#define HERON_TESTS_CUDA_SHIM_H

#define HERON_CUDA_SHIM 1

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <functional>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

/* ---- vectors ------------------------------------------------------------------------------------------------------------- */

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y)
{
    return {x, y};
}
static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}
static inline uint2 make_uint2(unsigned x, unsigned y)
{
    return {x, y};
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return {x, y, z, w};
}

/* ---- threads ------------------------------------------------------------------------------------------------------------- */

#define SHIM_SLOT_FLOATS 16

struct shim_slot { /* what a lane shows the others in a warp operation */
    uint64_t bits;
    const void *address;
    float value[SHIM_SLOT_FLOATS];
};

/* The fiber that runs. */
struct shim_place {
    dim3 thread, block, block_dim, grid_dim;
    void *shared;
    int lane;
};
extern __attribute__((tls_model("initial-exec"))) thread_local struct shim_place *shim_now;

#define threadIdx (shim_now->thread)
#define blockIdx  (shim_now->block)
#define blockDim  (shim_now->block_dim)
#define gridDim   (shim_now->grid_dim)

enum shim_kind { SHIM_SYNC_WARP = 1, SHIM_SHUFFLE, SHIM_BALLOT, SHIM_MMA_F16, SHIM_MMA_BF16, SHIM_LOAD_MATRIX };

typedef struct shim_stream *cudaStream_t;
void shim_launch(cudaStream_t stream, dim3 grid, unsigned block, size_t shared_bytes, const std::function<void()> &kernel);

/* What this lane shows in its next warp operation; then all wait for all, and the slots of the warp's lanes are returned, valid until this lane's next operation but one. */
struct shim_slot *shim_mine();
const struct shim_slot *shim_meet(enum shim_kind kind);
void __syncthreads();

static inline void __syncwarp(uint32_t = 0xffffffffu)
{
    shim_meet(SHIM_SYNC_WARP);
}

template <typename T> static inline T *shared_memory()
{
    return static_cast<T *>(shim_now->shared);
}

/* ---- the twins of kernels/cuda/lanes.cuh ----------------------------------------------------------------------------------- */

float shim_f16_to_f32(uint16_t h);
uint16_t shim_f64_to_f16(double v); /* rounded once, to the nearest even */
uint16_t shim_f32_to_bf16(float v);

void mma_f16(float c[4], const uint32_t a[4], const uint32_t b[2]);
void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2]);
void load_matrix(uint32_t r[4], const void *row);
void load_matrix_transposed(uint32_t r[4], const void *row);
void copy_async(void *shared, const void *global, bool is_there);
void copy_commit();
void shim_copy_wait(int n);

template <int N> static inline void copy_wait()
{
    shim_copy_wait(N);
}

void shim_misaligned(const void *p, int n);

static inline uint4 load_once(const void *p)
{
    uint4 v;
    if ((uintptr_t)p % 16 != 0)
        shim_misaligned(p, 16);
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t pack_f16(float lo, float hi)
{
    return shim_f64_to_f16(lo) | (uint32_t)shim_f64_to_f16(hi) << 16;
}

static inline uint32_t pack_bf16(float lo, float hi)
{
    return shim_f32_to_bf16(lo) | (uint32_t)shim_f32_to_bf16(hi) << 16;
}

static inline float2 unpack_f16(uint32_t v)
{
    return {shim_f16_to_f32((uint16_t)v), shim_f16_to_f32((uint16_t)(v >> 16))};
}

static inline uint32_t fma_f16x2(uint32_t a, uint32_t b, uint32_t c)
{
    const float2 x = unpack_f16(a), y = unpack_f16(b), z = unpack_f16(c);
    return shim_f64_to_f16((double)x.x * y.x + z.x) | (uint32_t)shim_f64_to_f16((double)x.y * y.y + z.y) << 16;
}

static inline uint32_t mul_f16x2(uint32_t a, uint32_t b)
{
    const float2 x = unpack_f16(a), y = unpack_f16(b);
    return shim_f64_to_f16((double)x.x * y.x) | (uint32_t)shim_f64_to_f16((double)x.y * y.y) << 16;
}

static inline uint32_t add_f16x2(uint32_t a, uint32_t b)
{
    const float2 x = unpack_f16(a), y = unpack_f16(b);
    return shim_f64_to_f16((double)x.x + y.x) | (uint32_t)shim_f64_to_f16((double)x.y + y.y) << 16;
}

static inline uint32_t pick_bytes(uint32_t lo, uint32_t hi, uint32_t which)
{
    const uint64_t all = lo | (uint64_t)hi << 32;
    uint32_t v = 0;
    for (int i = 0; i < 4; i++)
        v |= (uint32_t)(all >> 8 * (which >> 4 * i & 7) & 0xff) << 8 * i;
    return v;
}

static inline uint32_t shuffle_u32(uint32_t v, int lane)
{
    shim_mine()->bits = v;
    return (uint32_t)shim_meet(SHIM_SHUFFLE)[lane & 31].bits;
}

static inline uint32_t shuffle_xor_u32(uint32_t v, int bits)
{
    shim_mine()->bits = v;
    return (uint32_t)shim_meet(SHIM_SHUFFLE)[shim_now->lane ^ bits].bits;
}

static inline uint32_t bits_of(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

static inline float float_of(uint32_t u)
{
    float v;
    memcpy(&v, &u, sizeof v);
    return v;
}

static inline float shuffle(float v, int lane)
{
    return float_of(shuffle_u32(bits_of(v), lane));
}

static inline float shuffle_xor(float v, int bits)
{
    return float_of(shuffle_xor_u32(bits_of(v), bits));
}

/* In the order in which lanes.cuh adds, from one meeting. */
template <typename F> static inline float shim_over_lanes(float v, F pair)
{
    float all[32], other[32];
    shim_mine()->value[0] = v;
    const struct shim_slot *slots = shim_meet(SHIM_SHUFFLE);
    for (int i = 0; i < 32; i++)
        all[i] = slots[i].value[0];
    for (int bits = 16; bits > 0; bits /= 2) {
        memcpy(other, all, sizeof all);
        for (int i = 0; i < 32; i++)
            all[i] = pair(other[i], other[i ^ bits]);
    }
    return all[shim_now->lane];
}

static inline float warp_sum(float v)
{
    return shim_over_lanes(v, [](float a, float b) { return a + b; });
}

static inline float warp_max(float v)
{
    return shim_over_lanes(v, [](float a, float b) { return fmaxf(a, b); });
}

static inline uint32_t votes(bool is)
{
    uint32_t sum = 0;
    shim_mine()->bits = is;
    const struct shim_slot *all = shim_meet(SHIM_BALLOT);
    for (int i = 0; i < 32; i++)
        sum |= (uint32_t)all[i].bits << i;
    return sum;
}

static inline float mul_once(float a, float b)
{
    return a * b;
}

static inline float add_once(float a, float b)
{
    return a + b;
}

static inline int32_t count_up(int32_t *count) /* one fiber runs at a time */
{
    return ++*count;
}

static inline float load_fresh(const float *p)
{
    return *p;
}

static inline float4 load_fresh4(const float *p)
{
    return *reinterpret_cast<const float4 *>(p);
}

static inline int32_t opaque(int32_t v)
{
    return v;
}

static inline int count_bits(uint32_t v)
{
    return __builtin_popcount(v);
}

/* ---- C that CUDA knows everywhere -------------------------------------------------------------------------------------------- */

static inline int min(int a, int b)
{
    return a < b ? a : b;
}
static inline int max(int a, int b)
{
    return a > b ? a : b;
}
static inline float rsqrtf(float v)
{
    return 1.0f / sqrtf(v);
}
static inline int atomicAdd(int *p, int v) /* one fiber runs at a time */
{
    const int old = *p;
    *p = old + v;
    return old;
}

/* ---- the runtime library ----------------------------------------------------------------------------------------------------- */

typedef int cudaError_t;
enum {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorNoKernelImageForDevice = 209,
    cudaErrorLaunchFailure = 719
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount,
    cudaDevAttrComputeCapabilityMajor,
    cudaDevAttrComputeCapabilityMinor,
    cudaDevAttrIntegrated,
};
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
typedef struct shim_event *cudaEvent_t;
struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem;
};
struct cudaFuncAttributes {
    int numRegs;
};
enum { cudaDeviceScheduleBlockingSync = 4, cudaInitDeviceFlagsAreValid = 1 };

cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaSetDevice(int index);
cudaError_t cudaInitDevice(int index, unsigned device_flags, unsigned flags);
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *kernel);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int index);
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int index);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaMallocHost(void **p, size_t bytes);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventDestroy(cudaEvent_t event);
typedef struct shim_graph *cudaGraph_t;
typedef struct shim_graph *cudaGraphExec_t;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGetLastError();
const char *cudaGetErrorString(cudaError_t e);

#endif
