#include "appliance/thermal.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "appliance/load.h"
#include "appliance/machine.h"
#include "appliance/ring.h"
#include "appliance/thermal_memory.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/engine.h"

#define PERIOD_NS     (1 * CLOCK_S)
#define REMEMBER_NS   (3600 * CLOCK_S) /* between two writes of what was learned */
#define LOSING_NS     (600 * CLOCK_S)  /* after the last second that the ring file lost */
#define OTHER_LEAVE_K 3.0

struct thermal {
    /* immutable after opening */
    struct sensors *sensors;
    struct ring *ring;
    int64_t period_ns;
    bool has_thread, is_unguarded, pauses_blind;
    char machine[20], *model; /* whose memory it is */
    char *wanted[CONFIG_LIST_MAX];
    int n_wanted;
    char *before;       /* the memory that was read; NULL: none */
    bool is_meter_lost; /* it was learned with a meter that does not answer at this start */
    pthread_t thread;
    /* thermal thread only */
    struct governor governor;
    struct load load;
    int64_t remembered_ns;
    bool has_new_sensors;                                   /* all that are named are there, and this is not yet kept */
    int n_learned;                                          /* as last kept */
    bool needed_service, was_limited, is_over[SENSORS_MAX]; /* as last told */
    int foreign;
    double raised_k;
    uint64_t lost;
    int64_t lost_ns;
    enum governor_level said;
    bool said_hard;
    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t stop;
    bool is_stopping;
    struct load_told told;
    struct thermal_stats stats;
    int64_t heartbeat_ns;
    char *memory; /* not yet taken */
};

/* ---- words ------------------------------------------------------------------------------------------------------------------------ */

/* A name without blanks, which part the columns; a column that does not fit is left out. Returns its length. */
static size_t add_place(const struct sensors_place *place, double c, char *out, size_t cap)
{
    char column[SENSORS_NAME_MAX + 32];
    const size_t n = (size_t)snprintf(column, sizeof column, " %s=%.1f", place->name, c);
    if (n >= cap)
        return 0;
    for (size_t i = 1; i < n; i++)
        if (column[i] == ' ')
            column[i] = '_';
    memcpy(out, column, n + 1);
    return n;
}

/* A line of the ring file. */
static void describe_second(const struct thermal *t, const struct sensors_reading *r, const struct governor_sight *s,
                            const struct thermal_stats *now, char *out, size_t cap)
{
    const struct governor_grant *g = &now->grant;
    const time_t wall = (time_t)(clock_wall_ns() / CLOCK_S);
    struct tm utc;
    gmtime_r(&wall, &utc);
    size_t n = strftime(out, cap, "%Y-%m-%dT%H:%M:%SZ", &utc);
    n += (size_t)snprintf(out + n, cap - n, " %s batch=%d idle=%d%% did=%d*%.2f budget=%.1f", governor_level_names[g->level],
                          g->permit.batch, g->permit.idle_permille / 10, s->batch, s->duty, g->budget_w);
    if (!isnan(r->watts) && n < cap)
        n += (size_t)snprintf(out + n, cap - n, " watts=%.1f", r->watts);
    for (int i = 0; t->sensors && i < sensors_count(t->sensors); i++)
        if (!isnan(r->c[i]))
            n += add_place(sensors_place(t->sensors, i), r->c[i], out + n, n < cap ? cap - n : 0);
}

void thermal_describe(const struct thermal *t, char *out, size_t cap)
{
    size_t n = 0;
    out[0] = 0;
    const int governing = t->sensors ? sensors_governing(t->sensors) : 0;
    for (int i = 0; i < governing && n < cap; i++) {
        const struct sensors_place *p = sensors_place(t->sensors, i);
        n += (size_t)snprintf(out + n, cap - n, "%s%s (limit %.0f C)", i ? ", " : "", p->name, p->limit_c);
    }
    if (governing == 0 && n < cap)
        n += (size_t)snprintf(out + n, cap - n, "no sensor");
    if (n < cap)
        snprintf(out + n, cap - n, "; watts from %s", t->sensors ? sensors_meter_name(t->sensors) : "none");
}

static void tell_level(struct thermal *t, const struct thermal_stats *now)
{
    const struct governor_grant *g = &now->grant;
    if (g->level == t->said && g->is_hard_trip <= t->said_hard)
        return;
    if (g->level == GOVERNOR_BLIND)
        log_warning("thermal level=blind sensor=\"%s\" budget_w=%.0f: it cannot be believed, going on slowly%s", now->blind,
                    g->budget_w, t->pauses_blind ? ", then not at all" : "");
    else if (g->is_gone)
        log_warning(
            "thermal level=paused: the GPU is gone, its driver is loaded anew or it fell off the bus: nothing runs until it "
            "is back");
    else if (g->level == GOVERNOR_PAUSED)
        log_warning("thermal level=paused sensor=\"%s\" c=%.1f limit_c=%.0f%s: nothing runs until it has cooled",
                    now->hottest ? now->hottest : "device", g->c, g->limit_c, g->is_hard_trip ? " far above" : "");
    else
        log_notice("thermal level=%s sensor=\"%s\" c=%.1f limit_c=%.0f batch=%d idle_pct=%d", governor_level_names[g->level],
                   now->hottest ? now->hottest : "none", g->c, g->limit_c, g->permit.batch, g->permit.idle_permille / 10);
    t->said = g->level;
    t->said_hard = g->is_hard_trip;
}

/* What somebody should look after. */
static void tell_service(struct thermal *t, const struct governor_grant *g)
{
    if (g->needs_service != t->needed_service)
        log_warning(g->needs_service
                        ? "the box sustains %.0f W, a quarter less than usual: are vents blocked, or is the room hot?"
                        : "the box sustains %.0f W again",
                    g->sustainable_w);
    t->needed_service = g->needs_service;
    if (g->is_limited != t->was_limited)
        log_warning(g->is_limited ? "the box draws far less than usual though it is busy and cool: held back by its power "
                                    "supply or firmware, not by heat"
                                  : "the box draws as much as usual again");
    t->was_limited = g->is_limited;
    if (g->raised_k > t->raised_k)
        log_warning("three stops because of heat in ten minutes: margins are %.0f K larger from now on", g->raised_k);
    t->raised_k = g->raised_k;
    if (g->foreign != t->foreign && g->foreign >= 0)
        log_warning("sensor \"%s\" is over its limit and rest does not cool it: something else warms it, going on slowly",
                    sensors_place(t->sensors, g->foreign)->name);
    else if (g->foreign != t->foreign)
        log_notice("sensor \"%s\" is below its limit again", sensors_place(t->sensors, t->foreign)->name);
    t->foreign = g->foreign;
}

/* Those that do not govern: nothing is done about them, but it is said. */
static void tell_others(struct thermal *t, const struct sensors_reading *r)
{
    for (int i = sensors_governing(t->sensors); i < sensors_count(t->sensors); i++) {
        const struct sensors_place *place = sensors_place(t->sensors, i);
        const bool is_over = r->c[i] > place->limit_c - (t->is_over[i] ? OTHER_LEAVE_K : 0); /* not where either is unknown */
        if (is_over && !t->is_over[i])
            log_warning("sensor \"%s\" c=%.1f limit_c=%.0f: too hot by its own chip's word; it does not govern", place->name,
                        r->c[i], place->limit_c);
        t->is_over[i] = is_over;
    }
}

/* Seconds that the ring file lost: it is told when that begins, and for a while. */
static void watch_ring(struct thermal *t, int64_t now, struct thermal_stats *next)
{
    char why[200];
    const uint64_t lost = ring_lost(t->ring, why, sizeof why);
    if (lost > t->lost) {
        if (!next->is_ring_losing)
            log_warning("thermal.log lost %llu seconds: %s", (unsigned long long)(lost - t->lost), why);
        t->lost_ns = now;
    }
    t->lost = lost;
    next->is_ring_losing = t->lost_ns && now - t->lost_ns < LOSING_NS;
}

/* ---- the second -------------------------------------------------------------------------------------------------------------------- */

static void take_load(struct thermal *t, int64_t now, struct governor_sight *s)
{
    struct load_second second;
    pthread_mutex_lock(&t->lock);
    const struct load_told told = t->told;
    pthread_mutex_unlock(&t->lock);
    load_take(&t->load, &told, now, &second);
    s->batch = second.batch;
    s->duty = second.duty;
    s->speed = second.speed;
    s->span_s = second.span_s;
    s->demand = told.pending;
}

static struct thermal_memory_key memory_key(const struct thermal *t)
{
    return (struct thermal_memory_key){.machine = t->machine,
                                       .model = t->model,
                                       .meter = t->sensors ? sensors_meter_name(t->sensors) : "none",
                                       .wanted = (const char *const *)t->wanted,
                                       .n_wanted = t->n_wanted};
}

/*
 * What was found at the start is kept soon, the rest now and then; which sensors the machine has at once. A start that knows nothing overwrites nothing, and one whose meter does not
 * answer keeps what was learned with it.
 */
static void remember(struct thermal *t, int64_t now, bool is_end)
{
    struct governor_memory memory;
    const int n_learned = governor_get_memory(&t->governor, &memory);
    const bool is_due = is_end || n_learned > t->n_learned || now - t->remembered_ns >= REMEMBER_NS;
    const bool is_new = t->has_new_sensors;
    t->has_new_sensors = false;
    if (t->is_meter_lost || !(is_new || (is_due && (n_learned > 0 || memory.workload.n_rungs > 0))))
        return;
    t->n_learned = n_learned;
    t->remembered_ns = now;
    const char *names[SENSORS_MAX];
    const int n = sensors_governing(t->sensors);
    for (int i = 0; i < n; i++) {
        const struct sensors_place *place = sensors_place(t->sensors, i);
        names[i] = place->is_missing ? NULL : place->name;
    }
    const struct thermal_memory_key key = memory_key(t);
    char *text = thermal_memory_write(&memory, names, n, &key, t->before);
    pthread_mutex_lock(&t->lock);
    free(t->memory);
    t->memory = text;
    pthread_mutex_unlock(&t->lock);
}

/* NULL where there is no such sensor: -1. */
static const char *name_of(const struct thermal *t, int sensor)
{
    return sensor >= 0 ? sensors_place(t->sensors, sensor)->name : NULL;
}

static void tick(struct thermal *t)
{
    const int64_t now = clock_now_ns();
    const int64_t slept_too = clock_awake_and_asleep_ns();
    struct governor_sight s = {.now_ns = slept_too, .watts = NAN, .device_margin_k = NAN};
    struct sensors_reading r = {.watts = NAN, .device_margin_k = NAN};
    take_load(t, now, &s);
    if (t->sensors) {
        sensors_note_load(t->sensors, s.batch, s.duty);
        sensors_read(t->sensors, slept_too, &r);
        s.now_ns = sensors_clock_ns(t->sensors, slept_too);
        memcpy(s.c, r.c, sizeof s.c);
        s.watts = r.watts;
        s.device_margin_k = r.device_margin_k;
        s.is_throttled = r.is_throttled;
        s.is_limited = r.is_limited;
        s.is_gone = r.is_gone;
    }
    struct thermal_stats next = t->stats; /* only this thread writes them */
    const struct governor_grant before = next.grant;
    governor_tick(&t->governor, &s, &next.grant);
    next.grant.permit.expires_ns = now + GOVERNOR_PERMIT_NS; /* the engine's clock, also where the box lives faster */
    if (next.grant.level != before.level || !next.since_wall_ns)
        next.since_wall_ns = clock_wall_ns();
    next.hottest = name_of(t, next.grant.hottest);
    next.blind = name_of(t, next.grant.blind);
    next.foreign = name_of(t, next.grant.foreign);
    next.watts = s.watts;
    next.has_come = r.has_come;
    next.trips += next.grant.is_trip && !before.is_trip;
    if (t->ring) {
        char line[RING_LINE];
        describe_second(t, &r, &s, &next, line, sizeof line);
        ring_push(t->ring, line);
        watch_ring(t, now, &next);
    }
    pthread_mutex_lock(&t->lock);
    t->stats = next;
    t->heartbeat_ns = now;
    pthread_mutex_unlock(&t->lock);
    tell_level(t, &next);
    tell_service(t, &next.grant);
    if (t->sensors) {
        tell_others(t, &r);
        remember(t, now, false);
    }
}

static void *thermal_main(void *arg)
{
    struct thermal *t = arg;
    int64_t next = clock_now_ns();
    for (;;) {
        tick(t);
        next += t->period_ns;
        const int64_t now = clock_now_ns();
        if (next <= now) /* late: the next one is a whole period away again */
            next = now + t->period_ns;
        pthread_mutex_lock(&t->lock);
        while (!t->is_stopping && clock_cond_wait_until(&t->stop, &t->lock, next))
            ;
        const bool is_stopping = t->is_stopping;
        pthread_mutex_unlock(&t->lock);
        if (is_stopping)
            return NULL;
    }
}

/* ---- others ------------------------------------------------------------------------------------------------------------------------ */

int64_t thermal_heartbeat_ns(struct thermal *t)
{
    pthread_mutex_lock(&t->lock);
    const int64_t heartbeat_ns = t->heartbeat_ns;
    pthread_mutex_unlock(&t->lock);
    return heartbeat_ns;
}

void thermal_get_permit(struct thermal *t, struct en_permit *ret_permit)
{
    pthread_mutex_lock(&t->lock);
    *ret_permit = t->stats.grant.permit;
    pthread_mutex_unlock(&t->lock);
}

void thermal_get(struct thermal *t, struct thermal_stats *ret_stats)
{
    pthread_mutex_lock(&t->lock);
    *ret_stats = t->stats;
    pthread_mutex_unlock(&t->lock);
}

void thermal_note_load(struct thermal *t, const struct en_progress *progress, int32_t pending, int32_t running)
{
    pthread_mutex_lock(&t->lock);
    t->told = (struct load_told){*progress, pending, running, clock_now_ns()};
    pthread_mutex_unlock(&t->lock);
}

char *thermal_take_memory(struct thermal *t)
{
    pthread_mutex_lock(&t->lock);
    char *memory = t->memory;
    t->memory = NULL;
    pthread_mutex_unlock(&t->lock);
    return memory;
}

/* ---- life -------------------------------------------------------------------------------------------------------------------------- */

static void begin_governor(struct thermal *t, const struct thermal_options *options)
{
    struct governor_options g = {
        .is_unguarded = t->is_unguarded,
        .batch_max = options->batch_max,
        .policy = options->policy,
        .pauses_blind = options->pauses_blind,
    };
    const char *names[SENSORS_MAX];
    struct governor_memory memory;
    struct err err = {0};
    if (t->sensors) {
        g.n_sensors = sensors_governing(t->sensors);
        g.meter = sensors_meter(t->sensors);
    }
    for (int i = 0; i < g.n_sensors; i++) {
        const struct sensors_place *place = sensors_place(t->sensors, i);
        g.limits_c[i] = place->limit_c;
        if (options->resume_c > 0 && (place->part == (options->sensors.is_gpu ? SENSORS_GPU : SENSORS_CPU) ||
                                      (sensors_is_simulated(t->sensors) && i == 0))) /* its box computes on the first place */
            g.resume_k[i] = fmax(place->limit_c - options->resume_c, 1);
        names[i] = place->name;
    }
    const struct thermal_memory_key key = memory_key(t);
    const bool is_known = options->memory && thermal_memory_read(options->memory, names, g.n_sensors, &key, &memory, &err) == 0;
    t->before = is_known ? strdup(options->memory) : NULL; /* without it less is kept */
    if (options->memory && !is_known)
        log_warning("ignoring what was learned of the machine's heat: %s", err.text);
    t->is_meter_lost = options->memory && err.code == ERR_UNSUPPORTED && g.meter == GOVERNOR_METER_NONE;
    for (int i = 0; is_known && i < g.n_sensors; i++)
        if (sensors_place(t->sensors, i)->is_missing) /* its limit is not another one */
            memory.limits_c[i] = g.limits_c[i];
    governor_init(&t->governor, &g, is_known ? &memory : NULL);
}

void thermal_plan(const struct config *c, const char *device, struct thermal_options *ret)
{
    const struct config_list *wanted = &c->thermal.sensors;
    const bool is_set = c->places.of[CONFIG_thermal_limit].file != NULL;
    device = en_device_name(device); /* with "auto" it is the GPU's temperature that counts where there is one */
    *ret = (struct thermal_options){
        .sensors = {.limit_c = is_set ? (double)c->thermal.limit_c : 0,
                    .is_gpu = strncmp(device, "cuda", 4) == 0,
                    .gpu = strncmp(device, "cuda:", 5) == 0 ? atoi(device + 5) : 0,
                    .wanted = (const char *const *)wanted->items,
                    .n_wanted = wanted->n},
        .has_sensors = wanted->n != 1 || strcmp(wanted->items[0], "none") != 0,
        .policy = (enum workload_policy)c->thermal.policy,
        .pauses_blind = c->thermal.blind == 1,
        .resume_c = (double)c->thermal.resume_c,
    };
}

int thermal_open(const struct thermal_options *options, struct thermal **ret_thermal, struct err *err)
{
    struct thermal *t = calloc(1, sizeof *t);
    int rc = 0;
    if (!t)
        return err_set(err, ERR_NOMEM, "out of memory: the thermal governor");
    t->period_ns = options->period_ns;
    t->is_unguarded = !options->has_sensors;
    t->pauses_blind = options->pauses_blind;
    snprintf(t->machine, sizeof t->machine, "%016llx", (unsigned long long)machine_hash());
    pthread_mutex_init(&t->lock, NULL);
    clock_cond_init(&t->stop);
    if (!(t->model = strdup(options->model ? options->model : "")))
        rc = err_set(err, ERR_NOMEM, "out of memory: the thermal governor");
    struct sensors_options sensors = options->sensors;
    for (int i = 0; rc == 0 && i < sensors.n_wanted && i < CONFIG_LIST_MAX; i++)
        if (!(t->wanted[t->n_wanted++] = strdup(sensors.wanted[i])))
            rc = err_set(err, ERR_NOMEM, "out of memory: the thermal governor");
    char governed[SENSORS_MAX][SENSORS_NAME_MAX];
    const char *names[SENSORS_MAX];
    sensors.had_wanted = options->memory && thermal_memory_had(options->memory, t->machine, sensors.wanted, sensors.n_wanted);
    sensors.n_governed = options->memory ? thermal_memory_governed(options->memory, t->machine, governed) : 0;
    for (int i = 0; i < sensors.n_governed; i++)
        names[i] = governed[i];
    sensors.governed = names;
    if (rc == 0 && options->has_sensors)
        rc = sensors_open(&sensors, &t->sensors, err);
    if (options->period_ns <= 0)
        t->period_ns = t->sensors ? (int64_t)((double)PERIOD_NS / sensors_speed(t->sensors)) : PERIOD_NS;
    if (rc == 0 && options->ring)
        rc = ring_open(options->ring, 0, &t->ring, err);
    if (rc == 0) {
        begin_governor(t, options);
        t->has_new_sensors = t->sensors && !sensors.had_wanted && t->n_wanted > 0 && !sensors_is_simulated(t->sensors);
        t->stats.is_unguarded = t->is_unguarded;
        t->stats.has_sensors = t->governor.options.n_sensors > 0;
        t->stats.watts = NAN;
        t->heartbeat_ns = t->remembered_ns = clock_now_ns();
        t->stats.grant.hottest = t->stats.grant.blind = t->stats.grant.foreign = t->foreign = -1;
        if (pthread_create(&t->thread, NULL, thermal_main, t) != 0)
            rc = err_set(err, ERR_IO, "cannot start the thermal thread");
        else
            t->has_thread = true;
    }
    if (rc != 0) {
        thermal_close(t);
        return rc;
    }
    pthread_setname_np(t->thread, "heron-thermal");
    *ret_thermal = t;
    return 0;
}

void thermal_stop(struct thermal *t)
{
    if (!t || !t->has_thread)
        return;
    pthread_mutex_lock(&t->lock);
    t->is_stopping = true;
    pthread_cond_signal(&t->stop);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    t->has_thread = false;
    if (t->sensors)
        remember(t, clock_now_ns(), true);
}

void thermal_close(struct thermal *t)
{
    if (!t)
        return;
    thermal_stop(t);
    sensors_close(t->sensors);
    ring_close(t->ring);
    pthread_cond_destroy(&t->stop);
    pthread_mutex_destroy(&t->lock);
    for (int i = 0; i < t->n_wanted; i++)
        free(t->wanted[i]);
    free(t->memory);
    free(t->before);
    free(t->model);
    free(t);
}
