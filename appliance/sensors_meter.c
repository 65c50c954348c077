#include "appliance/sensors_meter.h"

#include <math.h>

#define WATTS_MOST 2000.0 /* of one GPU or processor package */

void sensors_meter_miss(struct sensors_meter *m)
{
    m->has_last = false;
}

static void meter_add(struct sensors_meter *m, int64_t now_ns, double joules, double seconds)
{
    const double watts = joules / seconds;
    m->last_ns = now_ns;
    if (!(watts > 0 && watts <= WATTS_MOST)) /* the counter began anew, or means nothing */
        return;
    m->joules += joules;
    m->seconds += seconds;
    m->watts = watts;
    m->said_ns = now_ns;
}

/* range_j: where the counter begins again; 0: not known. One that stands still has not counted yet: it is no zero, and the time goes on. */
void sensors_meter_note_energy(struct sensors_meter *m, int64_t now_ns, double joules, double range_j)
{
    const double more = joules - m->last_j;
    if (m->has_last && more == 0)
        return;
    const bool had_last = m->has_last;
    const double seconds = (double)(now_ns - m->last_ns) / 1e9;
    m->has_last = true;
    m->last_j = joules;
    if (had_last && seconds > 0)
        meter_add(m, now_ns, more < 0 ? more + range_j : more, seconds);
    m->last_ns = now_ns;
}

void sensors_meter_note_power(struct sensors_meter *m, int64_t now_ns, double watts, int64_t period_ns)
{
    if (!(watts > 0 && watts <= WATTS_MOST)) {
        sensors_meter_miss(m);
        return;
    }
    /* after a gap it stands for a period, not for the gap */
    const int64_t passed_ns = m->has_last && now_ns - m->last_ns < 2 * period_ns ? now_ns - m->last_ns : period_ns;
    m->has_last = true;
    meter_add(m, now_ns, watts * (double)passed_ns / 1e9, (double)passed_ns / 1e9);
}

/* Mean since the last call; the newest one when there was no reading since, as long as it is fresh. */
double sensors_meter_take(struct sensors_meter *m, int64_t now_ns, int64_t fresh_ns)
{
    double watts = m->said_ns != 0 && now_ns - m->said_ns <= fresh_ns ? m->watts : NAN;
    if (m->seconds > 0)
        watts = m->joules / m->seconds;
    m->joules = m->seconds = 0;
    return watts;
}
