/*
 * weights - a weight on the CUDA device: packed tiles (forms.cuh) or, for F32, plain rows.
 *
 * kn_weight.data points to a struct cuda_weight on the host, which kernels get by value. GGUF rows travel through two pinned buffers, are uploaded as they are and repacked by the
 * device, so that a weight is never there twice. Threads: one loads at a time (the device's mutex).
 */
#ifndef HERON_KERNELS_CUDA_WEIGHTS_CUH
#define HERON_KERNELS_CUDA_WEIGHTS_CUH

#include "kernels/cuda/cuda.cuh"

#define FORM_TILE 16 /* rows of a tile */

struct cuda_weight {
    uint8_t *data;  /* tiles: [slices][tiles][groups][bytes of a group]; F32: float [slices][rows][cols] */
    float *factors; /* [slices][tiles][16]: on a row's products (BF16, MXFP4); NULL: 1 */
    float *scales;  /* [slices]: kn_weight.scales; NULL: 1 */
    int64_t tile_bytes;
    int32_t rows, cols, slices, tiles, groups; /* tiles of a slice, groups of a tile */
    int32_t strips;                            /* of 64 columns, in a row: the groups' */
    enum kn_dtype dtype;
    int which; /* enum old_type, where the form is that of old types */
};

static inline const struct cuda_weight *cuda_weight_of(const struct kn_weight *w)
{
    return (const struct cuda_weight *)w->data;
}

/* The rows of an F32 weight: device float [slices][rows][cols]. */
static inline const float *cuda_weight_f32(const struct kn_weight *w)
{
    return (const float *)cuda_weight_of(w)->data;
}

static __device__ __forceinline__ const uint8_t *cuda_tile(const cuda_weight &w, int slice, int tile)
{
    return w.data + ((int64_t)slice * w.tiles + tile) * w.tile_bytes;
}

/* What row `row` of a tile's products is multiplied by. */
static __device__ __forceinline__ float cuda_row_factor(const cuda_weight &w, int slice, int64_t row)
{
    const float f = w.factors ? w.factors[(int64_t)slice * w.tiles * 16 + row] : 1.0f;
    return w.scales ? f * w.scales[slice] : f;
}

/* The way in, on a stream of the device. */
struct cuda_loader;
int cuda_loader_open(cudaStream_t stream, struct cuda_loader **ret_loader, struct err *err);
void cuda_loader_close(struct cuda_loader *loader);

size_t cuda_weight_bytes(const struct kn_device *device, const struct kn_weight *weight);
int cuda_weight_begin(struct kn_device *device, struct kn_weight *weight, struct err *err);
int cuda_weight_rows(struct kn_device *device, struct kn_weight *weight, int64_t first_row, int64_t n_rows,
                     const void *host_src, struct err *err);
int cuda_weight_end(struct kn_device *device, struct kn_weight *weight, struct err *err);
void cuda_weight_free(struct kn_device *device, struct kn_weight *weight);

#endif
