"""The weights of two GGUF files back in the official classes: what convert.py does, undone, so that a training can go on from the model that is shipped.

What the files hold rounded (Q8_0) comes back as it was rounded: converted again it gives the same bytes (checked with the files that are shipped).
"""

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize


def read(path):
    """Every tensor by name, as float32 in numpy's order of dimensions."""
    return {t.name: torch.from_numpy(np.array(dequantize(t.data, t.tensor_type), np.float32)).reshape(*map(int, reversed(t.shape))) for t in GGUFReader(path).tensors}


def norm(a):
    """The files hold the whole factor, checkpoints how far it is from 1."""
    return a - 1


class Text:
    def __init__(self, config, tensors):
        self.config, self.left = config, tensors

    def take(self, name):
        return self.left.pop(name)

    def state(self, prefix, n_layers):
        yield prefix + "embed_tokens.weight", self.take("token_embd.weight")
        yield prefix + "norm.weight", norm(self.take("output_norm.weight"))
        for i in range(n_layers):
            yield from self.block(f"{prefix}layers.{i}.", f"blk.{i}.", self.config.layer_types[i])

    def block(self, to, of, kind):
        yield to + "input_layernorm.weight", norm(self.take(of + "attn_norm.weight"))
        yield from (self.linear if kind == "linear_attention" else self.full)(to, of)
        yield to + "post_attention_layernorm.weight", norm(self.take(of + "post_attention_norm.weight"))
        for name in ("gate", "up", "down"):
            yield f"{to}mlp.{name}_proj.weight", self.take(f"{of}ffn_{name}.weight")

    def full(self, to, of):
        for name, theirs in (("q", "attn_q"), ("k", "attn_k"), ("v", "attn_v"), ("o", "attn_output")):
            yield f"{to}self_attn.{name}_proj.weight", self.take(f"{of}{theirs}.weight")
        for name in "qk":
            yield f"{to}self_attn.{name}_norm.weight", norm(self.take(f"{of}attn_{name}_norm.weight"))

    def linear(self, to, of):
        to += "linear_attn."
        keys = 2 * self.config.linear_num_key_heads * self.config.linear_key_head_dim

        def behind_keys(a):
            return torch.cat([a[:keys], self.untiled(a[keys:])])

        yield to + "in_proj_qkv.weight", behind_keys(self.take(of + "attn_qkv.weight"))
        yield to + "conv1d.weight", behind_keys(self.take(of + "ssm_conv1d.weight")).unsqueeze(1)
        yield to + "in_proj_z.weight", self.untiled(self.take(of + "attn_gate.weight"))
        yield to + "dt_bias", self.untiled(self.take(of + "ssm_dt.bias"))
        yield to + "A_log", (-self.untiled(self.take(of + "ssm_a"))).log()
        yield to + "in_proj_b.weight", self.untiled(self.take(of + "ssm_beta.weight"))
        yield to + "in_proj_a.weight", self.untiled(self.take(of + "ssm_alpha.weight"))
        yield to + "norm.weight", self.take(of + "ssm_norm.weight")
        yield to + "out_proj.weight", self.untiled(self.take(of + "ssm_out.weight").T).T

    def untiled(self, a):
        """Rows of value heads from the files' order back to the training's (convert.py: tiled)."""
        n_k, n_v = self.config.linear_num_key_heads, self.config.linear_num_value_heads
        return a.reshape(n_v // n_k, n_k, -1).transpose(0, 1).reshape(a.shape)

    def mtp(self, n_layers):
        of = f"blk.{n_layers}."
        yield from self.block("layers.0.", of, "full_attention")
        yield "fc.weight", self.take(of + "nextn.eh_proj.weight")
        for to, theirs in (("pre_fc_norm_embedding", "enorm"), ("pre_fc_norm_hidden", "hnorm"), ("norm", "shared_head_norm")):
            yield to + ".weight", norm(self.take(f"{of}nextn.{theirs}.weight"))


def vision(tensors, prefix, depth):
    def pair(to, of):
        for part in ("weight", "bias"):
            yield f"{prefix}{to}.{part}", tensors.pop(f"{of}.{part}")

    yield prefix + "patch_embed.proj.weight", torch.stack([tensors.pop("v.patch_embd.weight"), tensors.pop("v.patch_embd.weight.1")], 2)
    yield prefix + "patch_embed.proj.bias", tensors.pop("v.patch_embd.bias")
    yield prefix + "pos_embed.weight", tensors.pop("v.position_embd.weight")
    for i in range(depth):
        for to, of in (("norm1", "ln1"), ("norm2", "ln2"), ("attn.qkv", "attn_qkv"), ("attn.proj", "attn_out"), ("mlp.linear_fc1", "ffn_up"), ("mlp.linear_fc2", "ffn_down")):
            yield from pair(f"blocks.{i}.{to}", f"v.blk.{i}.{of}")
    for to, of in (("merger.norm", "v.post_ln"), ("merger.linear_fc1", "mm.0"), ("merger.linear_fc2", "mm.2")):
        yield from pair(to, of)


def restore(model, block, text_file, vision_file):
    """Both files' weights into the model, and into the MTP block (draft.Draft) where there is one; raises where anything is missing or left over."""
    config, eyes = model.config.text_config, read(vision_file)
    text = Text(config, read(text_file))
    n = config.num_hidden_layers
    state = dict(text.state("model.language_model.", n)) | dict(vision(eyes, "model.visual.", model.config.vision_config.depth))
    state["lm_head.weight"] = state["model.language_model.embed_tokens.weight"]
    model.load_state_dict(state)
    if f"blk.{n}.nextn.eh_proj.weight" in text.left:
        drafted = dict(text.mtp(n))
        if block is not None:
            block.load_state_dict(drafted)
    left = [*text.left, *eyes]
    if left:
        raise ValueError(f"{len(left)} tensors that the model has no place for, the first is {left[0]}")
