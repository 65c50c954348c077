/*
 * The shipped model on the device under test ($HERON_TEST_DEVICE, the CPU without it) and on the reference: the same words get nearly the same logits, and word by word, as an answer is
 * written, exactly the same as all at once. The steps of an answer are what a device records: the first runs as ever, the second is noted, the others are replayed. An answer to a
 * question is the same too, and its score nearly.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
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

/* A question without a picture, answered on a device. */
static struct en_result *ask(const char *device)
{
    static const char text[] = "{\"type\":\"object\",\"properties\":{\"n\":{\"enum\":[\"yes\",\"no\"]}},\"required\":[\"n\"]}";
    static const struct en_part part = {.text = "Is it night?"};
    static const struct en_message message = {EN_USER, &part, 1};
    const struct en_options o = {.model_path = MODEL, .device = device, .context_tokens = 64, .sessions = 1, .step_rows = 32};
    const struct en_permit permit = {.batch = 1, .expires_ns = INT64_MAX};
    struct en_engine *e = NULL;
    struct en_schema *schema = NULL;
    struct err err = {0};
    bool busy = true;
    assert_ok(en_open(&o, &e, &err), &err);
    assert_ok(en_schema_compile(text, strlen(text), &schema, &err), &err);
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
    struct en_result *ref = ask("ref"), *mine = ask(test_device());
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_near_the_reference),
        cmocka_unit_test(words_one_by_one_are_the_same_to_the_bit),
        cmocka_unit_test(an_answer_and_its_score_are_the_references),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
