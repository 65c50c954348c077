/*
 * The shipped model on the device under test ($HERON_TEST_DEVICE, the CPU without it) and on the reference: the same words get nearly the same logits, and word by word, as an answer is
 * written, exactly the same as all at once. The steps of an answer are what a device records: the first runs as ever, the second is noted, the others are replayed. An answer to a
 * question is the same too, and its score nearly. What a schema leaves no choice about needs no pass of the model, and the answer is the one that the model gives when it is asked each time.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/constraint.h"
#include "engine/internal.h"
#include "engine/tokenizer.h"
#include "tests/support/test.h"

#define MODEL   "config/model/heron.gguf"
#define ROWS    7 /* few: a device may be one that a host imitates, thread by thread */
#define ANSWERS 4 /* of them one by one */

/* Divergence from the reference in nats. The CPU rounds what it multiplies to eight bits, tensor cores to eleven. */
#define KL_CPU  0.01
#define KL_CUDA 1e-5

struct seen {
    int32_t n_vocab, n;
    float *rows; /* [ROWS, V] */
};

static void keep_row(void *ctx, struct en_session *session, int32_t index, bool is_image, const int32_t pos[3],
                     const float *logits)
{
    struct seen *s = ctx;
    assert_true(s->n < ROWS);
    memcpy(s->rows + (size_t)s->n++ * (size_t)s->n_vocab, logits, (size_t)s->n_vocab * sizeof *logits);
}

/* The logits of all words, of which the first n_prompt come at once. */
static struct seen look(const char *device, int32_t n_prompt)
{
    static const char text[] = "<|im_start|>user\nDescribe the picture.<|im_end|>\n";
    struct en_engine *e = NULL;
    struct en_session *session = NULL;
    struct en_info info;
    struct err err = {0};
    const struct en_options o = {.model_path = MODEL, .device = device, .context_tokens = 64, .sessions = 1, .step_rows = ROWS};
    assert_ok(en_open(&o, &e, &err), &err);
    en_get_info(e, &info);
    struct en_vocab *vocab = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    assert_ok(en_vocab_open(MODEL, &vocab, &err), &err);
    assert_ok(en_vocab_tokenize(vocab, text, strlen(text), true, &ids, &n, &err), &err);
    assert_true(n >= ROWS);
    struct seen s = {.n_vocab = info.n_vocab, .rows = test_malloc((size_t)ROWS * (size_t)info.n_vocab * sizeof(float))};
    assert_ok(en_session_open(e, &session, &err), &err);
    for (int32_t at = 0, step = n_prompt; at < ROWS; at += step, step = 1) {
        const struct en_chunk chunk = {.ids = ids + at, .n_ids = step};
        const struct en_feed feed = {.session = session, .chunks = &chunk, .n_chunks = 1, .want = EN_WANT_ALL};
        assert_ok(en_run(e, &feed, 1, keep_row, &s, &err), &err);
    }
    assert_int_equal(s.n, ROWS);
    en_session_close(session);
    en_close(e);
    free(ids);
    en_vocab_close(vocab);
    return s;
}

/* Kullback-Leibler divergence of row i of b from that of a, in nats. */
static double divergence(const struct seen *a, const struct seen *b, int32_t i)
{
    const float *p = a->rows + (size_t)i * (size_t)a->n_vocab, *q = b->rows + (size_t)i * (size_t)b->n_vocab;
    double top_p = -INFINITY, top_q = -INFINITY, sum_p = 0, sum_q = 0, kl = 0;
    for (int32_t v = 0; v < a->n_vocab; v++) {
        top_p = fmax(top_p, (double)p[v]);
        top_q = fmax(top_q, (double)q[v]);
    }
    for (int32_t v = 0; v < a->n_vocab; v++) {
        sum_p += exp((double)p[v] - top_p);
        sum_q += exp((double)q[v] - top_q);
    }
    for (int32_t v = 0; v < a->n_vocab; v++) {
        const double log_p = (double)p[v] - top_p - log(sum_p), log_q = (double)q[v] - top_q - log(sum_q);
        kl += exp(log_p) * (log_p - log_q);
    }
    return kl;
}

static void logits_are_near_the_reference(void **state)
{
    const struct seen ref = look("ref", ROWS), mine = look(test_device(), ROWS);
    const double limit = strncmp(test_device(), "cuda", 4) == 0 ? KL_CUDA : KL_CPU;
    for (int32_t i = 0; i < ROWS; i++) {
        const double kl = divergence(&ref, &mine, i);
        if (!(kl <= limit))
            fail_msg("row %d on %s: %.2g nats from the reference, at most %.2g", i, test_device(), kl, limit);
    }
    test_free(ref.rows);
    test_free(mine.rows);
}

static void words_one_by_one_are_the_same_to_the_bit(void **state)
{
    const struct seen whole = look(test_device(), ROWS), steps = look(test_device(), ROWS - ANSWERS);
    assert_memory_equal(whole.rows, steps.rows, (size_t)ROWS * (size_t)whole.n_vocab * sizeof(float));
    test_free(whole.rows);
    test_free(steps.rows);
}

static const char question[] = "Is it night?";
static const char yes_or_no[] = "{\"type\":\"object\",\"properties\":{\"n\":{\"enum\":[\"yes\",\"no\"]}},\"required\":[\"n\"]}";

static struct en_engine *open_engine(const char *device)
{
    const struct en_options o = {.model_path = MODEL, .device = device, .context_tokens = 64, .sessions = 1, .step_rows = 32};
    struct en_engine *e = NULL;
    struct err err = {0};
    assert_ok(en_open(&o, &e, &err), &err);
    return e;
}

/* A question without a picture, answered on a device. */
static struct en_result *ask(const char *device, const char *schema_text)
{
    static const struct en_part part = {.text = question};
    static const struct en_message message = {EN_USER, &part, 1};
    const struct en_permit permit = {.batch = 1, .expires_ns = INT64_MAX};
    struct en_engine *e = open_engine(device);
    struct en_schema *schema = NULL;
    struct err err = {0};
    bool busy = true;
    assert_ok(en_schema_compile(schema_text, strlen(schema_text), &schema, &err), &err);
    const struct en_job job = {
        .messages = &message, .n_messages = 1, .schema = schema, .sampling = {.top_p = 1}, .max_tokens = 24};
    assert_ok(en_submit(e, &job, NULL, &err), &err);
    while (busy)
        assert_ok(en_step(e, &permit, &busy, &err), &err);
    struct en_result *r = en_take_result(e);
    assert_non_null(r);
    en_schema_unref(schema);
    en_close(e);
    return r;
}

/* Tokens are masked and picked on the device, and the probabilities of a choice are read from what it picked. */
static void an_answer_and_its_score_are_the_references(void **state)
{
    struct en_result *ref = ask("ref", yes_or_no), *mine = ask(test_device(), yes_or_no);
    const double limit = strncmp(test_device(), "cuda", 4) == 0 ? 1e-3 : 0.05;
    assert_int_equal(mine->finish, EN_FINISH_STOP);
    assert_string_equal(mine->text, ref->text);
    assert_int_equal(mine->n_scores, 1);
    for (int i = 0; i < 2; i++)
        if (!(fabs(mine->scores[0].p[i] - ref->scores[0].p[i]) <= limit))
            fail_msg("%s on %s: %.5f, of the reference %.5f", mine->scores[0].names[i], test_device(), mine->scores[0].p[i],
                     ref->scores[0].p[i]);
    assert_true(fabs(mine->scores[0].p[0] + mine->scores[0].p[1] - 1) < 1e-9);
    en_result_free(ref);
    en_result_free(mine);
}

/* ---- an answer by hand ----------------------------------------------------------------------------------------------------------------- */

struct hand {
    struct en_engine *e;
    struct constraint c;
    struct verdict verdict;
    uint32_t *mask;
    float *logits;
    double log_sum;
    double p[8]; /* of the choice's alternatives */
    char text[128];
};

static void keep_last(void *ctx, struct en_session *session, int32_t index, bool is_image, const int32_t pos[3],
                      const float *logits)
{
    struct hand *h = ctx;
    memcpy(h->logits, logits, (size_t)h->e->model->shape.n_vocab * sizeof *logits);
}

static double hand_p(void *ctx, int32_t token)
{
    const struct hand *h = ctx;
    return exp((double)h->logits[token] - h->log_sum);
}

static const char *hand_bytes(void *ctx, int32_t token, size_t *ret_n)
{
    return tokenizer_token_bytes(((struct hand *)ctx)->e->tokenizer, token, ret_n);
}

/* The most probable token that may come. */
static int32_t hand_pick(struct hand *h)
{
    int32_t best = -1;
    double sum = 0;
    for (int32_t t = 0; t < h->e->model->shape.n_vocab; t++)
        if (h->mask[t / 32] >> t % 32 & 1) {
            sum += exp((double)h->logits[t]);
            if (best < 0 || h->logits[t] > h->logits[best])
                best = t;
        }
    assert_true(best >= 0);
    h->log_sum = log(sum);
    return best;
}

/* Token by token, each from a pass of the model. */
static struct hand answer_by_hand(const char *schema_text, int32_t max_tokens)
{
    static const struct prompt_part part = {question, sizeof question - 1};
    static const struct prompt_message message = {.role = PROMPT_USER, .parts = &part, .n_parts = 1};
    const struct prompt_options options = {.generate = true};
    struct hand h = {.e = open_engine(test_device())};
    const size_t V = (size_t)h.e->model->shape.n_vocab;
    struct en_session *session = NULL;
    struct en_schema *schema = NULL;
    struct prompt prompt;
    struct err err = {0};
    assert_ok(en_schema_compile(schema_text, strlen(schema_text), &schema, &err), &err);
    assert_ok(prompt_make(&h.e->prompt_room, h.e->tokenizer, h.e->tokenizer_cache, &message, 1, &options, &prompt, &err), &err);
    assert_ok(en_session_open(h.e, &session, &err), &err);
    h.mask = test_calloc((V + 31) / 32, sizeof *h.mask);
    h.logits = test_calloc(V, sizeof *h.logits);
    constraint_init(&h.c, schema);
    verdict_init(&h.verdict);
    struct en_chunk chunk = {.ids = prompt.ids, .n_ids = (int32_t)prompt.n_ids};
    const struct en_feed feed = {.session = session, .chunks = &chunk, .n_chunks = 1, .want = EN_WANT_LAST};
    for (int32_t token, chosen, left = max_tokens; !constraint_is_done(&h.c); left--) {
        size_t n;
        assert_ok(en_run(h.e, &feed, 1, keep_last, &h, &err), &err);
        constraint_mask(h.e->constraint_vocab, &h.c, left, h.mask);
        token = hand_pick(&h);
        if (verdict_observe(&h.verdict, h.e->constraint_vocab, &h.c, h.mask, token, hand_p, &h, hand_bytes, &chosen)) {
            memcpy(h.p, h.verdict.p, sizeof h.p);
            verdict_init(&h.verdict);
        }
        const char *bytes = hand_bytes(&h, token, &n);
        assert_true(constraint_take(&h.c, bytes, n));
        strncat(h.text, bytes, n);
        chunk = (struct en_chunk){.ids = &token, .n_ids = 1};
    }
    test_free(h.mask);
    test_free(h.logits);
    en_session_close(session);
    en_schema_unref(schema);
    en_close(h.e);
    return h;
}

static void an_answer_is_the_one_by_hand(void **state)
{
    static const char schema_text[] =
        "{\"type\":\"object\",\"properties\":{\"people\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":20},"
        "\"hazard\":{\"enum\":[\"none\",\"fire\",\"smoke\",\"person_down\",\"blocked\"]}},\"required\":[\"people\",\"hazard\"]"
        "}";
    const struct hand hand = answer_by_hand(schema_text, 24);
    struct en_result *r = ask(test_device(), schema_text);
    assert_string_equal(r->text, hand.text);
    assert_int_equal(r->n_scores, 1);
    for (int i = 0; i < r->scores[0].n; i++)
        if (!(fabs(r->scores[0].p[i] - hand.p[i]) <= 1e-4)) /* asked, it may say `,` and `"` where the tokenizer says `,"` */
            fail_msg("%s: %.9f, by hand %.9f", r->scores[0].names[i], r->scores[0].p[i], hand.p[i]);
    /* a number, what ends it where it may go on, and a word of a choice */
    assert_in_range(r->timing.drawn_tokens, 2, 4);
    assert_true(r->timing.output_tokens >= r->timing.drawn_tokens + 6);
    en_result_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_near_the_reference),
        cmocka_unit_test(words_one_by_one_are_the_same_to_the_bit),
        cmocka_unit_test(an_answer_and_its_score_are_the_references),
        cmocka_unit_test(an_answer_is_the_one_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
