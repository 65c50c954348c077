"""The shipped model's shape, made of the official classes, and a fast way to train them.

`build` instantiates transformers' Qwen3_5ForConditionalGeneration small. `see` is the official vision tower's arithmetic for a batch of pictures of one size
(the official one goes picture by picture); `check_see` proves that both agree. The text model is used as it is.
"""

import torch
import torch.nn.functional as F
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

import attend

TILE = 32  # pixels of a merged token's side
GRID = 24  # learned positions per side of the tower
SIZE = (512, 288)  # width and height of the pictures that the model is trained on
SHORTEST_EDGE, LONGEST_EDGE = 146_000, 150_000  # pixels of a picture that the processor allows: of every 16:9 picture it makes just that size

TEXT = dict(
    hidden_size=192, num_hidden_layers=8, num_attention_heads=3, num_key_value_heads=1, head_dim=64, intermediate_size=512,
    linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=64, linear_value_head_dim=64, linear_conv_kernel_dim=4,
    full_attention_interval=4, max_position_embeddings=4096, tie_word_embeddings=True, rms_norm_eps=1e-6,
    rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5, mrope_section=[6, 5, 5], mrope_interleaved=True),
)
VISION = dict(
    hidden_size=192, depth=6, num_heads=6, intermediate_size=576, patch_size=16, spatial_merge_size=2, temporal_patch_size=2,
    num_position_embeddings=GRID * GRID, out_hidden_size=TEXT["hidden_size"],
)


def build(tokenizer, seed):
    """The untrained model for a tokenizer (tokens.Tokens), seeded."""
    torch.manual_seed(seed)
    text = dict(TEXT, vocab_size=tokenizer.size, bos_token_id=tokenizer.end_of_text, eos_token_id=tokenizer.end, pad_token_id=tokenizer.end_of_text)
    config = Qwen3_5Config(
        text_config=text, vision_config=dict(VISION), tie_word_embeddings=True, image_token_id=tokenizer.image, video_token_id=tokenizer.video,
        vision_start_token_id=tokenizer.vision_start, vision_end_token_id=tokenizer.vision_end,
    )
    config._attn_implementation = "sdpa"
    return Qwen3_5ForConditionalGeneration(config)


def patches(pictures):
    """uint8 [B, H, W, 3] -> float [B, P, 768]: normalised patches in the tower's order (2x2 blocks, then inside the block)."""
    b, h, w, _ = pictures.shape
    x = pictures.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    x = x.view(b, 3, h // TILE, 2, 16, w // TILE, 2, 16).permute(0, 2, 5, 3, 6, 1, 4, 7)
    return x.reshape(b, (h // 16) * (w // 16), 3 * 16 * 16)


class Places:
    """What the tower adds and turns by place, for pictures of one size: worked out once."""

    def __init__(self, tower, size):
        from transformers.models.qwen3_5 import modeling_qwen3_5 as official

        width, height = size
        grid = torch.tensor([[1, height // 16, width // 16]], device=tower.pos_embed.weight.device)
        with torch.no_grad():
            self.index, self.weight = official.get_vision_interpolation_indices_and_weights(
                grid, num_grid_per_side=tower.num_grid_per_side, mode=tower.interpolation_mode, align_corners=tower.interpolation_align_corners,
                spatial_merge_size=tower.config.spatial_merge_size, kwargs={})
            ids = official.get_vision_position_ids(grid, tower.spatial_merge_size, kwargs={})
            self.cos, self.sin = tower.rotary_pos_emb(tower.pos_embed.weight, ids)


def turn(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


fast_attention = None  # on a CPU, once `quicken_tower` found it


def attention(q, k, v):
    """[B, P, H, D] each."""
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
    return (fast_attention if fast_attention and q.dtype == torch.bfloat16 else attend.plain)(q, k, v)


def see(tower, x, places):
    """patches [B, P, 768] -> merged tokens [B, P / 4, E], patches before the merger [B, P, C]: the official tower's arithmetic, batched."""
    b, p, _ = x.shape
    heads = tower.config.num_heads
    kernel = tower.patch_embed.proj.weight.sum(2).flatten(1)  # a still picture is two equal frames
    x = F.linear(x, kernel, tower.patch_embed.proj.bias)
    x = x + (tower.pos_embed(places.index) * places.weight[:, :, None]).sum(1).to(x.dtype)
    cos, sin = places.cos.to(x.dtype).unsqueeze(1), places.sin.to(x.dtype).unsqueeze(1)
    for block in tower.blocks:
        q, k, v = block.attn.qkv(block.norm1(x)).view(b, p, 3, heads, -1).unbind(2)
        a = attention(turn(q, cos, sin), turn(k, cos, sin), v)
        x = x + block.attn.proj(a.reshape(b, p, -1))
        x = x + block.mlp(block.norm2(x))
    return tower.merger(x).view(b, p // 4, -1), x


def check_see(model):
    """Largest difference of `see` and the official tower on random pictures, relative to the largest value."""
    tower = model.model.visual
    pictures = torch.randint(0, 256, (3, 192, 320, 3), dtype=torch.uint8)
    with torch.no_grad():
        x = patches(pictures)
        ours, _ = see(tower, x, Places(tower, (320, 192)))
        both = x.view(3, -1, 3, 1, 256).expand(-1, -1, -1, 2, -1).reshape(-1, 1536)
        theirs = tower(both, torch.tensor([[1, 12, 20]] * 3)).pooler_output.view_as(ours)
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def positions(ids, image_token, grid_h, grid_w):
    """M-RoPE positions [3, T] of one sequence of ids whose pictures are all of one grid (merged tokens)."""
    out, p, i = [], 0, 0
    ids = ids.tolist()
    n = grid_h * grid_w
    rows = torch.arange(grid_h).repeat_interleave(grid_w)
    columns = torch.arange(grid_w).repeat(grid_h)
    while i < len(ids):
        if ids[i] == image_token:
            out.append(torch.stack((torch.full((n,), p), p + rows, p + columns)))
            p += max(grid_h, grid_w)
            i += n
        else:
            j = i
            while j < len(ids) and ids[j] != image_token:
                j += 1
            out.append(torch.arange(p, p + j - i).expand(3, -1))
            p += j - i
            i = j
    return torch.cat(out, 1)


def quicken_tower(device):
    """On a CPU `see` with the attention of attend.c, where the machine can do that."""
    global fast_attention
    fast_attention = attend.use() if device.type == "cpu" else None


def quicken(text, eager=False):
    """The text model's layers compiled, and on a CPU the delta rule as rule.c has it: the same arithmetic in another order."""
    import rule

    if text.embed_tokens.weight.device.type == "cpu":
        rule.use()
    torch._dynamo.config.recompile_limit = 64  # layers of a kind share their code: it is compiled for each length, with gradients and without
    if not eager:
        for layer in text.layers:
            layer.forward = torch.compile(layer.forward, dynamic=False)
