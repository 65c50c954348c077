/*
 * clamp - a number kept between two others. Any thread.
 */
#ifndef HERON_BASE_CLAMP_H
#define HERON_BASE_CLAMP_H

#include <math.h>

/* lo where x is not a number. */
static inline double clamp(double x, double lo, double hi)
{
    return fmin(fmax(x, lo), hi);
}

#endif
