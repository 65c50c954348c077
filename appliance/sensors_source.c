#include "appliance/sensors_source.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

#define BELIEVED_LEAST_C 5.0
#define BELIEVED_MOST_C  120.0
#define SCAN_PERIODS     5   /* between two looks through all of sysfs */
#define SEEK_PERIODS     300 /* between two looks for what was missing at the start */
#define TRIES            3   /* at the start: a sensor may say nothing before its first conversion */

const char *const sensors_source_names[SENSORS_SOURCES] = {"sysfs", "NVML", "drives and modules in sysfs"};
static const char *const thread_names[SENSORS_SOURCES] = {"heron-sysfs", "heron-nvml", "heron-others"};

const char *const sensors_part_names[] = {"gpu", "board", "cpu", "other"};

/* ---- a source's thread --------------------------------------------------------------------------------------------------------------- */

static bool is_believable(double c)
{
    return c >= BELIEVED_LEAST_C && c <= BELIEVED_MOST_C;
}

static void publish_c(struct sensors_source *s, int i, double c)
{
    pthread_mutex_lock(&s->lock);
    s->c[i] = c;
    s->c_ns[i] = clock_awake_and_asleep_ns();
    pthread_mutex_unlock(&s->lock);
}

static struct sensors_found *add_found(struct sensors_source *s, const char *name, enum sensors_part part)
{
    struct sensors_found *f = &s->places[s->n_places];
    assert(s->n_places < SENSORS_SOURCE_PLACES);
    snprintf(f->name, sizeof f->name, "%s", name);
    f->part = part;
    f->trip_c = f->critical_c = NAN;
    s->c[s->n_places++] = NAN;
    return f;
}

/* false: closing. */
static bool wait_until(struct sensors_source *s, int64_t when_ns)
{
    pthread_mutex_lock(&s->lock);
    while (!s->is_closing && clock_cond_wait_until(&s->changed, &s->lock, when_ns))
        ;
    const bool is_closing = s->is_closing;
    pthread_mutex_unlock(&s->lock);
    return !is_closing;
}

static void sysfs_watts(struct sensors_source *s)
{
    for (int i = 0; i < s->n_meters; i++) {
        struct sensors_sysfs_rail rail;
        const bool is_read = sensors_sysfs_read_rail(s->sysfs, i, &rail);
        const int64_t now_ns = clock_awake_and_asleep_ns();
        pthread_mutex_lock(&s->lock);
        if (!is_read)
            sensors_meter_miss(&s->meters[i]);
        else if (rail.is_energy)
            sensors_meter_note_energy(&s->meters[i], now_ns, rail.value, rail.range_j);
        else
            sensors_meter_note_power(&s->meters[i], now_ns, rail.value, s->period_ns);
        pthread_mutex_unlock(&s->lock);
    }
}

/* Whether a name that thermal.sensors has means this place. */
bool sensors_is_called(const char *wanted, const char *name, enum sensors_part part)
{
    return strcmp(wanted, name) == 0 || strcmp(wanted, sensors_part_names[part]) == 0;
}

/* What was missing at the start: a driver may have come since. What says nothing that can be believed has not. */
static void sysfs_seek(struct sensors_source *s)
{
    struct sensors_sysfs *now;
    struct err err = {0};
    pthread_mutex_lock(&s->lock);
    const int n_missing = s->has_come ? 0 : s->n_missing; /* names that are there stay as they are */
    pthread_mutex_unlock(&s->lock);
    if (n_missing == 0 || ++s->n_rounds % SEEK_PERIODS != 0 || sensors_sysfs_open(s->path, 0, &now, &err) != 0)
        return;
    sensors_sysfs_find(now, false);
    bool has_come = false;
    for (int i = 0; i < sensors_sysfs_count(now); i++) {
        const struct sensors_sysfs_place *p = sensors_sysfs_place(now, i);
        for (int m = 0; m < n_missing && !has_come; m++)
            has_come = sensors_is_called(s->missing[m], p->name, p->part) && is_believable(sensors_sysfs_read(now, i));
    }
    sensors_sysfs_close(now);
    pthread_mutex_lock(&s->lock);
    s->has_come = has_come;
    pthread_mutex_unlock(&s->lock);
}

static void sysfs_round(struct sensors_source *s)
{
    sysfs_seek(s);
    sensors_sysfs_refresh(s->sysfs, clock_now_ns());
    for (int i = 0; i < s->n_places; i++)
        publish_c(s, i, sensors_sysfs_read(s->sysfs, i));
    if (s->kind == SENSORS_OF_OTHERS)
        return;
    sysfs_watts(s);
    const bool is_limited = sensors_sysfs_is_limited(s->sysfs);
    pthread_mutex_lock(&s->lock);
    s->is_limited = s->is_limited || is_limited;
    pthread_mutex_unlock(&s->lock);
}

/* Returns whether there is something to read every period. */
static bool sysfs_begin(struct sensors_source *s)
{
    struct err err = {0};
    if (sensors_sysfs_open(s->path, SCAN_PERIODS * s->period_ns, &s->sysfs, &err) != 0) {
        snprintf(s->why, sizeof s->why, "%.*s", SENSORS_SOURCE_TEXT - 1, err.text);
        return false;
    }
    sensors_sysfs_find(s->sysfs, s->kind == SENSORS_OF_OTHERS);
    for (int i = 0; i < sensors_sysfs_count(s->sysfs); i++) {
        const struct sensors_sysfs_place *p = sensors_sysfs_place(s->sysfs, i);
        struct sensors_found *f = add_found(s, p->name, p->part);
        f->trip_c = p->trip_c;
        f->critical_c = p->critical_c;
    }
    s->scope = sensors_sysfs_scope(s->sysfs);
    s->n_meters = sensors_sysfs_rails(s->sysfs);
    snprintf(s->meter_name, sizeof s->meter_name, "%s", sensors_sysfs_meter_name(s->sysfs));
    sysfs_round(s);
    for (int try = 1;; try++) {
        bool is_missing = false;
        for (int i = 0; i < s->n_places; i++) {
            s->places[i].is_believed = s->places[i].is_believed || is_believable(s->c[i]);
            is_missing = is_missing || (!s->places[i].is_believed && s->places[i].part != SENSORS_OTHER);
        }
        if (!is_missing || try == TRIES || !wait_until(s, clock_now_ns() + s->period_ns / 10))
            break;
        sysfs_round(s);
    }
    return s->n_places > 0 || s->n_meters > 0;
}

/* Of one GPU: its memory, and what is ours of the rest. Returns the margin, NAN where that is not ours. */
static double nvml_figures(struct sensors_source *s, int gpu)
{
    struct sensors_nvml_figures f;
    sensors_nvml_read_figures(s->nvml, gpu, &f);
    if (s->memory_of[gpu] >= 0)
        publish_c(s, s->memory_of[gpu], f.memory_c);
    if (s->ours >= 0 && gpu != s->ours)
        return NAN;
    const int64_t now_ns = clock_awake_and_asleep_ns();
    pthread_mutex_lock(&s->lock);
    struct sensors_meter *m = &s->meters[s->ours >= 0 ? 0 : gpu];
    if (isnan(f.power))
        sensors_meter_miss(m);
    else if (f.is_energy)
        sensors_meter_note_energy(m, now_ns, f.power, 0);
    else
        sensors_meter_note_power(m, now_ns, f.power, s->period_ns);
    s->is_throttled = s->is_throttled || f.is_throttled;
    s->is_limited = s->is_limited || f.is_limited;
    pthread_mutex_unlock(&s->lock);
    return f.margin_k;
}

static void find_ours(struct sensors_source *s)
{
    s->ours = -1;
    for (int g = 0; g < sensors_nvml_count(s->nvml); g++)
        if (sensors_nvml_number(s->nvml, g) == s->gpu)
            s->ours = g;
}

/* The GPU that was awaited is there: its place is the one that was kept. */
static void nvml_arrive(struct sensors_source *s)
{
    find_ours(s);
    s->ours = s->ours < 0 ? 0 : s->ours;
    s->n_gpus = s->ours + 1;
    for (int g = 0; g < s->n_gpus; g++) {
        s->place_of[g] = g == s->ours ? 0 : -1;
        s->memory_of[g] = -1;
    }
    s->is_late = false;
    log_warning("sensors: the GPU has come; where it throttles itself, and whether there are others, counts from the next "
                "start on");
}

static void nvml_round(struct sensors_source *s)
{
    struct err err = {0};
    const bool is_up = sensors_nvml_begin(s->nvml, clock_now_ns(), &err);
    double margin_k = NAN;
    if (is_up && s->is_late)
        nvml_arrive(s);
    for (int g = 0; g < s->n_gpus; g++)
        if (s->place_of[g] >= 0) {
            const bool is_gone = !s->is_late && sensors_nvml_is_gone(s->nvml, g);
            publish_c(s, s->place_of[g], is_up ? sensors_nvml_read(s->nvml, g, NULL) : NAN);
            pthread_mutex_lock(&s->lock);
            s->is_gone[s->place_of[g]] = is_gone;
            pthread_mutex_unlock(&s->lock);
        }
    for (int g = 0; g < s->n_gpus; g++)
        margin_k = fmin(margin_k, nvml_figures(s, g)); /* fmin takes the one that is there */
    pthread_mutex_lock(&s->lock);
    s->margin_k = margin_k;
    s->margin_ns = clock_awake_and_asleep_ns();
    pthread_mutex_unlock(&s->lock);
}

/* The driver is not loaded yet, or the GPU is gone at the moment: its place is kept, and it is blind until then. */
static void nvml_await(struct sensors_source *s)
{
    char name[SENSORS_NAME_MAX];
    s->is_late = true;
    s->n_gpus = s->n_meters = 1;
    s->ours = s->place_of[0] = 0;
    s->memory_of[0] = -1;
    snprintf(name, sizeof name, "gpu%d", s->gpu);
    add_found(s, name, SENSORS_GPU)->is_awaited = true;
}

static bool nvml_begin(struct sensors_source *s)
{
    struct err err = {0};
    snprintf(s->meter_name, sizeof s->meter_name, "NVML (GPU)");
    const int rc = sensors_nvml_open(s->path, s->period_ns, s->timeout_ns, &s->nvml, &err);
    if (rc == ERR_NOT_FOUND)
        return false;
    if (rc != 0 || !sensors_nvml_begin(s->nvml, clock_now_ns(), &err)) {
        snprintf(s->why, sizeof s->why, "%.*s", SENSORS_SOURCE_TEXT - 1, err.text);
        if (rc == 0 && s->is_needed)
            nvml_await(s);
        return s->n_places > 0;
    }
    char name[SENSORS_NAME_MAX];
    s->n_gpus = sensors_nvml_count(s->nvml);
    find_ours(s);
    for (int g = 0; g < s->n_gpus; g++) {
        bool has_any;
        s->place_of[g] = s->memory_of[g] = -1;
        sensors_nvml_read(s->nvml, g, &has_any);
        if (!has_any)
            continue;
        s->place_of[g] = s->n_places;
        snprintf(name, sizeof name, "gpu%d", sensors_nvml_number(s->nvml, g));
        struct sensors_found *f = add_found(s, name, SENSORS_GPU);
        f->trip_c = sensors_nvml_trip(s->nvml, g);
        f->is_believed = true; /* it can tell, if it does not now */
        f->is_others = s->ours >= 0 && g != s->ours;
    }
    if (s->n_places == 0) {
        snprintf(s->why, sizeof s->why, "no GPU tells its temperature");
        return false;
    }
    s->n_meters = s->ours >= 0 ? 1 : s->n_gpus;
    for (int g = 0; g < s->n_gpus; g++) {
        struct sensors_nvml_figures figures;
        sensors_nvml_read_figures(s->nvml, g, &figures);
        if (!figures.has_power && (s->ours < 0 || g == s->ours)) /* one that does not tell makes the sum of all worthless */
            s->n_meters = 0;
        if (s->place_of[g] < 0 || !is_believable(figures.memory_c))
            continue;
        s->memory_of[g] = s->n_places;
        snprintf(name, sizeof name, "gpu%d/memory", sensors_nvml_number(s->nvml, g));
        add_found(s, name, SENSORS_OTHER)->trip_c = sensors_nvml_memory_trip(s->nvml, g);
    }
    nvml_round(s);
    return true;
}

static void source_free(struct sensors_source *s)
{
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static void *source_main(void *arg)
{
    struct sensors_source *s = arg;
    const bool is_sysfs = s->kind != SENSORS_OF_NVML;
    const bool is_worth = is_sysfs ? sysfs_begin(s) : nvml_begin(s);
    int64_t next_ns = clock_now_ns();
    pthread_mutex_lock(&s->lock);
    s->has_begun = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    while (is_worth) {
        const int64_t late_ns = clock_now_ns() - next_ns;
        next_ns += (late_ns > 0 ? late_ns / s->period_ns + 1 : 1) * s->period_ns; /* what was missed is not made up for */
        if (!wait_until(s, next_ns))
            break;
        if (is_sysfs)
            sysfs_round(s);
        else
            nvml_round(s);
    }
    sensors_sysfs_close(s->sysfs);
    sensors_nvml_close(s->nvml);
    pthread_mutex_lock(&s->lock);
    s->has_ended = true;
    const bool is_left = s->is_left;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (is_left)
        source_free(s);
    return NULL;
}

/* ---- its owner ---------------------------------------------------------------------------------------------------------------------------- */

int sensors_source_open(enum sensors_source_kind kind, const char *path, const struct sensors_options *o, int64_t period_ns,
                        int64_t timeout_ns, struct sensors_source **ret_source, struct err *err)
{
    struct sensors_source *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "out of memory: sensors");
    s->kind = kind;
    s->is_needed = o->is_gpu;
    s->gpu = o->gpu;
    s->period_ns = period_ns;
    s->timeout_ns = timeout_ns;
    s->margin_k = NAN;
    snprintf(s->path, sizeof s->path, "%s", path);
    pthread_mutex_init(&s->lock, NULL);
    clock_cond_init(&s->changed);
    if (pthread_create(&s->thread, NULL, source_main, s) != 0) {
        source_free(s);
        return err_set(err, ERR_IO, "cannot start the thread that reads %s", sensors_source_names[kind]);
    }
    pthread_setname_np(s->thread, thread_names[kind]);
    *ret_source = s;
    return 0;
}

/* Wait until the source has found its places. false: not until then. */
bool sensors_source_await(struct sensors_source *s, int64_t until_ns)
{
    pthread_mutex_lock(&s->lock);
    while (!s->has_begun && clock_cond_wait_until(&s->changed, &s->lock, until_ns))
        ;
    const bool has_begun = s->has_begun;
    pthread_mutex_unlock(&s->lock);
    return has_begun;
}

void sensors_source_stop(struct sensors_source *s)
{
    pthread_mutex_lock(&s->lock);
    s->is_closing = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

/* After sensors_source_stop. A thread that hangs in a driver is left behind, and frees what it has when it comes back. */
void sensors_source_close(struct sensors_source *s, int64_t until_ns)
{
    pthread_mutex_lock(&s->lock);
    while (!s->has_ended && clock_cond_wait_until(&s->changed, &s->lock, until_ns))
        ;
    const bool is_left = s->is_left = !s->has_ended;
    const pthread_t thread = s->thread;
    const enum sensors_source_kind kind = s->kind;
    if (is_left)
        pthread_detach(thread); /* before the lock is let go: afterwards it may be gone */
    pthread_mutex_unlock(&s->lock);
    if (is_left) {
        log_warning("sensors: %s hangs in a driver, going on without its thread", sensors_source_names[kind]);
        return;
    }
    pthread_join(thread, NULL);
    source_free(s);
}
