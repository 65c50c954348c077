#include "base/process.h"

#include <inttypes.h>
#include <stdio.h>

/* The value of the first line that the format fits, "Name: %SCNu64 kB". */
static uint64_t bytes_of(const char *path, const char *format)
{
    char line[256];
    uint64_t kib = 0;
    FILE *f = fopen(path, "re");
    while (f && kib == 0 && fgets(line, sizeof line, f))
        if (sscanf(line, format, &kib) != 1)
            kib = 0;
    if (f)
        fclose(f);
    return kib * 1024;
}

uint64_t process_peak_bytes(void)
{
    return bytes_of("/proc/self/status", "VmHWM: %" SCNu64 " kB");
}

uint64_t process_available_bytes(void)
{
    return bytes_of("/proc/meminfo", "MemAvailable: %" SCNu64 " kB");
}
