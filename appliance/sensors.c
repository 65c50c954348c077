#include "appliance/sensors.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "appliance/sensors_nvml.h"
#include "appliance/sensors_simulated.h"
#include "appliance/sensors_sysfs.h"
#include "base/clock.h"
#include "base/log.h"

#define TJMAX_K          10.0 /* below a processor's Tjmax */
#define TRIP_K           5.0  /* below what the kernel or the device acts at by itself: the two must not fight */
#define BELIEVED_LEAST_C 5.0
#define BELIEVED_MOST_C  120.0
#define WATTS_MOST       2000.0 /* of one GPU or processor package */
#define FRESH_PERIODS    1.5
#define START_TIMEOUTS   10  /* timeouts for the first answer: a GPU that nobody uses takes seconds to wake up */
#define SCAN_PERIODS     5   /* between two looks through all of sysfs */
#define SEEK_PERIODS     300 /* between two looks for what was missing at the start */
#define TRIES            3   /* at the start: a sensor may say nothing before its first conversion */
#define TEXT_MAX         512
#define SIMULATED        "simulated:"

#define SOURCE_PLACES (SENSORS_SYSFS_PLACES > 2 * SENSORS_NVML_GPUS ? SENSORS_SYSFS_PLACES : 2 * SENSORS_NVML_GPUS)
#define SOURCE_METERS (SENSORS_SYSFS_RAILS > SENSORS_NVML_GPUS ? SENSORS_SYSFS_RAILS : SENSORS_NVML_GPUS)

/* What does not govern has a thread of its own: a drive or a modem that hangs must blind nobody. */
enum source_kind { SOURCE_SYSFS, SOURCE_NVML, SOURCE_OTHERS, N_SOURCES };
static const char *const source_names[N_SOURCES] = {"sysfs", "NVML", "drives and modules in sysfs"};
static const char *const thread_names[N_SOURCES] = {"heron-sysfs", "heron-nvml", "heron-others"};

static const char *const part_names[] = {"gpu", "board", "cpu", "other"};

/* A counter or power reading on its way to mean watts. */
struct meter {
    bool has_last;
    double last_j;
    int64_t last_ns;        /* of the reading before */
    double joules, seconds; /* since they were taken */
    double watts;           /* newest mean */
    int64_t said_ns;        /* when; 0: never */
};

/* A place as its source found it. */
struct found {
    char name[SENSORS_NAME_MAX];
    enum sensors_part part;
    double trip_c, critical_c;
    bool is_believed; /* it said something that can be a temperature */
    bool is_awaited;  /* it has not been seen yet */
    bool is_others;   /* a GPU that does other people's work */
};

/* One thread, and what it found and read. Freed by whoever leaves last: the owner, or a thread that was left behind. */
struct source {
    /* immutable while the thread runs */
    enum source_kind kind;
    char path[TEXT_MAX]; /* root of sysfs, or the library */
    bool is_needed;      /* the engine computes on what it tells about: it is waited for */
    int gpu;             /* of NVML's number */
    int64_t period_ns, timeout_ns;
    pthread_t thread;

    /* the thread's */
    struct sensors_sysfs *sysfs;
    struct sensors_nvml *nvml;
    int n_gpus, ours;                                              /* the one that the engine computes on; -1: not known */
    bool is_late;                                                  /* nothing was known of it at the start */
    int n_rounds;                                                  /* of looking for what is missing */
    int place_of[SENSORS_NVML_GPUS], memory_of[SENSORS_NVML_GPUS]; /* of a GPU and of its memory; -1: none */

    pthread_mutex_t lock; /* of all below; never held while something is read */
    pthread_cond_t changed;
    bool is_closing, has_begun, has_ended, is_left;
    char why[TEXT_MAX]; /* there is nothing to read; "": it is simply not there */
    int n_places;
    struct found places[SOURCE_PLACES]; /* fixed once it has begun */
    double c[SOURCE_PLACES];
    int64_t c_ns[SOURCE_PLACES]; /* when it was read */
    bool is_gone[SOURCE_PLACES]; /* what it is the temperature of */
    enum sensors_sysfs_scope scope;
    char meter_name[SENSORS_NAME_MAX * 2];
    int n_meters;
    struct meter meters[SOURCE_METERS];
    double margin_k;
    int64_t margin_ns;
    bool is_throttled, is_limited; /* since they were taken */
    int n_missing;                 /* looked for, once it is given */
    char missing[SENSORS_MAX][SENSORS_NAME_MAX];
    bool has_come; /* one of them */
};

struct slot {
    struct sensors_place place;
    bool is_others;    /* a GPU that does other people's work: by its own name only it governs */
    int source, index; /* which of its places; simulated: the box's */
};

#define NOWHERE   (-1) /* as a source: nothing tells of it */
#define SLOTS_MAX (N_SOURCES * SOURCE_PLACES + SENSORS_MAX)

struct sensors {
    int64_t period_ns, timeout_ns;
    struct source *sources[N_SOURCES]; /* NULL: absent */
    bool is_metered[N_SOURCES];        /* its watts count */
    int n, n_governing;
    struct slot slots[SENSORS_MAX];
    enum governor_meter meter;
    char meter_name[SENSORS_NAME_MAX * 2];
    bool is_simulated;
    struct sensors_simulated box;
    int batch;
    double duty;
};

/* ---- watts -------------------------------------------------------------------------------------------------------------------------- */

static void meter_miss(struct meter *m)
{
    m->has_last = false;
}

static void meter_add(struct meter *m, int64_t now_ns, double joules, double seconds)
{
    const double watts = joules / seconds;
    m->last_ns = now_ns;
    if (!(watts > 0 && watts <= WATTS_MOST)) /* the counter began anew, or means nothing */
        return;
    m->joules += joules;
    m->seconds += seconds;
    m->watts = watts;
    m->said_ns = now_ns;
}

/* range_j: where the counter begins again; 0: not known. One that stands still has not counted yet: it is no zero, and the time goes on. */
static void meter_note_energy(struct meter *m, int64_t now_ns, double joules, double range_j)
{
    const double more = joules - m->last_j;
    if (m->has_last && more == 0)
        return;
    const bool had_last = m->has_last;
    const double seconds = (double)(now_ns - m->last_ns) / 1e9;
    m->has_last = true;
    m->last_j = joules;
    if (had_last && seconds > 0)
        meter_add(m, now_ns, more < 0 ? more + range_j : more, seconds);
    m->last_ns = now_ns;
}

static void meter_note_power(struct meter *m, int64_t now_ns, double watts, int64_t period_ns)
{
    if (!(watts > 0 && watts <= WATTS_MOST)) {
        meter_miss(m);
        return;
    }
    /* after a gap it stands for a period, not for the gap */
    const int64_t passed_ns = m->has_last && now_ns - m->last_ns < 2 * period_ns ? now_ns - m->last_ns : period_ns;
    m->has_last = true;
    meter_add(m, now_ns, watts * (double)passed_ns / 1e9, (double)passed_ns / 1e9);
}

/* Mean since the last call; the newest one when there was no reading since, as long as it is fresh. */
static double meter_take(struct meter *m, int64_t now_ns, int64_t fresh_ns)
{
    double watts = m->said_ns != 0 && now_ns - m->said_ns <= fresh_ns ? m->watts : NAN;
    if (m->seconds > 0)
        watts = m->joules / m->seconds;
    m->joules = m->seconds = 0;
    return watts;
}

/* ---- a source's thread --------------------------------------------------------------------------------------------------------------- */

static bool is_believable(double c)
{
    return c >= BELIEVED_LEAST_C && c <= BELIEVED_MOST_C;
}

static void publish_c(struct source *s, int i, double c)
{
    pthread_mutex_lock(&s->lock);
    s->c[i] = c;
    s->c_ns[i] = clock_awake_and_asleep_ns();
    pthread_mutex_unlock(&s->lock);
}

static struct found *add_found(struct source *s, const char *name, enum sensors_part part)
{
    struct found *f = &s->places[s->n_places];
    assert(s->n_places < SOURCE_PLACES);
    snprintf(f->name, sizeof f->name, "%s", name);
    f->part = part;
    f->trip_c = f->critical_c = NAN;
    s->c[s->n_places++] = NAN;
    return f;
}

/* false: closing. */
static bool wait_until(struct source *s, int64_t when_ns)
{
    pthread_mutex_lock(&s->lock);
    while (!s->is_closing && clock_cond_wait_until(&s->changed, &s->lock, when_ns))
        ;
    const bool is_closing = s->is_closing;
    pthread_mutex_unlock(&s->lock);
    return !is_closing;
}

static void sysfs_watts(struct source *s)
{
    for (int i = 0; i < s->n_meters; i++) {
        struct sensors_sysfs_rail rail;
        const bool is_read = sensors_sysfs_read_rail(s->sysfs, i, &rail);
        const int64_t now_ns = clock_awake_and_asleep_ns();
        pthread_mutex_lock(&s->lock);
        if (!is_read)
            meter_miss(&s->meters[i]);
        else if (rail.is_energy)
            meter_note_energy(&s->meters[i], now_ns, rail.value, rail.range_j);
        else
            meter_note_power(&s->meters[i], now_ns, rail.value, s->period_ns);
        pthread_mutex_unlock(&s->lock);
    }
}

/* Whether a name that thermal.sensors has means this place. */
static bool is_called(const char *wanted, const char *name, enum sensors_part part)
{
    return strcmp(wanted, name) == 0 || strcmp(wanted, part_names[part]) == 0;
}

/* What was missing at the start: a driver may have come since. What says nothing that can be believed has not. */
static void sysfs_seek(struct source *s)
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
            has_come = is_called(s->missing[m], p->name, p->part) && is_believable(sensors_sysfs_read(now, i));
    }
    sensors_sysfs_close(now);
    pthread_mutex_lock(&s->lock);
    s->has_come = has_come;
    pthread_mutex_unlock(&s->lock);
}

static void sysfs_round(struct source *s)
{
    sysfs_seek(s);
    sensors_sysfs_refresh(s->sysfs, clock_now_ns());
    for (int i = 0; i < s->n_places; i++)
        publish_c(s, i, sensors_sysfs_read(s->sysfs, i));
    if (s->kind == SOURCE_OTHERS)
        return;
    sysfs_watts(s);
    const bool is_limited = sensors_sysfs_is_limited(s->sysfs);
    pthread_mutex_lock(&s->lock);
    s->is_limited = s->is_limited || is_limited;
    pthread_mutex_unlock(&s->lock);
}

/* Returns whether there is something to read every period. */
static bool sysfs_begin(struct source *s)
{
    struct err err = {0};
    if (sensors_sysfs_open(s->path, SCAN_PERIODS * s->period_ns, &s->sysfs, &err) != 0) {
        snprintf(s->why, sizeof s->why, "%.*s", TEXT_MAX - 1, err.text);
        return false;
    }
    sensors_sysfs_find(s->sysfs, s->kind == SOURCE_OTHERS);
    for (int i = 0; i < sensors_sysfs_count(s->sysfs); i++) {
        const struct sensors_sysfs_place *p = sensors_sysfs_place(s->sysfs, i);
        struct found *f = add_found(s, p->name, p->part);
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
static double nvml_figures(struct source *s, int gpu)
{
    struct sensors_nvml_figures f;
    sensors_nvml_read_figures(s->nvml, gpu, &f);
    if (s->memory_of[gpu] >= 0)
        publish_c(s, s->memory_of[gpu], f.memory_c);
    if (s->ours >= 0 && gpu != s->ours)
        return NAN;
    const int64_t now_ns = clock_awake_and_asleep_ns();
    pthread_mutex_lock(&s->lock);
    struct meter *m = &s->meters[s->ours >= 0 ? 0 : gpu];
    if (isnan(f.power))
        meter_miss(m);
    else if (f.is_energy)
        meter_note_energy(m, now_ns, f.power, 0);
    else
        meter_note_power(m, now_ns, f.power, s->period_ns);
    s->is_throttled = s->is_throttled || f.is_throttled;
    s->is_limited = s->is_limited || f.is_limited;
    pthread_mutex_unlock(&s->lock);
    return f.margin_k;
}

static void find_ours(struct source *s)
{
    s->ours = -1;
    for (int g = 0; g < sensors_nvml_count(s->nvml); g++)
        if (sensors_nvml_number(s->nvml, g) == s->gpu)
            s->ours = g;
}

/* The GPU that was awaited is there: its place is the one that was kept. */
static void nvml_arrive(struct source *s)
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

static void nvml_round(struct source *s)
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
static void nvml_await(struct source *s)
{
    char name[SENSORS_NAME_MAX];
    s->is_late = true;
    s->n_gpus = s->n_meters = 1;
    s->ours = s->place_of[0] = 0;
    s->memory_of[0] = -1;
    snprintf(name, sizeof name, "gpu%d", s->gpu);
    add_found(s, name, SENSORS_GPU)->is_awaited = true;
}

static bool nvml_begin(struct source *s)
{
    struct err err = {0};
    snprintf(s->meter_name, sizeof s->meter_name, "NVML (GPU)");
    const int rc = sensors_nvml_open(s->path, s->period_ns, s->timeout_ns, &s->nvml, &err);
    if (rc == ERR_NOT_FOUND)
        return false;
    if (rc != 0 || !sensors_nvml_begin(s->nvml, clock_now_ns(), &err)) {
        snprintf(s->why, sizeof s->why, "%.*s", TEXT_MAX - 1, err.text);
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
        struct found *f = add_found(s, name, SENSORS_GPU);
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

static void source_free(struct source *s)
{
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static void *source_main(void *arg)
{
    struct source *s = arg;
    const bool is_sysfs = s->kind != SOURCE_NVML;
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

static int source_open(enum source_kind kind, const char *path, const struct sensors_options *o, int64_t period_ns,
                       int64_t timeout_ns, struct source **ret_source, struct err *err)
{
    struct source *s = calloc(1, sizeof *s);
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
        return err_set(err, ERR_IO, "cannot start the thread that reads %s", source_names[kind]);
    }
    pthread_setname_np(s->thread, thread_names[kind]);
    *ret_source = s;
    return 0;
}

/* Wait until the source has found its places. false: not until then. */
static bool source_await(struct source *s, int64_t until_ns)
{
    pthread_mutex_lock(&s->lock);
    while (!s->has_begun && clock_cond_wait_until(&s->changed, &s->lock, until_ns))
        ;
    const bool has_begun = s->has_begun;
    pthread_mutex_unlock(&s->lock);
    return has_begun;
}

static void source_stop(struct source *s)
{
    pthread_mutex_lock(&s->lock);
    s->is_closing = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

/* After source_stop. A thread that hangs in a driver is left behind, and frees what it has when it comes back. */
static void source_close(struct source *s, int64_t until_ns)
{
    pthread_mutex_lock(&s->lock);
    while (!s->has_ended && clock_cond_wait_until(&s->changed, &s->lock, until_ns))
        ;
    const bool is_left = s->is_left = !s->has_ended;
    const pthread_t thread = s->thread;
    const enum source_kind kind = s->kind;
    if (is_left)
        pthread_detach(thread); /* before the lock is let go: afterwards it may be gone */
    pthread_mutex_unlock(&s->lock);
    if (is_left) {
        log_warning("sensors: %s hangs in a driver, going on without its thread", source_names[kind]);
        return;
    }
    pthread_join(thread, NULL);
    source_free(s);
}

/* ---- places and limits -------------------------------------------------------------------------------------------------------------------- */

static double limit_of(const struct sensors_options *o, const struct found *f)
{
    static const double usual_c[] = {SENSORS_GPU_LIMIT_C, SENSORS_BOARD_LIMIT_C, SENSORS_CPU_LIMIT_C};
    if (f->part == SENSORS_OTHER)
        return f->trip_c;
    const bool is_set = o->limit_c > 0 && f->part == (o->is_gpu ? SENSORS_GPU : SENSORS_CPU);
    double limit = is_set ? o->limit_c : usual_c[f->part];
    if (f->part == SENSORS_CPU && !is_set)
        limit = fmin(limit, f->critical_c - TJMAX_K);
    return f->trip_c < limit + TRIP_K ? f->trip_c - TRIP_K : limit;
}

/* Something of the machine that computes: a GPU that sleeps until then counts before it has said anything. */
static bool may_govern(const struct sensors_options *o, const struct found *f)
{
    return f->part != SENSORS_OTHER && (f->is_believed || (o->is_gpu && f->part == SENSORS_GPU));
}

/* Those that govern first; of these the processors first, should there be too many. */
static int slot_rank(const struct slot *s)
{
    static const int ranks[] = {[SENSORS_GPU] = 0, [SENSORS_CPU] = 1, [SENSORS_BOARD] = 2, [SENSORS_OTHER] = 3};
    return ranks[s->place.part] + (s->place.governs ? 0 : 4);
}

static int compare_slots(const void *a, const void *b)
{
    const struct slot *x = a, *y = b;
    int order = slot_rank(x) - slot_rank(y);
    order = order ? order : x->source - y->source;
    return order ? order : x->index - y->index;
}

static bool is_meant(const struct slot *s, const char *wanted)
{
    return s->is_others ? strcmp(wanted, s->place.name) == 0 : is_called(wanted, s->place.name, s->place.part);
}

/* A place that nothing tells of: of the part that its name says. */
static struct slot missing_slot(const struct sensors_options *o, const char *wanted)
{
    struct found missing = {.part = SENSORS_CPU, .trip_c = NAN, .critical_c = NAN};
    for (int part = 0; part < SENSORS_OTHER; part++)
        if (strncmp(wanted, part_names[part], strlen(part_names[part])) == 0)
            missing.part = (enum sensors_part)part;
    struct slot slot = {.source = NOWHERE,
                        .place = {.part = missing.part, .limit_c = limit_of(o, &missing), .governs = true, .is_missing = true}};
    snprintf(slot.place.name, sizeof slot.place.name, "%s", wanted);
    return slot;
}

static int refuse_wanted(const struct slot *slots, int n, const char *wanted, struct err *err)
{
    char list[360] = "";
    size_t used = 0;
    bool has_part[4] = {false};
    for (int i = 0; i < n; i++)
        has_part[slots[i].place.part] = has_part[slots[i].place.part] || slots[i].place.governs;
    for (int part = 0; part < SENSORS_OTHER; part++)
        if (has_part[part])
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", part_names[part]);
    for (int i = 0; i < n && used < sizeof list; i++)
        if (slots[i].place.governs)
            used += (size_t)snprintf(list + used, sizeof list - used, ", %s", slots[i].place.name);
    return err_set(err, ERR_INVAL, "there is no temperature \"%.40s\" to keep a limit of; %s%s", wanted,
                   used ? "there are " : "this machine tells none", list);
}

/* Only what is wanted governs, or what computes and what lies beside it; the others are still shown. May add places that nothing tells of. */
static int apply_wanted(const struct sensors_options *o, bool does_without, struct slot *slots, int *n, struct err *err)
{
    bool is_kept[SLOTS_MAX] = {false};
    for (int w = 0; w < o->n_wanted; w++) {
        bool is_any = false;
        for (int i = 0; i < *n; i++)
            if (slots[i].place.governs && is_meant(&slots[i], o->wanted[w]))
                is_any = is_kept[i] = true;
        for (int i = 0; i < *n && does_without && !is_any; i++) /* there, and says nothing yet: it may, later */
            if (slots[i].place.part != SENSORS_OTHER && is_meant(&slots[i], o->wanted[w]))
                is_any = is_kept[i] = true;
        if (!is_any && !(does_without && *n < SLOTS_MAX))
            return refuse_wanted(slots, *n, o->wanted[w], err);
        if (!is_any) {
            is_kept[*n] = true;
            slots[(*n)++] = missing_slot(o, o->wanted[w]);
        }
    }
    for (int i = 0; i < *n; i++)
        if (o->n_wanted > 0)
            slots[i].place.governs = is_kept[i];
        else if (slots[i].place.part == SENSORS_GPU && (!o->is_gpu || slots[i].is_others))
            slots[i].place.governs = false; /* it is warm from somebody else's work: our rest would not cool it */
    return 0;
}

static int count_gpus(const struct sensors *s)
{
    int n = 0;
    for (int k = 0; k < N_SOURCES; k++)
        for (int i = 0; s->sources[k] && i < s->sources[k]->n_places; i++)
            n += s->sources[k]->places[i].part == SENSORS_GPU;
    return n;
}

/* NVML is not waited for where the kernel knows the GPU, as on a Jetson. Returns whether it is so. */
static bool drop_awaited(struct sensors *s)
{
    struct source *nvml = s->sources[SOURCE_NVML];
    if (!nvml || nvml->n_places == 0 || !nvml->places[0].is_awaited || count_gpus(s) == 1)
        return false;
    s->sources[SOURCE_NVML] = NULL;
    source_stop(nvml);
    source_close(nvml, clock_now_ns() + s->timeout_ns);
    return true;
}

/* What nothing tells of has a place only where it governs. Returns how many are left. */
static int drop_unseen(struct slot *slots, int n)
{
    int kept = 0;
    for (int i = 0; i < n; i++) {
        if (slots[i].source == NOWHERE && slots[i].place.governs)
            log_warning("sensors: nothing tells how warm it is: going on slowly until the next start, unless thermal.sensors "
                        "names others sensor=\"%s\"",
                        slots[i].place.name);
        if (slots[i].source != NOWHERE || slots[i].place.governs)
            slots[kept++] = slots[i];
    }
    return kept;
}

static void seek_missing(struct sensors *s)
{
    struct source *sysfs = s->sources[SOURCE_SYSFS];
    if (!sysfs)
        return;
    pthread_mutex_lock(&sysfs->lock);
    for (int i = 0; i < s->n_governing; i++)
        if (s->slots[i].place.is_missing)
            memcpy(sysfs->missing[sysfs->n_missing++], s->slots[i].place.name, SENSORS_NAME_MAX);
    pthread_mutex_unlock(&sysfs->lock);
}

static int collect_places(struct sensors *s, const struct sensors_options *o, bool does_without, struct err *err)
{
    struct slot slots[SLOTS_MAX];
    int n = 0, governing = 0;
    const bool is_unseen = !drop_awaited(s) && o->is_gpu && count_gpus(s) == 0;
    for (int k = 0; k < N_SOURCES; k++)
        for (int i = 0; s->sources[k] && i < s->sources[k]->n_places; i++) {
            const struct found *f = &s->sources[k]->places[i];
            struct slot *slot = &slots[n++];
            *slot = (struct slot){.source = k, .index = i};
            memcpy(slot->place.name, f->name, sizeof slot->place.name);
            slot->place.part = f->part;
            slot->is_others = f->is_others;
            slot->place.limit_c = limit_of(o, f);
            slot->place.governs = may_govern(o, f);
            if (f->part != SENSORS_OTHER && !slot->place.governs)
                log_notice("sensors: leaving out one that says nothing that can be believed sensor=\"%s\"", f->name);
            if (f->is_awaited)
                log_warning("sensors: the GPU says nothing yet: going on slowly until it does");
        }
    if (is_unseen) /* nothing will ever tell of it, or only after another start */
        slots[n++] = missing_slot(o, "gpu0");
    qsort(slots, (size_t)n, sizeof *slots, compare_slots);
    const int rc = apply_wanted(o, does_without, slots, &n, err);
    if (rc != 0)
        return rc;
    n = drop_unseen(slots, n);
    qsort(slots, (size_t)n, sizeof *slots, compare_slots);
    for (int i = 0; i < n; i++)
        governing += slots[i].place.governs;
    if (governing > SENSORS_MAX)
        log_warning("sensors: ignoring %d of %d temperatures that should have a limit: there is room for %d",
                    governing - SENSORS_MAX, governing, SENSORS_MAX);
    s->n = n < SENSORS_MAX ? n : SENSORS_MAX;
    s->n_governing = governing < s->n ? governing : s->n;
    memcpy(s->slots, slots, (size_t)s->n * sizeof *slots);
    seek_missing(s);
    return 0;
}

static void choose_meter(struct sensors *s, bool is_gpu)
{
    const struct source *kernel = s->sources[SOURCE_SYSFS], *nvml = s->sources[SOURCE_NVML];
    const enum sensors_sysfs_scope scope = kernel ? kernel->scope : SENSORS_SYSFS_NOTHING;
    const bool has_gpu = is_gpu && nvml && nvml->n_meters > 0; /* of a GPU that does other work its watts say nothing */
    s->is_metered[SOURCE_SYSFS] = scope == SENSORS_SYSFS_TOTAL || (scope == SENSORS_SYSFS_PACKAGES && (!is_gpu || has_gpu));
    s->is_metered[SOURCE_NVML] = has_gpu && scope != SENSORS_SYSFS_TOTAL;
    s->meter = s->is_metered[SOURCE_SYSFS]  ? GOVERNOR_METER_TOTAL
               : s->is_metered[SOURCE_NVML] ? GOVERNOR_METER_DEVICE
                                            : GOVERNOR_METER_NONE;
    snprintf(s->meter_name, sizeof s->meter_name, "%.50s%s%.50s", s->is_metered[SOURCE_NVML] ? nvml->meter_name : "",
             s->is_metered[SOURCE_NVML] && s->is_metered[SOURCE_SYSFS] ? " and " : "",
             s->is_metered[SOURCE_SYSFS] ? kernel->meter_name : "");
    if (s->meter == GOVERNOR_METER_NONE)
        snprintf(s->meter_name, sizeof s->meter_name, "none");
}

/* ---- a simulated box ------------------------------------------------------------------------------------------------------------------------ */

static int open_simulated(struct sensors *s, const struct sensors_options *o, const char *spec, struct err *err)
{
    const int rc = sensors_simulated_init(&s->box, spec, err);
    if (rc != 0)
        return rc;
    s->is_simulated = true;
    s->n = s->n_governing = sensors_simulated_places(&s->box);
    for (int i = 0; i < s->n; i++) {
        struct sensors_place *p = &s->slots[i].place;
        snprintf(p->name, sizeof p->name, "%s", sensors_simulated_name(&s->box, i));
        p->part = SENSORS_BOARD;
        for (int part = 0; part < SENSORS_OTHER; part++)
            if (strcmp(p->name, part_names[part]) == 0)
                p->part = (enum sensors_part)part;
        p->limit_c = sensors_simulated_limit(&s->box, i);
        if (i == 0 && o->limit_c > 0 && !strstr(spec, "limit=")) /* what the description says is meant for this box */
            p->limit_c = o->limit_c;
        p->governs = true;
        s->slots[i].index = i;
    }
    s->meter = GOVERNOR_METER_TOTAL;
    snprintf(s->meter_name, sizeof s->meter_name, "simulated");
    return 0;
}

static void read_simulated(struct sensors *s, int64_t now_ns, struct sensors_reading *ret)
{
    const struct plant *plant = &s->box.plant;
    sensors_simulated_step(&s->box, now_ns, s->batch, s->duty);
    for (int i = 0; i < s->n; i++)
        ret->c[i] = s->box.c[i];
    ret->watts = s->box.watts;
    ret->is_throttled = plant->is_throttled;
    if (isfinite(plant->params.throttle_c))
        ret->device_margin_k = plant->params.throttle_c - s->box.c[0];
}

/* ---- life ----------------------------------------------------------------------------------------------------------------------------------- */

static void close_sources(struct sensors *s)
{
    const int64_t until_ns = clock_now_ns() + s->timeout_ns;
    for (int k = 0; k < N_SOURCES; k++)
        if (s->sources[k])
            source_stop(s->sources[k]);
    for (int k = 0; k < N_SOURCES; k++) {
        if (s->sources[k])
            source_close(s->sources[k], until_ns);
        s->sources[k] = NULL;
    }
}

/* Waits until until_ns for what hangs; from without_ns on without what is wanted and not there. */
static int open_sources(struct sensors *s, const struct sensors_options *o, int64_t until_ns, int64_t without_ns,
                        struct err *err)
{
    const char *const sysfs = o->sysfs ? o->sysfs : "/sys", *const nvml = o->nvml ? o->nvml : "libnvidia-ml.so.1";
    const char *const paths[N_SOURCES] = {sysfs, nvml, sysfs};
    for (int k = 0; k < N_SOURCES; k++) {
        const int rc = source_open((enum source_kind)k, paths[k], o, s->period_ns, s->timeout_ns, &s->sources[k], err);
        if (rc != 0)
            return rc;
    }
    for (int k = 0; k < N_SOURCES; k++) {
        struct source *source = s->sources[k];
        if (!source_await(source, until_ns)) {
            log_warning("sensors: ignoring %s: no answer in time", source_names[k]);
            s->sources[k] = NULL;
            source_stop(source);
            source_close(source, 0);
        } else if (source->why[0]) {
            log_notice("sensors: nothing from %s: %s", source_names[k], source->why);
        }
    }
    const int rc = collect_places(s, o, clock_now_ns() >= without_ns, err);
    if (rc == 0)
        choose_meter(s, o->is_gpu);
    return rc;
}

/* A driver may be later than we are: what this machine had is looked for again, for a while. */
static int open_machine(struct sensors *s, const struct sensors_options *o, struct err *err)
{
    const int64_t all_ns = START_TIMEOUTS * s->timeout_ns;
    int rc = open_sources(s, o, clock_now_ns() + all_ns, INT64_MAX, err);
    if (rc != ERR_INVAL || !o->had_wanted)
        return rc;
    log_notice("sensors: %s; it was there at an earlier start: looking for it again", err->text);
    const int64_t until_ns = clock_now_ns() + all_ns;
    for (bool is_last = false; rc == ERR_INVAL && !is_last;) {
        close_sources(s);
        clock_sleep_until_ns(clock_now_ns() + s->timeout_ns);
        is_last = clock_now_ns() >= until_ns;
        const int64_t soon_ns = clock_now_ns() + 2 * s->timeout_ns; /* what hung before may hang again */
        rc = open_sources(s, o, soon_ns > until_ns ? soon_ns : until_ns, until_ns, err);
    }
    return rc;
}

int sensors_open(const struct sensors_options *options, struct sensors **ret_sensors, struct err *err)
{
    const char *spec = NULL;
    struct sensors *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "out of memory: sensors");
    s->period_ns = options->period_ns > 0 ? options->period_ns : CLOCK_S;
    s->timeout_ns = options->timeout_ns > 0 ? options->timeout_ns : CLOCK_S;
    for (int i = 0; i < options->n_wanted && !spec; i++)
        if (strncmp(options->wanted[i], SIMULATED, strlen(SIMULATED)) == 0)
            spec = options->wanted[i] + strlen(SIMULATED);
    const int rc = spec ? open_simulated(s, options, spec, err) : open_machine(s, options, err);
    if (rc != 0) {
        sensors_close(s);
        return rc;
    }
    *ret_sensors = s;
    return 0;
}

void sensors_close(struct sensors *s)
{
    if (!s)
        return;
    close_sources(s);
    free(s);
}

int sensors_count(const struct sensors *s)
{
    return s->n;
}

int sensors_governing(const struct sensors *s)
{
    return s->n_governing;
}

const struct sensors_place *sensors_place(const struct sensors *s, int i)
{
    return &s->slots[i].place;
}

enum governor_meter sensors_meter(const struct sensors *s)
{
    return s->meter;
}

const char *sensors_meter_name(const struct sensors *s)
{
    return s->meter_name;
}

bool sensors_is_simulated(const struct sensors *s)
{
    return s->is_simulated;
}

double sensors_speed(const struct sensors *s)
{
    return s->is_simulated ? s->box.speed : 1;
}

void sensors_note_load(struct sensors *s, int batch, double duty)
{
    s->batch = batch;
    s->duty = duty;
}

/* Whether what a source tells of its device concerns us: a GPU that does not govern may throttle itself as it likes. */
static bool says_of_ours(const struct sensors *s, int k)
{
    for (int i = 0; i < s->n_governing; i++)
        if (s->slots[i].source == k)
            return true;
    return false;
}

/* Add one source's newest figures to the reading. */
static void take_source(struct sensors *s, int k, int64_t now_ns, struct sensors_reading *ret, double *sum)
{
    struct source *source = s->sources[k];
    const int64_t fresh_ns = (int64_t)(FRESH_PERIODS * (double)s->period_ns);
    double watts = 0;
    pthread_mutex_lock(&source->lock);
    for (int i = 0; i < s->n; i++) {
        const int index = s->slots[i].index;
        if (s->slots[i].source != k)
            continue;
        if (now_ns - source->c_ns[index] <= fresh_ns)
            ret->c[i] = source->c[index];
        ret->is_gone = ret->is_gone || (s->slots[i].place.governs && source->is_gone[index]);
    }
    for (int i = 0; i < source->n_meters; i++)
        watts += meter_take(&source->meters[i], now_ns, fresh_ns); /* NAN: then it is that of all */
    if (says_of_ours(s, k)) {
        if (now_ns - source->margin_ns <= fresh_ns)
            ret->device_margin_k = fmin(ret->device_margin_k, source->margin_k);
        ret->is_throttled = ret->is_throttled || source->is_throttled;
        ret->is_limited = ret->is_limited || source->is_limited;
    }
    source->is_throttled = source->is_limited = false;
    ret->has_come = ret->has_come || source->has_come;
    pthread_mutex_unlock(&source->lock);
    if (s->is_metered[k])
        *sum += watts;
}

void sensors_read(struct sensors *s, int64_t now_ns, struct sensors_reading *ret)
{
    *ret = (struct sensors_reading){.watts = NAN, .device_margin_k = NAN};
    for (int i = 0; i < SENSORS_MAX; i++)
        ret->c[i] = NAN;
    if (s->is_simulated)
        read_simulated(s, now_ns, ret);
    double sum = 0; /* NAN once a part is missing */
    for (int k = 0; k < N_SOURCES; k++)
        if (s->sources[k])
            take_source(s, k, now_ns, ret, &sum);
    if (!s->is_simulated && s->meter != GOVERNOR_METER_NONE)
        ret->watts = sum;
}
