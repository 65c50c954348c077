/*
 * lanes - what a warp can do beyond C: tensor-core products, half precision in pairs, asynchronous copies, sums over lanes. The only file with PTX.
 *
 * Every function here has a twin in tests/cuda/shim.hpp, so that the same kernels run on a host where no GPU is. All are for the device; those that say "warp" are called by
 * all 32 lanes together. Sources: PTX ISA 9.0, "Matrix multiply-accumulate operation using mma instruction", "cp.async", "ldmatrix".
 */
#ifndef HERON_KERNELS_CUDA_LANES_CUH
#define HERON_KERNELS_CUDA_LANES_CUH

#include <stdint.h>

#define LANES     32
#define ALL_LANES 0xffffffffu

#ifndef HERON_CUDA_SHIM

#include <cuda_fp16.h>
#include <cuda_runtime.h>

/* Dynamic shared memory of the block, 128-byte aligned: all that a kernel has, as big as its launch says. */
template <typename T> static __device__ __forceinline__ T *shared_memory()
{
    extern __shared__ __align__(128) unsigned char lanes_shared[];
    return reinterpret_cast<T *>(lanes_shared);
}

static __device__ __forceinline__ uint32_t lanes_address(const void *shared)
{
    return (uint32_t)__cvta_generic_to_shared(shared);
}

/*
 * Warp: c[16, 8] += a[16, 16] b[16, 8]; halves in, floats out. Lane l with g = l / 4, t = l % 4 holds
 *   a[0]: row g, columns 2t, 2t+1   a[1]: row g+8, the same   a[2]: row g, columns 2t+8, 2t+9   a[3]: row g+8, the same
 *   b[0]: rows 2t, 2t+1 of column g   b[1]: rows 2t+8, 2t+9 of column g
 *   c[0], c[1]: row g, columns 2t, 2t+1   c[2], c[3]: row g+8, the same
 */
static __device__ __forceinline__ void mma_f16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* The same of bfloat16. */
static __device__ __forceinline__ void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/*
 * Warp: four 8 x 8 matrices of halves from shared memory; lane l gives the address of row l % 8 of matrix l / 8 (16 bytes, 16-byte aligned). Lane l gets of each matrix row
 * l / 4, columns 2 (l % 4) and the next; transposed: of column l / 4 the rows 2 (l % 4) and the next.
 */
static __device__ __forceinline__ void load_matrix(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(lanes_address(row))
                 : "memory");
}

static __device__ __forceinline__ void load_matrix_transposed(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(lanes_address(row))
                 : "memory");
}

/* 16 bytes from global to shared memory, both 16-byte aligned; there after copy_wait and a barrier. is_there false: zeros, and nothing is read. */
static __device__ __forceinline__ void copy_async(void *shared, const void *global, bool is_there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(lanes_address(shared)), "l"(global),
                 "r"(is_there ? 16 : 0)
                 : "memory");
}

/* The copies of this thread since the last commit are a group. */
static __device__ __forceinline__ void copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Wait until at most N of this thread's groups are under way. Others' copies are seen after a barrier. */
template <int N> static __device__ __forceinline__ void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* Weights: read once, not to push out what is read again. 16-byte aligned. */
static __device__ __forceinline__ uint4 load_once(const void *p)
{
    uint4 v;
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}

/* Two floats to a pair of halves, low half first, to the nearest; and back. */
static __device__ __forceinline__ uint32_t pack_f16(float lo, float hi)
{
    uint32_t v;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(hi), "f"(lo));
    return v;
}

static __device__ __forceinline__ uint32_t pack_bf16(float lo, float hi)
{
    uint32_t v;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(hi), "f"(lo));
    return v;
}

static __device__ __forceinline__ float2 unpack_f16(uint32_t v)
{
    return __half22float2(*reinterpret_cast<const __half2 *>(&v));
}

/* a * b + c, a * b and a + b of two halves each, rounded once; half subnormals are kept. */
static __device__ __forceinline__ uint32_t fma_f16x2(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t v;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(v) : "r"(a), "r"(b), "r"(c));
    return v;
}

static __device__ __forceinline__ uint32_t mul_f16x2(uint32_t a, uint32_t b)
{
    uint32_t v;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(v) : "r"(a), "r"(b));
    return v;
}

static __device__ __forceinline__ uint32_t add_f16x2(uint32_t a, uint32_t b)
{
    uint32_t v;
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(v) : "r"(a), "r"(b));
    return v;
}

/* Bytes of lo (0 to 3) and hi (4 to 7): nibble i of `which` names byte i of the result. */
static __device__ __forceinline__ uint32_t pick_bytes(uint32_t lo, uint32_t hi, uint32_t which)
{
    return __byte_perm(lo, hi, which);
}

/* Warp: the value of lane `lane`; of the lane whose number differs in the bits of `bits`. */
static __device__ __forceinline__ float shuffle(float v, int lane)
{
    return __shfl_sync(ALL_LANES, v, lane);
}

static __device__ __forceinline__ float shuffle_xor(float v, int bits)
{
    return __shfl_xor_sync(ALL_LANES, v, bits);
}

static __device__ __forceinline__ uint32_t shuffle_u32(uint32_t v, int lane)
{
    return __shfl_sync(ALL_LANES, v, lane);
}

static __device__ __forceinline__ uint32_t shuffle_xor_u32(uint32_t v, int bits)
{
    return __shfl_xor_sync(ALL_LANES, v, bits);
}

/* Warp: bit l is lane l's `is`. */
static __device__ __forceinline__ uint32_t votes(bool is)
{
    return __ballot_sync(ALL_LANES, is);
}

static __device__ __forceinline__ int count_bits(uint32_t v)
{
    return __popc(v);
}

/* Rounded after each operation: not fused with what comes next. */
static __device__ __forceinline__ float mul_once(float a, float b)
{
    return __fmul_rn(a, b);
}

static __device__ __forceinline__ float add_once(float a, float b)
{
    return __fadd_rn(a, b);
}

/*
 * One more at *count, a number in global memory; returns the new count. Everything that this thread, and before a barrier its block, has read and written comes before it for
 * whoever counts later.
 */
static __device__ __forceinline__ int32_t count_up(int32_t *count)
{
    int32_t old;
    asm volatile("atom.add.acq_rel.gpu.global.s32 %0, [%1], 1;" : "=r"(old) : "l"(count) : "memory");
    return old + 1;
}

/* What another block wrote before it counted up: from where all blocks see it. */
static __device__ __forceinline__ float load_fresh(const float *p)
{
    float v;
    asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(v) : "l"(p) : "memory");
    return v;
}

static __device__ __forceinline__ float4 load_fresh4(const float *p)
{
    float4 v;
    asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                 : "l"(p)
                 : "memory");
    return v;
}

/* v, of which the compiler knows nothing: what is computed of it is not kept in registers from long before. */
static __device__ __forceinline__ int32_t opaque(int32_t v)
{
    asm volatile("" : "+r"(v));
    return v;
}

/* The bits of a float, and back. */
static __device__ __forceinline__ uint32_t bits_of(float v)
{
    return __float_as_uint(v);
}

static __device__ __forceinline__ float float_of(uint32_t v)
{
    return __uint_as_float(v);
}

/* Warp: sums and maxima over all lanes, in one order; every lane gets them. */
static __device__ __forceinline__ float warp_sum(float v)
{
    for (int bits = LANES / 2; bits > 0; bits /= 2)
        v += shuffle_xor(v, bits);
    return v;
}

static __device__ __forceinline__ float warp_max(float v)
{
    for (int bits = LANES / 2; bits > 0; bits /= 2)
        v = fmaxf(v, shuffle_xor(v, bits));
    return v;
}

#endif

/*
 * Block: the sum over all threads, in one order; every thread gets it. `room`: LANES floats of shared memory, free again after the next barrier. blockDim.x is a multiple of
 * LANES. Two barriers.
 */
static __device__ __forceinline__ float block_sum(float v, float *room)
{
    v = warp_sum(v);
    __syncthreads();
    if (threadIdx.x % LANES == 0)
        room[threadIdx.x / LANES] = v;
    __syncthreads();
    float sum = 0;
    for (unsigned i = 0; i < blockDim.x / LANES; i++)
        sum += room[i];
    return sum;
}

static __device__ __forceinline__ float block_max(float v, float *room)
{
    v = warp_max(v);
    __syncthreads();
    if (threadIdx.x % LANES == 0)
        room[threadIdx.x / LANES] = v;
    __syncthreads();
    float most = room[0];
    for (unsigned i = 1; i < blockDim.x / LANES; i++)
        most = fmaxf(most, room[i]);
    return most;
}

#endif
