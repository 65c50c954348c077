/* product_mxfp4 - products of weights in form_mxfp4 (forms.cuh). */
#include "kernels/cuda/product_kernels.cuh"

void product_mxfp4(struct cuda_stream *s, const char *op, const struct product *p, int n)
{
    product_launch<form_mxfp4>(s, op, p, n);
}
