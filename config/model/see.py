"""Stage 1 of the recipe: the vision tower learns to see. Each merged token is asked which things are its own and what they are like, each patch which things it touches and which have their
middle in it; the language model is not there yet.

The heads are thrown away at the end of the training; the tower and its merger stay.
"""

import torch
import torch.nn.functional as F
from torch import nn

import lessons

SIZES = (len(lessons.COLOURS), len(lessons.POSES), len(lessons.PLACES))
WHOLE = (len(lessons.LIGHTS), len(lessons.WEATHERS), 2, 2, 5)


class Heads(nn.Module):
    def __init__(self, width, patch_width):
        super().__init__()
        self.patch_norm = nn.LayerNorm(patch_width)
        self.patch = nn.Linear(patch_width, 2 * len(lessons.TYPES))
        nn.init.constant_(self.patch.bias, -4.0)
        self.norm = nn.LayerNorm(width)
        self.count = nn.Linear(width, 2 * len(lessons.TYPES))
        self.attributes = nn.Linear(width, 3 * sum(SIZES))
        self.whole = nn.Linear(width, sum(WHOLE))
        nn.init.constant_(self.count.bias, -4.0)  # most tokens hold nothing

    def forward(self, tokens, patches):
        x = self.norm(tokens.float())
        b, k, _ = x.shape
        return self.count(x).view(b, k, -1, 2), self.attributes(x).view(b, k, 3, -1), self.whole(x.mean(1)), self.patch(self.patch_norm(patches.float()))


def loss(out, labels):
    """Mean over pictures of what is said wrongly about one. labels: lessons.Labels."""
    count, attributes, whole, patch = out
    want_count, want_attributes = labels.assign(count)
    want_whole, want_patch = labels.whole, labels.patch
    want = torch.stack((want_count >= 1, want_count >= 2), -1).float()
    total = F.binary_cross_entropy_with_logits(count, want, reduction="sum") / len(count) / 4
    total = total + F.binary_cross_entropy_with_logits(patch, want_patch, reduction="sum") / len(patch) / 16
    for part, size, want in zip(attributes.split(SIZES, -1), SIZES, want_attributes.unbind(-1)):
        total = total + 0.4 * F.cross_entropy(part.reshape(-1, size), want.reshape(-1), ignore_index=-1)
    for part, want in zip(whole.split(WHOLE, -1), want_whole.unbind(-1)):
        total = total + 0.1 * F.cross_entropy(part, want)
    return total


def score(out, truths):
    """Shares of the pictures that have people, vehicles, animals right when tokens are simply summed up."""
    count = (out[0] > 0).sum(-1).sum(1).tolist()  # [B, types]
    right = [(c[0] == t["people"], c[1] + c[2] == t["vehicles"], c[3] + c[4] == t["animals"]) for c, t in zip(count, truths)]
    return [sum(column) / len(right) for column in zip(*right)]
