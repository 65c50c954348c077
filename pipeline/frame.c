/* frame - slots, references, sizes. One pool's struct, slots and pixels are one allocation, kept alive by a count. */
#include "pipeline/frame.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define PIXEL_ALIGN 64

/* The public part comes first, so that a pl_frame's address is its slot's. */
struct frame_slot {
    struct pl_frame frame;
    struct frame_pool *pool; /* immutable */
    uint8_t *pixels;         /* immutable; [capacity] */
    atomic_int refs;         /* 0: free */
    char truth[FRAME_TRUTH_BYTES];
};

struct frame_pool {
    int n_slots;        /* immutable */
    int64_t max_pixels; /* immutable */
    atomic_int users;   /* the owner, and one for each slot in use; the last frees everything */
    struct frame_slot slot[];
};

static size_t frame_slot_bytes(int64_t max_pixels)
{
    return ((size_t)max_pixels * 3 + PIXEL_ALIGN - 1) / PIXEL_ALIGN * PIXEL_ALIGN;
}

static size_t frame_pool_head_bytes(int n_slots)
{
    size_t bytes = sizeof(struct frame_pool) + (size_t)n_slots * sizeof(struct frame_slot);
    return (bytes + PIXEL_ALIGN - 1) / PIXEL_ALIGN * PIXEL_ALIGN;
}

uint64_t frame_pool_plan_bytes(int n_slots, int64_t max_pixels)
{
    return frame_pool_head_bytes(n_slots) + (uint64_t)n_slots * frame_slot_bytes(max_pixels);
}

int frame_pool_open(int n_slots, int64_t max_pixels, struct frame_pool **ret_pool, struct err *err)
{
    assert(n_slots > 0 && max_pixels > 0);
    size_t head = frame_pool_head_bytes(n_slots);
    size_t bytes = head + (size_t)n_slots * frame_slot_bytes(max_pixels);
    struct frame_pool *pool = aligned_alloc(PIXEL_ALIGN, bytes);
    if (!pool)
        return err_set(err, ERR_NOMEM, "no memory for %d frames of %lld pixels (%zu bytes)", n_slots, (long long)max_pixels,
                       bytes);
    /* Touch everything now: what the hot path needs is there before it runs. */
    memset(pool, 0, bytes);
    pool->n_slots = n_slots;
    pool->max_pixels = max_pixels;
    atomic_init(&pool->users, 1);
    for (int i = 0; i < n_slots; i++) {
        struct frame_slot *s = &pool->slot[i];
        s->pool = pool;
        s->pixels = (uint8_t *)pool + head + (size_t)i * frame_slot_bytes(max_pixels);
        atomic_init(&s->refs, 0);
    }
    *ret_pool = pool;
    return 0;
}

static void frame_pool_leave(struct frame_pool *pool)
{
    if (atomic_fetch_sub_explicit(&pool->users, 1, memory_order_acq_rel) == 1)
        free(pool);
}

void frame_pool_close(struct frame_pool *pool)
{
    if (pool)
        frame_pool_leave(pool);
}

struct pl_frame *frame_pool_take(struct frame_pool *pool)
{
    for (int i = 0; i < pool->n_slots; i++) {
        struct frame_slot *s = &pool->slot[i];
        int expected = 0;
        if (!atomic_compare_exchange_strong_explicit(&s->refs, &expected, 1, memory_order_acquire, memory_order_relaxed))
            continue;
        atomic_fetch_add_explicit(&pool->users, 1, memory_order_relaxed);
        memset(&s->frame, 0, sizeof s->frame);
        return &s->frame;
    }
    return NULL;
}

struct pl_frame *pl_frame_ref(struct pl_frame *frame)
{
    struct frame_slot *s = (struct frame_slot *)frame;
    int before = atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    assert(before > 0);
    (void)before;
    return frame;
}

void pl_frame_unref(struct pl_frame *frame)
{
    if (!frame)
        return;
    struct frame_slot *s = (struct frame_slot *)frame;
    struct frame_pool *pool = s->pool;
    int before = atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before == 1)
        frame_pool_leave(pool);
}

uint8_t *frame_set_size(struct pl_frame *frame, int width_px, int height_px)
{
    struct frame_slot *s = (struct frame_slot *)frame;
    assert(width_px > 0 && height_px > 0 && (int64_t)width_px * height_px <= s->pool->max_pixels);
    frame->image = (struct image_view){
        .format = IMAGE_RGB24,
        .width_px = width_px,
        .height_px = height_px,
        .plane = {s->pixels},
        .stride_bytes = {(size_t)width_px * 3},
    };
    return s->pixels;
}

char *frame_truth_buffer(struct pl_frame *frame)
{
    return ((struct frame_slot *)frame)->truth;
}

void frame_fit(int64_t max_pixels, int width_px, int height_px, int *ret_width_px, int *ret_height_px)
{
    assert(max_pixels > 0 && width_px > 0 && height_px > 0);
    int64_t w = width_px, h = height_px;
    if (w * h > max_pixels) {
        double scale = sqrt((double)max_pixels / ((double)width_px * height_px));
        w = (int64_t)((double)width_px * scale + 0.5);
        h = (int64_t)((double)height_px * scale + 0.5);
        w = w < 1 ? 1 : w;
        h = h < 1 ? 1 : h;
        /* Rounding up may have gone over; a strip one pixel high or wide may be far over. Shorten the longer side. */
        if (w * h > max_pixels) {
            if (w >= h)
                w = max_pixels / h;
            else
                h = max_pixels / w;
        }
    }
    *ret_width_px = (int)w;
    *ret_height_px = (int)h;
}

uint64_t frame_hash(const struct pl_frame *frame)
{
    const struct image_view *v = &frame->image;
    int rows = v->height_px < 64 ? v->height_px : 64;
    size_t row_bytes = (size_t)v->width_px * 3;
    uint64_t h = (uint64_t)v->width_px << 32 | (uint32_t)v->height_px;
    for (int i = 0; i < rows; i++) {
        const uint8_t *p = v->plane[0] + (size_t)((int64_t)i * v->height_px / rows) * v->stride_bytes[0];
        size_t x = 0;
        for (; x + 8 <= row_bytes; x += 8) {
            uint64_t word;
            memcpy(&word, p + x, 8);
            h = (h ^ word) * UINT64_C(0x9E3779B97F4A7C15);
            h ^= h >> 29;
        }
        for (; x < row_bytes; x++)
            h = (h ^ p[x]) * UINT64_C(0x100000001B3);
    }
    return h;
}
