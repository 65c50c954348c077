#include "engine/breath.h"

#include "base/clock.h"

void breath_begin(struct breath *b)
{
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
    if (answer == EN_RESTED)
        b->settled = breath_all(b);
    return answer != EN_GIVE_UP;
}

struct breath_span breath_all(const struct breath *b)
{
    const int64_t now = clock_now_ns();
    return (struct breath_span){.busy_ns = (b->asked_ns ? b->asked_ns : now) - b->since_ns - b->rested_ns,
                                .rest_ns = b->rested_ns + (b->asked_ns ? now - b->asked_ns : 0)};
}

struct breath_span breath_unsettled(const struct breath *b)
{
    const struct breath_span all = breath_all(b);
    return (struct breath_span){.busy_ns = all.busy_ns - b->settled.busy_ns, .rest_ns = all.rest_ns - b->settled.rest_ns};
}

void breath_end(struct breath *b)
{
    b->is_on = false;
}
