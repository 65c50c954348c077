/*
 * scheduler - which job next, and which can no longer make its deadline: pure decisions over figures it is given.
 *
 * It knows no device and no clock: the caller tells it how long things took (scheduler_note_*), describes each job as a struct
 * sched_job, and passes the time. So it is tested with invented clocks and no model.
 *
 * Threads: none of its own; one owner. Memory: none.
 */
#ifndef HERON_ENGINE_SCHEDULER_H
#define HERON_ENGINE_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

/* Running averages of cost. 0: not measured yet, then nothing is shed on a guess. */
struct scheduler {
    double image_token_ns, prompt_row_ns, decode_step_ns, output_tokens;
};

/* What is left of a job. */
struct sched_job {
    uint64_t order;                    /* grows with submission */
    int32_t priority;                  /* larger first */
    int64_t deadline_ns;               /* 0: none */
    int32_t image_tokens, prompt_rows; /* not yet encoded, not yet evaluated */
    int32_t output_done, output_max;
};

/* Feed what was measured. */
void scheduler_note_vision(struct scheduler *s, int32_t tokens, int64_t took_ns);
void scheduler_note_step(struct scheduler *s, int32_t prompt_rows, int32_t decode_rows, int64_t took_ns);
void scheduler_note_output(struct scheduler *s, int32_t tokens);

/*
 * A job was given up on the estimate alone, before its deadline. Nothing was measured by that, so one slow minute could keep every later
 * job out for ever; the averages shrink a little each time, until a job is tried and measured again.
 */
void scheduler_note_shed(struct scheduler *s);

/* Time that the rest of a job takes if it runs without waiting, by the averages; 0 where nothing was measured. */
int64_t scheduler_estimate_ns(const struct scheduler *s, const struct sched_job *job);

/* Whether a job is late: its deadline passed, or passes before the estimated end. */
bool scheduler_is_late(const struct scheduler *s, const struct sched_job *job, int64_t now_ns);

/* Whether a goes before b: priority, then the earlier deadline (none is last), then the order of submission. A strict total
 * order. */
bool scheduler_before(const struct sched_job *a, const struct sched_job *b);

#endif
