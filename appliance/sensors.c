#include "appliance/sensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "appliance/sensors_simulated.h"
#include "appliance/sensors_source.h"
#include "base/clock.h"
#include "base/log.h"

#define TJMAX_K        10.0 /* below a processor's Tjmax */
#define TRIP_K         5.0  /* below what the kernel or the device acts at by itself: the two must not fight */
#define FRESH_PERIODS  1.5
#define START_TIMEOUTS 10 /* timeouts for the first answer: a GPU that nobody uses takes seconds to wake up */
#define SIMULATED      "simulated:"

struct slot {
    struct sensors_place place;
    bool is_others;    /* a GPU that does other people's work: by its own name only it governs */
    int source, index; /* which of its places; simulated: the box's */
};

#define NOWHERE   (-1) /* as a source: nothing tells of it */
#define SLOTS_MAX (SENSORS_SOURCES * SENSORS_SOURCE_PLACES + SENSORS_MAX)

struct sensors {
    int64_t period_ns, timeout_ns;
    struct sensors_source *sources[SENSORS_SOURCES]; /* NULL: absent */
    bool is_metered[SENSORS_SOURCES];                /* its watts count */
    int n, n_governing;
    struct slot slots[SENSORS_MAX];
    enum governor_meter meter;
    char meter_name[SENSORS_NAME_MAX * 2];
    bool is_simulated;
    struct sensors_simulated box;
    int batch;
    double duty;
};

/* ---- places and limits -------------------------------------------------------------------------------------------------------------------- */

static double limit_of(const struct sensors_options *o, const struct sensors_found *f)
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
static bool may_govern(const struct sensors_options *o, const struct sensors_found *f)
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
    return s->is_others ? strcmp(wanted, s->place.name) == 0 : sensors_is_called(wanted, s->place.name, s->place.part);
}

/* A place that nothing tells of: of the part that its name says. */
static struct slot missing_slot(const struct sensors_options *o, const char *wanted)
{
    struct sensors_found missing = {.part = SENSORS_CPU, .trip_c = NAN, .critical_c = NAN};
    for (int part = 0; part < SENSORS_OTHER; part++)
        if (strncmp(wanted, sensors_part_names[part], strlen(sensors_part_names[part])) == 0)
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
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", sensors_part_names[part]);
    for (int i = 0; i < n && used < sizeof list; i++)
        if (slots[i].place.governs)
            used += (size_t)snprintf(list + used, sizeof list - used, ", %s", slots[i].place.name);
    return err_set(err, ERR_INVAL, "there is no temperature \"%.40s\" to keep a limit of; %s%s", wanted,
                   used ? "there are " : "this machine tells none", list);
}

static bool has_governed(const struct sensors_options *o, const struct slot *s)
{
    for (int i = 0; i < o->n_governed; i++)
        if (strcmp(o->governed[i], s->place.name) == 0)
            return true;
    return false;
}

/* What is there and says nothing yet: it may, later. Of a part's places those that did so before, for there are some that never say anything; or the first. */
static bool keep_silent(const struct sensors_options *o, const struct slot *slots, int n, const char *wanted, bool *is_kept)
{
    int first = -1;
    bool is_any = false;
    for (int i = 0; i < n; i++) {
        if (slots[i].place.part == SENSORS_OTHER || !is_meant(&slots[i], wanted))
            continue;
        first = first < 0 ? i : first;
        if (has_governed(o, &slots[i]))
            is_any = is_kept[i] = true;
    }
    if (!is_any && first >= 0)
        is_any = is_kept[first] = true;
    return is_any;
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
        if (!is_any && does_without)
            is_any = keep_silent(o, slots, *n, o->wanted[w], is_kept);
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
    for (int k = 0; k < SENSORS_SOURCES; k++)
        for (int i = 0; s->sources[k] && i < s->sources[k]->n_places; i++)
            n += s->sources[k]->places[i].part == SENSORS_GPU;
    return n;
}

/* NVML is not waited for where the kernel knows the GPU, as on a Jetson. Returns whether it is so. */
static bool drop_awaited(struct sensors *s)
{
    struct sensors_source *nvml = s->sources[SENSORS_OF_NVML];
    if (!nvml || nvml->n_places == 0 || !nvml->places[0].is_awaited || count_gpus(s) == 1)
        return false;
    s->sources[SENSORS_OF_NVML] = NULL;
    sensors_source_stop(nvml);
    sensors_source_close(nvml, clock_now_ns() + s->timeout_ns);
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
    struct sensors_source *sysfs = s->sources[SENSORS_OF_SYSFS];
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
    for (int k = 0; k < SENSORS_SOURCES; k++)
        for (int i = 0; s->sources[k] && i < s->sources[k]->n_places; i++) {
            const struct sensors_found *f = &s->sources[k]->places[i];
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
    const struct sensors_source *kernel = s->sources[SENSORS_OF_SYSFS], *nvml = s->sources[SENSORS_OF_NVML];
    const enum sensors_sysfs_scope scope = kernel ? kernel->scope : SENSORS_SYSFS_NOTHING;
    const bool has_gpu = is_gpu && nvml && nvml->n_meters > 0; /* of a GPU that does other work its watts say nothing */
    s->is_metered[SENSORS_OF_SYSFS] = scope == SENSORS_SYSFS_TOTAL || (scope == SENSORS_SYSFS_PACKAGES && (!is_gpu || has_gpu));
    s->is_metered[SENSORS_OF_NVML] = has_gpu && scope != SENSORS_SYSFS_TOTAL;
    s->meter = s->is_metered[SENSORS_OF_SYSFS]  ? GOVERNOR_METER_TOTAL
               : s->is_metered[SENSORS_OF_NVML] ? GOVERNOR_METER_DEVICE
                                                : GOVERNOR_METER_NONE;
    snprintf(s->meter_name, sizeof s->meter_name, "%.50s%s%.50s", s->is_metered[SENSORS_OF_NVML] ? nvml->meter_name : "",
             s->is_metered[SENSORS_OF_NVML] && s->is_metered[SENSORS_OF_SYSFS] ? " and " : "",
             s->is_metered[SENSORS_OF_SYSFS] ? kernel->meter_name : "");
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
            if (strcmp(p->name, sensors_part_names[part]) == 0)
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
    for (int k = 0; k < SENSORS_SOURCES; k++)
        if (s->sources[k])
            sensors_source_stop(s->sources[k]);
    for (int k = 0; k < SENSORS_SOURCES; k++) {
        if (s->sources[k])
            sensors_source_close(s->sources[k], until_ns);
        s->sources[k] = NULL;
    }
}

/* Waits until until_ns for what hangs; from without_ns on without what is wanted and not there. */
static int open_sources(struct sensors *s, const struct sensors_options *o, int64_t until_ns, int64_t without_ns,
                        struct err *err)
{
    const char *const sysfs = o->sysfs ? o->sysfs : "/sys", *const nvml = o->nvml ? o->nvml : "libnvidia-ml.so.1";
    const char *const paths[SENSORS_SOURCES] = {sysfs, nvml, sysfs};
    for (int k = 0; k < SENSORS_SOURCES; k++) {
        const int rc =
            sensors_source_open((enum sensors_source_kind)k, paths[k], o, s->period_ns, s->timeout_ns, &s->sources[k], err);
        if (rc != 0)
            return rc;
    }
    for (int k = 0; k < SENSORS_SOURCES; k++) {
        struct sensors_source *source = s->sources[k];
        if (!sensors_source_await(source, until_ns)) {
            log_warning("sensors: ignoring %s: no answer in time", sensors_source_names[k]);
            s->sources[k] = NULL;
            sensors_source_stop(source);
            sensors_source_close(source, 0);
        } else if (source->why[0]) {
            log_notice("sensors: nothing from %s: %s", sensors_source_names[k], source->why);
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
    struct sensors_source *source = s->sources[k];
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
        watts += sensors_meter_take(&source->meters[i], now_ns, fresh_ns); /* NAN: then it is that of all */
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
    for (int k = 0; k < SENSORS_SOURCES; k++)
        if (s->sources[k])
            take_source(s, k, now_ns, ret, &sum);
    if (!s->is_simulated && s->meter != GOVERNOR_METER_NONE)
        ret->watts = sum;
}

int64_t sensors_clock_ns(const struct sensors *s, int64_t now_ns)
{
    return s->is_simulated ? sensors_simulated_age_ns(&s->box) : now_ns;
}
