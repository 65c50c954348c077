#include "base/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a file of lines "Name:   N kB" says of a name; 0 where it does not. */
static uint64_t bytes_of(const char *path, const char *name)
{
    char line[256];
    uint64_t kib = 0;
    const size_t n = strlen(name);
    FILE *f = fopen(path, "re");
    while (f && kib == 0 && fgets(line, sizeof line, f))
        if (strncmp(line, name, n) == 0 && line[n] == ':')
            kib = strtoull(line + n + 1, NULL, 10);
    if (f)
        fclose(f);
    return kib * 1024;
}

uint64_t process_peak_bytes(void)
{
    return bytes_of("/proc/self/status", "VmHWM");
}

uint64_t process_available_bytes(void)
{
    return bytes_of("/proc/meminfo", "MemAvailable");
}
