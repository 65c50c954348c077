/* product_q8_0 - products of weights in form_q8_0 (forms.cuh). */
#include "kernels/cuda/product_kernels.cuh"

void product_q8_0(struct cuda_stream *s, const char *op, const struct product *p, int n)
{
    product_launch<form_q8_0>(s, op, p, n);
}
