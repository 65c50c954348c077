#include "engine/encode.h"

#include "engine/blocks.h"
#include "engine/image.h"

int en_picture_target(const struct en_engine *e, int width_px, int height_px, int64_t max_pixels, int *ret_width_px,
                      int *ret_height_px, int *ret_tokens, struct err *err)
{
    if (!e->vision_model)
        return err_set(err, ERR_UNSUPPORTED, "%s has no vision file: it cannot look at pictures", e->name);
    const struct vision_shape *v = &e->vision_model->shape;
    int64_t most = e->options.max_pixels < v->max_pixels ? e->options.max_pixels : v->max_pixels;
    if (max_pixels > 0 && max_pixels < most)
        most = max_pixels;
    /* the caller's cap stands over the model's smallest area */
    const int64_t least = v->min_pixels < most ? v->min_pixels : most;
    int w, h;
    const int rc = image_target_size(width_px, height_px, v->patch_px * v->merge, least, most, &w, &h, err);
    if (rc != 0)
        return rc;
    if ((int64_t)w * h > e->image_pixels_max)
        return err_set(err, ERR_FULL, "a picture of %d x %d becomes %d x %d, the engine was opened for %lld pixels", width_px,
                       height_px, w, h, (long long)e->image_pixels_max);
    *ret_width_px = w;
    *ret_height_px = h;
    *ret_tokens = vision_tokens(v, w, h);
    return 0;
}

int encode_prepare(struct en_engine *e, const struct image_view *view, int64_t max_pixels, struct encode_picture *ret_picture,
                   struct err *err)
{
    struct encode_picture p = {0};
    int rc = en_picture_target(e, view->width_px, view->height_px, max_pixels, &p.width_px, &p.height_px, &p.tokens, err);
    if (rc != 0)
        return rc;
    p.rgb = blocks_take(e->blocks, (size_t)p.width_px * (size_t)p.height_px * 3);
    if (!p.rgb)
        rc = err_set(err, ERR_NOMEM, "out of memory: a picture of %d x %d", p.width_px, p.height_px);
    else
        rc = image_resizer_run(e->resizer, view, p.width_px, p.height_px, p.rgb, err);
    if (rc != 0) {
        encode_picture_release(&p);
        return rc;
    }
    *ret_picture = p;
    return 0;
}

void encode_picture_release(struct encode_picture *picture)
{
    blocks_put(picture->rgb);
    *picture = (struct encode_picture){0};
}

int encode_run(struct en_engine *e, const struct encode_picture *p, struct en_image **ret_image, struct err *err)
{
    struct en_image *image = NULL;
    for (int32_t i = 0; i < e->n_images && !image; i++)
        if (e->images[i].refs == 0)
            image = &e->images[i];
    if (!image)
        return err_set(err, ERR_FULL, "all %d places for encoded pictures are in use", e->n_images);
    const int32_t tile = e->vision_model->shape.patch_px * e->vision_model->shape.merge, E = e->model->shape.n_embd;
    image->nx = p->width_px / tile;
    image->ny = p->height_px / tile;
    const struct kn_mat out = {.data = image->rows, .rows = p->tokens, .cols = E, .stride = E};
    const int rc = vision_forward(e->vision, e->stream, p->rgb, p->width_px, p->height_px, out, err);
    if (rc != 0 && rc != ERR_CANCELLED)
        return rc;
    const int synced = kn_stream_sync(e->stream, err);
    if (synced != 0)
        return engine_fail(e, synced);
    if (rc != 0)
        return rc;
    image->refs = 1;
    *ret_image = image;
    return 0;
}

int en_image_encode(struct en_engine *e, const struct image_view *view, int64_t max_pixels, struct en_image **ret_image,
                    struct err *err)
{
    int rc = engine_check(e, err);
    if (rc != 0)
        return rc;
    struct encode_picture picture;
    if ((rc = encode_prepare(e, view, max_pixels, &picture, err)) != 0)
        return rc;
    rc = encode_run(e, &picture, ret_image, err);
    encode_picture_release(&picture);
    return rc;
}

struct en_image *en_image_ref(struct en_image *image)
{
    image->refs++;
    return image;
}

void en_image_unref(struct en_image *image)
{
    if (image)
        image->refs--;
}

int32_t en_image_tokens(const struct en_image *image)
{
    return image->nx * image->ny;
}
