#include "engine/answer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "engine/constraint.h"
#include "engine/sampler.h"
#include "engine/tokenizer.h"

enum phase {
    THINKING, /* free text up to </think> */
    CLOSING,  /* the thought was too long: the tokens that end it are forced */
    ANSWERING
};

struct text {
    char *bytes;
    size_t n, capacity;
};

struct scores {
    struct en_score *list;
    int32_t n, capacity;
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
    int32_t forced[8], n_forced, i_forced; /* what ends a thought */
    int32_t id_think_end;
    uint64_t drawn; /* counter of the sampler's stream */
    bool is_cut;
    struct text text, thought;
    struct scores scores;
    /* while a choice is read */
    const float *logits;
    double log_sum; /* over the allowed tokens */
};

/* ---- open and close ------------------------------------------------------------------------------------------------------------------ */

static int text_open(struct text *t, size_t capacity, struct err *err)
{
    t->bytes = malloc(capacity + 1);
    t->capacity = capacity;
    return t->bytes ? 0 : err_set(err, ERR_NOMEM, "out of memory: an answer of up to %zu bytes", capacity);
}

/* The longest token's bytes, and the tokens that end a thought. */
static int prepare_thinking(struct answer *a, struct err *err)
{
    static const char end[] = "\n</think>\n\n";
    struct en_engine *e = a->engine;
    a->phase = THINKING;
    a->id_think_end = tokenizer_find(e->tokenizer, "</think>", 8);
    int32_t *ids = NULL;
    size_t n = 0;
    const int rc = en_tokenize(e, end, sizeof end - 1, true, &ids, &n, err);
    if (rc != 0)
        return rc;
    if (a->id_think_end < 0 || n > sizeof a->forced / sizeof *a->forced) {
        free(ids);
        return err_set(err, ERR_UNSUPPORTED, "%s: the vocabulary has no </think>, so it cannot think before it answers",
                       e->name);
    }
    memcpy(a->forced, ids, n * sizeof *ids);
    a->n_forced = (int32_t)n;
    free(ids);
    a->max_thought = ANSWER_THOUGHT_TOKENS;
    return 0;
}

int answer_open(struct en_engine *e, const struct en_job *job, struct answer **ret_answer, struct err *err)
{
    int rc = sampler_check(&job->sampling, err);
    if (rc != 0)
        return rc;
    if (job->max_tokens < 1)
        return err_set(err, ERR_INVAL, "an answer of %d tokens", job->max_tokens);
    struct answer *a = calloc(1, sizeof *a);
    if (!a)
        return err_set(err, ERR_NOMEM, "out of memory: an answer");
    a->engine = e;
    a->sampling = job->sampling;
    a->max_tokens = job->max_tokens;
    a->phase = ANSWERING;
    verdict_init(&a->verdict);
    if (job->schema) {
        a->schema = en_schema_ref(job->schema);
        constraint_init(&a->constraint, a->schema);
        const int32_t least = constraint_close_tokens(e->constraint_vocab, &a->constraint);
        if (least > job->max_tokens) {
            rc = err_set(err, ERR_INVAL, "an answer of at most %d tokens: the schema's shortest takes %d", job->max_tokens,
                         least);
            goto fail;
        }
        int32_t n_choices = 0;
        for (int32_t i = 0; i < a->schema->n_nodes; i++)
            n_choices += a->schema->nodes[i].kind == SCHEMA_LITERAL;
        a->scores.capacity = n_choices;
        a->scores.list = calloc((size_t)n_choices + 1, sizeof *a->scores.list);
        if (!a->scores.list) {
            rc = err_set(err, ERR_NOMEM, "out of memory: scores");
            goto fail;
        }
    }
    const size_t longest = e->token_bytes_max;
    if ((rc = text_open(&a->text, (size_t)a->max_tokens * longest, err)) != 0)
        goto fail;
    if (job->thinking &&
        ((rc = prepare_thinking(a, err)) != 0 || (rc = text_open(&a->thought, (size_t)a->max_thought * longest, err)) != 0))
        goto fail;
    *ret_answer = a;
    return 0;
fail:
    answer_close(a);
    return rc;
}

static void release_scores(struct scores *s)
{
    for (int32_t i = 0; i < s->n; i++) {
        free((void *)s->list[i].path);
        for (int32_t k = 0; s->list[i].names && k < s->list[i].n; k++)
            free((void *)s->list[i].names[k]);
        free((void *)s->list[i].names);
        free((void *)s->list[i].p);
    }
    free(s->list);
    *s = (struct scores){0};
}

void answer_close(struct answer *a)
{
    if (!a)
        return;
    en_schema_unref(a->schema);
    release_scores(&a->scores);
    free(a->text.bytes);
    free(a->thought.bytes);
    free(a);
}

int32_t answer_tokens_max(const struct answer *a)
{
    return a->max_tokens + a->max_thought + a->n_forced;
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

static double p_of(void *ctx, int32_t token)
{
    const struct answer *a = ctx;
    return isnan(a->logits[token]) ? 0 : exp((double)a->logits[token] - a->log_sum);
}

/* The alternative as people read it: JSON without the quotes of a string. */
static char *plain_name(const struct schema_text *t)
{
    return t->n >= 2 && t->bytes[0] == '"' ? strndup(t->bytes + 1, (size_t)t->n - 2) : strdup(t->bytes);
}

/* A choice is complete: keep its probabilities. Where memory is short the score is left out, not the answer. */
static void keep_score(struct answer *a, int32_t chosen)
{
    const struct schema_node *n = &a->schema->nodes[a->verdict.node];
    if (a->scores.n == a->scores.capacity)
        return;
    struct en_score *s = &a->scores.list[a->scores.n];
    const char **names = calloc((size_t)n->n_alternatives, sizeof *names);
    double *p = malloc((size_t)n->n_alternatives * sizeof *p);
    s->path = strdup(n->path);
    s->names = names;
    s->p = p;
    s->n = n->n_alternatives;
    s->chosen = chosen;
    a->scores.n++;
    bool ok = s->path && names && p;
    for (int32_t i = 0; ok && i < s->n; i++) {
        names[i] = plain_name(&n->alternatives[i]);
        p[i] = a->verdict.p[i];
        ok = names[i] != NULL;
    }
    if (!ok) {
        free((void *)s->path);
        for (int32_t i = 0; names && i < s->n; i++)
            free((void *)names[i]);
        free(names);
        free(p);
        a->scores.n--;
    }
}

/* Look at a choice through the logits that decided a token of it. */
static void read_choice(struct answer *a, const float *logits, const uint32_t *mask, int32_t token)
{
    double top = -INFINITY, sum = 0;
    const int32_t V = a->engine->model->shape.n_vocab;
    for (int32_t t = 0; t < V; t++)
        if (mask[t / 32] >> t % 32 & 1 && logits[t] > top)
            top = logits[t];
    for (int32_t t = 0; t < V; t++)
        if (mask[t / 32] >> t % 32 & 1 && !isnan(logits[t]))
            sum += exp((double)logits[t] - top);
    a->logits = logits;
    a->log_sum = top + log(sum > 0 ? sum : 1); /* the drawn token has a number, so sum is positive */
    int32_t chosen = 0;
    if (verdict_observe(&a->verdict, a->engine->constraint_vocab, &a->constraint, mask, token, p_of, a, bytes_of, &chosen)) {
        keep_score(a, chosen);
        verdict_init(&a->verdict);
    }
}

static bool in_choice(const struct answer *a)
{
    return a->constraint.depth > 0 &&
           a->schema->nodes[a->constraint.frames[a->constraint.depth - 1].node].kind == SCHEMA_LITERAL;
}

static int next_of_schema(struct answer *a, const float *logits, int32_t *ret_token, bool *ret_done, struct err *err)
{
    struct en_engine *e = a->engine;
    uint32_t *mask = e->mask;
    const int32_t remaining = a->max_tokens - a->n_tokens;
    constraint_mask(e->constraint_vocab, &a->constraint, remaining, mask);
    /* a bare number may end or go on: the model says which */
    const bool can_end = constraint_can_end(&a->constraint);
    const int32_t *stops;
    const int32_t n_stops = tokenizer_get_stops(e->tokenizer, &stops);
    for (int32_t i = 0; can_end && i < n_stops; i++)
        mask[stops[i] / 32] |= 1u << stops[i] % 32;
    const int rc = sampler_pick(e->sampler, &a->sampling, a->drawn++, logits, mask, ret_token, err);
    if (rc != 0)
        return rc;
    if (can_end && tokenizer_is_stop(e->tokenizer, *ret_token)) {
        *ret_done = true;
        return 0;
    }
    if (in_choice(a))
        read_choice(a, logits, mask, *ret_token);
    size_t n;
    const char *bytes = tokenizer_token_bytes(e->tokenizer, *ret_token, &n);
    if (!constraint_take(&a->constraint, bytes, n))
        return err_set(err, ERR_STATE, "token %d is in the mask, but not in the schema", *ret_token);
    append(&a->text, bytes, n);
    a->n_tokens++;
    *ret_done = constraint_is_done(&a->constraint) || (a->n_tokens == a->max_tokens && constraint_can_end(&a->constraint));
    return 0;
}

static int next_free(struct answer *a, const float *logits, int32_t *ret_token, bool *ret_done, struct err *err)
{
    struct en_engine *e = a->engine;
    const int rc = sampler_pick(e->sampler, &a->sampling, a->drawn++, logits, e->free_mask, ret_token, err);
    if (rc != 0)
        return rc;
    if (tokenizer_is_stop(e->tokenizer, *ret_token)) {
        *ret_done = true;
        return 0;
    }
    size_t n;
    const char *bytes = tokenizer_token_bytes(e->tokenizer, *ret_token, &n);
    append(&a->text, bytes, n);
    a->n_tokens++;
    a->is_cut = *ret_done = a->n_tokens == a->max_tokens;
    return 0;
}

static int next_thought(struct answer *a, const float *logits, int32_t *ret_token, struct err *err)
{
    struct en_engine *e = a->engine;
    if (a->phase == CLOSING) {
        *ret_token = a->forced[a->i_forced++];
    } else {
        const int rc = sampler_pick(e->sampler, &a->sampling, a->drawn++, logits, e->free_mask, ret_token, err);
        if (rc != 0)
            return rc;
        a->n_thought++;
        if (*ret_token == a->id_think_end) {
            /* what follows it in the format is forced: the tokens behind </think> */
            a->phase = CLOSING;
            a->i_forced = 0;
            while (a->i_forced < a->n_forced && a->forced[a->i_forced] != a->id_think_end)
                a->i_forced++;
            a->i_forced++;
        } else if (tokenizer_is_stop(e->tokenizer, *ret_token) || a->n_thought >= a->max_thought) {
            /* it stopped without an answer, or went on too long: end the thought for it */
            a->phase = CLOSING;
            a->i_forced = 0;
            *ret_token = a->forced[a->i_forced++];
        } else {
            size_t n;
            const char *bytes = tokenizer_token_bytes(e->tokenizer, *ret_token, &n);
            append(&a->thought, bytes, n);
        }
    }
    if (a->phase == CLOSING && a->i_forced >= a->n_forced)
        a->phase = ANSWERING;
    return 0;
}

int answer_next(struct answer *a, float *logits, int32_t *ret_token, bool *ret_done, struct err *err)
{
    *ret_done = false;
    int rc;
    if (a->phase != ANSWERING)
        rc = next_thought(a, logits, ret_token, err);
    else if (a->schema)
        rc = next_of_schema(a, logits, ret_token, ret_done, err);
    else
        rc = next_free(a, logits, ret_token, ret_done, err);
    return rc == 0 ? 0 : err_prefix(err, "token %d of the answer", answer_tokens(a));
}

/* ---- the result -------------------------------------------------------------------------------------------------------------------------- */

/* Bytes of tokens to text: well-formed UTF-8, white space at both ends dropped. */
static char *repaired(const struct text *t)
{
    const size_t need = utf8_repair(t->bytes, t->n, NULL, 0);
    char *out = malloc(need + 1);
    if (!out)
        return NULL;
    utf8_repair(t->bytes, t->n, out, need);
    out[need] = '\0';
    size_t from = strspn(out, " \t\r\n"), end = need;
    while (end > from && strchr(" \t\r\n", out[end - 1]))
        end--;
    memmove(out, out + from, end - from);
    out[end - from] = '\0';
    return out;
}

int answer_finish(struct answer *a, struct en_result *r, struct err *err)
{
    r->finish = a->is_cut ? EN_FINISH_LENGTH : EN_FINISH_STOP;
    r->text = repaired(&a->text);
    if (a->thought.bytes)
        r->thought = repaired(&a->thought);
    if (!r->text || (a->thought.bytes && !r->thought))
        return err_set(err, ERR_NOMEM, "out of memory: an answer of %zu bytes", a->text.n);
    r->scores = a->scores.list;
    r->n_scores = a->scores.n;
    a->scores = (struct scores){0};
    return 0;
}
