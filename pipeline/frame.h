/*
 * frame - the fixed pool of pictures of one camera.
 *
 * Life cycle: frame_pool_open -> frame_pool_take a free slot, write picture and times into it (writable while it has not been
 * handed on), hand it on; the last pl_frame_unref gives it back -> frame_pool_close, after which the pool's memory lives
 * until its last frame comes home.
 *
 * Threads: take from one thread (the supervisor); ref and unref from any. Memory: one allocation at open, nothing later.
 * Invariant: a slot is free, being written (one reference), or published (immutable).
 */
#ifndef HERON_PIPELINE_FRAME_H
#define HERON_PIPELINE_FRAME_H

#include "pipeline/pipeline.h"

#define FRAME_TRUTH_BYTES PL_TRUTH_BYTES

struct frame_pool;

/* Bytes that frame_pool_open allocates. */
uint64_t frame_pool_plan_bytes(int n_slots, int64_t max_pixels);

/* n_slots RGB24 slots of up to max_pixels each. Errors: ERR_NOMEM. */
int frame_pool_open(int n_slots, int64_t max_pixels, struct frame_pool **ret_pool, struct err *err);

/* Give up the pool; frames that others hold stay valid. Takes NULL. */
void frame_pool_close(struct frame_pool *pool);

/* A free slot with one reference, or NULL when all are in use. Never blocks. */
struct pl_frame *frame_pool_take(struct frame_pool *pool);

/*
 * Set the picture's size: rows are packed. Returns the pixels to write, [height, width, 3]. The slot must be unpublished and
 * width * height <= max_pixels (asserted: sources fit their pictures with frame_fit).
 */
uint8_t *frame_set_size(struct pl_frame *frame, int width_px, int height_px);

/* The slot's buffer for the truth, FRAME_TRUTH_BYTES; pl_frame.truth is NULL until the writer points it here. */
char *frame_truth_buffer(struct pl_frame *frame);

/* The largest size of the same aspect with at most max_pixels, never larger than given; both at least 1. */
void frame_fit(int64_t max_pixels, int width_px, int height_px, int *ret_width_px, int *ret_height_px);

/* A hash over up to 64 rows spread over the picture: equal pictures, equal hashes. Cost: at most 64 rows. */
uint64_t frame_hash(const struct pl_frame *frame);

#endif
