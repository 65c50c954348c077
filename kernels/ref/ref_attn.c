/*
 * ref_attn - the references of gated full attention: head norms, interleaved M-RoPE, the paged cache, causal softmax.
 */
#include <math.h>
#include <string.h>

#include "kernels/device.h"

static float *row_of(const struct kn_mat *m, int64_t i)
{
    return m->data + i * m->stride;
}

/* Where token `n` of a sequence lies in K or V, head g. */
static char *cell(const struct kn_kv *kv, void *base, const struct kn_step *step, const struct kn_seq *seq, int32_t n,
                  int32_t g)
{
    const int64_t page = step->pages[seq->page0 + n / KN_PAGE_TOKENS];
    const int64_t vector = (page * kv->n_heads + g) * KN_PAGE_TOKENS + n % KN_PAGE_TOKENS;
    return (char *)base + vector * (int64_t)kn_row_bytes(kv->dtype, kv->head_dim);
}

/* RMS-normalise a head of D values with w, rotate its first 2 * n_pairs dims, to out. */
static void norm_and_rotate(const struct kn_attn_store_args *a, int32_t t, const float *x, kn_vec w, int32_t D, float *out)
{
    double sum = 0;
    for (int32_t i = 0; i < D; i++)
        sum += (double)x[i] * (double)x[i];
    const double scale = 1 / sqrt(sum / D + (double)a->eps);
    for (int32_t i = 0; i < D; i++)
        out[i] = (float)(x[i] * scale * w[i]);
    for (int32_t i = 0; i < a->n_pairs; i++) {
        const float position = (float)a->step->pos[(int64_t)a->axis[i] * a->step->n_rows + t];
        const float angle = position * a->inv_freq[i]; /* float32, as the official implementation has it */
        const double c = cos((double)angle) * (double)a->rope_scale, s = sin((double)angle) * (double)a->rope_scale;
        const double u = out[i], v = out[i + a->n_pairs];
        out[i] = (float)(u * c - v * s);
        out[i + a->n_pairs] = (float)(u * s + v * c);
    }
}

void kn_ref_attn_store(struct kn_stream *stream, const struct kn_attn_store_args *a)
{
    const struct kn_kv *kv = a->kv;
    const int32_t D = kv->head_dim, H = a->q.cols / D, G = kv->n_heads;
    for (int32_t t = 0; t < a->q.rows; t++) {
        const struct kn_seq *seq = &a->step->seqs[a->step->seq_of_row[t]];
        const int32_t n = seq->past + t - seq->row0;
        for (int32_t h = 0; h < H; h++)
            norm_and_rotate(a, t, row_of(&a->qg, t) + (int64_t)h * 2 * D, a->q_norm, D, row_of(&a->q, t) + (int64_t)h * D);
        for (int32_t g = 0; g < G; g++) {
            float *key = stream->scratch;
            norm_and_rotate(a, t, row_of(&a->k, t) + (int64_t)g * D, a->k_norm, D, key);
            kn_quantize(kv->dtype, key, D, cell(kv, kv->k, a->step, seq, n, g));
            kn_quantize(kv->dtype, row_of(&a->v, t) + (int64_t)g * D, D, cell(kv, kv->v, a->step, seq, n, g));
        }
    }
}

void kn_ref_attn(struct kn_stream *stream, const struct kn_attn_args *a)
{
    const struct kn_kv *kv = a->kv;
    const int32_t D = kv->head_dim, H = a->q.cols / D;
    float *vector = stream->scratch, *p = stream->scratch + D;
    for (int32_t t = 0; t < a->q.rows; t++) {
        const struct kn_seq *seq = &a->step->seqs[a->step->seq_of_row[t]];
        const int32_t n_keys = seq->past + t - seq->row0 + 1;
        for (int32_t h = 0; h < H; h++) {
            const int32_t g = h / (H / kv->n_heads);
            const float *q = row_of(&a->q, t) + (int64_t)h * D;
            double top = -INFINITY, sum = 0;
            for (int32_t n = 0; n < n_keys; n++) {
                kn_dequantize(kv->dtype, cell(kv, kv->k, a->step, seq, n, g), D, vector);
                double score = 0;
                for (int32_t i = 0; i < D; i++)
                    score += (double)q[i] * (double)vector[i];
                p[n] = (float)(score * (double)a->scale);
                top = fmax(top, p[n]);
            }
            for (int32_t n = 0; n < n_keys; n++)
                sum += exp(p[n] - top);
            double out[KN_REF_HEAD_MAX] = {0};
            for (int32_t n = 0; n < n_keys; n++) {
                kn_dequantize(kv->dtype, cell(kv, kv->v, a->step, seq, n, g), D, vector);
                const double weight = exp(p[n] - top) / sum;
                for (int32_t i = 0; i < D; i++)
                    out[i] += weight * (double)vector[i];
            }
            for (int32_t i = 0; i < D; i++) {
                if (a->gate.data)
                    out[i] /= 1 + exp(-(double)row_of(&a->gate, t)[(int64_t)h * 2 * D + D + i]);
                row_of(&a->y, t)[(int64_t)h * D + i] = (float)out[i];
            }
        }
    }
}
