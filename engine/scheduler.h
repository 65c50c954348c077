/*
 * scheduler - which job next, which can no longer make its deadline, and how many may run together so that they make theirs: pure decisions over figures it is given.
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
    double image_token_ns, prompt_row_ns, decode_step_ns, output_steps;
    double pace;        /* set by the owner: the share of the time that work is done in; 0: all of it */
    int64_t refused_ns; /* since when jobs are refused on the estimate alone though nothing runs; 0: none is */
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
void scheduler_note_output(struct scheduler *s, int32_t steps); /* of a whole answer; one may give several tokens */

/* Time that the rest of a job takes if it runs without waiting, by the averages; 0 where nothing was measured. */
int64_t scheduler_estimate_ns(const struct scheduler *s, const struct sched_job *job);

/*
 * A job is to be given up on the estimate alone, before its deadline, and nothing else runs. By refusing nothing is measured, so one slow minute could keep every later job out for
 * ever. true: nothing has run for as long as the job is thought to take: it is to be tried all the same, until its deadline.
 */
bool scheduler_may_try(struct scheduler *s, const struct sched_job *job, int64_t now_ns);
void scheduler_note_running(struct scheduler *s); /* something runs */

/* Jobs that run together, one by one. Pictures and prompts take their time after each other, answers are decoded beside each other. */
struct sched_load {
    double work_ns, steps;
    int64_t deadline_ns; /* the first of them; 0: none has one */
};
void scheduler_load_add(const struct scheduler *s, struct sched_load *load, const struct sched_job *job);

/* Whether all of them make their deadlines. More at a time than do would finish none of them in time. */
bool scheduler_is_in_time(const struct scheduler *s, const struct sched_load *load, int64_t now_ns);

/* Whether a job is late: its deadline passed, or passes before the estimated end. */
bool scheduler_is_late(const struct scheduler *s, const struct sched_job *job, int64_t now_ns);

/* Whether a goes before b: priority, then the earlier deadline (none is last), then the order of submission. A strict total
 * order. */
bool scheduler_before(const struct sched_job *a, const struct sched_job *b);

#endif
