/* vision - the vision tower's small ops of the CPU device: patchify, add_pos_embed, rope_2d. Attention is in attn.c. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#define PATCHES_PER_ITEM 16

struct job {
    struct cpu_stream *s;
    const void *args;
    int32_t n;
    float (*pixel)[256]; /* patchify: the value of a byte, per channel */
};

/* Patch row and column of sequence index p: blocks of merge x merge in raster order, inside a block in raster order. */
static void patch_place(int32_t p, int32_t grid_w, int32_t merge, int32_t *ret_row, int32_t *ret_col)
{
    const int32_t block = p / (merge * merge), inside = p % (merge * merge), across = grid_w / merge;
    *ret_row = block / across * merge + inside / merge;
    *ret_col = block % across * merge + inside % merge;
}

static inline int32_t item_end(const struct job *j, int32_t item)
{
    int32_t end = (item + 1) * PATCHES_PER_ITEM;
    return end < j->n ? end : j->n;
}

static void each_patch(struct job *j, pool_fn fn)
{
    pool_run(j->s->pool, (j->n + PATCHES_PER_ITEM - 1) / PATCHES_PER_ITEM, fn, j);
}

static void patchify_item(void *ctx, int32_t item, int thread)
{
    const struct job *j = ctx;
    const struct kn_patchify_args *a = j->args;
    const int32_t n = a->patch_px;
    for (int32_t p = item * PATCHES_PER_ITEM; p < item_end(j, item); p++) {
        int32_t row, col;
        patch_place(p, a->width_px / n, a->merge, &row, &col);
        float *to = a->y.data + p * a->y.stride;
        for (int32_t y = 0; y < n; y++) {
            const uint8_t *from = a->rgb + ((int64_t)(row * n + y) * a->width_px + (int64_t)col * n) * 3;
            for (int32_t c = 0; c < 3; c++)
                for (int32_t x = 0; x < n; x++)
                    to[(c * n + y) * n + x] = j->pixel[c][from[3 * x + c]];
        }
    }
}

void cpu_patchify(struct kn_stream *stream, const struct kn_patchify_args *a)
{
    float pixel[3][256];
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < 256; i++)
            pixel[c][i] = (float)(((double)i / 255 - (double)a->mean[c]) / (double)a->stddev[c]);
    struct job j = {cpu_stream_of(stream), a, a->y.rows, pixel};
    each_patch(&j, patchify_item);
}

static void pos_item(void *ctx, int32_t item, int thread)
{
    const struct job *j = ctx;
    const struct kn_add_pos_embed_args *a = j->args;
    const int32_t C = a->x.cols, last = a->side - 1;
    for (int32_t p = item * PATCHES_PER_ITEM; p < item_end(j, item); p++) {
        int32_t row, col;
        patch_place(p, a->grid_w, a->merge, &row, &col);
        const double y = a->grid_h > 1 ? (double)row * last / (a->grid_h - 1) : 0;
        const double x = a->grid_w > 1 ? (double)col * last / (a->grid_w - 1) : 0;
        const int32_t y0 = (int32_t)y, x0 = (int32_t)x, y1 = y0 < last ? y0 + 1 : last, x1 = x0 < last ? x0 + 1 : last;
        const double fy = y - y0, fx = x - x0;
        float *to = a->x.data + p * a->x.stride;
        const int32_t ys[4] = {y0, y0, y1, y1}, xs[4] = {x0, x1, x0, x1};
        const double f[4] = {(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx};
        for (int i = 0; i < 4; i++)
            if (f[i] != 0)
                j->s->vec->axpy((float)f[i], a->grid + ((int64_t)ys[i] * a->side + xs[i]) * C, C, to);
    }
}

void cpu_add_pos_embed(struct kn_stream *stream, const struct kn_add_pos_embed_args *a)
{
    struct job j = {.s = cpu_stream_of(stream), .args = a, .n = a->x.rows};
    each_patch(&j, pos_item);
}

static void rope_item(void *ctx, int32_t item, int thread)
{
    const struct job *j = ctx;
    const struct kn_rope_2d_args *a = j->args;
    const int32_t D = a->qkv.cols / 3 / a->n_heads, half = D / 2, quarter = D / 4;
    float *freq = j->s->scratch[thread].tmp, *cs = freq + half, *sn = cs + half;
    for (int32_t i = 0; i < half; i++) /* float32 phases, as the official implementation has them */
        freq[i] = 1.0f / powf(a->theta, (float)(2 * (i < quarter ? i : i - quarter)) / (float)half);
    for (int32_t p = item * PATCHES_PER_ITEM; p < item_end(j, item); p++) {
        int32_t row, col;
        patch_place(p, a->grid_w, a->merge, &row, &col);
        for (int32_t i = 0; i < half; i++) {
            float angle = (float)(i < quarter ? row : col) * freq[i];
            cs[i] = cosf(angle);
            sn[i] = sinf(angle);
        }
        float *v = a->qkv.data + p * a->qkv.stride;
        for (int32_t h = 0; h < 2 * a->n_heads; h++, v += D) { /* the heads of q, then those of k */
            for (int32_t i = 0; i < half; i++) {
                float x = v[i], y = v[i + half];
                v[i] = x * cs[i] - y * sn[i];
                v[i + half] = x * sn[i] + y * cs[i];
            }
        }
    }
}

void cpu_rope_2d(struct kn_stream *stream, const struct kn_rope_2d_args *a)
{
    struct job j = {.s = cpu_stream_of(stream), .args = a, .n = a->qkv.rows};
    if ((size_t)(a->qkv.cols / 3 / a->n_heads) * 2 > j.s->tmp_floats) {
        cpu_too_large(stream, "rope_2d");
        return;
    }
    each_patch(&j, rope_item);
}
