/*
 * image - a borrowed view of a picture: what pipeline and engine both understand.
 *
 * A view owns nothing and is a value: any thread. Whoever made it says how long the pixels live (a frame: until its last unref).
 */
#ifndef HERON_BASE_IMAGE_H
#define HERON_BASE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

enum image_format {
    IMAGE_RGB24, /* one plane, R G B bytes */
    IMAGE_NV12,  /* plane 0: Y; plane 1: U V interleaved, half size both ways */
    IMAGE_I420,  /* planes Y, U, V; U and V half size both ways */
    IMAGE_GRAY8, /* one plane */
};

struct image_view {
    enum image_format format;
    int width_px, height_px;
    const uint8_t *plane[3];
    size_t stride_bytes[3]; /* bytes from one row to the next; at least the row's own bytes */
};

#endif
