#include "kernels/team/wire.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define OUT_BYTES  ((size_t)256 << 10)
#define IN_BYTES   ((size_t)64 << 10)
#define SILENCE_MS 60000 /* of the other end in the middle of a swap, which it computes no longer than seconds for */
#define LOST_MS    20000 /* what is sent and not acknowledged for so long is lost */
#define CONNECT_S  10
#define SPIN_NS    200000

#define MESSAGE_MOST ((uint64_t)16 << 30) /* what begins as one that is longer is none */

struct head {
    uint32_t kind, spare;
    uint64_t bytes;
};

int wire_init(struct wire *w, int fd, const char *peer, struct err *err)
{
    *w = (struct wire){.fd = fd};
    snprintf(w->peer, sizeof w->peer, "%s", peer);
    w->out = malloc(OUT_BYTES);
    w->in = malloc(IN_BYTES);
    if (w->out && w->in)
        return 0;
    wire_release(w);
    return err_set(err, ERR_NOMEM, "out of memory: buffers of a connection");
}

void wire_release(struct wire *w)
{
    if (w->out && w->fd >= 0)
        close(w->fd);
    free(w->out);
    free(w->in);
    free(w->message);
    *w = (struct wire){.fd = -1};
}

static int lost(struct wire *w, const char *what)
{
    if (w->err.code == 0)
        err_set(&w->err, ERR_DEVICE, "the connection to %s is lost: %s", w->peer, what);
    return w->err.code;
}

/* ---- sending -------------------------------------------------------------------------------------------------------------- */

static void send_all(struct wire *w, const unsigned char *data, size_t bytes)
{
    while (bytes > 0 && w->err.code == 0) {
        const ssize_t n = send(w->fd, data, bytes, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            lost(w, strerror(errno));
        if (n > 0)
            data += n, bytes -= (size_t)n;
    }
}

int wire_flush(struct wire *w)
{
    const size_t n = w->n_out;
    w->n_out = 0;
    send_all(w, w->out, n);
    return w->err.code;
}

void wire_put(struct wire *w, const void *data, size_t bytes)
{
    if (bytes == 0)
        return;
    if (w->n_out + bytes > OUT_BYTES)
        wire_flush(w);
    if (bytes > OUT_BYTES) {
        send_all(w, data, bytes);
        return;
    }
    memcpy(w->out + w->n_out, data, bytes);
    w->n_out += bytes;
}

void wire_begin(struct wire *w, uint32_t kind, size_t bytes)
{
    wire_put(w, &(struct head){.kind = kind, .bytes = bytes}, sizeof(struct head));
}

/* ---- receiving ------------------------------------------------------------------------------------------------------------ */

/* Wait until the socket is ready for `events`. false: the time is over (-1: there is none), or an error (w->err). */
static bool wait_until_ready(struct wire *w, short events, int most_ms)
{
    struct pollfd p = {.fd = w->fd, .events = events};
    const int64_t start = clock_now_ns();
    int n;
    do /* in the middle of a step the other end is microseconds away, and to sleep and wake up takes longer */
        n = poll(&p, 1, 0);
    while (n == 0 && clock_now_ns() - start < SPIN_NS);
    while (n == 0 || (n < 0 && errno == EINTR)) {
        n = poll(&p, 1, most_ms);
        if (n == 0)
            return false;
    }
    if (n < 0)
        lost(w, strerror(errno));
    return n > 0;
}

/* One receive. 0: nothing has come yet, the end (*ret_is_end), or an error (w->err). */
static size_t receive(struct wire *w, void *dst, size_t most, bool waits, bool *ret_is_end)
{
    ssize_t n;
    if (waits && !wait_until_ready(w, POLLIN, w->patience_s > 0 ? 1000 * w->patience_s : -1)) {
        char what[48];
        snprintf(what, sizeof what, "no answer for %d s", w->patience_s);
        lost(w, what);
        return 0;
    }
    do
        n = recv(w->fd, dst, most, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    *ret_is_end = n == 0;
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
        lost(w, strerror(errno));
    return n > 0 ? (size_t)n : 0;
}

/* Bytes that are there already, or of one more receive, whose 0s these are. */
static size_t take_some(struct wire *w, void *dst, size_t most, bool waits, bool *ret_is_end)
{
    *ret_is_end = false;
    if (w->in_from == w->in_to && most >= IN_BYTES) /* long: not by way of the buffer */
        return receive(w, dst, most, waits, ret_is_end);
    if (w->in_from == w->in_to) {
        w->in_from = 0;
        w->in_to = receive(w, w->in, IN_BYTES, waits, ret_is_end);
    }
    const size_t n = w->in_to - w->in_from < most ? w->in_to - w->in_from : most;
    memcpy(dst, w->in + w->in_from, n);
    w->in_from += n;
    return n;
}

/* ret_is_end, where not NULL: the end came before the first byte. */
static int take_all(struct wire *w, void *dst, size_t bytes, bool *ret_is_end)
{
    size_t at = 0;
    while (at < bytes && w->err.code == 0) {
        bool is_end;
        at += take_some(w, (char *)dst + at, bytes - at, true, &is_end);
        if (is_end && at == 0 && ret_is_end) {
            *ret_is_end = true;
            return 0;
        }
        if (is_end)
            lost(w, "it was closed");
    }
    return w->err.code;
}

int wire_take(struct wire *w, uint32_t *ret_kind, const unsigned char **ret_payload, size_t *ret_bytes, bool *ret_is_end)
{
    struct head head;
    bool is_end = false;
    if (wire_flush(w) != 0 || take_all(w, &head, sizeof head, ret_is_end ? &is_end : NULL) != 0)
        return w->err.code;
    if (ret_is_end)
        *ret_is_end = is_end;
    if (is_end)
        return 0;
    if (head.bytes > MESSAGE_MOST)
        return w->err.code ? w->err.code : err_set(&w->err, ERR_FORMAT, "%s does not speak as Heron does", w->peer);
    if (head.bytes > w->message_cap) {
        unsigned char *more = realloc(w->message, head.bytes);
        if (!more)
            return lost(w, "no memory for a message");
        w->message = more;
        w->message_cap = head.bytes;
    }
    if (take_all(w, w->message, head.bytes, NULL) != 0)
        return w->err.code;
    *ret_kind = head.kind;
    *ret_payload = w->message;
    *ret_bytes = head.bytes;
    return 0;
}

/* ---- both at once ---------------------------------------------------------------------------------------------------------- */

/* Two pieces one after the other. */
struct pieces {
    unsigned char *data[2];
    size_t bytes[2];
};

static void pass(struct pieces *p, size_t n)
{
    for (int i = 0; i < 2 && n > 0; i++) {
        const size_t k = n < p->bytes[i] ? n : p->bytes[i];
        p->data[i] += k;
        p->bytes[i] -= k;
        n -= k;
    }
}

static int current(const struct pieces *p)
{
    return p->bytes[0] > 0 ? 0 : p->bytes[1] > 0 ? 1 : -1;
}

/* What the socket takes without waiting, of both pieces at once: each send may wake the other end. */
static void send_some(struct wire *w, struct pieces *p)
{
    struct iovec parts[2] = {{p->data[0], p->bytes[0]}, {p->data[1], p->bytes[1]}};
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    const ssize_t n = sendmsg(w->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0)
        pass(p, (size_t)n);
    else if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
        lost(w, strerror(errno));
}

int wire_swap(struct wire *w, const void *head, void *their_head, size_t head_bytes, const void *mine, void *theirs,
              size_t bytes)
{
    struct pieces out = {.data = {(unsigned char *)head, (unsigned char *)mine}, .bytes = {head_bytes, bytes}};
    struct pieces in = {.data = {their_head, theirs}, .bytes = {head_bytes, bytes}};
    wire_flush(w);
    while (w->err.code == 0 && (current(&out) >= 0 || current(&in) >= 0)) {
        int i;
        if (current(&out) >= 0)
            send_some(w, &out);
        bool is_closed = false;
        for (size_t n = 1; n > 0 && (i = current(&in)) >= 0; pass(&in, n))
            n = take_some(w, in.data[i], in.bytes[i], false, &is_closed);
        if (is_closed && w->err.code == 0)
            return lost(w, "it was closed");
        if (w->err.code != 0 || (current(&out) < 0 && current(&in) < 0))
            break;
        const short events = (short)((current(&in) >= 0 ? POLLIN : 0) | (current(&out) >= 0 ? POLLOUT : 0));
        if (!wait_until_ready(w, events, SILENCE_MS))
            return lost(w, "it has been silent for a minute");
    }
    return w->err.code;
}

/* ---- addresses ------------------------------------------------------------------------------------------------------------- */

/* "host:port" or "[v6]:port" into its parts. */
static int split(const char *address, char host[256], char port[16], struct err *err)
{
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0;
    const char *from = address;
    if (n >= 2 && address[0] == '[' && address[n - 1] == ']')
        from++, n -= 2;
    if (!colon || n == 0 || n >= 256 || strlen(colon + 1) == 0 || strlen(colon + 1) >= 16 ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return err_set(err, ERR_INVAL, "\"%s\" is no address: expected HOST:PORT", address);
    memcpy(host, from, n);
    host[n] = '\0';
    snprintf(port, 16, "%s", colon + 1);
    return 0;
}

static void set_up(int fd)
{
    const int on = 1, lost_ms = LOST_MS, idle_s = 10, every_s = 5, times = 3;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof every_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof times);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &lost_ms, sizeof lost_ms);
}

/* Linux lets connect wait as long as send may. */
static bool connect_soon(int fd, const struct addrinfo *a)
{
    const struct timeval most = {.tv_sec = CONNECT_S}, endless = {0};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
    if (connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
        errno = errno == EINPROGRESS ? ETIMEDOUT : errno;
        return false;
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &endless, sizeof endless);
    return true;
}

/* A socket that is connected to the address or listens on it. */
static int open_socket(const char *address, bool listens, int *ret_fd, struct err *err)
{
    char host[256], port[16];
    struct addrinfo *list = NULL;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = listens ? AI_PASSIVE : 0};
    int rc = split(address, host, port, err);
    if (rc != 0)
        return rc;
    const int found = getaddrinfo(host, port, &hints, &list);
    if (found != 0)
        return err_set(err, ERR_IO, "%s: %s", address, gai_strerror(found));
    int fd = -1, why = EADDRNOTAVAIL;
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        const int on = 1;
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && listens)
            setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (fd >= 0 && (listens ? bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, 1) != 0 : !connect_soon(fd, a))) {
            why = errno;
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    if (fd < 0)
        return err_set(err, ERR_IO, "%s %s: %s", listens ? "cannot listen on" : "nobody lends a device at", address,
                       strerror(why));
    if (!listens)
        set_up(fd);
    *ret_fd = fd;
    return 0;
}

int wire_connect(const char *address, int *ret_fd, struct err *err)
{
    return open_socket(address, false, ret_fd, err);
}

int wire_listen(const char *address, int *ret_fd, struct err *err)
{
    return open_socket(address, true, ret_fd, err);
}

/* What accept says of a connection that came to nothing (accept(2), "Error handling"); the next one may. */
static bool is_of_one_guest(int why)
{
    return why == EINTR || why == ECONNABORTED || why == ENETDOWN || why == EPROTO || why == ENOPROTOOPT || why == EHOSTDOWN ||
           why == ENONET || why == EHOSTUNREACH || why == EOPNOTSUPP || why == ENETUNREACH;
}

int wire_accept(int listener, int *ret_fd, char *ret_peer, size_t peer_bytes, struct err *err)
{
    struct sockaddr_storage from;
    socklen_t n = sizeof from;
    char host[200] = "somebody", port[16] = "";
    int fd;
    do
        fd = accept4(listener, (struct sockaddr *)&from, &n, SOCK_CLOEXEC);
    while (fd < 0 && is_of_one_guest(errno));
    if (fd < 0)
        return err_set_errno(err, ERR_IO, "accepting a connection");
    (void)getnameinfo((struct sockaddr *)&from, n, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(ret_peer, peer_bytes, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    set_up(fd);
    *ret_fd = fd;
    return 0;
}
