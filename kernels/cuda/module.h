/*
 * module - what heron-cuda.so and the program agree on. The module exports one symbol, `heron_cuda_module`.
 *
 * The program is linked without CUDA, and opens the module when a CUDA device is asked for (loader.c): one program runs on every box, and the proprietary runtime stays out of it.
 * Both come from the same build; CUDA_MODULE_ABI tells a module of another one by the sizes of what they share.
 */
#ifndef HERON_KERNELS_CUDA_MODULE_H
#define HERON_KERNELS_CUDA_MODULE_H

#include "kernels/device.h"

#define CUDA_MODULE_NAME   "heron-cuda.so"
#define CUDA_MODULE_SYMBOL "heron_cuda_module"
#define CUDA_MODULE_ABI                                                                                                        \
    (sizeof(struct kn_backend) * 1000003 + sizeof(struct kn_device) * 8191 + sizeof(struct kn_stream) * 127 +                  \
     sizeof(struct kn_weight) * 31 + sizeof(struct kn_linear_args) + 1)

struct cuda_module {
    size_t abi;
    const struct kn_backend *backend;
};

#endif
