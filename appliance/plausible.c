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
#define LONG_FADES_S  300.0
#define SUSPECT_TIMES 1.2
#define SUSPECT_S     10.0
#define LONG_FIRST_S  50.0 /* assumed before it is known */

void plausible_init(struct plausible *p)
{
    memset(p, 0, sizeof *p);
    p->age_s = INFINITY;
    p->longest_s = LONG_FIRST_S;
}

void plausible_restart(struct plausible *p)
{
    const struct plausible before = *p;
    plausible_init(p);
    p->longest_s = before.longest_s;
    if (before.is_frozen) {
        p->has_said = p->is_frozen = true;
        p->said_c = before.said_c;
        p->still_s = before.still_s;
    }
}

static void widen(double range[2], double x)
{
    range[0] = fmin(range[0], x);
    range[1] = fmax(range[1], x);
}

static void note_still(struct plausible *p, double dt, double said, const struct plausible_place *place)
{
    if (said != p->said_c || !p->has_said) {
        if (!p->is_frozen && p->has_said)
            p->longest_s = fmax(p->still_s, p->longest_s * exp(-p->still_s / LONG_FADES_S));
        p->has_said = true;
        p->said_c = said;
        p->still_s = p->drift_k = 0;
        p->leaving_w = place->leaving_w;
        p->fast_w[0] = p->fast_w[1] = place->fast_w;
        p->due_k[0] = p->due_k[1] = place->r_k_w * place->fast_w;
        p->is_frozen = false;
        return;
    }
    p->still_s += dt;
    p->drift_k += dt * (place->now_w - p->leaving_w) / place->sink_j_k;
    widen(p->fast_w, place->fast_w);
    widen(p->due_k, place->r_k_w * place->fast_w + p->drift_k);
    const double fast_k = place->r_k_w * (p->fast_w[1] - p->fast_w[0]), due_k = p->due_k[1] - p->due_k[0];
    if (p->still_s >= STILL_S && fmin(fast_k, due_k) > STILL_STEPS * place->step_k + place->doubt_k)
        p->is_frozen = true;
}

double plausible_note(struct plausible *p, double dt, double said, const struct plausible_place *place)
{
    p->age_s += dt;
    if (!(said >= LEAST_C && said <= MOST_C)) { /* nor what is not a number */
        p->jumps = 0;
        return NAN;
    }
    note_still(p, dt, said, place);
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
