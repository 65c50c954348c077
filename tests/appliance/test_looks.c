/*
 * The governor with the work that it is made for: looks of cameras, which are a picture, a prompt and an answer, pass by pass, as the engine tells of them. Invented seconds; nothing
 * is timed.
 */
#include "tests/support/test.h"

#include <math.h>

#include "appliance/governor.h"
#include "appliance/load.h"
#include "base/clock.h"
#include "base/rng.h"

#define S          CLOCK_S
#define SEQUENCES  8
#define PICTURE_S  0.35
#define PROMPT_S   0.25
#define TOKEN_S    0.08 /* a pass that decodes one sequence; and this much more for each other */
#define TOKEN_EACH 0.12

/* Eight cameras that always want another look, and a box that gets warm from it. */
struct looks {
    struct rng rng;
    struct {
        int left; /* tokens of the answer; 0: it has not begun */
        bool has_picture;
    } seq[SEQUENCES];
    struct en_progress progress;
    double now_s, end_s; /* of the pass at work, or of the rest behind it */
    double begin_s;
    int running; /* 0: it rests */
    int n_done;
    double watts, joules; /* of that pass; in this second */
    double sink_c;
};

static double about(struct looks *l, double x)
{
    return x * (0.8 + 0.4 * rng_unit(&l->rng));
}

/* What the pass that ends did for each of its sequences. */
static void end_pass(struct looks *l)
{
    const double took_s = l->end_s - l->begin_s;
    l->progress.busy_ns += (int64_t)(took_s * 1e9);
    l->progress.sequence_ns += (int64_t)(took_s * 1e9) * l->running;
    for (int i = 0; i < l->running; i++)
        if (!l->seq[i].has_picture) { /* one picture a pass, before all else */
            l->seq[i].has_picture = true;
            return;
        }
    for (int i = 0; i < l->running; i++) {
        l->seq[i].left = l->seq[i].left == 0 ? 40 + (int)rng_below(&l->rng, 40) : l->seq[i].left - 1;
        l->progress.output_tokens++;
        if (l->seq[i].left == 0) {
            l->seq[i].has_picture = false;
            l->n_done++;
        }
    }
}

static void begin_pass(struct looks *l, int limit)
{
    double took_s = 0;
    int n_decode = 0;
    bool is_picture = false;
    l->running = limit < SEQUENCES ? limit : SEQUENCES;
    for (int i = 0; i < l->running && !is_picture; i++)
        is_picture = !l->seq[i].has_picture;
    for (int i = 0; i < l->running && !is_picture; i++) {
        n_decode += l->seq[i].left > 0;
        took_s += l->seq[i].left > 0 ? 0 : about(l, PROMPT_S);
    }
    if (is_picture)
        took_s = about(l, PICTURE_S);
    else if (n_decode > 0)
        took_s += TOKEN_S * (1 + TOKEN_EACH * (n_decode - 1));
    l->begin_s = l->now_s;
    l->end_s = l->now_s + took_s;
    l->watts = is_picture || n_decode < l->running ? 95 : 60 + 4 * n_decode;
}

/* Until this second is over; limit 0: nothing runs. */
static void work(struct looks *l, double until_s, int limit, double idle)
{
    l->joules = 0;
    for (;;) {
        const double to_s = fmin(fmax(l->end_s, l->now_s), until_s);
        l->joules += l->running > 0 ? (to_s - l->now_s) * l->watts : 0;
        l->now_s = to_s;
        if (l->end_s > until_s)
            return;
        if (l->running > 0) {
            const double rest_s = (l->end_s - l->begin_s) * idle / (1 - idle);
            end_pass(l);
            l->running = 0;
            l->end_s = l->now_s + rest_s;
        } else if (limit > 0)
            begin_pass(l, limit);
        else {
            l->end_s = until_s;
            return;
        }
    }
}

/* Looks done in two hours behind the first ten minutes; room_c warms the box. limit 0: as the governor grants. */
static int count_looks(uint64_t seed, int limit, double k_w, int *ret_trips)
{
    struct looks l = {.rng = {.seed = seed}, .sink_c = 30};
    struct governor g;
    const struct governor_options options = {
        .n_sensors = 1, .limits_c = {68}, .batch_max = SEQUENCES, .meter = GOVERNOR_METER_TOTAL};
    struct governor_grant grant = {0};
    struct load load = {0};
    int before = 0;
    governor_init(&g, &options, NULL);
    *ret_trips = 0;
    for (int i = 1; i <= 7800; i++) {
        const bool was_trip = grant.is_trip;
        work(&l, i, limit ? limit : grant.permit.batch, limit ? 0 : fmin(grant.permit.idle_permille / 1000.0, 0.99));
        const double watts = 20 + l.joules;
        const struct load_told told = {
            .progress = l.progress, .pending = SEQUENCES, .running = l.running, .since_ns = S + (int64_t)(l.begin_s * 1e9)};
        struct load_second second;
        load_take(&load, &told, (i + 1) * S, &second);
        struct governor_sight s = {.now_ns = i * S,
                                   .c = {floor(l.sink_c + 0.15 * watts + 0.5)},
                                   .watts = watts,
                                   .batch = second.batch,
                                   .duty = second.duty,
                                   .speed = second.speed,
                                   .span_s = second.span_s,
                                   .demand = SEQUENCES,
                                   .device_margin_k = NAN};
        governor_tick(&g, &s, &grant);
        *ret_trips += grant.is_trip && !was_trip;
        l.sink_c += (watts - (l.sink_c - 25) / k_w) / 400;
        before = i == 600 ? l.n_done : before;
    }
    return l.n_done - before;
}

/* What a batch gives is told by luck in a few seconds, of which some are of pictures and prompts: no batch is given up by it for good. */
static void test_a_cool_box_does_all_it_can(void **state)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        int trips;
        const int most = count_looks(seed, SEQUENCES, 0.2, &trips), got = count_looks(seed, 0, 0.2, &trips);
        if (got < 0.97 * most)
            fail_msg("seed %d: %d looks of %d", (int)seed, got, most);
    }
}

/* Under its limit as well: the seeds agree on what is best. */
static void test_a_warm_box_finds_the_best_batch(void **state)
{
    int least = INT32_MAX, most = 0;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        int trips;
        const int got = count_looks(seed, 0, 0.42, &trips);
        if (trips > 1)
            fail_msg("seed %d: %d trips", (int)seed, trips);
        least = got < least ? got : least;
        most = got > most ? got : most;
    }
    if (least < 0.95 * most)
        fail_msg("%d looks to %d", least, most);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_cool_box_does_all_it_can),
        cmocka_unit_test(test_a_warm_box_finds_the_best_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
