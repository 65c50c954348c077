/*
 * estimate - how long a job will take, before the model is loaded: work counted from the headers, divided by what a short
 * measurement says of the device.
 *
 * The model of costs. A pass over r rows reads every weight that it needs once and multiplies each row by it. On a processor
 * the two add up: a core that waits for memory does not multiply, and what it fetches ahead is little (traced: decode steps of 1
 * and of 8 rows take about the sum). A GPU has other work to run meanwhile: the longer of the two counts. Multiplying is measured
 * with one row, with a few and with many, and taken to lie on the lines between. Experts: a pass of r rows touches those that at
 * least one row chose, if choices are even; each multiplies its share of the rows.
 *
 * Left out: norms, convolutions, activations, rotations (traced: about a tenth of a prompt's time and a twentieth of a picture's).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/image.h"
#include "engine/kv_cache.h"
#include "engine/prompt.h"
#include "engine/share.h"
#include "engine/source.h"
#include "engine/speed.h"
#include "engine/vocab.h"

#define STEP_ROWS  256 /* of a prompt in one pass, as the engine takes where options say nothing */
#define GROUPS_MAX 32

/* ---- what there is to do --------------------------------------------------------------------------------------------------- */

enum part { PART_BODY, PART_EXPERTS, PART_HEAD, PART_TOWER, PART_MERGER, PART_COUNT };

/* Weights of one type in one part of the model. */
struct group {
    enum part part;
    enum kn_dtype dtype;
    double values, bytes; /* of one slice (expert) of each weight, added up */
    int64_t largest;      /* values of the largest weight; its shape is measured */
    int32_t cols, rows;
};

struct cost {
    const struct source *source;
    const struct en_options *options;
    struct group groups[GROUPS_MAX];
    int n_groups;
    bool is_vision; /* which model is being walked */
    bool overlaps;  /* reading hides behind computing, or the other way round */
    struct speed speed;
    double text_ops, tower_ops; /* of one pass */
};

static enum part part_of(const struct cost *c, const struct tensor_spec *spec)
{
    if (c->is_vision)
        return strncmp(spec->name, "mm.", 3) == 0 ? PART_MERGER : PART_TOWER;
    if (spec->flags & TENSOR_EXPERTS)
        return PART_EXPERTS;
    return spec->layer < 0 ? PART_HEAD : PART_BODY;
}

static int count_tensor(void *ctx, const struct tensor_spec *spec)
{
    struct cost *c = ctx;
    enum kn_dtype dtype;
    const bool is_lookup = (spec->flags & TENSOR_EMBEDDING) && !(spec->flags & TENSOR_TIED_HEAD);
    if (tensor_is_vector(spec) || is_lookup || (spec->flags & TENSOR_NEXTN) ||
        !source_tensor_type(c->source, spec, c->is_vision, &dtype))
        return 0;
    const enum part part = part_of(c, spec);
    int i = 0;
    while (i < c->n_groups && (c->groups[i].part != part || c->groups[i].dtype != dtype))
        i++;
    if (i == GROUPS_MAX)
        return 0; /* more kinds of weights than any file has: these cost nothing */
    if (i == c->n_groups)
        c->groups[c->n_groups++] = (struct group){.part = part, .dtype = dtype};
    struct group *g = &c->groups[i];
    struct kn_cut cut = {0};
    if (!c->is_vision)
        cut = share_cut(&c->source->shape, c->source->members, spec);
    int32_t rows, cols; /* of a member's share */
    share_size(&cut, spec, &rows, &cols);
    const int64_t values = (int64_t)rows * cols;
    g->values += (double)values;
    g->bytes += (double)rows * (double)kn_row_bytes(dtype, cols);
    if (values > g->largest) {
        g->largest = values;
        g->cols = cols;
        g->rows = rows;
    }
    return 0;
}

/* Ops that a layer puts on the stream, by kind: what model_qwen35.c and vision.c call. */
static void count_ops(struct cost *c)
{
    const struct model_shape *s = &c->source->shape;
    const int full = model_shape_full_layers(s);
    c->text_ops = full * 6.0 + (s->n_layers - full) * 7.0 + s->n_layers * (s->is_moe ? 6.0 : 2.0) + 4;
    c->tower_ops = c->source->has_vision ? c->source->vision_shape.n_layers * 8.0 + 7 : 0;
}

static void count_all(struct cost *c)
{
    tensor_list_text(&c->source->shape, NULL, count_tensor, c);
    c->is_vision = true;
    if (c->source->has_vision)
        tensor_list_vision(&c->source->vision_shape, NULL, count_tensor, c);
    count_ops(c);
}

/* Multiply-adds of a group for one row. */
static double row_values(const struct cost *c, const struct group *g)
{
    return g->part == PART_EXPERTS ? g->values * c->source->shape.n_experts_used : g->values;
}

/* Ask for the types that matter, the one with most work first; the rest is taken to cost what the first does. */
static void choose_types(struct cost *c)
{
    double work[KN_DTYPE_COUNT] = {0};
    const struct group *typical[KN_DTYPE_COUNT] = {NULL};
    for (int i = 0; i < c->n_groups; i++) {
        const struct group *g = &c->groups[i];
        work[g->dtype] += row_values(c, g);
        if (!typical[g->dtype] || g->values > typical[g->dtype]->values)
            typical[g->dtype] = g;
    }
    struct speed *s = &c->speed;
    while (s->n_types < SPEED_TYPES_MAX) {
        int most = 0;
        for (int t = 1; t < KN_DTYPE_COUNT; t++)
            most = work[t] > work[most] ? t : most;
        if (!(work[most] > 0))
            return;
        const struct group *g = typical[most];
        s->types[s->n_types++] = (struct speed_type){.dtype = g->dtype, .cols = g->cols, .rows = g->rows};
        work[most] = 0;
    }
}

/* ---- what it costs --------------------------------------------------------------------------------------------------------- */

static const struct speed_type *speed_of(const struct speed *s, enum kn_dtype dtype)
{
    for (int i = 0; i < s->n_types; i++)
        if (s->types[i].dtype == dtype)
            return &s->types[i];
    return &s->types[0];
}

/* Each member reads at its part of what all of them read. */
static double read_s(const struct cost *c, double bytes)
{
    return c->speed.read_bytes_per_s > 0 ? bytes * c->source->members / c->speed.read_bytes_per_s : 0;
}

/* Seconds of multiplying `rows` rows by weights of so many values: on the lines through what was measured. */
static double multiply_s(const struct speed_type *t, double values, double rows)
{
    const int last = SPEED_POINTS - 1;
    if (rows >= speed_rows[last])
        return values * t->pass_s[last] * rows / speed_rows[last];
    for (int i = 1; i <= last; i++)
        if (rows <= speed_rows[i]) {
            const double at = (rows - speed_rows[i - 1]) / (speed_rows[i] - speed_rows[i - 1]);
            return values * (t->pass_s[i - 1] + at * (t->pass_s[i] - t->pass_s[i - 1]));
        }
    return values * t->pass_s[0];
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static double both_s(const struct cost *c, double reading_s, double computing_s)
{
    return c->overlaps ? larger(reading_s, computing_s) : reading_s + computing_s;
}

/* One part of the model for `rows` rows. */
static double part_s(const struct cost *c, enum part part, double rows)
{
    double sum = 0;
    for (int i = 0; i < c->n_groups; i++) {
        const struct group *g = &c->groups[i];
        if (g->part != part)
            continue;
        double slices = 1, each = rows;
        if (part == PART_EXPERTS) {
            const struct model_shape *s = &c->source->shape;
            const double share = (double)s->n_experts_used / s->n_experts;
            slices = s->n_experts * (1 - pow(1 - share, rows));
            each = larger(1, rows * s->n_experts_used / slices);
        }
        sum += both_s(c, read_s(c, g->bytes * slices), multiply_s(speed_of(&c->speed, g->dtype), g->values * slices, each));
    }
    return sum;
}

/*
 * The mixers of `rows` rows of one sequence that follow `past` others: keys and values of all rows before are read and attended
 * to; the recurrent state is read, and per head each row takes three products of the state's size (decay and write, read for the
 * key, read for the query), which in a prompt are shared among the rows of a chunk as products of rows by rows.
 */
static double mixers_s(const struct cost *c, double rows, double past)
{
    const struct model_shape *s = &c->source->share;
    const int full = model_shape_full_layers(s), linear = s->n_layers - full;
    const double context = past + (rows + 1) / 2;
    const double attend = full * 2.0 * s->n_head * s->head_dim * rows * context;
    const enum kn_dtype kv = c->options->kv == EN_KV_F32 ? KN_F32 : c->options->kv == EN_KV_Q8_0 ? KN_Q8_0 : KN_F16;
    const double kv_bytes = (double)kv_cache_page_bytes(s, kv) / KN_PAGE_TOKENS * (past + rows);
    const double state = (double)s->n_v * s->d_k * s->d_v;
    const double scan = linear * rows * (3 * state + (double)s->n_v * KN_GDN_CHUNK * (s->d_k + s->d_v));
    return both_s(c, read_s(c, kv_bytes), attend * c->speed.attend_s) +
           both_s(c, read_s(c, linear * state * sizeof(float)), scan * c->speed.attend_s);
}

static double ops_s(const struct cost *c, double n_ops)
{
    return n_ops * c->speed.op_s;
}

/* A step that writes one token of each of n answers whose contexts hold `past` tokens. */
static double decode_s(const struct cost *c, double n, double past)
{
    return part_s(c, PART_BODY, n) + part_s(c, PART_EXPERTS, n) + part_s(c, PART_HEAD, n) + n * mixers_s(c, 1, past) +
           ops_s(c, c->text_ops);
}

/* A prompt, step by step; the head for its last row only. */
static double prefill_s(const struct cost *c, int32_t n_tokens)
{
    const int32_t step = c->options->step_rows > 0 ? c->options->step_rows : STEP_ROWS;
    double sum = part_s(c, PART_HEAD, 1);
    for (int32_t past = 0; past < n_tokens; past += step) {
        const double rows = n_tokens - past < step ? n_tokens - past : step;
        sum += part_s(c, PART_BODY, rows) + part_s(c, PART_EXPERTS, rows) + mixers_s(c, rows, past) + ops_s(c, c->text_ops);
    }
    return sum;
}

/* One picture of so many tokens. */
static double vision_s(const struct cost *c, int32_t n_tokens)
{
    const struct vision_shape *v = &c->source->vision_shape;
    const double patches = (double)n_tokens * v->merge * v->merge;
    return part_s(c, PART_TOWER, patches) + part_s(c, PART_MERGER, n_tokens) +
           v->n_layers * 2.0 * patches * patches * v->n_embd * c->speed.attend_s + ops_s(c, c->tower_ops);
}

/* ---- jobs ------------------------------------------------------------------------------------------------------------------ */

/* The tokens of a job's text; each picture counts as one. */
static int prompt_tokens(const struct tokenizer *tokenizer, const struct en_job *job, int32_t *ret_n, struct err *err)
{
    static const enum prompt_role roles[] = {
        [EN_SYSTEM] = PROMPT_SYSTEM, [EN_USER] = PROMPT_USER, [EN_ASSISTANT] = PROMPT_ASSISTANT};
    int32_t n_parts = 0;
    for (int32_t m = 0; m < job->n_messages; m++)
        n_parts += job->messages[m].n_parts;
    struct prompt_message *messages = calloc((size_t)job->n_messages + 1, sizeof *messages);
    struct prompt_part *parts = calloc((size_t)n_parts + 1, sizeof *parts), *at = parts;
    struct prompt_text text = {0};
    struct prompt prompt = {0};
    int rc = messages && parts ? 0 : err_set(err, ERR_NOMEM, "out of memory: a conversation");
    for (int32_t m = 0; rc == 0 && m < job->n_messages; m++) {
        const struct en_message *in = &job->messages[m];
        messages[m] = (struct prompt_message){.role = roles[in->role], .parts = at, .n_parts = in->n_parts};
        for (int32_t p = 0; p < in->n_parts; p++)
            *at++ = (struct prompt_part){in->parts[p].text, in->parts[p].text ? strlen(in->parts[p].text) : 0};
    }
    const struct prompt_options options = {.generate = true, .thinking = job->thinking};
    if (rc == 0)
        rc = prompt_render(messages, job->n_messages, &options, &text, err);
    if (rc == 0)
        rc = prompt_tokenize(tokenizer, NULL, &text, &prompt, err);
    if (rc == 0)
        *ret_n = (int32_t)prompt.n_ids;
    prompt_release(&prompt);
    prompt_text_release(&text);
    free(messages);
    free(parts);
    return rc;
}

/* The tokens of a picture of this size under the job's and the engine's caps. */
static int picture_tokens(const struct cost *c, const struct image_view *view, int64_t cap, int32_t *ret_n, struct err *err)
{
    if (!c->source->has_vision)
        return err_set(err, ERR_UNSUPPORTED, "no vision file: pictures cannot be looked at");
    const struct vision_shape *v = &c->source->vision_shape;
    int64_t most = v->max_pixels;
    if (c->options->max_pixels > 0 && c->options->max_pixels < most)
        most = c->options->max_pixels;
    if (cap > 0 && cap < most)
        most = cap;
    const int tile = v->patch_px * v->merge;
    int w, h;
    const int rc = image_target_size(view->width_px, view->height_px, tile, v->min_pixels < most ? v->min_pixels : most, most,
                                     &w, &h, err);
    if (rc == 0)
        *ret_n = (w / tile) * (h / tile);
    return rc;
}

static int64_t to_ns(double seconds)
{
    return (int64_t)(seconds * 1e9 + 0.5);
}

static int estimate_job(const struct cost *c, const struct tokenizer *tokenizer, const struct en_job *job,
                        struct en_estimate *e, struct err *err)
{
    int32_t n_pictures = 0;
    double vision = 0;
    int rc = prompt_tokens(tokenizer, job, &e->prompt_tokens, err);
    for (int32_t m = 0; m < job->n_messages; m++)
        for (int32_t p = 0; p < job->messages[m].n_parts; p++)
            n_pictures += !job->messages[m].parts[p].text;
    for (int32_t m = 0; m < job->n_messages; m++)
        for (int32_t p = 0; rc == 0 && p < job->messages[m].n_parts; p++) {
            int32_t n = 0;
            if (job->messages[m].parts[p].text)
                continue;
            rc = picture_tokens(c, job->messages[m].parts[p].view, job->max_pixels / n_pictures, &n, err);
            if (rc == 0)
                vision += vision_s(c, n);
            e->image_tokens += n;
            e->prompt_tokens += n - 1;
        }
    if (rc != 0)
        return rc;
    const double batch = c->options->batch > 1 ? c->options->batch : 1;
    e->vision_ns = to_ns(vision);
    e->prefill_ns = to_ns(prefill_s(c, e->prompt_tokens));
    e->token_ns = to_ns(decode_s(c, 1, e->prompt_tokens));
    e->shared_token_ns = to_ns(decode_s(c, batch, e->prompt_tokens) / batch);
    return 0;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------------- */

static void fill_forecast(const struct cost *c, struct kn_device *device, struct en_forecast *f)
{
    const struct source *s = c->source;
    const struct model_shape *shape = &s->shape;
    struct kn_device_info info;
    kn_device_get_info(device, &info);
    const char *slash = c->options->model_path ? strrchr(c->options->model_path, '/') : NULL;
    *f = (struct en_forecast){
        .n_layers = shape->n_layers,
        .n_full_layers = model_shape_full_layers(shape),
        .n_embd = shape->n_embd,
        .n_vocab = shape->n_vocab,
        .n_experts = shape->n_experts,
        .n_experts_used = shape->n_experts_used,
        .trained_context = shape->trained_context,
        .n_params = s->text_plan.n_params + s->vision_plan.n_params,
        .weights_bytes = s->text_plan.weights_bytes + s->vision_plan.weights_bytes,
        .bytes_per_token = s->text_plan.bytes_per_token,
        .device_free_bytes = info.memory_free_bytes,
        .has_vision = s->has_vision,
        .is_untrained = shape->is_untrained || s->is_synthetic,
        .read_bytes_per_s = c->speed.read_bytes_per_s,
        .multiply_adds_per_s = SPEED_ROWS_MAX / c->speed.types[0].pass_s[SPEED_POINTS - 1],
    };
    snprintf(f->name, sizeof f->name, "%s",
             s->is_synthetic  ? s->synthetic.name
             : shape->name[0] ? shape->name
             : slash          ? slash + 1
                              : c->options->model_path);
    snprintf(f->architecture, sizeof f->architecture, "%s", shape->architecture);
    snprintf(f->device, sizeof f->device, "%s: %s", info.name, info.description);
    snprintf(f->weight_type, sizeof f->weight_type, "%s", kn_dtype_name(c->speed.types[0].dtype));
}

int en_estimate(const struct en_options *options, const struct en_job *jobs, int32_t n_jobs, struct en_estimate *ret_estimates,
                struct en_forecast *ret_forecast, struct err *err)
{
    struct source source;
    struct cost cost = {.source = &source, .options = options};
    struct tokenizer *tokenizer = NULL;
    struct kn_device *device = NULL;
    struct en_estimate *estimates = NULL;
    int rc = source_open(&source, options, err);
    if (rc != 0)
        return rc;
    const struct kn_device_options device_options = {
        .threads = options->threads, .isa = options->isa, .validate = options->validate};
    estimates = calloc((size_t)n_jobs + 1, sizeof *estimates);
    if (!estimates) {
        rc = err_set(err, ERR_NOMEM, "out of memory: estimates of %d jobs", n_jobs);
        goto fail;
    }
    rc =
        source.is_synthetic ? vocab_synthetic(source.shape.n_vocab, &tokenizer, err) : vocab_read(source.text, &tokenizer, err);
    if (rc != 0)
        goto fail;
    if ((rc = kn_device_open(options->device ? options->device : "auto", &device_options, &device, err)) != 0)
        goto fail;
    struct kn_device_info info;
    kn_device_get_info(device, &info);
    cost.overlaps = strncmp(info.name, "cuda", 4) == 0;
    if ((rc = source_share(&source, info.members, err)) != 0)
        goto fail;
    count_all(&cost);
    choose_types(&cost);
    cost.speed.read_bytes = source.text_plan.bytes_per_token;
    const int64_t start = clock_now_ns();
    if ((rc = speed_measure(device, source.shape.head_dim, &cost.speed, err)) != 0)
        goto fail;
    const int64_t measure_ns = clock_now_ns() - start;
    for (int32_t i = 0; rc == 0 && i < n_jobs; i++)
        rc = estimate_job(&cost, tokenizer, &jobs[i], &estimates[i], err);
    if (rc != 0)
        goto fail;
    if (n_jobs > 0) /* without jobs the caller may give no room */
        memcpy(ret_estimates, estimates, (size_t)n_jobs * sizeof *estimates);
    fill_forecast(&cost, device, ret_forecast);
    ret_forecast->measure_ns = measure_ns;
fail:
    kn_device_close(device);
    tokenizer_free(tokenizer);
    free(estimates);
    source_close(&source);
    return rc;
}
