/*
 * speed - what a device can do, measured in a fraction of a second: how fast it reads memory, multiplies weights of each type,
 * attends, and how long an op takes that has nothing to do. Estimates are made from these figures.
 *
 * Life cycle: fill `types` with what is wanted -> speed_measure -> read. Threads: one at a time per device, which must be idle.
 * Memory: a buffer to read and weights of a few MB, given back before it returns.
 */
#ifndef HERON_ENGINE_SPEED_H
#define HERON_ENGINE_SPEED_H

#include "kernels/kernels.h"

#define SPEED_TYPES_MAX 6
#define SPEED_POINTS    3 /* batches that are timed, of speed_rows[] rows */
#define SPEED_ROWS_MAX  64

/* One row (an answer), a few (answers that are written together), many (a prompt). */
extern const int32_t speed_rows[SPEED_POINTS];

/* Multiplying rows by a weight of one type. */
struct speed_type {
    enum kn_dtype dtype;         /* asked for */
    int32_t cols, rows;          /* asked for: of a typical weight of this type; fewer rows are measured when it is large */
    double pass_s[SPEED_POINTS]; /* seconds per value of the weight, for all rows of the batch together */
};

struct speed {
    struct speed_type types[SPEED_TYPES_MAX];
    int n_types;
    size_t
        read_bytes; /* asked for: the buffer to read; what is read over and over for each token, so that caches count as they will */
    double read_bytes_per_s; /* 0: the device does not say */
    double attend_s;         /* seconds per multiply-add of attention */
    double op_s;             /* of an op with next to no work */
};

/*
 * Measure; takes about half a second in all (the reference device, which is slow by design, some more). `head_dim`: of the
 * heads to attend with, a multiple of 4. Errors: ERR_NOMEM, ERR_UNSUPPORTED (type), ERR_DEVICE.
 */
int speed_measure(struct kn_device *device, int32_t head_dim, struct speed *speed, struct err *err);

#endif
