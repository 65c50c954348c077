/*
 * cpu - what the files of the CPU device share: its device and stream, and the workspace that a stream's limits size.
 *
 * An op file takes a struct kn_stream, which is the first member of a struct cpu_stream, cuts its work into items and hands them
 * to cpu_run. An item may use its thread's scratch; everything else it writes belongs to it alone.
 *
 * Memory: the workspace is allocated at stream open; ops allocate nothing. Ops that would need more take their rows in
 * chunks, which changes no result.
 */
#ifndef HERON_KERNELS_CPU_CPU_H
#define HERON_KERNELS_CPU_CPU_H

#include "kernels/cpu/features.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/pool.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vec.h"
#include "kernels/cpu/weights.h"
#include "kernels/device.h"

#define CPU_BLOCK_ROWS   256  /* rows of a matrix-product item: what it costs to unpack weights is shared by them */
#define CPU_CHUNK_ROWS   1024 /* most rows whose activations are quantised at a time */
#define CPU_ATTN_ROWS    32   /* query vectors of an attention item, unless one token has more heads per KV head */
#define CPU_ATTN_SEGMENT 1024 /* keys of a segment: attention over longer contexts merges segments in order */

struct cpu_device {
    struct kn_device base;
    enum cpu_level level;
    struct pool *pool;
    const struct tile_kernels *tile;
    const struct vec_kernels *vec;
    struct tile_kernels tile_own; /* of a level that is put together when it is opened */
    struct weights weights;
};

/* One thread's scratch. */
struct cpu_scratch {
    struct tile_panel panels[2];
    float acc[2][CPU_BLOCK_ROWS * 32];
    float *tmp; /* tmp_floats */
};

struct cpu_stream {
    struct kn_stream base;
    struct cpu_device *device;
    struct pool *pool;
    const struct tile_kernels *tile;
    const struct vec_kernels *vec;

    struct tile_act act[2]; /* quantised activations, by enum tile_grain: act_values values each in all */
    size_t act_values, act_pitch_max;
    uint16_t *bf16;        /* rounded ones, where the level has products of them: act_values of them, and for 32 rows more */
    struct tile_row *rows; /* [n_rows_max] the rows of the op, in order */
    struct tile_row *by_expert; /* [n_rows_max] the same, sorted by expert */
    int8_t *by_expert_q[2];     /* and their integers, by enum tile_grain: [n_rows_max] of the widest input */
    int32_t *expert_first;      /* [experts + 1] */
    int32_t *expert_list;       /* [n_rows_max] */
    int32_t *expert_used;       /* [n_used] those that have rows */
    int32_t n_used;
    float *logits; /* [CPU_CHUNK_ROWS or fewer][experts] */
    int32_t n_rows_max, n_tokens_max;
    float *partial; /* attention: partial results of segments */
    size_t partial_floats;
    struct cpu_scratch *scratch; /* [threads] */
    size_t tmp_floats;
    void *memory;
};

static inline struct cpu_stream *cpu_stream_of(struct kn_stream *stream)
{
    return (struct cpu_stream *)stream;
}

/* Floats of a thread's tmp that an attention item with query tiles of `rows` vectors of d values needs. */
size_t cpu_attn_floats(int32_t rows, int32_t d);
/* And a gdn_scan item. */
size_t cpu_gdn_floats(int32_t d_k, int32_t d_v);

/* Behind kn_read_bandwidth. */
double cpu_read_bandwidth(struct kn_device *device, size_t bytes, double seconds);

/* Mark the stream: the call is larger than the limits that the stream was opened with. */
void cpu_too_large(struct kn_stream *stream, const char *op);

/* ---- shared by linear.c and moe.c ---- */

/* Rows of the activation workspace that fit at `cols` inputs, at most n. */
int32_t cpu_chunk_rows(const struct cpu_stream *s, int32_t cols, int32_t n);

/* A bit for what a weight wants activations as; NULL: none. */
static inline unsigned cpu_grain(const struct kn_weight *w)
{
    return w ? 1u << tile_grain_of(w->dtype) : 0;
}

/* Values from one row of `cols` inputs to the next: of int8, and of bfloat16. */
int64_t cpu_act_pitch(int32_t cols);
int64_t cpu_bf16_pitch(int32_t cols);

/* Fill s->rows for rows first .. first + n - 1 of x, in this order (NULL: as they are), quantised as these bits say. */
void cpu_take_rows(struct cpu_stream *s, const struct kn_mat *x, int32_t first, int32_t n, const int32_t *order,
                   unsigned grains);

/*
 * This line will be written soon: it is asked for as this core's own, or the store would have to ask once more. The builtin means the same, but gives the instruction only where a flag
 * promises it; older cores take it for a nop.
 */
static inline void cpu_want(const float *y)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*y));
#else
    __builtin_prefetch(y, 1, 2);
#endif
}

/* Rows up to which a weight of this type is unpacked in registers (KN_FEW_ROWS, at most TILE_FUSED_ROWS). */
static inline int32_t cpu_few_rows(const struct cpu_stream *s, enum kn_dtype dtype)
{
    return s->device->base.tuning[KN_FEW_ROWS][dtype];
}

/* Up to 32 floats will be written soon: they come near while what they are is computed. Else the stores of an output larger than the caches wait for memory, line by line. */
static inline void cpu_expect(const float *y, int32_t n)
{
    cpu_want(y);
    cpu_want(y + n - 1);
}

/* acc[r][0..32) = n_groups (1 or 2) groups of 16 outputs, from group0 on, for n_rows <= CPU_BLOCK_ROWS rows. */
void cpu_product(const struct cpu_stream *s, struct cpu_scratch *scratch, const struct pack_shape *shape, const uint8_t *slice,
                 int32_t group0, int n_groups, const struct tile_row *rows, int n_rows, float *acc);

struct pack_shape cpu_shape(const struct kn_weight *w);
static inline const uint8_t *cpu_slice(const struct kn_weight *w, const struct pack_shape *shape, int32_t slice)
{
    return (const uint8_t *)w->data + (size_t)slice * shape->slice_bytes;
}
static inline float cpu_scale(const struct kn_weight *w, int32_t slice)
{
    return w->scales ? w->scales[slice] : 1.0f;
}

/* y = x W^T for slice 0 of a weight, no epilogue: the router's logits. */
void cpu_linear_plain(struct cpu_stream *s, const struct kn_mat *x, int32_t first, int32_t n, const struct kn_weight *w,
                      float *y, int64_t y_stride);

/* ---- the ops ---- */

#define KN_OP(name) void cpu_##name(struct kn_stream *stream, const struct kn_##name##_args *args);
#include "kernels/ops.def"
#undef KN_OP

#endif
