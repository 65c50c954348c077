/* product_old - products of weights in form_old (forms.cuh). */
#include "kernels/cuda/product_kernels.cuh"

void product_old(struct cuda_stream *s, const char *op, const struct product *p, int n)
{
    product_launch<form_old>(s, op, p, n);
}
