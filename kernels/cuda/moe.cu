/*
 * moe - products of experts, chosen on the device: the host never learns which.
 *
 * Some tokens: every pair of a token and an expert is a slot of its own; the expert that all tokens share goes along in the same launch, where its weights have the same form. Many: pairs
 * are sorted by expert (one block counts, sums and places them), and tiles of up to 64 pairs of one
 * expert go through the same kernel as a dense prefill. A row's sums do not know the order of the pairs, so both ways give the same bits.
 */
#include "kernels/cuda/product.cuh"

#define SORT_THREADS 512
#define PARTS_BYTES  ((size_t)256 << 20) /* of what experts make of a chunk of tokens, before it is summed */

/* ---- sorting --------------------------------------------------------------------------------------------------------------------------- */

struct sorted {
    int32_t *order;             /* [pairs] */
    struct product_tile *tiles; /* [n_tiles] */
    int32_t n_tiles;
};

static int32_t tiles_of(int64_t pairs, int32_t experts)
{
    return (int32_t)(pairs / PRODUCT_TOKENS) + experts;
}

/* One block. Shared: int [experts] counts, then where the next of each goes. */
static __global__ void sort_kernel(const int32_t *ids, int32_t n, int32_t experts, struct sorted r)
{
    int *next = shared_memory<int>();
    for (int e = (int)threadIdx.x; e < experts; e += (int)blockDim.x)
        next[e] = 0;
    for (int i = (int)threadIdx.x; i < r.n_tiles; i += (int)blockDim.x)
        r.tiles[i] = {0, 0, 0};
    __syncthreads();
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x)
        atomicAdd(&next[ids[i]], 1);
    __syncthreads();
    if (threadIdx.x == 0) {
        int first = 0, tile = 0;
        for (int e = 0; e < experts; e++) {
            const int count = next[e];
            for (int i = 0; i < count; i += PRODUCT_TOKENS)
                r.tiles[tile++] = {e, first + i, min(PRODUCT_TOKENS, count - i)};
            next[e] = first;
            first += count;
        }
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x)
        r.order[atomicAdd(&next[ids[i]], 1)] = i;
}

/* y[t] = sum of weights[t, i] * parts[t k + i], in order: a thread a value. */
static __global__ void combine_kernel(struct kn_mat parts, struct kn_mat weights, int32_t k, struct kn_mat y)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (int64_t)y.rows * y.cols)
        return;
    const int64_t t = i / y.cols, col = i % y.cols;
    float sum = 0;
    for (int e = 0; e < k; e++)
        sum = fmaf(cuda_row(weights, t)[e], cuda_row(parts, t * k + e)[col], sum); /* as mix_kernel has it */
    cuda_row(y, t)[col] = sum;
}

/* y[t] += gates[t] * s[t]: a thread a value. */
static __global__ void add_gated_kernel(struct kn_mat gates, struct kn_mat s, struct kn_mat y)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (int64_t)y.rows * y.cols)
        return;
    const int64_t t = i / y.cols, col = i % y.cols;
    float *const to = cuda_row(y, t) + col;
    *to = fmaf(cuda_row(gates, t)[0], cuda_row(s, t)[col], *to); /* as mix_kernel has it */
}

/* ---- scratch ----------------------------------------------------------------------------------------------------------------------------- */

struct moe_scratch {
    uint16_t *halves;
    float *factors, *parts;
    struct sorted sorted;
};

/* x_rows of cols become halves; parts: floats. */
static size_t lay_out(struct moe_scratch *r, void *memory, int64_t x_rows, int32_t cols, int64_t pairs, int32_t experts,
                      int64_t parts)
{
    size_t used = 0;
    r->halves = (uint16_t *)cuda_cut(memory, &used, (size_t)x_rows * (size_t)cuda_pitch(cols), sizeof *r->halves);
    r->factors = (float *)cuda_cut(memory, &used, (size_t)x_rows, sizeof *r->factors);
    r->sorted.n_tiles = tiles_of(pairs, experts);
    r->sorted.order = (int32_t *)cuda_cut(memory, &used, (size_t)pairs, sizeof *r->sorted.order);
    r->sorted.tiles = (struct product_tile *)cuda_cut(memory, &used, (size_t)r->sorted.n_tiles, sizeof *r->sorted.tiles);
    r->parts = (float *)cuda_cut(memory, &used, (size_t)parts, sizeof *r->parts);
    return used;
}

/* Tokens of a chunk, whose pairs take so many bytes each: of their halves, and of their parts. */
static int32_t chunk_of(int32_t tokens, int32_t k, int64_t half_bytes, int64_t part_bytes)
{
    const int64_t most = (int64_t)PARTS_BYTES / ((half_bytes > part_bytes ? half_bytes : part_bytes) * k + 1);
    return (int32_t)(most < 1 ? 1 : most < tokens ? most : tokens);
}

size_t cuda_moe_scratch(const struct cuda_device *d, const struct kn_limits *l)
{
    if (l->experts == 0)
        return 0;
    struct moe_scratch r;
    const int64_t pairs = (int64_t)l->rows * l->experts_used, bytes = pairs * cuda_pitch(l->cols) * (int64_t)sizeof(float);
    const int64_t least = (int64_t)l->experts_used * cuda_pitch(l->cols) * (int64_t)sizeof(float); /* of one token */
    const int64_t room = bytes < (int64_t)PARTS_BYTES ? bytes : least > (int64_t)PARTS_BYTES ? least : (int64_t)PARTS_BYTES;
    /* tokens of a gate_up, pairs of a down: either is within the room */
    const int64_t x_rows = room / (cuda_pitch(l->cols) * (int64_t)sizeof(uint16_t));
    return lay_out(&r, NULL, x_rows > l->rows ? x_rows : l->rows, l->cols, pairs, l->experts, room / (int64_t)sizeof(float));
}

/* ---- ops --------------------------------------------------------------------------------------------------------------------------------- */

/* Rows of x for products of one call: as halves, or, where r->halves is NULL, as they are. */
static void give_rows(struct product *p, int n, const struct moe_scratch *r, const struct kn_mat *x)
{
    for (int i = 0; i < n; i++) {
        p[i].x = r->halves;
        p[i].x_factor = r->factors;
        p[i].pitch = cuda_pitch(x->cols);
        p[i].from = *x;
    }
}

/* Products of the pairs of `ids`, sorted where they are many; behind them, with n 2, one of rows. */
static void launch(struct cuda_stream *s, const char *op, struct product *p, int n, const struct moe_scratch *r,
                   const struct kn_mat *x, const int32_t *ids, int32_t pairs, bool is_sorted)
{
    product_fn *const f = product_of(p->w[0].dtype);
    give_rows(p, n, r, x);
    p->n = pairs;
    p->ids = ids;
    if (is_sorted && f) { /* plain products take slots as they are */
        p->tiles = r->sorted.tiles;
        p->n_tiles = r->sorted.n_tiles;
        p->order = r->sorted.order;
    }
    (f ? f : cuda_plain_product)(s, op, p, n);
}

/* So many pairs are slots of their own. */
static int32_t few_pairs(const struct cuda_stream *s, const struct cuda_weight *w0, const struct cuda_weight *w1)
{
    const int32_t *few = s->device->base.tuning[KN_FEW_PAIRS];
    return few[w0->dtype] < few[w1->dtype] ? few[w0->dtype] : few[w1->dtype];
}

/*
 * Whether pairs are sorted, and rows of x become halves before all else; else slots go one by one, and their blocks make what they need. Where they cannot, either of two weights decides for
 * both.
 */
static bool take_rows(struct cuda_stream *s, const char *op, const struct cuda_weight *w0, const struct cuda_weight *w1,
                      const struct kn_mat *x, int32_t pairs, struct moe_scratch *r)
{
    const bool is_packed = w0->dtype != KN_F32 || w1->dtype != KN_F32, is_sorted = is_packed && pairs > few_pairs(s, w0, w1);
    const bool are_floats = !is_sorted && (w0->dtype == KN_F32 || product_takes_floats(w0, 1, 1, x->cols)) &&
                            (w1->dtype == KN_F32 || product_takes_floats(w1, 1, 1, x->cols));
    if (is_packed && !are_floats)
        cuda_halves(s, op, x, r->halves, r->factors, cuda_pitch(x->cols));
    else
        r->halves = NULL;
    return is_sorted;
}

static void sort(struct cuda_stream *s, const char *op, const int32_t *ids, int32_t pairs, int32_t experts,
                 struct moe_scratch *r)
{
    r->sorted.n_tiles = tiles_of(pairs, experts);
    cuda_launch(s, op, sort_kernel, dim3(1), SORT_THREADS, (size_t)experts * sizeof(int), ids, pairs, experts, r->sorted);
}

static bool fits(struct cuda_stream *s, const char *op, size_t bytes)
{
    if (bytes <= s->scratch_bytes)
        return true;
    cuda_fail(s, op, ERR_INVAL, "the call is larger than the limits that the stream was opened with");
    return false;
}

/* Whether the shared expert's weight can go along with the experts'. */
static bool is_alike(const struct kn_weight *shared, const struct cuda_weight *w)
{
    return shared && w->dtype != KN_F32 && product_of(shared->dtype) == product_of(w->dtype);
}

/* gate and up that do not go together: of a chunk of tokens, by way of `parts`. */
static void gate_up_apart(struct cuda_stream *s, const char *op, const struct kn_moe_gate_up_args *a,
                          const struct moe_scratch *r, bool is_sorted)
{
    const int32_t F = a->y.cols, pairs = a->y.rows;
    struct kn_mat g = a->y, u = {r->parts, pairs, F, F};
    struct product p = {.w = {*cuda_weight_of(a->gate)}, .rows = F, .y = a->y, .per_token = a->k};
    if (!a->up) { /* one weight whose halves do not begin with a tile */
        g = {r->parts, pairs, F, 2 * F};
        u = {r->parts + F, pairs, F, 2 * F};
        p.rows = 2 * F;
        p.y = {r->parts, pairs, 2 * F, 2 * F};
    }
    launch(s, op, &p, 1, r, &a->x, a->ids, pairs, is_sorted);
    if (a->up) {
        p = {.w = {*cuda_weight_of(a->up)}, .rows = F, .y = u, .per_token = a->k};
        launch(s, op, &p, 1, r, &a->x, a->ids, pairs, is_sorted);
    }
    cuda_silu_product(s, op, &g, &u, &a->y);
}

void cuda_moe_gate_up(struct kn_stream *stream, const struct kn_moe_gate_up_args *a)
{
    static const char op[] = "moe_gate_up";
    struct cuda_stream *s = cuda_stream_of(stream);
    const int32_t F = a->y.cols, T = a->x.rows, k = a->k, experts = a->gate->slices;
    const struct cuda_weight *gate = cuda_weight_of(a->gate), *up = a->up ? cuda_weight_of(a->up) : gate;
    const bool is_dual = gate->dtype == up->dtype && (a->up || F % FORM_TILE == 0);
    const int64_t part_floats = is_dual ? 0 : a->up ? F : 2 * F;
    const int32_t chunk = is_dual ? T : chunk_of(T, k, 0, part_floats * (int64_t)sizeof(float));
    bool is_along = is_dual && is_alike(a->shared_gate, gate) && is_alike(a->shared_up, gate);
    struct moe_scratch all;
    if (!fits(s, op, lay_out(&all, s->scratch, chunk, a->x.cols, (int64_t)chunk * k, experts, chunk * k * part_floats)))
        return;
    for (int32_t t = 0; t < T; t += chunk) {
        struct kn_moe_gate_up_args part = *a;
        part.x.rows = T - t < chunk ? T - t : chunk;
        part.x.data += t * a->x.stride;
        part.y.rows = part.x.rows * k;
        part.y.data += (int64_t)t * k * a->y.stride;
        part.ids += (int64_t)t * k;
        struct moe_scratch r = all;
        const bool is_sorted = take_rows(s, op, gate, up, &part.x, part.y.rows, &r);
        if (is_sorted)
            sort(s, op, part.ids, part.y.rows, experts, &r);
        is_along = is_along && !is_sorted;
        struct product p[2] = {{.w = {*gate, *up},
                                .is_dual = true,
                                .tile0 = {0, a->up ? 0 : F / FORM_TILE},
                                .rows = F,
                                .y = part.y,
                                .per_token = k}};
        if (is_along)
            p[1] = {.w = {*cuda_weight_of(a->shared_gate), *cuda_weight_of(a->shared_up)},
                    .is_dual = true,
                    .rows = a->shared_y.cols,
                    .n = T,
                    .y = a->shared_y};
        if (is_dual)
            launch(s, op, p, is_along ? 2 : 1, &r, &part.x, part.ids, part.y.rows, is_sorted);
        else
            gate_up_apart(s, op, &part, &r, is_sorted);
    }
    if (!a->shared_gate || is_along)
        return;
    const struct kn_gate_up_args rest = {.x = a->x, .gate = a->shared_gate, .up = a->shared_up, .y = a->shared_y};
    cuda_gate_up(stream, &rest);
}

/* The shared expert's part of a moe_down, on top of what is there. */
static void add_shared(struct cuda_stream *s, const char *op, const struct kn_moe_down_args *a)
{
    const struct cuda_weight *w = cuda_weight_of(a->shared_down);
    const int32_t E = a->y.cols, T = a->y.rows, cols = a->shared_h.cols;
    int32_t chunk = T;
    struct moe_scratch r;
    while (chunk > 1 && lay_out(&r, s->scratch, chunk, cols, 0, 0, (int64_t)chunk * E) > s->scratch_bytes)
        chunk = (chunk + 1) / 2;
    if (!fits(s, op, lay_out(&r, s->scratch, chunk, cols, 0, 0, (int64_t)chunk * E)))
        return;
    for (int32_t t = 0; t < T; t += chunk) {
        const int32_t n = T - t < chunk ? T - t : chunk;
        const struct kn_mat h = {a->shared_h.data + t * a->shared_h.stride, n, cols, a->shared_h.stride},
                            gates = {a->gates.data + t * a->gates.stride, n, 1, a->gates.stride}, sum = {r.parts, n, E, E},
                            y = {a->y.data + t * a->y.stride, n, E, a->y.stride};
        const bool is_float = w->dtype == KN_F32 || (n <= PRODUCT_ONCE && product_takes_floats(w, n, 1, cols));
        struct moe_scratch mine = r;
        if (is_float)
            mine.halves = NULL;
        else
            cuda_halves(s, op, &h, r.halves, r.factors, cuda_pitch(cols));
        struct product p = {.w = {*w}, .rows = E, .n = n, .y = sum};
        give_rows(&p, 1, &mine, &h);
        product_fn *const f = product_of(w->dtype);
        (f ? f : cuda_plain_product)(s, op, &p, 1);
        cuda_launch(s, op, add_gated_kernel, dim3((unsigned)(((int64_t)n * E + 255) / 256)), 256, 0, gates, sum, y);
    }
}

void cuda_moe_down(struct kn_stream *stream, const struct kn_moe_down_args *a)
{
    static const char op[] = "moe_down";
    struct cuda_stream *s = cuda_stream_of(stream);
    const int32_t E = a->y.cols, T = a->y.rows, k = a->k, experts = a->down->slices;
    const struct cuda_weight *down = cuda_weight_of(a->down);
    const int32_t chunk = chunk_of(T, k, cuda_pitch(a->h.cols) * (int64_t)sizeof(uint16_t), E * (int64_t)sizeof(float));
    struct moe_scratch all;
    if (!fits(s, op,
              lay_out(&all, s->scratch, (int64_t)chunk * k, a->h.cols, (int64_t)chunk * k, experts, (int64_t)chunk * k * E)))
        return;
    if (T * k <= few_pairs(s, down, down) && down->dtype != KN_F32 && product_takes_floats(down, k, k, a->h.cols)) {
        const bool is_along =
            is_alike(a->shared_down, down) && product_takes_floats(cuda_weight_of(a->shared_down), 1, 1, a->shared_h.cols);
        struct product p = {.w = {*down}, .rows = E, .y = a->y, .weights = a->weights, .per_slot = k};
        if (is_along) {
            p.w[1] = *cuda_weight_of(a->shared_down);
            p.shared = a->shared_h;
            p.gates = a->gates;
        }
        if (is_along || !a->shared_down)
            p.then = cuda_norm_then(s, a->then);
        all.halves = NULL;
        launch(s, op, &p, 1, &all, &a->h, a->ids, T * k, false);
        if (a->shared_down && !is_along)
            add_shared(s, op, a);
        if (a->then && !p.then.count)
            cuda_add_rms_norm(stream, a->then);
        return;
    }
    for (int32_t t = 0; t < T; t += chunk) {
        const int32_t n = T - t < chunk ? T - t : chunk, pairs = n * k, *ids = a->ids + (int64_t)t * k;
        struct kn_mat h = a->h, weights = a->weights, y = a->y;
        h.data += (int64_t)t * k * h.stride, h.rows = pairs;
        weights.data += t * weights.stride, weights.rows = n;
        y.data += t * y.stride, y.rows = n;
        struct moe_scratch r = all;
        const bool is_sorted = take_rows(s, op, down, down, &h, pairs, &r);
        if (is_sorted)
            sort(s, op, ids, pairs, experts, &r);
        const struct kn_mat parts = {r.parts, pairs, E, E};
        struct product p = {.w = {*down}, .rows = E, .y = parts};
        launch(s, op, &p, 1, &r, &h, ids, pairs, is_sorted);
        cuda_launch(s, op, combine_kernel, dim3((unsigned)(((int64_t)n * E + 255) / 256)), 256, 0, parts, weights, k, y);
    }
    if (a->shared_down)
        add_shared(s, op, a);
    if (a->then)
        cuda_add_rms_norm(stream, a->then);
}
