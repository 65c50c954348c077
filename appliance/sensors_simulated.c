#include "appliance/sensors_simulated.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPEC_MAX   300
#define SPEED_MAX  100.0
#define STEP_MAX_S 2.0 /* who comes later finds that the box has waited: a governor would take more for a sleep */

/* A mini PC: little heat, and little that leads it away. */
static const struct plant_params SMALL = {
    .idle_w = 8,
    .leakage_per_k = 0.002,
    .spots = {{.r_k_w = 0.25, .tau_s = 2, .limit_c = 85, .delay_s = 0.5, .step_k = 1}},
    .n_spots = 1,
    .sink_r = 0.9,
    .sink_j_k = 120,
    .fan_slow = 1.3,
    .fan_lag_s = 5,
    .case_r = 1.5,
    .case_j_k = 400,
    .case_air_r = 4,
    .throttle_c = 100,
};

static const struct model {
    const char *name;
    const struct plant_params *params;
    const char *places[PLANT_SPOTS];
    double one_w, most_w; /* of a batch of one; of a large one */
} models[] = {
    {"spark", &plant_spark, {"gpu", "board"}, 70, 90},
    {"small", &SMALL, {"cpu"}, 24, 30},
};
#define N_MODELS (sizeof models / sizeof *models)

/* "900-1500:1.6": numbers between separators. */
static bool read_numbers(const char *text, const char *separators, double *const *ret, int n)
{
    for (int i = 0; i < n; i++) {
        char *end;
        *ret[i] = strtod(text, &end);
        if (end == text || !isfinite(*ret[i]) || *end != separators[i])
            return false;
        text = end + 1;
    }
    return true;
}

static int read_option(struct sensors_simulated *b, const char *name, const char *value, struct err *err)
{
    double limit = NAN, seed = NAN;
    const struct option {
        const char *name, *separators, *form;
        double *values[3], least[3], most[3];
    } options[] = {
        {"ambient", "", "degrees", {&b->ambient_c}, {-20}, {60}},
        {"limit", "", "degrees", {&limit}, {30}, {110}},
        {"speed", "", "simulated seconds in a second", {&b->speed}, {0.1}, {SPEED_MAX}},
        {"seed", "", "a number", {&seed}, {0}, {1e15}},
        {"warm", "-:", "FROM-TO:KELVINS", {&b->warm_from_s, &b->warm_to_s, &b->warm_k}, {0, 0, -30}, {1e9, 1e9, 30}},
        {"vent", "-:", "FROM-TO:FACTOR", {&b->vent_from_s, &b->vent_to_s, &b->vent}, {0, 0, 0.2}, {1e9, 1e9, 5}},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        const struct option *o = &options[i];
        const int n = (int)strlen(o->separators) + 1;
        if (strcmp(o->name, name) != 0)
            continue;
        if (!read_numbers(value, o->separators, o->values, n))
            return err_set(err, ERR_INVAL, "simulated box: %s is %s, not \"%s\"", name, o->form, value);
        for (int k = 0; k < n; k++)
            if (!(*o->values[k] >= o->least[k] && *o->values[k] <= o->most[k]))
                return err_set(err, ERR_INVAL, "simulated box: %s=%s: %g is not between %g and %g", name, value, *o->values[k],
                               o->least[k], o->most[k]);
        if (!isnan(limit))
            b->plant.params.spots[0].limit_c = limit;
        if (!isnan(seed))
            b->rng.seed = (uint64_t)seed;
        return 0;
    }
    return err_set(err, ERR_INVAL, "simulated box: there is no \"%s\"; there are ambient, limit, speed, seed, warm, vent",
                   name);
}

int sensors_simulated_init(struct sensors_simulated *box, const char *spec, struct err *err)
{
    char text[SPEC_MAX], *rest = NULL;
    if (strlen(spec) >= sizeof text)
        return err_set(err, ERR_INVAL, "simulated box: the description is longer than %d characters", SPEC_MAX - 1);
    snprintf(text, sizeof text, "%s", spec);
    char *query = strchr(text, '?');
    if (query)
        *query++ = 0;
    struct sensors_simulated b = {.ambient_c = 23, .speed = 1, .vent = 1, .model = -1};
    for (size_t i = 0; i < N_MODELS; i++)
        if (strcmp(models[i].name, text) == 0)
            b.model = (int)i;
    if (b.model < 0)
        return err_set(err, ERR_INVAL, "simulated box: there is no \"%s\"; there are spark and small", text);
    b.plant.params = *models[b.model].params;
    b.rng.seed = 1;
    for (char *part = query ? strtok_r(query, "&", &rest) : NULL; part; part = strtok_r(NULL, "&", &rest)) {
        char *value = strchr(part, '=');
        if (!value)
            return err_set(err, ERR_INVAL, "simulated box: \"%s\" has no value", part);
        *value++ = 0;
        const int rc = read_option(&b, part, value, err);
        if (rc != 0)
            return rc;
    }
    const struct plant_params params = b.plant.params;
    b.air = (struct plant_air){.ambient_c = b.ambient_c, .vent = 1};
    plant_init(&b.plant, &params, &b.air);
    b.watts = b.plant.total_w;
    for (int i = 0; i < params.n_spots; i++)
        b.c[i] = plant_read(&b.plant, i, &b.rng);
    *box = b;
    return 0;
}

int sensors_simulated_places(const struct sensors_simulated *b)
{
    return b->plant.params.n_spots;
}

const char *sensors_simulated_name(const struct sensors_simulated *b, int i)
{
    return models[b->model].places[i];
}

double sensors_simulated_limit(const struct sensors_simulated *b, int i)
{
    return b->plant.params.spots[i].limit_c;
}

/* What a batch draws: more, but not much more, for a larger one. */
static double batch_w(const struct sensors_simulated *b)
{
    const struct model *m = &models[b->model];
    return b->batch < 1 ? 0 : m->most_w - (m->most_w - m->one_w) / b->batch;
}

void sensors_simulated_step(struct sensors_simulated *b, int64_t now_ns, int batch, double duty)
{
    if (b->last_ns)
        b->owed_s = fmin(b->owed_s + fmax((double)(now_ns - b->last_ns) / 1e9, 0) * b->speed, STEP_MAX_S);
    b->last_ns = now_ns;
    b->batch = batch;
    b->duty = fmin(fmax(duty, 0), 1);
    double energy = 0;
    int n = 0;
    for (; b->owed_s >= PLANT_STEP_S; b->owed_s -= PLANT_STEP_S, n++) {
        b->time_s += PLANT_STEP_S;
        b->air.ambient_c = b->ambient_c + (b->time_s >= b->warm_from_s && b->time_s < b->warm_to_s ? b->warm_k : 0);
        b->air.vent = b->time_s >= b->vent_from_s && b->time_s < b->vent_to_s ? b->vent : 1;
        plant_step(&b->plant, &b->air, b->duty * batch_w(b));
        energy += b->plant.total_w;
    }
    if (n == 0)
        return;
    b->watts = energy / n;
    for (int i = 0; i < b->plant.params.n_spots; i++)
        b->c[i] = plant_read(&b->plant, i, &b->rng);
}

int64_t sensors_simulated_age_ns(const struct sensors_simulated *b)
{
    return (int64_t)((b->time_s + b->owed_s) * 1e9);
}
