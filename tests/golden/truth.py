"""The forward pass in float64 on GGUF's conventions, token by token: what the float32 results should come near to.

Written from the formulas, apart from transformers, so that it also checks how weights are handed to it.
"""
import math

import numpy as np

erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def rms(x, w, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w


def layer_norm(x, w, b, eps):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w + b


def rotate(x, angle):
    h = angle.shape[-1]
    c, s = np.cos(angle), np.sin(angle)
    a, b = x[..., :h], x[..., h:2 * h]
    return np.concatenate([a * c - b * s, a * s + b * c, x[..., 2 * h:]], -1)


def vision(v, t, rgb):
    """[height, width, 3] bytes at target size -> [tokens, n_out]."""
    t = {k: a.astype(np.float64) for k, a in t.items()}
    P, C, H, m = v['patch_px'], v['n_embd'], v['n_head'], v['merge']
    gh, gw = rgb.shape[0] // P, rgb.shape[1] // P
    row, col = np.divmod(np.arange(gh * gw).reshape(gh // m, m, gw // m, m).transpose(0, 2, 1, 3).reshape(-1), gw)
    px = (rgb.astype(np.float64) / 255 - 0.5) / 0.5
    patches = px.reshape(gh, P, gw, P, 3).transpose(0, 2, 4, 1, 3)[row, col].reshape(gh * gw, -1)
    x = patches @ (t['v.patch_embd.weight'] + t['v.patch_embd.weight.1']).reshape(C, -1).T + t['v.patch_embd.bias']
    side = v['grid_side']
    grid = t['v.position_embd.weight'].reshape(side, side, C)

    def taps(i, n):
        at = i * ((side - 1) / (n - 1))
        lo = np.minimum(at.astype(int), side - 1)
        return lo, np.minimum(lo + 1, side - 1), (at - lo)[:, None]
    y0, y1, fy = taps(row, gh)
    x0, x1, fx = taps(col, gw)
    x = x + (1 - fy) * ((1 - fx) * grid[y0, x0] + fx * grid[y0, x1]) + fy * ((1 - fx) * grid[y1, x0] + fx * grid[y1, x1])
    D = C // H
    f = 10000.0 ** (-2.0 * np.arange(D // 4) / (D // 2))
    angle = np.concatenate([row[:, None] * f, col[:, None] * f], 1)
    for i in range(v['n_layers']):
        g = lambda name: t[f'v.blk.{i}.{name}']
        h = layer_norm(x, g('ln1.weight'), g('ln1.bias'), v['eps'])
        qkv = (h @ g('attn_qkv.weight').T + g('attn_qkv.bias')).reshape(-1, 3, H, D)
        o = [softmax(rotate(qkv[:, 0, a], angle) @ rotate(qkv[:, 1, a], angle).T / np.sqrt(D)) @ qkv[:, 2, a] for a in range(H)]
        x = x + np.concatenate(o, 1) @ g('attn_out.weight').T + g('attn_out.bias')
        h = layer_norm(x, g('ln2.weight'), g('ln2.bias'), v['eps']) @ g('ffn_up.weight').T + g('ffn_up.bias')
        h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h ** 3)))
        x = x + h @ g('ffn_down.weight').T + g('ffn_down.bias')
    x = layer_norm(x, t['v.post_ln.weight'], t['v.post_ln.bias'], v['eps']).reshape(-1, m * m * C)
    x = x @ t['mm.0.weight'].T + t['mm.0.bias']
    return 0.5 * x * (1 + erf(x / np.sqrt(2))) @ t['mm.2.weight'].T + t['mm.2.bias']


class Text:
    def __init__(self, shape, tensors):
        self.s = shape
        self.t = {k: a.astype(np.float64) for k, a in tensors.items()}
        self.router_gap = np.inf

    def attention(self, i, x, pos):
        s, T = self.s, len(x)
        g = lambda name: self.t[f'blk.{i}.{name}']
        H, G, D = s['n_head'], s['n_head_kv'], s['head_dim']
        qg = (x @ g('attn_q.weight').T).reshape(T, H, 2 * D)
        q = rms(qg[..., :D], g('attn_q_norm.weight'), s['rms_eps'])
        k = rms((x @ g('attn_k.weight').T).reshape(T, G, D), g('attn_k_norm.weight'), s['rms_eps'])
        v = (x @ g('attn_v.weight').T).reshape(T, G, D)
        n = s['n_rot'] // 2
        j = np.arange(n)
        axis = np.where((j % 3 == 1) & (j < 3 * s['rope_sections'][1]), 1, np.where((j % 3 == 2) & (j < 3 * s['rope_sections'][2]), 2, 0))
        angle = (pos[axis].T * s['rope_freq_base'] ** (-2.0 * j / s['n_rot']))[:, None]
        q, k = rotate(q, angle), rotate(k, angle)
        mask = np.where(np.tril(np.ones((T, T), bool)), 0, -np.inf)
        o = [softmax(q[:, h] @ k[:, h // (H // G)].T / np.sqrt(D) + mask) @ v[:, h // (H // G)] for h in range(H)]
        return (np.stack(o, 1) * sigmoid(qg[..., D:])).reshape(T, -1) @ g('attn_output.weight').T

    def delta_net(self, i, x):
        s, T = self.s, len(x)
        g = lambda name: self.t[f'blk.{i}.{name}']
        n_k, n_v, d_k, d_v, taps = s['n_k'], s['n_v'], s['d_k'], s['d_v'], s['conv_taps']
        raw = np.concatenate([np.zeros((taps - 1, 2 * n_k * d_k + n_v * d_v)), x @ g('attn_qkv.weight').T])
        u = silu(sum(raw[j:j + T] * g('ssm_conv1d.weight')[:, j] for j in range(taps)))
        q, k, v = np.split(u, [n_k * d_k, 2 * n_k * d_k], 1)
        unit = lambda a: a / np.sqrt((a * a).sum(-1, keepdims=True) + 1e-6)
        head = np.arange(n_v) % n_k
        q = unit(q.reshape(T, n_k, d_k))[:, head] / np.sqrt(d_k)
        k = unit(k.reshape(T, n_k, d_k))[:, head]
        v = v.reshape(T, n_v, d_v)
        beta = sigmoid(x @ g('ssm_beta.weight').T)
        decay = np.exp(g('ssm_a') * np.log1p(np.exp(x @ g('ssm_alpha.weight').T + g('ssm_dt.bias'))))
        state, o = np.zeros((n_v, d_k, d_v)), np.empty((T, n_v, d_v))
        for t in range(T):
            state *= decay[t][:, None, None]
            d = beta[t][:, None] * (v[t] - np.einsum('hkv,hk->hv', state, k[t]))
            state += k[t][:, :, None] * d[:, None, :]
            o[t] = np.einsum('hkv,hk->hv', state, q[t])
        z = (x @ g('attn_gate.weight').T).reshape(T, n_v, d_v)
        return (rms(o, g('ssm_norm.weight'), s['rms_eps']) * silu(z)).reshape(T, -1) @ g('ssm_out.weight').T

    def feed_forward(self, i, x):
        s = self.s
        g = lambda name: self.t[f'blk.{i}.{name}.weight']
        if not s['is_moe']:
            return (silu(x @ g('ffn_gate').T) * (x @ g('ffn_up').T)) @ g('ffn_down').T
        logits = x @ g('ffn_gate_inp').T
        order = np.argsort(-logits, 1, kind='stable')
        n = s['n_experts_used']
        ranked = np.take_along_axis(logits, order, 1)
        self.router_gap = min(self.router_gap, (ranked[:, n - 1] - ranked[:, n]).min())
        p = softmax(logits)
        y = (silu(x @ g('ffn_gate_shexp').T) * (x @ g('ffn_up_shexp').T)) @ g('ffn_down_shexp').T
        y = sigmoid(x @ g('ffn_gate_inp_shexp'))[:, None] * y
        for t in range(len(x)):
            top = order[t, :n]
            for e in top:
                h = silu(g('ffn_gate_exps')[e] @ x[t]) * (g('ffn_up_exps')[e] @ x[t])
                y[t] += p[t, e] / p[t, top].sum() * (g('ffn_down_exps')[e] @ h)
        return y

    def forward(self, x, pos):
        """[T, E] embeddings, [3, T] positions -> [T, V] logits."""
        s = self.s
        for i in range(s['n_layers']):
            h = rms(x, self.t[f'blk.{i}.attn_norm.weight'], s['rms_eps'])
            x = x + (self.attention(i, h, pos) if (i + 1) % s['interval'] == 0 else self.delta_net(i, h))
            x = x + self.feed_forward(i, rms(x, self.t[f'blk.{i}.post_attention_norm.weight'], s['rms_eps']))
        x = rms(x, self.t['output_norm.weight'], s['rms_eps'])
        return x @ self.t.get('output.weight', self.t['token_embd.weight']).T
