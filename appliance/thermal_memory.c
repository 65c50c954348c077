#include "appliance/thermal_memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#define BATCH_MOST 100000
#define WATTS_MOST 1e5

/* Every figure of a body, and what it can be, for a box of the unit 1; by how much it grows with the unit, as a power of it. */
static const struct figure {
    const char *name;
    size_t at;
    double least, most;
    int power;
} figures[] = {
    {"r", offsetof(struct observer_body, r_k_w), 0.05, 0.5, -1},
    {"tau", offsetof(struct observer_body, tau_s), 1, 10, 0},
    {"delay", offsetof(struct observer_body, delay_s), 0, OBSERVER_PAST - 1, 0},
    {"sink", offsetof(struct observer_body, sink_j_k), 100, 1000, 1},
};
#define N_FIGURES (sizeof figures / sizeof *figures)

static double *figure_of(struct observer_body *body, const struct figure *f)
{
    return (double *)((char *)body + f->at);
}

/* Of places that are not there at the moment what was known stays. */
static bool carry_over(const json_t *before, const char *what, json_t *to)
{
    json_t *had = json_object_get(before, what);
    return !json_is_object(had) || json_object_update_missing(to, had) == 0;
}

char *thermal_memory_write(const struct governor_memory *memory, const char *const *names, int n,
                           const struct thermal_memory_key *key, const char *before)
{
    json_t *places = json_object(), *limits = json_object(), *rungs = json_array(), *wanted = json_array();
    json_t *root =
        json_pack("{s:s, s:s, s:s, s:f, s:f, s:f}", "machine", key->machine, "model", key->model, "meter", key->meter,
                  "sustainable_w", memory->sustainable_w, "factor", memory->factor, "unit", memory->unit);
    json_t *had = before ? json_loads(before, 0, NULL) : NULL;
    bool is_bad = !root || !places || !limits || !wanted;
    for (int i = 0; i < n && !is_bad; i++) {
        if (!names[i])
            continue;
        struct observer_body body = memory->bodies[i];
        is_bad = json_object_set_new(limits, names[i], json_real(memory->limits_c[i])) != 0;
        if (body.r_k_w <= 0)
            continue;
        json_t *place = json_object();
        for (size_t k = 0; k < N_FIGURES; k++)
            is_bad |= json_object_set_new(place, figures[k].name, json_real(*figure_of(&body, &figures[k]))) != 0;
        is_bad |= json_object_set_new(places, names[i], place) != 0;
    }
    is_bad = is_bad || !carry_over(had, "places", places) || !carry_over(had, "limits", limits);
    for (int i = 0; i < memory->workload.n_rungs; i++) {
        const struct workload_rung *r = &memory->workload.rungs[i];
        is_bad |= json_array_append_new(rungs,
                                        json_pack("[i, f, f, f, f]", r->batch, r->watts, r->speed, r->seen_s, r->speed_s)) != 0;
    }
    for (int i = 0; i < key->n_wanted; i++)
        is_bad |= json_array_append_new(wanted, json_string(key->wanted[i])) != 0;
    is_bad |= json_object_set(root, "places", places) != 0 || json_object_set(root, "limits", limits) != 0 ||
              json_object_set(root, "rungs", rungs) != 0 || json_object_set(root, "sensors", wanted) != 0;
    char *text = is_bad ? NULL : json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    json_decref(places);
    json_decref(limits);
    json_decref(rungs);
    json_decref(wanted);
    json_decref(had);
    json_decref(root);
    return text;
}

static int read_body(const json_t *place, const char *name, double unit, struct observer_body *ret, struct err *err)
{
    for (size_t k = 0; k < N_FIGURES; k++) {
        const struct figure *f = &figures[k];
        const double x = json_number_value(json_object_get(place, f->name)), times = pow(unit > 0 ? unit : 1, f->power);
        if (!json_is_number(json_object_get(place, f->name)) || !(x >= f->least * times && x <= f->most * times))
            return err_set(err, ERR_FORMAT, "places.%s.%s is no number between %g and %g", name, f->name, f->least * times,
                           f->most * times);
        *figure_of(ret, f) = x;
    }
    return 0;
}

static int read_rungs(const json_t *rungs, struct workload_memory *ret, struct err *err)
{
    for (size_t i = 0; i < json_array_size(rungs) && ret->n_rungs < WORKLOAD_RUNGS; i++) {
        struct workload_rung *r = &ret->rungs[ret->n_rungs++];
        const json_t *row = json_array_get(rungs, i);
        r->batch = (int)json_integer_value(json_array_get(row, 0));
        r->watts = json_number_value(json_array_get(row, 1));
        r->speed = json_number_value(json_array_get(row, 2));
        r->seen_s = json_number_value(json_array_get(row, 3));
        r->speed_s = json_number_value(json_array_get(row, 4));
        if (r->batch < 1 || r->batch > BATCH_MOST || !(r->watts > 0 && r->watts < WATTS_MOST) ||
            !(r->speed > 0 && r->speed < 1e7) || !(r->seen_s >= 0 && r->seen_s < 1e9) || !(r->speed_s >= 0 && r->speed_s < 1e9))
            return err_set(err, ERR_FORMAT, "rungs: number %zu is no batch with watts and speed", i + 1);
    }
    return 0;
}

static bool is_text(const json_t *root, const char *name, const char *text)
{
    const char *said = json_string_value(json_object_get(root, name));
    return said && strcmp(said, text) == 0;
}

int thermal_memory_read(const char *json, const char *const *names, int n, const struct thermal_memory_key *key,
                        struct governor_memory *ret, struct err *err)
{
    json_error_t why;
    json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        return err_set(err, ERR_FORMAT, "line %d: %s", why.line, why.text);
    struct governor_memory memory = {0};
    int rc = 0;
    const json_t *sustainable = json_object_get(root, "sustainable_w");
    memory.sustainable_w = json_number_value(sustainable);
    memory.factor = json_number_value(json_object_get(root, "factor"));
    memory.unit = json_number_value(json_object_get(root, "unit"));
    if (!json_is_string(json_object_get(root, "machine")) || !json_is_number(sustainable) ||
        !(memory.sustainable_w >= 0 && memory.sustainable_w < WATTS_MOST) || !(memory.factor >= 0 && memory.factor < 100) ||
        !(memory.unit == 0 || (memory.unit >= 0.01 && memory.unit <= 100)))
        rc = err_set(err, ERR_FORMAT, "machine, sustainable_w, factor or unit is missing, or cannot be");
    else if (!is_text(root, "machine", key->machine))
        rc = err_set(err, ERR_STATE, "it was learned on another machine");
    else if (!is_text(root, "meter", key->meter))
        rc = err_set(err, ERR_UNSUPPORTED, "it was learned with another meter");
    else
        rc = read_rungs(json_object_get(root, "rungs"), &memory.workload, err);
    if (rc == 0 && !is_text(root, "model", key->model)) { /* the box is the same, the work is another */
        memory.workload.n_rungs = 0;
        memory.sustainable_w = memory.factor = 0;
    }
    for (int i = 0; i < n && rc == 0; i++) {
        const json_t *place = json_object_get(json_object_get(root, "places"), names[i]);
        memory.limits_c[i] = json_number_value(json_object_get(json_object_get(root, "limits"), names[i]));
        if (place)
            rc = read_body(place, names[i], memory.unit, &memory.bodies[i], err);
    }
    json_decref(root);
    if (rc == 0)
        *ret = memory;
    return rc;
}

bool thermal_memory_had(const char *json, const char *machine, const char *const *wanted, int n_wanted)
{
    json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    const json_t *had = json_object_get(root, "sensors");
    bool is_same = is_text(root, "machine", machine) && n_wanted > 0 && json_array_size(had) == (size_t)n_wanted;
    for (int i = 0; i < n_wanted && is_same; i++) {
        const char *name = json_string_value(json_array_get(had, (size_t)i));
        is_same = name && strcmp(name, wanted[i]) == 0;
    }
    json_decref(root);
    return is_same;
}

int thermal_memory_governed(const char *json, const char *machine, char ret_names[SENSORS_MAX][SENSORS_NAME_MAX])
{
    json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, NULL), *limits = json_object_get(root, "limits");
    int n = 0;
    if (!is_text(root, "machine", machine))
        limits = NULL;
    for (void *at = json_object_iter(limits); at && n < SENSORS_MAX; at = json_object_iter_next(limits, at))
        snprintf(ret_names[n++], SENSORS_NAME_MAX, "%.*s", SENSORS_NAME_MAX - 1, json_object_iter_key(at));
    json_decref(root);
    return n;
}
