#!/usr/bin/env python3
"""What the kernels must compute, worked out by numpy in float64 from the formulas in kernels/kernels.h and engine/MODEL.md.

    python3 tests/golden/kernels/generate.py > tests/golden/kernels/ops.bin

Inputs are not stored: they come from the seeded generator of base/rng.h, said here once more, and are rounded to float32 as the
program has them. Stored are expected outputs: records of char name[24]; u32 values; f32 values[]. Long outputs are thinned to
every STEPth row. Shapes and seeds are those of tests/kernels/test_ref.c. Written separately from kernels/ref on purpose: whole-array
formulas here, loops there.
"""
import struct
import sys

import numpy as np

F = np.float32


def noise(seed, n, stddev=1.0):
    """kn_fill_noise, F32: sums of eight random bytes."""
    i = np.arange(1, n + 1, dtype=np.uint64)
    z = np.uint64(seed) + i * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    total = z.view(np.uint8).reshape(-1, 8).sum(axis=1, dtype=np.int64) - 1020
    return total.astype(F) * (F(stddev) / F(209.02))


def mat(seed, rows, cols, stddev=1.0):
    return noise(seed, rows * cols, stddev).reshape(rows, cols).astype(np.float64)


def vec(seed, n, mean, stddev):
    return (noise(seed, n, stddev) + F(mean)).astype(np.float64)


def weight(seed, *shape):
    return noise(seed, int(np.prod(shape)), F(1) / np.sqrt(F(shape[-1]))).reshape(shape).astype(np.float64)


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def silu(u):
    return u * sigmoid(u)


def softmax(u):
    e = np.exp(u - u.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def rms(x, eps=float(F(1e-6))):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)


def put(name, values):
    values = np.ascontiguousarray(values, dtype="<f4").reshape(-1)
    sys.stdout.buffer.write(struct.pack("<24sI", name.encode(), values.size) + values.tobytes())


def erf(u):
    """Maclaurin series: exact to double for the small arguments here."""
    term, total = u.copy(), u.copy()
    for n in range(1, 60):
        term = -term * u * u / n
        total = total + term / (2 * n + 1)
    return total * 2 / np.sqrt(np.pi)


# ---- norms -------------------------------------------------------------------------------------------------------------------
x = (mat(1, 3, 40, 2).astype(F) + mat(2, 3, 40).astype(F)).astype(np.float64)
put("add_rms_norm.x", x)
put("add_rms_norm.y", rms(x) * vec(3, 40, 1, 0.1))
c = x - x.mean(axis=1, keepdims=True)
put("add_layer_norm.y", c / np.sqrt((c * c).mean(axis=1, keepdims=True) + float(F(1e-6))) * vec(3, 40, 1, 0.1) + vec(4, 40, 0, 0.5))
put("gated_rms_norm.y", rms(mat(5, 2, 48).reshape(2, 3, 16)) * vec(6, 16, 1, 0.1) * silu(mat(7, 2, 48, 3)).reshape(2, 3, 16))

# ---- products ----------------------------------------------------------------------------------------------------------------
x, W, b = mat(11, 3, 24), weight(12, 10, 24), vec(13, 10, 0, 0.5)
u = x @ W.T + b
put("linear.y", u)
put("linear.gelu_tanh", 0.5 * u * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u ** 3))))
put("linear.gelu_erf", 0.5 * u * (1 + erf(u / np.sqrt(2))))
put("linear.accumulate", mat(14, 3, 10) + u)
put("linear.scaled", 0.75 * (x @ W.T) + b)
put("gate_up.y", silu(x @ weight(15, 11, 24).T) * (x @ weight(16, 11, 24).T))

# ---- gated attention: 4 query heads, 2 KV heads of 16, 4 rotary pairs; one sequence of 75 tokens with a picture in it --------------
T, H, G, D, N = 75, 4, 2, 16, 4
qg, k, v = mat(21, T, H * 2 * D).reshape(T, H, 2, D), mat(22, T, G * D).reshape(T, G, D), mat(23, T, G * D).reshape(T, G, D)
t = np.arange(T)
pos = np.stack([np.where(t < 10, t, np.where(t < 40, 10, t - 24)),
                np.where(t < 10, t, np.where(t < 40, 10 + (t - 10) // 6, t - 24)),
                np.where(t < 10, t, np.where(t < 40, 10 + (t - 10) % 6, t - 24))]) * 1000
inv_freq = np.array([0.9, 0.0631, 0.001, 0.00002], F)
angle = (pos[[0, 1, 2, 0]].T.astype(F) * inv_freq).astype(np.float64)[:, None, :]  # [T, 1, N]: a float32 product


def rotate(a, n=N, scale=float(F(1.25))):
    x, y = a[..., :n], a[..., n:2 * n]
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    return np.concatenate([x * c - y * s, x * s + y * c, a[..., 2 * n:]], axis=-1)


q = rotate(rms(qg[:, :, 0]) * vec(24, D, 1, 0.1))
k = rotate(rms(k) * vec(25, D, 1, 0.1))
put("attn_store.q", q[::5])
scores = np.einsum("thd,nhd->htn", q, np.repeat(k, H // G, axis=1)) * 0.25
scores[:, t[:, None] < t[None, :]] = -np.inf
out = np.einsum("htn,nhd->thd", softmax(scores), np.repeat(v, H // G, axis=1))
put("attn.y", (out * sigmoid(qg[:, :, 1]))[::5])
put("attn.no_gate", out[::5])

# ---- Gated DeltaNet: 2 key heads of 16, 6 value heads of 12, 4 taps; 150 tokens ----------------------------------------------------
T, nk, nv, dk, dv, taps = 150, 2, 6, 16, 12, 4
C = 2 * nk * dk + nv * dv
x, w = mat(31, T, C), vec(32, C * taps, 0, 0.5).reshape(C, taps)
padded = np.concatenate([np.zeros((taps - 1, C)), x])
u = silu(sum(padded[j:j + T] * w[:, j] for j in range(taps)))
q, k, v = u[:, :nk * dk].reshape(T, nk, dk), u[:, nk * dk:2 * nk * dk].reshape(T, nk, dk), u[:, 2 * nk * dk:].reshape(T, nv, dv)
q = q / np.sqrt((q * q).sum(-1, keepdims=True) + 1e-6) / np.sqrt(dk)
k = k / np.sqrt((k * k).sum(-1, keepdims=True) + 1e-6)
put("gdn_conv.y", np.concatenate([q.reshape(T, -1), k.reshape(T, -1), v.reshape(T, -1)], axis=1)[::10])
a = -np.exp(mat(33, 1, nv)[0].astype(F).astype(np.float64)).astype(F).astype(np.float64)
pre = mat(34, T, nv, 2) + vec(35, nv, -1, 1)
g = a * np.log1p(np.exp(pre))
beta = sigmoid(mat(36, T, nv))
q, k = np.tile(q, (1, nv // nk, 1)), np.tile(k, (1, nv // nk, 1))  # value head j: key head j % n_k
S, y = np.zeros((nv, dk, dv)), np.zeros((T, nv, dv))
for i in range(T):
    S = S * np.exp(g[i])[:, None, None]
    d = beta[i][:, None] * (v[i] - np.einsum("jab,ja->jb", S, k[i]))
    S = S + np.einsum("ja,jb->jab", k[i], d)
    y[i] = np.einsum("jab,ja->jb", S, q[i])
put("gdn_scan.a", a)
put("gdn_scan.y", y[::10])

# ---- experts -------------------------------------------------------------------------------------------------------------------
T, E, FF, n, K = 5, 32, 24, 8, 3
x, gate, up, down = mat(41, T, E), weight(43, n, FF, E), weight(44, n, FF, E), weight(45, n, E, FF)
p = softmax(x @ weight(42, n, E).T * float(1))
ids = np.argsort(-p, axis=1, kind="stable")[:, :K]
w = np.take_along_axis(p, ids, 1)
w = w / w.sum(axis=1, keepdims=True)
h = silu(np.einsum("te,tkfe->tkf", x, gate[ids])) * np.einsum("te,tkfe->tkf", x, up[ids])
y = np.einsum("tk,tkf,tkef->te", w, h, down[ids])
put("moe_route.ids", ids)
put("moe_route.weights", w)
put("moe_gate_up.y", h)
put("moe_down.y", y)
put("add_gated.y", y + sigmoid(x @ vec(46, E, 0, 0.2))[:, None] * mat(47, T, E))

# ---- vision --------------------------------------------------------------------------------------------------------------------


def merge_order(grid):
    """[gh, gw, ...] to rows in blocks of 2 x 2."""
    gh, gw = grid.shape[:2]
    return grid.reshape(gh // 2, 2, gw // 2, 2, -1).transpose(0, 2, 1, 3, 4).reshape(gh * gw, -1)


gh, gw, patch = 4, 6, 4
i = np.arange(gh * gw * patch * patch * 3)
rgb = ((i * 7919 + i // 13 * 31) % 256).reshape(gh * patch, gw * patch, 3)
norm = (rgb / 255 - np.array([0.5, 0.4, 0.3], F)) / np.array([0.5, 0.25, 0.2], F).astype(np.float64)
put("patchify.y", merge_order(norm.reshape(gh, patch, gw, patch, 3).transpose(0, 2, 4, 1, 3)))
side, C = 5, 8
grid = vec(52, side * side * C, 0, 1).reshape(side, side, C)
at_y, at_x = np.linspace(0, side - 1, gh), np.linspace(0, side - 1, gw)
# bilinear as a hat function of the distance
hat_y = np.maximum(0, 1 - abs(at_y[:, None] - np.arange(side)))
hat_x = np.maximum(0, 1 - abs(at_x[:, None] - np.arange(side)))
put("add_pos_embed.x", mat(51, gh * gw, C) + merge_order(np.einsum("ys,xt,stc->yxc", hat_y, hat_x, grid)))
H, D = 2, 24
qkv = mat(53, gh * gw, 3 * H * D).reshape(gh * gw, 3, H, D)
rows = merge_order(np.repeat(np.arange(gh), gw).reshape(gh, gw, 1))[:, 0]
cols = merge_order(np.tile(np.arange(gw), gh).reshape(gh, gw, 1))[:, 0]
freq = 10000.0 ** (-2 * np.arange(D // 4) / (D // 2))
phase = np.concatenate([rows[:, None] * freq, cols[:, None] * freq], axis=1)[:, None, None, :]
lo, hi = qkv[:, :2, :, :D // 2], qkv[:, :2, :, D // 2:]
turned = np.concatenate([lo * np.cos(phase) - hi * np.sin(phase), lo * np.sin(phase) + hi * np.cos(phase)], axis=-1)
put("rope_2d.qk", turned)
q, k, v = turned[:, 0], turned[:, 1], qkv[:, 2]
put("attn_full.y", np.einsum("hpn,nhd->phd", softmax(np.einsum("phd,nhd->hpn", q, k) / np.sqrt(D)), v))
