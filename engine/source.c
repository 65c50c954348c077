#include "engine/source.h"

#include "engine/share.h"

void source_close(struct source *s)
{
    if (s->is_synthetic)
        synthetic_release(&s->synthetic); /* owns the shape */
    else
        model_shape_release(&s->shape);
    gguf_close(s->text);
    gguf_close(s->vision);
    *s = (struct source){0};
}

int source_open(struct source *s, const struct en_options *o, struct err *err)
{
    *s = (struct source){0};
    int rc;
    if (o->synthetic) {
        if ((rc = synthetic_parse(o->synthetic, &s->synthetic, err)) != 0)
            return rc;
        s->is_synthetic = true;
        s->shape = s->synthetic.shape;
        s->vision_shape = s->synthetic.vision;
        s->has_vision = s->vision_shape.n_layers > 0;
        rc = synthetic_plan(&s->synthetic, &s->text_plan, s->has_vision ? &s->vision_plan : NULL, err);
        goto out;
    }
    if (!o->model_path)
        return err_set(err, ERR_INVAL, "no model is named");
    if ((rc = gguf_open(o->model_path, &s->text, err)) != 0 || (rc = model_shape_read(s->text, &s->shape, err)) != 0 ||
        (rc = model_plan(s->text, &s->shape, &s->text_plan, err)) != 0)
        goto out;
    if (o->vision_path) {
        s->has_vision = true;
        if ((rc = gguf_open(o->vision_path, &s->vision, err)) != 0 ||
            (rc = vision_shape_read(s->vision, &s->vision_shape, err)) != 0 ||
            (rc = vision_plan(s->vision, &s->vision_shape, &s->vision_plan, err)) != 0)
            goto out;
        if (s->vision_shape.n_out != s->shape.n_embd)
            rc = err_set(err, ERR_INVAL, "%s makes rows of %d values, but %s wants %d: they do not belong together",
                         o->vision_path, s->vision_shape.n_out, o->model_path, s->shape.n_embd);
    }
out:
    s->share = s->shape;
    s->members = 1;
    if (rc != 0)
        source_close(s);
    return rc;
}

int source_share(struct source *s, int members, struct err *err)
{
    s->members = members;
    return share_shape(&s->shape, members, &s->share, err);
}

bool source_tensor_type(const struct source *s, const struct tensor_spec *spec, bool is_vision, enum kn_dtype *ret_type)
{
    if (s->is_synthetic) {
        *ret_type = synthetic_type(&s->synthetic, spec);
        return !(spec->flags & TENSOR_MERGED);
    }
    const struct gguf *g = is_vision ? s->vision : s->text;
    const struct gguf_tensor *t = gguf_find_tensor(g, spec->name);
    if (!t && spec->alias[0])
        t = gguf_find_tensor(g, spec->alias);
    if (t)
        *ret_type = spec->role == TENSOR_ROUTER ? KN_F32 : (enum kn_dtype)t->type;
    return t != NULL;
}

struct device_walk {
    const struct source *source;
    const struct kn_device *device;
    bool is_vision, is_known;
    uint64_t bytes, plain_bytes;
};

static int device_visit(void *ctx, const struct tensor_spec *spec)
{
    struct device_walk *w = ctx;
    enum kn_dtype type;
    if ((spec->flags & TENSOR_NEXTN) || !source_tensor_type(w->source, spec, w->is_vision, &type))
        return 0;
    struct kn_weight weight = {.dtype = type, .slices = (int32_t)spec->slices};
    if (!w->is_vision)
        weight.cut = share_cut(&w->source->shape, w->source->members, spec);
    share_size(&weight.cut, spec, &weight.rows, &weight.cols);
    const uint64_t bytes = tensor_is_vector(spec) || !w->device ? 0 : kn_weight_bytes(w->device, &weight);
    const uint64_t vector = tensor_is_vector(spec) ? (uint64_t)spec->cols * sizeof(float) : 0;
    w->is_known = w->is_known || bytes > 0;
    w->bytes += bytes + vector;
    w->plain_bytes +=
        vector + (vector ? 0 : (uint64_t)kn_row_bytes(type, weight.cols) * (uint64_t)weight.rows * (uint64_t)weight.slices);
    return 0;
}

uint64_t source_device_bytes(const struct source *s, const struct kn_device *device)
{
    struct device_walk w = {.source = s, .device = device};
    (void)tensor_list_text(&s->shape, NULL, device_visit, &w);
    w.is_vision = true;
    if (s->has_vision)
        (void)tensor_list_vision(&s->vision_shape, NULL, device_visit, &w);
    if (!w.is_known && s->members == 1)
        return s->text_plan.weights_bytes + s->vision_plan.weights_bytes;
    return w.is_known ? w.bytes : w.plain_bytes;
}
