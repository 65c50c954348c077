#include <pthread.h>

#include "kernels/cuda/arena.cuh"

struct piece {
    struct piece *next;
    char *memory;
    size_t bytes, used;
    int n_taken; /* and not given back */
};

struct cuda_arenas {
    pthread_mutex_t mutex;
    struct piece *first; /* the newest: the one that is taken from */
};

int cuda_arenas_open(struct cuda_arenas **ret_arenas, struct err *err)
{
    struct cuda_arenas *a = (struct cuda_arenas *)calloc(1, sizeof *a);
    if (!a)
        return err_set(err, ERR_NOMEM, "out of memory");
    pthread_mutex_init(&a->mutex, NULL);
    *ret_arenas = a;
    return 0;
}

void cuda_arenas_close(struct cuda_arenas *a)
{
    if (!a)
        return;
    while (a->first) {
        struct piece *p = a->first;
        a->first = p->next;
        cudaFree(p->memory);
        free(p);
    }
    pthread_mutex_destroy(&a->mutex);
    free(a);
}

cudaError_t cuda_arena_reserve(struct cuda_arenas *a, size_t bytes)
{
    struct piece *p = (struct piece *)calloc(1, sizeof *p);
    if (!p)
        return cudaErrorMemoryAllocation;
    const cudaError_t e = cudaMalloc((void **)&p->memory, bytes);
    if (e != cudaSuccess) {
        free(p);
        return e;
    }
    p->bytes = bytes;
    pthread_mutex_lock(&a->mutex);
    p->next = a->first;
    a->first = p;
    pthread_mutex_unlock(&a->mutex);
    return cudaSuccess;
}

cudaError_t cuda_arena_take(struct cuda_arenas *a, size_t bytes, void **ret_memory)
{
    bytes = cuda_arena_round(bytes ? bytes : 1);
    pthread_mutex_lock(&a->mutex);
    struct piece *p = a->first;
    const bool is_in = p && p->bytes - p->used >= bytes;
    if (is_in) {
        *ret_memory = p->memory + p->used;
        p->used += bytes;
        p->n_taken++;
    }
    pthread_mutex_unlock(&a->mutex);
    return is_in ? cudaSuccess : cudaMalloc(ret_memory, bytes);
}

void cuda_arena_give(struct cuda_arenas *a, void *memory)
{
    if (!memory)
        return;
    pthread_mutex_lock(&a->mutex);
    struct piece *p = a->first;
    while (p && !((char *)memory >= p->memory && (char *)memory < p->memory + p->bytes))
        p = p->next;
    if (p && --p->n_taken == 0)
        p->used = 0;
    pthread_mutex_unlock(&a->mutex);
    if (!p)
        cudaFree(memory);
}
