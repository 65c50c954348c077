"""Small random models in Python: the same float32 values that engine/synthetic.c writes, and their names in transformers.

Every value is a pure function of (seed, tensor name, index); the rules are in engine/synthetic.h. Arrays here have GGUF's
dimensions reversed (numpy order), GGUF's conventions (norm weights with the 1 added, V heads tiled, ssm_a negative).
"""
import numpy as np

MASK = (1 << 64) - 1


def fnv1a(text):
    h = 0xCBF29CE484222325
    for b in text.encode():
        h = ((h ^ b) * 0x100000001B3) & MASK
    return h


def rng_at(seed, i):
    """Value i (an array of indices) of base/rng.h's stream `seed`."""
    with np.errstate(over='ignore'):
        z = np.uint64(seed) + (np.asarray(i, np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def values(seed, name, shape, role, gain=0, cols=None):
    n = int(np.prod(shape))
    r = rng_at(fnv1a(f'{seed}:{name}'), np.arange(n, dtype=np.uint64))
    u = r.view(np.uint8).reshape(n, 8).sum(1, dtype=np.int64).astype(np.float64) - 1020
    if role == 'router':
        role, gain = 'matrix', 2
    if role == 'matrix':
        x = u * 2.0 ** (gain - 8 - ((cols or shape[-1]).bit_length() - 1) // 2)
    elif role == 'norm':
        x = 1 + u * 2.0 ** -11
    elif role == 'bias':
        x = u * 2.0 ** -12
    elif role == 'conv':
        x = u * 2.0 ** -9
    elif role == 'position':
        x = u * 2.0 ** -10
    elif role == 'ssm_dt':
        x = -1 + u * 2.0 ** -9
    else:
        assert role == 'ssm_a'
        x = -(1 + ((r >> np.uint64(8)) & np.uint64(1023)).astype(np.float64) / 1024) * 2.0 ** ((r & np.uint64(7)).astype(np.float64) - 6)
    y = x.astype(np.float32)
    assert (y == x).all(), name
    return y.reshape(shape)


def text_tensors(s, seed):
    """GGUF name -> array, for a shape with the fields of struct model_shape."""
    t = {}

    def add(name, shape, role='matrix', gain=0):
        t[name] = values(seed, name, shape, role, gain)
    E, kd, vd = s['n_embd'], s['n_k'] * s['d_k'], s['n_v'] * s['d_v']
    add('token_embd.weight', (s['n_vocab'], E), gain=1)
    add('output_norm.weight', (E,), 'norm')
    if not s['is_tied']:
        add('output.weight', (s['n_vocab'], E), gain=1)
    for i in range(s['n_layers']):
        p = f'blk.{i}.'
        add(p + 'attn_norm.weight', (E,), 'norm')
        add(p + 'post_attention_norm.weight', (E,), 'norm')
        if (i + 1) % s['interval'] == 0:
            add(p + 'attn_q.weight', (s['n_head'] * 2 * s['head_dim'], E))
            add(p + 'attn_k.weight', (s['n_head_kv'] * s['head_dim'], E))
            add(p + 'attn_v.weight', (s['n_head_kv'] * s['head_dim'], E))
            add(p + 'attn_output.weight', (E, s['n_head'] * s['head_dim']))
            add(p + 'attn_q_norm.weight', (s['head_dim'],), 'norm')
            add(p + 'attn_k_norm.weight', (s['head_dim'],), 'norm')
        else:
            add(p + 'attn_qkv.weight', (2 * kd + vd, E))
            add(p + 'attn_gate.weight', (vd, E))
            add(p + 'ssm_conv1d.weight', (2 * kd + vd, s['conv_taps']), 'conv')
            add(p + 'ssm_dt.bias', (s['n_v'],), 'ssm_dt')
            add(p + 'ssm_a', (s['n_v'],), 'ssm_a')
            add(p + 'ssm_beta.weight', (s['n_v'], E))
            add(p + 'ssm_alpha.weight', (s['n_v'], E))
            add(p + 'ssm_norm.weight', (s['d_v'],), 'norm')
            add(p + 'ssm_out.weight', (E, vd))
        if s['is_moe']:
            n, f, fs = s['n_experts'], s['n_ff_expert'], s['n_ff_shared']
            add(p + 'ffn_gate_inp.weight', (n, E), 'router')
            add(p + 'ffn_gate_exps.weight', (n, f, E))
            add(p + 'ffn_up_exps.weight', (n, f, E))
            add(p + 'ffn_down_exps.weight', (n, E, f))
            add(p + 'ffn_gate_inp_shexp.weight', (E,))
            add(p + 'ffn_gate_shexp.weight', (fs, E))
            add(p + 'ffn_up_shexp.weight', (fs, E))
            add(p + 'ffn_down_shexp.weight', (E, fs))
        else:
            add(p + 'ffn_gate.weight', (s['n_ff'], E))
            add(p + 'ffn_up.weight', (s['n_ff'], E))
            add(p + 'ffn_down.weight', (E, s['n_ff']))
    return t


def vision_tensors(v, seed):
    t = {}

    def add(name, shape, role='matrix', gain=0, cols=None):
        t[name] = values(seed, name, shape, role, gain, cols)
    C, F, P = v['n_embd'], v['n_ff'], v['patch_px']
    M = v['merge'] ** 2 * C
    for name in ('v.patch_embd.weight', 'v.patch_embd.weight.1'):
        add(name, (C, 3, P, P), cols=3 * P * P)
    add('v.patch_embd.bias', (C,), 'bias')
    add('v.position_embd.weight', (v['grid_side'] ** 2, C), 'position')
    for i in range(v['n_layers']):
        p = f'v.blk.{i}.'
        for ln in ('ln1', 'ln2'):
            add(p + ln + '.weight', (C,), 'norm')
            add(p + ln + '.bias', (C,), 'bias')
        for name, rows, cols in (('attn_qkv', 3 * C, C), ('attn_out', C, C), ('ffn_up', F, C), ('ffn_down', C, F)):
            add(p + name + '.weight', (rows, cols))
            add(p + name + '.bias', (rows,), 'bias')
    add('v.post_ln.weight', (C,), 'norm')
    add('v.post_ln.bias', (C,), 'bias')
    add('mm.0.weight', (M, M))
    add('mm.0.bias', (M,), 'bias')
    add('mm.2.weight', (v['n_out'], M), gain=-1)
    add('mm.2.bias', (v['n_out'],), 'bias')
    return t


def to_transformers(s, text, vision):
    """State dict (numpy) of Qwen3_5[Moe]ForConditionalGeneration."""
    out = {}
    n_k, rep, kd = s['n_k'], s['n_v'] // s['n_k'], s['n_k'] * s['d_k']
    # transformers' value head J = kk * rep + r is GGUF's head r * n_k + kk
    tiled = np.array([r * n_k + kk for kk in range(n_k) for r in range(rep)])
    rows = (tiled[:, None] * s['d_v'] + np.arange(s['d_v'])).reshape(-1)
    qkv_rows = np.concatenate([np.arange(2 * kd), 2 * kd + rows])
    L = 'model.language_model.'
    out[L + 'embed_tokens.weight'] = text['token_embd.weight']
    out[L + 'norm.weight'] = text['output_norm.weight'] - 1
    out['lm_head.weight'] = text.get('output.weight', text['token_embd.weight'])
    for i in range(s['n_layers']):
        g = lambda name: text[f'blk.{i}.{name}']
        p = f'{L}layers.{i}.'
        out[p + 'input_layernorm.weight'] = g('attn_norm.weight') - 1
        out[p + 'post_attention_layernorm.weight'] = g('post_attention_norm.weight') - 1
        if (i + 1) % s['interval'] == 0:
            for a, b in (('q_proj', 'attn_q'), ('k_proj', 'attn_k'), ('v_proj', 'attn_v'), ('o_proj', 'attn_output')):
                out[f'{p}self_attn.{a}.weight'] = g(b + '.weight')
            out[p + 'self_attn.q_norm.weight'] = g('attn_q_norm.weight') - 1
            out[p + 'self_attn.k_norm.weight'] = g('attn_k_norm.weight') - 1
        else:
            q = p + 'linear_attn.'
            out[q + 'in_proj_qkv.weight'] = g('attn_qkv.weight')[qkv_rows]
            out[q + 'in_proj_z.weight'] = g('attn_gate.weight')[rows]
            out[q + 'in_proj_b.weight'] = g('ssm_beta.weight')[tiled]
            out[q + 'in_proj_a.weight'] = g('ssm_alpha.weight')[tiled]
            out[q + 'conv1d.weight'] = g('ssm_conv1d.weight')[qkv_rows][:, None, :]
            out[q + 'dt_bias'] = g('ssm_dt.bias')[tiled]
            out[q + 'A_log'] = np.log(-g('ssm_a').astype(np.float64))[tiled]
            out[q + 'norm.weight'] = g('ssm_norm.weight')
            out[q + 'out_proj.weight'] = g('ssm_out.weight')[:, rows]
        if s['is_moe']:
            out[p + 'mlp.gate.weight'] = g('ffn_gate_inp.weight')
            out[p + 'mlp.experts.gate_up_proj'] = np.concatenate([g('ffn_gate_exps.weight'), g('ffn_up_exps.weight')], 1)
            out[p + 'mlp.experts.down_proj'] = g('ffn_down_exps.weight')
            out[p + 'mlp.shared_expert_gate.weight'] = g('ffn_gate_inp_shexp.weight')[None]
            for a in ('gate', 'up', 'down'):
                out[f'{p}mlp.shared_expert.{a}_proj.weight'] = g(f'ffn_{a}_shexp.weight')
        else:
            for a in ('gate', 'up', 'down'):
                out[f'{p}mlp.{a}_proj.weight'] = g(f'ffn_{a}.weight')
    V = 'model.visual.'
    out[V + 'patch_embed.proj.weight'] = np.stack([vision['v.patch_embd.weight'], vision['v.patch_embd.weight.1']], 2)
    out[V + 'patch_embed.proj.bias'] = vision['v.patch_embd.bias']
    out[V + 'pos_embed.weight'] = vision['v.position_embd.weight']
    names = {'ln1': 'norm1', 'ln2': 'norm2', 'attn_qkv': 'attn.qkv', 'attn_out': 'attn.proj', 'ffn_up': 'mlp.linear_fc1', 'ffn_down': 'mlp.linear_fc2'}
    for name, a in vision.items():
        w = name.split('.')
        if w[:2] == ['v', 'blk']:
            out[f'{V}blocks.{w[2]}.{names[w[3]]}.{w[4]}'] = a
    for gg, hf in (('v.post_ln', 'norm'), ('mm.0', 'linear_fc1'), ('mm.2', 'linear_fc2')):
        for part in ('weight', 'bias'):
            out[f'{V}merger.{hf}.{part}'] = vision[f'{gg}.{part}']
    return out


def picture(width, height, seed):
    """RGB test picture, whole numbers only: slopes, a product term, a little noise. tests/engine has the C twin."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing='ij')
    noise = rng_at(seed, np.arange(width * height * 3, dtype=np.uint64)).reshape(height, width, 3) & np.uint64(31)
    return ((x * (3 + c) + y * (5 - c) + seed * 37 + ((x * y) >> 4) + noise.astype(np.int64)) & 255).astype(np.uint8)
