/*
 * synthetic - models without a file, and files without a training run: noise weights of the published shapes for benchmarks,
 * and small random models that tests, the demo and the fuzzers write and read.
 *
 * Noise models. "SHAPE:TYPE" or "SHAPE/LAYERS:TYPE", such as "qwen3.5-0.8b:q4_k" or "qwen3.5-35b-a3b/8:q4_k_m" (the first 8 of
 * its layers). SHAPE is a published one (synthetic_shape_name lists them) or a tiny preset; TYPE a name of kernels/dtype.h, or
 * "q4_k_m": Q4_K with Q6_K for the head and about half of the tensors flagged TENSOR_MORE_BITS. Matrices whose rows are no
 * whole number of the type's blocks are F16. Matrices are filled by kn_fill_noise row by row on their way to the device;
 * vectors follow the rules below with seed 1. The vision tower of the shape is F16, or F32 for TYPE f32.
 *
 * Small random models. Every value is a pure function of (seed, tensor name, index), in whole numbers and powers of two, the
 * same on every machine and in every language (tests/golden/model_gen.py is the Python twin):
 *
 *   h    = FNV-1a-64 of the bytes of  decimal(seed) ":" name   (base/rng.h rng_hash; e.g. "1:blk.0.attn_norm.weight")
 *   r(i) = splitmix64 value i of stream h                      (base/rng.h rng_at(h, i))
 *   u(i) = (sum of the 8 bytes of r(i)) - 1020                 (whole, -1020 .. 1020, standard deviation 209.02)
 *
 * i counts the tensor's values in file order (ne[0] fastest). By role:
 *
 *   role      value                                            tensors (suffix after blk.N. / v.blk.N.)
 *   MATRIX    u * 2^(gain - 8 - b)                             all *.weight of two or more dimensions not named below
 *   ROUTER    as MATRIX with gain 2                            ffn_gate_inp.weight
 *   GATE      as MATRIX with gain 0                            ffn_gate_inp_shexp.weight
 *   NORM      1 + u * 2^-11                                    *_norm.weight, ssm_norm, ln1, ln2, v.post_ln, nextn.*norm
 *   BIAS      u * 2^-12                                        *.bias of the vision file
 *   CONV      u * 2^-9                                         ssm_conv1d.weight
 *   POSITION  u * 2^-10                                        v.position_embd.weight
 *   SSM_DT    -1 + u * 2^-9                                    ssm_dt.bias
 *   SSM_A     -(1 + (r >> 8 & 1023) / 1024) * 2^((r & 7) - 6)  ssm_a: between -1/64 and -4, eight octaves
 *
 *   b     floor(log2(cols)) / 2, a whole division; cols are the values per output: ne[0], for patch kernels 3 * patch * patch
 *   gain  0, but 1 for token_embd and output, -1 for mm.2
 *
 * All of these are exact in F32; MATRIX and ROUTER also in F16. In a file of type T (F32, F16, BF16, Q8_0, Q4_0) every MATRIX
 * is rounded to T by kn_quantize (F16 where cols is no whole number of blocks; patch kernels F16 at most) and all others are
 * F32. So the norms are not 1, the biases not 0, the decays span eight octaves, and the router's logits are wide apart (spread
 * about 3), which keeps the chosen experts clear of ties; golden vectors check that they are. token_embd of a tied model is the
 * head too, with the same values.
 *
 * The vocabulary of small models (synthetic_vocab): the 256 bytes in the family's order, merged tokens grown from a short
 * built-in word list, the family's added tokens, then "[PADn]" (unused) up to n_vocab.
 *
 * Threads: any; a device is used as weights.h says. Memory: as noted.
 */
#ifndef HERON_ENGINE_SYNTHETIC_H
#define HERON_ENGINE_SYNTHETIC_H

#include "engine/model.h"
#include "engine/tensor_list.h"
#include "engine/weights.h"

/* A shape with its vision tower, and how to fill it. Release with synthetic_release. */
struct synthetic {
    char name[MODEL_NAME_BYTES]; /* "qwen3.5-0.8b, noise" */
    struct model_shape shape;
    struct vision_shape vision;
    enum kn_dtype dtype;
    bool is_mix; /* "q4_k_m" */
};

/* Parse "SHAPE[/LAYERS]:TYPE" (":TYPE" may be left out: f32). Errors: ERR_INVAL with the names there are. */
int synthetic_parse(const char *spec, struct synthetic *ret_synthetic, struct err *err);
void synthetic_release(struct synthetic *s);

/* Names of the shapes, NULL after the last: published ones first, then the tiny presets. */
const char *synthetic_shape_name(size_t i);

/* The type a noise model keeps a tensor in. Pure. */
enum kn_dtype synthetic_type(const struct synthetic *s, const struct tensor_spec *spec);

/* Rows first .. first + n - 1 of a noise model's matrix, in its type; by several threads. */
void synthetic_noise_rows(const struct synthetic *s, const struct tensor_spec *spec, int64_t first, int64_t n, void *ret_rows);

/* What it takes, without making it. Either plan may be NULL. */
int synthetic_plan(const struct synthetic *s, struct weights_plan *ret_text, struct weights_plan *ret_vision, struct err *err);

/* Make the models on a device; close them with model_close and vision_model_close. Errors: as model_open but for the file. */
int synthetic_open(struct kn_device *device, const struct synthetic *s, struct weights_progress *progress,
                   struct model **ret_model, struct err *err);
int synthetic_vision_open(struct kn_device *device, const struct synthetic *s, struct weights_progress *progress,
                          struct vision_model **ret_model, struct err *err);

/* How a small random model is written. */
struct synthetic_file {
    uint64_t seed;
    enum kn_dtype dtype; /* F32, F16, BF16, Q8_0 or Q4_0 */
    const char *name;    /* general.name; NULL: "untrained NAME of the shape" */
    bool merge_experts;  /* ffn_gate_up_exps instead of gate and up */
    bool bare_vocab;     /* no tokenizer keys: loading tests, fuzz seeds */
    const struct synthetic
        *noise; /* not NULL: types and values of that noise model instead, of any dtype; seed and dtype do not count */
};

/*
 * Write a model of this shape (a preset of synthetic_parse, changed at will) to `path`. shape->n_vocab below what
 * synthetic_vocab needs is refused unless bare_vocab. Errors: ERR_INVAL (shape, type), ERR_IO (nothing is left at `path` then),
 * ERR_NOMEM.
 */
int synthetic_write_model(const char *path, const struct model_shape *shape, const struct synthetic_file *file,
                          struct err *err);
int synthetic_write_vision(const char *path, const struct vision_shape *shape, const struct synthetic_file *file,
                           struct err *err);

/* Values first .. first + n - 1 of a tensor by the rules above; `spec` from engine/tensor_list.h. */
void synthetic_values(const struct tensor_spec *spec, uint64_t seed, uint64_t first, size_t n, float *ret_values);

/* A vocabulary of n_vocab tokens: texts in the byte-to-unicode form of GGUF. Free with synthetic_vocab_free. */
struct synthetic_vocab {
    int32_t n_tokens, n_merges;
    const char **tokens; /* [n_tokens] */
    int32_t *types;      /* [n_tokens] 1 normal, 3 control, 4 user-defined, 5 unused */
    const char **merges; /* [n_merges] "left right" */
    int32_t eos, pad;    /* <|im_end|>, <|endoftext|> */
    char *text;          /* where the strings lie */
};

/* The fewest tokens there can be. */
int32_t synthetic_vocab_min(void);
int synthetic_vocab_create(int32_t n_vocab, struct synthetic_vocab **ret_vocab, struct err *err);
void synthetic_vocab_free(struct synthetic_vocab *vocab);

#endif
