/*
 * device - what the files of the kernels room share: the structs behind struct kn_device and struct kn_stream. Not a door.
 *
 * A backend fills a struct kn_backend and embeds struct kn_device and struct kn_stream as the first member of its own. Its
 * table of raw ops is complete before open returns. Callers never see the raw table: kn_device_ops gives wrappers, generated
 * from ops.def, that skip a failed stream, validate where asked, and count time when tracing.
 *
 * Threads: a device is opened, and a stream used, by one thread; workers are the backend's own. Memory: the backend's, freed by its close.
 */
#ifndef HERON_KERNELS_DEVICE_H
#define HERON_KERNELS_DEVICE_H

#include "kernels/kernels.h"

/* One index per op, in the order of ops.def. */
enum kn_op {
#define KN_OP(name) KN_OP_##name,
#include "kernels/ops.def"
#undef KN_OP
    KN_OP_COUNT
};

extern const char *const kn_op_names[KN_OP_COUNT];

struct kn_backend {
    const char *name; /* "ref", "cpu", "cuda": the part of a device's name before the colon */
    /* `index` is what follows the colon, 0 without one. Fills everything of struct kn_device but `ops`; `backend` only where the rest is done by another than this. */
    int (*open)(int index, const struct kn_device_options *options, struct kn_device **ret_device, struct err *err);
    void (*close)(struct kn_device *device);
    int (*alloc)(struct kn_device *device, size_t bytes, void **ret_memory, struct err *err);
    void (*free)(struct kn_device *device, void *memory);
    void (*upload)(struct kn_stream *stream, void *device_dst, const void *host_src, size_t bytes);
    void (*download)(struct kn_stream *stream, void *host_dst, const void *device_src, size_t bytes);
    void (*upload_step)(struct kn_stream *stream, void *device_dst, const void *host_src,
                        size_t bytes); /* NULL: as any upload */
    void (*upload_cut)(struct kn_stream *stream, float *device_dst, const struct kn_cut *cut, int64_t row_floats,
                       int64_t first_row, int64_t n_rows, const float *host_src); /* NULL: nothing is cut on this device */
    int (*weight_begin)(struct kn_device *device, struct kn_weight *weight, struct err *err);
    int (*weight_rows)(struct kn_device *device, struct kn_weight *weight, int64_t first_row, int64_t n_rows,
                       const void *host_src, struct err *err);
    int (*weight_end)(struct kn_device *device, struct kn_weight *weight, struct err *err);
    void (*weight_free)(struct kn_device *device, struct kn_weight *weight);
    int (*stream_open)(struct kn_device *device, const struct kn_limits *limits, struct kn_stream **ret_stream,
                       struct err *err);
    void (*stream_close)(struct kn_stream *stream);
    size_t (*stream_bytes)(const struct kn_device *device, const struct kn_limits *limits);
    size_t (*weight_bytes)(const struct kn_device *device,
                           const struct kn_weight *weight);                  /* kn_weight_bytes; NULL: not known before */
    int (*reserve)(struct kn_device *device, size_t bytes, struct err *err); /* NULL: nothing is reserved */
    int (*stream_sync)(struct kn_stream *stream, struct err *err);           /* device faults only; NULL: nothing to wait for */
    void (*stream_clear)(struct kn_stream *stream);                          /* NULL: the stream's own error is all there is */
    /*
     * Row `row` of slice `slice` of a packed weight as f32 [cols], unscaled. NULL where weights keep their GGUF rows (packed ==
     * 0).
     */
    void (*weight_row)(const struct kn_weight *weight, int32_t slice, int32_t row, float *dst);
    /* kn_tuning_most, and what a device begins with; NULL: there is nothing to choose. */
    int32_t (*tuning_most)(const struct kn_device *device, enum kn_tunable what, enum kn_dtype dtype);
    int32_t (*tuning_standard)(const struct kn_device *device, enum kn_tunable what, enum kn_dtype dtype);
    /* kn_read_bandwidth; NULL: not measured. */
    double (*read_bandwidth)(struct kn_device *device, size_t bytes, double seconds);
    /* kn_replay and so on; NULL: nothing is recorded. */
    bool (*replay)(struct kn_stream *stream, uint64_t key);
    bool (*record_begin)(struct kn_stream *stream, uint64_t key);
    bool (*record_end)(struct kn_stream *stream);
    bool is_host; /* device memory is ordinary memory: validation may look into id lists */
};

struct kn_device {
    const struct kn_backend *backend;
    struct kn_ops raw; /* the backend's own */
    struct kn_ops ops; /* what callers get */
    struct kn_device_info info;
    int32_t tuning[KN_TUNABLES][KN_DTYPE_COUNT];
    bool validate, trace;
    struct kn_trace_row trace_rows[KN_OP_COUNT];
};

struct kn_stream {
    struct kn_device *device;
    struct kn_limits limits;
    struct err err; /* the first failure; code 0: none */
    float *scratch; /* host backends: for the references, kn_scratch_floats(limits) floats */
    size_t scratch_floats;
    uint64_t launches; /* kn_launches */
};

/* "A+B": team/leader.c. */
int team_open(const char *name, const struct kn_device_options *options, struct kn_device **ret_device, struct err *err);

extern const struct kn_backend kn_backend_ref, kn_backend_cpu, kn_backend_cuda;

/* Standards, then the tables; info.tuned says which, or what is wrong with the file of this machine. */
void kn_tuning_open(struct kn_device *device);

/* Mark the stream: the first cause wins. `op` names the op. */
void kn_stream_fail(struct kn_stream *stream, const char *op, int code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Fill a table with the references of kernels/ref/. They run on any host backend: memory is ordinary, weights are read through
 * kn_weight_row. */
void kn_ref_table(struct kn_ops *ret_ops);

/* A weight's row as f32 [cols], scale applied; host backends. */
void kn_weight_row(const struct kn_stream *stream, const struct kn_weight *weight, int32_t slice, int32_t row, float *dst);

#define KN_REF_HEAD_MAX 1024 /* largest head size that the references take */

/* What the references need of stream->scratch, for the largest call that the limits allow. */
size_t kn_ref_scratch_floats(const struct kn_limits *limits);

/* Host memory for host backends: 64-byte aligned, zeroed. */
int kn_host_alloc(struct kn_device *device, size_t bytes, void **ret_memory, struct err *err);
void kn_host_free(struct kn_device *device, void *memory);
void kn_host_copy_in(struct kn_stream *stream, void *device_dst, const void *host_src, size_t bytes);
void kn_host_copy_out(struct kn_stream *stream, void *host_dst, const void *device_src, size_t bytes);

/* Plain GGUF rows (packed == 0), for "ref" and for types that a backend does not pack. */
int kn_plain_weight_begin(struct kn_device *device, struct kn_weight *weight, struct err *err);
int kn_plain_weight_rows(struct kn_device *device, struct kn_weight *weight, int64_t first_row, int64_t n_rows,
                         const void *host_src, struct err *err);
int kn_plain_weight_end(struct kn_device *device, struct kn_weight *weight, struct err *err);
void kn_plain_weight_free(struct kn_device *device, struct kn_weight *weight);

/* kn_validate_linear and so on: 0, or ERR_INVAL with words. */
#define KN_OP(name)                                                                                                            \
    int kn_validate_##name(const struct kn_stream *stream, const struct kn_##name##_args *args, struct err *err);
#include "kernels/ops.def"
#undef KN_OP

/* kn_ref_linear and so on. */
#define KN_OP(name) void kn_ref_##name(struct kn_stream *stream, const struct kn_##name##_args *args);
#include "kernels/ops.def"
#undef KN_OP

#endif
