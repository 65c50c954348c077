#include "engine/scheduler.h"

#include <math.h>

#define NEW_SHARE 0.2 /* weight of the newest measurement in a running average */

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

void scheduler_note_output(struct scheduler *s, int32_t steps)
{
    if (steps > 0)
        average(&s->output_steps, steps);
}

void scheduler_load_add(const struct scheduler *s, struct sched_load *load, const struct sched_job *job)
{
    const double steps = fmin(s->output_steps, job->output_max) - job->output_done;
    load->work_ns += s->image_token_ns * job->image_tokens + s->prompt_row_ns * job->prompt_rows;
    load->steps = fmax(load->steps, steps);
    if (job->deadline_ns != 0 && (load->deadline_ns == 0 || job->deadline_ns < load->deadline_ns))
        load->deadline_ns = job->deadline_ns;
}

static int64_t load_ns(const struct scheduler *s, const struct sched_load *load)
{
    return (int64_t)((load->work_ns + s->decode_step_ns * load->steps) / (s->pace > 0 ? s->pace : 1));
}

bool scheduler_is_in_time(const struct scheduler *s, const struct sched_load *load, int64_t now_ns)
{
    return load->deadline_ns == 0 || now_ns + load_ns(s, load) <= load->deadline_ns;
}

int64_t scheduler_estimate_ns(const struct scheduler *s, const struct sched_job *job)
{
    struct sched_load alone = {0};
    scheduler_load_add(s, &alone, job);
    return load_ns(s, &alone);
}

bool scheduler_is_late(const struct scheduler *s, const struct sched_job *job, int64_t now_ns)
{
    return job->deadline_ns != 0 && now_ns + scheduler_estimate_ns(s, job) > job->deadline_ns;
}

bool scheduler_may_try(struct scheduler *s, const struct sched_job *job, int64_t now_ns)
{
    if (s->refused_ns == 0)
        s->refused_ns = now_ns;
    if (now_ns - s->refused_ns < scheduler_estimate_ns(s, job))
        return false;
    s->refused_ns = 0;
    return true;
}

void scheduler_note_running(struct scheduler *s)
{
    s->refused_ns = 0;
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
