/*
 * Summary, observation and change: the truth of frames in sentences. scene_questions.c has the questions.
 *
 * The grammar is small and regular on purpose: a model of a few million parameters learns it, and it counts by enumerating.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "pipeline/scene_words.h"

#define BIT(x) (1u << (x))

/* Places that are worth saying; elsewhere in the yard is where one expects things to be. */
#define NOTABLE (BIT(SCENE_AT_GATE) | BIT(SCENE_AT_DOOR) | BIT(SCENE_IN_FIRE_LANE) | BIT(SCENE_AT_DOCK) | BIT(SCENE_OUTSIDE))

/* ---- a text of at most SCENE_SUMMARY_MAX characters ---- */

struct text {
    char s[SCENE_SUMMARY_MAX + 1];
    size_t n;
    size_t sentence; /* where the present sentence begins */
    bool is_over;    /* something did not fit */
};

static void put(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(struct text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(t->s + t->n, sizeof t->s - t->n, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof t->s - t->n) {
        t->is_over = true;
        return;
    }
    t->n += (size_t)n;
}

static void begin_sentence(struct text *t)
{
    if (t->n > 0)
        put(t, " ");
    t->sentence = t->n;
}

static void end_sentence(struct text *t)
{
    put(t, ".");
    char *first = &t->s[t->sentence];
    if (*first >= 'a' && *first <= 'z')
        *first = (char)(*first - 'a' + 'A');
}

static void put_sentence(struct text *t, const char *words)
{
    begin_sentence(t);
    put(t, "%s", words);
    end_sentence(t);
}

/* What stands before item i of n: "one, two and three", or with commas alone. */
static void put_joint(struct text *t, int i, int n, bool has_and)
{
    if (i > 0)
        put(t, "%s", has_and && i == n - 1 ? " and " : ", ");
}

/* "1 car", "3 boxes". */
static void put_number(struct text *t, int n, const char *one, const char *many)
{
    put(t, "%d %s", n, n == 1 ? one : many);
}

/* ---- things ---- */

static const char *const type_many[SCENE_N_TYPES] = {
    [SCENE_PERSON] = "people", [SCENE_CAR] = "cars", [SCENE_VAN] = "vans",   [SCENE_DOG] = "dogs",    [SCENE_BIRD] = "birds",
    [SCENE_BOX] = "boxes",     [SCENE_BAG] = "bags", [SCENE_FIRE] = "fires", [SCENE_SMOKE] = "smoke",
};

static const struct {
    const char *one, *many;
} class_names[] = {
    [SCENE_CLASS_PEOPLE] = {"person", "people"},
    [SCENE_CLASS_VEHICLES] = {"vehicle", "vehicles"},
    [SCENE_CLASS_ANIMALS] = {"animal", "animals"},
    [SCENE_CLASS_OBJECTS] = {"object", "objects"},
};

const char *scene_words_place(enum scene_place place)
{
    static const char *const words[SCENE_N_PLACES] = {
        [SCENE_AT_GATE] = "at the gate",           [SCENE_AT_DOOR] = "at the emergency exit",
        [SCENE_IN_FIRE_LANE] = "in the fire lane", [SCENE_AT_DOCK] = "at the dock",
        [SCENE_IN_BAY] = "in a parking bay",       [SCENE_IN_YARD] = "in the yard",
        [SCENE_OUTSIDE] = "outside the fence",
    };
    assert((unsigned)place < SCENE_N_PLACES);
    return words[place];
}

static int count_type(const struct scene_truth *truth, enum scene_type type)
{
    int n = 0;
    for (int i = 0; i < truth->n_things; i++)
        n += truth->thing[i].type == type;
    return n;
}

static int count_class(const struct scene_truth *truth, enum scene_class class)
{
    int n = 0;
    for (int i = 0; i < truth->n_things; i++)
        n += scene_class_of(truth->thing[i].type) == class;
    return n;
}

static bool is_lying(const struct scene_thing *thing)
{
    return thing->type == SCENE_PERSON && thing->pose == SCENE_LYING;
}

/* "a person in red", "one in a safety vest"; "a white van", "a bag". */
static void put_thing(struct text *t, const struct scene_thing *thing, bool is_first)
{
    if (thing->type == SCENE_PERSON) {
        put(t, "%s", is_first ? "a person" : "one");
        if (thing->colour == SCENE_VEST)
            put(t, " in a safety vest");
        else if (thing->colour != SCENE_NO_COLOUR)
            put(t, " in %s", scene_colour_name(thing->colour));
    } else if (thing->colour == SCENE_NO_COLOUR || thing->type == SCENE_BOX) { /* boxes are all brown */
        put(t, "a %s", scene_type_name(thing->type));
    } else {
        put(t, "a %s %s", scene_colour_name(thing->colour), scene_type_name(thing->type));
    }
}

/* ---- the summary ---- */

/* What is said at each step of making it shorter; without colours things are counted. */
static const struct detail {
    bool has_places, has_people_places, has_poses, has_colours;
} steps[] = {{true, true, true, true}, {false, true, true, true}, {false, false, true, true}, {false, false, false, true}, {0}};

#define N_STEPS ((int)(sizeof steps / sizeof *steps))

static void put_person(struct text *t, const struct scene_thing *thing, bool is_first, const struct detail *d)
{
    static const char *const verbs[SCENE_N_POSES] = {
        [SCENE_NO_POSE] = "is", [SCENE_STANDING] = "stands", [SCENE_WALKING] = "walks",  [SCENE_LYING] = "lies on the ground",
        [SCENE_FLYING] = "is",  [SCENE_PARKED] = "is",       [SCENE_DRIVING] = "drives",
    };
    put_thing(t, thing, is_first);
    if (d->has_poses)
        put(t, " %s", verbs[thing->pose]);
    else if (is_lying(thing))
        put(t, " lying");
    const bool is_bare = d->has_poses && strcmp(verbs[thing->pose], "is") == 0;
    if (d->has_people_places && (NOTABLE & BIT(thing->place)))
        put(t, " %s", scene_words_place(thing->place));
    else if (is_bare)
        put(t, " here");
}

static void put_other(struct text *t, const struct scene_thing *thing, const struct detail *d)
{
    put_thing(t, thing, true);
    if (d->has_poses && thing->pose == SCENE_DRIVING)
        put(t, " driving");
    if (d->has_poses && thing->pose == SCENE_FLYING)
        put(t, " flying");
    if (d->has_places && (NOTABLE & BIT(thing->place)))
        put(t, " %s", scene_words_place(thing->place));
}

/* "Fire in the yard and at the dock." Each place once. */
static void put_hazard(struct text *t, const struct scene_truth *truth, enum scene_type type, const char *word,
                       const struct detail *d)
{
    unsigned places = 0;
    for (int i = 0; i < truth->n_things; i++)
        if (truth->thing[i].type == type)
            places |= BIT(truth->thing[i].place);
    if (!places)
        return;
    begin_sentence(t);
    put(t, "%s", word);
    const int n = __builtin_popcount(places);
    for (int place = 0, i = 0; place < SCENE_N_PLACES && d->has_places; place++) {
        if (!(places & BIT(place)))
            continue;
        if (i == 0)
            put(t, " ");
        put_joint(t, i++, n, true);
        put(t, "%s", scene_words_place((enum scene_place)place));
    }
    end_sentence(t);
}

static void put_class(struct text *t, const struct scene_truth *truth, enum scene_class class, const struct detail *d)
{
    const int n = count_class(truth, class);
    if (n == 0)
        return;
    begin_sentence(t);
    for (int i = 0, k = 0; i < truth->n_things; i++) {
        const struct scene_thing *thing = &truth->thing[i];
        if (scene_class_of(thing->type) != class)
            continue;
        put_joint(t, k, n, class == SCENE_CLASS_PEOPLE);
        if (class == SCENE_CLASS_PEOPLE)
            put_person(t, thing, k == 0, d);
        else
            put_other(t, thing, d);
        k++;
    }
    end_sentence(t);
}

/* "3 people, 1 lying.", "4 cars, 2 vans." */
static void put_class_counted(struct text *t, const struct scene_truth *truth, enum scene_class class)
{
    if (count_class(truth, class) == 0)
        return;
    begin_sentence(t);
    int k = 0, lying = 0;
    for (int type = 0; type < SCENE_N_TYPES; type++) {
        const int n = count_type(truth, (enum scene_type)type);
        if (n == 0 || scene_class_of((enum scene_type)type) != class)
            continue;
        put_joint(t, k++, 0, false);
        put_number(t, n, scene_type_name((enum scene_type)type), type_many[type]);
    }
    for (int i = 0; i < truth->n_things && class == SCENE_CLASS_PEOPLE; i++)
        lying += is_lying(&truth->thing[i]);
    if (lying > 0)
        put(t, ", %d lying", lying);
    end_sentence(t);
}

/* "Night, rain."; nothing on a clear day. */
static void put_sky(struct text *t, const struct scene_truth *truth)
{
    static const char *const lights[SCENE_N_LIGHTS] = {[SCENE_DUSK] = "dusk", [SCENE_NIGHT] = "night"};
    static const char *const weathers[SCENE_N_WEATHERS] = {[SCENE_RAIN] = "rain", [SCENE_FOG] = "fog"};
    const char *light = lights[truth->light], *weather = weathers[truth->weather];
    if (!light && !weather)
        return;
    begin_sentence(t);
    put(t, "%s%s%s", light ? light : "", light && weather ? ", " : "", weather ? weather : "");
    end_sentence(t);
}

static struct text summarise(const struct scene_truth *truth, const struct detail *d)
{
    struct text t = {0};
    put_hazard(&t, truth, SCENE_FIRE, "fire", d);
    put_hazard(&t, truth, SCENE_SMOKE, "smoke", d);
    if (scene_truth_is_lane_blocked(truth))
        put_sentence(&t, "The fire lane is blocked");
    if (count_class(truth, SCENE_CLASS_PEOPLE) == 0)
        put_sentence(&t, "Nobody is here");
    for (int class = SCENE_CLASS_PEOPLE; class <= SCENE_CLASS_OBJECTS; class ++) {
        if (d->has_colours)
            put_class(&t, truth, (enum scene_class) class, d);
        else
            put_class_counted(&t, truth, (enum scene_class) class);
    }
    put_sky(&t, truth);
    return t;
}

void scene_words_summary(const struct scene_truth *truth, char out[SCENE_SUMMARY_MAX + 1])
{
    struct text t = {.is_over = true};
    for (int i = 0; i < N_STEPS && t.is_over; i++)
        t = summarise(truth, &steps[i]);
    assert(!t.is_over); /* the last step has numbers alone: 128 characters at most */
    memcpy(out, t.s, t.n + 1);
}

size_t scene_words_observation(const struct scene_truth *truth, char *out, size_t out_bytes)
{
    char summary[SCENE_SUMMARY_MAX + 1];
    scene_words_summary(truth, summary);
    const int n =
        snprintf(out, out_bytes, "{\"summary\":\"%s\",\"people\":%d,\"vehicles\":%d,\"animals\":%d,\"hazard\":\"%s\"}", summary,
                 truth->people, truth->vehicles, truth->animals, scene_hazard_name(truth->hazard));
    if (n >= 0 && (size_t)n < out_bytes)
        return (size_t)n;
    if (out_bytes > 0)
        out[0] = 0;
    return 0;
}

/* ---- what changed ---- */

/* Two pictures, and which things of one have their like in the other. */
struct change {
    const struct scene_truth *truth[2]; /* before, after */
    bool has_like[2][SCENE_MAX_THINGS];
};

/* A thing on `side` that is told as come (side 1) or left (side 0). */
static bool is_alone(const struct change *c, int side, int i, enum scene_class class)
{
    return !c->has_like[side][i] && scene_class_of(c->truth[side]->thing[i].type) == class;
}

static bool is_anybody_lying(const struct scene_truth *truth)
{
    for (int i = 0; i < truth->n_things; i++)
        if (is_lying(&truth->thing[i]))
            return true;
    return false;
}

/* How much is told: each thing with its colour; numbers per kind; the same in two sentences, and no more of doors; only that there was more. */
enum { TELL_THINGS, TELL_NUMBERS, TELL_SUMS, TELL_HAZARDS, N_TELLS };

static int count_alone(const struct change *c, int side, enum scene_class class)
{
    int n = 0;
    for (int i = 0; i < c->truth[side]->n_things; i++)
        n += is_alone(c, side, i, class);
    return n;
}

/* "A person in red and one in blue have come.", "2 people have come.": the verb follows the number. */
static void put_moved(struct text *t, const struct change *c, int side, enum scene_class class, int tell, const char *one,
                      const char *many)
{
    const int n = count_alone(c, side, class);
    if (n == 0)
        return;
    begin_sentence(t);
    if (tell == TELL_NUMBERS)
        put_number(t, n, class_names[class].one, class_names[class].many);
    for (int i = 0, k = 0; i < c->truth[side]->n_things && tell == TELL_THINGS; i++) {
        if (!is_alone(c, side, i, class))
            continue;
        put_joint(t, k, n, true);
        put_thing(t, &c->truth[side]->thing[i], k == 0);
        k++;
    }
    put(t, " %s", n == 1 ? one : many);
    end_sentence(t);
}

/* "Come: 2 people, 1 object." */
static void put_sums(struct text *t, const struct change *c, int side, const char *word)
{
    int k = 0;
    for (int class = SCENE_CLASS_PEOPLE; class <= SCENE_CLASS_OBJECTS; class ++) {
        const int n = count_alone(c, side, (enum scene_class) class);
        if (n == 0)
            continue;
        if (k == 0) {
            begin_sentence(t);
            put(t, "%s: ", word);
        }
        put_joint(t, k++, 0, false);
        put_number(t, n, class_names[class].one, class_names[class].many);
    }
    if (k > 0)
        end_sentence(t);
}

static void put_turned(struct text *t, bool before, bool after, const char *begun, const char *ended)
{
    if (before != after)
        put_sentence(t, after ? begun : ended);
}

static struct text tell_change(const struct change *c, int tell)
{
    static const struct {
        enum scene_class class;
        const char *came_one, *came_many, *left_one, *left_many;
    } verbs[] = {
        {SCENE_CLASS_PEOPLE, "has come", "have come", "has left", "have left"},
        {SCENE_CLASS_VEHICLES, "has come", "have come", "has left", "have left"},
        {SCENE_CLASS_ANIMALS, "has come", "have come", "has left", "have left"},
        {SCENE_CLASS_OBJECTS, "has been left behind", "have been left behind", "is gone", "are gone"},
    };
    const struct scene_truth *before = c->truth[0], *after = c->truth[1];
    struct text t = {0};
    put_turned(&t, count_type(before, SCENE_FIRE) > 0, count_type(after, SCENE_FIRE) > 0, "a fire has broken out",
               "the fire is out");
    put_turned(&t, count_type(before, SCENE_SMOKE) > 0, count_type(after, SCENE_SMOKE) > 0, "smoke has come up",
               "the smoke is gone");
    put_turned(&t, is_anybody_lying(before), is_anybody_lying(after), "a person lies on the ground now",
               "nobody lies on the ground any more");
    put_turned(&t, scene_truth_is_lane_blocked(before), scene_truth_is_lane_blocked(after), "the fire lane is blocked",
               "the fire lane is free again");
    if (tell == TELL_HAZARDS) {
        put_sentence(&t, t.n > 0 ? "much else has changed" : "much has changed");
        return t;
    }
    if (tell == TELL_SUMS) {
        put_sums(&t, c, 1, "come");
        put_sums(&t, c, 0, "left");
        return t;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        put_moved(&t, c, 1, verbs[i].class, tell, verbs[i].came_one, verbs[i].came_many);
        put_moved(&t, c, 0, verbs[i].class, tell, verbs[i].left_one, verbs[i].left_many);
    }
    if (before->has_gate && after->has_gate)
        put_turned(&t, before->is_gate_open, after->is_gate_open, "the gate has opened", "the gate has closed");
    if (before->has_dock && after->has_dock)
        put_turned(&t, before->is_dock_open, after->is_dock_open, "the dock door has opened", "the dock door has closed");
    if (t.n == 0)
        put_sentence(&t, "nothing has changed");
    return t;
}

/* One that left and one that came are taken for the same when they look alike: two pictures do not show otherwise. */
static void compare(struct change *c, const struct scene_truth *before, const struct scene_truth *after)
{
    *c = (struct change){.truth = {before, after}};
    for (int i = 0; i < before->n_things; i++) {
        for (int k = 0; k < after->n_things && !c->has_like[0][i]; k++) {
            const struct scene_thing *a = &before->thing[i], *b = &after->thing[k];
            if (!c->has_like[1][k] && a->type == b->type && a->colour == b->colour)
                c->has_like[0][i] = c->has_like[1][k] = true;
        }
    }
}

void scene_words_change(const struct scene_truth *before, const struct scene_truth *after, char out[SCENE_SUMMARY_MAX + 1])
{
    struct change there, back;
    compare(&there, before, after);
    compare(&back, after, before);
    struct text t = {.is_over = true};
    /* both directions in the same detail: what is told is one fact */
    for (int tell = 0; tell < N_TELLS && t.is_over; tell++) {
        t = tell_change(&there, tell);
        t.is_over |= tell_change(&back, tell).is_over;
    }
    assert(!t.is_over); /* the last step is a few fixed sentences: 129 characters at most */
    memcpy(out, t.s, t.n + 1);
}
