/* scene - the table of scenes. */
#include "pipeline/scene.h"

#include <stdlib.h>
#include <string.h>

#include "pipeline/url.h"

static const struct scene_kind *const scene_kinds[] = {&scene_yard};

#define N_SCENES ((int)(sizeof scene_kinds / sizeof scene_kinds[0]))

struct scene {
    const struct scene_kind *kind;
    void *state;
};

static const struct scene_kind *scene_kind_get(const char *name)
{
    for (int i = 0; i < N_SCENES; i++)
        if (strcmp(scene_kinds[i]->name, name) == 0)
            return scene_kinds[i];
    return NULL;
}

int scene_check(const char *name, struct err *err)
{
    if (scene_kind_get(name))
        return 0;
    const char *names[N_SCENES];
    for (int i = 0; i < N_SCENES; i++)
        names[i] = scene_kinds[i]->name;
    const char *near = url_nearest(name, names, N_SCENES);
    if (near)
        return err_set(err, ERR_INVAL, "synth: unknown scene `%s`, did you mean `%s`?", name, near);
    return err_set(err, ERR_INVAL, "synth: unknown scene `%s`, expected %s", name, names[0]);
}

int scene_open(const char *name, uint64_t seed, int width_px, int height_px, struct scene **ret_scene, struct err *err)
{
    int rc = scene_check(name, err);
    if (rc)
        return rc;
    struct scene *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "no memory for a scene");
    s->kind = scene_kind_get(name);
    rc = s->kind->open(seed, width_px, height_px, &s->state, err);
    if (rc)
        goto fail;
    *ret_scene = s;
    return 0;
fail:
    scene_close(s);
    return rc;
}

void scene_close(struct scene *s)
{
    if (!s)
        return;
    s->kind->close(s->state);
    free(s);
}

void scene_draw(struct scene *s, uint64_t i_frame, double t_s, uint8_t *rgb, size_t stride_bytes, struct scene_truth *ret_truth)
{
    s->kind->draw(s->state, i_frame, t_s, rgb, stride_bytes, ret_truth);
}
