/*
 * process - what the system says of memory: how much this process had, how much more it could have.
 */
#ifndef HERON_BASE_PROCESS_H
#define HERON_BASE_PROCESS_H

#include <stdint.h>

/* The most memory it ever had resident since it was executed, in bytes; 0: the system does not say. Any thread. Source: proc_pid_status(5), VmHWM. */
uint64_t process_peak_bytes(void);

/*
 * The memory a program could take now without anything being swapped out, in bytes: what is free, and what caches of files would give back; 0: the system does not say. Any thread. Source:
 * proc_meminfo(5), MemAvailable.
 */
uint64_t process_available_bytes(void);

#endif
