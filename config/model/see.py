"""Stage 1 of the recipe: the vision tower learns to see. Each merged token is asked which things are its own and what they are like, each patch which things it touches and which have their
middle in it; and each of the first few tokens what the whole picture holds, so that the numbers stand there ready to be read: to add up a hundred tokens is what a language model finds hard.
It is not there yet.

The heads are thrown away at the end of the training; the tower and its merger stay.
"""

import torch
import torch.nn.functional as F
from torch import nn

import lessons

SIZES = (len(lessons.COLOURS), len(lessons.POSES), len(lessons.PLACES))
TELLERS = 8  # tokens, the first of the picture, that are asked for the whole
TOLD = (*(n for _, n in lessons.COUNTED), len(lessons.HAZARDS))
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
        self.told = nn.Linear(width, sum(TOLD) + sum(lessons.HOLDS))

    def forward(self, tokens, patches):
        x = self.norm(tokens.float())
        b, k, _ = x.shape
        told = self.told(x[:, :TELLERS])
        return self.count(x).view(b, k, -1, 2), self.attributes(x).view(b, k, 3, -1), self.whole(x.mean(1)), self.patch(self.patch_norm(patches.float())), told


def loss(out, labels):
    """Mean over pictures of what is said wrongly about one. labels: lessons.Labels."""
    count, attributes, whole, patch, told = out
    want_count, want_attributes = labels.assign(count)
    want_whole, want_patch = labels.whole, labels.patch
    want = torch.stack((want_count >= 1, want_count >= 2), -1).float()
    total = F.binary_cross_entropy_with_logits(count, want, reduction="sum") / len(count) / 4
    total = total + F.binary_cross_entropy_with_logits(patch, want_patch, reduction="sum") / len(patch) / 16
    for part, size, want in zip(attributes.split(SIZES, -1), SIZES, want_attributes.unbind(-1)):
        total = total + 0.4 * F.cross_entropy(part.reshape(-1, size), want.reshape(-1), ignore_index=-1)
    for part, want in zip(whole.split(WHOLE, -1), want_whole.unbind(-1)):
        total = total + 0.1 * F.cross_entropy(part, want)
    *told, holds = told.flatten(0, 1).split((*TOLD, sum(lessons.HOLDS)), -1)
    for part, want in zip(told, labels.told.repeat_interleave(TELLERS, 0).unbind(-1)):
        total = total + 0.3 * F.cross_entropy(part, want)
    want = labels.holds.repeat_interleave(TELLERS, 0)
    return total + 0.05 * F.binary_cross_entropy_with_logits(holds, want, reduction="sum") / len(want)


def score(out, truths):
    """Shares of the pictures that have people, vehicles, animals right when tokens are simply summed up; and people, vehicles, animals, hazard when the first token tells."""
    count = (out[0] > 0).sum(-1).sum(1).tolist()  # [B, types]
    told = [x.argmax(-1).tolist() for x in out[4][:, 0, : sum(TOLD)].split(TOLD, -1)]
    right = [(c[0] == t["people"], c[1] + c[2] == t["vehicles"], c[3] + c[4] == t["animals"],
              *(say == min(t[name], n - 1) for say, (name, n) in zip(says, lessons.COUNTED)), says[-1] == lessons.HAZARDS.index(t["hazard"]))
             for c, t, *says in zip(count, truths, *told)]
    return [sum(column) / len(right) for column in zip(*right)]
