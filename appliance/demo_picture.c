#include "appliance/demo_picture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/pipeline.h"

#define DETAIL       3   /* rendered pixels for each that is shown, each way: thin things are averaged, not missed */
#define WIDTH_MIN_PX 192 /* below this the scene has no room for its people */
#define SHARPEN      8   /* the smaller, the sharper: this part of the difference to four neighbours is added */
#define CALM         6   /* of 255: changes up to this are noise */

struct demo_picture {
    struct pl_synth_info camera;
    char scene[64];
    bool is_paced;
    struct pl_synth *synth;  /* NULL before the first picture */
    int width_px, height_px; /* of synth */
    uint8_t *rgb;
    int *small; /* [height, width, 3] of the picture that is shown, before it is sharpened */
    size_t n_small;
};

int demo_picture_open(const char *source, struct demo_picture **ret_picture, struct err *err)
{
    struct demo_picture *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, ERR_NOMEM, "out of memory");
    struct pl_synth *synth = NULL;
    const int rc = pl_synth_open(source, &synth, err);
    if (rc != 0) {
        free(p);
        return rc;
    }
    pl_synth_get_info(synth, &p->camera);
    snprintf(p->scene, sizeof p->scene, "%s", p->camera.scene);
    p->is_paced = strstr(source, "pace=fast") == NULL;
    pl_synth_close(synth);
    *ret_picture = p;
    return 0;
}

void demo_picture_close(struct demo_picture *p)
{
    if (!p)
        return;
    pl_synth_close(p->synth);
    free(p->rgb);
    free(p->small);
    free(p);
}

void demo_picture_name(const struct demo_picture *p, char *out, size_t cap)
{
    snprintf(out, cap, "%s, seed %llu", p->scene, (unsigned long long)p->camera.seed);
}

double demo_picture_aspect(const struct demo_picture *p)
{
    return (double)p->camera.width_px / p->camera.height_px;
}

double demo_picture_fps(const struct demo_picture *p)
{
    return p->is_paced ? p->camera.fps : 0;
}

/* A renderer that is large enough for a picture of this width, never larger than the camera's own, and room for n_small values. */
static int prepare(struct demo_picture *p, int width_px, size_t n_small, struct err *err)
{
    if (n_small > p->n_small) {
        int *small = realloc(p->small, n_small * sizeof *small);
        if (!small)
            return err_set(err, ERR_NOMEM, "out of memory");
        p->small = small;
        p->n_small = n_small;
    }
    int width = DETAIL * width_px > WIDTH_MIN_PX ? DETAIL * width_px : WIDTH_MIN_PX;
    int height = (int)lround(width / demo_picture_aspect(p));
    if (width >= p->camera.width_px || height < 48) {
        width = p->camera.width_px;
        height = p->camera.height_px;
    }
    if (p->synth && width == p->width_px && height == p->height_px)
        return 0;
    char source[256];
    snprintf(source, sizeof source, "synth:%s?seed=%llu&size=%dx%d&fps=%.10g", p->scene, (unsigned long long)p->camera.seed,
             width, height, p->camera.fps);
    struct pl_synth *synth = NULL;
    uint8_t *rgb = malloc((size_t)width * (size_t)height * 3);
    const int rc = rgb ? pl_synth_open(source, &synth, err) : err_set(err, ERR_NOMEM, "out of memory");
    if (rc != 0) {
        free(rgb);
        return rc;
    }
    pl_synth_close(p->synth);
    free(p->rgb);
    p->synth = synth;
    p->rgb = rgb;
    p->width_px = width;
    p->height_px = height;
    return 0;
}

/* Mean of the rendered pixels under the shown pixel (x, y). */
static void average(const struct demo_picture *p, int x, int y, int width_px, int height_px, int ret_rgb[3])
{
    const int x0 = x * p->width_px / width_px, y0 = y * p->height_px / height_px;
    const int x1 = (x + 1) * p->width_px / width_px, y1 = (y + 1) * p->height_px / height_px;
    int sum[3] = {0}, n = 0;
    for (int j = y0; j < y1 || j == y0; j++)
        for (int i = x0; i < x1 || i == x0; i++, n++)
            for (int c = 0; c < 3; c++)
                sum[c] += p->rgb[((size_t)j * (size_t)p->width_px + (size_t)i) * 3 + (size_t)c];
    for (int c = 0; c < 3; c++)
        ret_rgb[c] = (sum[c] + n / 2) / n;
}

/* One colour of a shown pixel, away from the mean of its four neighbours: averaging has made small things pale. */
static int sharp(const int *plane, int x, int y, int width_px, int height_px)
{
    const int at = (y * width_px + x) * 3, row = width_px * 3;
    const int left = plane[x > 0 ? at - 3 : at], right = plane[x + 1 < width_px ? at + 3 : at];
    const int above = plane[y > 0 ? at - row : at], below = plane[y + 1 < height_px ? at + row : at];
    const int value = plane[at] + (4 * plane[at] - left - right - above - below) / SHARPEN;
    return value < 0 ? 0 : value > 255 ? 255 : value;
}

int demo_picture_draw(struct demo_picture *p, uint64_t i_frame, uint8_t *rgb, int width_px, int height_px, struct err *err)
{
    const size_t n = (size_t)width_px * (size_t)height_px * 3;
    const int rc = prepare(p, width_px, n, err);
    if (rc != 0)
        return rc;
    pl_synth_draw(p->synth, i_frame, p->rgb, (size_t)p->width_px * 3, NULL, NULL); /* without a codec it cannot fail */
    for (int y = 0; y < height_px; y++)
        for (int x = 0; x < width_px; x++)
            average(p, x, y, width_px, height_px, p->small + ((size_t)y * (size_t)width_px + (size_t)x) * 3);
    for (int y = 0; y < height_px; y++)
        for (int x = 0; x < width_px; x++) {
            uint8_t *pixel = rgb + ((size_t)y * (size_t)width_px + (size_t)x) * 3;
            int now[3], change = 0;
            for (int c = 0; c < 3; c++) {
                now[c] = sharp(p->small + c, x, y, width_px, height_px);
                if (abs(now[c] - pixel[c]) > change)
                    change = abs(now[c] - pixel[c]);
            }
            for (int c = 0; c < 3 && change > CALM; c++)
                pixel[c] = (uint8_t)now[c];
        }
    return 0;
}
