/*
 * process - what the system knows of this very process.
 */
#ifndef HERON_BASE_PROCESS_H
#define HERON_BASE_PROCESS_H

#include <stdint.h>

/* The most memory it ever had resident since it was executed, in bytes; 0: the system does not say. Any thread. Source: proc_pid_status(5), VmHWM. */
uint64_t process_peak_bytes(void);

#endif
