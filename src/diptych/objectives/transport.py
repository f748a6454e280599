"""Optimal transport between two sets of vectors, by IPOT: which words go to which regions, and at what cost."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

NORM_FLOOR = 1e-5
"""Below which a vector counts as this long. The release."""


def cosine_cost(words: Tensor, regions: Tensor, word_mask: Tensor, region_mask: Tensor) -> Tensor:
    """What it costs to carry each word to each region: 1 - cosine, 0 at padding.

    Args:
        words: (B, M, D).
        regions: (B, N, D).
        word_mask: (B, M) bool, True where real.
        region_mask: (B, N) bool.
    Returns:
        (B, M, N) float32, also under autocast.
    """
    with torch.autocast(words.device.type, enabled=False):
        x = F.normalize(words.float(), dim=-1, eps=NORM_FLOOR)
        y = F.normalize(regions.float(), dim=-1, eps=NORM_FLOOR)
        return (1 - x @ y.mT) * (word_mask[:, :, None] & region_mask[:, None])


@torch.no_grad()
def transport_plan(
    cost: Tensor, word_mask: Tensor, region_mask: Tensor, *, beta: float = 0.5, steps: int = 50
) -> Tensor:
    """The plan that carries as much of each word as of any other, to regions alike, at little cost.

    IPOT (arXiv:1802.04307, algorithm 1, one inner step), as UNITER uses it (arXiv:1909.11740, section 3.2). No gradient
    goes through it: the cost alone is differentiated.

    Args:
        cost: (B, M, N) float32.
        word_mask: (B, M) bool, at least one True a row.
        region_mask: (B, N) bool, at least one True a row.
        beta: what the proximal steps are long by; smaller ones come nearer to the optimum, in more steps.
        steps: of the outer iteration, all of them taken.
    Returns:
        (B, M, N) float32, 0 at padding. Each word's row sums to 1 / words exactly, each region's column to about
        1 / regions.
    """
    with torch.autocast(cost.device.type, enabled=False):
        return _solver(cost.device.type)(cost.float(), word_mask, region_mask, beta, steps)


def transport_distance(words: Tensor, regions: Tensor, word_mask: Tensor, region_mask: Tensor) -> Tensor:
    """What the plan costs: Σ cost · plan, for each row of `cosine_cost`'s arguments: (B,) float32."""
    cost = cosine_cost(words, regions, word_mask, region_mask)
    plan = transport_plan(cost.detach(), word_mask, region_mask)
    return (cost * plan).sum(dim=(1, 2))


_Solve = Callable[[Tensor, Tensor, Tensor, float, int], Tensor]


@cache
def _solver(device_type: str) -> _Solve:
    """On a GPU the steps are fused: there hundreds of launches, not the arithmetic, would be what they cost."""
    return torch.compile(_solve, dynamic=True) if device_type == "cuda" else _solve


def _solve(cost: Tensor, word_mask: Tensor, region_mask: Tensor, beta: float, steps: int) -> Tensor:
    plan = (word_mask[:, :, None] & region_mask[:, None]).float()
    kernel = torch.exp(-cost / beta) * plan
    real_words, real_regions = word_mask.float()[:, :, None], region_mask.float()[:, None]  # (B, M, 1), (B, 1, N)
    num_words, num_regions = real_words.sum(dim=1, keepdim=True), real_regions.sum(dim=2, keepdim=True)
    to_words = real_words / num_words  # what a word's row is scaled by
    for _ in range(steps):
        plan = plan * kernel
        to_regions = real_regions / (num_regions * (to_words.mT @ plan) + (1 - real_regions))
        to_words = real_words / (num_words * (plan @ to_regions.mT) + (1 - real_words))
        plan = plan * to_words * to_regions
    return plan
