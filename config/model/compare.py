"""Heron's greedy answers beside those of the official implementation, over frames of the synthetic camera.

    python3 config/model/compare.py CHECKPOINT_FOLDER heron.gguf mmproj-heron.gguf [--heron build/heron] [--frames 300] [--seed 900001]

Frames come from `heron synth` as PNG files, 640x360, each of a scene of its own; Heron reads the files (`heron describe`), so does the official side: the official rule for the size, Pillow's
bicubic resize, the official classes' own forward and generate, float32. Both are asked the same, every third time with the system text of a watch, without a schema that would force the
answer; the answers' texts are compared token by token.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import torch
from PIL import Image
from transformers import Qwen3_5ForConditionalGeneration

from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

import shape
import texts
import tokens

ASKS = ["Describe this picture.", "Describe the scene.", "Is a person at the gate?", "What do you see?", "How many people are there?"]


def official_answer(model, t, size, path, system, ask, limit):
    picture = Image.open(path).convert("RGB")
    height, width = smart_resize(picture.height, picture.width, factor=shape.TILE, min_pixels=size["shortest_edge"], max_pixels=size["longest_edge"])
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    x = shape.patches(torch.from_numpy(np.array(picture))[None])
    pixels = x.view(-1, 3, 1, 256).expand(-1, -1, 2, -1).reshape(-1, 1536)  # a still picture is two equal frames
    dialogue = texts.Dialogue(t, x.shape[1] // 4)
    if system:
        dialogue.system(system)
    dialogue.user(ask, 1)
    ids = torch.tensor([dialogue.ids])
    with torch.no_grad():
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=(ids == t.image).int(), pixel_values=pixels,
                             image_grid_thw=torch.tensor([[1, height // 16, width // 16]]), max_new_tokens=limit, do_sample=False, eos_token_id=t.end,
                             pad_token_id=t.end_of_text)
    return t.decode(out[0, ids.shape[1] :].tolist())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("text")
    parser.add_argument("vision")
    parser.add_argument("--heron", default="build/heron")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--seed", type=int, default=900001)
    parser.add_argument("--limit", type=int, default=160)
    args = parser.parse_args()
    t = tokens.Tokens(pathlib.Path(args.checkpoint) / "tokenizer.json")
    model = Qwen3_5ForConditionalGeneration.from_pretrained(args.checkpoint, dtype=torch.float32).eval()
    size = json.loads((pathlib.Path(args.checkpoint) / "preprocessor_config.json").read_text())["size"]
    same = total = whole = 0
    with tempfile.TemporaryDirectory() as folder:
        for i in range(args.frames):
            frame = 37 * i + 11
            subprocess.run([args.heron, "synth", f"yard?seed={args.seed + i}&size=640x360&fps=1", "--out", folder, "--start", str(frame), "--frames", "1"],
                           check=True, stdout=subprocess.DEVNULL)
            path, ask = pathlib.Path(folder) / f"{frame:06d}.png", ASKS[i % len(ASKS)]
            system = texts.system_text(texts.WATCH_PROMPTS[i % len(texts.WATCH_PROMPTS)]) if i % 3 == 0 else ""
            ours = subprocess.run([args.heron, "describe", "-m", args.text, "-v", args.vision, "--device", "cpu", "--kv", "f32", "--max-tokens", str(args.limit),
                                   *(["--system", system] if system else []), "--prompt", ask, str(path)], check=True, capture_output=True, text=True).stdout[:-1]
            theirs = official_answer(model, t, size, path, system, ask, args.limit)
            a, b = t.encode(ours), t.encode(theirs)
            same += sum(x == y for x, y in zip(a, b))
            total += max(len(a), len(b))
            whole += a == b
            if a != b:
                print(json.dumps(dict(seed=args.seed + i, ask=ask, heron=ours, official=theirs)))
            path.unlink()
    print(f"{args.frames} frames: {100 * same / total:.2f} % of {total} tokens identical, {whole} answers identical as a whole")


if __name__ == "__main__":
    main()
