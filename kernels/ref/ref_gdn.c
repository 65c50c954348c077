/*
 * ref_gdn - the references of the Gated DeltaNet: the causal convolution and the delta rule as a plain recurrence over tokens.
 *
 * In this device's state slots only the first n_v * d_k * d_v floats are used: S after the last token. The rest is the room
 * that chunked devices need (kernels.h, kn_gdn_state).
 */
#include <math.h>
#include <string.h>

#include "kernels/device.h"

size_t kn_gdn_state_bytes(int32_t n_k, int32_t n_v, int32_t d_k, int32_t d_v)
{
    const size_t s = (size_t)n_v * (size_t)d_k * (size_t)d_v;
    const size_t chunk = KN_GDN_CHUNK * ((size_t)n_k * (size_t)d_k + (size_t)n_v * (size_t)d_v + (size_t)n_v);
    return ((s + chunk) * sizeof(float) + 63) / 64 * 64;
}

static float *row_of(const struct kn_mat *m, int64_t i)
{
    return m->data + i * m->stride;
}

void kn_ref_gdn_conv(struct kn_stream *stream, const struct kn_gdn_conv_args *a)
{
    const int32_t C = a->x.cols, past = a->taps - 1;
    for (int32_t s = 0; s < a->step->n_seqs; s++) {
        const struct kn_seq *seq = &a->step->seqs[s];
        float *state = a->state + (int64_t)seq->slot * past * C;
        for (int32_t c = 0; c < C; c++) {
            for (int32_t t = seq->row0; t < seq->row0 + seq->n_rows; t++) {
                const float x = row_of(&a->x, t)[c]; /* y may be x: read before it is written */
                double u = (double)a->w[(int64_t)c * a->taps + past] * (double)x;
                for (int32_t j = 0; j < past; j++)
                    u += (double)a->w[(int64_t)c * a->taps + j] * (double)state[(int64_t)j * C + c];
                for (int32_t j = 0; j + 1 < past; j++)
                    state[(int64_t)j * C + c] = state[(int64_t)(j + 1) * C + c];
                if (past > 0)
                    state[(int64_t)(past - 1) * C + c] = x;
                row_of(&a->y, t)[c] = (float)(u / (1 + exp(-u)));
            }
        }
    }
    for (int32_t t = 0; t < a->y.rows; t++)
        for (int32_t h = 0; h < 2 * a->n_k; h++) { /* query heads, then key heads */
            float *v = row_of(&a->y, t) + (int64_t)h * a->d_k;
            double sum = 0;
            for (int32_t i = 0; i < a->d_k; i++)
                sum += (double)v[i] * (double)v[i];
            const double scale = (h < a->n_k ? 1 / sqrt((double)a->d_k) : 1) / sqrt(sum + 1e-6);
            for (int32_t i = 0; i < a->d_k; i++)
                v[i] = (float)(v[i] * scale);
        }
}

void kn_ref_gdn_scan(struct kn_stream *stream, const struct kn_gdn_scan_args *a)
{
    const int32_t dk = a->d_k, dv = a->d_v;
    for (int32_t s = 0; s < a->step->n_seqs; s++) {
        const struct kn_seq *seq = &a->step->seqs[s];
        float *slot = (float *)(void *)((char *)a->state->data + (size_t)seq->slot * a->state->bytes_per_slot);
        for (int32_t j = 0; j < a->n_v; j++) {
            float *S = slot + (int64_t)j * dk * dv;
            for (int32_t t = seq->row0; t < seq->row0 + seq->n_rows; t++) {
                const float *qkv = row_of(&a->qkv, t);
                const float *q = qkv + (int64_t)(j % a->n_k) * dk, *k = q + (int64_t)a->n_k * dk;
                const float *v = qkv + (int64_t)2 * a->n_k * dk + (int64_t)j * dv;
                const double u = (double)row_of(&a->alpha, t)[j] + (double)a->dt[j];
                const double decay = exp((double)a->a[j] * (u > 20 ? u : log1p(exp(u))));
                const double beta = 1 / (1 + exp(-(double)row_of(&a->b, t)[j]));
                for (int32_t b = 0; b < dv; b++) {
                    double seen = 0, out = 0;
                    for (int32_t i = 0; i < dk; i++)
                        seen += decay * (double)S[(int64_t)i * dv + b] * (double)k[i];
                    const double d = beta * ((double)v[b] - seen);
                    for (int32_t i = 0; i < dk; i++) {
                        float *cell = &S[(int64_t)i * dv + b];
                        *cell = (float)(decay * (double)*cell + (double)k[i] * d);
                        out += (double)*cell * (double)q[i];
                    }
                    row_of(&a->y, t)[(int64_t)j * dv + b] = (float)out;
                }
            }
        }
    }
    if (a->z.data)
        kn_ref_gated_rms_norm(stream, &(struct kn_gated_rms_norm_args){
                                          .x = a->y, .z = a->z, .w = a->norm, .n_heads = a->n_v, .eps = a->eps, .y = a->y});
}
