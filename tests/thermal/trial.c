#include "tests/thermal/trial.h"

#include <math.h>
#include <stdlib.h>

#include "tests/support/late_meter.h"

#define STEPS_PER_S LATE_METER_PER_S
#define STEPS       (WORLD_HOURS * 3600 * STEPS_PER_S)
#define CALM_S      600  /* the start is not judged for its steadiness */
#define METER_NOISE 0.03 /* at most, of watts and of tokens */

/* Points of the concave hull of speed over watts, from nothing to everything. */
struct hull {
    double watts[WORLD_BATCHES + 1], speed[WORLD_BATCHES + 1];
    int n;
};

static void hull_init(struct hull *h, const struct world_work *work)
{
    h->n = 0;
    for (int b = 0; b <= WORLD_BATCHES; b++) {
        while (h->n >= 2) {
            const double ax = h->watts[h->n - 1] - h->watts[h->n - 2], ay = h->speed[h->n - 1] - h->speed[h->n - 2];
            const double bx = work->watts[b] - h->watts[h->n - 2], by = work->speed[b] - h->speed[h->n - 2];
            if (ay * bx > by * ax)
                break;
            h->n--; /* below the line from the point before to the new one */
        }
        h->watts[h->n] = work->watts[b];
        h->speed[h->n++] = work->speed[b];
    }
}

static double hull_speed(const struct hull *h, double watts)
{
    for (int i = 1; i < h->n; i++)
        if (watts < h->watts[i])
            return h->speed[i - 1] +
                   (h->speed[i] - h->speed[i - 1]) * (watts - h->watts[i - 1]) / (h->watts[i] - h->watts[i - 1]);
    return h->speed[h->n - 1];
}

double trial_oracle(const struct world *world)
{
    struct hull hull;
    hull_init(&hull, &world->work);
    struct plant plant;
    struct plant_air air;
    double load, done = 0;
    world_at(world, 0, &air, &load);
    plant_init(&plant, &world->plant, &air);
    for (int k = 0; k < STEPS; k++) {
        world_at(world, k * PLANT_STEP_S, &air, &load);
        const double leak = 1 + world->plant.leakage_per_k * (plant.spot_c[0] - 60);
        const double free_w = (plant_allowed_w(&plant) - world->plant.idle_w - air.background_w) / leak;
        const double watts = fmin(fmax(free_w, 0), load * hull.watts[hull.n - 1]);
        plant_step(&plant, &air, watts);
        done += load > 0 ? hull_speed(&hull, watts / load) : 0;
    }
    return done / STEPS;
}

/* Turns of a signal that are larger than `size`. */
struct turns {
    double low, high;
    int direction, n;
};

static bool turns_note(struct turns *t, double x, double size)
{
    t->low = fmin(t->low, x);
    t->high = fmax(t->high, x);
    if (t->direction >= 0 && x < t->high - size) {
        const bool is_turn = t->direction > 0;
        *t = (struct turns){x, x, -1, t->n + is_turn};
        return is_turn;
    }
    if (t->direction <= 0 && x > t->low + size) {
        const bool is_turn = t->direction < 0;
        *t = (struct turns){x, x, 1, t->n + is_turn};
        return is_turn;
    }
    return false;
}

/* Sums over a trial. */
struct account {
    struct turns turns;
    double done, smooth_w, slow_w, below_k;
    int changes, probe_turns, plain_turns, probe_until, n_below;
    bool was_trip;
};

static void account_step(struct account *a, const struct trial *trial, const struct plant *plant, const struct act *act, int k,
                         struct figures *f)
{
    const struct world *world = trial->world;
    const double t = k * PLANT_STEP_S, granted = act->duty * world->work.watts[act->batch], over = plant_excess_k(plant);
    f->over_k = fmax(f->over_k, over);
    f->above_s += over > 0 ? PLANT_STEP_S : 0;
    a->smooth_w += (granted - a->smooth_w) * PLANT_STEP_S / 5;
    a->slow_w += (granted - a->slow_w) * PLANT_STEP_S / 10;
    if (act->is_probe)
        a->probe_until = k + 60 * STEPS_PER_S;
    if (t > CALM_S) {
        if (act->duty < 1) {
            a->below_k -= over;
            a->n_below++;
        }
        if (turns_note(&a->turns, a->smooth_w, 0.1 * world->work.watts[WORLD_BATCHES]))
            *(k < a->probe_until ? &a->probe_turns : &a->plain_turns) += 1;
    }
    if (k % STEPS_PER_S != 0)
        return;
    const int second = k / STEPS_PER_S;
    if (trial->ret_w)
        trial->ret_w[second] = (float)a->slow_w;
    if (trial->twin_w && t >= world->fault_at.to_s && isinf(f->back_s) && a->slow_w >= 0.95 * trial->twin_w[second])
        f->back_s = t - world->fault_at.to_s;
}

static void live(const struct trial *trial, void *state, struct figures *ret)
{
    const struct control *control = trial->control;
    const struct world *world = trial->world;
    struct plant plant;
    struct plant_air air;
    double load, held[PLANT_SPOTS] = {0}, speeds = 0;
    int worked = 0; /* steps of this second in which there was work */
    struct rng noise = {.seed = world->seed ^ UINT64_C(0x5EED)};
    world_at(world, 0, &air, &load);
    plant_init(&plant, &world->plant, &air);

    struct act act = {.batch = 1};
    struct sight sight = {.n_sensors = world->plant.n_spots, .is_total = world->set != WORLD_HALF};
    struct late_meter meter;
    late_meter_init(&meter, plant.total_w);
    struct account account = {.turns = {.low = INFINITY, .high = -INFINITY}};
    *ret = (struct figures){
        .seed = world->seed, .over_k = -INFINITY, .best = trial->best, .back_s = trial->twin_w ? INFINITY : NAN};
    for (int k = 0; k < STEPS; k++) {
        const double t = k * PLANT_STEP_S;
        world_at(world, t, &air, &load);
        if (k % STEPS_PER_S == 0) {
            sight.t_s = t;
            for (int i = 0; i < sight.n_sensors; i++)
                sight.has[i] = world_read(world, &plant, i, t, &noise, &held[i], &sight.c[i]);
            sight.watts = (k ? late_meter_read(&meter, world->meter_late_s) : plant.total_w) *
                          (1 + METER_NOISE * (2 * rng_unit(&noise) - 1));
            sight.speed = speeds / STEPS_PER_S * (1 + METER_NOISE * (2 * rng_unit(&noise) - 1));
            sight.batch = act.batch;
            sight.duty = act.duty * (k ? (double)worked / STEPS_PER_S : 1);
            speeds = worked = 0;
            control->tick(state, &sight, &act);
            account.changes += act.batch != sight.batch && k > 0;
            ret->trips += act.is_trip && !account.was_trip;
            account.was_trip = act.is_trip;
            if (trial->watch)
                trial->watch(trial->ctx, t, &plant, &act, &sight);
        }
        const double share = plant_step(&plant, &air, act.duty * world->work.watts[act.batch] * load);
        const double speed = load > 0 ? share * act.duty * world->work.speed[act.batch] : 0;
        worked += load > 0;
        late_meter_push(&meter, plant.total_w - (sight.is_total ? 0 : air.background_w));
        account.done += speed;
        speeds += speed;
        account_step(&account, trial, &plant, &act, k, ret);
    }
    const double judged_h = WORLD_HOURS - CALM_S / 3600.0;
    ret->speed = account.done / STEPS;
    ret->changes_per_h = (double)account.changes / WORLD_HOURS;
    ret->reversals_per_h = account.plain_turns / judged_h;
    ret->probe_reversals_per_h = account.probe_turns / judged_h;
    ret->below_k = account.n_below ? account.below_k / account.n_below : 0;
}

/* The controller's state at the start; malloc'ed. */
static void *begin(const struct control *control, const struct world *world)
{
    void *state = calloc(1, control->n_bytes);
    if (!state)
        abort();
    if (control->before) {
        const struct trial first = {.control = control->before, .world = world, .best = 1};
        struct figures ignored;
        void *before = begin(first.control, world);
        live(&first, before, &ignored);
        control->begin_again(state, world, before);
        free(before);
    } else
        control->begin(state, world);
    return state;
}

void trial_run(const struct trial *trial, struct figures *ret)
{
    void *state = begin(trial->control, trial->world);
    live(trial, state, ret);
    free(state);
}
