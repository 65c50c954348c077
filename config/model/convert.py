#!/usr/bin/env python3
"""Make the two GGUF files of a checkpoint: the text model with its tokenizer, and the vision tower (mmproj).

    python3 convert.py CHECKPOINT --out heron.gguf --vision mmproj-heron.gguf --type q8_0 [--vision-type bf16]

CHECKPOINT is a folder as transformers' Qwen3_5ForConditionalGeneration.save_pretrained writes it (dense models only), with

    config.json  model*.safetensors  tokenizer.json  preprocessor_config.json  chat_template.jinja
    tokenizer_config.json  generation_config.json          these two where they exist

and optionally MTP blocks in the same safetensors, named mtp.fc.weight, mtp.pre_fc_norm_embedding.weight,
mtp.pre_fc_norm_hidden.weight, mtp.norm.weight and mtp.layers.K.* (a full-attention block). All dimensions come from config.json.

What is written is the family's GGUF layout (engine/MODEL.md, sections 1, 2, 5, 6 and 7), which llama.cpp reads as well. Norm weights
are stored "zero-centred" in a checkpoint, those of MTP blocks included; the files hold the whole factor. Every tensor of the
checkpoint must find its place with its shape, or nothing is written. The same checkpoint gives the same bytes, on any machine.
Needs numpy only.
"""
import argparse
import itertools
import json
import os
import struct
import sys
from pathlib import Path

import numpy as np

NAME = "Heron yard"
AUTHOR = "the Heron authors"
LICENSE = "apache-2.0"  # as model cards and GGUF files write it
DESCRIPTION = "trained on rendered scenes of the synthetic camera only"

# The tokenizer's pattern: both engines have it built in under the name "qwen35", so a tokenizer with another one cannot be converted.
PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


class ConvertError(Exception):
    """Something in the checkpoint that cannot be converted, in words for the user."""


def expect(what, found, expected):
    if found != expected:
        raise ConvertError(f"{what} is {found!r}, expected {expected!r}")


def read_json(path, otherwise=None):
    """The JSON file; `otherwise`, where given, if there is none."""
    if otherwise is not None and not path.is_file():
        return otherwise
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ConvertError(f"{path}: {e}") from e


# ---- the checkpoint ---------------------------------------------------------------------------------------------------------------

WIDEN = {
    "F32": lambda raw: raw.view("<f4").astype(np.float32),
    "F16": lambda raw: raw.view("<f2").astype(np.float32),
    "BF16": lambda raw: (raw.view("<u2").astype(np.uint32) << 16).view(np.float32),
}


class Checkpoint:
    """A folder's configuration and tensors. Tensors are taken once each, as float32."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.config = read_json(self.folder / "config.json")
        self.left = {}  # name -> (dtype, shape, bytes)
        files = sorted(self.folder.glob("model*.safetensors"))
        if not files:
            raise ConvertError(f"{self.folder}: no model*.safetensors")
        for path in files:
            self._index(path)

    def _index(self, path):
        """The safetensors format: the header's length (u64), the header (JSON), the data that its offsets point into."""
        data = np.fromfile(path, np.uint8)
        n = int(data[:8].view("<u8")[0]) if len(data) >= 8 else 0
        try:
            header = json.loads(data[8 : 8 + n].tobytes())
        except ValueError as e:
            raise ConvertError(f"{path}: no safetensors header of {n} bytes: {e}") from e
        if not isinstance(header, dict):
            raise ConvertError(f"{path}: the safetensors header is no object")
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            try:
                dtype, shape, (begin, end) = entry["dtype"], tuple(map(int, entry["shape"])), map(int, entry["data_offsets"])
            except (KeyError, TypeError, ValueError) as e:
                raise ConvertError(f"{path}: the header's entry of {name} is not one: dtype, shape and two data_offsets are expected") from e
            if name in self.left:
                raise ConvertError(f"{path}: {name} is there twice")
            if dtype not in WIDEN:
                raise ConvertError(f"{path}: {name} has type {dtype}, expected one of {', '.join(WIDEN)}")
            self.left[name] = (dtype, shape, data[8 + n + begin : 8 + n + end])

    def __contains__(self, name):
        return name in self.left

    def take(self, name, *shape):
        """The tensor as float32, which must have this shape and finite values only; it is no longer in the checkpoint."""
        if name not in self.left:
            raise ConvertError(f"{self.folder}: no tensor {name}")
        dtype, found, raw = self.left.pop(name)
        expect(f"{self.folder}: shape of {name}", found, shape)
        try:
            a = WIDEN[dtype](np.ascontiguousarray(raw)).reshape(shape)
        except ValueError as e:
            raise ConvertError(f"{self.folder}: {name}: {raw.size} bytes of {dtype} do not make {shape}") from e
        if not np.isfinite(a).all():
            raise ConvertError(f"{self.folder}: {name} has values that are not finite")
        return a

    def take_norm(self, name, *shape):
        """A norm's weight: a checkpoint keeps how far it is from 1, the files keep the factor (MODEL.md 3)."""
        return self.take(name, *shape) + np.float32(1)


# ---- number formats (MODEL.md, block formats) -------------------------------------------------------------------------------------


def to_f16(a):
    with np.errstate(over="ignore"):
        h = a.astype("<f2")
    if not np.isfinite(h).all():
        raise ConvertError("values beyond the range of F16")
    return h


def to_bf16(a):
    """Rounded to nearest, ties to even. Adding half a unit to the bits of a float carries rightly into its exponent."""
    bits = np.ascontiguousarray(a, "<f4").view("<u4")
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")


def to_q8_0(a):
    """32 values a block: a half float d, then whole numbers -127 .. 127, halves rounded away from 0; value = d q."""
    blocks = np.ascontiguousarray(a, np.float32).reshape(-1, 32)
    d = np.abs(blocks).max(1, keepdims=True) / np.float32(127)
    inverse = np.divide(np.float32(1), d, out=np.zeros_like(d), where=d != 0)
    x = blocks * inverse
    q = np.trunc(x + np.copysign(np.float32(0.5), x)).astype(np.int8)
    return np.concatenate([to_f16(d).view(np.uint8), q.view(np.uint8)], 1)


ENCODE = {"f32": lambda a: a.astype("<f4"), "f16": to_f16, "bf16": to_bf16, "q8_0": to_q8_0}
TYPE_CODE = {"f32": 0, "f16": 1, "q8_0": 8, "bf16": 30}  # of a tensor
FILE_TYPE = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}  # general.file_type: what most of a file's matrices are


def storage(name, a, wanted):
    """The type that a tensor is stored in where matrices are stored as `wanted`."""
    if name.startswith("v.patch_embd.weight"):
        return "f16" if wanted == "f16" else "f32"
    if a.ndim == 1 or not name.endswith(".weight") or name.endswith(("_norm.weight", ".ssm_conv1d.weight", ".position_embd.weight")):
        return "f32"
    if wanted == "q8_0" and a.shape[-1] % 32:
        return "f16"  # a row must be whole blocks
    return wanted


# ---- the file (GGUF version 3, little-endian) ----------------------------------------------------------------------------------------

ALIGNMENT = 32
VALUE = {"u32": (4, "<I"), "i32": (5, "<i"), "f32": (6, "<f"), "bool": (7, "<?"), "str": (8, None)}  # type code, layout


def pack_value(kind, value):
    if kind == "str":
        raw = value.encode("utf-8")
        return struct.pack("<Q", len(raw)) + raw
    return struct.pack(VALUE[kind][1], value)


class Gguf:
    """Keys and tensors, in the order in which they were added."""

    def __init__(self, architecture, kind, file_type):
        self.keys, self.tensors, self.file_type, self.n_params = [], [], file_type, 0
        self.add("general.architecture", "str", architecture)
        self.add("general.type", "str", kind)

    def add(self, key, kind, value):
        """One key. A list is an array of `kind`."""
        raw = pack_value("str", key)
        if isinstance(value, list):
            raw += struct.pack("<IIQ", 9, VALUE[kind][0], len(value)) + b"".join(pack_value(kind, v) for v in value)
        else:
            raw += struct.pack("<I", VALUE[kind][0]) + pack_value(kind, value)
        self.keys.append(raw)

    def add_all(self, prefix, keys):
        """Keys as {name: (kind, value)}."""
        for name, (kind, value) in keys.items():
            self.add(f"{prefix}.{name}", kind, value)

    def add_tensor(self, name, a):
        """A tensor, stored as the file's type says. GGUF names the dimensions in the reverse of numpy's order."""
        kind = storage(name, a, self.file_type)
        try:
            data = ENCODE[kind](a).tobytes()
        except ConvertError as e:
            raise ConvertError(f"{name}: {e}") from e
        self.n_params += a.size
        self.tensors.append((name, a.shape[::-1], TYPE_CODE[kind], data))

    def describe(self):
        """Who made it and how large it is; after the last tensor."""
        self.add_all("general", {
            "name": ("str", NAME), "author": ("str", AUTHOR), "description": ("str", DESCRIPTION), "license": ("str", LICENSE),
            "size_label": ("str", size_label(self.n_params)), "file_type": ("u32", FILE_TYPE[self.file_type]),
            "quantization_version": ("u32", 2),
        })

    def write(self, part):
        with open(part, "wb") as f:
            f.write(struct.pack("<4sIQQ", b"GGUF", 3, len(self.tensors), len(self.keys)) + b"".join(self.keys))
            offset = 0
            for name, ne, code, data in self.tensors:
                f.write(pack_value("str", name) + struct.pack(f"<I{len(ne)}QIQ", len(ne), *ne, code, offset))
                offset += len(data) + -len(data) % ALIGNMENT
            for data in itertools.chain([b""], (t[3] for t in self.tensors)):  # the first one: the gap behind the header
                f.write(data)
                f.write(bytes(-f.tell() % ALIGNMENT))


def size_label(n):
    """Two significant figures and a unit: 5.2M."""
    unit, scale = next((u, s) for u, s in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)) if n > s or u == "K")
    digits = len(str(round(n / scale)).lstrip("0"))
    return f"{n / scale:.{max(2 - digits, 0)}f}{unit}"


# ---- the text model (MODEL.md 1, 2, 7) --------------------------------------------------------------------------------------------------


class Text:
    """The dimensions of the text model, in MODEL.md's letters, out of config.json; what cannot be stored is refused."""

    def __init__(self, checkpoint):
        config = checkpoint.config
        expect("config.json: model_type", config.get("model_type"), "qwen3_5")
        t = config["text_config"]
        for key, least in (("hidden_act", "silu"), ("attention_bias", False), ("linear_value_head_dim", t["linear_key_head_dim"])):
            expect(f"config.json: text_config.{key}", t.get(key, least), least)
        self.L, self.E, self.F, self.V = t["num_hidden_layers"], t["hidden_size"], t["intermediate_size"], t["vocab_size"]
        self.H, self.G = t["num_attention_heads"], t["num_key_value_heads"]
        self.D = t.get("head_dim") or self.E // self.H
        self.n_k, self.n_v = t["linear_num_key_heads"], t["linear_num_value_heads"]
        self.d, self.taps = t["linear_key_head_dim"], t["linear_conv_kernel_dim"]  # d_k and d_v
        if self.n_v % self.n_k:
            raise ConvertError(f"config.json: linear_num_value_heads {self.n_v} is no multiple of linear_num_key_heads {self.n_k}")
        self.eps, self.context = t["rms_norm_eps"], t["max_position_embeddings"]
        self.kinds = t.get("layer_types")
        if not self.kinds:
            every = t.get("full_attention_interval", 4)
            self.kinds = ["linear_attention" if (i + 1) % every else "full_attention" for i in range(self.L)]
        expect("config.json: number of layer_types", len(self.kinds), self.L)
        rope = t.get("rope_parameters") or {}
        expect("config.json: rope_type", rope.get("rope_type", "default"), "default")
        expect("config.json: mrope_interleaved", rope.get("mrope_interleaved", True), True)
        self.theta = rope["rope_theta"]
        self.R = int(self.D * rope.get("partial_rotary_factor", t.get("partial_rotary_factor", 0.25)))
        self.sections = list(rope.get("mrope_section", [11, 11, 10]))
        expect("config.json: sum of mrope_section (half of the turned dimensions of a head)", sum(self.sections), self.R // 2)
        self.n_mtp = len({name.split(".")[2] for name in checkpoint.left if name.startswith("mtp.layers.")})
        # Tied embeddings are stored once; a copy that a trainer wrote all the same is dropped with the check that it is one.
        self.is_tied = config.get("tie_word_embeddings", t.get("tie_word_embeddings", False))

    def keys(self):
        keys = {
            "block_count": ("u32", self.L + self.n_mtp), "context_length": ("u32", self.context), "embedding_length": ("u32", self.E),
            "feed_forward_length": ("u32", self.F), "attention.head_count": ("u32", self.H), "attention.head_count_kv": ("u32", self.G),
            "attention.key_length": ("u32", self.D), "attention.value_length": ("u32", self.D),
            "attention.layer_norm_rms_epsilon": ("f32", self.eps), "rope.dimension_count": ("u32", self.R),
            "rope.dimension_sections": ("i32", self.sections + [0]), "rope.freq_base": ("f32", self.theta),
            "ssm.conv_kernel": ("u32", self.taps), "ssm.state_size": ("u32", self.d), "ssm.group_count": ("u32", self.n_k),
            "ssm.time_step_rank": ("u32", self.n_v), "ssm.inner_size": ("u32", self.n_v * self.d),
        }
        every = self.kinds.index("full_attention") + 1 if "full_attention" in self.kinds else self.L + 1
        keys["full_attention_interval"] = ("u32", every)
        if self.kinds != ["linear_attention" if (i + 1) % every else "full_attention" for i in range(self.L)]:
            recurrent = [kind == "linear_attention" for kind in self.kinds] + [False] * self.n_mtp
            keys["attention.recurrent_layers"] = ("bool", recurrent)
        if self.n_mtp:
            keys["nextn_predict_layers"] = ("u32", self.n_mtp)
        return keys

    def tensors(self, c):
        """Name and array of every tensor, taken from checkpoint c."""
        model = "model.language_model."
        embeddings = c.take(model + "embed_tokens.weight", self.V, self.E)
        yield "token_embd.weight", embeddings
        yield "output_norm.weight", c.take_norm(model + "norm.weight", self.E)
        if not self.is_tied:
            yield "output.weight", c.take("lm_head.weight", self.V, self.E)
        elif "lm_head.weight" in c and not np.array_equal(c.take("lm_head.weight", self.V, self.E), embeddings):
            raise ConvertError("config.json says tied embeddings, but lm_head.weight is not embed_tokens.weight")
        for i, kind in enumerate(self.kinds):
            yield from self.block(c, f"blk.{i}.", f"{model}layers.{i}.", kind)
        for k in range(self.n_mtp):
            yield from self.mtp_block(c, f"blk.{self.L + k}.", k)

    def block(self, c, to, of, kind):
        E, F = self.E, self.F
        yield to + "attn_norm.weight", c.take_norm(of + "input_layernorm.weight", E)
        yield from (self.linear if kind == "linear_attention" else self.full)(c, to, of)
        yield to + "post_attention_norm.weight", c.take_norm(of + "post_attention_layernorm.weight", E)
        yield to + "ffn_gate.weight", c.take(of + "mlp.gate_proj.weight", F, E)
        yield to + "ffn_up.weight", c.take(of + "mlp.up_proj.weight", F, E)
        yield to + "ffn_down.weight", c.take(of + "mlp.down_proj.weight", E, F)

    def full(self, c, to, of):
        """Gated attention: the rows of q are, per head, D of the query and D of the gate, in both worlds."""
        E, H, G, D = self.E, self.H, self.G, self.D
        of += "self_attn."
        yield to + "attn_q.weight", c.take(of + "q_proj.weight", H * 2 * D, E)
        yield to + "attn_k.weight", c.take(of + "k_proj.weight", G * D, E)
        yield to + "attn_v.weight", c.take(of + "v_proj.weight", G * D, E)
        yield to + "attn_output.weight", c.take(of + "o_proj.weight", E, H * D)
        yield to + "attn_q_norm.weight", c.take_norm(of + "q_norm.weight", D)
        yield to + "attn_k_norm.weight", c.take_norm(of + "k_norm.weight", D)

    def linear(self, c, to, of):
        """Gated DeltaNet (MODEL.md 2, 3.3): value heads in tiled order; ssm_a is -exp(A_log); ssm_norm alone is no zero-centred norm."""
        E, n_v, d = self.E, self.n_v, self.d
        keys, values = 2 * self.n_k * d, n_v * d
        of += "linear_attn."
        qkv = c.take(of + "in_proj_qkv.weight", keys + values, E)
        conv = c.take(of + "conv1d.weight", keys + values, 1, self.taps)[:, 0]
        a_log = c.take(of + "A_log", n_v).astype(np.float64)  # rounded once, so the same on every machine
        yield to + "attn_qkv.weight", np.concatenate([qkv[:keys], self.tiled(qkv[keys:])])
        yield to + "attn_gate.weight", self.tiled(c.take(of + "in_proj_z.weight", values, E))
        yield to + "ssm_conv1d.weight", np.concatenate([conv[:keys], self.tiled(conv[keys:])])
        yield to + "ssm_dt.bias", self.tiled(c.take(of + "dt_bias", n_v))
        yield to + "ssm_a", self.tiled(-np.exp(a_log).astype(np.float32))
        yield to + "ssm_beta.weight", self.tiled(c.take(of + "in_proj_b.weight", n_v, E))
        yield to + "ssm_alpha.weight", self.tiled(c.take(of + "in_proj_a.weight", n_v, E))
        yield to + "ssm_norm.weight", c.take(of + "norm.weight", d)
        yield to + "ssm_out.weight", self.tiled(c.take(of + "out_proj.weight", E, values).T).T

    def tiled(self, a):
        """Rows of value heads from the training order, head kk n_v/n_k + r of key head kk, to the files' order, head r n_k + kk."""
        heads = a.reshape(self.n_k, self.n_v // self.n_k, -1)
        return np.ascontiguousarray(heads.swapaxes(0, 1)).reshape(a.shape)

    def mtp_block(self, c, to, k):
        """A full-attention block and what joins embedding and hidden row in front of it (MODEL.md 7). Only one is known to the family."""
        if k > 0:
            raise ConvertError("more than one MTP block")
        yield from self.block(c, to, f"mtp.layers.{k}.", "full_attention")
        yield to + "nextn.eh_proj.weight", c.take("mtp.fc.weight", self.E, 2 * self.E)
        yield to + "nextn.enorm.weight", c.take_norm("mtp.pre_fc_norm_embedding.weight", self.E)
        yield to + "nextn.hnorm.weight", c.take_norm("mtp.pre_fc_norm_hidden.weight", self.E)
        yield to + "nextn.shared_head_norm.weight", c.take_norm("mtp.norm.weight", self.E)


# ---- the tokenizer (MODEL.md 6) ----------------------------------------------------------------------------------------------------------

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5


def check_tokenizer(t, path):
    """tokenizer.json must describe what engines compute under the name qwen35: NFC, the pattern, bytes, plain BPE."""
    expect(f"{path}: normalizer", t["normalizer"], {"type": "NFC"})
    steps = t["pre_tokenizer"].get("pretokenizers", [])
    expect(f"{path}: pre-tokenizers", [s["type"] for s in steps], ["Split", "ByteLevel"])
    expect(f"{path}: pattern", steps[0]["pattern"].get("Regex"), PATTERN)
    expect(f"{path}: behaviour of the split", (steps[0]["behavior"], steps[0]["invert"]), ("Isolated", False))
    expect(f"{path}: use_regex and add_prefix_space of the byte level", (steps[1]["use_regex"], steps[1]["add_prefix_space"]), (False, False))
    model = t["model"]
    expect(f"{path}: model", model["type"], "BPE")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"):
        if model.get(key):
            raise ConvertError(f"{path}: model.{key} is {model[key]!r}, expected none")
    for token in t["added_tokens"]:
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            raise ConvertError(f"{path}: added token {token['content']} strips white space or wants whole words")


def byte_texts():
    """The 256 characters that stand for bytes in tokens: printable ones for themselves, the others from U+0100 on."""
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    return {chr(b) for b in plain} | {chr(256 + i) for i in range(256 - len(plain))}


def tokenizer_keys(c, n_vocab):
    path = c.folder / "tokenizer.json"
    t = read_json(path)
    check_tokenizer(t, path)
    tokens, types = [f"[PAD{i}]" for i in range(n_vocab)], [UNUSED] * n_vocab
    added = {a["content"]: a["id"] for a in t["added_tokens"]}
    ids = {**t["model"]["vocab"], **added}
    if max(ids.values()) >= n_vocab:
        raise ConvertError(f"{path}: token id {max(ids.values())}, but config.json has a vocabulary of {n_vocab}")
    for text, i in ids.items():
        if types[i] != UNUSED:
            raise ConvertError(f"{path}: {text!r} and {tokens[i]!r} have the same id {i}")
        tokens[i], types[i] = text, NORMAL
    for a in t["added_tokens"]:
        is_control = a["special"] or (a["content"].startswith("<|") and a["content"].endswith("|>"))
        types[a["id"]] = CONTROL if is_control else USER_DEFINED
    pairs = [m.split(" ") if isinstance(m, str) else m for m in t["model"]["merges"]]
    missing = [x for p in pairs for x in (*p, "".join(p)) if x not in ids] + sorted(byte_texts() - ids.keys())
    if missing:
        raise ConvertError(f"{path}: {len(missing)} merges or bytes that are no token, the first is {missing[0]!r}")
    settings = read_json(c.folder / "tokenizer_config.json", {})
    keys = {
        "model": ("str", "gpt2"), "pre": ("str", "qwen35"), "tokens": ("str", tokens), "token_type": ("i32", types),
        "merges": ("str", [" ".join(p) for p in pairs]), "add_bos_token": ("bool", False),
    }
    for name, key in (("eos", "eos_token_id"), ("pad", "padding_token_id"), ("bos", "bos_token_id")):
        token = settings.get(f"{name}_token")  # a text, or an object that has it as `content`
        i = ids.get(token["content"] if isinstance(token, dict) else token, c.config["text_config"].get(f"{name}_token_id"))
        if i is not None:
            keys[key] = ("u32", i)
    if "eos_token_id" not in keys:
        raise ConvertError(f"{c.folder}: neither tokenizer_config.json nor config.json names the token that ends an answer")
    return keys, settings


def chat_template(c, settings):
    path = c.folder / "chat_template.jinja"
    template = path.read_text(encoding="utf-8") if path.is_file() else settings.get("chat_template")
    if not isinstance(template, str):
        raise ConvertError(f"{path}: there is none, nor one in tokenizer_config.json")
    return template


# ---- the vision tower (MODEL.md 5) -----------------------------------------------------------------------------------------------------


class Vision:
    """The dimensions of the tower and what is done to a picture before it."""

    def __init__(self, checkpoint):
        v = checkpoint.config["vision_config"]
        self.C, self.F, self.N, self.heads = v["hidden_size"], v["intermediate_size"], v["depth"], v["num_heads"]
        self.patch, self.merge, self.places, self.out = v["patch_size"], v["spatial_merge_size"], v["num_position_embeddings"], v["out_hidden_size"]
        for key, only in (("hidden_act", "gelu_pytorch_tanh"), ("in_channels", 3), ("temporal_patch_size", 2), ("deepstack_visual_indexes", [])):
            expect(f"config.json: vision_config.{key}", v.get(key, only), only)
        expect("config.json: vision_config.out_hidden_size", self.out, checkpoint.config["text_config"]["hidden_size"])
        self.side = round(self.places**0.5)
        expect("config.json: vision_config.num_position_embeddings", self.places, self.side**2)
        path = checkpoint.folder / "preprocessor_config.json"
        self.pictures = read_json(path)
        for key, value in (("patch_size", self.patch), ("merge_size", self.merge), ("temporal_patch_size", 2)):
            expect(f"{path}: {key}", self.pictures.get(key, value), value)

    def keys(self):
        keys = {
            "image_size": ("u32", self.side * self.patch),  # says how wide the position grid is, nothing of pictures
            "patch_size": ("u32", self.patch), "embedding_length": ("u32", self.C), "feed_forward_length": ("u32", self.F),
            "block_count": ("u32", self.N), "attention.head_count": ("u32", self.heads), "projection_dim": ("u32", self.out),
            "attention.layer_norm_epsilon": ("f32", 1e-6),  # a constant of the official implementation
            "spatial_merge_size": ("u32", self.merge), "is_deepstack_layers": ("bool", [False] * self.N),
            "image_mean": ("f32", self.pictures["image_mean"]), "image_std": ("f32", self.pictures["image_std"]),
        }
        size = self.pictures.get("size") or {}
        for key, edge, old in (("image_min_pixels", "shortest_edge", "min_pixels"), ("image_max_pixels", "longest_edge", "max_pixels")):
            pixels = size.get(edge, self.pictures.get(old))
            if pixels:
                keys[key] = ("u32", pixels)
        return keys

    def tensors(self, c):
        C, F, P, of = self.C, self.F, self.patch, "model.visual."
        merged = C * self.merge**2

        def pair(to, name, *shape):
            yield to + ".weight", c.take(f"{of}{name}.weight", *shape)
            yield to + ".bias", c.take(f"{of}{name}.bias", shape[0])

        kernel = c.take(of + "patch_embed.proj.weight", C, 3, 2, P, P)
        yield "v.patch_embd.weight", np.ascontiguousarray(kernel[:, :, 0])
        yield "v.patch_embd.weight.1", np.ascontiguousarray(kernel[:, :, 1])
        yield "v.patch_embd.bias", c.take(of + "patch_embed.proj.bias", C)
        yield "v.position_embd.weight", c.take(of + "pos_embed.weight", self.places, C)
        for i in range(self.N):
            to, block = f"v.blk.{i}.", f"blocks.{i}."
            yield from pair(to + "ln1", block + "norm1", C)
            yield from pair(to + "ln2", block + "norm2", C)
            yield from pair(to + "attn_qkv", block + "attn.qkv", 3 * C, C)
            yield from pair(to + "attn_out", block + "attn.proj", C, C)
            yield from pair(to + "ffn_up", block + "mlp.linear_fc1", F, C)
            yield from pair(to + "ffn_down", block + "mlp.linear_fc2", C, F)
        yield from pair("v.post_ln", "merger.norm", C)
        yield from pair("mm.0", "merger.linear_fc1", merged, merged)
        yield from pair("mm.2", "merger.linear_fc2", self.out, merged)


# ---- both files ------------------------------------------------------------------------------------------------------------------------


def convert(folder, out, vision_out, kind, vision_kind):
    """Write both files; raises ConvertError, and then neither is written."""
    c = Checkpoint(folder)
    try:
        text, vision = Text(c), Vision(c)
        vocabulary, settings = tokenizer_keys(c, text.V)
    except KeyError as e:
        raise ConvertError(f"{c.folder}: config.json, preprocessor_config.json or tokenizer.json has no {e}") from e
    a, b = Gguf("qwen35", "model", kind), Gguf("clip", "mmproj", vision_kind)
    for gguf, model in ((a, text), (b, vision)):
        for name, array in model.tensors(c):
            gguf.add_tensor(name, array)
        gguf.describe()
    if c.left:
        raise ConvertError(f"{c.folder}: {len(c.left)} tensors that the layout has no place for, the first is {min(c.left)}")
    a.add_all("qwen35", text.keys())
    for name, form, key in (("top_k", "i32", "top_k"), ("top_p", "f32", "top_p"), ("temp", "f32", "temperature")):
        suggested = read_json(c.folder / "generation_config.json", {}).get(key)
        if suggested is not None:
            a.add(f"general.sampling.{name}", form, suggested)
    a.add_all("tokenizer.ggml", vocabulary)
    a.add("tokenizer.chat_template", "str", chat_template(c, settings))
    b.add_all("clip", {"has_vision_encoder": ("bool", True), "projector_type": ("str", "qwen3vl_merger"), "use_gelu": ("bool", True)})
    b.add_all("clip.vision", vision.keys())
    parts = [Path(f"{path}.part") for path in (out, vision_out)]
    try:
        for gguf, part in zip((a, b), parts):
            gguf.write(part)
        for part, path in zip(parts, (out, vision_out)):
            os.replace(part, path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return a, b


def main():
    words = argparse.ArgumentParser(description="A checkpoint's text model and vision tower as GGUF files.")
    words.add_argument("checkpoint", help="the folder that save_pretrained wrote")
    words.add_argument("--out", required=True, help="the text model's file")
    words.add_argument("--vision", required=True, help="the vision tower's file")
    words.add_argument("--type", choices=ENCODE, default="f32", help="of the matrices (default: f32)")
    words.add_argument("--vision-type", choices=ENCODE, help="of the tower's (default: as --type)")
    args = words.parse_args()
    try:
        files = convert(args.checkpoint, args.out, args.vision, args.type, args.vision_type or args.type)
    except (ConvertError, OSError) as e:
        sys.exit(f"convert.py: {e}")
    for path, gguf in zip((args.out, args.vision), files):
        print(f"{path}: {len(gguf.tensors)} tensors, {gguf.n_params} parameters, {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    main()
