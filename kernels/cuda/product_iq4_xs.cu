/* product_iq4_xs - products of weights in form_iq4_xs (forms.cuh). */
#include "kernels/cuda/product_kernels.cuh"

void product_iq4_xs(struct cuda_stream *s, const char *op, const struct product *p, int n)
{
    product_launch<form_iq4_xs>(s, op, p, n);
}
