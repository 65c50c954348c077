/*
 * engine - opening and closing: from options and files to a device with everything on it.
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/process.h"
#include "base/utf8.h"
#include "engine/blocks.h"
#include "engine/constraint.h"
#include "engine/forced.h"
#include "engine/image.h"
#include "engine/intake.h"
#include "engine/internal.h"
#include "engine/jobs.h"
#include "engine/sampler.h"
#include "engine/source.h"
#include "engine/tokenizer.h"
#include "engine/vocab.h"
#include "engine/weights.h"

#define ROUNDING_BYTES ((uint64_t)1 << 20) /* of some thousands of pieces of memory */
#define PAGE_BYTES     ((uint64_t)2 << 20) /* of what is reserved in one */

#define DEFAULT_STEP_ROWS  256
#define DEFAULT_CONTEXT    8192
#define DEFAULT_MAX_PIXELS (1280 * 32 * 32) /* 1,280 tokens a picture where nobody says otherwise */
#define LARGEST_PIXELS     16777216
#define SPARE_IMAGES       2 /* encoded pictures beyond one a session */

/* ---- options and the plan ------------------------------------------------------------------------------------------------------- */

static enum kn_dtype kv_dtype(enum en_kv kv)
{
    switch (kv) {
    case EN_KV_F16: return KN_F16;
    case EN_KV_Q8_0: return KN_Q8_0;
    case EN_KV_F32: return KN_F32;
    }
    return KN_F16;
}

/* Fill in what was left to the engine and refuse what cannot be. */
static int settle_options(struct en_options *o, const struct source *s, struct err *err)
{
    if (o->context_tokens == 0)
        o->context_tokens = s->shape.trained_context < DEFAULT_CONTEXT ? s->shape.trained_context : DEFAULT_CONTEXT;
    if (o->sessions == 0)
        o->sessions = 1;
    if (o->batch == 0)
        o->batch = o->sessions;
    if (o->step_rows == 0)
        o->step_rows = DEFAULT_STEP_ROWS;
    if (o->max_pixels == 0)
        o->max_pixels = DEFAULT_MAX_PIXELS;
    if (o->pictures == 0)
        o->pictures = o->sessions + SPARE_IMAGES;
    if (o->max_pixels > LARGEST_PIXELS)
        o->max_pixels = LARGEST_PIXELS;
    if (o->context_tokens < 1 || o->context_tokens > s->shape.trained_context)
        return err_set(err, ERR_INVAL, "a context of %d tokens: this model was trained for 1 to %d", o->context_tokens,
                       s->shape.trained_context);
    if (o->sessions < 1 || o->sessions > 4096)
        return err_set(err, ERR_INVAL, "%d sessions: 1 to 4096 are possible", o->sessions);
    if (o->batch < 1 || o->batch > o->sessions)
        return err_set(err, ERR_INVAL, "a batch of %d sequences: 1 to %d, the sessions, are possible", o->batch, o->sessions);
    if (o->step_rows < o->batch || o->step_rows > 65536)
        return err_set(err, ERR_INVAL, "%d rows a step: %d, the batch, to 65536 are possible", o->step_rows, o->batch);
    if ((int64_t)kv_cache_pages(o->context_tokens) * o->sessions > INT32_MAX)
        return err_set(err, ERR_INVAL, "%d sessions of %d tokens: at most %lld tokens in all are possible", o->sessions,
                       o->context_tokens, (long long)INT32_MAX * KN_PAGE_TOKENS);
    if (o->pictures < 1 || o->pictures > 8192)
        return err_set(err, ERR_INVAL, "%d encoded pictures at once: 1 to 8192 are possible", o->pictures);
    if (o->max_pixels < 0)
        return err_set(err, ERR_INVAL, "a picture of at most %lld pixels", (long long)o->max_pixels);
    return 0;
}

static int32_t pages_per_session(const struct en_options *o)
{
    return kv_cache_pages(o->context_tokens);
}

static int32_t logits_rows(const struct en_options *o)
{
    return o->step_rows < ENGINE_LOGITS_ROWS ? o->step_rows : ENGINE_LOGITS_ROWS;
}

/* The largest picture after resizing: smart resize rounds both sides to tiles, and never goes below the model's smallest area. */
static int64_t settled_pixels(const struct en_options *o, const struct vision_shape *v)
{
    const int64_t tile = (int64_t)v->patch_px * v->merge;
    int64_t most = o->max_pixels < v->max_pixels ? o->max_pixels : v->max_pixels;
    if (most < v->min_pixels)
        most = v->min_pixels;
    /* a very flat picture at the smallest area is rounded up by a tile each way */
    const int64_t flat = v->min_pixels + 2 * tile * IMAGE_MAX_ASPECT * tile;
    return most > flat ? most : flat < LARGEST_PIXELS ? flat : LARGEST_PIXELS;
}

static int32_t pixels_to_tokens(const struct vision_shape *v, int64_t pixels)
{
    const int64_t tile = (int64_t)v->patch_px * v->merge;
    return (int32_t)(pixels / (tile * tile));
}

static void make_plan(const struct en_options *o, const struct source *s, struct en_plan *p)
{
    const size_t page = kv_cache_page_bytes(&s->share, kv_dtype(o->kv));
    *p = (struct en_plan){.weights_bytes = source_device_bytes(s, NULL), .kv_bytes_per_token = page / KN_PAGE_TOKENS};
    p->kv_bytes = (uint64_t)page * (uint64_t)pages_per_session(o) * (uint64_t)o->sessions;
    p->state_bytes = (uint64_t)state_cache_slot_bytes(&s->share) * (uint64_t)o->sessions;
    p->scratch_bytes = qwen35_scratch_bytes(&s->share, o->step_rows, logits_rows(o)) +
                       step_bytes(o->step_rows, o->batch, o->batch * pages_per_session(o));
    if (s->has_vision) {
        const int64_t pixels = settled_pixels(o, &s->vision_shape);
        p->scratch_bytes += vision_scratch_bytes(&s->vision_shape, pixels) +
                            (uint64_t)o->pictures * (uint64_t)pixels_to_tokens(&s->vision_shape, pixels) *
                                (uint64_t)s->shape.n_embd * sizeof(float);
    }
    p->total_bytes = p->weights_bytes + p->kv_bytes + p->state_bytes + p->scratch_bytes;
}

int en_plan_memory(const struct en_options *options, struct en_plan *ret_plan, struct err *err)
{
    struct source s;
    struct en_options o = *options;
    int rc = source_open(&s, &o, err);
    if (rc != 0)
        return rc;
    rc = source_share(&s, kn_device_members(o.device ? o.device : "auto"), err);
    if (rc == 0 && (rc = settle_options(&o, &s, err)) == 0)
        make_plan(&o, &s, ret_plan);
    source_close(&s);
    return rc;
}

/* ---- open ------------------------------------------------------------------------------------------------------------------------- */

static int32_t need_token(const struct en_engine *e, const char *text, int32_t *ret_id, struct err *err)
{
    *ret_id = tokenizer_find(e->tokenizer, text, strlen(text));
    return *ret_id >= 0 ? 0 : err_set(err, ERR_FORMAT, "%s: the vocabulary has no token %s", e->name, text);
}

/* The tokens that end a thought, where the vocabulary has them. */
static int find_thought_end(struct en_engine *e, struct err *err)
{
    static const char text[] = "\n</think>\n\n";
    struct tokenizer_ids list = {0};
    const int rc = tokenizer_encode(e->tokenizer, e->tokenizer_cache, text, sizeof text - 1, true, &list, err);
    e->id_think_end = tokenizer_find(e->tokenizer, "</think>", 8);
    if (rc != 0 || list.n > ENGINE_THOUGHT_END_MAX)
        e->id_think_end = -1;
    if (e->id_think_end >= 0) {
        memcpy(e->thought_end, list.ids, list.n * sizeof *list.ids);
        e->n_thought_end = (int32_t)list.n;
    }
    tokenizer_ids_release(&list);
    return rc;
}

/* What drawing tokens needs: masks over the vocabulary, the sampler, the walk of constrained decoding. */
static int open_drawing(struct en_engine *e, int32_t n_vocab, struct err *err)
{
    const size_t words = ((size_t)n_vocab + 31) / 32;
    e->free_mask = calloc(words, sizeof *e->free_mask);
    if (!e->free_mask)
        return err_set(err, ERR_NOMEM, "out of memory: masks over %d tokens", n_vocab);
    for (int32_t t = 0; t < n_vocab; t++) {
        const enum tokenizer_type type = tokenizer_token_type(e->tokenizer, t);
        size_t n;
        tokenizer_token_bytes(e->tokenizer, t, &n);
        if (n > e->token_bytes_max)
            e->token_bytes_max = n;
        if (type == TOKENIZER_NORMAL || type == TOKENIZER_USER_DEFINED || tokenizer_is_stop(e->tokenizer, t))
            e->free_mask[t / 32] |= 1u << t % 32;
    }
    int rc = sampler_create(n_vocab, &e->sampler, err);
    if (rc == 0)
        rc = constraint_vocab_create(tokenizer_get_trie(e->tokenizer), n_vocab, &e->constraint_vocab, err);
    if (rc == 0)
        rc = forced_create(e->tokenizer, e->tokenizer_cache, e->constraint_vocab, &e->forced, err);
    return rc != 0 ? rc : find_thought_end(e, err);
}

static int open_vocabulary(struct en_engine *e, const struct source *s, struct err *err)
{
    int rc;
    if (s->is_synthetic)
        rc = vocab_synthetic(s->shape.n_vocab, &e->tokenizer, err);
    else
        rc = vocab_read(s->text, &e->tokenizer, err);
    if (rc != 0 || (rc = tokenizer_cache_create(e->tokenizer, &e->tokenizer_cache, err)) != 0)
        return rc;
    if (tokenizer_n_tokens(e->tokenizer) != s->shape.n_vocab)
        return err_set(err, ERR_FORMAT, "%s: %d tokens in the vocabulary, %d rows in the embedding", e->name,
                       tokenizer_n_tokens(e->tokenizer), s->shape.n_vocab);
    if ((rc = need_token(e, "<|vision_start|>", &e->id_vision_start, err)) != 0 ||
        (rc = need_token(e, "<|vision_end|>", &e->id_vision_end, err)) != 0 ||
        (rc = need_token(e, "<|image_pad|>", &e->id_image_pad, err)) != 0)
        return rc;
    return open_drawing(e, s->shape.n_vocab, err);
}

/*
 * The vocabulary is opened by a thread of its own while the weights are loaded, which mostly waits for the disk. They share nothing but what neither writes to.
 */
struct opening {
    struct en_engine *engine;
    const struct source *source;
    pthread_t thread;
    bool has_thread;
    int rc; /* of the vocabulary; after the thread */
    struct err err;
    atomic_bool has_failed;
};

static void *open_beside(void *arg)
{
    struct opening *o = arg;
    o->rc = open_vocabulary(o->engine, o->source, &o->err);
    atomic_store(&o->has_failed, o->rc != 0);
    return NULL;
}

static void *vocabulary_main(void *arg)
{
    pthread_setname_np(pthread_self(), "heron-vocab");
    return open_beside(arg);
}

/* Loading goes on as long as the vocabulary is good and the caller says so. */
static bool goes_on(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
    const struct opening *o = ctx;
    const struct en_options *options = &o->engine->options;
    return !atomic_load(&o->has_failed) &&
           (!options->progress || options->progress(options->progress_ctx, done_bytes, total_bytes));
}

static int open_text(struct opening *o, struct weights_progress *progress, struct err *err)
{
    struct en_engine *e = o->engine;
    const struct source *s = o->source;
    int rc = 0;
    o->has_thread = pthread_create(&o->thread, NULL, vocabulary_main, o) == 0;
    if (!o->has_thread)
        open_beside(o);
    if (!atomic_load(&o->has_failed))
        rc = s->is_synthetic ? synthetic_open(e->device, &s->synthetic, progress, &e->model, err)
                             : model_open(e->device, s->text, progress, &e->model, err);
    if (o->has_thread)
        pthread_join(o->thread, NULL);
    if (o->rc == 0)
        return rc;
    if (err)
        *err = o->err;
    return o->rc;
}

static int open_vision(struct en_engine *e, const struct source *s, struct weights_progress *progress, struct err *err)
{
    const int rc = s->is_synthetic ? synthetic_vision_open(e->device, &s->synthetic, progress, &e->vision_model, err)
                                   : vision_model_open(e->device, s->vision, s->shape.n_embd, e->options.model_path, progress,
                                                       &e->vision_model, err);
    if (rc != 0)
        return rc;
    e->image_pixels_max = settled_pixels(&e->options, &s->vision_shape);
    e->image_tokens_max = pixels_to_tokens(&s->vision_shape, e->image_pixels_max);
    return 0;
}

/* vision: NULL where there is none. */
static struct kn_limits stream_limits(const struct en_options *o, const struct model_shape *shape,
                                      const struct vision_shape *vision, int64_t pixels)
{
    struct kn_limits limits = qwen35_limits(shape, o->step_rows, o->batch, o->context_tokens);
    if (vision)
        vision_raise_limits(vision, pixels, &limits);
    return limits;
}

/* Caches, scratch, streams: everything whose size follows from shape and options. */
static int open_state(struct en_engine *e, struct err *err)
{
    const struct en_options *o = &e->options;
    const struct model_shape *shape = &e->model->shape;
    const int32_t pages = pages_per_session(o);
    const struct kn_limits limits =
        stream_limits(o, shape, e->vision_model ? &e->vision_model->shape : NULL, e->image_pixels_max);
    int rc = kn_stream_open(e->device, &limits, &e->stream, err);
    if (rc == 0)
        rc = kv_cache_open(&e->kv, e->device, shape, kv_dtype(o->kv), pages * o->sessions, err);
    if (rc == 0)
        rc = state_cache_open(&e->state, e->device, shape, o->sessions, err);
    if (rc == 0)
        rc = step_open(&e->step, e->device, o->step_rows, o->batch, o->batch * pages, err);
    if (rc == 0)
        rc = qwen35_open(&e->pass, e->device, e->stream, e->model, o->step_rows, logits_rows(o), err);
    if (rc != 0)
        return rc;
    e->sessions = calloc((size_t)o->sessions, sizeof *e->sessions);
    e->session_pages = calloc((size_t)o->sessions * (size_t)pages, sizeof *e->session_pages);
    const size_t n_logits = (size_t)logits_rows(o);
    e->logits = malloc(n_logits * (size_t)shape->n_vocab * sizeof *e->logits);
    e->masks = malloc(n_logits * (((size_t)shape->n_vocab + 31) / 32) * sizeof *e->masks);
    e->tops = malloc(n_logits * KN_TOP_K_MAX * sizeof *e->tops);
    if (!e->sessions || !e->session_pages || !e->logits || !e->masks || !e->tops)
        return err_set(err, ERR_NOMEM, "out of memory: tables of %d sessions", o->sessions);
    for (int32_t i = 0; i < o->sessions; i++) {
        e->sessions[i].engine = e;
        e->sessions[i].pages = e->session_pages + (size_t)i * (size_t)pages;
    }
    if (!e->vision_model)
        return 0;
    e->n_images = o->pictures;
    e->images = calloc((size_t)e->n_images, sizeof *e->images);
    if (!e->images)
        return err_set(err, ERR_NOMEM, "out of memory: a pool of %d pictures", e->n_images);
    const size_t rows_floats = (size_t)e->image_tokens_max * (size_t)shape->n_embd;
    rc = kn_alloc(e->device, (size_t)e->n_images * rows_floats * sizeof(float), &e->image_rows, err);
    if (rc != 0)
        return rc;
    for (int32_t i = 0; i < e->n_images; i++)
        e->images[i] = (struct en_image){.engine = e, .rows = (float *)e->image_rows + (size_t)i * rows_floats};
    return vision_open(e->device, e->vision_model, e->image_pixels_max, &e->vision, err);
}

static void fill_info(struct en_engine *e, const struct source *s, int64_t load_ns, uint64_t load_bytes)
{
    const struct model_shape *shape = &s->shape; /* of the whole, where two devices share it */
    struct kn_device_info device;
    kn_device_get_info(e->device, &device);
    snprintf(e->device_line, sizeof e->device_line, "%s: %s", device.name, device.description);
    snprintf(e->tuned, sizeof e->tuned, "%s", device.tuned);
    const uint64_t print = s->is_synthetic ? 0 : gguf_fingerprint(s->text) ^ (s->vision ? gguf_fingerprint(s->vision) * 31 : 0);
    snprintf(e->fingerprint, sizeof e->fingerprint, "%016llx", (unsigned long long)print);
    e->info = (struct en_info){
        .name = e->name,
        .architecture = shape->architecture,
        .device = e->device_line,
        .tuned = e->tuned,
        .fingerprint = e->fingerprint,
        .n_layers = shape->n_layers,
        .n_full_layers = model_shape_full_layers(shape),
        .n_embd = shape->n_embd,
        .n_vocab = shape->n_vocab,
        .n_experts = shape->n_experts,
        .n_experts_used = shape->n_experts_used,
        .context_tokens = e->options.context_tokens,
        .trained_context = shape->trained_context,
        .n_params = s->text_plan.n_params + s->vision_plan.n_params,
        .weights_bytes = s->text_plan.weights_bytes + s->vision_plan.weights_bytes,
        .vision_bytes = s->vision_plan.weights_bytes,
        .bytes_per_token = s->text_plan.bytes_per_token,
        .state_bytes = state_cache_read_bytes(shape),
        .kv_bytes_per_token = kv_cache_page_bytes(shape, kv_dtype(e->options.kv)) / KN_PAGE_TOKENS,
        .load_ns = (uint64_t)load_ns,
        .load_bytes = load_bytes,
        .has_vision = e->vision_model != NULL,
        .is_untrained = shape->is_untrained || s->is_synthetic,
    };
}

/* The file's name without its folders, for models that do not name themselves. */
static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int en_open(const struct en_options *options, struct en_engine **ret_engine, struct err *err)
{
    struct source s;
    int rc = source_open(&s, options, err);
    if (rc != 0)
        return rc;
    struct en_engine *e = calloc(1, sizeof *e);
    if (!e) {
        rc = err_set(err, ERR_NOMEM, "out of memory: an engine");
        goto fail;
    }
    e->options = *options;
    const char *name = s.is_synthetic ? s.synthetic.name : s.shape.name[0] ? s.shape.name : base_name(options->model_path);
    (void)utf8_repair(name, strlen(name), e->name, sizeof e->name - 1); /* a file's name is bytes, this one goes into JSON */
    if ((rc = settle_options(&e->options, &s, err)) != 0)
        goto fail;
    const struct kn_device_options device_options = {
        .threads = options->threads, .isa = options->isa, .validate = options->validate};
    if ((rc = kn_device_open(options->device ? options->device : "auto", &device_options, &e->device, err)) != 0)
        goto fail;
    struct en_plan plan;
    struct kn_device_info device;
    kn_device_get_info(e->device, &device);
    if ((rc = source_share(&s, device.members, err)) != 0)
        goto fail;
    make_plan(&e->options, &s, &plan);
    const struct kn_limits limits = stream_limits(&e->options, &s.share, s.has_vision ? &s.vision_shape : NULL,
                                                  s.has_vision ? settled_pixels(&e->options, &s.vision_shape) : 0);
    plan.weights_bytes = source_device_bytes(&s, e->device);
    plan.scratch_bytes += kn_stream_bytes(e->device, &limits) + ROUNDING_BYTES;
    plan.total_bytes = plan.weights_bytes + plan.kv_bytes + plan.state_bytes + plan.scratch_bytes;
    plan.total_bytes = (plan.total_bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    if (device.memory_free_bytes && plan.total_bytes > device.memory_free_bytes) {
        rc = err_set(
            err, ERR_NOMEM,
            "%s does not fit: it needs %.2f GiB (weights %.2f, KV cache %.2f, recurrent state %.2f, scratch %.2f), and %s has "
            "%.2f GiB free",
            e->name, (double)plan.total_bytes / 0x1p30, (double)plan.weights_bytes / 0x1p30, (double)plan.kv_bytes / 0x1p30,
            (double)plan.state_bytes / 0x1p30, (double)plan.scratch_bytes / 0x1p30, device.name,
            (double)device.memory_free_bytes / 0x1p30);
        goto fail;
    }
    if ((rc = kn_reserve(e->device, plan.total_bytes, err)) != 0)
        goto fail;
    struct opening opening = {.engine = e, .source = &s};
    struct weights_progress progress = {
        .fn = goes_on, .ctx = &opening, .total_bytes = s.text_plan.weights_bytes + s.vision_plan.weights_bytes};
    const int64_t start = clock_now_ns();
    if ((rc = open_text(&opening, &progress, err)) != 0)
        goto fail;
    if (s.has_vision && (rc = open_vision(e, &s, &progress, err)) != 0)
        goto fail;
    const int64_t loaded = clock_now_ns();
    const uint64_t peak_bytes = process_peak_bytes();
    if ((rc = open_state(e, err)) != 0 || (rc = blocks_open(&e->blocks, err)) != 0 ||
        (rc = image_resizer_create(&e->resizer, err)) != 0 || (rc = jobs_open(e, &e->jobs, err)) != 0)
        goto fail;
    fill_info(e, &s, loaded - start, progress.done_bytes);
    e->info.load_peak_bytes = peak_bytes;
    /* strings are the caller's: none is kept */
    e->options.model_path = e->options.vision_path = e->options.synthetic = e->options.device = e->options.isa = NULL;
    source_close(&s);
    *ret_engine = e;
    return 0;
fail:
    source_close(&s);
    en_close(e);
    return rc;
}

int en_read_files(const struct en_options *options, uint64_t most_bytes, uint64_t *ret_bytes, int64_t *ret_ns, struct err *err)
{
    struct source s;
    uint64_t text = 0, vision = 0;
    int rc = source_open(&s, options, err);
    if (rc != 0)
        return rc;
    const int64_t start = clock_now_ns();
    if (s.text)
        rc = intake_drain(s.text, most_bytes, &text, err);
    if (rc == 0 && s.vision)
        rc = intake_drain(s.vision, most_bytes, &vision, err);
    const int64_t took = clock_now_ns() - start;
    source_close(&s);
    if (rc != 0)
        return rc;
    *ret_bytes = text + vision;
    *ret_ns = text + vision > 0 ? took : 0;
    return 0;
}

void en_close(struct en_engine *e)
{
    if (!e)
        return;
    jobs_close(e->jobs);
    image_resizer_free(e->resizer);
    prompt_room_release(&e->prompt_room);
    blocks_close(e->blocks);
    vision_close(e->vision);
    qwen35_close(&e->pass);
    step_close(&e->step);
    state_cache_close(&e->state);
    kv_cache_close(&e->kv);
    if (e->image_rows)
        kn_free(e->device, e->image_rows);
    if (e->vision_model)
        vision_model_close(e->device, e->vision_model);
    if (e->model)
        model_close(e->device, e->model);
    kn_stream_close(e->stream);
    kn_device_close(e->device);
    forced_free(e->forced);
    constraint_vocab_free(e->constraint_vocab);
    sampler_free(e->sampler);
    free(e->free_mask);
    tokenizer_cache_free(e->tokenizer_cache);
    tokenizer_free(e->tokenizer);
    free(e->sessions);
    free(e->session_pages);
    free(e->images);
    free(e->logits);
    free(e->masks);
    free(e->tops);
    free(e);
}

void en_get_info(const struct en_engine *e, struct en_info *ret_info)
{
    *ret_info = e->info;
}

int engine_fail(struct en_engine *e, int rc)
{
    e->is_dead = true;
    return rc;
}

int engine_check(const struct en_engine *e, struct err *err)
{
    return e->is_dead ? err_set(err, ERR_STATE, "the device failed: close the engine and open it again") : 0;
}

double en_read_bandwidth(struct en_engine *e, size_t bytes)
{
    return kn_read_bandwidth(e->device, bytes, 0.5);
}

uint64_t en_launches(const struct en_engine *e)
{
    return kn_launches(e->stream);
}

int en_lend(const struct en_options *options, const char *listen_on, void (*said)(void *ctx, const char *line), void *ctx,
            struct err *err)
{
    const struct kn_device_options device_options = {
        .threads = options->threads, .isa = options->isa, .validate = options->validate};
    return kn_lend(listen_on, options->device ? options->device : "auto", &device_options, said, ctx, err);
}

const char *en_device_name(const char *device)
{
    return kn_device_name(device);
}
