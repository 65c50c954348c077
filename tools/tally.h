/*
 * tally - whether an answer about a rendered scene is right, and how right many answers are: the arithmetic of tools/eval_model.c, held by
 * tests/e2e/test_eval_model.c.
 *
 * Pure functions; memory is the caller's; any thread.
 */
#ifndef HERON_TOOLS_TALLY_H
#define HERON_TOOLS_TALLY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "pipeline/scene_words.h"

/* ---- one answer --------------------------------------------------------------------------------------------------------- */

enum tally_column { TALLY_PEOPLE, TALLY_VEHICLES, TALLY_ANIMALS, TALLY_HAZARD, TALLY_SUMMARY, TALLY_COLUMNS };

/* An observation of the default schema against the truth, field by field. What is missing or of another type is wrong. */
static inline void tally_observation(const json_t *answer, const struct scene_truth *truth, bool right[TALLY_COLUMNS])
{
    static const char *const numbers[] = {"people", "vehicles", "animals"};
    const int expected[] = {truth->people, truth->vehicles, truth->animals};
    char summary[SCENE_SUMMARY_MAX + 1];
    for (int i = TALLY_PEOPLE; i <= TALLY_ANIMALS; i++) {
        const json_t *v = json_object_get(answer, numbers[i]);
        right[i] = json_is_integer(v) && json_integer_value(v) == expected[i];
    }
    const char *hazard = json_string_value(json_object_get(answer, "hazard"));
    right[TALLY_HAZARD] = hazard && strcmp(hazard, scene_hazard_name(truth->hazard)) == 0;
    const char *said = json_string_value(json_object_get(answer, "summary"));
    scene_words_summary(truth, summary);
    right[TALLY_SUMMARY] = said && strcmp(said, summary) == 0;
}

/* What an answer of the schema {"enum":["yes","no"]} says: 1, 0, or -1 where it is neither. */
static inline int tally_said(const char *text)
{
    return strcmp(text, "\"yes\"") == 0 ? 1 : strcmp(text, "\"no\"") == 0 ? 0 : -1;
}

/* How many of each class an answer to "What changed?" says have left [0] and come [1]. */
struct tally_moves {
    int n[2][SCENE_CLASS_OBJECTS + 1];
};

/* 1 + the class that a word names, 0: none. The word may have a plural's end. */
static inline int tally_class_of(const char *word, size_t n)
{
    static const struct {
        const char *stem;
        enum scene_class class;
    } words[] = {{"person", SCENE_CLASS_PEOPLE}, {"people", SCENE_CLASS_PEOPLE},    {"car", SCENE_CLASS_VEHICLES},
                 {"van", SCENE_CLASS_VEHICLES},  {"vehicle", SCENE_CLASS_VEHICLES}, {"dog", SCENE_CLASS_ANIMALS},
                 {"bird", SCENE_CLASS_ANIMALS},  {"animal", SCENE_CLASS_ANIMALS},   {"box", SCENE_CLASS_OBJECTS},
                 {"bag", SCENE_CLASS_OBJECTS},   {"object", SCENE_CLASS_OBJECTS}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const size_t n_stem = strlen(words[i].stem), n_end = n - n_stem;
        const char *end = word + n_stem;
        if (n >= n_stem && strncmp(word, words[i].stem, n_stem) == 0 &&
            (n_end == 0 || (n_end == 1 && *end == 's') || (n_end == 2 && end[0] == 'e' && end[1] == 's')))
            return 1 + (int)words[i].class;
    }
    return 0;
}

/* Reads the sentences that scene_words_change writes ("A person in red and one in blue have come.", "Left: 2 vehicles."); others say nothing. */
static inline struct tally_moves tally_moves(const char *text)
{
    struct tally_moves moves = {0};
    while (*text) {
        const size_t n_sentence = strcspn(text, ".");
        struct tally_moves named = {0}; /* in [0]: which way is known at the end of the sentence */
        int side = -1, pending = 0, class = 0;
        for (const char *word = text; word < text + n_sentence;) {
            const size_t n = strcspn(word, " ,:.");
            const bool is_a = n == 1 && (*word == 'A' || *word == 'a');
            const int of = tally_class_of(word, n);
            if (is_a || (*word >= '0' && *word <= '9')) {
                pending = is_a ? 1 : atoi(word);
            } else if (of > 0) {
                named.n[0][of - 1] += pending;
                class = of;
                pending = 0;
            } else if (n == 3 && strncmp(word, "one", n) == 0 && class > 0) {
                named.n[0][class - 1]++;
            } else if (n == 4 && (strncmp(word, "come", n) == 0 || strncmp(word, "Come", n) == 0)) {
                side = 1;
            } else if ((n == 4 && (strncmp(word, "left", n) == 0 || strncmp(word, "Left", n) == 0)) ||
                       (n == 4 && strncmp(word, "gone", n) == 0)) {
                side = 0;
            } else if (n == 6 && strncmp(word, "behind", n) == 0) {
                side = 1; /* left behind */
            }
            word += n;
            while (word < text + n_sentence && strchr(" ,:", *word))
                word++;
        }
        for (int i = 0; side >= 0 && i <= SCENE_CLASS_OBJECTS; i++)
            moves.n[side][i] += named.n[0][i];
        text += n_sentence;
        text += strspn(text, ". ");
    }
    return moves;
}

/* ---- many yes/no answers ------------------------------------------------------------------------------------------------ */

#define TALLY_ANY (-1) /* any row, any topic */

struct tally_verdict {
    double p;              /* of "yes", as it was said */
    bool is_yes, said_yes; /* the truth; the answer */
    uint8_t rows;          /* a bit for each row of the table that it counts in */
    int topic, scene;
    uint64_t wording; /* the same for the same words */
};

static inline bool tally_is_of(const struct tally_verdict *v, int row, int topic)
{
    return (row == TALLY_ANY || v->rows >> row & 1) && (topic == TALLY_ANY || v->topic == topic);
}

static inline int tally_by_p(const void *a, const void *b)
{
    const double x = ((const struct tally_verdict *)a)->p, y = ((const struct tally_verdict *)b)->p;
    return (x > y) - (x < y);
}

/* What tally_area wants. */
static inline void tally_sort(struct tally_verdict *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, tally_by_p);
}

/*
 * Area under the ROC curve of a row's and topic's verdicts, which are sorted by p: the share of (yes, no) pairs that are in order, ties counting half.
 * -1: they are all yes, or all no, and there is no such curve.
 */
static inline double tally_area(const struct tally_verdict *v, int n, int row, int topic)
{
    double yes = 0, no = 0, below = 0;
    for (int i = 0; i < n;) {
        double y = 0, o = 0;
        const double p = v[i].p;
        for (; i < n && v[i].p == p; i++)
            if (tally_is_of(&v[i], row, topic))
                *(v[i].is_yes ? &y : &o) += 1;
        below += y * (no + o / 2);
        yes += y;
        no += o;
    }
    return yes > 0 && no > 0 ? below / (yes * no) : -1;
}

/* How many verdicts of a row and topic there are whose answer is_yes, and how many of them were said. */
static inline int tally_count(const struct tally_verdict *v, int n, int row, int topic, bool is_yes, int *ret_right)
{
    int all = 0;
    *ret_right = 0;
    for (int i = 0; i < n; i++)
        if (v[i].is_yes == is_yes && tally_is_of(&v[i], row, topic)) {
            all++;
            *ret_right += v[i].said_yes == is_yes;
        }
    return all;
}

/*
 * What one would say who knows the questions and how often each wording was answered yes, but sees no picture: `out` [n] is `v` with these for p and
 * said_yes. Learned from scenes of even numbers for those of odd ones, and the other way round. O(n^2).
 */
static inline void tally_blind(const struct tally_verdict *v, int n, struct tally_verdict *out)
{
    for (int i = 0; i < n; i++) {
        int yes = 0, all = 0;
        for (int k = 0; k < n; k++)
            if (v[k].wording == v[i].wording && v[k].scene % 2 != v[i].scene % 2) {
                all++;
                yes += v[k].is_yes;
            }
        out[i] = v[i];
        out[i].p = all > 0 ? (double)yes / all : 0.5;
        out[i].said_yes = out[i].p > 0.5;
    }
}

#endif
