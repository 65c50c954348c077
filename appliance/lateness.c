#include "appliance/lateness.h"

#include <math.h>
#include <string.h>

#define STEP_S    0.5
#define MOVES_W   10.0   /* work that begins or ends; smaller changes follow from what was measured */
#define KEEPS     0.99   /* of what was learned, a second in which it does */
#define ENOUGH_W2 2000.0 /* of changes: less says nothing */
#define ENOUGH    4      /* one alone may be an accident */
#define BETTER    1.15   /* than the guess before */

void lateness_init(struct lateness *l)
{
    memset(l, 0, sizeof *l);
    l->said_w = NAN;
}

void lateness_push(struct lateness *l, double own)
{
    memmove(&l->past[1], &l->past[0], (LATENESS_PAST - 1) * sizeof l->past[0]);
    l->past[0] = own;
}

/* Our work in the second that ended a guess's time and `more` seconds ago. */
static double seen(const struct lateness *l, int guess, int more)
{
    const double late_s = guess * STEP_S;
    const int i = (int)late_s + more;
    const double part = late_s - (int)late_s;
    return (1 - part) * l->past[i] + part * l->past[i + 1];
}

/* How well a guess explains what the meter's changes were. */
static double worth(const struct lateness *l, int guess)
{
    const double cross = l->cross[guess];
    return cross > 0 && l->square[guess] > 0 ? cross * cross / l->square[guess] : 0;
}

void lateness_learn(struct lateness *l, double said_w)
{
    const double change = said_w - l->said_w;
    l->said_w = said_w;
    if (isnan(change))
        return;
    double most = 0;
    for (int i = 0; i + 1 < LATENESS_PAST; i++)
        most = fmax(most, fabs(l->past[i] - l->past[i + 1]));
    if (most < MOVES_W)
        return;
    l->n_moves += fabs(l->past[0] - l->past[1]) >= MOVES_W;
    int best = l->guess;
    for (int i = 0; i < LATENESS_GUESSES; i++) {
        const double own = seen(l, i, 0) - seen(l, i, 1);
        l->cross[i] = KEEPS * l->cross[i] + change * own;
        l->square[i] = KEEPS * l->square[i] + own * own;
        if (worth(l, i) > worth(l, best))
            best = i;
    }
    if (l->n_moves >= ENOUGH && l->square[0] > ENOUGH_W2 && worth(l, best) > BETTER * worth(l, l->guess))
        l->guess = best;
}

double lateness_seen(const struct lateness *l)
{
    return seen(l, l->guess, 0);
}

double lateness_s(const struct lateness *l)
{
    return l->guess * STEP_S;
}

double lateness_doubt(const struct lateness *l)
{
    double low = INFINITY, high = -INFINITY;
    for (int guess = l->guess > 0 ? l->guess - 1 : 0; guess <= l->guess + 1; guess++) {
        low = fmin(low, seen(l, guess, 0));
        high = fmax(high, seen(l, guess, 0));
    }
    return high - low;
}

bool lateness_is_clear(const struct lateness *l)
{
    for (int i = 0; i < LATENESS_PAST; i++)
        if (l->past[i] > 0)
            return false;
    return true;
}
