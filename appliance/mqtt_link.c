#include "appliance/mqtt_link.h"

#include <assert.h>
#include <errno.h>
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define CONNECT_TIMEOUT_NS (10 * CLOCK_S)
#define GOODBYE_MS         200 /* how long a DISCONNECT may wait for room in the socket */
#define MIDS               65536

/*
 * One connection, from the resolution of the name to its end; the next gets a new one, and a new instance of the library with
 * it, so that nothing the library still holds can come out later than newer values.
 *
 * The resolver blocks, and inside the library too: a detached helper thread makes the library connect and then hands the
 * instance over. Whoever of the two owners lets go last frees.
 */
struct conn {
    pthread_mutex_t lock;
    int n_owners; /* under lock */
    bool is_done; /* under lock: the helper has finished; until then all below is the helper's */

    struct mosquitto *mosq;
    struct mqtt_link *link; /* owner only; NULL: tell nobody any more */
    char *host;
    int port, keepalive_s;
    bool is_other_family; /* use the second address family, where the name has two */
    int done_fd;          /* eventfd: the helper has finished */
    int rc, sys_errno, gai;
    bool has_both_families;
    char detail[200]; /* the library's own last complaint */
};

struct mqtt_link {
    struct mqtt_link_options opt;
    char *host, *client_id, *username, *tls_ca, *tls_cert, *tls_key, *will_topic, *will_payload;
    struct secret_ref password;

    struct conn *conn;  /* NULL: none */
    struct conn *stale; /* one given up while its name was still being resolved */
    bool is_taken;      /* conn->mosq is ours */
    bool is_tcp;        /* the socket is connected */
    bool is_up, is_broken;
    bool is_v311;         /* ask with 3.1.1 */
    bool is_other_family; /* try the other of IPv6 and IPv4 */
    int64_t deadline_ns;
    char why[300];               /* what a callback of the library said; "" if nothing */
    uint64_t waiting[MIDS / 64]; /* QoS 1 messages without PUBACK, a bit each */
};

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static void library_init(void)
{
    mosquitto_lib_init(); /* never undone: a helper may outlive every link */
}

/* ---- the helper ------------------------------------------------------------------------------------------------------------ */

static void conn_unref(struct conn *conn)
{
    if (!conn)
        return;
    pthread_mutex_lock(&conn->lock);
    const bool is_last = --conn->n_owners == 0;
    pthread_mutex_unlock(&conn->lock);
    if (!is_last)
        return;
    if (conn->mosq)
        mosquitto_destroy(conn->mosq);
    if (conn->done_fd >= 0)
        close(conn->done_fd);
    free(conn->host);
    pthread_mutex_destroy(&conn->lock);
    free(conn);
}

static bool conn_is_done(struct conn *conn)
{
    pthread_mutex_lock(&conn->lock);
    const bool is_done = conn->is_done;
    pthread_mutex_unlock(&conn->lock);
    return is_done;
}

/*
 * The name is resolved here first, for the resolver's own words and to know the address families. The library takes the first
 * address whose connect() does not fail at once and never looks at the others, so that a broker that listens on IPv4 only stays
 * unreachable under a name with an IPv6 address; a source address of one family makes it skip the other's.
 */
static void *conn_main(void *arg)
{
    struct conn *conn = arg;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    conn->gai = getaddrinfo(conn->host, NULL, &hints, &list);
    conn->sys_errno = errno;
    if (conn->gai == 0) {
        const int first = list->ai_family;
        for (const struct addrinfo *a = list; a; a = a->ai_next)
            conn->has_both_families |= a->ai_family != first;
        freeaddrinfo(list);
        const char *source = NULL;
        if (conn->has_both_families && conn->is_other_family)
            source = first == AF_INET6 ? "0.0.0.0" : "::";
        errno = 0;
        conn->rc = mosquitto_connect_bind_async(conn->mosq, conn->host, conn->port, conn->keepalive_s, source);
        conn->sys_errno = errno;
    }
    pthread_mutex_lock(&conn->lock);
    conn->is_done = true;
    const int fd = conn->done_fd;
    pthread_mutex_unlock(&conn->lock);
    const ssize_t n = write(fd, &(uint64_t){1}, sizeof(uint64_t));
    (void)n; /* a counter of one cannot be full */
    conn_unref(conn);
    return NULL;
}

static int conn_start(struct conn *conn, struct err *err)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;
    if (pthread_attr_init(&attr) != 0)
        return err_set(err, ERR_NOMEM, "mqtt: no memory for a thread");
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    conn->n_owners = 2;
    const int rc = pthread_create(&thread, &attr, conn_main, conn);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (rc == 0)
        return 0;
    conn->n_owners = 1;
    return err_set(err, ERR_IO, "mqtt: no thread to resolve %s: %s", conn->host, strerror(rc));
}

/* ---- what the library calls back ------------------------------------------------------------------------------------------- */

/* The first cause is kept: what follows it is only its consequence. */
static void explain(struct mqtt_link *link, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void explain(struct mqtt_link *link, const char *fmt, ...)
{
    if (link->why[0])
        return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(link->why, sizeof link->why, fmt, args);
    va_end(args);
}

static void on_log(struct mosquitto *mosq, void *obj, int level, const char *text)
{
    (void)mosq;
    struct conn *conn = obj;
    if (level == MOSQ_LOG_ERR) /* OpenSSL's reasons come only this way */
        snprintf(conn->detail, sizeof conn->detail, "%s", text);
}

static void on_connect(struct mosquitto *mosq, void *obj, int reason, int flags, const mosquitto_property *properties)
{
    (void)mosq, (void)flags, (void)properties;
    struct mqtt_link *link = ((struct conn *)obj)->link;
    if (!link)
        return;
    const char *who = link->username ? link->username : "(none)";
    switch (reason) {
    case 0:
        link->is_up = true;
        if (link->opt.on_up)
            link->opt.on_up(link->opt.ctx);
        return;
    case CONNACK_REFUSED_PROTOCOL_VERSION:
    case MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION:
        explain(link, "the broker %s:%d does not speak MQTT %s", link->host, link->opt.port, link->is_v311 ? "3.1.1" : "5");
        link->is_v311 = !link->is_v311;
        return;
    case CONNACK_REFUSED_BAD_USERNAME_PASSWORD:
    case CONNACK_REFUSED_NOT_AUTHORIZED:
    case MQTT_RC_BAD_USERNAME_OR_PASSWORD:
    case MQTT_RC_NOT_AUTHORIZED:
        explain(link, "the broker %s:%d refuses the credentials (user %s): check user name, password and client certificate",
                link->host, link->opt.port, who);
        return;
    case CONNACK_REFUSED_IDENTIFIER_REJECTED:
    case MQTT_RC_CLIENTID_NOT_VALID:
        explain(link, "the broker %s:%d refuses the client id %s", link->host, link->opt.port,
                link->client_id ? link->client_id : "(none)");
        return;
    default:
        explain(link, "the broker %s:%d refuses the connection: %s", link->host, link->opt.port,
                reason < 128 ? mosquitto_connack_string(reason) : mosquitto_reason_string(reason));
    }
}

static void on_disconnect(struct mosquitto *mosq, void *obj, int reason, const mosquitto_property *properties)
{
    (void)mosq, (void)properties;
    struct mqtt_link *link = ((struct conn *)obj)->link;
    if (!link)
        return;
    if (reason == MQTT_RC_SESSION_TAKEN_OVER)
        explain(link, "another client has connected with the client id %s and taken the session over: give each box its own",
                link->client_id ? link->client_id : "(none)");
    else if (reason >= 128)
        explain(link, "the broker has ended the connection: %s", mosquitto_reason_string(reason));
    else if (reason == MOSQ_ERR_KEEPALIVE)
        explain(link, "the broker has not answered a ping for %d s", link->opt.keepalive_s);
}

static void on_publish(struct mosquitto *mosq, void *obj, int mid, int reason, const mosquitto_property *properties)
{
    (void)mosq, (void)properties;
    struct mqtt_link *link = ((struct conn *)obj)->link;
    if (!link || mid < 0 || mid >= MIDS || !(link->waiting[mid / 64] >> (mid % 64) & 1))
        return; /* QoS 0: written, which says nothing */
    link->waiting[mid / 64] &= ~(UINT64_C(1) << (mid % 64));
    if (link->opt.on_acked)
        link->opt.on_acked(link->opt.ctx, mid, reason >= 128);
}

static void on_message(struct mosquitto *mosq, void *obj, const struct mosquitto_message *m,
                       const mosquitto_property *properties)
{
    (void)mosq, (void)properties;
    struct mqtt_link *link = ((struct conn *)obj)->link;
    if (link && link->opt.on_message)
        link->opt.on_message(link->opt.ctx, m->topic, m->payload, (size_t)m->payloadlen, m->retain);
}

static void on_subscribe(struct mosquitto *mosq, void *obj, int mid, int n, const int *granted,
                         const mosquitto_property *properties)
{
    (void)mosq, (void)mid, (void)properties;
    const struct mqtt_link *link = ((struct conn *)obj)->link;
    for (int i = 0; link && i < n; i++)
        if (granted[i] >= 128)
            log_warning("mqtt: the broker refuses a subscription, ignoring: commands over MQTT do not all work broker=%s:%d "
                        "reason=\"%s\"",
                        link->host, link->opt.port, mosquitto_reason_string(granted[i]));
}

static int no_key_password(char *buffer, int size, int is_write, void *ctx)
{
    (void)buffer, (void)size, (void)is_write, (void)ctx;
    return 0; /* without this, OpenSSL would ask on the terminal */
}

/* ---- life cycle ------------------------------------------------------------------------------------------------------------ */

static int check_file(const char *path, const char *key, bool may_be_folder, struct err *err)
{
    struct stat st;
    if (!path)
        return 0;
    if (access(path, R_OK) != 0 || stat(path, &st) != 0)
        return err_set_errno(err, ERR_INVAL, "%s: %s cannot be read", key, path);
    if (S_ISDIR(st.st_mode) && !may_be_folder)
        return err_set(err, ERR_INVAL, "%s: %s is a folder; a file is expected", key, path);
    return 0;
}

static bool copy_text(char **ret_copy, const char *text)
{
    return !text || (*ret_copy = strdup(text)) != NULL;
}

int mqtt_link_open(const struct mqtt_link_options *options, struct mqtt_link **ret_link, struct err *err)
{
    pthread_once(&library_once, library_init);
    struct mqtt_link *link = calloc(1, sizeof *link);
    if (!link)
        return err_set(err, ERR_NOMEM, "mqtt: no memory");
    link->opt = *options;
    if (link->opt.connect_timeout_ns <= 0)
        link->opt.connect_timeout_ns = CONNECT_TIMEOUT_NS;
    if (link->opt.keepalive_s < 5) /* the library's least */
        link->opt.keepalive_s = 5;
    if (link->opt.keepalive_s > 65535)
        link->opt.keepalive_s = 65535;
    link->password.kind = options->password.kind;
    int rc = 0;
    if (!copy_text(&link->host, options->host) || !copy_text(&link->client_id, options->client_id) ||
        !copy_text(&link->username, options->username) || !copy_text(&link->tls_ca, options->tls_ca) ||
        !copy_text(&link->tls_cert, options->tls_cert) || !copy_text(&link->tls_key, options->tls_key) ||
        !copy_text(&link->will_topic, options->will_topic) || !copy_text(&link->will_payload, options->will_payload) ||
        !copy_text(&link->password.name, options->password.name))
        rc = err_set(err, ERR_NOMEM, "mqtt: no memory");
    if (rc == 0 && (!link->host || !link->host[0] || options->port < 1 || options->port > 65535))
        rc = err_set(err, ERR_INVAL, "mqtt: a host and a port from 1 to 65535 are needed");
    if (rc == 0 && !link->tls_ca && (link->tls_cert || link->tls_key))
        rc = err_set(err, ERR_INVAL, "mqtt: a client certificate without tls_ca");
    if (rc == 0 && !link->tls_cert != !link->tls_key)
        rc = err_set(err, ERR_INVAL, "mqtt: tls_cert and tls_key belong together");
    if (rc == 0)
        rc = check_file(link->tls_ca, "mqtt.tls_ca", true, err);
    if (rc == 0)
        rc = check_file(link->tls_cert, "mqtt.tls_cert", false, err);
    if (rc == 0)
        rc = check_file(link->tls_key, "mqtt.tls_key", false, err);
    if (rc != 0) {
        mqtt_link_close(link);
        return rc;
    }
    *ret_link = link;
    return 0;
}

/* A DISCONNECT that the socket does not take at once may take GOODBYE_MS. */
static void say_goodbye(struct mosquitto *mosq)
{
    mosquitto_disconnect(mosq);
    const int64_t end_ns = clock_now_ns() + GOODBYE_MS * CLOCK_MS;
    while (mosquitto_socket(mosq) >= 0 && mosquitto_want_write(mosq) && clock_now_ns() < end_ns) {
        struct pollfd p = {.fd = mosquitto_socket(mosq), .events = POLLOUT};
        if (poll(&p, 1, 20) > 0 && mosquitto_loop_write(mosq, 1) != MOSQ_ERR_SUCCESS)
            break;
    }
}

/* Let the connection go, whatever state it is in. */
static void drop_conn(struct mqtt_link *link)
{
    struct conn *conn = link->conn;
    link->conn = NULL;
    if (conn && link->is_taken) {
        conn->link = NULL;
        conn_unref(conn);
    } else if (conn) {
        link->stale = conn; /* connect waits for its end, so that there is never more than one */
    }
    link->is_taken = link->is_tcp = link->is_up = link->is_broken = false;
    memset(link->waiting, 0, sizeof link->waiting);
}

void mqtt_link_close(struct mqtt_link *link)
{
    if (!link)
        return;
    if (link->conn && link->is_taken) {
        link->conn->link = NULL;
        if (link->is_up)
            say_goodbye(link->conn->mosq);
    }
    conn_unref(link->stale);
    link->stale = NULL;
    drop_conn(link);
    conn_unref(link->stale);
    char *const texts[] = {link->host,    link->client_id,  link->username,     link->tls_ca,       link->tls_cert,
                           link->tls_key, link->will_topic, link->will_payload, link->password.name};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        free(texts[i]);
    free(link);
}

/* Everything that the library wants to know before it connects. */
static int configure(struct mqtt_link *link, struct mosquitto *mosq, struct err *err)
{
    int rc = mosquitto_int_option(mosq, MOSQ_OPT_PROTOCOL_VERSION, link->is_v311 ? MQTT_PROTOCOL_V311 : MQTT_PROTOCOL_V5);
    if (rc == 0)
        rc = mosquitto_int_option(mosq, MOSQ_OPT_TCP_NODELAY, 1);
    if (rc == 0 && link->will_topic) {
        const char *payload = link->will_payload ? link->will_payload : "";
        rc = mosquitto_will_set(mosq, link->will_topic, (int)strlen(payload), payload, 1, true);
    }
    if (rc == 0 && link->tls_ca) {
        struct stat st;
        const bool is_folder = stat(link->tls_ca, &st) == 0 && S_ISDIR(st.st_mode);
        rc = mosquitto_tls_set(mosq, is_folder ? NULL : link->tls_ca, is_folder ? link->tls_ca : NULL, link->tls_cert,
                               link->tls_key, no_key_password);
        if (rc != 0)
            return err_set(err, ERR_IO, "mqtt: the TLS files (tls_ca %s) cannot be used: %s", link->tls_ca,
                           mosquitto_strerror(rc));
        rc = mosquitto_tls_opts_set(mosq, 1, "tlsv1.2", NULL); /* "or newer"; the library's default allows 1.1 */
    }
    if (rc == 0 && link->username) {
        char password[SECRET_MAX_BYTES + 1] = "";
        const int secret_rc = secret_read(&link->password, "mqtt.password", password, err);
        if (secret_rc == 0)
            rc = mosquitto_username_pw_set(mosq, link->username, link->password.kind == SECRET_NONE ? NULL : password);
        secret_wipe(password, sizeof password); /* the library keeps a copy while the connection lives */
        if (secret_rc != 0)
            return secret_rc;
    }
    return rc == 0 ? 0 : err_set(err, ERR_IO, "mqtt: %s", mosquitto_strerror(rc));
}

int mqtt_link_connect(struct mqtt_link *link, struct err *err)
{
    assert(!link->conn);
    if (link->stale && !conn_is_done(link->stale))
        return err_set(err, ERR_IO, "the name %s is still being looked up: the name server does not answer", link->host);
    conn_unref(link->stale);
    link->stale = NULL;
    struct conn *conn = calloc(1, sizeof *conn);
    if (!conn)
        return err_set(err, ERR_NOMEM, "mqtt: no memory");
    pthread_mutex_init(&conn->lock, NULL);
    conn->n_owners = 1;
    conn->link = link;
    conn->port = link->opt.port;
    conn->keepalive_s = link->opt.keepalive_s;
    conn->is_other_family = link->is_other_family;
    conn->host = strdup(link->host);
    conn->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    conn->mosq = mosquitto_new(link->client_id, true, conn);
    int rc = 0;
    if (!conn->host || !conn->mosq)
        rc = err_set(err, ERR_NOMEM, "mqtt: no memory, or the client id is not valid");
    else if (conn->done_fd < 0)
        rc = err_set_errno(err, ERR_IO, "mqtt: eventfd");
    else
        rc = configure(link, conn->mosq, err);
    if (rc == 0) {
        mosquitto_log_callback_set(conn->mosq, on_log);
        mosquitto_connect_v5_callback_set(conn->mosq, on_connect);
        mosquitto_disconnect_v5_callback_set(conn->mosq, on_disconnect);
        mosquitto_publish_v5_callback_set(conn->mosq, on_publish);
        mosquitto_message_v5_callback_set(conn->mosq, on_message);
        mosquitto_subscribe_v5_callback_set(conn->mosq, on_subscribe);
        rc = conn_start(conn, err);
    }
    if (rc != 0) {
        conn_unref(conn);
        return rc;
    }
    link->why[0] = '\0';
    link->conn = conn;
    link->deadline_ns = clock_now_ns() + link->opt.connect_timeout_ns;
    return 0;
}

/* ---- the connection -------------------------------------------------------------------------------------------------------- */

bool mqtt_link_is_up(const struct mqtt_link *link)
{
    return link->is_up && !link->is_broken;
}

int mqtt_link_fd(const struct mqtt_link *link)
{
    if (!link->conn)
        return -1;
    return link->is_taken ? mosquitto_socket(link->conn->mosq) : link->conn->done_fd;
}

/*
 * While TLS shakes hands the library wants to write for ever, though it waits for the other side: asked for POLLOUT, poll would
 * return at once and the thread would spin. Every step of a handshake follows bytes that came in.
 */
short mqtt_link_events(const struct mqtt_link *link)
{
    if (!link->conn)
        return 0;
    if (!link->is_taken)
        return POLLIN;
    if (!link->is_tcp)
        return POLLIN | POLLOUT;
    if (link->tls_ca && !link->is_up)
        return POLLIN;
    return mosquitto_want_write(link->conn->mosq) ? POLLIN | POLLOUT : POLLIN;
}

static void go_down(struct mqtt_link *link)
{
    char cause[sizeof link->why];
    snprintf(cause, sizeof cause, "%s", link->why[0] ? link->why : "the connection was lost");
    if (!link->is_up && link->conn && link->is_taken && link->conn->has_both_families && !link->is_tcp)
        link->is_other_family = !link->is_other_family;
    drop_conn(link);
    if (link->opt.on_down)
        link->opt.on_down(link->opt.ctx, cause);
}

/* Words for what the library returned, where no callback had better ones. */
static void explain_rc(struct mqtt_link *link, int rc, int sys_errno)
{
    const char *detail = link->conn->detail;
    const char *host = link->host;
    const int port = link->opt.port;
    if (link->why[0])
        return;
    if (detail[0])
        explain(link, "%s:%d: %s", host, port, detail);
    else if (rc == MOSQ_ERR_CONN_LOST && !link->is_up)
        explain(link, "%s:%d has closed the connection before it was made", host, port);
    else if (rc == MOSQ_ERR_CONN_LOST || rc == MOSQ_ERR_NO_CONN)
        explain(link, "the broker %s:%d has closed the connection", host, port);
    else if (rc == MOSQ_ERR_ERRNO)
        explain(link, "%s:%d: %s", host, port, strerror(sys_errno));
    else
        explain(link, "%s:%d: %s", host, port, mosquitto_strerror(rc));
    if (!link->is_up && link->is_tcp && (rc == MOSQ_ERR_CONN_LOST || rc == MOSQ_ERR_PROTOCOL) && !detail[0])
        link->is_v311 = !link->is_v311; /* some brokers only hang up on a version they do not know */
}

static void step_helper(struct mqtt_link *link)
{
    struct conn *conn = link->conn;
    if (!conn_is_done(conn)) {
        if (clock_now_ns() < link->deadline_ns)
            return;
        explain(link, "the name %s was not resolved within %.0f s: the name server does not answer", link->host,
                (double)link->opt.connect_timeout_ns / (double)CLOCK_S);
        go_down(link);
        return;
    }
    link->is_taken = true;
    if (conn->gai != 0) {
        explain(link, "the name %s cannot be resolved: %s", link->host,
                conn->gai == EAI_SYSTEM ? strerror(conn->sys_errno) : gai_strerror(conn->gai));
        go_down(link);
    } else if (conn->rc != MOSQ_ERR_SUCCESS) {
        explain_rc(link, conn->rc, conn->sys_errno);
        go_down(link);
    }
}

/* The outcome of connect() on a socket that does not block. Returns whether it is known and good. */
static bool step_tcp(struct mqtt_link *link, short revents)
{
    if (!(revents & (POLLOUT | POLLERR | POLLHUP)))
        return false;
    int cause = 0;
    socklen_t n = sizeof cause;
    if (getsockopt(mosquitto_socket(link->conn->mosq), SOL_SOCKET, SO_ERROR, &cause, &n) != 0)
        cause = errno;
    if (cause != 0) {
        explain(link, "%s:%d: %s", link->host, link->opt.port, strerror(cause));
        link->is_broken = true;
        return false;
    }
    link->is_tcp = true;
    return true;
}

void mqtt_link_step(struct mqtt_link *link, short revents)
{
    if (!link->conn)
        return;
    if (!link->is_taken) {
        step_helper(link);
        return;
    }
    struct mosquitto *mosq = link->conn->mosq;
    const bool is_tls = link->tls_ca != NULL;
    int rc = MOSQ_ERR_SUCCESS, sys_errno = 0;
    if (mosquitto_socket(mosq) < 0)
        link->is_broken = true;
    if (!link->is_broken && (link->is_tcp || step_tcp(link, revents))) {
        if (revents & (POLLOUT | (is_tls ? POLLIN : 0)))
            rc = mosquitto_loop_write(mosq, 1);
        sys_errno = errno;
        /* the library may leave bytes that TLS has already unpacked, which poll cannot see: ask some more times */
        const int n_reads = revents & (POLLIN | POLLERR | POLLHUP) ? (is_tls ? 8 : 1) : is_tls;
        for (int i = 0; i < n_reads && rc == MOSQ_ERR_SUCCESS && mosquitto_socket(mosq) >= 0; i++) {
            errno = 0;
            rc = mosquitto_loop_read(mosq, 1);
            sys_errno = errno;
        }
        if (rc == MOSQ_ERR_SUCCESS && link->is_up && mosquitto_socket(mosq) >= 0) {
            rc = mosquitto_loop_misc(mosq);
            sys_errno = errno;
        }
    }
    if (rc != MOSQ_ERR_SUCCESS)
        explain_rc(link, rc, sys_errno);
    else if (!link->is_up && !link->why[0] && clock_now_ns() >= link->deadline_ns)
        explain(link,
                link->is_tcp ? "%s:%d accepts connections but does not answer as an MQTT broker within %.0f s"
                             : "%s:%d does not answer within %.0f s",
                link->host, link->opt.port, (double)link->opt.connect_timeout_ns / (double)CLOCK_S);
    if (rc != MOSQ_ERR_SUCCESS || link->is_broken || link->why[0] || mosquitto_socket(mosq) < 0)
        go_down(link);
}

int mqtt_link_publish(struct mqtt_link *link, const char *topic, const void *payload, size_t n_bytes, int qos, bool is_retained,
                      int *ret_mid, struct err *err)
{
    if (!mqtt_link_is_up(link)) /* the library would say so too, but queue the message nevertheless */
        return err_set(err, ERR_STATE, "mqtt: not connected");
    if (n_bytes > INT32_MAX)
        return err_set(err, ERR_INVAL, "mqtt: a message of %zu bytes", n_bytes);
    int mid = 0;
    const int rc = mosquitto_publish(link->conn->mosq, &mid, topic, (int)n_bytes, payload, qos, is_retained);
    switch (rc) {
    case MOSQ_ERR_SUCCESS:
        if (qos > 0 && mid >= 0 && mid < MIDS)
            link->waiting[mid / 64] |= UINT64_C(1) << (mid % 64);
        if (ret_mid)
            *ret_mid = mid;
        return 0;
    case MOSQ_ERR_NOMEM: return err_set(err, ERR_NOMEM, "mqtt: no memory");
    case MOSQ_ERR_INVAL:
    case MOSQ_ERR_PAYLOAD_SIZE:
    case MOSQ_ERR_MALFORMED_UTF8:
    case MOSQ_ERR_QOS_NOT_SUPPORTED:
    case MOSQ_ERR_RETAIN_NOT_SUPPORTED:
    case MOSQ_ERR_OVERSIZE_PACKET:
        return err_set(err, ERR_INVAL, "mqtt: the topic %s with %zu bytes cannot be published: %s", topic, n_bytes,
                       mosquitto_strerror(rc));
    default:
        explain_rc(link, rc, errno);
        link->is_broken = true; /* the next step tells the owner; what the library has queued dies with it */
        return err_set(err, ERR_STATE, "mqtt: %s", link->why);
    }
}

int mqtt_link_subscribe(struct mqtt_link *link, const char *filter, int qos, struct err *err)
{
    if (!mqtt_link_is_up(link))
        return err_set(err, ERR_STATE, "mqtt: not connected");
    const int rc = mosquitto_subscribe(link->conn->mosq, NULL, filter, qos);
    if (rc == MOSQ_ERR_SUCCESS)
        return 0;
    if (rc == MOSQ_ERR_INVAL || rc == MOSQ_ERR_MALFORMED_UTF8)
        return err_set(err, ERR_INVAL, "mqtt: %s is no topic filter", filter);
    explain_rc(link, rc, errno);
    link->is_broken = true;
    return err_set(err, ERR_STATE, "mqtt: %s", link->why);
}

bool mqtt_link_is_congested(const struct mqtt_link *link)
{
    return link->conn && link->is_taken && mosquitto_want_write(link->conn->mosq);
}
