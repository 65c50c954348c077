/*
 * scene_lens - light, fog, rain, exposure, vignette and noise, in one pass over the rows from top to bottom.
 *
 * What a frame's sky decides is put into tables first (light by glow, fog by row and by object); the pass itself is in 32-bit integers.
 * The pass goes downwards so that wet ground can mirror rows above it that are finished.
 */
#include "pipeline/scene_lens.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "pipeline/noise.h"

#define ONE_BITS    12
#define ONE         (1 << ONE_BITS) /* weights; light and pixels have 8 bits after the point, so that 32 bits hold every product */
#define GROUND_M    26.0            /* where the yard's ground ends: building and fence hide what is behind */
#define BACK_M      40.0            /* what stands there and behind, up to the horizon */
#define SKY_M       90.0
#define FOG_PER_M   0.05 /* at fog 1: 60 m leave 5 % */
#define RAIN_MAX    420  /* streaks in 341x192 */
#define NOISE_DAY   1.2
#define NOISE_NIGHT 3.5

struct scene_lens {
    int width_px, height_px;
    uint64_t seed;
    int ground_row, horizon_row; /* first row that is ground for sure; the horizon's */
    float *depth_m;              /* [height_px] of what stands still */
    int32_t *vignette_row;       /* [height_px], and [width_px]: their sum is what is lost */
    int32_t *vignette_col;
    uint8_t *wet;   /* [height_px, width_px] how well the wet ground mirrors */
    int32_t *smear; /* [width_px, 3] what it mirrors in the row at hand */
    /* of the frame at hand */
    int32_t *fog_row;      /* [height_px] how much fog hides */
    int32_t *dull_row;     /* [height_px] how much colour clouds take away */
    int32_t (*sky_row)[3]; /* [horizon_row] the sky's light, 1/256 of that on the ground */
    int8_t *ripple_row;    /* [height_px] how far aside wet ground mirrors, in pixels */
    uint8_t *mirror;       /* [height_px, width_px, 3] what wet ground mirrors, where it is ground */
    int32_t rain, dark;    /* of ONE: how wet the ground is, and how much darker for it */
    int32_t light[256][3]; /* by glow, 1/256; so is the exposure */
    int32_t fog_id[256];
    int32_t fog_colour[3];
    int32_t exposure;
};

/* exp(-x) for x >= 0, within 1 % where it matters; libm's differ. */
static double lens_fade(double x)
{
    double v = 1 - x / 64;
    if (v <= 0)
        return 0;
    for (int i = 0; i < 6; i++)
        v *= v;
    return v;
}

/* Where puddles lie: by world place, so that they follow the perspective. */
static void lens_fill_wet(struct scene_lens *lens, const struct scene_view *view)
{
    uint32_t salt = (uint32_t)rng_at(lens->seed, 0x3e7);
    for (int y = lens->ground_row; y < lens->height_px; y++) {
        double depth = lens->depth_m[y];
        double up = (view->cy - y - 0.5) / view->focal_px;
        double z = depth * (view->pitch_cos + up * view->pitch_sin);
        for (int x = 0; x < lens->width_px; x++) {
            double across = depth * (x + 0.5 - view->cx) / view->focal_px;
            double n = 0.65 * noise_bumps(salt, across * 0.3, z * 0.45) + 0.35 * noise_bumps(salt + 1, across * 0.9, z * 1.3);
            double puddle = yard_unit((n - 0.52) * 7);
            lens->wet[(size_t)y * (size_t)lens->width_px + (size_t)x] = (uint8_t)(46 + 150 * puddle);
        }
    }
}

int scene_lens_open(const struct scene_view *view, uint64_t seed, int width_px, int height_px, struct scene_lens **ret_lens,
                    struct err *err)
{
    size_t w = (size_t)width_px, h = (size_t)height_px;
    struct scene_lens *lens = calloc(1, sizeof *lens);
    if (!lens)
        goto fail;
    lens->width_px = width_px;
    lens->height_px = height_px;
    lens->seed = rng_at(seed, 0x1e25);
    lens->exposure = 256;
    lens->depth_m = calloc(h, sizeof *lens->depth_m);
    lens->fog_row = calloc(h, sizeof *lens->fog_row);
    lens->dull_row = calloc(h, sizeof *lens->dull_row);
    lens->sky_row = calloc(h, sizeof *lens->sky_row);
    lens->ripple_row = calloc(h, sizeof *lens->ripple_row);
    lens->mirror = calloc(w * h, 3);
    lens->vignette_row = calloc(h, sizeof *lens->vignette_row);
    lens->vignette_col = calloc(w, sizeof *lens->vignette_col);
    lens->wet = calloc(w * h, 1);
    lens->smear = calloc(w * 3, sizeof *lens->smear);
    if (!lens->depth_m || !lens->fog_row || !lens->dull_row || !lens->sky_row || !lens->ripple_row || !lens->mirror)
        goto fail;
    if (!lens->vignette_row || !lens->vignette_col || !lens->wet || !lens->smear)
        goto fail;
    double horizon = scene_view_horizon(view);
    lens->horizon_row = (int)fmin(fmax(horizon, 0), height_px);
    lens->ground_row = height_px;
    for (int y = height_px - 1; y >= 0; y--) {
        /* Without roll a row of ground has one depth. */
        double up = (view->cy - y - 0.5) / view->focal_px, fall = view->pitch_sin - up * view->pitch_cos;
        double depth = fall > 1e-3 ? view->height_m / fall : BACK_M;
        if (depth < GROUND_M)
            lens->ground_row = y;
        if (y < horizon)
            depth = BACK_M + (SKY_M - BACK_M) * yard_unit((horizon - y) / (0.15 * height_px));
        else
            depth = fmin(depth, BACK_M);
        lens->depth_m[y] = (float)depth;
        double dy = 2 * (y + 0.5) / height_px - 1;
        lens->vignette_row[y] = (int32_t)(0.07 * ONE * dy * dy);
    }
    for (int x = 0; x < width_px; x++) {
        double dx = 2 * (x + 0.5) / width_px - 1;
        lens->vignette_col[x] = (int32_t)(0.09 * ONE * dx * dx);
    }
    lens_fill_wet(lens, view);
    *ret_lens = lens;
    return 0;
fail:
    scene_lens_close(lens);
    return err_set(err, ERR_NOMEM, "no memory for a lens of %dx%d", width_px, height_px);
}

void scene_lens_close(struct scene_lens *lens)
{
    if (!lens)
        return;
    free(lens->depth_m);
    free(lens->fog_row);
    free(lens->dull_row);
    free(lens->sky_row);
    free(lens->ripple_row);
    free(lens->mirror);
    free(lens->vignette_row);
    free(lens->vignette_col);
    free(lens->wet);
    free(lens->smear);
    free(lens);
}

/* The tables of a frame. */
static void lens_prepare(struct scene_lens *lens, const struct yard_sky *sky, const float depth_m[256])
{
    static const double night[3] = {0.27, 0.30, 0.38}, lamp[3] = {1.16, 1.00, 0.72}, low_sun[3] = {1.05, 0.92, 0.80};
    static const double fog_day[3] = {196, 200, 204}, fog_night[3] = {50, 54, 64};
    double day = yard_unit(sky->day), dusk = yard_unit(sky->dusk), rain = yard_unit(sky->rain), fog = yard_unit(sky->fog);
    double on = yard_unit((0.8 - day) / 0.45), dull = 1 - 0.14 * rain - 0.06 * fog;
    lens->exposure = (int32_t)(sky->exposure * 256);
    for (int k = 0; k < 3; k++) {
        double ambient = (night[k] + (1 - night[k]) * day) * (1 + (low_sun[k] - 1) * dusk) * (1 - (1 - dull) * day);
        double gain = on * fmax(lamp[k] - 0.8 * ambient, 0);
        for (int g = 0; g < 256; g++)
            lens->light[g][k] = (int32_t)((ambient + gain * g / 255) * sky->exposure * 256);
        double tint = 1 + (low_sun[k] - 1) * dusk * 0.6;
        lens->fog_colour[k] = (int32_t)((fog_night[k] + (fog_day[k] - fog_night[k]) * day) * tint * sky->exposure);
    }
    /* rain hides a little too */
    double per_m = FOG_PER_M * (fog + 0.12 * rain);
    for (int y = 0; y < lens->height_px; y++)
        lens->fog_row[y] = (int32_t)(ONE * (1 - lens_fade(per_m * (double)lens->depth_m[y])));
    lens->fog_id[0] = 0;
    for (int i = 1; i < 256; i++)
        lens->fog_id[i] = (int32_t)(ONE * (1 - lens_fade(per_m * fmin(fmax((double)depth_m[i], 0), 200))));
}

/* One streak of rain, falling along a slope; its colour follows the light. */
static void lens_streak(const struct scene_lens *lens, double x, double y, double length, double slope, int alpha,
                        const int32_t colour[3], uint8_t *rgb, size_t stride_bytes)
{
    int y0 = (int)floor(y), n = (int)length;
    for (int i = 0; i < n; i++) {
        int row = y0 + i;
        if (row < 0 || row >= lens->height_px)
            continue;
        double at = x + slope * i, left = floor(at);
        int col = (int)left, part = (int)((at - left) * 256);
        int fade = i * 2 < n ? 128 + 256 * i / n : 384 - 256 * i / n; /* thin at both ends */
        for (int side = 0; side < 2; side++) {
            int xx = col + side, a = alpha * (side ? part : 256 - part) / 256 * fade / 256;
            if (xx < 0 || xx >= lens->width_px)
                continue;
            uint8_t *px = rgb + (size_t)row * stride_bytes + (size_t)xx * 3;
            for (int k = 0; k < 3; k++)
                if (colour[k] > px[k])
                    px[k] = (uint8_t)(px[k] + (colour[k] - px[k]) * a / 256);
        }
    }
}

static void lens_rain(const struct scene_lens *lens, const struct yard_sky *sky, uint64_t i_frame, uint8_t *rgb,
                      size_t stride_bytes)
{
    double day = yard_unit(sky->day), rain = yard_unit(sky->rain), h = lens->height_px;
    double scale = h / 192;
    int n = (int)(rain * RAIN_MAX);
    int32_t colour[3] = {(int32_t)(96 + 130 * day), (int32_t)(100 + 130 * day), (int32_t)(110 + 128 * day)};
    struct rng r = {.seed = rng_at(lens->seed ^ 0x4a13, i_frame)};
    double slope = 0.06 + 0.22 * fmin(fmax(sky->wind, -1), 1);
    for (int i = 0; i < n; i++) {
        uint64_t bits = rng_next(&r);
        double near = (double)(bits & 255) / 255; /* near drops are long */
        double length = (5 + 15 * near * near) * scale;
        double x = ((double)(bits >> 8 & 0xffff) / 65536 * 1.2 - 0.1) * lens->width_px;
        double y = ((double)(bits >> 24 & 0xffff) / 65536 * 1.2 - 0.15) * h;
        int alpha = 40 + (int)(70 * near) - (int)(day * 10);
        lens_streak(lens, x, y, length, slope + 0.03 * ((double)(bits >> 40 & 255) / 128 - 1), alpha, colour, rgb,
                    stride_bytes);
        if (scale > 1.5) /* in larger pictures a streak is wider than a pixel */
            lens_streak(lens, x + 0.7, y, length, slope, alpha * 2 / 3, colour, rgb, stride_bytes);
    }
}

static inline int32_t lens_clamp(int32_t v)
{
    return v < 0 ? 0 : v > 255 ? 255 : v;
}

/* Light and fog of one pixel, in 1/256 steps. */
static inline void lens_tone(const struct scene_lens *lens, const uint8_t *px, const int32_t *light, int32_t emit, int32_t fog,
                             int32_t ret_v[3])
{
    for (int k = 0; k < 3; k++) {
        int32_t l = light[k];
        if (emit)
            l += (lens->exposure - l) * emit / 255;
        ret_v[k] = px[k] * l;
    }
    if (fog)
        for (int k = 0; k < 3; k++)
            ret_v[k] += ((lens->fog_colour[k] << 8) - ret_v[k]) * fog >> ONE_BITS;
}

static inline void lens_take_colour(int32_t dull, int32_t v[3])
{
    int32_t grey = (v[0] + 2 * v[1] + v[2]) >> 2;
    for (int k = 0; k < 3; k++)
        v[k] += (grey - v[k]) * dull >> ONE_BITS;
}

/* Ground that is wet: darker, and a mirror of `mirror` (1/256). */
static inline void lens_wet(const struct scene_lens *lens, uint8_t wet, const int32_t mirror[3], int32_t v[3])
{
    int32_t shine = wet * lens->rain >> 9; /* at most half */
    for (int k = 0; k < 3; k++) {
        v[k] -= v[k] * lens->dark >> ONE_BITS;
        v[k] += (mirror[k] - v[k]) * shine >> ONE_BITS;
    }
}

/* The column whose mirror wet ground shows. */
static inline int lens_mirror_x(const struct scene_lens *lens, int x, int y)
{
    int at = x + lens->ripple_row[y];
    return at < 0 ? 0 : at >= lens->width_px ? lens->width_px - 1 : at;
}

/* What a row needs to know of its frame. */
struct lens_row {
    int y;
    const int32_t (*light)[3]; /* [256] by glow, 1/256 */
    const uint8_t *glow, *map, *emit, *wet;
    uint8_t *rgb;
    int32_t dull;  /* of ONE */
    int32_t noise; /* 1/65536 step for each of the three bytes' 128 */
    uint64_t seed;
};

static inline void lens_apply_row(const struct scene_lens *lens, const struct lens_row *row, bool is_dull, bool is_wet)
{
    int w = lens->width_px;
    int32_t fog_row = lens->fog_row[row->y], keep_row = ONE - lens->vignette_row[row->y], noise = row->noise;
    uint8_t *px = row->rgb;
    uint64_t r = row->seed | 1, word = 0;
    for (int x = 0; x < w; x++, px += 3) {
        if ((x & 1) == 0) {
            r ^= r << 13;
            r ^= r >> 7;
            r ^= r << 17;
            word = r * UINT64_C(0x2545F4914F6CDD1D);
        }
        int id = row->map[x];
        int32_t v[3];
        lens_tone(lens, px, row->light[row->glow[x]], id ? row->emit[id] : 0, id ? lens->fog_id[id] : fog_row, v);
        if (is_dull)
            lens_take_colour(row->dull, v);
        if (is_wet && !id)
            lens_wet(lens, row->wet[x], lens->smear + lens_mirror_x(lens, x, row->y) * 3, v);
        int32_t keep = keep_row - lens->vignette_col[x];
        int32_t n = ((int32_t)(word & 255) + (int32_t)(word >> 8 & 255) + (int32_t)(word >> 16 & 255) - 382) * noise + 32768;
        int32_t warm = ((int32_t)(word >> 24 & 15) - 7) * noise * 4, cold = ((int32_t)(word >> 28 & 15) - 7) * noise * 4;
        word >>= 32;
        px[0] = (uint8_t)lens_clamp(((v[0] * keep >> 4) + n + warm) >> 16);
        px[1] = (uint8_t)lens_clamp(((v[1] * keep >> 4) + n) >> 16);
        px[2] = (uint8_t)lens_clamp(((v[2] * keep >> 4) + n + cold) >> 16);
    }
}

/* Light above the horizon, of that on the ground: warm near it at dusk, dark at night. */
static void lens_prepare_sky(struct scene_lens *lens, const struct yard_sky *sky)
{
    double dusk = yard_unit(sky->dusk), night = 1 - yard_unit(sky->day);
    for (int y = 0; y < lens->horizon_row; y++) {
        double up = (lens->horizon_row - y) / (0.22 * lens->height_px);
        double inside = yard_unit(2.5 * up), warm = dusk * inside * yard_unit(1.35 - up),
               dark = night * inside * (0.25 + 0.2 * yard_unit(up));
        double tint[3] = {1 + 0.30 * warm, 1 - 0.02 * warm, 1 - 0.26 * warm + 0.14 * dusk * inside * yard_unit(up - 0.3)};
        for (int k = 0; k < 3; k++)
            lens->sky_row[y][k] = (int32_t)(tint[k] * (1 - dark * (1 - 0.8 * dusk)) * 256);
    }
}

/* The light of a row by glow and channel; lamps stay as they are. */
static inline int32_t lens_sky_light(const struct scene_lens *lens, int y, int glow, int k)
{
    return lens->light[glow][k] * (glow > 200 ? 256 : lens->sky_row[y][k]) / 256;
}

/* Clouds take colour away, from the sky most. */
static void lens_prepare_dull(struct scene_lens *lens, const struct yard_sky *sky)
{
    double rain = yard_unit(sky->rain), fog = yard_unit(sky->fog);
    int32_t dull = (int32_t)(ONE * (0.22 * rain + 0.15 * fog)), dull_sky = (int32_t)(ONE * fmin(0.8 * rain + 0.7 * fog, 0.9));
    for (int y = 0; y < lens->height_px; y++) {
        double up = y < lens->horizon_row ? yard_unit((lens->horizon_row - y) / (0.12 * lens->height_px)) : 0;
        lens->dull_row[y] = dull + (int32_t)((dull_sky - dull) * up * up);
    }
    lens->rain = (int32_t)(ONE * rain);
    lens->dark = (int32_t)(ONE * 0.30 * rain);
}

/* The wet ground's mirror, one row further down: the row as far above the ground's edge, smeared downwards as rough asphalt does. */
static void lens_step_smear(struct scene_lens *lens, const uint8_t *rgb, size_t stride_bytes, int y)
{
    int mirror_y = 2 * lens->ground_row - y - 1, slow = 2 + lens->height_px / 48;
    const uint8_t *mirror = rgb + (size_t)(mirror_y < 0 ? 0 : mirror_y) * stride_bytes;
    if (y == lens->ground_row)
        for (int i = 0; i < 3 * lens->width_px; i++)
            lens->smear[i] = mirror[i] << 8;
    else
        for (int i = 0; i < 3 * lens->width_px; i++)
            lens->smear[i] += ((mirror[i] << 8) - lens->smear[i]) / slow;
}

/* The mirror is kept for scene_lens_look. */
static void lens_keep_mirror(struct scene_lens *lens, int y)
{
    size_t n = 3 * (size_t)lens->width_px;
    uint8_t *mirror = lens->mirror + (size_t)y * n;
    for (size_t i = 0; i < n; i++)
        mirror[i] = (uint8_t)(lens->smear[i] >> 8);
}

void scene_lens_look(const struct scene_lens *lens, int x_px, int y_px, uint8_t glow, uint8_t id, uint8_t emit,
                     const uint8_t rgb[3], uint8_t ret_rgb[3])
{
    size_t at = (size_t)y_px * (size_t)lens->width_px;
    int32_t v[3], light[3], keep = ONE - lens->vignette_row[y_px] - lens->vignette_col[x_px];
    for (int k = 0; k < 3; k++)
        light[k] = y_px < lens->horizon_row ? lens_sky_light(lens, y_px, glow, k) : lens->light[glow][k];
    lens_tone(lens, rgb, light, id ? emit : 0, id ? lens->fog_id[id] : lens->fog_row[y_px], v);
    lens_take_colour(lens->dull_row[y_px], v);
    if (!id && lens->rain > 0 && y_px >= lens->ground_row) {
        const uint8_t *from = lens->mirror + (at + (size_t)lens_mirror_x(lens, x_px, y_px)) * 3;
        int32_t mirror[3] = {from[0] << 8, from[1] << 8, from[2] << 8};
        lens_wet(lens, lens->wet[at + (size_t)x_px], mirror, v);
    }
    for (int k = 0; k < 3; k++)
        ret_rgb[k] = (uint8_t)lens_clamp(((v[k] * keep >> 4) + 32768) >> 16);
}

void scene_lens_apply(struct scene_lens *lens, const struct yard_sky *sky, uint64_t i_frame, const uint8_t *glow,
                      const uint8_t *map, const float depth_m[256], const uint8_t emit[256], uint8_t *rgb, size_t stride_bytes)
{
    size_t w = (size_t)lens->width_px;
    lens_prepare(lens, sky, depth_m);
    lens_prepare_sky(lens, sky);
    lens_prepare_dull(lens, sky);
    uint64_t frame_seed = rng_at(lens->seed, i_frame);
    /* three bytes less 382: standard deviation 128 */
    struct lens_row row = {.emit = emit,
                           .noise = (int32_t)((NOISE_NIGHT + (NOISE_DAY - NOISE_NIGHT) * yard_unit(sky->day)) * 512)};
    int32_t sky_light[256][3];
    for (int y = 0; y < lens->height_px; y++) {
        row.y = y;
        row.light = (const int32_t(*)[3])lens->light;
        row.dull = lens->dull_row[y];
        if (y < lens->horizon_row) {
            for (int g = 0; g < 256; g++)
                for (int k = 0; k < 3; k++)
                    sky_light[g][k] = lens_sky_light(lens, y, g, k);
            row.light = (const int32_t(*)[3])sky_light;
        }
        row.glow = glow + (size_t)y * w;
        row.map = map + (size_t)y * w;
        row.wet = lens->wet + (size_t)y * w;
        row.rgb = rgb + (size_t)y * stride_bytes;
        row.seed = rng_at(frame_seed, (uint64_t)y);
        if (lens->rain > 0 && y >= lens->ground_row) {
            lens_step_smear(lens, rgb, stride_bytes, y);
            lens_keep_mirror(lens, y);
            lens->ripple_row[y] = (int8_t)((int)(noise_hash((uint32_t)frame_seed, y, 0) % 3) - 1);
            lens_apply_row(lens, &row, true, true);
        } else if (row.dull > 0) {
            lens_apply_row(lens, &row, true, false);
        } else {
            lens_apply_row(lens, &row, false, false);
        }
    }
    if (lens->rain > 0)
        lens_rain(lens, sky, i_frame, rgb, stride_bytes);
}
