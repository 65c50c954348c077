/* product_q4_k - products of weights in form_q4_k (forms.cuh). */
#include "kernels/cuda/product_kernels.cuh"

void product_q4_k(struct cuda_stream *s, const char *op, const struct product *p, int n)
{
    product_launch<form_q4_k>(s, op, p, n);
}
