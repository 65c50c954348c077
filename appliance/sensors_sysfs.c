#include "appliance/sensors_sysfs.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/rng.h"

#define ITEMS_MAX    160 /* found in all folders */
#define ENTRIES_MAX  96  /* of a class */
#define CHANNELS_MAX 40  /* numbers of one kind that a chip is asked for */
#define TRIPS_MAX    16
#define FLAGS_MAX    8
#define RESCAN_MOST  12 /* times the least wait, for what stays away: to look at all chips is work for slow ones */
#define TRIP_LEAST_C 40 /* a trip outside of these is a placeholder */
#define TRIP_MOST_C  120
#define WORD_MAX     64
#define ROOT_MAX     512
#define PATH_LEN     768
#define MICRO        1e-6
#define SPARK_J      4294967.296 /* its firmware counts millijoules in 32 bits */

enum kind {
    KIND_ZONE, /* of a temperature */
    KIND_CHIP,
    KIND_RAPL, /* of a rail */
    KIND_ENERGY,
    KIND_POWER,
    KIND_RAIL,    /* volts and amperes */
    KIND_PROCHOT, /* of a flag */
    KIND_OVERCURRENT
};

/* One thing that can be read. */
struct item {
    enum kind kind;
    char driver[WORD_MAX], label[WORD_MAX], key[WORD_MAX]; /* key: the device behind it; "": not known */
    char folder[WORD_MAX];                                 /* below the root: "class/hwmon/hwmon3" */
    int number;                                            /* of temp3_input */
    uint64_t device; /* what the folder's link points to, hashed: another device under the same number has another one */
    bool is_average; /* power1_average instead of power1_input */
    bool is_lost;
    double range_j;
    enum sensors_part part;
    double trip_c, critical_c;
};

struct sensors_sysfs {
    char root[ROOT_MAX];
    int64_t rescan_ns, wait_ns, scanned_ns; /* the least wait between two looks through all folders; the next; the last look */
    int n_lost;                             /* after it */
    int n_places, n_rails, n_flags;
    struct sensors_sysfs_place places[SENSORS_SYSFS_PLACES];
    struct item sources[SENSORS_SYSFS_PLACES]; /* of the places */
    struct item rails[SENSORS_SYSFS_RAILS];
    enum sensors_sysfs_scope scope;
    char meter_name[WORD_MAX + 32];
    struct item flags[FLAGS_MAX];
    int64_t counts[FLAGS_MAX]; /* of over-current events at the last look; -1: not known */
    /* scratch of a look through all folders */
    int n_found;
    struct item found[ITEMS_MAX];
    bool is_taken[ITEMS_MAX];
};

/* ---- files ------------------------------------------------------------------------------------------------------------------------ */

static void path_of(const struct sensors_sysfs *s, const char *folder, const char *file, char out[PATH_LEN])
{
    snprintf(out, PATH_LEN, "%s/%s/%s", s->root, folder, file);
}

/* A line, without the white space behind it. false: errno says why. */
static bool read_line(const struct sensors_sysfs *s, const char *folder, const char *file, char *out, size_t cap)
{
    char path[PATH_LEN];
    path_of(s, folder, file, path);
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, out, cap - 1);
    const int why = errno;
    close(fd);
    errno = n < 0 ? why : 0;
    if (n < 0)
        return false;
    out[n] = 0;
    out[strcspn(out, "\n")] = 0;
    for (n = (ssize_t)strlen(out); n > 0 && isspace((unsigned char)out[n - 1]); n--)
        out[n - 1] = 0;
    return true;
}

/* The same for a label or a name: what could break a line of a log, or of JSON, is replaced. */
static bool read_word(const struct sensors_sysfs *s, const char *folder, const char *file, char out[WORD_MAX])
{
    char text[WORD_MAX];
    if (!read_line(s, folder, file, text, sizeof text) || !text[0])
        return false;
    for (char *p = text; *p; p++)
        if (*p < ' ' || *p == '"' || *p == '\\' || *p == 127 || (*p & 0x80))
            *p = '_';
    memcpy(out, text, sizeof text);
    return true;
}

/* A whole number that fills the line. false: errno is 0 where the file is there and says something else. */
static bool read_number(const struct sensors_sysfs *s, const char *folder, const char *file, int64_t *ret)
{
    char text[WORD_MAX], *end;
    if (!read_line(s, folder, file, text, sizeof text))
        return false;
    errno = 0;
    const long long n = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end) {
        errno = 0;
        return false;
    }
    *ret = n;
    return true;
}

static bool exists(const struct sensors_sysfs *s, const char *folder, const char *file)
{
    char path[PATH_LEN];
    path_of(s, folder, file, path);
    return access(path, F_OK) == 0;
}

/* Does this errno say that the device is gone, and not that it has nothing to say now? */
static bool is_gone(int why)
{
    return why == ENOENT || why == ENODEV || why == ENXIO || why == ENOTDIR;
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Where a folder's links point to: its own, which is the device's whole path, and that to the device behind it. */
static uint64_t device_of(const struct sensors_sysfs *s, const char *folder)
{
    char path[PATH_LEN], target[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", s->root, folder);
    const ssize_t n = readlink(path, target, PATH_MAX);
    const size_t n_own = n > 0 ? (size_t)n : 0;
    path_of(s, folder, "device", path);
    const ssize_t m = readlink(path, target + n_own, PATH_MAX);
    return rng_hash(target, n_own + (m > 0 ? (size_t)m : 0));
}

/* "0000:01:00.0" */
static bool is_pci(const char *text, size_t n)
{
    static const char form[] = "xxxx:xx:xx.x";
    if (n != sizeof form - 1)
        return false;
    for (size_t i = 0; i < n; i++)
        if (form[i] == 'x' ? !isxdigit((unsigned char)text[i]) : text[i] != form[i])
            return false;
    return true;
}

/* What names the device behind a zone or chip, also after the next start: its place on the PCI bus, or else its own name. */
static void key_of(const struct sensors_sysfs *s, const char *folder, char out[WORD_MAX])
{
    char path[PATH_LEN], target[PATH_MAX];
    out[0] = 0;
    path_of(s, folder, "device", path);
    if (!realpath(path, target))
        return;
    snprintf(out, WORD_MAX, "%.*s", WORD_MAX - 1, last_part(target));
    for (const char *part = target; part; part = strchr(part, '/')) {
        part += *part == '/';
        const size_t n = strcspn(part, "/");
        if (is_pci(part, n))
            snprintf(out, WORD_MAX, "%.*s", (int)n, part);
    }
}

/* ---- looking through the folders --------------------------------------------------------------------------------------------------- */

static int compare_names(const void *a, const void *b)
{
    return strverscmp(a, b);
}

/* Entries of class/CLASS whose name begins with `prefix` and a digit, by number. */
static int list_class(const struct sensors_sysfs *s, const char *class, const char *prefix, char (*names)[WORD_MAX])
{
    char path[PATH_LEN];
    int n = 0;
    path_of(s, "class", class, path);
    DIR *dir = opendir(path);
    if (!dir)
        return 0;
    for (const struct dirent *e; n < ENTRIES_MAX && (e = readdir(dir));)
        if (strncmp(e->d_name, prefix, strlen(prefix)) == 0 && isdigit((unsigned char)e->d_name[strlen(prefix)]) &&
            strlen(e->d_name) < WORD_MAX - 24)
            snprintf(names[n++], WORD_MAX, "%s", e->d_name);
    closedir(dir);
    qsort(names, (size_t)n, sizeof *names, compare_names);
    return n;
}

static struct item *add_item(struct sensors_sysfs *s, const struct item *like, enum kind kind, int number, const char *label)
{
    if (s->n_found == ITEMS_MAX)
        return NULL;
    struct item *item = &s->found[s->n_found++];
    *item = *like;
    item->kind = kind;
    item->number = number;
    item->part = SENSORS_OTHER;
    item->trip_c = item->critical_c = NAN;
    snprintf(item->label, sizeof item->label, "%s", label);
    return item;
}

/* What all items of a folder have in common. */
static struct item describe_folder(const struct sensors_sysfs *s, const char *class, const char *entry, const char *driver)
{
    struct item item = {0};
    snprintf(item.folder, sizeof item.folder, "class/%s/%.*s", class, WORD_MAX - 24, entry);
    snprintf(item.driver, sizeof item.driver, "%s", driver);
    item.device = device_of(s, item.folder);
    key_of(s, item.folder, item.key);
    return item;
}

/* NAN: none, or none that can be meant. fmin of two takes the one that is there. */
static double read_limit(const struct sensors_sysfs *s, const char *folder, const char *file)
{
    int64_t milli;
    const double c = read_number(s, folder, file, &milli) ? (double)milli / 1000 : NAN;
    return c >= TRIP_LEAST_C && c <= TRIP_MOST_C ? c : NAN;
}

static void find_trips(const struct sensors_sysfs *s, struct item *zone)
{
    for (int i = 0; i < TRIPS_MAX; i++) {
        char file[32], type[WORD_MAX];
        snprintf(file, sizeof file, "trip_point_%d_type", i);
        if (!read_word(s, zone->folder, file, type))
            return;
        snprintf(file, sizeof file, "trip_point_%d_temp", i);
        const double c = read_limit(s, zone->folder, file);
        if (strcmp(type, "critical") == 0)
            zone->critical_c = fmin(zone->critical_c, c);
        if (strcmp(type, "critical") == 0 || strcmp(type, "hot") == 0 || strcmp(type, "passive") == 0)
            zone->trip_c = fmin(zone->trip_c, c);
    }
}

/* "cpu-thermal", "GPU-therm", "soc0-thermal", "tj_thermal": what device trees call the places of a system on a chip. */
static enum sensors_part part_of_zone(const char *type)
{
    static const struct {
        const char *prefix;
        enum sensors_part part;
    } parts[] = {{"gpu", SENSORS_GPU}, {"cpu", SENSORS_CPU}, {"soc", SENSORS_CPU}, {"tj", SENSORS_CPU}};
    if (strcmp(type, "acpitz") == 0)
        return SENSORS_BOARD;
    if (strcmp(type, "x86_pkg_temp") == 0)
        return SENSORS_CPU;
    for (size_t i = 0; i < sizeof parts / sizeof *parts && strcasestr(type, "therm"); i++)
        if (strncasecmp(type, parts[i].prefix, strlen(parts[i].prefix)) == 0)
            return parts[i].part;
    return SENSORS_OTHER;
}

static void find_zones(struct sensors_sysfs *s, char (*names)[WORD_MAX])
{
    const int n = list_class(s, "thermal", "thermal_zone", names);
    for (int i = 0; i < n; i++) {
        char folder[WORD_MAX], type[WORD_MAX];
        snprintf(folder, sizeof folder, "class/thermal/%.*s", WORD_MAX - 24, names[i]);
        if (!read_word(s, folder, "type", type))
            continue;
        const struct item like = describe_folder(s, "thermal", names[i], type);
        struct item *zone = add_item(s, &like, KIND_ZONE, 0, "");
        if (!zone)
            return;
        zone->part = part_of_zone(type);
        find_trips(s, zone);
    }
}

/* The kernel makes a chip of a zone by itself, with '_' for '-'; it would count twice. */
static bool is_chip_of_zone(const struct sensors_sysfs *s, const struct item *chip)
{
    char path[PATH_LEN], target[PATH_MAX];
    path_of(s, chip->folder, "device", path);
    const ssize_t n = readlink(path, target, sizeof target - 1);
    target[n > 0 ? n : 0] = 0;
    if (n > 0 && strncmp(last_part(target), "thermal_zone", 12) != 0)
        return false;
    for (int i = 0; i < s->n_found; i++) {
        const char *a = s->found[i].driver, *b = chip->driver;
        if (s->found[i].kind != KIND_ZONE)
            continue;
        while (*a && (*a == *b || (*a == '-' && *b == '_')))
            a++, b++;
        if (!*a && !*b)
            return true;
    }
    return false;
}

static bool is_amd(const char *driver)
{
    return strcmp(driver, "k10temp") == 0 || strcmp(driver, "zenpower") == 0;
}

static bool is_spark(const char *driver)
{
    return strcmp(driver, "spark_hwmon") == 0 || strcmp(driver, "spbm") == 0;
}

/* The pattern of those of a chip's temperatures that are taken; the others repeat them, part for part. NULL: all are. */
static const char *pick_label(const char *driver, char (*labels)[WORD_MAX], int n)
{
    static const char *const amd[] = {"Tdie", "Tctl", "temp1"}; /* Tctl may stand 10 to 27 K too high, for the fan's sake */
    for (size_t k = 0; is_amd(driver) && k < sizeof amd / sizeof *amd; k++)
        for (int i = 0; i < n; i++)
            if (strcmp(labels[i], amd[k]) == 0)
                return amd[k];
    for (int i = 0; strcmp(driver, "coretemp") == 0 && i < n; i++)
        if (strncmp(labels[i], "Package id", 10) == 0)
            return "Package id*"; /* processors from before 2011 say nothing of the package: then all cores count */
    return is_spark(driver) ? "tj_max" : NULL;
}

static enum sensors_part part_of_chip(const char *driver)
{
    if (strcmp(driver, "acpitz") == 0)
        return SENSORS_BOARD;
    return strcmp(driver, "coretemp") == 0 || is_amd(driver) || is_spark(driver) ? SENSORS_CPU : SENSORS_OTHER;
}

static void find_temperatures(struct sensors_sysfs *s, const struct item *chip)
{
    char labels[CHANNELS_MAX][WORD_MAX], file[32];
    int numbers[CHANNELS_MAX], n = 0;
    for (int i = 1; i <= CHANNELS_MAX; i++) {
        snprintf(file, sizeof file, "temp%d_input", i);
        if (!exists(s, chip->folder, file))
            continue;
        snprintf(file, sizeof file, "temp%d_label", i);
        if (!read_word(s, chip->folder, file, labels[n]))
            snprintf(labels[n], WORD_MAX, "temp%d", i);
        numbers[n++] = i;
    }
    const char *pick = pick_label(chip->driver, labels, n);
    for (int i = 0; i < n; i++) {
        if (pick && fnmatch(pick, labels[i], 0) != 0)
            continue;
        struct item *item = add_item(s, chip, KIND_CHIP, numbers[i], labels[i]);
        if (!item)
            return;
        item->part = part_of_chip(chip->driver);
        snprintf(file, sizeof file, "temp%d_crit", numbers[i]);
        item->critical_c = item->trip_c = read_limit(s, chip->folder, file);
        snprintf(file, sizeof file, "temp%d_max", numbers[i]); /* k10temp says 70 here whatever the processor is */
        if (item->part == SENSORS_OTHER)
            item->trip_c = fmin(item->trip_c, read_limit(s, chip->folder, file));
    }
}

static void find_rails(struct sensors_sysfs *s, const struct item *chip)
{
    char file[32], label[WORD_MAX];
    for (int i = 1; i <= CHANNELS_MAX; i++) {
        snprintf(file, sizeof file, "energy%d_label", i);
        if (read_word(s, chip->folder, file, label)) {
            struct item *item = add_item(s, chip, KIND_ENERGY, i, label);
            if (item && is_spark(chip->driver))
                item->range_j = SPARK_J;
        }
        snprintf(file, sizeof file, "power%d_label", i);
        if (read_word(s, chip->folder, file, label)) {
            struct item *item = add_item(s, chip, KIND_POWER, i, label);
            snprintf(file, sizeof file, "power%d_average", i);
            if (item)
                item->is_average = exists(s, chip->folder, file);
        }
        snprintf(file, sizeof file, "curr%d_input", i);
        if (!exists(s, chip->folder, file))
            continue;
        snprintf(file, sizeof file, "in%d_label", i);
        if (read_word(s, chip->folder, file, label))
            add_item(s, chip, KIND_RAIL, i, label);
    }
}

static void find_flags(struct sensors_sysfs *s, const struct item *chip)
{
    if (is_spark(chip->driver) && exists(s, chip->folder, "prochot"))
        add_item(s, chip, KIND_PROCHOT, 0, "prochot");
    for (int i = 1; i <= 3 && strcmp(chip->driver, "soctherm_oc") == 0; i++) {
        char file[32];
        snprintf(file, sizeof file, "oc%d_event_cnt", i);
        if (exists(s, chip->folder, file))
            add_item(s, chip, KIND_OVERCURRENT, i, file);
    }
}

static void find_chips(struct sensors_sysfs *s, char (*names)[WORD_MAX])
{
    const int n = list_class(s, "hwmon", "hwmon", names);
    for (int i = 0; i < n; i++) {
        char folder[WORD_MAX], driver[WORD_MAX];
        snprintf(folder, sizeof folder, "class/hwmon/%.*s", WORD_MAX - 24, names[i]);
        if (!read_word(s, folder, "name", driver))
            continue;
        const struct item chip = describe_folder(s, "hwmon", names[i], driver);
        if (is_chip_of_zone(s, &chip))
            continue;
        find_temperatures(s, &chip);
        if (is_spark(driver) || strcmp(driver, "ina3221") == 0)
            find_rails(s, &chip);
        find_flags(s, &chip);
    }
}

static void find_packages(struct sensors_sysfs *s, char (*names)[WORD_MAX])
{
    const int n = list_class(s, "powercap", "intel-rapl:", names); /* AMD's too */
    for (int i = 0; i < n; i++) {
        char folder[WORD_MAX], name[WORD_MAX];
        int64_t range = 0;
        snprintf(folder, sizeof folder, "class/powercap/%.*s", WORD_MAX - 24, names[i]);
        if (!read_word(s, folder, "name", name) || strncmp(name, "package", 7) != 0)
            continue; /* cores and memory are parts of it */
        const struct item like = describe_folder(s, "powercap", names[i], name);
        struct item *item = add_item(s, &like, KIND_RAPL, 0, "");
        if (item && read_number(s, folder, "max_energy_range_uj", &range) && range > 0)
            item->range_j = (double)range * MICRO;
    }
}

/* The same order on every start, whatever the numbers are. */
static int compare_items(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    int order = (int)x->kind - (int)y->kind;
    order = order ? order : strcmp(x->driver, y->driver);
    order = order ? order : strverscmp(x->key, y->key);
    order = order ? order : strverscmp(x->folder, y->folder);
    return order ? order : x->number - y->number;
}

static void find_all(struct sensors_sysfs *s)
{
    char(*names)[WORD_MAX] = calloc(ENTRIES_MAX, sizeof *names);
    s->n_found = 0;
    if (!names)
        return;
    find_zones(s, names);
    find_chips(s, names);
    find_packages(s, names);
    free(names);
    qsort(s->found, (size_t)s->n_found, sizeof *s->found, compare_items);
}

/* ---- what is taken of it ------------------------------------------------------------------------------------------------------------ */

static bool is_alike(const struct item *a, const struct item *b)
{
    return a->kind == b->kind && strcmp(a->driver, b->driver) == 0 && strcmp(a->label, b->label) == 0;
}

/* "acpitz/3", "cpu-thermal", "coretemp/Package id 0", "nvme/Composite@0000:01:00.0". */
static void name_place(const struct sensors_sysfs *s, int i, char out[SENSORS_NAME_MAX])
{
    const struct item *item = &s->found[i];
    int alike = 0, same_key = 0, rank = 0;
    for (int k = 0; k < s->n_found; k++) {
        if (!is_alike(&s->found[k], item))
            continue;
        alike++;
        same_key += strcmp(s->found[k].key, item->key) == 0;
        rank += k < i;
    }
    char number[16] = "";
    snprintf(number, sizeof number, "%d", rank);
    if (item->kind == KIND_ZONE && alike == 1 && item->part != SENSORS_BOARD)
        snprintf(out, SENSORS_NAME_MAX, "%s", item->driver);
    else if (item->kind == KIND_ZONE)
        snprintf(out, SENSORS_NAME_MAX, "%.50s/%s", item->driver, number);
    else
        snprintf(out, SENSORS_NAME_MAX, "%.20s/%.20s%s%.20s", item->driver, item->label, alike > 1 ? "@" : "",
                 alike == 1                      ? ""
                 : item->key[0] && same_key == 1 ? item->key
                                                 : number);
}

static bool has_driver(const struct sensors_sysfs *s, const char *driver)
{
    for (int i = 0; i < s->n_found; i++)
        if (s->found[i].kind == KIND_CHIP && strcmp(s->found[i].driver, driver) == 0)
            return true;
    return false;
}

static void take_places(struct sensors_sysfs *s, const enum sensors_part *order, size_t n_parts)
{
    const bool has_coretemp = has_driver(s, "coretemp");
    for (size_t part = 0; part < n_parts; part++)
        for (int i = 0; i < s->n_found && s->n_places < SENSORS_SYSFS_PLACES; i++) {
            const struct item *item = &s->found[i];
            if (item->kind > KIND_CHIP || item->part != order[part])
                continue;
            if (item->kind == KIND_ZONE && has_coretemp && strcmp(item->driver, "x86_pkg_temp") == 0)
                continue; /* the same diode */
            struct sensors_sysfs_place *place = &s->places[s->n_places];
            name_place(s, i, place->name);
            place->part = item->part;
            place->trip_c = item->trip_c;
            place->critical_c = item->critical_c;
            s->sources[s->n_places++] = *item;
        }
}

static bool read_item_rail(struct sensors_sysfs *s, struct item *item, struct sensors_sysfs_rail *ret);

/* Take the first rail, or every one, of this kind whose label fits and that can be read: RAPL is often root's alone. Returns whether there is one. */
static bool take_rails(struct sensors_sysfs *s, enum kind kind, const char *pattern, bool is_one)
{
    const int before = s->n_rails;
    for (int i = 0; i < s->n_found && s->n_rails < SENSORS_SYSFS_RAILS; i++) {
        struct item *item = &s->found[i];
        struct sensors_sysfs_rail look;
        if (item->kind != kind || fnmatch(pattern, item->label, FNM_CASEFOLD) != 0 || !read_item_rail(s, item, &look))
            continue;
        s->rails[s->n_rails++] = *item;
        if (is_one)
            break;
    }
    return s->n_rails > before;
}

/*
 * Best first. The firmware of a Spark swings its watts within 100 ms: what it counted together is truer than what it says at an instant, even where that is of the package alone
 * and not of the box. An AGX module has no rail for the whole: those of the processors and the 5 V of the rest make it up.
 */
static void take_meter(struct sensors_sysfs *s)
{
    static const struct {
        enum kind kind;
        const char *label, *name;
    } totals[] = {{KIND_ENERGY, "sys_total", "spark_hwmon sys_total (energy)"},
                  {KIND_ENERGY, "pkg", "spark_hwmon pkg (energy)"},
                  {KIND_POWER, "sys_total", "spark_hwmon sys_total"},
                  {KIND_RAIL, "VDD_IN", "INA3221 VDD_IN"},
                  {KIND_RAIL, "POM_5V_IN", "INA3221 POM_5V_IN"},
                  {KIND_RAIL, "*TOTAL*", "INA3221 total"}};
    for (size_t i = 0; i < sizeof totals / sizeof *totals && s->scope == SENSORS_SYSFS_NOTHING; i++)
        if (take_rails(s, totals[i].kind, totals[i].label, true)) {
            s->scope = SENSORS_SYSFS_TOTAL;
            snprintf(s->meter_name, sizeof s->meter_name, "%s", totals[i].name);
        }
    if (s->scope == SENSORS_SYSFS_NOTHING && take_rails(s, KIND_RAIL, "VIN_SYS*", true)) {
        take_rails(s, KIND_RAIL, "VDD_GPU*", false);
        take_rails(s, KIND_RAIL, "VDD_CPU*", false);
        s->scope = SENSORS_SYSFS_TOTAL;
        snprintf(s->meter_name, sizeof s->meter_name, "INA3221 (%d rails)", s->n_rails);
    }
    if (s->scope == SENSORS_SYSFS_NOTHING && take_rails(s, KIND_RAPL, "*", false)) {
        s->scope = SENSORS_SYSFS_PACKAGES;
        snprintf(s->meter_name, sizeof s->meter_name, "RAPL package");
    }
}

static void take_flags(struct sensors_sysfs *s)
{
    for (int i = 0; i < s->n_found && s->n_flags < FLAGS_MAX; i++)
        if (s->found[i].kind == KIND_PROCHOT || s->found[i].kind == KIND_OVERCURRENT) {
            s->counts[s->n_flags] = -1;
            s->flags[s->n_flags++] = s->found[i];
        }
}

/* ---- finding it again --------------------------------------------------------------------------------------------------------------- */

static void settle(struct sensors_sysfs *s, struct item *item, int at)
{
    const struct item *now = &s->found[at];
    memcpy(item->folder, now->folder, sizeof item->folder);
    memcpy(item->key, now->key, sizeof item->key);
    item->number = now->number;
    item->device = now->device;
    item->is_lost = false;
    s->is_taken[at] = true;
}

/* Of those alike: how many are found and not taken, and the first of them. */
static int count_found(const struct sensors_sysfs *s, const struct item *item, int *ret_first)
{
    int n = 0;
    for (int i = 0; i < s->n_found; i++)
        if (!s->is_taken[i] && is_alike(&s->found[i], item) && n++ == 0)
            *ret_first = i;
    return n;
}

/*
 * First by driver, label and device. Then, of those without a device, or the only one of its name: all in their order when none is missing, else those that stayed where they were.
 */
static void find_again(struct sensors_sysfs *s, struct item *items, int n)
{
    memset(s->is_taken, 0, sizeof s->is_taken);
    for (int i = 0; i < n; i++) {
        items[i].is_lost = true;
        for (int k = 0; k < s->n_found && items[i].is_lost && items[i].key[0]; k++)
            if (!s->is_taken[k] && is_alike(&s->found[k], &items[i]) && strcmp(s->found[k].key, items[i].key) == 0)
                settle(s, &items[i], k);
    }
    for (int i = 0; i < n; i++) {
        int wanted = 0, alike = 0, at = 0;
        for (int k = 0; k < n; k++) {
            wanted += items[k].is_lost && is_alike(&items[k], &items[i]);
            alike += is_alike(&items[k], &items[i]);
        }
        if (!items[i].is_lost || (items[i].key[0] && alike > 1))
            continue;
        if (count_found(s, &items[i], &at) == wanted)
            settle(s, &items[i], at);
        for (int k = 0; k < s->n_found && items[i].is_lost; k++)
            if (!s->is_taken[k] && is_alike(&s->found[k], &items[i]) && strcmp(s->found[k].folder, items[i].folder) == 0)
                settle(s, &items[i], k);
    }
}

/* Is the folder still of the one that was found in it? */
static void check_item(struct sensors_sysfs *s, struct item *item)
{
    char driver[WORD_MAX];
    const char *file = item->kind == KIND_ZONE ? "type" : "name";
    if (item->is_lost)
        return;
    item->is_lost = device_of(s, item->folder) != item->device ||
                    (read_word(s, item->folder, file, driver) ? strcmp(driver, item->driver) != 0 : is_gone(errno));
}

static int count_lost(const struct item *items, int n)
{
    int lost = 0;
    for (int i = 0; i < n; i++)
        lost += items[i].is_lost;
    return lost;
}

static int count_all_lost(const struct sensors_sysfs *s)
{
    return count_lost(s->sources, s->n_places) + count_lost(s->rails, s->n_rails) + count_lost(s->flags, s->n_flags);
}

void sensors_sysfs_refresh(struct sensors_sysfs *s, int64_t now_ns)
{
    for (int i = 0; i < s->n_places; i++)
        check_item(s, &s->sources[i]);
    for (int i = 0; i < s->n_rails; i++)
        check_item(s, &s->rails[i]);
    for (int i = 0; i < s->n_flags; i++)
        check_item(s, &s->flags[i]);
    const int lost = count_all_lost(s);
    if (lost != s->n_lost) /* one more: the patience with those that stay away is not for it */
        s->wait_ns = s->rescan_ns;
    if (lost == 0 || (s->scanned_ns != 0 && now_ns - s->scanned_ns < s->wait_ns))
        return;
    s->scanned_ns = now_ns;
    find_all(s);
    find_again(s, s->sources, s->n_places);
    find_again(s, s->rails, s->n_rails);
    find_again(s, s->flags, s->n_flags);
    s->n_lost = count_all_lost(s);
    s->wait_ns = s->wait_ns * 2 < RESCAN_MOST * s->rescan_ns ? s->wait_ns * 2 : RESCAN_MOST * s->rescan_ns;
}

/* ---- readings ------------------------------------------------------------------------------------------------------------------------- */

static bool read_item(struct sensors_sysfs *s, struct item *item, const char *file, int64_t *ret)
{
    if (item->is_lost)
        return false;
    if (read_number(s, item->folder, file, ret))
        return true;
    item->is_lost = is_gone(errno);
    return false;
}

double sensors_sysfs_read(struct sensors_sysfs *s, int i)
{
    struct item *item = &s->sources[i];
    char file[32] = "temp";
    int64_t milli;
    if (item->kind == KIND_CHIP)
        snprintf(file, sizeof file, "temp%d_input", item->number);
    return read_item(s, item, file, &milli) ? (double)milli / 1000 : NAN;
}

static bool read_item_rail(struct sensors_sysfs *s, struct item *item, struct sensors_sysfs_rail *ret)
{
    char file[32] = "energy_uj";
    int64_t a, b = 1;
    if (item->kind == KIND_ENERGY)
        snprintf(file, sizeof file, "energy%d_input", item->number);
    else if (item->kind == KIND_POWER)
        snprintf(file, sizeof file, "power%d_%s", item->number, item->is_average ? "average" : "input");
    else if (item->kind == KIND_RAIL)
        snprintf(file, sizeof file, "in%d_input", item->number); /* millivolts, and milliamperes below */
    if (!read_item(s, item, file, &a))
        return false;
    if (item->kind == KIND_RAIL) {
        snprintf(file, sizeof file, "curr%d_input", item->number);
        if (!read_item(s, item, file, &b))
            return false;
    }
    ret->is_energy = item->kind == KIND_RAPL || item->kind == KIND_ENERGY;
    ret->value = (double)a * (double)b * MICRO;
    ret->range_j = item->range_j;
    return true;
}

bool sensors_sysfs_read_rail(struct sensors_sysfs *s, int i, struct sensors_sysfs_rail *ret)
{
    return read_item_rail(s, &s->rails[i], ret);
}

bool sensors_sysfs_is_limited(struct sensors_sysfs *s)
{
    bool is_limited = false;
    for (int i = 0; i < s->n_flags; i++) {
        struct item *flag = &s->flags[i];
        int64_t n;
        if (!read_item(s, flag, flag->label, &n))
            continue;
        if (flag->kind == KIND_PROCHOT)
            is_limited = is_limited || n != 0;
        else
            is_limited = is_limited || (s->counts[i] >= 0 && n > s->counts[i]);
        s->counts[i] = n;
    }
    return is_limited;
}

/* ---- life ----------------------------------------------------------------------------------------------------------------------------- */

int sensors_sysfs_open(const char *root, int64_t rescan_ns, struct sensors_sysfs **ret_sysfs, struct err *err)
{
    struct sensors_sysfs *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "out of memory: sensors");
    snprintf(s->root, sizeof s->root, "%s", root);
    s->rescan_ns = s->wait_ns = rescan_ns;
    *ret_sysfs = s;
    return 0;
}

void sensors_sysfs_close(struct sensors_sysfs *s)
{
    free(s);
}

void sensors_sysfs_find(struct sensors_sysfs *s, bool is_of_others)
{
    static const enum sensors_part governing[] = {SENSORS_GPU, SENSORS_CPU, SENSORS_BOARD}, others[] = {SENSORS_OTHER};
    find_all(s);
    if (is_of_others) {
        take_places(s, others, 1);
        return;
    }
    take_places(s, governing, sizeof governing / sizeof *governing);
    take_meter(s);
    take_flags(s);
}

int sensors_sysfs_count(const struct sensors_sysfs *s)
{
    return s->n_places;
}

const struct sensors_sysfs_place *sensors_sysfs_place(const struct sensors_sysfs *s, int i)
{
    return &s->places[i];
}

int sensors_sysfs_rails(const struct sensors_sysfs *s)
{
    return s->n_rails;
}

enum sensors_sysfs_scope sensors_sysfs_scope(const struct sensors_sysfs *s)
{
    return s->scope;
}

const char *sensors_sysfs_meter_name(const struct sensors_sysfs *s)
{
    return s->scope == SENSORS_SYSFS_NOTHING ? "none" : s->meter_name;
}
