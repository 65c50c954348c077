#!/usr/bin/env python3
"""Blocks of every GGUF weight type and what they mean, by the reference implementation (the `gguf` Python package).

    pip install gguf==0.19.0
    python3 tests/golden/dtype/generate.py > tests/golden/dtype/blocks.bin

Records, little-endian, one after the other: char name[8]; u32 type code; u32 values; u32 block bytes; blocks; f32 values[].
Then the same with the name in lower case for the types that are also written: f32 inputs lie in `values`, blocks are what
they become. Random bits, but scales that are numbers: NaN has no agreed bits.
"""
import struct
import sys

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES

rng = np.random.default_rng(20260601)

# where the half-precision scales of a block lie
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0], T.IQ4_XS: [0]}
# first scales tried, then random ones: zero, the least denormal, a denormal, the largest, a negative one
EDGES = [0x0000, 0x0001, 0x83FF, 0x7BFF, 0xB555]


def half():
    return int(rng.integers(0x1000, 0x6000)) | (int(rng.integers(2)) << 15)


def blocks(kind):
    elems, size = GGML_QUANT_SIZES[kind]
    n = 2 if elems == 256 else 7
    raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for i in range(n):
        for at in HALVES.get(kind, []):
            h = EDGES[i] if elems < 256 and i < len(EDGES) else half()
            raw[i, at:at + 2] = [h & 255, h >> 8]
        if kind == T.MXFP4:
            raw[i, 0] = [0, 1, 2, 120, 127, 128, 254][i]
        if kind == T.NVFP4:
            raw[i, :4] = [[0, 0x7F, 1, 7], [8, 9, 0x38, 0x7E], [0x40, 0x31, 0x22, 0x13]][i % 3]
    return raw.reshape(-1)


def record(name, kind, values, raw):
    out = struct.pack("<8sIII", name.encode(), int(kind), values.size, raw.size)
    sys.stdout.buffer.write(out + raw.tobytes() + values.astype("<f4").tobytes())


for kind in (T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL, T.IQ4_XS, T.MXFP4,
             T.NVFP4):
    raw = blocks(kind)
    record(kind.name, kind, quants.dequantize(raw, kind).astype(np.float32), raw)
# bfloat16 and half, by numpy's own conversions
bits = rng.integers(0, 0x7F80, 32).astype("<u2")
record("BF16", T.BF16, (bits.astype(np.uint32) << 16).view(np.float32), bits.view(np.uint8))
bits = np.concatenate([np.array([0, 1, 0x8001, 0x3FF, 0x400, 0x7BFF, 0xFC00, 0x7C00]), rng.integers(0, 0x7C00, 24)]).astype("<u2")
record("F16", T.F16, bits.view(np.float16).astype(np.float32), bits.view(np.uint8))

for kind in (T.Q8_0, T.Q4_0):
    x = rng.standard_normal(4 * 32).astype(np.float32) * np.repeat(np.float32([1, 1e-3, 40, 0]), 32)
    record(kind.name.lower(), kind, x, quants.quantize(x, kind).reshape(-1).view(np.uint8))
