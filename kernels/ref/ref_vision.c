/*
 * ref_vision - the references of the vision tower's ops: patches, learned positions, 2-D rotation, full attention.
 */
#include <math.h>

#include "kernels/device.h"

static float *row_of(const struct kn_mat *m, int64_t i)
{
    return m->data + i * m->stride;
}

/* Patch row and column of sequence index p: blocks of merge x merge in raster order, inside a block in raster order. */
static void patch_place(int32_t p, int32_t grid_w, int32_t merge, int32_t *ret_row, int32_t *ret_col)
{
    const int32_t block = p / (merge * merge), inside = p % (merge * merge), across = grid_w / merge;
    *ret_row = block / across * merge + inside / merge;
    *ret_col = block % across * merge + inside % merge;
}

void kn_ref_patchify(struct kn_stream *stream, const struct kn_patchify_args *a)
{
    const int32_t n = a->patch_px;
    for (int32_t p = 0; p < a->y.rows; p++) {
        int32_t row, col;
        patch_place(p, a->width_px / n, a->merge, &row, &col);
        for (int32_t c = 0; c < 3; c++)
            for (int32_t y = 0; y < n; y++)
                for (int32_t x = 0; x < n; x++) {
                    const int64_t at = ((int64_t)(row * n + y) * a->width_px + col * n + x) * 3 + c;
                    row_of(&a->y, p)[(c * n + y) * n + x] =
                        (float)(((double)a->rgb[at] / 255 - (double)a->mean[c]) / (double)a->stddev[c]);
                }
    }
}

void kn_ref_add_pos_embed(struct kn_stream *stream, const struct kn_add_pos_embed_args *a)
{
    const int32_t C = a->x.cols, last = a->side - 1;
    for (int32_t p = 0; p < a->x.rows; p++) {
        int32_t row, col;
        patch_place(p, a->grid_w, a->merge, &row, &col);
        const double y = a->grid_h > 1 ? (double)row * last / (a->grid_h - 1) : 0;
        const double x = a->grid_w > 1 ? (double)col * last / (a->grid_w - 1) : 0;
        const int32_t y0 = (int32_t)y, x0 = (int32_t)x, y1 = y0 < last ? y0 + 1 : last, x1 = x0 < last ? x0 + 1 : last;
        const double fy = y - y0, fx = x - x0;
        for (int32_t i = 0; i < C; i++) {
            const double upper = (1 - fx) * (double)a->grid[((int64_t)y0 * a->side + x0) * C + i] +
                                 fx * (double)a->grid[((int64_t)y0 * a->side + x1) * C + i];
            const double lower = (1 - fx) * (double)a->grid[((int64_t)y1 * a->side + x0) * C + i] +
                                 fx * (double)a->grid[((int64_t)y1 * a->side + x1) * C + i];
            row_of(&a->x, p)[i] = (float)((double)row_of(&a->x, p)[i] + (1 - fy) * upper + fy * lower);
        }
    }
}

void kn_ref_rope_2d(struct kn_stream *stream, const struct kn_rope_2d_args *a)
{
    const int32_t C = a->qkv.cols / 3, D = C / a->n_heads, half = D / 2, quarter = D / 4;
    for (int32_t p = 0; p < a->qkv.rows; p++) {
        int32_t row, col;
        patch_place(p, a->grid_w, a->merge, &row, &col);
        for (int32_t h = 0; h < 2 * a->n_heads; h++) { /* the heads of q, then those of k */
            float *v = row_of(&a->qkv, p) + (int64_t)h * D;
            for (int32_t i = 0; i < half; i++) {
                const int32_t j = i < quarter ? i : i - quarter;
                /* float32 phases, as the official implementation has them */
                const float freq = 1.0f / powf(a->theta, (float)(2 * j) / (float)half);
                const float angle = (float)(i < quarter ? row : col) * freq;
                const double c = cos((double)angle), s = sin((double)angle), x = v[i], y = v[i + half];
                v[i] = (float)(x * c - y * s);
                v[i + half] = (float)(x * s + y * c);
            }
        }
    }
}

void kn_ref_attn_full(struct kn_stream *stream, const struct kn_attn_full_args *a)
{
    const int32_t C = a->qkv.cols / 3, D = C / a->n_heads, P = a->qkv.rows;
    float *p = stream->scratch;
    for (int32_t h = 0; h < a->n_heads; h++)
        for (int32_t t = 0; t < P; t++) {
            const float *q = row_of(&a->qkv, t) + (int64_t)h * D;
            double top = -INFINITY, sum = 0, out[KN_REF_HEAD_MAX] = {0};
            for (int32_t n = 0; n < P; n++) {
                const float *k = row_of(&a->qkv, n) + C + (int64_t)h * D;
                double score = 0;
                for (int32_t i = 0; i < D; i++)
                    score += (double)q[i] * (double)k[i];
                p[n] = (float)(score / sqrt((double)D));
                top = fmax(top, p[n]);
            }
            for (int32_t n = 0; n < P; n++)
                sum += exp(p[n] - top);
            for (int32_t n = 0; n < P; n++) {
                const float *v = row_of(&a->qkv, n) + 2 * C + (int64_t)h * D;
                const double weight = exp(p[n] - top) / sum;
                for (int32_t i = 0; i < D; i++)
                    out[i] += weight * (double)v[i];
            }
            for (int32_t i = 0; i < D; i++)
                row_of(&a->y, t)[(int64_t)h * D + i] = (float)out[i];
        }
}
