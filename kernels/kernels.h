/*
 * kernels - the door of the arithmetic room: devices, memory, weights, and a table of fused ops.
 *
 * A device is a place that computes ("ref": slow and obvious, the definition of every op; "cpu"; "cuda:N"; or two that share the work, see "two devices as one"). It owns memory and
 * weights. A stream is an ordered queue of ops on one device with its workspace. Model code is straight-line: it calls
 * `ops->linear(stream, &(struct kn_linear_args){...})` and so on, and asks kn_stream_sync once per step whether all went well.
 *
 * Life cycle: kn_device_open -> kn_weight_* and kn_alloc -> kn_stream_open (sizes its workspace from limits; nothing is
 * allocated afterwards) -> ops -> kn_stream_close -> kn_free, kn_weight_free -> kn_device_close.
 *
 * Errors: an op returns nothing. The first failure (bad arguments found by validation, device fault) marks the stream, later
 * ops do nothing, kn_stream_sync reports it with the op's name. A marked stream stays dead until kn_stream_clear.
 *
 * Threads: a device may be used from several threads for memory calls; a stream belongs to one thread at a time. On "cpu" the
 * device's worker pool serves one stream at a time.
 *
 * Invariants every backend keeps, and tests check:
 *  - Batch-invariant: on one device and build, what is computed for a row (a token of a sequence) does not depend, to the bit,
 * on which other rows share the call nor on how a sequence was cut into calls. Reduction orders are therefore fixed by absolute
 * position.
 *  - Args carry everything. What changes from step to step lies in the step block (struct kn_step), so that the same sequence
 * of args can be captured once and replayed.
 *  - Outputs never alias inputs unless an arg says so.
 *
 * Shapes: T rows of the batch (tokens of all sequences, one after the other), S sequences, E embedding, H query heads, G KV
 * heads, D head size, F feed-forward, V vocabulary, P patches, K KV length. [T, E] means row-major, last dimension contiguous,
 * rows `stride` apart.
 */
#ifndef HERON_KERNELS_KERNELS_H
#define HERON_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/dtype.h"

struct kn_device;
struct kn_stream;

/* ---- devices ------------------------------------------------------------------------------------------------------------- */

struct kn_device_options {
    int threads;     /* "cpu": worker threads with the caller; 0: one per usable core */
    const char *isa; /* "cpu": highest instruction set, such as "scalar", "avx2", "neon"; NULL: HERON_CPU or all */
    bool validate;   /* check every args struct (shapes, types, alignment) before running it; always on in "ref" */
};

/*
 * Figures that a device goes by where it has two ways to compute the same: up to so many rows it reads weights as fast as it can and multiplies on the way, above it takes the way of many
 * rows. They differ in time alone, the results are the same to the bit. Which figure is best depends on the machine and on the weights' type.
 */
enum kn_tunable {
    KN_FEW_ROWS,  /* of a dense product */
    KN_FEW_PAIRS, /* of a token and an expert, in the products of experts */
    KN_TUNABLES
};

#define KN_NAME_BYTES 128
struct kn_device_info {
    char name[KN_NAME_BYTES]; /* "ref", "cpu", "cuda:0", "cuda:0+192.0.2.7:7421" */
    char description[128];    /* processor, instruction sets in use, threads: one line for people */
    char arithmetic[128];     /* devices of one build of which this is the same compute the same, to the bit */
    int threads;
    int members;                /* 2: two devices as one; else 1 */
    uint64_t memory_bytes;      /* what the device can hold in all; 0: unknown. Of two devices: the smaller one */
    uint64_t memory_free_bytes; /* now; 0: unknown */
    char tuned
        [128]; /* where the figures of kn_tuning come from: "standard", "measured 2026-11-23", or what is wrong with the file; "": there are none */
};

/*
 * Open a device by name: "ref", "cpu", "cuda", "cuda:N", or "auto" (the first CUDA device, or "cpu" where there is none; which
 * one it became is in the info, for the caller to say aloud. A CUDA device that is there and fails is an error). "A+B": two of them as one, where B may be HOST:PORT of another machine.
 * options  may be NULL for defaults.
 * Errors: ERR_NOT_FOUND (no such device, or its module is not installed), ERR_UNSUPPORTED, ERR_NOMEM, ERR_DEVICE; of two devices also ERR_IO (nobody answers there) and ERR_FORMAT (no
 * Heron does, or one of another build).
 */
int kn_device_open(const char *name, const struct kn_device_options *options, struct kn_device **ret_device, struct err *err);
void kn_device_close(struct kn_device *device);

/* What "auto" stands for on this machine, "cuda:0" or "cpu"; any other name as it is. Cost: opening a CUDA device where there is one. */
const char *kn_device_name(const char *name);

/* How many members a device of this name has: 2 for "A+B", else 1. Opens nothing. */
int kn_device_members(const char *name);
void kn_device_get_info(const struct kn_device *device, struct kn_device_info *ret_info);

/*
 * A figure (enum kn_tunable) of weights of a type, and the largest that makes sense; 0: this device has no choice there. kn_tune sets it, within 0 ... the largest; no stream of the
 * device may be at work meanwhile.
 */
int32_t kn_tuning(const struct kn_device *device, enum kn_tunable what, enum kn_dtype dtype);
int32_t kn_tuning_most(const struct kn_device *device, enum kn_tunable what, enum kn_dtype dtype);
int32_t kn_tuning_standard(const struct kn_device *device, enum kn_tunable what, enum kn_dtype dtype); /* without any table */
void kn_tune(struct kn_device *device, enum kn_tunable what, enum kn_dtype dtype, int32_t value);

/*
 * Tuning tables. A device is opened with what was measured on its like: by a table of this machine (kn_tuning_path), or one that came with the source (cuda/tuning.def); else with standards.
 * kn_tuning_save writes the device's figures into the file, where lines of other devices stay. `date` and `gain` go along: "2026-11-23", how much faster than the standards in the mean.
 * A device is known by how it describes itself: a CPU by its threads and instruction set too. Errors: ERR_IO, ERR_NOT_FOUND (no such folder), with the path; ERR_NOMEM.
 */
const char *kn_tuning_path(void);                  /* $HERON_TUNING, or /var/lib/heron/tuning */
const char *kn_tunable_name(enum kn_tunable what); /* "few_rows" */
int kn_tuning_save(const struct kn_device *device, const char *path, const char *date, double gain, struct err *err);

/*
 * How fast this device reads its memory, in bytes per second: what a decode step could reach at best. Reads a buffer of `bytes`
 * (much larger than the caches; shortened where there is no room) with all the device's threads, over and over for about
 * `seconds`, and returns the median pass. 0: cannot be measured on this device, or no memory for it.
 * Thread: no stream of the device may be in use meanwhile. Cost: `seconds`, and `bytes` while it runs.
 */
double kn_read_bandwidth(struct kn_device *device, size_t bytes, double seconds);

/* ---- memory -------------------------------------------------------------------------------------------------------------- */

/*
 * `bytes` of device memory, 64-byte aligned, zeroed. Owned by the caller until kn_free (NULL allowed). Pointers are device
 * pointers: only ops and the copies below touch what they point to.
 */
int kn_alloc(struct kn_device *device, size_t bytes, void **ret_memory, struct err *err);
void kn_free(struct kn_device *device, void *memory);

/*
 * Room in one piece for all that is taken of the device next: weights, memory, streams' workspaces. What does not fit in any more, or is taken without a reserve, gets memory of its own,
 * rounded up to the device's pages, which for hundreds of tensors adds up. Kept until the device is closed. "cpu" and "ref" take memory as they need it and do nothing here.
 * Errors: ERR_NOMEM with figures.
 */
int kn_reserve(struct kn_device *device, size_t bytes, struct err *err);

/* Ordered after all ops already on the stream; done when they return. Host memory is borrowed for the call. */
void kn_upload(struct kn_stream *stream, void *device_dst, const void *host_src, size_t bytes);
void kn_download(struct kn_stream *stream, void *host_dst, const void *device_src, size_t bytes);

/* As kn_upload, of a step block: what begins with a struct kn_step whose pointers point into the block at device_dst. */
void kn_upload_step(struct kn_stream *stream, void *device_dst, const void *host_src, size_t bytes);

/* ---- two devices as one -------------------------------------------------------------------------------------------------- */

/*
 * Tensor parallelism (Shoeybi et al., "Megatron-LM", arXiv 1909.08053, section 3) behind this door. A device of two members, "A+B", has one stream of ops as any other has, and both compute
 * all of it, on tensors of which each holds its share: heads, and the middle of the feed-forward parts. Weights and vectors say by a kn_cut how they are shared; all that is not cut both
 * have whole. The caller gives weights, memory and ops the sizes of ONE share; what differs is in kn_weight_rows and kn_upload_cut, which take the rows of the whole.
 *
 *   rows shared     y is a share too: project, gate_up, moe_gate_up, linear
 *   columns shared  x is a share; each member has a summand of y, and the device adds them up, before `then`: linear without bias, act and accumulate; moe_down, all of its weights alike
 *   rows joined     y is whole: linear as above puts the members' shares side by side
 *
 * A dimension that is cut is made of spans (heads are interleaved), and of each span the first member has the first half. Sums of two do not depend on who adds: both members go on with the
 * same bits, and what a device of two computes differs from what one computes by the order of additions alone. Only the first member's memory is read by kn_download.
 *
 * The second member is a device of this process, with a thread of its own, or one that another machine lends (kn_lend), over TCP. Both must be of one build and of one arithmetic. Where the
 * connection or the other one fails, the stream is marked ERR_DEVICE.
 */
enum kn_cut_way { KN_CUT_NONE, KN_CUT_ROWS, KN_CUT_COLS, KN_CUT_JOIN };

#define KN_CUT_SPANS 3
struct kn_cut {
    enum kn_cut_way way;
    struct {
        int32_t len,
            times; /* rows or columns of one span of the whole, even; how many of them follow one another. 0 times: there are no more */
    } span[KN_CUT_SPANS];
};

/* Rows first_row .. first_row + n_rows - 1 of a whole table of f32 rows of row_floats, of which `cut` (KN_CUT_ROWS; KN_CUT_NONE: all) takes a member's share to device_dst. Else as kn_upload. */
void kn_upload_cut(struct kn_stream *stream, float *device_dst, const struct kn_cut *cut, int64_t row_floats, int64_t first_row,
                   int64_t n_rows, const float *host_src);

/*
 * Lend a device of this machine to another: listens on HOST:PORT, serves whoever connects, one after the other, and opens the device anew for each. There are no passwords: who reaches the
 * port has the device and sees what it computes, so the address is to be one of a cable or network between the two alone.
 * said: what happens, a line each; may be NULL. Returns only where it cannot go on, an error: ERR_INVAL (address), ERR_IO, and what kn_device_open says for the first opening.
 */
int kn_lend(const char *listen_on, const char *device, const struct kn_device_options *options,
            void (*said)(void *ctx, const char *line), void *ctx, struct err *err);

/* ---- weights ------------------------------------------------------------------------------------------------------------- */

/*
 * A weight matrix, or a stack of `slices` matrices (experts) of one shape. Row o of slice e holds `cols` values; y[o] = sum_i
 * W[o][i] x[i]. Fields are for reading; the device keeps the bytes in a layout of its own (`packed` tells which).
 */
struct kn_weight {
    enum kn_dtype dtype;
    int32_t rows;   /* outputs, per slice */
    int32_t cols;   /* inputs */
    int32_t slices; /* 1, or the number of experts */
    struct kn_cut
        cut; /* of a device of two members: how its rows or columns are shared; rows and cols are then a share's. Else none */
    const float *scales; /* host: one factor on the product per slice (NVFP4's side tensor), or NULL for 1 */
    /* the device's own */
    void *data;
    size_t data_bytes;
    int packed;
};

/* What a weight (dtype, rows, cols, slices) takes of the device's memory, where that is known before it is loaded; 0 elsewhere ("cpu", "ref"). */
size_t kn_weight_bytes(const struct kn_device *device, const struct kn_weight *weight);

/*
 * Make room for a weight on the device and start loading it. dtype, rows, cols, slices of *weight are set by the caller;
 * `scales`, where not NULL, must outlive the weight. Then hand over all rows in order with kn_weight_rows, then kn_weight_end.
 * Errors: ERR_NOMEM, ERR_UNSUPPORTED (type), ERR_INVAL (cols not a whole number of blocks).
 */
int kn_weight_begin(struct kn_device *device, struct kn_weight *weight, struct err *err);

/*
 * The next n_rows rows in GGUF block format (kn_row_bytes each, one after the other; slices follow one another). Chunks of any
 * number of rows. `host_src` is borrowed for the call. Of a weight that is cut they are rows of the whole, counted there.
 */
int kn_weight_rows(struct kn_device *device, struct kn_weight *weight, int64_t first_row, int64_t n_rows, const void *host_src,
                   struct err *err);

/* All rows are there: the weight can be used by ops. */
int kn_weight_end(struct kn_device *device, struct kn_weight *weight, struct err *err);
void kn_weight_free(struct kn_device *device, struct kn_weight *weight);

/* ---- streams ------------------------------------------------------------------------------------------------------------- */

/* The largest of everything that will be asked of a stream: its workspace is sized from this. */
struct kn_limits {
    int32_t rows;     /* T of one call; of experts' ops, tokens */
    int32_t cols;     /* the widest input or output of a linear of so many rows, vocabulary apart */
    int32_t outputs;  /* the widest output at all (vocabulary) */
    int32_t seqs;     /* S */
    int32_t kv_len;   /* K: longest sequence */
    int32_t heads;    /* most heads of any attention (text and vision) */
    int32_t head_dim; /* largest head size, any kind */
    int32_t experts;  /* 0: dense */
    int32_t experts_used;
    int32_t patch_rows,
        patch_cols; /* the same as rows and cols of a vision tower, which has more rows of fewer columns; 0: none */
};

int kn_stream_open(struct kn_device *device, const struct kn_limits *limits, struct kn_stream **ret_stream, struct err *err);
void kn_stream_close(struct kn_stream *stream);
/* Bytes of the device's memory that a stream of these limits takes for its workspace. */
size_t kn_stream_bytes(const struct kn_device *device, const struct kn_limits *limits);

/* Wait for all ops. 0, or the first failure since open or clear, with the op's name in *err. */
int kn_stream_sync(struct kn_stream *stream, struct err *err);
void kn_stream_clear(struct kn_stream *stream);

/*
 * Recording. Ops whose args are the same as in an earlier step, so that all that differs lies in the step block, need not be launched one by one: on a device that can (CUDA graphs), what
 * was recorded under a key runs as one launch, and computes the same to the bit. The caller's key stands for everything of the args that the host knows: in a decode step, the rows.
 *
 *   if (!kn_replay(stream, key)) {
 *       const bool is_recorded = kn_record_begin(stream, key);
 *       ... ops, and nothing but ops ...
 *       if (is_recorded && !kn_record_end(stream))
 *           ... the ops again
 *   }
 *
 * kn_replay         true: the recorded ops are on their way. false: there are none, or the device does not record, or traces.
 * kn_record_begin   true: ops are noted and not run, until kn_record_end runs them all. false: they run as always. The first time that a key is seen they do: what a device loads when
 *                   it first needs it is then there. A stream keeps KN_RECORDS_MAX recordings until it is closed.
 * kn_record_end     true: the ops are on their way, or the stream is marked. false: the device could not keep them, and nothing has run; it does not try this key again.
 * What fails while it is recorded marks the stream, as always; nothing is kept of it.
 */
#define KN_RECORDS_MAX 64
bool kn_replay(struct kn_stream *stream, uint64_t key);
bool kn_record_begin(struct kn_stream *stream, uint64_t key);
bool kn_record_end(struct kn_stream *stream);

/* Kernels and copies that the stream has given its device since it was opened, those of replayed recordings too. 0 where ops are plain calls. */
uint64_t kn_launches(const struct kn_stream *stream);

/* ---- views --------------------------------------------------------------------------------------------------------------- */

/* Activations: [rows, cols] f32, rows `stride` floats apart (stride >= cols). data NULL: not there. */
struct kn_mat {
    float *data;
    int32_t rows, cols;
    int64_t stride;
};

/* Small vectors that live on the device as f32: norms, biases, tables. NULL: not there. */
typedef const float *kn_vec;

/* ---- the step block ------------------------------------------------------------------------------------------------------ */

#define KN_PAGE_TOKENS 64 /* tokens of one KV page */

/* One sequence's part of a step. */
struct kn_seq {
    int32_t row0, n_rows; /* its rows in the batch, consecutive */
    int32_t past;         /* tokens already in its KV pages and recurrent state, before this step */
    int32_t slot;         /* its recurrent-state slot */
    int32_t page0;        /* its page list is pages[page0 ...]: enough pages for past + n_rows tokens */
};

/* What changes per step. Lies in device memory, filled by one upload; ops read it. Sequences' rows are in order and without
 * gaps. */
struct kn_step {
    int32_t n_rows, n_seqs;
    const int32_t *tokens;     /* [n_rows] token id, or -1: the row comes from put_rows */
    const int32_t *pos;        /* [3, n_rows] M-RoPE positions t, h, w: pos[axis * n_rows + row] */
    const struct kn_seq *seqs; /* [n_seqs] */
    const int32_t *seq_of_row; /* [n_rows] */
    const int32_t *pages;      /* page numbers */
};

/*
 * One layer's KV cache: n_pages pages shared by all sequences. K and V each are [n_pages, G, KN_PAGE_TOKENS, D] of `dtype`
 * (F32, F16 or Q8_0; for Q8_0 D is a multiple of 32).
 */
struct kn_kv {
    void *k, *v;
    enum kn_dtype dtype;
    int32_t n_pages, n_heads, head_dim;
};

/*
 * Recurrent state of one Gated DeltaNet layer for n_slots sequences: `bytes_per_slot` = kn_gdn_state_bytes() each. A zeroed
 * slot is the start of a sequence. Slots are copied (fork, save) as bytes at any token; what the bytes mean is the device's
 * own.
 *
 * The chunked form of the delta rule (Yang et al., "Gated Delta Networks", arXiv 2412.06464) is computed with chunk
 * borders at absolute multiples of KN_GDN_CHUNK tokens: a slot holds S at the last border and, for the tokens since then, k,
 * the pseudo values and the cumulative log decay. So a token costs the same arithmetic, to the bit, in a long prefill, in
 * pieces, and alone; and a decode step only reads S.
 */
#define KN_GDN_CHUNK 64
size_t kn_gdn_state_bytes(int32_t n_k, int32_t n_v, int32_t d_k, int32_t d_v);

struct kn_gdn_state {
    void *data;
    size_t bytes_per_slot;
    int32_t n_slots;
};

/* ---- args of the ops ----------------------------------------------------------------------------------------------------- */

/* y[t] = row tokens[t] of `table`, as f32; rows with a negative token are left alone. table: rows V, cols E. */
struct kn_embed_args {
    const struct kn_step *step;
    const struct kn_weight *table;
    struct kn_mat y; /* [T, E] */
};

/* y[row0 + i] = x[i] for all rows of x. */
struct kn_put_rows_args {
    struct kn_mat x; /* [n, E] */
    int32_t row0;
    struct kn_mat y; /* [T, E] */
};

/* y[i] = x[rows[i]]; rows: device i32 [y.rows], each in 0 .. x.rows - 1. */
struct kn_gather_rows_args {
    struct kn_mat x;
    const int32_t *rows;
    struct kn_mat y;
};

/* x += res (res.data may be NULL), in place; y = x / sqrt(mean(x^2) + eps) * w, row by row. y may be x. */
struct kn_add_rms_norm_args {
    struct kn_mat x, res; /* [T, E] */
    kn_vec w;             /* [E] */
    float eps;
    struct kn_mat y; /* [T, E] */
};

/* Per head h of n_heads: y[t,h] = rms(x[t,h]) * w * silu(z[t,h]); w [D] is shared by the heads; x, z, y [T, n_heads * D]. y may
 * be x. */
struct kn_gated_rms_norm_args {
    struct kn_mat x, z;
    kn_vec w;
    int32_t n_heads;
    float eps;
    struct kn_mat y;
};

/* x += res (may be absent), in place; y = (x - mean) / sqrt(var + eps) * w + b, biased variance. */
struct kn_add_layer_norm_args {
    struct kn_mat x, res;
    kn_vec w, b; /* [E] */
    float eps;
    struct kn_mat y;
};

enum kn_act {
    KN_ACT_NONE,
    KN_ACT_GELU_TANH, /* 0.5 u (1 + tanh(sqrt(2/pi) (u + 0.044715 u^3))) */
    KN_ACT_GELU_ERF,  /* 0.5 u (1 + erf(u / sqrt 2)) */
};

/*
 * y = act(x W^T * scale + bias), or with `accumulate` y += that. x [T, cols], y [T, rows]. w->slices is 1. is_bf16: bfloat16 is enough for both factors (sums are float32), as it is
 * where a model was trained so; a device that is faster then rounds them, where the weight is F16 or BF16 (F32 weights are there for exactness). then: an add_rms_norm that follows, whose
 * res is y; NULL: none.
 */
struct kn_linear_args {
    struct kn_mat x;
    const struct kn_weight *w;
    kn_vec bias; /* [rows], may be NULL */
    enum kn_act act;
    bool accumulate, is_bf16;
    struct kn_mat y;
    const struct kn_add_rms_norm_args *then;
};

/* y[i] = x w[i]^T for i < n. */
#define KN_PROJECT_MAX 4
struct kn_project_args {
    struct kn_mat x;
    int32_t n;
    const struct kn_weight *w[KN_PROJECT_MAX];
    struct kn_mat y[KN_PROJECT_MAX];
};

/* y = silu(x gate^T) * (x up^T); silu(u) = u / (1 + exp(-u)). x [T, E], y [T, F]. */
struct kn_gate_up_args {
    struct kn_mat x;
    const struct kn_weight *gate, *up;
    struct kn_mat y;
};

/*
 * Per row: split qg [T, H * 2D] into query and gate, head by head (query D values, then gate D values); RMS-normalise each
 * query head with q_norm and each key head with k_norm (eps); rotate both; write query to q [T, H * D] and K, V of the row's
 * sequence at token past + i into the cache (converted to its type). Gate stays where it is. Rotation (interleaved M-RoPE,
 * pairs i and i + n_pairs): angle = pos[axis[i]] * inv_freq[i], in float32; dims from 2 * n_pairs on pass through; cos and sin
 * are multiplied by rope_scale (YaRN; 1 otherwise). axis: 0 t, 1 h, 2 w.
 */
struct kn_attn_store_args {
    const struct kn_step *step;
    struct kn_mat qg;      /* [T, H * 2D] */
    struct kn_mat k, v;    /* [T, G * D] */
    kn_vec q_norm, k_norm; /* [D] */
    float eps;
    kn_vec inv_freq;     /* [n_pairs] */
    const int32_t *axis; /* [n_pairs] device */
    int32_t n_pairs;
    float rope_scale;
    const struct kn_kv *kv;
    struct kn_mat q; /* [T, H * D] */
};

/*
 * Row t of sequence s with absolute index n (= past + its place): y[t, h] = softmax(q[t, h] . K[0..n] * scale) V[0..n], KV head
 * h / (H / G); then, where gate is given, times sigmoid of the gate half of gate[t] (layout of qg above: head h's gate at h *
 * 2D + D).
 */
struct kn_attn_args {
    const struct kn_step *step;
    struct kn_mat q;    /* [T, H * D] */
    struct kn_mat gate; /* [T, H * 2D] or absent */
    const struct kn_kv *kv;
    float scale;
    struct kn_mat y; /* [T, H * D] */
};

/*
 * Causal depthwise convolution over C = 2 n_k d_k + n_v d_v channels: u[c, t] = silu(sum_j w[c][j] * x[c, t - taps + 1 + j]),
 * values before the sequence start are 0 and the last taps - 1 raw x of a sequence are kept in its slot of `state` ([n_slots,
 * taps - 1, C] f32, oldest first). Then the q part ([n_k, d_k]) and the k part ([n_k, d_k]) are L2-normalised per head, x *
 * rsqrt(sum x^2 + 1e-6), and q is also multiplied by 1 / sqrt(d_k). y [T, C] may be x.
 */
struct kn_gdn_conv_args {
    const struct kn_step *step;
    struct kn_mat x; /* [T, C] */
    kn_vec w;        /* [C, taps] */
    int32_t taps;
    float *state;
    int32_t n_slots;
    int32_t n_k, n_v, d_k, d_v;
    struct kn_mat y; /* [T, C] */
};

/*
 * The gated delta rule. qkv [T, 2 n_k d_k + n_v d_v] from gdn_conv; value head j uses key head j % n_k. Per token
 *   beta = sigmoid(b[t, j]);  g = a[j] * softplus(alpha[t, j] + dt[j])  (a < 0; softplus(u) = u for u > 20)
 *   S <- exp(g) S;  d = beta (v - S^T k);  S <- S + k d^T;  y[t, j] = S^T q
 * with S [d_k, d_v] f32 per value head, in the sequence's slot. y [T, n_v * d_v]. Where z [T, n_v * d_v] is given, y then is what gated_rms_norm makes of it with z, norm [d_v] and eps.
 */
struct kn_gdn_scan_args {
    const struct kn_step *step;
    struct kn_mat qkv;
    struct kn_mat b, alpha; /* [T, n_v] */
    kn_vec a, dt;           /* [n_v] */
    int32_t n_k, n_v, d_k, d_v;
    const struct kn_gdn_state *state;
    struct kn_mat z; /* may be absent, then norm and eps are not looked at */
    kn_vec norm;
    float eps;
    struct kn_mat y;
};

/*
 * p = softmax(x W^T) over all experts (W: F32 [n_experts, E]); the k largest, descending, ties to the lower index; weights p /
 * max(sum of the chosen, 2^-14). ids: device i32 [T, k]; weights [T, k]. And what the expert that all tokens share counts for: gates[t] =
 * sigmoid(x[t] . shared), [T, 1], where shared [E] is given.
 */
struct kn_moe_route_args {
    struct kn_mat x;
    const struct kn_weight *w;
    int32_t k;
    int32_t *ids;
    struct kn_mat weights;
    kn_vec shared;
    struct kn_mat gates;
};

/*
 * y[t * k + i] = silu(gate_e x[t]) * (up_e x[t]), e = ids[t * k + i]. gate, up: slices experts, rows F. With `up` NULL, `gate`
 * has rows 2F: gate rows, then up rows. x [T, E], y [T * k, F]. And of the shared expert, where it is given, shared_y[t] = silu(shared_gate x[t]) *
 * (shared_up x[t]), [T, F'].
 */
struct kn_moe_gate_up_args {
    struct kn_mat x;
    const int32_t *ids;
    int32_t k;
    const struct kn_weight *gate, *up;
    struct kn_mat y;
    const struct kn_weight *shared_gate, *shared_up; /* NULL: there is none */
    struct kn_mat shared_y;
};

/*
 * y[t] = sum over i, in order, of weights[t, i] * (down_e h[t * k + i]); then, where a shared expert is given, += gates[t] * (shared_down shared_h[t]). h [T * k, F], shared_h [T, F'],
 * y [T, E]. then: as in kn_linear_args.
 */
struct kn_moe_down_args {
    struct kn_mat h;
    const int32_t *ids;
    int32_t k;
    struct kn_mat weights; /* [T, k] */
    const struct kn_weight *down;
    struct kn_mat y;
    const struct kn_weight *shared_down; /* NULL: there is none */
    struct kn_mat shared_h, gates;       /* [T, F'], [T, 1] */
    const struct kn_add_rms_norm_args *then;
};

/*
 * RGB bytes of one picture (device, [height, width, 3], both multiples of merge * patch) to y [P, 3 * patch * patch]: value (c,
 * py, px) of a patch = (pixel / 255 - mean[c]) / stddev[c], patches in merge order (blocks of merge x merge patches in raster
 * order, inside a block in raster order).
 */
struct kn_patchify_args {
    const uint8_t *rgb;
    int32_t width_px, height_px, patch_px, merge;
    float mean[3], stddev[3];
    struct kn_mat y;
};

/*
 * x[p] += bilinear sample, aligned corners, of the learned grid [side * side, C] at p's patch row and column: row coordinate r
 * * (side - 1) / (grid_h - 1), 0 where grid_h is 1; patches in merge order. x [grid_h * grid_w, C].
 */
struct kn_add_pos_embed_args {
    struct kn_mat x;
    kn_vec grid;
    int32_t side, grid_w, grid_h, merge;
};

/*
 * Rotate q and k of qkv [P, 3C] in place; C = n_heads * D. Pairs (i, i + D/2): i < D/4 turns by row * theta^(-2i / (D/2)), D/4
 * <= i < D/2 by column * theta^(-2(i - D/4) / (D/2)). Rows are patches of one picture in merge order.
 */
struct kn_rope_2d_args {
    struct kn_mat qkv;
    int32_t n_heads, grid_w, grid_h, merge;
    float theta;
};

/* y[p, h] = softmax(q k^T / sqrt(D)) v over all rows of qkv [P, 3C]; no mask. y [P, C]. */
struct kn_attn_full_args {
    struct kn_mat qkv;
    int32_t n_heads;
    bool is_bf16; /* bfloat16 is enough for q, k, v and the weights of v, as in kn_linear_args */
    struct kn_mat y;
};

/*
 * y[t] = the k largest of x[t] that are allowed, largest first, of equals the one that comes first; where there are fewer, index -1 and minus infinity follow. mask: device,
 * [T, (N + 31) / 32]: i is allowed where bit i % 32 of word i / 32 is set; NULL: all are. What is no number never is. x [T, N], y: device [T, k].
 */
#define KN_TOP_K_MAX 64
struct kn_top {
    float x;
    int32_t index;
};
struct kn_top_k_args {
    struct kn_mat x;
    const uint32_t *mask;
    int32_t k;
    struct kn_top *y;
};

/* dst and src do not overlap. */
struct kn_copy_args {
    void *dst;
    const void *src;
    size_t bytes;
};

struct kn_fill_zero_args {
    void *dst;
    size_t bytes;
};

/* ---- the table ----------------------------------------------------------------------------------------------------------- */

/* One function per line of ops.def: void (*linear)(struct kn_stream *, const struct kn_linear_args *). */
struct kn_ops {
#define KN_OP(name) void (*name)(struct kn_stream * stream, const struct kn_##name##_args *args);
#include "kernels/ops.def"
#undef KN_OP
};

/* The device's table; valid until kn_device_close. */
const struct kn_ops *kn_device_ops(const struct kn_device *device);

/* ---- tracing ------------------------------------------------------------------------------------------------------------- */

/* What one op cost since tracing began. */
struct kn_trace_row {
    const char *name;
    uint64_t calls;
    int64_t time_ns;       /* wall time of the calls; on an asynchronous device each call is followed by a wait */
    uint64_t weight_bytes; /* weights read, by their GGUF size */
};

/* Wrap the device's table: from now on kn_device_ops gives a table that counts. Call while no stream is in use. */
int kn_trace_begin(struct kn_device *device, struct err *err);

/* Copy the rows with calls > 0, most time first, and return how many there are; reset sets the counters back. */
size_t kn_trace_read(struct kn_device *device, struct kn_trace_row *ret_rows, size_t cap, bool reset);

#endif
