/*
 * jobs - en_submit to en_take_result: continuous batching. Jobs wait, get a session, have their pictures encoded one at a time, and then share
 * ragged passes: the next token of each that is decoding, with those that must follow it, and what is left of the step for prompts.
 */
#include "engine/jobs.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/answer.h"
#include "engine/batch.h"
#include "engine/blocks.h"
#include "engine/encode.h"
#include "engine/prompt.h"
#include "engine/scheduler.h"

#define IDLE_MAX_NS (100 * CLOCK_MS) /* longest sleep at a time: permits change */

enum job_state { JOB_QUEUED, JOB_VISION, JOB_PREFILL, JOB_DECODE };

struct result_node {
    struct en_result result;
    void *memory; /* of its texts and scores */
    struct result_node *next;
};

struct job {
    uint64_t id, tag;
    enum job_state state;
    struct sched_job plan;
    struct encode_picture *pictures; /* [n_pictures] resized, not yet encoded */
    int32_t n_pictures, n_encoded;
    int32_t n_prompt;        /* rows of the whole prompt */
    struct en_chunk *chunks; /* of the prompt: one block, in which the pictures' table lies too */
    int32_t n_chunks;
    struct pending pending; /* of the prompt and what the answer begins with, then of what follows */
    struct en_chunk next_chunk;
    int32_t n_steps; /* passes that a token was drawn of */
    struct en_session *session;
    struct answer *answer;
    struct result_node *result; /* taken on submission: no job ends without one */
    struct en_timing timing;
    int64_t prefill_start_ns, decode_start_ns;
    bool is_in_pass; /* the one at work, or the last one */
    bool is_trial;   /* runs until its deadline, whatever the estimate says */
};

struct jobs {
    struct en_engine *engine;
    struct scheduler scheduler;
    struct batch batch;
    struct job **list;  /* [capacity] all without a result, in order of submission */
    struct job **order; /* [capacity] scratch: those that run, best first */
    int32_t n, capacity;
    uint64_t last_id;
    struct result_node *first, **last;
    struct en_progress progress;
    int32_t n_under_way; /* sequences, while a step is at work */
};

int jobs_open(struct en_engine *e, struct jobs **ret_jobs, struct err *err)
{
    struct jobs *js = calloc(1, sizeof *js);
    int rc = 0;
    if (!js)
        return err_set(err, ERR_NOMEM, "out of memory: the job table");
    js->engine = e;
    js->capacity = 4 * e->options.sessions + 16;
    js->last = &js->first;
    js->list = calloc((size_t)js->capacity, sizeof(struct job *));
    js->order = calloc((size_t)js->capacity, sizeof(struct job *));
    if (!js->list || !js->order)
        rc = err_set(err, ERR_NOMEM, "out of memory: a table of %d jobs", js->capacity);
    else
        rc = batch_open(&js->batch, e, err);
    if (rc != 0) {
        jobs_close(js);
        return rc;
    }
    *ret_jobs = js;
    return 0;
}

static void job_free(struct job *j)
{
    if (!j)
        return;
    en_session_close(j->session);
    for (int32_t i = 0; i < j->n_pictures; i++) {
        en_image_unref(j->chunks[2 * i + 1].image);
        encode_picture_release(&j->pictures[i]);
    }
    answer_close(j->answer);
    blocks_put(j->chunks);
    blocks_put(j->result);
    blocks_put(j);
}

void jobs_close(struct jobs *js)
{
    if (!js)
        return;
    for (int32_t i = 0; i < js->n; i++)
        job_free(js->list[i]);
    for (struct result_node *r = js->first, *next; r; r = next) {
        next = r->next;
        en_result_free(&r->result);
    }
    batch_close(&js->batch);
    free(js->list);
    free(js->order);
    free(js);
}

/* ---- submitting ------------------------------------------------------------------------------------------------------------------- */

static enum prompt_role role_of(enum en_role role)
{
    return role == EN_SYSTEM ? PROMPT_SYSTEM : role == EN_ASSISTANT ? PROMPT_ASSISTANT : PROMPT_USER;
}

/* Messages to ids with places for pictures, in the engine's room for prompts. */
static int render(struct en_engine *e, const struct en_job *job, struct prompt *ret_prompt, struct err *err)
{
    int32_t n_parts = 0;
    for (int32_t m = 0; m < job->n_messages; m++)
        n_parts += job->messages[m].n_parts;
    const size_t messages_bytes = (size_t)job->n_messages * sizeof(struct prompt_message);
    struct prompt_message *messages =
        blocks_take_zeroed(e->blocks, messages_bytes + (size_t)n_parts * sizeof(struct prompt_part));
    if (!messages)
        return err_set(err, ERR_NOMEM, "out of memory: a conversation of %d messages", job->n_messages);
    struct prompt_part *at = (struct prompt_part *)(messages + job->n_messages);
    int rc = 0;
    for (int32_t m = 0; m < job->n_messages; m++) {
        const struct en_message *in = &job->messages[m];
        messages[m] = (struct prompt_message){.role = role_of(in->role), .parts = at, .n_parts = in->n_parts};
        for (int32_t p = 0; p < in->n_parts; p++) {
            if (!in->parts[p].text && !in->parts[p].view) {
                rc = err_set(err, ERR_INVAL, "message %d, part %d is neither text nor a picture", m, p);
                goto out;
            }
            *at++ = (struct prompt_part){in->parts[p].text, in->parts[p].text ? strlen(in->parts[p].text) : 0};
        }
    }
    const struct prompt_options options = {.generate = true, .thinking = job->thinking};
    rc = prompt_make(&e->prompt_room, e->tokenizer, e->tokenizer_cache, messages, job->n_messages, &options, ret_prompt, err);
out:
    blocks_put(messages);
    return rc;
}

/* The job's own copy of its prompt, with room for its pictures. */
static int keep_prompt(struct en_engine *e, const struct prompt *prompt, struct job *j, struct err *err)
{
    const size_t pictures_bytes = (size_t)prompt->n_images * sizeof *j->pictures;
    const size_t chunks_bytes = (batch_chunks_bytes(prompt) + _Alignof(struct encode_picture) - 1) /
                                _Alignof(struct encode_picture) * _Alignof(struct encode_picture);
    j->chunks = blocks_take(e->blocks, chunks_bytes + pictures_bytes);
    if (!j->chunks)
        return err_set(err, ERR_NOMEM, "out of memory: a prompt of %zu tokens", prompt->n_ids);
    batch_chunks(prompt, j->chunks);
    j->n_chunks = batch_n_chunks(prompt->n_images);
    j->pictures = (struct encode_picture *)((char *)j->chunks + chunks_bytes);
    memset(j->pictures, 0, pictures_bytes);
    j->n_pictures = prompt->n_images;
    j->n_prompt = (int32_t)prompt->n_ids - prompt->n_images; /* the pictures' rows come to it */
    return 0;
}

/* Resize all pictures of the job; they share its cap on pixels. */
static int prepare_pictures(struct en_engine *e, const struct en_job *job, struct job *j, struct err *err)
{
    const int32_t n = j->n_pictures;
    int32_t i = 0;
    for (int32_t m = 0; m < job->n_messages; m++)
        for (int32_t p = 0; p < job->messages[m].n_parts; p++) {
            const struct en_part *part = &job->messages[m].parts[p];
            if (part->text)
                continue;
            const int rc = encode_prepare(e, part->view, job->max_pixels > 0 ? job->max_pixels / n : 0, &j->pictures[i], err);
            if (rc != 0)
                return rc;
            j->plan.image_tokens += j->pictures[i++].tokens;
        }
    assert(i == n);
    return 0;
}

int en_submit(struct en_engine *e, const struct en_job *job, uint64_t *ret_id, struct err *err)
{
    struct jobs *js = e->jobs;
    int rc = engine_check(e, err);
    if (rc != 0)
        return rc;
    if (js->n == js->capacity)
        return err_set(err, ERR_FULL, "%d jobs are waiting or running already", js->n);
    struct job *j = blocks_take_zeroed(e->blocks, sizeof *j);
    struct result_node *result = blocks_take_zeroed(e->blocks, sizeof *result);
    if (!j || !result) {
        blocks_put(j);
        blocks_put(result);
        return err_set(err, ERR_NOMEM, "out of memory: a job");
    }
    j->result = result;
    j->timing.submitted_ns = clock_now_ns();
    struct prompt prompt;
    if ((rc = render(e, job, &prompt, err)) != 0)
        goto fail;
    if (e->vision_model && prompt.n_images > e->n_images) {
        rc = err_set(err, ERR_FULL, "a job of %d pictures: the engine was opened for %d at once", prompt.n_images, e->n_images);
        goto fail;
    }
    const int32_t *begin = NULL;
    int32_t n_begin = 0;
    if ((rc = answer_open(e, job, &j->answer, err)) != 0 || (rc = answer_begin(j->answer, &begin, &n_begin, err)) != 0 ||
        (rc = prompt_append(&e->prompt_room, &prompt, begin, n_begin, err)) != 0 ||
        (rc = keep_prompt(e, &prompt, j, err)) != 0 || (rc = prepare_pictures(e, job, j, err)) != 0)
        goto fail;
    j->n_prompt += j->plan.image_tokens - n_begin;
    if (j->n_prompt + answer_tokens_max(j->answer) > e->options.context_tokens) {
        rc = err_set(err, ERR_FULL, "a prompt of %d tokens and an answer of up to %lld do not fit into a context of %d",
                     j->n_prompt, (long long)answer_tokens_max(j->answer), e->options.context_tokens);
        goto fail;
    }
    j->id = ++js->last_id;
    j->tag = job->tag;
    j->timing.prompt_tokens = j->n_prompt;
    j->timing.image_tokens = j->plan.image_tokens;
    j->plan.order = j->id;
    j->plan.priority = job->priority;
    j->plan.deadline_ns = job->deadline_ns;
    j->plan.prompt_rows = j->n_prompt + n_begin;
    j->plan.output_max = (int32_t)answer_tokens_max(j->answer); /* at most the context */
    js->list[js->n++] = j;
    if (ret_id)
        *ret_id = j->id;
    return 0;
fail:
    job_free(j);
    return rc;
}

/* ---- results ---------------------------------------------------------------------------------------------------------------------- */

/* The job ends: its result joins the queue, and everything it held is given back. `error` only with EN_FINISH_ERROR. */
static void finish(struct jobs *js, struct job *j, enum en_finish how, const struct err *error)
{
    struct result_node *node = j->result;
    struct en_result *r = &node->result;
    j->result = NULL;
    r->tag = j->tag;
    r->finish = how;
    if (how == EN_FINISH_STOP)
        node->memory = answer_finish(j->answer, r);
    if (how == EN_FINISH_ERROR)
        r->error = *error;
    r->timing = j->timing;
    struct en_timing *t = &r->timing;
    t->finished_ns = clock_now_ns();
    t->output_tokens = j->n_steps > 0 ? answer_tokens(j->answer) : 0;
    t->drawn_tokens = j->n_steps;
    if (j->decode_start_ns)
        t->decode_ns = t->finished_ns - j->decode_start_ns;
    if (j->prefill_start_ns)
        t->prefill_ns = (j->decode_start_ns ? j->decode_start_ns : t->finished_ns) - j->prefill_start_ns;
    t->queue_ns = t->finished_ns - t->submitted_ns - t->vision_ns - t->prefill_ns - t->decode_ns;
    *js->last = node;
    js->last = &node->next;
    for (int32_t i = 0; i < js->n; i++)
        if (js->list[i] == j) {
            memmove(&js->list[i], &js->list[i + 1], (size_t)(js->n - i - 1) * sizeof(struct job *));
            js->n--;
            break;
        }
    job_free(j);
}

struct en_result *en_take_result(struct en_engine *e)
{
    struct jobs *js = e->jobs;
    struct result_node *node = js->first;
    if (!node)
        return NULL;
    js->first = node->next;
    if (!js->first)
        js->last = &js->first;
    return &node->result;
}

void en_result_free(struct en_result *r)
{
    if (!r)
        return;
    struct result_node *node = (struct result_node *)r; /* its first member */
    blocks_put(node->memory);
    blocks_put(node);
}

_Static_assert(offsetof(struct result_node, result) == 0, "en_result_free finds the node by its result");

void en_cancel(struct en_engine *e, uint64_t id)
{
    struct jobs *js = e->jobs;
    for (int32_t i = 0; i < js->n; i++)
        if (js->list[i]->id == id) {
            finish(js, js->list[i], EN_FINISH_CANCELLED, NULL);
            return;
        }
}

int32_t en_pending(const struct en_engine *e)
{
    return e->jobs->n;
}

void en_get_progress(const struct en_engine *e, struct en_progress *ret_progress)
{
    const struct jobs *js = e->jobs;
    *ret_progress = js->progress;
    if (e->breath.is_on) {
        const int64_t busy_ns = breath_all(&e->breath).busy_ns;
        ret_progress->busy_ns += busy_ns;
        ret_progress->sequence_ns += busy_ns * js->n_under_way;
        ret_progress->running = js->n_under_way;
    }
}

void en_set_breath(struct en_engine *e, enum en_breath (*ask)(void *ctx), void *ctx)
{
    e->breath = (struct breath){.ask = ask, .ctx = ctx};
    e->pass.breath = &e->breath;
    if (e->vision)
        vision_set_breath(e->vision, &e->breath);
}

/* ---- one step ---------------------------------------------------------------------------------------------------------------------- */

static int32_t count_running(const struct jobs *js)
{
    int32_t n = 0;
    for (int32_t i = 0; i < js->n; i++)
        n += js->list[i]->state != JOB_QUEUED;
    return n;
}

static void shed_late(struct jobs *js, int64_t now)
{
    bool is_idle = count_running(js) == 0;
    if (!is_idle)
        scheduler_note_running(&js->scheduler);
    for (int32_t i = js->n - 1; i >= 0; i--) {
        struct job *j = js->list[i];
        if (!scheduler_is_late(&js->scheduler, &j->plan, now))
            continue;
        const bool is_guess = now <= j->plan.deadline_ns;
        if (is_guess && is_idle && scheduler_may_try(&js->scheduler, &j->plan, now)) {
            j->is_trial = true;
            is_idle = false;
        }
        if (!is_guess || !j->is_trial)
            finish(js, j, EN_FINISH_DEADLINE, NULL);
    }
}

/* Whether one more may run without making one late that has as much right to be in time. */
static bool is_room(const struct jobs *js, const struct job *more, int64_t now)
{
    struct sched_load load = {0};
    bool is_alone = true;
    for (int32_t i = 0; i < js->n; i++) {
        const struct job *j = js->list[i];
        if (j->state == JOB_QUEUED || j->plan.priority < more->plan.priority)
            continue;
        scheduler_load_add(&js->scheduler, &load, &j->plan);
        is_alone = false;
    }
    scheduler_load_add(&js->scheduler, &load, &more->plan);
    return is_alone || scheduler_is_in_time(&js->scheduler, &load, now);
}

/* Places for encoded pictures that no job has or will need, of those that run. */
static int32_t count_free_places(const struct jobs *js)
{
    int32_t n = 0;
    for (int32_t i = 0; i < js->engine->n_images; i++)
        n += js->engine->images[i].refs == 0;
    for (int32_t i = 0; i < js->n; i++)
        if (js->list[i]->state != JOB_QUEUED)
            n -= js->list[i]->n_pictures - js->list[i]->n_encoded;
    return n;
}

/* Give sessions to the best of those that wait. */
static void admit(struct jobs *js, int32_t limit, int64_t now)
{
    for (int32_t running = count_running(js); running < limit; running++) {
        struct job *best = NULL;
        for (int32_t i = 0; i < js->n; i++)
            if (js->list[i]->state == JOB_QUEUED && (!best || scheduler_before(&js->list[i]->plan, &best->plan)))
                best = js->list[i];
        /* sessions and pictures of others or by hand may leave no place: the job waits on */
        if (!best || !is_room(js, best, now) || best->n_pictures > count_free_places(js) ||
            en_session_open(js->engine, &best->session, NULL) != 0)
            return;
        best->state = best->n_pictures ? JOB_VISION : JOB_PREFILL;
        best->timing.started_ns = now;
    }
}

/* The jobs that run, best first, into js->order. */
static int32_t sort_running(struct jobs *js)
{
    int32_t n = 0;
    for (int32_t i = 0; i < js->n; i++) {
        struct job *j = js->list[i];
        if (j->state == JOB_QUEUED)
            continue;
        int32_t at = n++;
        for (; at > 0 && scheduler_before(&j->plan, &js->order[at - 1]->plan); at--)
            js->order[at] = js->order[at - 1];
        js->order[at] = j;
    }
    return n;
}

static int encode_next(struct jobs *js, struct job *j, struct err *err)
{
    struct en_engine *e = js->engine;
    struct encode_picture *p = &j->pictures[j->n_encoded];
    const int64_t start = clock_now_ns();
    const int rc = encode_run(e, p, &j->chunks[2 * j->n_encoded + 1].image, err);
    if (rc != 0)
        return rc;
    const int64_t took = clock_now_ns() - start;
    scheduler_note_vision(&js->scheduler, p->tokens, took - e->breath.rested_ns);
    j->timing.vision_ns += took;
    j->plan.image_tokens -= p->tokens;
    encode_picture_release(p);
    if (++j->n_encoded == j->n_pictures)
        j->state = JOB_PREFILL;
    return 0;
}

/* All logits of a wanted row, where the most probable tokens do not do. */
struct whole_row {
    struct batch *batch;
    int32_t row;
};

static int read_whole_row(void *ctx, const float **ret_logits, struct err *err)
{
    const struct whole_row *w = ctx;
    float *logits = NULL;
    const int rc = batch_logits(w->batch, w->row, 1, &logits, err);
    *ret_logits = logits;
    return rc;
}

/* One more token of the answer behind a row, and what must follow it. */
static void next_token(struct jobs *js, struct job *j, const struct answer_row *row, int64_t now)
{
    struct err err = {0};
    bool done = false;
    if (j->state == JOB_PREFILL) {
        j->state = JOB_DECODE;
        j->decode_start_ns = now;
    }
    const int32_t before = j->n_steps++ > 0 ? answer_tokens(j->answer) : 0; /* what it begins with counts with the first */
    const int rc = answer_next(j->answer, row, &j->next_chunk.ids, &j->next_chunk.n_ids, &done, &err);
    js->progress.output_tokens += (uint64_t)(answer_tokens(j->answer) - before);
    if (rc != 0) {
        finish(js, j, EN_FINISH_ERROR, &err);
    } else if (done) {
        scheduler_note_output(&js->scheduler, j->n_steps);
        finish(js, j, EN_FINISH_STOP, NULL);
    } else {
        j->plan.output_done = j->n_steps;
        j->pending = pending_init(&j->next_chunk, 1);
    }
}

/* One pass over what runs: the rows of those that decode, then prompts. */
static int run_batch(struct jobs *js, int32_t n_running, int32_t limit, struct err *err)
{
    struct en_engine *e = js->engine;
    struct batch *b = &js->batch;
    int32_t n_decode = 0, n_prompt = 0;
    const int64_t start = clock_now_ns();
    batch_begin(b);
    int32_t n_waiting = 0; /* of those that decode */
    for (int32_t i = 0; i < n_running; i++)
        n_waiting += js->order[i]->state == JOB_DECODE;
    for (int pass = 0; pass < 2; pass++) /* decoding first: it is short, and it waits for every prompt's rows */
        for (int32_t i = 0; i < n_running && b->n_members < limit; i++) {
            struct job *j = js->order[i];
            if (!j || (j->state != (pass == 0 ? JOB_DECODE : JOB_PREFILL)))
                continue;
            n_waiting -= pass == 0;
            const int32_t most = batch_room(b) - n_waiting; /* a row stays for each of the others */
            int32_t rows = 0;
            struct err why = {0};
            if (j->state == JOB_PREFILL && !j->pending.chunks) { /* all its pictures are there */
                j->pending = pending_init(j->chunks, j->n_chunks);
                j->prefill_start_ns = start;
            }
            if (batch_add(b, j->session, &j->pending, pass == 0 && most > 0 ? most : 0, EN_WANT_LAST, j, &rows, &why) !=
                0) { /* no page for it: only this job ends */
                finish(js, j, EN_FINISH_ERROR, &why);
                js->order[i] = NULL;
                continue;
            }
            j->is_in_pass = rows > 0;
            if (pass == 0)
                n_decode += rows;
            else {
                n_prompt += rows;
                j->plan.prompt_rows -= rows;
            }
        }
    int rc = batch_run(b, err);
    for (int32_t at = 0; rc == 0 && at < b->n_rows; at += e->pass.max_logits) {
        const int32_t n = b->n_rows - at < e->pass.max_logits ? b->n_rows - at : e->pass.max_logits;
        const struct kn_top *tops = NULL;
        for (int32_t r = 0; r < n; r++) { /* while the device computes */
            const struct job *j = b->rows[at + r].user;
            answer_mask(j->answer, batch_mask(b, r));
        }
        if ((rc = batch_tops(b, at, n, &tops, err)) != 0)
            break;
        for (int32_t r = 0; r < n; r++) {
            struct whole_row whole = {.batch = b, .row = at + r};
            const struct answer_row row = {
                .mask = batch_mask(b, r), .top = tops + r * KN_TOP_K_MAX, .logits = read_whole_row, .ctx = &whole};
            next_token(js, b->rows[at + r].user, &row, clock_now_ns());
        }
    }
    if (rc == 0) {
        scheduler_note_step(&js->scheduler, n_prompt, n_decode, clock_now_ns() - start - e->breath.rested_ns);
        js->progress.prompt_rows += (uint64_t)n_prompt;
    }
    return rc;
}

int64_t en_rest_ns(const struct en_engine *e, const struct en_permit *permit)
{
    if (e->jobs->n == 0)
        return 0;
    const int64_t left = breath_rest_ns(&e->breath, permit->idle_permille);
    return e->breath.is_on || left >= EN_REST_LEAST_NS ? left : 0;
}

/* The pass was given up: what its jobs had is worth nothing. */
static void drop_pass(struct jobs *js)
{
    for (int32_t i = js->n - 1; i >= 0; i--)
        if (js->list[i]->is_in_pass)
            finish(js, js->list[i], EN_FINISH_DEADLINE, NULL);
}

/* The work of one step. */
static int work(struct jobs *js, int32_t n_running, int32_t limit, struct err *err)
{
    struct job *to_encode = NULL;
    for (int32_t i = 0; i < n_running && i < limit && !to_encode; i++)
        if (js->order[i]->state == JOB_VISION)
            to_encode = js->order[i];
    if (!to_encode)
        return run_batch(js, n_running, limit, err);
    struct err why = {0};
    to_encode->is_in_pass = true;
    const int rc = encode_next(js, to_encode, &why);
    if (rc == 0)
        return 0;
    if (rc != ERR_CANCELLED)
        finish(js, to_encode, EN_FINISH_ERROR, &why);
    if (rc != ERR_CANCELLED && !js->engine->is_dead) /* only this job ends */
        return 0;
    if (err)
        *err = why;
    return rc;
}

int en_step(struct en_engine *e, const struct en_permit *permit, bool *ret_busy, struct err *err)
{
    struct jobs *js = e->jobs;
    int rc = engine_check(e, err);
    if (rc != 0)
        return rc;
    const int64_t start = clock_now_ns();
    if (permit)
        js->scheduler.pace = 1 - permit->idle_permille / 1000.0;
    shed_late(js, start);
    if (!permit || permit->batch < 1 || permit->expires_ns <= start)
        return err_set(err, ERR_STATE, "no permit: nothing is submitted");
    const int64_t rest_ns = en_rest_ns(e, permit);
    if (rest_ns > 0) { /* the caller comes again, maybe with another permit */
        clock_sleep_until_ns(start + (rest_ns < IDLE_MAX_NS ? rest_ns : IDLE_MAX_NS));
        if (ret_busy)
            *ret_busy = js->n > 0;
        return 0;
    }
    const int32_t limit = permit->batch < e->options.batch ? permit->batch : e->options.batch;
    admit(js, limit, start);
    const int32_t n_running = sort_running(js);
    if (n_running > 0) {
        for (int32_t i = 0; i < n_running; i++)
            js->order[i]->is_in_pass = false;
        js->n_under_way = n_running < limit ? n_running : limit;
        breath_begin(&e->breath, permit->idle_permille);
        rc = work(js, n_running, limit, err);
        const int64_t busy_ns = breath_all(&e->breath).busy_ns;
        breath_end(&e->breath);
        js->progress.busy_ns += busy_ns;
        js->progress.sequence_ns += busy_ns * js->n_under_way;
    }
    if (rc == ERR_CANCELLED)
        drop_pass(js);
    if (ret_busy)
        *ret_busy = js->n > 0;
    return rc;
}
