#!/usr/bin/env python3
"""Make tests/golden/logits_*.bin: logits and picture embeddings of small random models by the official implementation.

    pip install transformers==5.17.0 torch numpy pillow
    tests/golden/generate_logits.py [MODEL ...]

The weights are not stored: model_gen.py and engine/synthetic.c make the same ones from the seed. Text and vision run in
transformers' Qwen3_5[Moe]ForConditionalGeneration, float32, eager attention, on the processor; pictures go through its Pillow
image processor; positions come from its get_rope_index. truth.py says in float64 how far float32 is from the formulas.

File format (little-endian, all of it 4-byte words, i32 unless said otherwise; one file per model):

  "HGOLDEN1" (8 bytes)
  text shape    seed n_layers n_embd n_vocab n_ff n_head n_head_kv head_dim n_rot section[3] n_k n_v d_k d_v conv_taps
                n_experts n_experts_used n_ff_expert n_ff_shared is_tied interval, f32 rope_freq_base
  vision shape  n_layers n_embd n_ff n_head grid_side min_pixels max_pixels       (patch 16, merge 2)
  n_pictures, then each: width height seed target_width target_height, f32 nmse of the float32 rows to the float64 ones,
                         f32 rows [tokens, n_embd]
  n_cases, then each: name (16 bytes), n_tokens n_rows, f32 nmse as above,
                      i32 ids [n_tokens]     (-1 - k: a row of picture k of the list above)
                      i32 positions [3, n_tokens], i32 top [n_tokens], f32 gap [n_tokens] of the two largest logits
                      i32 row [n_rows], f32 logits [n_rows, n_vocab]
"""
import os
import struct
import sys

import numpy as np
import torch
import transformers
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import model_gen
import truth

assert transformers.__version__ == '5.17.0', transformers.__version__
torch.manual_seed(0)
torch.set_grad_enabled(False)
torch.backends.mkldnn.enabled = False  # its convolution adds 1536 products one after the other: ten times the noise of the rest

TEXT = dict(n_layers=4, interval=4, n_embd=64, n_vocab=512, n_ff=128, n_head=4, n_head_kv=2, head_dim=32, n_rot=16,
            rope_sections=(3, 3, 2), rope_freq_base=1e7, rms_eps=1e-6, conv_taps=4, n_k=2, n_v=2, d_k=16, d_v=16, is_tied=False,
            is_moe=False, n_experts=0, n_experts_used=0, n_ff_expert=0, n_ff_shared=0)
VISION = dict(n_layers=2, n_embd=32, n_ff=64, n_head=4, patch_px=16, merge=2, grid_side=8, eps=1e-6, min_pixels=4096,
              max_pixels=65536)
# width, height, seed: enlarged by min_pixels, about kept, and reduced by max_pixels
PICTURES = [(61, 40, 1), (150, 100, 2), (300, 420, 3)]


def shape(seed, vision=None, **text):
    return dict(TEXT, seed=seed, **text), dict(VISION, **(vision or {}))


MODELS = {
    # n_v = n_k, tied; head dim 32, 16 of it turned, state 16; a small base, so that the last pair's axis shows
    'dense1': shape(33, is_tied=True, rope_freq_base=100.0),
    # n_v = 2 n_k; head dim 48, 24 turned, state 32; vision head dim 24, the file's own limits are the family's
    'dense2': shape(12, n_embd=96, n_ff=160, n_head=6, head_dim=48, n_rot=24, rope_sections=(4, 4, 4), n_v=4, d_k=32, d_v=32,
                    vision=dict(n_embd=48, n_ff=80, n_head=2, grid_side=12, min_pixels=65536, max_pixels=16777216)),
    # n_v = 3 n_k, tied; every second layer full attention; one KV head; sections that leave pairs over (they turn with t)
    'dense3': shape(35, interval=2, n_head=3, n_head_kv=1, head_dim=64, n_rot=32, rope_sections=(8, 5, 3),
                    rope_freq_base=1000.0, n_v=6, d_k=32, d_v=32,
                    is_tied=True, vision=dict(n_layers=3, n_head=2)),
    # n_v = 4 n_k, experts
    'moe4': shape(32, is_moe=True, n_ff=0, n_k=2, n_v=8, n_experts=16, n_experts_used=4, n_ff_expert=32, n_ff_shared=48),
    # the family's head sizes: 256 with 64 turned in 11/11/10, state 128; experts with a tied head
    'family': shape(34, is_moe=True, n_ff=0, head_dim=256, n_rot=64, rope_sections=(11, 11, 10), n_head=2, n_head_kv=1, n_v=4,
                    d_k=128, d_v=128, n_experts=8, n_experts_used=2, n_ff_expert=32, n_ff_shared=32, is_tied=True,
                    vision=dict(n_embd=144, n_head=2, n_ff=96, grid_side=48)),
}
# parts: a number is so many text tokens, a letter a picture of the list with its start and end tokens
CASES = {
    'text': [41],
    'picture': ['b', 9],
    'middle': [17, 'c', 23],
    'two': [5, 'c', 3, 'a', 12],
    'long': [330, 'a', 301],
}
LONG_TEXT = {'dense1', 'moe4'}  # their long case is text only


def hf_model(s, v):
    kind = 'Qwen3_5Moe' if s['is_moe'] else 'Qwen3_5'
    config = getattr(transformers, kind + 'Config')(
        text_config=dict(
            vocab_size=s['n_vocab'], hidden_size=s['n_embd'], num_hidden_layers=s['n_layers'], num_attention_heads=s['n_head'],
            num_key_value_heads=s['n_head_kv'], head_dim=s['head_dim'], rms_norm_eps=s['rms_eps'],
            linear_conv_kernel_dim=s['conv_taps'], linear_key_head_dim=s['d_k'], linear_value_head_dim=s['d_v'],
            linear_num_key_heads=s['n_k'], linear_num_value_heads=s['n_v'], full_attention_interval=s['interval'],
            tie_word_embeddings=s['is_tied'],
            rope_parameters=dict(rope_type='default', rope_theta=s['rope_freq_base'], mrope_section=list(s['rope_sections']),
                                 mrope_interleaved=True, partial_rotary_factor=s['n_rot'] / s['head_dim']),
            **(dict(num_experts=s['n_experts'], num_experts_per_tok=s['n_experts_used'], moe_intermediate_size=s['n_ff_expert'],
                    shared_expert_intermediate_size=s['n_ff_shared']) if s['is_moe'] else dict(intermediate_size=s['n_ff']))),
        vision_config=dict(
            depth=v['n_layers'], hidden_size=v['n_embd'], intermediate_size=v['n_ff'], num_heads=v['n_head'],
            out_hidden_size=s['n_embd'], num_position_embeddings=v['grid_side'] ** 2),
        image_token_id=s['n_vocab'] - 1, video_token_id=s['n_vocab'] - 2, vision_start_token_id=s['n_vocab'] - 3,
        vision_end_token_id=s['n_vocab'] - 4, tie_word_embeddings=s['is_tied'])
    config._attn_implementation = 'eager'
    model = getattr(transformers, kind + 'ForConditionalGeneration')(config).float().eval()
    text, vision = model_gen.text_tensors(s, s['seed']), model_gen.vision_tensors(dict(v, n_out=s['n_embd']), s['seed'])
    state = {k: torch.from_numpy(np.ascontiguousarray(a, np.float32)) for k, a in model_gen.to_transformers(s, text, vision).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and not missing, (missing, unexpected)
    return model, text, vision


def nmse(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return ((a - b) ** 2).sum() / (b ** 2).sum()


def make(name):
    s, v = MODELS[name]
    v = dict(v, n_out=s['n_embd'])
    model, text, vision = hf_model(s, v)
    processor = Qwen2VLImageProcessorPil(size=dict(shortest_edge=v['min_pixels'], longest_edge=v['max_pixels']), patch_size=16,
                                         temporal_patch_size=2, merge_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    exact = truth.Text(s, text)
    out = bytearray(b'HGOLDEN1')
    words = lambda *a: out.extend(struct.pack(f'<{len(a)}i', *a))
    floats = lambda a: out.extend(np.asarray(a, '<f4').tobytes())
    ints = lambda a: out.extend(np.asarray(a, '<i4').tobytes())
    words(s['seed'], s['n_layers'], s['n_embd'], s['n_vocab'], s['n_ff'], s['n_head'], s['n_head_kv'], s['head_dim'], s['n_rot'],
          *s['rope_sections'], s['n_k'], s['n_v'], s['d_k'], s['d_v'], s['conv_taps'], s['n_experts'], s['n_experts_used'],
          s['n_ff_expert'], s['n_ff_shared'], s['is_tied'], s['interval'])
    floats([s['rope_freq_base']])
    words(v['n_layers'], v['n_embd'], v['n_ff'], v['n_head'], v['grid_side'], v['min_pixels'], v['max_pixels'])

    pictures = []
    words(len(PICTURES))
    for width, height, seed in PICTURES:
        pixels = model_gen.picture(width, height, seed)
        batch = processor(images=[Image.fromarray(pixels)], return_tensors='pt')
        t, gh, gw = batch['image_grid_thw'][0].tolist()
        resized = np.asarray(Image.fromarray(pixels).resize((gw * 16, gh * 16), Image.BICUBIC))
        rows = model.model.get_image_features(batch['pixel_values'], batch['image_grid_thw']).pooler_output[0].numpy()
        want = truth.vision(v, vision, resized)
        pictures.append((batch, rows, want, (gh // 2, gw // 2)))
        print(f'{name:8s} picture {width}x{height} -> {gw * 16}x{gh * 16} ({len(rows)} tokens): nmse to float64 {nmse(rows, want):.2e}, spread {rows.std():.2f}')
        assert nmse(rows, want) < 1e-10
        words(width, height, seed, gw * 16, gh * 16)
        floats([nmse(rows, want)])
        floats(rows)

    words(len(CASES))
    for number, (case, parts) in enumerate(CASES.items()):
        if case == 'long' and name in LONG_TEXT:
            parts = [641]
        rng = np.random.default_rng(1000 * s['seed'] + number)
        ids, source, used = [], [], []
        for part in parts:
            if isinstance(part, int):
                new = rng.integers(0, s['n_vocab'] - 4, part).tolist()
                ids, source = ids + new, source + new
            else:
                k = ord(part) - ord('a')
                n = len(pictures[k][1])
                ids += [s['n_vocab'] - 3] + [s['n_vocab'] - 1] * n + [s['n_vocab'] - 4]
                source += [s['n_vocab'] - 3] + [-1 - k] * n + [s['n_vocab'] - 4]
                used.append(k)
        tokens = torch.tensor([ids])
        source = np.array(source)
        kind = torch.from_numpy((source < 0).astype(np.int32))[None]
        inputs = dict(input_ids=tokens)
        if used:
            inputs |= dict(pixel_values=torch.cat([pictures[k][0]['pixel_values'] for k in used]),
                           image_grid_thw=torch.cat([pictures[k][0]['image_grid_thw'] for k in used]), mm_token_type_ids=kind)
            pos = model.model.get_rope_index(tokens, kind, inputs['image_grid_thw'])[0][:, 0].numpy()
        else:
            pos = np.tile(np.arange(len(ids)), (3, 1))
        model.model.rope_deltas = None
        logits = model(**inputs, use_cache=False).logits[0].numpy()

        x = text['token_embd.weight'].astype(np.float64)[np.maximum(source, 0)]
        seen = np.concatenate([pictures[k][2] for k in used]) if used else None
        if used:
            x[source < 0] = seen
        want = exact.forward(x, pos.astype(np.float64))
        top2 = np.sort(logits, 1)[:, -2:]
        gap, top = top2[:, 1] - top2[:, 0], logits.argmax(1)
        sure = gap > 1e-3
        noise = nmse(logits, want)
        print(f'{name:8s} {case:8s} {len(ids):4d} tokens: nmse to float64 {noise:.2e}, spread {logits.std():.2f}, smallest gap {gap.min():.1e}, '
              f'router gap {exact.router_gap:.1e}')
        assert noise < 2.5e-11 and (want.argmax(1) == top)[sure].all() and exact.router_gap > 8e-5
        n = len(ids)
        rows = sorted({0, 1, 2, 3, n - 3, n - 2, n - 1} | {r for r in (62, 63, 64, 65, 127, 128, 511, 512, 575, 576) if r < n} |
                      set(np.linspace(4, n - 4, 9).astype(int).tolist()))
        out.extend(case.encode().ljust(16, b'\0'))
        words(n, len(rows))
        floats([noise])
        ints(source)
        ints(pos)
        ints(top)
        floats(gap)
        ints(rows)
        floats(logits[rows])
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f'logits_{name}.bin')
    with open(path, 'wb') as f:
        f.write(out)
    print(f'{path}: {len(out)} bytes')


for model_name in sys.argv[1:] or MODELS:
    make(model_name)
