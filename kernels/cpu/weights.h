/*
 * weights - memory and packing of the CPU device's weights.
 *
 * Weights are streamed once per decode step, so what counts is that the processor's page walks do not stand in the way: they lie one
 * after the other in large mappings that ask for huge pages (a model has hundreds of tensors below the size of one huge
 * page; mapped one by one they would get none). A mapping goes back to the system when its last weight is freed.
 *
 * Threads: all functions may be called from several threads; `lock` guards the list. Memory: the mappings.
 */
#ifndef HERON_KERNELS_CPU_WEIGHTS_H
#define HERON_KERNELS_CPU_WEIGHTS_H

#include <pthread.h>

#include "kernels/kernels.h"

struct weights_map;

struct weights {
    pthread_mutex_t lock;
    struct weights_map *maps; /* under lock: the newest first, which is the one that still has room */
};

void weights_init(struct weights *w);
void weights_close(struct weights *w);

/* The backend's functions of the same name; see device.h. */
int weights_begin(struct kn_device *device, struct kn_weight *weight, struct err *err);
int weights_rows(struct kn_device *device, struct kn_weight *weight, int64_t first_row, int64_t n_rows, const void *host_src,
                 struct err *err);
int weights_end(struct kn_device *device, struct kn_weight *weight, struct err *err);
void weights_free(struct kn_device *device, struct kn_weight *weight);
void weights_row(const struct kn_weight *weight, int32_t slice, int32_t row, float *dst);

#endif
