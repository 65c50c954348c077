/*
 * Lenders and leaders that do not keep to what was agreed: what a leader makes of a lender's answers, what a member makes of a session in which one thing is wrong, and arguments that no
 * product of two has.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernels/team/team.h"
#include "tests/support/kn_cases.h"

static int listener_of(char ret_address[40])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    snprintf(ret_address, 40, "127.0.0.1:%d", ntohs(at.sin_port));
    return fd;
}

/* ---- lenders ------------------------------------------------------------------------------------------------------------------------- */

enum manner {
    SAYS_JUNK,
    SAYS_SOMETHING_ELSE,
    GOES_AT_ONCE,
    REFUSES,
    COMPUTES_OTHERWISE,
    /* those that greet well, and */
    REPLIES_TOO_LITTLE,
    HAS_NO_ROOM,
    GOES_BEFORE_A_REPLY,
    FAILS_IN_A_SWAP,
    GOES_IN_A_SWAP,
};

struct lender {
    enum manner manner;
    int listener;
    struct kn_device_info info; /* what a decent one has */
};

static void say(struct wire *w, uint32_t kind, const void *bytes, size_t n)
{
    wire_begin(w, kind, n);
    wire_put(w, bytes, n);
    wire_flush(w);
}

static void answer(struct wire *w, const struct lender *l)
{
    struct team_hello hello = {.magic = "HERONTWO", .info = l->info};
    if (l->manner == SAYS_JUNK) {
        memset(hello.text, 'x', sizeof hello.text);
        wire_put(w, hello.text, sizeof hello.text);
        wire_flush(w);
        return;
    }
    if (l->manner == REFUSES) { /* at a length that fills its place */
        hello.code = ERR_NOMEM;
        memset(hello.text, 'x', sizeof hello.text);
        memcpy(hello.text, "there is no room", 16);
    }
    if (l->manner == COMPUTES_OTHERWISE)
        memset(hello.info.arithmetic, 'y', sizeof hello.info.arithmetic);
    if (l->manner != GOES_AT_ONCE)
        say(w, l->manner == SAYS_SOMETHING_ELSE ? 0 : TEAM_HELLO, &hello, sizeof hello);
}

/* Replies to what is asked, with nothing behind it. false: that was all. */
static bool reply_to(struct wire *w, uint32_t kind, enum manner manner)
{
    struct team_reply r = {.code = manner == HAS_NO_ROOM ? ERR_NOMEM : 0};
    memset(r.text, 'x', sizeof r.text);
    switch (kind) {
    case TEAM_STREAM_OPEN:
    case TEAM_ALLOC:
    case TEAM_WEIGHT_BEGIN:
    case TEAM_WEIGHT_END:
        if (manner != GOES_BEFORE_A_REPLY)
            say(w, 0, &r, manner == REPLIES_TOO_LITTLE ? 3 : sizeof r);
        return manner != GOES_BEFORE_A_REPLY;
    case TEAM_OP:
        wire_put(w, r.text, manner == GOES_IN_A_SWAP ? 150 : 192); /* how it stands, and 16 floats or some */
        wire_flush(w);
        return false;
    default: return true;
    }
}

static void *lend_oddly(void *arg)
{
    const struct lender *l = arg;
    const int fd = accept(l->listener, NULL, NULL);
    struct wire w;
    struct err err = {0};
    uint32_t kind;
    const unsigned char *bytes;
    size_t n;
    bool is_end = false;
    if (fd < 0 || wire_init(&w, fd, "a leader", &err) != 0)
        return NULL;
    if (wire_take(&w, &kind, &bytes, &n, NULL) == 0) {
        answer(&w, l);
        while (l->manner > COMPUTES_OTHERWISE && wire_take(&w, &kind, &bytes, &n, &is_end) == 0 && !is_end)
            if (!reply_to(&w, kind, l->manner))
                break;
    }
    wire_release(&w);
    return NULL;
}

/* Open, and do as much as goes of: a stream, memory, a weight, a product. The first error. */
static int try_lender(const char *address, struct err *err)
{
    static const float row[4 * 8];
    static const struct kn_limits limits = {
        .rows = 4, .cols = 64, .outputs = 64, .seqs = 1, .kv_len = 8, .heads = 1, .head_dim = 16};
    const struct kn_device_options o = {.threads = 1, .validate = true};
    struct kn_weight w = {
        .dtype = KN_F32, .rows = 4, .cols = 4, .slices = 1, .cut = {.way = KN_CUT_COLS, .span = {{.len = 8, .times = 1}}}};
    struct kn_device *device = NULL;
    struct kn_stream *stream = NULL;
    void *memory = NULL;
    char name[64];
    snprintf(name, sizeof name, "cpu+%s", address);
    int rc = kn_device_open(name, &o, &device, err);
    if (rc != 0)
        return rc;
    if ((rc = kn_stream_open(device, &limits, &stream, err)) == 0 && (rc = kn_alloc(device, 256, &memory, err)) == 0 &&
        (rc = kn_weight_begin(device, &w, err)) == 0 && (rc = kn_weight_rows(device, &w, 0, 4, row, err)) == 0 &&
        (rc = kn_weight_end(device, &w, err)) == 0) {
        const struct kn_mat x = {.data = memory, .rows = 4, .cols = 4, .stride = 4},
                            y = {.data = (float *)memory + 32, .rows = 4, .cols = 4, .stride = 4};
        kn_device_ops(device)->linear(stream, &(struct kn_linear_args){.x = x, .w = &w, .y = y});
        rc = kn_stream_sync(stream, err);
    }
    kn_weight_free(device, &w);
    kn_free(device, memory);
    kn_stream_close(stream);
    kn_device_close(device);
    return rc;
}

/* What a lender says is judged; whatever it is, the leader ends with an error that names it, and gives back what it has. */
static void lenders_are_judged(void **state)
{
    static const struct {
        enum manner manner;
        int code;
        const char *words;
    } cases[] = {
        {SAYS_JUNK, ERR_FORMAT, "does not speak as Heron does"},
        {SAYS_SOMETHING_ELSE, ERR_FORMAT, "does not speak as Heron does"},
        {GOES_AT_ONCE, ERR_IO, "A device is lent to one at a time"},
        {REFUSES, ERR_NOMEM, "there is no room"},
        {COMPUTES_OTHERWISE, ERR_UNSUPPORTED, "two devices that compute alike are needed: cpu is "},
        {REPLIES_TOO_LITTLE, ERR_DEVICE, "replies with 3 bytes"},
        {HAS_NO_ROOM, ERR_NOMEM, "on the second device, "},
        {GOES_BEFORE_A_REPLY, ERR_DEVICE, "is lost"},
        {FAILS_IN_A_SWAP, ERR_DEVICE, "linear: on the other device, "},
        {GOES_IN_A_SWAP, ERR_DEVICE, "is lost"},
    };
    const struct kn_device_options o = {.threads = 1};
    struct kn_device *device = NULL;
    struct lender l;
    struct err err = {0};
    char address[40];
    if (kn_cases_cuda)
        skip();
    assert_ok(kn_device_open("cpu", &o, &device, &err), &err);
    kn_device_get_info(device, &l.info);
    kn_device_close(device);
    l.listener = listener_of(address);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pthread_t thread;
        l.manner = cases[i].manner;
        assert_int_equal(pthread_create(&thread, NULL, lend_oddly, &l), 0);
        err_clear(&err);
        assert_err(try_lender(address, &err), cases[i].code, &err, cases[i].words);
        assert_err(err.code, cases[i].code, &err, cases[i].code == ERR_UNSUPPORTED ? "127.0.0.1" : address);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    close(l.listener);
}

static void what_cannot_be_lent_is_refused(void **state)
{
    const struct kn_device_options o = {.threads = 1};
    struct kn_device *device = NULL;
    struct err err = {0};
    char address[40], name[200];
    const int taken = listener_of(address);
    const struct {
        const char *where, *what;
        int code;
        const char *words;
    } cases[] = {
        {"127.0.0.1:7421", "cpu+cpu", ERR_INVAL, "\"cpu+cpu\" cannot be lent: it is two devices already"},
        {"127.0.0.1:7421", "gpu", ERR_NOT_FOUND, "no device is called \"gpu\""},
        {"7421", "cpu", ERR_INVAL, "\"7421\" is no address: expected HOST:PORT"},
        {":7421", "cpu", ERR_INVAL, "is no address"},
        {"127.0.0.1:", "cpu", ERR_INVAL, "is no address"},
        {"127.0.0.1:-1", "cpu", ERR_INVAL, "is no address"},
        {"[::1]", "cpu", ERR_INVAL, "is no address"},
        {address, "cpu", ERR_IO, "cannot listen on 127.0.0.1:"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err_clear(&err);
        assert_err(kn_lend(cases[i].where, cases[i].what, &o, NULL, NULL, &err), cases[i].code, &err, cases[i].words);
    }
    close(taken);
    memset(name, 'h', sizeof name);
    memcpy(name, "cpu+", 4);
    memcpy(name + sizeof name - 3, ":1", 3);
    assert_err(kn_device_open(name, &o, &device, &err), ERR_NOT_FOUND, &err, "no device is called");
    assert_null(device);
}

/* ---- sessions ------------------------------------------------------------------------------------------------------------------------ */

/* What a leader may say, in this order; two pieces of memory, which lie one behind the other there. */
struct session {
    struct team_alloc a, b;
    struct team_weight_begin begin;
    struct team_weight_rows rows;
    uint64_t rows_bytes, upload_bytes;
    uint32_t ended, op_stream, op, op_bytes_less;
    struct team_upload upload;
    struct team_weight weight;
    struct kn_add_rms_norm_args then;
    struct kn_linear_args linear;
    uint64_t freed;
    uint32_t nothing;
};

#define A    UINT64_C(0x10000)
#define B    (A + 1024)
#define END  (B + 64)
#define ROOM 2048

static void send_session(struct wire *w, const struct session *s)
{
    static const unsigned char zeros[ROOM];
    static const struct kn_limits limits = {
        .rows = 4, .cols = 64, .outputs = 64, .seqs = 1, .kv_len = 8, .heads = 1, .head_dim = 16};
    struct kn_linear_args linear = s->linear;
    const struct kn_weight weight = {.data = (void *)&s->weight};
    say(w, TEAM_ALLOC, &s->a, sizeof s->a);
    say(w, TEAM_ALLOC, &s->b, sizeof s->b);
    say(w, TEAM_WEIGHT_BEGIN, &s->begin, sizeof s->begin);
    wire_begin(w, TEAM_WEIGHT_ROWS, sizeof s->rows + s->rows_bytes);
    wire_put(w, &s->rows, sizeof s->rows);
    wire_put(w, zeros, s->rows_bytes);
    say(w, TEAM_WEIGHT_END, &s->ended, sizeof s->ended);
    say(w, TEAM_STREAM_OPEN, &limits, sizeof limits);
    wire_begin(w, TEAM_UPLOAD, sizeof s->upload + s->upload_bytes);
    wire_put(w, &s->upload, sizeof s->upload);
    wire_put(w, zeros, s->upload_bytes);
    linear.w = &weight;
    linear.then = &s->then;
    if (s->op == KN_OP_linear) {
        team_send_op(w, s->op_stream, KN_OP_linear, &linear);
    } else {
        const uint32_t head[2] = {s->op_stream, s->op};
        say(w, TEAM_OP, head, sizeof head);
    }
    say(w, TEAM_FREE, &s->freed, sizeof s->freed);
    wire_flush(w);
    shutdown(w->fd, SHUT_WR);
}

struct serving {
    struct wire wire;
    struct kn_device *device;
    struct err err;
};

static void *serve(void *arg)
{
    struct serving *s = arg;
    (void)team_serve(&s->wire, s->device, &s->err);
    shutdown(s->wire.fd, SHUT_RDWR);
    return NULL;
}

/* What a member says to a session: the first error that it replied, or the one that ended it. */
static void judge(struct kn_device *device, const struct session *session, struct err *ret_err)
{
    struct serving s = {.device = device};
    struct wire w;
    struct err err = {0};
    pthread_t thread;
    uint32_t kind;
    const unsigned char *bytes;
    size_t n;
    int fds[2];
    bool is_end = false;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_ok(wire_init(&w, fds[0], "the member", &err), &err);
    assert_ok(wire_init(&s.wire, fds[1], "the leader", &err), &err);
    assert_int_equal(pthread_create(&thread, NULL, serve, &s), 0);
    send_session(&w, session);
    assert_int_equal(pthread_join(thread, NULL), 0);
    w.err.code = 0; /* it may have gone before it had heard all */
    w.n_out = 0;
    while (wire_take(&w, &kind, &bytes, &n, &is_end) == 0 && !is_end) {
        struct team_reply r;
        assert_int_equal(n, sizeof r);
        memcpy(&r, bytes, sizeof r);
        if (r.code != 0 && ret_err->code == 0)
            err_set(ret_err, r.code, "%s", r.text);
    }
    if (ret_err->code == 0)
        *ret_err = s.err;
    wire_release(&w);
    wire_release(&s.wire);
}

/* Of a session that is served each single lie about an address, a number or a length is found. */
static void one_lie_is_enough(void **state)
{
    const struct session truth = {
        .a = {.address = A, .bytes = 1024},
        .b = {.address = B, .bytes = 64},
        .begin = {.dtype = KN_F32, .rows = 8, .cols = 16, .slices = 1},
        .rows = {.n = 8},
        .rows_bytes = 8 * 16 * 4,
        .op = KN_OP_linear,
        .upload = {.address = A},
        .upload_bytes = 1024,
        .linear = {.x = {(float *)A, 2, 16, 16}, .y = {(float *)(A + 256), 2, 8, 8}},
        .then = {.x = {(float *)(A + 512), 2, 8, 8},
                 .res = {(float *)(A + 256), 2, 8, 8},
                 .w = (float *)B,
                 .y = {(float *)(A + 768), 2, 8, 8}},
        .freed = A,
    };
#define LIE(field, value, words)                                                                                               \
    {                                                                                                                          \
#field, offsetof(struct session, field), sizeof(truth.field), (uint64_t)(value), words                                 \
    }
    static const struct {
        const char *field;
        size_t at, bytes;
        uint64_t value;
        const char *words; /* NULL: that is none */
    } lies[] = {
        LIE(nothing, 1, NULL),
        LIE(begin.number, 1, "weight 1 where 0 would follow"),
        LIE(begin.dtype, KN_I32, "weights of type I32"),
        LIE(begin.dtype, -1, "weights of type unknown"),
        LIE(begin.rows, 0, "a F32 weight of 1 x 0 x 16"),
        LIE(begin.slices, -1, "a F32 weight of -1 x 8 x 16"),
        LIE(begin.has_scales, 1, "a message ends early"),
        LIE(rows.number, 1, "rows of no weight"),
        LIE(rows.n, 9, "rows of no weight"),
        LIE(rows.n, -1, "rows of no weight"),
        LIE(rows.n, UINT64_C(1) << 58 | 8, "of a weight of 8"), /* as bytes, modulo 2^64, they are 8 rows again */
        LIE(rows.first, 1, "rows 1 to 9 of a weight of 8"),
        LIE(rows.first, INT64_MAX, "of a weight of 8"),
        LIE(rows.first, -1, "rows -1 to 7 of a weight of 8"),
        LIE(ended, 1, "the end of no weight"),
        LIE(upload.stream, 1, "an upload to where there is nothing"),
        LIE(upload.address, A - 1, "an upload to where there is nothing"),
        LIE(upload.address, B, "an upload to where there is nothing"),
        LIE(upload.address, END, "an upload to where there is nothing"),
        LIE(upload.address, 0, "an upload to where there is nothing"),
        LIE(upload.address, UINT64_MAX - 8, "an upload to where there is nothing"),
        LIE(upload_bytes, ROOM, "an upload to where there is nothing"),
        LIE(op_stream, 1, "an op 6 on stream 1"),
        LIE(op, KN_OP_COUNT, "on stream 0"),
        LIE(op, UINT32_MAX, "an op 4294967295 on stream 0"),
        LIE(op, KN_OP_copy, "a message ends early"),
        LIE(weight.number, 1, "a message names what was never made"),
        LIE(weight.number, UINT32_MAX - 1, "a message names what was never made"),
        LIE(linear.x.data, A - 4, "a message names what was never made"),
        LIE(linear.y.data, END, "a message names what was never made"),
        LIE(linear.bias, 8, "a message names what was never made"),
        LIE(then.x.data, UINT64_MAX, "a message names what was never made"),
        LIE(then.w, 4096, "a message names what was never made"),
        LIE(freed, A + 64, "memory is freed that was never made"),
        LIE(freed, 0, "memory is freed that was never made"),
        /* over the end of one piece into the next one of the leader's, which on this side lies elsewhere */
        LIE(upload_bytes, 1024 + 64, "an upload to where there is nothing"),
    };
    const struct kn_device_options o = {.threads = 1, .validate = true};
    struct kn_device *device = NULL;
    struct err err = {0};
    if (kn_cases_cuda)
        skip();
    assert_ok(kn_device_open("cpu", &o, &device, &err), &err);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct session s = truth;
        memcpy((char *)&s + lies[i].at, &lies[i].value, lies[i].bytes);
        err_clear(&err);
        judge(device, &s, &err);
        if (lies[i].words ? err.code == 0 || !test_contains(err.text, lies[i].words) : err.code != 0)
            fail_msg("%s is %lld: \"%s\", want \"%s\"", lies[i].field, (long long)lies[i].value, err.text,
                     lies[i].words ? lies[i].words : "");
    }
    kn_device_close(device);
}

/* ---- arguments ----------------------------------------------------------------------------------------------------------------------- */

/* A product of two whose y has impossible columns marks the stream as it does on one device: nobody divides by them or waits for them. */
static void impossible_columns_mark_the_stream(void **state)
{
    static const int32_t columns[] = {0, 1, -2, INT32_MAX};
    struct kn_rig two;
    struct err err = {0};
    kn_rig_open(&two, kn_cases_cuda ? "cuda+cuda" : "cpu+cpu", NULL, 1);
    float *row = test_calloc(8 * 64, sizeof *row);
    for (int way = KN_CUT_COLS; way <= KN_CUT_JOIN; way++) {
        const bool joins = way == KN_CUT_JOIN;
        struct kn_weight *w = test_calloc(1, sizeof *w);
        *w = (struct kn_weight){.dtype = KN_F32,
                                .rows = joins ? 4 : 8,
                                .cols = joins ? 64 : 32,
                                .slices = 1,
                                .cut = {.way = (enum kn_cut_way)way, .span = {{joins ? 8 : 64, 1}}}};
        assert_ok(kn_weight_begin(two.device, w, &err), &err);
        assert_ok(kn_weight_rows(two.device, w, 0, 8, row, &err), &err);
        assert_ok(kn_weight_end(two.device, w, &err), &err);
        two.weights[two.n_weights++] = w;
        const int32_t ids[2] = {0};
        const struct kn_mat x = kn_rig_mat(&two, 1, 2, w->cols, 0, 1), y = kn_rig_out(&two, 2, 8, 0);
        const struct kn_moe_down_args down = {.h = x,
                                              .ids = kn_rig_put(&two, ids, sizeof ids),
                                              .k = 1,
                                              .weights = kn_rig_mat(&two, 2, 2, 1, 0, 1),
                                              .down = w,
                                              .y = y};
        for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
            for (int is_moe = 0; is_moe < 2 - joins; is_moe++) {
                struct kn_linear_args a = {.x = x, .w = w, .y = y};
                struct kn_moe_down_args m = down;
                a.y.cols = m.y.cols = columns[i];
                if (is_moe)
                    two.op->moe_down(two.stream, &m);
                else
                    two.op->linear(two.stream, &a);
                err_clear(&err);
                assert_err(kn_stream_sync(two.stream, &err), ERR_INVAL, &err, is_moe ? "moe_down: " : "linear: ");
                kn_stream_clear(two.stream);
            }
        two.op->linear(two.stream, &(struct kn_linear_args){.x = x, .w = w, .y = y});
        assert_ok(kn_stream_sync(two.stream, &err), &err);
    }
    test_free(row);
    kn_rig_close(&two);
}

/* Spans end with the first that follows itself no time: what is behind it is no span, and none follows itself less often. */
static void cuts_with_holes_are_refused(void **state)
{
    static const struct {
        enum kn_dtype dtype;
        int32_t cols;
        struct kn_cut cut;
    } cases[] = {
        {KN_Q8_0, 64, {KN_CUT_COLS, {{64, 1}, {0, 0}, {32, 2}}}}, /* whose halves are no whole blocks */
        {KN_F32, 8, {KN_CUT_COLS, {{8, 1}, {0, 0}, {8, 1}}}},
        {KN_F32, 2, {KN_CUT_COLS, {{8, 1}, {4, -1}}}},
        {KN_F32, 2, {KN_CUT_COLS, {{-4, -1}}}},
    };
    struct kn_rig two;
    kn_rig_open(&two, kn_cases_cuda ? "cuda+cuda" : "cpu+cpu", NULL, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kn_weight w = {.dtype = cases[i].dtype, .rows = 4, .cols = cases[i].cols, .slices = 1, .cut = cases[i].cut};
        struct err err = {0};
        const int rc = kn_weight_begin(two.device, &w, &err);
        kn_weight_free(two.device, &w);
        if (rc != ERR_INVAL && rc != ERR_UNSUPPORTED)
            fail_msg("cut %zu: %s: \"%s\"", i, err_name(rc), err.text);
    }
    kn_rig_close(&two);
}

int main(void)
{
    kn_cases_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lenders_are_judged),
        cmocka_unit_test(what_cannot_be_lent_is_refused),
        cmocka_unit_test(one_lie_is_enough),
        cmocka_unit_test(cuts_with_holes_are_refused),
        cmocka_unit_test(impossible_columns_mark_the_stream), /* last: while it fails it takes the program along */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
