/*
 * linear - dense products (product.cuh): activations to halves once, unless the blocks do that, then a launch for all weights of one form.
 */
#include "kernels/cuda/product.cuh"

#define UP_BYTES      ((size_t)64 << 20)
#define FLOATS_SHARED (32 << 10) /* of halves that a block makes: two blocks share a processor then */

/* ---- activations --------------------------------------------------------------------------------------------------------------------- */

/* A block a row. Shared: LANES floats. */
static __global__ void halves_kernel(struct kn_mat x, uint32_t *halves, float *factors, int32_t pitch)
{
    const int row = (int)blockIdx.x;
    const float *from = cuda_row(x, row);
    const bool is_wide = (uintptr_t)from % 16 == 0 && x.cols % 4 == 0;
    float most = 0;
    if (is_wide) {
#pragma unroll 4
        for (int i = (int)threadIdx.x; i < x.cols / 4; i += (int)blockDim.x) {
            const float4 v = ((const float4 *)from)[i];
            most = fmaxf(fmaxf(most, fmaxf(fabsf(v.x), fabsf(v.y))), fmaxf(fabsf(v.z), fabsf(v.w)));
        }
    } else {
        for (int i = (int)threadIdx.x; i < x.cols; i += (int)blockDim.x)
            most = fmaxf(most, fabsf(from[i]));
    }
    most = block_max(most, shared_memory<float>());
    const struct half_range range = half_range_of(most);
    uint32_t *to = halves + (int64_t)row * (pitch / 2);
    if (is_wide) {
#pragma unroll 4
        for (int i = (int)threadIdx.x; i < pitch / 4; i += (int)blockDim.x) {
            const float4 v = 4 * i < x.cols ? ((const float4 *)from)[i] : make_float4(0, 0, 0, 0);
            ((uint2 *)to)[i] = make_uint2(pack_f16(v.x * range.to, v.y * range.to), pack_f16(v.z * range.to, v.w * range.to));
        }
    } else {
        for (int i = (int)threadIdx.x; i < pitch / 2; i += (int)blockDim.x)
            to[i] = half_pair(from, i, x.cols, range.to);
    }
    if (threadIdx.x == 0)
        factors[row] = range.back;
}

void cuda_halves(struct cuda_stream *s, const char *op, const struct kn_mat *x, uint16_t *halves, float *factors, int32_t pitch)
{
    cuda_launch(s, op, halves_kernel, dim3((unsigned)x->rows),
                x->cols > 4096  ? 1024u
                : x->cols > 512 ? 256u
                                : 64u,
                LANES * sizeof(float), *x, (uint32_t *)halves, factors, pitch);
}

/* A thread a value. */
static __global__ void silu_product_kernel(struct kn_mat g, struct kn_mat u, struct kn_mat y)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (int64_t)y.rows * y.cols)
        return;
    const int64_t row = i / y.cols, col = i % y.cols;
    cuda_row(y, row)[col] = cuda_silu(cuda_row(g, row)[col]) * cuda_row(u, row)[col];
}

void cuda_silu_product(struct cuda_stream *s, const char *op, const struct kn_mat *g, const struct kn_mat *u,
                       const struct kn_mat *y)
{
    const int64_t n = (int64_t)y->rows * y->cols;
    cuda_launch(s, op, silu_product_kernel, dim3((unsigned)((n + 255) / 256)), 256, 0, *g, *u, *y);
}

product_fn *product_of(enum kn_dtype dtype)
{
    switch (dtype) {
    case KN_F32: return NULL;
    case KN_F16:
    case KN_BF16: return product_f16;
    case KN_Q8_0: return product_q8_0;
    case KN_Q4_K: return product_q4_k;
    case KN_Q5_K: return product_q5_k;
    case KN_Q6_K: return product_q6_k;
    case KN_IQ4_XS: return product_iq4_xs;
    case KN_MXFP4: return product_mxfp4;
    case KN_NVFP4: return product_nvfp4;
    default: return product_old;
    }
}

bool product_takes_floats(const struct cuda_weight *w, int32_t n, int32_t tiles, int32_t cols)
{
    const int64_t pitch = cuda_pitch(cols), read = n * pitch * (int64_t)sizeof(float);
    return read <= tiles * w->tile_bytes && n <= PRODUCT_FLOATS && n * pitch * (int64_t)sizeof(uint16_t) <= FLOATS_SHARED;
}

/* ---- scratch --------------------------------------------------------------------------------------------------------------------------- */

struct linear_scratch {
    uint16_t *halves;
    float *factors, *up;
};

/* For rows of cols; `up` of so many floats. */
static size_t lay_out(struct linear_scratch *r, void *memory, size_t rows, int32_t cols, size_t up)
{
    size_t used = 0;
    r->halves = (uint16_t *)cuda_cut(memory, &used, rows * (size_t)cuda_pitch(cols), sizeof *r->halves);
    r->factors = (float *)cuda_cut(memory, &used, rows, sizeof *r->factors);
    r->up = (float *)cuda_cut(memory, &used, up, sizeof *r->up);
    return used;
}

/* Rows of a chunk of up's products, where they have to wait for gate's. */
static int32_t up_rows(int32_t rows, int32_t cols)
{
    const int64_t most = (int64_t)(UP_BYTES / sizeof(float)) / cols;
    return most < 1 ? 1 : most < rows ? (int32_t)most : rows;
}

size_t cuda_linear_scratch(const struct cuda_device *d, const struct kn_limits *l)
{
    struct linear_scratch r;
    const size_t text = lay_out(&r, NULL, (size_t)l->rows, l->cols, (size_t)up_rows(l->rows, l->cols) * (size_t)l->cols),
                 patches = lay_out(&r, NULL, (size_t)l->patch_rows, l->patch_cols, 0);
    return text > patches ? text : patches;
}

/* false: the stream is marked. */
static bool prepare(struct cuda_stream *s, const char *op, const struct kn_mat *x, size_t up, struct linear_scratch *ret)
{
    if (lay_out(ret, s->scratch, (size_t)x->rows, x->cols, up) <= s->scratch_bytes)
        return true;
    cuda_fail(s, op, ERR_INVAL, "the call is larger than the limits that the stream was opened with");
    return false;
}

/* ---- ops ------------------------------------------------------------------------------------------------------------------------------- */

/* Rows of x as halves, unless all that need them are products of few rows, whose blocks make them. */
static void take_rows(struct cuda_stream *s, const char *op, const struct kn_weight *const *w, int32_t n,
                      const struct kn_mat *x, struct linear_scratch *r)
{
    bool is_wanted = false;
    for (int32_t i = 0; i < n; i++)
        is_wanted = is_wanted || (w[i]->dtype != KN_F32 &&
                                  (x->rows > PRODUCT_ONCE || !product_takes_floats(cuda_weight_of(w[i]), x->rows, 1, x->cols)));
    if (is_wanted)
        cuda_halves(s, op, x, r->halves, r->factors, cuda_pitch(x->cols));
    else
        r->halves = NULL;
}

/* Products of rows row0 ... of x, as many as y has; those of one form go together. */
static void launch(struct cuda_stream *s, const char *op, struct product *p, int32_t n, const struct linear_scratch *r,
                   const struct kn_mat *x, int32_t row0)
{
    for (int32_t i = 0; i < n; i++) {
        p[i].from = {x->data + row0 * x->stride, p[i].y.rows, x->cols, x->stride};
        p[i].pitch = cuda_pitch(x->cols);
        p[i].x = r->halves ? r->halves + (int64_t)row0 * p[i].pitch : NULL;
        p[i].x_factor = r->factors + row0;
        p[i].n = p[i].y.rows;
        p[i].rows = p[i].y.cols;
    }
    for (int32_t i = 0; i < n; i++) {
        product_fn *const f = product_of(p[i].w[0].dtype);
        int32_t alike = 1;
        for (int32_t j = i + 1; j < n; j++)
            if (product_of(p[j].w[0].dtype) == f) {
                const struct product other = p[j];
                memmove(p + i + alike + 1, p + i + alike, (size_t)(j - i - alike) * sizeof *p);
                p[i + alike++] = other;
            }
        if (f)
            f(s, op, p + i, alike);
        else
            cuda_plain_product(s, op, p + i, alike);
        i += alike - 1;
    }
}

void cuda_linear(struct kn_stream *stream, const struct kn_linear_args *a)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    struct linear_scratch r;
    if (!prepare(s, "linear", &a->x, 0, &r))
        return;
    struct product p = {.w = {*cuda_weight_of(a->w)}, .y = a->y, .bias = a->bias, .act = a->act, .accumulate = a->accumulate};
    if (a->w->dtype != KN_F32)
        p.then = cuda_norm_then(s, a->then);
    take_rows(s, "linear", &a->w, 1, &a->x, &r);
    launch(s, "linear", &p, 1, &r, &a->x, 0);
    if (a->then && !p.then.count)
        cuda_add_rms_norm(stream, a->then);
}

void cuda_project(struct kn_stream *stream, const struct kn_project_args *a)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    struct linear_scratch r;
    struct product p[KN_PROJECT_MAX];
    if (!prepare(s, "project", &a->x, 0, &r))
        return;
    for (int32_t i = 0; i < a->n; i++)
        p[i] = {.w = {*cuda_weight_of(a->w[i])}, .y = a->y[i]};
    take_rows(s, "project", a->w, a->n, &a->x, &r);
    launch(s, "project", p, a->n, &r, &a->x, 0);
}

void cuda_gate_up(struct kn_stream *stream, const struct kn_gate_up_args *a)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    struct linear_scratch r;
    const struct kn_weight *const w[2] = {a->gate, a->up};
    const bool is_dual = a->gate->dtype == a->up->dtype;
    const int32_t chunk = up_rows(a->y.rows, a->y.cols);
    if (!prepare(s, "gate_up", &a->x, is_dual ? 0 : (size_t)chunk * (size_t)a->y.cols, &r))
        return;
    take_rows(s, "gate_up", w, 2, &a->x, &r);
    struct product p = {.w = {*cuda_weight_of(a->gate), *cuda_weight_of(a->up)}, .is_dual = is_dual, .y = a->y};
    launch(s, "gate_up", &p, 1, &r, &a->x, 0);
    for (int32_t t = 0; t < a->y.rows && !is_dual; t += chunk) {
        const int32_t n = a->y.rows - t < chunk ? a->y.rows - t : chunk;
        const struct kn_mat up = {r.up, n, a->y.cols, a->y.cols}, y = {a->y.data + t * a->y.stride, n, a->y.cols, a->y.stride};
        p = {.w = {*cuda_weight_of(a->up)}, .y = up};
        launch(s, "gate_up", &p, 1, &r, &a->x, t);
        cuda_silu_product(s, "gate_up", &y, &up, &y);
    }
}
