#include "engine/weights.h"

#include "engine/intake.h"
#include "engine/share.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- finding and checking tensors ------------------------------------------------------------------------------------------- */

/* The file's tensor of a spec, by either name; NULL: not there. */
static const struct gguf_tensor *find(const struct gguf *g, const struct tensor_spec *spec)
{
    const struct gguf_tensor *t = gguf_find_tensor(g, spec->name);
    return t || !spec->alias[0] ? t : gguf_find_tensor(g, spec->alias);
}

/*
 * The side tensor "NAME.scale" (or "NAME without .weight" + ".scale", as the peers write it) of a matrix: NVFP4 files.
 */
static const struct gguf_tensor *find_side(const struct gguf *g, const struct tensor_spec *spec, const char *suffix)
{
    char name[TENSOR_NAME_BYTES + 16];
    size_t n = strlen(spec->name);
    snprintf(name, sizeof name, "%s%s", spec->name, suffix);
    const struct gguf_tensor *t = gguf_find_tensor(g, name);
    if (t || n < strlen(".weight") || strcmp(spec->name + n - strlen(".weight"), ".weight") != 0)
        return t;
    snprintf(name, sizeof name, "%.*s%s", (int)(n - strlen(".weight")), spec->name, suffix);
    return gguf_find_tensor(g, name);
}

/* Whether the block keeps gate and up experts in one tensor. */
static bool has_merged(const struct gguf *g, int layer)
{
    char name[TENSOR_NAME_BYTES];
    snprintf(name, sizeof name, "blk.%d.ffn_gate_up_exps.weight", layer);
    return gguf_find_tensor(g, name) != NULL;
}

/* A spec that this file is to have. The two forms of the experts exclude each other. */
static bool is_wanted(const struct gguf *g, const struct tensor_spec *spec)
{
    if (spec->flags & (TENSOR_MERGED | TENSOR_SPLIT))
        return has_merged(g, spec->layer) == ((spec->flags & TENSOR_MERGED) != 0);
    return true;
}

static int check_type(const struct gguf *g, const struct gguf_tensor *t, const struct tensor_spec *spec, struct err *err)
{
    const struct kn_dtype_info *info = kn_dtype_info(t->type);
    if (!info || t->type == KN_I32) {
        const char *name = info ? info->name : kn_dtype_name(t->type);
        return err_set(err, ERR_UNSUPPORTED, "%s: tensor %s is of type %s (code %d), which is not supported", gguf_path(g),
                       t->name, name ? name : "unknown", t->type);
    }
    if ((tensor_is_vector(spec) || (spec->flags & TENSOR_PATCH)) && info->block_elems != 1)
        return err_set(err, ERR_UNSUPPORTED, "%s: tensor %s is of type %s, expected F32, F16 or BF16", gguf_path(g), t->name,
                       info->name);
    return 0;
}

static int check_tensor(const struct gguf *g, const struct gguf_tensor *t, const struct tensor_spec *spec, struct err *err)
{
    if (memcmp(t->ne, spec->ne, sizeof t->ne) == 0)
        return check_type(g, t, spec, err);
    char expected[96], found[96];
    return err_set(err, ERR_FORMAT, "%s: tensor %s: expected %s, found %s", gguf_path(g), t->name,
                   gguf_shape_text(spec->n_dims, spec->ne, expected, sizeof expected),
                   gguf_shape_text(t->n_dims, t->ne, found, sizeof found));
}

/* The tensor that a wanted spec must have, checked. */
static int get_tensor(const struct gguf *g, const struct tensor_spec *spec, const struct gguf_tensor **ret_tensor,
                      struct err *err)
{
    char expected[96];
    const struct gguf_tensor *t = find(g, spec);
    if (!t)
        return err_set(err, ERR_FORMAT, "%s: tensor %s is missing (expected %s)", gguf_path(g), spec->name,
                       gguf_shape_text(spec->n_dims, spec->ne, expected, sizeof expected));
    *ret_tensor = t;
    return check_tensor(g, t, spec, err);
}

/* One factor for all slices, or one for each. */
static int check_scale(const struct gguf *g, const struct gguf_tensor *t, const struct tensor_spec *spec, struct err *err)
{
    const struct kn_dtype_info *info = kn_dtype_info(t->type);
    if (!info || info->block_elems != 1 || t->type == KN_I32)
        return err_set(err, ERR_UNSUPPORTED, "%s: tensor %s: expected F32, F16 or BF16", gguf_path(g), t->name);
    if (t->n_elems != 1 && t->n_elems != spec->slices)
        return err_set(err, ERR_FORMAT, "%s: tensor %s has %" PRId64 " values, expected 1 or %" PRId64, gguf_path(g), t->name,
                       t->n_elems, spec->slices);
    if (spec->flags & TENSOR_EMBEDDING)
        return err_set(err, ERR_UNSUPPORTED, "%s: tensor %s: a scale on the embedding is not supported", gguf_path(g), t->name);
    return 0;
}

/* ---- plans ------------------------------------------------------------------------------------------------------------------ */

struct plan_walk {
    const struct gguf *g;
    const struct model_shape *shape; /* NULL: vision */
    struct weights_plan plan;
    struct err *err;
};

/* Bytes of a weight that one token reads. */
static uint64_t bytes_read(const struct plan_walk *w, const struct tensor_spec *spec, uint64_t bytes)
{
    if (!w->shape)
        return 0;
    if ((spec->flags & TENSOR_EMBEDDING) && !(spec->flags & TENSOR_TIED_HEAD))
        return bytes / (uint64_t)spec->rows;
    if (spec->flags & TENSOR_EXPERTS)
        return bytes / (uint64_t)spec->slices * (uint64_t)w->shape->n_experts_used;
    return bytes;
}

static int plan_visit(void *ctx, const struct tensor_spec *spec)
{
    struct plan_walk *w = ctx;
    const struct gguf_tensor *t;
    if ((spec->flags & TENSOR_NEXTN) || !is_wanted(w->g, spec))
        return 0;
    int rc = get_tensor(w->g, spec, &t, w->err);
    if (rc < 0)
        return rc;
    w->plan.weights_bytes += t->bytes;
    w->plan.bytes_per_token += bytes_read(w, spec, t->bytes);
    w->plan.n_params += (uint64_t)t->n_elems;
    const struct gguf_tensor *scale = tensor_is_vector(spec) ? NULL : find_side(w->g, spec, ".scale");
    return scale ? check_scale(w->g, scale, spec, w->err) : 0;
}

struct mark_walk {
    const struct gguf *g;
    uint8_t *marks;
};

static void mark(struct mark_walk *w, const struct gguf_tensor *t, enum weights_mark as)
{
    if (t)
        w->marks[t - gguf_tensor_at(w->g, 0)] = (uint8_t)as;
}

static int mark_visit(void *ctx, const struct tensor_spec *spec)
{
    struct mark_walk *w = ctx;
    bool nextn = spec->flags & TENSOR_NEXTN;
    mark(w, find(w->g, spec), nextn ? WEIGHTS_NEXTN : WEIGHTS_LOADED);
    if (!tensor_is_vector(spec)) {
        mark(w, find_side(w->g, spec, ".scale"), nextn ? WEIGHTS_NEXTN : WEIGHTS_SIDE);
        mark(w, find_side(w->g, spec, ".input_scale"), nextn ? WEIGHTS_NEXTN : WEIGHTS_SIDE);
    }
    return 0;
}

void weights_mark_tensors(const struct gguf *g, const struct model_shape *shape, const struct vision_shape *vision,
                          uint8_t *marks)
{
    struct mark_walk w = {.g = g, .marks = marks};
    memset(marks, WEIGHTS_UNKNOWN, gguf_n_tensors(g));
    if (shape)
        tensor_list_text(shape, NULL, mark_visit, &w);
    if (vision)
        tensor_list_vision(vision, NULL, mark_visit, &w);
}

/*
 * A tensor of a block that the model has no place for: more blocks than the metadata tell, or a part (a bias) that would change what the block computes. To run
 * without it would be to run another model. MTP blocks are not run, names outside blocks are other programs' affair.
 */
static int check_unknown(const struct plan_walk *w, const struct vision_shape *vision, const struct gguf_tensor *t)
{
    const char *const prefix = vision ? "v.blk." : "blk.";
    const int32_t n_layers = vision ? vision->n_layers : w->shape->n_layers, n_nextn = vision ? 0 : w->shape->n_nextn;
    char found[96];
    if (strncmp(t->name, prefix, strlen(prefix)) != 0)
        return 0;
    const long block = strtol(t->name + strlen(prefix), NULL, 10);
    if (block >= n_layers && block < n_layers + n_nextn)
        return 0;
    return err_set(w->err, ERR_FORMAT,
                   "%s: tensor %s (%s) has no place: expected %d blocks of known parts, found it beside them", gguf_path(w->g),
                   t->name, gguf_shape_text(t->n_dims, t->ne, found, sizeof found), n_layers);
}

static int make_plan(struct plan_walk *w, const struct vision_shape *vision, struct weights_plan *ret_plan)
{
    size_t n = gguf_n_tensors(w->g);
    int rc = w->shape ? tensor_list_text(w->shape, NULL, plan_visit, w) : tensor_list_vision(vision, NULL, plan_visit, w);
    if (rc < 0)
        return rc;
    uint8_t *marks = malloc(n ? n : 1);
    if (!marks)
        return err_set(w->err, ERR_NOMEM, "no memory for a list of %zu tensors", n);
    weights_mark_tensors(w->g, w->shape, vision, marks);
    for (size_t i = 0; i < n; i++) {
        w->plan.n_loaded += marks[i] == WEIGHTS_LOADED || marks[i] == WEIGHTS_SIDE;
        w->plan.n_nextn_tensors += marks[i] == WEIGHTS_NEXTN;
        w->plan.n_unknown += marks[i] == WEIGHTS_UNKNOWN;
        if (marks[i] == WEIGHTS_NEXTN || marks[i] == WEIGHTS_UNKNOWN)
            w->plan.other_bytes += gguf_tensor_at(w->g, i)->bytes;
        if (rc == 0 && marks[i] == WEIGHTS_UNKNOWN)
            rc = check_unknown(w, vision, gguf_tensor_at(w->g, i));
    }
    free(marks);
    if (rc < 0)
        return rc;
    *ret_plan = w->plan;
    return 0;
}

int model_plan(const struct gguf *g, const struct model_shape *shape, struct weights_plan *ret_plan, struct err *err)
{
    return make_plan(&(struct plan_walk){.g = g, .shape = shape, .err = err}, NULL, ret_plan);
}

int vision_plan(const struct gguf *g, const struct vision_shape *shape, struct weights_plan *ret_plan, struct err *err)
{
    return make_plan(&(struct plan_walk){.g = g, .err = err}, shape, ret_plan);
}

/* ---- loading ---------------------------------------------------------------------------------------------------------------- */

/* A tensor of the file and where it goes. */
struct load_item {
    struct tensor_spec spec;
    const struct gguf_tensor *tensor;
};

struct loader {
    struct kn_device *device;
    int members;                    /* of the device */
    const struct model_shape *text; /* the whole shape; NULL: a vision tower, which nobody shares */
    struct kn_stream *stream;       /* for vectors */
    const struct gguf *g;
    struct weights_progress *progress;
    struct load_item *items;
    size_t n_items, cap;
    struct intake *intake;
    float *values; /* [WEIGHTS_STAGING_BYTES / 4] converted */
    struct err *err;
};

#define VALUES_MAX ((int64_t)(WEIGHTS_STAGING_BYTES / sizeof(float)))

/* Devices may interleave the rows of a weight, up to so many: a group that comes in two pieces is written twice. */
#define ROWS_TOGETHER 16

int weights_report(struct weights_progress *p, uint64_t bytes, struct err *err)
{
    if (!p)
        return 0;
    p->done_bytes += bytes;
    if (!p->fn || p->fn(p->ctx, p->done_bytes, p->total_bytes))
        return 0;
    return err_set(err, ERR_CANCELLED, "loading was given up at %" PRIu64 " of %" PRIu64 " bytes", p->done_bytes,
                   p->total_bytes);
}

/* Values first .. first + n - 1 of a tensor of a plain float type, as they stand in the file, to l->values, all finite. n <= VALUES_MAX. */
static int convert_values(struct loader *l, const struct gguf_tensor *t, int64_t first, int64_t n, const void *bytes)
{
    kn_dequantize((enum kn_dtype)t->type, bytes, n, l->values);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(l->values[i]))
            return err_set(l->err, ERR_FORMAT, "%s: tensor %s: value %" PRId64 " is not a finite number", gguf_path(l->g),
                           t->name, first + i);
    return 0;
}

static int load_scales(struct loader *l, const struct tensor_spec *spec, struct kn_weight *w)
{
    const struct gguf_tensor *t = find_side(l->g, spec, ".scale");
    if (!t)
        return 0;
    int rc = check_scale(l->g, t, spec, l->err);
    if (rc < 0)
        return rc;
    void *bytes = malloc((size_t)t->bytes);
    float *scales = malloc((size_t)spec->slices * sizeof *scales);
    if (!bytes || !scales || spec->slices > VALUES_MAX)
        rc = err_set(l->err, ERR_NOMEM, "no memory for %" PRId64 " scales", spec->slices);
    if (rc == 0)
        rc = gguf_tensor_read(l->g, t, 0, (size_t)t->bytes, bytes, l->err);
    if (rc == 0)
        rc = convert_values(l, t, 0, t->n_elems, bytes);
    free(bytes);
    if (rc < 0) {
        free(scales);
        return rc;
    }
    for (int64_t i = 0; i < spec->slices; i++)
        scales[i] = l->values[t->n_elems == 1 ? 0 : i];
    w->scales = scales;
    return 0;
}

/* Rows of `cols` values of a tensor to the device, as they are or as F32. */
static int hand_over(struct loader *l, struct kn_weight *w, const struct gguf_tensor *t, int64_t first, int64_t n,
                     const unsigned char *bytes, int64_t cols)
{
    const size_t row = kn_row_bytes((enum kn_dtype)t->type, (int32_t)cols);
    if (w->dtype == (enum kn_dtype)t->type)
        return kn_weight_rows(l->device, w, first, n, bytes, l->err);
    const int64_t most = VALUES_MAX / cols;
    unsigned char *rows = NULL;
    int rc = 0;
    /* a file may align its tensors by less than its blocks' members need */
    if ((uintptr_t)bytes % _Alignof(max_align_t) != 0) {
        rows = malloc((size_t)n * row);
        if (!rows)
            return err_set(l->err, ERR_NOMEM, "no memory for %" PRId64 " rows of %s", n, t->name);
        bytes = memcpy(rows, bytes, (size_t)n * row);
    }
    for (int64_t at = 0, m; at < n && rc == 0; at += m) {
        m = n - at < most ? n - at : most;
        kn_dequantize((enum kn_dtype)t->type, bytes + (size_t)at * row, m * cols, l->values);
        rc = kn_weight_rows(l->device, w, first + at, m, l->values, l->err);
    }
    free(rows);
    return rc;
}

static struct kn_cut cut_of(const struct loader *l, const struct tensor_spec *spec)
{
    return l->text ? share_cut(l->text, l->members, spec) : (struct kn_cut){0};
}

/* Whole rows at a time, as many as have been read; a router becomes F32 on the way. */
static int load_matrix(struct loader *l, const struct tensor_spec *spec, const struct gguf_tensor *t)
{
    struct kn_weight *w = spec->slot;
    const enum kn_dtype type = (enum kn_dtype)t->type;
    const bool convert = spec->role == TENSOR_ROUTER && type != KN_F32;
    const size_t row = kn_row_bytes(type, spec->cols);
    const int64_t n_rows = spec->rows * spec->slices;
    if (row == 0 || row > INTAKE_UNIT_BYTES || (convert && spec->cols > VALUES_MAX))
        return err_set(l->err, ERR_UNSUPPORTED, "%s: tensor %s: rows of %" PRId64 " values", gguf_path(l->g), t->name,
                       spec->cols);
    *w = (struct kn_weight){.dtype = convert ? KN_F32 : type, .slices = (int32_t)spec->slices, .cut = cut_of(l, spec)};
    share_size(&w->cut, spec, &w->rows, &w->cols);
    int rc = load_scales(l, spec, w);
    if (rc == 0 && (rc = kn_weight_begin(l->device, w, l->err)) != 0 && w->cut.way != KN_CUT_NONE)
        err_prefix(l->err, "%s: tensor %s", gguf_path(l->g), t->name);
    const size_t unit = ROWS_TOGETHER * row <= INTAKE_UNIT_BYTES ? ROWS_TOGETHER * row : row;
    for (int64_t at = 0; at < n_rows && rc == 0;) {
        const void *bytes;
        size_t n = 0;
        rc = intake_take(l->intake, unit, &bytes, &n, l->err);
        if (rc == 0)
            rc = hand_over(l, w, t, at, (int64_t)(n / row), bytes, spec->cols);
        if (rc == 0)
            rc = weights_report(l->progress, n, l->err);
        at += (int64_t)(n / row);
    }
    if (rc == 0)
        rc = kn_weight_end(l->device, w, l->err);
    return rc;
}

/* Of the plain types that vectors come in, the narrowest has two bytes. */
_Static_assert(INTAKE_UNIT_BYTES / 2 <= WEIGHTS_STAGING_BYTES / sizeof(float),
               "what one intake_take gives fits into the converted values");

static int load_vector(struct loader *l, const struct tensor_spec *spec, const struct gguf_tensor *t)
{
    const size_t each = kn_dtype_info(t->type)->block_bytes;
    const struct kn_cut cut = cut_of(l, spec);
    const int64_t row = spec->role == TENSOR_CONV ? spec->ne[0] : 1,
                  n_here = cut.way == KN_CUT_NONE ? t->n_elems : t->n_elems / 2;
    void *memory = NULL;
    int rc = kn_alloc(l->device, (size_t)n_here * sizeof(float), &memory, l->err);
    if (rc < 0)
        return rc;
    *(kn_vec *)spec->slot = memory;
    for (int64_t at = 0, n; at < t->n_elems && rc == 0; at += n) {
        const void *bytes;
        size_t n_bytes = 0;
        rc = intake_take(l->intake, each * (size_t)row, &bytes, &n_bytes, l->err);
        n = (int64_t)(n_bytes / each);
        if (rc == 0)
            rc = convert_values(l, t, at, n, bytes);
        for (int64_t i = 0; rc == 0 && spec->role == TENSOR_SSM_A && i < n; i++)
            if (l->values[i] >= 0)
                rc = err_set(l->err, ERR_FORMAT,
                             "%s: tensor %s: value %" PRId64 " is %g, expected below 0 (-exp(A_log), as the converter writes"
                             " it)",
                             gguf_path(l->g), t->name, at + i, (double)l->values[i]);
        if (rc == 0) {
            kn_upload_cut(l->stream, memory, &cut, row, at / row, n / row, l->values);
            rc = kn_stream_sync(l->stream, l->err);
        }
    }
    return rc == 0 ? weights_report(l->progress, t->bytes, l->err) : rc;
}

static int list_visit(void *ctx, const struct tensor_spec *spec)
{
    struct loader *l = ctx;
    const struct gguf_tensor *t;
    if (!spec->slot || !is_wanted(l->g, spec))
        return 0;
    const int rc = get_tensor(l->g, spec, &t, l->err);
    if (rc < 0)
        return rc;
    if (l->n_items == l->cap) {
        const size_t cap = l->cap ? 2 * l->cap : 64;
        struct load_item *more = realloc(l->items, cap * sizeof *more);
        if (!more)
            return err_set(l->err, ERR_NOMEM, "no memory for a list of %zu tensors", cap);
        l->items = more;
        l->cap = cap;
    }
    l->items[l->n_items++] = (struct load_item){.spec = *spec, .tensor = t};
    return 0;
}

static int compare_items(const void *a, const void *b)
{
    return gguf_compare_places(((const struct load_item *)a)->tensor, ((const struct load_item *)b)->tensor);
}

/* In the order of the files, which is nobody's but the disk's. */
static int open_intake(struct loader *l)
{
    const struct gguf_tensor **tensors = malloc((l->n_items ? l->n_items : 1) * sizeof(*tensors));
    if (!tensors)
        return err_set(l->err, ERR_NOMEM, "no memory for a list of %zu tensors", l->n_items);
    qsort(l->items, l->n_items, sizeof *l->items, compare_items);
    for (size_t i = 0; i < l->n_items; i++)
        tensors[i] = l->items[i].tensor;
    const int rc = intake_open(l->g, tensors, l->n_items, &l->intake, l->err);
    free(tensors);
    return rc;
}

static void loader_close(struct loader *l)
{
    intake_close(l->intake);
    kn_stream_close(l->stream);
    free(l->items);
    free(l->values);
}

/* The specs of a walk that have a slot are listed; then loader_run. */
static int loader_open(struct loader *l, struct kn_device *device, const struct gguf *g, struct weights_progress *progress,
                       struct err *err)
{
    static const struct kn_limits tiny = {
        .rows = 1, .cols = 32, .outputs = 32, .seqs = 1, .kv_len = 1, .heads = 1, .head_dim = 32};
    struct kn_device_info info;
    kn_device_get_info(device, &info);
    *l = (struct loader){.device = device, .members = info.members, .g = g, .progress = progress, .err = err};
    l->values = malloc(WEIGHTS_STAGING_BYTES);
    if (!l->values)
        return err_set(err, ERR_NOMEM, "no memory for a staging buffer of %u bytes", WEIGHTS_STAGING_BYTES);
    return kn_stream_open(device, &tiny, &l->stream, err);
}

static int loader_run(struct loader *l)
{
    int rc = open_intake(l);
    for (size_t i = 0; i < l->n_items && rc == 0; i++) {
        const struct load_item *item = &l->items[i];
        rc = tensor_is_vector(&item->spec) ? load_vector(l, &item->spec, item->tensor)
                                           : load_matrix(l, &item->spec, item->tensor);
    }
    return rc == 0 ? intake_finish(l->intake, l->err) : rc;
}

int model_create(const struct model_shape *shape, struct model **ret_model, struct err *err)
{
    struct model *m = calloc(1, sizeof *m);
    if (m) {
        m->shape = *shape;
        m->layers = calloc((size_t)shape->n_layers, sizeof *m->layers);
        m->shape.is_linear = malloc((size_t)shape->n_layers * sizeof *shape->is_linear);
        if (m->layers && m->shape.is_linear) {
            memcpy(m->shape.is_linear, shape->is_linear, (size_t)shape->n_layers * sizeof *shape->is_linear);
            *ret_model = m;
            return 0;
        }
        model_shape_release(&m->shape);
        free(m->layers);
        free(m);
    }
    return err_set(err, ERR_NOMEM, "no memory for a model of %d layers", shape->n_layers);
}

void model_finish(struct model *m, const struct weights_plan *plan)
{
    if (m->shape.is_tied)
        m->output = m->token_embd;
    m->weights_bytes = plan->weights_bytes;
    m->bytes_per_token = plan->bytes_per_token;
    m->n_params = plan->n_params;
}

int model_open(struct kn_device *device, const struct gguf *g, struct weights_progress *progress, struct model **ret_model,
               struct err *err)
{
    struct model_shape shape = {0}, share;
    struct weights_plan plan;
    struct loader l = {0};
    struct model *m = NULL;
    int rc = model_shape_read(g, &shape, err);
    if (rc == 0)
        rc = model_plan(g, &shape, &plan, err);
    if (rc == 0)
        rc = loader_open(&l, device, g, progress, err);
    l.text = &shape;
    if (rc == 0)
        rc = share_shape(&shape, l.members, &share, err);
    if (rc == 0)
        rc = model_create(&share, &m, err);
    if (rc == 0)
        rc = tensor_list_text(&shape, m, list_visit, &l);
    if (rc == 0)
        rc = loader_run(&l);
    loader_close(&l);
    model_shape_release(&shape);
    if (rc < 0) {
        model_close(device, m);
        return rc;
    }
    model_finish(m, &plan);
    *ret_model = m;
    return 0;
}

static int free_visit(void *ctx, const struct tensor_spec *spec)
{
    struct kn_device *device = ctx;
    if (!spec->slot)
        return 0;
    if (tensor_is_vector(spec)) {
        kn_vec *v = spec->slot;
        kn_free(device, (void *)*v);
        *v = NULL;
    } else {
        struct kn_weight *w = spec->slot;
        kn_weight_free(device, w);
        free((void *)w->scales);
        w->scales = NULL;
    }
    return 0;
}

void model_close(struct kn_device *device, struct model *m)
{
    if (!m)
        return;
    tensor_list_text(&m->shape, m, free_visit, device);
    model_shape_release(&m->shape);
    free(m->layers);
    free(m);
}

int vision_model_create(const struct vision_shape *shape, struct vision_model **ret_model, struct err *err)
{
    struct vision_model *m = calloc(1, sizeof *m);
    struct vision_layer *layers = calloc((size_t)shape->n_layers, sizeof *layers);
    if (!m || !layers) {
        free(m);
        free(layers);
        return err_set(err, ERR_NOMEM, "no memory for a vision tower of %d layers", shape->n_layers);
    }
    m->shape = *shape;
    m->layers = layers;
    *ret_model = m;
    return 0;
}

int vision_model_open(struct kn_device *device, const struct gguf *g, int32_t text_n_embd, const char *text_path,
                      struct weights_progress *progress, struct vision_model **ret_model, struct err *err)
{
    struct vision_shape shape;
    struct weights_plan plan;
    struct loader l = {0};
    struct vision_model *m = NULL;
    int rc = vision_shape_read(g, &shape, err);
    if (rc == 0 && shape.n_out != text_n_embd)
        rc = err_set(err, ERR_FORMAT,
                     "%s: clip.vision.projection_dim is %d, but the text model %s has an embedding length of %d: these two"
                     " files do not belong together",
                     gguf_path(g), shape.n_out, text_path ? text_path : "", text_n_embd);
    if (rc == 0)
        rc = vision_plan(g, &shape, &plan, err);
    if (rc == 0)
        rc = vision_model_create(&shape, &m, err);
    if (rc == 0)
        rc = loader_open(&l, device, g, progress, err);
    if (rc == 0)
        rc = tensor_list_vision(&shape, m, list_visit, &l);
    if (rc == 0)
        rc = loader_run(&l);
    loader_close(&l);
    if (rc < 0) {
        vision_model_close(device, m);
        return rc;
    }
    m->weights_bytes = plan.weights_bytes;
    m->n_params = plan.n_params;
    *ret_model = m;
    return 0;
}

void vision_model_close(struct kn_device *device, struct vision_model *m)
{
    if (!m)
        return;
    tensor_list_vision(&m->shape, m, free_visit, device);
    free(m->layers);
    free(m);
}
