/*
 * controls - the controllers that are compared: Heron's governor, and what keeps boxes cool elsewhere.
 *
 * The others are ported in behaviour, from what their documentation and sources describe: a thermostat (bang-bang), pausing a container (pause), and the governors
 * step_wise and power_allocator of the Linux kernel (Documentation/driver-api/thermal). They act as an integrator would let them: batches 8 to 1, then quarters of idle time;
 * power_allocator with one nominal sustainable power for all boxes, and once more (strong) with the true one of each box, true tables, and Heron's way of choosing batch and idle time.
 */
#ifndef HERON_TESTS_THERMAL_CONTROLS_H
#define HERON_TESTS_THERMAL_CONTROLS_H

#include "tests/thermal/trial.h"

enum {
    CONTROL_OURS,   /* told what batches draw and give, with errors, as from an earlier start */
    CONTROL_NEW,    /* the same governor, told nothing: the first start on a machine */
    CONTROL_AGAIN,  /* and the second one, with what the first has learned */
    CONTROL_LADDER, /* with the policy for latency */
    CONTROL_BANG_BANG,
    CONTROL_BANG_BANG_3, /* 3 K earlier */
    CONTROL_PAUSE,
    CONTROL_STEP_WISE,
    CONTROL_STEP_WISE_3,
    CONTROL_ALLOCATOR,
    CONTROL_STRONG,
    CONTROLS
};
extern const struct control controls[CONTROLS];

#endif
