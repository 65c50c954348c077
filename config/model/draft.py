"""The MTP block: guesses the token after the next one, so that an engine can check several at once. The official classes have none; this is the family's block (engine/MODEL.md) made of the
official decoder layer, trained while everything else stands still.

At slot p it takes the embedding of token p + 1 and the trunk's hidden row p (after the final norm), and says token p + 2. It works over text alone: picture rows have no slot, as engines
that are in use do it.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.qwen3_5 import modeling_qwen3_5 as official


class Draft(nn.Module):
    """Names as checkpoints of the family have them under `mtp.`."""

    def __init__(self, text_config):
        super().__init__()
        config = copy.deepcopy(text_config)
        config.layer_types = ["full_attention"]
        config.num_hidden_layers = 1
        width, eps = config.hidden_size, config.rms_norm_eps
        self.fc = nn.Linear(2 * width, width, bias=False)
        self.pre_fc_norm_embedding = official.Qwen3_5RMSNorm(width, eps=eps)
        self.pre_fc_norm_hidden = official.Qwen3_5RMSNorm(width, eps=eps)
        self.layers = nn.ModuleList([official.Qwen3_5DecoderLayer(config, 0)])
        self.norm = official.Qwen3_5RMSNorm(width, eps=eps)
        for p in self.parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, embeddings, hidden, cos_sin, mask):
        """embeddings, hidden [B, T, E] of token p + 1 and of row p -> [B, T, E], for the head. mask [B, 1, T, T]: what a slot may look at."""
        x = self.fc(torch.cat((self.pre_fc_norm_embedding(embeddings), self.pre_fc_norm_hidden(hidden)), -1))
        x = self.layers[0](x, position_embeddings=cos_sin, attention_mask=mask)
        return self.norm(x[0] if isinstance(x, tuple) else x)


def inputs(text, ids, hidden, positions, image):
    """What the block is fed for whole dialogues: slot q - 1 belongs to token q at position of q. Returns embeddings, hidden rows, rotation, mask [B, 1, T - 1, T - 1]."""
    embeddings = text.embed_tokens(ids[:, 1:])
    cos_sin = text.rotary_emb(embeddings, positions[:, :, 1:])
    n = ids.shape[1] - 1
    causal = torch.ones(n, n, dtype=torch.bool, device=ids.device).tril()
    mask = causal & (ids[:, 1:] != image)[:, None, None, :]
    mask = mask | torch.eye(n, dtype=torch.bool, device=ids.device)  # a picture's slot sees itself: nothing is asked of it
    return embeddings, hidden[:, :-1], cos_sin, mask


def loss(draft, text, ids, labels, hidden, positions, image):
    """Cross entropy of the guesses at the trunk's own next choice, over the answers' tokens; and which first guesses the trunk would accept. labels [B, T]: labels[t] follows ids[t]."""
    guess = draft(*inputs(text, ids, hidden, positions, image))
    # slot p knows token p + 1 and guesses token p + 2 = labels[p + 1], where token p + 1 is the answer's own
    wanted = (labels[:, 1:] >= 0) & (labels[:, :-1] >= 0)
    head = text.embed_tokens.weight
    with torch.no_grad():
        choice = F.linear(hidden[:, 1:][wanted], head).argmax(-1)  # what the trunk says after token p + 1
    logits = F.linear(guess[wanted], head).float()
    return F.cross_entropy(logits, choice), logits.argmax(-1) == choice
