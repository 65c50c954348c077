/*
 * Questions about a rendered scene with their answers, as rules and people ask them (scene_words.h). What is asked and how it is answered is a table; only answers that
 * a pattern over the things does not give have a function.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "pipeline/scene_words.h"

#define BIT(x)   (1u << (x))
#define ANY      (~0u)
#define VEHICLES (BIT(SCENE_CAR) | BIT(SCENE_VAN))
#define ANIMALS  (BIT(SCENE_DOG) | BIT(SCENE_BIRD))
#define OBJECTS  (BIT(SCENE_BOX) | BIT(SCENE_BAG))
#define PERSON   BIT(SCENE_PERSON)

#define WORDINGS_MAX 8

/* Things of the truth by what they are: a bit per value. types 0: none. */
struct pattern {
    unsigned types, poses, places, colours;
};

/* What a topic's function finds out. */
struct reply {
    bool is_yes;   /* the answer of a yes/no topic to the wordings that are not inverted */
    char word[32]; /* the answer of the others */
    char fill[32]; /* stands for % in a wording */
    char next[32]; /* stands for # */
};

struct topic {
    const char *name;
    enum scene_answer kind;
    struct pattern yes;        /* any such thing: yes */
    struct pattern unclear[3]; /* otherwise, any such thing: no clear answer */
    struct pattern needs;      /* without such a thing the topic makes no sense; types 0: it always does */
    /* Where patterns do not tell. False: no clear answer. */
    bool (*reply)(const struct scene_truth *truth, struct rng *rng, struct reply *ret_reply);
    const char *ask[WORDINGS_MAX]; /* an ! in front: inverted, the answer is the other one */
};

/* ---- things ---- */

static bool matches(const struct scene_thing *thing, const struct pattern *p)
{
    return (p->types & BIT(thing->type)) && (p->poses & BIT(thing->pose)) && (p->places & BIT(thing->place)) &&
           (p->colours & BIT(thing->colour));
}

static int count(const struct scene_truth *truth, const struct pattern *p)
{
    int n = 0;
    for (int i = 0; i < truth->n_things; i++)
        n += matches(&truth->thing[i], p);
    return n;
}

/* The only thing of a type, or NULL where there is none or more than one. */
static const struct scene_thing *get_only(const struct scene_truth *truth, enum scene_type type)
{
    const struct scene_thing *only = NULL;
    for (int i = 0; i < truth->n_things; i++) {
        if (truth->thing[i].type != type)
            continue;
        if (only)
            return NULL;
        only = &truth->thing[i];
    }
    return only;
}

/* ---- answers ---- */

static bool reply_gate(const struct scene_truth *truth, struct rng *rng, struct reply *ret)
{
    ret->is_yes = truth->is_gate_open;
    snprintf(ret->word, sizeof ret->word, "%s", truth->is_gate_open ? "open" : "closed");
    return truth->has_gate;
}

static bool reply_dock(const struct scene_truth *truth, struct rng *rng, struct reply *ret)
{
    ret->is_yes = truth->is_dock_open;
    snprintf(ret->word, sizeof ret->word, "%s", truth->is_dock_open ? "open" : "closed");
    return truth->has_dock;
}

static bool reply_night(const struct scene_truth *truth, struct rng *rng, struct reply *ret)
{
    ret->is_yes = truth->light == SCENE_NIGHT;
    return truth->light != SCENE_DUSK;
}

static bool reply_rain(const struct scene_truth *truth, struct rng *rng, struct reply *ret)
{
    ret->is_yes = truth->weather == SCENE_RAIN;
    return true;
}

static bool reply_fog(const struct scene_truth *truth, struct rng *rng, struct reply *ret)
{
    ret->is_yes = truth->weather == SCENE_FOG;
    return true;
}

static bool reply_bay(const struct scene_truth *truth, struct rng *rng, struct reply *ret)
{
    ret->is_yes = truth->n_bays_free > 0;
    return truth->n_bays > 0;
}

/* A vehicle that passes through the fire lane blocks it for a moment: that is nobody's answer. */
static bool reply_hazard(const struct scene_truth *truth, struct rng *rng, struct reply *ret)
{
    static const struct pattern passing = {VEHICLES, BIT(SCENE_DRIVING), BIT(SCENE_IN_FIRE_LANE), ANY};
    ret->is_yes = truth->hazard != SCENE_NO_HAZARD;
    return ret->is_yes || count(truth, &passing) == 0;
}

/* Colours that one may take for each other, the less light the more. */
static bool is_close(enum scene_colour a, enum scene_colour b, enum scene_light light)
{
    static const struct {
        enum scene_colour a, b;
        bool is_dark_only;
    } pairs[] = {{SCENE_YELLOW, SCENE_VEST, false}, {SCENE_GREY, SCENE_WHITE, false}, {SCENE_GREY, SCENE_BLACK, false},
                 {SCENE_WHITE, SCENE_YELLOW, true}, {SCENE_BLUE, SCENE_BLACK, true},  {SCENE_GREEN, SCENE_BLACK, true},
                 {SCENE_BLUE, SCENE_GREEN, true},   {SCENE_GREY, SCENE_BLUE, true},   {SCENE_BROWN, SCENE_RED, true}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (pairs[i].is_dark_only && light == SCENE_DAY)
            continue;
        if ((pairs[i].a == a && pairs[i].b == b) || (pairs[i].a == b && pairs[i].b == a))
            return true;
    }
    return false;
}

/* Of a palette those colours that no thing of these types has, or could be taken for having. */
static unsigned absent_colours(const struct scene_truth *truth, unsigned types, unsigned palette)
{
    for (int i = 0; i < truth->n_things; i++)
        for (int colour = 0; (types & BIT(truth->thing[i].type)) && colour < SCENE_N_COLOURS; colour++)
            if (colour == (int)truth->thing[i].colour ||
                is_close((enum scene_colour)colour, truth->thing[i].colour, truth->light))
                palette &= ~BIT(colour);
    return palette;
}

/*
 * "Is there a % car?" A colour that is there in three of five scenes that have such a thing, because there are scenes that have none; otherwise one that neither is
 * there nor is close to one that is. `palette`: colours that are asked for; `likes`: things whose colour would mislead.
 */
static bool reply_colour(const struct scene_truth *truth, struct rng *rng, unsigned types, unsigned likes, unsigned palette,
                         struct reply *ret)
{
    unsigned there = 0;
    for (int i = 0; i < truth->n_things; i++)
        if (types & BIT(truth->thing[i].type))
            there |= BIT(truth->thing[i].colour);
    there &= palette;
    ret->is_yes = there && rng_below(rng, 5) < 3;
    const unsigned from = ret->is_yes ? there : absent_colours(truth, types | likes, palette);
    if (!from)
        return false;
    int skip = (int)rng_below(rng, (uint64_t)__builtin_popcount(from)), colour = 0;
    while (!(from & BIT(colour)) || skip-- > 0)
        colour++;
    snprintf(ret->fill, sizeof ret->fill, "%s", scene_colour_name((enum scene_colour)colour));
    return true;
}

#define CLOTHES (BIT(SCENE_RED) | BIT(SCENE_BLUE) | BIT(SCENE_GREEN) | BIT(SCENE_YELLOW) | BIT(SCENE_WHITE) | BIT(SCENE_BLACK))
#define PAINTS  (BIT(SCENE_RED) | BIT(SCENE_BLUE) | BIT(SCENE_GREEN) | BIT(SCENE_GREY) | BIT(SCENE_WHITE) | BIT(SCENE_BLACK))

unsigned scene_words_absent_colours(const struct scene_truth *truth, enum scene_class who)
{
    return who == SCENE_CLASS_PEOPLE ? absent_colours(truth, PERSON, CLOTHES) : absent_colours(truth, VEHICLES, PAINTS);
}

static bool reply_car_colour(const struct scene_truth *truth, struct rng *rng, struct reply *ret)
{
    return reply_colour(truth, rng, BIT(SCENE_CAR), BIT(SCENE_VAN), PAINTS, ret);
}

static bool reply_vehicle_colour(const struct scene_truth *truth, struct rng *rng, struct reply *ret)
{
    return reply_colour(truth, rng, VEHICLES, 0, PAINTS, ret);
}

static bool reply_person_colour(const struct scene_truth *truth, struct rng *rng, struct reply *ret)
{
    return reply_colour(truth, rng, PERSON, 0, CLOTHES, ret);
}

static const char *const numbers[] = {"no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"};

#define NUMBER_MAX ((int)(sizeof numbers / sizeof *numbers) - 1)

/* "Are there more than % there?": a number next to how many there are; half of the wordings are inverted, so that yes and no are alike often for every count. */
static bool reply_more(const struct scene_truth *truth, struct rng *rng, struct reply *ret)
{
    const int n = truth->people;
    const bool is_wide = rng_below(rng, 3) == 0;
    ret->is_yes = n > 1 && (n >= NUMBER_MAX || rng_below(rng, 2));
    int than = ret->is_yes ? n - 1 - is_wide : (n > 1 ? n : 1) + is_wide;
    if (than < 1)
        than = 1;
    if (than > NUMBER_MAX - 1)
        than = NUMBER_MAX - 1;
    ret->is_yes = n > than;
    snprintf(ret->fill, sizeof ret->fill, "%s %s", numbers[than], than == 1 ? "person" : "people");
    snprintf(ret->next, sizeof ret->next, "%s people", numbers[than + 1]);
    return true;
}

static bool reply_people(const struct scene_truth *truth, struct rng *rng, struct reply *ret)
{
    snprintf(ret->word, sizeof ret->word, "%d", truth->people);
    return true;
}

static bool reply_vehicles(const struct scene_truth *truth, struct rng *rng, struct reply *ret)
{
    snprintf(ret->word, sizeof ret->word, "%d", truth->vehicles);
    return true;
}

static bool reply_animals(const struct scene_truth *truth, struct rng *rng, struct reply *ret)
{
    snprintf(ret->word, sizeof ret->word, "%d", truth->animals);
    return true;
}

/* The colour of the only car, van, dog or of the clothes of the only person; a safety vest has no colour's name. */
static bool reply_what_colour(const struct scene_truth *truth, struct rng *rng, struct reply *ret)
{
    static const struct {
        enum scene_type type;
        const char *words;
    } asked[] = {{SCENE_CAR, "car"}, {SCENE_VAN, "van"}, {SCENE_PERSON, "person's jacket"}, {SCENE_DOG, "dog"}};
    const int n = (int)(sizeof asked / sizeof *asked), first = (int)rng_below(rng, (uint64_t)n);
    for (int i = 0; i < n; i++) {
        const int k = (first + i) % n;
        const struct scene_thing *only = get_only(truth, asked[k].type);
        if (!only || only->colour == SCENE_NO_COLOUR || only->colour == SCENE_VEST)
            continue;
        snprintf(ret->fill, sizeof ret->fill, "%s", asked[k].words);
        snprintf(ret->word, sizeof ret->word, "%s", scene_colour_name(only->colour));
        return true;
    }
    return false;
}

/* A person between parked cars is in the yard: nobody stands in a parking bay. */
static bool reply_where(const struct scene_truth *truth, struct rng *rng, struct reply *ret)
{
    const struct scene_thing *only = get_only(truth, SCENE_PERSON);
    if (!only)
        return false;
    const enum scene_place place = only->place == SCENE_IN_BAY ? SCENE_IN_YARD : only->place;
    snprintf(ret->word, sizeof ret->word, "%s", scene_words_place(place));
    return true;
}

static bool reply_light(const struct scene_truth *truth, struct rng *rng, struct reply *ret)
{
    snprintf(ret->word, sizeof ret->word, "%s", scene_light_name(truth->light));
    return true;
}

static bool reply_weather(const struct scene_truth *truth, struct rng *rng, struct reply *ret)
{
    snprintf(ret->word, sizeof ret->word, "%s", scene_weather_name(truth->weather));
    return true;
}

/* ---- the topics ---- */

#define LANE     BIT(SCENE_IN_FIRE_LANE)
#define DOOR     BIT(SCENE_AT_DOOR)
#define INSIDE   (ANY & ~BIT(SCENE_OUTSIDE))
#define STANDING (ANY & ~BIT(SCENE_DRIVING))

/* What blocks exit and lane; and what may be taken for it: who passes, who lies before the door, what burns there. */
#define BLOCKS                                                                                                                 \
    .yes = {VEHICLES | OBJECTS, STANDING, LANE, ANY}, .unclear = {{VEHICLES, BIT(SCENE_DRIVING), LANE, ANY},                   \
                                                                  {PERSON, BIT(SCENE_LYING), DOOR, ANY},                       \
                                                                  {BIT(SCENE_FIRE) | BIT(SCENE_SMOKE), ANY, DOOR, ANY}}

static const struct topic topics[] = {
    {.name = "person_at_gate",
     .yes = {PERSON, ANY, BIT(SCENE_AT_GATE), ANY},
     .ask = {"Is a person at the gate?", "Is somebody standing by the gate?", "Is there anyone at the gate",
             "Is anybody at the gate?", "Is someone at the gate?", "Do you see a person at the gate?", "person at the gate?"}},
    {.name = "person_at_door",
     .yes = {PERSON, ANY, DOOR, ANY},
     .ask = {"Is a person at the emergency exit?", "Is somebody at the emergency exit?",
             "Is there anyone at the emergency exit", "Is anyone in front of the emergency exit?", "Is someone at the exit?",
             "Is a person standing before the exit?"}},
    {.name = "person_at_dock",
     .yes = {PERSON, ANY, BIT(SCENE_AT_DOCK), ANY},
     .ask = {"Is a person at the dock?", "Is somebody at the loading dock?", "Is there anyone at the dock",
             "Is anyone in front of the roller door?", "Is someone at the dock?", "Do you see a person at the loading dock?"}},
    {.name = "vehicle_at_dock",
     .yes = {VEHICLES, STANDING, BIT(SCENE_AT_DOCK), ANY},
     .unclear = {{VEHICLES, ANY, BIT(SCENE_AT_DOCK), ANY}},
     .ask = {"Is a vehicle at the dock?", "Is a van or a car at the dock?", "Is a vehicle standing at the loading dock?",
             "!Is the dock free of vehicles?", "!Is no vehicle at the dock?"}},
    {.name = "vehicle_in_fire_lane",
     .yes = {VEHICLES, STANDING, LANE, ANY},
     .unclear = {{VEHICLES, ANY, LANE, ANY}},
     .ask = {"Is a vehicle in the fire lane?", "Is a car or a van parked in the fire lane?",
             "Is there a vehicle in the fire lane", "Does a vehicle stand on the hatched area?",
             "Has somebody parked in the fire lane?", "!Is the fire lane free of vehicles?"}},
    {.name = "fire_lane_blocked",
     BLOCKS,
     .ask = {"Is the fire lane blocked?", "Is something blocking the fire lane?", "Is there an obstacle in the fire lane?",
             "!Is the fire lane free?", "!Is the fire lane free of obstacles?", "!Could the fire engine use the fire lane?"}},
    {.name = "exit_blocked",
     BLOCKS,
     .ask = {"Is the emergency exit blocked?", "Is something blocking the emergency exit?", "Is the exit obstructed?",
             "Does anything block the emergency exit", "!Is the emergency exit free?", "!Is the emergency exit clear?",
             "!Is the way out of the emergency exit free?"}},
    {.name = "lying_on_ground",
     .yes = {PERSON | OBJECTS, BIT(SCENE_LYING) | BIT(SCENE_NO_POSE), ANY, ANY},
     .unclear = {{BIT(SCENE_FIRE), ANY, ANY, ANY}},
     .ask = {"Is something lying on the ground?", "Is anything lying on the ground?",
             "Is something or somebody lying on the ground", "Does something lie in the yard?",
             "Does something lie on the ground?"}},
    {.name = "person_lying",
     .yes = {PERSON, BIT(SCENE_LYING), ANY, ANY},
     .ask = {"Is a person lying on the ground?", "Is somebody lying on the ground?", "Has somebody fallen?", "Is anyone down?",
             "Is there a person on the ground", "Has a person collapsed?"}},
    {.name = "anybody",
     .yes = {PERSON, ANY, INSIDE, ANY},
     .unclear = {{PERSON, ANY, ANY, ANY}},
     .ask = {"Is anybody there?", "Is anyone in the yard?", "Is there a person", "Do you see anybody?",
             "Is somebody in the yard?", "!Is the yard empty of people?", "!Is nobody there?", "!Is the yard free of people?"}},
    {.name = "fire",
     .yes = {BIT(SCENE_FIRE), ANY, ANY, ANY},
     .ask = {"Is there a fire?", "Is something burning?", "Do you see flames?", "Is anything on fire",
             "Does it burn somewhere?", "fire?"}},
    {.name = "smoke",
     .yes = {BIT(SCENE_SMOKE), ANY, ANY, ANY},
     .unclear = {{BIT(SCENE_FIRE), ANY, ANY, ANY}},
     .ask = {"Is there smoke?", "Do you see smoke?", "Is smoke rising somewhere?", "Is there any smoke in the yard",
             "Does something smoke?"}},
    {.name = "dog",
     .yes = {BIT(SCENE_DOG), ANY, ANY, ANY},
     .ask = {"Is there a dog?", "Do you see a dog?", "Is a dog in the yard?", "Is there any dog", "dog?"}},
    {.name = "bird",
     .yes = {BIT(SCENE_BIRD), ANY, ANY, ANY},
     .ask = {"Is there a bird?", "Do you see a bird?", "Is a bird in the yard?", "Is there any bird", "Is a bird there?"}},
    {.name = "animal",
     .yes = {ANIMALS, ANY, ANY, ANY},
     .ask = {"Is there an animal?", "Do you see an animal?", "Is an animal in the yard?", "Are there any animals",
             "Is a dog or a bird there?", "!Is the yard free of animals?"}},
    {.name = "vehicle",
     .yes = {VEHICLES, ANY, INSIDE, ANY},
     .unclear = {{VEHICLES, ANY, ANY, ANY}},
     .ask = {"Is there a vehicle?", "Do you see a vehicle?", "Is a car or a van there?", "Are there any vehicles in the yard",
             "!Is the yard free of vehicles?"}},
    {.name = "van",
     .yes = {BIT(SCENE_VAN), ANY, ANY, ANY},
     .ask = {"Is there a van?", "Do you see a van?", "Is a van in the picture?", "Are there any vans",
             "Is a delivery van there?"}},
    {.name = "car_of_colour",
     .reply = reply_car_colour,
     .ask = {"Is there a % car?", "Do you see a % car?", "Is a % car there?", "Is a % car in the picture?",
             "Is there any % car", "a % car?"}},
    {.name = "vehicle_of_colour",
     .reply = reply_vehicle_colour,
     .ask = {"Is there a % vehicle?", "Do you see a % vehicle?", "Is a % vehicle there?", "Is one of the vehicles %?",
             "Is there a % car or van"}},
    {.name = "person_in_colour",
     .reply = reply_person_colour,
     .ask = {"Is a person in % there?", "Is there a person in %?", "Do you see somebody in %?",
             "Is there somebody in a % jacket?", "Is anyone dressed in %", "Does somebody wear a % jacket?"}},
    {.name = "vest",
     .yes = {PERSON, ANY, ANY, BIT(SCENE_VEST)},
     .ask = {"Is anyone wearing a safety vest?", "Does somebody wear a safety vest?", "Is there a person in a safety vest",
             "Do you see a safety vest?", "Is a person in a high-visibility vest there?"}},
    {.name = "no_vest",
     .yes = {PERSON, ANY, INSIDE, ANY & ~BIT(SCENE_VEST)},
     .unclear = {{PERSON, ANY, BIT(SCENE_OUTSIDE), ANY & ~BIT(SCENE_VEST)}},
     .ask = {"Is a person without a safety vest in the yard?", "Is somebody there without a safety vest?",
             "Is anyone in the yard without a safety vest", "Do you see a person who wears no safety vest?"}},
    {.name = "all_in_vests",
     .yes = {PERSON, ANY, INSIDE, ANY & ~BIT(SCENE_VEST)},
     .unclear = {{PERSON, ANY, BIT(SCENE_OUTSIDE), ANY & ~BIT(SCENE_VEST)}},
     .needs = {PERSON, ANY, ANY, ANY},
     .ask = {"!Is everybody wearing a safety vest?", "!Does everyone wear a safety vest?", "!Do all people wear safety vests",
             "Does somebody wear no safety vest?"}},
    {.name = "more_people_than",
     .reply = reply_more,
     .ask = {"Are there more than %?", "Do you see more than %?", "Are more than % in the picture", "Are there at least #?",
             "!Are there fewer than #?", "!Do you see fewer than #?", "!Are there at most %?", "!Are fewer than # there?"}},
    {.name = "object_left",
     .yes = {OBJECTS, ANY, ANY, ANY},
     .ask = {"Has somebody left something?", "Has something been left behind?", "Is there an object left behind",
             "Do you see an object that somebody left?", "Is a bag or a box standing about?"}},
    {.name = "bag",
     .yes = {BIT(SCENE_BAG), ANY, ANY, ANY},
     .ask = {"Has somebody left a bag?", "Is there a bag?", "Do you see a bag?", "Is a bag lying in the yard?",
             "Is there an abandoned bag"}},
    {.name = "box",
     .yes = {BIT(SCENE_BOX), ANY, ANY, ANY},
     .ask = {"Has somebody left a box?", "Is there a box?", "Do you see a box?", "Is a box standing in the yard?",
             "Is there a carton"}},
    {.name = "hazard",
     .reply = reply_hazard,
     .ask = {"Is there a hazard?", "Is there any danger?", "Is anything wrong?", "Do you see a hazard",
             "!Is everything all right?", "!Is all well?"}},
    {.name = "gate_open",
     .reply = reply_gate,
     .ask = {"Is the gate open?", "Does the gate stand open?", "Has the gate been left open?", "Is the gate open now",
             "!Is the gate closed?", "!Is the gate shut?"}},
    {.name = "dock_open",
     .reply = reply_dock,
     .ask = {"Is the dock open?", "Is the roller door open?", "Is the door of the dock up?", "Is the loading dock open",
             "!Is the dock closed?", "!Is the roller door closed?", "!Is the roller door down?"}},
    {.name = "night",
     .reply = reply_night,
     .ask = {"Is it dark?", "Is it night?", "Is it night time", "!Is it day?", "!Is it light outside?", "!Is it daytime?"}},
    {.name = "raining",
     .reply = reply_rain,
     .ask = {"Is it raining?", "Does it rain?", "Is there rain?", "Is it raining now", "!Is it dry?", "!Is it free of rain?"}},
    {.name = "foggy",
     .reply = reply_fog,
     .ask = {"Is it foggy?", "Is there fog?", "Do you see fog?", "Is there fog in the yard", "!Is it free of fog?"}},
    {.name = "bay_free",
     .reply = reply_bay,
     .ask = {"Is a parking bay free?", "Is there a free parking bay?", "Can somebody park here?",
             "Is there an empty parking space", "!Are all parking bays taken?", "!Is the car park full?",
             "!Are the parking bays full?"}},
    {.name = "how_many_people",
     .kind = SCENE_ANSWER_WORD,
     .reply = reply_people,
     .ask = {"How many people are there?", "How many people do you see?", "How many persons are in the picture?",
             "Count the people.", "number of people", "How many people are in the yard?"}},
    {.name = "how_many_vehicles",
     .kind = SCENE_ANSWER_WORD,
     .reply = reply_vehicles,
     .ask = {"How many vehicles are there?", "How many vehicles do you see?", "How many cars and vans are in the picture?",
             "Count the vehicles.", "number of vehicles"}},
    {.name = "how_many_animals",
     .kind = SCENE_ANSWER_WORD,
     .reply = reply_animals,
     .ask = {"How many animals are there?", "How many animals do you see?", "How many animals are in the picture?",
             "Count the animals.", "number of animals"}},
    {.name = "what_colour",
     .kind = SCENE_ANSWER_WORD,
     .reply = reply_what_colour,
     .ask = {"What colour is the %?", "What color is the %?", "Which colour does the % have?", "What is the colour of the %?",
             "Name the colour of the %."}},
    {.name = "where",
     .kind = SCENE_ANSWER_WORD,
     .reply = reply_where,
     .ask = {"Where is the person?", "At which place is the person?", "Where do you see a person?",
             "Tell me where the person is.", "Where can the person be seen?"}},
    {.name = "what_light",
     .kind = SCENE_ANSWER_WORD,
     .reply = reply_light,
     .ask = {"Is it day, dusk or night?", "What time of day is it?", "How is the light?",
             "What is the light: day, dusk or night?"}},
    {.name = "weather",
     .kind = SCENE_ANSWER_WORD,
     .reply = reply_weather,
     .ask = {"What is the weather like?", "How is the weather?", "Is the weather clear, rain or fog?", "What weather is it?"}},
    {.name = "gate_state",
     .kind = SCENE_ANSWER_WORD,
     .reply = reply_gate,
     .ask = {"Is the gate open or closed?", "What is the state of the gate?", "How is the gate, open or closed?",
             "Tell me if the gate is open or closed."}},
    {.name = "dock_state",
     .kind = SCENE_ANSWER_WORD,
     .reply = reply_dock,
     .ask = {"Is the dock open or closed?", "What is the state of the roller door?", "How is the roller door, open or closed?",
             "Is the roller door open or closed?"}},
};

#define N_TOPICS ((int)(sizeof topics / sizeof *topics))

int scene_words_topics(void)
{
    return N_TOPICS;
}

const char *scene_words_topic_name(int topic)
{
    assert(topic >= 0 && topic < N_TOPICS);
    return topics[topic].name;
}

/* The wording with what is filled in. */
static void word(const char *ask, const struct reply *reply, char out[160])
{
    size_t n = 0;
    for (const char *p = ask; *p; p++) {
        const char one[2] = {*p, 0}, *piece = *p == '%' ? reply->fill : *p == '#' ? reply->next : one;
        const size_t n_piece = strlen(piece);
        assert(n + n_piece < 160); /* the table's texts are short */
        memcpy(out + n, piece, n_piece);
        n += n_piece;
    }
    out[n] = 0;
}

bool scene_words_question(const struct scene_truth *truth, int topic, uint64_t seed, struct scene_question *ret_question)
{
    assert(topic >= 0 && topic < N_TOPICS);
    const struct topic *about = &topics[topic];
    struct rng rng = {.seed = rng_at(seed, (uint64_t)topic)};
    struct reply reply = {0};
    if (about->needs.types && count(truth, &about->needs) == 0)
        return false;
    if (about->reply) {
        if (!about->reply(truth, &rng, &reply))
            return false;
    } else {
        reply.is_yes = count(truth, &about->yes) > 0;
        for (size_t i = 0; i < sizeof about->unclear / sizeof *about->unclear && !reply.is_yes; i++)
            if (about->unclear[i].types && count(truth, &about->unclear[i]) > 0)
                return false;
    }
    uint64_t n_wordings = 0;
    while (n_wordings < WORDINGS_MAX && about->ask[n_wordings])
        n_wordings++;
    const char *ask = about->ask[rng_below(&rng, n_wordings)];
    const bool is_inverted = *ask == '!';
    struct scene_question q = {.kind = about->kind, .topic = topic, .is_so = reply.is_yes};
    word(ask + is_inverted, &reply, q.ask);
    if (about->kind == SCENE_ANSWER_YES_NO)
        snprintf(q.answer, sizeof q.answer, "%s", reply.is_yes != is_inverted ? "yes" : "no");
    else
        snprintf(q.answer, sizeof q.answer, "%s", reply.word);
    *ret_question = q;
    return true;
}
