/*
 * governor - how much work the box may take on so that it stays under its temperature limits: readings and time in, a permit out.
 *
 * Each sensor has an observer of its own, which says how many watts end at its limit; the least of them is the budget. The workload turns the budget into a batch
 * and a share of idle time. What cannot be seen is not trusted: without believable readings the budget falls, in two steps, far below what was sustainable;
 * over the limit everything stops until it has cooled; and a permit expires by itself when nobody renews it.
 *
 * Pure: no clock, no file, no allocation, a few microseconds a tick. Threads: one owner (the thermal thread). Memory: plain values.
 */
#ifndef HERON_APPLIANCE_GOVERNOR_H
#define HERON_APPLIANCE_GOVERNOR_H

#include <stdbool.h>
#include <stdint.h>

#include "appliance/observer.h"
#include "appliance/plausible.h"
#include "appliance/workload.h"
#include "engine/engine.h"

#define GOVERNOR_SENSORS   16
#define GOVERNOR_PERMIT_NS (INT64_C(3) * 1000000000)

enum governor_level { GOVERNOR_NOMINAL, GOVERNOR_WARM, GOVERNOR_THROTTLED, GOVERNOR_PAUSED, GOVERNOR_BLIND };
extern const char *const governor_level_names[]; /* "nominal" ... as on P/thermal */

/* Which watts are measured. */
enum governor_meter {
    GOVERNOR_METER_NONE,
    GOVERNOR_METER_DEVICE, /* of the accelerator alone: bursts of other parts come as a surprise */
    GOVERNOR_METER_TOTAL
};

struct governor_options {
    int n_sensors; /* 0: none was found */
    double limits_c[GOVERNOR_SENSORS];
    bool is_unguarded; /* the operator wrote down that there is no sensor: no limits are kept */
    int batch_max;
    enum workload_policy policy;
    enum governor_meter meter;
    bool pauses_blind;                 /* stops instead of going on slowly when nothing can be seen for half a minute */
    double resume_k[GOVERNOR_SENSORS]; /* below the limit, after a hard trip; 0: 10 */
    const double *watts;               /* of each batch, see workload_init; or NULL */
    const double *speed;
};

/* What is kept per machine, so that the next start knows it. */
struct governor_memory {
    struct observer_body bodies[GOVERNOR_SENSORS];
    double limits_c[GOVERNOR_SENSORS]; /* under which sustainable_w was learned; 0: that one was not there */
    double sustainable_w;
    double factor; /* usual watts of this work over the table's; 0: not known */
    double unit;   /* of the box's size, see struct governor; 0: not known */
    struct workload_memory workload;
};

/* A second of the world. */
struct governor_sight {
    int64_t now_ns;
    double c[GOVERNOR_SENSORS]; /* NAN: none */
    double watts;               /* mean since the last tick; NAN: no meter */
    int batch;                  /* what the engine really did since the last tick */
    double duty, speed;         /* busy share; tokens a second, NAN: not counted */
    double
        span_s; /* of work that the speed stands for: pictures and prompts are paid for by the tokens behind them; 0: of this tick's */
    int demand;             /* sequences that there are to run; 0: unknown, as many as may be */
    bool is_throttled;      /* the device throttles itself because of heat */
    bool is_limited;        /* the device is held back by something else: power brick, firmware */
    bool is_gone;           /* the device is not there at the moment: its driver is loaded anew, it fell off the bus */
    double device_margin_k; /* to the device's own limit; NAN: unknown */
};

struct governor_grant {
    struct en_permit permit; /* batch 0: nothing may run */
    enum governor_level level;
    int hottest;             /* sensor nearest to its limit or over it; -1: none that tells anything */
    double c, limit_c;       /* of that one, by its observer */
    double headroom_k;       /* to the limit */
    double seconds_to_limit; /* at this drift; INFINITY: never */
    double budget_w, duty;
    double sustainable_w; /* learned; 0: not yet */
    bool is_probe, is_trip, is_hard_trip;
    bool is_gone;       /* nothing runs, because there is nothing to run on */
    int blind;          /* sensor that cannot be believed, or -1 */
    int foreign;        /* sensor that is over its limit because of what others do, or -1 */
    bool needs_service; /* sustainable watts fell by a quarter: vents, room, fan */
    bool is_limited;    /* cool, busy, and drawing far less than usual: held back by the power supply or the firmware */
    double raised_k;    /* by which the margins are larger after trips in a row */
};

/*
 * All watts inside are in the box's own unit: its careful first guesses, bounds and steps are those of a box whose work draws some 80 W, and a box that draws 5 or 500 W is the
 * same box in another unit. It is found in the first step of the first start.
 */
struct governor {
    struct governor_options options;
    double unit;                               /* watts */
    double next_unit;                          /* to begin anew with, once nothing runs; 0: none */
    bool is_unit_known, is_unit_found;         /* nothing more is to be learned of it; because it was seen, or told */
    double unit_w[2], unit_table_w[2], unit_s; /* what our work drew, and by the table, in two halves of the look at it */
    double unit_work_s;                        /* of work, while it is looked for */
    double start_w;                            /* of our own, at most, to begin anew with; 0: as at any start */
    struct observer observers[GOVERNOR_SENSORS];
    struct plausible readings[GOVERNOR_SENSORS];
    struct workload workload;
    bool has_begun, is_running;
    int64_t last_ns;
    double now_w; /* drawn in the last second, as far as can be told */
    double budget_w, capped_w, cap_s;
    double drawn_w, wanted; /* of our own watts: lately drawn, at most; sequences that there are to run, at most */
    double sustainable_w, usual_w, usual_s, poor_s, rest_w, factor, usual_factor, limited_s;
    int batch;                       /* of the last permit that allowed something */
    int doubtful[GOVERNOR_SENSORS];  /* good readings that are still wanted, after a suspend */
    double lost_s[GOVERNOR_SENSORS]; /* for which a sensor has not been believed at all */
    bool is_tripped, is_hard, is_held_back, is_warm, is_careful;
    bool is_over[GOVERNOR_SENSORS], is_margin_over; /* which stopped everything */
    bool is_judged[GOVERNOR_SENSORS];               /* whether it is because of us, in this stop */
    bool is_foreign[GOVERNOR_SENSORS];              /* over its limit, and not because of us */
    double trip_c[GOVERNOR_SENSORS];
    double tripped_s, before_trip_w, before_trip_own_w, trips_s[3];
    double clock_s, probe_s, probe_wait_s, probe_every_s, probe_w, before_probe_w;
    int n_trips;
};

void governor_init(struct governor *g, const struct governor_options *options, const struct governor_memory *known);

/* Once a second; shorter and longer is tolerated. */
void governor_tick(struct governor *g, const struct governor_sight *sight, struct governor_grant *ret);

/* What to keep. Returns of how many sensors something was learned in this run. */
int governor_get_memory(const struct governor *g, struct governor_memory *ret);

#endif
