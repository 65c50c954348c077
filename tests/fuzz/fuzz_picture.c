/* Picture files: sniffing, structure walk, orientation, conversion. libavcodec's decoders are in the way but not the target. */
#include "engine/picture.h"
#include "tests/fuzz/fuzz.h"

#define MAX_PIXELS (1 << 20) /* a few bytes can state a wall of a picture: time better spent elsewhere */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    struct en_picture picture = {0};
    const enum picture_kind kind = picture_sniff(data, size);

    (void)picture_is_whole(kind, data, size);
    if (picture_decode(data, size, "fuzz", MAX_PIXELS, &picture, &err) != 0) {
        if (err.code == 0 || picture.pixels)
            abort();
        return 0;
    }
    /* every pixel is there */
    const struct image_view *v = &picture.view;
    volatile unsigned sum = 0;
    for (int y = 0; y < v->height_px; y++)
        sum += v->plane[0][(size_t)y * v->stride_bytes[0] + 3 * (size_t)v->width_px - 1];
    en_picture_free(&picture);
    return 0;
}
