/* product_q5_k - products of weights in form_q5_k (forms.cuh). */
#include "kernels/cuda/product_kernels.cuh"

void product_q5_k(struct cuda_stream *s, const char *op, const struct product *p, int n)
{
    product_launch<form_q5_k>(s, op, p, n);
}
