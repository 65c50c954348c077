#include "appliance/load.h"

#include <math.h>

#include "base/clock.h"

void load_take(struct load *l, const struct load_told *told, int64_t now, struct load_second *ret)
{
    struct en_progress p = told->progress;
    if (told->running > 0) {
        p.busy_ns += now - told->since_ns;
        p.sequence_ns += (now - told->since_ns) * told->running;
    }
    const struct en_progress *a = &l->last;
    /* at its end a pass says a little less than was guessed: that is no new engine */
    const bool is_new = p.output_tokens < a->output_tokens || p.busy_ns < a->busy_ns - CLOCK_S;
    const double busy_ns = fmax((double)(p.busy_ns - (is_new ? 0 : a->busy_ns)), 0);
    const double sequence_ns = fmax((double)(p.sequence_ns - (is_new ? 0 : a->sequence_ns)), 0);
    const double tokens = (double)(p.output_tokens - (is_new ? 0 : a->output_tokens)), passed_ns = (double)(now - l->last_ns);
    *ret = (struct load_second){.duty = l->last_ns && passed_ns > 0 ? fmin(busy_ns / passed_ns, 1) : 0, .speed = NAN};
    if (busy_ns > 0)
        ret->batch = (int)fmax(sequence_ns / busy_ns + 0.5, 1);
    if (ret->batch > 0) {
        l->unpaid_batch = l->unpaid_s > 0 && l->unpaid_batch != ret->batch ? -1 : ret->batch;
        l->unpaid_s += busy_ns / 1e9;
    }
    if (tokens > 0) {
        if (l->unpaid_s > 0 && l->unpaid_batch > 0 && ret->duty > 0) {
            ret->speed = tokens / l->unpaid_s * ret->duty;
            ret->span_s = l->unpaid_s;
        }
        l->unpaid_s = 0;
    }
    l->last = p;
    l->last_ns = now;
}
