/*
 * decoder - which decoder to use for a codec, learnt from experience.
 *
 * That an element exists proves nothing: vendor decoders are known to start and then give no picture for ever. So each codec has
 * an ordered list; the first that is not marked bad is tried; one that gave no picture in time is marked bad for this process,
 * unless it decoded for some camera before, in which case the stream is at fault. When all are bad all are forgiven, so that a
 * broken stream cannot take decoding away from every camera.
 *
 * Threads: any; one mutex inside. Memory: static.
 */
#ifndef HERON_PIPELINE_DECODER_H
#define HERON_PIPELINE_DECODER_H

#include <stdbool.h>

struct decoder; /* one entry of a list; lives for ever */

/*
 * The next decoder to try for "h264", "h265" or "mjpeg". NULL when none is left: every entry was found missing or bad; the next
 * call begins anew (those found missing stay out).
 */
struct decoder *decoder_pick(const char *codec);

/* Its launch fragment, such as "avdec_h264 max-threads=1". */
const char *decoder_launch(const struct decoder *decoder);

void decoder_mark_missing(struct decoder *decoder);
void decoder_mark_good(struct decoder *decoder);

/* It gave no picture. Returns false if it is proven and so stays. */
bool decoder_mark_bad(struct decoder *decoder);

/* Replace a codec's list (NULL: the built-in one) and forget what was learnt. launch: NULL-terminated, static. For tests. */
void decoder_set_list(const char *codec, const char *const *launch);

#endif
