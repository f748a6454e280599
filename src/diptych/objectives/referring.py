"""Referring expressions: which region of a picture a phrase means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_iou

from diptych.data.batch import Batch, Targets
from diptych.data.examples import BOX
from diptych.data.sample import Item, Rng
from diptych.errors import DataError
from diptych.nn.task_heads import RegionScoreHead
from diptych.objectives.objective import Encode, Fused, Loss, RowsApart, single

OTHER = "other"
HARDEST = -1
HIT = 0.5
"""A box is found where it overlaps the true one by more than this (intersection over union)."""


@dataclass(frozen=True, kw_only=True)
class Referring(RowsApart):
    """One region among those of a picture. UNITER, arXiv:1909.11740, section 4."""

    layers: Literal[1, 2] = 1
    """Of the head; the release has 2 for RefCOCO+."""
    weight: float = 1.0
    """Of the mean over rows. The release takes the sum over a batch of 128, as its learning rates are tuned for."""
    margin: float | None = None
    """None: a softmax over the regions. Else the right one is to stand so far above one other, both in (0, 1); 0.2 in
    the release, none of whose recipes does so."""
    hard: float = 0.3
    """margin: share of the rows in which the other is the one that scores highest, and not one by chance."""

    @property
    def name(self) -> str:
        """Its term's and its head's name."""
        return "re"

    @property
    def columns(self) -> tuple[str, ...]:
        """What is meant."""
        return (BOX,)

    def heads(self, config: Any) -> Mapping[str, nn.Module]:
        """A score for each region."""
        return {self.name: RegionScoreHead(config.width, self.layers)}

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """The item as it is; "re" () the region that overlaps the true box most; where there is a margin, "other" ()
        one that is not meant, or HARDEST.

        Raises:
            DataError: nobody tells the box, or no region overlaps it enough to be taken for it.
        """
        overlaps = region_overlaps(single(item))
        best = overlaps.argmax()
        if overlaps[best] <= HIT:
            raise DataError(
                f"{item.key}: no region overlaps what is meant by more than {HIT}, the best by {overlaps[best]:.2f}; "
                "make regions of the true boxes (--boxes), or of a detector that finds more"
            )
        if self.margin is None:
            return item, {self.name: best}
        others = (overlaps <= HIT).nonzero()[:, 0]
        if len(others) == 0:
            return item, {self.name: best, OTHER: best}
        other = torch.tensor(HARDEST) if rng.random() < self.hard else others[int(rng.integers(len(others)))]
        return item, {self.name: best, OTHER: other}

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        """Rows."""
        return {self.name: len(batch)}

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        """Sum over the rows of cross-entropies in nats, or of how far another region comes within the margin."""
        scores, meant = region_scores(encode, batch), targets[self.name]
        if self.margin is None:
            total = F.cross_entropy(scores, meant, reduction="sum")
        else:
            wrong = scores.scatter(1, meant[:, None], -torch.inf).argmax(dim=1)
            wrong = torch.where(targets[OTHER] == HARDEST, wrong, targets[OTHER])
            right, other = (scores.gather(1, places[:, None])[:, 0].sigmoid() for places in (meant, wrong))
            total = (self.margin + other - right).relu().mul(wrong != meant).sum()
        return Loss.term(self.name, total=total, count=len(batch), weight=self.weight)


def region_overlaps(item: Item) -> Tensor:
    """(R,) intersection over union of each region with the box that is meant.

    Raises:
        DataError: nobody tells the box.
    """
    if item.box is None or item.regions is None:
        raise DataError(f"{item.key} does not say which box is meant")
    return box_iou(item.regions.boxes, item.box[None])[:, 0]


def region_scores(encode: Encode, batch: Batch) -> Tensor:
    """(B, R) float32; far below all others where a row has no such region."""
    fused: Fused = encode(batch)
    scores: Tensor = encode.heads["re"](fused.regions, fused.region_mask)
    return scores.float()
