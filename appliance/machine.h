/*
 * machine - which machine this is.
 */
#ifndef HERON_APPLIANCE_MACHINE_H
#define HERON_APPLIANCE_MACHINE_H

#include <stdint.h>

/* A number of this machine: the same after every start, different on every box. Where there is no machine-id it is that of this boot. The id itself cannot be told from it. Any thread. */
uint64_t machine_hash(void);

#endif
