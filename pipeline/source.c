/* source - the table of kinds, and what can be said about a source without opening it. Pure but for the check of gst: */
#include "pipeline/source.h"

#include "pipeline/codec.h"
#include "pipeline/scene.h"

static const struct {
    const struct source_ops *ops;
} source_table[] = {
    [URL_FILE] = {&source_gst_file_ops}, [URL_RTSP] = {&source_gst_ops},    [URL_V4L2] = {&source_gst_ops},
    [URL_GST] = {&source_gst_ops},       [URL_SYNTH] = {&source_synth_ops},
};

const struct source_ops *source_ops_get(enum url_kind kind)
{
    return source_table[kind].ops;
}

int source_parse(const char *source, struct url *ret_url, struct err *err)
{
    struct url url;
    int rc = url_parse(source, &url, err);
    if (!rc && url.kind == URL_SYNTH)
        rc = scene_check(url.location, err);
    if (!rc && url.kind == URL_SYNTH && url.is_h264)
        rc = codec_loop_check(err);
    if (!rc && url.kind == URL_GST)
        rc = source_gst_check(url.location, err);
    if (!rc && ret_url)
        *ret_url = url;
    return rc;
}

int pl_source_check(const char *source, struct err *err)
{
    return source_parse(source, NULL, err);
}
