/*
 * play - an op on one member, and the sums and joins of both.
 */
#include "kernels/team/team.h"

#include <stdlib.h>
#include <string.h>

#define ROOM_FLOATS ((size_t)1 << 20) /* of one swap; longer ones take turns */

/* What goes before the floats of a swap: how things stand. */
struct state {
    int32_t code;
    char text[124];
};

int team_player_open(struct team_player *p, struct kn_device *device, const struct kn_limits *limits, struct wire *wire,
                     int member, struct err *err)
{
    *p = (struct team_player){.device = device, .wire = wire, .member = member, .room_floats = ROOM_FLOATS};
    if (p->room_floats < (size_t)limits->outputs)
        p->room_floats = (size_t)limits->outputs;
    int rc = kn_stream_open(device, limits, &p->stream, err);
    if (rc != 0)
        return rc;
    p->mine = malloc(p->room_floats * sizeof *p->mine);
    p->theirs = malloc(p->room_floats * sizeof *p->theirs);
    if (p->mine && p->theirs)
        return 0;
    team_player_close(p);
    return err_set(err, ERR_NOMEM, "out of memory: room for sums of two devices");
}

void team_player_close(struct team_player *p)
{
    kn_stream_close(p->stream);
    free(p->mine);
    free(p->theirs);
    *p = (struct team_player){0};
}

/* n rows of a matrix between the device and a dense array on the host. */
static void fetch(struct team_player *p, const struct kn_mat *y, int32_t row, int32_t n, float *dst)
{
    if (y->stride == y->cols) {
        kn_download(p->stream, dst, y->data + row * y->stride, (size_t)n * (size_t)y->cols * sizeof *dst);
        return;
    }
    for (int32_t i = 0; i < n; i++)
        kn_download(p->stream, dst + (int64_t)i * y->cols, y->data + (row + i) * y->stride, (size_t)y->cols * sizeof *dst);
}

static void store(struct team_player *p, const struct kn_mat *y, int32_t row, int32_t n, const float *src)
{
    if (y->stride == y->cols) {
        kn_upload(p->stream, y->data + row * y->stride, src, (size_t)n * (size_t)y->cols * sizeof *src);
        return;
    }
    for (int32_t i = 0; i < n; i++)
        kn_upload(p->stream, y->data + (row + i) * y->stride, src + (int64_t)i * y->cols, (size_t)y->cols * sizeof *src);
}

/* p->mine to the other member, its floats to p->theirs, and how either stands. */
static void swap(struct team_player *p, enum kn_op op, size_t n_floats)
{
    struct state mine = {0}, theirs = {0};
    struct err err = {0};
    wire_flush(p->wire); /* what the second is to do, it does meanwhile */
    kn_stream_sync(p->stream, &err);
    mine.code = err.code;
    memcpy(mine.text, err.text, sizeof mine.text - 1);
    const int rc = wire_swap(p->wire, &mine, &theirs, sizeof mine, p->mine, p->theirs, n_floats * sizeof(float));
    if (rc != 0)
        kn_stream_fail(p->stream, kn_op_names[op], rc, "%s", p->wire->err.text);
    else if (theirs.code != 0)
        kn_stream_fail(p->stream, kn_op_names[op], ERR_DEVICE, "on the other device, %s: %.*s", p->wire->peer,
                       (int)sizeof theirs.text - 1, theirs.text);
}

/* y is a summand: make it the sum. The first member's plus the second's, on both. */
static void sum(struct team_player *p, enum kn_op op, const struct kn_mat *y)
{
    const int32_t most = (int32_t)(p->room_floats / (size_t)y->cols);
    for (int32_t row = 0, n; row < y->rows; row += n) {
        n = y->rows - row < most ? y->rows - row : most;
        const size_t n_floats = (size_t)n * (size_t)y->cols;
        fetch(p, y, row, n, p->mine);
        swap(p, op, n_floats);
        for (size_t i = 0; i < n_floats; i++)
            p->mine[i] += p->theirs[i]; /* of two, either order gives the same */
        store(p, y, row, n, p->mine);
    }
}

/* y's columns are half this member's, half to come. */
static void join(struct team_player *p, enum kn_op op, const struct kn_mat *y)
{
    const int32_t half = y->cols / 2, most = (int32_t)(p->room_floats / (size_t)half);
    const struct kn_mat left = {.data = y->data, .rows = y->rows, .cols = half, .stride = y->stride};
    const struct kn_mat right = {.data = y->data + half, .rows = y->rows, .cols = half, .stride = y->stride};
    for (int32_t row = 0, n; row < y->rows; row += n) {
        n = y->rows - row < most ? y->rows - row : most;
        fetch(p, p->member == 0 ? &left : &right, row, n, p->mine);
        swap(p, op, (size_t)n * (size_t)half);
        store(p, p->member == 0 ? &right : &left, row, n, p->theirs);
    }
}

static enum kn_cut_way way_of(const struct kn_weight *share)
{
    return share ? ((const struct team_weight *)share)->cut.way : KN_CUT_NONE; /* share is its first member */
}

static void play_linear(struct team_player *p, struct kn_linear_args *a)
{
    const struct kn_ops *ops = kn_device_ops(p->device);
    const struct kn_add_rms_norm_args *then = a->then;
    const struct kn_mat y = a->y;
    const enum kn_cut_way way = way_of(a->w);
    if (way != KN_CUT_COLS && way != KN_CUT_JOIN) {
        ops->linear(p->stream, a);
        return;
    }
    if (a->bias || a->act != KN_ACT_NONE || a->accumulate || (way == KN_CUT_JOIN && then)) {
        kn_stream_fail(p->stream, "linear", ERR_UNSUPPORTED, "of two devices' products only the plain one can be put together");
        return;
    }
    if (y.cols != (way == KN_CUT_JOIN ? 2 : 1) * a->w->rows) {
        kn_stream_fail(p->stream, "linear", ERR_INVAL, "y has %d columns, the weight %d rows", y.cols, a->w->rows);
        return;
    }
    a->then = NULL;
    if (way == KN_CUT_JOIN) {
        a->y.cols = y.cols / 2;
        a->y.data += p->member * (int64_t)a->y.cols;
    }
    ops->linear(p->stream, a);
    if (way == KN_CUT_JOIN)
        join(p, KN_OP_linear, &y);
    else
        sum(p, KN_OP_linear, &y);
    if (then)
        ops->add_rms_norm(p->stream, then);
}

static void play_moe_down(struct team_player *p, struct kn_moe_down_args *a)
{
    const struct kn_ops *ops = kn_device_ops(p->device);
    const struct kn_add_rms_norm_args *then = a->then;
    const bool is_cut = way_of(a->down) == KN_CUT_COLS;
    if (a->shared_down && (way_of(a->shared_down) == KN_CUT_COLS) != is_cut) {
        kn_stream_fail(p->stream, "moe_down", ERR_UNSUPPORTED,
                       "the experts' weights are cut, the shared one's are not, or the other way round");
        return;
    }
    if (is_cut && a->y.cols != a->down->rows) {
        kn_stream_fail(p->stream, "moe_down", ERR_INVAL, "y has %d columns, the weight %d rows", a->y.cols, a->down->rows);
        return;
    }
    a->then = is_cut ? NULL : then;
    ops->moe_down(p->stream, a);
    if (!is_cut)
        return;
    sum(p, KN_OP_moe_down, &a->y);
    if (then)
        ops->add_rms_norm(p->stream, then);
}

void team_tune(struct kn_device *device, int32_t tuning[KN_TUNABLES][KN_DTYPE_COUNT])
{
    for (int what = 0; what < KN_TUNABLES; what++)
        for (int dtype = 0; dtype < KN_DTYPE_COUNT; dtype++)
            kn_tune(device, (enum kn_tunable)what, (enum kn_dtype)dtype, tuning[what][dtype]);
}

void team_play(struct team_player *p, enum kn_op op, struct team_args *args)
{
    if (op == KN_OP_linear)
        play_linear(p, &args->of.linear);
    else if (op == KN_OP_moe_down)
        play_moe_down(p, &args->of.moe_down);
    else
        team_call(kn_device_ops(p->device), p->stream, op, &args->of);
}
