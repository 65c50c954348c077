/*
 * model - shapes and bound weights of a model of the family: what model_qwen35.c and vision.c compute with.
 *
 * Filled by weights.c from GGUF files: every shape is checked there, once, with an error that names tensor, expected and found,
 * so that the forward passes need no defensive branches. Symbols and tensor names: MODEL.md. Weight pointers with `data ==
 * NULL` are absent.
 *
 * Memory: weights and vectors live on the device and belong to struct model / struct vision_model (weights_close).
 */
#ifndef HERON_ENGINE_MODEL_H
#define HERON_ENGINE_MODEL_H

#include "kernels/kernels.h"

#define MODEL_NAME_BYTES 96

/* Shape of a text model: GGUF metadata, MODEL.md section 1. Every dimension comes from the file; nothing is hard-coded. */
struct model_shape {
    char architecture[16];       /* "qwen35", "qwen35moe" */
    char name[MODEL_NAME_BYTES]; /* general.name */
    bool is_moe, is_tied, is_untrained;
    int32_t n_layers;                    /* main layers, MTP blocks not counted */
    int32_t n_nextn;                     /* MTP blocks after them */
    int32_t n_embd;                      /* E */
    int32_t n_vocab;                     /* V */
    int32_t n_ff;                        /* F, dense */
    int32_t n_head, n_head_kv, head_dim; /* H, G, D of full attention */
    int32_t n_rot;                       /* rotated dims of a head */
    int32_t rope_sections[4];
    float rope_freq_base;
    enum { ROPE_NONE, ROPE_LINEAR, ROPE_YARN } rope_scaling;
    float rope_factor, rope_attn_factor, yarn_ext_factor, yarn_beta_fast, yarn_beta_slow;
    int32_t rope_original_context;
    float rms_eps;
    int32_t conv_taps;
    int32_t n_k, n_v, d_k, d_v; /* Gated DeltaNet heads and their sizes */
    int32_t n_experts, n_experts_used, n_ff_expert, n_ff_shared;
    int32_t trained_context;
    bool *is_linear; /* [n_layers] Gated DeltaNet layer; malloc'ed, owned */
};

/* One main layer. Vectors are device f32. */
struct model_layer {
    kn_vec attn_norm;      /* [E] before the mixer */
    kn_vec post_attn_norm; /* [E] before the feed-forward part */
    /* full attention */
    struct kn_weight wq;     /* [H * 2D, E] query and gate, head by head */
    struct kn_weight wk, wv; /* [G * D, E] */
    struct kn_weight wo;     /* [E, H * D] */
    kn_vec q_norm, k_norm;   /* [D] */
    /* Gated DeltaNet */
    struct kn_weight w_qkv;           /* [2 n_k d_k + n_v d_v, E] */
    struct kn_weight w_z;             /* [n_v d_v, E] */
    struct kn_weight w_beta, w_alpha; /* [n_v, E] */
    struct kn_weight w_out;           /* [E, n_v d_v] */
    kn_vec conv_w;                    /* [2 n_k d_k + n_v d_v, taps] */
    kn_vec ssm_a, ssm_dt;             /* [n_v] */
    kn_vec ssm_norm;                  /* [d_v] */
    /* dense feed-forward */
    struct kn_weight w_gate, w_up; /* [F, E] */
    struct kn_weight w_down;       /* [E, F] */
    /* mixture of experts */
    struct kn_weight router;       /* [n_experts, E] F32 */
    struct kn_weight e_gate, e_up; /* slices n_experts: [F_e, E]; merged files: e_gate [2 F_e, E] and e_up absent */
    struct kn_weight e_down;       /* slices n_experts: [E, F_e] */
    kn_vec shared_gate;            /* [E] */
    struct kn_weight s_gate, s_up; /* [F_s, E] */
    struct kn_weight s_down;       /* [E, F_s] */
};

struct model {
    struct model_shape shape;
    struct kn_weight token_embd; /* [V, E] */
    struct kn_weight output;     /* [V, E]; tied models: the same bytes as token_embd (is_tied: not freed twice) */
    kn_vec output_norm;          /* [E] */
    struct model_layer *layers;  /* [n_layers] malloc'ed, owned */
    uint64_t weights_bytes;      /* as in the file */
    uint64_t bytes_per_token;    /* read to decode one token */
    uint64_t n_params;
};

/* Shape of the vision tower: MODEL.md. */
struct vision_shape {
    char name[MODEL_NAME_BYTES];
    int32_t n_layers, n_embd, n_ff, n_head;
    int32_t patch_px, merge; /* 16, 2 */
    int32_t grid_side;       /* learned positions are grid_side x grid_side */
    int32_t n_out;           /* the text model's E */
    float eps;
    float mean[3], stddev[3];
    int64_t min_pixels, max_pixels; /* smart resize limits; the file's, or 65536 and 16777216 */
};

struct vision_layer {
    kn_vec ln1_w, ln1_b, ln2_w, ln2_b; /* [C] */
    struct kn_weight w_qkv, w_out;     /* [3C, C], [C, C] */
    kn_vec b_qkv, b_out;
    struct kn_weight w_up, w_down; /* [F, C], [C, F] */
    kn_vec b_up, b_down;
};

struct vision_model {
    struct vision_shape shape;
    struct kn_weight patch[2]; /* [C, 3 * patch * patch] temporal slices 0 and 1 */
    kn_vec patch_bias;         /* [C] */
    kn_vec position;           /* [grid_side^2, C] */
    struct vision_layer *layers;
    kn_vec post_ln_w, post_ln_b;
    struct kn_weight mm0, mm2; /* [4C, 4C], [n_out, 4C] */
    kn_vec mm0_b, mm2_b;
    uint64_t weights_bytes, n_params;
};

#endif
