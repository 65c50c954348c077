/*
 * control: a listener and a few clients under one epoll. A client is interested either in what comes (no whole line yet) or in being
 * writable (a reply, or a line that is already here, waits): so nothing is read ahead of what was answered.
 */
#include "appliance/control.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "appliance/payload.h"
#include "base/clock.h"

#define SOCKET_NAME  "heron.sock"
#define SYSTEM_DIR   "/run/heron"
#define PATIENCE_NS  (10 * CLOCK_S) /* for a whole line, and for a reply to be taken */
#define RETRY_NS     CLOCK_S        /* before accepting again when the process is out of descriptors */
#define BACKLOG      64
#define LISTENER     CONTROL_CLIENTS_MAX /* epoll's number of it; clients have their slot's */
#define PATH_BYTES   sizeof(((struct sockaddr_un *)0)->sun_path)
#define CONNECT_NAP  (2 * CLOCK_MS)
#define PARSE_FLAGS  (JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL)
#define REPLY_NO_MEM "{\"ok\":false,\"error\":\"out of memory\"}"

struct client {
    int fd; /* -1: a free slot */
    char in[CONTROL_LINE_MAX + 1];
    size_t n_in;
    char *out; /* the reply with its newline; NULL: none waits */
    size_t n_out, n_sent;
    int64_t due_ns; /* closed then */
    bool is_eof;    /* nothing more will come; what came is still answered */
};

struct control {
    char path[PATH_BYTES];
    int lock_fd, listen_fd, epoll_fd;
    bool is_bound;
    bool is_deaf;     /* the listener is not watched: no slot, or no descriptors */
    int64_t retry_ns; /* no descriptors: try again then; INT64_MAX: not so */
    control_fn handle;
    void *ctx;
    struct client clients[CONTROL_CLIENTS_MAX];
};

/* ---- places --------------------------------------------------------------------------------------------------------------- */

/* One place where a daemon may live. */
struct place {
    char dir[PATH_MAX];
    mode_t mode;     /* to make it with */
    bool is_private; /* must belong to this user, and only this user may write in it */
};

enum { PLACE_SERVICE, PLACE_SYSTEM, PLACE_SESSION, PLACE_TMP, N_PLACES };

/* false: there is none of this kind. */
static bool place_get(int kind, struct place *ret_place)
{
    const char *env = NULL;
    *ret_place = (struct place){.mode = 0700, .is_private = true};
    switch (kind) {
    case PLACE_SERVICE: /* systemd names several, with colons */
        env = getenv("RUNTIME_DIRECTORY");
        if (!env || env[0] != '/')
            return false;
        *ret_place = (struct place){.mode = 0755};
        snprintf(ret_place->dir, sizeof ret_place->dir, "%.*s", (int)strcspn(env, ":"), env);
        return true;
    case PLACE_SYSTEM: *ret_place = (struct place){.dir = SYSTEM_DIR, .mode = 0755}; return true;
    case PLACE_SESSION:
        env = getenv("XDG_RUNTIME_DIR");
        if (!env || env[0] != '/')
            return false;
        snprintf(ret_place->dir, sizeof ret_place->dir, "%s/heron", env);
        return true;
    default: snprintf(ret_place->dir, sizeof ret_place->dir, "/tmp/heron-%u", (unsigned)geteuid()); return true;
    }
}

/* Whether the directory is one that this process may trust: nobody else can put a socket there. */
static int place_check(const struct place *place, struct err *err)
{
    struct stat st;
    if (lstat(place->dir, &st) != 0)
        return err_set_errno(err, ERR_IO, "%s", place->dir);
    if (!place->is_private && stat(place->dir, &st) != 0)
        return err_set_errno(err, ERR_IO, "%s", place->dir);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ERR_IO, "%s is no directory: remove it", place->dir);
    if (place->is_private && st.st_uid != geteuid())
        return err_set(err, ERR_IO, "%s belongs to user %u, not to user %u: remove it", place->dir, (unsigned)st.st_uid,
                       (unsigned)geteuid());
    if (place->is_private && (st.st_mode & 022))
        return err_set(err, ERR_IO, "%s can be written by others (mode %04o): chmod 700 it", place->dir,
                       (unsigned)st.st_mode & 07777);
    return 0;
}

static int place_make(const struct place *place, struct err *err)
{
    if (mkdir(place->dir, place->mode) != 0 && errno != EEXIST)
        return err_set_errno(err, ERR_IO, "cannot make %s", place->dir);
    const int rc = place_check(place, err);
    if (rc != 0)
        return rc;
    if (access(place->dir, W_OK | X_OK) != 0)
        return err_set_errno(err, ERR_IO, "cannot write in %s", place->dir);
    return 0;
}

static int path_join(const char *dir, char ret_path[PATH_BYTES], struct err *err)
{
    const int n = snprintf(NULL, 0, "%s/" SOCKET_NAME, dir);
    if (n < 0 || (size_t)n >= PATH_BYTES)
        return err_set(err, ERR_INVAL, "%s/" SOCKET_NAME ": %d bytes, and a socket's path has at most %zu", dir, n,
                       PATH_BYTES - 1);
    snprintf(ret_path, PATH_BYTES, "%s/" SOCKET_NAME, dir);
    return 0;
}

/* Where this daemon's socket goes; its directory is made. */
static int choose_path(char ret_path[PATH_BYTES], struct err *err)
{
    struct place place;
    if (place_get(PLACE_SERVICE, &place)) {
        const int rc = place_make(&place, err);
        return rc != 0 ? rc : path_join(place.dir, ret_path, err);
    }
    for (int kind = PLACE_SYSTEM; kind < PLACE_TMP; kind++) {
        if (place_get(kind, &place) && place_make(&place, NULL) == 0 && path_join(place.dir, ret_path, NULL) == 0)
            return 0;
    }
    place_get(PLACE_TMP, &place);
    const int rc = place_make(&place, err);
    return rc != 0 ? rc : path_join(place.dir, ret_path, err);
}

/* ---- one daemon ----------------------------------------------------------------------------------------------------------- */

/* The lock is held by the open file: it goes with the process, however that ends. */
static int take_lock(struct control *control, struct err *err)
{
    char path[PATH_BYTES + 8], pid[24] = "";
    snprintf(path, sizeof path, "%s.lock", control->path);
    control->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (control->lock_fd < 0)
        return err_set_errno(err, ERR_IO, "%s", path);
    if (flock(control->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK)
            return err_set_errno(err, ERR_IO, "cannot lock %s", path);
        const ssize_t n = pread(control->lock_fd, pid, sizeof pid - 1, 0);
        pid[n > 0 ? n : 0] = '\0';
        pid[strspn(pid, "0123456789")] = '\0';
        return err_set(err, ERR_STATE, "heron runs already: process %s holds %s", *pid ? pid : "(just starting)", path);
    }
    const int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(control->lock_fd, 0) != 0 || pwrite(control->lock_fd, pid, (size_t)n, 0) != n)
        return err_set_errno(err, ERR_IO, "cannot write %s", path);
    return 0;
}

/* With the lock held, a socket that is there belongs to a dead daemon. */
static int bind_socket(struct control *control, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;
    memcpy(address.sun_path, control->path, sizeof address.sun_path);
    if (lstat(control->path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode))
            return err_set(err, ERR_IO, "%s is there and is no socket: remove it", control->path);
        if (unlink(control->path) != 0)
            return err_set_errno(err, ERR_IO, "cannot remove the old %s", control->path);
    }
    control->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (control->listen_fd < 0)
        return err_set_errno(err, ERR_IO, "cannot make a socket");
    /* before bind this sets the mode that the file is born with, less the umask: never wider than meant, not even for an instant */
    (void)fchmod(control->listen_fd, 0660);
    if (bind(control->listen_fd, (const struct sockaddr *)&address, sizeof address) != 0)
        return err_set_errno(err, ERR_IO, "cannot bind %s", control->path);
    control->is_bound = true;
    if (chmod(control->path, 0660) != 0)
        return err_set_errno(err, ERR_IO, "cannot set the mode of %s", control->path);
    if (listen(control->listen_fd, BACKLOG) != 0)
        return err_set_errno(err, ERR_IO, "cannot listen at %s", control->path);
    return 0;
}

static int watch_fd(struct control *control, int op, int fd, uint32_t number, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u32 = number};
    return epoll_ctl(control->epoll_fd, op, fd, &event);
}

int control_open(const char *path, control_fn handle, void *ctx, struct control **ret_control, struct err *err)
{
    int rc = 0;
    struct control *control = calloc(1, sizeof *control);
    if (!control)
        return err_set(err, ERR_NOMEM, "no memory for the control socket");
    *control =
        (struct control){.lock_fd = -1, .listen_fd = -1, .epoll_fd = -1, .retry_ns = INT64_MAX, .handle = handle, .ctx = ctx};
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
        control->clients[i].fd = -1;

    if (!path) {
        if ((rc = choose_path(control->path, err)) != 0)
            goto fail;
    } else if (!*path || strlen(path) >= PATH_BYTES) {
        rc = err_set(err, ERR_INVAL, "%s: a socket's path has 1 to %zu bytes", path, PATH_BYTES - 1);
        goto fail;
    } else {
        memcpy(control->path, path, strlen(path));
    }
    if ((rc = take_lock(control, err)) != 0 || (rc = bind_socket(control, err)) != 0)
        goto fail;
    control->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (control->epoll_fd < 0 || watch_fd(control, EPOLL_CTL_ADD, control->listen_fd, LISTENER, EPOLLIN) != 0) {
        rc = err_set_errno(err, ERR_IO, "cannot watch %s", control->path);
        goto fail;
    }
    *ret_control = control;
    return 0;
fail:
    control_close(control);
    return rc;
}

static void client_close(struct client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    free(client->out);
    client->fd = -1;
    client->out = NULL;
}

void control_close(struct control *control)
{
    if (!control)
        return;
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
        client_close(&control->clients[i]);
    if (control->epoll_fd >= 0)
        close(control->epoll_fd);
    if (control->listen_fd >= 0)
        close(control->listen_fd);
    if (control->is_bound) {
        unlink(control->path);
        /* the lock file stays: were it removed, two could hold locks on different files of one name. But it names nobody any more */
        if (ftruncate(control->lock_fd, 0) != 0)
            errno = 0;
    }
    if (control->lock_fd >= 0)
        close(control->lock_fd);
    free(control);
}

int control_fd(const struct control *control)
{
    return control->epoll_fd;
}

const char *control_path(const struct control *control)
{
    return control->path;
}

int64_t control_next_ns(const struct control *control)
{
    int64_t next_ns = control->retry_ns;
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        const struct client *c = &control->clients[i];
        if (c->fd >= 0 && c->due_ns < next_ns)
            next_ns = c->due_ns;
    }
    return next_ns;
}

/* ---- requests ------------------------------------------------------------------------------------------------------------- */

int control_parse(const char *line, size_t n, char ret_command[CONTROL_COMMAND_MAX], struct err *err)
{
    int rc = 0;
    json_error_t why;
    json_t *request = json_loadb(line, n, PARSE_FLAGS, &why);
    const json_t *command = json_object_get(request, "command"); /* of anything but an object: NULL */
    const size_t n_command = json_string_length(command);

    if (!request)
        rc = err_set(err, ERR_FORMAT, "the request is no JSON: column %d: %s", why.column, why.text);
    else if (!json_is_object(request))
        rc = err_set(err, ERR_FORMAT, "the request is JSON but no object");
    else if (!json_is_string(command))
        rc = err_set(err, ERR_FORMAT, "the request has no \"command\" that is a string");
    else if (n_command == 0 || n_command >= CONTROL_COMMAND_MAX || strlen(json_string_value(command)) != n_command)
        rc = err_set(err, ERR_FORMAT, "a command has 1 to %d bytes and no NUL", CONTROL_COMMAND_MAX - 1);
    else
        memcpy(ret_command, json_string_value(command), n_command + 1);
    json_decref(request);
    return rc;
}

/* The reply of a line, with a newline; the client is without one until then. */
static void answer(struct control *control, struct client *client, const char *line, size_t n)
{
    char command[CONTROL_COMMAND_MAX];
    struct err err = {0};
    char *text = control_parse(line, n, command, &err) == 0 ? control->handle(control->ctx, command) : payload_reply(err.text);
    if (!text)
        text = strdup(REPLY_NO_MEM);
    const size_t n_text = text ? strlen(text) : 0;
    assert(!text || !memchr(text, '\n', n_text));
    char *with_newline = text ? realloc(text, n_text + 2) : NULL;
    if (!with_newline) {
        free(text);
        client_close(client);
        return;
    }
    memcpy(with_newline + n_text, "\n", 2);
    client->out = with_newline;
    client->n_out = n_text + 1;
    client->n_sent = 0;
}

/* ---- clients -------------------------------------------------------------------------------------------------------------- */

static void client_send(struct client *client)
{
    while (client->fd >= 0 && client->out) {
        const ssize_t n = send(client->fd, client->out + client->n_sent, client->n_out - client->n_sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n < 0) {
            client_close(client);
            return;
        }
        client->n_sent += (size_t)n;
        if (client->n_sent == client->n_out) {
            free(client->out);
            client->out = NULL;
            client->due_ns = clock_now_ns() + PATIENCE_NS;
        }
    }
}

static void client_receive(struct client *client)
{
    ssize_t n;
    do
        n = recv(client->fd, client->in + client->n_in, sizeof client->in - client->n_in, 0);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        client->n_in += (size_t)n;
    else if (n == 0)
        client->is_eof = true;
    else if (errno != EAGAIN && errno != EWOULDBLOCK)
        client_close(client);
}

/* Bytes of the first line with its newline; 0: no whole line is here. */
static size_t line_length(const struct client *client)
{
    const char *newline = memchr(client->in, '\n', client->n_in);
    return newline ? (size_t)(newline - client->in) + 1 : 0;
}

/* As far as it goes without waiting, but at most one request. */
static void client_step(struct control *control, int slot, uint32_t events)
{
    struct client *client = &control->clients[slot];

    client_send(client);
    if (client->fd >= 0 && !client->out && line_length(client) == 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        client_receive(client);
    if (client->fd >= 0 && !client->out) {
        const size_t n = line_length(client);
        if (n > 0) {
            client->due_ns = clock_now_ns() + PATIENCE_NS;
            answer(control, client, client->in, n - 1);
            client->n_in -= n;
            memmove(client->in, client->in + n, client->n_in);
            client_send(client);
        } else if (client->n_in == sizeof client->in) {
            struct err err;
            err_set(&err, ERR_FORMAT, "a request has at most %d bytes", CONTROL_LINE_MAX);
            client->out = payload_reply(err.text);
            if (client->out) { /* as a farewell, if there is room for it */
                client->n_out = strlen(client->out);
                client->out[client->n_out++] = '\n'; /* over its NUL */
                client->n_sent = 0;
                client_send(client);
            }
            client_close(client);
        }
    }
    if (client->fd < 0)
        return;
    const bool has_work = client->out || line_length(client) > 0;
    if ((client->is_eof && !has_work) ||
        watch_fd(control, EPOLL_CTL_MOD, client->fd, (uint32_t)slot, has_work ? EPOLLOUT : EPOLLIN) != 0)
        client_close(client);
}

static int free_slot(const struct control *control)
{
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        if (control->clients[i].fd < 0)
            return i;
    }
    return -1;
}

/* Listen only when somebody can be let in: a listener with a queue would keep the descriptor readable. */
static void set_deaf(struct control *control, bool is_deaf)
{
    if (is_deaf == control->is_deaf)
        return;
    if (watch_fd(control, EPOLL_CTL_MOD, control->listen_fd, LISTENER, is_deaf ? 0 : EPOLLIN) == 0)
        control->is_deaf = is_deaf;
}

static void let_in(struct control *control)
{
    for (int slot; (slot = free_slot(control)) >= 0;) {
        struct client *client = &control->clients[slot];
        const int fd = accept4(control->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK)
                control->retry_ns = clock_now_ns() + RETRY_NS;
            return;
        }
        client->fd = fd;
        client->n_in = 0;
        client->is_eof = false;
        client->due_ns = clock_now_ns() + PATIENCE_NS;
        if (watch_fd(control, EPOLL_CTL_ADD, fd, (uint32_t)slot, EPOLLIN) != 0)
            client_close(client);
    }
}

void control_step(struct control *control)
{
    struct epoll_event events[CONTROL_CLIENTS_MAX + 1];
    const int n = epoll_wait(control->epoll_fd, events, CONTROL_CLIENTS_MAX + 1, 0);

    for (int i = 0; i < n; i++) {
        const uint32_t number = events[i].data.u32;
        if (number < CONTROL_CLIENTS_MAX && control->clients[number].fd >= 0)
            client_step(control, (int)number, events[i].events);
    }
    const int64_t now_ns = clock_now_ns();
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        if (control->clients[i].fd >= 0 && control->clients[i].due_ns <= now_ns)
            client_close(&control->clients[i]);
    }
    if (control->retry_ns <= now_ns)
        control->retry_ns = INT64_MAX;
    if (control->retry_ns == INT64_MAX)
        let_in(control);
    set_deaf(control, control->retry_ns != INT64_MAX || free_slot(control) < 0);
}

/* ---- asking --------------------------------------------------------------------------------------------------------------- */

static int timed_out(const char *path, int64_t timeout_ns, struct err *err)
{
    return err_set(err, ERR_TIMEOUT, "the daemon at %s does not answer within %.1f s", path, (double)timeout_ns / 1e9);
}

/* ERR_NOT_FOUND: nobody listens there. */
static int dial(const char *path, int64_t timeout_ns, int64_t deadline_ns, int *ret_fd, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int rc = 0;
    if (strlen(path) >= PATH_BYTES)
        return err_set(err, ERR_INVAL, "%s: a socket's path has at most %zu bytes", path, PATH_BYTES - 1);
    memcpy(address.sun_path, path, strlen(path));
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_set_errno(err, ERR_IO, "cannot make a socket");
    while (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        const int why = errno;
        if (why == EINTR)
            continue;
        if (why == EAGAIN && clock_now_ns() < deadline_ns) { /* its queue is full */
            clock_sleep_until_ns(clock_now_ns() + CONNECT_NAP);
            continue;
        }
        if (why == EAGAIN)
            rc = timed_out(path, timeout_ns, err);
        else if (why == ENOENT || why == ECONNREFUSED || why == ENOTDIR)
            rc = err_set(err, ERR_NOT_FOUND, "no daemon runs (looked at %s)", path);
        else if (why == EACCES || why == EPERM)
            rc = err_set(err, ERR_IO, "no permission for %s: its owner, its group and root may ask (try sudo)", path);
        else
            rc = err_set_errno(err, ERR_IO, "%s", path);
        close(fd);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

/* The first place where somebody listens. */
static int dial_anywhere(int64_t timeout_ns, int64_t deadline_ns, char ret_path[PATH_BYTES], int *ret_fd, struct err *err)
{
    static const int order[N_PLACES] = {PLACE_SERVICE, PLACE_SESSION, PLACE_TMP, PLACE_SYSTEM};
    struct err worst = {0};
    char looked[512] = "";
    for (int i = 0; i < N_PLACES; i++) {
        struct place place;
        struct err why = {0};
        char path[PATH_BYTES];
        if (!place_get(order[i], &place) || path_join(place.dir, path, NULL) != 0)
            continue;
        const size_t n = strlen(looked);
        snprintf(looked + n, sizeof looked - n, "%s%s", n ? ", " : "", path);
        if (place.is_private && place_check(&place, NULL) != 0)
            continue;
        const int rc = dial(path, timeout_ns, deadline_ns, ret_fd, &why);
        if (rc == 0) {
            memcpy(ret_path, path, sizeof path);
            return 0;
        }
        if (rc != ERR_NOT_FOUND && worst.code == 0)
            worst = why;
    }
    if (worst.code != 0)
        return err_set(err, worst.code, "%s", worst.text);
    return err_set(err, ERR_NOT_FOUND, "no daemon runs (looked at %s)", looked);
}

/* Wait until fd is ready. */
static int wait_for(int fd, short events, int64_t deadline_ns)
{
    for (;;) {
        const int64_t left_ns = deadline_ns - clock_now_ns();
        struct pollfd p = {.fd = fd, .events = events};
        if (left_ns <= 0)
            return ERR_TIMEOUT;
        const int n = poll(&p, 1, left_ns > 60 * CLOCK_S ? 60000 : (int)(left_ns / CLOCK_MS) + 1);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return ERR_IO;
    }
}

static int broken(const char *path, struct err *err)
{
    return err_set_errno(err, ERR_IO, "the connection to the daemon at %s broke", path);
}

static int send_all(int fd, const char *path, const char *text, size_t n, int64_t timeout_ns, int64_t deadline_ns,
                    struct err *err)
{
    for (size_t at = 0; at < n;) {
        const ssize_t sent = send(fd, text + at, n - at, MSG_NOSIGNAL);
        if (sent >= 0) {
            at += (size_t)sent;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (wait_for(fd, POLLOUT, deadline_ns) != 0)
                return timed_out(path, timeout_ns, err);
        } else if (errno != EINTR) {
            return broken(path, err);
        }
    }
    return 0;
}

static int receive_line(int fd, const char *path, int64_t timeout_ns, int64_t deadline_ns, char **ret_line, struct err *err)
{
    size_t n = 0, cap = 16384;
    char *line = malloc(cap);
    int rc = line ? 0 : err_set(err, ERR_NOMEM, "no memory for the reply");
    while (rc == 0) {
        const ssize_t got = recv(fd, line + n, cap - n, 0);
        if (got == 0) {
            rc = err_set(err, ERR_IO, "the daemon at %s hung up without an answer", path);
        } else if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            if (wait_for(fd, POLLIN, deadline_ns) != 0)
                rc = timed_out(path, timeout_ns, err);
        } else if (got < 0) {
            if (errno != EINTR)
                rc = broken(path, err);
        } else {
            char *newline = memchr(line + n, '\n', (size_t)got);
            n += (size_t)got;
            if (newline) {
                *newline = '\0';
                *ret_line = line;
                return 0;
            }
            if (n > CONTROL_REPLY_MAX) {
                rc = err_set(err, ERR_FORMAT, "the reply from %s has more than %d bytes", path, CONTROL_REPLY_MAX);
            } else if (n == cap) {
                char *more = realloc(line, cap * 2);
                if (!more)
                    rc = err_set(err, ERR_NOMEM, "no memory for a reply of %zu bytes", cap * 2);
                else
                    line = more, cap *= 2;
            }
        }
    }
    free(line);
    return rc;
}

int control_ask(const char *path, const char *command, int64_t timeout_ns, char **ret_reply, struct err *err)
{
    const int64_t deadline_ns = clock_now_ns() + timeout_ns;
    char found[PATH_BYTES] = "", *line = NULL;
    int fd = -1, rc = 0;
    json_t *request = json_pack("{s:s}", "command", command), *reply = NULL;
    char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
    json_decref(request);
    if (!text) /* jansson takes only UTF-8 */
        return err_set(err, ERR_INVAL, "the command cannot be sent: no UTF-8, or no memory");

    rc = path ? dial(path, timeout_ns, deadline_ns, &fd, err) : dial_anywhere(timeout_ns, deadline_ns, found, &fd, err);
    if (rc != 0)
        goto fail;
    const char *where = path ? path : found;
    const size_t n = strlen(text);
    text[n] = '\n'; /* over its NUL */
    if ((rc = send_all(fd, where, text, n + 1, timeout_ns, deadline_ns, err)) != 0 ||
        (rc = receive_line(fd, where, timeout_ns, deadline_ns, &line, err)) != 0)
        goto fail;
    reply = json_loads(line, PARSE_FLAGS, NULL);
    if (!json_is_object(reply)) {
        rc = err_set(err, ERR_FORMAT, "the answer from %s is no JSON object: %.80s", where, line);
        goto fail;
    }
    *ret_reply = line;
    line = NULL;
fail:
    json_decref(reply);
    free(line);
    free(text);
    if (fd >= 0)
        close(fd);
    return rc;
}
