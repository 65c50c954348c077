/*
 * tune - measures the figures that a device goes by (kernels.h, enum kn_tunable): for each type of weights, at several numbers of rows, the way of few against the way of many, in turns.
 *
 * A figure is the number up to which the way of few is taken. The one that costs least over all numbers measured is kept, and the standard where that is hardly slower. Nothing of what
 * is computed changes.
 *
 * Threads: one; the device must be idle. Memory: weights of some hundred MB at a time, given back before it returns.
 */
#ifndef HERON_ENGINE_TUNE_H
#define HERON_ENGINE_TUNE_H

#include "engine/engine.h"
#include "kernels/kernels.h"

#define TUNE_POINTS 12

/* What was measured of one figure. */
struct tune_figure {
    enum kn_tunable what;
    enum kn_dtype dtype;
    int32_t n, at[TUNE_POINTS];                     /* rows, or pairs */
    double few_s[TUNE_POINTS], many_s[TUNE_POINTS]; /* medians, of one product */
    int32_t standard, best;
    double gain; /* of the best over the standard, in the mean over all points */
};

/* The value of a figure that costs least by what was measured; and how much faster than with the standard. Pure. */
void tune_choose(struct tune_figure *figure);

/*
 * Measure one figure for about `seconds`, and set the device to the best value. Only where kn_tuning_most is not 0. Errors: ERR_NOMEM, ERR_DEVICE.
 */
int tune_measure(struct kn_device *device, enum kn_tunable what, enum kn_dtype dtype, double seconds,
                 struct tune_figure *ret_figure, struct err *err);

#endif
