/* url - schemes, percent-escapes, options. Pure; any thread. */
#include "pipeline/url.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/codec.h"

#define ARRAY_LEN(a) ((int)(sizeof(a) / sizeof(a)[0]))

/* Insertions, deletions, replacements and swaps of neighbours that turn a into b. */
static int url_distance(const char *a, const char *b)
{
    enum { MAX = 32 };
    int n = (int)strlen(a), m = (int)strlen(b);
    if (n > MAX || m > MAX)
        return MAX;
    int rows[3][MAX + 1]; /* of a's prefixes of length i - 2, i - 1, i */
    for (int j = 0; j <= m; j++)
        rows[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && above2[j - 2] + 1 < best)
                best = above2[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[n % 3][m];
}

const char *url_nearest(const char *word, const char *const *names, int n_names)
{
    const char *best = NULL;
    int best_distance = (int)strlen(word) / 2 + 2;
    for (int i = 0; i < n_names; i++) {
        int d = url_distance(word, names[i]);
        if (d < best_distance) {
            best_distance = d;
            best = names[i];
        }
    }
    return best;
}

static int url_hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decode n bytes into out[cap], NUL-terminated. `what` names the part in errors; the text itself may be secret. */
static int url_decode(const char *s, size_t n, char *out, size_t cap, const char *what, struct err *err)
{
    size_t o = 0;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (c == '%') {
            int hi = i + 2 < n ? url_hex(s[i + 1]) : -1;
            int lo = hi < 0 ? -1 : url_hex(s[i + 2]);
            if (lo < 0)
                return err_set(err, ERR_INVAL, "%s: `%%` must be followed by two hex digits (a plain %% is written %%25)",
                               what);
            c = (char)(hi << 4 | lo);
            if (c == 0)
                return err_set(err, ERR_INVAL, "%s: %%00 is not allowed", what);
            i += 2;
        }
        if (o + 1 >= cap)
            return err_set(err, ERR_INVAL, "%s: longer than %zu bytes", what, cap - 1);
        out[o++] = c;
    }
    out[o] = 0;
    return 0;
}

/* ---- options after `?` -------------------------------------------------------------------------------------------------- */

static int url_number(const char *value, double min, double max, const char *key, double *ret, struct err *err)
{
    char *end;
    errno = 0;
    double d = strtod(value, &end);
    if (!(value[0] >= '0' && value[0] <= '9') || *end || errno || !(d >= min && d <= max))
        return err_set(err, ERR_INVAL, "%s=%s: expected a number from %g to %g", key, value, min, max);
    *ret = d;
    return 0;
}

static int url_word(const char *value, const char *key, const char *is_true, const char *is_false, bool *ret, struct err *err)
{
    if (strcmp(value, is_true) == 0)
        *ret = true;
    else if (strcmp(value, is_false) == 0)
        *ret = false;
    else
        return err_set(err, ERR_INVAL, "%s=%s: expected %s or %s", key, value, is_true, is_false);
    return 0;
}

static int url_quality(const char *value, int *ret, struct err *err)
{
    int quality = 0, used = 0;
    if (strlen(value) > 3 || !isdigit((unsigned char)value[0]) || sscanf(value, "%3d%n", &quality, &used) != 1 || value[used] ||
        quality < CODEC_QUALITY_MIN || quality > CODEC_QUALITY_MAX)
        return err_set(err, ERR_INVAL, "quality=%s: expected a whole number from %d (best) to %d (worst)", value,
                       CODEC_QUALITY_MIN, CODEC_QUALITY_MAX);
    *ret = quality;
    return 0;
}

static int url_option(struct url *u, const char *key, const char *value, struct err *err)
{
    static const char *const file_keys[] = {"loop", "pace"};
    static const char *const synth_keys[] = {"seed", "size", "fps", "pace", "codec", "quality"};
    const char *const *keys = u->kind == URL_FILE ? file_keys : synth_keys;
    int n_keys = u->kind == URL_FILE ? ARRAY_LEN(file_keys) : ARRAY_LEN(synth_keys);
    bool known = false;
    for (int i = 0; i < n_keys; i++)
        known |= strcmp(key, keys[i]) == 0;
    if (!known) {
        const char *near = url_nearest(key, keys, n_keys);
        return err_set(err, ERR_INVAL, "unknown option `%s`%s%s%s", key, near ? ", did you mean `" : "", near ? near : "",
                       near ? "`?" : "");
    }
    if (strcmp(key, "loop") == 0)
        return url_word(value, key, "no", "yes", &u->is_once, err);
    if (strcmp(key, "pace") == 0)
        return url_word(value, key, "fast", "real", &u->is_fast, err);
    if (strcmp(key, "fps") == 0)
        return url_number(value, 0.1, 120, key, &u->fps, err);
    if (strcmp(key, "codec") == 0)
        return url_word(value, key, "h264", "none", &u->is_h264, err);
    if (strcmp(key, "quality") == 0)
        return url_quality(value, &u->quality, err);
    if (strcmp(key, "seed") == 0) {
        char *end;
        errno = 0;
        unsigned long long seed = strtoull(value, &end, 10);
        if (!isdigit((unsigned char)value[0]) || *end || errno)
            return err_set(err, ERR_INVAL, "seed=%s: expected a whole number below 2^64", value);
        u->seed = seed;
        return 0;
    }
    int w = 0, h = 0, used = 0;
    if (strlen(value) > 11 || !isdigit((unsigned char)value[0]) || sscanf(value, "%5dx%5d%n", &w, &h, &used) != 2 ||
        value[used] || w < 64 || w > 3840 || h < 48 || h > 2160)
        return err_set(err, ERR_INVAL, "size=%s: expected WIDTHxHEIGHT from 64x48 to 3840x2160, such as 640x360", value);
    u->width_px = w;
    u->height_px = h;
    return 0;
}

static int url_options(struct url *u, const char *s, struct err *err)
{
    while (*s) {
        size_t n = strcspn(s, "&");
        const char *eq = memchr(s, '=', n);
        char key[64], value[64];
        if (!eq)
            return err_set(err, ERR_INVAL, "option `%.*s`: expected key=value", (int)(n < 60 ? n : 60), s);
        int rc = url_decode(s, (size_t)(eq - s), key, sizeof key, "option", err);
        if (!rc)
            rc = url_decode(eq + 1, n - (size_t)(eq + 1 - s), value, sizeof value, key, err);
        if (!rc)
            rc = url_option(u, key, value, err);
        if (rc)
            return rc;
        s += n;
        if (*s == '&')
            s++;
    }
    return 0;
}

/* ---- schemes ------------------------------------------------------------------------------------------------------------ */

static int url_parse_file(struct url *u, const char *s, struct err *err)
{
    if (strncmp(s, "//", 2) == 0) {
        s += 2;
        if (strncmp(s, "localhost/", 10) == 0)
            s += 9;
        if (*s != '/')
            return err_set(err, ERR_INVAL, "file: a path after file:// starts with / (file:///abs/clip.mp4 or file:clip.mp4)");
    }
    size_t n = strcspn(s, "?");
    if (n == 0)
        return err_set(err, ERR_INVAL, "file: the path is missing (file:clip.mp4 or file:///abs/clip.mp4)");
    int rc = url_decode(s, n, u->location, sizeof u->location, "file", err);
    if (!rc && s[n] == '?') {
        rc = url_options(u, s + n + 1, err);
        if (rc)
            err_prefix(err, "file");
    }
    return rc;
}

static int url_parse_synth(struct url *u, const char *s, struct err *err)
{
    u->width_px = 640;
    u->height_px = 360;
    u->fps = 5;
    size_t n = strcspn(s, "?");
    if (n == 0)
        return err_set(err, ERR_INVAL, "synth: the scene is missing (synth:yard)");
    int rc = url_decode(s, n, u->location, 64, "synth: scene", err);
    if (!rc && s[n] == '?') {
        rc = url_options(u, s + n + 1, err);
        if (!rc && u->quality && !u->is_h264)
            rc = err_set(err, ERR_INVAL, "quality=%d: only codec=h264 has one", u->quality);
        if (rc)
            err_prefix(err, "synth");
    }
    if (u->quality == 0)
        u->quality = CODEC_QUALITY_DEFAULT;
    return rc;
}

static int url_parse_rtsp(struct url *u, const char *scheme, const char *s, struct err *err)
{
    int rc;
    if (strncmp(s, "//", 2) != 0)
        return err_set(err, ERR_INVAL, "%s: expected %s://HOST/PATH", scheme, scheme);
    s += 2;
    u->is_tls = strcmp(scheme, "rtsps") == 0;
    u->port = u->is_tls ? 322 : 554;
    size_t n = strcspn(s, "/?#");
    const char *rest = s + n;
    /* The last @ ends the user info: a password with a plain @ in it is common and works everywhere else. */
    const char *at = memrchr(s, '@', n);
    if (at) {
        const char *colon = memchr(s, ':', (size_t)(at - s));
        const char *user_end = colon ? colon : at;
        rc = url_decode(s, (size_t)(user_end - s), u->user, sizeof u->user, "user name in the URL", err);
        if (!rc && colon)
            rc = url_decode(colon + 1, (size_t)(at - colon - 1), u->password, sizeof u->password, "password in the URL", err);
        if (rc)
            return err_prefix(err, "%s", scheme);
        n -= (size_t)(at + 1 - s);
        s = at + 1;
    }
    const char *host = s, *host_end;
    bool bracket = n && *s == '[';
    if (bracket) {
        host++;
        host_end = memchr(s, ']', n);
        if (!host_end)
            return err_set(err, ERR_INVAL, "%s: the `]` after an IPv6 address is missing", scheme);
    } else {
        host_end = memchr(s, ':', n);
        if (!host_end)
            host_end = s + n;
    }
    size_t host_bytes = (size_t)(host_end - host);
    if (host_bytes == 0)
        return err_set(err, ERR_INVAL, "%s: the host is missing (expected %s://HOST/PATH)", scheme, scheme);
    if (host_bytes >= sizeof u->host)
        return err_set(err, ERR_INVAL, "%s: the host is longer than %zu bytes", scheme, sizeof u->host - 1);
    for (size_t i = 0; i < host_bytes; i++) {
        unsigned char c = (unsigned char)host[i];
        bool good = isalnum(c) || c == '.' || c == '-' || c == '_' || c >= 0x80 || (bracket && (c == ':' || c == '%'));
        if (!good)
            return err_set(err, ERR_INVAL, "%s: a character of the host is not allowed (0x%02x)", scheme, c);
    }
    memcpy(u->host, host, host_bytes);
    u->host[host_bytes] = 0;
    const char *p = host_end + (bracket ? 1 : 0);
    if (p < s + n) {
        char *end;
        if (*p != ':')
            return err_set(err, ERR_INVAL, "%s: unexpected text after the host", scheme);
        long port = isdigit((unsigned char)p[1]) ? strtol(p + 1, &end, 10) : 0;
        if (port < 1 || port > 65535 || end != s + n)
            return err_set(err, ERR_INVAL, "%s: the port must be a number from 1 to 65535", scheme);
        u->port = (int)port;
    }
    for (const char *c = rest; *c; c++)
        if ((unsigned char)*c <= 0x20)
            return err_set(err, ERR_INVAL, "%s: white space in the path must be written %%20", scheme);
    int len = snprintf(u->location, sizeof u->location, "%s://%s%s%s:%d%s", scheme, bracket ? "[" : "", u->host,
                       bracket ? "]" : "", u->port, rest);
    if (len < 0 || (size_t)len >= sizeof u->location)
        return err_set(err, ERR_INVAL, "%s: the URL is longer than %d bytes", scheme, URL_MAX_BYTES - 1);
    return 0;
}

static int url_parse_v4l2(struct url *u, const char *s, struct err *err)
{
    if (strncmp(s, "/dev/", 5) != 0)
        return err_set(err, ERR_INVAL, "v4l2: expected a device node, such as v4l2:/dev/v4l/by-id/NAME or v4l2:/dev/video0");
    snprintf(u->location, sizeof u->location, "%s", s);
    return 0;
}

static int url_parse_gst(struct url *u, const char *s, struct err *err)
{
    if (s[strspn(s, " \t\r\n")] == 0)
        return err_set(err, ERR_INVAL, "gst: the pipeline description is missing (gst:videotestsrc is-live=true)");
    snprintf(u->location, sizeof u->location, "%s", s);
    return 0;
}

int url_parse(const char *source, struct url *ret_url, struct err *err)
{
    static const char *const schemes[] = {"file", "rtsp", "rtsps", "v4l2", "gst", "synth"};
    static const enum url_kind kinds[] = {URL_FILE, URL_RTSP, URL_RTSP, URL_V4L2, URL_GST, URL_SYNTH};
    if (strlen(source) >= URL_MAX_BYTES)
        return err_set(err, ERR_INVAL, "source: longer than %d bytes", URL_MAX_BYTES - 1);
    for (const char *c = source; *c; c++)
        if ((unsigned char)*c < 0x20 && *c != '\t' && *c != '\n' && *c != '\r')
            return err_set(err, ERR_INVAL, "source: a control character (0x%02x) is not allowed", (unsigned char)*c);
    size_t n = strcspn(source, ":");
    char scheme[16] = "";
    if (source[n] != ':' || n == 0 || n >= sizeof scheme)
        return err_set(err, ERR_INVAL, "source: expected file:, rtsp://, rtsps://, v4l2:, gst: or synth: at the beginning");
    memcpy(scheme, source, n);
    struct url u = {0};
    int i = 0;
    while (i < ARRAY_LEN(schemes) && strcmp(scheme, schemes[i]) != 0)
        i++;
    if (i == ARRAY_LEN(schemes)) {
        const char *near = url_nearest(scheme, schemes, ARRAY_LEN(schemes));
        return err_set(err, ERR_INVAL,
                       "source: unknown scheme `%s:`, expected file:, rtsp:, rtsps:, v4l2:, gst: or synth:%s%s%s", scheme,
                       near ? "; did you mean `" : "", near ? near : "", near ? ":`?" : "");
    }
    u.kind = kinds[i];
    const char *s = source + n + 1;
    int rc = u.kind == URL_FILE   ? url_parse_file(&u, s, err)
             : u.kind == URL_RTSP ? url_parse_rtsp(&u, scheme, s, err)
             : u.kind == URL_V4L2 ? url_parse_v4l2(&u, s, err)
             : u.kind == URL_GST  ? url_parse_gst(&u, s, err)
                                  : url_parse_synth(&u, s, err);
    if (!rc)
        *ret_url = u;
    return rc;
}
