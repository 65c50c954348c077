/* What is said about scenes: hand-made truths with the words they must give, and many random ones, also absurd ones, for what holds always. */
#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "pipeline/scene_words.h"
#include "tests/support/test.h"

#define N_TRUTHS 20000

/* ---- truths ---- */

/* Counts and hazard follow from the things, as the contract of scene_truth.h has it. */
static void finish(struct scene_truth *t)
{
    bool has[SCENE_N_HAZARDS] = {false};
    t->people = t->vehicles = t->animals = 0;
    for (int i = 0; i < t->n_things; i++) {
        const struct scene_thing *thing = &t->thing[i];
        const enum scene_class class = scene_class_of(thing->type);
        t->people += class == SCENE_CLASS_PEOPLE;
        t->vehicles += class == SCENE_CLASS_VEHICLES;
        t->animals += class == SCENE_CLASS_ANIMALS;
        has[SCENE_HAZARD_FIRE] |= thing->type == SCENE_FIRE;
        has[SCENE_HAZARD_SMOKE] |= thing->type == SCENE_SMOKE;
        has[SCENE_HAZARD_PERSON_DOWN] |= thing->type == SCENE_PERSON && thing->pose == SCENE_LYING;
        has[SCENE_HAZARD_BLOCKED] |= (class == SCENE_CLASS_VEHICLES || class == SCENE_CLASS_OBJECTS) &&
                                     thing->place == SCENE_IN_FIRE_LANE && thing->pose != SCENE_DRIVING;
    }
    static const enum scene_hazard order[] = {SCENE_HAZARD_FIRE, SCENE_HAZARD_PERSON_DOWN, SCENE_HAZARD_SMOKE,
                                              SCENE_HAZARD_BLOCKED};
    t->hazard = SCENE_NO_HAZARD;
    for (int i = 3; i >= 0; i--)
        if (has[order[i]])
            t->hazard = order[i];
}

static int pick(struct rng *r, int n)
{
    return (int)rng_below(r, (uint64_t)n);
}

/* A scene as the yard has them: a few things, most of them where one expects them. */
static struct scene_truth plausible(struct rng *r)
{
    static const enum scene_colour clothes[] = {SCENE_RED,   SCENE_BLUE,  SCENE_GREEN, SCENE_YELLOW,
                                                SCENE_WHITE, SCENE_BLACK, SCENE_VEST};
    static const enum scene_colour paints[] = {SCENE_WHITE, SCENE_BLACK, SCENE_GREY, SCENE_RED, SCENE_BLUE, SCENE_GREEN};
    static const int counts[] = {0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5};
    struct scene_truth t = {
        .scene = "yard", .width_px = 341, .height_px = 192, .has_gate = true, .has_dock = true, .n_bays = 4};
    const int n_people = counts[pick(r, 11)], n_vehicles = counts[pick(r, 11)];
    t.light = (enum scene_light)pick(r, SCENE_N_LIGHTS);
    t.weather = pick(r, 3) ? SCENE_CLEAR : (enum scene_weather)pick(r, SCENE_N_WEATHERS);
    t.is_gate_open = pick(r, 2);
    t.is_dock_open = pick(r, 2);
    t.n_bays_free = pick(r, 5);
    for (int i = 0; i < n_people; i++) {
        const enum scene_place places[] = {SCENE_AT_GATE, SCENE_AT_DOOR, SCENE_AT_DOCK, SCENE_IN_BAY,
                                           SCENE_OUTSIDE, SCENE_IN_YARD, SCENE_IN_YARD, SCENE_IN_YARD};
        const enum scene_pose poses[] = {SCENE_STANDING, SCENE_WALKING, SCENE_WALKING, SCENE_STANDING, SCENE_LYING};
        t.thing[t.n_things++] = (struct scene_thing){.type = SCENE_PERSON,
                                                     .colour = clothes[pick(r, 7)],
                                                     .pose = poses[pick(r, 5)],
                                                     .place = places[pick(r, 8)],
                                                     .id = 1 + pick(r, 8)};
    }
    for (int i = 0; i < n_vehicles; i++) {
        const enum scene_place places[] = {SCENE_AT_GATE, SCENE_IN_FIRE_LANE, SCENE_AT_DOCK, SCENE_OUTSIDE,
                                           SCENE_IN_BAY,  SCENE_IN_BAY,       SCENE_IN_BAY,  SCENE_IN_YARD};
        t.thing[t.n_things++] = (struct scene_thing){.type = pick(r, 10) < 7 ? SCENE_CAR : SCENE_VAN,
                                                     .colour = paints[pick(r, 6)],
                                                     .pose = pick(r, 4) ? SCENE_PARKED : SCENE_DRIVING,
                                                     .place = places[pick(r, 8)],
                                                     .id = 11 + pick(r, 8)};
    }
    static const struct scene_thing others[] = {
        {.type = SCENE_DOG, .colour = SCENE_BROWN, .pose = SCENE_WALKING, .place = SCENE_IN_YARD, .id = 21},
        {.type = SCENE_BIRD, .colour = SCENE_GREY, .pose = SCENE_FLYING, .place = SCENE_IN_YARD, .id = 22},
        {.type = SCENE_BOX, .colour = SCENE_BROWN, .place = SCENE_IN_YARD, .id = 23},
        {.type = SCENE_BAG, .colour = SCENE_RED, .place = SCENE_IN_FIRE_LANE, .id = 24},
        {.type = SCENE_FIRE, .place = SCENE_IN_YARD, .id = 25},
        {.type = SCENE_SMOKE, .place = SCENE_AT_DOCK, .id = 26},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (pick(r, 6) == 0)
            t.thing[t.n_things++] = others[i];
    for (int i = t.n_things - 1; i > 0; i--) { /* left to right has nothing to do with what they are */
        const int k = pick(r, i + 1);
        const struct scene_thing kept = t.thing[i];
        t.thing[i] = t.thing[k];
        t.thing[k] = kept;
    }
    finish(&t);
    return t;
}

/* Anything that the struct can hold: 32 vests lying about that fly through the fire lane. */
static struct scene_truth absurd(struct rng *r)
{
    struct scene_truth t = plausible(r);
    t.n_bays = pick(r, 5);
    t.n_things = pick(r, 2) ? SCENE_MAX_THINGS : pick(r, SCENE_MAX_THINGS + 1);
    const int one_type = pick(r, 3) ? -1 : pick(r, SCENE_N_TYPES);
    for (int i = 0; i < t.n_things; i++)
        t.thing[i] = (struct scene_thing){.type = (enum scene_type)(one_type >= 0 ? one_type : pick(r, SCENE_N_TYPES)),
                                          .colour = (enum scene_colour)pick(r, SCENE_N_COLOURS),
                                          .pose = (enum scene_pose)pick(r, SCENE_N_POSES),
                                          .place = (enum scene_place)pick(r, SCENE_N_PLACES),
                                          .id = pick(r, 40)};
    finish(&t);
    return t;
}

static struct scene_truth random_truth(struct rng *r)
{
    return pick(r, 4) ? plausible(r) : absurd(r);
}

/* Words of a hand-made truth, looked up among names that end before `n`. */
static bool find(const char *word, const char *(*name)(int), int n, int *ret)
{
    for (int i = 0; i < n; i++) {
        if (strcmp(word, name(i)) == 0) {
            *ret = i;
            return true;
        }
    }
    return false;
}

#define NAMES(noun)                                                                                                            \
    static const char *noun##_of(int i)                                                                                        \
    {                                                                                                                          \
        return scene_##noun##_name((enum scene_##noun)i);                                                                      \
    }
NAMES(type)
NAMES(colour)
NAMES(pose)
NAMES(place)
NAMES(light)
NAMES(weather)

/*
 * "night rain gate-open: person red standing gate, van white parked dock 7": light, weather, doors, "full" (no bay is free), "no-bays", "no-gate", "no-dock" (not in the picture); then things from left to right with type,
 * colour, pose, place and id in any order. What is not said is a clear day, closed, in the yard; ids count from 1.
 */
static struct scene_truth scene(const char *words)
{
    struct scene_truth t = {.scene = "yard", .has_gate = true, .has_dock = true, .n_bays = 4, .n_bays_free = 2};
    char copy[512], *things, *next = NULL;
    snprintf(copy, sizeof copy, "%s", words);
    things = strchr(copy, ':');
    assert_non_null(things);
    *things++ = 0;
    int value;
    for (char *word = strtok_r(copy, " ", &next); word; word = strtok_r(NULL, " ", &next)) {
        if (find(word, light_of, SCENE_N_LIGHTS, &value))
            t.light = (enum scene_light)value;
        else if (find(word, weather_of, SCENE_N_WEATHERS, &value))
            t.weather = (enum scene_weather)value;
        else if (strcmp(word, "gate-open") == 0)
            t.is_gate_open = true;
        else if (strcmp(word, "dock-open") == 0)
            t.is_dock_open = true;
        else if (strcmp(word, "no-gate") == 0)
            t.has_gate = false;
        else if (strcmp(word, "no-dock") == 0)
            t.has_dock = false;
        else if (strcmp(word, "full") == 0)
            t.n_bays_free = 0;
        else if (strcmp(word, "no-bays") == 0)
            t.n_bays = t.n_bays_free = 0;
        else
            fail_msg("\"%s\": what is %s?", words, word);
    }
    for (char *thing = strtok_r(things, ",", &things); thing; thing = strtok_r(NULL, ",", &things)) {
        struct scene_thing *made = &t.thing[t.n_things++];
        *made = (struct scene_thing){.place = SCENE_IN_YARD, .id = t.n_things};
        char *rest = NULL;
        for (char *word = strtok_r(thing, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
            if (find(word, type_of, SCENE_N_TYPES, &value))
                made->type = (enum scene_type)value;
            else if (find(word, colour_of, SCENE_N_COLOURS, &value))
                made->colour = (enum scene_colour)value;
            else if (find(word, pose_of, SCENE_N_POSES, &value))
                made->pose = (enum scene_pose)value;
            else if (find(word, place_of, SCENE_N_PLACES, &value))
                made->place = (enum scene_place)value;
            else if (isdigit((unsigned char)*word))
                made->id = atoi(word);
            else
                fail_msg("\"%s\": what is %s?", words, word);
        }
    }
    finish(&t);
    return t;
}

/* ---- what holds for every text ---- */

static void check_text(const char *text, size_t max)
{
    if (strlen(text) > max)
        fail_msg("%zu characters, %zu are the most: %s", strlen(text), max, text);
    for (const char *p = text; *p; p++)
        if (*p < ' ' || *p > '~' || *p == '"' || *p == '\\' || *p == '%' || *p == '#' || *p == '!')
            fail_msg("character %d in: %s", *p, text);
    if (!text[0] || strstr(text, "  ") || strstr(text, "..") || strstr(text, " .") || strstr(text, " ,") || text[0] == ' ')
        fail_msg("odd: \"%s\"", text);
}

static void check_sentences(const char *text)
{
    check_text(text, SCENE_SUMMARY_MAX);
    if (text[strlen(text) - 1] != '.')
        fail_msg("no full stop: %s", text);
    for (const char *p = text; p && *p; p = strstr(p, ". ") ? strstr(p, ". ") + 2 : NULL)
        if (!isupper((unsigned char)*p) && !isdigit((unsigned char)*p))
            fail_msg("a sentence begins with %c: %s", *p, text);
}

/* How many of a thing a summary names: "a red car, a car", or "3 cars". */
static int count_named(const char *summary, const char *one, const char *many)
{
    char copy[256], *next = NULL, last[64] = "";
    snprintf(copy, sizeof copy, "%s", summary);
    int n = 0;
    for (char *word = strtok_r(copy, " .,", &next); word; word = strtok_r(NULL, " .,", &next)) {
        if (strcasecmp(word, one) == 0 || strcasecmp(word, many) == 0)
            n += isdigit((unsigned char)*last) ? atoi(last) : 1;
        snprintf(last, sizeof last, "%s", word);
    }
    return n;
}

static void check_summary(const struct scene_truth *t, const char *summary)
{
    check_sentences(summary);
    const int people = count_named(summary, "person", "people") + count_named(summary, "one", "one");
    const int vehicles = count_named(summary, "car", "cars") + count_named(summary, "van", "vans");
    const int animals = count_named(summary, "dog", "dogs") + count_named(summary, "bird", "birds");
    if (people != t->people || vehicles != t->vehicles || animals != t->animals)
        fail_msg("%d, %d, %d things in: %s", t->people, t->vehicles, t->animals, summary);
    const bool has_lying = strstr(summary, "lies on the ground") || strstr(summary, " lying");
    bool is_lying = false, burns = false, smokes = false;
    for (int i = 0; i < t->n_things; i++) {
        is_lying |= t->thing[i].type == SCENE_PERSON && t->thing[i].pose == SCENE_LYING;
        burns |= t->thing[i].type == SCENE_FIRE;
        smokes |= t->thing[i].type == SCENE_SMOKE;
    }
    if (has_lying != is_lying || burns != (strncmp(summary, "Fire", 4) == 0) || smokes != (strstr(summary, "Smoke") != NULL) ||
        (t->people == 0) != (strstr(summary, "Nobody is here.") != NULL))
        fail_msg("hazards or nobody wrong: %s", summary);
    if (t->hazard == SCENE_HAZARD_BLOCKED)
        assert_non_null(strstr(summary, "The fire lane is blocked."));
}

static void test_summaries_hold_their_limits_and_enumerate(void **state)
{
    struct rng r = {.seed = 1};
    int n_counted = 0, n_plausible = 0;
    for (int i = 0; i < N_TRUTHS; i++) {
        const bool is_plausible = i % 2;
        const struct scene_truth t = is_plausible ? plausible(&r) : absurd(&r);
        char out[SCENE_SUMMARY_MAX + 1];
        scene_words_summary(&t, out);
        check_summary(&t, out);
        n_plausible += is_plausible;
        n_counted += is_plausible && (strstr(out, " cars") || strstr(out, " people") || strstr(out, "1 "));
    }
    print_message("%d of %d plausible summaries count instead of listing\n", n_counted, n_plausible);
}

static void test_observation_is_json_of_the_truth(void **state)
{
    struct rng r = {.seed = 2};
    for (int i = 0; i < N_TRUTHS / 4; i++) {
        const struct scene_truth t = random_truth(&r);
        char out[SCENE_OBSERVATION_MAX + 1], summary[SCENE_SUMMARY_MAX + 1];
        const size_t n = scene_words_observation(&t, out, sizeof out);
        assert_int_equal(n, strlen(out));
        assert_true(n > 0 && n <= SCENE_OBSERVATION_MAX);
        json_error_t error;
        json_t *root = json_loads(out, JSON_REJECT_DUPLICATES, &error);
        if (!root)
            fail_msg("%s: %s", error.text, out);
        assert_int_equal(json_object_size(root), 5);
        scene_words_summary(&t, summary);
        assert_string_equal(json_string_value(json_object_get(root, "summary")), summary);
        assert_int_equal(json_integer_value(json_object_get(root, "people")), t.people);
        assert_int_equal(json_integer_value(json_object_get(root, "vehicles")), t.vehicles);
        assert_int_equal(json_integer_value(json_object_get(root, "animals")), t.animals);
        assert_string_equal(json_string_value(json_object_get(root, "hazard")), scene_hazard_name(t.hazard));
        char *again = json_dumps(root, JSON_COMPACT | JSON_PRESERVE_ORDER);
        assert_string_equal(out, again); /* compact, in the schema's order */
        free(again);
        json_decref(root);
        char tight[SCENE_OBSERVATION_MAX + 1];
        assert_int_equal(scene_words_observation(&t, tight, n + 1), n);
        assert_int_equal(scene_words_observation(&t, tight, n), 0);
        assert_string_equal(tight, "");
    }
}

static void test_summaries_made_by_hand(void **state)
{
    static const struct {
        const char *truth, *summary;
    } cases[] = {
        {":", "Nobody is here."},
        {"night rain: person red walking gate, van white parked bay, person blue standing, car red parked bay, "
         "car grey parked bay, dog",
         "A person in red walks at the gate and one in blue stands. A white van, a red car, a grey car. A dog. Night, rain."},
        {"dusk: person vest lying, fire, bag black gate, box brown",
         "Fire in the yard. A person in a safety vest lies on the ground. A black bag at the gate, a box. Dusk."},
        {"fog: van white parked fire_lane, car red driving",
         "The fire lane is blocked. Nobody is here. A white van in the fire lane, a red car driving. Fog."},
        {": car red driving fire_lane", "Nobody is here. A red car driving in the fire lane."},
        {": bird grey flying, smoke dock, fire dock, smoke bay",
         "Fire at the dock. Smoke at the dock and in a parking bay. Nobody is here. A grey bird flying."},
        {": person green standing door, person black walking dock, person white walking outside",
         "A person in green stands at the emergency exit, one in black walks at the dock and one in white walks outside the "
         "fence."},
        /* too long: the places of things go, then those of people */
        {"night rain: person green standing door, person black walking dock, van white parked dock, car red driving gate, "
         "car blue parked dock",
         "A person in green stands at the emergency exit and one in black walks at the dock. A white van, a red car driving, "
         "a blue car. Night, rain."},
        {"dusk: person green standing door, person black walking dock, person vest standing gate, van white parked dock, "
         "car red driving gate",
         "A person in green stands, one in black walks and one in a safety vest stands. A white van, a red car driving. Dusk."},
        /* then what they do, but for who lies */
        {"night: person green standing, person black walking, person vest standing, person red lying, person vest walking, "
         "van white parked, van blue parked",
         "A person in green, one in black, one in a safety vest, one in red lying and one in a safety vest. A white van, "
         "a blue van. Night."},
        {"night: person green standing, person black walking, person vest standing, person red lying, person vest walking, "
         "van white parked, van white parked, car grey parked, car black parked, dog black, box",
         "5 people, 1 lying. 2 cars, 2 vans. 1 dog. 1 box. Night."},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct scene_truth t = scene(cases[i].truth);
        char out[SCENE_SUMMARY_MAX + 1];
        scene_words_summary(&t, out);
        assert_string_equal(out, cases[i].summary);
        check_summary(&t, out);
    }
}

/* ---- questions ---- */

static int topic_of(const char *name)
{
    for (int i = 0; i < scene_words_topics(); i++)
        if (strcmp(name, scene_words_topic_name(i)) == 0)
            return i;
    fail_msg("no topic %s", name);
    return -1;
}

static void test_every_topic_is_reached_and_filled_in_ones_are_balanced(void **state)
{
    enum { ASKS_MAX = 8, TOPICS_MAX = 64 };
    static char asks[TOPICS_MAX][ASKS_MAX][160];
    int n_asked[TOPICS_MAX] = {0}, n_yes[TOPICS_MAX] = {0}, n_asks[TOPICS_MAX] = {0};
    assert_in_range(scene_words_topics(), 24, TOPICS_MAX);
    struct rng r = {.seed = 3};
    for (int i = 0; i < N_TRUTHS; i++) {
        const struct scene_truth t = i % 4 ? plausible(&r) : absurd(&r);
        for (int topic = 0; topic < scene_words_topics(); topic++) {
            struct scene_question q = {.topic = -1}, again;
            if (!scene_words_question(&t, topic, (uint64_t)i, &q)) {
                assert_int_equal(q.topic, -1); /* untouched */
                continue;
            }
            assert_true(scene_words_question(&t, topic, (uint64_t)i, &again));
            assert_string_equal(q.ask, again.ask);
            assert_string_equal(q.answer, again.answer);
            assert_int_equal(q.topic, topic);
            check_text(q.ask, sizeof q.ask - 1);
            check_text(q.answer, sizeof q.answer - 1);
            const bool is_yes = strcmp(q.answer, "yes") == 0;
            if (q.kind == SCENE_ANSWER_YES_NO && !is_yes)
                assert_string_equal(q.answer, "no");
            n_asked[topic] += i % 4 != 0;
            n_yes[topic] += i % 4 != 0 && is_yes;
            int k = 0;
            while (k < n_asks[topic] && strcmp(asks[topic][k], q.ask) != 0)
                k++;
            if (k == n_asks[topic] && k < ASKS_MAX)
                memcpy(asks[topic][n_asks[topic]++], q.ask, sizeof q.ask);
        }
    }
    for (int topic = 0; topic < scene_words_topics(); topic++) {
        const char *name = scene_words_topic_name(topic);
        if (n_asked[topic] < N_TRUTHS / 20 || n_asks[topic] < 4)
            fail_msg("%s: asked %d times in %d wordings", name, n_asked[topic], n_asks[topic]);
        if (strstr(name, "colour") && strstr(name, "what"))
            continue;
        const double yes_pct = 100.0 * n_yes[topic] / n_asked[topic];
        if (strstr(name, "_colour") || strcmp(name, "more_people_than") == 0) {
            print_message("%-20s yes in %.1f %%\n", name, yes_pct);
            if (yes_pct < 35 || yes_pct > 65)
                fail_msg("%s: yes in %.1f %%", name, yes_pct);
        }
    }
}

/* Numbers within which more_people_than asks, and none of them trivial: yes and no for each count, in both kinds of wordings. */
static void test_numbers_are_compared_right(void **state)
{
    static const char *const numbers[] = {"no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"};
    for (int people = 0; people <= 12; people++) {
        struct scene_truth t = {.n_things = people, .people = people};
        int n[2] = {0};
        for (uint64_t seed = 0; seed < 400; seed++) {
            struct scene_question q;
            assert_true(scene_words_question(&t, topic_of("more_people_than"), seed, &q));
            int number = 0;
            char word[32];
            for (int i = 1; i <= 10; i++) {
                snprintf(word, sizeof word, " %s %s", numbers[i], i == 1 ? "person" : "people");
                if (strstr(q.ask, word))
                    number = i;
            }
            assert_int_not_equal(number, 0);
            const bool is_right = strstr(q.ask, "more than")    ? people > number
                                  : strstr(q.ask, "at least")   ? people >= number
                                  : strstr(q.ask, "fewer than") ? people < number
                                                                : people <= number;
            if (!strstr(q.ask, "more than") && !strstr(q.ask, "at least") && !strstr(q.ask, "fewer than"))
                assert_non_null(strstr(q.ask, "at most"));
            if (strcmp(q.answer, is_right ? "yes" : "no") != 0)
                fail_msg("%d people: %s %s", people, q.ask, q.answer);
            n[is_right]++;
        }
        assert_true(n[0] > 100 && n[1] > 100);
    }
}

/* A colour that is denied is neither there nor close to one that is; one that is affirmed is there. */
static void test_colours_are_asked_clearly(void **state)
{
    struct rng r = {.seed = 4};
    const int topic = topic_of("car_of_colour");
    int n_no = 0;
    for (uint64_t seed = 0; seed < N_TRUTHS; seed++) {
        const struct scene_truth t = plausible(&r);
        struct scene_question q;
        if (!scene_words_question(&t, topic, seed, &q))
            continue;
        bool is_there = false, is_van = false, has_grey = false;
        for (int i = 0; i < t.n_things; i++) {
            const struct scene_thing *thing = &t.thing[i];
            if (thing->type != SCENE_CAR && thing->type != SCENE_VAN)
                continue;
            has_grey |= thing->colour == SCENE_GREY;
            if (strstr(q.ask, scene_colour_name(thing->colour)))
                *(thing->type == SCENE_CAR ? &is_there : &is_van) = true;
        }
        assert_string_equal(q.answer, is_there ? "yes" : "no");
        if (is_there)
            continue;
        n_no++;
        assert_false(is_van); /* some call a van a car */
        assert_false(has_grey && (strstr(q.ask, "white") || strstr(q.ask, "black")));
    }
    assert_true(n_no > N_TRUTHS / 5);
}

/* The answer to a wording about a truth; NULL answer: the topic has none there, however it is worded. */
static void check_case(const char *name, const char *words, const char *ask, const char *answer)
{
    const struct scene_truth t = scene(words);
    const int topic = topic_of(name);
    bool is_asked = false;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct scene_question q;
        const bool is_clear = scene_words_question(&t, topic, seed, &q);
        if (!answer && is_clear)
            fail_msg("%s about \"%s\": %s %s", name, words, q.ask, q.answer);
        if (!answer)
            continue;
        if (!is_clear)
            fail_msg("%s about \"%s\": no clear answer", name, words);
        if (strcmp(q.ask, ask) != 0)
            continue;
        is_asked = true;
        if (strcmp(q.answer, answer) != 0)
            fail_msg("\"%s\": %s %s", words, q.ask, q.answer);
    }
    if (answer && !is_asked)
        fail_msg("%s about \"%s\": never asked \"%s\"", name, words, ask);
}

static const struct {
    const char *topic, *truth, *ask, *answer;
} cases[] = {
    {"person_at_gate", ": person red standing gate", "Is a person at the gate?", "yes"},
    {"person_at_gate", ": person red standing dock, car red gate", "Is there anyone at the gate", "no"},
    {"person_at_door", ": person red walking door", "Is a person at the emergency exit?", "yes"},
    {"person_at_door", ": person red walking yard, dog door", "Is somebody at the emergency exit?", "no"},
    {"person_at_dock", ": person red walking dock", "Is somebody at the loading dock?", "yes"},
    {"person_at_dock", ": person red walking gate, van dock", "Is a person at the dock?", "no"},
    {"vehicle_at_dock", ": van white parked dock", "Is a vehicle at the dock?", "yes"},
    {"vehicle_at_dock", ": van white parked dock", "Is the dock free of vehicles?", "no"},
    {"vehicle_at_dock", ": person red walking dock", "Is the dock free of vehicles?", "yes"},
    {"vehicle_at_dock", ": person red walking dock", "Is no vehicle at the dock?", "yes"},
    {"vehicle_at_dock", ": van white driving dock", NULL, NULL},
    {"vehicle_in_fire_lane", ": van white parked fire_lane", "Is a vehicle in the fire lane?", "yes"},
    {"vehicle_in_fire_lane", ": van white parked fire_lane", "Is the fire lane free of vehicles?", "no"},
    {"vehicle_in_fire_lane", ": van white parked bay, box fire_lane", "Is a vehicle in the fire lane?", "no"},
    {"vehicle_in_fire_lane", ": van white parked bay, box fire_lane", "Is the fire lane free of vehicles?", "yes"},
    {"vehicle_in_fire_lane", ": van white driving fire_lane", NULL, NULL},
    {"fire_lane_blocked", ": box fire_lane", "Is the fire lane blocked?", "yes"},
    {"fire_lane_blocked", ": car red parked fire_lane", "Is the fire lane free?", "no"},
    {"fire_lane_blocked", ": car red parked fire_lane", "Is the fire lane free of obstacles?", "no"},
    {"fire_lane_blocked", ": car red parked fire_lane", "Could the fire engine use the fire lane?", "no"},
    {"fire_lane_blocked", ": car red parked bay, person red standing door", "Is the fire lane blocked?", "no"},
    {"fire_lane_blocked", ": car red parked bay, person red standing door", "Is the fire lane free?", "yes"},
    {"fire_lane_blocked", ": car red driving fire_lane", NULL, NULL},
    {"fire_lane_blocked", ": person red lying door", NULL, NULL},
    {"fire_lane_blocked", ": fire door", NULL, NULL},
    {"fire_lane_blocked", ": fire door, box fire_lane", "Is the fire lane blocked?", "yes"},
    {"exit_blocked", ": bag red fire_lane", "Is the emergency exit blocked?", "yes"},
    {"exit_blocked", ": bag red fire_lane", "Is the emergency exit free?", "no"},
    {"exit_blocked", ": bag red yard", "Is the emergency exit blocked?", "no"},
    {"exit_blocked", ": bag red yard", "Is the emergency exit clear?", "yes"},
    {"exit_blocked", ": bag red yard", "Is the way out of the emergency exit free?", "yes"},
    {"exit_blocked", ": smoke door", NULL, NULL},
    {"lying_on_ground", ": person red lying", "Is something lying on the ground?", "yes"},
    {"lying_on_ground", ": bag red dock", "Is anything lying on the ground?", "yes"},
    {"lying_on_ground", ": person red standing, car red parked, dog standing", "Is something lying on the ground?", "no"},
    {"lying_on_ground", ": person red standing, fire", NULL, NULL},
    {"person_lying", ": person red standing, person blue lying", "Is somebody lying on the ground?", "yes"},
    {"person_lying", ": person red standing, bag blue", "Has somebody fallen?", "no"},
    {"anybody", ": person red lying", "Is anybody there?", "yes"},
    {"anybody", ": person red lying", "Is the yard empty of people?", "no"},
    {"anybody", ": person red lying", "Is nobody there?", "no"},
    {"anybody", ": car red, dog", "Is anybody there?", "no"},
    {"anybody", ": car red, dog", "Is the yard empty of people?", "yes"},
    {"anybody", ": car red, dog", "Is the yard free of people?", "yes"},
    {"anybody", ": person red outside", NULL, NULL},
    {"fire", ": fire bay", "Is there a fire?", "yes"},
    {"fire", ": smoke bay", "Is something burning?", "no"},
    {"smoke", ": smoke bay", "Is there smoke?", "yes"},
    {"smoke", ": person red", "Is there smoke?", "no"},
    {"smoke", ": fire", NULL, NULL},
    {"dog", ": dog brown", "Is there a dog?", "yes"},
    {"dog", ": bird grey", "Is there a dog?", "no"},
    {"bird", ": bird grey", "Is there a bird?", "yes"},
    {"bird", ": dog brown", "Is there a bird?", "no"},
    {"animal", ": bird grey", "Is there an animal?", "yes"},
    {"animal", ": dog brown", "Is the yard free of animals?", "no"},
    {"animal", ": person red", "Is there an animal?", "no"},
    {"animal", ": person red", "Is the yard free of animals?", "yes"},
    {"vehicle", ": van white", "Is there a vehicle?", "yes"},
    {"vehicle", ": van white", "Is the yard free of vehicles?", "no"},
    {"vehicle", ": box", "Is there a vehicle?", "no"},
    {"vehicle", ": box", "Is the yard free of vehicles?", "yes"},
    {"vehicle", ": car red driving outside", NULL, NULL},
    {"van", ": van white", "Is there a van?", "yes"},
    {"van", ": car white", "Is there a van?", "no"},
    {"car_of_colour", ": car red, van blue", "Is there a red car?", "yes"},
    {"car_of_colour", ": car red, van blue", "Is there a green car?", "no"},
    {"vehicle_of_colour", ": car red, van blue", "Is there a blue vehicle?", "yes"},
    {"vehicle_of_colour", ": car red, van blue", "Is there a white vehicle?", "no"},
    {"person_in_colour", ": person red, car blue", "Is a person in red there?", "yes"},
    {"person_in_colour", ": person red, car blue", "Is a person in blue there?", "no"},
    {"vest", ": person red, person vest", "Is anyone wearing a safety vest?", "yes"},
    {"vest", ": person red, person yellow", "Is anyone wearing a safety vest?", "no"},
    {"no_vest", ": person red, person vest", "Is a person without a safety vest in the yard?", "yes"},
    {"no_vest", ": person vest", "Is a person without a safety vest in the yard?", "no"},
    {"no_vest", ":", "Is somebody there without a safety vest?", "no"},
    {"no_vest", ": person vest, person red outside", NULL, NULL},
    {"all_in_vests", ": person vest, person vest", "Is everybody wearing a safety vest?", "yes"},
    {"all_in_vests", ": person vest, person vest", "Does somebody wear no safety vest?", "no"},
    {"all_in_vests", ": person vest, person red", "Is everybody wearing a safety vest?", "no"},
    {"all_in_vests", ": person vest, person red", "Does everyone wear a safety vest?", "no"},
    {"all_in_vests", ": person vest, person red", "Do all people wear safety vests", "no"},
    {"all_in_vests", ": person vest, person red", "Does somebody wear no safety vest?", "yes"},
    {"all_in_vests", ":", NULL, NULL},
    {"more_people_than", ": person red, person blue, person blue", "Are there more than two people?", "yes"},
    {"more_people_than", ": person red, person blue", "Are there more than two people?", "no"},
    {"more_people_than", ": person red, person blue", "Are there at least two people?", "yes"},
    {"more_people_than", ": person red, person blue", "Are there fewer than two people?", "no"},
    {"more_people_than", ": person red, person blue", "Are there at most two people?", "yes"},
    {"more_people_than", ":", "Are there fewer than two people?", "yes"},
    {"object_left", ": box", "Has somebody left something?", "yes"},
    {"object_left", ": person red", "Has something been left behind?", "no"},
    {"bag", ": bag black", "Has somebody left a bag?", "yes"},
    {"bag", ": box", "Has somebody left a bag?", "no"},
    {"box", ": box", "Has somebody left a box?", "yes"},
    {"box", ": bag black", "Has somebody left a box?", "no"},
    {"hazard", ": person red lying", "Is there a hazard?", "yes"},
    {"hazard", ": fire", "Is everything all right?", "no"},
    {"hazard", ": person red standing", "Is anything wrong?", "no"},
    {"hazard", ": person red standing", "Is everything all right?", "yes"},
    {"hazard", ": person red standing", "Is all well?", "yes"},
    {"hazard", ": car red driving fire_lane", NULL, NULL},
    {"gate_open", "gate-open:", "Is the gate open?", "yes"},
    {"gate_open", "gate-open:", "Is the gate closed?", "no"},
    {"gate_open", "dock-open:", "Is the gate open?", "no"},
    {"gate_open", "dock-open:", "Is the gate shut?", "yes"},
    {"dock_open", "dock-open:", "Is the roller door open?", "yes"},
    {"dock_open", "dock-open:", "Is the roller door down?", "no"},
    {"dock_open", "gate-open:", "Is the dock open?", "no"},
    {"dock_open", "gate-open:", "Is the dock closed?", "yes"},
    {"dock_open", "gate-open:", "Is the roller door closed?", "yes"},
    {"night", "night:", "Is it dark?", "yes"},
    {"night", "night:", "Is it day?", "no"},
    {"night", "day:", "Is it night?", "no"},
    {"night", "day:", "Is it light outside?", "yes"},
    {"night", "day:", "Is it daytime?", "yes"},
    {"night", "dusk:", NULL, NULL},
    {"raining", "rain:", "Is it raining?", "yes"},
    {"raining", "rain:", "Is it dry?", "no"},
    {"raining", "fog:", "Is it raining?", "no"},
    {"raining", "clear:", "Is it free of rain?", "yes"},
    {"foggy", "fog:", "Is it foggy?", "yes"},
    {"foggy", "fog:", "Is it free of fog?", "no"},
    {"foggy", "rain:", "Is there fog?", "no"},
    {"foggy", "clear:", "Is it free of fog?", "yes"},
    {"bay_free", ":", "Is a parking bay free?", "yes"},
    {"bay_free", ":", "Are all parking bays taken?", "no"},
    {"bay_free", "full:", "Is a parking bay free?", "no"},
    {"bay_free", "full:", "Are all parking bays taken?", "yes"},
    {"bay_free", "full:", "Is the car park full?", "yes"},
    {"bay_free", "full:", "Are the parking bays full?", "yes"},
    {"bay_free", "no-bays:", NULL, NULL},
    {"how_many_people", ": person red, person red, dog", "How many people are there?", "2"},
    {"how_many_vehicles", ": car red, van red, van blue, dog", "How many vehicles do you see?", "3"},
    {"how_many_animals", ": car red, van red", "How many animals are there?", "0"},
    {"what_colour", ": car red, van white, van blue", "What colour is the car?", "red"},
    {"what_colour", ": car red, van white, van blue", "What color is the car?", "red"},
    {"what_colour", ": car red, car red, person green", "What colour is the person's jacket?", "green"},
    {"what_colour", ": car red, car red, person vest", NULL, NULL},
    {"where", ": person red gate", "Where is the person?", "at the gate"},
    {"where", ": person red lying door", "Where is the person?", "at the emergency exit"},
    {"where", ": person red walking dock", "Where is the person?", "at the dock"},
    {"where", ": person red walking bay, car red", "Where is the person?", "in the yard"},
    {"where", ": person red walking outside", "Where is the person?", "outside the fence"},
    {"where", ": person red, person blue", NULL, NULL},
    {"where", ": dog", NULL, NULL},
    {"what_light", "dusk:", "Is it day, dusk or night?", "dusk"},
    {"weather", "fog night:", "What is the weather like?", "fog"},
    {"weather", "night:", "What is the weather like?", "clear"},
    {"gate_state", "gate-open:", "Is the gate open or closed?", "open"},
    {"gate_state", "dock-open:", "Is the gate open or closed?", "closed"},
    {"dock_state", "dock-open:", "Is the dock open or closed?", "open"},
    {"dock_state", "gate-open:", "Is the dock open or closed?", "closed"},
};

#define N_CASES (sizeof cases / sizeof *cases)

static void test_questions_about_truths_made_by_hand(void **state)
{
    for (size_t i = 0; i < N_CASES; i++)
        check_case(cases[i].topic, cases[i].truth, cases[i].ask, cases[i].answer);
    for (int topic = 0; topic < scene_words_topics(); topic++) {
        bool has_case = false;
        for (size_t i = 0; i < N_CASES; i++)
            has_case |= cases[i].answer && strcmp(cases[i].topic, scene_words_topic_name(topic)) == 0;
        if (!has_case)
            fail_msg("no case for %s", scene_words_topic_name(topic));
    }
}

static bool is_in_cases(const char *topic, const char *ask)
{
    for (size_t i = 0; i < N_CASES; i++)
        if (cases[i].answer && strcmp(cases[i].topic, topic) == 0 && strcmp(cases[i].ask, ask) == 0)
            return true;
    return false;
}

/*
 * No inverted wording is left to trust: each that answers otherwise than the first case of its topic, about that case's truth, is in the cases above. And words that turn
 * a question round stand in no other.
 */
static void test_inverted_wordings_all_have_a_case(void **state)
{
    static const char *const turning[] = {" free of ",  " empty of", "Is nobody", "Is no ",       "closed?", "shut?",
                                          "door down?", " day",      " dry",      " taken",       " full",   "all right",
                                          "all well",   "Could ",    " clear?",   "light outside"};
    int n_inverted = 0;
    const char *seen = "";
    for (size_t i = 0; i < N_CASES; i++) {
        const bool is_filled = strstr(cases[i].topic, "_colour") || strcmp(cases[i].topic, "more_people_than") == 0;
        if (!cases[i].answer || is_filled || strcmp(seen, cases[i].topic) == 0)
            continue;
        seen = cases[i].topic;
        const struct scene_truth t = scene(cases[i].truth);
        for (uint64_t seed = 0; seed < 200; seed++) {
            struct scene_question q;
            assert_true(scene_words_question(&t, topic_of(seen), seed, &q));
            if (q.kind != SCENE_ANSWER_YES_NO)
                break;
            const bool is_inverted = strcmp(q.answer, cases[i].answer) != 0;
            n_inverted += is_inverted;
            if (is_inverted && !is_in_cases(seen, q.ask))
                fail_msg("%s: \"%s\" is inverted and has no case", seen, q.ask);
            for (size_t k = 0; k < sizeof turning / sizeof *turning; k++)
                if (!is_inverted && strstr(q.ask, turning[k]) && !is_in_cases(seen, q.ask))
                    fail_msg("%s: \"%s\" is answered %s as if it were not inverted", seen, q.ask, q.answer);
        }
    }
    assert_true(n_inverted > 200);
}

/* ---- what changed ---- */

static void test_changes_made_by_hand(void **state)
{
    static const struct {
        const char *before, *after, *change;
    } pairs[] = {
        {":", ":", "Nothing has changed."},
        {"day: person red standing gate 1, car red parked bay 2",
         "night rain: car red driving gate 2, person red walking yard 1", "Nothing has changed."},
        {": car red 1, person green 2", ": person green 2, person blue 3", "A person in blue has come. A red car has left."},
        {": person vest 1, person blue 2", ": dog brown 7, box 8", /* the left one first */
         "A person in a safety vest and one in blue have left. A brown dog has come. A box has been left behind."},
        {": bag red 1, box 2", ": car white 3, van blue 4, car black 5",
         "A white car, a blue van and a black car have come. A red bag and a box are gone."},
        {":", "gate-open dock-open: fire 1, smoke 2",
         "A fire has broken out. Smoke has come up. The gate has opened. The dock door has opened."},
        {"gate-open dock-open: fire 1, smoke 2", ":",
         "The fire is out. The smoke is gone. The gate has closed. The dock door has closed."},
        {": fire 1", ": fire 2", "Nothing has changed."},
        {": person red standing 1", ": person red lying 1", "A person lies on the ground now."},
        {": person red lying 1", ": person red walking 1", "Nobody lies on the ground any more."},
        {": van white parked bay 1", ": van white parked fire_lane 1", "The fire lane is blocked."},
        {": box fire_lane 1", ":", "The fire lane is free again. A box is gone."},
        /* two pictures do not show that it is another one that looks alike */
        {": person red 1, car grey 3", ": car grey 4, person red 2, person red 5", "A person in red has come."},
        {": person red 1", ": person blue 2", "A person in blue has come. A person in red has left."},
        {": person red 1, person blue 2, person green 3, car white 4, car black 5",
         "gate-open: person white 11, person black 12, person vest 13, car red 14, car green 15",
         "3 people have come. 3 people have left. 2 vehicles have come. 2 vehicles have left. The gate has opened."},
        {": person red 1, person blue 2, person green 3, car white 4, car black 5, dog 6, bag blue 7",
         "gate-open: person white 11, person black 12, person vest lying 13, car red 14, car green 15, bird 16, box 17, fire "
         "18",
         "A fire has broken out. A person lies on the ground now. Come: 3 people, 2 vehicles, 1 animal, 1 object. Left: 3 "
         "people, 2 vehicles, 1 animal, 1 object."},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const struct scene_truth before = scene(pairs[i].before), after = scene(pairs[i].after);
        char out[SCENE_SUMMARY_MAX + 1];
        scene_words_change(&before, &after, out);
        assert_string_equal(out, pairs[i].change);
        check_sentences(out);
    }
}

/* A sentence of a change as it is told when the pictures are swapped. */
static void turn(const char *sentence, char out[SCENE_SUMMARY_MAX + 1])
{
    static const struct {
        const char *there, *back;
    } turns[] = {
        {"A fire has broken out", "The fire is out"},
        {"Smoke has come up", "The smoke is gone"},
        {"A person lies on the ground now", "Nobody lies on the ground any more"},
        {"The fire lane is blocked", "The fire lane is free again"},
        {"The gate has opened", "The gate has closed"},
        {"The dock door has opened", "The dock door has closed"},
        {" has come", " has left"},
        {" have come", " have left"},
        {" has been left behind", " is gone"},
        {" have been left behind", " are gone"},
        {"Come: ", "Left: "},
    };
    for (size_t i = 0; i < sizeof turns / sizeof *turns; i++) {
        const char *from = turns[i].there, *to = turns[i].back, *at = strstr(sentence, from);
        if (!at) {
            from = turns[i].back;
            to = turns[i].there;
            at = strstr(sentence, from);
        }
        if (!at)
            continue;
        snprintf(out, SCENE_SUMMARY_MAX + 1, "%.*s%s%s", (int)(at - sentence), sentence, to, at + strlen(from));
        return;
    }
    snprintf(out, SCENE_SUMMARY_MAX + 1, "%s", sentence);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* The sentences of a text, sorted, each turned if asked for. */
static int split(const char *text, bool is_turned, char out[24][SCENE_SUMMARY_MAX + 1])
{
    int n = 0;
    for (const char *p = text; *p;) {
        char one[SCENE_SUMMARY_MAX + 1];
        const size_t size = strcspn(p, ".");
        snprintf(one, sizeof one, "%.*s", (int)size, p);
        assert_in_range(n, 0, 23);
        if (is_turned)
            turn(one, out[n++]);
        else
            snprintf(out[n++], SCENE_SUMMARY_MAX + 1, "%s", one);
        p += size + 1;
        p += *p == ' ';
    }
    qsort(out, (size_t)n, sizeof out[0], compare_texts);
    return n;
}

static void test_changes_are_short_and_the_same_both_ways(void **state)
{
    struct rng r = {.seed = 5};
    int n_much = 0;
    for (int i = 0; i < N_TRUTHS; i++) {
        const struct scene_truth before = random_truth(&r);
        struct scene_truth after = pick(&r, 8) ? random_truth(&r) : before;
        char there[SCENE_SUMMARY_MAX + 1], back[SCENE_SUMMARY_MAX + 1];
        scene_words_change(&before, &after, there);
        scene_words_change(&after, &before, back);
        check_sentences(there);
        char a[24][SCENE_SUMMARY_MAX + 1], b[24][SCENE_SUMMARY_MAX + 1];
        const int n = split(there, true, a);
        assert_int_equal(n, split(back, false, b));
        for (int k = 0; k < n; k++)
            if (strcmp(a[k], b[k]) != 0)
                fail_msg("there: %s\nback: %s", there, back);
        n_much += strstr(there, "uch ") != NULL;
        scene_words_change(&before, &before, there);
        assert_string_equal(there, "Nothing has changed.");
    }
    print_message("%d of %d changes say only that much has changed\n", n_much, N_TRUTHS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_summaries_made_by_hand),
        cmocka_unit_test(test_summaries_hold_their_limits_and_enumerate),
        cmocka_unit_test(test_observation_is_json_of_the_truth),
        cmocka_unit_test(test_every_topic_is_reached_and_filled_in_ones_are_balanced),
        cmocka_unit_test(test_numbers_are_compared_right),
        cmocka_unit_test(test_colours_are_asked_clearly),
        cmocka_unit_test(test_questions_about_truths_made_by_hand),
        cmocka_unit_test(test_inverted_wordings_all_have_a_case),
        cmocka_unit_test(test_changes_made_by_hand),
        cmocka_unit_test(test_changes_are_short_and_the_same_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
