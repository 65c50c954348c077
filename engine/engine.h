/*
 * engine - the door of the room that turns pictures and text into tokens.
 *
 * An *engine* is a loaded model on one device, with room for a fixed number of sessions. A *session* is one timeline of tokens:
 * its positions, KV pages and recurrent state. A *job* is one question: prompt parts (text, pictures), schema, token limit,
 * deadline, priority; the engine's scheduler runs all jobs together, a ragged batch of sessions per step, and hands back
 * results.
 *
 * Life cycle: en_open -> (jobs: en_submit, en_step until it is idle, en_take_result; or sessions by hand: en_session_open,
 * _append, en_run) -> en_close. Weights, caches and scratch are allocated in en_open from figures known then: en_plan says how
 * much, before.
 *
 * Threads: one thread (the engine thread) makes all calls on an engine, but for the functions marked "any thread". en_open has threads of its own while it lasts, which read and open. Memory:
 * pictures and texts are borrowed for the call only. Results belong to the caller, and may be freed after the engine is closed.
 * Jobs live in memory that is kept for the next one: once each kind of job was seen (sizes of pictures, length of the prompt,
 * schema and token limit, how many at a time), nothing from en_submit to en_result_free allocates. A picture of a new size, a longer
 * prompt or one more job at a time takes memory once. A schema is compiled once, by its owner, and shared by jobs. Errors: a device
 * failure (ERR_DEVICE) ends the engine: close it and open it again.
 */
#ifndef HERON_ENGINE_ENGINE_H
#define HERON_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/image.h"

struct en_engine;
struct en_session;
struct en_image;
struct en_schema;

/* ---- open --------------------------------------------------------------------------------------------------------------- */

enum en_kv { EN_KV_F16, EN_KV_Q8_0, EN_KV_F32 };

struct en_options {
    const char *model_path;  /* first part of the text model's GGUF, or NULL with `synthetic` */
    const char *vision_path; /* mmproj GGUF; NULL: a text-only engine, pictures are refused */
    const char *synthetic;   /* "SHAPE:TYPE", such as "qwen3.5-0.8b:q4_k": noise weights of the true shape instead of a file */
    const char *device;      /* "auto", "cpu", "ref", "cuda:N", "cuda:N+HOST:PORT": kn_device_open */
    const char *isa;         /* NULL: all the processor has */
    int threads;             /* 0: all cores */
    enum en_kv kv;
    int32_t context_tokens; /* most tokens of one session */
    int32_t sessions;       /* sessions that exist at once */
    int32_t batch;          /* most sequences in one step */
    int32_t step_rows;      /* most rows (tokens) of one step; 0: 256 */
    int64_t max_pixels;     /* largest picture after resizing; 0: 1,310,720; at most what the model's preprocessing allows */
    int32_t pictures;       /* encoded pictures that exist at once, at least those of one job; 0: two more than sessions */
    bool validate;          /* check every op's arguments: tests and diagnosis */
    /* called while loading, every few megabytes, from the opening thread; false: give up (ERR_CANCELLED). May be NULL */
    bool (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_ctx;
};

/* Memory that an engine of these options takes, of two devices each of them; worked out from the files' headers before anything is loaded. */
struct en_plan {
    uint64_t weights_bytes, kv_bytes, state_bytes, scratch_bytes, total_bytes;
    uint64_t kv_bytes_per_token;
};

/* What the model is. Strings live as long as the engine. */
struct en_info {
    const char *name;         /* general.name, or the file's name */
    const char *architecture; /* "qwen35", "qwen35moe" */
    const char *device;       /* one line for people */
    const char *tuned;        /* where the device's figures come from (kernels.h, struct kn_device_info); "": it has none */
    const char *fingerprint;  /* 16 hex digits over header and sizes of the files: tells two models apart */
    int32_t n_layers, n_full_layers, n_embd, n_vocab, n_experts, n_experts_used;
    int32_t context_tokens; /* of a session here */
    int32_t trained_context;
    uint64_t n_params;
    uint64_t weights_bytes, vision_bytes; /* all; those of the vision tower among them */
    uint64_t bytes_per_token;             /* weights read for one decoded token (experts: those used) */
    uint64_t state_bytes;                 /* of a session's recurrent state: a step reads it */
    uint64_t kv_bytes_per_token;          /* keys and values of a token: each later one reads them */
    uint64_t load_ns, load_bytes;         /* how long loading took, the vocabulary included; of weights */
    uint64_t load_peak_bytes; /* the most memory that the process had until then, caches and scratch not yet; 0: unknown */
    bool has_vision;
    bool is_untrained; /* general.tags or name says that the weights are random: say so wherever it speaks */
};

/*
 * Open: read the headers, check every shape, load the weights, allocate everything.
 * Errors: ERR_NOT_FOUND / ERR_IO (a file), ERR_FORMAT (truncated or lying file: file, offset, expected, found), ERR_UNSUPPORTED
 * (architecture, type, device), ERR_INVAL (options), ERR_NOMEM (with the plan's figures), ERR_CANCELLED (progress).
 */
int en_open(const struct en_options *options, struct en_engine **ret_engine, struct err *err);
void en_close(struct en_engine *engine);
void en_get_info(const struct en_engine *engine, struct en_info *ret_info);

/* The plan of these options, without loading; the files' headers are read. Any thread. */
int en_plan_memory(const struct en_options *options, struct en_plan *ret_plan, struct err *err);

/*
 * Write what is in a GGUF file to `out` for people: kind, shapes, types, tensors with `all`, bytes per token, what it needs.
 * Any thread. out is malloc'ed text, the caller frees it.
 */
int en_describe_file(const char *path, bool all_tensors, char **ret_text, struct err *err);

/* ---- text --------------------------------------------------------------------------------------------------------------- */

/* The vocabulary of a GGUF file, without its weights (`heron tokenize`). Close takes NULL. One thread at a time. */
struct en_vocab;
int en_vocab_open(const char *model_path, struct en_vocab **ret_vocab, struct err *err);
void en_vocab_close(struct en_vocab *vocab);

/*
 * Text to token ids. `special`: texts of control tokens become those tokens. Invalid UTF-8 is read as U+FFFD; NFC first.
 * *ret_ids is malloc'ed, the caller frees it.
 */
int en_vocab_tokenize(struct en_vocab *vocab, const char *text, size_t n_bytes, bool special, int32_t **ret_ids, size_t *ret_n,
                      struct err *err);

/*
 * Token ids to bytes, control tokens written by name when `special`. Malloc'ed, NUL-terminated; may hold partial UTF-8. Errors:
 * ERR_INVAL (an id outside the vocabulary), ERR_NOMEM.
 */
int en_vocab_detokenize(struct en_vocab *vocab, const int32_t *ids, size_t n, bool special, char **ret_text, size_t *ret_bytes,
                        struct err *err);

/* ---- pictures ----------------------------------------------------------------------------------------------------------- */

/* A picture file (PNG, JPEG, and what else libavcodec reads) as RGB24. The view lives until en_picture_free. */
struct en_picture {
    struct image_view view;
    void *pixels;
};
int en_picture_read(const char *path, struct en_picture *ret_picture, struct err *err);
int en_picture_decode(const void *bytes, size_t n_bytes, const char *name, struct en_picture *ret_picture, struct err *err);
void en_picture_free(struct en_picture *picture);

/*
 * The size a picture is given before the vision tower (smart resize, engine/image.h), with the area cap max_pixels (0: the
 * model's), and its tokens. Pure, any thread. Errors: ERR_INVAL aspect ratio above 200 or an empty picture.
 */
int en_picture_target(const struct en_engine *engine, int width_px, int height_px, int64_t max_pixels, int *ret_width_px,
                      int *ret_height_px, int *ret_tokens, struct err *err);

/*
 * Resize, normalise and run the vision tower. The result holds rows of the text model's width on the device; it is
 * reference-counted and may be put into several prompts. Errors: ERR_UNSUPPORTED (no vision file), ERR_INVAL, ERR_FULL (larger
 * than max_pixels of en_options).
 */
int en_image_encode(struct en_engine *engine, const struct image_view *view, int64_t max_pixels, struct en_image **ret_image,
                    struct err *err);
struct en_image *en_image_ref(struct en_image *image);
void en_image_unref(struct en_image *image);
int32_t en_image_tokens(const struct en_image *image);

/* ---- sessions by hand: verification and benchmarks
 * ---------------------------------------------------------------------------- */

/* A piece of a prompt: token ids, or one picture's rows (without its vision start and end tokens, which are ids). */
struct en_chunk {
    const int32_t *ids;
    int32_t n_ids;
    struct en_image *image; /* NULL: ids */
};

int en_session_open(struct en_engine *engine, struct en_session **ret_session, struct err *err);
void en_session_close(struct en_session *session);
/* A second session in the same state, to the bit; pages are shared until written. */
int en_session_fork(struct en_session *session, struct en_session **ret_session, struct err *err);
/* State to bytes and back (same model, same build and device kind). Malloc'ed; the caller frees it. */
int en_session_save(struct en_session *session, void **ret_bytes, size_t *ret_n_bytes, struct err *err);
int en_session_load(struct en_session *session, const void *bytes, size_t n_bytes, struct err *err);
/* Tokens evaluated so far, and the M-RoPE position that the next text token gets. */
int32_t en_session_tokens(const struct en_session *session);
int32_t en_session_position(const struct en_session *session);

/* Called for a row whose logits were asked for: index = its place among all tokens of the session, pos = its t, h, w. logits
 * [V], borrowed. */
typedef void (*en_logits_fn)(void *ctx, struct en_session *session, int32_t index, bool is_image, const int32_t pos[3],
                             const float *logits);

enum en_want { EN_WANT_NONE, EN_WANT_LAST, EN_WANT_TEXT, EN_WANT_ALL };

/* What one session is to evaluate in en_run. */
struct en_feed {
    struct en_session *session;
    const struct en_chunk *chunks;
    int32_t n_chunks;
    enum en_want want; /* EN_WANT_TEXT: all rows that are not picture rows */
    int32_t piece;     /* at most this many of its rows per step; 0: as many as fit */
};

/* Evaluate all feeds together, step by step, up to their ends. Errors: ERR_FULL (a session's context; nothing was evaluated),
 * ERR_INVAL, ERR_DEVICE. */
int en_run(struct en_engine *engine, const struct en_feed *feeds, int32_t n_feeds, en_logits_fn on_logits, void *ctx,
           struct err *err);

/*
 * The chunks of a raw prompt: text byte for byte, `<image>` stands for vision start, the next image, vision end; special tokens
 * parsed. *ret_chunks and the ids they point to are one malloc'ed block; images are borrowed. Errors: ERR_INVAL when markers
 * and images differ in number.
 */
int en_prompt_raw(struct en_engine *engine, const char *text, size_t n_bytes, struct en_image *const *images, int32_t n_images,
                  struct en_chunk **ret_chunks, int32_t *ret_n_chunks, struct err *err);

/* ---- schemas ------------------------------------------------------------------------------------------------------------ */

/* Compile a JSON Schema. Any thread; immutable. Errors: ERR_FORMAT (not JSON: line and column), ERR_UNSUPPORTED (keyword, by
 * path), ERR_INVAL. */
int en_schema_compile(const char *json, size_t n_bytes, struct en_schema **ret_schema, struct err *err);
struct en_schema *en_schema_ref(struct en_schema *schema);
void en_schema_unref(struct en_schema *schema);
/* Whether a finished text is valid JSON of the schema. Any thread. */
int en_schema_validate(const struct en_schema *schema, const char *text, size_t n_bytes, struct err *err);

/* ---- jobs --------------------------------------------------------------------------------------------------------------- */

enum en_role { EN_SYSTEM, EN_USER, EN_ASSISTANT };

/* A part of a message: text, or a picture. */
struct en_part {
    const char *text;              /* NULL: a picture */
    const struct image_view *view; /* resized at once in en_submit; not kept */
};

struct en_message {
    enum en_role role;
    const struct en_part *parts;
    int32_t n_parts;
};

struct en_sampling {
    float temperature; /* 0: greedy */
    int32_t top_k;     /* 0: off */
    float top_p;       /* 1: off */
    float min_p;       /* 0: off */
    uint64_t seed;
};

struct en_job {
    const struct en_message *messages;
    int32_t n_messages;
    bool thinking;
    struct en_schema *schema; /* NULL: free text; otherwise the engine holds a reference until the result */
    struct en_sampling sampling;
    int32_t max_tokens;  /* of the answer; with a schema at least what its shortest object needs */
    int64_t max_pixels;  /* of all pictures together; 0: the engine's */
    int64_t deadline_ns; /* monotonic; 0: none. A job that cannot be finished by then is shed */
    int32_t priority;    /* larger first */
    uint64_t tag;        /* the caller's, returned with the result */
};

enum en_finish {
    EN_FINISH_STOP,      /* the answer is complete */
    EN_FINISH_LENGTH,    /* max_tokens; only without a schema */
    EN_FINISH_DEADLINE,  /* shed: no answer */
    EN_FINISH_CANCELLED, /* no answer */
    EN_FINISH_ERROR,     /* error says why; no answer */
};

/* A value of the answer that was a choice: how probable each alternative was, renormalised over the alternatives; they sum
 * to 1. */
struct en_score {
    const char *path; /* JSON pointer, "/hazard" */
    int32_t n;
    const char *const *names; /* alternatives as JSON text without quotes: "none", "true" */
    const double *p;
    int32_t chosen;
};

struct en_timing {
    int64_t submitted_ns, started_ns, finished_ns;      /* monotonic */
    int64_t queue_ns, vision_ns, prefill_ns, decode_ns; /* shares of total = finished - submitted */
    int32_t prompt_tokens, image_tokens, output_tokens;
    int32_t
        drawn_tokens; /* how often the model chose one, a pass each, also one that ends the answer and is no part of it; what a schema leaves no choice about costs no pass */
};

struct en_result {
    uint64_t tag;
    enum en_finish finish;
    char *text;    /* the answer without thinking, UTF-8, NUL-terminated; NULL where there is none */
    char *thought; /* with thinking on; may be NULL */
    struct en_score *scores;
    int32_t n_scores;
    struct en_timing timing;
    struct err error;
};

/*
 * Queue a job. Pictures are resized here; the text is rendered and tokenised here. 0: *ret_id is never 0. Errors: ERR_FULL
 * (queue, context or pictures: the job does not fit, with figures), ERR_UNSUPPORTED (picture without vision), ERR_INVAL.
 */
int en_submit(struct en_engine *engine, const struct en_job *job, uint64_t *ret_id, struct err *err);

/* Take back a job that has no result yet; its result comes as EN_FINISH_CANCELLED. Unknown ids are ignored. */
void en_cancel(struct en_engine *engine, uint64_t id);

/* What the governor grants: see the door of appliance's governor. None (NULL) or expired: nothing is submitted to the device.
 */
struct en_permit {
    int32_t batch;         /* most sequences in the step */
    int32_t idle_permille; /* idle time after a step, or between its layers, in thousandths of busy plus idle time */
    int64_t expires_ns;    /* monotonic */
};

#define EN_REST_LEAST_NS INT64_C(10000000) /* less rest is not worth a stop */

/*
 * One pass: sheds what is late, then one vision encoding, or one ragged batch of prefill rows and decode tokens. Where the permit asks for
 * more idle time since the steps before it only sleeps, a tenth of a second at most; less than EN_REST_LEAST_NS is owed until there is more. *ret_busy says whether there is more
 * to do. Errors: ERR_STATE (no permit; nothing was submitted), ERR_CANCELLED (en_set_breath), ERR_DEVICE.
 */
int en_step(struct en_engine *engine, const struct en_permit *permit, bool *ret_busy, struct err *err);

enum en_breath {
    EN_GIVE_UP, /* the pass ends here */
    EN_GO_ON,
    EN_RESTED /* go on; what was worked so far has had its rest, or needs none */
};

/*
 * Be asked between the layers of en_step's pass, on the engine's thread: `ask` may wait there, which counts as rest and not as work, and may call en_rest_ns and
 * en_get_progress. A pass that is given up: ERR_CANCELLED from en_step, its jobs end as EN_FINISH_DEADLINE, the others stay. NULL: nobody is asked.
 */
void en_set_breath(struct en_engine *engine, enum en_breath (*ask)(void *ctx), void *ctx);

/*
 * How long en_step would do nothing but sleep under this permit, all calls together; 0: it would work, or there is nothing to do. Within a pass (en_set_breath): what is left
 * of the rest for what it has worked since the last EN_RESTED.
 */
int64_t en_rest_ns(const struct en_engine *engine, const struct en_permit *permit);

/* The oldest finished result, or NULL. The caller frees it with en_result_free; any thread may, also after en_close. */
struct en_result *en_take_result(struct en_engine *engine);
void en_result_free(struct en_result *result);

/* Jobs queued and running. */
int32_t en_pending(const struct en_engine *engine);

/* ---- figures ------------------------------------------------------------------------------------------------------------ */

/* What jobs have made of the engine since it was opened, a pass that is at work included; grows only. Rest is not counted. */
struct en_progress {
    uint64_t output_tokens, prompt_rows;
    int64_t busy_ns;
    int64_t
        sequence_ns; /* steps' time, each times the sequences under way, also those that wait: over busy_ns the mean batch */
    int32_t running; /* sequences under way during the pass at work; 0: none is */
};
void en_get_progress(const struct en_engine *engine, struct en_progress *ret_progress);

/*
 * Read the files of these options as en_open does, and keep nothing: how fast could loading be, if there were nothing to do but to read? `most_bytes` of each file at most. One thread;
 * an engine may be open, and idle. *ret_ns: the time it took; both are 0 for a synthetic model. Errors: those of en_open.
 */
int en_read_files(const struct en_options *options, uint64_t most_bytes, uint64_t *ret_bytes, int64_t *ret_ns, struct err *err);

/* Read bandwidth of the device's memory in bytes/s, with the engine's threads, over a buffer of `bytes`. */
double en_read_bandwidth(struct en_engine *engine, size_t bytes);

/*
 * Lend the device of these options (device, threads, isa; the rest does not matter) to other machines' engines, whose options then name it, "cuda:0+HOST:PORT": kn_lend. said: what happens,
 * a line each. Returns only an error.
 */
int en_lend(const struct en_options *options, const char *listen_on, void (*said)(void *ctx, const char *line), void *ctx,
            struct err *err);

/* What a device's name stands for on this machine: kn_device_name. */
const char *en_device_name(const char *device);

/* Kernels and copies given to the device since the engine was opened; 0 where there is nothing to launch. Thread: the engine's. */
uint64_t en_launches(const struct en_engine *engine);

/* How a job is expected to run. Times are of one that has the device to itself. */
struct en_estimate {
    int32_t prompt_tokens, image_tokens; /* the prompt's with the pictures' */
    int64_t vision_ns, prefill_ns;
    int64_t token_ns;        /* one token of the answer */
    int64_t shared_token_ns; /* one of options.batch answers that are written together: the step's time over the batch */
};

/* The model and the machine that estimates are about. */
struct en_forecast {
    char name[96], architecture[16], device[320];
    char weight_type[16]; /* the one that most of the work is in: "Q4_K" */
    int32_t n_layers, n_full_layers, n_embd, n_vocab, n_experts, n_experts_used, trained_context;
    uint64_t n_params, weights_bytes, bytes_per_token;
    uint64_t device_free_bytes; /* 0: unknown */
    bool has_vision, is_untrained;
    double read_bytes_per_s;    /* measured; 0: the device does not say */
    double multiply_adds_per_s; /* measured: many rows by weights of that type */
    int64_t measure_ns;         /* how long measuring took */
};

/*
 * Estimate jobs without loading the model: what there is to read and to multiply follows from the files' headers, how fast that
 * goes from a measurement of about half a second on the device that the options name. Counted are weights, KV cache, recurrent
 * state, attention and the ops themselves; not counted: resizing of pictures, drawing of tokens, other work of the machine.
 *
 * jobs       as for en_submit; of pictures only the sizes are read, of the schema and sampling nothing
 * ret_...    [n_jobs]; untouched on failure
 *
 * Any thread; no engine of this device may be at work meanwhile. Errors: those of en_plan_memory; ERR_NOT_FOUND, ERR_DEVICE
 * (the device); ERR_UNSUPPORTED (a picture, and no vision file).
 */
int en_estimate(const struct en_options *options, const struct en_job *jobs, int32_t n_jobs, struct en_estimate *ret_estimates,
                struct en_forecast *ret_forecast, struct err *err);

/* ---- tuning ------------------------------------------------------------------------------------------------------------- */

/* A figure that a device goes by: up to how many rows, or pairs of a token and an expert, it takes its kernels for few. Results are the same to the bit whatever it is. */
struct en_tuned {
    const char *device, *figure, *type; /* for the call; "few_rows", "Q4_K" */
    int32_t standard, best;
    double gain;       /* of the best over the standard, in the mean over the points */
    int32_t n, at[12]; /* the points that were measured: rows or pairs */
    double ratio[12];  /* time of the way of many over that of few */
};
typedef void en_tuned_fn(void *ctx, const struct en_tuned *figure);

/*
 * Measure the figures of options->device (threads and isa count too) and write them into the machine's tuning table, where devices that are opened afterwards find them. `seconds` for each
 * figure; on_figure is told of each.
 *
 * path  NULL: en_tuning_path. Errors: those of opening the device; ERR_UNSUPPORTED (it has nothing to tune), ERR_NOMEM, ERR_DEVICE; ERR_IO and ERR_NOT_FOUND (the table cannot be written).
 * No engine of this device may be at work meanwhile.
 */
int en_tune(const struct en_options *options, const char *path, double seconds, en_tuned_fn *on_figure, void *ctx,
            double *ret_gain, struct err *err);

/* $HERON_TUNING, or /var/lib/heron/tuning. */
const char *en_tuning_path(void);

#endif
