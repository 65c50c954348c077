#include "engine/answer.h"

#include <math.h>
#include <string.h>

#include "base/utf8.h"
#include "engine/blocks.h"
#include "engine/constraint.h"
#include "engine/forced.h"
#include "engine/sampler.h"
#include "engine/tokenizer.h"

enum phase {
    THINKING, /* free text up to </think> */
    ANSWERING
};

/* Tokens of one call of answer_next: the one that is drawn, or those that end a thought, and what must follow. */
#define NEXT_MAX (1 + ENGINE_THOUGHT_END_MAX + FORCED_MAX)

/* Bytes of the tokens so far. */
struct text {
    char *bytes; /* [capacity], behind the answer's struct */
    size_t n, capacity;
};

/*
 * What becomes the result: one block, taken at open for the largest answer that can come. Layout: scores, each score's names and probabilities, all strings
 * of the scores, then the two texts in UTF-8.
 */
struct out {
    struct en_score *scores; /* the block */
    int32_t n_scores;
    char *strings, *text, *thought; /* strings: where the next goes */
    const char **names;             /* where the next score's go */
    double *p;
};

struct answer {
    struct en_engine *engine;
    struct en_sampling sampling;
    struct en_schema *schema;
    struct constraint constraint;
    struct verdict verdict;
    enum phase phase;
    int32_t max_tokens, n_tokens; /* of the answer proper */
    int32_t max_thought, n_thought;
    int32_t next[NEXT_MAX], n_next; /* what answer_next hands out */
    uint64_t drawn;                 /* counter of the sampler's stream */
    bool is_cut;
    struct text text, thought;
    struct out out;
    /* while a choice is read */
    const struct answer_row *row;
    const float *logits; /* NULL: all allowed tokens are among row->top */
    double log_sum;      /* over the allowed tokens */
};

/* ---- open and close ------------------------------------------------------------------------------------------------------------------ */

/* Bytes that repairing may make of n. */
static size_t repaired_max(size_t n)
{
    return 3 * n + 1;
}

/* Take the block of the result. Choices inside arrays have no score, so the figures are upper bounds. */
static int out_open(struct answer *a, struct err *err)
{
    size_t n_scores = 0, n_alternatives = 0, n_chars = 0;
    for (int32_t i = 0; a->schema && i < a->schema->n_nodes; i++) {
        const struct schema_node *n = &a->schema->nodes[i];
        if (n->kind != SCHEMA_LITERAL || !n->path)
            continue;
        n_scores++;
        n_alternatives += (size_t)n->n_alternatives;
        n_chars += strlen(n->path) + 1;
        for (int32_t k = 0; k < n->n_alternatives; k++)
            n_chars += (size_t)n->alternatives[k].n + 1;
    }
    struct out *o = &a->out;
    const size_t bytes = n_scores * sizeof *o->scores + n_alternatives * (sizeof *o->p + sizeof *o->names) + n_chars +
                         repaired_max(a->text.capacity) + repaired_max(a->thought.capacity);
    o->scores = blocks_take(a->engine->blocks, bytes);
    if (!o->scores)
        return err_set(err, ERR_NOMEM, "out of memory: an answer of up to %zu bytes", bytes);
    o->p = (double *)(o->scores + n_scores);
    o->names = (const char **)(o->p + n_alternatives);
    o->text = (char *)(o->names + n_alternatives);
    o->thought = o->text + repaired_max(a->text.capacity);
    o->strings = o->thought + repaired_max(a->thought.capacity);
    return 0;
}

int answer_open(struct en_engine *e, const struct en_job *job, struct answer **ret_answer, struct err *err)
{
    int rc = sampler_check(&job->sampling, err);
    if (rc != 0)
        return rc;
    if (job->max_tokens < 1)
        return err_set(err, ERR_INVAL, "an answer of %d tokens", job->max_tokens);
    if (job->thinking && e->id_think_end < 0)
        return err_set(err, ERR_UNSUPPORTED, "%s: the vocabulary has no </think>, so it cannot think before it answers",
                       e->name);
    /* what is longer than the context is refused by the caller, who knows the prompt too */
    const int32_t most = job->max_tokens < e->options.context_tokens ? job->max_tokens : e->options.context_tokens;
    const size_t n_text = (size_t)most * e->token_bytes_max,
                 n_thought = job->thinking ? ANSWER_THOUGHT_TOKENS * e->token_bytes_max : 0;
    struct answer *a = blocks_take(e->blocks, sizeof *a + n_text + n_thought);
    if (!a)
        return err_set(err, ERR_NOMEM, "out of memory: an answer of up to %zu bytes", n_text + n_thought);
    *a = (struct answer){.engine = e, .sampling = job->sampling, .phase = ANSWERING, .max_tokens = job->max_tokens};
    a->text = (struct text){.bytes = (char *)(a + 1), .capacity = n_text};
    a->thought = (struct text){.bytes = a->text.bytes + n_text, .capacity = n_thought};
    if (job->thinking) {
        a->phase = THINKING;
        a->max_thought = ANSWER_THOUGHT_TOKENS;
    }
    verdict_init(&a->verdict);
    if (job->schema) {
        a->schema = en_schema_ref(job->schema);
        constraint_init(&a->constraint, a->schema);
        const int32_t least = constraint_close_tokens(e->constraint_vocab, &a->constraint);
        if (least == INT32_MAX) {
            rc = err_set(err, ERR_INVAL,
                         "the schema's shortest answer is longer than %d bytes, or this vocabulary cannot spell it",
                         SCHEMA_CLOSE_MAX);
            goto fail;
        }
        if (least > job->max_tokens) {
            rc = err_set(err, ERR_INVAL, "an answer of at most %d tokens: the schema's shortest takes %d", job->max_tokens,
                         least);
            goto fail;
        }
    }
    if ((rc = out_open(a, err)) != 0)
        goto fail;
    *ret_answer = a;
    return 0;
fail:
    answer_close(a);
    return rc;
}

void answer_close(struct answer *a)
{
    if (!a)
        return;
    en_schema_unref(a->schema);
    blocks_put(a->out.scores);
    blocks_put(a);
}

int64_t answer_tokens_max(const struct answer *a)
{
    return (int64_t)a->max_tokens + a->max_thought + (a->max_thought ? a->engine->n_thought_end : 0);
}

int32_t answer_tokens(const struct answer *a)
{
    return a->n_tokens + a->n_thought;
}

/* ---- the next token -------------------------------------------------------------------------------------------------------------------- */

static void append(struct text *t, const char *bytes, size_t n)
{
    if (n > t->capacity - t->n)
        n = t->capacity - t->n;
    memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
}

static const char *bytes_of(void *ctx, int32_t token, size_t *ret_n)
{
    const struct answer *a = ctx;
    return tokenizer_token_bytes(a->engine->tokenizer, token, ret_n);
}

/* How many of the row's most probable tokens there are: fewer than KN_TOP_K_MAX are all that is allowed. */
static int32_t count_top(const struct answer_row *row)
{
    int32_t n = 0;
    while (n < KN_TOP_K_MAX && row->top[n].index >= 0)
        n++;
    return n;
}

static double p_of(void *ctx, int32_t token)
{
    const struct answer *a = ctx;
    if (a->logits)
        return isnan(a->logits[token]) ? 0 : exp((double)a->logits[token] - a->log_sum);
    for (int32_t i = 0; i < KN_TOP_K_MAX && a->row->top[i].index >= 0; i++)
        if (a->row->top[i].index == token)
            return exp((double)a->row->top[i].x - a->log_sum);
    return 0;
}

/* Copy n bytes and a NUL to where the next string goes. */
static const char *keep_string(struct out *o, const char *bytes, size_t n)
{
    char *s = o->strings;
    memcpy(s, bytes, n);
    s[n] = '\0';
    o->strings += n + 1;
    return s;
}

/* The alternative as people read it: JSON without the quotes of a string. */
static const char *keep_name(struct out *o, const struct schema_text *t)
{
    const bool is_string = t->n >= 2 && t->bytes[0] == '"';
    return is_string ? keep_string(o, t->bytes + 1, (size_t)t->n - 2) : keep_string(o, t->bytes, (size_t)t->n);
}

/* A choice is complete: keep its probabilities. */
static void keep_score(struct answer *a, int32_t chosen)
{
    const struct schema_node *n = &a->schema->nodes[a->verdict.node];
    struct out *o = &a->out;
    for (int32_t i = 0; i < o->n_scores; i++)
        if (strcmp(o->scores[i].path, n->path) ==
            0) /* the block has room for each choice once; outside arrays it is made once */
            return;
    struct en_score *s = &o->scores[o->n_scores++];
    *s = (struct en_score){.path = keep_string(o, n->path, strlen(n->path)),
                           .n = n->n_alternatives,
                           .names = o->names,
                           .p = o->p,
                           .chosen = chosen};
    for (int32_t i = 0; i < s->n; i++) {
        *o->names++ = keep_name(o, &n->alternatives[i]);
        *o->p++ = a->verdict.p[i];
    }
}

/* The logarithm of the sum of e^logit over the allowed tokens, of which one at least has a number. */
static double log_sum(const struct answer *a)
{
    const struct answer_row *row = a->row;
    const int32_t V = a->engine->model->shape.n_vocab;
    double top = -INFINITY, sum = 0;
    if (!a->logits) {
        top = (double)row->top[0].x;
        for (int32_t i = 0; i < KN_TOP_K_MAX && row->top[i].index >= 0; i++)
            sum += exp((double)row->top[i].x - top);
        return top + log(sum);
    }
    for (int32_t t = 0; t < V; t++)
        if (row->mask[t / 32] >> t % 32 & 1 && (double)a->logits[t] > top)
            top = (double)a->logits[t];
    for (int32_t t = 0; t < V; t++)
        if (row->mask[t / 32] >> t % 32 & 1 && !isnan(a->logits[t]))
            sum += exp((double)a->logits[t] - top);
    return top + log(sum);
}

/* Look at a choice through the logits that decided a token of it. */
static int read_choice(struct answer *a, const struct answer_row *row, int32_t token, struct err *err)
{
    a->row = row;
    a->logits = NULL;
    const int rc = count_top(row) < KN_TOP_K_MAX ? 0 : row->logits(row->ctx, &a->logits, err);
    if (rc != 0)
        return rc;
    a->log_sum = log_sum(a);
    int32_t chosen = 0;
    if (verdict_observe(&a->verdict, a->engine->constraint_vocab, &a->constraint, row->mask, token, p_of, a, bytes_of,
                        &chosen)) {
        keep_score(a, chosen);
        verdict_init(&a->verdict);
    }
    return 0;
}

static bool in_choice(const struct answer *a)
{
    return a->constraint.depth > 0 &&
           a->schema->nodes[a->constraint.frames[a->constraint.depth - 1].node].kind == SCHEMA_LITERAL;
}

void answer_mask(struct answer *a, uint32_t *mask)
{
    struct en_engine *e = a->engine;
    const size_t mask_bytes = ((size_t)e->model->shape.n_vocab + 31) / 32 * sizeof *mask;
    if (a->phase == THINKING || !a->schema) {
        memcpy(mask, e->free_mask, mask_bytes);
    } else {
        constraint_mask(e->constraint_vocab, &a->constraint, a->max_tokens - a->n_tokens, mask);
        /* a bare number may end or go on: the model says which */
        const int32_t *stops;
        const int32_t n_stops = constraint_can_end(&a->constraint) ? tokenizer_get_stops(e->tokenizer, &stops) : 0;
        for (int32_t i = 0; i < n_stops; i++)
            mask[stops[i] / 32] |= 1u << stops[i] % 32;
    }
}

/* Draw a token: of the most probable ones, or, where the job's sampling wants more of them, of all. */
static int draw(struct answer *a, const struct answer_row *row, int32_t *ret_token, struct err *err)
{
    struct sampler *s = a->engine->sampler;
    const int32_t n = count_top(row);
    if (n < KN_TOP_K_MAX || sampler_is_enough(&a->sampling, n))
        return sampler_pick_top(s, &a->sampling, a->drawn++, row->top, n, ret_token, err);
    const float *logits = NULL;
    const int rc = row->logits(row->ctx, &logits, err);
    return rc == 0 ? sampler_pick(s, &a->sampling, a->drawn++, logits, row->mask, ret_token, err) : rc;
}

/* Put down a token of the object. */
static int put_down(struct answer *a, int32_t token, struct err *err)
{
    size_t n;
    const char *bytes = tokenizer_token_bytes(a->engine->tokenizer, token, &n);
    if (!constraint_take(&a->constraint, bytes, n))
        return err_set(err, ERR_STATE, "token %d is in the mask, but not in the schema", token);
    append(&a->text, bytes, n);
    a->n_tokens++;
    a->next[a->n_next++] = token;
    return 0;
}

/* Put down what the schema leaves no choice about. is_last_drawn: but for the token that completes the object, so that there is one to be drawn. */
static int force(struct answer *a, bool is_last_drawn, struct err *err)
{
    int32_t ids[FORCED_MAX], n = forced_next(a->engine->forced, &a->constraint, a->max_tokens - a->n_tokens, ids);
    int rc = 0;
    for (int32_t i = 0; rc == 0 && i < n; i++) {
        struct constraint after;
        size_t n_bytes;
        const char *bytes = tokenizer_token_bytes(a->engine->tokenizer, ids[i], &n_bytes);
        int32_t chosen = 0;
        constraint_copy(&after, &a->constraint);
        if (is_last_drawn && constraint_take(&after, bytes, n_bytes) && constraint_is_done(&after))
            return 0;
        if (verdict_force(&a->verdict, &a->constraint, bytes, n_bytes, &chosen)) {
            keep_score(a, chosen);
            verdict_init(&a->verdict);
        }
        rc = put_down(a, ids[i], err);
    }
    return rc;
}

static int next_of_schema(struct answer *a, const struct answer_row *row, bool *ret_done, struct err *err)
{
    struct en_engine *e = a->engine;
    int32_t token;
    int rc = draw(a, row, &token, err);
    if (rc != 0)
        return rc;
    if (constraint_can_end(&a->constraint) && tokenizer_is_stop(e->tokenizer, token)) {
        *ret_done = true;
        return 0;
    }
    if (in_choice(a) && (rc = read_choice(a, row, token, err)) != 0)
        return rc;
    if ((rc = put_down(a, token, err)) != 0 || (!constraint_is_done(&a->constraint) && (rc = force(a, false, err)) != 0))
        return rc;
    *ret_done = constraint_is_done(&a->constraint) || (a->n_tokens == a->max_tokens && constraint_can_end(&a->constraint));
    return 0;
}

static int next_free(struct answer *a, const struct answer_row *row, bool *ret_done, struct err *err)
{
    struct en_engine *e = a->engine;
    int32_t token;
    const int rc = draw(a, row, &token, err);
    if (rc != 0)
        return rc;
    if (tokenizer_is_stop(e->tokenizer, token)) {
        *ret_done = true;
        return 0;
    }
    size_t n;
    const char *bytes = tokenizer_token_bytes(e->tokenizer, token, &n);
    append(&a->text, bytes, n);
    a->next[a->n_next++] = token;
    a->n_tokens++;
    a->is_cut = *ret_done = a->n_tokens == a->max_tokens;
    return 0;
}

static int next_thought(struct answer *a, const struct answer_row *row, struct err *err)
{
    const struct en_engine *e = a->engine;
    int32_t token;
    const int rc = draw(a, row, &token, err);
    if (rc != 0)
        return rc;
    a->n_thought++;
    if (token != e->id_think_end && !tokenizer_is_stop(e->tokenizer, token) && a->n_thought < a->max_thought) {
        size_t n;
        const char *bytes = tokenizer_token_bytes(e->tokenizer, token, &n);
        append(&a->thought, bytes, n);
        a->next[a->n_next++] = token;
        return 0;
    }
    /* it ends as the format has it: from </think> on, or, where it stopped without an answer or went on too long, from before that */
    int32_t i = 0;
    while (token == e->id_think_end && i < e->n_thought_end && e->thought_end[i] != token)
        i++;
    if (i == e->n_thought_end)
        a->next[a->n_next++] = token;
    for (; i < e->n_thought_end; i++)
        a->next[a->n_next++] = e->thought_end[i];
    a->phase = ANSWERING;
    return a->schema ? force(a, true, err) : 0;
}

int answer_begin(struct answer *a, const int32_t **ret_tokens, int32_t *ret_n, struct err *err)
{
    a->n_next = 0;
    const int rc = a->phase == ANSWERING && a->schema ? force(a, true, err) : 0;
    *ret_tokens = a->next;
    *ret_n = a->n_next;
    return rc;
}

int answer_next(struct answer *a, const struct answer_row *row, const int32_t **ret_tokens, int32_t *ret_n, bool *ret_done,
                struct err *err)
{
    *ret_done = false;
    a->n_next = 0;
    int rc;
    if (a->phase == THINKING)
        rc = next_thought(a, row, err);
    else if (a->schema)
        rc = next_of_schema(a, row, ret_done, err);
    else
        rc = next_free(a, row, ret_done, err);
    *ret_tokens = a->next;
    *ret_n = a->n_next;
    return rc == 0 ? 0 : err_prefix(err, "token %d of the answer", answer_tokens(a));
}

/* ---- the result -------------------------------------------------------------------------------------------------------------------------- */

/* Bytes of tokens to text in out[repaired_max(t->capacity)]: well-formed UTF-8, white space at both ends dropped. */
static char *repaired(const struct text *t, char *out)
{
    const size_t n = utf8_repair(t->bytes, t->n, out, repaired_max(t->capacity) - 1);
    out[n] = '\0';
    size_t from = strspn(out, " \t\r\n"), end = n;
    while (end > from && strchr(" \t\r\n", out[end - 1]))
        end--;
    memmove(out, out + from, end - from);
    out[end - from] = '\0';
    return out;
}

void *answer_finish(struct answer *a, struct en_result *r)
{
    struct out *o = &a->out;
    void *memory = o->scores;
    r->finish = a->is_cut ? EN_FINISH_LENGTH : EN_FINISH_STOP;
    r->text = repaired(&a->text, o->text);
    if (a->max_thought)
        r->thought = repaired(&a->thought, o->thought);
    r->scores = o->scores;
    r->n_scores = o->n_scores;
    *o = (struct out){0};
    return memory;
}
