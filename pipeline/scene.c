/*
 * scene - the table of scenes, and what all of them share: background, light, noise, counting what can be seen, truth as text.
 */
#include "pipeline/scene.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "pipeline/url.h"

static const struct scene_kind *const scene_kinds[] = {&scene_yard};

#define N_SCENES ((int)(sizeof scene_kinds / sizeof scene_kinds[0]))

struct scene {
    const struct scene_kind *kind;
    uint64_t seed;
    void *state;
    uint8_t *background; /* [H, W, 3] in full daylight, no noise */
    uint8_t *glow;       /* [H, W] light of lamps, 0 to 255 */
    struct canvas canvas;
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
    size_t n_px = (size_t)width_px * (size_t)height_px;
    struct scene *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "no memory for a scene");
    s->kind = scene_kind_get(name);
    s->seed = seed;
    s->state = calloc(1, s->kind->state_bytes);
    s->background = malloc(n_px * 3);
    s->glow = calloc(n_px, 1);
    rc = canvas_init(&s->canvas, width_px, height_px, true, err);
    if (!rc && (!s->state || !s->background || !s->glow))
        rc = err_set(err, ERR_NOMEM, "no memory for a scene of %dx%d", width_px, height_px);
    if (rc)
        goto fail;
    memset(s->background, 0, n_px * 3);
    s->canvas.rgb = s->background;
    s->canvas.stride_bytes = (size_t)width_px * 3;
    s->kind->init(s->state, seed, &s->canvas, s->glow);
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
    canvas_release(&s->canvas);
    free(s->glow);
    free(s->background);
    free(s->state);
    free(s);
}

static void scene_count(const struct canvas *c, struct scene_shot *shot)
{
    for (int i = 0; i < shot->n_objects; i++) {
        struct scene_object *o = &shot->object[i];
        o->seen_px = 0;
        o->x0_px = c->width_px;
        o->y0_px = c->height_px;
        o->x1_px = o->y1_px = 0;
    }
    for (int y = 0; y < c->height_px; y++) {
        const uint8_t *map = c->map + (size_t)y * (size_t)c->width_px;
        for (int x = 0; x < c->width_px; x++) {
            if (!map[x])
                continue;
            struct scene_object *o = &shot->object[map[x] - 1];
            o->seen_px++;
            o->x0_px = x < o->x0_px ? x : o->x0_px;
            o->x1_px = x + 1 > o->x1_px ? x + 1 : o->x1_px;
            o->y0_px = y < o->y0_px ? y : o->y0_px;
            o->y1_px = y + 1 > o->y1_px ? y + 1 : o->y1_px;
        }
    }
}

/* Daylight, lamps, and the camera's noise, in one pass over the picture. */
static void scene_light(const struct scene *s, const struct scene_shot *shot, uint64_t i_frame, uint8_t *rgb,
                        size_t stride_bytes)
{
    static const double night[3] = {0.26, 0.30, 0.42}, lamp[3] = {1.0, 0.88, 0.66};
    int w = s->canvas.width_px, h = s->canvas.height_px;
    double day = fmin(fmax(shot->light, 0), 1);
    int32_t base[3], gain[3]; /* 1/65536 */
    for (int k = 0; k < 3; k++) {
        double ambient = night[k] + (1 - night[k]) * day;
        base[k] = (int32_t)(ambient * 65536);
        gain[k] = (int32_t)((1 - day) * fmax(lamp[k] - ambient, 0) * 65536 / 255);
    }
    /* The sum of two bytes less 255 has a standard deviation of 104. */
    int32_t noise = (int32_t)(shot->noise * 65536 / 104);
    uint64_t frame_seed = rng_at(s->seed, i_frame);
    for (int y = 0; y < h; y++) {
        uint8_t *px = rgb + (size_t)y * stride_bytes;
        const uint8_t *glow = s->glow + (size_t)y * (size_t)w;
        uint64_t r = rng_at(frame_seed, (uint64_t)y) | 1, word = 0;
        for (int x = 0; x < w; x++, px += 3) {
            if ((x & 3) == 0) {
                r ^= r << 13;
                r ^= r >> 7;
                r ^= r << 17;
                word = r * UINT64_C(0x2545F4914F6CDD1D);
            }
            int32_t n = ((int32_t)(word & 255) + (int32_t)(word >> 8 & 255) - 255) * noise;
            word >>= 16;
            for (int k = 0; k < 3; k++) {
                int32_t v = (px[k] * (base[k] + gain[k] * glow[x]) + n + 32768) >> 16;
                px[k] = v < 0 ? 0 : v > 255 ? 255 : (uint8_t)v;
            }
        }
    }
}

struct text {
    char *out;
    size_t cap, used;
};

/* Append if the whole piece fits and `keep` bytes stay free after it. */
static bool text_add(struct text *t, size_t keep, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static bool text_add(struct text *t, size_t keep, const char *fmt, ...)
{
    char piece[256];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(piece, sizeof piece, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof piece || t->used + (size_t)n + 1 + keep > t->cap)
        return false;
    memcpy(t->out + t->used, piece, (size_t)n + 1);
    t->used += (size_t)n;
    return true;
}

static void scene_truth(const struct scene *s, const struct scene_shot *shot, uint64_t i_frame, char *truth, size_t truth_bytes)
{
    static const char *const names[] = {"", "person", "vehicle", "animal"};
    int count[4] = {0};
    bool is_seen[SCENE_MAX_OBJECTS] = {false};
    for (int i = 0; i < shot->n_objects; i++) {
        const struct scene_object *o = &shot->object[i];
        is_seen[i] = o->seen_px >= SCENE_VISIBLE_PX && o->seen_px * 100.0 >= o->full_px * SCENE_VISIBLE_PCT;
        if (is_seen[i])
            count[o->kind]++;
    }
    struct text t = {truth, truth_bytes, 0};
    const char *light = shot->light > 0.66 ? "day" : shot->light > 0.33 ? "dusk" : "night";
    text_add(&t, 0,
             "{\"scene\":\"%s\",\"frame\":%llu,\"t_s\":%.3f,\"people\":%d,\"vehicles\":%d,\"animals\":%d,\"hazard\":\"%s\","
             "\"light\":\"%s\",\"objects\":[",
             s->kind->name, (unsigned long long)i_frame, shot->t_s, count[SCENE_PERSON], count[SCENE_VEHICLE],
             count[SCENE_ANIMAL], shot->hazard, light);
    double w = s->canvas.width_px, h = s->canvas.height_px;
    bool is_first = true;
    for (int i = 0; i < shot->n_objects; i++) {
        const struct scene_object *o = &shot->object[i];
        if (!is_seen[i])
            continue;
        if (!text_add(&t, 2, "%s{\"kind\":\"%s\",\"box\":[%.4f,%.4f,%.4f,%.4f],\"visible\":%.2f}", is_first ? "" : ",",
                      names[o->kind], o->x0_px / w, o->y0_px / h, o->x1_px / w, o->y1_px / h, fmin(o->seen_px / o->full_px, 1)))
            break;
        is_first = false;
    }
    text_add(&t, 0, "]}");
}

void scene_draw(struct scene *s, uint64_t i_frame, double t_s, uint8_t *rgb, size_t stride_bytes, char *truth,
                size_t truth_bytes)
{
    int w = s->canvas.width_px, h = s->canvas.height_px;
    for (int y = 0; y < h; y++)
        memcpy(rgb + (size_t)y * stride_bytes, s->background + (size_t)y * (size_t)w * 3, (size_t)w * 3);
    memset(s->canvas.map, 0, (size_t)w * (size_t)h);
    s->canvas.rgb = rgb;
    s->canvas.stride_bytes = stride_bytes;
    s->canvas.id = 0;
    struct scene_shot shot = {.t_s = t_s, .canvas = &s->canvas, .light = 1, .noise = 1.5, .hazard = "none"};
    s->kind->draw(s->state, &shot);
    scene_count(&s->canvas, &shot);
    scene_light(s, &shot, i_frame, rgb, stride_bytes);
    scene_truth(s, &shot, i_frame, truth, truth_bytes);
}
