/*
 * share - how a model is shared by the two members of a device (kernels.h, "two devices as one"): heads of both kinds of mixers and the middle of the feed-forward parts by halves,
 * the head of an untied model by vocabulary; norms, embedding, router and vision tower whole.
 *
 * Source: Shoeybi et al., "Megatron-LM", arXiv 1909.08053, section 3; Gated DeltaNet's value head j uses key head j mod n_k (MODEL.md section 3), so its value heads are cut in groups of n_k.
 *
 * Threads: pure functions. Memory: none.
 */
#ifndef HERON_ENGINE_SHARE_H
#define HERON_ENGINE_SHARE_H

#include "engine/tensor_list.h"

/*
 * The shape of one member's share: what scratch, caches and ops are made for. members 1: the shape itself. is_linear stays the whole shape's. Errors: ERR_UNSUPPORTED (a number of heads, or a
 * width, that is odd), with which.
 */
int share_shape(const struct model_shape *whole, int members, struct model_shape *ret_share, struct err *err);

/* How a tensor of the whole shape is cut for so many members. Vectors: by rows (of the convolution: of its taps). KN_CUT_NONE: each has it whole. */
struct kn_cut share_cut(const struct model_shape *whole, int members, const struct tensor_spec *spec);

/* Rows and columns of a share of a tensor. */
void share_size(const struct kn_cut *cut, const struct tensor_spec *spec, int32_t *ret_rows, int32_t *ret_cols);

#endif
