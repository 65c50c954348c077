/*
 * leader - a backend whose device is two: the first member is a device of this process, the second repeats what it is told (member.c).
 */
#include "kernels/team/team.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_S 30 /* for a greeting: the other machine opens its device meanwhile */

struct team_device {
    struct kn_device base;
    struct kn_device *first;
    struct wire wire;
    pthread_mutex_t lock; /* of the wire */
    uint32_t n_weights;   /* numbers given so far */
    unsigned char *cut;   /* room for rows whose columns are cut */
    size_t cut_bytes;
    /* a second member in this process */
    struct kn_device *second;
    struct wire second_wire;
    pthread_t thread;
    bool has_thread;
};

struct team_stream {
    struct kn_stream base;
    struct team_player player;
    uint32_t number;
};

static struct team_device *team(const struct kn_device *device)
{
    return (struct team_device *)device;
}

/* ---- talking ---------------------------------------------------------------------------------------------------------------- */

/* A message of two pieces. The lock is held. */
static void tell(struct team_device *t, enum team_kind kind, const void *head, size_t head_bytes, const void *more,
                 size_t more_bytes)
{
    wire_begin(&t->wire, (uint32_t)kind, head_bytes + more_bytes);
    wire_put(&t->wire, head, head_bytes);
    wire_put(&t->wire, more, more_bytes);
}

/* A message that is replied. The lock is held. */
static int ask(struct team_device *t, enum team_kind kind, const void *head, size_t head_bytes, const void *more,
               size_t more_bytes, struct team_reply *ret, struct err *err)
{
    uint32_t got = 0;
    const unsigned char *bytes = NULL;
    size_t n = 0;
    tell(t, kind, head, head_bytes, more, more_bytes);
    int rc = wire_take(&t->wire, &got, &bytes, &n, NULL);
    if (rc != 0)
        return err_set(err, rc, "%s", t->wire.err.text);
    if (n != sizeof *ret)
        return err_set(err, ERR_DEVICE, "%s replies with %zu bytes where %zu were expected", t->wire.peer, n, sizeof *ret);
    memcpy(ret, bytes, n);
    ret->text[sizeof ret->text - 1] = '\0';
    return ret->code == 0 ? 0 : err_set(err, ret->code, "on the second device, %s: %s", t->wire.peer, ret->text);
}

/* ---- memory ----------------------------------------------------------------------------------------------------------------- */

static int team_alloc(struct kn_device *device, size_t bytes, void **ret_memory, struct err *err)
{
    struct team_device *t = team(device);
    struct team_reply r;
    void *memory = NULL;
    int rc = kn_alloc(t->first, bytes, &memory, err);
    if (rc != 0)
        return rc;
    const struct team_alloc a = {.address = (uintptr_t)memory, .bytes = bytes};
    pthread_mutex_lock(&t->lock);
    rc = ask(t, TEAM_ALLOC, &a, sizeof a, NULL, 0, &r, err);
    pthread_mutex_unlock(&t->lock);
    if (rc != 0) {
        kn_free(t->first, memory);
        return rc;
    }
    *ret_memory = memory;
    return 0;
}

static void team_free(struct kn_device *device, void *memory)
{
    struct team_device *t = team(device);
    const uint64_t address = (uintptr_t)memory;
    pthread_mutex_lock(&t->lock);
    tell(t, TEAM_FREE, &address, sizeof address, NULL, 0);
    pthread_mutex_unlock(&t->lock);
    kn_free(t->first, memory);
}

static int team_reserve(struct kn_device *device, size_t bytes, struct err *err)
{
    struct team_device *t = team(device);
    const uint64_t n = bytes;
    struct team_reply r;
    int rc = kn_reserve(t->first, bytes, err);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&t->lock);
    rc = ask(t, TEAM_RESERVE, &n, sizeof n, NULL, 0, &r, err);
    pthread_mutex_unlock(&t->lock);
    return rc;
}

/* What a member's stream says is what the stream says. */
static void take_errors(struct team_stream *s)
{
    if (s->base.err.code == 0 && s->player.stream->err.code != 0)
        s->base.err = s->player.stream->err;
}

static void upload(struct kn_stream *stream, void *device_dst, const void *host_src, size_t bytes, bool is_step)
{
    struct team_stream *s = (struct team_stream *)stream;
    struct team_device *t = team(stream->device);
    const struct team_upload u = {.address = (uintptr_t)device_dst, .stream = s->number};
    pthread_mutex_lock(&t->lock);
    tell(t, is_step ? TEAM_UPLOAD_STEP : TEAM_UPLOAD, &u, sizeof u, host_src, bytes);
    pthread_mutex_unlock(&t->lock);
    if (is_step)
        kn_upload_step(s->player.stream, device_dst, host_src, bytes);
    else
        kn_upload(s->player.stream, device_dst, host_src, bytes);
    take_errors(s);
}

static void team_upload_all(struct kn_stream *stream, void *device_dst, const void *host_src, size_t bytes)
{
    upload(stream, device_dst, host_src, bytes, false);
}

static void team_upload_step(struct kn_stream *stream, void *device_dst, const void *host_src, size_t bytes)
{
    upload(stream, device_dst, host_src, bytes, true);
}

static void team_upload_cut(struct kn_stream *stream, float *device_dst, const struct kn_cut *cut, int64_t row_floats,
                            int64_t first_row, int64_t n_rows, const float *host_src)
{
    struct team_stream *s = (struct team_stream *)stream;
    struct team_device *t = team(stream->device);
    if (first_row < 0 || n_rows < 0 || first_row > team_whole(cut) - n_rows) {
        kn_stream_fail(stream, "upload", ERR_INVAL, "%lld rows from %lld on of a table of %lld", (long long)n_rows,
                       (long long)first_row, (long long)team_whole(cut));
        return;
    }
    for (int64_t row = first_row, n; row < first_row + n_rows; row += n, host_src += n * row_floats) {
        int member;
        int64_t at;
        n = team_stretch(cut, row, first_row + n_rows - row, &member, &at);
        float *dst = device_dst + at * row_floats;
        const size_t bytes = (size_t)(n * row_floats) * sizeof(float);
        if (member == 0) {
            kn_upload(s->player.stream, dst, host_src, bytes);
            continue;
        }
        const struct team_upload u = {.address = (uintptr_t)dst, .stream = s->number};
        pthread_mutex_lock(&t->lock);
        tell(t, TEAM_UPLOAD, &u, sizeof u, host_src, bytes);
        pthread_mutex_unlock(&t->lock);
    }
    take_errors(s);
}

static void team_download(struct kn_stream *stream, void *host_dst, const void *device_src, size_t bytes)
{
    struct team_stream *s = (struct team_stream *)stream;
    kn_download(s->player.stream, host_dst, device_src, bytes);
    take_errors(s);
}

/* ---- weights ---------------------------------------------------------------------------------------------------------------- */

static int team_weight_begin(struct kn_device *device, struct kn_weight *weight, struct err *err)
{
    struct team_device *t = team(device);
    struct team_reply r;
    int rc = team_cut_check(weight, err);
    if (rc != 0)
        return rc;
    struct team_weight *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(err, ERR_NOMEM, "out of memory: a weight");
    w->share = *weight;
    w->share.cut = (struct kn_cut){0}; /* to the member it is a weight as any other */
    w->cut = weight->cut;
    if ((rc = kn_weight_begin(t->first, &w->share, err)) == 0) {
        struct team_weight_begin b = {.has_scales = weight->scales != NULL,
                                      .dtype = (int32_t)weight->dtype,
                                      .rows = weight->rows,
                                      .cols = weight->cols,
                                      .slices = weight->slices,
                                      .cut = weight->cut};
        pthread_mutex_lock(&t->lock);
        b.number = w->number = t->n_weights++;
        rc = ask(t, TEAM_WEIGHT_BEGIN, &b, sizeof b, weight->scales,
                 weight->scales ? (size_t)weight->slices * sizeof(float) : 0, &r, err);
        pthread_mutex_unlock(&t->lock);
        if (rc != 0)
            kn_weight_free(t->first, &w->share);
    }
    if (rc != 0) {
        free(w);
        return rc;
    }
    weight->data = w;
    weight->data_bytes = w->share.data_bytes;
    return 0;
}

/* Rows of a member's share. */
static int give_rows(struct team_device *t, struct team_weight *w, int member, int64_t first, int64_t n, const void *rows,
                     struct err *err)
{
    if (member == 0)
        return kn_weight_rows(t->first, &w->share, first, n, rows, err);
    const struct team_weight_rows r = {.number = w->number, .first = first, .n = n};
    pthread_mutex_lock(&t->lock);
    tell(t, TEAM_WEIGHT_ROWS, &r, sizeof r, rows, (size_t)n * kn_row_bytes(w->share.dtype, w->share.cols));
    if (t->wire.err.code != 0)
        err_set(err, t->wire.err.code, "%s", t->wire.err.text);
    pthread_mutex_unlock(&t->lock);
    return t->wire.err.code;
}

static int give_shared_rows(struct team_device *t, struct team_weight *w, int64_t first, int64_t n, const unsigned char *rows,
                            struct err *err)
{
    const int64_t whole = team_whole(&w->cut);
    const size_t row_bytes = kn_row_bytes(w->share.dtype, w->share.cols);
    int rc = 0;
    for (int64_t k; n > 0 && rc == 0; first += k, n -= k, rows += (size_t)k * row_bytes) {
        const int64_t slice = first / whole, row = first % whole;
        int member;
        int64_t at;
        k = team_stretch(&w->cut, row, n, &member, &at);
        rc = give_rows(t, w, member, slice * w->share.rows + at, k, rows, err);
    }
    return rc;
}

static int give_shared_cols(struct team_device *t, struct team_weight *w, int64_t first, int64_t n, const unsigned char *rows,
                            struct err *err)
{
    const size_t bytes = (size_t)n * kn_row_bytes(w->share.dtype, w->share.cols);
    if (bytes > t->cut_bytes) {
        unsigned char *more = realloc(t->cut, bytes);
        if (!more)
            return err_set(err, ERR_NOMEM, "out of memory: %zu bytes of rows", bytes);
        t->cut = more;
        t->cut_bytes = bytes;
    }
    int rc = 0;
    for (int member = 0; member < 2 && rc == 0; member++) {
        team_cut_cols(&w->cut, w->share.dtype, member, n, rows, t->cut);
        rc = give_rows(t, w, member, first, n, t->cut, err);
    }
    return rc;
}

static int team_weight_rows(struct kn_device *device, struct kn_weight *weight, int64_t first_row, int64_t n_rows,
                            const void *host_src, struct err *err)
{
    struct team_device *t = team(device);
    struct team_weight *w = weight->data;
    if (w->cut.way == KN_CUT_COLS)
        return give_shared_cols(t, w, first_row, n_rows, host_src, err);
    if (w->cut.way != KN_CUT_NONE)
        return give_shared_rows(t, w, first_row, n_rows, host_src, err);
    const int rc = give_rows(t, w, 0, first_row, n_rows, host_src, err);
    return rc ? rc : give_rows(t, w, 1, first_row, n_rows, host_src, err);
}

static int team_weight_end(struct kn_device *device, struct kn_weight *weight, struct err *err)
{
    struct team_device *t = team(device);
    struct team_weight *w = weight->data;
    struct team_reply r;
    int rc = kn_weight_end(t->first, &w->share, err);
    if (rc != 0)
        return rc;
    weight->data_bytes = w->share.data_bytes;
    pthread_mutex_lock(&t->lock);
    rc = ask(t, TEAM_WEIGHT_END, &w->number, sizeof w->number, NULL, 0, &r, err);
    pthread_mutex_unlock(&t->lock);
    return rc;
}

static void team_weight_free(struct kn_device *device, struct kn_weight *weight)
{
    struct team_device *t = team(device);
    struct team_weight *w = weight->data;
    pthread_mutex_lock(&t->lock);
    tell(t, TEAM_WEIGHT_FREE, &w->number, sizeof w->number, NULL, 0);
    pthread_mutex_unlock(&t->lock);
    kn_weight_free(t->first, &w->share);
    free(w);
}

/* ---- streams and ops -------------------------------------------------------------------------------------------------------- */

static int team_stream_open(struct kn_device *device, const struct kn_limits *limits, struct kn_stream **ret_stream,
                            struct err *err)
{
    struct team_device *t = team(device);
    struct team_reply r;
    struct team_stream *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "out of memory: a stream");
    int rc = team_player_open(&s->player, t->first, limits, &t->wire, 0, err);
    if (rc == 0) {
        pthread_mutex_lock(&t->lock);
        rc = ask(t, TEAM_STREAM_OPEN, limits, sizeof *limits, NULL, 0, &r, err);
        pthread_mutex_unlock(&t->lock);
        if (rc != 0)
            team_player_close(&s->player);
    }
    if (rc != 0) {
        free(s);
        return rc;
    }
    s->number = (uint32_t)r.value;
    *ret_stream = &s->base;
    return 0;
}

static void team_stream_close(struct kn_stream *stream)
{
    struct team_stream *s = (struct team_stream *)stream;
    struct team_device *t = team(stream->device);
    pthread_mutex_lock(&t->lock);
    tell(t, TEAM_STREAM_CLOSE, &s->number, sizeof s->number, NULL, 0);
    pthread_mutex_unlock(&t->lock);
    team_player_close(&s->player);
    free(s);
}

static int team_stream_sync(struct kn_stream *stream, struct err *err)
{
    struct team_stream *s = (struct team_stream *)stream;
    struct team_device *t = team(stream->device);
    pthread_mutex_lock(&t->lock);
    if (wire_flush(&t->wire) != 0)
        kn_stream_fail(s->player.stream, "sync", t->wire.err.code, "%s", t->wire.err.text);
    pthread_mutex_unlock(&t->lock);
    return kn_stream_sync(s->player.stream, err);
}

static void team_stream_clear(struct kn_stream *stream)
{
    struct team_stream *s = (struct team_stream *)stream;
    struct team_device *t = team(stream->device);
    kn_stream_clear(s->player.stream);
    pthread_mutex_lock(&t->lock);
    tell(t, TEAM_STREAM_CLEAR, &s->number, sizeof s->number, NULL, 0);
    pthread_mutex_unlock(&t->lock);
}

static void run(struct kn_stream *stream, enum kn_op op, const void *args)
{
    struct team_stream *s = (struct team_stream *)stream;
    struct team_device *t = team(stream->device);
    struct team_args local;
    team_local_args(op, args, &local);
    pthread_mutex_lock(&t->lock);
    team_send_op(&t->wire, s->number, op, args);
    if (t->first->backend->is_host) /* it comes back when it is done: the second begins meanwhile */
        wire_flush(&t->wire);
    team_play(&s->player, op, &local);
    pthread_mutex_unlock(&t->lock);
    stream->launches = kn_launches(s->player.stream);
    take_errors(s);
}

#define KN_OP(name)                                                                                                            \
    static void run_##name(struct kn_stream *stream, const struct kn_##name##_args *args)                                      \
    {                                                                                                                          \
        run(stream, KN_OP_##name, args);                                                                                       \
    }
#include "kernels/ops.def"
#undef KN_OP

static const struct kn_ops run_table = {
#define KN_OP(name) .name = run_##name,
#include "kernels/ops.def"
#undef KN_OP
};

static size_t team_stream_bytes(const struct kn_device *device, const struct kn_limits *limits)
{
    return kn_stream_bytes(team(device)->first, limits);
}

static size_t team_weight_bytes(const struct kn_device *device, const struct kn_weight *weight)
{
    return kn_weight_bytes(team(device)->first, weight);
}

/* Both at the same time: two devices of one machine share its memory. */
static double team_read_bandwidth(struct kn_device *device, size_t bytes, double seconds)
{
    struct team_device *t = team(device);
    const struct team_read read = {.bytes = bytes, .seconds = seconds};
    struct team_reply r = {0};
    struct err why = {0};
    uint32_t kind = 0;
    const unsigned char *answer = NULL;
    size_t n = 0;
    pthread_mutex_lock(&t->lock);
    tell(t, TEAM_READ, &read, sizeof read, NULL, 0);
    wire_flush(&t->wire);
    const double first = kn_read_bandwidth(t->first, bytes, seconds);
    if (wire_take(&t->wire, &kind, &answer, &n, NULL) == 0 && n == sizeof r)
        memcpy(&r, answer, sizeof r);
    else
        err_set(&why, ERR_DEVICE, "no reply");
    pthread_mutex_unlock(&t->lock);
    return why.code == 0 && r.code == 0 && first > 0 && r.number > 0 ? first + r.number : 0;
}

/* ---- open and close --------------------------------------------------------------------------------------------------------- */

static void team_close(struct kn_device *device)
{
    struct team_device *t = team(device);
    wire_flush(&t->wire);
    wire_release(&t->wire); /* that is what ends the second member */
    if (t->has_thread)
        pthread_join(t->thread, NULL);
    wire_release(&t->second_wire);
    kn_device_close(t->second);
    kn_device_close(t->first);
    pthread_mutex_destroy(&t->lock);
    free(t->cut);
    free(t);
}

static const struct kn_backend team_backend = {
    .name = "team",
    .close = team_close,
    .alloc = team_alloc,
    .free = team_free,
    .upload = team_upload_all,
    .upload_step = team_upload_step,
    .upload_cut = team_upload_cut,
    .download = team_download,
    .weight_begin = team_weight_begin,
    .weight_rows = team_weight_rows,
    .weight_end = team_weight_end,
    .weight_free = team_weight_free,
    .stream_open = team_stream_open,
    .stream_close = team_stream_close,
    .stream_bytes = team_stream_bytes,
    .stream_clear = team_stream_clear,
    .weight_bytes = team_weight_bytes,
    .reserve = team_reserve,
    .stream_sync = team_stream_sync,
    .read_bandwidth = team_read_bandwidth,
};

static void *second_main(void *arg)
{
    struct team_device *t = arg;
    struct err err = {0};
    pthread_setname_np(pthread_self(), "heron-second");
    (void)team_serve(&t->second_wire, t->second, &err); /* the leader finds the socket closed */
    wire_release(&t->second_wire);
    return NULL;
}

/* A second device of this process, and a thread that serves it. */
static int open_here(struct team_device *t, const char *name, const struct kn_device_options *options,
                     struct kn_device_info *ret_info, struct err *err)
{
    int fds[2];
    int rc = kn_device_open(name, options, &t->second, err);
    if (rc != 0)
        return rc;
    kn_device_get_info(t->second, ret_info);
    team_tune(t->second, t->first->tuning);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return err_set_errno(err, ERR_IO, "a pair of sockets");
    if ((rc = wire_init(&t->wire, fds[0], name, err)) != 0)
        close(fds[0]);
    const int second = wire_init(&t->second_wire, fds[1], "the leader", err);
    if (second != 0)
        close(fds[1]);
    if (rc != 0 || second != 0)
        return ERR_NOMEM;
    t->has_thread = pthread_create(&t->thread, NULL, second_main, t) == 0;
    return t->has_thread ? 0 : err_set(err, ERR_IO, "a thread for the second device cannot be started");
}

/* A device that another machine lends. */
static int open_there(struct team_device *t, const char *address, const struct kn_device_options *options,
                      struct kn_device_info *ret_info, struct err *err)
{
    struct team_hello hello = {.magic = "HERONTWO",
                               .protocol = TEAM_PROTOCOL,
                               .byte_order = 0x01020304,
                               .abi = team_abi(),
                               .validate = options->validate},
                      answer;
    int fd = -1;
    uint32_t kind = 0;
    const unsigned char *bytes = NULL;
    size_t n = 0;
    int rc = wire_connect(address, &fd, err);
    if (rc != 0)
        return rc;
    if ((rc = wire_init(&t->wire, fd, address, err)) != 0) {
        close(fd);
        return rc;
    }
    memcpy(hello.tuning, t->first->tuning, sizeof hello.tuning);
    tell(t, TEAM_HELLO, &hello, sizeof hello, NULL, 0);
    t->wire.patience_s = ANSWER_S;
    if ((rc = wire_take(&t->wire, &kind, &bytes, &n, NULL)) != 0)
        return rc == ERR_FORMAT ? err_set(err, rc, "%s", t->wire.err.text)
                                : err_set(err, ERR_IO, "%s. A device is lent to one at a time", t->wire.err.text);
    t->wire.patience_s = 0;
    memcpy(&answer, bytes, n < sizeof answer ? n : sizeof answer);
    if (kind != TEAM_HELLO || n != sizeof answer || memcmp(answer.magic, hello.magic, sizeof hello.magic) != 0)
        return err_set(err, ERR_FORMAT, "%s does not speak as Heron does", address);
    answer.text[sizeof answer.text - 1] = answer.info.description[sizeof answer.info.description - 1] =
        answer.info.arithmetic[sizeof answer.info.arithmetic - 1] = '\0';
    *ret_info = answer.info;
    return answer.code == 0 ? 0 : err_set(err, answer.code, "%s: %s", address, answer.text);
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static void fill_info(struct team_device *t, const char *name, const struct kn_device_info *a, const struct kn_device_info *b)
{
    struct kn_device_info *info = &t->base.info;
    *info = *a;
    snprintf(info->name, sizeof info->name, "%s", name);
    if (strcmp(a->description, b->description) == 0)
        snprintf(info->description, sizeof info->description, "two of %.*s", (int)sizeof info->description - 10,
                 a->description);
    else
        snprintf(info->description, sizeof info->description, "%.60s and %.60s", a->description, b->description);
    info->members = 2;
    info->memory_bytes = smaller(a->memory_bytes, b->memory_bytes);
    info->memory_free_bytes = smaller(a->memory_free_bytes, b->memory_free_bytes);
}

/* Whether what follows the plus is a device of this machine. */
static bool is_here(const char *name)
{
    return strcmp(name, "cpu") == 0 || strcmp(name, "ref") == 0 || strcmp(name, "cuda") == 0 || strncmp(name, "cuda:", 5) == 0;
}

int team_open(const char *name, const struct kn_device_options *options, struct kn_device **ret_device, struct err *err)
{
    const char *plus = strchr(name, '+'), *second = plus + 1;
    char first[KN_NAME_BYTES];
    struct kn_device_info a, b;
    struct kn_device_options each = *options;
    if (strlen(name) >= KN_NAME_BYTES || plus == name || !*second || strchr(second, '+'))
        return err_set(err, ERR_NOT_FOUND,
                       "no device is called \"%s\": of two devices the name is FIRST+SECOND, or FIRST+HOST:PORT", name);
    snprintf(first, sizeof first, "%.*s", (int)(plus - name), name);
    struct team_device *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(err, ERR_NOMEM, "out of memory: a device of two");
    pthread_mutex_init(&t->lock, NULL);
    t->wire.fd = t->second_wire.fd = -1;
    t->base.raw = run_table;
    t->base.backend = &team_backend;
    if (is_here(second) && each.threads == 0 && strcmp(second, "cpu") == 0) {
        const long cores = sysconf(_SC_NPROCESSORS_ONLN);
        each.threads = cores > 1 ? (int)cores / 2 : 1; /* two pools on one processor */
    }
    int rc = kn_device_open(first, &each, &t->first, err);
    if (rc == 0) {
        kn_device_get_info(t->first, &a);
        rc = is_here(second) ? open_here(t, second, &each, &b, err) : open_there(t, second, options, &b, err);
    }
    if (rc == 0 && strcmp(a.arithmetic, b.arithmetic) != 0)
        rc = err_set(err, ERR_UNSUPPORTED, "two devices that compute alike are needed: %s is %s, %s is %s", first, a.arithmetic,
                     second, b.arithmetic);
    if (rc != 0) {
        team_close(&t->base);
        return rc;
    }
    fill_info(t, name, &a, &b);
    *ret_device = &t->base;
    return 0;
}
