/*
 * tuning - the figures of kn_tuning: a device's standards, the tables that came with the source, the file of this machine. Each replaces what it names of the one before.
 *
 * A table is lines of text. `[device] date gain` begins what was measured on a device, which is named as it describes itself; `figure type value` is a figure of it; behind # nobody reads.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "kernels/device.h"

#define PATH       "/var/lib/heron/tuning"
#define LINE_BYTES 512

static const char *const names[KN_TUNABLES] = {[KN_FEW_ROWS] = "few_rows", [KN_FEW_PAIRS] = "few_pairs"};

static const char *const shipped[] = {
#include "kernels/cuda/tuning.def"
    NULL};

const char *kn_tunable_name(enum kn_tunable what)
{
    return names[what];
}

const char *kn_tuning_path(void)
{
    const char *path = getenv("HERON_TUNING");
    return path && *path ? path : PATH;
}

int32_t kn_tuning(const struct kn_device *device, enum kn_tunable what, enum kn_dtype dtype)
{
    return device->tuning[what][dtype];
}

int32_t kn_tuning_most(const struct kn_device *device, enum kn_tunable what, enum kn_dtype dtype)
{
    return device->backend->tuning_most ? device->backend->tuning_most(device, what, dtype) : 0;
}

int32_t kn_tuning_standard(const struct kn_device *device, enum kn_tunable what, enum kn_dtype dtype)
{
    return device->backend->tuning_standard ? device->backend->tuning_standard(device, what, dtype) : 0;
}

void kn_tune(struct kn_device *device, enum kn_tunable what, enum kn_dtype dtype, int32_t value)
{
    const int32_t most = kn_tuning_most(device, what, dtype);
    device->tuning[what][dtype] = value < 0 ? 0 : value > most ? most : value;
}

/* ---- reading ------------------------------------------------------------------------------------------------------------------------- */

struct reader {
    struct kn_device *device;
    bool is_mine; /* the lines are of this device */
};

/* Whether a line begins what was measured on a device; then r knows whether it is this one. */
static bool read_head(struct reader *r, const char *line)
{
    const char *end = *line == '[' ? strrchr(line, ']') : NULL;
    const char *mine = r->device->info.description;
    char date[32] = "";
    double gain = 0;
    if (!end || sscanf(end + 1, "%31s %lf", date, &gain) != 2)
        return false;
    r->is_mine = strlen(mine) == (size_t)(end - line - 1) && memcmp(line + 1, mine, strlen(mine)) == 0;
    if (r->is_mine)
        snprintf(r->device->info.tuned, sizeof r->device->info.tuned, "measured %s", date);
    return true;
}

static bool read_figure(const struct reader *r, const char *line)
{
    char name[32], type[32], rest[2];
    int value;
    enum kn_dtype dtype;
    if (sscanf(line, "%31s %31s %d %1s", name, type, &value, rest) != 3 || !kn_dtype_parse(type, &dtype) || value < 0)
        return false;
    for (int what = 0; what < KN_TUNABLES; what++)
        if (strcmp(name, names[what]) == 0) {
            if (r->is_mine)
                kn_tune(r->device, (enum kn_tunable)what, dtype, value);
            return true;
        }
    return false;
}

/* false: it is no line of a table. Comments end lines; a device's name may hold what begins one. */
static bool read_line(struct reader *r, char *line)
{
    char *name_end = *line == '[' ? strrchr(line, ']') : NULL, *from = name_end ? name_end : line;
    from[strcspn(from, "#\n")] = '\0';
    return line[strspn(line, " \t")] == '\0' || read_head(r, line) || read_figure(r, line);
}

static void read_shipped(struct kn_device *device)
{
    struct reader r = {.device = device};
    for (size_t i = 0; shipped[i]; i++) {
        char line[LINE_BYTES];
        snprintf(line, sizeof line, "%s", shipped[i]);
        read_line(&r, line);
    }
}

/* What is good of a table counts, and the first line that is not is told. */
static void read_file(struct kn_device *device, const char *path)
{
    struct reader r = {.device = device};
    char line[LINE_BYTES], why[sizeof device->info.tuned] = "";
    FILE *f = fopen(path, "re");
    if (!f && errno != ENOENT)
        snprintf(why, sizeof why, "%s: %s", path, strerror(errno));
    for (int n = 1; f && fgets(line, sizeof line, f); n++)
        if (!read_line(&r, line) && !*why)
            snprintf(why, sizeof why, "%s:%d is no line of a tuning table", path, n);
    if (f && ferror(f))
        snprintf(why, sizeof why, "%s: %s", path, strerror(errno));
    if (*why)
        snprintf(device->info.tuned, sizeof device->info.tuned, "%s", why);
    if (f)
        fclose(f);
}

void kn_tuning_open(struct kn_device *device)
{
    if (!device->backend->tuning_most)
        return;
    snprintf(device->info.tuned, sizeof device->info.tuned, "standard");
    for (int what = 0; what < KN_TUNABLES; what++)
        for (int type = 0; type < KN_DTYPE_COUNT; type++)
            device->tuning[what][type] = kn_tuning_standard(device, (enum kn_tunable)what, (enum kn_dtype)type);
    read_shipped(device);
    read_file(device, kn_tuning_path());
}

/* ---- writing ------------------------------------------------------------------------------------------------------------------------- */

/* What a file says of other devices, and its comments; lines that nobody can read are gone. */
static void copy_others(FILE *out, const char *path, const struct kn_device *device)
{
    struct kn_device mine = *device; /* for the reader to tell by, and to write to */
    struct reader r = {.device = &mine};
    FILE *f = fopen(path, "re");
    char line[LINE_BYTES];
    while (f && fgets(line, sizeof line, f)) {
        char whole[LINE_BYTES];
        line[strcspn(line, "\n")] = '\0';
        snprintf(whole, sizeof whole, "%s", line);
        if (read_line(&r, line) && (!r.is_mine || line[strspn(line, " \t")] == '\0'))
            fprintf(out, "%s\n", whole);
    }
    if (f)
        fclose(f);
}

int kn_tuning_save(const struct kn_device *device, const char *path, const char *date, double gain, struct err *err)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (!out)
        return err_set(err, ERR_NOMEM, "out of memory: a tuning table");
    fprintf(out, "[%s] %s %.3f\n", device->info.description, date, gain);
    for (int what = 0; what < KN_TUNABLES; what++)
        for (int type = 0; type < KN_DTYPE_COUNT; type++)
            if (kn_tuning_most(device, (enum kn_tunable)what, (enum kn_dtype)type) > 0)
                fprintf(out, "%s %s %d\n", names[what], kn_dtype_name(type), device->tuning[what][type]);
    copy_others(out, path, device);
    const int rc = fclose(out) == 0 ? file_write(path, text, n, err) : err_set(err, ERR_NOMEM, "out of memory: a tuning table");
    free(text);
    return rc;
}
