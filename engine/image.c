#include "engine/image.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define IMAGE_COEF_BITS     22 /* fixed point of the filter weights: 32 less 8 for the pixel and 2 for overshoot */
#define IMAGE_CUBIC_A       (-0.5)
#define IMAGE_CUBIC_REACH   2.0
#define IMAGE_BLOCK         64 /* bytes of a row that the vertical pass keeps in registers and first-level cache */
#define IMAGE_SCRATCH_ALIGN 64

/* ---- size ---------------------------------------------------------------------------------------------------------------- */

int image_target_size(int width_px, int height_px, int tile_px, int64_t min_pixels, int64_t max_pixels, int *ret_width_px,
                      int *ret_height_px, struct err *err)
{
    if (width_px < 1 || height_px < 1 || width_px > IMAGE_MAX_SIDE_PX || height_px > IMAGE_MAX_SIDE_PX)
        return err_set(err, ERR_INVAL, "picture of %d x %d pixels: each side must be 1 to %d", width_px, height_px,
                       IMAGE_MAX_SIDE_PX);
    const double longer = width_px > height_px ? width_px : height_px;
    const double shorter = width_px > height_px ? height_px : width_px;
    if (longer / shorter > IMAGE_MAX_ASPECT)
        return err_set(err, ERR_INVAL, "picture of %d x %d pixels: one side is more than %d times the other", width_px,
                       height_px, IMAGE_MAX_ASPECT);
    if (max_pixels < (int64_t)tile_px * tile_px)
        return err_set(err, ERR_INVAL, "limit of %lld pixels per picture: at least %d x %d are needed", (long long)max_pixels,
                       tile_px, tile_px);
    if (min_pixels > max_pixels)
        min_pixels = max_pixels;

    /* rint rounds half to even, as the official rule does; every step in the official order, in double */
    const double w = width_px, h = height_px, f = tile_px;
    double to_w = rint(w / f) * f;
    double to_h = rint(h / f) * f;
    if (to_w * to_h > (double)max_pixels) {
        const double shrink = sqrt(h * w / (double)max_pixels);
        to_w = fmax(f, floor(w / shrink / f) * f);
        to_h = fmax(f, floor(h / shrink / f) * f);
    } else if (to_w * to_h < (double)min_pixels) {
        const double grow = sqrt((double)min_pixels / (h * w));
        to_w = ceil(w * grow / f) * f;
        to_h = ceil(h * grow / f) * f;
    }
    /* thin pictures: rounding the short side up to a tile can pass the limit */
    if (to_w * to_h > (double)max_pixels) {
        double *long_side = to_w > to_h ? &to_w : &to_h;
        const double short_side = to_w > to_h ? to_h : to_w;
        *long_side = fmax(f, floor((double)max_pixels / short_side / f) * f);
        if (*long_side * short_side > (double)max_pixels)
            to_w = to_h = floor(sqrt((double)max_pixels) / f) * f;
    }
    *ret_width_px = (int)to_w;
    *ret_height_px = (int)to_h;
    return 0;
}

/* ---- filter -------------------------------------------------------------------------------------------------------------- */

/* One direction of the filter: output i is the sum over j < n[i] of coef[i * taps + j] * input[lo[i] + j]. */
struct image_filter {
    int n_out, taps; /* taps: most that any output has */
    int32_t *lo, *n; /* [n_out] */
    int32_t *coef;   /* [n_out, taps] fixed point */
    double *weight;  /* [taps] of the output at work */
};

static double image_cubic(double x)
{
    x = fabs(x);
    if (x < 1.0)
        return ((IMAGE_CUBIC_A + 2.0) * x - (IMAGE_CUBIC_A + 3.0)) * x * x + 1;
    if (x < 2.0)
        return (((x - 5) * x + 8) * x - 4) * IMAGE_CUBIC_A;
    return 0.0;
}

static int image_filter_taps(int n_in, int n_out)
{
    const double scale = (double)n_in / n_out;
    return (int)ceil(IMAGE_CUBIC_REACH * (scale < 1.0 ? 1.0 : scale)) * 2 + 1;
}

static size_t image_align(size_t bytes)
{
    return (bytes + IMAGE_SCRATCH_ALIGN - 1) / IMAGE_SCRATCH_ALIGN * IMAGE_SCRATCH_ALIGN;
}

static size_t image_filter_bytes(int n_in, int n_out)
{
    const size_t taps = (size_t)image_filter_taps(n_in, n_out);
    return 2 * image_align((size_t)n_out * sizeof(int32_t)) + image_align((size_t)n_out * taps * sizeof(int32_t)) +
           image_align(taps * sizeof(double));
}

static void *image_take(uint8_t **at, size_t bytes)
{
    void *p = *at;
    *at += image_align(bytes);
    return p;
}

/* Fill a filter, its arrays taken from *at. The order of operations is Pillow's: the weights come out the same to the bit. */
static void image_filter_init(struct image_filter *f, int n_in, int n_out, uint8_t **at)
{
    const double scale = (double)n_in / n_out;
    const double stretch = scale < 1.0 ? 1.0 : scale;
    const double reach = IMAGE_CUBIC_REACH * stretch;
    const double inverse = 1.0 / stretch;

    f->n_out = n_out;
    f->taps = image_filter_taps(n_in, n_out);
    f->lo = image_take(at, (size_t)n_out * sizeof(int32_t));
    f->n = image_take(at, (size_t)n_out * sizeof(int32_t));
    f->coef = image_take(at, (size_t)n_out * (size_t)f->taps * sizeof(int32_t));
    f->weight = image_take(at, (size_t)f->taps * sizeof(double));

    for (int i = 0; i < n_out; i++) {
        const double centre = (i + 0.5) * scale;
        int lo = (int)(centre - reach + 0.5);
        int hi = (int)(centre + reach + 0.5);
        int32_t *coef = f->coef + (size_t)i * (size_t)f->taps;
        double sum = 0.0;

        lo = lo < 0 ? 0 : lo;
        hi = hi > n_in ? n_in : hi;
        for (int j = 0; j < hi - lo; j++) {
            f->weight[j] = image_cubic((j + lo - centre + 0.5) * inverse);
            sum += f->weight[j];
        }
        for (int j = 0; j < hi - lo; j++) {
            const double w = (sum != 0.0 ? f->weight[j] / sum : f->weight[j]) * (1 << IMAGE_COEF_BITS);
            coef[j] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
        }
        f->lo[i] = lo;
        f->n[i] = hi - lo;
    }
}

static uint8_t image_clamp(int32_t sum)
{
    sum >>= IMAGE_COEF_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* ---- the passes ---------------------------------------------------------------------------------------------------------- */

static void image_row_rgb(const struct image_filter *f, const uint8_t *src, uint8_t *dst)
{
    for (int i = 0; i < f->n_out; i++) {
        const uint8_t *p = src + (size_t)f->lo[i] * 3;
        const int32_t *coef = f->coef + (size_t)i * (size_t)f->taps;
        int32_t r = 1 << (IMAGE_COEF_BITS - 1), g = r, b = r;

        for (int j = 0; j < f->n[i]; j++, p += 3) {
            r += coef[j] * p[0];
            g += coef[j] * p[1];
            b += coef[j] * p[2];
        }
        dst[0] = image_clamp(r);
        dst[1] = image_clamp(g);
        dst[2] = image_clamp(b);
        dst += 3;
    }
}

static void image_row_gray(const struct image_filter *f, const uint8_t *src, uint8_t *dst)
{
    for (int i = 0; i < f->n_out; i++) {
        const uint8_t *p = src + f->lo[i];
        const int32_t *coef = f->coef + (size_t)i * (size_t)f->taps;
        int32_t sum = 1 << (IMAGE_COEF_BITS - 1);

        for (int j = 0; j < f->n[i]; j++)
            sum += coef[j] * p[j];
        dst[i] = image_clamp(sum);
    }
}

/* Rows that went through the horizontal pass: a ring of the last `height`, or the source itself where that pass is left out. */
struct image_rows {
    const uint8_t *base;
    size_t stride_bytes;
    int height;
};

static const uint8_t *image_rows_at(const struct image_rows *rows, int y)
{
    return rows->base + (size_t)(y % rows->height) * rows->stride_bytes;
}

/* Output row i of the vertical pass, n_bytes wide. */
static void image_column(const struct image_filter *f, int i, const struct image_rows *rows, size_t n_bytes, uint8_t *dst)
{
    const int32_t *coef = f->coef + (size_t)i * (size_t)f->taps;

    for (size_t x = 0; x < n_bytes; x += IMAGE_BLOCK) {
        const size_t n = n_bytes - x < IMAGE_BLOCK ? n_bytes - x : IMAGE_BLOCK;
        int32_t sum[IMAGE_BLOCK];

        for (int b = 0; b < IMAGE_BLOCK; b++)
            sum[b] = 1 << (IMAGE_COEF_BITS - 1);
        for (int j = 0; j < f->n[i]; j++) {
            const uint8_t *p = image_rows_at(rows, f->lo[i] + j) + x;
            const int32_t k = coef[j];
            if (n == IMAGE_BLOCK) {
                for (int b = 0; b < IMAGE_BLOCK; b++)
                    sum[b] += k * p[b];
            } else {
                for (size_t b = 0; b < n; b++)
                    sum[b] += k * p[b];
            }
        }
        for (size_t b = 0; b < n; b++)
            dst[x + b] = image_clamp(sum[b]);
    }
}

/* Grey values in the first third of a row become RGB, from the right end so that nothing is overwritten early. */
static void image_spread_gray(uint8_t *row, int width_px)
{
    for (int x = width_px - 1; x >= 0; x--)
        row[3 * x] = row[3 * x + 1] = row[3 * x + 2] = row[x];
}

/* ---- resize -------------------------------------------------------------------------------------------------------------- */

/*
 * Which pass comes first matters for the pixels, since each rounds to bytes. Pillow's rule (13.0): the horizontal one, unless
 * the height shrinks by more than twice as many pixels as the width.
 */
static bool image_is_vertical_first(int src_width_px, int src_height_px, int dst_width_px, int dst_height_px)
{
    const int64_t less_high = (int64_t)src_height_px - dst_height_px;
    const int64_t less_wide = (int64_t)src_width_px - dst_width_px;
    return less_high > 0 && less_high > 2 * less_wide;
}

/* Memory for the rows between the passes. */
static size_t image_rows_bytes(int src_width_px, int src_height_px, int dst_width_px, int dst_height_px)
{
    const size_t rows = image_is_vertical_first(src_width_px, src_height_px, dst_width_px, dst_height_px)
                            ? (size_t)src_width_px
                            : (size_t)image_filter_taps(src_height_px, dst_height_px) * (size_t)dst_width_px;
    return image_align(rows * 3);
}

size_t image_resize_scratch_bytes(int src_width_px, int src_height_px, int dst_width_px, int dst_height_px)
{
    return image_filter_bytes(src_width_px, dst_width_px) + image_filter_bytes(src_height_px, dst_height_px) +
           image_rows_bytes(src_width_px, src_height_px, dst_width_px, dst_height_px) + IMAGE_SCRATCH_ALIGN;
}

static int image_check(const struct image_view *src, int dst_width_px, int dst_height_px, size_t channels, struct err *err)
{
    static const char *const names[] = {
        [IMAGE_RGB24] = "RGB24", [IMAGE_NV12] = "NV12", [IMAGE_I420] = "I420", [IMAGE_GRAY8] = "GRAY8"};

    if (src->format != IMAGE_RGB24 && src->format != IMAGE_GRAY8)
        return err_set(err, ERR_UNSUPPORTED, "picture in pixel format %s: RGB24 or GRAY8 is needed, convert it before",
                       (unsigned)src->format < sizeof names / sizeof *names ? names[src->format] : "unknown");
    if (src->width_px < 1 || src->height_px < 1 || src->width_px > IMAGE_MAX_SIDE_PX || src->height_px > IMAGE_MAX_SIDE_PX ||
        dst_width_px < 1 || dst_height_px < 1 || dst_width_px > IMAGE_MAX_SIDE_PX || dst_height_px > IMAGE_MAX_SIDE_PX)
        return err_set(err, ERR_INVAL, "resizing %d x %d to %d x %d pixels: each side must be 1 to %d", src->width_px,
                       src->height_px, dst_width_px, dst_height_px, IMAGE_MAX_SIDE_PX);
    if (!src->plane[0] || src->stride_bytes[0] < (size_t)src->width_px * channels)
        return err_set(err, ERR_INVAL, "picture of %d x %d pixels with rows %zu bytes apart: %zu are needed", src->width_px,
                       src->height_px, src->stride_bytes[0], (size_t)src->width_px * channels);
    return 0;
}

/* One picture on its way: the filters that are needed, and the memory behind them in the scratch. */
struct image_job {
    const struct image_view *src;
    size_t channels;
    bool has_x, has_y;
    struct image_filter fx, fy;
    uint8_t *work;
    int width_px, height_px; /* of the result */
    uint8_t *dst;
};

static void image_horizontal(const struct image_job *job, const uint8_t *src, uint8_t *dst)
{
    if (job->channels == 1)
        image_row_gray(&job->fx, src, dst);
    else
        image_row_rgb(&job->fx, src, dst);
}

static void image_vertical_first(const struct image_job *job)
{
    const struct image_rows rows = {job->src->plane[0], job->src->stride_bytes[0], job->src->height_px};
    const size_t row_bytes = (size_t)job->src->width_px * job->channels;

    for (int i = 0; i < job->height_px; i++) {
        image_column(&job->fy, i, &rows, row_bytes, job->work);
        image_horizontal(job, job->work, job->dst + (size_t)i * (size_t)job->width_px * 3);
    }
}

static void image_horizontal_first(const struct image_job *job)
{
    const struct image_view *src = job->src;
    const size_t row_bytes = (size_t)job->width_px * job->channels;
    struct image_rows rows = {src->plane[0], src->stride_bytes[0], src->height_px};
    int done = 0; /* source rows that went through the horizontal pass */

    if (job->has_x)
        rows = (struct image_rows){job->work, row_bytes, job->has_y ? job->fy.taps : 1};
    for (int i = 0; i < job->height_px; i++) {
        uint8_t *out = job->dst + (size_t)i * (size_t)job->width_px * 3;
        const int first = job->has_y ? job->fy.lo[i] : i;
        const int end = job->has_y ? first + job->fy.n[i] : i + 1;

        /* rows before `first` are never asked for again: both ends of the window only grow */
        for (done = done < first ? first : done; job->has_x && done < end; done++)
            image_horizontal(job, src->plane[0] + (size_t)done * src->stride_bytes[0],
                             job->work + (size_t)(done % rows.height) * row_bytes);
        if (job->has_y)
            image_column(&job->fy, i, &rows, row_bytes, out);
        else
            memcpy(out, image_rows_at(&rows, i), row_bytes);
    }
}

/* Everything is there but the result. */
static void image_run(const struct image_job *job)
{
    const struct image_view *src = job->src;
    if (job->has_x && job->has_y && image_is_vertical_first(src->width_px, src->height_px, job->width_px, job->height_px))
        image_vertical_first(job);
    else
        image_horizontal_first(job);
    for (int i = 0; job->channels == 1 && i < job->height_px; i++)
        image_spread_gray(job->dst + (size_t)i * (size_t)job->width_px * 3, job->width_px);
}

static struct image_job image_job_of(const struct image_view *src, int dst_width_px, int dst_height_px, uint8_t *dst)
{
    return (struct image_job){.src = src,
                              .channels = src->format == IMAGE_GRAY8 ? 1 : 3,
                              .has_x = src->width_px != dst_width_px,
                              .has_y = src->height_px != dst_height_px,
                              .width_px = dst_width_px,
                              .height_px = dst_height_px,
                              .dst = dst};
}

int image_resize_rgb(const struct image_view *src, int dst_width_px, int dst_height_px, uint8_t *dst, void *scratch,
                     size_t scratch_bytes, struct err *err)
{
    struct image_job job = image_job_of(src, dst_width_px, dst_height_px, dst);
    const int rc = image_check(src, dst_width_px, dst_height_px, job.channels, err);
    if (rc)
        return rc;
    const size_t needed = image_resize_scratch_bytes(src->width_px, src->height_px, dst_width_px, dst_height_px);
    if (!scratch || scratch_bytes < needed)
        return err_set(err, ERR_INVAL, "resizing %d x %d to %d x %d pixels: scratch of %zu bytes, %zu are needed",
                       src->width_px, src->height_px, dst_width_px, dst_height_px, scratch_bytes, needed);

    uint8_t *at = scratch;
    at += (IMAGE_SCRATCH_ALIGN - (uintptr_t)at % IMAGE_SCRATCH_ALIGN) % IMAGE_SCRATCH_ALIGN;
    if (job.has_x)
        image_filter_init(&job.fx, src->width_px, dst_width_px, &at);
    if (job.has_y)
        image_filter_init(&job.fy, src->height_px, dst_height_px, &at);
    job.work = at;
    image_run(&job);
    return 0;
}

/* ---- resizer ------------------------------------------------------------------------------------------------------------- */

/* A filter kept. */
struct image_kept {
    int n_in, n_out; /* n_in 0: nothing yet */
    uint64_t used;   /* the resizer's clock when it was last asked for */
    struct image_filter filter;
    void *memory;
    size_t bytes;
};

struct image_resizer {
    struct image_kept kept[IMAGE_FILTERS_MAX];
    uint64_t clock;
    uint8_t *work;
    size_t work_bytes;
};

int image_resizer_create(struct image_resizer **ret_resizer, struct err *err)
{
    struct image_resizer *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, ERR_NOMEM, "out of memory: a resizer of pictures");
    *ret_resizer = r;
    return 0;
}

void image_resizer_free(struct image_resizer *r)
{
    if (!r)
        return;
    for (int i = 0; i < IMAGE_FILTERS_MAX; i++)
        free(r->kept[i].memory);
    free(r->work);
    free(r);
}

/* At least `need` bytes at *p, which has *bytes; the content is lost. */
static bool image_reserve(void **p, size_t *bytes, size_t need)
{
    if (need <= *bytes)
        return true;
    free(*p);
    *p = malloc(need);
    *bytes = *p ? need : 0;
    return *p != NULL;
}

/* The filter of these lengths, kept or made. False: out of memory. It stays until IMAGE_FILTERS_MAX others were asked for. */
static bool image_resizer_filter(struct image_resizer *r, int n_in, int n_out, struct image_filter *ret_filter)
{
    struct image_kept *oldest = &r->kept[0];
    for (int i = 0; i < IMAGE_FILTERS_MAX; i++) {
        struct image_kept *k = &r->kept[i];
        if (k->n_in == n_in && k->n_out == n_out) {
            k->used = ++r->clock;
            *ret_filter = k->filter;
            return true;
        }
        if (k->used < oldest->used)
            oldest = k;
    }
    oldest->n_in = oldest->n_out = 0;
    oldest->used = 0;
    if (!image_reserve(&oldest->memory, &oldest->bytes, image_filter_bytes(n_in, n_out)))
        return false;
    uint8_t *at = oldest->memory;
    image_filter_init(&oldest->filter, n_in, n_out, &at);
    oldest->n_in = n_in;
    oldest->n_out = n_out;
    oldest->used = ++r->clock;
    *ret_filter = oldest->filter;
    return true;
}

int image_resizer_run(struct image_resizer *r, const struct image_view *src, int dst_width_px, int dst_height_px, uint8_t *dst,
                      struct err *err)
{
    struct image_job job = image_job_of(src, dst_width_px, dst_height_px, dst);
    const int rc = image_check(src, dst_width_px, dst_height_px, job.channels, err);
    if (rc)
        return rc;
    void *work = r->work;
    const bool ok =
        image_reserve(&work, &r->work_bytes, image_rows_bytes(src->width_px, src->height_px, dst_width_px, dst_height_px)) &&
        (!job.has_x || image_resizer_filter(r, src->width_px, dst_width_px, &job.fx)) &&
        (!job.has_y || image_resizer_filter(r, src->height_px, dst_height_px, &job.fy));
    r->work = job.work = work;
    if (!ok)
        return err_set(err, ERR_NOMEM, "out of memory: resizing %d x %d to %d x %d pixels", src->width_px, src->height_px,
                       dst_width_px, dst_height_px);
    image_run(&job);
    return 0;
}
