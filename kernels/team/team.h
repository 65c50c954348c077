/*
 * team - two devices as one: what the files of this folder share. What it does is said in kernels.h; how:
 *
 * The leader (leader.c) is a backend like any other: each call of the door goes to the first member, a device of this process, and as a message to the second (member.c), which repeats it
 * on a device of its own, in another thread or on another machine. Ops travel as their args struct (args.c), with memory as the leader's addresses, which the other one translates, and
 * weights by number. Where a product's columns are shared both swap their summands and add them (play.c): the one place at which they wait for each other. Errors of the second member
 * come with the next swap or reply.
 *
 * Threads: a mutex of the leader's keeps messages apart; the second member has one thread. Memory: one swap's room per stream.
 */
#ifndef HERON_KERNELS_TEAM_TEAM_H
#define HERON_KERNELS_TEAM_TEAM_H

#include "kernels/device.h"
#include "kernels/team/wire.h"

#define TEAM_PROTOCOL 1

/* Messages of the leader. Those of the second column are answered by a struct team_reply. */
enum team_kind {
    TEAM_HELLO = 1, /* struct team_hello, answered by one */
    TEAM_ALLOC,     /* struct team_alloc: replied */
    TEAM_FREE,      /* u64 the leader's address */
    TEAM_RESERVE,   /* u64: replied */
    TEAM_UPLOAD,    /* struct team_upload, bytes */
    TEAM_UPLOAD_STEP,
    TEAM_WEIGHT_BEGIN, /* struct team_weight_begin, its scales: replied */
    TEAM_WEIGHT_ROWS,  /* struct team_weight_rows, the rows */
    TEAM_WEIGHT_END,   /* u32 number: replied */
    TEAM_WEIGHT_FREE,  /* u32 number */
    TEAM_STREAM_OPEN,  /* struct kn_limits: replied, with the stream's number */
    TEAM_STREAM_CLOSE, /* u32 number */
    TEAM_STREAM_CLEAR, /* u32 number */
    TEAM_OP,           /* u32 stream, u32 op, args */
    TEAM_READ,         /* struct team_read: replied, with bytes a second */
};

struct team_hello {
    char magic[8]; /* "HERONTWO" */
    uint32_t protocol, byte_order;
    uint64_t abi; /* by the sizes of what travels */
    uint8_t validate;
    int32_t tuning[KN_TUNABLES][KN_DTYPE_COUNT]; /* the leader's: what both have whole is to be computed by the same kernels */
    int32_t code;                                /* of the answer: why not */
    char text[256];
    struct kn_device_info info;
};

struct team_reply {
    int32_t code;
    char text[500];
    uint64_t value;
    double number;
};

struct team_alloc {
    uint64_t address, bytes; /* the leader's */
};

struct team_upload {
    uint64_t address;
    uint32_t stream, spare;
};

struct team_weight_begin {
    uint32_t number, has_scales;
    int32_t dtype, rows, cols, slices;
    struct kn_cut cut;
};

struct team_weight_rows {
    uint32_t number, spare;
    int64_t first, n; /* of the share */
};

struct team_read {
    uint64_t bytes;
    double seconds;
};

/* A member's share of a weight. What ops of the member's device get is `share`. */
struct team_weight {
    struct kn_weight share;
    struct kn_cut cut;
    uint32_t number;
};

/* ---- args.c: ops in messages ------------------------------------------------------------------------------------------------ */

/* Any op's args, with what they point to on the host. */
struct team_args {
    union {
#define KN_OP(name) struct kn_##name##_args name;
#include "kernels/ops.def"
#undef KN_OP
    } of;
    struct kn_kv kv;
    struct kn_gdn_state gdn;
    struct kn_add_rms_norm_args then;
};

/* How the second member finds what the leader's args mean. NULL: there is no such thing. */
struct team_finder {
    void *(*memory)(void *ctx, uint64_t address);
    struct team_weight *(*weight)(void *ctx, uint32_t number);
    void *ctx;
};

/* The leader's args of an op, whose weights are struct team_weight in `data`, as a message of TEAM_OP. */
void team_send_op(struct wire *w, uint32_t stream, enum kn_op op, const void *args);

/* Leader: a copy of the args, weights replaced by its shares. */
void team_local_args(enum kn_op op, const void *args, struct team_args *ret);

/* Second member: the args of a message, what follows stream and op. ERR_FORMAT: they cannot be. */
int team_read_args(enum kn_op op, const unsigned char *bytes, size_t n, const struct team_finder *finder, struct team_args *ret,
                   struct err *err);

/* Call an op of a table. */
void team_call(const struct kn_ops *ops, struct kn_stream *stream, enum kn_op op, const void *args);

/* A number for the sizes of all that travels. */
uint64_t team_abi(void);

/* ---- cut.c: shares ---------------------------------------------------------------------------------------------------------- */

/* Rows or columns of the whole; 0: not cut. */
int64_t team_whole(const struct kn_cut *cut);

/* Whether a weight of these sizes (a share's) can be cut so. ERR_INVAL, ERR_UNSUPPORTED. */
int team_cut_check(const struct kn_weight *weight, struct err *err);

/*
 * The stretch of whole rows that begins with `row` and belongs to one member: which one, where it begins in that member's share, how many rows, `most` at most.
 */
int64_t team_stretch(const struct kn_cut *cut, int64_t row, int64_t most, int *ret_member, int64_t *ret_first);

/* n whole rows of block format, columns cut, to a member's share of them, n rows one after the other. */
void team_cut_cols(const struct kn_cut *cut, enum kn_dtype dtype, int member, int64_t n, const unsigned char *whole,
                   unsigned char *share);

/* ---- play.c: an op on one member --------------------------------------------------------------------------------------------- */

/* One member's side of a stream. */
struct team_player {
    struct kn_device *device;
    struct kn_stream *stream; /* of that device */
    struct wire *wire;
    int member;           /* 0, 1 */
    float *mine, *theirs; /* room for a swap */
    size_t room_floats;
};

int team_player_open(struct team_player *p, struct kn_device *device, const struct kn_limits *limits, struct wire *wire,
                     int member, struct err *err);
void team_player_close(struct team_player *p);

/*
 * Run an op whose args are the member's own (weights: struct team_weight.share). Where its product is shared by columns or joined, swaps with the other member, which runs the same op.
 * What fails is on p->stream: the member's own errors, the other one's (ERR_DEVICE), the wire's.
 */
void team_play(struct team_player *p, enum kn_op op, struct team_args *args);

/* Of the leader's first device to the second one. */
void team_tune(struct kn_device *device, int32_t tuning[KN_TUNABLES][KN_DTYPE_COUNT]);

/* ---- member.c ---------------------------------------------------------------------------------------------------------------- */

/* Serve the leader at the other end of the wire with the device until it goes. The device is the caller's. */
int team_serve(struct wire *w, struct kn_device *device, struct err *err);

#endif
