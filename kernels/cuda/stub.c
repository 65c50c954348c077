/*
 * stub - what a program without the CUDA module says when a CUDA device is asked for.
 */
#include "kernels/device.h"

static int stub_open(int index, const struct kn_device_options *options, struct kn_device **ret_device, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no CUDA device %d: this build has no CUDA module (heron-cuda.so)", index);
}

const struct kn_backend kn_backend_cuda = {.name = "cuda", .open = stub_open};
