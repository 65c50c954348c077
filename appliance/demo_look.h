/*
 * demo_look - one observation as heron demo shows it, beside the truth where the camera is a rendered one, and the count of those that were right.
 *
 * Life cycle: demo_look_read fills a struct of the caller's; demo_tally_add counts it; demo_tally_print at the end.
 * Threads: one owner. Memory: the structs hold everything.
 * Invariants: texts are UTF-8 without control characters, whatever the model wrote: they may go to a terminal. An answer is right in a field when it
 * says the very word or number of the truth, and right when it is so in all four.
 */
#ifndef HERON_APPLIANCE_DEMO_LOOK_H
#define HERON_APPLIANCE_DEMO_LOOK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#define DEMO_CLOCK_MAX 16 /* bytes of a time of day */

enum demo_field { DEMO_PEOPLE, DEMO_VEHICLES, DEMO_ANIMALS, DEMO_HAZARD, DEMO_FIELD_COUNT };

enum demo_part { DEMO_QUEUE, DEMO_VISION, DEMO_PREFILL, DEMO_DECODE, DEMO_TOTAL, DEMO_PART_COUNT };

struct demo_look {
    char camera[49];
    char summary[660], true_summary[660]; /* 160 characters of up to four bytes; "": none */
    char answer[DEMO_FIELD_COUNT][24];    /* "2", "smoke"; "-": the answer has no such field */
    char truth[DEMO_FIELD_COUNT][24];     /* "": not known */
    char light[16], weather[16];
    bool has_truth, is_untrained;
    uint64_t i_frame;                  /* of the scene; only with the truth */
    int64_t frame_wall_ns, arrived_ns; /* UNIX: when the picture was taken, when the observation came here */
    double latency_ms[DEMO_PART_COUNT];
    double hazard_score; /* how sure the model is of its hazard, 0..1; negative: not said */
};

/* The name of a field as it stands in the schema, "people"; of a part of the latency, "queue". */
const char *demo_field_name(enum demo_field field);
const char *demo_part_name(enum demo_part part);

/* From a payload of P/<cam>/scene. What it does not hold is left empty; nothing in it is an error. arrived_ns: UNIX. */
void demo_look_read(const json_t *scene, int64_t arrived_ns, struct demo_look *ret_look);

bool demo_look_is_right_in(const struct demo_look *look, enum demo_field field);

/* In all fields. False without a truth. */
bool demo_look_is_right(const struct demo_look *look);

/* A UNIX time as a clock on the wall here shows it, "HH:MM:SS". */
void demo_clock_text(int64_t wall_ns, char out[DEMO_CLOCK_MAX]);

/* The observation as one line with a newline at its end, for what is no screen. Plain text. */
void demo_look_print(const struct demo_look *look, FILE *out);

#define DEMO_LATENCIES_MAX 4096

struct demo_tally {
    uint64_t n_looks, n_judged; /* observations; those with a truth */
    uint64_t n_untrained;       /* of a model that says it is */
    uint64_t n_right, n_right_in[DEMO_FIELD_COUNT];
    float latency_ms[DEMO_PART_COUNT][DEMO_LATENCIES_MAX]; /* of the first observations */
    int n_latencies;
};

void demo_tally_add(struct demo_tally *tally, const struct demo_look *look);

/* 97.9 of 47 in 48; 0 of none. */
double demo_tally_pct(uint64_t n, uint64_t of);

/* The table at the end. Sorts the latencies: nothing is to be added behind it. */
void demo_tally_print(struct demo_tally *tally, FILE *out);

#endif
