/*
 * url - a camera's source, taken apart and checked.
 *
 * A pure parser of one line of text: no I/O, no memory but the struct. User info is taken out of the location, so that what is
 * left may be shown to anybody.
 */
#ifndef HERON_PIPELINE_URL_H
#define HERON_PIPELINE_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum url_kind { URL_FILE, URL_RTSP, URL_V4L2, URL_GST, URL_SYNTH };

#define URL_MAX_BYTES 2048

struct url {
    enum url_kind kind;
    char location[URL_MAX_BYTES]; /* FILE: path; V4L2: node; GST: description; SYNTH: scene; RTSP: the URL without user info */
    /* RTSP only */
    bool is_tls;
    char host[256]; /* without the brackets of an IPv6 address */
    int port;
    char user[128], password[128]; /* "" where the URL has none; percent-decoded */
    /* FILE, SYNTH */
    bool is_once; /* loop=no */
    bool is_fast; /* pace=fast */
    /* SYNTH */
    uint64_t seed;
    int width_px, height_px;
    double fps;
    bool is_h264; /* codec=h264 */
    int quality;  /* of that codec, CODEC_QUALITY_MIN to _MAX */
};

/*
 * Parse `source`. *ret_url is untouched on failure. Errors: ERR_INVAL, the cause in words and without user info; for an unknown
 * option the nearest known one is named. Scenes are not checked here (scene.h knows them).
 */
int url_parse(const char *source, struct url *ret_url, struct err *err);

/* The candidate nearest to `word` by edit distance, or NULL where none is near enough to be meant. names: n_names strings. */
const char *url_nearest(const char *word, const char *const *names, int n_names);

#endif
