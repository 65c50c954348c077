/*
 * v4l2 - identity, formats and controls of cameras on a cable. The pictures themselves are moved by GStreamer's v4l2src.
 *
 * The home of libudev and of the V4L2 ioctls. The enumeration is in the door (pl_devices_open); here is what source_gst needs. Threads: any. Memory: none is kept.
 */
#ifndef HERON_PIPELINE_V4L2_H
#define HERON_PIPELINE_V4L2_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum v4l2_kind { V4L2_RAW, V4L2_MJPEG, V4L2_H264 };

struct v4l2_choice {
    enum v4l2_kind kind;
    int width_px, height_px;
};

/*
 * Open the node for a moment and choose what to ask of it: the smallest size of at least max_pixels (or the largest there is),
 * in raw pictures if they come at 10 per second or more, else as MJPEG, else H.264.
 *
 * Errors: ERR_NOT_FOUND (no such node), ERR_IO (cannot be opened: permission, busy), ERR_UNSUPPORTED (not a capture device, or none of
 * these formats).
 */
int v4l2_choose(const char *node, int64_t max_pixels, struct v4l2_choice *ret_choice, struct err *err);

#endif
