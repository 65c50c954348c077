#!/usr/bin/env python3
"""Checkpoints for test_convert: the golden models as save_pretrained writes them. Needs numpy, not torch.

    convert_cases.py make MODEL FOLDER       the weights of tests/golden/logits_MODEL.bin, an MTP block of made-up weights, a tokenizer
    convert_cases.py refuse MODEL FOLDER     breaks that checkpoint in many ways; convert.py must refuse each in words that name the fault
"""
import json
import struct
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "golden"), str(HERE.parents[1] / "config" / "model")]
sys.dont_write_bytecode = True
import convert
import model_gen

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
DEFINED = ["<|fim_pad|>", "<think>", "</think>"]  # not "special" to the tokenizer; the first one is control in GGUF all the same
MERGES = ["t h", "th e", "Ġ the", "Ġ a"]


def shapes(model):
    """Text and vision shape from the fixture's header (tests/golden/generate_logits.py describes it)."""
    raw = (HERE.parent / "golden" / f"logits_{model}.bin").read_bytes()
    n = struct.unpack_from("<23i", raw, 8)
    names = "n_layers n_embd n_vocab n_ff n_head n_head_kv head_dim n_rot s0 s1 s2 n_k n_v d_k d_v conv_taps n_experts n_experts_used n_ff_expert n_ff_shared is_tied interval"
    s = dict(zip(names.split(), n[1:]), seed=n[0], is_moe=n[17] > 0, theta=struct.unpack_from("<f", raw, 100)[0])
    v = dict(zip("n_layers n_embd n_ff n_head grid_side min_pixels max_pixels".split(), struct.unpack_from("<7i", raw, 104)))
    return s, dict(v, n_out=s["n_embd"], patch_px=16, merge=2)


def config_of(s, v):
    kinds = ["linear_attention" if (i + 1) % s["interval"] else "full_attention" for i in range(s["n_layers"])]
    return dict(
        model_type="qwen3_5", tie_word_embeddings=bool(s["is_tied"]),
        text_config=dict(
            vocab_size=s["n_vocab"], hidden_size=s["n_embd"], num_hidden_layers=s["n_layers"], intermediate_size=s["n_ff"],
            num_attention_heads=s["n_head"], num_key_value_heads=s["n_head_kv"], head_dim=s["head_dim"], rms_norm_eps=1e-6, layer_types=kinds,
            hidden_act="silu", attention_bias=False, linear_conv_kernel_dim=s["conv_taps"], linear_key_head_dim=s["d_k"],
            linear_value_head_dim=s["d_v"], linear_num_key_heads=s["n_k"], linear_num_value_heads=s["n_v"], max_position_embeddings=4096,
            partial_rotary_factor=0.25,  # what transformers leaves there; rope_parameters has the word
            rope_parameters=dict(rope_type="default", rope_theta=s["theta"], partial_rotary_factor=s["n_rot"] / s["head_dim"],
                                 mrope_section=[s["s0"], s["s1"], s["s2"]], mrope_interleaved=True)),
        vision_config=dict(
            hidden_size=v["n_embd"], depth=v["n_layers"], num_heads=v["n_head"], intermediate_size=v["n_ff"], patch_size=16, spatial_merge_size=2,
            temporal_patch_size=2, num_position_embeddings=v["grid_side"] ** 2, out_hidden_size=v["n_out"], hidden_act="gelu_pytorch_tanh"))


def tensors_of(s, v):
    t = model_gen.to_transformers(s, model_gen.text_tensors(s, s["seed"]), model_gen.vision_tensors(v, s["seed"]))
    t = {name: np.ascontiguousarray(a, np.float32) for name, a in t.items()}
    full = f"model.language_model.layers.{s['interval'] - 1}."
    t.update({"mtp.layers.0." + name[len(full):]: a for name, a in t.items() if name.startswith(full)})
    E = s["n_embd"]
    t["mtp.fc.weight"] = model_gen.values(s["seed"], "fc", (E, 2 * E), "matrix")
    for name in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"):
        t[f"mtp.{name}.weight"] = model_gen.values(s["seed"], name, (E,), "norm") - np.float32(1)
    return t


def tokenizer():
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    texts = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))] + [m.replace(" ", "") for m in MERGES]
    added = [dict(id=len(texts) + i, content=x, single_word=False, lstrip=False, rstrip=False, normalized=False, special=x in CONTROL)
             for i, x in enumerate(CONTROL + DEFINED)]
    return dict(
        version="1.0", added_tokens=added, normalizer=dict(type="NFC"),
        pre_tokenizer=dict(type="Sequence", pretokenizers=[
            dict(type="Split", pattern=dict(Regex=convert.PATTERN), behavior="Isolated", invert=False),
            dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False)]),
        model=dict(type="BPE", vocab={x: i for i, x in enumerate(texts)}, merges=[m.split(" ") for m in MERGES]))


def write(folder, config, tensors, words, pictures, dtype="F32"):
    folder.mkdir(exist_ok=True)
    header, data = {}, []
    for name, a in sorted(tensors.items()):
        raw = a.astype("<f4").tobytes()
        header[name] = dict(dtype=dtype, shape=list(a.shape), data_offsets=[sum(map(len, data)), sum(map(len, data)) + len(raw)])
        data.append(raw)
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))
    for name, value in (("config", config), ("tokenizer", words), ("preprocessor_config", pictures), ("tokenizer_config", dict(eos_token="<|im_end|>"))):
        (folder / f"{name}.json").write_text(json.dumps(value))
    (folder / "chat_template.jinja").write_text("{{ messages }}")


def parts(model):
    s, v = shapes(model)
    pictures = dict(size=dict(shortest_edge=v["min_pixels"], longest_edge=v["max_pixels"]), patch_size=16, merge_size=2, temporal_patch_size=2,
                    image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return config_of(s, v), tensors_of(s, v), tokenizer(), pictures


def put(of, path, value):
    for key in path[:-1]:
        of = of[key]
    of[path[-1]] = value


A, NORM, SPLIT = "model.language_model.layers.0.linear_attn.A_log", "model.language_model.norm.weight", ("pre_tokenizer", "pretokenizers", 0)
CASES = [  # words of the refusal; what to do to config, tensors, tokenizer, pictures
    ("no tensor " + NORM, lambda c, t, w, p: t.pop(NORM)),
    ("shape of " + NORM, lambda c, t, w, p: t.update({NORM: t[NORM][1:]})),
    ("not finite", lambda c, t, w, p: t.update({A: t[A] * np.float32("nan")})),
    ("no place for, the first is extra.weight", lambda c, t, w, p: t.update({"extra.weight": t[A]})),
    ("lm_head.weight is not", lambda c, t, w, p: t.update({"lm_head.weight": t["lm_head.weight"] + 1}) or put(c, ["tie_word_embeddings"], True)),
    ("more than one MTP block", lambda c, t, w, p: t.update({name.replace("s.0.", "s.1."): a for name, a in t.items() if name.startswith("mtp.l")})),
    ("model_type", lambda c, t, w, p: put(c, ["model_type"], "qwen3_5_moe")),
    ("mrope_section", lambda c, t, w, p: put(c, ["text_config", "rope_parameters", "mrope_section"], [11, 11, 10])),
    ("rope_type", lambda c, t, w, p: put(c, ["text_config", "rope_parameters", "rope_type"], "yarn")),
    ("hidden_size", lambda c, t, w, p: c["text_config"].pop("hidden_size")),
    ("out_hidden_size", lambda c, t, w, p: put(c, ["vision_config", "out_hidden_size"], 16)),
    ("merge_size", lambda c, t, w, p: put(p, ["merge_size"], 4)),
    ("normalizer", lambda c, t, w, p: put(w, ["normalizer"], None)),
    ("pattern", lambda c, t, w, p: put(w, [*SPLIT, "pattern"], dict(Regex=r"\s+"))),
    ("behaviour", lambda c, t, w, p: put(w, [*SPLIT, "behavior"], "Removed")),
    ("same id", lambda c, t, w, p: put(w, ["added_tokens", 0, "id"], 5)),
    ("token id 9999", lambda c, t, w, p: put(w, ["added_tokens", 0, "id"], 9999)),
    ("no token", lambda c, t, w, p: put(w, ["model", "merges"], [["q", "z"]])),
    ("no token", lambda c, t, w, p: put(w, ["model", "vocab"], {k: i for k, i in w["model"]["vocab"].items() if k != "Ā"})),
    ("strips", lambda c, t, w, p: put(w, ["added_tokens", 1, "lstrip"], True)),
]


def refuse(model, folder):
    config, tensors, words, pictures = parts(model)
    out = [folder.parent / "refused.gguf", folder.parent / "mmproj-refused.gguf"]
    for expected, change in CASES:
        c, w, p = (json.loads(json.dumps(x)) for x in (config, words, pictures))
        t = dict(tensors)
        change(c, t, w, p)
        write(folder, c, t, w, p)
        try:
            convert.convert(folder, *out, "f32", "f32")
        except convert.ConvertError as e:
            if expected not in str(e):
                sys.exit(f"expected {expected!r} in: {e}")
        else:
            sys.exit(f"{expected!r} was not refused")
        if any(x.exists() for x in out):
            sys.exit(f"{expected!r}: a file was written")
    for cut in (0, 7, 8, 100):  # a file that breaks off
        write(folder, config, tensors, words, pictures)
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:cut])
        try:
            convert.convert(folder, *out, "f32", "f32")
        except convert.ConvertError:
            continue
        sys.exit(f"a safetensors file of {cut} bytes was not refused")
    for header in ([], {"x": 1}, {"x": {"dtype": "F32", "shape": [1]}}, {"x": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}, {"x": {"dtype": "F32", "shape": "ab", "data_offsets": [0, 4]}}):
        raw = json.dumps(header).encode()
        (folder / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(4))
        try:
            convert.convert(folder, *out, "f32", "f32")
        except convert.ConvertError:
            continue
        sys.exit(f"a safetensors header {header} was not refused")
    write(folder, config, tensors, words, pictures)
    try:  # the second file cannot be written: there is no first one either
        convert.convert(folder, out[0], folder / "nowhere" / "mmproj.gguf", "f32", "f32")
    except OSError:
        pass
    else:
        sys.exit("a folder that is not there was not refused")
    if out[0].exists() or list(out[0].parent.glob("*.part")):
        sys.exit("one file was written without the other")
    print(len(CASES) + 10)


if __name__ == "__main__":
    what, model, folder = sys.argv[1:]
    if what == "make":
        write(Path(folder), *parts(model))
    else:
        refuse(model, Path(folder))
