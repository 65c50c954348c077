/*
 * linear - dense products: activations to halves once, then a launch for each weight (product.cuh).
 *
 * Halves have a range of their own: a row is multiplied by the power of two that brings its largest value to 2^14 ... 2^15, which is undone after the product. So activations of any size
 * keep 11 bits, and what is 2^28 times smaller than the largest begins to lose some.
 */
#include "kernels/cuda/product.cuh"

#define RANGE_EXPONENT 14
#define UP_BYTES       ((size_t)64 << 20)

/* ---- activations --------------------------------------------------------------------------------------------------------------------- */

/* A block a row. Shared: LANES floats. */
static __global__ void halves_kernel(struct kn_mat x, uint32_t *halves, float *factors, int32_t pitch)
{
    const int row = (int)blockIdx.x;
    const float *from = cuda_row(x, row);
    float most = 0;
    for (int i = (int)threadIdx.x; i < x.cols; i += (int)blockDim.x)
        most = fmaxf(most, fabsf(from[i]));
    most = block_max(most, shared_memory<float>());
    const int exponent = (int)(bits_of(most) >> 23 & 255) - 127;
    const bool is_plain = most == 0 || exponent == 128; /* nothing, or not a number: as it is */
    const int shift = is_plain ? 0 : max(-126, min(126, RANGE_EXPONENT - exponent));
    const float factor = float_of((uint32_t)(shift + 127) << 23);
    uint32_t *to = halves + (int64_t)row * (pitch / 2);
    for (int i = (int)threadIdx.x; i < pitch / 2; i += (int)blockDim.x)
        to[i] = pack_f16(2 * i < x.cols ? from[2 * i] * factor : 0, 2 * i + 1 < x.cols ? from[2 * i + 1] * factor : 0);
    if (threadIdx.x == 0)
        factors[row] = float_of((uint32_t)(127 - shift) << 23);
}

void cuda_halves(struct cuda_stream *s, const char *op, const struct kn_mat *x, uint16_t *halves, float *factors, int32_t pitch)
{
    cuda_launch(s, op, halves_kernel, dim3((unsigned)x->rows), x->cols > 512 ? 256u : 64u, LANES * sizeof(float), *x,
                (uint32_t *)halves, factors, pitch);
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
    return lay_out(&r, NULL, (size_t)l->rows, l->cols, (size_t)up_rows(l->rows, l->cols) * (size_t)l->cols);
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

/* Rows row0 ... of x, as many as y has. */
static void launch(struct cuda_stream *s, const char *op, struct product *p, const struct linear_scratch *r,
                   const struct kn_mat *x, int32_t row0)
{
    const struct kn_mat from = {x->data + row0 * x->stride, p->y.rows, x->cols, x->stride};
    p->pitch = cuda_pitch(x->cols);
    p->x = r->halves + (int64_t)row0 * p->pitch;
    p->x_factor = r->factors + row0;
    p->n = p->y.rows;
    p->rows = p->y.cols;
    product_fn *const f = product_of(p->w[0].dtype);
    if (f)
        f(s, op, p);
    else
        cuda_plain_product(s, op, p, &from);
}

void cuda_linear(struct kn_stream *stream, const struct kn_linear_args *a)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    struct linear_scratch r;
    if (!prepare(s, "linear", &a->x, 0, &r))
        return;
    struct product p = {.w = {*cuda_weight_of(a->w)}, .y = a->y, .bias = a->bias, .act = a->act, .accumulate = a->accumulate};
    if (a->w->dtype != KN_F32)
        cuda_halves(s, "linear", &a->x, r.halves, r.factors, cuda_pitch(a->x.cols));
    launch(s, "linear", &p, &r, &a->x, 0);
}

void cuda_project(struct kn_stream *stream, const struct kn_project_args *a)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    struct linear_scratch r;
    bool has_packed = false;
    if (!prepare(s, "project", &a->x, 0, &r))
        return;
    for (int32_t i = 0; i < a->n; i++)
        has_packed = has_packed || a->w[i]->dtype != KN_F32;
    if (has_packed)
        cuda_halves(s, "project", &a->x, r.halves, r.factors, cuda_pitch(a->x.cols));
    for (int32_t i = 0; i < a->n; i++) {
        struct product p = {.w = {*cuda_weight_of(a->w[i])}, .y = a->y[i]};
        launch(s, "project", &p, &r, &a->x, 0);
    }
}

void cuda_gate_up(struct kn_stream *stream, const struct kn_gate_up_args *a)
{
    struct cuda_stream *s = cuda_stream_of(stream);
    struct linear_scratch r;
    const bool is_dual = a->gate->dtype == a->up->dtype;
    const int32_t chunk = up_rows(a->y.rows, a->y.cols);
    if (!prepare(s, "gate_up", &a->x, is_dual ? 0 : (size_t)chunk * (size_t)a->y.cols, &r))
        return;
    if (a->gate->dtype != KN_F32 || a->up->dtype != KN_F32)
        cuda_halves(s, "gate_up", &a->x, r.halves, r.factors, cuda_pitch(a->x.cols));
    struct product p = {.w = {*cuda_weight_of(a->gate), *cuda_weight_of(a->up)}, .is_dual = is_dual, .y = a->y};
    launch(s, "gate_up", &p, &r, &a->x, 0);
    for (int32_t t = 0; t < a->y.rows && !is_dual; t += chunk) {
        const int32_t n = a->y.rows - t < chunk ? a->y.rows - t : chunk;
        const struct kn_mat up = {r.up, n, a->y.cols, a->y.cols}, y = {a->y.data + t * a->y.stride, n, a->y.cols, a->y.stride};
        p = {.w = {*cuda_weight_of(a->up)}, .y = up};
        launch(s, "gate_up", &p, &r, &a->x, t);
        cuda_silu_product(s, "gate_up", &y, &up, &y);
    }
}
