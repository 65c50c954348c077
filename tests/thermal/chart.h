/*
 * chart - a run as a picture: temperature under its limit, power, batch and busy share over the hours, as SVG.
 *
 * Threads: one owner. Memory: the samples are the chart's own.
 */
#ifndef HERON_TESTS_THERMAL_CHART_H
#define HERON_TESTS_THERMAL_CHART_H

#include "base/err.h"
#include "tests/thermal/trial.h"

/* Run this control in this world and write the picture. Errors: ERR_IO. */
int chart_write(const char *path, const struct control *control, const struct world *world, struct err *err);

#endif
