/* product_f16 - products of weights in form_f16 (forms.cuh). */
#include "kernels/cuda/product_kernels.cuh"

void product_f16(struct cuda_stream *s, const char *op, const struct product *p, int n)
{
    product_launch<form_f16>(s, op, p, n);
}
