/*
 * sensors_sysfs - what the kernel says about heat and watts in sysfs: thermal zones, hwmon chips, RAPL (powercap), the INA3221 rails of a Jetson, spark_hwmon on a DGX Spark.
 *
 * Numbers of zones and chips change with every module that is loaded. A place is therefore known by its driver and label, and where two are alike by the device behind it; when
 * its folder is gone, or belongs to somebody else, all folders are looked through again and the same place is found under its new number.
 *
 * Life cycle: sensors_sysfs_open -> sensors_sysfs_find once -> every period: sensors_sysfs_refresh, then the readings -> sensors_sysfs_close.
 * Threads: one owner; every call but open may hang as long as a driver does. Memory: one struct; looking through the folders takes a little more for as long as it lasts.
 */
#ifndef HERON_APPLIANCE_SENSORS_SYSFS_H
#define HERON_APPLIANCE_SENSORS_SYSFS_H

#include <stdbool.h>
#include <stdint.h>

#include "appliance/sensors.h"
#include "base/err.h"

#define SENSORS_SYSFS_PLACES 32
#define SENSORS_SYSFS_RAILS  8

struct sensors_sysfs_place {
    char name[SENSORS_NAME_MAX];
    enum sensors_part part;
    double trip_c;     /* the lowest at which the kernel or the chip acts by itself; NAN: it names none */
    double critical_c; /* Tjmax of a processor; NAN: it names none */
};

/* What the rails together tell. */
enum sensors_sysfs_scope {
    SENSORS_SYSFS_NOTHING,
    SENSORS_SYSFS_PACKAGES, /* of the processors */
    SENSORS_SYSFS_TOTAL
};

/* One look at a rail. */
struct sensors_sysfs_rail {
    /* true: joules that only grow, up to range_j (0: not known) and then from 0 again; false: watts at this instant */
    bool is_energy;
    double value, range_j;
};

struct sensors_sysfs;

/* root: "/sys"; copied. rescan_ns: the least time between two looks through all folders; it doubles while they find nothing new, up to twelve times that. Errors: ERR_NOMEM. */
int sensors_sysfs_open(const char *root, int64_t rescan_ns, struct sensors_sysfs **ret_sysfs, struct err *err);
void sensors_sysfs_close(struct sensors_sysfs *sysfs); /* takes NULL */

/* Look through all folders, for what may govern with meters and flags, or for the others alone (SENSORS_OTHER). What is found keeps its number from then on. */
void sensors_sysfs_find(struct sensors_sysfs *sysfs, bool is_of_others);
int sensors_sysfs_count(const struct sensors_sysfs *sysfs);
const struct sensors_sysfs_place *sensors_sysfs_place(const struct sensors_sysfs *sysfs, int i);
int sensors_sysfs_rails(const struct sensors_sysfs *sysfs);
enum sensors_sysfs_scope sensors_sysfs_scope(const struct sensors_sysfs *sysfs);
const char *sensors_sysfs_meter_name(const struct sensors_sysfs *sysfs);

/* See whether every folder is still the one it was, and look for what is lost. */
void sensors_sysfs_refresh(struct sensors_sysfs *sysfs, int64_t now_ns);

/* Degrees as the kernel says them, however odd; NAN: none this time. */
double sensors_sysfs_read(struct sensors_sysfs *sysfs, int i);

/* false: none this time. */
bool sensors_sysfs_read_rail(struct sensors_sysfs *sysfs, int i, struct sensors_sysfs_rail *ret);

/* Has the firmware held the machine back since the last call, for another reason than heat of ours? PROCHOT of spark_hwmon, over-current events of a Jetson. */
bool sensors_sysfs_is_limited(struct sensors_sysfs *sysfs);

#endif
