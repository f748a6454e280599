"""Sigmoid loss: of every picture and every text of a batch, are they a pair?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.data.batch import Batch, Targets
from diptych.data.sample import Item, Rng
from diptych.errors import ShapeError
from diptych.objectives.objective import Encode, Loss, OwnRow
from diptych.objectives.softplus import tiled_softplus
from diptych.objectives.tiles import Pairs


def sigmoid_loss(
    image: Tensor,
    text: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    all_text: Tensor | None = None,
    offset: int = 0,
    group: Tensor | None = None,
    all_group: Tensor | None = None,
) -> Loss:
    """One logistic loss for each picture with each text, in tiles. SigLIP, arXiv:2303.15343, algorithm 1.

    Over ranks, each holds its own pictures against the texts of all: every pair is met once, and no picture travels.

    Args:
        image: (B, E) normalised vectors of any float type; products and sums are float32.
        text: (B, E), row i the text of picture i.
        scale: () inverse temperature.
        bias: () what is added to every logit.
        all_text: (N, E) texts of all ranks; None: the B of this batch.
        offset: where the B rows begin among the N.
        group: (B,) rows of equal group are true pairs of each other, labelled 1. None: as in the paper, row i's text
            alone is picture i's.
        all_group: (N,) likewise; None: the B of this batch.
    Returns:
        Loss with the term "sigmoid": the sum over B x N pairs in nats, counted as the B rows that the paper divides by.
    Raises:
        ShapeError: image and text disagree.
    """
    if image.shape != text.shape:
        raise ShapeError(f"image vectors are {tuple(image.shape)} and text vectors {tuple(text.shape)}; expected equal")
    pairs = Pairs(row_group=group, column_group=group if all_group is None else all_group, offset=offset)
    total = tiled_softplus(image, text if all_text is None else all_text, scale, bias, pairs)
    return Loss.term("sigmoid", total=total, count=len(image))


class Bias(nn.Module):
    """One learned number. It begins far below zero, as nearly all pairs of a batch are no pairs (section 3.2)."""

    def __init__(self, first: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(first))

    def forward(self) -> Tensor:
        """()."""
        return self.bias


@dataclass(frozen=True, kw_only=True)
class Sigmoid(OwnRow):
    """SigLIP's objective over the pairs of a batch. SigLIP, arXiv:2303.15343, section 3.2.

    The paper begins with a scale of 10 and never bounds it: `model.temperature=0.1` and a large `model.max_scale`.
    """

    known_pairs: bool = False
    """Rows of one group (several texts of a picture, one picture twice) are pairs too; off in the paper.

    Its label is 1 where picture and text "are paired": of a true pair the loss can say so, where a softmax over one
    right answer can only leave it out.
    """
    bias: float = -10.0
    """What is added to every logit when training begins; learned."""

    @property
    def name(self) -> str:
        """Its term's and its head's name."""
        return "sigmoid"

    @property
    def couples_rows(self) -> bool:
        """Every picture is compared with every text."""
        return True

    def chance_loss(self, num_rows: int) -> float | None:
        """Of a model that takes each of the texts for the right one with probability 1 / num_rows."""
        others = num_rows - 1
        return math.log(num_rows) - (others * math.log1p(-1 / num_rows) if others else 0.0)

    def heads(self, config: Any) -> dict[str, nn.Module]:
        """The bias; the scale is the model's."""
        return {self.name: Bias(self.bias)}

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """Nothing to draw: the pair is the target."""
        return item, {}

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        """As many as rows."""
        return {"sigmoid": len(batch)}

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        """Normalises the vectors of the encoding and compares each picture with all texts."""
        dual = encode(batch)
        return sigmoid_loss(
            F.normalize(dual.image, dim=-1),
            F.normalize(dual.text, dim=-1),
            dual.scale,
            encode.heads[self.name](),
            all_text=None if dual.all_text is None else F.normalize(dual.all_text, dim=-1),
            offset=dual.offset,
            group=dual.group if self.known_pairs else None,
            all_group=dual.all_group if self.known_pairs else None,
        )
