#include "appliance/plausible.h"

#include <math.h>
#include <string.h>

#define LEAST_C       5.0 /* sensors say 0, -40, 127, 255 when they mean nothing */
#define MOST_C        120.0
#define UP_K          15.0
#define UP_TIMES      3 /* then it is so */
#define DOWN_K        25.0
#define DOWN_S        20.0
#define STILL_S       12.0
#define STILL_STEPS   1.5
#define LONG_FADES_S  900.0
#define SUSPECT_TIMES 2.0
#define SUSPECT_S     10.0
#define LONG_FIRST_S  80.0 /* assumed before it is known */

void plausible_init(struct plausible *p)
{
    memset(p, 0, sizeof *p);
    p->age_s = INFINITY;
    p->longest_s = LONG_FIRST_S;
}

static void note_still(struct plausible *p, double dt, double said, double fast, double step, double doubt)
{
    if (said != p->said_c || p->still_s < 0) {
        if (!p->is_frozen)
            p->longest_s = fmax(p->still_s, p->longest_s * exp(-p->still_s / LONG_FADES_S));
        p->said_c = said;
        p->still_s = 0;
        p->low_k = p->high_k = fast;
        p->is_frozen = false;
        return;
    }
    p->still_s += dt;
    p->low_k = fmin(p->low_k, fast);
    p->high_k = fmax(p->high_k, fast);
    if (p->still_s >= STILL_S && p->high_k - p->low_k > STILL_STEPS * step + doubt)
        p->is_frozen = true;
}

double plausible_note(struct plausible *p, double dt, double said, double fast, double step, double doubt)
{
    p->age_s += dt;
    if (!(said >= LEAST_C && said <= MOST_C)) /* nor what is not a number */
        return NAN;
    note_still(p, dt, said, fast, step, doubt);
    if (p->is_frozen)
        return NAN;
    double use = said;
    if (p->has_any && said > p->good_c + UP_K && ++p->jumps < UP_TIMES)
        use = p->good_c + UP_K;
    else if (p->has_any && said < p->good_c - DOWN_K && (p->fallen_s += dt) < DOWN_S)
        return NAN;
    else {
        p->jumps = 0;
        p->fallen_s = 0;
        p->good_c = said;
    }
    p->has_any = true;
    p->age_s = 0;
    return use;
}

bool plausible_is_suspect(const struct plausible *p)
{
    return p->still_s > SUSPECT_S + SUSPECT_TIMES * p->longest_s;
}
