/*
 * probe - how far a source comes, step by step: the questions of somebody who types a camera's URL for the first time.
 *
 * Name and connection are tried by hand, because GStreamer's word for both is the same; the rest by running a source as a camera
 * would. Runs on the caller's thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "pipeline/source.h"

static const char *const probe_names[PL_PROBE_STEP_COUNT] = {"syntax", "name", "tcp", "auth", "path", "codec", "frames"};

const char *pl_probe_step_name(enum pl_probe_step step)
{
    return (unsigned)step < PL_PROBE_STEP_COUNT ? probe_names[step] : "?";
}

/* Wait for `events` on fd until the deadline. 0 or an errno. */
static int probe_poll(int fd, short events, int64_t deadline_ns)
{
    int64_t left_ms = (deadline_ns - clock_now_ns() + CLOCK_MS - 1) / CLOCK_MS;
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, left_ms > 0 ? (int)left_ms : 0) == 1 ? 0 : ETIMEDOUT;
}

/* Connect to one address within the time left. 0 or an errno; *ret_fd is the caller's. */
static int probe_connect_one(const struct addrinfo *a, int64_t deadline_ns, int *ret_fd)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    int code = connect(fd, a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno;
    if (code == EINPROGRESS) {
        socklen_t n = sizeof code;
        code = probe_poll(fd, POLLOUT, deadline_ns);
        if (!code && getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &n) < 0)
            code = errno;
    }
    if (code)
        close(fd);
    else
        *ret_fd = fd;
    return code;
}

/*
 * Ask for the methods, as every client's first request does: an open port proves neither that its program lives (the kernel accepts for
 * a hung one) nor that it speaks RTSP. Source: RFC 2326, section 10.1.
 */
static int probe_greet(const struct url *url, int fd, int64_t deadline_ns, struct err *err)
{
    char text[URL_MAX_BYTES + 64];
    int n = snprintf(text, sizeof text, "OPTIONS %s RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: heron\r\n\r\n", url->location);
    if (send(fd, text, (size_t)n, MSG_NOSIGNAL) != n)
        return err_set_errno(err, ERR_IO, "%s port %d takes no request", url->host, url->port);
    int code = probe_poll(fd, POLLIN, deadline_ns);
    if (code)
        return err_set(err, ERR_TIMEOUT, "%s port %d accepts connections, but does not answer", url->host, url->port);
    ssize_t got = recv(fd, text, 5, MSG_PEEK);
    if (got <= 0)
        return err_set(err, ERR_IO, "%s port %d closes the connection without an answer", url->host, url->port);
    if (memcmp(text, "RTSP/", (size_t)got) != 0)
        return err_set(err, ERR_IO, "%s port %d does not speak RTSP", url->host, url->port);
    return 0;
}

static int probe_network(const struct url *url, int64_t deadline_ns, struct pl_probe *p, struct err *err)
{
    char port[8];
    snprintf(port, sizeof port, "%d", url->port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list = NULL;
    int code = getaddrinfo(url->host, port, &hints, &list);
    if (code)
        return err_set(err, ERR_NOT_FOUND, "the name %s has no address: %s", url->host, gai_strerror(code));
    p->n_passed = PL_PROBE_TCP;
    int fd = -1;
    code = ETIMEDOUT;
    for (const struct addrinfo *a = list; a; a = a->ai_next)
        if ((code = probe_connect_one(a, deadline_ns, &fd)) == 0)
            break;
    freeaddrinfo(list);
    if (code)
        return err_set(err, ERR_IO, "%s port %d cannot be reached: %s", url->host, url->port, strerror(code));
    int rc = url->is_tls ? 0 : probe_greet(url, fd, deadline_ns, err);
    close(fd);
    if (!rc)
        p->n_passed = PL_PROBE_AUTH;
    return rc;
}

static int probe_path(const struct url *url, struct pl_probe *p, struct err *err)
{
    struct stat st;
    if (stat(url->location, &st) < 0)
        return err_set_errno(err, ERR_NOT_FOUND, "%s", url->location);
    p->n_passed = PL_PROBE_TCP;
    int fd = open(url->location, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(err, ERR_IO, "%s", url->location);
    close(fd);
    p->n_passed = PL_PROBE_AUTH;
    return 0;
}

/* What a source that ended tells about the steps. */
static int probe_verdict(enum source_event event, struct pl_probe *p, struct err *err)
{
    int code = err ? err->code : ERR_IO;
    if (event == SOURCE_AUTH)
        return p->n_passed = PL_PROBE_AUTH, ERR_IO;
    if (code == ERR_UNSUPPORTED) {
        p->n_passed = PL_PROBE_CODEC;
        return code;
    }
    /* A described stream means that the path is right; then it is the pictures that are missing. */
    p->n_passed = p->codec[0] ? PL_PROBE_FRAMES : PL_PROBE_PATH;
    return code;
}

static void probe_note(struct pl_probe *p, const struct source_info *info)
{
    memcpy(p->codec, info->codec, sizeof p->codec);
    memcpy(p->decoder, info->decoder, sizeof p->decoder);
    p->width_px = info->width_px;
    p->height_px = info->height_px;
    if (info->gop_frames > 1) {
        p->gop_frames = info->gop_frames;
        p->gop_s = (double)info->gop_ns / 1e9;
    }
}

/* Run one source until it told enough. *ret_event: SOURCE_NONE when all went well. */
static int probe_watch(const struct source_ops *ops, struct source *source, int64_t begin_ns, int64_t deadline_ns,
                       int64_t listen_ns, struct pl_probe *p, enum source_event *ret_event, struct err *err)
{
    int64_t first_ns = 0, last_ns = 0;
    int n_frames = 0;
    for (;;) {
        int64_t now = clock_now_ns();
        int64_t until = n_frames && first_ns + listen_ns < deadline_ns ? first_ns + listen_ns : deadline_ns;
        if (now >= until)
            break;
        enum source_event event = ops->wait(source, until, err);
        struct source_info info;
        ops->get_info(source, &info);
        probe_note(p, &info);
        if (event == SOURCE_FRAME) {
            last_ns = clock_now_ns();
            if (n_frames++ == 0) {
                first_ns = last_ns;
                p->elapsed_ns = first_ns - begin_ns;
            }
            /* three key frames: two distances; and a second of pictures for their rate */
            if (info.key_frames >= 3 && last_ns - first_ns >= CLOCK_S)
                break;
            continue;
        }
        if (event == SOURCE_END && n_frames)
            break;
        if (event != SOURCE_NONE) {
            *ret_event = event;
            return probe_verdict(event, p, err);
        }
    }
    if (!n_frames) {
        p->n_passed = p->codec[0] ? PL_PROBE_FRAMES : PL_PROBE_PATH;
        *ret_event = SOURCE_FAULT;
        return err_set(err, ERR_TIMEOUT, p->codec[0] ? "no picture came in time" : "no stream was described in time");
    }
    p->n_passed = PL_PROBE_STEP_COUNT;
    p->fps = n_frames >= 2 && last_ns > first_ns ? (n_frames - 1) / ((double)(last_ns - first_ns) / 1e9) : 0;
    *ret_event = SOURCE_NONE;
    return 0;
}

int pl_probe(const char *source_text, const char *user, const char *password, int64_t timeout_ns, struct pl_probe *ret_probe,
             struct err *err)
{
    int64_t begin_ns = clock_now_ns(), deadline_ns;
    struct pl_probe p = {.n_passed = PL_PROBE_SYNTAX};
    struct err local = {0};
    struct url url;
    if (timeout_ns <= 0)
        timeout_ns = 15 * CLOCK_S;
    deadline_ns = begin_ns + timeout_ns;
    int rc = source_parse(source_text, &url, &local);
    if (!rc) {
        p.n_passed = PL_PROBE_NAME;
        if (url.kind == URL_RTSP)
            rc = probe_network(&url, deadline_ns, &p, &local);
        else if (url.kind == URL_FILE || url.kind == URL_V4L2)
            rc = probe_path(&url, &p, &local);
    }
    const struct source_ops *ops = rc ? NULL : source_ops_get(url.kind);
    enum source_event event = SOURCE_AGAIN;
    for (int i_try = 0; !rc && event == SOURCE_AGAIN && i_try < 8; i_try++) {
        struct source_settings settings = {
            .url = &url,
            .user = user ? user : url.user,
            .password = password ? password
                        : user   ? ""
                                 : url.password,
            .max_pixels = 3840 * 2160,
            .latency_ms = 200,
            .timing = {.teardown_ns = 5 * CLOCK_S, .decoder_trial_ns = timeout_ns / 4},
        };
        struct source *source = NULL;
        err_clear(&local);
        rc = ops->open(&settings, &source, &local);
        if (rc) {
            event = SOURCE_FAULT;
            probe_verdict(event, &p, &local);
            break;
        }
        rc = probe_watch(ops, source, begin_ns, deadline_ns, timeout_ns / 3, &p, &event, &local);
        ops->close(source);
        if (event == SOURCE_AGAIN && i_try + 1 < 8)
            rc = 0;
    }
    *ret_probe = p;
    if (!rc)
        return 0;
    log_redact(local.text);
    return err_set(err, rc, "%s", local.text);
}
