"""Heads of a fused encoder that is pre-trained: each belongs to an objective, and is named after it.

UNITER's are "mlm", "mrfr", "mrc" (both variants) and "itm". Tied heads are given the table that they share, which is in
the `Fused` that they read: no parameter is held twice.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.nn.bert import EPS, draw_as_bert
from diptych.nn.transformer import LayerNorm


class Transform(nn.Module):
    """Linear, GELU, norm: what BERT's head for words does before it multiplies with the vocabulary."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = LayerNorm(width, EPS)

    def forward(self, hidden: Tensor) -> Tensor:
        """(N, D) to (N, D)."""
        return self.norm(F.gelu(self.dense(hidden)))


class WordHead(nn.Module):
    """Which word it is, "mlm": tied to the words that are read. BERT, arXiv:1810.04805, section 3.1."""

    def __init__(self, width: int, vocab_size: int) -> None:
        super().__init__()
        self.transform = Transform(width)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.apply(draw_as_bert)

    def forward(self, hidden: Tensor, word_table: Tensor) -> Tensor:
        """(N, D) states and the (V, D) table to (N, V) logits."""
        return F.linear(self.transform(hidden), word_table, self.bias)


class FeatureHead(nn.Module):
    """What a region's features are, "mrfr": tied to their projection. UNITER, arXiv:1909.11740, section 3.2."""

    def __init__(self, width: int, feature_width: int) -> None:
        super().__init__()
        self.transform = Transform(width)
        self.bias = nn.Parameter(torch.zeros(feature_width))
        self.apply(draw_as_bert)

    def forward(self, hidden: Tensor, feature_table: Tensor) -> Tensor:
        """(N, D) states and the (D, F) table to (N, F) features."""
        return F.linear(self.transform(hidden), feature_table.mT, self.bias)


class ClassHead(nn.Module):
    """What the detector took a region for, "mrc". UNITER, arXiv:1909.11740, section 3.2."""

    def __init__(self, width: int, num_labels: int) -> None:
        """`num_labels` counts background, the first."""
        super().__init__()
        self.transform = Transform(width)
        self.output = nn.Linear(width, num_labels)
        self.apply(draw_as_bert)

    def forward(self, hidden: Tensor) -> Tensor:
        """(N, D) to (N, 1 + C) logits."""
        return self.output(self.transform(hidden))


class MatchHead(nn.Module):
    """Whether text and picture belong together, "itm": logit 1 for yes. UNITER, arXiv:1909.11740, section 3.2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.output = nn.Linear(width, 2)
        self.apply(draw_as_bert)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, D) to (B, 2) logits."""
        return self.output(pooled)
