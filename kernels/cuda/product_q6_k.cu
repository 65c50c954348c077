/* product_q6_k - products of weights in form_q6_k (forms.cuh). */
#include "kernels/cuda/product_kernels.cuh"

void product_q6_k(struct cuda_stream *s, const char *op, const struct product *p, int n)
{
    product_launch<form_q6_k>(s, op, p, n);
}
