/*
 * scene_words - what a person would say about a rendered scene: its summary, questions with their answers, what changed between two pictures.
 *
 * Pure functions of the truth and a seed. Used by `heron synth`, the recipe of the shipped model and its evaluation: they all take their texts from here, so that what
 * is trained, shipped and measured is one thing. Summary, observation and change are in scene_words.c, the questions in scene_questions.c.
 *
 * Memory: the caller's buffers; nothing is kept. Threads: any. Invariants: every text is ASCII without quotes, backslashes and control characters, so that it can
 * stand in JSON as it is.
 */
#ifndef HERON_PIPELINE_SCENE_WORDS_H
#define HERON_PIPELINE_SCENE_WORDS_H

#include "pipeline/scene_truth.h"

#define SCENE_SUMMARY_MAX     160 /* characters */
#define SCENE_OBSERVATION_MAX 256 /* characters */

/* How a question is answered. */
enum scene_answer { SCENE_ANSWER_YES_NO, SCENE_ANSWER_WORD /* a colour, a place, a number, open or closed */ };

struct scene_question {
    char ask[160];
    char answer[64]; /* "yes", "no", or the word, in lower case */
    enum scene_answer kind;
    bool is_so; /* yes/no: what the topic is about is so; where the wording is inverted the answer is then "no" */
    int topic;  /* 0 .. scene_words_topics() - 1: which kind of question it is */
};

/*
 * The summary of the default schema, at most SCENE_SUMMARY_MAX characters: hazards, people, vehicles, animals, objects, each from left to right, then light and weather
 * where it is not a clear day. "Fire in the yard. A person in red walks at the gate and one in blue stands. A white van, a red car. A brown dog. Night, rain."
 * Where that is too long, it leaves out the places of things, the places of people, what they do (but not who lies), and at last counts instead of listing.
 */
void scene_words_summary(const struct scene_truth *truth, char out[SCENE_SUMMARY_MAX + 1]);

/*
 * The whole answer of the default schema as compact JSON, in its order; at most SCENE_OBSERVATION_MAX characters. Returns the bytes written without the terminator;
 * 0 and an empty text where out_bytes is too small.
 */
size_t scene_words_observation(const struct scene_truth *truth, char *out, size_t out_bytes);

/* A place as it is said: "at the gate", "at the emergency exit", "in the yard". Static. */
const char *scene_words_place(enum scene_place place);

/* Kinds of questions, and the name of one ("person_at_gate"; static; topic: 0 .. scene_words_topics() - 1). */
int scene_words_topics(void);
const char *scene_words_topic_name(int topic);

/*
 * A question of a topic about this truth, worded and filled in by `seed`. False, and *ret_question untouched: this topic has no clear answer here (a thing is about at a
 * border, or what is asked about is not there or there twice). Colours and numbers are filled in such that yes and no are about equally likely over many scenes; how often
 * the other topics are answered yes depends on the scenes alone.
 */
bool scene_words_question(const struct scene_truth *truth, int topic, uint64_t seed, struct scene_question *ret_question);

/* Colours that people, or vehicles, can be asked for and that none in the picture has or could be taken for having in this light: a bit for each enum scene_colour. */
unsigned scene_words_absent_colours(const struct scene_truth *truth, enum scene_class who);

/*
 * What changed from `before` to `after`, two frames of one scene, at most SCENE_SUMMARY_MAX characters: "A person in blue has come. A red car has left." or "Nothing has
 * changed." Told are hazards that have begun or ended, who and what has come or left, gate and dock opened or closed; not moving about, light and weather.
 *
 * A thing is the same when it looks alike (type and colour), whatever its id: two pictures do not show otherwise. The change from `after` to `before` tells the same things
 * the other way round, in as much detail.
 */
void scene_words_change(const struct scene_truth *before, const struct scene_truth *after, char out[SCENE_SUMMARY_MAX + 1]);

#endif
