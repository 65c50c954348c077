/*
 * member - the second member of a device of two: repeats on its own device what the leader says; and kn_lend, which offers that to other machines.
 */
#include "kernels/team/team.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GREETING_S 10 /* who connects and says nothing keeps others waiting no longer */

/* Memory of the leader's, and this member's for it. Sorted by the leader's address. */
struct twin {
    uint64_t address, bytes;
    char *memory;
};

struct member {
    struct wire *wire;
    struct kn_device *device;
    struct twin *twins;
    size_t n_twins, twins_cap;
    struct team_weight **weights; /* [n_weights] by number; NULL: freed */
    struct err *weight_errs;      /* [n_weights] what went wrong between begin and end */
    size_t n_weights, weights_cap;
    struct team_player **players; /* [n_players] by number; NULL: closed */
    size_t n_players, players_cap;
};

/* What a message holds; pieces of it are taken in order. */
struct payload {
    const unsigned char *at;
    size_t left;
};

static int take(struct payload *p, void *dst, size_t n, struct err *err)
{
    if (n > p->left)
        return err_set(err, ERR_FORMAT, "a message ends early");
    memcpy(dst, p->at, n);
    p->at += n;
    p->left -= n;
    return 0;
}

/* Room for one more element of `bytes`. */
static int grow(void **array, size_t n, size_t *cap, size_t bytes, struct err *err)
{
    if (n < *cap)
        return 0;
    const size_t more = *cap ? 2 * *cap : 64;
    void *p = realloc(*array, more * bytes);
    if (!p)
        return err_set(err, ERR_NOMEM, "out of memory: a table of %zu", more);
    *array = p;
    *cap = more;
    return 0;
}

/* ---- memory ----------------------------------------------------------------------------------------------------------------- */

/* The index of the last twin that begins at or before an address; n_twins: none does. */
static size_t find_twin(const struct member *m, uint64_t address)
{
    size_t lo = 0, hi = m->n_twins;
    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        if (m->twins[mid].address <= address)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo > 0 ? lo - 1 : m->n_twins;
}

static void *memory_of(void *ctx, uint64_t address)
{
    const struct member *m = ctx;
    const size_t i = find_twin(m, address);
    if (i == m->n_twins || address - m->twins[i].address >= m->twins[i].bytes)
        return NULL;
    return m->twins[i].memory + (address - m->twins[i].address);
}

static struct team_weight *weight_of(void *ctx, uint32_t number)
{
    const struct member *m = ctx;
    return number < m->n_weights ? m->weights[number] : NULL;
}

static int serve_alloc(struct member *m, struct payload *p, struct err *err)
{
    struct team_alloc a;
    void *memory = NULL;
    int rc = take(p, &a, sizeof a, err);
    if (rc == 0)
        rc = grow((void **)&m->twins, m->n_twins, &m->twins_cap, sizeof *m->twins, err);
    if (rc == 0)
        rc = kn_alloc(m->device, a.bytes, &memory, err);
    if (rc != 0)
        return rc;
    size_t at = find_twin(m, a.address);
    at = at == m->n_twins ? 0 : at + 1;
    memmove(m->twins + at + 1, m->twins + at, (m->n_twins - at) * sizeof *m->twins);
    m->twins[at] = (struct twin){.address = a.address, .bytes = a.bytes ? a.bytes : 1, .memory = memory};
    m->n_twins++;
    return 0;
}

static int serve_free(struct member *m, struct payload *p, struct err *err)
{
    uint64_t address = 0;
    if (take(p, &address, sizeof address, err) != 0)
        return err->code;
    const size_t i = find_twin(m, address);
    if (i == m->n_twins || m->twins[i].address != address)
        return err_set(err, ERR_FORMAT, "memory is freed that was never made");
    kn_free(m->device, m->twins[i].memory);
    m->n_twins--;
    memmove(m->twins + i, m->twins + i + 1, (m->n_twins - i) * sizeof *m->twins);
    return 0;
}

static struct team_player *player_of(struct member *m, uint32_t number)
{
    return number < m->n_players ? m->players[number] : NULL;
}

static int serve_upload(struct member *m, struct payload *p, bool is_step, struct err *err)
{
    struct team_upload u;
    if (take(p, &u, sizeof u, err) != 0)
        return err->code;
    struct team_player *player = player_of(m, u.stream);
    char *dst = memory_of(m, u.address);
    const size_t i = find_twin(m, u.address);
    if (!player || !dst || p->left > m->twins[i].bytes - (u.address - m->twins[i].address))
        return err_set(err, ERR_FORMAT, "an upload to where there is nothing");
    if (is_step && p->left >= sizeof(struct kn_step)) {
        /* the block's pointers point into it: they move with it */
        struct kn_step head;
        memcpy(&head, p->at, sizeof head);
#define MOVE(field) head.field = (const void *)(dst + ((uintptr_t)head.field - u.address))
        MOVE(tokens);
        MOVE(pos);
        MOVE(seqs);
        MOVE(seq_of_row);
        MOVE(pages);
#undef MOVE
        memcpy((void *)p->at, &head, sizeof head); /* the message is this member's own */
    }
    kn_upload(player->stream, dst, p->at, p->left);
    return 0;
}

/* ---- weights ---------------------------------------------------------------------------------------------------------------- */

static void weight_free(struct member *m, struct team_weight *w)
{
    if (!w)
        return;
    kn_weight_free(m->device, &w->share);
    free((void *)w->share.scales);
    free(w);
}

static int serve_weight_begin(struct member *m, struct payload *p, struct err *err)
{
    struct team_weight_begin b;
    int rc = take(p, &b, sizeof b, err);
    if (rc != 0)
        return rc;
    size_t cap = m->weights_cap;
    if ((rc = grow((void **)&m->weights, m->n_weights, &cap, sizeof(struct team_weight *), err)) != 0 ||
        (rc = grow((void **)&m->weight_errs, m->n_weights, &m->weights_cap, sizeof *m->weight_errs, err)) != 0)
        return rc;
    if (b.number != m->n_weights)
        return err_set(err, ERR_FORMAT, "weight %u where %zu would follow", b.number, m->n_weights);
    struct team_weight *w = calloc(1, sizeof *w);
    float *scales = b.has_scales && b.slices > 0 ? malloc((size_t)b.slices * sizeof *scales) : NULL;
    if (!w || (b.has_scales && !scales)) {
        free(w);
        free(scales);
        m->weights[m->n_weights++] = NULL;
        return err_set(err, ERR_NOMEM, "out of memory: a weight");
    }
    if (scales)
        rc = take(p, scales, (size_t)b.slices * sizeof *scales, err);
    *w = (struct team_weight){
        .share = {.dtype = (enum kn_dtype)b.dtype, .rows = b.rows, .cols = b.cols, .slices = b.slices, .scales = scales},
        .cut = b.cut,
        .number = b.number};
    if (rc == 0)
        rc = kn_weight_begin(m->device, &w->share, err);
    if (rc != 0)
        weight_free(m, w);
    m->weights[m->n_weights] = rc == 0 ? w : NULL; /* the leader counts those that fail, too */
    m->weight_errs[m->n_weights++] = (struct err){0};
    return rc;
}

static int serve_weight_rows(struct member *m, struct payload *p, struct err *err)
{
    struct team_weight_rows r;
    if (take(p, &r, sizeof r, err) != 0)
        return err->code;
    struct team_weight *w = weight_of(m, r.number);
    if (!w || r.n < 0 || (uint64_t)r.n * kn_row_bytes(w->share.dtype, w->share.cols) != p->left)
        return err_set(err, ERR_FORMAT, "rows of no weight");
    struct err *kept = &m->weight_errs[r.number];
    if (kept->code == 0)
        kn_weight_rows(m->device, &w->share, r.first, r.n, p->at, kept);
    return 0;
}

static int serve_weight_end(struct member *m, struct payload *p, struct err *err)
{
    uint32_t number = 0;
    if (take(p, &number, sizeof number, err) != 0)
        return err->code;
    struct team_weight *w = weight_of(m, number);
    if (!w)
        return err_set(err, ERR_FORMAT, "the end of no weight");
    if (m->weight_errs[number].code != 0) {
        *err = m->weight_errs[number];
        return err->code;
    }
    return kn_weight_end(m->device, &w->share, err);
}

/* ---- streams ---------------------------------------------------------------------------------------------------------------- */

static int serve_stream_open(struct member *m, struct payload *p, uint64_t *ret_number, struct err *err)
{
    struct kn_limits limits;
    int rc = take(p, &limits, sizeof limits, err);
    if (rc == 0)
        rc = grow((void **)&m->players, m->n_players, &m->players_cap, sizeof(struct team_player *), err);
    struct team_player *player = rc == 0 ? calloc(1, sizeof *player) : NULL;
    if (rc == 0 && !player)
        rc = err_set(err, ERR_NOMEM, "out of memory: a stream");
    if (rc == 0)
        rc = team_player_open(player, m->device, &limits, m->wire, 1, err);
    if (rc != 0) {
        free(player);
        return rc;
    }
    *ret_number = m->n_players;
    m->players[m->n_players++] = player;
    return 0;
}

static int serve_op(struct member *m, struct payload *p, struct err *err)
{
    uint32_t head[2];
    struct team_args args;
    const struct team_finder finder = {.memory = memory_of, .weight = weight_of, .ctx = m};
    if (take(p, head, sizeof head, err) != 0)
        return err->code;
    struct team_player *player = player_of(m, head[0]);
    if (!player || head[1] >= KN_OP_COUNT)
        return err_set(err, ERR_FORMAT, "an op %u on stream %u", head[1], head[0]);
    const int rc = team_read_args((enum kn_op)head[1], p->at, p->left, &finder, &args, err);
    if (rc == 0)
        team_play(player, (enum kn_op)head[1], &args);
    return rc;
}

/* ---- serving ---------------------------------------------------------------------------------------------------------------- */

static void reply(struct member *m, int rc, const struct err *err, uint64_t value, double number)
{
    struct team_reply r = {.code = rc, .value = value, .number = number};
    if (rc != 0)
        snprintf(r.text, sizeof r.text, "%.*s", (int)sizeof r.text - 1, err->text);
    wire_begin(m->wire, 0, sizeof r);
    wire_put(m->wire, &r, sizeof r);
    wire_flush(m->wire);
}

/* One message. An error is of the connection: what the leader asks for and cannot have is replied. */
static int serve_one(struct member *m, uint32_t kind, struct payload p, struct err *err)
{
    struct err why = {0};
    uint32_t number = 0;
    uint64_t value = 0;
    struct team_read read;
    double bytes_per_s = 0;
    int rc = 0;
    switch (kind) {
    case TEAM_FREE: return serve_free(m, &p, err);
    case TEAM_UPLOAD: return serve_upload(m, &p, false, err);
    case TEAM_UPLOAD_STEP: return serve_upload(m, &p, true, err);
    case TEAM_WEIGHT_ROWS: return serve_weight_rows(m, &p, err);
    case TEAM_OP: return serve_op(m, &p, err);
    case TEAM_WEIGHT_FREE:
        if ((rc = take(&p, &number, sizeof number, err)) == 0 && number < m->n_weights) {
            weight_free(m, m->weights[number]);
            m->weights[number] = NULL;
        }
        return rc;
    case TEAM_STREAM_CLOSE:
        if ((rc = take(&p, &number, sizeof number, err)) == 0 && player_of(m, number)) {
            team_player_close(m->players[number]);
            free(m->players[number]);
            m->players[number] = NULL;
        }
        return rc;
    case TEAM_STREAM_CLEAR:
        if ((rc = take(&p, &number, sizeof number, err)) == 0 && player_of(m, number))
            kn_stream_clear(m->players[number]->stream);
        return rc;
    case TEAM_ALLOC: rc = serve_alloc(m, &p, &why); break;
    case TEAM_RESERVE:
        if ((rc = take(&p, &value, sizeof value, &why)) == 0)
            rc = kn_reserve(m->device, value, &why);
        break;
    case TEAM_WEIGHT_BEGIN: rc = serve_weight_begin(m, &p, &why); break;
    case TEAM_WEIGHT_END: rc = serve_weight_end(m, &p, &why); break;
    case TEAM_STREAM_OPEN: rc = serve_stream_open(m, &p, &value, &why); break;
    case TEAM_READ:
        if ((rc = take(&p, &read, sizeof read, &why)) == 0)
            bytes_per_s = kn_read_bandwidth(m->device, read.bytes, read.seconds);
        break;
    default: return err_set(err, ERR_FORMAT, "a message of kind %u", kind);
    }
    reply(m, rc, &why, value, bytes_per_s);
    return m->wire->err.code;
}

static void release(struct member *m)
{
    for (size_t i = 0; i < m->n_players; i++)
        if (m->players[i]) {
            team_player_close(m->players[i]);
            free(m->players[i]);
        }
    for (size_t i = 0; i < m->n_weights; i++)
        weight_free(m, m->weights[i]);
    for (size_t i = 0; i < m->n_twins; i++)
        kn_free(m->device, m->twins[i].memory);
    free(m->players);
    free(m->weights);
    free(m->weight_errs);
    free(m->twins);
}

int team_serve(struct wire *w, struct kn_device *device, struct err *err)
{
    struct member m = {.wire = w, .device = device};
    int rc = 0;
    for (bool is_end = false; rc == 0;) {
        uint32_t kind;
        struct payload p;
        rc = wire_take(w, &kind, &p.at, &p.left, &is_end);
        if (rc != 0)
            err_set(err, rc, "%s", w->err.text);
        if (rc != 0 || is_end)
            break;
        rc = serve_one(&m, kind, p, err);
    }
    release(&m);
    return rc;
}

/* ---- lending ---------------------------------------------------------------------------------------------------------------- */

static void say(void (*said)(void *ctx, const char *line), void *ctx, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void say(void (*said)(void *ctx, const char *line), void *ctx, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (said)
        said(ctx, line);
}

/* Answer a leader's greeting with the device that is lent; the device is opened for it. */
static int greet(struct wire *w, const char *name, const struct kn_device_options *options, struct kn_device **ret_device,
                 struct err *err)
{
    uint32_t kind = 0;
    const unsigned char *bytes = NULL;
    size_t n = 0;
    struct team_hello hello = {0},
                      answer = {.magic = "HERONTWO", .protocol = TEAM_PROTOCOL, .byte_order = 0x01020304, .abi = team_abi()};
    struct err why = {0};
    w->patience_s = GREETING_S;
    int rc = wire_take(w, &kind, &bytes, &n, NULL);
    w->patience_s = 0;
    if (rc != 0)
        return err_set(err, rc, "%s", w->err.text);
    memcpy(&hello, bytes, n < sizeof hello ? n : sizeof hello);
    if (kind != TEAM_HELLO || n != sizeof hello || memcmp(hello.magic, answer.magic, sizeof hello.magic) != 0)
        return err_set(err, ERR_FORMAT, "%s does not speak as Heron does", w->peer);
    if (hello.protocol != answer.protocol || hello.byte_order != answer.byte_order || hello.abi != answer.abi) {
        rc = err_set(&why, ERR_FORMAT, "Heron there and here are of different builds");
    } else {
        struct kn_device_options o = *options;
        o.validate = hello.validate != 0;
        rc = kn_device_open(name, &o, ret_device, &why);
        if (rc == 0) {
            kn_device_get_info(*ret_device, &answer.info);
            team_tune(*ret_device, hello.tuning);
        }
    }
    answer.code = rc;
    snprintf(answer.text, sizeof answer.text, "%.*s", (int)sizeof answer.text - 1, why.text);
    wire_begin(w, TEAM_HELLO, sizeof answer);
    wire_put(w, &answer, sizeof answer);
    wire_flush(w);
    return rc ? err_set(err, rc, "%s", why.text) : 0;
}

static void lend_to(int fd, const char *peer, const char *name, const struct kn_device_options *options,
                    void (*said)(void *ctx, const char *line), void *ctx)
{
    struct wire w = {.fd = -1};
    struct err err = {0};
    struct kn_device *device = NULL;
    if (wire_init(&w, fd, peer, &err) != 0) {
        close(fd);
    } else if (greet(&w, name, options, &device, &err) == 0) {
        say(said, ctx, "%s has the device", peer);
        if (team_serve(&w, device, &err) == 0)
            say(said, ctx, "%s gave it back", peer);
    }
    if (err.code != 0)
        say(said, ctx, "%s: %s", peer, err.text);
    kn_device_close(device);
    wire_release(&w);
}

int kn_lend(const char *listen_on, const char *device, const struct kn_device_options *options,
            void (*said)(void *ctx, const char *line), void *ctx, struct err *err)
{
    static const struct kn_device_options defaults = {0};
    struct kn_device *first = NULL;
    struct kn_device_info info;
    int listener = -1, fd;
    char peer[128];
    if (!options)
        options = &defaults;
    if (strchr(device, '+'))
        return err_set(err, ERR_INVAL, "\"%s\" cannot be lent: it is two devices already", device);
    int rc = kn_device_open(device, options, &first, err);
    if (rc != 0)
        return rc;
    kn_device_get_info(first, &info);
    kn_device_close(first);
    if ((rc = wire_listen(listen_on, &listener, err)) != 0)
        return rc;
    say(said, ctx, "lending %s (%s) on %s", info.name, info.description, listen_on);
    while ((rc = wire_accept(listener, &fd, peer, sizeof peer, err)) == 0)
        lend_to(fd, peer, device, options, said, ctx);
    close(listener);
    return rc;
}
