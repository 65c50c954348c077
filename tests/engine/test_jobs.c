/*
 * Jobs at their edges: the context exactly full, one token, the least that a schema needs, thoughts, cancelled and closed at every step.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "engine/synthetic.h"
#include "tests/support/test.h"

static char model_path[512], vision_path[512];

static const char schema_text[] =
    "{\"type\":\"object\",\"properties\":{\"people\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":20},"
    "\"hazard\":{\"enum\":[\"none\",\"fire\"]}},\"required\":[\"people\",\"hazard\"]}";

static int write_models(void **state)
{
    struct err err = {0};
    struct synthetic s;
    const struct synthetic_file file = {.seed = 3, .dtype = KN_F32};
    const char *dir = test_temp_dir();
    snprintf(model_path, sizeof model_path, "%s/model.gguf", dir);
    snprintf(vision_path, sizeof vision_path, "%s/mmproj.gguf", dir);
    int rc = synthetic_parse("tiny-dense", &s, &err);
    if (rc == 0) {
        rc = synthetic_write_model(model_path, &s.shape, &file, &err);
        if (rc == 0)
            rc = synthetic_write_vision(vision_path, &s.vision, &file, &err);
        synthetic_release(&s);
    }
    if (rc != 0)
        print_message("%s\n", err.text);
    return rc;
}

static struct en_engine *open_engine(int32_t context, int32_t sessions)
{
    struct en_engine *e = NULL;
    struct err err = {0};
    const struct en_options o = {.model_path = model_path,
                                 .vision_path = vision_path,
                                 .device = "cpu",
                                 .threads = 1,
                                 .kv = EN_KV_F32,
                                 .context_tokens = context,
                                 .sessions = sessions,
                                 .step_rows = 64,
                                 .max_pixels = 65536,
                                 .validate = true};
    assert_ok(en_open(&o, &e, &err), &err);
    return e;
}

static struct en_schema *compile(void)
{
    struct en_schema *schema = NULL;
    struct err err = {0};
    assert_ok(en_schema_compile(schema_text, sizeof schema_text - 1, &schema, &err), &err);
    return schema;
}

/* A question, with a picture or without; what it points to is static. */
static struct en_job question(struct en_schema *schema, int32_t max_tokens, bool with_picture, uint64_t tag)
{
    static uint8_t rgb[80 * 60 * 3];
    static const struct image_view view = {
        .format = IMAGE_RGB24, .width_px = 80, .height_px = 60, .plane = {rgb}, .stride_bytes = {80 * 3}};
    static const struct en_part parts[2] = {{.view = &view}, {.text = "Is there anybody?"}};
    static const struct en_message messages[2] = {{EN_USER, parts, 2}, {EN_USER, parts + 1, 1}};
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)rng_at(3, i);
    return (struct en_job){.messages = with_picture ? messages : messages + 1,
                           .n_messages = 1,
                           .schema = schema,
                           .sampling = {.temperature = 1, .top_p = 1, .seed = 100 + tag},
                           .max_tokens = max_tokens,
                           .tag = tag};
}

static bool step(struct en_engine *e)
{
    const struct en_permit permit = {.batch = 4, .expires_ns = INT64_MAX};
    struct err err = {0};
    bool busy = false;
    assert_ok(en_step(e, &permit, &busy, &err), &err);
    return busy;
}

/* To the end of all jobs; the one result. */
static struct en_result *answer(struct en_engine *e, const struct en_job *job)
{
    struct err err = {0};
    assert_ok(en_submit(e, job, NULL, &err), &err);
    for (int guard = 0; step(e); guard++)
        assert_true(guard < 10000);
    struct en_result *r = en_take_result(e);
    assert_non_null(r);
    assert_int_equal(en_pending(e), 0);
    return r;
}

static void a_context_may_be_filled_to_the_last_token(void **state)
{
    struct err err = {0};
    struct en_schema *schema = compile();
    struct en_engine *e = open_engine(512, 1);
    struct en_job job = question(NULL, 1, true, 0);
    struct en_result *r = answer(e, &job);
    const int32_t prompt = r->timing.prompt_tokens;
    assert_true(r->finish == EN_FINISH_LENGTH || r->finish == EN_FINISH_STOP);
    assert_true(r->timing.output_tokens <= 1);
    en_result_free(r);
    job.max_tokens = INT_MAX;
    assert_err(en_submit(e, &job, NULL, &err), ERR_FULL, &err, "do not fit into a context of 512");
    en_close(e);

    static const int32_t rooms[] = {1, 30, 64};
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        e = open_engine(prompt + rooms[i], 1);
        job = question(NULL, rooms[i] + 1, true, i);
        assert_err(en_submit(e, &job, NULL, &err), ERR_FULL, &err, "do not fit into a context of");
        job.max_tokens = rooms[i];
        r = answer(e, &job);
        assert_true(r->finish == EN_FINISH_LENGTH ? r->timing.output_tokens == rooms[i] : r->finish == EN_FINISH_STOP);
        en_result_free(r);
        if (rooms[i] >= 30) {
            job.schema = schema;
            r = answer(e, &job);
            assert_int_equal(r->finish, EN_FINISH_STOP);
            assert_ok(en_schema_validate(schema, r->text, strlen(r->text), &err), &err);
            en_result_free(r);
        }
        en_close(e);
    }
    en_schema_unref(schema);
}

static void the_least_budget_closes_the_object(void **state)
{
    struct err err = {0};
    struct en_schema *schema = compile();
    struct en_engine *e = open_engine(512, 1);
    int32_t least = 1;
    struct en_job job;
    for (;; least++) {
        job = question(schema, least, false, 0);
        if (en_submit(e, &job, NULL, &err) == 0)
            break;
        assert_int_equal(err.code, ERR_INVAL);
        assert_true(least < 40);
        err_clear(&err);
    }
    while (step(e))
        ;
    struct en_result *r = en_take_result(e);
    assert_int_equal(r->finish, EN_FINISH_STOP);
    en_result_free(r);
    for (uint64_t seed = 0; seed < 40; seed++) {
        job = question(schema, least + (int32_t)(seed % 3), false, seed);
        r = answer(e, &job);
        assert_int_equal(r->finish, EN_FINISH_STOP);
        assert_true(r->timing.output_tokens <= job.max_tokens);
        assert_ok(en_schema_validate(schema, r->text, strlen(r->text), &err), &err);
        en_result_free(r);
    }
    en_close(e);
    en_schema_unref(schema);
}

/*
 * Whether a token is drawn from the most probable ones or from all logits, an answer is the same: greedy takes the former; a cold draw among all takes the latter, and is as good as
 * greedy unless two logits are closer than its temperature. With four jobs together and the scores of choices.
 */
static void an_answer_is_the_same_however_it_is_drawn(void **state)
{
    static const struct en_sampling ways[] = {{.top_p = 1},
                                              {.temperature = 1e-6f, .top_p = 1},
                                              {.temperature = 1, .top_k = 1, .top_p = 1},
                                              {.temperature = 1e-6f, .top_k = 64, .top_p = 1}};
    enum { N_WAYS = sizeof ways / sizeof *ways };
    struct err err = {0};
    struct en_schema *schema = compile();
    struct en_engine *e = open_engine(1200, N_WAYS);
    for (uint64_t tag = 0; tag < 6; tag++) {
        struct en_result *first = NULL;
        for (int i = 0; i < N_WAYS; i++) {
            struct en_job job = question(tag % 2 ? schema : NULL, 30, tag % 3 == 0, (uint64_t)i);
            job.thinking = tag == 4;
            job.sampling = ways[i];
            assert_ok(en_submit(e, &job, NULL, &err), &err);
        }
        for (int guard = 0; step(e); guard++)
            assert_true(guard < 10000);
        for (int i = 0; i < N_WAYS; i++) {
            struct en_result *r = en_take_result(e);
            assert_non_null(r);
            if (!first) {
                first = r;
                continue;
            }
            assert_string_equal(r->text, first->text);
            assert_int_equal(r->n_scores, first->n_scores);
            if (tag % 2) /* {"people": and what stands between two values costs no pass */
                assert_true(r->timing.drawn_tokens > 0 && r->timing.drawn_tokens < r->timing.output_tokens);
            else
                assert_int_equal(r->timing.drawn_tokens, r->timing.output_tokens + (r->finish == EN_FINISH_STOP));
            for (int32_t k = 0; k < r->n_scores; k++)
                for (int32_t j = 0; j < r->scores[k].n; j++)
                    assert_true(r->scores[k].p[j] == first->scores[k].p[j]);
            en_result_free(r);
        }
        assert_int_equal(first->n_scores, tag % 2);
        en_result_free(first);
    }
    en_close(e);
    en_schema_unref(schema);
}

static void thoughts_come_apart_from_the_answer(void **state)
{
    struct err err = {0};
    struct en_schema *schema = compile();
    struct en_engine *e = open_engine(4096, 1);
    for (uint64_t seed = 0; seed < 3; seed++) {
        struct en_job job = question(seed == 2 ? NULL : schema, 30, false, seed);
        job.thinking = true;
        struct en_result *r = answer(e, &job), *again = answer(e, &job);
        assert_non_null(r->thought);
        assert_true(strlen(r->thought) > 0); /* a random model hardly ends it at once */
        assert_null(strstr(r->thought, "</think>"));
        assert_true(r->timing.output_tokens > 0);
        if (job.schema) {
            assert_int_equal(r->finish, EN_FINISH_STOP);
            assert_ok(en_schema_validate(schema, r->text, strlen(r->text), &err), &err);
        }
        assert_string_equal(again->text, r->text);
        assert_string_equal(again->thought, r->thought);
        en_result_free(r);
        en_result_free(again);
    }
    en_close(e);
    en_schema_unref(schema);
}

/* After any number of steps a job is taken back, or the engine closed; the other job's answer is as alone, and nothing is lost. */
static void cancelled_at_every_step(void **state)
{
    struct err err = {0};
    struct en_schema *schema = compile();
    struct en_engine *e = open_engine(512, 2);
    struct en_job first = question(schema, 30, true, 1), second = question(schema, 30, true, 2);
    struct en_result *alone = answer(e, &second);
    for (int after = 0;; after++) {
        uint64_t id = 0;
        assert_ok(en_submit(e, &first, &id, &err), &err);
        assert_ok(en_submit(e, &second, NULL, &err), &err);
        for (int i = 0; i < after; i++)
            (void)step(e);
        const int32_t left = en_pending(e);
        en_cancel(e, id);
        en_cancel(e, id); /* a result is not taken back */
        while (en_pending(e) > 0)
            (void)step(e);
        int n = 0;
        bool was_cancelled = false;
        for (struct en_result *r; (r = en_take_result(e)) != NULL; n++) {
            if (r->tag == 1) {
                was_cancelled = r->finish == EN_FINISH_CANCELLED;
                assert_true(was_cancelled ? r->text == NULL : r->finish == EN_FINISH_STOP);
            } else {
                assert_int_equal(r->finish, EN_FINISH_STOP);
                assert_string_equal(r->text, alone->text);
            }
            en_result_free(r);
        }
        assert_int_equal(n, 2);
        struct en_engine *closed = after % 5 == 0 ? open_engine(512, 1) : NULL; /* one running, one waiting */
        if (closed) {
            assert_ok(en_submit(closed, &first, NULL, &err), &err);
            assert_ok(en_submit(closed, &second, NULL, &err), &err);
            for (int i = 0; i < after; i++)
                (void)step(closed);
            en_close(closed);
        }
        if (left == 0)
            break;
        assert_true(after < 200);
    }
    /* every session and every place for a picture is free again */
    struct en_session *s[2];
    assert_ok(en_session_open(e, &s[0], &err), &err);
    assert_ok(en_session_open(e, &s[1], &err), &err);
    en_session_close(s[0]);
    en_session_close(s[1]);
    en_result_free(alone);
    en_close(e);
    en_schema_unref(schema);
}

/* Jobs of several pictures wait for places rather than fail; what can never fit is refused at once. */
static void pictures_wait_for_places(void **state)
{
    struct err err = {0};
    struct en_schema *schema = compile();
    struct en_engine *e = open_engine(1024, 2); /* four places */
    struct en_job job = question(schema, 30, true, 0);
    struct en_part parts[6];
    for (int i = 0; i < 6; i++)
        parts[i] = job.messages[0].parts[0];
    struct en_message message = {EN_USER, parts, 5};
    job.messages = &message;
    assert_err(en_submit(e, &job, NULL, &err), ERR_FULL, &err, "a job of 5 pictures: the engine was opened for 4");
    message.n_parts = 3;
    struct en_result *alone = answer(e, &job);
    assert_int_equal(alone->finish, EN_FINISH_STOP);
    for (int i = 0; i < 3; i++)
        assert_ok(en_submit(e, &job, NULL, &err), &err);
    for (int guard = 0; step(e); guard++)
        assert_true(guard < 10000);
    for (int i = 0; i < 3; i++) {
        struct en_result *r = en_take_result(e);
        assert_non_null(r);
        if (r->finish != EN_FINISH_STOP)
            fail_msg("a job ended as %d: %s", (int)r->finish, r->error.text);
        assert_string_equal(r->text, alone->text);
        en_result_free(r);
    }
    en_result_free(alone);
    en_close(e);

    const struct en_options many = {.model_path = model_path,
                                    .vision_path = vision_path,
                                    .device = "cpu",
                                    .threads = 1,
                                    .context_tokens = 1024,
                                    .max_pixels = 65536,
                                    .pictures = 6};
    assert_ok(en_open(&many, &e, &err), &err);
    message.n_parts = 6;
    struct en_result *r = answer(e, &job);
    assert_int_equal(r->finish, EN_FINISH_STOP);
    assert_int_equal(r->timing.image_tokens % 6, 0);
    en_result_free(r);
    en_close(e);
    en_schema_unref(schema);
}

/* What a permit holds back changes no answer; the rest behind each step is as long as it says, and no work is counted in it. */
/* The median of some answers' times. */
static int64_t usual_ns(struct en_engine *e, const struct en_job *job)
{
    int64_t took[7];
    for (int i = 0, at; i < 7; i++) {
        const int64_t began = clock_now_ns();
        en_result_free(answer(e, job));
        const int64_t now = clock_now_ns() - began;
        for (at = i; at > 0 && took[at - 1] > now; at--)
            took[at] = took[at - 1];
        took[at] = now;
    }
    return took[3];
}

/* Four at a time that should be done in twice the time of one, for a hundred times that time. Returns how many are. */
static int press(struct en_engine *e, struct en_job job)
{
    const int64_t alone_ns = usual_ns(e, &job);
    int in_time = 0;
    for (const int64_t end = clock_now_ns() + 100 * alone_ns; clock_now_ns() < end;) {
        struct err err = {0};
        job.deadline_ns = clock_now_ns() + 2 * alone_ns;
        while (en_pending(e) < 4)
            assert_ok(en_submit(e, &job, NULL, &err), &err);
        step(e);
        for (struct en_result *r; (r = en_take_result(e)) != NULL; en_result_free(r))
            in_time += r->finish == EN_FINISH_LENGTH;
    }
    while (step(e))
        ;
    for (struct en_result *r; (r = en_take_result(e)) != NULL;)
        en_result_free(r);
    return in_time;
}

/* Far more work than can be done in time, all the time, and most of it refused: the rest is done in time, and not all of it begun and none finished. */
static void too_much_work_is_not_all_late(void **state)
{
    struct en_engine *e = open_engine(512, 4);
    static uint8_t rgb[256 * 256 * 3];
    static const struct image_view view = {
        .format = IMAGE_RGB24, .width_px = 256, .height_px = 256, .plane = {rgb}, .stride_bytes = {256 * 3}};
    static const struct en_part part = {.view = &view};
    static const struct en_message message = {EN_USER, &part, 1};
    const struct en_job job = {.messages = &message, .n_messages = 1, .max_tokens = 1, .sampling = {.top_p = 1}};
    int in_time = 0;
    for (int i = 0; i < 10 && in_time < 10;
         i++) /* up to a hundred are possible; where others take the machine meanwhile, few */
        in_time = press(e, job);
    assert_true(in_time >= 10);
    en_close(e);
}

static void idle_time_is_kept_and_not_counted(void **state)
{
    struct en_engine *e = open_engine(512, 1);
    const struct en_job job = question(NULL, 12, true, 5);
    struct en_progress before, last, after;
    struct en_result *quick = answer(e, &job);
    struct err err = {0};
    bool busy = true;
    en_get_progress(e, &before);
    assert_true(before.prompt_rows == (uint64_t)quick->timing.prompt_tokens &&
                before.output_tokens >= (uint64_t)quick->timing.output_tokens);
    assert_true(before.busy_ns > 0 && before.sequence_ns == before.busy_ns);
    assert_ok(en_submit(e, &job, NULL, &err), &err);
    const int64_t start = clock_now_ns();
    for (int guard = 0; busy; guard++) {
        const struct en_permit permit = {.batch = 1, .idle_permille = 800, .expires_ns = INT64_MAX};
        en_get_progress(e, &last);
        assert_ok(en_step(e, &permit, &busy, &err), &err);
        assert_true(guard < 10000);
    }
    const int64_t wall = clock_now_ns() - start;
    struct en_result *slow = en_take_result(e);
    assert_string_equal(slow->text, quick->text);
    en_get_progress(e, &after);
    assert_true(after.prompt_rows == 2 * before.prompt_rows && after.output_tokens == 2 * before.output_tokens);
    /* never less, however slow the machine is: but nobody waits behind the last step, a little is owed to the end, and a little was had before the first step */
    const int64_t least = 5 * (last.busy_ns - before.busy_ns) - 2 * EN_REST_LEAST_NS;
    if (wall < least)
        fail_msg("%lld us, and %lld are the least", (long long)wall / 1000, (long long)least / 1000);
    en_result_free(quick);
    en_result_free(slow);
    en_close(e);
}

/* Rest is no work, and how much there is follows the permit of the moment: one that asks for none ends it. */
static void rests_come_in_parts_and_end_with_their_permit(void **state)
{
    struct en_engine *e = open_engine(512, 1);
    const struct en_job job = question(NULL, 2, false, 6);
    const struct en_permit lazy = {.batch = 1, .idle_permille = 1000, .expires_ns = INT64_MAX};
    struct en_progress before, after;
    struct err err = {0};
    bool busy = false;
    assert_ok(en_submit(e, &job, NULL, &err), &err);
    assert_ok(en_step(e, &lazy, &busy, &err), &err);
    en_get_progress(e, &before);
    assert_true(en_rest_ns(e, &lazy) > 0);
    for (int i = 0; i < 3; i++) { /* a thousand times the step before: these only sleep */
        assert_ok(en_step(e, &lazy, &busy, &err), &err);
        assert_true(busy);
    }
    en_get_progress(e, &after);
    assert_true(after.busy_ns == before.busy_ns && after.sequence_ns == before.sequence_ns);
    const struct en_permit full = {.batch = 1, .expires_ns = INT64_MAX};
    assert_true(en_rest_ns(e, &full) == 0);
    assert_ok(en_step(e, &full, &busy, &err), &err);
    en_get_progress(e, &after);
    assert_true(after.busy_ns > before.busy_ns);
    en_close(e);
}

/* Where steps are short their rests come together: none is lost, and none is so short that a sleep would make much more of it. */
static void short_rests_come_together(void **state)
{
    struct en_engine *e = open_engine(512, 1);
    const struct en_permit keen = {.batch = 1, .idle_permille = 200, .expires_ns = INT64_MAX};
    struct en_progress first, before, after;
    struct err err = {0};
    int64_t last_ns = 0;
    int n_rests = 0, n_steps = 0;
    bool is_resting = false;
    en_get_progress(e, &first);
    const int64_t start = clock_now_ns();
    for (uint64_t i = 0; i < 400; i++) {
        const struct en_job job = question(NULL, 12, false, i);
        bool busy = true;
        assert_ok(en_submit(e, &job, NULL, &err), &err);
        for (; busy; n_steps++) {
            const int64_t rest_ns = en_rest_ns(e, &keen);
            assert_true(is_resting || rest_ns == 0 || rest_ns >= EN_REST_LEAST_NS);
            n_rests += !is_resting && rest_ns > 0;
            is_resting = rest_ns > 0;
            en_get_progress(e, &before);
            assert_ok(en_step(e, &keen, &busy, &err), &err);
            en_get_progress(e, &after);
            last_ns = after.busy_ns - before.busy_ns;
        }
        en_result_free(en_take_result(e));
    }
    const int64_t busy_ns = after.busy_ns - first.busy_ns, idle_ns = clock_now_ns() - start - busy_ns;
    assert_true(n_steps > 400 && n_rests <= busy_ns / 4 / EN_REST_LEAST_NS + 1);
    assert_true(idle_ns >= (busy_ns - last_ns) / 4 - EN_REST_LEAST_NS);
    en_close(e);
}

/* Somebody who is asked between layers. */
struct asked {
    struct en_engine *engine;
    int n, gives_up_at;
    int64_t sleep_ns, most_rest_ns;
    enum en_breath answer;
};

static enum en_breath ask(void *ctx)
{
    struct asked *a = ctx;
    struct en_progress before, after;
    const struct en_permit lazy = {.batch = 1, .idle_permille = 999, .expires_ns = INT64_MAX};
    en_get_progress(a->engine, &before);
    clock_sleep_until_ns(clock_now_ns() + a->sleep_ns);
    en_get_progress(a->engine, &after);
    assert_true(after.busy_ns == before.busy_ns); /* while it is thought about nothing is done */
    const int64_t rest_ns = en_rest_ns(a->engine, &lazy);
    a->most_rest_ns = rest_ns > a->most_rest_ns ? rest_ns : a->most_rest_ns;
    return ++a->n == a->gives_up_at ? EN_GIVE_UP : a->answer;
}

/* Between layers there is time to rest: it changes no answer, and is no work. */
static void a_pass_breathes(void **state)
{
    struct en_engine *e = open_engine(512, 1);
    const struct en_job job = question(NULL, 12, true, 7);
    struct asked a = {.engine = e, .sleep_ns = CLOCK_MS, .answer = EN_GO_ON};
    struct en_progress before, after;
    struct en_result *quick = answer(e, &job);
    en_get_progress(e, &before);
    en_set_breath(e, ask, &a);
    const int64_t start = clock_now_ns();
    struct en_result *slow = answer(e, &job);
    const int64_t wall = clock_now_ns() - start;
    en_get_progress(e, &after);
    assert_string_equal(slow->text, quick->text);
    assert_true(a.n >= 2 * slow->timing.output_tokens); /* layers of each token, and of the picture */
    assert_true(wall >= after.busy_ns - before.busy_ns + a.n * a.sleep_ns);
    assert_int_equal(after.running, 0);
    en_result_free(quick);
    en_result_free(slow);
    en_close(e);
}

/* What rested within the pass does not rest once more after it, and what is settled is not asked for again. */
static void a_rest_is_taken_once(void **state)
{
    struct en_engine *e = open_engine(512, 1);
    const struct en_job job = question(NULL, 12, true, 10);
    const struct en_permit full = {.batch = 1, .expires_ns = INT64_MAX},
                           lazy = {.batch = 1, .idle_permille = 999, .expires_ns = INT64_MAX};
    struct asked a = {.engine = e, .answer = EN_GO_ON};
    struct en_progress before, after;
    struct err err = {0};
    bool busy = false;
    en_set_breath(e, ask, &a);
    for (int i = 0; i < 2; i++) {
        a = (struct asked){.engine = e, .answer = i ? EN_RESTED : EN_GO_ON};
        assert_ok(en_submit(e, &job, NULL, &err), &err);
        en_get_progress(e, &before);
        assert_ok(en_step(e, &full, &busy, &err), &err); /* the picture */
        en_get_progress(e, &after);
        const int64_t worked = after.busy_ns - before.busy_ns, left = en_rest_ns(e, &lazy);
        assert_true(busy && a.n >= 2);
        if (i == 0)
            assert_true(a.most_rest_ns > 0 && left > 999 * worked - worked - CLOCK_S); /* all of it */
        else
            assert_true(left < 999 * worked - worked / 100); /* of its end only */
        while (step(e))
            ;
        en_result_free(en_take_result(e));
    }
    en_close(e);
}

/* Given up anywhere, in the tower or in the model, alone or beside others: jobs end without an answer, and nothing of them stays behind. */
static void a_pass_is_given_up_anywhere(void **state)
{
    const struct en_job with = question(NULL, 3, true, 8), without = question(NULL, 3, false, 9);
    struct en_engine *e = open_engine(512, 3);
    struct en_result *first = answer(e, &with), *second = answer(e, &without);
    int n_given_up = 0;
    for (int at = 1; n_given_up < at; at++) {
        struct asked a = {.engine = e, .gives_up_at = at, .answer = EN_GO_ON};
        struct err err = {0};
        bool busy = true;
        int rc = 0;
        en_set_breath(e, ask, &a);
        assert_ok(en_submit(e, &with, NULL, &err), &err);
        assert_ok(en_submit(e, &without, NULL, &err), &err);
        assert_ok(en_submit(e, &with, NULL, &err), &err);
        while (busy && rc == 0) {
            const struct en_permit two = {.batch = 2, .expires_ns = INT64_MAX};
            rc = en_step(e, &two, &busy, &err);
        }
        en_set_breath(e, NULL, NULL);
        if (rc == 0) /* asked to the end, and never refused */
            break;
        assert_int_equal(rc, ERR_CANCELLED);
        n_given_up++;
        while (step(e)) /* the one that waited */
            ;
        for (struct en_result *r; (r = en_take_result(e)); en_result_free(r)) {
            assert_true(r->finish == EN_FINISH_DEADLINE || r->finish == EN_FINISH_STOP || r->finish == EN_FINISH_LENGTH);
            if (r->finish != EN_FINISH_DEADLINE)
                assert_string_equal(r->text, r->tag == 8 ? first->text : second->text);
        }
        assert_int_equal(en_pending(e), 0);
    }
    assert_in_range(n_given_up, 10, 1000);
    for (struct en_result *r; (r = en_take_result(e)); en_result_free(r))
        assert_int_not_equal(r->finish, EN_FINISH_DEADLINE);
    struct en_result *again = answer(e, &with);
    assert_string_equal(again->text, first->text);
    en_result_free(again);
    en_result_free(first);
    en_result_free(second);
    en_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_context_may_be_filled_to_the_last_token),
        cmocka_unit_test(the_least_budget_closes_the_object),
        cmocka_unit_test(an_answer_is_the_same_however_it_is_drawn),
        cmocka_unit_test(thoughts_come_apart_from_the_answer),
        cmocka_unit_test(cancelled_at_every_step),
        cmocka_unit_test(pictures_wait_for_places),
        cmocka_unit_test(too_much_work_is_not_all_late),
        cmocka_unit_test(idle_time_is_kept_and_not_counted),
        cmocka_unit_test(rests_come_in_parts_and_end_with_their_permit),
        cmocka_unit_test(short_rests_come_together),
        cmocka_unit_test(a_pass_breathes),
        cmocka_unit_test(a_rest_is_taken_once),
        cmocka_unit_test(a_pass_is_given_up_anywhere),
    };
    return cmocka_run_group_tests(tests, write_models, NULL);
}
