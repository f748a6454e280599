"""Heads of a fused encoder that is fine-tuned, each for a task. UNITER, arXiv:1909.11740, section 4."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.nn.attention import SelfAttention
from diptych.nn.bert import EPS, draw_as_bert
from diptych.nn.heads import Transform
from diptych.nn.transformer import LayerNorm

PADDED = -1e4
"""The score of a region or position that is padding; small enough for any softmax, and finite in half precision."""


class AnswerHead(nn.Module):
    """One of several answers for a whole row: twice as wide inside, then the logits.

    "vqa" and "ve" have GELU inside, "vcr" ReLU with two outputs, of which the second is the score of a choice.
    """

    def __init__(self, width: int, num_answers: int, *, relu: bool = False) -> None:
        super().__init__()
        self.dense = nn.Linear(width, 2 * width)
        self.activation: nn.Module = nn.ReLU() if relu else nn.GELU()
        self.norm = LayerNorm(2 * width, EPS)
        self.output = nn.Linear(2 * width, num_answers)
        self.apply(draw_as_bert)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, D) to (B, A) logits."""
        return self.output(self.norm(self.activation(self.dense(pooled))))


class LinearHead(nn.Module):
    """A linear layer alone: "nlvr2_triplet" and "nlvr2_paired" (of both pooled vectors), "rank" (one score)."""

    def __init__(self, width: int, num_outputs: int) -> None:
        super().__init__()
        self.output = nn.Linear(width, num_outputs)
        self.apply(draw_as_bert)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, D) to (B, outputs)."""
        return self.output(pooled)


class RegionScoreHead(nn.Module):
    """A score for each region, "re": which of them a text speaks of. `layers` is 2 for RefCOCO+, else 1."""

    def __init__(self, width: int, layers: int = 1) -> None:
        super().__init__()
        self.transform: nn.Module = Transform(width) if layers == 2 else nn.Identity()
        self.output = nn.Linear(width, 1)
        self.apply(draw_as_bert)

    def forward(self, regions: Tensor, mask: Tensor) -> Tensor:
        """(B, R, D) states and (B, R) mask, True where real, to (B, R) scores."""
        scores = self.output(self.transform(regions)).squeeze(-1)
        return scores.masked_fill(~mask, PADDED)


class PairHead(nn.Module):
    """Whether a text is true of two pictures, "nlvr2_paired_attn": both streams attend to each other, then are pooled.

    UNITER, arXiv:1909.11740, section 4 ("Pair-biattn").
    """

    def __init__(self, width: int, heads: int, *, dropout: float = 0.1, attention_dropout: float = 0.1) -> None:
        super().__init__()
        self.left_to_right = SelfAttention(width, heads, attention_dropout)
        self.right_to_left = SelfAttention(width, heads, attention_dropout)
        self.merge = nn.Linear(2 * width, width)
        self.score = nn.Linear(width, 1)
        self.output = nn.Linear(2 * width, 2)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.merge, self.score, self.output, self.left_to_right.out_proj, self.right_to_left.out_proj):
            draw_as_bert(layer)  # the projections into attention keep Xavier's draw, as released

    def forward(self, left: Tensor, right: Tensor, left_mask: Tensor, right_mask: Tensor) -> Tensor:
        """(B, L, D) states of both streams and (B, L) masks, True where real, to (B, 2) logits."""
        from_right = self.left_to_right.at(left, right, right_mask)
        from_left = self.right_to_left.at(right, left, left_mask)
        pooled = [
            self._pooled(torch.cat([seen, own], dim=-1), mask)
            for seen, own, mask in ((from_right, left, left_mask), (from_left, right, right_mask))
        ]
        return self.output(torch.cat(pooled, dim=-1))

    def _pooled(self, both: Tensor, mask: Tensor) -> Tensor:
        """(B, L, 2 D) to (B, D): the mean of all positions, weighted by a score of each."""
        hidden = self.dropout(F.relu(self.merge(both)))
        scores = F.relu(self.score(hidden)).squeeze(-1).masked_fill(~mask, PADDED)
        weights = self.dropout(scores.softmax(dim=-1))
        return (weights[:, None] @ hidden).squeeze(1)
