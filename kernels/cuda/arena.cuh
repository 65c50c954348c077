/*
 * arena - one piece of device memory for all that an engine keeps: single allocations are rounded up to pages of two megabytes, which for hundreds of tensors adds up to more than a small
 * machine can spare.
 *
 * Life cycle: cuda_arenas_open -> cuda_arena_reserve -> cuda_arena_take any number of times, cuda_arena_give for each -> cuda_arenas_close. Room in a piece is taken from its front on, and
 * free again when all that lies in it was given back. What is taken without a reserve, or beyond it, gets memory of its own. Threads: any. Memory: plain device memory, 256-byte aligned,
 * as it comes.
 */
#ifndef HERON_KERNELS_CUDA_ARENA_CUH
#define HERON_KERNELS_CUDA_ARENA_CUH

#include "kernels/cuda/cuda.cuh"

struct cuda_arenas;
int cuda_arenas_open(struct cuda_arenas **ret_arenas, struct err *err);
/* NULL is allowed. Whatever still lies in it is gone. */
void cuda_arenas_close(struct cuda_arenas *arenas);

/* Room for `bytes`, each taking rounded up to CUDA_ARENA_ALIGN. Errors: those of cudaMalloc. */
#define CUDA_ARENA_ALIGN 256
cudaError_t cuda_arena_reserve(struct cuda_arenas *arenas, size_t bytes);
cudaError_t cuda_arena_take(struct cuda_arenas *arenas, size_t bytes, void **ret_memory);
/* NULL is allowed. */
void cuda_arena_give(struct cuda_arenas *arenas, void *memory);

static inline size_t cuda_arena_round(size_t bytes)
{
    return (bytes + CUDA_ARENA_ALIGN - 1) / CUDA_ARENA_ALIGN * CUDA_ARENA_ALIGN;
}

#endif
