#include "engine/breath.h"

#include "base/clock.h"

#define IDLE_MOST 999 /* permille: the work of one step may be followed by 999 times as long a rest */

/* The work that has not had its rest yet, and what it had. */
static struct breath_span unsettled(const struct breath *b)
{
    if (!b->is_on)
        return (struct breath_span){.busy_ns = b->owed.busy_ns,
                                    .rest_ns = b->owed.rest_ns + (b->end_ns ? clock_now_ns() - b->end_ns : 0)};
    const struct breath_span all = breath_all(b);
    return (struct breath_span){.busy_ns = b->owed.busy_ns + all.busy_ns - b->settled.busy_ns,
                                .rest_ns = b->owed.rest_ns + all.rest_ns - b->settled.rest_ns};
}

/* Rest that a span still needs; below 0: it had more. */
static int64_t left_ns(struct breath_span span, int32_t idle_permille)
{
    const int32_t share = idle_permille > IDLE_MOST ? IDLE_MOST : idle_permille < 0 ? 0 : idle_permille;
    return span.busy_ns * share / (1000 - share) - span.rest_ns;
}

int64_t breath_rest_ns(const struct breath *b, int32_t idle_permille)
{
    const int64_t left = idle_permille > 0 ? left_ns(unsettled(b), idle_permille) : 0;
    return left > 0 ? left : 0;
}

void breath_begin(struct breath *b, int32_t idle_permille)
{
    const struct breath_span before = unsettled(b);
    const int64_t left = left_ns(before, idle_permille);
    b->owed = before;
    if (left <= 0)
        b->owed = (struct breath_span){.rest_ns = idle_permille <= 0 ? 0 : -left < EN_REST_LEAST_NS ? -left : EN_REST_LEAST_NS};
    b->is_on = true;
    b->since_ns = clock_now_ns();
    b->rested_ns = b->asked_ns = 0;
    b->settled = (struct breath_span){0};
}

bool breath_take(struct breath *b)
{
    if (!b || !b->is_on || !b->ask)
        return true;
    b->asked_ns = clock_now_ns();
    const enum en_breath answer = b->ask(b->ctx);
    b->rested_ns += clock_now_ns() - b->asked_ns;
    b->asked_ns = 0;
    if (answer == EN_RESTED) {
        b->settled = breath_all(b);
        b->owed = (struct breath_span){0};
    }
    return answer != EN_GIVE_UP;
}

struct breath_span breath_all(const struct breath *b)
{
    const int64_t now = clock_now_ns();
    return (struct breath_span){.busy_ns = (b->asked_ns ? b->asked_ns : now) - b->since_ns - b->rested_ns,
                                .rest_ns = b->rested_ns + (b->asked_ns ? now - b->asked_ns : 0)};
}

void breath_end(struct breath *b)
{
    b->owed = unsettled(b);
    b->end_ns = clock_now_ns();
    b->is_on = false;
}
