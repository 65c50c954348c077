/* product_nvfp4 - products of weights in form_nvfp4 (forms.cuh). */
#include "kernels/cuda/product_kernels.cuh"

void product_nvfp4(struct cuda_stream *s, const char *op, const struct product *p, int n)
{
    product_launch<form_nvfp4>(s, op, p, n);
}
