#include "engine/breath.h"

#include "base/clock.h"

bool breath_take(struct breath *b)
{
    if (!b || !b->is_on || !b->ask)
        return true;
    b->asked_ns = clock_now_ns();
    const bool goes_on = b->ask(b->ctx);
    b->rested_ns += clock_now_ns() - b->asked_ns;
    b->asked_ns = 0;
    return goes_on;
}

int64_t breath_busy_ns(const struct breath *b, int64_t since_ns)
{
    return (b->asked_ns ? b->asked_ns : clock_now_ns()) - since_ns - b->rested_ns;
}

int64_t breath_rest_ns(const struct breath *b)
{
    return b->rested_ns + (b->asked_ns ? clock_now_ns() - b->asked_ns : 0);
}
