/*
 * scene_words - what a person would say about a rendered scene: its summary, questions with their answers, what changed between two pictures.
 *
 * Pure functions of the truth and a seed. Used by `heron synth`, the recipe of the shipped model and its evaluation: they all take their texts from here, so that what
 * is trained, shipped and measured is one thing.
 */
#ifndef HERON_PIPELINE_SCENE_WORDS_H
#define HERON_PIPELINE_SCENE_WORDS_H

#include "pipeline/scene_truth.h"

#define SCENE_SUMMARY_MAX 160 /* characters; all texts are ASCII */

/* How a question is answered. */
enum scene_answer { SCENE_ANSWER_YES_NO, SCENE_ANSWER_WORD /* a colour, a place, a number, open or closed */ };

struct scene_question {
    char ask[160];
    char answer[64]; /* "yes", "no", or the word, in lower case */
    enum scene_answer kind;
    int topic; /* 0 .. scene_words_topics() - 1: which kind of question it is */
};

/* The summary of the default schema, at most SCENE_SUMMARY_MAX characters. */
void scene_words_summary(const struct scene_truth *truth, char out[SCENE_SUMMARY_MAX + 1]);

/* The whole answer of the default schema as compact JSON, in its order. Returns bytes without the terminator. */
size_t scene_words_observation(const struct scene_truth *truth, char *out, size_t out_bytes);

/* Kinds of questions, and the name of one ("person_at_gate"). */
int scene_words_topics(void);
const char *scene_words_topic_name(int topic);

/* A question of a topic about this truth, worded and filled in by `seed`. False: this topic has no clear answer here (a thing is about at a border). */
bool scene_words_question(const struct scene_truth *truth, int topic, uint64_t seed, struct scene_question *ret_question);

/* What changed from `before` to `after`, two frames of one scene, at most SCENE_SUMMARY_MAX characters: "A red car has left. A person in blue has come." or "Nothing has changed." */
void scene_words_change(const struct scene_truth *before, const struct scene_truth *after, char out[SCENE_SUMMARY_MAX + 1]);

#endif
