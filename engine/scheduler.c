#include "engine/scheduler.h"

#define NEW_SHARE   0.2  /* weight of the newest measurement in a running average */
#define SHED_FORGET 0.95 /* of every average that is left after a job was refused by it */

static void average(double *mean, double sample)
{
    *mean = *mean > 0 ? *mean + NEW_SHARE * (sample - *mean) : sample;
}

void scheduler_note_vision(struct scheduler *s, int32_t tokens, int64_t took_ns)
{
    if (tokens > 0 && took_ns > 0)
        average(&s->image_token_ns, (double)took_ns / tokens);
}

void scheduler_note_step(struct scheduler *s, int32_t prompt_rows, int32_t decode_rows, int64_t took_ns)
{
    if (took_ns <= 0)
        return;
    /* A mixed step cannot be divided fairly; pure ones come often enough. */
    if (prompt_rows > 0 && decode_rows == 0)
        average(&s->prompt_row_ns, (double)took_ns / prompt_rows);
    else if (decode_rows > 0 && prompt_rows == 0)
        average(&s->decode_step_ns, (double)took_ns);
}

void scheduler_note_output(struct scheduler *s, int32_t tokens)
{
    if (tokens > 0)
        average(&s->output_tokens, tokens);
}

void scheduler_note_shed(struct scheduler *s)
{
    s->image_token_ns *= SHED_FORGET;
    s->prompt_row_ns *= SHED_FORGET;
    s->decode_step_ns *= SHED_FORGET;
}

int64_t scheduler_estimate_ns(const struct scheduler *s, const struct sched_job *job)
{
    double left = s->output_tokens - job->output_done;
    if (left > job->output_max - job->output_done)
        left = job->output_max - job->output_done;
    if (left < 0)
        left = 0;
    return (int64_t)(s->image_token_ns * job->image_tokens + s->prompt_row_ns * job->prompt_rows + s->decode_step_ns * left);
}

bool scheduler_is_late(const struct scheduler *s, const struct sched_job *job, int64_t now_ns)
{
    return job->deadline_ns != 0 && now_ns + scheduler_estimate_ns(s, job) > job->deadline_ns;
}

bool scheduler_before(const struct sched_job *a, const struct sched_job *b)
{
    if (a->priority != b->priority)
        return a->priority > b->priority;
    if (a->deadline_ns != b->deadline_ns) {
        if (a->deadline_ns == 0 || b->deadline_ns == 0)
            return b->deadline_ns == 0;
        return a->deadline_ns < b->deadline_ns;
    }
    return a->order < b->order;
}
